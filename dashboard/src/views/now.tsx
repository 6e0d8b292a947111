// What is the matter, who causes it, what to do: the first thing anybody sees.

import type { Diagnosis, Moment, MomentOfUpstream, Verdict } from "../api";
import { Isolations, Remedy, useIsolations } from "../actions";
import * as live from "../live";
import { Objectives } from "./slos";
import { useStore } from "../store";
import { Card, Figure, Meter, Note, PhaseBar, PhaseKey, PHASES, Pill, Spark, type Tone } from "../ui";
import { change, clock, count, evidence, ms, percent, sentence, span } from "../words";

export function Now() {
  const moment = useStore(live.moment);
  const held = useIsolations();
  if (!moment) return <Note>Waiting for the first second…</Note>;
  return (
    <div class="now">
      <h1 class="hidden">Now</h1>
      <Matter diagnosis={moment.diagnosis} />
      {held && held.length > 0 && (
        <Card title="Held apart">
          <Isolations all={held} />
        </Card>
      )}
      <Totals moment={moment} />
      <Objectives />
      <Upstreams upstreams={moment.upstreams} />
      <Recent moment={moment} />
    </div>
  );
}

function Matter({ diagnosis }: { diagnosis: Diagnosis }) {
  const [first, ...others] = diagnosis.verdicts;
  if (!first) {
    return (
      <section class={`matter ${diagnosis.lagging ? "warn" : "ok"}`} aria-label="What is the matter">
        <p class="headline">{diagnosis.lagging ? "Something is slow; no cause stands out yet" : "Everything answers as usual"}</p>
        <p class="muted">
          {diagnosis.lagging
            ? "A cause is named when it is found twice in a row."
            : "Each upstream is compared, every second, with what is usual there. Nothing stands out."}
        </p>
      </section>
    );
  }
  return (
    <section class="matter bad" aria-label="What is the matter">
      <div>
        <p class="kicker">
          <Pill tone="bad">{first.cause.replaceAll("_", " ")}</Pill>
          <span>
            {percent(first.confidence)} sure · for {span(first.since_seconds)}
          </span>
        </p>
        <p class="headline">
          <Sentence verdict={first} />
        </p>
        <p class="advice">{first.advice}</p>
        <p class="buttons">
          <Remedy key={first.cause + first.subject} verdict={first} />
          {first.upstream && (
            <a class="button" href={`#/upstream/${encodeURIComponent(first.upstream)}`}>
              Look into {first.upstream}
            </a>
          )}
        </p>
      </div>
      <EvidenceTable verdict={first} />
      {others.length > 0 && (
        <ol class="others" start={2} aria-label="Also seen">
          {others.map((verdict) => (
            <li key={verdict.cause + verdict.subject}>
              <Sentence verdict={verdict} />
              <span class="muted">
                {percent(verdict.confidence)} sure · for {span(verdict.since_seconds)}
              </span>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

function Sentence({ verdict }: { verdict: Verdict }) {
  return <>{sentence(verdict).map((part, i) => (typeof part === "string" ? part : <strong key={i}>{part.strong}</strong>))}</>;
}

function EvidenceTable({ verdict }: { verdict: Verdict }) {
  return (
    <table class="evidence">
      <caption class="hidden">Evidence</caption>
      <thead>
        <tr>
          <th scope="col">Evidence</th>
          <th scope="col">now</th>
          <th scope="col">usually</th>
        </tr>
      </thead>
      <tbody>
        {verdict.evidence.map((one) => {
          const [now, usual] = evidence(one);
          return (
            <tr key={one.what}>
              <th scope="row">{one.what}</th>
              <td>
                <b>{now}</b>
              </td>
              <td class="muted">{usual || "–"}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

function Totals({ moment }: { moment: Moment }) {
  const all = moment.upstreams;
  const sum = (of: (one: MomentOfUpstream) => number) => all.reduce((total, one) => total + of(one), 0);
  const requests = sum((one) => one.requests);
  const [refused, failed] = [sum((one) => one.refused), sum((one) => one.failed)];
  const rates = total("requests", 90);
  return (
    <dl class="figures">
      <Figure label="Requests" value={count(requests)} unit="/s">
        <Spark values={rates} label="Requests a second, the last minute and a half" />
      </Figure>
      <Figure label="In flight" value={count(Math.round(sum((one) => one.in_flight)))} />
      <Figure label="Waiting" value={count(Math.round(sum((one) => one.waiting)))} tone={sum((one) => one.waiting) >= 1 ? "warn" : undefined} />
      <Figure label="Refused" value={count(refused)} unit="/s" tone={refused > 0 ? "warn" : undefined} />
      <Figure label="Failed" value={count(failed)} unit="/s" tone={failed > 0 ? "bad" : undefined} />
      <Figure label="Connections" value={count(moment.process.connections)} />
    </dl>
  );
}

/** The sum over all upstreams of a column's last seconds. */
function total(column: "requests" | "refused" | "failed", seconds: number): number[] {
  const sums: number[] = [];
  for (const history of live.past.values()) {
    const values = history[column].slice(-seconds);
    const offset = seconds - values.length;
    values.forEach((value, i) => (sums[offset + i] = (sums[offset + i] ?? 0) + value));
  }
  return Array.from(sums, (value) => value ?? 0).filter((_, i) => i in sums);
}

function Upstreams({ upstreams }: { upstreams: MomentOfUpstream[] }) {
  const mean = (one: MomentOfUpstream) => PHASES.reduce((sum, phase) => sum + (one.phases_ms[phase] ?? 0), 0);
  const scale = Math.max(...upstreams.map(mean), 1);
  return (
    <Card title="Upstreams" aside={<span class="muted">latency over ten seconds, everything else over one</span>} class="wide">
      <table class="rows upstreams" role="table">
        <thead role="rowgroup">
          <tr role="row">
            <th scope="col" role="columnheader">Upstream</th>
            <th scope="col" role="columnheader">Load / limit</th>
            <th scope="col" role="columnheader">Latency by phase, mean</th>
            <th scope="col" role="columnheader" class="num">p50</th>
            <th scope="col" role="columnheader" class="num">p98</th>
            <th scope="col" role="columnheader" class="num">Requests</th>
            <th scope="col" role="columnheader">Breaker</th>
            <th scope="col" role="columnheader">Headroom</th>
            <th scope="col" role="columnheader">p98, 90 s</th>
          </tr>
        </thead>
        <tbody role="rowgroup">
          {upstreams.map((one) => (
            <Row key={one.name} one={one} scale={scale} />
          ))}
        </tbody>
      </table>
      {upstreams.length === 0 && <Note>There is no upstream.</Note>}
      <PhaseKey />
    </Card>
  );
}

function Row({ one, scale }: { one: MomentOfUpstream; scale: number }) {
  const history = live.past.get(one.name);
  const { total: all, in_use } = one.endpoints;
  const share = one.limit > 0 ? one.in_flight / one.limit : 0;
  const load: Tone = one.waiting >= 1 ? "bad" : share > 0.85 ? "warn" : "info";
  const limitless = one.limit === 0;
  return (
    <tr role="row">
      <th scope="row" role="rowheader">
        <a href={`#/upstream/${encodeURIComponent(one.name)}`}>{one.name}</a>
        <small class={in_use < all ? "bad-text" : "muted"}>
          {in_use < all ? `${in_use} of ${all} endpoints in use` : all === 1 ? "1 endpoint" : `${all} endpoints`}
        </small>
      </th>
      <td role="cell" data-label="Load">
        <span class="load">
          <Meter value={one.in_flight} max={one.limit} tone={load} label={limitless ? `${one.in_flight} in flight, no limit` : `${one.in_flight} of ${one.limit}`} />
          <span class="num">
            <b>{count(Math.round(one.in_flight))}</b>
            <span class="muted"> / {limitless ? "∞" : count(one.limit)}</span>
          </span>
          {one.waiting >= 0.5 && <Pill tone="bad">{count(Math.round(one.waiting))} wait</Pill>}
        </span>
      </td>
      <td role="cell" data-label="Phases">
        <PhaseBar phases={one.phases_ms} scale={scale} />
      </td>
      <td role="cell" data-label="p50" class="num">{ms(one.p50_ms)}</td>
      <td role="cell" data-label="p98" class="num">
        <b>{ms(one.p98_ms)}</b>
      </td>
      <td role="cell" data-label="Requests" class="num">
        <b>{count(one.requests)}</b>
        <span class="muted">/s</span>
        {one.refused > 0 && <small class="warn-text">{count(one.refused)} refused</small>}
        {one.failed > 0 && <small class="bad-text">{count(one.failed)} failed</small>}
      </td>
      <td role="cell" data-label="Breaker">
        <BreakerPill breaker={one.breaker} />
      </td>
      <td role="cell" data-label="Headroom">
        <span class="load">
          <Meter
            value={one.scale.headroom}
            tone={one.scale.headroom < 0.1 ? "bad" : one.scale.headroom < 0.25 ? "warn" : "ok"}
            label={`Headroom ${percent(one.scale.headroom)}`}
          />
          <span class="num">{percent(one.scale.headroom, 0)}</span>
        </span>
      </td>
      <td role="cell" data-label="p98, 90 s">
        <Spark values={history?.p98_ms.slice(-90) ?? []} label={`98th percentile of ${one.name}, the last minute and a half`} />
      </td>
    </tr>
  );
}

export function BreakerPill({ breaker }: { breaker: MomentOfUpstream["breaker"] }) {
  if (!breaker || breaker.mode === "off") return <span class="muted">off</span>;
  const tone: Tone = breaker.state === "closed" ? "ok" : breaker.state === "open" ? "bad" : "warn";
  const admits = breaker.state === "recovering" ? ` ${percent(breaker.admitted)}` : "";
  return (
    <Pill tone={tone} title={breaker.held ? "An operator holds it there" : undefined}>
      {breaker.state.replaceAll("_", " ")}
      {admits}
      {breaker.held && " · held"}
      {breaker.mode === "observe" && " · observes"}
    </Pill>
  );
}

function Recent({ moment }: { moment: Moment }) {
  const events = moment.events.slice(-10).reverse();
  return (
    <Card title="Lately changed" aside={<a href="#/incidents">All</a>}>
      {events.length === 0 ? (
        <p class="muted">No breaker, endpoint, limit or configuration has changed since the start.</p>
      ) : (
        <ol class="events">
          {events.map((one) => (
            <li key={one.id}>
              <time dateTime={one.ts}>{clock(one.ts)}</time>
              <Pill tone={toneOf(one)}>{one.event.replaceAll("_", " ")}</Pill>
              <b>{one.subject.replace(/^(upstream|endpoint|route) /, "")}</b>
              <span class="muted">{change(one)}</span>
            </li>
          ))}
        </ol>
      )}
    </Card>
  );
}

export function toneOf(one: { event: string; [more: string]: unknown }): Tone {
  if (one.event === "breaker") return one.to === "closed" ? "ok" : "bad";
  if (one.event === "incident_open") return "bad";
  if (one.event === "incident_closed") return "ok";
  if (one.event === "ejection" || one.event === "overload") return "warn";
  if (one.event === "reload") return one.error || one.ok === false ? "bad" : "info";
  return "quiet";
}
