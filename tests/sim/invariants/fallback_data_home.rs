//! When everything has healed, nothing is left where it does not belong: no hints, no half of a transfer, nothing on
//! the disk of a node that does not hold the partition.

use super::{Invariant, Promise};
use crate::last_look::End;
use crate::world::World;
use ringwork_core::store::{Direction, Flow, KeyRange, KeyspaceId, Store};

#[derive(Default)]
struct FallbackDataHome;

inventory::submit!(Promise(|| Box::new(FallbackDataHome)));

impl Invariant for FallbackDataHome {
    fn name(&self) -> &'static str {
        "fallback data has gone home"
    }

    fn held(&mut self, world: &World, _: &End) -> Result<(), String> {
        for number in world.serving() {
            let machine = world.machine(number);
            let Some(core) = machine.core().filter(|core| !core.is_outside()) else { continue };
            let generations = &core.generations;
            for (what, found) in [
                ("marks hints", core.strays.marked()),
                ("has sealed generations", generations.with_sealed()),
                ("collects for an inheritance", generations.with_inbound()),
                ("lacks data", generations.lacking(core.ring.load().state(), core.id)),
                ("records a transfer of possession", generations.outbound().into_keys().collect()),
            ] {
                if !found.is_empty() {
                    return Err(format!("n{number} {what} of {found:?}"));
                }
            }
            let view = core.ring.load();
            let store = &machine.disk.memory;
            for keyspace in store.keyspaces().unwrap_or_default() {
                let KeyspaceId::Vnode { partition, generation, .. } = &keyspace else { continue };
                let held = view.state().holder(*partition) == Some(core.id);
                let live = generations.live(*partition).map(|live| live.number) == Some(*generation);
                let mut rows = 0;
                let _ = store.open(&keyspace).map(|opened| {
                    opened.tree.scan(&KeyRange::all(), Direction::Ascending, &mut |_, _| {
                        rows += 1;
                        Flow::Continue(())
                    })
                });
                if rows > 0 && !(held && live) {
                    return Err(format!("on the disk of n{number} are {rows} rows in {keyspace}"));
                }
            }
        }
        Ok(())
    }
}
