//! The load itself: connections that send, wait and count, for one phase against one set of servers. It
//! decides when a connection sends, when it gives up on an answer, and what counts as what. It does not know
//! what a request says, nor what is made of the figures.

use super::Monotonic;
use super::http::ResponseParser;
use super::processor::{Processes, own_time};
use super::request::{Mixture, RequestMaker, Sizes, Texts};
use super::tally::Tally;
use super::tenths::Tenths;
use super::timetable::{Lane, Pacer, Timetable};
use crate::cli::client::CliError;
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a connection that failed: a dead node is not hammered, a restarted one is met soon.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_millis(500);
/// What is read at once. A page of twenty short messages fits, so most answers are one read.
const READ_BYTES: usize = 16 * 1024;

/// A server that is loaded.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// What the `Host` header says.
    pub(super) authority: String,
    /// Where it was reached when it was first asked.
    pub(super) address: SocketAddr,
}

/// How to load, whatever is loaded.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) clock: Monotonic,
    pub(super) connections: usize,
    /// Operations per second of an open loop; without it the loop is closed.
    pub(super) rate: Option<f64>,
    pub(super) answer_timeout: Duration,
    pub(super) sizes: Sizes,
    pub(super) texts: Rc<Texts>,
}

/// What came of one measured phase.
#[derive(Debug)]
pub(super) struct Phase {
    pub(super) tally: Tally,
    /// Operations answered within the phase; the tally also has those that were under way at its end.
    pub(super) answered: u64,
    pub(super) elapsed: Duration,
    /// CPU time of the servers, or why it is not known.
    pub(super) server_time: Result<Duration, String>,
    pub(super) own_time: Option<Duration>,
    /// Operations of an open loop that were due, and for which no connection was free until the end.
    pub(super) not_started: u64,
}

/// What the connections of a phase share.
struct Shared {
    load: Load,
    timetable: Option<Timetable>,
    stopped: Cell<bool>,
    /// How many operations may still begin, where their number and not the time ends the phase.
    remaining: Cell<Option<u64>>,
    tally: RefCell<Tally>,
}

impl Shared {
    fn new(load: &Load, timetable: Option<Timetable>, remaining: Option<u64>) -> Result<Rc<Self>, CliError> {
        let tally = RefCell::new(Tally::new()?);
        let (stopped, remaining) = (Cell::new(false), Cell::new(remaining));
        Ok(Rc::new(Self { load: load.clone(), timetable, stopped, remaining, tally }))
    }

    /// Whether another operation may begin; if so, it has.
    fn may_begin(&self) -> bool {
        let left = self.remaining.get();
        self.remaining.set(left.map(|left| left.saturating_sub(1)));
        !self.stopped.get() && left != Some(0)
    }
}

fn connect_all(
    shared: &Rc<Shared>,
    targets: &[Target],
    mixture: Mixture,
    lanes: &[Rc<Lane>],
    seed: u64,
) -> JoinSet<()> {
    let load = &shared.load;
    let mut tasks = JoinSet::new();
    // Connection i goes to target i modulo their number, so every target has its share.
    for (number, (target, lane)) in (0..load.connections as u64).zip(targets.iter().zip(lanes).cycle()) {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(number);
        let maker = RequestMaker::new(mixture, load.sizes, &target.authority, load.texts.clone(), seed);
        let connection = Connection {
            shared: shared.clone(),
            address: target.address,
            lane: lane.clone(),
            maker,
            parser: ResponseParser::new(),
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        };
        tasks.spawn_local(connection.run());
    }
    tasks
}

/// Sends `operations` as fast as the connections allow, and measures nothing but what failed.
pub(super) async fn fill(
    load: &Load,
    targets: &[Target],
    mixture: Mixture,
    operations: u64,
) -> Result<Tally, CliError> {
    let shared = Shared::new(load, None, Some(operations))?;
    let lanes: Vec<Rc<Lane>> = lanes(targets.len());
    let mut tasks = connect_all(&shared, targets, mixture, &lanes, 0);
    while tasks.join_next().await.is_some() {}
    let fresh = Tally::new()?;
    Ok(shared.tally.replace(fresh))
}

/// Loads `targets` for the warm-up and then for `duration`, which is measured.
pub(super) async fn measure(
    load: &Load,
    targets: &[Target],
    processes: &Processes,
    mixture: Mixture,
    (warm_up, duration): (Duration, Duration),
    seed: u64,
) -> Result<Phase, CliError> {
    let clock = load.clock;
    let timetable = load.rate.map(|rate| Timetable::new(clock.now(), rate));
    let shared = Shared::new(load, timetable, None)?;
    let lanes = lanes(targets.len());
    let pacer = timetable.map(|timetable| Pacer::start(clock, timetable, lanes.clone()));
    let mut tasks = connect_all(&shared, targets, mixture, &lanes, seed);

    tokio::time::sleep(warm_up).await;
    let mut fresh = Tally::new()?;
    let (server_before, own_before, began) = (processes.time(), own_time(), clock.now());
    fresh.tenths = timetable.map(|_| Tenths::new(began, duration));
    shared.tally.replace(fresh);
    tokio::time::sleep(duration).await;
    let (server_after, own_after, ended) = (processes.time(), own_time(), clock.now());
    let answered = shared.tally.borrow().answered();

    shared.stopped.set(true);
    drop(pacer);
    // Permits are left only where no connection of the lane waits for one.
    let not_started = lanes.iter().map(|lane| lane.due.available_permits() as u64).sum();
    lanes.iter().for_each(|lane| lane.due.close());
    // Requests under way are waited for: those of a node that stalls at the end are the slowest of all, and
    // leaving them out would hide just that.
    let drain = load.answer_timeout.saturating_add(Duration::from_secs(1));
    let _ = tokio::time::timeout(drain, async { while tasks.join_next().await.is_some() {} }).await;

    let fresh = Tally::new()?;
    Ok(Phase {
        tally: shared.tally.replace(fresh),
        answered,
        elapsed: ended.saturating_sub(began),
        server_time: server_before.and_then(|before| Ok(server_after?.saturating_sub(before))),
        own_time: own_before.and_then(|before| Some(own_after?.saturating_sub(before))),
        not_started,
    })
}

fn lanes(count: usize) -> Vec<Rc<Lane>> {
    let count = count as u64;
    (0..count).map(|index| Rc::new(Lane::new(index, count))).collect()
}

struct Connection {
    shared: Rc<Shared>,
    address: SocketAddr,
    lane: Rc<Lane>,
    maker: RequestMaker,
    parser: ResponseParser,
    buffer: Box<[u8]>,
}

/// Why a connection is not used further.
enum Broken {
    /// The server closed it between two requests, as servers may.
    Idle,
    /// After an answer that said so.
    Announced,
    /// With a request under way, or before the first.
    Failed,
    /// The phase is over.
    Stopped,
}

impl Connection {
    async fn run(mut self) {
        let mut back_off = BACK_OFF_MIN;
        while !self.shared.stopped.get() {
            let broken = match connect(self.address).await {
                Ok(mut stream) => self.use_up(&mut stream, &mut back_off).await,
                Err(reason) => {
                    self.shared.tally.borrow_mut().failed(&format!("cannot connect: {reason}"));
                    Broken::Failed
                }
            };
            match broken {
                Broken::Stopped => return,
                Broken::Idle | Broken::Announced => self.shared.tally.borrow_mut().reconnected(),
                // A phase that ends by number and not by time would wait for ever for a node that is gone.
                Broken::Failed if back_off == BACK_OFF_MAX && self.shared.remaining.get().is_some() => return,
                Broken::Failed => {
                    tokio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
    }

    async fn use_up(&mut self, stream: &mut TcpStream, back_off: &mut Duration) -> Broken {
        loop {
            let scheduled = match self.turn(stream).await {
                Ok(scheduled) => scheduled,
                Err(broken) => return broken,
            };
            let operation = self.maker.next();
            let clock = self.shared.load.clock;
            // In an open loop the clock runs from when the request was due: had it to wait for a free
            // connection, so would a user have had to. In a closed loop there is no such moment.
            let began = scheduled.unwrap_or_else(|| clock.now());
            match tokio::time::timeout(self.shared.load.answer_timeout, self.exchange(stream)).await {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => {
                    // The request may have been carried out or not.
                    self.shared.tally.borrow_mut().failed(&format!("{reason} (unknown)"));
                    return Broken::Failed;
                }
                Err(_) => {
                    let mut tally = self.shared.tally.borrow_mut();
                    tally.timed_out(operation, began, clock.now().saturating_sub(began));
                    return Broken::Failed;
                }
            }
            *back_off = BACK_OFF_MIN;
            let mut tally = self.shared.tally.borrow_mut();
            if self.parser.is_success() {
                let latency = clock.now().saturating_sub(began);
                tally.answered_after(operation, began, latency, self.parser.bytes());
            } else {
                tally.failed(&self.parser.refusal());
            }
            if self.parser.closes() {
                return Broken::Announced;
            }
        }
    }

    /// Waits until this connection is to send; says since when, if that was not just now.
    async fn turn(&mut self, stream: &TcpStream) -> Result<Option<Duration>, Broken> {
        let Some(timetable) = self.shared.timetable else {
            return if self.shared.may_begin() { Ok(None) } else { Err(Broken::Stopped) };
        };
        let was_idle = self.lane.due.available_permits() == 0;
        loop {
            tokio::select! {
                biased;
                permit = self.lane.due.acquire() => match permit {
                    Ok(permit) => {
                        permit.forget();
                        break;
                    }
                    Err(_) => return Err(Broken::Stopped),
                },
                // Nothing is to be read now but the end: a server closes connections that were idle for long,
                // and noticing it only when sending would count its housekeeping as a failure.
                _ = stream.readable() => match stream.try_read(&mut [0]) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    _ => return Err(Broken::Idle),
                }
            }
        }
        let scheduled = timetable.due(self.lane.take());
        if was_idle {
            let late = self.shared.load.clock.now().saturating_sub(scheduled);
            self.shared.tally.borrow_mut().sent_late_by(late);
        }
        Ok(Some(scheduled))
    }

    /// One request in one write, and its answer.
    async fn exchange(&mut self, stream: &mut TcpStream) -> Result<(), String> {
        let lost = |error: io::Error| format!("connection lost: {}", error.kind());
        self.parser.begin();
        stream.write_all(self.maker.bytes()).await.map_err(lost)?;
        loop {
            let count = stream.read(&mut self.buffer).await.map_err(lost)?;
            if count == 0 {
                return Err("connection lost: closed before the answer".to_owned());
            }
            let bytes = self.buffer.get(..count).unwrap_or_default();
            if self.parser.feed(bytes).map_err(|malformed| format!("unreadable answer: {malformed}"))? {
                return Ok(());
            }
        }
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    let stream =
        connecting.await.map_err(|_| "timed out".to_owned())?.map_err(|error| error.kind().to_string())?;
    // Nagle's algorithm would hold small requests back for answers to earlier ones.
    stream.set_nodelay(true).map_err(|error| error.kind().to_string())?;
    Ok(stream)
}

/// The first address of `host` that takes a connection: a name may stand for several, and not all need to
/// listen.
pub(super) async fn reach(host: &str, port: u16) -> Result<SocketAddr, String> {
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(|error| error.kind().to_string())?;
    let mut reason = "the name has no address".to_owned();
    for address in addresses {
        match connect(address).await {
            Ok(_) => return Ok(address),
            Err(failed) => reason = failed,
        }
    }
    Err(reason)
}
