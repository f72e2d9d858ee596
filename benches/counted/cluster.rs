//! Nodes in one thread for the paths that need some: stores in memory, connections in memory, a clock that only the
//! runtime moves. They are started and made one cluster by the same calls as everywhere. It decides nothing about what
//! is asked of them.

use ringwork::chat::{Chat, ChatConfig};
use ringwork::kv::{Kv, KvConfig};
use ringwork::runtime::administration::{Administration, Availability};
use ringwork::runtime::net::{Accepted, Dialling, GivenListener, GivenStream, GivenTransport, Transport};
use ringwork::runtime::node::{ClusterOptions, Node, NodeOptions};
use ringwork::runtime::randomness::Randomness;
use ringwork::runtime::spawner::Placement;
use ringwork::runtime::time::{Clock, Moment, TimeSource};
use ringwork::server::{look_around, trial_options};
use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Bytes that one direction of a connection holds.
const PIPE_BYTES: usize = 256 * 1024;
const PORT: u16 = 8099;
/// When these clusters begin: some time in 2027.
const BEGIN_MS: u64 = 1_800_000_000_000;
/// Virtual time in which a cluster must have come about.
const FORMED_WITHIN: Duration = Duration::from_secs(60);

/// A runtime of one thread whose clock stands still while there is work. It is never taken down: what nodes are in the
/// middle of then ends with the process.
pub fn system() -> &'static actix_rt::SystemRunner {
    Box::leak(Box::new(actix_rt::System::with_tokio_rt(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        #[allow(clippy::expect_used)] // nothing is measured without a runtime
        builder.enable_all().start_paused(true).build().expect("a runtime")
    })))
}

struct VirtualTime(tokio::time::Instant);

impl TimeSource for VirtualTime {
    fn wall_ms(&self) -> u64 {
        BEGIN_MS + self.0.elapsed().as_millis() as u64
    }

    fn moment(&self) -> Moment {
        self.0.elapsed()
    }
}

/// Connections in memory between the nodes of this process.
#[derive(Clone, Default)]
struct Wires(Arc<Mutex<BTreeMap<SocketAddr, Listening>>>);

#[derive(Default)]
struct Listening {
    waiting: VecDeque<Accepted>,
    sleeper: Option<Waker>,
}

impl Wires {
    fn listening(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Listening>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Place {
    wires: Wires,
    address: SocketAddr,
}

impl GivenTransport for Place {
    fn connect(&self, address: &str) -> Dialling {
        let (wires, from, to) = (self.wires.clone(), self.address, address.parse::<SocketAddr>());
        Box::pin(async move {
            let to = to.map_err(io::Error::other)?;
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            let mut listening = wires.listening();
            let there = listening.get_mut(&to).ok_or(io::ErrorKind::ConnectionRefused)?;
            there.waiting.push_back((Box::new(theirs), from));
            there.sleeper.take().into_iter().for_each(Waker::wake);
            Ok(Box::new(ours) as Box<dyn GivenStream>)
        })
    }

    fn bind(&self, address: SocketAddr) -> io::Result<(Box<dyn GivenListener>, SocketAddr)> {
        self.wires.listening().insert(address, Listening::default());
        Ok((Box::new(Place { wires: self.wires.clone(), address }), address))
    }
}

impl GivenListener for Place {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let mut listening = self.wires.listening();
        let here = listening.entry(self.address).or_default();
        match here.waiting.pop_front() {
            Some(accepted) => Poll::Ready(Ok(accepted)),
            None => {
                here.sleeper = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn address_of(number: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 0, 0, number), PORT))
}

/// Starts so many nodes, makes them one cluster, and waits until all is in its place. Within [`system`].
pub async fn cluster_of(nodes: u8) -> Result<Vec<Node>, Box<dyn Error>> {
    let wires = Wires::default();
    let mut started = Vec::new();
    for number in 1..=nodes {
        let seeds = (number > 1).then(|| address_of(1).to_string());
        let listen = address_of(number);
        #[allow(clippy::disallowed_methods)] // the virtual clock's own origin
        let origin = tokio::time::Instant::now();
        let options = NodeOptions {
            name: format!("n{number}"),
            cluster: Some(ClusterOptions {
                listen,
                advertise: None,
                seeds: seeds.into_iter().collect(),
                location: None,
            }),
            clock: Clock::of(Arc::new(VirtualTime(origin))),
            randomness: Randomness::seeded(u64::from(number)),
            transport: Transport::given(Arc::new(Place { wires: wires.clone(), address: listen })),
            ..trial_options(Placement::Here)
        };
        let builder = Node::builder(options).service::<Chat>(ChatConfig::default());
        started.push(builder.service::<Kv>(KvConfig::default()).start().await?);
    }
    let first = started.first().ok_or("a cluster has nodes")?.administration();
    let formed = form(&*first, usize::from(nodes));
    tokio::time::timeout(FORMED_WITHIN, formed).await.map_err(|_| "the cluster does not settle")??;
    for node in &started {
        look_around(node).await;
    }
    Ok(started)
}

async fn form(first: &dyn Administration, nodes: usize) -> Result<(), Box<dyn Error>> {
    let pause = || tokio::time::sleep(Duration::from_millis(20));
    while first.cluster_status().staged.len() + 1 < nodes {
        pause().await;
    }
    if nodes > 1 {
        first.plan().await?;
        first.commit().await?;
    }
    loop {
        let status = first.cluster_status();
        let up = status.members.iter().filter(|member| member.available == Availability::Up).count();
        if status.settled && up == nodes {
            return Ok(());
        }
        pause().await;
    }
}
