//! The rough shape, by dynamic programming. Where nodes or locations are few, good sequences are rigid, as crystals
//! are: no single exchange turns one into another, so exchanges do not find them. But such a sequence has only its
//! last few places to remember, and the cheapest one is found in one pass round the ring (Viterbi 1967). Its
//! members are the nodes where these are few, otherwise the locations, and then it is left open which node of the
//! location gets what. How often each member occurs is steered by prices (Lagrange multipliers), which rise along
//! the ring, so that what pays at one place does not pay everywhere at once; so the balance is near, not exact.

use super::problem::Problem;

/// Most windows to be told apart: more members make no crystals, and take too long.
const WINDOWS_MAX: usize = 4096;
/// Transitions that finding prices may take, and those that trying beginnings may take.
const PRICING_WORK: usize = 240_000_000;
const BEGINNINGS_WORK: usize = 48_000_000;
/// How often prices are adjusted, within that work.
const PRICINGS: (usize, usize) = (8, 48);
/// How often it is asked anew where to begin.
const BEGINNING_EVERY: usize = 4;
/// Transitions that take as long as one exchange of the search.
const TRANSITIONS_PER_STEP: u64 = 64;

/// A sequence of members round the ring.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Skeleton {
    /// By how many partitions the members miss what they can own.
    pub imbalance: usize,
    /// Price of its short windows and moves.
    pub cost: i64,
    /// Member of every partition.
    pub members: Vec<u16>,
}

/// What skeletons are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Members {
    /// Nodes.
    Nodes,
    /// Locations.
    Locations,
}

struct Pricing<'a> {
    problem: &'a Problem,
    remembered: usize,
    states: usize,
    /// Cost of a window, numbered by its members.
    windows: Vec<i64>,
    moved: i64,
    /// What one more partition of each member costs at the middle of the ring.
    prices: Vec<i64>,
    home: Vec<Option<usize>>,
}

/// The finest members of which this problem's windows can be told apart in acceptable time.
pub(super) fn members(problem: &Problem) -> Option<Members> {
    let length = problem.node_window.max(problem.location_window) as u32;
    let affordable = |count: usize| {
        count.checked_pow(length).is_some_and(|windows| {
            windows <= WINDOWS_MAX && 2 * PRICINGS.0 * windows * problem.partitions <= PRICING_WORK
        })
    };
    if affordable(problem.nodes()) {
        Some(Members::Nodes)
    } else if problem.location_window > 1 && affordable(problem.locations) {
        Some(Members::Locations)
    } else {
        None
    }
}

/// The best sequences found, best first, at most `most`. Adds what they took to `spent`.
pub(super) fn skeletons(problem: &Problem, members: Members, most: usize, spent: &mut u64) -> Vec<Skeleton> {
    let (count, member): (usize, Vec<u16>) = match members {
        Members::Nodes => (problem.nodes(), (0..problem.nodes() as u16).collect()),
        Members::Locations => (problem.locations, problem.location.clone()),
    };
    let mut nodes = vec![0usize; count];
    let mut location = vec![0u16; count];
    for (node, member) in member.iter().enumerate() {
        nodes[usize::from(*member)] += 1;
        location[usize::from(*member)] = problem.location[node];
    }
    let ranges: Vec<(usize, usize)> = nodes
        .iter()
        .map(|nodes| (nodes * problem.floor, nodes * problem.floor + (*nodes).min(problem.extra)))
        .collect();
    let remembered = problem.node_window.max(problem.location_window) - 1;
    let windows = count.pow(remembered as u32 + 1);
    let full = 8 * problem.partitions as i64;
    let mut pricing = Pricing {
        problem,
        remembered,
        states: windows / count,
        windows: (0..windows)
            .map(|window| window_cost(problem, &nodes, &location, remembered + 1, window, full))
            .collect(),
        moved: 2,
        prices: vec![0; count],
        home: problem
            .present
            .iter()
            .map(|owner| member.get(usize::from(*owner)).map(|member| usize::from(*member)))
            .collect(),
    };
    let work = problem.partitions * windows;
    let mut found: Vec<Skeleton> = Vec::new();
    let mut steps = vec![full; count];
    let mut signs = vec![0i64; count];
    let mut best: Option<(usize, i64, Vec<i64>)> = None;
    let mut beginning = 0;
    for number in 0..(PRICING_WORK / (2 * work)).clamp(PRICINGS.0, PRICINGS.1) {
        if number % BEGINNING_EVERY == 0 {
            *spent += 2 * work as u64 / TRANSITIONS_PER_STEP;
            beginning = pricing.natural_beginning();
        }
        *spent += work as u64 / TRANSITIONS_PER_STEP;
        let Some(sequence) = pricing.cheapest(beginning) else { break };
        let skeleton = pricing.skeleton(sequence, &ranges);
        let mut owned = vec![0usize; count];
        for member in &skeleton.members {
            owned[usize::from(*member)] += 1;
        }
        let key = (skeleton.imbalance, skeleton.cost);
        if best.as_ref().is_none_or(|(imbalance, cost, _)| key < (*imbalance, *cost)) {
            best = Some((key.0, key.1, pricing.prices.clone()));
        }
        found.push(skeleton);
        let mut settled = true;
        for member in 0..count {
            let (least, most) = ranges[member];
            let sign = i64::from(owned[member] > most) - i64::from(owned[member] < least);
            if sign == 0 {
                continue;
            }
            settled = false;
            if sign * signs[member] < 0 {
                steps[member] = (steps[member] / 2).max(1);
            } else if sign * signs[member] > 0 {
                steps[member] = steps[member] * 5 / 4 + 1;
            }
            signs[member] = sign;
            pricing.prices[member] += sign * steps[member];
        }
        if settled {
            break;
        }
    }
    if let Some((_, _, prices)) = best {
        pricing.prices = prices;
        let beginnings = (BEGINNINGS_WORK / work).clamp(1, pricing.states);
        for number in 0..beginnings {
            *spent += work as u64 / TRANSITIONS_PER_STEP;
            if let Some(sequence) = pricing.cheapest(number * pricing.states / beginnings) {
                found.push(pricing.skeleton(sequence, &ranges));
            }
        }
    }
    found.sort();
    found.dedup();
    found.truncate(most);
    found
}

/// What a window costs: the more the sooner a location repeats; far more where a member, by itself, has more
/// places than it has nodes.
fn window_cost(
    problem: &Problem,
    nodes: &[usize],
    location: &[u16],
    length: usize,
    window: usize,
    full: i64,
) -> i64 {
    let count = nodes.len();
    let mut names = vec![0usize; length];
    let mut rest = window;
    for name in names.iter_mut().rev() {
        *name = rest % count;
        rest /= count;
    }
    let repeats = |end: usize| names[..end].iter().any(|name| location[*name] == location[names[end]]);
    let crowded =
        |end: usize| names[..end].iter().filter(|name| **name == names[end]).count() >= nodes[names[end]];
    let mut cost = 0;
    let reach = (1..problem.location_window).find(|end| repeats(*end)).unwrap_or(problem.location_window);
    let mut of_length = full;
    for _ in reach..problem.location_window {
        cost += of_length;
        of_length *= 16;
    }
    let reach = (1..problem.node_window).find(|end| crowded(*end)).unwrap_or(problem.node_window);
    let mut of_length = full * 65_536;
    for _ in reach..problem.node_window {
        cost += of_length;
        of_length *= 16;
    }
    cost
}

impl Pricing<'_> {
    fn price(&self, partition: usize, member: usize) -> i64 {
        let moved = match self.home[partition] {
            Some(home) if home != member => self.moved,
            _ => 0,
        };
        // From a half to one and a half of the price, along the ring.
        let q = self.problem.partitions as i64;
        moved + self.prices[member] / 2 + self.prices[member] * partition as i64 / q
    }

    /// One pass round the ring from these costs of the states; `back` gets, for every state after every
    /// partition, the member that fell out of memory.
    fn pass(&self, costs: &mut Vec<i64>, mut back: Option<&mut Vec<u8>>) {
        let count = self.prices.len();
        let leading = self.states / count;
        let mut next = vec![i64::MAX; self.states];
        let mut prices = vec![0i64; count];
        for partition in 0..self.problem.partitions {
            for (member, price) in prices.iter_mut().enumerate() {
                *price = self.price(partition, member);
            }
            for state in 0..self.states {
                let kept = state / count;
                let mut best = (i64::MAX, 0u8);
                for first in 0..count {
                    let before = first * leading + kept;
                    let cost = costs[before];
                    if cost == i64::MAX {
                        continue;
                    }
                    let cost = cost + self.windows[before * count + state % count];
                    if cost < best.0 {
                        best = (cost, first as u8);
                    }
                }
                next[state] = if best.0 == i64::MAX { best.0 } else { best.0 + prices[state % count] };
                if let Some(back) = back.as_deref_mut() {
                    back.push(best.1);
                }
            }
            std::mem::swap(costs, &mut next);
        }
    }

    fn cheapest_state(costs: &[i64]) -> usize {
        (0..costs.len()).min_by_key(|state| costs[*state]).unwrap_or(0)
    }

    fn walk_back(&self, end: usize, back: &[u8]) -> (usize, Vec<u16>) {
        let count = self.prices.len();
        let leading = self.states / count;
        let mut members = vec![0u16; self.problem.partitions];
        let mut state = end;
        for partition in (0..self.problem.partitions).rev() {
            members[partition] = (state % count) as u16;
            state = usize::from(back[partition * self.states + state]) * leading + state / count;
        }
        (state, members)
    }

    /// The memory that the cheapest endless sequence has at partition 0.
    fn natural_beginning(&self) -> usize {
        let mut costs = vec![0; self.states];
        self.pass(&mut costs, None);
        let mut back = Vec::with_capacity(self.states * self.problem.partitions);
        self.pass(&mut costs, Some(&mut back));
        self.walk_back(Self::cheapest_state(&costs), &back).0
    }

    /// The cheapest sequence that ends in the memory with which it begins.
    fn cheapest(&self, beginning: usize) -> Option<Vec<u16>> {
        let mut costs = vec![i64::MAX; self.states];
        costs[beginning] = 0;
        let mut back = Vec::with_capacity(self.states * self.problem.partitions);
        self.pass(&mut costs, Some(&mut back));
        if costs[beginning] == i64::MAX {
            return None;
        }
        Some(self.walk_back(beginning, &back).1)
    }

    fn skeleton(&self, members: Vec<u16>, ranges: &[(usize, usize)]) -> Skeleton {
        let q = members.len();
        let count = self.prices.len();
        let mut owned = vec![0usize; count];
        let mut cost = 0;
        let mut window = (0..self.remembered)
            .fold(0, |window, step| window * count + usize::from(members[q - self.remembered + step]));
        for (partition, member) in members.iter().enumerate() {
            let member = usize::from(*member);
            owned[member] += 1;
            window = window % self.states * count + member;
            cost += self.windows[window];
            if self.home[partition].is_some_and(|home| home != member) {
                cost += self.moved;
            }
        }
        let imbalance = owned
            .iter()
            .zip(ranges)
            .map(|(owned, (least, most))| least.saturating_sub(*owned) + owned.saturating_sub(*most))
            .sum();
        Skeleton { imbalance, cost, members }
    }
}
