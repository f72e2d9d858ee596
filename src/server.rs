//! A whole node as a program runs it: settings to options, the runtime with its modules, HTTP in front, and
//! the order in which all that ends. It decides how many threads there are and when the node calls itself
//! ready; it does not know the command line.

use crate::http::riak::{self, Riak};
use crate::http::{AppState, Door, admit, routes};
use crate::kv::{DeleteMode, Kv, KvConfig, KvStore};
use crate::modules::Modules;
use crate::settings::{self, ClusterSettings, Engine, QuorumSetting, Settings};
use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use ringwork_chat::{Chat, ChatConfig};
use ringwork_core::quorum::{Count, QuorumDefaults};
use ringwork_core::ring::{RingSize, RingSizeError};
use ringwork_core::store::Store;
use ringwork_runtime::antientropy::board::RepairSettings;
use ringwork_runtime::handoff::board::HandoffSettings;
use ringwork_runtime::net::Transport;
use ringwork_runtime::node::{ClusterOptions, Ending, Keep, Node, NodeLimits, NodeOptions, StartError};
use ringwork_runtime::randomness::Randomness;
use ringwork_runtime::run_time_settings::RunTimeSetting;
use ringwork_runtime::spawner::Placement;
use ringwork_runtime::storage::{Durability, QueueLimits};
use ringwork_runtime::time::Clock;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long the HTTP workers may take to appear: they only start threads.
const WORKERS_APPEAR_WITHIN: Duration = Duration::from_secs(30);

/// How long a starting node waits for the other members to be seen: longer than they need when they run.
const LOOK_AROUND_WITHIN: Duration = Duration::from_secs(3);

/// Time for answers that are with the workers to leave.
const FLUSH_GRACE: Duration = Duration::from_millis(100);

/// Why a node did not come up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be had.
    #[error(
        "cannot listen on {address}: {source}. Is a node running there already? Choose another with --http"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The runtime.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The ring size.
    #[error("cluster.ring_size: {0}")]
    RingSize(#[from] RingSizeError),
    /// The HTTP server.
    #[error("the HTTP server cannot run: {0}")]
    Server(std::io::Error),
}

/// A node that serves. Stop it with [`Served::stop`]; dropped, it is cut off.
pub struct Served {
    node: Node,
    state: web::Data<AppState>,
    handle: ServerHandle,
    closing: watch::Sender<bool>,
    shutdown_timeout: Duration,
}

/// Starts the node that `settings` describe and serves HTTP. Must run in an actix system.
pub async fn serve(settings: &Settings) -> Result<Served, ServeError> {
    serve_over(settings, keep_of(settings), false, Vec::new(), Modules::default()).await
}

fn keep_of(settings: &Settings) -> Keep {
    match settings.store.engine {
        Engine::Disk => Keep::Directory {
            path: settings.node.data_dir.clone(),
            cache_bytes: settings.store.cache_bytes.bytes(),
        },
        Engine::Memory => Keep::Nowhere,
    }
}

/// As [`serve`], for a program that has settings of its own which operators may change while it runs, and modules of
/// its own. `rebuild`: with an empty store in place of one that is lost; what the node holds is fetched from other
/// replicas.
pub async fn serve_program(
    settings: &Settings,
    rebuild: bool,
    run_time: Vec<RunTimeSetting>,
    modules: Modules,
) -> Result<Served, ServeError> {
    serve_over(settings, keep_of(settings), rebuild, run_time, modules).await
}

/// As [`serve`], over a store of the caller's.
pub async fn serve_given(settings: &Settings, store: Arc<dyn Store>) -> Result<Served, ServeError> {
    let keep = Keep::Given { store, directory: None, machine_boot: None };
    serve_over(settings, keep, false, Vec::new(), Modules::default()).await
}

async fn serve_over(
    settings: &Settings,
    keep: Keep,
    rebuild: bool,
    run_time: Vec<RunTimeSetting>,
    modules: Modules,
) -> Result<Served, ServeError> {
    let wanted = settings.http.address;
    let refused = |source| ServeError::Listen { address: wanted, source };
    // Before anything else: a second node on this address must not touch the first one's data.
    let listener = TcpListener::bind(wanted).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let workers = settings.http.workers_on(std::thread::available_parallelism().map_or(1, usize::from));
    let mut options = node_options(settings, keep, Placement::Adopted(workers))?;
    options.cluster = Some(cluster_options(settings));
    options.rebuild = rebuild;
    let builder =
        Node::builder(options).service::<Chat>(chat_config(settings)).service::<Kv>(kv_config(settings));
    let (builder, unrouted) = modules.host(builder);
    let node =
        run_time.into_iter().fold(builder, |builder, setting| builder.setting(setting)).start().await?;
    let module_routes = unrouted.over(&node);
    let (closing, closes) = watch::channel(false);
    let state = web::Data::new(app_state(settings, &node, address, closes)?);
    let store = KvStore::new(node.service::<Kv>().ok_or(StartError::ServiceName("kv"))?);
    let kv = web::Data::new(Riak::new(state.clone(), store, settings.kv.object_bytes_max.bytes_usize()));
    let (spawner, shared) = (node.core().spawner.clone(), state.clone());
    let server = HttpServer::new(move || {
        spawner.adopt_current_thread();
        App::new()
            .app_data(shared.clone())
            .app_data(kv.clone())
            .wrap(actix_web::middleware::from_fn(admit))
            .configure(routes)
            .configure(riak::routes)
            .configure(|app| {
                module_routes.iter().for_each(|routes| routes(app));
            })
    })
    .workers(workers)
    .max_connections(settings.http.connections_max.div_ceil(workers))
    .client_request_timeout(settings.http.head_timeout.duration())
    .client_disconnect_timeout(Duration::from_secs(5))
    .keep_alive(settings.http.keep_alive.duration())
    .disable_signals()
    .listen(listener)
    .map_err(ServeError::Server)?
    .run();
    let handle = server.handle();
    actix_rt::spawn(server);
    let appear = async {
        while !node.core().spawner.complete() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(WORKERS_APPEAR_WITHIN, appear).await.is_err() {
        return Err(ServeError::Server(std::io::Error::other("its worker threads do not start")));
    }
    look_around(&node).await;
    state.ready.store(true, Ordering::Relaxed);
    let shutdown_timeout = settings.http.shutdown_timeout.duration();
    Ok(Served { node, state, handle, closing, shutdown_timeout })
}

/// What the handlers of a node share that hosts chat; not ready yet. `closes` turns true when streams are to end.
pub fn app_state(
    settings: &Settings,
    node: &Node,
    address: SocketAddr,
    closes: watch::Receiver<bool>,
) -> Result<AppState, StartError> {
    Ok(AppState {
        core: node.core().clone(),
        administration: node.administration(),
        chat: node.service::<Chat>().ok_or(StartError::ServiceName("chat"))?,
        census: Box::new(node.census()),
        door: Door::new(settings.http.requests_in_flight_max),
        answers: Arc::default(),
        ready: AtomicBool::new(false),
        closing: closes,
        address,
        durability: match settings.store.durability {
            settings::Durability::Sync => "sync",
            settings::Durability::Interval => "interval",
            settings::Durability::Os => "os",
        },
        body_bytes_max: settings.http.body_bytes_max.bytes_usize(),
        text_bytes_max: settings.chat.text_bytes_max.bytes_usize(),
        request_timeout: settings.http.request_timeout.duration(),
    })
}

/// Waits a while for the other members to be heard of. Who has just started takes all of them for down and would stand
/// in for them: it looks round before it serves.
pub async fn look_around(node: &Node) {
    let looked_around = node.has_looked_around();
    let look = async {
        while !looked_around() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(LOOK_AROUND_WITHIN, look).await.is_err() {
        tracing::warn!("some members do not answer; the node serves without them");
    }
}

impl Served {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.state.address
    }

    /// The node behind HTTP.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Ends only when the node has to although nobody asked it to, with the reason: the store has failed for good, or
    /// the node is no member of its cluster any more.
    pub async fn ending(&self) -> Ending {
        let core = self.node.core();
        tokio::select! {
            error = core.storage.failure() => Ending::Failed(format!("the store has failed: {error}")),
            ending = core.ending() => ending,
        }
    }

    /// Ends in peace: refuses new work, finishes what is inside, stops the vnodes, syncs the store.
    pub async fn stop(self) -> Result<(), StartError> {
        self.node.refuse_new_work();
        self.closing.send_replace(true);
        let empty = async {
            while self.state.door.inside() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(self.shutdown_timeout, empty).await.is_err() {
            let inside = self.state.door.inside();
            tracing::warn!(inside, "requests were still under way after {:?}", self.shutdown_timeout);
        }
        self.node.stop(self.shutdown_timeout).await?;
        // The last answers have been handed to the workers; a short grace lets them reach their sockets. A
        // graceful stop of the server would wait for every idle keep-alive connection instead.
        tokio::time::sleep(FLUSH_GRACE).await;
        self.handle.stop(false).await;
        Ok(())
    }
}

fn chat_config(settings: &Settings) -> ChatConfig {
    let retention = &settings.chat.retention;
    ChatConfig {
        retention_age: retention.age.limit().map(|span| span.duration()),
        retention_count: (retention.count > 0).then_some(retention.count),
        ..ChatConfig::default()
    }
}

fn kv_config(settings: &Settings) -> KvConfig {
    let kv = &settings.kv;
    KvConfig {
        object_bytes_max: kv.object_bytes_max.bytes_usize(),
        siblings_warn: kv.siblings_warn,
        siblings_max: kv.siblings_max,
        delete_mode: match kv.delete_mode {
            settings::DeleteMode::Delayed => DeleteMode::After(kv.delete_delay.duration()),
            settings::DeleteMode::Immediate => DeleteMode::Immediate,
            settings::DeleteMode::Keep => DeleteMode::Keep,
        },
        tombstone_keep: kv.tombstone_keep.duration(),
        sweep_interval: kv.sweep_interval.duration(),
    }
}

fn cluster_options(settings: &Settings) -> ClusterOptions {
    let ClusterSettings { address, seeds, .. } = &settings.cluster;
    let advertise = &settings.cluster.advertise.to_string();
    ClusterOptions {
        listen: *address,
        advertise: (!advertise.is_empty()).then(|| advertise.clone()),
        seeds: seeds.iter().map(ToString::to_string).collect(),
        location: (!settings.node.location.is_empty()).then(|| settings.node.location.clone()),
    }
}

fn node_options(settings: &Settings, keep: Keep, placement: Placement) -> Result<NodeOptions, RingSizeError> {
    let count = |setting: &QuorumSetting| match setting {
        QuorumSetting::Count(count) => Count::Exactly(*count),
        QuorumSetting::One => Count::One,
        QuorumSetting::Quorum => Count::Quorum,
        QuorumSetting::All => Count::All,
    };
    Ok(NodeOptions {
        name: settings.node.name.clone(),
        keep,
        ring_size: RingSize::try_from(settings.cluster.ring_size)?,
        cluster: None,
        rebuild: false,
        durability: match settings.store.durability {
            settings::Durability::Sync => Durability::Sync,
            settings::Durability::Interval => Durability::Interval(settings.store.sync_interval.duration()),
            settings::Durability::Os => Durability::Os,
        },
        queue: QueueLimits {
            writes_max: settings.store.queue_writes_max,
            bytes_max: settings.store.queue_bytes_max.bytes_usize(),
        },
        limits: NodeLimits {
            vnode_in_flight_max: settings.runtime.vnode_in_flight_max,
            pool_threads: settings.runtime.pool_threads,
            pool_queue_max: settings.runtime.pool_queue_max,
            ..NodeLimits::default()
        },
        placement,
        quorum: QuorumDefaults {
            n_val: settings.quorum.n_val,
            r: count(&settings.quorum.r),
            w: count(&settings.quorum.w),
        },
        handoff: HandoffSettings {
            limit: settings.handoff.limit,
            bytes_per_second: settings.handoff.bytes_per_second.bytes_per_second(),
        },
        features: ringwork_core::metadata::features::own(),
        repair: RepairSettings {
            enabled: settings.repair.exchanges > 0,
            interval: settings.repair.interval.duration(),
            exchanges: settings.repair.exchanges as usize,
            items_per_second: settings.repair.items_per_second.into(),
            rebuild_interval: settings.repair.rebuild_interval.duration(),
        },
        clock: Clock::system(),
        randomness: Randomness::system(),
        transport: Transport::tcp(),
    })
}

/// Options of a node that keeps its data in memory, otherwise as the default settings say: for trials,
/// examples and tests.
pub fn trial_options(placement: Placement) -> NodeOptions {
    let settings = Settings::default();
    #[allow(clippy::expect_used)] // the default ring size is checked at compile time
    node_options(&settings, Keep::Nowhere, placement).expect("the default settings are valid")
}
