// What happened: objectives that were missed, verdicts, and state changes in the order they came.

import { useState } from "preact/hooks";
import { type Change, type Incident } from "../api";
import { Profile } from "../flame";
import * as live from "../live";
import { useStore } from "../store";
import { Card, Note, Pill, useAsked, useAskedIf } from "../ui";
import { bytes, change, day, percent, plain, sentence, span } from "../words";
import { toneOf } from "./now";

/** What changed that long before an incident may have to do with it. */
const BEFORE = 120_000;
/** Seconds in which a bundle is written, if one is. */
const CAPTURE = 30;

export function Incidents() {
  const asked = useAsked<{ events: Change[] }>("events?recent", 3_000);
  const incidents = useAskedIf<{ incidents: Incident[] }>("incidents", 3_000);
  const verdicts = useStore(live.moment)?.diagnosis.verdicts ?? [];
  const oldest = asked.value?.events ?? [];
  const events = [...oldest].reverse();
  return (
    <div>
      <div class="heading">
        <h1>Incidents</h1>
      </div>
      <Card title="At this moment" class="wide">
        {verdicts.length === 0 ? (
          <p class="muted">Nothing is wrong.</p>
        ) : (
          <ol class="events">
            {verdicts.map((verdict) => (
              <li key={verdict.cause + verdict.subject}>
                <span class="muted num">for {span(verdict.since_seconds)}</span>
                <Pill tone="bad">{verdict.cause.replaceAll("_", " ")}</Pill>
                <b>{plain(sentence(verdict))}</b>
                <span class="muted">{percent(verdict.confidence)} sure</span>
              </li>
            ))}
          </ol>
        )}
      </Card>
      {incidents && <Missed incidents={incidents.value?.incidents ?? []} events={oldest} />}
      {asked.error && <Note tone="bad">{asked.error}</Note>}
      <Card title="What changed" aside={<span class="muted">the newest first</span>} class="wide">
        {events.length === 0 ? <p class="muted">Nothing has changed since the start.</p> : <Changes events={events.slice(0, 300)} />}
      </Card>
    </div>
  );
}

function Changes({ events }: { events: Change[] }) {
  return (
    <ol class="events">
      {events.map((one) => (
        <li key={one.id}>
          <time dateTime={one.ts}>{day(one.ts)}</time>
          <Pill tone={toneOf(one)}>{one.event.replaceAll("_", " ")}</Pill>
          <b>{one.subject}</b>
          <span class="muted">{change(one)}</span>
        </li>
      ))}
    </ol>
  );
}

function Missed({ incidents, events }: { incidents: Incident[]; events: Change[] }) {
  return (
    <Card title="Objectives that were missed" aside={<span class="muted">the newest first</span>} class="wide">
      {incidents.length === 0 && <p class="muted">None.</p>}
      {incidents.map((one) => (
        <One key={one.id} incident={one} events={events} />
      ))}
    </Card>
  );
}

function One({ incident: one, events }: { incident: Incident; events: Change[] }) {
  const [open, setOpen] = useState(one.closed_at === null);
  const fresh = (useStore(live.moment)?.at ?? 0) - time(one.opened_at) / 1e3 < CAPTURE;
  return (
    <details class="incident" open={open} onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>
        <time dateTime={one.opened_at}>{day(one.opened_at)}</time>
        <Pill tone={one.closed_at ? "quiet" : "bad"}>{one.closed_at ? `over after ${lasted(one)}` : "open"}</Pill>
        <b>
          {one.slo}: {one.subject}
        </b>
        <span class="muted">{one.verdict ? `${one.verdict.cause.replaceAll("_", " ")}: ${one.verdict.subject}` : "no verdict yet"}</span>
      </summary>
      {open && (
        <div>
          <Facts incident={one} />
          <h3>What changed shortly before, and during it</h3>
          <Around incident={one} events={events} />
          <h3>Where the processor's time went</h3>
          {one.bundle ? (
            <>
              <Profile incident={one.id} />
              <p class="buttons">
                <a class="button" href={`/api/v1/incidents/${encodeURIComponent(one.id)}/bundle`} download>
                  Download the bundle ({bytes(one.bundle)})
                </a>
              </p>
            </>
          ) : (
            <p class="muted">
              {fresh ? "It is being sampled: ten seconds from the beginning of the incident." : "Nothing is kept of this incident; only the newest bundles are."}
            </p>
          )}
        </div>
      )}
    </details>
  );
}

function Facts({ incident: one }: { incident: Incident }) {
  return (
    <dl class="facts">
      <dt>What was missed</dt>
      <dd>{one.what}</dd>
      {one.component && (
        <>
          <dt>Component</dt>
          <dd>{one.component}</dd>
        </>
      )}
      {one.node && (
        <>
          <dt>Endpoint</dt>
          <dd class="code">{one.node}</dd>
        </>
      )}
      {one.verdict && (
        <>
          <dt>First verdict</dt>
          <dd>
            {one.verdict.cause.replaceAll("_", " ")}: <b>{one.verdict.subject}</b>, {percent(one.verdict.confidence)} sure
            <p class="advice">{one.verdict.advice}</p>
          </dd>
        </>
      )}
    </dl>
  );
}

const time = (at: string) => new Date(at).getTime();

const lasted = (one: Incident) => span((time(one.closed_at ?? one.opened_at) - time(one.opened_at)) / 1e3);

function Around({ incident, events }: { incident: Incident; events: Change[] }) {
  const [from, to] = [time(incident.opened_at) - BEFORE, incident.closed_at ? time(incident.closed_at) : Number.POSITIVE_INFINITY];
  const near = events.filter((one) => time(one.ts) >= from && time(one.ts) <= to);
  return near.length === 0 ? <p class="muted">Nothing.</p> : <Changes events={near.slice(0, 40)} />;
}
