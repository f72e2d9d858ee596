//! What becomes of a row that is no object: everything beside it goes on, other replicas heal it, and one that a later
//! release wrote is left alone.

use crate::bed::{Bed, delete, name, put, some, values};
use crate::command::{KvCommand, Put, PutReply};
use crate::kv::{DeleteMode, KvConfig, KvError};
use crate::rows::{self, RowError};
use ringwork_core::vnode::{Merged, Vnode};
use std::time::Duration;

const NO_OBJECT: &[u8] = b"\x01\x00\xff\xff\xff";
const OF_A_LATER_RELEASE: &[u8] = b"\x02\x00whatever";

/// With "a" to "c", each a replica of the other's.
fn two() -> (Bed, Bed) {
    let (mut here, mut there) = (Bed::with(KvConfig::default(), 1), Bed::with(KvConfig::default(), 2));
    for key in ["a", "b", "c"] {
        here.stored(put(key, "v"));
        there.merge(here.touched.pop().unwrap());
    }
    (here, there)
}

#[test]
fn a_row_that_is_no_object_is_skipped_and_counted_and_a_repair_heals_it() {
    let (mut here, there) = two();
    let counted = rows::unreadable_rows();
    here.spoil("b", NO_OBJECT);
    let (items, unreadable) = here.fold_of_what_is_damaged().unwrap();
    assert_eq!(items.iter().map(|item| item.name.clone()).collect::<Vec<_>>(), [name("a"), name("c")]);
    assert_eq!(unreadable, 1);
    assert!(rows::unreadable_rows() > counted);
    assert!(!here.kv.is_empty().unwrap());
    // A read says so, and so does a counter's vnode, which must know all that it has added.
    for command in [KvCommand::Get(name("b")), KvCommand::Count(name("b"), 1)] {
        assert!(matches!(here.try_run(command), Err(KvError::Row(RowError::Unreadable { .. }))));
    }
    for item in there.fold() {
        here.merge(item);
    }
    assert_eq!(here.fold_of_what_is_damaged().unwrap(), (there.fold(), 0));
}

#[test]
fn a_write_over_a_row_that_is_no_object_brings_along_what_other_replicas_have() {
    let (mut here, mut there) = two();
    here.spoil("b", NO_OBJECT);
    let write = put("b", "w");
    assert_eq!(here.put(write.clone()), PutReply::Behind, "nothing is written over on one replica's word");
    assert_eq!(here.fold_of_what_is_damaged().unwrap().1, 1);
    here.stored(Put { read: Some(there.get("b")), ..write });
    assert_eq!(values(&here.get("b")), some(&["v", "w"]));
    assert_eq!(there.merge(here.touched.pop().unwrap()), Merged::Changed);
    assert_eq!(there.get("b"), here.get("b"));
}

#[test]
fn burying_and_forgetting_go_on_beside_a_row_that_is_no_object() {
    for delete_mode in [DeleteMode::After(Duration::from_secs(3)), DeleteMode::Keep] {
        let config = KvConfig { delete_mode, ..KvConfig::default() };
        let mut bed = Bed::with(config.clone(), 1);
        bed.start();
        for key in ["a", "b", "c"] {
            let seen = bed.stored(put(key, "v")).object.unwrap().context();
            bed.stored(delete(key, seen));
        }
        bed.spoil("b", NO_OBJECT);
        bed.pass(10_000);
        for key in ["a", "c"] {
            assert_eq!(bed.get(key).is_empty(), delete_mode != DeleteMode::Keep);
        }
        bed.pass(u64::try_from(config.tombstone_keep.as_millis()).unwrap() * 2);
        // What is left: the row that cannot be read, and up to when all else was forgotten.
        let rows = bed.rows();
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert!(rows.contains(&name("b").bytes().to_vec()));
    }
}

#[test]
fn a_row_of_a_later_release_is_neither_skipped_nor_written_over() {
    let (mut here, mut there) = two();
    here.spoil("b", OF_A_LATER_RELEASE);
    let refused =
        |error: KvError| assert!(matches!(error, KvError::Row(RowError::Layout { found: 2, .. })), "{error}");
    refused(here.fold_of_what_is_damaged().unwrap_err());
    refused(here.kv.merge(there.fold().swap_remove(1)).unwrap_err());
    let read = Some(there.get("b"));
    for write in [put("b", "w"), Put { read, ..put("b", "w") }] {
        refused(here.try_run(KvCommand::Put(Box::new(write))).unwrap_err());
    }
}
