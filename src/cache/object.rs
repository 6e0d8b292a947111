//! A stored response, and all that is stored for one URL.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::content::Content;
use super::semantics::vary::Vary;
use super::semantics::{Millis, Model};

/// Bytes that a stored response takes besides its fields and body.
const OVERHEAD: u64 = 512;
/// Bytes that one field takes besides its text, and room for one does.
const FIELD_OVERHEAD: usize = 112;
/// Variants kept of one URL.
const MAX_VARIANTS: usize = 64;

/// A response's head as it is kept.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// How old it is, and how long it may be used.
    pub model: Model,
    /// By what it was selected.
    pub vary: Vary,
    /// What the request said there.
    pub selection: Box<str>,
    /// The tags it can be purged by.
    pub tags: Box<[Box<str>]>,
    /// How long the origin took to make it.
    pub took: Millis,
    /// A hash of its validator, once somebody has asked; 0 when it has none.
    pub validator: OnceLock<u32>,
}

impl Head {
    /// Whether it was made for requests like `request`.
    #[must_use]
    pub fn matches(&self, request: &HeaderMap) -> bool {
        self.vary.is_empty()
            || self.vary.selection(request) == self.selection
            || self.vary.is_in_first_language(request, &self.headers)
    }

    /// The same, stale from now on.
    #[must_use]
    pub fn expired(&self, now: Millis) -> Self {
        Self {
            status: self.status,
            headers: self.headers.clone(),
            model: self.model.expired(now),
            vary: self.vary.clone(),
            selection: self.selection.clone(),
            tags: self.tags.clone(),
            took: self.took,
            validator: self.validator.clone(),
        }
    }

    pub(super) fn weight(&self) -> u64 {
        let fields = self.headers.iter();
        let fields = fields.map(|(name, value)| name.as_str().len() + value.len());
        let tags = self.tags.iter().map(|tag| tag.len() + FIELD_OVERHEAD);
        let text: usize = fields.chain(tags).sum();
        let room = self.headers.capacity() * FIELD_OVERHEAD;
        (text + room) as u64 + self.selection.len() as u64 + OVERHEAD
    }
}

/// `headers` with their text in memory of its own. As they were read they are slices of a buffer that is many times as
/// large, and would be kept with them.
pub(super) fn compact(headers: &HeaderMap) -> HeaderMap {
    let mut text = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    let mut compact = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        text.extend_from_slice(value.as_bytes());
        let own = HeaderValue::from_maybe_shared(text.split().freeze());
        compact.append(name, own.unwrap_or_else(|_invalid| value.clone()));
    }
    compact
}

/// Bytes charged to whoever asked for them, until they are dropped.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) account: Arc<AtomicU64>,
    pub(super) bytes: u64,
}

impl Charge {
    pub(super) fn new(account: Arc<AtomicU64>, bytes: u64) -> Self {
        account.fetch_add(bytes, Ordering::Relaxed);
        Self { account, bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.account.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A stored response. Never changed: what freshens it makes another.
#[derive(Debug)]
pub struct Object {
    /// Its head.
    pub head: Arc<Head>,
    /// Its body; of a part only that.
    pub body: Content,
    /// Of a part: its first byte, and the length of the whole.
    pub part: Option<(u64, u64)>,
    /// How often it was used.
    pub hits: AtomicU64,
    pub(super) charge: Option<Arc<Charge>>,
}

impl Object {
    /// Bytes of memory it takes.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.head.weight() + self.body.weight()
    }

    /// The same response under another head.
    #[must_use]
    pub fn with_head(&self, head: Arc<Head>) -> Self {
        Self {
            head,
            body: self.body.clone(),
            part: self.part,
            hits: AtomicU64::new(self.hits.load(Ordering::Relaxed)),
            charge: self.charge.clone(),
        }
    }

    /// The same response with its body somewhere else.
    #[must_use]
    pub fn with_body(&self, body: Content) -> Self {
        Self {
            body,
            ..self.with_head(Arc::clone(&self.head))
        }
    }

    /// Whether it may stand beside `other`: they answer different requests.
    fn stands_beside(&self, other: &Self) -> bool {
        self.part != other.part
            || self.head.vary != other.head.vary
            || self.head.selection != other.head.selection
    }
}

/// All that is stored for one URL, the newest first.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The responses.
    pub variants: Vec<Arc<Object>>,
    /// Until when its responses are known not to be shareable, so that nobody waits for one.
    pub unshareable_until: Millis,
    /// Bytes of memory it takes.
    pub weight: u64,
}

impl Entry {
    /// Of these responses, as many of the newest as fit into `most` bytes.
    #[must_use]
    pub fn of(variants: Vec<Arc<Object>>, most: u64) -> Self {
        let mut weight = 0;
        let mut kept = Vec::with_capacity(variants.len());
        for object in variants.into_iter().take(MAX_VARIANTS) {
            let with = weight + object.weight();
            if with > most {
                break;
            }
            weight = with;
            kept.push(object);
        }
        Self {
            variants: kept,
            unshareable_until: 0,
            weight,
        }
    }

    /// With `new` in the place of `old`, if that is still there.
    #[must_use]
    pub fn replacing(&self, old: &Arc<Object>, new: &Arc<Object>, most: u64) -> Self {
        let place = |it: &Arc<Object>| Arc::clone(if Arc::ptr_eq(it, old) { new } else { it });
        Self {
            unshareable_until: self.unshareable_until,
            ..Self::of(self.variants.iter().map(place).collect(), most)
        }
    }

    /// With those that stay.
    #[must_use]
    pub fn keeping(&self, stays: impl Fn(&Object) -> bool, most: u64) -> Self {
        let kept = self.variants.iter().filter(|object| stays(object));
        Self::of(kept.cloned().collect(), most)
    }

    /// With `object` in the place of those it replaces. A whole response replaces every part as well.
    #[must_use]
    pub fn with(&self, object: Arc<Object>, most: u64) -> Self {
        let others = self.variants.iter().filter(|other| {
            object.stands_beside(other) && (object.part.is_some() || other.part.is_none())
        });
        let others: Vec<Arc<Object>> = others.cloned().collect();
        let mut variants = vec![object];
        variants.extend(others);
        Self::of(variants, most)
    }
}
