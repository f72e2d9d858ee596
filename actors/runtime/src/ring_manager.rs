//! The ring manager: the one writer of this node's cluster state. Changes come to it as functions of the state; what
//! they decide is synced to the file before anybody sees it, then published as an immutable snapshot that requests
//! read without a lock, and told to the gossip agent. It also carries out what the state asks of this node: passing
//! partitions on, returning from `down`, leaving, and (as claimant) removing who has left. Which changes are right,
//! core decides; who is up, the gossip agent says.

pub(crate) mod file;
mod passing;
mod removed;

use crate::administration::AdministrationRefusal;
use crate::families;
use crate::files::FileError;
use crate::gossip_agent::{AgentMessage, GossipAgent, send_part};
use crate::handoff::generations::Claim;
use crate::handoff::service::Services;
use crate::handoff::switch;
use crate::net::{PeerSpec, Responder};
use crate::node_core::{Ending, NodeCore};
use crate::post::{Permits, Postbox, Posted};
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use file::RingFile;
use ringwork_core::completeness::Completeness;
use ringwork_core::gossip::detector::Availability;
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::membership::{
    ChangeRefusal, ClusterState, Possession, Report, Section, StatePart, Status,
};
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::preflist::RingView;
use ringwork_core::wire::codec;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// Messages that may be on their way to the ring manager.
const IN_FLIGHT_MAX: usize = 4096;
/// How often it looks whether something is to be done that no message announces.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// A change, as a function of the state that does all of it or refuses.
pub(crate) type Change = Box<dyn FnOnce(&mut ClusterState) -> Result<(), ChangeRefusal> + Send>;
/// What came of a change: the state as it is kept and published with it.
pub(crate) type Changed = Result<Arc<ClusterState>, AdministrationRefusal>;

/// What the ring manager is told.
pub enum RingMessage {
    /// A peer sent some sections. Answered when they are kept and published.
    Merge(StatePart, Option<oneshot::Sender<()>>),
    /// A peer sent a whole state.
    MergeState(Box<ClusterState>),
    /// A request carried a possession that this node did not know: the holder is asked for its state.
    Heard(Possession),
    /// That node knows something of the state that this one waits for.
    AskState(NodeId),
    /// A change by this node; the answer comes when it is durable.
    Change(Change, oneshot::Sender<Changed>),
    /// This node, until now alone, becomes a member of the cluster of this state.
    JoinCluster(Box<ClusterState>, oneshot::Sender<Changed>),
    /// How members can be reached now.
    Availability(BTreeMap<NodeId, (u64, Availability)>),
    /// Everything here is in doubt: this node was taken for down.
    Doubt,
    /// Which of this node's services are up.
    Services(BTreeSet<String>),
    /// This node has data of a further partition that it does not hold.
    StraysChanged,
    /// A member asks which strays this node holds: it is told when it is seen up in that generation.
    StraysAsked(NodeId, u64, Responder),
    /// A member has said which strays it holds, asked in that round; or it has not, for whatever reason.
    StraysTold(NodeId, u64, Option<StatePart>),
    /// Which of these partitions had nothing in them and are held back.
    Frozen(BTreeSet<Partition>, BTreeSet<Partition>),
    /// Pass this partition, which is held by this possession and held back, on to this heir, if it is still to go there
    /// and can. Answered when that is kept, with the heir's possession and whether the replica was complete; with none
    /// when it was not done, and never will be by this.
    PassOn(Partition, Possession, NodeId, oneshot::Sender<Option<(Possession, bool)>>),
    /// What the other replicas have of it has been fetched.
    Repaired(Partition),
    /// Requests for what was held back go on.
    Thawed,
    /// A member says what it has passed on to this node, complete, when it saw this node in that generation.
    Inherited(NodeId, Bequest),
    /// Hold back everything, for a join: is there nothing in it?
    FreezeAll(oneshot::Sender<bool>),
    /// The join came to nothing: go on.
    ThawAll,
}

impl std::fmt::Debug for RingMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RingMessage")
    }
}

/// What a member has passed on, complete.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bequest {
    /// In which generation it saw the heir: a word to a former life means nothing.
    generation: u64,
    /// Partitions, with the possession that makes the heir their holder.
    passed: Vec<(Partition, Possession)>,
}

/// An answer that comes later, from wherever.
pub(crate) type Later<T> = Pin<Box<dyn Future<Output = T>>>;

/// A service as the ring manager sees it.
pub(crate) trait Movable: Send + Sync {
    /// Which of these partitions have nothing in them; what comes for these is held back until `thaw`.
    fn freeze(&self, partitions: Vec<Partition>) -> Later<BTreeSet<Partition>>;
    /// Go on with what was held back.
    fn thaw(&self, partitions: Vec<Partition>);
    /// These have come here.
    fn came(&self, partitions: Vec<Partition>);
}

/// See the module's head.
pub struct RingManager {
    node: Arc<NodeCore>,
    file: RingFile,
    movable: Vec<Arc<dyn Movable>>,
    services: Services,
    agent: Option<Postbox<GossipAgent>>,
    me: Option<Postbox<Self>>,
    /// The latest state; what of it is not kept yet is not published either.
    state: ClusterState,
    /// Stamp of the state that is in the file.
    kept: u64,
    keeping: bool,
    /// Who waits for the next state that is kept.
    waiting: Vec<Waiting>,
    /// Each member's generation and availability, as the failure detector says.
    availability: BTreeMap<NodeId, (u64, Availability)>,
    completeness: Completeness,
    /// How many of the node's doubts are in it. What is published says so, and not how many there are by then.
    doubts: u64,
    report: Report,
    /// Partitions that had data when they were to be passed on: the handoff manager's.
    filled: BTreeSet<Partition>,
    /// Held back while it is found out what has nothing in it.
    claims: Vec<Claim>,
    passing_on: bool,
    /// Whether there may be something to pass on. It is looked at again and again, over the whole ring; not before the
    /// state changes when there is nothing.
    may_pass_on: bool,
    asking_strays: BTreeSet<NodeId>,
    /// What members have said is complete of what they pass on to this node, with the generation they saw.
    inherited: BTreeMap<Partition, u64>,
    /// As the network was last told.
    peers: Vec<PeerSpec>,
    departed: bool,
    /// Partitions are being claimed anew; see [`removed`].
    claiming: Rc<Cell<bool>>,
}

type Waiting = Box<dyn FnOnce(Result<Arc<ClusterState>, &FileError>)>;

impl RingManager {
    /// Starts the manager on the calling thread, and publishes what it has. `kept` is the stamp of what the file holds.
    pub(crate) fn start(
        node: Arc<NodeCore>,
        file: RingFile,
        (state, kept): (ClusterState, u64),
        (movable, services): (Vec<Arc<dyn Movable>>, Services),
        running: BTreeSet<String>,
    ) -> Postbox<Self> {
        let report = Report { services: running, strays: node.strays.marked(), ..Report::first(node.boot) };
        let completeness = Completeness::new(node.id, &state);
        let mut manager = Self {
            node,
            file,
            movable,
            services,
            agent: None,
            me: None,
            state,
            kept,
            keeping: false,
            waiting: Vec::new(),
            availability: BTreeMap::new(),
            completeness,
            doubts: 0,
            report,
            filled: BTreeSet::new(),
            claims: Vec::new(),
            passing_on: false,
            may_pass_on: true,
            asking_strays: BTreeSet::new(),
            inherited: BTreeMap::new(),
            peers: Vec::new(),
            departed: false,
            claiming: Rc::default(),
        };
        if manager.state.stamp() == manager.kept {
            manager.publish();
        }
        let mut postbox = None;
        let _ = Self::create(|ctx| {
            let me = Postbox::new(ctx.address(), Permits::new(IN_FLIGHT_MAX));
            manager.me = Some(me.clone());
            postbox = Some(me);
            manager
        });
        #[allow(clippy::expect_used)] // `create` has run the closure before it returns
        postbox.expect("the context gives an address")
    }

    /// What follows from a changed state: it is kept if it has to be, and then published.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        if self.keeping {
            return;
        }
        self.duties();
        let stamp = self.state.stamp();
        if stamp == self.kept {
            self.publish();
            self.tell_waiting(Ok(()));
            return;
        }
        self.keeping = true;
        let (file, state) = (self.file.clone(), self.state.clone());
        let kept_state = state.clone();
        // Who asks for a change while this one is written waits for the next.
        let served = std::mem::take(&mut self.waiting);
        let come = self.to_take_over();
        let write = {
            let (node, services) = (self.node.clone(), self.services.clone());
            async move {
                loop {
                    let (file, state) = (file.clone(), state.clone());
                    match node.spawner.on_pool_for(move || file::keep(&file, &state)).await {
                        Ok(Ok(())) => {
                            // Before anybody can act upon it that they are held here.
                            for partition in come {
                                switch::take_over(&node, &services, partition).await;
                            }
                            return Ok(());
                        }
                        Ok(failed) => return failed,
                        // The pool is full of longer work; the state has to be kept all the same.
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
            }
        };
        ctx.spawn(write.into_actor(self).map(move |result, manager, ctx| {
            manager.keeping = false;
            match result {
                Ok(()) => {
                    manager.kept = stamp;
                    let newest = std::mem::replace(&mut manager.state, kept_state);
                    // Seen as soon as it is kept, however fast the next changes come.
                    manager.publish();
                    tell(served, Ok(manager.node.ring.load().state().clone()));
                    // Both are of one cluster, or the newer one is of the cluster that was joined meanwhile.
                    if newest.cluster() != manager.state.cluster() || manager.state.merge(&newest).is_err() {
                        manager.state = newest;
                    }
                    manager.settle(ctx);
                }
                Err(error) => {
                    tracing::error!(%error, "the cluster state cannot be kept; the node ends");
                    tell(served, Err(&error));
                    manager.tell_waiting(Err(&error));
                    manager.node.end(Ending::Failed(format!("the cluster state cannot be kept: {error}")));
                }
            }
        }));
    }

    /// Partitions that have come here and of which something was collected.
    fn to_take_over(&self) -> Vec<Partition> {
        let (me, collected) = (self.node.id, self.node.generations.with_inbound());
        collected.into_iter().filter(|partition| self.state.holder(*partition) == Some(me)).collect()
    }

    fn tell_waiting(&mut self, kept: Result<(), &FileError>) {
        let state = self.node.ring.load().state().clone();
        tell(std::mem::take(&mut self.waiting), kept.map(|()| state));
    }

    /// What the state asks of this node whenever it has changed.
    fn duties(&mut self) {
        let me = self.node.id;
        if self.state.return_from_down(me) {
            tracing::info!("this node was marked down and has returned");
            self.doubt();
        }
        let sealed = !self.node.generations.with_sealed().is_empty();
        // What was just passed on is here until the heir has said that it has taken it.
        let strays = sealed
            || !self.node.strays.marked().is_empty()
            || self.node.generations.has_bequeathed(&self.state)
            || !self.node.generations.with_inbound().is_empty();
        if self.state.exit_when_empty(me, strays) {
            tracing::info!("this node has given away all it held and leaves the cluster");
        }
        if self.state.stage_own_join(me) {
            tracing::info!("the cluster has committed without this node; its join is staged again");
        }
        if self.state.remove_exited(me) {
            tracing::info!("members that had left were removed");
        }
        self.take_back_from_removed();
        if self.state.repair_alone(me) {
            tracing::warn!("this node holds everything now; what lost nodes had and it has not is gone");
        }
        if self.state.status(me) == Some(Status::Removed) && !self.departed {
            self.departed = true;
            self.node.end(Ending::removed(&format!(
                "this node was removed from cluster {}",
                self.state.cluster()
            )));
        }
    }

    fn is_up(&self, node: NodeId) -> bool {
        self.availability.get(&node).is_some_and(|(_, seen)| *seen == Availability::Up)
    }

    fn doubt(&mut self) {
        self.node.doubts.fetch_add(1, Ordering::SeqCst);
        self.doubt_everything();
    }

    fn doubt_everything(&mut self) {
        let counted = self.node.doubts.load(Ordering::SeqCst);
        self.completeness.doubt_everything();
        self.doubts = counted;
    }

    /// Who is up does not wait for the disk: requests see it at once, over the state that is published.
    fn publish_availability(&self) {
        let before = self.node.ring.load_full();
        let availability = self.availability.iter().map(|(node, (_, seen))| (*node, *seen)).collect();
        let state = before.state().clone();
        // Nobody is seen as up before what its return puts in doubt is seen.
        let incomplete = before.incomplete() | &self.completeness.incomplete(&self.state);
        let view =
            RingView::new(self.node.id, state, &availability, incomplete).after_doubts(before.doubts());
        self.node.ring.store(Arc::new(view));
    }

    /// Makes the state visible to requests and peers.
    fn publish(&mut self) {
        let me = self.node.id;
        let before = self.node.ring.load_full();
        self.completeness.observe(&self.state);
        if !planted(Mutant::CompleteAfterWipe) {
            self.completeness.lose(self.node.generations.lacking(&self.state, me));
        }
        let generation = self.node.generation.load(Ordering::SeqCst);
        self.inherited.retain(|_, theirs| *theirs == generation);
        let come = |partition: &Partition| self.state.holder(*partition) == Some(me);
        let heir_of: Vec<Partition> = self.inherited.keys().copied().filter(come).collect();
        self.completeness.inherit(&heir_of);
        self.inherited.retain(|partition, _| !heir_of.contains(partition));
        self.mark_what_was_taken(before.state());
        for partition in self.node.strays.marked() {
            if self.state.holder(partition) == Some(me) {
                self.node.strays.clear(partition);
            }
        }
        let strays = self.node.strays.marked();
        let seen = self.state.stamp();
        // A data directory that was set back reports above what its later life had said.
        if let Some(known) = self.state.reports().get(&me).filter(|known| **known != self.report)
            && (known.boot, known.sequence) >= (self.report.boot, self.report.sequence)
        {
            (self.report.boot, self.report.sequence) = (known.boot, known.sequence);
            self.report.seen = 0;
        }
        if self.report.seen != seen || self.report.strays != strays || self.report.sequence == 0 {
            self.report.seen = seen;
            self.report.strays = strays;
            self.report.sequence += 1;
            self.state.report(me, self.report.clone());
        }
        self.node.in_doubt.store(Arc::new(self.completeness.in_doubt(&self.state)));
        let incomplete = self.completeness.incomplete(&self.state);
        let state = Arc::new(self.state.clone());
        let availability = self.availability.iter().map(|(node, (_, seen))| (*node, *seen)).collect();
        let view = RingView::new(me, state.clone(), &availability, incomplete).after_doubts(self.doubts);
        self.node.ring.store(Arc::new(view));
        let had = |partition: &Partition| before.state().holder(*partition) == Some(me);
        let came: Vec<Partition> = state.held_by(me).filter(|partition| !had(partition)).collect();
        if !came.is_empty() {
            for service in &self.movable {
                service.came(came.clone());
            }
        }
        self.node.latencies.retain(|node| state.status(node).is_some_and(|s| s != Status::Removed));
        if let Some(network) = self.node.network() {
            let others = state.members().filter(|(node, _)| *node != me);
            let peers: Vec<PeerSpec> = others
                .map(|(node, member)| PeerSpec {
                    node,
                    name: member.name.value().clone(),
                    address: member.address.value().clone(),
                })
                .collect();
            // Who is removed hears of it before the connection ends: afterwards nobody speaks to it.
            let gone = |peer: &&PeerSpec| state.status(peer.node) == Some(Status::Removed);
            for peer in self.peers.iter().filter(gone) {
                send_part(&self.node, &network, peer.node, state.part(Section::all()));
            }
            if peers != self.peers {
                self.peers.clone_from(&peers);
                network.set_peers(peers);
            }
        }
        if let Some(agent) = &self.agent {
            agent.post_control(AgentMessage::StateChanged);
        }
        self.node.look_at_transfers();
        self.may_pass_on = true;
        self.pass_on_what_is_empty();
        self.ask_for_strays();
    }

    fn change(&mut self, change: Change, done: oneshot::Sender<Changed>, ctx: &mut Context<Self>) {
        let mut changed = self.state.clone();
        match change(&mut changed) {
            Ok(()) => {
                self.state = changed;
                self.when_kept(done);
                self.settle(ctx);
            }
            Err(ChangeRefusal { code, detail }) => {
                let _ = done.send(Err(AdministrationRefusal { code, detail }));
            }
        }
    }

    fn when_kept(&mut self, done: oneshot::Sender<Changed>) {
        self.waiting.push(Box::new(move |kept| {
            let _ = done.send(kept.map_err(|error| {
                AdministrationRefusal::new("store-failed", format!("the change cannot be kept: {error}"))
            }));
        }));
    }

    fn join_cluster(&mut self, state: ClusterState, done: oneshot::Sender<Changed>, ctx: &mut Context<Self>) {
        if self.state.members().count() > 1 && self.state.cluster() != state.cluster() {
            let detail = "this node has become a member of a cluster meanwhile";
            let _ = done.send(Err(AdministrationRefusal::new("already-a-member", detail)));
            return self.thaw_all();
        }
        if self.state.cluster() == state.cluster() {
            // What of it is not of this cluster cannot be; the handshake and the sizes were compared.
            let _ = self.state.merge(&state);
        } else {
            self.state = state;
        }
        self.doubt_everything();
        self.when_kept(done);
        let movable = self.movable.clone();
        let thawed = self.all_partitions();
        self.waiting.push(Box::new(move |_| {
            for service in &movable {
                service.thaw(thawed.clone());
            }
        }));
        self.settle(ctx);
    }

    fn merge(&mut self, part: &StatePart, ctx: &mut Context<Self>) {
        match self.state.merge_part(part) {
            Ok(true) => self.settle(ctx),
            Ok(false) => {}
            Err(error) => {
                self.node.telemetry.states_refused.increment();
                tracing::warn!(%error, "a peer sent state that cannot be; it was ignored");
            }
        }
    }
}

fn tell(waiting: Vec<Waiting>, kept: Result<Arc<ClusterState>, &FileError>) {
    for waiting in waiting {
        waiting(kept.clone());
    }
}

impl Actor for RingManager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.settle(ctx);
        self.node.beat.clone().each(LOOK_INTERVAL, ctx, |manager, ctx| {
            let strays_changed = manager.report.strays != manager.node.strays.marked();
            if strays_changed {
                manager.settle(ctx);
            } else {
                manager.pass_on_what_is_empty();
                manager.ask_for_strays();
            }
        });
    }
}

impl Handler<Posted<SetAgent>> for RingManager {
    type Result = ();

    fn handle(&mut self, posted: Posted<SetAgent>, ctx: &mut Self::Context) {
        self.agent = Some(posted.message.0);
        self.settle(ctx);
    }
}

/// Tells the ring manager who spreads what it publishes.
pub(crate) struct SetAgent(pub(crate) Postbox<GossipAgent>);

impl Handler<Posted<RingMessage>> for RingManager {
    type Result = ();

    fn handle(&mut self, posted: Posted<RingMessage>, ctx: &mut Self::Context) {
        match posted.message {
            RingMessage::Merge(part, done) => {
                self.merge(&part, ctx);
                if let Some(done) = done {
                    if self.keeping {
                        self.waiting.push(Box::new(move |_| {
                            let _ = done.send(());
                        }));
                    } else {
                        let _ = done.send(());
                    }
                }
            }
            RingMessage::MergeState(state) => match self.state.merge(&state) {
                Ok(true) => self.settle(ctx),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "a peer sent state that cannot be; it was ignored"),
            },
            RingMessage::Heard(possession) => {
                // Never taken over alone: without the target that wished it so, it would be passed back.
                if let Some(agent) = &self.agent {
                    let _ = agent.post(AgentMessage::AskState(possession.holder));
                }
            }
            RingMessage::AskState(node) => {
                if let Some(agent) = &self.agent {
                    let _ = agent.post(AgentMessage::AskState(node));
                }
            }
            RingMessage::Change(change, done) => self.change(change, done, ctx),
            RingMessage::JoinCluster(state, done) => self.join_cluster(*state, done, ctx),
            RingMessage::Availability(availability) => {
                if self.availability != availability {
                    for (node, (generation, _)) in &availability {
                        let before = self.availability.get(node).map_or(0, |(before, _)| *before);
                        if before > 0 && *generation > before && !planted(Mutant::NoDoubt) {
                            self.completeness.returned(*node);
                            self.node.returns.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    self.availability = availability;
                    self.settle(ctx);
                    if self.keeping {
                        self.publish_availability();
                    }
                }
            }
            RingMessage::Doubt => {
                self.doubt_everything();
                self.settle(ctx);
            }
            RingMessage::Services(services) => {
                if self.report.services != services {
                    if !services.is_subset(&self.report.services) {
                        // While one of them was not well, others stood in for this node.
                        self.doubt();
                    }
                    self.report.services = services;
                    self.report.seen = 0; // so that a report is due whatever else has changed
                    self.settle(ctx);
                }
            }
            RingMessage::StraysChanged => self.settle(ctx),
            RingMessage::StraysAsked(node, generation, respond) => {
                self.settle(ctx);
                // Seen as up by requests, too: from now on this node stands in for it no more.
                let published = self.node.ring.load().availability(node) == Availability::Up;
                let seen = self.availability.get(&node).is_some_and(|(known, _)| *known >= generation);
                let view = self.node.ring.load();
                let services = self.report.services.iter();
                let asked = services.clone().all(|service| view.can_be_asked(service, node));
                let settled = published && !self.keeping && self.report.strays == self.node.strays.marked();
                let part = (settled && asked && seen && self.is_up(node)).then(|| {
                    let sections = Section::all().filter(|section| matches!(section, Section::Reports(_)));
                    self.node.ring.load().state().part(sections)
                });
                let _ = respond.reply(families::VERSION, |out| codec::encode_into(&part, out));
            }
            RingMessage::StraysTold(node, round, part) => {
                self.asking_strays.remove(&node);
                if let Some(part) = part {
                    match self.state.merge_part(&part) {
                        Ok(_) => self.completeness.answered(node, round),
                        Err(error) => {
                            tracing::warn!(%error, "a member's strays cannot be; it is asked again")
                        }
                    }
                    self.settle(ctx);
                }
            }
            RingMessage::Frozen(asked, empty) => {
                self.frozen(asked, empty);
                self.settle(ctx);
            }
            RingMessage::PassOn(partition, possession, heir, done) => {
                self.pass_on(partition, possession, heir, done);
                self.settle(ctx);
            }
            RingMessage::Repaired(partition) => {
                self.completeness.repaired(partition);
                // Forced to hold it, this node says in the state that it has its data now.
                self.state.repaired(self.node.id, partition);
                self.settle(ctx);
            }
            RingMessage::Thawed => {
                self.passing_on = false;
                self.claims.clear();
            }
            RingMessage::Inherited(from, bequest) => self.inherit(from, bequest, ctx),
            RingMessage::FreezeAll(done) => self.freeze_all(done),
            RingMessage::ThawAll => self.thaw_all(),
        }
    }
}
