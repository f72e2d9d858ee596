//! Few nodes: when there are no more nodes than the longest window, the best assignments form a small family that
//! can be searched whole. It decides the answer with the fewest moves in that family, and so also what the
//! fewest moves are.
//!
//! *S divides Q.* A window of S without a repeat holds every node, so the partition after it must go to the node
//! that begins it: the ring repeats one order of the nodes, and only the S! orders are to be compared.
//!
//! *Three nodes.* 3 never divides Q = 2^m. Call the nodes 0, 1, 2; without equal neighbours each step round the
//! ring is +1 or −1 modulo 3, and a window of three repeats a node exactly where the sign changes. Signs change
//! an even number of times, and not never, because the steps must sum to 0 modulo 3: so 2 is the fewest, one
//! run of p steps up and one of Q − p down, p − (Q − p) ≡ 0. Where the two changes lie is free up to
//! their remainders, and every choice is balanced; the one that keeps most is found in one pass for each of
//! the six namings of the nodes and each remainder.

use super::problem::Problem;

/// Orders of more nodes than this are not compared one by one: 8! = 40 320.
const ORDERED_NODES_MAX: usize = 8;

/// Every candidate worth scoring when the family of best assignments is known (each with fewest moves among
/// those alike in locations); empty when it is not.
pub(super) fn candidates(problem: &Problem) -> Vec<Vec<u16>> {
    let nodes = problem.nodes();
    if problem.node_window < nodes || nodes > ORDERED_NODES_MAX {
        return Vec::new();
    }
    match nodes {
        1 => vec![vec![0; problem.partitions]],
        3 => two_turns(problem),
        _ if problem.partitions.is_multiple_of(nodes) => repeated_order(problem),
        _ => Vec::new(),
    }
}

fn repeated_order(problem: &Problem) -> Vec<Vec<u16>> {
    let nodes = problem.nodes();
    let mut kept = vec![vec![0usize; nodes]; nodes];
    for (partition, owner) in problem.present.iter().enumerate() {
        if let Some(count) = kept[partition % nodes].get_mut(usize::from(*owner)) {
            *count += 1;
        }
    }
    let mut best: Option<(Vec<usize>, usize, Vec<u16>)> = None;
    let mut order: Vec<u16> = (0..nodes as u16).collect();
    each_order(&mut order, 0, &mut |order| {
        let kept: usize = order.iter().enumerate().map(|(at, node)| kept[at][usize::from(*node)]).sum();
        let repeated = repeated_locations(problem, order);
        let moved = problem.partitions - kept;
        if best.as_ref().is_none_or(|(r, m, o)| (&repeated, moved, order) < (r, *m, o)) {
            best = Some((repeated, moved, order.to_vec()));
        }
    });
    best.into_iter()
        .map(|(_, _, order)| (0..problem.partitions).map(|partition| order[partition % nodes]).collect())
        .collect()
}

/// Windows of k = 2 … within one period whose locations repeat.
fn repeated_locations(problem: &Problem, order: &[u16]) -> Vec<usize> {
    let at = |i: usize| problem.location[usize::from(order[i % order.len()])];
    (2..=problem.location_window)
        .map(|k| {
            (0..order.len())
                .filter(|start| (0..k).any(|i| (0..i).any(|j| at(start + i) == at(start + j))))
                .count()
        })
        .collect()
}

fn each_order(order: &mut Vec<u16>, fixed: usize, see: &mut dyn FnMut(&[u16])) {
    if fixed == order.len() {
        return see(order);
    }
    for swapped in fixed..order.len() {
        order.swap(fixed, swapped);
        each_order(order, fixed + 1, see);
        order.swap(fixed, swapped);
    }
}

fn two_turns(problem: &Problem) -> Vec<Vec<u16>> {
    let q = problem.partitions;
    let mut found = Vec::new();
    let mut names: Vec<u16> = vec![0, 1, 2];
    each_order(&mut names, 0, &mut |names| {
        for down in 0..3usize {
            // Up the value of partition i is i, between the turns x and y; down it is `down` − i, and the
            // partitions before x are counted as if they came after the last. At the turns both agree.
            let y_remainder = 2 * down % 3;
            let x_remainder = (2 * down + q) % 3;
            let value_up = |i: usize| names[i % 3];
            let value_down = |i: usize| names[(down + 3 * q - i) % 3];
            let keeps = |i: usize, node: u16| i64::from(problem.present[i] == node);
            let (mut before_x, mut before_y) = (0i64, 0i64);
            let mut best_x: Option<(i64, usize)> = None;
            let mut best: Option<(i64, usize, usize)> = None;
            for i in 0..q {
                if i % 3 == x_remainder && best_x.is_none_or(|(gain, _)| before_x > gain) {
                    best_x = Some((before_x, i));
                }
                let (up, down_first, down_last) =
                    (keeps(i, value_up(i)), keeps(i, value_down(i + q)), keeps(i, value_down(i)));
                before_x += down_first - up;
                before_y += up - down_last;
                if (i + 1) % 3 == y_remainder
                    && let Some((gain, x)) = best_x
                    && best.is_none_or(|(kept, _, _)| gain + before_y > kept)
                {
                    best = Some((gain + before_y, x, i + 1));
                }
            }
            if let Some((_, x, y)) = best {
                found.push(
                    (0..q)
                        .map(|i| {
                            if i < x {
                                value_down(i + q)
                            } else if i < y {
                                value_up(i)
                            } else {
                                value_down(i)
                            }
                        })
                        .collect(),
                );
            }
        }
    });
    found
}
