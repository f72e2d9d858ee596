//! `ringwork bench`: loads nodes and prints what came of it, beside a bare echo server if one is named. It
//! decides the order of rounds, and refuses runs that could not mean anything. It does not know how a request
//! is sent (`load`), what it says (`request`), or how figures are shown (`report`).
//!
//! Everything runs on the one thread it is called on, apart from one that only waits (`timetable`).

use crate::cli::client::{
    CliError, DEFAULT_NODE_URL, NODE_VARIABLE, NodeClient, NodeUrl, json_line, write_line,
};
use awc::http::Method;
use std::io::Write;
use std::time::Duration;

mod http;
mod load;
mod processor;
mod report;
mod request;
mod tally;
mod tenths;
#[cfg(test)]
mod tests;
mod timetable;

use load::{Load, Target};
use processor::Processes;
use report::{Gatherer, Report};
use request::{Mixture, Sizes, Texts, UNIQUE_BYTES, USERS_MAX};

/// The clock that everything is measured with: time since some fixed moment, never running backwards. Handed
/// in, because only one place of the house reads the machine's.
#[derive(Debug, Clone, Copy)]
pub struct Monotonic(pub fn() -> Duration);

impl Monotonic {
    fn now(self) -> Duration {
        (self.0)()
    }
}

const CHAT_HELP: &str = "\
Without --rate the loop is closed: each connection sends as soon as its last answer is in. With
--rate operations are due on a fixed timetable, and latency counts from when an operation was due,
whether or not a connection was free then. --json then has the 99th percentiles of tenths of a
second, too (p99_of_tenths): their mean is steadier than the percentile of a whole round.

With --reference the servers named there (see benches/echo.rs) are loaded in turn with the nodes,
round by round, and the CPU time per answer is compared. CPU time is known of servers on this
machine that tell their process number; of several nodes it is the sum. A node that serves others'
requests only counts as well when it is named with --node.

Examples:
  ringwork bench chat --duration 10s --connections 64
  ringwork bench chat --rate 5000 --read-share 0.5 --node http://127.0.0.1:8110
  ringwork bench chat --node http://127.0.0.1:8110,http://127.0.0.1:8120,http://127.0.0.1:8130
  cargo bench --bench echo & ringwork bench chat --rounds 5 --reference http://127.0.0.1:8090";

const KV_HELP: &str = "\
Objects are put to /buckets/bench/keys/bench-NNNNNNN and read from there, with the properties that
the bucket has. Puts hand no causal context back: in a bucket that keeps siblings (allow_mult) they
pile up until puts are refused, so the bucket is to have the defaults.

Without --rate the loop is closed, with it open, and --reference compares the CPU time per answer
with that of an echo server, all as in `ringwork bench chat --help`.

Examples:
  ringwork bench kv --duration 10s --keys 100000
  ringwork bench kv --read-share 1 --rate 5000
  cargo bench --bench echo & ringwork bench kv --rounds 5 --reference http://127.0.0.1:8090";

const ECHO_HELP: &str = "\
What an echo server (see benches/echo.rs) costs with nobody beside it, as it is loaded by --reference
of the other workloads. Its tail differs most: what a node does after a round of its own is in the
tail of an echo that takes turns with it.

Without --rate the loop is closed, with it open, all as in `ringwork bench chat --help`.

Examples:
  cargo bench --bench echo & ringwork bench echo --node http://127.0.0.1:8090
  ringwork bench echo --node http://127.0.0.1:8090 --rate 17000 --rounds 10 --duration 1s";

/// Arguments of `ringwork bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ringwork bench chat --duration 5s --connections 16")]
pub struct BenchArguments {
    /// What to load.
    #[command(subcommand)]
    pub command: BenchCommand,
}

/// The workloads.
#[derive(Debug, clap::Subcommand)]
pub enum BenchCommand {
    /// Chat messages, sent and read.
    Chat(ChatBenchArguments),
    /// Objects, put and read.
    Kv(KvBenchArguments),
    /// An echo server, which is what nodes are compared with, alone.
    Echo(EchoBenchArguments),
}

/// How to load and what to load, whatever the workload is.
#[derive(Debug, clap::Args)]
pub struct LoadArguments {
    /// How long each round is measured.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// How long each round runs before it is measured.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = humantime::parse_duration)]
    pub warmup: Duration,
    /// Connections, spread over the nodes.
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub connections: u32,
    /// Operations per second over all connections; without it, as many as come back.
    #[arg(long, value_name = "R", value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// How often to measure; figures are medians over the rounds, latencies over all of them.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// How long to wait for an answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// An echo server to compare with; may be repeated.
    #[arg(long, value_name = "URL")]
    pub reference: Vec<String>,
    /// A node to load; may be repeated, and the load is spread over them.
    #[arg(long, value_name = "URL", env = NODE_VARIABLE, default_value = DEFAULT_NODE_URL,
          value_delimiter = ',')]
    pub node: Vec<String>,
    /// Print JSON with stable field names, for scripts.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `ringwork bench chat`.
#[derive(Debug, clap::Args)]
#[command(after_help = CHAT_HELP)]
pub struct ChatBenchArguments {
    /// How to load.
    #[command(flatten)]
    pub load: LoadArguments,
    /// Bytes of a message's text.
    #[arg(long, value_name = "BYTES", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(UNIQUE_BYTES as i64..=1_048_576))]
    pub value_size: u32,
    /// Users that messages are sent to, at random.
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u64).range(1..=USERS_MAX))]
    pub users: u64,
    /// Share of operations that read a user's messages.
    #[arg(long, value_name = "0.0..1.0", default_value_t = 0.0, value_parser = parse_share)]
    pub read_share: f64,
    /// Most messages that a read asks for.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: u32,
    /// Messages sent to each user beforehand; by default as many as a read asks for, and none if nothing is
    /// read.
    #[arg(long, value_name = "N")]
    pub prefill: Option<u32>,
}

/// Arguments of `ringwork bench kv`.
#[derive(Debug, clap::Args)]
#[command(after_help = KV_HELP)]
pub struct KvBenchArguments {
    /// How to load.
    #[command(flatten)]
    pub load: LoadArguments,
    /// Bytes of a value.
    #[arg(long, value_name = "BYTES", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(UNIQUE_BYTES as i64..=1_048_576))]
    pub value_size: u32,
    /// Keys that are put and read, at random.
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u64).range(1..=USERS_MAX))]
    pub keys: u64,
    /// Share of operations that read an object. If there is any, each key is put once beforehand.
    #[arg(long, value_name = "0.0..1.0", default_value_t = 0.0, value_parser = parse_share)]
    pub read_share: f64,
}

/// Arguments of `ringwork bench echo`.
#[derive(Debug, clap::Args)]
#[command(after_help = ECHO_HELP)]
pub struct EchoBenchArguments {
    /// How to load.
    #[command(flatten)]
    pub load: LoadArguments,
    /// Bytes of a message's text.
    #[arg(long, value_name = "BYTES", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(UNIQUE_BYTES as i64..=1_048_576))]
    pub value_size: u32,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=1_000_000.0).contains(rate));
    rate.ok_or_else(|| "a rate is a number of operations per second, up to a million".to_owned())
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a share is a number between 0.0 and 1.0".to_owned())
}

/// Runs a workload. The figures go to `output`, progress to `errors`.
pub async fn run(
    arguments: BenchArguments,
    clock: Monotonic,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), CliError> {
    match arguments.command {
        BenchCommand::Chat(ChatBenchArguments { load, value_size, users, read_share, limit, prefill }) => {
            let beforehand = prefill.unwrap_or(if read_share > 0.0 { limit } else { 0 });
            let mixture = Mixture::Chat { read_share };
            let sizes = Sizes { value: value_size as usize, users, limit };
            let workload = Workload { name: "chat", mixture, sizes, read_share, beforehand };
            measure(load, &workload, clock, output, errors).await
        }
        BenchCommand::Kv(KvBenchArguments { load, value_size, keys, read_share }) => {
            let mixture = Mixture::Kv { read_share };
            let sizes = Sizes { value: value_size as usize, users: keys, limit: 0 };
            let beforehand = u32::from(read_share > 0.0);
            let workload = Workload { name: "kv", mixture, sizes, read_share, beforehand };
            measure(load, &workload, clock, output, errors).await
        }
        BenchCommand::Echo(EchoBenchArguments { load, value_size }) => {
            let sizes = Sizes { value: value_size as usize, users: 1, limit: 0 };
            let workload =
                Workload { name: "echo", mixture: Mixture::Echo, sizes, read_share: 0.0, beforehand: 0 };
            measure(load, &workload, clock, output, errors).await
        }
    }
}

/// What nodes are asked for.
struct Workload {
    name: &'static str,
    mixture: Mixture,
    sizes: Sizes,
    read_share: f64,
    /// Writes to each user or key before anything is measured.
    beforehand: u32,
}

/// Servers that are loaded together, and how they are called in what is printed.
struct Group {
    name: &'static str,
    mixture: Mixture,
    targets: Vec<Target>,
    clients: Vec<(NodeUrl, NodeClient)>,
    figures: Gatherer,
}

impl Group {
    async fn reach(name: &'static str, mixture: Mixture, urls: &[String]) -> Result<Self, CliError> {
        let (mut targets, mut clients) = (Vec::new(), Vec::new());
        for url in urls {
            let (address, client) = (NodeUrl::parse(url)?, NodeClient::new(url)?);
            // Asked first by the client of all commands: what it says of a server that is not there is worth
            // reading.
            client.request(Method::GET, "/ping", &[], None).await?;
            let reached = load::reach(&address.host, address.port).await;
            let reached = reached
                .map_err(|reason| CliError::Failed(format!("cannot reach {}: {reason}", client.url())))?;
            targets.push(Target { authority: address.authority(), address: reached });
            clients.push((address, client));
        }
        let urls = clients.iter().map(|(_, client)| client.url().to_owned()).collect();
        Ok(Self { name, mixture, targets, clients, figures: Gatherer::new(urls)? })
    }
}

async fn measure(
    arguments: LoadArguments,
    workload: &Workload,
    clock: Monotonic,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), CliError> {
    let connections = arguments.connections as usize;
    let servers = arguments.node.len().max(arguments.reference.len());
    if connections < servers {
        let what =
            format!("--connections {connections} leaves some of {servers} servers without one; take more");
        return Err(CliError::Usage(what));
    }
    if arguments.duration < Duration::from_millis(100) {
        let what = "--duration is too short for CPU times, which count in hundredths of a second; take 100ms";
        return Err(CliError::Usage(what.to_owned()));
    }
    let mut groups = Vec::new();
    if !arguments.reference.is_empty() {
        groups.push(Group::reach("reference", Mixture::Echo, &arguments.reference).await?);
    }
    let nodes = Group::reach(report::loaded(workload.name), workload.mixture, &arguments.node).await?;

    // Another run is to send other texts, even one of the same process.
    let nonce =
        (u64::from(std::process::id()) << 40) ^ u64::try_from(clock.now().as_nanos()).unwrap_or(u64::MAX);
    let load = Load {
        clock,
        connections,
        rate: arguments.rate,
        answer_timeout: arguments.timeout,
        sizes: workload.sizes,
        texts: Texts::new(nonce, workload.sizes.value),
    };
    if workload.beforehand > 0 {
        fill(&load, &nodes.targets, workload, errors).await?;
    }
    groups.push(nodes);

    let spans = (arguments.warmup, arguments.duration);
    for round in 1..=u64::from(arguments.rounds) {
        for group in &mut groups {
            // Asked each time: a node that was restarted in between is another process.
            let processes = Processes::of(&group.clients).await;
            let mut phase =
                load::measure(&load, &group.targets, &processes, group.mixture, spans, round).await?;
            let figures = group.figures.add(&mut phase)?;
            let cpu =
                figures.cpu_us_per_operation.map(|cpu| format!(", {cpu:.1} µs CPU each")).unwrap_or_default();
            let (name, rounds, rate) = (group.name, arguments.rounds, figures.answered_per_second);
            let failed = phase.tally.failed_count();
            let _ = writeln!(
                errors,
                "round {round} of {rounds}, {name}: {rate:.0} answers/s{cpu}, {failed} failed"
            );
        }
    }

    let mut series = groups.into_iter().rev().map(|group| group.figures.finish());
    let Some(node) = series.next() else { return Ok(()) };
    let reference = series.next();
    let cpu_ratio = reference.as_ref().and_then(|reference| report::cpu_ratio(&node, reference));
    let p99_ratio = reference.as_ref().and_then(|reference| report::p99_ratio(&node, reference));
    let nothing_answered = node.is_empty();
    let (sizes, is) = (workload.sizes, |name| workload.name == name);
    let report = Report {
        workload: workload.name,
        r#loop: if arguments.rate.is_some() { "open" } else { "closed" },
        connections,
        rate_per_second: arguments.rate,
        seconds: arguments.duration.as_secs_f64(),
        warm_up_seconds: arguments.warmup.as_secs_f64(),
        value_bytes: sizes.value,
        users: is("chat").then_some(sizes.users),
        keys: is("kv").then_some(sizes.users),
        read_share: workload.read_share,
        limit: is("chat").then_some(sizes.limit),
        node,
        reference,
        cpu_ratio,
        p99_ratio,
    };
    if arguments.json {
        let value = serde_json::to_value(&report)
            .map_err(|error| CliError::Failed(format!("cannot write the figures as JSON: {error}")))?;
        write_line(output, &json_line(&value))?;
    } else {
        report.write(output)?;
    }
    if nothing_answered {
        return Err(CliError::Failed("no operation succeeded; the failures above say why".to_owned()));
    }
    Ok(())
}

async fn fill(
    load: &Load,
    targets: &[Target],
    workload: &Workload,
    errors: &mut dyn Write,
) -> Result<(), CliError> {
    let (each, many) = (workload.beforehand, load.sizes.users);
    let (one, what) = if workload.name == "kv" {
        ("object could be put", format!("putting {many} objects beforehand"))
    } else {
        ("message could be sent", format!("sending {each} messages to each of {many} users beforehand"))
    };
    let _ = writeln!(errors, "{what}");
    let operations = u64::from(each).saturating_mul(many);
    let tally = load::fill(load, targets, workload.mixture.filling(), operations).await?;
    let failed = tally.failed_count();
    if failed == 0 {
        return Ok(());
    }
    let kinds: Vec<String> = tally.failures.iter().map(|(kind, count)| format!("{count} × {kind}")).collect();
    let kinds = kinds.join(", ");
    if tally.answered() == 0 {
        return Err(CliError::Failed(format!("no {one} beforehand: {kinds}")));
    }
    let _ = writeln!(errors, "{failed} of them failed ({kinds}), so some reads will find less");
    Ok(())
}
