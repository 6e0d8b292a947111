// Service-level objectives and how much of their budget is left.

import type { Slo } from "../api";
import { Card, Meter, Pill, Table, useAskedIf, type Tone } from "../ui";
import { count, ms, percent, span } from "../words";

const MISSED: Record<string, string> = { latency: "too slow", fast_burn: "burns fast", slow_burn: "burns slowly" };
/** Subjects of one objective that are shown: those that miss it first. */
const SHOWN = 8;

export function Objectives() {
  const asked = useAskedIf<{ slos: Slo[] }>("slos", 3_000);
  const slos = asked?.value?.slos ?? [];
  if (slos.length === 0) return null;
  return (
    <Card title="Objectives" aside={<span class="muted">budget over six hours</span>} class="wide">
      <Table class="rows">
        <thead>
          <tr>
            <th scope="col">Objective</th>
            <th scope="col">Promised</th>
            <th scope="col" class="num">Latency now</th>
            <th scope="col">Budget left</th>
            <th scope="col" class="num">Burn, 5 min</th>
            <th scope="col" class="num">1 h</th>
            <th scope="col">Standing</th>
          </tr>
        </thead>
        <tbody>{slos.flatMap((slo) => ranked(slo).map((subject) => <Row key={slo.name + subject.subject} slo={slo} subject={subject} />))}</tbody>
      </Table>
    </Card>
  );
}

type Subject = Slo["subjects"][number];

function ranked(slo: Slo): Subject[] {
  const left = (one: Subject) => one.budget_remaining ?? 1;
  return [...slo.subjects].sort((one, other) => other.missed.length - one.missed.length || left(one) - left(other)).slice(0, SHOWN);
}

function Row({ slo, subject }: { slo: Slo; subject: Subject }) {
  const { latency } = slo;
  const left = subject.budget_remaining;
  const tone: Tone = left === null ? "quiet" : left <= 0 ? "bad" : left < 0.25 ? "warn" : "ok";
  const promised = [
    latency && `p${Number((latency.quantile * 100).toFixed(3))} < ${ms(latency.below_ms)} over ${span(latency.over_seconds)}`,
    slo.availability !== null && `${percent(slo.availability, 2)} answered`,
  ];
  const burn = (window: string) => {
    const rate = subject.burn_rates[window];
    return rate === undefined ? "–" : `${rate.toFixed(1)}×`;
  };
  return (
    <tr>
      <th scope="row">
        {slo.name}
        <small class="muted">
          {slo.per} {subject.subject}
        </small>
      </th>
      <td class="muted">{promised.filter(Boolean).join(" · ")}</td>
      <td class="num">
        <b>{ms(subject.latency_ms)}</b>
        <small class="muted">of {count(subject.requests)} requests</small>
      </td>
      <td>
        <span class="load">
          <Meter value={left ?? 0} tone={tone} label={`Budget left ${percent(left)}`} />
          <b class="num">{left !== null && left < 0 ? "overdrawn" : percent(left, 0)}</b>
        </span>
      </td>
      <td class="num">{burn("5m")}</td>
      <td class="num">{burn("1h")}</td>
      <td>
        {subject.missed.length === 0 ? (
          <Pill tone="ok">kept</Pill>
        ) : (
          subject.missed.map((one) => (
            <Pill key={one} tone="bad">
              {MISSED[one] ?? one.replaceAll("_", " ")}
            </Pill>
          ))
        )}
      </td>
    </tr>
  );
}
