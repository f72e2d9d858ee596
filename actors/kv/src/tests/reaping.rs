//! What becomes of objects that were deleted: in each mode, over a restart, with replicas that have not heard of it.

use crate::bed::{Bed, delete, name, put, some, values};
use crate::command::Put;
use crate::kv::{DeleteMode, KvConfig};
use ringwork_core::clock::dotted::CausalContext;
use ringwork_core::store::Store;
use ringwork_core::vnode::{Merged, Vnode};
use std::time::Duration;

const DAY_MS: u64 = 24 * 3600 * 1000;

fn bed(delete_mode: DeleteMode, actor: u64) -> Bed {
    let mut bed = Bed::with(KvConfig { delete_mode, ..KvConfig::default() }, actor);
    bed.start();
    bed
}

/// With an object that was written and deleted.
fn deleted(delete_mode: DeleteMode) -> Bed {
    let mut bed = bed(delete_mode, 1);
    let seen = bed.stored(put("k", "a")).object.unwrap().context();
    bed.stored(delete("k", seen));
    bed
}

#[test]
fn a_tombstone_is_seen_as_long_as_the_mode_says_and_the_history_is_kept() {
    let three = DeleteMode::After(Duration::from_secs(3));
    for (mode, tombstones) in
        [(DeleteMode::Keep, [1, 1, 1]), (DeleteMode::Immediate, [0, 0, 0]), (three, [1, 1, 0])]
    {
        let mut bed = deleted(mode);
        let context = bed.get("k").context();
        for (waited_ms, expected) in [0, 2990, 20].into_iter().zip(tombstones) {
            bed.pass(waited_ms);
            let object = bed.get("k");
            assert_eq!((object.len(), object.is_dead()), (expected, true), "{mode:?} after {waited_ms}");
            assert_eq!(object.context(), context);
        }
        let touched = bed.touched.last().unwrap().object.clone();
        assert_eq!(touched, bed.get("k"), "the replicas are told");
        // A replica that has not heard of it brings nothing back.
        let mut late = Bed::with(KvConfig::default(), 1);
        late.stored(put("k", "a"));
        bed.merge(late.fold().pop().unwrap());
        assert!(bed.get("k").is_dead());
        bed.stored(put("k", "new"));
        let of_reader = bed.get("k").shown(crate::object::Conflicts::Latest);
        assert_eq!(values(&of_reader), some(&["new"]));
    }
}

#[test]
fn what_was_written_meanwhile_is_not_buried() {
    let mut bed = deleted(DeleteMode::After(Duration::from_secs(3)));
    bed.pass(1000);
    bed.stored(put("k", "meanwhile"));
    bed.pass(10_000);
    assert_eq!(values(&bed.get("k")), [None, Some("meanwhile".to_owned())].into());
}

#[test]
fn a_delete_that_has_not_seen_everything_leaves_a_tombstone_beside_the_rest() {
    for mode in [DeleteMode::Keep, DeleteMode::Immediate] {
        let mut bed = bed(mode, 1);
        bed.stored(put("k", "a"));
        bed.stored(delete("k", CausalContext::new()));
        assert_eq!(values(&bed.get("k")), [None, Some("a".to_owned())].into());
        assert!(!bed.get("k").is_dead());
    }
}

#[test]
fn many_deletes_are_all_buried_with_one_command_at_a_time() {
    let mut bed = bed(DeleteMode::After(Duration::from_secs(3)), 1);
    for number in 0..500 {
        bed.stored(delete(&number.to_string(), CausalContext::new()));
        bed.host.now_ms += 3;
        assert!(bed.later.len() <= 2, "the sweep and one burial");
    }
    bed.pass(3500);
    assert!(bed.fold().iter().all(|item| item.object.is_empty()));
    assert_eq!(bed.kv.burials.waiting(), 0);
}

/// A vnode that begins again over the same store: it has forgotten which tombstones it was to bury.
fn restart(bed: &mut Bed) {
    let (keyspace, host) = ringwork_core::keyspace::Keyspace::new(
        bed.store.open(&ringwork_core::store::KeyspaceId::Node).unwrap(),
    );
    host.listen(ringwork_core::testing::told::groups::<crate::kv::Kv>());
    bed.kv = crate::kv::Kv::init(ringwork_core::ids::Partition(0), &bed.kv.config, keyspace).unwrap();
    bed.keyspace = host;
    bed.later.clear();
    bed.start();
}

#[test]
fn a_tombstone_whose_vnode_has_ended_is_buried_by_a_sweep() {
    let mut bed = bed(DeleteMode::After(Duration::from_secs(3)), 1);
    let first_here = |key: &str| bed.place().is_first_for("kv", name(key).bytes());
    let mine = (0..).map(|n: u32| n.to_string()).find(|key| first_here(key)).unwrap();
    let others = (0..).map(|n: u32| n.to_string()).find(|key| !first_here(key)).unwrap();
    for key in [&mine, &others] {
        bed.stored(delete(key, CausalContext::new()));
    }
    restart(&mut bed);
    bed.pass(62_000);
    assert_eq!(bed.get(&mine).len(), 1, "not overdue yet");
    bed.pass(120_000);
    assert_eq!((bed.get(&mine).len(), bed.get(&others).len()), (0, 1));
    bed.pass(600_000);
    assert_eq!(bed.get(&others).len(), 0, "its first partition has not done it");
    bed.fold();
}

#[test]
fn after_its_time_a_history_is_forgotten_with_every_row_and_does_not_come_back_from_a_replica() {
    for mode in [DeleteMode::Keep, DeleteMode::Immediate, DeleteMode::After(Duration::from_secs(3))] {
        let mut one = deleted(mode);
        let mut two = bed(mode, 2);
        one.stored(put("alive", "x"));
        one.pass(10_000);
        for item in one.fold() {
            two.merge(item);
        }
        one.pass(9 * DAY_MS);
        assert_eq!(one.fold().len(), 2, "not yet");
        one.pass(2 * DAY_MS);
        assert_eq!(one.fold().len(), 1);
        assert_eq!(one.rows().len(), 2, "the other object, and the horizon");
        // The other replica's clock is not there yet; it has everything still, and a read would hand it on.
        for item in two.fold() {
            let expected = if item.object.is_dead() { Merged::Absorbed } else { Merged::Unchanged };
            assert_eq!(one.merge(item), expected);
        }
        two.pass(11 * DAY_MS);
        assert_eq!(one.fold(), two.fold());
        restart(&mut one);
        let late = delete("k", CausalContext::new());
        let mut elsewhere = Bed::with(KvConfig::default(), 3);
        elsewhere.stored(late);
        let dead = elsewhere.fold().pop().unwrap();
        assert_eq!(one.merge(dead), Merged::Absorbed, "the horizon stays over a restart");
        one.stored(put("k", "again"));
        assert_eq!(values(&one.get("k")), some(&["again"]));
    }
}

#[test]
fn more_than_a_turn_forgets_is_forgotten_in_several_and_none_is_left() {
    let mut bed = bed(DeleteMode::Immediate, 1);
    for number in 0..1000 {
        bed.stored(delete(&number.to_string(), CausalContext::new()));
        bed.host.now_ms += u64::from(number % 3 == 0 && !(300..700).contains(&number));
    }
    let last = bed.host.now_ms;
    bed.stored(Put { ..put("alive", "x") });
    bed.pass(10 * DAY_MS + 2 * 3600 * 1000);
    assert_eq!(bed.fold().len(), 1);
    assert_eq!(bed.rows().len(), 2);
    assert!(bed.host.now_ms > last);
}

#[test]
fn an_empty_vnode_stays_one_in_which_nothing_was_written() {
    let mut bed = bed(DeleteMode::Keep, 1);
    bed.pass(11 * DAY_MS);
    assert!(bed.rows().is_empty(), "what has rows counts as written, and a node with such joins nobody");
    bed.stored(put("k", "a"));
    let without = bed.rows().len();
    bed.pass(DAY_MS);
    assert_eq!(bed.rows().len(), without + 1, "the horizon");
}
