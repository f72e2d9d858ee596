//! One machine of the simulated cluster: its disk, its clocks, and the node's process while it runs. It starts the
//! node through the same builder as production, restarts it when it ends by itself, and can end it in every way a real
//! one ends.

use crate::clock::MachineClock;
use crate::disk::Disk;
use crate::history::{Operation, Outcome};
use crate::host::{Host, Pace};
use crate::network::{SimulatedNetwork, address_of};
use crate::plan::Plan;
use crate::service::{Face, Service};
use crate::trace::Trace;
use ringwork::server::{look_around, trial_options};
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::ring::RingSize;
use ringwork_runtime::administration::Administration;
use ringwork_runtime::antientropy::board::RepairSettings;
use ringwork_runtime::handoff::board::HandoffSettings;
use ringwork_runtime::net::Transport;
use ringwork_runtime::node::{ClusterOptions, Ending, Keep, Node, NodeCore, NodeLimits, NodeOptions};
use ringwork_runtime::randomness::Randomness;
use ringwork_runtime::spawner::Placement;
use ringwork_runtime::time::{Clock, TimeSource};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a client waits beyond the request's own time before it takes the node for gone.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an operator or a supervisor takes to start a node again that ended by itself.
const SUPERVISED_AFTER: Duration = Duration::from_secs(2);

/// See the module's head.
pub struct Machine {
    /// 1, 2, …; its name is n1, n2, ….
    pub number: u8,
    /// Its disk.
    pub disk: Disk,
    /// Its clocks.
    pub clock: Arc<MachineClock>,
    /// Its process.
    process: RefCell<Option<Process>>,
    /// How often the node was started.
    pub starts: Cell<u32>,
    /// How often what it knew of the ring was lost with its disk.
    pub rings_lost: Cell<u64>,
    /// Whether its next start is a rebuild.
    pub rebuild: Rc<Cell<bool>>,
    /// Why the node ended by itself, each time.
    pub endings: RefCell<Vec<String>>,
    /// When its process ended, and when it was started.
    pub ended_at: RefCell<Vec<Duration>>,
    /// See `ended_at`.
    pub started_at: RefCell<Vec<Duration>>,
    /// From when to when its process did not run as it wants, or not at all.
    unwell: RefCell<Vec<(Duration, Option<Duration>)>>,
}

struct Process {
    host: Host,
    pace: Cell<Pace>,
    shown: Rc<RefCell<Shown>>,
}

/// What a process shows once it has come so far.
#[derive(Default)]
struct Shown {
    core: Option<Arc<NodeCore>>,
    administration: Option<Arc<dyn Administration>>,
    face: Option<Rc<dyn Face>>,
    /// The node ended by itself, or could not start.
    ended: Option<String>,
    /// Asks the node to stop in peace.
    stop: Option<oneshot::Sender<()>>,
}

/// What all machines share.
pub struct Surroundings {
    /// The run.
    pub plan: Plan,
    /// The network.
    pub network: SimulatedNetwork,
    /// The service.
    pub service: Rc<dyn Service>,
    /// What happened.
    pub trace: Trace,
    /// Whether things go wrong.
    pub faults_on: Cell<bool>,
}

impl Machine {
    /// A machine with an empty disk, switched on, without a process.
    pub fn new(number: u8, skew_ms: i64) -> Self {
        Self {
            number,
            disk: Disk::new(),
            clock: MachineClock::new(skew_ms),
            process: RefCell::default(),
            starts: Cell::new(0),
            rings_lost: Cell::new(0),
            rebuild: Rc::default(),
            endings: RefCell::default(),
            unwell: RefCell::default(),
            ended_at: RefCell::default(),
            started_at: RefCell::default(),
        }
    }

    /// Its node's name.
    pub fn name(&self) -> String {
        format!("n{}", self.number)
    }

    fn options(&self, around: &Surroundings, seeds: Vec<String>) -> NodeOptions {
        let seed = around.plan.seed ^ (u64::from(self.number) << 32) ^ (u64::from(self.starts.get()) << 40);
        NodeOptions {
            name: self.name(),
            keep: Keep::Given {
                store: self.disk.store(),
                directory: Some(self.disk.directory().to_owned()),
                machine_boot: Some(self.disk.machine_boot()),
            },
            ring_size: RingSize::try_from(around.plan.ring_size as u32).unwrap(),
            cluster: Some(ClusterOptions {
                listen: address_of(self.number),
                advertise: None,
                seeds,
                location: None,
            }),
            rebuild: self.rebuild.get(),
            durability: around.plan.durability,
            // What reads leave unmended when they are told to, this would mend.
            repair: RepairSettings {
                enabled: !planted(Mutant::NoReadRepair),
                rebuild_interval: around.plan.rebuild_interval,
                ..RepairSettings::default()
            },
            handoff: HandoffSettings {
                bytes_per_second: around.plan.transfer_bytes_per_second.filter(|_| around.faults_on.get()),
                ..HandoffSettings::default()
            },
            limits: NodeLimits {
                handoff_batch_items_max: around.plan.batch_items_max,
                ..NodeLimits::default()
            },
            clock: Clock::of(self.clock.clone()),
            randomness: Randomness::seeded(seed),
            transport: Transport::given(around.network.at(self.number)),
            ..trial_options(Placement::Here)
        }
    }

    /// Starts the node's process. `seeds`: whom it asks to be taken in.
    pub fn start(&self, around: &Rc<Surroundings>, seeds: Vec<String>) {
        assert!(self.process.borrow().is_none(), "{} runs already", self.name());
        self.starts.set(self.starts.get() + 1);
        around.network.power_on(self.number);
        around.trace.note(&format!("{} starts", self.name()));
        self.started_at.borrow_mut().push(self.clock.moment());
        let builder = around.service.host(Node::builder(self.options(around, seeds)));
        let shown: Rc<RefCell<Shown>> = Rc::default();
        let (ours, service, rebuild) = (shown.clone(), around.service.clone(), self.rebuild.clone());
        let host = Host::start(async move {
            let node = match builder.start().await {
                Ok(node) => node,
                Err(error) => return ours.borrow_mut().ended = Some(format!("it cannot start: {error}")),
            };
            rebuild.set(false);
            let (stop, stopped) = oneshot::channel();
            {
                let mut shown = ours.borrow_mut();
                shown.core = Some(node.core().clone());
                shown.administration = Some(node.administration());
                shown.stop = Some(stop);
            }
            look_around(&node).await;
            let face = service.face(&node).await;
            ours.borrow_mut().face = Some(face);
            let core = node.core().clone();
            let why = tokio::select! {
                biased;
                _ = stopped => "it was stopped".to_owned(),
                error = core.storage.failure() => format!("the store has failed: {error}"),
                ending = core.ending() => match ending {
                    Ending::Failed(why) | Ending::Departed(why) => why,
                },
            };
            ours.borrow_mut().face = None;
            let stopped = node.stop(Duration::from_secs(5)).await;
            ours.borrow_mut().ended = Some(match stopped {
                Ok(()) => why,
                Err(error) => format!("{why}; and {error}"),
            });
        });
        self.note_unwell(false);
        *self.process.borrow_mut() = Some(Process { host, pace: Cell::new(Pace::Running), shown });
    }

    /// Whether there is a process, running or not.
    pub fn is_up(&self) -> bool {
        self.process.borrow().is_some()
    }

    /// Whether clients are served.
    pub fn serves(&self) -> bool {
        self.face().is_some()
    }

    /// How its process is scheduled.
    pub fn pace(&self) -> Option<Pace> {
        self.process.borrow().as_ref().map(|process| process.pace.get())
    }

    /// Whether its process did not run as it wants, or not at all, at some time between these.
    pub fn was_unwell(&self, from: Duration, to: Duration) -> bool {
        self.unwell
            .borrow()
            .iter()
            .any(|(begun, ended)| *begun <= to && ended.is_none_or(|ended| ended >= from))
    }

    fn note_unwell(&self, unwell: bool) {
        let now = self.clock.moment();
        let mut spans = self.unwell.borrow_mut();
        match spans.last_mut() {
            Some((_, ended @ None)) if !unwell => *ended = Some(now),
            Some((_, None)) => {}
            _ if unwell => spans.push((now, None)),
            _ => {}
        }
    }

    /// Changes how it is scheduled.
    pub fn set_pace(&self, pace: Pace) {
        self.note_unwell(pace != Pace::Running);
        if let Some(process) = &*self.process.borrow() {
            process.pace.set(pace);
            process.host.set_pace(pace);
        }
    }

    /// The node's inside, while it has one.
    pub fn core(&self) -> Option<Arc<NodeCore>> {
        self.process.borrow().as_ref()?.shown.borrow().core.clone()
    }

    /// What operators ask.
    pub fn administration(&self) -> Option<Arc<dyn Administration>> {
        self.process.borrow().as_ref()?.shown.borrow().administration.clone()
    }

    fn face(&self) -> Option<Rc<dyn Face>> {
        self.process.borrow().as_ref()?.shown.borrow().face.clone()
    }

    /// Runs something inside of the process; none when there is no process, or it ends before.
    pub async fn inside<T: 'static>(&self, what: impl Future<Output = T> + 'static) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        {
            let process = self.process.borrow();
            process.as_ref()?.host.spawn(async move {
                let _ = sender.send(what.await);
            });
        }
        receiver.await.ok()
    }

    /// A client's request over a connection of its own.
    pub async fn ask(&self, operation: Operation, within: Duration) -> Outcome {
        let Some(face) = self.face() else { return Outcome::Refused("nobody listens".into()) };
        let answer = self.inside(async move { face.perform(operation, within).await });
        match tokio::time::timeout(within + PATIENCE, answer).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Outcome::Unknown { name: None, why: "the node died".into() },
            Err(_) => Outcome::Unknown { name: None, why: "no answer came".into() },
        }
    }

    /// The same for a request that only the service knows; what is told is for readers of a trace.
    pub async fn ask_own(&self, number: usize, within: Duration) -> String {
        let Some(face) = self.face() else { return "nobody listens".to_owned() };
        let answer = self.inside(async move { face.perform_own(number, within).await });
        let told = tokio::time::timeout(within + PATIENCE, answer).await;
        told.map_or_else(|_| "no answer came".to_owned(), |told| told.unwrap_or("the node died".to_owned()))
    }

    /// kill -9.
    pub async fn kill(&self, around: &Surroundings) {
        let Some(process) = self.process.take() else { return };
        self.note_unwell(true);
        self.ended_at.borrow_mut().push(self.clock.moment());
        around.trace.note(&format!("{} is killed", self.name()));
        let core = process.shown.borrow_mut().core.take();
        process.host.kill().await;
        process.shown.take();
        if let Some(core) = core {
            core.abandon();
        }
    }

    /// The machine loses power when its disk has written `kept` of what was not synced.
    pub async fn lose_power(&self, around: &Surroundings, kept: usize) {
        around.trace.note(&format!(
            "{} loses power, and {} of {} commits that were not synced",
            self.name(),
            self.disk.memory.unsynced_commits().saturating_sub(kept),
            self.disk.memory.unsynced_commits()
        ));
        around.network.power_off(self.number);
        self.kill(around).await;
        self.disk.lose_power(kept);
    }

    /// The machine dies with its disk, and gets a new one.
    pub async fn wipe(&self, around: &Surroundings, keep_ring: bool) {
        around.trace.note(&format!("{} loses its disk; its ring is kept: {keep_ring}", self.name()));
        around.network.power_off(self.number);
        self.kill(around).await;
        self.disk.wipe(keep_ring);
        self.rings_lost.set(self.rings_lost.get() + u64::from(!keep_ring));
        self.rebuild.set(true);
    }

    /// One signal: ends in peace.
    pub fn stop(&self) {
        if let Some(process) = &*self.process.borrow() {
            let _ = process.shown.borrow_mut().stop.take().map(|stop| stop.send(()));
        }
    }

    /// If the process has ended by itself: takes it away, and says why.
    pub async fn reap(&self, around: &Surroundings) -> Option<String> {
        let ended =
            self.process.borrow().as_ref().and_then(|process| process.shown.borrow().ended.clone())?;
        around.trace.note(&format!("{} has ended: {ended}", self.name()));
        self.endings.borrow_mut().push(ended.clone());
        self.kill(around).await;
        tokio::time::sleep(SUPERVISED_AFTER).await;
        Some(ended)
    }
}
