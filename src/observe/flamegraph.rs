//! Draws stacks, each as wide as the time that was spent in it: a flamegraph (Gregg, 2016), as one SVG without script.
//!
//! Calls stand upon their callers; siblings are in the order of their names, so that two pictures can be compared. What
//! would be narrower than a third of a pixel is left out. The same stacks as folded text, for what draws by itself, are whole.
//! Depends on nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

const WIDTH: f64 = 1_200.0;
const ROW: f64 = 17.0;
/// Nobody sees what is narrower.
const NARROWEST: f64 = 0.3;
/// A letter of 12 pixels' monospace, about.
const LETTER: f64 = 7.3;
/// Calls upon calls that are drawn.
const DEEPEST: usize = 200;

/// One call, and those it made.
#[derive(Debug, Default)]
pub struct Frame {
    samples: u64,
    calls: BTreeMap<String, Self>,
}

impl Frame {
    /// Adds `samples` of a stack, the outermost call first.
    pub fn add<'a>(&mut self, stack: impl Iterator<Item = &'a str>, samples: u64) {
        self.samples += samples;
        let mut frame = self;
        for name in stack.take(DEEPEST) {
            // Most stacks share most of their calls: a name is copied when it is new.
            if !frame.calls.contains_key(name) {
                frame.calls.insert(name.to_owned(), Self::default());
            }
            let Some(call) = frame.calls.get_mut(name) else {
                return;
            };
            frame = call;
            frame.samples += samples;
        }
    }

    /// Samples of all stacks.
    #[must_use]
    pub const fn samples(&self) -> u64 {
        self.samples
    }

    fn depth(&self) -> usize {
        let calls = self.calls.values();
        calls.map(|call| call.depth() + 1).max().unwrap_or(0)
    }

    /// As folded text, one stack in a line: its calls, the outermost first, and how often it was seen.
    #[must_use]
    pub fn folded(&self) -> String {
        let mut text = String::new();
        for (name, call) in &self.calls {
            call.fold(&foldable(name), &mut text);
        }
        text
    }

    fn fold(&self, stack: &str, text: &mut String) {
        let called: u64 = self.calls.values().map(|call| call.samples).sum();
        let own = self.samples.saturating_sub(called);
        if own > 0 {
            // Writing to a string does not fail.
            let _written = writeln!(text, "{stack} {own}");
        }
        for (name, call) in &self.calls {
            call.fold(&format!("{stack};{}", foldable(name)), text);
        }
    }

    /// The picture, under `title`.
    #[must_use]
    pub fn draw(&self, title: &str) -> String {
        let height = ROW * (self.depth() + 3) as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"ui-monospace, monospace\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fffdf8\"/>\n<text x=\"8\" y=\"16\" font-size=\"14\">"
        );
        escape(title, &mut svg);
        svg.push_str("</text>\n");
        let picture = Picture {
            per_sample: WIDTH / self.samples.max(1) as f64,
            total: self.samples.max(1),
            floor: height - ROW,
        };
        picture.frame("all", self, 0.0, 0, &mut svg);
        svg.push_str("</svg>\n");
        svg
    }
}

struct Picture {
    per_sample: f64,
    total: u64,
    /// The top of the lowest row.
    floor: f64,
}

impl Picture {
    fn frame(&self, name: &str, frame: &Frame, left: f64, level: usize, svg: &mut String) {
        let width = frame.samples as f64 * self.per_sample;
        if width < NARROWEST {
            return;
        }
        let top = self.floor - ROW * level as f64;
        svg.push_str("<g><title>");
        escape(name, svg);
        let share = frame.samples as f64 * 100.0 / self.total as f64;
        // Writing to a string does not fail.
        let _written = write!(
            svg,
            " ({} samples, {share:.1}%)</title><rect x=\"{left:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{}\" rx=\"2\" fill=\"{}\"/>",
            frame.samples,
            ROW - 1.0,
            colour(name),
        );
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of letters"
        )]
        let room = ((width - 6.0) / LETTER).max(0.0) as usize;
        if room >= 3 {
            let _written = write!(svg, "<text x=\"{:.1}\" y=\"{}\">", left + 3.0, top + 12.0);
            escape(&shortened(name, room), svg);
            svg.push_str("</text>");
        }
        svg.push_str("</g>\n");
        let mut left = left;
        for (name, call) in &frame.calls {
            self.frame(name, call, left, level + 1, svg);
            left += call.samples as f64 * self.per_sample;
        }
    }
}

/// The end of a path says most.
fn shortened(name: &str, room: usize) -> String {
    let letters = name.chars().count();
    if letters <= room {
        return name.to_owned();
    }
    let end = name.chars().skip(letters - (room - 1));
    std::iter::once('…').chain(end).collect()
}

/// A name without what separates names and lines.
fn foldable(name: &str) -> String {
    let apart = |letter: char| letter == ';' || letter.is_control();
    name.replace(apart, ":")
}

/// The same name has the same colour in every picture: warm, as such pictures are.
fn colour(name: &str) -> String {
    let hash = name
        .bytes()
        .fold(17_u32, |hash, byte| hash.wrapping_mul(31) ^ u32::from(byte));
    format!("hsl({} 75% {}%)", hash % 50, 68 + hash / 50 % 12)
}

fn escape(text: &str, svg: &mut String) {
    for letter in text.chars() {
        match letter {
            '<' => svg.push_str("&lt;"),
            '>' => svg.push_str("&gt;"),
            '&' => svg.push_str("&amp;"),
            letter if letter.is_control() => svg.push(' '),
            letter => svg.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(frame: &mut Frame, calls: &str, samples: u64) {
        frame.add(calls.split(' '), samples);
    }

    #[test]
    fn a_call_is_as_wide_as_its_samples_and_stands_on_its_caller() {
        let mut all = Frame::default();
        stack(&mut all, "main serve read", 3);
        stack(&mut all, "main serve", 1);
        stack(&mut all, "main Vec<u8>::push", 4);
        stack(&mut all, "main rare", 1_000_000);
        assert_eq!((all.samples, all.depth()), (1_000_008, 3));
        let svg = all.draw("a & b");
        assert!(svg.contains("a &amp; b"), "{svg}");
        assert!(svg.contains("main (1000008 samples, 100.0%)"), "{svg}");
        assert!(!svg.contains("serve"), "too narrow to be seen: {svg}");

        let mut all = Frame::default();
        stack(&mut all, "main serve read", 3);
        stack(&mut all, "main Vec<u8>::push", 1);
        let svg = all.draw("x");
        assert!(svg.contains("<title>Vec&lt;u8&gt;::push (1 samples, 25.0%)</title><rect x=\"0.0\" y=\"51\" width=\"300.0\""), "{svg}");
        assert!(
            svg.contains(
                "<title>read (3 samples, 75.0%)</title><rect x=\"300.0\" y=\"34\" width=\"900.0\""
            ),
            "{svg}"
        );
    }

    #[test]
    fn folded_stacks_tell_each_its_own_samples() {
        let mut all = Frame::default();
        stack(&mut all, "main serve read", 3);
        stack(&mut all, "main serve", 1);
        stack(&mut all, "main <[u8;4]>::push", 4);
        assert_eq!(
            all.folded(),
            "main;<[u8:4]>::push 4\nmain;serve 1\nmain;serve;read 3\n"
        );
        assert_eq!(Frame::default().folded(), "");
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(shortened("tidegate::proxy::serve", 8), "…::serve");
        assert_eq!(shortened("serve", 8), "serve");
    }
}
