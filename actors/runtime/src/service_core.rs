//! What all parts of one service on a node share: the addresses of its vnodes, its listeners, its settings. It
//! decides whether a request goes to a vnode here or over the wire; to which node, the coordinator.

use crate::antientropy::TreeTable;
use crate::families;
use crate::handoff::sealed_read::with_sealed;
use crate::messages::{Asked, ReplyTo, Request, VnodeAnswer};
use crate::net::{Channel, SendError};
use crate::node_core::NodeCore;
use crate::post::{Full, Permit, Permits, Postbox};
use crate::remote::{Ask, decode_answer, encode_request};
use crate::run_time_settings::RunTimeSetting;
use crate::time::Moment;
use crate::vnode_master::{MasterMessage, Routes, VnodeMaster};
use crate::watch::Watchers;
use arc_swap::ArcSwap;
use ringwork_core::ids::Partition;
use ringwork_core::limits::FRAME_BYTES_MAX;
use ringwork_core::metadata::Family;
use ringwork_core::preflist::{Judgement, PreflistEntry};
use ringwork_core::quorum::{Count, QuorumDefaults, Refusal};
use ringwork_core::vnode::Vnode;
use ringwork_core::wire::WireError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// See the module's head.
pub struct ServiceCore<V: Vnode> {
    /// The node.
    pub node: Arc<NodeCore>,
    /// Addresses of local vnodes.
    pub routes: Arc<Routes<V>>,
    /// Listeners.
    pub watchers: Arc<Watchers<V>>,
    /// The module's settings.
    pub config: V::Config,
    /// Quorums where a request does not say; how many replicas there are never changes.
    pub(crate) quorum: ArcSwap<QuorumDefaults>,
    pub(crate) listings: Listings,
    /// How far the trees of local vnodes are.
    pub(crate) trees: TreeTable,
    pub(crate) master: OnceLock<Postbox<VnodeMaster<V>>>,
}

/// Reads a default quorum: a count that `n` replicas can fulfil.
fn count(text: &str, n: usize) -> Result<Count, String> {
    let count = text.parse::<Count>().ok().filter(|count| (1..=n).contains(&count.of(n)));
    count.ok_or_else(|| format!("it takes one, quorum, all, or a whole number from 1 to {n}"))
}

fn word(count: Count) -> String {
    match count {
        Count::Exactly(count) => count.to_string(),
        Count::One => "one".to_owned(),
        Count::Quorum => "quorum".to_owned(),
        Count::All => "all".to_owned(),
    }
}

/// Listings of one service that a node runs at a time: each may keep some megabytes of rows waiting.
const LISTINGS_MAX: usize = 32;

/// The listings of one service that this node runs.
pub(crate) struct Listings {
    permits: Arc<Permits>,
    begun: AtomicU64,
}

impl Default for Listings {
    fn default() -> Self {
        Self { permits: Permits::new(LISTINGS_MAX), begun: AtomicU64::new(0) }
    }
}

impl Listings {
    /// Room for one more, and how many were begun before; none when too many run.
    pub(crate) fn begin(&self) -> Option<(Permit, u64)> {
        let permit = self.permits.take()?;
        Some((permit, self.begun.fetch_add(1, Ordering::Relaxed)))
    }
}

/// How long a message is, if it is longer than a frame may be.
fn too_large_for_one_frame(encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>) -> Option<usize> {
    let mut bytes = Vec::new();
    encode(&mut bytes).is_ok().then_some(bytes.len()).filter(|bytes| *bytes > FRAME_BYTES_MAX)
}

impl<V: Vnode> ServiceCore<V> {
    /// The service's properties that operators may ask to change.
    pub(crate) fn properties(self: &Arc<Self>) -> Vec<RunTimeSetting> {
        type Set = fn(&mut QuorumDefaults, Count);
        let defaults = self.node.quorum;
        let n = defaults.n_val;
        let quorum = |property: &str, configured: Count, what: &str, set: Set| {
            let service = Arc::downgrade(self);
            RunTimeSetting {
                key: format!("{}.{property}", V::SERVICE),
                family: Family::Services,
                takes: format!("{what}: one, quorum, all, or 1 to {n}"),
                configured: word(configured),
                check: Box::new(move |text| count(text, n).map(|_| ())),
                apply: Box::new(move |text| {
                    let count = count(text, n)?;
                    if let Some(service) = service.upgrade() {
                        service.quorum.rcu(|before| {
                            let mut after = **before;
                            set(&mut after, count);
                            after
                        });
                    }
                    Ok(())
                }),
            }
        };
        let never = move |_: &str| {
            Err(format!(
                "the number of replicas of a service does not change while there is data: its keys would lie in other \
                 places than they are looked for; it is {n} by quorum.n_val, for a cluster's whole life"
            ))
        };
        vec![
            quorum("r", defaults.r, "answers that a read waits for", |all, count| all.r = count),
            quorum("w", defaults.w, "acknowledgements that a write waits for", |all, count| all.w = count),
            RunTimeSetting {
                key: format!("{}.n_val", V::SERVICE),
                family: Family::Services,
                takes: "nothing: it is shown, and does not change".to_owned(),
                configured: n.to_string(),
                check: Box::new(never),
                apply: Box::new(|_| Ok(())),
            },
        ]
    }

    pub(crate) fn master(&self) -> Option<&Postbox<VnodeMaster<V>>> {
        self.master.get()
    }

    /// Posts a request to the vnode of a partition on this node; whatever hinders that is an answer.
    pub(crate) fn post(self: &Arc<Self>, partition: Partition, request: Request<V>) {
        let request = with_sealed(self, partition, request);
        let refused = self.routes.find(partition, |postbox| match postbox {
            Some(postbox) => postbox.post(request).err().map(|full| full.0),
            // A vnode is not opened only to say that it is not the one.
            None => match self.node.ring.load().judge(
                V::SERVICE,
                partition,
                request.asked.role,
                request.asked.possession,
            ) {
                Judgement::Moved(possession) => {
                    self.node.telemetry.requests_moved.increment();
                    request.reply.answer(VnodeAnswer::Moved(possession));
                    None
                }
                Judgement::Serve { .. } => self.want(partition, request),
            },
        });
        if let Some(request) = refused {
            self.node.telemetry.requests_overloaded.increment();
            request.reply.answer(VnodeAnswer::Refused(Refusal::Overloaded));
        }
    }

    /// Hands the master a request for a vnode that does not run; gives it back when the master is full.
    fn want(&self, partition: Partition, request: Request<V>) -> Option<Request<V>> {
        if !self.node.ring.load().size().contains(partition) {
            let why = format!("there is no partition {partition}");
            request.reply.answer(VnodeAnswer::Refused(Refusal::Unavailable(why)));
            return None;
        }
        let Some(master) = self.master() else { return Some(request) };
        match master.post(MasterMessage::Wanted(partition, request)) {
            Err(Full(MasterMessage::Wanted(_, request))) => Some(request),
            _ => None,
        }
    }

    /// Asks a replica, here or on another node. The reply is answered in any case.
    pub(crate) fn ask(
        self: &Arc<Self>,
        entry: &PreflistEntry,
        asked: Asked,
        ask: &Ask<'_, V>,
        reply: ReplyTo<V>,
        deadline: Moment,
        sync: bool,
    ) {
        if entry.node == self.node.id {
            let request = Request { asked, task: ask.to_task(), reply, deadline, sync };
            return self.post(entry.partition, request);
        }
        let Some(network) = self.node.network().filter(|n| n.is_connected(entry.node, Channel::Request))
        else {
            let name = self.node.name_of(entry.node);
            let why = format!("there is no connection to node {name}");
            return reply.answer(VnodeAnswer::Refused(Refusal::Unavailable(why)));
        };
        if !network.takes_parts(entry.node, Channel::Request)
            && let Some(bytes) =
                too_large_for_one_frame(|out| encode_request::<V>(entry.partition, asked, ask, sync, out))
        {
            let name = self.node.name_of(entry.node);
            let why = SendError::OlderRelease { bytes, max: FRAME_BYTES_MAX };
            return reply.answer(VnodeAnswer::Refused(Refusal::Unavailable(format!("node {name}: {why}"))));
        }
        let now = self.node.clock.moment();
        let latency = self.node.latencies.of(entry.node);
        let clock = self.node.clock.clone();
        // What is not sent is dropped with its reply, which then says why.
        let reply = reply.or_if_dropped(Refusal::Overloaded);
        let _ = network.request(
            entry.node,
            Channel::Request,
            families::VNODE,
            families::VERSION,
            deadline.saturating_sub(now),
            |out| encode_request::<V>(entry.partition, asked, ask, sync, out),
            move |answer| match answer {
                Ok(incoming) => {
                    latency.observe(clock.moment().saturating_sub(now));
                    reply.answer(decode_answer(&incoming.body));
                }
                // It was sent: whatever hindered the answer, it may have been done.
                Err(error) => reply.answer(VnodeAnswer::Failed(error.to_string())),
            },
        );
    }
}
