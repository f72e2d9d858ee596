//! What a vnode sees of its store: its own keyspace, with the writes of its turns already in it although the
//! storage thread has not committed them yet. It decides which writes a turn staged, and how long a reply has
//! to wait so that it promises nothing that is not committed. It does not know when commits happen: the host
//! tells it.
//!
//! A write is *staged* while its turn runs, *pending* from the end of the turn until its commit, and then the
//! store's own. Writes of one turn share a sequence number; commits happen in sequence.

pub mod changes;
pub mod items;
mod rows;

use crate::antientropy::listing::GroupOf;
use crate::mutant::{Mutant, planted};
use crate::store::{Direction, Flow, KeyRange, OpenTree, StoreError, Tree, TreeSlot, Visit, Write};
use crate::vnode::Item;
use bytes::Bytes;
use changes::{Changes, Told};
use rows::Rows;
use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of a turn's writes within their keyspace, from 1. 0 stands for "nothing to wait for".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Sequence(pub u64);

impl Sequence {
    fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A vnode's handle to its keyspace. Reads see the vnode's own writes at once.
///
/// The vnode and its host share what is inside, both on one thread; the lock is never contended.
pub struct Keyspace(Arc<Shared>);

/// The host's handle to the same keyspace: ends turns, learns of commits.
pub struct KeyspaceHost(Arc<Shared>);

struct Shared {
    slot: TreeSlot,
    tree: Arc<dyn Tree>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    overlay: BTreeMap<Bytes, Pending>,
    /// What the turn that runs has written, in the order of the first writes of each key.
    staged: Vec<(Bytes, Option<Bytes>)>,
    /// Keys among these under which a write of an earlier turn is still pending.
    replaced: Vec<Bytes>,
    sealed: VecDeque<(Sequence, Vec<Bytes>)>,
    last: Sequence,
    observed: Sequence,
    /// Of the store, what was looked up lately.
    rows: Rows,
    /// What the turn that runs says that it changed; none where nobody wants to know.
    told: Option<Told>,
}

struct Pending {
    /// Its turn's; above the last turn's while it is staged.
    sequence: Sequence,
    value: Option<Bytes>,
    /// While it is staged, where among what is.
    place: usize,
    /// What a discarded turn has to put back.
    before: Option<Box<Pending>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What a turn has written under `key` that the store does not have yet, if one has.
    fn pending(&mut self, key: &[u8]) -> Option<Option<Bytes>> {
        let pending = self.overlay.get(key)?;
        self.observed = self.observed.max(self.sealed_in(pending).unwrap_or_default());
        Some(pending.value.clone())
    }

    /// The turn that a write is of; none while that turn runs.
    fn sealed_in(&self, pending: &Pending) -> Option<Sequence> {
        (pending.sequence <= self.last).then_some(pending.sequence)
    }

    /// Each write is looked for once here and once when it is committed: what one turn of a transfer writes, and how
    /// much of it is pending at once, is thousands of rows.
    fn stage(&mut self, key: Bytes, value: Option<Bytes>) {
        let sequence = self.last.next();
        let newer = Pending { sequence, value: value.clone(), place: self.staged.len(), before: None };
        match self.overlay.entry(key.clone()) {
            Entry::Vacant(place) => {
                place.insert(newer);
            }
            Entry::Occupied(mut held) if held.get().sequence == sequence => {
                let held = held.get_mut();
                if let Some((_, staged)) = self.staged.get_mut(held.place) {
                    staged.clone_from(&value);
                }
                held.value = value;
                return;
            }
            Entry::Occupied(mut held) => {
                let before = held.insert(newer);
                held.get_mut().before = Some(Box::new(before));
                self.replaced.push(key.clone());
            }
        }
        self.staged.push((key, value));
    }
}

impl Keyspace {
    /// Both handles of one open keyspace.
    pub fn new(open: OpenTree) -> (Keyspace, KeyspaceHost) {
        let shared = Arc::new(Shared { slot: open.slot, tree: open.tree, state: Mutex::default() });
        (Keyspace(shared.clone()), KeyspaceHost(shared))
    }

    /// The value under `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        {
            let mut state = self.0.state();
            if let Some(value) = state.pending(key) {
                return Ok(value);
            }
            if let Some(value) = state.rows.get(key) {
                return Ok(value.clone());
            }
        }
        let value = self.0.tree.get(key)?;
        self.0.state().rows.keep(key, value.clone());
        Ok(value)
    }

    /// The same of a row that is not looked up often: it is not kept in memory for that.
    pub fn get_once(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Some(value) = self.0.state().pending(key) {
            return Ok(value);
        }
        self.0.tree.get(key)
    }

    /// The number that this turn's writes will have, if it writes.
    pub fn turn(&self) -> Sequence {
        self.0.state().last.next()
    }

    /// The last turn on whose writes anything rests that was read in this turn.
    pub fn observed(&self) -> Sequence {
        self.0.state().observed
    }

    /// Says that what this turn answers rests on the writes of that turn, of which the vnode knew without reading them:
    /// the answer waits for their commit.
    pub fn observe(&self, sequence: Sequence) {
        let mut state = self.0.state();
        state.observed = state.observed.max(sequence);
    }

    /// Stages a write: visible here at once, committed with the turn.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.0.state().stage(key.into(), Some(value.into()));
    }

    /// Stages a removal.
    pub fn remove(&self, key: impl Into<Bytes>) {
        self.0.state().stage(key.into(), None);
    }

    /// Visits the keys of `range` in order until `visit` breaks.
    pub fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StoreError> {
        let over = {
            let mut state = self.0.state();
            let (over, observed) = overlay_of(&state, range, direction);
            state.observed = state.observed.max(observed);
            over
        };
        scan_merged(&*self.0.tree, over, range, direction, visit)
    }

    /// Says that what a fold shows of an item has changed in this turn: what it was, and what it is. A module says so
    /// of every such item, or of a range in which it lies. Nothing is kept of it when the turn fails.
    pub fn changed<I: Item>(&self, was: Option<&I>, is: Option<&I>) {
        if let Some(told) = &mut self.0.state().told
            && !planted(Mutant::TellNothing)
        {
            told.item(was, is);
        }
    }

    /// Says that what a fold shows of the items in `range` has changed in this turn, before or after this call: of
    /// more than can be named. The range is gone through twice, off this thread.
    pub fn changed_within(&self, range: &KeyRange) {
        let mut state = self.0.state();
        if let Some(mut told) = state.told.take() {
            told.range(range, || before_turn(&state, &*self.0.tree));
            state.told = Some(told);
        }
    }

    /// What this handle shows now, for work on another thread.
    pub fn snapshot(&self) -> Snapshot {
        let mut state = self.0.state();
        let sealed = state.overlay.values().filter_map(|pending| state.sealed_in(pending));
        let observed = sealed.max().unwrap_or_default();
        state.observed = state.observed.max(observed);
        now(&state, &*self.0.tree)
    }
}

/// How a turn left its keyspace.
#[derive(Debug, Default)]
pub struct Sealed {
    /// What to commit, together.
    pub writes: Vec<Write>,
    /// The number of these writes; 0 when there are none.
    pub sequence: Sequence,
    /// A reply of this turn must wait until this number is committed: its own writes, or pending writes of
    /// earlier turns that it read.
    pub wait_for: Sequence,
    /// Which items it changed; nothing unless the host listens.
    pub changes: Changes,
}

impl KeyspaceHost {
    /// From now on turns keep what they say of the items they change, for trees of these groups. Called between turns.
    pub fn listen(&self, groups: GroupOf) {
        self.0.state().told = Some(Told::new(groups));
    }

    /// Forgets the rows that are kept in memory: what has happened to them on the disk is seen from now on. Whoever is
    /// about to mend what lies there wrong calls this first, or an item that is whole in memory would not be written.
    pub fn look_up_anew(&self) {
        self.0.state().rows = Rows::default();
    }

    /// Ends a turn that succeeded.
    pub fn seal(&self) -> Sealed {
        let mut state = self.0.state();
        let observed = std::mem::take(&mut state.observed);
        let mut told = state.told.take();
        let changes =
            told.as_mut().map(|told| told.finish(|| now(&state, &*self.0.tree))).unwrap_or_default();
        state.told = told;
        if state.staged.is_empty() {
            return Sealed { writes: Vec::new(), sequence: Sequence(0), wait_for: observed, changes };
        }
        let sequence = state.last.next();
        state.last = sequence;
        for key in std::mem::take(&mut state.replaced) {
            if let Some(pending) = state.overlay.get_mut(&key) {
                pending.before = None;
            }
        }
        let staged = std::mem::take(&mut state.staged);
        let mut keys = Vec::with_capacity(staged.len());
        let write = |(key, value): (Bytes, Option<Bytes>)| {
            keys.push(key.clone());
            Write { tree: self.0.slot, key, value }
        };
        let writes = staged.into_iter().map(write).collect();
        state.sealed.push_back((sequence, keys));
        Sealed { writes, sequence, wait_for: sequence, changes }
    }

    /// Ends a turn that failed: its staged writes never were.
    pub fn discard(&self) {
        let mut state = self.0.state();
        state.observed = Sequence(0);
        if let Some(told) = &mut state.told {
            told.forget();
        }
        state.replaced.clear();
        for (key, _) in std::mem::take(&mut state.staged) {
            if let Some(pending) = state.overlay.remove(&key)
                && let Some(before) = pending.before
            {
                state.overlay.insert(key, *before);
            }
        }
    }

    /// Everything up to `sequence` is committed; the store itself shows it now.
    pub fn committed(&self, sequence: Sequence) {
        let mut state = self.0.state();
        while state.sealed.front().is_some_and(|(sealed, _)| *sealed <= sequence) {
            let Some((sealed, keys)) = state.sealed.pop_front() else { return };
            for key in keys {
                // A later turn may have written the key again.
                if let Entry::Occupied(held) = state.overlay.entry(key)
                    && held.get().sequence == sealed
                {
                    let (key, pending) = held.remove_entry();
                    state.rows.changed(key, pending.value);
                }
            }
        }
    }

    /// Writes that are staged or pending.
    pub fn pending(&self) -> usize {
        self.0.state().overlay.len()
    }

    /// See [`Keyspace::snapshot`].
    pub fn snapshot(&self) -> Snapshot {
        Keyspace(self.0.clone()).snapshot()
    }
}

/// A keyspace as it was at one moment, for folds and long reads off the vnode's thread.
pub struct Snapshot {
    tree: Arc<dyn Tree>,
    overlay: BTreeMap<Bytes, Option<Bytes>>,
    unreadable: AtomicU64,
}

impl Snapshot {
    /// A snapshot of a keyspace that has no host: everything in it is committed.
    pub fn of(tree: &Arc<dyn Tree>) -> Self {
        Self { tree: tree.snapshot(), overlay: BTreeMap::new(), unreadable: AtomicU64::new(0) }
    }

    /// Says that a fold over this snapshot skipped a row because it cannot be read. A handoff reports how many it left
    /// behind.
    pub fn skipped_unreadable(&self) {
        self.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    /// How many rows folds over this snapshot have skipped; a row that two of them skipped counts twice.
    pub fn unreadable(&self) -> u64 {
        self.unreadable.load(Ordering::Relaxed)
    }

    /// The value under `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.overlay.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.tree.get(key),
        }
    }

    /// Visits the keys of `range` in order until `visit` breaks.
    pub fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StoreError> {
        let mut over: Overlay = if range.is_empty() { Vec::new() } else { clone_range(&self.overlay, range) };
        if direction == Direction::Descending {
            over.reverse();
        }
        scan_merged(&*self.tree, over, range, direction, visit)
    }
}

/// Reading, alike on a live keyspace and on a snapshot of it, so that a module writes its queries once.
pub trait Read {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;
    /// Visits the keys of `range` in order until `visit` breaks.
    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StoreError>;
}

impl Read for Keyspace {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.get(key)
    }
    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StoreError> {
        self.scan(range, direction, visit)
    }
}

impl Read for Snapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.get(key)
    }
    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StoreError> {
        self.scan(range, direction, visit)
    }
}

fn now(state: &State, tree: &dyn Tree) -> Snapshot {
    let overlay = state.overlay.iter().map(|(key, pending)| (key.clone(), pending.value.clone())).collect();
    Snapshot { tree: tree.snapshot(), overlay, unreadable: AtomicU64::new(0) }
}

/// What the turn that runs has staged is left out; the store does not have it yet.
fn before_turn(state: &State, tree: &dyn Tree) -> Snapshot {
    let before = |(key, pending): (&Bytes, &Pending)| match (state.sealed_in(pending), &pending.before) {
        (Some(_), _) => Some((key.clone(), pending.value.clone())),
        (None, Some(before)) => Some((key.clone(), before.value.clone())),
        (None, None) => None,
    };
    let overlay = state.overlay.iter().filter_map(before).collect();
    Snapshot { tree: tree.snapshot(), overlay, unreadable: AtomicU64::new(0) }
}

type Overlay = Vec<(Bytes, Option<Bytes>)>;

fn clone_range(map: &BTreeMap<Bytes, Option<Bytes>>, range: &KeyRange) -> Overlay {
    map.range::<[u8], _>(range.bounds()).map(|(k, v)| (k.clone(), v.clone())).collect()
}

fn overlay_of(state: &State, range: &KeyRange, direction: Direction) -> (Overlay, Sequence) {
    if state.overlay.is_empty() || range.is_empty() {
        return (Vec::new(), Sequence(0));
    }
    let mut observed = Sequence(0);
    let mut over: Overlay = state
        .overlay
        .range::<[u8], _>(range.bounds())
        .map(|(key, pending)| {
            observed = observed.max(state.sealed_in(pending).unwrap_or_default());
            (key.clone(), pending.value.clone())
        })
        .collect();
    if direction == Direction::Descending {
        over.reverse();
    }
    (over, observed)
}

/// Scans the tree with the overlay's entries (already in the order of `direction`) laid over it.
fn scan_merged(
    tree: &dyn Tree,
    over: Overlay,
    range: &KeyRange,
    direction: Direction,
    visit: Visit<'_>,
) -> Result<(), StoreError> {
    if range.is_empty() {
        return Ok(());
    }
    let mut over = over.into_iter().peekable();
    let before = |a: &[u8], b: &[u8]| match direction {
        Direction::Ascending => a < b,
        Direction::Descending => a > b,
    };
    let mut stopped = false;
    tree.scan(range, direction, &mut |key, value| {
        while let Some((over_key, over_value)) = over.next_if(|(k, _)| before(k, key)) {
            if let Some(over_value) = over_value
                && visit(&over_key, &over_value).is_break()
            {
                stopped = true;
                return Flow::Break(());
            }
        }
        let flow = match over.next_if(|(k, _)| k.as_ref() == key) {
            Some((_, Some(newer))) => visit(key, &newer),
            Some((_, None)) => Flow::Continue(()),
            None => visit(key, value),
        };
        stopped = flow.is_break();
        flow
    })?;
    if !stopped {
        for (key, value) in over {
            if let Some(value) = value
                && visit(&key, &value).is_break()
            {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::store::{KeyspaceId, Store};
    use proptest::prelude::*;

    fn open(store: &MemoryStore) -> (Keyspace, KeyspaceHost) {
        Keyspace::new(store.open(&KeyspaceId::Node).unwrap())
    }

    fn all(read: &dyn Read, direction: Direction) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut out = Vec::new();
        read.scan(&KeyRange::all(), direction, &mut |k, v| {
            out.push((k.to_vec(), v.to_vec()));
            Flow::Continue(())
        })
        .unwrap();
        out
    }

    #[test]
    fn a_reader_waits_for_the_pending_write_it_saw_and_only_for_that() {
        let store = MemoryStore::new();
        let (keyspace, host) = open(&store);
        keyspace.put(&b"a"[..], &b"1"[..]);
        let first = host.seal();
        assert_eq!(first.wait_for, Sequence(1));
        assert_eq!(keyspace.get(b"b").unwrap(), None);
        assert_eq!(host.seal().wait_for, Sequence(0), "an unrelated read does not wait");
        assert_eq!(keyspace.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(host.seal().wait_for, Sequence(1));
        let mut writes = first.writes;
        store.commit(&mut writes).unwrap();
        host.committed(Sequence(1));
        assert_eq!(host.pending(), 0);
        assert_eq!(keyspace.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(host.seal().wait_for, Sequence(0));
    }

    #[test]
    fn a_discarded_turn_leaves_the_pending_write_before_it_in_place() {
        let (keyspace, host) = open(&MemoryStore::new());
        keyspace.put(&b"a"[..], &b"1"[..]);
        host.seal();
        keyspace.put(&b"a"[..], &b"2"[..]);
        keyspace.put(&b"a"[..], &b"3"[..]);
        keyspace.put(&b"b"[..], &b"4"[..]);
        host.discard();
        assert_eq!(all(&keyspace, Direction::Ascending), [(b"a".to_vec(), b"1".to_vec())]);
        assert_eq!(host.seal().wait_for, Sequence(1));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u8),
        Remove(u8),
        Seal,
        Discard,
        CommitOne,
        Get(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..6, any::<u8>()).prop_map(|(k, v)| Step::Put(k, v)),
            2 => (0u8..6).prop_map(Step::Remove),
            3 => Just(Step::Seal),
            1 => Just(Step::Discard),
            2 => Just(Step::CommitOne),
            3 => (0u8..6).prop_map(Step::Get),
        ]
    }

    proptest! {
        #[test]
        fn a_keyspace_shows_what_a_plain_map_would(steps in prop::collection::vec(step(), 0..60)) {
            let store = MemoryStore::new();
            let (keyspace, host) = open(&store);
            let (mut model, mut turn) = (BTreeMap::new(), BTreeMap::new());
            let mut queue: VecDeque<Sealed> = VecDeque::new();
            for step in steps {
                match step.clone() {
                    Step::Put(k, v) => { keyspace.put(vec![k], vec![v]); turn.insert(vec![k], Some(vec![v])); }
                    Step::Remove(k) => { keyspace.remove(vec![k]); turn.insert(vec![k], None); }
                    Step::Seal => {
                        let sealed = host.seal();
                        if !sealed.writes.is_empty() { queue.push_back(sealed); }
                        for (k, v) in std::mem::take(&mut turn) {
                            match v { Some(v) => { model.insert(k, v); } None => { model.remove(&k); } }
                        }
                    }
                    Step::Discard => { host.discard(); turn.clear(); }
                    Step::CommitOne => if let Some(mut sealed) = queue.pop_front() {
                        store.commit(&mut sealed.writes).unwrap();
                        host.committed(sealed.sequence);
                    }
                    Step::Get(_) => {}
                }
                let mut expected = model.clone();
                for (k, v) in &turn {
                    match v { Some(v) => { expected.insert(k.clone(), v.clone()); } None => { expected.remove(k); } }
                }
                if let Step::Get(k) = step {
                    let shown = keyspace.get(&[k]).unwrap().map(|value| value.to_vec());
                    prop_assert_eq!(shown.as_ref(), expected.get(&vec![k]));
                }
                let mut expected: Vec<_> = expected.into_iter().collect();
                prop_assert_eq!(&all(&keyspace, Direction::Ascending), &expected);
                prop_assert_eq!(&all(&keyspace.snapshot(), Direction::Ascending), &expected);
                expected.reverse();
                prop_assert_eq!(&all(&keyspace, Direction::Descending), &expected);
                prop_assert_eq!(&all(&keyspace.snapshot(), Direction::Descending), &expected);
            }
        }
    }
}
