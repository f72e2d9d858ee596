//! A node: what is started in which order, and how it stops. It decides identity (who this data directory is, which
//! life this is) and wires the actors; it does not know HTTP, settings files or any module.

mod keyspaces;

use crate::administration::Administration;
use crate::antientropy::board::{RepairBoard, RepairSettings};
use crate::antientropy::{AntiEntropy, TreeTable};
use crate::beat::Beat;
use crate::cluster_administration::ClusterAdministration;
use crate::coordinator::Service;
use crate::files::NumberFile;
use crate::gossip_agent::{AgentMessage, GossipAgent, HealthCheck};
use crate::handoff::board::HandoffBoard;
use crate::handoff::generations::Generations;
use crate::handoff::manager::{HandoffContext, HandoffManager};
use crate::handoff::service::{HandoffService, OfService, Services};
use crate::identity::{Identity, Life, count_boot, identify, lock};
use crate::joining::{announce_address, join_through};
use crate::metadata::MetadataBoard;
use crate::metadata_manager::{self, MetadataManager};
use crate::net::{Network, NetworkLimits, NetworkOptions};
use crate::node_core::Started;
pub use crate::node_core::{Ending, NodeCore, NodeLimits};
pub use crate::node_options::{ClusterOptions, Keep, NodeOptions};
use crate::post::Postbox;
use crate::remote::HostedRemote;
use crate::ring_manager::file::load_or_create;
use crate::ring_manager::{Later, Movable, RingManager, SetAgent};
use crate::run_time_settings::{self, RunTimeSetting, RunTimeSettings};
pub use crate::service_core::ServiceCore;
use crate::spawner::Spawner;
pub use crate::start_error::StartError;
use crate::storage::{CommitMark, Durability, Storage, last_commit_ms, last_commit_number};
use crate::store::disk::{DiskOptions, DiskStore};
use crate::store::rescue::{JournalRescue, with_rescue};
use crate::strays::StrayTable;
use crate::telemetry::Telemetry;
use crate::time::HybridClock;
use crate::vnode_master::{MasterMessage, Routes, VnodeMaster, forget_incarnations};
use crate::watch::Watchers;
use crate::wiring::Wiring;
use arc_swap::ArcSwap;
use keyspaces::{create_keyspaces, mark_strays};
use ringwork_core::clock::hybrid::HybridTime;
use ringwork_core::gossip::detector::Availability;
use ringwork_core::ids::{ClusterId, Partition};
use ringwork_core::limits::SERVICE_NAME_BYTES_MAX;
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::preflist::RingView;
use ringwork_core::store::Store;
use ringwork_core::store::memory::MemoryStore;
use ringwork_core::vnode::Vnode;
use serde::Serialize;
use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// How long the first write of the ring file may take at a start.
const PUBLISH_WITHIN: Duration = Duration::from_secs(30);

type Ended = Pin<Box<dyn Future<Output = ()>>>;

/// A service without its type, for starting and stopping.
trait Hosted: Send + Sync {
    fn stop(&self) -> Ended;
    fn census(&self) -> ServiceCensus;
}

/// How one service does.
#[derive(Clone, Debug, Serialize)]
pub struct ServiceCensus {
    /// Its name.
    pub service: &'static str,
    /// Vnodes that run.
    pub vnodes_running: usize,
    /// Requests on their way to them.
    pub requests_waiting: usize,
}

struct HostedService<V: Vnode>(Arc<ServiceCore<V>>);

impl<V: Vnode> Movable for HostedService<V> {
    fn freeze(&self, partitions: Vec<Partition>) -> Later<BTreeSet<Partition>> {
        let (done, empty) = oneshot::channel();
        if let Some(master) = self.0.master() {
            master.post_control(MasterMessage::Freeze(partitions, done));
        }
        // No word counts as "there is something in all of them".
        Box::pin(async move { empty.await.unwrap_or_default() })
    }

    fn thaw(&self, partitions: Vec<Partition>) {
        if let Some(master) = self.0.master() {
            master.post_control(MasterMessage::Thaw(partitions));
        }
    }

    fn came(&self, partitions: Vec<Partition>) {
        if let Some(master) = self.0.master().filter(|_| V::starts_early(&self.0.config)) {
            for partition in partitions {
                master.post_control(MasterMessage::Ensure(partition));
            }
        }
    }
}

impl<V: Vnode> Hosted for HostedService<V> {
    fn stop(&self) -> Ended {
        let (sender, receiver) = oneshot::channel();
        if let Some(master) = self.0.master() {
            master.post_control(MasterMessage::StopAll(sender));
        }
        Box::pin(async move {
            let _ = receiver.await;
        })
    }

    fn census(&self) -> ServiceCensus {
        let (vnodes_running, requests_waiting) = self.0.routes.census();
        ServiceCensus { service: V::SERVICE, vnodes_running, requests_waiting }
    }
}

type Starter = Box<dyn FnOnce(Arc<NodeCore>) -> StartedService>;

struct StartedService {
    handle: Box<dyn Any>,
    hosted: Arc<dyn Hosted>,
    movable: Arc<dyn Movable>,
    remote: Arc<dyn HostedRemote>,
    transferable: Arc<dyn HandoffService>,
    properties: Vec<RunTimeSetting>,
    start_master: Box<dyn FnOnce() + Send>,
    start_repair: Box<dyn FnOnce() + Send>,
}

/// Collects what a node is to host; see [`Node::builder`].
pub struct NodeBuilder {
    options: NodeOptions,
    services: Vec<(&'static str, TypeId, Starter)>,
    checks: Vec<HealthCheck>,
    settings: Vec<RunTimeSetting>,
}

impl NodeBuilder {
    /// Hosts module `V` with its settings.
    pub fn service<V: Vnode>(mut self, config: V::Config) -> Self {
        let starter: Starter = Box::new(move |node: Arc<NodeCore>| {
            let partitions = node.ring.load().size().count();
            let core = Arc::new(ServiceCore::<V> {
                routes: Arc::new(Routes::new(partitions)),
                watchers: Watchers::new(node.limits.watchers_max),
                config,
                quorum: ArcSwap::from_pointee(node.quorum),
                listings: Default::default(),
                trees: TreeTable::new(partitions),
                master: std::sync::OnceLock::new(),
                node,
            });
            let (for_master, for_repair) = (core.clone(), core.clone());
            StartedService {
                handle: Box::new(core.clone()),
                hosted: Arc::new(HostedService(core.clone())),
                movable: Arc::new(HostedService(core.clone())),
                transferable: Arc::new(OfService(core.clone())),
                properties: core.properties(),
                remote: Arc::new(core),
                start_master: Box::new(move || {
                    let postbox = VnodeMaster::start(for_master.clone());
                    let _ = for_master.master.set(postbox);
                }),
                start_repair: Box::new(move || AntiEntropy::start(for_repair)),
            }
        });
        self.services.push((V::SERVICE, TypeId::of::<V>(), starter));
        self
    }

    /// As [`Self::service`], and asks `check` every few seconds whether the module is well. When it says no the node
    /// is left out of the service's preference lists until it says yes. It runs on the control thread: microseconds.
    pub fn service_with_health<V: Vnode>(
        mut self,
        config: V::Config,
        check: impl Fn() -> bool + Send + 'static,
    ) -> Self {
        self.checks.push(HealthCheck { service: V::SERVICE, check: Box::new(check) });
        self.service::<V>(config)
    }

    /// Lets operators change a setting of whoever starts the node while it runs.
    pub fn setting(mut self, setting: RunTimeSetting) -> Self {
        self.settings.push(setting);
        self
    }

    /// Starts the node: identity, store, ring, committer, actors. Vnodes start when they are first asked.
    pub async fn start(self) -> Result<Node, StartError> {
        let Self { options, services, checks, settings: mut run_time } = self;
        let mut names = std::collections::BTreeSet::new();
        for (name, _, _) in &services {
            let lawful = (1..=SERVICE_NAME_BYTES_MAX).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
            if !lawful || !names.insert(*name) {
                return Err(StartError::ServiceName(name));
            }
        }
        let directory = match &options.keep {
            Keep::Directory { path, .. } => Some(path.clone()),
            Keep::Given { directory, .. } => directory.clone(),
            Keep::Nowhere => None,
        };
        let lock = directory.as_deref().map(lock).transpose()?;
        let rebuild = match &directory {
            Some(directory) => crate::rebuild::prepare(directory, options.rebuild)?,
            None => false,
        };
        let synced = options.durability == Durability::Sync;
        let machine_boot = match &options.keep {
            Keep::Given { machine_boot: Some(given), .. } => given.clone(),
            _ => crate::identity::machine_boot(),
        };
        let life = Life { machine_boot, synced };
        let (mut identity, before) = identify(directory.as_deref(), &options.randomness, life)?;
        // Boot 0 is a birth that was cut short: nothing that a node keeps need be there yet.
        let born = before.as_ref().is_some_and(|b| b.boot.0 > 0);
        let machine_went_on = before.as_ref().is_some_and(|b| b.machine_boot == identity.machine_boot);
        let may_have_lost =
            before.as_ref().is_some_and(|b| !b.stopped_in_peace && !b.synced) && !machine_went_on;
        // The engine may cut journals when it opens them; until it is known that it was right, they are kept.
        let rescue = match &options.keep {
            Keep::Directory { path, .. } if born && !rebuild => {
                match JournalRescue::begin(&path.join("store")) {
                    Ok(rescue) => Some(rescue),
                    Err(error) => {
                        // A full disk must not keep a healthy node from starting.
                        tracing::warn!(%error, "the journals could not be set aside before the store is opened");
                        None
                    }
                }
            }
            _ => None,
        };
        let store: Arc<dyn Store> = match &options.keep {
            Keep::Directory { path, cache_bytes } => {
                let disk = DiskOptions { directory: path.join("store"), cache_bytes: *cache_bytes };
                let opened = DiskStore::open(&disk, born && !rebuild);
                Arc::new(opened.map_err(|error| with_rescue(error, rescue.as_ref()))?)
            }
            Keep::Nowhere => Arc::new(MemoryStore::without_crashes()),
            Keep::Given { store, .. } => store.clone(),
        };
        let file = |name: &str| directory.as_ref().map(|d| d.join(name));
        let seeded = options.cluster.as_ref().is_some_and(|cluster| !cluster.seeds.is_empty());
        if let (Some(ring), Some(directory)) =
            (file("ring").filter(|ring| born && !ring.exists()), &directory)
        {
            match (rebuild, seeded) {
                (false, _) => return Err(StartError::Missing(ring)),
                (true, false) => return Err(StartError::NoSeeds(directory.clone())),
                (true, true) => {}
            }
        }
        let random = || options.randomness.bytes().map(ClusterId::from_random);
        let member = crate::identity::own_member(&options, &identity)?;
        let (ring_file, metadata_file) = (file("ring"), file("metadata"));
        let mut state = load_or_create(&ring_file, options.ring_size, identity.node, member.clone(), random)?;
        let metadata = metadata_manager::file::load(&metadata_file, state.cluster())?;
        // All nodes may have the same seeds: the one that is named first founds the cluster, if nobody else has.
        let founds = options.cluster.as_ref().is_some_and(ClusterOptions::is_first_seed);
        // Who has had others beside it is a member, and the last one is a cluster.
        let outside = seeded && state.everybody().len() == 1;
        let view = RingView::new(identity.node, Arc::new(state.clone()), &BTreeMap::new(), BTreeSet::new());
        let view = Arc::new(ArcSwap::from_pointee(view));
        let spawner =
            Spawner::start(options.placement, options.limits.pool_threads, options.limits.pool_queue_max)
                .map_err(StartError::Thread)?;
        let telemetry = Arc::new(Telemetry::default());
        let mark = match file("commit-mark") {
            Some(path) => Some(CommitMark::new(NumberFile::open(&path)?, machine_went_on)),
            None => None,
        };
        let (boot, counted) = count_boot(&*store, identity.boot)?;
        identity.boot = boot;
        // Some of the directory is not of the same moment as the rest: put back from a copy, or accepted with a loss.
        let mixed = before.as_ref().is_some_and(|before| before.boot != counted)
            || mark.as_ref().is_some_and(|mark| mark.is_not_of(last_commit_number(&*store)));
        let hybrid = Arc::new(HybridClock::new(options.clock.clone()));
        // The wall clock may have been set back since: what is minted now must still sort above what is there.
        if let Err(error) = hybrid.observe(HybridTime::at_ms(last_commit_ms(&*store)? + 1)) {
            tracing::warn!(
                %error,
                "the clock has been set back since the last commit; new messages sort below older ones until it \
                 has caught up"
            );
        }
        let storage = Storage::start(
            store.clone(),
            options.durability,
            options.queue,
            options.placement,
            (options.clock.clone(), hybrid.clone()),
            telemetry.clone(),
            mark,
        )
        .map_err(|error| with_rescue(error, rescue.as_ref()))?;
        if let Some(rescue) = rescue {
            rescue.done();
        }
        if born && !before.as_ref().is_some_and(|b| b.stopped_in_peace) {
            // What the life before left to be synced: nobody else will.
            store.sync()?;
        }
        if (may_have_lost || born && mixed) && !planted(Mutant::ReuseActor) {
            // Before this life is known to have begun: the next one may find a machine that went on, and must not take
            // for its own what this one was to give up.
            forget_incarnations(&*store)?;
        }
        if let Some(directory) = &directory {
            identity.keep(directory)?;
        }
        let (of_storage, random) = (storage.clone(), options.randomness.clone());
        let generations =
            Generations::load(store.clone(), of_storage, random, &state, identity.node, rebuild)?;
        if let Some(directory) = directory.as_deref().filter(|_| rebuild) {
            store.sync()?;
            crate::rebuild::prepared(directory)?;
            tracing::info!("the store is new: what this node holds is fetched from the other replicas");
        }
        // Until members have spoken.
        let in_doubt = state.held_set(identity.node);
        let core = Arc::new(NodeCore {
            id: identity.node,
            name: options.name,
            boot: identity.boot,
            hybrid,
            beat: Beat::new(options.clock.clone()),
            clock: options.clock.clone(),
            randomness: options.randomness,
            strays: StrayTable::new(state.size().count()),
            resting: Default::default(),
            ring: view,
            storage,
            store,
            spawner: spawner.clone(),
            telemetry,
            limits: options.limits,
            quorum: options.quorum,
            latencies: Default::default(),
            doubts: AtomicU64::new(0),
            returns: AtomicU64::new(0),
            leaving: AtomicBool::new(false),
            in_doubt: ArcSwap::from_pointee(in_doubt),
            generation: AtomicU64::new(0),
            started: Default::default(),
            generations,
            handoff: Arc::new(HandoffBoard::new(options.handoff, options.clock)),
            repair: Arc::new(RepairBoard::new(RepairSettings {
                enabled: options.repair.enabled && options.cluster.is_some(),
                ..options.repair
            })),
            handoff_manager: Default::default(),
            metadata: MetadataBoard::new(metadata, options.features),
            requests: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            outside: AtomicBool::new(outside),
            ending: watch::Sender::new(None),
        });
        for (name, _, _) in &services {
            create_keyspaces(&core, name)?;
        }
        mark_strays(&core)?;
        let mut handles = BTreeMap::new();
        let (mut hosted, mut movable, mut remote) = (Vec::new(), Vec::new(), BTreeMap::new());
        let (mut transferable, mut repairing) = (Vec::new(), Vec::new());
        for (name, type_id, starter) in services {
            let service = starter(core.clone());
            start_there(&spawner, service.start_master).await;
            hosted.push(service.hosted);
            movable.push(service.movable);
            transferable.push(service.transferable);
            repairing.push(service.start_repair);
            remote.insert(name, service.remote);
            handles.insert(type_id, service.handle);
            run_time.extend(service.properties);
        }
        run_time.extend(run_time_settings::of_node(&core));
        core.metadata.register(RunTimeSettings::new(run_time));
        let wiring = Arc::new(Wiring::new(core.clone()));
        let network = match &options.cluster {
            Some(cluster) => Some(Network::start(
                NetworkOptions {
                    listen: cluster.listen,
                    node: core.id,
                    name: core.name.clone(),
                    boot: core.boot,
                    limits: NetworkLimits::default(),
                    transport: options.transport,
                },
                wiring.clone(),
                spawner.clone(),
                core.clock.clone(),
                core.randomness.clone(),
                core.telemetry.clone(),
            )?),
            None => None,
        };
        let (mut moved, kept) = (false, state.stamp());
        if let (Some(cluster), Some(network)) = (&options.cluster, &network) {
            let address = cluster.advertise.clone().unwrap_or_else(|| network.local_address().to_string());
            moved = state.introduce(core.id, &core.name, &address) && state.members().count() > 1;
            if state.members().count() == 1 {
                state.relocate_alone(core.id, cluster.location.clone());
            }
        }
        transferable.sort_by_key(|service| service.name());
        let transferable: Services = Arc::new(transferable);
        let services: BTreeSet<String> = remote.keys().map(|name| (*name).to_owned()).collect();
        let all_services = services.clone();
        let (sender, receiver) = oneshot::channel();
        let (manager_core, manager_network) = (core.clone(), network.clone());
        let movable = (movable, transferable.clone());
        let start_manager = move || {
            let manager =
                RingManager::start(manager_core.clone(), ring_file, (state, kept), movable, services);
            let metadata = MetadataManager::start(manager_core.clone(), metadata_file);
            let started = metadata.map(|metadata| {
                let (network, ring_manager) = (manager_network, manager.clone());
                manager_core.started.store(Some(Arc::new(Started {
                    network,
                    ring_manager,
                    metadata,
                    services: remote,
                })));
                manager
            });
            drop(sender.send(started));
        };
        start_there(&spawner, Box::new(start_manager)).await;
        let ring_manager = receiver
            .await
            .unwrap_or_else(|_| Err(std::io::Error::other("the control thread has ended")))
            .map_err(StartError::Thread)?;
        // Until the ring manager has kept and published what this life begins with, nobody could be asked for anything.
        let published = async {
            let said =
                |view: &RingView| view.state().reports().get(&core.id).is_some_and(|r| r.boot >= core.boot);
            while !said(&core.ring.load()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if tokio::time::timeout(PUBLISH_WITHIN, published).await.is_err() {
            return Err(StartError::Thread(std::io::Error::other(
                "the ring manager does not publish the ring",
            )));
        }
        let mut agent = None;
        if let Some(network) = &network {
            let (sender, receiver) = oneshot::channel();
            let (core, network, manager) = (core.clone(), network.clone(), ring_manager.clone());
            let wiring = wiring.clone();
            let start_agent = move || {
                let started = GossipAgent::start(core, network, manager.clone(), all_services, checks);
                if let Ok(agent) = &started {
                    let _ = wiring.agent.set(agent.clone());
                    manager.post_control(SetAgent(agent.clone()));
                }
                drop(sender.send(started));
            };
            start_there(&spawner, Box::new(start_agent)).await;
            let started =
                receiver.await.unwrap_or_else(|_| Err(std::io::Error::other("the thread has ended")));
            agent = Some(started.map_err(StartError::Randomness)?);
        }
        if let Some(network) = network {
            start_handoff(&core, &spawner, transferable, ring_manager.clone(), network).await;
            for start_repair in repairing.into_iter().filter(|_| core.repair.settings().enabled) {
                spawner.on_handoff(start_repair);
            }
        }
        if let Some(ClusterOptions { seeds, .. }) = options.cluster {
            let (core, manager) = (core.clone(), ring_manager.clone());
            let member = core.ring.load().state().members().count() > 1;
            // Who comes back as a member founds nothing.
            let founds = founds && !core.generations.has_lost();
            if outside {
                spawner.on_control(move || {
                    actix_rt::spawn(join_through(core, manager, seeds, founds));
                });
            } else if member {
                spawner.on_control(move || {
                    actix_rt::spawn(announce_address(core, manager, seeds, moved));
                });
            }
        }
        Ok(Node { core, services: handles, hosted, ring_manager, agent, directory, identity, lock })
    }
}

/// Starts the handoff manager, with everything that it may be told about.
async fn start_handoff(
    core: &Arc<NodeCore>,
    spawner: &Spawner,
    services: Services,
    ring_manager: Postbox<RingManager>,
    network: Network,
) {
    let (done, started) = oneshot::channel();
    let node = core.clone();
    spawner.on_handoff(move || {
        let context = HandoffContext { node: node.clone(), services, ring_manager, network };
        let manager = HandoffManager::start(Arc::new(context));
        node.handoff_manager.store(Some(Arc::new(manager)));
        let _ = done.send(());
    });
    let _ = started.await;
    let weak = Arc::downgrade(core);
    core.handoff.on_change(Box::new(move || {
        if let Some(node) = weak.upgrade() {
            node.look_at_transfers();
        }
    }));
}

async fn start_there(spawner: &Spawner, start: Box<dyn FnOnce() + Send>) {
    let (sender, receiver) = oneshot::channel();
    spawner.on_control(move || {
        start();
        let _ = sender.send(());
    });
    let _ = receiver.await;
}

/// A node that runs.
pub struct Node {
    core: Arc<NodeCore>,
    services: BTreeMap<TypeId, Box<dyn Any>>,
    hosted: Vec<Arc<dyn Hosted>>,
    ring_manager: Postbox<RingManager>,
    agent: Option<Postbox<GossipAgent>>,
    directory: Option<PathBuf>,
    identity: Identity,
    lock: Option<File>,
}

impl Node {
    /// A node to be, under these options.
    pub fn builder(options: NodeOptions) -> NodeBuilder {
        NodeBuilder { options, services: Vec::new(), checks: Vec::new(), settings: Vec::new() }
    }

    /// What its parts share.
    pub fn core(&self) -> &Arc<NodeCore> {
        &self.core
    }

    /// The call site for module `V`; none when the node does not host it.
    pub fn service<V: Vnode>(&self) -> Option<Service<V>> {
        let handle = self.services.get(&TypeId::of::<V>())?;
        handle.downcast_ref::<Arc<ServiceCore<V>>>().map(|core| Service::new(core.clone()))
    }

    /// What operators can ask of this node.
    pub fn administration(&self) -> Arc<dyn Administration> {
        Arc::new(ClusterAdministration::new(self.core.clone(), self.ring_manager.clone()))
    }

    /// Whether it has found out how every other member can be reached, and what it says of itself. A node that has just
    /// started takes all of them for down, and does not know what services they run: it would stand in for them.
    pub fn has_looked_around(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let core = self.core.clone();
        move || {
            let view = core.ring.load();
            let mut waited_for = view
                .state()
                .members()
                .filter(|(node, member)| *node != core.id && member.status().is_waited_for());
            let heard_of = |node| {
                view.availability(node) != Availability::Down && view.state().reports().contains_key(&node)
            };
            waited_for.all(|(node, _)| heard_of(node))
        }
    }

    /// Tells, whenever it is called, how the node's services do.
    pub fn census(&self) -> impl Fn() -> Vec<ServiceCensus> + Send + Sync + use<> {
        let hosted = self.hosted.clone();
        move || hosted.iter().map(|h| h.census()).collect()
    }

    /// Makes every vnode refuse new work from now on. What is under way goes on.
    pub fn refuse_new_work(&self) {
        self.core.stopping.store(true, Ordering::Relaxed);
    }

    /// Ends in peace: vnodes finish what was posted to them, the store is synced, the files say so. Gives up
    /// on the vnodes after `patience`; what they had acknowledged is safe then, too.
    pub async fn stop(mut self, patience: Duration) -> Result<(), StartError> {
        self.refuse_new_work();
        // Transfers end here; what they had done is resumed.
        self.core.look_at_transfers();
        if let Some(agent) = &self.agent {
            let (done, left) = oneshot::channel();
            agent.post_control(AgentMessage::Leave(done));
            let _ = tokio::time::timeout(patience, left).await;
        }
        let all = async {
            for hosted in &self.hosted {
                hosted.stop().await;
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("some vnodes did not stop in {patience:?}");
        }
        if let Some(network) = self.core.network() {
            network.close().await;
        }
        self.core.storage.stop().await?;
        self.core.store.prepare_to_close();
        if let Some(directory) = &self.directory {
            self.identity.stopped_in_peace = true;
            self.identity.keep(directory)?;
        }
        self.core.started.store(None);
        self.core.handoff_manager.store(None);
        self.core.spawner.stop();
        drop(self.lock.take());
        Ok(())
    }
}
