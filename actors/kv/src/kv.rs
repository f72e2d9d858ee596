//! The vnode: one partition's objects. It decides what each command does: when a write is taken, what it leaves, and
//! what a read answers. How rows lie is in `rows`, what becomes of deleted objects in `reap`, listing in
//! [`crate::keys`]. It does not know replicas: an item that it merges may come from anywhere.

use crate::command::{KvCommand, KvReply, Put, PutRefusal, PutReply, Stored};
use crate::content::Content;
use crate::counter::{CountRefusal, Counter};
use crate::keys::KvList;
use crate::limits::{
    BURIALS_WAITING_MAX, OBJECT_BYTES_DEFAULT, OBJECT_BYTES_MAX, SIBLINGS_MAX_DEFAULT, SIBLINGS_WARN_DEFAULT,
};
use crate::name::ObjectName;
use crate::object::{Conflicts, KvItem, Object, Outline};
use crate::reap::Burials;
use crate::rows::{self, RowError};
use ringwork_core::clock::hybrid::HybridTime;
use ringwork_core::ids::Partition;
use ringwork_core::keyspace::{Keyspace, Snapshot};
use ringwork_core::store::{Direction, Flow, KeyRange, StoreError};
use ringwork_core::vnode::{Item, Merged, Outcome, Resolution, Turn, VisitItem, Vnode};
use std::time::Duration;

/// What becomes of the tombstone that a delete writes. In every mode the object's history stays for
/// [`KvConfig::tombstone_keep`], so nothing that was deleted comes back; the modes differ in how long clients see the
/// tombstone, and its causal context with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeleteMode {
    /// It stays as long as the history.
    Keep,
    /// It is buried with the delete itself.
    Immediate,
    /// It is buried after this time, if nothing else was written until then.
    After(Duration),
}

/// What the operator may set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KvConfig {
    /// Bytes of an object with all of its siblings; at most [`OBJECT_BYTES_MAX`].
    pub object_bytes_max: usize,
    /// Siblings above which a write is told that there are many.
    pub siblings_warn: usize,
    /// Siblings above which a write that adds one is refused.
    pub siblings_max: usize,
    /// See [`DeleteMode`]. Riak's `delete_mode`, with its default.
    pub delete_mode: DeleteMode,
    /// How long it is remembered that an object was deleted. A node that was away for longer must not come back with
    /// what it had.
    pub tombstone_keep: Duration,
    /// How often is looked at what was deleted long ago.
    pub sweep_interval: Duration,
}

impl Default for KvConfig {
    fn default() -> Self {
        Self {
            object_bytes_max: OBJECT_BYTES_DEFAULT,
            siblings_warn: SIBLINGS_WARN_DEFAULT,
            siblings_max: SIBLINGS_MAX_DEFAULT,
            delete_mode: DeleteMode::After(Duration::from_secs(3)),
            tombstone_keep: Duration::from_secs(10 * 24 * 3600),
            sweep_interval: Duration::from_secs(60),
        }
    }
}

/// Why the vnode could not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// The store could not. What that did is the store error's to say; the turn's own writes are dropped.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row cannot be written or read. Nothing was changed.
    #[error(transparent)]
    Row(#[from] RowError),
    /// The vnode has counted less than its own objects have seen, and even a new name for it was not new. Nothing was
    /// changed.
    #[error("this vnode cannot name a new write of object {0:?}")]
    NoNewDot(ObjectName),
}

/// The objects of one partition on one node.
pub struct Kv {
    pub(crate) store: Keyspace,
    pub(crate) config: KvConfig,
    /// Tombstones that this vnode wrote and that are due to be buried.
    pub(crate) burials: Burials,
}

impl Kv {
    pub(crate) fn load(&self, name: &ObjectName) -> Result<Option<KvItem>, KvError> {
        let row = self.store.get(name.bytes())?;
        Ok(row.map(|row| rows::read(name.bytes(), &row)).transpose()?)
    }

    /// The same, and none where the row cannot be read: for what may leave an object as it is.
    pub(crate) fn load_if_readable(&self, name: &ObjectName) -> Result<Option<KvItem>, KvError> {
        match self.load(name) {
            Err(KvError::Row(_)) => Ok(None),
            loaded => loaded,
        }
    }

    fn put(&mut self, put: Put, turn: &mut Turn<'_, Self>) -> Result<PutReply, KvError> {
        let Put { name, mut content, seen, read, conditions, rules, return_object } = put;
        let before = self.load(&name)?;
        let mut object = before.as_ref().map(|item| item.object.clone()).unwrap_or_default();
        if let Some(read) = &read {
            object.join(read);
        }
        // Where a write replaces whatever is there, what its writer has seen is nobody's business. A delete must find
        // it, or it would stand beside the tombstone.
        let looks_at_seen = rules.conflicts != Conflicts::Overwrite || content.deleted;
        if looks_at_seen && read.is_none() && !object.context().descends(&seen) {
            return Ok(PutReply::Behind);
        }
        if conditions.any()
            && let Err(failure) = conditions.judge_write(&object.clone().shown(rules.conflicts))
        {
            return Ok(PutReply::Refused(failure.into()));
        }
        let (existed, siblings_before) = (!object.is_dead_in(rules.conflicts), object.len());
        if rules.conflicts == Conflicts::First && existed && !content.deleted {
            let shown = object.clone().shown(Conflicts::First);
            if !shown.siblings().any(|sibling| sibling.content.says_the_same(&content)) {
                return Ok(PutReply::Refused(PutRefusal::WrittenBefore));
            }
            // Perhaps the replicas did not get it the first time.
            return self.store(
                before,
                KvItem { name, object },
                (rules.conflicts, return_object, existed),
                turn,
            );
        }
        let deletes = content.deleted;
        // A clock that is far behind what stands here does not move for it; the order of the writes does.
        let after = HybridTime(object.latest().0.saturating_add(1));
        content.modified = turn.stamp_above(object.latest()).time.max(after);
        let dot = turn.dot_unseen_by(&object.context());
        if !object.put(content, &seen, dot, rules.conflicts) {
            return Err(KvError::NoNewDot(name));
        }
        if object.len() > self.config.siblings_max && object.len() > siblings_before {
            let max = self.config.siblings_max;
            return Ok(PutReply::Refused(PutRefusal::TooManySiblings { siblings: siblings_before, max }));
        }
        let max = self.config.object_bytes_max.min(OBJECT_BYTES_MAX);
        if object.check_size(max).is_err() && !deletes {
            let (bytes, siblings) = (object.bytes(), object.len());
            return Ok(PutReply::Refused(PutRefusal::TooLarge { bytes, siblings, max }));
        }
        if self.config.delete_mode == DeleteMode::Immediate {
            object.bury();
        }
        self.store(before, KvItem { name, object }, (rules.conflicts, return_object, existed), turn)
    }

    /// As the vnode's own actor, so of what it has added before nothing is missing here.
    fn count(
        &mut self,
        name: ObjectName,
        amount: i64,
        turn: &mut Turn<'_, Self>,
    ) -> Result<PutReply, KvError> {
        let before = self.load(&name)?;
        let mut object = before.as_ref().map(|item| item.object.clone()).unwrap_or_default();
        let existed = !object.is_dead();
        let after = HybridTime(object.latest().0.saturating_add(1));
        let modified = turn.stamp_above(object.latest()).time.max(after);
        let dot = turn.dot_unseen_by(&object.context());
        let counted = Counter::of(&object).and_then(|counter| {
            let mut counter = counter.unwrap_or_default();
            counter.add(amount, dot)?;
            Ok(Content { modified, ..counter.to_content() })
        });
        let content = match counted {
            Ok(content) => content,
            Err(CountRefusal::NoCounter) => return Ok(PutReply::Refused(PutRefusal::NoCounter)),
            Err(CountRefusal::TooMuch) => return Ok(PutReply::Refused(PutRefusal::CountTooMuch)),
        };
        let seen = object.context();
        if !object.put(content, &seen, dot, Conflicts::Siblings) {
            return Err(KvError::NoNewDot(name));
        }
        self.store(before, KvItem { name, object }, (Conflicts::Siblings, true, existed), turn)
    }

    fn store(
        &mut self,
        before: Option<KvItem>,
        after: KvItem,
        (conflicts, return_object, existed): (Conflicts, bool, bool),
        turn: &mut Turn<'_, Self>,
    ) -> Result<PutReply, KvError> {
        if before.as_ref() != Some(&after) {
            rows::keep(&self.store, before.as_ref(), Some(&after))?;
        }
        self.note_tombstone(&after, turn);
        let siblings = after.object.len();
        let object = return_object.then(|| after.object.clone().shown(conflicts));
        // It is the turn's only item, so there is room for it.
        let _ = turn.touched(after);
        let many_siblings = siblings > self.config.siblings_warn;
        Ok(PutReply::Stored(Stored { object, siblings, many_siblings, existed }))
    }

    fn note_tombstone(&mut self, item: &KvItem, turn: &mut Turn<'_, Self>) {
        let DeleteMode::After(delay) = self.config.delete_mode else { return };
        if !item.object.is_dead() || item.object.is_empty() || self.burials.waiting() >= BURIALS_WAITING_MAX {
            return;
        }
        let now_ms = turn.now_ms();
        if let Some(first_in) = self.burials.add(item.name.clone(), item.object.latest(), now_ms, delay) {
            turn.later(first_in, KvCommand::Bury);
        }
    }
}

/// What the replicas whose answers are whole have together; none where no answer is.
fn joined_wholes(replies: &[KvReply]) -> Option<Option<KvItem>> {
    let wholes = replies.iter().filter_map(|reply| match reply {
        KvReply::Object(item) => Some(item),
        _ => None,
    });
    let mut seen = false;
    let all = wholes.inspect(|_| seen = true).flatten().cloned().reduce(KvItem::join);
    seen.then_some(all)
}

/// The join of what replicas have, and who of them lacks something of it. Clocks are answers, too: they say who lacks
/// something.
fn joined(replies: &[KvReply]) -> Option<Resolution<Kv>> {
    let all = joined_wholes(replies)?;
    let clock = all.as_ref().map(|all| all.object.outline());
    let lacks = |reply: &KvReply| match reply {
        KvReply::Object(item) => *item != all,
        KvReply::Outline(theirs) => *theirs != clock,
        KvReply::Put(_) => false,
    };
    let lacking = replies.iter().enumerate().filter(|(_, reply)| lacks(reply)).map(|(place, _)| place);
    let repairs = all.iter().flat_map(|all| lacking.clone().map(|place| (place, all.clone()))).collect();
    Some(Resolution { reply: KvReply::Object(all), repairs })
}

/// Whose clocks show more than the whole answers have: the one that has seen all, if there is one, else each that adds
/// something.
fn clocks_unseen(replies: &[KvReply]) -> Vec<usize> {
    let wholes = joined_wholes(replies);
    let mut seen = wholes.as_ref().and_then(|all| Some(all.as_ref()?.object.outline())).unwrap_or_default();
    let clocks: Vec<(usize, &Outline)> = (replies.iter().enumerate())
        .filter_map(|(place, reply)| match reply {
            KvReply::Outline(Some(clock)) => Some((place, clock)),
            _ => None,
        })
        .filter(|(_, clock)| !seen.includes(clock))
        .collect();
    if let Some((place, _)) =
        clocks.iter().find(|(_, one)| clocks.iter().all(|(_, other)| one.includes(other)))
    {
        return vec![*place];
    }
    let mut unseen = Vec::new();
    for (place, clock) in clocks {
        if !seen.includes(clock) {
            seen.join(clock);
            unseen.push(place);
        }
    }
    // Nobody has anything, and nobody was asked for all of it: any of them can say so.
    if unseen.is_empty() && wholes.is_none() {
        unseen.extend(replies.iter().position(|reply| matches!(reply, KvReply::Outline(_))));
    }
    unseen
}

impl Vnode for Kv {
    const SERVICE: &'static str = "kv";
    type Config = KvConfig;
    type Command = KvCommand;
    type Reply = KvReply;
    type Item = KvItem;
    type Question = KvList;
    type Error = KvError;

    fn init(_: Partition, config: &KvConfig, store: Keyspace) -> Result<Self, KvError> {
        Ok(Self { store, config: config.clone(), burials: Burials::default() })
    }

    fn handle_command(
        &mut self,
        command: KvCommand,
        turn: &mut Turn<'_, Self>,
    ) -> Result<Outcome<Self>, KvError> {
        match command {
            KvCommand::Get(name) => Ok(Outcome::Reply(KvReply::Object(self.load(&name)?))),
            KvCommand::Head(name) => {
                let outline = self.load(&name)?.map(|item| item.object.outline());
                Ok(Outcome::Reply(KvReply::Outline(outline)))
            }
            KvCommand::Put(put) => Ok(Outcome::Reply(KvReply::Put(self.put(*put, turn)?))),
            KvCommand::Count(name, amount) => {
                Ok(Outcome::Reply(KvReply::Put(self.count(name, amount, turn)?)))
            }
            KvCommand::Sweep => {
                // In a turn of its own: one that fails must not be the last.
                turn.later(self.config.sweep_interval, KvCommand::Sweep);
                turn.later(Duration::ZERO, KvCommand::Reap);
                Ok(Outcome::Nothing)
            }
            KvCommand::Bury => self.bury_due(turn).map(|()| Outcome::Nothing),
            KvCommand::Reap => self.reap(turn).map(|()| Outcome::Nothing),
        }
    }

    /// An object that is forgotten here is not taken in again as the dead one that it was; see `reap`. A row that
    /// cannot be read is not written over: it may have dots of this vnode's that the item lacks, and the vnode's next
    /// one would claim these, and so take their values from whoever has them.
    fn merge(&mut self, item: KvItem) -> Result<Merged, KvError> {
        let before = self.load(&item.name)?;
        let after = match before.clone() {
            Some(before) => before.join(item),
            None => item,
        };
        if before.as_ref() == Some(&after) {
            return Ok(Merged::Unchanged);
        }
        if !self.is_forgotten(&after.object)? {
            rows::keep(&self.store, before.as_ref(), Some(&after))?;
        } else if before.is_some() {
            rows::keep(&self.store, before.as_ref(), None)?;
        } else {
            return Ok(Merged::Absorbed);
        }
        Ok(Merged::Changed)
    }

    fn fold(snapshot: &Snapshot, range: &KeyRange, visit: VisitItem<'_, KvItem>) -> Result<(), KvError> {
        let mut failed = None;
        snapshot.scan(&rows::names_within(range), Direction::Ascending, &mut |key, row| match rows::read(
            key, row,
        ) {
            Ok(item) => visit(item),
            Err(error) => {
                failed = Some(error);
                Flow::Break(())
            }
        })?;
        Ok(failed.map_or(Ok(()), Err)?)
    }

    fn is_empty(&self) -> Result<bool, KvError> {
        let mut empty = true;
        self.store.scan(&rows::names_within(&KeyRange::all()), Direction::Ascending, &mut |_, _| {
            empty = false;
            Flow::Break(())
        })?;
        Ok(empty)
    }

    fn delete(&mut self) -> Result<(), KvError> {
        let mut keys = Vec::new();
        self.store.scan(&KeyRange::all(), Direction::Ascending, &mut |key, _| {
            keys.push(key.to_vec());
            Flow::Continue(())
        })?;
        self.store.changed_within(&KeyRange::all());
        keys.into_iter().for_each(|key| self.store.remove(key));
        self.burials = Burials::default();
        Ok(())
    }

    fn started(&mut self, turn: &mut Turn<'_, Self>) -> Result<(), KvError> {
        turn.later(self.config.sweep_interval, KvCommand::Sweep);
        Ok(())
    }

    /// Clocks from all, the values from one.
    fn glance(command: &KvCommand) -> Option<KvCommand> {
        match command {
            KvCommand::Get(name) => Some(KvCommand::Head(name.clone())),
            _ => None,
        }
    }

    fn unseen(command: &KvCommand, replies: &[KvReply]) -> Vec<usize> {
        match command {
            KvCommand::Get(_) => clocks_unseen(replies),
            _ => Vec::new(),
        }
    }

    fn resolve(command: &KvCommand, replies: &[KvReply]) -> Option<Resolution<Self>> {
        match command {
            KvCommand::Get(_) => joined(replies),
            KvCommand::Head(_) => {
                let mut all: Option<crate::object::Outline> = None;
                for outline in replies.iter().filter_map(|reply| match reply {
                    KvReply::Outline(outline) => outline.as_ref(),
                    _ => None,
                }) {
                    match &mut all {
                        Some(all) => all.join(outline),
                        None => all = Some(outline.clone()),
                    }
                }
                Some(Resolution { reply: KvReply::Outline(all), repairs: Vec::new() })
            }
            _ => replies.first().map(|reply| Resolution { reply: reply.clone(), repairs: Vec::new() }),
        }
    }
}

impl Kv {
    /// Whether an object is dead and older than what is remembered here.
    fn is_forgotten(&self, object: &Object) -> Result<bool, KvError> {
        if !object.is_dead() {
            return Ok(false);
        }
        let horizon_ms = rows::horizon_ms(&self.store)?;
        Ok(horizon_ms > 0 && object.latest().milliseconds() <= horizon_ms)
    }
}
