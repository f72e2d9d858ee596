//! A vnode that panicked, or could not be started, is back within a second after its pause, unless its process did not
//! run as it wants, or its disk fails.

use super::{Invariant, Promise};
use crate::world::World;
use ringwork_core::ids::Partition;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// By machine, life, service and partition: until when it rested, as it was last seen.
#[derive(Default)]
struct PanickedIsBack {
    seen: BTreeMap<(u8, u32, &'static str, Partition), Duration>,
}

const BACK_WITHIN: Duration = Duration::from_secs(1);

inventory::submit!(Promise(|| Box::new(PanickedIsBack::default())));

impl Invariant for PanickedIsBack {
    fn name(&self) -> &'static str {
        "a panicked vnode is back within a second"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        let mut seen = BTreeMap::new();
        for machine in world.machines.iter().filter(|machine| machine.serves()) {
            let Some(core) = machine.core() else { continue };
            let now = core.clock.moment();
            for (service, partition, until) in core.resting.all() {
                let rest = (machine.number, machine.starts.get(), service, partition);
                seen.insert(rest, until);
                let disk = &machine.disk.faults;
                let ails = disk.fails.load(Relaxed) || disk.delay_ms.load(Relaxed) > 0;
                let unwell = ails || machine.was_unwell(until, now);
                let held = core.ring.load().state().holder(partition) == Some(core.id);
                if held && !unwell && self.seen.get(&rest) == Some(&until) && now > until + BACK_WITHIN {
                    let late = now - until;
                    return Err(format!("{}: {service} {partition} was to be back {late:?} ago", machine.name()));
                }
            }
        }
        self.seen = seen;
        Ok(())
    }
}
