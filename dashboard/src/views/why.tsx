// Why one request went as it did.

import { useEffect, useState } from "preact/hooks";
import type { InFlight, Why } from "../api";
import { Card, Note, PHASE_WORDS, Pill, Table, type Tone, useAsked } from "../ui";
import { day, ms, quantity } from "../words";

export function WhyView({ rest }: { rest: string }) {
  const [id, setId] = useState(rest);
  useEffect(() => setId(rest), [rest]);
  const asked = useAsked<Why>(rest ? `why/${encodeURIComponent(rest)}` : null);
  return (
    <div class="why">
      <div class="heading">
        <h1>Why</h1>
        <span class="muted">every answer names its request in x-request-id</span>
      </div>
      <form
        class="ask"
        onSubmit={(event) => {
          event.preventDefault();
          const wanted = `#/why/${encodeURIComponent(id.trim())}`;
          if (window.location.hash === wanted) asked.again();
          else window.location.hash = wanted;
        }}
      >
        <input aria-label="Request id" class="code" required autofocus spellcheck={false} placeholder="Paste a request id" value={id} onInput={(event) => setId(event.currentTarget.value)} />
        <button class="primary">Explain</button>
      </form>
      {asked.error && <Note tone="warn">{asked.error}</Note>}
      {asked.value && <Told why={asked.value} />}
      <UnderWay />
    </div>
  );
}

function Told({ why }: { why: Why }) {
  const total = why.phases.reduce((sum, one) => sum + (one.ms ?? 0), 0) || 1;
  const tone: Tone = why.status >= 500 ? "bad" : why.status >= 400 ? "warn" : "ok";
  let begun = 0;
  return (
    <Card class="wide">
      <h2 class="headline small">
        {why.method} {why.outcome.replaceAll("_", " ")}, <Pill tone={tone}>{why.status}</Pill>
        {why.reason && (
          <>
            {" "}because of <strong>{why.reason.replaceAll("_", " ")}</strong>
          </>
        )}
      </h2>
      <p class="muted">
        {day(why.started_at)} · route {why.route ?? "none"} · upstream {why.upstream ?? "none"}
        {why.endpoint && ` (${why.endpoint})`} · tier {why.tier ?? "none"} · {why.attempts} {why.attempts === 1 ? "attempt" : "attempts"}
        {why.upstream_status !== null && ` · the upstream said ${why.upstream_status}`}
        {why.would_refuse && ` · an observing policy would have refused it: ${why.would_refuse}`}
      </p>
      <h3>Where its {ms(why.total_ms)} went</h3>
      <ol class="falls">
        {why.phases.map((one) => {
          const left = (begun / total) * 100;
          begun += one.ms ?? 0;
          return (
            <li key={one.phase}>
              <span>
                {one.phase} <small class="muted">{PHASE_WORDS[one.phase]}</small>
              </span>
              <span class="fall" aria-hidden="true">
                <i class={`ph-${one.phase}`} style={{ left: `${left}%`, width: `${Math.max(0.4, ((one.ms ?? 0) / total) * 100)}%` }} />
              </span>
              <b class="num">{ms(one.ms)}</b>
            </li>
          );
        })}
      </ol>
      <h3>What was decided</h3>
      <Table class="plain">
        <thead>
          <tr>
            <th scope="col" class="num">At</th>
            <th scope="col">Policy</th>
            <th scope="col">Decision</th>
            <th scope="col" class="num">Seen</th>
            <th scope="col" class="num">Bound</th>
            <th scope="col">Why</th>
          </tr>
        </thead>
        <tbody>
          {why.decisions.map((one, i) => (
            <tr key={i}>
              <td class="num">{ms(one.at_ms)}</td>
              <th scope="row">
                {one.policy.replaceAll("_", " ")}
                {one.name && <small class="muted">{one.name}</small>}
              </th>
              <td>{one.decision.replaceAll("_", " ")}</td>
              <td class="num">{one.value === null ? "–" : quantity(one.value, one.unit ?? "")}</td>
              <td class="num">{one.threshold === null ? "–" : quantity(one.threshold, one.unit ?? "")}</td>
              <td>{one.reason?.replaceAll("_", " ") ?? ""}</td>
            </tr>
          ))}
        </tbody>
      </Table>
    </Card>
  );
}

function UnderWay() {
  const asked = useAsked<InFlight>("inflight?limit=20", 2_000);
  const flight = asked.value;
  return (
    <Card title="Under way" aside={<span class="muted">{flight ? `the oldest ${flight.requests.length} of ${flight.total}` : ""}</span>} class="wide">
      {flight && flight.requests.length === 0 && <p class="muted">Nothing is under way at this moment.</p>}
      {flight && flight.requests.length > 0 && (
        <Table class="plain">
          <thead>
            <tr>
              <th scope="col" class="num">Age</th>
              <th scope="col">Phase</th>
              <th scope="col">Request</th>
              <th scope="col">Upstream</th>
              <th scope="col">Id</th>
            </tr>
          </thead>
          <tbody>
            {flight.requests.map((one) => (
              <tr key={one.request_id}>
                <td class="num">{ms(one.age_ms)}</td>
                <td>
                  <i class={`swatch ph-${one.phase}`} />
                  {one.phase}
                </td>
                <td class="code clip">
                  {one.method} {one.path}
                </td>
                <td>{one.endpoint ?? one.upstream ?? "–"}</td>
                <td class="code">
                  <a href={`#/why/${encodeURIComponent(one.request_id)}`}>{one.request_id}</a>
                </td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
    </Card>
  );
}
