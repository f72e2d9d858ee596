//! One transfer into this node: the actor round core's [`Receiving`], over the connection by which it was offered. It
//! merges what comes, syncs, and tells the machine; whether an offer is taken, the handoff manager has found out by
//! core's rule.

use super::board::{Direction, End, TransferLine};
use super::manager::{HandoffContext, HandoffManager, ManagerMessage, SILENT_AT_MOST, now_and_then};
use super::service::Collecting;
use super::switch;
use crate::net::{TransferReader, TransferWriter};
use crate::node_core::NodeCore;
use crate::post::{Permits, Postbox, Posted};
use crate::ring_manager::RingMessage;
use crate::time::Clock;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use bytes::Bytes;
use ringwork_core::limits::{WINDOW_BATCHES_MAX, WINDOW_BYTES_MAX};
use ringwork_core::membership::Possession;
use ringwork_core::transfer::message::ForReceiver;
use ringwork_core::transfer::message::Position;
use ringwork_core::transfer::receiving::ReceivingOutcome;
use ringwork_core::transfer::{
    Amount, Batch, ForSender, Inbound, Into, Kind, Receiving, ReceivingEffect, ReceivingEvent, SessionId,
};
use ringwork_core::wire::codec;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Messages on their way to one transfer: a window of batches, and a few words more.
const IN_FLIGHT_MAX: usize = WINDOW_BATCHES_MAX as usize + 8;
/// How long the state in which a partition was passed on may take to come here.
const LEARN_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked whether it has come.
const LEARN_PAUSE: Duration = Duration::from_millis(50);

/// A transfer that was accepted.
pub(crate) struct Accepted {
    /// Which one.
    pub(crate) session: SessionId,
    /// How it begins.
    pub(crate) record: Inbound,
    /// Where the items go.
    pub(crate) into: Into,
    /// The partition.
    pub(crate) partition: ringwork_core::ids::Partition,
    /// How much, about.
    pub(crate) estimate: Amount,
}

type Open = Rc<RefCell<BTreeMap<u8, Rc<Box<dyn Collecting>>>>>;

/// See the module's head.
pub(crate) struct HandoffReceiver {
    context: Arc<HandoffContext>,
    manager: Postbox<HandoffManager>,
    accepted: Accepted,
    machine: Receiving,
    out: Option<mpsc::UnboundedSender<ForSender>>,
    effects: VecDeque<ReceivingEffect>,
    busy: bool,
    open: Open,
    alarm: Option<SpawnHandle>,
    closed: bool,
}

/// Something has happened to a transfer.
pub(crate) struct Received(pub(crate) ReceivingEvent);

impl HandoffReceiver {
    /// Starts on the calling thread, and says that the offer is taken.
    pub(crate) fn start(
        context: Arc<HandoffContext>,
        manager: Postbox<HandoffManager>,
        accepted: Accepted,
        (reader, writer): (TransferReader, TransferWriter),
    ) -> Postbox<Self> {
        let now_ms = context.node.clock.moment().as_millis() as u64;
        let (session, record, estimate) = (accepted.session, accepted.record.clone(), accepted.estimate);
        let (machine, effects) = Receiving::begin(session, record, WINDOW_BATCHES_MAX, estimate, now_ms);
        let (out, outgoing) = mpsc::unbounded_channel();
        let mut postbox = None;
        let _ = Self::create(|ctx| {
            let me = Postbox::new(ctx.address(), Permits::new(IN_FLIGHT_MAX));
            postbox = Some(me.clone());
            actix_rt::spawn(write(writer, outgoing, me.clone()));
            actix_rt::spawn(read(reader, session, me, context.node.clock.clone()));
            Self {
                context,
                manager,
                accepted,
                machine,
                out: Some(out),
                effects: effects.into(),
                busy: false,
                open: Rc::default(),
                alarm: None,
                closed: false,
            }
        });
        #[allow(clippy::expect_used)] // `create` has run the closure before it returns
        postbox.expect("the context gives an address")
    }

    fn now_ms(&self) -> u64 {
        self.context.node.clock.moment().as_millis() as u64
    }

    fn happened(&mut self, event: ReceivingEvent, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        let effects = self.machine.on(now_ms, event);
        if effects.iter().any(|effect| matches!(effect, ReceivingEffect::Close(_))) {
            // What waits to be merged is not merged any more: with one batch missing, the record of a later one would
            // say that it is here.
            self.effects.retain(|effect| !matches!(effect, ReceivingEffect::Store { .. }));
        }
        self.effects.extend(effects);
        self.go_on(ctx);
    }

    fn go_on(&mut self, ctx: &mut Context<Self>) {
        while !self.busy && !self.closed {
            let Some(effect) = self.effects.pop_front() else { break };
            self.carry_out(effect, ctx);
        }
        if self.closed {
            return;
        }
        self.context.node.handoff.show(TransferLine {
            session: self.accepted.session,
            direction: Direction::In,
            kind: self.accepted.record.kind,
            partition: self.accepted.partition,
            peer: self.accepted.record.sender,
            progress: self.machine.progress().clone(),
        });
        if let Some(alarm) = self.alarm.take() {
            ctx.cancel_future(alarm);
        }
        if let Some(at_ms) = self.machine.wake_at_ms() {
            let pause = Duration::from_millis(at_ms.saturating_sub(self.now_ms()).max(1));
            self.alarm = Some(ctx.run_later(pause, |actor, ctx| {
                actor.alarm = None;
                actor.happened(ReceivingEvent::Tick, ctx);
            }));
        }
    }

    fn carry_out(&mut self, effect: ReceivingEffect, ctx: &mut Context<Self>) {
        let context = self.context.clone();
        let (session, partition) = (self.accepted.session, self.accepted.partition);
        match effect {
            ReceivingEffect::Send(says) => {
                if let Some(out) = &self.out {
                    let _ = out.send(ForSender { session, says });
                }
            }
            ReceivingEffect::Keep(record) => context.node.generations.keep_inbound(partition, record),
            ReceivingEffect::Store { batch, record } => {
                let (open, into) = (self.open.clone(), self.accepted.into);
                let mine = self.machine.record().clone();
                let sequence = batch.sequence;
                self.busy = true;
                let merge =
                    async move { store(&context, partition, into, &mine, batch, record, &open).await };
                ctx.spawn(merge.into_actor(self).map(move |merged, actor, ctx| {
                    actor.busy = false;
                    match merged {
                        Ok(unreadable) => actor.sync(sequence, unreadable, ctx),
                        Err(why) => actor.happened(ReceivingEvent::Failed(why), ctx),
                    }
                }));
            }
            ReceivingEffect::Inherit { possession, record, .. } => {
                // What is served from now on is opened anew.
                self.open.borrow_mut().clear();
                self.busy = true;
                let inherit = async move { inherit(&context, partition, possession, &record).await };
                ctx.spawn(inherit.into_actor(self).map(|taken, actor, ctx| {
                    actor.busy = false;
                    actor.happened(ReceivingEvent::Inherited(taken), ctx);
                }));
            }
            ReceivingEffect::Close(outcome) => self.close(&outcome, ctx),
        }
    }

    /// What was merged is to be synced; the next batch is merged meanwhile.
    fn sync(&mut self, sequence: u64, unreadable: u64, ctx: &mut Context<Self>) {
        let node = self.context.node.clone();
        let synced = async move { node.storage.barrier(true).await };
        ctx.spawn(synced.into_actor(self).map(move |synced, actor, ctx| match synced {
            Ok(()) => actor.happened(ReceivingEvent::Stored { sequence, unreadable }, ctx),
            Err(error) => actor.happened(ReceivingEvent::Failed(error.to_string()), ctx),
        }));
        self.go_on(ctx);
    }

    fn close(&mut self, outcome: &ReceivingOutcome, ctx: &mut Context<Self>) {
        self.closed = true;
        self.out = None;
        let progress = self.machine.progress();
        let text = match outcome {
            ReceivingOutcome::Completed => "completed".to_owned(),
            ReceivingOutcome::Cancelled(reason) => format!("it was ended: {reason:?}"),
            ReceivingOutcome::CutOff => "the connection has ended; the sender comes again".to_owned(),
        };
        let completed = *outcome == ReceivingOutcome::Completed;
        let end = End { completed, amount: progress.sent, unreadable: progress.unreadable, text };
        self.context.node.handoff.ended(self.accepted.session, Direction::In, end);
        let session = self.accepted.session;
        let repaired = match self.accepted.record.kind {
            Kind::Repair { source } if completed => Some((self.accepted.partition, source)),
            _ => None,
        };
        self.manager.post_control(ManagerMessage::ReceiverEnded(session, repaired));
        ctx.stop();
    }
}

async fn write(
    mut writer: TransferWriter,
    mut outgoing: mpsc::UnboundedReceiver<ForSender>,
    receiver: Postbox<HandoffReceiver>,
) {
    while let Some(message) = outgoing.recv().await {
        let encode = |out: &mut Vec<u8>| codec::encode_into(&message, out);
        if writer.write(SILENT_AT_MOST, encode, || ()).await.is_err() {
            return receiver.post_control(Received(ReceivingEvent::CutOff));
        }
    }
    let _ = writer.close().await;
}

/// A message's bytes, counted for as long as any part of them is kept.
struct Counted(Bytes, #[allow(dead_code)] OwnedSemaphorePermit);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

async fn read(
    mut reader: TransferReader,
    session: SessionId,
    receiver: Postbox<HandoffReceiver>,
    clock: Clock,
) {
    // A sender keeps its window. One that does not is no longer listened to until what it sent is merged.
    let room = Arc::new(Semaphore::new(2 * WINDOW_BYTES_MAX));
    let mut moving = now_and_then(clock, || receiver.post_control(Received(ReceivingEvent::Moving)));
    while let Ok(Some(body)) = reader.read(SILENT_AT_MOST, &mut moving).await {
        let bytes = body.len().clamp(1, 2 * WINDOW_BYTES_MAX) as u32;
        let Ok(taken) = room.clone().acquire_many_owned(bytes).await else { break };
        let body = Bytes::from_owner(Counted(body, taken));
        let said = ForReceiver::decode(&body).ok().filter(|message| message.session == session);
        let Some(message) = said else { break };
        if receiver.post(Received(ReceivingEvent::Said(message.says))).is_err() {
            break;
        }
    }
    receiver.post_control(Received(ReceivingEvent::CutOff));
}

/// Merges a batch, then hands the record over: in this order both reach the disk.
async fn store(
    context: &Arc<HandoffContext>,
    partition: ringwork_core::ids::Partition,
    into: Into,
    mine: &Inbound,
    batch: Batch,
    record: Option<Inbound>,
    open: &Open,
) -> Result<u64, String> {
    let gone = || Err("the generation is gone".to_owned());
    let node = &context.node;
    let Some(held) = node.generations.held(partition) else { return gone() };
    let mut unreadable = 0;
    // The last batches are sent while the holder holds requests back: nothing rests then.
    let rests = !matches!(batch.position, None | Some(Position::End));
    let items: Vec<_> = batch.each().collect();
    let name = mine.services.get(usize::from(batch.stream));
    match into {
        Into::Live => {
            let Some(possession) = node.ring.load().possession(partition) else { return gone() };
            let stands = || {
                let live = node.generations.live(partition);
                live == Some(mine.generation) && node.ring.load().state().holder(partition) == Some(node.id)
            };
            if held.live != mine.generation || possession.holder != node.id {
                return gone();
            }
            if let Some(name) = name.filter(|_| !items.is_empty()) {
                let Some(service) = context.by_name(name) else {
                    return Err(format!("service {name} does not run here"));
                };
                let merge = |items| service.merge(partition, possession, items);
                unreadable = by_turns(node, items, rests, stands, merge).await?;
            }
        }
        Into::Inbound | Into::NewInbound => {
            // It may come to be held here meanwhile, forced: then a vnode serves what was collected, and alone writes.
            let stands = || {
                let inbound = node.generations.held(partition).and_then(|held| held.inbound);
                inbound.is_some_and(|(_, generation)| generation == mine.generation)
            };
            if !stands() {
                return gone();
            }
            if let Some(name) = name.filter(|_| !items.is_empty()) {
                let known = open.borrow().get(&batch.stream).cloned();
                let collecting = match known {
                    Some(collecting) => collecting,
                    None => {
                        let Some(service) = context.by_name(name) else {
                            return Err(format!("service {name} does not run here"));
                        };
                        let opened = Rc::new(service.collect(partition, mine.generation.number).await?);
                        open.borrow_mut().insert(batch.stream, opened.clone());
                        opened
                    }
                };
                unreadable = by_turns(node, items, rests, stands, |items| collecting.merge(items)).await?;
            }
            if !stands() {
                return gone();
            }
        }
    }
    if let Some(record) = record {
        node.generations.keep_inbound(partition, record);
    }
    Ok(unreadable)
}

/// Takes items in, by short turns and with rests before them while this node serves others: these go first. `stands`
/// says before each turn whether it is still to be merged there. Says how many could not be read. What was merged
/// before a failure stays; it is sent again.
async fn by_turns<I, M>(
    node: &NodeCore,
    mut items: Vec<I>,
    rests: bool,
    stands: impl Fn() -> bool,
    merge: impl Fn(Vec<I>) -> M,
) -> Result<u64, String>
where
    M: Future<Output = Result<u64, String>>,
{
    let messages = || {
        let of_transfers = node.telemetry.transfer_frames_received.value();
        node.telemetry.frames_received.value().saturating_sub(of_transfers)
    };
    let mut unreadable = 0;
    while !items.is_empty() {
        let rest = if rests { node.handoff.rest_due() } else { Duration::ZERO };
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
        if !stands() {
            return Err("the generation is gone".to_owned());
        }
        let later = items.split_off(node.handoff.turn_items(messages()).min(items.len()));
        let begun = node.clock.moment();
        unreadable += merge(std::mem::replace(&mut items, later)).await?;
        node.handoff.worked(begun, messages());
    }
    Ok(unreadable)
}

/// Learns the state in which the partition is held here, and sees that it is held out of what was collected.
async fn inherit(
    context: &Arc<HandoffContext>,
    partition: ringwork_core::ids::Partition,
    possession: Possession,
    record: &Inbound,
) -> bool {
    let node = &context.node;
    let deadline = node.clock.moment() + LEARN_WITHIN;
    let known = || node.ring.load().possession(partition).is_some_and(|ours| ours >= possession);
    while !known() && node.clock.moment() < deadline && !node.is_stopping() {
        // Who passed it on knows the state that says so.
        let _ = context.ring_manager.post(RingMessage::AskState(record.sender));
        tokio::time::sleep(LEARN_PAUSE).await;
    }
    if node.ring.load().state().holder(partition) == Some(node.id) {
        // As a rule the ring manager has done so before it published the state.
        switch::take_over(node, &context.services, partition).await;
    }
    let kept = node.generations.inbound_record(partition, record.sender);
    let taken = kept.is_some_and(|kept| kept.inherited && kept.generation == record.generation);
    taken && node.storage.barrier(true).await.is_ok()
}

impl Actor for HandoffReceiver {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.go_on(ctx);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if !self.closed {
            let end = End { text: "its thread has ended".to_owned(), ..End::default() };
            self.context.node.handoff.ended(self.accepted.session, Direction::In, end);
            self.manager.post_control(ManagerMessage::ReceiverEnded(self.accepted.session, None));
        }
    }
}

impl Handler<Posted<Received>> for HandoffReceiver {
    type Result = ();

    fn handle(&mut self, posted: Posted<Received>, ctx: &mut Self::Context) {
        self.happened(posted.message.0, ctx);
    }
}
