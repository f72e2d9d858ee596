//! The life of an entry that must be known everywhere before it is used: created, ready (every member has it), active.
//! It decides the steps and who is waited for. It goes forward only. It does not know what members there are, nor
//! when somebody looks: the caller says.

use super::causal::LifeDot;
use super::namespace::{EntryRefusal, NamespaceName};
use super::store::Metadata;
use crate::ids::NodeId;
use crate::membership::section::digest_of;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How far an entry is. The order is that of time, and decides when two replicas differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Stage {
    /// Written; some members may not have it.
    Created,
    /// Every member had it.
    Ready,
    /// In use. Entries that need no such care are so from the beginning.
    Active,
}

impl Stage {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Ready => "ready",
            Self::Active => "active",
        }
    }
}

/// Stands for one write of one entry, in what members say that they have.
fn mark(name: &NamespaceName, key: &str, dot: LifeDot) -> u64 {
    digest_of(&(name, key, dot))
}

impl Metadata {
    /// What this replica has of that which waits for everybody: at most as many as can be said, the same first ones
    /// everywhere, so that those get on and make room.
    pub fn having(&self) -> BTreeSet<u64> {
        self.created()
            .map(|(name, key, dot)| mark(name, key, dot))
            .take(super::statement::HAVING_MAX)
            .collect()
    }

    /// Entries that are created and not known to be ready.
    fn created(&self) -> impl Iterator<Item = (&NamespaceName, &str, LifeDot)> {
        self.namespaces().flat_map(|(name, namespace)| {
            let all = namespace.versions().filter(|(_, _, version)| version.stage == Stage::Created);
            all.map(move |(key, dot, _)| (name, key, dot))
        })
    }

    /// How many entries wait for everybody.
    pub fn waiting_entries(&self) -> usize {
        self.created().count()
    }

    /// Of `members`, those that have not said that they have the latest write of an entry. Empty for one that is ready.
    pub fn awaited(&self, name: &NamespaceName, key: &str, members: &[NodeId]) -> Vec<NodeId> {
        let latest = self.namespace(name).and_then(|namespace| namespace.latest(key));
        let Some((dot, _)) = latest.filter(|(_, version)| version.stage == Stage::Created) else {
            return Vec::new();
        };
        let mark = mark(name, key, dot);
        members.iter().copied().filter(|member| !self.has_said(*member, mark)).collect()
    }

    fn has_said(&self, member: NodeId, mark: u64) -> bool {
        self.said(member).is_some_and(|said| said.having.contains(&mark))
    }

    /// Takes everything for ready that all `members` have. Says whether anything changed.
    pub fn note_ready(&mut self, members: &[NodeId]) -> bool {
        let saids: Vec<_> = members.iter().map(|member| self.said(*member)).collect();
        let have_all = |mark: u64| {
            saids.iter().all(|said| said.as_ref().is_some_and(|said| said.having.contains(&mark)))
        };
        let ready: Vec<_> = self
            .created()
            .filter(|(name, key, dot)| !members.is_empty() && have_all(mark(name, key, *dot)))
            .map(|(name, key, dot)| (name.clone(), key.to_owned(), dot))
            .collect();
        for (name, key, dot) in &ready {
            self.raise(name, key, *dot, Stage::Ready);
        }
        !ready.is_empty()
    }

    /// Brings an entry into use. Refused unless it is ready; of several writes at once that is the latest.
    pub fn activate(
        &mut self,
        name: &NamespaceName,
        key: &str,
        members: &[NodeId],
    ) -> Result<(), ActivationRefusal> {
        let latest = self.namespace(name).and_then(|namespace| namespace.latest(key));
        let Some((dot, stage)) = latest.map(|(dot, version)| (dot, version.stage)) else {
            return Err(ActivationRefusal::Unknown { name: name.clone(), key: key.to_owned() });
        };
        if stage == Stage::Created {
            let awaited = self.awaited(name, key, members);
            return Err(ActivationRefusal::NotReady { name: name.clone(), key: key.to_owned(), awaited });
        }
        self.raise(name, key, dot, Stage::Active);
        Ok(())
    }

    /// Begins the life of an entry, or writes one anew that is not active yet, which then is created again.
    pub fn create(
        &mut self,
        name: &NamespaceName,
        key: &str,
        value: Vec<u8>,
        at: super::store::At,
    ) -> Result<(), EntryRefusal> {
        let stage = self.namespace(name).and_then(|n| n.stage(key));
        if stage == Some(Stage::Active) {
            return Err(EntryRefusal::Active(key.to_owned()));
        }
        if stage.is_none() && self.waiting_entries() >= super::statement::HAVING_MAX {
            return Err(EntryRefusal::Waiting);
        }
        self.write(name, key, value, Stage::Created, at)
    }
}

/// Why an entry was not brought into use. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ActivationRefusal {
    /// There is none.
    #[error("there is no {key:?} in {name}; create it first")]
    Unknown {
        /// Where.
        name: NamespaceName,
        /// What.
        key: String,
    },
    /// Not everybody has it.
    #[error(
        "{key:?} in {name} is created, and not ready: {} members have not said that they have it; a member that is \
         gone for good is to be removed", awaited.len()
    )]
    NotReady {
        /// Where.
        name: NamespaceName,
        /// What.
        key: String,
        /// Who is waited for. None when all have it and it was not noted yet: once more, then.
        awaited: Vec<NodeId>,
    },
}
