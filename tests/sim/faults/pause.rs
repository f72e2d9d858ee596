//! A process stands still for a while, as under SIGSTOP or a long collection of garbage.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use crate::host::Pace;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct Pause;

inventory::submit!(Kind(&Pause));

impl Fault for Pause {
    fn name(&self) -> &'static str {
        "pause"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("pauses").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let healthy = world.healthy();
            let Some(number) = draw.pick(&healthy).copied() else { return false };
            world.note(&format!("n{number} stands still"));
            world.machine(number).set_pace(Pace::Stopped);
            world.count("pauses");
            world.while_faults(between(draw, 50, 10_000)).await;
            world.note(&format!("n{number} goes on"));
            world.machine(number).set_pace(Pace::Running);
            true
        })
    }
}
