//! What no assignment can do better: the fewest short windows that numbers alone allow, and the fewest moves.
//! Lower bounds that are proven here in words; it does not know whether an assignment that reaches them exists.

use super::closed::Closing;
use super::problem::Problem;
use super::{ClaimError, ClaimNode, ClaimRequest, pattern, turns};
use crate::ring::RingSize;
use std::collections::{BTreeMap, BTreeSet};

/// Fewest windows, by their length from 2, that repeat a node or a location in any balanced assignment in which
/// the shorter windows repeat as few as they can.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeastViolations {
    /// For windows of nodes, k = 2 first.
    pub nodes: Vec<usize>,
    /// For windows of locations, k = 2 first; empty when fewer than two are named.
    pub locations: Vec<usize>,
}

/// Lower bounds of the windows that repeat a node or a location, goals taken in their order.
///
/// Something that occurs m times round Q partitions, never closer than k − 1, has at least m·k − Q gaps of exactly
/// k − 1, because its gaps sum to Q. Each is one window of k that begins and ends with it, and no two such windows
/// are the same. So where windows of k − 1 can all be distinct, Σ (m·k − Q) over everything that occurs too often
/// are bad. Where they cannot, but those of ⌈k / 2⌉ can, at least m·k − Q are bad for the most frequent thing
/// alone: with gaps g and h on its sides, at most min(g, k) + min(h, k) − k windows hold one occurrence and no
/// other. And where not even those can, a window of k without repeats holds each thing at most once, any other at
/// most k times, so at least (m·k − Q) / (k − 1) are bad. With k things in windows of k the bad ones are even in
/// number: let the last k − 1 and the missing one be an order of all k. A good window turns all round, a bad one
/// all but the missing one; one of these is an odd permutation, and round a ring they come to none, so it occurs an
/// even number of times, and the other too as Q is even. For locations more is known: see the files `closed.rs` and
/// `turns.rs`.
///
/// No assignment has windows of locations that are better in the order of lengths; where the first that can repeat do
/// so more often, longer ones can be fewer.
pub fn least_violations(
    size: RingSize,
    nodes: &[ClaimNode],
    target_n: usize,
    location_n: usize,
) -> LeastViolations {
    let q = size.count();
    let count = nodes.len().max(1);
    let (floor, extra) = (q / count, q % count);
    let alone = vec![1; count];
    let mut least =
        LeastViolations { nodes: least_of(q, floor, extra, &alone, target_n), locations: Vec::new() };
    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
    for name in nodes.iter().filter_map(|node| node.location.as_deref()) {
        *named.entry(name).or_default() += 1;
    }
    if named.len() >= 2 {
        let unnamed = nodes.iter().filter(|node| node.location.is_none()).count();
        let sizes: Vec<usize> = named.into_values().chain(std::iter::repeat_n(1, unnamed)).collect();
        least.locations = least_of(q, floor, extra, &sizes, location_n);
        let node_window = target_n.min(count);
        if let Some(at) = least.locations.iter().position(|fewest| *fewest > 0)
            && at > 0
            && at + 2 <= sizes.len()
            && least.nodes.iter().take(node_window - 1).all(|fewest| *fewest == 0)
        {
            let closing = Closing { partitions: q, floor, extra, sizes: &sizes, node_window, k: at + 2 };
            least.locations[at] = closing.fewest().unwrap_or(0).max(least.locations[at]);
            if let (1, &[a, b, c]) = (at, &sizes[..]) {
                let found = turns::fewest(q, floor, extra, [a, b, c], node_window);
                least.locations[at] = found.unwrap_or(0).max(least.locations[at]);
            }
        }
    }
    least
}

/// For groups of nodes of these sizes: what repeats are groups.
fn least_of(q: usize, floor: usize, extra: usize, sizes: &[usize], n: usize) -> Vec<usize> {
    let mut least = Vec::new();
    let mut shorter_can_be_distinct = true;
    for k in 2..=n {
        if k > sizes.len() {
            least.push(q);
            continue;
        }
        let too_often = |group: usize, larger: usize| ((sizes[group] * floor + larger) * k).saturating_sub(q);
        // Who has the larger quotas is free: each goes where it adds least, which is exact as the sums are convex.
        let mut larger = vec![0usize; sizes.len()];
        let mut costs: BTreeSet<(usize, usize)> =
            (0..sizes.len()).map(|group| (too_often(group, 1) - too_often(group, 0), group)).collect();
        for _ in 0..extra {
            let Some((_, group)) = costs.pop_first() else { break };
            larger[group] += 1;
            if larger[group] < sizes[group] {
                let (now, next) = (too_often(group, larger[group]), too_often(group, larger[group] + 1));
                costs.insert((next - now, group));
            }
        }
        let each = (0..sizes.len()).map(|group| too_often(group, larger[group]));
        let fewest = if shorter_can_be_distinct {
            let sum: usize = each.sum();
            if k == sizes.len() { sum.next_multiple_of(2) } else { sum }
        } else {
            let nodes: usize = sizes.iter().sum();
            let forced = |group: usize| too_often(group, extra.saturating_sub(nodes - sizes[group]));
            let most = (0..sizes.len()).map(forced).max().unwrap_or(0);
            if least[..k.div_ceil(2) - 1].iter().all(|fewest| *fewest == 0) {
                most
            } else {
                most.div_ceil(k - 1)
            }
        };
        shorter_can_be_distinct &= fewest == 0;
        least.push(fewest);
    }
    least
}

/// The fewest windows of locations that repeat, by their length from 2.
pub(super) fn least_locations(problem: &Problem) -> Vec<usize> {
    let sizes = problem.nodes_by_location();
    least_of(problem.partitions, problem.floor, problem.extra, &sizes, problem.location_window)
}

/// A lower bound of the partitions that must change their owner in any balanced assignment in which as few windows
/// of nodes repeat as can. The quotas give it: a node keeps at most its quota of what it owns, and only Q mod S
/// nodes have the larger one. Where so few nodes may own that the best assignments are a family that can be searched
/// whole (see the file `pattern.rs`), it is the fewest moves into that family; that is exact as long as no locations
/// are named. Refuses what [`super::claim`] refuses.
pub fn moves_bound(request: &ClaimRequest<'_>) -> Result<usize, ClaimError> {
    Ok(bound(&Problem::new(request)?))
}

pub(super) fn bound(problem: &Problem) -> usize {
    let unlocated = Problem { location_window: 1, ..problem.clone() };
    pattern::candidates(&unlocated)
        .iter()
        .map(|owners| owners.iter().zip(&problem.present).filter(|(new, old)| new != old).count())
        .min()
        .unwrap_or(0)
        .max(problem.moves_for_balance())
}
