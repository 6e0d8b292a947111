// What runs: the plan in use, and what became of the last attempts to change it.

import { useState } from "preact/hooks";
import { post, type Change, type Status } from "../api";
import { Act, Card, Dialog, Note, Pill, Reason, useAsked } from "../ui";
import { change, count, day } from "../words";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

export function Config() {
  const [reloading, setReloading] = useState(false);
  const [find, setFind] = useState("");
  const plan = useAsked<Json>("config", 10_000);
  const status = useAsked<Status>("status", 3_000);
  const events = useAsked<{ events: Change[] }>("events?recent", 5_000);
  const reloads = (events.value?.events ?? []).filter((one) => one.event === "reload").reverse();
  const running = status.value?.config;
  return (
    <div class="config">
      <div class="heading">
        <h1>Config</h1>
        <span class="muted code">{running ? (running.source ?? "command line") : ""}</span>
        <button type="button" onClick={() => setReloading(true)}>
          Reload…
        </button>
      </div>
      {plan.error && <Note tone="bad">{plan.error}</Note>}
      <div class="columns">
        <Card title="In use">
          {running && (
            <dl class="facts">
              <dt>Hash</dt>
              <dd class="code clip">{running.hash}</dd>
              <dt>Taken over</dt>
              <dd>{day(running.loaded_at)}</dd>
              <dt>Last reload</dt>
              <dd>
                {running.last_reload ? (
                  <>
                    <Pill tone={running.last_reload.ok ? "ok" : "bad"}>{running.last_reload.ok ? "taken over" : "refused"}</Pill> {day(running.last_reload.at)}
                  </>
                ) : (
                  "none since the start"
                )}
              </dd>
              <dt>Workers</dt>
              <dd>{status.value?.workers}</dd>
              <dt>Listeners</dt>
              <dd>
                {status.value?.listeners.map((one) => (
                  <div key={one.name}>
                    {one.name !== one.address && `${one.name} `}
                    <span class="code">{one.address}</span> <span class="muted">{count(one.connections)} connections</span>
                  </div>
                ))}
              </dd>
            </dl>
          )}
          {running?.last_reload?.error && <pre class="errors">{running.last_reload.error}</pre>}
        </Card>
        <Card title="Recent reloads">
          {reloads.length === 0 ? (
            <p class="muted">None since the start.</p>
          ) : (
            <ol class="events">
              {reloads.slice(0, 12).map((one) => (
                <li key={one.id}>
                  <time dateTime={one.ts}>{day(one.ts)}</time>
                  <span>{change(one)}</span>
                </li>
              ))}
            </ol>
          )}
        </Card>
      </div>
      <Card
        title="The plan, resolved"
        class="wide"
        aside={<input type="search" aria-label="Find a setting" placeholder="Find a setting" value={find} onInput={(event) => setFind(event.currentTarget.value)} />}
      >
        <div class="plan code">{plan.value !== null && <Tree value={plan.value} path="" find={find.trim().toLowerCase()} />}</div>
      </Card>
      {reloading && <Reload onClose={() => setReloading(false)} />}
    </div>
  );
}

/** What of the plan holds `find`, as far as it does. */
function Tree({ value, path, find }: { value: Json; path: string; find: string }) {
  if (value === null || typeof value !== "object") return <Leaf value={value} />;
  const entries: [string, Json][] = Array.isArray(value) ? value.map((one, i) => [nameOf(one) ?? String(i), one]) : Object.entries(value);
  const shown = entries.filter(([key, one]) => holds(key, one, find));
  return (
    <ul>
      {shown.map(([key, one], i) => {
        const flat = one === null || typeof one !== "object" || Object.keys(one).length === 0;
        const below = key.toLowerCase().includes(find) ? "" : find;
        const size = flat ? 0 : Object.keys(one as object).length;
        return (
          <li key={`${path}.${key}.${i}`}>
            {flat ? (
              <>
                <span class="name">{key}</span> <Leaf value={one} />
              </>
            ) : (
              <details open={find !== "" || path === ""}>
                <summary>
                  <span class="name">{key}</span> <span class="muted">{Array.isArray(one) ? `${size} of them` : size === 1 ? "1 setting" : `${size} settings`}</span>
                </summary>
                <Tree value={one} path={`${path}.${key}`} find={below} />
              </details>
            )}
          </li>
        );
      })}
    </ul>
  );
}

function nameOf(one: Json): string | null {
  if (one === null || typeof one !== "object" || Array.isArray(one)) return null;
  return typeof one.name === "string" ? one.name : typeof one.address === "string" ? one.address : null;
}

function holds(key: string, value: Json, find: string): boolean {
  if (find === "" || key.toLowerCase().includes(find)) return true;
  if (value === null || typeof value !== "object") return String(value).toLowerCase().includes(find);
  return Object.entries(value).some(([inner, one]) => holds(Array.isArray(value) ? (nameOf(one) ?? inner) : inner, one, find));
}

function Leaf({ value }: { value: Json }) {
  if (value === null) return <span class="muted">none</span>;
  if (typeof value === "object") return <span class="muted">{Array.isArray(value) ? "[]" : "{}"}</span>;
  return <span class={`leaf ${typeof value}`}>{typeof value === "string" ? value || '""' : String(value)}</span>;
}

function Reload({ onClose }: { onClose: () => void }) {
  const [reason, setReason] = useState("");
  const act = async () => {
    const { hash } = await post<{ hash: string }>("reload", { reason });
    return `It was read and taken over: ${hash.slice(0, 12)}.`;
  };
  return (
    <Dialog title="Load the configuration again" onClose={onClose}>
      <Act word="Reload" act={act}>
        <p class="muted">A file with a mistake changes nothing: what runs goes on, and the mistakes are told.</p>
        <Reason value={reason} onChange={setReason} />
      </Act>
    </Dialog>
  );
}
