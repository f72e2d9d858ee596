//! No node is twice in the active list of a key while enough nodes are up to avoid it.

use super::{Invariant, Promise};
use crate::world::World;
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::preflist::Role;
use ringwork_core::ring::KeyHash;
use std::collections::BTreeSet;

#[derive(Default)]
struct DistinctPreflists;

inventory::submit!(Promise(|| Box::new(DistinctPreflists)));

impl Invariant for DistinctPreflists {
    fn name(&self) -> &'static str {
        "preference lists are on distinct nodes where that is possible"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        let service = world.around.service.name();
        for machine in &world.machines {
            let Some(core) = machine.core().filter(|_| machine.serves()) else { continue };
            let view = core.ring.load();
            let size = view.size().count() as u16;
            let holders: BTreeSet<NodeId> =
                (0..size).filter_map(|at| view.possession(Partition(at))).map(|held| held.holder).collect();
            for key in 0..world.plan().keys {
                let hash = KeyHash::of(service, format!("key{key}").as_bytes());
                let list = view.preflist(service, &hash, core.quorum.n_val);
                let used = |node: NodeId| list.iter().filter(|entry| entry.node == node).count();
                let twice = list.iter().any(|entry| entry.role == Role::Fallback && used(entry.node) > 1);
                let free = holders.iter().find(|node| view.can_be_asked(service, **node) && used(**node) == 0);
                if let Some(free) = free.filter(|_| twice) {
                    let places: Vec<_> = list.iter().map(|entry| (core.name_of(entry.node), entry.role)).collect();
                    let free = core.name_of(*free);
                    return Err(format!("n{} would ask {places:?} for key{key}, and not {free}", machine.number));
                }
            }
        }
        Ok(())
    }
}
