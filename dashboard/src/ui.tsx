// The small parts that views are made of.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { get, has, Refused } from "./api";
import { ms } from "./words";

export type Tone = "ok" | "warn" | "bad" | "info" | "quiet";

export const PHASES = ["receive", "decide", "queue", "connect", "wait", "body", "deliver"] as const;

export const PHASE_WORDS: Record<string, string> = {
  receive: "the client sends",
  decide: "Tidegate decides",
  queue: "waits for a slot",
  connect: "connects",
  wait: "the upstream works",
  body: "the upstream sends",
  deliver: "the client reads",
};

export function Pill({ tone, children, title }: { tone: Tone; children: ComponentChildren; title?: string }) {
  return (
    <span class={`pill ${tone}`} title={title}>
      {children}
    </span>
  );
}

/** A part of a whole, with its number beside it. */
export function Meter({ value, max = 1, tone = "info", label }: { value: number; max?: number; tone?: Tone; label: string }) {
  const share = max > 0 ? Math.min(1, Math.max(0, value / max)) : 0;
  return (
    <span class={`meter ${tone}`} role="img" aria-label={label}>
      <i style={{ width: `${share * 100}%` }} />
    </span>
  );
}

/** How a mean latency is made up. `scale` is the longest that is drawn, so that rows compare. */
export function PhaseBar({ phases, scale }: { phases: Record<string, number>; scale: number }) {
  const total = PHASES.reduce((sum, phase) => sum + (phases[phase] ?? 0), 0);
  const width = scale > 0 ? Math.max(2, Math.min(100, (total / scale) * 100)) : 0;
  const told = PHASES.filter((phase) => (phases[phase] ?? 0) >= 0.05).map((phase) => `${phase} ${ms(phases[phase])}`);
  return (
    <span class="phases" role="img" aria-label={told.length ? told.join(", ") : "nothing measured"} title={told.join("\n")}>
      <span style={{ width: `${width}%` }}>
        {total > 0 &&
          PHASES.map((phase) => {
            const share = ((phases[phase] ?? 0) / total) * 100;
            return share >= 0.5 && <i key={phase} class={`ph-${phase}`} style={{ width: `${share}%` }} />;
          })}
      </span>
    </span>
  );
}

export function PhaseKey() {
  return (
    <ul class="key" aria-label="Phases of a request">
      {PHASES.map((phase) => (
        <li key={phase}>
          <i class={`ph-${phase}`} />
          {phase} <span class="muted">{PHASE_WORDS[phase]}</span>
        </li>
      ))}
    </ul>
  );
}

/** A line without axes: where it has been, not how much. */
export function Spark({ values, max, tone = "info", label }: { values: (number | null)[]; max?: number; tone?: Tone; label: string }) {
  const [width, height] = [120, 28];
  const top = Math.max(max ?? 0, ...values.map((value) => value ?? 0)) || 1;
  const step = width / Math.max(1, values.length - 1);
  let line = "";
  values.forEach((value, at) => {
    if (value === null) return;
    const begun = line === "" || values[at - 1] === null;
    line += `${begun ? "M" : "L"}${(at * step).toFixed(1)} ${(height - 2 - (value / top) * (height - 4)).toFixed(1)}`;
  });
  return (
    <svg class={`spark ${tone}`} viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={label}>
      <path d={line} vector-effect="non-scaling-stroke" />
    </svg>
  );
}

export function Card({
  title,
  aside,
  children,
  class: name = "",
}: {
  title?: ComponentChildren;
  aside?: ComponentChildren;
  children: ComponentChildren;
  class?: string;
}) {
  const id = useId();
  return (
    <section class={`card ${name}`} aria-labelledby={title ? id : undefined}>
      {(title || aside) && (
        <header>
          {title && <h2 id={id}>{title}</h2>}
          {aside && <div class="aside">{aside}</div>}
        </header>
      )}
      {children}
    </section>
  );
}

/** What scrolls sideways where it must, by keys too. */
export function Wide({ children }: { children: ComponentChildren }) {
  const box = useRef<HTMLDivElement>(null);
  const [wide, setWide] = useState(false);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const measure = () => setWide(element.scrollWidth > element.clientWidth);
    measure();
    const sized = new ResizeObserver(measure);
    sized.observe(element);
    if (element.firstElementChild) sized.observe(element.firstElementChild);
    return () => sized.disconnect();
  }, []);
  return (
    <div class="scroll" ref={box} tabIndex={wide ? 0 : undefined} role={wide ? "group" : undefined} aria-label={wide ? "Wider than the page" : undefined}>
      {children}
    </div>
  );
}

export function Table({ class: name, children }: { class: string; children: ComponentChildren }) {
  return (
    <Wide>
      <table class={name}>{children}</table>
    </Wide>
  );
}

export function Figure({ label, value, unit, tone, children }: { label: string; value: string; unit?: string; tone?: Tone; children?: ComponentChildren }) {
  return (
    <div class={`figure ${tone ?? ""}`}>
      <dt>{label}</dt>
      <dd>
        <b>{value}</b>
        {unit && <span class="muted"> {unit}</span>}
        {children && <div class="below">{children}</div>}
      </dd>
    </div>
  );
}

export function Note({ tone = "quiet", children }: { tone?: Tone; children: ComponentChildren }) {
  return (
    <p class={`note ${tone}`} role={tone === "bad" ? "alert" : "status"}>
      {children}
    </p>
  );
}

/** Choices that exclude each other, as one row of buttons. */
export function Choice<T extends string>({
  label,
  value,
  options,
  onChange,
}: {
  label: string;
  value: T;
  options: [value: T, word: string][];
  onChange: (value: T) => void;
}) {
  return (
    <div class="choice" role="group" aria-label={label}>
      {options.map(([one, word]) => (
        <button key={one} type="button" aria-pressed={one === value} onClick={() => onChange(one)}>
          {word}
        </button>
      ))}
    </div>
  );
}

export function Dialog({ title, onClose, children }: { title: ComponentChildren; onClose: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const element = dialog.current;
    const before = document.activeElement as HTMLElement | null;
    element?.showModal();
    return () => before?.focus?.();
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={id}
      onClose={onClose}
      onClick={(event) => event.target === dialog.current && dialog.current?.close()}
    >
      <div class="sheet">
        <header>
          <h2 id={id}>{title}</h2>
          <button type="button" class="quiet" aria-label="Close" onClick={() => dialog.current?.close()}>
            ✕
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

export function Field({ label, hint, children }: { label: string; hint?: string; children: ComponentChildren }) {
  return (
    <label class="field">
      <span>{label}</span>
      {children}
      {hint && <small class="muted">{hint}</small>}
    </label>
  );
}

export const TTLS: [string, string][] = [
  ["5m", "5 minutes"],
  ["15m", "15 minutes"],
  ["30m", "30 minutes"],
  ["1h", "1 hour"],
  ["4h", "4 hours"],
  ["24h", "1 day"],
];

export function Ttl({ value, onChange }: { value: string; onChange: (ttl: string) => void }) {
  return (
    <Field label="For how long" hint="It ends by itself then.">
      <select value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {TTLS.map(([ttl, word]) => (
          <option key={ttl} value={ttl}>
            {word}
          </option>
        ))}
      </select>
    </Field>
  );
}

export function Reason({ value, onChange }: { value: string; onChange: (reason: string) => void }) {
  return (
    <Field label="Why" hint="Kept in the audit log, and shown to whoever looks.">
      <input
        required
        maxLength={500}
        value={value}
        placeholder="What you saw, or the ticket"
        onInput={(event) => onChange(event.currentTarget.value)}
      />
    </Field>
  );
}

/** A form that asks the server for a change, and says what became of it. */
export function Act({
  word,
  danger,
  act,
  children,
}: {
  word: string;
  danger?: boolean;
  act: () => Promise<string>;
  children: ComponentChildren;
}) {
  const [busy, setBusy] = useState(false);
  const [said, setSaid] = useState<{ ok: boolean; text: string } | null>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      setSaid({ ok: true, text: await act() });
    } catch (error) {
      setSaid({ ok: false, text: error instanceof Error ? error.message : String(error) });
    }
    setBusy(false);
  };
  return (
    <form onSubmit={(event) => void submit(event)}>
      {children}
      <footer>
        {said && <Note tone={said.ok ? "ok" : "bad"}>{said.text}</Note>}
        {!said?.ok && (
          <button class={danger ? "danger" : "primary"} disabled={busy}>
            {word}
          </button>
        )}
      </footer>
    </form>
  );
}

export type Asked<T> = { value: T | null; error: string | null; missing: boolean; again: () => void };

/** What the server answers at `path`, asked again every so many milliseconds; null: not asked. */
export function useAsked<T>(path: string | null, every?: number): Asked<T> {
  const [answer, setAnswer] = useState<{ path: string | null; value: T | null; error: string | null; missing: boolean }>({
    path: null,
    value: null,
    error: null,
    missing: false,
  });
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (path === null) return;
    let over = false;
    let timer = 0;
    const ask = () => {
      if (document.hidden) {
        timer = window.setTimeout(ask, every);
        return;
      }
      get<T>(path)
        .then(
          (value) => !over && setAnswer({ path, value, error: null, missing: false }),
          (error: unknown) => {
            const missing = error instanceof Refused && error.status === 404;
            if (!over) setAnswer((old) => ({ path, value: missing ? null : old.value, error: String((error as Error).message), missing }));
          },
        )
        .finally(() => {
          if (!over && every) timer = window.setTimeout(ask, every);
        });
    };
    ask();
    return () => {
      over = true;
      clearTimeout(timer);
    };
  }, [path, every, round]);
  const current = answer.path === path;
  return {
    value: current ? answer.value : null,
    error: current ? answer.error : null,
    missing: current && answer.missing,
    again: () => setRound((n) => n + 1),
  };
}

/** The same, of a path that this server may lack: null then. */
export function useAskedIf<T>(known: string, every: number, path = known): Asked<T> | null {
  const [there, setThere] = useState(false);
  useEffect(() => {
    let over = false;
    void has(known).then((yes) => !over && setThere(yes));
    return () => {
      over = true;
    };
  }, [known]);
  const asked = useAsked<T>(there ? path : null, every);
  return there ? asked : null;
}

/** Rows by the thousand: those near the eye are drawn, the others are only as high as they would be. */
export function useNear(rows: number, from = 120) {
  const body = useRef<HTMLTableSectionElement>(null);
  const [seen, setSeen] = useState({ first: 0, last: 60, height: 45 });
  useEffect(() => {
    if (rows <= from) return;
    const look = () => {
      const top = body.current?.getBoundingClientRect().top ?? 0;
      // A row is higher where there is no room for its columns side by side.
      const height = body.current?.querySelector<HTMLElement>("tr[aria-rowindex]")?.offsetHeight || 45;
      const first = Math.max(0, Math.floor(-top / height / 10) * 10 - 10);
      const last = Math.ceil((window.innerHeight - top) / height / 10) * 10 + 10;
      setSeen((old) => (old.first === first && old.last === last && old.height === height ? old : { first, last, height }));
    };
    look();
    // Both come once a frame at most, before anything of it is laid out.
    window.addEventListener("scroll", look, { passive: true });
    window.addEventListener("resize", look);
    return () => {
      window.removeEventListener("scroll", look);
      window.removeEventListener("resize", look);
    };
  }, [rows, from]);
  const all = rows <= from;
  const [first, last] = all ? [0, rows] : [Math.min(seen.first, rows), Math.min(seen.last, rows)];
  return { body, first, last, before: first * seen.height, after: (rows - last) * seen.height };
}
