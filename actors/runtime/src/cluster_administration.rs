//! What operators ask of this node, answered from the ring as it is seen here or passed on to the claimant. It decides
//! how the cluster is shown; the rules are core's.

use crate::administration::{
    Administration, AdministrationRefusal, Answering, Availability, Change, ClusterStatus, MemberStatus,
    PartitionStatus, PlanStatus, PreflistPlace, PreflistStatus, RingStatus, StagedChange, StrayStatus,
};
use crate::claimant::{Command, Outcome, administer, change, refuse_if_up, staged_changes};
use crate::joining::join;
use crate::node_core::NodeCore;
use crate::post::Postbox;
use crate::ring_manager::RingManager;
use ringwork_core::claim::{ClaimNode, check};
use ringwork_core::gossip::detector;
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::limits::{N_VAL_MAX, TARGET_N};
use ringwork_core::membership::{ChangeRefusal, ClusterState};
use ringwork_core::preflist::{RingView, Role};
use ringwork_core::ring::KeyHash;
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

impl ClusterAdministration {
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
                }
            })
            .collect::<Vec<_>>();
        let mut members = members;
        members.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        ClusterStatus {
            cluster: state.cluster().to_string(),
            node: self.node.name.clone(),
            claimant: state.claimant().map(|claimant| state.name_of(claimant)),
            ring_ready: waiting_for.is_empty(),
            waiting_for,
            settled: state.is_settled() && !self.node.is_outside(),
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
            settled: state.is_settled() && !self.node.is_outside(),
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
}
