//! A read that says "degraded", because too few replicas are sure to have everything, has asked everybody who may have
//! something: when all nodes see each other and all answer in time, it shows all that was acknowledged.

use super::complete_reads_see_all::lacks;
use super::{Invariant, Promise};
use crate::history::{NewlyEnded, Outcome, Record};
use crate::world::World;
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Default)]
struct DegradedReads(NewlyEnded);

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
        let history = world.history.borrow();
        let ended = self.0.of(&history);
        let Some(since) = world.all_up_since() else { return Ok(()) };
        let counts = |record: &&Record| {
            matches!(record.outcome, Some(Outcome::Read { degraded: true, .. }))
                && since + KNOWN_AFTER <= record.begun
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
