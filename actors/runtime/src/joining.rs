//! How a node becomes a member: it asks a seed, which stages the join and answers with the cluster's state; the node
//! takes that over in place of its own. It decides what a joining node checks first and how often it tries again; who
//! may join, core decides.

use crate::administration::AdministrationRefusal;
use crate::claimant::change;
use crate::families;
use crate::net::{CallError, DialError, Network, RefusalReason, Responder};
use crate::node_core::{Ending, NodeCore};
use crate::post::Postbox;
use crate::ring_manager::{RingManager, RingMessage};
use crate::vnode_master::has_no_rows;
use bytes::Bytes;
use ringwork_core::gossip::detector::Availability;
use ringwork_core::membership::{ClusterState, Joiner, Status};
use ringwork_core::store::KeyspaceId;
use ringwork_core::wire::codec;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a seed may take to answer.
const SEED_WITHIN: Duration = Duration::from_secs(5);
/// How often a node that is to join looks whether it is empty and still.
const HOLD_BACK_ATTEMPTS_MAX: usize = 15;
/// Between two attempts of a node that was started with seeds, at first; doubled up to the last.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// For how long a member that has not moved finds nobody before it asks its seeds where the others are.
const ALONE_FOR: Duration = Duration::from_secs(3);
/// How long a node that waits to be admitted may find nobody before it asks other members to know it.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);
/// How often a member tries to say where it is.
const ANNOUNCEMENTS_MAX: usize = 120;

type Told = Result<ClusterState, AdministrationRefusal>;

/// Asks a seed to take this node into its cluster, and becomes a joining member of it.
pub(crate) async fn join(
    node: &Arc<NodeCore>,
    ring_manager: &Postbox<RingManager>,
    seed: &str,
) -> Result<(), AdministrationRefusal> {
    let Some(network) = node.network() else {
        let detail = "this node has no cluster address; set cluster.address";
        return Err(AdministrationRefusal::new("not-a-cluster-port", detail));
    };
    let state = node.ring.load().state().clone();
    let waits = state.status(node.id) == Some(Status::Joining);
    if state.members().count() > 1 && !waits {
        return Err(AdministrationRefusal::new(
            "already-a-member",
            format!(
                "this node is a member of a cluster of {} already; 'ringwork cluster leave' and an empty data \
                 directory come before another",
                state.members().count()
            ),
        ));
    }
    if !waits {
        refuse_if_it_holds_data(node).await?;
        hold_everything_back(node, ring_manager).await?;
    }
    let joined = ask_and_take_over(node, ring_manager, &network, seed, &state).await;
    if joined.is_err() && !waits {
        ring_manager.post_control(RingMessage::ThawAll);
    }
    joined
}

/// Requests wait from here on until the join has come to an end, so that nothing is written that the cluster would not
/// find. They wait as long as a seed may take at most.
async fn hold_everything_back(
    node: &Arc<NodeCore>,
    ring_manager: &Postbox<RingManager>,
) -> Result<(), AdministrationRefusal> {
    for _ in 0..HOLD_BACK_ATTEMPTS_MAX {
        let (done, empty) = oneshot::channel();
        ring_manager.post_control(RingMessage::FreezeAll(done));
        if empty.await == Ok(true) {
            return Ok(());
        }
        ring_manager.post_control(RingMessage::ThawAll);
        // It was written to since, or a vnode was just starting.
        refuse_if_it_holds_data(node).await?;
        tokio::time::sleep(RETRY_MIN).await;
    }
    Err(AdministrationRefusal::new("overloaded", "this node is busy with requests; try again"))
}

async fn ask_and_take_over(
    node: &Arc<NodeCore>,
    ring_manager: &Postbox<RingManager>,
    network: &Network,
    seed: &str,
    state: &ClusterState,
) -> Result<(), AdministrationRefusal> {
    let me = state.member(node.id);
    let joiner = Joiner {
        node: node.id,
        name: node.name.clone(),
        address: me.map_or_else(String::new, |me| me.address.value().clone()),
        location: me.and_then(|me| me.location.value().clone()),
        ring_size: state.size(),
        member_of: None,
        rebuilds: node.generations.has_lost(),
    };
    let body = codec::encode(&joiner)
        .map_err(|error| AdministrationRefusal::new("bad-request", error.to_string()))?;
    let (family, version) = (families::JOIN, families::VERSION);
    let answer = network.call_address(seed, family, version, SEED_WITHIN, Bytes::from(body)).await;
    let (welcome, incoming) = answer.map_err(|error| refused_by(seed, &error))?;
    let told: Told = codec::decode(&incoming.body)
        .map_err(|error| AdministrationRefusal::new("not-a-cluster-port", format!("{seed}: {error}")))?;
    let theirs = told?;
    if theirs.cluster() != welcome.cluster
        || theirs.size() != state.size()
        || theirs.status(node.id).is_none()
    {
        return Err(AdministrationRefusal::new(
            "seed-unreachable",
            format!("{seed} answered with a state that does not know this node; try again"),
        ));
    }
    let (done, joined) = oneshot::channel();
    ring_manager.post_control(RingMessage::JoinCluster(Box::new(theirs), done));
    let gone = || AdministrationRefusal::new("stopping", "the node is shutting down");
    joined.await.unwrap_or_else(|_| Err(gone()))?;
    node.outside.store(false, Ordering::Relaxed);
    tracing::info!(seed, by = welcome.name, cluster = %welcome.cluster, "joined; a plan and a commit admit this node");
    Ok(())
}

fn refused_by(seed: &str, error: &CallError) -> AdministrationRefusal {
    let code = match error {
        CallError::Dial(DialError::Refused { refused, .. }) => match refused.reason {
            RefusalReason::Ourselves => "seed-is-self",
            RefusalReason::RingSize => "different-ring-size",
            RefusalReason::Removed => "removed",
            RefusalReason::Protocol => "other-release",
            _ => "seed-unreachable",
        },
        CallError::Dial(DialError::NotRingwork { .. }) => "not-a-cluster-port",
        _ => "seed-unreachable",
    };
    let detail = match error {
        CallError::Dial(error) => error.to_string(),
        other => format!("{seed}: {other}"),
    };
    AdministrationRefusal::new(code, detail)
}

/// What a cluster of one holds would be strange to the one it joins: nobody would look for it here.
async fn refuse_if_it_holds_data(node: &Arc<NodeCore>) -> Result<(), AdministrationRefusal> {
    let looked = node.clone();
    let full = node
        .spawner
        .on_pool_for(move || {
            let written = |keyspace: &KeyspaceId| match keyspace {
                KeyspaceId::Vnode { .. } => !has_no_rows(&looked, keyspace),
                KeyspaceId::Node => false,
            };
            looked.store.keyspaces().map(|keyspaces| keyspaces.iter().filter(|k| written(k)).count())
        })
        .await
        .map_err(|_| AdministrationRefusal::new("overloaded", "the worker pool is full; try again"))?
        .map_err(|error| AdministrationRefusal::new("store-failed", error.to_string()))?;
    if full == 0 {
        return Ok(());
    }
    Err(AdministrationRefusal::new(
        "node-holds-data",
        format!(
            "this node holds data in {full} of its partitions, which the cluster it joins would not find: let the \
             other nodes join this one, or start it with an empty data directory"
        ),
    ))
}

/// Answers a node that asks to be taken in.
pub(crate) async fn serve(
    node: Arc<NodeCore>,
    ring_manager: Postbox<RingManager>,
    body: &[u8],
    respond: Responder,
) {
    let told: Told = match codec::decode::<Joiner>(body) {
        Err(error) => Err(AdministrationRefusal::new("bad-request", error.to_string())),
        Ok(_) if node.is_outside() => Err(AdministrationRefusal::new(
            "seed-unreachable",
            "the seed waits to be taken into a cluster itself; name a member of one",
        )),
        Ok(joiner) => {
            let me = node.id;
            let name = joiner.name.clone();
            let admitted = change(&ring_manager, move |state| match joiner.member_of {
                None => state.admit(&joiner, me),
                // A member that has moved: nobody would find it by the address that is known.
                Some(_) => state.readmit(&joiner),
            })
            .await;
            admitted.map(|state| {
                tracing::info!(node = name, "a node asks to join, or says where it is now");
                ClusterState::clone(&state)
            })
        }
    };
    let _ = respond.reply(families::VERSION, |out| codec::encode_into(&told, out));
}

/// Tells the cluster where this member is reached: any one member will do, the rest is gossip. A member that has
/// `moved` does so at once; another one when it has found nobody after a while, who may have moved in turn.
pub(crate) async fn announce_address(
    node: Arc<NodeCore>,
    ring_manager: Postbox<RingManager>,
    seeds: Vec<String>,
    moved: bool,
) {
    if !moved {
        tokio::time::sleep(ALONE_FOR).await;
    }
    let mut pause = RETRY_MIN;
    for _ in 0..ANNOUNCEMENTS_MAX {
        let view = node.ring.load_full();
        let state = view.state();
        let (Some(network), Some(me)) = (node.network(), state.member(node.id)) else { return };
        let others = || state.members().filter(|(other, _)| *other != node.id);
        let alone = others().all(|(other, _)| view.availability(other) == Availability::Down);
        if node.is_stopping() || (!moved && !alone) {
            return;
        }
        let joiner = Joiner {
            node: node.id,
            name: node.name.clone(),
            address: me.address.value().clone(),
            location: me.location.value().clone(),
            ring_size: state.size(),
            member_of: Some(state.cluster()),
            rebuilds: false,
        };
        let Ok(body) = codec::encode(&joiner).map(Bytes::from) else { return };
        let known = others().map(|(_, member)| member.address.value().clone());
        for address in seeds.iter().cloned().chain(known) {
            let (family, version) = (families::JOIN, families::VERSION);
            let call = network.call_address(&address, family, version, SEED_WITHIN, body.clone());
            let Ok((_, incoming)) = call.await else { continue };
            if let Ok(Ok(theirs)) = codec::decode::<Told>(&incoming.body) {
                tracing::info!(address, "a member was told where this node is reached now");
                ring_manager.post_control(RingMessage::MergeState(Box::new(theirs)));
                return;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
    tracing::warn!("no member could be told where this node is reached now; name one of them as a seed");
}

/// Sees that others know of this node, which waits to be admitted: the seed that took it in may have ended, or left the
/// cluster, before it told anybody. Whoever is a member by what this node knows is asked like a seed.
async fn be_known(node: &Arc<NodeCore>, ring_manager: &Postbox<RingManager>, seeds: Vec<String>) {
    loop {
        tokio::time::sleep(UNKNOWN_FOR).await;
        let view = node.ring.load_full();
        let state = view.state();
        if node.is_stopping() || state.status(node.id) != Some(Status::Joining) {
            return;
        }
        let others = || state.members().filter(|(other, _)| *other != node.id);
        if others().any(|(other, _)| view.availability(other) != Availability::Down) {
            continue;
        }
        let known = others().map(|(_, member)| member.address.value().clone());
        for address in known.chain(seeds.iter().cloned()) {
            match join(node, ring_manager, &address).await {
                Ok(()) => break,
                Err(refusal) => tracing::debug!(address, why = refusal.detail, "asked to be known, in vain"),
            }
        }
    }
}

/// Keeps asking the seeds, one after the other, until one takes this node in. Ends the node when one says no for a
/// reason that time does not mend. The node that is `first` of the seeds founds the cluster when no other is a member
/// of one.
pub(crate) async fn join_through(
    node: Arc<NodeCore>,
    ring_manager: Postbox<RingManager>,
    seeds: Vec<String>,
    first: bool,
) {
    let mut pause = RETRY_MIN;
    loop {
        for seed in &seeds {
            if node.is_stopping() {
                return;
            }
            match join(&node, &ring_manager, seed).await {
                Ok(()) => return be_known(&node, &ring_manager, seeds).await,
                Err(refusal) => match refusal.code.as_str() {
                    // An operator may have joined it by hand meanwhile.
                    "already-a-member" if node.ring.load().state().members().count() > 1 => {
                        return node.outside.store(false, Ordering::Relaxed);
                    }
                    "name-taken"
                    | "removed"
                    | "different-ring-size"
                    | "node-holds-data"
                    | "already-a-member" => {
                        let why = format!("cannot join through {seed}: {refusal}");
                        return node.end(Ending::Failed(why));
                    }
                    "seed-is-self" => {}
                    _ => {
                        tracing::warn!(
                            seed,
                            why = refusal.detail,
                            "the seed does not take this node in; trying on"
                        );
                    }
                },
            }
        }
        if first {
            tracing::info!(
                "this node is the first of its seeds, and no other is a member: it founds the cluster"
            );
            return node.outside.store(false, Ordering::Relaxed);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}
