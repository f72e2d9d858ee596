//! Who is up. SWIM with suspicion (Das, Gupta, Motivala: "SWIM", 2002, §4) from the foca crate, and round it
//! what foca leaves to its user: who may be a member at all, a suspicion that can be seen, announcing to those
//! that are down or were never heard of, a way back for a node whose generation is behind, and a clock that
//! does not run while the node stands still. It does not know addresses or connections: datagrams go to a
//! node's id, and may be lost.
//!
//! The caller names the members whenever they change, hands in every datagram, says when a connection broke,
//! ticks when the detector asks for it, and carries out the effects of each call in their order.
//!
//! **The clock is fair.** A process that was stopped for five seconds finds, when it goes on, all its timers
//! overdue and the answers to its probes unread. Were it to fire the timers first, it would declare its
//! healthy peers down. So each [`FailureDetector::tick`] moves the detector's time on by `clock_step_ms_max`
//! at most; what passed beyond that has not happened, and the waiting datagrams are read before the next tick.

mod config;

pub use config::DetectorConfig;

use super::datagram::{self, Codec, Datagram, DatagramError, Identity};
use crate::ids::NodeId;
use foca::{Foca, Header, Member, Message, NoCustomBroadcast, Notification, State, Timer, TimerToken};
use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::IteratorRandom;
use std::collections::BTreeMap;
use std::time::Duration;

/// Whether a node can be reckoned with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Availability {
    /// It answers.
    Up,
    /// It did not answer, or its connection broke; it has the time of a suspicion to object.
    Suspect,
    /// It did not object, or was never heard of.
    Down,
}

/// What the caller has to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DetectorEffect {
    /// Carry `datagram` to `to`, if there is a connection; else drop it.
    Send {
        /// To whom.
        to: NodeId,
        /// What to hand to the other side's [`FailureDetector::datagram`].
        datagram: Vec<u8>,
    },
    /// `node` is now that. A greater generation than before means that it was restarted or had been taken
    /// for down, even when it is `Up` before and after.
    Changed {
        /// Who.
        node: NodeId,
        /// In which of its lives; 0 when it was never heard of.
        generation: u64,
        /// What it is now.
        availability: Availability,
    },
    /// Others had taken this node for down; it now lives on in this generation. It stands before every `Send`
    /// that tells anybody of it: what has to happen before the node is seen up again happens here.
    Renewed {
        /// This node's generation from now on.
        generation: u64,
    },
}

/// Why a datagram was refused. The detector is as it was before.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DetectorError {
    /// The bytes are no datagram.
    #[error("not a datagram: {0}")]
    Datagram(#[from] DatagramError),
    /// Its sender is not a member here, perhaps not yet.
    #[error("{0} is no member of this cluster as far as this node knows")]
    Stranger(NodeId),
    /// It asks for an indirect probe of its own receiver.
    #[error("an indirect probe must be of a third node, not of its receiver")]
    IndirectOfReceiver,
}

/// Members named in an answer to an announcement, at least: enough to check what one knows, and of one size
/// in a cluster of ten and of a thousand.
const FEED_MEMBERS_MIN: usize = 8;
/// Announcements when members are first named: a starting node need not wait for the next round.
const FIRST_ANNOUNCES_MAX: usize = 8;

#[derive(Clone, Copy)]
struct Known {
    generation: u64,
    availability: Availability,
}

/// One node's view of who is up.
pub struct FailureDetector {
    foca: Foca<Identity, Codec, Xoshiro256PlusPlus, NoCustomBroadcast>,
    config: DetectorConfig,
    random: Xoshiro256PlusPlus,
    /// Everybody who should exist, without this node.
    members: BTreeMap<NodeId, Known>,
    /// How many of them are down.
    lacking: usize,
    /// By detector's time, then by order of arrival.
    timers: BTreeMap<(u64, u64), Timer<Identity>>,
    timers_counted: u64,
    /// The detector's own time, and the caller's at the last tick.
    time_ms: u64,
    last_tick_ms: u64,
    announce_at_ms: u64,
    /// foca's current epoch of timers, for those that we set ourselves.
    epoch: TimerToken,
    /// Whom the last probe was for; when the next one begins, that one may have become suspect.
    probed: Option<NodeId>,
    left: bool,
    irregularities: u64,
}

/// What foca asks for during one call.
#[derive(Default)]
struct Outbox {
    packets: Vec<(Identity, Vec<u8>)>,
    timers: Vec<(Timer<Identity>, u64)>,
    renewed: bool,
}

impl foca::Runtime<Identity> for Outbox {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        // The others can be read off the members, suspicion included.
        self.renewed |= matches!(notification, Notification::Rejoin(_));
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.packets.push((to, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.push((event, after.as_millis() as u64));
    }
}

impl FailureDetector {
    /// The detector of node `me`, which begins in `generation` (see
    /// [`first_generation`](super::datagram::first_generation)) at the caller's time `now_ms`. Zeroes in
    /// `config` are taken as ones. `seed_random` decides whom it probes and when; two nodes with one seed only
    /// collide more often.
    pub fn new(me: NodeId, generation: u64, seed_random: u64, now_ms: u64, config: DetectorConfig) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed_random);
        let of_foca = Xoshiro256PlusPlus::from_rng(&mut random);
        let identity = Identity { node: me, generation: generation.min(datagram::GENERATION_MAX) };
        Self {
            foca: Foca::new(identity, config::of_foca(&config, 1), of_foca, Codec),
            config,
            random,
            members: BTreeMap::new(),
            lacking: 0,
            timers: BTreeMap::new(),
            timers_counted: 0,
            time_ms: 0,
            last_tick_ms: now_ms,
            announce_at_ms: config.announce_interval_ms,
            epoch: TimerToken::default(),
            probed: None,
            left: false,
            irregularities: 0,
        }
    }

    /// This node's generation; it grows with every `Renewed`.
    pub fn generation(&self) -> u64 {
        self.foca.identity().generation
    }

    /// What this node takes `node` for. Itself it takes for up; nodes that are not members are down.
    pub fn availability(&self, node: NodeId) -> Availability {
        if node == self.foca.identity().node {
            return Availability::Up;
        }
        self.members.get(&node).map_or(Availability::Down, |known| known.availability)
    }

    /// All members but this node, in the order of their ids, with generation (0: never heard of) and
    /// availability.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, u64, Availability)> + '_ {
        self.members.iter().map(|(node, known)| (*node, known.generation, known.availability))
    }

    /// How often foca answered with an error that should not occur. Zero, or worth a line in the log.
    pub fn irregularities(&self) -> u64 {
        self.irregularities
    }

    /// Says who should exist (this node may be among them). New ones are `Down` until heard of, and are
    /// announced to; those no longer named are forgotten, and reported `Down` if they were not.
    pub fn set_members(&mut self, members: &[NodeId]) -> Vec<DetectorEffect> {
        let me = self.foca.identity().node;
        let mut named: BTreeMap<NodeId, Known> = BTreeMap::new();
        let mut new = Vec::new();
        for node in members.iter().filter(|node| **node != me) {
            let known = self.members.remove(node).unwrap_or_else(|| {
                new.push(*node);
                Known { generation: 0, availability: Availability::Down }
            });
            named.insert(*node, known);
        }
        let gone = std::mem::replace(&mut self.members, named);
        self.lacking = self.members.values().filter(|known| known.availability == Availability::Down).count();
        let mut outbox = Outbox::default();
        let mut effects = self.forget(&gone, &mut outbox);
        if self.foca.set_config(config::of_foca(&self.config, self.members.len() + 1)).is_err() {
            self.irregularities += 1;
        }
        let new = new.into_iter().sample(&mut self.random, FIRST_ANNOUNCES_MAX);
        self.announce(new, &mut outbox);
        effects.extend(self.absorb(outbox, &[]));
        effects
    }

    fn forget(&mut self, gone: &BTreeMap<NodeId, Known>, outbox: &mut Outbox) -> Vec<DetectorEffect> {
        let mut effects = Vec::new();
        for (node, known) in gone {
            let identity = Identity { node: *node, generation: known.generation };
            let applied = self.foca.apply_many(std::iter::once(Member::down(identity)), false, &mut *outbox);
            let removed = self.foca.handle_timer(Timer::RemoveDown(identity), &mut *outbox);
            self.irregularities += u64::from(applied.is_err()) + u64::from(removed.is_err());
            if known.availability != Availability::Down {
                let availability = Availability::Down;
                effects.push(DetectorEffect::Changed {
                    node: *node,
                    generation: known.generation,
                    availability,
                });
            }
        }
        effects
    }

    /// Takes in what `from` sent. Refused bytes change nothing. The datagram's time is that of the last tick.
    pub fn datagram(&mut self, from: NodeId, bytes: &[u8]) -> Result<Vec<DetectorEffect>, DetectorError> {
        let me = *self.foca.identity();
        if !self.members.contains_key(&from) {
            return Err(DetectorError::Stranger(from));
        }
        let mut datagram = Datagram::read(from, me.node, bytes)?;
        if self.left {
            return Ok(Vec::new());
        }
        let mut overtaken_by = 0;
        match &datagram.header.message {
            Message::PingReq { target: third, .. }
            | Message::IndirectPing { origin: third, .. }
            | Message::IndirectAck { target: third, .. }
            | Message::ForwardedAck { origin: third, .. }
                if third.node == me.node =>
            {
                return Err(DetectorError::IndirectOfReceiver);
            }
            Message::TurnUndead => overtaken_by = datagram.remark,
            _ => {}
        }
        // Strangers are not for foca: it would probe them, and find them down. Of ourselves only what concerns
        // this life is; a later life that others know of (a data directory set back) has to be overtaken.
        datagram.members.retain(|member| {
            if member.id().node == me.node {
                overtaken_by = overtaken_by.max(member.id().generation);
                return member.id().generation == me.generation;
            }
            self.members.contains_key(&member.id().node)
        });
        let mut outbox = Outbox::default();
        if overtaken_by > me.generation {
            self.renew_above(overtaken_by, &mut outbox);
        }
        let mut touched = vec![from];
        touched.extend(datagram.members.iter().map(|member| member.id().node));
        touched.sort_unstable();
        let feed_members_max = match datagram.header.message {
            Message::Announce => (datagram.remark as usize).max(FEED_MEMBERS_MIN),
            _ => FEED_MEMBERS_MIN,
        };
        let of_another_life = datagram.header.dst.generation != self.foca.identity().generation
            && datagram.header.message != Message::Announce;
        if self.foca.handle_data(&datagram.for_foca(), &mut outbox).is_err() {
            self.irregularities += 1;
        }
        if outbox.renewed && self.foca.apply_many(std::iter::empty(), false, &mut outbox).is_err() {
            self.irregularities += 1; // without this, foca would probe nobody until the next datagram
        }
        if of_another_life || outbox.renewed {
            // The sender does not know of this one yet, and would find us silent and then down.
            self.announce(vec![from], &mut outbox);
        }
        Ok(self.absorb_with(outbox, &touched, feed_members_max))
    }

    fn renew_above(&mut self, generation: u64, outbox: &mut Outbox) {
        let above = Identity { node: self.foca.identity().node, generation };
        let Some(identity) = foca::Identity::renew(&above) else {
            self.irregularities += 1;
            return;
        };
        outbox.renewed = true;
        if self.foca.change_identity(identity, outbox).is_err() {
            self.irregularities += 1;
        }
    }

    /// There is a way to `node` now: if it is taken for down it is announced to at once, not at the next round, and
    /// if it is suspect it is told so, since whatever told it before may have been lost with the way.
    pub fn connected(&mut self, node: NodeId) -> Vec<DetectorEffect> {
        let Some(known) = self.members.get(&node).filter(|_| !self.left) else { return Vec::new() };
        match known.availability {
            Availability::Up => Vec::new(),
            Availability::Suspect => self.accusation(node).into_iter().collect(),
            Availability::Down => {
                let mut outbox = Outbox::default();
                self.announce(vec![node], &mut outbox);
                self.absorb(outbox, &[])
            }
        }
    }

    /// What foca holds of `node` if it is suspect.
    fn suspicion(&self, node: NodeId) -> Option<Member<Identity>> {
        let held = |member: &&Member<Identity>| member.id().node == node && member.state() == State::Suspect;
        self.foca.iter_members().find(held).cloned()
    }

    /// Tells a suspect node that it is; it objects at once, if it is there.
    fn accusation(&self, node: NodeId) -> Option<DetectorEffect> {
        let suspect = self.suspicion(node)?;
        let header = Header {
            src: *self.foca.identity(),
            src_incarnation: 0, // says nothing: a lesser incarnation changes nothing
            dst: *suspect.id(),
            message: Message::Gossip,
        };
        Some(DetectorEffect::Send { to: node, datagram: datagram::gossip(&header, &[suspect]) })
    }

    /// foca forgets its timers with a former life, and then a suspicion would last for ever: it is begun anew.
    fn suspect_anew(&mut self, effects: &mut Vec<DetectorEffect>) {
        let suspects: Vec<Member<Identity>> =
            self.foca.iter_members().filter(|member| member.state() == State::Suspect).cloned().collect();
        for suspect in suspects {
            effects.extend(self.accusation(suspect.id().node));
            let (member_id, incarnation) = (*suspect.id(), suspect.incarnation());
            let timer = Timer::ChangeSuspectToDown { member_id, incarnation, token: self.epoch };
            self.set_timer(timer, self.config.suspicion_ms);
        }
    }

    fn set_timer(&mut self, timer: Timer<Identity>, after_ms: u64) {
        self.timers_counted += 1;
        self.timers.insert((self.time_ms + after_ms, self.timers_counted), timer);
    }

    /// The connection to `node` broke, and there is no other: it is suspect at once, and down after the time of
    /// a suspicion unless it objects. Without effect unless it was up.
    pub fn connection_lost(&mut self, node: NodeId) -> Vec<DetectorEffect> {
        let up = self.availability(node) == Availability::Up;
        let found = self.foca.iter_members().find(|member| up && member.id().node == node);
        let Some((id, incarnation)) = found.map(|member| (*member.id(), member.incarnation())) else {
            return Vec::new();
        };
        let mut outbox = Outbox::default();
        let suspect = Member::new(id, incarnation, State::Suspect);
        let applied = self.foca.apply_many(std::iter::once(suspect), true, &mut outbox);
        let told = self.foca.gossip(&mut outbox);
        self.irregularities += u64::from(applied.is_err()) + u64::from(told.is_err());
        let timer = Timer::ChangeSuspectToDown { member_id: id, incarnation, token: self.epoch };
        outbox.timers.push((timer, self.config.suspicion_ms));
        self.absorb(outbox, &[node])
    }

    /// Lets time pass up to the caller's `now_ms`, by `clock_step_ms_max` at most. Call it at
    /// [`Self::next_wakeup_ms`], and after whatever datagrams are already there.
    pub fn tick(&mut self, now_ms: u64) -> Vec<DetectorEffect> {
        let step_ms = now_ms.saturating_sub(self.last_tick_ms).min(self.config.clock_step_ms_max.max(1));
        self.last_tick_ms = self.last_tick_ms.max(now_ms);
        let until_ms = self.time_ms + step_ms;
        let mut effects = Vec::new();
        if self.left {
            return effects;
        }
        while let Some(first) = self.timers.first_entry().filter(|timer| timer.key().0 <= until_ms) {
            let ((due_ms, _), timer) = first.remove_entry();
            // A timer that is set by this one counts from when this one was due, not from a late tick.
            self.time_ms = due_ms.max(self.time_ms);
            effects.extend(self.fire(timer));
        }
        self.time_ms = until_ms;
        if self.announce_at_ms <= until_ms {
            self.announce_at_ms = until_ms + self.config.announce_interval_ms.max(1);
            let lacking = self.members.iter().filter(|(_, known)| known.availability == Availability::Down);
            let some = lacking.map(|(node, _)| *node).sample(&mut self.random, self.config.announces_max);
            let mut outbox = Outbox::default();
            self.announce(some, &mut outbox);
            effects.extend(self.absorb(outbox, &[]));
        }
        effects
    }

    fn fire(&mut self, timer: Timer<Identity>) -> Vec<DetectorEffect> {
        // foca 2.0.0 tells the suspected member that it is down even when it has objected in time, and it
        // would begin a new life for nothing. A suspicion that no longer stands does not reach foca.
        if let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = &timer {
            let suspect = Member::new(*member_id, *incarnation, State::Suspect);
            if !self.foca.iter_members().any(|member| *member == suspect) {
                return Vec::new();
            }
        }
        let touched = match &timer {
            Timer::ProbeRandomMember(_) => self.probed,
            Timer::ChangeSuspectToDown { member_id, .. } => Some(member_id.node),
            _ => None,
        };
        let mut outbox = Outbox::default();
        if self.foca.handle_timer(timer, &mut outbox).is_err() {
            self.irregularities += 1;
        }
        self.absorb(outbox, touched.as_slice())
    }

    /// When the next tick is due, in the caller's time. At least every half of `clock_step_ms_max`, so that
    /// the detector's time keeps up.
    pub fn next_wakeup_ms(&self) -> u64 {
        let pulse_ms = self.time_ms + (self.config.clock_step_ms_max / 2).max(1);
        let timer_ms = self.timers.first_key_value().map_or(pulse_ms, |((due_ms, _), _)| *due_ms);
        let due_ms = pulse_ms.min(timer_ms).min(self.announce_at_ms);
        self.last_tick_ms + due_ms.saturating_sub(self.time_ms).max(1)
    }

    /// Tells a few others that this node goes, so that nobody has to find out. From then on the detector
    /// takes in nothing and sends nothing.
    pub fn leave(&mut self) -> Vec<DetectorEffect> {
        if self.left {
            return Vec::new();
        }
        let mut outbox = Outbox::default();
        if self.foca.leave_cluster(&mut outbox).is_err() {
            self.irregularities += 1;
        }
        self.left = true;
        self.timers.clear();
        self.absorb(outbox, &[])
    }

    fn announce(&mut self, to: Vec<NodeId>, outbox: &mut Outbox) {
        for node in to {
            // An announcement reaches a node in whatever generation it is.
            let generation = self.members.get(&node).map_or(0, |known| known.generation);
            if self.foca.announce(Identity { node, generation }, &mut *outbox).is_err() {
                self.irregularities += 1;
            }
        }
    }

    /// Turns what foca asked for into effects. Only of `touched` members anything can have changed.
    fn absorb(&mut self, outbox: Outbox, touched: &[NodeId]) -> Vec<DetectorEffect> {
        self.absorb_with(outbox, touched, FEED_MEMBERS_MIN)
    }

    fn absorb_with(
        &mut self,
        outbox: Outbox,
        touched: &[NodeId],
        feed_members_max: usize,
    ) -> Vec<DetectorEffect> {
        for (timer, after_ms) in outbox.timers {
            match &timer {
                Timer::ProbeRandomMember(token) => self.epoch = *token,
                Timer::SendIndirectProbe { probed_id, .. } => self.probed = Some(probed_id.node),
                _ => {}
            }
            self.set_timer(timer, after_ms);
        }
        let mut effects = Vec::new();
        if outbox.renewed {
            effects.push(DetectorEffect::Renewed { generation: self.generation() });
            self.suspect_anew(&mut effects);
        }
        self.report(touched, &mut effects);
        for (to, packet) in outbox.packets {
            if let Some(known) = self.members.get(&to.node) {
                let suspect = (known.availability == Availability::Suspect).then(|| self.suspicion(to.node));
                let mut datagram =
                    datagram::from_foca(&packet, self.lacking, known.generation, feed_members_max);
                if let Some(suspect) = suspect.flatten() {
                    datagram::tell(&mut datagram, &suspect);
                }
                effects.push(DetectorEffect::Send { to: to.node, datagram });
            }
        }
        effects
    }

    /// Compares what foca holds of `nodes` (sorted, where there are several) with what was last said of them.
    fn report(&mut self, nodes: &[NodeId], effects: &mut Vec<DetectorEffect>) {
        if nodes.is_empty() {
            return;
        }
        for member in self.foca.iter_membership_state() {
            let (node, generation) = (member.id().node, member.id().generation);
            if nodes.binary_search(&node).is_err() {
                continue;
            }
            let Some(known) = self.members.get_mut(&node) else { continue };
            let availability = match member.state() {
                State::Alive => Availability::Up,
                State::Suspect => Availability::Suspect,
                State::Down => Availability::Down,
            };
            if known.generation != generation || known.availability != availability {
                self.lacking -= usize::from(known.availability == Availability::Down);
                self.lacking += usize::from(availability == Availability::Down);
                *known = Known { generation, availability };
                effects.push(DetectorEffect::Changed { node, generation, availability });
            }
        }
    }

    /// Takes all members for up in their first generation without having heard of them, so that a simulation
    /// of a large cluster can begin in its middle.
    pub(super) fn assume_up(&mut self) {
        let mut outbox = Outbox::default();
        let nodes: Vec<NodeId> = self.members.keys().copied().collect();
        let up = nodes.iter().map(|node| Member::alive(Identity { node: *node, generation: 1 }));
        if self.foca.apply_many(up, false, &mut outbox).is_err() {
            self.irregularities += 1;
        }
        self.absorb(outbox, &nodes);
    }
}

#[cfg(test)]
mod tests;
