//! Of one epoch there is one target, and of one (fence, hop) of a partition one holder, whoever is asked and whenever;
//! when everything has healed, all nodes have the same ring.

use super::{Invariant, Promise};
use crate::last_look::End;
use crate::world::World;
use ringwork_core::ids::{ClusterId, NodeId, Partition};
use std::collections::BTreeMap;

#[derive(Default)]
struct OneRing {
    holders: BTreeMap<(ClusterId, Partition, u32, u32), NodeId>,
}

inventory::submit!(Promise(|| Box::new(OneRing::default())));

impl Invariant for OneRing {
    fn name(&self) -> &'static str {
        "one owner per partition and epoch, and one ring after healing"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        for machine in &world.machines {
            let Some(core) = machine.core() else { continue };
            let view = core.ring.load();
            let state = view.state();
            let cluster = state.cluster();
            if state.members().count() < 2 {
                continue; // not taken in yet: a ring of its own
            }
            for partition in (0..state.size().count()).map(|number| Partition(number as u16)) {
                let Some(possession) = state.possession().get(usize::from(partition.0)) else { continue };
                let place = (cluster, partition, possession.fence, possession.hop);
                let holder = *self.holders.entry(place).or_insert(possession.holder);
                if holder != possession.holder {
                    return Err(format!(
                        "partition {} has two holders at fence {} and hop {}: {holder} and {}",
                        partition.0, possession.fence, possession.hop, possession.holder
                    ));
                }
            }
        }
        Ok(())
    }

    fn held(&mut self, world: &World, _: &End) -> Result<(), String> {
        let mut first = None;
        for number in world.serving() {
            let Some(core) = world.machine(number).core() else { continue };
            let view = core.ring.load();
            let state = view.state();
            let holders: Vec<_> = (0..state.size().count()).map(|at| state.holder(Partition(at as u16))).collect();
            let (of, before) = first.get_or_insert_with(|| (number, holders.clone()));
            if *before != holders {
                return Err(format!("n{number} and n{of} have different rings"));
            }
        }
        Ok(())
    }
}
