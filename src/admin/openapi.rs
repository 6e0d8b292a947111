//! The API's description: short, kept by hand, and compared with the router by a test.

use serde_json::{Map, Value, json};

/// Every path that answers GET, and what it answers.
pub(super) const GET_PATHS: [(&str, &str); 33] = [
    ("/", "The dashboard."),
    ("/livez", "200 while the process runs."),
    (
        "/readyz",
        "200 while it takes requests, 503 while it drains.",
    ),
    ("/metrics", "Metrics as OpenMetrics text."),
    (
        "/api/v1/status",
        "The process, its configuration and totals.",
    ),
    (
        "/api/v1/upstreams",
        "Upstreams, their endpoints, traffic and recent latencies by phase.",
    ),
    (
        "/api/v1/upstreams/{upstream}",
        "Everything about one upstream, what it says of its own time among it.",
    ),
    (
        "/api/v1/history",
        "The last minutes second by second, of every upstream or fully of `upstream`; `seconds` says how many.",
    ),
    (
        "/api/v1/stream",
        "The same of each second from now on, with the diagnosis, as server-sent events.",
    ),
    (
        "/api/v1/routes",
        "Routes, what they match and their traffic.",
    ),
    (
        "/api/v1/clients",
        "Who takes most and what is said against whom; `sort` by `cost`, `requests`, `refused` or `peak_share`, `limit` \
         says how many.",
    ),
    (
        "/api/v1/usage",
        "Who used what from `from` to `to` (RFC 3339, a date, or -7d), told apart `by` client, route, upstream, hour.",
    ),
    (
        "/api/v1/usage/hours",
        "Cost by the hour from `from` to `to`, of the `limit` clients that cost most and of everybody else.",
    ),
    (
        "/api/v1/traffic",
        "Who talks to whom from `from` to `to`, the chattiest first.",
    ),
    (
        "/api/v1/diagnosis",
        "What is wrong, most likely cause first, with its numbers and what to do about it.",
    ),
    (
        "/api/v1/scale/{upstream}",
        "How much room an upstream has, and whether more of it would help.",
    ),
    (
        "/api/v1/slos",
        "What is promised, and how routes, upstreams, endpoints or clients stand to it.",
    ),
    (
        "/api/v1/incidents",
        "What was missed and what the diagnosis first said of it, the newest first.",
    ),
    (
        "/api/v1/incidents/{id}",
        "One incident; 404 when it is not known.",
    ),
    (
        "/api/v1/incidents/{id}/bundle",
        "What was kept of an incident, as a .tar.zst; 404 when nothing is.",
    ),
    (
        "/api/v1/incidents/{id}/profile",
        "Where the processor's time went after it was noticed, as a flamegraph, as folded stacks or for pprof, as `format` says; 404 when that is not known.",
    ),
    (
        "/api/v1/limits",
        "Concurrency limits, the queues in front of them, and rate limits.",
    ),
    ("/api/v1/breakers", "Breakers of upstreams and routes."),
    (
        "/api/v1/isolations",
        "Clients, routes and endpoints that operators hold apart.",
    ),
    (
        "/api/v1/events",
        "State changes as server-sent events; with `recent`, the newest as a list.",
    ),
    (
        "/api/v1/host",
        "The machine second by second, as sar would show it; `from`, `to` and `step` in seconds.",
    ),
    (
        "/api/v1/cache",
        "Caches, how they fare and the URLs that stand out; `limit` says how many.",
    ),
    (
        "/api/v1/inflight",
        "The oldest requests under way; `limit` says how many.",
    ),
    (
        "/api/v1/why/{request_id}",
        "The decisions taken about a request; 404 when it is not known.",
    ),
    ("/api/v1/config", "The configuration in use, resolved."),
    ("/api/v1/openapi.json", "This description."),
    (
        "/debug/pprof/profile",
        "Where processor time goes, sampled for `seconds` (default 10): for pprof, with `format` as a flamegraph or folded stacks.",
    ),
    (
        "/debug/pprof/heap",
        "Whose the memory is that was allocated within `seconds` (default 10) and not freed: for pprof, with `format` as a flamegraph or folded stacks.",
    ),
];

/// Every path that answers POST, what it does, and the status on success.
pub(super) const POST_PATHS: [(&str, &str, &str); 6] = [
    (
        "/api/v1/session",
        "Lets a browser in: for the token, a cookie that holds for some hours.",
        "200",
    ),
    (
        "/api/v1/reload",
        "Loads the configuration again; 422 tells what is wrong with it.",
        "200",
    ),
    (
        "/api/v1/drain",
        "Finishes what is in flight, then ends the process.",
        "202",
    ),
    (
        "/api/v1/breakers/{upstream}",
        "Holds a breaker open or closed for a time, or ends that.",
        "200",
    ),
    (
        "/api/v1/isolations",
        "Holds a client, a route or an endpoint apart for a time; with `preview`, only tells what that would have done.",
        "200",
    ),
    (
        "/api/v1/cache/purge",
        "Drops stored responses, or makes them stale: of a URL, a prefix or a tag.",
        "200",
    ),
];

/// The path that answers DELETE, besides that of the session.
pub(super) const DELETE_PATH: &str = "/api/v1/isolations/{id}";

/// What an isolation is asked with.
fn isolate(reason: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["kind", "subject", "ttl", "reason"],
        "additionalProperties": false,
        "properties": {
            "kind": { "enum": crate::engine::isolation::Subject::KINDS },
            "subject": { "type": "string", "description": "A name, or UPSTREAM/ADDRESS of an endpoint." },
            "to": { "type": "string", "description": "lane (default), block, or throttle=RATE such as throttle=10/s." },
            "ttl": { "type": "string", "description": "A duration such as 30m." },
            "reason": reason,
            "preview": { "type": "boolean", "default": false },
        },
    })
}

/// The operation that lets somebody go.
fn release() -> Value {
    let text = json!({ "type": "string", "minLength": 1, "maxLength": 500 });
    let reason = json!({ "name": "reason", "in": "query", "required": true, "schema": text });
    let what = "Lets go who is held apart; 404 when there is no such isolation.";
    json!({
        "summary": what,
        "parameters": [in_path("id"), reason],
        "responses": {
            "200": { "description": what, "content": { "application/json": {} } },
            "default": { "$ref": "#/components/responses/Problem" },
        },
    })
}

/// What a purge is asked with.
fn purge(reason: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["reason"],
        "additionalProperties": false,
        "properties": {
            "cache": { "type": "string", "description": "Without: every cache." },
            "url": { "type": "string" },
            "prefix": { "type": "string" },
            "tag": { "type": "string" },
            "soft": { "type": "boolean", "default": false },
            "reason": reason,
        },
        "description": "Exactly one of url, prefix and tag.",
    })
}

/// The description, in version 3.1 of the format.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for (path, what) in GET_PATHS {
        let mut operation = json!({
            "summary": what,
            "responses": { "200": answer(path, what), "default": { "$ref": "#/components/responses/Problem" } },
        });
        if let Some(operation) = operation.as_object_mut() {
            operation.insert("parameters".into(), parameters(path));
        }
        if matches!(path, "/" | "/livez" | "/readyz")
            && let Some(operation) = operation.as_object_mut()
        {
            operation.insert("security".into(), json!([]));
        }
        paths.insert(path.into(), json!({ "get": operation }));
    }
    for (path, what, status) in POST_PATHS {
        let is_breaker = path.starts_with("/api/v1/breakers/");
        let schema = match path {
            "/api/v1/cache/purge" => "#/components/schemas/Purge",
            "/api/v1/isolations" => "#/components/schemas/Isolate",
            "/api/v1/session" => "#/components/schemas/Login",
            _ if is_breaker => "#/components/schemas/BreakerChange",
            _ => "#/components/schemas/Change",
        };
        let body = json!({
            "required": true,
            "content": { "application/json": { "schema": { "$ref": schema } } },
        });
        let answer = json!({ "description": what, "content": { "application/json": {} } });
        let responses =
            json!({ status: answer, "default": { "$ref": "#/components/responses/Problem" } });
        let mut operation = json!({ "summary": what, "requestBody": body, "responses": responses });
        if is_breaker && let Some(operation) = operation.as_object_mut() {
            operation.insert("parameters".into(), json!([in_path("upstream")]));
        }
        let operations = paths.entry(path).or_insert_with(|| json!({}));
        operations["post"] = operation;
        if path == "/api/v1/session" {
            operations["delete"] = log_out();
        }
    }
    paths.insert(DELETE_PATH.into(), json!({ "delete": release() }));
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Tidegate admin API", "version": env!("CARGO_PKG_VERSION") },
        // The token is asked for only where the configuration sets one.
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
            "responses": {
                "Problem": {
                    "description": "What is wrong (RFC 9457).",
                    "content": { "application/problem+json": {} },
                },
            },
        },
    })
}

/// What a GET of `path` answers.
fn answer(path: &str, what: &str) -> Value {
    let content = match path {
        "/" => json!({ "text/html": {} }),
        "/livez" | "/readyz" => json!({ "text/plain": {} }),
        "/metrics" => json!({ "application/openmetrics-text": {} }),
        "/debug/pprof/profile" | "/debug/pprof/heap" | "/api/v1/incidents/{id}/profile" => {
            json!({ "application/octet-stream": {}, "image/svg+xml": {}, "text/plain": {} })
        }
        "/api/v1/incidents/{id}/bundle" => json!({ "application/zstd": {} }),
        // As a list, or as they come.
        "/api/v1/events" => json!({ "application/json": {}, "text/event-stream": {} }),
        "/api/v1/stream" => json!({ "text/event-stream": {} }),
        _ => json!({ "application/json": {} }),
    };
    json!({ "description": what, "content": content })
}

/// What a GET of `path` takes.
fn parameters(path: &str) -> Value {
    match path {
        "/api/v1/clients" => json!([in_query("sort", &SORTS), in_query("limit", &[])]),
        "/api/v1/diagnosis" => json!([{
            "name": "last", "in": "query", "required": false, "schema": { "type": "string" },
            "description": "what was found within this time as well, such as 5m; at most 1h",
        }]),
        "/api/v1/cache" | "/api/v1/inflight" => json!([in_query("limit", &[])]),
        "/api/v1/incidents/{id}" | "/api/v1/incidents/{id}/bundle" => json!([in_path("id")]),
        "/api/v1/incidents/{id}/profile" => {
            json!([
                in_path("id"),
                in_query("format", &["svg", "folded", "pprof"])
            ])
        }
        "/api/v1/usage" | "/api/v1/usage/hours" | "/api/v1/traffic" => json!([
            in_query("from", &[]),
            in_query("to", &[]),
            in_query("by", &[]),
            in_query("limit", &[])
        ]),
        "/api/v1/history" => json!([
            { "name": "upstream", "in": "query", "required": false, "schema": { "type": "string" } },
            in_query("seconds", &[])
        ]),
        "/api/v1/scale/{upstream}" | "/api/v1/upstreams/{upstream}" => {
            json!([in_path("upstream")])
        }
        "/debug/pprof/profile" | "/debug/pprof/heap" => json!([
            in_query("seconds", &[]),
            in_query("format", &["pprof", "svg", "folded"])
        ]),
        _ if path.contains('{') => json!([in_path("request_id")]),
        _ => json!([]),
    }
}

/// The operation that ends a session.
fn log_out() -> Value {
    let what = "Ends the session of a browser.";
    let answer = json!({ "description": what, "content": { "application/json": {} } });
    json!({ "summary": what, "security": [], "responses": { "200": answer } })
}

/// What the changes are asked with.
fn schemas() -> Value {
    let reason = json!({ "type": "string", "minLength": 1, "maxLength": 500 });
    json!({
        "Change": {
            "type": "object",
            "required": ["reason"],
            "additionalProperties": false,
            "properties": { "reason": reason },
        },
        "Purge": purge(&reason),
        "Isolate": isolate(&reason),
        "Login": {
            "type": "object",
            "required": ["token"],
            "additionalProperties": false,
            "properties": { "token": { "type": "string" } },
        },
        "BreakerChange": {
            "type": "object",
            "required": ["state", "reason"],
            "additionalProperties": false,
            "properties": {
                "state": { "enum": ["open", "close", "auto"] },
                "ttl": { "type": "string", "description": "A duration such as 30m; not for auto." },
                "reason": reason,
            },
        },
    })
}

/// What clients may be sorted by.
const SORTS: [&str; 4] = ["cost", "requests", "refused", "peak_share"];

/// One of `words`, or a number when there are none.
fn in_query(name: &str, words: &[&str]) -> Value {
    let schema = if words.is_empty() {
        json!({ "type": "integer", "minimum": 0 })
    } else {
        json!({ "enum": words })
    };
    json!({ "name": name, "in": "query", "required": false, "schema": schema })
}

fn in_path(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
}
