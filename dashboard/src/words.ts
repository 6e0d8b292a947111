// Numbers and causes as people say them.

import type { Change, Evidence, Verdict } from "./api";

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function count(value: number): string {
  const size = Math.abs(value);
  if (size >= 10_000_000) return `${(value / 1e6).toFixed(0)}M`;
  if (size >= 1_000_000) return `${(value / 1e6).toFixed(1)}M`;
  if (size >= 100_000) return `${(value / 1e3).toFixed(0)}k`;
  if (size >= 10 || Number.isInteger(value)) return grouped.format(value);
  return value.toFixed(1);
}

export function ms(value: number | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (value >= 100_000) return `${(value / 1e3).toFixed(0)} s`;
  if (value >= 1_000) return `${(value / 1e3).toFixed(2)} s`;
  if (value >= 100) return `${value.toFixed(0)} ms`;
  if (value >= 1) return `${value.toFixed(1)} ms`;
  return value < 0.005 ? "0 ms" : `${value.toFixed(2)} ms`;
}

export function percent(ratio: number | null | undefined, digits?: number): string {
  if (ratio === null || ratio === undefined) return "–";
  const value = ratio * 100;
  return `${value.toFixed(digits ?? (value !== 0 && Math.abs(value) < 10 ? 1 : 0))}%`;
}

export function bytes(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

export function span(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3_600) return s % 60 && s < 600 ? `${Math.floor(s / 60)} min ${s % 60} s` : `${Math.floor(s / 60)} min`;
  if (s < 86_400) return s % 3_600 >= 60 ? `${Math.floor(s / 3_600)} h ${Math.floor((s % 3_600) / 60)} min` : `${Math.floor(s / 3_600)} h`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3_600)} h`;
}

/** Seconds of work, as a cost. */
export function cost(seconds: number): string {
  if (seconds < 1) return `${(seconds * 1e3).toFixed(0)} ms`;
  if (seconds < 100) return `${seconds.toFixed(1)} s`;
  if (seconds < 36_000) return `${grouped.format(seconds)} s`;
  return `${grouped.format(seconds / 3_600)} h`;
}

export function clock(time: string | number): string {
  const date = typeof time === "number" ? new Date(time * 1e3) : new Date(time);
  return date.toLocaleTimeString("en-GB");
}

export function day(time: string): string {
  return new Date(time).toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

export function quantity(value: number | null, unit: string): string {
  if (value === null) return "–";
  switch (unit) {
    case "ratio":
      return percent(value);
    case "s":
    case "seconds":
      return value < 60 ? ms(value * 1e3) : span(value);
    case "ms":
      return ms(value);
    case "bytes":
      return bytes(value);
    case "requests/s":
      return `${count(value)}/s`;
    default:
      return unit === "" || unit === "requests" ? count(value) : `${count(value)} ${unit}`;
  }
}

export function evidence(one: Evidence): [now: string, usual: string] {
  return [quantity(one.value, one.unit), one.baseline === null ? "" : quantity(one.baseline, one.unit)];
}

type Part = string | { strong: string };

/** The verdict as a sentence; what it is about stands out. */
export function sentence(verdict: Verdict): Part[] {
  const subject = { strong: verdict.subject };
  const upstream = { strong: verdict.upstream ?? verdict.subject };
  switch (verdict.cause) {
    case "noisy_client":
      return [subject, " takes more than its share of ", upstream];
    case "load_spike":
      return ["Everybody asks ", upstream, " for more than usual"];
    case "sustained_overload":
      return [upstream, " has been full for a long time"];
    case "slow_upstream":
      return [upstream, " takes longer than usual, at the same load"];
    case "slow_endpoint":
      return [subject, " drags while its peers answer as usual"];
    case "slow_component":
      return [subject, " slows ", upstream, " down"];
    case "upstream_errors":
      return [upstream, " answers with errors"];
    case "endpoint_down":
      return [subject, " is down"];
    case "cache_failure":
      return ["The cache in front of ", upstream, " has stopped helping"];
    case "retry_storm":
      return ["Clients keep asking ", upstream, " for what fails"];
    case "slow_clients":
      return ["Clients send or read slowly; nothing behind is to blame"];
    case "upstream_leak":
      return [upstream, " slows down bit by bit"];
    case "proxy_saturated":
      return ["Tidegate itself is short of room"];
    default:
      return [verdict.cause.replaceAll("_", " "), ": ", subject];
  }
}

export const plain = (parts: Part[]) => parts.map((part) => (typeof part === "string" ? part : part.strong)).join("");

export const FLAGS: Record<string, [word: string, what: string]> = {
  noisy: ["noisy", "wants far more than its fair share of a saturated upstream"],
  borrowing: ["borrows the peak", "sits in the busiest minutes of the week"],
  over_declared: ["over declared rate", "sends more than it declared"],
  retrying: ["retries at once", "tries again right after failures"],
  polling: ["polls", "asks at a steady pace for what has not changed"],
  ignores_retry_after: ["ignores Retry-After", "comes back before the time it was told"],
};

/** A state change in words. */
export function change(one: Change): string {
  const text = (key: string) => {
    const value = one[key];
    return value === undefined || value === null || typeof value === "object" ? "" : String(value).replaceAll("_", " ");
  };
  const from = text("from");
  if (one.event === "overload") return `${text("admitted_tiers")} of ${text("tiers")} tiers admitted${one.mode === "observe" ? " · only observed" : ""}`;
  if (one.event.startsWith("incident")) return [text("slo"), text("what")].filter(Boolean).join(" · ");
  const to = text("to");
  const reason = text("reason") || text("error");
  const moved = from && to ? `${from} → ${to}` : to;
  if (moved) return [moved, reason].filter(Boolean).join(" · ");
  const known = new Set(["ts", "id", "event", "subject"]);
  const rest = Object.keys(one).filter((key) => !known.has(key) && text(key) !== "");
  return rest
    .slice(0, 4)
    .map((key) => `${key.replaceAll("_", " ")} ${text(key)}`)
    .join(" · ");
}
