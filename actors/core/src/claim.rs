//! STUB until the real one is merged.
#![allow(missing_docs)]
pub mod check;
pub use check::{Violations, check};
use crate::ids::NodeId;
use crate::ring::RingSize;
#[derive(Clone, Debug)]
pub struct ClaimNode { pub node: NodeId, pub location: Option<String> }
pub struct ClaimRequest<'a> { pub size: RingSize, pub owners: &'a [Option<NodeId>], pub nodes: &'a [ClaimNode], pub target_n: usize, pub location_n: usize, pub steps_max: u64 }
#[derive(Clone, Debug)]
pub struct Claim { pub owners: Vec<NodeId>, pub moved: usize, pub moves_bound: usize, pub violations: Violations, pub exhausted: bool }
#[derive(Clone, Debug, thiserror::Error)]
#[error("no node may own")]
pub struct ClaimError;
pub fn claim(r: &ClaimRequest<'_>) -> Result<Claim, ClaimError> {
    let mut ids: Vec<NodeId> = r.nodes.iter().map(|n| n.node).collect(); ids.sort();
    if ids.is_empty() { return Err(ClaimError) }
    let owners: Vec<NodeId> = (0..r.size.count()).map(|i| ids[i % ids.len()]).collect();
    let moved = owners.iter().zip(r.owners).filter(|(a, b)| Some(**a) != **b).count();
    let violations = check(r.size, &owners, r.nodes, r.target_n, r.location_n);
    Ok(Claim { owners, moved, moves_bound: 0, violations, exhausted: false })
}
