//! Random responses, requests and times against what the text of RFC 9111 says of them.
//!
//! The oracle works in whole seconds on what was generated, not on header fields, and is written from sections
//! 3, 4.2 and 5.2 alone.

use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;

use super::{NOW, NOW_MILLIS, date, headers};
use crate::cache::semantics::model::Exchange;
use crate::cache::semantics::reuse::{Reuse, may_stand_in, reuse};
use crate::cache::semantics::store::{Answer, Policy, storable};
use crate::cache::semantics::{Control, RequestControl};

/// A response as it was meant.
#[derive(Clone, Debug)]
struct Meant {
    max_age: Option<u32>,
    s_maxage: Option<u32>,
    /// Seconds after its date.
    expires: Option<i64>,
    /// Seconds before its arrival.
    made: i64,
    age: u32,
    delay: u32,
    swr: Option<u32>,
    sie: Option<u32>,
    /// no-store, private, no-cache, must-revalidate, proxy-revalidate, public.
    words: [bool; 6],
    authorised: bool,
    validator: bool,
    /// How the directives are written.
    style: u8,
}

const WORDS: [&str; 6] = [
    "no-store",
    "private",
    "no-cache",
    "must-revalidate",
    "proxy-revalidate",
    "public",
];

impl Meant {
    fn headers(&self) -> HeaderMap {
        let mut directives: Vec<String> = Vec::new();
        let mut number = |name: &str, value: Option<u32>| {
            if let Some(value) = value {
                directives.push(match self.style % 3 {
                    0 => format!("{name}={value}"),
                    1 => format!("{}=\"{value}\"", name.to_uppercase()),
                    _ => format!("{name}=000{value}, x-{name}=1"),
                });
            }
        };
        number("max-age", self.max_age);
        number("s-maxage", self.s_maxage);
        number("stale-while-revalidate", self.swr);
        number("stale-if-error", self.sie);
        let words = WORDS.iter().zip(self.words).filter(|(_, on)| *on);
        directives.extend(words.map(|(word, _)| (*word).to_owned()));
        let mut fields = headers(&[("date", &date(-self.made)), ("age", &self.age.to_string())]);
        // Any half of the list may stand on a line of its own.
        let (one, other) = directives.split_at(directives.len() / 2);
        for half in [one, other] {
            if !half.is_empty() {
                let line = half.join(if self.style.is_multiple_of(2) {
                    ", "
                } else {
                    ","
                });
                fields.append("cache-control", line.parse().unwrap());
            }
        }
        if let Some(expires) = self.expires {
            fields.insert("expires", date(expires - self.made).parse().unwrap());
        }
        if self.validator {
            fields.insert("etag", "\"a\"".parse().unwrap());
        }
        fields
    }

    /// Section 4.2.1.
    fn lifetime(&self) -> Option<i64> {
        let directive = self.s_maxage.or(self.max_age).map(i64::from);
        directive.or_else(|| self.expires.map(|after| after.max(0)))
    }

    /// Section 4.2.3, `after` seconds past its arrival.
    fn age(&self, after: i64) -> i64 {
        let corrected = i64::from(self.age) + i64::from(self.delay);
        self.made.max(corrected) + after
    }

    /// Section 3.
    fn may_be_stored(&self) -> bool {
        let [no_store, private, _, must_revalidate, _, public] = self.words;
        let shared = public || must_revalidate || self.s_maxage.is_some();
        !no_store && !private && (!self.authorised || shared)
    }

    /// Section 4.2.4: what forbids any stale use.
    fn forbids_stale(&self) -> bool {
        let [_, _, no_cache, must_revalidate, proxy_revalidate, _] = self.words;
        no_cache || must_revalidate || proxy_revalidate || self.s_maxage.is_some()
    }
}

prop_compose! {
    fn meant()(
        numbers in (
            proptest::option::of(0_u32..100),
            proptest::option::of(0_u32..100),
            proptest::option::of(-50_i64..100),
            0_i64..100,
            0_u32..100,
            0_u32..5,
        ),
        windows in (proptest::option::of(0_u32..60), proptest::option::of(0_u32..60)),
        words in proptest::array::uniform6(proptest::bool::weighted(0.15)),
        authorised in proptest::bool::weighted(0.2),
        validator in any::<bool>(),
        style in any::<u8>(),
    ) -> Meant {
        let (max_age, s_maxage, expires, made, age, delay) = numbers;
        let (swr, sie) = windows;
        Meant {
            max_age, s_maxage, expires, made, age, delay, swr, sie, words, authorised, validator,
            style,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_096, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_served_that_the_text_forbids_and_nothing_fresh_is_withheld(
        meant in meant(),
        after in 0_i64..200,
        max_age in proptest::option::of(0_u32..100),
        min_fresh in proptest::option::of(0_u32..50),
        max_stale in proptest::option::of(0_u32..100),
        grace in 0_u64..100,
    ) {
        let response = meant.headers();
        let request = headers(if meant.authorised { &[("authorization", "x")] } else { &[] });
        let answer = Answer {
            method: &Method::GET,
            request: &request,
            status: StatusCode::OK,
            headers: &response,
            exchange: Exchange {
                sent: NOW_MILLIS - u64::from(meant.delay) * 1_000,
                arrived: NOW_MILLIS,
            },
            names_itself: false,
        };
        let control = Control::of(&response, &[]);
        let stored = storable(&answer, &control, Policy::default());
        if !meant.may_be_stored() {
            prop_assert!(stored.is_err());
            return Ok(());
        }
        let [_, _, no_cache, ..] = meant.words;
        let lifetime = meant.lifetime();
        let Ok((model, _)) = stored else {
            // Only what could never be used is refused beyond the text.
            prop_assert!(lifetime.is_none_or(|it| it == 0 || no_cache) && !meant.validator);
            return Ok(());
        };
        let now = NOW_MILLIS + u64::try_from(after).unwrap() * 1_000;
        let age = meant.age(after);
        prop_assert_eq!(i64::try_from(model.age(now) / 1_000).unwrap(), age);
        let wanted = RequestControl { max_age, min_fresh, max_stale, ..RequestControl::default() };
        let lifetime = lifetime.unwrap_or(0);
        let fresh = age < lifetime;
        let wants = max_age.is_none_or(|max| age <= i64::from(max))
            && min_fresh.is_none_or(|min| lifetime - age >= i64::from(min) || (fresh && min == 0));
        let staleness = (age - lifetime).max(0);
        let client_allows = max_stale.is_some_and(|max| staleness <= i64::from(max));
        let origin_allows = meant.swr.is_some_and(|swr| staleness < i64::from(swr));
        match reuse(&model, &wanted, now) {
            Reuse::AsItIs => {
                prop_assert!(!no_cache);
                prop_assert!(wants);
                prop_assert!(fresh || (client_allows && !meant.forbids_stale()));
            }
            Reuse::WhileRevalidated => {
                prop_assert!(!fresh && wants && origin_allows && !meant.forbids_stale());
            }
            Reuse::Stale | Reuse::Asked => {
                let usable = fresh && !no_cache && max_age.is_none_or(|max| age <= i64::from(max));
                prop_assert!(!(usable && min_fresh.is_none()), "withheld: {:?}", meant);
            }
        }
        let allowed = meant.sie.map_or(0, u64::from).max(grace);
        let stands_in = may_stand_in(&model, grace * 1_000, now);
        let within = fresh || u64::try_from(staleness).unwrap() < allowed;
        prop_assert_eq!(stands_in, within && !meant.forbids_stale());
    }

    #[test]
    fn no_bytes_in_cache_control_make_more_of_it_than_less(
        text in "[ -~]{0,60}",
    ) {
        let plain = headers(&[("cache-control", "max-age=5, no-store")]);
        let Ok(value) = http::HeaderValue::try_from(text) else { return Ok(()) };
        let mut more = plain.clone();
        more.append("cache-control", value);
        let control = Control::of(&more, &[]);
        // Whatever stands beside them, the shorter lifetime and the prohibition hold.
        prop_assert!(control.no_store());
        prop_assert!(control.max_age.is_some_and(|seconds| seconds <= 5));
    }
}

#[test]
fn the_oracle_and_the_fields_it_writes_mean_the_same_date() {
    let text = date(-7);
    let value = http::HeaderValue::try_from(text).unwrap();
    assert_eq!(
        crate::cache::semantics::date::parse(&value, NOW),
        Some(NOW - 7)
    );
}
