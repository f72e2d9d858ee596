//! `ringwork status` and `ringwork wait`: one screen about the cluster and the node that is asked, and a block
//! until it serves or is settled. It decides how values are laid out and how often to ask. It does not know all
//! that a node tells: fields that it never heard of are shown like the others.

use crate::cli::client::{
    CliError, NodeArguments, NodeClient, explanation, json_line, printable, write_line,
};
use crate::cli::cluster::{claimant, members_table, obstacles, ring_line};
use awc::http::Method;
use ringwork_runtime::administration::MemberStatus;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// What is shown first, in this order; the rest follows in the order of its names.
const FIRST: [&str; 10] = [
    "node",
    "id",
    "version",
    "pid",
    "ready",
    "settled",
    "uptime_ms",
    "http_address",
    "ring_size",
    "vnodes_running",
];
/// What the first part of the screen says in its own way.
const OF_THE_CLUSTER: [&str; 5] = ["members", "claimant", "ring_ready", "waiting_for", "handoff"];
/// A screen: whatever a node sends, not more lines than this.
const LINES_MAX: usize = 200;
/// Objects inside objects are unfolded down to here.
const DEPTH_MAX: usize = 4;
/// How often `wait` asks: at first often, because most waits are short.
const POLL_MIN: Duration = Duration::from_millis(50);
const POLL_MAX: Duration = Duration::from_millis(500);
/// How long one question of `wait` may take, so that a node that hangs is asked again within the wait.
const POLL_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

const WAIT_HELP: &str = "\
A node that cannot be reached yet is waited for too. When the time is over the exit code is 1, and
what stood in the way last is said.

Example:
  ringwork start & ringwork wait ready --timeout 10s && ringwork chat send ann hello";

/// Arguments of `ringwork status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ringwork status --node http://127.0.0.1:8110")]
pub struct StatusArguments {
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork wait`.
#[derive(Debug, clap::Args)]
#[command(after_help = WAIT_HELP)]
pub struct WaitArguments {
    /// What to wait for.
    #[arg(value_enum)]
    pub until: WaitFor,
    /// How long.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WaitFor {
    /// The node serves requests.
    Ready,
    /// No transfer is pending in the cluster, as the node sees it.
    Settled,
}

impl WaitFor {
    fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Settled => "settled",
        }
    }
}

/// What a node's status says about its transfers; more is no harm.
#[derive(Deserialize)]
struct HandoffPart {
    running_in: usize,
    running_out: usize,
    waiting: usize,
    paused: bool,
}

/// What a node's status says about the cluster; more is no harm.
#[derive(Deserialize)]
struct ClusterPart {
    members: Vec<MemberStatus>,
    claimant: Option<String>,
    ring_ready: bool,
    waiting_for: Vec<String>,
    settled: bool,
    /// A node of an earlier release has none.
    handoff: Option<HandoffPart>,
}

/// Shows the cluster as a node sees it, and what the node says about itself.
pub async fn status(arguments: StatusArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let answer = arguments.node.client()?.get("/admin/status").await?;
    if arguments.node.json {
        return write_line(output, &json_line(&answer));
    }
    let mut answer = answer;
    // A node of another release may tell it differently; then it is shown like all the rest.
    if let Ok(cluster) = ClusterPart::deserialize(&answer) {
        write_cluster(&cluster, output)?;
        if let Value::Object(fields) = &mut answer {
            OF_THE_CLUSTER.iter().for_each(|name| drop(fields.remove(*name)));
        }
    }
    let lines = lines(&answer);
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, value) in lines.iter().take(LINES_MAX) {
        write_line(output, &format!("{name:<width$}  {value}"))?;
    }
    if lines.len() > LINES_MAX {
        write_line(output, &format!("and {} more; see --json", lines.len() - LINES_MAX))?;
    }
    Ok(())
}

fn write_cluster(cluster: &ClusterPart, output: &mut dyn Write) -> Result<(), CliError> {
    members_table(&cluster.members).write(output)?;
    write_line(output, "")?;
    let claimant = claimant(cluster.claimant.as_deref());
    write_line(output, &format!("claimant   {}", explanation(&claimant)))?;
    let ring = ring_line(cluster.ring_ready, &cluster.waiting_for);
    write_line(output, &format!("ring       {}", explanation(&ring)))?;
    if !cluster.settled {
        let obstacles = obstacles(&cluster.members, cluster.ring_ready, &cluster.waiting_for);
        write_line(output, &format!("unsettled  {}", explanation(&obstacles)))?;
    }
    if let Some(HandoffPart { running_in, running_out, waiting, paused }) = cluster.handoff {
        let rest = if paused { "; paused, 'ringwork handoff resume' lets them go on" } else { "" };
        let line = format!("{running_in} in, {running_out} out, {waiting} waiting{rest}");
        write_line(output, &format!("transfers  {line}"))?;
    }
    write_line(output, "")
}

/// Blocks until the node is what is asked for.
pub async fn wait(arguments: WaitArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let client = arguments.node.client()?.with_answer_timeout(POLL_ANSWER_TIMEOUT);
    let what = arguments.until;
    let mut obstacle = String::from("it has not answered yet");
    let polling = poll(&client, what, &mut obstacle);
    match tokio::time::timeout(arguments.timeout, polling).await {
        Ok(()) if arguments.node.json => {
            write_line(output, &json_line(&json!({ "node": client.url(), what.name(): true })))
        }
        Ok(()) => write_line(output, &format!("{} is {}", client.url(), what.name())),
        Err(_) => {
            let (url, name) = (client.url(), what.name());
            let waited = humantime::format_duration(arguments.timeout);
            Err(CliError::Failed(format!("{url} is not {name} after {waited}: {obstacle}")))
        }
    }
}

async fn poll(client: &NodeClient, what: WaitFor, obstacle: &mut String) {
    let mut pause = POLL_MIN;
    loop {
        match obstacle_to(client, what).await {
            None => return,
            Some(found) => *obstacle = found,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(POLL_MAX);
    }
}

/// What still stands in the way, or None.
async fn obstacle_to(client: &NodeClient, what: WaitFor) -> Option<String> {
    match what {
        WaitFor::Ready => match client.request(Method::GET, "/health/ready", &[], None).await {
            Ok(answer) if answer.is_success() => None,
            Ok(answer) => {
                Some(match serde_json::from_slice::<Value>(&answer.body).unwrap_or_default().get("why") {
                    Some(Value::String(why)) => format!("it says that it is {}", explanation(why)),
                    _ => client.refusal(&answer).to_string(),
                })
            }
            Err(error) => Some(error.to_string()),
        },
        WaitFor::Settled => match client.get("/admin/status").await {
            Ok(status) => match status.get("settled") {
                Some(Value::Bool(true)) => None,
                Some(_) => Some(match ClusterPart::deserialize(&status) {
                    Ok(cluster) => {
                        explanation(&obstacles(&cluster.members, cluster.ring_ready, &cluster.waiting_for))
                    }
                    Err(_) => "transfers are pending; `ringwork status` shows the node".to_owned(),
                }),
                None => {
                    Some("its status does not say whether it is settled; is this a ringwork node?".to_owned())
                }
            },
            Err(error) => Some(error.to_string()),
        },
    }
}

/// Name and value of every line of the screen.
fn lines(status: &Value) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let Value::Object(fields) = status else {
        return vec![("status".to_owned(), explanation(&json_line(status)))];
    };
    for name in FIRST {
        if let Some(value) = fields.get(name) {
            unfold(name, value, 1, &mut lines);
        }
    }
    for (name, value) in fields {
        if !FIRST.contains(&name.as_str()) {
            unfold(name, value, 1, &mut lines);
        }
    }
    lines
}

fn unfold(name: &str, value: &Value, depth: usize, lines: &mut Vec<(String, String)>) {
    if let Value::Object(fields) = value
        && depth < DEPTH_MAX
        && !fields.is_empty()
    {
        for (inner, value) in fields {
            unfold(&format!("{name}.{inner}"), value, depth + 1, lines);
        }
        return;
    }
    if let Value::Array(items) = value
        && !items.is_empty()
        && items.iter().all(Value::is_object)
    {
        for item in items.iter().filter_map(Value::as_object) {
            let parts: Vec<String> = item
                .iter()
                .map(|(name, value)| format!("{} {}", name.replace('_', " "), shown(value)))
                .collect();
            lines.push((explanation(&name.replace('_', " ")), explanation(&parts.join(", "))));
        }
        return;
    }
    let (name, value) = match (name.strip_suffix("_ms"), value.as_u64()) {
        (Some(name), Some(milliseconds)) => {
            (name, humantime::format_duration(Duration::from_millis(milliseconds)).to_string())
        }
        _ => (name, shown(value)),
    };
    lines.push((explanation(&name.replace('_', " ")), value));
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => explanation(text),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            explanation(&items.join(", "))
        }
        Value::Array(_) | Value::Object(_) => explanation(&printable(&json_line(value))),
    }
}
