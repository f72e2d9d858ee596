//! One suite, two engines: what core's `Store` promises, checked on memory and on disk alike.

use super::disk::{DiskOptions, DiskStore, flushed_tables, memtable_bytes};
use bytes::Bytes;
use proptest::prelude::*;
use ringwork_core::ids::{Generation, Partition};
use ringwork_core::limits::STORE_VALUE_BYTES_MAX;
use ringwork_core::store::memory::MemoryStore;
use ringwork_core::store::{Direction, Flow, KeyRange, KeyspaceId, OpenTree, Store, Tree, Write};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

fn disk() -> (DiskStore, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (open_disk(&directory, false), directory)
}

fn open_disk(directory: &tempfile::TempDir, expected: bool) -> DiskStore {
    let options = DiskOptions { directory: directory.path().join("store"), cache_bytes: 1 << 20 };
    DiskStore::open(&options, expected).unwrap()
}

fn on_both(check: impl Fn(&dyn Store)) {
    check(&MemoryStore::new());
    check(&disk().0);
}

fn id(partition: u16) -> KeyspaceId {
    KeyspaceId::Vnode { service: "test".into(), partition: Partition(partition), generation: Generation(0) }
}

fn put(open: &OpenTree, key: &[u8], value: &[u8]) -> Write {
    Write { tree: open.slot, key: Bytes::copy_from_slice(key), value: Some(Bytes::copy_from_slice(value)) }
}

fn removal(open: &OpenTree, key: &[u8]) -> Write {
    Write { tree: open.slot, key: Bytes::copy_from_slice(key), value: None }
}

fn commit(store: &dyn Store, writes: Vec<Write>) {
    let mut writes = writes;
    store.commit(&mut writes).unwrap();
    assert!(writes.is_empty());
}

/// Whether it is so within half a minute, of what the engine does by itself.
fn is_soon(mut is_so: impl FnMut() -> bool) -> bool {
    let (_quiet, nothing) = std::sync::mpsc::channel::<()>();
    (0..3000).any(|_| is_so() || nothing.recv_timeout(std::time::Duration::from_millis(10)).is_ok())
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn scan(tree: &dyn Tree, range: &KeyRange, direction: Direction) -> Pairs {
    let mut found = Vec::new();
    tree.scan(range, direction, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        Flow::Continue(())
    })
    .unwrap();
    found
}

#[test]
fn a_batch_is_visible_whole_across_keyspaces() {
    on_both(|store| {
        let (one, two) = (store.open(&id(1)).unwrap(), store.open(&id(2)).unwrap());
        commit(store, vec![put(&one, b"k", b"1"), put(&two, b"k", b"2"), put(&one, b"k", b"3")]);
        assert_eq!(one.tree.get(b"k").unwrap().as_deref(), Some(&b"3"[..]), "writes apply in order");
        assert_eq!(two.tree.get(b"k").unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(one.tree.get(b"other").unwrap(), None);
    });
}

#[test]
fn a_snapshot_does_not_move() {
    on_both(|store| {
        let open = store.open(&id(1)).unwrap();
        commit(store, vec![put(&open, b"a", b"1"), put(&open, b"b", b"1")]);
        let snapshot = open.tree.snapshot();
        commit(store, vec![put(&open, b"a", b"2"), removal(&open, b"b"), put(&open, b"c", b"2")]);
        assert_eq!(
            scan(&*snapshot, &KeyRange::all(), Direction::Ascending),
            [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"1".to_vec())]
        );
        assert_eq!(snapshot.get(b"c").unwrap(), None);
        assert_eq!(snapshot.snapshot().get(b"b").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(
            scan(&*open.tree, &KeyRange::all(), Direction::Descending),
            [(b"c".to_vec(), b"2".to_vec()), (b"a".to_vec(), b"2".to_vec())]
        );
    });
}

#[test]
fn a_dropped_keyspace_is_empty_when_it_is_opened_again_and_its_old_slot_is_dead() {
    on_both(|store| {
        let open = store.open(&id(1)).unwrap();
        let neighbour = store.open(&id(2)).unwrap();
        commit(store, vec![put(&open, b"a", b"1"), put(&neighbour, b"a", b"1")]);
        let slot = open.slot;
        drop(open);
        store.drop_keyspace(&id(1)).unwrap();
        store.drop_keyspace(&id(9)).unwrap();
        assert_eq!(store.keyspaces().unwrap(), [id(2)]);
        let again = store.open(&id(1)).unwrap();
        assert!(scan(&*again.tree, &KeyRange::all(), Direction::Ascending).is_empty());
        commit(store, vec![Write { tree: slot, key: Bytes::from_static(b"b"), value: Some(Bytes::new()) }]);
        assert!(scan(&*again.tree, &KeyRange::all(), Direction::Ascending).is_empty());
        assert_eq!(neighbour.tree.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
    });
}

#[test]
fn memtables_are_flushed_one_by_one_the_oldest_first_before_their_own_bounds() {
    let (store, _directory) = disk();
    // None of these is flushed by the engine itself: each is written to less than half its bound.
    const EACH: usize = 2_300_000;
    let roomy = (1..).map(id).filter(|id| memtable_bytes(&id.to_string()) > 2 * EACH as u64);
    let keyspaces: Vec<_> = roomy.take(24).collect();
    for keyspace in &keyspaces {
        let open = store.open(keyspace).unwrap();
        commit(&store, (0..EACH / 100_000).map(|n| put(&open, &[n as u8], &[7; 100_000])).collect());
    }
    let flushed = |at: usize| store.tables(&keyspaces[at]) > 0;
    assert!(is_soon(|| flushed(0) && flushed(1)), "the oldest have been flushed");
    assert_eq!(store.tables(keyspaces.last().unwrap()), 0, "the youngest has not");
}

#[test]
fn merged_tables_are_cut_small_and_not_all_keyspaces_merge_at_once() {
    let (store, directory) = disk();
    let numbers: BTreeSet<u8> = (0..64).map(|n| flushed_tables(&id(n).to_string())).collect();
    assert_eq!(numbers, (6..=10).collect(), "tables that are merged at once");
    let small = (1..).map(id).find(|id| memtable_bytes(&id.to_string()) < 1_200_000).unwrap();
    let open = store.open(&small).unwrap();
    let largest = || {
        let tables = super::damage::tables(directory.path());
        // A table may be merged and gone between the two looks.
        tables.iter().filter_map(|table| table.metadata().ok()).map(|kept| kept.len()).max().unwrap_or(0)
    };
    let mut seen = 0;
    // Each flush is of half a million bytes, and waited for: the engine makes one table of all memtables that wait.
    // Larger tables are merged ones.
    for n in 0..40_000u32 {
        let key = n.wrapping_mul(0x9e37_79b1).to_be_bytes();
        let value: Vec<u8> = key.iter().cycle().take(1000).copied().collect();
        commit(&store, vec![put(&open, &key, &value)]);
        if n % 500 == 0 {
            store.flush(&small);
            seen = largest().max(seen);
        }
    }
    let merged = is_soon(|| {
        seen = largest().max(seen);
        seen > 1_500_000
    });
    assert!(merged && seen < 3_000_000, "the largest table had {seen} bytes");
    assert_eq!(scan(&*open.tree, &KeyRange::all(), Direction::Ascending).len(), 40_000);
}

#[test]
fn opening_twice_gives_the_same_keyspace() {
    on_both(|store| {
        let (first, second) =
            (store.open(&KeyspaceId::Node).unwrap(), store.open(&KeyspaceId::Node).unwrap());
        assert_eq!(first.slot, second.slot);
        commit(store, vec![put(&first, b"a", b"1")]);
        assert_eq!(second.tree.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
        store.sync().unwrap();
    });
}

#[test]
fn ranges_that_hold_nothing_find_nothing() {
    on_both(|store| {
        let open = store.open(&id(1)).unwrap();
        commit(store, vec![put(&open, b"a", b"1"), put(&open, b"b", b"1")]);
        let bytes = |text: &'static [u8]| Bytes::from_static(text);
        let empty = [
            KeyRange { start: Bound::Included(bytes(b"b")), end: Bound::Excluded(bytes(b"a")) },
            KeyRange { start: Bound::Excluded(bytes(b"a")), end: Bound::Excluded(bytes(b"a")) },
            KeyRange { start: Bound::Excluded(bytes(b"b")), end: Bound::Included(bytes(b"a")) },
            KeyRange { start: Bound::Excluded(bytes(b"a")), end: Bound::Excluded(bytes(b"b")) },
        ];
        for range in empty {
            assert!(scan(&*open.tree, &range, Direction::Ascending).is_empty(), "{range:?}");
        }
    });
}

#[test]
fn what_was_committed_to_disk_is_there_after_reopening() {
    let (store, directory) = disk();
    let open = store.open(&id(3)).unwrap();
    commit(&store, vec![put(&open, b"a", b"1"), removal(&open, b"b")]);
    drop((open, store));
    let store = open_disk(&directory, true);
    assert_eq!(store.keyspaces().unwrap(), [id(3)]);
    assert_eq!(store.open(&id(3)).unwrap().tree.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
}

/// Larger than a memtable, a journal, and the cache.
#[test]
fn the_largest_value_there_may_be_is_kept_and_replaced() {
    let (store, directory) = disk();
    let open = store.open(&id(3)).unwrap();
    let large = |seed: u64| {
        let numbers =
            (0..STORE_VALUE_BYTES_MAX as u64 / 8).map(|n| (n + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        numbers.flat_map(u64::to_le_bytes).collect::<Vec<u8>>()
    };
    commit(&store, vec![put(&open, b"k", &large(1)), put(&open, b"small", b"v")]);
    assert!(open.tree.get(b"k").unwrap().unwrap() == large(1));
    commit(&store, vec![put(&open, b"k", &large(2))]);
    store.sync().unwrap();
    drop((open, store));
    let store = open_disk(&directory, true);
    let open = store.open(&id(3)).unwrap();
    assert!(open.tree.get(b"k").unwrap().unwrap() == large(2));
    assert_eq!(open.tree.get(b"small").unwrap().as_deref(), Some(b"v".as_slice()));
}

#[test]
fn a_crash_loses_what_was_not_synced_and_nothing_else() {
    let store = MemoryStore::new();
    let open = store.open(&id(1)).unwrap();
    commit(&store, vec![put(&open, b"a", b"1"), put(&open, b"b", b"1")]);
    store.sync().unwrap();
    commit(&store, vec![put(&open, b"a", b"2"), removal(&open, b"b"), put(&open, b"c", b"2")]);
    commit(&store, vec![put(&open, b"a", b"3")]);
    store.lose_unsynced();
    assert_eq!(
        scan(&*open.tree, &KeyRange::all(), Direction::Ascending),
        [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"1".to_vec())]
    );
}

#[test]
fn a_database_that_has_gone_is_an_error_and_no_new_beginning() {
    let (store, directory) = disk();
    drop(store);
    std::fs::remove_dir_all(directory.path().join("store")).unwrap();
    let options = DiskOptions { directory: directory.path().join("store"), cache_bytes: 1 << 20 };
    let message = DiskStore::open(&options, true).err().unwrap().to_string();
    assert!(message.contains("missing") && message.contains("Way out"), "{message}");
    assert!(!options.directory.exists(), "nothing was created");
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, u8),
    Remove(u8, u8),
    Drop(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..3, 0u8..8, any::<u8>()).prop_map(|(s, k, v)| Step::Put(s, k, v)),
        3 => (0u8..3, 0u8..8).prop_map(|(s, k)| Step::Remove(s, k)),
        1 => (0u8..3).prop_map(Step::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn both_engines_hold_what_a_plain_map_would(
        batches in prop::collection::vec(prop::collection::vec(step(), 1..6), 1..12)
    ) {
        let (disk, _directory) = disk();
        let memory = MemoryStore::new();
        let mut model: BTreeMap<u8, BTreeMap<Vec<u8>, Vec<u8>>> = BTreeMap::new();
        for batch in batches {
            for store in [&disk as &dyn Store, &memory] {
                let mut writes = Vec::new();
                for step in &batch {
                    match step {
                        Step::Put(s, k, v) => writes.push(put(&store.open(&id(u16::from(*s))).unwrap(), &[*k], &[*v])),
                        Step::Remove(s, k) => writes.push(removal(&store.open(&id(u16::from(*s))).unwrap(), &[*k])),
                        Step::Drop(s) => {
                            commit(store, std::mem::take(&mut writes));
                            store.drop_keyspace(&id(u16::from(*s))).unwrap();
                        }
                    }
                }
                commit(store, writes);
            }
            for step in &batch {
                match step {
                    Step::Put(s, k, v) => { model.entry(*s).or_default().insert(vec![*k], vec![*v]); }
                    Step::Remove(s, k) => { model.entry(*s).or_default().remove(&vec![*k]); }
                    Step::Drop(s) => { model.remove(s); }
                }
            }
        }
        for space in 0..3u8 {
            let expected: Pairs = model.get(&space).cloned().unwrap_or_default().into_iter().collect();
            for store in [&disk as &dyn Store, &memory] {
                let open = store.open(&id(u16::from(space))).unwrap();
                prop_assert_eq!(&scan(&*open.tree, &KeyRange::all(), Direction::Ascending), &expected);
                let (low, high) = (vec![2u8], vec![6u8]);
                let within: Pairs = expected.iter().filter(|(k, _)| *k >= low && *k < high).rev().cloned().collect();
                let (start, end) = (Bound::Included(low.clone().into()), Bound::Excluded(high.clone().into()));
                let range = KeyRange { start, end };
                prop_assert_eq!(&scan(&*open.tree, &range, Direction::Descending), &within);
            }
        }
    }
}
