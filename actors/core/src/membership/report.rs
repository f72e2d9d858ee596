//! What a node says of itself: which state it has seen, which services it runs, and for whom it holds data.
//! Written by that node alone, each later one replacing the one before.

use crate::ids::{Boot, Partition};
use crate::limits::SERVICE_NAME_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most services that one node reports.
pub const SERVICES_MAX: usize = 64;

/// See the module's head.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Report {
    /// In which life of the node it was written.
    pub boot: Boot,
    /// Which one of that life.
    pub sequence: u64,
    /// Stands for the state that the node has seen: see [`super::ClusterState::stamp`].
    pub seen: u64,
    /// Its services that are up.
    pub services: BTreeSet<String>,
    /// Partitions of which it has data without being their holder.
    pub strays: BTreeSet<Partition>,
}

impl Report {
    /// A report of a node's `boot` that says nothing yet.
    pub fn first(boot: Boot) -> Self {
        Self { boot, sequence: 0, seen: 0, services: BTreeSet::new(), strays: BTreeSet::new() }
    }

    /// Whether its texts and numbers are possible in a ring of `partitions`.
    pub fn is_sound(&self, partitions: usize) -> bool {
        let names = self.services.iter().all(|name| name.len() <= SERVICE_NAME_BYTES_MAX);
        let known = self.strays.last().is_none_or(|last| usize::from(last.0) < partitions);
        self.services.len() <= SERVICES_MAX && names && known
    }

    /// The later of both; says whether this one was replaced.
    pub fn merge(&mut self, other: &Self) -> bool {
        // One node writes one content under a number; comparing the rest only keeps the order total.
        let grows = other > self;
        if grows {
            *self = other.clone();
        }
        grows
    }
}
