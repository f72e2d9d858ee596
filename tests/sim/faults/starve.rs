//! A process gets a tenth of the time that it wants.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use crate::host::Pace;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct Starve;

inventory::submit!(Kind(&Starve));

impl Fault for Starve {
    fn name(&self) -> &'static str {
        "starve"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("pauses").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let healthy = world.healthy();
            let Some(number) = draw.pick(&healthy).copied() else { return false };
            world.note(&format!("n{number} starves"));
            world.machine(number).set_pace(Pace::Starved);
            world.count("pauses");
            world.while_faults(between(draw, 500, 10_000)).await;
            world.note(&format!("n{number} is fed again"));
            world.machine(number).set_pace(Pace::Running);
            true
        })
    }
}
