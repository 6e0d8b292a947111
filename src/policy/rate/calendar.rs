//! Days and months of the UTC calendar, by number.

use std::time::Duration;

use crate::clock::Instant;

const DAY: u64 = 86_400;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// On the monotonic clock, by which sliding quotas go.
    pub monotonic: Instant,
    /// Seconds since the Unix epoch, by which the calendar's go.
    pub unix: u64,
}

impl Moment {
    /// The number of the day, and the time to its end.
    pub(super) const fn day(self) -> (u64, Duration) {
        let end = DAY - self.unix % DAY;
        (self.unix / DAY, Duration::from_secs(end))
    }

    /// The number of the month since year 0, and the time to its end.
    pub(super) const fn month(self) -> (u64, Duration) {
        let (month, day) = civil(self.unix / DAY);
        let length = match month % 12 {
            3 | 5 | 8 | 10 => 30,
            1 => {
                let year = month / 12;
                let leap = year.is_multiple_of(4)
                    && (!year.is_multiple_of(100) || year.is_multiple_of(400));
                28 + leap as u64
            }
            _ => 31,
        };
        let end = (length - day) * DAY + DAY - self.unix % DAY;
        (month, Duration::from_secs(end))
    }
}

/// The month since January of year 0, and the day of it from 1, of a day since the Unix epoch (Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
const fn civil(days: u64) -> (u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March, the first of this kind of year.
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    ((era * 400 + year) * 12 + month + 2, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix: u64) -> Moment {
        Moment {
            unix,
            ..Moment::default()
        }
    }

    #[test]
    fn days_and_months_end_where_the_calendar_says() {
        // 2026-11-24 12:00:00, 2024-02-29 23:59:59, 2100-02-28 00:00:00, 1999-12-31 23:59:59
        for (unix, month, day_end, month_end) in [
            (1_795_521_600, 2026 * 12 + 10, 43_200, 6 * DAY + 43_200),
            (1_709_251_199, 2024 * 12 + 1, 1, 1),
            (4_107_456_000, 2100 * 12 + 1, DAY, DAY),
            (946_684_799, 1999 * 12 + 11, 1, 1),
            (0, 1970 * 12, DAY, 31 * DAY),
        ] {
            assert_eq!(at(unix).day().1.as_secs(), day_end, "{unix}");
            assert_eq!(
                at(unix).month(),
                (month, Duration::from_secs(month_end)),
                "{unix}"
            );
        }
    }

    #[test]
    fn the_end_of_a_month_begins_the_next() {
        let mut unix = 0;
        for month in 1970 * 12..2200 * 12 {
            let (number, end) = at(unix).month();
            assert_eq!(number, month);
            assert_eq!(
                at(unix + end.as_secs() - 1).month(),
                (month, Duration::from_secs(1))
            );
            unix += end.as_secs();
        }
    }
}
