//! A response on its way to a client.

use std::task::Context;
use std::time::{Duration, UNIX_EPOCH};

use http::header::{AGE, CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use http_body::Body;

use super::has_no_body;
use super::head::Said;
use super::outgoing::{Framing, Outgoing};
use crate::cache::semantics::status::CACHE_STATUS;
use crate::proxy::body::{ResponseBody, Uncopied};
use crate::proxy::cached::dress::Kept;
use crate::proxy::conn::Conn;

/// What of a request its response depends on.
#[derive(Debug)]
pub(crate) struct Asked {
    method: Method,
    http11: bool,
    /// Whether the client keeps the connection open.
    pub(super) keeps: bool,
    trailers: bool,
}

impl Asked {
    pub(super) fn new(head: &http::request::Parts, said: Said) -> Self {
        Self {
            method: head.method.clone(),
            http11: head.version == Version::HTTP_11,
            keeps: said.keeps(),
            trailers: said.trailers(),
        }
    }

    /// Whether the client knows of interim responses (RFC 9110 section 15.2).
    pub(super) fn takes_interim(&self) -> bool {
        self.http11
    }
}

/// A response under way.
#[derive(Debug)]
pub(super) struct Answer {
    /// None once it is over.
    body: Option<ResponseBody>,
    /// Whether the body broke off, or is not as long as was announced: what the client gets is not whole.
    pub(super) broken: bool,
    /// Whether the connection is kept open behind it.
    pub(super) keeps: bool,
}

impl Answer {
    /// Begins the response to what was `asked`. `keeps`: the connection may be kept open.
    pub(super) fn begin(
        outgoing: &mut Outgoing,
        asked: &Asked,
        response: http::Response<ResponseBody>,
        keeps: bool,
        conn: &Conn,
    ) -> Self {
        let worker = &conn.worker;
        let (head, mut body) = response.into_parts();
        let status = head.status;
        outgoing.text(if asked.http11 {
            "HTTP/1.1 "
        } else {
            "HTTP/1.0 "
        });
        outgoing.text(status.as_str());
        outgoing.text(" ");
        outgoing.text(status.canonical_reason().unwrap_or_default());
        outgoing.text("\r\n");
        let mut keeps = keeps && asked.keeps;
        let (mut announced, mut dated, mut connection) = (None, false, false);
        match body.take_uncopied() {
            Some(Uncopied::Kept(kept)) => dated = put_kept(outgoing, &kept),
            Some(Uncopied::Plain(plain)) => {
                outgoing.out.extend_from_slice(&plain.text);
                (announced, dated) = (plain.announced, plain.dated);
                worker.spares().give_plain(plain);
            }
            None => {}
        }
        for (name, value) in &head.headers {
            match *name {
                CONTENT_LENGTH => {
                    announced = value.to_str().ok().and_then(|text| text.parse().ok());
                    continue;
                }
                TRANSFER_ENCODING => continue,
                CONNECTION => {
                    connection = true;
                    keeps &= !value.as_bytes().eq_ignore_ascii_case(b"close");
                }
                DATE => dated = true,
                _ => {}
            }
            outgoing.field(name.as_str(), value.as_bytes());
        }
        let nothing = has_no_body(&asked.method, status);
        let empty = body.is_end_stream();
        // Who announced more than there is has broken off.
        keeps &= nothing || !empty || announced.unwrap_or(0) == 0;
        let body = Some(body).filter(|_| !empty || !nothing);
        let framing = frame(asked, status, announced, body.as_ref());
        if let Some(framing) = framing {
            keeps &= framing != Framing::UntilClose;
            outgoing.framing = framing;
            outgoing.frame();
        }
        if asked.trailers && framing == Some(Framing::Chunked) {
            outgoing.announce(&head.headers);
        }
        if !dated {
            let now = Duration::from_millis(worker.unix_millis(worker.now()));
            let date = httpdate::fmt_http_date(UNIX_EPOCH + now);
            outgoing.field("date", date.as_bytes());
        }
        if !connection && keeps != asked.http11 {
            let says: &[u8] = if keeps { b"keep-alive" } else { b"close" };
            outgoing.field("connection", says);
        }
        outgoing.text("\r\n");
        worker.spares().give_headers(head.headers);
        let mut body = body.filter(|_| !nothing && !empty);
        let pages = body.as_mut().filter(|_| conn.takes_pages());
        let pages = pages.and_then(ResponseBody::take_pages);
        let broken = pages.is_some_and(|pages| outgoing.put_pages(pages).is_err());
        Self {
            body,
            broken,
            keeps,
        }
    }

    /// Takes of the body what is there and there is room for. Whether more of it is awaited.
    pub(super) fn gather(&mut self, cx: &mut Context<'_>, outgoing: &mut Outgoing) -> bool {
        outgoing
            .gather(cx, &mut self.body)
            .unwrap_or_else(|_broken_off| {
                self.body = None;
                self.broken = true;
                false
            })
    }

    /// Whether all of the body has been taken.
    pub(super) fn is_taken(&self) -> bool {
        self.body.is_none()
    }
}

/// Puts the head of a stored response, but for its length; whether it has a date.
fn put_kept(outgoing: &mut Outgoing, kept: &Kept) -> bool {
    let mut dated = false;
    for (name, value) in kept.fields() {
        if *name != CONTENT_LENGTH {
            dated |= *name == DATE;
            outgoing.field(name.as_str(), value.as_bytes());
        }
    }
    let mut digits = itoa::Buffer::new();
    outgoing.field(AGE.as_str(), digits.format(kept.age).as_bytes());
    outgoing.field(CACHE_STATUS.as_str(), kept.status().as_bytes());
    dated
}

/// How a response is framed, which is announced even where nothing is sent (RFC 9110 section 8.6); none when nothing is
/// to be said of it.
fn frame(
    asked: &Asked,
    status: StatusCode,
    announced: Option<u64>,
    body: Option<&ResponseBody>,
) -> Option<Framing> {
    if status.is_informational() || status == StatusCode::NO_CONTENT {
        return None;
    }
    if let Some(length) = announced {
        return Some(Framing::Sized(length));
    }
    let body = body?;
    Some(match body.size_hint().exact() {
        Some(length) => Framing::Sized(length),
        None if asked.http11 => Framing::Chunked,
        None => Framing::UntilClose,
    })
}
