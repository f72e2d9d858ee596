//! The actor round one vnode. It decides nothing about data: it runs the module's turns one after another,
//! each guarded so that a panic costs this vnode and nobody else, hands what a turn wrote to the storage
//! thread, and lets the reply leave when what it promises is true. It does not know how it was found, nor what
//! becomes of the partition after its death (the vnode master does). What it does for transfers is in
//! `vnode/handoff.rs`, for listings in `vnode/listing.rs`, for its trees in `vnode/trees.rs`.

mod handoff;
mod listing;
mod seen;
mod trees;

use crate::coordinator::Service;
use crate::messages::{Asked, ReplyTo, Request, Task, VnodeAnswer};
use crate::node_core::NodeCore;
use crate::post::{Postbox, Posted};
use crate::randomness::Randomness;
use crate::service_core::ServiceCore;
use crate::storage::Committed;
use crate::vnode_master::{MasterMessage, VnodeMaster};
use actix::{Actor, ActorContext, AsyncContext, Context, Handler};
use bytes::Bytes;
use ringwork_core::clock::hybrid::{HybridTime, Stamp};
use ringwork_core::ids::{ActorId, Dot, Partition};
use ringwork_core::keyspace::{KeyspaceHost, Sealed, Sequence};
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::preflist::{Judgement, Role};
use ringwork_core::quorum::Refusal;
use ringwork_core::ring::KeyHash;
use ringwork_core::store::{StoreError, TreeSlot, Write};
use ringwork_core::vnode::{After, Host, Item, Merged, Outcome, Turn, TurnEffects, TurnPlace, Vnode, Work};
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

use handoff::Marks;
pub(crate) use handoff::{Fetched, HandoffTask, Marking, Retire, encode_item};
pub(crate) use trees::{TreeTask, Trees};

/// Commands that a vnode may have scheduled for itself at one time: a module needs one or two.
const LATER_COMMANDS_MAX: usize = 64;

/// Who counts in this vnode's clocks, and how far it has counted. Kept in the node's keyspace and written in
/// the same batch as the turn that counted.
pub struct Incarnation {
    /// Where it is kept.
    pub slot: TreeSlot,
    /// Under which key.
    pub key: Bytes,
    /// Bound to one generation of the store.
    pub actor: ActorId,
    /// The last dot minted.
    pub counter: u64,
}

impl Incarnation {
    fn write(&self) -> Write {
        let value = [self.actor.0.to_be_bytes(), self.counter.to_be_bytes()].concat();
        Write { tree: self.slot, key: self.key.clone(), value: Some(value.into()) }
    }
}

/// A vnode that was opened, ready to become an actor.
pub struct Opened<V: Vnode> {
    /// The module's state machine.
    pub vnode: V,
    /// Its keyspace.
    pub host: KeyspaceHost,
    /// See [`Incarnation`].
    pub incarnation: Incarnation,
    /// Keys that a former life has marked as changed since they were sent; none when nothing is marked.
    pub marked: Option<Vec<Vec<u8>>>,
    /// Its trees of sums; none where they are not wanted.
    pub(crate) trees: Option<Trees>,
}

/// What waits while a vnode is held back.
enum Waiting<V: Vnode> {
    Request(Posted<Request<V>>),
    Continue(Continue<V>),
    Own(V::Command),
}

/// See the module's head.
pub struct VnodeActor<V: Vnode> {
    partition: Partition,
    service: Arc<ServiceCore<V>>,
    master: Postbox<VnodeMaster<V>>,
    me: Option<Postbox<VnodeActor<V>>>,
    state: Option<Opened<V>>,
    /// How far the storage thread has committed this keyspace's writes.
    committed: Arc<AtomicU64>,
    later_commands: usize,
    /// While the partition is about to be passed on, requests wait here: each keeps its permit, so there are never
    /// more than may be on their way.
    #[allow(clippy::box_collection)]
    // a deque of commands need not be Unpin, as an actor must; a box of it is
    held_back: Option<Box<VecDeque<Waiting<V>>>>,
    /// While the partition is being given to its heir.
    marks: Option<Marks>,
}

/// Is there nothing in it? If so, hold requests back until [`Thaw`], so that this stays true.
pub(crate) struct Freeze(pub(crate) oneshot::Sender<bool>);

/// Go on with requests.
pub(crate) struct Thaw;

/// Stop in peace, after everything that was posted before.
pub(crate) struct Stop(pub(crate) oneshot::Sender<()>);

/// A command that the vnode's own offloaded work asks for.
struct Continue<V: Vnode> {
    command: V::Command,
    reply: ReplyTo<V>,
    sync: bool,
    reads: Option<Complete>,
}

/// Whether the replica that a read ran at is complete; none for what is no read.
#[derive(Clone, Copy)]
struct Complete(bool);

/// A turn whose answer is worked out on the pool.
struct Offloaded<V: Vnode> {
    work: Work<V>,
    touched: Vec<V::Item>,
    reply: ReplyTo<V>,
    sync: bool,
    reads: Option<Complete>,
}

struct TurnHost<'a> {
    node: &'a NodeCore,
    incarnation: &'a mut Incarnation,
    minted: bool,
}

impl Host for TurnHost<'_> {
    fn stamp_above(&mut self, above: HybridTime) -> Stamp {
        self.node.stamp_above(above)
    }

    fn dot(&mut self) -> Dot {
        self.minted = true;
        self.incarnation.counter += 1;
        Dot { actor: self.incarnation.actor, counter: self.incarnation.counter }
    }

    fn renew_actor(&mut self) -> bool {
        let Ok(actor) = random_actor(&self.node.randomness) else { return false };
        tracing::warn!(
            was = ?self.incarnation.actor,
            is = ?actor,
            "a vnode has counted less than others have seen of it: its store has gone back in time; it counts as a \
             new actor"
        );
        (self.incarnation.actor, self.incarnation.counter, self.minted) = (actor, 0, true);
        true
    }
}

/// A name for a vnode that counts: nobody has it, and nobody will.
pub(crate) fn random_actor(randomness: &Randomness) -> std::io::Result<ActorId> {
    randomness.bytes().map(|bytes| ActorId(u64::from_be_bytes(bytes)))
}

/// A turn that ended well.
struct Ended<T, V: Vnode> {
    value: T,
    effects: TurnEffects<V>,
    sealed: Sealed,
}

/// Why a turn left nothing behind.
enum TurnFailure {
    Module(String),
    Panic(String),
}

impl<V: Vnode> VnodeActor<V> {
    /// An actor for an opened vnode.
    pub(crate) fn new(
        partition: Partition,
        service: Arc<ServiceCore<V>>,
        master: Postbox<VnodeMaster<V>>,
        mut opened: Opened<V>,
    ) -> Self {
        let marks = opened.marked.take().map(|keys| Marks::found(&service.node, V::SERVICE, partition, keys));
        Self {
            partition,
            service,
            master,
            me: None,
            state: Some(opened),
            committed: Arc::default(),
            later_commands: 0,
            held_back: None,
            marks,
        }
    }

    /// Tells the actor its own address; done by the master before anything else is posted.
    pub(crate) fn set_postbox(&mut self, me: Postbox<VnodeActor<V>>) {
        self.me = Some(me);
    }

    fn turn<T>(
        &mut self,
        body: impl FnOnce(&mut V, &mut Turn<'_, V>) -> Result<T, V::Error>,
    ) -> Result<Ended<T, V>, TurnFailure> {
        let node = self.service.node.clone();
        let Some(state) = &mut self.state else {
            return Err(TurnFailure::Module("the vnode has ended".into()));
        };
        state.host.committed(Sequence(self.committed.load(Ordering::Acquire)));
        let place = TurnPlace {
            now_ms: node.clock.wall_ms(),
            partition: self.partition,
            ring_size: node.ring.load().size(),
        };
        let counted_before = (state.incarnation.actor, state.incarnation.counter);
        let mut host = TurnHost { node: &node, incarnation: &mut state.incarnation, minted: false };
        let vnode = &mut state.vnode;
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut turn = Turn::new(&mut host, place);
            let value = body(vnode, &mut turn);
            (value, turn.finish())
        }));
        let minted = host.minted;
        match result {
            Ok((Ok(value), effects)) => {
                let mut sealed = state.host.seal();
                if minted {
                    sealed.writes.push(state.incarnation.write());
                }
                self.take_changes(std::mem::take(&mut sealed.changes));
                Ok(Ended { value, effects, sealed })
            }
            Ok((Err(error), _)) => {
                state.host.discard();
                (state.incarnation.actor, state.incarnation.counter) = counted_before;
                node.telemetry.vnode_errors.increment();
                tracing::warn!(service = V::SERVICE, partition = self.partition.0, %error, "a turn failed");
                Err(TurnFailure::Module(error.to_string()))
            }
            Err(payload) => {
                state.host.discard();
                Err(TurnFailure::Panic(panic_text(&*payload)))
            }
        }
    }

    /// Hands over what a turn wrote, and runs `then` once that is committed, together with whatever the turn
    /// read of writes that were still under way.
    fn after_commit(
        &self,
        sealed: Sealed,
        sync: bool,
        then: impl FnOnce(Result<Committed, StoreError>) + Send + 'static,
    ) {
        let written = sealed.sequence;
        if sealed.writes.is_empty() && !sync && sealed.wait_for.0 <= self.committed.load(Ordering::Acquire) {
            return then(Ok(Committed { durable: false }));
        }
        let committed = self.committed.clone();
        self.service.node.storage.submit(sealed.writes, sync, move |result| {
            if result.is_ok() && written.0 > 0 {
                committed.store(written.0, Ordering::Release);
            }
            then(result);
        });
    }

    fn handle_request(&mut self, request: Request<V>, ctx: &mut Context<Self>) {
        let Request { asked, task, mut reply, deadline, sync } = request;
        reply.begin();
        let node = &self.service.node;
        if node.clock.moment() > deadline {
            node.telemetry.requests_expired.increment();
            return reply.answer(VnodeAnswer::Refused(Refusal::Expired));
        }
        if !task.only_reads() && !node.storage.has_room() {
            node.telemetry.requests_overloaded.increment();
            let refusal = if node.is_stopping() { Refusal::Stopping } else { Refusal::Overloaded };
            return reply.answer(VnodeAnswer::Refused(refusal));
        }
        let complete = match self.judge(asked, task.only_reads()) {
            Ok(complete) => complete,
            Err(answer) => return reply.answer(answer),
        };
        match task {
            Task::Merge(item) => self.merge(item, reply, sync, ctx),
            Task::MergeMany(items) => self.merge_many(items, reply, sync, ctx),
            Task::Read(command) => self.run(command, reply, false, Some(Complete(complete)), ctx),
            Task::Run(command) => self.run(command, reply, sync, None, ctx),
            Task::Page(ask) => self.show_page(ask, reply, deadline),
        }
    }

    /// Whether this vnode is to do what it is asked, and whether it is complete; or what to answer instead.
    fn judge(&self, asked: Asked, reads: bool) -> Result<bool, VnodeAnswer<V>> {
        let node = &self.service.node;
        let look = || {
            let view = node.ring.load();
            let judged = view.judge(V::SERVICE, self.partition, asked.role, asked.possession);
            let holder = view.possession(self.partition).map(|possession| possession.holder);
            (judged, holder, view.doubts())
        };
        if asked.role == Role::Stray && !reads {
            let why = "a node that only may have something of the partition is asked to read, not to write";
            return Err(VnodeAnswer::Refused(Refusal::Unavailable(why.to_owned())));
        }
        node.learn(self.partition, asked.possession);
        let (mut judged, holder, doubts) = look();
        if asked.role == Role::Fallback && !reads && holder != Some(node.id) {
            // Marked before it is written, and looked at again after: a member that asks what is held here for it has
            // been seen as up before it is answered, so either it is told, or this is refused.
            node.note_stray(self.partition);
            judged = look().0;
        }
        match judged {
            Judgement::Moved(possession) => {
                node.telemetry.requests_moved.increment();
                Err(VnodeAnswer::Moved(possession))
            }
            Judgement::Serve { complete } => {
                let certain = doubts == node.doubts.load(Ordering::SeqCst);
                let complete = complete && certain && !node.leaving.load(Ordering::SeqCst);
                if asked.complete_only && !complete {
                    return Err(VnodeAnswer::Refused(Refusal::Incomplete));
                }
                Ok(complete)
            }
        }
    }

    fn merge(&mut self, item: V::Item, reply: ReplyTo<V>, sync: bool, ctx: &mut Context<Self>) {
        let heard = self.service.watchers.interested_in(&item);
        let key = self.marks.is_some().then(|| item.key());
        match self.turn(|vnode, _| vnode.merge(item)) {
            Ok(mut ended) => {
                let merged = ended.value;
                if matches!(merged, Merged::Changed | Merged::Conflicting) {
                    self.mark(key, &mut ended.sealed.writes);
                }
                if merged == Merged::Conflicting {
                    self.service.node.telemetry.merge_conflicts.increment();
                }
                let tell = heard.filter(|_| merged == Merged::Changed);
                let watchers = self.service.watchers.clone();
                if planted(Mutant::AcknowledgeBeforeCommit) {
                    reply.answer(VnodeAnswer::Merged { merged, durable: false });
                    return self.after_commit(ended.sealed, sync, |_| {});
                }
                self.after_commit(ended.sealed, sync, move |result| match result {
                    Ok(Committed { durable }) => {
                        reply.answer(VnodeAnswer::Merged { merged, durable });
                        if let Some((hash, item)) = tell {
                            watchers.tell(&hash, &item);
                        }
                    }
                    Err(error) => reply.answer(VnodeAnswer::Failed(error.to_string())),
                });
            }
            Err(failure) => self.fail(failure, reply, ctx),
        }
    }

    fn run(
        &mut self,
        command: V::Command,
        reply: ReplyTo<V>,
        sync: bool,
        reads: Option<Complete>,
        ctx: &mut Context<Self>,
    ) {
        match self.turn(|vnode, turn| vnode.handle_command(command, turn)) {
            Ok(ended) => self.conclude(ended, reply, sync, reads, ctx),
            Err(failure) => self.fail(failure, reply, ctx),
        }
    }

    fn go_on(&mut self, next: Continue<V>, ctx: &mut Context<Self>) {
        let Continue { command, reply, sync, reads } = next;
        self.run(command, reply, sync, reads, ctx);
    }

    /// A command the vnode gave itself, at once or after a while.
    fn run_own(&mut self, command: V::Command, ctx: &mut Context<Self>) {
        match &mut self.held_back {
            Some(waiting) => waiting.push_back(Waiting::Own(command)),
            None => self.run(command, ReplyTo::nobody(), false, None, ctx),
        }
    }

    fn conclude(
        &mut self,
        ended: Ended<Outcome<V>, V>,
        reply: ReplyTo<V>,
        sync: bool,
        reads: Option<Complete>,
        ctx: &mut Context<Self>,
    ) {
        let Ended { value, effects, mut sealed } = ended;
        self.schedule(effects.later, ctx);
        let touched = effects.touched;
        if self.marks.is_some() {
            self.mark(touched.iter().map(Item::key), &mut sealed.writes);
        }
        match value {
            Outcome::Reply(answer) => {
                // With nobody to send the items on for it, the vnode itself sees to its replicas.
                let own = if reply.is_nobody() { touched.clone() } else { Vec::new() };
                let service = self.service.clone();
                self.tell_watchers_and(sealed, sync, touched, move |result, touched| match result {
                    Ok(Committed { durable }) => {
                        reply.answer(match reads {
                            Some(Complete(complete)) => VnodeAnswer::Reply { reply: answer, complete },
                            None => VnodeAnswer::Ran { reply: answer, touched, durable },
                        });
                        Service::new(service).replicate(own);
                    }
                    Err(error) => reply.answer(VnodeAnswer::Failed(error.to_string())),
                });
            }
            Outcome::Nothing => {
                let service = self.service.clone();
                self.tell_watchers_and(sealed, sync, touched, move |result, touched| {
                    if result.is_ok() {
                        Service::new(service).replicate(touched);
                    }
                    drop(reply);
                });
            }
            Outcome::Offload(work) => self.offload(Offloaded { work, touched, reply, sync, reads }, sealed),
        }
    }

    fn tell_watchers_and(
        &self,
        sealed: Sealed,
        sync: bool,
        touched: Vec<V::Item>,
        then: impl FnOnce(Result<Committed, StoreError>, Vec<V::Item>) + Send + 'static,
    ) {
        let watchers = self.service.watchers.clone();
        self.after_commit(sealed, sync, move |result| {
            if result.is_ok() && watchers.any() {
                for item in &touched {
                    watchers.tell(&KeyHash::of(V::SERVICE, item.routing_key()), item);
                }
            }
            then(result, touched);
        });
    }

    fn schedule(&mut self, later: Vec<(Duration, V::Command)>, ctx: &mut Context<Self>) {
        for (delay, command) in later {
            if self.later_commands >= LATER_COMMANDS_MAX {
                tracing::error!(
                    service = V::SERVICE,
                    partition = self.partition.0,
                    "the module schedules more than {LATER_COMMANDS_MAX} commands at once; one was dropped"
                );
                continue;
            }
            self.later_commands += 1;
            ctx.run_later(delay, move |actor, ctx| {
                actor.later_commands -= 1;
                actor.run_own(command, ctx);
            });
        }
    }

    fn offload(&mut self, offloaded: Offloaded<V>, sealed: Sealed) {
        let Offloaded { work, touched, reply, sync, reads } = offloaded;
        let (Some(state), Some(me)) = (&self.state, self.me.clone()) else { return };
        let service = self.service.clone();
        let snapshot = state.host.snapshot();
        let spawner = self.service.node.spawner.clone();
        let telemetry = self.service.node.telemetry.clone();
        self.tell_watchers_and(sealed, sync, touched, move |result, touched| {
            if let Err(error) = result {
                return reply.answer(VnodeAnswer::Failed(error.to_string()));
            }
            Service::new(service).replicate(touched);
            let holder = Arc::new(std::sync::Mutex::new(Some(reply)));
            let inner = holder.clone();
            let queued = spawner.on_pool(move || {
                let Some(reply) = take(&inner) else { return };
                match catch_unwind(AssertUnwindSafe(|| work(&snapshot))) {
                    Ok(Ok(After::Reply(answer))) => reply.answer(match reads {
                        Some(Complete(complete)) => VnodeAnswer::Reply { reply: answer, complete },
                        None => VnodeAnswer::Ran { reply: answer, touched: Vec::new(), durable: false },
                    }),
                    Ok(Ok(After::Command(command))) => {
                        me.post_control(Continue { command, reply, sync, reads });
                    }
                    Ok(Err(error)) => {
                        reply.answer(VnodeAnswer::Refused(Refusal::Unavailable(error.to_string())));
                    }
                    Err(payload) => {
                        telemetry.vnode_panics.increment();
                        let text = panic_text(&*payload);
                        tracing::error!(
                            service = V::SERVICE,
                            panic = text,
                            "work of a vnode panicked on the pool"
                        );
                        reply.answer(VnodeAnswer::Refused(Refusal::Unavailable(text)));
                    }
                }
            });
            if queued.is_err()
                && let Some(reply) = take(&holder)
            {
                reply.answer(VnodeAnswer::Refused(Refusal::Overloaded));
            }
        });
    }

    fn fail(&mut self, failure: TurnFailure, reply: ReplyTo<V>, ctx: &mut Context<Self>) {
        match failure {
            TurnFailure::Module(text) => reply.answer(VnodeAnswer::Refused(Refusal::Unavailable(text))),
            TurnFailure::Panic(text) => {
                self.service.node.telemetry.vnode_panics.increment();
                tracing::error!(
                    service = V::SERVICE,
                    partition = self.partition.0,
                    panic = text,
                    "a vnode panicked; it is started again from its store when it is next asked"
                );
                self.state = None;
                self.show_standing();
                // In this order: who finds the route gone must find the master knowing why.
                self.master.post_control(MasterMessage::Panicked(self.partition));
                self.service.routes.forget(self.partition);
                // The turn's writes were dropped with it: nothing was done.
                reply.answer(VnodeAnswer::Refused(Refusal::Unavailable(format!(
                    "the vnode panicked: {text}"
                ))));
                ctx.stop();
            }
        }
    }
}

fn take<T>(slot: &std::sync::Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}

impl<V: Vnode> Actor for VnodeActor<V> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.show_standing();
        match self.turn(|vnode, turn| vnode.started(turn).map(|()| Outcome::Nothing)) {
            Ok(ended) => self.conclude(ended, ReplyTo::nobody(), false, None, ctx),
            Err(failure) => self.fail(failure, ReplyTo::nobody(), ctx),
        }
    }
}

impl<V: Vnode> Handler<Posted<Request<V>>> for VnodeActor<V> {
    type Result = ();

    fn handle(&mut self, posted: Posted<Request<V>>, ctx: &mut Self::Context) {
        match &mut self.held_back {
            Some(waiting) => waiting.push_back(Waiting::Request(posted)),
            None => self.handle_request(posted.message, ctx),
        }
    }
}

impl<V: Vnode> Handler<Posted<Freeze>> for VnodeActor<V> {
    type Result = ();

    fn handle(&mut self, posted: Posted<Freeze>, _: &mut Self::Context) {
        let empty = matches!(self.turn(|vnode, _| vnode.is_empty()), Ok(Ended { value: true, .. }));
        if empty {
            self.held_back.get_or_insert_default();
        }
        let _ = posted.message.0.send(empty);
    }
}

impl<V: Vnode> Handler<Posted<Thaw>> for VnodeActor<V> {
    type Result = ();

    fn handle(&mut self, _: Posted<Thaw>, ctx: &mut Self::Context) {
        for waiting in *self.held_back.take().unwrap_or_default() {
            match waiting {
                Waiting::Request(posted) => self.handle_request(posted.message, ctx),
                Waiting::Continue(next) => self.go_on(next, ctx),
                Waiting::Own(command) => self.run_own(command, ctx),
            }
        }
    }
}

impl<V: Vnode> Handler<Posted<Continue<V>>> for VnodeActor<V> {
    type Result = ();

    fn handle(&mut self, posted: Posted<Continue<V>>, ctx: &mut Self::Context) {
        match &mut self.held_back {
            Some(waiting) => waiting.push_back(Waiting::Continue(posted.message)),
            None => self.go_on(posted.message, ctx),
        }
    }
}

impl<V: Vnode> Handler<Posted<Stop>> for VnodeActor<V> {
    type Result = ();

    fn handle(&mut self, posted: Posted<Stop>, ctx: &mut Self::Context) {
        self.keep_trees();
        if let Some(mut state) = self.state.take() {
            let ended = catch_unwind(AssertUnwindSafe(|| state.vnode.terminate()));
            if ended.is_err() {
                self.service.node.telemetry.vnode_panics.increment();
            }
        }
        let _ = posted.message.0.send(());
        ctx.stop();
    }
}
