//! How objects lie in a vnode's keyspace: keys, values, and the rows beside them by which deleted objects are found
//! again. It decides bytes on disk, so what is here stays for ever. It does not know when something is buried or
//! forgotten.
//!
//! | key | value |
//! |---|---|
//! | an object's name | layout (1), whether there is something to be read (below), the object |
//! | NUL `t`, time, name | nothing: the object is dead and has tombstones; the time is its latest |
//! | NUL `g`, time, name | nothing: the object is buried |
//! | NUL `h` | the horizon: dead objects up to this millisecond have been forgotten |
//!
//! Numbers are eight bytes, the highest first. No name begins with a NUL.
//!
//! What can be read depends on the bucket, which no row knows: 0 says that something can, 1 that nothing can, 2 that
//! nothing can where the latest value counts, because that is a tombstone, and that something can elsewhere.

use crate::name::ObjectName;
use crate::object::{Conflicts, KvItem, Object};
use bytes::Bytes;
use ringwork_core::clock::hybrid::HybridTime;
use ringwork_core::keyspace::{Keyspace, Read};
use ringwork_core::limits::STORE_VALUE_BYTES_MAX;
use ringwork_core::store::{Direction, Flow, KeyRange, StoreError};
use ringwork_core::wire::{WireError, codec};
use serde::{Deserialize, Serialize};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

const LAYOUT: u8 = 1;
const HEADER_BYTES: usize = 2;
const ALIVE: u8 = 0;
const DEAD: u8 = 1;
const DELETED_LAST: u8 = 2;
const TOMBSTONES: [u8; 2] = [0, b't'];
const GRAVES: [u8; 2] = [0, b'g'];
const HORIZON: [u8; 2] = [0, b'h'];
/// Where names begin.
const FIRST_NAME: [u8; 1] = [1];

static UNREADABLE: AtomicU64 = AtomicU64::new(0);

/// How often this process met a row of an object that it could not read. A row that stays so is counted each time.
pub fn unreadable_rows() -> u64 {
    UNREADABLE.load(Ordering::Relaxed)
}

/// Why a row could not be written or read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RowError {
    /// The row is of another layout, or of none. Taken for nothing it would be written over, so it is an error.
    #[error("the row of object {name} has layout {found}, and this release reads layout {LAYOUT}")]
    Layout {
        /// Which object's, as bytes that can be printed.
        name: String,
        /// What it says.
        found: u8,
    },
    /// The row is of this layout and is no object. Other replicas have it. It is not written over, see
    /// [`crate::Kv`]'s `merge`; what makes it good again is this node's data fetched anew by an empty one.
    #[error("the row of object {name} cannot be read: {why}")]
    Unreadable {
        /// Which object's, as bytes that can be printed.
        name: String,
        /// Why.
        why: WireError,
    },
    /// What several sides of a cut network wrote is joined too large for a row.
    #[error(
        "object {name} has {bytes} bytes with all that was written of it: a row takes {STORE_VALUE_BYTES_MAX}"
    )]
    TooLarge {
        /// Which object's, as bytes that can be printed.
        name: String,
        /// How many there are.
        bytes: usize,
    },
}

fn printed(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

/// An object's row.
pub(crate) fn write(item: &KvItem) -> Result<Vec<u8>, RowError> {
    let standing = match (item.object.is_dead(), item.object.is_dead_in(Conflicts::Latest)) {
        (true, _) => DEAD,
        (false, true) => DELETED_LAST,
        (false, false) => ALIVE,
    };
    let mut row = vec![LAYOUT, standing];
    let too_large = |bytes| RowError::TooLarge { name: printed(item.name.bytes()), bytes };
    codec::encode_into(&item.object, &mut row).map_err(|_| too_large(item.object.bytes()))?;
    if row.len() > STORE_VALUE_BYTES_MAX { Err(too_large(row.len())) } else { Ok(row) }
}

/// The object that a row is. Counts those that are none.
pub(crate) fn read(key: &[u8], row: &[u8]) -> Result<KvItem, RowError> {
    parse(key, row).inspect_err(|_| _ = UNREADABLE.fetch_add(1, Ordering::Relaxed))
}

fn parse(key: &[u8], row: &[u8]) -> Result<KvItem, RowError> {
    let unreadable = |why| RowError::Unreadable { name: printed(key), why };
    match row.split_first_chunk::<HEADER_BYTES>() {
        Some(([LAYOUT, _], body)) => {
            let object: Object = codec::decode(body).map_err(unreadable)?;
            let name = ObjectName::from_bytes(key).ok_or_else(|| unreadable(WireError::Kind))?;
            Ok(KvItem { name, object })
        }
        other => {
            Err(RowError::Layout { name: printed(key), found: other.map_or(0, |([layout, _], _)| *layout) })
        }
    }
}

/// What can be read of an object that is not dead.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Standing {
    /// Something, whatever the bucket.
    Readable,
    /// Something, but nothing where the latest value counts: that is a tombstone.
    DeletedLast,
}

impl Standing {
    /// Whether there is something to be read in a bucket that deals with conflicts like this.
    pub fn is_readable_in(self, conflicts: Conflicts) -> bool {
        match (self, conflicts) {
            (Self::DeletedLast, Conflicts::Latest | Conflicts::Overwrite) => false,
            (Self::DeletedLast, Conflicts::Siblings | Conflicts::First) | (Self::Readable, _) => true,
        }
    }
}

/// What a row says can be read of its object; none of a dead one. What cannot be told counts as readable: a listing
/// that leaves out what is there is worse than one that shows what is not.
pub(crate) fn standing(row: &[u8]) -> Option<Standing> {
    match row {
        [LAYOUT, DEAD, ..] => None,
        [LAYOUT, DELETED_LAST, ..] => Some(Standing::DeletedLast),
        _ => Some(Standing::Readable),
    }
}

/// The rows of objects within a range of names.
pub(crate) fn names_within(range: &KeyRange) -> KeyRange {
    let mut range = range.clone();
    let before_names = match &range.start {
        Bound::Unbounded => true,
        Bound::Included(start) | Bound::Excluded(start) => start.as_ref() < FIRST_NAME.as_slice(),
    };
    if before_names {
        range.start = Bound::Included(Bytes::from_static(&FIRST_NAME));
    }
    range
}

fn index_key(prefix: [u8; 2], latest: HybridTime, name: &ObjectName) -> Vec<u8> {
    [prefix.as_slice(), &latest.0.to_be_bytes(), name.bytes()].concat()
}

/// Under which key a dead object is found again; none for one that lives.
fn dead_key(item: &KvItem) -> Option<Vec<u8>> {
    if !item.object.is_dead() {
        return None;
    }
    let prefix = if item.object.is_empty() { GRAVES } else { TOMBSTONES };
    Some(index_key(prefix, item.object.latest(), &item.name))
}

/// Stages that an object is now this, or is forgotten; says so to whoever compares replicas.
pub(crate) fn keep(
    keyspace: &Keyspace,
    before: Option<&KvItem>,
    after: Option<&KvItem>,
) -> Result<(), RowError> {
    let row = after.map(write).transpose()?;
    let (was_dead, is_dead) = (before.and_then(dead_key), after.and_then(dead_key));
    if was_dead != is_dead {
        was_dead.into_iter().for_each(|key| keyspace.remove(key));
        is_dead.into_iter().for_each(|key| keyspace.put(key, Vec::new()));
    }
    match (row, after, before) {
        (Some(row), Some(item), _) => keyspace.put(item.name.bytes().to_vec(), row),
        (_, _, Some(item)) => keyspace.remove(item.name.bytes().to_vec()),
        _ => {}
    }
    keyspace.changed(before, after);
    Ok(())
}

/// Which dead objects are looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dead {
    /// Those that have tombstones.
    WithTombstones,
    /// Those that are buried.
    Buried,
}

/// A dead object, as far as the row beside it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DeadName {
    pub(crate) latest: HybridTime,
    pub(crate) name: ObjectName,
}

impl Dead {
    fn prefix(self) -> [u8; 2] {
        match self {
            Self::WithTombstones => TOMBSTONES,
            Self::Buried => GRAVES,
        }
    }
}

/// Stages that this row beside an object is gone.
pub(crate) fn remove_dead(keyspace: &Keyspace, which: Dead, dead: &DeadName) {
    keyspace.remove(index_key(which.prefix(), dead.latest, &dead.name));
}

/// Visits dead objects up to a millisecond, the oldest first, until `visit` breaks.
pub(crate) fn visit_dead(
    read: &dyn Read,
    which: Dead,
    through_ms: u64,
    visit: &mut dyn FnMut(DeadName) -> Flow,
) -> Result<(), StoreError> {
    let prefix = which.prefix();
    let end = HybridTime::at_ms(through_ms.saturating_add(1)).0.to_be_bytes();
    let range = KeyRange {
        start: Bound::Included(Bytes::copy_from_slice(&prefix)),
        end: Bound::Excluded([prefix.as_slice(), &end].concat().into()),
    };
    read.scan(&range, Direction::Ascending, &mut |key, _| {
        let rest = key.get(prefix.len()..).unwrap_or_default();
        let found = rest.split_first_chunk::<8>().and_then(|(latest, name)| {
            let latest = HybridTime(u64::from_be_bytes(*latest));
            Some(DeadName { latest, name: ObjectName::from_bytes(name)? })
        });
        found.map_or(Flow::Continue(()), &mut *visit)
    })
}

/// Up to which millisecond dead objects have been forgotten here; 0 where none have.
pub(crate) fn horizon_ms(read: &dyn Read) -> Result<u64, StoreError> {
    let kept = read.get(&HORIZON)?;
    Ok(kept.and_then(|bytes| <[u8; 8]>::try_from(bytes.as_ref()).ok()).map_or(0, u64::from_be_bytes))
}

/// Stages that dead objects up to this millisecond are forgotten.
pub(crate) fn set_horizon(keyspace: &Keyspace, through_ms: u64) {
    keyspace.put(HORIZON.to_vec(), through_ms.to_be_bytes().to_vec());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Content;
    use proptest::prelude::*;
    use ringwork_core::clock::dotted::CausalContext;
    use ringwork_core::ids::{ActorId, Dot};

    fn dot(counter: u64) -> Dot {
        Dot { actor: ActorId(7), counter }
    }

    fn item() -> KvItem {
        let mut object = Object::new();
        let content = Content { modified: HybridTime(9), content_type: "t".into(), ..Content::of("v") };
        assert!(object.put(content, &CausalContext::new(), dot(5), Conflicts::Siblings));
        KvItem { name: ObjectName::new("default", b"b", b"k").unwrap(), object }
    }

    #[test]
    fn the_layout_on_disk_does_not_change() {
        let row = write(&item()).unwrap();
        // Layout, alive, one actor, its counter, one value under 5: "v", "t", five that are empty, time, not deleted;
        // latest.
        assert_eq!(row, [1, 0, 1, 7, 5, 1, 5, 1, b'v', 1, b't', 0, 0, 0, 0, 0, 9, 0, 9]);
        assert_eq!(read(item().name.bytes(), &row), Ok(item()));
        assert_eq!(standing(&row), Some(Standing::Readable));
        let tombstone = Content { modified: HybridTime(10), ..Content::tombstone() };
        let mut gone = item();
        assert!(gone.object.put(tombstone, &CausalContext::new(), dot(6), Conflicts::Siblings));
        let row = write(&gone).unwrap();
        assert_eq!((row[1], standing(&row)), (2, Some(Standing::DeletedLast)));
        let seen = gone.object.context();
        assert!(gone.object.put(Content::tombstone(), &seen, dot(7), Conflicts::Siblings));
        let row = write(&gone).unwrap();
        assert_eq!((row[1], standing(&row)), (1, None));
        assert_eq!(standing(&[LAYOUT, 9]), Some(Standing::Readable), "of a later release, perhaps");
        assert_eq!(
            index_key(GRAVES, HybridTime(258), &item().name),
            b"\0g\0\0\0\0\0\0\x01\x02default\0b\0\0k"
        );
    }

    #[test]
    fn a_row_that_cannot_be_read_is_an_error_with_its_name() {
        let row = write(&item()).unwrap();
        let error = |row: &[u8]| read(item().name.bytes(), row).unwrap_err().to_string();
        assert!(error(&[]).contains(r"default\x00b\x00\x00k has layout 0"));
        assert!(error(&[2, 0, 1]).contains("layout 2"));
        assert!(error(&row[..row.len() - 1]).contains("cannot be read"));
        assert!(read(b"no name", &row).is_err());
    }

    #[test]
    fn ranges_of_names_leave_out_what_lies_before_names() {
        let before = [0, b't', 9];
        for range in [
            KeyRange::all(),
            KeyRange { start: Bound::Excluded(Bytes::from_static(&[0])), end: Bound::Unbounded },
        ] {
            assert!(!names_within(&range).contains(&before));
            assert!(names_within(&range).contains(b"a"));
        }
        let some = KeyRange { start: Bound::Excluded(Bytes::from_static(b"b")), end: Bound::Unbounded };
        assert!(!names_within(&some).contains(b"b") && names_within(&some).contains(b"c"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_row_or_none(bytes: Vec<u8>, body: Vec<u8>) {
            let _ = read(&bytes, &body);
            let _ = read(item().name.bytes(), &[[1u8, 0].as_slice(), &body].concat());
        }
    }
}
