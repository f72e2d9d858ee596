//! A settled ring as a node sees it, made by the calls that make one in a cluster, without any node. It decides
//! nothing but ids and names.

use ringwork::core::gossip::detector::Availability;
use ringwork::core::ids::{Boot, ClusterId, NodeId};
use ringwork::core::membership::{ClusterState, Joiner, Member, Report, Status};
use ringwork::core::preflist::RingView;
use ringwork::core::ring::RingSize;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;

fn id(n: usize) -> NodeId {
    let mut bytes = [7; 16];
    bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
    NodeId(bytes)
}

/// What node 0 of so many knows of a ring of `q`, in which the last `down` nodes are down.
pub fn view(q: u32, nodes: usize, down: usize) -> Result<RingView, Box<dyn Error>> {
    let size = RingSize::try_from(q)?;
    let member = Member::new("n0", "127.0.0.1:1", None, Status::Valid, id(0))?;
    let mut state = ClusterState::born(ClusterId([1; 16]), size, id(0), member);
    for n in 1..nodes {
        let joiner = Joiner {
            node: id(n),
            name: format!("n{n}"),
            address: format!("127.0.0.1:{n}"),
            location: None,
            ring_size: size,
            member_of: None,
            rebuilds: false,
        };
        state.admit(&joiner, id(0))?;
    }
    if nodes > 1 {
        let plan = state.plan()?;
        state.show_plan(&plan, id(0));
        state.commit(&plan, id(0))?;
    }
    for partition in size.partitions() {
        state.pass_on(id(0), partition);
    }
    let services = BTreeSet::from(["chat".to_owned()]);
    for n in 0..nodes {
        state.report(id(n), Report { services: services.clone(), ..Report::first(Boot(1)) });
    }
    let up: BTreeMap<NodeId, Availability> = (0..nodes - down).map(|n| (id(n), Availability::Up)).collect();
    Ok(RingView::new(id(0), Arc::new(state), &up, BTreeSet::new()))
}
