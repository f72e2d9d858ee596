//! Many nodes' gossip in one process and virtual time: a discrete-event simulation of detectors and spreading
//! over a network that delays, loses and parts. It decides nothing about gossip; it measures it, and everything
//! it does follows from one seed. [`experiments`] asks it the questions that have bars.
//!
//! Messages take a random time of a few milliseconds. A node that is stopped finds its messages when it goes
//! on, after a late tick: the order that hurts most.

pub mod experiments;

use super::detector::{Availability, DetectorConfig, DetectorEffect, FailureDetector};
use super::spread::{Effects, GossipMessage, Peers, Shared, Spread, SpreadConfig, SpreadEffect};
use crate::ids::NodeId;
use crate::wire::codec;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

/// Sections of the simulated state, as many as a cluster state has about.
pub const SECTIONS: usize = 8;
/// What one section weighs in a message: a ring of 64 partitions and the members of a small cluster.
pub const SECTION_BYTES: u64 = 1024;

/// What is simulated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SimulationConfig {
    /// How many nodes.
    pub nodes: usize,
    /// Where all randomness comes from.
    pub seed: u64,
    /// The longest that a message takes; the shortest is 1.
    pub latency_ms_max: u64,
    /// Of a thousand messages, so many are lost.
    pub loss_per_mille: u32,
    /// Whether the nodes know each other to be up already, or begin by announcing themselves.
    pub joined: bool,
    /// The detectors' settings.
    pub detector: DetectorConfig,
    /// The spreading's settings.
    pub spread: SpreadConfig,
}

impl SimulationConfig {
    /// `nodes` that know each other, over a network that takes up to 5 ms and loses nothing.
    pub fn of(nodes: usize, seed: u64) -> Self {
        let (detector, spread) = (DetectorConfig::default(), SpreadConfig::default());
        Self { nodes, seed, latency_ms_max: 5, loss_per_mille: 0, joined: true, detector, spread }
    }
}

/// Each section is a counter that only grows; its version is a hash of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counters([u64; SECTIONS]);

type Versions = [u64; SECTIONS];
type Section = (u8, u64);
type Message = GossipMessage<Versions, Vec<Section>>;

impl Shared for Counters {
    type Digest = Versions;
    type Section = usize;
    type Part = Vec<Section>;

    fn digest(&self) -> Versions {
        // Spread over all 64 bits, as a real hash is: small numbers would be short on the wire.
        self.0.map(|counter| (counter + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn sections_differing(&self, theirs: &Versions) -> Vec<usize> {
        let mine = self.digest();
        (0..SECTIONS).filter(|section| mine[*section] != theirs[*section]).collect()
    }

    fn extract(&self, sections: &[usize]) -> Vec<Section> {
        sections.iter().map(|section| (*section as u8, self.0[*section])).collect()
    }
}

/// Bytes and messages sent since the last reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Of the detectors.
    pub detector_bytes: u64,
    /// Of the detectors.
    pub detector_messages: u64,
    /// Of the spreading.
    pub spread_bytes: u64,
    /// Of the spreading.
    pub spread_messages: u64,
}

#[derive(Clone)]
enum Event {
    Wake,
    Datagram { from: usize, bytes: Vec<u8> },
    Gossip { from: usize, message: Message },
}

struct Node {
    detector: FailureDetector,
    spread: Spread<Counters>,
    counters: Counters,
    alive: bool,
    stopped_until_ms: u64,
    waiting: Vec<Event>,
    wake_at_ms: u64,
    views: Vec<Availability>,
    /// Recomputed from `views` when they changed.
    peers: Option<(Vec<NodeId>, Vec<NodeId>)>,
}

/// Something an observer learned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Observation {
    /// When.
    pub at_ms: u64,
    /// Who learned it.
    pub observer: usize,
    /// Of whom.
    pub subject: usize,
    /// What.
    pub availability: Availability,
}

/// A cluster under simulation. Nodes are numbered from 0.
pub struct Simulation {
    config: SimulationConfig,
    random: Xoshiro256PlusPlus,
    now_ms: u64,
    nodes: Vec<Node>,
    events: BTreeMap<(u64, u64), (usize, Event)>,
    events_counted: u64,
    /// Nodes below this number do not hear those from it on.
    split_at: Option<usize>,
    traffic: Traffic,
    /// For each node, how many see it down and how many see it up.
    seen_down: Vec<usize>,
    seen_up: Vec<usize>,
    observations: Vec<Observation>,
    renewals: Vec<u64>,
}

fn id_of(number: usize) -> NodeId {
    let mut bytes = [0x5A; 16];
    bytes[8..].copy_from_slice(&(number as u64).to_be_bytes());
    NodeId(bytes)
}

fn number_of(id: NodeId) -> usize {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.0[8..]);
    u64::from_be_bytes(bytes) as usize
}

impl Simulation {
    /// A cluster at time 0. The nodes start at random times of the first half second.
    pub fn new(config: SimulationConfig) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(config.seed);
        let ids: Vec<NodeId> = (0..config.nodes).map(id_of).collect();
        let mut simulation = Self {
            config,
            now_ms: 0,
            nodes: Vec::with_capacity(config.nodes),
            events: BTreeMap::new(),
            events_counted: 0,
            split_at: None,
            traffic: Traffic::default(),
            seen_down: vec![config.nodes.saturating_sub(1); config.nodes],
            seen_up: vec![0; config.nodes],
            observations: Vec::new(),
            renewals: vec![0; config.nodes],
            random: Xoshiro256PlusPlus::seed_from_u64(random.random()),
        };
        for number in 0..config.nodes {
            let start_ms = random.random_range(0..config.detector.probe_interval_ms.max(1));
            let mut detector =
                FailureDetector::new(id_of(number), 1, random.random(), start_ms, config.detector);
            let first = detector.set_members(&ids);
            let counters = Counters([0; SECTIONS]);
            let spread = Spread::new(start_ms, random.random(), config.spread, &counters);
            let mut views = vec![Availability::Down; config.nodes];
            views[number] = Availability::Up;
            if config.joined {
                detector.assume_up();
                views.fill(Availability::Up);
            }
            simulation.nodes.push(Node {
                detector,
                spread,
                counters,
                alive: true,
                stopped_until_ms: 0,
                waiting: Vec::new(),
                wake_at_ms: u64::MAX,
                views,
                peers: None,
            });
            simulation.wake(number, start_ms);
            if !config.joined {
                simulation.detector_effects(number, first);
            }
        }
        if config.joined {
            simulation.seen_down.fill(0);
            simulation.seen_up.fill(config.nodes.saturating_sub(1));
        }
        simulation
    }

    /// The time.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Bytes and messages sent since the last call.
    pub fn take_traffic(&mut self) -> Traffic {
        std::mem::take(&mut self.traffic)
    }

    /// What was learned since the last call, in order.
    pub fn take_observations(&mut self) -> Vec<Observation> {
        std::mem::take(&mut self.observations)
    }

    /// What `observer` takes `subject` for.
    pub fn view(&self, observer: usize, subject: usize) -> Availability {
        self.nodes[observer].views[subject]
    }

    /// How many running nodes see `subject` down.
    pub fn seen_down(&self, subject: usize) -> usize {
        self.seen_down[subject]
    }

    /// Whether every running node sees every other running node up.
    pub fn all_see_all_up(&self) -> bool {
        let running = self.running();
        (0..self.nodes.len()).all(|n| !self.nodes[n].alive || self.seen_up[n] + 1 == running)
    }

    /// How many nodes run.
    pub fn running(&self) -> usize {
        self.nodes.iter().filter(|node| node.alive).count()
    }

    /// How often each node was told that it had been taken for down.
    pub fn renewals(&self) -> &[u64] {
        &self.renewals
    }

    /// Errors of foca that should not occur, over all nodes.
    pub fn irregularities(&self) -> u64 {
        self.nodes.iter().map(|node| node.detector.irregularities()).sum()
    }

    /// How many running nodes share the state of node `number`.
    pub fn sharing(&self, number: usize) -> usize {
        let counters = &self.nodes[number].counters;
        self.nodes.iter().filter(|node| node.alive && node.counters == *counters).count()
    }

    /// Node `number` is gone, without a word.
    pub fn crash(&mut self, number: usize) {
        self.nodes[number].alive = false;
        self.nodes[number].waiting.clear();
        for subject in 0..self.nodes.len() {
            if subject != number {
                self.count(number, subject, |seen| seen.saturating_sub(1));
            }
        }
    }

    /// Node `number` stands still until `until_ms`.
    pub fn stop_until(&mut self, number: usize, until_ms: u64) {
        self.nodes[number].stopped_until_ms = until_ms;
        // Its next wake-up is when it goes on, before anything that waits.
        self.wake(number, until_ms);
    }

    /// Nodes below `number` and those from it on no longer hear each other; none: all do.
    pub fn split(&mut self, at: Option<usize>) {
        self.split_at = at;
    }

    /// The connection of `observer` to `subject` breaks.
    pub fn break_connection(&mut self, observer: usize, subject: usize) {
        let effects = self.nodes[observer].detector.connection_lost(id_of(subject));
        self.detector_effects(observer, effects);
        let wake_ms = self.now_ms;
        self.wake(observer, wake_ms);
    }

    /// Node `number` leaves in good order.
    pub fn leave(&mut self, number: usize) {
        let effects = self.nodes[number].detector.leave();
        self.detector_effects(number, effects);
        self.crash(number);
    }

    /// Something changes in node `number`'s copy of the state.
    pub fn change(&mut self, number: usize) {
        let section = self.random.random_range(0..SECTIONS);
        let now_ms = self.now_ms;
        let node = &mut self.nodes[number];
        node.counters.0[section] += 1;
        node.spread.changed(now_ms, &node.counters);
        self.wake(number, now_ms);
    }

    /// Runs until `until_ms`.
    pub fn run_until(&mut self, until_ms: u64) {
        while self.step(until_ms) {}
        self.now_ms = self.now_ms.max(until_ms);
    }

    /// Runs until `done`, and says when that was; none when it was not before `until_ms`.
    pub fn run_until_seen(&mut self, until_ms: u64, done: impl Fn(&Self) -> bool) -> Option<u64> {
        loop {
            if done(self) {
                return Some(self.now_ms);
            }
            if !self.step(until_ms) {
                return None;
            }
        }
    }

    /// Runs until all running nodes have the state of node `number`, and says when that was.
    pub fn run_until_shared(&mut self, until_ms: u64, number: usize) -> Option<u64> {
        let mut looked_at_ms = None;
        loop {
            // Once a millisecond: comparing all at each event would be most of the work.
            if looked_at_ms != Some(self.now_ms) {
                looked_at_ms = Some(self.now_ms);
                if self.sharing(number) == self.running() {
                    return Some(self.now_ms);
                }
            }
            if !self.step(until_ms) {
                return None;
            }
        }
    }

    fn step(&mut self, until_ms: u64) -> bool {
        let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= until_ms) else {
            return false;
        };
        let ((at_ms, _), (number, event)) = entry.remove_entry();
        self.now_ms = at_ms;
        self.handle(number, event);
        true
    }

    fn handle(&mut self, number: usize, event: Event) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[number];
        if !node.alive {
            return;
        }
        if now_ms < node.stopped_until_ms {
            if !matches!(event, Event::Wake) {
                node.waiting.push(event);
            }
            return;
        }
        match event {
            Event::Wake if now_ms >= node.wake_at_ms => {
                node.wake_at_ms = u64::MAX;
                self.tick(number);
                for waiting in std::mem::take(&mut self.nodes[number].waiting) {
                    self.handle(number, waiting);
                }
            }
            Event::Wake => {}
            Event::Datagram { from, bytes } => {
                if let Ok(effects) = node.detector.datagram(id_of(from), &bytes) {
                    self.detector_effects(number, effects);
                }
            }
            Event::Gossip { from, message } => {
                let effects = node.spread.message(now_ms, id_of(from), message, &node.counters);
                self.spread_effects(number, effects);
            }
        }
        let node = &self.nodes[number];
        let wake_at_ms = node.detector.next_wakeup_ms().min(node.spread.next_wakeup_ms());
        self.wake(number, wake_at_ms);
    }

    fn tick(&mut self, number: usize) {
        let now_ms = self.now_ms;
        let effects = self.nodes[number].detector.tick(now_ms);
        self.detector_effects(number, effects);
        let node = &mut self.nodes[number];
        if node.spread.next_wakeup_ms() > now_ms {
            return;
        }
        let views = &node.views;
        let (available, down) = node.peers.get_or_insert_with(|| {
            let others = (0..views.len()).filter(|other| *other != number);
            let (up, down) = others.partition::<Vec<_>, _>(|other| views[*other] != Availability::Down);
            (up.into_iter().map(id_of).collect(), down.into_iter().map(id_of).collect())
        });
        let effects = node.spread.tick(now_ms, &node.counters, Peers { available, down });
        self.spread_effects(number, effects);
    }

    fn detector_effects(&mut self, number: usize, effects: Vec<DetectorEffect>) {
        for effect in effects {
            match effect {
                DetectorEffect::Send { to, datagram } => {
                    self.traffic.detector_bytes += datagram.len() as u64;
                    self.traffic.detector_messages += 1;
                    self.send(number, number_of(to), Event::Datagram { from: number, bytes: datagram });
                }
                DetectorEffect::Changed { node, availability, .. } => {
                    let subject = number_of(node);
                    self.count(number, subject, |seen| seen.saturating_sub(1));
                    self.nodes[number].views[subject] = availability;
                    self.nodes[number].peers = None;
                    self.count(number, subject, |seen| seen + 1);
                    let at_ms = self.now_ms;
                    self.observations.push(Observation { at_ms, observer: number, subject, availability });
                }
                DetectorEffect::Renewed { .. } => self.renewals[number] += 1,
            }
        }
    }

    fn spread_effects(&mut self, number: usize, effects: Effects<Counters>) {
        for effect in effects {
            match effect {
                SpreadEffect::Send { to, message } => {
                    let sections = match &message {
                        GossipMessage::Part { part, .. } => part.len() as u64,
                        _ => 0,
                    };
                    let encoded = codec::encode(&message).map_or(0, |bytes| bytes.len() as u64);
                    self.traffic.spread_bytes += encoded + sections * SECTION_BYTES;
                    self.traffic.spread_messages += 1;
                    self.send(number, number_of(to), Event::Gossip { from: number, message });
                }
                SpreadEffect::Merge { from, part, versions } => {
                    let node = &mut self.nodes[number];
                    for (section, counter) in part {
                        let mine = &mut node.counters.0[usize::from(section) % SECTIONS];
                        *mine = counter.max(*mine);
                    }
                    let effects = node.spread.merged(self.now_ms, from, versions, &node.counters);
                    self.spread_effects(number, effects);
                }
            }
        }
    }

    fn count(&mut self, observer: usize, subject: usize, count: impl Fn(usize) -> usize) {
        match self.nodes[observer].views[subject] {
            Availability::Up => self.seen_up[subject] = count(self.seen_up[subject]),
            Availability::Down => self.seen_down[subject] = count(self.seen_down[subject]),
            Availability::Suspect => {}
        }
    }

    fn send(&mut self, from: usize, to: usize, event: Event) {
        let parted = self.split_at.is_some_and(|at| (from < at) != (to < at));
        let lost = self.random.random_range(0..1000) < self.config.loss_per_mille;
        let latency_ms = self.random.random_range(1..=self.config.latency_ms_max.max(1));
        if !parted && !lost {
            self.post(self.now_ms + latency_ms, to, event);
        }
    }

    fn wake(&mut self, number: usize, at_ms: u64) {
        let at_ms = at_ms.max(self.now_ms);
        if at_ms < self.nodes[number].wake_at_ms || at_ms == self.nodes[number].stopped_until_ms {
            self.nodes[number].wake_at_ms = at_ms;
            self.post(at_ms, number, Event::Wake);
        }
    }

    fn post(&mut self, at_ms: u64, to: usize, event: Event) {
        self.events_counted += 1;
        self.events.insert((at_ms, self.events_counted), (to, event));
    }
}

#[cfg(test)]
mod tests;
