//! Packets are lost, so they come late, on every link.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use crate::network::Weather;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct Loss;

inventory::submit!(Kind(&Loss));

impl Fault for Loss {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("packets lost").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let lost_per_thousand = 10 + draw.below(290);
            world.note(&format!("{lost_per_thousand} of 1000 packets are lost"));
            world.around.network.set_weather(Weather { lost_per_thousand, ..Weather::default() });
            world.while_faults(between(draw, 500, 10_000)).await;
            world.note("no packets are lost");
            world.around.network.set_weather(Weather::default());
            true
        })
    }
}
