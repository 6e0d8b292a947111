//! `Cache-Control` of responses and requests (RFC 9111 section 5.2), and the targeted fields that stand above
//! it (RFC 9213).

use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, Dictionary, ListEntry};

/// The greatest number of seconds told apart (RFC 9111 section 1.2.2).
pub const MAX_SECONDS: u32 = 1 << 31;

/// Fields that `no-cache` or `private` may name.
const MAX_NAMED: usize = 32;

/// What a response says about caching it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// `max-age`; 0 when it is malformed.
    pub max_age: Option<u32>,
    /// `s-maxage`; 0 when it is malformed.
    pub s_maxage: Option<u32>,
    /// `stale-while-revalidate` (RFC 5861).
    pub stale_while_revalidate: Option<u32>,
    /// `stale-if-error` (RFC 5861).
    pub stale_if_error: Option<u32>,
    /// Fields that `no-cache` or `private` name: they are not stored.
    pub withheld: Vec<HeaderName>,
    /// Whether it was read from a targeted field, which stands in the place of `Expires` as well.
    pub targeted: bool,
    flags: u8,
}

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:ident;)*) => {
        impl Control {
            $($(#[$doc])*
            #[must_use]
            pub const fn $name(&self) -> bool {
                self.flags & Self::$bit != 0
            })*
        }
    };
}

flags! {
    /// Whether nothing of it may be stored.
    no_store = NO_STORE;
    /// Whether it must not be used without asking the origin.
    no_cache = NO_CACHE;
    /// Whether it is for one user only.
    private = PRIVATE;
    /// Whether it may be stored although other rules speak against it.
    public = PUBLIC;
    /// Whether it must not be used stale.
    must_revalidate = MUST_REVALIDATE;
    /// Whether a shared cache must not use it stale.
    proxy_revalidate = PROXY_REVALIDATE;
    /// Whether it may be stored only by a cache that knows its status code.
    must_understand = MUST_UNDERSTAND;
}

impl Control {
    const NO_STORE: u8 = 1;
    const NO_CACHE: u8 = 1 << 1;
    const PRIVATE: u8 = 1 << 2;
    const PUBLIC: u8 = 1 << 3;
    const MUST_REVALIDATE: u8 = 1 << 4;
    const PROXY_REVALIDATE: u8 = 1 << 5;
    const MUST_UNDERSTAND: u8 = 1 << 6;

    /// Reads a response's directives: from the first of the fields `targeted` that is there and valid, else
    /// from `Cache-Control`.
    #[must_use]
    pub fn of(headers: &HeaderMap, targeted: &[HeaderName]) -> Self {
        let found = targeted
            .iter()
            .find_map(|name| Self::targeted(headers, name));
        found.unwrap_or_else(|| {
            let mut control = Self::default();
            each(headers, |name, argument| control.take(name, &argument));
            control
        })
    }

    fn take(&mut self, name: &str, argument: &Argument) {
        match name {
            "max-age" => least(&mut self.max_age, argument.seconds().unwrap_or(0)),
            "s-maxage" => least(&mut self.s_maxage, argument.seconds().unwrap_or(0)),
            "stale-while-revalidate" => least(
                &mut self.stale_while_revalidate,
                argument.seconds().unwrap_or(0),
            ),
            "stale-if-error" => {
                least(&mut self.stale_if_error, argument.seconds().unwrap_or(0));
            }
            "no-cache" => self.withhold(argument, Self::NO_CACHE),
            "private" => self.withhold(argument, Self::PRIVATE),
            _ => self.flags |= Self::flag(name),
        }
    }

    fn flag(name: &str) -> u8 {
        match name {
            "no-store" => Self::NO_STORE,
            "no-cache" => Self::NO_CACHE,
            "private" => Self::PRIVATE,
            "public" => Self::PUBLIC,
            "must-revalidate" => Self::MUST_REVALIDATE,
            "proxy-revalidate" => Self::PROXY_REVALIDATE,
            "must-understand" => Self::MUST_UNDERSTAND,
            _ => 0,
        }
    }

    /// `no-cache` and `private` with a list of fields concern only those, without one the whole response.
    /// An argument that is no such list counts as none: that is the stricter reading.
    fn withhold(&mut self, argument: &Argument, flag: u8) {
        let Argument::Quoted(list) = argument else {
            self.flags |= flag;
            return;
        };
        let names = list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        let names: Option<Vec<HeaderName>> =
            names.map(|name| HeaderName::try_from(name).ok()).collect();
        match names {
            Some(names) if !names.is_empty() && self.withheld.len() + names.len() <= MAX_NAMED => {
                self.withheld.extend(names);
            }
            _ => self.flags |= flag,
        }
    }

    /// Reads the targeted field `name`; none when it is absent, empty or not valid (RFC 9213 section 2.1).
    fn targeted(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut text = Vec::new();
        for line in headers.get_all(name) {
            if !text.is_empty() {
                text.extend_from_slice(b", ");
            }
            text.extend_from_slice(line.as_bytes());
        }
        let dictionary: Dictionary = sfv::Parser::new(&text).parse().ok()?;
        if dictionary.is_empty() {
            return None;
        }
        let mut control = Self {
            targeted: true,
            ..Self::default()
        };
        for (key, entry) in &dictionary {
            let ListEntry::Item(item) = entry else {
                continue;
            };
            let place = match key.as_str() {
                "max-age" => &mut control.max_age,
                "s-maxage" => &mut control.s_maxage,
                "stale-while-revalidate" => &mut control.stale_while_revalidate,
                "stale-if-error" => &mut control.stale_if_error,
                other => {
                    if !matches!(item.bare_item, BareItem::Boolean(false)) {
                        control.flags |= Self::flag(other);
                    }
                    continue;
                }
            };
            let BareItem::Integer(seconds) = item.bare_item else {
                return None;
            };
            let seconds = i64::from(seconds).clamp(0, i64::from(MAX_SECONDS));
            *place = u32::try_from(seconds).ok();
        }
        Some(control)
    }
}

/// What a request says about answering it from a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestControl {
    /// The greatest age wanted, in seconds.
    pub max_age: Option<u32>,
    /// How much longer it must stay fresh, in seconds.
    pub min_fresh: Option<u32>,
    /// How long past its freshness it may be; [`MAX_SECONDS`] for any time.
    pub max_stale: Option<u32>,
    /// Whether the origin is to be asked.
    pub no_cache: bool,
    /// Whether nothing of the answer may be stored.
    pub no_store: bool,
    /// Whether the origin must not be asked.
    pub only_if_cached: bool,
}

impl RequestControl {
    /// Reads a request's directives, or those of HTTP/1.0 where there are none.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut control = Self::default();
        if !headers.contains_key(CACHE_CONTROL) {
            let mut pragmas = headers.get_all(PRAGMA).iter();
            control.no_cache = pragmas.any(|value| {
                let mut words = value.as_bytes().split(|byte| *byte == b',');
                words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"no-cache"))
            });
            return control;
        }
        each(headers, |name, argument| match name {
            "max-age" => least(&mut control.max_age, argument.seconds().unwrap_or(0)),
            "min-fresh" => {
                let seconds = argument.seconds().unwrap_or(MAX_SECONDS);
                control.min_fresh = Some(control.min_fresh.map_or(seconds, |it| it.max(seconds)));
            }
            "max-stale" => match argument {
                Argument::None => least(&mut control.max_stale, MAX_SECONDS),
                _ => least(&mut control.max_stale, argument.seconds().unwrap_or(0)),
            },
            "no-cache" => control.no_cache = true,
            "no-store" => control.no_store = true,
            "only-if-cached" => control.only_if_cached = true,
            _ => {}
        });
        control
    }
}

fn least(place: &mut Option<u32>, seconds: u32) {
    *place = Some(place.map_or(seconds, |it| it.min(seconds)));
}

/// A directive's argument.
enum Argument {
    None,
    Token(String),
    Quoted(String),
    /// Not as the grammar has it.
    Malformed,
}

impl Argument {
    /// A number of seconds (RFC 9111 section 1.2.2); none when it is not one.
    fn seconds(&self) -> Option<u32> {
        let (Self::Token(text) | Self::Quoted(text)) = self else {
            return None;
        };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| {
            // Digits that fit no number are too many.
            let seconds: u64 = text.parse().unwrap_or(u64::MAX);
            u32::try_from(seconds).map_or(MAX_SECONDS, |it| it.min(MAX_SECONDS))
        })
    }
}

/// Calls `take` with every directive of `Cache-Control`, its name in lower case.
fn each(headers: &HeaderMap, mut take: impl FnMut(&str, Argument)) {
    for line in headers.get_all(CACHE_CONTROL) {
        for member in members(line) {
            let member = member.trim_ascii();
            let split = member.iter().position(|byte| *byte == b'=');
            let (name, argument) = match split.and_then(|at| member.split_at_checked(at)) {
                None => (member, Argument::None),
                // Space around `=` is no part of the grammar.
                Some((name, rest)) => (name.trim_ascii(), argument(name, rest.get(1..))),
            };
            if let Ok(name) = std::str::from_utf8(name)
                && !name.is_empty()
            {
                take(&name.to_ascii_lowercase(), argument);
            }
        }
    }
}

fn argument(name: &[u8], argument: Option<&[u8]>) -> Argument {
    let text = argument.and_then(|argument| std::str::from_utf8(argument).ok());
    let (Some(text), false) = (text, name.ends_with(b" ") || name.ends_with(b"\t")) else {
        return Argument::Malformed;
    };
    let Some(quoted) = text.strip_prefix('"') else {
        let spaced = text.contains([' ', '\t', '"']);
        return if text.is_empty() || spaced {
            Argument::Malformed
        } else {
            Argument::Token(text.to_owned())
        };
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.extend(chars.next()),
            '"' if chars.as_str().is_empty() => return Argument::Quoted(value),
            '"' => return Argument::Malformed,
            c => value.push(c),
        }
    }
    Argument::Malformed
}

/// The members of a comma-separated line; commas in quoted strings part nothing.
pub(super) fn members(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    line.as_bytes().split(move |byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' => return !quoted,
            _ => {}
        }
        false
    })
}
