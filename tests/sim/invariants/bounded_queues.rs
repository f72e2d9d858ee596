//! What waits for the disk stays within its bounds, give or take the one turn that is let in at the brink.

use super::{Invariant, Promise};
use crate::world::World;
use ringwork_core::limits::TURN_ITEMS_MAX;

#[derive(Default)]
struct BoundedQueues;

inventory::submit!(Promise(|| Box::new(BoundedQueues)));

impl Invariant for BoundedQueues {
    fn name(&self) -> &'static str {
        "every queue is within its bound"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        for machine in &world.machines {
            let Some(core) = machine.core() else { continue };
            let (writes, bytes) = core.storage.waiting();
            let limits = core.storage.limits();
            // A turn that began before the bound was reached is always taken in.
            if writes > limits.writes_max + TURN_ITEMS_MAX * 4 || bytes > limits.bytes_max * 2 {
                return Err(format!("n{}: {writes} writes of {bytes} bytes wait for the disk", machine.number));
            }
        }
        Ok(())
    }
}
