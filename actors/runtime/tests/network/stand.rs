//! What the tests stand on: a node whose handler remembers what it was told, and a stranger with a bare socket.

use bytes::BytesMut;
use ringwork_core::ids::{Boot, ClusterId, NodeId};
use ringwork_core::ring::RingSize;
use ringwork_core::wire::frame::{Frame, FrameDecoder, FrameHeader, encode_into};
use ringwork_core::wire::handshake::{Hello, MAGIC, Purpose};
use ringwork_runtime::net::{
    Channel, Incoming, LocalHello, MemberCheck, Network, NetworkHandler, NetworkLimits, NetworkOptions,
    PeerSpec, Responder, Sender, TransferStream, Transport,
};
use ringwork_runtime::randomness::Randomness;
use ringwork_runtime::spawner::{Placement, Spawner};
use ringwork_runtime::telemetry::Telemetry;
use ringwork_runtime::time::Clock;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The family whose requests come back as they are.
pub(crate) const ECHO: u16 = 1;
/// The family whose requests are dropped.
pub(crate) const DROP: u16 = 2;
/// The family whose requests panic.
pub(crate) const PANIC: u16 = 3;
/// The family whose requests are kept unanswered.
pub(crate) const KEEP: u16 = 4;

pub(crate) fn id(number: u8) -> NodeId {
    NodeId([number; 16])
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    Connected(NodeId, Channel),
    Lost(NodeId, Channel, String, bool),
    Refused(String),
    OneWay(NodeId, Channel, Vec<u8>),
}

pub(crate) struct Stand {
    pub(crate) events: Mutex<Vec<Event>>,
    pub(crate) kept: Mutex<Vec<(Incoming, Responder)>>,
    pub(crate) senders: Mutex<Vec<Sender>>,
    pub(crate) members: Mutex<Vec<NodeId>>,
    pub(crate) removed: Mutex<Vec<NodeId>>,
    pub(crate) cluster: Mutex<ClusterId>,
    pub(crate) transfers: Mutex<Vec<TransferStream>>,
}

impl NetworkHandler for Stand {
    fn serve(&self, from: &Sender, incoming: Incoming, respond: Option<Responder>) {
        let Some(respond) = respond else {
            let event = Event::OneWay(from.node, from.channel, incoming.body.to_vec());
            return self.events.lock().unwrap().push(event);
        };
        match incoming.family {
            ECHO => {
                let version = incoming.version;
                let _ = respond.reply(version, |out| {
                    out.extend_from_slice(&incoming.body);
                    Ok(())
                });
            }
            PANIC => panic!("the handler's own fault"),
            KEEP => {
                self.senders.lock().unwrap().push(from.clone());
                self.kept.lock().unwrap().push((incoming, respond));
            }
            _ => drop(respond),
        }
    }

    fn connected(&self, node: NodeId, channel: Channel) {
        self.events.lock().unwrap().push(Event::Connected(node, channel));
    }

    fn lost(&self, node: NodeId, channel: Channel, why: &str, reset: bool) {
        self.events.lock().unwrap().push(Event::Lost(node, channel, why.to_owned(), reset));
    }

    fn is_member(&self, node: NodeId) -> MemberCheck {
        if self.removed.lock().unwrap().contains(&node) {
            return MemberCheck::Removed;
        }
        let known = self.members.lock().unwrap().contains(&node);
        if known { MemberCheck::Member } else { MemberCheck::Unknown }
    }

    fn local(&self) -> LocalHello {
        LocalHello { cluster: *self.cluster.lock().unwrap(), ring_size: RingSize::try_from(64).unwrap() }
    }

    fn transfer(&self, _: NodeId, stream: TransferStream) {
        self.transfers.lock().unwrap().push(stream);
    }

    fn refused(&self, _: &str, why: &str) {
        self.events.lock().unwrap().push(Event::Refused(why.to_owned()));
    }
}

/// A network with its handler.
pub(crate) struct Node {
    pub(crate) network: Network,
    pub(crate) stand: Arc<Stand>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) number: u8,
    pub(crate) spawner: Spawner,
}

pub(crate) fn quick() -> NetworkLimits {
    NetworkLimits {
        redial_min: Duration::from_millis(10),
        redial_max: Duration::from_millis(100),
        ..NetworkLimits::default()
    }
}

pub(crate) fn start(number: u8, placement: Placement, limits: NetworkLimits) -> Node {
    start_at(number, placement, limits, SocketAddr::from(([127, 0, 0, 1], 0)))
}

pub(crate) fn start_at(number: u8, placement: Placement, limits: NetworkLimits, listen: SocketAddr) -> Node {
    let stand = Arc::new(Stand {
        events: Mutex::default(),
        kept: Mutex::default(),
        senders: Mutex::default(),
        members: Mutex::new((0..=9).map(id).collect()),
        removed: Mutex::default(),
        cluster: Mutex::new(ClusterId([7; 16])),
        transfers: Mutex::default(),
    });
    let telemetry = Arc::new(Telemetry::default());
    let spawner = Spawner::start(placement, 1, 8).unwrap();
    let options = NetworkOptions {
        listen,
        node: id(number),
        name: format!("n{number}"),
        boot: Boot(1),
        limits,
        transport: Transport::tcp(),
    };
    let network = Network::start(
        options,
        stand.clone(),
        spawner.clone(),
        Clock::system(),
        Randomness::seeded(u64::from(number)),
        telemetry.clone(),
    )
    .unwrap();
    Node { network, stand, telemetry, number, spawner }
}

impl Node {
    pub(crate) fn spec(&self) -> PeerSpec {
        PeerSpec {
            node: id(self.number),
            name: format!("n{}", self.number),
            address: self.network.local_address().to_string(),
        }
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.stand.events.lock().unwrap().clone()
    }

    pub(crate) async fn saw(&self, what: &str, holds: impl Fn(&Event) -> bool) {
        eventually(what, async || self.events().iter().any(&holds)).await;
    }

    pub(crate) fn connected_to(&self, other: u8) -> bool {
        Channel::ALL.iter().all(|channel| self.network.is_connected(id(other), *channel))
    }

    pub(crate) async fn echo(&self, to: u8, channel: Channel, body: &[u8]) -> Result<Vec<u8>, String> {
        let encode = |out: &mut Vec<u8>| {
            out.extend_from_slice(body);
            Ok(())
        };
        let call = self.network.call(id(to), channel, ECHO, 5, Duration::from_secs(10), encode).await;
        call.map(|incoming| incoming.body.to_vec()).map_err(|error| error.to_string())
    }

    pub(crate) async fn stop(self) {
        self.network.close().await;
        self.spawner.stop();
    }
}

/// Nodes that know each other, connected.
pub(crate) async fn meet(nodes: &[&Node]) {
    for node in nodes {
        node.network.set_peers(nodes.iter().map(|node| node.spec()).collect());
    }
    for node in nodes {
        for other in nodes.iter().filter(|other| other.number != node.number) {
            eventually("all are connected", async || node.connected_to(other.number)).await;
        }
    }
}

pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..5000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("never: {what}");
}

pub(crate) fn run<T>(body: impl Future<Output = T>) -> T {
    actix_rt::System::new().block_on(body)
}

/// The same test on one thread and on several.
pub(crate) fn on_each_placement<F: Future<Output = ()>>(body: impl Fn(Placement) -> F) {
    for placement in [Placement::Here, Placement::Own(1)] {
        run(body(placement));
    }
}

/// A stranger with a bare socket.
pub(crate) struct Stranger {
    pub(crate) socket: TcpStream,
    pub(crate) buffer: BytesMut,
}

impl Stranger {
    pub(crate) async fn dial(to: &Node) -> Self {
        let socket = TcpStream::connect(to.network.local_address()).await.unwrap();
        Self { socket, buffer: BytesMut::new() }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// Everything that comes until the other side hangs up.
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), self.socket.read_to_end(&mut all)).await;
        let _ = read.expect("the other side never hung up"); // a reset is an end, too
        all
    }

    pub(crate) fn hello(number: u8, purpose: Purpose) -> Hello {
        Hello {
            protocol_min: 1,
            protocol_max: 1,
            cluster: ClusterId([7; 16]),
            ring_size: RingSize::try_from(64).unwrap(),
            node: id(number),
            name: format!("n{number}"),
            boot: Boot(1),
            whom: None,
            purpose,
            features: 0,
        }
    }

    /// Says hello; the frame that answers.
    pub(crate) async fn greet(&mut self, hello: &Hello) -> Frame {
        let mut out = MAGIC.to_vec();
        hello.append_to(&mut out).unwrap();
        self.write(&out).await;
        while self.buffer.len() < MAGIC.len() {
            assert!(self.socket.read_buf(&mut self.buffer).await.unwrap() > 0, "it hung up");
        }
        assert_eq!(&self.buffer.split_to(MAGIC.len())[..], &MAGIC);
        self.frame().await
    }

    pub(crate) async fn frame(&mut self) -> Frame {
        loop {
            if let Some(frame) = FrameDecoder::new(usize::MAX).decode(&mut self.buffer).unwrap() {
                return frame;
            }
            assert!(self.socket.read_buf(&mut self.buffer).await.unwrap() > 0, "it hung up");
        }
    }

    pub(crate) async fn send(&mut self, header: FrameHeader, body: &[u8]) {
        let mut out = Vec::new();
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(body);
            Ok(())
        };
        encode_into(&mut out, &header, write).unwrap();
        self.write(&out).await;
    }
}
