//! Answers of an HTTP origin, and gates that hold them back.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::Frame;
use tokio::sync::Semaphore;

/// An answer under construction.
#[derive(Debug)]
pub(crate) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Scripted,
}

impl Reply {
    /// An answer without a body.
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status: StatusCode::from_u16(status).expect("a status"),
            headers: HeaderMap::new(),
            body: Scripted::default(),
        }
    }

    /// A 200 with this body.
    pub(crate) fn ok(body: impl Into<Bytes>) -> Self {
        Self::new(200).body(body)
    }

    /// Adds a header field.
    #[must_use]
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a field name");
        let value = HeaderValue::from_str(value).expect("a field value");
        self.headers.append(name, value);
        self
    }

    /// Adds a part of the body. One part is sent with its length, several in chunks.
    #[must_use]
    pub(crate) fn body(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body.parts.push_back(Part::Data(bytes.into()));
        self
    }

    /// Ends the body with trailers, of which this is one.
    #[must_use]
    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a field name");
        let value = HeaderValue::from_str(value).expect("a field value");
        if let Some(Part::Trailers(trailers)) = self.body.parts.back_mut() {
            trailers.insert(name, value);
        } else {
            let trailers = HeaderMap::from_iter([(name, value)]);
            self.body.parts.push_back(Part::Trailers(trailers));
        }
        self
    }

    /// Breaks the connection or stream off at this point of the body.
    #[must_use]
    pub(crate) fn then_break(mut self) -> Self {
        self.body.parts.push_back(Part::Break);
        self
    }

    pub(crate) fn into_response(self) -> http::Response<Scripted> {
        let mut response = http::Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// A body that is a list of things to do.
#[derive(Debug, Default)]
pub(crate) struct Scripted {
    parts: VecDeque<Part>,
}

#[derive(Debug)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    Break,
}

impl http_body::Body for Scripted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.parts.pop_front().map(|part| match part {
            Part::Data(bytes) => Ok(Frame::data(bytes)),
            Part::Trailers(trailers) => Ok(Frame::trailers(trailers)),
            Part::Break => Err(io::Error::other("broken off as scripted")),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self.parts.iter().collect::<Vec<_>>().as_slice() {
            [] => http_body::SizeHint::with_exact(0),
            [Part::Data(bytes)] => {
                http_body::SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            _ => http_body::SizeHint::default(),
        }
    }
}

/// Holds requests back until the test lets them pass.
#[derive(Debug)]
pub(crate) struct Gate(Semaphore);

impl Gate {
    /// A closed gate.
    pub(crate) const fn closed() -> Self {
        Self(Semaphore::const_new(0))
    }

    /// Lets `count` more through.
    pub(crate) fn let_through(&self, count: usize) {
        self.0.add_permits(count);
    }

    /// Lets everybody through from now on.
    pub(crate) fn open(&self) {
        self.0.close();
    }

    /// Waits to be let through.
    pub(crate) async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}
