//! Dotted version vector sets: decides which of the values written under one key are still current, and
//! what a reader must hand back so that its write replaces what it read and nothing else. It does not know
//! what the values mean, who mints the dots, or which of several concurrent values is the better one.

use crate::ids::{ActorId, Dot};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::Bound;

/// What a reader has seen: a plain version vector, without times. It comes from [`DottedSet::context`], goes
/// out with the values, and returns with the write that is meant to replace them.
///
/// Whoever makes up a context can erase what it claims to have seen, events to come included: one from
/// outside the cluster has to be proved genuine before it gets here.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CausalContext {
    counters: BTreeMap<ActorId, NonZeroU64>,
}

impl CausalContext {
    /// The context of a reader that has seen nothing; a write under it replaces nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether every event that `other` has seen has been seen here; also true of equals.
    pub fn descends(&self, other: &Self) -> bool {
        other.counters.iter().all(|(actor, theirs)| self.counters.get(actor) >= Some(theirs))
    }

    /// Takes in all that `other` has seen: for each actor the larger counter.
    pub fn merge(&mut self, other: &Self) {
        for (&actor, &theirs) in &other.counters {
            let ours = self.counters.entry(actor).or_insert(theirs);
            *ours = theirs.max(*ours);
        }
    }

    /// Whether this event has been seen. No event has counter 0, so such a dot never has.
    pub fn contains(&self, dot: Dot) -> bool {
        dot.counter != 0 && self.counters.get(&dot.actor).is_some_and(|seen| dot.counter <= seen.get())
    }

    /// What both have seen: for each actor the smaller counter. Met with the context of a set, a context from outside
    /// claims nothing that the set has not seen, whoever made it up.
    pub fn meet(&self, other: &Self) -> Self {
        let smaller = |(actor, ours): (&ActorId, &NonZeroU64)| {
            other.counters.get(actor).map(|theirs| (*actor, *ours.min(theirs)))
        };
        Self { counters: self.counters.iter().filter_map(smaller).collect() }
    }

    /// The last event that has been seen of each actor, by actor in ascending order.
    pub fn dots(&self) -> impl Iterator<Item = Dot> + '_ {
        self.counters.iter().map(|(&actor, counter)| Dot { actor, counter: counter.get() })
    }

    /// How many actors it names.
    pub fn len(&self) -> usize {
        self.counters.len()
    }

    /// Whether nothing has been seen.
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty()
    }
}

/// The context that has seen these events and all earlier ones of their actors. A dot with counter 0 adds nothing.
impl FromIterator<Dot> for CausalContext {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut context = Self::new();
        for dot in dots {
            if let Some(counter) = NonZeroU64::new(dot.counter) {
                let seen = context.counters.entry(dot.actor).or_insert(counter);
                *seen = counter.max(*seen);
            }
        }
        context
    }
}

/// What is known of one actor's events: that the first `counter` have been seen, and which of them wrote a
/// value that is still current. Invariant: no value's counter exceeds `counter`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "UncheckedColumn<T>")]
struct Column<T> {
    counter: NonZeroU64,
    values: BTreeMap<NonZeroU64, T>,
}

/// A column as bytes claim it to be.
#[derive(Deserialize)]
struct UncheckedColumn<T> {
    counter: NonZeroU64,
    values: BTreeMap<NonZeroU64, T>,
}

impl<T> TryFrom<UncheckedColumn<T>> for Column<T> {
    type Error = &'static str;

    fn try_from(column: UncheckedColumn<T>) -> Result<Self, Self::Error> {
        match column.values.last_key_value() {
            Some((newest, _)) if *newest > column.counter => Err("a value is newer than its actor's counter"),
            _ => Ok(Self { counter: column.counter, values: column.values }),
        }
    }
}

impl<T> Column<T> {
    fn seen_up_to(counter: NonZeroU64) -> Self {
        Self { counter, values: BTreeMap::new() }
    }

    fn sync(&mut self, other: &Self)
    where
        T: Clone,
    {
        // What the other side has seen and no longer holds was replaced there; likewise the other way round.
        self.values.retain(|counter, _| *counter > other.counter || other.values.contains_key(counter));
        let unseen = other.values.range((Bound::Excluded(self.counter), Bound::Unbounded));
        self.values.extend(unseen.map(|(&counter, value)| (counter, value.clone())));
        self.counter = self.counter.max(other.counter);
    }

    fn includes(&self, other: &Self) -> bool {
        self.counter >= other.counter
            && self.values.range(..=other.counter).all(|(counter, _)| other.values.contains_key(counter))
    }
}

/// The current values of one key, each under the dot of the write that made it, and the history they were
/// written in: a dotted version vector set (Preguiça, Baquero, Almeida, Fonte, Gonçalves 2010; Almeida,
/// Baquero, Gonçalves, Preguiça, Fonte 2014). As against one vector clock per value, k writers who have not
/// seen one another leave k values, however often the replicas exchange them.
///
/// It departs from the published set in two ways. There a value's dot follows from its place in a list,
/// which is right only as long as an actor's dots under one key have no gaps; here every value carries its
/// counter, because an actor may count the writes of all its keys together. And there are no anonymous
/// values, those that a client sent and no server has counted yet: in ringwork a value gets its dot before
/// it gets here.
///
/// **Contract:** a dot names one write for ever. Where two sets hold different values under one dot, joining
/// them is no longer commutative. And what a context has seen includes all that led up to it, as is so for
/// contexts that were got from [`context`](Self::context) and merged.
///
/// A set without values still remembers what it has seen; dropping it lets replaced values come back.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DottedSet<T> {
    columns: BTreeMap<ActorId, Column<T>>,
}

impl<T> Default for DottedSet<T> {
    fn default() -> Self {
        Self { columns: BTreeMap::new() }
    }
}

impl<T> DottedSet<T> {
    /// The set that holds nothing and has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// All that this set has seen, be its value still here or not. A write under this context replaces
    /// every value that is in the set now.
    pub fn context(&self) -> CausalContext {
        let counters = self.columns.iter().map(|(&actor, column)| (actor, column.counter)).collect();
        CausalContext { counters }
    }

    /// A write by someone who had seen `context`: what they had seen goes, `value` comes in under `dot`,
    /// and values they had not seen stay beside it. The set remembers the context, so what it covers cannot
    /// come back from a replica that lags behind. Returns whether the value was taken.
    ///
    /// `dot` need not be the next of its actor. The actor's counter becomes the dot's, older values of the
    /// actor stay under their own dots, and the events skipped count as seen without ever having brought a
    /// value. So only the replica at which the actor counts may put; the others learn of it by
    /// [`sync`](Self::sync), where a write that overtook an earlier one would lose it.
    ///
    /// Nothing changes if the dot has been seen by this set (a repeated write, whose value is either here or
    /// replaced) or by the context (nobody can have read what is being written: the context is forged, or
    /// the actor has lost count and must not be used again), or has counter 0, which names no event.
    #[must_use = "where this is false the value was not stored"]
    pub fn put(&mut self, value: T, context: &CausalContext, dot: Dot) -> bool {
        let seen = context.contains(dot)
            || self.columns.get(&dot.actor).is_some_and(|column| dot.counter <= column.counter.get());
        let (false, Some(counter)) = (seen, NonZeroU64::new(dot.counter)) else {
            return false;
        };
        self.discard(context);
        let column = self.columns.entry(dot.actor).or_insert(Column::seen_up_to(counter));
        column.counter = counter;
        column.values.insert(counter, value);
        true
    }

    /// Removes the values that `context` has seen, and remembers the context, so that they cannot come back
    /// from a replica that lags behind.
    pub fn discard(&mut self, context: &CausalContext) {
        for (&actor, &seen) in &context.counters {
            let column = self.columns.entry(actor).or_insert(Column::seen_up_to(seen));
            column.counter = column.counter.max(seen);
            column.values.retain(|counter, _| *counter > seen);
        }
    }

    /// The join with a replica of the same key: a value stays if both hold it, or if one holds it and the
    /// other has not seen its dot. Commutative, associative and idempotent, so replicas that exchange their
    /// sets in any order, any number of times, end alike.
    pub fn sync(&mut self, other: &Self)
    where
        T: Clone,
    {
        for (&actor, theirs) in &other.columns {
            match self.columns.get_mut(&actor) {
                Some(ours) => ours.sync(theirs),
                None => _ = self.columns.insert(actor, theirs.clone()),
            }
        }
    }

    /// The current values: by actor in ascending order, and of one actor the newest first.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.columns.values().flat_map(|column| column.values.values().rev())
    }

    /// The current values with the dots of the writes that made them, in the order of [`values`](Self::values).
    pub fn dotted(&self) -> impl Iterator<Item = (Dot, &T)> {
        self.columns.iter().flat_map(|(&actor, column)| {
            column
                .values
                .iter()
                .rev()
                .map(move |(counter, value)| (Dot { actor, counter: counter.get() }, value))
        })
    }

    /// Removes the values for which `stays` is false, and remembers that they were there, as if somebody who had seen
    /// just them had replaced them. Replicas that hold the same values and keep the same ones of them agree; one that
    /// holds another value still has it after the join.
    pub fn retain(&mut self, mut stays: impl FnMut(Dot, &T) -> bool) {
        for (&actor, column) in &mut self.columns {
            column.values.retain(|counter, value| stays(Dot { actor, counter: counter.get() }, value));
        }
    }

    /// The same history with other values in it. As the dots stay, `make` has to give the same for the same.
    pub fn map<U>(&self, mut make: impl FnMut(Dot, &T) -> U) -> DottedSet<U> {
        let columns = self.columns.iter().map(|(&actor, column)| {
            let made = |(&counter, value): (&NonZeroU64, &T)| {
                (counter, make(Dot { actor, counter: counter.get() }, value))
            };
            (actor, Column { counter: column.counter, values: column.values.iter().map(made).collect() })
        });
        DottedSet { columns: columns.collect() }
    }

    /// How many values are current; more than one means that they were written concurrently.
    pub fn len(&self) -> usize {
        self.columns.values().map(|column| column.values.len()).sum()
    }

    /// Whether no value is current. Something may have been seen all the same.
    pub fn is_empty(&self) -> bool {
        self.columns.values().all(|column| column.values.is_empty())
    }

    /// Whether `other` is strictly newer: it has seen all that this set has, removals included, and more.
    /// A strict partial order, that of the join: then `other` learns nothing from this set, while this set
    /// has something to learn from `other`.
    pub fn less(&self, other: &Self) -> bool {
        other.includes(self) && !self.includes(other)
    }

    /// Whether both have seen the same events and removals, and so hold values under the same dots.
    pub fn same_history(&self, other: &Self) -> bool {
        self.includes(other) && other.includes(self)
    }

    /// Whether joining `other` in would change nothing.
    pub fn includes(&self, other: &Self) -> bool {
        let ours = |actor| self.columns.get(actor);
        other.columns.iter().all(|(actor, theirs)| ours(actor).is_some_and(|ours| ours.includes(theirs)))
    }
}

#[cfg(test)]
mod tests;
