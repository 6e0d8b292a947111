//! Random histories of requests and origin answers, and who may fill the store.
//!
//! The oracle of the histories is written from the text of RFC 9111 sections 4.1 to 4.4 and 5.2 and of RFC 5861, on
//! what was generated, not on header fields. The code does with a request what a worker does.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;

use super::object::Object;
use super::purge::Scope;
use super::semantics::model::Exchange;
use super::semantics::reuse::{self, Reuse};
use super::semantics::store::Answer;
use super::semantics::{Millis, RequestControl};
use super::{Cache, Found};
use crate::config::plan;

/// How long past their freshness responses may stand in for an origin that fails, in seconds.
const GRACE: i64 = 30;

fn config() -> plan::Cache {
    plan::Cache {
        name: "test".into(),
        memory: 1 << 20,
        disk: None,
        max_object: 128 << 10,
        default_ttl: 0,
        not_found_ttl: 0,
        stale_if_unhealthy: std::time::Duration::from_secs(30),
        tag_header: HeaderName::from_static("cache-tag"),
        strict_cookies: false,
        obeys_clients: true,
        targeted: Vec::new(),
        key: plan::CacheKey::default(),
        coalesce_wait: std::time::Duration::from_secs(5),
        max_client_share: 0.5,
    }
}

/// What the origin says about keeping an answer.
#[derive(Clone, Debug)]
struct Meant {
    max_age: Option<i64>,
    s_maxage: Option<i64>,
    swr: Option<i64>,
    sie: Option<i64>,
    age: i64,
    /// no-store, private, no-cache, must-revalidate, proxy-revalidate.
    words: [bool; 5],
}

const WORDS: [&str; 5] = [
    "no-store",
    "private",
    "no-cache",
    "must-revalidate",
    "proxy-revalidate",
];

impl Meant {
    fn headers(&self) -> HeaderMap {
        let numbers = [
            ("max-age", self.max_age),
            ("s-maxage", self.s_maxage),
            ("stale-while-revalidate", self.swr),
            ("stale-if-error", self.sie),
        ];
        let numbers = numbers.into_iter();
        let numbers = numbers.filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        let words = WORDS.iter().zip(self.words);
        let words = words
            .filter(|(_, on)| *on)
            .map(|(word, _)| (*word).to_owned());
        let all: Vec<String> = numbers.chain(words).collect();
        let mut headers = HeaderMap::new();
        // Always there, so that a 304 replaces it whole.
        insert(
            &mut headers,
            "cache-control",
            &format!("x, {}", all.join(", ")),
        );
        insert(&mut headers, "age", &self.age.to_string());
        headers
    }

    /// Section 4.2.1: a shared cache prefers s-maxage; no heuristic applies here.
    fn lifetime(&self) -> i64 {
        self.s_maxage.or(self.max_age).unwrap_or(0)
    }

    fn may_be_stored(&self) -> bool {
        let [no_store, private, ..] = self.words;
        !no_store && !private
    }

    /// Sections 4.2.4 and 5.2.2.
    fn forbids_stale(&self) -> bool {
        let [_, _, no_cache, must_revalidate, proxy_revalidate] = self.words;
        no_cache || must_revalidate || proxy_revalidate || self.s_maxage.is_some()
    }
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a directive that a client may send or not"
)]
#[derive(Clone, Debug)]
struct Get {
    url: usize,
    language: usize,
    /// What the client wants: max-age, min-fresh, max-stale.
    wants: [Option<i64>; 3],
    no_cache: bool,
    /// What the origin would say.
    meant: Meant,
    varies: bool,
    validator: bool,
    not_modified: bool,
    fails: bool,
    delay: i64,
}

#[derive(Clone, Debug)]
enum Step {
    Wait(i64),
    Get(Get),
    /// An unsafe request that succeeds.
    Post(usize),
    /// A purge, soft or not.
    Purge(usize, bool),
}

fn seconds() -> impl Strategy<Value = Option<i64>> {
    proptest::option::weighted(0.4, 0_i64..60)
}

prop_compose! {
    fn meant()(
        max_age in proptest::option::weighted(0.8, 0_i64..60),
        s_maxage in proptest::option::weighted(0.1, 0_i64..60),
        swr in seconds(),
        sie in seconds(),
        age in prop_oneof![3 => Just(0), 1 => 0_i64..30],
        words in proptest::array::uniform5(proptest::bool::weighted(0.07)),
    ) -> Meant {
        Meant { max_age, s_maxage, swr, sie, age, words }
    }
}

prop_compose! {
    fn get()(
        (url, language) in (0_usize..2, 0_usize..2),
        wants in prop_oneof![
            3 => Just([None; 3]),
            2 => proptest::array::uniform3(proptest::option::weighted(0.3, 0_i64..60)),
        ],
        no_cache in proptest::bool::weighted(0.1),
        meant in meant(),
        (varies, validator, not_modified) in any::<(bool, bool, bool)>(),
        fails in proptest::bool::weighted(0.2),
        delay in 0_i64..4,
    ) -> Get {
        Get { url, language, wants, no_cache, meant, varies, validator, not_modified, fails, delay }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_i64..40).prop_map(Step::Wait),
        8 => get().prop_map(Step::Get),
        1 => (0_usize..2).prop_map(Step::Post),
        1 => (0_usize..2, any::<bool>()).prop_map(|(url, soft)| Step::Purge(url, soft)),
    ]
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    headers.insert(name, HeaderValue::try_from(value).unwrap());
}

/// An answer of the origin's, as the oracle knows it.
#[derive(Clone, Debug)]
struct Known {
    url: usize,
    language: Option<usize>,
    meant: Meant,
    /// When it was asked for, or its last validation, and when that was answered.
    asked: i64,
    arrived: i64,
    /// Whether an unsafe request or a purge came after it.
    gone: bool,
    /// When a soft purge made it stale, if one did since.
    expired: Option<i64>,
}

/// How an answer was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Without asking the origin.
    Hit,
    /// The origin was asked, and failed.
    StandIn,
    /// The origin said that it holds.
    Validated,
}

struct History {
    cache: Arc<Cache>,
    config: plan::Cache,
    known: Vec<Known>,
    now: i64,
}

fn key(url: usize) -> Arc<str> {
    format!("http://a/{url}").into()
}

impl History {
    fn millis(&self) -> Millis {
        u64::try_from(self.now).unwrap() * 1_000
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Wait(seconds) => self.now += seconds,
            Step::Get(get) => self.get(&get),
            Step::Post(url) => {
                self.cache
                    .invalidate(key(url).to_string(), &key(url), false);
                self.each(url, |known| known.gone = true);
            }
            Step::Purge(url, soft) => {
                let scope = Scope::Url(key(url).to_string());
                self.cache.purge(&scope, soft, self.millis());
                let now = self.now;
                self.each(url, |known| {
                    if soft {
                        known.expired.get_or_insert(now);
                    } else {
                        known.gone = true;
                    }
                });
            }
        }
    }

    fn each(&mut self, url: usize, change: impl Fn(&mut Known)) {
        self.known
            .iter_mut()
            .filter(|known| known.url == url)
            .for_each(change);
    }

    /// As a worker does.
    fn get(&mut self, get: &Get) {
        let mut request = HeaderMap::new();
        insert(&mut request, "accept-language", ["de", "en"][get.language]);
        let [max_age, min_fresh, max_stale] =
            get.wants.map(|it| it.map(|it| u32::try_from(it).unwrap()));
        let control = RequestControl {
            max_age,
            min_fresh,
            max_stale,
            no_cache: get.no_cache,
            ..RequestControl::default()
        };
        let stored = match self.cache.find(&key(get.url), &request, self.millis()) {
            Found::Match(object) => Some(object),
            _ => None,
        };
        if let Some(stored) = &stored
            && matches!(
                reuse::reuse(&stored.head.model, &control, self.millis()),
                Reuse::AsItIs | Reuse::WhileRevalidated
            )
        {
            return self.served(get, stored, Use::Hit);
        }
        let lead = self.cache.lead(&key(get.url), "").unwrap();
        let asked = self.now;
        self.now += get.delay;
        if get.fails {
            drop(lead);
            let grace = u64::try_from(GRACE).unwrap() * 1_000;
            if let Some(stored) = stored
                && reuse::may_stand_in(&stored.head.model, grace, self.millis())
            {
                self.served(get, &stored, Use::StandIn);
            }
            return;
        }
        let exchange = Exchange {
            sent: u64::try_from(asked).unwrap() * 1_000,
            arrived: self.millis(),
        };
        let validates = stored
            .as_ref()
            .filter(|it| it.head.headers.contains_key("etag"));
        let mut headers = get.meant.headers();
        let answer = |status, headers| Answer {
            method: &Method::GET,
            request: &request,
            status,
            headers,
            exchange,
            names_itself: false,
        };
        if let Some(stored) = validates.filter(|_| get.not_modified) {
            let number = version(stored);
            let (object, _) = lead.freshen(
                stored,
                &answer(StatusCode::NOT_MODIFIED, &headers),
                &self.config,
            );
            let known = &mut self.known[number];
            known.meant = get.meant.clone();
            (known.asked, known.arrived, known.expired) = (asked, self.now, None);
            return self.served(get, &object, Use::Validated);
        }
        let number = self.known.len();
        self.known.push(Known {
            url: get.url,
            language: get.varies.then_some(get.language),
            meant: get.meant.clone(),
            asked,
            arrived: self.now,
            gone: false,
            expired: None,
        });
        if get.validator {
            insert(&mut headers, "etag", &format!("\"{number}\""));
        }
        if get.varies {
            insert(&mut headers, "vary", "accept-language");
        }
        match lead.judge(&answer(StatusCode::OK, &headers), &self.config) {
            Ok(head) => {
                assert!(get.meant.may_be_stored(), "stored: {get:?}");
                let mut fill = lead.fill(head, 1, &self.config);
                fill.push(Bytes::from(number.to_string()));
                assert!(fill.finish(None), "nothing came in between");
            }
            Err(refused) => lead.release(!refused.lasts(), &request, self.millis()),
        }
    }

    /// Whether the text allows `object` to be used so.
    fn served(&self, get: &Get, object: &Object, how: Use) {
        let number = version(object);
        let known = &self.known[number];
        let what = format!(
            "{how:?} at {} of {number}: {known:?}, for {get:?}",
            self.now
        );
        assert_eq!(known.url, get.url, "{what}");
        assert!(
            known
                .language
                .is_none_or(|language| language == get.language),
            "4.1: {what}"
        );
        assert!(!known.gone, "4.4: {what}");
        if how == Use::Validated {
            return;
        }
        let meant = &known.meant;
        // Section 4.2.3; nothing here has a Date, so that its arrival is its date.
        let initial = meant.age + known.arrived - known.asked;
        let age = initial + self.now - known.arrived;
        let mut lifetime = meant.lifetime();
        if let Some(expired) = known.expired {
            lifetime = lifetime.min(initial + expired - known.arrived);
        }
        let staleness = (age - lifetime).max(0);
        let fresh = age < lifetime;
        if how == Use::StandIn {
            let allowed = meant.sie.unwrap_or(0).max(GRACE);
            let within = !meant.forbids_stale() && staleness <= allowed;
            assert!(fresh || within, "4.2.4: {what}");
            return;
        }
        let [_, _, no_cache, ..] = meant.words;
        assert!(!no_cache && !get.no_cache, "5.2.1.4, 5.2.2.4: {what}");
        let [max_age, min_fresh, max_stale] = get.wants;
        assert!(max_age.is_none_or(|most| age <= most), "5.2.1.1: {what}");
        assert!(
            min_fresh.is_none_or(|least| lifetime - age >= least),
            "5.2.1.3: {what}"
        );
        let client = max_stale.is_some_and(|most| staleness <= most);
        let origin = meant.swr.is_some_and(|window| staleness <= window);
        let stale = (client || origin) && !meant.forbids_stale();
        assert!(fresh || stale, "4.2: {what}");
        // Section 4.1: of several that match, the most recent.
        let newer = self.known.iter().skip(number + 1);
        let mut newer =
            newer.filter(|it| it.url == get.url && !it.gone && it.meant.may_be_stored());
        let same = |it: &Known| it.language == Some(get.language);
        assert!(!newer.any(|it| same(it) && same(known)), "4.1: {what}");
    }
}

fn version(object: &Object) -> usize {
    let body = object.body.read().unwrap();
    std::str::from_utf8(&body).unwrap().parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_024, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_is_served_is_older_than_the_text_allows(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let config = config();
        let mut history = History {
            cache: Arc::new(Cache::new(&config)),
            config,
            known: Vec::new(),
            now: 1_000_000,
        };
        for step in steps {
            history.run(step);
        }
    }
}

/// Has `client` ask for `url`; whether what came is stored.
fn store(cache: &Arc<Cache>, config: &plan::Cache, url: &str, client: u64) -> bool {
    let mut headers = HeaderMap::new();
    insert(&mut headers, "cache-control", "max-age=3600");
    store_with(cache, config, url, client, &headers)
}

/// The same, of an answer with these `headers`.
fn store_with(
    cache: &Arc<Cache>,
    config: &plan::Cache,
    url: &str,
    client: u64,
    headers: &HeaderMap,
) -> bool {
    let lead = cache.lead(&url.into(), "").unwrap();
    let answer = Answer {
        method: &Method::GET,
        request: &HeaderMap::new(),
        status: StatusCode::OK,
        headers,
        exchange: Exchange {
            sent: 1_000,
            arrived: 1_000,
        },
        names_itself: false,
    };
    let head = lead.judge(&answer, config).unwrap();
    let mut fill = lead.fill(head, client, config);
    fill.push(Bytes::from(vec![b'x'; 16 << 10]));
    fill.finish(None)
}

#[test]
fn one_client_fills_no_more_than_its_share_of_what_others_need() {
    // One shard, so that chance has no part in what is evicted.
    let config = plan::Cache {
        max_object: 512 << 10,
        ..config()
    };
    let cache = Arc::new(Cache::new(&config));
    let (greedy, other) = (1, 2);
    // Nobody else needs the room: it may have all of it.
    for number in 0..100 {
        assert!(store(
            &cache,
            &config,
            &format!("http://a/{number}"),
            greedy
        ));
    }
    for number in 0..8 {
        let url = format!("http://b/{number}");
        assert!(store(&cache, &config, &url, other));
        assert!(matches!(
            cache.find(&url, &HeaderMap::new(), 1_000),
            Found::Match(_)
        ));
    }
    assert!(!store(&cache, &config, "http://a/more", greedy));
    assert!(store(&cache, &config, "http://b/more", other));
}

#[test]
fn what_is_stored_keeps_no_buffer_that_it_was_read_into() {
    let config = config();
    let cache = Arc::new(Cache::new(&config));
    let read = Bytes::from(vec![b'7'; 8 << 10]);
    let mut headers = HeaderMap::new();
    insert(&mut headers, "cache-control", "max-age=3600");
    let value = HeaderValue::from_maybe_shared(read.slice(..2)).unwrap();
    headers.insert("x-of-the-buffer", value);
    assert!(store_with(&cache, &config, "http://a/", 1, &headers));
    drop(headers);
    assert!(read.is_unique());
    let Found::Match(found) = cache.find("http://a/", &HeaderMap::new(), 1_000) else {
        panic!("it was stored");
    };
    assert_eq!(found.head.headers["x-of-the-buffer"], "77");
}
