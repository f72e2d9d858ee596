//! One simulated node: what it knows of the cluster and of who is up, its disk, the vnodes of its partitions, and the
//! machines that run. It is the part of a node that needs nobody else; what nodes say to each other is in
//! [`super::requests`] and [`super::transfers`].

use super::disk::Disk;
use super::{BATCH_ITEMS, SERVICE, Token, first_of_key};
use crate::completeness::Completeness;
use crate::gossip::detector::Availability;
use crate::ids::{Boot, NodeId, Partition};
use crate::limits::N_VAL_DEFAULT;
use crate::membership::{ClusterState, Possession, Report, Status};
use crate::mutant::{Mutant, planted};
use crate::preflist::RingView;
use crate::ring::RingSize;
use crate::transfer::receiving::{Fate, ReceivingEffect, fate_of};
use crate::transfer::repair::Awaited;
use crate::transfer::repair::may_be_asked;
use crate::transfer::schedule::{Repair, Running};
use crate::transfer::{
    Amount, Batch, DirtyKeys, GenerationId, Inbound, Into, Kind, Marked, Offer, Outbound, Place, Position,
    Receiving, Repairs, Schedule, Sending, SendingEffect, SendingEvent, SessionId,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub(super) struct Outward {
    pub(super) machine: Sending,
    pub(super) connection: u64,
    /// What is sent, in order; taken when it is first read.
    snapshot: Option<Vec<(u8, u64)>>,
}

pub(super) struct Incoming {
    pub(super) machine: Receiving,
    pub(super) connection: u64,
    pub(super) partition: Partition,
    pub(super) into: Into,
}

/// What waits for a thread of the node.
#[derive(Debug)]
pub(super) enum Job {
    Send(SessionId, SendingEffect),
    Receive(SessionId, ReceivingEffect),
    Synced(SessionId, u64),
    Judge(u64, SessionId, NodeId, Box<Offer>),
    CutOff(SessionId),
}

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) up: bool,
    /// It has not asked to join yet.
    pub(super) outside: bool,
    pub(super) boot: u32,
    /// In which life others see it: raised by a start, and when it learns that it was taken for down.
    pub(super) life: u64,
    pub(super) sessions: u64,
    /// Kept in a file of its own, synced at every change.
    pub(super) state: ClusterState,
    /// The ring's file is gone with the disk.
    pub(super) ring_lost: bool,
    pub(super) completeness: Completeness,
    /// What was complete where it came from, with the life to which that was said.
    pub(super) inherited: BTreeMap<Partition, u64>,
    pub(super) seen: BTreeMap<NodeId, (u64, Availability)>,
    pub(super) disk: Disk,
    dirty: BTreeMap<Partition, DirtyKeys>,
    pub(super) frozen: BTreeSet<Partition>,
    pub(super) sending: BTreeMap<SessionId, Outward>,
    pub(super) receiving: Vec<Incoming>,
    pub(super) schedule: Schedule,
    pub(super) jobs: VecDeque<Job>,
    pub(super) held_jobs: Vec<(Partition, Job)>,
    pub(super) repairs: Repairs,
    /// Repairs that others have asked for.
    pub(super) asked: BTreeSet<Repair>,
    /// Merged for clients and not synced.
    pub(super) unsynced: BTreeSet<Token>,
    /// Confirmations that wait for a sync: the write, which of its replicas this is, and where.
    pub(super) to_confirm: Vec<(usize, usize, Partition)>,
    /// Those that wait no more.
    pub(super) synced: Vec<(usize, usize, Partition)>,
}

impl Node {
    pub(super) fn new(id: NodeId, state: ClusterState, mark: u64) -> Self {
        let completeness = Completeness::new(id, &state);
        let disk = Disk::new(state.size().count(), mark);
        let mut node = Self {
            id,
            up: true,
            outside: false,
            boot: 1,
            life: 1,
            sessions: 0,
            state,
            ring_lost: false,
            completeness,
            inherited: BTreeMap::new(),
            seen: BTreeMap::new(),
            disk,
            dirty: BTreeMap::new(),
            frozen: BTreeSet::new(),
            sending: BTreeMap::new(),
            receiving: Vec::new(),
            schedule: Schedule::default(),
            jobs: VecDeque::new(),
            held_jobs: Vec::new(),
            repairs: Repairs::default(),
            asked: BTreeSet::new(),
            unsynced: BTreeSet::new(),
            to_confirm: Vec::new(),
            synced: Vec::new(),
        };
        node.report();
        node
    }

    pub(super) fn possession(&self, partition: Partition) -> Possession {
        self.state.possession()[usize::from(partition.0)]
    }

    pub(super) fn holds(&self, partition: Partition) -> bool {
        self.possession(partition).holder == self.id
    }

    pub(super) fn is_member(&self) -> bool {
        self.state.status(self.id).is_some_and(|status| status != Status::Removed)
    }

    /// Who is up and has been met.
    pub(super) fn up(&self) -> BTreeSet<NodeId> {
        let up = self.seen.iter().filter(|(_, (_, availability))| *availability == Availability::Up);
        up.map(|(node, _)| *node).collect()
    }

    /// Partitions whose data this node holds and has not got.
    pub(super) fn lacking(&self) -> BTreeSet<Partition> {
        let lost = self.disk.vaults().filter(|(_, vault)| vault.lost);
        lost.map(|(partition, _)| partition).filter(|partition| self.holds(*partition)).collect()
    }

    pub(super) fn incomplete(&self) -> BTreeSet<Partition> {
        self.completeness.incomplete(&self.state)
    }

    /// Of which others may hold something still.
    pub(super) fn in_doubt(&self) -> BTreeSet<Partition> {
        self.completeness.in_doubt(&self.state)
    }

    /// See [`may_be_asked`].
    pub(super) fn may_repair(&self, repair: Repair) -> bool {
        may_be_asked(&self.state, &self.in_doubt(), repair)
    }

    /// As if no replica but those in the two next partitions were a source.
    pub(super) fn ask_neighbours_only(&mut self) {
        let (size, awaited): (_, Vec<_>) = (self.state.size(), self.repairs.awaited().collect());
        for Awaited { partition, sources, .. } in awaited {
            let next = [size.clockwise(partition, 1), size.clockwise(partition, size.count() - 1)];
            for source in sources.into_iter().filter(|source| !next.contains(source)) {
                self.repairs.received(partition, source);
            }
        }
    }

    /// What requests see. A member that was neither met nor missed yet is not taken for down.
    pub(super) fn view(&self) -> RingView {
        let unknown = |node: NodeId| (node, Availability::Suspect);
        let mut availability: BTreeMap<NodeId, Availability> =
            self.state.members().map(|(node, _)| unknown(node)).collect();
        availability.extend(self.seen.iter().map(|(node, (_, seen))| (*node, *seen)));
        RingView::new(self.id, Arc::new(self.state.clone()), &availability, self.incomplete())
    }

    /// What follows from a state that has changed, but for what is on the disk: see [`Self::settle`].
    pub(super) fn publish(&mut self) {
        self.completeness.observe(&self.state);
        if !planted(Mutant::CompleteAfterWipe) {
            let lacking = self.lacking();
            self.completeness.lose(lacking);
        }
        let life = self.life;
        self.inherited.retain(|_, theirs| *theirs == life);
        let come: Vec<Partition> =
            self.inherited.keys().copied().filter(|partition| self.holds(*partition)).collect();
        self.completeness.inherit(&come);
        self.inherited.retain(|partition, _| !come.contains(partition));
        self.report();
    }

    pub(super) fn doubt(&mut self) {
        self.completeness.doubt_everything();
    }

    /// Says what this node has for others, when that is news.
    pub(super) fn report(&mut self) {
        let known = self.state.reports().get(&self.id);
        let strays = self.hints().into_iter().filter(|partition| !self.holds(*partition)).collect();
        if known.is_some_and(|known| known.strays == strays && known.boot == Boot(self.boot)) {
            return;
        }
        let mut report = Report::first(Boot(self.boot));
        report.sequence = known.map_or(0, |known| known.sequence) + 1;
        report.services.insert(SERVICE.to_owned());
        report.strays = strays;
        self.state.report(self.id, report);
    }

    pub(super) fn has_hints(&self, partition: Partition) -> bool {
        let vault = self.disk.at(partition);
        !vault.sealed.is_empty() || (!self.holds(partition) && vault.is_filled(vault.live))
    }

    pub(super) fn hints(&self) -> BTreeSet<Partition> {
        self.state.size().partitions().filter(|partition| self.has_hints(*partition)).collect()
    }

    /// The process ends.
    pub(super) fn end(&mut self) {
        self.up = false;
        self.sending.clear();
        self.receiving.clear();
        self.schedule = Schedule::default();
        self.jobs.clear();
        self.held_jobs.clear();
        self.frozen.clear();
        self.dirty.clear();
        self.seen.clear();
        self.inherited.clear();
        self.repairs = Repairs::default();
        self.asked.clear();
        self.to_confirm.clear();
    }

    /// As if it were not kept what is lost.
    pub(super) fn forget_losses(&mut self) {
        for partition in self.state.size().partitions() {
            self.disk.write(partition, |vault| vault.lost = false);
        }
    }

    /// It begins another life, from what is on the disk.
    pub(super) fn start(&mut self) {
        self.up = true;
        self.boot += 1;
        self.life += 1;
        self.sessions = 0;
        self.disk.sync();
        self.unsynced.clear();
        self.completeness = Completeness::new(self.id, &self.state);
        let partitions: Vec<Partition> = self.state.size().partitions().collect();
        for partition in partitions {
            let vault = self.disk.at(partition);
            let found = DirtyKeys::found(vault.marks.iter().map(|key| vec![*key]));
            self.dirty.insert(partition, found);
            // Passed on, but the store does not know yet: nothing is to be merged into that generation any more.
            if self.bequeathed(partition, vault.live).is_some() {
                self.disk.seal_live(partition);
            }
            self.settle(partition);
        }
        self.publish();
    }

    /// The generation of the heir's for which possession of this one was passed on.
    pub(super) fn bequeathed(&self, partition: Partition, generation: GenerationId) -> Option<GenerationId> {
        let intent = self.disk.at(partition).intent.as_ref();
        intent.filter(|intent| intent.source == generation)?.bequeathed(self.possession(partition))
    }

    /// A turn of a vnode that serves: the change and its mark are one batch.
    pub(super) fn merge(&mut self, partition: Partition, key: u8, bits: u64) {
        let vault = self.disk.at(partition);
        let before = vault.generations.get(&vault.live).and_then(|items| items.get(&key)).copied();
        if before.unwrap_or_default() | bits == before.unwrap_or_default() {
            return;
        }
        let marks = vault.outbound.is_some();
        let dirty = self.dirty.entry(partition).or_default();
        let marked = marks.then(|| dirty.mark(vec![key]));
        self.disk.write(partition, |vault| {
            let live = vault.live;
            *vault.generations.entry(live).or_default().entry(key).or_default() |= bits;
            if marked == Some(Marked::New) {
                vault.marks.insert(key);
            }
        });
    }

    pub(super) fn sync(&mut self) {
        self.disk.sync();
        self.unsynced.clear();
        self.synced.append(&mut self.to_confirm);
    }

    pub(super) fn forget(&mut self, partition: Partition) {
        self.dirty.remove(&partition);
        self.disk.write(partition, |vault| {
            vault.outbound = None;
            vault.marks.clear();
        });
    }

    /// Hints of a partition that is held here now.
    pub(super) fn absorb(&mut self, partition: Partition) {
        for generation in self.disk.at(partition).sealed.clone() {
            let items = self.disk.at(partition).generations.get(&generation).cloned().unwrap_or_default();
            for (key, bits) in items {
                self.merge(partition, key, bits);
            }
            self.sync();
            self.drop_generation(partition, generation);
        }
    }

    pub(super) fn drop_generation(&mut self, partition: Partition, generation: GenerationId) {
        self.disk.drop_generation(partition, generation);
        self.sync();
    }

    /// What a changed state makes of the inbound generation. Says whether it was sealed.
    pub(super) fn settle(&mut self, partition: Partition) -> bool {
        let Some((possession, generation)) = self.disk.at(partition).inbound else { return false };
        match fate_of(possession, self.id, partition, &self.state) {
            Fate::Keep => false,
            Fate::Inherit => {
                self.disk.write(partition, |vault| {
                    if vault.is_filled(vault.live) {
                        vault.sealed.insert(vault.live);
                    } else {
                        vault.generations.remove(&vault.live);
                    }
                    vault.live = generation;
                    vault.inbound = None;
                    vault.lost = false;
                    for record in vault.records.values_mut().filter(|record| record.generation == generation)
                    {
                        record.inherited = true;
                    }
                });
                false
            }
            Fate::Seal => {
                self.disk.write(partition, |vault| {
                    vault.sealed.insert(generation);
                    vault.inbound = None;
                });
                true
            }
        }
    }

    pub(super) fn has_inherited(&mut self, partition: Partition, record: &Inbound) -> bool {
        self.settle(partition);
        let known = self.disk.at(partition).records.get(&record.sender);
        known.is_some_and(|known| known.inherited && known.generation == record.generation)
    }

    pub(super) fn running(&self) -> Vec<Running> {
        let running = self.sending.values().filter(|outward| !outward.machine.is_ended()).map(|outward| {
            let plan = outward.machine.plan();
            let revocable = outward.machine.is_revocable();
            let (session, kind, partition, to) = (plan.session, plan.kind, plan.partition, plan.to);
            Running { session, kind, partition, to, revocable }
        });
        running.collect()
    }

    pub(super) fn keep(&mut self, partition: Partition, record: Inbound) {
        self.disk.write(partition, |vault| {
            vault.records.insert(record.sender, record);
        });
    }

    /// Merges a batch; says whether its generation is still what it was.
    pub(super) fn store(
        &mut self,
        partition: Partition,
        into: Into,
        generation: GenerationId,
        batch: &Batch,
        record: Option<Inbound>,
    ) -> bool {
        let items: Vec<(u8, u64)> = batch.each().map(|item| decode(&item)).collect();
        match into {
            Into::Live => {
                if self.disk.at(partition).live != generation || !self.holds(partition) {
                    return false;
                }
                for (key, bits) in items {
                    self.merge(partition, key, bits);
                }
            }
            Into::Inbound | Into::NewInbound => {
                if self.disk.at(partition).inbound.is_none_or(|(_, inbound)| inbound != generation) {
                    return false;
                }
                self.disk.write(partition, |vault| {
                    let kept = vault.generations.entry(generation).or_default();
                    for (key, bits) in items {
                        *kept.entry(key).or_default() |= bits;
                    }
                });
            }
        }
        if let Some(record) = record {
            self.keep(partition, record);
        }
        true
    }

    /// The store's half of a flip: synced intent, then the state, then the seal.
    pub(super) fn pass_on(&mut self, partition: Partition, outbound: &Outbound) -> Option<Possession> {
        self.disk.write(partition, |vault| vault.intent = Some(outbound.clone()));
        self.sync();
        let possession = self.state.pass_on(self.id, partition)?;
        self.forget(partition);
        self.disk.seal_live(partition);
        Some(possession)
    }

    fn waiting(&self, partition: Partition) -> BTreeMap<u8, usize> {
        BTreeMap::from([(0, self.dirty.get(&partition).map_or(0, DirtyKeys::unfetched))])
    }

    /// Does what a transfer asks for that needs nobody else.
    pub(super) fn do_for_sending(
        &mut self,
        session: SessionId,
        effect: SendingEffect,
    ) -> Option<SendingEvent> {
        let partition = self.sending.get(&session)?.machine.plan().partition;
        match effect {
            SendingEffect::Seal => {
                if self.holds(partition) {
                    return Some(SendingEvent::Failed("held here now".into()));
                }
                let generation = self.disk.seal_live(partition);
                self.sync();
                let services = vec![SERVICE.to_owned()];
                Some(SendingEvent::Sealed { generation, services, estimate: Amount::default() })
            }
            SendingEffect::Mark { outbound, anew } => {
                if self.disk.at(partition).live != outbound.source {
                    return Some(SendingEvent::Failed("another generation lives".into()));
                }
                if anew {
                    self.forget(partition);
                }
                self.disk.write(partition, |vault| vault.outbound = Some(outbound));
                self.dirty.entry(partition).or_default().begin_session();
                self.take_snapshot(session);
                Some(SendingEvent::Marking { waiting: self.waiting(partition) })
            }
            SendingEffect::Scan { after, .. } => self.scan(session, &after),
            SendingEffect::Fetch { stream, .. } => {
                let dirty = self.dirty.entry(partition).or_default();
                let keys = dirty.fetch(BATCH_ITEMS);
                let waiting = dirty.unfetched();
                let vault = self.disk.at(partition);
                let live = vault.generations.get(&vault.live);
                let found = keys.iter().filter_map(|(key, _)| Some((key[0], *live?.get(&key[0])?)));
                let items = found.map(|(key, bits)| encode(key, bits)).collect();
                Some(SendingEvent::Fetched { stream, items, keys, waiting })
            }
            SendingEffect::Clean { keys, .. } => {
                for (key, change) in keys {
                    if self.dirty.entry(partition).or_default().acknowledged(&key, change) {
                        self.disk.write(partition, |vault| {
                            vault.marks.remove(&key[0]);
                        });
                    }
                }
                None
            }
            SendingEffect::Forget => {
                self.forget(partition);
                None
            }
            SendingEffect::Freeze => {
                self.frozen.insert(partition);
                Some(SendingEvent::Frozen { waiting: self.waiting(partition) })
            }
            SendingEffect::Send(_)
            | SendingEffect::Thaw
            | SendingEffect::Flip(_)
            | SendingEffect::Drop(_)
            | SendingEffect::Close(_) => None,
        }
    }

    fn take_snapshot(&mut self, session: SessionId) {
        let Some(outward) = self.sending.get_mut(&session) else { return };
        let plan = outward.machine.plan();
        let size = self.state.size();
        let (from, belongs): (Partition, Box<dyn Fn(u8) -> bool>) = match plan.kind {
            Kind::Repair { source } => {
                let partition = plan.partition;
                let both = move |key| belongs_to(size, key, partition) && belongs_to(size, key, source);
                (source, Box::new(both))
            }
            Kind::Hinted | Kind::Ownership => (plan.partition, Box::new(|_| true)),
        };
        let items = self.disk.at(from).generations.get(&plan.generation).cloned().unwrap_or_default();
        outward.snapshot = Some(items.into_iter().filter(|(key, _)| belongs(*key)).collect());
    }

    fn scan(&mut self, session: SessionId, after: &Position) -> Option<SendingEvent> {
        if self.sending.get(&session)?.snapshot.is_none() {
            self.take_snapshot(session);
        }
        let snapshot = self.sending.get(&session)?.snapshot.as_ref()?;
        let is_after = |key: u8| match after {
            Position::Start => true,
            Position::After(last) => [key][..] > last.key[..],
            Position::End => false,
        };
        let rest: Vec<&(u8, u64)> = snapshot.iter().filter(|(key, _)| is_after(*key)).collect();
        let chunk = &rest[..rest.len().min(BATCH_ITEMS)];
        let position = match chunk.last() {
            Some((key, _)) if chunk.len() < rest.len() => {
                Position::After(Place { stream: 0, key: vec![*key] })
            }
            _ => Position::End,
        };
        let items = chunk.iter().map(|(key, bits)| encode(*key, *bits)).collect();
        Some(SendingEvent::Scanned { stream: 0, items, position, unreadable: 0 })
    }

    pub(super) fn outward(machine: Sending, connection: u64) -> Outward {
        Outward { machine, connection, snapshot: None }
    }
}

/// Whether a partition has a replica of a key.
pub(super) fn belongs_to(size: RingSize, key: u8, partition: Partition) -> bool {
    (0..N_VAL_DEFAULT).any(|step| size.clockwise(first_of_key(key), step) == partition)
}

fn encode(key: u8, bits: u64) -> Bytes {
    [&[key][..], &bits.to_be_bytes()].concat().into()
}

fn decode(item: &Bytes) -> (u8, u64) {
    let (key, bits) = item.split_at(1);
    (key[0], u64::from_be_bytes(bits.try_into().unwrap()))
}
