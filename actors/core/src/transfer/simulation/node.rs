//! One simulated node: its disk with all that could be left of it after a crash, the vnodes of one partition, and the
//! machines that run. Every write to the disk is a version of it; a sync forgets the versions before; a crash leaves
//! any version since the last sync.

use super::{BATCH_ITEMS, PARTITION};
use crate::ids::{Boot, Generation, NodeId};
use crate::membership::{ClusterState, Possession, Report};
use crate::transfer::message::{Batch, GenerationId, Kind, Offer, Place, Position, SessionId};
use crate::transfer::receiving::{Fate, Inbound, Into, Receiving, ReceivingEffect, fate_of};
use crate::transfer::schedule::{Running, Schedule};
use crate::transfer::sending::{Outbound, Sending, SendingEffect, SendingEvent};
use crate::transfer::{Amount, DirtyKeys, Marked};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What runs on every node.
pub(crate) const SERVICES: [&str; 2] = ["chat", "kv"];

pub(crate) type Items = BTreeMap<Place, u64>;

/// What the store has.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) generations: BTreeMap<GenerationId, Items>,
    /// Where merges go, as a holder or as a stand-in.
    pub(crate) live: GenerationId,
    /// Hints that nothing is merged into any more.
    pub(crate) sealed: BTreeSet<GenerationId>,
    pub(crate) inbound: Option<(Possession, GenerationId)>,
    pub(crate) outbound: Option<Outbound>,
    pub(crate) marks: BTreeSet<Place>,
    pub(crate) records: BTreeMap<NodeId, Inbound>,
    /// What is about to be passed on, or was.
    pub(crate) intent: Option<Outbound>,
    next: u32,
}

pub(crate) struct Outward {
    pub(crate) machine: Sending,
    pub(crate) connection: u64,
    pub(crate) snapshot: Vec<(Place, u64)>,
}

pub(crate) struct Incoming {
    pub(crate) machine: Receiving,
    pub(crate) connection: u64,
    pub(crate) into: Into,
}

/// What waits for a thread of the node.
#[derive(Debug)]
pub(crate) enum Job {
    Send(SessionId, SendingEffect),
    Receive(SessionId, ReceivingEffect),
    Synced(SessionId, u64),
    Judge(u64, SessionId, NodeId, Box<Offer>),
    CutOff(SessionId),
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) up: bool,
    pub(crate) boot: u32,
    pub(crate) sessions: u64,
    /// Kept in a file of its own, synced at every change.
    pub(crate) state: ClusterState,
    pub(crate) disk: Disk,
    /// What may be left after a crash, beside `disk` itself; the first is what is certain.
    past: Vec<Disk>,
    pub(crate) sending: Option<Outward>,
    pub(crate) receiving: Vec<Incoming>,
    pub(crate) schedule: Schedule,
    pub(crate) wake_at_ms: Option<u64>,
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) frozen: bool,
    pub(crate) held: Vec<(Place, bool)>,
    pub(crate) held_jobs: Vec<Job>,
    dirty: [DirtyKeys; 2],
    mark: u64,
    pub(crate) wiped: bool,
}

impl Disk {
    fn new(mark: u64) -> Self {
        let live = GenerationId { number: Generation(0), mark };
        Self {
            generations: BTreeMap::from([(live, Items::new())]),
            live,
            sealed: BTreeSet::new(),
            inbound: None,
            outbound: None,
            marks: BTreeSet::new(),
            records: BTreeMap::new(),
            intent: None,
            next: 1,
        }
    }
}

impl Node {
    pub(crate) fn new(id: NodeId, state: ClusterState, mark: u64) -> Self {
        let disk = Disk::new(mark);
        Self {
            id,
            up: true,
            boot: 1,
            sessions: 0,
            state,
            disk,
            past: Vec::new(),
            sending: None,
            receiving: Vec::new(),
            schedule: Schedule::default(),
            wake_at_ms: None,
            jobs: VecDeque::new(),
            frozen: false,
            held: Vec::new(),
            held_jobs: Vec::new(),
            dirty: Default::default(),
            mark,
            wiped: false,
        }
    }

    pub(crate) fn possession(&self) -> Possession {
        self.state.possession()[usize::from(PARTITION.0)]
    }

    /// One atomic batch of writes.
    fn write(&mut self, with: impl FnOnce(&mut Disk)) {
        self.past.push(self.disk.clone());
        with(&mut self.disk);
    }

    pub(crate) fn sync(&mut self) {
        self.past.clear();
    }

    /// What no crash can take away.
    pub(crate) fn certain(&self) -> &Disk {
        self.past.first().unwrap_or(&self.disk)
    }

    /// The process ends; with a choice the machine, too, and any version since the last sync is left.
    pub(crate) fn crash(&mut self, choice: Option<u64>) {
        self.up = false;
        if let Some(choice) = choice {
            self.past.push(self.disk.clone());
            self.disk = self.past.swap_remove(choice as usize % self.past.len());
        }
        self.past.clear();
        self.sending = None;
        self.receiving.clear();
        self.schedule = Schedule::default();
        self.jobs.clear();
        self.frozen = false;
        self.held.clear();
        self.held_jobs.clear();
        self.dirty = Default::default();
    }

    /// An empty disk, of which the generations are counted from 0 again.
    pub(crate) fn lose_disk(&mut self) {
        self.disk = Disk::new(self.fresh().mark);
        self.wiped = true;
    }

    pub(crate) fn restart(&mut self) {
        self.up = true;
        self.boot += 1;
        self.sessions = 0;
        for stream in 0..SERVICES.len() as u8 {
            let of_stream = self.disk.marks.iter().filter(|place| place.stream == stream);
            self.dirty[usize::from(stream)] = DirtyKeys::found(of_stream.map(|place| place.key.clone()));
        }
        // Passed on, but the store does not know yet: nothing is to be merged into that generation any more.
        if self.bequeathed(self.disk.live).is_some() {
            self.seal_live();
        }
    }

    /// The generation of the heir's for which possession of this one was passed on.
    pub(crate) fn bequeathed(&self, generation: GenerationId) -> Option<GenerationId> {
        let intent = self.disk.intent.as_ref().filter(|intent| intent.source == generation)?;
        intent.bequeathed(self.possession())
    }

    pub(crate) fn fresh(&mut self) -> GenerationId {
        self.mark = self.mark.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        GenerationId { number: Generation(self.disk.next), mark: self.mark }
    }

    fn seal_live(&mut self) -> GenerationId {
        let (old, fresh) = (self.disk.live, self.fresh());
        self.write(|disk| {
            disk.sealed.insert(old);
            disk.generations.insert(fresh, Items::new());
            disk.live = fresh;
            disk.next += 1;
        });
        old
    }

    fn filled(&self, generation: &GenerationId) -> bool {
        self.disk.generations.get(generation).is_some_and(|items| !items.is_empty())
    }

    pub(crate) fn has_hints(&self) -> bool {
        let holds = self.possession().holder == self.id;
        self.disk.sealed.iter().next().is_some() || (!holds && self.filled(&self.disk.live))
    }

    /// What is on the disk that should not be, when all is at rest.
    pub(crate) fn remains(&self) -> Option<&'static str> {
        if self.disk.inbound.is_some() {
            return Some("an inbound generation");
        }
        if self.disk.outbound.is_some() || !self.disk.marks.is_empty() {
            return Some("marks of a transfer");
        }
        if self.sending.is_some() || self.frozen {
            return Some("a transfer that runs");
        }
        (self.disk.generations.len() > 1).then_some("a generation that nobody names")
    }

    pub(crate) fn report(&mut self) {
        let before = self.state.reports().get(&self.id).map_or(0, |report| report.sequence);
        let mut report = Report::first(Boot(self.boot));
        report.sequence = before + 1;
        if self.has_hints() {
            report.strays.insert(PARTITION);
        }
        let same = self.state.reports().get(&self.id).is_some_and(|old| old.strays == report.strays);
        if !same || self.state.reports()[&self.id].boot != Boot(self.boot) {
            self.state.report(self.id, report);
        }
    }

    /// A turn of a vnode that serves: the change and its mark are one batch.
    pub(crate) fn merge(&mut self, place: &Place, bits: u64) {
        let live = self.disk.live;
        let before = self.disk.generations[&live].get(place).copied().unwrap_or_default();
        if before | bits == before {
            return;
        }
        let marks = self.disk.outbound.is_some();
        let marked = marks.then(|| self.dirty[usize::from(place.stream)].mark(place.key.clone()));
        self.write(|disk| {
            disk.generations.entry(live).or_default().insert(place.clone(), before | bits);
            if marked == Some(Marked::New) {
                disk.marks.insert(place.clone());
            }
        });
    }

    pub(crate) fn forget(&mut self) {
        self.dirty = Default::default();
        self.write(|disk| {
            disk.outbound = None;
            disk.marks.clear();
        });
    }

    /// Hints of a partition that is held here now.
    pub(crate) fn absorb(&mut self) {
        for generation in self.disk.sealed.clone() {
            for (place, bits) in self.disk.generations.get(&generation).cloned().unwrap_or_default() {
                self.merge(&place, bits);
            }
            self.sync();
            self.drop_generation(generation);
        }
    }

    pub(crate) fn drop_generation(&mut self, generation: GenerationId) {
        self.write(|disk| {
            disk.generations.remove(&generation);
            disk.sealed.remove(&generation);
            if disk.intent.as_ref().is_some_and(|intent| intent.source == generation) {
                disk.intent = None;
            }
        });
        self.sync();
    }

    /// What a changed state makes of the inbound generation. Says whether it was sealed.
    pub(crate) fn settle(&mut self) -> bool {
        let Some((possession, generation)) = self.disk.inbound else { return false };
        match fate_of(possession, self.id, PARTITION, &self.state) {
            Fate::Keep => false,
            Fate::Inherit => {
                let old = self.disk.live;
                let filled = self.filled(&old);
                self.write(|disk| {
                    if filled {
                        disk.sealed.insert(old);
                    } else {
                        disk.generations.remove(&old);
                    }
                    disk.live = generation;
                    disk.inbound = None;
                    for record in disk.records.values_mut().filter(|record| record.generation == generation) {
                        record.inherited = true;
                    }
                });
                false
            }
            Fate::Seal => {
                self.write(|disk| {
                    disk.sealed.insert(generation);
                    disk.inbound = None;
                });
                true
            }
        }
    }

    pub(crate) fn has_inherited(&mut self, record: &Inbound) -> bool {
        self.settle();
        let known = self.disk.records.get(&record.sender);
        known.is_some_and(|known| known.inherited && known.generation == record.generation)
    }

    pub(crate) fn running(&self) -> Vec<Running> {
        let running = self.sending.iter().filter(|outward| !outward.machine.is_ended()).map(|outward| {
            let plan = outward.machine.plan();
            Running {
                session: plan.session,
                kind: plan.kind,
                partition: plan.partition,
                to: plan.to,
                revocable: outward.machine.is_revocable(),
            }
        });
        running.collect()
    }

    pub(crate) fn begin_inbound(&mut self, record: &Inbound) {
        let (possession, generation) = (record.possession, record.generation);
        self.write(|disk| {
            disk.inbound = Some((possession, generation));
            disk.generations.insert(generation, Items::new());
            disk.next += 1;
        });
    }

    pub(crate) fn keep(&mut self, record: Inbound) {
        self.write(|disk| {
            disk.records.insert(record.sender, record);
        });
    }

    /// Merges a batch; says whether its generation is still what it was.
    pub(crate) fn store(
        &mut self,
        into: Into,
        generation: GenerationId,
        batch: &Batch,
        record: Option<Inbound>,
    ) -> bool {
        let items: Vec<(Place, u64)> = batch.each().map(|item| decode(batch.stream, &item)).collect();
        match into {
            Into::Live => {
                if self.disk.live != generation || self.possession().holder != self.id {
                    return false;
                }
                for (place, bits) in items {
                    self.merge(&place, bits);
                }
            }
            Into::Inbound | Into::NewInbound => {
                if self.disk.inbound.is_none_or(|(_, inbound)| inbound != generation) {
                    return false;
                }
                self.write(|disk| {
                    let kept = disk.generations.entry(generation).or_default();
                    for (place, bits) in items {
                        *kept.entry(place).or_default() |= bits;
                    }
                });
            }
        }
        if let Some(record) = record {
            self.keep(record);
        }
        true
    }

    /// The store's half of a flip: synced intent, then the state, then the seal.
    pub(crate) fn pass_on(&mut self, outbound: &Outbound) -> Option<Possession> {
        self.write(|disk| disk.intent = Some(outbound.clone()));
        self.sync();
        let possession = self.state.pass_on(self.id, PARTITION)?;
        self.forget();
        self.seal_live();
        Some(possession)
    }

    fn waiting(&self) -> BTreeMap<u8, usize> {
        self.dirty.iter().zip(0..).map(|(dirty, stream)| (stream, dirty.unfetched())).collect()
    }

    pub(crate) fn do_for_sending(&mut self, effect: SendingEffect) -> Option<SendingEvent> {
        match effect {
            SendingEffect::Seal => {
                if self.possession().holder == self.id {
                    return Some(SendingEvent::Failed("held here now".into()));
                }
                let generation = self.seal_live();
                self.sync();
                self.take_snapshot(generation);
                let services = SERVICES.map(str::to_owned).to_vec();
                Some(SendingEvent::Sealed { generation, services, estimate: Amount::default() })
            }
            SendingEffect::Mark { outbound, anew } => {
                if self.disk.live != outbound.source {
                    return Some(SendingEvent::Failed("another generation lives".into()));
                }
                if anew {
                    self.forget();
                }
                let source = outbound.source;
                self.write(|disk| disk.outbound = Some(outbound));
                self.dirty.iter_mut().for_each(DirtyKeys::begin_session);
                self.take_snapshot(source);
                Some(SendingEvent::Marking { waiting: self.waiting() })
            }
            SendingEffect::Scan { after, .. } => self.scan(&after),
            SendingEffect::Fetch { stream, .. } => {
                let keys = self.dirty[usize::from(stream)].fetch(BATCH_ITEMS);
                let live = &self.disk.generations[&self.disk.live];
                let items = keys.iter().filter_map(|(key, _)| {
                    let place = Place { stream, key: key.clone() };
                    live.get(&place).map(|bits| encode(&place, *bits))
                });
                let items = items.collect();
                let waiting = self.dirty[usize::from(stream)].unfetched();
                Some(SendingEvent::Fetched { stream, items, keys, waiting })
            }
            SendingEffect::Clean { stream, keys } => {
                for (key, change) in keys {
                    if self.dirty[usize::from(stream)].acknowledged(&key, change) {
                        self.write(|disk| {
                            disk.marks.remove(&Place { stream, key });
                        });
                    }
                }
                None
            }
            SendingEffect::Forget => {
                self.forget();
                None
            }
            SendingEffect::Freeze => {
                self.frozen = true;
                Some(SendingEvent::Frozen { waiting: self.waiting() })
            }
            SendingEffect::Send(_)
            | SendingEffect::Thaw
            | SendingEffect::Flip(_)
            | SendingEffect::Drop(_)
            | SendingEffect::Close(_) => None,
        }
    }

    fn take_snapshot(&mut self, generation: GenerationId) {
        let items = self.disk.generations.get(&generation).cloned().unwrap_or_default();
        if let Some(outward) = &mut self.sending {
            outward.snapshot = items.into_iter().collect();
        }
    }

    fn scan(&mut self, after: &Position) -> Option<SendingEvent> {
        let plan = self.sending.as_ref()?.machine.plan().clone();
        // A sealed generation does not change; it can be looked at when it is asked for.
        if plan.kind == Kind::Hinted {
            self.take_snapshot(plan.generation);
        }
        let snapshot = &self.sending.as_ref()?.snapshot;
        let rest: Vec<&(Place, u64)> = snapshot
            .iter()
            .filter(|(place, _)| match after {
                Position::Start => true,
                Position::After(last) => place > last,
                Position::End => false,
            })
            .collect();
        let stream = rest.first().map_or(0, |(place, _)| place.stream);
        let chunk: Vec<_> =
            rest.iter().take_while(|(place, _)| place.stream == stream).take(BATCH_ITEMS).collect();
        let position = match chunk.last() {
            Some((place, _)) if chunk.len() < rest.len() => Position::After(place.clone()),
            _ => Position::End,
        };
        let items = chunk.iter().map(|(place, bits)| encode(place, *bits)).collect();
        Some(SendingEvent::Scanned { stream, items, position, unreadable: 0 })
    }
}

fn encode(place: &Place, bits: u64) -> Bytes {
    [&place.key[..], &bits.to_be_bytes()].concat().into()
}

fn decode(stream: u8, item: &Bytes) -> (Place, u64) {
    let (key, bits) = item.split_at(item.len() - 8);
    (Place { stream, key: key.to_vec() }, u64::from_be_bytes(bits.try_into().unwrap()))
}
