// The live feed: one moment a second, and the minutes before as columns that grow at their end.

import { get, type Histories, type History, type Moment, type MomentOfUpstream } from "./api";
import { Store } from "./store";

/** Seconds kept, as the server keeps them. */
const KEPT = 600;
/** Seconds of every upstream that are asked for at first. */
const AT_FIRST = 120;
/** No moment for so long, and the connection is taken for dead. */
const SILENCE = 5_000;
const AGAIN = 1_000;

export type Link = "connecting" | "live" | "lost";

export const link = new Store<Link>("connecting");
export const moment = new Store<Moment | null>(null);
/** The past of each upstream; told anew with each moment. */
export const past = new Map<string, History>();
export const bands = new Store<number[]>([]);

let source: EventSource | null = null;
let silence = 0;
let again = 0;
let stopped = true;

export function start() {
  if (!stopped) return;
  stopped = false;
  document.addEventListener("visibilitychange", seen);
  connect();
}

export function stop() {
  stopped = true;
  document.removeEventListener("visibilitychange", seen);
  close();
}

/** Nobody looks: nothing need be made, nor a connection held. */
function seen() {
  if (document.hidden) close();
  else if (!source) connect();
}

function close() {
  clearTimeout(silence);
  clearTimeout(again);
  source?.close();
  source = null;
}

function lost() {
  close();
  if (stopped) return;
  link.set("lost");
  // Also tells whether the token is asked for, which an event source does not.
  again = window.setTimeout(() => {
    get("status").then(
      () => !stopped && !document.hidden && connect(),
      () => !stopped && lost(),
    );
  }, AGAIN);
}

function connect() {
  close();
  get<Histories>(`history?seconds=${AT_FIRST}`).then((histories) => {
    if (stopped || document.hidden) return;
    bands.set(histories.bands_ms);
    for (const history of histories.upstreams) keep(history);
    source = new EventSource("/api/v1/stream");
    source.addEventListener("moment", (event) => take(JSON.parse((event as MessageEvent<string>).data)));
    source.onerror = lost;
    watch();
  }, lost);
}

function watch() {
  clearTimeout(silence);
  silence = window.setTimeout(lost, SILENCE);
}

function take(now: Moment) {
  watch();
  for (const upstream of now.upstreams) append(now.at, upstream);
  for (const name of past.keys()) {
    if (!now.upstreams.some((one) => one.name === name)) past.delete(name);
  }
  moment.set(now);
  link.set("live");
}

/** What is known fully stays so where it overlaps with what is told again in brief. */
function keep(history: History) {
  const known = past.get(history.upstream);
  if (known?.heat && !history.heat) {
    void load(history.upstream);
    return;
  }
  past.set(history.upstream, history);
}

/** Asks for everything about one upstream's last minutes. */
export async function load(upstream: string) {
  const histories = await get<Histories>(`history?upstream=${encodeURIComponent(upstream)}`);
  bands.set(histories.bands_ms);
  for (const history of histories.upstreams) past.set(history.upstream, history);
  if (moment.value) moment.set({ ...moment.value });
}

function append(at: number, now: MomentOfUpstream) {
  const history = past.get(now.name) ?? empty(now.name);
  past.set(now.name, history);
  const last = history.at.at(-1);
  if (last !== undefined && last >= at) return;
  history.at.push(at);
  for (const key of ["limit", "in_flight", "waiting", "requests", "refused", "failed", "p50_ms", "p90_ms", "p98_ms"] as const) {
    (history[key] as (number | null)[]).push(now[key]);
  }
  for (const [phase, column] of Object.entries(history.phases_ms ?? {})) column.push(now.phases_ms[phase] ?? 0);
  history.heat?.push(now.heat);
  if (history.at.length > KEPT) {
    const columns = Object.values(history).filter(Array.isArray) as unknown[][];
    for (const column of [...columns, ...Object.values(history.phases_ms ?? {})]) column.shift();
  }
}

function empty(upstream: string): History {
  return {
    upstream,
    at: [],
    limit: [],
    in_flight: [],
    waiting: [],
    requests: [],
    refused: [],
    failed: [],
    p50_ms: [],
    p90_ms: [],
    p98_ms: [],
  };
}
