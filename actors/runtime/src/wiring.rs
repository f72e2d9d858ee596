//! What the network finds behind it: every message of another node goes from here to whoever deals with it. It decides
//! which family goes where and what guests may; it runs on the connections' threads, so it only posts.

use crate::claimant;
use crate::families;
use crate::gossip_agent::{AgentMessage, GossipAgent};
use crate::handoff::manager::ManagerMessage;
use crate::introduction;
use crate::joining;
use crate::metadata_manager::MetadataMessage;
use crate::net::{
    Channel, Incoming, LocalHello, MemberCheck, NetworkHandler, Responder, Sender, TransferStream,
};
use crate::node_core::{Ending, NodeCore};
use crate::post::Postbox;
use crate::remote::{RootsAsked, TreesAsked, decode_head, decode_page_head, refuse, refuse_page};
use crate::ring_manager::{Bequest, RingMessage};
use bytes::Bytes;
use ringwork_core::ids::{NodeId, Partition};
use ringwork_core::membership::Status;
use ringwork_core::wire::codec;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long a request is worked on that does not say how long its asker waits.
const WITHIN_UNLESS_SAID: Duration = Duration::from_secs(10);

/// See the module's head.
pub(crate) struct Wiring {
    node: Arc<NodeCore>,
    /// Known once the agent has started, which needs the network.
    pub(crate) agent: OnceLock<Postbox<GossipAgent>>,
}

impl Wiring {
    pub(crate) fn new(node: Arc<NodeCore>) -> Self {
        Self { node, agent: OnceLock::new() }
    }

    fn tell_agent(&self, message: AgentMessage) {
        if let Some(agent) = self.agent.get()
            && agent.post(message).is_err()
        {
            self.node.telemetry.datagrams_dropped.increment();
        }
    }

    fn vnode_request(&self, incoming: &Incoming, respond: Responder) {
        let (head, payload) = match decode_head(&incoming.body) {
            Ok(head) => head,
            Err(error) => {
                self.node.telemetry.requests_unreadable.increment();
                return refuse(respond, format!("the request cannot be read: {error}"));
            }
        };
        let started = self.node.started.load();
        let services = started.as_ref().map(|started| &started.services);
        let Some(service) = services.and_then(|services| services.get(head.service.as_str())) else {
            return refuse(respond, format!("this node does not run the service {:?}", head.service));
        };
        let deadline = self.node.clock.moment() + incoming.remaining.unwrap_or(WITHIN_UNLESS_SAID);
        service.serve(head, payload, deadline, respond);
    }

    fn page_request(&self, incoming: &Incoming, respond: Responder) {
        let (head, payload) = match decode_page_head(&incoming.body) {
            Ok(head) => head,
            Err(error) => {
                self.node.telemetry.requests_unreadable.increment();
                return refuse_page(respond, format!("the request for a page cannot be read: {error}"));
            }
        };
        let started = self.node.started.load();
        let services = started.as_ref().map(|started| &started.services);
        let Some(service) = services.and_then(|services| services.get(head.service.as_str())) else {
            return refuse_page(respond, format!("this node does not run the service {:?}", head.service));
        };
        let deadline = self.node.clock.moment() + incoming.remaining.unwrap_or(WITHIN_UNLESS_SAID);
        service.serve_page(head, payload, deadline, respond);
    }

    /// A question about trees; without an answer when it cannot be read, or there is no such service.
    fn trees_request(&self, incoming: &Incoming, respond: Responder) {
        let Ok(asked) = codec::decode::<TreesAsked>(&incoming.body) else {
            self.node.telemetry.requests_unreadable.increment();
            return;
        };
        let started = self.node.started.load();
        let services = started.as_ref().map(|started| &started.services);
        if let Some(service) = services.and_then(|services| services.get(asked.service.as_str())) {
            service.compare(asked, respond);
        }
    }

    /// A look at many roots at once; the same.
    fn roots_request(&self, incoming: &Incoming, respond: Responder) {
        let Ok(asked) = codec::decode::<RootsAsked>(&incoming.body) else {
            self.node.telemetry.requests_unreadable.increment();
            return;
        };
        let started = self.node.started.load();
        let services = started.as_ref().map(|started| &started.services);
        if let Some(service) = services.and_then(|services| services.get(asked.service.as_str())) {
            service.roots(asked, respond);
        }
    }

    fn control_request(&self, from: &Sender, incoming: &Incoming, respond: Responder) {
        let Some(started) = self.node.started.load_full() else { return };
        let (node, manager) = (self.node.clone(), started.ring_manager.clone());
        let body: Bytes = incoming.body.clone();
        match incoming.family {
            families::JOIN => {
                actix_rt::spawn(async move { joining::serve(node, manager, &body, respond).await });
            }
            families::INTRODUCTION => {
                let by = from.node;
                actix_rt::spawn(async move { introduction::serve(node, manager, by, &body, respond).await });
            }
            families::ADMINISTRATION if !from.guest => {
                actix_rt::spawn(async move { claimant::serve(node, manager, &body, respond).await });
            }
            families::STRAYS if !from.guest => {
                if let Ok(generation) = codec::decode::<u64>(&body) {
                    let _ = manager.post(RingMessage::StraysAsked(from.node, generation, respond));
                }
            }
            families::REPAIR if !from.guest => {
                if let Ok(wanted) = codec::decode::<Vec<(Partition, Partition)>>(&body) {
                    self.node.tell_handoff(ManagerMessage::RepairWanted(from.node, wanted, respond));
                }
            }
            _ => drop(respond),
        }
    }
}

impl NetworkHandler for Wiring {
    fn serve(&self, from: &Sender, incoming: Incoming, respond: Option<Responder>) {
        match (incoming.family, respond) {
            (families::VNODE, Some(respond)) if !from.guest => self.vnode_request(&incoming, respond),
            (families::COVERAGE, Some(respond)) if !from.guest => self.page_request(&incoming, respond),
            (families::TREES, Some(respond)) if !from.guest => self.trees_request(&incoming, respond),
            (families::ROOTS, Some(respond)) if !from.guest => self.roots_request(&incoming, respond),
            (_, Some(respond)) => self.control_request(from, &incoming, respond),
            (_, None) if from.guest => {}
            (families::DETECTOR, None) => {
                self.tell_agent(AgentMessage::Datagram(from.node, incoming.body));
            }
            (families::GOSSIP, None) => self.tell_agent(AgentMessage::Gossip(from.node, incoming.body)),
            (families::METADATA, None) => {
                let started = self.node.started.load();
                let message = MetadataMessage::Gossip(from.node, incoming.body);
                if started.as_ref().is_some_and(|started| started.metadata.post(message).is_err()) {
                    self.node.telemetry.datagrams_dropped.increment();
                }
            }
            (families::BEQUEST, None) => {
                if let (Some(started), Ok(bequest)) =
                    (self.node.started.load_full(), codec::decode::<Bequest>(&incoming.body))
                {
                    let _ = started.ring_manager.post(RingMessage::Inherited(from.node, bequest));
                }
            }
            _ => {}
        }
    }

    fn connected(&self, node: NodeId, channel: Channel) {
        if channel == Channel::Control {
            self.tell_agent(AgentMessage::Connected(node));
        }
    }

    fn lost(&self, node: NodeId, _: Channel, why: &str, reset: bool) {
        tracing::debug!(node = %self.node.name_of(node), why, reset, "a connection has ended");
        // A goodbye is no sign of trouble by itself: whoever says it also leaves the failure detector.
        let other = |channel| self.node.network().is_some_and(|network| network.is_connected(node, channel));
        if reset && !Channel::ALL.into_iter().any(other) {
            self.tell_agent(AgentMessage::Lost(node));
        }
    }

    fn is_member(&self, node: NodeId) -> MemberCheck {
        match self.node.ring.load().state().status(node) {
            None => MemberCheck::Unknown,
            Some(Status::Removed) => MemberCheck::Removed,
            Some(_) => MemberCheck::Member,
        }
    }

    fn local(&self) -> LocalHello {
        let view = self.node.ring.load();
        LocalHello { cluster: view.state().cluster(), ring_size: view.size() }
    }

    fn transfer(&self, from: NodeId, stream: TransferStream) {
        // Dropped when there is no manager, or it is full: the sender comes again.
        self.node.tell_handoff(ManagerMessage::Connected(from, stream));
    }

    fn told_unknown(&self, by: NodeId) {
        self.tell_agent(AgentMessage::Unknown(by));
    }

    fn told_removed(&self, by: NodeId) {
        let name = self.node.name_of(by);
        // One member's word is enough: removal is final, and only the claimant decides it.
        self.node
            .end(Ending::removed(&format!("node {name} says that this node was removed from the cluster")));
    }
}
