//! What was purged, as far as anything on disk may be older. A record is held to it when it is read: purging
//! touches no record.

use std::collections::HashMap;

use crate::cache::key;
use crate::cache::purge::Scope;
use crate::cache::semantics::Millis;

/// URLs and tags that are remembered, and prefixes, which are compared one by one.
const MAX_EXACT: usize = 65_536;
const MAX_PREFIXES: usize = 1_024;

/// The newest purges of one scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// The number of the newest hard one.
    pub(super) hard: u64,
    /// The number of the newest soft one, and when it was.
    pub(super) soft: u64,
    pub(super) soft_at: Millis,
}

impl Marks {
    /// The marks of one purge.
    pub(super) const fn of(epoch: u64, soft: Option<Millis>) -> Self {
        match soft {
            None => Self {
                hard: epoch,
                soft: 0,
                soft_at: 0,
            },
            Some(at) => Self {
                hard: 0,
                soft: epoch,
                soft_at: at,
            },
        }
    }

    fn join(&mut self, other: Self) {
        self.hard = self.hard.max(other.hard);
        if other.soft > self.soft {
            (self.soft, self.soft_at) = (other.soft, other.soft_at);
        }
    }

    fn newest(&self) -> u64 {
        self.hard.max(self.soft)
    }
}

/// What the purges make of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It is as good as it was.
    Kept,
    /// It is stale since then.
    Stale(Millis),
    /// It is gone.
    Purged,
}

/// The number `epoch` in this run; one from before the run was known is counted from its beginning.
pub(super) const fn of_run(epoch: u64, run: u64) -> u64 {
    if epoch >> 32 == 0 {
        epoch | run << 32
    } else {
        epoch
    }
}

/// The purges.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// The number of the newest. Its upper half is the number of the run.
    epoch: u64,
    /// Records of purges before this number are gone, all of them.
    floor: u64,
    exact: HashMap<Scope, Marks>,
    prefixes: Vec<(Scope, Marks)>,
}

impl Rules {
    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Notes another purge; its number.
    pub(super) fn note(&mut self, scope: &Scope, soft: Option<Millis>) -> u64 {
        self.epoch += 1;
        self.add(scope.clone(), Marks::of(self.epoch, soft));
        self.epoch
    }

    /// Adds a purge that has its number.
    pub(super) fn add(&mut self, scope: Scope, marks: Marks) {
        self.epoch = self.epoch.max(marks.newest());
        if matches!(scope, Scope::Prefix(_)) {
            match self.prefixes.iter_mut().find(|(known, _)| *known == scope) {
                Some((_, known)) => known.join(marks),
                None => self.prefixes.push((scope, marks)),
            }
        } else {
            self.exact.entry(scope).or_default().join(marks);
        }
        if self.exact.len() > MAX_EXACT || self.prefixes.len() > MAX_PREFIXES {
            self.forget();
        }
    }

    /// Takes everything on disk to be purged.
    pub(super) fn forget(&mut self) {
        self.epoch += 1;
        self.floor = self.epoch;
        self.exact.clear();
        self.prefixes.clear();
    }

    /// Drops the purges that are older than every record, the oldest of which is of `oldest`.
    pub(super) fn prune(&mut self, oldest: u64) {
        self.exact.retain(|_, marks| marks.newest() > oldest);
        self.prefixes.retain(|(_, marks)| marks.newest() > oldest);
    }

    /// Begins a run after the `former` ones: what was purged since the start comes after all of theirs.
    pub(super) fn rebase(&mut self, mut former: Self, run: u64) {
        let lift = |number: u64| if number == 0 { 0 } else { of_run(number, run) };
        let own = std::mem::take(self);
        former.epoch = former.epoch.max(of_run(own.epoch, run));
        former.floor = former.floor.max(lift(own.floor));
        for (scope, marks) in own.exact.into_iter().chain(own.prefixes) {
            let marks = Marks {
                hard: lift(marks.hard),
                soft: lift(marks.soft),
                soft_at: marks.soft_at,
            };
            former.add(scope, marks);
        }
        *self = former;
    }

    /// Records of purges before this number are gone.
    pub(super) const fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) const fn set_floor(&mut self, floor: u64) {
        self.floor = floor;
        if self.epoch < floor {
            self.epoch = floor;
        }
    }

    /// Every scope and its newest purges.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Scope, &Marks)> {
        let prefixes = self.prefixes.iter().map(|(scope, marks)| (scope, marks));
        self.exact.iter().chain(prefixes)
    }

    /// What they make of a record of `epoch` under `key` with these tags.
    pub(super) fn judge(&self, epoch: u64, key: &str, tags: &[Box<str>]) -> Judged {
        if epoch < self.floor {
            return Judged::Purged;
        }
        let mut joined = Marks::default();
        if !self.exact.is_empty() {
            let url = Scope::Url(key::url_of(key).to_owned());
            let tags = tags.iter().map(|tag| Scope::Tag(tag.to_string()));
            for scope in std::iter::once(url).chain(tags) {
                joined.join(self.exact.get(&scope).copied().unwrap_or_default());
            }
        }
        let prefixes = self.prefixes.iter();
        for (_, marks) in prefixes.filter(|(scope, _)| scope.covers(key, &[])) {
            joined.join(*marks);
        }
        if joined.hard > epoch {
            Judged::Purged
        } else if joined.soft > epoch {
            Judged::Stale(joined.soft_at)
        } else {
            Judged::Kept
        }
    }
}
