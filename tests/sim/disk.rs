//! A machine's disk: a store in memory that outlives the node's process and forgets what was not synced when the
//! machine dies, and a real directory for the small files that a node keeps beside it. It can be made slow, made to
//! fail, and made to panic in the vnode that reads it.

use bytes::Bytes;
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::store::memory::MemoryStore;
use ringwork_core::store::{
    Direction, KeyRange, KeyspaceId, OpenTree, Store, StoreError, Tree, Visit, Write,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// One machine's disk.
pub struct Disk {
    /// What is on it.
    pub memory: MemoryStore,
    /// Its faults.
    pub faults: Arc<DiskFaults>,
    directory: TempDir,
    machine_boots: AtomicU32,
}

/// What is wrong with a disk.
#[derive(Default)]
pub struct DiskFaults {
    /// The next commit fails, and all after it until the node is started again.
    pub fails: AtomicBool,
    /// The next read in a vnode's turn panics.
    pub panics: AtomicBool,
    /// How long each commit takes.
    pub delay_ms: AtomicU64,
    /// How long it takes at least.
    pub usual_ms: AtomicU64,
    /// Commits that failed.
    pub failed: AtomicU64,
    /// Reads that panicked.
    pub panicked: AtomicU64,
    /// Commits that were slow.
    pub delayed: AtomicU64,
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Self {
        let shared = std::path::Path::new("/dev/shm");
        // Small files by the thousand: in memory where the system has such a place.
        let directory =
            if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
        Self {
            memory: MemoryStore::new(),
            faults: Arc::default(),
            directory,
            machine_boots: AtomicU32::new(1),
        }
    }

    /// Where the small files are.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Names the machine's life.
    pub fn machine_boot(&self) -> String {
        format!("simulated-{}", self.machine_boots.load(Ordering::Relaxed))
    }

    /// The machine dies when it has written `kept` of the commits that were not synced.
    pub fn lose_power(&self, kept: usize) {
        self.memory.lose_unsynced_but(kept);
        self.machine_boots.fetch_add(1, Ordering::Relaxed);
    }

    /// The machine gets a new disk. What the node keeps beside its store is gone with it but for its identity, and,
    /// where that is kept, its ring.
    pub fn wipe(&self, keep_ring: bool) {
        self.memory.lose_everything();
        for file in std::fs::read_dir(self.directory()).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let kept = name == "identity" || (keep_ring && name == "ring");
            if !kept && name != "lock" {
                let _ = std::fs::remove_file(file.path());
            }
        }
        self.machine_boots.fetch_add(1, Ordering::Relaxed);
    }

    /// The store for the next life of the node; what failed before works again.
    pub fn store(&self) -> Arc<dyn Store> {
        self.faults.fails.store(false, Ordering::Relaxed);
        self.faults.panics.store(false, Ordering::Relaxed);
        Arc::new(DiskStore { memory: self.memory.clone(), faults: self.faults.clone() })
    }
}

struct DiskStore {
    memory: MemoryStore,
    faults: Arc<DiskFaults>,
}

impl Store for DiskStore {
    fn open(&self, keyspace: &KeyspaceId) -> Result<OpenTree, StoreError> {
        let opened = self.memory.open(keyspace)?;
        if *keyspace == KeyspaceId::Node {
            return Ok(opened);
        }
        let tree = Arc::new(Panicking { tree: opened.tree, faults: self.faults.clone() });
        Ok(OpenTree { slot: opened.slot, tree })
    }

    fn keyspaces(&self) -> Result<Vec<KeyspaceId>, StoreError> {
        self.memory.keyspaces()
    }

    fn commit(&self, writes: &mut Vec<Write>) -> Result<(), StoreError> {
        if self.faults.fails.load(Ordering::Relaxed) {
            self.faults.failed.fetch_add(1, Ordering::Relaxed);
            return Err(StoreError::Broken("No space left on device (simulated)".into()));
        }
        self.memory.commit(writes)
    }

    fn sync(&self) -> Result<(), StoreError> {
        if planted(Mutant::SkipSync) {
            return Ok(());
        }
        self.memory.sync()
    }

    fn drop_keyspace(&self, keyspace: &KeyspaceId) -> Result<(), StoreError> {
        self.memory.drop_keyspace(keyspace)
    }

    fn simulated_delay(&self) -> Duration {
        let (delay, usual) = (&self.faults.delay_ms, &self.faults.usual_ms);
        let (delay, usual) = (delay.load(Ordering::Relaxed), usual.load(Ordering::Relaxed));
        self.faults.delayed.fetch_add(u64::from(delay > 0), Ordering::Relaxed);
        Duration::from_millis(delay.max(usual))
    }
}

struct Panicking {
    tree: Arc<dyn Tree>,
    faults: Arc<DiskFaults>,
}

impl Panicking {
    fn now_or_never(&self) {
        if self.faults.panics.swap(false, Ordering::Relaxed) {
            self.faults.panicked.fetch_add(1, Ordering::Relaxed);
            std::panic::panic_any(Planted);
        }
    }
}

/// The payload of the panics that are wanted here.
pub struct Planted;

impl Tree for Panicking {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.now_or_never();
        self.tree.get(key)
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StoreError> {
        self.now_or_never();
        self.tree.scan(range, direction, visit)
    }

    fn snapshot(&self) -> Arc<dyn Tree> {
        self.tree.snapshot()
    }
}
