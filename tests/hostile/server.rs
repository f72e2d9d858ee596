//! A node of the test's own in this process: started on a free port, stopped when the test ends, and watched for
//! panics on its threads.

use crate::client::Connection;
use ringwork::core::store::memory::MemoryStore;
use ringwork::core::store::{KeyspaceId, OpenTree, Store, StoreError, Write};
use ringwork::server::{Served, serve, serve_given};
use ringwork::settings::{Engine, Settings};
use serde_json::Value;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, Once, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Beyond this nothing here may take; far more than anything needs, so that a slow machine is no failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Ten thousand clients, the node's ends of their connections, and what else is open.
const OPEN_FILES: u64 = 20_600;

/// The panics on threads of nodes; each begins with the thread's name.
static PANICKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Who measures the whole process must be alone in it.
static TURNS: RwLock<()> = RwLock::new(());

/// Leave to run while held, alone or beside others.
pub(crate) enum Turn {
    #[expect(dead_code, reason = "held, not read")]
    Shared(RwLockReadGuard<'static, ()>),
    #[expect(dead_code, reason = "held, not read")]
    Alone(RwLockWriteGuard<'static, ()>),
}

impl Turn {
    /// While no other test of this process runs.
    pub(crate) fn alone() -> Self {
        Self::Alone(TURNS.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A node that listens. Dropped, it is stopped in peace.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// How the names of its threads begin.
    threads: String,
    _turn: Turn,
}

/// The default settings, but in memory and on a free port.
pub(crate) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.http.address = SocketAddr::from(([127, 0, 0, 1], 0));
    settings.cluster.address = SocketAddr::from(([127, 0, 0, 1], 0));
    settings.store.engine = Engine::Memory;
    settings
}

impl TestServer {
    /// Starts a node.
    pub(crate) fn start(settings: Settings) -> Self {
        Self::start_with(settings, None, false)
    }

    /// Starts a node over a store of the test's.
    pub(crate) fn start_over(settings: Settings, store: Arc<dyn Store>) -> Self {
        Self::start_with(settings, Some(store), false)
    }

    /// As [`Self::start_over`], while no other test runs.
    pub(crate) fn start_alone_over(settings: Settings, store: Arc<dyn Store>) -> Self {
        Self::start_with(settings, Some(store), true)
    }

    fn start_with(settings: Settings, store: Option<Arc<dyn Store>>, alone: bool) -> Self {
        note_panics();
        open_files_max();
        let turn = match alone {
            true => Turn::alone(),
            false => Turn::Shared(TURNS.read().unwrap_or_else(PoisonError::into_inner)),
        };
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("test-server".into()).spawn(move || {
            actix_rt::System::new().block_on(async move {
                let served: Served = match store {
                    Some(store) => serve_given(&settings, store).await,
                    None => serve(&settings).await,
                }
                .expect("the node starts");
                let threads = format!("actix-rt|system:{}|", actix_rt::System::current().id());
                tell.send((served.address(), threads)).expect("the test waits for the address");
                let _ = stopped.await;
                served.stop().await.expect("the node stops in peace");
            });
        });
        let (address, threads) = told.recv_timeout(DEADLINE).expect("the node listens");
        let (stop, thread) = (Some(stop), Some(thread.expect("a thread")));
        Self { address, stop, thread, threads, _turn: turn }
    }

    /// Tells the node to stop, and does not wait.
    pub(crate) fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// What the node says of itself.
    pub(crate) async fn status(&self) -> Value {
        Connection::open(self.address).await.get("/admin/status").await.json()
    }

    /// Asserts that nothing in the node has panicked, on any of its threads, and that no turn failed.
    pub(crate) async fn assert_unharmed(&self) {
        let counters = &self.status().await["counters"];
        for name in ["vnode_panics", "vnode_errors", "vnode_restarts", "vnode_start_failures"] {
            assert_eq!(counters[name], 0, "{name}");
        }
        assert_eq!(self.panics(), 0, "a thread of the node panicked");
    }

    /// How often a thread of this node's has panicked. Storage and pool threads do not say whose they are.
    pub(crate) fn panics(&self) -> usize {
        let panicked = PANICKED.lock().unwrap_or_else(PoisonError::into_inner);
        panicked
            .iter()
            .filter(|name| name.starts_with(&self.threads) || name.starts_with("ringwork-"))
            .count()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.begin_stop();
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        assert!(ended.is_ok() || std::thread::panicking(), "the node ended in a panic");
    }
}

/// Raises the limit on open files as far as these tests have use for it, or as far as the machine allows, and
/// says where it is.
pub(crate) fn open_files_max() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let files = rlimit::Resource::NOFILE;
        let (soft, hard) = files.get().expect("the limit on open files can be read");
        // Who may raise the hard limit raises it as well; nobody else needs to.
        if soft < OPEN_FILES && files.set(OPEN_FILES, hard.max(OPEN_FILES)).is_err() {
            return rlimit::increase_nofile_limit(OPEN_FILES).expect("anybody may go up to the hard limit");
        }
        soft.max(OPEN_FILES)
    })
}

fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            if name.starts_with("actix-rt") || name.starts_with("ringwork") {
                PANICKED.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name}: {info}"));
            } else {
                before(info);
            }
        }));
    });
}

/// Runs the clients of a test on one thread.
pub(crate) fn run<T>(clients: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(clients)
}

/// Waits for what must end, and says what did not.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Memory that takes its time to commit, as a disk under load does, or commits nothing until it may.
#[derive(Clone)]
pub(crate) struct SlowStore {
    inner: MemoryStore,
    commit_ms: Arc<AtomicU64>,
    held: Arc<(Mutex<bool>, Condvar)>,
}

impl SlowStore {
    pub(crate) fn new(commit_ms: u64) -> Self {
        Self {
            inner: MemoryStore::new(),
            commit_ms: Arc::new(AtomicU64::new(commit_ms)),
            held: Arc::default(),
        }
    }

    pub(crate) fn take_from_now_on(&self, commit_ms: u64) {
        self.commit_ms.store(commit_ms, Ordering::SeqCst);
    }

    /// Keeps every commit, and the thread that makes it, from now on until they are let go. A shard that commits would
    /// be kept with all its connections: the node's durability must be `sync`, so that the storage thread commits.
    pub(crate) fn hold(&self) {
        *self.held() = true;
    }

    pub(crate) fn let_go(&self) {
        *self.held() = false;
        self.held.1.notify_all();
    }

    fn held(&self) -> MutexGuard<'_, bool> {
        self.held.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for SlowStore {
    fn open(&self, keyspace: &KeyspaceId) -> Result<OpenTree, StoreError> {
        self.inner.open(keyspace)
    }
    fn keyspaces(&self) -> Result<Vec<KeyspaceId>, StoreError> {
        self.inner.keyspaces()
    }
    fn commit(&self, writes: &mut Vec<Write>) -> Result<(), StoreError> {
        std::thread::sleep(Duration::from_millis(self.commit_ms.load(Ordering::SeqCst)));
        // A test that failed meanwhile does not let go, and its node must still end.
        drop(self.held.1.wait_timeout_while(self.held(), DEADLINE, |held| *held));
        self.inner.commit(writes)
    }
    fn sync(&self) -> Result<(), StoreError> {
        self.inner.sync()
    }
    fn drop_keyspace(&self, keyspace: &KeyspaceId) -> Result<(), StoreError> {
        self.inner.drop_keyspace(keyspace)
    }
}
