//! Four nodes, one partition, two services, and everything that can happen to them, from one seed: transfers of both
//! kinds over connections that break, processes that are killed and lose what was not synced, networks that part, plans
//! of two claimants, and clients that write all the while. What the runtime does with effects is done here as simply as
//! it can be ([`shell`]); [`node`] has what lies on a disk and in a vnode. It is also the example for who builds the
//! runtime's shell.

pub(crate) mod node;
mod shell;

use super::message::{ForReceiver, ForSender, SessionId};
use super::receiving::{ReceivingEffect, ReceivingEvent};
use super::sending::{SendingEffect, SendingEvent};
use super::*;
use crate::ids::{ClusterId, NodeId, Partition};
use crate::membership::{ClusterState, Member, Status, Target};
use crate::ring::RingSize;
use bytes::Bytes;
use node::{Disk, Job, Node, SERVICES};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The partition that everything is about.
pub(crate) const PARTITION: Partition = Partition(3);
/// Batches on their way.
pub(crate) const WINDOW: u16 = 3;
/// Items in a batch, so that a few keys are many batches.
pub(crate) const BATCH_ITEMS: usize = 2;
/// Bytes of an item.
pub(crate) const ITEM_BYTES: u64 = 9;

/// What may happen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Course {
    /// Steps before everything is healed.
    pub(crate) steps: usize,
    /// Keys in each service.
    pub(crate) keys: u8,
    /// Clients write.
    pub(crate) writes: bool,
    /// Connections break.
    pub(crate) cuts: bool,
    /// The network parts.
    pub(crate) parts: bool,
    /// Processes are killed.
    pub(crate) crashes: bool,
    /// Processes are killed, and nothing of what they wrote is lost.
    pub(crate) kills: bool,
    /// Nodes lose their disks, and keep their ids; only such as have nothing that is nowhere else.
    pub(crate) wipes: bool,
    /// The target changes.
    pub(crate) plans: bool,
    /// Hints come into being without a failure: the stand-in thought the holder down.
    pub(crate) false_alarms: bool,
}

/// One connection, of one transfer.
#[derive(Debug)]
struct Connection {
    sender: usize,
    receiver: usize,
    session: SessionId,
    forth: VecDeque<Bytes>,
    back: VecDeque<Vec<u8>>,
}

/// See the module's head.
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    random: Xoshiro256PlusPlus,
    now_ms: u64,
    course: Course,
    /// On which side of a parted network each node is.
    sides: Vec<u8>,
    /// Acknowledged writes: place and bit.
    acknowledged: BTreeSet<(Place, u8)>,
    next_bit: BTreeMap<Place, u8>,
    /// What went wrong.
    pub(crate) broken: Vec<String>,
    /// Bytes of batches that were sent, and how often a connection ended.
    pub(crate) sent_bytes: u64,
    pub(crate) interruptions: u64,
    pub(crate) flips: u64,
    pub(crate) drops: u64,
    pub(crate) resumed: u64,
    /// What happened last.
    pub(crate) log: VecDeque<String>,
}

fn id(n: usize) -> NodeId {
    NodeId([n as u8 + 1; 16])
}

fn number(id: NodeId) -> usize {
    usize::from(id.0[0]) - 1
}

impl World {
    /// A cluster in which the first node holds the partition.
    pub(crate) fn new(seed: u64, nodes: usize, course: Course) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let member =
            |n: usize| Member::new(&format!("n{n}"), "127.0.0.1:1", None, Status::Valid, id(n)).unwrap();
        let size = RingSize::try_from(8).unwrap();
        let mut state = ClusterState::born(ClusterId([9; 16]), size, id(0), member(0));
        for n in 1..nodes {
            state.merge_member(id(n), &member(n));
        }
        let nodes: Vec<Node> = (0..nodes).map(|n| Node::new(id(n), state.clone(), random.random())).collect();
        let sides = vec![0; nodes.len()];
        Self {
            nodes,
            connections: BTreeMap::new(),
            next_connection: 0,
            random,
            now_ms: 1000,
            course,
            sides,
            acknowledged: BTreeSet::new(),
            next_bit: BTreeMap::new(),
            broken: Vec::new(),
            sent_bytes: 0,
            interruptions: 0,
            flips: 0,
            drops: 0,
            resumed: 0,
            log: VecDeque::new(),
        }
    }

    pub(crate) fn any(&mut self, below: usize) -> usize {
        self.random.random_range(0..below.max(1))
    }

    fn reach(&self, a: usize, b: usize) -> bool {
        self.nodes[a].up && self.nodes[b].up && self.sides[a] == self.sides[b]
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if self.log.len() >= 80 {
            self.log.pop_front();
        }
        let text = what();
        self.log.push_back(format!("{} {text}", self.now_ms));
    }

    fn complain(&mut self, what: String) {
        if self.broken.is_empty() {
            self.broken.extend(self.log.drain(..));
            self.broken.push(what);
        }
    }

    /// Every key has a value at the holder, synced.
    pub(crate) fn fill(&mut self) {
        for stream in 0..SERVICES.len() as u8 {
            for key in 0..self.course.keys {
                self.write_at(0, Place { stream, key: vec![key] }, true);
            }
        }
    }

    fn write_at(&mut self, n: usize, place: Place, sync: bool) {
        let bit = self.next_bit.entry(place.clone()).or_default();
        if *bit >= 64 {
            return;
        }
        let this = *bit;
        *bit += 1;
        self.note(|| format!("n{n} write {this} of {place:?} sync {sync}"));
        self.nodes[n].merge(&place, 1 << this);
        if sync {
            self.nodes[n].sync();
            self.acknowledged.insert((place, this));
        }
    }

    /// A client's write, through a node that knows what it knows.
    fn write(&mut self) {
        let via = self.any(self.nodes.len());
        let stream = self.any(SERVICES.len()) as u8;
        let place = Place { stream, key: vec![self.any(usize::from(self.course.keys)) as u8] };
        let sync = self.any(3) > 0;
        if !self.nodes[via].up {
            return;
        }
        let shown = self.nodes[via].possession();
        let holder = number(shown.holder);
        let alarm = self.course.false_alarms && self.any(20) == 0;
        if self.reach(via, holder) && !alarm {
            let ours = self.nodes[holder].possession();
            if ours.max(shown).holder != id(holder) {
                return self.gossip(holder, via);
            }
            if self.nodes[holder].frozen {
                return self.nodes[holder].held.push((place, sync));
            }
            return self.write_at(holder, place, sync);
        }
        let stand_in = self.any(self.nodes.len());
        if stand_in != holder && self.reach(via, stand_in) {
            self.gossip(via, stand_in);
            let known = self.nodes[stand_in].possession();
            if known == shown && (alarm || !self.reach(stand_in, holder)) {
                self.write_at(stand_in, place, sync);
            }
        }
    }

    fn thaw(&mut self, n: usize) {
        self.nodes[n].frozen = false;
        // In front of what came later, in their order.
        for job in std::mem::take(&mut self.nodes[n].held_jobs).into_iter().rev() {
            self.nodes[n].jobs.push_front(job);
        }
        for (place, sync) in std::mem::take(&mut self.nodes[n].held) {
            if self.nodes[n].possession().holder == id(n) {
                self.write_at(n, place, sync);
            }
        }
    }

    pub(crate) fn gossip(&mut self, from: usize, to: usize) {
        if from == to || !self.reach(from, to) {
            return;
        }
        let state = self.nodes[from].state.clone();
        if self.nodes[to].state.merge(&state).unwrap() {
            self.nodes[to].schedule.state_changed();
            self.settle(to);
        }
    }

    /// What a changed state makes of what is on the disk.
    fn settle(&mut self, n: usize) {
        let possession = self.nodes[n].possession();
        let wished = self.nodes[n].state.target().owners()[usize::from(PARTITION.0)];
        self.note(|| format!("n{n} settles {possession:?} target {wished}"));
        if self.nodes[n].settle() {
            // The generation that was being filled is a hint now.
            let ended: Vec<SessionId> = self.nodes[n]
                .receiving
                .iter()
                .filter(|incoming| incoming.into != Into::Live)
                .map(|incoming| incoming.machine.session())
                .collect();
            for session in ended {
                self.receive(n, session, ReceivingEvent::Moved);
            }
        }
        let holds = self.nodes[n].possession().holder == id(n);
        let astray: Vec<SessionId> = self.nodes[n]
            .receiving
            .iter()
            .filter(|incoming| incoming.into == Into::Live && !holds)
            .map(|incoming| incoming.machine.session())
            .collect();
        for session in astray {
            self.receive(n, session, ReceivingEvent::Moved);
        }
    }

    /// A claimant, one of two, wants the partition elsewhere.
    pub(crate) fn plan(&mut self, claimant: usize, owner: usize) {
        let state = &mut self.nodes[claimant].state;
        let epoch = state.target().key().epoch + 1;
        let mut owners = state.target().owners().to_vec();
        owners[usize::from(PARTITION.0)] = id(owner);
        state.target = Target::new(epoch, id(claimant), owners);
        self.settle(claimant);
    }

    fn dispatch(&mut self, n: usize, session: SessionId, event: SendingEvent) {
        self.note(|| format!("n{n} sending {} {event:?}", session.number));
        let now_ms = self.now_ms;
        let Some(outward) = &mut self.nodes[n].sending else { return };
        if outward.machine.plan().session == session {
            let effects = outward.machine.on(now_ms, event);
            self.sent(n, session, effects);
        }
    }

    /// What is said leaves at once; everything else takes its time, in order.
    fn sent(&mut self, n: usize, session: SessionId, effects: Vec<SendingEffect>) {
        for effect in effects {
            match effect {
                SendingEffect::Send(says) => {
                    if let SenderSays::Batch(batch) = &says {
                        self.sent_bytes += batch.items.len() as u64;
                    }
                    let Some(connection) = self.nodes[n].sending.as_ref().map(|s| s.connection) else {
                        continue;
                    };
                    let mut bytes = Vec::new();
                    ForReceiver { session, says }.encode_into(&mut bytes).unwrap();
                    if let Some(connection) = self.connections.get_mut(&connection) {
                        connection.forth.push_back(bytes.into());
                    }
                }
                effect => self.nodes[n].jobs.push_back(Job::Send(session, effect)),
            }
        }
    }

    fn receive(&mut self, n: usize, session: SessionId, event: ReceivingEvent) {
        self.note(|| format!("n{n} receiving {} {event:?}", session.number));
        let now_ms = self.now_ms;
        let found = self.nodes[n].receiving.iter_mut().find(|incoming| incoming.machine.session() == session);
        let Some(incoming) = found else { return };
        let connection = incoming.connection;
        let effects = incoming.machine.on(now_ms, event);
        self.received(n, session, connection, effects);
    }

    fn received(&mut self, n: usize, session: SessionId, connection: u64, effects: Vec<ReceivingEffect>) {
        for effect in effects {
            match effect {
                ReceivingEffect::Send(says) => {
                    if matches!(&says, ReceiverSays::Accept { resume, .. } if *resume != Position::Start) {
                        self.resumed += 1;
                    }
                    self.answer(connection, session, says);
                }
                ReceivingEffect::Close(_) => {
                    self.nodes[n].receiving.retain(|incoming| incoming.machine.session() != session);
                }
                effect => self.nodes[n].jobs.push_back(Job::Receive(session, effect)),
            }
        }
    }

    fn answer(&mut self, connection: u64, session: SessionId, says: ReceiverSays) {
        let mut bytes = Vec::new();
        ForSender { session, says }.encode_into(&mut bytes).unwrap();
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.back.push_back(bytes);
        }
    }

    /// One message arrives, by chance.
    fn deliver(&mut self) -> bool {
        let open: Vec<u64> = self.connections.keys().copied().collect();
        let (chosen, forth) = (self.any(open.len()), self.any(2) == 0);
        open.get(chosen).is_some_and(|connection| self.deliver_on(*connection, forth))
    }

    /// So many messages of the transfer that `sender` sends arrive, in each direction.
    pub(crate) fn carry(&mut self, sender: usize, forth: usize, back: usize) {
        let Some(connection) = self.nodes[sender].sending.as_ref().map(|outward| outward.connection) else {
            return;
        };
        for (count, direction) in [(forth, true), (back, false)] {
            for _ in 0..count {
                self.deliver_on(connection, direction);
            }
        }
    }

    /// A node does everything that waits for its threads.
    pub(crate) fn work_off(&mut self, n: usize) {
        while self.work(n) {}
    }

    fn deliver_on(&mut self, chosen: u64, forth: bool) -> bool {
        let Some(connection) = self.connections.get_mut(&chosen) else { return false };
        let (sender, receiver, session) = (connection.sender, connection.receiver, connection.session);
        if forth {
            let Some(bytes) = connection.forth.pop_front() else { return false };
            let message = ForReceiver::decode(&bytes).unwrap();
            match message.says {
                SenderSays::Offer(offer) => {
                    self.nodes[receiver].jobs.push_back(Job::Judge(
                        chosen,
                        session,
                        id(sender),
                        Box::new(offer),
                    ));
                }
                says => self.receive(receiver, session, ReceivingEvent::Said(says)),
            }
        } else {
            let Some(bytes) = connection.back.pop_front() else { return false };
            let message = ForSender::decode(&bytes).unwrap();
            self.dispatch(sender, session, SendingEvent::Said(message.says));
        }
        true
    }

    /// A connection ends; what was on its way is lost. Each side that lives notices in its own time.
    fn cut(&mut self, connection: u64) {
        let Some(connection) = self.connections.remove(&connection) else { return };
        self.interruptions += 1;
        self.nodes[connection.sender].jobs.push_back(Job::CutOff(connection.session));
        self.nodes[connection.receiver].jobs.push_back(Job::CutOff(connection.session));
    }

    fn cut_all(&mut self, which: impl Fn(&Self, &Connection) -> bool) {
        let chosen: Vec<u64> =
            self.connections.iter().filter(|(_, c)| which(self, c)).map(|(key, _)| *key).collect();
        for connection in chosen {
            self.cut(connection);
        }
    }

    pub(crate) fn crash(&mut self, n: usize) {
        if self.nodes[n].up {
            self.cut_all(|_, connection| connection.sender == n || connection.receiver == n);
            let choice = self.random.random();
            self.nodes[n].crash((!self.course.kills).then_some(choice));
            self.note(|| format!("n{n} crashes"));
        }
    }

    fn wipe(&mut self, n: usize) {
        let node = &self.nodes[n];
        if node.up && node.possession().holder != node.id && !node.has_hints() {
            self.crash(n);
            self.nodes[n].lose_disk();
        }
    }

    pub(crate) fn restart(&mut self, n: usize) {
        if !self.nodes[n].up {
            self.nodes[n].restart();
            self.settle(n);
        }
    }

    /// One job of a node's own threads is done.
    fn work(&mut self, n: usize) -> bool {
        let Some(job) = self.nodes[n].jobs.pop_front() else { return false };
        self.note(|| format!("n{n} {job:?}"));
        match job {
            Job::CutOff(session) => {
                self.dispatch(n, session, SendingEvent::CutOff);
                self.receive(n, session, ReceivingEvent::CutOff);
            }
            Job::Judge(connection, session, from, offer) => self.judge(n, connection, session, from, offer),
            Job::Send(session, effect) => self.carry_out(n, session, effect),
            Job::Receive(session, effect) => self.take_in(n, session, effect),
            Job::Synced(session, sequence) => {
                self.nodes[n].sync();
                self.receive(n, session, ReceivingEvent::Stored { sequence, unreadable: 0 });
            }
        }
        true
    }

    /// Something happens, by chance.
    pub(crate) fn step(&mut self, calm: bool) {
        let waits = self.any(8) as u64;
        self.now_ms += waits;
        let n = self.any(self.nodes.len());
        let m = self.any(self.nodes.len());
        let course = self.course;
        match self.any(100) {
            0..=39 => {
                self.deliver();
            }
            40..=69 => {
                self.work(n);
            }
            70..=77 => self.decide(n),
            78..=81 => self.gossip(n, m),
            82..=83 => self.tick(n),
            84..=90 if course.writes && !calm => self.write(),
            91 if course.plans && !calm => {
                let claimant = self.any(2);
                if self.nodes[claimant].up && self.any(3) == 0 {
                    self.plan(claimant, m);
                }
            }
            92 if course.cuts && !calm => {
                let open: Vec<u64> = self.connections.keys().copied().collect();
                if !open.is_empty() {
                    let chosen = open[self.any(open.len())];
                    self.cut(chosen);
                }
            }
            93 if (course.crashes || course.kills) && !calm && self.any(3) == 0 => self.crash(n),
            94 => self.restart(n),
            95 if course.parts && !calm && self.any(4) == 0 => {
                self.sides[n] ^= 1;
                self.cut_all(|world, c| world.sides[c.sender] != world.sides[c.receiver]);
            }
            96 if !calm && self.any(2) == 0 => self.sides.fill(0),
            97 if self.nodes[n].up => self.nodes[n].sync(),
            99 if course.wipes && !calm && self.any(4) == 0 => self.wipe(n),
            // Time passes in which nothing happens: a deadline, a pause.
            98 if calm => self.now_ms += 300,
            _ => {}
        }
        self.check();
    }

    fn tick(&mut self, n: usize) {
        let sending =
            self.nodes[n].sending.as_ref().map(|s| (s.machine.plan().session, s.machine.wake_at_ms()));
        if let Some((session, Some(at))) = sending
            && at <= self.now_ms
        {
            self.dispatch(n, session, SendingEvent::Tick);
        }
        let due: Vec<SessionId> = self.nodes[n]
            .receiving
            .iter()
            .filter(|incoming| incoming.machine.wake_at_ms().is_some_and(|at| at <= self.now_ms))
            .map(|incoming| incoming.machine.session())
            .collect();
        for session in due {
            self.receive(n, session, ReceivingEvent::Tick);
        }
    }

    /// Nothing acknowledged is lost, whatever is not synced.
    fn check(&mut self) {
        let certain: Vec<&Disk> = self.nodes.iter().map(Node::certain).collect();
        let has = |place: &Place, bit: u8| {
            certain
                .iter()
                .flat_map(|disk| disk.generations.values())
                .any(|items| items.get(place).is_some_and(|bits| bits >> bit & 1 == 1))
        };
        if let Some((place, bit)) = self.acknowledged.iter().find(|(place, bit)| !has(place, *bit)) {
            let what = format!("at {} ms the write {bit} of {place:?} is nowhere for certain", self.now_ms);
            self.complain(what);
        }
    }

    /// What is not as it is to be when everything has come to rest.
    pub(crate) fn unrest(&self) -> Option<String> {
        let possession = self.nodes[0].possession();
        let holder = &self.nodes[number(possession.holder)];
        let target = self.nodes[0].state.target();
        for node in &self.nodes {
            if node.possession() != possession || node.state.target().key() != target.key() {
                return Some(format!("{:?} knows another state", node.id));
            }
            if node.has_hints() {
                return Some(format!("{:?} still has hints", node.id));
            }
            if let Some(what) = node.remains() {
                return Some(format!("{:?} has {what}", node.id));
            }
        }
        if target.owners()[usize::from(PARTITION.0)] != possession.holder {
            return Some("the target is not reached".into());
        }
        let live = &holder.disk.generations[&holder.disk.live];
        self.acknowledged
            .iter()
            .find(|(place, bit)| live.get(place).copied().unwrap_or_default() >> bit & 1 == 0)
            .map(|(place, bit)| format!("the holder lacks write {bit} of {place:?}"))
    }

    /// Runs its course, heals everything, and comes to rest within so many steps more. What went wrong, if anything.
    pub(crate) fn run(&mut self, calm_steps: usize) -> Vec<String> {
        for _ in 0..self.course.steps {
            self.step(false);
        }
        self.sides.fill(0);
        for n in 0..self.nodes.len() {
            self.restart(n);
        }
        for step in 0..calm_steps {
            self.step(true);
            if !self.broken.is_empty() || (step % 64 == 0 && self.unrest().is_none()) {
                break;
            }
        }
        if let Some(unrest) = self.unrest() {
            self.complain(format!("it does not end: {unrest}"));
        }
        std::mem::take(&mut self.broken)
    }
}
