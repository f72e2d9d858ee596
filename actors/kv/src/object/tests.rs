//! The laws of objects, on states that replicas reach by reading, writing, deleting, burying and joining in any order,
//! in buckets of every kind. What a write leaves is compared with the plainest account of it.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use ringwork_core::ids::ActorId;
use std::collections::BTreeSet;

const REPLICAS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Read { at: usize },
    Put { at: usize, context: Index, deleted: bool, late: u64 },
    Bury { at: usize },
    Join { from: usize, to: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let at = 0..REPLICAS;
    let step = prop_oneof![
        2 => at.clone().prop_map(|at| Step::Read { at }),
        5 => (at.clone(), any::<Index>(), prop::bool::weighted(0.3), 0..3u64)
            .prop_map(|(at, context, deleted, late)| Step::Put { at, context, deleted, late }),
        1 => at.clone().prop_map(|at| Step::Bury { at }),
        3 => (at.clone(), at).prop_map(|(from, to)| Step::Join { from, to }),
    ];
    vec(step, 0..24)
}

/// What all writes were, in their order: the value is the write's place, and its time never behind by more than a
/// little.
fn run(steps: &[Step], conflicts: Conflicts) -> Vec<Object> {
    let mut replicas = vec![Object::new(); REPLICAS];
    let mut contexts = vec![CausalContext::new()];
    let mut states = vec![Object::new()];
    for (place, step) in (1u64..).zip(steps) {
        let changed = match *step {
            Step::Read { at } => {
                contexts.push(replicas[at].context());
                at
            }
            Step::Put { at, context, deleted, late } => {
                let dot = Dot { actor: ActorId(at as u64), counter: place };
                let modified = HybridTime(replicas[at].latest.0.max(10 + place - late) + 1);
                let content = Content { deleted, modified, ..Content::of(place.to_string().as_str()) };
                let seen = context.get(&contexts).clone();
                assert!(replicas[at].put(content, &seen, dot, conflicts));
                at
            }
            Step::Bury { at } => {
                replicas[at].bury();
                at
            }
            Step::Join { from, to } => {
                let source = replicas[from].clone();
                replicas[to].join(&source);
                to
            }
        };
        states.push(replicas[changed].clone());
    }
    states
}

fn kinds() -> impl Strategy<Value = Conflicts> {
    use Conflicts::{First, Latest, Overwrite, Siblings};
    prop_oneof![Just(Siblings), Just(Latest), Just(Overwrite), Just(First)]
}

fn triples() -> impl Strategy<Value = [Object; 3]> {
    (steps(), kinds(), any::<[Index; 3]>()).prop_map(|(steps, conflicts, picks)| {
        let states = run(&steps, conflicts);
        picks.map(|pick| pick.get(&states).clone())
    })
}

fn joined(one: &Object, other: &Object) -> Object {
    let mut both = one.clone();
    both.join(other);
    both
}

fn written(object: &Object) -> BTreeSet<Vec<u8>> {
    object.siblings().map(|sibling| sibling.content.value.to_vec()).collect()
}

fn content(text: &str, time: u64) -> Content {
    Content { modified: HybridTime(time), ..Content::of(text) }
}

fn dot(actor: u64, counter: u64) -> Dot {
    Dot { actor: ActorId(actor), counter }
}

proptest! {
    #[test]
    fn join_is_commutative_associative_and_idempotent([x, y, z] in triples()) {
        prop_assert_eq!(joined(&x, &y), joined(&y, &x));
        prop_assert_eq!(joined(&joined(&x, &y), &z), joined(&x, &joined(&y, &z)));
        prop_assert_eq!(joined(&x, &x), x);
    }

    #[test]
    fn a_write_that_has_seen_everything_leaves_one_value([x, _, _] in triples(), kind in kinds(), time in 0..50u64) {
        let mut object = x.clone();
        prop_assert!(object.put(content("new", time), &x.context(), dot(9, 1), kind));
        prop_assert_eq!(written(&object), BTreeSet::from([b"new".to_vec()]));
        prop_assert_eq!(joined(&x, &object), object.clone(), "the old state brings nothing back");
        prop_assert_eq!(object.len(), 1);
    }

    #[test]
    fn stale_writers_leave_one_sibling_each_and_never_more([x, _, _] in triples(), writers in 1..20usize) {
        let (mut object, stale) = (x.clone(), x.context());
        for writer in 0..writers {
            let by = dot(9, 1 + 2 * writer as u64);
            prop_assert!(object.put(content(&writer.to_string(), 1), &stale, by, Conflicts::Siblings));
            object.join(&x);
            prop_assert_eq!(object.len(), writer + 1);
        }
    }

    #[test]
    fn where_one_value_is_to_be_one_is_shown_and_it_is_the_same_everywhere([x, y, _] in triples(), kind in kinds()) {
        let shown = joined(&x, &y).shown(kind);
        let all = written(&joined(&x, &y));
        prop_assert!(written(&shown).is_subset(&all));
        prop_assert_eq!(shown.context(), joined(&x, &y).context());
        if kind == Conflicts::Siblings {
            prop_assert_eq!(written(&shown), all);
        } else {
            prop_assert_eq!(shown.len(), usize::from(!all.is_empty()));
        }
        // Chosen before the join or after it, what both choose from has the same winner, unless one side has seen that
        // a value of the other's was replaced, and the other may have chosen it.
        let before = joined(&x.clone().shown(kind), &y.clone().shown(kind)).shown(kind);
        let apart = |one: &Object, other: &Object| one.siblings().all(|s| !other.context().contains(s.dot));
        if kind != Conflicts::Siblings && apart(&x, &y) && apart(&y, &x) {
            prop_assert_eq!(written(&before), written(&shown));
        }
    }

    #[test]
    fn what_is_buried_stays_deleted_and_takes_nothing_along([x, y, _] in triples()) {
        let mut buried = x.clone();
        prop_assert_eq!(buried.bury(), x.is_dead() && !x.is_empty());
        prop_assert_eq!(buried.context(), x.context());
        prop_assert_eq!(joined(&buried, &x), buried.clone());
        let alive = |object: &Object| -> BTreeSet<Vec<u8>> {
            object.siblings().filter(|s| !s.content.deleted).map(|s| s.content.value.to_vec()).collect()
        };
        prop_assert_eq!(alive(&joined(&buried, &y)), alive(&joined(&x, &y)), "a burial deletes tombstones alone");
    }

    #[test]
    fn a_made_up_context_erases_nothing_but_what_is_there(
        [x, y, _] in triples(), claimed in vec((0..12u64, 1..u64::MAX), 0..6),
    ) {
        let forged: CausalContext = claimed.iter().map(|(actor, counter)| dot(*actor, *counter)).collect();
        let mut object = x.clone();
        prop_assert!(object.put(content("new", 99), &forged, dot(11, 1), Conflicts::Siblings));
        let unseen = y.siblings().filter(|s| !x.context().contains(s.dot)).map(|s| s.content.value.to_vec());
        let unseen: BTreeSet<_> = unseen.collect();
        prop_assert!(written(&joined(&object, &y)).is_superset(&unseen));
        // And every write that comes later is taken.
        prop_assert!(object.put(content("later", 100), &forged, dot(11, 2), Conflicts::Siblings));
    }

    #[test]
    fn an_outline_has_the_history_and_joins_as_the_object_does([x, y, _] in triples()) {
        let mut outline = x.outline();
        outline.join(&y.outline());
        prop_assert_eq!(&outline, &joined(&x, &y).outline());
        prop_assert_eq!(outline.context(), joined(&x, &y).context());
        prop_assert_eq!((x.outline().is_dead(), x.outline().len()), (x.is_dead(), x.len()));
    }

    #[test]
    fn tags_are_equal_where_the_values_are([x, y, _] in triples()) {
        prop_assert_eq!(x.etag() == y.etag(), written(&x) == written(&y));
        prop_assert_eq!(x.etag().is_none(), x.is_empty());
    }
}

#[test]
fn the_latest_value_counts_and_the_first_in_a_bucket_that_is_written_once() {
    let mut object = Object::new();
    let nothing = CausalContext::new();
    assert!(object.put(content("late", 7), &nothing, dot(1, 1), Conflicts::Siblings));
    assert!(object.put(content("early", 5), &nothing, dot(2, 1), Conflicts::Siblings));
    assert!(object.put(content("same", 7), &nothing, dot(3, 1), Conflicts::Siblings));
    let shown = |conflicts| written(&object.clone().shown(conflicts)).into_iter().next().unwrap();
    assert_eq!(shown(Conflicts::Latest), b"same", "of two at one time the higher dot");
    assert_eq!(shown(Conflicts::Overwrite), b"same");
    assert_eq!(shown(Conflicts::First), b"early");
}

#[test]
fn a_write_by_a_clock_that_is_behind_replaces_what_is_there_only_where_the_last_write_wins() {
    let put = |conflicts| {
        let mut object = Object::new();
        assert!(object.put(content("before", 7), &CausalContext::new(), dot(1, 1), conflicts));
        assert!(object.put(content("behind", 5), &CausalContext::new(), dot(1, 2), conflicts));
        written(&object)
    };
    assert_eq!(put(Conflicts::Overwrite), BTreeSet::from([b"behind".to_vec()]));
    assert_eq!(put(Conflicts::Latest), BTreeSet::from([b"before".to_vec()]));
}

/// riak_kv#679 in one line each: why a store that lost its rows must not go on counting as who it was.
#[test]
fn an_actor_that_has_lost_its_rows_swallows_what_it_wrote_and_a_new_actor_does_not() {
    let mut elsewhere = Object::new();
    assert!(elsewhere.put(content("acknowledged", 1), &CausalContext::new(), dot(1, 5), Conflicts::Siblings));
    for (actor, survives) in [(1, false), (2, true)] {
        let mut wiped = Object::new();
        assert!(wiped.put(content("new", 2), &CausalContext::new(), dot(actor, 6), Conflicts::Siblings));
        wiped.join(&elsewhere);
        assert!(written(&wiped).contains(b"new".as_slice()));
        assert_eq!(written(&wiped).contains(b"acknowledged".as_slice()), survives);
    }
}

#[test]
fn an_object_is_bounded_with_all_its_siblings() {
    let mut object = Object::new();
    for counter in 1..=2 {
        let large = Content::of(vec![0; 600]);
        assert!(object.put(large, &CausalContext::new(), dot(1, counter), Conflicts::Siblings));
    }
    assert!(object.check_size(2000).is_ok());
    assert!(matches!(object.check_size(1000), Err(KvInputError::ObjectTooLarge { max: 1000, .. })));
}
