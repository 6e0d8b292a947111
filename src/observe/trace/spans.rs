//! The spans of a request, by OpenTelemetry's conventions for HTTP, before they are encoded for anybody.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Attempt, Record};
use crate::engine::registry::{Directories, Directory};
use crate::model::{EndpointId, Outcome, Phase, Reason, RouteId, TierId, UpstreamId};
use crate::observe::why::Decision;

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request as it came.
    Server,
    /// An attempt as it was sent on.
    Client,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A whole number.
    Whole(u64),
    /// A number.
    Number(f64),
}

/// Keys and values.
pub type Attributes = Vec<(&'static str, Value)>;

/// Something that happened within a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, in microseconds since the Unix epoch.
    pub at: u64,
    /// What.
    pub name: &'static str,
    /// More about it.
    pub attributes: Attributes,
}

/// One span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace.
    pub trace: u128,
    /// The span; never 0.
    pub id: u64,
    /// What it is within; 0: nothing.
    pub parent: u64,
    /// What it is of.
    pub kind: Kind,
    /// What it is called.
    pub name: String,
    /// When it began, in microseconds since the Unix epoch.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// More about it.
    pub attributes: Attributes,
    /// What happened within.
    pub events: Vec<Event>,
    /// Why it failed, if it did.
    pub error: Option<Cow<'static, str>>,
}

fn text(value: impl Into<Cow<'static, str>>) -> Value {
    Value::Text(value.into())
}

fn name(directory: &Directory, index: Option<usize>) -> Option<Arc<str>> {
    directory.name(index?)
}

/// The spans of `record`, the server's first.
#[must_use]
pub fn build(record: &Record, directories: &Directories) -> Vec<Span> {
    let exchange = &record.exchange;
    let upstream = name(
        &directories.upstreams,
        exchange.upstream.map(UpstreamId::index),
    );
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let end = exchange
        .started
        .saturating_add(micros(exchange.phases.total()));
    let mut out = vec![server(record, directories, upstream.as_deref(), end)];
    let head = exchange.started.saturating_add(u64::from(record.head));
    // The last answer's body belongs to its attempt; what the client took to read it does not.
    let whole = end.saturating_sub(micros(exchange.phases.get(Phase::Deliver)));
    let mut attempts = record.attempts.iter().peekable();
    while let Some(attempt) = attempts.next() {
        let next = attempts.peek().map(|next| head + u64::from(next.sent));
        let ended = attempt.ended.map(|at| head + u64::from(at));
        let end = match (next, ended) {
            (Some(next), ended) => ended.unwrap_or(next),
            (None, Some(ended)) if attempt.status == 0 => ended,
            (None, _) => whole,
        };
        let to = endpoint(directories, upstream.as_deref(), attempt.endpoint);
        out.push(client(
            record,
            attempt,
            (head, end),
            upstream.as_deref(),
            to,
        ));
    }
    out
}

fn server(record: &Record, directories: &Directories, upstream: Option<&str>, end: u64) -> Span {
    let exchange = &record.exchange;
    let route = name(&directories.routes, exchange.route.map(RouteId::index));
    let tier = name(&directories.tiers, exchange.tier.map(TierId::index));
    let mut attributes = vec![
        ("http.request.method", text(exchange.method.as_str())),
        (
            "http.response.status_code",
            Value::Whole(exchange.status.into()),
        ),
        ("url.path", text(record.path.to_string())),
        ("client.address", text(record.client.to_string())),
        ("http.request.body.size", Value::Whole(exchange.bytes_in)),
        ("http.response.body.size", Value::Whole(exchange.bytes_out)),
        ("tidegate.request_id", text(record.request_id.to_string())),
        ("tidegate.outcome", text(exchange.outcome.as_str())),
        ("tidegate.attempts", Value::Whole(exchange.attempts.into())),
    ];
    if exchange.method.as_str() != &*record.method {
        attributes.push((
            "http.request.method_original",
            text(record.method.to_string()),
        ));
    }
    let named = [
        ("http.route", route.as_deref()),
        ("tidegate.tier", tier.as_deref()),
        ("tidegate.upstream", upstream),
        ("tidegate.reason", exchange.reason.map(Reason::as_str)),
        ("tidegate.policy", exchange.reason.map(Reason::policy)),
    ];
    let named = named
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    attributes.extend(named.map(|(key, value)| (key, text(value.to_owned()))));
    for (phase, key) in PHASES {
        let time = exchange.phases.get(phase);
        if !time.is_zero() {
            attributes.push((key, Value::Number(time.as_secs_f64() * 1e3)));
        }
    }
    let failed = exchange.status >= 500 || exchange.outcome == Outcome::UpstreamBroke;
    let error = failed.then(|| error(exchange.reason, exchange.status));
    if let Some(error) = &error {
        attributes.push(("error.type", Value::Text(error.clone())));
    }
    let method = exchange.method.as_str().trim_start_matches("_OTHER");
    let method = if method.is_empty() { "HTTP" } else { method };
    let head = exchange.started.saturating_add(u64::from(record.head));
    Span {
        trace: record.context.trace,
        id: record.context.span,
        parent: record.context.parent,
        kind: Kind::Server,
        name: route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}")),
        start: exchange.started,
        end,
        attributes,
        events: record
            .decisions
            .iter()
            .map(|one| event(one, head))
            .collect(),
        error,
    }
}

/// The phases as attributes, in milliseconds as in the access log.
const PHASES: [(Phase, &str); 7] = [
    (Phase::Receive, "tidegate.receive_ms"),
    (Phase::Decide, "tidegate.decide_ms"),
    (Phase::Queue, "tidegate.queue_ms"),
    (Phase::Connect, "tidegate.connect_ms"),
    (Phase::Wait, "tidegate.wait_ms"),
    (Phase::Body, "tidegate.body_ms"),
    (Phase::Deliver, "tidegate.deliver_ms"),
];

fn event(decision: &Decision, head: u64) -> Event {
    let mut attributes = vec![("tidegate.decision", text(decision.verdict.as_str()))];
    if let Some(reason) = decision.verdict.reason() {
        attributes.push(("tidegate.reason", text(reason)));
    }
    for (key, value) in [
        ("tidegate.value", decision.value),
        ("tidegate.threshold", decision.threshold),
    ] {
        if value.is_finite() {
            attributes.push((key, Value::Number(value.into())));
        }
    }
    if let Some(unit) = decision.unit {
        attributes.push(("tidegate.unit", text(unit.as_str())));
    }
    Event {
        at: head.saturating_add(decision.at.into()),
        name: decision.policy.as_str(),
        attributes,
    }
}

fn error(reason: Option<Reason>, status: u16) -> Cow<'static, str> {
    reason.map_or_else(
        || status.to_string().into(),
        |reason| reason.as_str().into(),
    )
}

/// The directory's names are `upstream/address`.
fn endpoint(
    directories: &Directories,
    upstream: Option<&str>,
    endpoint: Option<EndpointId>,
) -> Option<String> {
    let name = name(&directories.endpoints, endpoint.map(EndpointId::index))?;
    let address = name
        .strip_prefix(upstream?)
        .and_then(|rest| rest.strip_prefix('/'));
    Some(address.unwrap_or(&name).to_owned())
}

fn client(
    record: &Record,
    attempt: &Attempt,
    (head, end): (u64, u64),
    upstream: Option<&str>,
    endpoint: Option<String>,
) -> Span {
    let method = record.exchange.method.as_str();
    let mut attributes = vec![("http.request.method", text(method))];
    if let Some(upstream) = upstream {
        attributes.push(("tidegate.upstream", text(upstream.to_owned())));
    }
    if let Some(endpoint) = endpoint {
        match endpoint.rsplit_once(':') {
            Some((host, port)) if let Ok(port) = port.parse() => {
                attributes.push(("server.address", text(host.to_owned())));
                attributes.push(("server.port", Value::Whole(port)));
            }
            _ => attributes.push(("server.address", text(endpoint))),
        }
    }
    if attempt.status != 0 {
        attributes.push((
            "http.response.status_code",
            Value::Whole(attempt.status.into()),
        ));
    }
    if attempt.number > 1 {
        attributes.push((
            "http.request.resend_count",
            Value::Whole(u64::from(attempt.number) - 1),
        ));
    }
    let failed = attempt.failure.is_some() || attempt.status >= 400;
    let error = if attempt.status == 0 && attempt.failure.is_none() {
        Some("given_up".into())
    } else {
        failed.then(|| error(attempt.failure, attempt.status))
    };
    if let Some(error) = &error {
        attributes.push(("error.type", Value::Text(error.clone())));
    }
    let start = head.saturating_add(attempt.sent.into());
    Span {
        trace: record.context.trace,
        id: record.context.attempt(attempt.number),
        parent: record.context.span,
        kind: Kind::Client,
        name: method.to_owned(),
        start,
        end: end.max(start),
        attributes,
        events: Vec::new(),
        error,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::{Attempts, Context};
    use super::*;
    use crate::model::Unit;
    use crate::observe::tables::tests::answered;
    use crate::observe::why::{Policy, Verdict};

    /// A request that waited in the queue and was sent twice.
    pub(crate) fn record() -> (Record, Directories) {
        let directories = Directories::default();
        let mut exchange = answered();
        exchange.route = Some(RouteId::new(directories.routes.intern("orders")));
        exchange.upstream = Some(UpstreamId::new(directories.upstreams.intern("orders")));
        let at = directories.endpoints.intern("orders/10.0.0.1:8080");
        let mut attempts = Attempts::default();
        attempts.sent(9_000, Some(EndpointId::new(at)));
        attempts.ended(10_000, 0, Some(Reason::UpstreamReset));
        attempts.sent(10_500, Some(EndpointId::new(at)));
        attempts.ended(13_000, 200, None);
        let record = Record {
            context: Context::begin(
                None,
                super::super::context::Forms::default(),
                1.0,
                [1, 2, 3],
            ),
            exchange,
            attempts,
            decisions: Box::new([Decision {
                at: 5_000,
                value: 0.003,
                threshold: f32::NAN,
                unit: Some(Unit::Seconds),
                policy: Policy::Queue,
                verdict: Verdict::Waited,
            }]),
            head: 1_000,
            forced: false,
            request_id: "id".into(),
            client: "198.51.100.7".into(),
            method: "GET".into(),
            path: "/orders/1".into(),
        };
        (record, directories)
    }

    #[test]
    fn a_request_is_a_server_span_with_an_attempt_each_within() {
        let (record, directories) = record();
        let spans = build(&record, &directories);
        let [server, first, second] = spans.as_slice() else {
            panic!("{spans:?}")
        };
        let began = record.exchange.started;
        assert_eq!((server.start, server.end), (began, began + 21_000));
        assert_eq!((&*server.name, server.parent), ("GET orders", 0));
        assert_eq!(
            (server.events[0].name, server.events[0].at),
            ("queue", began + 6_000)
        );
        assert_eq!((first.parent, second.parent), (server.id, server.id));
        assert_eq!((first.start, first.end), (began + 10_000, began + 11_000));
        // The second goes on until the body was there: all but the 3 ms the client took.
        assert_eq!((second.start, second.end), (began + 11_500, began + 18_000));
        assert_eq!(first.error.as_deref(), Some("upstream_reset"));
        assert_eq!((server.error.as_ref(), second.error.as_ref()), (None, None));
        assert!(
            second
                .attributes
                .contains(&("server.port", Value::Whole(8_080)))
        );
        assert!(
            second
                .attributes
                .contains(&("http.request.resend_count", Value::Whole(1)))
        );
    }
}
