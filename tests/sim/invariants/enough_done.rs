//! Where almost nothing was served, nothing else that held means anything.

use super::{Invariant, Promise};
use crate::last_look::End;
use crate::world::World;

#[derive(Default)]
struct EnoughDone;

inventory::submit!(Promise(|| Box::new(EnoughDone)));

impl Invariant for EnoughDone {
    fn name(&self) -> &'static str {
        "a run in which little was done proves little"
    }

    fn held(&mut self, world: &World, _: &End) -> Result<(), String> {
        let (done, asked) = (world.history.borrow().completed(), world.history.borrow().records.len());
        let least = world.plan().faults_for.as_secs() as usize * 2;
        if done < least.min(asked / 4) {
            return Err(format!("{done} of {asked} requests were served, at least {least} should have been"));
        }
        Ok(())
    }
}
