//! The guard against whole and cut streams, good and bad ones.

use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 1_024,
    fields: 10,
};

fn feed(text: &str) -> Progress {
    Guard::new(LIMITS).feed(text.as_bytes())
}

fn refused(text: &str) -> u16 {
    match feed(text) {
        Progress::Refused(0, violation) => violation.status,
        other => panic!("{text:?} was not refused but {other:?}"),
    }
}

#[test]
fn well_formed_messages_pass() {
    for text in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost:b\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n0\r\nT: v\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n00A\r\n0123456789\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(feed(text), Progress::Clean, "{text:?}");
    }
}

#[test]
fn ambiguous_framing_is_refused() {
    let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: 0x5",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:\u{b}chunked",
        "X: 1\r\n folded",
        "X: a\rb",
        "X: a\0b",
        "Host: b",
        "X: 1\nY: 2",
    ] {
        assert_eq!(refused(&head(fields)), 400, "{fields:?}");
    }
    assert_eq!(refused(&head("Transfer-Encoding: gzip, chunked")), 501);
    assert_eq!(
        refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        400
    );
    assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), 400);
}

#[test]
fn malformed_request_lines_are_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /",
        "GET / x HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / http/1.1",
    ] {
        assert_eq!(
            refused(&format!("{line}\r\nHost: a\r\n\r\n")),
            400,
            "{line:?}"
        );
    }
    assert_eq!(refused("GET / HTTP/3.0\r\nHost: a\r\n\r\n"), 505);
    assert_eq!(refused("GET / HTTP/1.1\nHost: a\n\n"), 400);
}

#[test]
fn bounds_on_heads_hold() {
    let many = "X: 1\r\n".repeat(20);
    assert_eq!(
        refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n")),
        431
    );
    let long = "x".repeat(2_000);
    assert_eq!(
        refused(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n")),
        431
    );
    assert_eq!(
        refused(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}")),
        431
    );
}

#[test]
fn a_bad_chunk_takes_its_whole_message_back_but_not_the_one_before() {
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for chunk in [
        "0x5\r\nhello",
        "-1\r\n",
        "5 \r\nhello",
        "5\nhello",
        "fffffffffffffffff\r\n",
        "5\r\nhelloo\r\n",
        "\r\n",
    ] {
        let text = format!(
            "{good}POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
        );
        let Progress::Refused(at, violation) = feed(&text) else {
            panic!("{chunk:?} passed")
        };
        assert_eq!((at, violation.status), (good.len(), 400), "{chunk:?}");
    }
}

#[test]
fn a_bad_chunk_in_a_later_read_breaks_the_message() {
    let mut guard = Guard::new(LIMITS);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe";
    assert_eq!(guard.feed(head), Progress::Clean);
    assert!(matches!(guard.feed(b"lloXX"), Progress::Broken(_)));
}

#[test]
fn an_upgrade_holds_back_what_follows() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut guard = Guard::new(LIMITS);
    assert_eq!(
        guard.feed(format!("{head}xx").as_bytes()),
        Progress::Suspended(head.len())
    );
    guard.resume();
    assert_eq!(
        guard.feed(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        Progress::Clean
    );
    let h2c = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n";
    assert_eq!(feed(h2c), Progress::Clean);
}

proptest! {
    /// However a good stream is cut, the guard comes to the same end, and keeps only partial heads.
    #[test]
    fn cuts_do_not_matter(cuts in proptest::collection::vec(1_usize..40, 0..40)) {
        let stream = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
                      POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".as_bytes();
        let mut guard = Guard::new(LIMITS);
        let mut kept = Vec::new();
        let mut passed = 0;
        let mut at = 0;
        let mut cuts = cuts.into_iter();
        while at < stream.len() {
            let step = cuts.next().unwrap_or(stream.len()).min(stream.len() - at);
            kept.extend_from_slice(&stream[at..at + step]);
            at += step;
            let clean = match guard.feed(&kept) {
                Progress::Clean => kept.len(),
                Progress::Partial(clean) => clean,
                other => panic!("{other:?}"),
            };
            passed += clean;
            kept.drain(..clean);
        }
        prop_assert_eq!(passed, stream.len());
        prop_assert_eq!(guard.state, State::Head);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _progress = Guard::new(LIMITS).feed(&bytes);
    }
}

/// Pieces of heads, most of them good.
const PIECES: [&str; 24] = [
    "GET / HTTP/1.1\r\n",
    "POST /a?b HTTP/1.1\r\n",
    "GET  / HTTP/1.1\r\n",
    "GET / HTTP/1.0\r\n",
    "GET http://a/ HTTP/1.1\r\n",
    "Host: a\r\n",
    "host:b\r\n",
    "Host: a\n",
    "X: 1\r\n",
    "X: 1\r\n 2\r\n",
    "X : 1\r\n",
    "X: \u{e9}\r\n",
    "Content-Length: 3\r\n",
    "content-length:\t0 \r\n",
    "Content-Length: +3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: upgrade\r\n",
    "Upgrade: x\r\n",
    "\r\n",
    "\n",
    "\r",
    "abc",
    " ",
    "\0",
];

proptest! {
    /// What is passed for having nothing remarkable about it would have passed anyway, and be framed alike.
    #[test]
    fn plain_heads_are_good_ones(
        line in 0_usize..6,
        fields in proptest::collection::vec(5_usize..24, 0..8),
        flips in proptest::collection::vec((0_usize..200, any::<u8>()), 0..2),
    ) {
        let pieces = std::iter::once(line).chain(fields).chain([18]);
        let text: String = pieces.map(|piece| PIECES[piece]).collect();
        let mut bytes = text.into_bytes();
        for (at, byte) in flips {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        let mut quick = Guard::new(LIMITS);
        if let Some(length) = quick.plain_head(&bytes, true) {
            let mut thorough = Guard::new(LIMITS);
            prop_assert_eq!(thorough.head(&bytes), Ok(Some(length)));
            prop_assert_eq!(thorough.state, quick.state);
        }
    }
}

#[test]
fn a_plain_head_is_taken_apart_once() {
    let mut guard = Guard::new(LIMITS);
    let head = "POST /a HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\n";
    let text = format!("{head}hi");
    assert_eq!(guard.feed(text.as_bytes()), Progress::Clean);
    let (parts, known) = guard.parts();
    assert!(known);
    assert_eq!(parts.length, head.len());
    let [name, _, value, value_end] = parts.fields[1].map(|at| at as usize);
    assert!(text[name..].starts_with("Content-Length"));
    assert_eq!(&text[value..value_end], "2");
    // A second one in the same bytes is not what they begin with.
    assert_eq!(guard.feed(b"GE"), Progress::Partial(0));
    assert!(!guard.parts().1);
}
