// The admin API as this page reads it: src/admin/api.rs says what each field means.

export type Evidence = { what: string; value: number; baseline: number | null; unit: string };

export type Verdict = {
  cause: string;
  subject: string;
  upstream: string | null;
  confidence: number;
  since_seconds: number;
  evidence: Evidence[];
  advice: string;
};

export type Diagnosis = { lagging: boolean; verdicts: Verdict[] };

export type Scale = {
  value: number;
  headroom: number;
  desired_factor: number;
  scale_out_helps: boolean;
};

export type Heat = [band: number, count: number][];
export type Phases = Record<string, number>;

export type MomentOfUpstream = {
  name: string;
  limit_mode: string;
  limit: number;
  in_flight: number;
  waiting: number;
  requests: number;
  refused: number;
  failed: number;
  heat: Heat;
  p50_ms: number | null;
  p90_ms: number | null;
  p98_ms: number | null;
  phases_ms: Phases;
  breaker: { mode: string; state: string; admitted: number; held: boolean } | null;
  endpoints: { total: number; in_use: number };
  scale: Scale;
  retry_budget: number;
};

export type Change = { ts: string; id: number; event: string; subject: string; [more: string]: unknown };

export type Moment = {
  at: number;
  process: {
    version: string;
    pid: number;
    uptime_seconds: number;
    draining: boolean;
    connections: number;
    exchanges: number;
    config_hash: string;
  };
  diagnosis: Diagnosis;
  upstreams: MomentOfUpstream[];
  events: Change[];
};

export type History = {
  upstream: string;
  at: number[];
  limit: number[];
  in_flight: number[];
  waiting: number[];
  requests: number[];
  refused: number[];
  failed: number[];
  p50_ms: (number | null)[];
  p90_ms: (number | null)[];
  p98_ms: (number | null)[];
  phases_ms?: Record<string, number[]>;
  heat?: Heat[];
};

export type Histories = { bands_ms: number[]; upstreams: History[] };

export type Quantiles = {
  phase: string;
  p50_ms: number | null;
  p90_ms: number | null;
  p98_ms: number | null;
  p99_ms: number | null;
  p99_9_ms: number | null;
};

export type Endpoint = {
  address: string;
  zone: string | null;
  weight: number;
  healthy: boolean;
  state: string;
  message: string | null;
  in_flight: number;
  latency_ms: number | null;
  connections: number;
  host: Host | null;
};

/** How an endpoint's host is doing, by its node exporter: parts of 1, and bytes a second. */
export type Host = { cpu: number; iowait: number; memory: number; memory_slope: number; load: number };

export type UpstreamDetail = {
  name: string;
  protocol: string;
  balance: string;
  in_flight: number;
  connections: number;
  traffic: { total: { requests: number; errors: number; bytes_in: number; bytes_out: number } };
  windows: { over_seconds: number; requests: number; phases: Quantiles[] }[];
  endpoints: Endpoint[];
  limit: {
    mode: string;
    algorithm: string;
    limit: number;
    in_flight: number;
    waiting: number;
    streams: number;
    elasticity: number | null;
    base_latency_ms: number | null;
    latency_ms: number | null;
    throughput: number | null;
  };
  breaker: Breaker | null;
  scale: Scale;
  components: { name: string; count: number; mean_ms: number | null; p50_ms: number | null; p98_ms: number | null }[];
  retries: Record<string, number>;
  retry_budget: number;
};

export type Breaker = {
  mode: string;
  state: string;
  admitted: number;
  requests: number;
  failure_ratio: number;
  slow_ratio: number;
  evidence: { measure: string; value: number; threshold: number; requests: number } | null;
  next_try_seconds: number | null;
  order: { state: string; ends_in_seconds: number; reason: string } | null;
};

export type Share = { overall: number; peak: number | null; last_minute: number; last_10s: number };

export type Client = {
  client: string;
  label: string;
  owner: string | null;
  tier: string | null;
  declared_rate: number | null;
  requests: number;
  refused: number;
  upstream_seconds: number;
  share: Share;
  upstreams: {
    upstream: string | null;
    took: { requests: number; retries: number; upstream_seconds: number; bytes_in: number; bytes_out: number };
    p50_ms: number | null;
    p98_ms: number | null;
    share: Share;
  }[];
  flags: { flag: string; upstream: string | null; since: string; evidence: Evidence[]; routes: string[] }[];
};

export type Clients = { sort: string; total: number; clients: Client[] };

export type Isolation = {
  id: string;
  kind: string;
  subject: string;
  to: string;
  since: string;
  until: string;
  remaining_seconds: number;
  reason: string;
  by: string;
  passed: number;
  refused: number;
};

export type Isolated = {
  id: string | null;
  to: string;
  until: string;
  preview: { minute: string; requests: number; would_refuse: number } | null;
  kept: boolean;
};

export type Pair = {
  client: string;
  route: string;
  upstream: string;
  calls: number;
  calls_per_second: number;
  bytes: number;
  upstream_seconds: number;
};

export type CachedUrl = { url: string; bytes: number; hits: number; saved_seconds: number };

export type Cache = {
  name: string;
  bytes: number;
  capacity: number;
  urls: number;
  flights: number;
  hit_ratio: number;
  requests: Record<string, number>;
  top_by_bytes: CachedUrl[];
  top_by_saved_seconds: CachedUrl[];
};

export type Why = {
  request_id: string;
  started_at: string;
  method: string;
  route: string | null;
  upstream: string | null;
  endpoint: string | null;
  tier: string | null;
  status: number;
  upstream_status: number | null;
  outcome: string;
  reason: string | null;
  would_refuse: string | null;
  attempts: number;
  total_ms: number | null;
  phases: { phase: string; ms: number | null }[];
  decisions: {
    at_ms: number;
    policy: string;
    name: string | null;
    decision: string;
    reason: string | null;
    value: number | null;
    threshold: number | null;
    unit: string | null;
  }[];
};

export type InFlight = {
  total: number;
  requests: {
    request_id: string;
    method: string;
    path: string | null;
    age_ms: number | null;
    phase: string;
    route: string | null;
    upstream: string | null;
    endpoint: string | null;
  }[];
};

export type Status = {
  version: string;
  started_at: string;
  workers: number;
  config: {
    source: string | null;
    hash: string;
    loaded_at: string;
    last_reload: { ok: boolean; at: string; error: string | null } | null;
  };
  listeners: { name: string; address: string; connections: number }[];
  exchanges: { total: number; errors: number; by_outcome: Record<string, number> };
};

export type UsageHours = { from: string; to: string; hours: { hour: string; client: string; upstream_seconds: number }[] };

export type Slo = {
  name: string;
  per: string;
  latency: { quantile: number; below_ms: number; over_seconds: number } | null;
  availability: number | null;
  subjects: {
    subject: string;
    requests: number;
    latency_ms: number | null;
    slow_ratio: number;
    burn_rates: Record<string, number>;
    budget_remaining: number | null;
    missed: string[];
  }[];
};

export type Incident = {
  id: string;
  opened_at: string;
  closed_at: string | null;
  slo: string;
  per: string;
  subject: string;
  signals: string[];
  what: string;
  component: string | null;
  node: string | null;
  verdict: { cause: string; subject: string; confidence: number; advice: string } | null;
  bundle: number | null;
};

/** An answer other than success, in the server's words. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    detail: string,
  ) {
    super(detail);
  }
}

let locked = () => {};

/** Whom to tell that the server asks for the token. */
export const onLocked = (tell: () => void) => {
  locked = tell;
};

async function ask(method: string, path: string, body?: unknown): Promise<Response> {
  const init: RequestInit = { method, credentials: "same-origin" };
  if (body !== undefined) {
    init.headers = { "content-type": "application/json" };
    init.body = JSON.stringify(body);
  }
  let answer: Response;
  try {
    answer = await fetch(`/api/v1/${path}`, init);
  } catch {
    throw new Refused(0, "Tidegate does not answer.");
  }
  if (answer.ok) return answer;
  if (answer.status === 401 && path !== "session") locked();
  const problem = (await answer.json().catch(() => null)) as { detail?: string } | null;
  throw new Refused(answer.status, problem?.detail ?? `The answer was ${answer.status}.`);
}

async function call<T>(method: string, path: string, body?: unknown): Promise<T> {
  const answer = await ask(method, path, body);
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

export const text = async (path: string) => (await ask("GET", path)).text();
export const get = <T>(path: string) => call<T>("GET", path);
export const post = <T>(path: string, body: unknown) => call<T>("POST", path, body);
export const del = <T>(path: string) => call<T>("DELETE", path);

let described: Promise<Set<string>> | null = null;

/** Whether this server has that path: an older one may lack what is newer. */
export async function has(path: string): Promise<boolean> {
  described ??= get<{ paths: Record<string, unknown> }>("openapi.json").then((one) => new Set(Object.keys(one.paths)));
  try {
    return (await described).has(`/api/v1/${path}`);
  } catch {
    described = null;
    return false;
  }
}
