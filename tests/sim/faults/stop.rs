//! A node is stopped in peace, as for an upgrade, and started again later.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct Stop;

inventory::submit!(Kind(&Stop));

impl Fault for Stop {
    fn name(&self) -> &'static str {
        "stop"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("restarts").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let healthy = world.healthy();
            let Some(number) = draw.pick(&healthy).copied().filter(|_| world.down() < 2) else { return false };
            world.note(&format!("n{number} is stopped in peace"));
            world.machine(number).stop();
            // Its supervisor starts it again.
            world.while_faults(between(draw, 500, 4000)).await;
            true
        })
    }
}
