//! From what is staged to a new target: plan shows what a commit would do, commit does just that or refuses. Both
//! work the whole out anew from the state (claim is deterministic) and compare digests, so nothing has to be kept
//! between them, and nothing can come between them unnoticed. It does not know who is reachable.

use super::change::ChangeRefusal;
use super::member::{Before, Member, Status};
use super::replacement::Forced;
use super::staging::{ChangeDetail, ChangeKind, PlanDigest, Staging};
use super::state::ClusterState;
use super::target::Target;
use crate::claim::{Claim, ClaimError, ClaimNode, ClaimRequest, STEPS_DEFAULT, check, claim, moves_bound};
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
    pub changes: Vec<(NodeId, ChangeKind, ChangeDetail)>,
    /// Each member's status afterwards.
    pub statuses: BTreeMap<NodeId, Status>,
    /// Each member's location afterwards.
    pub locations: BTreeMap<NodeId, Option<String>>,
    /// Who is to hold what, how many of these move, and how good that is.
    pub claim: Claim,
    /// Partitions that change their wished owner, with the one before.
    pub moves: Vec<(Partition, NodeId, NodeId)>,
    /// Partitions that are taken from holders who are lost, or were removed before.
    pub forced: Vec<Forced>,
}

impl ClusterState {
    /// What a commit would do now. May take seconds for large rings: run it where that hurts nobody.
    pub fn plan(&self) -> Result<Plan, ChangeRefusal> {
        if self.staging.changes.is_empty() {
            return Err(ChangeRefusal::new(
                "nothing-staged",
                "nothing is staged: stage a change first ('ringwork cluster join', 'leave', 'replace', 'location', \
                 'rebalance')",
            ));
        }
        let replacements = self.staged_replacements()?;
        let statuses = self.statuses_afterwards(&replacements);
        let mut locations: BTreeMap<NodeId, Option<String>> =
            self.members().map(|(node, member)| (node, member.location.value().clone())).collect();
        let mut changes = Vec::new();
        for ((node, kind), register) in &self.staging.changes {
            if let (ChangeDetail::Location(location), true) = (register.value(), statuses.contains_key(node))
            {
                locations.insert(*node, location.clone());
            }
            changes.push((*node, *kind, register.value().clone()));
        }
        self.refuse_same_names(&statuses)?;
        let claim = self.claim_afterwards(&replacements, &statuses, &locations)?;
        let moves = self
            .size
            .partitions()
            .zip(self.target.owners().iter().zip(&claim.owners))
            .filter(|(_, (before, after))| before != after)
            .map(|(partition, (before, after))| (partition, *before, *after))
            .collect();
        let forced = self.forced_by(&statuses, &claim.owners);
        let digest = self.plan_digest(&statuses, &locations, &replacements, &claim.owners, &forced);
        let epoch = self.target.key().epoch.saturating_add(1);
        Ok(Plan { digest, epoch, changes, statuses, locations, claim, moves, forced })
    }

    fn statuses_afterwards(&self, replacements: &BTreeMap<NodeId, NodeId>) -> BTreeMap<NodeId, Status> {
        let mut statuses: BTreeMap<NodeId, Status> =
            self.members().map(|(node, member)| (node, member.status())).collect();
        for (node, kind) in self.staging.changes.keys() {
            let Some(status) = statuses.get_mut(node) else { continue };
            match kind {
                ChangeKind::Join if *status == Status::Joining => *status = Status::Valid,
                // Sorts after Join: who is to join and to leave never holds anything.
                ChangeKind::Leave | ChangeKind::Replace => {
                    let held = self.held_by(*node).next().is_some();
                    *status = if let Status::Down(_) = *status {
                        Status::Down(Before::Leaving)
                    } else if self.status(*node) == Some(Status::Joining) && !held {
                        Status::Removed
                    } else {
                        Status::Leaving
                    };
                }
                ChangeKind::ForceReplace | ChangeKind::ForceRemove => *status = Status::Removed,
                ChangeKind::Join | ChangeKind::Location | ChangeKind::Rebalance => {}
            }
        }
        // Whether its join is staged or was cleared: who takes a place is a member.
        for new in replacements.values() {
            statuses.insert(*new, Status::Valid);
        }
        statuses
    }

    /// Who is to own what. A node that takes another's place takes all that was to be that one's, and nothing else
    /// moves, unless something else that is staged asks for a claim.
    fn claim_afterwards(
        &self,
        replacements: &BTreeMap<NodeId, NodeId>,
        statuses: &BTreeMap<NodeId, Status>,
        locations: &BTreeMap<NodeId, Option<String>>,
    ) -> Result<Claim, ChangeRefusal> {
        let nodes: Vec<ClaimNode> = statuses
            .iter()
            .filter(|(_, status)| status.claims())
            .map(|(node, _)| ClaimNode { node: *node, location: locations.get(node).cloned().flatten() })
            .collect();
        let places: BTreeSet<&str> = nodes.iter().filter_map(|node| node.location.as_deref()).collect();
        let location_n = TARGET_N.min(places.len()).max(1);
        let before = self.target.owners();
        let owners: Vec<NodeId> =
            before.iter().map(|owner| replacements.get(owner).copied().unwrap_or(*owner)).collect();
        // A target that another claimant committed meanwhile may name nodes that this one's plan has removed.
        let all_own = owners.iter().all(|owner| statuses.get(owner).is_some_and(|status| status.claims()));
        if all_own && !self.is_claim_staged(replacements) {
            let moved = before.iter().zip(&owners).filter(|(before, after)| before != after).count();
            let violations = check(self.size, &owners, &nodes, TARGET_N, location_n);
            let balance = (violations.owned_min, violations.owned_max);
            return Ok(Claim { owners, moved, moves_bound: moved, violations, balance, exhausted: false });
        }
        let refused = |error: ClaimError| ChangeRefusal::new("no-claim", error.to_string());
        let present: Vec<Option<NodeId>> = owners.into_iter().map(Some).collect();
        let request = ClaimRequest {
            size: self.size,
            owners: &present,
            nodes: &nodes,
            target_n: TARGET_N,
            location_n,
            steps_max: STEPS_DEFAULT,
        };
        let mut claim = claim(&request).map_err(refused)?;
        if !replacements.is_empty() {
            // Counted from what is wished now, not from what the replacements alone would make of it.
            let present: Vec<Option<NodeId>> = before.iter().copied().map(Some).collect();
            claim.moves_bound =
                moves_bound(&ClaimRequest { owners: &present, ..request }).map_err(refused)?;
            claim.moved = before.iter().zip(&claim.owners).filter(|(before, after)| before != after).count();
        }
        Ok(claim)
    }

    /// Whether anything is staged that changes more than who stands in whose place.
    pub(super) fn is_claim_staged(&self, replacements: &BTreeMap<NodeId, NodeId>) -> bool {
        let takes_part = |node: &NodeId| {
            replacements.contains_key(node) || replacements.values().any(|replacement| replacement == node)
        };
        self.staging.changes.keys().any(|(node, kind)| match kind {
            ChangeKind::Replace | ChangeKind::ForceReplace => false,
            ChangeKind::Join | ChangeKind::Location => !takes_part(node),
            ChangeKind::Leave | ChangeKind::Rebalance | ChangeKind::ForceRemove => true,
        })
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
        replacements: &BTreeMap<NodeId, NodeId>,
        owners: &[NodeId],
        forced: &[Forced],
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
        for (old, new) in replacements {
            text(b"replaced");
            text(&old.0);
            text(&new.0);
        }
        for owner in owners {
            text(&owner.0);
        }
        for Forced { partition, from, possession } in forced {
            text(b"forced");
            text(&partition.0.to_be_bytes());
            text(&from.0);
            text(&possession.fence.to_be_bytes());
            text(&possession.holder.0);
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
        for Forced { partition, from, possession } in &plan.forced {
            let place = usize::from(partition.0);
            if self.possession.get(place).is_some_and(|held| held.holder == *from) {
                self.raise(place, *possession);
            }
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
