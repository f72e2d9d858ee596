//! Commits: a batch of what has gathered is written, synced if somebody must know that it is on disk, and then all are
//! answered. It decides what a batch is and when the background syncs. It does not know who calls it: the storage
//! thread, a shard, or a task.

use super::mark::CommitMark;
use super::queue::Queue;
use super::{COMMIT_NUMBER_KEY, Committed, Durability, Entry, Shared};
use crate::telemetry::Telemetry;
use crate::time::{Clock, HybridClock, Moment};
use bytes::Bytes;
use ringwork_core::store::{HeldBack, OpenTree, Store, StoreError, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Most writes of one commit: beyond this a larger batch is no cheaper per write, only later.
const BATCH_WRITES_MAX: usize = 4096;
/// Most bytes of one commit.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often the committer looks at the engine's own progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Committer {
    store: Arc<dyn Store>,
    node: OpenTree,
    number: u64,
    /// The latest hybrid time at which anything was committed; does not go back when the wall clock does.
    latest_ms: u64,
    hybrid: Arc<HybridClock>,
    durability: Durability,
    clock: Clock,
    telemetry: Arc<Telemetry>,
    mark: Option<CommitMark>,
    unsynced: bool,
    synced_at: Moment,
    looked_at: Moment,
    broken: Option<StoreError>,
}

impl Committer {
    pub(super) fn starting(
        store: Arc<dyn Store>,
        (node, mark): (OpenTree, Option<CommitMark>),
        (number, latest_ms): (u64, u64),
        durability: Durability,
        (clock, hybrid): (Clock, Arc<HybridClock>),
        telemetry: Arc<Telemetry>,
    ) -> Self {
        let now = clock.moment();
        let (synced_at, looked_at) = (now, now);
        Self {
            store,
            node,
            number,
            latest_ms,
            hybrid,
            durability,
            clock,
            telemetry,
            mark,
            unsynced: false,
            synced_at,
            looked_at,
            broken: None,
        }
    }

    pub(super) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// All that waits, for a shard to commit: see [`Queue::take_little`]. None also where the engine might hold it up.
    pub(super) fn take_little(
        &self,
        queue: &Queue,
        writes_max: usize,
        bytes_max: usize,
    ) -> Option<Vec<Entry>> {
        match self.store.held_back() {
            HeldBack::Nothing => queue.take_little(writes_max, bytes_max, None),
            // Every commit has its number written there.
            HeldBack::Keyspace(tree) if tree == self.node.slot => None,
            HeldBack::Keyspace(tree) => queue.take_little(writes_max, bytes_max, Some(tree)),
            HeldBack::Everything => None,
        }
    }

    pub(super) fn simulated_delay(&self) -> Duration {
        self.store.simulated_delay()
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.moment()
    }

    pub(super) fn time_to_next_duty(&self) -> Duration {
        let now = self.clock.moment();
        let look = (self.looked_at + PROGRESS_INTERVAL).saturating_sub(now);
        match self.durability {
            Durability::Interval(every) if self.unsynced => {
                look.min((self.synced_at + every).saturating_sub(now))
            }
            _ => look,
        }
    }

    pub(super) fn do_duties(&mut self, shared: &Shared) {
        let now = self.clock.moment();
        let due = match self.durability {
            Durability::Interval(every) => now >= self.synced_at + every,
            Durability::Sync | Durability::Os => false,
        };
        if self.unsynced && due {
            self.sync(shared);
        }
        if now >= self.looked_at + PROGRESS_INTERVAL {
            self.looked_at = now;
            if let Err(error) = self.store.check_progress(now.as_millis() as u64) {
                self.fail(shared, error);
            }
        }
    }

    /// Commits what was taken out, in as few batches as their bounds allow.
    pub(super) fn commit_all(&mut self, shared: &Shared, entries: Vec<Entry>) {
        let mut entries = entries.into_iter();
        while let Some(first) = entries.next() {
            self.commit(shared, first, &mut entries);
        }
    }

    fn commit(&mut self, shared: &Shared, first: Entry, others: &mut impl Iterator<Item = Entry>) {
        let (mut writes, mut bytes, mut sync) = (first.writes, first.bytes, first.sync);
        let mut done = vec![first.done];
        while writes.len() < BATCH_WRITES_MAX && bytes < BATCH_BYTES_MAX {
            let Some(entry) = others.next() else { break };
            writes.extend(entry.writes);
            bytes += entry.bytes;
            sync |= entry.sync;
            done.push(entry.done);
        }
        let count = writes.len();
        let result = self.apply(shared, &mut writes, sync);
        shared.waiting.writes.fetch_sub(count, Ordering::Relaxed);
        shared.waiting.bytes.fetch_sub(bytes, Ordering::Relaxed);
        for done in done.into_iter().flatten() {
            // It may run a module's code (an item's routing key); a panic there must not end all commits.
            let told = catch_unwind(AssertUnwindSafe(|| done(result.clone())));
            if told.is_err() {
                self.telemetry.vnode_panics.increment();
                tracing::error!(
                    "telling a vnode of its commit panicked; whoever waits for it is told 'unknown'"
                );
            }
        }
    }

    fn apply(
        &mut self,
        shared: &Shared,
        writes: &mut Vec<Write>,
        sync: bool,
    ) -> Result<Committed, StoreError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        if !writes.is_empty() {
            self.telemetry.storage_commits.increment();
            self.telemetry.storage_writes.add(writes.len() as u64);
            let number = self.number + 1;
            self.latest_ms = self.latest_ms.max(self.hybrid.latest().milliseconds());
            writes.push(Write {
                tree: self.node.slot,
                key: Bytes::from_static(COMMIT_NUMBER_KEY),
                value: Some([number.to_be_bytes(), self.latest_ms.to_be_bytes()].concat().into()),
            });
            if let Err(error) = self.store.commit(writes) {
                return Err(self.fail(shared, error));
            }
            self.number = number;
            self.unsynced = true;
            if let Some(mark) = &mut self.mark
                && let Err(error) = mark.advance(number)
            {
                return Err(self.fail(shared, error));
            }
        }
        if (sync || self.durability == Durability::Sync) && self.unsynced {
            self.sync(shared);
        }
        match &self.broken {
            Some(error) => Err(error.clone()),
            None => Ok(Committed { durable: !self.unsynced }),
        }
    }

    fn sync(&mut self, shared: &Shared) {
        self.telemetry.storage_syncs.increment();
        match self.store.sync() {
            Ok(()) => {
                self.unsynced = false;
                self.synced_at = self.clock.moment();
            }
            Err(error) => {
                self.fail(shared, error);
            }
        }
    }

    pub(super) fn fail(&mut self, shared: &Shared, error: StoreError) -> StoreError {
        let error = self.broken.get_or_insert(error).clone();
        self.unsynced = false; // nothing more can be synced; do not wait for it
        shared.fail(error.clone());
        error
    }
}
