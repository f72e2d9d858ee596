//! The names of things: nodes, partitions, generations, actors of a clock. Newtypes, so that no signature
//! takes a bare number. It does not know how any of them is minted: randomness is handed in.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A node, for as long as its data directory lives: 16 random bytes minted at the first start. Name and
/// address of the node may change, this does not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 16]);

impl NodeId {
    /// A node id from 16 random bytes, marked as a version 4 UUID so that tools recognise it.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid().into_bytes())
    }

    /// Eight bytes that stand for the node inside a message id. Of a version 4 UUID the last eight have 62
    /// random bits, so among a thousand nodes two alike are expected once in 10¹³ clusters.
    pub fn tag(&self) -> [u8; 8] {
        let mut tag = [0; 8];
        tag.copy_from_slice(&self.0[8..]);
        tag
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({self})")
    }
}

/// A cluster, from its first node's birth on. Two clusters never mix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl ClusterId {
    /// A cluster id from 16 random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(NodeId::from_random(bytes).0)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// One of the ring's equal arcs, 0 … Q−1 (see [`crate::ring`]).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition(pub u16);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// Which life of a partition's store on this node this is. Giving a partition away drops its keyspace
/// whole and begins the next generation, so nothing of the old one can come back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Generation(pub u32);

/// Who counts in a vector clock: random, and bound to one generation of one vnode's store. Never reused,
/// because a dot (a, n) claims every earlier dot of a (riak_kv#679).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActorId(pub u64);

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a{:x}", self.0)
    }
}

/// One event: the `counter`-th at `actor`. Counters begin at 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Dot {
    /// Who counted.
    pub actor: ActorId,
    /// Which of its events, from 1.
    pub counter: u64,
}

/// How often this data directory has been started, from 1. Persisted before the first id of that life is
/// minted, so (node, boot) never repeats even when the wall clock does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Boot(pub u32);

/// One request, within the node that took it in; in logs, and in the `x-request-id` of its answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
