//! A list of keys that says that it is whole names each key once, in order, and none under which nobody wrote. It names
//! every key of which all holders had confirmed a write before it was asked for: whichever of them gives the page, it has
//! that or does not count as complete. When everything has healed it names exactly those under which reads show
//! something: before that, the one replica of a key that is asked may lack a write that not all have.

use super::{Invariant, Promise};
use crate::history::{History, Outcome, Record, Seen, WriteFacts};
use crate::last_look::End;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};

/// Replicas of a key.
const REPLICAS: usize = 3;

#[derive(Default)]
struct ListsAreWhole {
    looked_at: usize,
    waiting: Vec<usize>,
}

inventory::submit!(Promise(|| Box::new(ListsAreWhole::default())));

impl Invariant for ListsAreWhole {
    fn name(&self) -> &'static str {
        "a list that says that it is whole is"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        let history = world.history.borrow();
        self.waiting.extend(self.looked_at..history.records.len());
        self.looked_at = history.records.len();
        let has_ended = |at: &usize| history.records.get(*at).is_some_and(|record| record.outcome.is_some());
        let (ended, waiting) = std::mem::take(&mut self.waiting).into_iter().partition::<Vec<_>, _>(has_ended);
        self.waiting = waiting;
        let lists: Vec<(&Record, &Vec<String>)> = ended
            .iter()
            .filter_map(|at| history.records.get(*at))
            .filter_map(|record| match &record.outcome {
                Some(Outcome::Listed(keys)) => Some((record, keys)),
                _ => None,
            })
            .collect();
        if lists.is_empty() {
            return Ok(());
        }
        let writes = history.writes();
        let written: BTreeSet<&str> = writes.values().map(|facts| facts.key.as_str()).collect();
        let everywhere = everywhere(&history, &writes);
        for (record, keys) in lists {
            let node = record.node;
            let ascends = keys.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascends || !keys.iter().all(|key| written.contains(key.as_str())) {
                return Err(format!("n{node} lists {keys:?}; there are {written:?}"));
            }
            let is_due = |facts: &&&WriteFacts| facts.acknowledged.is_some_and(|at| at < record.begun);
            let lacking = everywhere.iter().filter(is_due).find(|facts| !keys.contains(&facts.key));
            if let Some(facts) = lacking {
                return Err(format!(
                    "at {:?} n{node} was asked for a list, and it says that it is whole: {keys:?}; all holders had \
                     confirmed before: {facts:?}",
                    record.begun
                ));
            }
        }
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

/// Writes that every holder confirmed, none as a stand-in, that nobody may have deleted, and of which no copy may be gone
/// with what a machine had not synced. A copy may have moved to any machine, so none may have lost power since.
fn everywhere<'a>(history: &History, writes: &'a BTreeMap<u64, WriteFacts>) -> Vec<&'a WriteFacts> {
    let forgets = history.forgets();
    let is_sure = |facts: &&WriteFacts| {
        facts.stand_ins.is_empty()
            && !facts.deleted
            && history.places_due(facts).count() == REPLICAS
            && !history.power_losses.iter().any(|loss| loss.at >= facts.begun)
            && !History::may_be_forgotten(facts, &forgets)
    };
    writes.values().filter(is_sure).collect()
}
