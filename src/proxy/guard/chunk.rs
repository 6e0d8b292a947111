//! Chunked framing, byte by byte outside of the data (RFC 9112 section 7.1).

use super::{BARE_CR, Violation, bad};

/// Bound on one chunk's extensions, and on a trailer section.
const MAX_CHUNK_EXTENSION: usize = 4_096;

/// Where in a chunked body the stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// In a size line, before its extension: the size so far, and its digits.
    Size(u64, u8),
    /// In a size line's extension, with the bytes seen of it.
    Extension(u64, usize),
    /// After a size line's CR.
    SizeLf(u64),
    /// In the data.
    Data(u64),
    /// After the data.
    DataCr,
    /// After the data's CR.
    DataLf,
    /// In the trailer section: bytes seen, and bytes of the present line.
    Trailer(usize, usize),
    /// After a CR in the trailer section: the same.
    TrailerLf(usize, usize),
}

/// One byte of chunked framing, outside of data; none when the message ends with it.
pub(crate) fn chunk_byte(chunk: Chunk, byte: u8) -> Result<Option<Chunk>, Violation> {
    const SIZE: Violation = bad("a chunk size is malformed");
    let next = match (chunk, byte) {
        (Chunk::Size(size, digits), _) if byte.is_ascii_hexdigit() => {
            let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
            if digits >= 15 {
                return Err(bad("a chunk size is too large"));
            }
            Chunk::Size(size << 4 | digit, digits + 1)
        }
        (Chunk::Size(_, 0), _) => return Err(SIZE),
        (Chunk::Size(size, _), b';') => Chunk::Extension(size, 0),
        (Chunk::Size(size, _) | Chunk::Extension(size, _), b'\r') => Chunk::SizeLf(size),
        (Chunk::Size(..), _) => return Err(SIZE),
        (Chunk::Extension(_, seen), _) if seen >= MAX_CHUNK_EXTENSION => {
            return Err(bad("a chunk extension is too long"));
        }
        (Chunk::Extension(..), 0..=8 | 10..=31 | 127) => return Err(SIZE),
        (Chunk::Extension(size, seen), _) => Chunk::Extension(size, seen + 1),
        (Chunk::SizeLf(0), b'\n') => Chunk::Trailer(0, 0),
        (Chunk::SizeLf(size), b'\n') => Chunk::Data(size),
        (Chunk::DataCr, b'\r') => Chunk::DataLf,
        (Chunk::DataLf, b'\n') => Chunk::Size(0, 0),
        (Chunk::DataCr | Chunk::DataLf, _) => {
            return Err(bad("a chunk is longer than its size says"));
        }
        (Chunk::Trailer(seen, line), b'\r') => Chunk::TrailerLf(seen, line),
        (Chunk::Trailer(_, 0), b' ' | b'\t') => return Err(bad("a trailer field is folded")),
        (Chunk::Trailer(..), 0 | b'\n') => return Err(bad("a trailer field is malformed")),
        (Chunk::Trailer(seen, _), _) if seen >= MAX_CHUNK_EXTENSION => {
            return Err(Violation {
                status: 431,
                detail: "the trailer section is too large",
            });
        }
        (Chunk::Trailer(seen, line), _) => Chunk::Trailer(seen + 1, line + 1),
        (Chunk::TrailerLf(_, 0), b'\n') => return Ok(None),
        (Chunk::TrailerLf(seen, _), b'\n') => Chunk::Trailer(seen, 0),
        (Chunk::SizeLf(_) | Chunk::TrailerLf(..), _) => return Err(BARE_CR),
        (Chunk::Data(left), _) => Chunk::Data(left),
    };
    Ok(Some(next))
}
