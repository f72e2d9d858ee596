//! Whose turn it is, when, and what is looked at together.

use super::*;
use crate::antientropy::exchange::{Repaired, Side};

fn size(q: u32) -> RingSize {
    RingSize::try_from(q).unwrap()
}

fn node(n: usize) -> NodeId {
    NodeId([n as u8 + 1; 16])
}

/// A ring whose partitions go round `nodes`.
fn owner(partition: Partition, nodes: usize) -> NodeId {
    node(usize::from(partition.0) % nodes)
}

fn decide(schedule: &mut Schedule, now_ms: u64, me: usize, nodes: usize, pressure: u8) -> Vec<Start> {
    let size = size(64);
    let ready = size.partitions().filter(|p| owner(*p, nodes) == node(me)).collect();
    let around = Surroundings {
        size,
        n: 3,
        ready: &ready,
        holder: &|partition| Some(owner(partition, nodes)),
        limit: 2,
        interval_ms: 15_000,
        pressure,
    };
    starts(schedule, now_ms, &around)
}

/// What begins where no survey finds two equal.
fn starts(schedule: &mut Schedule, now_ms: u64, around: &Surroundings<'_>) -> Vec<Start> {
    let mut begun = Vec::new();
    loop {
        let Decisions { surveys, starts } = schedule.decide(now_ms, around);
        begun.extend(starts);
        if surveys.is_empty() {
            return begun;
        }
        for survey in surveys {
            assert_eq!(schedule.survey_ended(now_ms, &survey, None), []);
        }
    }
}

#[test]
fn every_two_replicas_of_every_group_are_one_pair_and_one_of_them_begins() {
    for (q, n) in [(8, 3), (64, 3), (8, 1), (8, 8), (16, 20)] {
        let size = size(q);
        let mut met = BTreeSet::new();
        for mine in size.partitions() {
            for pair in pairs_of(size, n, mine) {
                let both = BTreeSet::from([pair.mine, pair.theirs]);
                assert_eq!(both.len(), 2);
                assert!(met.insert((pair.group, both)), "{pair:?} twice");
            }
        }
        let n = n.min(q as usize);
        assert_eq!(met.len(), q as usize * n * (n - 1) / 2);
        for (group, both) in met {
            let replicas: BTreeSet<_> = (0..n).map(|steps| size.clockwise(group, steps)).collect();
            assert!(both.is_subset(&replicas));
        }
    }
}

/// With an answer within 50 ms, which is more than two equal trees take.
#[test]
fn at_the_defaults_every_pair_of_three_nodes_meets_within_twenty_seconds() {
    for me in 0..3 {
        let mut schedule = Schedule::default();
        let (mut now_ms, mut last) = (0, BTreeMap::<Pair, u64>::new());
        while now_ms < 120_000 {
            let starts = decide(&mut schedule, now_ms, me, 3, 0);
            assert!(starts.len() <= 2);
            now_ms += 50;
            for Start { pair, partner, .. } in starts {
                assert_eq!(partner, owner(pair.theirs, 3));
                let before = last.insert(pair, now_ms).unwrap_or(0);
                assert!(now_ms - before <= 20_000, "{pair:?} after {} ms", now_ms - before);
                schedule.ended(now_ms, pair, &Ending::Equal);
            }
        }
        assert!(last.len() >= 63, "{}", last.len());
        assert!(last.values().all(|at| now_ms - at <= 20_000));
        assert_eq!((schedule.pairs(), schedule.never_equal()), (last.len(), 0));
    }
}

/// Pairs of one node that begin within a time, each found equal at once.
fn begun(schedule: &mut Schedule, (from_ms, to_ms): (u64, u64), interval_ms: u64) -> usize {
    let size = size(64);
    let ready = size.partitions().filter(|p| owner(*p, 3) == node(0)).collect();
    let holder = |partition| Some(owner(partition, 3));
    let around =
        Surroundings { size, n: 3, ready: &ready, holder: &holder, limit: 2, interval_ms, pressure: 0 };
    let mut begun = 0;
    for now_ms in (from_ms..to_ms).step_by(50) {
        for Start { pair, .. } in starts(schedule, now_ms, &around) {
            begun += 1;
            schedule.ended(now_ms, pair, &Ending::Equal);
        }
    }
    begun
}

#[test]
fn another_interval_counts_at_once_for_pairs_that_wait_already() {
    let mut schedule = Schedule::default();
    let pairs = begun(&mut schedule, (0, 10_000), 60_000);
    assert_eq!((pairs, schedule.never_equal()), (schedule.pairs(), 0));
    let mut longer = schedule.clone();
    assert_eq!(begun(&mut schedule.clone(), (10_000, 20_000), 60_000), 0);
    assert!(begun(&mut schedule, (10_000, 20_000), 10_000) >= pairs);
    assert_eq!(begun(&mut longer, (10_000, 80_000), 600_000), 0);
}

#[test]
fn a_node_with_much_to_do_begins_fewer_and_then_none() {
    assert_eq!(decide(&mut Schedule::default(), 0, 0, 3, 0).len(), 2);
    assert_eq!(decide(&mut Schedule::default(), 0, 0, 3, PRESSURE_SLOW).len(), 1);
    assert_eq!(decide(&mut Schedule::default(), 0, 0, 3, PRESSURE_STOP).len(), 0);
    let mut schedule = Schedule::default();
    let before = decide(&mut schedule, 0, 0, 3, 0);
    assert_eq!(decide(&mut schedule, 0, 0, 3, 0), [], "both places are taken");
    schedule.ended(0, before[0].pair, &Ending::Equal);
    assert_eq!(decide(&mut schedule, 0, 0, 3, 0).len(), 1);
}

#[test]
fn what_fails_waits_longer_each_time_and_does_not_hold_up_the_others() {
    let mut schedule = Schedule::default();
    let (mut now_ms, mut begun) = (0, BTreeMap::<Pair, u32>::new());
    let bad = Pair { group: Partition(0), mine: Partition(0), theirs: Partition(1) };
    while now_ms < 300_000 {
        for Start { pair, .. } in decide(&mut schedule, now_ms, 0, 3, 0) {
            *begun.entry(pair).or_default() += 1;
            let why = "planted".to_owned();
            let gave_up = Ending::GaveUp { side: Side::Theirs, why, repaired: Repaired::default() };
            let ending = if pair == bad { gave_up } else { Ending::Equal };
            schedule.ended(now_ms, pair, &ending);
        }
        now_ms += 50;
    }
    assert!((6..=12).contains(&begun[&bad]), "{}", begun[&bad]);
    assert!(begun.iter().all(|(pair, times)| *pair == bad || *times >= 18), "{begun:?}");
    assert_eq!(schedule.never_equal(), 1);
}

#[test]
fn trees_that_differ_over_equal_items_twice_are_in_doubt() {
    let mut schedule = Schedule::default();
    let pair = decide(&mut schedule, 0, 0, 3, 0)[0].pair;
    assert_eq!(schedule.ended(0, pair, &Ending::TreesDiffer), Consequence::Nothing);
    assert_eq!(schedule.ended(0, pair, &Ending::Equal), Consequence::Nothing);
    assert_eq!(schedule.ended(0, pair, &Ending::TreesDiffer), Consequence::Nothing);
    assert_eq!(schedule.ended(0, pair, &Ending::TreesDiffer), Consequence::Doubt);
}

/// Under writes every first look ends so; a second that each of them waited itself would hold up all others.
#[test]
fn between_two_looks_at_a_pair_others_have_their_turn_and_the_second_knows_the_first() {
    let mut schedule = Schedule::default();
    let (mut now_ms, mut looked) = (0, BTreeMap::<Pair, Vec<(u64, bool)>>::new());
    while now_ms < 10_000 {
        for Start { pair, before, .. } in decide(&mut schedule, now_ms, 0, 3, 0) {
            let leaves = vec![pair.group.0, 4000];
            assert!(before.as_ref().is_none_or(|before| *before == leaves));
            looked.entry(pair).or_default().push((now_ms, before.is_some()));
            let ending = if before.is_some() { Ending::Equal } else { Ending::Unsettled(leaves) };
            assert_eq!(schedule.ended(now_ms, pair, &ending), Consequence::Nothing);
        }
        now_ms += 50;
    }
    assert_eq!((looked.len(), schedule.never_equal()), (schedule.pairs(), 0));
    for (pair, looks) in looked {
        let [(first_ms, false), (second_ms, true)] = looks[..] else { panic!("{pair:?}: {looks:?}") };
        assert!(second_ms - first_ms >= SETTLE_MS, "{pair:?}: {looks:?}");
    }
}

#[test]
fn pairs_that_are_no_longer_of_this_node_are_forgotten_unless_they_run() {
    let mut schedule = Schedule::default();
    let running = decide(&mut schedule, 0, 0, 3, 0);
    let nothing = BTreeSet::new();
    let around = Surroundings {
        size: size(64),
        n: 3,
        ready: &nothing,
        holder: &|_| None,
        limit: 2,
        interval_ms: 15_000,
        pressure: 0,
    };
    assert_eq!(schedule.decide(0, &around), Decisions::default());
    assert_eq!((schedule.pairs(), schedule.running()), (2, 2));
    for Start { pair, .. } in running {
        schedule.ended(0, pair, &Ending::NotNow(Side::Mine, NotNow::NotHolder, Repaired::default()));
    }
    schedule.decide(0, &around);
    assert_eq!(schedule.pairs(), 0);
}

/// Of node 0 of three, with nothing to do.
fn surroundings(q: u32, work: impl FnOnce(&Surroundings<'_>)) {
    let size = size(q);
    let ready = size.partitions().filter(|p| owner(*p, 3) == node(0)).collect();
    let holder = |partition| Some(owner(partition, 3));
    let interval_ms = 15_000;
    work(&Surroundings { size, n: 3, ready: &ready, holder: &holder, limit: 2, interval_ms, pressure: 0 });
}

#[test]
fn the_pairs_with_one_node_are_looked_at_together_and_an_exchange_follows_where_they_are_not_equal() {
    surroundings(64, |around| {
        let mut schedule = Schedule::default();
        let Decisions { surveys, starts } = schedule.decide(0, around);
        assert_eq!(starts, []);
        let partners: BTreeSet<NodeId> = surveys.iter().map(|survey| survey.partner).collect();
        assert_eq!((surveys.len(), partners.len()), (3, 3), "63 is this node's, and so is 0");
        let all: BTreeSet<Pair> = surveys.iter().flat_map(|survey| survey.pairs.iter().copied()).collect();
        assert_eq!(all.len(), schedule.pairs());
        assert_eq!(schedule.decide(50, around), Decisions::default(), "one at a time with each");

        assert_eq!(schedule.due_ms(15_000), None, "all of them are being looked at");

        let survey = surveys.iter().max_by_key(|survey| survey.pairs.len()).unwrap();
        let mut sights = vec![Sight::Equal; survey.pairs.len()];
        (sights[3], sights[5]) = (Sight::Unequal, Sight::NotNow(Side::Theirs, NotNow::Building));
        let ended = schedule.survey_ended(100, survey, Some(&sights));
        assert_eq!(ended.len(), survey.pairs.len() - 1);
        assert!(ended.iter().all(|(pair, _)| *pair != survey.pairs[3]));
        let building = Ending::NotNow(Side::Theirs, NotNow::Building, Repaired::default());
        assert!(ended.contains(&(survey.pairs[5], building)));
        let begun = schedule.decide(100, around);
        assert_eq!(begun.surveys, []);
        let due_ms = schedule.due_ms(15_000).unwrap();
        assert!((1850..=2100).contains(&due_ms), "{due_ms}: the one whose trees were being built");
        let begun: Vec<Pair> = begun.starts.into_iter().map(|start| start.pair).collect();
        assert_eq!(begun, [survey.pairs[3]]);

        // The one whose trees were being built is asked again, alone; an exchange is none of a survey's.
        schedule.ended(200, survey.pairs[3], &Ending::Unsettled(vec![7]));
        let soon = schedule.decide(2100, around);
        assert_eq!(soon.surveys.len(), 1);
        assert_eq!(soon.surveys[0].pairs, [survey.pairs[5]]);
        let second = Start { pair: survey.pairs[3], partner: survey.partner, before: Some(vec![7]) };
        assert_eq!(soon.starts, [second]);
    });
}

#[test]
fn whoever_is_due_takes_along_who_would_be_soon() {
    surroundings(64, |around| {
        let mut schedule = Schedule::default();
        let mut surveys = Vec::new();
        for now_ms in (0..60_000).step_by(50) {
            for survey in schedule.decide(now_ms, around).surveys {
                let equal = vec![Sight::Equal; survey.pairs.len()];
                schedule.survey_ended(now_ms, &survey, Some(&equal));
                surveys.push((survey.partner, now_ms, survey.pairs.len()));
            }
        }
        for partner in [0, 1, 2].map(node) {
            let of: Vec<_> = surveys.iter().filter(|(with, ..)| *with == partner).collect();
            assert_eq!(of.len(), 5, "{of:?}: every 13 s or so");
            assert!(of.windows(2).all(|two| two[0].2 == two[1].2 && two[1].1 - two[0].1 <= 15_000));
        }
    });
}

#[test]
fn more_pairs_than_one_survey_may_have_are_looked_at_by_the_next() {
    surroundings(16_384, |around| {
        let mut schedule = Schedule::default();
        let mut met = BTreeSet::new();
        for now_ms in (0..15_000).step_by(50) {
            for survey in schedule.decide(now_ms, around).surveys {
                assert!(survey.pairs.len() <= SURVEY_TREES_MAX);
                met.extend(survey.pairs.iter().copied());
                let equal = vec![Sight::Equal; survey.pairs.len()];
                schedule.survey_ended(now_ms, &survey, Some(&equal));
            }
            if met.len() == schedule.pairs() {
                assert!(now_ms <= 3000, "{now_ms}");
                return;
            }
        }
        panic!("{} of {} in one interval", met.len(), schedule.pairs());
    });
}

#[test]
fn a_node_with_much_to_do_looks_at_fewer_roots_and_then_at_none() {
    surroundings(64, |around| {
        let busy = Surroundings { pressure: PRESSURE_STOP, ..*around };
        assert_eq!(Schedule::default().decide(0, &busy), Decisions::default());
        let off = Surroundings { limit: 0, ..*around };
        assert_eq!(Schedule::default().decide(0, &off), Decisions::default());
        let slow = Surroundings { pressure: PRESSURE_SLOW, ..*around };
        let mut schedule = Schedule::default();
        assert_eq!(schedule.decide(0, &slow).surveys.len(), 1, "one at a time in all");
        assert_eq!(schedule.decide(0, &slow), Decisions::default());
    });
}

#[test]
fn pairs_of_a_survey_are_not_forgotten_before_its_end() {
    surroundings(64, |around| {
        let mut schedule = Schedule::default();
        let surveys = schedule.decide(0, around).surveys;
        let (pairs, nothing) = (schedule.pairs(), BTreeSet::new());
        let gone = Surroundings { ready: &nothing, ..*around };
        schedule.decide(50, &gone);
        assert_eq!(schedule.pairs(), pairs);
        for survey in surveys {
            schedule.survey_ended(100, &survey, None);
        }
        assert_eq!(schedule.decide(150, &gone), Decisions::default());
        assert_eq!(schedule.pairs(), 0);
    });
}

#[test]
fn a_pair_that_was_taken_along_and_is_not_equal_is_compared_at_once() {
    surroundings(64, |around| {
        let mut schedule = Schedule::default();
        for survey in schedule.decide(0, around).surveys {
            let equal = vec![Sight::Equal; survey.pairs.len()];
            schedule.survey_ended(0, &survey, Some(&equal));
        }
        // The first of each is due now, and the last in two seconds.
        let at_ms = schedule.due_ms(15_000).unwrap();
        let surveys = schedule.decide(at_ms, around).surveys;
        assert!(!surveys.is_empty());
        for survey in &surveys {
            let unequal = vec![Sight::Unequal; survey.pairs.len()];
            assert_eq!(schedule.survey_ended(at_ms, survey, Some(&unequal)), []);
        }
        assert_eq!(schedule.due_ms(15_000), Some(0));
        let mut begun = BTreeSet::new();
        loop {
            let starts = schedule.decide(at_ms, around).starts;
            if starts.is_empty() {
                break;
            }
            for Start { pair, .. } in starts {
                begun.insert(pair);
                schedule.ended(at_ms, pair, &Ending::Equal);
            }
        }
        assert_eq!(begun, surveys.into_iter().flat_map(|survey| survey.pairs).collect());
    });
}

#[test]
fn a_pair_that_was_given_up_holds_up_no_survey_until_an_exchange_has_ended_in_peace() {
    surroundings(64, |around| {
        let mut schedule = Schedule::default();
        let survey = schedule.decide(0, around).surveys.remove(0);
        let mut sights = vec![Sight::Equal; survey.pairs.len()];
        sights[0] = Sight::Unequal;
        schedule.survey_ended(0, &survey, Some(&sights));
        let silent = survey.pairs[0];
        assert_eq!(schedule.decide(0, around).starts[0].pair, silent);
        let why = "planted".to_owned();
        let gave_up = Ending::GaveUp { side: Side::Theirs, why, repaired: Repaired::default() };
        schedule.ended(46_000, silent, &gave_up);
        // The others are long due, and looked at without it; it waits for its own time.
        let decisions = schedule.decide(46_000, around);
        let again = decisions.surveys.iter().find(|again| again.partner == survey.partner).unwrap();
        assert_eq!(again.pairs.len(), survey.pairs.len() - 1);
        assert!(!again.pairs.contains(&silent));
        assert_eq!(decisions.starts, []);
        let begun = schedule.decide(48_000, around).starts;
        assert_eq!(begun.iter().map(|start| start.pair).collect::<Vec<_>>(), [silent]);
        schedule.ended(48_010, silent, &Ending::Equal);
        let later = schedule.decide(75_000, around);
        assert_eq!(later.starts, []);
    });
}
