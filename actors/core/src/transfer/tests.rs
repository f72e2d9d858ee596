//! Laws of transfers over schedules by chance.

use super::simulation::{Course, World};

fn everything() -> Course {
    Course {
        steps: 1500,
        keys: 6,
        writes: true,
        cuts: true,
        parts: true,
        crashes: true,
        plans: true,
        false_alarms: true,
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_it_ends() {
    let (mut flips, mut drops, mut resumed) = (0, 0, 0);
    for seed in 0..300 {
        let nodes = 2 + seed as usize % 3;
        let mut world = World::new(seed, nodes, everything());
        world.fill();
        let broken = world.run(60_000);
        assert!(broken.is_empty(), "seed {seed}: {broken:#?}");
        flips += world.flips;
        drops += world.drops;
        resumed += world.resumed;
    }
    println!("{flips} flips, {drops} drops, {resumed} resumed");
}
