//! The last look at a run: everybody is asked for everything, until all say the same and have the same.

use crate::history::{MachineEvent, Operation, Outcome, Seen};
use crate::invariants::Invariant;
use crate::machine::Machine;
use crate::service::Items;
use crate::world::{WITHIN, World};
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::preflist::{PreflistEntry, Role};
use ringwork_core::ring::KeyHash;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::sleep;

/// How long replicas may differ after everything has healed, without anybody's reading them: trees are built, and every
/// pair is compared a few times.
const CONVERGED_WITHIN: Duration = Duration::from_secs(120);

/// What one holder has of one key: items as text, by their own keys.
pub type Replica = BTreeMap<Vec<u8>, String>;

/// The cluster when everything has healed.
#[derive(Default)]
pub struct End {
    /// What each member that serves shows of each key, asked for all of it: by key, then node.
    pub shown: BTreeMap<String, Vec<(u8, Outcome)>>,
    /// What the holders of each key's replicas have in their stores: by key, then node.
    pub replicas: BTreeMap<String, Vec<(u8, Replica)>>,
    /// Which keys each member lists; nothing of a service that lists none.
    pub listed: Vec<(u8, Outcome)>,
}

impl World {
    /// Whom a node would ask about a key now, for readers of a trace.
    pub fn places(&self, at: u8, key: &str) -> String {
        let Some(core) = self.machine(at).core() else { return "nobody".to_owned() };
        let service = &self.around.service;
        let view = core.ring.load();
        let hash = KeyHash::of(service.name(), &service.routing_key(key));
        let list = view.preflist(service.name(), &hash, core.quorum.n_val);
        let place = |entry: &PreflistEntry| {
            let role = if entry.role == Role::Primary { "" } else { " as stand-in" };
            format!("{}{role} for {}", core.name_of(entry.node), entry.partition.0)
        };
        list.iter().map(place).collect::<Vec<_>>().join(", ")
    }

    /// The same, as partition and node.
    pub fn asked_places(&self, at: u8, key: &str) -> Vec<(u16, String)> {
        let Some(core) = self.machine(at).core() else { return Vec::new() };
        let view = core.ring.load();
        let service = &self.around.service;
        let hash = KeyHash::of(service.name(), &service.routing_key(key));
        let list = view.preflist(service.name(), &hash, core.quorum.n_val);
        list.iter().map(|entry| (entry.partition.0, core.name_of(entry.node).to_string())).collect()
    }

    /// Whether a disk may be lost now: everybody is there and has what it holds, no disk has two copies of anything,
    /// and what is unsynced since a machine lost power has had the time to become synced.
    pub fn copies_are_sound(&self) -> bool {
        let soon = |event: &MachineEvent| self.now() < event.at + Duration::from_secs(8);
        let history = self.history.borrow();
        let whole = |number: &u8| {
            self.machine(*number)
                .core()
                .is_some_and(|core| core.generations.lacking(core.ring.load().state(), core.id).is_empty())
        };
        let distinct = |number: &u8| {
            (0..self.plan().keys).all(|key| {
                let places = self.asked_places(*number, &format!("key{key}"));
                let nodes: BTreeSet<&String> = places.iter().map(|(_, node)| node).collect();
                nodes.len() == places.len()
            })
        };
        self.down() == 0
            && self.serving().iter().all(distinct)
            && !history.power_losses.iter().chain(&history.wipes).any(soon)
            && self.invited.borrow().iter().all(whole)
    }

    /// Every node is asked for every key, with that r.
    pub async fn ask_everybody(self: Rc<Self>, r: u8) {
        for key in 0..self.plan().keys {
            for node in self.serving() {
                let read = Operation::Read { key: format!("key{key}"), r, whole: true };
                self.ask(node, read, Duration::from_secs(10)).await;
            }
        }
    }

    /// Looks at everything, at every node, again and again until all say the same.
    pub async fn last_look(
        self: &Rc<Self>,
        invariants: &mut [Box<dyn Invariant>],
        violations: &mut Vec<String>,
    ) -> End {
        if !planted(Mutant::NoReadRepair) {
            violations.extend(self.convergence().await);
        }
        let until = self.now() + WITHIN;
        self.last_look_at_own().await;
        self.clone().ask_everybody(2).await;
        violations.extend(self.look(invariants));
        loop {
            let mut end = End::default();
            for key in 0..self.plan().keys {
                let key = format!("key{key}");
                for node in self.serving() {
                    let read = Operation::Read { key: key.clone(), r: 3, whole: true };
                    let outcome = self.ask(node, read, Duration::from_secs(10)).await;
                    end.shown.entry(key.clone()).or_default().push((node, outcome));
                }
                let replicas = self.replicas(&key);
                end.replicas.insert(key, replicas);
            }
            for node in self.serving().into_iter().filter(|_| self.around.service.lists()) {
                let outcome = self.ask(node, Operation::List, Duration::from_secs(10)).await;
                end.listed.push((node, outcome));
            }
            violations.extend(self.look(invariants));
            let equal = invariants.iter_mut().all(|invariant| invariant.held(self, &end).is_ok());
            if (end.agrees() && equal) || self.now() > until || !violations.is_empty() {
                return end;
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits until the replicas of every key are the same, and asks nobody for anything meanwhile; what is wrong if
    /// they do not become so.
    async fn convergence(&self) -> Option<String> {
        let until = self.now() + CONVERGED_WITHIN;
        loop {
            let keys = (0..self.plan().keys).map(|key| format!("key{key}"));
            let replicas = keys.map(|key| (self.replicas(&key), key));
            let differs = |replicas: &[(u8, Replica)]| replicas.windows(2).any(|two| two[0].1 != two[1].1);
            let (replicas, key) = replicas.into_iter().find(|(replicas, _)| differs(replicas))?;
            if self.now() > until {
                let places = self.serving().first().map(|at| self.places(*at, &key)).unwrap_or_default();
                return Some(format!(
                    "replicas become equal without a read: {key} within {CONVERGED_WITHIN:?}: {places}: {replicas:?}"
                ));
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// What the holders of a key's replicas have of it.
    fn replicas(&self, key: &str) -> Vec<(u8, Replica)> {
        let Some(core) = self.serving().first().and_then(|number| self.machine(*number).core()) else {
            return Vec::new();
        };
        let view = core.ring.load();
        let service = &self.around.service;
        let hash = KeyHash::of(service.name(), &service.routing_key(key));
        let places = view.primary_preflist(&hash, core.quorum.n_val);
        let number = |node: NodeId| {
            let of = |machine: &&Machine| machine.core().is_some_and(|core| core.id == node);
            self.machines.iter().find(of).map(|machine| machine.number)
        };
        let held = |number: u8, partition: Partition| {
            let machine = self.machine(number);
            let live = machine.core().and_then(|core| core.generations.live(partition));
            let Some(live) = live else { return Replica::new() };
            let items: Items = service.items(&machine.disk.memory, partition, live.number);
            items.get(&service.routing_key(key)).cloned().unwrap_or_default()
        };
        places
            .iter()
            .filter_map(|place| Some((place.partition, number(place.node)?)))
            .map(|(partition, number)| (number, held(number, partition)))
            .collect()
    }
}

impl End {
    /// Whether all nodes show the same, and all replicas are the same.
    fn agrees(&self) -> bool {
        let equal = |answers: &Vec<(u8, Outcome)>| {
            let seen = |outcome: &Outcome| match outcome {
                Outcome::Read { seen, .. } => Some(seen.clone()),
                _ => None,
            };
            let all: Vec<Option<Seen>> = answers.iter().map(|(_, outcome)| seen(outcome)).collect();
            all.iter().all(|seen| seen.is_some() && *seen == all[0])
        };
        self.shown.values().all(equal)
    }
}
