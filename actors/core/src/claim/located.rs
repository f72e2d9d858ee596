//! How many partitions must move for the sake of locations: a lower bound of the moves of any balanced assignment whose
//! windows repeat no oftener, length by length, than those of a given one. It decides nothing.
//!
//! What makes that hard are sums round the whole ring: how many partitions each location gets, how many of its own
//! each node may keep at most, how many windows repeat. Each sum gets a price instead of a limit (Lagrangian
//! relaxation; Held and Karp 1971); what remains is the cheapest walk from one memory of the last few locations to
//! the next, which one pass finds. At whatever prices, walk and limits together cost no more than any assignment moves,
//! so each pass gives a bound; prices are raised where limits are broken, and the best bound is taken.

use super::assignment::Score;
use super::problem::{NOBODY, Problem};

/// Passes, and transitions of all of them.
const PASSES: usize = 240;
const WORK_MAX: usize = 60_000_000;
/// The same where every beginning is tried by itself; with fewer passes they are tried together.
const CLOSED_WORK_MAX: usize = 300_000_000;
const CLOSED_PASSES_MIN: usize = 80;
/// Fewer passes find nothing.
const PASSES_MIN: usize = 16;
/// Most windows to be told apart.
const WINDOWS_MAX: usize = 4096;
/// What a move costs; finer than 1 so that prices below it can be told apart.
const MOVED: i64 = 4096;
/// Passes without a better bound after which prices change less.
const PATIENCE: usize = 6;

/// No way leads there; far more than any walk costs.
const FAR: i64 = i64::MAX >> 2;

/// A step from one memory to another.
struct Step {
    from: usize,
    member: u16,
    /// Which of the lengths whose windows have a price repeat here, as bits.
    repeats: u8,
}

struct Relaxation<'a> {
    problem: &'a Problem,
    sizes: Vec<usize>,
    /// By memory.
    steps: Vec<Vec<Step>>,
    /// How many windows may repeat, by length that has a price.
    limits: Vec<i64>,
    owned: Vec<i64>,
    prices: Prices,
    /// Whether the walk must end where it began.
    closed: bool,
}

#[derive(Clone)]
struct Prices {
    /// What a partition of each location costs.
    shares: Vec<i64>,
    /// What a window costs, by length that has a price.
    windows: Vec<i64>,
    /// What each node pays for keeping a partition: no more than a move.
    kept: Vec<i64>,
}

/// What a walk comes to.
struct Walk {
    bound: i64,
    shares: Vec<i64>,
    windows: Vec<i64>,
    kept: Vec<i64>,
}

/// Fewest moves with windows as good as those of `score`, whose moves are known to do; None where nothing can be said.
pub(super) fn moves_for_locations(problem: &Problem, score: &Score) -> Option<usize> {
    if problem.location_window < 2 || !score.has_distinct_nodes() {
        return None;
    }
    let mut relaxation = Relaxation::new(problem, score)?;
    let transitions = relaxation.steps.iter().map(Vec::len).sum::<usize>() * problem.partitions;
    let closed = transitions * relaxation.steps.len();
    relaxation.closed = CLOSED_WORK_MAX / closed.max(1) >= CLOSED_PASSES_MIN;
    let passes =
        if relaxation.closed { CLOSED_WORK_MAX / closed.max(1) } else { WORK_MAX / transitions.max(1) };
    let passes = passes.min(PASSES);
    if passes < PASSES_MIN {
        return None;
    }
    let goal = score.moved as i64 * MOVED;
    let mut best = (0, relaxation.prices.clone());
    let (mut eagerness, mut idle) = (256, 0);
    for _ in 0..passes {
        let walk = relaxation.walk()?;
        if walk.bound > best.0 {
            best = (walk.bound, relaxation.prices.clone());
            idle = 0;
        } else {
            idle += 1;
        }
        if best.0 > goal - MOVED || !relaxation.adjust(&walk, (goal - walk.bound).max(1), eagerness) {
            break;
        }
        if idle > PATIENCE {
            (eagerness, idle) = ((eagerness * 2 / 3).max(1), 0);
            relaxation.prices = best.1.clone();
        }
    }
    usize::try_from(best.0).ok().map(|bound| bound.div_ceil(MOVED as usize))
}

/// The most that prices can come to when each of `extra` is given to one of `prices`, each as often as it says.
fn dearest(prices: &[i64], often: &[usize], floor: usize, extra: usize) -> (i64, Vec<i64>) {
    let mut order: Vec<usize> = (0..prices.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(prices[*at]), *at));
    let mut amounts: Vec<i64> = often.iter().map(|often| (often * floor) as i64).collect();
    let mut left = extra;
    for at in order {
        let more = often[at].min(left);
        amounts[at] += more as i64;
        left -= more;
    }
    (amounts.iter().zip(prices).map(|(amount, price)| amount * price).sum(), amounts)
}

impl<'a> Relaxation<'a> {
    fn new(problem: &'a Problem, score: &Score) -> Option<Self> {
        let count = problem.locations;
        let length = problem.node_window.max(problem.location_window);
        let windows = count.checked_pow(length as u32).filter(|windows| *windows <= WINDOWS_MAX)?;
        let sizes = problem.nodes_by_location();
        // Windows of k repeat where the reach is below k.
        let mut so_far = 0;
        let repeating: Vec<(usize, usize)> = (2..)
            .zip(&score.locations)
            .map(|(k, count)| {
                so_far += count;
                (k, so_far)
            })
            .collect();
        let priced: Vec<(usize, usize)> = repeating.iter().copied().filter(|(_, limit)| *limit > 0).collect();
        if priced.len() > 8 {
            return None;
        }
        let states = windows / count;
        let mut numbers = vec![None; states];
        let mut found = Vec::new();
        for window in 0..windows {
            let mut rest = window;
            let latest: Vec<usize> = (0..length)
                .map(|_| {
                    let name = rest % count;
                    rest /= count;
                    name
                })
                .collect();
            let within = &latest[..problem.node_window];
            let repeats = |k: usize| (0..k).any(|later| latest[..later].contains(&latest[later]));
            if within.iter().any(|name| within.iter().filter(|other| *other == name).count() > sizes[*name])
                || repeating.iter().any(|(k, limit)| *limit == 0 && repeats(*k))
            {
                continue;
            }
            let bits = priced.iter().enumerate().map(|(bit, (k, _))| u8::from(repeats(*k)) << bit);
            found.push((window / count, window % states, latest[0] as u16, bits.sum()));
            numbers[window % states] = Some(0);
        }
        for (number, known) in numbers.iter_mut().flatten().enumerate() {
            *known = number;
        }
        let mut steps: Vec<Vec<Step>> = numbers.iter().flatten().map(|_| Vec::new()).collect();
        for (from, to, member, repeats) in found {
            if let (Some(from), Some(to)) = (numbers[from], numbers[to]) {
                steps[to].push(Step { from, member, repeats });
            }
        }
        let mut owned = vec![0; problem.nodes()];
        for owner in problem.present.iter().filter(|owner| **owner != NOBODY) {
            owned[usize::from(*owner)] += 1;
        }
        let prices =
            Prices { shares: vec![0; count], windows: vec![0; priced.len()], kept: vec![0; problem.nodes()] };
        let limits = priced.iter().map(|(_, limit)| *limit as i64).collect();
        Some(Self { problem, sizes, steps, limits, owned, prices, closed: false })
    }

    /// The cheapest walk at the present prices, from any memory to any, and the bound that it gives.
    fn walk(&self) -> Option<Walk> {
        let (problem, prices) = (self.problem, &self.prices);
        let states = self.steps.len();
        let of_windows: Vec<i64> = (0..1usize << prices.windows.len())
            .map(|bits| {
                prices.windows.iter().enumerate().map(|(bit, price)| price * (bits >> bit & 1) as i64).sum()
            })
            .collect();
        // Where the walk begins is free; and where it ends too, unless there is time to try each beginning.
        let (begins, cheapest) = match self.closed {
            true => {
                let costs = self.pass(&of_windows, states, &|state, column| state == column, None);
                (0..states)
                    .map(|state| (state, costs[state * states + state]))
                    .min_by_key(|(_, cost)| *cost)?
            }
            false => (states, 0),
        };
        let mut back = vec![0u16; states * problem.partitions];
        let from = |state: usize, _: usize| begins == states || state == begins;
        let costs = self.pass(&of_windows, 1, &from, Some(&mut back));
        let mut state = if self.closed { begins } else { (0..states).min_by_key(|state| costs[*state])? };
        let cheapest = if self.closed { cheapest } else { costs[state] };
        let mut shares = vec![0i64; self.sizes.len()];
        let mut windows = vec![0i64; prices.windows.len()];
        let mut kept = vec![0i64; problem.nodes()];
        for partition in (0..problem.partitions).rev() {
            let step = self.steps[state].get(usize::from(back[partition * states + state]))?;
            shares[usize::from(step.member)] += 1;
            for (bit, count) in windows.iter_mut().enumerate() {
                *count += i64::from(step.repeats >> bit & 1);
            }
            let home = usize::from(problem.present[partition]);
            if problem.location.get(home) == Some(&step.member) {
                kept[home] += 1;
            }
            state = step.from;
        }
        let (for_shares, most) = dearest(&prices.shares, &self.sizes, problem.floor, problem.extra);
        shares.iter_mut().zip(most).for_each(|(share, most)| *share -= most);
        let once = vec![1; problem.nodes()];
        let (for_keeping, most) = dearest(&prices.kept, &once, problem.floor, problem.extra);
        kept.iter_mut().zip(most).for_each(|(kept, most)| *kept -= most);
        let for_windows: i64 =
            prices.windows.iter().zip(&self.limits).map(|(price, limit)| price * limit).sum();
        windows.iter_mut().zip(&self.limits).for_each(|(count, limit)| *count -= limit);
        let owned: i64 = prices.kept.iter().zip(&self.owned).map(|(price, owned)| price * owned).sum();
        let unowned = problem.partitions as i64 - self.owned.iter().sum::<i64>();
        let bound = cheapest + unowned * MOVED + owned - for_shares - for_keeping - for_windows;
        Some(Walk { bound, shares, windows, kept })
    }

    /// The cheapest way to each state from where `begins` says, in each of `columns`; in `back`, the last step of it.
    fn pass(
        &self,
        of_windows: &[i64],
        columns: usize,
        begins: &dyn Fn(usize, usize) -> bool,
        mut back: Option<&mut [u16]>,
    ) -> Vec<i64> {
        let (problem, prices, states) = (self.problem, &self.prices, self.steps.len());
        let mut costs = vec![FAR; states * columns];
        for (at, cost) in costs.iter_mut().enumerate() {
            if begins(at / columns, at % columns) {
                *cost = 0;
            }
        }
        let mut next = costs.clone();
        let mut of_members = prices.shares.clone();
        for partition in 0..problem.partitions {
            let home = problem.present[partition];
            of_members.copy_from_slice(&prices.shares);
            if home != NOBODY {
                let leaving = MOVED - prices.kept[usize::from(home)];
                let location = problem.location[usize::from(home)];
                let others = of_members.iter_mut().zip(0u16..).filter(|(_, member)| *member != location);
                others.for_each(|(price, _)| *price += leaving);
            }
            for (state, (steps, target)) in self.steps.iter().zip(next.chunks_exact_mut(columns)).enumerate()
            {
                target.fill(FAR);
                for (number, step) in steps.iter().enumerate() {
                    let price = of_members[usize::from(step.member)] + of_windows[usize::from(step.repeats)];
                    let from = &costs[step.from * columns..][..columns];
                    match back.as_deref_mut() {
                        Some(back) if from[0] + price < target[0] => {
                            target[0] = from[0] + price;
                            back[partition * states + state] = number as u16;
                        }
                        Some(_) => {}
                        None => {
                            for (cost, from) in target.iter_mut().zip(from) {
                                *cost = (*cost).min(from + price);
                            }
                        }
                    }
                }
            }
            std::mem::swap(&mut costs, &mut next);
        }
        costs
    }

    /// Changes prices in the direction in which limits are broken (Polyak 1969). False when none is.
    fn adjust(&mut self, walk: &Walk, gap: i64, eagerness: i64) -> bool {
        let prices = &mut self.prices;
        // A price that is at its end and should go farther has no say.
        let kept: Vec<i64> =
            walk.kept
                .iter()
                .zip(&prices.kept)
                .map(|(excess, price)| {
                    if (*price == 0 && *excess < 0) || (*price == MOVED && *excess > 0) { 0 } else { *excess }
                })
                .collect();
        let windows: Vec<i64> = walk
            .windows
            .iter()
            .zip(&prices.windows)
            .map(|(excess, price)| if *price == 0 && *excess < 0 { 0 } else { *excess })
            .collect();
        let norm: i64 = walk.shares.iter().chain(&windows).chain(&kept).map(|excess| excess * excess).sum();
        if norm == 0 {
            return false;
        }
        let change = |excess: i64| excess * gap / 256 * eagerness / norm;
        prices.shares.iter_mut().zip(&walk.shares).for_each(|(price, excess)| *price += change(*excess));
        for (price, excess) in prices.windows.iter_mut().zip(windows) {
            *price = (*price + change(excess)).max(0);
        }
        for (price, excess) in prices.kept.iter_mut().zip(kept) {
            *price = (*price + change(excess)).clamp(0, MOVED);
        }
        true
    }
}
