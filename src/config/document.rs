//! The document between text and `Raw`: a tree in which every entry knows its place.
//!
//! Here flags are written into the tree, and entries already reported are taken out so that the rest can be read. Depends on `toml`'s document types.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

/// A mistake at a place, before the place's text is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) span: Range<usize>,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// An entry that was taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// The span of the table it was in.
    pub(crate) table: Range<usize>,
    /// The keys down to it, from the top. Positions in lists are left out.
    pub(crate) keys: Vec<String>,
}

/// Keys whose value is a list.
pub(crate) const LISTS: [&str; 24] = [
    "addresses",
    "certificates",
    "claims",
    "cookie_names",
    "endpoints",
    "exec",
    "fields",
    "identify",
    "ignore_query",
    "keys",
    "known",
    "listen",
    "methods",
    "notify",
    "protocols",
    "purge_from",
    "rate_limits",
    "remove",
    "routes",
    "sans",
    "targeted",
    "tiers",
    "trusted_proxies",
    "values",
];

/// Lists in the place of tables. Serde would take their elements for the table's values, in order.
pub(crate) fn misplaced_lists(root: &Spanned<DeTable<'_>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    misplaced_in_table(root.get_ref(), &mut findings);
    findings
}

fn misplaced_in_table(table: &DeTable<'_>, findings: &mut Vec<Finding>) {
    for (key, value) in table {
        match value.get_ref() {
            DeValue::Table(inner) => misplaced_in_table(inner, findings),
            DeValue::Array(_) if !LISTS.contains(&key.get_ref().as_ref()) => {
                findings.push(Finding {
                    span: value.span(),
                    message: format!("`{key}` is a table, not a list"),
                    hint: None,
                });
            }
            DeValue::Array(elements) => {
                for element in elements.iter() {
                    if let DeValue::Table(inner) = element.get_ref() {
                        misplaced_in_table(inner, findings);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Takes out the smallest entry that holds `span`, so that the rest can be read without it.
pub(crate) fn take_out(root: &mut Spanned<DeTable<'_>>, span: &Range<usize>) -> Option<Dropped> {
    let mut best: Option<Candidate> = None;
    let table = root.span();
    find_in_table(root.get_ref(), &table, &[], span, &mut best);
    let candidate = best?;
    remove_at(root.get_mut(), &candidate.path);
    let keys = candidate.path.into_iter().filter_map(|step| match step {
        Step::Key(key) => Some(key),
        Step::Index(_) => None,
    });
    Some(Dropped {
        table: candidate.table,
        keys: keys.collect(),
    })
}

/// One step down the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// An entry that holds the span looked for.
struct Candidate {
    size: usize,
    path: Vec<Step>,
    table: Range<usize>,
}

fn find_in_table(
    table: &DeTable<'_>,
    table_span: &Range<usize>,
    path: &[Step],
    span: &Range<usize>,
    best: &mut Option<Candidate>,
) {
    for (key, value) in table {
        let mut path = path.to_vec();
        path.push(Step::Key(key.get_ref().to_string()));
        offer(&key.span(), &path, table_span, span, best);
        find_in_value(value, &path, table_span, span, best);
    }
}

fn find_in_value(
    value: &Spanned<DeValue<'_>>,
    path: &[Step],
    table_span: &Range<usize>,
    span: &Range<usize>,
    best: &mut Option<Candidate>,
) {
    offer(&value.span(), path, table_span, span, best);
    match value.get_ref() {
        DeValue::Table(table) => find_in_table(table, &value.span(), path, span, best),
        DeValue::Array(array) => {
            for (index, element) in array.iter().enumerate() {
                let mut path = path.to_vec();
                path.push(Step::Index(index));
                find_in_value(element, &path, table_span, span, best);
            }
        }
        _ => {}
    }
}

/// Keeps the entry at `path` if its `place` holds `span` more closely than the best so far.
fn offer(
    place: &Range<usize>,
    path: &[Step],
    table: &Range<usize>,
    span: &Range<usize>,
    best: &mut Option<Candidate>,
) {
    let holds = place.start <= span.start && span.end <= place.end;
    let closer = best.as_ref().is_none_or(|best| place.len() <= best.size);
    if holds && closer {
        *best = Some(Candidate {
            size: place.len(),
            path: path.to_vec(),
            table: table.clone(),
        });
    }
}

fn remove_at(table: &mut DeTable<'_>, path: &[Step]) {
    match path {
        [Step::Key(key)] => drop(table.remove(key.as_str())),
        [Step::Key(key), rest @ ..] => {
            if let Some(value) = table.get_mut(key.as_str()) {
                remove_in_value(value.get_mut(), rest);
            }
        }
        _ => {}
    }
}

fn remove_in_value(value: &mut DeValue<'_>, path: &[Step]) {
    match (value, path) {
        (DeValue::Table(table), _) => remove_at(table, path),
        (DeValue::Array(array), [Step::Index(index)]) => {
            let elements = std::mem::replace(array, DeArray::new());
            for (at, element) in elements.into_iter().enumerate() {
                if at != *index {
                    array.push(element);
                }
            }
        }
        (DeValue::Array(array), [Step::Index(index), rest @ ..]) => {
            if let Some(element) = array.get_mut(*index) {
                remove_in_value(element.get_mut(), rest);
            }
        }
        _ => {}
    }
}

/// A value to write into the document, at a path of keys and list positions.
pub(crate) struct Override<'a> {
    /// Each key with its place.
    pub(crate) path: Vec<Spanned<DeString<'a>>>,
    /// The value with its place.
    pub(crate) value: Spanned<DeValue<'a>>,
}

impl<'a> Override<'a> {
    /// Reads `path=value`, whose text begins at `base` among all texts. The value is TOML or, failing that,
    /// the bare text.
    pub(crate) fn parse(text: &'a str, base: usize) -> Result<Self, Finding> {
        let refuse = |message: &str| Finding {
            span: base..base + text.len(),
            message: message.to_owned(),
            hint: Some("write a path and a value, such as `server.workers=2`".to_owned()),
        };
        let (path, value) = text
            .split_once('=')
            .ok_or_else(|| refuse("`=` is missing"))?;
        let mut keys = Vec::new();
        let mut at = base;
        for key in path.split('.') {
            let name = key.trim().trim_matches('"');
            if name.is_empty() {
                return Err(refuse("a part of the path is empty"));
            }
            keys.push(Spanned::new(at..at + key.len(), Cow::Borrowed(name)));
            at += key.len() + 1;
        }
        let value_at = base + path.len() + 1;
        Ok(Self {
            path: keys,
            value: parse_value(value, value_at),
        })
    }

    /// `value` at the fixed `path`, both placed at all of `text`.
    pub(crate) fn fixed(path: &[&'a str], value: DeValue<'a>, span: &Range<usize>) -> Self {
        Self {
            path: path
                .iter()
                .map(|key| Spanned::new(span.clone(), Cow::Borrowed(*key)))
                .collect(),
            value: Spanned::new(span.clone(), value),
        }
    }

    /// Writes the value into `root`, making the tables and list elements on its way.
    pub(crate) fn apply(self, root: &mut Spanned<DeTable<'a>>) -> Result<(), Finding> {
        set_in_table(root.get_mut(), &self.path, self.value)
    }
}

fn set_in_table<'a>(
    table: &mut DeTable<'a>,
    path: &[Spanned<DeString<'a>>],
    value: Spanned<DeValue<'a>>,
) -> Result<(), Finding> {
    let Some((key, rest)) = path.split_first() else {
        return Ok(());
    };
    if rest.is_empty() {
        // The key too: an error must be shown in the flag, not where the file had it.
        table.remove(key.get_ref().as_ref());
        table.insert(key.clone(), value);
        return Ok(());
    }
    if !table.contains_key(key.get_ref().as_ref()) {
        table.insert(key.clone(), container(rest, &key.span()));
    }
    match table.get_mut(key.get_ref().as_ref()) {
        Some(inner) => set_in_value(inner.get_mut(), key, rest, value),
        None => Ok(()),
    }
}

fn set_in_value<'a>(
    inner: &mut DeValue<'a>,
    key: &Spanned<DeString<'a>>,
    path: &[Spanned<DeString<'a>>],
    value: Spanned<DeValue<'a>>,
) -> Result<(), Finding> {
    let refuse = |place: &Spanned<DeString<'a>>, message: String| {
        Err(Finding {
            span: place.span(),
            message,
            hint: None,
        })
    };
    match inner {
        DeValue::Table(table) => set_in_table(table, path, value),
        DeValue::Array(array) => {
            let Some((position, rest)) = path.split_first() else {
                return Ok(());
            };
            let Ok(index) = position.get_ref().parse::<usize>() else {
                return refuse(
                    position,
                    format!("`{key}` is a list; write a position in it, such as `{key}.0`"),
                );
            };
            if index == array.len() {
                array.push(container(rest, &position.span()));
            }
            let length = array.len();
            match array.get_mut(index) {
                None => refuse(
                    position,
                    format!("`{key}` has no element {index}, only {length}"),
                ),
                Some(element) if rest.is_empty() => {
                    *element = value;
                    Ok(())
                }
                Some(element) => set_in_value(element.get_mut(), position, rest, value),
            }
        }
        _ => refuse(key, format!("`{key}` is not a table")),
    }
}

/// An empty list if the path goes on with a position, else an empty table.
fn container<'a>(path: &[Spanned<DeString<'a>>], span: &Range<usize>) -> Spanned<DeValue<'a>> {
    let is_position = path
        .first()
        .is_some_and(|key| key.get_ref().parse::<usize>().is_ok());
    let value = if is_position {
        DeValue::Array(DeArray::new())
    } else {
        DeValue::Table(DeTable::new())
    };
    Spanned::new(span.clone(), value)
}

fn parse_value(text: &str, at: usize) -> Spanned<DeValue<'_>> {
    match DeValue::parse(text) {
        Ok(value) => shifted(value, at),
        Err(_) => Spanned::new(at..at + text.len(), DeValue::String(Cow::Borrowed(text))),
    }
}

/// The same value with every place moved `by` bytes on.
fn shifted(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = value.span().start + by..value.span().end + by;
    let inner = match value.into_inner() {
        DeValue::Array(array) => DeValue::Array(
            array
                .into_iter()
                .map(|element| shifted(element, by))
                .collect(),
        ),
        DeValue::Table(table) => DeValue::Table(
            table
                .into_iter()
                .map(|(key, value)| {
                    let span = key.span().start + by..key.span().end + by;
                    (Spanned::new(span, key.into_inner()), shifted(value, by))
                })
                .collect(),
        ),
        plain => plain,
    };
    Spanned::new(span, inner)
}
