//! What lies on the disks of nodes that have stopped: whose it is, and whether replicas are the same.

use super::harness::Cluster;
use ringwork::chat::Chat;
use ringwork_core::ids::Partition;
use ringwork_core::keyspace::Snapshot;
use ringwork_core::ring::{KeyHash, RingSize};
use ringwork_core::store::{Flow, KeyRange, KeyspaceId, Store};
use ringwork_core::vnode::{Item, Vnode};
use ringwork_runtime::store::disk::{DiskOptions, DiskStore};
use std::collections::BTreeMap;
use std::path::Path;

const REPLICAS: usize = 3;
const CACHE_BYTES: u64 = 16 << 20;

/// Items of one keyspace, as text: by the first partition of their replicas, then by their own key.
type Items = BTreeMap<Partition, BTreeMap<Vec<u8>, String>>;

/// By node and partition, whatever generation it is in.
struct Disks {
    size: RingSize,
    items: BTreeMap<(usize, Partition), Items>,
}

fn read(directory: &Path, size: RingSize) -> Vec<(Partition, Items)> {
    let options = DiskOptions { directory: directory.join("store"), cache_bytes: CACHE_BYTES };
    let store = DiskStore::open(&options, true).unwrap();
    let mut found = Vec::new();
    for keyspace in store.keyspaces().unwrap() {
        let KeyspaceId::Vnode { partition, .. } = keyspace else { continue };
        let opened = store.open(&keyspace).unwrap();
        let mut items = Items::new();
        Chat::fold(&Snapshot::of(&opened.tree), &KeyRange::all(), &mut |item| {
            let first = size.partition_of(&KeyHash::of(Chat::SERVICE, item.routing_key()));
            items.entry(first).or_default().insert(item.key(), format!("{item:?}"));
            Flow::Continue(())
        })
        .unwrap();
        if !items.is_empty() {
            found.push((partition, items));
        }
    }
    found
}

/// How many items each keyspace in a node's directory has.
pub(super) fn counted(directory: &Path, size: RingSize) -> Vec<usize> {
    let count = |items: Items| items.values().map(BTreeMap::len).sum();
    read(directory, size).into_iter().map(|(_, items)| count(items)).collect()
}

/// Everything is on its owner and nowhere else, and the replicas of every key are the same. Stops all nodes, and says
/// how many items there are, replicas counted once.
pub(super) fn check_disks(mut cluster: Cluster) -> usize {
    let answer = cluster.ask(cluster.running()[0], "GET", "/admin/ring/partitions", "").json();
    let holders: Vec<String> = answer["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|partition| partition["holder"].as_str().unwrap().to_owned())
        .collect();
    let size = RingSize::try_from(holders.len() as u32).unwrap();
    let directories = cluster.stop_all();
    let mut disks = Disks { size, items: BTreeMap::new() };
    for (number, directory) in directories {
        for (partition, items) in read(&directory, size) {
            let name = format!("n{}", number + 1);
            let holder = &holders[usize::from(partition.0)];
            assert_eq!(*holder, name, "{name} has {} items of {partition}", items.values().flatten().count());
            let before = disks.items.insert((number, partition), items);
            assert!(before.is_none(), "{name} has {partition} in two generations");
        }
    }
    disks.check(&holders)
}

impl Disks {
    fn check(&self, holders: &[String]) -> usize {
        let number = |partition: Partition| {
            holders[usize::from(partition.0)].trim_start_matches('n').parse::<usize>().unwrap() - 1
        };
        let none = BTreeMap::new();
        let mut count = 0;
        for first in self.size.partitions() {
            let replicas: Vec<(Partition, &BTreeMap<Vec<u8>, String>)> = (0..REPLICAS)
                .map(|step| self.size.clockwise(first, step))
                .map(|place| {
                    let items = self.items.get(&(number(place), place));
                    (place, items.and_then(|items| items.get(&first)).unwrap_or(&none))
                })
                .collect();
            for pair in replicas.windows(2) {
                let ((one, ours), (other, theirs)) = (pair[0], pair[1]);
                let missing = ours.iter().find(|(key, item)| theirs.get(*key) != Some(*item));
                let more = theirs.iter().find(|(key, item)| ours.get(*key) != Some(*item));
                assert!(
                    missing.is_none() && more.is_none(),
                    "of what begins at {first} {one} of {} has {} items and {other} of {} has {}: {missing:?} {more:?}",
                    holders[usize::from(one.0)],
                    ours.len(),
                    holders[usize::from(other.0)],
                    theirs.len()
                );
            }
            count += replicas[0].1.len();
        }
        count
    }
}
