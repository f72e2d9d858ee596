//! A few detectors that speak to each other, tick by tick, and what they must never believe.

use super::*;
use crate::gossip::datagram::tests::{datagrams, node};
use crate::gossip::datagram::{GENERATION_MAX, first_generation};
use crate::ids::Boot;
use Availability::{Down, Suspect, Up};
use proptest::prelude::*;
use std::collections::VecDeque;

const TICK_MS: u64 = 50;

/// Detectors 0, 1, … with node ids of the same numbers, and everything they did.
struct Cluster {
    detectors: Vec<FailureDetector>,
    /// Who hears nothing and says nothing.
    cut_off: Vec<usize>,
    /// Whose process stands still: cut off, and without a tick.
    stopped: Vec<usize>,
    now_ms: u64,
    /// In order: who, and what.
    effects: Vec<(usize, DetectorEffect)>,
}

fn detector(number: usize, generation: u64) -> FailureDetector {
    FailureDetector::new(node(number as u8), generation, number as u64, 0, DetectorConfig::default())
}

fn ids(count: usize) -> Vec<NodeId> {
    (0..count).map(|number| node(number as u8)).collect()
}

impl Cluster {
    fn new(count: usize) -> Self {
        let detectors = (0..count).map(|number| detector(number, 1)).collect();
        let mut cluster =
            Self { detectors, cut_off: Vec::new(), stopped: Vec::new(), now_ms: 0, effects: Vec::new() };
        for number in 0..count {
            let first = cluster.detectors[number].set_members(&ids(count));
            cluster.carry_out(number, first);
        }
        cluster.run(2000);
        cluster.effects.clear();
        cluster
    }

    fn carry_out(&mut self, number: usize, effects: Vec<DetectorEffect>) {
        let mut waiting = VecDeque::from([(number, effects)]);
        let mut answers = 0;
        while let Some((from, effects)) = waiting.pop_front() {
            answers += 1;
            assert!(answers < 10_000, "they answer each other without end");
            for effect in effects {
                self.effects.push((from, effect.clone()));
                let DetectorEffect::Send { to, datagram } = effect else { continue };
                let to = usize::from(to.0[0]);
                if !self.silent(from)
                    && !self.silent(to)
                    && let Ok(answer) = self.detectors[to].datagram(node(from as u8), &datagram)
                {
                    waiting.push_back((to, answer));
                }
            }
        }
    }

    fn silent(&self, number: usize) -> bool {
        self.cut_off.contains(&number) || self.stopped.contains(&number)
    }

    fn run(&mut self, milliseconds: u64) {
        let until_ms = self.now_ms + milliseconds;
        while self.now_ms < until_ms {
            self.now_ms += TICK_MS;
            for number in
                (0..self.detectors.len()).filter(|number| !self.stopped.contains(number)).collect::<Vec<_>>()
            {
                let effects = self.detectors[number].tick(self.now_ms);
                self.carry_out(number, effects);
            }
        }
        for detector in &self.detectors {
            assert_eq!(detector.irregularities(), 0);
            assert_eq!(said(detector), held(detector));
        }
    }

    fn views(&self, of: usize) -> Vec<Availability> {
        self.detectors.iter().map(|detector| detector.availability(node(of as u8))).collect()
    }

    /// What `observer` said of `of`, in order.
    fn changes(&self, observer: usize, of: usize) -> Vec<Availability> {
        let changes = self.effects.iter().filter_map(|(number, effect)| match effect {
            DetectorEffect::Changed { node: subject, availability, .. }
                if *number == observer && *subject == node(of as u8) =>
            {
                Some(*availability)
            }
            _ => None,
        });
        changes.collect()
    }
}

/// What a detector has said of those it has heard of, and what foca holds of them.
fn said(detector: &FailureDetector) -> BTreeMap<NodeId, (u64, Availability)> {
    let heard = detector.members().filter(|(_, generation, _)| *generation > 0);
    heard.map(|(node, generation, availability)| (node, (generation, availability))).collect()
}

fn held(detector: &FailureDetector) -> BTreeMap<NodeId, (u64, Availability)> {
    let held = detector.foca.iter_membership_state().map(|member| {
        let availability = match member.state() {
            State::Alive => Up,
            State::Suspect => Suspect,
            State::Down => Down,
        };
        (member.id().node, (member.id().generation, availability))
    });
    held.filter(|(_, (generation, _))| *generation > 0).collect()
}

#[test]
fn nobody_is_up_before_being_heard_of() {
    let mut alone = detector(0, 1);
    alone.set_members(&ids(3));
    assert_eq!(alone.availability(node(0)), Up);
    assert_eq!(alone.availability(node(1)), Down);
    let cluster = Cluster::new(3);
    for of in 0..3 {
        assert_eq!(cluster.views(of), [Up; 3]);
    }
}

#[test]
fn a_silent_node_becomes_suspect_and_then_down_for_all() {
    let mut cluster = Cluster::new(4);
    cluster.cut_off = vec![3];
    cluster.run(6000);
    for observer in 0..3 {
        assert_eq!(cluster.changes(observer, 3), [Suspect, Down], "observer {observer}");
    }
    assert_eq!(cluster.views(3), [Down, Down, Down, Up]);
    assert_eq!(cluster.views(0)[1..3], [Up, Up]);
}

#[test]
fn a_lost_connection_makes_suspect_at_once_and_down_after_the_suspicion() {
    let mut cluster = Cluster::new(3);
    cluster.cut_off = vec![2];
    let effects = cluster.detectors[0].connection_lost(node(2));
    assert_eq!(effects[0], DetectorEffect::Changed { node: node(2), generation: 1, availability: Suspect });
    cluster.carry_out(0, effects);
    assert_eq!(cluster.views(2)[..2], [Suspect, Suspect], "the other was told");
    cluster.run(1900);
    assert_eq!(cluster.views(2)[..2], [Suspect, Suspect]);
    cluster.run(400);
    assert_eq!(cluster.views(2)[..2], [Down, Down]);
    assert_eq!(cluster.detectors[0].connection_lost(node(2)), [], "it is down already");
}

#[test]
fn who_only_lost_a_connection_objects_and_is_never_down() {
    let mut cluster = Cluster::new(2);
    for _ in 0..50 {
        let effects = cluster.detectors[0].connection_lost(node(1));
        cluster.carry_out(0, effects);
        cluster.run(700);
        assert_eq!(cluster.views(1), [Up, Up]);
    }
    assert_eq!(cluster.changes(0, 1), [Suspect, Up].repeat(50));
    // foca alone would tell it that it is down when the time of each suspicion is over.
    assert!(cluster.effects.iter().all(|(_, effect)| !matches!(effect, DetectorEffect::Renewed { .. })));
}

/// A process stands still until the others take it for down. As it goes on all its connections are found broken, so
/// nobody hears whom it suspects; then it learns that it was down. foca forgets its suspicions' timers with the former
/// life, and has said each suspicion as often as it ever will.
fn wakes_with_all_connections_broken(cut_off: Vec<usize>) -> Cluster {
    let mut cluster = Cluster::new(5);
    cluster.stopped = vec![0];
    cluster.run(8000);
    assert_eq!(cluster.views(0), [Up, Down, Down, Down, Down]);
    assert_eq!(cluster.detectors[0].availability(node(1)), Up, "it stood still, so it missed nobody");
    cluster.stopped.clear();
    cluster.cut_off = cut_off;
    for _ in 0..10 {
        for lost in 1..5 {
            cluster.detectors[0].connection_lost(node(lost)); // and what it says of it is lost
        }
    }
    let renewal = cluster.detectors[0].datagram(node(2), &word_of_death(0, 1, 1)).unwrap();
    assert!(renewal.contains(&DetectorEffect::Renewed { generation: 2 }));
    cluster.carry_out(0, renewal);
    cluster.run(8000);
    cluster
}

#[test]
fn a_suspicion_from_a_former_life_is_told_and_objected_to() {
    let cluster = wakes_with_all_connections_broken(Vec::new());
    for of in 0..5 {
        assert_eq!(cluster.views(of), [Up; 5], "{of}");
        assert!(!cluster.changes(0, of).contains(&Down), "{of}");
    }
}

#[test]
fn a_suspicion_from_a_former_life_of_one_that_is_really_gone_ends() {
    let cluster = wakes_with_all_connections_broken(vec![1]);
    assert_eq!(cluster.views(1), [Down, Up, Down, Down, Down]);
    assert_eq!(cluster.views(2)[2..], [Up, Up, Up]);
}

#[test]
fn who_was_taken_for_down_is_told_before_anybody_sees_it_up() {
    for count in [2, 3, 5] {
        let mut cluster = Cluster::new(count);
        cluster.cut_off = vec![0];
        cluster.run(8000);
        assert_eq!(cluster.views(0)[1], Down);
        assert_eq!(cluster.views(1)[0], Down, "and it takes them for down, being cut off");
        cluster.cut_off.clear();
        cluster.effects.clear();
        cluster.run(4000);
        for of in 0..count {
            assert_eq!(cluster.views(of), vec![Up; count]);
        }
        let mut renewed_to = vec![1; count];
        for (number, effect) in &cluster.effects {
            match effect {
                DetectorEffect::Renewed { generation } => renewed_to[*number] = *generation,
                DetectorEffect::Changed { node, generation, availability: Up } => {
                    let of = usize::from(node.0[0]);
                    assert!(renewed_to[of] >= *generation, "{of} was seen up before it knew");
                    assert!(*generation > 1, "it came back in the life in which it was down");
                }
                _ => {}
            }
        }
        assert!(renewed_to[0] > 1);
        assert_eq!(cluster.detectors[0].generation(), renewed_to[0]);
    }
}

/// Node 1 says to node `to` that it is down in its `generation`, and that it knows of `known`.
fn word_of_death(to: u8, generation: u64, known: u64) -> Vec<u8> {
    let header = foca::Header {
        src: Identity { node: node(1), generation: 1 },
        src_incarnation: 0,
        dst: Identity { node: node(to), generation },
        message: Message::TurnUndead,
    };
    let told = Datagram { header, remark: known, members: Vec::new() };
    datagram::from_foca(&told.for_foca(), 0, known, 0)
}

#[test]
fn the_news_of_a_new_life_stands_before_what_is_sent_in_it() {
    let mut cluster = Cluster::new(3);
    for known in [1, 100] {
        let now = cluster.detectors[0].generation();
        let bytes = word_of_death(0, now, known);
        let effects = cluster.detectors[0].datagram(node(1), &bytes).unwrap();
        let generation = now.max(known) + 1;
        assert_eq!(effects[0], DetectorEffect::Renewed { generation });
        assert!(effects.iter().any(|effect| matches!(effect, DetectorEffect::Send { .. })));
        let renewals = effects.iter().filter(|effect| matches!(effect, DetectorEffect::Renewed { .. }));
        assert_eq!(renewals.count(), 1);
    }
    // It goes on probing, though it hears nothing any more.
    cluster.cut_off = vec![0];
    cluster.run(8000);
    assert_eq!((cluster.views(1)[0], cluster.views(2)[0]), (Down, Down));
}

#[test]
fn a_restart_is_a_greater_generation_even_when_nobody_missed_the_node() {
    let mut cluster = Cluster::new(3);
    let generation = first_generation(Boot(9));
    cluster.detectors[2] = detector(2, generation);
    let first = cluster.detectors[2].set_members(&ids(3));
    cluster.carry_out(2, first);
    cluster.run(1000);
    let seen = DetectorEffect::Changed { node: node(2), generation, availability: Up };
    for observer in 0..2 {
        assert!(cluster.effects.contains(&(observer, seen.clone())), "observer {observer}");
        assert_eq!(cluster.views(2)[observer], Up);
    }
}

#[test]
fn who_speaks_to_a_former_life_is_told_of_the_present_one() {
    let mut cluster = Cluster::new(2);
    let generation = first_generation(Boot(9));
    cluster.detectors[1] = detector(1, generation);
    let _lost = cluster.detectors[1].set_members(&ids(2));
    cluster.run(800); // its own next announcement is due after a second
    assert_eq!(cluster.detectors[0].members().next(), Some((node(1), generation, Up)));
    assert!(!cluster.changes(0, 1).contains(&Suspect), "it was found silent");
}

#[test]
fn a_node_whose_directory_was_set_back_overtakes_its_former_life() {
    let mut cluster = Cluster::new(3);
    for boot in [700, 3] {
        cluster.detectors[2] = detector(2, first_generation(Boot(boot)));
        let first = cluster.detectors[2].set_members(&ids(3));
        cluster.carry_out(2, first);
        cluster.run(3000);
        assert_eq!(cluster.views(2), [Up, Up, Up], "boot {boot}");
    }
    assert_eq!(cluster.detectors[2].generation(), first_generation(Boot(700)) + 1);
}

#[test]
fn who_is_no_longer_a_member_is_forgotten_and_refused() {
    let mut cluster = Cluster::new(3);
    for number in 0..2 {
        let effects = cluster.detectors[number].set_members(&ids(2));
        assert_eq!(effects, [DetectorEffect::Changed { node: node(2), generation: 1, availability: Down }]);
    }
    cluster.run(5000);
    let to_it = cluster.effects.iter().filter(|(number, effect)| {
        *number < 2 && matches!(effect, DetectorEffect::Send { to, .. } if *to == node(2))
    });
    assert_eq!(to_it.count(), 0);
    assert_eq!(cluster.views(1), [Up, Up, Down], "to the one that is ignored the others are down");
    assert_eq!(cluster.detectors[0].datagram(node(2), &[1, 2, 3]), Err(DetectorError::Stranger(node(2))));
    // It may come back, and those who named it again find it.
    for number in 0..2 {
        let effects = cluster.detectors[number].set_members(&ids(3));
        cluster.carry_out(number, effects);
    }
    cluster.run(3000);
    assert_eq!(cluster.views(2), [Up, Up, Up]);
}

#[test]
fn who_leaves_is_down_at_once_and_falls_silent() {
    let mut cluster = Cluster::new(3);
    let effects = cluster.detectors[2].leave();
    cluster.carry_out(2, effects);
    assert_eq!(cluster.views(2)[..2], [Down, Down]);
    assert!(!cluster.changes(0, 2).contains(&Suspect));
    cluster.effects.clear();
    cluster.run(3000);
    assert!(cluster.effects.iter().all(|(number, _)| *number != 2));
    let mut told = Datagram::read(node(1), node(2), &word_of_death(2, 1, 1)).unwrap();
    told.header.message = Message::Gossip;
    told.members = vec![Member::down(Identity { node: node(2), generation: 1 })];
    let bytes = datagram::from_foca(&told.for_foca(), 0, 0, 0);
    assert_eq!(cluster.detectors[2].datagram(node(1), &bytes), Ok(Vec::new()));
    assert_eq!(cluster.detectors[2].generation(), 1, "it does not come back for that");
    assert_eq!(cluster.views(2)[..2], [Down, Down]);
}

#[test]
fn however_long_it_slept_a_tick_moves_time_by_one_step() {
    let mut cluster = Cluster::new(3);
    cluster.detectors[0].tick(cluster.now_ms + 3_600_000);
    assert_eq!(cluster.views(1)[0], Up);
    let woken_ms = cluster.now_ms + 3_600_000;
    for late_ms in 0..10 {
        cluster.detectors[0].tick(woken_ms + late_ms);
        assert!(cluster.detectors[0].next_wakeup_ms() > woken_ms + late_ms);
    }
    cluster.detectors[0].tick(5); // a clock that goes back does nothing
    for of in 1..3 {
        assert_eq!(cluster.views(of)[0], Up, "nothing was heard, but hardly any time has passed");
    }
}

#[test]
fn an_answer_to_an_announcement_names_few_unless_its_sender_lacks_many() {
    let mut one = detector(0, 1);
    one.set_members(&ids(200));
    one.assume_up();
    let mut feed_bytes = |lacking: usize| {
        let header = foca::Header {
            src: Identity { node: node(1), generation: 1 },
            src_incarnation: 0,
            dst: Identity { node: node(0), generation: 0 },
            message: Message::Announce,
        };
        let announce = Datagram { header, remark: 0, members: Vec::new() };
        let bytes = datagram::from_foca(&announce.for_foca(), lacking, 0, 0);
        match &one.datagram(node(1), &bytes).unwrap()[..] {
            [DetectorEffect::Send { datagram, .. }] => datagram.len(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(feed_bytes(0), 16 + 8 * 24);
    assert_eq!(feed_bytes(100), 16 + 100 * 24);
    assert_eq!(feed_bytes(60_000), 16 + 198 * 24);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever members say to each other, forged or not: no panic (foca asserts a lot in this build), no
    /// silent change, nothing about strangers, nothing sent to oneself.
    #[test]
    fn any_datagrams_leave_the_detector_consistent(
        steps in prop::collection::vec((datagrams(), 1u8..4, any::<bool>(), 0u64..400), 1..60)
    ) {
        let mut one = detector(2, first_generation(Boot(1)));
        one.set_members(&ids(3)); // and 3 is a stranger
        let mut now_ms = 0;
        for (mut sent, from, to_this_life, pause_ms) in steps {
            if to_this_life {
                sent.header.dst.generation = one.generation();
            }
            let bytes = datagram::from_foca(&sent.for_foca(), sent.remark as usize, sent.remark, usize::MAX);
            let mut effects = one.datagram(node(from), &bytes).unwrap_or_default();
            now_ms += pause_ms;
            effects.extend(one.tick(now_ms));
            if pause_ms == 7 {
                effects.extend(one.connection_lost(node(1)));
            }
            for effect in effects {
                match effect {
                    DetectorEffect::Send { to, datagram } => {
                        prop_assert!(one.members.contains_key(&to));
                        prop_assert!(Datagram::read(node(2), to, &datagram).is_ok());
                    }
                    DetectorEffect::Changed { node, .. } => prop_assert!(one.members.contains_key(&node)),
                    DetectorEffect::Renewed { generation } => prop_assert!(generation <= GENERATION_MAX),
                }
            }
            let said: BTreeMap<_, _> = one.members().map(|(n, g, a)| (n, (g, a))).collect();
            for (node, state) in held(&one) {
                prop_assert_eq!(said.get(&node), Some(&state));
            }
            let down = one.members().filter(|(_, _, availability)| *availability == Down).count();
            prop_assert_eq!(one.lacking, down);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_taken(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut one = detector(0, 1);
        one.set_members(&ids(3));
        let before = held(&one);
        if one.datagram(node(1), &bytes).is_err() {
            prop_assert_eq!(held(&one), before);
        }
    }
}
