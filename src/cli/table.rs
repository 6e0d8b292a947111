//! Text for people: tables of at most 80 columns, and numbers as one reads them.
//!
//! A column is as wide as its widest cell; when the line would be too long, the first column gives way, the
//! middle of its cells first, since names and addresses differ at their ends. Everything that comes from
//! outside loses its control characters here, so that no answer can command the terminal. Widths count
//! characters, which is wrong for wide scripts and right for host names.

use std::borrow::Cow;

/// The longest line.
const WIDTH: usize = 80;
/// Between two columns.
const GAP: usize = 2;
/// The narrowest that the first column becomes.
const NARROWEST: usize = 8;

/// Whether text is coloured, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    color: bool,
}

/// What a cell says, beyond its words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Heading,
    Good,
    Warning,
    Bad,
}

impl Style {
    pub(super) const fn new(color: bool) -> Self {
        Self { color }
    }

    fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            _ if !self.color => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Heading => 1,
            Tone::Good => 32,
            Tone::Warning => 33,
            Tone::Bad => 31,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// One cell.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(super) fn new(text: &str, tone: Tone) -> Self {
        Self {
            text: plain(text).into_owned(),
            tone,
        }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text.as_ref(), Tone::Plain)
    }
}

/// Rows of `N` cells under a heading: the first to the left, and as many more as `left` says; the rest,
/// numbers, to the right.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    left: usize,
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(headings: [&str; N], left: usize) -> Self {
        let heading = headings.map(|heading| Cell::new(heading, Tone::Heading));
        Self {
            left,
            rows: vec![heading],
        }
    }

    pub(super) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }

    /// The table as lines, each with its end.
    pub(super) fn render(&self, style: Style) -> String {
        let widths = self.widths();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            let mut owed = 0;
            for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
                let text = shortened(&cell.text, width);
                let pad = width - text.chars().count();
                let (before, after) = if index < self.left {
                    (0, pad)
                } else {
                    (pad, 0)
                };
                // What ends a line is not padded.
                if !text.is_empty() {
                    line.extend(std::iter::repeat_n(' ', owed + before));
                    line.push_str(&style.paint(&text, cell.tone));
                    owed = 0;
                } else {
                    owed += before;
                }
                owed += after + GAP;
            }
            out.push_str(&line);
            out.push('\n');
        }
        out
    }

    fn widths(&self) -> [usize; N] {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        let whole = widths.iter().sum::<usize>() + GAP * N.saturating_sub(1);
        if let Some(first) = widths.first_mut() {
            let shrunk = first.saturating_sub(whole.saturating_sub(WIDTH));
            *first = shrunk.max(NARROWEST.min(*first));
        }
        widths
    }
}

/// `text` in at most `width` characters, by leaving out its middle.
pub(super) fn shortened(text: &str, width: usize) -> Cow<'_, str> {
    let length = text.chars().count();
    if length <= width {
        return Cow::Borrowed(text);
    }
    let kept = width.saturating_sub(1);
    let (head, tail) = (kept - kept / 2, kept / 2);
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - tail).collect();
    Cow::Owned(format!("{start}…{end}"))
}

/// `text` without control characters.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        Cow::Owned(text.replace(char::is_control, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Milliseconds as one reads them: `0.42ms`, `8.1ms`, `250ms`, `1.50s`; `-` for none.
pub(super) fn latency(milliseconds: Option<f64>) -> String {
    match milliseconds {
        None => "-".to_owned(),
        Some(ms) if ms < 1.0 => format!("{ms:.2}ms"),
        Some(ms) if ms < 100.0 => format!("{ms:.1}ms"),
        Some(ms) if ms < 1_000.0 => format!("{ms:.0}ms"),
        Some(ms) => format!("{:.2}s", ms / 1e3),
    }
}

/// `part` of `whole` in percent; `-` of nothing.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    format!("{:.1}%", ratio(part, whole) * 100.0)
}

/// A share between 0 and 1 in percent.
pub(super) fn share(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// `1 worker`, `2 workers`.
pub(super) fn counted(count: u64, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

/// Events per second: `0.4`, `12.5`, `1234`; `-` of no time.
pub(super) fn rate(events: u64, seconds: u64) -> String {
    if seconds == 0 {
        return "-".to_owned();
    }
    let rate = ratio(events, seconds);
    if rate < 100.0 {
        format!("{rate:.1}")
    } else {
        format!("{rate:.0}")
    }
}

/// Seconds in their two largest units: `45s`, `3m 20s`, `2h 5m`, `12d 4h`.
pub(super) fn age(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, minutes) => format!("{minutes}m {rest}s"),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// Bytes in binary units, as sizes are configured: `512 B`, `1.5 KiB`, `20.0 GiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = "B";
    let mut value = ratio(count, 1);
    for next in UNITS {
        if value < 1_024.0 {
            break;
        }
        value /= 1_024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{count} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "for eyes, which see no sixteenth digit"
)]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> String {
        let mut table = Table::new(["NAME", "STATE", "N"], 2);
        table.row([name.into(), Cell::new("up", Tone::Good), "7".into()]);
        table.row(["b".into(), "".into(), "1234".into()]);
        table.row(["c".into(), "".into(), "".into()]);
        table.render(Style::new(false))
    }

    #[test]
    fn words_stand_to_the_left_and_numbers_to_the_right() {
        assert_eq!(
            table("alpha"),
            "NAME   STATE     N\n\
             alpha  up        7\n\
             b             1234\n\
             c\n"
        );
    }

    #[test]
    fn a_long_name_gives_way_in_its_middle() {
        let name = format!("start{}end", "-".repeat(100));
        let text = table(&name);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
        let row = text.lines().nth(1).unwrap();
        assert!(row.starts_with("start--") && row.contains("…-"), "{row}");
        assert!(row.contains("-end  up"), "{row}");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let text = table("a\u{1b}[2Jb\n");
        assert!(text.contains("a\u{fffd}[2Jb\u{fffd}"), "{text:?}");
    }

    #[test]
    fn colour_marks_the_words_and_not_the_padding() {
        let mut table = Table::new(["A", "B"], 2);
        table.row(["x".into(), Cell::new("bad", Tone::Bad)]);
        let text = table.render(Style::new(true));
        assert_eq!(
            text,
            "\u{1b}[1mA\u{1b}[0m  \u{1b}[1mB\u{1b}[0m\nx  \u{1b}[31mbad\u{1b}[0m\n"
        );
    }

    #[test]
    fn numbers_are_written_as_one_reads_them() {
        let latencies = [None, Some(0.417), Some(8.06), Some(250.2), Some(1_500.0)];
        assert_eq!(
            latencies.map(latency),
            ["-", "0.42ms", "8.1ms", "250ms", "1.50s"]
        );
        assert_eq!(
            [counted(1, "line"), counted(0, "line")],
            ["1 line", "0 lines"]
        );
        assert_eq!([percent(0, 0), percent(1, 3)], ["-", "33.3%"]);
        assert_eq!(
            [rate(1, 0), rate(5, 10), rate(12_340, 10)],
            ["-", "0.5", "1234"]
        );
        assert_eq!(
            [59, 200, 7_500, 1_051_200].map(age),
            ["59s", "3m 20s", "2h 5m", "12d 4h"]
        );
        assert_eq!(
            [512, 1_536, 20 << 30].map(bytes),
            ["512 B", "1.5 KiB", "20.0 GiB"]
        );
    }
}
