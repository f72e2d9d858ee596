//! Which vnodes are asked so that each key is listed once. It decides that from who holds what and who can be asked;
//! how that is known, and what becomes of a vnode that does not answer, it does not know.
//!
//! The vnode of partition p has the keys of the n partitions p, p − 1, … p − (n − 1). So a plan covers a circle with
//! arcs. Cut open at the rotation it is a shortest path, found exactly in Q · n steps. Each vnode has a weight that
//! the rotation draws, and of the paths with the fewest vnodes the lightest is taken. That spreads the load where
//! some nodes are down: there the steps that reach farthest meet in the same few vnodes wherever they begin.

use crate::ids::{NodeId, Partition};
use crate::limits::N_VAL_MAX;
use crate::ring::RingSize;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Who could be asked to list which partition, at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holders {
    size: RingSize,
    /// For each partition its holder; none where the holder is down or does not run the service.
    nodes: Vec<Option<NodeId>>,
    /// Partitions that do not answer for everything now, and may again.
    incomplete: BTreeSet<Partition>,
}

impl Holders {
    /// As the asking node knows it: for each partition a holder that can be asked, and which of them are known not to
    /// answer for everything yet.
    pub fn new(size: RingSize, nodes: Vec<Option<NodeId>>, incomplete: BTreeSet<Partition>) -> Self {
        Self { size, nodes, incomplete }
    }

    /// How many partitions there are.
    pub fn size(&self) -> RingSize {
        self.size
    }

    /// The holder, if it can be asked at all.
    pub fn node(&self, partition: Partition) -> Option<NodeId> {
        self.nodes.get(usize::from(partition.0)).copied().flatten()
    }

    /// The holder, if its replica is not known to be incomplete.
    pub fn complete_node(&self, partition: Partition) -> Option<NodeId> {
        self.node(partition).filter(|_| !self.incomplete.contains(&partition))
    }
}

/// For which partitions' keys a vnode answers: bit i stands for the i-th partition counterclockwise of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct KeyPartitions(u16);

const _: () = assert!(N_VAL_MAX <= u16::BITS as usize);

impl KeyPartitions {
    /// All that a vnode has of n replicas.
    pub fn all(n: usize) -> Self {
        (0..n.min(N_VAL_MAX)).fold(Self::default(), Self::with)
    }

    /// The keys of the partition so many steps counterclockwise of the vnode's.
    #[must_use]
    pub fn one(steps: usize) -> Self {
        Self::default().with(steps)
    }

    fn with(self, steps: usize) -> Self {
        Self(self.0 | 1u16.checked_shl(steps as u32).unwrap_or_default())
    }

    /// How many they are.
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether the vnode of partition `at` answers for the keys whose first partition is `first`.
    pub fn contains(self, size: RingSize, at: Partition, first: Partition) -> bool {
        let steps = (size.count() + usize::from(at.0) - usize::from(first.0) % size.count()) % size.count();
        steps < N_VAL_MAX && self.0 >> steps & 1 == 1
    }

    /// The partitions, for the vnode of partition `at`.
    pub fn of(self, size: RingSize, at: Partition) -> impl Iterator<Item = Partition> {
        let steps = (0..N_VAL_MAX).filter(move |steps| self.0 >> steps & 1 == 1);
        steps.map(move |steps| size.clockwise(at, size.count() - steps))
    }
}

/// One vnode of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Whose vnode.
    pub partition: Partition,
    /// Who holds it.
    pub node: NodeId,
    /// For which keys it is asked.
    pub keys: KeyPartitions,
}

impl Part {
    /// What the vnode has to leave out, said as what it is to show; none when it shows all that it has.
    pub fn filter(&self, n: usize) -> Option<KeyPartitions> {
        (self.keys.count() < n).then_some(self.keys)
    }
}

/// Vnodes that answer for each wanted partition once, but for those of which nobody can.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// In no order that means anything; no vnode twice.
    pub parts: Vec<Part>,
    /// Wanted, and none of the n vnodes that have their keys is eligible. The same for every rotation.
    pub uncovered: Vec<Partition>,
}

/// The fewest vnodes for the keys of the `wanted` partitions (up to one more, for the circle is cut open), where
/// `eligible` says who may be asked for a vnode. Different rotations spread the load. Takes time in Q · n.
pub fn plan(
    size: RingSize,
    n: usize,
    wanted: &[Partition],
    eligible: &dyn Fn(Partition) -> Option<NodeId>,
    rotation: u64,
) -> Plan {
    let (count, n) = (size.count(), n.clamp(1, N_VAL_MAX).min(size.count()));
    let start = (rotation % count as u64) as usize;
    let at = |place: usize| size.clockwise(Partition(0), start + place);
    let mut wants = vec![false; count];
    for partition in wanted {
        if let Some(wants) = wants.get_mut((count + usize::from(partition.0) - start) % count) {
            *wants = true;
        }
    }
    let nodes: Vec<Option<NodeId>> = (0..count).map(|place| eligible(at(place))).collect();
    let node = |place: usize| nodes.get(place % count).copied().flatten();
    let mut uncovered = Vec::new();
    // What it takes from a place to the end: vnodes in the upper half, their weights in the lower.
    let mut cost = vec![0u64; count + 1];
    let costs = |place: usize| VNODE + draw(rotation, at(place % count)) % WEIGHTS;
    for place in (0..count).rev() {
        let mut least = cost.get(place + 1).copied().unwrap_or_default();
        if wants.get(place) == Some(&true) {
            let steps = (0..n).filter(|step| node(place + step).is_some());
            let ways =
                steps.filter_map(|step| Some(costs(place + step) + cost.get((place + step + 1).min(count))?));
            match ways.min() {
                Some(way) => least = way,
                None => {
                    uncovered.push(at(place));
                    wants.iter_mut().skip(place).take(1).for_each(|wants| *wants = false);
                }
            }
        }
        cost.iter_mut().skip(place).take(1).for_each(|cost| *cost = least);
    }
    uncovered.sort_unstable();
    let mut taken: BTreeMap<Partition, (NodeId, KeyPartitions)> = BTreeMap::new();
    let mut place = 0;
    while place < count {
        if wants.get(place) != Some(&true) {
            place += 1;
            continue;
        }
        let least = cost.get(place).copied().unwrap_or_default();
        let leads_on = |step: &usize| {
            let rest = cost.get((place + step + 1).min(count)).copied().unwrap_or_default();
            node(place + step).is_some() && costs(place + step) + rest == least
        };
        let step = (0..n).find(leads_on).unwrap_or_default();
        if let Some(node) = node(place + step) {
            let (_, keys) = taken.entry(at(place + step)).or_insert((node, KeyPartitions::default()));
            let covered = (0..=step).filter(|back| {
                let covers = place + step - back;
                covers < count && wants.get(covers) == Some(&true)
            });
            *keys = covered.fold(*keys, KeyPartitions::with);
        }
        place += step + 1;
    }
    let parts = taken.into_iter().map(|(partition, (node, keys))| Part { partition, node, keys }).collect();
    Plan { parts, uncovered }
}

/// What a vnode adds to a path: more than all weights together.
const VNODE: u64 = 1 << 36;
/// Weights lie below this; at most 65 536 of them are added up.
const WEIGHTS: u64 = 1 << 20;

/// A number that looks like chance and is the same for the same rotation and partition (SplitMix64's finalizer).
fn draw(rotation: u64, partition: Partition) -> u64 {
    let mut z = rotation.wrapping_add(1).wrapping_mul(0xd129_0d3b_3f29_a1c5);
    z = z.wrapping_add(u64::from(partition.0).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
