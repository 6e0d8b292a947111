//! What is wrong with a configuration, where, and what to do about it.
//!
//! A [`Diagnostic`] stands at a place in a text (the file, or a flag of the command line) or nowhere at all.
//! It prints as one line or, by `annotate-snippets`, with the line it is about. Depends on nothing else of
//! this crate.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// A text that configuration was read from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Text {
    /// The file's path as given, or the flag.
    pub(crate) name: String,
    /// The whole text.
    pub(crate) content: String,
    /// Whether it is a flag's value rather than a file's content.
    pub(crate) is_flag: bool,
}

/// A place in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    text: Arc<Text>,
    span: Range<usize>,
}

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    place: Option<Place>,
    message: String,
    hint: Option<String>,
}

impl Diagnostic {
    /// A mistake that stands in no text, such as a file that cannot be read.
    pub(crate) fn unplaced(message: impl Into<String>) -> Self {
        Self {
            place: None,
            message: message.into(),
            hint: None,
        }
    }

    /// A mistake at `span` of `text`.
    pub(crate) fn placed(text: Arc<Text>, span: Range<usize>, message: impl Into<String>) -> Self {
        let span = within_one_line(&text.content, &span);
        Self {
            place: Some(Place { text, span }),
            message: message.into(),
            hint: None,
        }
    }

    /// The same mistake with advice.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it, if that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The file or flag it is in.
    #[must_use]
    pub fn source_name(&self) -> Option<&str> {
        self.place.as_ref().map(|place| place.text.name.as_str())
    }

    /// Line and column, both counted from 1, in the text it is in.
    #[must_use]
    pub fn position(&self) -> Option<(usize, usize)> {
        let place = self.place.as_ref()?;
        let before = place.text.content.get(..place.span.start)?;
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(start..)?.chars().count() + 1;
        Some((line, column))
    }

    /// The mistake with the line it is in, the place marked, and the hint; several lines, the last ended.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        }
        .decor_style(DecorStyle::Ascii);
        let title = Level::ERROR.primary_title(self.message.as_str());
        let group = match &self.place {
            None => Group::with_title(title),
            Some(place) if place.text.content.trim().is_empty() => title.element(
                Origin::path(place.text.name.as_str())
                    .line(1)
                    .char_column(1),
            ),
            Some(place) => title.element(
                Snippet::source(place.text.content.as_str())
                    .path(place.text.name.as_str())
                    .annotation(AnnotationKind::Primary.span(place.span.clone())),
            ),
        };
        let group = match &self.hint {
            Some(hint) => group.element(Level::HELP.message(hint.as_str())),
            None => group,
        };
        let mut text = renderer.render(&[group]);
        text.push('\n');
        text
    }
}

/// `file:line:col: message; hint`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(place), Some((line, column))) = (&self.place, self.position()) {
            if place.text.is_flag {
                write!(f, "{} {}: ", place.text.name, place.text.content)?;
            } else {
                write!(f, "{}:{line}:{column}: ", place.text.name)?;
            }
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a configuration; at least one mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// `diagnostics` in the order in which they will be shown, each once.
    pub(crate) fn new(mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.dedup();
        Self(diagnostics)
    }

    /// Each mistake, in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Every mistake with the line it is in, for a terminal (with or without colour) or the admin API.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let parts: Vec<String> = self.iter().map(|one| one.render(color)).collect();
        parts.join("\n")
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One line for each mistake.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// `span` moved inside `text`, onto character boundaries, and cut at the end of its first line: a table's
/// span may reach over many.
fn within_one_line(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start);
    let end = text.ceil_char_boundary(span.end.min(text.len()));
    let marked = text.get(start..end).unwrap_or_default();
    let line = marked.lines().next().unwrap_or_default();
    start..start + line.len()
}

/// `did you mean …`, when one of `known` is near `word`; else what is known.
pub(crate) fn suggest(word: &str, known: &[&str]) -> Suggestion {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), *candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| {
            *distance <= (word.chars().count().min(candidate.len()) / 3).max(1)
        });
    match nearest {
        Some((_, candidate)) => Suggestion {
            nearest: Some(candidate.to_owned()),
            hint: format!("did you mean `{candidate}`?"),
        },
        None if known.is_empty() => Suggestion {
            nearest: None,
            hint: "there are none".to_owned(),
        },
        None => {
            let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            Suggestion {
                nearest: None,
                hint: format!("known here: {}", list.join(", ")),
            }
        }
    }
}

/// Advice on an unknown word.
pub(crate) struct Suggestion {
    /// The known word that was likely meant.
    pub(crate) nearest: Option<String>,
    /// The advice as text.
    pub(crate) hint: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content: &str) -> Arc<Text> {
        Arc::new(Text {
            name: "tidegate.toml".to_owned(),
            content: content.to_owned(),
            is_flag: false,
        })
    }

    #[test]
    fn a_place_is_counted_in_characters_from_one() {
        let diagnostic = Diagnostic::placed(text("a = 1\né = 2\n"), 9..11, "wrong");
        assert_eq!(diagnostic.position(), Some((2, 3)));
        assert_eq!(diagnostic.to_string(), "tidegate.toml:2:3: wrong");
    }

    #[test]
    fn the_rendering_marks_the_place_and_gives_the_hint() {
        let diagnostic = Diagnostic::placed(text("a = 1\nb = 22\n"), 10..12, "wrong")
            .with_hint(Some("write 2".to_owned()));
        let expected = "\
error: wrong
 --> tidegate.toml:2:5
  |
2 | b = 22
  |     ^^
  |
  = help: write 2
";
        assert_eq!(diagnostic.render(false), expected);
        assert!(diagnostic.render(true).contains("\u{1b}["));
    }

    #[test]
    fn spans_outside_the_text_do_not_panic() {
        for (content, span) in [
            ("", 0..0),
            ("", 3..9),
            ("é", 1..1),
            ("a\nb", 0..3),
            ("a\n", 2..2),
        ] {
            let diagnostic = Diagnostic::placed(text(content), span, "wrong");
            assert!(diagnostic.render(false).starts_with("error: wrong\n"));
            assert!(diagnostic.position().is_some());
        }
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        let known = ["listen", "server"];
        assert_eq!(suggest("lisen", &known).nearest.as_deref(), Some("listen"));
        assert_eq!(suggest("cache", &known).nearest, None);
        assert_eq!(
            suggest("cache", &known).hint,
            "known here: `listen`, `server`"
        );
    }
}
