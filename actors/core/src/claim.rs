//! Claim: which node should own which partition. Decided from the present owners, the nodes that may own and their
//! locations; it does not know why a node joins or leaves, nor how data is moved.
//!
//! Goals, each only as far as those before it allow: windows of n consecutive partitions are on distinct nodes,
//! for n = 2, then 3, … up to `target_n`; the same for locations; as few partitions as possible change their
//! owner. Every node that may own owns ⌊Q/S⌋ or ⌈Q/S⌉ partitions, always. When there are more nodes than
//! partitions, Q of them own one each and the others none.
//!
//! How: with so few nodes that the best assignments are known as a family, the member that moves least is taken
//! (`pattern`). Otherwise the present assignment is brought into balance (`start`) and improved by exchanges
//! (`search`); where windows still repeat, other starts are found by dynamic programming (`skeleton`), those of
//! locations with shares that fit exactly (`corridor`, `sequence`); `course` says in which order. The work is
//! bounded by a number of steps, not by a clock, so the same request has the same answer everywhere. `check` counts
//! what is wrong independently of all that, and `bounds` says what could not be better, with `closed` and `turns`
//! for windows of locations and `located` for the moves that these ask for.

use crate::ids::NodeId;
use crate::ring::RingSize;

mod assignment;
mod bounds;
mod check;
mod closed;
mod corridor;
mod course;
mod located;
mod pattern;
mod problem;
mod search;
mod sequence;
pub mod simulation;
mod skeleton;
mod start;
#[cfg(test)]
mod tests;
mod turns;

use problem::Problem;

pub use bounds::{LeastViolations, least_violations, moves_bound};
pub use check::{Violations, check};

/// Longest window of nodes that can be asked for.
pub const TARGET_N_MAX: usize = 16;
/// Longest window of locations that can be asked for.
pub const LOCATION_N_MAX: usize = 16;
/// Window of nodes unless configured: one more than the usual number of replicas, so that a preference list keeps
/// to distinct nodes while one partition is on the move.
pub const TARGET_N_DEFAULT: usize = 4;
/// Most nodes that may own.
pub const NODES_MAX: usize = 4096;
/// Steps that are enough: below ten seconds at Q = 16 384 on one core of a small server.
pub const STEPS_DEFAULT: u64 = 10_000_000;

/// A node that may own partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClaimNode {
    /// Which.
    pub node: NodeId,
    /// Where it stands, such as a rack or a zone; a node that names none shares its fate with no other.
    pub location: Option<String>,
}

/// What to decide.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest<'a> {
    /// Q.
    pub size: RingSize,
    /// Who owns each partition now, or was last meant to; an owner that is not among `nodes` is leaving and gets
    /// nothing.
    pub owners: &'a [Option<NodeId>],
    /// Who may own, in any order: the answer does not depend on it.
    pub nodes: &'a [ClaimNode],
    /// How many consecutive partitions should be on distinct nodes.
    pub target_n: usize,
    /// How many consecutive partitions should be in distinct locations; ignored when fewer than two are named.
    pub location_n: usize,
    /// How many exchanges may be tried at most; [`STEPS_DEFAULT`] unless there is a reason.
    pub steps_max: u64,
}

/// What was decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Who shall own each partition.
    pub owners: Vec<NodeId>,
    /// How many partitions change their owner, or get one.
    pub moved: usize,
    /// No balanced assignment whose windows, of nodes and of locations, repeat as seldom at every length moves fewer:
    /// see [`moves_bound`], and for locations the file `located.rs`.
    pub moves_bound: usize,
    /// What is wrong with it, counted by [`check()`].
    pub violations: Violations,
    /// Fewest and most partitions that a node owns.
    pub balance: (usize, usize),
    /// The steps ended the search; with more of them it might have found something better.
    pub exhausted: bool,
}

/// The request cannot be decided; nothing was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClaimError {
    /// The owners are not those of the ring.
    #[error("{owners} owners were given for a ring of {partitions} partitions; give one per partition")]
    Owners {
        /// How many were given.
        owners: usize,
        /// How many there must be.
        partitions: usize,
    },
    /// Nobody may own.
    #[error("no node may own partitions; at least one must")]
    NoNodes,
    /// Too many may own.
    #[error("{nodes} nodes may own partitions; at most {NODES_MAX} can")]
    TooManyNodes {
        /// How many.
        nodes: usize,
    },
    /// A node is named more than once.
    #[error("node {0} is named twice among those that may own; name it once")]
    Twice(NodeId),
    /// The window of nodes cannot be asked for.
    #[error("target_n is {0}; take 1 to {TARGET_N_MAX}")]
    TargetN(usize),
    /// The window of locations cannot be asked for.
    #[error("location_n is {0}; take 1 to {LOCATION_N_MAX}")]
    LocationN(usize),
}

/// Decides who should own what.
pub fn claim(request: &ClaimRequest<'_>) -> Result<Claim, ClaimError> {
    let problem = Problem::new(request)?;
    let moves_bound = bounds::bound(&problem);
    let solution = course::solve(&problem, moves_bound, request.steps_max);
    let score = &solution.found.score;
    let moves_bound = match located::moves_for_locations(&problem, score) {
        Some(located) if score.moved > moves_bound => moves_bound.max(located),
        _ => moves_bound,
    };
    let owners: Vec<NodeId> =
        solution.found.owners.iter().map(|node| problem.ids[usize::from(*node)]).collect();
    let violations = check(request.size, &owners, request.nodes, request.target_n, request.location_n);
    Ok(Claim {
        moved: solution.found.score.moved,
        moves_bound,
        balance: (violations.owned_min, violations.owned_max),
        violations,
        exhausted: solution.exhausted,
        owners,
    })
}
