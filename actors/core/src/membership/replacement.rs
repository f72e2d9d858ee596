//! One node in the place of another, and nodes that do not come back: replace, force-replace, force-remove. It
//! decides who may take whose place, which staged changes contradict each other, whose possession is forced by a
//! plan, and when a forced holder has its data. It does not know who is reachable: that a node which is taken for lost
//! does not answer, whoever asks here has made sure of.

use super::change::ChangeRefusal;
use super::member::{Before, Status};
use super::staging::{ChangeDetail, ChangeKind, Staging};
use super::state::ClusterState;
use super::target::Possession;
use crate::ids::{NodeId, Partition};
use std::collections::{BTreeMap, BTreeSet};

/// A partition that is taken from a holder who is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forced {
    /// Which.
    pub partition: Partition,
    /// Who holds it now, as far as the cluster is concerned.
    pub from: NodeId,
    /// Who holds it afterwards, without its data, and how that is written.
    pub possession: Possession,
}

impl ClusterState {
    /// Stages that `old` gives all it has to `new` and ends.
    pub fn stage_replace(&mut self, old: NodeId, new: NodeId, writer: NodeId) -> Result<(), ChangeRefusal> {
        self.check_replacement(old, new, ChangeKind::Replace)?;
        self.stage_in_accord(old, ChangeKind::Replace, ChangeDetail::By(new), writer)
    }

    /// Stages that `old`, which is not up and whose data is taken for lost, is removed, and `new` takes its place.
    pub fn stage_force_replace(
        &mut self,
        old: NodeId,
        new: NodeId,
        writer: NodeId,
    ) -> Result<(), ChangeRefusal> {
        self.check_replacement(old, new, ChangeKind::ForceReplace)?;
        self.stage_in_accord(old, ChangeKind::ForceReplace, ChangeDetail::By(new), writer)
    }

    /// Stages that a node which is not up and whose data is taken for lost is removed.
    pub fn stage_force_remove(&mut self, node: NodeId, writer: NodeId) -> Result<(), ChangeRefusal> {
        self.check_force_remove(node)?;
        self.stage_in_accord(node, ChangeKind::ForceRemove, ChangeDetail::Nothing, writer)
    }

    fn refuse_no_member(&self, node: NodeId) -> Result<(), ChangeRefusal> {
        match self.status(node) {
            None | Some(Status::Removed) => {
                let detail = format!("{} is no member of this cluster", self.name_of(node));
                Err(ChangeRefusal::new("not-a-member", detail))
            }
            Some(_) => Ok(()),
        }
    }

    fn check_force_remove(&self, node: NodeId) -> Result<(), ChangeRefusal> {
        self.refuse_no_member(node)?;
        if self.members().any(|(other, member)| other != node && member.status().claims()) {
            return Ok(());
        }
        Err(ChangeRefusal::new(
            "only-member",
            format!(
                "{} is the only member that can hold anything: nobody would be left to hold its partitions",
                self.name_of(node)
            ),
        ))
    }

    fn check_replacement(&self, old: NodeId, new: NodeId, kind: ChangeKind) -> Result<(), ChangeRefusal> {
        let (name, other) = (self.name_of(old), self.name_of(new));
        if old == new {
            return Err(ChangeRefusal::new(
                "bad-request",
                format!(
                    "{name} cannot take its own place: name the node that is to go, then the one that comes"
                ),
            ));
        }
        self.refuse_no_member(old)?;
        self.refuse_no_member(new)?;
        match self.status(old) {
            Some(Status::Joining | Status::Down(Before::Joining)) => {
                return Err(ChangeRefusal::new(
                    "still-joining",
                    format!(
                        "{name} only waits to join and has no place to give: 'ringwork cluster leave {name}' \
                         removes it, and {other} can join by itself"
                    ),
                ));
            }
            Some(Status::Leaving | Status::Exiting | Status::Down(Before::Leaving)) => {
                return Err(ChangeRefusal::new(
                    "already-leaving",
                    format!(
                        "{name} is leaving already, and its partitions were given to others. If it does not come \
                         back to pass them on: 'ringwork cluster force-remove {name}'"
                    ),
                ));
            }
            _ => {}
        }
        let (held, wished) =
            (self.held_by(new).count(), self.target.owners().iter().filter(|owner| **owner == new).count());
        let stands = matches!(self.status(new), Some(Status::Joining | Status::Valid));
        if stands && held == 0 && wished == 0 {
            return Ok(());
        }
        let why = if stands {
            format!("it holds {held} partitions and is to hold {wished}")
        } else {
            format!("it is {}", self.status(new).map_or("unknown", Status::word))
        };
        Err(ChangeRefusal::new(
            "not-a-replacement",
            format!(
                "{other} cannot take the place of {name}: {why}. Who takes a place waits to join, or is a valid \
                 member without partitions: start a new node with this cluster as its seed, then 'ringwork cluster \
                 {} {name} NEW' with its name",
                kind.word()
            ),
        ))
    }

    /// Stages a change unless it contradicts what is staged; nothing is changed then.
    pub(super) fn stage_in_accord(
        &mut self,
        node: NodeId,
        kind: ChangeKind,
        detail: ChangeDetail,
        writer: NodeId,
    ) -> Result<(), ChangeRefusal> {
        let before = self.staging.changes.get(&(node, kind)).map(|register| register.value());
        if let Some(other) = before.filter(|before| **before != detail) {
            let staged = self.as_typed(node, kind, other);
            let wanted = self.as_typed(node, kind, &detail);
            return Err(contradiction(&staged, &wanted));
        }
        let mut staging = self.staging.clone();
        staging.stage(node, kind, detail, writer);
        self.refuse_contradictions(&staging)?;
        self.staging = staging;
        Ok(())
    }

    /// Refuses changes of which no more than one can be done. Staging refuses them one by one; but what was staged at
    /// two members at once meets in a merge.
    pub(super) fn refuse_contradictions(&self, staging: &Staging) -> Result<(), ChangeRefusal> {
        let mut concerned: BTreeMap<NodeId, String> = BTreeMap::new();
        let ending = staging.changes.iter().filter(|((_, kind), _)| kind.ends_membership());
        for ((node, kind), register) in ending {
            let typed = self.as_typed(*node, *kind, register.value());
            let by = match register.value() {
                ChangeDetail::By(other) => Some(*other),
                _ => None,
            };
            for node in [Some(*node), by].into_iter().flatten() {
                if let Some(staged) = concerned.insert(node, typed.clone()) {
                    return Err(contradiction(&staged, &typed));
                }
            }
        }
        Ok(())
    }

    fn as_typed(&self, node: NodeId, kind: ChangeKind, detail: &ChangeDetail) -> String {
        let (word, name) = (kind.word(), self.name_of(node));
        match detail {
            ChangeDetail::By(other) => format!("{word} {name} {}", self.name_of(*other)),
            ChangeDetail::Location(_) | ChangeDetail::Nothing => format!("{word} {name}"),
        }
    }

    /// Who takes whose place by what is staged. Refuses what cannot be done (any more).
    pub(super) fn staged_replacements(&self) -> Result<BTreeMap<NodeId, NodeId>, ChangeRefusal> {
        self.refuse_contradictions(&self.staging)?;
        let mut replacements = BTreeMap::new();
        for ((node, kind), register) in &self.staging.changes {
            let checked = match (kind, register.value()) {
                (ChangeKind::Replace | ChangeKind::ForceReplace, ChangeDetail::By(new)) => {
                    replacements.insert(*node, *new);
                    self.check_replacement(*node, *new, *kind)
                }
                (ChangeKind::ForceRemove, _) => self.check_force_remove(*node),
                _ => Ok(()),
            };
            checked.map_err(|refusal| ChangeRefusal {
                detail: format!(
                    "'{}' is staged and cannot be done any more: {}. Forget what is staged with 'ringwork cluster \
                     clear'",
                    self.as_typed(*node, *kind, register.value()),
                    refusal.detail
                ),
                ..refusal
            })?;
        }
        Ok(replacements)
    }

    /// What has to be taken from whom for nobody to hold anything who is removed: it goes to its new owner at once,
    /// not by way of somebody who has nothing of it either.
    pub(super) fn forced_by(&self, statuses: &BTreeMap<NodeId, Status>, owners: &[NodeId]) -> Vec<Forced> {
        let gone = |node: NodeId| statuses.get(&node).is_none_or(|status| *status == Status::Removed);
        let places = self.size.partitions().zip(self.possession.iter().zip(owners));
        places
            .filter(|(_, (held, _))| gone(held.holder))
            .map(|(partition, (held, owner))| Forced {
                partition,
                from: held.holder,
                possession: held.forced_to(*owner),
            })
            .collect()
    }

    /// The claimant takes from removed members what they still hold. A plan leaves them nothing; but two claimants who
    /// did not know of each other can: one gives a partition back to the member that the other removes. It is given to
    /// its owner, and only once everybody has seen the same state, so that no two do it differently. Says what was
    /// taken.
    pub fn take_from_removed(&mut self, me: NodeId) -> Vec<Forced> {
        if self.claimant() != Some(me) {
            return Vec::new();
        }
        let statuses: BTreeMap<NodeId, Status> =
            self.members.iter().map(|(node, member)| (*node, member.status())).collect();
        let mut taken = self.forced_by(&statuses, self.target.owners());
        taken.retain(|forced| statuses.get(&forced.possession.holder).is_some_and(|status| status.claims()));
        if taken.is_empty() || !self.waiting_for(self.stamp()).is_empty() {
            return Vec::new();
        }
        for forced in &taken {
            self.set_possession(usize::from(forced.partition.0), forced.possession);
        }
        taken
    }

    /// Whether the claimant is to claim anew without being told to: by what two claimants did who did not know of each
    /// other, partitions are wished to a member that was removed, and nobody will ever hold them. Only once everybody
    /// has seen the same state; and not while a change is staged whose commit mends it as well. Joins do not count:
    /// who waits to join stages it again.
    pub fn wishes_to_removed(&self, me: NodeId) -> bool {
        let lost = |owner: &NodeId| self.status(*owner).is_none_or(|status| status == Status::Removed);
        self.claimant() == Some(me)
            && self.target.owners().iter().any(lost)
            && self.staging.changes.keys().all(|(_, kind)| *kind == ChangeKind::Join)
            && self.waiting_for(self.stamp()).is_empty()
    }

    /// The state in which nothing is staged but that partitions are claimed anew: what a plan for
    /// [`Self::wishes_to_removed`] is made of.
    pub fn with_only_a_rebalance_staged(&self, me: NodeId) -> Self {
        let mut state = self.clone();
        state.clear_staging();
        state.stage_rebalance(me);
        state
    }

    /// How many times n partitions in a row, which are all the replicas of some keys, are without a holder that has
    /// their data, once these are taken.
    pub fn windows_lost(&self, forced: &[Forced], n: usize) -> usize {
        let mut lost: BTreeSet<Partition> = forced.iter().map(|forced| forced.partition).collect();
        lost.extend(self.unrepaired());
        let n = n.min(self.size.count());
        let all_lost =
            |first: &Partition| (0..n).all(|step| lost.contains(&self.size.clockwise(*first, step)));
        self.size.partitions().filter(all_lost).count()
    }

    /// A forced holder has got what the other replicas of a partition have, and that is durable: from now on it is a
    /// holder like any other. Says what it holds it by; none when it is not the holder, or was one like any other
    /// before. To be durable before anybody hears of it.
    pub fn repaired(&mut self, me: NodeId, partition: Partition) -> Option<Possession> {
        let place = usize::from(partition.0);
        let possession = *self.possession.get(place)?;
        if possession.holder != me || !possession.is_unrepaired() {
            return None;
        }
        let now = possession.passed_to(me);
        self.set_possession(place, now);
        Some(now)
    }

    /// Who holds every partition has nobody to be repaired from: what it has not got is gone. Says whether anything
    /// was left to be repaired.
    pub fn repair_alone(&mut self, me: NodeId) -> bool {
        if self.possession.iter().any(|held| held.holder != me) {
            return false;
        }
        let unrepaired: Vec<Partition> = self.unrepaired().collect();
        unrepaired.into_iter().filter_map(|partition| self.repaired(me, partition)).count() > 0
    }
}

fn contradiction(staged: &str, other: &str) -> ChangeRefusal {
    ChangeRefusal::new(
        "contradicts-staged",
        format!(
            "'{staged}' is staged and contradicts '{other}': only one of them can be done. Forget what is staged with \
             'ringwork cluster clear', then stage what is meant"
        ),
    )
}
