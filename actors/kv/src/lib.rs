//! The kv module: objects under (bucket type, bucket, key), with causal contexts and siblings, as a vnode; what Riak
//! KV is to Riak Core. It decides what an object is and how its states merge, what a write leaves and a read shows,
//! and what buckets' properties mean. It does not know HTTP, the network, threads or the wall clock; replication,
//! durability, handoff and repair are the runtime's.
//!
//! Reading order: [`name`] (what an object is called), [`content`] (a value with what describes it), [`object`] (values
//! with their history, and the item that is replicated), [`context`] (the history as clients carry it), [`condition`]
//! (what must be true for a request), [`props`] (what buckets are like) and [`directory`] (where that is kept),
//! [`command`] and [`kv`] (the vnode), with `rows` (bytes on disk) and `reap` (what was deleted), [`keys`] (listing),
//! [`request`] (which quorums a request asks for).

pub mod blob;
pub mod command;
pub mod condition;
pub mod content;
pub mod context;
pub mod counter;
pub mod directory;
pub mod keys;
pub mod kv;
pub mod limits;
pub mod name;
pub mod object;
pub mod props;
mod reap;
pub mod request;
mod rows;

#[cfg(test)]
mod bed;
#[cfg(test)]
mod tests;

pub use blob::Blob;
pub use command::{KvCommand, KvReply, Put, PutRefusal, PutReply, Stored};
pub use condition::{ConditionFailure, Conditions, ReadJudgement, Tags};
pub use content::{Content, IndexEntry, IndexTerm, Link, vtag};
pub use context::ContextError;
pub use counter::Counter;
pub use directory::DirectoryError;
pub use keys::{KvList, KvRow};
pub use kv::{DeleteMode, Kv, KvConfig, KvError};
pub use limits::KvInputError;
pub use name::{DEFAULT_TYPE, ObjectName};
pub use object::{Conflicts, Dvvs, KvItem, Object, Outline, Said, Sibling};
pub use props::{BucketProps, Datatype, PutRules, SyncOnWrite};
pub use request::{Quorums, ReadQuorums};
pub use rows::{RowError, Standing, unreadable_rows};
