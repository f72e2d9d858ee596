//! The storage contract: ordered keys in keyspaces, atomic batches across them, snapshot scans, whole
//! keyspaces dropped. It decides what an engine owes the runtime and what each error means; it does not know
//! any engine, nor when to commit or sync (the runtime's storage thread does).

pub mod memory;

use crate::ids::{Generation, Partition};
use bytes::Bytes;
use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

/// Names one keyspace of a node's database: a generation of a partition of a service, or the node's own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum KeyspaceId {
    /// What the runtime itself keeps beside the data: incarnations, the commit counter.
    Node,
    /// A vnode's data.
    Vnode {
        /// The service, as in [`crate::vnode::Vnode::SERVICE`].
        service: String,
        /// The partition.
        partition: Partition,
        /// Which life of it.
        generation: Generation,
    },
}

impl fmt::Display for KeyspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Vnode { service, partition, generation } => {
                write!(f, "v.{service}.{:05}.{:010}", partition.0, generation.0)
            }
        }
    }
}

impl KeyspaceId {
    /// Reads what `Display` writes; none for any other text.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "node" {
            return Some(Self::Node);
        }
        let mut parts = name.strip_prefix("v.")?.split('.');
        let (service, partition, generation) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        Some(Self::Vnode {
            service: service.to_owned(),
            partition: Partition(partition.parse().ok()?),
            generation: Generation(generation.parse().ok()?),
        })
    }
}

/// Why a store could not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// What is on disk is not what was written there. Names the file where the engine knows it. Nothing was
    /// changed by the call that found it.
    #[error("{0}")]
    Damaged(String),
    /// The operating system refused (full disk, I/O error). The engine takes no further writes: the node has
    /// to stop and recover at its next start. Whether the write of this call is on disk is unknown.
    #[error("{0}")]
    Broken(String),
    /// Another process has the database open. Nothing was changed.
    #[error("{0}")]
    Locked(String),
}

/// Whether a scan goes on.
pub type Flow = ControlFlow<()>;

/// Which way a scan runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// A range of keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// Where it begins.
    pub start: Bound<Bytes>,
    /// Where it ends.
    pub end: Bound<Bytes>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                return Self {
                    start: Bound::Included(Bytes::copy_from_slice(prefix)),
                    end: Bound::Excluded(end.into()),
                };
            }
        }
        Self { start: Bound::Included(Bytes::copy_from_slice(prefix)), end: Bound::Unbounded }
    }

    /// Whether the key lies within.
    pub fn contains(&self, key: &[u8]) -> bool {
        (match &self.start {
            Bound::Included(start) => key >= start.as_ref(),
            Bound::Excluded(start) => key > start.as_ref(),
            Bound::Unbounded => true,
        }) && (match &self.end {
            Bound::Included(end) => key <= end.as_ref(),
            Bound::Excluded(end) => key < end.as_ref(),
            Bound::Unbounded => true,
        })
    }

    /// Whether no key can lie within. Engines may panic on such ranges, so callers ask first.
    pub fn is_empty(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Included(s), Bound::Included(e)) => s > e,
            (Bound::Included(s) | Bound::Excluded(s), Bound::Excluded(e))
            | (Bound::Excluded(s), Bound::Included(e)) => s >= e,
            _ => false,
        }
    }

    /// Both bounds, as the standard library's range functions take them.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.start.as_ref().map(|b| b.as_ref()), self.end.as_ref().map(|b| b.as_ref()))
    }
}

/// What a scan calls for each key and value.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Flow;

/// The read side of one keyspace. What was committed is visible; what is staged elsewhere is not.
pub trait Tree: Send + Sync {
    /// The value under `key`, if any.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Calls `visit` for every key of `range` in the order asked for, until it breaks. Sees the keyspace as
    /// it was when the scan began.
    fn scan(&self, range: &KeyRange, direction: Direction, visit: Visit<'_>) -> Result<(), StoreError>;

    /// The keyspace as it is now, unaffected by later commits.
    fn snapshot(&self) -> Arc<dyn Tree>;

    /// Keys and their bytes, about; 0 where the engine cannot say without counting.
    fn estimate(&self) -> (u64, u64) {
        (0, 0)
    }
}

/// A keyspace that is open: its place in the store's table, by which writes name it, and its read side.
#[derive(Clone)]
pub struct OpenTree {
    /// For [`Write::tree`].
    pub slot: TreeSlot,
    /// For reads.
    pub tree: Arc<dyn Tree>,
}

/// Whose commits the engine may hold back for as long as the disk takes, because it is rearranging what was written and
/// syncs that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HeldBack {
    /// Nobody's, as far as is known.
    #[default]
    Nothing,
    /// Those that write into this keyspace.
    Keyspace(TreeSlot),
    /// All.
    Everything,
}

/// An open keyspace's place in its store's table. Valid until the keyspace is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct TreeSlot(pub u32);

/// One change to one key.
#[derive(Clone, Debug)]
pub struct Write {
    /// Where.
    pub tree: TreeSlot,
    /// Which key.
    pub key: Bytes,
    /// The new value; none removes the key.
    pub value: Option<Bytes>,
}

/// A database: keyspaces that are written together.
pub trait Store: Send + Sync + 'static {
    /// Opens a keyspace, creating it when it does not exist. May touch the disk: not for an arbiter's thread.
    fn open(&self, keyspace: &KeyspaceId) -> Result<OpenTree, StoreError>;

    /// Every keyspace that exists, sorted.
    fn keyspaces(&self) -> Result<Vec<KeyspaceId>, StoreError>;

    /// Applies all writes or none, in order. When it returns the writes are visible, and have reached the
    /// operating system: they survive the death of the process, not that of the machine. The vector is left
    /// empty.
    fn commit(&self, writes: &mut Vec<Write>) -> Result<(), StoreError>;

    /// What a commit may have to wait for, now or soon. Asked by who would rather not.
    fn held_back(&self) -> HeldBack {
        HeldBack::Nothing
    }

    /// Makes everything committed so far survive the machine, too.
    fn sync(&self) -> Result<(), StoreError>;

    /// Removes a keyspace with all it holds. Its slot is dead afterwards; writes to it are ignored.
    fn drop_keyspace(&self, keyspace: &KeyspaceId) -> Result<(), StoreError>;

    /// The store is about to be closed in peace: whatever the engine wants to note down, it does now.
    fn prepare_to_close(&self) {}

    /// How long the next commit takes where it takes no real time: in a simulation, where nobody may wait in the
    /// calling thread. A real disk takes its time inside [`Self::commit`].
    fn simulated_delay(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    /// Work that the engine does behind the scenes and whether it still advances; `Broken` when it stands
    /// still. Called every second or so with the caller's monotonic milliseconds.
    fn check_progress(&self, now_ms: u64) -> Result<(), StoreError> {
        let _ = now_ms;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyspace_id_is_read_back_from_its_name() {
        let id =
            KeyspaceId::Vnode { service: "chat".into(), partition: Partition(37), generation: Generation(4) };
        assert_eq!(KeyspaceId::parse(&id.to_string()), Some(id));
        assert_eq!(KeyspaceId::parse("node"), Some(KeyspaceId::Node));
        for name in ["", "v.", "v.chat", "v.chat.1", "v.chat.x.1", "v.chat.70000.1", "v.chat.1.1.1", "other"]
        {
            assert_eq!(KeyspaceId::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_prefix_range_ends_before_the_next_prefix() {
        let range = KeyRange::prefix(&[1, 0xff]);
        assert!(range.contains(&[1, 0xff]) && range.contains(&[1, 0xff, 0xff, 0xff]));
        assert!(!range.contains(&[2]) && !range.contains(&[1, 0xfe]));
        assert!(KeyRange::prefix(&[0xff, 0xff]).contains(&[0xff, 0xff, 9]));
        assert!(!KeyRange::prefix(&[0xff, 0xff]).contains(&[0xff, 0xfe]));
    }
}
