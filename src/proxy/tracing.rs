//! The trace context in a request's headers: believed of a trusted peer, begun here otherwise, and passed on with
//! the span of each attempt for the parent.
//!
//! Where nobody is sent traces, what a trusted peer says is passed on as it is, and nothing is begun.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::track::Track;
use crate::observe::trace::context::{Context, Forms, Remote, halves, hex_digits, trace_id};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// Whether the field called `name` is part of a trace context.
pub(super) fn is_context(name: &str) -> bool {
    match name {
        "traceparent" | "tracestate" | "b3" => true,
        _ => matches!(
            name.strip_prefix("x-b3-"),
            Some("traceid" | "spanid" | "parentspanid" | "sampled" | "flags")
        ),
    }
}

/// Takes out what a peer that is not trusted says.
pub(super) fn strip(headers: &mut HeaderMap) {
    for name in [
        TRACEPARENT,
        TRACESTATE,
        B3,
        B3_TRACE,
        B3_SPAN,
        B3_PARENT,
        B3_SAMPLED,
        B3_FLAGS,
    ] {
        headers.remove(name);
    }
}

/// Settles which trace a request is part of. `told` says whether its headers may be believed and say anything.
pub(super) fn settle(track: &mut Track, headers: &mut HeaderMap, told: bool) {
    let (remote, forms) = if told {
        read(headers)
    } else {
        (None, Forms::default())
    };
    if let Some(remote) = remote {
        track.trace_id = Some(trace_id(remote.trace));
        let [low, _] = halves(remote.trace);
        track.exchange.trace = low;
    }
    let Some(sample) = track.live().plan.telemetry.exporters.trace_sample() else {
        return;
    };
    let random = {
        let mut rng = track.conn.worker.rng();
        [rng.u64(..), rng.u64(..), rng.u64(..)]
    };
    let context = Context::begin(remote, forms, sample, random);
    if told && remote.is_none() {
        // Without a trace its state means nothing (W3C Trace Context, section 3.3).
        headers.remove(TRACESTATE);
    }
    track.trace_id = Some(context.trace_id());
    pass_on(headers, &context, 1);
    track.trace = Some(context);
}

/// What the headers say, and in which forms. `traceparent` goes before B3.
fn read(headers: &HeaderMap) -> (Option<Remote>, Forms) {
    let bytes = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let forms = Forms {
        b3_single: headers.contains_key(B3),
        b3_multi: headers.contains_key(B3_TRACE),
    };
    let remote = bytes(TRACEPARENT)
        .and_then(Remote::from_traceparent)
        .or_else(|| bytes(B3).and_then(Remote::from_b3))
        .or_else(|| {
            let (trace, span) = (text(B3_TRACE)?, text(B3_SPAN)?);
            Remote::from_b3_parts(trace, span, text(B3_SAMPLED), text(B3_FLAGS))
        });
    (remote, forms)
}

/// Says in `headers` which span the attempt with this number is: in the W3C's form, and in those it came in.
pub(super) fn pass_on(headers: &mut HeaderMap, context: &Context, number: u8) {
    let span = context.attempt(number);
    let mut set = |name: HeaderName, text: Vec<u8>| {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(name, value);
        }
    };
    set(TRACEPARENT, context.traceparent(span));
    if context.forms.b3_single {
        set(B3, context.b3(span));
    }
    if context.forms.b3_multi {
        set(B3_TRACE, context.trace_id().to_vec());
        set(B3_SPAN, hex_digits(span).to_vec());
        set(B3_PARENT, hex_digits(context.span).to_vec());
        set(
            B3_SAMPLED,
            if context.sampled { b"1" } else { b"0" }.to_vec(),
        );
    }
}
