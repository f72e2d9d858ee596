//! Who runs where. One value decides on which thread an actor starts, and owns every thread of the node that
//! is not an HTTP worker. Vnodes live on the *shards*: threads that also run HTTP handlers, because a message
//! within a thread costs a fifth of a microsecond and one across threads a wake-up of seven. In a simulation
//! everything runs on the one thread there is.

use actix_rt::{Arbiter, ArbiterHandle};
use crossbeam_channel::{Sender, TrySendError, bounded};
use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// How often, and how many times, work that waits for its turn looks for room on the pool: half a minute in all.
const TURN_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);
const TURN_TRIES: usize = 3000;

/// How far the thread of the transfers steps back for others when all processors are taken, in the operating system's
/// steps of niceness: whoever serves requests goes first. The pool does not: reads and openings of vnodes wait for it.
const HANDOFF_NICENESS: i32 = 15;

/// Where a node's actors live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// Everything on the calling thread, in its local task set. For simulations and embedded trials.
    Here,
    /// On that many threads of the node's own.
    Own(usize),
    /// On that many threads that somebody else runs (HTTP workers), each of which calls
    /// [`Spawner::adopt_current_thread`].
    Adopted(usize),
}

/// See the module's head. Cheap to clone.
#[derive(Clone)]
pub struct Spawner(Arc<Inner>);

struct Inner {
    placement: Placement,
    shards: Mutex<Vec<ArbiterHandle>>,
    own: Mutex<Vec<Arbiter>>,
    control: Option<ArbiterHandle>,
    handoff: Option<ArbiterHandle>,
    pool: Mutex<Option<Sender<Job>>>,
}

thread_local! {
    static IS_SHARD: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is a shard, of whichever node.
pub(crate) fn is_shard() -> bool {
    IS_SHARD.get()
}

type Job = Box<dyn FnOnce() + Send>;

/// The worker pool has as much waiting as it may. Nothing was run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the worker pool is full")]
pub struct PoolFull;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spawner {
    /// A spawner with its threads started. Needs a running actix system unless `placement` is `Here`.
    pub fn start(placement: Placement, pool_threads: usize, pool_queue_max: usize) -> std::io::Result<Self> {
        let mut own = Vec::new();
        let mut shards = Vec::new();
        let (mut control, mut handoff, mut pool) = (None, None, None);
        if placement != Placement::Here {
            let arbiter = Arbiter::new();
            control = Some(arbiter.handle());
            own.push(arbiter);
            let arbiter = Arbiter::new();
            arbiter.spawn_fn(|| step_back(HANDOFF_NICENESS));
            handoff = Some(arbiter.handle());
            own.push(arbiter);
            let (sender, receiver) = bounded::<Job>(pool_queue_max.max(1));
            for number in 0..pool_threads.max(1) {
                let jobs = receiver.clone();
                start_thread(&format!("pool-{number}"), move || {
                    for job in jobs.iter() {
                        // A job answers for its own panics by dropping its reply handle; the thread lives on.
                        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                    }
                })?;
            }
            pool = Some(sender);
        }
        if let Placement::Own(count) = placement {
            for _ in 0..count.max(1) {
                let arbiter = Arbiter::new();
                arbiter.spawn_fn(|| IS_SHARD.set(true));
                shards.push(arbiter.handle());
                own.push(arbiter);
            }
        }
        Ok(Self(Arc::new(Inner {
            placement,
            shards: Mutex::new(shards),
            own: Mutex::new(own),
            control,
            handoff,
            pool: Mutex::new(pool),
        })))
    }

    /// Makes the calling thread, which must run an actix arbiter, one of the shards.
    pub fn adopt_current_thread(&self) {
        if matches!(self.0.placement, Placement::Adopted(_)) {
            IS_SHARD.set(true);
            locked(&self.0.shards).push(Arbiter::current());
        }
    }

    /// Whether every shard that was announced is there.
    pub fn complete(&self) -> bool {
        match self.0.placement {
            Placement::Here => true,
            Placement::Own(count) | Placement::Adopted(count) => locked(&self.0.shards).len() >= count.max(1),
        }
    }

    /// Runs `start` on the shard for `number`; numbers spread evenly. False when no shard lives.
    pub fn on_shard(&self, number: usize, start: impl FnOnce() + Send + 'static) -> bool {
        if self.0.placement == Placement::Here {
            start();
            return true;
        }
        let mut start: Option<Job> = Some(Box::new(start));
        loop {
            let (place, handle) = {
                let shards = locked(&self.0.shards);
                if shards.is_empty() {
                    return false;
                }
                let place = number % shards.len();
                let Some(handle) = shards.get(place).cloned() else { return false };
                (place, handle)
            };
            // A closure that a dead arbiter refuses is lost, so ask it with an empty one first.
            if handle.spawn_fn(|| ()) {
                return start.take().is_some_and(|start| handle.spawn_fn(start));
            }
            let mut shards = locked(&self.0.shards);
            if place < shards.len() {
                shards.remove(place);
            }
        }
    }

    /// Runs `start` where control actors live: ring manager, vnode masters. False when that thread is gone.
    pub fn on_control(&self, start: impl FnOnce() + Send + 'static) -> bool {
        match &self.0.control {
            Some(control) => control.spawn_fn(start),
            None => {
                start();
                true
            }
        }
    }

    /// Runs `start` where transfers live: their bytes are not to keep heartbeats waiting. False when that thread is
    /// gone.
    pub fn on_handoff(&self, start: impl FnOnce() + Send + 'static) -> bool {
        match &self.0.handoff {
            Some(handoff) => handoff.spawn_fn(start),
            None => {
                start();
                true
            }
        }
    }

    /// Runs `job` on the worker pool, or at once where there is none. Never waits.
    pub fn on_pool(&self, job: impl FnOnce() + Send + 'static) -> Result<(), PoolFull> {
        if self.0.placement == Placement::Here {
            // As on a thread of the pool: whoever gave it the job lives on.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
            return Ok(());
        }
        let sent = match &*locked(&self.0.pool) {
            Some(pool) => pool.try_send(Box::new(job)),
            None => return Err(PoolFull),
        };
        sent.map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => PoolFull,
        })
    }

    /// Runs `job` on the worker pool and waits for its result; an error when the pool is full or the job
    /// panicked.
    pub async fn on_pool_for<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolFull> {
        let (sender, receiver) = oneshot::channel();
        self.on_pool(move || {
            let _ = sender.send(job());
        })?;
        receiver.await.map_err(|_| PoolFull)
    }

    /// As [`Self::on_pool_for`], and waits for room: for work that nobody waits for at a desk.
    pub async fn on_pool_in_turn<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolFull> {
        let job = Arc::new(Mutex::new(Some(job)));
        for _ in 0..TURN_TRIES {
            let (sender, receiver) = oneshot::channel();
            let taken = job.clone();
            let queued = self.on_pool(move || {
                let job = locked(&taken).take();
                if let Some(job) = job {
                    let _ = sender.send(job());
                }
            });
            match queued {
                Ok(()) => return receiver.await.map_err(|_| PoolFull),
                Err(PoolFull) => tokio::time::sleep(TURN_PAUSE).await,
            }
        }
        Err(PoolFull)
    }

    /// Ends the threads that are the node's own. Work on the pool is finished first.
    pub fn stop(&self) {
        locked(&self.0.pool).take();
        for arbiter in locked(&self.0.own).drain(..) {
            arbiter.stop();
        }
        locked(&self.0.shards).clear();
    }
}

/// Lets the calling thread give way to the others. Where the system has no such thing, or does not allow it, all are
/// the same, which costs speed and nothing else.
fn step_back(niceness: i32) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), niceness) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = niceness;
}

/// Starts a named thread of the node's own.
pub(crate) fn start_thread(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(format!("ringwork-{name}")).spawn(body).map(drop)
}
