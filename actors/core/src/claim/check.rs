//! The checker: what is wrong with an assignment of owners, counted straight from the definition. It shares no
//! code with the algorithm and knows nothing of how an assignment came about, so the two cannot err together.

use super::ClaimNode;
use crate::ids::NodeId;
use crate::ring::RingSize;
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with an assignment. A window of k is k consecutive partitions, wrapping: a ring has Q of every
/// length.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Violations {
    /// Windows of k partitions in which a node appears twice: k = 2 first, then 3, up to `target_n`.
    pub nodes: Vec<usize>,
    /// Windows of k partitions in which a location appears twice: k = 2 first, up to `location_n`; empty when
    /// fewer than two locations are named. A node that names no location counts as a location of its own.
    pub locations: Vec<usize>,
    /// Partitions of the node that may own and owns fewest.
    pub owned_min: usize,
    /// Partitions of the node that may own and owns most.
    pub owned_max: usize,
    /// Partitions whose owner may not own.
    pub strangers: usize,
}

impl Violations {
    /// Windows of `k` that repeat a node; 0 when k was not looked at.
    pub fn nodes_of(&self, k: usize) -> usize {
        k.checked_sub(2).and_then(|at| self.nodes.get(at)).copied().unwrap_or(0)
    }

    /// Windows of `k` that repeat a location; 0 when k was not looked at.
    pub fn locations_of(&self, k: usize) -> usize {
        k.checked_sub(2).and_then(|at| self.locations.get(at)).copied().unwrap_or(0)
    }

    /// Whether every node that may own owns ⌊Q/S⌋ or ⌈Q/S⌉ and nobody else owns anything.
    pub fn is_balanced(&self) -> bool {
        self.strangers == 0 && self.owned_max - self.owned_min <= 1
    }
}

/// Counts what is wrong with `owners` (one per partition of the ring, from 0) when `nodes` may own. Owners that are
/// missing at the end count as strangers.
pub fn check(
    size: RingSize,
    owners: &[NodeId],
    nodes: &[ClaimNode],
    target_n: usize,
    location_n: usize,
) -> Violations {
    let mut owned: BTreeMap<NodeId, usize> = nodes.iter().map(|node| (node.node, 0)).collect();
    let mut strangers = size.count().saturating_sub(owners.len());
    for owner in owners {
        match owned.get_mut(owner) {
            Some(count) => *count += 1,
            None => strangers += 1,
        }
    }
    let named: BTreeSet<&str> = nodes.iter().filter_map(|node| node.location.as_deref()).collect();
    let places: BTreeMap<NodeId, Place<'_>> = nodes
        .iter()
        .map(|node| (node.node, node.location.as_deref().map_or(Place::Alone(node.node), Place::Named)))
        .collect();
    let located: Vec<Place<'_>> =
        owners.iter().map(|owner| places.get(owner).copied().unwrap_or(Place::Alone(*owner))).collect();
    let windows = |n: usize, of: &dyn Fn(usize) -> usize| (2..=n).map(of).collect::<Vec<usize>>();
    Violations {
        nodes: windows(target_n, &|k| repeating(owners, k)),
        locations: if named.len() < 2 {
            Vec::new()
        } else {
            windows(location_n, &|k| repeating(&located, k))
        },
        owned_min: owned.values().copied().min().unwrap_or(0),
        owned_max: owned.values().copied().max().unwrap_or(0),
        strangers,
    }
}

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place<'a> {
    Named(&'a str),
    Alone(NodeId),
}

/// How many of the windows of `k` name something twice.
fn repeating<T: Ord>(ring: &[T], k: usize) -> usize {
    (0..ring.len())
        .filter(|start| {
            let window: BTreeSet<&T> = (0..k).map(|step| &ring[(start + step) % ring.len()]).collect();
            window.len() < k
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u8, locations: &[&str]) -> Vec<ClaimNode> {
        (0..count)
            .map(|i| ClaimNode {
                node: NodeId([i; 16]),
                location: locations.get(usize::from(i)).map(|name| (*name).to_owned()),
            })
            .collect()
    }

    fn owners(letters: &str) -> Vec<NodeId> {
        letters.bytes().map(|letter| NodeId([letter - b'a'; 16])).collect()
    }

    #[test]
    fn windows_are_counted_by_length_and_wrap() {
        let size = RingSize::try_from(8).unwrap();
        let found = check(size, &owners("abcabcab"), &nodes(3, &[]), 4, 4);
        assert_eq!(found.nodes, [0, 2, 8], "…b|ab… and …ab|a… across the end; no four of three nodes");
        assert_eq!((found.owned_min, found.owned_max), (2, 3));
        assert!(found.is_balanced() && found.locations.is_empty());
        let found = check(size, &owners("aabcdbcd"), &nodes(4, &[]), 3, 4);
        assert_eq!(found.nodes, [1, 2], "aa, and the two windows of three around it");
        assert_eq!((found.nodes_of(2), found.nodes_of(3), found.nodes_of(9)), (1, 2, 0));
    }

    #[test]
    fn locations_count_only_when_two_are_named_and_the_unnamed_stand_alone() {
        let size = RingSize::try_from(8).unwrap();
        let ring = owners("abcdabcd");
        assert!(check(size, &ring, &nodes(4, &["x", "x", "x", "x"]), 4, 3).locations.is_empty());
        assert_eq!(check(size, &ring, &nodes(4, &["x", "y", "y", "x"]), 4, 2).locations, [4]);
        assert_eq!(check(size, &ring, &nodes(4, &["x", "y"]), 4, 4).locations, [0, 0, 0]);
    }

    #[test]
    fn strangers_and_imbalance_are_seen() {
        let size = RingSize::try_from(8).unwrap();
        let found = check(size, &owners("abababaz"), &nodes(2, &[]), 2, 1);
        assert_eq!((found.strangers, found.owned_min, found.owned_max), (1, 3, 4));
        assert!(!found.is_balanced());
        assert!(!check(size, &owners("abababaa"), &nodes(2, &[]), 2, 1).is_balanced());
    }
}
