//! What an item is in 64 bits, and which leaf of a tree it falls to: both of them SipHash-1-3 (Aumasson, Bernstein
//! 2012) under a key that is the cluster's own. It decides what is hashed and under which key; what sums of it mean is
//! `tree`'s.
//!
//! The hash must be the same in every release and on every machine: sums of it travel, and are kept. It must also not
//! be one that whoever writes items can foresee, or items could be made up that are in the tree what others are
//! together, or that all fall to one leaf. So its key is drawn from the cluster's id, which was random at its birth.

use crate::ids::ClusterId;
use crate::limits::{FINGERPRINT_SCRATCH_BYTES_MAX, TREE_LEAVES};
use crate::vnode::Item;
use crate::wire::{WireError, codec};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use siphasher::sip::SipHasher13;

/// What an item is, in 64 bits: of all that it says, and so of its key. Two states of an item have the same one by an
/// accident of 1 in 2⁶⁴.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Fingerprint(pub u64);

/// How items of one service are fingerprinted in one cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprints {
    items: [u64; 2],
    leaves: [u64; 2],
}

impl Fingerprints {
    /// For this cluster's items of this service.
    pub fn new(cluster: ClusterId, service: &str) -> Self {
        let keyed = |purpose: &[u8]| {
            let mut hasher = Sha1::new();
            hasher.update(cluster.0);
            hasher.update((purpose.len() as u32).to_be_bytes());
            hasher.update(purpose);
            hasher.update(service.as_bytes());
            let key: [u8; 20] = hasher.finalize().into();
            let (mut low, mut high) = ([0; 8], [0; 8]);
            low.copy_from_slice(&key[..8]);
            high.copy_from_slice(&key[8..16]);
            [u64::from_be_bytes(low), u64::from_be_bytes(high)]
        };
        Self { items: keyed(b"items"), leaves: keyed(b"leaves") }
    }

    /// Of an item. It is encoded into `scratch`, so that many of them take no memory of their own. Fails only for an
    /// item that cannot be encoded, and so not be sent either.
    pub fn of<I: Item>(&self, item: &I, scratch: &mut Vec<u8>) -> Result<Fingerprint, WireError> {
        scratch.clear();
        let encoded = codec::encode_into(item, scratch);
        let print = Fingerprint(hash(self.items, scratch));
        if scratch.capacity() > FINGERPRINT_SCRATCH_BYTES_MAX {
            *scratch = Vec::new();
        }
        encoded.map(|()| print)
    }

    /// The leaf that an item falls to, by its key alone: so all states of an item fall to one.
    pub fn leaf_of(&self, key: &[u8]) -> u16 {
        (hash(self.leaves, key) % TREE_LEAVES as u64) as u16
    }
}

fn hash([low, high]: [u64; 2], bytes: &[u8]) -> u64 {
    SipHasher13::new_with_keys(low, high).hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    struct Said(String, u32);

    impl Wire for Said {
        const VERSION: u16 = 1;
    }

    impl Item for Said {
        fn routing_key(&self) -> &[u8] {
            self.0.as_bytes()
        }
        fn join(self, other: Self) -> Self {
            Self(self.0, self.1.max(other.1))
        }
    }

    fn said(text: &str, number: u32) -> Said {
        Said(text.to_owned(), number)
    }

    fn of(cluster: u8, service: &str, item: &Said) -> Fingerprint {
        Fingerprints::new(ClusterId([cluster; 16]), service).of(item, &mut Vec::new()).unwrap()
    }

    #[test]
    fn what_an_item_is_and_which_leaf_it_falls_to_does_not_change() {
        let prints = Fingerprints::new(ClusterId([7; 16]), "chat");
        assert_eq!(prints.of(&said("ann", 300), &mut Vec::new()), Ok(Fingerprint(PRINT_OF_VECTOR)));
        let leaves = [&b""[..], b"a", b"user\0\0\x04"].map(|key| prints.leaf_of(key));
        assert_eq!(leaves, LEAVES_OF_VECTORS);
    }
    const PRINT_OF_VECTOR: u64 = 2_960_844_078_185_576_320;
    const LEAVES_OF_VECTORS: [u16; 3] = [1499, 1345, 2698];

    #[test]
    fn every_part_of_an_item_the_service_and_the_cluster_count() {
        let mut all = vec![
            of(7, "chat", &said("ann", 1)),
            of(7, "chat", &said("ann", 2)),
            of(7, "chat", &said("bob", 1)),
            of(7, "presence", &said("ann", 1)),
            of(8, "chat", &said("ann", 1)),
        ];
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn what_was_printed_before_leaves_no_trace_and_a_large_item_no_memory() {
        let prints = Fingerprints::new(ClusterId([7; 16]), "chat");
        let mut scratch = Vec::new();
        let large = said(&"x".repeat(4 * FINGERPRINT_SCRATCH_BYTES_MAX), 1);
        for item in [&large, &said("ann", 1), &large, &said("", 0)] {
            assert_eq!(prints.of(item, &mut scratch), prints.of(item, &mut Vec::new()));
            assert!(scratch.capacity() <= FINGERPRINT_SCRATCH_BYTES_MAX);
        }
    }

    #[test]
    fn keys_that_differ_little_spread_over_all_leaves() {
        let prints = Fingerprints::new(ClusterId([7; 16]), "chat");
        let mut filled = vec![0u32; TREE_LEAVES];
        for n in 0..40_960u32 {
            filled[usize::from(prints.leaf_of(format!("user{n}").as_bytes()))] += 1;
        }
        assert!(filled.iter().all(|count| *count < 40), "{:?}", filled.iter().max());
        assert!(filled.iter().filter(|count| **count == 0).count() < 8);
    }
}
