//! The layers of settings: defaults, file, environment, flags, each checked by itself against the table of
//! keys. It reads neither the environment nor the command line, which are handed in, and does not know how
//! values of different keys relate.

use super::file;
use super::keys::{ENVIRONMENT_PREFIX, ENVIRONMENT_SEPARATOR, Key};
use super::kind::Given;
use super::layer::Layer;
use super::problem::{Origin, Problem, Problems, Stated, shown};
use super::table::{Named, keys, look_up, nearest, section_expected};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Where settings are to come from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file named with `--config`, if any.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not begin with `RINGWORK__` are ignored.
    pub environment: BTreeMap<String, String>,
    /// What the command line sets; of two for one key the later counts.
    pub overrides: Vec<Override>,
}

/// One setting given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The key with its section.
    pub key: String,
    /// The value as it was written.
    pub value: String,
    /// The flag that gave it, with its hyphens: `--http`, `--set`.
    pub origin: String,
}

impl Override {
    /// What a flag of its own, such as `--http`, gives.
    pub fn new(key: &str, value: impl Into<String>, flag: &str) -> Self {
        Self { key: key.to_owned(), value: value.into(), origin: flag.to_owned() }
    }

    /// What `--set key=value` gives, to be used by clap. The key and the value are not yet checked.
    pub fn from_assignment(assignment: &str) -> Result<Self, String> {
        match assignment.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self::new(key, value, "--set")),
            _ => Err("expected key=value, such as store.durability=sync".to_owned()),
        }
    }
}

/// The environment variables that are settings, of all those a process has. What is not UTF-8 in a value is
/// replaced and then refused by the value's check, where reading it through `std::env::vars` would panic.
pub fn environment(variables: impl IntoIterator<Item = (OsString, OsString)>) -> BTreeMap<String, String> {
    variables
        .into_iter()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
        .collect()
}

fn read_defaults(problems: &mut Problems) -> Layer {
    let mut layer = Layer::default();
    for key in keys() {
        let given = match (key.default)() {
            serde_json::Value::Number(number) => Given::Untyped(number.to_string()),
            serde_json::Value::String(text) => Given::Text(text),
            serde_json::Value::Array(items) => {
                Given::List(items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect())
            }
            _ => Given::Other("nothing"),
        };
        layer.offer(key, &given, Origin::Default, problems);
    }
    layer
}

fn read_environment(variables: &BTreeMap<String, String>, problems: &mut Problems) -> Layer {
    let mut layer = Layer::default();
    for (variable, value) in variables {
        let Some(rest) = variable.strip_prefix(ENVIRONMENT_PREFIX) else { continue };
        let origin = Origin::Environment { variable: variable.clone() };
        let name = rest.replace(ENVIRONMENT_SEPARATOR, ".").to_ascii_lowercase();
        // Compared in full: were small letters taken as well, two variables could set one key.
        match keys().find(|key| key.variable() == *variable) {
            Some(key) => layer.offer(key, &Given::Untyped(value.clone()), origin, problems),
            None => refuse(&name, value, origin, Key::variable, problems),
        }
    }
    layer
}

fn read_flags(overrides: &[Override], problems: &mut Problems) -> Layer {
    let mut layer = Layer::default();
    for Override { key, value, origin } in overrides {
        let origin = Origin::Flag { flag: origin.clone() };
        match keys().find(|known| known.name == key) {
            Some(key) => layer.offer(key, &Given::Untyped(value.clone()), origin, problems),
            None => refuse(key, value, origin, |key| key.name.to_owned(), problems),
        }
    }
    layer
}

/// Says what is wrong with a name that is not a setting's, suggesting one in the spelling of its layer.
fn refuse(name: &str, value: &str, origin: Origin, spelling: fn(&Key) -> String, problems: &mut Problems) {
    problems.add(|| match look_up(&name.split('.').collect::<Vec<_>>()) {
        Named::Section(section) => Problem::WrongValue {
            stated: Stated {
                key: section.name.to_owned(),
                value: Given::Untyped(value.to_owned()).to_string(),
                origin,
            },
            expected: section_expected(section),
        },
        Named::Key(key) => Problem::UnknownKey { key: shown(name), origin, nearest: Some(spelling(key)) },
        Named::Nothing => {
            Problem::UnknownKey { key: shown(name), origin, nearest: nearest(name).map(spelling) }
        }
    });
}

/// All layers, from the weakest to the strongest.
pub(super) fn read(sources: &Sources, problems: &mut Problems) -> [Layer; 4] {
    let defaults = read_defaults(problems);
    let file = sources.file.as_deref().map(|path| file::read(path, problems)).unwrap_or_default();
    let environment = read_environment(&sources.environment, problems);
    let flags = read_flags(&sources.overrides, problems);
    [defaults, file, environment, flags]
}
