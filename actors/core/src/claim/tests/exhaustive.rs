//! The bounds beside the truth, on rings so small that every assignment can be looked at.

use super::{nodes_in, request, size};
use crate::claim::{ClaimNode, check, claim, least_violations, moves_bound};
use crate::ids::NodeId;

type Owners = Vec<Option<NodeId>>;
/// Windows of nodes, windows of locations, moved.
type Best = (Vec<usize>, Vec<usize>, usize);

/// The best of all balanced assignments of 8 partitions, for each of these present owners.
fn best_of_all(presents: &[Owners], nodes: &[ClaimNode]) -> Vec<Best> {
    let mut best: Vec<Option<Best>> = vec![None; presents.len()];
    for mut number in 0..nodes.len().pow(8) {
        let candidate: Vec<NodeId> = (0..8)
            .map(|_| {
                let node = nodes[number % nodes.len()].node;
                number /= nodes.len();
                node
            })
            .collect();
        let owned = |node: &ClaimNode| candidate.iter().filter(|owner| **owner == node.node).count();
        if !nodes.iter().all(|node| (8 / nodes.len()..=8usize.div_ceil(nodes.len())).contains(&owned(node))) {
            continue;
        }
        let found = check(size(8), &candidate, nodes, 4, 3);
        assert!(found.is_balanced());
        for (best, owners) in best.iter_mut().zip(presents) {
            let moved = candidate.iter().zip(owners).filter(|(new, old)| Some(**new) != **old).count();
            let score = (found.nodes.clone(), found.locations.clone(), moved);
            if best.as_ref().is_none_or(|best| score < *best) {
                *best = Some(score);
            }
        }
    }
    best.into_iter().flatten().collect()
}

#[test]
fn on_the_smallest_ring_the_answer_is_the_best_of_all() {
    let groups: [&[usize]; 7] = [&[1], &[1, 1], &[1, 1, 1], &[2, 1], &[2, 1, 1], &[2, 2], &[1, 1, 1, 1]];
    for sizes in groups {
        for located in [false, true] {
            let mut nodes = nodes_in(sizes);
            if !located {
                nodes.iter_mut().for_each(|node| node.location = None);
            }
            // A ring of one node, one of strangers, and two uneven ones.
            let patterns = [[0; 8], [9; 8], [0, 1, 0, 1, 2, 0, 3, 1], [2, 2, 1, 0, 0, 3, 1, 2]];
            let presents: Vec<Owners> = patterns
                .iter()
                .map(|pattern| {
                    pattern.iter().map(|at: &usize| nodes.get(*at).map(|node| node.node)).collect()
                })
                .collect();
            let best = best_of_all(&presents, &nodes);
            for (owners, (best_nodes, best_locations, best_moved)) in presents.iter().zip(best) {
                let request = request(size(8), owners, &nodes);
                let found = claim(&request).unwrap();
                let context = format!("{sizes:?} {located} {owners:?}");
                assert_eq!(found.violations.nodes, best_nodes, "{context}");
                assert_eq!(found.violations.locations, best_locations, "{context}");
                assert_eq!(found.moved, best_moved, "{context}");
                let least = least_violations(size(8), &nodes, 4, 3);
                assert_eq!(least.nodes, best_nodes, "{context}");
                assert_eq!(least.locations, best_locations, "{context}");
                assert!(found.moves_bound <= best_moved, "{context}");
                let bound = moves_bound(&request).unwrap();
                assert!(bound <= best_moved, "{context}");
                assert!(located || bound == best_moved, "exact without locations: {context}");
            }
        }
    }
}
