//! What is recorded, what is compared, and how the audit ends.

use super::super::disk::{DiskOptions, DiskStore};
use super::layout::listed_tables;
use super::*;
use bytes::Bytes;
use ringwork_core::store::{KeyspaceId, Store, Write};

/// A closed store with at least one table beside those of names, and the path of that table.
fn store_with_a_table(directory: &Path) -> (PathBuf, PathBuf) {
    let options = DiskOptions { directory: directory.join("store"), cache_bytes: 1 << 20 };
    let store = DiskStore::open(&options, false).unwrap();
    let tree = store.open(&KeyspaceId::Node).unwrap().slot;
    let tables = options.directory.join("keyspaces/1/tables");
    let mut number = 0u32;
    while fs::read_dir(&tables).unwrap().next().is_none() {
        number += 1;
        let key = Bytes::copy_from_slice(&number.to_be_bytes());
        store.commit(&mut vec![Write { tree, key, value: Some(vec![7; 100_000].into()) }]).unwrap();
    }
    drop(store);
    let table = fs::read_dir(&tables).unwrap().next().unwrap().unwrap().path();
    (options.directory, table)
}

#[test]
fn damage_beyond_what_a_start_waits_for_is_found_while_the_store_runs() {
    let directory = tempfile::tempdir().unwrap();
    let (store, table) = store_with_a_table(directory.path());
    let whole = check_within(&store, 0).unwrap();
    assert!(!whole.left.is_empty());
    let (record, audit) = (whole.place.record.clone(), whole.start().unwrap());
    audit.pass_now();
    assert!(audit.fault().is_none());
    drop(audit);
    let before = fs::read(&record).unwrap();

    let mut bytes = fs::read(&table).unwrap();
    bytes[5] ^= 1;
    fs::write(&table, bytes).unwrap();
    let audit = check_within(&store, 0).unwrap().start().unwrap();
    // The thread ends when it has found damage; until then nothing but its end is waited for.
    let ended = audit.end.recv_timeout(Duration::from_secs(10));
    assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
    let message = audit.fault().unwrap().to_string();
    assert!(message.contains(table.to_str().unwrap()) && message.contains("Way out"), "{message}");
    drop(audit);
    assert_eq!(fs::read(&record).unwrap(), before, "the damage has not become the record");
}

#[test]
fn what_no_version_lists_is_forgotten_before_the_engine_gives_its_number_to_a_new_file() {
    let directory = tempfile::tempdir().unwrap();
    let (store, table) = store_with_a_table(directory.path());
    let place = Place::new(&store);
    let whole = place.read_record().unwrap().unwrap();
    let mut record = whole.clone();
    let stale = Print { size_bytes: 3, crc32: 3 };
    record.keyspaces.get_mut(&1).unwrap().tables.insert(999_999, stale);
    record.dropping.insert(44);
    place.write_record(&record).unwrap();
    fs::write(table.with_file_name("999999"), b"half a table").unwrap();
    check(&store).unwrap();
    assert_eq!(place.read_record().unwrap().unwrap(), whole);
}

#[test]
fn a_step_back_to_an_older_version_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = store_with_a_table(directory.path());
    let folder = store.join("keyspaces/1");
    let version = Layout::read(&folder).ok().unwrap().version;
    fs::copy(folder.join(format!("v{version}")), folder.join("v0")).unwrap();
    fs::write(folder.join("current"), [0; CURRENT_BYTES]).unwrap();
    let message = check(&store).err().unwrap().to_string();
    let current = folder.join("current").display().to_string();
    assert!(version > 0 && message.contains(&current) && message.contains("Way out"), "{message}");
}

#[test]
fn only_whole_version_files_are_read() {
    assert_eq!(listed_tables(b""), None);
    assert_eq!(listed_tables(&[7; 100]), None);
    let mut file = vec![1, 1, 2, 0, 0, 0];
    for table in [3u64, 9] {
        file.extend_from_slice(&table.to_le_bytes());
        file.extend_from_slice(&[0; 25]);
    }
    let length = file.len() as u64;
    let contents_at = length;
    file.extend_from_slice(b"TOC!\x01\0\0\0");
    file.extend_from_slice(&0u64.to_le_bytes());
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(b"\x06\0tables");
    file.extend_from_slice(b"SFA!\x01\0");
    file.extend_from_slice(&[0; 16]);
    file.extend_from_slice(&contents_at.to_le_bytes());
    file.extend_from_slice(&34u64.to_le_bytes());
    assert_eq!(listed_tables(&file), Some(vec![3, 9]));
    file[2] = 3;
    assert_eq!(listed_tables(&file), None, "more tables than there is room for");
    file[2] = 1;
    assert_eq!(listed_tables(&file), None, "bytes left over");
}
