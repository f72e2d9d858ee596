//! Changes of generation with vnodes that run: hold what comes for the partition back, change what the node keeps of
//! it, let everything go on in the next generation. It decides the order in which that is safe; when it is due, the
//! transfers and the ring manager know.

use super::generations::{Claim, Generations};
use super::service::Services;
use crate::node_core::NodeCore;
use crate::vnode_master::HeldBack;
use ringwork_core::ids::Partition;
use ringwork_core::transfer::{GenerationId, Outbound};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often a partition that somebody else holds back is tried again.
const CLAIM_PAUSE: Duration = Duration::from_millis(5);
/// How long a vnode that cannot be held back at once, because it is being started, is tried again.
const HOLD_TRIES: usize = 200;

/// A partition whose vnodes are held back, in every service.
pub(crate) struct HeldPartition {
    services: Services,
    partition: Partition,
    /// Keys that are dirty and not read, by the service's place; none where nothing is marked.
    pub(crate) waiting: BTreeMap<u8, Option<usize>>,
    reopened: bool,
    /// Given back after everything was told to go on.
    _claim: Claim,
}

impl HeldPartition {
    /// Ends the vnodes: what was held back goes to their next lives, in the generation that is live now.
    pub(crate) async fn reopen(mut self) {
        self.reopened = true;
        for service in self.services.iter() {
            service.reopen(self.partition).await;
        }
    }
}

impl Drop for HeldPartition {
    fn drop(&mut self) {
        if !self.reopened {
            for service in self.services.iter() {
                service.thaw(self.partition);
            }
        }
    }
}

/// Holds a partition back in every service; none when somebody else does, or a vnode cannot be held back. With
/// `running` only vnodes that run are, and such as do not are started first.
pub(crate) async fn hold(
    generations: &Arc<Generations>,
    services: &Services,
    partition: Partition,
    running: bool,
) -> Option<HeldPartition> {
    let claim = generations.claim(partition)?;
    hold_claimed(claim, services, partition, running).await
}

async fn hold_claimed(
    claim: Claim,
    services: &Services,
    partition: Partition,
    running: bool,
) -> Option<HeldPartition> {
    let mut held = HeldPartition {
        services: services.clone(),
        partition,
        waiting: BTreeMap::new(),
        reopened: false,
        _claim: claim,
    };
    for (service, place) in services.iter().zip(0u8..) {
        let waiting = match service.hold(partition, running).await? {
            HeldBack::Unmarked => None,
            HeldBack::Marked(waiting) => Some(waiting),
        };
        held.waiting.insert(place, waiting);
    }
    Some(held)
}

/// As [`hold`], and waits for whoever holds it back now.
async fn hold_in_turn(
    generations: &Arc<Generations>,
    services: &Services,
    partition: Partition,
) -> Option<HeldPartition> {
    for _ in 0..HOLD_TRIES {
        if let Some(held) = hold(generations, services, partition, false).await {
            return Some(held);
        }
        tokio::time::sleep(CLAIM_PAUSE).await;
    }
    None
}

/// The live generation is sealed, and that is synced: nothing is merged into it any more. Answers with which it was, or
/// why it was not done.
pub(crate) async fn seal(
    node: &Arc<NodeCore>,
    services: &Services,
    partition: Partition,
) -> Result<GenerationId, String> {
    let Some(held) = hold_in_turn(&node.generations, services, partition).await else {
        return Err("the partition is held back by something else".to_owned());
    };
    if node.ring.load().state().holder(partition) == Some(node.id) {
        return Err("the partition is held here now".to_owned());
    }
    // What it was marked with stays: it is a stray until it has come home.
    node.strays.mark(partition);
    let sealed = node.generations.seal_live(partition).map_err(|error| error.to_string())?;
    held.reopen().await;
    node.storage.barrier(true).await.map_err(|error| error.to_string())?;
    sealed.ok_or_else(|| "there is no such partition".to_owned())
}

/// Possession has come here, with what was collected for it: that is the live generation from now on. Before anybody
/// acts upon the state that says so. Whether there was anything to take over.
pub(crate) async fn take_over(node: &Arc<NodeCore>, services: &Services, partition: Partition) -> bool {
    let is_inbound = || node.generations.held(partition).is_some_and(|held| held.inbound.is_some());
    while is_inbound() && !node.is_stopping() {
        if let Some(held) = hold_in_turn(&node.generations, services, partition).await {
            let taken = node.generations.inherit(partition).is_some();
            held.reopen().await;
            return taken;
        }
    }
    false
}

/// Possession was passed on: the generation that was sent is sealed, its marks mean nothing any more.
pub(crate) async fn bequeath(
    node: &Arc<NodeCore>,
    services: &Services,
    partition: Partition,
    held: HeldPartition,
) -> Result<(), String> {
    node.generations.update(partition, |held| held.outbound = None);
    let sealed = node.generations.seal_live(partition);
    for service in services.iter() {
        service.forget(partition);
    }
    held.reopen().await;
    sealed.map(drop).map_err(|error| error.to_string())
}

/// Keeps what is about to be passed on, synced.
pub(crate) async fn intend(
    node: &Arc<NodeCore>,
    partition: Partition,
    outbound: Outbound,
) -> Result<(), String> {
    node.generations.update(partition, |held| held.intent = Some(Box::new(outbound)));
    node.storage.barrier(true).await.map_err(|error| error.to_string())
}

/// Removes a sealed generation, and takes the partition off the list of strays if nothing of it is left.
pub(crate) async fn drop_generation(
    node: &Arc<NodeCore>,
    partition: Partition,
    generation: GenerationId,
) -> Result<(), String> {
    let generations = node.generations.clone();
    let dropped =
        node.spawner.on_pool_in_turn(move || generations.drop_generation(partition, generation)).await;
    dropped.map_err(|_| "the worker pool is full".to_owned())?.map_err(|error| error.to_string())
}
