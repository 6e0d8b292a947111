//! Zipkin's JSON, version 2: spans as a list, every tag a text, events as annotations.

use serde::Serializer as _;
use serde_json::{Map, Value as Json, json};

use super::spans::{Attributes, Event, Kind, Span, Value};

/// The list that sends `spans` on.
pub(in crate::observe) fn encode(spans: impl Iterator<Item = Span>) -> Vec<u8> {
    let mut list = Vec::new();
    let written = serde_json::Serializer::new(&mut list).collect_seq(spans.map(|one| span(&one)));
    written.map_or_else(|_| Vec::new(), |()| list)
}

fn span(span: &Span) -> Json {
    let mut tags = tags(&span.attributes);
    if let Some(error) = &span.error {
        tags.insert("error".into(), Json::from(error.as_ref()));
    }
    let mut out = json!({
        "traceId": format!("{:032x}", span.trace),
        "id": format!("{:016x}", span.id),
        "name": span.name,
        "kind": match span.kind {
            Kind::Server => "SERVER",
            Kind::Client => "CLIENT",
        },
        "timestamp": span.start,
        // At least 1, by Zipkin's model.
        "duration": span.end.saturating_sub(span.start).max(1),
        "localEndpoint": { "serviceName": "tidegate" },
        "tags": tags,
    });
    if let Some(object) = out.as_object_mut() {
        if span.parent != 0 {
            object.insert("parentId".into(), format!("{:016x}", span.parent).into());
        }
        if !span.events.is_empty() {
            let events: Vec<Json> = span.events.iter().map(annotation).collect();
            object.insert("annotations".into(), events.into());
        }
        if let Some(remote) = remote(span) {
            object.insert("remoteEndpoint".into(), remote);
        }
    }
    out
}

/// The upstream, of an attempt.
fn remote(span: &Span) -> Option<Json> {
    let find = |key| {
        span.attributes
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    };
    if span.kind == Kind::Server {
        return None;
    }
    let mut remote = Map::new();
    if let Some(Value::Text(name)) = find("tidegate.upstream") {
        remote.insert("serviceName".into(), name.as_ref().into());
    }
    if let Some(Value::Text(address)) = find("server.address") {
        let address = address.trim_matches(['[', ']']);
        match address.parse() {
            Ok(std::net::IpAddr::V4(_)) => remote.insert("ipv4".into(), address.into()),
            Ok(std::net::IpAddr::V6(_)) => remote.insert("ipv6".into(), address.into()),
            Err(_a_name) => None,
        };
    }
    if let Some(Value::Whole(port)) = find("server.port") {
        remote.insert("port".into(), (*port).into());
    }
    Some(Json::Object(remote))
}

fn tags(attributes: &Attributes) -> Map<String, Json> {
    let tags = attributes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), shown(value).into()));
    tags.collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        Value::Whole(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
    }
}

fn annotation(event: &Event) -> Json {
    let attributes = event.attributes.iter();
    let attributes: Vec<String> = attributes
        .map(|(key, value)| format!("{}={}", key.trim_start_matches("tidegate."), shown(value)))
        .collect();
    json!({ "timestamp": event.at, "value": format!("{} {}", event.name, attributes.join(" ")) })
}

#[cfg(test)]
mod tests {
    use super::super::spans::{build, tests::record};
    use super::*;

    #[test]
    fn spans_are_a_list_as_zipkin_describes_it() {
        let (record, directories) = record();
        let spans = build(&record, &directories);
        let list: Json = serde_json::from_slice(&encode(spans.into_iter())).unwrap();
        let (server, first) = (&list[0], &list[1]);
        assert_eq!(server["traceId"], "00000000000000010000000000000002");
        assert_eq!(
            (&server["id"], &server["kind"]),
            (&"0000000000000003".into(), &"SERVER".into())
        );
        assert_eq!(
            (&server["duration"], &server["parentId"]),
            (&21_000.into(), &Json::Null)
        );
        assert!(
            server["annotations"][0]["value"]
                .as_str()
                .unwrap()
                .starts_with("queue decision=waited")
        );
        assert_eq!(first["parentId"], server["id"]);
        let expected = json!({ "serviceName": "orders", "ipv4": "10.0.0.1", "port": 8_080 });
        assert_eq!(first["remoteEndpoint"], expected);
        assert_eq!(first["tags"]["error"], "upstream_reset");
        assert!(
            first["tags"]
                .as_object()
                .unwrap()
                .values()
                .all(Json::is_string)
        );
    }
}
