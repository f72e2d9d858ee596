//! What a vnode keeps up of sums over its items is what building them anew gives: every building that replaces trees
//! which were up to date compares the two.

use super::{Invariant, Promise};
use crate::world::World;

#[derive(Default)]
struct TreesAreTrue;

inventory::submit!(Promise(|| Box::new(TreesAreTrue)));

impl Invariant for TreesAreTrue {
    fn name(&self) -> &'static str {
        "trees say what the items are"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        for machine in world.machines.iter().filter(|machine| machine.serves()) {
            let Some(core) = machine.core() else { continue };
            for (service, line) in core.repair.snapshot() {
                if line.corrected > 0 {
                    let builds = line.builds;
                    return Err(format!(
                        "{}: {} of {builds} buildings of {service} found other sums than were kept",
                        machine.name(),
                        line.corrected
                    ));
                }
            }
        }
        Ok(())
    }
}
