//! What can be wrong with a node's settings, and how it is told: one line each, with the key, what was given,
//! where it stands and what would be right. It does not know how problems are found.

use std::fmt;
use std::path::{Path, PathBuf};

/// Problems that are reported one by one; of further ones only the number is. A file full of nonsense would
/// otherwise answer with a screenful for each of its lines.
pub const PROBLEMS_MAX: usize = 100;
/// Characters of a key or value shown in a problem; what is beyond says nothing more.
const SHOWN_CHARACTERS_MAX: usize = 80;

/// Where the value of a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line of the key, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// The command line.
    Flag {
        /// The flag, with its hyphens.
        flag: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "file {}:{line}", shown_path(path)),
            Self::Environment { variable } => write!(f, "environment {}", shown(variable)),
            Self::Flag { flag } => write!(f, "flag {}", shown(flag)),
        }
    }
}

/// A value that somebody gave a key, and where. Displayed as `key = value (origin)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// The key, with its section.
    pub key: String,
    /// The value, fit for one line.
    pub value: String,
    /// Where it stands.
    pub origin: Origin,
}

impl fmt::Display for Stated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key, self.value, self.origin)
    }
}

/// One thing wrong with the settings. Whatever it is, no settings come out and the node does not start; the
/// operator changes what is named and tries again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The configuration file could not be read at all. The other layers were still checked.
    #[error("configuration file {}: {reason}", shown_path(.path))]
    FileUnreadable {
        /// The file as it was named.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// The configuration file is longer than any is; it was not parsed.
    #[error("configuration file {}: exceeds {bytes_max} bytes; is it the right one?", shown_path(.path))]
    FileTooLong {
        /// The file as it was named.
        path: PathBuf,
        /// The most that is read.
        bytes_max: u64,
    },
    /// The configuration file is not text; it was not parsed.
    #[error("configuration file {}:{line}: is not UTF-8 text from byte {byte} on", shown_path(.path))]
    FileNotText {
        /// The file as it was named.
        path: PathBuf,
        /// The line with the first wrong byte, from 1.
        line: usize,
        /// The place of the first wrong byte in the file, from 0.
        byte: usize,
    },
    /// The configuration file is not TOML; none of its values were looked at.
    #[error("configuration file {}:{line}: is not TOML: {}", shown_path(.path), shown(.reason))]
    FileNotToml {
        /// The file as it was named.
        path: PathBuf,
        /// The line where the parser stopped, from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// No setting has this name, so whoever wrote it expects something that will not happen.
    #[error("{key} ({origin}): there is no such setting; {}", way_out(.nearest))]
    UnknownKey {
        /// The key, with its section.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The setting that was probably meant, in the spelling of that place.
        nearest: Option<String>,
    },
    /// The value has the wrong type or is out of range.
    #[error("{stated}: must be {expected}")]
    WrongValue {
        /// What was given.
        stated: Stated,
        /// What would be right.
        expected: String,
    },
    /// Two values, each fine alone, contradict each other.
    #[error("{stated}: must be {relation} {other}")]
    Contradiction {
        /// The value that is wrong beside the other.
        stated: Stated,
        /// How it ought to relate, as words that fit between the two.
        relation: &'static str,
        /// The other value.
        other: Stated,
    },
    /// A value that is fine alone, but not beside the others as they are.
    #[error("{stated}: {why}")]
    Impractical {
        /// The value.
        stated: Stated,
        /// Why not, and the way out.
        why: &'static str,
    },
    /// The layers were each accepted, but did not make a whole. That is an error of ringwork, not of the
    /// operator.
    #[error("the settings do not fit together, a defect of ringwork; please report it: {}", shown(.reason))]
    NotAssembled {
        /// What the layering said.
        reason: String,
    },
    /// There were more problems than are worth telling one by one.
    #[error("and {count} more")]
    More {
        /// How many more.
        count: usize,
    },
}

/// Everything wrong with the settings, at once, so that an operator corrects it in one go. Displayed one line
/// each. No settings came out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.problems))]
pub struct SettingsError {
    /// The problems: file, environment, flags, then what contradicts what. Never empty.
    pub problems: Vec<Problem>,
}

/// Collects problems up to a bound and counts those beyond it.
#[derive(Default)]
pub(super) struct Problems {
    told: Vec<Problem>,
    untold: usize,
}

impl Problems {
    /// Adds a problem. It is only worked out if it will be told: naming one costs more than finding one.
    pub(super) fn add(&mut self, problem: impl FnOnce() -> Problem) {
        if self.told.len() < PROBLEMS_MAX { self.told.push(problem()) } else { self.untold += 1 }
    }

    /// Whether the key already has a problem, so that nothing further may be concluded from its value.
    pub(super) fn concern(&self, key: &str) -> bool {
        self.untold > 0
            || self
                .told
                .iter()
                .any(|problem| matches!(problem, Problem::WrongValue { stated, .. } if stated.key == key))
    }

    /// The problems as an error, unless there were none.
    pub(super) fn into_result(mut self) -> Result<(), SettingsError> {
        if self.untold > 0 {
            self.told.push(Problem::More { count: self.untold });
        }
        if self.told.is_empty() { Ok(()) } else { Err(SettingsError { problems: self.told }) }
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

fn way_out(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!("did you mean {name}?"),
        None => "`ringwork config reference` lists all there are".to_owned(),
    }
}

/// The text on one line of bounded length, with nothing a terminal or a log could be misled by.
pub(super) fn shown(text: &str) -> String {
    let mut line: String = text.chars().take(SHOWN_CHARACTERS_MAX).flat_map(shown_character).collect();
    if text.chars().nth(SHOWN_CHARACTERS_MAX).is_some() {
        line.push('…');
    }
    line
}

/// The same in quotation marks, so that spaces and emptiness are seen.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text))
}

fn shown_path(path: &Path) -> String {
    // A path may be longer than other texts and is worth nothing cut; only its characters are made safe.
    path.to_string_lossy().chars().flat_map(shown_character).collect()
}

fn shown_character(character: char) -> impl Iterator<Item = char> {
    // `escape_debug` also escapes quotation marks and backslashes, which mislead nobody.
    let plain = matches!(character, '"' | '\'' | '\\');
    plain
        .then_some(character)
        .into_iter()
        .chain((!plain).then(|| character.escape_debug()).into_iter().flatten())
}
