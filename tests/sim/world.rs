//! A run: machines, clients, faults, healing, and the last look at everything. It decides the order of the phases; what
//! must hold is in `invariants`, what goes wrong in `faults`, and everything that differs between runs in the plan.

use crate::faults::{self, Evidence};
use crate::history::{History, MachineEvent, Operation, Outcome, Record};
use crate::host::Pace;
use crate::invariants::{self, Invariant};
use crate::last_look::End;
use crate::machine::{Machine, Surroundings};
use crate::network::{SimulatedNetwork, address_of};
use crate::plan::Plan;
use crate::service::Service;
use crate::services::chat::ChatService;
use crate::services::counter::CounterService;
use crate::services::kv::KvService;
use crate::services::presence::PresenceService;
use crate::trace::Trace;
use ringwork_core::gossip::detector::Availability as Detected;
use ringwork_core::ring::KeyHash;
use ringwork_core::testing::Draw;
use ringwork_runtime::administration::{Administration, Availability, Change, ClusterStatus};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// How often what must always hold is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The cluster forms, heals, and becomes equal within this.
pub const WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked at whether all nodes see each other.
const AVAILABILITY_EVERY: Duration = Duration::from_millis(10);
/// How often a dead node is looked for.
const SUPERVISED_EVERY: Duration = Duration::from_millis(500);

/// Everything there is in a run.
pub struct World {
    /// What all machines share.
    pub around: Rc<Surroundings>,
    /// Machine 1 first.
    pub machines: Vec<Machine>,
    /// What clients were told.
    pub history: RefCell<History>,
    /// How often each kind of fault happened.
    pub happened: RefCell<BTreeMap<&'static str, u64>>,
    /// Machines that have been told to join.
    pub invited: RefCell<Vec<u8>>,
    // Not a watch channel: that one wakes its receivers in an order that no seed decides.
    faults_over: Notify,
    begun: Instant,
    serial: Cell<u64>,
    seed_of_tasks: Cell<u64>,
    broken: RefCell<Vec<String>>,
    all_up_since: Cell<Option<Duration>>,
    counted: RefCell<Evidence>,
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What did not hold, in the invariants' own words; empty when all did.
    pub violations: Vec<String>,
    /// Checksum of everything that happened, and of how much.
    pub sum: (u32, u64),
    /// Virtual time.
    pub lasted: Duration,
    /// Requests that were served.
    pub completed: usize,
    /// Requests.
    pub asked: usize,
    /// How often each kind of fault happened.
    pub happened: BTreeMap<&'static str, u64>,
    /// What the faults left to be counted.
    pub evidence: Evidence,
    /// Every line of what happened, where it was asked for.
    pub text: Vec<String>,
    /// What the seed stands for.
    pub plan: Plan,
}

/// The service of that name.
fn service_named(name: &str) -> Rc<dyn Service> {
    match name {
        "counter" => Rc::new(CounterService),
        "presence" => Rc::new(PresenceService),
        "kv" => Rc::new(KvService::default()),
        _ => Rc::new(ChatService),
    }
}

/// Runs one plan from beginning to end on the calling thread, in no real time but that of the work.
pub fn run(plan: Plan, readable: bool) -> Report {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    let report = tasks.block_on(&runtime, async move {
        let trace = Trace::new(readable);
        let world = World::new(plan, trace);
        world.run().await
    });
    drop(tasks);
    report
}

impl World {
    fn new(plan: Plan, trace: Trace) -> Rc<Self> {
        #[allow(clippy::disallowed_methods)] // the simulation's own clock
        let begun = Instant::now();
        let network = SimulatedNetwork::new(plan.seed ^ 0x6e65_7477, trace.clone());
        let skew = |number: u8| plan.skews_ms.get(usize::from(number) - 1).copied().unwrap_or(0);
        let machines: Vec<Machine> =
            (1..=plan.nodes()).map(|number| Machine::new(number, skew(number))).collect();
        for machine in &machines {
            machine.disk.faults.usual_ms.store(plan.commit_ms, std::sync::atomic::Ordering::Relaxed);
        }
        let members_change = plan.faults.iter().any(|name| ["membership", "gone"].contains(name));
        let unsynced_at_most = plan.unsynced_at_most();
        let history = History { members_change, unsynced_at_most, ..History::default() };
        let service = service_named(plan.service);
        Rc::new(Self {
            machines,
            history: RefCell::new(history),
            happened: RefCell::default(),
            invited: RefCell::default(),
            faults_over: Notify::new(),
            begun,
            serial: Cell::new(0),
            seed_of_tasks: Cell::new(plan.seed.wrapping_mul(0x2545_f491_4f6c_dd1d)),
            broken: RefCell::default(),
            all_up_since: Cell::new(None),
            counted: RefCell::default(),
            around: Rc::new(Surroundings { plan, network, service, trace, faults_on: Cell::new(true) }),
        })
    }

    /// Time since the run began.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.around.plan
    }

    /// A source of choices that no other task shares.
    pub fn draw(&self) -> Draw {
        self.seed_of_tasks.set(self.seed_of_tasks.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        Draw::from_seed(self.seed_of_tasks.get())
    }

    /// Counts something that a fault did.
    pub fn count(&self, what: &'static str) {
        *self.counted.borrow_mut().entry(what).or_default() += 1;
    }

    /// All that was counted.
    fn evidence(&self) -> Evidence {
        let mut evidence = self.counted.borrow().clone();
        let network = self.around.network.counts();
        evidence.extend([("packets held", network.held), ("packets lost", network.lost)]);
        evidence.extend([("connections reset", network.reset), ("slow packets", network.slow)]);
        evidence.insert("packets", network.packets);
        evidence.insert("power losses", self.history.borrow().power_losses.len() as u64);
        for machine in &self.machines {
            let faults = &machine.disk.faults;
            let relaxed = std::sync::atomic::Ordering::Relaxed;
            for (what, count) in [
                ("commits failed", faults.failed.load(relaxed)),
                ("commits delayed", faults.delayed.load(relaxed)),
                ("panics", faults.panicked.load(relaxed)),
                ("restarts", u64::from(machine.starts.get().saturating_sub(1))),
            ] {
                *evidence.entry(what).or_default() += count;
            }
        }
        evidence
    }

    /// Notes what happened.
    pub fn note(&self, what: &str) {
        self.around.trace.note(what);
    }

    /// The machine of that number.
    pub fn machine(&self, number: u8) -> &Machine {
        &self.machines[usize::from(number) - 1]
    }

    /// Machines whose node serves.
    pub fn serving(&self) -> Vec<u8> {
        self.machines.iter().filter(|machine| machine.serves()).map(|machine| machine.number).collect()
    }

    /// Machines with a process that runs as it wants.
    pub fn healthy(&self) -> Vec<u8> {
        let well = |machine: &&Machine| machine.pace() == Some(Pace::Running) && machine.serves();
        self.machines.iter().filter(well).map(|machine| machine.number).collect()
    }

    /// Machines that were taken into the cluster, or should be, and have no process.
    pub fn down(&self) -> usize {
        let invited = self.invited.borrow();
        invited.iter().filter(|number| !self.machine(**number).is_up()).count()
    }

    /// Waits so long, or until faults are over.
    pub async fn while_faults(&self, time: Duration) {
        if self.around.faults_on.get() {
            let _ = timeout(time, self.faults_over.notified()).await;
        }
    }

    /// Whether faults may still happen.
    pub fn faults_on(&self) -> bool {
        self.around.faults_on.get()
    }

    /// A machine dies with what its disk had not written.
    pub async fn lose_power(&self, number: u8, kept: usize) {
        let at = self.now();
        self.history.borrow_mut().power_losses.push(MachineEvent { node: number, at });
        self.machine(number).lose_power(&self.around, kept).await;
    }

    /// Starts a node's process, if it has none.
    pub fn start(&self, number: u8) {
        if !self.machine(number).is_up() {
            self.machine(number).start(&self.around, self.seeds(number));
        }
    }

    fn seeds(&self, number: u8) -> Vec<String> {
        // Whoever is there: the first may have left.
        let others = self.invited.borrow();
        let others = others.iter().filter(|other| **other != number);
        if number == 1 { Vec::new() } else { others.map(|other| address_of(*other).to_string()).collect() }
    }

    async fn run(self: Rc<Self>) -> Report {
        let mut invariants = invariants::all();
        let formed = timeout(WITHIN, self.form()).await;
        let mut violations = Vec::new();
        if formed.is_err() {
            violations.push(format!("formation: no cluster of {} within {WITHIN:?}", self.plan().founders));
        } else {
            violations.extend(self.live(&mut invariants).await);
        }
        violations.extend(self.broken.take());
        let (lasted, sum) = (self.now(), self.around.trace.sum());
        for machine in &self.machines {
            machine.kill(&self.around).await;
        }
        let evidence = self.evidence();
        let history = self.history.borrow();
        let report = Report {
            seed: self.plan().seed,
            violations,
            sum,
            lasted,
            completed: history.completed(),
            asked: history.records.len(),
            happened: self.happened.take(),
            evidence,
            text: self.around.trace.text(),
            plan: self.plan().clone(),
        };
        drop(history);
        report
    }

    /// The founders become one cluster.
    async fn form(&self) {
        for number in 1..=self.plan().founders {
            self.invited.borrow_mut().push(number);
            self.start(number);
        }
        let others = usize::from(self.plan().founders) - 1;
        self.until(|| self.status(1).is_some_and(|status| status.staged.len() == others)).await;
        let _ = self.administer(1, |administration| administration.plan()).await;
        let _ = self.administer(1, |administration| administration.commit()).await;
        let settled = |number: &u8| self.status(*number).is_some_and(|status| status.settled);
        self.until(|| self.is_whole() && self.serving().iter().all(settled)).await;
        self.note("the cluster stands");
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        while !holds() {
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The cluster as one node sees it.
    pub fn status(&self, number: u8) -> Option<ClusterStatus> {
        Some(self.machine(number).administration()?.cluster_status())
    }

    /// Has an operator ask a node for something.
    pub async fn administer<T: 'static>(
        &self,
        number: u8,
        what: impl FnOnce(Arc<dyn Administration>) -> ringwork_runtime::administration::Answering<T> + 'static,
    ) -> Result<T, String> {
        let machine = self.machine(number);
        let administration = machine.administration().ok_or("no node")?;
        let answer = machine.inside(async move { what(administration).await });
        match timeout(Duration::from_secs(30), answer).await {
            Ok(Some(Ok(done))) => Ok(done),
            Ok(Some(Err(refusal))) => Err(refusal.to_string()),
            Ok(None) => Err("the node died".into()),
            Err(_) => Err("no answer".into()),
        }
    }

    /// Stages a change at a node, and has it planned and committed there.
    pub async fn change(&self, number: u8, change: Change) -> Result<(), String> {
        self.note(&format!("at n{number} an operator asks for {change:?}"));
        let staged = self.administer(number, |administration| administration.stage(change)).await;
        let planned = match staged {
            Ok(_) => self.administer(number, |administration| administration.plan()).await.map(drop),
            Err(why) => Err(why),
        };
        let done = match planned {
            Ok(()) => self.administer(number, |administration| administration.commit()).await.map(drop),
            Err(why) => Err(why),
        };
        self.note(&format!("which ends with {done:?}"));
        done
    }

    /// Members that the cluster is to have when all is well: whom some node that serves has for a member, not leaving.
    fn expected(&self) -> Vec<u8> {
        self.machines.iter().filter(|machine| machine.is_up()).map(|machine| machine.number).collect()
    }

    /// Whether every process serves, sees every member up, and all have one ring.
    pub fn is_whole(&self) -> bool {
        self.not_whole().is_none()
    }

    fn not_whole(&self) -> Option<String> {
        let expected = self.expected();
        let mut first: Option<ClusterStatus> = None;
        for number in &expected {
            let machine = self.machine(*number);
            if !machine.serves() {
                return Some(format!("n{number} does not serve"));
            }
            if machine.core().is_some_and(|core| core.is_outside()) {
                return Some(format!("n{number} is no member"));
            }
            let Some(status) = self.status(*number) else { return Some(format!("n{number} says nothing")) };
            if !status.ring_ready {
                return Some(format!("n{number} waits for {:?}", status.waiting_for));
            }
            let not_up = |member: &&ringwork_runtime::administration::MemberStatus| {
                member.available != Availability::Up && member.status != "down"
            };
            if let Some(member) = status.members.iter().find(not_up) {
                return Some(format!("n{number} sees {} as {:?}", member.name, member.available));
            }
            if let Some(first) = &first
                && (first.epoch, &first.cluster) != (status.epoch, &status.cluster)
            {
                return Some(format!("n{number} is in epoch {}, others in {}", status.epoch, first.epoch));
            }
            first.get_or_insert(status);
        }
        None
    }

    async fn live(self: &Rc<Self>, invariants: &mut [Box<dyn Invariant>]) -> Vec<String> {
        let stopped: Rc<Cell<bool>> = Rc::default();
        let mut clients = Vec::new();
        for _ in 0..self.plan().clients {
            let (world, draw) = (self.clone(), self.draw());
            clients.push(tokio::task::spawn_local(world.client(draw, stopped.clone())));
        }
        clients.extend(self.further_clients(&stopped));
        let supervisor = tokio::task::spawn_local(self.clone().supervise());
        let availability = tokio::task::spawn_local(self.clone().watch_availability());
        let faults = tokio::task::spawn_local(self.clone().faults());
        let ends = self.now() + self.plan().faults_for;
        let mut violations = Vec::new();
        while self.now() < ends && violations.is_empty() {
            sleep(LOOK_EVERY).await;
            violations.extend(self.look(invariants));
        }
        self.around.faults_on.set(false);
        self.faults_over.notify_waiters();
        let _ = faults.await;
        self.heal();
        // Load goes on while it heals, and a little longer: what was written meanwhile must be seen at once.
        let whole = timeout(WITHIN, async {
            while !self.is_whole() {
                sleep(LOOK_EVERY).await;
                violations.extend(self.look(invariants));
            }
        });
        if whole.await.is_err() {
            let why = self.not_whole().unwrap_or_default();
            violations.push(format!("healing: not whole within {WITHIN:?} of the last fault: {why}"));
        }
        let ends = self.now() + Duration::from_secs(2);
        while self.now() < ends && violations.is_empty() {
            sleep(LOOK_EVERY).await;
            violations.extend(self.look(invariants));
        }
        stopped.set(true);
        for client in clients {
            let _ = client.await;
        }
        let end = if violations.is_empty() {
            self.last_look(invariants, &mut violations).await
        } else {
            End::default()
        };
        if violations.is_empty() {
            for invariant in invariants.iter_mut() {
                if let Err(why) = invariant.held(self, &end) {
                    violations.push(format!("{}: {why}", invariant.name()));
                }
            }
        }
        supervisor.abort();
        availability.abort();
        violations
    }

    /// Since when all nodes have seen each other up, if they do.
    pub fn all_up_since(&self) -> Option<Duration> {
        self.all_up_since.get()
    }

    /// Keeps track of that, more often than anything else is looked at: what must hold at once is to be seen at once.
    async fn watch_availability(self: Rc<Self>) {
        loop {
            let before = self.all_up_since.get();
            let since = before.unwrap_or_else(|| self.now());
            self.all_up_since.set(self.are_all_up().then_some(since));
            let now_all_up = before.is_none() && self.all_up_since.get().is_some();
            if now_all_up && self.plan().probes {
                // Whoever was away must not pass off what it missed as never written, from the first read on.
                tokio::task::spawn_local(self.clone().ask_everybody(2));
            }
            sleep(AVAILABILITY_EVERY).await;
        }
    }

    fn are_all_up(&self) -> bool {
        self.invited.borrow().iter().all(|number| {
            let machine = self.machine(*number);
            let Some(core) = machine.core().filter(|core| machine.serves() && !core.is_outside()) else {
                return false;
            };
            let view = core.ring.load();
            let up = |(node, _)| view.availability(node) == Detected::Up;
            view.state().members().all(up)
        })
    }

    /// Writes down in the history when processes ended and started.
    fn note_lives(&self) {
        let mut history = self.history.borrow_mut();
        let all = |times: fn(&Machine) -> &RefCell<Vec<Duration>>| {
            let of = |machine: &Machine| {
                let node = machine.number;
                times(machine).borrow().iter().map(|at| MachineEvent { node, at: *at }).collect::<Vec<_>>()
            };
            self.machines.iter().flat_map(of).collect()
        };
        history.ends = all(|machine| &machine.ended_at);
        history.starts = all(|machine| &machine.started_at);
    }

    pub fn look(&self, invariants: &mut [Box<dyn Invariant>]) -> Vec<String> {
        self.note_lives();
        let broken = |invariant: &mut Box<dyn Invariant>| {
            let name = invariant.name();
            invariant.holds(self).err().map(|why| format!("{name}: {why}"))
        };
        invariants.iter_mut().filter_map(broken).collect()
    }

    /// All faults are over.
    fn heal(&self) {
        self.note("all faults are over");
        self.around.network.mend_all();
        for machine in &self.machines {
            machine.disk.faults.delay_ms.store(0, std::sync::atomic::Ordering::Relaxed);
            machine.set_pace(Pace::Running);
            if let Some(core) = machine.core() {
                let _ = core.handoff.set(None, Some(None));
            }
        }
        for number in self.invited.borrow().clone() {
            self.start(number);
        }
    }

    /// Starts again what has ended by itself.
    async fn supervise(self: Rc<Self>) {
        loop {
            sleep(SUPERVISED_EVERY).await;
            for machine in &self.machines {
                let Some(why) = machine.reap(&self.around).await else { continue };
                let departed =
                    why.contains("no member") || why.contains("was removed") || why.contains("has left");
                let unasked = !why.contains("simulated") && !departed && !why.starts_with("it was stopped");
                if unasked {
                    let seen = format!("a node ended by itself: {} because {why}", machine.name());
                    let mut broken = self.broken.borrow_mut();
                    if !broken.contains(&seen) {
                        broken.push(seen);
                    }
                }
                if departed {
                    self.invited.borrow_mut().retain(|number| *number != machine.number);
                } else if self.invited.borrow().contains(&machine.number) {
                    self.start(machine.number);
                }
            }
        }
    }

    /// Lets faults happen until they are over.
    async fn faults(self: Rc<Self>) {
        let mut draw = self.draw();
        let all = faults::all();
        let named = |name: &&'static str| all.iter().find(|fault| fault.name() == *name).copied();
        let kinds: Vec<_> = self.plan().faults.iter().filter_map(named).collect();
        let mut under_way = Vec::new();
        while self.faults_on() {
            let pause = draw.below(self.plan().fault_pause_max.as_millis() as u64);
            self.while_faults(Duration::from_millis(100 + pause)).await;
            if let Some(kind) = draw.pick(&kinds).copied().filter(|_| self.faults_on()) {
                let (world, mut draw) = (self.clone(), self.draw());
                under_way.push(tokio::task::spawn_local(async move {
                    if kind.happen(&world, &mut draw).await {
                        *world.happened.borrow_mut().entry(kind.name()).or_default() += 1;
                    }
                }));
            }
        }
        for fault in under_way {
            let _ = fault.await;
        }
    }

    /// One client: one request after the other, at any node.
    async fn client(self: Rc<Self>, mut draw: Draw, stopped: Rc<Cell<bool>>) {
        let mut again: Option<Operation> = None;
        while !stopped.get() {
            sleep(Duration::from_micros(draw.below(self.plan().pause_max.as_micros() as u64))).await;
            let operation = match again.take().filter(|_| !draw.one_in(4)) {
                Some(operation) => operation,
                None => self.next_operation(&mut draw),
            };
            let node = 1 + draw.below(u64::from(self.plan().nodes())) as u8;
            if !self.invited.borrow().contains(&node) {
                continue;
            }
            let (shortest, longest) = self.plan().within;
            let span = (longest - shortest).as_millis() as u64;
            let within = shortest + Duration::from_millis(draw.below(span + 1));
            let outcome = self.ask(node, operation.clone(), within).await;
            again = operation.retry_of(&outcome);
        }
    }

    /// Asks a node, and writes down how it went.
    pub async fn ask(&self, node: u8, operation: Operation, within: Duration) -> Outcome {
        let begun = self.now();
        let record = Record {
            operation: operation.clone(),
            node,
            primaries: self.primaries(node, operation.key()),
            places: self.asked_places(node, operation.key()),
            begun,
            deadline: begun + within,
            ended: None,
            outcome: None,
        };
        let number = {
            let records = &mut self.history.borrow_mut().records;
            records.push(record);
            records.len() - 1
        };
        let places = self.places(node, operation.key());
        self.note(&format!("#{number} at n{node} within {within:?}: {operation:?}; it would ask {places}"));
        let key = operation.key().to_owned();
        let outcome = self.machine(node).ask(operation, within).await;
        self.note(&format!("#{number} ends: {outcome:?}"));
        // As all see it: a holder learns last of all that it holds a partition, and has confirmed for it already.
        let views: Vec<Vec<(u16, String)>> =
            self.serving().into_iter().map(|other| self.asked_places(other, &key)).collect();
        let record = &mut self.history.borrow_mut().records[number];
        record.keep_sure_places(&views);
        record.ended = Some(self.now());
        record.outcome = Some(outcome.clone());
        outcome
    }

    fn next_operation(&self, draw: &mut Draw) -> Operation {
        let plan = self.plan();
        let key = format!("key{}", draw.below(plan.keys));
        let dice = draw.below(1000);
        if dice < plan.reads {
            return Operation::Read { key, r: 2, whole: draw.one_in(8) };
        }
        if dice < plan.reads + plan.forgets && self.around.service.forgets() {
            let history = self.history.borrow();
            let of_key = |record: &&Record| record.operation.key() == key;
            let ids: Vec<&String> = history.records.iter().filter(of_key).filter_map(Record::id).collect();
            if let Some(through) = draw.pick(&ids) {
                return Operation::Forget { key, through: (*through).clone() };
            }
        }
        let serial = self.serial.get();
        self.serial.set(serial + 1);
        let name = (draw.one_in(4) || serial.is_multiple_of(3)).then(|| format!("name-{serial}"));
        let w = if draw.below(1000) < plan.weak { 1 } else { 2 };
        Operation::Write { key, serial, name, w }
    }

    /// Names of the nodes that hold a key's replicas, as one node sees it.
    pub fn primaries(&self, at: u8, key: &str) -> Vec<String> {
        let Some(core) = self.machine(at).core() else { return Vec::new() };
        let view = core.ring.load();
        let service = &self.around.service;
        let hash = KeyHash::of(service.name(), &service.routing_key(key));
        let list = view.primary_preflist(&hash, core.quorum.n_val);
        list.iter().map(|place| core.name_of(place.node).to_string()).collect()
    }
}
