//! One direction of one link takes long, and differently for each packet.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use crate::network::Weather;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct Latency;

inventory::submit!(Kind(&Latency));

impl Fault for Latency {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("slow packets").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let nodes = u64::from(world.plan().nodes());
            let (from, to) = (1 + draw.below(nodes) as u8, 1 + draw.below(nodes) as u8);
            let least = between(draw, 0, 300);
            let span_ms = if draw.one_in(5) { 5000 } else { 500 };
            let most = least + between(draw, 1, span_ms);
            let slow = Weather { latency_min: least, latency_max: most, lost_per_thousand: 0 };
            world.note(&format!("from n{from} to n{to} it takes {least:?} to {most:?}"));
            world.around.network.set_local_weather(from, to, Some(slow));
            world.while_faults(between(draw, 500, 10_000)).await;
            world.around.network.set_local_weather(from, to, None);
            true
        })
    }
}
