//! What the runtime does for the machines: offers judged, effects carried out, jobs in their order. Each job is one
//! turn of one thread; between two of them anything may happen.

use super::Connection;
use super::node::{Incoming, Job, Outward, SERVICES};
use super::{PARTITION, WINDOW, World, id, number};
use crate::ids::{Boot, NodeId, Partition};
use crate::transfer::message::{ForReceiver, Offer, Place, ReceiverSays, Refusal, SenderSays, SessionId};
use crate::transfer::receiving::{
    self, Into, Judgement, Outgoing, Receiving, ReceivingEffect, ReceivingEvent, Situation,
};
use crate::transfer::schedule::Surroundings;
use crate::transfer::sending::{Flip, Outbound, SendingEffect, SendingEvent, SendingPlan};
use crate::transfer::{Amount, Kind, Sending};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

impl World {
    /// Looks what is to run at a node, and begins it.
    pub(crate) fn decide(&mut self, n: usize) {
        if !self.nodes[n].up {
            return;
        }
        self.nodes[n].report();
        let up: BTreeSet<NodeId> =
            (0..self.nodes.len()).filter(|m| *m != n && self.reach(n, *m)).map(id).collect();
        let now_ms = self.now_ms;
        let node = &mut self.nodes[n];
        let hints: BTreeSet<Partition> = node.has_hints().then_some(PARTITION).into_iter().collect();
        let filled = BTreeSet::from([PARTITION]);
        let outbound = node.disk.outbound.iter().map(|outbound| (PARTITION, outbound.heir)).collect();
        let running = node.running();
        let around = Surroundings {
            me: node.id,
            state: &node.state,
            up: &up,
            hints: &hints,
            filled: &filled,
            outbound: &outbound,
            repairs: &BTreeSet::new(),
            running: &running,
            limit: 4,
            paused: false,
        };
        let decisions = node.schedule.decide(now_ms, &around);
        node.wake_at_ms = decisions.wake_at_ms;
        for (session, reason) in decisions.cancel {
            self.dispatch(n, session, SendingEvent::Cancel(reason));
        }
        if !decisions.forget.is_empty() {
            self.nodes[n].forget();
        }
        if !decisions.absorb.is_empty() && !self.nodes[n].frozen {
            self.nodes[n].absorb();
        }
        for start in decisions.start {
            self.begin(n, start.kind, number(start.to));
        }
    }

    fn begin(&mut self, n: usize, kind: Kind, to: usize) {
        if self.nodes[n].sending.is_some() || !self.reach(n, to) {
            return;
        }
        let now_ms = self.now_ms;
        let node = &mut self.nodes[n];
        node.sessions += 1;
        let session = SessionId { node: id(n), boot: Boot(node.boot), number: node.sessions };
        let eldest = node.disk.sealed.first().copied().filter(|_| kind == Kind::Hinted);
        let plan = SendingPlan {
            session,
            to: id(to),
            kind,
            partition: PARTITION,
            possession: node.possession(),
            target: node.state.target().key(),
            generation: eldest.unwrap_or(node.disk.live),
            sealed: eldest.is_some(),
            services: SERVICES.map(str::to_owned).to_vec(),
            estimate: Amount::default(),
            outbound: node.disk.outbound.clone(),
            bequeathed: eldest.and_then(|generation| node.bequeathed(generation)),
            bytes_per_second: None,
        };
        let (machine, effects) = Sending::begin(plan, now_ms);
        let connection = self.next_connection;
        self.next_connection += 1;
        let (forth, back) = (VecDeque::new(), VecDeque::new());
        self.connections.insert(connection, Connection { sender: n, receiver: to, session, forth, back });
        let snapshot = Vec::new();
        self.nodes[n].sending = Some(Outward { machine, connection, snapshot });
        self.sent(n, session, effects);
    }

    pub(super) fn judge(
        &mut self,
        n: usize,
        connection: u64,
        session: SessionId,
        from: NodeId,
        offer: Box<Offer>,
    ) {
        let fresh = self.nodes[n].fresh();
        let node = &self.nodes[n];
        let outgoing = match &node.sending {
            Some(outward) if outward.machine.plan().to == from && outward.machine.is_revocable() => {
                Outgoing::Revocable
            }
            Some(outward) if outward.machine.plan().to == from => Outgoing::Bound,
            _ => Outgoing::None,
        };
        let holds = node.possession().holder == node.id;
        let situation = Situation {
            me: node.id,
            from,
            state: &node.state,
            services: &SERVICES.map(str::to_owned).into(),
            stopping: false,
            paused: false,
            running: node.receiving.len() as u32,
            limit: 4,
            outgoing,
            has_hints: node.has_hints(),
            record: node.disk.records.get(&from),
            live: holds.then_some(node.disk.live),
            inbound: node.disk.inbound,
            fresh,
        };
        match receiving::judge(&offer, &situation) {
            Judgement::Refuse(refusal) => {
                if refusal == Refusal::Behind {
                    self.gossip(number(from), n);
                }
                self.answer(connection, session, ReceiverSays::Refuse(refusal));
            }
            Judgement::Accept { ends_outgoing: true, .. } => {
                let ours = self.nodes[n].sending.as_ref().map(|outward| outward.machine.plan().session);
                if let Some(ours) = ours {
                    self.dispatch(n, ours, SendingEvent::OfferFromReceiver(offer.generation));
                }
                // Once more, when that has come to its end.
                self.nodes[n].jobs.push_back(Job::Judge(connection, session, from, offer));
            }
            Judgement::Accept { record, into, ends_outgoing: false } => {
                if into == Into::NewInbound {
                    self.nodes[n].begin_inbound(&record);
                }
                // The same sender has come anew; its old connection is dead, though nobody has noticed.
                let old: Vec<SessionId> = self.nodes[n]
                    .receiving
                    .iter()
                    .filter(|incoming| incoming.machine.record().sender == from)
                    .map(|incoming| incoming.machine.session())
                    .collect();
                for old in old {
                    self.receive(n, old, ReceivingEvent::CutOff);
                }
                let (machine, effects) =
                    Receiving::begin(session, record, WINDOW, offer.estimate, self.now_ms);
                self.nodes[n].receiving.push(Incoming { machine, connection, into });
                self.received(n, session, connection, effects);
            }
        }
    }

    pub(super) fn carry_out(&mut self, n: usize, session: SessionId, effect: SendingEffect) {
        let event = match effect {
            SendingEffect::Send(_) => return,
            SendingEffect::Close(outcome) => {
                let Some(outward) = self.nodes[n].sending.take() else { return };
                self.cut_quietly(outward.connection);
                let to = outward.machine.plan().to;
                return self.nodes[n].schedule.ended(self.now_ms, PARTITION, to, &outcome);
            }
            SendingEffect::Thaw => return self.thaw(n),
            SendingEffect::Flip(outbound) => SendingEvent::Flipped(self.flip(n, &outbound)),
            SendingEffect::Drop(generation) => {
                self.drops += 1;
                self.nodes[n].drop_generation(generation);
                SendingEvent::Dropped
            }
            other => match self.nodes[n].do_for_sending(other) {
                Some(event) => event,
                None => return,
            },
        };
        self.dispatch(n, session, event);
    }

    /// A connection that its owner closes: the other side hears of it, after what was said before.
    fn cut_quietly(&mut self, connection: u64) {
        let Some(mut gone) = self.connections.remove(&connection) else { return };
        for bytes in gone.forth.drain(..) {
            let says = ForReceiver::decode(&bytes).unwrap().says;
            if self.reach(gone.sender, gone.receiver) && !matches!(says, SenderSays::Offer(_)) {
                self.receive(gone.receiver, gone.session, ReceivingEvent::Said(says));
            }
        }
        self.nodes[gone.receiver].jobs.push_back(Job::CutOff(gone.session));
    }

    fn flip(&mut self, n: usize, outbound: &Outbound) -> Option<Flip> {
        let heir = number(outbound.heir);
        if self.nodes[n].possession() != outbound.possession || !self.reach(n, heir) {
            return None;
        }
        let wished = self.nodes[n].state.target().owners()[usize::from(PARTITION.0)];
        if wished != outbound.heir || self.nodes[n].disk.live != outbound.source {
            return None;
        }
        // The heir's generation has, for certain, everything that is here, acknowledged or not.
        let theirs = self.nodes[heir].certain().generations.get(&outbound.receiver).cloned();
        let ours = self.nodes[n].disk.generations[&outbound.source].clone();
        let lacks = |items: &BTreeMap<Place, u64>| {
            ours.iter().any(|(place, bits)| bits & !items.get(place).copied().unwrap_or_default() != 0)
        };
        // A disk that was lost a moment ago is found out when the heir is told.
        let wiped = theirs.is_none() && self.nodes[heir].wiped;
        if !wiped && theirs.as_ref().is_none_or(lacks) {
            self.complain(format!("n{n} passes on to n{heir} what it lacks: {ours:?} against {theirs:?}"));
        }
        self.flips += 1;
        let possession = self.nodes[n].pass_on(outbound)?;
        self.settle(n);
        Some(Flip { possession, complete: true })
    }

    pub(super) fn take_in(&mut self, n: usize, session: SessionId, effect: ReceivingEffect) {
        match effect {
            ReceivingEffect::Send(_) | ReceivingEffect::Close(_) => {}
            ReceivingEffect::Keep(record) => self.nodes[n].keep(record),
            ReceivingEffect::Store { batch, record } => {
                let found = self.nodes[n].receiving.iter().find(|i| i.machine.session() == session);
                let Some((into, generation)) = found.map(|i| (i.into, i.machine.record().generation)) else {
                    return;
                };
                // A freeze is for everything that would change the partition, not for clients alone.
                if into == Into::Live && self.nodes[n].frozen {
                    let job = Job::Receive(session, ReceivingEffect::Store { batch, record });
                    return self.nodes[n].held_jobs.push(job);
                }
                if self.nodes[n].store(into, generation, &batch, record) {
                    self.nodes[n].jobs.push_back(Job::Synced(session, batch.sequence));
                } else {
                    self.receive(n, session, ReceivingEvent::Failed("the generation is gone".into()));
                }
            }
            ReceivingEffect::Inherit { possession, record, complete } => {
                if self.nodes[n].possession() < possession {
                    self.gossip(number(record.sender), n);
                    let lives = self.nodes[n].receiving.iter().any(|i| i.machine.session() == session);
                    if self.nodes[n].possession() < possession && lives {
                        let again = ReceivingEffect::Inherit { possession, record, complete };
                        self.nodes[n].jobs.push_back(Job::Receive(session, again));
                        return;
                    }
                }
                let taken = self.nodes[n].has_inherited(&record);
                self.nodes[n].sync();
                self.receive(n, session, ReceivingEvent::Inherited(taken));
            }
        }
    }
}
