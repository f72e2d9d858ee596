//! The keys of a bucket, whole and as a stream, while writes go on and a node dies: all of them, or an error that says
//! so, never some that look like all. `RINGWORK_TEST_SCALE=full` lists a million.

use super::fill::scaled;
use super::harness::Cluster;
use super::kv_client::{Client, chunk};
use crate::node::wait_until;
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const CONNECTIONS: usize = 8;
/// Attempts of one write before a test gives up.
const ATTEMPTS_MAX: usize = 20;
const WHOLE: &str = "/buckets/many/keys?keys=true";
const STREAM: &str = "/buckets/many/keys?keys=stream";

fn key(number: usize) -> String {
    format!("key-{number:08}-{}", "x".repeat(20))
}

fn write(client: &mut Client, number: usize) -> bool {
    let path = format!("/buckets/many/keys/{}?w=3", key(number));
    client.put(&path, "value", "", "").is_some_and(|reply| reply.status == 204)
}

fn fill(nodes: &[SocketAddr], count: usize) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..CONNECTIONS {
            let (next, node) = (&next, nodes[thread % nodes.len()]);
            scope.spawn(move || {
                let mut client = Client::of(node);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    let written = (0..ATTEMPTS_MAX).any(|_| {
                        write(&mut client, number) || {
                            std::thread::sleep(Duration::from_millis(100));
                            false
                        }
                    });
                    assert!(written, "key {number}");
                }
            });
        }
    });
}

/// Writes keys that are there, again and again; how often that was confirmed.
fn write_on(node: SocketAddr, stop: &AtomicBool, confirmed: &AtomicUsize) {
    let mut client = Client::of(node);
    for number in (0..100).cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let path = format!("/buckets/many/keys/{}", key(number));
        let done = client.put(&path, "more", "", "").is_some_and(|reply| reply.status == 204);
        confirmed.fetch_add(usize::from(done), Ordering::Relaxed);
    }
}

/// How a list ended.
enum Listed {
    All(BTreeSet<String>),
    /// With an error that the client was told.
    Failed(String),
}

impl Listed {
    fn check(&self, expected: &BTreeSet<String>, what: &str) -> bool {
        match self {
            Self::All(keys) => {
                let missing = expected.difference(keys).next();
                let more = keys.difference(expected).next();
                let (have, want) = (keys.len(), expected.len());
                assert!(
                    missing.is_none() && more.is_none(),
                    "{what}: {have} keys of {want} look like all: without {missing:?}, with {more:?}"
                );
                println!("{what}: all {want}");
                true
            }
            Self::Failed(why) => {
                println!("{what}: {why}");
                false
            }
        }
    }
}

fn keys_of(list: &Value, into: &mut BTreeSet<String>) {
    for key in list["keys"].as_array().unwrap() {
        assert!(into.insert(key.as_str().unwrap().to_owned()), "{key} is listed twice");
    }
}

fn whole(node: SocketAddr) -> Listed {
    let Some(reply) = Client::of(node).ask("GET", WHOLE, &[], "") else {
        return Listed::Failed("the connection broke".to_owned());
    };
    if reply.status != 200 {
        assert!(reply.status >= 500, "{} {}", reply.status, reply.body);
        return Listed::Failed(format!("{} {}", reply.status, reply.body));
    }
    let mut keys = BTreeSet::new();
    keys_of(&serde_json::from_str(&reply.body).unwrap(), &mut keys);
    Listed::All(keys)
}

/// Calls `after_first` when the first piece is there.
fn streamed(node: SocketAddr, after_first: impl FnOnce(usize)) -> Listed {
    let mut client = Client::of(node);
    let (reply, connection) = client.begin("GET", STREAM, &[], "").unwrap();
    assert_eq!(reply.status, 200);
    let (mut keys, mut after_first) = (BTreeSet::new(), Some(after_first));
    loop {
        let piece = match chunk(connection) {
            Some(Some(piece)) => piece,
            Some(None) => return Listed::All(keys),
            None => return Listed::Failed("the connection broke".to_owned()),
        };
        for value in serde_json::Deserializer::from_str(&piece).into_iter::<Value>() {
            let value = value.unwrap();
            if let Some(why) = value["error"].as_str() {
                return Listed::Failed(why.to_owned());
            }
            keys_of(&value, &mut keys);
        }
        if let Some(after_first) = after_first.take() {
            after_first(keys.len());
        }
    }
}

#[test]
fn a_list_of_keys_is_whole_while_writes_go_on_and_a_node_dies_or_says_that_it_is_not() {
    let count = scaled(20_000, 1_000_000);
    let mut cluster = Cluster::start(4, &[]);
    let nodes: Vec<SocketAddr> = (0..4).map(|number| cluster.address(number)).collect();
    fill(&nodes, count);
    let expected: BTreeSet<String> = (0..count).map(key).collect();
    let (stop, confirmed) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _end = SetOnDrop(&stop);
        scope.spawn(|| write_on(nodes[1], &stop, &confirmed));
        // A million names are too long for one answer, and that is said, too.
        let fits = count * key(0).len() < 30 << 20;
        if fits {
            assert!(whole(nodes[0]).check(&expected, "whole, all up"));
        } else {
            let refused = Client::of(nodes[0]).ask("GET", WHOLE, &[], "").unwrap();
            assert!(refused.status == 400 && refused.body.contains("keys=stream"), "{}", refused.body);
        }
        assert!(streamed(nodes[0], |_| ()).check(&expected, "streamed, all up"));

        let mut all = 0;
        for round in 0..4 {
            let victim = if round % 2 == 0 { 3 } else { 2 };
            let before = confirmed.load(Ordering::Relaxed);
            let listed = streamed(nodes[0], |first| {
                assert!(first < count / 2, "the whole list at once");
                cluster.kill(victim);
            });
            all += usize::from(listed.check(&expected, &format!("streamed, n{} dies", victim + 1)));
            wait_until("writes go on", || confirmed.load(Ordering::Relaxed) > before);
            cluster.start_again(victim);
            cluster.wait_settled();
            if fits {
                let asker = scope.spawn(|| whole(nodes[0]));
                // Somewhere into the list, another moment each time.
                std::thread::sleep(Duration::from_millis(10 << round));
                cluster.kill(victim);
                let listed = asker.join().unwrap();
                all += usize::from(listed.check(&expected, &format!("whole, n{} dies", victim + 1)));
                cluster.start_again(victim);
                cluster.wait_settled();
            }
        }
        assert!(all > 0, "no list came to its end");
    });
    assert!(confirmed.load(Ordering::Relaxed) > 0, "nothing was written meanwhile");

    // With one of four left nobody can answer for everything, and nothing looks as if it were all.
    for dead in [1, 2, 3] {
        cluster.kill(dead);
    }
    assert!(!whole(nodes[0]).check(&expected, "whole, three are dead"));
    let mut client = Client::of(nodes[0]);
    let refused = client.ask("GET", STREAM, &[], "").unwrap();
    assert!(
        refused.status >= 500 || refused.body.contains(r#"{"error":"#),
        "{} {}",
        refused.status,
        refused.body
    );
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
