//! Anti-entropy: replicas that differ without anybody's knowing find that out and become equal, without a read. Each
//! vnode keeps sums of what it has, the two replicas of a pair compare them, and what differs is sent as items, which
//! merge. It decides how items are summed, when two sums mean the same, who compares with whom and when; it does not
//! know actors, wires or threads.
//!
//! A *group* is what the replicas of one preference list have in common: all items whose keys hash to one partition k,
//! which lie in the vnodes k, k + 1, … k + n − 1. So a vnode keeps one [`tree`] for each group that it has items of
//! ([`keeping`]). [`listing`] goes through a vnode's items, [`exchange`] is the comparison of two, [`schedule`] says
//! when.
//!
//! A tree is a function of what a fold would show, and of nothing else: replicas that show the same have equal trees,
//! whatever ways they came to it.

pub mod exchange;
pub mod keeping;
pub mod listing;
pub mod schedule;
#[cfg(test)]
mod tests;
pub mod tree;

use crate::vnode::Item;
use crate::wire::{WireError, codec};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

/// What an item is, in 64 bits: of its key and of all that it says. Two states of an item have the same one by an
/// accident of 1 in 2⁶⁴.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// Of an item, `key` being its key. Fails only for an item that cannot be encoded, and so not be sent either.
    pub fn of<I: Item>(key: &[u8], item: &I) -> Result<Self, WireError> {
        let bytes = codec::encode(item)?;
        let mut hasher = Sha1::new();
        hasher.update((key.len() as u64).to_be_bytes());
        hasher.update(key);
        hasher.update(&bytes);
        let [a, b, c, d, e, f, g, h, ..] = <[u8; 20]>::from(hasher.finalize());
        Ok(Self(u64::from_be_bytes([a, b, c, d, e, f, g, h])))
    }
}

/// Scatters 64 bits (the finaliser of SplitMix64; Steele, Lea, Flood 2014). 0 stays 0.
pub(crate) fn scatter(bits: u64) -> u64 {
    let z = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
