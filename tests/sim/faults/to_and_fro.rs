//! A node joins and is sent away again while the others still give it what it was to have, and one of these hears late
//! of both: what it was given goes back to nodes that go on giving.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::faults::membership::{spare, take_in};
use crate::world::World;
use ringwork_core::testing::Draw;
use ringwork_runtime::administration::Change;
use ringwork_runtime::handoff::board::Direction;
use std::rc::Rc;
use std::time::Duration;

struct ToAndFro;

inventory::submit!(Kind(&ToAndFro));

/// How often it is looked whether anybody gives, and how long at most.
const LOOKS: usize = 2000;
const LOOK_PAUSE: Duration = Duration::from_millis(1);

impl Fault for ToAndFro {
    fn name(&self) -> &'static str {
        "to-and-fro"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("stalled givers").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let claimant = world.machines.iter().find_map(|machine| {
                let status = world.status(machine.number)?;
                status.claimant.as_ref()?.trim_start_matches('n').parse::<u8>().ok()
            });
            let (Some(number), Some(at)) = (spare(world), claimant.filter(|at| world.healthy().contains(at)))
            else {
                return false;
            };
            let joins = take_in(world, draw, at, number, None);
            let (joined, giver) = futures_util::future::join(joins, stall_a_giver(world, at, number)).await;
            let Some(giver) = giver.filter(|_| joined) else { return joined };
            world.count("stalled givers");
            // So that all has been sent that is sent without an answer.
            world.while_faults(between(draw, 10, 250)).await;
            let _ = world.change(at, Change::Leave { node: Some(format!("n{number}")) }).await;
            world.while_faults(between(draw, 2000, 6000)).await;
            world.around.network.set_late_answers(giver, number, false);
            true
        })
    }
}

/// Waits until a node other than the claimant sends the new one anything, and lets its connections stall.
async fn stall_a_giver(world: &Rc<World>, claimant: u8, to: u8) -> Option<u8> {
    for _ in 0..LOOKS {
        let giver = world.machines.iter().filter(|machine| machine.number != claimant).find(|machine| {
            let Some(core) = machine.core() else { return false };
            let running = core.handoff.snapshot().running;
            running.iter().any(|line| line.direction == Direction::Out && *core.name_of(line.peer) == *format!("n{to}"))
        });
        if let Some(giver) = giver {
            world.note(&format!("n{} gives to n{to}, and hears nothing for a while", giver.number));
            world.around.network.set_late_answers(giver.number, to, true);
            world.around.network.stall_towards(giver.number, 2000, 4000);
            return Some(giver.number);
        }
        world.while_faults(LOOK_PAUSE).await;
        if !world.faults_on() {
            return None;
        }
    }
    None
}
