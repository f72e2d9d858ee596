//! A partition does not travel both ways between two nodes: the holder that takes in what its heir has kept for it
//! stops passing the partition on, and begins again when it has that, too. Otherwise it says that it has sent
//! everything while some of it is still coming to it.

use super::{Invariant, Promise};
use crate::world::World;
use ringwork_core::ids::Partition;
use ringwork_core::transfer::Kind;
use ringwork_runtime::handoff::board::Direction;
use std::collections::BTreeMap;
use std::time::Duration;

/// By machine, life and partition: since when both run.
#[derive(Default)]
struct TransfersDoNotCross {
    seen: BTreeMap<(u8, u32, Partition), Duration>,
}

/// A transfer that is told to end does so when its turn comes, and what it has begun with the disk may take a while.
const ENDS_WITHIN: Duration = Duration::from_millis(500);

inventory::submit!(Promise(|| Box::new(TransfersDoNotCross::default())));

impl Invariant for TransfersDoNotCross {
    fn name(&self) -> &'static str {
        "a partition does not travel both ways between two nodes"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        let mut seen = BTreeMap::new();
        for machine in world.machines.iter().filter(|machine| machine.serves()) {
            let Some(core) = machine.core() else { continue };
            let now = core.clock.moment();
            let running = core.handoff.snapshot().running;
            // What was sent anything was accepted: an offer that is made and not answered does not matter.
            let given = running.iter().filter(|line| {
                line.direction == Direction::Out
                    && line.kind == Kind::Ownership
                    && line.progress.sent.items > 0
            });
            for out in given {
                let back = running.iter().any(|line| {
                    (line.direction, line.kind, line.partition, line.peer)
                        == (Direction::In, Kind::Hinted, out.partition, out.peer)
                });
                if !back {
                    continue;
                }
                let place = (machine.number, machine.starts.get(), out.partition);
                let since = self.seen.get(&place).copied().unwrap_or(now);
                seen.insert(place, since);
                if now > since + ENDS_WITHIN && !machine.was_unwell(since, now) {
                    return Err(format!(
                        "{} has been sending {} to {} for {:?} while that sends it what it kept of it",
                        machine.name(),
                        out.partition,
                        core.name_of(out.peer),
                        now - since
                    ));
                }
            }
        }
        self.seen = seen;
        Ok(())
    }
}
