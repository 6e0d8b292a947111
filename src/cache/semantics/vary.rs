//! By which fields of the request a response varies (RFC 9111 section 4.1).

use std::fmt::Write as _;

use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_LANGUAGE, VARY};
use http::{HeaderMap, HeaderName};

/// Fields a stored response may vary by.
const MAX_FIELDS: usize = 8;

/// The request fields that select a response, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vary(Box<[HeaderName]>);

impl Vary {
    /// What the response's `Vary` names; none when no request could match: it says `*`, is malformed, or names
    /// more fields than are worth it.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut names = Vec::new();
        for line in headers.get_all(VARY) {
            for name in line.as_bytes().split(|byte| *byte == b',') {
                let name = name.trim_ascii();
                if name.is_empty() {
                    continue;
                }
                if name == b"*" {
                    return None;
                }
                let name = HeaderName::from_bytes(name).ok()?;
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        (names.len() <= MAX_FIELDS).then(|| Self(names.into()))
    }

    /// Of these names, as they were kept.
    pub(in crate::cache) fn restored(names: Vec<HeaderName>) -> Self {
        Self(names.into())
    }

    /// The names.
    pub(in crate::cache) const fn names(&self) -> &[HeaderName] {
        &self.0
    }

    /// Whether it names a field that is one of those.
    #[must_use]
    pub fn names_any(&self, those: impl Fn(&HeaderName) -> bool) -> bool {
        self.0.iter().any(those)
    }

    /// Whether it names no field: every request matches.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a response that varies by the language alone is in the one that `request` wants most: then no
    /// other would be preferred to it.
    #[must_use]
    pub fn is_in_first_language(&self, request: &HeaderMap, response: &HeaderMap) -> bool {
        let ([ACCEPT_LANGUAGE], Some(language)) = (&*self.0, response.get(CONTENT_LANGUAGE)) else {
            return false;
        };
        let line = request.get(ACCEPT_LANGUAGE);
        // One without a weight: nothing is wanted more.
        let first = line.and_then(|line| super::control::members(line).next());
        first.is_some_and(|first| first.trim_ascii().eq_ignore_ascii_case(language.as_bytes()))
    }

    /// What `request` says in these fields, in a form that is the same for values that mean the same.
    #[must_use]
    pub fn selection(&self, request: &HeaderMap) -> Box<str> {
        let mut selection = String::new();
        for name in &self.0 {
            match value(request, name) {
                Some(value) => {
                    // The length keeps one value from looking like two.
                    let _infallible = write!(selection, "{}:{value}", value.len());
                }
                None => selection.push('-'),
            }
        }
        selection.into()
    }
}

/// A field's lines as one value, without the spaces that mean nothing; none when there are none.
fn value(request: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut members: Vec<String> = Vec::new();
    for line in request.get_all(name) {
        for member in super::control::members(line) {
            let text = String::from_utf8_lossy(member.trim_ascii());
            if !text.is_empty() {
                members.push(text.into_owned());
            }
        }
    }
    if members.is_empty() && !request.contains_key(name) {
        return None;
    }
    if matches!(*name, ACCEPT_ENCODING | ACCEPT_LANGUAGE) {
        for member in &mut members {
            *member = member.to_ascii_lowercase().replace([' ', '\t'], "");
        }
        // Without weights the order says nothing.
        if !members.iter().any(|member| member.contains(';')) {
            members.sort_unstable();
            members.dedup();
        }
    }
    Some(members.join(","))
}
