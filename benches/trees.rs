//! What it costs a chat's turn to keep the trees of anti-entropy: messages merged one by one, over a store in which
//! nothing stays, once without anybody listening to what turns change and once with trees. It knows nothing of nodes;
//! what is measured of them is in docs/performance.md.
//!
//! Run: `cargo bench --bench trees` (some ten seconds).

use ringwork::chat::{Chat, ChatConfig, ChatItem, Content, MessageId};
use ringwork::core::antientropy::keeping::Keeper;
use ringwork::core::antientropy::listing::GroupOf;
use ringwork::core::clock::hybrid::{HybridTime, Stamp};
use ringwork::core::ids::{Boot, ClusterId, Generation, NodeId, Partition};
use ringwork::core::keyspace::{Keyspace, KeyspaceHost};
use ringwork::core::ring::{KeyHash, RingSize};
use ringwork::core::store::memory::MemoryStore;
use ringwork::core::store::{KeyspaceId, Store};
use ringwork::core::vnode::Vnode;
use std::error::Error;
use std::io::Write;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: u32 = 64;
const USERS: u64 = 1000;
const TURNS: u64 = 1_000_000;
const ROUNDS: usize = 3;
const TEXT_BYTES: usize = 100;

/// One vnode, and the messages of it that are still to come.
struct Hosted {
    vnode: Chat,
    host: KeyspaceHost,
    keeper: Keeper,
}

fn main() -> Result<(), Box<dyn Error>> {
    let out = &mut std::io::stdout();
    let size = RingSize::try_from(PARTITIONS)?;
    writeln!(out, "{:>14} {:>14} {:>14}", "without", "with trees", "trees")?;
    for _ in 0..ROUNDS {
        let [without, with] = [run(size, false)?, run(size, true)?];
        let each = |cpu: Duration| format!("{} ns", cpu.as_nanos() / u128::from(TURNS));
        writeln!(out, "{:>14} {:>14} {:>14}", each(without), each(with), each(with.saturating_sub(without)))?;
    }
    Ok(())
}

/// CPU time of all turns.
fn run(size: RingSize, trees: bool) -> Result<Duration, Box<dyn Error>> {
    let store = MemoryStore::without_crashes();
    let mut hosted = Vec::new();
    for partition in size.partitions() {
        let id = KeyspaceId::Vnode { service: "chat".into(), partition, generation: Generation(0) };
        let (keyspace, host) = Keyspace::new(store.open(&id)?);
        let groups = GroupOf::new(ClusterId([7; 16]), "chat", size, partition);
        if trees {
            host.listen(groups);
        }
        let vnode = Chat::init(partition, &ChatConfig::default(), keyspace)?;
        hosted.push(Hosted { vnode, host, keeper: Keeper::empty(groups) });
    }
    let users: Vec<(String, Partition)> = (0..USERS)
        .map(|number| format!("user-{number}"))
        .map(|user| (user.clone(), size.partition_of(&KeyHash::of("chat", user.as_bytes()))))
        .collect();
    let begun = cpu_time();
    for number in 0..TURNS {
        let (user, first) = &users[(number.wrapping_mul(0x9e37_79b9) % USERS) as usize];
        let time = HybridTime(1 + (number << 16));
        let id = MessageId::from_stamp(Stamp { time, node: NodeId([7; 16]), boot: Boot(1) });
        let mut text = "x".repeat(TEXT_BYTES - 20);
        text.push_str(&format!("{number:020}"));
        let item = ChatItem::Message { user: user.clone(), id, content: Content { text, from: None } };
        let at = size.clockwise(*first, (number % 3) as usize);
        let Hosted { vnode, host, keeper } = &mut hosted[usize::from(at.0)];
        vnode.merge(item)?;
        let sealed = host.seal();
        if trees {
            let owed = keeper.take(sealed.changes);
            assert!(owed.is_none());
        }
        host.committed(sealed.sequence);
    }
    let took = cpu_time() - begun;
    let items: u64 = hosted.iter_mut().map(|hosted| hosted.keeper.items()).sum();
    assert_eq!(items, if trees { TURNS } else { 0 });
    Ok(took)
}

/// User and system time of this process, from the kernel's own account (in hundredths of a second).
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}
