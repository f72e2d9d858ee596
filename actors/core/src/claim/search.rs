//! The search: from a balanced assignment to one with fewer short windows and fewer moves, by exchanging owners
//! between partitions. Annealing (Kirkpatrick, Gelatt and Vecchi 1983) with repeatable pseudo-random proposals;
//! every exchange keeps the balance, so whatever it is stopped at is balanced. It decides which proposals are
//! worth making; what is better is decided by [`Score`].

use super::assignment::{Assignment, Score};
use super::problem::NOBODY;

/// A repeatable source of proposals (xorshift64*, Vigna 2016): the same problem gives the same answer anywhere.
#[derive(Clone, Debug)]
pub(super) struct Proposals(u64);

impl Proposals {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32
    }

    /// A number below `end`, which must not be 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        ((u64::from(self.next()) * end as u64) >> 32) as usize
    }

    fn of(&mut self, partitions: &[u32]) -> Option<usize> {
        if partitions.is_empty() { None } else { Some(partitions[self.below(partitions.len())] as usize) }
    }
}

/// How the search goes about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Proposals at most.
    pub steps: u64,
    /// Of 65 536, how often a rise of the cost by one is taken at the beginning and at the end.
    pub warmth: (u32, u32),
    /// Only between nodes of one location, so that what is good about locations stays.
    pub within_locations: bool,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub score: Score,
    pub owners: Vec<u16>,
}

const COOLINGS: u64 = 32;
const RISE_MAX: usize = 128;

/// Searches from `assignment`; returns the best seen and adds what was spent to `spent`. It ends early when the
/// best is clean and moves no more than `moves_bound`, or is as good as `goal`.
pub(super) fn search(
    mut assignment: Assignment<'_>,
    manner: Manner,
    proposals: &mut Proposals,
    moves_bound: usize,
    spent: &mut u64,
) -> Found {
    let mut best = assignment.score();
    let mut owners = assignment.owners().to_vec();
    let mut cost = 0i64;
    let mut best_cost = 0i64;
    let mut changes: Vec<(usize, u16)> = Vec::with_capacity(8);
    for cooling in 0..COOLINGS {
        let (from, to) = (u64::from(manner.warmth.0), u64::from(manner.warmth.1));
        let warmth = (from * (COOLINGS - 1 - cooling) + to * cooling) / (COOLINGS - 1);
        let mut taken = [0u32; RISE_MAX];
        let mut chance = 1u64 << 32;
        for entry in &mut taken {
            *entry = chance.min(u64::from(u32::MAX)) as u32;
            chance = (chance * warmth) >> 16;
        }
        for _ in 0..manner.steps / COOLINGS {
            if best.is_clean() && best.moved <= moves_bound {
                return Found { score: best, owners };
            }
            *spent += 1;
            changes.clear();
            let rise = propose(&mut assignment, manner.within_locations, proposals, &mut changes);
            if changes.is_empty() {
                continue;
            }
            let take = rise <= 0
                || taken.get(rise as usize).is_some_and(|chance| *chance > 0 && proposals.next() < *chance);
            if take {
                cost += i64::from(rise);
                if rise < 0 && cost < best_cost + 64 {
                    let score = assignment.score();
                    if score < best {
                        best = score;
                        owners.copy_from_slice(assignment.owners());
                        best_cost = cost;
                    }
                }
            } else {
                for (partition, node) in changes.iter().rev() {
                    assignment.give(*partition, *node);
                }
            }
        }
    }
    Found { score: best, owners }
}

/// Makes one change, notes how to undo it, and returns by how much the cost rose.
fn propose(
    assignment: &mut Assignment<'_>,
    within_locations: bool,
    proposals: &mut Proposals,
    changes: &mut Vec<(usize, u16)>,
) -> i32 {
    let problem = assignment.problem;
    let q = problem.partitions;
    let kind = proposals.below(16);
    let partition = if kind < 8
        && let Some(start) = proposals.of(assignment.short())
    {
        (start + proposals.below(problem.node_window.max(problem.location_window))) & (q - 1)
    } else if kind < 15
        && let Some(moved) = proposals.of(assignment.moved())
    {
        moved
    } else {
        proposals.below(q)
    };
    let owner = assignment.owner(partition);
    let home = problem.present[partition];
    // Whom to give it to: whoever has it now, or the owner of some other partition.
    let taker = if home != NOBODY && home != owner && proposals.below(4) != 0 {
        home
    } else {
        match proposals.below(4) {
            0 => assignment.owner((partition + q - 4 + proposals.below(9)) & (q - 1)),
            1 => proposals.below(problem.nodes()) as u16,
            _ => assignment.owner(proposals.below(q)),
        }
    };
    if taker == owner {
        return 0;
    }
    let apart = |a: u16, b: u16| {
        within_locations && problem.location[usize::from(a)] != problem.location[usize::from(b)]
    };
    if apart(owner, taker) {
        return 0;
    }
    let mut rise = give(assignment, partition, taker, changes);
    if assignment.owned(taker).len() <= problem.floor
        || (assignment.owned(taker).len() == problem.floor + 1
            && assignment.owned(owner).len() == problem.floor)
    {
        // The larger quota went with the partition.
        return rise;
    }
    // The taker has one too many, or the owner one too few: someone gives one back.
    if assignment.owned(taker).len() == problem.floor + 1 && proposals.below(4) == 0 {
        // The taker now has the larger quota; another that has it gives to the former owner.
        let Some(giver) = larger(assignment, proposals, taker) else {
            return rise + give_back(assignment, taker, owner, partition, proposals, changes);
        };
        if apart(giver, owner) {
            return rise + give_back(assignment, taker, owner, partition, proposals, changes);
        }
        return rise + give_back(assignment, giver, owner, partition, proposals, changes);
    }
    if proposals.below(3) != 0 {
        return rise + give_back(assignment, taker, owner, partition, proposals, changes);
    }
    // Over a third: the taker gives to a third node, and that one to the former owner.
    let Some(second) = proposals.of(assignment.owned(taker)) else { return rise };
    let second_home = problem.present[second];
    let third = if second_home != NOBODY && second_home != taker {
        second_home
    } else {
        assignment.owner(proposals.below(q))
    };
    if second == partition || third == taker || third == owner || apart(third, taker) {
        return rise + give_back(assignment, taker, owner, partition, proposals, changes);
    }
    rise += give(assignment, second, third, changes);
    rise + give_back(assignment, third, owner, second, proposals, changes)
}

/// A node with the larger quota, other than `except`.
fn larger(assignment: &Assignment<'_>, proposals: &mut Proposals, except: u16) -> Option<u16> {
    let problem = assignment.problem;
    if problem.extra == 0 {
        return None;
    }
    (0..4)
        .map(|_| assignment.owner(proposals.below(problem.partitions)))
        .find(|node| *node != except && assignment.owned(*node).len() > problem.floor)
}

/// `giver` gives one of its partitions, other than `kept`, to `taker`; rather one that belongs there, or else one
/// that has moved already.
fn give_back(
    assignment: &mut Assignment<'_>,
    giver: u16,
    taker: u16,
    kept: usize,
    proposals: &mut Proposals,
    changes: &mut Vec<(usize, u16)>,
) -> i32 {
    let mut chosen = None;
    for attempt in 0..4 {
        let Some(partition) = proposals.of(assignment.owned(giver)) else { break };
        if partition == kept {
            continue;
        }
        let home = assignment.problem.present[partition];
        chosen = Some(partition);
        if home == taker || (home != giver && attempt > 0) {
            break;
        }
    }
    match chosen {
        Some(partition) => give(assignment, partition, taker, changes),
        None => {
            // It has no other: all is undone.
            for (partition, node) in changes.drain(..).rev() {
                assignment.give(partition, node);
            }
            0
        }
    }
}

fn give(
    assignment: &mut Assignment<'_>,
    partition: usize,
    node: u16,
    changes: &mut Vec<(usize, u16)>,
) -> i32 {
    changes.push((partition, assignment.owner(partition)));
    assignment.give(partition, node)
}
