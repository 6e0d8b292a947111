//! Requests whose first line or header fields are wrong, by family.

use super::cases::{BAD, CUT_OFF, Case, SILENCE, SMUGGLED, numbered};

const CODING: &[u16] = &[400, 501];
const VERSION: &[u16] = &[400, 505];
const LARGE: &[u16] = &[400, 414, 431];

/// Requests whose head is wrong: nothing of them may be passed on.
pub(super) fn all() -> Vec<Case> {
    [
        content_length(),
        repeated_content_length(),
        both_lengths(),
        transfer_encoding(),
        disguised_framing(),
        field_names(),
        field_values(),
        field_lines(),
        bare_line_feeds(),
        line_ends(),
        methods(),
        versions(),
        targets(),
        hosts(),
        sizes(),
        cut_off_heads(),
    ]
    .concat()
}

/// One case for each line or group of header lines, in a POST that a request follows.
fn with_fields<'a>(
    family: &str,
    fields: impl IntoIterator<Item = &'a str>,
    statuses: &'static [u16],
) -> Vec<Case> {
    numbered(family, statuses, fields, |fields| {
        format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\n{SMUGGLED}")
    })
}

fn content_length() -> Vec<Case> {
    let values = [
        "+5",
        "+0",
        "-1",
        "-0",
        "",
        " ",
        "5,5",
        "5, 5",
        "5, 6",
        "0, 5",
        "5,",
        ",5",
        "5 5",
        "5;",
        "5;q=1",
        "5.0",
        "5e0",
        "0x5",
        "0X5",
        "5h",
        "five",
        "\"5\"",
        "'5'",
        "5_0",
        "%35",
        "0b1",
        "NaN",
        "\u{665}",
        "\u{ff15}",
        "5\u{b}",
        "5\u{0}",
        "18446744073709551616",
        "99999999999999999999999999",
        "-9223372036854775808",
    ];
    let mut cases = Vec::new();
    for method in ["GET", "POST"] {
        cases.extend(numbered(&format!("content-length {method}"), BAD, values, |value| {
            format!("{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: {value}\r\n\r\nhello{SMUGGLED}")
        }));
    }
    cases
}

fn repeated_content_length() -> Vec<Case> {
    with_fields(
        "repeated content-length",
        [
            "content-length: 5\r\ncontent-length: 6",
            "content-length: 5\r\ncontent-length: 5",
            "content-length: 0\r\ncontent-length: 5",
            "content-length: 5\r\ncontent-length: 0",
            "content-length: 5\r\ncontent-length:",
            "content-length: 5\r\nContent-Length: 7",
            "CONTENT-LENGTH: 0\r\nx: y\r\ncontent-length: 41",
        ],
        BAD,
    )
}

fn both_lengths() -> Vec<Case> {
    with_fields(
        "content-length and transfer-encoding",
        [
            "content-length: 5\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked\r\ncontent-length: 5",
            "content-length: 0\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked\r\ncontent-length: 0",
            "Content-Length: 41\r\nTransfer-Encoding: Chunked",
            "Transfer-Encoding: CHUNKED\r\nx: y\r\nContent-Length: 41",
            "content-length: 5\r\ntransfer-encoding: identity",
            "content-length: 5\r\ntransfer-encoding: gzip, chunked",
            "content-length: 5\r\ntransfer-encoding:",
        ],
        CODING,
    )
}

fn transfer_encoding() -> Vec<Case> {
    let mut cases = with_fields(
        "transfer-encoding",
        [
            "transfer-encoding: gzip",
            "transfer-encoding: gzip, chunked",
            "transfer-encoding: identity",
            "transfer-encoding: chunked, identity",
            "transfer-encoding: identity, chunked",
            "transfer-encoding: chunked, gzip",
            "transfer-encoding: chunked, chunked",
            "transfer-encoding: chunked,chunked",
            "transfer-encoding: xchunked",
            "transfer-encoding: chunkedx",
            "transfer-encoding: chunke",
            "transfer-encoding: chunked x",
            "transfer-encoding: x chunked",
            "transfer-encoding: chunked;q=1",
            "transfer-encoding: chunked;",
            "transfer-encoding: \"chunked\"",
            "transfer-encoding: 'chunked'",
            "transfer-encoding: chunked,",
            "transfer-encoding: ,chunked",
            "transfer-encoding:",
            "transfer-encoding: \u{b}chunked",
            "transfer-encoding: chunked\u{b}",
            "transfer-encoding: chunked\u{0}",
            "transfer-encoding: ch\u{fc}nked",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked\r\ntransfer-encoding: identity",
            "transfer-encoding: identity\r\ntransfer-encoding: chunked",
            "transfer-encoding: gzip\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked\r\ntransfer-encoding: x",
        ],
        CODING,
    );
    cases.extend(numbered(
        "transfer-encoding in HTTP/1.0",
        CODING,
        ["", "connection: keep-alive\r\n", "content-length: 5\r\n"],
        |more| {
            format!(
                "POST / HTTP/1.0\r\nhost: a\r\n{more}transfer-encoding: chunked\r\n\r\n\
                 0\r\n\r\n{SMUGGLED}"
            )
        },
    ));
    cases
}

fn disguised_framing() -> Vec<Case> {
    with_fields(
        "disguised framing",
        [
            "transfer-encoding : chunked",
            "transfer-encoding\t: chunked",
            "content-length : 5",
            "content-length\t: 5",
            "x: y\r\n transfer-encoding: chunked",
            "x: y\r\n\ttransfer-encoding: chunked",
            "transfer-encoding:\r\n chunked",
            "transfer-encoding:\r\n\tchunked",
            "content-length:\r\n 5",
            "transfer\u{0}-encoding: chunked",
            "\u{0}transfer-encoding: chunked",
            "transfer-encoding\r: chunked",
            "x: y\rtransfer-encoding: chunked",
            "x: y\r\rtransfer-encoding: chunked",
            "x: y\u{b}\ncontent-length: 5",
        ],
        CODING,
    )
}

fn field_names() -> Vec<Case> {
    let wrong: Vec<u8> = b"(),/;<=>?@[\\]{}\" \x00\x01\x0b\x0c\x1f\x7f\x80\xff".to_vec();
    numbered("byte in a field name", BAD, wrong, |byte| {
        let mut bytes = b"GET / HTTP/1.1\r\nhost: a\r\nx".to_vec();
        bytes.push(byte);
        bytes.extend_from_slice(b"y: 1\r\n\r\n");
        bytes
    })
}

fn field_values() -> Vec<Case> {
    let wrong = (0_u8..0x20)
        .filter(|byte| !b"\t\r\n".contains(byte))
        .chain([0x7f]);
    numbered("byte in a field value", BAD, wrong, |byte| {
        let mut bytes = b"GET / HTTP/1.1\r\nhost: a\r\nx: a".to_vec();
        bytes.push(byte);
        bytes.extend_from_slice(b"b\r\n\r\n");
        bytes
    })
}

fn field_lines() -> Vec<Case> {
    let lines = [
        "x: a\r\n b",
        "x: a\r\n\tb",
        "x: a\r\n ",
        "x : a",
        "x\t: a",
        " x: a",
        "\tx: a",
        ": a",
        ":",
        "no colon",
        "x",
        "x\r\ny: z",
        "GET /smuggled HTTP/1.1",
    ];
    let mut cases = with_fields("field line", lines, BAD);
    cases.extend(numbered("first field line", BAD, lines, |line| {
        format!("GET / HTTP/1.1\r\n{line}\r\nhost: a\r\n\r\n")
    }));
    cases
}

/// An RFC lets a recipient take these for CRLF, and then its peer must do the same.
fn bare_line_feeds() -> Vec<Case> {
    numbered(
        "bare line feed",
        BAD,
        [
            "GET / HTTP/1.1\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\n",
            "GET / HTTP/1.1\nhost: a\n\n",
            "GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\nx: y\n\n",
        ],
        str::to_owned,
    )
}

fn line_ends() -> Vec<Case> {
    numbered(
        "line end",
        BAD,
        [
            "GET / HTTP/1.1\rhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\n\rhost: a\n\r\n\r",
            "GET / HTTP/1.1\r\nhost: a\rx: y\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nx: \ra\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\rx: y\r\n\r\n",
            "GET /\r HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET\r/ HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /\n HTTP/1.1\r\nhost: a\r\n\r\n",
        ],
        str::to_owned,
    )
}

fn methods() -> Vec<Case> {
    let wrong = [
        "",
        " ",
        "G T",
        "G@T",
        "G\u{0}T",
        "(GET)",
        "{GET}",
        "GET:",
        "G/T",
        "GET,",
        "\"GET\"",
        "G[]T",
        "G=T",
        "<GET>",
        "G\\T",
        "G\u{7f}T",
        "G\u{1}T",
        "G\u{c9}T",
        " GET",
        "\tGET",
        "\u{b}GET",
        "GET ",
        "GET\t",
        "\u{feff}GET",
        "GET?",
    ];
    numbered("method", BAD, wrong, |method| {
        format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n")
    })
}

fn versions() -> Vec<Case> {
    let wrong = [
        "HTTP/0.9",
        "HTTP/1.2",
        "HTTP/1.9",
        "HTTP/2.0",
        "HTTP/3.0",
        "HTTP/9.9",
        "HTTP/1.10",
        "HTTP/1.01",
        "HTTP/01.1",
        "HTTP/11",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/",
        "HTTP",
        "HTTP /1.1",
        "HTTP/ 1.1",
        "HTTP/1 .1",
        "http/1.1",
        "Http/1.1",
        "HTTPS/1.1",
        "XTTP/1.1",
        "HTTP/1.1x",
        "HTTP/1.1 x",
        "HTTP/1.1 HTTP/1.1",
        "HTTP/-1.1",
        "HTTP/+1.1",
        "HTTP\\1.1",
        "ICAP/1.0",
    ];
    let mut cases = numbered("version", VERSION, wrong, |version| {
        format!("GET / {version}\r\nhost: a\r\n\r\n")
    });
    cases.extend(numbered(
        "no version",
        &[400, 505, SILENCE],
        [
            "GET /\r\n",
            "GET / \r\n\r\n",
            "GET /\r\nhost: a\r\n\r\n",
            "GET\r\n\r\n",
            "hello\r\n\r\n",
        ],
        str::to_owned,
    ));
    cases
}

fn targets() -> Vec<Case> {
    let wrong = [
        "/a b",
        " /",
        "/ ",
        "/\t",
        "\t/",
        "/\u{0}",
        "/\u{1}",
        "/\u{7f}",
        "*",
        "a",
        "example.com",
        "example.com:80",
        "?a=b",
        "http://",
        "http:///",
        "http:///a",
        "://a/",
        "http:/a",
        "http://a b/",
        "http://a:x/",
        "http://a:99999/",
        "http://[::1/",
    ];
    let mut cases = numbered("target", BAD, wrong, |target| {
        format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")
    });
    cases.extend(numbered(
        "target of CONNECT",
        &[400, 404, 405, 501],
        ["/", "a:443"],
        |target| format!("CONNECT {target} HTTP/1.1\r\nhost: a:443\r\nconnection: close\r\n\r\n"),
    ));
    cases
}

fn hosts() -> Vec<Case> {
    let wrong = [
        "", "a b", "a/b", "/a", "a@b", "user@", "a,b", "a, b", "a:x", "a:-1", "a:99999", "a:80:80",
        ":80", "[::1", "::1]", "[a]", "a\\b", "a?b", "a#b", "<a>", "http://a", "a\u{0}", "a\u{1}",
        "a\"b", "a%zz", "a\u{e9}",
    ];
    let mut cases = numbered("host", BAD, wrong, |host| {
        format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")
    });
    cases.extend(numbered(
        "hosts",
        BAD,
        [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nx: y\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nx: y\r\nhOST: b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: b\r\n\r\n",
            "GET http://a:1/ HTTP/1.1\r\nhost: a:2\r\n\r\n",
            "GET http://user@a/ HTTP/1.1\r\nhost: b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        ],
        str::to_owned,
    ));
    cases
}

fn sizes() -> Vec<Case> {
    let long = "x".repeat(100_000);
    let start = "GET / HTTP/1.1\r\nhost: a\r\n";
    let many = |count: usize, value: &str| {
        let fields: String = (0..count)
            .map(|number| format!("x-{number}: {value}\r\n"))
            .collect();
        format!("{start}{fields}\r\n")
    };
    numbered(
        "size",
        LARGE,
        [
            format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n"),
            format!("GET /?{long} HTTP/1.1\r\nhost: a\r\n\r\n"),
            format!("GET /{}", long.repeat(10)),
            format!("{long} / HTTP/1.1\r\nhost: a\r\n\r\n"),
            format!("{start}x: {long}\r\n\r\n"),
            format!("{start}x: {}", long.repeat(10)),
            format!("{start}{long}: y\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nhost: {long}\r\n\r\n"),
            many(20_000, "y"),
            many(1_000, &"y".repeat(100)),
            many(12, &"y".repeat(8_000)),
        ],
        |bytes| bytes,
    )
}

/// A good request that ends too early, at each place that matters.
fn cut_off_heads() -> Vec<Case> {
    let whole = "GET /cut HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n";
    let mut cases = numbered("cut off head", CUT_OFF, 1..whole.len(), |end| {
        whole.as_bytes()[..end].to_vec()
    });
    for case in &mut cases {
        case.finish_sending = true;
    }
    cases
}
