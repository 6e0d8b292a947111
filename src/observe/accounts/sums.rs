//! What is counted exactly. Depends on the model and the exchange.

use std::iter::Sum;
use std::ops::{AddAssign, Sub};

use crate::model::Outcome;
use crate::observe::exchange::Exchange;

/// How a request ended, as a client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 2xx.
    Success,
    /// 3xx.
    Redirection,
    /// 4xx of the upstream.
    ClientError,
    /// 5xx of the upstream.
    ServerError,
    /// Tidegate answered by itself.
    Refused,
    /// Anything else: no answer before the client went away, a change of protocols.
    Other,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 6] = [
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::Refused,
        Self::Other,
    ];

    /// The word in labels and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Refused => "refused",
            Self::Other => "other",
        }
    }

    fn of(exchange: &Exchange) -> Self {
        let answered = exchange.upstream_status.is_some();
        match (exchange.outcome, exchange.status) {
            (Outcome::Refused, _) => Self::Refused,
            (Outcome::ClientGone | Outcome::Drained, _) if !answered => Self::Other,
            (_, 200..300) => Self::Success,
            (_, 300..400) => Self::Redirection,
            (_, 400..500) => Self::ClientError,
            (_, 500..600) => Self::ServerError,
            _ => Self::Other,
        }
    }
}

/// What was counted of a client, or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Requests by [`Class::ALL`].
    pub by_class: [u64; Class::ALL.len()],
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// What was held of the upstream, in nanoseconds; see [`Exchange::upstream_time`].
    pub upstream_nanos: u64,
    /// Requests sent upstream beyond the first of each.
    pub retries: u64,
}

impl Sums {
    pub(super) fn count(&mut self, exchange: &Exchange, upstream_nanos: u64) {
        let class = Class::of(exchange) as usize;
        if let Some(count) = self.by_class.get_mut(class) {
            *count += 1;
        }
        self.bytes_in += exchange.bytes_in;
        self.bytes_out += exchange.bytes_out;
        self.upstream_nanos += upstream_nanos;
        self.retries += u64::from(exchange.attempts.saturating_sub(1));
    }

    /// Requests of every class.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.by_class.iter().sum()
    }

    /// Requests that Tidegate answered by itself.
    #[must_use]
    pub fn refused(&self) -> u64 {
        let refused = self.by_class.get(Class::Refused as usize);
        refused.copied().unwrap_or(0)
    }

    fn each(&mut self, other: &Self, apply: impl Fn(&mut u64, u64)) {
        for (mine, theirs) in self.by_class.iter_mut().zip(other.by_class) {
            apply(mine, theirs);
        }
        apply(&mut self.bytes_in, other.bytes_in);
        apply(&mut self.bytes_out, other.bytes_out);
        apply(&mut self.upstream_nanos, other.upstream_nanos);
        apply(&mut self.retries, other.retries);
    }
}

impl AddAssign<&Self> for Sums {
    fn add_assign(&mut self, other: &Self) {
        self.each(other, |mine, theirs| *mine += theirs);
    }
}

impl Sub<&Self> for Sums {
    type Output = Self;

    /// What was counted since `other`.
    fn sub(mut self, other: &Self) -> Self {
        self.each(other, |mine, theirs| *mine = mine.saturating_sub(theirs));
        self
    }
}

impl<'a> Sum<&'a Self> for Sums {
    fn sum<I: Iterator<Item = &'a Self>>(sums: I) -> Self {
        sums.fold(Self::default(), |mut all, sums| {
            all += sums;
            all
        })
    }
}
