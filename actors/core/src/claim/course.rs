//! The course of a claim: which starts are tried, in which order, and when enough is enough. It decides how the
//! steps are spent; what is better is decided by [`super::assignment::Score`].

use super::assignment::{Assignment, Weights};
use super::corridor::Manner;
use super::problem::{NOBODY, Problem};
use super::search::{Found, Proposals, search};
use super::sequence;
use super::skeleton::{Members, Skeleton, Steering, is_affordable, skeletons};
use super::{bounds, pattern, start};

/// Steps of one search, by partition, and the least.
const STEPS_PER_PARTITION: u64 = 128;
const STEPS_MIN: u64 = 30_000;
/// How many searches the steps must be enough for.
const SEARCHES: u64 = 12;
/// How often a rise of the cost by one is taken, of 65 536, at the beginning and at the end of a search.
const WARM: (u32, u32) = (46_000, 20_000);
const COOL: (u32, u32) = (30_000, 10_000);
/// Which skeletons are tried, and how many of each; and how many of the results are worth a whole search.
const SKELETONS: [(Members, Steering, usize); 3] = [
    (Members::Locations, Steering::Ramp, 8),
    (Members::Locations, Steering::Pull, 4),
    (Members::Nodes, Steering::Pull, 12),
];
const CLAD_MAX: usize = 3;
/// How many skeletons of locations are followed by sequences with exact shares; transitions of one pass about one.
const REFINED_MAX: usize = 2;
const REFINING_WORK_MAX: usize = 12_000_000;
/// On rings larger than this only one is: a pass is bound by memory there.
const LARGE: usize = 4096;
/// Transitions of one pass where the corridor is as narrow as can be: five locations at Q = 1 024 take 14 929 920.
const NARROWEST_WORK_MAX: usize = 16_000_000;
/// Which part of the steps may be spent without regard to locations.
const BLIND_SHARE: u64 = 4;
/// How many times the bound are many moves.
const MANY_MOVES: usize = 2;

/// What was found.
pub(super) struct Solution {
    pub found: Found,
    pub spent: u64,
    /// The steps ended it.
    pub exhausted: bool,
}

struct Course<'a> {
    problem: &'a Problem,
    weights: Weights,
    proposals: Proposals,
    moves_bound: usize,
    steps_max: u64,
    spent: u64,
}

/// The best owners within `steps_max`.
pub(super) fn solve(problem: &Problem, moves_bound: usize, steps_max: u64) -> Solution {
    let mut course = Course {
        problem,
        weights: Weights::new(problem, 40, 12, 2),
        proposals: Proposals::new(1),
        moves_bound,
        steps_max,
        spent: 0,
    };
    let known = pattern::candidates(problem).into_iter().map(|owners| course.scored(owners));
    if let Some(found) = known.min_by(|a, b| a.score.cmp(&b.score)) {
        return Solution { found, spent: 0, exhausted: false };
    }
    let mut found = course.scored(start::balanced(problem, problem.present.clone(), None));
    if problem.location_window > 1 && !found.score.has_distinct_nodes() {
        // Nodes come first: what can be had without regard to locations must not be lost to them.
        let blind = Problem { location_window: 1, ..problem.clone() };
        let solution = solve(&blind, moves_bound, steps_max / BLIND_SHARE);
        course.spent += solution.spent;
        found.replace_if_better(course.scored(solution.found.owners));
    }
    for (attempt, warmth) in [COOL, WARM, COOL, COOL].into_iter().enumerate() {
        // What does not come clean soon waits for a better start.
        if !course.is_perfect(&found) && (attempt < 2 || found.score.is_clean()) {
            let better = course.improve(&found, warmth, false, 1);
            found.replace_if_better(better);
        }
    }
    // A shape is worth its time where something repeats, or the way out of that took many moves.
    let many = problem.location_window > 1 && found.score.moved > MANY_MOVES * moves_bound;
    if !found.score.is_clean() || many {
        let mut refined = false;
        for (members, steering, most) in SKELETONS {
            if course.is_perfect(&found) {
                break;
            }
            let located = problem.location_window > 1;
            if !is_affordable(problem, members) || (members == Members::Locations && !located) {
                continue;
            }
            // Where only the longest windows repeat, exact shares leave nothing to find by rough ones.
            let longest = found.score.locations.len().saturating_sub(1);
            let only_longest = found.score.locations.iter().take(longest).all(|count| *count == 0);
            if refined && only_longest && members == Members::Locations {
                continue;
            }
            let starts = course.clad(members, steering, most, &mut refined);
            for start in starts {
                if located && members == Members::Locations {
                    let within = course.improve(&start, WARM, true, 1);
                    let free = course.improve(&within, COOL, false, 1);
                    found.replace_if_better(within);
                    found.replace_if_better(free);
                } else {
                    let free = course.improve(&start, COOL, false, 1);
                    found.replace_if_better(free);
                }
            }
        }
    }
    if problem.location_window > 1 && found.score.moved > moves_bound {
        let mut owners = found.owners.clone();
        sequence::dress(problem, &mut owners, steps_max, &mut course.spent);
        found.replace_if_better(course.scored(owners));
    }
    Solution { exhausted: course.spent >= steps_max, spent: course.spent, found }
}

impl Found {
    fn replace_if_better(&mut self, other: Self) {
        if other.score < self.score {
            *self = other;
        }
    }
}

impl Course<'_> {
    fn is_perfect(&self, found: &Found) -> bool {
        found.score.is_clean() && found.score.moved <= self.moves_bound
    }

    fn scored(&self, owners: Vec<u16>) -> Found {
        let assignment = Assignment::new(self.problem, self.weights.clone(), owners);
        Found { score: assignment.score(), owners: assignment.owners().to_vec() }
    }

    fn improve(&mut self, from: &Found, warmth: (u32, u32), within_locations: bool, share: u64) -> Found {
        let whole = (STEPS_PER_PARTITION * self.problem.partitions as u64).max(STEPS_MIN);
        let whole = whole.min(self.steps_max / SEARCHES);
        let steps = (whole / share).min(self.steps_max.saturating_sub(self.spent));
        let assignment = Assignment::new(self.problem, self.weights.clone(), from.owners.clone());
        let manner = super::search::Manner { steps, warmth, within_locations };
        search(assignment, manner, &mut self.proposals, self.moves_bound, &mut self.spent)
    }

    /// Replaces skeletons of locations by ones whose shares fit.
    fn refine(&mut self, skeletons: &mut Vec<Skeleton>) -> bool {
        let problem = self.problem;
        let Some(corridor) = sequence::of_locations(problem, &bounds::least_locations(problem)) else {
            return false;
        };
        let mut refined: Vec<(u64, Vec<u16>)> = Vec::new();
        let most = if problem.partitions > LARGE { 1 } else { REFINED_MAX };
        for skeleton in skeletons.iter().take(most) {
            for even in [false, true] {
                if even <= corridor.may_be_odd() {
                    let manner = Manner {
                        anywhere: false,
                        work_max: REFINING_WORK_MAX,
                        narrowest_work_max: NARROWEST_WORK_MAX,
                        even,
                    };
                    refined.extend(corridor.refined(
                        &skeleton.members,
                        manner,
                        self.steps_max,
                        &mut self.spent,
                    ));
                }
            }
        }
        refined.sort();
        refined.dedup();
        refined.truncate(CLAD_MAX);
        let any = !refined.is_empty();
        if any {
            *skeletons = refined
                .into_iter()
                .map(|(cost, members)| Skeleton { imbalance: 0, cost: cost as i64, members })
                .collect();
        }
        any
    }

    /// Starts that follow skeletons, the most promising first.
    fn clad(&mut self, members: Members, steering: Steering, most: usize, refined: &mut bool) -> Vec<Found> {
        let problem = self.problem;
        let mut starts: Vec<Found> = Vec::new();
        let mut found = skeletons(problem, members, steering, most, self.steps_max, &mut self.spent);
        if members == Members::Locations {
            *refined = self.refine(&mut found);
        }
        for skeleton in found {
            match members {
                Members::Nodes => {
                    starts.push(self.scored(start::balanced(problem, skeleton.members, None)));
                }
                Members::Locations => {
                    let nobody = vec![NOBODY; problem.partitions];
                    for owners in [problem.present.clone(), nobody] {
                        let mut owners = start::balanced(problem, owners, Some(&skeleton.members));
                        sequence::dress(problem, &mut owners, self.steps_max, &mut self.spent);
                        let start = self.scored(owners);
                        starts.push(self.improve(&start, WARM, true, 4));
                    }
                }
            }
        }
        starts.sort_by(|a, b| a.score.cmp(&b.score));
        starts.dedup_by(|a, b| a.owners == b.owners);
        starts.truncate(CLAD_MAX);
        starts
    }
}
