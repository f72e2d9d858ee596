//! What becomes of objects that were deleted. Decides when tombstones are taken from an object, so that only its
//! history is left (*burying*), and when that is forgotten, too. It does not know whether all replicas have heard of
//! the delete: that is what the time is for which the history is kept.
//!
//! Burying is a state that merges: whoever does it says so to the replicas, and a replica that has not heard of it has
//! more than the buried object and nothing that it lacks. So it is done soon, by the vnode that wrote the tombstone.
//!
//! Forgetting is not. Each replica forgets by itself what died before its *horizon*, which moves in steps and never
//! back; of such an object it takes no dead state in again, so replicas whose horizons differ for a while do not hand
//! it to and fro. A replica that was away for longer than [`crate::KvConfig::tombstone_keep`] and has the value still
//! would bring it back: it must come back without its data.

use crate::command::KvCommand;
use crate::kv::{DeleteMode, Kv, KvError};
use crate::limits::REAPED_PER_TURN_MAX;
use crate::name::ObjectName;
use crate::object::KvItem;
use crate::rows::{self, Dead, DeadName};
use ringwork_core::clock::hybrid::HybridTime;
use ringwork_core::store::Flow;
use ringwork_core::vnode::{Turn, Vnode};
use std::collections::VecDeque;
use std::time::Duration;

/// Steps in which the horizon moves, for each time that a history is kept: by the hour with ten days.
const HORIZON_STEPS: u64 = 240;
/// How long after it was due a tombstone is buried by the sweep of its key's first partition: its vnode has ended.
const OVERDUE: Duration = Duration::from_secs(60);
/// How long after it was due any replica buries it: the first partition does not have it.
const LONG_OVERDUE: Duration = Duration::from_secs(600);
/// Rows beside objects that a sweep looks at in one turn.
const LOOKS_PER_TURN_MAX: usize = 2000;
/// Between two turns of a sweep that was not through: requests come in between.
const NEXT_TURN: Duration = Duration::from_millis(100);

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Tombstones that wait for being buried, the first due first. What is lost of them, a sweep finds.
#[derive(Default)]
pub(crate) struct Burials {
    waiting: VecDeque<(u64, DeadName)>,
    /// When the command is due that was given last: a second one is not given before, but one that got lost is.
    asked_for_ms: u64,
}

impl Burials {
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Adds one. Says in how long the vnode is to be told to bury, if nobody tells it by then.
    pub(crate) fn add(
        &mut self,
        name: ObjectName,
        latest: HybridTime,
        now_ms: u64,
        delay: Duration,
    ) -> Option<Duration> {
        let due_ms = now_ms.saturating_add(ms(delay));
        self.waiting.push_back((due_ms, DeadName { latest, name }));
        self.ask(now_ms)
    }

    fn ask(&mut self, now_ms: u64) -> Option<Duration> {
        let (due_ms, _) = self.waiting.front()?;
        if self.asked_for_ms >= now_ms && self.asked_for_ms != 0 {
            return None;
        }
        let wait_ms = due_ms.saturating_sub(now_ms).max(1);
        self.asked_for_ms = now_ms.saturating_add(wait_ms);
        Some(Duration::from_millis(wait_ms))
    }

    fn due(&self, now_ms: u64) -> Vec<DeadName> {
        let due = self.waiting.iter().take_while(|(due_ms, _)| *due_ms <= now_ms).take(REAPED_PER_TURN_MAX);
        due.map(|(_, dead)| dead.clone()).collect()
    }

    fn done(&mut self, count: usize) {
        self.waiting.drain(..count.min(self.waiting.len()));
        self.asked_for_ms = 0;
    }
}

impl Kv {
    /// Buries what this vnode wrote and is due.
    pub(crate) fn bury_due(&mut self, turn: &mut Turn<'_, Self>) -> Result<(), KvError> {
        let due = self.burials.due(turn.now_ms());
        let buried = self.buried_of(&due)?;
        self.keep_buried(buried, turn)?;
        self.burials.done(due.len());
        if let Some(wait) = self.burials.ask(turn.now_ms()) {
            turn.later(wait, KvCommand::Bury);
        }
        Ok(())
    }

    /// Of these objects those that are still the same dead ones, before and after they are buried.
    fn buried_of(&self, dead: &[DeadName]) -> Result<Vec<(KvItem, KvItem)>, KvError> {
        let mut buried = Vec::new();
        for DeadName { latest, name } in dead {
            let Some(before) = self.load_if_readable(name)?.filter(|item| item.object.latest() == *latest)
            else {
                continue;
            };
            let mut after = before.clone();
            if after.object.bury() {
                buried.push((before, after));
            }
        }
        Ok(buried)
    }

    fn keep_buried(&self, buried: Vec<(KvItem, KvItem)>, turn: &mut Turn<'_, Self>) -> Result<(), KvError> {
        for (before, after) in buried {
            rows::keep(&self.store, Some(&before), Some(&after))?;
            // Fewer than a turn may touch; what were not sent, the next comparison of replicas would.
            let _ = turn.touched(after);
        }
        Ok(())
    }

    /// Buries what is overdue, and forgets what died long ago.
    pub(crate) fn reap(&mut self, turn: &mut Turn<'_, Self>) -> Result<(), KvError> {
        let more_to_bury = self.bury_overdue(turn)?;
        let more_to_forget = self.forget(turn)?;
        if more_to_bury || more_to_forget {
            turn.later(NEXT_TURN, KvCommand::Reap);
        }
        Ok(())
    }

    fn bury_overdue(&mut self, turn: &mut Turn<'_, Self>) -> Result<bool, KvError> {
        let DeleteMode::After(delay) = self.config.delete_mode else { return Ok(false) };
        let (place, now_ms) = (turn.place(), turn.now_ms());
        let overdue_ms = now_ms.saturating_sub(ms(delay + OVERDUE));
        let long_overdue_ms = now_ms.saturating_sub(ms(delay + LONG_OVERDUE));
        let (mut found, mut looks) = (Vec::new(), 0);
        rows::visit_dead(&self.store, Dead::WithTombstones, overdue_ms, &mut |dead| {
            looks += 1;
            let anybodys = dead.latest.milliseconds() <= long_overdue_ms;
            if anybodys || place.is_first_for(Self::SERVICE, dead.name.bytes()) {
                found.push(dead);
            }
            let full = found.len() >= REAPED_PER_TURN_MAX || looks >= LOOKS_PER_TURN_MAX;
            if full { Flow::Break(()) } else { Flow::Continue(()) }
        })?;
        let full = found.len() >= REAPED_PER_TURN_MAX;
        let buried = self.buried_of(&found)?;
        // Where nothing came of it, it is not tried again at once.
        let more = full && !buried.is_empty();
        self.keep_buried(buried, turn)?;
        Ok(more)
    }

    fn forget(&mut self, turn: &mut Turn<'_, Self>) -> Result<bool, KvError> {
        let keep_ms = ms(self.config.tombstone_keep);
        let step_ms = (keep_ms / HORIZON_STEPS).max(1);
        let target_ms = turn.now_ms().saturating_sub(keep_ms) / step_ms * step_ms;
        let horizon_ms = rows::horizon_ms(&self.store)?;
        if target_ms <= horizon_ms {
            return Ok(false);
        }
        let mut found = Vec::new();
        for which in [Dead::WithTombstones, Dead::Buried] {
            let mut of_kind = 0;
            rows::visit_dead(&self.store, which, target_ms, &mut |dead| {
                found.push((which, dead));
                of_kind += 1;
                if of_kind > REAPED_PER_TURN_MAX { Flow::Break(()) } else { Flow::Continue(()) }
            })?;
        }
        // The first horizon in a keyspace in which nothing is would make it one that was written, for ever.
        if horizon_ms == 0 && found.is_empty() && self.is_empty()? {
            return Ok(false);
        }
        found.sort_by_key(|(_, dead)| dead.latest);
        // Of the millisecond of the first that is left some may be left, too: the horizon stands before it.
        let (more, through_ms) = match found.get(REAPED_PER_TURN_MAX) {
            Some((_, first_left)) => {
                (true, first_left.latest.milliseconds().saturating_sub(1).min(target_ms))
            }
            None => (false, target_ms),
        };
        for (which, dead) in found.iter().take(REAPED_PER_TURN_MAX) {
            let found = self.load_if_readable(&dead.name)?;
            if let Some(item) = found.filter(|item| item.object.latest() == dead.latest) {
                rows::keep(&self.store, Some(&item), None)?;
            }
            // Also where it leads to nothing.
            rows::remove_dead(&self.store, *which, dead);
        }
        if through_ms > horizon_ms {
            rows::set_horizon(&self.store, through_ms);
        }
        Ok(more)
    }
}
