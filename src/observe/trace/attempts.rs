//! When and where each attempt of a request was sent.

use crate::model::{EndpointId, Reason};

/// Attempts kept of one request; what comes after the last place replaces what is there.
const MAX_ATTEMPTS: usize = 4;

/// One attempt. Times are in microseconds since the request's head was whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// Its number, from 1: what its span is derived from.
    pub number: u8,
    /// When it was sent.
    pub sent: u32,
    /// When its response's head came, or it failed; none when it was given up.
    pub ended: Option<u32>,
    /// To whom.
    pub endpoint: Option<EndpointId>,
    /// The status it was answered with; 0: none.
    pub status: u16,
    /// Why it was not.
    pub failure: Option<Reason>,
}

/// The attempts of one request, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    list: [Option<Attempt>; MAX_ATTEMPTS],
    count: u8,
    /// The last one is under way.
    open: bool,
}

impl Attempts {
    /// Another one is sent, unless the last is still under way: then that one merely goes on over another
    /// connection.
    pub fn sent(&mut self, at: u32, endpoint: Option<EndpointId>) {
        if !self.open {
            self.push(at, endpoint);
        }
    }

    /// A copy was sent beside the first one. That has ended, or else is given up for it; where the copy went is
    /// told by [`Self::at`], if it is ever known.
    pub fn copied(&mut self, at: u32) {
        if self.count < 2 {
            self.push(at, None);
        } else if let Some(Some(last)) = self.last() {
            last.endpoint = None;
        }
    }

    fn push(&mut self, at: u32, endpoint: Option<EndpointId>) {
        self.count = self.count.saturating_add(1);
        self.open = true;
        let number = self.count;
        if let Some(last) = self.last() {
            *last = Some(Attempt {
                number,
                sent: at,
                endpoint,
                ..Attempt::default()
            });
        }
    }

    /// Names the endpoint of an attempt that was sent before it was known which.
    pub fn at(&mut self, endpoint: EndpointId) {
        if let (true, Some(Some(last))) = (self.open, self.last()) {
            last.endpoint = Some(endpoint);
        }
    }

    /// The last one ended: with a status, or without.
    pub fn ended(&mut self, at: u32, status: u16, failure: Option<Reason>) {
        if let (true, Some(Some(last))) = (self.open, self.last()) {
            last.ended = Some(at);
            last.status = status;
            last.failure = failure;
        }
        self.open = false;
    }

    fn last(&mut self) -> Option<&mut Option<Attempt>> {
        let place = usize::from(self.count).clamp(1, MAX_ATTEMPTS) - 1;
        self.list.get_mut(place)
    }

    /// Those that are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Attempt> {
        self.list.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_goes_on_over_another_connection_is_one_attempt() {
        let mut attempts = Attempts::default();
        let endpoint = Some(EndpointId::new(7));
        attempts.sent(10, endpoint);
        attempts.sent(12, endpoint);
        attempts.ended(20, 503, None);
        attempts.sent(30, endpoint);
        attempts.ended(40, 0, Some(Reason::UpstreamReset));
        let kept: Vec<_> = attempts
            .iter()
            .map(|one| (one.number, one.sent, one.ended))
            .collect();
        assert_eq!(kept, [(1, 10, Some(20)), (2, 30, Some(40))]);
    }

    #[test]
    fn a_copy_that_wins_leaves_the_first_given_up() {
        let mut attempts = Attempts::default();
        attempts.sent(10, Some(EndpointId::new(1)));
        attempts.sent(50, None);
        attempts.copied(50);
        attempts.at(EndpointId::new(2));
        attempts.ended(60, 200, None);
        let kept: Vec<_> = attempts
            .iter()
            .map(|one| (one.endpoint, one.ended))
            .collect();
        assert_eq!(
            kept,
            [
                (Some(EndpointId::new(1)), None),
                (Some(EndpointId::new(2)), Some(60))
            ]
        );
    }

    #[test]
    fn a_copy_that_loses_is_one_attempt_too() {
        let mut attempts = Attempts::default();
        attempts.sent(10, Some(EndpointId::new(1)));
        attempts.ended(55, 200, None);
        attempts.sent(55, Some(EndpointId::new(1)));
        attempts.copied(55);
        let kept: Vec<_> = attempts
            .iter()
            .map(|one| (one.endpoint, one.ended))
            .collect();
        assert_eq!(kept, [(Some(EndpointId::new(1)), Some(55)), (None, None)]);
    }

    #[test]
    fn the_first_attempts_and_the_last_are_kept() {
        let mut attempts = Attempts::default();
        for at in 0..9 {
            attempts.sent(at, None);
            attempts.ended(at, 503, None);
        }
        let numbers: Vec<u8> = attempts.iter().map(|one| one.number).collect();
        assert_eq!(numbers, [1, 2, 3, 9]);
    }
}
