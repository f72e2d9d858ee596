//! The store on disk: fjall, one database per node with one journal, a keyspace for each vnode's generation. It decides
//! the engine's options and turns its errors into ours; when to commit and sync is decided in `storage`, and what is
//! flushed next in `pace`. What the engine cannot tell by itself is checked here: a database that is missing although
//! this node had one, flushes that stand still, and (by `audit`) files that have changed.

use super::audit::{self, Audit};
use super::pace::{Flushes, Pacer, row_bytes};
use super::rescue::journals;
use bytes::Bytes;
use fjall::compaction::Leveled;
use fjall::{AbstractTree, Database, KeyspaceCreateOptions, PersistMode, Readable};
use ringwork_core::store::{
    Direction, Flow, KeyRange, KeyspaceId, OpenTree, Store, StoreError, Tree, TreeSlot,
};
use ringwork_core::store::{HeldBack, Visit, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// The engine flushes and compacts with this many threads. With one, 3.1.13 was seen to deadlock on its own
/// flush queue. Its first worker never compacts: while the others do, it takes compaction requests out of the
/// queue and puts them back in a busy loop (a quarter of the node's CPU under load with two). Four empty the
/// queue soonest.
const WORKER_THREADS: usize = 4;
/// Journals may take this much; then the engine flushes whatever keeps the oldest, all at once, and for some tenths of
/// a second nothing else gets a processor. `pace` has memtables flushed one by one long before. Read at start, and what
/// was not flushed is replayed, at about 170 000 writes per second: so it bounds the time of a start.
const JOURNAL_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// A keyspace's memtable is flushed at a size between these. The sizes differ from keyspace to keyspace:
/// with equal ones all fill and flush at the same moment (measured: stalls of 400 ms, three times the memory).
const MEMTABLE_BYTES_MIN: u64 = 1024 * 1024;
const MEMTABLE_BYTES_MAX: u64 = 7 * 1024 * 1024;
/// Where sorted tables are cut. The engine's first level below flushed tables takes as many of these as flushed tables
/// are merged at once, and each further level ten times as much. Its own choice, 64 MiB and four, is made for memtables
/// as large as that: of ours, which have a tenth of it and less, every few were merged with all that a vnode has ever
/// kept, up to 256 MiB, so a write cost the more the more there was (2.0 bytes written for each one after 2 million
/// rows, 13 after 20 million; with these 2.0 and 4.7). Smaller ones wrote no less; larger ones are fewer files.
const TABLE_BYTES: u64 = 2 * 1024 * 1024;
/// Flushed tables of a keyspace are merged when there are so many, from keyspace to keyspace another number between
/// these: vnodes are written alike, and with equal ones all are merged at the same time. A read looks into each of
/// them, which is why there are no more. The engine slows writes down at twenty.
const FLUSHED_TABLES_MIN: u8 = 6;
const FLUSHED_TABLES_MAX: u8 = 10;
/// Flushes wait but none has ended for this long: the engine is stuck, and memory would grow for ever.
const FLUSH_STANDSTILL_MS: u64 = 60_000;

/// How to open a disk store.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// Its directory; created when missing.
    pub directory: PathBuf,
    /// Bytes of the block cache.
    pub cache_bytes: u64,
}

/// See the module's head.
pub struct DiskStore {
    /// The first field: its thread has the database open.
    pacer: Pacer,
    directory: PathBuf,
    database: Database,
    slots: Slots,
    progress: Mutex<Progress>,
    /// The last field, because fields are dropped in order: its last pass then sees what a closed database
    /// has left behind.
    audit: Audit,
}

type Slots = Arc<RwLock<Vec<Option<Slot>>>>;

struct Slot {
    id: KeyspaceId,
    keyspace: fjall::Keyspace,
    memtable_bytes_max: u64,
}

/// The engine, as the pacer asks it.
struct Engine {
    database: Database,
    slots: Slots,
}

impl Flushes for Engine {
    fn flush(&self, slot: usize) {
        let keyspace = {
            let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
            slots.get(slot).and_then(Option::as_ref).map(|slot| slot.keyspace.clone())
        };
        let Some(keyspace) = keyspace else { return };
        // A write that follows meets the same, and says so to whoever waits for it. The engine meets some kinds of
        // damage with a panic; the thread that asks goes on, or all would be flushed at once again.
        match catch_unwind(AssertUnwindSafe(|| keyspace.rotate_memtable())) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(error = reason(&error), "a memtable cannot be flushed"),
            Err(_) => tracing::error!("the engine panicked when a memtable was to be flushed"),
        }
    }

    fn is_busy(&self, slot: usize) -> bool {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let keyspace = slots.get(slot).and_then(Option::as_ref).map(|slot| &slot.keyspace);
        self.database.outstanding_flushes() > 0
            || keyspace.is_some_and(|keyspace| keyspace.tree.sealed_memtable_count() > 0)
    }
}

/// Flushes that wait, tables, compactions that have ended; all 0 while nothing waits.
type Seen = (usize, usize, usize);

#[derive(Default)]
struct Progress {
    seen: Seen,
    since_ms: u64,
}

impl DiskStore {
    /// Opens the database, or creates it. With `expected` it must be there: this node had one.
    pub fn open(options: &DiskOptions, expected: bool) -> Result<Self, StoreError> {
        let directory = options.directory.clone();
        if expected && !directory.join("version").exists() {
            return Err(StoreError::Damaged(format!(
                "{} is missing or has lost its file 'version', although this node has kept data there. {}",
                directory.display(),
                way_out(&directory)
            )));
        }
        let checked = audit::check(&directory)?;
        // The engine meets some kinds of damage with a panic.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            Database::builder(&directory)
                .cache_size(options.cache_bytes)
                .worker_threads(WORKER_THREADS)
                .max_journaling_size(JOURNAL_BYTES_MAX)
                .open()
        }));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(fjall::Error::Locked)) => {
                return Err(StoreError::Locked(format!(
                    "{} is in use by another process",
                    directory.display()
                )));
            }
            Ok(Err(error)) => return Err(open_error(&directory, &error)),
            Err(_) => {
                let what = format!(
                    "{} is damaged: the engine found it in a state it cannot read",
                    directory.display()
                );
                return Err(StoreError::Damaged(format!("{what}. {}", way_out(&directory))));
            }
        };
        let audit = checked.start()?;
        let slots = Slots::default();
        let pacer =
            Pacer::start(Engine { database: database.clone(), slots: slots.clone() }).map_err(|e| {
                StoreError::Broken(format!("the thread that has memtables flushed cannot start: {e}"))
            })?;
        Ok(Self { pacer, directory, database, slots, progress: Mutex::default(), audit })
    }

    /// Has the audit take note of all files now.
    #[cfg(test)]
    pub(super) fn audit_now(&self) {
        self.audit.pass_now();
    }

    /// Tables that a keyspace has on the disk.
    #[cfg(test)]
    pub(super) fn tables(&self, keyspace: &KeyspaceId) -> usize {
        let slots = self.slots.read().unwrap();
        slots.iter().flatten().find(|slot| slot.id == *keyspace).map_or(0, |slot| slot.keyspace.table_count())
    }

    /// Flushes a keyspace's memtable, and waits until that is done.
    #[cfg(test)]
    pub(super) fn flush(&self, keyspace: &KeyspaceId) {
        let slots = self.slots.read().unwrap();
        let slot = slots.iter().flatten().find(|slot| slot.id == *keyspace).unwrap();
        slot.keyspace.rotate_memtable_and_wait().unwrap();
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, doing: &str, error: &fjall::Error) -> StoreError {
        let text = format!("{doing} in {}: {}", self.directory.display(), reason(error));
        match error {
            fjall::Error::Io(_) | fjall::Error::Poisoned => StoreError::Broken(text),
            fjall::Error::Storage(fjall_io) if is_io(fjall_io) => StoreError::Broken(text),
            _ => StoreError::Damaged(format!("{text}. {}", way_out(&self.directory))),
        }
    }
}

fn is_io(error: &(dyn std::error::Error + 'static)) -> bool {
    error.source().is_some_and(|source| source.is::<std::io::Error>())
}

/// The engine's own words, without its type's name.
fn reason(error: &fjall::Error) -> String {
    match error {
        fjall::Error::Io(error) => error.to_string(),
        fjall::Error::Poisoned => "an earlier write or flush failed, so the engine takes no more".to_owned(),
        other => format!("{other:?}"),
    }
}

fn open_error(directory: &Path, error: &fjall::Error) -> StoreError {
    let suspect = match error {
        fjall::Error::JournalRecovery(_) | fjall::Error::InvalidTag(_) | fjall::Error::InvalidTrailer => {
            journals(directory).pop().unwrap_or_else(|| directory.to_owned())
        }
        fjall::Error::InvalidVersion(_) => directory.join("version"),
        fjall::Error::Storage(_) => directory.join("keyspaces"),
        _ => directory.to_owned(),
    };
    let text = format!("{} is damaged or cannot be read ({})", suspect.display(), reason(error));
    match error {
        fjall::Error::Io(inner) if inner.kind() != std::io::ErrorKind::UnexpectedEof => {
            StoreError::Broken(text)
        }
        _ => StoreError::Damaged(format!("{text}. {}", way_out(directory))),
    }
}

/// What an operator can do about a damaged store in `directory`.
pub(crate) fn way_out(directory: &Path) -> String {
    let data = directory.parent().unwrap_or(directory).display().to_string();
    let store = directory.display().to_string();
    format!(
        "Way out: restore {data} from a backup; or, when other nodes hold replicas of this node's data, move {store} \
         away and start the node with --rebuild, which fetches its data from them"
    )
}

/// Between the bounds, different from name to name, the same at every start.
pub(super) fn memtable_bytes(name: &str) -> u64 {
    let hash = crc32fast::hash(name.as_bytes());
    MEMTABLE_BYTES_MIN + u64::from(hash) % (MEMTABLE_BYTES_MAX - MEMTABLE_BYTES_MIN)
}

/// The same of the number of flushed tables.
pub(super) fn flushed_tables(name: &str) -> u8 {
    let choices = u32::from(FLUSHED_TABLES_MAX - FLUSHED_TABLES_MIN) + 1;
    let hash = crc32fast::hash(name.as_bytes()) >> 16;
    FLUSHED_TABLES_MIN + (hash % choices) as u8
}

/// How a new keyspace is kept. The engine keeps these with it: an older keyspace stays as it was made.
fn keyspace_options(name: &str) -> KeyspaceCreateOptions {
    let levels =
        Leveled::default().with_l0_threshold(flushed_tables(name)).with_table_target_size(TABLE_BYTES);
    KeyspaceCreateOptions::default()
        .max_memtable_size(memtable_bytes(name))
        .compaction_strategy(Arc::new(levels))
}

impl Store for DiskStore {
    fn open(&self, keyspace: &KeyspaceId) -> Result<OpenTree, StoreError> {
        let name = keyspace.to_string();
        let memtable_bytes_max = memtable_bytes(&name);
        let options = || keyspace_options(&name);
        let handle = {
            let _creation = self.audit.creation();
            self.database.keyspace(&name, options).map_err(|e| self.error(&format!("opening {name}"), &e))?
        };
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let found = slots.iter().position(|slot| slot.as_ref().is_some_and(|slot| slot.id == *keyspace));
        let position = found.unwrap_or_else(|| {
            slots.push(Some(Slot { id: keyspace.clone(), keyspace: handle.clone(), memtable_bytes_max }));
            slots.len() - 1
        });
        let tree = DiskTree {
            database: self.database.clone(),
            keyspace: handle,
            directory: self.directory.clone(),
            frozen: None,
        };
        Ok(OpenTree { slot: TreeSlot(position as u32), tree: Arc::new(tree) })
    }

    fn keyspaces(&self) -> Result<Vec<KeyspaceId>, StoreError> {
        let names = self.database.list_keyspace_names();
        let mut ids: Vec<_> = names.iter().filter_map(|name| KeyspaceId::parse(name)).collect();
        ids.sort();
        Ok(ids)
    }

    fn commit(&self, writes: &mut Vec<Write>) -> Result<(), StoreError> {
        // `Buffer` hands the batch to the operating system; without a mode it may stay in the process.
        let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
        let mut written = Vec::with_capacity(writes.len());
        {
            let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
            for write in writes.drain(..) {
                let number = write.tree.0 as usize;
                let Some(Some(Slot { keyspace, memtable_bytes_max, .. })) = slots.get(number) else {
                    continue;
                };
                let bytes = row_bytes(write.key.len(), write.value.as_ref().map_or(0, Bytes::len));
                written.push((number, bytes, *memtable_bytes_max));
                match write.value {
                    Some(value) => batch.insert(keyspace, write.key.as_ref(), value.as_ref()),
                    None => batch.remove(keyspace, write.key.as_ref()),
                }
            }
        }
        batch.commit().map_err(|e| self.error("writing", &e))?;
        self.pacer.written(written.into_iter());
        Ok(())
    }

    fn held_back(&self) -> HeldBack {
        self.pacer.held_back()
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncData).map_err(|e| self.error("syncing", &e))
    }

    fn drop_keyspace(&self, keyspace: &KeyspaceId) -> Result<(), StoreError> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        for (number, slot) in slots.iter_mut().enumerate() {
            if slot.as_ref().is_some_and(|slot| slot.id == *keyspace) {
                *slot = None;
                self.pacer.forget(number);
            }
        }
        drop(slots);
        let name = keyspace.to_string();
        if !self.database.keyspace_exists(&name) {
            return Ok(());
        }
        let handle = self.database.keyspace(&name, KeyspaceCreateOptions::default);
        let handle = handle.map_err(|e| self.error(&format!("opening {name}"), &e))?;
        self.audit.expect_removal(handle.path())?;
        self.database.delete_keyspace(handle).map_err(|e| self.error(&format!("dropping {name}"), &e))
    }

    fn prepare_to_close(&self) {
        self.audit.pass_now();
    }

    fn check_progress(&self, now_ms: u64) -> Result<(), StoreError> {
        if let Some(fault) = self.audit.fault() {
            return Err(fault);
        }
        let waiting = self.database.outstanding_flushes();
        if waiting == 0 {
            *self.progress() = Progress { seen: Seen::default(), since_ms: now_ms };
            return Ok(());
        }
        // Only now: there may be thousands of keyspaces, and this is asked every second.
        let tables = {
            let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
            slots.iter().flatten().map(|slot| slot.keyspace.table_count()).sum()
        };
        let now = (waiting, tables, self.database.compactions_completed());
        let mut progress = self.progress();
        if now != progress.seen {
            *progress = Progress { seen: now, since_ms: now_ms };
            return Ok(());
        }
        if now_ms.saturating_sub(progress.since_ms) < FLUSH_STANDSTILL_MS {
            return Ok(());
        }
        Err(StoreError::Broken(format!(
            "the engine in {} has had {waiting} flushes waiting for {} s and ends none",
            self.directory.display(),
            FLUSH_STANDSTILL_MS / 1000
        )))
    }
}

struct DiskTree {
    database: Database,
    keyspace: fjall::Keyspace,
    directory: PathBuf,
    frozen: Option<fjall::Snapshot>,
}

impl DiskTree {
    fn error(&self, error: fjall::Error) -> StoreError {
        let text = format!("reading in {}: {}", self.directory.display(), reason(&error));
        match error {
            fjall::Error::Io(_) => StoreError::Broken(text),
            _ => StoreError::Damaged(text),
        }
    }
}

impl Tree for DiskTree {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = match &self.frozen {
            Some(snapshot) => snapshot.get(&self.keyspace, key),
            None => self.keyspace.get(key),
        };
        Ok(found.map_err(|e| self.error(e))?.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StoreError> {
        if range.is_empty() {
            return Ok(());
        }
        let mut entries = match &self.frozen {
            Some(snapshot) => snapshot.range::<&[u8], _>(&self.keyspace, range.bounds()),
            None => self.keyspace.range::<&[u8], _>(range.bounds()),
        };
        loop {
            let next = match direction {
                Direction::Ascending => entries.next(),
                Direction::Descending => entries.next_back(),
            };
            let Some(entry) = next else { return Ok(()) };
            let (key, value) = entry.into_inner().map_err(|e| self.error(e))?;
            if visit(&key, &value) == Flow::Break(()) {
                return Ok(());
            }
        }
    }

    fn estimate(&self) -> (u64, u64) {
        // What lies in memtables is in neither, but in the number of keys.
        (self.keyspace.approximate_len() as u64, self.keyspace.disk_space())
    }

    fn snapshot(&self) -> Arc<dyn Tree> {
        Arc::new(Self {
            database: self.database.clone(),
            keyspace: self.keyspace.clone(),
            directory: self.directory.clone(),
            frozen: Some(self.frozen.clone().unwrap_or_else(|| self.database.snapshot())),
        })
    }
}
