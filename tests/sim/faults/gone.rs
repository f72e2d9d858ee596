//! A machine is gone for good: it is removed by force, or another takes its place, and the holders that are forced
//! fetch what it had from the other replicas. As with a lost disk, not while another one's copies are missing.

use super::{Evidence, Fault, Happening, Kind, between};
use crate::history::MachineEvent;
use crate::world::World;
use ringwork_core::testing::Draw;
use ringwork_runtime::administration::Change;
use std::rc::Rc;
use std::time::Duration;

struct Gone;

inventory::submit!(Kind(&Gone));

/// How often an operator tries before it is taken for back: it is not down for all yet, or a claimant cannot be
/// reached.
const ATTEMPTS: usize = 30;

impl Fault for Gone {
    fn name(&self) -> &'static str {
        "gone"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("machines removed").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let healthy = world.healthy();
            let invited = world.invited.borrow().clone();
            // The first is everybody's seed; three have to be left.
            let victims: Vec<u8> = healthy.iter().copied().filter(|number| *number != 1).collect();
            let unsound = invited.len() < 5 || !world.copies_are_sound();
            let Some(victim) = draw.pick(&victims).copied().filter(|_| !unsound) else { return false };
            let spare = (1..=world.plan().nodes()).find(|number| world.machine(*number).starts.get() == 0);
            let at = world.now();
            world.history.borrow_mut().wipes.push(MachineEvent { node: victim, at });
            world.invited.borrow_mut().retain(|number| *number != victim);
            world.machine(victim).kill(&world.around).await;
            let old = format!("n{victim}");
            let change = match spare.filter(|_| draw.one_in(2)) {
                Some(new) => {
                    world.invited.borrow_mut().push(new);
                    world.start(new);
                    Change::ForceReplace { old, new: format!("n{new}") }
                }
                None => Change::ForceRemove { node: old },
            };
            for _ in 0..ATTEMPTS {
                world.while_faults(between(draw, 300, 1500)).await;
                let at = draw.pick(&world.healthy()).copied();
                if let Some(at) = at
                    && world.change(at, change.clone()).await.is_ok()
                {
                    // What it took in after all, if somebody had started it meanwhile, is lost with it.
                    let at = world.now();
                    world.history.borrow_mut().wipes.push(MachineEvent { node: victim, at });
                    world.count("machines removed");
                    return true;
                }
                if !world.faults_on() {
                    break;
                }
            }
            // Nobody could be told in time, or the word of it was lost: it comes back as it was, and may be removed
            // later than it was asked for, with what it takes in until then.
            let at = world.now() + Duration::from_secs(60);
            world.history.borrow_mut().wipes.push(MachineEvent { node: victim, at });
            world.invited.borrow_mut().push(victim);
            world.start(victim);
            true
        })
    }
}
