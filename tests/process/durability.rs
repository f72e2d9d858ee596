//! kill -9 in the middle of a stream of sends: what was acknowledged is there exactly once and in order.

use crate::node::{RunningNode, ask};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What one sender knows: per text, the id if the send was acknowledged.
type Sent = Vec<(String, Option<String>)>;

/// Sends numbered messages to the sender's own user until the node no longer answers.
fn send_until_the_end(address: SocketAddr, user: &str, round: usize, stop: &AtomicBool) -> Sent {
    let mut sent = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let text = format!("{user}-{round}-{number}");
        let body = format!(r#"{{"text": "{text}"}}"#);
        let answer = ask(address, "POST", &format!("/chat/users/{user}/messages"), &[], &body);
        let id = answer.as_ref().filter(|a| a.status == 201).map(|a| crate::node::text(&a.json()["id"]));
        let gone = answer.is_none();
        sent.push((text, id));
        if gone {
            break;
        }
    }
    sent
}

/// Kills the node three times under load and looks each time at everything that was ever acknowledged.
fn killed_under_load(data: &Path, durability: &str) {
    let settings = [format!("store.durability={durability}")];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let users = ["ann", "bob", "cleo", "dora"];
    let mut acknowledged: BTreeMap<&str, Vec<(String, String)>> = BTreeMap::new();
    let mut attempted: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for round in 0..3 {
        let node = RunningNode::start(data, &settings);
        let (address, stop, done) = (node.address, AtomicBool::new(false), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for user in users {
                let (stop, done) = (&stop, &done);
                scope.spawn(move || {
                    let sent = send_until_the_end(address, user, round, stop);
                    done.lock().unwrap().push((user, sent));
                });
            }
            // Until every sender has a good stretch behind it, then without a warning.
            let enough = |node: &RunningNode| {
                let commits = node.ask("GET", "/admin/status", "").json();
                commits["counters"]["storage_writes"].as_u64().unwrap_or(0) > 1500
            };
            while !enough(&node) {
                std::thread::sleep(Duration::from_millis(5));
            }
            node.kill();
            stop.store(true, Ordering::Relaxed);
        });
        for (user, sent) in done.into_inner().unwrap() {
            for (text, id) in sent {
                attempted.entry(user).or_default().insert(text.clone());
                if let Some(id) = id {
                    acknowledged.entry(user).or_default().push((id, text));
                }
            }
        }
        let node = RunningNode::start(data, &settings);
        for user in users {
            check(user, &node.log_of(user), &acknowledged[user], &attempted[user]);
        }
        node.kill();
    }
}

fn check(
    user: &str,
    log: &[(String, String)],
    acknowledged: &[(String, String)],
    attempted: &BTreeSet<String>,
) {
    assert!(!acknowledged.is_empty(), "{user}: the test has sent something");
    let found: Vec<_> = log.iter().filter(|entry| acknowledged.contains(entry)).cloned().collect();
    assert_eq!(found, acknowledged, "{user}: every acknowledged message once, in the order of sending");
    let texts: BTreeSet<_> = log.iter().map(|(_, text)| text.clone()).collect();
    assert_eq!(texts.len(), log.len(), "{user}: no message twice");
    assert!(texts.is_subset(attempted), "{user}: no message that nobody sent");
    assert!(log.windows(2).all(|pair| pair[0].0 < pair[1].0), "{user}: ids rise");
}

#[test]
fn kill_nine_loses_nothing_that_was_acknowledged_with_durability_sync() {
    let directory = tempfile::tempdir().unwrap();
    killed_under_load(&directory.path().join("data"), "sync");
}

/// The write reaches the operating system before the acknowledgement, so kill -9 does not even cost the last
/// second.
#[test]
fn kill_nine_loses_nothing_that_was_acknowledged_with_durability_interval() {
    let directory = tempfile::tempdir().unwrap();
    killed_under_load(&directory.path().join("data"), "interval");
}

#[test]
fn kill_nine_loses_nothing_that_was_acknowledged_with_durability_os() {
    let directory = tempfile::tempdir().unwrap();
    killed_under_load(&directory.path().join("data"), "os");
}

#[test]
fn an_idempotency_key_is_one_message_across_a_kill_and_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let body = r#"{"text": "once"}"#;
    let mut ids = BTreeSet::new();
    for key in ["order-4711", "order-4711", "order-4711"] {
        let node = RunningNode::start(&data, &[]);
        for _ in 0..3 {
            let headers = [("idempotency-key", key)];
            let answer = ask(node.address, "POST", "/chat/users/ann/messages", &headers, body).unwrap();
            assert_eq!(answer.status, 201, "{}", answer.body);
            ids.insert(crate::node::text(&answer.json()["id"]));
        }
        assert_eq!(node.log_of("ann").len(), 1);
        node.kill();
    }
    assert_eq!(ids.len(), 1, "one id for ever");
}
