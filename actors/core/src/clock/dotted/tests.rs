//! The laws of the dotted version vector set, on states that replicas reach by reading, writing, discarding
//! and syncing in any order. It knows no wire format; the bytes it forges are handed to serde directly.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use std::collections::BTreeSet;

const REPLICAS: usize = 3;
type Set = DottedSet<usize>;

fn dot(actor: usize, counter: u64) -> Dot {
    Dot { actor: ActorId(actor as u64), counter }
}

fn joined(left: &Set, right: &Set) -> Set {
    let mut set = left.clone();
    set.sync(right);
    set
}

fn values(set: &Set) -> BTreeSet<usize> {
    set.values().copied().collect()
}

#[derive(Clone, Debug)]
enum Step {
    Read { at: usize },
    Put { at: usize, context: Index, skipped: u64 },
    Discard { at: usize, context: Index },
    Sync { from: usize, to: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = 0..REPLICAS;
    let step = prop_oneof![
        2 => at.clone().prop_map(|at| Step::Read { at }),
        4 => (at.clone(), any::<Index>(), 0..3u64)
            .prop_map(|(at, context, skipped)| Step::Put { at, context, skipped }),
        1 => (at.clone(), any::<Index>()).prop_map(|(at, context)| Step::Discard { at, context }),
        3 => (at.clone(), at).prop_map(|(from, to)| Step::Sync { from, to }),
    ];
    vec(step, 0..24)
}

/// One replica beside the plainest account of what it ought to hold: the writes and removals that have
/// reached it. A value is current if its write has, and nothing has that had seen it.
#[derive(Clone, Default)]
struct Replica {
    set: Set,
    events: BTreeSet<usize>,
}

/// Every state that some replica was ever in, with the values that it should hold in that state.
fn run(steps: &[Step]) -> Vec<(Set, BTreeSet<usize>)> {
    let mut replicas = vec![Replica::default(); REPLICAS];
    let mut counters = [0; REPLICAS];
    let mut contexts = vec![CausalContext::new()];
    let mut log: Vec<(Option<Dot>, CausalContext)> = Vec::new();
    let mut states = vec![(Set::new(), BTreeSet::new())];
    for step in steps {
        let changed = match *step {
            Step::Read { at } => {
                contexts.push(replicas[at].set.context());
                at
            }
            Step::Put { at, context, skipped } => {
                counters[at] += 1 + skipped;
                let context = context.get(&contexts).clone();
                assert!(replicas[at].set.put(log.len(), &context, dot(at, counters[at])));
                replicas[at].events.insert(log.len());
                log.push((Some(dot(at, counters[at])), context));
                at
            }
            Step::Discard { at, context } => {
                let context = context.get(&contexts).clone();
                replicas[at].set.discard(&context);
                replicas[at].events.insert(log.len());
                log.push((None, context));
                at
            }
            Step::Sync { from, to } => {
                let source = replicas[from].clone();
                replicas[to].set.sync(&source.set);
                replicas[to].events.extend(source.events);
                to
            }
        };
        let Replica { set, events } = &replicas[changed];
        let current = |event: &usize| {
            log[*event].0.is_some_and(|dot| !events.iter().any(|later| log[*later].1.contains(dot)))
        };
        states.push((set.clone(), events.iter().copied().filter(current).collect()));
    }
    states
}

/// Three states out of one history.
fn triples() -> impl Strategy<Value = [Set; 3]> {
    (steps(), any::<[Index; 3]>()).prop_map(|(steps, picks)| {
        let states = run(&steps);
        picks.map(|pick| pick.get(&states).0.clone())
    })
}

proptest! {
    #[test]
    fn exactly_the_values_that_nobody_has_replaced_are_current(steps in steps()) {
        for (set, expected) in run(&steps) {
            prop_assert_eq!(set.len(), expected.len());
            prop_assert_eq!(set.is_empty(), expected.is_empty());
            prop_assert_eq!(set.values().count(), expected.len());
            prop_assert_eq!(values(&set), expected);
        }
    }

    #[test]
    fn sync_is_commutative_associative_and_idempotent([x, y, z] in triples()) {
        prop_assert_eq!(joined(&x, &y), joined(&y, &x));
        prop_assert_eq!(joined(&joined(&x, &y), &z), joined(&x, &joined(&y, &z)));
        prop_assert_eq!(joined(&x, &x), x);
    }

    #[test]
    fn sync_merges_the_contexts_and_brings_no_value_back([x, y, _] in triples()) {
        let both = joined(&x, &y);
        let mut context = x.context();
        context.merge(&y.context());
        prop_assert_eq!(both.context(), context.clone());
        prop_assert!(context.descends(&x.context()) && context.descends(&y.context()));
            prop_assert_eq!(x.context().descends(&y.context()), context == x.context());
        for (ours, theirs) in [(&x, &y), (&y, &x)] {
            for (actor, column) in &ours.columns {
                for (counter, value) in &column.values {
                    let dot = Dot { actor: *actor, counter: counter.get() };
                    let stays = !theirs.context().contains(dot) || values(theirs).contains(value);
                    prop_assert_eq!(values(&both).contains(value), stays);
                }
            }
        }
    }

    #[test]
    fn less_is_the_strict_partial_order_of_the_join([x, y, z] in triples()) {
        prop_assert!(!x.less(&x) && x.same_history(&x));
        prop_assert!(!(x.less(&y) && y.less(&x)));
        prop_assert!(!(x.less(&y) && y.less(&z)) || x.less(&z));
        prop_assert_eq!(x.same_history(&y), x == y);
        prop_assert_eq!(x.less(&y), x != y && joined(&x, &y) == y);
        prop_assert!(!x.less(&y) || y.context().descends(&x.context()));
    }

    #[test]
    fn a_put_that_has_seen_everything_leaves_one_value([x, _, _] in triples(), at in 0..REPLICAS) {
        let mut set = x.clone();
        prop_assert!(set.put(usize::MAX, &x.context(), dot(at, 1_000)));
        prop_assert_eq!(values(&set), BTreeSet::from([usize::MAX]));
        prop_assert!(x.less(&set));
        prop_assert_eq!(joined(&x, &set), set);
    }

    #[test]
    fn stale_puts_through_one_server_leave_one_value_each([x, _, _] in triples(), puts in 1..20usize) {
        let (mut set, stale) = (x.clone(), x.context());
        for put in 0..puts {
            prop_assert!(set.put(put, &stale, dot(0, 1_000 + 3 * put as u64)));
            set.sync(&x);
            prop_assert_eq!(set.len(), put + 1);
        }
        prop_assert!(set.values().copied().eq((0..puts).rev()), "the newest first");
    }

    #[test]
    fn clients_who_replace_their_own_value_never_leave_more_than_one_each(writes in vec(0..4usize, 0..40)) {
        let (mut set, mut contexts) = (Set::new(), vec![CausalContext::new(); 4]);
        for (counter, client) in (1..).zip(writes) {
            prop_assert!(set.put(client, &contexts[client], dot(0, counter)));
            contexts[client] = set.context();
            prop_assert!(set.len() <= 4);
        }
    }

    #[test]
    fn what_two_contexts_have_both_seen_is_the_most_that_each_descends([x, y, z] in triples()) {
        let [x, y, z] = [x, y, z].map(|set| set.context());
        let both = x.meet(&y);
        prop_assert!(x.descends(&both) && y.descends(&both));
        prop_assert!(!(x.descends(&z) && y.descends(&z)) || both.descends(&z));
        prop_assert_eq!(&both, &y.meet(&x));
        prop_assert_eq!(x.dots().collect::<CausalContext>(), x.clone());
        prop_assert_eq!((x.len(), x.is_empty()), (x.dots().count(), x == CausalContext::new()));
    }

    #[test]
    fn a_context_met_with_a_sets_own_erases_only_what_the_set_holds(
        [x, y, _] in triples(), claimed in vec((0..REPLICAS + 2, 1..u64::MAX), 0..6),
    ) {
        let forged: CausalContext = claimed.iter().map(|(actor, counter)| dot(*actor, *counter)).collect();
        let met = forged.meet(&x.context());
        let mut set = x.clone();
        // By an actor that has not counted before, as one is whose store is new.
        prop_assert!(set.put(usize::MAX, &met, dot(REPLICAS, 1)));
        // What another replica has and this one has not seen is still there after they met.
        let unseen: BTreeSet<_> = y.dotted().filter(|(dot, _)| !x.context().contains(*dot)).map(|(_, v)| *v).collect();
        prop_assert!(values(&joined(&set, &y)).is_superset(&unseen));
        prop_assert!(set.context().len() <= x.context().len() + 1, "no actor that nobody knows");
    }

    #[test]
    fn values_that_are_not_kept_are_gone_on_every_replica_and_no_others([x, y, _] in triples(), odd in 0..2usize) {
        let mut kept = x.clone();
        kept.retain(|_, value| value % 2 == odd);
        prop_assert!(kept.values().all(|value| value % 2 == odd));
        prop_assert_eq!(kept.context(), x.context());
        prop_assert_eq!(joined(&kept, &x), kept.clone(), "the old state brings nothing back");
        let mut other = y.clone();
        other.retain(|_, value| value % 2 == odd);
        let of_both: BTreeSet<_> = values(&joined(&x, &y)).into_iter().filter(|value| value % 2 == odd).collect();
        prop_assert_eq!(values(&joined(&kept, &other)), of_both);
    }

    #[test]
    fn a_set_with_other_values_has_the_same_history([x, y, _] in triples()) {
        let texts = |set: &Set| set.map(|dot, value| (dot, value.to_string()));
        prop_assert!(texts(&x).values().all(|(dot, _)| x.context().contains(*dot)));
        let dots = |set: &Set| set.dotted().map(|(dot, value)| (dot, value.to_string())).collect::<Vec<_>>();
        prop_assert_eq!(texts(&x).values().cloned().collect::<Vec<_>>(), dots(&x));
        let mut both = texts(&x);
        both.sync(&texts(&y));
        prop_assert_eq!(both, texts(&joined(&x, &y)));
    }

    #[test]
    fn a_dot_already_seen_changes_nothing([x, y, _] in triples(), at in 0..REPLICAS, back in 0..3u64) {
        let seen = x.columns.get(&ActorId(at as u64)).map_or(0, |column| column.counter.get());
        let mut set = x.clone();
        prop_assert!(!set.put(usize::MAX, &y.context(), dot(at, seen.saturating_sub(back))));
        prop_assert_eq!(set, x);
    }
}

#[test]
fn a_context_that_claims_the_dot_being_written_is_refused_whole() {
    let (mut set, mut forged) = (Set::new(), Set::new());
    assert!(set.put(1, &CausalContext::new(), dot(0, 1)));
    assert!(forged.put(9, &CausalContext::new(), dot(0, u64::MAX)));
    let before = set.clone();
    assert!(!set.put(2, &forged.context(), dot(0, 2)));
    assert_eq!(set, before);
}

/// Enough of a data format to hand over a column: its counter, then its values.
enum Part {
    Counter(u64),
    Values(Vec<(u64, usize)>),
}

impl<'de> Deserializer<'de> for Part {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Part::Counter(counter) => visitor.visit_u64(counter),
            Part::Values(values) => visitor.visit_map(MapDeserializer::new(values.into_iter())),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_> for Part {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[test]
fn bytes_cannot_hold_a_value_outside_its_actors_history() {
    let read = |counter, values: &[(u64, usize)]| {
        let parts = [Part::Counter(counter), Part::Values(values.to_vec())];
        Column::<usize>::deserialize(SeqDeserializer::new(parts.into_iter()))
    };
    assert!(read(3, &[(1, 7), (3, 8)]).is_ok_and(|column| column.values.len() == 2));
    assert!(read(3, &[]).is_ok());
    assert!(read(3, &[(1, 7), (4, 8)]).is_err());
    assert!(read(3, &[(0, 7)]).is_err());
    assert!(read(0, &[]).is_err());
}
