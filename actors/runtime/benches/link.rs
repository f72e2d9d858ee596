//! What a request and its reply cost between two nodes: two processes on loopback, one thread each, so many requests
//! under way at a time. It decides nothing; it prints CPU time per pair, asker and answerer apart, and how many
//! frames shared a write. With nothing outstanding it prints what two idle connections cost.
//!
//! `cargo bench -p ringwork-runtime --bench link -- [--seconds 3] [--outstanding 64] [--bytes 170] [--calls]`

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a bench that cannot go on has failed
#![allow(clippy::print_stdout)] // its figures are its purpose

use ringwork_core::ids::{Boot, ClusterId, NodeId};
use ringwork_core::ring::RingSize;
use ringwork_runtime::net::{
    Channel, Incoming, LinkError, LocalHello, MemberCheck, Network, NetworkHandler, NetworkLimits,
    NetworkOptions, PeerSpec, Responder, Sender,
};
use ringwork_runtime::randomness::Randomness;
use ringwork_runtime::spawner::{Placement, Spawner};
use ringwork_runtime::telemetry::Telemetry;
use ringwork_runtime::time::Clock;
use std::cell::{Cell, RefCell};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const WITHIN: Duration = Duration::from_secs(10);

/// Answers with a few bytes, as a replica acknowledges a merge.
struct Answerer;

impl NetworkHandler for Answerer {
    fn serve(&self, _: &Sender, incoming: Incoming, respond: Option<Responder>) {
        if let Some(respond) = respond {
            let answer = incoming.body.first().copied().unwrap_or_default();
            let _ = respond.reply(1, |out| {
                out.extend_from_slice(&[answer; 8]);
                Ok(())
            });
        }
    }

    fn connected(&self, _: NodeId, _: Channel) {}

    fn lost(&self, _: NodeId, _: Channel, _: &str, _: bool) {}

    fn is_member(&self, _: NodeId) -> MemberCheck {
        MemberCheck::Member
    }

    fn local(&self) -> LocalHello {
        LocalHello { cluster: ClusterId([7; 16]), ring_size: RingSize::try_from(64).unwrap() }
    }
}

fn start(number: u8) -> (Network, Arc<Telemetry>) {
    let options = NetworkOptions {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        node: NodeId([number; 16]),
        name: format!("n{number}"),
        boot: Boot(1),
        limits: NetworkLimits::default(),
        transport: ringwork_runtime::net::Transport::tcp(),
    };
    let spawner = Spawner::start(Placement::Here, 1, 1).unwrap();
    let telemetry = Arc::new(Telemetry::default());
    let (clock, randomness) = (Clock::system(), Randomness::system());
    let network =
        Network::start(options, Arc::new(Answerer), spawner, clock, randomness, telemetry.clone()).unwrap();
    (network, telemetry)
}

fn spec(number: u8, address: &str) -> PeerSpec {
    PeerSpec { node: NodeId([number; 16]), name: format!("n{number}"), address: address.to_owned() }
}

/// CPU time of all threads of a process, in nanoseconds.
fn cpu_ns(process: u32) -> u64 {
    let mut total = 0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten() {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        total += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    total
}

struct Load {
    network: Network,
    bytes: usize,
    done: Cell<u64>,
    stop: Cell<bool>,
}

thread_local! {
    // Everything runs on one thread; replies find the load here.
    static LOAD: RefCell<Option<std::rc::Rc<Load>>> = const { RefCell::new(None) };
}

/// Asks, and asks again when the reply is there: the leanest way to use a connection.
fn ask(load: &Load) {
    let encode = |out: &mut Vec<u8>| {
        out.resize(out.len() + load.bytes, 42);
        Ok(())
    };
    let told = |reply: Result<Incoming, LinkError>| {
        let load = LOAD.with(|load| load.borrow().clone());
        if let Some(load) = load.filter(|load| !load.stop.get()) {
            assert_eq!(reply.unwrap().body.len(), 8);
            load.done.set(load.done.get() + 1);
            ask(&load);
        }
    };
    load.network.request(NodeId([2; 16]), Channel::Request, 1, 1, WITHIN, encode, told).unwrap();
}

/// The same from a task: each request costs a channel and a wake-up more.
async fn ask_from_a_task(load: std::rc::Rc<Load>) {
    while !load.stop.get() {
        let encode = |out: &mut Vec<u8>| {
            out.resize(out.len() + load.bytes, 42);
            Ok(())
        };
        let call = load.network.call(NodeId([2; 16]), Channel::Request, 1, 1, WITHIN, encode);
        let reply = call.await;
        if load.stop.get() {
            return;
        }
        assert_eq!(reply.unwrap().body.len(), 8);
        load.done.set(load.done.get() + 1);
    }
}

fn answerer() -> (Child, String) {
    let me = std::env::current_exe().unwrap();
    let mut child =
        Command::new(me).arg("--answer").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    (child, address.trim().to_owned())
}

fn argument(name: &str, default: u64) -> u64 {
    let all: Vec<String> = std::env::args().collect();
    let given = all.iter().position(|argument| argument == name).and_then(|at| all.get(at + 1));
    given.map_or(default, |text| text.parse().expect("a number"))
}

fn main() {
    let flag = |name: &str| std::env::args().any(|argument| argument == name);
    if flag("--answer") {
        return actix_rt::System::new().block_on(async {
            let (network, _) = start(2);
            network.set_peers(vec![spec(1, "127.0.0.1:1")]);
            println!("{}", network.local_address());
            // Ends when the asker does: it holds the other end of our standard input.
            let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await;
        });
    }
    let (seconds, outstanding) = (argument("--seconds", 3), argument("--outstanding", 64));
    let bytes = argument("--bytes", 170) as usize;
    let (mut child, address) = answerer();
    actix_rt::System::new().block_on(async {
        let (network, telemetry) = start(1);
        network.set_peers(vec![spec(2, &address)]);
        while !network.is_connected(NodeId([2; 16]), Channel::Request) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let load =
            std::rc::Rc::new(Load { network, bytes, done: Cell::new(0), stop: Cell::new(false) });
        LOAD.with(|slot| *slot.borrow_mut() = Some(load.clone()));
        for _ in 0..outstanding {
            if flag("--calls") {
                actix_rt::spawn(ask_from_a_task(load.clone()));
            } else {
                ask(&load);
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let clock = Clock::system();
        let read = || {
            let frames = (telemetry.frames_sent.value(), telemetry.link_writes.value());
            (load.done.get(), clock.moment(), cpu_ns(std::process::id()), cpu_ns(child.id()), frames)
        };
        let before = read();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let after = read();
        load.stop.set(true);
        let (done, elapsed_s) = ((after.0 - before.0) as f64, (after.1 - before.1).as_secs_f64());
        let (asker, answerer) = ((after.2 - before.2) as f64, (after.3 - before.3) as f64);
        if outstanding == 0 {
            let (asker_us, answerer_us) = (asker / elapsed_s / 1000.0, answerer / elapsed_s / 1000.0);
            return println!("idle: CPU per second {asker_us:.0} us and {answerer_us:.0} us, for two connections");
        }
        println!(
            "{outstanding} outstanding, {bytes} bytes: {:.0} pairs/s; CPU per pair: asker {:.2} us, answerer {:.2} us; \
             {:.1} frames in a write",
            done / elapsed_s,
            asker / done / 1000.0,
            answerer / done / 1000.0,
            (after.4.0 - before.4.0) as f64 / (after.4.1 - before.4.1).max(1) as f64,
        );
    });
    let _ = child.kill();
    let _ = child.wait();
}
