//! What the two ends of a transfer say to each other, on a connection that is theirs alone, and how that is in bytes.
//! It decides what a message may look like; everything that comes in is bounded and checked before it is believed. The
//! checksum is the frame's ([`crate::wire::frame`]).
//!
//! The order of a transfer: offer → accept or refuse → batches under credit ⇄ acknowledgements → done or flip →
//! confirmed or taken. Each end may cancel at any time.

use super::progress::Amount;
use crate::ids::{Boot, Generation, NodeId, Partition};
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_ITEMS_MAX, REASON_BYTES_MAX, SERVICE_NAME_BYTES_MAX, STORE_KEY_BYTES_MAX,
    STORE_VALUE_BYTES_MAX, TRANSFER_SERVICES_MAX, WINDOW_BATCHES_MAX,
};
use crate::membership::{Possession, TargetKey};
use crate::wire::{WireError, codec};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A generation of a partition's data on a node, beyond confusion: a disk that was wiped counts its generations from
/// 0 again, and what was said of an older generation 3 must not be believed of the new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct GenerationId {
    /// Names the keyspaces.
    pub number: Generation,
    /// Random, drawn and kept when the generation began.
    pub mark: u64,
}

/// One transfer's session, as the sender names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SessionId {
    /// The node that sends: a receiver has sessions of several.
    pub node: NodeId,
    /// In which life of the sending node.
    pub boot: Boot,
    /// Which one of that life.
    pub number: u64,
}

/// An item's place in a transfer: services in the order of the offer, in each of them the items in the order of
/// their keys.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Place {
    /// The service, by its number in the offer.
    pub stream: u8,
    /// The item's key.
    pub key: Vec<u8>,
}

/// How far a transfer is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Position {
    /// Nothing yet.
    Start,
    /// Everything up to and with this place.
    After(Place),
    /// Everything that was there when it began.
    End,
}

/// What a transfer is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// A node that is not the holder brings home what it has.
    Hinted,
    /// The holder gives its heir everything, then possession.
    Ownership,
    /// A complete replica of a neighbouring partition gives a holder what belongs into both.
    Repair {
        /// The sender's partition, from which it is.
        source: Partition,
    },
}

/// What a sender would like to send.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Offer {
    /// What for.
    pub kind: Kind,
    /// The partition it is for.
    pub partition: Partition,
    /// Who holds it, as the sender knows.
    pub possession: Possession,
    /// The target by which the sender acts; possession without it would be passed back (docs/decisions/0020).
    pub target: TargetKey,
    /// The generation that is sent.
    pub generation: GenerationId,
    /// The services of which there is something, ascending.
    pub services: Vec<String>,
    /// Ownership only: the session in which the sender began to mark what changes. A receiver that has something of
    /// an earlier beginning starts from zero, because what changed before this one was not marked.
    pub begun: Option<SessionId>,
    /// How much it is, about.
    pub estimate: Amount,
    /// The generation of the *receiver* for which possession was passed on to it, where only the receiver's word is
    /// missing that it has it: then nothing need be sent.
    pub bequeathed: Option<GenerationId>,
}

/// Items, in one service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Counted from 1 in each session, without gaps.
    pub sequence: u64,
    /// The service, by its number in the offer.
    pub stream: u8,
    /// How long each item is in bytes.
    pub lengths: Vec<u32>,
    /// The items, encoded, one after the other.
    pub items: Bytes,
    /// With this batch everything up to here has been sent; none for items that changed after they were sent.
    pub position: Option<Position>,
}

/// Why a transfer ends before its end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum CancelReason {
    /// The receiver offers the partition itself.
    Crossed,
    /// The partition is to be, or is, elsewhere now.
    Moved,
    /// An operator's pause or a lower limit.
    Paused,
    /// The node stops.
    Stopping,
    /// What was sent in earlier sessions is not to be relied on (too many keys have changed since, or the receiver
    /// has another generation): it begins anew.
    Anew,
    /// Nothing was heard in time.
    Timeout,
    /// A message that cannot be, or a store that failed.
    Failed(String),
}

/// Why an offer is not taken. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The receiver does not hold the partition.
    #[error("it is held elsewhere")]
    NotHolder(Possession),
    /// The receiver is not to hold it, or not by this target.
    #[error("the receiver is not its heir by the target it knows")]
    NotHeir(TargetKey),
    /// The receiver knows less of the cluster than the sender: another time.
    #[error("the receiver has to learn the cluster's state first")]
    Behind,
    /// As many transfers come in as may.
    #[error("{limit} transfers come in already, the limit")]
    Busy {
        /// How many may.
        limit: u32,
    },
    /// Transfers in are paused.
    #[error("transfers in are paused")]
    Paused,
    /// The receiver stops.
    #[error("the receiver stops")]
    Stopping,
    /// The receiver has something of the partition for the sender, which comes first.
    #[error("the receiver has something of this partition for the sender first")]
    Crossed,
    /// A service does not run at the receiver.
    #[error("service {0} does not run there")]
    NoService(String),
    /// The offer cannot be.
    #[error("{0}")]
    Impossible(String),
}

/// What the sender says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SenderSays {
    /// See [`Offer`].
    Offer(Offer),
    /// See [`Batch`].
    Batch(Batch),
    /// Everything was sent, in so many batches.
    Done {
        /// The last batch's sequence.
        batches: u64,
    },
    /// The partition is the receiver's; everything of it is in the receiver's generation of this session.
    Flip {
        /// The last batch's sequence.
        batches: u64,
        /// The possession that was kept at the sender.
        possession: Possession,
        /// The receiver's generation that has everything.
        generation: GenerationId,
        /// Whether the sender's replica was complete.
        complete: bool,
    },
    /// It ends here.
    Cancel(CancelReason),
}

/// What the receiver says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ReceiverSays {
    /// Go on.
    Accept {
        /// The receiver's generation that takes it in.
        generation: GenerationId,
        /// From where on; anything but `Start` means that an earlier session of the same two generations came so
        /// far, synced.
        resume: Position,
        /// Batches that may be on their way.
        window: u16,
    },
    /// Not now, or not here.
    Refuse(Refusal),
    /// Every batch up to this one is synced.
    Ack {
        /// Its sequence.
        sequence: u64,
        /// Items of all batches up to it that could not be read and were skipped.
        unreadable: u64,
    },
    /// Everything that was sent is synced, in this generation.
    Confirmed {
        /// The receiver's.
        generation: GenerationId,
    },
    /// The receiver holds the partition, out of this generation.
    Taken {
        /// The receiver's.
        generation: GenerationId,
    },
    /// The receiver does not have the generation that the flip names.
    Gone,
    /// It ends here.
    Cancel(CancelReason),
}

/// A message to the receiver, of one session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForReceiver {
    /// Which transfer.
    pub session: SessionId,
    /// What.
    pub says: SenderSays,
}

/// A message to the sender, of one session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForSender {
    /// Which transfer.
    pub session: SessionId,
    /// What.
    pub says: ReceiverSays,
}

/// Bytes that are no message of a transfer. Nothing was built from them; the connection is to be closed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// They do not decode.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// They say what cannot be.
    #[error("{what} is {found}, at most {limit} is possible")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much.
        found: usize,
        /// How much there may be.
        limit: usize,
    },
    /// The parts do not fit together.
    #[error("{0}")]
    Unsound(&'static str),
}

/// A sender's message without the items, which follow it as they are: a million small items are not to pass
/// through the codec byte by byte.
#[derive(Serialize, Deserialize)]
enum Head {
    Offer(Offer),
    Batch { sequence: u64, stream: u8, lengths: Vec<u32>, position: Option<Position> },
    Done { batches: u64 },
    Flip { batches: u64, possession: Possession, generation: GenerationId, complete: bool },
    Cancel(CancelReason),
}

/// Version of these messages; the connection's handshake compares it.
pub const VERSION: u16 = 1;

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), MessageError> {
    if found > limit { Err(MessageError::TooMuch { what, found, limit }) } else { Ok(()) }
}

impl Position {
    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::After(place) => {
                at_most("the key of a position in bytes", place.key.len(), STORE_KEY_BYTES_MAX)
            }
            Self::Start | Self::End => Ok(()),
        }
    }
}

impl CancelReason {
    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Failed(text) => at_most("a reason in bytes", text.len(), REASON_BYTES_MAX),
            _ => Ok(()),
        }
    }

    /// A reason in words, cut to what a message may carry.
    pub fn failed(text: impl Into<String>) -> Self {
        let mut text = text.into();
        let end = (0..=REASON_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or_default());
        Self::Failed(text)
    }
}

impl Offer {
    fn check(&self) -> Result<(), MessageError> {
        at_most("services in an offer", self.services.len(), TRANSFER_SERVICES_MAX)?;
        for name in &self.services {
            at_most("a service's name in bytes", name.len(), SERVICE_NAME_BYTES_MAX)?;
        }
        if !self.services.is_sorted_by(|a, b| a < b) {
            return Err(MessageError::Unsound("an offer's services are to ascend"));
        }
        Ok(())
    }
}

impl Batch {
    /// A batch of these items.
    pub fn of(sequence: u64, stream: u8, items: &[Bytes], position: Option<Position>) -> Self {
        // An item is at most as long as a stored value.
        let lengths = items.iter().map(|item| item.len() as u32).collect();
        let items = match items {
            [only] => only.clone(),
            many => many.concat().into(),
        };
        Self { sequence, stream, lengths, items, position }
    }

    /// Each item's bytes.
    pub fn each(&self) -> impl Iterator<Item = Bytes> + '_ {
        let mut at = 0;
        self.lengths.iter().map(move |length| {
            let end = (at + *length as usize).min(self.items.len());
            let item = self.items.slice(at.min(end)..end);
            at = end;
            item
        })
    }

    /// Whether its parts fit together and are within their bounds.
    pub fn check(&self) -> Result<(), MessageError> {
        at_most("items in a batch", self.lengths.len(), BATCH_ITEMS_MAX)?;
        let bytes_max = if self.lengths.len() > 1 {
            BATCH_BYTES_MAX
        } else {
            STORE_VALUE_BYTES_MAX + STORE_KEY_BYTES_MAX
        };
        at_most("a batch in bytes", self.items.len(), bytes_max)?;
        if self.lengths.iter().map(|length| *length as usize).sum::<usize>() != self.items.len() {
            return Err(MessageError::Unsound("the lengths of a batch's items do not add up to its bytes"));
        }
        self.position.as_ref().map_or(Ok(()), Position::check)
    }
}

impl ForReceiver {
    /// Appends the message's bytes. On an error `out` may hold a part of them.
    pub fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), MessageError> {
        let mut tail = Bytes::new();
        let head = match self.says.clone() {
            SenderSays::Offer(offer) => Head::Offer(offer),
            SenderSays::Batch(Batch { sequence, stream, lengths, items, position }) => {
                tail = items;
                Head::Batch { sequence, stream, lengths, position }
            }
            SenderSays::Done { batches } => Head::Done { batches },
            SenderSays::Flip { batches, possession, generation, complete } => {
                Head::Flip { batches, possession, generation, complete }
            }
            SenderSays::Cancel(reason) => Head::Cancel(reason),
        };
        codec::encode_into(&(self.session, head), out)?;
        out.extend_from_slice(&tail);
        Ok(())
    }

    /// Reads what [`Self::encode_into`] wrote.
    pub fn decode(bytes: &Bytes) -> Result<Self, MessageError> {
        let ((session, head), read): ((SessionId, Head), usize) = codec::decode_front(bytes)?;
        let tail = bytes.slice(read.min(bytes.len())..);
        if !tail.is_empty() && !matches!(head, Head::Batch { .. }) {
            return Err(MessageError::Unsound("bytes follow a message that is no batch"));
        }
        let says = match head {
            Head::Offer(offer) => {
                offer.check()?;
                SenderSays::Offer(offer)
            }
            Head::Batch { sequence, stream, lengths, position } => {
                let batch = Batch { sequence, stream, lengths, items: tail, position };
                batch.check()?;
                SenderSays::Batch(batch)
            }
            Head::Done { batches } => SenderSays::Done { batches },
            Head::Flip { batches, possession, generation, complete } => {
                SenderSays::Flip { batches, possession, generation, complete }
            }
            Head::Cancel(reason) => {
                reason.check()?;
                SenderSays::Cancel(reason)
            }
        };
        Ok(Self { session, says })
    }
}

impl ForSender {
    /// Appends the message's bytes. On an error `out` may hold a part of them.
    pub fn encode_into(&self, out: &mut Vec<u8>) -> Result<(), MessageError> {
        Ok(codec::encode_into(self, out)?)
    }

    /// Reads what [`Self::encode_into`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        let message: Self = codec::decode(bytes)?;
        match &message.says {
            ReceiverSays::Accept { resume, window, .. } => {
                resume.check()?;
                at_most("a window in batches", usize::from(*window), usize::from(WINDOW_BATCHES_MAX))?;
                if *window == 0 {
                    return Err(MessageError::Unsound("a window of no batches never ends"));
                }
            }
            ReceiverSays::Refuse(Refusal::NoService(text)) => {
                at_most("a service's name in bytes", text.len(), SERVICE_NAME_BYTES_MAX)?;
            }
            ReceiverSays::Refuse(Refusal::Impossible(text)) => {
                at_most("a reason in bytes", text.len(), REASON_BYTES_MAX)?;
            }
            ReceiverSays::Cancel(reason) => reason.check()?,
            _ => {}
        }
        Ok(message)
    }
}
