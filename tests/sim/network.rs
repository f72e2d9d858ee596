//! The network of the simulated nodes: byte streams in order, as TCP gives them, over links that can be slow, lossy,
//! cut in one or both directions, and towards machines that have lost power. It decides when bytes arrive; it does not
//! know what they say.
//!
//! What is sent over a cut link is not lost: TCP sends it again when the link is back, unless one end has given up by
//! then: within a second, or within as long as the cut took, for each connection at a moment of its own. A lost packet
//! is a late one. So nothing is ever duplicated or out of order within one connection, and much is between connections.

use crate::trace::Trace;
use ringwork_core::testing::Draw;
use ringwork_runtime::net::{Accepted, Dialling, GivenListener, GivenStream, GivenTransport};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes that one direction of a connection holds before its writer has to wait.
const PIPE_BYTES_MAX: usize = 256 * 1024;
/// A lost packet comes that much later, as often as it is lost.
const RETRANSMIT: Duration = Duration::from_millis(200);

/// After a cut half of what was sent is sent again within that time, the rest within the time that the cut took.
const RESENT_WITHIN_MIN: Duration = Duration::from_secs(1);

/// Of a connection whose answers come late, the first are in time: who greets and accepts is not what is meant.
const PROMPT_ANSWERS: u64 = 2;

/// The cluster port of every simulated node.
pub const PORT: u16 = 8099;

/// Where a node listens.
pub fn address_of(node: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, node)), PORT)
}

fn node_at(address: SocketAddr) -> u8 {
    match address.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    }
}

/// How a link behaves.
#[derive(Clone, Copy)]
pub struct Weather {
    /// The least time that a packet takes.
    pub latency_min: Duration,
    /// The most, on a good day.
    pub latency_max: Duration,
    /// Packets of a thousand that are lost at first.
    pub lost_per_thousand: u64,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            latency_min: Duration::from_micros(200),
            latency_max: Duration::from_millis(3),
            lost_per_thousand: 0,
        }
    }
}

/// See the module's head. Cheap to clone.
#[derive(Clone)]
pub struct SimulatedNetwork(Arc<Mutex<Inner>>);

struct Inner {
    draw: Draw,
    trace: Trace,
    weather: Weather,
    /// Of single links, by (from, to).
    local: BTreeMap<(u8, u8), Weather>,
    /// And since when.
    cut: BTreeMap<(u8, u8), Instant>,
    without_power: BTreeSet<u8>,
    /// Over connections that the first of the two makes to the second, everything after the first answers comes late.
    late_answers: BTreeSet<[u8; 2]>,
    listeners: BTreeMap<SocketAddr, Listening>,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    /// Whoever dials over a cut link.
    dialling: Vec<Waker>,
    counts: Counts,
}

/// What happened so far.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Packets that were held by a cut link.
    pub held: u64,
    /// Packets that were lost at first.
    pub lost: u64,
    /// Connections that ended by a reset.
    pub reset: u64,
    /// Packets that took longer than the usual weather allows.
    pub slow: u64,
    /// Packets sent.
    pub packets: u64,
}

#[derive(Default)]
struct Listening {
    serial: u64,
    waiting: VecDeque<Accepted>,
    sleeper: Option<Waker>,
}

/// Two pipes; the first carries what the dialler says.
struct Connection {
    ends: [u8; 2],
    pipes: [Pipe; 2],
    /// When each end learns that the connection is gone.
    reset: [Option<Instant>; 2],
    /// Whether each end has let go.
    dropped: [bool; 2],
}

#[derive(Default)]
struct Pipe {
    /// In order. No time: held by a cut link. No bytes: the end.
    packets: VecDeque<(Option<Instant>, Vec<u8>)>,
    bytes: usize,
    last: Option<Instant>,
    sent: u64,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[allow(clippy::disallowed_methods)] // the simulation's own clock, which only it moves
fn now() -> Instant {
    Instant::now()
}

impl Inner {
    fn weather(&self, from: u8, to: u8) -> Weather {
        self.local.get(&(from, to)).copied().unwrap_or(self.weather)
    }

    /// How long a packet takes now.
    fn travel(&mut self, from: u8, to: u8) -> Duration {
        let weather = self.weather(from, to);
        let span = (weather.latency_max - weather.latency_min).as_micros() as u64;
        let mut time = weather.latency_min + Duration::from_micros(self.draw.below(span + 1));
        self.counts.slow += u64::from(time > Weather::default().latency_max);
        let mut again = RETRANSMIT;
        while self.draw.below(1000) < weather.lost_per_thousand {
            self.counts.lost += 1;
            time += again;
            again *= 2;
        }
        time
    }

    fn is_cut(&self, from: u8, to: u8) -> bool {
        self.cut.contains_key(&(from, to))
    }

    fn send(&mut self, number: u64, side: usize, bytes: Vec<u8>) {
        let Some(connection) = self.connections.get(&number) else { return };
        let (from, to) = (connection.ends[side], connection.ends[1 - side]);
        if self.without_power.contains(&from) {
            return;
        }
        self.trace.packet(from, to, number, &bytes);
        self.counts.packets += 1;
        let answers = side == 1 && connection.pipes[side].sent >= PROMPT_ANSWERS;
        let late = answers && self.late_answers.contains(&[to, from]);
        let due = if self.is_cut(from, to) {
            self.counts.held += 1;
            None
        } else {
            let late_ms = if late { 300 + self.draw.below(700) } else { 0 };
            Some(now() + self.travel(from, to) + Duration::from_millis(late_ms))
        };
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let pipe = &mut connection.pipes[side];
        pipe.bytes += bytes.len();
        pipe.sent += 1;
        let due = due.map(|due| pipe.last.map_or(due, |last| last.max(due)));
        pipe.last = due.or(pipe.last);
        pipe.packets.push_back((due, bytes));
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
    }

    fn reset(&mut self, number: u64, side: usize, at: Instant) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if connection.reset[side].is_none() {
            connection.reset[side] = Some(at);
            self.counts.reset += 1;
        }
        // Reading and writing both find out.
        for pipe in &mut connection.pipes {
            pipe.reader.take().into_iter().chain(pipe.writer.take()).for_each(Waker::wake);
        }
    }

    /// What was held on links that are whole again goes on its way. `mended` has since when these were cut.
    fn release(&mut self, mended: &BTreeMap<(u8, u8), Instant>) {
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            for side in 0..2 {
                let Some(connection) = self.connections.get(&number) else { continue };
                let (from, to) = (connection.ends[side], connection.ends[1 - side]);
                let held = connection.pipes[side].packets.iter().any(|(due, _)| due.is_none());
                if !held || self.is_cut(from, to) {
                    continue;
                }
                let cut = mended.get(&(from, to)).map_or(Duration::ZERO, |since| now() - *since);
                // Half of them soon, so that nodes meet in the moment after a cut as often as they stay apart.
                let drawn = self.draw.below(1000);
                let within = if drawn < 500 { RESENT_WITHIN_MIN } else { cut.max(RESENT_WITHIN_MIN) };
                let pause = within.mul_f64((drawn % 500) as f64 / 500.0);
                let due = now() + self.travel(from, to) + pause;
                let Some(connection) = self.connections.get_mut(&number) else { continue };
                let pipe = &mut connection.pipes[side];
                let due = pipe.last.map_or(due, |last| last.max(due));
                pipe.packets
                    .iter_mut()
                    .filter(|(due, _)| due.is_none())
                    .for_each(|packet| packet.0 = Some(due));
                pipe.last = Some(due);
                if let Some(reader) = pipe.reader.take() {
                    reader.wake();
                }
            }
        }
        self.dialling.drain(..).for_each(Waker::wake);
    }
}

impl SimulatedNetwork {
    /// A network without links that are cut.
    pub fn new(seed: u64, trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            draw: Draw::from_seed(seed),
            trace,
            weather: Weather::default(),
            local: BTreeMap::new(),
            cut: BTreeMap::new(),
            without_power: BTreeSet::new(),
            late_answers: BTreeSet::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            next: 0,
            dialling: Vec::new(),
            counts: Counts::default(),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// The network as one node has it.
    pub fn at(&self, node: u8) -> Arc<dyn GivenTransport> {
        Arc::new(Place { network: self.clone(), node })
    }

    /// How all links behave that nothing else was said of.
    pub fn set_weather(&self, weather: Weather) {
        self.inner().weather = weather;
    }

    /// How one direction of one link behaves; none: as all others.
    pub fn set_local_weather(&self, from: u8, to: u8, weather: Option<Weather>) {
        let mut inner = self.inner();
        match weather {
            Some(weather) => inner.local.insert((from, to), weather),
            None => inner.local.remove(&(from, to)),
        };
    }

    /// Nothing arrives from `from` at `to` any more.
    pub fn cut(&self, from: u8, to: u8) {
        self.inner().cut.entry((from, to)).or_insert_with(now);
    }

    /// It does again.
    pub fn mend(&self, from: u8, to: u8) {
        let mut inner = self.inner();
        let mended = inner.cut.remove_entry(&(from, to)).into_iter().collect();
        inner.release(&mended);
    }

    /// All links are whole and quick.
    pub fn mend_all(&self) {
        let mut inner = self.inner();
        let mended = std::mem::take(&mut inner.cut);
        inner.local.clear();
        inner.late_answers.clear();
        inner.weather = Weather::default();
        inner.release(&mended);
    }

    /// The machine of a node loses power: nobody is told.
    pub fn power_off(&self, node: u8) {
        self.inner().without_power.insert(node);
    }

    /// It is on again, and knows nothing of its connections.
    pub fn power_on(&self, node: u8) {
        let mut inner = self.inner();
        if !inner.without_power.remove(&node) {
            return;
        }
        let old: Vec<(u64, usize)> = inner
            .connections
            .iter()
            .filter_map(|(number, connection)| {
                let side = connection.ends.iter().position(|end| *end == node)?;
                Some((*number, 1 - side))
            })
            .collect();
        for (number, side) in old {
            let time = now() + inner.travel(node, node);
            inner.reset(number, side, time);
        }
        inner.dialling.drain(..).for_each(Waker::wake);
    }

    /// Every connection between the two is reset at both ends, with what is on its way.
    pub fn reset_between(&self, one: u8, other: u8) -> usize {
        let mut inner = self.inner();
        let between =
            |connection: &Connection| connection.ends == [one, other] || connection.ends == [other, one];
        let numbers: Vec<u64> =
            inner.connections.iter().filter(|(_, connection)| between(connection)).map(|(n, _)| *n).collect();
        for number in &numbers {
            for side in 0..2 {
                inner.reset(*number, side, now());
            }
        }
        numbers.len()
    }

    /// Whether answers come late over connections that `from` makes to `to` from now on.
    pub fn set_late_answers(&self, from: u8, to: u8, late: bool) {
        let mut inner = self.inner();
        if late {
            inner.late_answers.insert([from, to]);
        } else {
            inner.late_answers.remove(&[from, to]);
        }
    }

    /// Nothing arrives at a node for a while over the connections that it has now, for each of them another while; new
    /// ones flow: so it is when single packets of each are lost again and again. Says how many there are.
    pub fn stall_towards(&self, node: u8, least_ms: u64, most_ms: u64) -> usize {
        let mut inner = self.inner();
        let with_node = |connection: &Connection| connection.ends.iter().position(|end| *end == node);
        let sides: Vec<(u64, usize)> =
            inner.connections.iter().filter_map(|(number, c)| Some((*number, 1 - with_node(c)?))).collect();
        for (number, side) in &sides {
            let until = now() + Duration::from_millis(least_ms + inner.draw.below(most_ms - least_ms + 1));
            let Some(connection) = inner.connections.get_mut(number) else { continue };
            let pipe = &mut connection.pipes[*side];
            for (due, _) in &mut pipe.packets {
                *due = due.map(|due| due.max(until));
            }
            pipe.last = Some(pipe.last.map_or(until, |last| last.max(until)));
        }
        sides.len()
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.inner().counts
    }
}

struct Place {
    network: SimulatedNetwork,
    node: u8,
}

impl GivenTransport for Place {
    fn connect(&self, address: &str) -> Dialling {
        let (network, from) = (self.network.clone(), self.node);
        let address: Result<SocketAddr, _> = address.parse();
        Box::pin(async move {
            let address = address.map_err(io::Error::other)?;
            let to = node_at(address);
            std::future::poll_fn(|cx| network.poll_reachable(from, to, cx)).await;
            let there = now() + network.inner().travel(from, to);
            sleep_until(there).await;
            std::future::poll_fn(|cx| network.poll_reachable(from, to, cx)).await;
            let back = now() + network.inner().travel(to, from);
            let stream = network.establish(from, address);
            sleep_until(back).await;
            stream.map(|stream| Box::new(stream) as Box<dyn GivenStream>)
        })
    }

    fn bind(&self, address: SocketAddr) -> io::Result<(Box<dyn GivenListener>, SocketAddr)> {
        let mut inner = self.network.inner();
        if inner.listeners.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        inner.next += 1;
        let serial = inner.next;
        inner.listeners.insert(address, Listening { serial, ..Listening::default() });
        let listener = SimulatedListener { network: self.network.clone(), address, serial };
        Ok((Box::new(listener), address))
    }
}

impl SimulatedNetwork {
    fn poll_reachable(&self, from: u8, to: u8, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner();
        if inner.is_cut(from, to) || inner.is_cut(to, from) || inner.without_power.contains(&to) {
            inner.dialling.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn establish(&self, from: u8, address: SocketAddr) -> io::Result<SimulatedStream> {
        let mut inner = self.inner();
        if !inner.listeners.contains_key(&address) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        inner.next += 1;
        let number = inner.next;
        let connection = Connection {
            ends: [from, node_at(address)],
            pipes: Default::default(),
            reset: [None; 2],
            dropped: [false; 2],
        };
        inner.connections.insert(number, connection);
        let end = |side| SimulatedStream { network: self.clone(), number, side, alarm: None };
        let port = 40_000 + (number % 20_000) as u16;
        let here = SocketAddr::new(address_of(from).ip(), port);
        if let Some(listening) = inner.listeners.get_mut(&address) {
            listening.waiting.push_back((Box::new(end(1)), here));
            listening.sleeper.take().into_iter().for_each(Waker::wake);
        }
        Ok(end(0))
    }
}

struct SimulatedListener {
    network: SimulatedNetwork,
    address: SocketAddr,
    serial: u64,
}

impl GivenListener for SimulatedListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>> {
        let mut inner = self.network.inner();
        let Some(listening) = inner.listeners.get_mut(&self.address) else { return Poll::Pending };
        match listening.waiting.pop_front() {
            Some(accepted) => Poll::Ready(Ok(accepted)),
            None => {
                listening.sleeper = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for SimulatedListener {
    fn drop(&mut self) {
        let removed = {
            let mut inner = self.network.inner();
            let ours = inner.listeners.get(&self.address).is_some_and(|l| l.serial == self.serial);
            if ours { inner.listeners.remove(&self.address) } else { None }
        };
        drop(removed); // its streams take the lock
    }
}

struct SimulatedStream {
    network: SimulatedNetwork,
    number: u64,
    /// 0: it dialled.
    side: usize,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl SimulatedStream {
    /// Wakes the task at that time.
    fn set_alarm(&mut self, at: Instant, cx: &mut Context<'_>) {
        match &mut self.alarm {
            Some(alarm) => alarm.as_mut().reset(at),
            None => self.alarm = Some(Box::pin(sleep_until(at))),
        }
        if let Some(alarm) = &mut self.alarm
            && alarm.as_mut().poll(cx).is_ready()
        {
            cx.waker().wake_by_ref();
        }
    }
}

impl AsyncRead for SimulatedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let now = now();
        let alarm = {
            let mut inner = this.network.inner();
            let Some(connection) = inner.connections.get_mut(&this.number) else {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            };
            let reset = connection.reset[this.side];
            let pipe = &mut connection.pipes[1 - this.side];
            let mut read = false;
            while let Some((Some(due), bytes)) = pipe.packets.front_mut()
                && *due <= now
                && into.remaining() > 0
            {
                read = true;
                if bytes.is_empty() {
                    break; // the end, and it stays
                }
                let count = bytes.len().min(into.remaining());
                into.put_slice(&bytes[..count]);
                pipe.bytes -= count;
                if count < bytes.len() {
                    bytes.drain(..count);
                } else {
                    pipe.packets.pop_front();
                }
            }
            if read {
                pipe.writer.take().into_iter().for_each(Waker::wake);
                return Poll::Ready(Ok(()));
            }
            if reset.is_some_and(|at| at <= now) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            pipe.reader = Some(cx.waker().clone());
            let due = pipe.packets.front().and_then(|(due, _)| *due);
            due.into_iter().chain(reset).min()
        };
        if let Some(at) = alarm {
            this.set_alarm(at, cx);
        }
        Poll::Pending
    }
}

impl AsyncWrite for SimulatedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let now = now();
        let mut inner = self.network.inner();
        let Some(connection) = inner.connections.get_mut(&self.number) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if connection.reset[self.side].is_some_and(|at| at <= now) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let pipe = &mut connection.pipes[self.side];
        if pipe.bytes >= PIPE_BYTES_MAX {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (from, to) = (connection.ends[self.side], connection.ends[1 - self.side]);
        if connection.dropped[1 - self.side] && !inner.is_cut(from, to) && !inner.without_power.contains(&to)
        {
            // Whoever gets this has no such connection, and says so.
            let back = now + inner.travel(from, to) + inner.travel(to, from);
            inner.reset(self.number, self.side, back);
        }
        inner.send(self.number, self.side, bytes.to_vec());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.network.inner().send(self.number, self.side, Vec::new());
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimulatedStream {
    fn drop(&mut self) {
        let mut inner = self.network.inner();
        inner.send(self.number, self.side, Vec::new());
        if let Some(connection) = inner.connections.get_mut(&self.number) {
            connection.dropped[self.side] = true;
            if connection.dropped == [true; 2] {
                inner.connections.remove(&self.number);
            }
        }
    }
}
