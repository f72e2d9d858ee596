//! What a node is made of: every choice of whoever starts it, as plain values. It decides nothing.

use crate::antientropy::board::RepairSettings;
use crate::handoff::board::HandoffSettings;
use crate::net::Transport;
use crate::node_core::NodeLimits;
use crate::randomness::Randomness;
use crate::spawner::Placement;
use crate::storage::{Durability, QueueLimits};
use crate::time::Clock;
use ringwork_core::quorum::QuorumDefaults;
use ringwork_core::ring::RingSize;
use ringwork_core::store::Store;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a node keeps its data.
#[derive(Clone)]
pub enum Keep {
    /// In a directory, in the embedded engine.
    Directory {
        /// The directory; created when missing.
        path: PathBuf,
        /// Bytes of the engine's block cache.
        cache_bytes: u64,
    },
    /// In memory; gone with the process.
    Nowhere,
    /// In a store that the caller made. Identity and ring are kept in `directory` if there is one.
    Given {
        /// The store.
        store: Arc<dyn Store>,
        /// For identity and ring.
        directory: Option<PathBuf>,
        /// Names the life of the machine that the store lies on, where it is not this machine: what was not synced
        /// in an earlier one may be gone.
        machine_boot: Option<String>,
    },
}

/// How a node meets others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterOptions {
    /// Where it listens for other nodes.
    pub listen: SocketAddr,
    /// Where others reach it, host:port; none: at `listen`.
    pub advertise: Option<String>,
    /// Members, any of which may take it in when it is none yet.
    pub seeds: Vec<String>,
    /// Where it stands.
    pub location: Option<String>,
}

impl ClusterOptions {
    /// Whether the first of the seeds is this node itself.
    pub(crate) fn is_first_seed(&self) -> bool {
        let own = self.advertise.clone().unwrap_or_else(|| self.listen.to_string());
        self.seeds.first() == Some(&own)
    }
}

/// What a node is made of. Every field is a choice of whoever starts it.
#[derive(Clone)]
pub struct NodeOptions {
    /// The node's name, for people.
    pub name: String,
    /// Where its data lives.
    pub keep: Keep,
    /// The store is gone: begin with an empty one under the identity that is kept, and fetch what the node holds from
    /// the other replicas.
    pub rebuild: bool,
    /// Partitions of a new ring.
    pub ring_size: RingSize,
    /// How it meets other nodes; none: it has no cluster address and stays alone.
    pub cluster: Option<ClusterOptions>,
    /// When an acknowledgement may leave.
    pub durability: Durability,
    /// Bounds of the storage queue.
    pub queue: QueueLimits,
    /// Other bounds.
    pub limits: NodeLimits,
    /// On which threads actors live.
    pub placement: Placement,
    /// Replicas and quorums where a request does not say.
    pub quorum: QuorumDefaults,
    /// How many transfers run at a time, and how fast, until an operator says otherwise.
    pub handoff: HandoffSettings,
    /// What it can do that older releases cannot: [`ringwork_core::metadata::features::own`], or less, to be taken for
    /// an older one.
    pub features: BTreeSet<String>,
    /// How replicas find out that they differ. A node without a cluster address keeps no trees.
    pub repair: RepairSettings,
    /// Where time comes from.
    pub clock: Clock,
    /// Where random bytes come from.
    pub randomness: Randomness,
    /// What connections to other nodes are made of.
    pub transport: Transport,
}
