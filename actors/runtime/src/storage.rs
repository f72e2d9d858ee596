//! Group commit. Everything that every vnode of the node writes goes through one queue, is committed in batches,
//! synced if somebody must know that it is on disk, and then all are answered. Batches form by themselves: while one is
//! being committed the next one gathers.
//!
//! It decides who commits and when; what a reply promises has been done when it leaves. A shard whose turns have
//! written little commits it itself when it has done everything else that is ready: nobody has to be woken, which costs
//! more than the commit. Whatever may take long is for the storage thread: a sync, a large batch, and everything for a
//! while after a commit that took long. It does not know vnodes: a turn's writes come with a closure that is told how
//! they ended.
//!
//! Each batch also carries the number of the commit. Beside the database a small file remembers how far
//! commits had come, so that an engine that quietly cut the end off a damaged journal is found out at start.

mod committer;
mod mark;
mod queue;

pub use mark::CommitMark;

use crate::spawner::{Placement, is_shard, start_thread};
use crate::telemetry::Telemetry;
use crate::time::{Clock, HybridClock, Moment};
use bytes::Bytes;
use committer::Committer;
use queue::Queue;
use ringwork_core::store::{KeyspaceId, OpenTree, Store, StoreError, Write};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// Most writes that a shard commits itself: a millisecond or two.
const SHARD_WRITES_MAX: usize = 1024;
/// Most bytes of them.
const SHARD_BYTES_MAX: usize = 256 * 1024;
/// A commit that took this long did not compute: the engine held it back, or was syncing.
const SHARD_PATIENCE: Duration = Duration::from_millis(10);
/// After such a commit the storage thread does them all for this many times as long, so that a shard stands still for
/// at most this part of its time, whatever the disk does; and where it was the machine that was busy, it is over soon.
const SHARD_PAUSE_TIMES: u32 = 20;
/// But no longer.
const SHARD_PAUSE_MAX: Duration = Duration::from_secs(5);
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
    /// Wakes a committer that runs as a task.
    wake: Option<Notify>,
    stopping: AtomicBool,
    failed: watch::Sender<Option<StoreError>>,
    /// Whoever has it commits; what waits is taken out by nobody else, so that commits have the order of the queue.
    /// Empty when nobody commits any more.
    desk: Mutex<Option<Desk>>,
    /// Every write waits for a sync, so no shard commits.
    syncs_always: bool,
}

struct Desk {
    committer: Committer,
    /// Until then no shard commits.
    shards_pause_until: Moment,
}

thread_local! {
    /// The storage for which this thread is going to commit when it has done what is ready, as the address of what its
    /// clones share; 0 for none.
    static GOING_TO_COMMIT: Cell<usize> = const { Cell::new(0) };
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Option<Desk>> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: StoreError) {
        self.stopping.store(true, Ordering::Relaxed);
        self.failed.send_replace(Some(error));
    }

    /// Commits what waits and does what is due. The pause until the next duty; none when all is done and nothing will
    /// follow.
    fn work(&self) -> Option<Duration> {
        let mut desk = self.desk();
        let committer = &mut desk.as_mut()?.committer;
        committer.commit_all(self, self.queue.take());
        committer.do_duties(self);
        if self.stopping.load(Ordering::Relaxed) && !committer.is_unsynced() && self.queue.end_if_empty() {
            return None;
        }
        Some(committer.time_to_next_duty())
    }

    fn run_as_thread(&self) {
        let mut pause = Some(Duration::ZERO);
        while let Some(patience) = pause {
            self.queue.wait_within(patience);
            pause = self.work();
        }
    }

    async fn run_as_task(&self) {
        let Some(wake) = &self.wake else { return };
        loop {
            // As long as a commit takes, more may come to be committed with it.
            let delay = self.desk().as_ref().map_or(Duration::ZERO, |desk| desk.committer.simulated_delay());
            if !delay.is_zero() && !self.queue.is_empty() {
                tokio::time::sleep(delay).await;
            }
            let Some(patience) = self.work() else { return };
            if self.queue.is_empty() {
                let _ = tokio::time::timeout(patience, wake.notified()).await;
            }
        }
    }

    /// For a shard: commits what waits, if that is little and nobody else is at it; otherwise the thread does.
    fn work_here(self: &Arc<Self>) {
        let _tenure = Tenure::shared(self);
        let Ok(mut desk) = self.desk.try_lock() else { return self.queue.call() };
        let Some(Desk { committer, shards_pause_until }) = desk.as_mut() else { return };
        let begun = committer.now();
        if begun < *shards_pause_until {
            return self.queue.call();
        }
        let Some(entries) = committer.take_little(&self.queue, SHARD_WRITES_MAX, SHARD_BYTES_MAX) else {
            return self.queue.call();
        };
        let was_unsynced = committer.is_unsynced();
        committer.commit_all(self, entries);
        let ended = committer.now();
        let took = ended.saturating_sub(begun);
        if took > SHARD_PATIENCE {
            *shards_pause_until = ended + (took * SHARD_PAUSE_TIMES).min(SHARD_PAUSE_MAX);
        }
        if committer.is_unsynced() && !was_unsynced {
            // It has to know that there will be something to sync.
            self.queue.call();
        }
    }
}

/// This thread is going to commit. However that ends, what is written after it needs another going; what waits when the
/// thread ends before is found by the storage thread, which looks once a second.
struct Going(Arc<Shared>);

impl Drop for Going {
    fn drop(&mut self) {
        if GOING_TO_COMMIT.get() == Arc::as_ptr(&self.0) as usize {
            GOING_TO_COMMIT.set(0);
        }
    }
}

/// However committing ends: nobody waits for what will not come. What waits is dropped unanswered, and whoever waits
/// for it is told so by that.
struct Tenure {
    shared: Arc<Shared>,
    /// It is the last one: nobody commits after it.
    last: bool,
}

impl Tenure {
    fn shared(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone(), last: false }
    }

    fn last(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone(), last: true }
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        if panicking {
            self.shared.fail(StoreError::Broken("a commit has ended with a panic".to_owned()));
        }
        if panicking || self.last {
            let desk = self.shared.desk().take();
            drop((desk, self.shared.queue.end()));
            self.shared.queue.call();
        }
    }
}

#[derive(Default)]
struct Gauge {
    writes: AtomicUsize,
    bytes: AtomicUsize,
}

impl Storage {
    /// Starts committing to `store`: on a thread and the shards, or in a task of the current thread where everything
    /// runs there.
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
        let as_task = placement == Placement::Here;
        let clocks = (clock, hybrid);
        let committer =
            Committer::starting(store, (node, mark), (number, latest_ms), durability, clocks, telemetry);
        let shared = Arc::new(Shared {
            queue: Queue::default(),
            waiting: Gauge::default(),
            limits,
            wake: as_task.then(Notify::new),
            stopping: AtomicBool::new(false),
            failed: watch::Sender::new(None),
            desk: Mutex::new(Some(Desk { committer, shards_pause_until: Moment::ZERO })),
            syncs_always: durability == Durability::Sync,
        });
        let tenure = Tenure::last(&shared);
        if as_task {
            actix_rt::spawn(async move { tenure.shared.run_as_task().await });
        } else {
            start_thread("storage", move || tenure.shared.run_as_thread())
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

    /// Hands writes over, to be applied together; no writes is a wait for those before. `done` runs where
    /// they are committed, in the order of submission: it must be short.
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
        } else if sync || self.0.syncs_always || !is_shard() {
            self.0.queue.call();
        } else {
            self.commit_here_later();
        }
    }

    /// Has this thread commit when it has done what is ready, and with it what comes until then.
    fn commit_here_later(&self) {
        let this = Arc::as_ptr(&self.0) as usize;
        if GOING_TO_COMMIT.replace(this) == this {
            return;
        }
        let going = Going(self.0.clone());
        actix_rt::spawn(async move {
            let shared = going.0.clone();
            drop(going);
            shared.work_here();
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::NumberFile;
    use crate::spawner::Spawner;
    use crate::time::TimeSource;
    use ringwork_core::store::TreeSlot;
    use ringwork_core::store::memory::MemoryStore;
    use std::sync::atomic::AtomicU64;
    use std::thread::ThreadId;

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

    fn start(store: impl Store, durability: Durability, clock: Clock) -> (Storage, TreeSlot) {
        let slot = store.open(&KeyspaceId::Node).unwrap().slot;
        let clocks = (clock.clone(), Arc::new(HybridClock::new(clock)));
        let limits = QueueLimits { writes_max: 100, bytes_max: 10_000 };
        let (store, placement) = (Arc::new(store), Placement::Own(1));
        let started = Storage::start(store, durability, limits, placement, clocks, Arc::default(), None);
        (started.unwrap(), slot)
    }

    #[test]
    fn a_committer_that_panics_leaves_nobody_waiting_and_says_that_the_store_has_failed() {
        let (storage, slot) = start(Panics(MemoryStore::new()), Durability::Os, Clock::system());
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
    fn a_shard_whose_commit_panics_leaves_nobody_waiting_either() {
        actix_rt::System::new().block_on(async {
            let (storage, slot) = start(Panics(MemoryStore::new()), Durability::Os, Clock::system());
            let spawner = Spawner::start(Placement::Adopted(1), 1, 1).unwrap();
            spawner.adopt_current_thread();
            let submit = || {
                let (told, hears) = oneshot::channel();
                let write = Write { tree: slot, key: Bytes::from_static(b"k"), value: Some(Bytes::new()) };
                storage.submit(vec![write], false, move |result| {
                    let _ = told.send(result.is_ok());
                });
                hears
            };
            let waiting: Vec<_> = (0..5).map(|_| submit()).collect();
            for hears in waiting {
                // As long as it takes to be sure that it takes for ever.
                let heard = tokio::time::timeout(Duration::from_secs(20), hears).await;
                assert_ne!(heard.expect("who waited is told or dropped"), Ok(true));
            }
            let failure = tokio::time::timeout(Duration::from_secs(20), storage.failure()).await;
            assert!(failure.expect("the store has failed").to_string().contains("panic"));
            assert_ne!(submit().await, Ok(true), "and nobody who comes later");
            assert!(!storage.has_room());
            spawner.stop();
        });
    }

    #[test]
    fn what_a_thread_was_going_to_commit_when_it_ended_is_committed_by_the_storage_thread() {
        let (storage, slot) = start(MemoryStore::new(), Durability::Os, Clock::system());
        let (told, hears) = std::sync::mpsc::channel();
        let system = actix_rt::System::new();
        system.block_on(async {
            let spawner = Spawner::start(Placement::Adopted(1), 1, 1).unwrap();
            spawner.adopt_current_thread();
            let write = Write { tree: slot, key: Bytes::from_static(b"k"), value: Some(Bytes::new()) };
            storage.submit(vec![write], false, move |_| {
                let _ = told.send(std::thread::current().id());
            });
            spawner.stop();
        });
        assert_eq!(GOING_TO_COMMIT.get(), Arc::as_ptr(&storage.0) as usize, "it has not come to it");
        drop(system);
        assert_eq!(GOING_TO_COMMIT.get(), 0);
        let by = hears.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_ne!(by, std::thread::current().id());
    }

    /// A commit takes as long as is said, on a clock that moves by that alone.
    struct Takes(MemoryStore, Arc<AtomicU64>, Arc<AtomicU64>);

    impl Store for Takes {
        fn open(&self, keyspace: &KeyspaceId) -> Result<OpenTree, StoreError> {
            self.0.open(keyspace)
        }
        fn keyspaces(&self) -> Result<Vec<KeyspaceId>, StoreError> {
            self.0.keyspaces()
        }
        fn commit(&self, writes: &mut Vec<Write>) -> Result<(), StoreError> {
            self.2.fetch_add(self.1.load(Ordering::SeqCst), Ordering::SeqCst);
            self.0.commit(writes)
        }
        fn sync(&self) -> Result<(), StoreError> {
            self.0.sync()
        }
        fn drop_keyspace(&self, keyspace: &KeyspaceId) -> Result<(), StoreError> {
            self.0.drop_keyspace(keyspace)
        }
    }

    struct Milliseconds(Arc<AtomicU64>);

    impl TimeSource for Milliseconds {
        fn wall_ms(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
        fn moment(&self) -> Moment {
            Duration::from_millis(self.0.load(Ordering::SeqCst))
        }
    }

    /// On which thread a write of so many bytes was committed.
    async fn committed_on(storage: &Storage, slot: TreeSlot, bytes: usize, sync: bool) -> ThreadId {
        let (told, hears) = oneshot::channel();
        let value = Some(Bytes::from(vec![7; bytes]));
        storage.submit(
            vec![Write { tree: slot, key: Bytes::from_static(b"k"), value }],
            sync,
            move |result| {
                let _ = told.send(result.map(|_| std::thread::current().id()));
            },
        );
        hears.await.unwrap().unwrap()
    }

    #[test]
    fn a_shard_commits_little_itself_and_leaves_to_the_thread_what_may_take_long() {
        actix_rt::System::new().block_on(async {
            let (takes, now) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let store = Takes(MemoryStore::new(), takes.clone(), now.clone());
            let clock = Clock::of(Arc::new(Milliseconds(now.clone())));
            let (storage, slot) = start(store, Durability::Interval(Duration::from_secs(3600)), clock);
            let here = std::thread::current().id();
            assert_ne!(committed_on(&storage, slot, 1, false).await, here, "this thread is no shard yet");
            // The thread may be about to leave the desk, or have been told that there is something to sync. It answers
            // before it leaves, and on one processor may be set aside for whoever it has answered, each time.
            let until_here = async || {
                for _ in 0..1000 {
                    if committed_on(&storage, slot, 1, false).await == here {
                        return true;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                false
            };
            let spawner = Spawner::start(Placement::Adopted(1), 1, 1).unwrap();
            spawner.adopt_current_thread();
            assert!(until_here().await);
            assert_ne!(committed_on(&storage, slot, 1, true).await, here, "a sync");
            assert_ne!(committed_on(&storage, slot, SHARD_BYTES_MAX + 1, false).await, here, "many bytes");
            assert!(until_here().await);

            takes.store(SHARD_PATIENCE.as_millis() as u64 + 1, Ordering::SeqCst);
            assert!(until_here().await, "nobody knew");
            takes.store(0, Ordering::SeqCst);
            assert_ne!(
                committed_on(&storage, slot, 1, false).await,
                here,
                "the engine is slow at the moment"
            );
            let pause = SHARD_PAUSE_TIMES as u64 * (SHARD_PATIENCE.as_millis() as u64 + 1);
            now.fetch_add(pause - 1, Ordering::SeqCst);
            assert_ne!(
                committed_on(&storage, slot, 1, false).await,
                here,
                "it stands still a twentieth at most"
            );
            now.fetch_add(1, Ordering::SeqCst);
            assert!(until_here().await);

            takes.store(60_000, Ordering::SeqCst);
            assert!(until_here().await);
            takes.store(0, Ordering::SeqCst);
            assert_ne!(committed_on(&storage, slot, 1, false).await, here);
            now.fetch_add(SHARD_PAUSE_MAX.as_millis() as u64, Ordering::SeqCst);
            assert!(until_here().await, "a minute is not paid for with twenty");
            storage.stop().await.unwrap();
            spawner.stop();
        });
    }

    #[test]
    fn with_durability_sync_no_shard_waits_for_the_disk() {
        actix_rt::System::new().block_on(async {
            let (storage, slot) = start(MemoryStore::new(), Durability::Sync, Clock::system());
            let spawner = Spawner::start(Placement::Adopted(1), 1, 1).unwrap();
            spawner.adopt_current_thread();
            assert_ne!(committed_on(&storage, slot, 1, false).await, std::thread::current().id());
            storage.stop().await.unwrap();
            spawner.stop();
        });
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
