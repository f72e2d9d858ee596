//! A list of keys that says that it is whole names each key once, in order, and none under which nobody wrote. It
//! names every key of which a write was confirmed in each of its partitions before it was asked for: whoever gives the
//! page, it has that or does not count as complete. When everything has healed it names exactly those under which reads
//! show something: before that, the one replica of a key that is asked may lack a write that not all have.

use super::{Invariant, Promise};
use crate::history::{History, Outcome, Record, Seen, WriteFacts};
use crate::last_look::End;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
        let confirmed = confirmed(&history, &writes);
        for (record, keys) in lists {
            let node = record.node;
            let ascends = keys.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascends || !keys.iter().all(|key| written.contains(key.as_str())) {
                return Err(format!("n{node} lists {keys:?}; there are {written:?}"));
            }
            let is_due = |places: &BTreeMap<u16, Duration>| {
                places.values().filter(|confirmed| **confirmed < record.begun).count() >= REPLICAS
            };
            let lacking = confirmed.iter().find(|(key, places)| is_due(places) && !keys.iter().any(|k| k == *key));
            if let Some((key, places)) = lacking {
                return Err(format!(
                    "at {:?} n{node} was asked for a list, and it says that it is whole: {keys:?}; {key} was \
                     confirmed before in all of its partitions: {places:?}",
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

/// For each key the partitions in which a holder confirmed a write under it, and when that was acknowledged first. Not
/// of writes that may have been deleted, nor of those of which a copy may be gone with what a machine had not synced:
/// it may have moved to any machine, so none may have lost power since.
fn confirmed<'a>(
    history: &History,
    writes: &'a BTreeMap<u64, WriteFacts>,
) -> BTreeMap<&'a str, BTreeMap<u16, Duration>> {
    let forgets = history.forgets();
    let mut confirmed: BTreeMap<&str, BTreeMap<u16, Duration>> = BTreeMap::new();
    for facts in writes.values() {
        let Some(acknowledged) = facts.acknowledged else { continue };
        let may_be_gone = facts.deleted
            || history.power_losses.iter().any(|loss| loss.at >= facts.begun)
            || History::may_be_forgotten(facts, &forgets);
        let by_holder = |place: &u16| {
            facts.confirmed.iter().any(|(of, name)| of == place && !facts.stand_ins.contains(name))
        };
        for place in history.places_due(facts).filter(|place| !may_be_gone && by_holder(place)) {
            let first = confirmed.entry(&facts.key).or_default().entry(place).or_insert(acknowledged);
            *first = acknowledged.min(*first);
        }
    }
    confirmed
}
