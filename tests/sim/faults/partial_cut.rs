//! Two nodes cannot reach each other, and everybody else can reach both.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct PartialCut;

inventory::submit!(Kind(&PartialCut));

impl Fault for PartialCut {
    fn name(&self) -> &'static str {
        "partial-cut"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("packets held").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let nodes = u64::from(world.plan().nodes());
            let (one, other) = (1 + draw.below(nodes) as u8, 1 + draw.below(nodes) as u8);
            if one == other {
                return false;
            }
            world.note(&format!("n{one} and n{other} do not reach each other"));
            let network = &world.around.network;
            network.cut(one, other);
            if !draw.one_in(3) {
                network.cut(other, one);
            }
            world.while_faults(between(draw, 200, 12_000)).await;
            world.note(&format!("n{one} and n{other} reach each other again"));
            network.mend(one, other);
            network.mend(other, one);
            true
        })
    }
}
