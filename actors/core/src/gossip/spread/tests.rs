//! Two and more nodes that share a value of a few sections.

use super::*;
use crate::wire::codec;
use proptest::prelude::*;

/// Each section a number that only grows; its version is itself.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Numbers([u64; 4]);

type Message = GossipMessage<[u64; 4], Vec<(usize, u64)>>;

impl Shared for Numbers {
    type Digest = [u64; 4];
    type Section = usize;
    type Part = Vec<(usize, u64)>;

    fn digest(&self) -> [u64; 4] {
        self.0
    }

    fn sections_differing(&self, theirs: &[u64; 4]) -> Vec<usize> {
        (0..4).filter(|section| self.0[*section] != theirs[*section]).collect()
    }

    fn extract(&self, sections: &[usize]) -> Vec<(usize, u64)> {
        sections.iter().map(|section| (*section, self.0[*section])).collect()
    }
}

impl Numbers {
    fn merge(&mut self, part: Vec<(usize, u64)>) {
        for (section, number) in part {
            self.0[section] = self.0[section].max(number);
        }
    }
}

fn node(n: usize) -> NodeId {
    NodeId([n as u8; 16])
}

struct Cluster {
    states: Vec<Numbers>,
    spreads: Vec<Spread<Numbers>>,
    down: Vec<usize>,
    sent: Vec<(usize, usize, Message)>,
}

impl Cluster {
    fn new(states: Vec<Numbers>) -> Self {
        let begin = |(n, state)| Spread::new(0, n as u64, SpreadConfig::default(), state);
        let spreads = states.iter().enumerate().map(begin).collect();
        Self { states, spreads, down: Vec::new(), sent: Vec::new() }
    }

    fn tick(&mut self, n: usize, now_ms: u64) {
        let split = |down: bool| -> Vec<NodeId> {
            let others = (0..self.states.len()).filter(|other| *other != n);
            others.filter(|other| self.down.contains(other) == down).map(node).collect()
        };
        let (available, down) = (split(false), split(true));
        let peers = Peers { available: &available, down: &down };
        let effects = self.spreads[n].tick(now_ms, &self.states[n], peers);
        self.carry_out(n, now_ms, effects);
    }

    fn carry_out(&mut self, n: usize, now_ms: u64, effects: Effects<Numbers>) {
        for effect in effects {
            match effect {
                SpreadEffect::Send { to, message } => {
                    let to = usize::from(to.0[0]);
                    self.sent.push((n, to, message.clone()));
                    let answer = self.spreads[to].message(now_ms, node(n), message, &self.states[to]);
                    self.carry_out(to, now_ms, answer);
                }
                SpreadEffect::Merge { from, part, versions } => {
                    self.states[n].merge(part);
                    let then = self.spreads[n].merged(now_ms, from, versions, &self.states[n]);
                    self.carry_out(n, now_ms, then);
                }
            }
        }
    }

    fn run(&mut self, from_ms: u64, until_ms: u64) {
        for now_ms in (from_ms..until_ms).step_by(50) {
            for n in 0..self.states.len() {
                if self.spreads[n].next_wakeup_ms() <= now_ms {
                    self.tick(n, now_ms);
                }
            }
        }
    }

    fn parts(&self) -> usize {
        self.sent.iter().filter(|(_, _, message)| matches!(message, Message::Part { .. })).count()
    }
}

#[test]
fn when_nothing_changed_only_versions_travel() {
    let mut cluster = Cluster::new(vec![Numbers([1, 2, 3, 4]); 7]);
    cluster.run(0, 60_000);
    let digests = cluster.sent.iter().filter(|sent| matches!(sent.2, Message::Digest(_))).count();
    assert_eq!(digests, cluster.sent.len());
    assert_eq!(digests, 7 * 60, "one exchange per node and second");
}

#[test]
fn a_push_is_asked_for_and_only_what_changed_travels() {
    let mut cluster = Cluster::new(vec![Numbers([1, 2, 3, 4]); 2]);
    cluster.states[0].0[2] = 9;
    cluster.spreads[0].exchange_at_ms = 10_000;
    cluster.tick(0, 0);
    let expected = [
        (0, 1, Message::News([1, 2, 9, 4])),
        (1, 0, Message::Ask([1, 2, 3, 4])),
        (0, 1, Message::Part { part: vec![(2, 9)], versions: Some([1, 2, 9, 4]) }),
    ];
    assert_eq!(cluster.sent, expected);
    assert_eq!(cluster.states[1], cluster.states[0]);
}

#[test]
fn an_exchange_heals_both_sides_in_three_messages() {
    let mut cluster = Cluster::new(vec![Numbers([7, 2, 3, 4]), Numbers([1, 8, 3, 4])]);
    cluster.spreads[0].exchange_at_ms = 0;
    cluster.tick(0, 0);
    let expected = [
        (0, 1, Message::Digest([7, 2, 3, 4])),
        (1, 0, Message::Part { part: vec![(0, 1), (1, 8)], versions: Some([1, 8, 3, 4]) }),
        (0, 1, Message::Part { part: vec![(0, 7)], versions: None }),
    ];
    assert_eq!(cluster.sent, expected);
    assert_eq!(cluster.states, vec![Numbers([7, 8, 3, 4]); 2]);
}

#[test]
fn the_same_news_from_several_is_asked_for_once() {
    let state = Numbers([1, 2, 3, 4]);
    let mut spread = Spread::new(0, 1, SpreadConfig::default(), &state);
    let news = || Message::News([1, 2, 3, 5]);
    assert_eq!(spread.message(0, node(1), news(), &state).len(), 1);
    assert_eq!(spread.message(1, node(2), news(), &state).len(), 0);
    assert_eq!(spread.message(200, node(2), news(), &state).len(), 1, "the answer may have been lost");
    let none = spread.message(400, node(2), Message::News([1, 2, 3, 4]), &state);
    assert_eq!(none.len(), 0, "what we have is not asked for");
}

#[test]
fn now_and_then_a_down_peer_is_tried_and_alone_it_is_always() {
    let mut cluster = Cluster::new(vec![Numbers([1; 4]); 4]);
    cluster.down = vec![3];
    let tried = |cluster: &Cluster| cluster.sent.iter().filter(|sent| sent.0 == 0 && sent.1 == 3).count();
    for second in 1..=100 {
        cluster.tick(0, second * 1000);
    }
    assert_eq!(tried(&cluster), 10);
    cluster.down = vec![1, 2, 3];
    cluster.sent.clear();
    for second in 101..=130 {
        cluster.tick(0, second * 1000);
    }
    assert_eq!(cluster.sent.len(), 30);
}

#[test]
fn a_node_that_slept_does_not_make_up_for_it() {
    let mut cluster = Cluster::new(vec![Numbers([1; 4]); 2]);
    cluster.tick(0, 0);
    cluster.sent.clear();
    for repeat in 0..5 {
        cluster.tick(0, 3_600_000 + repeat * 100);
    }
    assert_eq!(cluster.sent.len(), 1);
}

proptest! {
    #[test]
    fn whatever_differs_becomes_equal_and_then_quiet(
        states in prop::collection::vec(prop::array::uniform4(0u64..5), 2..8)
    ) {
        let mut joined = Numbers([0; 4]);
        for state in &states {
            joined.merge(state.iter().copied().enumerate().collect());
        }
        let nodes = states.len();
        let mut cluster = Cluster::new(states.into_iter().map(Numbers).collect());
        cluster.run(0, 30_000);
        prop_assert_eq!(&cluster.states, &vec![joined; nodes]);
        cluster.sent.clear();
        cluster.run(30_000, 40_000);
        prop_assert_eq!(cluster.parts(), 0);
    }

    #[test]
    fn any_bytes_are_a_message_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(message) = codec::decode::<Message>(&bytes) {
            let again = codec::encode(&message).unwrap();
            prop_assert_eq!(codec::decode::<Message>(&again).unwrap(), message);
        }
    }
}
