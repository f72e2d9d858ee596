//! A vnode panics in the middle of its turn.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use std::sync::atomic::Ordering::Relaxed;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct Panic;

inventory::submit!(Kind(&Panic));

impl Fault for Panic {
    fn name(&self) -> &'static str {
        "panic"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("panics").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let healthy = world.healthy();
            let Some(number) = draw.pick(&healthy).copied() else { return false };
            let faults = &world.machine(number).disk.faults;
            let before = faults.panicked.load(Relaxed);
            world.note(&format!("a vnode of n{number} is going to panic"));
            faults.panics.store(true, Relaxed);
            world.while_faults(between(draw, 500, 2000)).await;
            faults.panicked.load(Relaxed) > before
        })
    }
}
