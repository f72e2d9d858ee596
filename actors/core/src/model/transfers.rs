//! What a simulated node does for transfers: looks what is to run, judges offers, carries effects out, jobs in their
//! order. Each job is one turn of one thread; between two of them anything may happen.

use super::node::{Incoming, Job, Node, belongs_to};
use super::requests::Says;
use super::step::Omission;
use super::{Connection, SERVICE, WINDOW, World, id, number};
use crate::ids::{Boot, NodeId, Partition};
use crate::membership::Status;
use crate::transfer::message::{ForReceiver, ForSender};
use crate::transfer::receiving::{
    self, Judgement, Outgoing, ReceivingEffect, ReceivingEvent, ReceivingOutcome,
};
use crate::transfer::receiving::{Into, Receiving, Situation};
use crate::transfer::schedule::{Repair, Start, Surroundings};
use crate::transfer::sending::{Flip, Outbound, Outcome, Sending, SendingEffect, SendingEvent, SendingPlan};
use crate::transfer::{Amount, Kind, Offer, ReceiverSays, Refusal, SenderSays, SessionId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Transfers that may run out of a node, and into it.
const LIMIT: u32 = 4;

impl World {
    /// A node looks at what is to be done: duties of a member, questions, empty partitions, transfers.
    pub(super) fn look(&mut self, n: usize) {
        if !self.nodes[n].up || self.nodes[n].outside {
            return;
        }
        self.duties(n);
        if !self.nodes[n].up {
            return;
        }
        self.ask(n);
        self.repair_from_own(n);
        self.pass_on_what_is_empty(n);
        self.end_repairs(n);
        let now_ms = self.now_ms;
        let lacking = self.stays(n);
        let node = &mut self.nodes[n];
        let up = node.up();
        let hints = node.hints();
        let outbound: BTreeMap<Partition, NodeId> = node
            .disk
            .vaults()
            .filter_map(|(partition, vault)| Some((partition, vault.outbound.as_ref()?.heir)))
            .collect();
        let has_something = |partition: &Partition| {
            let vault = node.disk.at(*partition);
            vault.is_filled(vault.live) || vault.outbound.is_some()
        };
        // What lacks something is repaired before it moves.
        let moves = |partition: &Partition| has_something(partition) && !lacking.contains(partition);
        let filled: BTreeSet<Partition> = node.state.held_by(node.id).filter(moves).collect();
        // A source that was lost sends what it has all the same.
        let useless = if self.course.without == Some(Omission::LostSource) {
            node.incomplete()
        } else {
            node.in_doubt()
        };
        let (me, state) = (node.id, &node.state);
        node.asked.retain(|repair| {
            state.holder(repair.partition) == Some(repair.to) && state.holder(repair.source) == Some(me)
        });
        let repairs: BTreeSet<Repair> =
            node.asked.iter().filter(|repair| !useless.contains(&repair.source)).copied().collect();
        let running = node.running();
        let around = Surroundings {
            me,
            state,
            up: &up,
            hints: &hints,
            filled: &filled,
            outbound: &outbound,
            repairs: &repairs,
            running: &running,
            limit: LIMIT,
            paused: false,
        };
        let decisions = node.schedule.decide(now_ms, &around);
        for (session, reason) in decisions.cancel {
            self.dispatch(n, session, SendingEvent::Cancel(reason));
        }
        for partition in decisions.forget {
            self.nodes[n].forget(partition);
        }
        for partition in decisions.absorb {
            if !self.nodes[n].frozen.contains(&partition) {
                self.nodes[n].absorb(partition);
            }
        }
        for start in decisions.start {
            self.begin(n, start);
        }
        self.settle(n);
    }

    /// What the state asks of a member.
    fn duties(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let me = node.id;
        if node.state.return_from_down(me) {
            node.doubt();
        }
        let has_strays = !node.hints().is_empty();
        node.state.exit_when_empty(me, has_strays);
        node.state.stage_own_join(me);
        node.state.remove_exited(me);
        node.state.take_from_removed(me);
        if node.state.wishes_to_removed(me) {
            let mut state = node.state.with_only_a_rebalance_staged(me);
            if let Ok(plan) = state.plan() {
                state.show_plan(&plan, me);
                if state.commit(&plan, me).is_ok() {
                    node.state = state;
                }
            }
        }
        if node.state.status(me) == Some(Status::Removed) {
            self.note(|| format!("n{n} has left"));
            self.end(n);
        }
        self.settle(n);
    }

    /// What is lost is repaired before it moves.
    fn stays(&self, n: usize) -> BTreeSet<Partition> {
        if self.without(Omission::LostStays) { BTreeSet::new() } else { self.nodes[n].lacking() }
    }

    /// Partitions with nothing in them go to their heirs at once.
    fn pass_on_what_is_empty(&mut self, n: usize) {
        let (node, lacking) = (&self.nodes[n], self.stays(n));
        let (up, incomplete) = (node.up(), node.incomplete());
        let bequests: Vec<(Partition, NodeId)> = node.state.bequests(node.id).collect();
        for (partition, heir) in bequests {
            let node = &mut self.nodes[n];
            let vault = node.disk.at(partition);
            let has_nothing = vault.sealed.is_empty()
                && vault.inbound.is_none()
                && vault.outbound.is_none()
                && !vault.is_filled(vault.live);
            if !up.contains(&heir) || !has_nothing || lacking.contains(&partition) {
                continue;
            }
            if let Some(possession) = node.state.pass_on(node.id, partition) {
                self.note(|| format!("n{n} passes {partition:?} on, empty, to n{}", number(heir)));
                if !incomplete.contains(&partition) {
                    self.tell_heir(n, partition, possession.holder);
                }
            }
        }
        self.settle(n);
    }

    fn tell_heir(&mut self, n: usize, partition: Partition, heir: NodeId) {
        let node = &self.nodes[n];
        let (possession, life) =
            (node.possession(partition), node.seen.get(&heir).map_or(0, |(life, _)| *life));
        self.send(n, number(heir), Says::Bequest { life, partition, possession });
    }

    /// What a source of the same node has is merged without a transfer.
    fn repair_from_own(&mut self, n: usize) {
        let (no_source, at_once) = (self.without(Omission::OwnSource), self.without(Omission::WordsFirst));
        let refuses_lost = self.without(Omission::LostSource);
        let node = &mut self.nodes[n];
        let (in_doubt, lacking) = (node.in_doubt(), node.lacking());
        for repair in node.repairs.own(&node.state, node.id) {
            let Repair { partition, source, .. } = repair;
            // A lost one has what it took in since, and the hints that have come home to it.
            if no_source || (refuses_lost && lacking.contains(&source)) {
                node.repairs.received(partition, source);
                continue;
            }
            let waits = in_doubt.contains(&source) || !(at_once || node.may_repair(repair));
            if waits || node.frozen.contains(&partition) {
                continue;
            }
            let vault = node.disk.at(source);
            for (key, bits) in vault.generations.get(&vault.live).cloned().unwrap_or_default() {
                if belongs_to(node.state.size(), key, partition) && belongs_to(node.state.size(), key, source)
                {
                    node.merge(partition, key, bits);
                }
            }
            node.sync();
            node.repairs.received(partition, source);
        }
    }

    /// What was lost and has come again from everywhere.
    fn end_repairs(&mut self, n: usize) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[n];
        for incoming in &node.receiving {
            if let Kind::Repair { source } = incoming.machine.record().kind {
                node.repairs.comes(now_ms, incoming.partition, source);
            }
        }
        for partition in node.repairs.repaired() {
            let node = &mut self.nodes[n];
            node.disk.write(partition, |vault| vault.lost = false);
            node.sync();
            node.completeness.repaired(partition);
            self.counts.repaired += 1;
            self.note(|| format!("n{n} has {partition:?} again"));
        }
    }

    /// A node's state has changed, or what is on its disk.
    pub(super) fn settle(&mut self, n: usize) {
        let partitions: Vec<Partition> = self.nodes[n].state.size().partitions().collect();
        for partition in partitions {
            let sealed = self.nodes[n].settle(partition);
            let holds = self.nodes[n].holds(partition);
            let astray = |incoming: &&Incoming| {
                let live = incoming.into == Into::Live;
                incoming.partition == partition && if live { !holds } else { sealed }
            };
            let ended: Vec<SessionId> = self.nodes[n]
                .receiving
                .iter()
                .filter(astray)
                .map(|incoming| incoming.machine.session())
                .collect();
            for session in ended {
                self.receive(n, session, ReceivingEvent::Moved);
            }
        }
        self.nodes[n].publish();
    }

    fn begin(&mut self, n: usize, start: Start) {
        let Start { kind, partition, to } = start;
        if !self.reach(n, number(to)) {
            return;
        }
        let now_ms = self.now_ms;
        let node = &mut self.nodes[n];
        node.sessions += 1;
        let session = SessionId { node: node.id, boot: Boot(node.boot), number: node.sessions };
        let vault = node.disk.at(partition);
        let eldest = vault.sealed.first().copied().filter(|_| kind == Kind::Hinted);
        let from = if let Kind::Repair { source } = kind { node.disk.at(source) } else { vault };
        let plan = SendingPlan {
            session,
            to,
            kind,
            partition,
            possession: node.possession(partition),
            target: node.state.target().key(),
            generation: eldest.unwrap_or(from.live),
            sealed: eldest.is_some(),
            services: vec![SERVICE.to_owned()],
            estimate: Amount::default(),
            outbound: vault.outbound.clone().filter(|_| kind == Kind::Ownership),
            bequeathed: eldest.and_then(|generation| node.bequeathed(partition, generation)),
            bytes_per_second: None,
        };
        self.note(|| format!("n{n} begins {} {kind:?} of {partition:?} to n{}", session.number, number(to)));
        let (machine, effects) = Sending::begin(plan, now_ms);
        let connection = self.next_connection;
        self.next_connection += 1;
        let (forth, back) = (VecDeque::new(), VecDeque::new());
        let opened = Connection { sender: n, receiver: number(to), session, forth, back };
        self.connections.insert(connection, opened);
        self.nodes[n].sending.insert(session, Node::outward(machine, connection));
        self.sent(n, session, effects);
    }

    pub(super) fn dispatch(&mut self, n: usize, session: SessionId, event: SendingEvent) {
        let now_ms = self.now_ms;
        let Some(outward) = self.nodes[n].sending.get_mut(&session) else { return };
        let effects = outward.machine.on(now_ms, event);
        self.sent(n, session, effects);
    }

    /// What is said leaves at once; everything else takes its time, in order.
    fn sent(&mut self, n: usize, session: SessionId, effects: Vec<SendingEffect>) {
        for effect in effects {
            match effect {
                SendingEffect::Send(says) => {
                    let connection = self.nodes[n].sending.get(&session).map(|outward| outward.connection);
                    let mut bytes = Vec::new();
                    ForReceiver { session, says }.encode_into(&mut bytes).unwrap();
                    if let Some(connection) = connection.and_then(|open| self.connections.get_mut(&open)) {
                        connection.forth.push_back(bytes.into());
                    }
                }
                effect => self.nodes[n].jobs.push_back(Job::Send(session, effect)),
            }
        }
    }

    pub(super) fn receive(&mut self, n: usize, session: SessionId, event: ReceivingEvent) {
        let now_ms = self.now_ms;
        let of_session = |incoming: &&mut Incoming| incoming.machine.session() == session;
        let Some(incoming) = self.nodes[n].receiving.iter_mut().find(of_session) else { return };
        let connection = incoming.connection;
        let effects = incoming.machine.on(now_ms, event);
        self.received(n, session, connection, effects);
    }

    fn received(&mut self, n: usize, session: SessionId, connection: u64, effects: Vec<ReceivingEffect>) {
        for effect in effects {
            match effect {
                ReceivingEffect::Send(says) => self.answer(connection, session, says),
                ReceivingEffect::Close(outcome) => {
                    let node = &mut self.nodes[n];
                    let at = node.receiving.iter().position(|incoming| incoming.machine.session() == session);
                    let Some(incoming) = at.map(|at| node.receiving.remove(at)) else { continue };
                    if let Kind::Repair { source } = incoming.machine.record().kind
                        && outcome == ReceivingOutcome::Completed
                    {
                        node.repairs.received(incoming.partition, source);
                    }
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

    /// A message of a transfer arrives.
    pub(super) fn carry(&mut self, chosen: usize, forth: bool) {
        let waiting: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, open)| if forth { !open.forth.is_empty() } else { !open.back.is_empty() })
            .map(|(at, _)| *at)
            .collect();
        let Some(at) = waiting.get(chosen % waiting.len().max(1)).copied() else { return };
        let Some(connection) = self.connections.get_mut(&at) else { return };
        let (sender, receiver, session) = (connection.sender, connection.receiver, connection.session);
        if !forth {
            let Some(bytes) = connection.back.pop_front() else { return };
            let says = ForSender::decode(&bytes).unwrap().says;
            return self.dispatch(sender, session, SendingEvent::Said(says));
        }
        let Some(bytes) = connection.forth.pop_front() else { return };
        match ForReceiver::decode(&bytes).unwrap().says {
            SenderSays::Offer(offer) => {
                let job = Job::Judge(at, session, id(sender), Box::new(offer));
                self.nodes[receiver].jobs.push_back(job);
            }
            says => self.receive(receiver, session, ReceivingEvent::Said(says)),
        }
    }

    /// A connection ends; what was on its way is lost. Each side that lives notices in its own time.
    pub(super) fn cut(&mut self, connection: u64) {
        let Some(connection) = self.connections.remove(&connection) else { return };
        for end in [connection.sender, connection.receiver] {
            if self.nodes[end].up {
                self.nodes[end].jobs.push_back(Job::CutOff(connection.session));
            }
        }
    }

    /// One job of a node's own threads is done.
    pub(super) fn work(&mut self, n: usize) -> bool {
        let Some(job) = self.nodes[n].jobs.pop_front() else { return false };
        match job {
            Job::CutOff(session) => {
                self.dispatch(n, session, SendingEvent::CutOff);
                self.receive(n, session, ReceivingEvent::CutOff);
            }
            Job::Judge(connection, session, from, offer) => self.judge(n, connection, session, from, offer),
            Job::Send(session, effect) => self.carry_out(n, session, effect),
            Job::Receive(session, effect) => self.take_over(n, session, effect),
            Job::Synced(session, sequence) => {
                self.nodes[n].sync();
                self.receive(n, session, ReceivingEvent::Stored { sequence, unreadable: 0 });
            }
        }
        true
    }

    fn judge(&mut self, n: usize, connection: u64, session: SessionId, from: NodeId, offer: Box<Offer>) {
        let partition = offer.partition;
        let of_repair = |kind: Kind| matches!(kind, Kind::Repair { .. });
        let node = &mut self.nodes[n];
        let fresh = node.disk.fresh(partition);
        let vault = node.disk.at(partition);
        let ours = node.sending.values().find(|outward| {
            let plan = outward.machine.plan();
            plan.partition == partition && plan.to == from && !of_repair(plan.kind)
        });
        let outgoing = match ours {
            None => Outgoing::None,
            Some(ours) if ours.machine.is_revocable() => Outgoing::Revocable,
            Some(_) => Outgoing::Bound,
        };
        let same = |incoming: &&Incoming| {
            let record = incoming.machine.record();
            let alike = of_repair(record.kind) == of_repair(offer.kind);
            incoming.partition == partition && record.sender == from && alike
        };
        let old: Vec<SessionId> =
            node.receiving.iter().filter(same).map(|incoming| incoming.machine.session()).collect();
        let situation = Situation {
            me: node.id,
            from,
            state: &node.state,
            services: &BTreeSet::from([SERVICE.to_owned()]),
            stopping: false,
            paused: false,
            running: (node.receiving.len() - old.len()) as u32,
            limit: LIMIT,
            outgoing,
            has_hints: node.has_hints(partition),
            record: vault.records.get(&from),
            live: node.holds(partition).then_some(vault.live),
            inbound: vault.inbound,
            fresh,
        };
        let judgement = receiving::judge(&offer, &situation);
        let ours = ours.map(|ours| ours.machine.plan().session);
        match judgement {
            Judgement::Refuse(refusal) => {
                if refusal == Refusal::Behind {
                    self.gossip(number(from), n);
                }
                self.answer(connection, session, ReceiverSays::Refuse(refusal));
            }
            Judgement::Accept { ends_outgoing: true, .. } => {
                if let Some(ours) = ours {
                    self.dispatch(n, ours, SendingEvent::OfferFromReceiver(offer.generation));
                }
                // Once more, when that has come to its end.
                self.nodes[n].jobs.push_back(Job::Judge(connection, session, from, offer));
            }
            Judgement::Accept { record, into, ends_outgoing: false } => {
                if into == Into::NewInbound {
                    self.nodes[n].disk.begin_inbound(partition, record.possession, record.generation);
                }
                // The same sender has come anew; its old connection is dead, though nobody has noticed.
                for old in old {
                    self.receive(n, old, ReceivingEvent::CutOff);
                }
                let (machine, effects) =
                    Receiving::begin(session, record, WINDOW, offer.estimate, self.now_ms);
                self.nodes[n].receiving.push(Incoming { machine, connection, partition, into });
                self.received(n, session, connection, effects);
            }
        }
    }

    fn carry_out(&mut self, n: usize, session: SessionId, effect: SendingEffect) {
        let Some(partition) = self.nodes[n].sending.get(&session).map(|o| o.machine.plan().partition) else {
            return;
        };
        let event = match effect {
            SendingEffect::Send(_) => return,
            SendingEffect::Close(outcome) => return self.close(n, session, &outcome),
            SendingEffect::Thaw => return self.thaw(n, partition),
            SendingEffect::Flip(outbound) => SendingEvent::Flipped(self.flip(n, partition, &outbound)),
            SendingEffect::Drop(generation) => {
                self.counts.drops += 1;
                self.note(|| format!("n{n} drops {generation:?} of {partition:?}"));
                self.nodes[n].drop_generation(partition, generation);
                self.settle(n);
                SendingEvent::Dropped
            }
            other => match self.nodes[n].do_for_sending(session, other) {
                Some(event) => event,
                None => return,
            },
        };
        self.dispatch(n, session, event);
    }

    fn close(&mut self, n: usize, session: SessionId, outcome: &Outcome) {
        let Some(outward) = self.nodes[n].sending.remove(&session) else { return };
        self.close_quietly(outward.connection);
        let plan = outward.machine.plan();
        let (partition, to) = (plan.partition, plan.to);
        let node = &mut self.nodes[n];
        if let (Kind::Repair { source }, Outcome::Completed) = (plan.kind, outcome) {
            node.asked.remove(&Repair { to, partition, source });
        }
        node.schedule.ended(self.now_ms, partition, to, outcome);
        self.note(|| format!("n{n} ends {}: {outcome:?}", session.number));
        self.settle(n);
    }

    /// A connection that its owner closes: the other side hears of it, after what was said before.
    fn close_quietly(&mut self, connection: u64) {
        let Some(mut gone) = self.connections.remove(&connection) else { return };
        for bytes in gone.forth.drain(..) {
            let says = ForReceiver::decode(&bytes).unwrap().says;
            if self.reach(gone.sender, gone.receiver) && !matches!(says, SenderSays::Offer(_)) {
                self.receive(gone.receiver, gone.session, ReceivingEvent::Said(says));
            }
        }
        if self.nodes[gone.receiver].up {
            self.nodes[gone.receiver].jobs.push_back(Job::CutOff(gone.session));
        }
    }

    fn thaw(&mut self, n: usize, partition: Partition) {
        let node = &mut self.nodes[n];
        node.frozen.remove(&partition);
        let (thawed, held) =
            std::mem::take(&mut node.held_jobs).into_iter().partition(|(of, _)| *of == partition);
        node.held_jobs = held;
        // In front of what came later, in their order.
        let thawed: Vec<(Partition, Job)> = thawed;
        for (_, job) in thawed.into_iter().rev() {
            node.jobs.push_front(job);
        }
    }

    fn flip(&mut self, n: usize, partition: Partition, outbound: &Outbound) -> Option<Flip> {
        let heir = number(outbound.heir);
        let node = &self.nodes[n];
        let wished = node.state.bequests(node.id).any(|bequest| bequest == (partition, outbound.heir));
        let lacks = self.stays(n).contains(&partition);
        let up = node.up().contains(&outbound.heir);
        let same = node.possession(partition) == outbound.possession;
        if !same || !wished || lacks || !up || node.disk.at(partition).live != outbound.source {
            return None;
        }
        let complete = !node.incomplete().contains(&partition);
        let possession = self.nodes[n].pass_on(partition, outbound)?;
        self.counts.flips += 1;
        self.note(|| format!("n{n} passes {partition:?} on to n{heir}, complete: {complete}"));
        if complete {
            self.tell_heir(n, partition, outbound.heir);
        }
        self.settle(n);
        Some(Flip { possession, complete })
    }

    fn take_over(&mut self, n: usize, session: SessionId, effect: ReceivingEffect) {
        let found = self.nodes[n].receiving.iter().find(|incoming| incoming.machine.session() == session);
        // What is kept of a transfer that has just ended is kept all the same.
        let Some(incoming) = found else { return };
        let (partition, into) = (incoming.partition, incoming.into);
        let generation = incoming.machine.record().generation;
        match effect {
            ReceivingEffect::Send(_) | ReceivingEffect::Close(_) => {}
            ReceivingEffect::Keep(record) => self.nodes[n].keep(partition, record),
            ReceivingEffect::Store { batch, record } => {
                // A freeze is for everything that would change the partition, not for clients alone.
                if into == Into::Live && self.nodes[n].frozen.contains(&partition) {
                    let job = Job::Receive(session, ReceivingEffect::Store { batch, record });
                    return self.nodes[n].held_jobs.push((partition, job));
                }
                if self.nodes[n].store(partition, into, generation, &batch, record) {
                    self.nodes[n].jobs.push_back(Job::Synced(session, batch.sequence));
                } else {
                    self.receive(n, session, ReceivingEvent::Failed("the generation is gone".into()));
                }
            }
            ReceivingEffect::Inherit { possession, record, complete } => {
                if self.nodes[n].possession(partition) < possession {
                    self.gossip(number(record.sender), n);
                    let lives = self.nodes[n].receiving.iter().any(|i| i.machine.session() == session);
                    if self.nodes[n].possession(partition) < possession && lives {
                        let again = ReceivingEffect::Inherit { possession, record, complete };
                        return self.nodes[n].jobs.push_back(Job::Receive(session, again));
                    }
                }
                let taken = self.nodes[n].has_inherited(partition, &record);
                self.nodes[n].sync();
                self.settle(n);
                self.receive(n, session, ReceivingEvent::Inherited(taken));
            }
        }
    }

    /// Deadlines of a node's transfers.
    pub(super) fn tick(&mut self, n: usize) {
        let now_ms = self.now_ms;
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= now_ms);
        let node = &self.nodes[n];
        let sending: Vec<SessionId> = node
            .sending
            .iter()
            .filter(|(_, outward)| is_due(outward.machine.wake_at_ms()))
            .map(|(session, _)| *session)
            .collect();
        let receiving: Vec<SessionId> = node
            .receiving
            .iter()
            .filter(|incoming| is_due(incoming.machine.wake_at_ms()))
            .map(|incoming| incoming.machine.session())
            .collect();
        for session in sending {
            self.dispatch(n, session, SendingEvent::Tick);
        }
        for session in receiving {
            self.receive(n, session, ReceivingEvent::Tick);
        }
    }
}
