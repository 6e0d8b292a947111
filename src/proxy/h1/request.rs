//! A request on its way to an endpoint.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::{CONTENT_LENGTH, COOKIE};
use http::{HeaderMap, Method, Uri};
use http_body::Body;
use tokio::io::AsyncWrite;

use super::outgoing::{Framing, Outgoing};
use crate::proxy::forwarding::Forwarding;
use crate::proxy::stream::Stream;
use crate::proxy::upload::RequestBody;

/// A request's method, target and fields.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// What is said of its way, where the fields do not.
    pub(crate) forwarding: Option<Forwarding>,
}

/// Puts the cookies, as the one field that HTTP/1 has for them (RFC 9113 section 8.2.3).
fn put_cookies(outgoing: &mut Outgoing, headers: &HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    let Some(first) = cookies.next() else {
        return;
    };
    outgoing.text("cookie: ");
    outgoing.out.extend_from_slice(first.as_bytes());
    for cookie in cookies {
        outgoing.text("; ");
        outgoing.out.extend_from_slice(cookie.as_bytes());
    }
    outgoing.text("\r\n");
}

/// Why sending ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Before a byte was written.
    Unsent,
    /// The endpoint took no more.
    Midway,
    /// The body broke off.
    Source,
}

/// What is being sent.
#[derive(Debug, Default)]
pub(super) struct Sender {
    method: Method,
    outgoing: Outgoing,
    /// What comes behind it; none once it has ended.
    body: Option<RequestBody>,
    /// Whether anything was written.
    begun: bool,
    /// Whether what was written has left.
    flushed: bool,
    cut: Option<Cut>,
}

/// A request of which nothing was sent.
#[derive(Debug)]
pub(crate) struct Unsent(Box<Sender>);

impl Sender {
    /// Whether all of it was sent.
    pub(super) fn is_done(&self) -> bool {
        self.outgoing.is_empty() && self.body.is_none() && self.flushed && self.cut.is_none()
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    pub(super) fn begin(&mut self, head: &Head, body: RequestBody) {
        self.method.clone_from(&head.method);
        self.begun = false;
        self.flushed = false;
        self.cut = None;
        let outgoing = &mut self.outgoing;
        outgoing.clear();
        let target = head.uri.path_and_query();
        let target = target.map_or("/", http::uri::PathAndQuery::as_str);
        for part in [head.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            outgoing.text(part);
        }
        for (name, value) in &head.headers {
            if *name == COOKIE {
                continue;
            }
            outgoing.field(name.as_str(), value.as_bytes());
        }
        put_cookies(outgoing, &head.headers);
        for (name, value) in head.forwarding.iter().flat_map(Forwarding::fields) {
            outgoing.field(name, value);
        }
        self.body = Some(body).filter(|body| !body.is_end_stream());
        if let Some(body) = &self.body {
            let announced = head.headers.get(CONTENT_LENGTH);
            let announced = announced.and_then(|value| value.to_str().ok()?.parse().ok());
            outgoing.framing = match announced.or_else(|| body.size_hint().exact()) {
                Some(length) => Framing::Sized(length),
                None => Framing::Chunked,
            };
            if announced.is_none() {
                outgoing.frame();
            }
            outgoing.announce(&head.headers);
        }
        outgoing.text("\r\n");
    }

    pub(super) fn begin_again(&mut self, unsent: Unsent) {
        *self = *unsent.0;
        self.flushed = false;
        self.cut = None;
    }

    /// Whether all of it is there, short, and not on its way.
    ///
    /// # Errors
    /// When it broke off.
    pub(super) fn is_ready(&mut self, cx: &mut Context<'_>) -> Result<bool, Cut> {
        if self.begun || self.flushed || self.cut.is_some() {
            return Ok(false);
        }
        if self.outgoing.gather(cx, &mut self.body).is_err() {
            self.cut = Some(Cut::Source);
            return Err(Cut::Source);
        }
        Ok(self.body.is_none() && self.outgoing.is_short())
    }

    /// The request, if nothing of it was written.
    pub(super) fn take_unsent(&mut self) -> Option<Unsent> {
        (!self.begun).then(|| Unsent(Box::new(std::mem::take(self))))
    }

    /// Lets go of what is not needed between requests.
    pub(super) fn rest(&mut self) {
        self.outgoing.rest();
    }

    /// Sends what there is. Ready when the request is over.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
    ) -> Poll<Result<(), Cut>> {
        if self.is_done() {
            return Poll::Ready(Ok(()));
        }
        if let Some(cut) = self.cut {
            return Poll::Ready(Err(cut));
        }
        let polled = self.poll_parts(cx, stream);
        if let Poll::Ready(Err(cut)) = polled {
            self.cut = Some(cut);
        }
        polled
    }

    fn poll_parts(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<Result<(), Cut>> {
        loop {
            let gathered = self.outgoing.gather(cx, &mut self.body);
            let waits = gathered.map_err(|_broken_off| Cut::Source)?;
            if self.outgoing.is_empty() {
                // Under TLS, what was written may not be sent.
                let flushed = ready!(Pin::new(&mut *stream).poll_flush(cx));
                flushed.map_err(|_broken| self.cut())?;
                self.flushed = !waits;
                return if waits {
                    Poll::Pending
                } else {
                    Poll::Ready(Ok(()))
                };
            }
            let written = ready!(self.outgoing.poll_write(cx, stream));
            written.map_err(|_broken| self.cut())?;
            self.begun = true;
        }
    }

    fn cut(&self) -> Cut {
        if self.begun { Cut::Midway } else { Cut::Unsent }
    }
}
