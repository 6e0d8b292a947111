//! Requests whose body is wrong, by family.

use super::cases::{BAD, CUT_OFF, Case, SMUGGLED, numbered};

/// Requests whose head is right and whose body is wrong: never passed on whole.
pub(super) fn all() -> Vec<Case> {
    [chunk_sizes(), chunk_ends(), trailers(), cut_off_bodies()].concat()
}

/// Not in the grammar, but some senders pad their sizes, and the number is plain.
pub(super) fn tolerable() -> Vec<Case> {
    let statuses = &[200, 400];
    ["5 ", "5\t", "5   ", "05", "00000005"]
        .into_iter()
        .enumerate()
        .map(|(number, size)| {
            let bytes = format!(
                "POST /body HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
                 transfer-encoding: chunked\r\n\r\n{size}\r\nhello\r\n0\r\n\r\n"
            );
            Case::new("padded size", number, bytes, statuses)
        })
        .collect()
}

fn chunked(body: &str) -> String {
    format!("POST /body HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}")
}

fn chunk_sizes() -> Vec<Case> {
    let wrong = [
        "0x5",
        "0X5",
        "-1",
        "-5",
        "+5",
        "5h",
        "g",
        "",
        " 5",
        "\t5",
        " ",
        "5,5",
        "5 5",
        "5.0",
        "\"5\"",
        "5\u{0}",
        "\u{0}5",
        "5\u{b}",
        "\u{665}",
        "10000000000000000",
        "ffffffffffffffffff",
        "00000000000000000000000g",
        ";a=b",
        "=5",
        "5\r",
        "5\n",
        "5;a=b\n",
        "5;\n",
        "5;a\u{0}",
        "5;a\u{1}b",
        "5;a\rb",
    ];
    let mut cases = numbered("chunk size", BAD, wrong, |size| {
        chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n{SMUGGLED}"))
    });
    cases.push(Case::new(
        "chunk extension",
        0,
        chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(200_000))),
        &[400, 413, 431],
    ));
    cases
}

fn chunk_ends() -> Vec<Case> {
    let wrong = [
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\r\n0\r\n\r\n",
        "5\r\nhello\n\r0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "3\r\nhello\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\r\n\r\n",
        "5\r\nhello\r\nx\r\n\r\n",
        "5\r\nhello\r\n-0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
    ];
    numbered("chunk end", BAD, wrong, |body| {
        chunked(&format!("{body}{SMUGGLED}"))
    })
}

fn trailers() -> Vec<Case> {
    let wrong = [
        "no colon",
        ": a",
        "x : a",
        " x: a",
        "x: a\r\n b",
        "x: a\u{0}",
        "x: a\u{1}",
        "x(: a",
        "x y: a",
        "GET /smuggled HTTP/1.1",
    ];
    let mut cases = numbered("trailer", BAD, wrong, |trailer| {
        chunked(&format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n"))
    });
    cases.push(Case::new(
        "trailer size",
        0,
        chunked(&format!(
            "5\r\nhello\r\n0\r\nx: {}\r\n\r\n",
            "y".repeat(200_000)
        )),
        &[400, 413, 431],
    ));
    cases
}

fn cut_off_bodies() -> Vec<Case> {
    let sized = "POST /body HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n";
    let whole = chunked("5\r\nhello\r\n0\r\n\r\n");
    let head = chunked("").len();
    let mut cases = numbered("cut off body", CUT_OFF, 0..10, |end| {
        format!("{sized}{}", "x".repeat(end))
    });
    cases.extend(numbered(
        "cut off chunk",
        CUT_OFF,
        head..whole.len(),
        |end| whole.as_bytes()[..end].to_vec(),
    ));
    cases.push(Case::new(
        "chunk larger than what comes",
        0,
        chunked("7fffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        CUT_OFF,
    ));
    for case in &mut cases {
        case.finish_sending = true;
    }
    cases
}
