//! A sum of items that can be compared in few bytes: 4096 leaves, each the sum of the fingerprints of the items that
//! fall to it, and three levels above them that are worked out when they are asked for. It decides which leaf an item
//! falls to, and what a node above the leaves says; it does not know which items there are.
//!
//! Sums commute. So a tree need not be built in one go: what a scan over a snapshot finds and what has changed since
//! that snapshot are two trees, and their sum is the tree. And it takes no order of writes to keep one up to date: what
//! an item was is taken off, what it is is added.

use super::{Fingerprint, scatter};
use crate::limits::{TREE_LEAVES, TREE_LEAVES_SPARSE_MAX};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Children of a node.
pub const FAN_OUT: u16 = 16;
/// The level of the leaves; the root is level 0.
pub const LEAF_LEVEL: u8 = 3;
const LEAVES: u16 = TREE_LEAVES as u16;

/// The leaf that an item falls to, by its key alone: so all states of an item fall to one.
pub fn leaf_of(key: &[u8]) -> u16 {
    // FNV-1a, which is quick for short keys, and scattered, because its low bits are not good enough alone.
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (scatter(hash) % u64::from(LEAVES)) as u16
}

/// What a node says of the leaves below it. Equal leaves, equal digests; different leaves have the same one by an
/// accident of 1 in 2⁶⁴.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Digest(pub u64);

/// The whole tree in short.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Root {
    /// Over all leaves.
    pub digest: Digest,
    /// How many items are summed.
    pub items: u64,
}

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    leaves: Leaves,
    /// Wraps, like the sums: a part of a tree may have taken off more than it has added.
    items: u64,
}

/// Sums that are not zero. Most trees of a large ring have few; a full table would be 32 KiB for each.
#[derive(Clone, Debug)]
enum Leaves {
    Sparse(BTreeMap<u16, u64>),
    Full(Box<[u64]>),
}

impl Default for Leaves {
    fn default() -> Self {
        Self::Sparse(BTreeMap::new())
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items && self.leaves().eq(other.leaves())
    }
}

impl Eq for Tree {}

impl Tree {
    /// An item has become another, or appeared, or gone.
    pub fn change(&mut self, key: &[u8], was: Option<Fingerprint>, is: Option<Fingerprint>) {
        let bits = |print: Option<Fingerprint>| print.map_or(0, |print| print.0);
        self.add_to(leaf_of(key), bits(is).wrapping_sub(bits(was)));
        let count = |print: Option<Fingerprint>| u64::from(print.is_some());
        self.items = self.items.wrapping_add(count(is)).wrapping_sub(count(was));
    }

    fn add_to(&mut self, leaf: u16, sum: u64) {
        if let Leaves::Sparse(leaves) = &mut self.leaves {
            let after = leaves.get(&leaf).copied().unwrap_or(0).wrapping_add(sum);
            if after == 0 {
                leaves.remove(&leaf);
            } else {
                leaves.insert(leaf, after);
            }
            if leaves.len() <= TREE_LEAVES_SPARSE_MAX {
                return;
            }
            let full = (0..LEAVES).map(|leaf| leaves.get(&leaf).copied().unwrap_or(0)).collect();
            self.leaves = Leaves::Full(full);
        } else if let Leaves::Full(leaves) = &mut self.leaves
            && let Some(kept) = leaves.get_mut(usize::from(leaf))
        {
            *kept = kept.wrapping_add(sum);
        }
    }

    /// Adds another tree, leaf by leaf.
    pub fn add(&mut self, other: &Self) {
        for (leaf, sum) in other.leaves() {
            self.add_to(leaf, sum);
        }
        self.items = self.items.wrapping_add(other.items);
    }

    /// Takes another tree off, leaf by leaf.
    pub fn subtract(&mut self, other: &Self) {
        for (leaf, sum) in other.leaves() {
            self.add_to(leaf, sum.wrapping_neg());
        }
        self.items = self.items.wrapping_sub(other.items);
    }

    /// How many items are summed.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Whether it is a sum of nothing.
    pub fn is_empty(&self) -> bool {
        self.items == 0 && self.leaves().next().is_none()
    }

    /// Leaves that are not zero, in order.
    pub fn leaves(&self) -> Box<dyn Iterator<Item = (u16, u64)> + '_> {
        match &self.leaves {
            Leaves::Sparse(leaves) => Box::new(leaves.iter().map(|(leaf, sum)| (*leaf, *sum))),
            Leaves::Full(leaves) => {
                Box::new((0..LEAVES).zip(leaves.iter().copied()).filter(|(_, sum)| *sum != 0))
            }
        }
    }

    /// The tree in short.
    pub fn root(&self) -> Root {
        Root { digest: self.digest(0, 0), items: self.items }
    }

    /// What the node at this place of this level says; zero for a place that is none.
    pub fn digest(&self, level: u8, node: u16) -> Digest {
        let Some(width) = leaves_below(level) else { return Digest::default() };
        let first = u32::from(node) * u32::from(width);
        let Ok(first) = u16::try_from(first) else { return Digest::default() };
        let last = first.saturating_add(width - 1);
        // The leaf's number is in it: what one leaf lacks and another has too much must not cancel out.
        let scattered = |(leaf, sum): (u16, u64)| scatter(sum ^ scatter(u64::from(leaf) + 1));
        let sum = match &self.leaves {
            Leaves::Sparse(leaves) => leaves
                .range(first..=last)
                .fold(0u64, |all, (leaf, sum)| all.wrapping_add(scattered((*leaf, *sum)))),
            Leaves::Full(leaves) => (first..=last)
                .zip(leaves.get(usize::from(first)..).unwrap_or_default())
                .filter(|(_, sum)| **sum != 0)
                .fold(0u64, |all, (leaf, sum)| all.wrapping_add(scattered((leaf, *sum)))),
        };
        Digest(sum)
    }

    /// What the children of these nodes of a level say, child after child.
    pub fn children(&self, level: u8, nodes: &[u16]) -> Vec<Digest> {
        nodes.iter().flat_map(|node| children_of(*node)).map(|node| self.digest(level + 1, node)).collect()
    }
}

/// The places of a node's children, a level further down.
pub fn children_of(node: u16) -> impl Iterator<Item = u16> {
    let first = node.saturating_mul(FAN_OUT);
    first..first.saturating_add(FAN_OUT)
}

/// Nodes of a level.
pub fn width_of(level: u8) -> u16 {
    FAN_OUT.checked_pow(u32::from(level)).unwrap_or(0)
}

fn leaves_below(level: u8) -> Option<u16> {
    LEAF_LEVEL.checked_sub(level).and_then(|above| FAN_OUT.checked_pow(u32::from(above)))
}

/// A tree as it is kept: leaf numbers and sums, in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptTree {
    leaves: Vec<(u16, u64)>,
    items: u64,
}

impl From<&Tree> for KeptTree {
    fn from(tree: &Tree) -> Self {
        Self { leaves: tree.leaves().collect(), items: tree.items }
    }
}

impl From<KeptTree> for Tree {
    fn from(kept: KeptTree) -> Self {
        let mut tree = Self { items: kept.items, ..Self::default() };
        for (leaf, sum) in kept.leaves.into_iter().filter(|(leaf, _)| *leaf < LEAVES) {
            tree.add_to(leaf, sum);
        }
        tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    type Model = BTreeMap<Vec<u8>, u64>;

    fn model(keys: u32) -> impl Strategy<Value = Model> {
        prop::collection::btree_map((0..keys).prop_map(|n| n.to_be_bytes().to_vec()), 1u64.., 0..900)
    }

    fn tree_of(model: &Model) -> Tree {
        let mut tree = Tree::default();
        for (key, print) in model {
            tree.change(key, None, Some(Fingerprint(*print)));
        }
        tree
    }

    /// The leaves that differ, found as two nodes would find them: level by level, through digests alone.
    fn compare(one: &Tree, other: &Tree) -> BTreeSet<u16> {
        let mut nodes = if one.root() == other.root() { Vec::new() } else { vec![0] };
        for level in 0..LEAF_LEVEL {
            let (ours, theirs) = (one.children(level, &nodes), other.children(level, &nodes));
            let places = nodes.iter().flat_map(|node| children_of(*node));
            nodes =
                places.zip(ours.iter().zip(&theirs)).filter(|(_, (a, b))| a != b).map(|(n, _)| n).collect();
        }
        nodes.into_iter().collect()
    }

    #[test]
    fn the_levels_fit_the_leaves() {
        assert_eq!(width_of(LEAF_LEVEL), LEAVES);
        assert_eq!(leaves_below(0), Some(LEAVES));
        assert_eq!(leaves_below(LEAF_LEVEL), Some(1));
        assert_eq!(leaves_below(LEAF_LEVEL + 1), None);
        assert_eq!(Tree::default().digest(LEAF_LEVEL, u16::MAX), Digest(0));
        assert_eq!(Tree::default().root(), Root::default());
    }

    #[test]
    fn which_leaf_a_key_falls_to_and_what_a_root_says_do_not_change() {
        assert_eq!([leaf_of(b""), leaf_of(b"a"), leaf_of(b"user\0\0\x04")], LEAVES_OF_VECTORS);
        let tree = tree_of(&Model::from([(b"a".to_vec(), 7), (b"b".to_vec(), 9)]));
        assert_eq!(tree.root(), Root { digest: Digest(ROOT_OF_VECTOR), items: 2 });
    }
    const LEAVES_OF_VECTORS: [u16; 3] = [2203, 248, 3219];
    const ROOT_OF_VECTOR: u64 = 14_045_204_908_611_587_022;

    #[test]
    fn keys_that_differ_little_spread_over_all_leaves() {
        let mut filled = vec![0u32; TREE_LEAVES];
        for n in 0..40_960u32 {
            filled[usize::from(leaf_of(format!("user{n}").as_bytes()))] += 1;
        }
        assert!(filled.iter().all(|count| *count < 40), "{:?}", filled.iter().max());
        assert!(filled.iter().filter(|count| **count == 0).count() < 8);
    }

    #[test]
    fn what_one_leaf_lacks_and_another_has_too_much_does_not_cancel_out() {
        let (mut one, mut other) = (Tree::default(), Tree::default());
        one.add_to(1, 5);
        other.add_to(2, 5);
        assert_ne!(one.root(), other.root());
    }

    proptest! {
        #[test]
        fn a_comparison_finds_the_leaves_of_what_differs_and_no_others(
            shared in model(5000), mine in model(30), theirs in model(30)
        ) {
            let (mut ours, mut others) = (shared.clone(), shared);
            ours.extend(mine);
            others.extend(theirs);
            let differing = ours.keys().chain(others.keys()).filter(|key| ours.get(*key) != others.get(*key));
            let expected: BTreeSet<u16> = differing.map(|key| leaf_of(key)).collect();
            prop_assert_eq!(compare(&tree_of(&ours), &tree_of(&others)), expected);
        }

        #[test]
        fn no_order_and_no_detour_shows(
            model in model(3000), detour in model(3000), order in any::<prop::sample::Index>()
        ) {
            let expected = tree_of(&model);
            let mut items: Vec<_> = model.iter().collect();
            let middle = order.index(items.len() + 1);
            items.rotate_left(middle);
            let mut tree = Tree::default();
            for (key, print) in &detour {
                tree.change(key, None, Some(Fingerprint(*print)));
            }
            for (key, print) in items {
                let before = detour.get(key).map(|print| Fingerprint(*print));
                tree.change(key, before, Some(Fingerprint(*print)));
            }
            for (key, print) in detour.iter().filter(|(key, _)| !model.contains_key(*key)) {
                tree.change(key, Some(Fingerprint(*print)), None);
            }
            prop_assert_eq!(&tree, &expected);
            prop_assert_eq!(tree.root(), expected.root());
        }

        #[test]
        fn a_tree_is_what_is_kept_of_it_and_the_sum_of_its_parts(one in model(3000), other in model(3000)) {
            let (whole, part) = (tree_of(&one), tree_of(&other));
            prop_assert_eq!(&Tree::from(KeptTree::from(&whole)), &whole);
            let mut sum = whole.clone();
            sum.add(&part);
            sum.subtract(&whole);
            prop_assert_eq!(sum, part);
        }
    }
}
