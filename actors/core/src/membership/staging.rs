//! What waits for a plan and a commit. It is part of the state that is gossiped, so it outlives the claimant
//! (Riak kept it in one process's memory and lost it). A round is left behind as a whole: by a commit, which
//! begins the next epoch, or by `clear`, which raises the round.

use super::member::check_location;
use super::register::{Register, RegisterValue};
use crate::ids::NodeId;
use crate::limits::MEMBERS_MAX;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most changes staged at a time: every member's of every kind, far beyond what anybody plans at once.
const CHANGES_MAX: usize = 7 * MEMBERS_MAX;

/// What kind of change; a member has at most one of each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum ChangeKind {
    /// A joining node becomes a member.
    Join,
    /// A member gives away what it has, and ends.
    Leave,
    /// A member is at another location.
    Location,
    /// Partitions are claimed anew; of the whole cluster, kept under the node that asked for it.
    Rebalance,
    /// A member gives all that it has to one that takes its place, and ends.
    Replace,
    /// One that does not come back is removed, and another takes its place without its data.
    ForceReplace,
    /// One that does not come back is removed, and the others share its place without its data.
    ForceRemove,
}

/// What there is to say of a change beyond its node and its kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum ChangeDetail {
    /// Nothing more.
    Nothing,
    /// The new location, or that there is none.
    Location(Option<String>),
    /// The node that takes the place.
    By(NodeId),
}

impl RegisterValue for ChangeDetail {}

impl ChangeKind {
    /// The word for it, as an operator types it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Location => "location",
            Self::Rebalance => "rebalance",
            Self::Replace => "replace",
            Self::ForceReplace => "force-replace",
            Self::ForceRemove => "force-remove",
        }
    }

    /// Whether it takes the node for lost, and what it held with it.
    pub fn is_forced(self) -> bool {
        matches!(self, Self::ForceReplace | Self::ForceRemove)
    }

    /// Whether the node is to be no member afterwards. Of these a node has at most one at a time.
    pub fn ends_membership(self) -> bool {
        matches!(self, Self::Leave | Self::Replace | Self::ForceReplace | Self::ForceRemove)
    }

    /// Whether that can be the detail of such a change of `node`.
    fn is_sound_with(self, node: NodeId, detail: &ChangeDetail) -> bool {
        match (self, detail) {
            (Self::Location, ChangeDetail::Location(location)) => {
                location.as_deref().is_none_or(|text| check_location(text).is_ok())
            }
            (Self::Replace | Self::ForceReplace, ChangeDetail::By(other)) => *other != node,
            (Self::Join | Self::Leave | Self::Rebalance | Self::ForceRemove, ChangeDetail::Nothing) => true,
            _ => false,
        }
    }
}

/// The order of rounds: by the epoch they begin from, then by how often that was cleared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Round {
    /// The target's epoch at which it began.
    pub epoch: u64,
    /// How often what was staged in this epoch was cleared.
    pub cleared: u64,
}

/// The digest of a plan, which a commit must match.
pub type PlanDigest = [u8; 20];

/// See the module's head.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Staging {
    /// Which round.
    pub round: Round,
    /// The changes, each with what there is to say of it.
    pub changes: BTreeMap<(NodeId, ChangeKind), Register<ChangeDetail>>,
    /// The plan that was shown last.
    pub plan: Option<Register<Option<PlanDigest>>>,
}

impl Staging {
    /// Nothing staged in the round that follows a commit of `epoch`.
    pub fn after_commit(epoch: u64) -> Self {
        Self { round: Round { epoch, cleared: 0 }, ..Self::default() }
    }

    /// Whether it is no more than there can be, and every change has a detail of its kind that is possible.
    pub fn is_sound(&self) -> bool {
        let lawful = |((node, kind), register): (&(NodeId, ChangeKind), &Register<ChangeDetail>)| {
            kind.is_sound_with(*node, register.value())
        };
        self.changes.len() <= CHANGES_MAX && self.changes.iter().all(lawful)
    }

    /// Stages a change.
    pub fn stage(&mut self, node: NodeId, kind: ChangeKind, detail: ChangeDetail, writer: NodeId) {
        match self.changes.get_mut(&(node, kind)) {
            Some(register) => {
                register.set(detail, writer);
            }
            None => {
                self.changes.insert((node, kind), Register::new(detail, writer));
            }
        }
    }

    /// Notes the plan that was shown.
    pub fn show(&mut self, digest: PlanDigest, writer: NodeId) {
        match &mut self.plan {
            Some(register) => {
                register.set(Some(digest), writer);
            }
            None => self.plan = Some(Register::new(Some(digest), writer)),
        }
    }

    /// The digest of the plan that was shown last.
    pub fn shown(&self) -> Option<PlanDigest> {
        self.plan.as_ref().and_then(|register| *register.value())
    }

    /// Forgets everything staged.
    pub fn clear(&mut self) {
        let Round { epoch, cleared } = self.round;
        *self = Self { round: Round { epoch, cleared: cleared.saturating_add(1) }, ..Self::default() };
    }

    /// The later round, whole; of one round, everything of both. Says whether this one grew.
    pub fn merge(&mut self, other: &Self) -> bool {
        if other.round != self.round {
            let grows = other.round > self.round;
            if grows {
                *self = other.clone();
            }
            return grows;
        }
        let mut grew = false;
        for (key, theirs) in &other.changes {
            let room = self.changes.len() < CHANGES_MAX;
            match self.changes.get_mut(key) {
                Some(ours) => grew |= ours.merge(theirs),
                None if room => {
                    self.changes.insert(*key, theirs.clone());
                    grew = true;
                }
                None => {}
            }
        }
        match (&mut self.plan, &other.plan) {
            (Some(ours), Some(theirs)) => grew |= ours.merge(theirs),
            (None, Some(theirs)) => {
                self.plan = Some(theirs.clone());
                grew = true;
            }
            (_, None) => {}
        }
        grew
    }
}
