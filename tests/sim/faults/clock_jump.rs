//! A wall clock is set, up to ten minutes forward or back.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct ClockJump;

inventory::submit!(Kind(&ClockJump));

impl Fault for ClockJump {
    fn name(&self) -> &'static str {
        "clock-jump"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("clocks set").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let number = 1 + draw.below(u64::from(world.plan().nodes())) as u8;
            let clock = &world.machine(number).clock;
            let skew_ms = draw.below(1_200_001) as i64 - 600_000;
            world.note(&format!("the clock of n{number} is set {skew_ms} ms wrong"));
            clock.set_skew_ms(skew_ms);
            world.count("clocks set");
            world.while_faults(between(draw, 1000, 10_000)).await;
            true
        })
    }
}
