//! Running a node in the foreground: its flags, its logs, its signals. It decides what ends it; what it serves is in
//! [`crate::server`]. The `ringwork` program runs it as `start`, and a program with modules of its own as [`program`].

use super::client::{CliError, conclude};
use super::dev::{self, Lifeline};
use crate::modules::Modules;
use crate::server::{self, Served};
use crate::settings::{LogFormat, LogSettings, Override, Settings, Sources, environment};
use clap::{Args, Parser};
use ringwork_core::metadata::Family;
use ringwork_runtime::node::Ending;
use ringwork_runtime::run_time_settings::RunTimeSetting;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The flags of `start`, and of programs that are nodes.
#[derive(Args)]
pub struct StartArguments {
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

/// Where settings come from.
#[derive(Args)]
pub struct SettingsArguments {
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
    /// What the flags say, over the environment and the file.
    pub fn sources(&self) -> Result<Sources, CliError> {
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

/// A node with modules of its own: all that `ringwork start` takes and does.
#[derive(Parser)]
struct Program {
    #[command(flatten)]
    start: StartArguments,
}

/// The `main` of a program that is a node with `modules`: takes the flags of `ringwork start`, and the commands of
/// `ringwork` work on it. Exits as `ringwork start` does.
pub fn program(modules: Modules) -> ExitCode {
    let Program { start } = Program::parse();
    let outcome = actix_rt::System::new().block_on(run(&start, modules));
    ExitCode::from(conclude(outcome, &mut std::io::stderr()))
}

fn failed(text: impl Into<String>) -> CliError {
    CliError::Failed(text.into())
}

/// Runs a node until it is told to stop: with `modules` beside those that every node has.
pub async fn run(arguments: &StartArguments, modules: Modules) -> Result<(), CliError> {
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
    let served = server::serve_program(&settings, arguments.rebuild, vec![log_level], modules).await;
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
