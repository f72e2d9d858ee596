//! The wire between nodes: who is connected to whom, and how bytes get there. It decides when to dial, what is
//! coalesced into one write, when a connection counts as dead, and what a sender is told. It does not know what a
//! message means, nor who is a member; both are asked of the [`NetworkHandler`].
//!
//! Two nodes share one *control* and one *request* connection, each used in both directions; the node with the lower
//! id dials. So a heartbeat never waits behind bulk, and a pair of nodes has one pair of connections however many
//! requests are under way.
//!
//! Reading order: [`network`] (the face), `peer` (one other node), `link` (one connection), `listener` and `greet`
//! (how a connection comes to be), `socket` (the one file that knows TCP).

mod carrier;
mod error;
mod greet;
mod guest;
mod handler;
mod link;
mod listener;
pub mod network;
mod peer;
mod pending;
mod socket;
mod transfer;

pub use error::{CallError, DialError, LinkError, NetworkError, SendError};
pub use handler::{Channel, Incoming, LocalHello, NetworkHandler, Sender};
pub use link::Responder;
pub use network::{Network, NetworkLimits, NetworkOptions, PeerSpec};
pub use ringwork_core::wire::handshake::{MemberCheck, RefusalReason, Refused, Welcome};
pub use socket::{Accepted, Dialling, GivenListener, GivenStream, GivenTransport, Transport};
pub use transfer::{TransferReader, TransferStream, TransferWriter};
