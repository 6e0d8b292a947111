// Who talks to whom.

import { useState } from "preact/hooks";
import type { Pair } from "../api";
import { Card, Choice, Note, Table, useAsked, Wide } from "../ui";
import { bytes, cost, count } from "../words";

type By = "calls" | "upstream_seconds" | "bytes";
const SHOWN = 12;
/** Room for a name beside the thinnest. */
const LEAST = 15;

export function Traffic() {
  const [from, setFrom] = useState("-1h");
  const [by, setBy] = useState<By>("calls");
  const asked = useAsked<{ pairs: Pair[] }>(`traffic?from=${from}&limit=500`, 10_000);
  const pairs = asked.value?.pairs ?? [];
  const sorted = [...pairs].sort((one, other) => other[by] - one[by]);
  return (
    <div>
      <div class="heading">
        <h1>Traffic</h1>
        <Choice
          label="How far back"
          value={from}
          options={[
            ["-10m", "10 min"],
            ["-1h", "1 h"],
            ["-1d", "1 day"],
            ["-7d", "7 days"],
          ]}
          onChange={setFrom}
        />
        <Choice
          label="Measured by"
          value={by}
          options={[
            ["calls", "Calls"],
            ["upstream_seconds", "Cost"],
            ["bytes", "Bytes"],
          ]}
          onChange={setBy}
        />
      </div>
      {asked.error && <Note tone="bad">{asked.error}</Note>}
      {asked.value && pairs.length === 0 && <Note>Nobody has talked to anybody in this time. The ledger is written every few seconds.</Note>}
      {pairs.length > 0 && (
        <>
          <Card title="Who talks to whom" aside={<span class="muted">client → route → upstream</span>} class="wide">
            <Flow pairs={sorted} by={by} />
          </Card>
          <Card title="Pairs" class="wide" aside={<span class="muted">{pairs.length > 50 ? `the first 50 of ${pairs.length}` : ""}</span>}>
            <Table class="rows even">
              <thead>
                <tr>
                  <th scope="col">Client</th>
                  <th scope="col">Route</th>
                  <th scope="col">Upstream</th>
                  <th scope="col" class="num">Calls</th>
                  <th scope="col" class="num">a second</th>
                  <th scope="col" class="num">Cost</th>
                  <th scope="col" class="num">a call</th>
                  <th scope="col" class="num">Bytes</th>
                </tr>
              </thead>
              <tbody>
                {sorted.slice(0, 50).map((pair) => (
                  <tr key={`${pair.client} ${pair.route} ${pair.upstream}`}>
                    <th scope="row">{pair.client}</th>
                    <td>{pair.route || "no route"}</td>
                    <td>{pair.upstream ? <a href={`#/upstream/${encodeURIComponent(pair.upstream)}`}>{pair.upstream}</a> : "–"}</td>
                    <td class="num">{count(pair.calls)}</td>
                    <td class="num">{pair.calls_per_second.toFixed(pair.calls_per_second < 10 ? 2 : 0)}</td>
                    <td class="num">{cost(pair.upstream_seconds)}</td>
                    <td class="num">{cost(pair.calls > 0 ? pair.upstream_seconds / pair.calls : 0)}</td>
                    <td class="num">{bytes(pair.bytes)}</td>
                  </tr>
                ))}
              </tbody>
            </Table>
          </Card>
        </>
      )}
    </div>
  );
}

type Node = { name: string; sum: number; y: number; height: number; used: [left: number, right: number] };

/** Bands from clients over routes to upstreams, as wide as what flows. */
function Flow({ pairs, by }: { pairs: Pair[]; by: By }) {
  const total = pairs.reduce((sum, pair) => sum + pair[by], 0) || 1;
  const columns = (["client", "route", "upstream"] as const).map((side) => {
    const sums = new Map<string, number>();
    for (const pair of pairs) sums.set(pair[side] || "none", (sums.get(pair[side] || "none") ?? 0) + pair[by]);
    const ranked = [...sums].sort(([, one], [, other]) => other - one);
    const shown = ranked.slice(0, SHOWN);
    const rest = ranked.slice(SHOWN).reduce((sum, [, value]) => sum + value, 0);
    if (rest > 0) shown.push([`${ranked.length - SHOWN} others`, rest]);
    return { shown, names: new Set(shown.map(([name]) => name)) };
  });
  const rows = Math.max(...columns.map((column) => column.shown.length));
  const height = Math.max(180, rows * 30);
  const nodes = columns.map(({ shown }) => {
    const gap = 6;
    const room = height - (gap + LEAST) * shown.length + gap;
    let y = 0;
    const placed = new Map<string, Node>();
    for (const [name, sum] of shown) {
      const tall = LEAST + (sum / total) * room;
      placed.set(name, { name, sum, y, height: tall, used: [0, 0] });
      y += tall + gap;
    }
    return placed;
  });
  const at = (column: number, name: string) => nodes[column]?.get(name) ?? [...(nodes[column]?.values() ?? [])].at(-1);
  const X = [170, 480, 790];
  const bands: { d: string; width: number; tone: number; title: string }[] = [];
  for (const [left, right] of [
    [0, 1],
    [1, 2],
  ] as const) {
    const sides = ["client", "route", "upstream"] as const;
    const sums = new Map<string, [Node, Node, number]>();
    for (const pair of pairs) {
      const from = at(left, pair[sides[left]] || "none");
      const to = at(right, pair[sides[right]] || "none");
      if (!from || !to) continue;
      const key = `${from.name}\n${to.name}`;
      const known = sums.get(key);
      sums.set(key, [from, to, (known?.[2] ?? 0) + pair[by]]);
    }
    for (const [from, to, value] of sums.values()) {
      const [a, b] = [(value / from.sum) * from.height, (value / to.sum) * to.height];
      const [y0, y1] = [from.y + from.used[1] + a / 2, to.y + to.used[0] + b / 2];
      from.used[1] += a;
      to.used[0] += b;
      const [x0, x1] = [X[left]! + 8, X[right]!];
      const mid = (x0 + x1) / 2;
      bands.push({
        d: `M${x0} ${y0}C${mid} ${y0} ${mid} ${y1} ${x1} ${y1}`,
        width: Math.max(0.75, Math.min(a, b)),
        tone: [...(nodes[2]?.keys() ?? [])].indexOf(right === 2 ? to.name : (mainUpstream(pairs, to.name, by) ?? "")) % 6,
        title: `${from.name} → ${to.name}: ${word(value, by)}`,
      });
    }
  }
  return (
    <Wide>
      <svg class="flow" viewBox={`0 -4 960 ${height + 8}`} role="img" aria-label={`${pairs.length} pairs of clients and routes, the widest ${pairs[0]?.client} to ${pairs[0]?.upstream}`}>
        {bands.map((band) => (
          <path key={band.title} d={band.d} stroke-width={band.width} class={`band t${band.tone}`}>
            <title>{band.title}</title>
          </path>
        ))}
        {nodes.map((column, i) =>
          [...column.values()].map((node) => (
            <g key={`${i}${node.name}`}>
              <rect x={X[i]} y={node.y} width="8" height={node.height} rx="2" class="node" />
              <text x={i === 0 ? X[i]! - 8 : X[i]! + 16} y={node.y + node.height / 2} dy="0.35em" text-anchor={i === 0 ? "end" : "start"}>
                {node.name.length > 22 ? `${node.name.slice(0, 21)}…` : node.name}
              </text>
            </g>
          )),
        )}
      </svg>
    </Wide>
  );
}

function mainUpstream(pairs: Pair[], route: string, by: By): string | undefined {
  let best: Pair | undefined;
  for (const pair of pairs) if (pair.route === route && (!best || pair[by] > best[by])) best = pair;
  return best?.upstream;
}

const word = (value: number, by: By) => (by === "bytes" ? bytes(value) : by === "calls" ? `${count(value)} calls` : cost(value));
