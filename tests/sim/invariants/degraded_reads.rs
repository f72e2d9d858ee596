//! A read that says "degraded", because too few replicas are sure to have everything, has asked everybody who may have
//! something: when all nodes see each other, are connected, and all answer in time, it shows all that was acknowledged.

use super::complete_reads_see_all::lacks;
use super::{Invariant, Promise};
use crate::history::{NewlyEnded, Outcome, Record};
use crate::world::World;
use ringwork_runtime::net::Channel;
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Default)]
struct DegradedReads {
    reads: NewlyEnded,
    /// When two nodes were last seen without a connection: they may see each other up by a third one's word.
    apart: Duration,
}

fn all_are_connected(world: &World) -> bool {
    let cores = || world.machines.iter().filter(|machine| machine.serves()).filter_map(|machine| machine.core());
    cores().all(|core| {
        let Some(network) = core.network() else { return false };
        let mut others = cores().filter(|other| other.id != core.id);
        others.all(|other| Channel::ALL.into_iter().all(|channel| network.is_connected(other.id, channel)))
    })
}

/// Who did not answer by then is taken for unreachable.
const ALL_ANSWERED_WITHIN: Duration = Duration::from_millis(900);
/// Until everybody knows who has something of others.
const KNOWN_AFTER: Duration = Duration::from_secs(3);

inventory::submit!(Promise(|| Box::new(DegradedReads::default())));

impl Invariant for DegradedReads {
    fn name(&self) -> &'static str {
        "a degraded read shows what anybody has"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        if !all_are_connected(world) {
            self.apart = world.now();
        }
        let history = world.history.borrow();
        let ended = self.reads.of(&history);
        let Some(since) = world.all_up_since() else { return Ok(()) };
        let counts = |record: &&Record| {
            matches!(record.outcome, Some(Outcome::Read { degraded: true, .. }))
                && since.max(self.apart) + KNOWN_AFTER <= record.begun
                && record.ended.is_some_and(|ended| ended <= record.begun + ALL_ANSWERED_WITHIN)
        };
        let reads: Vec<&Record> = ended.into_iter().filter(counts).collect();
        if reads.is_empty() {
            return Ok(());
        }
        let keys: BTreeSet<&str> = reads.iter().map(|read| read.operation.key()).collect();
        let (writes, forgets) = (history.writes_where(|key| keys.contains(key)), history.forgets());
        for read in reads {
            let before = read.begun.saturating_sub(KNOWN_AFTER);
            if let Some(what) = lacks(&history, read, (&writes, &forgets), true, before) {
                return Err(what);
            }
        }
        Ok(())
    }
}
