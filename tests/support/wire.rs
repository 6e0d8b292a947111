//! HTTP/1 messages as they stand on the wire, read strictly: what the proxy writes must be well formed.

use std::io::{self, BufRead, ErrorKind, Read};
use std::num::ParseIntError;

/// Header fields in the order received, names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers(pub(crate) Vec<(String, String)>);

impl Headers {
    /// The first value of a field.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(has, _)| has.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Every value of a field.
    pub(crate) fn all(&self, wanted: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.as_str())
    }

    /// Whether a comma-separated field holds `token`, whatever its case.
    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(','))
            .any(|one| one.trim().eq_ignore_ascii_case(token))
    }

    /// Takes over the fields of the `http` crate's map.
    pub(crate) fn from_map(map: &http::HeaderMap) -> Self {
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Self(
            map.iter()
                .map(|(name, value)| (name.as_str().to_owned(), text(value)))
                .collect(),
        )
    }
}

/// The first line and the fields of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) headers: Headers,
}

impl Head {
    /// The `index`th word of the first line.
    pub(crate) fn word(&self, index: usize) -> &str {
        self.line.split(' ').nth(index).unwrap_or_default()
    }
}

/// A body and the fields after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) trailers: Headers,
}

/// Reads one head; `None` when the peer closes before its first byte.
pub(crate) fn read_head(from: &mut impl BufRead) -> io::Result<Option<Head>> {
    let Some(line) = read_line(from)? else {
        return Ok(None);
    };
    let headers = read_fields(from)?;
    Ok(Some(Head { line, headers }))
}

/// Reads the body that `headers` announce; without any framing, to the end when `to_end`, else none.
pub(crate) fn read_body(
    from: &mut impl BufRead,
    headers: &Headers,
    to_end: bool,
) -> io::Result<Body> {
    if headers.has_token("transfer-encoding", "chunked") {
        return read_chunked(from);
    }
    let mut bytes = Vec::new();
    if let Some(length) = headers.get("content-length") {
        let length: usize = length.parse().map_err(invalid)?;
        bytes.resize(length, 0);
        from.read_exact(&mut bytes)?;
    } else if to_end {
        from.read_to_end(&mut bytes)?;
    }
    Ok(Body {
        bytes,
        trailers: Headers::default(),
    })
}

/// Reads chunks, the last one and the trailers.
pub(crate) fn read_chunked(from: &mut impl BufRead) -> io::Result<Body> {
    let mut bytes = Vec::new();
    loop {
        let line = read_line(from)?.ok_or(ErrorKind::UnexpectedEof)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(invalid)?;
        if size == 0 {
            let trailers = read_fields(from)?;
            return Ok(Body { bytes, trailers });
        }
        from.take(u64::try_from(size).unwrap_or(u64::MAX))
            .read_to_end(&mut bytes)?;
        if read_line(from)?.as_deref() != Some("") {
            return Err(malformed("end of a chunk"));
        }
    }
}

fn read_fields(from: &mut impl BufRead) -> io::Result<Headers> {
    let mut headers = Headers::default();
    loop {
        let line = read_line(from)?.ok_or(ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("header"))?;
        headers
            .0
            .push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

/// One line without its CRLF; `None` at the end of the stream.
fn read_line(from: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if from.read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if !line.ends_with(b"\r\n") {
        return Err(malformed("line end"));
    }
    line.truncate(line.len() - 2);
    Ok(Some(String::from_utf8_lossy(&line).into_owned()))
}

fn invalid(number: ParseIntError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, number)
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("malformed {what}"))
}
