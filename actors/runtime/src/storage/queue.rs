//! What waits for a commit, and how the storage thread is called. It decides nothing about when that is.

use super::Entry;
use ringwork_core::store::TreeSlot;
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

    /// All that waits now, if it is no more than that, nobody waits for a sync, and nothing of it goes into the
    /// keyspace that is `held_back`; none otherwise. The thread is called as before: it may be for something else.
    pub(super) fn take_little(
        &self,
        writes_max: usize,
        bytes_max: usize,
        held_back: Option<TreeSlot>,
    ) -> Option<Vec<Entry>> {
        let mut waiting = self.waiting();
        let little = !waiting.sync && waiting.writes <= writes_max && waiting.bytes <= bytes_max;
        let mut writes = waiting.entries.iter().flat_map(|entry| &entry.writes);
        let passes = little && held_back.is_none_or(|tree| !writes.any(|write| write.tree == tree));
        passes.then(|| waiting.take())
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ringwork_core::store::Write;

    fn entry(trees: &[u32], sync: bool) -> Entry {
        let write = |tree: &u32| Write { tree: TreeSlot(*tree), key: Bytes::from_static(b"k"), value: None };
        Entry { writes: trees.iter().map(write).collect(), bytes: trees.len(), sync, done: None }
    }

    #[test]
    fn a_shard_is_given_what_it_will_not_have_to_wait_for() {
        let queue = Queue::default();
        let taken = |writes_max, held_back: Option<u32>| {
            let taken = queue.take_little(writes_max, 10, held_back.map(TreeSlot));
            taken.map(|entries| entries.iter().map(|entry| entry.writes.len()).sum::<usize>())
        };
        assert!(queue.push(entry(&[1], false)).is_ok() && queue.push(entry(&[2, 3], false)).is_ok());
        assert_eq!(taken(2, None), None, "too many");
        assert_eq!(taken(3, Some(3)), None, "the engine is at one of them");
        assert_eq!(taken(3, Some(4)), Some(3));
        assert!(queue.push(entry(&[1], false)).is_ok() && queue.push(entry(&[2], true)).is_ok());
        assert_eq!(taken(3, None), None, "a sync");
        assert_eq!(queue.take().len(), 2, "and so it is left for the thread");
        assert_eq!(taken(0, Some(1)), Some(0));
    }
}
