//! The vnode master of one service: who lives. It starts a vnode when it is first asked for, starts it again
//! from its store after a panic (the first time at once, then with growing pauses), stops all of them in
//! peace, and publishes the routing table from which requests find a vnode's address. It is on no data path:
//! a request reaches it only when no vnode runs yet, and then waits in here. What it does for transfers is in
//! `handoff`.

mod handoff;

use crate::handoff::sealed_read::with_sealed;
use crate::messages::{Request, VnodeAnswer};
use crate::node_core::NodeCore;
use crate::post::{Permits, Postbox, Posted};
use crate::service_core::ServiceCore;
use crate::time::Moment;
use crate::vnode::{Freeze, Incarnation, Opened, Stop, Thaw, Trees, VnodeActor, random_actor};
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use ringwork_core::ids::{ActorId, Partition};
use ringwork_core::keyspace::Keyspace;
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::quorum::Refusal;
use ringwork_core::store::{Direction, Flow, KeyRange, KeyspaceId, OpenTree, Store, StoreError, Write};
use ringwork_core::vnode::Vnode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Requests that may wait for one vnode to start.
const WAITING_REQUESTS_MAX: usize = 1024;
/// Pause before the second restart in a row; doubled from one to the next.
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause between restarts.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(10);
/// Between one vnode's start and the next where all are started without being asked: requests come first.
const EARLY_START_PAUSE: Duration = Duration::from_millis(5);
/// A vnode that has lived this long has recovered: its next panic counts as the first.
const RECOVERED_AFTER: Duration = Duration::from_secs(60);

/// The node keyspace's keys under which vnodes keep who they are.
const INCARNATION_PREFIX: &str = "incarnation.";

/// Under which key of the node's keyspace it is kept who counts in this one.
pub(crate) fn incarnation_key(keyspace: &KeyspaceId) -> Bytes {
    format!("{INCARNATION_PREFIX}{keyspace}").into()
}

/// Has every vnode take a new actor id when it is opened next: the store may have lost dots that others have seen.
/// Synced when it returns.
pub(crate) fn forget_incarnations(store: &dyn Store) -> Result<(), StoreError> {
    let own = store.open(&KeyspaceId::Node)?;
    let mut writes = Vec::new();
    let range = KeyRange::prefix(INCARNATION_PREFIX.as_bytes());
    own.tree.scan(&range, Direction::Ascending, &mut |key, _| {
        writes.push(Write { tree: own.slot, key: Bytes::copy_from_slice(key), value: None });
        Flow::Continue(())
    })?;
    if writes.is_empty() {
        return Ok(());
    }
    store.commit(&mut writes)?;
    store.sync()
}

/// Partition → address of the local vnode. Read without a lock by every request.
pub struct Routes<V: Vnode>(Vec<ArcSwapOption<Postbox<VnodeActor<V>>>>);

impl<V: Vnode> Routes<V> {
    /// A table for that many partitions, with nobody in it.
    pub fn new(partitions: usize) -> Self {
        Self((0..partitions).map(|_| ArcSwapOption::empty()).collect())
    }

    /// Calls `with` with the vnode's address, if it runs.
    pub fn find<T>(
        &self,
        partition: Partition,
        with: impl FnOnce(Option<&Postbox<VnodeActor<V>>>) -> T,
    ) -> T {
        match self.0.get(partition.0 as usize).map(ArcSwapOption::load) {
            // An actor whose thread has ended without a word is as good as none.
            Some(guard) => with(guard.as_deref().filter(|postbox| postbox.lives())),
            None => with(None),
        }
    }

    pub(crate) fn publish(&self, partition: Partition, postbox: Postbox<VnodeActor<V>>) {
        if let Some(slot) = self.0.get(partition.0 as usize) {
            slot.store(Some(Arc::new(postbox)));
        }
    }

    pub(crate) fn forget(&self, partition: Partition) {
        if let Some(slot) = self.0.get(partition.0 as usize) {
            slot.store(None);
        }
    }

    /// Vnodes that run, and requests on their way to them.
    pub fn census(&self) -> (usize, usize) {
        let running = self.0.iter().filter_map(|slot| slot.load_full());
        running.fold((0, 0), |(count, depth), postbox| (count + 1, depth + postbox.depth()))
    }
}

/// What a master is told.
pub enum MasterMessage<V: Vnode> {
    /// A request for a vnode that does not run: start it and pass the request on.
    Wanted(Partition, Request<V>),
    /// The vnode is ready; its address is in the routing table.
    Started(Partition),
    /// The vnode could not be opened.
    StartFailed(Partition, String),
    /// The vnode ended in a panic.
    Panicked(Partition),
    /// Start a vnode that nobody has asked for yet.
    Ensure(Partition),
    /// Which of these partitions have nothing in them? From these requests are held back until `Thaw`.
    Freeze(Vec<Partition>, oneshot::Sender<BTreeSet<Partition>>),
    /// Go on with the requests of these.
    Thaw(Vec<Partition>),
    /// Start a vnode if it does not run, and say whether it does.
    Run(Partition, oneshot::Sender<bool>),
    /// Hold back what comes for a partition until `Thaw`; answered with its dirty keys that are not read, or with none
    /// when it cannot be held back now.
    Hold(Partition, oneshot::Sender<Option<HeldBack>>),
    /// The partition, which is held back, has another generation now: what was held back goes to its next life.
    Reopen(Partition, oneshot::Sender<()>),
    /// Stop every vnode and say so when the last has ended.
    StopAll(oneshot::Sender<()>),
}

/// What a hold found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeldBack {
    /// Nothing is marked in it.
    Unmarked,
    /// So many keys are dirty and not read.
    Marked(usize),
}

enum Life<V: Vnode> {
    Starting {
        waiting: Vec<Request<V>>,
    },
    Running {
        since: Moment,
    },
    Resting {
        until: Moment,
        reason: String,
    },
    /// It does not run, and its partition is about to be passed on.
    Frozen {
        waiting: Vec<Request<V>>,
    },
}

/// See the module's head.
pub struct VnodeMaster<V: Vnode> {
    service: Arc<ServiceCore<V>>,
    me: Option<Postbox<VnodeMaster<V>>>,
    lives: BTreeMap<Partition, Life<V>>,
    /// Deaths in a row.
    deaths: BTreeMap<Partition, u32>,
    /// Who wants to know when a vnode runs.
    runners: BTreeMap<Partition, Vec<oneshot::Sender<bool>>>,
    stopping: bool,
}

impl<V: Vnode> VnodeMaster<V> {
    /// Starts the master of `service` on the calling thread.
    pub(crate) fn start(service: Arc<ServiceCore<V>>) -> Postbox<Self> {
        let permits = Permits::new(service.node.limits.master_in_flight_max);
        let (lives, deaths, runners) = Default::default();
        let master = Self { service, me: None, lives, deaths, runners, stopping: false };
        let mut postbox = None;
        let _ = Self::create(|ctx| {
            let mut master = master;
            let me = Postbox::new(ctx.address(), permits);
            master.me = Some(me.clone());
            postbox = Some(me);
            master
        });
        #[allow(clippy::expect_used)] // `create` has run the closure before it returns
        postbox.expect("the context gives an address")
    }

    fn wanted(&mut self, partition: Partition, request: Request<V>, ctx: &mut Context<Self>) {
        if self.stopping {
            return request.reply.answer(VnodeAnswer::Refused(Refusal::Stopping));
        }
        let now = self.service.node.clock.moment();
        match self.lives.get_mut(&partition) {
            Some(Life::Running { .. }) if self.service.routes.find(partition, |found| found.is_some()) => {
                return self.pass_on(partition, request);
            }
            Some(Life::Running { .. } | Life::Resting { .. }) if planted(Mutant::LeavePanickedVnode) => {
                return request.reply.answer(VnodeAnswer::Refused(Refusal::Overloaded));
            }
            Some(Life::Running { .. }) => {
                tracing::error!(
                    service = V::SERVICE,
                    partition = partition.0,
                    "a vnode has ended with its thread; it is started again on another"
                );
                self.service.node.telemetry.vnode_restarts.increment();
            }
            Some(Life::Starting { waiting } | Life::Frozen { waiting }) => {
                if waiting.len() < WAITING_REQUESTS_MAX {
                    waiting.push(request);
                } else {
                    request.reply.answer(VnodeAnswer::Refused(Refusal::Overloaded));
                }
                return;
            }
            Some(Life::Resting { until, reason }) if now < *until => {
                let pause = (*until - now).as_millis();
                let why = format!("{reason}; started again in {pause} ms");
                return request.reply.answer(VnodeAnswer::Refused(Refusal::Unavailable(why)));
            }
            Some(Life::Resting { .. }) => self.service.node.telemetry.vnode_restarts.increment(),
            None => {}
        }
        self.lives.insert(partition, Life::Starting { waiting: vec![request] });
        self.open(partition, ctx);
    }

    fn ensure(&mut self, partition: Partition, ctx: &mut Context<Self>) {
        if !self.stopping && !self.lives.contains_key(&partition) {
            self.lives.insert(partition, Life::Starting { waiting: Vec::new() });
            self.open(partition, ctx);
        }
    }

    fn pass_on(&self, partition: Partition, request: Request<V>) {
        self.service.routes.find(partition, |postbox| match postbox {
            Some(postbox) => {
                if let Err(full) = postbox.post(request) {
                    self.service.node.telemetry.requests_overloaded.increment();
                    full.0.reply.answer(VnodeAnswer::Refused(Refusal::Overloaded));
                }
            }
            // It died a moment ago; its master has not heard yet.
            None => {
                let why = "the vnode has just ended".to_owned();
                request.reply.answer(VnodeAnswer::Refused(Refusal::Unavailable(why)));
            }
        });
    }

    /// Opens the vnode on the worker pool and starts its actor on its shard.
    fn open(&self, partition: Partition, ctx: &mut Context<Self>) {
        let (service, Some(me)) = (self.service.clone(), self.me.clone()) else { return };
        let work = async move {
            if let Err(why) = open_and_start(service, partition, me.clone()).await {
                me.post_control(MasterMessage::StartFailed(partition, why));
            }
        };
        ctx.spawn(work.into_actor(self));
    }

    fn started(&mut self, partition: Partition) {
        self.service.node.telemetry.vnode_starts.increment();
        let since = self.service.node.clock.moment();
        let before = self.lives.insert(partition, Life::Running { since });
        tracing::debug!(service = V::SERVICE, partition = partition.0, "vnode started");
        self.service.node.resting.is_over(V::SERVICE, partition);
        self.tell_runners(partition, true);
        if let Some(Life::Starting { waiting }) = before {
            for request in waiting {
                // What it waited for may have been a change of generation: what is sealed now was not when it came.
                let request = with_sealed(&self.service, partition, request);
                self.pass_on(partition, request);
            }
        }
    }

    fn start_failed(&mut self, partition: Partition, reason: String, ctx: &mut Context<Self>) {
        self.service.node.telemetry.vnode_start_failures.increment();
        tracing::error!(
            service = V::SERVICE,
            partition = partition.0,
            reason,
            "a vnode could not be started"
        );
        self.tell_runners(partition, false);
        if let Some(Life::Starting { waiting }) = self.rest(partition, reason.clone(), ctx) {
            for request in waiting {
                request.reply.answer(VnodeAnswer::Refused(Refusal::Unavailable(reason.clone())));
            }
        }
    }

    /// Marks the vnode as dead, to be started again after a pause that grows with deaths in a row.
    fn rest(&mut self, partition: Partition, reason: String, ctx: &mut Context<Self>) -> Option<Life<V>> {
        let now = self.service.node.clock.moment();
        let deaths = self.deaths.entry(partition).or_default();
        if let Some(Life::Running { since }) = self.lives.get(&partition)
            && now.saturating_sub(*since) >= RECOVERED_AFTER
        {
            *deaths = 0;
        }
        let pause = restart_pause(*deaths);
        *deaths = deaths.saturating_add(1);
        // Not only when somebody asks for it: it may have work of its own.
        ctx.run_later(pause, move |master, ctx| master.wake(partition, ctx));
        self.service.node.resting.rests(V::SERVICE, partition, now + pause);
        self.lives.insert(partition, Life::Resting { until: now + pause, reason })
    }

    /// Starts a vnode again whose rest is over, if it still has something to do here.
    fn wake(&mut self, partition: Partition, ctx: &mut Context<Self>) {
        let node = self.service.node.clone();
        let now = node.clock.moment();
        let rested = matches!(self.lives.get(&partition), Some(Life::Resting { until, .. }) if now >= *until);
        let held = node.ring.load().state().holder(partition) == Some(node.id);
        if rested && held && !self.stopping && !planted(Mutant::LeavePanickedVnode) {
            node.telemetry.vnode_restarts.increment();
            self.lives.insert(partition, Life::Starting { waiting: Vec::new() });
            self.open(partition, ctx);
        } else if rested && !held {
            node.resting.is_over(V::SERVICE, partition);
        }
    }

    /// Finds out which of the partitions have nothing in them, and holds back what comes for these.
    fn freeze(
        &mut self,
        partitions: Vec<Partition>,
        done: oneshot::Sender<BTreeSet<Partition>>,
        ctx: &mut Context<Self>,
    ) {
        let (mut running, mut unopened) = (Vec::new(), Vec::new());
        for partition in partitions {
            match self.lives.get(&partition) {
                Some(Life::Running { .. }) => self.service.routes.find(partition, |postbox| {
                    if let Some(postbox) = postbox {
                        let (sender, receiver) = oneshot::channel();
                        postbox.post_control(Freeze(sender));
                        running.push((partition, receiver));
                    }
                }),
                None | Some(Life::Resting { .. }) => {
                    self.service.node.resting.is_over(V::SERVICE, partition);
                    self.lives.insert(partition, Life::Frozen { waiting: Vec::new() });
                    unopened.push(partition);
                }
                // Somebody wants it at this moment: another time.
                Some(Life::Starting { .. } | Life::Frozen { .. }) => {}
            }
        }
        let (node, of_pool) = (self.service.node.clone(), unopened.clone());
        let work = async move {
            let opener = node.clone();
            // What a former life of a vnode handed to the storage thread must be in the store before it is looked at.
            let of_pool = if node.storage.barrier(false).await.is_ok() { of_pool } else { Vec::new() };
            let looked = node.spawner.on_pool_for(move || unwritten(&opener, V::SERVICE, of_pool));
            let mut empty: BTreeSet<Partition> = looked.await.unwrap_or_default().into_iter().collect();
            for (partition, receiver) in running {
                if receiver.await == Ok(true) {
                    empty.insert(partition);
                }
            }
            empty
        };
        let told = work.into_actor(self).map(move |empty, master, ctx| {
            let full = unopened.into_iter().filter(|partition| !empty.contains(partition)).collect();
            master.thaw(full, ctx);
            let _ = done.send(empty);
        });
        ctx.spawn(told);
    }

    fn thaw(&mut self, partitions: Vec<Partition>, ctx: &mut Context<Self>) {
        for partition in partitions {
            match self.lives.remove(&partition) {
                Some(Life::Frozen { waiting }) => {
                    for request in waiting {
                        self.wanted(partition, request, ctx);
                    }
                }
                Some(life) => {
                    self.lives.insert(partition, life);
                    self.service.routes.find(partition, |postbox| {
                        if let Some(postbox) = postbox {
                            postbox.post_control(Thaw);
                        }
                    });
                }
                None => {}
            }
        }
    }

    fn stop_all(&mut self, done: oneshot::Sender<()>, ctx: &mut Context<Self>) {
        self.stopping = true;
        for (_, life) in std::mem::take(&mut self.lives) {
            if let Life::Starting { waiting } | Life::Frozen { waiting } = life {
                for request in waiting {
                    request.reply.answer(VnodeAnswer::Refused(Refusal::Stopping));
                }
            }
        }
        let mut ends = Vec::new();
        for partition in self.service.node.ring.load().size().partitions() {
            self.service.routes.find(partition, |postbox| {
                if let Some(postbox) = postbox {
                    let (sender, receiver) = oneshot::channel();
                    postbox.post_control(Stop(sender));
                    ends.push(receiver);
                }
            });
            self.service.routes.forget(partition);
        }
        let all = async move {
            for end in ends {
                let _ = end.await; // a vnode that died meanwhile has ended, too
            }
            let _ = done.send(());
        };
        ctx.spawn(all.into_actor(self));
    }
}

/// The pause before the restart that follows `deaths` earlier deaths in a row.
fn restart_pause(deaths: u32) -> Duration {
    match deaths {
        0 => Duration::ZERO,
        n => RESTART_PAUSE_MIN.saturating_mul(1 << (n - 1).min(16)).min(RESTART_PAUSE_MAX),
    }
}

async fn open_and_start<V: Vnode>(
    service: Arc<ServiceCore<V>>,
    partition: Partition,
    master: Postbox<VnodeMaster<V>>,
) -> Result<(), String> {
    // What a former life of this vnode handed to the storage thread must be in the store before it is read.
    service.node.storage.barrier(false).await.map_err(|e| e.to_string())?;
    let node = service.node.clone();
    let opener = service.clone();
    let opened = node
        .spawner
        .on_pool_for(move || open::<V>(&opener, partition))
        .await
        .map_err(|_| "the worker pool is full, or opening the vnode panicked".to_owned())??;
    let permits = Permits::new(node.limits.vnode_in_flight_max);
    let starter = move || {
        let (table, told) = (service.clone(), master.clone());
        VnodeActor::create(|ctx| {
            let mut actor = VnodeActor::new(partition, service, master, opened);
            let postbox = Postbox::new(ctx.address(), permits);
            actor.set_postbox(postbox.clone());
            table.routes.publish(partition, postbox);
            actor
        });
        told.post_control(MasterMessage::Started(partition));
    };
    if node.spawner.on_shard(partition.0 as usize, starter) {
        Ok(())
    } else {
        Err("no shard runs to place the vnode on".to_owned())
    }
}

/// Which of these partitions, whose vnodes do not run, were never written to. What cannot be looked at counts as
/// written.
fn unwritten(node: &NodeCore, service: &str, partitions: Vec<Partition>) -> Vec<Partition> {
    let Ok(known) = node.store.keyspaces() else { return Vec::new() };
    let known: BTreeSet<KeyspaceId> = known.into_iter().collect();
    let is_unwritten = |partition: &Partition| {
        let generation = node.generation_of(*partition);
        let keyspace = KeyspaceId::Vnode { service: service.to_owned(), partition: *partition, generation };
        !known.contains(&keyspace) || has_no_rows(node, &keyspace)
    };
    partitions.into_iter().filter(is_unwritten).collect()
}

/// Whether there is nothing in a keyspace that exists. What cannot be looked at counts as something.
pub(crate) fn has_no_rows(node: &NodeCore, keyspace: &KeyspaceId) -> bool {
    node.store.open(keyspace).is_ok_and(|opened| !has_rows(&opened))
}

/// Whether there is something in a keyspace. What cannot be looked at counts as something.
fn has_rows(opened: &OpenTree) -> bool {
    let mut found = false;
    let looked = opened.tree.scan(&KeyRange::all(), Direction::Ascending, &mut |_, _| {
        found = true;
        Flow::Break(())
    });
    looked.is_err() || found
}

fn open<V: Vnode>(service: &ServiceCore<V>, partition: Partition) -> Result<Opened<V>, String> {
    let node = &service.node;
    let generation = node.generation_of(partition);
    let keyspace = KeyspaceId::Vnode { service: V::SERVICE.to_owned(), partition, generation };
    let text = |e: StoreError| e.to_string();
    let own = node.store.open(&KeyspaceId::Node).map_err(text)?;
    let opened = node.store.open(&keyspace).map_err(text)?;
    let key = incarnation_key(&keyspace);
    let kept = own.tree.get(&key).map_err(text)?.filter(|_| planted(Mutant::ReuseActor) || has_rows(&opened));
    let (actor, counter) = match kept.as_deref().map(<[u8; 16]>::try_from) {
        Some(Ok(bytes)) => {
            let (actor, counter) = bytes.split_at(8);
            let number = |half: &[u8]| u64::from_be_bytes(half.try_into().unwrap_or_default());
            (ActorId(number(actor)), number(counter))
        }
        // Unreadable counts as lost, and so does one whose rows are gone: a new actor can never claim another's dots.
        Some(Err(_)) | None => {
            let actor = random_actor(&node.randomness).map_err(|e| format!("no randomness: {e}"))?;
            (actor, 0)
        }
    };
    let (handle, host) = Keyspace::new(opened.clone());
    let trees = Trees::open::<V>(node, partition, &keyspace, &own, (&opened, &host)).map_err(text)?;
    let vnode = V::init(partition, &service.config, handle).map_err(|e| e.to_string())?;
    let held = node.generations.held(partition);
    let marked = match held.filter(|held| held.outbound.is_some()) {
        Some(_) => Some(node.generations.marks(V::SERVICE, partition).map_err(text)?),
        None => None,
    };
    let incarnation = Incarnation { slot: own.slot, key, actor, counter };
    Ok(Opened { vnode, host, incarnation, marked, trees })
}

impl<V: Vnode> Actor for VnodeMaster<V> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (Some(me), true) = (self.me.clone(), V::starts_early(&self.service.config)) else { return };
        let node = self.service.node.clone();
        let one_by_one = async move {
            while !node.spawner.complete() && !node.is_stopping() {
                tokio::time::sleep(EARLY_START_PAUSE).await;
            }
            let owned: Vec<Partition> = node.ring.load().state().held_by(node.id).collect();
            for partition in owned {
                me.post_control(MasterMessage::Ensure(partition));
                tokio::time::sleep(EARLY_START_PAUSE).await;
            }
        };
        ctx.spawn(one_by_one.into_actor(self));
    }
}

impl<V: Vnode> Handler<Posted<MasterMessage<V>>> for VnodeMaster<V> {
    type Result = ();

    fn handle(&mut self, posted: Posted<MasterMessage<V>>, ctx: &mut Self::Context) {
        match posted.message {
            MasterMessage::Wanted(partition, request) => self.wanted(partition, request, ctx),
            MasterMessage::Ensure(partition) => self.ensure(partition, ctx),
            MasterMessage::Started(partition) => self.started(partition),
            MasterMessage::StartFailed(partition, reason) => self.start_failed(partition, reason, ctx),
            // Held back meanwhile: whoever holds it lets it go on, or begins its next life.
            MasterMessage::Panicked(partition)
                if matches!(self.lives.get(&partition), Some(Life::Frozen { .. })) =>
            {
                *self.deaths.entry(partition).or_default() += 1;
            }
            MasterMessage::Panicked(partition) => {
                self.rest(partition, "the vnode panicked".to_owned(), ctx);
            }
            MasterMessage::Freeze(partitions, done) => self.freeze(partitions, done, ctx),
            MasterMessage::Thaw(partitions) => self.thaw(partitions, ctx),
            MasterMessage::Run(partition, done) => self.run(partition, done, ctx),
            MasterMessage::Hold(partition, done) => self.hold(partition, done, ctx),
            MasterMessage::Reopen(partition, done) => self.reopen(partition, done, ctx),
            MasterMessage::StopAll(done) => self.stop_all(done, ctx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_pauses_grow_to_their_bound() {
        assert_eq!(restart_pause(0), Duration::ZERO);
        assert_eq!(restart_pause(1), RESTART_PAUSE_MIN);
        assert_eq!(restart_pause(3), RESTART_PAUSE_MIN * 4);
        assert_eq!(restart_pause(u32::MAX), RESTART_PAUSE_MAX);
    }
}
