// What happened: verdicts and state changes in the order they came.

import type { Change } from "../api";
import * as live from "../live";
import { useStore } from "../store";
import { Card, Note, Pill, useAsked } from "../ui";
import { change, day, percent, plain, sentence, span } from "../words";
import { toneOf } from "./now";

export function Incidents() {
  const asked = useAsked<{ events: Change[] }>("events?recent", 3_000);
  const verdicts = useStore(live.moment)?.diagnosis.verdicts ?? [];
  const events = [...(asked.value?.events ?? [])].reverse();
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
      {asked.error && <Note tone="bad">{asked.error}</Note>}
      <Card title="What changed" aside={<span class="muted">the newest first</span>} class="wide">
        {events.length === 0 ? (
          <p class="muted">Nothing has changed since the start.</p>
        ) : (
          <ol class="events">
            {events.slice(0, 300).map((one) => (
              <li key={one.id}>
                <time dateTime={one.ts}>{day(one.ts)}</time>
                <Pill tone={toneOf(one)}>{one.event}</Pill>
                <b>{one.subject}</b>
                <span class="muted">{change(one)}</span>
              </li>
            ))}
          </ol>
        )}
      </Card>
    </div>
  );
}
