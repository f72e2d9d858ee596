//! The rough shape, by dynamic programming. Where nodes or locations are few, good sequences are rigid, as crystals
//! are: no single exchange turns one into another, so exchanges do not find them. But such a sequence has only its
//! last few places to remember, and the cheapest one is found in one pass round the ring (Viterbi 1967). Its
//! members are nodes, or locations, and then it is left open which node of the location gets what. How often
//! each member occurs is steered, in one of two ways, so that the balance is near, not exact.

use super::problem::Problem;

/// Most windows to be told apart: more members make no crystals, and take too long.
const WINDOWS_MAX: usize = 4096;
/// Transitions that finding prices should take, unless the fewest adjustments take more; what those may take; and
/// what trying beginnings may take.
const PRICING_WORK: usize = 120_000_000;
const PRICING_WORK_MAX: usize = 360_000_000;
const BEGINNINGS_WORK: usize = 24_000_000;
/// How often prices are adjusted, within that work.
const PRICINGS: (usize, usize) = (8, 48);
/// How often it is asked anew where to begin.
const BEGINNING_EVERY: usize = 4;
/// Transitions that take as long as one exchange of the search.
const TRANSITIONS_PER_STEP: u64 = 64;

/// What one move costs; finer than 1 so that prices below it can be told apart.
const MOVED: i64 = 1024;

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

/// How the shares of the members are steered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Steering {
    /// By prices (Lagrange multipliers) that rise along the ring, so that what pays at one place does not pay
    /// everywhere at once. Exact for its prices, but of many members some never settle.
    Ramp,
    /// By prices, and a pull towards the share that a member should have had so far. Always settles; but it
    /// spreads evenly what need not be even.
    Pull,
}

struct Pricing<'a> {
    problem: &'a Problem,
    remembered: usize,
    states: usize,
    /// Cost of a window, numbered by its members.
    windows: Vec<i64>,
    /// What one more partition of each member costs.
    prices: Vec<i64>,
    steering: Steering,
    /// With [`Steering::Pull`], what it costs in addition for every partition that the member is ahead of its
    /// share; what it saves for every one that it is behind.
    pull: i64,
    /// Fewest and most partitions of each member.
    ranges: Vec<(usize, usize)>,
    home: Vec<Option<usize>>,
}

/// Whether this problem's windows of such members can be told apart in acceptable time.
pub(super) fn is_affordable(problem: &Problem, members: Members) -> bool {
    let count = match members {
        Members::Nodes => problem.nodes(),
        Members::Locations => problem.locations,
    };
    count.checked_pow(problem.node_window.max(problem.location_window) as u32).is_some_and(|windows| {
        windows <= WINDOWS_MAX && 2 * PRICINGS.0 * windows * problem.partitions <= PRICING_WORK_MAX
    })
}

/// The cheapest past of every state.
struct Pasts {
    costs: Vec<i64>,
    /// Partitions of every member, by state.
    owned: Vec<u16>,
}

impl Pasts {
    /// From one state, or from any.
    fn new(pricing: &Pricing<'_>, beginning: Option<usize>) -> Self {
        let mut costs = vec![if beginning.is_none() { 0 } else { i64::MAX }; pricing.states];
        if let Some(beginning) = beginning {
            costs[beginning] = 0;
        }
        Self { costs, owned: vec![0; pricing.states * pricing.prices.len()] }
    }
}

/// The best sequences found, best first, at most `most`. Adds what they took to `spent`, and begins no pass
/// when that has reached `steps_max`.
pub(super) fn skeletons(
    problem: &Problem,
    members: Members,
    steering: Steering,
    most: usize,
    steps_max: u64,
    spent: &mut u64,
) -> Vec<Skeleton> {
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
    let full = 8 * MOVED * problem.partitions as i64;
    let mut pricing = Pricing {
        problem,
        remembered,
        states: windows / count,
        windows: (0..windows)
            .map(|window| window_cost(problem, &nodes, &location, remembered + 1, window, full))
            .collect(),
        prices: vec![0; count],
        steering,
        pull: MOVED / 2,
        ranges,
        home: problem
            .present
            .iter()
            .map(|owner| member.get(usize::from(*owner)).map(|member| usize::from(*member)))
            .collect(),
    };
    let work = problem.partitions * windows;
    let mut found: Vec<Skeleton> = Vec::new();
    let mut steps = vec![-full; count]; // halved and turned round at the first excess
    let mut best: Option<(usize, i64, i64, Vec<i64>)> = None;
    let mut beginning = 0;
    for number in 0..(PRICING_WORK / (2 * work)).clamp(PRICINGS.0, PRICINGS.1) {
        if *spent >= steps_max {
            break;
        }
        if number % BEGINNING_EVERY == 0 {
            *spent += 2 * work as u64 / TRANSITIONS_PER_STEP;
            beginning = pricing.natural_beginning();
        }
        *spent += work as u64 / TRANSITIONS_PER_STEP;
        let Some(sequence) = pricing.cheapest(beginning) else { break };
        let skeleton = pricing.skeleton(sequence);
        let mut owned = vec![0usize; count];
        for member in &skeleton.members {
            owned[usize::from(*member)] += 1;
        }
        let key = (skeleton.imbalance, skeleton.cost);
        if best.as_ref().is_none_or(|(imbalance, cost, _, _)| key < (*imbalance, *cost)) {
            best = Some((key.0, key.1, pricing.pull, pricing.prices.clone()));
        }
        found.push(skeleton);
        let mut settled = true;
        for (member, price) in pricing.prices.iter_mut().enumerate() {
            let (least, most) = pricing.ranges[member];
            let excess = owned[member] as i64 - owned[member].clamp(least, most) as i64;
            if excess == 0 {
                continue;
            }
            settled = false;
            *price += match steering {
                Steering::Pull => excess * pricing.pull / 2,
                Steering::Ramp => {
                    let step = &mut steps[member];
                    if step.signum() == excess.signum() {
                        *step = *step * 5 / 4
                    } else {
                        *step /= -2
                    }
                    *step
                }
            };
        }
        if settled {
            break;
        }
        if steering == Steering::Pull {
            pricing.pull = (pricing.pull * 3 / 2).min(full / 4);
        }
    }
    if let Some((_, _, pull, prices)) = best {
        (pricing.pull, pricing.prices) = (pull, prices);
        let beginnings = (BEGINNINGS_WORK / work).clamp(1, pricing.states);
        for number in 0..beginnings {
            if *spent >= steps_max {
                break;
            }
            *spent += work as u64 / TRANSITIONS_PER_STEP;
            if let Some(sequence) = pricing.cheapest(number * pricing.states / beginnings) {
                found.push(pricing.skeleton(sequence));
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
    /// What it costs to give `member`, that has had `owned` partitions of those before it, the partition at
    /// `place`; places go on rising in a second round.
    fn price(&self, place: usize, member: usize, owned: usize) -> i64 {
        let q = self.problem.partitions;
        let shift = q.trailing_zeros();
        let moved = match self.home[place & (q - 1)] {
            Some(home) if home != member => MOVED,
            _ => 0,
        };
        let price = self.prices[member];
        if self.steering == Steering::Ramp {
            // From a half to one and a half of the price, along the ring.
            return moved + price / 2 + ((price * (place & (q - 1)) as i64) >> shift);
        }
        let (least, most) = self.ranges[member];
        let had = (2 * owned + 1) * q;
        let ahead = had as i64 - had.clamp(2 * least * place, 2 * most * place + q) as i64;
        moved + price + ((self.pull * ahead) >> (shift + 1))
    }

    /// One pass round the ring. `back` gets, for every state after every partition, the member that fell out of
    /// memory. Each state keeps only its cheapest past, with the shares of that; so with [`Steering::Pull`] the
    /// result is near the cheapest, not the cheapest.
    fn pass(&self, round: usize, pasts: &mut Pasts, mut back: Option<&mut Vec<u8>>) {
        let count = self.prices.len();
        let leading = self.states / count;
        let pulled = self.steering == Steering::Pull;
        let mut prices = vec![0; count];
        let mut next = Pasts { costs: pasts.costs.clone(), owned: pasts.owned.clone() };
        for step in 0..self.problem.partitions {
            let place = round * self.problem.partitions + step;
            if !pulled {
                for (member, price) in prices.iter_mut().enumerate() {
                    *price = self.price(place, member, 0);
                }
            }
            for state in 0..self.states {
                let (kept, member) = (state / count, state % count);
                let mut best = (i64::MAX, 0usize);
                for first in 0..count {
                    let before = first * leading + kept;
                    let cost = pasts.costs[before];
                    if cost == i64::MAX {
                        continue;
                    }
                    let owned = usize::from(pasts.owned[before * count + member]);
                    let price = if pulled { self.price(place, member, owned) } else { prices[member] };
                    let cost = cost + self.windows[before * count + member] + price;
                    if cost < best.0 {
                        best = (cost, first);
                    }
                }
                next.costs[state] = best.0;
                if best.0 < i64::MAX {
                    let before = best.1 * leading + kept;
                    next.owned[state * count..][..count]
                        .copy_from_slice(&pasts.owned[before * count..][..count]);
                    next.owned[state * count + member] += 1;
                }
                if let Some(back) = back.as_deref_mut() {
                    back.push(best.1 as u8);
                }
            }
            std::mem::swap(pasts, &mut next);
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
        let mut pasts = Pasts::new(self, None);
        self.pass(0, &mut pasts, None);
        let mut back = Vec::with_capacity(self.states * self.problem.partitions);
        self.pass(1, &mut pasts, Some(&mut back));
        self.walk_back(Self::cheapest_state(&pasts.costs), &back).0
    }

    /// The cheapest sequence found that ends in the memory with which it begins.
    fn cheapest(&self, beginning: usize) -> Option<Vec<u16>> {
        let mut pasts = Pasts::new(self, Some(beginning));
        let mut back = Vec::with_capacity(self.states * self.problem.partitions);
        self.pass(0, &mut pasts, Some(&mut back));
        if pasts.costs[beginning] == i64::MAX {
            return None;
        }
        Some(self.walk_back(beginning, &back).1)
    }

    fn skeleton(&self, members: Vec<u16>) -> Skeleton {
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
                cost += MOVED;
            }
        }
        let imbalance = owned
            .iter()
            .zip(&self.ranges)
            .map(|(owned, (least, most))| least.saturating_sub(*owned) + owned.saturating_sub(*most))
            .sum();
        Skeleton { imbalance, cost, members }
    }
}
