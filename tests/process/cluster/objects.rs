//! Objects over real nodes: what is written under one context stands side by side and nothing else does, a vnode that
//! has lost its rows swallows nothing, and what is acknowledged while members come, go and die is there.
//! `RINGWORK_TEST_SCALE=full` runs as many rounds as the bars are about.

use super::changes::done;
use super::fill::scaled;
use super::harness::Cluster;
use super::kv_client::{Client, Found, keep_siblings};
use crate::node::wait_until;
use ringwork::kv::{Kv, ObjectName};
use ringwork_core::ring::{KeyHash, RingSize};
use ringwork_core::store::{Direction, Flow, KeyRange, KeyspaceId, Store, Write};
use ringwork_core::vnode::Vnode;
use ringwork_runtime::store::disk::{DiskOptions, DiskStore};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

const CACHE_BYTES: u64 = 16 << 20;
const RING_SIZE: u32 = 16;

fn path(bucket: &str, key: &str) -> String {
    format!("/buckets/{bucket}/keys/{key}")
}

/// Takes all rows of one partition of kv from a node's disk, and leaves everything else. How many there were.
pub(super) fn wipe(directory: &Path, partition: u16) -> usize {
    let options = DiskOptions { directory: directory.join("store"), cache_bytes: CACHE_BYTES };
    let store = DiskStore::open(&options, true).unwrap();
    let mut writes = Vec::new();
    for keyspace in store.keyspaces().unwrap() {
        let KeyspaceId::Vnode { service, partition: of, .. } = &keyspace else { continue };
        if service != Kv::SERVICE || of.0 != partition {
            continue;
        }
        let opened = store.open(&keyspace).unwrap();
        let range = KeyRange::all();
        opened
            .tree
            .scan(&range, Direction::Ascending, &mut |key, _| {
                writes.push(Write { tree: opened.slot, key: key.to_vec().into(), value: None });
                Flow::Continue(())
            })
            .unwrap();
    }
    let rows = writes.len();
    store.commit(&mut writes).unwrap();
    store.sync().unwrap();
    rows
}

/// riak_kv#679: such a vnode counted anew under its old name, and what it then acknowledged was, to the other replicas,
/// something they had seen and replaced long ago. Counting on under the old name is no better: its first write then
/// claims to have seen those that it has lost.
#[test]
fn a_vnode_that_has_lost_its_rows_swallows_no_write_and_no_write_of_others() {
    // Nothing mends what was lost but the writes themselves.
    let settings = [&format!("cluster.ring_size={RING_SIZE}") as &str, "repair.exchanges=0"];
    let mut cluster = Cluster::start(3, &settings);
    keep_siblings(&cluster, "wiped");
    let partitions = cluster.ask(0, "GET", "/admin/ring/partitions", "").json();
    let held =
        partitions["partitions"].as_array().unwrap().iter().find(|held| held["holder"] == "n1").unwrap();
    let partition = u16::try_from(held["partition"].as_u64().unwrap()).unwrap();
    // Keys whose writes that node's vnode coordinates: it is the first of their replicas.
    let size = RingSize::try_from(RING_SIZE).unwrap();
    let is_first = |key: &String| {
        let name = ObjectName::new("default", b"wiped", key.as_bytes()).unwrap();
        size.partition_of(&KeyHash::of(Kv::SERVICE, name.bytes())).0 == partition
    };
    let keys: Vec<String> = (0..).map(|number| format!("key-{number}")).filter(is_first).take(20).collect();
    let mut client = Client::of(cluster.address(1));
    let mut before = BTreeMap::new();
    for key in &keys {
        let of_key = path("wiped", key);
        // Of several writes each, so that what counts anew would be far behind.
        for number in 0..5 {
            let seen = client.get(&of_key, "?r=3").unwrap();
            let put = client.put(&of_key, &format!("before-{number}"), &seen.context, "?w=3").unwrap();
            assert_eq!(put.status, 204, "{}", put.body);
        }
        before.insert(key, client.get(&of_key, "?r=3").unwrap());
    }

    cluster.kill(0);
    let rows = wipe(cluster.launches[0].data(), partition);
    assert!(rows >= keys.len(), "{rows} rows were on that disk");
    cluster.start_again(0);
    cluster.wait_settled();

    // No read comes before the first writes: it would mend the vnode. A third of these has seen what was there.
    let mut client = Client::of(cluster.address(0));
    let knows = |number: usize| number.is_multiple_of(3);
    for (number, key) in keys.iter().enumerate() {
        let context = if knows(number) { before[key].context.as_str() } else { "" };
        let put = client.put(&path("wiped", key), "after", context, "?w=3").unwrap();
        assert_eq!(put.status, 204, "{}", put.body);
    }
    for (number, key) in keys.iter().enumerate() {
        for node in 0..3 {
            let found = Client::of(cluster.address(node)).get(&path("wiped", key), "?r=3").unwrap();
            let expected: &[&str] = if knows(number) { &["after"] } else { &["after", "before-4"] };
            assert_eq!(found.values, expected, "{key} at n{}, knowing: {}", node + 1, knows(number));
        }
    }
    for key in &keys {
        let of_key = path("wiped", key);
        let seen = client.get(&of_key, "?r=3").unwrap();
        assert_eq!(client.put(&of_key, "last", &seen.context, "?w=3").unwrap().status, 204);
        for node in 0..3 {
            let found = Client::of(cluster.address(node)).get(&of_key, "?r=3").unwrap();
            assert_eq!(found.values, ["last"], "{key} at n{}", node + 1);
        }
    }
}

#[test]
fn five_clients_with_one_old_context_make_five_siblings_and_never_more() {
    const CLIENTS: usize = 5;
    const KEYS: usize = 8;
    let rounds = scaled(200, 1_000);
    let cluster = Cluster::start(3, &[]);
    keep_siblings(&cluster, "crowd");
    let nodes: Vec<SocketAddr> = (0..3).map(|number| cluster.address(number)).collect();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|number| Client::of(nodes[number % 3])).collect();
    let mut reader = Client::of(nodes[2]);
    for round in 0..rounds {
        let of_key = path("crowd", &format!("key-{}", round % KEYS));
        // With those of the last round under this key, which all of them replace.
        let seen = reader.get(&of_key, "").unwrap();
        std::thread::scope(|scope| {
            for (number, client) in clients.iter_mut().enumerate() {
                let (of_key, context) = (&of_key, &seen.context);
                scope.spawn(move || {
                    let put = client.put(of_key, &format!("{round}-{number}"), context, "").unwrap();
                    assert_eq!(put.status, 204, "{}", put.body);
                });
            }
        });
        let found = reader.get(&of_key, "").unwrap();
        let expected: Vec<String> = (0..CLIENTS).map(|number| format!("{round}-{number}")).collect();
        assert_eq!(found.values, expected, "round {round}; the context was of {:?}", seen.values);
        // Whoever has read all of them leaves one.
        if round.is_multiple_of(4) {
            assert_eq!(reader.put(&of_key, "one", &found.context, "").unwrap().status, 204);
            assert_eq!(reader.get(&of_key, "").unwrap().values, ["one"], "round {round}");
        }
    }
    println!("{rounds} rounds of {CLIENTS} clients");
}

/// What one writer knows of its key: nobody else writes it.
#[derive(Default)]
struct Written {
    /// By number: which values the read before it had shown, and whether it was acknowledged.
    attempts: BTreeMap<usize, (BTreeSet<usize>, bool)>,
    refused: BTreeSet<usize>,
}

impl Written {
    /// Whether somebody who had seen `one` wrote `other`, at once or over others.
    fn replaced(&self, one: usize, other: usize) -> bool {
        let Some((seen, _)) = self.attempts.get(&other) else { return false };
        seen.contains(&one) || seen.iter().any(|between| self.replaced(one, *between))
    }

    /// What of a read cannot be, if anything.
    fn wrong(&self, found: &Found, acknowledged_before: usize) -> Option<String> {
        let shown: BTreeSet<usize> = found.values.iter().map(|value| value.parse().unwrap()).collect();
        if found.values.len() != shown.len() {
            return Some("one value stands there twice".to_owned());
        }
        if let Some(number) = shown.iter().find(|number| self.refused.contains(number)) {
            return Some(format!("{number} had been refused"));
        }
        for one in &shown {
            // One that was not acknowledged may be on a replica that was not asked when the next was written.
            let acknowledged = self.attempts.get(one).is_some_and(|(_, acknowledged)| *acknowledged);
            let by = shown.iter().find(|other| acknowledged && self.replaced(*one, **other));
            if let Some(by) = by {
                return Some(format!("{one} stands beside {by}, which was written over it"));
            }
        }
        let is_there =
            |one: usize| shown.contains(&one) || shown.iter().any(|other| self.replaced(one, *other));
        let acknowledged = self
            .attempts
            .iter()
            .filter(|(number, (_, acknowledged))| *acknowledged && **number <= acknowledged_before);
        let lost = acknowledged.map(|(number, _)| *number).find(|number| !is_there(*number));
        lost.map(|lost| format!("{lost} was acknowledged, and is neither there nor written over"))
    }
}

/// Writers, each with keys of its own: reads, writes one value more under the context of that read, and reads again
/// elsewhere.
struct Writers<'a> {
    nodes: &'a [SocketAddr],
    begun: Instant,
    written: Mutex<BTreeMap<String, Written>>,
    wrong: Mutex<Vec<String>>,
    acknowledged: AtomicUsize,
    failed: AtomicUsize,
    ended: AtomicBool,
}

const WRITERS: usize = 8;
const KEYS_OF_EACH: usize = 5;

impl<'a> Writers<'a> {
    fn of(nodes: &'a [SocketAddr]) -> Self {
        Self {
            nodes,
            begun: Instant::now(),
            written: Mutex::default(),
            wrong: Mutex::default(),
            acknowledged: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        }
    }

    fn keys() -> impl Iterator<Item = String> {
        (0..WRITERS).flat_map(|writer| (0..KEYS_OF_EACH).map(move |key| format!("{writer}-{key}")))
    }

    fn judge(&self, key: &str, found: &Found, acknowledged_before: usize, node: SocketAddr) {
        let wrong =
            self.written.lock().unwrap().entry(key.to_owned()).or_default().wrong(found, acknowledged_before);
        if let Some(wrong) = wrong.filter(|_| !found.degraded) {
            let at = self.begun.elapsed();
            self.wrong.lock().unwrap().push(format!("{at:.3?} {key} at {node}: {wrong}: {:?}", found.values));
        }
    }

    fn work(&self, writer: usize) {
        let mut clients: Vec<Client> = self.nodes.iter().map(|node| Client::of(*node)).collect();
        // The number of the last write of each key that was acknowledged.
        let mut last = [0; KEYS_OF_EACH];
        for number in 1.. {
            if self.ended.load(Ordering::Relaxed) {
                return;
            }
            let (here, there) = (number % clients.len(), (number + writer) % clients.len());
            let own = number % KEYS_OF_EACH;
            let key = format!("{writer}-{own}");
            let of_key = path("moved", &key);
            let Some(seen) = clients[here].get(&of_key, "") else {
                self.failed.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            self.judge(&key, &seen, last[own], self.nodes[here]);
            let shown = seen.values.iter().map(|value| value.parse().unwrap()).collect();
            let note = |change: &dyn Fn(&mut Written)| {
                change(self.written.lock().unwrap().entry(key.clone()).or_default());
            };
            note(&|written| {
                written.attempts.insert(number, (BTreeSet::clone(&shown), false));
            });
            match clients[here].put(&of_key, &number.to_string(), &seen.context, "") {
                Some(reply) if reply.status == 204 => {
                    self.acknowledged.fetch_add(1, Ordering::Relaxed);
                    last[own] = number;
                    note(&|written| {
                        written.attempts.entry(number).and_modify(|(_, acknowledged)| *acknowledged = true);
                    });
                }
                other => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    if other.is_some_and(|reply| reply.is_refused()) {
                        note(&|written| {
                            written.refused.insert(number);
                        });
                    }
                }
            }
            match clients[there].get(&of_key, "") {
                Some(found) => self.judge(&key, &found, last[own], self.nodes[there]),
                None => drop(self.failed.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }

    /// Waits until so many more were acknowledged.
    fn go_on(&self, more: usize) {
        let enough = self.acknowledged.load(Ordering::Relaxed) + more;
        wait_until("the load goes on", || self.acknowledged.load(Ordering::Relaxed) >= enough);
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_is_acknowledged_while_members_come_go_and_die_is_there_and_nothing_stands_beside_it() {
    let more = scaled(150, 5_000);
    let mut cluster = Cluster::start(4, &[]);
    keep_siblings(&cluster, "moved");
    // Not at the one that leaves.
    let nodes: Vec<SocketAddr> = (0..3).map(|number| cluster.address(number)).collect();
    let writers = Writers::of(&nodes);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let writers = &writers;
            scope.spawn(move || writers.work(writer));
        }
        let _end = SetOnDrop(&writers.ended);
        let note = |what: &str| println!("{:.3?}: {what}", writers.begun.elapsed());
        writers.go_on(more);
        let new = cluster.add(&[]);
        commit(&cluster);
        note("the join is committed");
        writers.go_on(more);
        // In the midst of what moves to the one that joins.
        cluster.kill(1);
        note("n2 is killed");
        writers.go_on(more);
        cluster.start_again(1);
        note("n2 is back");
        cluster.wait_settled();
        writers.go_on(more);
        cluster.kill(new);
        note("the new one is killed");
        cluster.wait_seen(new, "down");
        note("which all know");
        writers.go_on(more);
        cluster.start_again(new);
        note("the new one is back");
        cluster.wait_settled();
        note("all is settled");
        done(&cluster, 0, "leave", r#"{"node": "n4"}"#);
        commit(&cluster);
        let ended = cluster.node_mut(3).wait();
        assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}", cluster.node(3).log());
        cluster.forget(3);
        cluster.wait_settled();
        writers.go_on(more);
    });
    let (acknowledged, failed) =
        (writers.acknowledged.load(Ordering::Relaxed), writers.failed.load(Ordering::Relaxed));
    println!("{acknowledged} writes acknowledged, {failed} requests failed");
    for key in Writers::keys() {
        let mut shown: Option<Vec<String>> = None;
        for number in cluster.running() {
            let node = cluster.address(number);
            let found = Client::of(node).get(&path("moved", &key), "?r=3").unwrap();
            writers.judge(&key, &found, usize::MAX, node);
            let first = shown.get_or_insert_with(|| found.values.clone());
            assert_eq!(*first, found.values, "{key} at n{}", number + 1);
        }
    }
    let wrong = writers.wrong.lock().unwrap();
    assert!(
        wrong.is_empty(),
        "{} reads show what cannot be: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
}

fn commit(cluster: &Cluster) {
    wait_until("the change is committed", || {
        let planned = cluster.ask(0, "POST", "/admin/cluster/plan", "");
        planned.status == 200 && cluster.ask(0, "POST", "/admin/cluster/commit", "").status == 200
    });
}
