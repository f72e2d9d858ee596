//! What a row that is no object stops, and what not. It is neither skipped nor written over: it may have dots of this
//! vnode's that no other replica has, and a vnode that went on without them would claim them with its next one.

use crate::bed::{Bed, delete, name, put};
use crate::command::{KvCommand, Put};
use crate::kv::{DeleteMode, KvConfig, KvError};
use crate::rows::{self, RowError};
use ringwork_core::vnode::Vnode;
use std::time::Duration;

const NO_OBJECT: &[u8] = b"\x01\x00\xff\xff\xff";
const OF_A_LATER_RELEASE: &[u8] = b"\x02\x00whatever";

#[test]
fn a_row_that_is_no_object_is_an_error_wherever_it_would_be_skipped_or_written_over_and_is_counted() {
    for (row, of_this_layout) in [(NO_OBJECT, true), (OF_A_LATER_RELEASE, false)] {
        let (mut here, mut there) = (Bed::with(KvConfig::default(), 1), Bed::with(KvConfig::default(), 2));
        for key in ["a", "b", "c"] {
            here.stored(put(key, "v"));
            there.merge(here.touched.pop().unwrap());
        }
        here.spoil("b", row);
        let counted = rows::unreadable_rows();
        let refused = |error: KvError| match error {
            KvError::Row(RowError::Unreadable { name, .. }) => assert!(of_this_layout && name.ends_with('b')),
            KvError::Row(RowError::Layout { found, .. }) => assert!(!of_this_layout && found == 2),
            other => panic!("{other}"),
        };
        refused(here.fold_of_what_is_damaged().unwrap_err());
        refused(here.kv.merge(there.fold().swap_remove(1)).unwrap_err());
        let brought = Put { read: Some(there.get("b")), ..put("b", "w") };
        for command in [
            KvCommand::Get(name("b")),
            KvCommand::Count(name("b"), 1),
            KvCommand::Put(Box::new(put("b", "w"))),
            KvCommand::Put(Box::new(brought)),
        ] {
            refused(here.try_run(command).unwrap_err());
        }
        assert!(rows::unreadable_rows() >= counted + 6);
        assert_eq!(here.get("a"), there.get("a"));
    }
}

#[test]
fn burying_and_forgetting_go_on_beside_a_row_that_is_no_object() {
    for (row, delete_mode) in [
        (NO_OBJECT, DeleteMode::After(Duration::from_secs(3))),
        (NO_OBJECT, DeleteMode::Keep),
        (OF_A_LATER_RELEASE, DeleteMode::After(Duration::from_secs(3))),
    ] {
        let config = KvConfig { delete_mode, ..KvConfig::default() };
        let mut bed = Bed::with(config.clone(), 1);
        bed.start();
        for key in ["a", "b", "c"] {
            let seen = bed.stored(put(key, "v")).object.unwrap().context();
            bed.stored(delete(key, seen));
        }
        bed.spoil("b", row);
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
