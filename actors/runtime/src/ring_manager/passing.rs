//! Passing partitions on: those with nothing in them go to their heirs at once, with all requests for them held back in
//! between; the others wait for handoff. And the other way round: what comes here, and whether it was complete where
//! it was. It decides in which order that happens; what is to go where is the state's.

use super::{Bequest, RingManager, RingMessage};
use crate::families;
use crate::net::Channel;
use actix::Context;
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::membership::Possession;
use ringwork_core::wire::codec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// A partition that has data is asked about again after this: it waits for handoff.
const HELD_BACK: Duration = Duration::from_secs(2);

impl RingManager {
    /// Partitions that are to go elsewhere and have nothing in them go at once; the others wait for handoff.
    pub(super) fn pass_on_what_is_empty(&mut self) {
        if self.passing_on || self.node.is_stopping() {
            return;
        }
        let now = self.node.clock.moment();
        self.held_back.retain(|_, since| now.saturating_sub(*since) < HELD_BACK);
        let up = |heir: &NodeId| self.is_up(*heir);
        let partitions: Vec<Partition> = self
            .state
            .bequests(self.node.id)
            .filter(|(partition, heir)| up(heir) && !self.held_back.contains_key(partition))
            .map(|(partition, _)| partition)
            .collect();
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

    pub(super) fn frozen(&mut self, asked: BTreeSet<Partition>, empty: BTreeSet<Partition>) {
        let now = self.node.clock.moment();
        let me = self.node.id;
        let incomplete = self.completeness.incomplete(&self.state);
        let mut to: BTreeMap<NodeId, Vec<(Partition, Possession)>> = BTreeMap::new();
        // A doubt that has been counted and not yet come here counts all the same.
        let complete = self.node.doubts.load(Ordering::SeqCst) == self.node.ring.load().doubts();
        for partition in &asked {
            if !empty.contains(partition) {
                self.held_back.insert(*partition, now);
            } else if let Some(possession) = self.state.pass_on(me, *partition)
                && complete
                && !incomplete.contains(partition)
            {
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
            if kept.is_ok()
                && let Some(network) = node.network()
            {
                for (heir, (generation, passed)) in to {
                    let bequest = Bequest { generation, passed };
                    let encode = |out: &mut Vec<u8>| codec::encode_into(&bequest, out);
                    // Lost, the heir asks all members instead.
                    let _ =
                        network.send(heir, Channel::Control, families::BEQUEST, families::VERSION, encode);
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
