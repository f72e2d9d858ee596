//! From what is staged to a new target: plan shows what a commit would do, commit does just that or refuses. Both
//! work the whole out anew from the state (claim is deterministic) and compare digests, so nothing has to be kept
//! between them, and nothing can come between them unnoticed. It does not know who is reachable.

use super::change::ChangeRefusal;
use super::member::{Before, Member, Status};
use super::staging::{ChangeKind, PlanDigest, Staging};
use super::state::ClusterState;
use super::target::Target;
use crate::claim::{Claim, ClaimNode, ClaimRequest, STEPS_DEFAULT, claim};
use crate::ids::{NodeId, Partition};
use crate::limits::TARGET_N;
use sha1::{Digest, Sha1};
use std::collections::{BTreeMap, BTreeSet};

/// What a commit would do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Stands for all of it.
    pub digest: PlanDigest,
    /// The epoch it would begin.
    pub epoch: u64,
    /// What is staged.
    pub changes: Vec<(NodeId, ChangeKind, Option<String>)>,
    /// Each member's status afterwards.
    pub statuses: BTreeMap<NodeId, Status>,
    /// Each member's location afterwards.
    pub locations: BTreeMap<NodeId, Option<String>>,
    /// Who is to hold what, how many of these move, and how good that is.
    pub claim: Claim,
    /// Partitions that change their wished owner, with the one before.
    pub moves: Vec<(Partition, NodeId, NodeId)>,
}

impl ClusterState {
    /// What a commit would do now. May take seconds for large rings: run it where that hurts nobody.
    pub fn plan(&self) -> Result<Plan, ChangeRefusal> {
        if self.staging.changes.is_empty() {
            return Err(ChangeRefusal::new(
                "nothing-staged",
                "nothing is staged: stage a change first ('ringwork cluster join', 'leave', 'location', 'rebalance')",
            ));
        }
        let mut statuses: BTreeMap<NodeId, Status> =
            self.members().map(|(node, member)| (node, member.status())).collect();
        let mut locations: BTreeMap<NodeId, Option<String>> =
            self.members().map(|(node, member)| (node, member.location.value().clone())).collect();
        let mut changes = Vec::new();
        for ((node, kind), register) in &self.staging.changes {
            let location = register.value().clone();
            if let Some(status) = statuses.get_mut(node) {
                match kind {
                    ChangeKind::Join if *status == Status::Joining => *status = Status::Valid,
                    // Sorts after Join: who is to join and to leave never holds anything.
                    ChangeKind::Leave => {
                        let held = self.held_by(*node).next().is_some();
                        *status = if let Status::Down(_) = *status {
                            Status::Down(Before::Leaving)
                        } else if self.status(*node) == Some(Status::Joining) && !held {
                            Status::Removed
                        } else {
                            Status::Leaving
                        };
                    }
                    ChangeKind::Location => {
                        locations.insert(*node, location.clone());
                    }
                    ChangeKind::Join | ChangeKind::Rebalance => {}
                }
            }
            changes.push((*node, *kind, location));
        }
        self.refuse_same_names(&statuses)?;
        let nodes: Vec<ClaimNode> = statuses
            .iter()
            .filter(|(_, status)| status.claims())
            .map(|(node, _)| ClaimNode { node: *node, location: locations.get(node).cloned().flatten() })
            .collect();
        let places: BTreeSet<&str> = nodes.iter().filter_map(|node| node.location.as_deref()).collect();
        let owners: Vec<Option<NodeId>> = self.target.owners().iter().copied().map(Some).collect();
        let claim = claim(&ClaimRequest {
            size: self.size,
            owners: &owners,
            nodes: &nodes,
            target_n: TARGET_N,
            location_n: TARGET_N.min(places.len()).max(1),
            steps_max: STEPS_DEFAULT,
        })
        .map_err(|error| ChangeRefusal::new("no-claim", error.to_string()))?;
        let moves = self
            .size
            .partitions()
            .zip(self.target.owners().iter().zip(&claim.owners))
            .filter(|(_, (before, after))| before != after)
            .map(|(partition, (before, after))| (partition, *before, *after))
            .collect();
        let digest = self.plan_digest(&statuses, &locations, &claim.owners);
        let epoch = self.target.key().epoch.saturating_add(1);
        Ok(Plan { digest, epoch, changes, statuses, locations, claim, moves })
    }

    fn refuse_same_names(&self, statuses: &BTreeMap<NodeId, Status>) -> Result<(), ChangeRefusal> {
        let mut names = BTreeSet::new();
        for (node, member) in self.members() {
            let stays = statuses.get(&node) != Some(&Status::Removed);
            if stays && !names.insert(member.name.value()) {
                return Err(ChangeRefusal::new(
                    "name-taken",
                    format!(
                        "two members are named {}: restart one of them with another --name, then plan again",
                        member.name.value()
                    ),
                ));
            }
        }
        Ok(())
    }

    fn plan_digest(
        &self,
        statuses: &BTreeMap<NodeId, Status>,
        locations: &BTreeMap<NodeId, Option<String>>,
        owners: &[NodeId],
    ) -> PlanDigest {
        let mut hasher = Sha1::new();
        let mut text = |part: &[u8]| {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        };
        text(&self.target.key().digest);
        for (node, status) in statuses {
            text(&node.0);
            text(format!("{status:?}").as_bytes());
        }
        for (node, location) in locations {
            text(&node.0);
            text(location.as_deref().unwrap_or_default().as_bytes());
        }
        for owner in owners {
            text(&owner.0);
        }
        hasher.finalize().into()
    }

    /// Notes that this plan was shown.
    pub fn show_plan(&mut self, plan: &Plan, me: NodeId) {
        self.staging.show(plan.digest, me);
    }

    /// Does what the plan shown last said, if that is still what `plan` (worked out from this very state) says.
    /// To be durable before anybody hears of it.
    pub fn commit(&mut self, plan: &Plan, me: NodeId) -> Result<(), ChangeRefusal> {
        if self.claimant() != Some(me) {
            return Err(ChangeRefusal::new("not-the-claimant", "only the claimant commits; ask it"));
        }
        let Some(shown) = self.staging.shown() else {
            return Err(ChangeRefusal::new(
                "no-plan",
                "no plan was shown for what is staged: run 'ringwork cluster plan', look at it, then commit",
            ));
        };
        if shown != plan.digest || plan.epoch != self.target.key().epoch.saturating_add(1) {
            return Err(ChangeRefusal::new(
                "plan-changed",
                "the plan that was shown is not what a commit would do now: something was staged or a member \
                 changed meanwhile. Nothing was done; run 'ringwork cluster plan' and look again",
            ));
        }
        for (node, member) in &mut self.members {
            set_status_and_location(*node, member, plan, me);
        }
        self.target = Target::new(plan.epoch, me, plan.claim.owners.clone());
        self.staging = Staging::after_commit(plan.epoch);
        Ok(())
    }
}

fn set_status_and_location(node: NodeId, member: &mut Member, plan: &Plan, writer: NodeId) {
    if let Some(status) = plan.statuses.get(&node) {
        member.status.set(*status, writer);
    }
    if let Some(location) = plan.locations.get(&node) {
        member.location.set(location.clone(), writer);
    }
}
