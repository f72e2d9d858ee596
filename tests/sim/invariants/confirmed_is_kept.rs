//! Who confirmed a write has it: when a node's process is gone, what it had confirmed is on its disk, unless the
//! machine died before it had synced.

use super::{Invariant, Promise};
use crate::history::{History, WriteFacts};
use crate::world::World;
use ringwork_core::ids::Partition;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
struct ConfirmedIsKept {
    /// By machine, in which of its lives it was looked at last.
    looked_at: BTreeMap<u8, u32>,
}

inventory::submit!(Promise(|| Box::new(ConfirmedIsKept::default())));

impl Invariant for ConfirmedIsKept {
    fn name(&self) -> &'static str {
        "who confirmed a write has it on disk"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        let service = &world.around.service;
        for machine in world.machines.iter().filter(|machine| !machine.is_up()) {
            if self.looked_at.insert(machine.number, machine.starts.get()) == Some(machine.starts.get()) {
                continue;
            }
            let mut kept = BTreeSet::new();
            for partition in (0..world.plan().ring_size).map(|number| Partition(number as u16)) {
                let items = service.items(&machine.disk.memory, partition);
                let texts = items.values().flat_map(BTreeMap::values);
                kept.extend(texts.filter_map(|item| service.serial_of(item)));
            }
            if kept.is_empty() {
                continue; // not a service of single writes
            }
            let history = world.history.borrow();
            let forgets = history.forgets();
            let missing = history.writes().into_iter().find(|(serial, facts): &(u64, WriteFacts)| {
                let gone = History::may_be_forgotten(facts, &forgets);
                let confirmed = facts.nodes.contains(&machine.name()) && facts.acknowledged.is_some();
                let lost = history.may_be_lost_at(machine.number, facts);
                confirmed && !gone && !lost && !kept.contains(serial)
            });
            if let Some((serial, facts)) = missing {
                return Err(format!("{} has not got {serial}: {facts:?}", machine.name()));
            }
        }
        Ok(())
    }
}
