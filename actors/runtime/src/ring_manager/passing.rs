//! Passing partitions on: those with nothing in them go to their heirs at once, with all requests for them held back in
//! between; the others wait for handoff. And the other way round: what comes here, and whether it was complete where
//! it was. It decides in which order that happens; what is to go where is the state's.

use super::{Bequest, RingManager, RingMessage};
use crate::families;
use crate::handoff::manager::ManagerMessage;
use crate::net::Channel;
use crate::node_core::NodeCore;
use actix::Context;
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::membership::{ClusterState, Possession, StatePart};
use ringwork_core::wire::codec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long members may take to say which strays they hold.
const STRAYS_WITHIN: Duration = Duration::from_secs(3);

impl RingManager {
    /// Partitions that are to go elsewhere and have nothing in them go at once; the others wait for handoff.
    pub(super) fn pass_on_what_is_empty(&mut self) {
        // What is not kept yet is not acted upon.
        if self.passing_on || self.keeping || !self.may_pass_on || self.node.is_stopping() {
            return;
        }
        let generations = self.node.generations.clone();
        let bequests: BTreeMap<Partition, NodeId> = self.state.bequests(self.node.id).collect();
        self.may_pass_on = !bequests.is_empty();
        self.filled.retain(|partition| bequests.contains_key(partition));
        // What lacks something is repaired first: whoever is passed a partition may take it for whole.
        let lacking = generations.lacking(&self.state, self.node.id);
        let has_nothing_else = |partition: Partition| {
            generations.held(partition).is_some_and(|held| {
                held.sealed.is_empty() && held.inbound.is_none() && held.outbound.is_none()
            })
        };
        let mut partitions = Vec::new();
        for (partition, heir) in bequests {
            if lacking.contains(&partition)
                || !self.is_up(heir)
                || self.filled.contains(&partition)
                || !has_nothing_else(partition)
            {
                continue;
            }
            if let Some(claim) = generations.claim(partition) {
                self.claims.push(claim);
                partitions.push(partition);
            }
        }
        let Some(me) = self.me.clone().filter(|_| !partitions.is_empty()) else { return };
        self.passing_on = true;
        let frozen: Vec<_> = self.movable.iter().map(|service| service.freeze(partitions.clone())).collect();
        actix_rt::spawn(async move {
            let asked: BTreeSet<Partition> = partitions.into_iter().collect();
            let mut empty = asked.clone();
            for frozen in frozen {
                let of_service = frozen.await;
                empty.retain(|partition| of_service.contains(partition));
            }
            me.post_control(RingMessage::Frozen(asked, empty));
        });
    }

    /// What was held here and was forced to another node, because somebody took this one for lost or two claimants
    /// forced at once, is somebody else's data from now on. Marked before anybody sees that it is.
    pub(super) fn mark_what_was_taken(&self, before: &ClusterState) {
        if before.cluster() != self.state.cluster() {
            return; // it was a cluster of its own, and had nothing
        }
        let me = self.node.id;
        let places =
            self.state.size().partitions().zip(before.possession().iter().zip(self.state.possession()));
        for (partition, (before, now)) in places {
            if before.holder == me && before.was_taken(*now) {
                self.node.strays.mark(partition);
            }
        }
    }

    /// Which of these replicas lack nothing, as far as is known now.
    fn complete_among(&self, partitions: impl IntoIterator<Item = Partition>) -> Complete {
        let doubts = Doubts::of(&self.node);
        // A doubt that has been counted and not yet come here counts all the same.
        if doubts.own != self.node.ring.load().doubts() {
            return Complete { doubts, partitions: BTreeSet::new() };
        }
        let incomplete = self.completeness.incomplete(&self.state);
        let partitions = partitions.into_iter().filter(|partition| !incomplete.contains(partition)).collect();
        Complete { doubts, partitions }
    }

    /// Passes on what was sent.
    pub(super) fn pass_on(
        &mut self,
        partition: Partition,
        possession: Possession,
        heir: NodeId,
        done: oneshot::Sender<Option<(Possession, bool)>>,
    ) {
        let me = self.node.id;
        let held = self.state.possession().get(usize::from(partition.0)).copied();
        let wished = self.state.bequest(me, partition) == Some(heir);
        let lacks = self.node.generations.lacking(&self.state, me).contains(&partition);
        if held != Some(possession) || !wished || lacks || !self.is_up(heir) {
            let _ = done.send(None);
            return;
        }
        let judged = self.complete_among([partition]);
        let Some(passed) = self.state.pass_on(me, partition) else {
            let _ = done.send(None);
            return;
        };
        let generation = self.availability.get(&heir).map_or(0, |(generation, _)| *generation);
        let node = self.node.clone();
        self.waiting.push(Box::new(move |kept| {
            if kept.is_err() {
                return; // the node ends; who waits hears nothing, and drops nothing
            }
            let complete = judged.still_has(partition, Doubts::of(&node));
            if complete {
                tell_heir(&node, heir, Bequest { generation, passed: vec![(partition, passed)] });
            }
            let _ = done.send(Some((passed, complete)));
        }));
    }

    pub(super) fn frozen(&mut self, asked: BTreeSet<Partition>, empty: BTreeSet<Partition>) {
        let me = self.node.id;
        let judged = self.complete_among(asked.iter().copied());
        let mut to: BTreeMap<NodeId, Vec<(Partition, Possession)>> = BTreeMap::new();
        let filled: BTreeSet<Partition> = asked.difference(&empty).copied().collect();
        if !filled.is_empty() && self.node.tell_handoff(ManagerMessage::Filled(filled.clone())) {
            self.filled.extend(filled);
        }
        for partition in &asked {
            if !empty.contains(partition) {
                continue;
            }
            // Nothing was sent in the end, whatever had begun.
            self.node.generations.update(*partition, |held| held.intent = None);
            if let Some(possession) = self.state.pass_on(me, *partition) {
                to.entry(possession.holder).or_default().push((*partition, possession));
            }
        }
        let generation_of =
            |heir: &NodeId| self.availability.get(heir).map_or(0, |(generation, _)| *generation);
        let to: BTreeMap<NodeId, (u64, Vec<(Partition, Possession)>)> =
            to.into_iter().map(|(heir, passed)| (heir, (generation_of(&heir), passed))).collect();
        let (movable, node, me) = (self.movable.clone(), self.node.clone(), self.me.clone());
        let thawed: Vec<Partition> = asked.into_iter().collect();
        // Requests go on when the new holders are known here, and are sent there then.
        self.waiting.push(Box::new(move |kept| {
            for service in &movable {
                service.thaw(thawed.clone());
            }
            // Only now: a next round must not be undone by this one's thaw.
            if let Some(me) = me {
                me.post_control(RingMessage::Thawed);
            }
            if kept.is_ok() {
                let now = Doubts::of(&node);
                for (heir, (generation, mut passed)) in to {
                    passed.retain(|(partition, _)| judged.still_has(*partition, now));
                    if !passed.is_empty() {
                        tell_heir(&node, heir, Bequest { generation, passed });
                    }
                }
            }
        }));
    }

    /// What came here was complete where it was, if it is still the same life of this node that it came to: what was
    /// taken for down in between may lack what stand-ins took. Possession may come later than this word of it.
    pub(super) fn inherit(&mut self, from: NodeId, bequest: Bequest, ctx: &mut Context<Self>) {
        let Bequest { generation, passed } = bequest;
        if generation == self.node.generation.load(Ordering::SeqCst) {
            for (partition, possession) in passed {
                let before = self.state.possession().get(usize::from(partition.0)).copied();
                let known = |before: Possession| before.holder == from || before == possession;
                // Possession itself comes with the state, together with the target that wished it so: taken over alone,
                // by a node that knows an older target, it would be passed back at once.
                if possession.holder == self.node.id && before.is_some_and(known) {
                    self.inherited.insert(partition, generation);
                }
            }
            self.settle(ctx);
        }
    }

    /// Asks those members whose word this node's replicas wait for.
    pub(super) fn ask_for_strays(&mut self) {
        let (Some(network), Some(me)) = (self.node.network(), self.me.clone()) else { return };
        let (round, generation) = (self.completeness.round(), self.node.generation.load(Ordering::SeqCst));
        for node in self.completeness.to_ask(&self.state) {
            if !self.is_up(node) || !self.asking_strays.insert(node) {
                continue;
            }
            let (network, me) = (network.clone(), me.clone());
            actix_rt::spawn(async move {
                let channel = Channel::Control;
                let encode = |out: &mut Vec<u8>| codec::encode_into(&generation, out);
                let answer = network
                    .call(node, channel, families::STRAYS, families::VERSION, STRAYS_WITHIN, encode)
                    .await;
                // Who did not answer is asked again at the next look, as is who says "not yet": a question that went
                // with its connection must not keep all replicas in doubt until its deadline.
                let part = answer
                    .ok()
                    .and_then(|answer| codec::decode::<Option<StatePart>>(&answer.body).ok().flatten());
                me.post_control(RingMessage::StraysTold(node, round, part));
            });
        }
    }

    pub(super) fn all_partitions(&self) -> Vec<Partition> {
        self.state.size().partitions().collect()
    }

    pub(super) fn freeze_all(&mut self, done: oneshot::Sender<bool>) {
        let partitions = self.all_partitions();
        let frozen: Vec<_> = self.movable.iter().map(|service| service.freeze(partitions.clone())).collect();
        actix_rt::spawn(async move {
            let mut empty = true;
            for frozen in frozen {
                empty &= frozen.await.len() == partitions.len();
            }
            let _ = done.send(empty);
        });
    }

    pub(super) fn thaw_all(&mut self) {
        let partitions = self.all_partitions();
        for service in &self.movable {
            service.thaw(partitions.clone());
        }
    }
}

/// How often this node's replicas were put in doubt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Doubts {
    /// Because it may have been taken for down.
    own: u64,
    /// Because a member came back that may have taken it for down.
    returns: u64,
}

impl Doubts {
    fn of(node: &NodeCore) -> Self {
        Self { own: node.doubts.load(Ordering::SeqCst), returns: node.returns.load(Ordering::SeqCst) }
    }
}

/// Replicas that were complete when it was looked.
struct Complete {
    /// How many doubts had been counted then.
    doubts: Doubts,
    partitions: BTreeSet<Partition>,
}

impl Complete {
    /// Whether one was, and no doubt has come up since: between the look and the word of it the state is kept on disk,
    /// and meanwhile the node may have been taken for down and stood in for.
    fn still_has(&self, partition: Partition, now: Doubts) -> bool {
        self.partitions.contains(&partition) && self.doubts == now
    }
}

/// Tells an heir what was complete here. Lost, it asks all members instead.
fn tell_heir(node: &NodeCore, heir: NodeId, bequest: Bequest) {
    if let Some(network) = node.network() {
        let encode = |out: &mut Vec<u8>| codec::encode_into(&bequest, out);
        let _ = network.send(heir, Channel::Control, families::BEQUEST, families::VERSION, encode);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_complete_is_not_called_so_once_a_doubt_of_either_kind_has_come_up() {
        let then = Doubts { own: 3, returns: 5 };
        let judged = Complete { doubts: then, partitions: BTreeSet::from([Partition(1)]) };
        assert!(judged.still_has(Partition(1), then));
        assert!(!judged.still_has(Partition(2), then), "it was not");
        for now in [Doubts { own: 4, ..then }, Doubts { returns: 6, ..then }] {
            assert!(!judged.still_has(Partition(1), now), "{now:?}");
        }
    }
}
