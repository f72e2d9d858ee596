//! A sum of items that can be compared in few bytes: 4096 leaves, each the sum of the fingerprints of the items that
//! fall to it, and three levels above them that are worked out when they are asked for. It decides what a node above
//! the leaves says; it does not know which items there are, nor which leaf they fall to.
//!
//! Sums commute. So a tree need not be built in one go: what a scan over a snapshot finds and what has changed since
//! that snapshot are two trees, and their sum is the tree. And it takes no order of writes to keep one up to date: what
//! an item was is taken off, what it is is added.

use super::{Fingerprint, scatter};
use crate::limits::TREE_LEAVES;
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;

/// Children of a node.
pub const FAN_OUT: u16 = 16;
/// The level of the leaves; the root is level 0.
pub const LEAF_LEVEL: u8 = 3;
const LEAVES: u16 = TREE_LEAVES as u16;
/// Leaves that are kept side by side: those below one node of the last level above them.
const BLOCK: usize = FAN_OUT as usize;

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
///
/// Blocks of leaves are there from the first item on that falls to one of theirs. A change finds its sum in two steps
/// and takes no memory, but for a block's first; a full tree is 32 KiB and a half, most trees of a large ring are less.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Where each block is among `blocks`, from 1; 0 for one that is not there. Nothing before the first change.
    places: Vec<u16>,
    blocks: Vec<[u64; BLOCK]>,
    /// Wraps, like the sums: a part of a tree may have taken off more than it has added.
    items: u64,
    /// Of all leaves, where it was asked for since the last change: trees that nobody writes to are looked at again and
    /// again, and a full one is 32 KiB to go through.
    digest_of_all: OnceCell<Digest>,
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.items == other.items && self.leaves().eq(other.leaves())
    }
}

impl Eq for Tree {}

impl Tree {
    /// An item that falls to this leaf has become another, or appeared, or gone.
    pub fn change(&mut self, leaf: u16, was: Option<Fingerprint>, is: Option<Fingerprint>) {
        let bits = |print: Option<Fingerprint>| print.map_or(0, |print| print.0);
        self.add_to(leaf, bits(is).wrapping_sub(bits(was)));
        let count = |print: Option<Fingerprint>| u64::from(print.is_some());
        self.items = self.items.wrapping_add(count(is)).wrapping_sub(count(was));
    }

    fn add_to(&mut self, leaf: u16, sum: u64) {
        self.digest_of_all.take();
        let leaf = usize::from(leaf);
        if self.places.is_empty() {
            self.places = vec![0; TREE_LEAVES / BLOCK];
        }
        let Some(place) = self.places.get_mut(leaf / BLOCK) else { return };
        if *place == 0 {
            self.blocks.push([0; BLOCK]);
            *place = self.blocks.len() as u16;
        }
        if let Some(block) = self.blocks.get_mut(usize::from(*place) - 1) {
            block[leaf % BLOCK] = block[leaf % BLOCK].wrapping_add(sum);
        }
    }

    /// The sums of one block of leaves, all zero where it is not there.
    fn block(&self, block: usize) -> Option<&[u64; BLOCK]> {
        let place = self.places.get(block).copied().unwrap_or(0);
        self.blocks.get(usize::from(place).checked_sub(1)?)
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
    pub fn leaves(&self) -> impl Iterator<Item = (u16, u64)> + '_ {
        self.leaves_within(0, LEAVES)
    }

    /// Those from `first` on, up to and without `end`.
    fn leaves_within(&self, first: u16, end: u16) -> impl Iterator<Item = (u16, u64)> + '_ {
        let blocks = usize::from(first) / BLOCK..usize::from(end).div_ceil(BLOCK);
        let there = blocks.filter_map(|block| Some(((block * BLOCK) as u16, self.block(block)?)));
        let leaves = there.flat_map(|(leaf, sums)| (leaf..).zip(sums.iter().copied()));
        leaves.filter(move |(leaf, sum)| *sum != 0 && (first..end).contains(leaf))
    }

    /// The tree in short.
    pub fn root(&self) -> Root {
        Root { digest: *self.digest_of_all.get_or_init(|| self.digest(0, 0)), items: self.items }
    }

    /// What the node at this place of this level says; zero for a place that is none.
    pub fn digest(&self, level: u8, node: u16) -> Digest {
        let Some(width) = leaves_below(level) else { return Digest::default() };
        let first = u32::from(node) * u32::from(width);
        let Ok(first) = u16::try_from(first) else { return Digest::default() };
        // The leaf's number is in it: what one leaf lacks and another has too much must not cancel out.
        let scattered = |(leaf, sum): (u16, u64)| scatter(sum ^ scatter(u64::from(leaf) + 1));
        let leaves = self.leaves_within(first, first.saturating_add(width));
        Digest(leaves.fold(0u64, |all, leaf| all.wrapping_add(scattered(leaf))))
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
    use std::collections::{BTreeMap, BTreeSet};

    type Model = BTreeMap<Vec<u8>, u64>;

    fn model(keys: u32) -> impl Strategy<Value = Model> {
        prop::collection::btree_map((0..keys).prop_map(|n| n.to_be_bytes().to_vec()), 1u64.., 0..900)
    }

    /// Any spread does.
    fn leaf_of(key: &[u8]) -> u16 {
        let hash = key.iter().fold(1u64, |hash, byte| scatter(hash ^ u64::from(*byte)));
        (hash % u64::from(LEAVES)) as u16
    }

    fn tree_of(model: &Model) -> Tree {
        let mut tree = Tree::default();
        for (key, print) in model {
            tree.change(leaf_of(key), None, Some(Fingerprint(*print)));
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
    fn a_root_that_was_asked_for_is_asked_for_anew_after_every_kind_of_change() {
        let fresh = |tree: &Tree| Tree::from(KeptTree::from(tree)).root();
        let part = tree_of(&Model::from([(vec![9], 90), (vec![200], 7)]));
        let mut tree = tree_of(&Model::from([(vec![1], 10), (vec![2], 20)]));
        let changes: [&dyn Fn(&mut Tree); 4] = [
            &|tree| tree.change(3, None, Some(Fingerprint(5))),
            &|tree| tree.change(3, Some(Fingerprint(5)), Some(Fingerprint(6))),
            &|tree| tree.add(&part),
            &|tree| tree.subtract(&part),
        ];
        for change in changes {
            let before = tree.root();
            change(&mut tree);
            assert_ne!(tree.root(), before);
            assert_eq!(tree.root(), fresh(&tree));
        }
    }

    #[test]
    fn what_a_root_says_does_not_change() {
        let mut tree = Tree::default();
        tree.change(248, None, Some(Fingerprint(7)));
        tree.change(3219, None, Some(Fingerprint(9)));
        assert_eq!(tree.root(), Root { digest: Digest(ROOT_OF_VECTOR), items: 2 });
    }
    const ROOT_OF_VECTOR: u64 = 8_855_649_657_031_567_658;

    #[test]
    fn a_tree_takes_memory_for_the_blocks_that_have_something_and_no_leaf_beyond_the_last() {
        let mut tree = Tree::default();
        assert_eq!((tree.places.capacity(), tree.blocks.capacity()), (0, 0));
        for leaf in [5, 6, 5, LEAVES - 1, LEAVES, u16::MAX] {
            tree.add_to(leaf, 1);
        }
        assert_eq!(tree.blocks.len(), 2);
        assert_eq!(tree.leaves().collect::<Vec<_>>(), [(5, 2), (6, 1), (LEAVES - 1, 1)]);
        for leaf in 0..LEAVES {
            tree.add_to(leaf, 1);
        }
        assert_eq!(tree.blocks.capacity() * BLOCK, TREE_LEAVES);
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
                tree.change(leaf_of(key), None, Some(Fingerprint(*print)));
            }
            for (key, print) in items {
                let before = detour.get(key).map(|print| Fingerprint(*print));
                tree.change(leaf_of(key), before, Some(Fingerprint(*print)));
            }
            for (key, print) in detour.iter().filter(|(key, _)| !model.contains_key(*key)) {
                tree.change(leaf_of(key), Some(Fingerprint(*print)), None);
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
