//! What of our style can be a test: how long files are, which words do not occur in core, that every file says
//! what it is about, that links in the documents lead somewhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on has failed

use std::fs;
use std::path::{Path, PathBuf};

/// A file this long has usually become two ideas. Tests count as long as they lie in the same file.
const FILE_LINES_MAX: usize = 640;
const LINE_CHARACTERS_MAX: usize = 120;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                walk(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

fn files(extension: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.retain(|path| path.extension().is_some_and(|e| e == extension));
    found.sort();
    assert!(!found.is_empty());
    found
        .into_iter()
        .map(|path| (path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect()
}

fn complain(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_source_file_opens_with_what_it_is_about() {
    complain(
        files("rs")
            .into_iter()
            .filter(|(_, text)| !text.starts_with("//! "))
            .map(|(path, _)| format!("{}: begin with `//!` and what the file decides", path.display()))
            .collect(),
    );
}

#[test]
fn files_and_lines_are_short() {
    let mut wrong = Vec::new();
    for (path, text) in files("rs") {
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", path.display()));
        }
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > LINE_CHARACTERS_MAX && !line.contains("http") {
                wrong.push(format!(
                    "{}:{}: longer than {LINE_CHARACTERS_MAX} characters",
                    path.display(),
                    number + 1
                ));
            }
        }
    }
    complain(wrong);
}

/// core decides by its arguments alone; this is what would let something else in.
#[test]
fn core_and_the_modules_stay_pure() {
    let forbidden = [
        "actix",
        "tokio",
        "std::fs",
        "std::net",
        "std::thread",
        "std::env",
        "std::process",
        "SystemTime",
        "Instant",
        "getrandom",
        "RandomState",
        "HashMap",
        "HashSet",
        "println",
        "unsafe",
    ];
    let mut wrong = Vec::new();
    for (path, text) in files("rs") {
        let pure =
            ["actors/core/src", "actors/chat/src", "actors/kv/src"].iter().any(|home| path.starts_with(home));
        for (number, line) in text.lines().enumerate().filter(|_| pure) {
            let code = line.split("//").next().unwrap_or_default();
            for word in forbidden.iter().filter(|word| code.contains(**word)) {
                wrong.push(format!("{}:{}: {word} does not belong here", path.display(), number + 1));
            }
        }
    }
    complain(wrong);
}

#[test]
fn only_one_file_knows_the_codec_and_only_one_posts_to_mailboxes() {
    let mut wrong = Vec::new();
    for (path, text) in files("rs") {
        if path.ends_with("tests/tidy.rs") {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (word, home) in [("bincode::", "codec.rs"), (".do_send(", "post.rs")] {
                if code.contains(word) && !path.ends_with(home) {
                    wrong.push(format!("{}:{}: {word} belongs in {home}", path.display(), number + 1));
                }
            }
        }
    }
    complain(wrong);
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    let words =
        [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["todo", "!("].concat(), ["#[ig", "nore"].concat()];
    let mut wrong = Vec::new();
    for (path, text) in files("rs") {
        for word in words.iter().filter(|word| text.contains(word.as_str())) {
            wrong.push(format!("{}: {word}", path.display()));
        }
    }
    complain(wrong);
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for (path, text) in files("md") {
        let directory = root().join(&path).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !directory.join(target).exists() {
                wrong.push(format!("{}: {link} leads nowhere", path.display()));
            }
        }
    }
    complain(wrong);
}
