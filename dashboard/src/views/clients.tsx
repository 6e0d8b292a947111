// Who takes what, and what is said against whom; one click holds a client apart.

import { Component, Fragment } from "preact";
import { useMemo, useState } from "preact/hooks";
import { Isolate, Isolations, useIsolations } from "../actions";
import type { Client, Clients as Answer, Isolation, UsageHours } from "../api";
import { Card, Choice, Meter, Note, Pill, Table, useAsked, useNear } from "../ui";
import { cost, count, evidence, FLAGS, ms, percent, day } from "../words";

/** Rows before one asks for all. */
const FEW = 25;

type Sort = "cost" | "requests" | "refused" | "peak_share";

export function Clients() {
  const [sort, setSort] = useState<Sort>("cost");
  const [find, setFind] = useState("");
  const [open, setOpen] = useState<string | null>(null);
  const [apart, setApart] = useState<Client | null>(null);
  const asked = useAsked<Answer>(`clients?sort=${sort}&limit=1000`, 2_000);
  const held = useIsolations();
  const all = asked.value?.clients ?? [];
  const wanted = find.trim().toLowerCase();
  const shown = useMemo(
    () => all.filter((one) => `${one.client} ${one.owner ?? ""} ${one.tier ?? ""} ${one.flags.map((flag) => flag.flag).join(" ")}`.toLowerCase().includes(wanted)),
    [asked.value, wanted],
  );
  const [whole, setWhole] = useState(false);
  const few = !whole && wanted === "" && shown.length > FEW + 10;
  const near = useNear(few ? FEW : shown.length);
  return (
    <div class="clients">
      <div class="heading">
        <h1>Clients</h1>
        <span class="muted">{asked.value ? `${count(asked.value.total)} followed by name` : ""}</span>
        <Choice
          label="Sort by"
          value={sort}
          options={[
            ["cost", "Cost"],
            ["peak_share", "Share of the peak"],
            ["requests", "Requests"],
            ["refused", "Refused"],
          ]}
          onChange={setSort}
        />
        <input type="search" aria-label="Find a client" placeholder="Find: name, owner, flag" value={find} onInput={(event) => setFind(event.currentTarget.value)} />
      </div>
      {asked.error && <Note tone="bad">{asked.error}</Note>}
      {held && held.some((one) => one.kind === "client") && (
        <Card title="Held apart">
          <Isolations all={held} kind="client" />
        </Card>
      )}
      <Card class="wide">
        <table class="rows even" role="table" aria-rowcount={shown.length + 1}>
          <thead role="rowgroup">
            <tr role="row">
              <th scope="col" role="columnheader">Client</th>
              <th scope="col" role="columnheader">Share of cost, 10 s</th>
              <th scope="col" role="columnheader" class="num">overall</th>
              <th scope="col" role="columnheader" class="num" title="In the busiest twentieth of the minutes of the last week">of the peak</th>
              <th scope="col" role="columnheader" class="num">Cost</th>
              <th scope="col" role="columnheader" class="num">Requests</th>
              <th scope="col" role="columnheader" class="num">Refused</th>
              <th scope="col" role="columnheader" class="num">p98</th>
              <th scope="col" role="columnheader">Flags</th>
              <th scope="col" role="columnheader"><span class="hidden">Act</span></th>
            </tr>
          </thead>
          <tbody role="rowgroup" ref={near.body}>
            {near.before > 0 && <tr aria-hidden="true" class="space"><td colSpan={10} style={{ height: `${near.before}px` }} /></tr>}
            {shown.slice(near.first, near.last).map((one, i) => (
              <Fragment key={one.label}>
                <Row
                  client={one}
                  index={near.first + i + 2}
                  open={open === one.label}
                  held={held?.find((isolation) => isolation.kind === "client" && isolation.subject === one.client)}
                  able={held !== null}
                  onOpen={() => setOpen((before) => (before === one.label ? null : one.label))}
                  onIsolate={() => setApart(one)}
                />
                {open === one.label && (
                  <tr class="more" role="row">
                    <td colSpan={10} role="cell">
                      <More client={one} />
                    </td>
                  </tr>
                )}
              </Fragment>
            ))}
            {near.after > 0 && <tr aria-hidden="true" class="space"><td colSpan={10} style={{ height: `${near.after}px` }} /></tr>}
          </tbody>
        </table>
        {few && (
          <p class="all">
            <button type="button" onClick={() => setWhole(true)}>
              Show all {count(shown.length)}
            </button>
          </p>
        )}
        {asked.value && shown.length === 0 && <p class="muted">{wanted ? "No client is called or flagged so." : "No client has come yet."}</p>}
      </Card>
      <Week />
      {apart && <Isolate kind="client" subject={apart.client} reason={apart.flags.map((flag) => FLAGS[flag.flag]?.[0] ?? flag.flag).join(", ")} onClose={() => setApart(null)} />}
    </div>
  );
}

type Line = {
  client: Client;
  index: number;
  open: boolean;
  held: Isolation | undefined;
  able: boolean;
  onOpen: () => void;
  onIsolate: () => void;
};

/** Made anew only for what it shows: most rows stay what they are while one scrolls. */
class Row extends Component<Line> {
  override shouldComponentUpdate(next: Line) {
    return (["client", "index", "open", "held", "able"] as const).some((key) => next[key] !== this.props[key]);
  }

  override render(line: Line) {
    return drawn(line);
  }
}

function drawn({ client, index, open, held, able, onOpen, onIsolate }: Line) {
  const { share } = client;
  const noisy = client.flags.some((flag) => flag.flag === "noisy");
  const about = [client.tier, client.owner].filter(Boolean).join(" · ");
  const p98 = Math.max(...client.upstreams.map((one) => one.p98_ms ?? -1));
  return (
    <tr role="row" aria-rowindex={index} class={noisy ? "noisy" : ""}>
      <th scope="row" role="rowheader">
        <button type="button" class="link" aria-expanded={open} onClick={onOpen}>
          {client.client}
        </button>
        {about && <small class="muted">{about}</small>}
      </th>
      <td role="cell" data-label="Share of cost, 10 s">
        <span class="load">
          <Meter value={share.last_10s} tone={noisy ? "bad" : "info"} label={`Share of the cost in ten seconds: ${percent(share.last_10s)}`} />
          <b class="num">{percent(share.last_10s)}</b>
        </span>
      </td>
      <td role="cell" data-label="Overall" class="num">{percent(share.overall)}</td>
      <td role="cell" data-label="Of the peak" class="num">{percent(share.peak)}</td>
      <td role="cell" data-label="Cost" class="num">{cost(client.upstream_seconds)}</td>
      <td role="cell" data-label="Requests" class="num">{count(client.requests)}</td>
      <td role="cell" data-label="Refused" class="num">{client.refused > 0 ? <span class="warn-text">{count(client.refused)}</span> : "0"}</td>
      <td role="cell" data-label="p98" class="num">{p98 < 0 ? "–" : ms(p98)}</td>
      <td role="cell" data-label="Flags">
        <span class="flags">
          {client.flags.map((flag) => (
            <Pill key={flag.flag + flag.upstream} tone={flag.flag === "noisy" ? "bad" : "warn"} title={FLAGS[flag.flag]?.[1]}>
              {FLAGS[flag.flag]?.[0] ?? flag.flag}
            </Pill>
          ))}
        </span>
      </td>
      <td role="cell" class="num">
        {held ? (
          <Pill tone="warn">{held.to.replace("=", " ")}</Pill>
        ) : (
          able && (
            <button type="button" aria-label={`Isolate ${client.client}`} onClick={onIsolate}>
              Isolate…
            </button>
          )
        )}
      </td>
    </tr>
  );
}

function More({ client }: { client: Client }) {
  return (
    <div class="columns">
      <div>
        <h3>At each upstream</h3>
        <Table class="plain">
          <thead>
            <tr>
              <th scope="col">Upstream</th>
              <th scope="col" class="num">10 s</th>
              <th scope="col" class="num">overall</th>
              <th scope="col" class="num">Cost</th>
              <th scope="col" class="num">Requests</th>
              <th scope="col" class="num">p50</th>
              <th scope="col" class="num">p98</th>
            </tr>
          </thead>
          <tbody>
            {client.upstreams.map((one) => (
              <tr key={one.upstream}>
                <th scope="row">{one.upstream ?? "none: no route"}</th>
                <td class="num">{percent(one.share.last_10s)}</td>
                <td class="num">{percent(one.share.overall)}</td>
                <td class="num">{cost(one.took.upstream_seconds)}</td>
                <td class="num">{count(one.took.requests)}</td>
                <td class="num">{ms(one.p50_ms)}</td>
                <td class="num">{ms(one.p98_ms)}</td>
              </tr>
            ))}
          </tbody>
        </Table>
        <p class="muted">
          In <code>/metrics</code>: <code>{client.label}</code>
          {client.declared_rate !== null && <> · declared {count(client.declared_rate)}/s</>}
        </p>
      </div>
      <div>
        <h3>What is said against it</h3>
        {client.flags.length === 0 && <p class="muted">Nothing.</p>}
        {client.flags.map((flag) => (
          <div key={flag.flag + flag.upstream} class="said">
            <p>
              <Pill tone={flag.flag === "noisy" ? "bad" : "warn"}>{FLAGS[flag.flag]?.[0] ?? flag.flag}</Pill> {FLAGS[flag.flag]?.[1]}
              <span class="muted">
                {flag.upstream && ` · at ${flag.upstream}`} · since {day(flag.since)}
                {flag.routes.length > 0 && ` · by ${flag.routes.join(", ")}`}
              </span>
            </p>
            <dl class="facts">
              {flag.evidence.map((one) => {
                const [now, usual] = evidence(one);
                return (
                  <Fragment key={one.what}>
                    <dt>{one.what}</dt>
                    <dd>
                      <b>{now}</b> {usual && <span class="muted">against {usual}</span>}
                    </dd>
                  </Fragment>
                );
              })}
            </dl>
          </div>
        ))}
      </div>
    </div>
  );
}

const DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/** When in the week the work is asked for, by hour of the reader's own clock. */
function Week() {
  const asked = useAsked<UsageHours>("usage/hours?from=-28d&limit=20", 60_000);
  const [who, setWho] = useState("");
  const hours = asked.value?.hours ?? [];
  const names = [...new Set(hours.map((one) => one.client))];
  const cells = new Float64Array(7 * 24);
  for (const one of hours) {
    if (who && one.client !== who) continue;
    const at = new Date(one.hour);
    const place = ((at.getDay() + 6) % 7) * 24 + at.getHours();
    cells[place] = (cells[place] ?? 0) + one.upstream_seconds;
  }
  const most = Math.max(...cells);
  const peak = cells.indexOf(most);
  const busiest = most > 0 ? `${DAYS[Math.floor(peak / 24)]} ${peak % 24}:00, ${cost(most)}` : "nothing yet";
  return (
    <Card
      title="Hours of the week"
      class="wide"
      aside={
        <>
          <span class="muted">cost over four weeks · busiest {busiest}</span>
          <select aria-label="Whose hours" value={who} onChange={(event) => setWho(event.currentTarget.value)}>
            <option value="">Everybody</option>
            {names.map((name) => (
              <option key={name} value={name}>
                {name === "__other__" ? "everybody else" : name}
              </option>
            ))}
          </select>
        </>
      }
    >
      {asked.error && <Note tone="bad">{asked.error}</Note>}
      <div class="week" role="img" aria-label={`Cost by hour of the week; busiest ${busiest}`}>
        <span />
        {Array.from({ length: 24 }, (_, hour) => (
          <small key={hour} class="muted">{hour % 3 === 0 ? hour : ""}</small>
        ))}
        {DAYS.map((name, row) => (
          <Fragment key={name}>
            <small class="muted">{name}</small>
            {Array.from({ length: 24 }, (_, hour) => {
              const value = cells[row * 24 + hour] ?? 0;
              const level = most > 0 && value > 0 ? Math.max(1, Math.round(Math.sqrt(value / most) * 10)) : 0;
              return <i key={hour} class={`l${level}`} title={`${name} ${hour}:00 · ${cost(value)}`} />;
            })}
          </Fragment>
        ))}
      </div>
    </Card>
  );
}
