//! Group commit. Everything that every vnode of the node writes goes through one queue to one committer, which
//! drains what has gathered into one batch, commits it, syncs it if somebody must know that it is on disk, and
//! then answers all. Batches form by themselves: while one is being committed the next one gathers.
//!
//! It decides when to commit and when to sync; what a reply promises has been done when it leaves. It does not
//! know vnodes: a turn's writes come with a closure that is told how they ended.
//!
//! Each batch also carries the number of the commit. Beside the database a small file remembers how far
//! commits had come, so that an engine that quietly cut the end off a damaged journal is found out at start.

use crate::spawner::{Placement, start_thread};
use crate::telemetry::Telemetry;
use crate::time::{Clock, HybridClock, Moment};
use bytes::Bytes;
use ringwork_core::store::{KeyspaceId, OpenTree, Store, StoreError, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};

/// When an acknowledgement may leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// After the write is synced to disk.
    Sync,
    /// After the write has reached the operating system; synced in the background, this often.
    Interval(Duration),
    /// After the write has reached the operating system, which writes it to disk when it likes.
    Os,
}

/// Bounds of the queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Writes that may wait. More are refused before their turn runs.
    pub writes_max: usize,
    /// Bytes of keys and values that may wait.
    pub bytes_max: usize,
}

/// Most writes of one commit: beyond this a larger batch is no cheaper per write, only later.
const BATCH_WRITES_MAX: usize = 4096;
/// Most bytes of one commit.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often the committer looks at the engine's own progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// The node keyspace's key under which lie, 8 bytes each, the number of the last commit and the latest time of
/// the hybrid clock at any, in milliseconds.
pub const COMMIT_NUMBER_KEY: &[u8] = b"commit-number";

/// What became of a turn's writes.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Whether they are synced to disk.
    pub durable: bool,
}

type Done = Box<dyn FnOnce(Result<Committed, StoreError>) + Send>;

struct Entry {
    writes: Vec<Write>,
    bytes: usize,
    sync: bool,
    done: Option<Done>,
}

/// The way to the committer. Cheap to clone.
#[derive(Clone)]
pub struct Storage(Arc<Shared>);

struct Shared {
    queue: Queue,
    waiting: Gauge,
    limits: QueueLimits,
    /// Wakes a committer that runs as a task; a committer thread wakes by the channel.
    wake: Option<Notify>,
    stopping: AtomicBool,
    failed: watch::Sender<Option<StoreError>>,
}

/// What waits for the committer, in order; bounded by the gauge, which turns ask before they run. A channel's
/// receiver spins and yields before it sleeps, which costs more than a wake-up where the processors are busy, and
/// takes one entry at a time.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    ready: Condvar,
}

#[derive(Default)]
struct Waiting {
    entries: Vec<Entry>,
    /// The committer's thread waits to be woken.
    sleeps: bool,
    /// Nobody will take anything out any more.
    ended: bool,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry in; it comes back when the committer has ended.
    fn push(&self, entry: Entry) -> Result<(), Entry> {
        let mut waiting = self.waiting();
        if waiting.ended {
            return Err(entry);
        }
        waiting.entries.push(entry);
        let wakes = std::mem::take(&mut waiting.sleeps);
        drop(waiting);
        if wakes {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// All that waits now.
    fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.waiting().entries)
    }

    /// All that waits as soon as anything does, or nothing after that time.
    fn take_within(&self, patience: Duration) -> Vec<Entry> {
        let mut waiting = self.waiting();
        if waiting.entries.is_empty() && !patience.is_zero() {
            waiting.sleeps = true;
            let empty = |waiting: &mut Waiting| waiting.entries.is_empty();
            let woken = self.ready.wait_timeout_while(waiting, patience, empty);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
            waiting.sleeps = false;
        }
        std::mem::take(&mut waiting.entries)
    }

    /// Ends the queue; what waited.
    fn end(&self) -> Vec<Entry> {
        let mut waiting = self.waiting();
        waiting.ended = true;
        std::mem::take(&mut waiting.entries)
    }

    /// Ends the queue, if nothing waits.
    fn end_if_empty(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.ended |= waiting.entries.is_empty();
        waiting.ended
    }
}

#[derive(Default)]
struct Gauge {
    writes: AtomicUsize,
    bytes: AtomicUsize,
}

impl Storage {
    /// Starts the committer of `store`: a thread, or a task of the current thread where everything runs there.
    /// `mark` is told the number of each commit that will survive this process.
    pub fn start(
        store: Arc<dyn Store>,
        durability: Durability,
        limits: QueueLimits,
        placement: Placement,
        (clock, hybrid): (Clock, Arc<HybridClock>),
        telemetry: Arc<Telemetry>,
        mark: Option<CommitMark>,
    ) -> Result<Self, StoreError> {
        let node = store.open(&KeyspaceId::Node)?;
        let (number, latest_ms) = read_last_commit(&node)?;
        let mut mark = mark;
        if let Some(mark) = &mut mark {
            mark.check(number)?;
        }
        let inline = placement == Placement::Here;
        let shared = Arc::new(Shared {
            queue: Queue::default(),
            waiting: Gauge::default(),
            limits,
            wake: inline.then(Notify::new),
            stopping: AtomicBool::new(false),
            failed: watch::Sender::new(None),
        });
        let mut committer = Committer {
            store,
            node,
            number,
            latest_ms,
            hybrid,
            durability,
            clock: clock.clone(),
            telemetry,
            mark,
            shared: shared.clone(),
            unsynced: false,
            synced_at: clock.moment(),
            looked_at: clock.moment(),
            broken: None,
        };
        if inline {
            actix_rt::spawn(async move { committer.run_as_task().await });
        } else {
            start_thread("storage", move || committer.run_as_thread())
                .map_err(|e| StoreError::Broken(format!("the storage thread cannot be started: {e}")))?;
        }
        Ok(Self(shared))
    }

    /// Whether the queue has room. Asked before a turn that writes; a turn that runs is always taken in, so
    /// the bound is exceeded by at most one turn per shard.
    pub fn has_room(&self) -> bool {
        self.0.waiting.writes.load(Ordering::Relaxed) < self.0.limits.writes_max
            && self.0.waiting.bytes.load(Ordering::Relaxed) < self.0.limits.bytes_max
            && !self.0.stopping.load(Ordering::Relaxed)
    }

    /// Hands writes over, to be applied together; no writes is a wait for those before. `done` runs on the
    /// committer's thread, in the order of submission: it must be short.
    pub fn submit(
        &self,
        writes: Vec<Write>,
        sync: bool,
        done: impl FnOnce(Result<Committed, StoreError>) + Send + 'static,
    ) {
        let bytes = writes.iter().map(|w| w.key.len() + w.value.as_ref().map_or(0, Bytes::len)).sum();
        self.0.waiting.writes.fetch_add(writes.len(), Ordering::Relaxed);
        self.0.waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        let entry = Entry { writes, bytes, sync, done: Some(Box::new(done)) };
        if let Err(mut entry) = self.0.queue.push(entry) {
            if let Some(done) = entry.done.take() {
                done(Err(stopped()));
            }
        } else if let Some(wake) = &self.0.wake {
            wake.notify_one();
        }
    }

    /// Waits until everything submitted so far is committed, and synced when `sync`.
    pub async fn barrier(&self, sync: bool) -> Result<(), StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.submit(Vec::new(), sync, move |result| {
            let _ = sender.send(result.map(drop));
        });
        receiver.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Ends when the store has failed for good, with the reason: the node must stop.
    pub async fn failure(&self) -> StoreError {
        let mut failed = self.0.failed.subscribe();
        loop {
            if let Some(error) = failed.borrow_and_update().clone() {
                return error;
            }
            if failed.changed().await.is_err() {
                return stopped();
            }
        }
    }

    /// Refuses new writes, commits and syncs what waits, and ends the committer.
    pub async fn stop(&self) -> Result<(), StoreError> {
        self.0.stopping.store(true, Ordering::Relaxed);
        self.barrier(true).await
    }

    /// Its bounds.
    pub fn limits(&self) -> QueueLimits {
        self.0.limits
    }

    /// Writes and bytes that wait now.
    pub fn waiting(&self) -> (usize, usize) {
        (self.0.waiting.writes.load(Ordering::Relaxed), self.0.waiting.bytes.load(Ordering::Relaxed))
    }
}

fn stopped() -> StoreError {
    StoreError::Broken("the storage thread has ended".into())
}

/// The latest hybrid time of a commit in `store`, milliseconds since 1970; 0 when there is none. What was minted
/// and committed lies at or below it.
pub fn last_commit_ms(store: &dyn Store) -> Result<u64, StoreError> {
    read_last_commit(&store.open(&KeyspaceId::Node)?).map(|(_, wall_ms)| wall_ms)
}

/// The number of the last commit in `store`; 0 when there is none, or when its record cannot be read.
pub(crate) fn last_commit_number(store: &dyn Store) -> u64 {
    let number = store.open(&KeyspaceId::Node).and_then(|node| read_last_commit(&node));
    number.map_or(0, |(number, _)| number)
}

fn read_last_commit(node: &OpenTree) -> Result<(u64, u64), StoreError> {
    match node.tree.get(COMMIT_NUMBER_KEY)? {
        None => Ok((0, 0)),
        Some(bytes) => match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
            (Some(number), Some(wall_ms)) if bytes.len() == 16 => {
                Ok((u64::from_be_bytes(*number), u64::from_be_bytes(*wall_ms)))
            }
            _ => Err(StoreError::Damaged(
                "the store's own record of its last commit cannot be read".to_owned(),
            )),
        },
    }
}

struct Committer {
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
    shared: Arc<Shared>,
    unsynced: bool,
    synced_at: Moment,
    looked_at: Moment,
    broken: Option<StoreError>,
}

/// However the committer ends: nobody waits for one that is gone. What waits is dropped unanswered, and whoever waits
/// for it is told so by that.
impl Drop for Committer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fail(StoreError::Broken("the storage thread has ended with a panic".to_owned()));
        }
        drop(self.shared.queue.end());
    }
}

impl Committer {
    fn run_as_thread(&mut self) {
        let shared = self.shared.clone();
        loop {
            self.commit_all(shared.queue.take_within(self.time_to_next_duty()));
            self.do_duties();
            if self.has_ended() {
                return;
            }
        }
    }

    async fn run_as_task(&mut self) {
        let shared = self.shared.clone();
        let Some(wake) = &shared.wake else { return };
        loop {
            loop {
                // As long as a commit takes, more may come to be committed with it.
                let delay = self.store.simulated_delay();
                if !delay.is_zero() && !shared.queue.waiting().entries.is_empty() {
                    tokio::time::sleep(delay).await;
                }
                let entries = shared.queue.take();
                if entries.is_empty() {
                    break;
                }
                self.commit_all(entries);
            }
            self.do_duties();
            if self.has_ended() {
                return;
            }
            let _ = tokio::time::timeout(self.time_to_next_duty(), wake.notified()).await;
        }
    }

    fn has_ended(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed) && !self.unsynced && self.shared.queue.end_if_empty()
    }

    fn time_to_next_duty(&self) -> Duration {
        let now = self.clock.moment();
        let look = (self.looked_at + PROGRESS_INTERVAL).saturating_sub(now);
        match self.durability {
            Durability::Interval(every) if self.unsynced => {
                look.min((self.synced_at + every).saturating_sub(now))
            }
            _ => look,
        }
    }

    fn do_duties(&mut self) {
        let now = self.clock.moment();
        let due = match self.durability {
            Durability::Interval(every) => now >= self.synced_at + every,
            Durability::Sync | Durability::Os => false,
        };
        if self.unsynced && due {
            self.sync();
        }
        if now >= self.looked_at + PROGRESS_INTERVAL {
            self.looked_at = now;
            if let Err(error) = self.store.check_progress(now.as_millis() as u64) {
                self.fail(error);
            }
        }
    }

    /// Commits what was taken out, in as few batches as their bounds allow.
    fn commit_all(&mut self, entries: Vec<Entry>) {
        let mut entries = entries.into_iter();
        while let Some(first) = entries.next() {
            self.commit(first, &mut entries);
        }
    }

    fn commit(&mut self, first: Entry, others: &mut impl Iterator<Item = Entry>) {
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
        let result = self.apply(&mut writes, sync);
        self.shared.waiting.writes.fetch_sub(count, Ordering::Relaxed);
        self.shared.waiting.bytes.fetch_sub(bytes, Ordering::Relaxed);
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

    fn apply(&mut self, writes: &mut Vec<Write>, sync: bool) -> Result<Committed, StoreError> {
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
                return Err(self.fail(error));
            }
            self.number = number;
            self.unsynced = true;
            if let Some(mark) = &mut self.mark
                && let Err(error) = mark.advance(number)
            {
                return Err(self.fail(error));
            }
        }
        if (sync || self.durability == Durability::Sync) && self.unsynced {
            self.sync();
        }
        match &self.broken {
            Some(error) => Err(error.clone()),
            None => Ok(Committed { durable: !self.unsynced }),
        }
    }

    fn sync(&mut self) {
        self.telemetry.storage_syncs.increment();
        match self.store.sync() {
            Ok(()) => {
                self.unsynced = false;
                self.synced_at = self.clock.moment();
            }
            Err(error) => {
                self.fail(error);
            }
        }
    }

    fn fail(&mut self, error: StoreError) -> StoreError {
        let error = self.broken.get_or_insert(error).clone();
        self.unsynced = false; // nothing more can be synced; do not wait for it
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.failed.send_replace(Some(error.clone()));
        error
    }
}

/// A file beside the database with the number of the last commit that this process made. Not synced: it
/// outlives the process like the journal's own tail, and after a loss of power an older number only makes the
/// check weaker. See [`crate::files`] for how the file is laid out.
pub struct CommitMark {
    file: crate::files::NumberFile,
    boot_unchanged: bool,
}

impl CommitMark {
    /// The mark in `file`. `boot_unchanged`: the machine has not been restarted since it was written, so even
    /// commits that were never synced must be there.
    pub fn new(file: crate::files::NumberFile, boot_unchanged: bool) -> Self {
        Self { file, boot_unchanged }
    }

    /// Whether a store whose last commit has this number has lost some that were marked, or has some although none was
    /// marked ever: then the mark is not of this store's last life.
    pub(crate) fn is_not_of(&self, number: u64) -> bool {
        self.file.value().map_or(number > 0, |marked| number < marked)
    }

    fn check(&mut self, number: u64) -> Result<(), StoreError> {
        match self.file.value() {
            // The machine has lost them, which is lawful, and they will never come: the next life of this process must
            // not miss them, even if this one ends before its first commit.
            Some(marked) if !self.boot_unchanged && number < marked => {
                self.file.set(number).map_err(|e| StoreError::Broken(e.to_string()))
            }
            Some(marked) if self.boot_unchanged && number < marked => {
                let mark = self.file.path();
                let data = mark.parent().unwrap_or(mark).display();
                Err(StoreError::Damaged(format!(
                    "the journal is damaged: the store ends at commit {number}, but commit {marked} was \
                     acknowledged. Way out: restore {data} from a backup; or, when other nodes hold replicas of \
                     its data, move {data}/store away and start the node with --rebuild, which fetches its data \
                     from them; or go on without what was written after the damage: remove {}",
                    mark.display()
                )))
            }
            _ => Ok(()),
        }
    }

    fn advance(&mut self, number: u64) -> Result<(), StoreError> {
        self.file.set(number).map_err(|e| StoreError::Broken(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::NumberFile;
    use ringwork_core::store::memory::MemoryStore;

    /// The engine meets some kinds of damage with a panic.
    struct Panics(MemoryStore);

    impl Store for Panics {
        fn open(&self, keyspace: &KeyspaceId) -> Result<OpenTree, StoreError> {
            self.0.open(keyspace)
        }
        fn keyspaces(&self) -> Result<Vec<KeyspaceId>, StoreError> {
            self.0.keyspaces()
        }
        fn commit(&self, _: &mut Vec<Write>) -> Result<(), StoreError> {
            panic!("planted")
        }
        fn sync(&self) -> Result<(), StoreError> {
            self.0.sync()
        }
        fn drop_keyspace(&self, keyspace: &KeyspaceId) -> Result<(), StoreError> {
            self.0.drop_keyspace(keyspace)
        }
    }

    #[test]
    fn a_committer_that_panics_leaves_nobody_waiting_and_says_that_the_store_has_failed() {
        let store = Panics(MemoryStore::new());
        let slot = store.open(&KeyspaceId::Node).unwrap().slot;
        let clock = Clock::system();
        let clocks = (clock.clone(), Arc::new(HybridClock::new(clock)));
        let limits = QueueLimits { writes_max: 100, bytes_max: 10_000 };
        let (store, placement) = (Arc::new(store), Placement::Own(1));
        let storage =
            Storage::start(store, Durability::Os, limits, placement, clocks, Arc::default(), None).unwrap();
        // Whether it was committed; what is dropped unanswered drops the sender.
        let submit = || {
            let (told, hears) = std::sync::mpsc::channel();
            let write = Write { tree: slot, key: Bytes::from_static(b"k"), value: Some(Bytes::new()) };
            storage.submit(vec![write], false, move |result| {
                let _ = told.send(result.is_ok());
            });
            hears
        };
        let waiting: Vec<_> = (0..50).map(|_| submit()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let failure = runtime.block_on(storage.failure());
        assert!(failure.to_string().contains("panic"), "{failure}");
        let nobody = |hears: std::sync::mpsc::Receiver<bool>| {
            // As long as it takes to be sure that it takes for ever.
            let heard = hears.recv_timeout(Duration::from_secs(20));
            matches!(heard, Ok(false) | Err(std::sync::mpsc::RecvTimeoutError::Disconnected))
        };
        assert!(waiting.into_iter().all(nobody), "who waited is told or dropped");
        assert!(nobody(submit()), "and so is who comes later");
        assert!(!storage.has_room());
    }

    #[test]
    fn after_a_loss_of_power_the_mark_follows_the_store_and_a_kill_later_is_no_damage() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("commit-mark");
        let mark = |boot_unchanged| CommitMark::new(NumberFile::open(&path).unwrap(), boot_unchanged);
        mark(true).advance(187).unwrap();
        assert!(mark(true).check(185).is_err(), "on a machine that went on, nothing can be gone");
        mark(false).check(185).unwrap(); // the machine was restarted: two commits were not synced
        mark(true).check(185).unwrap(); // this life ended before its first commit
        mark(true).advance(186).unwrap();
        assert!(mark(true).check(185).is_err());
    }
}
