//! A disk takes no more, as when it is full: the node ends, and is started again later.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use std::sync::atomic::Ordering::Relaxed;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct DiskFailure;

inventory::submit!(Kind(&DiskFailure));

impl Fault for DiskFailure {
    fn name(&self) -> &'static str {
        "disk-failure"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("commits failed").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let healthy = world.healthy();
            let Some(number) = draw.pick(&healthy).copied().filter(|_| world.down() < 2) else { return false };
            let faults = &world.machine(number).disk.faults;
            let before = faults.failed.load(Relaxed);
            world.note(&format!("the disk of n{number} is full"));
            faults.fails.store(true, Relaxed);
            world.while_faults(between(draw, 500, 3000)).await;
            faults.failed.load(Relaxed) > before
        })
    }
}
