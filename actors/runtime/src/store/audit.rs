//! The audit of the engine's files. A record beside the database (`<directory>.audit`) holds size and CRC-32
//! of every file that the engine never changes once it is complete; a start compares before the engine opens
//! and names the file that differs, because the engine itself reads such damage late, namelessly or not at
//! all. It decides which files count and what a difference means. It knows how keyspaces lie on disk, not
//! what is in a table, and nothing of journals (the commit mark watches those).

mod layout;
mod rest;

use super::disk::way_out;
use crate::files::{self, FileError};
use crate::spawner::start_thread;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select, tick};
use layout::{CURRENT_BYTES, Layout, Unknown};
use rest::Rest;
use ringwork_core::store::StoreError;
use ringwork_core::wire::Kind;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

const RECORD_VERSION: u16 = 1;
/// A start waits for this many bytes to be compared, which is about half a second of a plain disk; what is
/// left is compared while the node runs. The smallest files come first, so the most files fit.
const CHECKED_AT_START_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How often new files are looked for. Files that appeared since the last time are what a crash leaves
/// unrecorded.
const PASS_INTERVAL: Duration = Duration::from_secs(5);
/// Rest between two large files that are compared while the node runs, so that its own reads get through.
const COMPARE_PAUSE: Duration = Duration::from_millis(100);
/// The last pass reads at most this many new bytes: a stop should not take long.
const LAST_PASS_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A stop waits this long for the last pass.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
const CHUNK_BYTES: usize = 1024 * 1024;
/// A database that was closed a moment ago may be locked for an instant more.
const LOCK_ATTEMPTS: usize = 3;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// The engine's own keyspace, in which it keeps the names of the others. Without it the engine takes all of
/// them for leftovers and deletes them.
const NAMES_KEYSPACE: u64 = 0;

/// What the record file holds.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
struct Record {
    keyspaces: BTreeMap<u64, KeyspacePrint>,
    /// Keyspaces whose removal has begun. The engine deletes `current` first and the rest after it, so only
    /// this tells a removal that was interrupted from a `current` that was lost.
    dropping: BTreeSet<u64>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct KeyspacePrint {
    /// The newest version that was seen complete.
    version: u64,
    current_crc32: u32,
    version_file: Print,
    tables: BTreeMap<u64, Print>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Print {
    size_bytes: u64,
    crc32: u32,
}

impl Print {
    fn of(bytes: &[u8]) -> Self {
        Self { size_bytes: bytes.len() as u64, crc32: crc32fast::hash(bytes) }
    }
}

/// A store whose files have been compared as far as a start waits for it.
pub(super) struct Checked {
    place: Place,
    record: Record,
    left: VecDeque<(PathBuf, Print)>,
}

#[derive(Clone)]
struct Place {
    store: PathBuf,
    record: PathBuf,
}

impl Place {
    fn new(store: &Path) -> Self {
        let mut record = store.as_os_str().to_owned();
        record.push(".audit");
        Self { store: store.to_owned(), record: PathBuf::from(record) }
    }

    fn damaged(&self, path: &Path, what: &str) -> StoreError {
        StoreError::Damaged(format!("{} {what}. {}", path.display(), way_out(&self.store)))
    }

    fn differs(&self, path: &Path, print: Print, found: Option<Print>) -> StoreError {
        let found = match found {
            Some(found) if found.size_bytes == print.size_bytes => "its content has changed".to_owned(),
            Some(found) => format!("it has {} bytes instead of {}", found.size_bytes, print.size_bytes),
            None => "it is missing".to_owned(),
        };
        self.damaged(path, &format!("is damaged: {found} since {} took note of it", self.record.display()))
    }

    fn keyspaces(&self) -> PathBuf {
        self.store.join("keyspaces")
    }

    fn keyspace(&self, number: u64) -> PathBuf {
        self.keyspaces().join(number.to_string())
    }

    /// The numbers of the keyspaces that have a directory.
    fn keyspace_numbers(&self) -> io::Result<BTreeSet<u64>> {
        let entries = match fs::read_dir(self.keyspaces()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(error),
        };
        let mut numbers = BTreeSet::new();
        for entry in entries {
            if let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
                numbers.insert(number);
            }
        }
        Ok(numbers)
    }

    fn read_record(&self) -> Result<Option<Record>, StoreError> {
        let path = self.record.display();
        match files::read_whole(&self.record, Kind::Audit, RECORD_VERSION) {
            Ok(record) => Ok(record),
            Err(FileError::Io { source, .. }) => {
                tracing::warn!(%path, error = %source, "the audit record cannot be read; files go unchecked");
                Ok(None)
            }
            // An older record would accuse files of today, so the version before is no way out here.
            Err(FileError::Damaged { reason, .. }) => Err(StoreError::Damaged(format!(
                "{path} is damaged ({reason}). It holds none of the data and only serves to notice damage of \
                 {}. Way out: delete it (rm {path}); the next start then goes without this check",
                self.store.display()
            ))),
            Err(newer @ FileError::Newer { .. }) => Err(StoreError::Damaged(newer.to_string())),
        }
    }

    fn write_record(&self, record: &Record) -> Result<(), FileError> {
        files::write_whole(&self.record, Kind::Audit, RECORD_VERSION, record)
    }
}

/// Size and check of a whole file; none when `stop` was set meanwhile.
fn print_of_file(path: &Path, stop: &AtomicBool) -> io::Result<Option<Print>> {
    let mut file = File::open(path)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut chunk = vec![0u8; CHUNK_BYTES];
    let mut size_bytes = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match file.read(&mut chunk) {
            Ok(0) => return Ok(Some(Print { size_bytes, crc32: hasher.finalize() })),
            Ok(count) => {
                hasher.update(&chunk[..count]);
                size_bytes += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path).and_then(|directory| directory.sync_all())
}

/// Compares the files of the store in `directory` with its record. To be called before the engine opens it:
/// the engine deletes what it takes for leftovers.
pub(super) fn check(directory: &Path) -> Result<Checked, StoreError> {
    check_within(directory, CHECKED_AT_START_BYTES_MAX)
}

fn check_within(directory: &Path, budget_bytes: u64) -> Result<Checked, StoreError> {
    let place = Place::new(directory);
    // Another process that works in there would move files under our eyes.
    let _lock = lock(directory)?;
    let exists = directory.join("version").exists();
    let recorded = place.read_record()?;
    if exists && recorded.is_none() {
        tracing::info!(path = %place.record.display(), "no audit record: the store's files go unchecked");
    }
    let before = recorded.unwrap_or_default();
    // Without a database the record is about one that has been moved away.
    let record = if exists { before.clone() } else { Record::default() };
    let mut checked = Checked { place, record, left: VecDeque::new() };
    if exists {
        checked.compare_layouts()?;
        checked.compare_contents(budget_bytes)?;
    }
    checked.save_if_changed(&before)?;
    Ok(checked)
}

/// The engine's lock, if there is one yet: to be released before the engine wants it.
fn lock(directory: &Path) -> Result<Option<File>, StoreError> {
    let Ok(file) = File::options().read(true).write(true).open(directory.join("lock")) else {
        return Ok(None);
    };
    for attempt in 1.. {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if attempt < LOCK_ATTEMPTS => {
                let _ = crossbeam_channel::never::<()>().recv_timeout(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => {
                let text = format!("{} is in use by another process", directory.display());
                return Err(StoreError::Locked(text));
            }
            Err(TryLockError::Error(_)) => return Ok(None), // the engine will say the same, and louder
        }
    }
    Ok(Some(file))
}

impl Checked {
    /// Finds what is missing or has the wrong size, and leaves in the record only what the engine will still
    /// find there. That is needed, too: the engine gives the numbers of files that no version lists, and of
    /// keyspaces that are gone, to new ones.
    fn compare_layouts(&mut self) -> Result<(), StoreError> {
        let place = self.place.clone();
        let Ok(numbers) = place.keyspace_numbers() else {
            return Ok(()); // the engine will say why it cannot read there
        };
        self.record.dropping.retain(|number| numbers.contains(number));
        let dropping = &self.record.dropping;
        self.record.keyspaces.retain(|number, _| !dropping.contains(number));
        let mut needed: BTreeSet<u64> = self.record.keyspaces.keys().copied().collect();
        if !numbers.is_empty() {
            needed.insert(NAMES_KEYSPACE);
        }
        if let Some(number) = needed.difference(&numbers).next() {
            return Err(
                place.damaged(&place.keyspace(*number).join("current"), "is missing, with its directory")
            );
        }
        let mut left = Vec::new();
        for number in numbers.iter().copied().filter(|number| !dropping.contains(number)) {
            let folder = place.keyspace(number);
            let layout = match Layout::read(&folder) {
                Ok(layout) => layout,
                Err(Unknown::Damaged(path, what)) => return Err(place.damaged(&path, &what)),
                Err(Unknown::NoCurrent) => {
                    let recorded = self.record.keyspaces.contains_key(&number);
                    if recorded || !is_unfinished(&folder) || (number == NAMES_KEYSPACE && numbers.len() > 1)
                    {
                        return Err(place.damaged(&folder.join("current"), "is missing"));
                    }
                    continue;
                }
                Err(Unknown::Io(path, error)) => {
                    tracing::warn!(path = %path.display(), %error, "a file of the store cannot be checked");
                    continue;
                }
            };
            let mut print = self.record.keyspaces.get_mut(&number);
            if let Some(print) = &print {
                compare_version(&place, &folder, print, &layout)?;
            }
            for table in &layout.tables {
                let path = folder.join("tables").join(table.to_string());
                let recorded = print.as_ref().and_then(|print| print.tables.get(table)).copied();
                match (fs::metadata(&path), recorded) {
                    (Ok(metadata), Some(print)) if metadata.len() != print.size_bytes => {
                        let found = Print { size_bytes: metadata.len(), crc32: 0 };
                        return Err(place.differs(&path, print, Some(found)));
                    }
                    (Ok(_), Some(print)) => left.push((path, print, *table)),
                    (Err(error), _) if error.kind() == ErrorKind::NotFound => {
                        let what = format!("is missing, but {} lists it", layout.version_path.display());
                        return Err(place.damaged(&path, &what));
                    }
                    _ => {}
                }
            }
            if let Some(print) = &mut print {
                print.tables.retain(|table, _| layout.tables.contains(table));
            }
        }
        left.sort_by_key(|(_, print, table)| (print.size_bytes, std::cmp::Reverse(*table)));
        self.left = left.into_iter().map(|(path, print, _)| (path, print)).collect();
        Ok(())
    }

    fn compare_contents(&mut self, budget_bytes: u64) -> Result<(), StoreError> {
        let never = AtomicBool::new(false);
        let mut budget_bytes = budget_bytes;
        while let Some((path, print)) = self.left.pop_front_if(|(_, print)| print.size_bytes <= budget_bytes)
        {
            budget_bytes -= print.size_bytes;
            if let Some(error) = compare_file(&self.place, &path, print, &never) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// A record that says more than is true must not outlive this moment.
    fn save_if_changed(&self, before: &Record) -> Result<(), StoreError> {
        if self.record == *before {
            return Ok(());
        }
        let Err(error) = self.place.write_record(&self.record) else { return Ok(()) };
        tracing::warn!(%error, "the audit record cannot be written; it is removed");
        match fs::remove_file(&self.place.record) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let path = self.place.record.display();
                Err(StoreError::Broken(format!("{path} can neither be written nor removed: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Begins to take note of new files, and goes on with the comparison. Holds no handle of the database,
    /// which is open now.
    pub(super) fn start(mut self) -> Result<Audit, StoreError> {
        if let Some(number) = self.record.keyspaces.keys().find(|n| !self.place.keyspace(**n).exists()) {
            let names = self.place.keyspace(NAMES_KEYSPACE);
            let what = format!("was deleted by the engine, because {} has lost its name", names.display());
            return Err(self.place.damaged(&self.place.keyspace(*number), &what));
        }
        // The engine has just deleted what was left of removed keyspaces. One that is still there lives: its
        // removal had been announced and did not happen.
        self.record.dropping.clear();
        let shared = Arc::new(Shared {
            place: self.place,
            state: Mutex::new(State { record: self.record, unsaved: true }),
            creating: Mutex::new(()),
            fault: OnceLock::new(),
            stopping: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
        });
        let (commands, received) = bounded(1);
        let (ended, end) = bounded(0);
        let (thread, left) = (shared.clone(), self.left);
        start_thread("audit", move || {
            thread.run(left, &received);
            drop(ended);
        })
        .map_err(|e| StoreError::Broken(format!("the audit thread cannot be started: {e}")))?;
        Ok(Audit { shared, commands: Some(commands), end })
    }
}

/// Whether a keyspace without `current` can be one whose creation was interrupted: the engine creates the
/// directory, `tables`, `v0`, then `current`, and only then the entry under its name.
fn is_unfinished(folder: &Path) -> bool {
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    names(&folder.join("tables")).is_empty()
        && names(folder).iter().all(|name| !name.starts_with('v') || name == "v0")
}

fn compare_version(
    place: &Place,
    folder: &Path,
    print: &KeyspacePrint,
    layout: &Layout,
) -> Result<(), StoreError> {
    let current = folder.join("current");
    if layout.version < print.version {
        let (found, known) = (layout.version, print.version);
        let record = place.record.display();
        let what = format!("names version {found}, but {record} took note of version {known}");
        return Err(place.damaged(&current, &what));
    }
    if layout.version > print.version {
        return Ok(()); // newer than the record, which is a few seconds behind
    }
    if layout.current_crc32 != print.current_crc32 {
        let size_bytes = CURRENT_BYTES as u64;
        let (was, is) = (print.current_crc32, layout.current_crc32);
        let (was, is) = (Print { size_bytes, crc32: was }, Print { size_bytes, crc32: is });
        return Err(place.differs(&current, was, Some(is)));
    }
    if layout.version_file != print.version_file {
        return Err(place.differs(&layout.version_path, print.version_file, Some(layout.version_file)));
    }
    Ok(())
}

/// An error when the file is not what it was. A file that is gone by now was compacted away.
fn compare_file(place: &Place, path: &Path, print: Print, stop: &AtomicBool) -> Option<StoreError> {
    match print_of_file(path, stop) {
        Ok(Some(found)) if found != print => Some(place.differs(path, print, Some(found))),
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a file of the store cannot be checked");
            None
        }
    }
}

/// The audit of an open store. Dropping it waits a little for a last pass, so the database should be closed
/// before.
pub(super) struct Audit {
    shared: Arc<Shared>,
    commands: Option<Sender<Sender<()>>>,
    end: Receiver<()>,
}

struct Shared {
    place: Place,
    state: Mutex<State>,
    /// Held while a keyspace is created.
    creating: Mutex<()>,
    fault: OnceLock<StoreError>,
    stopping: AtomicBool,
    /// Nobody waits for the last pass any more: it must write nothing, for the store may have been opened
    /// anew. Set under the lock of `state`.
    abandoned: AtomicBool,
}

struct State {
    record: Record,
    /// The record has changed since it was written.
    unsaved: bool,
}

impl Audit {
    /// The damage that was found since the start, if any.
    pub(super) fn fault(&self) -> Option<StoreError> {
        self.shared.fault.get().cloned()
    }

    /// To be held while the engine may create a keyspace. Between its directory and its name a crash would
    /// have the engine delete it again, so the audit must not see it before it is whole.
    pub(super) fn creation(&self) -> MutexGuard<'_, ()> {
        self.shared.creating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be told before the engine removes a keyspace, with its directory. An error means that it must not.
    pub(super) fn expect_removal(&self, folder: &Path) -> Result<(), StoreError> {
        let number = folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        let Some(number) = number else { return Ok(()) };
        let mut state = self.shared.state();
        state.record.keyspaces.remove(&number);
        state.record.dropping.insert(number);
        state.unsaved = true;
        self.shared.save(&mut state).map_err(|error| StoreError::Broken(error.to_string()))
    }

    /// Makes a pass at once and waits for its end, for a while.
    pub(super) fn pass_now(&self) {
        let (reply, replied) = bounded(1);
        let asked = self.commands.as_ref().is_some_and(|commands| commands.send(reply).is_ok());
        if asked {
            let _ = replied.recv_timeout(PASS_PATIENCE);
        }
    }
}

/// How long a stop waits for the last pass. What it does not get to is noted down after the next start.
const PASS_PATIENCE: Duration = Duration::from_secs(10);

impl Drop for Audit {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.commands.take();
        if self.end.recv_timeout(STOP_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let _state = self.shared.state();
            self.shared.abandoned.store(true, Ordering::Relaxed);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, state: &mut State) -> Result<(), FileError> {
        if state.unsaved && !self.abandoned.load(Ordering::Relaxed) {
            self.place.write_record(&state.record)?;
            state.unsaved = false;
        }
        Ok(())
    }

    fn run(&self, mut left: VecDeque<(PathBuf, Print)>, commands: &Receiver<Sender<()>>) {
        let (passes, mut rest) = (tick(PASS_INTERVAL), Rest::default());
        loop {
            if let Some((path, print)) = left.pop_front()
                && let Some(error) = compare_file(&self.place, &path, print, &self.stopping)
            {
                let _ = self.fault.set(error);
                return; // the node ends; what is on disk now must not become the record
            }
            let wait = if left.is_empty() { PASS_INTERVAL } else { COMPARE_PAUSE };
            select! {
                recv(commands) -> command => match command {
                    Ok(reply) => {
                        self.pass(u64::MAX, &self.stopping, None);
                        let _ = reply.send(());
                    }
                    Err(_) => break,
                },
                recv(passes) -> _ => self.pass(u64::MAX, &self.stopping, Some(&mut rest)),
                default(wait) => {}
            }
        }
        self.pass(LAST_PASS_BYTES_MAX, &self.abandoned, None);
    }

    /// Takes note of files that are new, at most so many bytes of them, and forgets those that are gone. Leaves out
    /// what rests; without `rest` nothing is left out.
    fn pass(&self, budget_bytes: u64, stop: &AtomicBool, mut rest: Option<&mut Rest>) {
        let known = self.state().record.clone();
        let listed = {
            let _creation = self.creating.lock().unwrap_or_else(PoisonError::into_inner);
            self.place.keyspace_numbers()
        };
        let numbers = match listed {
            Ok(numbers) => numbers,
            Err(error) => {
                tracing::warn!(path = %self.place.keyspaces().display(), %error, "the audit cannot look");
                return;
            }
        };
        if numbers.iter().any(|number| !known.keyspaces.contains_key(number))
            && let Err(error) = sync_directory(&self.place.keyspaces())
        {
            tracing::warn!(path = %self.place.keyspaces().display(), %error, "the audit cannot sync");
            return;
        }
        if let Some(rest) = &mut rest {
            rest.retain(|number| known.keyspaces.contains_key(&number) && numbers.contains(&number));
        }
        let mut found = BTreeMap::new();
        let mut new_tables = Vec::new();
        for number in numbers.iter().copied().filter(|number| !known.dropping.contains(number)) {
            let folder = self.place.keyspace(number);
            let before = known.keyspaces.get(&number);
            if before.is_some() && rest.as_mut().is_some_and(|rest| rest.rests(number, &folder)) {
                continue;
            }
            let layout = settled_layout(&folder, before);
            let noted = |table| before.is_some_and(|before| before.tables.contains_key(table));
            if let Some(rest) = &mut rest {
                rest.was_read(number, layout.as_ref().is_some_and(|layout| layout.tables.iter().all(noted)));
            }
            let Some(layout) = layout else { continue };
            let mut tables = BTreeMap::new();
            for table in layout.tables {
                if let Some(print) = before.and_then(|before| before.tables.get(&table)) {
                    tables.insert(table, *print);
                    continue;
                }
                let path = folder.join("tables").join(table.to_string());
                // Not there any more: a newer version has come in between.
                let Ok(metadata) = fs::metadata(&path) else { continue };
                new_tables.push((metadata.len(), number, table, path));
            }
            let (version, current_crc32, version_file) =
                (layout.version, layout.current_crc32, layout.version_file);
            found.insert(number, KeyspacePrint { version, current_crc32, version_file, tables });
        }
        new_tables.sort();
        let mut budget_bytes = budget_bytes;
        for (size_bytes, number, table, path) in new_tables {
            if size_bytes > budget_bytes || stop.load(Ordering::Relaxed) {
                break;
            }
            budget_bytes -= size_bytes;
            match (print_of_file(&path, stop), found.get_mut(&number)) {
                (Ok(Some(print)), Some(keyspace)) => drop(keyspace.tables.insert(table, print)),
                (Err(error), _) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "the audit cannot read a file");
                }
                _ => {}
            }
        }
        self.merge(found);
    }

    fn merge(&self, found: BTreeMap<u64, KeyspacePrint>) {
        let mut state = self.state();
        let record = &mut state.record;
        let mut changed = false;
        for (number, print) in found {
            // Removals may have been announced meanwhile.
            if !record.dropping.contains(&number) && record.keyspaces.get(&number) != Some(&print) {
                record.keyspaces.insert(number, print);
                changed = true;
            }
        }
        let before = record.dropping.len();
        record.dropping.retain(|number| self.place.keyspace(*number).exists());
        changed |= record.dropping.len() != before;
        state.unsaved |= changed;
        if let Err(error) = self.save(&mut state) {
            tracing::warn!(%error, "the audit record cannot be written");
        }
    }
}

/// A keyspace's layout, certain to survive a loss of power: otherwise the record might know of a version that
/// the disk does not. None when it cannot be told now; the next pass will see.
fn settled_layout(folder: &Path, before: Option<&KeyspacePrint>) -> Option<Layout> {
    let layout = match Layout::read(folder) {
        Ok(layout) => layout,
        // Being created or removed, or replaced between the two reads.
        Err(Unknown::NoCurrent | Unknown::Damaged(..)) => return None,
        Err(Unknown::Io(path, error)) => {
            tracing::warn!(path = %path.display(), %error, "the audit cannot read a file");
            return None;
        }
    };
    if before.is_none_or(|before| before.version != layout.version)
        && let Err(error) = sync_directory(folder)
    {
        tracing::warn!(path = %folder.display(), %error, "the audit cannot sync");
        return None;
    }
    Some(layout)
}

#[cfg(test)]
mod tests;
