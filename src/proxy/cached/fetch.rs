//! The way to the origin, alone or with everybody who wants the same.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::Body;

use super::super::body::ResponseBody;
use super::super::forward::{self, Answer};
use super::super::live::LiveRoute;
use super::super::outbound::Outbound;
use super::super::pool::Timer;
use super::super::respond::Refusal;
use super::super::track::Track;
use super::{Asked, Place, Ready, dress, fill};
use crate::cache::Found;
use crate::cache::fill::{Fill, Lead, SURROGATE_KEY};
use crate::cache::flight::{Flight, News, Reader};
use crate::cache::key;
use crate::cache::object::Object;
use crate::cache::semantics::model::Exchange;
use crate::cache::semantics::reuse::Reuse;
use crate::cache::semantics::status::{CacheStatus, Forward};
use crate::cache::semantics::{self, Control, condition, fields, range, reuse, store};
use crate::model::{CacheResult, Phase, Reason};

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Answered {
    /// The origin's response, passed on as it comes.
    Passed(Box<Answer>),
    /// A response made of what is stored.
    Ready(Box<Ready>),
    /// A response that is being stored.
    Arriving(Box<Arriving>),
}

/// A response that is being stored: its head, and where its body is read.
#[derive(Debug)]
pub(crate) struct Arriving {
    pub(crate) head: http::response::Parts,
    pub(crate) reader: Reader,
}

const FAILED: Refusal = Refusal::new(
    StatusCode::BAD_GATEWAY,
    Reason::UpstreamReset,
    "the origin failed for requests like this one",
);

/// Answers a request by way of the origin.
///
/// # Errors
/// When it is refused or the origin fails, and nothing stored may stand in.
pub(crate) async fn ask(
    track: &mut Track,
    route: &LiveRoute,
    mut asked: Box<Asked>,
    outbound: Box<Outbound>,
) -> Result<Answered, Refusal> {
    if let Some(ready) = asked.load(track).await? {
        return Ok(Answered::Ready(ready));
    }
    let Some(selection) = asked.joins.as_deref() else {
        let lead = asked.of.cache.lead_alone(&asked.key);
        return lead_on(track, route, &asked, lead, outbound).await;
    };
    // One who leads may fail; then another does, but not one after the other for everybody.
    for first in [true, false] {
        let flight = match asked.of.cache.lead(&asked.key, selection) {
            Ok(lead) => {
                let Some(object) = asked.stored_since(track) else {
                    return lead_on(track, route, &asked, lead, outbound).await;
                };
                lead.answer_with(&object);
                let now = track.conn.worker.unix_millis(track.now());
                let ready = asked.dress(track, &object, &asked.headers, false, now);
                return Ok(Answered::Ready(ready));
            }
            Err(flight) => flight,
        };
        match follow(track, &asked, &flight).await {
            Followed::Answered(answered) => return Ok(*answered),
            Followed::Alone => break,
            Followed::Failed if first => {}
            Followed::Failed => return asked.stand_in(track, None).ok_or(FAILED),
        }
    }
    let lead = asked.of.cache.lead_alone(&asked.key);
    lead_on(track, route, &asked, lead, outbound).await
}

/// The future of a leader is large and rarely needed by who follows.
async fn lead_on(
    track: &mut Track,
    route: &LiveRoute,
    asked: &Asked,
    lead_of: Lead,
    outbound: Box<Outbound>,
) -> Result<Answered, Refusal> {
    Box::pin(lead(track, route, asked, lead_of, outbound)).await
}

/// What came of waiting for another request.
enum Followed {
    Answered(Box<Answered>),
    /// The answer is not for this request.
    Alone,
    Failed,
}

/// Waits for what the flight brings, for as long as the cache's setting allows.
async fn follow(track: &mut Track, asked: &Asked, flight: &Arc<Flight>) -> Followed {
    let Some(waiter) = flight.wait() else {
        return Followed::Alone;
    };
    let now = track.now();
    track.phase(Phase::Decide, now);
    track.enters(Phase::Wait);
    let until = now.after(asked.of.config.coalesce_wait);
    let mut timer = track
        .conn
        .worker
        .spares()
        .take_timer()
        .unwrap_or_else(|| Timer::new(until));
    let news = poll_fn(|cx| match waiter.poll(cx) {
        Poll::Ready(news) => Poll::Ready(Some(news)),
        Poll::Pending => timer.poll_until(cx, until).map(|()| None),
    })
    .await;
    track.conn.worker.spares().give_timer(timer);
    let now = track.now();
    track.phase(Phase::Wait, now);
    track.enters(Phase::Decide);
    let wall = track.conn.worker.unix_millis(now);
    let mut status = CacheStatus {
        forward: Some(asked.forward),
        collapsed: true,
        ..CacheStatus::default()
    };
    match news {
        Some(News::Arriving(head)) if head.matches(&asked.headers) => {
            status.ttl = Some(head.model.ttl(wall));
            let ready = dress::if_unmodified(&head, &asked.headers, status, wall);
            if let Some(ready) = ready {
                asked.note(track, CacheResult::Collapsed, "not_modified");
                return Followed::Answered(Box::new(Answered::Ready(ready)));
            }
            let Some(reader) = flight.read() else {
                return Followed::Alone;
            };
            asked.note(track, CacheResult::Collapsed, asked.forward.as_str());
            let head = dress::arriving(&head, status, wall);
            let arriving = Box::new(Arriving { head, reader });
            Followed::Answered(Box::new(Answered::Arriving(arriving)))
        }
        Some(News::Stored(object)) if object.head.matches(&asked.headers) => {
            status.ttl = Some(object.head.model.ttl(wall));
            asked.note(track, CacheResult::Collapsed, asked.forward.as_str());
            let ready = dress::stored(&object, &asked.method, &asked.headers, status, wall);
            Followed::Answered(Box::new(Answered::Ready(ready)))
        }
        Some(News::Failed) => Followed::Failed,
        Some(News::Arriving(_) | News::Stored(_) | News::NotShared) | None => Followed::Alone,
    }
}

/// Asks the origin, and tells the flight what it says.
///
/// # Errors
/// When it is refused or the origin fails, and nothing stored may stand in.
pub(super) async fn lead(
    track: &mut Track,
    route: &LiveRoute,
    asked: &Asked,
    lead: Lead,
    mut outbound: Box<Outbound>,
) -> Result<Answered, Refusal> {
    let validates = asked.prepare(&mut outbound);
    let sent = track.conn.worker.unix_millis(track.now());
    let answer = match forward::forward(track, route, outbound).await {
        Ok(answer) => answer,
        Err(refusal) => {
            let failed = refusal.status.is_server_error();
            return match asked.stand_in(track, None).filter(|_| failed) {
                Some(ready) => {
                    if let Some(stored) = &asked.stored {
                        lead.answer_with(stored);
                    }
                    Ok(ready)
                }
                None => Err(refusal),
            };
        }
    };
    let arrived = track.conn.worker.unix_millis(answer.passing.now);
    let times = Exchange { sent, arrived };
    let status = answer.head.status;
    if let (Some(stored), true) = (&asked.stored, asked.takes_part()) {
        if validates && status == StatusCode::NOT_MODIFIED {
            return Ok(asked.validated(track, lead, stored, answer, times));
        }
        if matches!(status.as_u16(), 500 | 502 | 503 | 504)
            && let Some(ready) = asked.stand_in(track, Some(status))
        {
            lead.answer_with(stored);
            let (_head, body) = split(track, answer);
            tokio::task::spawn_local(fill::discard(body));
            return Ok(ready);
        }
    }
    Ok(asked.take(track, route, lead, answer, times))
}

/// A response's head, and its body to be read without the client.
fn split(track: &Track, answer: Box<Answer>) -> (http::response::Parts, ResponseBody) {
    let idle = track
        .route()
        .map_or(super::super::pipeline::DEFAULT_IDLE, |route| {
            route.route.idle_timeout
        });
    let body = ResponseBody::passed(answer.passing, None, idle, track.silent());
    (answer.head, body)
}

impl Asked {
    /// The flight to lead for it, if nobody does.
    pub(super) fn lead(&self) -> Option<Lead> {
        let selection = self.joins.as_deref().unwrap_or_default();
        self.of.cache.lead(&self.key, selection).ok()
    }

    /// What was stored since the request was looked up, by a flight that has landed before this one could join
    /// it.
    pub(super) fn stored_since(&self, track: &Track) -> Option<Arc<Object>> {
        let now = track.conn.worker.unix_millis(track.now());
        let Found::Match(object) = self.of.cache.find(&self.key, &self.headers, now) else {
            return None;
        };
        let looked_up = self.stored.as_ref();
        let is_new = looked_up.is_none_or(|stored| !Arc::ptr_eq(stored, &object));
        let is_good = reuse::reuse(&object.head.model, &self.control, now) == Reuse::AsItIs;
        (is_new && is_good).then_some(object)
    }

    /// Makes the request ask for what is missing. Whether it asks if what is stored still holds.
    fn prepare(&self, outbound: &mut Outbound) -> bool {
        let Some(stored) = self.stored.as_ref().filter(|_| self.method == Method::GET) else {
            return false;
        };
        let request = &mut outbound.head.headers;
        if !self.part {
            return condition::validate(request, &stored.head.headers);
        }
        if let Some((from, tag)) = self.missing(stored) {
            for name in condition::CONDITIONS {
                request.remove(name);
            }
            request.insert(RANGE, from);
            request.insert(IF_RANGE, tag);
        }
        false
    }

    /// What is missing of a part that begins at the beginning, and by which validator, if the whole is asked
    /// for.
    fn missing(&self, stored: &Object) -> Option<(HeaderValue, HeaderValue)> {
        let tag = stored.head.headers.get(http::header::ETAG)?;
        let whole = !self.headers.contains_key(RANGE);
        if !whole || !condition::is_strong(tag) || stored.part?.0 != 0 {
            return None;
        }
        let from = format!("bytes={}-", stored.body.len());
        Some((HeaderValue::try_from(from).ok()?, tag.clone()))
    }

    /// What is stored, in the place of an origin that fails: with `status`, or altogether.
    fn stand_in(&self, track: &mut Track, status: Option<StatusCode>) -> Option<Answered> {
        let stands = |stored: &Object| !stored.head.status.is_server_error();
        let stored = self
            .stored
            .as_ref()
            .filter(|stored| !self.part && self.takes_part() && stands(stored))?;
        let now = track.conn.worker.unix_millis(track.now());
        if !reuse::may_stand_in(&stored.head.model, self.grace(), now) {
            return None;
        }
        let account = CacheStatus {
            forward: Some(self.forward),
            forward_status: status.map(|status| status.as_u16()),
            ttl: Some(stored.head.model.ttl(now)),
            detail: Some("sie"),
            ..CacheStatus::default()
        };
        self.note(track, CacheResult::Stale, "origin_failed");
        let ready = dress::stored(stored, &self.method, &self.headers, account, now);
        Some(Answered::Ready(ready))
    }

    /// The origin says that what is stored still holds.
    fn validated(
        &self,
        track: &mut Track,
        lead: Lead,
        stored: &Arc<Object>,
        answer: Box<Answer>,
        times: Exchange,
    ) -> Answered {
        let (head, body) = split(track, answer);
        tokio::task::spawn_local(fill::discard(body));
        let (object, kept) = if fields::is_about(&stored.head.headers, &head.headers) {
            let answered = self.answer(head.status, &head.headers, times);
            lead.freshen(stored, &answered, &self.of.config)
        } else {
            // It speaks of another: this one is used once more, and not kept.
            lead.drop_stored(stored);
            (Arc::clone(stored), false)
        };
        let account = CacheStatus {
            forward: Some(self.forward),
            forward_status: Some(304),
            stored: kept,
            ttl: Some(object.head.model.ttl(times.arrived)),
            ..CacheStatus::default()
        };
        self.note(track, CacheResult::Revalidated, self.forward.as_str());
        let (method, request) = (&self.method, &self.headers);
        Answered::Ready(dress::stored(
            &object,
            method,
            request,
            account,
            times.arrived,
        ))
    }

    fn answer<'a>(
        &'a self,
        status: StatusCode,
        headers: &'a HeaderMap,
        exchange: Exchange,
    ) -> store::Answer<'a> {
        let Place {
            scheme,
            host,
            target,
        } = &self.place;
        store::Answer {
            method: &self.method,
            request: &self.headers,
            status,
            headers,
            exchange,
            names_itself: store::names_itself(headers, scheme, host, target.as_str()),
        }
    }

    /// Takes the origin's response: stores it if that may be, and does what it says about what is stored.
    fn take(
        &self,
        track: &mut Track,
        route: &LiveRoute,
        mut lead: Lead,
        mut answer: Box<Answer>,
        times: Exchange,
    ) -> Answered {
        let status = answer.head.status;
        let purges = self.invalidate(status, &answer.head.headers, route);
        if purges > 0 {
            lead.outlives(purges);
        }
        let result = if self.takes_part() {
            CacheResult::Miss
        } else {
            CacheResult::Bypass
        };
        self.note(track, result, self.forward.as_str());
        let mut account = CacheStatus {
            forward: Some(self.forward),
            forward_status: Some(status.as_u16()),
            ..CacheStatus::default()
        };
        if let Some(whole) = self.completed(&answer.head) {
            answer.head.status = StatusCode::OK;
            answer.head.headers = whole;
        }
        let status = answer.head.status;
        let judged = match self.forward {
            Forward::Bypass => None,
            _ => Some(lead.judge(
                &self.answer(status, &answer.head.headers, times),
                &self.of.config,
            )),
        };
        match judged {
            Some(Ok(head)) if self.fits(&answer.head.headers) => {
                account.stored = true;
                account.ttl = Some(head.model.ttl(times.arrived));
                self.hide_tags(&mut answer.head.headers);
                account.append(&mut answer.head.headers);
                let completes = account.forward_status != Some(status.as_u16());
                let (parts, body) = split(track, answer);
                let fill = lead.fill(head, self.client, &self.of.config);
                if let Some(part) = self.stored.as_ref().filter(|_| completes) {
                    fill.begins_with(part);
                }
                begin(parts, body, fill)
            }
            judged => {
                if self.method == Method::HEAD {
                    self.compare(lead, &answer.head, times);
                } else {
                    let refused = judged
                        .and_then(Result::err)
                        .is_some_and(store::Refused::lasts);
                    let lasting = refused && self.takes_part() && !status.is_server_error();
                    lead.release(!lasting, &self.headers, times.arrived);
                }
                self.hide_tags(&mut answer.head.headers);
                account.append(&mut answer.head.headers);
                Answered::Passed(answer)
            }
        }
    }

    /// What the origin's answer to HEAD says about the stored answer to GET (RFC 9111 section 4.3.5).
    fn compare(&self, lead: Lead, head: &http::response::Parts, times: Exchange) {
        let Some(stored) = &self.stored else { return };
        if head.status.is_server_error() {
            return;
        }
        let same = head.status == stored.head.status
            && fields::is_same(&stored.head.headers, &head.headers);
        if same {
            let answered = self.answer(head.status, &head.headers, times);
            // Nobody waits for it.
            let _freshened = lead.freshen(stored, &answered, &self.of.config);
        } else {
            lead.drop_stored(stored);
        }
    }

    /// The head of the whole, when `head` is that of the part which is missing.
    fn completed(&self, head: &http::response::Parts) -> Option<HeaderMap> {
        let stored = self.stored.as_ref().filter(|_| self.part)?;
        self.missing(stored)?;
        let (start, end, length) = range::carried(&head.headers)?;
        let fits = head.status == StatusCode::PARTIAL_CONTENT
            && start == stored.body.len()
            && end == length
            && stored.part == Some((0, length))
            && range::may_combine(&stored.head.headers, &head.headers);
        let control = Control::of(&head.headers, &self.of.config.targeted);
        let mut headers = fields::freshened(&stored.head.headers, &head.headers, &control);
        headers.remove(CONTENT_RANGE);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        fits.then_some(headers)
    }

    /// Drops what the answer to an unsafe request makes invalid; how many purges that were.
    fn invalidate(&self, status: StatusCode, headers: &HeaderMap, route: &LiveRoute) -> u64 {
        let acts = status.is_success() || status.is_redirection();
        if semantics::is_safe(&self.method) || !acts {
            return 0;
        }
        let Place {
            scheme,
            host,
            target,
        } = &self.place;
        let others = reuse::invalidated(scheme, host, target.as_str(), headers);
        let mut purges = 0;
        for target in std::iter::once(target.as_str().to_owned()).chain(others) {
            let url = key::url(scheme, host, &target);
            let key = self.key_of(route, url.clone(), &target);
            self.of.cache.invalidate(url, &key, self.is_split());
            purges += 1;
        }
        purges
    }

    /// Whether the responses of one URL may be stored under several keys.
    fn is_split(&self) -> bool {
        let parts = &self.of.config.key;
        self.trusted || !parts.headers.is_empty() || !parts.cookies.is_empty()
    }

    /// Whether a body with these fields may be kept, as far as they tell.
    fn fits(&self, headers: &HeaderMap) -> bool {
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        length.is_none_or(|length| length <= self.of.config.max_object)
    }

    /// Takes the tags out, which are meant for caches of the origin's own.
    fn hide_tags(&self, headers: &mut HeaderMap) {
        headers.remove(&self.of.config.tag_header);
        headers.remove(SURROGATE_KEY);
    }
}

/// Starts to take the body in, and reads it for the client.
fn begin(head: http::response::Parts, body: ResponseBody, into: Fill) -> Answered {
    let reader = into.reader();
    if body.is_end_stream() {
        into.finish(None);
    } else {
        tokio::task::spawn_local(fill::fill(body, into));
    }
    Answered::Arriving(Box::new(Arriving { head, reader }))
}
