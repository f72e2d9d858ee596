//! What a node knows of the ring never goes backward: neither the epoch, nor who holds a partition; and not over a
//! restart either, since a node keeps what it knows before it acts on it. Who has lost the file of it with its disk,
//! and with it perhaps what nobody else was told yet, begins anew.

use super::{Invariant, Promise};
use crate::world::World;
use ringwork_core::ids::ClusterId;
use ringwork_core::membership::Possession;
use std::collections::BTreeMap;

/// In which cluster, and how often the machine's file was lost before.
type Life = (ClusterId, u64);

#[derive(Default)]
struct NeverBackward {
    /// By machine: its life; in that life the epoch, and possession by partition.
    known: BTreeMap<u8, (Life, u64, Vec<Possession>)>,
}

inventory::submit!(Promise(|| Box::new(NeverBackward::default())));

impl Invariant for NeverBackward {
    fn name(&self) -> &'static str {
        "what a node knows never goes backward"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        for machine in &world.machines {
            let Some(core) = machine.core() else { continue };
            let view = core.ring.load();
            let state = view.state();
            let life = (state.cluster(), machine.rings_lost.get());
            let now = (life, state.target().key().epoch, state.possession().to_vec());
            let before = self.known.insert(machine.number, now.clone());
            // Taken in by another cluster, a node begins anew.
            let Some((_, epoch, possession)) = before.filter(|(life, ..)| *life == now.0) else { continue };
            if now.1 < epoch {
                return Err(format!("n{} went from epoch {epoch} to {}", machine.number, now.1));
            }
            for (partition, (was, is)) in possession.iter().zip(&now.2).enumerate() {
                if is < was {
                    return Err(format!("n{}, partition {partition}: from {was:?} to {is:?}", machine.number));
                }
            }
        }
        Ok(())
    }
}
