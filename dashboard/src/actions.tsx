// What one may do about it: hold somebody apart, let go, hold a breaker.

import { useEffect, useState } from "preact/hooks";
import { del, get, post, Refused, type Isolated, type Isolation, type Verdict } from "./api";
import { Store, useStore } from "./store";
import { Act, Choice, Dialog, Field, Note, Pill, Reason, Ttl } from "./ui";
import { count, percent, span } from "./words";

/** Who is held apart; null: not known yet, or this server cannot. */
export const isolations = new Store<Isolation[] | null>(null);

export async function lookAtIsolations() {
  try {
    isolations.set((await get<{ isolations: Isolation[] }>("isolations")).isolations);
  } catch (error) {
    if (error instanceof Refused && error.status === 404) isolations.set(null);
  }
}

export function useIsolations(): Isolation[] | null {
  useEffect(() => {
    void lookAtIsolations();
    const timer = window.setInterval(() => !document.hidden && void lookAtIsolations(), 3_000);
    return () => clearInterval(timer);
  }, []);
  return useStore(isolations);
}

export type Kind = "client" | "route" | "endpoint";

type How = "lane" | "throttle" | "block";

const HOW: Record<How, string> = {
  lane: "It keeps a small lane of its own, and no longer takes from the others.",
  throttle: "It may send so much, and no more.",
  block: "It gets nothing: every request is refused.",
};

export function Isolate({ kind, subject, reason: first, onClose }: { kind: Kind; subject: string; reason?: string; onClose: () => void }) {
  const [how, setHow] = useState<How>(kind === "endpoint" ? "block" : "lane");
  const [rate, setRate] = useState("10/s");
  const [ttl, setTtl] = useState("30m");
  const [reason, setReason] = useState(first ?? "");
  const [preview, setPreview] = useState<Isolated | string | null>(null);
  const to = how === "throttle" ? `throttle=${rate}` : how;
  const order = { kind, subject, to, ttl };
  useEffect(() => {
    let over = false;
    const soon = window.setTimeout(() => {
      post<Isolated>("isolations", { ...order, reason: reason.trim() || "preview", preview: true }).then(
        (answer) => !over && setPreview(answer),
        (error: Error) => !over && setPreview(error.message),
      );
    }, 250);
    return () => {
      over = true;
      clearTimeout(soon);
    };
  }, [kind, subject, to, ttl]);
  const act = async () => {
    const done = await post<Isolated>("isolations", { ...order, reason });
    await lookAtIsolations();
    return `${subject} is held apart${done.kept ? "" : ", until the process ends at the latest"}. It may be released at any time.`;
  };
  return (
    <Dialog title={`Isolate ${subject}`} onClose={onClose}>
      <Act word={`Isolate ${subject}`} danger act={act}>
        {kind === "endpoint" ? (
          <p>It is taken out of service: its peers take its requests.</p>
        ) : (
          <>
            <Choice
              label="How"
              value={how}
              options={[
                ["lane", "Lane"],
                ["throttle", "Throttle"],
                ["block", "Block"],
              ]}
              onChange={setHow}
            />
            <p class="muted">{HOW[how]}</p>
            {how === "throttle" && (
              <Field label="Rate" hint="Such as 10/s or 600/m.">
                <input required pattern="[0-9]+/(s|m|h)" value={rate} onInput={(event) => setRate(event.currentTarget.value)} />
              </Field>
            )}
          </>
        )}
        <Ttl value={ttl} onChange={setTtl} />
        <Reason value={reason} onChange={setReason} />
        <Preview preview={preview} />
      </Act>
    </Dialog>
  );
}

function Preview({ preview }: { preview: Isolated | string | null }) {
  if (preview === null) return <Note>Looking at the last minute…</Note>;
  if (typeof preview === "string") return <Note tone="warn">{preview}</Note>;
  const known = preview.preview;
  if (!known) return <Note>What it would have done in the last minute is not known.</Note>;
  const share = known.requests > 0 ? known.would_refuse / known.requests : 0;
  return (
    <Note tone="info">
      In the last whole minute it sent <b>{count(known.requests)}</b> requests; this would have refused <b>{count(known.would_refuse)}</b> of them
      {known.requests > 0 && ` (${percent(share)})`}.
    </Note>
  );
}

/** Whose release is asked for. Not kept in the list, which may be empty once it has happened. */
const going = new Store<Isolation | null>(null);

export function Isolations({ all, kind }: { all: Isolation[]; kind?: Kind }) {
  const shown = kind ? all.filter((one) => one.kind === kind) : all;
  if (shown.length === 0) return null;
  return (
    <ul class="held" aria-label="Who is held apart">
      {shown.map((one) => (
        <li key={one.id}>
          <Pill tone="warn">{one.to.replace("=", " ")}</Pill>
          <span>
            <b>{one.subject}</b> <span class="muted">{one.kind}</span>
          </span>
          <span class="muted">“{one.reason}”</span>
          <span class="muted num">
            {count(one.refused)} refused · {count(one.passed)} passed · ends in {span(one.remaining_seconds)}
          </span>
          <button type="button" onClick={() => going.set(one)}>
            Release
          </button>
        </li>
      ))}
    </ul>
  );
}

/** The question that a click on Release asks; part of the page and not of a view. */
export function Releasing() {
  const isolation = useStore(going);
  return isolation && <Release isolation={isolation} onClose={() => going.set(null)} />;
}

function Release({ isolation, onClose }: { isolation: Isolation; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const act = async () => {
    await del(`isolations/${encodeURIComponent(isolation.id)}?reason=${encodeURIComponent(reason)}`);
    await lookAtIsolations();
    return `${isolation.subject} is free again.`;
  };
  return (
    <Dialog title={`Release ${isolation.subject}`} onClose={onClose}>
      <Act word={`Release ${isolation.subject}`} act={act}>
        <Reason value={reason} onChange={setReason} />
      </Act>
    </Dialog>
  );
}

export function HoldBreaker({ upstream, held, onClose }: { upstream: string; held: boolean; onClose: () => void }) {
  const [state, setState] = useState<"open" | "close" | "auto">(held ? "auto" : "open");
  const [ttl, setTtl] = useState("15m");
  const [reason, setReason] = useState("");
  const act = async () => {
    await post(`breakers/${encodeURIComponent(upstream)}`, state === "auto" ? { state, reason } : { state, ttl, reason });
    return state === "auto" ? "The breaker decides by itself again." : `The breaker is held ${state === "open" ? "open" : "closed"}.`;
  };
  return (
    <Dialog title={`Breaker of ${upstream}`} onClose={onClose}>
      <Act word={{ open: "Hold it open", close: "Hold it closed", auto: "Let it decide" }[state]} danger={state === "open"} act={act}>
        <Choice
          label="What to do"
          value={state}
          options={[
            ["open", "Hold open"],
            ["close", "Hold closed"],
            ["auto", "Automatic"],
          ]}
          onChange={setState}
        />
        <p class="muted">
          {
            {
              open: "Open: nothing reaches the upstream; everything is refused at once, or served stale where that is allowed.",
              close: "Closed: everything is let through, however it fares.",
              auto: "It opens when the upstream fails and closes when it has recovered.",
            }[state]
          }
        </p>
        {state !== "auto" && <Ttl value={ttl} onChange={setTtl} />}
        <Reason value={reason} onChange={setReason} />
      </Act>
    </Dialog>
  );
}

/** The one thing to do about a verdict, as a button; none where one has to look first. */
export function Remedy({ verdict }: { verdict: Verdict }) {
  const [open, setOpen] = useState(false);
  const held = useStore(isolations);
  const able = held !== null;
  const close = () => setOpen(false);
  const upstream = verdict.upstream ?? verdict.subject;
  const seen = `${verdict.cause.replaceAll("_", " ")}, ${percent(verdict.confidence)} sure`;
  // The dialog stays, to say how it went.
  if (!open && held?.some((one) => one.subject === verdict.subject)) return <Pill tone="warn">{verdict.subject} is held apart</Pill>;
  switch (verdict.cause) {
    case "noisy_client":
      return able ? (
        <>
          <button type="button" class="primary" onClick={() => setOpen(true)}>
            Isolate {verdict.subject}…
          </button>
          {open && <Isolate kind="client" subject={verdict.subject} reason={seen} onClose={close} />}
        </>
      ) : (
        <a class="button" href="#/clients">
          Look at the clients
        </a>
      );
    case "slow_endpoint":
    case "endpoint_down":
      return able && verdict.subject.includes("/") ? (
        <>
          <button type="button" class="primary" onClick={() => setOpen(true)}>
            Take {verdict.subject} out…
          </button>
          {open && <Isolate kind="endpoint" subject={verdict.subject} reason={seen} onClose={close} />}
        </>
      ) : null;
    case "retry_storm":
    case "upstream_errors":
      return (
        <>
          <button type="button" class="primary" onClick={() => setOpen(true)}>
            Hold the breaker of {upstream}…
          </button>
          {open && <HoldBreaker upstream={upstream} held={false} onClose={close} />}
        </>
      );
    case "cache_failure":
      return (
        <a class="button primary" href="#/cache">
          Look at the cache
        </a>
      );
    case "slow_clients":
      return (
        <a class="button primary" href="#/clients">
          Look at the clients
        </a>
      );
    case "proxy_saturated":
      return (
        <a class="button primary" href="#/config">
          Look at the process
        </a>
      );
    default:
      return null;
  }
}
