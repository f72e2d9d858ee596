//! What is shown was written, once, under that key; and what was deleted stays away.

use super::{Invariant, Promise};
use crate::history::{Operation, Outcome, Seen};
use crate::last_look::End;
use crate::world::World;
use std::collections::BTreeSet;

#[derive(Default)]
struct NothingInvented;

inventory::submit!(Promise(|| Box::new(NothingInvented)));

impl Invariant for NothingInvented {
    fn name(&self) -> &'static str {
        "nothing appears that nobody wrote, nothing twice, nothing deleted returns"
    }

    fn held(&mut self, world: &World, end: &End) -> Result<(), String> {
        let history = world.history.borrow();
        let (writes, forgets) = (history.writes(), history.forgets());
        for (key, answers) in &end.shown {
            for (node, outcome) in answers {
                let Outcome::Read { seen, .. } = outcome else { continue };
                match seen {
                    Seen::Writes { writes: shown, .. } => {
                        let mut before = BTreeSet::new();
                        for (serial, id) in shown {
                            let known = writes.get(serial).filter(|facts| facts.key == *key);
                            let Some(facts) = known else {
                                return Err(format!("n{node} shows {serial} in {key}, which nobody wrote there"));
                            };
                            if !before.insert(*serial) {
                                return Err(format!("n{node} shows {serial} of {key} twice: {facts:?}"));
                            }
                            let deleted = forgets.iter().find(|(of, through, _, done)| {
                                *of == key.as_str() && id.as_str() <= *through && done.is_some()
                            });
                            if let Some(deleted) = deleted {
                                return Err(format!(
                                    "n{node} shows {serial} ({id}) of {key}, which was deleted: {deleted:?}"
                                ));
                            }
                        }
                    }
                    Seen::Count(count) => {
                        let attempts = history.records.iter().filter(|record| {
                            let refused = matches!(record.outcome, Some(Outcome::Refused(_)));
                            matches!(record.operation, Operation::Write { .. })
                                && record.operation.key() == key
                                && !refused
                        });
                        let most = attempts.count() as u64;
                        if *count > most {
                            return Err(format!("n{node} counts {count} of {key}; at most {most} were asked for"));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
