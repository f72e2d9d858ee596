//! The `ringwork` program: its commands. Everything else is in the library.

use clap::{Parser, Subcommand};
use ringwork::cli::bench::{self, BenchArguments, Monotonic};
use ringwork::cli::bucket_type::{self, BucketTypeArguments};
use ringwork::cli::chat::{self, ChatArguments};
use ringwork::cli::client::{CliError, conclude};
use ringwork::cli::cluster::{self, ClusterArguments};
use ringwork::cli::config::{self, ConfigCommand, ConfigCommandError};
use ringwork::cli::dev::{self, DevArguments};
use ringwork::cli::handoff::{self, HandoffArguments};
use ringwork::cli::kv::{self, KvArguments};
use ringwork::cli::repair::{self, RepairArguments};
use ringwork::cli::ring::{self, RingArguments};
use ringwork::cli::setting::{self, GetArguments, SetArguments, UnsetArguments};
use ringwork::cli::start::{self, SettingsArguments, StartArguments};
use ringwork::cli::status::{self, StatusArguments, WaitArguments};
use ringwork::modules::Modules;
use std::io::IsTerminal;
use std::process::ExitCode;

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
    /// Gets, puts and deletes objects, and lists keys.
    Kv(KvArguments),
    /// Creates bucket types, brings them into use, changes and lists them.
    BucketType(BucketTypeArguments),
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

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = actix_rt::System::new().block_on(run(arguments.command));
    ExitCode::from(conclude(outcome, &mut std::io::stderr()))
}

async fn run(command: Command) -> Result<(), CliError> {
    let mut out = std::io::stdout();
    match command {
        Command::Start(arguments) => start::run(&arguments, Modules::default()).await,
        Command::Config { sources, json, command } => {
            let sources = sources.sources()?;
            config::run(&command, &sources, json, &mut out).map_err(|error| match error {
                ConfigCommandError::Output(error) => CliError::writing(error),
                other => CliError::Failed(other.to_string()),
            })
        }
        Command::Chat(arguments) => chat::run(arguments, &mut out, &mut std::io::stderr()).await,
        Command::Kv(arguments) => {
            let terminal = out.is_terminal();
            kv::run(arguments, terminal, &mut out, &mut std::io::stderr()).await
        }
        Command::BucketType(arguments) => bucket_type::run(arguments, &mut out).await,
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
