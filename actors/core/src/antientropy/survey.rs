//! A look at the roots of many pairs at once, which the two nodes of these pairs take before anything else: equal
//! roots, equal replicas. It decides what may be asked and what two answers say of a pair; it does not know which pairs
//! are looked at when, nor how questions travel.

use super::exchange::{NotNow, Side};
use super::tree::Root;
use crate::ids::Partition;
use crate::limits::SURVEY_TREES_MAX;
use crate::mutant::{Mutant, planted};
use crate::ring::RingSize;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Which tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct TreeOf {
    /// The vnode that has it.
    pub vnode: Partition,
    /// The partition that its items' keys hash to.
    pub group: Partition,
}

/// Whether what another node asks is within bounds, and no tree in it twice.
pub fn is_lawful(trees: &[TreeOf], size: RingSize) -> bool {
    let known = |tree: &TreeOf| size.contains(tree.vnode) && size.contains(tree.group);
    trees.len() <= SURVEY_TREES_MAX
        && trees.iter().all(known)
        && trees.iter().collect::<BTreeSet<_>>().len() == trees.len()
}

/// What is said of a tree that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TreeTold {
    /// This is its root.
    Root(Root),
    /// Its vnode takes no part at present.
    NotNow(NotNow),
}

/// What is seen of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// The two have the same.
    Equal,
    /// They have not, or one of them had changed before the other was looked at.
    Unequal,
    /// A side takes no part at present.
    NotNow(Side, NotNow),
}

/// Which of the trees that were asked for at the other side have told their roots: only of these pairs this side's are
/// worked out.
pub fn rooted(theirs: &[TreeTold]) -> impl Iterator<Item = usize> + '_ {
    theirs.iter().enumerate().filter(|(_, told)| matches!(told, TreeTold::Root(_))).map(|(at, _)| at)
}

/// What is seen of each pair, by what the other side told of all and this side of the [`rooted`] ones, in the same
/// order; nothing when that is not about as many trees.
pub fn compare(theirs: &[TreeTold], mine: &[TreeTold]) -> Option<Vec<Sight>> {
    let mut mine = mine.iter();
    let mut sights = Vec::with_capacity(theirs.len());
    for theirs in theirs {
        sights.push(match theirs {
            TreeTold::NotNow(why) => Sight::NotNow(Side::Theirs, *why),
            TreeTold::Root(theirs) => match mine.next()? {
                _ if planted(Mutant::SurveyEqual) => Sight::Equal,
                TreeTold::NotNow(why) => Sight::NotNow(Side::Mine, *why),
                TreeTold::Root(mine) if mine == theirs => Sight::Equal,
                TreeTold::Root(_) => Sight::Unequal,
            },
        });
    }
    mine.next().is_none().then_some(sights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::antientropy::tree::Digest;
    use crate::wire::codec;

    fn root(digest: u64, items: u64) -> TreeTold {
        TreeTold::Root(Root { digest: Digest(digest), items })
    }

    #[test]
    fn equal_roots_are_equal_and_whoever_takes_no_part_says_why() {
        let (busy, moving) = (TreeTold::NotNow(NotNow::Busy), TreeTold::NotNow(NotNow::Moving));
        let theirs = [root(1, 1), root(2, 1), moving, root(1, 2), root(1, 1), moving, root(3, 3)];
        assert_eq!(rooted(&theirs).collect::<Vec<_>>(), [0, 1, 3, 4, 6]);
        let mine = [root(1, 1), root(1, 1), root(1, 1), busy, root(3, 3)];
        let seen = [
            Sight::Equal,
            Sight::Unequal,
            Sight::NotNow(Side::Theirs, NotNow::Moving),
            Sight::Unequal,
            Sight::NotNow(Side::Mine, NotNow::Busy),
            Sight::NotNow(Side::Theirs, NotNow::Moving),
            Sight::Equal,
        ];
        assert_eq!(compare(&theirs, &mine), Some(seen.to_vec()));
    }

    #[test]
    fn an_answer_about_more_or_fewer_trees_is_none() {
        let some = [root(1, 1), root(2, 2)];
        assert_eq!(compare(&some, &some[..1]), None);
        assert_eq!(compare(&some[..1], &some), None);
        assert_eq!(compare(&[TreeTold::NotNow(NotNow::Busy)], &some[..1]), None);
        assert_eq!(compare(&[], &[]), Some(Vec::new()));
    }

    #[test]
    fn a_full_survey_is_as_small_as_its_limit_says() {
        let trees: Vec<_> = (0..SURVEY_TREES_MAX as u16)
            .map(|n| TreeOf { vnode: Partition(u16::MAX - n), group: Partition(u16::MAX - n) })
            .collect();
        let told = vec![root(u64::MAX, u64::from(u32::MAX)); SURVEY_TREES_MAX];
        let bytes = |encoded: Result<Vec<u8>, _>| -> usize { encoded.map(|bytes| bytes.len()).unwrap() };
        assert!(bytes(codec::encode(&trees)) <= 2000);
        assert!(bytes(codec::encode(&told)) <= 5000);
    }

    #[test]
    fn too_many_trees_and_trees_outside_the_ring_are_refused() {
        let size = RingSize::try_from(8).unwrap();
        let tree = |vnode, group| TreeOf { vnode: Partition(vnode), group: Partition(group) };
        assert!(!is_lawful(&[tree(7, 0), tree(6, 0), tree(7, 0)], size), "one of them twice");
        assert!(is_lawful(&[tree(7, 0), tree(6, 0), tree(7, 1)], size));
        assert!(!is_lawful(&[tree(0, 0), tree(8, 0)], size));
        assert!(!is_lawful(&[tree(0, 8)], size));
        let large = RingSize::try_from(1024).unwrap();
        let many: Vec<TreeOf> = (0..=SURVEY_TREES_MAX as u16).map(|vnode| tree(vnode, 0)).collect();
        assert!(is_lawful(&many[1..], large));
        assert!(!is_lawful(&many, large));
    }
}
