//! A machine loses power, and with it an end of what was not synced; nobody is told.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use std::time::Duration;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct PowerLoss;

inventory::submit!(Kind(&PowerLoss));

impl Fault for PowerLoss {
    fn name(&self) -> &'static str {
        "power-loss"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("power losses").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let healthy = world.healthy();
            let last = world.history.borrow().power_losses.last().map(|loss| loss.at);
            // Copies that are lost one after the other before any was synced are lost for good: no fault for a test.
            let soon = last.is_some_and(|at| world.now() < at + Duration::from_secs(8));
            let Some(number) = draw.pick(&healthy).copied().filter(|_| world.down() < 1 && !soon) else {
                return false;
            };
            let unsynced = world.machine(number).disk.memory.unsynced_commits() as u64;
            world.lose_power(number, draw.below(unsynced + 1) as usize).await;
            world.while_faults(between(draw, 500, 15_000)).await;
            world.start(number);
            true
        })
    }
}
