//! What a module can be asked to list: the part of the contract that a listing needs. It decides what a question and
//! its rows owe; how a listing is spread over vnodes it does not know. A module that lists what it keeps, as it is,
//! says `type Question = EveryItem;`, one that lists nothing `type Question = NoQuestion;`.

use crate::keyspace::Snapshot;
use crate::store::{Flow, KeyRange};
use crate::vnode::{Item, Vnode};
use crate::wire::{Wire, codec};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::Debug;
use std::ops::Bound;

/// One line of a listing.
pub trait Row: Wire + Clone + PartialEq + Debug {
    /// Its place in the listing, and which row it is: two rows of one key are the same. At most
    /// [`crate::limits::STORE_KEY_BYTES_MAX`] bytes.
    fn key(&self) -> &[u8];

    /// Bytes that it takes in memory and on the wire, about.
    fn bytes(&self) -> usize {
        self.key().len() + 32
    }
}

/// What going through a vnode's rows meets.
pub enum Seen<'a, R> {
    /// A row.
    Row {
        /// Where it belongs: what the items are hashed by that it comes from.
        routing_key: &'a [u8],
        /// The row.
        row: R,
    },
    /// There is no row under this key; it took a look to find that out. Said so that a page ends after so many looks,
    /// however few rows they give.
    Nothing {
        /// Behind this the next page begins.
        key: &'a [u8],
    },
    /// What was met since the last such word was large to go through, whatever the rows say of it: said behind a row or
    /// a nothing so that a page ends here, where others end after a number of looks.
    Enough,
}

/// A question that every vnode of a service can be asked, and whose answers together are one list.
pub trait Question<V: Vnode>: Wire + Clone + PartialEq + Debug {
    /// What the list consists of.
    type Row: Row;

    /// Goes through the rows behind the key `after`, in ascending order of their keys, each once, until `visit` breaks.
    /// What a row says depends on the items of its routing key alone. Runs on a snapshot, away from the vnode.
    fn cover(
        &self,
        snapshot: &Snapshot,
        after: Option<&[u8]>,
        visit: &mut dyn FnMut(Seen<'_, Self::Row>) -> Flow,
    ) -> Result<(), V::Error>;
}

/// For modules that list nothing. No value of it can be made, so nobody can ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum NoQuestion {}

impl Wire for NoQuestion {
    const VERSION: u16 = 1;
}

impl Row for NoQuestion {
    fn key(&self) -> &[u8] {
        match *self {}
    }
}

impl<V: Vnode> Question<V> for NoQuestion {
    type Row = Self;

    fn cover(
        &self,
        _: &Snapshot,
        _: Option<&[u8]>,
        _: &mut dyn FnMut(Seen<'_, Self>) -> Flow,
    ) -> Result<(), V::Error> {
        match *self {}
    }
}

/// "What is there?" Lists all that a module keeps: what its folds show, whatever module it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EveryItem;

impl Wire for EveryItem {
    const VERSION: u16 = 1;
}

/// An item as a row. On the wire it is the item alone, so its key cannot be another's.
#[derive(Clone, PartialEq, Debug)]
pub struct ItemRow<I> {
    key: Vec<u8>,
    item: I,
}

impl<I: Item> ItemRow<I> {
    /// The row of an item.
    pub fn of(item: I) -> Self {
        Self { key: item.key(), item }
    }

    /// The item.
    pub fn into_item(self) -> I {
        self.item
    }
}

impl<I: Item> Serialize for ItemRow<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.item.serialize(serializer)
    }
}

impl<'de, I: Item> Deserialize<'de> for ItemRow<I> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        I::deserialize(deserializer).map(Self::of)
    }
}

impl<I: Item> Wire for ItemRow<I> {
    const VERSION: u16 = I::VERSION;
}

impl<I: Item> Row for ItemRow<I> {
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn bytes(&self) -> usize {
        // Items can be large; what cannot be encoded is refused when it is sent.
        self.key.len() + 32 + codec::encode(&self.item).map_or(0, |bytes| bytes.len())
    }
}

impl<V: Vnode> Question<V> for EveryItem {
    type Row = ItemRow<V::Item>;

    fn cover(
        &self,
        snapshot: &Snapshot,
        after: Option<&[u8]>,
        visit: &mut dyn FnMut(Seen<'_, Self::Row>) -> Flow,
    ) -> Result<(), V::Error> {
        let start = match after {
            Some(after) => Bound::Excluded(Bytes::copy_from_slice(after)),
            None => Bound::Unbounded,
        };
        V::fold(snapshot, &KeyRange { start, end: Bound::Unbounded }, &mut |item| {
            let routing_key = item.routing_key().to_vec();
            visit(Seen::Row { routing_key: &routing_key, row: ItemRow::of(item) })
        })
    }
}
