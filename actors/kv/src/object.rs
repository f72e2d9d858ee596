//! The object: the values under one name that are current, with the history they were written in. It decides what a
//! write leaves of what is there, how two replicas' states become one, which value is shown where only one is to be,
//! and what is left of an object that was deleted. It does not know the store, the clock, or who mints the dots.
//!
//! The values are a dotted version vector set ([`Dvvs`]). Beside it the state has the latest time that any of its
//! writes bore. Both only grow, so the state is a join-semilattice, whatever a bucket's properties are: *which* of
//! several values counts is decided when one writes or reads, and never in a join.
//!
//! An object is *dead* when all its values are tombstones, and *buried* when it has no value at all and only its
//! history is left, so that no replica that lags behind brings a deleted value back.

use crate::content::{Content, vtag};
use crate::limits::KvInputError;
use crate::name::ObjectName;
use ringwork_core::clock::dotted::{CausalContext, DottedSet};
use ringwork_core::clock::hybrid::HybridTime;
use ringwork_core::ids::Dot;
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::vnode::Item;
use ringwork_core::wire::Wire;
use serde::{Deserialize, Serialize};

/// The dotted version vector set: core's, under the name it has in the papers. Its laws are tested there.
pub type Dvvs<T> = DottedSet<T>;

/// Bytes that an actor takes in an object's history.
const ACTOR_BYTES: usize = 20;

/// What a bucket does with values that were written without knowledge of each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Conflicts {
    /// Keeps all, for a client to make one of them: `allow_mult`.
    Siblings,
    /// Keeps the one that was written last by the nodes' clocks. Riak's default for buckets without a type.
    #[default]
    Latest,
    /// As `Latest`, and a write replaces whatever the replica has that takes it in: `last_write_wins`.
    Overwrite,
    /// Keeps the one that was written first, and takes no second one: `write_once`.
    First,
}

/// See the module's head.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Object {
    values: Dvvs<Content>,
    /// No write of which anything is known here bore a later time.
    latest: HybridTime,
}

/// A value among its siblings.
#[derive(Clone, Copy, Debug)]
pub struct Sibling<'a> {
    /// The write that made it.
    pub dot: Dot,
    /// What was written.
    pub content: &'a Content,
}

impl Sibling<'_> {
    /// Its entity tag.
    pub fn vtag(&self) -> String {
        vtag(self.dot)
    }
}

impl Object {
    /// An object that was never written.
    pub fn new() -> Self {
        Self::default()
    }

    /// All that has been seen of it. A write under this context replaces every value that is there.
    pub fn context(&self) -> CausalContext {
        self.values.context()
    }

    /// The latest time that a write of it bore; the zero of time for what was never written.
    pub fn latest(&self) -> HybridTime {
        self.latest
    }

    /// The current values, tombstones too: by actor, of one actor the newest first.
    pub fn siblings(&self) -> impl Iterator<Item = Sibling<'_>> {
        self.values.dotted().map(|(dot, content)| Sibling { dot, content })
    }

    /// How many values are current, tombstones too.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is no value, not even a tombstone.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Whether there is nothing to be read, whatever the bucket: no value but tombstones.
    pub fn is_dead(&self) -> bool {
        self.values.values().all(|content| content.deleted)
    }

    /// Whether a reader is shown nothing in a bucket that deals with conflicts like this. Where one value counts it may
    /// be a tombstone, beside values that were written before and that whoever deleted had not seen.
    pub fn is_dead_in(&self, conflicts: Conflicts) -> bool {
        is_dead_in(&self.values, conflicts)
    }

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        let values: usize = self.values.values().map(Content::bytes).sum();
        values + self.context().len() * ACTOR_BYTES
    }

    /// Takes in another replica's state of the same object.
    pub fn join(&mut self, other: &Self) {
        self.values.sync(&other.values);
        self.latest = self.latest.max(other.latest);
    }

    /// A write by somebody who had seen `seen`, in a bucket that deals with conflicts like this. Says whether it was
    /// taken: not where `dot` is no new one of its actor (see [`Dvvs::put`]).
    ///
    /// Of `seen` nothing counts that this object has not seen itself: otherwise whoever makes up a context could erase
    /// what is yet to be written. Who hands in an honest one that knows more must join that in before.
    #[must_use = "where this is false the value was not stored"]
    pub fn put(&mut self, content: Content, seen: &CausalContext, dot: Dot, conflicts: Conflicts) -> bool {
        let own = self.context();
        let seen = if conflicts == Conflicts::Overwrite { own } else { seen.meet(&own) };
        let modified = content.modified;
        if !self.values.put(content, &seen, dot) {
            return false;
        }
        self.latest = self.latest.max(modified);
        keep_that_counts(&mut self.values, conflicts);
        true
    }

    /// What a reader is shown: all values, or the one that counts. The history is whole in either case, so a write
    /// under its context replaces all of them.
    pub fn shown(mut self, conflicts: Conflicts) -> Self {
        keep_that_counts(&mut self.values, conflicts);
        self
    }

    /// Takes the tombstones of a dead object away; the history stays, and with it everything that was deleted stays
    /// deleted. Says whether there was something to take away.
    pub fn bury(&mut self) -> bool {
        let buries = self.is_dead() && !self.is_empty();
        if buries {
            self.values.retain(|_, _| false);
        }
        buries
    }

    /// The history with what is said of each value but not the value.
    pub fn outline(&self) -> Outline {
        Outline { values: self.values.map(|_, content| content.said()), latest: self.latest }
    }

    /// When what is shown was last changed, in milliseconds since 1970; none where there is no value.
    pub fn last_modified_ms(&self) -> Option<u64> {
        self.values.values().map(|content| content.modified.milliseconds()).max()
    }

    /// The entity tag: the value's, or of several one that stands for just these; none where there is no value.
    pub fn etag(&self) -> Option<String> {
        let dots: Vec<Dot> = self.siblings().map(|sibling| sibling.dot).collect();
        match dots.as_slice() {
            [] => None,
            [one] => Some(vtag(*one)),
            several => {
                let mut sums = [0u32; 4];
                for dot in several {
                    let bytes = [dot.actor.0.to_be_bytes(), dot.counter.to_be_bytes()].concat();
                    for (place, sum) in sums.iter_mut().enumerate() {
                        *sum = crc32c::crc32c_append(*sum ^ place as u32, &bytes);
                    }
                }
                let [a, b, c, d] = sums.map(u64::from);
                let stands = Dot { actor: ringwork_core::ids::ActorId(a << 32 | b), counter: c << 32 | d };
                Some(vtag(stands))
            }
        }
    }

    /// Refuses an object that a write has made larger than objects may be.
    pub fn check_size(&self, max: usize) -> Result<(), KvInputError> {
        let bytes = self.bytes();
        if bytes > max { Err(KvInputError::ObjectTooLarge { bytes, max }) } else { Ok(()) }
    }
}

/// What has a place among the values of an object.
trait Valued {
    /// What is said of it.
    fn said(&self) -> Said;
}

impl Valued for Content {
    fn said(&self) -> Said {
        Said { modified: self.modified, deleted: self.deleted }
    }
}

impl Valued for Said {
    fn said(&self) -> Said {
        *self
    }
}

/// The value that counts, where a bucket shows one of several; none where it shows all, or there is none.
fn that_counts<T: Valued>(values: &Dvvs<T>, conflicts: Conflicts) -> Option<(Dot, Said)> {
    let said = values.dotted().map(|(dot, value)| (dot, value.said()));
    match conflicts {
        Conflicts::Siblings => None,
        // A key that was given back by a delete is taken anew by what comes after.
        Conflicts::First => said.min_by_key(|(dot, said)| (said.deleted, said.modified, *dot)),
        Conflicts::Latest | Conflicts::Overwrite => said.max_by_key(|(dot, said)| (said.modified, *dot)),
    }
}

/// Only the value that counts stays, where one is to. Every replica chooses alike, from what it has, by a total
/// order: the node's clock, and of two at one time the dot, which means nothing but is the same everywhere. So of all
/// the values that are left in the end the same one is shown wherever it is known, and stays.
fn keep_that_counts<T: Valued>(values: &mut Dvvs<T>, conflicts: Conflicts) {
    if values.len() > 1
        && let Some((counts, _)) = that_counts(values, conflicts)
    {
        values.retain(|dot, _| dot == counts);
    }
}

fn is_dead_in<T: Valued>(values: &Dvvs<T>, conflicts: Conflicts) -> bool {
    match that_counts(values, conflicts) {
        Some((_, said)) => said.deleted,
        None => values.values().all(|value| value.said().deleted),
    }
}

/// What is said of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Said {
    /// See [`Content::modified`].
    pub modified: HybridTime,
    /// See [`Content::deleted`].
    pub deleted: bool,
}

/// An object without its values: its clock. What a delete reads first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Outline {
    values: Dvvs<Said>,
    latest: HybridTime,
}

impl Outline {
    /// See [`Object::context`].
    pub fn context(&self) -> CausalContext {
        self.values.context()
    }

    /// See [`Object::len`].
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// See [`Object::is_empty`].
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// See [`Object::is_dead`].
    pub fn is_dead(&self) -> bool {
        self.values.values().all(|said| said.deleted)
    }

    /// See [`Object::is_dead_in`].
    pub fn is_dead_in(&self, conflicts: Conflicts) -> bool {
        is_dead_in(&self.values, conflicts)
    }

    /// See [`Object::shown`].
    pub fn shown(mut self, conflicts: Conflicts) -> Self {
        keep_that_counts(&mut self.values, conflicts);
        self
    }

    /// See [`Object::join`].
    pub fn join(&mut self, other: &Self) {
        self.values.sync(&other.values);
        self.latest = self.latest.max(other.latest);
    }

    /// Whether a replica with that clock adds nothing to one with this.
    pub fn includes(&self, other: &Self) -> bool {
        self.latest >= other.latest && self.values.includes(&other.values)
    }
}

/// An object under its name: the unit of replication.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KvItem {
    /// What it is called.
    pub name: ObjectName,
    /// What it is.
    pub object: Object,
}

impl Wire for KvItem {
    const VERSION: u16 = 1;
}

impl Item for KvItem {
    fn routing_key(&self) -> &[u8] {
        self.name.bytes()
    }

    fn join(mut self, other: Self) -> Self {
        if planted(Mutant::LatestObjectWins) {
            return if self.object.latest() < other.object.latest() { other } else { self };
        }
        self.object.join(&other.object);
        self
    }
}

#[cfg(test)]
mod tests;
