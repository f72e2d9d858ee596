//! How two nodes meet. Whoever dials sends [`MAGIC`] and a `Hello` frame; the other sends `MAGIC` and either
//! `Welcome`, after which the connection stands, or `Refused` with a reason, after which it ends. It decides whom a
//! node lets in and in what words it refuses the rest; it knows no socket, and asks for membership as a value.
//!
//! The layouts of `Hello` and `Welcome` are versioned by their frame. That of `Refused` is for ever, so that any
//! two releases can at least tell each other why they cannot speak.

use super::frame::{self, FrameHeader, FrameKind};
use super::{WireError, codec};
use crate::ids::{Boot, ClusterId, NodeId};
use crate::limits::{HANDSHAKE_BYTES_MAX, NODE_NAME_BYTES_MAX, REASON_BYTES_MAX};
use crate::ring::RingSize;
use serde::{Deserialize, Serialize};

/// The first bytes from either side. No text protocol begins with the first, none survives the last two changed.
pub const MAGIC: [u8; 8] = *b"\x91RWNET\r\n";
/// The oldest protocol this release speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// The newest.
pub const PROTOCOL_MAX: u16 = 1;
/// A bit of the features: messages larger than a part may be sent in parts ([`super::parts`]).
pub const FEATURE_PARTS: u64 = 1;
/// What this release can do beyond its protocol, a bit each.
pub const FEATURES: u64 = FEATURE_PARTS;
/// The layout of `Hello` and `Welcome`.
const LAYOUT: u16 = 1;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Purpose {
    /// Membership, ring, metadata: small, and never behind bulk.
    Control,
    /// Requests to vnodes.
    Request,
    /// A few requests from someone who need not be a member, such as a node that wants to join.
    Guest,
    /// One transfer. Whoever sends dials, whichever id is the lower.
    Transfer,
}

/// Who dials, and what it wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The oldest protocol it speaks.
    pub protocol_min: u16,
    /// The newest.
    pub protocol_max: u16,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Partitions of its ring.
    pub ring_size: RingSize,
    /// Itself.
    pub node: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Which of its lives this is.
    pub boot: Boot,
    /// Whom it believes to have dialled; none when it only knows an address.
    pub whom: Option<NodeId>,
    /// What the connection is for.
    pub purpose: Purpose,
    /// What it can do beyond the protocol.
    pub features: u64,
}

/// Who was dialled, and what was agreed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// The newest protocol that both speak.
    pub protocol: u16,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Partitions of its ring.
    pub ring_size: RingSize,
    /// Itself.
    pub node: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Which of its lives this is.
    pub boot: Boot,
    /// What both can do beyond the protocol.
    pub features: u64,
}

/// A refusal as it crosses the wire.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// Why, for programs.
    pub reason: RefusalReason,
    /// Why, for people, and the way out.
    pub text: String,
}

/// Why a connection was refused. The numbers are for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum RefusalReason {
    /// A later release's reason.
    Unknown = 0,
    /// Two clusters never mix.
    OtherCluster = 1,
    /// No protocol that both speak.
    Protocol = 2,
    /// A node dialled itself.
    Ourselves = 3,
    /// Rings of different size.
    RingSize = 4,
    /// Not a member of the cluster, or not yet known to be one.
    NotMember = 5,
    /// Was a member once, never will be again.
    Removed = 6,
    /// Another node answers at that address.
    OtherNode = 7,
    /// The wrong one of the two dials.
    Direction = 8,
    /// Too many connections, or not ready; later it may work.
    Busy = 9,
    /// The greeting makes no sense.
    Malformed = 10,
}

impl RefusalReason {
    fn from_number(number: u8) -> Self {
        match number {
            1 => Self::OtherCluster,
            2 => Self::Protocol,
            3 => Self::Ourselves,
            4 => Self::RingSize,
            5 => Self::NotMember,
            6 => Self::Removed,
            7 => Self::OtherNode,
            8 => Self::Direction,
            9 => Self::Busy,
            10 => Self::Malformed,
            _ => Self::Unknown,
        }
    }
}

/// What the dialled node knows about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Local {
    /// The oldest protocol it speaks.
    pub protocol_min: u16,
    /// The newest.
    pub protocol_max: u16,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Partitions of its ring.
    pub ring_size: RingSize,
    /// Itself.
    pub node: NodeId,
    /// Its name, for people.
    pub name: String,
    /// What it can do beyond the protocol.
    pub features: u64,
}

/// What a node knows about another's membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberCheck {
    /// One of us.
    Member,
    /// Never heard of.
    Unknown,
    /// Once one of us; that node id never comes back.
    Removed,
}

/// What two nodes agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    /// The newest protocol that both speak.
    pub protocol: u16,
    /// What both can do beyond it.
    pub features: u64,
}

/// Why a node does not let another in. Its text is what the other side shows its operator.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeRefusal {
    /// See [`RefusalReason::OtherCluster`].
    #[error(
        "node {name} belongs to cluster {ours}, not to {theirs}; a node of another cluster has to join first"
    )]
    OtherCluster {
        /// Who refuses.
        name: String,
        /// Its cluster.
        ours: ClusterId,
        /// The other's.
        theirs: ClusterId,
    },
    /// See [`RefusalReason::Protocol`].
    #[error(
        "node {name} speaks protocols {}-{}, not {}-{}; upgrade the older of the two, one release at a time",
        ours.0, ours.1, theirs.0, theirs.1
    )]
    Protocol {
        /// Who refuses.
        name: String,
        /// Oldest and newest it speaks.
        ours: (u16, u16),
        /// Oldest and newest the other speaks.
        theirs: (u16, u16),
    },
    /// See [`RefusalReason::Ourselves`].
    #[error("this is node {name} itself; give the address of another node")]
    Ourselves {
        /// Who refuses.
        name: String,
    },
    /// See [`RefusalReason::RingSize`].
    #[error("the ring of node {name} has {ours} partitions, not {theirs}")]
    RingSize {
        /// Who refuses.
        name: String,
        /// Its ring's size.
        ours: RingSize,
        /// The other's.
        theirs: RingSize,
    },
    /// See [`RefusalReason::NotMember`].
    #[error("node {theirs} is not known to node {name} as a member of its cluster (or not yet)")]
    NotMember {
        /// Who refuses.
        name: String,
        /// The other's name.
        theirs: String,
    },
    /// See [`RefusalReason::Removed`].
    #[error("node {theirs} was removed from the cluster; to come back it needs a new data directory")]
    Removed {
        /// The other's name.
        theirs: String,
    },
    /// See [`RefusalReason::OtherNode`].
    #[error("node {name} ({node}) answers here, not the node {meant} that was dialled; check its address")]
    OtherNode {
        /// Who refuses.
        name: String,
        /// Its id.
        node: NodeId,
        /// Whom the other dialled.
        meant: NodeId,
    },
    /// See [`RefusalReason::Direction`].
    #[error("node {name} dials node {theirs}, not the other way round: of two nodes the lower id dials")]
    Direction {
        /// Who refuses.
        name: String,
        /// The other's name.
        theirs: String,
    },
    /// See [`RefusalReason::Busy`].
    #[error("node {name} takes no connection now: {why}; try again later")]
    Busy {
        /// Who refuses.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// See [`RefusalReason::Malformed`].
    #[error("the greeting was not understood: {0}")]
    Malformed(String),
}

impl HandshakeRefusal {
    /// As it crosses the wire.
    pub fn refused(&self) -> Refused {
        let reason = match self {
            Self::OtherCluster { .. } => RefusalReason::OtherCluster,
            Self::Protocol { .. } => RefusalReason::Protocol,
            Self::Ourselves { .. } => RefusalReason::Ourselves,
            Self::RingSize { .. } => RefusalReason::RingSize,
            Self::NotMember { .. } => RefusalReason::NotMember,
            Self::Removed { .. } => RefusalReason::Removed,
            Self::OtherNode { .. } => RefusalReason::OtherNode,
            Self::Direction { .. } => RefusalReason::Direction,
            Self::Busy { .. } => RefusalReason::Busy,
            Self::Malformed(_) => RefusalReason::Malformed,
        };
        Refused { reason, text: self.to_string() }
    }
}

/// Whether `local` lets in who says `hello`. A guest need not be a member and may be of any cluster; what it asks is
/// judged where it is served.
pub fn judge(local: &Local, hello: &Hello, member: MemberCheck) -> Result<Agreed, HandshakeRefusal> {
    let (name, theirs) = (|| local.name.clone(), || hello.name.clone());
    let protocol = local.protocol_max.min(hello.protocol_max);
    if protocol < local.protocol_min.max(hello.protocol_min) {
        return Err(HandshakeRefusal::Protocol {
            name: name(),
            ours: (local.protocol_min, local.protocol_max),
            theirs: (hello.protocol_min, hello.protocol_max),
        });
    }
    if hello.node == local.node {
        return Err(HandshakeRefusal::Ourselves { name: name() });
    }
    if let Some(meant) = hello.whom
        && meant != local.node
    {
        return Err(HandshakeRefusal::OtherNode { name: name(), node: local.node, meant });
    }
    let agreed = Agreed { protocol, features: local.features & hello.features };
    if hello.purpose == Purpose::Guest {
        return Ok(agreed);
    }
    if member == MemberCheck::Removed {
        return Err(HandshakeRefusal::Removed { theirs: theirs() });
    }
    if hello.cluster != local.cluster {
        return Err(HandshakeRefusal::OtherCluster {
            name: name(),
            ours: local.cluster,
            theirs: hello.cluster,
        });
    }
    if hello.ring_size != local.ring_size {
        return Err(HandshakeRefusal::RingSize {
            name: name(),
            ours: local.ring_size,
            theirs: hello.ring_size,
        });
    }
    if member == MemberCheck::Unknown {
        return Err(HandshakeRefusal::NotMember { name: name(), theirs: theirs() });
    }
    if hello.node > local.node && hello.purpose != Purpose::Transfer {
        return Err(HandshakeRefusal::Direction { name: name(), theirs: theirs() });
    }
    Ok(agreed)
}

/// A name that may be shown and logged: not empty, bounded, no control characters.
fn check_name(name: &str) -> Result<(), WireError> {
    if name.len() > NODE_NAME_BYTES_MAX {
        return Err(WireError::TooLarge { limit: NODE_NAME_BYTES_MAX, found: name.len() });
    }
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(WireError::Body("a node's name is empty or has control characters".to_owned()));
    }
    Ok(())
}

fn append<T: Serialize>(out: &mut Vec<u8>, kind: FrameKind, value: &T) -> Result<(), WireError> {
    let header = FrameHeader { version: LAYOUT, ..FrameHeader::bare(kind) };
    frame::encode_into(out, &header, |out| codec::encode_into(value, out))
}

fn read<T: serde::de::DeserializeOwned>(version: u16, body: &[u8]) -> Result<T, WireError> {
    if body.len() > HANDSHAKE_BYTES_MAX {
        return Err(WireError::TooLarge { limit: HANDSHAKE_BYTES_MAX, found: body.len() });
    }
    if version != LAYOUT {
        return Err(WireError::Version(version));
    }
    codec::decode(body)
}

impl Hello {
    /// Appends its frame. On an error `out` is as before.
    pub fn append_to(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        check_name(&self.name)?;
        append(out, FrameKind::Hello, self)
    }

    /// From the version and body of its frame.
    pub fn read(version: u16, body: &[u8]) -> Result<Self, WireError> {
        let hello: Self = read(version, body)?;
        check_name(&hello.name)?;
        if hello.protocol_min > hello.protocol_max {
            return Err(WireError::Body("its oldest protocol is newer than its newest".to_owned()));
        }
        Ok(hello)
    }
}

impl Welcome {
    /// Appends its frame. On an error `out` is as before.
    pub fn append_to(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        check_name(&self.name)?;
        append(out, FrameKind::Welcome, self)
    }

    /// From the version and body of its frame.
    pub fn read(version: u16, body: &[u8]) -> Result<Self, WireError> {
        let welcome: Self = read(version, body)?;
        check_name(&welcome.name)?;
        Ok(welcome)
    }
}

/// As much of a text from outside as is shown: bounded, on one line.
pub fn shown(bytes: &[u8]) -> String {
    let bounded = bytes.get(..REASON_BYTES_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(bounded).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl Refused {
    /// Appends its frame. On an error `out` is as before.
    pub fn append_to(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        frame::encode_into(out, &FrameHeader::bare(FrameKind::Refused), |out| {
            out.push(self.reason as u8);
            let text = self.text.as_bytes();
            out.extend_from_slice(text.get(..REASON_BYTES_MAX).unwrap_or(text));
            Ok(())
        })
    }

    /// From the body of its frame; anything can be read.
    pub fn read(body: &[u8]) -> Self {
        let (reason, text) = body.split_first().map_or((0, body), |(reason, text)| (*reason, text));
        Self { reason: RefusalReason::from_number(reason), text: shown(text) }
    }
}

/// What the first bytes from a stranger look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Greeting {
    /// A node, as far as one can tell.
    Node,
    /// Could still become one: more bytes are needed.
    Incomplete,
    /// Someone who speaks HTTP.
    Http,
    /// Something else.
    Other,
}

/// Tells from the first bytes who is there. Eight bytes are always enough.
pub fn greeting(bytes: &[u8]) -> Greeting {
    const METHODS: [&[u8]; 8] =
        [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT "];
    let common = bytes.len().min(MAGIC.len());
    if bytes[..common] == MAGIC[..common] {
        return if common == MAGIC.len() { Greeting::Node } else { Greeting::Incomplete };
    }
    for method in METHODS {
        let common = bytes.len().min(method.len());
        if bytes[..common] == method[..common] {
            return if common == method.len() { Greeting::Http } else { Greeting::Incomplete };
        }
    }
    Greeting::Other
}

#[cfg(test)]
mod tests;
