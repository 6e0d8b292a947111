//! The access log's encoder: one JSON object a line, straight into a buffer.
//!
//! It is on the bill of every request, so it is written by hand: literals, a look at eight bytes at a time
//! for what JSON must escape, and each second's timestamp made once. A field without a value is `null`.
//! `total_ms` is the sum of the seven phases as printed, to the digit: each phase is cut to whole
//! microseconds first. Depends on the model and the exchange.

use std::time::Duration;

use super::exchange::{Exchange, Line};
use crate::model::{CacheResult, Outcome, Phase};

/// Whether an exchange is written whatever the sampling rate: it failed, was refused, was answered
/// with something stale, or did not reach its client whole.
#[must_use]
pub const fn is_remarkable(exchange: &Exchange) -> bool {
    exchange.status >= 500
        || exchange.reason.is_some()
        || matches!(exchange.cache, Some(CacheResult::Stale))
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
    scratch: Vec<u8>,
}

/// A second since the epoch and its text up to the decimal point. Zero stands for an empty slot.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    text: [u8; 20],
}

/// More than a line takes without its texts.
const FIXED: usize = 1_024;
/// A scratch buffer beyond this is given back after its line.
const MAX_SCRATCH: usize = 16 << 10;
/// What one byte becomes at most: `\u00XX`.
const ESCAPED: usize = 6;

impl Encoder {
    /// Appends the line of one exchange, newline included, to `out`.
    pub fn encode(&mut self, out: &mut Vec<u8>, exchange: &Exchange, line: &Line<'_>) {
        let texts = [
            line.request_id,
            line.trace_id,
            line.client,
            line.tier,
            line.method,
            line.route,
            line.path,
            line.upstream,
            line.endpoint,
        ];
        let size: usize = texts.iter().map(|text| text.len()).sum();
        let must_escape = texts.iter().any(|text| must_escape(text.as_bytes()));
        let room = FIXED + if must_escape { ESCAPED * size } else { size };
        if self.scratch.len() < room {
            self.scratch.resize(room, 0);
        }
        let second = self.second(exchange.started / 1_000_000);
        let mut cursor = Cursor {
            rest: &mut self.scratch,
            must_escape,
        };
        let part = u32::try_from(exchange.started % 1_000_000).unwrap_or(0);
        cursor.timestamp(&second, part);
        cursor.fields(exchange, line);
        let left = cursor.rest.len();
        let written = self.scratch.len() - left;
        out.extend_from_slice(self.scratch.get(..written).unwrap_or_default());
        if room > MAX_SCRATCH {
            self.scratch = Vec::new();
        }
    }

    fn second(&mut self, number: u64) -> [u8; 20] {
        let slot = usize::try_from(number % 16).unwrap_or(0);
        let Some(second) = self.seconds.get_mut(slot) else {
            return [0; 20];
        };
        if second.number != number || number == 0 {
            *second = Second::new(number);
        }
        second.text
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

const fn whole_micros(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000);
    seconds.saturating_add(duration.subsec_micros() as u64)
}

/// The decimal digits of `n`, which is below 1000.
#[inline(always)]
const fn digits(n: u32) -> [u8; 3] {
    let (hundreds, rest) = (n / 100, n % 100);
    let (tens, ones) = (rest / 10, rest % 10);
    [digit(hundreds), digit(tens), digit(ones)]
}

#[inline(always)]
const fn digit(n: u32) -> u8 {
    b'0' + (n & 0xF) as u8
}

/// Writes into a slice that is known to be long enough, which a vector would check, and note its new
/// length in memory, for each of seventy pieces. Labels are arrays, so that copying one is a few moves and
/// not a call.
struct Cursor<'a> {
    rest: &'a mut [u8],
    /// Some text of the line holds a byte that JSON forbids.
    must_escape: bool,
}

impl Cursor<'_> {
    #[inline(always)]
    fn put<const N: usize>(&mut self, bytes: &[u8; N]) {
        let rest = std::mem::take(&mut self.rest);
        if let Some((head, rest)) = rest.split_first_chunk_mut::<N>() {
            *head = *bytes;
            self.rest = rest;
        }
    }

    #[inline(always)]
    fn put_slice(&mut self, bytes: &[u8]) {
        let rest = std::mem::take(&mut self.rest);
        if let Some((head, rest)) = rest.split_at_mut_checked(bytes.len()) {
            head.copy_from_slice(bytes);
            self.rest = rest;
        }
    }

    #[inline(always)]
    fn timestamp(&mut self, second: &[u8; 20], part: u32) {
        self.put(b"{\"ts\":\"");
        self.put(second);
        self.put(&digits(part / 1_000));
        self.put(&digits(part % 1_000));
        self.put(b"Z\"");
    }

    #[inline(always)]
    fn fields(&mut self, exchange: &Exchange, line: &Line<'_>) {
        self.string(b",\"request_id\":", line.request_id);
        self.string(b",\"trace_id\":", line.trace_id);
        self.string(b",\"client\":", line.client);
        self.string(b",\"tier\":", line.tier);
        self.string(b",\"method\":", line.method);
        self.string(b",\"route\":", line.route);
        self.string(b",\"path\":", line.path);
        self.integer(b",\"status\":", u64::from(exchange.status));
        self.string(b",\"upstream\":", line.upstream);
        self.string(b",\"endpoint\":", line.endpoint);
        self.integer(b",\"attempts\":", u64::from(exchange.attempts));
        if let Some(reason) = exchange.reason {
            self.string(b",\"reason\":", reason.as_str());
            self.string(b",\"policy\":", reason.policy());
        } else {
            self.put(b",\"reason\":null,\"policy\":null");
        }
        self.string(
            b",\"cache\":",
            exchange.cache.map_or("", CacheResult::as_str),
        );
        self.integer(b",\"bytes_in\":", exchange.bytes_in);
        self.integer(b",\"bytes_out\":", exchange.bytes_out);
        self.phases(exchange);
        self.string(b",\"outcome\":", exchange.outcome.as_str());
        self.put(b"}\n");
    }

    #[inline(always)]
    fn phases(&mut self, exchange: &Exchange) {
        let micros = Phase::ALL.map(|phase| whole_micros(exchange.phases.get(phase)));
        let total = micros
            .iter()
            .fold(0_u64, |sum, part| sum.saturating_add(*part));
        let [receive, decide, queue, connect, wait, body, deliver] = micros;
        self.milliseconds(b",\"total_ms\":", total);
        self.milliseconds(b",\"receive_ms\":", receive);
        self.milliseconds(b",\"decide_ms\":", decide);
        self.milliseconds(b",\"queue_ms\":", queue);
        self.milliseconds(b",\"connect_ms\":", connect);
        self.milliseconds(b",\"wait_ms\":", wait);
        self.milliseconds(b",\"body_ms\":", body);
        self.milliseconds(b",\"deliver_ms\":", deliver);
    }

    #[inline(always)]
    fn milliseconds<const N: usize>(&mut self, label: &[u8; N], micros: u64) {
        let (whole, part) = u32::try_from(micros).map_or_else(
            |_too_large| (micros / 1_000, u32::try_from(micros % 1_000).unwrap_or(0)),
            |micros| (u64::from(micros / 1_000), micros % 1_000),
        );
        let [a, b, c] = digits(part);
        if whole < 10 {
            self.put(label);
            let whole = digit(u32::try_from(whole).unwrap_or(0));
            self.put(&[whole, b'.', a, b, c]);
        } else {
            self.integer(label, whole);
            self.put(&[b'.', a, b, c]);
        }
    }

    #[inline(always)]
    fn integer<const N: usize>(&mut self, label: &[u8; N], n: u64) {
        self.put(label);
        match u32::try_from(n) {
            Ok(n @ 0..10) => self.put(&[digit(n)]),
            Ok(n @ 100..1_000) => self.put(&digits(n)),
            _ => self.put_slice(itoa::Buffer::new().format(n).as_bytes()),
        }
    }

    #[inline(always)]
    fn string<const N: usize>(&mut self, label: &[u8; N], value: &str) {
        self.put(label);
        if value.is_empty() {
            return self.put(b"null");
        }
        self.put(b"\"");
        if self.must_escape {
            self.rest = escape(std::mem::take(&mut self.rest), value);
        } else {
            self.put_slice(value.as_bytes());
        }
        self.put(b"\"");
    }
}

/// Writes `value` and returns what is left of `rest`. Takes the slice, not the cursor, which can so stay in
/// registers.
#[cold]
fn escape<'a>(rest: &'a mut [u8], value: &str) -> &'a mut [u8] {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    let mut cursor = Cursor {
        rest,
        must_escape: true,
    };
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => cursor.put(&[b'\\', byte]),
            b'\n' => cursor.put(b"\\n"),
            b'\r' => cursor.put(b"\\r"),
            b'\t' => cursor.put(b"\\t"),
            0x00..0x20 => {
                let low = HEX.get(usize::from(byte & 0xF)).copied();
                let high = b'0' + (byte >> 4);
                cursor.put(b"\\u00");
                cursor.put(&[high, low.unwrap_or(b'0')]);
            }
            _ => cursor.put(&[byte]),
        }
    }
    cursor.rest
}

/// Whether JSON forbids a byte of `bytes` within a string: controls, the quote, the backslash.
fn must_escape(bytes: &[u8]) -> bool {
    const BLANKS: u64 = 0x2020_2020_2020_2020;
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
    let word = rest
        .iter()
        .fold(BLANKS, |word, byte| word << 8 | u64::from(*byte));
    found | forbidden(word) != 0
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

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::model::{Phases, Reason};
    use crate::observe::tables::tests::{answered, refused};
    use crate::observe::why::Trail;

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
            trail: const { &Trail::new() },
            trace: None,
            told: &[],
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
            let exchange = Exchange {
                started: micros,
                ..answered()
            };
            encoder.encode(&mut out, &exchange, &line("/"));
            let value: Value = serde_json::from_slice(&out).unwrap();
            let parsed: jiff::Timestamp = value["ts"].as_str().unwrap().parse().unwrap();
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

    #[test]
    fn the_largest_numbers_and_the_longest_texts_have_room() {
        let long = "\u{1}".repeat(70_000);
        let mut exchange = refused();
        exchange.started = u64::MAX;
        (exchange.status, exchange.attempts) = (u16::MAX, u8::MAX);
        (exchange.bytes_in, exchange.bytes_out) = (u64::MAX, u64::MAX);
        for phase in Phase::ALL {
            exchange
                .phases
                .add(phase, Duration::from_secs(u64::MAX / 8));
        }
        let text = encoded(&exchange, &line(&long));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["path"].as_str().unwrap(), long);
        assert_eq!(value["bytes_out"], u64::MAX);
        assert_eq!(value["outcome"], "refused");
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
