//! What a vnode of kv can be asked, and what it answers. It decides the wire's types; what they do is in [`crate::kv`].

use crate::condition::{ConditionFailure, Conditions};
use crate::content::Content;
use crate::name::ObjectName;
use crate::object::{KvItem, Object, Outline};
use crate::props::PutRules;
use ringwork_core::clock::dotted::CausalContext;
use ringwork_core::wire::Wire;
use serde::{Deserialize, Serialize};

/// A write that a vnode coordinates: it mints the dot, and what comes of it goes to the other replicas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Put {
    /// Of which object.
    pub name: ObjectName,
    /// The value, or a tombstone. When it was written, the vnode says.
    pub content: Content,
    /// What the writer had seen.
    pub seen: CausalContext,
    /// What other replicas had, where the coordinator has asked them: joined in before anything is judged. None where
    /// it has not: then a context that knows more than the vnode is answered with [`PutReply::Behind`].
    pub read: Option<Object>,
    /// What must be true.
    pub conditions: Conditions,
    /// What the bucket says.
    pub rules: PutRules,
    /// Whether the answer is to have the object.
    pub return_object: bool,
}

/// Everything the vnode can be asked. Finished states need no command: replicas merge them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum KvCommand {
    /// The object, all of it.
    Get(ObjectName),
    /// What is said of its values, without these.
    Head(ObjectName),
    /// A write.
    Put(Box<Put>),
    /// To add to a counter; negative: to take away. What comes of it goes to the other replicas as a write's does, and
    /// is answered like one, with the object.
    Count(ObjectName, i64),
    /// What the vnode gives itself at each sweep interval.
    Sweep,
    /// What the vnode gives itself when tombstones are due to be buried.
    Bury,
    /// What the vnode gives itself to bury what was forgotten, and to forget what was buried long ago.
    Reap,
}

impl Wire for KvCommand {
    const VERSION: u16 = 1;
}

/// Everything the vnode answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum KvReply {
    /// To [`KvCommand::Get`]: what this replica has.
    Object(Option<KvItem>),
    /// To [`KvCommand::Head`].
    Outline(Option<Outline>),
    /// To [`KvCommand::Put`].
    Put(PutReply),
}

impl Wire for KvReply {
    const VERSION: u16 = 1;
}

/// What became of a write at the vnode that coordinates it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PutReply {
    /// It is stored here.
    Stored(Stored),
    /// Nothing was done: the writer has seen what this replica has not. What other replicas have must come along.
    Behind,
    /// Nothing was done, for this reason.
    Refused(PutRefusal),
}

/// A write that is stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// The object as a reader is shown it now, where that was asked for.
    pub object: Option<Object>,
    /// How many values it has now.
    pub siblings: usize,
    /// These are more than is good: somebody writes without handing back what was read.
    pub many_siblings: bool,
    /// Whether there was something to be read before.
    pub existed: bool,
}

/// Why a write was not done at the vnode.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum PutRefusal {
    /// A condition is not fulfilled.
    #[error(transparent)]
    Condition(#[from] ConditionFailure),
    /// The bucket takes one value under each key, and has another one.
    #[error("the bucket is written once, and there is another value under this key")]
    WrittenBefore,
    /// One more sibling would be too many.
    #[error(
        "the object has {siblings} siblings, and at most {max} are allowed: read it, and write one value with the \
         causal context that came with it"
    )]
    TooManySiblings {
        /// How many it has.
        siblings: usize,
        /// How many it may have.
        max: usize,
    },
    /// It is to be counted, and is something else.
    #[error("the object has a value that is no counter; delete it first")]
    NoCounter,
    /// A counter cannot count so far.
    #[error("the counter would leave what 64 bits can count")]
    CountTooMuch,
    /// The object would be too large.
    #[error("the object would have {bytes} bytes with {siblings} values: at most {max} are allowed")]
    TooLarge {
        /// How large.
        bytes: usize,
        /// With how many values.
        siblings: usize,
        /// What is allowed.
        max: usize,
    },
}
