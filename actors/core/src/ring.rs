//! Consistent hashing: from a key to the partition, and on to the replicas that answer for it. The 160-bit
//! SHA-1 space is cut in Q equal arcs, Q a power of two, so the first partition of a key is a shift, never a
//! search. It does not decide who *should* own what (claim does), nor who is up.
//!
//! Riak names an arc by the index at its end; so do we: partition i serves the hashes from (i−1)·2¹⁶⁰/Q up to,
//! and without, i·2¹⁶⁰/Q. The vectors of riak_core's `chash` hold (see the tests).

use crate::ids::{ClusterId, NodeId, Partition};
use crate::limits::{RING_SIZE_MAX, RING_SIZE_MIN};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use smallvec::SmallVec;
use std::fmt;

/// The 160-bit place of a key on the ring.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyHash(pub [u8; 20]);

impl KeyHash {
    /// SHA-1 over the service's name (length first, so that no two services share a text) and the key.
    pub fn of(service: &str, key: &[u8]) -> Self {
        let mut hasher = Sha1::new();
        hasher.update((service.len() as u32).to_be_bytes());
        hasher.update(service.as_bytes());
        hasher.update(key);
        Self(hasher.finalize().into())
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
    /// Q as a count.
    pub fn count(self) -> usize {
        self.0 as usize
    }

    /// The first partition of a hash: the next index clockwise, so a hash on a boundary belongs to the
    /// partition after it.
    pub fn partition_of(self, hash: &KeyHash) -> Partition {
        let arc = hash.top32() >> (32 - self.0.trailing_zeros());
        Partition(((arc + 1) % self.0) as u16)
    }

    /// The partition `steps` places clockwise of `partition`, wrapping.
    pub fn clockwise(self, partition: Partition, steps: usize) -> Partition {
        Partition((partition.0 as usize).wrapping_add(steps).rem_euclid(self.count()) as u16)
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

/// Why a vnode is asked: it owns the partition, or it stands in for the owner, who is down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Role {
    /// The node holds the partition.
    Primary,
    /// The node stands in for the holder named; it runs a vnode with the holder's partition.
    Fallback {
        /// Whose place is taken.
        holder: NodeId,
    },
}

/// One place of a preference list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PreflistEntry {
    /// The partition asked for.
    pub partition: Partition,
    /// The node that is asked.
    pub node: NodeId,
    /// As what.
    pub role: Role,
}

/// The replicas that answer for one key, in ring order.
pub type Preflist = SmallVec<[PreflistEntry; 5]>;

/// Who owns what: the part of the cluster's state that routing needs. At this stage one node owns all; the
/// claimant's target and possession come with membership.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "RingParts", into = "RingParts")]
pub struct Ring {
    cluster: ClusterId,
    size: RingSize,
    owners: Vec<NodeId>,
}

#[derive(Serialize, Deserialize)]
struct RingParts {
    cluster: ClusterId,
    size: RingSize,
    owners: Vec<NodeId>,
}

impl TryFrom<RingParts> for Ring {
    type Error = RingError;
    fn try_from(parts: RingParts) -> Result<Self, RingError> {
        if parts.owners.len() != parts.size.count() {
            return Err(RingError { size: parts.size, owners: parts.owners.len() });
        }
        Ok(Self { cluster: parts.cluster, size: parts.size, owners: parts.owners })
    }
}

impl From<Ring> for RingParts {
    fn from(ring: Ring) -> Self {
        Self { cluster: ring.cluster, size: ring.size, owners: ring.owners }
    }
}

/// The parts do not make a ring; nothing was built.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a ring of {size} partitions cannot have {owners} owners")]
pub struct RingError {
    size: RingSize,
    owners: usize,
}

impl Ring {
    /// A ring as it is born: every partition is its first node's.
    pub fn fresh(cluster: ClusterId, size: RingSize, node: NodeId) -> Self {
        Self { cluster, size, owners: vec![node; size.count()] }
    }

    /// Which cluster's ring this is.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// How many partitions it has.
    pub fn size(&self) -> RingSize {
        self.size
    }

    /// The holder of a partition; none when the partition is not of this ring.
    pub fn owner(&self, partition: Partition) -> Option<NodeId> {
        self.owners.get(partition.0 as usize).copied()
    }

    /// The partitions that `node` owns, ascending.
    pub fn owned_by(&self, node: NodeId) -> impl Iterator<Item = Partition> + '_ {
        self.size.partitions().filter(move |p| self.owner(*p) == Some(node))
    }

    /// The first n partitions clockwise from the hash, with their owners; n is capped at Q.
    pub fn preflist(&self, hash: &KeyHash, n: usize) -> Preflist {
        let first = self.size.partition_of(hash);
        (0..n.min(self.size.count()))
            .filter_map(|step| {
                let partition = self.size.clockwise(first, step);
                let node = self.owner(partition)?;
                Some(PreflistEntry { partition, node, role: Role::Primary })
            })
            .collect()
    }
}

/// What a request reads: an immutable snapshot of the ring as one node knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RingView {
    /// The node that reads.
    pub me: NodeId,
    /// Who owns what.
    pub ring: Ring,
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

    fn ring(q: u32) -> Ring {
        Ring::fresh(ClusterId([1; 16]), RingSize::try_from(q).unwrap(), NodeId([2; 16]))
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
    fn a_ring_with_a_wrong_number_of_owners_is_refused() {
        let parts = RingParts {
            cluster: ClusterId([0; 16]),
            size: RingSize::try_from(8).unwrap(),
            owners: vec![NodeId([0; 16]); 7],
        };
        assert!(Ring::try_from(parts).is_err());
    }

    proptest! {
        #[test]
        fn a_preflist_is_n_distinct_partitions_clockwise(key: Vec<u8>, exponent in 3u32..=16, n in 1usize..20) {
            let ring = ring(1 << exponent);
            let hash = KeyHash::of("chat", &key);
            let list = ring.preflist(&hash, n);
            prop_assert_eq!(list.len(), n.min(ring.size().count()));
            prop_assert_eq!(list[0].partition, ring.size().partition_of(&hash));
            for pair in list.windows(2) {
                prop_assert_eq!(pair[1].partition, ring.size().clockwise(pair[0].partition, 1));
            }
            let distinct: std::collections::BTreeSet<_> = list.iter().map(|e| e.partition).collect();
            prop_assert_eq!(distinct.len(), list.len());
        }

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
