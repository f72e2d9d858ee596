//! What an operator asks of the cluster and only the claimant may do, at the claimant or on the way to it. Any node can
//! be asked: it sends the request on together with its own state, the claimant learns from that, acts, and answers
//! with its state, so that whoever asked sees what was done. It decides nothing about plans (core does).

use crate::administration::{AdministrationRefusal, PlanStatus, PlannedMove, PlannedShare, StagedChange};
use crate::families;
use crate::net::{CallError, Channel, Responder};
use crate::node_core::NodeCore;
use crate::post::Postbox;
use crate::ring_manager::{Change, Changed, RingManager, RingMessage};
use ringwork_core::gossip::detector::Availability;
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::membership::{ChangeDetail, ChangeKind, ChangeRefusal, ClusterState, Plan, Status};
use ringwork_core::wire::codec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the claimant may take: a plan of a large ring is seconds of work.
const CLAIMANT_WITHIN: Duration = Duration::from_secs(20);
/// How long a change may take to reach the disk.
const CHANGE_WITHIN: Duration = Duration::from_secs(15);
/// How often a plan is worked out again because the state changed meanwhile.
const PLAN_ATTEMPTS_MAX: usize = 5;

/// What the claimant is asked to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Stage that a member leaves.
    Leave(NodeId),
    /// Stage a member's location.
    Location(NodeId, Option<String>),
    /// Stage a rebalance.
    Rebalance,
    /// Stage that the first gives all it has to the second.
    Replace(NodeId, NodeId),
    /// Stage that the first is lost and the second takes its place.
    ForceReplace(NodeId, NodeId),
    /// Stage that a member is lost.
    ForceRemove(NodeId),
    /// Work out what a commit would do, and note that it was shown.
    Plan,
    /// Work it out again, if it still is what was shown.
    ShownPlan,
    /// Do it.
    Commit,
    /// Forget what is staged.
    Clear,
}

/// What came of it: a plan where there is one.
pub(crate) type Outcome = Result<Option<PlanStatus>, AdministrationRefusal>;

#[derive(Serialize, Deserialize)]
struct Asked {
    state: ClusterState,
    command: Command,
}

#[derive(Serialize, Deserialize)]
struct Told {
    state: ClusterState,
    outcome: Outcome,
}

fn refusal(error: ChangeRefusal) -> AdministrationRefusal {
    AdministrationRefusal { code: error.code, detail: error.detail }
}

/// Refuses what is only right for a node that does not answer; `instead` is the way out when it does.
pub(crate) fn refuse_if_up(
    node: &NodeCore,
    other: NodeId,
    instead: &str,
) -> Result<(), AdministrationRefusal> {
    let view = node.ring.load();
    if other != node.id && view.availability(other) == Availability::Down {
        return Ok(());
    }
    let (name, me) = (view.name(other), &node.name);
    let detail = format!("{name} is not down as node {me} sees it: stop it first, or {instead}");
    Err(AdministrationRefusal::new("node-is-up", detail))
}

/// Makes a change at this node and waits until it is durable.
pub(crate) async fn change(
    ring_manager: &Postbox<RingManager>,
    change: impl FnOnce(&mut ClusterState) -> Result<(), ChangeRefusal> + Send + 'static,
) -> Changed {
    let (done, changed) = oneshot::channel();
    let change: Change = Box::new(change);
    if ring_manager.post(RingMessage::Change(change, done)).is_err() {
        return Err(AdministrationRefusal::new(
            "overloaded",
            "the ring manager has as much waiting as it may",
        ));
    }
    let gone = || AdministrationRefusal::new("stopping", "the node is shutting down");
    let late = || {
        let detail = "the change is not on disk yet: it may be done; see 'ringwork cluster status'";
        AdministrationRefusal::new("deadline", detail)
    };
    match tokio::time::timeout(CHANGE_WITHIN, changed).await {
        Ok(changed) => changed.unwrap_or_else(|_| Err(gone())),
        Err(_) => Err(late()),
    }
}

/// Carries a command out at the claimant, wherever that is.
pub(crate) async fn administer(
    node: &Arc<NodeCore>,
    ring_manager: &Postbox<RingManager>,
    command: Command,
) -> Outcome {
    let state = node.ring.load().state().clone();
    let Some(claimant) = state.claimant() else {
        return Err(AdministrationRefusal::new(
            "claimant-unreachable",
            "no member is valid and not marked down, so none can act for the cluster: start one that was marked down",
        ));
    };
    if claimant == node.id {
        return carry_out(node, ring_manager, command).await;
    }
    let name = state.name_of(claimant);
    let unreachable = |why: String| {
        AdministrationRefusal::new(
            "claimant-unreachable",
            format!(
                "only the claimant {name} may do this, and it cannot be reached ({why}). Start it, or mark it as \
                 down with 'ringwork cluster down {name}' so that another member acts for the cluster"
            ),
        )
    };
    let Some(network) = node.network() else {
        return Err(unreachable("this node has no cluster address".to_owned()));
    };
    let asked = Asked { state: ClusterState::clone(&state), command };
    let encode = |out: &mut Vec<u8>| codec::encode_into(&asked, out);
    let (channel, family) = (Channel::Control, families::ADMINISTRATION);
    let answer = network.call(claimant, channel, family, families::VERSION, CLAIMANT_WITHIN, encode).await;
    let body = match answer {
        Ok(incoming) => incoming.body,
        Err(CallError::Link(_)) => {
            return Err(AdministrationRefusal::new(
                "deadline",
                format!(
                    "the claimant {name} was asked and has not answered: it may have been done. See 'ringwork \
                     cluster status'"
                ),
            ));
        }
        Err(error) => return Err(unreachable(error.to_string())),
    };
    let told: Told = codec::decode(&body).map_err(|error| unreachable(error.to_string()))?;
    // So that whoever asked here sees here what was done there.
    let theirs = told.state;
    let _ = change(ring_manager, move |ours| {
        ours.merge(&theirs)
            .map(drop)
            .map_err(|error| ChangeRefusal { code: "other-cluster".to_owned(), detail: error.to_string() })
    })
    .await;
    told.outcome
}

/// Serves a command that another node has sent on.
pub(crate) async fn serve(
    node: Arc<NodeCore>,
    ring_manager: Postbox<RingManager>,
    body: &[u8],
    respond: Responder,
) {
    let outcome = match codec::decode::<Asked>(body) {
        Err(error) => {
            Err(AdministrationRefusal::new("unreadable", format!("the request cannot be read: {error}")))
        }
        Ok(Asked { state, command }) => {
            // Full, the claimant acts on what it knows; whoever asked sees that in the answer.
            let _ = ring_manager.post(RingMessage::MergeState(Box::new(state)));
            // After the merge: the change that follows is handled after it, and reads what it left.
            match change(&ring_manager, |_| Ok(())).await {
                Ok(state) if state.claimant() == Some(node.id) => {
                    carry_out(&node, &ring_manager, command).await
                }
                Ok(state) => Err(AdministrationRefusal::new(
                    "claimant-unreachable",
                    format!(
                        "the claimant is {} now; ask again",
                        state
                            .claimant()
                            .map_or_else(|| "nobody".to_owned(), |claimant| state.name_of(claimant))
                    ),
                )),
                Err(refused) => Err(refused),
            }
        }
    };
    let state = ClusterState::clone(node.ring.load().state());
    let told = Told { state, outcome };
    let _ = respond.reply(families::VERSION, |out| codec::encode_into(&told, out));
}

async fn carry_out(node: &Arc<NodeCore>, ring_manager: &Postbox<RingManager>, command: Command) -> Outcome {
    let me = node.id;
    let staged = match command {
        Command::Leave(member) => change(ring_manager, move |state| state.stage_leave(member, me)).await,
        Command::Location(member, location) => {
            change(ring_manager, move |state| state.stage_location(member, location, me)).await
        }
        Command::Rebalance => {
            change(ring_manager, move |state| {
                state.stage_rebalance(me);
                Ok(())
            })
            .await
        }
        Command::Replace(old, new) => {
            change(ring_manager, move |state| state.stage_replace(old, new, me)).await
        }
        Command::ForceReplace(old, new) => {
            let (name, other) = (node.name_of(old), node.name_of(new));
            let instead =
                format!("let it pass on what it has with 'ringwork cluster replace {name} {other}'");
            refuse_if_up(node, old, &instead)?;
            change(ring_manager, move |state| state.stage_force_replace(old, new, me)).await
        }
        Command::ForceRemove(member) => {
            let name = node.name_of(member);
            let instead = format!("let it pass on what it has with 'ringwork cluster leave {name}'");
            refuse_if_up(node, member, &instead)?;
            change(ring_manager, move |state| state.stage_force_remove(member, me)).await
        }
        Command::Clear => {
            change(ring_manager, |state| {
                state.clear_staging();
                Ok(())
            })
            .await
        }
        Command::Plan | Command::ShownPlan | Command::Commit => {
            return plan_and(node, ring_manager, &command).await;
        }
    };
    staged.map(|_| None)
}

/// Works the plan out off this thread, and does what is asked with it unless the state has changed meanwhile.
async fn plan_and(node: &Arc<NodeCore>, ring_manager: &Postbox<RingManager>, command: &Command) -> Outcome {
    let me = node.id;
    for _ in 0..PLAN_ATTEMPTS_MAX {
        let state = change(ring_manager, |_| Ok(())).await?;
        let (planner, stamp) = (state.clone(), state.stamp());
        // Between staging and now it may have come back, with all that it was to lose.
        for (lost, kind) in state.staging().changes.keys().filter(|(_, kind)| kind.is_forced()) {
            let staged = format!(
                "forget with 'ringwork cluster clear' that '{} {}' is staged",
                kind.word(),
                state.name_of(*lost)
            );
            refuse_if_up(node, *lost, &staged)?;
        }
        let plan = node
            .spawner
            .on_pool_for(move || planner.plan())
            .await
            .map_err(|_| AdministrationRefusal::new("overloaded", "the worker pool is full; try again"))?
            .map_err(refusal)?;
        let status = plan_status(&state, &plan, node.quorum.n_val);
        if *command == Command::ShownPlan {
            return match state.staging().shown() {
                Some(shown) if shown == plan.digest => Ok(Some(status)),
                _ => Err(AdministrationRefusal::new(
                    "no-plan",
                    "no plan was shown for what is staged now: run 'ringwork cluster plan'",
                )),
            };
        }
        let commits = *command == Command::Commit;
        let (sender, receiver) = oneshot::channel();
        let changed = change(ring_manager, move |state| {
            let same = state.stamp() == stamp;
            let _ = sender.send(same);
            match (same, commits) {
                (false, _) => Ok(()),
                (true, true) => state.commit(&plan, me),
                (true, false) => {
                    state.show_plan(&plan, me);
                    Ok(())
                }
            }
        })
        .await;
        let same = receiver.await.unwrap_or(false);
        changed?;
        if same {
            return Ok(Some(status));
        }
    }
    Err(AdministrationRefusal::new(
        "plan-changed",
        "the cluster changes faster than a plan is made; try again",
    ))
}

/// Claims all partitions anew, because some are wished to removed members; see
/// [`ClusterState::wishes_to_removed`]. An error means that nothing was done.
pub(crate) async fn claim_anew(
    node: &Arc<NodeCore>,
    ring_manager: &Postbox<RingManager>,
) -> Result<(), AdministrationRefusal> {
    let me = node.id;
    let state = change(ring_manager, |_| Ok(())).await?.with_only_a_rebalance_staged(me);
    let plan = node
        .spawner
        .on_pool_for(move || state.plan())
        .await
        .map_err(|_| AdministrationRefusal::new("overloaded", "the worker pool is full"))?
        .map_err(refusal)?;
    let commit = move |state: &mut ClusterState| {
        if !state.wishes_to_removed(me) {
            return Err(ChangeRefusal {
                code: "plan-changed".to_owned(),
                detail: "the cluster has changed while it was planned".to_owned(),
            });
        }
        let mut anew = state.with_only_a_rebalance_staged(me);
        anew.show_plan(&plan, me);
        anew.commit(&plan, me)?;
        *state = anew;
        Ok(())
    };
    change(ring_manager, commit).await.map(drop)
}

/// What is staged, by names.
pub(crate) fn staged_changes(state: &ClusterState) -> Vec<StagedChange> {
    let staged = state.staging().changes.iter();
    staged.map(|((node, kind), register)| staged_change(state, *node, *kind, register.value())).collect()
}

fn staged_change(
    state: &ClusterState,
    node: NodeId,
    kind: ChangeKind,
    detail: &ChangeDetail,
) -> StagedChange {
    let node = if kind == ChangeKind::Rebalance { String::new() } else { state.name_of(node) };
    let (location, with) = match detail {
        ChangeDetail::Nothing => (None, None),
        ChangeDetail::Location(location) => (location.clone(), None),
        ChangeDetail::By(other) => (None, Some(state.name_of(*other))),
    };
    StagedChange { kind: kind.word().to_owned(), node, location, with }
}

fn plan_status(state: &ClusterState, plan: &Plan, n_val: usize) -> PlanStatus {
    let count = |owners: &[NodeId]| {
        let mut counts: BTreeMap<NodeId, usize> = BTreeMap::new();
        for owner in owners {
            *counts.entry(*owner).or_default() += 1;
        }
        counts
    };
    let (before, after) = (count(state.target().owners()), count(&plan.claim.owners));
    let shares = plan
        .statuses
        .iter()
        .map(|(node, status)| PlannedShare {
            node: state.name_of(*node),
            status: status.word().to_owned(),
            before: before.get(node).copied().unwrap_or(0),
            after: after.get(node).copied().unwrap_or(0),
        })
        .collect();
    let violations = &plan.claim.violations;
    PlanStatus {
        digest: plan.digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        epoch: plan.epoch,
        changes: plan
            .changes
            .iter()
            .map(|(node, kind, detail)| staged_change(state, *node, *kind, detail))
            .collect(),
        shares,
        moves: by_nodes(state, plan.moves.iter().copied()),
        forced: by_nodes(
            state,
            plan.forced.iter().map(|forced| (forced.partition, forced.from, forced.possession.holder)),
        ),
        moved: plan.moves.len(),
        moved_bound: plan.claim.moves_bound,
        node_violations: violations.nodes.clone(),
        location_violations: violations.locations.clone(),
        warnings: warnings(state, plan).into_iter().chain(losses(state, plan, n_val)).collect(),
    }
}

/// Partitions by whom they come from and whom they go to.
fn by_nodes(
    state: &ClusterState,
    moves: impl Iterator<Item = (Partition, NodeId, NodeId)>,
) -> Vec<PlannedMove> {
    let mut by_nodes: BTreeMap<(String, String), Vec<u16>> = BTreeMap::new();
    for (partition, from, to) in moves {
        by_nodes.entry((state.name_of(from), state.name_of(to))).or_default().push(partition.0);
    }
    by_nodes.into_iter().map(|((from, to), partitions)| PlannedMove { from, to, partitions }).collect()
}

fn warnings(state: &ClusterState, plan: &Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    let claiming = plan.statuses.values().filter(|status| status.claims()).count();
    if claiming < 3 {
        warnings.push(format!(
            "with {claiming} node{} that can hold data, three replicas cannot lie on three nodes",
            if claiming == 1 { "" } else { "s" }
        ));
    }
    let partitions = state.size().count();
    if claiming > partitions {
        warnings.push(format!(
            "{} nodes get nothing: the ring has {partitions} partitions",
            claiming - partitions
        ));
    }
    let places: Vec<&Option<String>> = plan
        .statuses
        .iter()
        .filter(|(_, status)| status.claims())
        .filter_map(|(node, _)| plan.locations.get(node))
        .collect();
    let unnamed = places.iter().filter(|place| place.is_none()).count();
    if unnamed > 0 && unnamed < places.len() {
        warnings.push(format!("{unnamed} nodes have no location; each counts as one of its own"));
    }
    for (node, status) in &plan.statuses {
        if matches!(status, Status::Down(_)) {
            warnings.push(format!("{} is marked down and keeps its share", state.name_of(*node)));
        }
    }
    if plan.claim.exhausted {
        warnings
            .push("the ring is large: this is the best that was found in time, not the best there is".into());
    }
    warnings
}

/// What a commit gives up for good, and what it only puts at risk.
fn losses(state: &ClusterState, plan: &Plan, n_val: usize) -> Vec<String> {
    let mut losses = Vec::new();
    let lost: Vec<String> = plan
        .changes
        .iter()
        .filter(|(_, kind, _)| kind.is_forced())
        .map(|(node, _, _)| state.name_of(*node))
        .collect();
    if !lost.is_empty() {
        losses.push(format!(
            "{} will be removed for good: acknowledged writes that nobody else has, as a holder or for another node, \
             are lost",
            lost.join(", ")
        ));
    }
    if !plan.forced.is_empty() {
        losses.push(format!(
            "{} partitions are taken from whoever does not come back: their new holders begin without data, and get \
             it from the other replicas",
            plan.forced.len()
        ));
    }
    let windows = state.windows_lost(&plan.forced, n_val);
    if windows > 0 && !plan.forced.is_empty() {
        let size = state.size();
        losses.push(format!(
            "of {windows} of {size} parts of the keys no replica is left (n = {n_val}): what was written there is \
             lost, but for what stand-ins still have"
        ));
    }
    losses
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwork_core::ids::ClusterId;
    use ringwork_core::membership::{Joiner, Member};
    use ringwork_core::ring::RingSize;

    fn id(n: u8) -> NodeId {
        NodeId([n; 16])
    }

    fn committed(state: &mut ClusterState) {
        let plan = state.plan().unwrap();
        state.show_plan(&plan, id(1));
        state.commit(&plan, id(1)).unwrap();
        for n in [1, 2, 3] {
            for partition in state.size().partitions() {
                state.pass_on(id(n), partition);
            }
        }
    }

    fn joined(state: &mut ClusterState, n: u8) {
        let joiner = Joiner {
            node: id(n),
            name: format!("n{n}"),
            address: format!("127.0.0.1:{n}"),
            location: None,
            ring_size: state.size(),
            member_of: None,
            rebuilds: false,
        };
        state.admit(&joiner, id(1)).unwrap();
    }

    #[test]
    fn a_plan_says_what_is_given_up_for_good() {
        let member = Member::new("n1", "127.0.0.1:1", None, Status::Valid, id(1)).unwrap();
        let mut state = ClusterState::born(ClusterId([7; 16]), RingSize::try_from(8).unwrap(), id(1), member);
        joined(&mut state, 2);
        committed(&mut state);
        joined(&mut state, 3);
        state.stage_force_replace(id(2), id(3), id(1)).unwrap();
        let status = |n_val| plan_status(&state, &state.plan().unwrap(), n_val);
        let (alone, twice) = (status(1), status(2));
        let said = alone.warnings.join("\n");
        assert!(
            said.contains("n2 will be removed for good") && said.contains("4 partitions are taken"),
            "{said}"
        );
        assert!(said.contains("of 4 of 8 parts of the keys no replica is left (n = 1)"), "{said}");
        assert!(!twice.warnings.join("\n").contains("no replica"), "n1 has a replica of everything");
        let forced = &alone.forced[..];
        assert_eq!((forced.len(), forced[0].from.as_str(), forced[0].to.as_str()), (1, "n2", "n3"));
        assert_eq!((alone.moved, alone.moves.len(), alone.passed_on()), (4, 1, 0));
        let change = alone.changes.iter().find(|change| change.kind == "force-replace").unwrap();
        assert_eq!((change.node.as_str(), change.with.as_deref()), ("n2", Some("n3")));
        state.clear_staging();
        state.stage_replace(id(2), id(3), id(1)).unwrap();
        let peaceful = plan_status(&state, &state.plan().unwrap(), 1);
        assert_eq!((peaceful.moved, peaceful.passed_on(), peaceful.forced.len()), (4, 4, 0));
        assert!(!peaceful.warnings.join("\n").contains("removed for good"), "{:?}", peaceful.warnings);
    }
}
