//! Going through the items of one vnode for anti-entropy: summing them up, listing those that fall to certain leaves,
//! picking some of them. Runs on a snapshot, away from the vnode. It decides how far one step goes, so that a pool
//! thread is never taken for long; what comes of it, it does not know.
//!
//! Nothing is kept from one page of a listing to the next but the key that it ended at, neither here nor at the other
//! node. Pages may be of different moments; an item that changed between them is sent once too often, or found the
//! next time.

use super::tree::Tree;
use super::{Fingerprint, Fingerprints};
use crate::ids::{ClusterId, Partition};
use crate::keyspace::Snapshot;
use crate::limits::{
    ENTRIES_PAGE_BYTES_MAX, ENTRIES_PAGE_MAX, ENTRIES_VISITED_MAX, N_VAL_MAX, REPAIR_BATCH_ITEMS_MAX,
    STORE_KEY_BYTES_MAX, TREE_LEAVES, VISITED_BYTES_MAX,
};
use crate::ring::{KeyHash, RingSize};
use crate::store::{Flow, KeyRange};
use crate::vnode::{Item, Vnode};
use crate::wire::{Wire, codec};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Where the items of one vnode belong in its trees: to which group's, and how they are fingerprinted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupOf {
    cluster: ClusterId,
    service: &'static str,
    size: RingSize,
    partition: Partition,
    prints: Fingerprints,
}

impl GroupOf {
    /// For the vnode of `partition`.
    pub fn new(cluster: ClusterId, service: &'static str, size: RingSize, partition: Partition) -> Self {
        Self { cluster, service, size, partition, prints: Fingerprints::new(cluster, service) }
    }

    /// The cluster whose fingerprints these are.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// How the items are fingerprinted.
    pub fn prints(&self) -> &Fingerprints {
        &self.prints
    }

    /// The vnode's partition.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// The group of an item with this routing key; none where no preference list of that key reaches the vnode.
    pub fn of(&self, routing_key: &[u8]) -> Option<Partition> {
        let group = self.size.partition_of(&KeyHash::of(self.service, routing_key));
        self.reaches(group).then_some(group)
    }

    /// Whether a preference list that begins at `group` can reach the vnode.
    pub fn reaches(&self, group: Partition) -> bool {
        self.size.contains(group) && self.steps_from(group) < N_VAL_MAX
    }

    /// How many partitions clockwise of the group's the vnode is.
    pub fn steps_from(&self, group: Partition) -> usize {
        let size = self.size.count();
        (usize::from(self.partition.0) + size - usize::from(group.0) % size) % size
    }
}

/// As [`GroupOf`], for items that come in the order of their keys: mostly of the same routing key as before.
struct Following {
    groups: GroupOf,
    last: Option<(Vec<u8>, Option<Partition>)>,
    scratch: Vec<u8>,
}

impl Following {
    fn new(groups: GroupOf) -> Self {
        Self { groups, last: None, scratch: Vec::new() }
    }

    /// None for an item that cannot be sent either.
    fn print<I: Item>(&mut self, item: &I) -> Option<Fingerprint> {
        self.groups.prints.of(item, &mut self.scratch).ok()
    }

    fn of(&mut self, routing_key: &[u8]) -> Option<Partition> {
        if let Some((last, group)) = &self.last
            && last == routing_key
        {
            return *group;
        }
        let group = self.groups.of(routing_key);
        self.last = Some((routing_key.to_vec(), group));
        group
    }
}

/// A vnode's trees, or parts of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// By group.
    pub trees: BTreeMap<Partition, Tree>,
}

/// Summing up a range of a snapshot, step by step.
pub struct Summing {
    snapshot: Snapshot,
    left: KeyRange,
    following: Following,
    sums: Sums,
}

impl Summing {
    /// Everything in `range`.
    pub fn new(snapshot: Snapshot, range: KeyRange, groups: GroupOf) -> Self {
        let following = Following::new(groups);
        Self { snapshot, left: range, following, sums: Sums::default() }
    }

    /// Goes through at most `items_max` items, one at least. Says whether there may be more.
    pub fn step<V: Vnode>(&mut self, items_max: usize) -> Result<bool, V::Error> {
        if self.left.is_empty() {
            return Ok(false);
        }
        let (mut visited, mut visited_bytes, mut last) = (0usize, 0usize, None);
        let (following, sums) = (&mut self.following, &mut self.sums);
        V::fold(&self.snapshot, &self.left, &mut |item| {
            let key = item.key();
            if let Some(group) = following.of(item.routing_key())
                && let Some(print) = following.print(&item)
            {
                let leaf = following.groups.prints.leaf_of(&key);
                sums.trees.entry(group).or_default().change(leaf, None, Some(print));
            }
            visited += 1;
            visited_bytes += item.bytes_about();
            if visited >= items_max || visited_bytes >= VISITED_BYTES_MAX {
                last = Some(key);
                return Flow::Break(());
            }
            Flow::Continue(())
        })?;
        let more = last.is_some();
        if let Some(last) = last {
            self.left.start = Bound::Excluded(last.into());
        }
        Ok(more)
    }

    /// What was found.
    pub fn finish(self) -> Sums {
        self.sums
    }
}

/// Sums up several ranges of a snapshot in one go.
pub fn sum_up<V: Vnode>(snapshot: &Snapshot, ranges: &[KeyRange], groups: GroupOf) -> Result<Sums, V::Error> {
    let mut sums = Sums::default();
    let mut following = Following::new(groups);
    for range in ranges {
        V::fold(snapshot, range, &mut |item: V::Item| {
            let key = item.key();
            if let Some(group) = following.of(item.routing_key())
                && let Some(print) = following.print(&item)
            {
                let leaf = following.groups.prints.leaf_of(&key);
                sums.trees.entry(group).or_default().change(leaf, None, Some(print));
            }
            Flow::Continue(())
        })?;
    }
    Ok(sums)
}

/// Which items to list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wanted {
    /// Of this group.
    pub group: Partition,
    /// That fall to one of these leaves; ascending.
    pub leaves: Vec<u16>,
    /// From behind this key on.
    pub after: Option<Vec<u8>>,
}

impl Wanted {
    /// Whether what another node wants is within bounds.
    pub fn is_lawful(&self, size: RingSize) -> bool {
        size.contains(self.group)
            && self.leaves.len() <= TREE_LEAVES
            && self.leaves.is_sorted_by(|a, b| a < b)
            && self.leaves.last().is_none_or(|leaf| usize::from(*leaf) < TREE_LEAVES)
            && self.after.as_ref().is_none_or(|key| key.len() <= STORE_KEY_BYTES_MAX)
    }
}

/// How far a page of a listing reaches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Through {
    /// Up to and with this key; the next page begins behind it.
    Key(Vec<u8>),
    /// To the end.
    End,
}

impl Through {
    /// Whether this key lies within.
    pub fn reaches(&self, key: &[u8]) -> bool {
        match self {
            Self::Key(last) => key <= last.as_slice(),
            Self::End => true,
        }
    }
}

/// An item in a listing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its key.
    pub key: Vec<u8>,
    /// What it is.
    pub print: Fingerprint,
}

/// One page: everything that was wanted, from where the page begins to where it reaches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Page {
    /// In the order of their keys.
    pub entries: Vec<Entry>,
    /// How far.
    pub through: Through,
}

impl Page {
    /// Whether a page that another node sent for `wanted` is one.
    pub fn is_lawful(&self, wanted: &Wanted, prints: &Fingerprints) -> bool {
        let behind = |key: &[u8]| wanted.after.as_ref().is_none_or(|after| key > after.as_slice());
        let gets_on = match &self.through {
            Through::Key(last) => behind(last) && last.len() <= STORE_KEY_BYTES_MAX,
            Through::End => true,
        };
        gets_on
            && self.entries.len() <= ENTRIES_PAGE_MAX
            && self.entries.is_sorted_by(|a, b| a.key < b.key)
            && self.entries.first().is_none_or(|first| behind(&first.key))
            && self.entries.iter().all(|entry| {
                self.through.reaches(&entry.key)
                    && entry.key.len() <= STORE_KEY_BYTES_MAX
                    && wanted.leaves.binary_search(&prints.leaf_of(&entry.key)).is_ok()
            })
    }
}

/// One page of what is wanted.
pub fn list<V: Vnode>(snapshot: &Snapshot, groups: GroupOf, wanted: &Wanted) -> Result<Page, V::Error> {
    let start = match &wanted.after {
        Some(after) => Bound::Excluded(Bytes::copy_from_slice(after)),
        None => Bound::Unbounded,
    };
    let range = KeyRange { start, end: Bound::Unbounded };
    let mut page = Page { entries: Vec::new(), through: Through::End };
    let (mut visited, mut visited_bytes, mut bytes) = (0usize, 0usize, 0usize);
    let mut following = Following::new(groups);
    V::fold(snapshot, &range, &mut |item: V::Item| {
        let key = item.key();
        if wanted.leaves.binary_search(&groups.prints.leaf_of(&key)).is_ok()
            && following.of(item.routing_key()) == Some(wanted.group)
            && let Some(print) = following.print(&item)
        {
            bytes += key.len() + size_of::<Fingerprint>();
            page.entries.push(Entry { key: key.clone(), print });
        }
        visited += 1;
        visited_bytes += item.bytes_about();
        let full = page.entries.len() >= ENTRIES_PAGE_MAX || bytes >= ENTRIES_PAGE_BYTES_MAX;
        if full || visited >= ENTRIES_VISITED_MAX || visited_bytes >= VISITED_BYTES_MAX {
            page.through = Through::Key(key);
            return Flow::Break(());
        }
        Flow::Continue(())
    })?;
    Ok(page)
}

/// Some items, each as it travels: the version of its layout, then its bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Picked {
    /// The items, of those keys that are there.
    pub items: Vec<Vec<u8>>,
    /// How many of the keys were looked at, from the first on: the others did not fit.
    pub looked_at: usize,
}

/// The items under these keys, until `bytes_max` is reached; one at least, if it is there. Items of other groups are
/// not shown.
pub fn pick<V: Vnode>(
    snapshot: &Snapshot,
    groups: GroupOf,
    group: Partition,
    keys: &[Vec<u8>],
    bytes_max: usize,
) -> Result<Picked, V::Error> {
    let (mut picked, mut bytes) = (Picked::default(), 0usize);
    for key in keys.iter().take(REPAIR_BATCH_ITEMS_MAX) {
        let point = Bytes::copy_from_slice(key);
        let range = KeyRange { start: Bound::Included(point.clone()), end: Bound::Included(point) };
        let mut found = None;
        V::fold(snapshot, &range, &mut |item: V::Item| {
            if groups.of(item.routing_key()) == Some(group) {
                let mut bytes = V::Item::VERSION.to_be_bytes().to_vec();
                found = codec::encode_into(&item, &mut bytes).is_ok().then_some(bytes);
            }
            Flow::Break(())
        })?;
        if let Some(item) = found {
            if bytes + item.len() > bytes_max && !picked.items.is_empty() {
                break;
            }
            bytes += item.len();
            picked.items.push(item);
        }
        picked.looked_at += 1;
    }
    Ok(picked)
}
