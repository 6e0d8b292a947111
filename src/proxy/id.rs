//! Ids of requests: UUIDs of version 7 (RFC 9562 section 5.7), or what a trusted peer says. Depends on `uuid` and
//! `http`.

use std::cell::RefCell;

use bytes::BytesMut;
use http::HeaderValue;

/// The length of a UUID's text.
const LENGTH: usize = 36;

/// Ids whose text lies in one piece of memory.
const TOGETHER: usize = 16;

/// A request's id, ready to be a field's value.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// The id that `given` is.
    pub(crate) const fn given(given: HeaderValue) -> Self {
        Self(given)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(self.0.as_bytes()).unwrap_or_default()
    }

    /// The same as a field's value.
    pub(crate) fn value(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Makes ids.
#[derive(Debug, Default)]
pub(crate) struct Ids(RefCell<BytesMut>);

impl Ids {
    /// The id of a request that began so many milliseconds after the Unix epoch.
    pub(crate) fn make(&self, millis: u64, random: &[u8; 10]) -> RequestId {
        let id = uuid::Builder::from_unix_timestamp_millis(millis, random).into_uuid();
        let mut text = [0; LENGTH];
        let text = id.hyphenated().encode_lower(&mut text);
        let mut made = self.0.borrow_mut();
        if made.capacity() < LENGTH {
            made.reserve(LENGTH * TOGETHER);
        }
        made.extend_from_slice(text.as_bytes());
        let value = HeaderValue::from_maybe_shared(made.split().freeze());
        // Digits are a value.
        RequestId(value.unwrap_or(const { HeaderValue::from_static("-") }))
    }
}
