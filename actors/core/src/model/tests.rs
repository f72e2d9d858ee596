//! Seeds of the model, and that the faults which the rules are for would be found.

use super::step::{Course, Omission, What, draw, shrink};
use super::{Counts, World, id, run};
use crate::ids::Partition;
use crate::mutant::{Mutant, plant};
use crate::transfer::{Kind, Position};
use proptest::test_runner::Config;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// What may happen in a seed. Everything in one run is too much of it: of most something is left out.
fn course_of(seed: u64) -> Course {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed.rotate_left(32));
    let members = random.random_range(3..=5);
    let others = random.random_range(0..=5 - members);
    let mut three_of_four = || random.random_range(0..4) > 0;
    let (cuts, crashes, wipes, plans) = (three_of_four(), three_of_four(), three_of_four(), three_of_four());
    let mut one_of_four = || !three_of_four();
    let (alarms, marks_down, durable) = (one_of_four(), one_of_four(), !one_of_four());
    let (steps, without) = (1500, None);
    Course { steps, members, others, durable, cuts, alarms, crashes, wipes, plans, marks_down, without }
}

/// How a run goes wrong, in the fewest steps.
fn told(seed: u64, course: Course) -> String {
    let steps = shrink(draw(seed, &course), |steps| run(seed, course, steps).0.is_some());
    let broken = run(seed, course, &steps).0.unwrap_or_default();
    let steps: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
    format!("seed {seed}, {course:?}, in the fewest steps:\n{}\n{broken}", steps.join("\n"))
}

#[test]
fn nothing_acknowledged_is_lost_or_missed_and_all_comes_to_rest() {
    let mut sum = Counts::default();
    let seeds = u64::from(Config::default().cases);
    for seed in 0..seeds {
        let course = course_of(seed);
        let (broken, counts) = run(seed, course, &draw(seed, &course));
        assert!(broken.is_none(), "{}", told(seed, course));
        sum.add(counts);
    }
    let each = |count: u64| count / seeds;
    let enough = each(sum.drops) >= 1 && each(sum.repaired) >= 1 && each(sum.complete) >= 4;
    assert!(enough && 2 * sum.flips > seeds && sum.wiped > seeds, "too little happens: {sum:?}");
}

/// How it shows, in any of so many seeds, that a rule is left out or a fault is planted.
fn found(seeds: u64, course_of: impl Fn(u64) -> Course) -> Option<String> {
    let last = |broken: String| broken.lines().last().unwrap_or_default().to_owned();
    (0..seeds).find_map(|seed| run(seed, course_of(seed), &draw(seed, &course_of(seed))).0.map(last))
}

/// A planted fault that is found, and by which law.
#[track_caller]
fn is_found(mutant: Mutant, seeds: u64, law: &str) {
    plant(Some(mutant));
    let how = found(seeds, course_of);
    plant(None);
    assert!(how.as_ref().is_some_and(|how| how.contains(law)), "{mutant:?}: {how:?}");
}

#[test]
fn planted_faults_are_found() {
    is_found(Mutant::DropBeforeConfirmed, 50, "is nowhere for certain");
    is_found(Mutant::ForgetDirty, 200, "is nowhere for certain");
    is_found(Mutant::TrustIncomplete, 100, "a complete read");
    is_found(Mutant::AcknowledgeOneLess, 100, "a complete read");
    is_found(Mutant::IgnoreHop, 100, "it does not end");
    is_found(Mutant::TakeOlderState, 100, "it does not end");
}

/// A rule of repair that is left out, and found to be missing.
#[track_caller]
fn is_missed(rule: Omission, seeds: u64) {
    let how = found(seeds, |seed| Course {
        without: Some(rule),
        // What is not synced matters where it is confirmed.
        durable: course_of(seed).durable && rule != Omission::UncleanIsLost,
        ..course_of(seed)
    });
    assert!(how.is_some(), "{rule:?} can be left out");
}

#[test]
fn no_rule_of_repair_can_be_left_out() {
    is_missed(Omission::UncleanIsLost, 50);
    is_missed(Omission::LostSource, 50);
    is_missed(Omission::OwnSource, 200);
    is_missed(Omission::AllSources, 50);
    is_missed(Omission::LostStays, 50);
    is_missed(Omission::Remembered, 100);
}

/// Four nodes, and nothing happens by itself.
fn quiet(durable: bool, without: Option<Omission>) -> World {
    World::new(
        0,
        Course {
            steps: 0,
            members: 4,
            others: 0,
            durable,
            cuts: false,
            alarms: true,
            crashes: true,
            wipes: true,
            plans: false,
            marks_down: false,
            without,
        },
    )
}

/// What goes on by itself goes on, step by step, until something is so; nobody hears of anybody meanwhile.
#[track_caller]
fn until(world: &mut World, is_so: impl Fn(&World) -> bool) {
    let goes_on = |what| matches!(what, What::Deliver | What::Carry | What::Work | What::Look | What::Sync);
    let steps = draw(1, &Course { steps: 20_000, ..world.course });
    for step in steps.into_iter().filter(|step| goes_on(step.what)) {
        if is_so(world) {
            return;
        }
        world.apply(step);
    }
    panic!("it does not come to that: {:#?}", world.log);
}

/// A write of key 0, of which n0, n1 and n2 have the replicas, misses one of these.
fn write_but_for(world: &mut World, missed: usize) {
    let before = world.acknowledged[0];
    world.write(3, 0);
    world.messages.retain(|message| message.to != missed);
    until(world, |world| world.acknowledged[0] != before);
}

/// n3 takes n1 for down and has a write for it, which n0 has, too, and n2 has not. n0 loses its disk. It can reach n1,
/// which does not know yet that it lacks something, and n2; afterwards n3.
fn a_source_that_does_not_know(without: Option<Omission>) -> Option<String> {
    let mut world = quiet(true, without);
    world.miss(3, 1);
    write_but_for(&mut world, 2);
    assert!(world.nodes[3].has_hints(Partition(1)), "{:#?}", world.log);
    world.part(1 << 3);
    world.wipe(0, false);
    world.start(0, 1);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    (0..100).for_each(|_| world.round(&mut random));
    world.calm(1);
    world.broken
}

#[test]
fn a_repair_waits_until_all_have_said_what_they_hold() {
    assert_eq!(a_source_that_does_not_know(None), None);
    let how = a_source_that_does_not_know(Some(Omission::WordsFirst)).unwrap_or_default();
    assert!(how.contains("p0 lacks 0 of key 0"), "{how}");
}

/// n0 has lost what it had not synced, and is sent everything by n2, when it confirms a write that n2 has, too, and n1
/// has not. It loses that, and is repaired.
fn a_repair_that_is_resumed(without: Option<Omission>) -> Option<String> {
    let mut world = quiet(false, without);
    write_but_for(&mut world, 3);
    until(&mut world, |world| world.unrest().is_none());
    world.stop(0, 0);
    world.start(0, 1);
    world.introduce();
    until(&mut world, |world| {
        let record = world.nodes[0].disk.certain(Partition(0)).records.get(&id(2));
        let from_two = Kind::Repair { source: Partition(2) };
        record.is_some_and(|record| record.kind == from_two && record.position == Position::End)
    });
    write_but_for(&mut world, 1);
    world.stop(0, 0);
    world.calm(1);
    world.broken
}

#[test]
fn a_repair_begins_anew_after_a_loss() {
    assert_eq!(a_repair_that_is_resumed(None), None);
    let how = a_repair_that_is_resumed(Some(Omission::RepairAnew)).unwrap_or_default();
    assert!(how.contains("p0 lacks 1 of key 0"), "{how}");
}

/// n0 has lost its disk, everybody has said that it holds nothing for n0, and no repair has begun, when n2 reads: from
/// itself and from n0, of which neither has what n0 and n1 have confirmed.
fn a_read_from_an_empty_disk() -> World {
    let mut world = quiet(true, None);
    write_but_for(&mut world, 2);
    world.wipe(0, false);
    world.start(0, 1);
    world.introduce();
    let words = draw(1, &Course { steps: 20_000, ..world.course });
    for step in words.into_iter().filter(|step| matches!(step.what, What::Deliver | What::Look)) {
        world.apply(step);
    }
    assert_eq!((world.nodes[0].in_doubt().len(), world.counts.repaired), (0, 0), "{:#?}", world.log);
    world.read(2, 0);
    (0..20).for_each(|_| world.deliver(0));
    world
}

#[test]
fn what_is_lost_is_not_complete_though_nobody_has_anything_for_it() {
    let world = a_read_from_an_empty_disk();
    assert_eq!((world.broken, world.counts.complete), (None, 1), "n1 was asked, too");
    plant(Some(Mutant::CompleteAfterWipe));
    let how = a_read_from_an_empty_disk().broken.unwrap_or_default();
    plant(None);
    assert!(how.contains("a complete read of key 0 does not show 1"), "{how}");
}
