//! Every commit of one disk takes long.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use std::sync::atomic::Ordering::Relaxed;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct SlowDisk;

inventory::submit!(Kind(&SlowDisk));

impl Fault for SlowDisk {
    fn name(&self) -> &'static str {
        "slow-disk"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("commits delayed").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let number = 1 + draw.below(u64::from(world.plan().nodes())) as u8;
            let most_ms = if draw.one_in(4) { 1000 } else { 60 };
            let delay_ms = 1 + draw.below(most_ms);
            world.note(&format!("a commit of n{number} takes {delay_ms} ms"));
            let faults = &world.machine(number).disk.faults;
            faults.delay_ms.store(delay_ms, Relaxed);
            world.while_faults(between(draw, 500, 10_000)).await;
            faults.delay_ms.store(0, Relaxed);
            true
        })
    }
}
