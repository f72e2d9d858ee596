//! Which generations of its partitions a node has, and what each is: the live one, into which everything is merged;
//! sealed ones, which wait to be sent where they belong; the one that is collected for an inheritance. Kept in the
//! node's own keyspace: a mark of the store's birth, from which the first generation of every partition follows, a
//! record for each partition that something has happened to since, and a record for each transfer that came in. It
//! decides what a change of generation is on disk; when one is due it does not know.
//!
//! **Invariant:** whatever lies in the store under the name of a vnode is named here, or is of its partition's first
//! generation. A keyspace that is found and not named has lost its record with the machine; it is taken for hints.

mod census;
mod places;
#[cfg(test)]
mod tests;

use crate::node::StartError;
use crate::randomness::Randomness;
use crate::storage::Storage;
use bytes::Bytes;
use census::Census;
use places::{BirthMark, Places};
use ringwork_core::ids::{Generation, NodeId, Partition};
use ringwork_core::membership::{ClusterState, Possession};
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::store::{
    Direction, Flow, KeyRange, KeyspaceId, OpenTree, Store, StoreError, TreeSlot, Write,
};
use ringwork_core::transfer::receiving::{Fate, fate_of};
use ringwork_core::transfer::{GenerationId, Inbound, Outbound};
use ringwork_core::wire::{Wire, from_stored, stored};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Keys of the node's keyspace: what is kept of a partition.
const HELD_PREFIX: &str = "held.";
/// What is kept of transfers that came in.
const INBOUND_PREFIX: &str = "inbound.";
/// The mark of the store's birth.
const BIRTH_KEY: &[u8] = b"birth";
/// Keys that have changed since they were sent.
const MARK_PREFIX: &str = "mark.";

/// What is kept of one partition; what is rare and large is boxed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// Where merges go, as a holder or as a stand-in.
    pub live: GenerationId,
    /// Nothing is merged into these any more; they wait to be sent, or absorbed.
    pub sealed: BTreeSet<GenerationId>,
    /// What is collected for an inheritance, with the possession that it is named by.
    pub inbound: Option<(Possession, GenerationId)>,
    /// The transfer of possession that has begun. While it is there every change marks its key.
    pub outbound: Option<Box<Outbound>>,
    /// What is about to be passed on, or was.
    pub intent: Option<Box<Outbound>>,
    /// Generations of which the keyspaces are being removed.
    pub dropping: BTreeSet<Generation>,
    /// The next generation's number.
    pub next: Generation,
    /// What was here is lost with the store that it was in, and is to be fetched from the other replicas.
    pub lost: bool,
}

impl Wire for Held {
    const VERSION: u16 = 1;
}

/// [`Inbound`] as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptInbound(Inbound);

impl Wire for KeptInbound {
    const VERSION: u16 = 1;
}

/// [`BirthMark`] as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptBirth(u64);

impl Wire for KeptBirth {
    const VERSION: u16 = 1;
}

struct Table {
    held: Places,
    census: Census,
    inbound: BTreeMap<(Partition, NodeId), Inbound>,
}

/// See the module's head.
pub struct Generations {
    store: Arc<dyn Store>,
    storage: Storage,
    randomness: Randomness,
    slot: TreeSlot,
    own: OpenTree,
    table: Mutex<Table>,
    /// How many sealed ones there are in all: read by every request, so that most need not look further.
    sealed: AtomicUsize,
    /// Held for reading while a sealed generation is read, for writing while keyspaces are removed.
    removal: RwLock<()>,
    claims: Mutex<BTreeSet<Partition>>,
    /// Numbers the lives of vnodes within this process.
    lives: AtomicU64,
}

/// The right to hold a partition's vnodes back, to change their generation: one at a time has it. Given back when
/// dropped.
pub struct Claim {
    generations: Arc<Generations>,
    partition: Partition,
}

impl Drop for Claim {
    fn drop(&mut self) {
        locked(&self.generations.claims).remove(&self.partition);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn held_key(partition: Partition) -> Bytes {
    format!("{HELD_PREFIX}{:05}", partition.0).into()
}

fn inbound_key(partition: Partition, sender: NodeId) -> Bytes {
    format!("{INBOUND_PREFIX}{:05}.{sender}", partition.0).into()
}

/// Where the marks of a vnode lie in the node's keyspace.
pub(crate) fn mark_prefix(service: &str, partition: Partition) -> String {
    format!("{MARK_PREFIX}{:05}.{service}.", partition.0)
}

/// What the store knows of the partitions when a node starts.
#[derive(Default)]
struct Found {
    birth: Option<BirthMark>,
    held: BTreeMap<Partition, Held>,
    inbound: BTreeMap<(Partition, NodeId), Inbound>,
    /// Numbers of the keyspaces of each partition, and whether anything is in them.
    keyspaces: BTreeMap<Partition, BTreeMap<Generation, bool>>,
}

impl Generations {
    /// Reads what the store has, and settles what a former life left undone: what was passed on is sealed, what is held
    /// is lived in, what is nothing's is taken for hints, what was being removed is removed. With `lost` the store is
    /// a new one in place of one that is gone. Runs before any vnode.
    pub(crate) fn load(
        store: Arc<dyn Store>,
        storage: Storage,
        randomness: Randomness,
        state: &ClusterState,
        me: NodeId,
        lost: bool,
    ) -> Result<Arc<Self>, StartError> {
        let own = store.open(&KeyspaceId::Node)?;
        let found = find(&*store, &own)?;
        let mut writes = Vec::new();
        let mut removed = Vec::new();
        let birth = match found.birth {
            Some(birth) => birth,
            None => {
                let birth = BirthMark(mark(&randomness)?);
                let value = stored(&KeptBirth(birth.0)).unwrap_or_default();
                let key = Bytes::from_static(BIRTH_KEY);
                writes.push(Write { tree: own.slot, key, value: Some(value.into()) });
                birth
            }
        };
        let mut held = Places::new(birth, state.size().count());
        let mut inbound = found.inbound;
        for partition in state.size().partitions() {
            let before = found.held.get(&partition).cloned();
            let keyspaces = found.keyspaces.get(&partition);
            if before.is_none() && keyspaces.is_none() && !lost {
                continue;
            }
            let fresh = || mark(&randomness);
            let mut now = before.clone().unwrap_or_else(|| first(keyspaces, birth.mark_of(partition)));
            for (number, filled) in keyspaces.into_iter().flatten() {
                if number.0 >= now.next.0 {
                    now.next = Generation(number.0 + 1);
                }
                if now.dropping.contains(number) {
                    removed.push((partition, *number));
                } else if !now.names(*number) {
                    if *filled {
                        now.sealed.insert(GenerationId { number: *number, mark: fresh()? });
                    } else {
                        removed.push((partition, *number));
                    }
                }
            }
            let is_filled = |id: &GenerationId| {
                keyspaces.is_some_and(|all| all.get(&id.number).copied().unwrap_or_default())
            };
            let possession = state.possession().get(usize::from(partition.0)).copied();
            if let Some((named, generation)) = now.inbound {
                match fate_of(named, me, partition, state) {
                    Fate::Keep => {}
                    Fate::Inherit => {
                        now.live_in(generation);
                        inherit(&mut inbound, partition, generation);
                    }
                    Fate::Seal => {
                        now.inbound = None;
                        now.sealed.insert(generation);
                    }
                }
            }
            let passed_on = now.intent.as_ref().filter(|intent| intent.source == now.live);
            if possession.is_some_and(|now| passed_on.is_some_and(|intent| intent.bequeathed(now).is_some()))
            {
                now.seal(fresh()?);
            }
            for empty in now.sealed.clone().into_iter().filter(|id| !is_filled(id)) {
                now.sealed.remove(&empty);
                removed.push((partition, empty.number));
            }
            now.dropping.clear();
            now.lost |= lost;
            if planted(Mutant::ForgetStrays) {
                now.sealed.clear();
            }
            let untouched = before.is_none() && now == birth.untouched(partition);
            if !untouched && before.as_ref() != Some(&now) {
                writes.push(write_of(own.slot, partition, &now));
            }
            if !untouched {
                held.put(partition, now);
            }
        }
        let inbound_writes = inbound
            .iter()
            .filter(|(_, record)| record.inherited)
            .map(|((partition, _), record)| write_of_inbound(own.slot, *partition, record));
        writes.extend(inbound_writes);
        if !writes.is_empty() {
            store.commit(&mut writes)?;
        }
        let sealed = held.touched().map(|(_, held)| held.sealed.len()).sum();
        let generations = Arc::new(Self {
            store,
            storage,
            randomness,
            slot: own.slot,
            own,
            table: Mutex::new(Table { census: Census::of(&held), held, inbound }),
            sealed: AtomicUsize::new(sealed),
            removal: RwLock::new(()),
            claims: Mutex::default(),
            lives: AtomicU64::new(1),
        });
        for (partition, number) in removed {
            generations.remove_keyspaces(partition, number)?;
        }
        Ok(generations)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        locked(&self.table)
    }

    /// A number that no other life of a vnode has in this process.
    pub(crate) fn next_life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed)
    }

    /// What is kept of a partition; none when it is not of this ring.
    pub fn held(&self, partition: Partition) -> Option<Held> {
        Some(self.table().held.get(partition)?.into_owned())
    }

    /// The generation that a partition's vnodes live in.
    pub fn live(&self, partition: Partition) -> Option<GenerationId> {
        Some(self.table().held.get(partition)?.live)
    }

    /// Sealed generations of a partition, the eldest first.
    pub fn sealed(&self, partition: Partition) -> Vec<GenerationId> {
        if self.sealed.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        let table = self.table();
        table.held.get(partition).map_or_else(Vec::new, |held| held.sealed.iter().copied().collect())
    }

    /// Partitions of which there is a sealed generation.
    pub fn with_sealed(&self) -> BTreeSet<Partition> {
        if self.sealed.load(Ordering::SeqCst) == 0 {
            return BTreeSet::new();
        }
        self.those(|held| !held.sealed.is_empty())
    }

    /// Partitions with a transfer of possession that has begun, with its heir.
    pub fn outbound(&self) -> BTreeMap<Partition, NodeId> {
        let table = self.table();
        if table.census.outbound == 0 {
            return BTreeMap::new();
        }
        table.held.touched().filter_map(|(of, held)| Some((of, held.outbound.as_ref()?.heir))).collect()
    }

    /// Partitions of which something is collected for an inheritance.
    pub fn with_inbound(&self) -> BTreeSet<Partition> {
        if self.table().census.inbound == 0 {
            return BTreeSet::new();
        }
        self.those(|held| held.inbound.is_some())
    }

    /// Partitions that this node holds and has not got: their store is lost, or possession was forced to this node.
    pub fn lacking(&self, state: &ClusterState, me: NodeId) -> BTreeSet<Partition> {
        let mut lacking: BTreeSet<Partition> = state.unrepaired().collect();
        let table = self.table();
        if table.census.lost > 0 {
            lacking.extend(table.held.touched().filter(|(_, held)| held.lost).map(|(of, _)| of));
        }
        lacking.retain(|partition| state.holder(*partition) == Some(me));
        lacking
    }

    /// Whether a partition was passed on, and nobody has said yet that it was taken.
    pub(crate) fn has_bequeathed(&self, state: &ClusterState) -> bool {
        let table = self.table();
        if table.census.intents == 0 {
            return false;
        }
        table.held.touched().any(|(partition, held)| {
            let now = state.possession().get(usize::from(partition.0));
            let intent = held.intent.as_ref().zip(now);
            intent.is_some_and(|(intent, now)| intent.bequeathed(*now).is_some())
        })
    }

    /// Whether the store was lost and not everything of it has been fetched again.
    pub(crate) fn has_lost(&self) -> bool {
        self.table().census.lost > 0
    }

    /// Everything that the other replicas have of it is here. To be synced by the caller.
    pub(crate) fn repaired(&self, partition: Partition) {
        self.update(partition, |held| held.lost = false);
    }

    fn those(&self, which: impl Fn(&Held) -> bool) -> BTreeSet<Partition> {
        let table = self.table();
        table.held.touched().filter(|(_, held)| which(held)).map(|(of, _)| of).collect()
    }

    /// Whether that generation is collected for an inheritance: what is in it is no stray.
    pub fn is_inbound(&self, partition: Partition, generation: Generation) -> bool {
        let inbound = self.held(partition).and_then(|held| held.inbound);
        inbound.is_some_and(|(_, id)| id.number == generation)
    }

    /// What was kept of the transfer of a partition from a node.
    pub fn inbound_record(&self, partition: Partition, sender: NodeId) -> Option<Inbound> {
        self.table().inbound.get(&(partition, sender)).cloned()
    }

    /// A generation that could be begun.
    pub(crate) fn fresh(&self, partition: Partition) -> Result<GenerationId, StoreError> {
        let next = self.held(partition).map(|held| held.next).unwrap_or_default();
        let mark = mark(&self.randomness).map_err(|error| StoreError::Broken(error.to_string()))?;
        Ok(GenerationId { number: next, mark })
    }

    /// Changes what is kept of a partition, and hands that to the storage thread, in this order for all changes.
    pub(crate) fn update<T>(&self, partition: Partition, change: impl FnOnce(&mut Held) -> T) -> Option<T> {
        let mut table = self.table();
        let Table { held, census, .. } = &mut *table;
        let before = held.get(partition)?.into_owned();
        let mut after = before.clone();
        let result = change(&mut after);
        if after != before {
            census.change(&before, &after);
            let sealed = after.sealed.len();
            let write = write_of(self.slot, partition, &after);
            held.put(partition, after);
            if sealed > before.sealed.len() {
                self.sealed.fetch_add(sealed - before.sealed.len(), Ordering::SeqCst);
            } else {
                self.sealed.fetch_sub(before.sealed.len() - sealed, Ordering::SeqCst);
            }
            self.storage.submit(vec![write], false, |_| {});
            debug_assert_eq!(table.census, Census::of(&table.held));
        }
        Some(result)
    }

    /// Keeps what is known of a transfer that comes in.
    pub(crate) fn keep_inbound(&self, partition: Partition, record: Inbound) {
        let mut table = self.table();
        let write = write_of_inbound(self.slot, partition, &record);
        table.inbound.insert((partition, record.sender), record);
        self.storage.submit(vec![write], false, |_| {});
    }

    /// The live generation is sealed, the next begun. Says which was sealed.
    pub(crate) fn seal_live(&self, partition: Partition) -> Result<Option<GenerationId>, StoreError> {
        let fresh = self.fresh(partition)?.mark;
        Ok(self.update(partition, |held| held.seal(fresh)))
    }

    /// The generation that was collected is the live one from now on; what was live before is sealed.
    pub(crate) fn inherit(&self, partition: Partition) -> Option<GenerationId> {
        let taken = self.update(partition, |held| {
            let (_, generation) = held.inbound?;
            held.live_in(generation);
            Some(generation)
        })??;
        let mut table = self.table();
        inherit(&mut table.inbound, partition, taken);
        let records: Vec<Inbound> = table
            .inbound
            .iter()
            .filter(|((of, _), record)| *of == partition && record.generation == taken)
            .map(|(_, record)| record.clone())
            .collect();
        for record in records {
            let write = write_of_inbound(self.slot, partition, &record);
            self.storage.submit(vec![write], false, |_| {});
        }
        Some(taken)
    }

    /// The right to hold a partition's vnodes back; none while somebody else has it.
    pub fn claim(self: &Arc<Self>, partition: Partition) -> Option<Claim> {
        let free = locked(&self.claims).insert(partition);
        free.then(|| Claim { generations: self.clone(), partition })
    }

    /// Held while a sealed generation is read: what is there now stays until then.
    pub(crate) fn reading(&self) -> RwLockReadGuard<'_, ()> {
        self.removal.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn removing(&self) -> RwLockWriteGuard<'_, ()> {
        self.removal.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keyspace of a generation, where there is one.
    pub(crate) fn open(
        &self,
        service: &str,
        partition: Partition,
        generation: Generation,
    ) -> Result<Option<OpenTree>, StoreError> {
        let keyspace = KeyspaceId::Vnode { service: service.to_owned(), partition, generation };
        if self.store.keyspaces()?.binary_search(&keyspace).is_err() {
            return Ok(None);
        }
        self.store.open(&keyspace).map(Some)
    }

    /// Removes a sealed generation with all that is in it. Not for an arbiter's thread.
    pub(crate) fn drop_generation(
        &self,
        partition: Partition,
        generation: GenerationId,
    ) -> Result<(), StoreError> {
        let sealed = self.update(partition, |held| {
            if held.sealed.remove(&generation) {
                held.dropping.insert(generation.number);
            }
            if held.intent.as_ref().is_some_and(|intent| intent.source == generation) {
                held.intent = None;
            }
            held.dropping.contains(&generation.number)
        });
        if sealed != Some(true) {
            return Ok(());
        }
        self.remove_keyspaces(partition, generation.number)?;
        self.update(partition, |held| held.dropping.remove(&generation.number));
        Ok(())
    }

    fn remove_keyspaces(&self, partition: Partition, number: Generation) -> Result<(), StoreError> {
        let _nobody_reads = self.removing();
        let mut writes = Vec::new();
        for keyspace in self.store.keyspaces()? {
            let named = matches!(&keyspace, KeyspaceId::Vnode { partition: of, generation, .. }
                if *of == partition && *generation == number);
            if named {
                let key = crate::vnode_master::incarnation_key(&keyspace);
                writes.push(Write { tree: self.slot, key, value: None });
                self.store.drop_keyspace(&keyspace)?;
            }
        }
        if !writes.is_empty() {
            self.storage.submit(writes, false, |_| {});
        }
        Ok(())
    }

    /// The marks that a vnode has on disk: keys that have changed since they were sent.
    pub(crate) fn marks(&self, service: &str, partition: Partition) -> Result<Vec<Vec<u8>>, StoreError> {
        let prefix = mark_prefix(service, partition);
        let mut keys = Vec::new();
        let range = KeyRange::prefix(prefix.as_bytes());
        self.own.tree.scan(&range, Direction::Ascending, &mut |key, _| {
            keys.push(key.get(prefix.len()..).unwrap_or_default().to_vec());
            Flow::Continue(())
        })?;
        Ok(keys)
    }

    /// Where marks are written.
    pub(crate) fn slot(&self) -> TreeSlot {
        self.slot
    }
}

impl Held {
    fn names(&self, number: Generation) -> bool {
        let is = |id: &GenerationId| id.number == number;
        is(&self.live)
            || self.sealed.iter().any(is)
            || self.inbound.as_ref().is_some_and(|(_, id)| is(id))
            || self.dropping.contains(&number)
    }

    fn seal(&mut self, mark: u64) -> GenerationId {
        let old = self.live;
        self.sealed.insert(old);
        self.live = GenerationId { number: self.next, mark };
        self.next = Generation(self.next.0 + 1);
        old
    }

    fn live_in(&mut self, generation: GenerationId) {
        self.sealed.insert(self.live);
        self.live = generation;
        self.inbound = None;
        self.lost = false;
    }
}

fn inherit(records: &mut BTreeMap<(Partition, NodeId), Inbound>, partition: Partition, taken: GenerationId) {
    let of = records.iter_mut().filter(|((of, _), record)| *of == partition && record.generation == taken);
    for (_, record) in of {
        record.inherited = true;
    }
}

fn mark(randomness: &Randomness) -> Result<u64, StartError> {
    randomness.bytes::<8>().map(u64::from_be_bytes).map_err(StartError::Randomness)
}

/// A partition of which nothing was kept: its latest keyspace is the live one.
fn first(keyspaces: Option<&BTreeMap<Generation, bool>>, mark: u64) -> Held {
    let number = keyspaces.and_then(|all| all.keys().next_back().copied()).unwrap_or_default();
    Held {
        live: GenerationId { number, mark },
        sealed: BTreeSet::new(),
        inbound: None,
        outbound: None,
        intent: None,
        dropping: BTreeSet::new(),
        next: Generation(number.0 + 1),
        lost: false,
    }
}

fn write_of(slot: TreeSlot, partition: Partition, held: &Held) -> Write {
    // What is encoded here is bounded far below any limit, so this does not fail.
    let value = stored(held).unwrap_or_default();
    Write { tree: slot, key: held_key(partition), value: Some(value.into()) }
}

fn write_of_inbound(slot: TreeSlot, partition: Partition, record: &Inbound) -> Write {
    let value = stored(&KeptInbound(record.clone())).unwrap_or_default();
    Write { tree: slot, key: inbound_key(partition, record.sender), value: Some(value.into()) }
}

fn find(store: &dyn Store, own: &OpenTree) -> Result<Found, StoreError> {
    let mut found = Found::default();
    let damaged =
        |what: &str| StoreError::Damaged(format!("the store's own record of {what} cannot be read"));
    if let Some(value) = own.tree.get(BIRTH_KEY)? {
        let KeptBirth(mark) = from_stored(&value).map_err(|_| damaged("its birth"))?;
        found.birth = Some(BirthMark(mark));
    }
    let mut unreadable = None;
    own.tree.scan(&KeyRange::prefix(HELD_PREFIX.as_bytes()), Direction::Ascending, &mut |key, value| {
        let number = std::str::from_utf8(&key[HELD_PREFIX.len()..]).ok().and_then(|text| text.parse().ok());
        match (number, from_stored::<Held>(value)) {
            (Some(number), Ok(held)) => {
                found.held.insert(Partition(number), held);
                Flow::Continue(())
            }
            _ => {
                unreadable = Some("a partition's generations");
                Flow::Break(())
            }
        }
    })?;
    own.tree.scan(
        &KeyRange::prefix(INBOUND_PREFIX.as_bytes()),
        Direction::Ascending,
        &mut |key, value| {
            let number = key.get(INBOUND_PREFIX.len()..INBOUND_PREFIX.len() + 5);
            let number = number.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            // What cannot be read of a transfer costs that it begins anew.
            if let (Some(number), Ok(KeptInbound(record))) = (number, from_stored::<KeptInbound>(value)) {
                found.inbound.insert((Partition(number), record.sender), record);
            }
            Flow::Continue(())
        },
    )?;
    if let Some(what) = unreadable {
        return Err(damaged(what));
    }
    for keyspace in store.keyspaces()? {
        if let KeyspaceId::Vnode { partition, generation, .. } = keyspace.clone() {
            let filled = found.keyspaces.entry(partition).or_default().entry(generation).or_default();
            *filled |= has_rows(store, &keyspace)?;
        }
    }
    Ok(found)
}

fn has_rows(store: &dyn Store, keyspace: &KeyspaceId) -> Result<bool, StoreError> {
    let mut filled = false;
    store.open(keyspace)?.tree.scan(&KeyRange::all(), Direction::Ascending, &mut |_, _| {
        filled = true;
        Flow::Break(())
    })?;
    Ok(filled)
}
