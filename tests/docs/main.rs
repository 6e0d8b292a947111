//! The documents: links lead somewhere, examples are valid, the reference says what the schema says, and every verdict has
//! its page.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that cannot do its part fails the test"
)]

mod reference;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate::incident::diagnose::Cause;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every document of the source.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut places: Vec<PathBuf> = ["docs", "benches", "deploy"]
        .iter()
        .map(|place| root().join(place))
        .collect();
    found.push(root().join("README.md"));
    while let Some(place) = places.pop() {
        for entry in place.read_dir().expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                places.push(path);
            } else if path.extension().is_some_and(|kind| kind == "md") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 10, "{found:?}");
    found
}

/// The text without its code, where brackets are no links.
fn prose(text: &str) -> String {
    let mut out = String::new();
    let mut code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            let parts = line.split('`').step_by(2);
            out.extend(parts);
            out.push('\n');
        }
    }
    out
}

/// What links lead to: what stands in round brackets behind square ones.
fn targets(text: &str) -> Vec<String> {
    let prose = prose(text);
    let mut rest = prose.as_str();
    let mut found = Vec::new();
    while let Some((_, behind)) = rest.split_once("](") {
        let (target, after) = behind.split_once(')').unwrap_or((behind, ""));
        found.push(target.to_owned());
        rest = after;
    }
    found
}

/// The anchors of a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        });
        kept.collect::<String>()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = read(&document);
        for target in targets(&text) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let directory = document.parent().expect("a directory");
            let path = if file.is_empty() {
                document.clone()
            } else {
                directory.join(file)
            };
            let is_there =
                path.exists() && (anchor.is_empty() || anchors(&read(&path)).contains(anchor));
            if !is_there {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_page_is_in_the_summary() {
    let source = root().join("docs/src");
    let listed: BTreeSet<String> = targets(&read(&source.join("SUMMARY.md")))
        .into_iter()
        .collect();
    for entry in source.read_dir().expect("a directory").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(
            name == "SUMMARY.md" || listed.contains(&name),
            "{name} is not in the summary"
        );
    }
}

#[test]
fn every_whole_configuration_in_a_document_is_valid() {
    let mut checked = 0;
    for document in documents() {
        let text = read(&document);
        let blocks = text.split("```toml\n").skip(1);
        for block in blocks.filter_map(|rest| rest.split("```").next()) {
            if !block.contains("version = 1\n") {
                continue;
            }
            let directory = tempfile::tempdir().expect("a directory");
            let file = directory.path().join("tidegate.toml");
            std::fs::write(&file, block).expect("it is written");
            let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
                .arg("check")
                .arg(&file)
                .output()
                .expect("the command runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {said}", document.display());
            checked += 1;
        }
    }
    assert!(checked >= 3, "only {checked} were found");
}

#[test]
fn every_verdict_has_its_page_in_the_runbook() {
    let anchors = anchors(&read(&root().join("docs/src/runbook.md")));
    for cause in Cause::ALL {
        assert!(
            anchors.contains(cause.as_str()),
            "{} is missing",
            cause.as_str()
        );
    }
}

#[test]
fn the_reference_says_what_the_schema_says() {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("schema")
        .output()
        .expect("the command runs");
    let schema = serde_json::from_slice(&output.stdout).expect("JSON");
    let expected = reference::render(&schema);
    let file = root().join("docs/src/reference.md");
    if std::env::var_os("TIDEGATE_WRITE_DOCS").is_some() {
        std::fs::write(&file, &expected).expect("it is written");
    }
    assert!(
        read(&file) == expected,
        "docs/src/reference.md is older than the schema: run make docs"
    );
}
