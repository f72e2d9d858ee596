//! A request in the numbers that the algorithm works with: nodes and locations as small indices in the order of
//! their ids and names, so that the order in which they were given cannot matter. It decides nothing but that.

use super::{ClaimError, ClaimRequest, LOCATION_N_MAX, NODES_MAX, TARGET_N_MAX};
use crate::ids::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// No node: the partition has no owner that may keep it.
pub(super) const NOBODY: u16 = u16::MAX;

/// A request, normalised. Nodes are indices into `ids`.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    /// Q, a power of two.
    pub partitions: usize,
    /// The nodes that may own, ascending.
    pub ids: Vec<NodeId>,
    /// Location of every node.
    pub location: Vec<u16>,
    /// How many different locations there are.
    pub locations: usize,
    /// Present owner of every partition, or [`NOBODY`].
    pub present: Vec<u16>,
    /// Windows up to this long can be free of repeated nodes: `target_n`, but no more than there are nodes.
    pub node_window: usize,
    /// The same for locations; 1 where they do not count.
    pub location_window: usize,
    /// ⌊Q/S⌋.
    pub floor: usize,
    /// Q mod S: how many nodes own one more.
    pub extra: usize,
}

impl Problem {
    pub(super) fn new(request: &ClaimRequest<'_>) -> Result<Self, ClaimError> {
        let partitions = request.size.count();
        if request.owners.len() != partitions {
            return Err(ClaimError::Owners { owners: request.owners.len(), partitions });
        }
        if request.nodes.is_empty() {
            return Err(ClaimError::NoNodes);
        }
        if request.nodes.len() > NODES_MAX {
            return Err(ClaimError::TooManyNodes { nodes: request.nodes.len() });
        }
        if !(1..=TARGET_N_MAX).contains(&request.target_n) {
            return Err(ClaimError::TargetN(request.target_n));
        }
        if !(1..=LOCATION_N_MAX).contains(&request.location_n) {
            return Err(ClaimError::LocationN(request.location_n));
        }
        let by_id: BTreeMap<NodeId, Option<&str>> =
            request.nodes.iter().map(|node| (node.node, node.location.as_deref())).collect();
        if by_id.len() != request.nodes.len() {
            let mut seen = BTreeSet::new();
            let twice = request.nodes.iter().find(|node| !seen.insert(node.node));
            return Err(twice.map_or(ClaimError::NoNodes, |node| ClaimError::Twice(node.node)));
        }
        let ids: Vec<NodeId> = by_id.keys().copied().collect();
        let named: BTreeSet<&str> = by_id.values().copied().flatten().collect();
        let numbers: BTreeMap<&str, u16> = named.iter().copied().zip(0..).collect();
        let mut locations = named.len();
        let location: Vec<u16> = by_id
            .values()
            .map(|name| match name.and_then(|name| numbers.get(name)) {
                Some(number) => *number,
                None => {
                    locations += 1; // a node that names none shares its fate with nobody that we know of
                    (locations - 1) as u16
                }
            })
            .collect();
        let present = request
            .owners
            .iter()
            .map(|owner| {
                owner.and_then(|owner| ids.binary_search(&owner).ok()).map_or(NOBODY, |index| index as u16)
            })
            .collect();
        let (floor, extra) = (partitions / ids.len(), partitions % ids.len());
        let node_window = request.target_n.min(ids.len()).min(partitions);
        let location_window =
            if named.len() < 2 { 1 } else { request.location_n.min(locations).min(partitions) };
        Ok(Self { partitions, ids, location, locations, present, node_window, location_window, floor, extra })
    }

    /// How many nodes may own.
    pub(super) fn nodes(&self) -> usize {
        self.ids.len()
    }

    /// How many nodes every location has.
    pub(super) fn nodes_by_location(&self) -> Vec<usize> {
        let mut nodes = vec![0; self.locations];
        for location in &self.location {
            nodes[usize::from(*location)] += 1;
        }
        nodes
    }

    /// The fewest moves that the quotas alone ask for: every node keeps up to its floor, and as many of those that
    /// own more as there are larger quotas keep one more.
    pub(super) fn moves_for_balance(&self) -> usize {
        let mut owned = vec![0usize; self.nodes()];
        for owner in self.present.iter().filter(|owner| **owner != NOBODY) {
            owned[usize::from(*owner)] += 1;
        }
        let kept: usize = owned.iter().map(|owned| (*owned).min(self.floor)).sum();
        let above = owned.iter().filter(|owned| **owned > self.floor).count();
        self.partitions - kept - above.min(self.extra)
    }
}
