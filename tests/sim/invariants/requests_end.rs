//! A request has ended a tenth of a second after its time is over, unless its node stood still, starved or died.

use super::{Invariant, Promise};
use crate::history::Record;
use crate::world::World;
use std::time::Duration;

const GRACE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct RequestsEnd {
    looked_at: usize,
}

inventory::submit!(Promise(|| Box::new(RequestsEnd::default())));

impl Invariant for RequestsEnd {
    fn name(&self) -> &'static str {
        "every request ends by its deadline"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        let (now, history) = (world.now(), world.history.borrow());
        for record in history.records.iter().skip(self.looked_at) {
            let end = record.ended.unwrap_or(now);
            let late = end > record.deadline + GRACE;
            if late && !world.machine(record.node).was_unwell(record.begun, end) {
                return Err(format!(
                    "asked of n{} at {:?}, to end by {:?}, {}: {:?}",
                    record.node,
                    record.begun,
                    record.deadline,
                    record.ended.map_or("still under way".to_owned(), |at| format!("ended at {at:?}")),
                    record.operation
                ));
            }
        }
        let under_way = |record: &Record| record.outcome.is_none();
        self.looked_at = history.records.iter().position(under_way).unwrap_or(history.records.len());
        Ok(())
    }
}
