//! The trees of one vnode: kept up to date by what its turns say, built anew from a scan when that is in doubt. It
//! decides when the trees can be compared with another's; who scans, and when it is time to, it does not know.
//!
//! Three things happen off the vnode's thread and are brought in later: the scan that builds, and the going through
//! ranges that a turn could not name the items of. Each belongs to one *building*: what was begun for an earlier one is
//! not taken in any more.

use super::Fingerprint;
use super::listing::{GroupOf, Sums};
use super::tree::{KeptTree, Tree};
use crate::ids::{ClusterId, Partition};
use crate::keyspace::changes::{Change, ChangedRanges, Changes};
use crate::limits::{CHANGES_LATE_MAX, N_VAL_MAX, RANGES_OWED_MAX};
use crate::wire::Wire;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Numbers the buildings of one vnode's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Building(u64);

/// How far the trees are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Standing {
    /// They say what a fold would show.
    Ready,
    /// A scan is under way.
    Building,
    /// They are not to be believed, or there are none: a scan has to build them.
    InDoubt,
}

/// The trees as they are kept over a stop in peace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeptTrees {
    /// Whose fingerprints they are of: in another cluster they say nothing.
    cluster: ClusterId,
    /// How the items were laid out and fingerprinted: to another release they say nothing.
    layout: u32,
    trees: BTreeMap<Partition, KeptTree>,
}

impl Wire for KeptTrees {
    /// 1: trees of fingerprints that were SHA-1 without a key. 2: without a word on how items are laid out.
    const VERSION: u16 = 3;
}

/// Ranges of which somebody has to find out what has changed in them.
#[derive(Debug)]
pub struct Owed {
    /// For [`Keeper::settle`].
    pub building: Building,
    /// Where to look, before and after.
    pub ranges: ChangedRanges,
}

/// A change that is to be added to a tree.
#[derive(Clone, Copy, Debug)]
struct Late {
    group: Partition,
    leaf: u16,
    was: Option<Fingerprint>,
    is: Option<Fingerprint>,
}

/// See the module's head.
#[derive(Debug)]
pub struct Keeper {
    groups: GroupOf,
    trees: BTreeMap<Partition, Tree>,
    /// What turns have said and is not in the trees yet. A sum that is touched alone has to be fetched from memory
    /// while the turn waits; those of many changes are fetched side by side.
    late: Vec<Late>,
    /// Those that are being replaced by a building, while what changes is added to both: they are to say the same.
    former: Option<BTreeMap<Partition, Tree>>,
    standing: Standing,
    building: Building,
    /// Ranges that are gone through at present.
    owed: usize,
}

/// What became of a building.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Built {
    /// Nothing: it was given up, or could not read everything.
    Not,
    /// The trees are ready.
    Ready,
    /// So they are, and those that there were before had not said what the items are: a turn has not told what it
    /// changed, or the store has lost or damaged something.
    Corrected,
}

impl Keeper {
    /// Of a vnode whose trees have to be built. `groups` says which group an item belongs to.
    pub fn new(groups: GroupOf) -> Self {
        let building = Building::default();
        let (trees, late) = Default::default();
        Self { groups, trees, late, former: None, standing: Standing::InDoubt, building, owed: 0 }
    }

    /// Of a vnode with nothing in it.
    pub fn empty(groups: GroupOf) -> Self {
        Self { standing: Standing::Ready, ..Self::new(groups) }
    }

    /// Of a vnode that stopped in peace and has these. They have to be built if they are another cluster's, or of
    /// items that were laid out or fingerprinted otherwise than `layout` says.
    pub fn found(groups: GroupOf, layout: u32, kept: KeptTrees) -> Self {
        if kept.cluster != groups.cluster() || kept.layout != layout {
            return Self::new(groups);
        }
        let trees = kept.trees.into_iter().filter(|(group, _)| groups.reaches(*group));
        let trees = trees.take(N_VAL_MAX).map(|(group, kept)| (group, kept.into())).collect();
        Self { trees, ..Self::empty(groups) }
    }

    /// What to keep at a stop in peace; nothing unless the trees are ready. `layout` names how items are laid out and
    /// fingerprinted.
    pub fn keep(&mut self, layout: u32) -> Option<KeptTrees> {
        self.catch_up();
        let trees = self.trees.iter().filter(|(_, tree)| !tree.is_empty());
        self.is_settled()
            .then(|| trees.map(|(group, tree)| (*group, tree.into())).collect())
            .map(|trees| KeptTrees { cluster: self.groups.cluster(), layout, trees })
    }

    /// How far they are.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether the trees say what a fold would show: they are ready, and no range is being gone through.
    pub fn is_settled(&self) -> bool {
        self.standing == Standing::Ready && self.owed == 0
    }

    /// Which group an item belongs to.
    pub fn groups(&self) -> GroupOf {
        self.groups
    }

    /// Items in all trees, as far as they are known.
    pub fn items(&mut self) -> u64 {
        self.catch_up();
        self.trees.values().fold(0, |all, tree| all.wrapping_add(tree.items()))
    }

    /// The tree of a group, to be compared with another's; none when it cannot be.
    pub fn tree(&mut self, group: Partition) -> Option<&Tree> {
        if !self.is_settled() || !self.groups.reaches(group) {
            return None;
        }
        self.catch_up();
        Some(self.trees.entry(group).or_default())
    }

    /// Takes in what a turn has changed. What it could not name comes back, to be gone through off this thread and
    /// brought to [`Self::settle`].
    #[must_use]
    pub fn take(&mut self, changes: Changes) -> Option<Owed> {
        let Changes { items, ranges, doubtful } = changes;
        if doubtful {
            self.doubt();
        }
        if self.standing == Standing::InDoubt {
            return None;
        }
        for Change { group, leaf, was, is, .. } in items {
            if let Some(group) = group {
                self.late.push(Late { group, leaf, was, is });
            }
        }
        if self.late.len() >= CHANGES_LATE_MAX {
            self.catch_up();
        }
        let ranges = ranges?;
        if self.owed >= RANGES_OWED_MAX {
            self.doubt();
            return None;
        }
        self.owed += 1;
        Some(Owed { building: self.building, ranges })
    }

    fn catch_up(&mut self) {
        let mut late = std::mem::take(&mut self.late);
        self.each(|trees| {
            for Late { group, leaf, was, is } in &late {
                trees.entry(*group).or_default().change(*leaf, *was, *is);
            }
        });
        late.clear();
        // A turn may have said much more than the others do.
        late.shrink_to(CHANGES_LATE_MAX);
        self.late = late;
    }

    /// What was found before and after a turn in the ranges that it named; none when they could not be read.
    pub fn settle(&mut self, building: Building, found: Option<(Sums, Sums)>) {
        if building != self.building || self.standing == Standing::InDoubt {
            return;
        }
        let Some((before, after)) = found else { return self.doubt() };
        self.owed = self.owed.saturating_sub(1);
        self.each(|trees| {
            for (group, tree) in &before.trees {
                trees.entry(*group).or_default().subtract(tree);
            }
            add(trees, &after);
        });
    }

    fn each(&mut self, mut change: impl FnMut(&mut BTreeMap<Partition, Tree>)) {
        change(&mut self.trees);
        self.former.iter_mut().for_each(change);
    }

    /// The trees are not to be believed. What is under way for them is not taken in.
    pub fn doubt(&mut self) {
        self.standing = Standing::InDoubt;
        self.building.0 += 1;
        self.owed = 0;
        self.trees.clear();
        self.late.clear();
        self.former = None;
    }

    /// From now on items belong elsewhere, or are fingerprinted otherwise: the trees have to be built.
    pub fn regroup(&mut self, groups: GroupOf) {
        self.doubt();
        self.groups = groups;
    }

    /// Begins to build the trees: a snapshot is to be taken now, between two turns, and summed up for
    /// [`Self::built`]. From now on what turns say is added up beside.
    pub fn begin(&mut self) -> Building {
        // What was said before the snapshot is in it.
        self.catch_up();
        let former = self.is_settled().then(|| std::mem::take(&mut self.trees));
        self.doubt();
        self.former = former;
        self.standing = Standing::Building;
        self.building
    }

    /// The scan of a building has ended; none when it could not read everything.
    pub fn built(&mut self, building: Building, sums: Option<Sums>) -> Built {
        if building != self.building || self.standing != Standing::Building {
            return Built::Not;
        }
        let Some(sums) = sums else {
            self.doubt();
            return Built::Not;
        };
        self.catch_up();
        add(&mut self.trees, &sums);
        self.standing = Standing::Ready;
        match self.former.take() {
            Some(former) if !is_the_same(&former, &self.trees) => Built::Corrected,
            _ => Built::Ready,
        }
    }
}

fn add(trees: &mut BTreeMap<Partition, Tree>, sums: &Sums) {
    for (group, tree) in &sums.trees {
        trees.entry(*group).or_default().add(tree);
    }
}

fn is_the_same(one: &BTreeMap<Partition, Tree>, other: &BTreeMap<Partition, Tree>) -> bool {
    let root = |trees: &BTreeMap<Partition, Tree>, group| {
        trees.get(group).filter(|tree| !tree.is_empty()).map(Tree::root)
    };
    one.keys().chain(other.keys()).all(|group| root(one, group) == root(other, group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::RingSize;
    use crate::wire::{WireError, from_stored, stored};

    fn groups(cluster: u8) -> GroupOf {
        GroupOf::new(ClusterId([cluster; 16]), "chat", RingSize::LEAST, Partition(0))
    }

    #[test]
    fn trees_of_another_cluster_or_release_are_not_taken_for_this_one_s() {
        let mut keeper = Keeper::empty(groups(1));
        keeper.late.push(Late { group: Partition(0), leaf: 7, was: None, is: Some(Fingerprint(9)) });
        let kept = keeper.keep(7).unwrap();
        let mut bytes = stored(&kept).unwrap();
        let found = |cluster, layout| {
            let mut keeper = Keeper::found(groups(cluster), layout, from_stored(&bytes).unwrap());
            (keeper.standing(), keeper.items())
        };
        assert_eq!(found(1, 7), (Standing::Ready, 1));
        assert_eq!(found(2, 7), (Standing::InDoubt, 0));
        assert_eq!(found(1, 8), (Standing::InDoubt, 0));
        bytes[0] = 2;
        assert_eq!(from_stored::<KeptTrees>(&bytes), Err(WireError::Version(2)));
        keeper.regroup(groups(2));
        assert_eq!((keeper.standing(), keeper.items(), keeper.keep(7)), (Standing::InDoubt, 0, None));
    }

    #[test]
    fn what_nobody_told_is_found_when_the_trees_are_built_anew() {
        let mut keeper = Keeper::empty(groups(1));
        let mut tree = Tree::default();
        tree.change(7, None, Some(Fingerprint(7)));
        let sums = |tree: &Tree| Sums { trees: [(Partition(0), tree.clone())].into() };
        let building = keeper.begin();
        assert_eq!(keeper.built(building, Some(sums(&tree))), Built::Corrected, "the first was not told");
        let building = keeper.begin();
        assert_eq!(keeper.built(building, Some(sums(&tree))), Built::Ready);
        let building = keeper.begin();
        assert_eq!(keeper.built(building, Some(sums(&Tree::default()))), Built::Corrected, "one is gone");
        keeper.doubt();
        let building = keeper.begin();
        assert_eq!(keeper.built(building, Some(sums(&tree))), Built::Ready, "there was nothing to compare");
    }
}
