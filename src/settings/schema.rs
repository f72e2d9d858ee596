//! Every setting of a node: its type, default, range and documentation, and nothing else. The comments here
//! are what `config/reference.toml` shows; after changing one, run `cargo run -- config reference >
//! config/reference.toml`. It does not know where values come from.

use super::keys::{Section, section};
use super::kind::Kind;
use super::values::{
    DeleteMode, Durability, Engine, LogFormat, QuorumSetting, Rate, RetentionAge, Size, Span,
};
use ringwork_core::limits;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

/// Seeds of one node: the first that answers suffices, and each that does not costs a wait.
const SEEDS_MAX: usize = 32;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const TIB: u64 = 1024 * GIB;

/// All sections, in the order in which the reference file shows them.
pub(super) const SECTIONS: &[Section] = &[
    NodeSettings::SECTION,
    HttpSettings::SECTION,
    ClusterSettings::SECTION,
    StoreSettings::SECTION,
    QuorumSettings::SECTION,
    HandoffSettings::SECTION,
    RepairSettings::SECTION,
    RuntimeSettings::SECTION,
    ChatSettings::SECTION,
    RetentionSettings::SECTION,
    KvSettings::SECTION,
    LogSettings::SECTION,
];

section! {
    /// Which node this is, and where it keeps what it must not forget.
    NodeSettings at "node" {
        /// What people call this node, in logs and on the command line. It may change between two runs: other
        /// nodes know this one by the identity in its data directory. Give each node of a cluster its own
        /// name, or you will not know which one a line is about.
        name: String = "node1".to_owned(), Kind::Name;
        /// The directory with this node's identity and state, made if it does not exist. A relative path
        /// starts at the directory the node is started in. It belongs to one running node and must outlive
        /// it: who deletes it has a new node, without any data, under the old name. On a local disk: requests
        /// wait for it.
        data_dir: PathBuf = PathBuf::from("./data"), Kind::Path;
        /// Where this node stands, such as a rack or a room: whatever fails together. Copies of one thing are
        /// put at different locations where there are enough. Empty for none. It counts when the node joins;
        /// `ringwork cluster location` changes it later.
        location: String = String::new(), Kind::Location;
    }
}

section! {
    /// The HTTP interface for clients and operators, and what one client may cost before it is turned away.
    HttpSettings at "http" {
        /// Where it listens. The default is reached from this machine only, because nothing asks a client who
        /// it is; before opening it wider, put something in front that does. Port 0 takes any free port,
        /// which the log then names.
        address: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8098)), Kind::Address;
        /// Threads that parse requests and write answers. 0 takes one less than there are cores, but at least
        /// one, which leaves a core to the storage; more threads than cores only take turns.
        workers: usize = 0, Kind::Count { min: 0, max: 1024 };
        /// Connections held open at once, over all workers; more wait to be accepted. An idle connection
        /// costs some KiB and one open file, so the limit on open files must be above it.
        connections_max: usize = 16_384, Kind::Count { min: 1, max: 1_048_576 };
        /// Requests worked on at once; further ones are answered 503 and have changed nothing. Together with
        /// `http.body_bytes_max` it bounds the memory of requests: the defaults allow 256 MiB. Well above
        /// what the disk can do in `http.request_timeout` it only makes everybody wait longer.
        requests_in_flight_max: usize = 4096, Kind::Count { min: 1, max: 1_048_576 };
        /// The longest request body; a longer one is answered 413. Must be larger than
        /// `chat.text_bytes_max`, since the text comes wrapped in JSON, where it takes more room: a quotation
        /// mark two bytes, a control character six. The default is four times the longest chat text.
        body_bytes_max: Size = Size::from_bytes(64 * KIB),
            Kind::Size { min: Size::from_bytes(32 * KIB), max: Size::from_bytes(16 * MIB) };
        /// How long a client may take to send the head of a request. Shorter turns slow networks away, longer
        /// lets a client that sends a byte now and then hold a connection for nothing.
        head_timeout: Span = Span::from_secs(5),
            Kind::Span { min: Span::from_millis(100), max: Span::from_secs(60) };
        /// How long a request without `?timeout=` may take. Then it is answered 504: its outcome is unknown,
        /// a write may still appear. Below about 100ms a busy disk already ends requests.
        request_timeout: Span = Span::from_secs(10),
            Kind::Span { min: Span::from_millis(10), max: Span::from_secs(600) };
        /// How long a connection without requests stays open. Longer than the 60s for which common proxies
        /// keep theirs: the side that closes first should be the one that knows whether a request is on its
        /// way.
        keep_alive: Span = Span::from_secs(75),
            Kind::Span { min: Span::from_secs(1), max: Span::from_secs(3600) };
        /// How long a stopping node waits for requests it has begun; then it cuts them off, and their clients
        /// do not know the outcome. Longer than `http.request_timeout`, and shorter than what the service
        /// manager waits before it kills.
        shutdown_timeout: Span = Span::from_secs(30),
            Kind::Span { min: Span::from_secs(1), max: Span::from_secs(600) };
    }
}

section! {
    /// The cluster: where this node is found by others, how it finds them, and what all have in common.
    ClusterSettings at "cluster" {
        /// Where it listens for other nodes. Nothing there asks who they are and nothing is encrypted: only
        /// the nodes of the cluster may reach it. Port 0 takes any free port, which serves for trials only:
        /// others remember where a node was.
        address: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8099)), Kind::Address;
        /// Where the other nodes reach this one, when that is not what it listens on: behind a translated
        /// address, or when it listens on all addresses (0.0.0.0). Empty for `cluster.address`.
        advertise: String = String::new(), Kind::Endpoint;
        /// Cluster addresses of members, `cluster.advertise` or `cluster.address` of theirs. A node that is no
        /// member yet asks them one after the other and stages its join; it becomes a member with the next
        /// `ringwork cluster plan` and `commit`. A member asks them only when it finds nobody by the addresses it
        /// knows. Two or three suffice. All nodes may have the same list: the node that is named first in its own
        /// founds the cluster. In the environment and in flags they are separated by commas.
        seeds: Vec<String> = Vec::new(), Kind::Endpoints { max: SEEDS_MAX };
        /// How many partitions the cluster's keys are divided into. Fixed when the cluster is born: a node
        /// that finds another size in its ring refuses to start. The same on all nodes, and not less than
        /// `quorum.n_val`. About ten partitions for each node the cluster may grow to: with few, nodes get
        /// uneven shares, and each costs every node some memory and files. The default suits up to ten nodes.
        ring_size: u32 = limits::RING_SIZE_DEFAULT,
            Kind::PowerOfTwo { min: limits::RING_SIZE_MIN as u64, max: limits::RING_SIZE_MAX as u64 };
    }
}

section! {
    /// How this node keeps its share of the data.
    StoreSettings at "store" {
        /// `disk` keeps the data in files below `node.data_dir`. `memory` forgets everything when the process
        /// ends: for tests and for trying things out, never for data that anyone wants back.
        engine: Engine = Engine::Disk, Kind::Choice(&["disk", "memory"]);
        /// What a write waits for before this node calls it done. `sync`: the disk has it; survives power
        /// loss, and costs the time of a flush. `interval`: the operating system has it, flushed every
        /// `store.sync_interval`; a crash of the node loses nothing, power loss up to one interval of this
        /// node's copy. `os`: flushed when the operating system pleases, often after half a minute. Take
        /// `sync` where the last second must not be lost either: all copies of a node alone share its plug.
        durability: Durability = Durability::Interval, Kind::Choice(&["sync", "interval", "os"]);
        /// How often written data is flushed to the disk when `store.durability` is `interval`; without
        /// meaning otherwise. It is the most that power loss takes away. Below about 100ms `sync` costs
        /// hardly more.
        sync_interval: Span = Span::from_secs(1),
            Kind::Span { min: Span::from_millis(10), max: Span::from_secs(60) };
        /// Memory for blocks read from the disk, over all partitions. Large enough for what is read again and
        /// again; the operating system caches the files as well, so more than a quarter of the machine's
        /// memory rarely helps.
        cache_bytes: Size = Size::from_bytes(64 * MIB),
            Kind::Size { min: Size::from_bytes(MIB), max: Size::from_bytes(TIB) };
        /// Writes that wait for the storage thread; further ones are refused as overload. About a second's
        /// worth for a fast disk: a longer queue makes writes late, not more of them.
        queue_writes_max: usize = 65_536, Kind::Count { min: 1, max: 1_048_576 };
        /// Bytes of the writes that wait for the storage thread; whichever of this and
        /// `store.queue_writes_max` is reached first refuses. A write is taken in while less than this waits, however
        /// large it is itself, so with large objects some more can wait: one of them for each worker.
        queue_bytes_max: Size = Size::from_bytes(64 * MIB),
            Kind::Size {
                min: Size::from_bytes(8 * MIB),
                max: Size::from_bytes(16 * GIB),
            };
    }
}

section! {
    /// How many copies there are of everything, and how many of them a request waits for. A request may ask
    /// for other numbers.
    QuorumSettings at "quorum" {
        /// In how many vnodes everything is kept, on as many nodes where there are that many; a node alone keeps
        /// them all. 1 keeps no second copy; each further one costs its share of disk and time. Not more than
        /// `cluster.ring_size`.
        n_val: usize = limits::N_VAL_DEFAULT, Kind::Count { min: 1, max: limits::N_VAL_MAX as u64 };
        /// How many copies a read waits for: a number up to `quorum.n_val`, or `one`, `quorum` (more than
        /// half) or `all`. When `quorum.r` and `quorum.w` together exceed `quorum.n_val`, a read sees what
        /// was last written as long as the nodes asked are the same; fewer are faster and may show an older
        /// state.
        r: QuorumSetting = QuorumSetting::Quorum, Kind::Quorum { max: limits::N_VAL_MAX as u64 };
        /// How many copies a write waits for, in the same words. The write goes to all of them anyway: this
        /// is what the client may rely on when it is told that its write was done. With `all`, one slow node
        /// slows every write.
        w: QuorumSetting = QuorumSetting::Quorum, Kind::Quorum { max: limits::N_VAL_MAX as u64 };
    }
}

section! {
    /// Transfers of partitions between this node and others. Both settings can be changed while the node runs,
    /// with `ringwork handoff limit`; its next start takes what stands here.
    HandoffSettings at "handoff" {
        /// Transfers into this node at a time, and as many out of it; the others wait. Each reads and writes the
        /// disk beside requests: more of them settle a cluster sooner, until disk or network is full, and make
        /// requests slower. To stop transfers for a while there is `ringwork handoff pause`.
        limit: u32 = limits::HANDOFF_LIMIT_DEFAULT,
            Kind::Count { min: 1, max: limits::HANDOFF_LIMIT_MAX as u64 };
        /// Bytes that each transfer out of this node may send in a second; together they may send
        /// `handoff.limit` times as much. `none` sends as fast as the slower of the two disks. Set it where
        /// transfers take the network from clients.
        bytes_per_second: Rate = Rate::Unlimited,
            Kind::Rate {
                min: Size::from_bytes(limits::HANDOFF_BYTES_PER_SECOND_MIN),
                max: Size::from_bytes(limits::HANDOFF_BYTES_PER_SECOND_MAX),
            };
    }
}

section! {
    /// Anti-entropy: replicas compare what they have, without a read, and send each other what differs.
    RepairSettings at "repair" {
        /// Pairs of replicas that a first look did not find equal, and that this node compares closely at a time,
        /// for each service. 0 turns anti-entropy off on this node: it keeps no trees, and other nodes cannot
        /// compare with it. What differs is then mended by reads alone.
        exchanges: u32 = 2, Kind::Count { min: 0, max: limits::REPAIR_EXCHANGES_MAX as u64 };
        /// How often each pair of replicas is compared while the node has time. Two that are equal cost some
        /// thirty bytes; a shorter interval finds differences sooner.
        interval: Span = Span::from_secs(15), Kind::Span {
                min: Span::from_millis(limits::REPAIR_INTERVAL_MS_MIN),
                max: Span::from_millis(limits::REPAIR_INTERVAL_MS_MAX),
            };
        /// Items that one comparison sends in a second when it finds differences. More of them make replicas
        /// equal sooner, and requests slower meanwhile.
        items_per_second: u32 = 5000, Kind::Count { min: 1, max: limits::REPAIRS_EXCHANGE_MAX };
        /// How old trees may become before they are built anew from what is stored, at times between half of it
        /// and all. That finds what changed on a disk without anybody's writing it, and costs one scan.
        rebuild_interval: Span = Span::from_secs(7 * 86_400),
            Kind::Span { min: Span::from_secs(60), max: Span::from_secs(365 * 86_400) };
    }
}

section! {
    /// The machinery between requests and storage. The defaults fit unless measurements say otherwise.
    RuntimeSettings at "runtime" {
        /// Commands that wait at one vnode before it refuses further ones as overload. There are up to
        /// `cluster.ring_size` vnodes on a node, so a single hot key is refused long before
        /// `http.requests_in_flight_max` stops everybody. At 50µs a command, the default is 50ms of work.
        vnode_in_flight_max: usize = 1000, Kind::Count { min: 1, max: 1_000_000 };
        /// Threads for long work that must not stop a vnode: folds over a partition, such as listings. Two
        /// let a short one pass a long one; more compete with requests for the disk.
        pool_threads: usize = 2, Kind::Count { min: 1, max: 64 };
        /// Long pieces of work that wait for one of `runtime.pool_threads`; further ones are refused as
        /// overload. Each may take seconds, so a long queue is answered after its clients have gone.
        pool_queue_max: usize = 256, Kind::Count { min: 1, max: 65_536 };
    }
}

section! {
    /// The chat module.
    ChatSettings at "chat" {
        /// The longest text of one message, in bytes of UTF-8; a longer one is answered 413. Must be smaller
        /// than `http.body_bytes_max`, in which it arrives. The default is some pages of writing; what is
        /// longer is better kept elsewhere and linked, since every reader of the conversation fetches it.
        text_bytes_max: Size = Size::from_bytes(16 * KIB),
            Kind::Size { min: Size::from_bytes(1), max: Size::from_bytes(MIB) };
    }
    with { retention: RetentionSettings }
}

section! {
    /// How long messages are kept. Both limits apply, whichever is reached first. The same on all nodes: a
    /// node that keeps less drops what others still show.
    RetentionSettings at "chat.retention" {
        /// Messages older than this are dropped, some time after. `forever` drops none for their age. The
        /// clocks of the nodes differ and a node may be away for a while: below an hour, use it for tests
        /// only.
        age: RetentionAge = RetentionAge::Forever,
            Kind::Age { min: Span::from_secs(1), max: Span::from_secs(36_500 * 86_400) };
        /// Each user keeps this many of their newest messages; 0 keeps all. It bounds what one busy user can
        /// take of the disk.
        count: u64 = 0, Kind::Count { min: 0, max: 1_000_000_000 };
    }
}

section! {
    /// The kv module: objects under buckets and keys. The same on all nodes.
    KvSettings at "kv" {
        /// The longest body of a write, and the most that the siblings of an object may have together, with what
        /// describes them; what is larger is answered 413. Every read, write and repair moves the whole object and has
        /// it in memory several times, on each node that takes part: see *Large objects* in docs/kv.md before you set
        /// more than some megabytes. A body has to come within `http.request_timeout`. All nodes must be of a release
        /// that allows the size.
        object_bytes_max: Size = Size::from_bytes(ringwork_kv::limits::OBJECT_BYTES_DEFAULT as u64),
            Kind::Size {
                min: Size::from_bytes(4 * KIB),
                max: Size::from_bytes(ringwork_kv::limits::OBJECT_BYTES_MAX as u64),
            };
        /// Siblings above which a write that adds one is refused: somebody writes without handing back the causal
        /// context of what was read, and each read would carry all of it. Must be larger than `kv.siblings_warn`.
        siblings_max: usize = ringwork_kv::limits::SIBLINGS_MAX_DEFAULT, Kind::Count { min: 2, max: 10_000 };
        /// Siblings above which a write is told that there are many. Fewer than `kv.siblings_max`.
        siblings_warn: usize = ringwork_kv::limits::SIBLINGS_WARN_DEFAULT, Kind::Count { min: 1, max: 10_000 };
        /// How long clients see that an object was deleted, and the causal context with it. `delayed`: for
        /// `kv.delete_delay`. `immediate`: not at all. `keep`: for `kv.tombstone_keep`. In each of them what was
        /// deleted stays deleted.
        delete_mode: DeleteMode = DeleteMode::Delayed, Kind::Choice(&["delayed", "immediate", "keep"]);
        /// See `kv.delete_mode`. Long enough for a client to write again what it has just deleted.
        delete_delay: Span = Span::from_secs(3),
            Kind::Span { min: Span::from_millis(10), max: Span::from_secs(86_400) };
        /// How long nodes remember that an object was deleted. A node that was away for longer and comes back with its
        /// data brings deleted objects back: rebuild it instead. Each deleted object costs some hundred bytes for as
        /// long.
        tombstone_keep: Span = Span::from_secs(10 * 86_400),
            Kind::Span { min: Span::from_secs(60), max: Span::from_secs(3650 * 86_400) };
        /// How often each vnode looks for what was deleted longer than `kv.tombstone_keep` ago.
        sweep_interval: Span = Span::from_secs(60),
            Kind::Span { min: Span::from_secs(1), max: Span::from_secs(86_400) };
    }
}

section! {
    /// What the node tells about itself while it runs.
    LogSettings at "log" {
        /// What is logged: `error`, `warn`, `info`, `debug` or `trace`, or such words for parts of the
        /// program: `info,ringwork_runtime=debug`. `debug` writes lines for single requests and costs speed;
        /// keep `info` unless looking for something.
        level: String = "info,actix_server=warn".to_owned(), Kind::LogFilter;
        /// `pretty` for people, `json` with one object a line for machines, `auto` for `pretty` on a terminal
        /// and `json` elsewhere.
        format: LogFormat = LogFormat::Auto, Kind::Choice(&["auto", "pretty", "json"]);
    }
}

impl HttpSettings {
    /// The number of worker threads on a machine with so many cores: what was set, or one less than the
    /// cores.
    pub fn workers_on(&self, cores: usize) -> usize {
        if self.workers == 0 { cores.saturating_sub(1).max(1) } else { self.workers }
    }
}

impl NodeSettings {
    /// The location, if there is one.
    pub fn location(&self) -> Option<&str> {
        (!self.location.is_empty()).then_some(self.location.as_str())
    }
}

impl ClusterSettings {
    /// What other nodes are told to reach this one at, when it listens at `bound`.
    pub fn advertised(&self, bound: SocketAddr) -> String {
        if self.advertise.is_empty() { bound.to_string() } else { self.advertise.clone() }
    }
}
