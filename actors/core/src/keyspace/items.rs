//! The plainest way to keep items: one row for each, under the item's own key. It decides how such a row is laid out,
//! what merging does to it, and what is told of it as changed. It does not know what an item says. A module that keeps
//! more (an index, marks that hide others) writes its rows itself.

use super::{Keyspace, Snapshot};
use crate::store::{Direction, Flow, KeyRange, StoreError};
use crate::vnode::{Item, Merged, VisitItem};
use crate::wire::{WireError, codec};
use std::marker::PhantomData;

/// Bytes of the version that a row begins with.
const VERSION_BYTES: usize = 2;

/// Why items could not be kept or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ItemsError {
    /// The store could not. What that did is the store error's to say; the turn's own writes are dropped.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The item has no form that a row can have: it is too large. Nothing was changed.
    #[error("the item cannot be stored: {0}")]
    Unwritable(WireError),
    /// The row was written in another layout. Nothing was changed: taken for nothing, it would be written over.
    #[error(
        "a stored item has version {found}, and this module reads version {known}; run the module that wrote it, or \
         one that reads both"
    )]
    Version {
        /// The row's; 0 of a row that is too short to have one.
        found: u16,
        /// The item type's.
        known: u16,
    },
    /// The row is of this layout and is no item. Nothing was changed.
    #[error("a stored item cannot be read: {0}")]
    Unreadable(WireError),
}

/// A keyspace in which every row is an item.
pub struct Items<I: Item> {
    keyspace: Keyspace,
    items: PhantomData<fn() -> I>,
}

impl<I: Item> Items<I> {
    /// Over a keyspace in which nobody else writes.
    pub fn over(keyspace: Keyspace) -> Self {
        Self { keyspace, items: PhantomData }
    }

    /// The item of that key.
    pub fn get(&self, key: &[u8]) -> Result<Option<I>, ItemsError> {
        self.keyspace.get(key)?.map(|row| read_row(&row)).transpose()
    }

    /// Joins an item with what is there of its key. Where nothing comes of it, nothing is written.
    pub fn merge(&self, item: I) -> Result<Merged, ItemsError> {
        let key = item.key();
        let before = self.get(&key)?;
        let after = match before.clone() {
            Some(before) => before.join(item),
            None => item,
        };
        if before.as_ref() == Some(&after) {
            return Ok(Merged::Unchanged);
        }
        self.keyspace.put(key, row_of(&after)?);
        self.keyspace.changed(before.as_ref(), Some(&after));
        Ok(Merged::Changed)
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> Result<bool, ItemsError> {
        let mut empty = true;
        self.keyspace.scan(&KeyRange::all(), Direction::Ascending, &mut |_, _| {
            empty = false;
            Flow::Break(())
        })?;
        Ok(empty)
    }

    /// Removes every item, also those that cannot be read.
    pub fn clear(&self) -> Result<(), ItemsError> {
        let mut keys = Vec::new();
        self.keyspace.scan(&KeyRange::all(), Direction::Ascending, &mut |key, _| {
            keys.push(key.to_vec());
            Flow::Continue(())
        })?;
        self.keyspace.changed_within(&KeyRange::all());
        keys.into_iter().for_each(|key| self.keyspace.remove(key));
        Ok(())
    }

    /// Visits the items of `range` in the order of their keys until `visit` breaks: what [`crate::vnode::Vnode::fold`]
    /// has to do. Ends with an error at a row that cannot be read.
    pub fn fold(snapshot: &Snapshot, range: &KeyRange, visit: VisitItem<'_, I>) -> Result<(), ItemsError> {
        let mut failed = None;
        snapshot.scan(range, Direction::Ascending, &mut |_, row| match read_row(row) {
            Ok(item) => visit(item),
            Err(error) => {
                failed = Some(error);
                Flow::Break(())
            }
        })?;
        failed.map_or(Ok(()), Err)
    }
}

fn row_of<I: Item>(item: &I) -> Result<Vec<u8>, ItemsError> {
    let mut row = I::VERSION.to_be_bytes().to_vec();
    codec::encode_into(item, &mut row).map_err(ItemsError::Unwritable)?;
    Ok(row)
}

fn read_row<I: Item>(row: &[u8]) -> Result<I, ItemsError> {
    let known = I::VERSION;
    match row.split_first_chunk::<VERSION_BYTES>() {
        Some((version, body)) if u16::from_be_bytes(*version) == known => {
            codec::decode(body).map_err(ItemsError::Unreadable)
        }
        other => Err(ItemsError::Version { found: other.map_or(0, |(v, _)| u16::from_be_bytes(*v)), known }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::question::EveryItem;
    use crate::ids::Partition;
    use crate::store::memory::MemoryStore;
    use crate::store::{KeyspaceId, Store};
    use crate::testing::{Draw, check_laws, check_listing_laws, find_violation};
    use crate::vnode::{Outcome, Resolution, Turn, Vnode};
    use crate::wire::Wire;
    use serde::{Deserialize, Serialize};

    /// The largest number under each name. `LATEST`: the one that came last, which is no join.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    struct Highest<const LATEST: bool> {
        name: String,
        number: u64,
    }

    impl<const LATEST: bool> Wire for Highest<LATEST> {
        const VERSION: u16 = 7;
    }

    impl<const LATEST: bool> Item for Highest<LATEST> {
        fn routing_key(&self) -> &[u8] {
            self.name.as_bytes()
        }
        fn key(&self) -> Vec<u8> {
            self.name.clone().into_bytes()
        }
        fn join(self, other: Self) -> Self {
            let number = if LATEST { other.number } else { self.number.max(other.number) };
            Self { number, name: self.name }
        }
    }

    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Get(String);

    impl Wire for Get {
        const VERSION: u16 = 1;
    }

    struct Kept<const LATEST: bool>(Items<Highest<LATEST>>);

    impl<const LATEST: bool> Vnode for Kept<LATEST> {
        const SERVICE: &'static str = "kept";
        type Config = ();
        type Command = Get;
        type Reply = Option<Highest<LATEST>>;
        type Item = Highest<LATEST>;
        type Question = EveryItem;
        type Error = ItemsError;

        fn init(_: Partition, _: &(), store: Keyspace) -> Result<Self, ItemsError> {
            Ok(Self(Items::over(store)))
        }
        fn handle_command(
            &mut self,
            Get(name): Get,
            _: &mut Turn<'_, Self>,
        ) -> Result<Outcome<Self>, ItemsError> {
            Ok(Outcome::Reply(self.0.get(name.as_bytes())?))
        }
        fn merge(&mut self, item: Highest<LATEST>) -> Result<Merged, ItemsError> {
            self.0.merge(item)
        }
        fn fold(
            snapshot: &Snapshot,
            range: &KeyRange,
            visit: VisitItem<'_, Highest<LATEST>>,
        ) -> Result<(), ItemsError> {
            Items::fold(snapshot, range, visit)
        }
        fn is_empty(&self) -> Result<bool, ItemsError> {
            self.0.is_empty()
        }
        fn delete(&mut self) -> Result<(), ItemsError> {
            self.0.clear()
        }
        fn resolve(_: &Get, replies: &[Self::Reply]) -> Option<Resolution<Self>> {
            Resolution::joined(replies)
        }
    }

    fn drawn<const LATEST: bool>(draw: &mut Draw) -> Highest<LATEST> {
        // Names of which one begins another, and one that is empty.
        let name = draw.pick(&["", "a", "ab", "b"]).copied().unwrap_or_default();
        Highest { name: name.to_owned(), number: draw.below(5) }
    }

    fn highest(name: &str, number: u64) -> Highest<false> {
        Highest { name: name.to_owned(), number }
    }

    #[test]
    fn a_module_that_only_keeps_items_is_lawful_and_so_is_the_list_of_them() {
        check_laws::<Kept<false>>(&(), drawn);
        check_listing_laws::<Kept<false>>(&(), drawn, |_| EveryItem);
    }

    #[test]
    fn a_join_that_is_none_is_found() {
        assert!(find_violation::<Kept<true>>(&(), 300, drawn).is_some());
    }

    #[test]
    fn a_row_that_cannot_be_read_is_an_error_and_stays() {
        let (keyspace, host) = Keyspace::new(MemoryStore::new().open(&KeyspaceId::Node).unwrap());
        keyspace.put(&b"a"[..], vec![0, 8, 1]);
        keyspace.put(&b"b"[..], vec![0, 7, 200]);
        keyspace.put(&b"c"[..], vec![7]);
        let items = Items::<Highest<false>>::over(keyspace);
        assert!(matches!(items.get(b"a"), Err(ItemsError::Version { found: 8, known: 7 })));
        assert!(matches!(items.get(b"b"), Err(ItemsError::Unreadable(_))));
        assert!(matches!(items.get(b"c"), Err(ItemsError::Version { found: 0, known: 7 })));
        assert!(items.merge(highest("a", 1)).is_err());
        assert_eq!(items.keyspace.get(b"a").unwrap().as_deref(), Some(&[0, 8, 1][..]));
        let mut visited = 0;
        let folded = Items::<Highest<false>>::fold(&host.snapshot(), &KeyRange::all(), &mut |_| {
            visited += 1;
            Flow::Continue(())
        });
        assert!(folded.is_err() && visited == 0);
        assert!(!items.is_empty().unwrap());
        items.clear().unwrap();
        assert!(items.is_empty().unwrap());
    }

    #[test]
    fn replies_that_are_items_join_and_who_lacks_something_is_sent_it() {
        let replies = [Some(highest("a", 2)), None, Some(highest("a", 5)), Some(highest("a", 5))];
        let joined = Resolution::<Kept<false>>::joined(&replies).unwrap();
        assert_eq!(joined.reply, Some(highest("a", 5)));
        assert_eq!(joined.repairs, [(0, highest("a", 5)), (1, highest("a", 5))]);
        let nothing = Resolution::<Kept<false>>::joined(&[None, None]).unwrap();
        assert!(nothing.reply.is_none() && nothing.repairs.is_empty());
        assert!(Resolution::<Kept<false>>::joined(&[]).is_none());
    }
}
