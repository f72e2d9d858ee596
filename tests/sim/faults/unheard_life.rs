//! What a node wrote last to the metadata is known to one other, which is cut off, when the first loses its disk and
//! goes on writing in a new life. What the old life wrote last comes back with the other; the rest has never seen it,
//! and it must not count as seen because they know what that life wrote before, and the life that followed.

use super::metadata::change_at;
use super::{Evidence, Fault, Happening, Kind, between};
use crate::history::{METADATA_NAMESPACE, MachineEvent};
use crate::world::World;
use ringwork_core::metadata::NamespaceName;
use ringwork_core::testing::Draw;
use std::rc::Rc;
use std::time::Duration;

struct UnheardLife;

inventory::submit!(Kind(&UnheardLife));

/// How often it is looked whether the other has heard, or the new life serves.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOKS_MAX: usize = 60;

impl Fault for UnheardLife {
    fn name(&self) -> &'static str {
        "unheard-life"
    }

    fn is_seen_in(&self, evidence: &Evidence) -> bool {
        evidence.get("lives unheard").is_some_and(|count| *count > 0)
    }

    fn happen<'a>(&'a self, world: &'a Rc<World>, draw: &'a mut Draw) -> Happening<'a> {
        Box::pin(async move {
            let healthy = world.healthy();
            let (Some(writer), Some(hearer)) = (draw.pick(&healthy).copied(), draw.pick(&healthy).copied()) else {
                return false;
            };
            if writer == hearer || healthy.len() < 3 || !world.copies_are_sound() {
                return false;
            }
            let pair = [writer, hearer];
            let before = world.history.borrow().metadata.len();
            if !change_at(world, writer, format!("heard{before}"), true).await {
                return false;
            }
            for node in healthy.iter().filter(|node| **node != writer) {
                heard(world, *node, before).await;
            }
            let others = || (1..=world.plan().nodes()).filter(move |other| !pair.contains(other));
            world.note(&format!("n{writer} and n{hearer} are cut off together"));
            for other in others() {
                pair.iter().for_each(|one| between_two(world, *one, other, false));
            }
            world.while_faults(between(draw, 200, 1000)).await;
            let number = world.history.borrow().metadata.len();
            let kept = change_at(world, writer, format!("unheard{number}"), true).await;
            if kept && heard(world, hearer, number).await {
                world.note(&format!("n{hearer} has it, and is cut off alone; n{writer} loses its disk"));
                between_two(world, writer, hearer, false);
                let at = world.now();
                let knows = world.history.borrow().metadata[number].value.clone();
                if has(world, hearer, knows.as_deref()) {
                    world.history.borrow_mut().metadata[number].known_by.insert(hearer, at);
                }
                world.history.borrow_mut().wipes.push(MachineEvent { node: writer, at });
                world.count("lives unheard");
                world.machine(writer).wipe(&world.around, true).await;
                others().for_each(|other| between_two(world, writer, other, true));
                world.while_faults(between(draw, 300, 1500)).await;
                world.start(writer);
                for _ in 0..LOOKS_MAX {
                    world.while_faults(LOOK_EVERY).await;
                    if !world.faults_on() || change_at(world, writer, format!("heard{number}"), true).await {
                        break;
                    }
                }
                world.while_faults(between(draw, 1000, 4000)).await;
            }
            world.note(&format!("n{writer} and n{hearer} are reachable again"));
            for other in others() {
                pair.iter().for_each(|one| between_two(world, *one, other, true));
            }
            between_two(world, writer, hearer, true);
            true
        })
    }
}

fn between_two(world: &World, one: u8, other: u8, open: bool) {
    let network = &world.around.network;
    for (from, to) in [(one, other), (other, one)] {
        if open {
            network.mend(from, to);
        } else {
            network.cut(from, to);
        }
    }
}

async fn heard(world: &Rc<World>, node: u8, number: usize) -> bool {
    let value = world.history.borrow().metadata[number].value.clone();
    for _ in 0..LOOKS_MAX {
        if has(world, node, value.as_deref()) {
            return true;
        }
        if !world.faults_on() {
            return false;
        }
        world.while_faults(LOOK_EVERY).await;
    }
    false
}

fn has(world: &World, node: u8, value: Option<&str>) -> bool {
    let name = NamespaceName::try_from(METADATA_NAMESPACE).unwrap();
    let Some((core, value)) = world.machine(node).core().zip(value) else { return false };
    let metadata = core.metadata.current();
    let versions = metadata.namespace(&name).into_iter().flat_map(|namespace| namespace.versions());
    versions.map(|(_, _, version)| &version.value).any(|stands| stands.as_slice() == value.as_bytes())
}
