//! All replicas of a key are cut off, each alone, and come back while transfers rest: for a while only stand-ins have
//! what was written meanwhile, and they have to be asked.

use super::handoff_paused::set_paused;
use super::{Evidence, Fault, Happening, Kind, between};
use crate::history::Operation;
use crate::world::World;
use ringwork_core::testing::Draw;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

struct ReplicasAway;

inventory::submit!(Kind(&ReplicasAway));

/// How often the key is read when all are back, and the time between: at first close together, since between who is
/// seen up again and what it is told to lack there must be no moment in which it counts as complete.
const CLOSE_READS: u64 = 32;
const CLOSE_READ_PAUSE: Duration = Duration::from_millis(25);
const READS: u64 = 56;
const READ_PAUSE: Duration = Duration::from_millis(250);

impl Fault for ReplicasAway {
    fn name(&self) -> &'static str {
        "replicas-away"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("replica sets away").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let key = format!("key{}", draw.below(world.plan().keys));
            let Some(at) = draw.pick(&world.healthy()).copied() else { return false };
            let away: BTreeSet<u8> = world
                .asked_places(at, &key)
                .iter()
                .filter_map(|(_, node)| node.trim_start_matches('n').parse().ok())
                .collect();
            let stay: Vec<u8> = world.healthy().into_iter().filter(|number| !away.contains(number)).collect();
            let Some(asked) = draw.pick(&stay).copied() else { return false };
            world.note(&format!("{away:?}, who have {key}, are cut off, each alone, and transfers rest"));
            world.count("replica sets away");
            let network = &world.around.network;
            let pairs = || {
                let others = 1..=world.plan().nodes();
                others.flat_map(|other| away.iter().map(move |one| (*one, other))).filter(|(one, other)| one != other)
            };
            set_paused(world, true);
            for (one, other) in pairs() {
                network.cut(one, other);
                network.cut(other, one);
            }
            world.while_faults(between(draw, 5000, 12_000)).await;
            world.note(&format!("{away:?} are back"));
            for (one, other) in pairs() {
                network.mend(one, other);
                network.mend(other, one);
            }
            for number in 0..READS {
                let pause = if number < CLOSE_READS { CLOSE_READ_PAUSE } else { READ_PAUSE };
                world.while_faults(pause).await;
                if !world.faults_on() {
                    break;
                }
                let by = if draw.one_in(2) { asked } else { draw.pick(&world.serving()).copied().unwrap_or(asked) };
                let read = Operation::Read { key: key.clone(), r: 2, whole: true };
                world.ask(by, read, Duration::from_secs(5)).await;
            }
            set_paused(world, false);
            world.note("transfers go on");
            true
        })
    }
}
