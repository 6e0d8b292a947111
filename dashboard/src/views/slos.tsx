// Service-level objectives and how much of their budget is left.

export function Objectives() {
  return null;
}
