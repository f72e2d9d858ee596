//! The gossip agent: carries what core's failure detector and spreading decide. It owns the timers, hands datagrams
//! and messages of peers to them, and their effects to the network and the ring manager. Who is up, and what is told
//! to whom, core decides; what is true of the cluster, the ring manager.

use crate::families;
use crate::introduction::{INTRODUCTION_INTERVAL_MS, introduce};
use crate::net::{Channel, Network};
use crate::node_core::NodeCore;
use crate::post::{Permits, Postbox, Posted};
use crate::ring_manager::{RingManager, RingMessage};
use actix::{Actor, AsyncContext, Context, Handler};
use bytes::Bytes;
use ringwork_core::clock::hybrid::HybridTime;
use ringwork_core::gossip::datagram::first_generation;
use ringwork_core::gossip::detector::{Availability, DetectorConfig, DetectorEffect, FailureDetector};
use ringwork_core::gossip::health::{CheckResult, Health, HealthChange, HealthConfig};
use ringwork_core::gossip::spread::{
    Effects, GossipMessage, Peers, Shared, Spread, SpreadConfig, SpreadEffect,
};
use ringwork_core::ids::NodeId;
use ringwork_core::membership::{ClusterState, Section, StatePart};
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::wire::codec;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// Messages of peers that may wait for the agent; more are dropped, as a network would.
const IN_FLIGHT_MAX: usize = 4096;
/// How often the agent looks at its timers.
const TICK: Duration = Duration::from_millis(100);

/// How often one node is asked for its state out of turn, whatever requests show.
const ASK_INTERVAL_MS: u64 = 100;

/// What the agent is told.
pub(crate) enum AgentMessage {
    /// A datagram of a peer's failure detector.
    Datagram(NodeId, Bytes),
    /// A message of a peer's spreading.
    Gossip(NodeId, Bytes),
    /// A control connection to a peer stands.
    Connected(NodeId),
    /// All connections to a peer have broken.
    Lost(NodeId),
    /// A node is known to know more than this one: it is asked for what differs.
    AskState(NodeId),
    /// A node that is a member, as far as this one knows, does not know this one.
    Unknown(NodeId),
    /// The ring manager has published another state.
    StateChanged,
    /// Say goodbye to all.
    Leave(oneshot::Sender<()>),
}

/// The state as spreading sees it.
struct Spreading(Arc<ClusterState>, Vec<u64>);

impl Spreading {
    fn of(state: &Arc<ClusterState>) -> Self {
        Self(state.clone(), state.digests())
    }
}

impl Shared for Spreading {
    type Digest = Vec<u64>;
    type Section = Section;
    type Part = StatePart;

    fn digest(&self) -> Vec<u64> {
        self.1.clone()
    }

    fn sections_differing(&self, theirs: &Vec<u64>) -> Vec<Section> {
        let same = |number: usize| theirs.get(number) == self.1.get(number);
        Section::all().enumerate().filter(|(number, _)| !same(*number)).map(|(_, section)| section).collect()
    }

    fn extract(&self, sections: &[Section]) -> StatePart {
        self.0.part(sections.iter().copied())
    }
}

/// What travels in the family [`families::GOSSIP`].
#[derive(Serialize, Deserialize)]
struct Envelope {
    /// The sender's hybrid clock, so that no node's clock stays behind what it has seen.
    time: u64,
    message: GossipMessage<Vec<u64>, StatePart>,
}

/// Sends sections to a node once, outside of all spreading.
pub(crate) fn send_part(node: &NodeCore, network: &Network, to: NodeId, part: StatePart) {
    let message = GossipMessage::Part { part, versions: None };
    let envelope = Envelope { time: node.hybrid.latest().0, message };
    let encode = |out: &mut Vec<u8>| codec::encode_into(&envelope, out);
    let _ = network.send(to, Channel::Control, families::GOSSIP, families::VERSION, encode);
}

/// Whether a module of this node is well, by its own word.
pub(crate) struct HealthCheck {
    pub(crate) service: &'static str,
    pub(crate) check: Box<dyn Fn() -> bool + Send>,
}

struct Checked {
    check: HealthCheck,
    health: Health,
    due_ms: Option<u64>,
}

/// See the module's head.
pub(crate) struct GossipAgent {
    node: Arc<NodeCore>,
    network: Network,
    ring_manager: Postbox<RingManager>,
    detector: FailureDetector,
    spread: Spread<Spreading>,
    shared: Spreading,
    members: Vec<NodeId>,
    health: Vec<Checked>,
    services_up: BTreeSet<String>,
    me: Option<Postbox<Self>>,
    /// When each node was last asked for its state out of turn.
    asked: BTreeMap<NodeId, u64>,
    /// When this node last introduced itself to each.
    introduced: BTreeMap<NodeId, u64>,
}

impl GossipAgent {
    /// Starts the agent on the calling thread.
    pub(crate) fn start(
        node: Arc<NodeCore>,
        network: Network,
        ring_manager: Postbox<RingManager>,
        services_up: BTreeSet<String>,
        checks: Vec<HealthCheck>,
    ) -> std::io::Result<Postbox<Self>> {
        let now_ms = now_ms(&node);
        let seed = || node.randomness.bytes::<8>().map(u64::from_be_bytes);
        let generation = first_generation(node.boot);
        let detector = FailureDetector::new(node.id, generation, seed()?, now_ms, DetectorConfig::default());
        node.generation.store(generation, Ordering::SeqCst);
        let shared = Spreading::of(node.ring.load().state());
        let spread = Spread::new(now_ms, seed()?, SpreadConfig::default(), &shared);
        let health = checks
            .into_iter()
            .map(|check| Checked {
                check,
                health: Health::new(HealthConfig::default()),
                due_ms: Some(now_ms),
            })
            .collect();
        let mut agent = Self {
            node,
            network,
            ring_manager,
            detector,
            spread,
            shared,
            members: Vec::new(),
            health,
            services_up,
            me: None,
            asked: BTreeMap::new(),
            introduced: BTreeMap::new(),
        };
        let mut postbox = None;
        let _ = Self::create(|ctx| {
            let me = Postbox::new(ctx.address(), Permits::new(IN_FLIGHT_MAX));
            agent.me = Some(me.clone());
            postbox = Some(me);
            agent
        });
        postbox.ok_or_else(|| std::io::Error::other("the gossip agent cannot be started"))
    }

    fn carry_out(&mut self, effects: Vec<DetectorEffect>) {
        let mut changed = false;
        for effect in effects {
            match effect {
                DetectorEffect::Send { to, datagram } => {
                    let encode = |out: &mut Vec<u8>| {
                        out.extend_from_slice(&datagram);
                        Ok(())
                    };
                    // As with any datagram: where there is no way, it is lost.
                    let (family, version) = (families::DETECTOR, families::VERSION);
                    let _ = self.network.send(to, Channel::Control, family, version, encode);
                }
                DetectorEffect::Changed { node, availability, .. } => {
                    changed = true;
                    let name = self.node.name_of(node);
                    match availability {
                        Availability::Up => {
                            tracing::info!(node = %name, "a node is up");
                            self.network.nudge(node);
                        }
                        Availability::Suspect => {
                            tracing::warn!(node = %name, "a node is suspect: it is late")
                        }
                        Availability::Down => tracing::warn!(node = %name, "a node is down"),
                    }
                }
                DetectorEffect::Renewed { generation } => {
                    // Before anybody can see this node up again, nothing here counts as complete.
                    if !planted(Mutant::NoDoubt) {
                        self.node.doubts.fetch_add(1, Ordering::SeqCst);
                        self.ring_manager.post_control(RingMessage::Doubt);
                    }
                    self.node.generation.store(generation, Ordering::SeqCst);
                    self.node.telemetry.taken_for_down.increment();
                    tracing::warn!("others had taken this node for down; it is back");
                }
            }
        }
        if changed {
            let available: BTreeMap<NodeId, (u64, Availability)> = self
                .detector
                .members()
                .map(|(node, generation, availability)| (node, (generation, availability)))
                .collect();
            self.ring_manager.post_control(RingMessage::Availability(available));
        }
    }

    fn send_gossip(&mut self, effects: Effects<Spreading>) {
        for effect in effects {
            match effect {
                SpreadEffect::Send { to, message } => {
                    let envelope = Envelope { time: self.node.hybrid.latest().0, message };
                    let encode = |out: &mut Vec<u8>| codec::encode_into(&envelope, out);
                    // Lost where there is no connection; the next exchange makes up for it.
                    let (family, version) = (families::GOSSIP, families::VERSION);
                    let _ = self.network.send(to, Channel::Control, family, version, encode);
                }
                SpreadEffect::Merge { from, part, versions } => {
                    let (done, kept) = oneshot::channel();
                    let Some(me) = self.me.clone() else { continue };
                    if self.ring_manager.post(RingMessage::Merge(part, Some(done))).is_err() {
                        self.node.telemetry.datagrams_dropped.increment();
                        continue; // the next exchange brings it again
                    }
                    actix_rt::spawn(async move {
                        if kept.await.is_ok() {
                            me.post_control(Merged { from, versions });
                        }
                    });
                }
            }
        }
    }

    fn ask_state(&mut self, node: NodeId) {
        let now_ms = now_ms(&self.node);
        let asked = self.asked.insert(node, now_ms);
        if asked.is_some_and(|before| now_ms < before + ASK_INTERVAL_MS) {
            self.asked.extend(asked.map(|before| (node, before)));
            return;
        }
        if node != self.node.id {
            let message = GossipMessage::Ask(self.shared.digest());
            self.send_gossip(vec![SpreadEffect::Send { to: node, message }]);
        }
    }

    fn introduce_itself(&mut self, to: NodeId) {
        let now_ms = now_ms(&self.node);
        let before = self.introduced.get(&to);
        if !self.members.contains(&to) || before.is_some_and(|ms| now_ms < ms + INTRODUCTION_INTERVAL_MS) {
            return;
        }
        self.introduced.insert(to, now_ms);
        let (node, network, ring_manager) =
            (self.node.clone(), self.network.clone(), self.ring_manager.clone());
        actix_rt::spawn(introduce(node, network, ring_manager, to));
    }

    fn state_changed(&mut self) {
        let view = self.node.ring.load_full();
        if !Arc::ptr_eq(&self.shared.0, view.state()) {
            self.shared = Spreading::of(view.state());
        }
        let me = self.node.id;
        let members: Vec<NodeId> =
            view.state().members().map(|(node, _)| node).filter(|node| *node != me).collect();
        if members != self.members {
            self.members = members;
            self.asked.retain(|node, _| self.members.contains(node));
            self.introduced.retain(|node, _| self.members.contains(node));
            let effects = self.detector.set_members(&self.members);
            self.carry_out(effects);
        }
        self.spread.changed(now_ms(&self.node), &self.shared);
    }

    fn tick(&mut self) {
        let now_ms = now_ms(&self.node);
        let effects = self.detector.tick(now_ms);
        self.carry_out(effects);
        if self.spread.next_wakeup_ms() <= now_ms {
            self.spread_state(now_ms);
        }
        self.check_health(now_ms);
    }

    /// Does what is due of spreading.
    fn spread_state(&mut self, now_ms: u64) {
        let (mut available, mut down) = (Vec::new(), Vec::new());
        for (node, _, availability) in self.detector.members() {
            let connected = self.network.is_connected(node, Channel::Control);
            if connected && availability != Availability::Down { &mut available } else { &mut down }
                .push(node);
        }
        let peers = Peers { available: &available, down: &down };
        let effects = self.spread.tick(now_ms, &self.shared, peers);
        self.send_gossip(effects);
    }

    fn check_health(&mut self, now_ms: u64) {
        let mut changed = false;
        for checked in
            self.health.iter_mut().filter(|checked| checked.due_ms.is_some_and(|due| due <= now_ms))
        {
            let result = match catch_unwind(AssertUnwindSafe(|| (checked.check.check)())) {
                Ok(true) => CheckResult::Passed,
                Ok(false) => CheckResult::Failed,
                Err(_) => CheckResult::Crashed,
            };
            let step = checked.health.checked(now_ms, result);
            checked.due_ms = step.next_check_at_ms;
            let service = checked.check.service;
            match step.change {
                Some(HealthChange::Up) => changed |= self.services_up.insert(service.to_owned()),
                Some(HealthChange::Down) => {
                    tracing::warn!(service, "a service is not well: it is left out of preference lists");
                    changed |= self.services_up.remove(service);
                }
                None => {}
            }
        }
        if changed {
            self.ring_manager.post_control(RingMessage::Services(self.services_up.clone()));
        }
    }
}

/// The ring manager has merged, kept and published what a peer sent.
struct Merged {
    from: NodeId,
    versions: Option<Vec<u64>>,
}

impl Handler<Posted<Merged>> for GossipAgent {
    type Result = ();

    fn handle(&mut self, posted: Posted<Merged>, _: &mut Self::Context) {
        self.state_changed();
        let Merged { from, versions } = posted.message;
        let now_ms = now_ms(&self.node);
        let effects = self.spread.merged(now_ms, from, versions, &self.shared);
        self.send_gossip(effects);
    }
}

fn now_ms(node: &NodeCore) -> u64 {
    node.clock.moment().as_millis() as u64
}

impl Actor for GossipAgent {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.state_changed();
        self.node.beat.clone().each(TICK, ctx, |agent, _| agent.tick());
    }
}

impl Handler<Posted<AgentMessage>> for GossipAgent {
    type Result = ();

    fn handle(&mut self, posted: Posted<AgentMessage>, _: &mut Self::Context) {
        match posted.message {
            AgentMessage::Datagram(from, bytes) => match self.detector.datagram(from, &bytes) {
                Ok(effects) => self.carry_out(effects),
                Err(error) => {
                    self.node.telemetry.datagrams_refused.increment();
                    tracing::debug!(%error, "a datagram was refused");
                }
            },
            AgentMessage::Gossip(from, bytes) => match codec::decode::<Envelope>(&bytes) {
                Ok(Envelope { time, message }) => {
                    if let Err(error) = self.node.hybrid.observe(HybridTime(time)) {
                        let name = self.node.name_of(from);
                        tracing::warn!(node = %name, %error, "a node's clock is not believed; set the clocks");
                    }
                    let now_ms = now_ms(&self.node);
                    let effects = self.spread.message(now_ms, from, message, &self.shared);
                    self.send_gossip(effects);
                }
                Err(error) => {
                    self.node.telemetry.datagrams_refused.increment();
                    tracing::warn!(%error, "a gossip message was refused");
                }
            },
            AgentMessage::Connected(node) => {
                let effects = self.detector.connected(node);
                self.carry_out(effects);
            }
            AgentMessage::Lost(node) => {
                let effects = self.detector.connection_lost(node);
                self.carry_out(effects);
            }
            AgentMessage::AskState(node) => self.ask_state(node),
            AgentMessage::Unknown(node) => self.introduce_itself(node),
            AgentMessage::StateChanged => self.state_changed(),
            AgentMessage::Leave(done) => {
                // Whoever hears it stands in from then on, and what it takes is not here while this node still answers.
                self.node.leaving.store(true, Ordering::SeqCst);
                let effects = self.detector.leave();
                self.carry_out(effects);
                let _ = done.send(());
            }
        }
    }
}
