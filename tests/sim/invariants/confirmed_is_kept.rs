//! Who confirmed a write has it: when a node's process is gone, what it had confirmed is on its disk, unless the machine
//! died before it had synced. Data moves by handoff, so a copy counts where it is now: as many partitions have the
//! write, on whichever disks and in whichever generations, as holders have confirmed it.

use super::{Invariant, Promise};
use crate::history::History;
use crate::world::World;
use ringwork_core::ids::{Generation, Partition};
use ringwork_core::store::{KeyspaceId, Store};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
struct ConfirmedIsKept {
    /// By machine, in which of its lives it was looked at last.
    looked_at: BTreeMap<u8, u32>,
}

inventory::submit!(Promise(|| Box::new(ConfirmedIsKept::default())));

/// In which partitions each write is, on these disks.
fn copies<'a>(world: &World, disks: impl Iterator<Item = &'a crate::machine::Machine>) -> Copies {
    let service = &world.around.service;
    let mut copies = Copies::new();
    for machine in disks {
        let store = &machine.disk.memory;
        for (partition, generation) in store.keyspaces().unwrap_or_default().iter().filter_map(place_of) {
            let items = service.items(store, partition, generation);
            for serial in items.values().flat_map(BTreeMap::values).filter_map(|item| service.serial_of(item)) {
                copies.entry(serial).or_default().insert(partition);
            }
        }
    }
    copies
}

type Copies = BTreeMap<u64, BTreeSet<Partition>>;

fn place_of(keyspace: &KeyspaceId) -> Option<(Partition, Generation)> {
    match keyspace {
        KeyspaceId::Vnode { partition, generation, .. } => Some((*partition, *generation)),
        _ => None,
    }
}

impl Invariant for ConfirmedIsKept {
    fn name(&self) -> &'static str {
        "who confirmed a write has it on disk"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        for machine in world.machines.iter().filter(|machine| !machine.is_up()) {
            if self.looked_at.insert(machine.number, machine.starts.get()) == Some(machine.starts.get()) {
                continue;
            }
            let here = copies(world, std::iter::once(machine));
            if here.is_empty() {
                continue; // not a service of single writes, or nothing has come here
            }
            let history = world.history.borrow();
            let forgets = history.forgets();
            let mut everywhere = None;
            for (serial, facts) in history.writes() {
                let gone = History::may_be_forgotten(&facts, &forgets);
                let confirmed = facts.nodes.contains(&machine.name()) && facts.acknowledged.is_some();
                let lost = history.may_be_lost_at(machine.number, &facts);
                if !confirmed || gone || lost || here.contains_key(&serial) {
                    continue;
                }
                let all = everywhere.get_or_insert_with(|| copies(world, world.machines.iter()));
                let has = all.get(&serial).map_or(0, BTreeSet::len);
                if has < history.sure_primaries(&facts).max(1) {
                    let name = machine.name();
                    return Err(format!("{name} has not got {serial}, which is in {has} partitions: {facts:?}"));
                }
            }
        }
        Ok(())
    }
}
