//! A model of a whole cluster's data: three to five nodes on a ring of eight, a few keys, and clients that write at
//! w = 2 and read at r = 2 through preference lists with stand-ins, while members join, leave and claim, networks part,
//! processes are killed, machines lose what was not synced, and disks are lost whole. What decides is what decides in a
//! node: [`crate::membership::ClusterState`] with its plans, [`crate::preflist::RingView`], [`crate::quorum`],
//! [`crate::completeness::Completeness`], and the machines of [`crate::transfer`]. What the runtime does around them is
//! done here as simply as it can be: [`node`] and [`disk`] have what one node has, [`requests`] and [`transfers`] what
//! nodes say to each other, [`step`] what happens, [`laws`] what must hold.
//!
//! It knows one service, whose items are sets of bits. It does not know gossip's and the failure detector's datagrams:
//! who hears of what when, and who takes whom for down, is chance.
//!
//! Beside it, [`crate::transfer`] has a simulation of its own, of one partition: closer to single messages, and without
//! requests.

mod disk;
mod laws;
mod node;
mod requests;
mod step;
mod tests;
mod transfers;

use crate::gossip::detector::Availability;
use crate::ids::{ClusterId, NodeId, Partition};
use crate::membership::{ClusterState, Joiner, Member, Possession, Status, Target};
use crate::ring::{KeyHash, RingSize};
use crate::transfer::SessionId;
use bytes::Bytes;
use node::Node;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use requests::{Message, Read, Write};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use step::{Course, Omission, Step, What};

/// The service that all nodes run.
const SERVICE: &str = "kv";
/// Batches of a transfer on their way.
const WINDOW: u16 = 2;
/// Items in a batch, so that a few keys are several batches.
const BATCH_ITEMS: usize = 1;
/// The first partition of each key: replicas of most partitions share some keys and not others.
const FIRST: [u16; 6] = [0, 1, 2, 3, 5, 6];
/// Rounds in which everything comes to rest at the end.
const CALM_ROUNDS: usize = 2000;
/// What is remembered of a run, for when it goes wrong.
const LOG_LINES: usize = 400;

/// A confirmed copy: in which partition a write is, wherever that is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Token {
    partition: Partition,
    key: u8,
    bit: u8,
}

/// One connection, of one transfer.
struct Connection {
    sender: usize,
    receiver: usize,
    session: SessionId,
    forth: VecDeque<Bytes>,
    back: VecDeque<Vec<u8>>,
}

/// Somebody is taken for down, and does not know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Unaware {
    who: usize,
    by: usize,
    /// In which life of the one who does.
    boot: u32,
    /// It had not met the other in that life: to meet it is enough.
    unmet: bool,
}

/// What happened how often.
#[derive(Clone, Copy, Default, Debug)]
struct Counts {
    flips: u64,
    drops: u64,
    repaired: u64,
    wiped: u64,
    /// Reads that were, and were not, by two complete replicas.
    complete: u64,
    degraded: u64,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.flips += other.flips;
        self.drops += other.drops;
        self.repaired += other.repaired;
        self.wiped += other.wiped;
        self.complete += other.complete;
        self.degraded += other.degraded;
    }
}

/// See the module's head.
struct World {
    course: Course,
    nodes: Vec<Node>,
    /// On which side of a parted network each node is.
    sides: Vec<u8>,
    messages: Vec<Message>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    now_ms: u64,
    writes: Vec<Write>,
    reads: BTreeMap<usize, Read>,
    next_read: usize,
    next_bit: [u8; FIRST.len()],
    /// Copies that a replica has confirmed.
    confirmed: BTreeSet<Token>,
    /// Writes that were done, a bit each.
    acknowledged: [u64; FIRST.len()],
    /// Copies that went with a machine's unsynced writes, or with a disk.
    gone: BTreeSet<Token>,
    /// Of these a stand-in had the copy that is gone, and nobody knows that it had it.
    hurt: [u64; FIRST.len()],
    unaware: BTreeSet<Unaware>,
    counts: Counts,
    /// What went wrong first.
    broken: Option<String>,
    log: VecDeque<String>,
}

fn id(n: usize) -> NodeId {
    NodeId([n as u8 + 1; 16])
}

fn number(id: NodeId) -> usize {
    usize::from(id.0[0]) - 1
}

fn first_of_key(key: u8) -> Partition {
    Partition(FIRST[usize::from(key)])
}

/// A hash of which the first partition is the key's.
fn hash_of_key(key: u8) -> KeyHash {
    let arc = (FIRST[usize::from(key)] + 7) % 8;
    KeyHash([arc as u8 * 32 + 1; 20])
}

impl World {
    /// A cluster whose members hold the ring in turn, and nodes that may join it.
    fn new(seed: u64, course: Course) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(!seed);
        let member =
            |n: usize| Member::new(&format!("n{n}"), "127.0.0.1:1", None, Status::Valid, id(n)).unwrap();
        let size = RingSize::try_from(8).unwrap();
        let mut state = ClusterState::born(ClusterId([9; 16]), size, id(0), member(0));
        for n in 1..course.members {
            state.merge_member(id(n), &member(n));
        }
        let owners: Vec<NodeId> = (0..size.count()).map(|place| id(place % course.members)).collect();
        for (partition, owner) in size.partitions().zip(&owners) {
            if *owner != id(0) {
                state.adopt(partition, Possession::first(id(0)).passed_to(*owner));
            }
        }
        state.target = Target::new(1, id(0), owners);
        let all = course.members + course.others;
        let mut nodes: Vec<Node> =
            (0..all).map(|n| Node::new(id(n), state.clone(), random.random())).collect();
        for outside in &mut nodes[course.members..] {
            (outside.up, outside.outside) = (false, true);
        }
        let mut world = Self {
            course,
            nodes,
            sides: vec![0; all],
            messages: Vec::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            now_ms: 1000,
            writes: Vec::new(),
            reads: BTreeMap::new(),
            next_read: 0,
            next_bit: [0; FIRST.len()],
            confirmed: BTreeSet::new(),
            acknowledged: [0; FIRST.len()],
            gone: BTreeSet::new(),
            hurt: [0; FIRST.len()],
            unaware: BTreeSet::new(),
            counts: Counts::default(),
            broken: None,
            log: VecDeque::new(),
        };
        world.assemble();
        world
    }

    /// Everybody has met everybody, and knows that nobody has anything for it.
    fn assemble(&mut self) {
        self.introduce();
        for a in 0..self.course.members {
            for b in (0..self.course.members).filter(|b| *b != a) {
                let round = self.nodes[a].completeness.round();
                self.nodes[a].completeness.answered(id(b), round);
            }
            self.settle(a);
        }
    }

    /// Everybody meets everybody.
    fn introduce(&mut self) {
        for a in 0..self.course.members {
            for b in 0..self.course.members {
                self.gossip(a, b);
                self.meet(a, b);
            }
        }
    }

    fn without(&self, rule: Omission) -> bool {
        self.course.without == Some(rule)
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.log.len() >= LOG_LINES {
            self.log.pop_front();
        }
        self.log.push_back(what());
    }

    fn complain(&mut self, what: String) {
        if self.broken.is_none() {
            let log: Vec<String> = self.log.drain(..).collect();
            self.broken = Some(format!("{}\nBROKEN: {what}", log.join("\n")));
        }
    }

    fn reach(&self, a: usize, b: usize) -> bool {
        self.nodes[a].up && self.nodes[b].up && self.sides[a] == self.sides[b]
    }

    fn gossip(&mut self, from: usize, to: usize) {
        if from == to || !self.reach(from, to) {
            return;
        }
        let state = self.nodes[from].state.clone();
        if self.nodes[to].state.merge(&state).unwrap() {
            self.nodes[to].schedule.state_changed();
            self.settle(to);
        }
    }

    /// Node `a` hears that `b` is up. Where it had taken this life of it for down, `b` learns that first, and begins
    /// another.
    fn meet(&mut self, a: usize, b: usize) {
        if a == b || !self.reach(a, b) {
            return;
        }
        let known = self.nodes[a].seen.get(&id(b)).copied();
        if let Some((life, Availability::Down)) = known
            && life >= self.nodes[b].life
        {
            self.note(|| format!("n{b} learns from n{a} that it was taken for down"));
            let renewed = &mut self.nodes[b];
            renewed.life = life + 1;
            renewed.doubt();
            self.unaware.retain(|unaware| unaware.who != b);
            self.settle(b);
        }
        let life = self.nodes[b].life;
        self.nodes[a].seen.insert(id(b), (life, Availability::Up));
        if known.is_some_and(|(before, _)| before > 0 && life > before) {
            self.nodes[a].completeness.returned(id(b));
        }
        // Whatever `b` did for `a` in an earlier life, or before it had met it in this one: its word is asked anew.
        let boot = self.nodes[b].boot;
        self.unaware.retain(|unaware| {
            let settled = unaware.boot < boot || unaware.unmet;
            !(unaware.who == a && unaware.by == b && settled)
        });
        self.nodes[a].schedule.peer_ready(id(b));
        self.settle(a);
    }

    /// Node `a` takes `b` for down.
    fn miss(&mut self, a: usize, b: usize) {
        let may = self.course.alarms || !self.reach(a, b);
        if a == b || !may || !self.nodes[a].up || self.nodes[b].outside {
            return;
        }
        let known = self.nodes[a].seen.get(&id(b)).copied();
        let life = known.map_or(0, |(life, _)| life);
        if known.is_some_and(|(_, seen)| seen == Availability::Down) {
            return;
        }
        self.note(|| format!("n{a} takes n{b} for down"));
        self.nodes[a].seen.insert(id(b), (life, Availability::Down));
        if self.nodes[b].up && (known.is_none() || life == self.nodes[b].life) {
            let boot = self.nodes[a].boot;
            self.unaware.insert(Unaware { who: b, by: a, boot, unmet: known.is_none() });
        }
        self.settle(a);
    }

    /// A node asks to join, or an operator stages that one leaves, is elsewhere, or that all is claimed anew.
    fn stage(&mut self, at: usize, chosen: usize, kind: u16) {
        if !self.nodes[at].up {
            return;
        }
        if let Some(joiner) = (0..self.nodes.len()).find(|n| self.nodes[*n].outside)
            && kind.is_multiple_of(4)
        {
            return self.join(at, joiner);
        }
        let state = &mut self.nodes[at].state;
        let claiming = state.members().filter(|(_, member)| member.status().claims()).count();
        let node = id(chosen);
        match kind % 4 {
            1 if claiming > 3 => drop(state.stage_leave(node, id(at))),
            2 => drop(state.stage_location(node, Some(format!("l{}", kind / 4 % 3)), id(at))),
            _ => state.stage_rebalance(id(at)),
        }
        self.settle(at);
    }

    fn join(&mut self, at: usize, n: usize) {
        let joiner = Joiner {
            node: id(n),
            name: format!("n{n}"),
            address: format!("127.0.0.1:{n}"),
            location: None,
            ring_size: self.nodes[at].state.size(),
            member_of: None,
            rebuilds: false,
        };
        if self.nodes[at].state.admit(&joiner, id(at)).is_ok() {
            let state = self.nodes[at].state.clone();
            let node = &mut self.nodes[n];
            (node.up, node.outside, node.ring_lost, node.state) = (true, false, false, state);
            node.doubt();
            self.note(|| format!("n{n} asks n{at} to join"));
            self.settle(at);
            self.settle(n);
        }
    }

    /// Who believes to be the claimant commits what is staged, or, where nothing is, sends one partition elsewhere as
    /// another way to claim might.
    fn commit(&mut self, n: usize, partition: u16, owner: usize) {
        let node = &mut self.nodes[n];
        if !node.up || node.state.claimant() != Some(node.id) {
            return;
        }
        match node.state.plan() {
            Ok(plan) => {
                node.state.show_plan(&plan, id(n));
                node.state.commit(&plan, id(n)).unwrap();
            }
            Err(_) => {
                let claims = node.state.status(id(owner)).is_some_and(Status::claims);
                let mut owners = node.state.target().owners().to_vec();
                let place = usize::from(partition) % owners.len();
                if !claims || owners[place] == id(owner) {
                    return;
                }
                owners[place] = id(owner);
                node.state.target = Target::new(node.state.target().key().epoch + 1, id(n), owners);
            }
        }
        let owners: Vec<usize> = node.state.target().owners().iter().map(|owner| number(*owner)).collect();
        self.note(|| format!("n{n} commits {owners:?}"));
        self.settle(n);
    }

    /// An operator has seen that a node is down, as `at` sees it.
    fn mark_down(&mut self, at: usize, node: usize) {
        let sees = self.nodes[at].seen.get(&id(node)).map(|(_, seen)| *seen);
        if self.nodes[at].up && sees == Some(Availability::Down) {
            let _ = self.nodes[at].state.mark_down(id(node), id(at));
            self.note(|| format!("n{node} is marked down at n{at}"));
            self.settle(at);
        }
    }

    /// The process ends; what it has written is there.
    fn end(&mut self, n: usize) {
        self.nodes[n].end();
        if self.without(Omission::Remembered) {
            self.nodes[n].forget_losses();
        }
        self.messages.retain(|message| message.from != n && message.to != n);
        self.reads.retain(|_, read| read.via != n);
        let ends: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, open)| open.sender == n || open.receiver == n)
            .map(|(at, _)| *at)
            .collect();
        for connection in ends {
            self.cut(connection);
        }
    }

    fn start(&mut self, n: usize, from: usize) {
        if self.nodes[n].up || self.nodes[n].outside || !self.nodes[n].is_member() {
            return;
        }
        if self.nodes[n].ring_lost {
            let knows = |node: &Node| !node.outside && node.state.status(id(n)).is_some();
            let ready = self.nodes[from].up && self.sides[from] == self.sides[n];
            // It had asked to join one who has forgotten that with its own ring: it asks anew.
            self.nodes[n].outside = !self.nodes.iter().any(|node| node.id != id(n) && knows(node));
            if !ready || self.nodes[n].outside || !knows(&self.nodes[from]) {
                return;
            }
            self.nodes[n].state = self.nodes[from].state.clone();
            self.nodes[n].ring_lost = false;
        }
        self.nodes[n].start();
        self.unaware.retain(|unaware| unaware.who != n);
        self.note(|| format!("n{n} starts"));
        self.settle(n);
    }

    fn part(&mut self, mask: u16) {
        for (n, side) in self.sides.iter_mut().enumerate() {
            *side = (mask >> n & 1) as u8;
        }
        let sides = self.sides.clone();
        self.note(|| format!("the network parts: {sides:?}"));
        self.messages.retain(|message| sides[message.from] == sides[message.to]);
        let parted: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, open)| sides[open.sender] != sides[open.receiver])
            .map(|(at, _)| *at)
            .collect();
        for connection in parted {
            self.cut(connection);
        }
    }

    /// One step.
    fn apply(&mut self, step: Step) {
        let Step { what, a, b, c } = step;
        let (n, m) = (usize::from(a) % self.nodes.len(), usize::from(b) % self.nodes.len());
        let key = (usize::from(b) % FIRST.len()) as u8;
        self.now_ms += u64::from(c % 8);
        match what {
            What::Deliver => self.deliver(usize::from(a)),
            What::Carry => self.carry(usize::from(a), b.is_multiple_of(2)),
            What::Work => drop(self.work(n)),
            What::Look => {
                self.tick(n);
                self.look(n);
            }
            What::Gossip => self.gossip(n, m),
            What::Meet => self.meet(n, m),
            What::Miss => self.miss(n, m),
            What::Sync if self.nodes[n].up => self.nodes[n].sync(),
            What::Write => self.write(n, key),
            What::Read => self.read(n, key),
            What::Hurry => self.hurry(usize::from(a)),
            What::Stage => self.stage(n, m, c),
            What::Commit => self.commit(n, b, usize::from(c) % self.nodes.len()),
            What::MarkDown => self.mark_down(n, m),
            What::Kill if self.nodes[n].up => {
                self.note(|| format!("n{n} is killed"));
                self.end(n);
            }
            What::Stop => self.stop(n, usize::from(c)),
            What::Wipe => self.wipe(n, c.is_multiple_of(2)),
            What::Start => self.start(n, m),
            What::Part => self.part(c),
            What::Heal => self.part(0),
            What::Break => {
                let open: Vec<u64> = self.connections.keys().copied().collect();
                if let Some(connection) = open.get(usize::from(a) % open.len().max(1)) {
                    self.cut(*connection);
                }
            }
            What::Wait => self.now_ms += 500,
            What::Kill | What::Sync => {}
        }
        self.confirm_synced();
        self.check();
    }

    /// Everybody does what there is to do, in no order.
    fn round(&mut self, random: &mut Xoshiro256PlusPlus) {
        for n in 0..self.nodes.len() {
            self.tick(n);
            self.look(n);
            let other = random.random_range(0..self.nodes.len());
            self.meet(n, other);
            self.gossip(n, other);
            if self.nodes[n].up {
                self.nodes[n].sync();
            }
            self.confirm_synced();
        }
        for _ in 0..self.messages.len() + 2 {
            self.deliver(random.random_range(0..usize::from(u16::MAX)));
            self.carry(random.random_range(0..usize::from(u16::MAX)), random.random());
            let n = random.random_range(0..self.nodes.len());
            self.work(n);
            self.confirm_synced();
        }
        self.now_ms += 100;
        self.check();
    }

    /// Everything is healed, and all comes to rest.
    fn calm(&mut self, seed: u64) {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        self.part(0);
        for round in 0..CALM_ROUNDS {
            for n in 0..self.nodes.len() {
                let from = random.random_range(0..self.nodes.len());
                self.start(n, from);
            }
            self.round(&mut random);
            if self.broken.is_some() || (round % 16 == 0 && self.unrest().is_none()) {
                break;
            }
        }
        if let Some(unrest) = self.unrest() {
            self.complain(format!("it does not end: {unrest}"));
        }
        self.read_everything();
    }
}

/// Runs these steps and comes to rest. What went wrong, if anything, and what happened how often.
fn run(seed: u64, course: Course, steps: &[Step]) -> (Option<String>, Counts) {
    let mut world = World::new(seed, course);
    for step in steps {
        world.apply(*step);
        if world.broken.is_some() {
            return (world.broken, world.counts);
        }
    }
    world.calm(seed);
    (world.broken, world.counts)
}
