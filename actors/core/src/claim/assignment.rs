//! An assignment under change: who owns what and, always up to date beside it, how far the window that begins at
//! every partition reaches before a node or a location repeats. It decides nothing; it makes one change, and
//! what the change costs, cheap.

use super::problem::{NOBODY, Problem};
use super::{LOCATION_N_MAX, TARGET_N_MAX};

/// Longest window, and so the farthest that a change is felt.
const REACH_MAX: usize = if TARGET_N_MAX > LOCATION_N_MAX { TARGET_N_MAX } else { LOCATION_N_MAX };

/// How good an assignment is, better ones first in the derived order. Counts by reach sort as counts of windows
/// by length do: the window of k that begins at a partition repeats exactly when the reach there is below k.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Score {
    /// Partitions whose window of distinct nodes reaches 1, 2, … partitions.
    pub nodes: Vec<usize>,
    /// The same for locations.
    pub locations: Vec<usize>,
    /// Partitions that change their owner.
    pub moved: usize,
}

impl Score {
    /// Whether no window repeats a node.
    pub(super) fn has_distinct_nodes(&self) -> bool {
        self.nodes.iter().all(|count| *count == 0)
    }

    /// Whether no window repeats anything.
    pub(super) fn is_clean(&self) -> bool {
        self.nodes.iter().chain(&self.locations).all(|count| *count == 0)
    }
}

/// A set of partitions from which one can be drawn by number.
#[derive(Clone, Debug)]
pub(super) struct PartitionSet {
    members: Vec<u32>,
    place: Vec<u32>,
}

const ABSENT: u32 = u32::MAX;

impl PartitionSet {
    fn new(partitions: usize) -> Self {
        Self { members: Vec::new(), place: vec![ABSENT; partitions] }
    }

    fn set(&mut self, partition: usize, present: bool) {
        if present == (self.place[partition] != ABSENT) {
            return;
        }
        if present {
            self.place[partition] = self.members.len() as u32;
            self.members.push(partition as u32);
        } else {
            let at = self.place[partition] as usize;
            self.members.swap_remove(at);
            if let Some(other) = self.members.get(at) {
                self.place[*other as usize] = at as u32;
            }
            self.place[partition] = ABSENT;
        }
    }

    pub(super) fn members(&self) -> &[u32] {
        &self.members
    }
}

/// What a window that is too short costs the search, by its reach; what one move costs. The order of goals is
/// kept by [`Score`]; these only steer.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    nodes: [i32; REACH_MAX + 1],
    locations: [i32; REACH_MAX + 1],
    moved: i32,
}

impl Weights {
    /// `node` and `location` are the prices of one window of the full length; a window shorter by one that repeats
    /// costs three times as much.
    pub(super) fn new(problem: &Problem, node: i32, location: i32, moved: i32) -> Self {
        let by_reach = |window: usize, price: i32| {
            let mut costs = [0i32; REACH_MAX + 1];
            let mut of_length = price;
            for reach in (1..window).rev() {
                costs[reach] = costs[reach + 1].saturating_add(of_length);
                of_length = of_length.saturating_mul(3).min(1 << 20);
            }
            costs
        };
        Self {
            nodes: by_reach(problem.node_window, node),
            locations: by_reach(problem.location_window, location),
            moved,
        }
    }
}

/// The assignment.
#[derive(Clone, Debug)]
pub(super) struct Assignment<'a> {
    pub problem: &'a Problem,
    weights: Weights,
    owners: Vec<u16>,
    owned: Vec<Vec<u32>>,
    place: Vec<u32>,
    node_reach: Vec<u8>,
    location_reach: Vec<u8>,
    node_counts: [usize; REACH_MAX + 1],
    location_counts: [usize; REACH_MAX + 1],
    moved_count: usize,
    short: PartitionSet,
    moved: PartitionSet,
}

impl<'a> Assignment<'a> {
    /// From complete owners: none may be [`NOBODY`].
    pub(super) fn new(problem: &'a Problem, weights: Weights, owners: Vec<u16>) -> Self {
        let q = problem.partitions;
        let mut assignment = Self {
            problem,
            weights,
            owned: vec![Vec::new(); problem.nodes()],
            place: vec![0; q],
            node_reach: vec![problem.node_window as u8; q],
            location_reach: vec![problem.location_window as u8; q],
            node_counts: [0; REACH_MAX + 1],
            location_counts: [0; REACH_MAX + 1],
            moved_count: 0,
            short: PartitionSet::new(q),
            moved: PartitionSet::new(q),
            owners,
        };
        assignment.node_counts[problem.node_window] = q;
        assignment.location_counts[problem.location_window] = q;
        for partition in 0..q {
            let owner = usize::from(assignment.owners[partition]);
            assignment.place[partition] = assignment.owned[owner].len() as u32;
            assignment.owned[owner].push(partition as u32);
            let present = problem.present[partition];
            assignment.moved_count += usize::from(assignment.owners[partition] != present);
            assignment.moved.set(partition, present != NOBODY && assignment.owners[partition] != present);
        }
        for last in (0..q).step_by(problem.node_window.min(problem.location_window).max(1)) {
            assignment.measure(last);
        }
        assignment.measure(q - 1);
        assignment
    }

    pub(super) fn owners(&self) -> &[u16] {
        &self.owners
    }

    pub(super) fn owner(&self, partition: usize) -> u16 {
        self.owners[partition]
    }

    /// The partitions of a node, in no particular but a repeatable order.
    pub(super) fn owned(&self, node: u16) -> &[u32] {
        &self.owned[usize::from(node)]
    }

    /// Partitions whose owner is another than at present, though that one may own.
    pub(super) fn moved(&self) -> &[u32] {
        self.moved.members()
    }

    /// Partitions at which a window that repeats something begins.
    pub(super) fn short(&self) -> &[u32] {
        self.short.members()
    }

    pub(super) fn score(&self) -> Score {
        Score {
            nodes: self.node_counts[1..self.problem.node_window].to_vec(),
            locations: self.location_counts[1..self.problem.location_window].to_vec(),
            moved: self.moved_count,
        }
    }

    /// Gives `partition` to `node` and returns by how much the cost rose.
    pub(super) fn give(&mut self, partition: usize, node: u16) -> i32 {
        let before = self.owners[partition];
        if before == node {
            return 0;
        }
        let at = self.place[partition] as usize;
        let list = &mut self.owned[usize::from(before)];
        list.swap_remove(at);
        if let Some(other) = list.get(at) {
            self.place[*other as usize] = at as u32;
        }
        self.place[partition] = self.owned[usize::from(node)].len() as u32;
        self.owned[usize::from(node)].push(partition as u32);
        self.owners[partition] = node;
        let present = self.problem.present[partition];
        let mut cost = 0;
        if present != NOBODY {
            if before == present {
                self.moved.set(partition, true);
                self.moved_count += 1;
                cost += self.weights.moved;
            } else if node == present {
                self.moved.set(partition, false);
                self.moved_count -= 1;
                cost -= self.weights.moved;
            }
        }
        cost + self.measure(partition)
    }

    /// Measures the windows that hold `partition`.
    fn measure(&mut self, partition: usize) -> i32 {
        let mask = self.problem.partitions - 1;
        let mut cost = 0;
        let window = self.problem.node_window;
        if window > 1 {
            let mut names = [0u16; 2 * REACH_MAX];
            let first = partition + self.problem.partitions + 1 - window;
            for (step, name) in names[..2 * window - 1].iter_mut().enumerate() {
                *name = self.owners[(first + step) & mask];
            }
            let mut reaches = [0u8; REACH_MAX];
            reach(&names, window, &mut reaches);
            for (step, reach) in reaches[..window].iter().enumerate() {
                let start = (first + step) & mask;
                let old = self.node_reach[start];
                if old != *reach {
                    self.node_reach[start] = *reach;
                    self.node_counts[usize::from(old)] -= 1;
                    self.node_counts[usize::from(*reach)] += 1;
                    cost += self.weights.nodes[usize::from(*reach)] - self.weights.nodes[usize::from(old)];
                    self.note_short(start);
                }
            }
        }
        let window = self.problem.location_window;
        if window > 1 {
            let mut names = [0u16; 2 * REACH_MAX];
            let first = partition + self.problem.partitions + 1 - window;
            for (step, name) in names[..2 * window - 1].iter_mut().enumerate() {
                *name = self.problem.location[usize::from(self.owners[(first + step) & mask])];
            }
            let mut reaches = [0u8; REACH_MAX];
            reach(&names, window, &mut reaches);
            for (step, reach) in reaches[..window].iter().enumerate() {
                let start = (first + step) & mask;
                let old = self.location_reach[start];
                if old != *reach {
                    self.location_reach[start] = *reach;
                    self.location_counts[usize::from(old)] -= 1;
                    self.location_counts[usize::from(*reach)] += 1;
                    cost += self.weights.locations[usize::from(*reach)]
                        - self.weights.locations[usize::from(old)];
                    self.note_short(start);
                }
            }
        }
        cost
    }

    fn note_short(&mut self, start: usize) {
        let short = usize::from(self.node_reach[start]) < self.problem.node_window
            || usize::from(self.location_reach[start]) < self.problem.location_window;
        self.short.set(start, short);
    }
}

/// How far the windows that begin at the first `window` of 2·`window` − 1 names reach without a repeat; at most
/// `window`.
#[inline]
fn reach(names: &[u16; 2 * REACH_MAX], window: usize, reaches: &mut [u8; REACH_MAX]) {
    let mut end = 2 * window - 1;
    for start in (0..2 * window - 2).rev() {
        let name = names[start];
        let farthest = end.min(start + window);
        for (other, candidate) in names.iter().enumerate().take(farthest).skip(start + 1) {
            if *candidate == name {
                end = other;
                break;
            }
        }
        if start < window {
            reaches[start] = (end.min(start + window) - start) as u8;
        }
    }
    if window == 1 {
        reaches[0] = 1;
    }
}
