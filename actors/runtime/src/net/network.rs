//! The face of the network: start it, say who the other members are, send and ask, stop it. It decides who is a peer
//! and finds the connection to one without a lock; the rest is done by `peer` and `link`.

use super::carrier::Carriage;
use super::error::{CallError, LinkError, NetworkError, SendError};
use super::handler::{Channel, Incoming, NetworkHandler};
use super::link::Link;
use super::listener::{Listener, StopListening};
use super::peer::{Peer, PeerMessage, PeerSlot};
use super::socket::{self, Transport};
use super::{greet, guest};
use crate::post::Postbox;
use crate::randomness::Randomness;
use crate::spawner::Spawner;
use crate::telemetry::Telemetry;
use crate::time::{Clock, Moment};
use arc_swap::ArcSwap;
use bytes::Bytes;
use ringwork_core::ids::{Boot, NodeId};
use ringwork_core::limits::NODE_NAME_BYTES_MAX;
use ringwork_core::wire::WireError;
use ringwork_core::wire::frame::{FrameHeader, FrameKind};
use ringwork_core::wire::handshake::{FEATURES, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Purpose, Welcome};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long all goodbyes together may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Refusals are logged at most this often; a stranger must not fill the log.
const REFUSAL_LOG_EVERY: Duration = Duration::from_secs(1);

/// Which other node there is, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerSpec {
    /// The node.
    pub node: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Host and port; a name is resolved anew at each dial.
    pub address: String,
}

/// Bounds of a network. The defaults are what a cluster runs with; tests shorten the times.
#[derive(Clone, Copy, Debug)]
pub struct NetworkLimits {
    /// Bytes that may wait on one control connection: some states of a ring.
    pub control_outbox_bytes_max: usize,
    /// Bytes that may wait on one request connection: some tens of thousands of small messages.
    pub request_outbox_bytes_max: usize,
    /// Bytes of messages larger than a part that may wait on one control connection, beside the others; one alone may
    /// be larger, there and on the other.
    pub control_parted_bytes_max: usize,
    /// The same on one request connection: five of the largest objects, as many as clients may send to a node at a
    /// time.
    pub request_parted_bytes_max: usize,
    /// Requests of one connection that may wait for their replies.
    pub pending_max: usize,
    /// Connections that may be in handshake at a time.
    pub handshakes_max: usize,
    /// Connections that may have been accepted in all.
    pub connections_max: usize,
    /// Guests among them.
    pub guests_max: usize,
    /// Connections of transfers among them.
    pub transfers_max: usize,
    /// How long dialling may take, and how long a handshake.
    pub handshake_within: Duration,
    /// A connection on which nothing was written for so long says that it lives.
    pub ping_after: Duration,
    /// A connection on which nothing was heard for so long is given up: several pings would have come.
    pub silence_max: Duration,
    /// The pause before the first attempt to dial again.
    pub redial_min: Duration,
    /// The longest such pause.
    pub redial_max: Duration,
}

impl NetworkLimits {
    /// Silence that is not what one ping and its way explain.
    pub(super) fn silence_noticed(&self) -> Duration {
        self.ping_after + self.ping_after / 2
    }
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            control_outbox_bytes_max: 1024 * 1024,
            request_outbox_bytes_max: 8 * 1024 * 1024,
            control_parted_bytes_max: 16 * 1024 * 1024,
            request_parted_bytes_max: 256 * 1024 * 1024,
            pending_max: 65_536,
            handshakes_max: 64,
            connections_max: 4096,
            guests_max: 32,
            transfers_max: 64,
            handshake_within: Duration::from_secs(3),
            ping_after: Duration::from_secs(1),
            silence_max: Duration::from_secs(5),
            redial_min: Duration::from_millis(50),
            redial_max: Duration::from_secs(2),
        }
    }
}

/// What a network is made of.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// Where to listen for other nodes; port 0 takes any.
    pub listen: SocketAddr,
    /// This node.
    pub node: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Which of its lives this is.
    pub boot: Boot,
    /// Bounds.
    pub limits: NetworkLimits,
    /// What connections are made of.
    pub transport: Transport,
}

/// See the module's head. Cheap to clone. It lives until [`Network::close`], not until the last clone is dropped.
#[derive(Clone)]
pub struct Network(Arc<Inner>);

struct Entry {
    node: NodeId,
    slot: Arc<PeerSlot>,
    peer: Postbox<Peer>,
    address: String,
}

pub(super) struct Inner {
    pub(super) options: NetworkOptions,
    pub(super) carriage: Arc<Carriage>,
    pub(super) spawner: Spawner,
    pub(super) randomness: Randomness,
    local_address: SocketAddr,
    /// Sorted by node.
    peers: ArcSwap<Vec<Entry>>,
    listener: OnceLock<Postbox<Listener>>,
    guests: Mutex<BTreeMap<u64, Arc<Link>>>,
    serials: AtomicU64,
    shards: AtomicUsize,
    closing: AtomicBool,
    refusal_logged: Mutex<Option<Moment>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// A number that no other connection of this process has.
    pub(super) fn next_serial(&self) -> u64 {
        self.serials.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the goodbyes have begun.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// The actor of a peer.
    pub(super) fn peer(&self, node: NodeId) -> Option<Postbox<Peer>> {
        let peers = self.peers.load();
        find(&peers, node).map(|entry| entry.peer.clone())
    }

    pub(super) fn guest_came(&self, link: Arc<Link>) {
        locked(&self.guests).insert(link.serial, link);
    }

    pub(super) fn guest_went(&self, serial: u64) {
        locked(&self.guests).remove(&serial);
    }

    /// Counts and logs someone who was not let in.
    pub(super) fn note_refused(&self, from: SocketAddr, name: Option<&str>, why: &str) {
        self.carriage.telemetry.handshakes_refused.increment();
        let now = self.carriage.clock.moment();
        let mut logged = locked(&self.refusal_logged);
        let loud = logged.is_none_or(|before| now >= before + REFUSAL_LOG_EVERY);
        if loud {
            *logged = Some(now);
        }
        drop(logged);
        let name = name.unwrap_or("?");
        if loud {
            tracing::warn!(%from, name, why, "a connection was refused");
        } else {
            tracing::debug!(%from, name, why, "a connection was refused");
        }
        self.carriage.handler.refused(&from.to_string(), why);
    }

    /// On the control thread: starts and stops peers so that they are these.
    fn apply(self: &Arc<Self>, mut specs: Vec<PeerSpec>) {
        if self.is_closing() {
            return;
        }
        specs.sort_by_key(|spec| spec.node);
        specs.dedup_by_key(|spec| spec.node);
        specs.retain(|spec| spec.node != self.options.node);
        let before = self.peers.load_full();
        let mut after = Vec::with_capacity(specs.len());
        for spec in specs {
            let (node, address) = (spec.node, spec.address.clone());
            after.push(match find(&before, node) {
                Some(entry) => {
                    entry.peer.post_control(PeerMessage::Spec(spec));
                    Entry { node, slot: entry.slot.clone(), peer: entry.peer.clone(), address }
                }
                None => {
                    let (slot, shard) = (PeerSlot::new(), self.shards.fetch_add(1, Ordering::Relaxed));
                    let peer = Peer::start(self.clone(), spec, slot.clone(), shard);
                    Entry { node, slot, peer, address }
                }
            });
        }
        for entry in before.iter().filter(|entry| find(&after, entry.node).is_none()) {
            let (done, _) = oneshot::channel();
            entry.peer.post_control(PeerMessage::Stop("no longer a peer of this node", done));
        }
        self.peers.store(Arc::new(after));
    }

    /// Where a peer is.
    pub(super) fn address_of(&self, node: NodeId) -> Option<String> {
        let peers = self.peers.load();
        find(&peers, node).map(|entry| entry.address.clone())
    }

    /// What is said to whoever is dialled.
    pub(super) fn hello(&self, purpose: Purpose, whom: Option<NodeId>) -> Hello {
        let said = self.carriage.handler.local();
        Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            cluster: said.cluster,
            ring_size: said.ring_size,
            node: self.options.node,
            name: self.options.name.clone(),
            boot: self.options.boot,
            whom,
            purpose,
            features: FEATURES,
        }
    }
}

fn find(entries: &[Entry], node: NodeId) -> Option<&Entry> {
    let place = entries.binary_search_by(|entry| entry.node.cmp(&node)).ok()?;
    entries.get(place)
}

impl Network {
    /// Listens on the address and starts; there are no peers yet. Everything runs on the threads of `spawner`, so
    /// with `Placement::Here` on the calling one, which then must be in an actix or local task context. On an error
    /// nothing runs.
    pub fn start(
        options: NetworkOptions,
        handler: Arc<dyn NetworkHandler>,
        spawner: Spawner,
        clock: Clock,
        randomness: Randomness,
        telemetry: Arc<Telemetry>,
    ) -> Result<Self, NetworkError> {
        if options.name.is_empty() || options.name.len() > NODE_NAME_BYTES_MAX {
            return Err(NetworkError::Name { bytes: options.name.len(), max: NODE_NAME_BYTES_MAX });
        }
        let address = options.listen;
        let unable = |source| NetworkError::Listen { address, source };
        let (bound, local_address) = socket::bind(&options.transport, address).map_err(unable)?;
        let carriage = Carriage { handler, clock, telemetry, limits: options.limits };
        let inner = Arc::new(Inner {
            options,
            carriage: Arc::new(carriage),
            spawner: spawner.clone(),
            randomness,
            local_address,
            peers: ArcSwap::default(),
            listener: OnceLock::new(),
            guests: Mutex::default(),
            serials: AtomicU64::new(0),
            shards: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            refusal_logged: Mutex::new(None),
        });
        let shared = inner.clone();
        let started = spawner.on_control(move || match bound.adopt() {
            Ok(acceptor) => {
                let listener = Listener::start(shared.clone(), acceptor);
                let _ = shared.listener.set(listener);
            }
            Err(error) => tracing::error!(%error, "no connections of other nodes can be accepted"),
        });
        if started { Ok(Self(inner)) } else { Err(NetworkError::NoThread) }
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// Where it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.0.local_address
    }

    /// Says who the other members are. New ones are connected to, those no longer listed are said goodbye to, changed
    /// addresses are used from the next dial on. This node itself and doubles are ignored. Takes effect soon after.
    pub fn set_peers(&self, peers: Vec<PeerSpec>) {
        let inner = self.0.clone();
        self.0.spawner.on_control(move || inner.apply(peers));
    }

    /// Dials a peer at once if it waits to be dialled again, and begins the pauses anew.
    pub fn nudge(&self, node: NodeId) {
        if let Some(peer) = self.0.peer(node) {
            peer.post_control(PeerMessage::Nudge);
        }
    }

    /// Whether a connection to a peer stands.
    pub fn is_connected(&self, node: NodeId, channel: Channel) -> bool {
        let peers = self.0.peers.load();
        find(&peers, node)
            .is_some_and(|entry| entry.slot.link(channel).load().as_ref().is_some_and(|link| link.is_open()))
    }

    /// Whether a peer takes messages larger than a frame, as far as a connection to it stands.
    pub fn takes_parts(&self, node: NodeId, channel: Channel) -> bool {
        let peers = self.0.peers.load();
        find(&peers, node).is_some_and(|entry| {
            entry.slot.link(channel).load().as_ref().is_some_and(|link| link.takes_parts)
        })
    }

    /// Why there is no connection to a peer: what the last attempt or the end of the last connection said. None
    /// while there is one, and before anything happened.
    pub fn last_failure(&self, node: NodeId, channel: Channel) -> Option<String> {
        let peers = self.0.peers.load();
        find(&peers, node).and_then(|entry| entry.slot.failure(channel))
    }

    fn with_link(
        &self,
        to: NodeId,
        channel: Channel,
        act: impl FnOnce(&Link) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let peers = self.0.peers.load();
        let entry = find(&peers, to).ok_or(SendError::NotConnected)?;
        match &*entry.slot.link(channel).load() {
            Some(link) => act(link),
            None => Err(SendError::NotConnected),
        }
    }

    /// Sends a one-way message, from any thread, without waiting. `encode` appends the body; it runs under the
    /// connection's lock, so it must neither use the network nor own a [`Responder`](super::Responder). On an error
    /// nothing was sent.
    pub fn send(
        &self,
        to: NodeId,
        channel: Channel,
        family: u16,
        version: u16,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<(), SendError> {
        let header = FrameHeader { kind: FrameKind::OneWay, family, version, request: 0, remaining_ms: 0 };
        self.with_link(to, channel, |link| link.send(&header, None, encode))
    }

    /// Asks, from any thread, without waiting. `encode` is as for [`Self::send`]. If this
    /// returns `Ok`, `on_reply` is called once: with the reply, or with what became of the request; if it returns an
    /// error, never, and nothing was sent. It is called on the connection's thread and must be short.
    #[allow(clippy::too_many_arguments)] // a struct would only be built to be taken apart
    pub fn request(
        &self,
        to: NodeId,
        channel: Channel,
        family: u16,
        version: u16,
        remaining: Duration,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
        on_reply: impl FnOnce(Result<Incoming, LinkError>) + Send + 'static,
    ) -> Result<(), SendError> {
        self.with_link(to, channel, |link| {
            link.request(family, version, remaining, encode, Box::new(on_reply))
        })
    }

    /// Asks and waits. Dropping the future does not take the request back.
    pub async fn call(
        &self,
        to: NodeId,
        channel: Channel,
        family: u16,
        version: u16,
        remaining: Duration,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<Incoming, CallError> {
        let (sender, receiver) = oneshot::channel();
        self.request(to, channel, family, version, remaining, encode, move |reply| {
            let _ = sender.send(reply);
        })?;
        Ok(receiver.await.map_err(|_| LinkError::Lost)??)
    }

    /// Dials an address as a guest, asks once, waits, and hangs up: for whoever knows no more than an address, such as
    /// a node that wants to join. Runs on the calling thread, which must be a tokio one. The answer may take `within`,
    /// and dialling before it no longer than that either.
    pub async fn call_address(
        &self,
        address: &str,
        family: u16,
        version: u16,
        within: Duration,
        body: Bytes,
    ) -> Result<(Welcome, Incoming), CallError> {
        let hello = self.0.hello(Purpose::Guest, None);
        let handshake_within = self.0.carriage.limits.handshake_within.min(within);
        let (socket, buffer, welcome) =
            greet::dial(&self.0.options.transport, address, &hello, handshake_within).await?;
        let answer = guest::ask(socket, buffer, family, version, within, &body);
        let incoming = timeout(within, answer).await.map_err(|_| LinkError::Deadline)??;
        Ok((welcome, incoming))
    }

    /// Says goodbye to all and stops: no connection is accepted or dialled any more. What was queued before is
    /// written first; after two seconds at most everything is cut.
    pub async fn close(&self) {
        let inner = self.0.clone();
        if inner.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (all_done, all) = oneshot::channel();
        let shared = inner.clone();
        inner.spawner.on_control(move || {
            if let Some(listener) = shared.listener.get() {
                listener.post_control(StopListening);
            }
            let mut ends = Vec::new();
            for entry in shared.peers.load().iter() {
                let (done, end) = oneshot::channel();
                entry.peer.post_control(PeerMessage::Stop("the node stops", done));
                ends.push(end);
            }
            let _ = all_done.send(ends);
        });
        for link in locked(&inner.guests).values() {
            link.close("the node stops");
        }
        let goodbyes = async {
            for end in all.await.unwrap_or_default() {
                let _ = end.await; // a peer that has ended by itself has said what it had to
            }
        };
        let _ = timeout(CLOSE_WITHIN, goodbyes).await;
        inner.peers.store(Arc::default());
    }
}
