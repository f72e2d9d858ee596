//! A store in memory with the crash semantics of a disk: what was committed but not synced can be lost, on
//! demand. It decides nothing about durability; it is what tests, simulations and trial runs keep their data
//! in. It keeps nothing across the life of the process.

use super::{
    Direction, Flow, KeyRange, KeyspaceId, OpenTree, Store, StoreError, Tree, TreeSlot, Visit, Write,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

type Map = BTreeMap<Bytes, Bytes>;

/// See the module's head. Cheap to clone; clones share the data, so one handle can outlive the node whose
/// "disk" it is.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    slots: Vec<Option<(KeyspaceId, Arc<Cell>)>>,
    /// What has to be put back, a list for each commit, newest last, when the machine dies now.
    unsynced: Vec<Vec<(TreeSlot, Bytes, Option<Bytes>)>>,
    /// Nobody will ask for a crash, so nothing is remembered for one.
    never_crashes: bool,
}

#[derive(Default)]
struct Cell(RwLock<Arc<Map>>);

impl Cell {
    fn read(&self) -> Arc<Map> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, key: &Bytes, value: Option<Bytes>) -> Option<Bytes> {
        let mut guard = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let map = Arc::make_mut(&mut guard);
        match value {
            Some(value) => map.insert(key.clone(), value),
            None => map.remove(key),
        }
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that cannot play a crash, and does not keep what that would take.
    pub fn without_crashes() -> Self {
        let store = Self::default();
        store.inner().never_crashes = true;
        store
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine loses power: everything committed since the last sync is gone.
    pub fn lose_unsynced(&self) {
        self.lose_unsynced_but(0);
    }

    /// The machine loses power when the disk had written the first `kept` of the commits since the last sync: the
    /// others are gone. A journal is written in order, so what is lost is always an end.
    pub fn lose_unsynced_but(&self, kept: usize) {
        let mut inner = self.inner();
        let commits = std::mem::take(&mut inner.unsynced);
        for (slot, key, old) in commits.into_iter().skip(kept).flatten().rev() {
            if let Some(Some((_, cell))) = inner.slots.get(slot.0 as usize) {
                cell.replace(&key, old);
            }
        }
    }

    /// The disk is gone, and there is an empty one in its place.
    pub fn lose_everything(&self) {
        let mut inner = self.inner();
        inner.unsynced.clear();
        inner.slots.clear();
    }

    /// Commits since the last sync.
    pub fn unsynced_commits(&self) -> usize {
        self.inner().unsynced.len()
    }
}

impl Store for MemoryStore {
    fn open(&self, keyspace: &KeyspaceId) -> Result<OpenTree, StoreError> {
        let mut inner = self.inner();
        let found = inner.slots.iter().position(|s| s.as_ref().is_some_and(|(id, _)| id == keyspace));
        let position = found.unwrap_or_else(|| {
            inner.slots.push(Some((keyspace.clone(), Arc::default())));
            inner.slots.len() - 1
        });
        let cell = match inner.slots.get(position) {
            Some(Some((_, cell))) => cell.clone(),
            _ => Arc::default(),
        };
        Ok(OpenTree { slot: TreeSlot(position as u32), tree: Arc::new(Live(cell)) })
    }

    fn keyspaces(&self) -> Result<Vec<KeyspaceId>, StoreError> {
        let mut ids: Vec<_> = self.inner().slots.iter().flatten().map(|(id, _)| id.clone()).collect();
        ids.sort();
        Ok(ids)
    }

    fn commit(&self, writes: &mut Vec<Write>) -> Result<(), StoreError> {
        let mut inner = self.inner();
        let mut undo = Vec::with_capacity(if inner.never_crashes { 0 } else { writes.len() });
        for write in writes.drain(..) {
            if let Some(Some((_, cell))) = inner.slots.get(write.tree.0 as usize) {
                let old = cell.replace(&write.key, write.value);
                if !inner.never_crashes {
                    undo.push((write.tree, write.key, old));
                }
            }
        }
        if !undo.is_empty() {
            inner.unsynced.push(undo);
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.inner().unsynced.clear();
        Ok(())
    }

    fn drop_keyspace(&self, keyspace: &KeyspaceId) -> Result<(), StoreError> {
        for slot in &mut self.inner().slots {
            if slot.as_ref().is_some_and(|(id, _)| id == keyspace) {
                *slot = None;
            }
        }
        Ok(())
    }
}

struct Live(Arc<Cell>);

impl Tree for Live {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.read().get(key).cloned())
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StoreError> {
        scan_map(&self.0.read(), range, direction, visit);
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn Tree> {
        Arc::new(Frozen(self.0.read()))
    }
}

struct Frozen(Arc<Map>);

impl Tree for Frozen {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StoreError> {
        scan_map(&self.0, range, direction, visit);
        Ok(())
    }

    fn snapshot(&self) -> Arc<dyn Tree> {
        Arc::new(Self(self.0.clone()))
    }
}

fn scan_map(map: &Map, range: &KeyRange, direction: Direction, visit: Visit<'_>) {
    if range.is_empty() {
        return;
    }
    let (start, end): (Bound<&[u8]>, Bound<&[u8]>) = range.bounds();
    let mut entries = map.range::<[u8], _>((start, end));
    loop {
        let next = match direction {
            Direction::Ascending => entries.next(),
            Direction::Descending => entries.next_back(),
        };
        match next {
            Some((key, value)) if visit(key, value) == Flow::Continue(()) => {}
            _ => return,
        }
    }
}
