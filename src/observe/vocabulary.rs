//! Names that others choose, told apart up to a bound: each gets a small number. Depends on nothing.

use std::collections::HashMap;
use std::sync::Arc;

/// The longest name that is read.
const LONGEST: usize = 64;

/// The names known, in the order in which they came.
#[derive(Clone, Debug)]
pub struct Vocabulary {
    names: Vec<Arc<str>>,
    index: HashMap<Arc<str>, u32>,
    bound: usize,
}

impl Vocabulary {
    /// Of no names yet, and of `bound` at most.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            names: Vec::new(),
            index: HashMap::new(),
            bound,
        }
    }

    /// The number of `name`; none when there are too many.
    pub fn number(&mut self, name: &str) -> Option<u32> {
        if let Some(known) = self.index.get(name) {
            return Some(*known);
        }
        if self.names.len() >= self.bound {
            return None;
        }
        let number = u32::try_from(self.names.len()).ok()?;
        let name: Arc<str> = name.into();
        self.names.push(Arc::clone(&name));
        self.index.insert(name, number);
        Some(number)
    }

    /// The name of that number.
    #[must_use]
    pub fn name(&self, number: u32) -> Option<&Arc<str>> {
        self.names.get(usize::try_from(number).ok()?)
    }
}

/// The parts of `text` between separators that stand in no quotes.
pub(super) fn members(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(move |one: char| {
        let parts = !quoted && one == char::from(separator);
        match one {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        parts
    });
    parts.map(str::trim)
}

/// Whether `name` is a token (RFC 9110 section 5.6.2) of a length that is read.
pub(super) fn is_token(name: &str) -> bool {
    let is = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(is)
}

/// The value of the parameter `name` among `parts`.
pub(super) fn parameter<'a>(
    mut parts: impl Iterator<Item = &'a str>,
    name: &str,
) -> Option<&'a str> {
    parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        let value = value.trim().trim_matches('"');
        key.trim().eq_ignore_ascii_case(name).then_some(value)
    })
}
