//! Values with a unit: durations, sizes and ratios, as they are written in the file.
//!
//! Each type reads its text form, prints the shortest text that reads back to the same value, and describes
//! itself in the schema. Depends on serde, schemars and the
//! rate limit's periods.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use crate::policy::rate::Period;

#[cfg(test)]
mod tests;

/// A duration: `250ms`, `5s`, `1m30s`, `1d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) Duration);

/// A number of bytes: `64KiB`, `10GiB`, `512`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// A share between 0 and 1: `0.5` or `"50%"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub(crate) struct Ratio(pub(crate) f64);

/// So much in a time: `100/s`, `5000/h`, `1000000/month`, `10MiB/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// How much, in whatever is counted; of a size, bytes.
    pub(crate) amount: u64,
    /// In what time.
    pub(crate) period: Period,
}

/// What a rate may be over: as it is printed, and as it may also be written.
const PERIODS: [(&str, &[&str], Period); 5] = [
    ("s", &["sec", "second"], Period::Second),
    ("m", &["min", "minute"], Period::Minute),
    ("h", &["hour"], Period::Hour),
    ("day", &["d"], Period::Day),
    ("month", &[], Period::Month),
];

/// Units of time from the longest to the shortest, in milliseconds.
const TIME_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Units of size from the largest to the smallest, in bytes.
const SIZE_UNITS: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// Longer than anything meant seriously, and far from every overflow.
const LONGEST: Duration = Duration::from_secs(3_650 * 86_400);

/// What is wrong with a value, and the form it should have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UnitError(String);

impl Time {
    /// A duration of whole seconds.
    pub(crate) const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// A duration of whole milliseconds.
    pub(crate) const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    fn refuse(text: impl fmt::Display) -> UnitError {
        UnitError(format!(
            "`{text}` is not a duration; write a number with ms, s, m, h or d, such as \"250ms\""
        ))
    }
}

impl FromStr for Time {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = || Self::refuse(text);
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let mut rest = text;
        let mut millis: u64 = 0;
        let mut last_unit = u64::MAX;
        while !rest.is_empty() {
            let (number, after) = split_number(rest).ok_or_else(refuse)?;
            let end = after
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at_checked(end).ok_or_else(refuse)?;
            let (_, factor) = TIME_UNITS
                .into_iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(refuse)?;
            if factor >= last_unit {
                return Err(refuse());
            }
            last_unit = factor;
            millis = number
                .checked_mul(factor)
                .and_then(|part| millis.checked_add(part))
                .ok_or_else(refuse)?;
            rest = after;
        }
        if text.is_empty() {
            return Err(refuse());
        }
        let duration = Duration::from_millis(millis);
        if duration > LONGEST {
            return Err(UnitError(format!(
                "`{text}` is longer than ten years, the longest duration there is"
            )));
        }
        Ok(Self(duration))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in TIME_UNITS {
            let count = rest / factor;
            // 1500ms rather than 1s500ms: nobody writes the latter.
            if count == 0 || (unit == "s" && !rest.is_multiple_of(factor)) {
                continue;
            }
            write!(f, "{count}{unit}")?;
            rest -= count * factor;
        }
        Ok(())
    }
}

impl Size {
    fn refuse(text: impl fmt::Display) -> UnitError {
        UnitError(format!(
            "`{text}` is not a size; write a number of bytes, or one with KiB, MiB, GiB or TiB, such as \"64KiB\""
        ))
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = || Self::refuse(text);
        let (number, unit) = split_number(text).ok_or_else(refuse)?;
        if matches!(unit, "" | "B") {
            return Ok(Self(number));
        }
        let (_, factor) = SIZE_UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(refuse)?;
        number.checked_mul(factor).map(Self).ok_or_else(refuse)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in SIZE_UNITS {
            if self.0 != 0 && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl Ratio {
    fn refuse(text: impl fmt::Display) -> UnitError {
        UnitError(format!(
            "`{text}` is not a ratio; write a number from 0 to 1 or a percentage, such as 0.5 or \"50%\""
        ))
    }

    fn checked(value: f64, text: impl fmt::Display) -> Result<Self, UnitError> {
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(Self::refuse(text))
        }
    }
}

impl FromStr for Ratio {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, scale) = match text.strip_suffix('%') {
            Some(number) => (number, 100.0),
            None => (text, 1.0),
        };
        if !number.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(Self::refuse(text));
        }
        match number.parse::<f64>() {
            Ok(value) => Self::checked(value / scale, text),
            Err(_) => Err(Self::refuse(text)),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Rate {
    fn refuse(text: impl fmt::Display) -> UnitError {
        UnitError(format!(
            "`{text}` is not a rate; write a number, `/`, and s, m, h, day or month, such as \"100/s\""
        ))
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = || Self::refuse(text);
        let (amount, word) = text.split_once('/').ok_or_else(refuse)?;
        let Size(amount) = amount.parse().map_err(|_size| refuse())?;
        let mut periods = PERIODS.iter();
        let period = periods.find(|(short, long, _)| *short == word || long.contains(&word));
        let (_, _, period) = period.ok_or_else(refuse)?;
        Ok(Self {
            amount,
            period: *period,
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut periods = PERIODS.iter();
        let word = periods.find(|(_, _, period)| *period == self.period);
        let word = word.map_or("s", |(word, _, _)| *word);
        write!(f, "{}/{word}", self.amount)
    }
}

/// The leading decimal number of `text`, and what follows it.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, rest))
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

struct TimeVisitor;

impl Visitor<'_> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"250ms\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Time, E> {
        Err(E::custom(Time::refuse(number)))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"64KiB\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Size, E> {
        match u64::try_from(number) {
            Ok(bytes) => Ok(Size(bytes)),
            Err(_) => Err(E::custom(Size::refuse(number))),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct RateVisitor;

impl Visitor<'_> for RateVisitor {
    type Value = Rate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a rate such as \"100/s\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RateVisitor)
    }
}

struct RatioVisitor;

impl Visitor<'_> for RatioVisitor {
    type Value = Ratio;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a ratio such as 0.5 or \"50%\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Ratio, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Ratio, E> {
        Ratio::checked(number, number).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Ratio, E> {
        match number {
            0 => Ok(Ratio(0.0)),
            1 => Ok(Ratio(1.0)),
            _ => Err(E::custom(Ratio::refuse(number))),
        }
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RatioVisitor)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration: numbers with ms, s, m, h or d, the longest unit first.",
            "type": "string",
            "pattern": "^(0|(?=[0-9])([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?)$",
            "examples": ["250ms", "5s", "1m30s", "1h", "1d"],
        })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes, with KiB, MiB, GiB or TiB or without.",
            "type": ["string", "integer"],
            "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB)?$",
            "minimum": 0,
            "examples": ["64KiB", "10GiB", 512],
        })
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "So much in a time: a number or a size, and s, m, h, day or month.",
            "type": "string",
            "pattern": "^[0-9]+(B|KiB|MiB|GiB|TiB)?/(s|sec|second|m|min|minute|h|hour|d|day|month)$",
            "examples": ["100/s", "5000/h", "1000000/month", "10MiB/s"],
        })
    }
}

impl JsonSchema for Ratio {
    fn schema_name() -> Cow<'static, str> {
        "Ratio".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A share: a number from 0 to 1, or a percentage.",
            "type": ["number", "string"],
            "minimum": 0,
            "maximum": 1,
            "pattern": "^[0-9]+(\\.[0-9]+)?%?$",
            "examples": [0.5, "50%"],
        })
    }
}
