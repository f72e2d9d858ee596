//! Listing: the keys of a bucket, the buckets of a type. It decides which rows a vnode gives. It does not know how the
//! lists of all vnodes become one.
//!
//! Whether there is something to be read under a key depends on its bucket's properties, which no vnode knows: a row
//! says what they have to decide ([`Standing`]), and whoever asked leaves out what its bucket does not show.
//!
//! A list of buckets consists of names of objects: a bucket lies on all vnodes, and none of them knows whether
//! another one has shown it already. Whoever asked takes the first name of each bucket, and passes the others over,
//! if there are many by asking for what lies behind the bucket ([`crate::name::last_of_bucket`]).

use crate::blob::Blob;
use crate::kv::{Kv, KvError};
use crate::name::{ObjectName, names_of_bucket, names_of_type};
use crate::rows::{self, Standing};
use bytes::Bytes;
use ringwork_core::coverage::question::{Question, Row, Seen};
use ringwork_core::keyspace::Snapshot;
use ringwork_core::limits::VISITED_BYTES_MAX;
use ringwork_core::store::{Direction, Flow};
use ringwork_core::wire::Wire;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// What can be listed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum KvList {
    /// The keys of a bucket whose objects are not dead.
    Keys {
        /// The type.
        bucket_type: String,
        /// The bucket.
        bucket: Blob,
    },
    /// The objects of a type that are not dead, whatever their bucket.
    Names {
        /// The type.
        bucket_type: String,
    },
}

/// A key, or the bytes of a name, and what can be read of its object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct KvRow(pub Blob, pub Standing);

impl KvRow {
    /// The name, in a list of names.
    pub fn name(&self) -> Option<ObjectName> {
        ObjectName::from_bytes(&self.0)
    }
}

impl Wire for KvList {
    const VERSION: u16 = 1;
}

impl Wire for KvRow {
    const VERSION: u16 = 1;
}

impl Row for KvRow {
    fn key(&self) -> &[u8] {
        &self.0
    }
}

impl Question<Kv> for KvList {
    type Row = KvRow;

    fn cover(
        &self,
        snapshot: &Snapshot,
        after: Option<&[u8]>,
        visit: &mut dyn FnMut(Seen<'_, KvRow>) -> Flow,
    ) -> Result<(), KvError> {
        // In a list of keys every key lies behind what all names of the bucket begin with.
        let (mut range, shown_from) = match self {
            Self::Keys { bucket_type, bucket } => {
                let range = names_of_bucket(bucket_type, bucket);
                let prefix = match &range.start {
                    Bound::Included(prefix) => prefix.len(),
                    _ => 0,
                };
                (range, prefix)
            }
            Self::Names { bucket_type } => (names_of_type(bucket_type), 0),
        };
        if let Some(after) = after {
            let prefix = match &range.start {
                Bound::Included(start) => start.get(..shown_from).unwrap_or_default(),
                _ => &[],
            };
            let behind = Bytes::from([prefix, after].concat());
            let beyond = matches!(&range.end, Bound::Excluded(end) if behind >= *end);
            if beyond {
                return Ok(());
            }
            if !matches!(&range.start, Bound::Included(start) if behind < *start) {
                range.start = Bound::Excluded(behind);
            }
        }
        let mut visited_bytes = 0;
        Ok(snapshot.scan(&range, Direction::Ascending, &mut |name, row| {
            let shown = name.get(shown_from..).unwrap_or_default();
            let flow = match rows::standing(row) {
                Some(standing) => visit(Seen::Row { routing_key: name, row: KvRow(shown.into(), standing) }),
                None => visit(Seen::Nothing { key: shown }),
            };
            visited_bytes += row.len();
            if visited_bytes < VISITED_BYTES_MAX || flow == Flow::Break(()) {
                return flow;
            }
            visited_bytes = 0;
            visit(Seen::Enough)
        })?)
    }
}
