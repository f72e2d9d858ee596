//! What operators ask of this node, answered from the ring as it is seen here or passed on to the claimant. It decides
//! how the cluster is shown; the rules are core's.

use crate::administration::{
    Administration, AdministrationRefusal, Answering, AntiEntropyStatus, Availability, Change,
    ClusterSetting, ClusterStatus, HandoffStatus, MemberStatus, PartitionStatus, PlanStatus, PreflistPlace,
    PreflistStatus, RingStatus, StagedChange, StrayStatus,
};
use crate::claimant::{Command, Outcome, administer, change, refuse_if_up, staged_changes};
use crate::handoff::status::handoff_status;
use crate::joining::join;
use crate::node_core::NodeCore;
use crate::post::Postbox;
use crate::ring_manager::RingManager;
use crate::setting_administration;
use ringwork_core::claim::{ClaimNode, check};
use ringwork_core::gossip::detector;
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::limits::{N_VAL_MAX, TARGET_N};
use ringwork_core::membership::{ChangeRefusal, ClusterState};
use ringwork_core::preflist::{RingView, Role};
use ringwork_core::ring::KeyHash;
use std::collections::BTreeSet;
use std::sync::Arc;

/// See the module's head. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ClusterAdministration {
    node: Arc<NodeCore>,
    ring_manager: Postbox<RingManager>,
}

fn refusal(error: ChangeRefusal) -> AdministrationRefusal {
    AdministrationRefusal { code: error.code, detail: error.detail }
}

fn availability(view: &RingView, node: NodeId) -> Availability {
    match view.availability(node) {
        detector::Availability::Up => Availability::Up,
        detector::Availability::Suspect => Availability::Suspect,
        detector::Availability::Down => Availability::Down,
    }
}

/// The partitions that `me` is to repair: all that it holds, or those that are named, if each is among them.
fn wished_repairs(
    state: &ClusterState,
    me: NodeId,
    named: Option<Vec<u16>>,
) -> Result<BTreeSet<Partition>, AdministrationRefusal> {
    let Some(named) = named else { return Ok(state.held_by(me).collect()) };
    if named.is_empty() {
        return Err(AdministrationRefusal::new(
            "bad-request",
            "no partition is named; name one or more, or all",
        ));
    }
    let wished: BTreeSet<Partition> = named.into_iter().map(Partition).collect();
    for partition in &wished {
        let number = partition.0;
        let Some(holder) = state.holder(*partition) else {
            let count = state.size().count();
            return Err(AdministrationRefusal::new(
                "unknown-partition",
                format!("there is no partition {number}: the ring has {count}, from 0 to {}", count - 1),
            ));
        };
        if holder != me {
            let name = state.name_of(holder);
            return Err(AdministrationRefusal::new(
                "not-the-holder",
                format!("partition {number} is held by {name}, not by this node: ask {name} to repair it"),
            ));
        }
    }
    Ok(wished)
}

impl ClusterAdministration {
    /// Nothing is to move, nobody has what is another's, and what this node knows of has its data.
    fn is_settled(&self, state: &ClusterState) -> bool {
        let whole = state.unrepaired().next().is_none()
            && self.node.generations.lacking(state, self.node.id).is_empty();
        state.is_settled() && whole && !self.node.is_outside()
    }

    pub(crate) fn new(node: Arc<NodeCore>, ring_manager: Postbox<RingManager>) -> Self {
        Self { node, ring_manager }
    }

    fn view(&self) -> Arc<RingView> {
        self.node.ring.load_full()
    }

    fn waiting_for(state: &ClusterState) -> Vec<String> {
        state.waiting_for(state.stamp()).into_iter().map(|node| state.name_of(node)).collect()
    }

    fn member(&self, text: Option<&str>) -> Result<NodeId, AdministrationRefusal> {
        match text {
            None => Ok(self.node.id),
            Some(text) => self.view().state().find_member(text).map_err(refusal),
        }
    }

    fn pair(&self, old: &str, new: &str) -> Result<(NodeId, NodeId), AdministrationRefusal> {
        Ok((self.member(Some(old))?, self.member(Some(new))?))
    }

    fn answer<T: 'static>(
        &self,
        command: Result<Command, AdministrationRefusal>,
        then: impl FnOnce(&Self, Outcome) -> Result<T, AdministrationRefusal> + 'static,
    ) -> Answering<T> {
        let this = self.clone();
        Box::pin(async move {
            let outcome = administer(&this.node, &this.ring_manager, command?).await;
            then(&this, outcome)
        })
    }

    fn planned(&self, command: Command) -> Answering<PlanStatus> {
        self.answer(Ok(command), |_, outcome| {
            let none = || AdministrationRefusal::new("unreadable", "the claimant answered without a plan");
            outcome?.ok_or_else(none)
        })
    }

    fn partition_status(state: &ClusterState, partition: Partition) -> Option<PartitionStatus> {
        let place = usize::from(partition.0);
        let (possession, target) = (state.possession().get(place)?, state.target().owners().get(place)?);
        Some(PartitionStatus {
            partition: partition.0,
            index: state.size().index_of(partition).to_string(),
            holder: state.name_of(possession.holder),
            target: state.name_of(*target),
            fence: possession.fence,
            hop: possession.hop,
        })
    }
}

impl Administration for ClusterAdministration {
    fn cluster_status(&self) -> ClusterStatus {
        let view = self.view();
        let state = view.state();
        let waiting_for = Self::waiting_for(state);
        let total = state.size().count() as f64;
        let metadata = self.node.metadata.current();
        let said = |node| metadata.said(node);
        let members = state
            .members()
            .map(|(node, member)| {
                let partitions = state.held_by(node).count();
                let pending = state.target().owners().iter().filter(|owner| **owner == node).count();
                MemberStatus {
                    name: member.name.value().clone(),
                    id: node.to_string(),
                    address: member.address.value().clone(),
                    status: member.status().word().to_owned(),
                    available: availability(&view, node),
                    share: partitions as f64 / total,
                    pending_share: pending as f64 / total,
                    partitions,
                    pending_partitions: pending,
                    location: member.location.value().clone(),
                    services: state
                        .reports()
                        .get(&node)
                        .map(|report| report.services.iter().cloned().collect())
                        .unwrap_or_default(),
                    protocols: said(node).map(|said| (said.protocol_min, said.protocol_max)),
                    features: said(node).map(|said| said.features.into_iter().collect()).unwrap_or_default(),
                }
            })
            .collect::<Vec<_>>();
        let mut members = members;
        members.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        ClusterStatus {
            cluster: state.cluster().to_string(),
            node: self.node.name.clone(),
            features: self.node.metadata.active().iter().cloned().collect(),
            claimant: state.claimant().map(|claimant| state.name_of(claimant)),
            ring_ready: waiting_for.is_empty(),
            waiting_for,
            settled: self.is_settled(state),
            epoch: state.target().key().epoch,
            ring_size: state.size().count(),
            members,
            staged: staged_changes(state),
        }
    }

    fn ring_status(&self) -> RingStatus {
        let view = self.view();
        let state = view.state();
        let waiting_for = Self::waiting_for(state);
        let nodes: Vec<ClaimNode> = state
            .members()
            .filter(|(_, member)| member.status().claims())
            .map(|(node, member)| ClaimNode { node, location: member.location.value().clone() })
            .collect();
        let holders: Vec<NodeId> = state.possession().iter().map(|possession| possession.holder).collect();
        let location_n = TARGET_N.min(state.locations().len()).max(1);
        let violations = check(state.size(), &holders, &nodes, TARGET_N, location_n);
        RingStatus {
            ring_size: state.size().count(),
            epoch: state.target().key().epoch,
            claimant: state.claimant().map(|claimant| state.name_of(claimant)),
            ring_ready: waiting_for.is_empty(),
            waiting_for,
            settled: self.is_settled(state),
            pending: state.pending().filter_map(|p| Self::partition_status(state, p)).collect(),
            strays: state
                .strays()
                .map(|(node, partition)| StrayStatus {
                    node: state.name_of(node),
                    partition: partition.0,
                    holder: state.holder(partition).map(|holder| state.name_of(holder)).unwrap_or_default(),
                })
                .collect(),
            node_violations: violations.nodes,
            location_violations: violations.locations,
            incomplete: view.incomplete().iter().map(|partition| partition.0).collect(),
        }
    }

    fn partitions(&self, of: Option<&str>) -> Result<Vec<PartitionStatus>, AdministrationRefusal> {
        let view = self.view();
        let state = view.state();
        let of = of.map(|text| state.find_member(text).map_err(refusal)).transpose()?;
        let concerns = |partition: &Partition| {
            let wished = state.target().owners().get(usize::from(partition.0)).copied();
            of.is_none_or(|node| state.holder(*partition) == Some(node) || wished == Some(node))
        };
        let partitions = state.size().partitions().filter(concerns);
        Ok(partitions.filter_map(|partition| Self::partition_status(state, partition)).collect())
    }

    fn preflist(
        &self,
        service: &str,
        key: &[u8],
        n: Option<usize>,
    ) -> Result<PreflistStatus, AdministrationRefusal> {
        let known: Vec<&str> = self
            .node
            .started
            .load()
            .as_ref()
            .map(|started| started.services.keys().copied().collect())
            .unwrap_or_default();
        if !known.contains(&service) {
            return Err(AdministrationRefusal::new(
                "unknown-service",
                format!("this node does not run a service {service:?}; it runs {}", known.join(", ")),
            ));
        }
        let n = n.unwrap_or(self.node.quorum.n_val);
        if !(1..=N_VAL_MAX).contains(&n) {
            return Err(AdministrationRefusal::new(
                "bad-request",
                format!("n must be from 1 to {N_VAL_MAX}"),
            ));
        }
        let view = self.view();
        let state = view.state();
        let places = view
            .preflist(service, &KeyHash::of(service, key), n)
            .iter()
            .map(|entry| PreflistPlace {
                partition: entry.partition.0,
                node: state.name_of(entry.node),
                address: state
                    .member(entry.node)
                    .map(|member| member.address.value().clone())
                    .unwrap_or_default(),
                role: match entry.role {
                    Role::Primary => "primary",
                    Role::Fallback | Role::Stray => "fallback",
                }
                .to_owned(),
                stands_in_for: (entry.role != Role::Primary).then(|| state.name_of(entry.possession.holder)),
                available: availability(&view, entry.node),
            })
            .collect();
        Ok(PreflistStatus {
            service: service.to_owned(),
            key: String::from_utf8_lossy(key).into_owned(),
            places,
        })
    }

    fn stage(&self, change: Change) -> Answering<Vec<StagedChange>> {
        let staged = |this: &Self, outcome: Outcome| {
            outcome?;
            Ok(staged_changes(this.view().state()))
        };
        match change {
            Change::Join { seed } => {
                let this = self.clone();
                Box::pin(async move {
                    join(&this.node, &this.ring_manager, &seed).await?;
                    Ok(staged_changes(this.view().state()))
                })
            }
            Change::Leave { node } => self.answer(self.member(node.as_deref()).map(Command::Leave), staged),
            Change::Location { node, location } => {
                let member = self.member(node.as_deref());
                self.answer(member.map(|member| Command::Location(member, location)), staged)
            }
            Change::Rebalance => self.answer(Ok(Command::Rebalance), staged),
            Change::Replace { old, new } => {
                let pair = self.pair(&old, &new);
                self.answer(pair.map(|(old, new)| Command::Replace(old, new)), staged)
            }
            Change::ForceReplace { old, new } => {
                let pair = self.pair(&old, &new);
                self.answer(pair.map(|(old, new)| Command::ForceReplace(old, new)), staged)
            }
            Change::ForceRemove { node } => {
                self.answer(self.member(Some(&node)).map(Command::ForceRemove), staged)
            }
        }
    }

    fn mark_down(&self, node: &str) -> Answering<()> {
        let (this, found) = (self.clone(), self.member(Some(node)));
        Box::pin(async move {
            let node = found?;
            let name = this.view().name(node);
            refuse_if_up(&this.node, node, &format!("let it leave with 'ringwork cluster leave {name}'"))?;
            let me = this.node.id;
            change(&this.ring_manager, move |state| state.mark_down(node, me)).await.map(drop)
        })
    }

    fn plan(&self) -> Answering<PlanStatus> {
        self.planned(Command::Plan)
    }

    fn shown_plan(&self) -> Answering<PlanStatus> {
        self.planned(Command::ShownPlan)
    }

    fn commit(&self) -> Answering<PlanStatus> {
        self.planned(Command::Commit)
    }

    fn clear(&self) -> Answering<()> {
        self.answer(Ok(Command::Clear), |_, outcome| outcome.map(drop))
    }

    fn handoff_status(&self) -> HandoffStatus {
        handoff_status(&self.node.name, &self.node.handoff.snapshot(), &self.view())
    }

    fn settings(&self) -> Vec<ClusterSetting> {
        setting_administration::settings(&self.node)
    }

    fn setting(&self, key: &str) -> Result<ClusterSetting, AdministrationRefusal> {
        setting_administration::setting(&self.node, key)
    }

    fn change_setting(&self, key: &str, value: Option<&str>, of: Option<&str>) -> Answering<ClusterSetting> {
        let of = of.map(|text| self.member(Some(text))).transpose();
        let (node, key, value) = (self.node.clone(), key.to_owned(), value.map(str::to_owned));
        Box::pin(async move { setting_administration::change_setting(node, key, value, of?).await })
    }

    fn set_handoff_limit(
        &self,
        limit: Option<u32>,
        bytes_per_second: Option<Option<u64>>,
    ) -> Result<HandoffStatus, AdministrationRefusal> {
        let set = self.node.handoff.set(limit, bytes_per_second);
        set.map_err(|refusal| AdministrationRefusal::new("bad-limit", refusal.to_string()))?;
        Ok(self.handoff_status())
    }

    fn pause_handoff(&self) -> HandoffStatus {
        self.node.handoff.set_paused(true);
        self.handoff_status()
    }

    fn resume_handoff(&self) -> HandoffStatus {
        self.node.handoff.set_paused(false);
        self.handoff_status()
    }

    fn anti_entropy_status(&self) -> AntiEntropyStatus {
        let board = &self.node.repair;
        let services = board.snapshot().into_iter().map(|(service, line)| (service.to_owned(), line));
        AntiEntropyStatus {
            node: self.node.name.clone(),
            enabled: board.settings().compares(),
            interval_ms: u64::try_from(board.settings().interval.as_millis()).unwrap_or(u64::MAX),
            services: services.collect(),
        }
    }

    fn repair(&self, partitions: Option<Vec<u16>>) -> Result<Vec<u16>, AdministrationRefusal> {
        if self.node.is_stopping() {
            return Err(AdministrationRefusal::new(
                "stopping",
                "the node is about to end; ask it again then",
            ));
        }
        if self.node.is_outside() || self.node.handoff_manager.load().is_none() {
            let detail = "this node is in no cluster: there is nobody from whom it could fetch anything";
            return Err(AdministrationRefusal::new("not-a-member", detail));
        }
        let view = self.view();
        let wished = wished_repairs(view.state(), self.node.id, partitions)?;
        self.node.handoff.wish_repair(wished.clone());
        Ok(wished.into_iter().map(|partition| partition.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwork_core::ids::ClusterId;
    use ringwork_core::membership::{Member, Status};
    use ringwork_core::ring::RingSize;

    #[test]
    fn a_node_repairs_what_it_holds_and_says_who_holds_the_rest() {
        let (me, other) = (NodeId([1; 16]), NodeId([2; 16]));
        let member =
            |name: &str, node| Member::new(name, "10.0.0.1:8099", None, Status::Valid, node).unwrap();
        let size = RingSize::try_from(8).unwrap();
        let state = ClusterState::born(ClusterId([0; 16]), size, me, member("n1", me));
        let wished = |node, named: Option<&[u16]>| {
            let wished = wished_repairs(&state, node, named.map(<[u16]>::to_vec));
            let numbers = |set: BTreeSet<Partition>| set.into_iter().map(|p| p.0).collect::<Vec<_>>();
            wished.map(numbers).map_err(|refusal| (refusal.code, refusal.detail))
        };
        assert_eq!(wished(me, None).unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(wished(me, Some(&[7, 3, 3])).unwrap(), [3, 7]);
        for (node, named, code, word) in [
            (me, &[][..], "bad-request", "name one"),
            (me, &[3, 8], "unknown-partition", "from 0 to 7"),
            (me, &[u16::MAX], "unknown-partition", "65535"),
            (other, &[3], "not-the-holder", "partition 3 is held by n1"),
        ] {
            let (found, detail) = wished(node, Some(named)).unwrap_err();
            assert!(found == code && detail.contains(word), "{found}: {detail}");
        }
        assert_eq!(wished(other, None).unwrap(), [0; 0]);
    }
}
