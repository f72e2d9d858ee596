//! The receiving end of one transfer: whether an offer is for this node, from where on it is to be sent, what is
//! acknowledged when, and what becomes of a generation that was collected for an inheritance. It acknowledges only what
//! is synced. How items are merged and kept, its caller knows.
//!
//! Hints and repairs go into the partition's live generation, by the vnode's own turns. An heir collects an *inbound*
//! generation apart, named by the possession it is to inherit: what it was given is not a hint, is offered to nobody,
//! and is no stray, until [`fate_of`] says otherwise.

use super::message::{
    Batch, CancelReason, GenerationId, Kind, Offer, Position, ReceiverSays, Refusal, SenderSays, SessionId,
};
use super::progress::{Amount, Progress};
use crate::ids::{NodeId, Partition};
use crate::limits::WINDOW_BATCHES_MAX;
use crate::membership::{ClusterState, Possession};
use crate::mutant::{Mutant, planted};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How long a sender may say nothing: longer than it waits itself, so that it is the one to give up.
const SILENCE_MS: u64 = 60_000;

/// What the receiver keeps of the transfer of a partition from a node: one for each (partition, sender), the latest.
/// Written together with the items that it speaks of, or after them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Inbound {
    /// Who sends.
    pub sender: NodeId,
    /// What for.
    pub kind: Kind,
    /// The sender's generation.
    pub source: GenerationId,
    /// See [`Offer::services`].
    pub services: Vec<String>,
    /// See [`Offer::begun`].
    pub begun: Option<SessionId>,
    /// Who held it when it began; an heir's generation is named by it.
    pub possession: Possession,
    /// Into which generation here.
    pub generation: GenerationId,
    /// Up to where everything is here.
    pub position: Position,
    /// Ownership: whether the partition was taken out of this generation.
    pub inherited: bool,
}

/// A transfer of the same partition that this node sends to the one that offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outgoing {
    /// None runs.
    None,
    /// One that can be ended ([`super::Sending::is_revocable`]).
    Revocable,
    /// One that is past that.
    Bound,
}

/// What an offer is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// This node.
    pub me: NodeId,
    /// Who offers.
    pub from: NodeId,
    /// The cluster as this node knows it.
    pub state: &'a ClusterState,
    /// The services that run here.
    pub services: &'a BTreeSet<String>,
    /// Whether this node stops.
    pub stopping: bool,
    /// Whether an operator has paused transfers in.
    pub paused: bool,
    /// How many come in.
    pub running: u32,
    /// How many may.
    pub limit: u32,
    /// What this node sends of that partition to the one that offers.
    pub outgoing: Outgoing,
    /// Whether this node has hints of that partition (sealed or not, the inbound generation is none).
    pub has_hints: bool,
    /// What was kept of earlier transfers of that partition from that node.
    pub record: Option<&'a Inbound>,
    /// The live generation, where this node holds the partition.
    pub live: Option<GenerationId>,
    /// The inbound generation of the partition, with the possession that it is named by.
    pub inbound: Option<(Possession, GenerationId)>,
    /// A generation that could be begun: the next number, and a random mark.
    pub fresh: GenerationId,
}

/// Where the items go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Into {
    /// Into the vnodes that serve, by merges in their turns, which mark keys as dirty like any other.
    Live,
    /// Into the inbound generation that is there.
    Inbound,
    /// Into an inbound generation that has to be begun, named by the record's possession.
    NewInbound,
}

/// What becomes of an offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Say this.
    Refuse(Refusal),
    /// Take it.
    Accept {
        /// How it begins: to be kept, see [`Receiving::begin`].
        record: Inbound,
        /// Where the items go.
        into: Into,
        /// First give [`super::SendingEvent::OfferFromReceiver`] to the transfer that runs to the one that offers, and
        /// wait for its end: two nodes must never each delete on the other's word.
        ends_outgoing: bool,
    },
}

/// Whether an offer is taken. Changes nothing.
pub fn judge(offer: &Offer, at: &Situation<'_>) -> Judgement {
    match refusal(offer, at) {
        Some(refusal) => Judgement::Refuse(refusal),
        None => accept(offer, at),
    }
}

fn refusal(offer: &Offer, at: &Situation<'_>) -> Option<Refusal> {
    let place = usize::from(offer.partition.0);
    let Some(ours) = at.state.possession().get(place).copied() else {
        return Some(Refusal::Impossible(format!("the ring has no partition {}", offer.partition)));
    };
    if at.from == at.me {
        return Some(Refusal::Impossible("a node does not send to itself".into()));
    }
    if at.stopping {
        return Some(Refusal::Stopping);
    }
    match offer.kind {
        Kind::Ownership => {
            let (here, target) = (at.state.target().key(), at.state.target().owners().get(place));
            if offer.possession > ours || offer.target > here {
                return Some(Refusal::Behind);
            }
            if offer.possession < ours || offer.possession.holder != at.from {
                return Some(Refusal::NotHolder(ours));
            }
            if offer.target < here || target != Some(&at.me) {
                return Some(Refusal::NotHeir(here));
            }
            if offer.begun.is_none_or(|begun| begun.node != at.from) {
                let text = "an offer of ownership has to name the session of the sender's in which it began";
                return Some(Refusal::Impossible(text.into()));
            }
            if at.has_hints || at.outgoing != Outgoing::None {
                return Some(Refusal::Crossed);
            }
        }
        Kind::Hinted | Kind::Repair { .. } => {
            if ours.holder != at.me {
                return Some(if offer.possession > ours {
                    Refusal::Behind
                } else {
                    Refusal::NotHolder(ours)
                });
            }
            if at.live.is_none() {
                return Some(Refusal::Behind);
            }
            if at.outgoing == Outgoing::Bound && offer.kind == Kind::Hinted {
                return Some(Refusal::Crossed);
            }
        }
    }
    if let Some(missing) = offer.services.iter().find(|service| !at.services.contains(*service)) {
        return Some(Refusal::NoService(missing.clone()));
    }
    if at.paused {
        return Some(Refusal::Paused);
    }
    (at.running >= at.limit).then_some(Refusal::Busy { limit: at.limit })
}

fn accept(offer: &Offer, at: &Situation<'_>) -> Judgement {
    let known = at.inbound.filter(|(possession, _)| *possession == offer.possession);
    let (into, generation) = match (offer.kind, known, at.live) {
        (Kind::Ownership, Some((_, generation)), _) => (Into::Inbound, generation),
        (Kind::Ownership, None, _) => (Into::NewInbound, at.fresh),
        (_, _, live) => (Into::Live, live.unwrap_or(at.fresh)),
    };
    let same = at.record.filter(|record| {
        record.kind == offer.kind
            && record.source == offer.generation
            && record.services == offer.services
            && record.begun == offer.begun
            && record.generation == generation
    });
    let taken = at.record.is_some_and(|record| {
        record.inherited && record.source == offer.generation && Some(record.generation) == offer.bequeathed
    });
    let position = match same {
        _ if taken && offer.kind == Kind::Hinted => Position::End,
        Some(record) => record.position.clone(),
        None => Position::Start,
    };
    let record = Inbound {
        sender: at.from,
        kind: offer.kind,
        source: offer.generation,
        services: offer.services.clone(),
        begun: offer.begun,
        possession: offer.possession,
        generation,
        position,
        inherited: false,
    };
    let ends_outgoing = offer.kind == Kind::Hinted
        && at.outgoing == Outgoing::Revocable
        && !planted(Mutant::IgnoreHeirsOffer);
    Judgement::Accept { record, into, ends_outgoing }
}

/// What becomes of an inbound generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is collected further.
    Keep,
    /// The partition is held here: it is the live generation from now on, and hints that are here are merged into it.
    Inherit,
    /// It has become a stray: mark it as one, end the session that fills it, then offer it like any hint. Its session's
    /// sender will not resume into it.
    Seal,
}

/// What the state makes of an inbound generation that is named by `inbound`. To be asked whenever the state changes,
/// before anything of the new state is acted upon, and at start.
pub fn fate_of(inbound: Possession, me: NodeId, partition: Partition, state: &ClusterState) -> Fate {
    let place = usize::from(partition.0);
    let ours = state.possession().get(place).copied();
    let wished = state.target().owners().get(place) == Some(&me);
    match ours {
        Some(ours) if ours.holder == me && ours > inbound => Fate::Inherit,
        Some(ours) if ours == inbound && wished => Fate::Keep,
        _ => Fate::Seal,
    }
}

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReceivingEvent {
    /// The sender said something.
    Said(SenderSays),
    /// Every batch up to this one is merged, and synced, and the record with it.
    Stored {
        /// The batch's sequence.
        sequence: u64,
        /// Items of it, and of those before it that were not told yet, that could not be read and were skipped.
        unreadable: u64,
    },
    /// Whether this node now holds the partition out of the generation that [`ReceivingEffect::Inherit`] named, and
    /// that is synced.
    Inherited(bool),
    /// The state has changed: [`fate_of`] seals the generation, or hints have nothing to do here any more.
    Moved,
    /// Somebody wants it to end.
    Cancel(CancelReason),
    /// Something of this node failed.
    Failed(String),
    /// A part of a large batch came, or word that the sender lives.
    Moving,
    /// The connection has ended.
    CutOff,
    /// Time has passed: see [`Receiving::wake_at_ms`].
    Tick,
}

/// What the caller has to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReceivingEffect {
    /// Say this to the sender.
    Send(ReceiverSays),
    /// Keep this record in place of the one for this partition and sender. Need not be synced.
    Keep(Inbound),
    /// Merge the items, then keep the record (with the last items, or after them), then sync. In order; several may be
    /// synced at once. Answered by `Stored`. A batch of nothing, of sequence 0, asks for the sync alone.
    Store {
        /// The items.
        batch: Batch,
        /// The record as it is with them; none when it stays.
        record: Option<Inbound>,
    },
    /// The sender has passed the partition on, by this possession, and this generation has everything. Learn the state
    /// in which that is so (possession is not taken over alone, docs/decisions/0020), make the generation the live one,
    /// keep the record, sync. Answered by `Inherited`.
    Inherit {
        /// The heir's.
        possession: Possession,
        /// The record, as inherited.
        record: Inbound,
        /// Whether the replica was complete at the sender.
        complete: bool,
    },
    /// It is over. The sender closes the connection; free the place at once.
    Close(ReceivingOutcome),
}

/// How it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReceivingOutcome {
    /// Everything is here.
    Completed,
    /// One of the two ended it.
    Cancelled(CancelReason),
    /// The connection ended.
    CutOff,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// What an earlier session has brought is being synced, before it is said that it is here.
    Syncing,
    Taking,
    /// Everything was sent, in so many batches.
    Done(u64),
    Flipped {
        batches: u64,
        possession: Possession,
        complete: bool,
    },
    Inheriting,
    Ended,
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Receiving {
    session: SessionId,
    record: Inbound,
    window: u16,
    phase: Phase,
    received: u64,
    stored: u64,
    unreadable: u64,
    heard_ms: u64,
    /// Amounts of what is not stored yet, from `stored` + 1.
    pending: std::collections::VecDeque<Amount>,
    progress: Progress,
}

impl Receiving {
    /// A transfer whose offer was accepted, with what is to be done first. Where it is resumed, that is a sync: the
    /// earlier session may have ended between its last merge and the sync, and then nothing might be left to be sent
    /// and acknowledged before the sender drops it (found by model).
    pub fn begin(
        session: SessionId,
        record: Inbound,
        window: u16,
        estimate: Amount,
        now_ms: u64,
    ) -> (Self, Vec<ReceivingEffect>) {
        let window = window.clamp(1, WINDOW_BATCHES_MAX);
        let resumed = record.position != Position::Start;
        let mut receiving = Self {
            session,
            record,
            window,
            phase: Phase::Syncing,
            received: 0,
            stored: 0,
            unreadable: 0,
            heard_ms: now_ms,
            pending: std::collections::VecDeque::new(),
            progress: Progress::new(now_ms, estimate),
        };
        let mut effects = vec![ReceivingEffect::Keep(receiving.record.clone())];
        if resumed {
            effects.push(ReceivingEffect::Store { batch: Batch::of(0, 0, &[], None), record: None });
        } else {
            effects.push(receiving.accept());
        }
        (receiving, effects)
    }

    fn accept(&mut self) -> ReceivingEffect {
        self.phase = Phase::Taking;
        let Inbound { generation, position, .. } = &self.record;
        let (generation, resume) = (*generation, position.clone());
        ReceivingEffect::Send(ReceiverSays::Accept { generation, resume, window: self.window })
    }

    /// Which one it is, within the sender.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// What is kept of it.
    pub fn record(&self) -> &Inbound {
        &self.record
    }

    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// When [`ReceivingEvent::Tick`] is to come at the latest.
    pub fn wake_at_ms(&self) -> Option<u64> {
        (self.phase != Phase::Ended).then(|| self.heard_ms.saturating_add(SILENCE_MS))
    }

    /// Takes an event in. After [`ReceivingEffect::Close`] there are no effects any more.
    pub fn on(&mut self, now_ms: u64, event: ReceivingEvent) -> Vec<ReceivingEffect> {
        if self.phase == Phase::Ended {
            return Vec::new();
        }
        match event {
            ReceivingEvent::Said(says) => {
                self.heard_ms = now_ms;
                self.said(says)
            }
            ReceivingEvent::Moving => {
                self.heard_ms = now_ms;
                Vec::new()
            }
            ReceivingEvent::Stored { .. } if self.phase == Phase::Syncing => {
                self.heard_ms = now_ms;
                vec![self.accept()]
            }
            ReceivingEvent::Stored { sequence, unreadable } => self.stored(now_ms, sequence, unreadable),
            ReceivingEvent::Inherited(taken) if self.phase == Phase::Inheriting => {
                let generation = self.record.generation;
                let (says, outcome) = if taken {
                    (ReceiverSays::Taken { generation }, ReceivingOutcome::Completed)
                } else {
                    (ReceiverSays::Gone, ReceivingOutcome::Cancelled(CancelReason::Moved))
                };
                let mut effects = vec![ReceivingEffect::Send(says)];
                effects.extend(self.close(outcome));
                effects
            }
            // What the flip names is being taken, or found to be gone: that is said, not this.
            ReceivingEvent::Moved if matches!(self.phase, Phase::Inheriting | Phase::Flipped { .. }) => {
                Vec::new()
            }
            ReceivingEvent::Moved => self.cancel(CancelReason::Moved),
            ReceivingEvent::Cancel(reason) => self.cancel(reason),
            ReceivingEvent::Failed(text) => self.cancel(CancelReason::failed(text)),
            ReceivingEvent::CutOff => self.close(ReceivingOutcome::CutOff),
            ReceivingEvent::Tick if now_ms >= self.heard_ms.saturating_add(SILENCE_MS) => {
                self.cancel(CancelReason::Timeout)
            }
            _ => Vec::new(),
        }
    }

    fn said(&mut self, says: SenderSays) -> Vec<ReceivingEffect> {
        match (says, self.phase) {
            (SenderSays::Batch(batch), Phase::Taking) => self.take(batch),
            (SenderSays::Done { batches }, Phase::Taking) if self.record.kind != Kind::Ownership => {
                self.phase = Phase::Done(batches);
                self.ended_by_sender(batches)
            }
            (SenderSays::Flip { batches, possession, generation, complete }, Phase::Taking)
                if self.record.kind == Kind::Ownership =>
            {
                if generation != self.record.generation {
                    return self
                        .cancel(CancelReason::failed("a flip for a generation that was not accepted"));
                }
                self.phase = Phase::Flipped { batches, possession, complete };
                self.ended_by_sender(batches)
            }
            (SenderSays::Cancel(reason), _) => self.close(ReceivingOutcome::Cancelled(reason)),
            _ => self.cancel(CancelReason::failed("a message that is out of place")),
        }
    }

    fn take(&mut self, batch: Batch) -> Vec<ReceivingEffect> {
        if batch.sequence != self.received + 1 {
            return self.cancel(CancelReason::failed("a batch is missing or came twice"));
        }
        if self.received - self.stored >= u64::from(self.window) {
            return self.cancel(CancelReason::failed("more batches than the window allows"));
        }
        let streams = self.record.services.len();
        let beyond = matches!(&batch.position, Some(Position::After(p)) if usize::from(p.stream) >= streams);
        if beyond || (usize::from(batch.stream) >= streams && !batch.lengths.is_empty()) {
            return self.cancel(CancelReason::failed("a service that was not offered"));
        }
        self.received += 1;
        self.pending.push_back(Amount { items: batch.lengths.len() as u64, bytes: batch.items.len() as u64 });
        let record = batch.position.clone().map(|position| {
            // As the sender says, also where that is less than before: it has begun anew.
            self.record.position = position;
            self.record.clone()
        });
        vec![ReceivingEffect::Store { batch, record }]
    }

    fn stored(&mut self, now_ms: u64, sequence: u64, unreadable: u64) -> Vec<ReceivingEffect> {
        self.heard_ms = now_ms;
        self.unreadable += unreadable;
        self.progress.unreadable = self.unreadable;
        let mut amount = Amount::default();
        while self.stored < sequence.min(self.received) {
            self.stored += 1;
            amount.add(self.pending.pop_front().unwrap_or_default());
        }
        self.progress.sent.add(amount);
        self.progress.moved(now_ms, amount);
        let ack = ReceiverSays::Ack { sequence: self.stored, unreadable: self.unreadable };
        let mut effects = vec![ReceivingEffect::Send(ack)];
        effects.extend(self.conclude());
        effects
    }

    fn ended_by_sender(&mut self, batches: u64) -> Vec<ReceivingEffect> {
        if batches != self.received {
            return self.cancel(CancelReason::failed("not as many batches as the sender says"));
        }
        self.conclude()
    }

    /// Everything was sent and is synced.
    fn conclude(&mut self) -> Vec<ReceivingEffect> {
        match self.phase {
            Phase::Done(batches) if self.stored == batches => {
                let generation = self.record.generation;
                let mut effects = vec![ReceivingEffect::Send(ReceiverSays::Confirmed { generation })];
                effects.extend(self.close(ReceivingOutcome::Completed));
                effects
            }
            Phase::Flipped { batches, possession, complete } if self.stored == batches => {
                self.phase = Phase::Inheriting;
                self.record.inherited = true;
                vec![ReceivingEffect::Inherit { possession, record: self.record.clone(), complete }]
            }
            _ => Vec::new(),
        }
    }

    fn cancel(&mut self, reason: CancelReason) -> Vec<ReceivingEffect> {
        let mut effects = vec![ReceivingEffect::Send(ReceiverSays::Cancel(reason.clone()))];
        effects.extend(self.close(ReceivingOutcome::Cancelled(reason)));
        effects
    }

    fn close(&mut self, outcome: ReceivingOutcome) -> Vec<ReceivingEffect> {
        self.phase = Phase::Ended;
        vec![ReceivingEffect::Close(outcome)]
    }
}
