//! Consistent hashing: from a key to its first partition. The 160-bit
//! SHA-1 space is cut in Q equal arcs, Q a power of two, so the first partition of a key is a shift, never a
//! search. It does not know nodes: who answers for a partition is in [`crate::preflist`].
//!
//! Riak names an arc by the index at its end; so do we: partition i serves the hashes from (i−1)·2¹⁶⁰/Q up to,
//! and without, i·2¹⁶⁰/Q. The vectors of riak_core's `chash` hold (see the tests).

use crate::ids::Partition;
use crate::limits::{RING_SIZE_MAX, RING_SIZE_MIN};
use serde::{Deserialize, Serialize};
use sha1::block_api::compress;
use sha1::{Digest, Sha1};
use std::fmt;

/// The 160-bit place of a key on the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyHash(pub [u8; 20]);

impl KeyHash {
    /// SHA-1 over the service's name (length first, so that no two services share a text) and the key.
    pub fn of(service: &str, key: &[u8]) -> Self {
        let length = (service.len() as u32).to_be_bytes();
        let parts = [&length, service.as_bytes(), key];
        Self::of_one_block(parts).unwrap_or_else(|| {
            let mut hasher = Sha1::new();
            parts.iter().for_each(|part| hasher.update(part));
            Self(hasher.finalize().into())
        })
    }

    /// The same where all parts fit into one block with its padding (FIPS 180-4, §5.1.1), as most keys do: without a
    /// hasher whose state is moved about, which costs more than the hash.
    fn of_one_block(parts: [&[u8]; 3]) -> Option<Self> {
        const START: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
        let (mut block, mut filled) = ([0; 64], 0);
        for part in parts {
            block.get_mut(filled..filled + part.len())?.copy_from_slice(part);
            filled += part.len();
        }
        // One bit ends the text, and its length in bits ends the block.
        *block[..56].get_mut(filled)? = 0x80;
        block[56..].copy_from_slice(&(filled as u64 * 8).to_be_bytes());
        let mut state = START;
        compress(&mut state, &[block]);
        let mut hash = [0; 20];
        for (place, word) in hash.chunks_exact_mut(4).zip(state) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        Some(Self(hash))
    }

    fn top32(&self) -> u32 {
        u32::from_be_bytes([self.0[0], self.0[1], self.0[2], self.0[3]])
    }
}

/// How many partitions a ring has: a power of two from 8 to 65 536, fixed at the ring's birth.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct RingSize(u32);

/// The number is no ring size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} is no ring size: take a power of two from {RING_SIZE_MIN} to {RING_SIZE_MAX}, such as 64")]
pub struct RingSizeError(pub u32);

impl TryFrom<u32> for RingSize {
    type Error = RingSizeError;
    fn try_from(q: u32) -> Result<Self, RingSizeError> {
        if q.is_power_of_two() && (RING_SIZE_MIN..=RING_SIZE_MAX).contains(&q) {
            Ok(Self(q))
        } else {
            Err(RingSizeError(q))
        }
    }
}

impl From<RingSize> for u32 {
    fn from(size: RingSize) -> u32 {
        size.0
    }
}

impl fmt::Display for RingSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl RingSize {
    /// The smallest ring.
    pub const LEAST: Self = Self(RING_SIZE_MIN);

    /// Q as a count.
    pub fn count(self) -> usize {
        self.0 as usize
    }

    /// The first partition of a hash: the next index clockwise, so a hash on a boundary belongs to the
    /// partition after it.
    pub fn partition_of(self, hash: &KeyHash) -> Partition {
        let arc = hash.top32() >> (32 - self.0.trailing_zeros());
        self.wrapped(arc as usize + 1)
    }

    /// The partition `steps` places clockwise of `partition`, wrapping.
    pub fn clockwise(self, partition: Partition, steps: usize) -> Partition {
        self.wrapped(usize::from(partition.0).wrapping_add(steps))
    }

    /// Q is a power of two: a mask does what a division does, which is ten times as slow.
    fn wrapped(self, index: usize) -> Partition {
        Partition((index & (self.count() - 1)) as u16)
    }

    /// Every partition, from 0.
    pub fn partitions(self) -> impl Iterator<Item = Partition> {
        (0..self.0).map(|p| Partition(p as u16))
    }

    /// Whether the number names a partition of this ring.
    pub fn contains(self, partition: Partition) -> bool {
        u32::from(partition.0) < self.0
    }

    /// The 160-bit index that Riak would print for the partition.
    pub fn index_of(self, partition: Partition) -> RingIndex {
        let top = (u64::from(partition.0) << (32 - self.0.trailing_zeros())) as u32;
        let mut index = [0; 20];
        index[..4].copy_from_slice(&top.to_be_bytes());
        RingIndex(index)
    }
}

/// A boundary of the ring as a 160-bit number, shown in decimal as Riak does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RingIndex(pub [u8; 20]);

impl fmt::Display for RingIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CHUNK: u64 = 1_000_000_000;
        let mut limbs: Vec<u64> =
            self.0.chunks_exact(4).map(|c| u64::from(u32::from_be_bytes([c[0], c[1], c[2], c[3]]))).collect();
        let mut chunks = Vec::new();
        while limbs.iter().any(|limb| *limb != 0) {
            let mut rest = 0;
            for limb in &mut limbs {
                let value = (rest << 32) | *limb;
                *limb = value / CHUNK;
                rest = value % CHUNK;
            }
            chunks.push(rest);
        }
        let mut text = chunks.pop().unwrap_or(0).to_string();
        for chunk in chunks.iter().rev() {
            text.push_str(&format!("{chunk:09}"));
        }
        f.pad_integral(true, "", &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hash_from(top: [u8; 4], rest: u8) -> KeyHash {
        let mut bytes = [rest; 20];
        bytes[..4].copy_from_slice(&top);
        KeyHash(bytes)
    }

    #[test]
    fn the_vectors_of_riak_hold_for_sixty_four_partitions() {
        let size = RingSize::try_from(64).unwrap();
        let inc = "22835963083295358096932575511191922182123945984";
        assert_eq!(size.index_of(Partition(1)).to_string(), inc);
        assert_eq!(size.index_of(Partition(0)).to_string(), "0");
        assert_eq!(size.partition_of(&hash_from([0; 4], 0)), Partition(1), "h = 0");
        assert_eq!(
            size.partition_of(&hash_from([0x03, 0xff, 0xff, 0xff], 0xff)),
            Partition(1),
            "h = inc - 1"
        );
        assert_eq!(size.partition_of(&hash_from([0x04, 0, 0, 0], 0)), Partition(2), "h = inc");
        assert_eq!(size.partition_of(&hash_from([0xff; 4], 0xff)), Partition(0), "h = 2^160 - 1");
        assert_eq!(
            size.index_of(Partition(63)).to_string(),
            "1438665674247607560106752257205091097473808596992",
            "63 times inc"
        );
    }

    #[test]
    fn the_hash_is_sha_1_over_length_service_and_key() {
        let expected = {
            let mut hasher = Sha1::new();
            hasher.update([0, 0, 0, 4]);
            hasher.update(b"chatann");
            let digest: [u8; 20] = hasher.finalize().into();
            digest
        };
        assert_eq!(KeyHash::of("chat", b"ann").0, expected);
        assert_ne!(KeyHash::of("cha", b"tann"), KeyHash::of("chat", b"ann"));
    }

    #[test]
    fn only_powers_of_two_within_the_limits_are_ring_sizes() {
        for q in [0, 1, 4, 7, 9, 63, 65, 131_072, u32::MAX] {
            assert_eq!(RingSize::try_from(q), Err(RingSizeError(q)));
        }
        for exponent in 3..=16 {
            assert!(RingSize::try_from(1 << exponent).is_ok());
        }
    }

    #[test]
    fn a_hash_of_one_block_is_that_of_a_hasher_at_every_length() {
        for length in 0..=200_u8 {
            let key: Vec<u8> = (0..length).map(|n| n.wrapping_mul(151) ^ length).collect();
            for service in ["", "chat", "a service with a name that fills most of one block"] {
                let mut hasher = Sha1::new();
                hasher.update((service.len() as u32).to_be_bytes());
                hasher.update(service);
                hasher.update(&key);
                let expected: [u8; 20] = hasher.finalize().into();
                assert_eq!(KeyHash::of(service, &key).0, expected, "{service:?} and {length} bytes");
                let fits = 4 + service.len() + key.len() <= 55;
                let parts = [&(service.len() as u32).to_be_bytes(), service.as_bytes(), &key];
                assert_eq!(KeyHash::of_one_block(parts).is_some(), fits, "{service:?} and {length} bytes");
            }
        }
    }

    proptest! {
        #[test]
        fn the_partition_is_the_first_index_above_the_hash(bytes: [u8; 20], exponent in 3u32..=16) {
            let size = RingSize::try_from(1 << exponent).unwrap();
            let by_search = size.partitions().skip(1).find(|p| size.index_of(*p).0 > bytes).unwrap_or(Partition(0));
            prop_assert_eq!(size.partition_of(&KeyHash(bytes)), by_search);
        }

        #[test]
        fn indices_rise_with_partitions(exponent in 3u32..=16, a: u16, b: u16) {
            let size = RingSize::try_from(1 << exponent).unwrap();
            let within = |p: u16| Partition((u32::from(p) % size.count() as u32) as u16);
            let (a, b) = (within(a), within(b));
            prop_assert_eq!(a.cmp(&b), size.index_of(a).cmp(&size.index_of(b)));
        }
    }
}
