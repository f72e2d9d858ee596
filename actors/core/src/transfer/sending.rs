//! The sending end of one transfer, over one connection. It decides what is read and sent when, what the heir has for
//! certain, when possession is passed on, and when the generation that was sent may be dropped. How a store is read,
//! a vnode held back, or the cluster's state kept, its caller knows; each effect that takes time is answered by an
//! event, or by [`SendingEvent::Failed`].
//!
//! *Hinted*: seal, offer, send, done, confirmed, drop. *Repair*: the same without seal and drop. *Ownership*: offer,
//! mark, send, and then the end of it: when no more than a batch is left, requests to the partition are held back
//! (freeze); what is still dirty is sent and acknowledged; the flip is kept; requests go on, and are sent to the heir;
//! the heir says that it has taken the partition; drop. Holding back makes the end certain: under a steady load of
//! writes there is never a moment at which nothing happens to be dirty.

pub mod event;

use super::dirty::Change;
use super::message::{
    Batch, CancelReason, GenerationId, Kind, Offer, Place, Position, ReceiverSays, SenderSays, SessionId,
};
use super::progress::{Amount, Progress};
use crate::limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, WINDOW_BATCHES_MAX, WINDOW_BYTES_MAX};
use crate::mutant::{Mutant, planted};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

pub use event::{Flip, Outbound, Outcome, SendingEffect, SendingEvent, SendingPlan};

/// How long an offer waits for its answer.
const ANSWER_MS: u64 = 10_000;
/// How long what was sent waits for any acknowledgement; a receiver acknowledges after each sync.
const SILENCE_MS: u64 = 30_000;
/// How long requests may be held back: what is left is one batch, so this is a round trip and two syncs.
const HELD_BACK_MS_MAX: u64 = 1000;
/// After requests were held back in vain, so long until it is tried again; doubled each time.
const FREEZE_PAUSE_MS: u64 = 500;
/// The longest such pause.
const FREEZE_PAUSE_MS_MAX: u64 = 16_000;

#[derive(Clone, PartialEq, Eq, Debug)]
struct InFlight {
    sequence: u64,
    amount: Amount,
    stream: u8,
    keys: Vec<(Vec<u8>, Change)>,
    position: Option<Position>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    New,
    Sealing,
    Offered,
    Marking,
    Streaming,
    Freezing,
    Frozen { since_ms: u64 },
    Flipping,
    Telling,
    Finishing,
    Dropping,
    Ended,
}

/// See the module's head.
#[derive(Clone, Debug)]
pub struct Sending {
    plan: SendingPlan,
    phase: Phase,
    window: u16,
    /// The receiver's generation, once it has accepted.
    receiver: Option<GenerationId>,
    /// How far items were read, and how far they were acknowledged.
    read: Position,
    acknowledged: Position,
    /// Whether a `Scan` or `Fetch` is under way.
    reading: bool,
    waiting: BTreeMap<u8, usize>,
    sequence: u64,
    in_flight: VecDeque<InFlight>,
    heard_ms: u64,
    /// When the next bytes may leave, by the rate limit.
    free_ms: u64,
    freeze_after_ms: u64,
    freezes: u32,
    /// What was to end it while possession was being passed on, when nothing can.
    late: Option<Outcome>,
    progress: Progress,
}

impl Sending {
    /// A transfer that begins over a connection that stands, with what is to be done first.
    pub fn begin(plan: SendingPlan, now_ms: u64) -> (Self, Vec<SendingEffect>) {
        let estimate = plan.estimate;
        let mut sending = Self {
            plan,
            phase: Phase::New,
            window: 1,
            receiver: None,
            read: Position::Start,
            acknowledged: Position::Start,
            reading: false,
            waiting: BTreeMap::new(),
            sequence: 0,
            in_flight: VecDeque::new(),
            heard_ms: now_ms,
            free_ms: now_ms,
            freeze_after_ms: 0,
            freezes: 0,
            late: None,
            progress: Progress::new(now_ms, estimate),
        };
        let effects = if sending.plan.kind == Kind::Hinted && !sending.plan.sealed {
            sending.phase = Phase::Sealing;
            vec![SendingEffect::Seal]
        } else {
            sending.offer(now_ms)
        };
        (sending, effects)
    }

    /// What it was begun with.
    pub fn plan(&self) -> &SendingPlan {
        &self.plan
    }

    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether it can still be ended without a word of the receiver or of the state's keeper. When not, an offer of the
    /// receiver's is to be refused.
    pub fn is_revocable(&self) -> bool {
        !matches!(self.phase, Phase::Flipping | Phase::Telling | Phase::Dropping | Phase::Ended)
    }

    /// The receiver's generation, once it has accepted.
    pub fn receiver(&self) -> Option<GenerationId> {
        self.receiver
    }

    /// Whether it has ended.
    pub fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// When [`SendingEvent::Tick`] is to come at the latest; none when only events count.
    pub fn wake_at_ms(&self) -> Option<u64> {
        let silence = self.heard_ms.saturating_add(SILENCE_MS);
        match self.phase {
            Phase::Offered => Some(self.heard_ms.saturating_add(ANSWER_MS)),
            Phase::Telling | Phase::Finishing => Some(silence),
            Phase::Frozen { since_ms } => Some(since_ms.saturating_add(HELD_BACK_MS_MAX).min(silence)),
            Phase::Streaming => {
                let paced = (!self.reading && self.room()).then_some(self.free_ms.max(self.pause_ms()));
                let silence = (!self.in_flight.is_empty()).then_some(silence);
                paced.into_iter().chain(silence).min()
            }
            _ => None,
        }
    }

    /// When a freeze may be tried again, where that is what it waits for.
    fn pause_ms(&self) -> u64 {
        if self.wants_freeze() { self.freeze_after_ms } else { 0 }
    }

    fn room(&self) -> bool {
        let bytes: u64 = self.in_flight.iter().map(|batch| batch.amount.bytes).sum();
        self.in_flight.len() < usize::from(self.window) && bytes < WINDOW_BYTES_MAX as u64
    }

    fn dirty(&self) -> usize {
        self.waiting.values().sum()
    }

    /// What is left is little enough to hold requests back for it.
    fn wants_freeze(&self) -> bool {
        self.plan.kind == Kind::Ownership
            && self.read == Position::End
            && self.in_flight.len() <= 1
            && self.dirty() <= BATCH_ITEMS_MAX
    }

    fn record(&self) -> Option<Outbound> {
        Some(Outbound {
            possession: self.plan.possession,
            heir: self.plan.to,
            source: self.plan.generation,
            receiver: self.receiver?,
            services: self.plan.services.clone(),
            begun: self.begun(),
        })
    }

    /// What is on disk of an earlier session, if it is of this very transfer.
    fn earlier(&self) -> Option<&Outbound> {
        let plan = &self.plan;
        plan.outbound.as_ref().filter(|outbound| {
            outbound.possession == plan.possession
                && outbound.heir == plan.to
                && outbound.source == plan.generation
                && outbound.services == plan.services
        })
    }

    fn begun(&self) -> SessionId {
        self.earlier().map_or(self.plan.session, |outbound| outbound.begun)
    }

    fn offer(&mut self, now_ms: u64) -> Vec<SendingEffect> {
        self.phase = Phase::Offered;
        self.heard_ms = now_ms;
        let begun = (self.plan.kind == Kind::Ownership).then(|| self.begun());
        let plan = &self.plan;
        vec![SendingEffect::Send(SenderSays::Offer(Offer {
            kind: plan.kind,
            partition: plan.partition,
            possession: plan.possession,
            target: plan.target,
            generation: plan.generation,
            services: plan.services.clone(),
            begun,
            estimate: plan.estimate,
            bequeathed: plan.bequeathed,
        }))]
    }

    /// Takes an event in. After [`SendingEffect::Close`] there are no effects any more.
    pub fn on(&mut self, now_ms: u64, event: SendingEvent) -> Vec<SendingEffect> {
        if self.phase == Phase::Ended {
            return Vec::new();
        }
        match event {
            SendingEvent::Said(says) => {
                self.heard_ms = now_ms;
                self.said(now_ms, says)
            }
            SendingEvent::Moving => {
                self.heard_ms = now_ms;
                Vec::new()
            }
            SendingEvent::Sealed { generation, services, estimate } if self.phase == Phase::Sealing => {
                self.plan.generation = generation;
                self.plan.services = services;
                self.plan.estimate = estimate;
                self.progress = Progress::new(now_ms, estimate);
                self.offer(now_ms)
            }
            SendingEvent::Marking { waiting } if self.phase == Phase::Marking => {
                self.waiting = waiting;
                if planted(Mutant::ForgetDirty) {
                    self.waiting.clear();
                }
                self.phase = Phase::Streaming;
                self.go_on(now_ms)
            }
            SendingEvent::Scanned { stream, items, position, unreadable } => {
                self.reading = false;
                self.progress.unreadable += unreadable;
                self.read = position.clone();
                self.send(now_ms, stream, &items, Vec::new(), Some(position))
            }
            SendingEvent::Fetched { stream, items, keys, waiting } => {
                self.reading = false;
                self.waiting.insert(stream, waiting);
                self.send(now_ms, stream, &items, keys, None)
            }
            SendingEvent::Dirty { stream, waiting } => {
                self.waiting.insert(stream, waiting);
                self.go_on(now_ms)
            }
            SendingEvent::MarksLost => self.end(Outcome::Cancelled(CancelReason::Anew)),
            SendingEvent::Frozen { waiting } if self.phase == Phase::Freezing => {
                self.waiting = waiting;
                self.phase = Phase::Frozen { since_ms: now_ms };
                self.go_on(now_ms)
            }
            SendingEvent::NotFrozen if self.phase == Phase::Freezing => self.unfrozen(now_ms),
            SendingEvent::Flipped(flip) if self.phase == Phase::Flipping => self.flipped(now_ms, flip),
            SendingEvent::Dropped if self.phase == Phase::Dropping => self.close(Outcome::Completed),
            SendingEvent::OfferFromReceiver(generation) => {
                let mut effects = Vec::new();
                // What it offers is what was sent to it, and it will drop it when it has given it back.
                if self.outbound_into(generation) {
                    effects.push(SendingEffect::Forget);
                }
                effects.extend(self.end(Outcome::Cancelled(CancelReason::Crossed)));
                effects
            }
            SendingEvent::Cancel(reason) => {
                let forget =
                    reason == CancelReason::Moved && self.plan.kind == Kind::Ownership && self.is_revocable();
                let mut effects: Vec<_> = forget.then_some(SendingEffect::Forget).into_iter().collect();
                effects.extend(self.end(Outcome::Cancelled(reason)));
                effects
            }
            SendingEvent::Failed(text) => self.failed(text),
            SendingEvent::CutOff => self.end(Outcome::CutOff),
            SendingEvent::Tick => self.tick(now_ms),
            // An answer to what was given up meanwhile.
            _ => Vec::new(),
        }
    }

    fn outbound_into(&self, generation: GenerationId) -> bool {
        let earlier = self.plan.outbound.as_ref().map(|outbound| outbound.receiver);
        self.plan.kind == Kind::Ownership
            && (self.receiver == Some(generation) || earlier == Some(generation))
    }

    fn said(&mut self, now_ms: u64, says: ReceiverSays) -> Vec<SendingEffect> {
        match says {
            ReceiverSays::Accept { generation, resume, window } if self.phase == Phase::Offered => {
                self.accepted(now_ms, generation, resume, window)
            }
            ReceiverSays::Refuse(refusal) if self.phase == Phase::Offered => {
                self.close(Outcome::Refused(refusal))
            }
            ReceiverSays::Ack { sequence, unreadable } => self.acked(now_ms, sequence, unreadable),
            ReceiverSays::Confirmed { generation } if self.phase == Phase::Finishing => {
                if self.receiver != Some(generation) {
                    return self.nonsense("a confirmation of another generation than was accepted");
                }
                self.confirmed()
            }
            ReceiverSays::Taken { generation } if self.phase == Phase::Telling => {
                if self.receiver != Some(generation) {
                    return self.nonsense("a generation was taken that nothing was sent to");
                }
                self.phase = Phase::Dropping;
                vec![SendingEffect::Drop(self.plan.generation)]
            }
            ReceiverSays::Gone if self.phase == Phase::Telling => self.close(Outcome::Untold),
            ReceiverSays::Cancel(reason) => match self.phase {
                Phase::Flipping | Phase::Dropping => self.end(Outcome::Cancelled(reason)),
                Phase::Telling => self.close(Outcome::Untold),
                _ => self.end_quietly(Outcome::Cancelled(reason)),
            },
            _ => self.nonsense("an answer that nothing asked for"),
        }
    }

    fn accepted(
        &mut self,
        now_ms: u64,
        generation: GenerationId,
        resume: Position,
        window: u16,
    ) -> Vec<SendingEffect> {
        self.window = window.clamp(1, WINDOW_BATCHES_MAX);
        let beyond =
            matches!(&resume, Position::After(p) if usize::from(p.stream) >= self.plan.services.len());
        if beyond {
            return self.nonsense("a position in a service that was not offered");
        }
        self.receiver = Some(generation);
        self.read = resume.clone();
        self.acknowledged = resume.clone();
        if self.plan.kind != Kind::Ownership {
            self.phase = Phase::Streaming;
            return self.go_on(now_ms);
        }
        let anew = match self.earlier().map(|outbound| outbound.receiver) {
            // Neither the marks nor the receiver's position are of these two generations: the next session begins
            // under a name of its own, so that nobody can take the one for the other.
            Some(receiver) if receiver != generation => {
                let mut effects = vec![SendingEffect::Forget];
                effects.extend(self.end(Outcome::Cancelled(CancelReason::Anew)));
                return effects;
            }
            Some(_) => false,
            None if resume != Position::Start => {
                return self.nonsense("a position in a transfer that has just begun");
            }
            None => true,
        };
        let Some(outbound) = self.record() else { return Vec::new() };
        self.phase = Phase::Marking;
        vec![SendingEffect::Mark { outbound, anew: anew || planted(Mutant::ForgetDirty) }]
    }

    fn send(
        &mut self,
        now_ms: u64,
        stream: u8,
        items: &[Bytes],
        keys: Vec<(Vec<u8>, Change)>,
        position: Option<Position>,
    ) -> Vec<SendingEffect> {
        self.sequence += 1;
        let batch = Batch::of(self.sequence, stream, items, position.clone());
        let amount = Amount { items: items.len() as u64, bytes: batch.items.len() as u64 };
        if self.in_flight.is_empty() {
            self.heard_ms = now_ms;
        }
        self.progress.sent.add(amount);
        if let Some(rate) = self.plan.bytes_per_second {
            let takes = amount.bytes.saturating_mul(1000).checked_div(rate).unwrap_or(1000);
            self.free_ms = self.free_ms.max(now_ms).saturating_add(takes);
        }
        self.in_flight.push_back(InFlight { sequence: self.sequence, amount, stream, keys, position });
        let mut effects = vec![SendingEffect::Send(SenderSays::Batch(batch))];
        effects.extend(self.go_on(now_ms));
        effects
    }

    fn acked(&mut self, now_ms: u64, sequence: u64, unreadable: u64) -> Vec<SendingEffect> {
        if sequence > self.sequence {
            return self.nonsense("an acknowledgement of what was not sent");
        }
        let mut clean: BTreeMap<u8, Vec<(Vec<u8>, Change)>> = BTreeMap::new();
        let mut amount = Amount::default();
        while let Some(front) = self.in_flight.front()
            && front.sequence <= sequence
        {
            let Some(done) = self.in_flight.pop_front() else { break };
            amount.add(done.amount);
            if !done.keys.is_empty() {
                clean.entry(done.stream).or_default().extend(done.keys);
            }
            if let Some(position) = done.position {
                self.acknowledged = position;
            }
        }
        self.progress.moved(now_ms, amount);
        self.progress.unreadable = self.progress.unreadable.max(unreadable);
        let mut effects: Vec<SendingEffect> =
            clean.into_iter().map(|(stream, keys)| SendingEffect::Clean { stream, keys }).collect();
        effects.extend(self.go_on(now_ms));
        effects
    }

    /// What is next, while there is room for it.
    fn go_on(&mut self, now_ms: u64) -> Vec<SendingEffect> {
        let frozen = matches!(self.phase, Phase::Frozen { .. });
        if self.reading || !(frozen || self.phase == Phase::Streaming) {
            return Vec::new();
        }
        // A freeze is not to wait for the rate limit: what is left is one batch.
        if !self.room() || (!frozen && now_ms < self.free_ms) {
            return Vec::new();
        }
        let dirty = self.waiting.iter().find(|(_, waiting)| **waiting > 0).map(|(stream, _)| *stream);
        let little = self.dirty() <= BATCH_ITEMS_MAX;
        let read_all = self.read == Position::End;
        if read_all && !frozen && self.wants_freeze() && now_ms >= self.freeze_after_ms {
            self.phase = Phase::Freezing;
            return vec![SendingEffect::Freeze];
        }
        if let Some(stream) = dirty
            && (frozen || !little || (read_all && self.in_flight.is_empty()))
        {
            self.reading = true;
            return vec![SendingEffect::Fetch {
                stream,
                items_max: BATCH_ITEMS_MAX,
                bytes_max: BATCH_BYTES_MAX,
            }];
        }
        if !read_all {
            self.reading = true;
            let (items_max, bytes_max) = (BATCH_ITEMS_MAX, BATCH_BYTES_MAX);
            return vec![SendingEffect::Scan { after: self.read.clone(), items_max, bytes_max }];
        }
        if dirty.is_some() || (!self.in_flight.is_empty() && !planted(Mutant::DropBeforeConfirmed)) {
            return Vec::new();
        }
        match self.plan.kind {
            Kind::Ownership if frozen => {
                let Some(outbound) = self.record() else { return Vec::new() };
                self.phase = Phase::Flipping;
                vec![SendingEffect::Flip(outbound)]
            }
            Kind::Ownership => Vec::new(),
            Kind::Hinted if planted(Mutant::DropBeforeConfirmed) => self.confirmed(),
            Kind::Hinted | Kind::Repair { .. } => {
                self.phase = Phase::Finishing;
                self.heard_ms = now_ms;
                vec![SendingEffect::Send(SenderSays::Done { batches: self.sequence })]
            }
        }
    }

    fn confirmed(&mut self) -> Vec<SendingEffect> {
        if self.plan.kind != Kind::Hinted {
            return self.close(Outcome::Completed);
        }
        self.phase = Phase::Dropping;
        vec![SendingEffect::Drop(self.plan.generation)]
    }

    fn flipped(&mut self, now_ms: u64, flip: Option<Flip>) -> Vec<SendingEffect> {
        let mut effects = vec![SendingEffect::Thaw];
        let Some((flip, generation)) = flip.zip(self.receiver) else {
            let late = self.late.take();
            if late.is_none() {
                effects.push(SendingEffect::Send(SenderSays::Cancel(CancelReason::Moved)));
            }
            effects.extend(self.close(late.unwrap_or(Outcome::Cancelled(CancelReason::Moved))));
            return effects;
        };
        if self.late.take().is_some() {
            effects.extend(self.close(Outcome::Untold));
            return effects;
        }
        self.phase = Phase::Telling;
        self.heard_ms = now_ms;
        let Flip { possession, complete } = flip;
        let batches = self.sequence;
        effects.push(SendingEffect::Send(SenderSays::Flip { batches, possession, generation, complete }));
        effects
    }

    fn unfrozen(&mut self, now_ms: u64) -> Vec<SendingEffect> {
        let pause = FREEZE_PAUSE_MS.saturating_mul(1 << self.freezes.min(16)).min(FREEZE_PAUSE_MS_MAX);
        self.freezes = self.freezes.saturating_add(1);
        self.freeze_after_ms = now_ms.saturating_add(pause);
        self.phase = Phase::Streaming;
        self.go_on(now_ms)
    }

    fn tick(&mut self, now_ms: u64) -> Vec<SendingEffect> {
        let silent = now_ms >= self.heard_ms.saturating_add(SILENCE_MS);
        match self.phase {
            Phase::Offered if now_ms >= self.heard_ms.saturating_add(ANSWER_MS) => {
                self.end(Outcome::Cancelled(CancelReason::Timeout))
            }
            Phase::Telling if silent => self.close(Outcome::Untold),
            Phase::Finishing if silent => self.end(Outcome::Cancelled(CancelReason::Timeout)),
            Phase::Streaming | Phase::Frozen { .. } if silent && !self.in_flight.is_empty() => {
                self.end(Outcome::Cancelled(CancelReason::Timeout))
            }
            Phase::Frozen { since_ms } if now_ms >= since_ms.saturating_add(HELD_BACK_MS_MAX) => {
                let mut effects = vec![SendingEffect::Thaw];
                effects.extend(self.unfrozen(now_ms));
                effects
            }
            _ => self.go_on(now_ms),
        }
    }

    fn failed(&mut self, text: String) -> Vec<SendingEffect> {
        match self.phase {
            // Not done: the heir has everything, and the next session drops.
            Phase::Dropping => self.close(Outcome::Cancelled(CancelReason::failed(text))),
            // Whether it was kept is not known: nothing is dropped on that.
            Phase::Flipping => {
                let mut effects = vec![SendingEffect::Thaw];
                effects.extend(self.close(Outcome::Untold));
                effects
            }
            _ => self.end(Outcome::Cancelled(CancelReason::failed(text))),
        }
    }

    fn nonsense(&mut self, what: &str) -> Vec<SendingEffect> {
        self.end(Outcome::Cancelled(CancelReason::failed(what)))
    }

    /// Ends it, and says so to the receiver. While possession is being passed on or the generation dropped, that first
    /// comes to its end.
    fn end(&mut self, outcome: Outcome) -> Vec<SendingEffect> {
        let tell = match (&outcome, self.phase) {
            (_, Phase::Sealing | Phase::Flipping | Phase::Dropping) => None,
            (Outcome::Cancelled(reason), _) => Some(SendingEffect::Send(SenderSays::Cancel(reason.clone()))),
            _ => None,
        };
        let mut effects = self.end_quietly(outcome);
        if let Some(tell) = tell {
            effects.insert(0, tell);
        }
        effects
    }

    fn end_quietly(&mut self, outcome: Outcome) -> Vec<SendingEffect> {
        match self.phase {
            Phase::Flipping => {
                self.late.get_or_insert(outcome);
                Vec::new()
            }
            Phase::Dropping => Vec::new(),
            Phase::Telling => self.close(Outcome::Untold),
            Phase::Freezing | Phase::Frozen { .. } => {
                let mut effects = vec![SendingEffect::Thaw];
                effects.extend(self.close(outcome));
                effects
            }
            _ => self.close(outcome),
        }
    }

    fn close(&mut self, outcome: Outcome) -> Vec<SendingEffect> {
        self.phase = Phase::Ended;
        vec![SendingEffect::Close(outcome)]
    }

    /// A place's service name, for those who speak to operators.
    pub fn service_of(&self, place: &Place) -> Option<&str> {
        self.plan.services.get(usize::from(place.stream)).map(String::as_str)
    }

    /// How far the receiver has everything, synced.
    pub fn acknowledged(&self) -> &Position {
        &self.acknowledged
    }
}
