//! Who has not got what it holds, because its disk is lost or possession was forced to it, does not count as
//! complete: its "not found" means nothing.

use super::{Invariant, Promise};
use crate::world::World;

struct LackingIsIncomplete;

inventory::submit!(Promise(|| Box::new(LackingIsIncomplete)));

impl Invariant for LackingIsIncomplete {
    fn name(&self) -> &'static str {
        "a replica without its data does not count as complete"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        for machine in world.machines.iter().filter(|machine| machine.serves()) {
            let Some(core) = machine.core().filter(|core| !core.is_outside()) else { continue };
            let view = core.ring.load();
            let lacking = core.generations.lacking(view.state(), core.id);
            if let Some(partition) = lacking.difference(view.incomplete()).next() {
                return Err(format!("{} has lost {partition} and answers for it", machine.name()));
            }
        }
        Ok(())
    }
}
