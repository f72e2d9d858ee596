//! What goes wrong between nodes, in words for whoever has to mend it. The one distinction that callers rest on:
//! a [`SendError`] means that nothing was sent, a [`LinkError`] that it may have been done.

use ringwork_core::wire::WireError;
use ringwork_core::wire::handshake::Refused;
use std::io;
use std::net::SocketAddr;

/// Nothing was sent, nothing will be done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No connection of that kind to that node now.
    #[error("not connected to that node")]
    NotConnected,
    /// As much waits to be written, or answered, as may.
    #[error("too much waits to be sent to that node")]
    Full,
    /// The message could not be encoded.
    #[error("the message cannot be encoded: {0}")]
    Encode(#[from] WireError),
    /// The other node is of a release that takes messages in one frame only.
    #[error(
        "the message has {bytes} bytes, and that node is of a release that takes at most {max}; upgrade it first"
    )]
    OlderRelease {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
}

/// The request was queued, and no reply came. It may have been done, or may yet be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The connection ended.
    #[error("the connection ended before the reply")]
    Lost,
    /// The time ran out.
    #[error("no reply within the deadline")]
    Deadline,
    /// The other side dropped the request without an answer.
    #[error("the other node gave no answer")]
    Dropped,
}

/// No connection came to be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The address cannot be resolved or does not answer.
    #[error("{address} cannot be reached: {source}; is the node running, and is this its cluster address?")]
    Unreachable {
        /// What was dialled.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// It took too long.
    #[error(
        "{address} did not {what} within {within_ms} ms; is it reachable from here, and is the node running?"
    )]
    Deadline {
        /// What was dialled.
        address: String,
        /// What it did not do.
        what: &'static str,
        /// How long was waited.
        within_ms: u64,
    },
    /// Something else listens there.
    #[error(
        "{address} is not a ringwork cluster port; give the address that the node's log calls its cluster \
         address (8099 unless configured), not the HTTP one"
    )]
    NotRingwork {
        /// What was dialled.
        address: String,
    },
    /// The other node said no.
    #[error("{address} refused: {refused}")]
    Refused {
        /// What was dialled.
        address: String,
        /// Why.
        refused: Refused,
    },
    /// Another node than the one that was meant answered.
    #[error("node {found} answers at {address}, not the one that was dialled; check the address")]
    OtherNode {
        /// What was dialled.
        address: String,
        /// Who is there.
        found: String,
    },
    /// The answer could not be understood.
    #[error("{address} answered what this release does not understand: {why}")]
    NotUnderstood {
        /// What was dialled.
        address: String,
        /// What was wrong.
        why: String,
    },
}

/// A call that got no reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No connection came to be; nothing was done.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// Nothing was sent; nothing was done.
    #[error(transparent)]
    Send(#[from] SendError),
    /// It may have been done.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// The network could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen for other nodes on {address}: {source}; give this node another cluster.address, or end what \
         uses this one"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The node's name cannot be told to others.
    #[error("the node's name has {bytes} bytes; take from 1 to {max}")]
    Name {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The thread that would carry it has ended.
    #[error("the control thread has ended; the network cannot be started")]
    NoThread,
}
