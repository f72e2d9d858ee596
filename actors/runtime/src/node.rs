//! A node: what is started in which order, what its parts share, and how it stops. It decides identity (who
//! this data directory is, which life this is) and wires the actors; it does not know HTTP, settings files or
//! any module.

use crate::coordinator::Service;
use crate::files::NumberFile;
use crate::identity::{Identity, count_boot, identify, lock};
use crate::messages::Request;
use crate::post::{Full, Postbox};
use crate::randomness::Randomness;
use crate::ring_manager::{self, RingManager};
use crate::spawner::{Placement, Spawner};
pub use crate::start_error::StartError;
use crate::storage::{CommitMark, Durability, QueueLimits, Storage, last_commit_ms};
use crate::store::disk::{DiskOptions, DiskStore, way_out};
use crate::store::rescue::JournalRescue;
use crate::telemetry::Telemetry;
use crate::time::{Clock, HybridClock};
use crate::vnode_master::{MasterMessage, Routes, VnodeMaster};
use crate::watch::Watchers;
use arc_swap::ArcSwap;
use ringwork_core::clock::hybrid::{HybridTime, Stamp};
use ringwork_core::ids::{Boot, ClusterId, Generation, NodeId, Partition, RequestId};
use ringwork_core::limits::SERVICE_NAME_BYTES_MAX;
use ringwork_core::quorum::QuorumDefaults;
use ringwork_core::ring::{RingSize, RingView};
use ringwork_core::store::memory::MemoryStore;
use ringwork_core::store::{KeyspaceId, Store, StoreError};
use ringwork_core::vnode::{Item, Vnode};
use serde::Serialize;
use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a start may take for keyspaces that are not there yet. Enough for the 64 of a default ring on any
/// disk; a first start of a large ring is not held up for longer.
const CREATE_KEYSPACES_WITHIN: Duration = Duration::from_secs(2);

/// Where a node keeps its data.
#[derive(Clone)]
pub enum Keep {
    /// In a directory, in the embedded engine.
    Directory {
        /// The directory; created when missing.
        path: PathBuf,
        /// Bytes of the engine's block cache.
        cache_bytes: u64,
    },
    /// In memory; gone with the process.
    Nowhere,
    /// In a store that the caller made. Identity and ring are kept in `directory` if there is one.
    Given {
        /// The store.
        store: Arc<dyn Store>,
        /// For identity and ring.
        directory: Option<PathBuf>,
    },
}

/// What a node is made of. Every field is a choice of whoever starts it.
#[derive(Clone)]
pub struct NodeOptions {
    /// The node's name, for people.
    pub name: String,
    /// Where its data lives.
    pub keep: Keep,
    /// Partitions of a new ring.
    pub ring_size: RingSize,
    /// When an acknowledgement may leave.
    pub durability: Durability,
    /// Bounds of the storage queue.
    pub queue: QueueLimits,
    /// Other bounds.
    pub limits: NodeLimits,
    /// On which threads actors live.
    pub placement: Placement,
    /// Replicas and quorums where a request does not say.
    pub quorum: QuorumDefaults,
    /// Where time comes from.
    pub clock: Clock,
    /// Where random bytes come from.
    pub randomness: Randomness,
}

/// Bounds of a node's queues.
#[derive(Clone, Copy, Debug)]
pub struct NodeLimits {
    /// Requests on their way to one vnode.
    pub vnode_in_flight_max: usize,
    /// Requests on their way to one vnode master.
    pub master_in_flight_max: usize,
    /// Threads of the worker pool.
    pub pool_threads: usize,
    /// Jobs that may wait for them.
    pub pool_queue_max: usize,
    /// Live streams on this node.
    pub watchers_max: usize,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            vnode_in_flight_max: 1000,
            master_in_flight_max: 10_000,
            pool_threads: 2,
            pool_queue_max: 256,
            watchers_max: 1024,
        }
    }
}

/// What all parts of a node share.
pub struct NodeCore {
    /// Who we are.
    pub id: NodeId,
    /// The name, for people.
    pub name: String,
    /// Which life this is.
    pub boot: Boot,
    /// Time.
    pub clock: Clock,
    hybrid: Arc<HybridClock>,
    /// Random bytes.
    pub randomness: Randomness,
    /// Who owns what.
    pub ring: Arc<ArcSwap<RingView>>,
    /// The committer.
    pub storage: Storage,
    /// The store itself, for opening keyspaces and for snapshots.
    pub store: Arc<dyn Store>,
    /// Threads.
    pub spawner: Spawner,
    /// Counters.
    pub telemetry: Arc<Telemetry>,
    /// Bounds.
    pub limits: NodeLimits,
    /// Quorums where a request does not say.
    pub quorum: QuorumDefaults,
    /// Whether vnodes must take new actor ids: the store may have lost dots.
    pub(crate) renew_actors: bool,
    generations: BTreeMap<(String, Partition), Generation>,
    requests: AtomicU64,
    stopping: AtomicBool,
}

impl NodeCore {
    /// A time that no other event bears, later than `above` where that can be believed.
    pub fn stamp_above(&self, above: HybridTime) -> Stamp {
        Stamp { time: self.hybrid.next_above(above), node: self.id, boot: self.boot }
    }

    /// A number for a request.
    pub fn next_request(&self) -> RequestId {
        RequestId(self.requests.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the node refuses new work because it is about to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn generation_of(&self, service: &str, partition: Partition) -> Generation {
        self.generations.get(&(service.to_owned(), partition)).copied().unwrap_or_default()
    }
}

/// What all parts of one service on a node share.
pub struct ServiceCore<V: Vnode> {
    /// The node.
    pub node: Arc<NodeCore>,
    /// Addresses of local vnodes.
    pub routes: Arc<Routes<V>>,
    /// Listeners.
    pub watchers: Arc<Watchers<V>>,
    /// The module's settings.
    pub config: V::Config,
    master: std::sync::OnceLock<Postbox<VnodeMaster<V>>>,
}

impl<V: Vnode> ServiceCore<V> {
    pub(crate) fn master(&self) -> Option<&Postbox<VnodeMaster<V>>> {
        self.master.get()
    }

    /// Hands the master a request for a vnode that does not run; gives it back when the master is full.
    pub(crate) fn want(&self, partition: Partition, request: Request<V>) -> Option<Request<V>> {
        let Some(master) = self.master() else { return Some(request) };
        match master.post(MasterMessage::Wanted(partition, request)) {
            Err(Full(MasterMessage::Wanted(_, request))) => Some(request),
            _ => None,
        }
    }

    /// Sends items that a vnode changed by itself to all replicas, as well as that goes: what is missed is
    /// found by reads and anti-entropy.
    pub(crate) fn replicate(service: &Arc<Self>, touched: Vec<V::Item>) {
        for item in touched {
            let key = item.routing_key().to_vec();
            Service::new(service.clone()).send_to_replicas(&key, item);
        }
    }
}

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
    start_master: Box<dyn FnOnce() + Send>,
}

/// Collects what a node is to host; see [`Node::builder`].
pub struct NodeBuilder {
    options: NodeOptions,
    services: Vec<(&'static str, TypeId, Starter)>,
}

impl NodeBuilder {
    /// Hosts module `V` with its settings.
    pub fn service<V: Vnode>(mut self, config: V::Config) -> Self {
        let starter: Starter = Box::new(move |node: Arc<NodeCore>| {
            let partitions = node.ring.load().ring.size().count();
            let core = Arc::new(ServiceCore::<V> {
                routes: Arc::new(Routes::new(partitions)),
                watchers: Watchers::new(node.limits.watchers_max),
                config,
                master: std::sync::OnceLock::new(),
                node,
            });
            let (for_master, for_hosted) = (core.clone(), core.clone());
            StartedService {
                handle: Box::new(core),
                hosted: Arc::new(HostedService(for_hosted)),
                start_master: Box::new(move || {
                    let postbox = VnodeMaster::start(for_master.clone());
                    let _ = for_master.master.set(postbox);
                }),
            }
        });
        self.services.push((V::SERVICE, TypeId::of::<V>(), starter));
        self
    }

    /// Starts the node: identity, store, ring, committer, actors. Vnodes start when they are first asked.
    pub async fn start(self) -> Result<Node, StartError> {
        let Self { options, services } = self;
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
        let synced = options.durability == Durability::Sync;
        let (mut identity, before) = identify(directory.as_deref(), &options.randomness, synced)?;
        // Boot 0 is a birth that was cut short: nothing that a node keeps need be there yet.
        let born = before.as_ref().is_some_and(|b| b.boot.0 > 0);
        let machine_went_on = before.as_ref().is_some_and(|b| b.machine_boot == identity.machine_boot);
        let may_have_lost =
            before.as_ref().is_some_and(|b| !b.stopped_in_peace && !b.synced) && !machine_went_on;
        // The engine may cut journals when it opens them; until it is known that it was right, they are kept.
        let rescue = match &options.keep {
            Keep::Directory { path, .. } if born => match JournalRescue::begin(&path.join("store")) {
                Ok(rescue) => Some(rescue),
                Err(error) => {
                    // A full disk must not keep a healthy node from starting.
                    tracing::warn!(%error, "the journals could not be set aside before the store is opened");
                    None
                }
            },
            _ => None,
        };
        let store: Arc<dyn Store> = match &options.keep {
            Keep::Directory { path, cache_bytes } => {
                let disk = DiskOptions { directory: path.join("store"), cache_bytes: *cache_bytes };
                let opened = DiskStore::open(&disk, born);
                Arc::new(opened.map_err(|error| with_rescue(error, rescue.as_ref()))?)
            }
            Keep::Nowhere => Arc::new(MemoryStore::without_crashes()),
            Keep::Given { store, .. } => store.clone(),
        };
        let file = |name: &str| directory.as_ref().map(|d| d.join(name));
        if let Some(ring) = file("ring").filter(|ring| born && !ring.exists()) {
            return Err(StartError::Missing(ring));
        }
        let random = || options.randomness.bytes().map(ClusterId::from_random);
        let ring = ring_manager::load_or_create(&file("ring"), options.ring_size, identity.node, random)?;
        let view = Arc::new(ArcSwap::from_pointee(RingView { me: identity.node, ring }));
        let spawner =
            Spawner::start(options.placement, options.limits.pool_threads, options.limits.pool_queue_max)
                .map_err(StartError::Thread)?;
        let telemetry = Arc::new(Telemetry::default());
        let mark = match file("commit-mark") {
            Some(path) => Some(CommitMark::new(NumberFile::open(&path)?, machine_went_on)),
            None => None,
        };
        identity.boot = Boot(identity.boot.0.max(count_boot(&*store, identity.boot)?.0));
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
        if let Some(directory) = &directory {
            identity.keep(directory)?;
        }
        let generations = latest_generations(&*store)?;
        let core = Arc::new(NodeCore {
            id: identity.node,
            name: options.name,
            boot: identity.boot,
            hybrid,
            clock: options.clock,
            randomness: options.randomness,
            ring: view.clone(),
            storage,
            store,
            spawner: spawner.clone(),
            telemetry,
            limits: options.limits,
            quorum: options.quorum,
            renew_actors: may_have_lost,
            generations,
            requests: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
        });
        for (name, _, _) in &services {
            create_keyspaces(&core, name)?;
        }
        let mut started = BTreeMap::new();
        let mut hosted = Vec::new();
        for (_, type_id, starter) in services {
            let service = starter(core.clone());
            start_there(&spawner, service.start_master).await;
            hosted.push(service.hosted);
            started.insert(type_id, service.handle);
        }
        let (sender, receiver) = oneshot::channel();
        let ring_file = file("ring");
        start_there(&spawner, Box::new(move || drop(sender.send(RingManager::start(ring_file, view))))).await;
        Ok(Node {
            core,
            services: started,
            hosted,
            ring_manager: receiver.await.ok(),
            directory,
            identity,
            lock,
        })
    }
}

async fn start_there(spawner: &Spawner, start: Box<dyn FnOnce() + Send>) {
    let (sender, receiver) = oneshot::channel();
    spawner.on_control(move || {
        start();
        let _ = sender.send(());
    });
    let _ = receiver.await;
}

/// Adds to an error about damage where the journals are kept as they were, and the way out where it has none.
fn with_rescue(error: StoreError, rescue: Option<&JournalRescue>) -> StoreError {
    let (StoreError::Damaged(text), Some(rescue)) = (&error, rescue) else { return error };
    let store = rescue.store().display().to_string();
    let mut text = text.replace("the journal is damaged", &format!("the journal in {store} is damaged"));
    if !text.contains("Way out") {
        text = format!("{text}. {}", way_out(rescue.store()));
    }
    text.push_str(&format!(
        " (the journals as they were before this start are kept in {})",
        rescue.path().display()
    ));
    StoreError::Damaged(text)
}

/// Creates the keyspaces of a service that a node is going to need, before it serves: creating one takes several
/// syncs, during which an engine may let nobody write. What does not fit into the time is created when its vnode
/// is first asked.
fn create_keyspaces(core: &NodeCore, service: &str) -> Result<(), StoreError> {
    let begun = core.clock.moment();
    for partition in core.ring.load().ring.owned_by(core.id) {
        if core.clock.moment() - begun > CREATE_KEYSPACES_WITHIN {
            tracing::info!(service, "the other keyspaces are created when they are needed");
            break;
        }
        let generation = core.generation_of(service, partition);
        core.store.open(&KeyspaceId::Vnode { service: service.to_owned(), partition, generation })?;
    }
    Ok(())
}

fn latest_generations(store: &dyn Store) -> Result<BTreeMap<(String, Partition), Generation>, StoreError> {
    let mut latest = BTreeMap::new();
    for keyspace in store.keyspaces()? {
        if let KeyspaceId::Vnode { service, partition, generation } = keyspace {
            let kept: &mut Generation = latest.entry((service, partition)).or_default();
            *kept = (*kept).max(generation);
        }
    }
    Ok(latest)
}

/// A node that runs.
pub struct Node {
    core: Arc<NodeCore>,
    services: BTreeMap<TypeId, Box<dyn Any>>,
    hosted: Vec<Arc<dyn Hosted>>,
    ring_manager: Option<Postbox<RingManager>>,
    directory: Option<PathBuf>,
    identity: Identity,
    lock: Option<File>,
}

impl Node {
    /// A node to be, under these options.
    pub fn builder(options: NodeOptions) -> NodeBuilder {
        NodeBuilder { options, services: Vec::new() }
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

    /// The ring's writer.
    pub fn ring_manager(&self) -> Option<&Postbox<RingManager>> {
        self.ring_manager.as_ref()
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
        let all = async {
            for hosted in &self.hosted {
                hosted.stop().await;
            }
        };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("some vnodes did not stop in {patience:?}");
        }
        self.core.storage.stop().await?;
        self.core.store.prepare_to_close();
        if let Some(directory) = &self.directory {
            self.identity.stopped_in_peace = true;
            self.identity.keep(directory)?;
        }
        self.core.spawner.stop();
        drop(self.lock.take());
        Ok(())
    }
}
