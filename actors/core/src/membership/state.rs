//! The cluster state: the one value that all members gossip. A join-semilattice: [`ClusterState::merge`] is
//! commutative, associative and idempotent, and never goes backward, so states may meet in any order, over any
//! path, as often as they like. It holds members, the target, possession, what is staged, and reports. Who may
//! write what is decided in [`super::change`]; how it travels in [`super::section`].

use super::member::{Member, Status};
use super::report::Report;
use super::section::{Section, digest_of};
use super::staging::Staging;
use super::target::{Possession, Target, shared};
use crate::ids::{ClusterId, NodeId, Partition};
use crate::limits::MEMBERS_MAX;
use crate::mutant::{Mutant, planted};
use crate::ring::RingSize;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::iter::repeat_n;
use std::sync::Arc;

/// See the module's head. Its fields are, in this order, the layout outside the process, as `Parts` reads it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct ClusterState {
    pub(super) cluster: ClusterId,
    pub(super) size: RingSize,
    pub(super) members: BTreeMap<NodeId, Member>,
    pub(crate) target: Target,
    /// Shared with copies of the state until one of them changes: one of a large ring is large.
    #[serde(serialize_with = "shared")]
    pub(super) possession: Arc<[Possession]>,
    pub(super) staging: Staging,
    pub(super) reports: BTreeMap<NodeId, Report>,
}

/// A state as it comes in; each passes [`StateError`]'s checks. It goes out as it is, for a copy of a large ring's is
/// a megabyte.
#[derive(Deserialize)]
struct Parts {
    cluster: ClusterId,
    size: RingSize,
    members: BTreeMap<NodeId, Member>,
    target: Target,
    possession: Vec<Possession>,
    staging: Staging,
    reports: BTreeMap<NodeId, Report>,
}

/// A state, or a part of one, that cannot be. Nothing was taken over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Of another cluster.
    #[error("it is of cluster {theirs}, this is {ours}: two clusters never mix")]
    OtherCluster {
        /// This cluster.
        ours: ClusterId,
        /// The other.
        theirs: ClusterId,
    },
    /// Not as many partitions.
    #[error("it has {found} partitions where the ring has {expected}")]
    Partitions {
        /// Of the ring.
        expected: usize,
        /// There.
        found: usize,
    },
    /// More members than there may be.
    #[error("{0} members, at most {MEMBERS_MAX} are possible")]
    Members(usize),
    /// A value within it is not possible.
    #[error("{0}")]
    Value(String),
}

impl TryFrom<Parts> for ClusterState {
    type Error = StateError;

    fn try_from(parts: Parts) -> Result<Self, StateError> {
        let Parts { cluster, size, members, target, possession, staging, reports } = parts;
        let possession = possession.into();
        let state = Self { cluster, size, members, target, possession, staging, reports };
        state.check()?;
        Ok(state)
    }
}

impl ClusterState {
    /// A cluster as it is born: one member, who holds everything.
    pub fn born(cluster: ClusterId, size: RingSize, node: NodeId, member: Member) -> Self {
        Self {
            cluster,
            size,
            members: BTreeMap::from([(node, member)]),
            target: Target::new(0, node, repeat_n(node, size.count()).collect::<Arc<_>>()),
            possession: repeat_n(Possession::first(node), size.count()).collect(),
            staging: Staging::default(),
            reports: BTreeMap::new(),
        }
    }

    fn check(&self) -> Result<(), StateError> {
        let expected = self.size.count();
        for found in [self.target.owners().len(), self.possession.len()] {
            if found != expected {
                return Err(StateError::Partitions { expected, found });
            }
        }
        if !self.target.is_sound() {
            return Err(StateError::Value("the target's digest does not belong to its content".into()));
        }
        if self.members.len() > MEMBERS_MAX || self.reports.len() > MEMBERS_MAX {
            return Err(StateError::Members(self.members.len().max(self.reports.len())));
        }
        for member in self.members.values() {
            member.check().map_err(|error| StateError::Value(error.to_string()))?;
        }
        if !self.staging.is_sound() {
            return Err(StateError::Value(
                "what is staged is too much, or has a detail that cannot be".into(),
            ));
        }
        if !self.reports.values().all(|report| report.is_sound(expected)) {
            return Err(StateError::Value("a report names services or partitions that cannot be".into()));
        }
        Ok(())
    }

    /// Which cluster this is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// How many partitions its ring has.
    pub fn size(&self) -> RingSize {
        self.size
    }

    /// Everybody who was ever a member, removed ones included.
    pub fn everybody(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// The members.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().filter(|(_, member)| member.is_member()).map(|(node, member)| (*node, member))
    }

    /// A member, or one who was.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    /// How a node stands; none when it was never a member.
    pub fn status(&self, node: NodeId) -> Option<Status> {
        self.members.get(&node).map(Member::status)
    }

    /// Who is to hold what.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Who holds what, from partition 0.
    pub fn possession(&self) -> &[Possession] {
        &self.possession
    }

    /// Who holds a partition; none when it is not of this ring.
    pub fn holder(&self, partition: Partition) -> Option<NodeId> {
        self.possession.get(usize::from(partition.0)).map(|possession| possession.holder)
    }

    /// What is staged.
    pub fn staging(&self) -> &Staging {
        &self.staging
    }

    /// What the nodes have said of themselves.
    pub fn reports(&self) -> &BTreeMap<NodeId, Report> {
        &self.reports
    }

    /// The partitions that `node` holds, ascending.
    pub fn held_by(&self, node: NodeId) -> impl Iterator<Item = Partition> + '_ {
        self.size.partitions().filter(move |p| self.holder(*p) == Some(node))
    }

    /// The same as a set. Put in one by one, because they come in order: collecting first gathers and sorts them, which
    /// for a large ring takes more memory than the set.
    pub fn held_set(&self, node: NodeId) -> BTreeSet<Partition> {
        let mut held = BTreeSet::new();
        self.held_by(node).for_each(|partition| {
            held.insert(partition);
        });
        held
    }

    /// The valid member with the lowest node id that is not marked down: it alone changes the target.
    pub fn claimant(&self) -> Option<NodeId> {
        self.members.iter().find(|(_, member)| member.status() == Status::Valid).map(|(node, _)| *node)
    }

    /// Whether replicas can differ: not in a cluster that has been one node since it was born. One that has shrunk to
    /// a node holds what several have brought together.
    pub fn was_ever_shared(&self) -> bool {
        self.members().count() > 1 || self.target.key().epoch > 0
    }

    /// Stands for all that changes by decisions (everything but the reports): equal on nodes that have seen the
    /// same.
    pub fn stamp(&self) -> u64 {
        let sections = Section::all().filter(|section| !matches!(section, Section::Reports(_)));
        digest_of(&sections.map(|section| self.section_digest(section)).collect::<Vec<_>>())
    }

    /// Members that have not reported to have seen the state of this `stamp`, and are waited for.
    pub fn waiting_for(&self, stamp: u64) -> Vec<NodeId> {
        let seen = |node: &NodeId| self.reports.get(node).is_some_and(|report| report.seen == stamp);
        self.members()
            .filter(|(node, member)| member.status().is_waited_for() && !seen(node))
            .map(|(node, _)| node)
            .collect()
    }

    /// Partitions that are not where they are to be.
    pub fn pending(&self) -> impl Iterator<Item = Partition> + '_ {
        let places = self.possession.iter().zip(self.target.owners()).zip(self.size.partitions());
        places.filter(|((held, wished), _)| held.holder != **wished).map(|(_, partition)| partition)
    }

    /// What members hold for others, by member. A partition that its reporter has come to hold is none.
    pub fn strays(&self) -> impl Iterator<Item = (NodeId, Partition)> + '_ {
        self.reports
            .iter()
            .filter(|(node, _)| self.members.get(node).is_some_and(Member::is_member))
            .flat_map(|(node, report)| report.strays.iter().map(|partition| (*node, *partition)))
            .filter(|(node, partition)| self.holder(*partition) != Some(*node))
    }

    /// Whether every partition is where it is to be, and no data anywhere else.
    pub fn is_settled(&self) -> bool {
        self.pending().next().is_none() && self.strays().next().is_none()
    }

    /// Partitions whose holders were forced to hold them and have not got yet what the other replicas have.
    pub fn unrepaired(&self) -> impl Iterator<Item = Partition> + '_ {
        let places = self.possession.iter().zip(self.size.partitions());
        places.filter(|(held, _)| held.is_unrepaired()).map(|(_, partition)| partition)
    }

    /// The partitions that `me` is to pass on and can, with their heirs.
    pub fn bequests(&self, me: NodeId) -> impl Iterator<Item = (Partition, NodeId)> + '_ {
        self.pending().filter_map(move |partition| Some((partition, self.bequest(me, partition)?)))
    }

    /// The heir of one of these; none when the partition is not among them.
    pub fn bequest(&self, me: NodeId, partition: Partition) -> Option<NodeId> {
        let heir = *self.target.owners().get(usize::from(partition.0))?;
        let claims = || self.members.get(&heir).is_some_and(|member| member.status().claims());
        (heir != me && self.can_pass_on(me, partition) && claims()).then_some(heir)
    }

    fn can_pass_on(&self, me: NodeId, partition: Partition) -> bool {
        let held = self.possession.get(usize::from(partition.0));
        held.is_some_and(|held| held.holder == me && !held.is_unrepaired())
    }

    /// Locations of those that may own partitions; how many distinct ones there are decides whether they count.
    pub fn locations(&self) -> BTreeSet<&str> {
        let claiming = self.members().filter(|(_, member)| member.status().claims());
        claiming.filter_map(|(_, member)| member.location.value().as_deref()).collect()
    }

    /// The least state that contains both. Says whether this one grew.
    pub fn merge(&mut self, other: &Self) -> Result<bool, StateError> {
        if other.cluster != self.cluster {
            return Err(StateError::OtherCluster { ours: self.cluster, theirs: other.cluster });
        }
        if other.size != self.size {
            return Err(StateError::Partitions { expected: self.size.count(), found: other.size.count() });
        }
        let unknown = other.members.keys().filter(|node| !self.members.contains_key(node)).count();
        if self.members.len() + unknown > MEMBERS_MAX {
            return Err(StateError::Members(self.members.len() + unknown));
        }
        let mut grew = self.target.merge(&other.target) | self.staging.merge(&other.staging);
        for (node, member) in &other.members {
            grew |= self.merge_member(*node, member);
        }
        for (node, report) in &other.reports {
            grew |= self.merge_report(*node, report);
        }
        for (place, theirs) in other.possession.iter().enumerate() {
            grew |= self.members.contains_key(&theirs.holder) && self.raise(place, *theirs);
        }
        Ok(grew)
    }

    pub(crate) fn merge_member(&mut self, node: NodeId, member: &Member) -> bool {
        match self.members.get_mut(&node) {
            Some(ours) => ours.merge(member),
            None => self.members.insert(node, member.clone()).is_none(),
        }
    }

    /// Reports of nodes that are not known (yet) are not kept: they come again.
    pub(super) fn merge_report(&mut self, node: NodeId, report: &Report) -> bool {
        if !self.members.contains_key(&node) {
            return false;
        }
        match self.reports.get_mut(&node) {
            Some(ours) => ours.merge(report),
            None => self.reports.insert(node, report.clone()).is_none(),
        }
    }

    /// A possession taken over alone. Tests only: a holder that knows an older target would pass it straight back
    /// (docs/decisions/0020), so outside of tests possession comes with the state that it is part of.
    #[cfg(test)]
    pub(crate) fn adopt(&mut self, partition: Partition, theirs: Possession) -> bool {
        self.members.contains_key(&theirs.holder) && self.raise(usize::from(partition.0), theirs)
    }

    /// Takes over who holds the partition at that place if it is the greater fact; says whether it was.
    pub(super) fn raise(&mut self, place: usize, theirs: Possession) -> bool {
        let Some(ours) = self.possession.get(place) else { return false };
        let older = planted(Mutant::IgnoreHop) && theirs.fence == ours.fence && theirs.hop < ours.hop;
        let grows = theirs > *ours || older;
        if grows {
            self.set_possession(place, theirs);
        }
        grows
    }

    /// Who holds the partition at that place from now on.
    pub(super) fn set_possession(&mut self, place: usize, now: Possession) {
        if let Some(ours) = Arc::make_mut(&mut self.possession).get_mut(place) {
            *ours = now;
        }
    }
}
