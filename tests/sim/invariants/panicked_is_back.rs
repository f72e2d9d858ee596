//! A vnode that panicked runs again within a second, on a machine that is well and holds its partition. One that panics
//! again and again rests in between, longer and longer: that is not looked at.

use super::{Invariant, Promise};
use crate::world::World;
use ringwork_core::store::KeyspaceId;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const WITHIN: Duration = Duration::from_secs(1);
/// A start meets what the machine is doing otherwise, a change of generation for one: it is looked at this often.
const LOOKED_FOR: Duration = Duration::from_millis(600);
/// A panic so soon after another of the same partition is one of a row.
const ROW: Duration = Duration::from_secs(30);

#[derive(Default)]
struct PanickedIsBack {
    /// By machine, how many panics were seen.
    seen: BTreeMap<u8, usize>,
    /// By machine and keyspace, when the last one was.
    last: BTreeMap<(u8, KeyspaceId), Duration>,
    waiting: Vec<Waiting>,
}

struct Waiting {
    machine: u8,
    life: u32,
    keyspace: KeyspaceId,
    since: Duration,
}

inventory::submit!(Promise(|| Box::new(PanickedIsBack::default())));

impl Invariant for PanickedIsBack {
    fn name(&self) -> &'static str {
        "a vnode that panicked is back within a second"
    }

    fn holds(&mut self, world: &World) -> Result<(), String> {
        let now = world.now();
        for machine in &world.machines {
            let all = machine.disk.faults.panicked_in.lock().unwrap();
            let seen = self.seen.entry(machine.number).or_default();
            for keyspace in all.iter().skip(std::mem::replace(seen, all.len())) {
                let before = self.last.insert((machine.number, keyspace.clone()), now);
                if before.is_none_or(|before| now >= before + ROW) {
                    let (machine, life) = (machine.number, machine.starts.get());
                    self.waiting.push(Waiting { machine, life, keyspace: keyspace.clone(), since: now });
                }
            }
        }
        let mut late = None;
        self.waiting.retain(|waiting| {
            if now < waiting.since + WITHIN {
                return true;
            }
            let machine = world.machine(waiting.machine);
            let unwell = machine.was_unwell(waiting.since, now)
                || machine.starts.get() != waiting.life
                || machine.disk.faults.delay_ms.load(Relaxed) > 0;
            let (KeyspaceId::Vnode { service, partition, generation }, Some(core), false) =
                (&waiting.keyspace, machine.core(), unwell)
            else {
                return false;
            };
            let held = core.ring.load().state().holder(*partition) == Some(core.id);
            let live = core.generations.live(*partition).map(|live| live.number) == Some(*generation);
            if !held || !live || core.is_stopping() || core.runs_vnode(service, *partition) {
                return false;
            }
            if now > waiting.since + WITHIN + LOOKED_FOR {
                late = Some(format!("{} of {} panicked at {:?}", waiting.keyspace, machine.name(), waiting.since));
                return false;
            }
            true
        });
        late.map_or(Ok(()), Err)
    }
}
