//! What all parts of one service on a node share: the addresses of its vnodes, its listeners, its settings. It
//! decides whether a request goes to a vnode here or over the wire; to which node, the coordinator.

use crate::antientropy::TreeTable;
use crate::families;
use crate::handoff::sealed_read::with_sealed;
use crate::messages::{Asked, ReplyTo, Request, VnodeAnswer};
use crate::net::Channel;
use crate::node_core::NodeCore;
use crate::post::{Full, Postbox};
use crate::remote::{Ask, decode_answer, encode_request};
use crate::time::Moment;
use crate::vnode_master::{MasterMessage, Routes, VnodeMaster};
use crate::watch::Watchers;
use ringwork_core::ids::Partition;
use ringwork_core::preflist::{Judgement, PreflistEntry};
use ringwork_core::quorum::Refusal;
use ringwork_core::vnode::Vnode;
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
    /// How far the trees of local vnodes are.
    pub(crate) trees: TreeTable,
    pub(crate) master: OnceLock<Postbox<VnodeMaster<V>>>,
}

impl<V: Vnode> ServiceCore<V> {
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
