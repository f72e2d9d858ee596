//! Replicas that differ become equal without a read: two of three nodes are killed, their stores are damaged behind
//! their backs, and nobody asks for anything afterwards.

use super::disks::check_disks;
use super::fill::{scaled, send_to_all};
use super::harness::{Cluster, send};
use crate::node::{wait_until, waited_for};
use ringwork_core::store::{Direction, Flow, KeyRange, KeyspaceId, Store, Write};
use ringwork_runtime::store::disk::{DiskOptions, DiskStore};
use std::path::Path;
use std::time::{Duration, Instant};

const CACHE_BYTES: u64 = 16 << 20;
/// From the moment on in which all nodes serve again.
const EQUAL_WITHIN: Duration = Duration::from_secs(60);
/// Where a stored message's text begins: its version, then its length.
const TEXT_AT: usize = 2;

/// Changes one in so many rows of all vnodes: to other texts, or to nothing.
fn damage(data: &Path, one_in: usize, lose: bool) -> usize {
    let options = DiskOptions { directory: data.join("store"), cache_bytes: CACHE_BYTES };
    let store = DiskStore::open(&options, true).unwrap();
    let (mut writes, mut met) = (Vec::new(), 0);
    for keyspace in store.keyspaces().unwrap() {
        let KeyspaceId::Vnode { .. } = keyspace else { continue };
        let opened = store.open(&keyspace).unwrap();
        let visit = &mut |key: &[u8], value: &[u8]| {
            met += 1;
            if met % one_in == 0 {
                let mut other = value.to_vec();
                other[TEXT_AT] ^= 1;
                let value = (!lose).then(|| other.into());
                writes.push(Write { tree: opened.slot, key: key.to_vec().into(), value });
            }
            Flow::Continue(())
        };
        opened.tree.scan(&KeyRange::all(), Direction::Ascending, visit).unwrap();
    }
    let count = writes.len();
    store.commit(&mut writes).unwrap();
    store.sync().unwrap();
    store.prepare_to_close();
    count
}

/// Of all nodes: whether every tree is built, differences found so far, and how old the oldest comparison is that found
/// a pair equal; none before every pair was.
pub(super) fn compared(cluster: &Cluster, service: &str) -> (bool, u64, Option<u64>) {
    let (mut built, mut differed, mut oldest) = (true, 0, Some(0));
    for number in cluster.running() {
        let status = cluster.ask(number, "GET", "/admin/repair", "").json();
        let one = &status["services"][service];
        let count = |name: &str| one[name].as_u64().unwrap_or(u64::MAX);
        built &= count("trees_in_doubt") == 0 && count("trees_building") == 0 && count("pairs") > 0;
        differed += count("differed");
        let age = one["oldest_ms"].as_u64().filter(|_| count("never_equal") == 0);
        oldest = oldest.zip(age).map(|(oldest, age)| oldest.max(age));
    }
    (built, differed, oldest)
}

/// Until every pair of replicas was found equal after the last difference was found, all of it after `since`.
pub(super) fn wait_equal(cluster: &Cluster, service: &str, since: Instant) {
    let (mut last, mut changed) = (0, since);
    let waited = waited_for(|| {
        let begun = Instant::now();
        let (built, differed, oldest) = compared(cluster, service);
        if differed != last {
            (last, changed) = (differed, begun);
        }
        built && oldest.is_some_and(|oldest| Duration::from_millis(oldest) < begun - changed)
    });
    waited.unwrap_or_else(|patience| panic!("not within {patience:?}: {:?}", compared(cluster, service)));
}

#[test]
fn lost_and_changed_items_are_found_and_mended_without_a_read() {
    let mut cluster = Cluster::start(3, &[]);
    let users = scaled(300, 200_000);
    let nodes: Vec<_> = (0..3).map(|number| cluster.address(number)).collect();
    send_to_all(&nodes, users, |number| format!("user-{number}"));
    wait_equal(&cluster, "chat", Instant::now());
    let data = |cluster: &Cluster, number: usize| cluster.launches[number].data().to_owned();
    cluster.kill(1);
    cluster.kill(2);
    let lost = damage(&data(&cluster, 1), scaled(50, 100), true);
    let changed = damage(&data(&cluster, 2), scaled(40, 500), false);
    assert!(lost > 3 && changed > 4, "{lost} {changed}");
    cluster.start_again(1);
    cluster.start_again(2);
    cluster.wait_whole();
    let begun = Instant::now();
    wait_until("something differs", || compared(&cluster, "chat").1 > 0);
    wait_equal(&cluster, "chat", begun);
    let took = begun.elapsed();
    println!("of {users} messages {lost} lost and {changed} changed rows were mended after {took:.1?}");
    assert!(took < EQUAL_WITHIN, "{took:?}");
    assert_eq!(check_disks(cluster), users);
}

/// Trees are kept over a stop in peace: the start reads them, and builds none.
#[test]
fn a_node_that_stopped_in_peace_finds_its_trees_again() {
    let mut cluster = Cluster::start(3, &["repair.interval=2s"]);
    for number in 0..60 {
        let answer = send(cluster.address(number % 3), &format!("user-{number}"), "text", "?w=3").unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    wait_equal(&cluster, "chat", Instant::now());
    cluster.stop(1);
    let answer = send(cluster.address(0), "user-0", "while it was away", "").unwrap();
    assert_eq!(answer.status, 201, "{}", answer.body);
    cluster.start_again(1);
    cluster.wait_settled();
    wait_equal(&cluster, "chat", Instant::now());
    let status = cluster.ask(1, "GET", "/admin/repair", "").json();
    assert_eq!(status["services"]["chat"]["builds"], 0, "{status}");
    check_disks(cluster);
}
