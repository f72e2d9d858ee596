//! A machine loses its disk, and comes back as the same node with an empty one: its node fetches what it holds from the
//! other replicas. Not while another one does, and what is unsynced elsewhere is let become synced first: copies that
//! are lost one after the other are lost for good.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::history::MachineEvent;
use crate::world::World;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct Wipe;

inventory::submit!(Kind(&Wipe));

impl Fault for Wipe {
    fn name(&self) -> &'static str {
        "wipe"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("disks lost").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let healthy = world.healthy();
            let sound = world.copies_are_sound();
            let Some(number) = draw.pick(&healthy).copied().filter(|_| sound) else { return false };
            let at = world.now();
            world.history.borrow_mut().wipes.push(MachineEvent { node: number, at });
            world.count("disks lost");
            // The first of the seeds would found a cluster of its own if its ring were gone, or ask itself; and who
            // is alone has nobody to ask.
            let alone = world.invited.borrow().len() < 2;
            world.machine(number).wipe(&world.around, number == 1 || alone || draw.one_in(2)).await;
            world.while_faults(between(draw, 500, 8000)).await;
            world.start(number);
            true
        })
    }
}
