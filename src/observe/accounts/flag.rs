//! What is said against a client, with the numbers that say it. Depends on measure.

use crate::measure::habits::{Ignoring, Polling, Retrying};
use crate::measure::peak::Part;

/// What is said against a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It wants far more than its fair share while the upstream is saturated.
    Noisy,
    /// Its load sits in others' peak.
    Borrowing,
    /// It sends more than it declared.
    OverDeclared,
    /// It tries again right after failures.
    Retrying,
    /// It asks again and again, at a steady pace, for what has not changed.
    Polling,
    /// It comes back before it was told to.
    IgnoresRetryAfter,
}

impl Kind {
    /// The word in answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Noisy => "noisy",
            Self::Borrowing => "borrowing",
            Self::OverDeclared => "over_declared",
            Self::Retrying => "retrying",
            Self::Polling => "polling",
            Self::IgnoresRetryAfter => "ignores_retry_after",
        }
    }
}

/// One number that says it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// What was measured.
    pub what: &'static str,
    /// How much of it.
    pub value: f64,
    /// What it is held against, if anything.
    pub baseline: Option<f64>,
    /// What both count.
    pub unit: &'static str,
}

impl Evidence {
    pub(super) const fn new(
        what: &'static str,
        value: f64,
        baseline: Option<f64>,
        unit: &'static str,
    ) -> Self {
        Self {
            what,
            value,
            baseline,
            unit,
        }
    }
}

/// Something said against a client at present.
#[derive(Clone, Debug, PartialEq)]
pub struct Flag {
    /// What.
    pub kind: Kind,
    /// Since when, in microseconds since the Unix epoch.
    pub since: u64,
    /// By what.
    pub evidence: Vec<Evidence>,
    /// The second in which it last held.
    pub(super) held: u32,
}

/// A time: both of the clocks that flags go by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Seconds since the accounts were opened.
    pub(super) second: u32,
    /// Microseconds since the Unix epoch.
    pub(super) wall: u64,
}

/// What is said against one client.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags(Vec<Flag>);

impl Flags {
    /// Says it, or says it no longer unless it held within the last `keep` seconds.
    pub(super) fn set(
        &mut self,
        kind: Kind,
        evidence: Option<Vec<Evidence>>,
        at: Moment,
        keep: u32,
    ) {
        let said = self.0.iter_mut().find(|flag| flag.kind == kind);
        match (said, evidence) {
            (Some(flag), Some(evidence)) => {
                flag.evidence = evidence;
                flag.held = at.second;
            }
            (None, Some(evidence)) => self.0.push(Flag {
                kind,
                since: at.wall,
                evidence,
                held: at.second,
            }),
            (Some(flag), None) if at.second.saturating_sub(flag.held) < keep => {}
            (Some(_), None) => self.0.retain(|flag| flag.kind != kind),
            (None, None) => {}
        }
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.0.iter().any(|flag| flag.kind == kind)
    }

    pub(super) fn all(&self) -> &[Flag] {
        &self.0
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

pub(super) fn borrowing(part: &Part) -> Vec<Evidence> {
    let mut evidence = vec![
        Evidence::new(
            "share of the cost in the peak, and outside of it",
            part.inside,
            Some(part.outside),
            "ratio",
        ),
        Evidence::new(
            "load of the others at that time, by their mean",
            part.crowding,
            Some(1.0),
            "ratio",
        ),
    ];
    if let Some(rise) = part.rise {
        evidence.push(Evidence::new(
            "cost in the peak of the last day, by its own of former weeks",
            rise,
            Some(1.0),
            "ratio",
        ));
    }
    evidence
}

pub(super) fn retrying(seen: &Retrying) -> Vec<Evidence> {
    vec![
        Evidence::new(
            "tries again within 10 s of a failure, in a minute",
            count(seen.repeats),
            None,
            "requests",
        ),
        Evidence::new(
            "requests for each that was not another try",
            seen.amplification,
            Some(1.0),
            "ratio",
        ),
    ]
}

pub(super) fn polling(seen: &Polling) -> Vec<Evidence> {
    vec![
        Evidence::new(
            "same answers in a row, without If-None-Match",
            f64::from(seen.repeats),
            None,
            "requests",
        ),
        Evidence::new("asked every", seen.pace.as_secs_f64(), None, "seconds"),
    ]
}

pub(super) fn ignoring(seen: &Ignoring) -> Vec<Evidence> {
    vec![Evidence::new(
        "back before the time told, of times told, in a minute",
        count(seen.early),
        Some(count(seen.told)),
        "requests",
    )]
}

pub(super) fn count(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
