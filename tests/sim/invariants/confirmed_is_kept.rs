//! Who confirmed a write has it: whenever a node's process has gone, partitions have changed hands, and when
//! everything has healed, an acknowledged write is in the partitions of the holders that confirmed it, and in as many
//! as had to confirm it, on whichever disks and in whichever generations; data moves by handoff. What was on a
//! machine that died before it had synced, or lost its disk, does not count.

use super::{Invariant, Promise};
use crate::history::History;
use crate::last_look::End;
use crate::machine::Machine;
use crate::world::World;
use ringwork_core::ids::{Generation, Partition};
use ringwork_core::store::{KeyspaceId, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Default)]
struct ConfirmedIsKept {
    /// By machine, in which of its lives it was looked at last.
    looked_at: BTreeMap<u8, u32>,
    /// How often partitions had changed hands when it was looked last, and when that was.
    hops: u64,
    looked: Duration,
}

/// Partitions change hands one after the other: not after each of them.
const LOOK_PAUSE: Duration = Duration::from_millis(800);

/// How often partitions have changed hands, as the best informed node knows it.
pub fn hops(world: &World) -> u64 {
    let known = |machine: &Machine| {
        let core = machine.core()?;
        let view = core.ring.load();
        Some(view.state().possession().iter().map(|p| u64::from(p.hop) + u64::from(p.fence)).sum())
    };
    world.machines.iter().filter_map(known).max().unwrap_or_default()
}


inventory::submit!(Promise(|| Box::new(ConfirmedIsKept::default())));

/// In which partitions each write is.
fn copies(world: &World) -> BTreeMap<u64, BTreeSet<Partition>> {
    let service = &world.around.service;
    let mut copies: BTreeMap<u64, BTreeSet<Partition>> = BTreeMap::new();
    for machine in &world.machines {
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

fn place_of(keyspace: &KeyspaceId) -> Option<(Partition, Generation)> {
    match keyspace {
        KeyspaceId::Vnode { partition, generation, .. } => Some((*partition, *generation)),
        KeyspaceId::Node => None,
    }
}

/// `whole`: what was lost with a disk has been fetched again.
fn all_are_kept(world: &World, whole: bool) -> Result<(), String> {
    let copies = copies(world);
    if copies.is_empty() {
        return Ok(()); // not a service of single writes, or nothing was written
    }
    let history = world.history.borrow();
    let forgets = history.forgets();
    for (serial, facts) in history.writes() {
        if facts.acknowledged.is_none() || facts.deleted || History::may_be_forgotten(&facts, &forgets) {
            continue;
        }
        let wiped = history.wiped_since(&facts);
        if wiped && (!whole || history.is_hurt(&facts) || history.copies_lost(&facts)) {
            continue;
        }
        let none = BTreeSet::new();
        let has = copies.get(&serial).unwrap_or(&none);
        let lacks = history.places_due(&facts).find(|partition| !has.contains(&Partition(*partition)));
        if let Some(partition) = lacks {
            return Err(format!("{serial} is not in partition {partition} any more, but in {has:?}: {facts:?}"));
        }
        if !wiped && has.len() < history.copies_due(&facts) {
            return Err(format!("{serial} is in no more than {has:?}: {facts:?}"));
        }
    }
    Ok(())
}

impl Invariant for ConfirmedIsKept {
    fn name(&self) -> &'static str {
        "who confirmed a write has it on disk"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        let mut due = false;
        for machine in world.machines.iter().filter(|machine| !machine.is_up()) {
            let life = machine.starts.get();
            due |= self.looked_at.insert(machine.number, life) != Some(life);
        }
        let (hops, now) = (hops(world), world.now());
        if hops > self.hops && now >= self.looked + LOOK_PAUSE {
            (self.hops, self.looked, due) = (hops, now, true);
        }
        if due { all_are_kept(world, false) } else { Ok(()) }
    }

    fn held(&mut self, world: &World, _: &End) -> Result<(), String> {
        all_are_kept(world, true)
    }
}
