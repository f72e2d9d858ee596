//! The `ringwork` program: its command line, its logs, its signals. Everything else is in the library.

use clap::{Args, Parser, Subcommand};
use ringwork::cli::bench::{self, BenchArguments, Monotonic};
use ringwork::cli::chat::{self, ChatArguments};
use ringwork::cli::client::{CliError, conclude};
use ringwork::cli::cluster::{self, ClusterArguments};
use ringwork::cli::config::{self, ConfigCommand, ConfigCommandError};
use ringwork::cli::dev::{self, DevArguments, Lifeline};
use ringwork::cli::handoff::{self, HandoffArguments};
use ringwork::cli::repair::{self, RepairArguments};
use ringwork::cli::ring::{self, RingArguments};
use ringwork::cli::setting::{self, GetArguments, SetArguments, UnsetArguments};
use ringwork::cli::status::{self, StatusArguments, WaitArguments};
use ringwork::server::{self, Served};
use ringwork::settings::{LogFormat, LogSettings, Override, Settings, Sources, environment};
use ringwork_core::metadata::Family;
use ringwork_runtime::node::Ending;
use ringwork_runtime::run_time_settings::RunTimeSetting;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A masterless, actor-based node: replicated, repairing, rebalancing state, and a chat service on top of it.
#[derive(Parser)]
#[command(
    version,
    after_help = "Begin with: ringwork start\nThen, in another terminal: ringwork chat send ann hello\n\n\
                  A cluster of three on this machine: ringwork dev\n\
                  Machines of your own: ringwork cluster --help"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a node in the foreground; Ctrl-C stops it in peace, a second Ctrl-C at once.
    #[command(
        after_help = "Example: ringwork start --name n1 --data-dir data/n1 --set store.durability=sync"
    )]
    Start(StartArguments),
    /// Runs a cluster on this machine, one process for each node, joined and settled; Ctrl-C stops all.
    Dev(DevArguments),
    /// Checks the settings, shows those in force, prints their reference.
    Config {
        #[command(flatten)]
        sources: SettingsArguments,
        /// Answer in JSON.
        #[arg(long, global = true)]
        json: bool,
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Sends, reads and follows chat messages.
    Chat(ChatArguments),
    /// Joins nodes to a cluster, and changes it: stage, plan, commit.
    Cluster(ClusterArguments),
    /// Shows who holds what, and who answers for a key.
    Ring(RingArguments),
    /// Shows what moves between nodes, and sets how much of it may at a time.
    Handoff(HandoffArguments),
    /// Changes a setting while nodes run.
    Set(SetArguments),
    /// Shows the settings that can be changed while nodes run.
    Get(GetArguments),
    /// Takes back what was set.
    Unset(UnsetArguments),
    /// Shows how replicas are compared with each other, and what that has found.
    Repair(RepairArguments),
    /// Shows the cluster and the node that is asked, on one screen.
    Status(StatusArguments),
    /// Waits until a node serves, or until nothing is pending.
    Wait(WaitArguments),
    /// Loads nodes and measures throughput, latency and CPU time.
    Bench(BenchArguments),
}

#[derive(Args)]
struct StartArguments {
    #[command(flatten)]
    settings: SettingsArguments,
    /// The store of this node is lost: begin with an empty one, as the same node, and fetch what it holds from the
    /// other nodes. The data directory must have the node's file 'identity' and no store; without the file 'ring' a
    /// member has to be named with --join.
    #[arg(long)]
    rebuild: bool,
    /// Stops in peace when the pipe on standard input is closed: for programs that start nodes.
    #[arg(long = dev::LIFELINE_FLAG, hide = true)]
    lifeline: bool,
}

#[derive(Args)]
struct SettingsArguments {
    /// A settings file (TOML); `ringwork config reference` prints one with every key.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The node's name, for people (node.name).
    #[arg(long, value_name = "NAME", global = true)]
    name: Option<String>,
    /// Where the node keeps its data (node.data_dir).
    #[arg(long, value_name = "DIR", global = true)]
    data_dir: Option<PathBuf>,
    /// Where it serves HTTP (http.address).
    #[arg(long, value_name = "ADDRESS", global = true)]
    http: Option<SocketAddr>,
    /// Where it listens for other nodes (cluster.address).
    #[arg(long, value_name = "ADDRESS", global = true)]
    cluster: Option<SocketAddr>,
    /// The cluster address of a member, to join its cluster (cluster.seeds). May be given more than once.
    #[arg(long, value_name = "ADDRESS", global = true)]
    join: Vec<String>,
    /// Any setting, such as store.durability=sync. May be given more than once.
    #[arg(long, value_name = "KEY=VALUE", value_parser = Override::from_assignment, global = true)]
    set: Vec<Override>,
}

impl SettingsArguments {
    fn sources(&self) -> Result<Sources, CliError> {
        let mut overrides = self.set.clone();
        if let Some(name) = &self.name {
            overrides.push(Override::new("node.name", name, "--name"));
        }
        if let Some(directory) = &self.data_dir {
            let text = directory.to_str().ok_or_else(|| {
                CliError::Usage("--data-dir is not UTF-8; choose another directory".to_owned())
            })?;
            overrides.push(Override::new("node.data_dir", text, "--data-dir"));
        }
        if let Some(address) = self.http {
            overrides.push(Override::new("http.address", address.to_string(), "--http"));
        }
        if let Some(address) = self.cluster {
            overrides.push(Override::new("cluster.address", address.to_string(), "--cluster"));
        }
        if !self.join.is_empty() {
            overrides.push(Override::new("cluster.seeds", self.join.join(","), "--join"));
        }
        Ok(Sources { file: self.config.clone(), environment: environment(std::env::vars_os()), overrides })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = actix_rt::System::new().block_on(run(arguments.command));
    ExitCode::from(conclude(outcome, &mut std::io::stderr()))
}

async fn run(command: Command) -> Result<(), CliError> {
    let mut out = std::io::stdout();
    match command {
        Command::Start(arguments) => start(&arguments).await,
        Command::Config { sources, json, command } => {
            let sources = sources.sources()?;
            config::run(&command, &sources, json, &mut out).map_err(|error| match error {
                ConfigCommandError::Output(error) => CliError::writing(error),
                other => CliError::Failed(other.to_string()),
            })
        }
        Command::Chat(arguments) => chat::run(arguments, &mut out, &mut std::io::stderr()).await,
        Command::Dev(arguments) => dev::run(arguments, &mut out, &mut std::io::stderr()).await,
        Command::Cluster(arguments) => cluster::run(arguments, &mut out).await,
        Command::Ring(arguments) => ring::run(arguments, &mut out).await,
        Command::Handoff(arguments) => {
            let terminal = out.is_terminal();
            handoff::run(arguments, terminal, &mut out, &mut std::io::stderr()).await
        }
        Command::Set(arguments) => setting::set(arguments, &mut out).await,
        Command::Get(arguments) => setting::get(arguments, &mut out).await,
        Command::Unset(arguments) => setting::unset(arguments, &mut out).await,
        Command::Repair(arguments) => repair::run(arguments, &mut out).await,
        Command::Status(arguments) => status::status(arguments, &mut out).await,
        Command::Wait(arguments) => status::wait(arguments, &mut out).await,
        Command::Bench(arguments) => {
            bench::run(arguments, monotonic(), &mut out, &mut std::io::stderr()).await
        }
    }
}

fn monotonic() -> Monotonic {
    #[allow(clippy::disallowed_methods)] // the program's own clock, handed in from here
    fn now() -> std::time::Duration {
        static ORIGIN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        ORIGIN.get_or_init(std::time::Instant::now).elapsed()
    }
    Monotonic(now)
}

fn failed(text: impl Into<String>) -> CliError {
    CliError::Failed(text.into())
}

async fn start(arguments: &StartArguments) -> Result<(), CliError> {
    let sources = arguments.settings.sources()?;
    let settings = Settings::load(&sources).map_err(|e| failed(e.to_string()))?.settings;
    let log_level = start_logs(&settings.log)?;
    log_panics();
    raise_open_files(&settings);
    let signals = |kind| signal(kind).map_err(|e| failed(format!("signals cannot be heard: {e}")));
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut terminate = signals(SignalKind::terminate())?;
    let lifeline = arguments.lifeline.then(Lifeline::stdin).transpose();
    let mut lifeline = lifeline.map_err(|e| {
        CliError::Usage(format!("--{} needs a pipe as standard input: {e}", dev::LIFELINE_FLAG))
    })?;
    let served = server::serve_program(&settings, arguments.rebuild, vec![log_level]).await;
    let served = served.map_err(|e| failed(e.to_string()))?;
    let core = served.node().core();
    tracing::info!(
        node = core.name,
        id = %core.id,
        boot = core.boot.0,
        data = %settings.node.data_dir.display(),
        "ready at http://{}",
        served.address()
    );
    tokio::select! {
        () = either(&mut interrupt, &mut terminate) => {}
        () = cut(lifeline.as_mut()) => {}
        ending = served.ending() => match ending {
            // Crash-only: the engine takes no more writes, and the next start recovers what it acknowledged.
            Ending::Failed(why) => return Err(failed(format!("the node ends: {why}"))),
            Ending::Departed(why) => tracing::info!("{why}"),
        },
    }
    tracing::info!("stopping: new work is refused, what is under way is finished");
    tokio::select! {
        stopped = stop(served) => stopped,
        () = either(&mut interrupt, &mut terminate) => {
            tracing::warn!("stopped at once by a second signal");
            // What was acknowledged is with the operating system already.
            std::process::exit(130);
        }
    }
}

async fn stop(served: Served) -> Result<(), CliError> {
    served.stop().await.map_err(|e| failed(e.to_string()))?;
    tracing::info!("stopped");
    Ok(())
}

/// Ends with the program that started this one, where it asked for that.
async fn cut(lifeline: Option<&mut Lifeline>) {
    match lifeline {
        Some(lifeline) => lifeline.cut().await,
        None => std::future::pending().await,
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Starts the logs. What comes back changes what is logged while the node runs.
fn start_logs(settings: &LogSettings) -> Result<RunTimeSetting, CliError> {
    let filter = EnvFilter::try_new(&settings.level).map_err(|e| failed(format!("log.level: {e}")))?;
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let json = match settings.format {
        LogFormat::Auto => !terminal,
        LogFormat::Pretty => false,
        LogFormat::Json => true,
    };
    type Reload = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;
    let (set, reload): (_, Reload) = if json {
        let builder = builder.json().flatten_event(true).with_target(true).with_filter_reloading();
        let handle = builder.reload_handle();
        (builder.try_init(), Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string())))
    } else {
        let builder = builder.with_ansi(terminal).with_target(false).with_filter_reloading();
        let handle = builder.reload_handle();
        (builder.try_init(), Box::new(move |filter| handle.reload(filter).map_err(|e| e.to_string())))
    };
    set.map_err(|e| failed(format!("logs cannot be started: {e}")))?;
    let read = |text: &str| EnvFilter::try_new(text).map_err(|error| format!("{error}"));
    Ok(RunTimeSetting {
        key: "log.level".to_owned(),
        family: Family::Settings,
        takes: "error, warn, info, debug or trace, or such words for parts".to_owned(),
        configured: settings.level.clone(),
        check: Box::new(move |text| read(text).map(|_| ())),
        apply: Box::new(move |text| reload(read(text)?)),
    })
}

/// A panic is a line in the log like any other, with its place.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text =
            text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        tracing::error!(place, panic = text, "panic");
    }));
}

/// Each connection is an open file; the usual soft limit of 1024 would refuse clients long before the node does.
fn raise_open_files(settings: &Settings) {
    let wanted = settings.http.connections_max as u64 + 1024;
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) if limit < wanted => tracing::warn!(
            limit,
            wanted,
            "the system allows fewer open files than http.connections_max needs; raise 'ulimit -n' or lower it"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
}
