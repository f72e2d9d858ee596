//! How members that do not know each other find together: one is refused as unknown by a node that it knows for a
//! member, and brings its state as a guest; the other takes it over, and answers with what it has then. It decides how
//! often one member introduces itself to another; whose state is taken over, core decides.

use crate::administration::AdministrationRefusal;
use crate::claimant::change;
use crate::families;
use crate::net::{Network, Responder};
use crate::node_core::NodeCore;
use crate::post::Postbox;
use crate::ring_manager::{RingManager, RingMessage};
use bytes::Bytes;
use ringwork_core::ids::NodeId;
use ringwork_core::membership::{ClusterState, Status};
use ringwork_core::wire::codec;
use std::sync::Arc;
use std::time::Duration;

/// How long the other may take to take it over.
const WITHIN: Duration = Duration::from_secs(5);
/// Between two introductions to the same node: as long as one may take, so that there are never two at once.
pub(crate) const INTRODUCTION_INTERVAL_MS: u64 = 5_000;

type Told = Result<ClusterState, AdministrationRefusal>;

/// Brings this node's state to `to`, which did not let it in because it does not know it. Where that fails, being
/// refused the next time leads here again.
pub(crate) async fn introduce(
    node: Arc<NodeCore>,
    network: Network,
    ring_manager: Postbox<RingManager>,
    to: NodeId,
) {
    let state = node.ring.load().state().clone();
    let admitted = !matches!(state.status(node.id), None | Some(Status::Joining | Status::Removed));
    let Some(member) = state.member(to).filter(|member| admitted && member.is_member()) else { return };
    let (name, address) = (member.name.value(), member.address.value());
    let Ok(body) = codec::encode(&*state).map(Bytes::from) else { return };
    let (family, version) = (families::INTRODUCTION, families::VERSION);
    let told = match network.call_address(address, family, version, WITHIN, body).await {
        Ok((_, incoming)) => codec::decode::<Told>(&incoming.body).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match told {
        Ok(Ok(theirs)) => {
            tracing::info!(peer = name, "a member that did not know this node was told of it");
            let _ = ring_manager.post(RingMessage::MergeState(Box::new(theirs)));
        }
        Ok(Err(refusal)) => tracing::warn!(peer = name, why = %refusal, "a member does not know this node"),
        Err(why) => tracing::debug!(peer = name, why, "a member could not be told of this node"),
    }
}

/// Answers a node that introduces itself.
pub(crate) async fn serve(
    node: Arc<NodeCore>,
    ring_manager: Postbox<RingManager>,
    by: NodeId,
    body: &[u8],
    respond: Responder,
) {
    let told: Told = match codec::decode::<ClusterState>(body) {
        Err(error) => Err(AdministrationRefusal::new("bad-request", error.to_string())),
        Ok(theirs) => {
            let (me, name) = (node.id, theirs.name_of(by));
            let taken = change(&ring_manager, move |state| state.take_introduction(me, by, &theirs)).await;
            taken.map(|state| {
                tracing::info!(peer = name, "a member that was not known here has introduced itself");
                ClusterState::clone(&state)
            })
        }
    };
    let _ = respond.reply(families::VERSION, |out| codec::encode_into(&told, out));
}
