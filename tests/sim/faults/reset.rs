//! All connections between two nodes end at once, with what is on its way, and new ones can be made at once.

use super::{Evidence, Fault, Happening, Kind};
use crate::world::World;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct Reset;

inventory::submit!(Kind(&Reset));

impl Fault for Reset {
    fn name(&self) -> &'static str {
        "reset"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("connections reset").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let nodes = u64::from(world.plan().nodes());
            let (one, other) = (1 + draw.below(nodes) as u8, 1 + draw.below(nodes) as u8);
            if one == other || world.around.network.reset_between(one, other) == 0 {
                return false;
            }
            world.note(&format!("every connection between n{one} and n{other} is reset"));
            true
        })
    }
}
