//! Laws of transfers over schedules by chance, and that the faults which the rules are for would be found.

use super::simulation::{BATCH_ITEMS, Course, ITEM_BYTES, PARTITION, WINDOW, World};
use crate::mutant::{Mutant, plant};

const CALM_STEPS: usize = 60_000;

fn everything() -> Course {
    Course {
        steps: 1500,
        keys: 6,
        writes: true,
        cuts: true,
        parts: true,
        crashes: true,
        kills: false,
        plans: true,
        false_alarms: true,
    }
}

#[test]
fn nothing_acknowledged_is_lost_nothing_dropped_too_early_and_it_ends() {
    let (mut flips, mut drops, mut resumed) = (0, 0, 0);
    for seed in 0..400 {
        let nodes = 2 + seed as usize % 3;
        let mut world = World::new(seed, nodes, everything());
        world.fill();
        let broken = world.run(CALM_STEPS);
        assert!(broken.is_empty(), "seed {seed}: {broken:#?}");
        flips += world.flips;
        drops += world.drops;
        resumed += world.resumed;
    }
    println!("{flips} flips, {drops} drops, {resumed} resumed");
    assert!(flips > 400 && drops > 400 && resumed > 100, "{flips} flips, {drops} drops, {resumed} resumed");
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

/// The first seed at which a planted fault shows, and how.
fn found(mutant: Mutant, course: Course, seeds: u64) -> Option<(u64, String)> {
    plant(Some(mutant));
    let found = (0..seeds).find_map(|seed| {
        let mut world = World::new(seed, 2 + seed as usize % 3, course);
        world.fill();
        let broken = world.run(CALM_STEPS / 4);
        broken.last().map(|last| (seed, last.clone()))
    });
    plant(None);
    found
}

#[test]
fn to_drop_before_the_receiver_has_confirmed_is_found() {
    let (seed, how) = found(Mutant::DropBeforeConfirmed, everything(), 400).unwrap();
    println!("seed {seed}: {how}");
    assert!(how.contains("nowhere"), "{how}");
}

#[test]
fn to_go_on_sending_to_an_heir_that_offers_is_found() {
    let (seed, how) = found(Mutant::IgnoreHeirsOffer, everything(), 4000).unwrap();
    println!("seed {seed}: {how}");
    assert!(how.contains("lacks") || how.contains("nowhere"), "{how}");
}

#[test]
fn to_resume_without_what_has_changed_is_found() {
    let (seed, how) = found(Mutant::ForgetDirty, everything(), 400).unwrap();
    println!("seed {seed}: {how}");
    assert!(how.contains("lacks") || how.contains("nowhere"), "{how}");
}

mod ends;
mod plans;
