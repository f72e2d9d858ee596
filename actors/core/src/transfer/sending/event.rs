//! What goes into the sending end and what comes out of it: the plan, the record that outlives a session, events and
//! effects. It decides nothing; what each effect asks of the caller is said here, and is part of the protocol.

use crate::ids::{NodeId, Partition};
use crate::membership::{Possession, TargetKey};
use crate::transfer::dirty::Change;
use crate::transfer::message::{
    CancelReason, GenerationId, Kind, Position, ReceiverSays, Refusal, SenderSays, SessionId,
};
use crate::transfer::progress::Amount;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the source keeps as long as an ownership transfer is begun and not ended, whether a session runs or not. While
/// it is there, every change of the partition marks its key ([`crate::transfer::DirtyKeys`]).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outbound {
    /// Of the source, when it began.
    pub possession: Possession,
    /// To whom.
    pub heir: NodeId,
    /// What is sent.
    pub source: GenerationId,
    /// Where it goes.
    pub receiver: GenerationId,
    /// The offer's services: places name them by number.
    pub services: Vec<String>,
    /// The session that began it.
    pub begun: SessionId,
}

impl Outbound {
    /// Of a record that was kept before a flip ([`SendingEffect::Flip`]): the heir's generation, if possession was
    /// passed on, as the state `now` says. At start, such a source generation is to be sealed before anything is merged
    /// into it, because the seal of the flip may not have been synced.
    pub fn bequeathed(&self, now: Possession) -> Option<GenerationId> {
        let then = self.possession;
        // Only the holder raises the hop. A forced change, which raises the fence, says nothing of what was kept.
        (now.fence == then.fence && now.hop > then.hop).then_some(self.receiver)
    }
}

/// What is to be sent to whom.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendingPlan {
    /// A new one.
    pub session: SessionId,
    /// The receiver.
    pub to: NodeId,
    /// What for.
    pub kind: Kind,
    /// The partition it is for.
    pub partition: Partition,
    /// Who holds it.
    pub possession: Possession,
    /// The target it follows.
    pub target: TargetKey,
    /// The generation. For a hinted transfer the eldest one that is not sealed for another purpose.
    pub generation: GenerationId,
    /// Hinted: whether that generation is sealed already.
    pub sealed: bool,
    /// The services of which there is something, ascending.
    pub services: Vec<String>,
    /// How much, about.
    pub estimate: Amount,
    /// Ownership: what is on disk of an earlier session.
    pub outbound: Option<Outbound>,
    /// See [`crate::transfer::Offer::bequeathed`].
    pub bequeathed: Option<GenerationId>,
    /// Bytes that may be sent in a second; none for no limit.
    pub bytes_per_second: Option<u64>,
}

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SendingEvent {
    /// The receiver said something.
    Said(ReceiverSays),
    /// The generation is sealed: nothing is merged into it any more.
    Sealed {
        /// Which it is.
        generation: GenerationId,
        /// The services of which there is something in it, ascending.
        services: Vec<String>,
        /// How much.
        estimate: Amount,
    },
    /// From now on every change is marked, and the record is kept. Scans show everything that was there before.
    Marking {
        /// Keys that are dirty, by service.
        waiting: BTreeMap<u8, usize>,
    },
    /// The next items of the fold, all of one service.
    Scanned {
        /// The service.
        stream: u8,
        /// The items' bytes.
        items: Vec<Bytes>,
        /// How far the fold is with them.
        position: Position,
        /// Items that could not be read and were skipped.
        unreadable: u64,
    },
    /// Dirty keys with what is in the vnode now.
    Fetched {
        /// The service.
        stream: u8,
        /// The items' bytes; fewer than keys where an item is gone.
        items: Vec<Bytes>,
        /// The keys, each with the change up to which it was read.
        keys: Vec<(Vec<u8>, Change)>,
        /// Dirty keys of this service that are still not read.
        waiting: usize,
    },
    /// Keys of a service have become dirty. A hint: what counts is what [`SendingEvent::Frozen`] says.
    Dirty {
        /// The service.
        stream: u8,
        /// Not read yet.
        waiting: usize,
    },
    /// [`crate::transfer::Marked::TooMany`]: marks and record are gone.
    MarksLost,
    /// Every vnode of the partition holds back what would change it.
    Frozen {
        /// Keys that are dirty and not read yet, by service.
        waiting: BTreeMap<u8, usize>,
    },
    /// Some vnode could not be held back; none is.
    NotFrozen,
    /// Possession was passed on, and that is kept; or it was not, and never will be by this effect.
    Flipped(Option<Flip>),
    /// The generation is gone.
    Dropped,
    /// The receiver offers this partition, out of this generation of its.
    OfferFromReceiver(GenerationId),
    /// Somebody wants it to end.
    Cancel(CancelReason),
    /// Something of this node failed; what the last effect asked for was not done.
    Failed(String),
    /// A part of a large batch was taken by the connection: whoever receives it lives, and cannot acknowledge yet.
    Moving,
    /// The connection has ended.
    CutOff,
    /// Time has passed: see [`super::Sending::wake_at_ms`].
    Tick,
}

/// Possession as it was passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flip {
    /// The heir's.
    pub possession: Possession,
    /// Whether the replica was complete here.
    pub complete: bool,
}

/// What the caller has to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SendingEffect {
    /// Say this to the receiver.
    Send(SenderSays),
    /// Begin the partition's next generation, so that this one stays as it is, and sync that: a seal that a crash
    /// undoes lets merges into a generation of which the receiver has already said how far it has it (found by
    /// simulation). Answered by `Sealed`.
    Seal,
    /// Keep this record, forget all marks if `anew`, mark every change from now on, and begin a session of the marks
    /// ([`crate::transfer::DirtyKeys::begin_session`]): one turn in each vnode. The snapshot for scans is taken in
    /// that turn. Answered by `Marking`.
    Mark {
        /// The record.
        outbound: Outbound,
        /// Whether the marks that are there mean nothing any more.
        anew: bool,
    },
    /// Go on with the fold. Answered by `Scanned`.
    Scan {
        /// After this.
        after: Position,
        /// Items at most.
        items_max: usize,
        /// Bytes at most, but for a single item.
        bytes_max: usize,
    },
    /// Read dirty keys, in a turn. Answered by `Fetched`.
    Fetch {
        /// Of this service.
        stream: u8,
        /// Items at most.
        items_max: usize,
        /// Bytes at most, but for a single item.
        bytes_max: usize,
    },
    /// The receiver has these: [`crate::transfer::DirtyKeys::acknowledged`], and remove the marks that are clean now.
    Clean {
        /// The service.
        stream: u8,
        /// The keys.
        keys: Vec<(Vec<u8>, Change)>,
    },
    /// Remove the record and all marks, and mark no more.
    Forget,
    /// Hold back everything that would change the partition, at every vnode of it: requests, and merges of whatever
    /// else comes in (hints of a third node, repairs, what is absorbed). Answered by `Frozen` or `NotFrozen`.
    Freeze,
    /// Let requests go on, after a freeze.
    Thaw,
    /// First keep, synced, that this generation is about to be passed on to that one; then pass possession on, if the
    /// partition is still held by this possession, is wished at this heir, and the heir is up; keep that; seal the
    /// generation. Answered by `Flipped`.
    Flip(Outbound),
    /// Remove this generation, record and marks with it. Answered by `Dropped`.
    Drop(GenerationId),
    /// It is over: close the connection, free the place.
    Close(Outcome),
}

/// How a transfer ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Everything is there, and dropped here where it was to be.
    Completed,
    /// The receiver did not want it.
    Refused(Refusal),
    /// One of the two ended it.
    Cancelled(CancelReason),
    /// The connection ended; it can be resumed.
    CutOff,
    /// Possession has passed on, the heir's word that it has everything is missing: the generation is kept, and
    /// offered as a hint.
    Untold,
}
