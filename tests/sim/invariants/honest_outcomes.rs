//! Refused means that nothing was written and nothing will be. And no client gets an answer that the routes do not
//! have.

use super::{Invariant, Promise};
use crate::history::{Outcome, Record, Seen};
use crate::last_look::End;
use crate::world::World;

#[derive(Default)]
struct HonestOutcomes {
    looked_at: usize,
}

inventory::submit!(Promise(|| Box::new(HonestOutcomes::default())));

impl Invariant for HonestOutcomes {
    fn name(&self) -> &'static str {
        "nobody is told that a write was refused which then appears"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        let history = world.history.borrow();
        let wrong = history.records.iter().skip(self.looked_at).find_map(|record| match &record.outcome {
            Some(Outcome::Wrong(answer)) => Some(format!("{:?} got {answer}", record.operation)),
            _ => None,
        });
        let under_way = |record: &Record| record.outcome.is_none();
        self.looked_at = history.records.iter().position(under_way).unwrap_or(history.records.len());
        wrong.map_or(Ok(()), Err)
    }

    fn held(&mut self, world: &World, end: &End) -> Result<(), String> {
        let writes = world.history.borrow().writes();
        for (key, answers) in &end.shown {
            for (node, outcome) in answers {
                let Outcome::Read { seen: Seen::Writes { writes: shown, .. }, .. } = outcome else { continue };
                for (serial, _) in shown {
                    if let Some(facts) = writes.get(serial).filter(|facts| !facts.possible && !facts.deleted) {
                        return Err(format!("n{node} shows {serial} of {key}, which was refused: {facts:?}"));
                    }
                }
            }
        }
        Ok(())
    }
}
