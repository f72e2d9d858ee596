//! One node is cut off from all others, in both directions or in one.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct Isolate;

inventory::submit!(Kind(&Isolate));

impl Fault for Isolate {
    fn name(&self) -> &'static str {
        "isolate"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("packets held").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let all: Vec<u8> = world.invited.borrow().clone();
            let Some(number) = draw.pick(&all).copied() else { return false };
            let (away, back) = [(true, true), (true, true), (true, false), (false, true)][draw.below(4) as usize];
            world.note(&format!("n{number} is cut off: from it {away}, to it {back}"));
            let network = &world.around.network;
            let others = || (1..=world.plan().nodes()).filter(move |other| *other != number);
            for other in others() {
                if away {
                    network.cut(number, other);
                }
                if back {
                    network.cut(other, number);
                }
            }
            world.while_faults(between(draw, 200, 12_000)).await;
            world.note(&format!("n{number} is reachable again"));
            for other in others() {
                network.mend(number, other);
                network.mend(other, number);
            }
            true
        })
    }
}
