//! A namespace: entries under keys, with one history for all of them. An observed-remove map (Almeida, Shoker,
//! Baquero: "Delta state replicated data types", 2018, §7): what is not here, and was seen, has been removed, so
//! that removing leaves nothing behind. Writes that have not seen each other stay side by side. It decides what
//! stands, and what is too much; what a value means, and which of several stands for whom, its users know.
//!
//! Not [`crate::clock::dotted`], which has a history for each key: forgetting a key would forget its history, and
//! keeping the history is what a tombstone is.

use super::causal::{Life, LifeDot, Seen};
use super::lifecycle::Stage;
use crate::clock::hybrid::HybridTime;
use crate::ids::NodeId;
use crate::limits::{
    METADATA_KEY_BYTES_MAX, METADATA_NAME_BYTES_MAX, METADATA_NAMESPACE_BYTES_MAX, METADATA_VALUE_BYTES_MAX,
    SETTING_VALUE_BYTES_MAX,
};
use crate::mutant::{Mutant, planted};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What one version takes beside its key and value: dot, time, stage. An estimate from above.
const VERSION_BYTES: usize = 64;
/// What the name of a life or a node takes in a history.
const SEEN_NAME_BYTES: usize = 40;

/// The name of a namespace: lower-case letters, digits, hyphens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamespaceName(String);

impl NamespaceName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<NamespaceName> for String {
    fn from(name: NamespaceName) -> Self {
        name.0
    }
}

impl TryFrom<String> for NamespaceName {
    type Error = EntryRefusal;

    fn try_from(text: String) -> Result<Self, EntryRefusal> {
        let lawful = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=METADATA_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(lawful) {
            return Ok(Self(text));
        }
        Err(EntryRefusal::Name(text.chars().take(80).collect()))
    }
}

impl TryFrom<&str> for NamespaceName {
    type Error = EntryRefusal;

    fn try_from(text: &str) -> Result<Self, EntryRefusal> {
        Self::try_from(text.to_owned())
    }
}

/// Why an entry was not written. Nothing was changed; the text says what would be right.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryRefusal {
    /// No name of a namespace.
    #[error(
        "{0:?} is no namespace: take 1 to {METADATA_NAME_BYTES_MAX} lower-case letters, digits and hyphens"
    )]
    Name(String),
    /// No key.
    #[error("{0:?} is no key: take 1 to {METADATA_KEY_BYTES_MAX} bytes without control characters")]
    Key(String),
    /// The value is too large.
    #[error("the value has {0} bytes, at most {METADATA_VALUE_BYTES_MAX} are possible")]
    Value(usize),
    /// The namespace is full.
    #[error(
        "{name} would take {bytes} bytes, at most {METADATA_NAMESPACE_BYTES_MAX} are possible: remove entries first"
    )]
    Namespace {
        /// Which.
        name: NamespaceName,
        /// What it would take.
        bytes: usize,
    },
    /// All namespaces together are full.
    #[error("all metadata would take {0} bytes, more than is possible: remove entries first")]
    Whole(usize),
    /// Too many namespaces.
    #[error("there are {0} namespaces, and no room for another")]
    Namespaces(usize),
    /// It is in use already.
    #[error("{0:?} is active already; what is active is set, not created")]
    Active(String),
    /// Too much waits for everybody.
    #[error(
        "too many entries wait until every member has them; bring back the members that are away, or remove them"
    )]
    Waiting,
    /// The text is too long for a setting.
    #[error("the value has {0} bytes, a setting takes at most {SETTING_VALUE_BYTES_MAX}")]
    Setting(usize),
    /// This life must not write any more.
    #[error("this node counts as another life of itself by now; ask again")]
    LifeOver,
}

impl EntryRefusal {
    /// Whether there is nothing wrong with the entry, and no room for it: others must go first.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Namespace { .. } | Self::Whole(_) | Self::Namespaces(_))
    }

    /// Whether there is nothing wrong with the entry, and the same request may be granted a moment later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Waiting | Self::LifeOver)
    }
}

/// What one write wrote.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Version {
    /// When, by the writer's hybrid clock: later than what it had seen under this key.
    pub written: HybridTime,
    /// What. Its users know how to read it.
    pub value: Vec<u8>,
    /// How far it is.
    pub stage: Stage,
}

/// See the module's head. Two are joined whole.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "UncheckedNamespace")]
pub struct Namespace {
    seen: Seen,
    /// Versions that nobody has replaced, by key; no key without one, and none that was not seen.
    entries: BTreeMap<String, BTreeMap<LifeDot, Version>>,
}

/// As bytes claim it to be.
#[derive(Deserialize)]
struct UncheckedNamespace {
    seen: Seen,
    entries: BTreeMap<String, BTreeMap<LifeDot, Version>>,
}

impl TryFrom<UncheckedNamespace> for Namespace {
    type Error = &'static str;

    fn try_from(unchecked: UncheckedNamespace) -> Result<Self, Self::Error> {
        let UncheckedNamespace { seen, entries } = unchecked;
        for (key, versions) in &entries {
            if versions.is_empty() || check_key(key).is_err() {
                return Err("an entry has no version, or a key that cannot be");
            }
            if versions.values().any(|version| version.value.len() > METADATA_VALUE_BYTES_MAX) {
                return Err("a value is too large");
            }
            if versions.keys().any(|dot| !seen.contains(*dot)) {
                return Err("a version is not of the history that comes with it");
            }
        }
        Ok(Self { seen, entries })
    }
}

fn check_key(key: &str) -> Result<(), EntryRefusal> {
    if (1..=METADATA_KEY_BYTES_MAX).contains(&key.len()) && !key.chars().any(char::is_control) {
        return Ok(());
    }
    Err(EntryRefusal::Key(key.chars().take(80).collect()))
}

fn version_bytes(key: &str, value: usize) -> usize {
    VERSION_BYTES + key.len() + value
}

impl Namespace {
    /// What it has seen.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Whether there is nothing here and never was.
    pub fn is_untouched(&self) -> bool {
        *self == Self::default()
    }

    /// The keys under which something stands, ascending.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// All that stands: by key, and of one key in the order of the dots.
    pub fn versions(&self) -> impl Iterator<Item = (&str, LifeDot, &Version)> {
        self.entries.iter().flat_map(|(key, versions)| {
            versions.iter().map(move |(dot, version)| (key.as_str(), *dot, version))
        })
    }

    /// Everything that stands under a key: more than one when writes had not seen each other. For users who know how to
    /// make one of them; the same everywhere, in the same order.
    pub fn siblings(&self, key: &str) -> impl Iterator<Item = &Version> {
        self.entries.get(key).into_iter().flat_map(|versions| versions.values())
    }

    /// The latest write under a key: the later time, then the higher dot.
    pub fn latest(&self, key: &str) -> Option<(LifeDot, &Version)> {
        let versions = self.entries.get(key)?;
        versions.iter().max_by_key(|(dot, version)| (version.written, **dot)).map(|(dot, v)| (*dot, v))
    }

    /// The value in use under a key: the latest that is active.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        let versions = self.entries.get(key)?;
        let active = versions.iter().filter(|(_, version)| version.stage == Stage::Active);
        active.max_by_key(|(dot, version)| (version.written, **dot)).map(|(_, v)| v.value.as_slice())
    }

    /// How far a key is: as far as the furthest of its versions.
    pub fn stage(&self, key: &str) -> Option<Stage> {
        self.siblings(key).map(|version| version.stage).max()
    }

    /// Writes: what stood under the key goes, `value` stands. The time is later than `now` and what went.
    pub(super) fn put(
        &mut self,
        name: &NamespaceName,
        key: &str,
        (value, stage): (Vec<u8>, Stage),
        (life, now): (Life, HybridTime),
    ) -> Result<(), EntryRefusal> {
        check_key(key)?;
        if value.len() > METADATA_VALUE_BYTES_MAX {
            return Err(EntryRefusal::Value(value.len()));
        }
        let replaced: usize = self.siblings(key).map(|version| version_bytes(key, version.value.len())).sum();
        let added = version_bytes(key, value.len());
        let bytes = (self.bytes() + added).saturating_sub(replaced);
        // What does not grow may be written even where joins have made too much.
        if bytes > METADATA_NAMESPACE_BYTES_MAX && added > replaced {
            return Err(EntryRefusal::Namespace { name: name.clone(), bytes });
        }
        let before = self.latest(key).map(|(_, version)| version.written);
        let dot = self.seen.write(life).ok_or(EntryRefusal::LifeOver)?;
        let after = before.map_or(HybridTime(0), |before| HybridTime(before.0.saturating_add(1)));
        let version = Version { written: now.max(after), value, stage };
        self.entries.insert(key.to_owned(), BTreeMap::from([(dot, version)]));
        Ok(())
    }

    /// Removes what stands under a key, as far as it is known here; a write that was not seen stays. Says whether
    /// anything was there.
    pub(super) fn remove(&mut self, key: &str) -> bool {
        self.entries.remove(key).is_some()
    }

    pub(super) fn raise(&mut self, key: &str, dot: LifeDot, stage: Stage) {
        if let Some(version) = self.entries.get_mut(key).and_then(|versions| versions.get_mut(&dot)) {
            version.stage = version.stage.max(stage);
        }
    }

    /// The least namespace that contains both. Commutative, associative and idempotent; says whether this one changed.
    ///
    /// What one side has and the other has not is news where the other has not seen it, and removed where it has.
    pub fn join(&mut self, other: &Self) -> bool {
        let before = self.seen.clone();
        let mut changed = false;
        for (key, versions) in &mut self.entries {
            let theirs = other.entries.get(key);
            let had = versions.len();
            versions.retain(|dot, _| {
                theirs.is_some_and(|theirs| theirs.contains_key(dot)) || !other.seen.contains(*dot)
            });
            changed |= versions.len() != had;
        }
        for (key, theirs) in &other.entries {
            for (dot, version) in theirs {
                let ours = self.entries.get_mut(key).and_then(|versions| versions.get_mut(dot));
                if let Some(ours) = ours {
                    changed |= version.stage > ours.stage;
                    ours.stage = ours.stage.max(version.stage);
                } else if !before.contains(*dot) || planted(Mutant::ForgetRemoved) {
                    self.entries.entry(key.clone()).or_default().insert(*dot, version.clone());
                    changed = true;
                }
            }
        }
        self.entries.retain(|_, versions| !versions.is_empty());
        self.seen.merge(&other.seen);
        changed || self.seen != before
    }

    /// Says in fewer words what was seen: see [`Seen::retire`], whose contract is this one's.
    pub(super) fn retire(&mut self, is_gone: impl Fn(NodeId) -> bool) -> bool {
        self.seen.retire(is_gone)
    }

    /// About as many bytes as it takes outside the process, rather more than less.
    pub fn bytes(&self) -> usize {
        let versions = self.versions().map(|(key, _, version)| version_bytes(key, version.value.len()));
        versions.sum::<usize>() + self.seen.names() * SEEN_NAME_BYTES
    }
}
