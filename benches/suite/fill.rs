//! Data directories with many items, quickly: messages are merged by the module into an empty vnode in memory, and the
//! rows that come of it are written straight into the store on disk, once for each replica. It decides whose messages
//! they are; where they lie, the ring and the module decide.

use crate::Outcome;
use crate::node::{Cluster, Programs};
use ringwork::chat::{Chat, ChatConfig, ChatItem, Content, MessageId};
use ringwork::core::clock::hybrid::{HybridTime, Stamp};
use ringwork::core::ids::{Boot, Generation, NodeId, Partition};
use ringwork::core::keyspace::Keyspace;
use ringwork::core::ring::{KeyHash, RingSize};
use ringwork::core::store::memory::MemoryStore;
use ringwork::core::store::{KeyspaceId, Store, TreeSlot, Write};
use ringwork::core::vnode::Vnode;
use ringwork::runtime::store::disk::{DiskOptions, DiskStore};
use std::collections::BTreeMap;
use std::path::Path;

/// Messages of each user: a page.
pub const MESSAGES_PER_USER: u64 = 20;
const REPLICAS: u64 = 3;
/// So many users have a replica in each of 64 partitions, but for a chance of one in a hundred million.
const USERS_OPENING_ALL: u64 = 400;
const COMMIT_WRITES: usize = 4096;
const TEXT_BYTES: usize = 100;
/// The first message's time, some day in 2026.
const BEGIN_MS: u64 = 1_780_000_000_000;

/// Users whose messages are so many items, replicas counted.
pub fn users_of(items: u64) -> u64 {
    items.div_ceil(REPLICAS * MESSAGES_PER_USER)
}

/// Makes the data directory of a node that was at that host, has stopped in peace and keeps about so many items. Users
/// are named as `ringwork bench chat` names them.
pub fn fill(programs: &Programs, host: u8, directory: &Path, items: u64) -> Outcome {
    let cluster = Cluster::alone_at(host, programs, directory, &[])?;
    let size = cluster.node(0)?.get("/admin/ring")?["ring_size"].as_u64().ok_or("a ring without a size")?;
    let size = RingSize::try_from(size as u32)?;
    // Keyspaces that a start has no time for come with the first request.
    cluster.open(USERS_OPENING_ALL)?;
    let store = cluster.data_directory(0).join("store");
    cluster.stop()?;
    let options = DiskOptions { directory: store, cache_bytes: 8 << 20 };
    let store = DiskStore::open(&options, true)?;
    let mut generations: BTreeMap<Partition, Generation> = BTreeMap::new();
    for id in store.keyspaces()? {
        if let KeyspaceId::Vnode { service, partition, generation } = id
            && service == Chat::SERVICE
        {
            let latest = generations.entry(partition).or_insert(generation);
            *latest = generation.max(*latest);
        }
    }
    let mut slots: BTreeMap<Partition, TreeSlot> = BTreeMap::new();
    for (partition, generation) in generations {
        let id = KeyspaceId::Vnode { service: Chat::SERVICE.to_owned(), partition, generation };
        slots.insert(partition, store.open(&id)?.slot);
    }
    if slots.len() != size.count() {
        return Err(format!("{} of {size} partitions have a keyspace", slots.len()).into());
    }
    let mut writes = Vec::with_capacity(COMMIT_WRITES + 64);
    for user in 0..users_of(items) {
        let name = format!("bench-{user:07}");
        let first = size.partition_of(&KeyHash::of(Chat::SERVICE, name.as_bytes()));
        for row in rows_of(&name, user)? {
            for replica in 0..REPLICAS as usize {
                let tree =
                    *slots.get(&size.clockwise(first, replica)).ok_or("a partition has no keyspace")?;
                writes.push(Write { tree, ..row.clone() });
            }
        }
        if writes.len() >= COMMIT_WRITES {
            store.commit(&mut writes)?;
        }
    }
    store.commit(&mut writes)?;
    store.sync()?;
    store.prepare_to_close();
    Ok(())
}

/// What the messages of one user come to in a vnode.
fn rows_of(name: &str, user: u64) -> Outcome<Vec<Write>> {
    let nowhere = MemoryStore::without_crashes();
    let id = KeyspaceId::Vnode {
        service: Chat::SERVICE.to_owned(),
        partition: Partition(0),
        generation: Generation(0),
    };
    let (keyspace, host) = Keyspace::new(nowhere.open(&id)?);
    let mut vnode = Chat::init(Partition(0), &ChatConfig::default(), keyspace)?;
    for number in 0..MESSAGES_PER_USER {
        let serial = user * MESSAGES_PER_USER + number;
        let time = HybridTime(HybridTime::at_ms(BEGIN_MS).0 + serial);
        let id = MessageId::from_stamp(Stamp { time, node: NodeId([7; 16]), boot: Boot(1) });
        // Numbers that are spread: a text of one letter would be compressed to nothing.
        let mut text = String::with_capacity(TEXT_BYTES + 16);
        let mut drawn = serial;
        while text.len() < TEXT_BYTES {
            drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push_str(&format!("{:013x}", drawn >> 12));
        }
        text.truncate(TEXT_BYTES);
        let content = Content { text, from: None };
        vnode.merge(ChatItem::Message { user: name.to_owned(), id, content })?;
    }
    Ok(host.seal().writes)
}
