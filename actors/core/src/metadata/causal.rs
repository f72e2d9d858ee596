//! What a replica of a namespace has seen: one history for all of its entries. It decides which writes count as seen,
//! and so which of another replica's entries are news and which were removed here. It does not know what was written.
//!
//! A writer is one *life* of a node: what it writes after a start, under a name that no other start ever bears. So a
//! node whose disk was lost, or set back to an old copy, counts from 1 under a new name, and never claims that what
//! its former lives wrote was seen. Lives that are over are folded: for each node one time, up to which all that its
//! lives wrote has been seen. That forgets nothing, it only says the same in fewer words.

use crate::clock::hybrid::HybridTime;
use crate::ids::NodeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// One life of a node as a writer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Life {
    /// Whose.
    pub node: NodeId,
    /// When it began, by the node's hybrid clock: later than every life of the node that it knows of.
    pub begun: HybridTime,
}

/// One write: the `counter`-th of a life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct LifeDot {
    /// Who wrote.
    pub life: Life,
    /// Which of its writes in this namespace, from 1.
    pub counter: NonZeroU64,
}

/// A set of writes that have been seen. Of one life they are the first so many; of a node's lives up to a time, all.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(from = "UncheckedSeen")]
pub struct Seen {
    /// Of each node the lives that began then or before are seen whole.
    whole: BTreeMap<NodeId, HybridTime>,
    /// Of later ones that many writes. No life that is seen whole is here, so that equal sets are equal values.
    counters: BTreeMap<Life, NonZeroU64>,
}

/// As bytes claim it to be.
#[derive(Deserialize)]
struct UncheckedSeen {
    whole: BTreeMap<NodeId, HybridTime>,
    counters: BTreeMap<Life, NonZeroU64>,
}

impl From<UncheckedSeen> for Seen {
    fn from(UncheckedSeen { whole, counters }: UncheckedSeen) -> Self {
        let mut seen = Self { whole, counters };
        seen.fold();
        seen
    }
}

impl Seen {
    /// Whether this write has been seen.
    pub fn contains(&self, dot: LifeDot) -> bool {
        self.has_whole(dot.life) || self.counters.get(&dot.life).is_some_and(|seen| dot.counter <= *seen)
    }

    /// Whether all that this life ever writes counts as seen: it must not write any more.
    pub fn has_whole(&self, life: Life) -> bool {
        self.whole.get(&life.node).is_some_and(|through| life.begun <= *through)
    }

    /// Whether every write that `other` has seen has been seen here, as far as the two can tell.
    pub fn descends(&self, other: &Self) -> bool {
        let mut joined = self.clone();
        joined.merge(other);
        joined == *self
    }

    /// Takes in all that `other` has seen.
    pub fn merge(&mut self, other: &Self) {
        for (&node, &theirs) in &other.whole {
            let ours = self.whole.entry(node).or_insert(theirs);
            *ours = theirs.max(*ours);
        }
        for (&life, &theirs) in &other.counters {
            let ours = self.counters.entry(life).or_insert(theirs);
            *ours = theirs.max(*ours);
        }
        self.fold();
    }

    /// The next write of `life`, which is seen from now on; none when the life is over.
    pub fn write(&mut self, life: Life) -> Option<LifeDot> {
        if self.has_whole(life) {
            return None;
        }
        let counter = match self.counters.get(&life) {
            Some(last) => last.checked_add(1)?,
            None => NonZeroU64::MIN,
        };
        self.counters.insert(life, counter);
        Some(LifeDot { life, counter })
    }

    /// The latest life of a node that is known here.
    pub fn latest_life(&self, node: NodeId) -> Option<HybridTime> {
        let of_node = Life { node, begun: HybridTime(0) }..=Life { node, begun: HybridTime(u64::MAX) };
        let counted = self.counters.range(of_node).next_back().map(|(life, _)| life.begun);
        counted.max(self.whole.get(&node).copied())
    }

    /// Counts all but the latest life of each node as seen whole, and that one too when its node `is_gone`. Says
    /// whether anything was folded.
    ///
    /// **Contract:** nothing that those lives wrote is still on its way: every member has seen what is seen here. What
    /// was not seen here would otherwise be taken for removed.
    pub fn retire(&mut self, is_gone: impl Fn(NodeId) -> bool) -> bool {
        let before = self.counters.len();
        let mut through: BTreeMap<NodeId, Option<HybridTime>> = BTreeMap::new();
        let mut latest: BTreeMap<NodeId, HybridTime> = BTreeMap::new();
        for life in self.counters.keys() {
            // Lives of a node come in the order in which they began.
            let earlier = latest.insert(life.node, life.begun);
            through.insert(life.node, if is_gone(life.node) { Some(life.begun) } else { earlier });
        }
        for (node, through) in through {
            if let Some(through) = through {
                let whole = self.whole.entry(node).or_insert(through);
                *whole = through.max(*whole);
            }
        }
        self.fold();
        self.counters.len() != before
    }

    /// How many lives and nodes it names: what its size goes by.
    pub fn names(&self) -> usize {
        self.whole.len() + self.counters.len()
    }

    /// Lives that are not folded.
    pub fn lives(&self) -> usize {
        self.counters.len()
    }

    fn fold(&mut self) {
        let whole = &self.whole;
        self.counters.retain(|life, _| whole.get(&life.node).is_none_or(|through| life.begun > *through));
    }
}
