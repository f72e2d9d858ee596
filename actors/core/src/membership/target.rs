//! The wish and the fact: which node is to hold a partition (target, the claimant's), and which does
//! (possession, the holder's). Kept apart, because with both in one register a plan that is committed before a
//! "done" mark has spread gives partitions back to nodes that have deleted them (found by model, without any
//! fault). Pure values; who may write them is decided in [`super::change`].

use crate::ids::NodeId;
use crate::mutant::{Mutant, planted};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha1::{Digest, Sha1};
use std::sync::Arc;

/// Which of two targets stands: the greater key, whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct TargetKey {
    /// How often a plan was committed before and with this one.
    pub epoch: u64,
    /// Who committed it.
    pub claimant: NodeId,
    /// Of the content, so that a key never names two contents.
    pub digest: [u8; 20],
}

/// Who is to hold what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Target {
    key: TargetKey,
    /// Shared with copies of the state: one of a large ring is large.
    #[serde(serialize_with = "shared", deserialize_with = "unshared")]
    owners: Arc<[NodeId]>,
}

impl Target {
    /// A target of `claimant`'s.
    pub fn new(epoch: u64, claimant: NodeId, owners: impl Into<Arc<[NodeId]>>) -> Self {
        let owners = owners.into();
        Self { key: TargetKey { epoch, claimant, digest: digest(epoch, claimant, &owners) }, owners }
    }

    /// Its key.
    pub fn key(&self) -> TargetKey {
        self.key
    }

    /// The owner-to-be of each partition.
    pub fn owners(&self) -> &[NodeId] {
        &self.owners
    }

    /// Whether the key belongs to the content.
    pub fn is_sound(&self) -> bool {
        self.key.digest == digest(self.key.epoch, self.key.claimant, &self.owners)
    }

    /// The greater of both; says whether this one was replaced.
    pub fn merge(&mut self, other: &Self) -> bool {
        let grows = other.key > self.key || (planted(Mutant::TakeOlderState) && other.key < self.key);
        if grows {
            *self = other.clone();
        }
        grows
    }
}

/// As the slice that it is.
pub(super) fn shared<T: Serialize, S: Serializer>(
    slice: &Arc<[T]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    slice.as_ref().serialize(serializer)
}

fn unshared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[NodeId]>, D::Error> {
    Vec::deserialize(deserializer).map(Arc::from)
}

fn digest(epoch: u64, claimant: NodeId, owners: &[NodeId]) -> [u8; 20] {
    let mut hasher = Sha1::new();
    hasher.update(epoch.to_be_bytes());
    hasher.update(claimant.0);
    for owner in owners {
        hasher.update(owner.0);
    }
    hasher.finalize().into()
}

/// Who holds a partition. Of two, the greater is the fact: only the holder advances the hop, and only a forced
/// change raises the fence. Hop 0 under a raised fence is a holder that was given nothing with the possession; it
/// passes it on to itself, first of all, when it has got from the other replicas what they have. So of two nodes that
/// were forced to hold it at once, one that has its data beats one that has not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Possession {
    /// How often possession was forced to another node.
    pub fence: u32,
    /// How often the holder has passed it on since, to itself included when it was repaired.
    pub hop: u32,
    /// Who holds it.
    pub holder: NodeId,
}

impl Possession {
    /// As it is when a ring is born.
    pub fn first(holder: NodeId) -> Self {
        Self { fence: 0, hop: 0, holder }
    }

    /// The holder's next: `heir` holds it.
    pub fn passed_to(self, heir: NodeId) -> Self {
        Self { fence: self.fence, hop: self.hop.saturating_add(1), holder: heir }
    }

    /// The claimant's next, over the head of a holder that is lost: `heir` holds it, and has nothing of it yet.
    pub fn forced_to(self, heir: NodeId) -> Self {
        Self { fence: self.fence.saturating_add(1), hop: 0, holder: heir }
    }

    /// Whether `now` is that it was taken from this holder, and not passed on by it: what it has of it is then of no
    /// use where it is. (Passed on first and taken then counts as taken: nothing is left of it here.)
    pub fn was_taken(self, now: Self) -> bool {
        let passed_on = now.fence == self.fence && now.hop > self.hop && !self.is_unrepaired();
        now.holder != self.holder && !passed_on
    }

    /// Whether the holder was forced to hold it and has not got since what the other replicas have.
    pub fn is_unrepaired(self) -> bool {
        self.fence > 0 && self.hop == 0
    }
}
