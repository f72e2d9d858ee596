//! Vector clocks: decides which of two histories has seen the other, or that neither has, and which actors
//! of a long clock may be forgotten. It does not know what is versioned, what time it is, or who may count.

use crate::ids::{ActorId, Dot};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// How far one actor has counted. The derived order, counter before time, is the order in which [`merge`]
/// prefers entries.
///
/// [`merge`]: VectorClock::merge
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
struct Entry {
    /// Never zero, not even when read from bytes: a clock with an entry that counts nothing would descend
    /// from an empty one and yet not equal it.
    counter: NonZeroU64,
    seconds: u64,
}

/// A summary of the past: for each actor how many of its events have been seen, and when the last of them
/// happened. Seeing an actor's n-th event means having seen its first n (Fidge 1988, Mattern 1989).
///
/// The time of an entry never decides what descends from what; it only tells [`prune`](Self::prune) which
/// entries are old. So `==`, which compares times too, is stricter than [`same_history`](Self::same_history).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VectorClock {
    entries: BTreeMap<ActorId, Entry>,
}

/// When [`VectorClock::prune`] may forget. Riak's defaults, under which a clock has at most 50 entries
/// except for those that a burst of the last 20 seconds added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PruneLimits {
    /// Entries that are always kept. Where it exceeds `big`, it wins.
    pub small: usize,
    /// Entries above which the oldest go, whatever their age (unless young).
    pub big: usize,
    /// Seconds; while even the oldest entry is younger than this, nothing goes. Where it exceeds
    /// `old_seconds`, it wins.
    pub young_seconds: u64,
    /// Seconds; an entry older than this goes even while there are fewer than `big`.
    pub old_seconds: u64,
}

impl Default for PruneLimits {
    fn default() -> Self {
        Self { small: 50, big: 50, young_seconds: 20, old_seconds: 86_400 }
    }
}

impl VectorClock {
    /// The clock that has seen nothing; every clock descends from it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one more event of `actor`, at `seconds` of Unix time, and returns its dot. The clock then
    /// strictly dominates what it was.
    ///
    /// The dot is new only if this clock has seen all earlier events of `actor`: neither a copy that lags
    /// behind nor a clock from which [`prune`](Self::prune) took the actor may be counted on. After
    /// `u64::MAX` events, which only forged bytes reach, the same dot is returned again.
    pub fn increment(&mut self, actor: ActorId, seconds: u64) -> Dot {
        let counter =
            self.entries.get(&actor).map_or(NonZeroU64::MIN, |entry| entry.counter.saturating_add(1));
        self.entries.insert(actor, Entry { counter, seconds });
        Dot { actor, counter: counter.get() }
    }

    /// Takes in an event counted elsewhere, which happened at `seconds` of Unix time. All earlier events
    /// of its actor count as seen from then on. A dot with counter 0 names no event and changes nothing.
    pub fn observe(&mut self, dot: Dot, seconds: u64) {
        if let Some(counter) = NonZeroU64::new(dot.counter) {
            self.raise(dot.actor, Entry { counter, seconds });
        }
    }

    /// Takes in all that `other` has seen: for each actor the larger counter, with its time; of equal
    /// counters the later time. The result is the least clock that descends from both.
    pub fn merge(&mut self, other: &Self) {
        for (&actor, &entry) in &other.entries {
            self.raise(actor, entry);
        }
    }

    /// Whether this clock has seen every event that `other` has; also true of equals.
    pub fn descends(&self, other: &Self) -> bool {
        other.entries.iter().all(|(&actor, entry)| self.counter(actor) >= entry.counter.get())
    }

    /// Whether this clock has seen every event that `other` has, and at least one more.
    pub fn dominates(&self, other: &Self) -> bool {
        self.descends(other) && !other.descends(self)
    }

    /// Whether both have seen the same events, be their times equal or not.
    pub fn same_history(&self, other: &Self) -> bool {
        self.descends(other) && other.descends(self)
    }

    /// Whether each has seen an event that the other has not.
    pub fn concurrent(&self, other: &Self) -> bool {
        !self.descends(other) && !other.descends(self)
    }

    /// How many events of `actor` have been seen; 0 if it is unknown or was pruned.
    pub fn counter(&self, actor: ActorId) -> u64 {
        self.entries.get(&actor).map_or(0, |entry| entry.counter.get())
    }

    /// Whether this event has been seen. No event has counter 0, so such a dot never has.
    pub fn contains(&self, dot: Dot) -> bool {
        dot.counter != 0 && dot.counter <= self.counter(dot.actor)
    }

    /// The actors of whom at least one event has been seen, in ascending order.
    pub fn actors(&self) -> impl Iterator<Item = ActorId> + '_ {
        self.entries.keys().copied()
    }

    /// How many actors the clock names.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing has been seen.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets the entries that have not counted for longest, by Riak's rule: from the oldest on, entries
    /// go while there are more than `big` or the oldest is older than `old_seconds`, and it ends as soon
    /// as `small` are left or the oldest left is younger than `young_seconds`. Of entries equally old the
    /// smaller actor goes first, so that all replicas forget alike.
    ///
    /// `now_seconds` is Unix time; an entry dated after it has age 0, and so is kept for as long as `now`
    /// stays behind. The original descends from the result. What the original had seen may no longer be
    /// recognised as seen: it then looks concurrent with the result, which costs a needless sibling, or even
    /// newer. That is the price of a bounded clock, and why the limits are far above what is usual.
    pub fn prune(&mut self, now_seconds: u64, limits: &PruneLimits) {
        if self.len() <= limits.small {
            return;
        }
        let mut oldest_first: Vec<_> =
            self.entries.iter().map(|(&actor, entry)| (entry.seconds, actor)).collect();
        oldest_first.sort_unstable();
        for (seconds, actor) in oldest_first {
            let age_seconds = now_seconds.saturating_sub(seconds);
            let too_many = self.len() > limits.big || age_seconds > limits.old_seconds;
            if self.len() <= limits.small || age_seconds < limits.young_seconds || !too_many {
                return;
            }
            self.entries.remove(&actor);
        }
    }

    fn raise(&mut self, actor: ActorId, seen: Entry) {
        self.entries.entry(actor).and_modify(|entry| *entry = seen.max(*entry)).or_insert(seen);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;
    use serde::de::value::{Error, SeqDeserializer};

    fn clock_of(events: impl IntoIterator<Item = (u64, (u64, u64))>) -> VectorClock {
        let mut clock = VectorClock::new();
        for (actor, (counter, seconds)) in events {
            clock.observe(Dot { actor: ActorId(actor), counter }, seconds);
        }
        clock
    }

    fn merged(left: &VectorClock, right: &VectorClock) -> VectorClock {
        let mut clock = left.clone();
        clock.merge(right);
        clock
    }

    /// Few actors and small counters, so that equal, ordered and concurrent clocks all occur often.
    fn clocks() -> impl Strategy<Value = VectorClock> {
        btree_map(0..4u64, (1..4u64, 0..3u64), 0..4).prop_map(clock_of)
    }

    fn limits() -> impl Strategy<Value = PruneLimits> {
        (0..9usize, 0..9usize, 0..20u64, 0..40u64).prop_map(|(small, big, young_seconds, old_seconds)| {
            PruneLimits { small, big, young_seconds, old_seconds }
        })
    }

    /// The entries of a clock as (seconds, actor), the oldest first.
    fn by_age(clock: &VectorClock) -> Vec<(u64, ActorId)> {
        let mut ages: Vec<_> = clock.entries.iter().map(|(&actor, entry)| (entry.seconds, actor)).collect();
        ages.sort();
        ages
    }

    proptest! {
        #[test]
        fn merge_is_commutative_associative_and_idempotent(x in clocks(), y in clocks(), z in clocks()) {
            prop_assert_eq!(merged(&x, &y), merged(&y, &x));
            prop_assert_eq!(merged(&merged(&x, &y), &z), merged(&x, &merged(&y, &z)));
            prop_assert_eq!(merged(&x, &x), x);
        }

        #[test]
        fn merge_is_the_least_upper_bound(x in clocks(), y in clocks(), z in clocks()) {
            let both = merged(&x, &y);
            prop_assert!(both.descends(&x) && both.descends(&y));
            prop_assert!(!(z.descends(&x) && z.descends(&y)) || z.descends(&both));
            for actor in (0..4).map(ActorId) {
                prop_assert_eq!(both.counter(actor), x.counter(actor).max(y.counter(actor)));
            }
            for (actor, entry) in &both.entries {
                prop_assert!(x.entries.get(actor) == Some(entry) || y.entries.get(actor) == Some(entry));
            }
        }

        #[test]
        fn every_clock_descends_itself_and_the_fresh_one_only_the_fresh_one(x in clocks()) {
            prop_assert!(x.descends(&x) && x.same_history(&x) && !x.dominates(&x) && !x.concurrent(&x));
            prop_assert!(x.descends(&VectorClock::new()));
            prop_assert_eq!(VectorClock::new().descends(&x), x.is_empty());
        }

        #[test]
        fn two_clocks_are_in_exactly_one_of_four_relations(x in clocks(), y in clocks()) {
            let relations = [x.dominates(&y), y.dominates(&x), x.same_history(&y), x.concurrent(&y)];
            prop_assert_eq!(relations.iter().filter(|holds| **holds).count(), 1);
            let counters = |clock: &VectorClock| -> Vec<_> {
                clock.actors().map(|actor| (actor, clock.counter(actor))).collect()
            };
            prop_assert_eq!(x.same_history(&y), counters(&x) == counters(&y), "antisymmetry up to times");
        }

        #[test]
        fn descending_is_transitive(x in clocks(), y in clocks(), z in clocks()) {
            prop_assert!(!(x.descends(&y) && y.descends(&z)) || x.descends(&z));
        }

        #[test]
        fn increment_strictly_dominates_and_returns_an_unseen_dot(x in clocks(), actor in 0..4u64) {
            let mut next = x.clone();
            let dot = next.increment(ActorId(actor), 7);
            prop_assert_eq!(dot.counter, x.counter(ActorId(actor)) + 1);
            prop_assert!(next.dominates(&x) && next.contains(dot) && !x.contains(dot));
            let mut follower = x.clone();
            follower.observe(dot, 7);
            prop_assert_eq!(follower, next);
        }

        #[test]
        fn increments_from_one_clock_by_two_actors_are_concurrent(x in clocks()) {
            let (mut left, mut right) = (x.clone(), x);
            left.increment(ActorId(0), 0);
            right.increment(ActorId(1), 0);
            prop_assert!(left.concurrent(&right));
        }

        #[test]
        fn prune_forgets_only_the_oldest_and_only_within_its_limits(
            times in vec(0..50u64, 0..14), now in 20..60u64, limits in limits(),
        ) {
            let clock = clock_of((0..).zip(times.iter().map(|seconds| (1, *seconds))));
            let mut pruned = clock.clone();
            pruned.prune(now, &limits);
            let (before, after) = (by_age(&clock), by_age(&pruned));
            let young = |oldest: Option<&(u64, ActorId)>| {
                oldest.is_some_and(|(seconds, _)| now.saturating_sub(*seconds) < limits.young_seconds)
            };
            prop_assert!(clock.descends(&pruned));
            prop_assert!(before.ends_with(&after), "a subset, and the youngest");
            prop_assert!(pruned.len() >= clock.len().min(limits.small));
            prop_assert!(!young(before.first()) || pruned == clock);
            prop_assert!(pruned.len() <= limits.small.max(limits.big) || young(after.first()));
            let old = after.first().is_some_and(|(time, _)| now.saturating_sub(*time) > limits.old_seconds);
            prop_assert!(!old || pruned.len() <= limits.small || young(after.first()));
            let mut again = pruned.clone();
            again.prune(now, &limits);
            prop_assert_eq!(again, pruned);
        }

        #[test]
        fn prune_does_not_depend_on_the_order_of_arrival(
            (sorted, shuffled) in vec((1..3u64, 0..5u64), 0..12).prop_flat_map(|entries| {
                let events: Vec<_> = (0..).zip(entries).collect();
                (Just(events.clone()), Just(events).prop_shuffle())
            }),
            limits in limits(),
        ) {
            let (mut left, mut right) = (clock_of(sorted), clock_of(shuffled));
            left.prune(30, &limits);
            right.prune(30, &limits);
            prop_assert_eq!(left, right);
        }
    }

    #[test]
    fn by_default_fifty_entries_stay_unless_the_surplus_is_fresh() {
        let left = |length: u64, age: u64| {
            let mut clock = clock_of((0..length).map(|actor| (actor, (1, 100_000 - age))));
            clock.prune(100_000, &PruneLimits::default());
            clock.actors().map(|actor| actor.0).collect::<Vec<_>>()
        };
        assert_eq!(left(60, 20), (10..60).collect::<Vec<_>>(), "of equals the smaller actors go");
        assert_eq!(left(60, 19).len(), 60);
        assert_eq!(left(50, 90_000).len(), 50);
    }

    #[test]
    fn an_old_entry_goes_before_there_are_too_many() {
        let limits = PruneLimits { small: 1, big: 10, young_seconds: 20, old_seconds: 100 };
        let mut clock = clock_of([(1, (1, 100)), (2, (1, 899)), (3, (1, 900)), (4, (1, 2_000))]);
        clock.prune(1_000, &limits);
        assert_eq!(clock.actors().collect::<Vec<_>>(), [ActorId(3), ActorId(4)], "100 s is not yet older");
    }

    #[test]
    fn of_entries_not_yet_old_exactly_as_many_as_allowed_stay() {
        let limits = PruneLimits { small: 1, big: 3, young_seconds: 20, old_seconds: 100 };
        let mut clock = clock_of((1..6).map(|actor| (actor, (1, 900 + actor))));
        clock.prune(1_000, &limits);
        assert_eq!(clock.actors().collect::<Vec<_>>(), [ActorId(3), ActorId(4), ActorId(5)]);
    }

    #[test]
    fn a_counter_of_zero_is_neither_observed_nor_contained_nor_read_from_bytes() {
        let nothing = Dot { actor: ActorId(1), counter: 0 };
        let mut clock = clock_of([(1, (0, 9))]);
        assert!(clock.is_empty() && !clock.contains(nothing));
        clock.increment(ActorId(1), 9);
        assert!(!clock.contains(nothing));
        let read =
            |counter| Entry::deserialize(SeqDeserializer::<_, Error>::new([counter, 9u64].into_iter()));
        assert!(read(0).is_err() && read(1).is_ok());
    }
}
