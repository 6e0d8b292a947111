//! OTLP: an `ExportTraceServiceRequest`, as opentelemetry-proto defines it. The field numbers are from there.

use super::spans::{Attributes, Event, Kind, Span, Value};
use crate::observe::proto::Message;

/// The request that sends `spans` on.
pub(in crate::observe) fn encode(spans: impl Iterator<Item = Span>, host: &str) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |resource| {
            for (key, value) in [
                ("service.name", "tidegate"),
                ("service.version", env!("CARGO_PKG_VERSION")),
                ("host.name", host),
            ] {
                attribute(resource, 1, key, &Value::Text(value.to_owned().into()));
            }
        });
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| scope.bytes(1, b"tidegate"));
            for span in spans {
                scope_spans.message(2, |out| encode_span(out, &span));
            }
        });
    });
    request.into_bytes()
}

fn encode_span(out: &mut Message, span: &Span) {
    out.bytes(1, &span.trace.to_be_bytes());
    out.bytes(2, &span.id.to_be_bytes());
    if span.parent != 0 {
        out.bytes(4, &span.parent.to_be_bytes());
    }
    out.bytes(5, span.name.as_bytes());
    let kind = match span.kind {
        Kind::Server => 2,
        Kind::Client => 3,
    };
    out.integer(6, kind);
    out.fixed(7, span.start.saturating_mul(1_000));
    out.fixed(8, span.end.saturating_mul(1_000));
    attributes(out, 9, &span.attributes);
    for event in &span.events {
        out.message(11, |out| encode_event(out, event));
    }
    if let Some(error) = &span.error {
        out.message(15, |status| {
            status.bytes(2, error.as_bytes());
            status.integer(3, 2);
        });
    }
}

fn encode_event(out: &mut Message, event: &Event) {
    out.fixed(1, event.at.saturating_mul(1_000));
    out.bytes(2, event.name.as_bytes());
    attributes(out, 3, &event.attributes);
}

fn attributes(out: &mut Message, field: u32, attributes: &Attributes) {
    for (key, value) in attributes {
        attribute(out, field, key, value);
    }
}

fn attribute(out: &mut Message, field: u32, key: &str, value: &Value) {
    out.message(field, |pair| {
        pair.bytes(1, key.as_bytes());
        pair.message(2, |any| match value {
            Value::Text(text) => any.bytes(1, text.as_bytes()),
            Value::Whole(number) => any.choice(3, *number),
            Value::Number(number) => any.double(4, *number),
        });
    });
}

/// `message` as the only one of a gRPC call.
pub(in crate::observe) fn framed(message: &[u8], compressed: bool) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(message.len() + 5);
    frame.push(u8::from(compressed));
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value;
    use prost::Message as _;

    use super::super::spans::{build, tests::record};
    use super::*;

    #[test]
    fn the_official_definitions_read_what_is_written() {
        let (record, directories) = record();
        let spans = build(&record, &directories);
        let bytes = encode(spans.iter().cloned(), "gate-1");
        let request = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
        let all = &request.resource_spans[0];
        let resource = &all.resource.as_ref().unwrap().attributes;
        assert_eq!((&*resource[0].key, resource.len()), ("service.name", 3));
        let decoded = &all.scope_spans[0].spans;
        assert_eq!(decoded.len(), spans.len());
        for (decoded, span) in decoded.iter().zip(&spans) {
            assert_eq!(decoded.trace_id, span.trace.to_be_bytes());
            assert_eq!(decoded.span_id, span.id.to_be_bytes());
            assert_eq!(decoded.name, span.name);
            assert_eq!(decoded.start_time_unix_nano, span.start * 1_000);
            assert_eq!(decoded.end_time_unix_nano, span.end * 1_000);
            assert_eq!(decoded.events.len(), span.events.len());
            assert_eq!(decoded.attributes.len(), span.attributes.len());
            for (pair, (key, value)) in decoded.attributes.iter().zip(&span.attributes) {
                assert_eq!(pair.key, *key);
                let decoded = pair.value.as_ref().unwrap().value.as_ref().unwrap();
                match (decoded, value) {
                    (any_value::Value::StringValue(a), Value::Text(b)) => assert_eq!(a, b),
                    (any_value::Value::IntValue(a), Value::Whole(b)) => {
                        assert_eq!(a.cast_unsigned(), *b)
                    }
                    (any_value::Value::DoubleValue(a), Value::Number(b)) => {
                        assert_eq!(a.to_bits(), b.to_bits());
                    }
                    (a, b) => panic!("{key}: {a:?} for {b:?}"),
                }
            }
        }
        assert!(decoded[0].parent_span_id.is_empty());
        assert_eq!(decoded[1].parent_span_id, decoded[0].span_id);
        assert_eq!((decoded[0].kind, decoded[1].kind), (2, 3));
        assert_eq!(decoded[1].status.as_ref().unwrap().code, 2);
        assert!(decoded[2].status.is_none());
    }

    #[test]
    fn a_frame_tells_its_length() {
        assert_eq!(framed(b"abc", true), b"\x01\x00\x00\x00\x03abc");
    }
}
