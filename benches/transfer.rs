//! What one transfer moves: a million items of 100 bytes in one partition, from one node to another, each a process
//! of its own with its data on disk. The second takes the place of the first, so the one partition with data in it
//! goes by an ownership transfer while nothing else happens.
//!
//! Run: `cargo bench --bench transfer` (half a minute to fill the partition, 1 GB of temporary disk).

use ringwork::chat::{Chat, ChatConfig, ChatItem, Content, MessageId};
use ringwork::core::clock::hybrid::HybridTime;
use ringwork::core::quorum::{Count, QuorumDefaults, Verdict};
use ringwork::core::ring::RingSize;
use ringwork::runtime::administration::{Administration, Change};
use ringwork::runtime::node::{ClusterOptions, Keep, Node, NodeOptions};
use ringwork::runtime::spawner::Placement;
use ringwork::server::trial_options;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ITEMS: u64 = 1_000_000;
const ITEM_BYTES: usize = 100;
const AT_ONCE: usize = 256;
const RECEIVER: &str = "--receiver";
const SENDER_ADDRESS: &str = "127.0.0.1:28199";
const RECEIVER_ADDRESS: &str = "127.0.0.2:28199";

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().collect();
    let receives = arguments.iter().position(|argument| argument == RECEIVER);
    actix_rt::System::new().block_on(async {
        match receives.and_then(|at| arguments.get(at + 1)) {
            Some(directory) => receive(Path::new(directory)).await,
            None => send().await,
        }
    })
}

async fn node(
    name: &str,
    listen: &str,
    seeds: Vec<String>,
    directory: &Path,
) -> Result<Node, Box<dyn Error>> {
    let listen: SocketAddr = listen.parse()?;
    let options = NodeOptions {
        name: name.to_owned(),
        keep: Keep::Directory { path: directory.to_owned(), cache_bytes: 64 << 20 },
        ring_size: RingSize::try_from(8)?,
        cluster: Some(ClusterOptions { listen, advertise: None, seeds, location: None }),
        quorum: QuorumDefaults { n_val: 1, r: Count::One, w: Count::One },
        ..trial_options(Placement::Own(1))
    };
    Ok(Node::builder(options).service::<Chat>(ChatConfig::default()).start().await?)
}

/// The second process: a node, and its CPU time for every line that it reads.
async fn receive(directory: &Path) -> Outcome {
    let node = node("receiver", RECEIVER_ADDRESS, vec![SENDER_ADDRESS.to_owned()], directory).await?;
    let asked = actix_rt::task::spawn_blocking(|| {
        for line in std::io::stdin().lines() {
            if line.is_err() || writeln!(std::io::stdout(), "{}", cpu_time().as_millis()).is_err() {
                return;
            }
        }
    });
    asked.await?;
    node.stop(Duration::from_secs(30)).await?;
    Ok(())
}

struct Receiver {
    process: Child,
    asks: ChildStdin,
    says: BufReader<std::process::ChildStdout>,
}

impl Receiver {
    fn start(directory: &Path) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(RECEIVER).arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (asks, says) = pipes.ok_or("the receiver has no pipes")?;
        Ok(Self { process, asks, says: BufReader::new(says) })
    }

    fn cpu_time(&mut self) -> Result<Duration, Box<dyn Error>> {
        writeln!(self.asks)?;
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        Ok(Duration::from_millis(line.trim().parse()?))
    }
}

async fn send() -> Outcome {
    let directory = tempfile::tempdir()?;
    let node = node("sender", SENDER_ADDRESS, Vec::new(), &directory.path().join("sender")).await?;
    fill(&node).await?;
    let mut receiver = Receiver::start(&directory.path().join("receiver"))?;
    let administration = node.administration();
    let staged = |administration: &dyn Administration| {
        administration.cluster_status().staged.iter().any(|change| change.kind == "join")
    };
    while !staged(&*administration) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    administration.stage(Change::Replace { old: "sender".into(), new: "receiver".into() }).await?;
    administration.plan().await?;
    quiet().await;
    let clock = &node.core().clock;
    let (begun, ours, theirs) = (clock.moment(), cpu_time(), receiver.cpu_time()?);
    administration.commit().await?;
    let moved = || {
        let totals = node.core().handoff.snapshot().totals;
        totals
            .iter()
            .find(|((_, kind), totals)| *kind == "ownership" && totals.completed > 0)
            .map(|(_, totals)| *totals)
    };
    let totals = loop {
        match moved() {
            Some(totals) => break totals,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let took = clock.moment() - begun;
    let (ours, theirs) = (cpu_time() - ours, receiver.cpu_time()? - theirs);
    let items = totals.amount.items;
    let of_item = |time: Duration| time.as_secs_f64() * 1e6 / items as f64;
    writeln!(
        std::io::stdout(),
        "{items} items, {} bytes in {took:.2?} from the commit: {:.0} items/s; CPU per item: {:.2} µs at the sender, \
         {:.2} µs at the receiver",
        totals.amount.bytes,
        items as f64 / took.as_secs_f64(),
        of_item(ours),
        of_item(theirs),
    )?;
    receiver.process.kill()?;
    receiver.process.wait()?;
    Ok(())
}

/// Sends all messages to one user, which is one key, in one partition.
async fn fill(node: &Node) -> Outcome {
    let chat = node.service::<Chat>().ok_or("chat is not hosted")?;
    let mut waiting = Vec::new();
    for number in 0..ITEMS {
        let id = MessageId::from_stamp(node.core().stamp_above(HybridTime::default()));
        let content = Content { text: format!("{number:08} {}", "x".repeat(ITEM_BYTES - 9)), from: None };
        let item = ChatItem::Message { user: "ann".to_owned(), id, content };
        let chat = chat.clone();
        waiting.push(actix_rt::spawn(async move { Ok(chat.key(b"ann").merge(item).await?.verdict) }));
        if waiting.len() == AT_ONCE || number + 1 == ITEMS {
            for send in waiting.drain(..) {
                let verdict: Result<Verdict, ringwork::core::quorum::ImpossibleQuorum> = send.await?;
                if verdict? != Verdict::Done {
                    return Err("a send was not done".into());
                }
            }
        }
    }
    quiet().await;
    Ok(())
}

/// Flushes and compactions that the filling has left would be counted as the transfer's cost.
async fn quiet() {
    let mut before = cpu_time();
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = cpu_time();
        if now - before < Duration::from_millis(50) {
            return;
        }
        before = now;
    }
}

/// User and system time of this process, from the kernel's own account (in hundredths of a second).
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}
