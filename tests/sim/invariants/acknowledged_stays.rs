//! What a client was told stands, stands: when everything has healed, every node shows it. Unless it was deleted, or
//! every copy that was acknowledged was on a machine that died before it had synced.

use super::{Invariant, Promise};
use crate::history::{History, Outcome, Seen, WriteFacts};
use crate::last_look::End;
use crate::world::World;
use std::collections::BTreeSet;

#[derive(Default)]
struct AcknowledgedStays;

inventory::submit!(Promise(|| Box::new(AcknowledgedStays)));

impl Invariant for AcknowledgedStays {
    fn name(&self) -> &'static str {
        "no acknowledged write is lost"
    }

    fn held(&mut self, world: &World, end: &End) -> Result<(), String> {
        let history = world.history.borrow();
        let (writes, forgets) = (history.writes(), history.forgets());
        for (key, answers) in &end.shown {
            let lost = |facts: &WriteFacts| {
                let forgotten = History::may_be_forgotten(facts, &forgets);
                facts.acknowledged.is_none() || forgotten || facts.deleted || history.copies_lost(facts)
            };
            let of_key = || writes.iter().filter(|(_, facts)| facts.key == *key);
            for (node, outcome) in answers {
                let Outcome::Read { seen, .. } = outcome else {
                    return Err(format!("n{node} does not show {key}: {outcome:?}"));
                };
                match seen {
                    Seen::Writes { writes: shown, cut } => {
                        let first = shown.first().filter(|_| *cut).map(|(_, id)| id.as_str());
                        let left_out = |facts: &WriteFacts| facts.id.as_deref() < first;
                        let shown: BTreeSet<u64> = shown.iter().map(|(serial, _)| *serial).collect();
                        let missing = of_key().find(|(serial, facts)| {
                            !shown.contains(*serial) && !lost(facts) && !left_out(facts)
                        });
                        if let Some((serial, facts)) = missing {
                            return Err(format!("n{node} does not show {serial} of {key}: {facts:?}"));
                        }
                    }
                    Seen::Count(count) => {
                        let least = of_key().filter(|(_, facts)| !lost(facts)).count() as u64;
                        if *count < least {
                            return Err(format!("n{node} counts {count} of {key}, {least} were acknowledged"));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
