//! A process is killed, and started again later; what the disk has stays.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct Kill;

inventory::submit!(Kind(&Kill));

impl Fault for Kill {
    fn name(&self) -> &'static str {
        "kill"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("restarts").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let healthy = world.healthy();
            let Some(number) = draw.pick(&healthy).copied().filter(|_| world.down() < 2) else { return false };
            world.machine(number).kill(&world.around).await;
            world.while_faults(between(draw, 100, 12_000)).await;
            world.start(number);
            true
        })
    }
}
