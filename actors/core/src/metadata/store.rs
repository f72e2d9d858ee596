//! The whole of the metadata: namespaces, and what each node says of itself. A join-semilattice, as the cluster state
//! is: replicas may meet in any order, over any path, as often as they like. It decides what may be written, what is
//! too much, and when what was seen is said in fewer words.

use super::causal::{Life, LifeDot};
use super::lifecycle::Stage;
use super::namespace::{EntryRefusal, Namespace, NamespaceName};
use super::statement::{Said, Statement};
use crate::clock::hybrid::HybridTime;
use crate::ids::{Boot, ClusterId, NodeId};
use crate::limits::{METADATA_BYTES_MAX, METADATA_JOINED_BYTES_MAX, METADATA_NAMESPACES_MAX};
use crate::membership::section::digest_of;
use crate::mutant::{Mutant, planted};
use crate::wire::WireError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Lives that a namespace may name before those that are over are folded: fewer cost nothing.
const LIVES_KEPT: usize = 16;

/// Who writes, and when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    /// The life that writes: [`Metadata::begin_life`].
    pub life: Life,
    /// A time of its hybrid clock.
    pub now: HybridTime,
}

/// See the module's head. What is kept of it is all but the statements: nodes say again what they are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "UncheckedMetadata")]
pub struct Metadata {
    cluster: ClusterId,
    /// None that was never touched.
    namespaces: BTreeMap<NamespaceName, Namespace>,
    #[serde(skip)]
    statements: BTreeMap<NodeId, Statement>,
}

/// As bytes claim it to be.
#[derive(Deserialize)]
struct UncheckedMetadata {
    cluster: ClusterId,
    namespaces: BTreeMap<NamespaceName, Namespace>,
}

/// Metadata, or a part of it, that cannot be. Nothing was taken over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// Of another cluster.
    #[error("it is of cluster {theirs}, this is {ours}: two clusters never mix")]
    OtherCluster {
        /// This cluster.
        ours: ClusterId,
        /// The other.
        theirs: ClusterId,
    },
    /// More namespaces than there may be.
    #[error("{0} namespaces, at most {METADATA_NAMESPACES_MAX} are possible")]
    Namespaces(usize),
    /// More than can be sent and kept.
    #[error(
        "joined it would take {0} bytes, at most {METADATA_JOINED_BYTES_MAX} are possible: parts of the cluster that \
         could not see each other have written too much; remove entries on one side"
    )]
    Whole(usize),
    /// More statements than members may be, or larger ones.
    #[error("statements of {0} nodes, or one that is too large")]
    Statements(usize),
}

impl TryFrom<UncheckedMetadata> for Metadata {
    type Error = MetadataError;

    fn try_from(unchecked: UncheckedMetadata) -> Result<Self, MetadataError> {
        let UncheckedMetadata { cluster, mut namespaces } = unchecked;
        if namespaces.len() > METADATA_NAMESPACES_MAX {
            return Err(MetadataError::Namespaces(namespaces.len()));
        }
        namespaces.retain(|_, namespace| !namespace.is_untouched());
        Ok(Self { cluster, namespaces, statements: BTreeMap::new() })
    }
}

impl Metadata {
    /// That of a cluster in which nothing was written yet.
    pub fn new(cluster: ClusterId) -> Self {
        Self { cluster, namespaces: BTreeMap::new(), statements: BTreeMap::new() }
    }

    /// Whose.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// A life of `node` that begins now: later than every one of its lives that is known here.
    pub fn begin_life(&self, node: NodeId, now: HybridTime) -> Life {
        let known = self.namespaces.values().filter_map(|namespace| namespace.seen().latest_life(node)).max();
        let after = known.map_or(HybridTime(0), |known| HybridTime(known.0.saturating_add(1)));
        Life { node, begun: now.max(after) }
    }

    /// Whether a life must not write any more, because others take it for one that is over.
    pub fn is_over(&self, life: Life) -> bool {
        self.namespaces.values().any(|namespace| namespace.seen().has_whole(life))
    }

    /// All namespaces in which something was ever written.
    pub fn namespaces(&self) -> impl Iterator<Item = (&NamespaceName, &Namespace)> {
        self.namespaces.iter()
    }

    /// One namespace; none when nothing was ever written in it.
    pub fn namespace(&self, name: &NamespaceName) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// Writes an entry, for use at once.
    pub fn put(
        &mut self,
        name: &NamespaceName,
        key: &str,
        value: Vec<u8>,
        at: At,
    ) -> Result<(), EntryRefusal> {
        self.write(name, key, value, Stage::Active, at)
    }

    pub(super) fn write(
        &mut self,
        name: &NamespaceName,
        key: &str,
        value: Vec<u8>,
        stage: Stage,
        at: At,
    ) -> Result<(), EntryRefusal> {
        if !self.namespaces.contains_key(name) && self.namespaces.len() >= METADATA_NAMESPACES_MAX {
            return Err(EntryRefusal::Namespaces(self.namespaces.len()));
        }
        let mut namespace = self.namespaces.get(name).cloned().unwrap_or_default();
        let before = namespace.bytes();
        namespace.put(name, key, (value, stage), (at.life, at.now))?;
        let after = namespace.bytes();
        let whole = self.bytes().saturating_sub(before) + after;
        if whole > METADATA_BYTES_MAX && after > before {
            return Err(EntryRefusal::Whole(whole));
        }
        self.namespaces.insert(name.clone(), namespace);
        Ok(())
    }

    /// Removes an entry, as it is known here. Says whether there was one.
    pub fn remove(&mut self, name: &NamespaceName, key: &str) -> bool {
        self.namespaces.get_mut(name).is_some_and(|namespace| namespace.remove(key))
    }

    pub(super) fn raise(&mut self, name: &NamespaceName, key: &str, dot: LifeDot, stage: Stage) {
        if let Some(namespace) = self.namespaces.get_mut(name) {
            namespace.raise(key, dot, stage);
        }
    }

    /// What a node has said last; none when it has said nothing, or nothing that this release can read.
    pub fn said(&self, node: NodeId) -> Option<Said> {
        self.statements.get(&node).and_then(Statement::said)
    }

    /// What the nodes have said of themselves.
    pub fn statements(&self) -> &BTreeMap<NodeId, Statement> {
        &self.statements
    }

    /// `node`, which is this one, says this of itself, unless it is what it has said last. Says whether anything
    /// changed. A node that was set back to an old copy speaks above what its later life had said.
    pub fn state(&mut self, node: NodeId, boot: Boot, said: &Said) -> Result<bool, WireError> {
        let (boot, sequence) = match self.statements.get(&node) {
            Some(last) if last.boot >= boot && last.said().as_ref() == Some(said) => return Ok(false),
            Some(last) if last.boot >= boot => (last.boot, last.sequence.saturating_add(1)),
            _ => (boot, 1),
        };
        self.statements.insert(node, Statement::of(boot, sequence, said)?);
        Ok(true)
    }

    /// Stands for all entries and what was seen of them; statements are not in it.
    pub fn stamp(&self) -> u64 {
        digest_of(&self.namespaces)
    }

    /// Of `members`, those that have not said that they have exactly what is here.
    pub fn behind(&self, members: &[NodeId]) -> Vec<NodeId> {
        let stamp = self.stamp();
        let has = |member: NodeId| self.said(member).is_some_and(|said| said.seen == stamp);
        members.iter().copied().filter(|member| !has(*member)).collect()
    }

    /// Says in fewer words what was seen, when there are many lives in it and every one of `members` has said that it
    /// has exactly this: then nothing that the earlier lives wrote is on its way any more. Says whether it did.
    pub fn retire(&mut self, members: &[NodeId], is_gone: impl Fn(NodeId) -> bool) -> bool {
        let many = self.namespaces.values().any(|namespace| namespace.seen().lives() > LIVES_KEPT);
        let may = many && !members.is_empty() && self.behind(members).is_empty();
        if !may && !planted(Mutant::FoldEarly) {
            return false;
        }
        self.namespaces.values_mut().fold(false, |folded, namespace| namespace.retire(&is_gone) | folded)
    }

    /// The least metadata that contains both. Says whether this one changed. Statements of nodes that are no members
    /// as far as `is_known` knows are not kept: they come again.
    pub fn join(&mut self, other: &Self, is_known: impl Fn(NodeId) -> bool) -> Result<bool, MetadataError> {
        self.join_part(&super::MetadataPart::of(other), is_known)
    }

    pub(super) fn take_namespace(
        &mut self,
        name: &NamespaceName,
        theirs: &Namespace,
        room: usize,
    ) -> Result<bool, MetadataError> {
        if theirs.is_untouched() {
            return Ok(false);
        }
        if !self.namespaces.contains_key(name) && self.namespaces.len() >= METADATA_NAMESPACES_MAX {
            return Err(MetadataError::Namespaces(self.namespaces.len() + 1));
        }
        let mut joined = self.namespaces.get(name).cloned().unwrap_or_default();
        if !joined.join(theirs) {
            return Ok(false);
        }
        if joined.bytes() > room {
            return Err(MetadataError::Whole(
                METADATA_JOINED_BYTES_MAX.saturating_sub(room) + joined.bytes(),
            ));
        }
        self.namespaces.insert(name.clone(), joined);
        Ok(true)
    }

    pub(super) fn take_statement(&mut self, node: NodeId, theirs: &Statement) -> bool {
        match self.statements.get_mut(&node) {
            Some(ours) => ours.merge(theirs),
            None => self.statements.insert(node, theirs.clone()).is_none(),
        }
    }

    /// Puts a namespace in place of what is here.
    #[cfg(test)]
    pub(super) fn put_back(&mut self, name: &NamespaceName, namespace: Namespace) {
        self.namespaces.insert(name.clone(), namespace);
    }

    /// About as many bytes as all entries take, rather more than less.
    pub fn bytes(&self) -> usize {
        self.namespaces.values().map(Namespace::bytes).sum()
    }
}
