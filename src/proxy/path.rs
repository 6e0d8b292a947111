//! Paths: what a request's path means, and what the upstream is sent.
//!
//! Dot segments are removed as in RFC 3986 section 5.2.4, whether written plainly or as `%2e`, so that a
//! route cannot be walked around. As in nginx, a path that climbs above its root or has a malformed `%`
//! escape is refused, not repaired; unlike nginx nothing else is decoded and `//` stays, because what is
//! forwarded should be what was asked for. Depends on the plan and `http`'s value types.

use std::borrow::Cow;

use http::uri::PathAndQuery;

use crate::config::plan::Rewrite;

/// Why a path is refused. The client is answered 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It does not begin with `/`.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// It holds a control character, a space, a backslash, `?` or `#`, or an escaped NUL.
    #[error("the path holds a character that must not stand in one")]
    Character,
    /// A `%` is not followed by two hexadecimal digits.
    #[error("the path holds a malformed percent escape")]
    Escape,
    /// Its `..` lead out of the root.
    #[error("the path leads above its root")]
    AboveRoot,
}

/// The path that `path` means: without dot segments, otherwise as it was. Borrowed when there is nothing to
/// do. The `*` of OPTIONS stays.
///
/// # Errors
/// When the path is malformed or leads above its root.
pub fn normalise(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if !path.starts_with('/') {
        return if path == "*" {
            Ok(Cow::Borrowed(path))
        } else {
            Err(BadPath::NotAbsolute)
        };
    }
    check(path.as_bytes())?;
    let may_hold_dots = path
        .as_bytes()
        .array_windows()
        .any(|pair| matches!(pair, b"/." | b"/%"));
    if may_hold_dots && path.split('/').any(|segment| Dots::of(segment).is_some()) {
        remove_dot_segments(path).map(Cow::Owned)
    } else {
        Ok(Cow::Borrowed(path))
    }
}

/// The target with its path changed by `rule`. Always begins with `/`; the query stays. A path that the
/// rule's prefix does not cover stays as it is.
#[must_use]
pub fn rewrite(target: &PathAndQuery, rule: &Rewrite) -> PathAndQuery {
    let (prefix, with): (&str, &str) = match rule {
        Rewrite::StripPrefix(prefix) => (prefix, ""),
        Rewrite::ReplacePrefix { prefix, with } => (prefix, with),
    };
    let rest = target.path().strip_prefix(prefix.trim_end_matches('/'));
    match rest {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let path = join(with, rest);
            with_path(target, &path).unwrap_or_else(|| target.clone())
        }
        Some(_) | None => target.clone(),
    }
}

/// The target with `path`, which is normalised, in the place of its own; none when they do not make one.
#[must_use]
pub fn with_path(target: &PathAndQuery, path: &str) -> Option<PathAndQuery> {
    let text = match target.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    PathAndQuery::from_maybe_shared(text).ok()
}

/// `with` and `rest` with one slash between them and one at the beginning.
fn join(with: &str, rest: &str) -> String {
    let with = if rest.is_empty() {
        with
    } else {
        with.trim_end_matches('/')
    };
    let slash = if with.starts_with('/') || (with.is_empty() && rest.starts_with('/')) {
        ""
    } else {
        "/"
    };
    format!("{slash}{with}{rest}")
}

/// Looks for bytes that must not stand in a path, and at its escapes.
fn check(path: &[u8]) -> Result<(), BadPath> {
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match byte {
            b'%' => {
                let [high, low, tail @ ..] = tail else {
                    return Err(BadPath::Escape);
                };
                if !high.is_ascii_hexdigit() || !low.is_ascii_hexdigit() {
                    return Err(BadPath::Escape);
                }
                if (high, low) == (&b'0', &b'0') {
                    return Err(BadPath::Character);
                }
                rest = tail;
            }
            0..=b' ' | 0x7f | b'\\' | b'#' | b'?' => return Err(BadPath::Character),
            _ => {}
        }
    }
    Ok(())
}

/// A segment that names no place but a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dots {
    Here,
    Up,
}

impl Dots {
    fn of(segment: &str) -> Option<Self> {
        let rest = strip_dot(segment)?;
        if rest.is_empty() {
            return Some(Self::Here);
        }
        strip_dot(rest)?.is_empty().then_some(Self::Up)
    }
}

/// `text` without the dot it begins with, plain or escaped.
fn strip_dot(text: &str) -> Option<&str> {
    let plain = text.strip_prefix('.');
    let escaped = || {
        text.strip_prefix("%2e")
            .or_else(|| text.strip_prefix("%2E"))
    };
    plain.or_else(escaped)
}

fn remove_dot_segments(path: &str) -> Result<String, BadPath> {
    let mut out = String::with_capacity(path.len());
    let mut ends_in_dots = false;
    for segment in path.split('/').skip(1) {
        let dots = Dots::of(segment);
        ends_in_dots = dots.is_some();
        match dots {
            None => {
                out.push('/');
                out.push_str(segment);
            }
            Some(Dots::Here) => {}
            Some(Dots::Up) => {
                let parent = out.rfind('/').ok_or(BadPath::AboveRoot)?;
                out.truncate(parent);
            }
        }
    }
    if ends_in_dots {
        out.push('/');
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
