//! The page's charts: cost over time, and each client's week.

use std::fmt::Write as _;

use super::{escape, lasting};
use crate::admin::api::UsageHour;

/// Bars at most; more hours than that are put together.
const BARS: usize = 168;
/// The classes of colors; the last is everybody else's.
const COLORS: usize = 8;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// Where the bars stand.
const LEFT: f64 = 56.0;
const WIDTH: f64 = 840.0;
const BOTTOM: f64 = 230.0;
const HEIGHT: f64 = 205.0;

/// Cost over time, the dearest clients apart.
pub(super) fn stacked(hours: &[UsageHour], names: &[&str]) -> String {
    let numbered = hours
        .iter()
        .filter_map(|row| Some((since_epoch(&row.hour)?, row)));
    let numbered: Vec<(usize, &UsageHour)> = numbered.collect();
    let first = numbered.iter().map(|(hour, _)| *hour).min();
    let last = numbered.iter().map(|(hour, _)| *hour).max();
    let Some((first, last)) = first.zip(last) else {
        return String::new();
    };
    let each = (last - first + 1).div_ceil(BARS);
    let mut bars = vec![vec![0.0_f64; names.len() + 1]; (last - first) / each + 1];
    for (hour, row) in &numbered {
        let place = names.iter().position(|name| *name == row.client);
        let bar = bars.get_mut((hour - first) / each);
        if let Some(sum) = bar.and_then(|bar| bar.get_mut(place.unwrap_or(names.len()))) {
            *sum += row.upstream_seconds / each as f64;
        }
    }
    let most = bars.iter().map(|bar| bar.iter().sum()).fold(0.0, f64::max);
    if most <= 0.0 {
        return String::new();
    }
    let mut drawn = grid(most, first, last + 1);
    let width = WIDTH / bars.len() as f64;
    for (index, bar) in bars.iter().enumerate() {
        let mut y = BOTTOM;
        let at = (first + index * each) as i64 * 3_600;
        let when =
            jiff::Timestamp::from_second(at).map_or_else(|_| String::new(), |at| at.to_string());
        for (place, seconds) in bar
            .iter()
            .enumerate()
            .filter(|(_, seconds)| **seconds > 0.0)
        {
            let height = seconds / most * HEIGHT;
            y -= height;
            let _written = write!(
                drawn,
                "<rect class=\"c{}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.2}\" height=\"{height:.1}\"><title>{when} {}: {} an hour</title></rect>",
                color(place, names.len()),
                LEFT + index as f64 * width,
                (width * 0.92).max(0.5),
                escape(names.get(place).copied().unwrap_or("everybody else")),
                lasting(*seconds),
            );
        }
    }
    let mut legend = String::new();
    for (place, name) in names.iter().copied().chain(["everybody else"]).enumerate() {
        let color = color(place, names.len());
        let _written = write!(
            legend,
            "<span><i class=\"c{color}\"></i>{}</span>",
            escape(name)
        );
    }
    format!(
        "<h2>Cost over time</h2><p>Time that requests held a place at an upstream, by the hour, UTC.</p><figure class=\"wide\">\
         <svg viewBox=\"0 0 925 250\" role=\"img\" aria-label=\"cost by hour and client\">{drawn}</svg></figure>\
         <div class=\"legend\">{legend}</div>"
    )
}

/// Lines at round costs, and the days.
fn grid(most: f64, first: usize, end: usize) -> String {
    let mut drawn = String::new();
    for quarter in 0..=4 {
        let part = f64::from(quarter) / 4.0;
        let y = BOTTOM - part * HEIGHT;
        let _written = write!(
            drawn,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"896\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"50\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            y + 4.0,
            lasting(most * part),
        );
    }
    let days = (end - first).div_ceil(24);
    // Not more than fit.
    let step = days.div_ceil(10).max(1);
    let midnight = first.next_multiple_of(24);
    for hour in (midnight..end).step_by(24 * step) {
        let Ok(at) = jiff::Timestamp::from_second(hour as i64 * 3_600) else {
            continue;
        };
        let _written = write!(
            drawn,
            "<text x=\"{:.1}\" y=\"246\">{}</text>",
            LEFT + (hour - first) as f64 / (end - first) as f64 * WIDTH,
            at.strftime("%d %b"),
        );
    }
    drawn
}

fn color(place: usize, named: usize) -> usize {
    if place >= named {
        COLORS
    } else {
        place % COLORS
    }
}

/// Each client's cost by hour of the week (UTC).
pub(super) fn heat(hours: &[UsageHour], names: &[&str]) -> String {
    let mut text = "<h2>When in the week</h2><p>Cost by hour of the week, UTC. The darkest cell is each client's own most.</p>\
                    <div class=\"heats\">"
        .to_owned();
    for (place, name) in names.iter().enumerate() {
        let mut week = [0.0_f64; 168];
        for row in hours.iter().filter(|row| row.client == *name) {
            let slot = hour_of_week(&row.hour);
            if let Some(sum) = slot.and_then(|slot| week.get_mut(slot)) {
                *sum += row.upstream_seconds;
            }
        }
        let most = week.iter().copied().fold(0.0, f64::max);
        if most <= 0.0 {
            continue;
        }
        let mut cells = String::new();
        for (slot, seconds) in week.iter().enumerate() {
            let (day, hour) = (slot / 24, slot % 24);
            let _written = write!(
                cells,
                "<rect class=\"c{}\" x=\"{}\" y=\"{}\" width=\"16\" height=\"16\" rx=\"2\" fill-opacity=\"{:.2}\"><title>{} {hour}:00: {}</title></rect>",
                color(place, names.len()),
                34 + hour * 17,
                day * 17,
                0.06 + 0.94 * seconds / most,
                DAYS.get(day).copied().unwrap_or_default(),
                lasting(*seconds),
            );
        }
        for (day, name) in DAYS.iter().enumerate() {
            let _written = write!(cells, "<text x=\"0\" y=\"{}\">{name}</text>", day * 17 + 12);
        }
        for hour in (0..24).step_by(6) {
            let _written = write!(
                cells,
                "<text x=\"{}\" y=\"132\">{hour}:00</text>",
                34 + hour * 17
            );
        }
        let _written = write!(
            text,
            "<figure><h3>{}</h3><svg viewBox=\"0 0 444 136\" role=\"img\" aria-label=\"cost by hour of the week\">{cells}</svg></figure>",
            escape(name)
        );
    }
    text.push_str("</div>");
    text
}

/// Hours since the epoch, of a time in RFC 3339.
fn since_epoch(time: &str) -> Option<usize> {
    let timestamp: jiff::Timestamp = time.parse().ok()?;
    Some(usize::try_from(timestamp.as_second()).ok()? / 3_600)
}

/// The hour of the week, from Monday's first; the epoch began on a Thursday.
fn hour_of_week(time: &str) -> Option<usize> {
    Some((since_epoch(time)? + 3 * 24) % 168)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_week_begins_on_monday() {
        assert_eq!(hour_of_week("2026-11-23T00:00:00Z"), Some(0));
        assert_eq!(hour_of_week("2026-11-26T18:30:00Z"), Some(3 * 24 + 18));
    }

    #[test]
    fn however_long_the_time_the_bars_are_few() {
        let hour = |number: u32| UsageHour {
            hour: format!(
                "2026-{:02}-{:02}T{:02}:00:00Z",
                number / 24 / 28 + 1,
                number / 24 % 28 + 1,
                number % 24
            ),
            client: "a".to_owned(),
            upstream_seconds: 1.0,
        };
        let hours: Vec<UsageHour> = (0..24 * 28 * 12).map(hour).collect();
        let bars = stacked(&hours, &["a"]).matches("<rect").count();
        assert!((BARS / 2..=BARS).contains(&bars), "{bars}");
    }
}
