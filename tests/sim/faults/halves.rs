//! The nodes fall into two groups that cannot reach each other.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct Halves;

inventory::submit!(Kind(&Halves));

impl Fault for Halves {
    fn name(&self) -> &'static str {
        "halves"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("packets held").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let mut side = Vec::new();
            for number in 1..=world.plan().nodes() {
                if draw.one_in(2) {
                    side.push(number);
                }
            }
            let one_way = draw.one_in(4);
            world.note(&format!("{side:?} are parted from the others, one way only: {one_way}"));
            let network = &world.around.network;
            let pairs = || {
                let of = side.clone();
                (1..=world.plan().nodes())
                    .filter(move |other| !of.contains(other))
                    .flat_map(|other| side.iter().map(move |one| (*one, other)))
            };
            for (one, other) in pairs() {
                network.cut(one, other);
                if !one_way {
                    network.cut(other, one);
                }
            }
            world.while_faults(between(draw, 200, 12_000)).await;
            world.note(&format!("{side:?} are together with the others again"));
            for (one, other) in pairs() {
                network.mend(one, other);
                network.mend(other, one);
            }
            true
        })
    }
}
