//! HTTP/2 frame by frame, as no well-behaved client writes it: heads whose pseudo-header fields make no
//! request, and streams that are opened only to be reset.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::support::h2::Http2;
use crate::support::http_origin::Origin;
use crate::support::proxy::Proxy;
use crate::support::wait::PATIENCE;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM_AND_HEADERS: u8 = 0x5;

/// A client connection that says exactly what it is told to.
struct Frames(TcpStream);

impl Frames {
    fn connect(proxy: &Proxy) -> Self {
        let stream = TcpStream::connect(proxy.address()).expect("the proxy accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut frames = Self(stream);
        frames.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames.write(&frame(SETTINGS, 0, 0, &[]));
        frames
    }

    /// Writes what the proxy still takes; it may have closed already.
    fn write(&mut self, bytes: &[u8]) {
        let _gone = self.0.write_all(bytes);
    }

    /// Reads one frame: its type, its stream and its payload; none once the proxy has closed.
    fn read(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        if let Err(error) = self.0.read_exact(&mut head) {
            let silent = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!silent, "the proxy neither answers nor closes");
            return None;
        }
        let [a, b, c, kind, _, d, e, f, g] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((kind, u32::from_be_bytes([d, e, f, g]), payload))
    }

    /// Reads until a frame of one of these types comes; none once the proxy has closed.
    fn read_until(&mut self, kinds: &[u8]) -> Option<(u8, Vec<u8>)> {
        loop {
            let (kind, _, payload) = self.read()?;
            if kinds.contains(&kind) {
                return Some((kind, payload));
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block of literal fields, none of them indexed or compressed (RFC 7541 section 6.2.2).
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            bytes.push(u8::try_from(text.len()).expect("a short text"));
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const AUTHORITY: (&str, &str) = (":authority", "a");
const PATH: (&str, &str) = (":path", "/");

#[test]
fn heads_that_make_no_request_are_refused_and_never_reach_the_origin() {
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());
    let mut good = Frames::connect(&proxy);
    let head = block(&[METHOD, SCHEME, AUTHORITY, PATH]);
    good.write(&frame(HEADERS, END_STREAM_AND_HEADERS, 1, &head));
    let answered = good.read_until(&[HEADERS, RST_STREAM, GOAWAY]);
    assert_eq!(answered.map(|(kind, _)| kind), Some(HEADERS));
    let arrived = origin.arrived();

    let cases: &[&[(&str, &str)]] = &[
        &[SCHEME, AUTHORITY, PATH],
        &[METHOD, AUTHORITY],
        &[METHOD, METHOD, SCHEME, AUTHORITY, PATH],
        &[METHOD, SCHEME, AUTHORITY, PATH, PATH],
        &[METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH],
        &[METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")],
        &[METHOD, SCHEME, AUTHORITY, PATH, (":proto", "x")],
        &[METHOD, SCHEME, AUTHORITY, ("x-a", "1"), PATH],
        &[METHOD, SCHEME, AUTHORITY, PATH, ("X-Upper", "1")],
        &[METHOD, SCHEME, AUTHORITY, PATH, ("x a", "1")],
        &[METHOD, SCHEME, AUTHORITY, PATH, ("x-a", "1\r\nx-b: 2")],
        &[METHOD, SCHEME, AUTHORITY, PATH, ("x-a", "1\0")],
        &[METHOD, SCHEME, AUTHORITY, PATH, ("connection", "close")],
        &[
            METHOD,
            SCHEME,
            AUTHORITY,
            PATH,
            ("transfer-encoding", "chunked"),
        ],
        &[METHOD, SCHEME, AUTHORITY, PATH, ("te", "gzip")],
        &[METHOD, SCHEME, AUTHORITY, PATH, ("host", "b")],
        &[METHOD, SCHEME, AUTHORITY, PATH, ("content-length", "3")],
        &[METHOD, SCHEME, AUTHORITY, PATH, ("content-length", "x")],
        &[METHOD, SCHEME, AUTHORITY, (":path", "")],
        &[METHOD, SCHEME, AUTHORITY, (":path", "no-slash")],
        &[METHOD, SCHEME, AUTHORITY, (":path", "/a b")],
        &[METHOD, SCHEME, AUTHORITY, (":path", "/a\r\nx-b: 2")],
        &[(":method", "GET /x HTTP/1.1\r\n"), SCHEME, AUTHORITY, PATH],
        &[METHOD, SCHEME, (":authority", "a\r\nx-b: 2"), PATH],
        &[METHOD, SCHEME, (":authority", "user@a"), PATH],
    ];
    let mut failures = Vec::new();
    for case in cases {
        let mut client = Frames::connect(&proxy);
        client.write(&frame(HEADERS, END_STREAM_AND_HEADERS, 1, &block(case)));
        match client.read_until(&[HEADERS, RST_STREAM, GOAWAY]) {
            Some((RST_STREAM | GOAWAY, _)) => {}
            Some((_, head)) if says_400(&head) => {}
            other => failures.push(format!("{case:?}: {other:?}")),
        }
    }
    assert_eq!(origin.arrived(), arrived, "{failures:#?}");
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(Http2::connect(proxy.address()).get("/").text(), "ok");
}

/// Whether a response's header block begins with status 400: entry 12 of HPACK's static table.
fn says_400(head: &[u8]) -> bool {
    head.first() == Some(&0x8c)
}

#[test]
fn a_client_that_opens_streams_only_to_reset_them_is_sent_away() {
    const STREAMS: u32 = 2_000;
    let origin = Origin::saying("ok");
    let proxy = Proxy::in_front_of(origin.address());
    let head = block(&[METHOD, SCHEME, AUTHORITY, PATH]);
    let mut attack = Vec::new();
    for number in 0..STREAMS {
        let stream = 2 * number + 1;
        attack.extend(frame(HEADERS, END_STREAM_AND_HEADERS, stream, &head));
        attack.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    let mut client = Frames::connect(&proxy);
    client.write(&attack);
    let (_, payload) = client.read_until(&[GOAWAY]).expect("it is told why");
    // ENHANCE_YOUR_CALM, RFC 9113 section 7.
    assert_eq!(payload.get(4..8), Some(&[0, 0, 0, 0xb][..]));
    assert!(client.read_until(&[]).is_none(), "it stays open");
    assert!(origin.count() < STREAMS as usize / 10, "{}", origin.count());
    assert_eq!(Http2::connect(proxy.address()).get("/").text(), "ok");
}
