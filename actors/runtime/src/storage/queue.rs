//! What waits for a commit, and how the storage thread is called. It decides nothing about when that is.

use super::Entry;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What waits for a commit, in order; bounded by the gauge, which turns ask before they run. A channel's receiver
/// spins and yields before it sleeps, which costs more than a wake-up where the processors are busy, and takes one
/// entry at a time.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    called: Condvar,
}

#[derive(Default)]
struct Waiting {
    entries: Vec<Entry>,
    writes: usize,
    bytes: usize,
    /// Somebody waits for a sync.
    sync: bool,
    /// The thread is to take what waits.
    called: bool,
    /// The thread waits to be called.
    sleeps: bool,
    /// Nobody will take anything out any more.
    ended: bool,
}

impl Waiting {
    fn take(&mut self) -> Vec<Entry> {
        (self.writes, self.bytes, self.sync) = (0, 0, false);
        std::mem::take(&mut self.entries)
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry in; it comes back when nobody will commit any more.
    pub(super) fn push(&self, entry: Entry) -> Result<(), Entry> {
        let mut waiting = self.waiting();
        if waiting.ended {
            return Err(entry);
        }
        waiting.writes += entry.writes.len();
        waiting.bytes += entry.bytes;
        waiting.sync |= entry.sync;
        waiting.entries.push(entry);
        Ok(())
    }

    /// Has the thread take what waits.
    pub(super) fn call(&self) {
        let mut waiting = self.waiting();
        waiting.called = true;
        let wakes = std::mem::take(&mut waiting.sleeps);
        drop(waiting);
        if wakes {
            self.called.notify_one();
        }
    }

    /// For the thread: waits until it is called, or for that time at most.
    pub(super) fn wait_within(&self, patience: Duration) {
        let mut waiting = self.waiting();
        if waiting.called || patience.is_zero() {
            return;
        }
        waiting.sleeps = true;
        let not_called = |waiting: &mut Waiting| !waiting.called;
        let woken = self.called.wait_timeout_while(waiting, patience, not_called);
        woken.unwrap_or_else(PoisonError::into_inner).0.sleeps = false;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting().entries.is_empty()
    }

    /// For whoever is called: all that waits now.
    pub(super) fn take(&self) -> Vec<Entry> {
        let mut waiting = self.waiting();
        waiting.called = false;
        waiting.take()
    }

    /// All that waits now, if it is no more than that and nobody waits for a sync; none otherwise. The thread is called
    /// as before: it may be for something else.
    pub(super) fn take_little(&self, writes_max: usize, bytes_max: usize) -> Option<Vec<Entry>> {
        let mut waiting = self.waiting();
        let little = !waiting.sync && waiting.writes <= writes_max && waiting.bytes <= bytes_max;
        little.then(|| waiting.take())
    }

    /// Ends the queue; what waited.
    pub(super) fn end(&self) -> Vec<Entry> {
        let mut waiting = self.waiting();
        waiting.ended = true;
        waiting.take()
    }

    /// Ends the queue, if nothing waits.
    pub(super) fn end_if_empty(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.ended |= waiting.entries.is_empty();
        waiting.ended
    }
}
