//! What all parts of a node share: who it is, time, the store, the ring as it is seen now, the way to other nodes.
//! It decides nothing; it is handed to every actor, because there are no globals.

use crate::antientropy::board::RepairBoard;
use crate::beat::Beat;
use crate::handoff::board::HandoffBoard;
use crate::handoff::generations::Generations;
use crate::handoff::manager::{HandoffManager, ManagerMessage};
use crate::latencies::PeerLatencies;
use crate::metadata::MetadataBoard;
use crate::metadata_manager::MetadataManager;
use crate::net::Network;
use crate::post::Postbox;
use crate::randomness::Randomness;
use crate::remote::HostedRemote;
use crate::resting::Resting;
use crate::ring_manager::{RingManager, RingMessage};
use crate::spawner::Spawner;
use crate::storage::Storage;
use crate::strays::StrayTable;
use crate::telemetry::Telemetry;
use crate::time::{Clock, HybridClock};
use arc_swap::{ArcSwap, ArcSwapOption};
use ringwork_core::clock::hybrid::{HybridTime, Stamp};
use ringwork_core::ids::{Boot, Generation, NodeId, Partition, RequestId};
use ringwork_core::membership::Possession;
use ringwork_core::preflist::RingView;
use ringwork_core::quorum::QuorumDefaults;
use ringwork_core::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::watch;

/// Bounds of a node's queues.
#[derive(Clone, Copy, Debug)]
pub struct NodeLimits {
    /// Requests on their way to one vnode.
    pub vnode_in_flight_max: usize,
    /// Requests on their way to one vnode master.
    pub master_in_flight_max: usize,
    /// Threads of the worker pool.
    pub pool_threads: usize,
    /// Jobs that may wait for them.
    pub pool_queue_max: usize,
    /// Live streams on this node.
    pub watchers_max: usize,
    /// Items in one batch of a transfer out of this node; at most [`ringwork_core::limits::BATCH_ITEMS_MAX`].
    pub handoff_batch_items_max: usize,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            vnode_in_flight_max: 1000,
            master_in_flight_max: 10_000,
            pool_threads: 2,
            pool_queue_max: 256,
            watchers_max: 1024,
            handoff_batch_items_max: ringwork_core::limits::BATCH_ITEMS_MAX,
        }
    }
}

/// Why a node has to end although nobody asked it to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It cannot go on: what it has to keep cannot be kept.
    Failed(String),
    /// It is no member of its cluster any more.
    Departed(String),
}

impl Ending {
    /// It is no member any more; `what` says of which cluster, and who says so.
    pub(crate) fn removed(what: &str) -> Self {
        Self::Departed(format!(
            "{what}: it had left, or it did not answer and was taken for lost ('ringwork cluster force-replace', \
             'force-remove'). That is final. Its data directory is kept as it is, and is no part of the cluster any \
             more; to use this machine again move it away and start the node with an empty data directory"
        ))
    }
}

/// What parts of the node can only know once the others have started.
pub(crate) struct Started {
    pub(crate) network: Option<Network>,
    pub(crate) ring_manager: Postbox<RingManager>,
    pub(crate) metadata: Postbox<MetadataManager>,
    pub(crate) services: BTreeMap<&'static str, Arc<dyn HostedRemote>>,
}

/// See the module's head.
pub struct NodeCore {
    /// Who we are.
    pub id: NodeId,
    /// The name, for people.
    pub name: String,
    /// Which life this is.
    pub boot: Boot,
    /// Time.
    pub clock: Clock,
    /// When who looks around regularly does so.
    pub(crate) beat: Beat,
    pub(crate) hybrid: Arc<HybridClock>,
    /// Random bytes.
    pub randomness: Randomness,
    /// The ring as this node sees it.
    pub ring: Arc<ArcSwap<RingView>>,
    /// The committer.
    pub storage: Storage,
    /// The store itself, for opening keyspaces and for snapshots.
    pub store: Arc<dyn Store>,
    /// Threads.
    pub spawner: Spawner,
    /// Counters.
    pub telemetry: Arc<Telemetry>,
    /// Bounds.
    pub limits: NodeLimits,
    /// Quorums where a request does not say.
    pub quorum: QuorumDefaults,
    /// Transfers, as operators see and set them.
    pub handoff: Arc<HandoffBoard>,
    /// What all members share beside the ring: settings, properties, features.
    pub metadata: MetadataBoard,
    /// Anti-entropy, as operators see it, and how it is done.
    pub repair: Arc<RepairBoard>,
    /// Partitions of which there is data here that this node does not hold.
    pub strays: StrayTable,
    /// Vnodes that do not run after a panic or a failed start.
    pub resting: Resting,
    /// How long the other nodes usually take.
    pub(crate) latencies: PeerLatencies,
    /// How often all replicas of this node were put in doubt. Counted before anybody can see the node up again.
    pub(crate) doubts: AtomicU64,
    /// How often a member was seen up in another life than before: what it took for this node is not known then.
    pub(crate) returns: AtomicU64,
    /// Others were told, or are being told, that this node is going: nothing here counts as complete any more.
    pub(crate) leaving: AtomicBool,
    /// Own partitions of which other members may hold something, as the ring manager published them last.
    pub(crate) in_doubt: ArcSwap<BTreeSet<Partition>>,
    /// In which generation the failure detector presents this node.
    pub(crate) generation: AtomicU64,
    /// Empty before the start has come so far, and again after the stop: what is in it holds the node in turn.
    pub(crate) started: ArcSwapOption<Started>,
    /// What lies here of which partition, and as what.
    pub generations: Arc<Generations>,
    /// Who moves what; empty before the start has come so far, and again after the stop.
    pub(crate) handoff_manager: ArcSwapOption<Postbox<HandoffManager>>,
    pub(crate) requests: AtomicU64,
    pub(crate) stopping: AtomicBool,
    /// Set while the node is to be a member of somebody's cluster and is not: it then serves nobody.
    pub(crate) outside: AtomicBool,
    pub(crate) ending: watch::Sender<Option<Ending>>,
}

impl NodeCore {
    /// A time that no other event bears, later than `above` where that can be believed.
    pub fn stamp_above(&self, above: HybridTime) -> Stamp {
        Stamp { time: self.hybrid.next_above(above), node: self.id, boot: self.boot }
    }

    /// A number for a request.
    pub fn next_request(&self) -> RequestId {
        RequestId(self.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the node refuses new work because it is about to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether the node waits to be taken into a cluster and serves nobody until then.
    pub fn is_outside(&self) -> bool {
        self.outside.load(Ordering::Relaxed)
    }

    /// A node's name, as this node knows it.
    pub fn name_of(&self, node: NodeId) -> Arc<str> {
        self.ring.load().name(node)
    }

    /// Lets go of what the node's parts hold of each other, without stopping anything: for whoever has ended the node's
    /// threads or tasks by force, as a simulated crash does, and wants its memory back.
    pub fn abandon(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.started.store(None);
        self.handoff_manager.store(None);
    }

    /// The connections to other nodes; none when this one has no cluster address.
    pub fn network(&self) -> Option<Network> {
        self.started.load().as_ref().and_then(|started| started.network.clone())
    }

    /// The number of the generation that a partition's vnodes live in.
    pub(crate) fn generation_of(&self, partition: Partition) -> Generation {
        self.generations.live(partition).map(|live| live.number).unwrap_or_default()
    }

    /// Has it looked at which transfers are to run.
    pub(crate) fn look_at_transfers(&self) {
        self.tell_handoff(ManagerMessage::Look);
    }

    /// Tells the handoff manager something, unless it is full or there is none. Says whether it was told.
    pub(crate) fn tell_handoff(&self, message: ManagerMessage) -> bool {
        let manager = self.handoff_manager.load();
        manager.as_ref().is_some_and(|manager| manager.post(message).is_ok())
    }

    /// Somebody has shown who holds a partition; the ring's writer is told if that is news.
    pub(crate) fn learn(&self, partition: Partition, possession: Possession) {
        if self.ring.load().possession(partition).is_some_and(|ours| ours < possession)
            && let Some(started) = self.started.load().as_ref()
        {
            // Lost when full: the next request that meets it says so again.
            let _ = started.ring_manager.post(RingMessage::Heard(possession));
        }
    }

    /// This node now has data of a partition that it does not hold.
    pub(crate) fn note_stray(&self, partition: Partition) {
        if self.strays.mark(partition)
            && let Some(started) = self.started.load().as_ref()
        {
            let _ = started.ring_manager.post(RingMessage::StraysChanged);
        }
    }

    /// Ends the node for this reason, unless it is ending already.
    pub(crate) fn end(&self, why: Ending) {
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            if first {
                *ending = Some(why);
            }
            first
        });
    }

    /// Ends when the node has to, with the reason.
    pub async fn ending(&self) -> Ending {
        let mut ending = self.ending.subscribe();
        loop {
            if let Some(why) = ending.borrow_and_update().clone() {
                return why;
            }
            if ending.changed().await.is_err() {
                return Ending::Failed("the node has been taken apart".to_owned());
            }
        }
    }
}
