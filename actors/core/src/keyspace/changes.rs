//! What a turn says of the items that it changed: what a fold showed of each before, and what it shows now. It decides
//! what is kept of that until the turn ends; what it is good for (trees of sums, [`crate::antientropy`]) it does not
//! know.
//!
//! A module that hides or forgets more items than it can name in a turn names the range of their keys instead. What
//! has changed there is then found out off the vnode's thread, by going through the range as it was before the turn
//! and as it is after it.

use super::Snapshot;
use crate::antientropy::Fingerprint;
use crate::antientropy::listing::GroupOf;
use crate::ids::Partition;
use crate::limits::{TURN_CHANGES_MAX, TURN_RANGES_MAX};
use crate::store::KeyRange;
use crate::vnode::Item;
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

/// One item that is not what it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The group that it belongs to; none where the vnode is not of its preference list.
    pub group: Option<Partition>,
    /// The leaf that it falls to.
    pub leaf: u16,
    /// Which item.
    pub key: Vec<u8>,
    /// What a fold showed of it before; none if nothing.
    pub was: Option<Fingerprint>,
    /// What a fold shows of it now; none if nothing.
    pub is: Option<Fingerprint>,
}

/// All that one turn has changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Items that it named, one after the other; one that changed twice is here twice.
    pub items: SmallVec<[Change; 1]>,
    /// What lies in the ranges that it named; nothing in them is among the items.
    pub ranges: Option<ChangedRanges>,
    /// An item could not be encoded, or there were too many: what has changed is not known.
    pub doubtful: bool,
}

impl Changes {
    /// Whether the turn has changed nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.ranges.is_none() && !self.doubtful
    }
}

/// Ranges in which a turn has changed what it did not name, and both sides of the turn to look at.
pub struct ChangedRanges {
    /// Disjoint.
    pub ranges: Vec<KeyRange>,
    /// The keyspace before the turn.
    pub before: Snapshot,
    /// The keyspace after it.
    pub after: Snapshot,
}

impl fmt::Debug for ChangedRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangedRanges").field("ranges", &self.ranges).finish_non_exhaustive()
    }
}

/// A place between keys: a key, and whether the place is behind it. None is before all of them.
type Place = Option<(Bytes, bool)>;

/// What the turn that runs has told so far.
pub(super) struct Told {
    groups: GroupOf,
    /// Kept from turn to turn: most changes are told without taking memory, but for their keys.
    scratch: Vec<u8>,
    turn: TurnTold,
}

#[derive(Default)]
struct TurnTold {
    items: SmallVec<[Change; 1]>,
    /// Disjoint, by where they begin.
    ranges: BTreeMap<Place, KeyRange>,
    before: Option<Snapshot>,
    doubtful: bool,
}

impl Told {
    pub(super) fn new(groups: GroupOf) -> Self {
        Self { groups, scratch: Vec::new(), turn: TurnTold::default() }
    }

    pub(super) fn item<I: Item>(&mut self, was: Option<&I>, is: Option<&I>) {
        let Some(some) = is.or(was) else { return };
        let key = some.key();
        if self.turn.doubtful || self.turn.in_a_range(&key) {
            return;
        }
        let prints = *self.groups.prints();
        let mut print = |item: Option<&I>| item.map(|item| prints.of(item, &mut self.scratch)).transpose();
        match (print(was), print(is)) {
            (Ok(was), Ok(is)) if was == is => {}
            (Ok(was), Ok(is)) if self.turn.items.len() < TURN_CHANGES_MAX => {
                let (group, leaf) = (self.groups.of(some.routing_key()), prints.leaf_of(&key));
                self.turn.items.push(Change { group, leaf, key, was, is });
            }
            _ => self.turn = TurnTold { doubtful: true, ..TurnTold::default() },
        }
    }

    /// `before` makes a snapshot of the keyspace as it was before the turn.
    pub(super) fn range(&mut self, range: &KeyRange, before: impl FnOnce() -> Snapshot) {
        self.turn.range(range, before);
    }

    /// The turn has failed: it has told nothing.
    pub(super) fn forget(&mut self) {
        self.turn = TurnTold::default();
    }

    /// What the turn has told; `after` makes a snapshot of the keyspace as the turn leaves it.
    pub(super) fn finish(&mut self, after: impl FnOnce() -> Snapshot) -> Changes {
        std::mem::take(&mut self.turn).finish(after)
    }
}

impl TurnTold {
    fn range(&mut self, range: &KeyRange, before: impl FnOnce() -> Snapshot) {
        if self.doubtful || range.is_empty() {
            return;
        }
        let mut hull = range.clone();
        // A hull may reach what the range alone did not, so this goes on until nothing more is reached.
        while let Some(at) = self.overlapping(&hull) {
            if let Some(other) = self.ranges.remove(&at) {
                hull = hull_of(other, hull);
            }
        }
        self.ranges.insert(start_of(&hull), hull);
        if self.ranges.len() > TURN_RANGES_MAX {
            self.ranges = BTreeMap::from([(None, KeyRange::all())]);
        }
        if self.before.is_none() {
            self.before = Some(before());
        }
    }

    fn in_a_range(&self, key: &[u8]) -> bool {
        if self.ranges.is_empty() {
            return false;
        }
        let at = Some((Bytes::copy_from_slice(key), false));
        self.ranges.range(..=at).next_back().is_some_and(|(_, range)| range.contains(key))
    }

    /// They are disjoint: only the last one that begins before this one, or the first that begins after, can.
    fn overlapping(&self, range: &KeyRange) -> Option<Place> {
        let start = start_of(range);
        let before = self.ranges.range(..=start.clone()).next_back();
        let after = self.ranges.range(start..).next();
        before.into_iter().chain(after).find(|(_, other)| overlap(other, range)).map(|(at, _)| at.clone())
    }

    fn finish(mut self, after: impl FnOnce() -> Snapshot) -> Changes {
        let mut items = std::mem::take(&mut self.items);
        if !self.ranges.is_empty() {
            items.retain(|change| !self.in_a_range(&change.key));
        }
        let Self { ranges, before, doubtful, .. } = self;
        let ranges = ranges.into_values().collect();
        let ranges = before.map(|before| ChangedRanges { ranges, before, after: after() });
        Changes { items, ranges, doubtful }
    }
}

fn start_of(range: &KeyRange) -> Place {
    place(&range.start, false).map(|(key, behind)| (key.clone(), behind))
}

fn overlap(one: &KeyRange, other: &KeyRange) -> bool {
    let start = later_start(&one.start, &other.start).clone();
    let end = earlier_end(&one.end, &other.end).clone();
    !KeyRange { start, end }.is_empty()
}

fn hull_of(one: KeyRange, other: KeyRange) -> KeyRange {
    let start = if *later_start(&one.start, &other.start) == one.start { other.start } else { one.start };
    let end = if *earlier_end(&one.end, &other.end) == one.end { other.end } else { one.end };
    KeyRange { start, end }
}

fn place(bound: &Bound<Bytes>, behind: bool) -> Option<(&Bytes, bool)> {
    match bound {
        Bound::Unbounded => None,
        Bound::Included(key) => Some((key, behind)),
        Bound::Excluded(key) => Some((key, !behind)),
    }
}

fn later_start<'a>(one: &'a Bound<Bytes>, other: &'a Bound<Bytes>) -> &'a Bound<Bytes> {
    // None is the smallest place, as it should be for a start.
    if place(one, false) >= place(other, false) { one } else { other }
}

fn earlier_end<'a>(one: &'a Bound<Bytes>, other: &'a Bound<Bytes>) -> &'a Bound<Bytes> {
    match (place(one, true), place(other, true)) {
        (None, _) => other,
        (_, None) => one,
        (first, second) if first <= second => one,
        _ => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bound() -> impl Strategy<Value = Bound<Bytes>> {
        prop_oneof![
            Just(Bound::Unbounded),
            (0u8..8).prop_map(|n| Bound::Included(Bytes::from(vec![n]))),
            (0u8..8).prop_map(|n| Bound::Excluded(Bytes::from(vec![n]))),
        ]
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        (bound(), bound())
            .prop_map(|(start, end)| KeyRange { start, end })
            .prop_filter("not empty", |range| !range.is_empty())
    }

    proptest! {
        #[test]
        fn ranges_that_share_a_key_overlap_and_their_hull_is_what_either_has(one in range(), other in range()) {
            let shared = (0u8..8).any(|n| one.contains(&[n]) && other.contains(&[n]));
            prop_assert!(!shared || overlap(&one, &other));
            if overlap(&one, &other) {
                let hull = hull_of(one.clone(), other.clone());
                for n in 0u8..8 {
                    prop_assert_eq!(hull.contains(&[n]), one.contains(&[n]) || other.contains(&[n]), "{}", n);
                }
            }
        }
    }
}
