//! HTTP dates (RFC 9110 section 5.6.7): all three forms are read, whatever the case of their names.

use http::HeaderValue;

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const SHORT_DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const LONG_DAYS: [&str; 7] = [
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
];
const DAY: i64 = 86_400;

/// Reads a date: seconds since the Unix epoch. `now`, in the same measure, settles the century of two-digit
/// years. The day of the week must be one, but need not be the date's.
#[must_use]
pub fn parse(value: &HeaderValue, now: i64) -> Option<i64> {
    let text = value.to_str().ok()?;
    let (day, rest) = text.split_at_checked(text.find([',', ' '])?)?;
    let day = day.to_ascii_lowercase();
    if let Some(rest) = rest.strip_prefix(", ") {
        if SHORT_DAYS.contains(&day.as_str()) {
            fixdate(rest)
        } else if LONG_DAYS.contains(&day.as_str()) {
            rfc850(rest, now)
        } else {
            None
        }
    } else if SHORT_DAYS.contains(&day.as_str()) {
        asctime(rest.strip_prefix(' ')?)
    } else {
        None
    }
}

/// `06 Nov 1994 08:49:37 GMT`.
fn fixdate(text: &str) -> Option<i64> {
    let mut parts = text.split(' ');
    let day = number(parts.next()?, 2)?;
    let month = month(parts.next()?)?;
    let year = number(parts.next()?, 4)?;
    let time = time(parts.next()?)?;
    let zone = parts.next()?.eq_ignore_ascii_case("gmt");
    (zone && parts.next().is_none()).then(|| seconds(year, month, day, time))?
}

/// `06-Nov-94 08:49:37 GMT`: a year more than 50 years ahead is one of the past.
fn rfc850(text: &str, now: i64) -> Option<i64> {
    let mut parts = text.split(' ');
    let mut date = parts.next()?.split('-');
    let day = number(date.next()?, 2)?;
    let month = month(date.next()?)?;
    let short = number(date.next()?, 2)?;
    let time = time(parts.next()?)?;
    let zone = parts.next()?.eq_ignore_ascii_case("gmt");
    if !zone || parts.next().is_some() || date.next().is_some() {
        return None;
    }
    let this_year = year_of(now);
    let mut year = this_year - this_year.rem_euclid(100) + short;
    if year > this_year + 50 {
        year -= 100;
    } else if year + 100 <= this_year + 50 {
        year += 100;
    }
    seconds(year, month, day, time)
}

/// `Nov  6 08:49:37 1994`.
fn asctime(text: &str) -> Option<i64> {
    let (name, rest) = text.split_once(' ')?;
    let month = month(name)?;
    let (day, rest) = rest.split_at_checked(2)?;
    let day = match day.strip_prefix(' ') {
        Some(digit) => number(digit, 1)?,
        None => number(day, 2)?,
    };
    let (clock, year) = rest.strip_prefix(' ')?.split_once(' ')?;
    seconds(number(year, 4)?, month, day, time(clock)?)
}

/// Exactly so many digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// A month by its name, January being 1.
fn month(name: &str) -> Option<i64> {
    let name = name.to_ascii_lowercase();
    let index = MONTHS.iter().position(|month| **month == name)?;
    i64::try_from(index + 1).ok()
}

/// `08:49:37`, in seconds of the day; a leap second counts as the one before it.
fn time(text: &str) -> Option<i64> {
    let mut parts = text.split(':');
    let hour = number(parts.next()?, 2)?;
    let minute = number(parts.next()?, 2)?;
    let second = number(parts.next()?, 2)?;
    let valid = hour < 24 && minute < 60 && second <= 60 && parts.next().is_none();
    valid.then(|| hour * 3_600 + minute * 60 + second.min(59))
}

fn seconds(year: i64, month: i64, day: i64, time: i64) -> Option<i64> {
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    (1..=length)
        .contains(&day)
        .then(|| days(year, month, day) * DAY + time)
}

/// Days since the Unix epoch (Howard Hinnant's `days_from_civil`).
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The year that `now` is in, and what it takes to write a date.
const fn year_of(now: i64) -> i64 {
    civil(now.div_euclid(DAY)).0
}

/// Year, month and day of a day since the Unix epoch.
const fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted - era * 146_097;
    let of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let of_year = day_of_era - (365 * of_era + of_era / 4 - of_era / 100);
    let part = (5 * of_year + 2) / 153;
    let month = if part < 10 { part + 3 } else { part - 9 };
    let year = of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, of_year - (153 * part + 2) / 5 + 1)
}

/// Writes a date in the one form that is to be sent.
#[must_use]
pub fn format(at: i64) -> Option<HeaderValue> {
    const NAMES: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTH_NAMES: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (day, time) = (at.div_euclid(DAY), at.rem_euclid(DAY));
    let (year, month, of_month) = civil(day);
    let name = NAMES.get(usize::try_from(day.rem_euclid(7)).ok()?)?;
    let month = MONTH_NAMES.get(usize::try_from(month - 1).ok()?)?;
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    let text =
        format!("{name}, {of_month:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT");
    HeaderValue::try_from(text).ok()
}
