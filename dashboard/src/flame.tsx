// Where the processor's time went: every call as wide as the time spent in it, below whoever made it.

import { useEffect, useRef, useState } from "preact/hooks";
import { text } from "./api";
import { Table } from "./ui";
import { count, percent } from "./words";

type Call = {
  id: number;
  name: string;
  /** Whoever came between its caller and it, and called nothing else. */
  between: string[];
  samples: number;
  own: number;
  caller: Call | null;
  calls: Call[];
};

/** Calls that would be narrower than that part of the picture are left out. */
const NARROWEST = 0.002;
/** Pixels between a call and what it calls. */
const ROW = 18;
/** Functions that are listed. */
const LISTED = 8;

/** Folded stacks, `outermost;…;innermost samples` in each line, as one tree. */
function unfold(folded: string): Call {
  let id = 0;
  const made = (name: string, caller: Call | null): Call => ({ id: id++, name, between: [], samples: 0, own: 0, caller, calls: [] });
  const all = made("all", null);
  for (const line of folded.split("\n")) {
    const end = line.lastIndexOf(" ");
    const samples = Number(line.slice(end + 1));
    if (end < 0 || !samples) continue;
    all.samples += samples;
    let at = all;
    for (const name of line.slice(0, end).split(";")) {
      let call = at.calls.find((one) => one.name === name);
      if (!call) at.calls.push((call = made(name, at)));
      call.samples += samples;
      at = call;
    }
    at.own += samples;
  }
  for (const thread of all.calls) thread.calls.forEach(squeeze);
  return all;
}

/** Calls that do nothing but make the next one become one with it: a stack is a hundred high otherwise. */
function squeeze(call: Call) {
  for (let next = call.calls[0]; call.own === 0 && call.calls.length === 1 && next; next = call.calls[0]) {
    call.between.push(call.name);
    call.name = next.name;
    call.own = next.own;
    call.calls = next.calls;
    for (const one of call.calls) one.caller = call;
  }
  call.calls.forEach(squeeze);
}

/** A function without its type arguments and the first parts of its path. */
function short(name: string): string {
  let [plain, before] = [name, ""];
  while (plain !== before) {
    before = plain;
    plain = plain.replace(/<([^<>]*)>/g, (_, inner: string, at: number) => (at === 0 || inner.includes(" as ") ? inner.split(" as ")[0]! : ""));
  }
  const parts = plain.split("::").filter((part) => part && !part.startsWith("{"));
  return parts.slice(-2).join("::") || name;
}

/** The profile of an incident's first seconds. */
export function Profile({ incident }: { incident: string }) {
  const [said, setSaid] = useState<{ all: Call | null; error: string }>();
  useEffect(() => {
    let over = false;
    text(`incidents/${encodeURIComponent(incident)}/profile?format=folded`).then(
      (folded) => !over && setSaid({ all: unfold(folded), error: "" }),
      (error: Error) => !over && setSaid({ all: null, error: error.message }),
    );
    return () => {
      over = true;
    };
  }, [incident]);
  if (!said) return <p class="muted">Asking for it…</p>;
  if (!said.all) return <p class="muted">{said.error}</p>;
  return (
    <>
      <Flame all={said.all} />
      <Functions all={said.all} />
    </>
  );
}

type Box = { call: Call; level: number; left: number; width: number };

/** Whoever calls `shown`, and what it calls, each with its place in parts of the whole width. */
function boxes(shown: Call): Box[] {
  const all: Box[] = [];
  for (let call = shown.caller; call; call = call.caller) all.unshift({ call, level: 0, left: 0, width: 1 });
  all.forEach((box, level) => (box.level = level));
  const place = (call: Call, level: number, left: number) => {
    const width = call.samples / shown.samples;
    if (width < NARROWEST) return;
    all.push({ call, level, left, width });
    for (const one of call.calls) {
      place(one, level + 1, left);
      left += one.samples / shown.samples;
    }
  };
  place(shown, all.length, 0);
  return all;
}

/** A tree: arrows go about in it, Enter shows what a call consists of, Escape all again. */
function Flame({ all }: { all: Call }) {
  const [shown, setShown] = useState(all);
  const [at, setAt] = useState(all);
  const picture = useRef<HTMLDivElement>(null);
  const placed = boxes(shown);
  const height = Math.max(...placed.map((box) => box.level + 1)) * ROW;
  const reached = placed.some((box) => box.call === at) ? at : shown;
  const go = (to: Call | null | undefined) => {
    const index = placed.findIndex((box) => box.call === to);
    if (!to || index < 0) return;
    setAt(to);
    (picture.current?.children[index] as HTMLElement | undefined)?.focus();
  };
  const beside = (by: number) => {
    const row = placed.filter((box) => box.level === placed.find((one) => one.call === reached)?.level);
    go(row[row.findIndex((box) => box.call === reached) + by]?.call);
  };
  const keys: Record<string, () => void> = {
    ArrowDown: () => go([...reached.calls].sort((a, b) => b.samples - a.samples)[0]),
    ArrowUp: () => go(reached.caller),
    ArrowRight: () => beside(1),
    ArrowLeft: () => beside(-1),
    Home: () => go(all),
    Enter: () => setShown(reached),
    " ": () => setShown(reached),
    Escape: () => setShown(all),
  };
  return (
    <figure class="flame">
      <figcaption>
        <span class="muted">
          {count(all.samples)} samples by thread and call; a call stands below its caller, as wide as its time. Choose one to see what it consists of.
        </span>
        {shown !== all && (
          <button type="button" onClick={() => setShown(all)}>
            Show all
          </button>
        )}
      </figcaption>
      <div
        ref={picture}
        role="tree"
        style={{ height: `${height}px` }}
        aria-label="Where the processor's time went"
        onKeyDown={(event) => {
          const act = keys[event.key];
          if (!act) return;
          event.preventDefault();
          act();
        }}
      >
        {placed.map(({ call, level, left, width }) => (
          <div
            key={call.id}
            role="treeitem"
            aria-level={level + 1}
            aria-selected={call === shown}
            aria-label={told(call, all)}
            title={[...call.between, call.name].join("\n")}
            tabIndex={call === reached ? 0 : -1}
            class={isOwn(call) ? "own" : undefined}
            style={{ left: `${left * 100}%`, width: `${width * 100}%`, top: `${level * ROW}px` }}
            onClick={() => (setAt(call), setShown(call))}
          >
            {short(call.name)}
          </div>
        ))}
      </div>
    </figure>
  );
}

const isOwn = (call: Call) => /^[<&]*tidegate::/.test(call.name);

const told = (call: Call, all: Call) => `${short(call.name)}: ${count(call.samples)} samples, ${percent(call.samples / all.samples)}`;

/** The functions that ran longest themselves, whoever called them. */
function Functions({ all }: { all: Call }) {
  const own = new Map<string, number>();
  const add = (call: Call) => {
    if (call.own) own.set(call.name, (own.get(call.name) ?? 0) + call.own);
    call.calls.forEach(add);
  };
  add(all);
  const most = [...own].sort((a, b) => b[1] - a[1]).slice(0, LISTED);
  return (
    <Table class="plain">
      <thead>
        <tr>
          <th scope="col">Ran longest itself</th>
          <th scope="col" class="num">
            Samples
          </th>
          <th scope="col" class="num">
            Of all
          </th>
        </tr>
      </thead>
      <tbody>
        {most.map(([name, samples]) => (
          <tr key={name}>
            <th scope="row" class="code clip" title={name}>
              {short(name)}
            </th>
            <td class="num">{count(samples)}</td>
            <td class="num">{percent(samples / all.samples)}</td>
          </tr>
        ))}
      </tbody>
    </Table>
  );
}
