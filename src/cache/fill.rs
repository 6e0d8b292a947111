//! The leader's side of a flight: what it brings is told its followers, and stored.

use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};

use super::flight::{Listed, News, Reader};
use super::object::{Charge, Entry, Head, Object, compact};
use super::semantics::model::Lifetime;
use super::semantics::store::{Answer, Policy, Refused, storable};
use super::semantics::vary::Vary;
use super::semantics::{Control, Millis, Model, fields, range};
use super::{Cache, UNSHAREABLE_FOR};
use crate::config::plan;

/// Tags a response may have, and the longest.
const MAX_TAGS: usize = 256;
const MAX_TAG: usize = 1_024;
/// Fields that carry tags between spaces, besides the one that is configured.
pub const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

/// A flight that is led. Dropped before its head arrived, it has failed.
#[derive(Debug)]
pub struct Lead {
    cache: Arc<Cache>,
    key: Arc<str>,
    /// The newest purge when the origin was asked.
    epoch: u64,
    listed: Listed,
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.listed.land(&self.cache.flights, News::Failed);
    }
}

impl Lead {
    pub(super) fn new(cache: &Arc<Cache>, key: &Arc<str>, epoch: u64, listed: Listed) -> Self {
        Self {
            cache: Arc::clone(cache),
            key: Arc::clone(key),
            epoch,
            listed,
        }
    }

    /// The answer to an unsafe request noted `own` purges, which do not concern it: unless others came between,
    /// it may be stored after them.
    pub fn outlives(&mut self, own: u64) {
        let newest = self.cache.purges().epoch();
        if newest == self.epoch.saturating_add(own) {
            self.epoch = newest;
        }
    }

    /// The response to `request` is for the leader alone. Unless others may still be `shareable`, whatever is
    /// stored for such requests is dropped, since all of it is older, and nobody waits for the like of it for a
    /// while.
    pub fn release(mut self, shareable: bool, request: &HeaderMap, now: Millis) {
        if !shareable {
            self.cache.update(&self.key, |former| {
                let stays = |object: &Object| !object.head.matches(request);
                let mut entry = former.keeping(stays, self.cache.most());
                if entry.variants.is_empty() {
                    entry.unshareable_until = now.saturating_add(UNSHAREABLE_FOR);
                }
                entry
            });
            self.cache.forget(&self.key);
        }
        self.listed.land(&self.cache.flights, News::NotShared);
    }

    /// `stored` is what everybody gets: it stands in for an origin that fails, or has come meanwhile.
    pub fn answer_with(mut self, stored: &Arc<Object>) {
        self.listed
            .land(&self.cache.flights, News::Stored(Arc::clone(stored)));
    }

    /// Drops the stored response that was asked about: it does not hold any more.
    pub fn drop_stored(&self, stored: &Arc<Object>) {
        self.cache.update(&self.key, |former| {
            let stays = |object: &Object| !std::ptr::eq(object, &**stored);
            former.keeping(stays, self.cache.most())
        });
        self.cache.forget(&self.key);
    }

    /// The origin says that `stored` still holds; the response as it is now. `answer` is the 304 and what was
    /// asked.
    #[must_use]
    pub fn freshen(
        mut self,
        stored: &Arc<Object>,
        answer: &Answer<'_>,
        config: &plan::Cache,
    ) -> (Arc<Object>, bool) {
        let control = Control::of(answer.headers, &config.targeted);
        let headers = fields::freshened(&stored.head.headers, answer.headers, &control);
        let control = Control::of(&headers, &config.targeted);
        let mut kept = headers.clone();
        for name in &control.withheld {
            kept.remove(name);
        }
        let status = stored.head.status;
        let merged = Answer {
            status,
            headers: &headers,
            method: &http::Method::GET,
            ..*answer
        };
        let judged = match stored.part {
            None => storable(&merged, &control, policy(config)),
            Some(_) => part_model(&merged, &control),
        };
        let (model, vary, stays) = match judged {
            Ok((model, vary)) => (model, vary, true),
            Err(_) => {
                let model = Model::new(&control, 0, &headers, answer.exchange);
                (model, stored.head.vary.clone(), false)
            }
        };
        let head = Arc::new(Head {
            status,
            model,
            selection: vary.selection(answer.request),
            vary,
            tags: stored.head.tags.clone(),
            took: stored.head.took,
            headers: compact(&kept),
            validator: OnceLock::new(),
        });
        let object = Arc::new(stored.with_head(head));
        let stored_again = stays && self.commit(&object);
        if !stays {
            self.drop_stored(stored);
        }
        self.listed
            .land(&self.cache.flights, News::Stored(Arc::clone(&object)));
        (object, stored_again)
    }

    /// Whether the response may be stored, and what of its head.
    ///
    /// # Errors
    /// When it may not be.
    pub fn judge(&self, answer: &Answer<'_>, config: &plan::Cache) -> Result<Head, Refused> {
        let control = Control::of(answer.headers, &config.targeted);
        let (model, vary) = if answer.status == StatusCode::PARTIAL_CONTENT {
            part_model(answer, &control)?
        } else {
            storable(answer, &control, policy(config))?
        };
        let arrived = i64::try_from(answer.exchange.arrived / 1_000).unwrap_or(i64::MAX);
        let mut headers = fields::kept(answer.headers, &control, arrived);
        headers.remove(&config.tag_header);
        headers.remove(SURROGATE_KEY);
        Ok(Head {
            status: answer.status,
            headers: compact(&headers),
            model,
            selection: vary.selection(answer.request),
            vary,
            tags: tags(answer.headers, &config.tag_header),
            took: answer.exchange.arrived.saturating_sub(answer.exchange.sent),
            validator: OnceLock::new(),
        })
    }

    /// Begins to fill with the body of a response under `head`, asked for by `client`.
    #[must_use]
    pub fn fill(mut self, head: Head, client: u64, config: &plan::Cache) -> Fill {
        let head = Arc::new(head);
        let part = range::carried(&head.headers)
            .filter(|_| head.status == StatusCode::PARTIAL_CONTENT)
            .map(|(start, end, length)| (start, end - start, length));
        if part.is_some() {
            // What is part of one answer is none to others.
            self.listed.land(&self.cache.flights, News::NotShared);
        } else {
            self.listed.arrives(Arc::clone(&head));
        }
        Fill {
            lead: self,
            head,
            client,
            part,
            max_object: config.max_object,
            share: config.max_client_share,
            keeps: true,
        }
    }

    /// Stores `object`, unless it was purged while it was under way.
    fn commit(&self, object: &Arc<Object>) -> bool {
        let mut stored = false;
        let tags = &object.head.tags;
        self.cache.update(&self.key, |former| {
            // Held until the disk has it too, so that no purge comes in between.
            let purges = self.cache.purges();
            if purges.since(self.epoch, &self.key, tags) {
                return Entry::of(former.variants.clone(), self.cache.most());
            }
            let entry = former.with(Arc::clone(object), self.cache.most());
            stored = entry
                .variants
                .first()
                .is_some_and(|it| Arc::ptr_eq(it, object));
            if let (true, Some(disk)) = (stored, &*self.cache.disk.load()) {
                disk.put(&self.key, object);
            }
            entry
        });
        stored
    }
}

/// What the operator adds to the origin's word.
const fn policy(config: &plan::Cache) -> Policy {
    Policy {
        default_ttl: config.default_ttl,
        not_found_ttl: config.not_found_ttl,
        strict_cookies: config.strict_cookies,
    }
}

/// The model of a 206 that may be stored (RFC 9111 section 3.3): as a 200 would be.
fn part_model(answer: &Answer<'_>, control: &Control) -> Result<(Model, Vary), Refused> {
    range::carried(answer.headers).ok_or(Refused::Status)?;
    let whole = Answer {
        status: StatusCode::OK,
        ..*answer
    };
    let arrived = i64::try_from(answer.exchange.arrived / 1_000).unwrap_or(i64::MAX);
    match Lifetime::of(control, StatusCode::OK, answer.headers, arrived) {
        Lifetime::Unknown => Err(Refused::NoLifetime),
        _ => storable(&whole, control, Policy::default()),
    }
}

/// The tags of a response: between commas in the operator's field, between spaces in `Surrogate-Key`.
fn tags(headers: &HeaderMap, field: &HeaderName) -> Box<[Box<str>]> {
    let of = |name: &HeaderName, separator: fn(char) -> bool| -> Vec<Box<str>> {
        let lines = headers
            .get_all(name)
            .iter()
            .filter_map(|line| line.to_str().ok());
        let tags = lines.flat_map(|line| line.split(separator)).map(str::trim);
        tags.filter(|tag| !tag.is_empty() && tag.len() <= MAX_TAG)
            .map(Box::from)
            .collect()
    };
    let mut tags = of(field, |c| c == ',');
    if *field != SURROGATE_KEY {
        tags.extend(of(&SURROGATE_KEY, |c| c == ' '));
    } else {
        tags = of(&SURROGATE_KEY, |c| c == ' ');
    }
    tags.truncate(MAX_TAGS);
    tags.into()
}

/// A body on its way into the store. Dropped before its end, it has broken off.
#[derive(Debug)]
pub struct Fill {
    lead: Lead,
    head: Arc<Head>,
    client: u64,
    /// Of a part: its first byte, its length, and that of the whole.
    part: Option<(u64, u64, u64)>,
    max_object: u64,
    share: f64,
    keeps: bool,
}

impl Fill {
    /// Reads the body as it arrives, from its beginning when nothing has come yet.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.lead.listed.flight().reader()
    }

    /// The body begins with that of `stored`.
    pub fn begins_with(&self, stored: &Object) {
        // What cannot be read is missing: the length that was announced tells.
        if let Ok(body) = stored.body.read() {
            self.lead.listed.push(body);
        }
    }

    /// Another frame came.
    pub fn push(&mut self, frame: Bytes) {
        let bytes = self.lead.listed.push(frame);
        if self.keeps && bytes > self.max_object {
            self.keeps = false;
            self.lead.listed.leave(&self.lead.cache.flights);
            self.lead.listed.stream();
        }
    }

    /// Ready when there is room for more; false when nobody wants it.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<bool> {
        self.lead.listed.poll_room(cx)
    }

    /// The body is whole: stores it. Whether it was.
    pub fn finish(self, trailers: Option<HeaderMap>) -> bool {
        let stored = self.keeps && self.store();
        self.lead.listed.end(true, trailers);
        stored
    }

    fn store(&self) -> bool {
        let frames = self.lead.listed.frames();
        // The frames are slices of read buffers; a copy of its own takes no more than it needs.
        let mut body = Vec::with_capacity(frames.iter().map(Bytes::len).sum());
        for frame in &frames {
            body.extend_from_slice(frame);
        }
        let length = body.len() as u64;
        let announced = self.head.headers.get(http::header::CONTENT_LENGTH);
        let announced = announced.and_then(|it| it.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|it| it != length)
            || self.part.is_some_and(|(_, part, _)| part != length)
        {
            return false;
        }
        let cache = &self.lead.cache;
        let account = cache.account(self.client);
        if account.is_some_and(|account| cache.has_its_share(account, self.share)) {
            return false;
        }
        let weight = self.head.weight() + length;
        let charge = account.map(|account| Arc::new(Charge::new(Arc::clone(account), weight)));
        let object = Object {
            head: Arc::clone(&self.head),
            body: Bytes::from(body).into(),
            part: self.part.map(|(start, _, whole)| (start, whole)),
            hits: 0.into(),
            charge,
        };
        let object = Arc::new(object);
        self.lead.commit(&object)
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        // After the end this says nothing new.
        self.lead.listed.end(false, None);
    }
}
