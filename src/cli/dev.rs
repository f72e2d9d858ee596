//! `ringwork dev`: a cluster on this machine, one process for each node, joined and settled, for trying things
//! out. It decides names, ports and directories, and the order in which nodes start and stop. How a process is
//! held is in `children`, how nodes become a cluster in `formation`, how a node notices our end in `lifeline`.

use crate::cli::client::{CliError, NodeClient, write_line};
use crate::cli::table::{counted, in_words};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

mod children;
mod formation;
mod lifeline;
#[cfg(test)]
mod tests;

pub use lifeline::Lifeline;

use children::{Children, Ended};

/// The flag of `start` under which a node ends when its standard input does.
pub const LIFELINE_FLAG: &str = "until-stdin-closes";

/// Nodes of one cluster: each has ports of its own, ten apart, and threads.
const NODES_MAX: u16 = 16;
/// How far the ports of two nodes lie apart.
const PORT_STEP: u16 = 10;
/// How long nodes may take to stop in peace: longer than `http.shutdown_timeout`, which counts twice.
const STOP_TIMEOUT: Duration = Duration::from_secs(75);
/// A Ctrl-C may reach a node before it reaches us; so long its end is not yet a failure.
const SIGNAL_GRACE: Duration = Duration::from_millis(500);

const DEV_HELP: &str = "\
Node i serves HTTP at the base port + 10·i and is found by the others at the port above. Ctrl-C
stops all in peace, a second one at once. The data stays: run again with the same --data-dir,
everything is there. Each node's log is beside its directory.

Example:
  ringwork dev --nodes 5 --base-port 9000 --data-dir /tmp/five";

/// Arguments of `ringwork dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = DEV_HELP)]
pub struct DevArguments {
    /// How many nodes.
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    pub nodes: u16,
    /// Where ports begin: node 1 has this plus 10 for HTTP, plus 11 for the cluster.
    #[arg(long, value_name = "PORT", default_value_t = 8100,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(u16::MAX - PORT_STEP * NODES_MAX - 1)))]
    pub base_port: u16,
    /// The directory below which each node has its own.
    #[arg(long, value_name = "DIR", default_value = "./dev-data")]
    pub data_dir: PathBuf,
    /// A setting for all nodes, such as store.durability=sync. May be given more than once.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// One node of the cluster on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
struct DevNode {
    name: String,
    http: SocketAddr,
    cluster: SocketAddr,
    directory: PathBuf,
    log: PathBuf,
    /// Whether it has never been started, so that it is no member of anything.
    is_new: bool,
}

impl DevNode {
    fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    fn client(&self) -> Result<NodeClient, CliError> {
        NodeClient::new(&self.url())
    }
}

fn layout(arguments: &DevArguments) -> Vec<DevNode> {
    let node = |number: u16| {
        let name = format!("n{number}");
        let http = arguments.base_port + PORT_STEP * number;
        let directory = arguments.data_dir.join(&name);
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        DevNode {
            http: local(http),
            cluster: local(http + 1),
            is_new: !directory.join("identity").exists(),
            directory,
            log: arguments.data_dir.join(format!("{name}.log")),
            name,
        }
    };
    (1..=arguments.nodes).map(node).collect()
}

/// Says which port is taken before any node is started, rather than let one of them fail.
fn refuse_taken_ports(nodes: &[DevNode]) -> Result<(), CliError> {
    for node in nodes {
        for (what, address) in [("HTTP", node.http), ("the cluster", node.cluster)] {
            if let Err(error) = TcpListener::bind(address) {
                let (name, port) = (&node.name, address.port());
                return Err(CliError::Failed(format!(
                    "port {port}, for {what} of {name}, cannot be had: {error}. Does another `ringwork dev` run? \
                     Stop it, or choose other ports with --base-port"
                )));
            }
        }
    }
    Ok(())
}

fn prepare(data_dir: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(data_dir).map_err(|error| {
        let shown = data_dir.display();
        CliError::Failed(format!(
            "cannot make the directory {shown}: {error}; choose another with --data-dir"
        ))
    })
}

/// What ends a program from outside.
struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> Result<Self, CliError> {
        let listen =
            |kind| signal(kind).map_err(|e| CliError::Failed(format!("signals cannot be heard: {e}")));
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Runs the cluster until it is interrupted or a node ends. What it serves at goes to `output`, what is going
/// on to `errors`.
pub async fn run(
    arguments: DevArguments,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), CliError> {
    let nodes = layout(&arguments);
    refuse_taken_ports(&nodes)?;
    prepare(&arguments.data_dir)?;
    let program = std::env::current_exe()
        .map_err(|error| CliError::Failed(format!("cannot tell which program this is: {error}")))?;
    let mut signals = Signals::listen()?;
    let _ = writeln!(errors, "starting {}", counted(nodes.len(), "node", "nodes"));
    let mut children = Children::start(&program, &nodes, &arguments.set)?;
    let outcome = tokio::select! {
        outcome = serve(&nodes, output, errors) => outcome,
        ended = children.first_end() => after_end(ended, &mut signals).await,
        () = signals.next() => Ok(()),
    };
    let _ = writeln!(errors, "stopping; Ctrl-C again ends all at once");
    children.ask_to_stop();
    tokio::select! {
        () = children.all_ended() => {
            let _ = writeln!(errors, "stopped; the data stays in {}", arguments.data_dir.display());
        }
        () = signals.next() => {
            let _ = writeln!(errors, "ended at once; what was acknowledged is there at the next start");
        }
        () = tokio::time::sleep(STOP_TIMEOUT) => {
            let _ = writeln!(errors, "not stopped within {} s, so ended at once", STOP_TIMEOUT.as_secs());
        }
    }
    // Whoever still runs is killed, and waited for, by this.
    drop(children);
    outcome
}

async fn after_end(ended: Ended, signals: &mut Signals) -> Result<(), CliError> {
    let by_signal = tokio::time::timeout(SIGNAL_GRACE, signals.next()).await.is_ok();
    if by_signal { Ok(()) } else { Err(CliError::Failed(ended.to_string())) }
}

/// Makes the nodes one cluster, says where it is, and goes on for ever.
async fn serve(nodes: &[DevNode], output: &mut dyn Write, errors: &mut dyn Write) -> Result<(), CliError> {
    if let Some(doubt) = formation::form(nodes, errors).await? {
        let _ = writeln!(errors, "{doubt}");
    }
    greet(nodes, output)?;
    std::future::pending().await
}

fn greet(nodes: &[DevNode], output: &mut dyn Write) -> Result<(), CliError> {
    let (Some(first), Some(last)) = (nodes.first(), nodes.last()) else { return Ok(()) };
    let mut line = |text: &str| write_line(output, text);
    let serve = if nodes.len() == 1 { "node serves" } else { "nodes serve" };
    line(&format!("{} {serve}:", in_words(nodes.len())))?;
    for node in nodes {
        line(&format!("  {}  {}  (log: {})", node.name, node.url(), node.log.display()))?;
    }
    line("try in another terminal:")?;
    line(&format!("  ringwork chat send ann hello --node {}", first.url()))?;
    line(&format!("  ringwork chat get ann --node {}", last.url()))?;
    line(&format!("  ringwork cluster status --node {}", first.url()))?;
    line("Ctrl-C stops all; the data stays for the next run")?;
    output.flush().map_err(CliError::writing)
}
