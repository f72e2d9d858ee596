//! One transfer out of this node: the actor round core's [`Sending`], over a connection of its own. It carries out what
//! the machine asks for, one effect after the other, and tells it what came of it; when a transfer is due, the handoff
//! manager decides.

use super::board::{Direction, End, TransferLine};
use super::manager::{HandoffContext, HandoffManager, ManagerMessage, SILENT_AT_MOST, now_and_then};
use super::service::{Filter, ScanRange, sealed_snapshot};
use super::switch::{self, HeldPartition};
use crate::net::{TransferReader, TransferWriter};
use crate::post::{Permits, Postbox, Posted};
use crate::ring_manager::RingMessage;
use crate::time::Clock;
use crate::vnode::Fetched;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use ringwork_core::keyspace::Snapshot;
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::transfer::message::ForReceiver;
use ringwork_core::transfer::sending::Flip;
use ringwork_core::transfer::{
    CancelReason, ForSender, GenerationId, Kind, Outbound, Outcome, Place, Position, Progress, Sending,
    SendingEffect, SendingEvent, SendingPlan, SessionId,
};
use ringwork_core::wire::WireError;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Messages on their way to one transfer: acknowledgements of a window, and a few words more.
const IN_FLIGHT_MAX: usize = 256;
/// After this long without a word it says that it lives: several times within what a receiver waits.
const PING_AFTER: Duration = Duration::from_secs(15);
/// Keys that a vnode reads in one turn, between requests.
const FETCHED_AT_A_TIME: usize = 128;

/// See the module's head.
pub(crate) struct HandoffSender {
    context: Arc<HandoffContext>,
    manager: Postbox<HandoffManager>,
    me: Option<Postbox<Self>>,
    session: SessionId,
    plan: Option<SendingPlan>,
    machine: Option<Sending>,
    /// Whether it can still be ended; shared with the manager, which judges offers by it.
    revocable: Arc<AtomicBool>,
    out: Option<mpsc::UnboundedSender<ForReceiver>>,
    effects: VecDeque<SendingEffect>,
    /// An effect that takes time is being carried out; the next one waits.
    busy: bool,
    snapshots: Rc<RefCell<BTreeMap<u8, Arc<Snapshot>>>>,
    held: Rc<RefCell<Option<HeldPartition>>>,
    alarm: Option<SpawnHandle>,
    filter: Option<Filter>,
    outcome: Option<Outcome>,
    /// Why there was no connection.
    unreachable: Option<String>,
}

/// Something has happened to a transfer.
pub(crate) struct Happened(pub(crate) SendingEvent);

/// What came of dialling.
struct Dialled(Result<(TransferReader, TransferWriter), String>);

impl HandoffSender {
    /// Starts on the calling thread, and dials.
    pub(crate) fn start(
        context: Arc<HandoffContext>,
        manager: Postbox<HandoffManager>,
        plan: SendingPlan,
        filter: Option<Filter>,
        revocable: Arc<AtomicBool>,
    ) -> Postbox<Self> {
        let session = plan.session;
        let mut postbox = None;
        let _ = Self::create(|ctx| {
            let me = Postbox::new(ctx.address(), Permits::new(IN_FLIGHT_MAX));
            postbox = Some(me.clone());
            Self {
                context,
                manager,
                me: Some(me),
                session,
                plan: Some(plan),
                machine: None,
                revocable,
                out: None,
                effects: VecDeque::new(),
                busy: false,
                snapshots: Rc::default(),
                held: Rc::default(),
                alarm: None,
                filter,
                outcome: None,
                unreachable: None,
            }
        });
        #[allow(clippy::expect_used)] // `create` has run the closure before it returns
        postbox.expect("the context gives an address")
    }

    fn now_ms(&self) -> u64 {
        self.context.node.clock.moment().as_millis() as u64
    }

    fn dialled(&mut self, dialled: Dialled, ctx: &mut Context<Self>) {
        let Some(plan) = self.plan.take() else { return };
        let (reader, writer) = match dialled.0 {
            Ok(connection) => connection,
            Err(why) => {
                tracing::debug!(partition = plan.partition.0, why, "a transfer found no connection");
                self.unreachable = Some(format!("no connection: {why}"));
                return self.close(Outcome::CutOff, ctx);
            }
        };
        let (out, outgoing) = mpsc::unbounded_channel();
        self.out = Some(out);
        let Some(me) = self.me.clone() else { return };
        let clock = self.context.node.clock.clone();
        actix_rt::spawn(write(writer, outgoing, me.clone(), clock));
        actix_rt::spawn(read(reader, plan.session, me));
        let (machine, effects) = Sending::begin(plan, self.now_ms());
        self.machine = Some(machine);
        self.effects.extend(effects);
        self.go_on(ctx);
    }

    fn happened(&mut self, event: SendingEvent, ctx: &mut Context<Self>) {
        let now_ms = self.now_ms();
        match &mut self.machine {
            Some(machine) => self.effects.extend(machine.on(now_ms, event)),
            // It has not begun: whoever wants it to end has its wish.
            None => match event {
                SendingEvent::Cancel(reason) => return self.close(Outcome::Cancelled(reason), ctx),
                SendingEvent::OfferFromReceiver(_) => {
                    return self.close(Outcome::Cancelled(CancelReason::Crossed), ctx);
                }
                _ => return,
            },
        }
        self.go_on(ctx);
    }

    /// Carries out what is next, as far as it can be done now.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        while !self.busy && self.outcome.is_none() {
            let Some(effect) = self.effects.pop_front() else { break };
            self.carry_out(effect, ctx);
        }
        let Some(machine) = &self.machine else { return };
        let mut revocable = machine.is_revocable();
        if planted(Mutant::IgnoreHeirsOffer) {
            revocable = true;
        }
        self.revocable.store(revocable, Ordering::SeqCst);
        if self.outcome.is_some() {
            return;
        }
        let wake_at_ms = machine.wake_at_ms();
        self.show();
        if let Some(alarm) = self.alarm.take() {
            ctx.cancel_future(alarm);
        }
        if let Some(at_ms) = wake_at_ms {
            let pause = Duration::from_millis(at_ms.saturating_sub(self.now_ms()).max(1));
            self.alarm = Some(ctx.run_later(pause, |actor, ctx| {
                actor.alarm = None;
                actor.happened(SendingEvent::Tick, ctx);
            }));
        }
    }

    fn show(&self) {
        let Some(machine) = &self.machine else { return };
        let plan = machine.plan();
        self.context.node.handoff.show(TransferLine {
            session: self.session,
            direction: Direction::Out,
            kind: plan.kind,
            partition: plan.partition,
            peer: plan.to,
            progress: machine.progress().clone(),
        });
    }

    /// An effect that takes time: what follows waits for it, and the machine is told what came of it.
    fn in_turn(
        &mut self,
        work: impl Future<Output = Option<SendingEvent>> + 'static,
        ctx: &mut Context<Self>,
    ) {
        self.busy = true;
        ctx.spawn(work.into_actor(self).map(|event, actor, ctx| {
            actor.busy = false;
            match event {
                Some(event) => actor.happened(event, ctx),
                None => actor.go_on(ctx),
            }
        }));
    }

    /// A reading that goes on beside other effects.
    fn beside(&mut self, work: impl Future<Output = SendingEvent> + 'static, ctx: &mut Context<Self>) {
        ctx.spawn(work.into_actor(self).map(|event, actor, ctx| actor.happened(event, ctx)));
    }

    fn carry_out(&mut self, effect: SendingEffect, ctx: &mut Context<Self>) {
        let Some(plan) = self.machine.as_ref().map(|machine| machine.plan().clone()) else { return };
        let (context, partition) = (self.context.clone(), plan.partition);
        let most = self.context.node.limits.handoff_batch_items_max.max(1);
        match effect {
            SendingEffect::Send(says) => {
                if let Some(out) = &self.out {
                    // A connection that has ended says so itself.
                    let _ = out.send(ForReceiver { session: self.session, says });
                }
            }
            SendingEffect::Seal => {
                let snapshots = self.snapshots.clone();
                self.in_turn(async move { Some(seal(&context, &plan, &snapshots).await) }, ctx);
            }
            SendingEffect::Mark { outbound, anew } => {
                let snapshots = self.snapshots.clone();
                self.in_turn(
                    async move { Some(mark(&context, outbound, anew, &plan, &snapshots).await) },
                    ctx,
                );
            }
            SendingEffect::Scan { after, items_max, bytes_max } => {
                let items_max = items_max.min(most);
                let range = ScanRange { after: None, items_max, bytes_max, filter: self.filter.clone() };
                let snapshots = self.snapshots.clone();
                self.beside(async move { scan(&context, &plan, &snapshots, after, range).await }, ctx);
            }
            SendingEffect::Fetch { stream, items_max, bytes_max } => self.beside(
                async move {
                    let Some(service) = context.service(&plan, stream) else { return lost_service() };
                    match service
                        .fetch(partition, items_max.min(most).min(FETCHED_AT_A_TIME), bytes_max)
                        .await
                    {
                        Some(Some(Fetched { failure: Some(why), .. })) => SendingEvent::Failed(why),
                        Some(Some(fetched)) => SendingEvent::Fetched {
                            stream,
                            items: fetched.items,
                            keys: fetched.keys,
                            waiting: fetched.waiting,
                        },
                        Some(None) => SendingEvent::MarksLost,
                        None => SendingEvent::Failed("the vnode does not answer".to_owned()),
                    }
                },
                ctx,
            ),
            SendingEffect::Clean { stream, keys } => self.beside(
                async move {
                    let Some(service) = context.service(&plan, stream) else { return lost_service() };
                    match service.clean(partition, keys).await {
                        Some(Some(waiting)) => SendingEvent::Dirty { stream, waiting },
                        Some(None) => SendingEvent::MarksLost,
                        None => SendingEvent::Failed("the vnode does not answer".to_owned()),
                    }
                },
                ctx,
            ),
            SendingEffect::Forget => forget(&context, partition),
            SendingEffect::Freeze => {
                let held = self.held.clone();
                self.in_turn(async move { Some(freeze(&context, &plan, &held).await) }, ctx);
            }
            SendingEffect::Thaw => drop(self.held.borrow_mut().take()),
            SendingEffect::Flip(outbound) => {
                let held = self.held.borrow_mut().take();
                self.in_turn(async move { Some(flip(&context, outbound, held, partition).await) }, ctx);
            }
            SendingEffect::Drop(generation) => {
                self.snapshots.borrow_mut().clear();
                self.in_turn(
                    async move {
                        Some(match switch::drop_generation(&context.node, partition, generation).await {
                            Ok(()) => SendingEvent::Dropped,
                            Err(why) => SendingEvent::Failed(why),
                        })
                    },
                    ctx,
                );
            }
            SendingEffect::Close(outcome) => self.close(outcome, ctx),
        }
    }

    fn close(&mut self, outcome: Outcome, ctx: &mut Context<Self>) {
        if self.outcome.is_some() {
            return;
        }
        drop(self.held.borrow_mut().take());
        self.snapshots.borrow_mut().clear();
        // What was said last leaves before the connection ends.
        self.out = None;
        // With all that was sent, so that it is counted.
        self.show();
        let progress = self.machine.as_ref().map(|machine| machine.progress().clone());
        let completed = outcome == Outcome::Completed;
        let end = End {
            completed,
            amount: progress.as_ref().map(|progress| progress.done).unwrap_or_default(),
            unreadable: progress.map_or(0, |progress| progress.unreadable),
            text: self.unreachable.take().unwrap_or_else(|| text_of(&outcome)),
        };
        self.context.node.handoff.ended(self.session, Direction::Out, end);
        self.manager.post_control(ManagerMessage::Sent(self.session, outcome.clone()));
        self.outcome = Some(outcome);
        ctx.stop();
    }
}

/// How a transfer ended, for operators.
pub(crate) fn text_of(outcome: &Outcome) -> String {
    let of_reason = |reason: &CancelReason| match reason {
        CancelReason::Crossed => "the receiver has something of the partition to give back first".to_owned(),
        CancelReason::Moved => "the partition is to be, or is, elsewhere".to_owned(),
        CancelReason::Paused => "paused".to_owned(),
        CancelReason::Stopping => "the node stops".to_owned(),
        CancelReason::Anew => "too much has changed meanwhile; it begins anew".to_owned(),
        CancelReason::Timeout => "the receiver was silent for too long".to_owned(),
        CancelReason::Failed(why) => why.clone(),
    };
    match outcome {
        Outcome::Completed => "completed".to_owned(),
        Outcome::Refused(refusal) => format!("refused: {refusal}"),
        Outcome::Cancelled(reason) => of_reason(reason),
        Outcome::CutOff => "the connection has ended; it is resumed".to_owned(),
        Outcome::Untold => {
            "possession was passed on; the heir's word that it has everything is missing".to_owned()
        }
    }
}

fn lost_service() -> SendingEvent {
    SendingEvent::Failed("a service of the transfer does not run here".to_owned())
}

async fn write(
    mut writer: TransferWriter,
    mut outgoing: mpsc::UnboundedReceiver<ForReceiver>,
    sender: Postbox<HandoffSender>,
    clock: Clock,
) {
    let mut moving = now_and_then(clock, || sender.post_control(Happened(SendingEvent::Moving)));
    loop {
        // Slowed down, it may have nothing to say for longer than the receiver listens to silence.
        let Ok(message) = timeout(PING_AFTER, outgoing.recv()).await else {
            match writer.ping(SILENT_AT_MOST).await {
                Ok(()) => continue,
                Err(_) => return sender.post_control(Happened(SendingEvent::CutOff)),
            }
        };
        let Some(message) = message else { break };
        let encode = |out: &mut Vec<u8>| message.encode_into(out).map_err(|e| WireError::Body(e.to_string()));
        if let Err(error) = writer.write(SILENT_AT_MOST, encode, &mut moving).await {
            if error.kind() == ErrorKind::InvalidData {
                // It would be cut off at the same item again and again.
                tracing::warn!(%error, "what a transfer has to say cannot be sent to that node");
            }
            return sender.post_control(Happened(SendingEvent::CutOff));
        }
    }
    let _ = writer.close().await;
}

async fn read(mut reader: TransferReader, session: SessionId, sender: Postbox<HandoffSender>) {
    while let Ok(Some(body)) = reader.read(SILENT_AT_MOST, || ()).await {
        let said = ForSender::decode(&body).ok().filter(|message| message.session == session);
        let Some(message) = said else { break };
        if sender.post(Happened(SendingEvent::Said(message.says))).is_err() {
            break;
        }
    }
    sender.post_control(Happened(SendingEvent::CutOff));
}

async fn seal(
    context: &Arc<HandoffContext>,
    plan: &SendingPlan,
    snapshots: &RefCell<BTreeMap<u8, Arc<Snapshot>>>,
) -> SendingEvent {
    match switch::seal(&context.node, &context.services, plan.partition).await {
        Ok(generation) => match take_snapshots(context, plan, generation, snapshots) {
            Ok(()) => SendingEvent::Sealed {
                generation,
                services: plan.services.clone(),
                estimate: context.estimate(plan.partition, generation),
            },
            Err(why) => SendingEvent::Failed(why),
        },
        Err(why) => SendingEvent::Failed(why),
    }
}

fn take_snapshots(
    context: &HandoffContext,
    plan: &SendingPlan,
    generation: GenerationId,
    snapshots: &RefCell<BTreeMap<u8, Arc<Snapshot>>>,
) -> Result<(), String> {
    let source = match plan.kind {
        Kind::Repair { source } => source,
        Kind::Hinted | Kind::Ownership => plan.partition,
    };
    for (name, stream) in plan.services.iter().zip(0u8..) {
        let found = sealed_snapshot(&context.node.generations, name, source, generation.number)?;
        if let Some(snapshot) = found {
            snapshots.borrow_mut().insert(stream, snapshot);
        }
    }
    Ok(())
}

async fn mark(
    context: &Arc<HandoffContext>,
    outbound: Outbound,
    anew: bool,
    plan: &SendingPlan,
    snapshots: &RefCell<BTreeMap<u8, Arc<Snapshot>>>,
) -> SendingEvent {
    let partition = plan.partition;
    if context.node.generations.live(partition) != Some(outbound.source) {
        return SendingEvent::Failed("the partition lives in another generation now".to_owned());
    }
    let kept = context.node.generations.update(partition, |held| {
        // What an earlier session has marked may have been given up meanwhile, because it was too much.
        let goes_on = anew || held.outbound.as_ref().is_some_and(|earlier| earlier.begun == outbound.begun);
        if goes_on {
            held.outbound = Some(Box::new(outbound));
        }
        goes_on
    });
    if kept != Some(true) {
        return SendingEvent::MarksLost;
    }
    let mut waiting = BTreeMap::new();
    for (name, stream) in plan.services.iter().zip(0u8..) {
        let Some(service) = context.by_name(name) else { return lost_service() };
        let Some(marking) = service.mark(partition, anew).await else {
            return SendingEvent::Failed(format!("the vnode of {name} does not run"));
        };
        waiting.insert(stream, marking.waiting);
        snapshots.borrow_mut().insert(stream, Arc::new(marking.snapshot));
    }
    SendingEvent::Marking { waiting }
}

async fn scan(
    context: &Arc<HandoffContext>,
    plan: &SendingPlan,
    snapshots: &RefCell<BTreeMap<u8, Arc<Snapshot>>>,
    after: Position,
    mut range: ScanRange,
) -> SendingEvent {
    let missing = snapshots.borrow().is_empty() && plan.kind != Kind::Ownership;
    if missing {
        // The last turns of the vnode that lived in it may still be on their way to the store.
        if let Err(error) = context.node.storage.barrier(false).await {
            return SendingEvent::Failed(error.to_string());
        }
        if let Err(why) = take_snapshots(context, plan, plan.generation, snapshots) {
            return SendingEvent::Failed(why);
        }
    }
    let (mut stream, mut unreadable) = (0, 0);
    match after {
        Position::Start => {}
        Position::After(Place { stream: of, key }) => (stream, range.after) = (of, Some(key)),
        Position::End => stream = u8::MAX,
    }
    while let Some(service) = context.service(plan, stream) {
        let snapshot = snapshots.borrow().get(&stream).cloned();
        if let Some(snapshot) = snapshot {
            let scanned = match service.scan(snapshot, range.clone()).await {
                Ok(scanned) => scanned,
                Err(why) => return SendingEvent::Failed(why),
            };
            unreadable += scanned.unreadable;
            match scanned.last {
                Some(key) => {
                    // With nothing in it that is meant, it is gone on with: the receiver need not hear of it.
                    if scanned.items.is_empty() {
                        range.after = Some(key);
                        continue;
                    }
                    let position = Position::After(Place { stream, key });
                    return SendingEvent::Scanned { stream, items: scanned.items, position, unreadable };
                }
                None if !scanned.items.is_empty() => {
                    let last = usize::from(stream) + 1 >= plan.services.len();
                    let position = match last {
                        true => Position::End,
                        // The next service, from its beginning.
                        false => Position::After(Place { stream: stream + 1, key: Vec::new() }),
                    };
                    return SendingEvent::Scanned { stream, items: scanned.items, position, unreadable };
                }
                None => {}
            }
        }
        (stream, range.after) = (stream + 1, None);
    }
    let stream = plan.services.len().saturating_sub(1) as u8;
    SendingEvent::Scanned { stream, items: Vec::new(), position: Position::End, unreadable }
}

/// The record and the marks of a transfer that is given up.
pub(crate) fn forget(context: &HandoffContext, partition: ringwork_core::ids::Partition) {
    context.node.generations.update(partition, |held| held.outbound = None);
    for service in context.services.iter() {
        service.forget(partition);
    }
}

async fn freeze(
    context: &Arc<HandoffContext>,
    plan: &SendingPlan,
    slot: &RefCell<Option<HeldPartition>>,
) -> SendingEvent {
    let held = switch::hold(&context.node.generations, &context.services, plan.partition, true).await;
    let Some(held) = held else { return SendingEvent::NotFrozen };
    let mut waiting = BTreeMap::new();
    for (name, stream) in plan.services.iter().zip(0u8..) {
        let place = context.services.iter().position(|service| service.name() == name);
        let marked = place.and_then(|place| held.waiting.get(&(place as u8)).copied().flatten());
        // Without marks nobody knows what has changed.
        let Some(marked) = marked else { return SendingEvent::MarksLost };
        waiting.insert(stream, marked);
    }
    *slot.borrow_mut() = Some(held);
    SendingEvent::Frozen { waiting }
}

async fn flip(
    context: &Arc<HandoffContext>,
    outbound: Outbound,
    held: Option<HeldPartition>,
    partition: ringwork_core::ids::Partition,
) -> SendingEvent {
    let Some(held) = held else { return SendingEvent::Failed("the partition is not held back".to_owned()) };
    if context.node.generations.live(partition) != Some(outbound.source) {
        return SendingEvent::Flipped(None);
    }
    if let Err(why) = switch::intend(&context.node, partition, outbound.clone()).await {
        return SendingEvent::Failed(why);
    }
    let (done, passed) = oneshot::channel();
    let message = RingMessage::PassOn(partition, outbound.possession, outbound.heir, done);
    context.ring_manager.post_control(message);
    // However long it takes: what is merged after the state was kept would be lost, so nothing goes on before it is
    // known.
    match passed.await {
        Ok(Some((possession, complete))) => {
            match switch::bequeath(&context.node, &context.services, partition, held).await {
                Ok(()) => SendingEvent::Flipped(Some(Flip { possession, complete })),
                Err(why) => SendingEvent::Failed(why),
            }
        }
        Ok(None) => SendingEvent::Flipped(None),
        // The ring manager has ended, and the node with it; whether the state was kept is not known. The partition
        // stays held back for the rest of this life.
        Err(_) => {
            std::mem::forget(held);
            SendingEvent::Failed("the ring manager has ended".to_owned())
        }
    }
}

impl Actor for HandoffSender {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(plan) = &self.plan else { return };
        let to = plan.to;
        // From now on, so that one that finds no connection is seen, too.
        self.context.node.handoff.show(TransferLine {
            session: self.session,
            direction: Direction::Out,
            kind: plan.kind,
            partition: plan.partition,
            peer: to,
            progress: Progress::new(self.now_ms(), plan.estimate),
        });
        let context = self.context.clone();
        let dial = async move {
            let stream = context.network.dial_transfer(to).await.map_err(|error| error.to_string())?;
            stream.split().map_err(|error| error.to_string())
        };
        ctx.spawn(dial.into_actor(self).map(|dialled, actor, ctx| actor.dialled(Dialled(dialled), ctx)));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        drop(self.held.borrow_mut().take());
        if self.outcome.is_none() {
            let end = End { text: "its thread has ended".to_owned(), ..End::default() };
            self.context.node.handoff.ended(self.session, Direction::Out, end);
            self.manager.post_control(ManagerMessage::Sent(self.session, Outcome::CutOff));
        }
    }
}

impl Handler<Posted<Happened>> for HandoffSender {
    type Result = ();

    fn handle(&mut self, posted: Posted<Happened>, ctx: &mut Self::Context) {
        self.happened(posted.message.0, ctx);
    }
}
