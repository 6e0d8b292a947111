// One upstream: how full, how slow, where the time goes, and which endpoint is to blame.

import { useEffect, useState } from "preact/hooks";
import { HoldBreaker, Isolate, isolations } from "../actions";
import type { Endpoint, Host, MomentOfUpstream, UpstreamDetail } from "../api";
import { Chart, HeatMap } from "../charts";
import * as live from "../live";
import { useStore } from "../store";
import { Card, Choice, Figure, Meter, Note, PhaseKey, PHASES, Pill, Table, type Tone, useAsked } from "../ui";
import { bytes, count, ms, percent, span } from "../words";
import { BreakerPill } from "./now";

export function UpstreamView({ rest }: { rest: string }) {
  const moment = useStore(live.moment);
  const names = moment?.upstreams.map((one) => one.name) ?? [];
  const name = rest || names[0];
  const now = moment?.upstreams.find((one) => one.name === name);
  useEffect(() => {
    if (name) live.load(name).catch(() => {});
  }, [name]);
  if (!moment) return <Note>Waiting for the first second…</Note>;
  if (!name || !now) {
    return (
      <>
        <h1>Upstream</h1>
        <Note tone="warn">There is no upstream{rest && ` called ${rest}`}.</Note>
        <Picker names={names} name="" />
      </>
    );
  }
  return (
    <div class="upstream">
      <div class="heading">
        <h1>{name}</h1>
        <Picker names={names} name={name} />
      </div>
      <Headline now={now} />
      <Charts name={name} />
      <Details key={name} name={name} />
    </div>
  );
}

function Picker({ names, name }: { names: string[]; name: string }) {
  if (names.length < 2 && name) return null;
  return (
    <select aria-label="Upstream" value={name} onChange={(event) => (window.location.hash = `#/upstream/${encodeURIComponent(event.currentTarget.value)}`)}>
      {!name && <option value="">Choose…</option>}
      {names.map((one) => (
        <option key={one} value={one}>
          {one}
        </option>
      ))}
    </select>
  );
}

function Headline({ now }: { now: MomentOfUpstream }) {
  const { scale } = now;
  return (
    <dl class="figures">
      <Figure label="In flight / limit" value={count(Math.round(now.in_flight))} unit={now.limit ? `/ ${count(now.limit)}` : "/ no limit"}>
        <Meter value={now.in_flight} max={now.limit} tone={now.waiting >= 1 ? "bad" : "info"} label="Load" />
      </Figure>
      <Figure label="Waiting" value={count(Math.round(now.waiting))} tone={now.waiting >= 1 ? "warn" : undefined} />
      <Figure label="Requests" value={count(now.requests)} unit="/s" />
      <Figure label="p98" value={ms(now.p98_ms)} />
      <Figure label="Headroom" value={percent(scale.headroom, 0)} tone={scale.headroom < 0.1 ? "bad" : scale.headroom < 0.25 ? "warn" : undefined}>
        <small class="muted">
          {scale.desired_factor > 1.05
            ? `${scale.desired_factor.toFixed(1)}× as much is wanted${scale.scale_out_helps ? "" : "; more of it would not help"}`
            : "enough of it"}
        </small>
      </Figure>
      <Figure label="Retry budget left" value={percent(now.retry_budget, 0)} tone={now.retry_budget < 0.1 ? "warn" : undefined} />
    </dl>
  );
}

function Charts({ name }: { name: string }) {
  const bands = useStore(live.bands);
  const history = live.past.get(name);
  if (!history || history.at.length < 2) return <Note>Waiting for the first seconds…</Note>;
  const { at } = history;
  const phases = history.phases_ms ?? {};
  const answered = history.requests.map((all, i) => all - (history.refused[i] ?? 0) - (history.failed[i] ?? 0));
  return (
    <div class="charts">
      <Card>
        <Chart
          title="Load"
          at={at}
          format={(value) => count(Math.round(value))}
          lines={[
            { label: "in flight", colour: "info", values: history.in_flight, fill: true },
            { label: "limit", colour: "ink", values: history.limit, step: true, dash: [5, 4] },
            { label: "waiting", colour: "bad", values: history.waiting },
          ]}
        />
      </Card>
      <Card>
        <Chart
          title="Requests a second"
          at={at}
          format={count}
          stacked
          lines={[
            { label: "answered", colour: "answered", values: answered },
            { label: "refused", colour: "warn", values: history.refused },
            { label: "failed", colour: "bad", values: history.failed },
          ]}
        />
      </Card>
      <Card>
        <Chart
          title="Latency"
          at={at}
          format={ms}
          lines={[
            { label: "p50", colour: "ok", values: history.p50_ms },
            { label: "p90", colour: "info", values: history.p90_ms },
            { label: "p98", colour: "bad", values: history.p98_ms },
          ]}
        />
      </Card>
      <Card>
        <Chart
          title="Phases, mean"
          at={at}
          format={ms}
          stacked
          lines={PHASES.filter((phase) => phase in phases).map((phase) => ({ label: phase, colour: `ph-${phase}`, values: phases[phase] ?? [] }))}
        />
      </Card>
      <Card class="wide">
        <HeatMap at={at} heat={history.heat ?? []} bands={bands} />
      </Card>
    </div>
  );
}

function Details({ name }: { name: string }) {
  const asked = useAsked<UpstreamDetail>(`upstreams/${encodeURIComponent(name)}`, 2_000);
  const detail = asked.value;
  if (!detail) return asked.error ? <Note tone="bad">{asked.error}</Note> : <Note>Asking for its endpoints…</Note>;
  return (
    <>
      <Endpoints upstream={name} endpoints={detail.endpoints} />
      <div class="columns">
        <Windows detail={detail} />
        <Components detail={detail} />
        <Protection detail={detail} />
      </div>
    </>
  );
}

const STATES: Record<string, Tone> = { healthy: "ok", slow_start: "info", unhealthy: "bad", ejected: "bad", aside: "warn", isolated: "warn" };

function Endpoints({ upstream, endpoints }: { upstream: string; endpoints: Endpoint[] }) {
  const [out, setOut] = useState<string | null>(null);
  const able = useStore(isolations) !== null;
  const slowest = Math.max(...endpoints.map((one) => one.latency_ms ?? 0), 1);
  const busiest = Math.max(...endpoints.map((one) => one.in_flight), 1);
  const hosts = endpoints.some((one) => one.host);
  return (
    <Card title="Endpoints, against each other" aside={<span class="muted">latency as a moving average</span>} class="wide">
      <Table class="rows">
        <thead>
          <tr>
            <th scope="col">Address</th>
            <th scope="col">State</th>
            <th scope="col">Latency</th>
            <th scope="col">In flight</th>
            <th scope="col" class="num">Connections</th>
            <th scope="col" class="num">Weight</th>
            {hosts && <th scope="col">Its host</th>}
            {able && <th scope="col"><span class="hidden">Act</span></th>}
          </tr>
        </thead>
        <tbody>
          {endpoints.map((one) => (
            <tr key={one.address}>
              <th scope="row" class="code">
                {one.address}
                {one.zone && <small class="muted">zone {one.zone}</small>}
              </th>
              <td>
                <Pill tone={STATES[one.state] ?? "quiet"} title={one.message ?? undefined}>
                  {one.state.replaceAll("_", " ")}
                </Pill>
                {one.message && <small class="muted">{one.message}</small>}
              </td>
              <td>
                <span class="load">
                  <Meter value={one.latency_ms ?? 0} max={slowest} tone={(one.latency_ms ?? 0) > 2 * median(endpoints) ? "bad" : "info"} label={`Latency ${ms(one.latency_ms)}`} />
                  <b class="num">{ms(one.latency_ms)}</b>
                </span>
              </td>
              <td>
                <span class="load">
                  <Meter value={one.in_flight} max={busiest} tone="quiet" label={`${one.in_flight} in flight`} />
                  <b class="num">{count(one.in_flight)}</b>
                </span>
              </td>
              <td class="num">{count(one.connections)}</td>
              <td class="num">{one.weight}</td>
              {hosts && <td>{one.host && <HostLoad host={one.host} />}</td>}
              {able && (
                <td class="num">
                  <button type="button" onClick={() => setOut(one.address)}>
                    Take out…
                  </button>
                </td>
              )}
            </tr>
          ))}
        </tbody>
      </Table>
      {out && <Isolate kind="endpoint" subject={`${upstream}/${out}`} onClose={() => setOut(null)} />}
    </Card>
  );
}

function HostLoad({ host }: { host: Host }) {
  const { cpu, iowait, memory, memory_slope: slope } = host;
  const grows = Math.abs(slope) >= 1024 && `, ${slope > 0 ? "growing" : "shrinking"} by ${bytes(Math.abs(slope))}/s`;
  return (
    <span class="load">
      <Meter value={cpu} max={1} tone={cpu > 0.9 ? "bad" : "quiet"} label={`Processors ${percent(cpu)}`} />
      <b class="num">{percent(cpu)}</b>
      <small class="muted">
        {iowait >= 0.01 && `disks ${percent(iowait)}, `}memory {percent(memory)}
        {grows}
      </small>
    </span>
  );
}

function median(endpoints: Endpoint[]): number {
  const all = endpoints.map((one) => one.latency_ms ?? 0).sort((a, b) => a - b);
  return all.length > 1 ? (all[Math.floor((all.length - 1) / 2)] ?? 0) : Number.POSITIVE_INFINITY;
}

function Windows({ detail }: { detail: UpstreamDetail }) {
  const [over, setOver] = useState("60");
  const window = detail.windows.find((one) => String(one.over_seconds) === over);
  return (
    <Card
      title="Quantiles by phase"
      aside={
        <Choice
          label="Over"
          value={over}
          options={detail.windows.map((one) => [String(one.over_seconds), span(one.over_seconds)])}
          onChange={setOver}
        />
      }
    >
      {!window || window.phases.length === 0 ? (
        <p class="muted">No request ended in this time.</p>
      ) : (
        <Table class="plain">
          <thead>
            <tr>
              <th scope="col">Phase</th>
              <th scope="col" class="num">p50</th>
              <th scope="col" class="num">p90</th>
              <th scope="col" class="num">p98</th>
              <th scope="col" class="num">p99.9</th>
            </tr>
          </thead>
          <tbody>
            {window.phases.map((one) => (
              <tr key={one.phase} class={one.phase === "total" ? "total" : ""}>
                <th scope="row">
                  <i class={`swatch ph-${one.phase}`} />
                  {one.phase}
                </th>
                <td class="num">{ms(one.p50_ms)}</td>
                <td class="num">{ms(one.p90_ms)}</td>
                <td class="num">{ms(one.p98_ms)}</td>
                <td class="num">{ms(one.p99_9_ms)}</td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
      {window && <p class="muted">{count(window.requests)} requests, refused ones among them.</p>}
      <PhaseKey />
    </Card>
  );
}

function Components({ detail }: { detail: UpstreamDetail }) {
  const slowest = Math.max(...detail.components.map((one) => one.mean_ms ?? 0), 0.001);
  return (
    <Card title="Components" aside={<span class="muted">from Server-Timing, since the start</span>}>
      {detail.components.length === 0 ? (
        <p class="muted">
          This service does not say where its own time goes. One header field does: <code>Server-Timing: db;dur=12</code>
        </p>
      ) : (
        <Table class="plain">
          <thead>
            <tr>
              <th scope="col">Component</th>
              <th scope="col">Mean</th>
              <th scope="col" class="num">p50</th>
              <th scope="col" class="num">p98</th>
              <th scope="col" class="num">Told</th>
            </tr>
          </thead>
          <tbody>
            {detail.components.map((one) => (
              <tr key={one.name}>
                <th scope="row">{one.name}</th>
                <td>
                  <span class="load">
                    <Meter value={one.mean_ms ?? 0} max={slowest} label={`Mean ${ms(one.mean_ms)}`} />
                    <span class="num">{ms(one.mean_ms)}</span>
                  </span>
                </td>
                <td class="num">{ms(one.p50_ms)}</td>
                <td class="num">{ms(one.p98_ms)}</td>
                <td class="num">{count(one.count)}×</td>
              </tr>
            ))}
          </tbody>
        </Table>
      )}
    </Card>
  );
}

function Protection({ detail }: { detail: UpstreamDetail }) {
  const [holding, setHolding] = useState(false);
  const { limit, breaker } = detail;
  const sent = Object.entries(detail.retries).filter(([, times]) => times > 0);
  return (
    <Card title="Protection">
      <dl class="facts">
        <dt>Limit</dt>
        <dd>
          {limit.mode === "off" ? "off" : `${limit.algorithm}, ${limit.mode}`}
          {limit.elasticity !== null && (
            <span class="muted"> · one more request brings {percent(Math.max(0, limit.elasticity), 0)} of its share of throughput</span>
          )}
        </dd>
        <dt>Latency below saturation</dt>
        <dd>{ms(limit.base_latency_ms)}</dd>
        <dt>Endless responses</dt>
        <dd>{count(limit.streams)}</dd>
        <dt>Breaker</dt>
        <dd>
          {breaker ? (
            <>
              <BreakerPill breaker={{ mode: breaker.mode, state: breaker.state, admitted: breaker.admitted, held: breaker.order !== null }} />{" "}
              <span class="muted">
                {percent(breaker.failure_ratio)} failed of {count(breaker.requests)}
                {breaker.order && ` · held for ${span(breaker.order.ends_in_seconds)}: “${breaker.order.reason}”`}
                {breaker.next_try_seconds !== null && !breaker.order && ` · tries again in ${span(breaker.next_try_seconds)}`}
              </span>{" "}
              {breaker.mode === "enforce" && (
                <button type="button" onClick={() => setHolding(true)}>
                  {breaker.order ? "Change…" : "Hold…"}
                </button>
              )}
            </>
          ) : (
            "none"
          )}
        </dd>
        <dt>Sent again</dt>
        <dd>{sent.length ? sent.map(([what, times]) => `${what.replaceAll("_", " ")} ${count(times)}`).join(" · ") : "nothing"}</dd>
        <dt>Balanced by</dt>
        <dd>
          {detail.balance} <span class="muted">over {detail.protocol}, {count(detail.connections)} connections</span>
        </dd>
        <dt>Since the start</dt>
        <dd>
          {count(detail.traffic.total.requests)} requests, {count(detail.traffic.total.errors)} errors, {bytes(detail.traffic.total.bytes_out)} sent
        </dd>
      </dl>
      {holding && <HoldBreaker upstream={detail.name} held={breaker?.order != null} onClose={() => setHolding(false)} />}
    </Card>
  );
}
