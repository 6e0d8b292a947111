//! Holds the rooms of `src/` to the dependencies that the architecture permits.
//!
//! The compiler is no help inside one crate: any module may `use crate::` any other. This test reads the
//! sources as tokens, follows the `mod` declarations from `lib.rs`, and compares every `crate::` path with
//! the table below. What is compiled for tests only is left out. It knows no macros and no `#[path]`, which
//! the crate does not use for modules.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a source that cannot be read fails the test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What every other room may use, and uses none itself.
const GROUND: [&str; 2] = ["clock", "model"];

/// The rooms that a room may use besides itself and the [`GROUND`].
#[derive(Clone, Copy)]
enum Uses {
    Only(&'static [&'static str]),
    AllBut(&'static [&'static str]),
}
use Uses::{AllBut, Only};

/// The table of the architecture, with the two rooms added since: `discovery` and `process`.
const TABLE: [(&str, Uses); 18] = [
    ("clock", Only(&[])),
    ("model", Only(&[])),
    ("policy", Only(&[])),
    ("measure", Only(&[])),
    ("engine", Only(&["policy", "measure"])),
    ("config", Only(&["policy", "engine"])),
    ("cache", Only(&["config"])),
    ("clients", Only(&["measure", "config"])),
    // Finds and checks endpoints and tells the engine; the plan says which.
    ("discovery", Only(&["policy", "engine", "config"])),
    ("observe", Only(&["measure", "engine", "clients", "config"])),
    (
        "incident",
        Only(&["observe", "measure", "engine", "clients"]),
    ),
    // Its names are in the engine's directories, the plan says where it is, and measure how to count latencies.
    (
        "usage",
        Only(&["observe", "measure", "clients", "engine", "config"]),
    ),
    // The plan says where it meets.
    ("fleet", Only(&["engine", "config"])),
    (
        "proxy",
        Only(&["engine", "cache", "clients", "observe", "config"]),
    ),
    ("layer", Only(&["engine"])),
    ("admin", AllBut(&["proxy", "process", "cli"])),
    // Puts the rooms together into one running process.
    ("process", AllBut(&["cli"])),
    ("cli", AllBut(&[])),
];

/// Edges the table lacks and the code needs: by file, so that none spreads, and with the reason.
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    (
        "engine/upstream.rs",
        "config",
        "an upstream's state is kept by the plan's description of it; the types are plain data",
    ),
    (
        "engine/upstream/endpoint.rs",
        "config",
        "as its upstream: an endpoint is known by the plan's address of it",
    ),
];

/// Rooms that do no I/O in any feature set, and what would do it for them.
const PURE: [&str; 5] = ["clock", "model", "policy", "measure", "engine"];
const RUNTIMES: [&str; 6] = [
    "tokio",
    "hyper",
    "hyper_util",
    "axum",
    "rustls",
    "http_body",
];

#[test]
fn every_room_uses_only_the_rooms_below_it() {
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for file in &sources() {
        let Some(allowed) = allowed(&file.room) else {
            wrong.push(format!("src/{}: its room has no row in TABLE", file.path));
            continue;
        };
        for target in &file.edges {
            let exception = EXCEPTIONS
                .iter()
                .position(|(path, to, _)| *path == file.path && to == target);
            if let Some(exception) = exception {
                used.insert(exception);
            } else if !allowed.contains(&target.as_str()) {
                wrong.push(format!(
                    "src/{}: {} may not use {target}",
                    file.path, file.room
                ));
            }
        }
    }
    for (index, (path, to, _)) in EXCEPTIONS.iter().enumerate() {
        if !used.contains(&index) {
            wrong.push(format!(
                "src/{path} no longer uses {to}: drop the exception"
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn the_pure_rooms_name_no_runtime() {
    let files = sources();
    let impure = files
        .iter()
        .filter(|file| PURE.contains(&file.room.as_str()));
    let impure = impure.filter(|file| RUNTIMES.iter().any(|name| file.crates.contains(*name)));
    let impure: Vec<&str> = impure.map(|file| file.path.as_str()).collect();
    assert!(impure.is_empty(), "these name a runtime: {impure:?}");
}

#[test]
fn the_table_has_no_circle() {
    let mut settled: BTreeSet<&str> = BTreeSet::new();
    while settled.len() < TABLE.len() {
        let mut rest = TABLE.iter().map(|(room, _)| *room);
        let next = rest.find(|room| {
            let uses = allowed(room).unwrap();
            let mut others = uses.iter().filter(|used| *used != room);
            !settled.contains(room) && others.all(|used| settled.contains(used))
        });
        let next = next.unwrap_or_else(|| panic!("a circle above {settled:?}"));
        settled.insert(next);
    }
}

#[test]
fn edges_are_found_in_every_form_and_only_where_they_are_compiled() {
    let source = r##"
        //! Links to [`crate::comment`].
        use crate::plain::Thing;
        pub(crate) use crate::{group::{self, Deep}, second, third::*};
        /* crate::block /* crate::nested */ */
        fn inline<'a>(x: &'a crate::path::X) -> char { let _ = "crate::text \" crate::more"; '"' }
        const RAW: &str = r#"crate::raw " "#;
        #[cfg(test)]
        use crate::for_tests;
        #[cfg(test)]
        mod tests { use crate::inside_tests; fn f() { { crate::deeper::y() } } }
        #[cfg(test)]
        mod elsewhere;
        #[cfg(feature = "proxy")]
        mod child;
        fn last() { crate::last::z(); super::room::w(); tokio::spawn(()) }
    "##;
    let read = Read::of(source, 1);
    let edges: Vec<&str> = read.edges.iter().map(String::as_str).collect();
    assert_eq!(
        edges,
        ["group", "last", "path", "plain", "room", "second", "third"]
    );
    assert_eq!(read.modules, ["child"]);
    assert!(read.crates.contains("tokio"));
}

/// Every room that `room` may name; none when it has no row.
fn allowed(room: &str) -> Option<Vec<&'static str>> {
    let (name, uses) = TABLE.iter().find(|(name, _)| *name == room)?;
    let ground: &[&str] = if GROUND.contains(name) { &[] } else { &GROUND };
    let uses = match uses {
        Only(uses) => uses.to_vec(),
        AllBut(but) => {
            let all = TABLE.iter().map(|(name, _)| *name);
            all.filter(|name| !but.contains(name)).collect()
        }
    };
    Some([&[*name], ground, &uses].concat())
}

/// One source file of a room.
struct Source {
    /// Relative to `src/`.
    path: String,
    room: String,
    edges: BTreeSet<String>,
    crates: BTreeSet<String>,
}

/// Every file that is compiled into the library, the crate's root excepted.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let library = Read::of(&fs::read_to_string(root.join("lib.rs")).unwrap(), 0);
    for room in library.modules {
        follow(&root, &root, &room, &mut vec![room.clone()], &mut found);
    }
    assert!(found.len() > TABLE.len(), "the sources were not found");
    found
}

fn follow(
    root: &Path,
    directory: &Path,
    name: &str,
    module: &mut Vec<String>,
    found: &mut Vec<Source>,
) {
    let candidates = [
        directory.join(format!("{name}.rs")),
        directory.join(name).join("mod.rs"),
    ];
    let file = candidates.into_iter().find(|file| file.is_file());
    let file: PathBuf = file.unwrap_or_else(|| panic!("module {module:?} has no file"));
    let read = Read::of(&fs::read_to_string(&file).unwrap(), module.len());
    for child in &read.modules {
        module.push(child.clone());
        follow(root, &directory.join(name), child, module, found);
        module.pop();
    }
    let path = file.strip_prefix(root).unwrap();
    found.push(Source {
        path: path.to_str().unwrap().to_owned(),
        room: module[0].clone(),
        edges: read.edges,
        crates: read.crates,
    });
}

/// What one file declares and names.
#[derive(Default)]
struct Read {
    /// Modules in files of their own.
    modules: Vec<String>,
    /// Rooms it names.
    edges: BTreeSet<String>,
    /// First segments of its other paths: crates, among others.
    crates: BTreeSet<String>,
}

impl Read {
    /// Reads `source`, a module `depth` levels below the crate's root.
    fn of(source: &str, depth: usize) -> Self {
        let tokens = without_tests(&tokens(source));
        let mut read = Self::default();
        for at in 0..tokens.len() {
            let rest: Vec<&str> = tokens[at..].iter().take(3).map(String::as_str).collect();
            match rest[..] {
                ["mod", name, ";"] => read.modules.push(name.to_owned()),
                ["crate", "::", ..] => read.edges.extend(heads(&tokens[at + 2..])),
                ["super", "::", ..] if at == 0 || tokens[at - 1] != "::" => {
                    let mut supers = 1;
                    while tokens
                        .get(at + 2 * supers)
                        .is_some_and(|token| token == "super")
                    {
                        supers += 1;
                    }
                    if supers >= depth {
                        read.edges.extend(heads(&tokens[at + 2 * supers..]));
                    }
                }
                [name, "::", ..] if at == 0 || tokens[at - 1] != "::" => {
                    read.crates.insert(name.to_owned());
                }
                _ => {}
            }
        }
        read
    }
}

/// The first segments of what follows `crate::`: one, or those of a group.
fn heads(tokens: &[String]) -> Vec<String> {
    if tokens.first().is_none_or(|first| first != "{") {
        return tokens.iter().take(1).cloned().collect();
    }
    let mut depth = 0;
    let mut heads = Vec::new();
    for pair in tokens.windows(2) {
        match pair[0].as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && (pair[0] == "{" || pair[0] == ",") && pair[1] != "}" {
            heads.push(pair[1].clone());
        }
    }
    heads
}

/// Leaves out every item under `#[cfg(test)]`.
fn without_tests(tokens: &[String]) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !tokens[at..].starts_with(&MARK.map(str::to_owned)) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += MARK.len();
        // The item ends with its block, or with a semicolon outside of any bracket.
        let mut depth = 0_usize;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token.as_str() {
                "{" | "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                "}" => {
                    depth -= 1;
                    if depth == 0 && tokens.get(at).is_none_or(|next| next != ";") {
                        break;
                    }
                }
                ";" if depth == 0 => break,
                _ => {}
            }
        }
    }
    kept
}

/// The words and signs of a source, without comments, strings and characters.
fn tokens(source: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => quoted(rest),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#\"") => raw_string(rest),
            '\'' => character(rest),
            ':' if rest.starts_with("::") => {
                tokens.push("::".to_owned());
                2
            }
            c if c.is_alphanumeric() || c == '_' => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                let end = end.unwrap_or(rest.len());
                tokens.push(rest[..end].to_owned());
                end
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(c.to_string());
                }
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    tokens
}

/// The length of a block comment, nested ones included.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of a string with its quotes.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a raw string with at most one `#`, as rustfmt leaves the crate's.
fn raw_string(text: &str) -> usize {
    let (open, close) = if text.starts_with("r#") {
        (3, "\"#")
    } else {
        (2, "\"")
    };
    text[open..]
        .find(close)
        .map_or(text.len(), |end| open + end + close.len())
}

/// The length of a character literal, or of the mark of a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_), _) => text[3..].find('\'').map_or(text.len(), |end| end + 4),
        (Some(_), Some((end, '\'')), _) => end + 1,
        _ => 1,
    }
}
