//! Where the search starts: the present owners, brought into balance with the fewest moves. Nodes that own too
//! much release partitions at even distances round the ring; nodes that own too little take what is free
//! where it disturbs least. It decides the quotas; it repairs nothing.

use super::problem::{NOBODY, Problem};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Disturbance of a partition that leaves the location it should be in: more than any neighbours make.
const ASTRAY: usize = 1 << 20;

/// Balanced owners near these, of which some may be [`NOBODY`]; of these locations, if some are given, as far as
/// the quotas allow.
pub(super) fn balanced(problem: &Problem, mut owners: Vec<u16>, locations: Option<&[u16]>) -> Vec<u16> {
    for (owner, location) in owners.iter_mut().zip(locations.unwrap_or_default()) {
        if *owner != NOBODY && problem.location[usize::from(*owner)] != *location {
            *owner = NOBODY;
        }
    }
    let quotas = quotas(problem, &owners, locations);
    release(problem, &quotas, &mut owners);
    fill(problem, &quotas, &mut owners, locations);
    owners
}

/// How many partitions every node shall own. The larger quotas go to those that own most, so that they keep more;
/// among locations they go where the partitions are.
fn quotas(problem: &Problem, owners: &[u16], locations: Option<&[u16]>) -> Vec<usize> {
    let mut owned = vec![0usize; problem.nodes()];
    for owner in owners.iter().filter(|owner| **owner != NOBODY) {
        owned[usize::from(*owner)] += 1;
    }
    let mut room = vec![usize::MAX; problem.locations];
    if let Some(locations) = locations {
        room.fill(0);
        for location in locations {
            room[usize::from(*location)] += 1;
        }
        for location in &problem.location {
            let room = &mut room[usize::from(*location)];
            *room = room.saturating_sub(problem.floor);
        }
    }
    let mut by_owned: Vec<usize> = (0..problem.nodes()).collect();
    by_owned.sort_by_key(|node| (Reverse(owned[*node]), *node));
    let mut quotas = vec![problem.floor; problem.nodes()];
    let mut left = problem.extra;
    for only_with_room in [true, false] {
        for node in &by_owned {
            let room = &mut room[usize::from(problem.location[*node])];
            if left > 0 && quotas[*node] == problem.floor && (*room > 0 || !only_with_room) {
                *room = room.saturating_sub(1);
                quotas[*node] += 1;
                left -= 1;
            }
        }
    }
    quotas
}

fn release(problem: &Problem, quotas: &[usize], owners: &mut [u16]) {
    let q = problem.partitions;
    let mut ahead = vec![0usize; problem.nodes()];
    for owner in owners.iter().filter(|owner| **owner != NOBODY) {
        ahead[usize::from(*owner)] += 1;
    }
    let mut surplus: Vec<usize> =
        ahead.iter().zip(quotas).map(|(owned, quota)| owned.saturating_sub(*quota)).collect();
    let total: usize = surplus.iter().sum();
    if total == 0 {
        return;
    }
    let look = (q / total / 2).max(1);
    let mut due = 0;
    for partition in 0..q {
        due += total;
        if due >= q {
            // The most urgent of those within reach: surplus over what of the owner's still lies ahead.
            let chosen = (partition..(partition + look).min(q))
                .filter(|at| owners[*at] != NOBODY && surplus[usize::from(owners[*at])] > 0)
                .max_by(|a, b| {
                    let (x, y) = (usize::from(owners[*a]), usize::from(owners[*b]));
                    (surplus[x] * ahead[y].max(1)).cmp(&(surplus[y] * ahead[x].max(1))).then(b.cmp(a))
                });
            if let Some(at) = chosen {
                let owner = usize::from(owners[at]);
                surplus[owner] -= 1;
                if at > partition {
                    ahead[owner] -= 1;
                }
                owners[at] = NOBODY;
                due -= q;
            }
        }
        if owners[partition] != NOBODY {
            let owner = usize::from(owners[partition]);
            ahead[owner] = ahead[owner].saturating_sub(1);
        }
    }
    for partition in (0..q).rev() {
        let owner = owners[partition];
        if owner != NOBODY && surplus[usize::from(owner)] > 0 {
            surplus[usize::from(owner)] -= 1;
            owners[partition] = NOBODY;
        }
    }
}

fn fill(problem: &Problem, quotas: &[usize], owners: &mut [u16], locations: Option<&[u16]>) {
    let q = problem.partitions;
    let mut missing: Vec<usize> = quotas.to_vec();
    for owner in owners.iter().filter(|owner| **owner != NOBODY) {
        missing[usize::from(*owner)] -= 1;
    }
    // In the order in which they are to be preferred where none disturbs: then the first such is the choice.
    let mut takers: BTreeSet<(Reverse<usize>, usize, u16)> = (0..problem.nodes() as u16)
        .filter(|node| missing[usize::from(*node)] > 0)
        .map(|node| (Reverse(missing[usize::from(node)]), 0, node))
        .collect();
    for partition in 0..q {
        if owners[partition] != NOBODY {
            continue;
        }
        let mut chosen = None;
        for taker in &takers {
            let disturbs = disturbance(problem, owners, locations, partition, taker.2);
            if chosen.is_none_or(|(fewest, _)| disturbs < fewest) {
                chosen = Some((disturbs, *taker));
            }
            if disturbs == 0 {
                break;
            }
        }
        let Some((_, taker)) = chosen else { return };
        takers.remove(&taker);
        let (Reverse(missing), _, node) = taker;
        owners[partition] = node;
        if missing > 1 {
            takers.insert((Reverse(missing - 1), partition + 1, node));
        }
    }
}

/// How much `node` at `partition` would repeat within the windows around it, and whether it would be astray.
fn disturbance(
    problem: &Problem,
    owners: &[u16],
    locations: Option<&[u16]>,
    partition: usize,
    node: u16,
) -> usize {
    let q = problem.partitions;
    let location = problem.location[usize::from(node)];
    let mut disturbs = match locations {
        Some(locations) if locations[partition] != location => ASTRAY,
        _ => 0,
    };
    for distance in 1..problem.node_window.max(problem.location_window) {
        for other in [(partition + distance) & (q - 1), (partition + q - distance) & (q - 1)] {
            let other = owners[other];
            if other == node && distance < problem.node_window {
                disturbs += 4 * (problem.node_window - distance);
            } else if other != NOBODY
                && distance < problem.location_window
                && problem.location[usize::from(other)] == location
            {
                disturbs += problem.location_window - distance;
            }
        }
    }
    disturbs
}
