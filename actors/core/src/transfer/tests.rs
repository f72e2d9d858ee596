//! Laws of transfers over schedules by chance, and that the faults which the rules are for would be found.

use super::simulation::{BATCH_ITEMS, Course, ITEM_BYTES, PARTITION, WINDOW, World};
use crate::mutant::{Mutant, plant};

const CALM_STEPS: usize = 60_000;

fn everything() -> Course {
    Course {
        steps: 4000,
        keys: 6,
        writes: true,
        cuts: true,
        parts: true,
        crashes: true,
        kills: false,
        wipes: true,
        plans: true,
        false_alarms: true,
    }
}

#[test]
fn nothing_acknowledged_is_lost_nothing_dropped_too_early_and_it_ends() {
    let (mut flips, mut drops, mut resumed) = (0, 0, 0);
    for seed in 0..300 {
        let nodes = 2 + seed as usize % 3;
        // Some with less of everything, in which more comes to its end.
        let calmer = Course { crashes: seed % 4 < 2, parts: seed % 8 < 4, ..everything() };
        let course = Course { false_alarms: seed % 5 == 0, ..calmer };
        let mut world = World::new(seed, nodes, course);
        world.fill();
        let broken = world.run(CALM_STEPS);
        assert!(broken.is_empty(), "seed {seed}: {broken:#?}");
        flips += world.flips;
        drops += world.drops;
        resumed += world.resumed;
    }
    assert!(flips > 150 && drops > 400 && resumed > 100, "{flips} flips, {drops} drops, {resumed} resumed");
}

#[test]
fn without_faults_a_plan_is_followed_under_a_load_that_never_pauses() {
    for seed in 0..40 {
        let course = Course { steps: 0, keys: 6, writes: true, ..Course::default() };
        let mut world = World::new(seed, 3, course);
        world.fill();
        world.plan(0, 1);
        let mut steps = 0;
        while world.flips == 0 {
            world.step(false);
            steps += 1;
            assert!(steps < 20_000, "seed {seed}: possession does not pass");
        }
        let broken = world.run(CALM_STEPS);
        assert!(broken.is_empty(), "seed {seed}: {broken:#?}");
    }
}

/// Cuts, and kills of either side, which lose nothing that was written: as much is sent twice as was on its way.
#[test]
fn an_interruption_costs_no_more_than_a_window() {
    let (mut resumed, mut interrupted) = (0, 0);
    for seed in 0..200 {
        let keys = 40;
        let course = Course { steps: 2500, keys, cuts: true, kills: true, ..Course::default() };
        let mut world = World::new(seed, 2, course);
        world.fill();
        world.plan(0, 1);
        let broken = world.run(CALM_STEPS);
        assert!(broken.is_empty(), "seed {seed}: {broken:#?}");
        let once = 2 * u64::from(keys) * ITEM_BYTES;
        let window = u64::from(WINDOW) * BATCH_ITEMS as u64 * ITEM_BYTES;
        let most = once + world.interruptions * window;
        assert!(world.sent_bytes <= most, "seed {seed}: {} sent, at most {most}", world.sent_bytes);
        resumed += world.resumed;
        interrupted += world.interruptions;
        assert_eq!(world.nodes[0].possession().hop, 1, "{PARTITION} has moved once");
    }
    assert!(resumed > 100, "{resumed} of {interrupted} were resumed");
}

/// How a planted fault shows, if it does at any seed.
fn found(mutant: Mutant, course: Course, seeds: u64) -> Option<String> {
    plant(Some(mutant));
    let found = (0..seeds).find_map(|seed| {
        let mut world = World::new(seed, 2 + seed as usize % 3, course);
        world.fill();
        let broken = world.run(CALM_STEPS / 4);
        broken.last().cloned()
    });
    plant(None);
    found
}

#[test]
fn to_drop_before_the_receiver_has_confirmed_is_found() {
    let how = found(Mutant::DropBeforeConfirmed, everything(), 400).unwrap();
    assert!(how.contains("nowhere"), "{how}");
}

/// Node 0 has sent everything to node 1, whose acknowledgements are still on their way. There another claimant's target
/// arrives, by which the partition stays where it is; so node 1 brings back what it was given, drops it when that is
/// confirmed; and then the acknowledgements arrive.
fn an_heir_gives_back_what_it_was_sent() -> World {
    let course = Course { keys: 1, ..Course::default() };
    let mut world = World::new(1, 3, course);
    world.fill();
    world.plan(0, 1);
    world.gossip(0, 1);
    world.decide(0);
    world.carry(0, 1, 0);
    world.work_off(1);
    world.carry(0, 0, 1);
    world.work_off(0);
    world.carry(0, 9, 0);
    world.work_off(1);
    assert!(world.nodes[1].disk.inbound.is_some());
    world.plan(1, 0);
    assert!(world.nodes[1].disk.inbound.is_none(), "it is a hint now");
    world.decide(1);
    for _ in 0..9 {
        world.carry(1, 9, 9);
        world.work_off(1);
        // Only what comes from node 1: node 0 hears nothing of its own transfer.
        world.work_off(0);
    }
    assert_eq!(world.drops, 1, "node 1 has given it back");
    // The acknowledgements, but not the word after them that ends it.
    world.carry(0, 0, 2);
    world.work_off(0);
    world
}

#[test]
fn to_go_on_sending_to_an_heir_that_offers_is_found() {
    let mut world = an_heir_gives_back_what_it_was_sent();
    assert_eq!(world.flips, 0);
    let broken = world.run(CALM_STEPS);
    assert!(broken.is_empty(), "{broken:#?}");

    plant(Some(Mutant::IgnoreHeirsOffer));
    let world = an_heir_gives_back_what_it_was_sent();
    plant(None);
    let how = world.broken.last().cloned().unwrap_or_default();
    assert!(how.contains("lacks"), "{how}");
}

#[test]
fn to_resume_without_what_has_changed_is_found() {
    let how = found(Mutant::ForgetDirty, everything(), 400).unwrap();
    assert!(how.contains("lacks") || how.contains("nowhere"), "{how}");
}

mod ends;
mod plans;
