//! No fault, but what makes all others worse: a node joins or leaves, or moves to another location.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::world::World;
use ringwork_runtime::administration::Change;
use ringwork_core::testing::Draw;
use std::rc::Rc;

struct Membership;

inventory::submit!(Kind(&Membership));

impl Fault for Membership {
    fn name(&self) -> &'static str {
        "membership"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("changes").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let healthy = world.healthy();
            let invited = world.invited.borrow().clone();
            let spare = spare(world);
            let Some(at) = draw.pick(&healthy).copied() else { return false };
            match spare.filter(|_| !draw.one_in(3)) {
                Some(number) => {
                    let replaced = draw.pick(&invited).copied().filter(|_| draw.one_in(3) && invited.len() > 2);
                    take_in(world, draw, at, number, replaced).await
                }
                None => {
                    let place = draw.below(4);
                    let location = (place > 0).then(|| format!("rack {place}"));
                    let node = draw.pick(&invited).map(|number| format!("n{number}"));
                    let members = world.status(at).map_or(0, |status| status.members.len());
                    let change = match draw.below(3) {
                        0 => Change::Rebalance,
                        1 if members > 3 => Change::Leave { node },
                        _ => Change::Location { node, location },
                    };
                    let changed = world.change(at, change).await.is_ok();
                    if changed {
                        world.count("changes");
                    }
                    changed
                }
            }
        })
    }
}

/// A machine that was never there: who was removed and is started again serves what it has until it is told.
pub fn spare(world: &World) -> Option<u8> {
    let invited = world.invited.borrow();
    let is_new = |number: &u8| !invited.contains(number) && world.machine(*number).starts.get() == 0;
    (1..=world.plan().nodes()).find(is_new)
}

/// Starts a node that joins, and has its join committed at another, in the place of a third if one is named. Whether
/// that was done.
pub async fn take_in(world: &Rc<World>, draw: &mut Draw, at: u8, number: u8, replaced: Option<u8>) -> bool {
    world.note(&format!("n{number} is to join, in the place of {replaced:?}"));
    world.invited.borrow_mut().push(number);
    world.start(number);
    // The seeds take it in; somebody has to commit that.
    for _ in 0..20 {
        world.while_faults(between(draw, 200, 1000)).await;
        let staged = |kind: &str| {
            world.status(at).is_some_and(|status| status.staged.iter().any(|s| s.kind == kind))
        };
        let replaces = match replaced.filter(|_| staged("join") && !staged("replace")) {
            Some(old) => {
                let (old, new) = (format!("n{old}"), format!("n{number}"));
                let change = Change::Replace { old, new };
                world.administer(at, |administration| administration.stage(change)).await.is_ok()
            }
            None => true,
        };
        if staged("join")
            && replaces
            && world.administer(at, |administration| administration.plan()).await.is_ok()
            && world.administer(at, |administration| administration.commit()).await.is_ok()
        {
            world.note(&format!("n{number} was taken in"));
            world.count("changes");
            return true;
        }
        if !world.faults_on() {
            break;
        }
    }
    false
}
