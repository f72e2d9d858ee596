//! A cluster in virtual time whose connections lose, double and delay: metadata becomes the same everywhere, and
//! nothing that was removed comes back.

use super::*;
use crate::gossip::spread::{Effects, GossipMessage, Peers, Spread, SpreadConfig, SpreadEffect};
use proptest::prelude::*;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;

type Message = GossipMessage<MetadataDigest, MetadataPart>;

struct Machine {
    metadata: Metadata,
    life: Life,
    spread: Spread<SharedMetadata>,
}

impl Machine {
    fn shared(&self) -> SharedMetadata {
        SharedMetadata::of(Arc::new(self.metadata.clone()))
    }
}

struct Cluster {
    machines: Vec<Machine>,
    random: Xoshiro256PlusPlus,
    loss: f64,
    now_ms: u64,
    /// By arrival and order of sending.
    under_way: BTreeMap<(u64, u64), (usize, usize, Message)>,
    sent: u64,
    parts: usize,
}

impl Cluster {
    fn new(nodes: usize, seed: u64, loss: f64) -> Self {
        let machine = |number: usize| {
            let shared = SharedMetadata::of(Arc::new(fresh()));
            let spread = Spread::new(0, seed + number as u64, SpreadConfig::default(), &shared);
            Machine { metadata: fresh(), life: at(&fresh(), number, 1).life, spread }
        };
        Self {
            machines: (0..nodes).map(machine).collect(),
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            loss,
            now_ms: 0,
            under_way: BTreeMap::new(),
            sent: 0,
            parts: 0,
        }
    }

    fn members(&self) -> Vec<NodeId> {
        (0..self.machines.len()).map(node).collect()
    }

    fn carry_out(&mut self, from: usize, effects: Effects<SharedMetadata>) {
        for effect in effects {
            match effect {
                SpreadEffect::Send { to, message } => {
                    self.parts += usize::from(matches!(message, Message::Part { .. }));
                    for _ in 0..=usize::from(self.random.random_bool(0.1)) {
                        if !self.random.random_bool(self.loss) {
                            let arrival = self.now_ms + self.random.random_range(1..400);
                            self.sent += 1;
                            let to = usize::from(to.0[0]) - 1;
                            self.under_way.insert((arrival, self.sent), (from, to, message.clone()));
                        }
                    }
                }
                SpreadEffect::Merge { from: sender, part, versions } => {
                    let now_ms = self.now_ms;
                    let machine = &mut self.machines[from];
                    machine.metadata.join_part(&part, |_| true).unwrap();
                    let shared = machine.shared();
                    let effects = machine.spread.merged(now_ms, sender, versions, &shared);
                    self.carry_out(from, effects);
                }
            }
        }
    }

    fn look(&mut self, number: usize) {
        let members = self.members();
        let machine = &mut self.machines[number];
        machine.metadata.note_ready(&members);
        speak(&mut machine.metadata, number, &[]);
        machine.metadata.retire(&members, |_| false);
    }

    fn run(&mut self, milliseconds: u64) {
        let until = self.now_ms + milliseconds;
        while self.now_ms < until {
            self.now_ms += 50;
            while let Some((&at, _)) =
                self.under_way.first_key_value().filter(|((at, _), _)| *at <= self.now_ms)
            {
                let Some((from, to, message)) = self.under_way.remove(&at) else { break };
                let shared = self.machines[to].shared();
                let effects = self.machines[to].spread.message(self.now_ms, node(from), message, &shared);
                self.carry_out(to, effects);
            }
            for number in 0..self.machines.len() {
                self.look(number);
                let peers: Vec<_> = self.members().into_iter().filter(|peer| *peer != node(number)).collect();
                let shared = self.machines[number].shared();
                let peers = Peers { available: &peers, down: &[] };
                let effects = self.machines[number].spread.tick(self.now_ms, &shared, peers);
                self.carry_out(number, effects);
            }
        }
    }
}

#[test]
fn when_nothing_changes_nothing_but_versions_travels() {
    let mut cluster = Cluster::new(5, 3, 0.0);
    let life = cluster.machines[2].life;
    let now = HybridTime::at_ms(1);
    cluster.machines[2].metadata.put(&name("settings"), "k", vec![1], At { life, now }).unwrap();
    cluster.run(20_000);
    cluster.parts = 0;
    cluster.run(20_000);
    assert_eq!(cluster.parts, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn it_converges_and_nothing_removed_comes_back(
        seed in any::<u64>().prop_map(|seed| seed >> 8),
        nodes in 2..6usize,
        loss in 0.0..0.5f64,
        steps in prop::collection::vec((0..6usize, 0..4usize, 0..10u8, 0..1500u64), 1..40),
    ) {
        let mut cluster = Cluster::new(nodes, seed, loss);
        let settings = name("settings");
        let mut log: Vec<Vec<u8>> = Vec::new();
        // By key: values that somebody has removed or replaced after having seen them.
        let mut gone: BTreeSet<Vec<u8>> = BTreeSet::new();
        for (at, key, what, pause) in steps {
            let (number, key) = (at % nodes, format!("k{key}"));
            let now = HybridTime::at_ms(cluster.now_ms + 1);
            let machine = &mut cluster.machines[number];
            let namespace = machine.metadata.namespace(&settings).cloned().unwrap_or_default();
            gone.extend((what != 0).then(|| namespace.siblings(&key).map(|v| v.value.clone())).into_iter().flatten());
            match what {
                0 => machine.life = machine.metadata.begin_life(node(number), now),
                1..=3 => _ = machine.metadata.remove(&settings, &key),
                _ => {
                    let value = log.len().to_be_bytes().to_vec();
                    log.push(value.clone());
                    machine.metadata.put(&settings, &key, value, At { life: machine.life, now }).unwrap();
                }
            }
            cluster.run(pause);
        }
        cluster.loss = 0.0;
        cluster.run(30_000);
        let first = cluster.machines[0].metadata.clone();
        for machine in &cluster.machines {
            prop_assert_eq!(&machine.metadata, &first);
        }
        let namespace = first.namespace(&settings).cloned().unwrap_or_default();
        let stands: BTreeSet<_> = namespace.versions().map(|(_, _, v)| v.value.clone()).collect();
        let expected: BTreeSet<_> = log.into_iter().filter(|value| !gone.contains(value)).collect();
        prop_assert_eq!(stands, expected);
        cluster.parts = 0;
        cluster.run(5_000);
        prop_assert_eq!(cluster.parts, 0, "and then it is quiet");
    }
}
