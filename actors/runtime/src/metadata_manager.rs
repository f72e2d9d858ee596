//! The metadata manager: the one writer of this node's metadata. Changes come to it as functions of the metadata, parts
//! of other nodes' as messages; what comes of them is synced to the file before anybody sees it, then published, put in
//! force and told to others. What stands, what is told to whom and when, core decides.

pub(crate) mod file;

use crate::administration::AdministrationRefusal;
use crate::families;
use crate::files::FileError;
use crate::net::Channel;
use crate::node_core::{Ending, NodeCore};
use crate::post::{Permits, Postbox, Posted};
use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use bytes::Bytes;
use file::MetadataFile;
use ringwork_core::clock::hybrid::HybridTime;
use ringwork_core::gossip::detector::Availability;
use ringwork_core::gossip::spread::{Effects, GossipMessage, Peers, Spread, SpreadConfig, SpreadEffect};
use ringwork_core::ids::NodeId;
use ringwork_core::membership::{ClusterState, Status};
use ringwork_core::metadata::{At, Life, Metadata, MetadataDigest, MetadataPart, Said, SharedMetadata};
use ringwork_core::wire::codec;
use ringwork_core::wire::handshake::{PROTOCOL_MAX, PROTOCOL_MIN};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Messages that may be on their way to the manager; more are dropped, as a network would, or refused to operators.
const IN_FLIGHT_MAX: usize = 1024;
/// How often the manager looks at its timers, and whether the members are others.
const TICK: Duration = Duration::from_millis(100);

/// A change, as a function of the metadata that does all of it or refuses.
pub(crate) type Change = Box<dyn FnOnce(&mut Metadata, At) -> Result<(), AdministrationRefusal> + Send>;
/// What came of a change: the metadata as it is kept and published with it.
pub(crate) type Changed = Result<Arc<Metadata>, AdministrationRefusal>;

/// What the manager is told.
pub(crate) enum MetadataMessage {
    /// A message of a peer's spreading.
    Gossip(NodeId, Bytes),
    /// A change by this node; the answer comes when it is kept and published.
    Change(Change, oneshot::Sender<Changed>),
}

/// What travels in the family [`families::METADATA`].
#[derive(Serialize, Deserialize)]
struct Envelope {
    message: GossipMessage<MetadataDigest, MetadataPart>,
}

/// Who waits for the next metadata that is kept.
type Waiting = Box<dyn FnOnce(&mut MetadataManager, Result<(), &FileError>)>;

/// Those members that a feature has to wait for.
pub(crate) fn waited_for(state: &ClusterState) -> Vec<NodeId> {
    let waited_for = state.members().filter(|(_, member)| member.status().is_waited_for());
    waited_for.map(|(node, _)| node).collect()
}

/// See the module's head.
pub(crate) struct MetadataManager {
    node: Arc<NodeCore>,
    file: MetadataFile,
    /// The latest metadata; what of it is not kept yet is not published either.
    metadata: Metadata,
    /// What is published, as spreading sees it.
    shared: SharedMetadata,
    spread: Spread<SharedMetadata>,
    life: Life,
    /// Stamp of what is in the file.
    kept: u64,
    keeping: bool,
    waiting: Vec<Waiting>,
    /// The cluster state that was last looked at.
    state: Arc<ClusterState>,
}

impl MetadataManager {
    /// Starts the manager on the calling thread; what the file had is published and in force when it returns.
    pub(crate) fn start(node: Arc<NodeCore>, file: MetadataFile) -> std::io::Result<Postbox<Self>> {
        let metadata = Metadata::clone(&node.metadata.current());
        let seed = node.randomness.bytes::<8>().map(u64::from_be_bytes)?;
        let shared = SharedMetadata::of(Arc::new(metadata.clone()));
        let spread = Spread::new(now_ms(&node), seed, SpreadConfig::default(), &shared);
        let life = metadata.begin_life(node.id, node.hybrid.next_above(HybridTime::default()));
        let (kept, state) = (metadata.stamp(), node.ring.load().state().clone());
        let waiting = Vec::new();
        let mut manager =
            Self { node, file, metadata, shared, spread, life, kept, keeping: false, waiting, state };
        manager.publish();
        let mut postbox = None;
        let _ = Self::create(|ctx| {
            postbox = Some(Postbox::new(ctx.address(), Permits::new(IN_FLIGHT_MAX)));
            manager
        });
        postbox.ok_or_else(|| std::io::Error::other("the metadata manager cannot be started"))
    }

    fn at(&mut self) -> At {
        let now = self.node.hybrid.next_above(HybridTime::default());
        if self.metadata.is_over(self.life) {
            self.life = self.metadata.begin_life(self.node.id, now);
        }
        At { life: self.life, now }
    }

    /// Looks at the cluster state, and begins anew when this node has joined another cluster: what the members of that
    /// one know counts. Before every change: what is changed in the metadata of the cluster before would be gone.
    fn follow(&mut self) {
        self.state = self.node.ring.load().state().clone();
        if self.metadata.cluster() != self.state.cluster() {
            self.metadata = Metadata::new(self.state.cluster());
            self.life = self.metadata.begin_life(self.node.id, self.life.begun);
        }
    }

    /// What the cluster state asks of the metadata whenever either has changed.
    fn duties(&mut self) {
        self.follow();
        let members: Vec<NodeId> = self.state.members().map(|(node, _)| node).collect();
        let state = self.state.clone();
        let is_gone = |node: NodeId| state.status(node) == Some(Status::Removed);
        self.metadata.note_ready(&members);
        self.metadata.retire(&members, is_gone);
        let gone: Vec<String> =
            state.everybody().keys().filter(|node| is_gone(**node)).map(ToString::to_string).collect();
        self.metadata.forget_settings_of(|node| gone.iter().any(|gone| gone == node));
    }

    /// What follows from a change: it is kept if it has to be, and then published.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        if self.keeping {
            return;
        }
        self.duties();
        let stamp = self.metadata.stamp();
        if stamp == self.kept && self.metadata.cluster() == self.shared.metadata().cluster() {
            self.publish();
            let waiting = std::mem::take(&mut self.waiting);
            return self.tell(waiting, Ok(()));
        }
        self.keeping = true;
        let (file, metadata, node) = (self.file.clone(), self.metadata.clone(), self.node.clone());
        let kept_metadata = metadata.clone();
        // Who asks for a change while this one is written waits for the next.
        let served = std::mem::take(&mut self.waiting);
        let write = async move {
            loop {
                let (file, metadata) = (file.clone(), metadata.clone());
                match node.spawner.on_pool_for(move || file::keep(&file, &metadata)).await {
                    Ok(result) => return result,
                    // The pool is full of longer work; the metadata has to be kept all the same.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        ctx.spawn(write.into_actor(self).map(move |result, manager, ctx| {
            manager.keeping = false;
            match result {
                Ok(()) => {
                    manager.kept = stamp;
                    let newest = std::mem::replace(&mut manager.metadata, kept_metadata);
                    manager.publish();
                    manager.tell(served, Ok(()));
                    // The newest has seen all of it, and knows what of it was removed meanwhile.
                    if manager.metadata.join(&newest, |_| true).is_err() {
                        manager.metadata = newest;
                    }
                    manager.settle(ctx);
                }
                Err(error) => {
                    tracing::error!(%error, "the metadata cannot be kept; the node ends");
                    manager.tell(served, Err(&error));
                    manager.node.end(Ending::Failed(format!("the metadata cannot be kept: {error}")));
                }
            }
        }));
    }

    fn tell(&mut self, waiting: Vec<Waiting>, kept: Result<(), &FileError>) {
        for waiting in waiting {
            waiting(self, kept);
        }
    }

    /// Makes what is kept visible to this node and others, and puts it in force.
    fn publish(&mut self) {
        let said = Said {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            features: self.node.metadata.own().clone(),
            seen: self.metadata.stamp(),
            having: self.metadata.having(),
        };
        if let Err(error) = self.metadata.state(self.node.id, self.node.boot, &said) {
            tracing::error!(%error, "this node cannot say what it can do");
        }
        let active = self.metadata.features_of_all(&waited_for(&self.state));
        let published = Arc::new(self.metadata.clone());
        if *published != **self.shared.metadata() {
            self.shared = SharedMetadata::of(published.clone());
        }
        self.node.metadata.publish(published.clone(), active);
        if let Some(settings) = self.node.metadata.settings() {
            settings.apply(&published, self.node.id);
        }
        self.spread.changed(now_ms(&self.node), &self.shared);
    }

    fn carry_out(&mut self, effects: Effects<SharedMetadata>, ctx: &mut Context<Self>) {
        for effect in effects {
            match effect {
                SpreadEffect::Send { to, message } => self.send(to, message),
                SpreadEffect::Merge { from, part, versions } => {
                    let state = self.node.ring.load().state().clone();
                    match self.metadata.join_part(&part, |node| state.member(node).is_some()) {
                        Ok(false) if !self.keeping => self.merged(from, versions),
                        Ok(_) => {
                            self.waiting.push(Box::new(move |manager, kept| {
                                if kept.is_ok() {
                                    manager.merged(from, versions);
                                }
                            }));
                            self.settle(ctx);
                        }
                        Err(error) => {
                            self.node.telemetry.states_refused.increment();
                            tracing::warn!(%error, "a peer sent metadata that cannot be; it was ignored");
                        }
                    }
                }
            }
        }
    }

    fn merged(&mut self, from: NodeId, versions: Option<MetadataDigest>) {
        let effects = self.spread.merged(now_ms(&self.node), from, versions, &self.shared);
        for effect in effects {
            // All that comes of it is what the other one lacks.
            if let SpreadEffect::Send { to, message } = effect {
                self.send(to, message);
            }
        }
    }

    fn send(&self, to: NodeId, message: GossipMessage<MetadataDigest, MetadataPart>) {
        let Some(network) = self.node.network() else { return };
        let envelope = Envelope { message };
        let encode = |out: &mut Vec<u8>| codec::encode_into(&envelope, out);
        // Lost where there is no connection; the next exchange makes up for it.
        let _ = network.send(to, Channel::Control, families::METADATA, families::VERSION, encode);
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let view = self.node.ring.load_full();
        if !Arc::ptr_eq(view.state(), &self.state) {
            self.settle(ctx);
        }
        let now_ms = now_ms(&self.node);
        // Who is there is looked up only when somebody is to be told.
        if now_ms < self.spread.next_wakeup_ms() {
            return;
        }
        let (mut available, mut down) = (Vec::new(), Vec::new());
        if let Some(network) = self.node.network() {
            for (node, _) in view.state().members().filter(|(node, _)| *node != self.node.id) {
                let connected = network.is_connected(node, Channel::Control);
                let up = connected && view.availability(node) != Availability::Down;
                if up { &mut available } else { &mut down }.push(node);
            }
        }
        let peers = Peers { available: &available, down: &down };
        let effects = self.spread.tick(now_ms, &self.shared, peers);
        self.carry_out(effects, ctx);
    }

    fn change(&mut self, change: Change, done: oneshot::Sender<Changed>, ctx: &mut Context<Self>) {
        self.follow();
        let at = self.at();
        let mut changed = self.metadata.clone();
        if let Err(refusal) = change(&mut changed, at) {
            let _ = done.send(Err(refusal));
            // What `follow` has seen asks for its duties all the same.
            return self.settle(ctx);
        }
        self.metadata = changed;
        let cluster = self.metadata.cluster();
        self.waiting.push(Box::new(move |manager, kept| {
            if manager.shared.metadata().cluster() != cluster {
                let detail =
                    "this node has joined another cluster meanwhile, and the change is gone; ask again";
                let _ = done.send(Err(AdministrationRefusal::new("other-cluster", detail)));
                return;
            }
            let failed = |error: &FileError| {
                AdministrationRefusal::new("store-failed", format!("the change cannot be kept: {error}"))
            };
            let _ = done.send(kept.map(|()| manager.shared.metadata().clone()).map_err(failed));
        }));
        self.settle(ctx);
    }
}

fn now_ms(node: &NodeCore) -> u64 {
    node.clock.moment().as_millis() as u64
}

impl Actor for MetadataManager {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.node.beat.clone().each(TICK, ctx, Self::tick);
    }
}

impl Handler<Posted<MetadataMessage>> for MetadataManager {
    type Result = ();

    fn handle(&mut self, posted: Posted<MetadataMessage>, ctx: &mut Self::Context) {
        match posted.message {
            MetadataMessage::Gossip(from, bytes) => match codec::decode::<Envelope>(&bytes) {
                Ok(Envelope { message }) => {
                    let effects = self.spread.message(now_ms(&self.node), from, message, &self.shared);
                    self.carry_out(effects, ctx);
                }
                Err(error) => {
                    self.node.telemetry.states_refused.increment();
                    tracing::debug!(%error, "a peer's metadata could not be read");
                }
            },
            MetadataMessage::Change(change, done) => self.change(change, done, ctx),
        }
    }
}
