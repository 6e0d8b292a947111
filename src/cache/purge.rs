//! What was purged, and when: a response asked for before a purge must not be stored after it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::key;

/// Purges remembered; a response asked for before the oldest of them is not stored.
const MAX_REMEMBERED: usize = 1_024;

/// The method that purges, as other caches know it.
pub const METHOD: &str = "PURGE";

/// What a purge is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One URL, with all its variants.
    Url(String),
    /// Every URL that begins so.
    Prefix(String),
    /// Every response with this tag.
    Tag(String),
}

impl Scope {
    /// The same where responses are stored without the parameters that `ignored` names.
    #[must_use]
    pub fn without(&self, ignored: &[Arc<str>]) -> Self {
        let Self::Url(url) = self else {
            return self.clone();
        };
        let parts = url.split_once('?');
        let kept = parts.and_then(|(path, query)| Some((path, key::without(query, ignored)?)));
        Self::Url(match kept {
            None => url.clone(),
            Some((path, kept)) if kept.is_empty() => path.to_owned(),
            Some((path, kept)) => format!("{path}?{kept}"),
        })
    }

    /// Whether a response under `key` with these tags is meant.
    #[must_use]
    pub fn covers(&self, key: &str, tags: &[Box<str>]) -> bool {
        match self {
            Self::Url(url) => key::is_of(key, url),
            Self::Prefix(prefix) => key::url_of(key).starts_with(prefix.as_str()),
            Self::Tag(tag) => tags.iter().any(|one| **one == **tag),
        }
    }
}

/// The newest purges, numbered.
#[derive(Debug, Default)]
pub(super) struct Purges {
    /// The number of the newest.
    epoch: u64,
    recent: VecDeque<Scope>,
}

impl Purges {
    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Notes another.
    pub(super) fn note(&mut self, scope: Scope) {
        self.epoch += 1;
        if self.recent.len() == MAX_REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(scope);
    }

    /// Whether a response under `key` was purged after `epoch`, or might have been.
    pub(super) fn since(&self, epoch: u64, key: &str, tags: &[Box<str>]) -> bool {
        let newer = usize::try_from(self.epoch.saturating_sub(epoch)).unwrap_or(usize::MAX);
        newer > self.recent.len()
            || self
                .recent
                .iter()
                .rev()
                .take(newer)
                .any(|scope| scope.covers(key, tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_purged_as_it_is_stored() {
        let ignored = [Arc::from("utm_*"), Arc::from("ref")];
        let without = |url: &str| Scope::Url(url.to_owned()).without(&ignored);
        for (url, stored) in [
            ("http://a/x?utm_source=mail&a=1&ref=2", "http://a/x?a=1"),
            ("http://a/x?ref=2", "http://a/x"),
            ("http://a/x?a=ref", "http://a/x?a=ref"),
            ("http://a/x", "http://a/x"),
        ] {
            assert_eq!(without(url), Scope::Url(stored.to_owned()));
        }
        let prefix = Scope::Prefix("http://a/x?ref=2".to_owned());
        assert_eq!(prefix.without(&ignored), prefix);
    }

    #[test]
    fn a_purge_covers_what_was_asked_for_before_it_and_nothing_later() {
        let mut purges = Purges::default();
        let before = purges.epoch();
        purges.note(Scope::Url("http://a/x".to_owned()));
        assert!(purges.since(before, "http://a/x", &[]));
        assert!(purges.since(before, "http://a/x\nlang=de", &[]));
        assert!(!purges.since(before, "http://a/xy", &[]));
        assert!(!purges.since(purges.epoch(), "http://a/x", &[]));
    }

    #[test]
    fn what_might_have_been_purged_counts_as_purged() {
        let mut purges = Purges::default();
        for _ in 0..=MAX_REMEMBERED {
            purges.note(Scope::Tag("t".to_owned()));
        }
        assert!(purges.since(0, "http://a/", &[]));
        assert!(!purges.since(1, "http://a/", &[]));
    }

    #[test]
    fn a_prefix_covers_urls_and_not_what_stands_behind_them() {
        let scope = Scope::Prefix("http://a/news/".to_owned());
        assert!(scope.covers("http://a/news/1?x", &[]));
        assert!(!scope.covers("http://a/\nx=http://a/news/", &[]));
        assert!(Scope::Tag("t".into()).covers("k", &["t".into()]));
        assert!(!Scope::Tag("t".into()).covers("k", &["tt".into()]));
    }
}
