//! Damaged files: the start stops, and says which file it is and what to do. Never a silent new beginning.

use crate::node::{Launch, RunningNode};
use std::fs;
use std::path::{Path, PathBuf};

fn filled(data: &Path) -> usize {
    let node = RunningNode::start(data, &[]);
    for number in 0..200 {
        let body = format!(r#"{{"text": "message {number} {}"}}"#, "x".repeat(500));
        assert_eq!(node.ask("POST", "/chat/users/ann/messages", &body).status, 201);
    }
    let count = node.log_of("ann").len();
    node.stop();
    count
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

/// The journal with the largest number.
fn journal(data: &Path) -> PathBuf {
    let entries = fs::read_dir(data.join("store")).unwrap().flatten().map(|e| e.path());
    entries.filter(|p| p.extension().is_some_and(|e| e == "jnl")).max().unwrap()
}

fn refusal(data: &Path) -> String {
    let (code, said) = RunningNode::refused(data, &[]);
    assert_eq!(code, Some(1), "{said}");
    said
}

#[test]
fn a_damaged_ring_or_identity_file_stops_the_start_and_the_way_out_works() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let count = filled(&data);
    for name in ["ring", "identity"] {
        let path = data.join(name);
        let whole = fs::read(&path).unwrap();
        for damage in [0, whole.len() / 2, whole.len() - 1] {
            flip(&path, damage);
            let said = refusal(&data);
            assert!(said.contains(&path.display().to_string()) && said.contains("Way out"), "{said}");
            assert!(said.contains("damaged"), "{said}");
            fs::write(&path, &whole).unwrap();
        }
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(refusal(&data).contains(&path.display().to_string()));
        fs::write(&path, &whole).unwrap();
    }
    // The way out that the message names for an identity: the version before it.
    flip(&data.join("identity"), 20);
    assert!(refusal(&data).contains("identity.previous"));
    fs::rename(data.join("identity.previous"), data.join("identity")).unwrap();
    let node = RunningNode::start(&data, &[]);
    assert_eq!(node.log_of("ann").len(), count);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let place = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &place),
            false => drop(fs::copy(entry.path(), place).unwrap()),
        }
    }
}

#[test]
fn a_journal_that_was_cut_or_damaged_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let count = filled(&data);
    let path = journal(&data);
    let aside = directory.path().join("aside");
    copy(&data, &aside);
    let whole = fs::read(&path).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let places = [0, 60, used / 5, used / 3, used / 2, used - 300, used - 10];
    let mut refusals = 0;
    for at in places {
        flip(&path, at);
        match Launch::new(&data).attempt() {
            // Some bytes of a batch's head mean nothing for its content, and the engine does not check them.
            Ok(node) => {
                assert_eq!(node.log_of("ann").len(), count, "byte {at}: a node that starts has everything")
            }
            Err((code, said)) => {
                refusals += 1;
                assert_eq!(code, Some(1), "byte {at} of {used}: {said}");
                assert!(said.contains("damaged") && said.contains("Way out"), "byte {at}: {said}");
                assert!(said.contains(&data.display().to_string()), "byte {at}: {said}");
            }
        }
        // All of it: a node that started has written more, and its journal of before would end too early.
        fs::remove_dir_all(&data).unwrap();
        copy(&aside, &data);
    }
    assert!(refusals >= places.len() - 2, "{refusals} of {} places were noticed", places.len());
    fs::write(&path, &whole[..used / 2]).unwrap();
    assert!(refusal(&data).contains("Way out"));
    fs::write(&path, &whole).unwrap();
    let node = RunningNode::start(&data, &[]);
    assert_eq!(node.log_of("ann").len(), count, "put back, everything is there");
}

#[test]
fn an_identity_or_a_ring_that_has_gone_is_no_reason_to_begin_anew() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let count = filled(&data);
    for name in ["identity", "ring"] {
        let (path, aside) = (data.join(name), data.join("aside"));
        fs::rename(&path, &aside).unwrap();
        let said = refusal(&data);
        assert!(
            said.contains(&format!("{} is missing", path.display())) && said.contains("Way out"),
            "{said}"
        );
        assert!(!path.exists(), "nothing was put in its place");
        fs::rename(&aside, &path).unwrap();
    }
    let node = RunningNode::start(&data, &[]);
    assert_eq!(node.log_of("ann").len(), count);
}

/// The way out of a damaged identity is an older one; its boot number was given before and must not be again.
#[test]
fn an_older_identity_file_gives_no_boot_number_twice() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let boot = |node: &RunningNode| node.ask("GET", "/admin/status", "").json()["boot"].as_u64().unwrap();
    RunningNode::start(&data, &[]).stop();
    let old = fs::read(data.join("identity")).unwrap();
    let mut last = 0;
    for _ in 0..2 {
        let node = RunningNode::start(&data, &[]);
        assert!(boot(&node) > last);
        last = boot(&node);
        node.stop();
    }
    fs::write(data.join("identity"), old).unwrap();
    assert!(boot(&RunningNode::start(&data, &[])) > last);
}

#[test]
fn a_store_that_has_gone_is_no_reason_to_begin_anew() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    filled(&data);
    fs::rename(data.join("store"), data.join("elsewhere")).unwrap();
    let said = refusal(&data);
    assert!(said.contains("missing") && said.contains("Way out"), "{said}");
    fs::rename(data.join("elsewhere"), data.join("store")).unwrap();
    RunningNode::start(&data, &[]).stop();
}
