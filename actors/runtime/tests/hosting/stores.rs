//! Stores that are slow, stand still, or fail.

use ringwork_core::store::memory::MemoryStore;
use ringwork_core::store::{KeyspaceId, OpenTree, Store, StoreError, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Memory that takes its time, as a disk under load does.
pub(crate) struct SlowStore {
    pub(crate) inner: MemoryStore,
    pub(crate) commit_ms: Arc<AtomicU64>,
}

impl Store for SlowStore {
    fn open(&self, keyspace: &KeyspaceId) -> Result<OpenTree, StoreError> {
        self.inner.open(keyspace)
    }
    fn keyspaces(&self) -> Result<Vec<KeyspaceId>, StoreError> {
        self.inner.keyspaces()
    }
    fn commit(&self, writes: &mut Vec<Write>) -> Result<(), StoreError> {
        std::thread::sleep(Duration::from_millis(self.commit_ms.load(Ordering::Relaxed)));
        self.inner.commit(writes)
    }
    fn sync(&self) -> Result<(), StoreError> {
        self.inner.sync()
    }
    fn drop_keyspace(&self, keyspace: &KeyspaceId) -> Result<(), StoreError> {
        self.inner.drop_keyspace(keyspace)
    }
}

/// A store whose commits fail from some point on.
pub(crate) struct FailingStore {
    pub(crate) inner: MemoryStore,
    pub(crate) commits_left: AtomicU64,
}

impl Store for FailingStore {
    fn open(&self, keyspace: &KeyspaceId) -> Result<OpenTree, StoreError> {
        self.inner.open(keyspace)
    }
    fn keyspaces(&self) -> Result<Vec<KeyspaceId>, StoreError> {
        self.inner.keyspaces()
    }
    fn commit(&self, writes: &mut Vec<Write>) -> Result<(), StoreError> {
        if self.commits_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err()
        {
            return Err(StoreError::Broken("no space left on the test's device".into()));
        }
        self.inner.commit(writes)
    }
    fn sync(&self) -> Result<(), StoreError> {
        self.inner.sync()
    }
    fn drop_keyspace(&self, keyspace: &KeyspaceId) -> Result<(), StoreError> {
        self.inner.drop_keyspace(keyspace)
    }
}

/// What commits wait for while it is closed.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn close(&self) {
        *self.0.0.lock().unwrap() = true;
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = false;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let closed = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(closed, |closed| *closed).unwrap());
    }
}

/// Memory whose commits wait for a gate.
pub(crate) struct GatedStore {
    pub(crate) inner: MemoryStore,
    pub(crate) gate: Gate,
}

impl Store for GatedStore {
    fn open(&self, keyspace: &KeyspaceId) -> Result<OpenTree, StoreError> {
        self.inner.open(keyspace)
    }
    fn keyspaces(&self) -> Result<Vec<KeyspaceId>, StoreError> {
        self.inner.keyspaces()
    }
    fn commit(&self, writes: &mut Vec<Write>) -> Result<(), StoreError> {
        self.gate.pass();
        self.inner.commit(writes)
    }
    fn sync(&self) -> Result<(), StoreError> {
        self.inner.sync()
    }
    fn drop_keyspace(&self, keyspace: &KeyspaceId) -> Result<(), StoreError> {
        self.inner.drop_keyspace(keyspace)
    }
}
