//! Bodies, off their framing (RFC 9112 sections 6.3 and 7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Version};
use http_body::Frame;

use super::has_no_body;
use super::head::{Malformed, Received, Said};
use crate::proxy::guard::chunk::{Chunk, chunk_byte};

/// Fields of a trailer section; further ones are an error.
const MAX_TRAILERS: usize = 64;

/// Where a body's end is.
#[derive(Debug)]
pub(super) enum Decoder {
    /// After so many bytes.
    Sized(u64),
    /// Where the chunks say. With the bytes of the trailer section.
    Chunked(Chunk, Vec<u8>),
    /// Where the connection's is.
    UntilClose,
    /// All has been passed on but the trailers.
    Trailers(Box<HeaderMap>),
    /// Nothing is to come.
    Done,
}

impl Decoder {
    /// How the body behind a request is framed that said this. It has passed the guard.
    pub(super) fn of_request(said: Said) -> Self {
        match (said.coding(), said.length()) {
            (Some(_), _) => Self::Chunked(Chunk::Size(0, 0), Vec::new()),
            (None, None | Some(0)) => Self::Done,
            (None, Some(length)) => Self::Sized(length),
        }
    }

    /// How the body behind `received` is framed, the response to a request with `method`; what the framing overrides is
    /// taken out of its head.
    ///
    /// # Errors
    /// When the head contradicts itself.
    pub(super) fn of_response(received: &mut Received, method: &Method) -> Result<Self, Malformed> {
        let (head, said) = (&mut received.head, received.said);
        if said.coding().is_some() && said.length().is_some() {
            head.headers.remove(CONTENT_LENGTH);
        } else if let Some(length) = said.length().filter(|_| said.repeated()) {
            head.headers
                .insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if has_no_body(method, head.status) {
            return Ok(Self::Done);
        }
        Ok(match (said.coding(), said.length()) {
            (Some(_), _) if head.version == Version::HTTP_10 => return Err(Malformed),
            (Some(true), _) => Self::Chunked(Chunk::Size(0, 0), Vec::new()),
            (Some(false), _) | (None, None) => Self::UntilClose,
            (None, Some(0)) => Self::Done,
            (None, Some(length)) => Self::Sized(length),
        })
    }

    /// The next frame that `read` holds; none when it holds none, or nothing is to come.
    ///
    /// # Errors
    /// When the framing is malformed.
    pub(super) fn decode(
        &mut self,
        read: &mut BytesMut,
    ) -> Result<Option<Frame<Bytes>>, Malformed> {
        match self {
            Self::Done => Ok(None),
            Self::Trailers(trailers) => {
                let trailers = std::mem::take(&mut **trailers);
                *self = Self::Done;
                Ok(Some(Frame::trailers(trailers)))
            }
            _ if read.is_empty() => Ok(None),
            Self::UntilClose => Ok(Some(Frame::data(read.split().freeze()))),
            Self::Sized(left) => {
                let (data, left) = take(read, *left);
                *self = match left {
                    0 => Self::Done,
                    left => Self::Sized(left),
                };
                Ok(Some(Frame::data(data)))
            }
            Self::Chunked(..) => self.decode_chunks(read),
        }
    }

    fn decode_chunks(&mut self, read: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Malformed> {
        self.skip_framing(read)?;
        let Self::Chunked(Chunk::Data(left), trailers) = self else {
            return match self {
                Self::Trailers(_) => self.decode(read),
                _ => Ok(None),
            };
        };
        if read.is_empty() {
            return Ok(None);
        }
        let (data, left) = take(read, *left);
        let chunk = match left {
            0 => Chunk::DataCr,
            left => Chunk::Data(left),
        };
        *self = Self::Chunked(chunk, std::mem::take(trailers));
        // Whether that was the last of it is better known at once: nobody then has to ask again.
        self.skip_framing(read)?;
        Ok(Some(Frame::data(data)))
    }

    /// Reads on up to the next byte of data, or the end.
    fn skip_framing(&mut self, read: &mut BytesMut) -> Result<(), Malformed> {
        let Self::Chunked(chunk, trailers) = self else {
            return Ok(());
        };
        let mut taken = 0;
        let mut ended = false;
        for &byte in read.iter() {
            if matches!(chunk, Chunk::Data(_)) {
                break;
            }
            taken += 1;
            let next = match (*chunk, byte) {
                // Some pad the size.
                (Chunk::Size(size, 1..), b' ' | b'\t') => Some(Chunk::Extension(size, 0)),
                (other, byte) => chunk_byte(other, byte).map_err(|_violation| Malformed)?,
            };
            if matches!(chunk, Chunk::Trailer(..) | Chunk::TrailerLf(..)) {
                trailers.push(byte);
            }
            match next {
                Some(next) => *chunk = next,
                None => {
                    ended = true;
                    break;
                }
            }
        }
        if ended {
            let trailers = fields(trailers)?;
            *self = if trailers.is_empty() {
                Self::Done
            } else {
                Self::Trailers(Box::new(trailers))
            };
        }
        read.advance(taken);
        Ok(())
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Whether the end of the connection is the end of the body.
    pub(super) fn ends_with_the_connection(&self) -> bool {
        matches!(self, Self::UntilClose)
    }

    /// The bytes to come, as far as that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match self {
            Self::Sized(left) => Some(*left),
            Self::Done => Some(0),
            Self::Chunked(..) | Self::UntilClose | Self::Trailers(_) => None,
        }
    }
}

/// Takes up to `left` bytes off `read`; they, and how many are left.
fn take(read: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(read.len());
    (read.split_to(length).freeze(), left - length as u64)
}

/// The fields of a trailer section that ends in its empty line.
fn fields(bytes: &[u8]) -> Result<HeaderMap, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    let parsed = httparse::parse_headers(bytes, &mut fields);
    let Ok(httparse::Status::Complete((_, fields))) = parsed else {
        return Err(Malformed);
    };
    let mut trailers = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_invalid| Malformed)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_invalid| Malformed)?;
        trailers.append(name, value);
    }
    Ok(trailers)
}
