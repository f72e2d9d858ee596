//! Objects of 50 MiB over real nodes: read bit for bit from each, beside small requests that go on meanwhile; kept over
//! the death of a node, a node that joins, and a disk that has lost them.

use super::harness::Cluster;
use super::kv_client::{Client, keep_siblings};
use super::moving::{commit, wait_home};
use super::objects::wipe;
use super::repair::{compared, wait_equal};
use crate::node::wait_until;
use ringwork::kv::Kv;
use ringwork_core::keyspace::Snapshot;
use ringwork_core::store::{Flow, KeyRange, KeyspaceId, Store};
use ringwork_core::vnode::Vnode;
use ringwork_runtime::store::disk::{DiskOptions, DiskStore};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

const MIB: usize = 1 << 20;
const LARGEST: usize = 50 * MIB;
const CACHE_BYTES: u64 = 16 << 20;
const RING_SIZE: u16 = 8;
const SETTINGS: [&str; 4] =
    ["kv.object_bytes_max=50MiB", "http.request_timeout=60s", "cluster.ring_size=8", "repair.interval=2s"];
/// What one node may have in memory. The most that was seen was 1400, at a node that was asked for twenty writes at a
/// time.
const RESIDENT_MIB_MAX: u64 = 2000;

/// Letters without a pattern that would shrink.
fn value(length: usize, seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let letters = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(
            b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_"[(state >> 58) as usize],
        )
    });
    letters.take(length).collect()
}

fn path(key: &str) -> String {
    format!("/buckets/large/keys/{key}")
}

fn put(cluster: &Cluster, node: usize, key: &str, value: &str, query: &str) {
    let reply = Client::of(cluster.address(node)).put(&path(key), value, "", query);
    let reply = reply.unwrap_or_else(|| panic!("no answer to a put of {key}"));
    assert_eq!(reply.status, 204, "{key}: {}", reply.body);
}

/// Every node that runs shows just these values.
fn check_everywhere(cluster: &Cluster, key: &str, values: &[&str]) {
    let mut expected = values.to_vec();
    expected.sort_unstable();
    for node in cluster.running() {
        let found = Client::of(cluster.address(node)).get(&path(key), "?r=2").unwrap();
        let lengths: Vec<usize> = found.values.iter().map(String::len).collect();
        assert!(found.values == expected, "n{} shows other values of {key}: {lengths:?}", node + 1);
    }
}

/// Of each node now, and at most since this was asked last.
fn check_memory(cluster: &Cluster, when: &str) {
    for node in cluster.running() {
        let (now, most) = (cluster.node(node).resident_mib(), cluster.node(node).most_resident_mib());
        println!("{when}: n{} has {now} MiB in memory, and had {most} at most", node + 1);
        cluster.node(node).forget_most_resident();
        assert!(most < RESIDENT_MIB_MAX, "{when}: n{} had {most} MiB in memory", node + 1);
    }
}

/// Copies of each object on a disk, as checksums.
fn copies(data: &Path) -> BTreeMap<Vec<u8>, Vec<u32>> {
    let options = DiskOptions { directory: data.join("store"), cache_bytes: CACHE_BYTES };
    let store = DiskStore::open(&options, true).unwrap();
    let mut found: BTreeMap<Vec<u8>, Vec<u32>> = BTreeMap::new();
    for keyspace in store.keyspaces().unwrap() {
        let KeyspaceId::Vnode { service, .. } = &keyspace else { continue };
        if service != Kv::SERVICE {
            continue;
        }
        let opened = store.open(&keyspace).unwrap();
        Kv::fold(&Snapshot::of(&opened.tree), &KeyRange::all(), &mut |item| {
            let of_item = found.entry(item.name.bytes().to_vec()).or_default();
            of_item.push(crc32fast::hash(&ringwork_core::wire::codec::encode(&item).unwrap()));
            Flow::Continue(())
        })
        .unwrap();
    }
    found
}

/// Stops all, and looks whether there are three equal copies of so many objects.
fn check_copies(mut cluster: Cluster, objects: usize) {
    let mut all: BTreeMap<Vec<u8>, Vec<u32>> = BTreeMap::new();
    for (_, data) in cluster.stop_all() {
        for (name, copies) in copies(&data) {
            all.entry(name).or_default().extend(copies);
        }
    }
    assert_eq!(all.len(), objects);
    for (name, copies) in all {
        let name = name.escape_ascii();
        assert!(copies.len() == 3 && copies.iter().all(|copy| *copy == copies[0]), "{name}: {copies:?}");
    }
}

#[test]
fn objects_of_50_mib_are_read_from_each_node_and_small_requests_go_on_meanwhile() {
    let cluster = Cluster::start(3, &SETTINGS);
    let (first, second) = (value(LARGEST, 1), value(LARGEST, 2));
    put(&cluster, 0, "one", &first, "?w=3");
    check_everywhere(&cluster, "one", &[&first]);
    put(&cluster, 1, "one", &second, "?w=3");
    check_everywhere(&cluster, "one", &[&second]);

    let too_long = Client::of(cluster.address(0)).put(&path("one"), &(second.clone() + "x"), "", "").unwrap();
    assert_eq!(too_long.status, 413, "{}", too_long.body);
    assert!(too_long.body.contains("52428800 bytes"), "{}", too_long.body);

    keep_siblings(&cluster, "large");
    let siblings = [value(20 * MIB, 3), value(20 * MIB, 4)];
    put(&cluster, 0, "siblings", &siblings[0], "?w=3");
    put(&cluster, 2, "siblings", &siblings[1], "?w=3");
    check_everywhere(&cluster, "siblings", &[&siblings[0], &siblings[1]]);
    let third = Client::of(cluster.address(1)).put(&path("siblings"), &siblings[0], "", "?w=3").unwrap();
    assert_eq!(third.status, 413, "{}", third.body);
    assert!(third.body.contains("with 3 values: at most 52428800 are allowed"), "{}", third.body);

    // Large objects one after the other at two nodes, small ones at all, until the last large one is done.
    let (done, rounds) = (AtomicBool::new(false), 3);
    let answered: Vec<usize> = std::thread::scope(|scope| {
        let (cluster, done, first) = (&cluster, &done, &first);
        let small = |node: usize| {
            let mut client = Client::of(cluster.address(node));
            let (key, mut answered) = (format!("small-{node}"), 0);
            while !done.load(Ordering::Relaxed) {
                let seen = client.get(&path(&key), "?r=2").unwrap();
                let reply = client.put(&path(&key), &answered.to_string(), &seen.context, "?w=2").unwrap();
                assert_eq!(reply.status, 204, "{}", reply.body);
                answered += 1;
            }
            answered
        };
        let smalls: Vec<_> = (0..3).map(|node| scope.spawn(move || small(node))).collect();
        let large = |node: usize| {
            for round in 0..rounds {
                let key = format!("round-{node}-{round}");
                put(cluster, node, &key, first, "?w=3");
                let found = Client::of(cluster.address(2 - node)).get(&path(&key), "?r=3").unwrap();
                assert!(found.values == [first.as_str()], "{key}");
            }
        };
        let larges: Vec<_> = [0, 2].into_iter().map(|node| scope.spawn(move || large(node))).collect();
        let ends: Vec<_> = larges.into_iter().map(|large| large.join()).collect();
        done.store(true, Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.unwrap());
        smalls.into_iter().map(|small| small.join().unwrap()).collect()
    });
    println!(
        "beside {rounds} large objects at each of two nodes {answered:?} small ones were written and read"
    );
    assert!(answered.iter().all(|answered| *answered > rounds), "{answered:?}");
    check_memory(&cluster, "after large and small ones");

    // More at a time than there is room for: what is answered is whole, the rest is refused at once.
    let many = 20;
    let at_a_time = |ask: &(dyn Fn(usize) -> u16 + Sync)| {
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..many).map(|number| scope.spawn(move || ask(number))).collect();
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let of = |status: u16| statuses.iter().filter(|one| **one == status).count();
        (of(200) + of(204), of(503))
    };
    let (shown, refused) = at_a_time(&|_| {
        let reply = Client::of(cluster.address(0)).ask("GET", &path("one"), &[], "").unwrap();
        assert!(reply.status != 200 || reply.body == second, "an answer is whole");
        reply.status
    });
    assert!(shown > 0 && shown + refused == many, "{shown} and {refused}");
    check_memory(&cluster, &format!("after {many} reads at n1 at a time, of which {shown} were answered"));
    let (stored, refused) = at_a_time(&|number| {
        let key = format!("many-{number}");
        // Who is refused before the body was read may be hung up on while it still sends.
        Client::of(cluster.address(0)).put(&path(&key), &first, "", "?w=2").map_or(503, |reply| reply.status)
    });
    assert!(stored > 0 && stored + refused == many, "{stored} and {refused}");
    check_memory(&cluster, &format!("after {many} writes at n1 at a time, of which {stored} were taken"));
}

#[test]
fn objects_of_50_mib_are_kept_over_a_death_a_join_and_a_lost_disk() {
    let mut cluster = Cluster::start(3, &SETTINGS);
    let values: Vec<String> = (0..4).map(|seed| value(LARGEST - seed, 10 + seed as u64)).collect();
    let check = |cluster: &Cluster| {
        values
            .iter()
            .enumerate()
            .for_each(|(number, value)| check_everywhere(cluster, &number.to_string(), &[value]));
    };
    put(&cluster, 0, "0", &values[0], "?w=3");
    put(&cluster, 1, "1", &values[1], "?w=3");
    cluster.kill(2);
    cluster.wait_seen(2, "down");
    // Stand-ins take in what is its, and give it back.
    put(&cluster, 0, "2", &values[2], "?w=3");
    put(&cluster, 1, "3", &values[3], "?w=3");
    cluster.start_again(2);
    println!("hints were home {:.1?} after the node was back", wait_home(&cluster));
    check(&cluster);
    check_memory(&cluster, "after hints went home");

    cluster.add(&SETTINGS);
    commit(&cluster, 0);
    println!("all was where it belongs {:.1?} after the commit", wait_home(&cluster));
    check(&cluster);
    check_memory(&cluster, "after a node has joined");

    cluster.kill(1);
    let rows: usize = (0..RING_SIZE).map(|partition| wipe(cluster.launches[1].data(), partition)).sum();
    assert!(rows > 0, "there was nothing on that disk");
    cluster.start_again(1);
    cluster.wait_settled();
    let begun = Instant::now();
    wait_until("something differs", || compared(&cluster, "kv").1 > 0);
    wait_equal(&cluster, "kv", begun);
    println!("{rows} lost rows were mended after {:.1?}", begun.elapsed());
    check_memory(&cluster, "after a disk was mended");
    check_copies(cluster, values.len());
}
