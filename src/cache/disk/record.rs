//! A stored response as it stands in a segment: a header of fixed length, then its key and head, then its body.
//!
//! Two checksums: one over header, key and head, so that a scan need not read bodies, and one over the body. What
//! does not fit either is no record.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::codec::{Reader, Writer, sum};
use crate::cache::object::{Head, Object};
use crate::cache::semantics::Model;
use crate::cache::semantics::vary::Vary;

/// Bytes of a header.
pub(super) const HEADER: usize = 32;
/// What a header begins with; another form of records begins with another.
const MAGIC: u32 = 0x3143_4754;
/// The longest key and head.
const MAX_HEAD: usize = 4 << 20;

/// What a header says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    checksum: u32,
    /// Bytes of key and head.
    pub(super) head: usize,
    /// Bytes of the body.
    pub(super) body: u64,
    body_checksum: u32,
    /// The newest purge when it was stored.
    pub(super) epoch: u64,
}

/// A record's key, and all of the response but its body.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) key: Arc<str>,
    pub(super) head: Head,
    pub(super) part: Option<(u64, u64)>,
}

/// The record of `object` up to its `body`; none when it is too large.
pub(super) fn encode(key: &str, object: &Object, body: &[u8], epoch: u64) -> Option<Vec<u8>> {
    let head = head(key, object)?;
    let mut tail = Writer::default();
    tail.u32(u32::try_from(head.len()).ok()?);
    tail.u64(body.len() as u64);
    tail.u32(sum(&[body]));
    tail.u64(epoch);
    let mut record = Writer(Vec::with_capacity(HEADER + head.len()));
    record.u32(MAGIC);
    record.u32(sum(&[&tail.0, &head]));
    record.0.extend_from_slice(&tail.0);
    record.0.extend_from_slice(&head);
    (head.len() <= MAX_HEAD).then_some(record.0)
}

fn head(key: &str, object: &Object) -> Option<Vec<u8>> {
    let mut out = Writer::default();
    out.bytes(key.as_bytes())?;
    let (start, length) = object.part.unwrap_or_default();
    out.u8(u8::from(object.part.is_some()));
    out.u64(start);
    out.u64(length);
    let head = &object.head;
    out.u16(head.status.as_u16());
    let model = &head.model;
    for time in [
        model.arrived,
        model.initial_age,
        model.lifetime,
        model.stale_while_revalidate,
        model.stale_if_error,
        head.took,
    ] {
        out.u64(time);
    }
    out.u8(u8::from(model.always_validate));
    out.u8(u8::from(model.never_stale));
    out.bytes(head.selection.as_bytes())?;
    out.count(head.vary.names().len())?;
    for name in head.vary.names() {
        out.bytes(name.as_str().as_bytes())?;
    }
    out.count(head.tags.len())?;
    for tag in &head.tags {
        out.bytes(tag.as_bytes())?;
    }
    out.count(head.headers.len())?;
    for (name, value) in &head.headers {
        out.bytes(name.as_str().as_bytes())?;
        out.bytes(value.as_bytes())?;
    }
    Some(out.0)
}

/// What the header at the beginning of `bytes` says, if there is one.
pub(super) fn header(bytes: &[u8]) -> Option<Header> {
    let mut from = Reader(bytes);
    (from.u32()? == MAGIC).then_some(())?;
    let header = Header {
        checksum: from.u32()?,
        head: usize::try_from(from.u32()?).ok()?,
        body: from.u64()?,
        body_checksum: from.u32()?,
        epoch: from.u64()?,
    };
    (header.head <= MAX_HEAD).then_some(header)
}

/// The record that begins with `bytes`, up to its body, if it is as it was written.
pub(super) fn stored(bytes: &[u8]) -> Option<(Header, Stored)> {
    let header = header(bytes)?;
    let whole = bytes.get(8..HEADER.checked_add(header.head)?)?;
    (sum(&[whole]) == header.checksum).then_some(())?;
    let stored = decode(whole.get(HEADER - 8..)?)?;
    Some((header, stored))
}

/// The response whose record `bytes` are, with its key and the newest purge when it was stored, if they are as
/// they were written.
pub(super) fn object(bytes: Bytes) -> Option<(Arc<str>, u64, Object)> {
    let (header, stored) = stored(&bytes)?;
    let begin = HEADER.checked_add(header.head)?;
    let length = usize::try_from(header.body).ok()?;
    let whole = begin.checked_add(length)? == bytes.len();
    let body = whole.then(|| bytes.slice(begin..))?;
    (sum(&[&body]) == header.body_checksum).then_some(())?;
    let object = Object {
        head: Arc::new(stored.head),
        body: body.into(),
        part: stored.part,
        hits: 0.into(),
        charge: None,
    };
    Some((stored.key, header.epoch, object))
}

fn decode(bytes: &[u8]) -> Option<Stored> {
    let mut from = Reader(bytes);
    let key = from.text()?.into();
    let is_part = from.u8()? != 0;
    let part = (from.u64()?, from.u64()?);
    let status = StatusCode::from_u16(from.u16()?).ok()?;
    let model = Model {
        arrived: from.u64()?,
        initial_age: from.u64()?,
        lifetime: from.u64()?,
        stale_while_revalidate: from.u64()?,
        stale_if_error: from.u64()?,
        always_validate: false,
        never_stale: false,
    };
    let took = from.u64()?;
    let model = Model {
        always_validate: from.u8()? != 0,
        never_stale: from.u8()? != 0,
        ..model
    };
    let selection = from.text()?.into();
    let mut vary = Vec::new();
    for _ in 0..from.u32()? {
        vary.push(HeaderName::from_bytes(from.bytes()?).ok()?);
    }
    let mut tags = Vec::new();
    for _ in 0..from.u32()? {
        tags.push(from.text()?.into());
    }
    let mut headers = HeaderMap::new();
    for _ in 0..from.u32()? {
        let name = HeaderName::from_bytes(from.bytes()?).ok()?;
        let value = HeaderValue::from_bytes(from.bytes()?).ok()?;
        headers.try_append(name, value).ok()?;
    }
    let head = Head {
        status,
        headers,
        model,
        vary: Vary::restored(vary),
        selection,
        tags: tags.into(),
        took,
        validator: OnceLock::new(),
    };
    Some(Stored {
        key,
        head,
        part: is_part.then_some(part),
    })
}
