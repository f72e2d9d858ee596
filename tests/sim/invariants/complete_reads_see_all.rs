//! A read of r = 2 that does not say "degraded" shows every write that two replicas had acknowledged before it began.
//! What stand-ins took while others could not be reached, it shows once all nodes see each other again: before that,
//! nobody on this side of a cut can know of it.

use super::{Invariant, Promise};
use crate::history::{Forget, History, NewlyEnded, Operation, Outcome, Record, Seen, WriteFacts};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Default)]
struct CompleteReadsSeeAll(NewlyEnded);

inventory::submit!(Promise(|| Box::new(CompleteReadsSeeAll::default())));

impl Invariant for CompleteReadsSeeAll {
    fn name(&self) -> &'static str {
        "a complete read sees every acknowledged write"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        let history = world.history.borrow();
        // Those that are under way are looked at when they have ended.
        let ended = self.0.of(&history);
        let reads: Vec<&Record> = ended
            .into_iter()
            .filter(|record| matches!(record.outcome, Some(Outcome::Read { degraded: false, .. })))
            .collect();
        if reads.is_empty() {
            return Ok(());
        }
        let keys: BTreeSet<&str> = reads.iter().map(|read| read.operation.key()).collect();
        let (writes, forgets) = (history.writes_where(|key| keys.contains(key)), history.forgets());
        for read in reads {
            let whole = world.all_up_since().is_some_and(|since| since <= read.begun);
            if let Some(what) = lacks(&history, read, (&writes, &forgets), whole, read.begun) {
                return Err(what);
            }
        }
        Ok(())
    }
}

/// What a read should have shown of what was acknowledged before `before`, and did not. `whole`: what stand-ins had
/// taken could be known, too.
pub fn lacks(
    history: &History,
    read: &Record,
    (writes, forgets): (&BTreeMap<u64, WriteFacts>, &[Forget<'_>]),
    whole: bool,
    before: Duration,
) -> Option<String> {
    let (Operation::Read { key, r, .. }, Some(Outcome::Read { seen, .. })) = (&read.operation, &read.outcome) else {
        return None;
    };
    let must = writes.iter().filter(|(_, facts)| {
        if facts.key != *key || facts.deleted || facts.acknowledged.is_none_or(|at| at >= before) {
            return false;
        }
        // One copy of two that is gone with a machine's unsynced commits is missed until there is anti-entropy.
        let unhurt = !history.is_hurt(facts) && (whole || facts.primaries >= 2);
        let reachable = unhurt || history.sure_primaries(facts) >= 2;
        let sure = facts.w + r > 3 && reachable && !history.copies_lost(facts);
        sure && !History::may_be_forgotten(facts, forgets)
    });
    match seen {
        Seen::Writes { writes: shown, cut } => {
            let first = shown.first().filter(|_| *cut).map(|(_, id)| id.as_str());
            let serials: BTreeSet<u64> = shown.iter().map(|(serial, _)| *serial).collect();
            for (serial, facts) in must {
                let within = first.is_none_or(|_| !facts.named)
                    && first.is_none_or(|first| facts.id.as_deref().is_some_and(|id| id >= first));
                if within && !serials.contains(serial) {
                    return Some(format!(
                        "at {:?} n{} was asked for {key} with r = {r} and did not show {serial}, which was \
                         acknowledged before: {facts:?}; it showed {seen:?}",
                        read.begun, read.node
                    ));
                }
            }
        }
        Seen::Count(count) => {
            let least = must.count() as u64;
            if *count < least {
                return Some(format!(
                    "at {:?} n{} counted {count} of {key} with r = {r}; {least} were acknowledged before",
                    read.begun, read.node
                ));
            }
        }
    }
    None
}
