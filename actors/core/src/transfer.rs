//! Handoff: how data goes where it belongs. A partition's data on a node lies in *generations*, one keyspace for each
//! service; a transfer carries one generation, all services of it, to another node, and ends with a drop of exactly
//! that generation there where it is no longer needed. Three kinds: *hinted* (a stand-in gives the holder what it took
//! in), *ownership* (the holder gives its heir everything, then possession) and *repair* (a complete replica gives a
//! holder that lost its data what both should have). All are "fold items, send, merge".
//!
//! Everything here is a state machine: `(state, now, event) → effects`. It reads no store and knows no connection.
//!
//! Reading order: [`message`] (what is said), [`dirty`] (what has changed since it was sent), [`sending`] and
//! [`receiving`] (the two ends), [`schedule`] (what is to run), [`repair`] (what a holder asks for that has lost its
//! data), [`progress`] (how far it is).
//!
//! **Invariant:** nothing is dropped before another node has said that it is durable there.
//!
//! **Invariant:** possession passes only to an heir that holds everything, in one generation of its, synced.
//!
//! **Invariant:** no two nodes ever drop on each other's word: whoever sends a partition to a node and is offered that
//! partition by it stops sending first.

pub mod dirty;
pub mod message;
pub mod progress;
pub mod receiving;
pub mod repair;
pub mod schedule;
pub mod sending;

pub use dirty::{DirtyKeys, Marked};
pub use message::{
    Batch, CancelReason, ForReceiver, ForSender, GenerationId, Kind, MessageError, Offer, Place, Position,
    ReceiverSays, Refusal, SenderSays, SessionId,
};
pub use progress::{Amount, Progress};
pub use receiving::{
    Inbound, Into, Judgement, Outgoing, Receiving, ReceivingEffect, ReceivingEvent, Situation,
};
pub use repair::{RepairAnswer, Repairs};
pub use schedule::{Schedule, Surroundings};
pub use sending::{Outbound, Outcome, Sending, SendingEffect, SendingEvent, SendingPlan};

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
