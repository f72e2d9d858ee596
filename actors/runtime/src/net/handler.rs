//! What the network asks of the node it serves, and what it hands to it. It decides nothing.

use super::link::Responder;
use super::transfer::TransferStream;
use bytes::Bytes;
use ringwork_core::ids::{ClusterId, NodeId};
use ringwork_core::ring::RingSize;
use ringwork_core::wire::handshake::MemberCheck;
use std::sync::Arc;
use std::time::Duration;

/// Which of the two connections to a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Channel {
    /// Membership, ring, metadata: small messages that must not wait.
    Control,
    /// Requests to vnodes.
    Request,
}

impl Channel {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Control, Self::Request];

    /// The other one.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Control => Self::Request,
            Self::Request => Self::Control,
        }
    }

    /// Its name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Request => "request",
        }
    }
}

/// Who sent a message.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The node.
    pub node: NodeId,
    /// Its name, for people.
    pub name: Arc<str>,
    /// Whether it is a guest: not a member, as far as this connection knows. A handler serves guests what they may
    /// have (a wish to join) and drops the responder of anything else.
    pub guest: bool,
    /// How it came.
    pub channel: Channel,
}

/// A message from another node. Its bytes are checked against damage, and hostile until parsed.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// Whose message it is.
    pub family: u16,
    /// The version of the body's layout.
    pub version: u16,
    /// A part of the connection's read buffer: whoever keeps a small body for long copies it.
    pub body: Bytes,
    /// How long the asker still waits, where it said so.
    pub remaining: Option<Duration>,
}

/// What this node says about itself in a handshake, as of now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalHello {
    /// Its cluster; changes when it joins another.
    pub cluster: ClusterId,
    /// Partitions of its ring; changes with the cluster.
    pub ring_size: RingSize,
}

/// The node behind a network. Every call comes on a thread of the runtime and must return within microseconds.
pub trait NetworkHandler: Send + Sync + 'static {
    /// A message came, on the thread of its connection. A request has a `respond`, which may be kept and answered
    /// from any thread; a one-way message has none. A panic costs this message, not the connection.
    fn serve(&self, from: &Sender, incoming: Incoming, respond: Option<Responder>);

    /// A connection to a member stands. Called on the control thread, before its first message is served.
    fn connected(&self, node: NodeId, channel: Channel);

    /// A connection to a member has ended; a new one is tried for as long as the node is a peer. `reset` says that the
    /// other side went without a goodbye, as a process does that was killed. Called on the control thread, once
    /// for each `connected`.
    fn lost(&self, node: NodeId, channel: Channel, why: &str, reset: bool);

    /// Whether the node may connect.
    fn is_member(&self, node: NodeId) -> MemberCheck;

    /// What to say in a handshake.
    fn local(&self) -> LocalHello;

    /// A member refused this node because it was removed from the cluster.
    fn told_removed(&self, by: NodeId) {
        let _ = by;
    }

    /// A node that is a member, as far as this node knows, did not let it in because it does not know it. Called on the
    /// control thread, at every attempt to connect.
    fn told_unknown(&self, by: NodeId) {
        let _ = by;
    }

    /// A member has dialled for a transfer. Called on the control thread.
    fn transfer(&self, from: NodeId, stream: TransferStream) {
        let _ = (from, stream);
    }

    /// Somebody was not let in; `why` was told to them and is logged. `from` is their address.
    fn refused(&self, from: &str, why: &str) {
        let _ = (from, why);
    }
}
