//! Trace contexts as they are sent from one to the next: W3C Trace Context, and Zipkin's B3 in both its forms.
//!
//! What is malformed is no context, as both specifications say. Depends on nothing.

/// Where the context of a request came from, and so how it is passed on besides `traceparent`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forms {
    /// In one `b3` field.
    pub b3_single: bool,
    /// In `x-b3-` fields.
    pub b3_multi: bool,
}

/// The place of a request in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace; never 0.
    pub trace: u128,
    /// The span of whoever sent the request; 0: nobody named one.
    pub parent: u64,
    /// The span of the request here; never 0.
    pub span: u64,
    /// Whether the trace is kept, as decided where it began.
    pub sampled: bool,
    /// Whether somebody else decided that.
    pub inherited: bool,
    /// In which forms it came.
    pub forms: Forms,
}

/// What somebody else says of a request's trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The trace; never 0.
    pub trace: u128,
    /// Their span; never 0.
    pub span: u64,
    /// Whether the trace is kept; none: that is left to us.
    pub sampled: Option<bool>,
}

impl Remote {
    /// From `traceparent`: version, trace, parent, flags (W3C Trace Context, section 3.2).
    #[must_use]
    pub fn from_traceparent(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_at_checked(55)?;
        let [version, trace, span, flags] = fields(head, [2, 32, 16, 2])?;
        // Version 0 ends here; what later ones add follows after another dash.
        let ends = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        let sampled = Some(flags & 1 == 1);
        ends.then(|| Self::new(trace, span, sampled))?
    }

    /// From a single `b3` field: trace, span and, maybe, the decision and a parent.
    #[must_use]
    pub fn from_b3(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.split('-');
        let (trace, span) = (parts.next()?, parts.next()?);
        let sampled = parts.next();
        Self::from_b3_parts(trace, span, sampled, None)
    }

    /// From the parts of B3: `x-b3-traceid`, `x-b3-spanid`, `x-b3-sampled`, `x-b3-flags`.
    #[must_use]
    pub fn from_b3_parts(
        trace: &str,
        span: &str,
        sampled: Option<&str>,
        flags: Option<&str>,
    ) -> Option<Self> {
        let wide = matches!(trace.len(), 16 | 32) && span.len() == 16;
        let trace = hex(trace.as_bytes()).filter(|_| wide)?;
        let span = hex(span.as_bytes())?;
        let sampled = match (sampled, flags) {
            (_, Some("1")) | (Some("1" | "d" | "true"), _) => Some(true),
            (Some("0" | "false"), _) => Some(false),
            _ => None,
        };
        Self::new(trace, span, sampled)
    }

    fn new(trace: u128, span: u128, sampled: Option<bool>) -> Option<Self> {
        let span = u64::try_from(span).ok()?;
        (trace != 0 && span != 0).then_some(Self {
            trace,
            span,
            sampled,
        })
    }
}

/// The value of lowercase hex digits.
fn hex(text: &[u8]) -> Option<u128> {
    let digit = |byte: &u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut digits = text.iter().map(digit);
    digits.try_fold(0, |number, digit| Some(number << 4 | u128::from(digit?)))
}

/// The values of hex fields of these lengths with a dash between each two.
fn fields<const N: usize>(text: &[u8], lengths: [usize; N]) -> Option<[u128; N]> {
    let mut values = [0; N];
    let mut rest = text;
    for (index, (value, length)) in values.iter_mut().zip(lengths).enumerate() {
        if index > 0 {
            rest = rest.strip_prefix(b"-")?;
        }
        let (digits, after) = rest.split_at_checked(length)?;
        *value = hex(digits)?;
        rest = after;
    }
    Some(values)
}

impl Context {
    /// Goes on with `remote`, or begins a trace of which a `sample` of all is kept. `random` is uniform.
    #[must_use]
    pub fn begin(remote: Option<Remote>, forms: Forms, sample: f64, random: [u64; 3]) -> Self {
        let [high, low, span] = random;
        let fresh = (u128::from(high) << 64 | u128::from(low)).max(1);
        let trace = remote.map_or(fresh, |remote| remote.trace);
        let inherited = remote.and_then(|remote| remote.sampled);
        Self {
            trace,
            parent: remote.map_or(0, |remote| remote.span),
            span: span.max(1),
            sampled: inherited.unwrap_or_else(|| is_within(trace, sample)),
            inherited: inherited.is_some(),
            forms,
        }
    }

    /// The span of the attempt with this number. Derived, so that nobody need remember it.
    #[must_use]
    pub fn attempt(&self, number: u8) -> u64 {
        let step = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.span ^ step).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ mixed >> 29).max(1)
    }

    /// The trace in hex.
    #[must_use]
    pub fn trace_id(&self) -> [u8; 32] {
        trace_id(self.trace)
    }

    /// `traceparent` with `span` for the parent.
    #[must_use]
    pub fn traceparent(&self, span: u64) -> Vec<u8> {
        let mut text = Vec::with_capacity(55);
        text.extend_from_slice(b"00-");
        text.extend_from_slice(&self.trace_id());
        text.push(b'-');
        text.extend_from_slice(&hex_digits(span));
        text.extend_from_slice(if self.sampled { b"-01" } else { b"-00" });
        text
    }

    /// `b3` with `span` for the span.
    #[must_use]
    pub fn b3(&self, span: u64) -> Vec<u8> {
        let sampled = if self.sampled { b"-1" } else { b"-0" };
        [&self.trace_id()[..], b"-", &hex_digits(span), sampled].concat()
    }
}

/// A trace in hex.
#[must_use]
pub fn trace_id(trace: u128) -> [u8; 32] {
    let [low, high] = halves(trace);
    let mut text = [0; 32];
    for (to, from) in text.as_chunks_mut::<16>().0.iter_mut().zip([high, low]) {
        *to = hex_digits(from);
    }
    text
}

/// The last 64 bits and the first.
#[must_use]
pub fn halves(trace: u128) -> [u64; 2] {
    [trace, trace >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0))
}

/// A span in hex. Every request with a trace is written some: eight digits at a time.
#[must_use]
pub fn hex_digits(value: u64) -> [u8; 16] {
    let mut text = [0; 16];
    let parts = text.as_chunks_mut::<8>().0.iter_mut();
    for (to, part) in parts.zip([value >> 32, value & 0xFFFF_FFFF]) {
        // A digit into each byte,
        let spread = (part | part << 16) & 0x0000_FFFF_0000_FFFF;
        let spread = (spread | spread << 8) & 0x00FF_00FF_00FF_00FF;
        let spread = (spread | spread << 4) & 0x0F0F_0F0F_0F0F_0F0F;
        // and 1 for each that is a letter.
        let letters = (spread + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        let after_nine = u64::from(b'a' - b'9' - 1);
        *to = (spread + 0x3030_3030_3030_3030 + letters * after_nine).to_be_bytes();
    }
    text
}

/// Whether `trace` is among the `share` that is kept: by its last 56 bits, which are random, so that everybody who
/// keeps a larger share keeps it too.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
pub fn is_within(trace: u128, share: f64) -> bool {
    const BITS: u128 = 1 << 56;
    ((trace % BITS) as f64) < share * BITS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;

    #[test]
    fn a_traceparent_is_read_and_written() {
        let remote = Remote::from_traceparent(PARENT.as_bytes()).unwrap();
        assert_eq!(remote.trace, TRACE);
        assert_eq!(
            (remote.span, remote.sampled),
            (0x00f0_67aa_0ba9_02b7, Some(true))
        );
        let context = Context::begin(Some(remote), Forms::default(), 0.0, [1, 2, 3]);
        assert_eq!(context.traceparent(remote.span), PARENT.as_bytes());
        assert_eq!(
            context.b3(remote.span),
            b"4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1"
        );
        assert_eq!((context.parent, context.span), (remote.span, 3));
        let later = format!("01{}-more", &PARENT[2..]);
        assert_eq!(Remote::from_traceparent(later.as_bytes()), Some(remote));
    }

    #[test]
    fn a_malformed_traceparent_is_none() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Remote::from_traceparent(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn b3_is_read_in_both_forms() {
        let single = |text: &str| Remote::from_b3(text.as_bytes());
        let whole = single("4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1-05e3ac9a4f6e3b90");
        let expected = Remote {
            trace: TRACE,
            span: 0x00f0_67aa_0ba9_02b7,
            sampled: Some(true),
        };
        assert_eq!(whole, Some(expected));
        let short = single("a3ce929d0e0e4736-00f067aa0ba902b7").unwrap();
        assert_eq!((short.trace, short.sampled), (0xa3ce_929d_0e0e_4736, None));
        for bad in [
            "0",
            "1",
            "d",
            "a3ce-00f067aa0ba902b7-1",
            "a3ce929d0e0e4736-0-1",
        ] {
            assert_eq!(single(bad), None, "{bad}");
        }
        let parts = |sampled, flags| {
            let (trace, span) = ("a3ce929d0e0e4736", "00f067aa0ba902b7");
            Remote::from_b3_parts(trace, span, sampled, flags)
                .unwrap()
                .sampled
        };
        assert_eq!(parts(Some("0"), None), Some(false));
        assert_eq!(parts(Some("0"), Some("1")), Some(true));
        assert_eq!(parts(None, None), None);
    }

    #[test]
    fn the_share_kept_is_the_share_asked_for_and_a_larger_one_holds_it() {
        let mut rng = fastrand::Rng::with_seed(7);
        let traces: Vec<u128> = (0..10_000).map(|_| rng.u128(..)).collect();
        let kept = |share| {
            traces
                .iter()
                .filter(|trace| is_within(**trace, share))
                .count()
        };
        assert_eq!((kept(0.0), kept(1.0)), (0, 10_000));
        assert!((900..1_100).contains(&kept(0.1)), "{}", kept(0.1));
        assert!(
            traces
                .iter()
                .all(|t| !is_within(*t, 0.1) || is_within(*t, 0.2))
        );
    }

    #[test]
    fn what_the_sender_decided_stands() {
        let remote = |sampled| Remote {
            trace: TRACE,
            span: 1,
            sampled,
        };
        let begin = |remote, share| Context::begin(remote, Forms::default(), share, [9, 9, 9]);
        assert!(begin(Some(remote(Some(true))), 0.0).sampled);
        assert!(!begin(Some(remote(Some(false))), 1.0).sampled);
        assert!(begin(Some(remote(None)), 1.0).sampled && begin(None, 1.0).sampled);
        assert!(!begin(Some(remote(None)), 0.0).sampled);
    }

    #[test]
    fn attempts_have_spans_of_their_own() {
        let context = Context::begin(None, Forms::default(), 1.0, [1, 2, 3]);
        let spans: std::collections::BTreeSet<u64> = (1..=9).map(|n| context.attempt(n)).collect();
        assert_eq!(spans.len(), 9);
        assert!(!spans.contains(&context.span));
    }

    #[test]
    fn hex_is_as_the_standard_library_writes_it() {
        let mut rng = fastrand::Rng::with_seed(3);
        let random = std::iter::repeat_with(|| rng.u128(..)).take(1_000);
        for trace in random.chain([0, 0x0123_4567_89ab_cdef, u128::MAX, TRACE]) {
            assert_eq!(trace_id(trace), format!("{trace:032x}").as_bytes());
        }
    }
}
