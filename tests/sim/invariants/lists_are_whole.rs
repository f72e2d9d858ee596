//! A list of keys that says that it is whole names each key once, in order, and none under which nobody wrote. When
//! everything has healed it names exactly those under which reads show something: before that, the one replica of a key
//! that is asked may lack a write that others have.

use super::{Invariant, Promise};
use crate::history::{Operation, Outcome, Seen};
use crate::last_look::End;
use crate::world::World;
use std::collections::BTreeSet;

#[derive(Default)]
struct ListsAreWhole {
    looked_at: usize,
}

inventory::submit!(Promise(|| Box::new(ListsAreWhole::default())));

impl Invariant for ListsAreWhole {
    fn name(&self) -> &'static str {
        "a list that says that it is whole is"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        let history = world.history.borrow();
        let written: BTreeSet<&str> = history
            .records
            .iter()
            .filter(|record| matches!(record.operation, Operation::Write { .. }))
            .map(|record| record.operation.key())
            .collect();
        for record in history.records.iter().skip(self.looked_at) {
            let Some(Outcome::Listed(keys)) = &record.outcome else { continue };
            let ascends = keys.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascends || !keys.iter().all(|key| written.contains(key.as_str())) {
                return Err(format!("n{} lists {keys:?}; there are {written:?}", record.node));
            }
        }
        let under_way = history.records.iter().position(|record| record.outcome.is_none());
        self.looked_at = under_way.unwrap_or(history.records.len());
        Ok(())
    }

    fn held(&mut self, _: &World, end: &End) -> Result<(), String> {
        let has_some = |(_, outcome): &(u8, Outcome)| match outcome {
            Outcome::Read { seen: Seen::Writes { writes, .. }, .. } => !writes.is_empty(),
            _ => false,
        };
        let shown = end.shown.iter().filter(|(_, answers)| answers.iter().any(has_some)).map(|(key, _)| key);
        let shown: BTreeSet<&String> = shown.collect();
        for (node, outcome) in &end.listed {
            match outcome {
                Outcome::Listed(keys) if keys.iter().collect::<BTreeSet<_>>() == shown => {}
                other => return Err(format!("n{node} lists {other:?}, and reads show {shown:?}")),
            }
        }
        Ok(())
    }
}
