//! Damage of the disk store's files, one kind after the other: each stops the start with the file's name and a
//! way out, and what only looks like damage (a crash at a bad moment) does not. Journals are not here: their
//! end is watched by the storage thread's commit mark.

use super::disk::{DiskOptions, DiskStore};
use bytes::Bytes;
use ringwork_core::ids::{Generation, Partition};
use ringwork_core::store::{KeyspaceId, Store, StoreError, Write};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const VALUE_BYTES: usize = 100_000;

fn id(partition: u16) -> KeyspaceId {
    KeyspaceId::Vnode { service: "test".into(), partition: Partition(partition), generation: Generation(0) }
}

fn open(directory: &Path, expected: bool) -> Result<DiskStore, StoreError> {
    DiskStore::open(&DiskOptions { directory: directory.join("store"), cache_bytes: 1 << 20 }, expected)
}

/// Bytes that no compression makes smaller.
fn noise(seed: u32) -> Bytes {
    let mut state = u64::from(seed) * 2 + 1;
    let words = (0..VALUE_BYTES / 8).flat_map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ (state >> 29)).to_be_bytes()
    });
    words.collect()
}

fn fill(store: &DiskStore, partitions: std::ops::Range<u16>, values: u32) {
    for partition in partitions {
        let tree = store.open(&id(partition)).unwrap().slot;
        for number in 0..values {
            let key = Bytes::copy_from_slice(&number.to_be_bytes());
            store.commit(&mut vec![Write { tree, key, value: Some(noise(number)) }]).unwrap();
        }
    }
}

/// A store of three keyspaces with tables, closed in an orderly way.
fn filled(directory: &Path) {
    let store = open(directory, false).unwrap();
    fill(&store, 1..4, 200);
    store.sync().unwrap();
    store.audit_now();
}

fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.insert(path);
        }
    }
    found
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Whether a version file is the one that `current` names.
fn is_current(version: &Path) -> bool {
    let current = fs::read(version.with_file_name("current")).unwrap();
    name(version) == format!("v{}", u64::from_le_bytes(current[..8].try_into().unwrap()))
}

pub(super) fn tables(directory: &Path) -> Vec<PathBuf> {
    let all = files_below(&directory.join("store/keyspaces"));
    all.into_iter().filter(|path| path.parent().unwrap().ends_with("tables")).collect()
}

fn copy(from: &Path, to: &Path) {
    for path in files_below(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
    for path in fs::read_dir(from.join("store/keyspaces")).unwrap() {
        let number = path.unwrap().file_name();
        fs::create_dir_all(to.join("store/keyspaces").join(number).join("tables")).unwrap();
    }
}

fn assert_named(directory: &Path, path: &Path, damage: &str) {
    let error = open(directory, true).err();
    let error = error.unwrap_or_else(|| panic!("{damage} of {} was not noticed", path.display()));
    assert!(matches!(error, StoreError::Damaged(_)), "{error:?}");
    let message = error.to_string();
    assert!(message.contains(path.to_str().unwrap()), "{damage} of {}: {message}", path.display());
    assert!(message.contains("Way out"), "{message}");
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn damage_of_any_file_stops_the_start_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    filled(directory);
    let mut seen = BTreeSet::new();
    for path in files_below(&directory.join("store")) {
        let kind = match name(&path) {
            "lock" => continue,
            name if name.ends_with(".jnl") => continue,
            "current" => "current",
            "version" => "version marker",
            // Older ones are never read again; the engine deletes them at its next start.
            name if name.starts_with('v') && !is_current(&path) => continue,
            name if name.starts_with('v') => "version",
            _ => "table",
        };
        let whole = fs::read(&path).unwrap();
        let last = whole.len() - 1;
        // Every byte of small files would be too slow for a test; of the large ones three places will do.
        let step = if kind == "table" { last.div_ceil(2) } else { last.div_ceil(10) };
        for at in (0..whole.len()).step_by(step).chain([last]) {
            flip(&path, at);
            assert_named(directory, &path, &format!("byte {at}"));
            fs::write(&path, &whole).unwrap();
        }
        for length in [0, last] {
            fs::write(&path, &whole[..length]).unwrap();
            assert_named(directory, &path, &format!("{length} bytes left"));
        }
        fs::remove_file(&path).unwrap();
        let named = if kind == "version marker" { path.parent().unwrap() } else { &path };
        assert_named(directory, named, "loss");
        fs::write(&path, &whole).unwrap();
        seen.insert(kind);
    }
    assert_eq!(seen, BTreeSet::from(["current", "table", "version", "version marker"]));
    assert!(tables(directory).len() >= 3);
    let store = open(directory, true).unwrap();
    let tree = store.open(&id(2)).unwrap().tree;
    assert_eq!(tree.get(&7u32.to_be_bytes()).unwrap(), Some(noise(7)), "whole again, it opens");
}

#[test]
fn a_keyspace_that_is_gone_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let store = open(directory, false).unwrap();
    fill(&store, 1..3, 1);
    drop(store);
    for number in ["0", "1", "2"] {
        let folder = directory.join("store/keyspaces").join(number);
        fs::rename(&folder, directory.join("aside")).unwrap();
        assert_named(directory, &folder.join("current"), "loss");
        fs::rename(directory.join("aside"), &folder).unwrap();
    }
    fs::rename(directory.join("store/keyspaces"), directory.join("aside")).unwrap();
    assert_named(directory, &directory.join("store/keyspaces"), "loss");
    fs::rename(directory.join("aside"), directory.join("store/keyspaces")).unwrap();
    // Without a record, too, the engine must not begin anew where it has had keyspaces.
    fs::remove_file(directory.join("store.audit")).unwrap();
    let current = directory.join("store/keyspaces/0/current");
    let whole = fs::read(&current).unwrap();
    fs::remove_file(&current).unwrap();
    assert_named(directory, &current, "loss");
    fs::write(&current, whole).unwrap();
    open(directory, true).unwrap();
}

#[test]
fn a_crash_leaves_a_record_that_is_behind_and_the_store_opens() {
    let directory = tempfile::tempdir().unwrap();
    let (here, crashed) = (directory.path().join("here"), directory.path().join("crashed"));
    fs::create_dir_all(&here).unwrap();
    let store = open(&here, false).unwrap();
    fill(&store, 1..3, 100);
    store.audit_now();
    let recorded = fs::read(here.join("store.audit")).unwrap();
    drop(store);
    // More tables than the record knows, and some of those it knows compacted away.
    let store = open(&here, true).unwrap();
    fill(&store, 1..4, 300);
    drop(store);
    copy(&here, &crashed);
    fs::write(crashed.join("store.audit"), &recorded).unwrap();
    let store = open(&crashed, true).unwrap();
    let tree = store.open(&id(3)).unwrap().tree;
    assert_eq!(tree.get(&9u32.to_be_bytes()).unwrap(), Some(noise(9)));
    drop((tree, store));
    // No record at all.
    fs::remove_file(crashed.join("store.audit")).unwrap();
    drop(open(&crashed, true).unwrap());
    assert!(crashed.join("store.audit").exists());
}

#[test]
fn an_interrupted_creation_or_removal_does_not_stop_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let keyspaces = directory.join("store/keyspaces");
    let store = open(directory, false).unwrap();
    // So little that nothing is flushed or compacted while the files are copied.
    fill(&store, 1..3, 1);
    store.audit_now();
    // A handle keeps the files of the removed keyspace; a crash comes after the engine's first step.
    let held = store.open(&id(2)).unwrap();
    store.drop_keyspace(&id(2)).unwrap();
    let crashed = directory.join("crashed");
    copy(directory, &crashed);
    fs::remove_file(crashed.join("store/keyspaces/2/current")).unwrap();
    drop(open(&crashed, true).unwrap());
    assert!(!crashed.join("store/keyspaces/2").exists());
    drop(open(&crashed, true).unwrap());
    drop((held, store));
    assert!(!keyspaces.join("2").exists());
    // Created up to its first version.
    fs::create_dir_all(keyspaces.join("7/tables")).unwrap();
    fs::write(keyspaces.join("7/v0"), b"SFA").unwrap();
    let store = open(directory, true).unwrap();
    assert!(!keyspaces.join("7").exists());
    fill(&store, 5..7, 1);
    store.drop_keyspace(&id(5)).unwrap();
    drop(store);
    let store = open(directory, true).unwrap();
    assert_eq!(store.keyspaces().unwrap(), [id(1), id(6)]);
}

#[test]
fn a_damaged_record_says_that_it_may_be_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let store = open(directory, false).unwrap();
    fill(&store, 1..2, 1);
    drop(store);
    let record = directory.join("store.audit");
    flip(&record, 20);
    assert_named(directory, &record, "byte 20");
    let message = open(directory, true).err().unwrap().to_string();
    assert!(message.contains(&format!("rm {}", record.display())), "{message}");
    fs::remove_file(&record).unwrap();
    open(directory, true).unwrap();
}

#[test]
fn an_open_store_is_locked_and_not_called_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), false).unwrap();
    fill(&store, 1..2, 1);
    assert!(matches!(open(directory.path(), true).err(), Some(StoreError::Locked(_))));
}

#[test]
fn a_record_of_a_database_that_was_moved_away_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let store = open(directory, false).unwrap();
    fill(&store, 1..2, 1);
    drop(store);
    fs::rename(directory.join("store"), directory.join("aside")).unwrap();
    drop(open(directory, false).unwrap());
    open(directory, true).unwrap();
}
