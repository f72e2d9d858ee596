//! An operator lets all transfers rest for a while: what stand-ins took stays where it is.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct HandoffPaused;

inventory::submit!(Kind(&HandoffPaused));

pub(super) fn set_paused(world: &World, paused: bool) {
    for core in world.machines.iter().filter_map(|machine| machine.core()) {
        core.handoff.set_paused(paused);
    }
}

impl Fault for HandoffPaused {
    fn name(&self) -> &'static str {
        "handoff-paused"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("pauses of transfers").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            world.note("all transfers rest");
            world.count("pauses of transfers");
            set_paused(world, true);
            world.while_faults(between(draw, 2000, 15_000)).await;
            set_paused(world, false);
            world.note("transfers go on");
            true
        })
    }
}
