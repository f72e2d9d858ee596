//! What a ring look-up costs: from a key to its active preference list, liveness included, as every request does it.
//!
//! ```console
//! $ cargo bench -p ringwork-core --bench ring
//! ```

use ringwork_core::gossip::detector::Availability;
use ringwork_core::ids::{Boot, ClusterId, NodeId};
use ringwork_core::membership::{ClusterState, Joiner, Member, Report, Status};
use ringwork_core::preflist::RingView;
use ringwork_core::ring::{KeyHash, RingSize};
use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::io::{Result, Write};
use std::sync::Arc;

const LOOKUPS: u32 = 500_000;
const ROUNDS: usize = 9;

fn id(n: usize) -> NodeId {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    NodeId(bytes)
}

/// A settled cluster of `nodes` in a ring of `q`; the last `down` of them are down.
fn view(q: u32, nodes: usize, down: usize) -> Option<RingView> {
    let size = RingSize::try_from(q).ok()?;
    let member = Member::new("n0", "127.0.0.1:1", None, Status::Valid, id(0)).ok()?;
    let mut state = ClusterState::born(ClusterId([1; 16]), size, id(0), member);
    for n in 1..nodes {
        let (name, address) = (format!("n{n}"), format!("127.0.0.1:{n}"));
        let joiner = Joiner {
            node: id(n),
            name,
            address,
            location: None,
            ring_size: size,
            member_of: None,
            rebuilds: false,
        };
        state.admit(&joiner, id(0)).ok()?;
    }
    if nodes > 1 {
        let plan = state.plan().ok()?;
        state.show_plan(&plan, id(0));
        state.commit(&plan, id(0)).ok()?;
    }
    for partition in size.partitions() {
        state.pass_on(id(0), partition);
    }
    let services = BTreeSet::from(["chat".to_owned()]);
    for n in 0..nodes {
        state.report(id(n), Report { services: services.clone(), ..Report::first(Boot(1)) });
    }
    let up: BTreeMap<NodeId, Availability> = (0..nodes - down).map(|n| (id(n), Availability::Up)).collect();
    Some(RingView::new(id(0), Arc::new(state), &up, BTreeSet::new()))
}

#[allow(clippy::disallowed_methods)] // a bench measures time
fn main() -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "| Q | nodes | down | ns per look-up (SHA-1 of a 12-byte key included), median (least, most) |"
    )?;
    for (q, nodes, down) in
        [(64, 1, 0), (64, 5, 0), (64, 5, 1), (1024, 100, 0), (1024, 100, 10), (16_384, 100, 10)]
    {
        let Some(view) = view(q, nodes, down) else { continue };
        let round = |_| {
            let begun = std::time::Instant::now();
            for n in 0..LOOKUPS {
                let mut key = *b"user00000000";
                key[8..].copy_from_slice(&n.to_be_bytes());
                black_box(view.preflist("chat", &KeyHash::of("chat", black_box(&key)), 3));
            }
            begun.elapsed().as_nanos() / u128::from(LOOKUPS)
        };
        let mut found: Vec<u128> = (0..ROUNDS).map(round).collect();
        found.sort_unstable();
        let (median, least, most) = (found[ROUNDS / 2], found[0], found[ROUNDS - 1]);
        writeln!(out, "| {q} | {nodes} | {down} | {median} ({least}, {most}) |")?;
    }
    Ok(())
}
