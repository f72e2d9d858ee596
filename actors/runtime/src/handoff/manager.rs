//! The handoff manager: one for a node, on its control thread. It knows which transfers run, asks core's [`Schedule`]
//! which are to begin and to end whenever something has changed that may matter, judges what other nodes offer, and
//! takes hints in that belong here now. How a transfer goes, its sender and receiver know; the rules are core's.

use super::board::WaitingLine;
use super::generations::Generations;
use super::sender::{HandoffSender, Happened, forget};
use super::service::{Filter, HandoffService, ScanRange, Services, sealed_snapshot};
use super::switch;
use crate::net::{Network, Responder, TransferStream};
use crate::node_core::NodeCore;
use crate::post::{Permits, Postbox, Posted};
use crate::ring_manager::{RingManager, RingMessage};
use crate::time::Clock;
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use ringwork_core::gossip::detector::Availability;
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::limits::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX};
use ringwork_core::membership::ClusterState;
use ringwork_core::transfer::schedule::{Repair, Running, Start};
use ringwork_core::transfer::{
    Amount, GenerationId, Kind, Outcome, RepairAnswer, Repairs, Schedule, SendingEvent, SendingPlan,
    SessionId, Surroundings,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

mod offers;
mod repair;

use offers::Coming;
pub(crate) use offers::Offered;

/// How long a read or a write of a transfer's connection may take: longer than either end waits for the other before it
/// gives the transfer up.
pub(super) const SILENT_AT_MOST: Duration = Duration::from_secs(120);
/// How often a transfer is told that a large batch moves, which is some hundred parts.
const MOVING_EVERY: Duration = Duration::from_secs(1);

/// Calls `tell` when it is called itself, but not again before [`MOVING_EVERY`] has passed.
pub(super) fn now_and_then(clock: Clock, tell: impl Fn()) -> impl FnMut() {
    let mut told = None;
    move || {
        let now = clock.moment();
        if told.is_none_or(|told| now >= told + MOVING_EVERY) {
            told = Some(now);
            tell();
        }
    }
}

/// Messages that may be on their way to the manager.
const IN_FLIGHT_MAX: usize = 4096;
/// The pause after hints could not be taken in.
const ABSORB_PAUSE: Duration = Duration::from_secs(1);
/// How often it looks without being told to: what no message announces (a limit, a vnode that was busy) is not to
/// wait for ever.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What all transfers of a node share.
pub(crate) struct HandoffContext {
    pub(crate) node: Arc<NodeCore>,
    pub(crate) services: Services,
    pub(crate) ring_manager: Postbox<RingManager>,
    pub(crate) network: Network,
}

impl HandoffContext {
    /// The service of that place in a plan.
    pub(crate) fn service(&self, plan: &SendingPlan, stream: u8) -> Option<&Arc<dyn HandoffService>> {
        self.by_name(plan.services.get(usize::from(stream))?)
    }

    /// The service of that name.
    pub(crate) fn by_name(&self, name: &str) -> Option<&Arc<dyn HandoffService>> {
        self.services.iter().find(|service| service.name() == name)
    }

    /// How much there is in a generation, about.
    pub(crate) fn estimate(&self, partition: Partition, generation: GenerationId) -> Amount {
        let mut amount = Amount::default();
        for service in self.services.iter() {
            if let Ok(Some(opened)) = self.node.generations.open(service.name(), partition, generation.number)
            {
                let (items, bytes) = opened.tree.estimate();
                amount.add(Amount { items, bytes });
            }
        }
        amount
    }
}

/// What the manager is told.
pub(crate) enum ManagerMessage {
    /// Something has changed that may matter: state, who is up, what lies here, a setting.
    Look,
    /// These partitions, which are to be passed on, have something in them.
    Filled(BTreeSet<Partition>),
    /// A node has dialled, to offer a transfer.
    Connected(NodeId, TransferStream),
    /// And offers this.
    Offered(Box<Offered>),
    /// A transfer out of this node has ended.
    Sent(SessionId, Outcome),
    /// A transfer into this node has ended; with the repaired partition and the source when it was a repair and all
    /// of it has come.
    ReceiverEnded(SessionId, Option<(Partition, Partition)>),
    /// A member asks for repairs of its partitions from those of this node: partition and source of each.
    RepairWanted(NodeId, Vec<(Partition, Partition)>, Responder),
    /// What a member has said to such questions, in their order.
    RepairAnswered(Vec<(Partition, Partition)>, Vec<RepairAnswer>),
}

struct Out {
    postbox: Postbox<HandoffSender>,
    kind: Kind,
    partition: Partition,
    to: NodeId,
    revocable: Arc<AtomicBool>,
}

/// See the module's head.
pub(crate) struct HandoffManager {
    context: Arc<HandoffContext>,
    me: Option<Postbox<Self>>,
    schedule: Schedule,
    out: BTreeMap<SessionId, Out>,
    /// In the order in which they began.
    order: Vec<SessionId>,
    coming: BTreeMap<SessionId, Coming>,
    filled: BTreeSet<Partition>,
    /// Repairs that others have asked for, and those that this node asks for.
    repairs: BTreeSet<Repair>,
    wanted: Repairs,
    /// Repaired, and the state does not say so yet.
    whole: BTreeSet<Partition>,
    /// What is being merged from one partition here into another.
    merging: BTreeSet<(Partition, Partition)>,
    sessions: u64,
    /// Whose hints are being taken in, and whose are not to be tried before this time.
    absorbing: BTreeSet<Partition>,
    absorb_after_ms: BTreeMap<Partition, u64>,
    /// Of which something was dropped, so that there may be nothing left; and such as are being looked at.
    emptied: BTreeSet<Partition>,
    clearing: BTreeSet<Partition>,
    /// Offers that wait for the end of what crosses them.
    crossed: Vec<Offered>,
    /// What was last seen of the state and of who is up; the stamp of a large state takes milliseconds.
    seen_state: Option<Arc<ClusterState>>,
    seen: u64,
    up: BTreeSet<NodeId>,
    alarm: Option<SpawnHandle>,
}

impl HandoffManager {
    /// Starts on the calling thread.
    pub(crate) fn start(context: Arc<HandoffContext>) -> Postbox<Self> {
        let mut postbox = None;
        let _ = Self::create(|ctx| {
            let me = Postbox::new(ctx.address(), Permits::new(IN_FLIGHT_MAX));
            postbox = Some(me.clone());
            Self {
                context,
                me: Some(me),
                schedule: Schedule::default(),
                out: BTreeMap::new(),
                order: Vec::new(),
                coming: BTreeMap::new(),
                filled: BTreeSet::new(),
                repairs: BTreeSet::new(),
                wanted: Repairs::default(),
                whole: BTreeSet::new(),
                merging: BTreeSet::new(),
                sessions: 0,
                absorbing: BTreeSet::new(),
                absorb_after_ms: BTreeMap::new(),
                emptied: BTreeSet::new(),
                clearing: BTreeSet::new(),
                crossed: Vec::new(),
                seen_state: None,
                seen: 0,
                up: BTreeSet::new(),
                alarm: None,
            }
        });
        #[allow(clippy::expect_used)] // `create` has run the closure before it returns
        postbox.expect("the context gives an address")
    }

    fn now_ms(&self) -> u64 {
        self.context.node.clock.moment().as_millis() as u64
    }

    fn generations(&self) -> &Arc<Generations> {
        &self.context.node.generations
    }

    /// Partitions of which there is something here that is neither lived in by a holder nor collected by an heir.
    fn hints(&self, state: &ClusterState) -> BTreeSet<Partition> {
        let node = &self.context.node;
        let mut hints = self.generations().with_sealed();
        // Of which everything has just been sent is first looked at, whether anything is left.
        let may_be_left = |p: &Partition| state.holder(*p) != Some(node.id) && !self.emptied.contains(p);
        hints.extend(node.strays.marked().into_iter().filter(may_be_left));
        hints
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if let Some(alarm) = self.alarm.take() {
            ctx.cancel_future(alarm);
        }
        let node = self.context.node.clone();
        if node.is_outside() {
            return;
        }
        let now_ms = self.now_ms();
        let view = node.ring.load_full();
        let state = view.state().clone();
        let up: BTreeSet<NodeId> = state
            .members()
            .map(|(member, _)| member)
            .filter(|member| *member != node.id && view.availability(*member) == Availability::Up)
            .collect();
        if !self.seen_state.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &state)) {
            let stamp = state.stamp();
            if stamp != self.seen {
                self.seen = stamp;
                self.schedule.state_changed();
            }
            self.seen_state = Some(state.clone());
        }
        for back in up.difference(&self.up) {
            self.schedule.peer_ready(*back);
        }
        self.settle_inbound(&state);
        let hints = self.hints(&state);
        self.filled.retain(|partition| state.holder(*partition) == Some(node.id));
        let mut filled = self.filled.clone();
        let outbound = self.generations().outbound();
        // What has begun to be sent had something in it, and may have been emptied since: it is ended in peace.
        filled.extend(outbound.keys().copied());
        let lacking = self.want_repairs(now_ms, &state, &up, ctx);
        // What lacks something is repaired before it moves.
        filled
            .retain(|partition| state.bequest(node.id, *partition).is_some() && !lacking.contains(partition));
        self.repairs.retain(|repair| {
            state.holder(repair.partition) == Some(repair.to) && state.holder(repair.source) == Some(node.id)
        });
        // What is still to come to it, or to be merged into it, would be missing. One that is lost sends what it has.
        let unmerged = &**node.in_doubt.load() | &self.generations().with_sealed();
        let repairs =
            self.repairs.iter().filter(|repair| !unmerged.contains(&repair.source)).copied().collect();
        let running: Vec<Running> = self
            .order
            .iter()
            .filter_map(|session| {
                let out = self.out.get(session)?;
                let (kind, partition, to) = (out.kind, out.partition, out.to);
                let revocable = out.revocable.load(Ordering::SeqCst);
                Some(Running { session: *session, kind, partition, to, revocable })
            })
            .collect();
        let around = Surroundings {
            me: node.id,
            state: &state,
            up: &up,
            hints: &hints,
            filled: &filled,
            outbound: &outbound,
            repairs: &repairs,
            running: &running,
            limit: node.handoff.limit(),
            paused: node.handoff.paused() || node.is_stopping(),
        };
        let decisions = self.schedule.decide(now_ms, &around);
        self.show_waiting(&hints, &filled, &state, &decisions.start);
        self.up = up;
        for (session, reason) in decisions.cancel {
            if let Some(out) = self.out.get(&session) {
                out.postbox.post_control(Happened(SendingEvent::Cancel(reason)));
            }
        }
        for partition in decisions.forget {
            forget(&self.context, partition);
        }
        for partition in decisions.absorb {
            self.absorb(partition, now_ms, ctx);
        }
        for start in decisions.start {
            self.begin(start, &state);
        }
        self.clear_strays(&state, ctx);
        if self.crossed.iter().any(|offered| offered.is_late(now_ms)) {
            self.judge_crossed();
        }
        let in_ms = decisions.wake_at_ms.map_or(u64::MAX, |at| at.saturating_sub(now_ms).max(1));
        let pause = Duration::from_millis(in_ms).min(self.context.node.beat.until_next(LOOK_INTERVAL));
        self.alarm = Some(ctx.run_later(pause, |manager, ctx| {
            manager.alarm = None;
            manager.look(ctx);
        }));
    }

    fn show_waiting(
        &self,
        hints: &BTreeSet<Partition>,
        filled: &BTreeSet<Partition>,
        state: &ClusterState,
        starting: &[Start],
    ) {
        let node = &self.context.node;
        let hinted = hints.iter().filter_map(|partition| {
            let peer = state.holder(*partition).filter(|holder| *holder != node.id)?;
            Some((Kind::Hinted, *partition, peer))
        });
        let owned = filled.iter().filter_map(|p| Some((Kind::Ownership, *p, state.bequest(node.id, *p)?)));
        let runs = |partition: Partition| {
            self.out.values().any(|out| out.partition == partition)
                || starting.iter().any(|start| start.partition == partition)
        };
        let why = |peer: NodeId| {
            let view = node.ring.load();
            match view.availability(peer) {
                Availability::Down => "the receiver is down",
                Availability::Suspect => "the receiver is late",
                Availability::Up if node.handoff.paused() => "transfers are paused",
                Availability::Up => "its turn has not come, or it is tried again soon",
            }
        };
        let lines = hinted.chain(owned).filter(|(_, partition, _)| !runs(*partition));
        let lines = lines.map(|(kind, partition, peer)| WaitingLine {
            kind,
            partition,
            peer,
            why: why(peer).to_owned(),
        });
        node.handoff.set_waiting(lines.collect());
    }

    fn begin(&mut self, start: Start, state: &ClusterState) {
        let Some(me) = self.me.clone() else { return };
        let node = self.context.node.clone();
        let Start { kind, partition, to } = start;
        let source = match kind {
            Kind::Repair { source } => source,
            Kind::Hinted | Kind::Ownership => partition,
        };
        let (Some(held), Some(possession)) =
            (self.generations().held(source), state.possession().get(usize::from(partition.0)))
        else {
            return;
        };
        self.sessions += 1;
        let session = SessionId { node: node.id, boot: node.boot, number: self.sessions };
        let eldest = held.sealed.first().copied().filter(|_| kind == Kind::Hinted);
        let generation = eldest.unwrap_or(held.live);
        let intent = held.intent.as_ref().filter(|intent| Some(intent.source) == eldest);
        let plan = SendingPlan {
            session,
            to,
            kind,
            partition,
            possession: *possession,
            target: state.target().key(),
            generation,
            sealed: eldest.is_some(),
            services: self.context.services.iter().map(|service| service.name().to_owned()).collect(),
            estimate: self.context.estimate(source, generation),
            outbound: held.outbound.as_deref().filter(|_| kind == Kind::Ownership).cloned(),
            bequeathed: intent.and_then(|intent| intent.bequeathed(*possession)),
            bytes_per_second: node.handoff.bytes_per_second(),
        };
        let filter = match kind {
            Kind::Repair { source } => Some(repair::filter(&node, partition, source)),
            Kind::Hinted | Kind::Ownership => None,
        };
        let revocable = Arc::new(AtomicBool::new(true));
        let postbox = HandoffSender::start(self.context.clone(), me, plan, filter, revocable.clone());
        self.out.insert(session, Out { postbox, kind, partition, to, revocable });
        self.order.push(session);
    }

    fn sent(&mut self, session: SessionId, outcome: &Outcome, ctx: &mut Context<Self>) {
        let Some(out) = self.out.remove(&session) else { return };
        self.order.retain(|other| *other != session);
        let node = self.context.node.clone();
        self.schedule.ended(self.now_ms(), out.partition, out.to, outcome);
        if *outcome == Outcome::Completed {
            self.emptied.insert(out.partition);
            let (kind, to) = (out.kind, node.name_of(out.to));
            tracing::info!(partition = out.partition.0, ?kind, to = %to, "a transfer has completed");
        } else {
            let why = super::sender::text_of(outcome);
            tracing::debug!(partition = out.partition.0, to = %node.name_of(out.to), why, "a transfer has ended");
        }
        match (&out.kind, outcome) {
            (Kind::Repair { source }, Outcome::Completed) => {
                self.repairs.remove(&Repair { to: out.to, partition: out.partition, source: *source });
            }
            // What is kept of it is a hint from now on.
            (Kind::Ownership, Outcome::Untold)
                if node.ring.load().state().holder(out.partition) != Some(node.id) =>
            {
                node.strays.mark(out.partition);
            }
            _ => {}
        }
        self.context.ring_manager.post_control(RingMessage::StraysChanged);
        self.look(ctx);
        self.judge_crossed();
    }

    /// Partitions of which nothing is left, although they are marked as strays.
    fn clear_strays(&mut self, state: &ClusterState, ctx: &mut Context<Self>) {
        let node = self.context.node.clone();
        let sealed = self.generations().with_sealed();
        for partition in self.emptied.clone() {
            if state.holder(partition) == Some(node.id) || !node.strays.marked().contains(&partition) {
                self.emptied.remove(&partition);
                continue;
            }
            let busy = sealed.contains(&partition) || self.out.values().any(|out| out.partition == partition);
            if busy || !self.clearing.insert(partition) {
                continue;
            }
            let context = self.context.clone();
            let cleared = async move { clear_stray(&context, partition).await };
            ctx.spawn(cleared.into_actor(self).map(move |cleared, manager, ctx| {
                manager.clearing.remove(&partition);
                if cleared {
                    manager.emptied.remove(&partition);
                    manager.look(ctx);
                }
            }));
        }
    }

    /// Takes hints in of a partition that is held here now.
    fn absorb(&mut self, partition: Partition, now_ms: u64, ctx: &mut Context<Self>) {
        let waits = self.absorb_after_ms.get(&partition).is_some_and(|after| *after > now_ms);
        if waits || !self.absorbing.insert(partition) {
            return;
        }
        let context = self.context.clone();
        let absorbed = async move { absorb(&context, partition).await };
        ctx.spawn(absorbed.into_actor(self).map(move |absorbed, manager, ctx| {
            manager.absorbing.remove(&partition);
            manager.absorb_after_ms.remove(&partition);
            if let Err(why) = absorbed {
                tracing::warn!(
                    partition = partition.0,
                    why,
                    "hints could not be taken in; it is tried again"
                );
                let after = manager.now_ms() + ABSORB_PAUSE.as_millis() as u64;
                manager.absorb_after_ms.insert(partition, after);
            } else {
                manager.look(ctx);
            }
        }));
    }
}

/// Merges the hints of a partition that is held here into its live generation, and drops them.
async fn absorb(context: &Arc<HandoffContext>, partition: Partition) -> Result<(), String> {
    let node = &context.node;
    for generation in node.generations.sealed(partition) {
        merge_generation(context, (partition, generation), partition, None).await?;
        node.storage.barrier(true).await.map_err(|error| error.to_string())?;
        switch::drop_generation(node, partition, generation).await?;
    }
    Ok(())
}

/// Merges a generation that lies here, or those items of it that are meant, into the live one of a partition that is
/// held here. Not synced yet.
async fn merge_generation(
    context: &Arc<HandoffContext>,
    (source, generation): (Partition, GenerationId),
    into: Partition,
    filter: Option<Filter>,
) -> Result<(), String> {
    let node = &context.node;
    // The last turns of the vnode that lived in it may still be on their way to the store.
    node.storage.barrier(false).await.map_err(|error| error.to_string())?;
    for service in context.services.iter() {
        let found = sealed_snapshot(&node.generations, service.name(), source, generation.number)?;
        let Some(snapshot) = found else { continue };
        let (items_max, bytes_max) = (BATCH_ITEMS_MAX, BATCH_BYTES_MAX);
        let mut range = ScanRange { after: None, items_max, bytes_max, filter: filter.clone() };
        loop {
            let scanned = service.scan(snapshot.clone(), range.clone()).await?;
            let held = node.ring.load().possession(into).filter(|possession| possession.holder == node.id);
            let Some(possession) = held else { return Err("the partition is held elsewhere now".to_owned()) };
            if !scanned.items.is_empty() {
                service.merge(into, possession, scanned.items).await?;
            }
            match scanned.last {
                Some(last) => range.after = Some(last),
                None => break,
            }
        }
    }
    Ok(())
}

/// Takes a partition off the list of strays if nothing of it is here any more, in a moment in which nothing can come.
/// False when that could not be found out.
async fn clear_stray(context: &Arc<HandoffContext>, partition: Partition) -> bool {
    let node = &context.node;
    let Some(claim) = node.generations.claim(partition) else { return false };
    let mut empty = true;
    for service in context.services.iter() {
        empty &= service.freeze_if_empty(partition).await;
    }
    let holds = node.ring.load().state().holder(partition) == Some(node.id);
    if empty && node.generations.sealed(partition).is_empty() && !holds {
        node.strays.clear(partition);
    }
    for service in context.services.iter() {
        service.thaw(partition);
    }
    drop(claim);
    context.ring_manager.post_control(RingMessage::StraysChanged);
    true
}

impl Actor for HandoffManager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look(ctx);
    }
}

impl Handler<Posted<ManagerMessage>> for HandoffManager {
    type Result = ();

    fn handle(&mut self, posted: Posted<ManagerMessage>, ctx: &mut Self::Context) {
        match posted.message {
            ManagerMessage::Look => self.look(ctx),
            ManagerMessage::Filled(partitions) => {
                self.filled.extend(partitions);
                self.look(ctx);
            }
            ManagerMessage::Connected(from, stream) => self.connected(from, stream, ctx),
            ManagerMessage::Offered(offered) => self.offered(offered),
            ManagerMessage::Sent(session, outcome) => self.sent(session, &outcome, ctx),
            ManagerMessage::ReceiverEnded(session, repaired) => {
                self.coming.remove(&session);
                if let Some((partition, source)) = repaired {
                    self.wanted.received(partition, source);
                }
                self.look(ctx);
                self.judge_crossed();
            }
            ManagerMessage::RepairWanted(to, wanted, respond) => self.repair_wanted(to, wanted, respond, ctx),
            ManagerMessage::RepairAnswered(asked, answers) => {
                let now_ms = self.now_ms();
                for ((partition, source), answer) in asked.into_iter().zip(answers) {
                    self.wanted.answered(now_ms, partition, source, answer);
                }
                self.look(ctx);
            }
        }
    }
}
