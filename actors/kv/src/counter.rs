//! The counter of Riak 1.4 as a value: how much was added and taken away, by each vnode that did (a PN-counter). It
//! decides how counters become one, what adding leaves, and the bytes, which stay for ever. It does not know the
//! object's history: siblings that are counters are joined, whichever of them is newer.
//!
//! What a vnode has added lies under the dot of the write with which it began, and only that vnode, as the actor that
//! it was then, adds to it. So of two states of an entry the larger is the later, and a counter that was deleted and
//! begun anew does not meet its former self.
//!
//! The bytes: the layout (1), and for each entry the actor (8 bytes, the highest first) and three numbers: the dot's,
//! what was added, what was taken away.

use crate::content::Content;
use crate::context::{read_number, write_number};
use crate::object::Object;
use ringwork_core::ids::{ActorId, Dot};
use std::collections::BTreeMap;

/// The content type of values that are counters. Riak's.
pub const COUNTER_CONTENT_TYPE: &str = "application/riak_counter";
const LAYOUT: u8 = 1;

/// See the module's head.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counter(BTreeMap<Dot, (u64, u64)>);

/// Why nothing was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CountRefusal {
    /// There is a value that is no counter.
    NoCounter,
    /// It would be more than can be counted.
    TooMuch,
}

impl Counter {
    /// The counter that an object is: all of its siblings joined, tombstones left out. None where there is none, and an
    /// error where one of them is something else.
    pub fn of(object: &Object) -> Result<Option<Self>, CountRefusal> {
        let mut joined: Option<Self> = None;
        for sibling in object.siblings().filter(|sibling| !sibling.content.deleted) {
            let counter = Self::read(sibling.content).ok_or(CountRefusal::NoCounter)?;
            joined.get_or_insert_default().join(&counter);
        }
        Ok(joined)
    }

    fn read(content: &Content) -> Option<Self> {
        if content.content_type != COUNTER_CONTENT_TYPE {
            return None;
        }
        Self::from_bytes(&content.value)
    }

    /// Takes in another state.
    pub fn join(&mut self, other: &Self) {
        for (dot, (added, taken)) in &other.0 {
            let own = self.0.entry(*dot).or_default();
            *own = (own.0.max(*added), own.1.max(*taken));
        }
    }

    /// What it stands at.
    pub fn value(&self) -> i128 {
        self.0.values().map(|(added, taken)| i128::from(*added) - i128::from(*taken)).sum()
    }

    /// Adds `amount` as the actor of `dot`, the next write's.
    pub fn add(&mut self, amount: i64, dot: Dot) -> Result<(), CountRefusal> {
        let own = self.0.keys().copied().rfind(|known| known.actor == dot.actor).unwrap_or(dot);
        let (added, taken) = self.0.get(&own).copied().unwrap_or_default();
        let (more, less) = if amount < 0 { (0, amount.unsigned_abs()) } else { (amount.unsigned_abs(), 0) };
        let sum = added.checked_add(more).zip(taken.checked_add(less)).ok_or(CountRefusal::TooMuch)?;
        self.0.insert(own, sum);
        Ok(())
    }

    /// The value to write.
    pub fn to_content(&self) -> Content {
        let mut bytes = vec![LAYOUT];
        for (dot, (added, taken)) in &self.0 {
            bytes.extend(dot.actor.0.to_be_bytes());
            [dot.counter, *added, *taken].into_iter().for_each(|number| write_number(number, &mut bytes));
        }
        Content { content_type: COUNTER_CONTENT_TYPE.to_owned(), ..Content::of(bytes) }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&LAYOUT, mut rest) = bytes.split_first()? else { return None };
        let mut entries = BTreeMap::new();
        while !rest.is_empty() {
            let (actor, after) = rest.split_first_chunk::<8>()?;
            let (counter, after) = read_number(after)?;
            let (added, after) = read_number(after)?;
            let (taken, after) = read_number(after)?;
            entries.insert(Dot { actor: ActorId(u64::from_be_bytes(*actor)), counter }, (added, taken));
            rest = after;
        }
        Some(Self(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Conflicts;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn counters() -> impl Strategy<Value = Counter> {
        let dot = (0u64..3, 1u64..4).prop_map(|(actor, counter)| Dot { actor: ActorId(actor), counter });
        btree_map(dot, (0u64..9, 0u64..9), 0..5).prop_map(Counter)
    }

    fn joined(mut one: Counter, other: &Counter) -> Counter {
        one.join(other);
        one
    }

    /// Adds to a replica's object as its vnode does.
    fn count(object: &mut Object, amount: i64, dot: Dot) {
        let mut counter = Counter::of(object).unwrap().unwrap_or_default();
        counter.add(amount, dot).unwrap();
        let seen = object.context();
        assert!(object.put(counter.to_content(), &seen, dot, Conflicts::Siblings));
    }

    fn value(object: &Object) -> Option<i128> {
        Counter::of(object).unwrap().map(|counter| counter.value())
    }

    proptest! {
        #[test]
        fn joining_is_lawful_and_bytes_are_read_back(a in counters(), b in counters(), c in counters()) {
            prop_assert_eq!(joined(a.clone(), &b), joined(b.clone(), &a));
            prop_assert_eq!(joined(joined(a.clone(), &b), &c), joined(a.clone(), &joined(b.clone(), &c)));
            prop_assert_eq!(joined(a.clone(), &a), a.clone());
            prop_assert_eq!(Counter::read(&a.to_content()), Some(a));
        }

        #[test]
        fn any_bytes_are_a_counter_or_none(bytes: Vec<u8>) {
            let _ = Counter::from_bytes(&bytes);
        }

        /// Three replicas add and hear of each other: whatever the order, nothing is lost and nothing counts twice.
        #[test]
        fn concurrent_additions_are_all_counted(steps in vec((0usize..3, 0usize..3, -5i64..6), 1..40)) {
            let mut replicas = vec![Object::new(); 3];
            let mut events = [0u64; 3];
            let mut sum = 0i128;
            for (at, from, amount) in steps {
                if at == from {
                    events[at] += 1;
                    count(&mut replicas[at], amount, Dot { actor: ActorId(at as u64), counter: events[at] });
                    sum += i128::from(amount);
                } else {
                    let other = replicas[from].clone();
                    replicas[at].join(&other);
                }
            }
            let all = replicas.into_iter().reduce(|mut one, other| { one.join(&other); one }).unwrap();
            prop_assert_eq!(value(&all).unwrap_or(0), sum);
        }
    }

    #[test]
    fn a_counter_that_was_deleted_does_not_meet_its_former_self() {
        let dot = |actor, counter| Dot { actor: ActorId(actor), counter };
        let (mut one, mut two) = (Object::new(), Object::new());
        count(&mut one, 10, dot(1, 1));
        two.join(&one);
        // The other replica adds while this one deletes, and goes on as the same actor.
        count(&mut two, 3, dot(2, 1));
        let seen = one.context();
        assert!(one.put(Content::tombstone(), &seen, dot(1, 2), Conflicts::Siblings));
        assert_eq!(value(&one), None);
        count(&mut one, 1, dot(1, 3));
        assert_eq!(value(&one), Some(1));
        one.join(&two);
        assert_eq!(
            value(&one),
            Some(14),
            "what was concurrent with the delete stays, and so does what came after"
        );
    }

    #[test]
    fn what_is_no_counter_is_not_counted() {
        let dot = Dot { actor: ActorId(1), counter: 1 };
        let mut object = Object::new();
        assert!(object.put(Content::of("5"), &object.context(), dot, Conflicts::Siblings));
        assert_eq!(Counter::of(&object), Err(CountRefusal::NoCounter));
        let mut full = Counter(BTreeMap::from([(dot, (u64::MAX, 0))]));
        assert_eq!(full.add(1, dot), Err(CountRefusal::TooMuch));
        assert_eq!(full.add(i64::MIN, dot), Ok(()));
        assert_eq!(full.value(), i128::from(u64::MAX) - (1 << 63));
    }

    #[test]
    fn the_bytes_do_not_change() {
        let counter = Counter(BTreeMap::from([(Dot { actor: ActorId(258), counter: 1 }, (300, 2))]));
        assert_eq!(&*counter.to_content().value, [1, 0, 0, 0, 0, 0, 0, 1, 2, 1, 0xac, 2, 2]);
    }
}
