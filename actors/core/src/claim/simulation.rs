//! Claim tried out without a cluster: a ring grows and shrinks along a path of node counts, and every step is
//! measured. Nodes are numbered, the last ones leave first, and node i is in location i mod L. It decides
//! nothing about claim; it shows what claim decides.

use super::{
    Claim, ClaimError, ClaimNode, ClaimRequest, LeastViolations, NODES_MAX, claim, least_violations,
};
use crate::ids::NodeId;
use crate::ring::RingSize;
use std::str::FromStr;

/// Most steps of a path.
pub const PATH_STEPS_MAX: usize = 4096;

/// Node counts to go through: `1,3,8` goes there directly, three nodes joining at once and then five;
/// `1..8` takes every count between; both can be mixed, and counts may fall.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path {
    counts: Vec<usize>,
}

/// The text is no path; says why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    /// A part is no count.
    #[error("'{0}' is no number of nodes from 1 to {NODES_MAX}; write a path such as 1,3,8 or 1..8")]
    Count(String),
    /// It has too many steps.
    #[error("the path has more than {PATH_STEPS_MAX} steps; take a shorter one")]
    TooLong,
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let count = |text: &str| match text.trim().parse::<usize>() {
            Ok(count) if (1..=NODES_MAX).contains(&count) => Ok(count),
            _ => Err(PathError::Count(text.trim().chars().take(32).collect())),
        };
        let mut path = Self { counts: Vec::new() };
        for part in text.split(',') {
            match part.split_once("..") {
                Some((first, last)) => {
                    let (first, last) = (count(first)?, count(last)?);
                    path.push(first)?;
                    path.walk_to(last)?;
                }
                None => path.push(count(part)?)?,
            }
        }
        Ok(path)
    }
}

impl Path {
    /// The node counts, in order.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// The same path, one node at a time.
    pub fn one_at_a_time(&self) -> Result<Self, PathError> {
        let mut path = Self { counts: Vec::new() };
        for count in &self.counts {
            if path.counts.is_empty() {
                path.push(*count)?;
            }
            path.walk_to(*count)?;
        }
        Ok(path)
    }

    fn push(&mut self, count: usize) -> Result<(), PathError> {
        if self.counts.len() >= PATH_STEPS_MAX {
            return Err(PathError::TooLong);
        }
        self.counts.push(count);
        Ok(())
    }

    fn walk_to(&mut self, last: usize) -> Result<(), PathError> {
        while let Some(now) = self.counts.last().copied().filter(|now| *now != last) {
            self.push(if now < last { now + 1 } else { now - 1 })?;
        }
        Ok(())
    }
}

/// What to try out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Simulation {
    /// Q.
    pub size: RingSize,
    /// How many nodes there are, step by step. The ring is born with one node; a path that begins with more
    /// begins with their joining it.
    pub path: Path,
    /// In how many locations the nodes are; with fewer than two, locations do not count.
    pub locations: usize,
    /// Windows of nodes.
    pub target_n: usize,
    /// Windows of locations.
    pub location_n: usize,
    /// Steps that each claim may take.
    pub steps_max: u64,
}

/// One step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SimulationRow {
    /// Nodes before.
    pub from: usize,
    /// Nodes after.
    pub to: usize,
    /// What was decided.
    pub claim: Claim,
    /// What could not be fewer.
    pub least: LeastViolations,
}

/// Node number `index` of `locations` locations.
pub fn numbered_node(index: usize, locations: usize) -> ClaimNode {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(index as u64).to_be_bytes());
    let location = (locations > 1).then(|| format!("location-{}", index % locations));
    ClaimNode { node: NodeId(id), location }
}

/// Walks the path, and hands each step to `see` as soon as it is known; goes on while that says so. An error ends
/// the walk.
pub fn simulate(
    simulation: &Simulation,
    see: &mut dyn FnMut(SimulationRow) -> bool,
) -> Result<(), ClaimError> {
    let mut from = 1;
    let mut owners = vec![Some(numbered_node(0, 0).node); simulation.size.count()];
    for to in simulation.path.counts().iter().copied() {
        if to == from {
            continue;
        }
        let nodes: Vec<ClaimNode> = (0..to).map(|index| numbered_node(index, simulation.locations)).collect();
        let claim = claim(&ClaimRequest {
            size: simulation.size,
            owners: &owners,
            nodes: &nodes,
            target_n: simulation.target_n,
            location_n: simulation.location_n,
            steps_max: simulation.steps_max,
        })?;
        owners = claim.owners.iter().copied().map(Some).collect();
        let least = least_violations(simulation.size, &nodes, simulation.target_n, simulation.location_n);
        if !see(SimulationRow { from, to, claim, least }) {
            break;
        }
        from = to;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::STEPS_DEFAULT;

    #[test]
    fn paths_are_read_and_walked() {
        let counts = |text: &str| text.parse::<Path>().map(|path| path.counts().to_vec());
        assert_eq!(counts("1..4"), Ok(vec![1, 2, 3, 4]));
        assert_eq!(counts("1, 3,8..6"), Ok(vec![1, 3, 8, 7, 6]));
        assert_eq!(
            "2,4,3".parse::<Path>().unwrap().one_at_a_time().map(|path| path.counts().to_vec()),
            Ok(vec![2, 3, 4, 3])
        );
        for wrong in ["", "0", "1,,2", "1..", "a", "5000", "1..2..3", "-1"] {
            assert!(matches!(counts(wrong), Err(PathError::Count(_))), "{wrong}");
        }
        assert_eq!(counts("1..4096,4095..1"), Err(PathError::TooLong));
    }

    #[test]
    fn a_walk_shows_every_change() {
        let mut rows = Vec::new();
        let simulation = Simulation {
            size: RingSize::try_from(64).unwrap(),
            path: "1,3,3,4,2".parse().unwrap(),
            locations: 0,
            target_n: 4,
            location_n: 3,
            steps_max: STEPS_DEFAULT,
        };
        simulate(&simulation, &mut |row| {
            rows.push(row);
            true
        })
        .unwrap();
        let steps: Vec<(usize, usize)> = rows.iter().map(|row| (row.from, row.to)).collect();
        assert_eq!(steps, [(1, 3), (3, 4), (4, 2)]);
        assert_eq!(rows[0].claim.violations.nodes, [0, 2, 64]);
        assert_eq!(rows[0].claim.moved, 42);
    }
}
