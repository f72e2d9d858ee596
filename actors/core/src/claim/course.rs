//! The course of a claim: which starts are tried, in which order, and when enough is enough. It decides how the
//! steps are spent; what is better is decided by [`super::assignment::Score`].

use super::assignment::{Assignment, Weights};
use super::problem::{NOBODY, Problem};
use super::search::{Found, Manner, Proposals, search};
use super::skeleton::{self, Members};
use super::{pattern, start};

/// Steps of one search, by partition, and the least.
const STEPS_PER_PARTITION: u64 = 128;
const STEPS_MIN: u64 = 60_000;
/// How often a rise of the cost by one is taken, of 65 536, at the beginning and at the end of a search.
const WARM: (u32, u32) = (46_000, 20_000);
const COOL: (u32, u32) = (30_000, 10_000);
/// How many skeletons are clad with nodes, and how many of the results are worth a whole search.
const SKELETONS_MAX: usize = 16;
const CLAD_MAX: usize = 4;

/// What was found.
pub(super) struct Solution {
    pub found: Found,
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
        return Solution { found, exhausted: false };
    }
    let mut found = course.scored(start::balanced(problem, problem.present.clone(), None));
    for warmth in [WARM, COOL] {
        if !course.is_perfect(&found) {
            let better = course.improve(&found, warmth, false, 1);
            found.replace_if_better(better);
        }
    }
    if !course.is_perfect(&found)
        && let Some(members) = skeleton::members(problem)
    {
        for start in course.clad(members) {
            if course.is_perfect(&found) {
                break;
            }
            if problem.location_window > 1 {
                let within = course.improve(&start, WARM, true, 1);
                let free = course.improve(&within, COOL, false, 1);
                found.replace_if_better(within);
                found.replace_if_better(free);
            }
            let free = course.improve(&start, COOL, false, 1);
            found.replace_if_better(free);
        }
    }
    Solution { exhausted: course.spent >= steps_max, found }
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
        let steps = (whole / share).min(self.steps_max.saturating_sub(self.spent));
        let assignment = Assignment::new(self.problem, self.weights.clone(), from.owners.clone());
        let manner = Manner { steps, warmth, within_locations };
        search(assignment, manner, &mut self.proposals, self.moves_bound, &mut self.spent)
    }

    /// Starts that follow skeletons, the most promising first.
    fn clad(&mut self, members: Members) -> Vec<Found> {
        let problem = self.problem;
        let mut starts: Vec<Found> = Vec::new();
        for skeleton in skeleton::skeletons(problem, members, SKELETONS_MAX, &mut self.spent) {
            match members {
                Members::Nodes => {
                    starts.push(self.scored(start::balanced(problem, skeleton.members, None)));
                }
                Members::Locations => {
                    let nobody = vec![NOBODY; problem.partitions];
                    for owners in [problem.present.clone(), nobody] {
                        let start = self.scored(start::balanced(problem, owners, Some(&skeleton.members)));
                        starts.push(self.improve(&start, WARM, true, 4));
                    }
                }
            }
        }
        if std::env::var("DBG").is_ok() { for s in &starts { eprintln!("   {:?}", s.score); } }
        let first = starts.first().cloned();
        starts.sort_by(|a, b| a.score.cmp(&b.score));
        starts.dedup_by(|a, b| a.owners == b.owners);
        starts.truncate(CLAD_MAX);
        starts.extend(first);
        starts
    }
}
