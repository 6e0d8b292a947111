//! From a file and flags to a plan, with every mistake reported at once.
//!
//! Serde stops at the first mistake. So an entry that cannot be read is reported and taken out, and the rest
//! is read again, until it all reads; then the semantic checks run over what is left. This module reads the
//! file system and the environment; nothing else of configuration but the checks of `resolve` and `watch` does.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::diagnostic::{Diagnostic, Diagnostics, Text, suggest};
use super::document::{self, Dropped, Finding, Override};
use super::plan::Plan;
use super::raw::Raw;
use super::resolve::{self, Scene, io_message};

/// Where a configuration comes from: a file, flags, or a file with flags over it.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file; none: flags alone.
    pub file: Option<PathBuf>,
    /// `--upstream`: each an endpoint of the file's only upstream, or of one named `default`. They stand in
    /// the place of the file's endpoints.
    pub upstreams: Vec<String>,
    /// `--listen`: address of the first listener.
    pub listen: Option<String>,
    /// `--admin`: address of the admin API.
    pub admin: Option<String>,
    /// `--set path=value`, such as `server.workers=2` or `listen.0.address=0.0.0.0:80`. Applied last.
    pub set: Vec<String>,
}

/// More mistakes than anyone reads at once.
const MOST_MISTAKES: usize = 100;

impl Source {
    /// Reads the whole configuration. `fd_limit` is the process's limit on open files, from which the default
    /// bound on connections derives.
    ///
    /// # Errors
    ///
    /// Every mistake there is, each with its place.
    pub fn load(&self, fd_limit: usize) -> Result<Plan, Diagnostics> {
        let text = match &self.file {
            Some(file) => Some(read_text(file)?),
            None => None,
        };
        self.load_text(text, fd_limit)
    }

    /// As [`Source::load`], with the file's text already at hand.
    pub(crate) fn load_text(
        &self,
        text: Option<String>,
        fd_limit: usize,
    ) -> Result<Plan, Diagnostics> {
        let texts = self.texts(text);
        let (document, mut findings) = match self.document(&texts) {
            Ok(parsed) => parsed,
            Err(finding) => return Err(texts.diagnose(vec![finding])),
        };
        let (raw, dropped) = read_shape(document, &mut findings);
        let mut plan = None;
        if let Some(raw) = raw {
            let scene = Scene {
                source: self.file.clone(),
                directory: self.directory(),
                dropped,
                fd_limit,
                state_directory: state_directory(),
                cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            };
            let (resolved, more) = resolve::resolve(&raw, &scene);
            findings.extend(more);
            plan = resolved;
        }
        match plan {
            Some(plan) if findings.is_empty() => Ok(plan),
            _ => Err(texts.diagnose(findings)),
        }
    }

    /// Where relative paths begin: the file's directory, absolute so that it holds wherever the plan goes.
    fn directory(&self) -> PathBuf {
        let directory = self.file.as_deref().and_then(Path::parent);
        let directory = match directory {
            Some(directory) if directory != Path::new("") => directory,
            _ => Path::new("."),
        };
        std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned())
    }

    fn texts(&self, text: Option<String>) -> Texts {
        let mut texts = Texts::default();
        let file = self.file.as_ref();
        texts.push(
            file.map_or_else(String::new, |file| file.display().to_string()),
            text.unwrap_or_default(),
            false,
        );
        let flags = [
            ("--upstream", self.upstreams.as_slice()),
            ("--listen", self.listen.as_slice()),
            ("--admin", self.admin.as_slice()),
            ("--set", self.set.as_slice()),
        ];
        for (flag, values) in flags {
            for value in values {
                texts.push(flag.to_owned(), value.clone(), true);
            }
        }
        texts.has_file = self.file.is_some();
        texts
    }

    /// The file's document with the flags written into it. Fails when the file is not TOML.
    fn document<'a>(
        &self,
        texts: &'a Texts,
    ) -> Result<(Spanned<DeTable<'a>>, Vec<Finding>), Finding> {
        let mut document = DeTable::parse(texts.file()).map_err(|error| Finding {
            span: error.span().unwrap_or_default(),
            message: error.message().to_owned(),
            hint: None,
        })?;
        let mut findings = Vec::new();
        let mut overrides = Vec::new();
        if self.file.is_none() {
            let version = DeValue::parse("1").map_or(DeValue::Boolean(false), Spanned::into_inner);
            overrides.push(Override::fixed(&["version"], version, &(0..0)));
        }
        match endpoints_of_flags(&document, texts) {
            Ok(None) => {}
            Ok(Some((name, value))) => {
                forget_discover(&mut document, &name);
                overrides.push(value);
            }
            Err(finding) => findings.push(finding),
        }
        for (span, text) in texts.of_flag("--listen") {
            let has_listener = document.get_ref().contains_key("listen");
            let value = DeValue::String(text.into());
            overrides.push(Override::fixed(&["listen", "0", "address"], value, &span));
            if !has_listener {
                let name = DeValue::String("default".into());
                overrides.push(Override::fixed(&["listen", "0", "name"], name, &span));
            }
        }
        for (span, text) in texts.of_flag("--admin") {
            let value = DeValue::String(text.into());
            overrides.push(Override::fixed(&["admin", "address"], value, &span));
        }
        for (span, text) in texts.of_flag("--set") {
            match Override::parse(text, span.start) {
                Ok(value) => overrides.push(value),
                Err(finding) => findings.push(finding),
            }
        }
        for value in overrides {
            if let Err(finding) = value.apply(&mut document) {
                findings.push(finding);
            }
        }
        Ok((document, findings))
    }
}

/// The first of systemd's `StateDirectory=`.
fn state_directory() -> Option<PathBuf> {
    let given = std::env::var_os("STATE_DIRECTORY")?;
    let first = given
        .as_encoded_bytes()
        .split(|byte| *byte == b':')
        .next()?;
    let first = std::str::from_utf8(first).ok()?;
    (!first.is_empty()).then(|| first.into())
}

/// The upstream that `--upstream` speaks of, and its endpoints.
fn endpoints_of_flags<'a>(
    document: &Spanned<DeTable<'a>>,
    texts: &'a Texts,
) -> Result<Option<(String, Override<'a>)>, Finding> {
    let flags: Vec<_> = texts.of_flag("--upstream").collect();
    let Some((first, _)) = flags.first() else {
        return Ok(None);
    };
    let first = first.clone();
    let known: Vec<String> = match document.get_ref().get("upstreams").map(Spanned::get_ref) {
        Some(DeValue::Table(table)) => table.keys().map(|key| key.get_ref().to_string()).collect(),
        _ => Vec::new(),
    };
    let name = match known.as_slice() {
        [] => "default".to_owned(),
        [name] => name.clone(),
        _ => {
            return Err(Finding {
                span: first,
                message: "the file has several upstreams; this could mean any of them".to_owned(),
                hint: Some("write `--set upstreams.NAME.endpoints=[…]`".to_owned()),
            });
        }
    };
    let endpoints: DeArray<'a> = flags
        .into_iter()
        .map(|(span, text)| Spanned::new(span, DeValue::String(text.into())))
        .collect();
    let mut value = Override::fixed(
        &["upstreams", "", "endpoints"],
        DeValue::Array(endpoints),
        &first,
    );
    if let Some(key) = value.path.get_mut(1) {
        *key.get_mut() = name.clone().into();
    }
    Ok(Some((name, value)))
}

/// Endpoints from flags stand in the place of a look-up too.
fn forget_discover(document: &mut Spanned<DeTable<'_>>, name: &str) {
    if let Some(DeValue::Table(upstreams)) = document
        .get_mut()
        .get_mut("upstreams")
        .map(Spanned::get_mut)
        && let Some(DeValue::Table(upstream)) = upstreams.get_mut(name).map(Spanned::get_mut)
    {
        upstream.remove("discover");
    }
}

/// Every text of one configuration, laid end to end: a place among all of them is a place in one of them.
#[derive(Debug, Default)]
struct Texts {
    texts: Vec<(usize, Arc<Text>)>,
    end: usize,
    has_file: bool,
}

impl Texts {
    fn push(&mut self, name: String, content: String, is_flag: bool) {
        let base = self.end;
        self.end += content.len() + 1;
        let text = Text {
            name,
            content,
            is_flag,
        };
        self.texts.push((base, Arc::new(text)));
    }

    fn file(&self) -> &str {
        self.texts
            .first()
            .map_or("", |(_, text)| text.content.as_str())
    }

    fn of_flag(&self, flag: &str) -> impl Iterator<Item = (Range<usize>, &str)> {
        self.texts
            .iter()
            .filter(move |(_, text)| text.is_flag && text.name == flag)
            .map(|(base, text)| {
                let span = *base..*base + text.content.len();
                (span, text.content.as_str())
            })
    }

    fn diagnose(&self, mut findings: Vec<Finding>) -> Diagnostics {
        findings.sort_by_key(|one| one.span.start);
        Diagnostics::new(findings.into_iter().map(|one| self.place(one)).collect())
    }

    fn place(&self, finding: Finding) -> Diagnostic {
        let text = self
            .texts
            .iter()
            .rfind(|(base, _)| *base <= finding.span.start);
        match text {
            Some((base, text)) if self.has_file || text.is_flag => {
                let span = finding.span.start - base..finding.span.end.saturating_sub(*base);
                Diagnostic::placed(Arc::clone(text), span, finding.message)
            }
            _ => Diagnostic::unplaced(finding.message),
        }
        .with_hint(finding.hint)
    }
}

fn read_text(file: &Path) -> Result<String, Diagnostic> {
    let refuse = |why: &str| Diagnostic::unplaced(format!("cannot read {}: {why}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| refuse(&io_message(&error)))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        refuse(&format!("byte {at} is not UTF-8 text"))
    })
}

/// Reads the document, reporting and taking out entry by entry what does not read.
fn read_shape(
    mut document: Spanned<DeTable<'_>>,
    findings: &mut Vec<Finding>,
) -> (Option<Raw>, Vec<Dropped>) {
    let mut dropped = Vec::new();
    for _ in 0..MOST_MISTAKES {
        let error = match Raw::deserialize(toml::de::Deserializer::from(document.clone())) {
            Ok(raw) => {
                findings.extend(document::misplaced_lists(&document));
                return (Some(raw), dropped);
            }
            Err(error) => error,
        };
        let span = error.span().unwrap_or_default();
        let (message, hint, meant) = reword(error.message());
        findings.push(Finding {
            span: span.clone(),
            message,
            hint,
        });
        let Some(entry) = document::take_out(&mut document, &span) else {
            break;
        };
        if let Some(meant) = meant {
            let mut likely = entry.clone();
            likely.keys.pop();
            likely.keys.push(meant);
            dropped.push(likely);
        }
        dropped.push(entry);
    }
    (None, dropped)
}

/// Serde's message in the words of the file's author: the message, a hint, and the key that was meant.
fn reword(message: &str) -> (String, Option<String>, Option<String>) {
    let quoted = |text: &str| -> Vec<String> {
        let parts = text.split('`').skip(1).step_by(2);
        parts.map(str::to_owned).collect()
    };
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some((word, known)) = rest.split_once("`, ")
    {
        let known = quoted(known);
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let advice = suggest(word, &known);
        return (
            format!("unknown key `{word}`"),
            Some(advice.hint),
            advice.nearest,
        );
    }
    if let Some(rest) = message.strip_prefix("unknown variant `")
        && let Some((word, known)) = rest.split_once("`, expected ")
    {
        let known = quoted(known);
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let hint = suggest(word, &known).hint;
        return (format!("`{word}` is not known here"), Some(hint), None);
    }
    let wrong = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "));
    if let Some((found, expected)) = wrong.and_then(|rest| rest.rsplit_once(", expected ")) {
        let found = match found {
            "map" => "a table",
            "sequence" => "a list",
            other => other,
        };
        let expected = match expected {
            "a sequence" => "a list",
            "a map" => "a table",
            "i64" => "a whole number",
            "f64" => "a number",
            other if other.starts_with("struct ") => "a table",
            other => other,
        };
        return (format!("expected {expected}, found {found}"), None, None);
    }
    (message.to_owned(), None, None)
}
