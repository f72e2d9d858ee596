//! A holder that counts as complete has what was confirmed in its partition by whoever held it then: that is what
//! "complete" means, and what makes its "not found" count. Looked at when partitions have changed hands. What stand-ins
//! confirmed is not looked for: a holder that others took for down cannot know of it yet. What was on a machine that
//! died before it had synced, or lost its disk, does not count.

use super::{Invariant, Promise};
use crate::history::History;
use crate::world::World;
use ringwork_core::ids::Partition;
use ringwork_core::store::{KeyspaceId, Store};
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Default)]
struct CompleteHasAll {
    /// As in `confirmed_is_kept`.
    hops: u64,
    looked: Duration,
}

/// A scan of everything: not at every look.
const LOOK_PAUSE: Duration = Duration::from_millis(300);

inventory::submit!(Promise(|| Box::new(CompleteHasAll::default())));

impl Invariant for CompleteHasAll {
    fn name(&self) -> &'static str {
        "a complete replica has what was confirmed in its partition"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        let (hops, now) = (super::confirmed_is_kept::hops(world), world.now());
        if hops <= self.hops || now < self.looked + LOOK_PAUSE {
            return Ok(());
        }
        (self.hops, self.looked) = (hops, now);
        let history = world.history.borrow();
        let forgets = history.forgets();
        let writes: Vec<_> = history
            .writes()
            .into_iter()
            .filter(|(_, facts)| {
                facts.acknowledged.is_some()
                    && !facts.deleted
                    && !History::may_be_forgotten(facts, &forgets)
                    && !history.wiped_since(facts)
            })
            .collect();
        let service = &world.around.service;
        if service.name() != "chat" {
            return Ok(()); // its items are not single writes
        }
        for machine in world.machines.iter().filter(|machine| machine.serves()) {
            let Some(core) = machine.core().filter(|core| !core.is_outside()) else { continue };
            let view = core.ring.load();
            let store = &machine.disk.memory;
            let keyspaces = store.keyspaces().unwrap_or_default();
            for partition in view.state().held_by(core.id).filter(|p| !view.incomplete().contains(p)) {
                let due = |facts: &crate::history::WriteFacts| {
                    let by_holder = |name: &String| !facts.stand_ins.contains(name);
                    let sure = history.places_due(facts).any(|place| place == partition.0);
                    let confirmed = &facts.confirmed;
                    sure && confirmed.iter().any(|(of, name)| *of == partition.0 && by_holder(name))
                };
                let mut missing: BTreeSet<u64> =
                    writes.iter().filter(|(_, facts)| due(facts)).map(|(serial, _)| *serial).collect();
                if missing.is_empty() {
                    continue;
                }
                for keyspace in &keyspaces {
                    let KeyspaceId::Vnode { partition: of, generation, .. } = keyspace else { continue };
                    if *of == partition {
                        let items = service.items(store, partition, *generation);
                        let serials = items.values().flat_map(|items| items.values());
                        for serial in serials.filter_map(|item| service.serial_of(item)) {
                            missing.remove(&serial);
                        }
                    }
                }
                if let Some(serial) = missing.first() {
                    let facts = writes.iter().find(|(other, _)| other == serial).map(|(_, facts)| facts);
                    return Err(format!(
                        "{} answers for {} and has not {serial}: {facts:?}",
                        machine.name(),
                        Partition(partition.0),
                    ));
                }
            }
        }
        Ok(())
    }
}
