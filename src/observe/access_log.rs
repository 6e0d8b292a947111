//! The access log's encoder: one JSON object a line, straight into a buffer.
//!
//! It is on the bill of every request, so it is written by hand: literals, a look at eight bytes at a time
//! for what JSON must escape, and each second's timestamp made once. A field without a value is `null`.
//! `total_ms` is the sum of the seven phases as printed, to the digit: each phase is cut to whole
//! microseconds first. Depends on the model and the exchange.

use std::time::Duration;

use super::exchange::{Exchange, Line};
use crate::model::{Outcome, Phase};

/// Whether an exchange is written whatever the sampling rate: it failed, was refused, or did not reach its
/// client whole.
#[must_use]
pub const fn is_remarkable(exchange: &Exchange) -> bool {
    exchange.status >= 500
        || exchange.reason.is_some()
        || !matches!(exchange.outcome, Outcome::Answered)
}

/// `micros` since the Unix epoch as RFC 3339 in UTC, with as many decimals as it has.
#[must_use]
pub fn rfc3339(micros: u64) -> String {
    let micros = i64::try_from(micros).unwrap_or(i64::MAX);
    let timestamp = jiff::Timestamp::from_microsecond(micros);
    timestamp.unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// Encodes lines; remembers the text of the last seconds.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    seconds: [Second; 16],
}

/// A second since the epoch and its text up to the decimal point. Zero stands for an empty slot.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    text: [u8; 20],
}

impl Encoder {
    /// Appends the line of one exchange, newline included, to `out`.
    pub fn encode(&mut self, out: &mut Vec<u8>, exchange: &Exchange, line: &Line<'_>) {
        out.reserve(768);
        self.timestamp(out, exchange.started);
        string(out, b",\"request_id\":\"", line.request_id);
        string(out, b",\"trace_id\":\"", line.trace_id);
        string(out, b",\"client\":\"", line.client);
        string(out, b",\"tier\":\"", line.tier);
        string(out, b",\"method\":\"", line.method);
        string(out, b",\"route\":\"", line.route);
        string(out, b",\"path\":\"", line.path);
        integer(out, b",\"status\":", u64::from(exchange.status));
        string(out, b",\"upstream\":\"", line.upstream);
        string(out, b",\"endpoint\":\"", line.endpoint);
        integer(out, b",\"attempts\":", u64::from(exchange.attempts));
        if let Some(reason) = exchange.reason {
            string(out, b",\"reason\":\"", reason.as_str());
            string(out, b",\"policy\":\"", reason.policy());
            out.extend_from_slice(b",\"cache\":null");
        } else {
            out.extend_from_slice(b",\"reason\":null,\"policy\":null,\"cache\":null");
        }
        integer(out, b",\"bytes_in\":", exchange.bytes_in);
        integer(out, b",\"bytes_out\":", exchange.bytes_out);
        phases(out, exchange);
        out.extend_from_slice(b",\"outcome\":\"");
        out.extend_from_slice(exchange.outcome.as_str().as_bytes());
        out.extend_from_slice(b"\"}\n");
    }

    fn timestamp(&mut self, out: &mut Vec<u8>, micros: u64) {
        let (number, part) = (micros / 1_000_000, micros % 1_000_000);
        out.extend_from_slice(b"{\"ts\":\"");
        let slot = usize::try_from(number % 16).unwrap_or(0);
        if let Some(second) = self.seconds.get_mut(slot) {
            if second.number != number || number == 0 {
                *second = Second::new(number);
            }
            out.extend_from_slice(&second.text);
        }
        let text = [
            digit(part / 100_000),
            digit(part / 10_000),
            digit(part / 1_000),
            digit(part / 100),
            digit(part / 10),
            digit(part),
            b'Z',
            b'"',
        ];
        out.extend_from_slice(&text);
    }
}

impl Second {
    #[cold]
    fn new(number: u64) -> Self {
        let mut text = *b"1970-01-01T00:00:00.";
        let formatted = rfc3339(number.saturating_mul(1_000_000));
        for (to, from) in text.iter_mut().zip(formatted.bytes()).take(19) {
            *to = from;
        }
        Self { number, text }
    }
}

fn phases(out: &mut Vec<u8>, exchange: &Exchange) {
    let micros = Phase::ALL.map(|phase| whole_micros(exchange.phases.get(phase)));
    let total = micros
        .iter()
        .fold(0_u64, |sum, part| sum.saturating_add(*part));
    let [receive, decide, queue, connect, wait, body, deliver] = micros;
    milliseconds(out, b",\"total_ms\":", total);
    milliseconds(out, b",\"receive_ms\":", receive);
    milliseconds(out, b",\"decide_ms\":", decide);
    milliseconds(out, b",\"queue_ms\":", queue);
    milliseconds(out, b",\"connect_ms\":", connect);
    milliseconds(out, b",\"wait_ms\":", wait);
    milliseconds(out, b",\"body_ms\":", body);
    milliseconds(out, b",\"deliver_ms\":", deliver);
}

const fn whole_micros(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000);
    seconds.saturating_add(duration.subsec_micros() as u64)
}

/// The last decimal digit of `n`.
const fn digit(n: u64) -> u8 {
    b'0' + (n % 10) as u8
}

// The labels' lengths are known to the compiler, so that copying one is a few moves and not a call.

#[inline]
fn milliseconds<const N: usize>(out: &mut Vec<u8>, label: &[u8; N], micros: u64) {
    let (whole, part) = (micros / 1_000, micros % 1_000);
    let decimals = [digit(part / 100), digit(part / 10), digit(part)];
    if whole < 10 {
        let [a, b, c] = decimals;
        out.extend_from_slice(label);
        out.extend_from_slice(&[digit(whole), b'.', a, b, c]);
    } else {
        integer(out, label, whole);
        out.push(b'.');
        out.extend_from_slice(&decimals);
    }
}

#[inline]
fn integer<const N: usize>(out: &mut Vec<u8>, label: &[u8; N], n: u64) {
    out.extend_from_slice(label);
    match n {
        0..10 => out.push(digit(n)),
        100..1_000 => out.extend_from_slice(&[digit(n / 100), digit(n / 10), digit(n)]),
        _ => out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes()),
    }
}

/// The label ends with the opening quote.
#[inline]
fn string<const N: usize>(out: &mut Vec<u8>, label: &[u8; N], value: &str) {
    out.extend_from_slice(label);
    if value.is_empty() {
        out.pop();
        out.extend_from_slice(b"null");
        return;
    }
    if must_escape(value.as_bytes()) {
        escape(out, value);
    } else {
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b'"');
}

/// Whether JSON forbids a byte of `bytes` within a string: controls, the quote, the backslash.
fn must_escape(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut found = 0;
    for word in words {
        found |= forbidden(u64::from_le_bytes(*word));
    }
    // The tail once more with some bytes before it costs less than byte by byte.
    if let (false, Some(last)) = (rest.is_empty(), bytes.last_chunk::<8>()) {
        found |= forbidden(u64::from_le_bytes(*last));
        return found != 0;
    }
    found != 0 || rest.iter().any(|b| *b < 0x20 || *b == b'"' || *b == b'\\')
}

/// Not zero if one of the eight bytes is forbidden. A borrow may mark bytes above a forbidden one, never
/// without one.
const fn forbidden(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    ((word.wrapping_sub(ONES * 0x20) & !word)
        | (quote.wrapping_sub(ONES) & !quote)
        | (backslash.wrapping_sub(ONES) & !backslash))
        & HIGH
}

#[cold]
fn escape(out: &mut Vec<u8>, value: &str) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x00..0x20 => {
                let low = HEX.get(usize::from(byte & 0xF)).copied();
                let high = b'0' + (byte >> 4);
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[high, low.unwrap_or(b'0')]);
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::model::{Phases, Reason};
    use crate::observe::tables::tests::{answered, refused};

    pub(crate) fn line(path: &str) -> Line<'_> {
        Line {
            request_id: "0195f6a1-7c3e-7b11-a4d3-0242ac120002",
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736",
            client: "198.51.100.7",
            tier: "standard",
            method: "GET",
            route: "orders",
            path,
            upstream: "orders",
            endpoint: "10.0.0.1:8080",
        }
    }

    fn encoded(exchange: &Exchange, line: &Line<'_>) -> String {
        let mut out = Vec::new();
        Encoder::default().encode(&mut out, exchange, line);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_the_fields_of_the_contract_in_order() {
        let text = encoded(&answered(), &line("/orders/1"));
        assert_eq!(
            text,
            "{\"ts\":\"2026-09-21T14:13:20.123456Z\",\
             \"request_id\":\"0195f6a1-7c3e-7b11-a4d3-0242ac120002\",\
             \"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"client\":\"198.51.100.7\",\
             \"tier\":\"standard\",\"method\":\"GET\",\"route\":\"orders\",\"path\":\"/orders/1\",\
             \"status\":200,\"upstream\":\"orders\",\"endpoint\":\"10.0.0.1:8080\",\"attempts\":1,\
             \"reason\":null,\"policy\":null,\"cache\":null,\"bytes_in\":10,\"bytes_out\":1000,\
             \"total_ms\":21.000,\"receive_ms\":1.000,\"decide_ms\":2.000,\"queue_ms\":3.000,\
             \"connect_ms\":4.000,\"wait_ms\":4.000,\"body_ms\":4.000,\"deliver_ms\":3.000,\
             \"outcome\":\"answered\"}\n"
        );
    }

    #[test]
    fn what_is_absent_is_null_and_what_decided_is_named() {
        let bare = Line {
            trace_id: "",
            route: "",
            upstream: "",
            endpoint: "",
            ..line("/")
        };
        let value: Value = serde_json::from_str(&encoded(&refused(), &bare)).unwrap();
        for field in ["trace_id", "route", "upstream", "endpoint", "cache"] {
            assert_eq!(value[field], Value::Null, "{field}");
        }
        assert_eq!(value["reason"], "no_route");
        assert_eq!(value["policy"], Reason::NoRoute.policy());
        assert_eq!(value["outcome"], "refused");
    }

    #[test]
    fn timestamps_of_interleaved_seconds_are_right() {
        let mut encoder = Encoder::default();
        for micros in [
            0,
            5_999_999,
            16_000_000,
            5_000_001,
            0,
            1_790_000_000_000_000,
        ] {
            let mut out = Vec::new();
            encoder.timestamp(&mut out, micros);
            let text = String::from_utf8(out).unwrap();
            let parsed: jiff::Timestamp = text
                .trim_start_matches("{\"ts\":")
                .trim_matches('"')
                .parse()
                .unwrap();
            assert_eq!(parsed.as_microsecond().cast_unsigned(), micros);
        }
    }

    #[test]
    fn only_failures_refusals_and_broken_answers_are_remarkable() {
        assert!(!is_remarkable(&answered()));
        assert!(is_remarkable(&refused()));
        let gone = Exchange {
            outcome: Outcome::ClientGone,
            ..answered()
        };
        assert!(is_remarkable(&gone));
        let failed = Exchange {
            status: 500,
            ..answered()
        };
        assert!(is_remarkable(&failed));
        let missing = Exchange {
            status: 404,
            ..answered()
        };
        assert!(!is_remarkable(&missing));
    }

    proptest! {
        #[test]
        fn any_text_survives_the_encoding(
            path in "[\\x00-\\x7f\u{80}-\u{2fff}\u{10000}-\u{10050}]{0,40}",
            client in "\\PC*",
            method in "[A-Z\"\\\\\\x00-\\x1f]{1,9}",
        ) {
            let line = Line { client: &client, method: &method, ..line(&path) };
            let text = encoded(&answered(), &line);
            prop_assert_eq!(text.matches('\n').count(), 1);
            let value: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(value["path"].as_str().unwrap_or_default(), &path);
            prop_assert_eq!(value["client"].as_str().unwrap_or_default(), &client);
            prop_assert_eq!(value["method"].as_str().unwrap_or_default(), &method);
        }

        #[test]
        fn the_look_at_eight_bytes_equals_the_look_at_one(bytes in proptest::collection::vec(
            prop_oneof![Just(b'"'), Just(b'\\'), Just(0x1f), Just(0x20), Just(b'!'), Just(b'['), any::<u8>()],
            0..24,
        )) {
            let slow = bytes.iter().any(|b| *b < 0x20 || *b == b'"' || *b == b'\\');
            prop_assert_eq!(must_escape(&bytes), slow);
        }

        #[test]
        fn the_printed_phases_sum_to_the_printed_total(
            nanos in proptest::array::uniform7(0_u64..100_000_000_000),
        ) {
            let mut exchange = answered();
            exchange.phases = Phases::default();
            for (phase, nanos) in Phase::ALL.into_iter().zip(nanos) {
                exchange.phases.add(phase, Duration::from_nanos(nanos));
            }
            let text = encoded(&exchange, &line("/"));
            let printed = |field: &str| -> u64 {
                let (_, rest) = text.split_once(&format!("\"{field}_ms\":")).unwrap();
                let (number, _) = rest.split_once(',').unwrap();
                let (whole, part) = number.split_once('.').unwrap();
                assert_eq!(part.len(), 3);
                whole.parse::<u64>().unwrap() * 1_000 + part.parse::<u64>().unwrap()
            };
            let sum: u64 = Phase::ALL.iter().map(|phase| printed(phase.as_str())).sum();
            prop_assert_eq!(printed("total"), sum);
        }
    }
}
