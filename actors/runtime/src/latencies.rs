//! How long each other node usually takes to answer, from which hedged reads decide how long to wait. It decides
//! the ends between which that time lies.

use ringwork_core::ids::NodeId;
use ringwork_core::latency::LatencyEstimate;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Before anything was measured.
const FIRST: Duration = Duration::from_millis(20);
/// A read never hedges sooner: a wake-up late is no slow replica.
const PATIENCE_MIN: Duration = Duration::from_millis(3);
/// Nor later.
const PATIENCE_MAX: Duration = Duration::from_millis(100);

/// One node's estimate, shared by all that ask it.
pub(crate) struct PeerLatency(AtomicU32);

impl PeerLatency {
    pub(crate) fn observe(&self, took: Duration) {
        let mut estimate = LatencyEstimate::from_bits(self.0.load(Ordering::Relaxed));
        estimate.observe(took.as_micros() as u64);
        // A sample lost to another thread's does not matter.
        self.0.store(estimate.to_bits(), Ordering::Relaxed);
    }

    fn patience(&self) -> Duration {
        let micros = LatencyEstimate::from_bits(self.0.load(Ordering::Relaxed)).micros();
        Duration::from_micros(micros).clamp(PATIENCE_MIN, PATIENCE_MAX)
    }
}

/// See the module's head.
#[derive(Default)]
pub(crate) struct PeerLatencies(RwLock<BTreeMap<NodeId, Arc<PeerLatency>>>);

impl PeerLatencies {
    /// The estimate of a node's.
    pub(crate) fn of(&self, node: NodeId) -> Arc<PeerLatency> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&node) {
            return known.clone();
        }
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let first = LatencyEstimate::new(FIRST.as_micros() as u32).to_bits();
        all.entry(node).or_insert_with(|| Arc::new(PeerLatency(AtomicU32::new(first)))).clone()
    }

    /// How long a read waits for these nodes before it asks another.
    pub(crate) fn patience_with(&self, nodes: impl Iterator<Item = NodeId>) -> Duration {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        nodes.filter_map(|node| Some(all.get(&node)?.patience())).max().unwrap_or(FIRST)
    }

    /// Forgets nodes that are no members any more.
    pub(crate) fn retain(&self, member: impl Fn(NodeId) -> bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|node, _| member(*node));
    }
}
