//! Anti-entropy: replicas that differ without anybody's knowing find that out and become equal, without a read. Each
//! vnode keeps sums of what it has, the two replicas of a pair compare them, and what differs is sent as items, which
//! merge. It decides how items are summed, when two sums mean the same, who compares with whom and when; it does not
//! know actors, wires or threads.
//!
//! A *group* is what the replicas of one preference list have in common: all items whose keys hash to one partition k,
//! which lie in the vnodes k, k + 1, … k + n − 1. So a vnode keeps one [`tree`] for each group that it has items of
//! ([`keeping`]). [`listing`] goes through a vnode's items, [`exchange`] is the comparison of two, [`survey`] a
//! first look at many, [`schedule`] says when.
//!
//! A tree is a function of what a fold would show, and of nothing else: replicas that show the same have equal trees,
//! whatever ways they came to it.

pub mod exchange;
mod fingerprint;
pub mod keeping;
pub mod listing;
pub mod schedule;
pub mod survey;
#[cfg(test)]
mod tests;
pub mod tree;

pub use fingerprint::{Fingerprint, Fingerprints};

/// Scatters 64 bits (the finaliser of SplitMix64; Steele, Lea, Flood 2014). 0 stays 0.
pub(crate) fn scatter(bits: u64) -> u64 {
    let z = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
