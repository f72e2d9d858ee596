//! What a module can be asked to list: the part of the contract that a listing needs. It decides what a question and
//! its rows owe; how a listing is spread over vnodes it does not know. A module that lists nothing says
//! `type Question = NoQuestion;`.

use crate::keyspace::Snapshot;
use crate::store::Flow;
use crate::vnode::Vnode;
use crate::wire::Wire;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

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
