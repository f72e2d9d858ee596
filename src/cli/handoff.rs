//! `ringwork handoff`: what moves between a node and others, how far it is, and how much of it may move at a time. It
//! decides how that is shown and how often it is asked again; when a transfer runs it does not know.

use crate::cli::client::{CliError, NodeArguments, NodeClient, json_line, write_line};
use crate::cli::cluster::{next_command, understood};
use crate::cli::table::{bytes, counted};
use crate::settings::Rate;
use awc::http::Method;
use ringwork_core::limits::{HANDOFF_BYTES_PER_SECOND_MAX, HANDOFF_BYTES_PER_SECOND_MIN, HANDOFF_LIMIT_MAX};
use ringwork_runtime::administration::HandoffStatus;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

mod screen;
#[cfg(test)]
mod tests;

/// How often `--watch` asks.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How long one question of `--watch` may take, so that a node that hangs is seen to hang.
const WATCH_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Puts the cursor at the top of the screen and removes what is below it.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";
/// Partitions that are named one by one after `repair`.
const NAMED_MAX: usize = 20;

const HANDOFF_HELP: &str = "\
Each node has its own transfers and its own limit: ask the one that is meant with --node.

Example:
  ringwork handoff status --watch --node http://10.0.0.2:8098";

const STATUS_HELP: &str = "\
Shows what runs into the asked node and out of it, what is due out of it and why it does not run,
and what ended lately. --watch shows it again every second until Ctrl-C.

Examples:
  ringwork handoff status --watch
  ringwork handoff status --json | jq '.running[] | select(.idle_s > 30)'";

const LIMIT_HELP: &str = "\
N transfers into the asked node at a time, and N out of it. A lower limit ends the youngest, which
go on later. The rate is each transfer's, and counts for those that begin from now on. Both last
until the node's next start, which takes handoff.limit and handoff.bytes_per_second. Without
arguments it shows what is set.

Examples:
  ringwork handoff limit 8
  ringwork handoff limit --bytes-per-second 64MiB";

const PAUSE_HELP: &str = "\
No transfer of the asked node begins any more, and none is taken in. Those out of it end within
moments and go on later where they were; those into it finish. A pause does not outlast the node.

Example:
  ringwork handoff pause && ringwork handoff status";

const REPAIR_HELP: &str = "\
The asked node fetches what its replica of the partition should have from the replicas of its
neighbours: after its disk has lost something. Items that it has already do no harm. --all is all
that the asked node holds, not the whole cluster.

Examples:
  ringwork handoff repair 17
  ringwork handoff repair --all --node http://10.0.0.3:8098";

/// Arguments of `ringwork handoff`.
#[derive(Debug, clap::Args)]
#[command(after_help = HANDOFF_HELP)]
pub struct HandoffArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: HandoffCommand,
}

/// The verbs of transfers.
#[derive(Debug, clap::Subcommand)]
pub enum HandoffCommand {
    /// Shows the transfers of a node.
    Status(StatusArguments),
    /// Sets how many transfers run at a time, and how fast each may be; or shows it.
    Limit(LimitArguments),
    /// Lets transfers rest.
    #[command(after_help = PAUSE_HELP)]
    Pause(NodeArguments),
    /// Ends a pause.
    #[command(after_help = "Example:\n  ringwork handoff resume && ringwork handoff status --watch")]
    Resume(NodeArguments),
    /// Has a node fetch from other replicas what it has lost.
    Repair(RepairArguments),
}

/// Arguments of `ringwork handoff status`.
#[derive(Debug, clap::Args)]
#[command(after_help = STATUS_HELP)]
pub struct StatusArguments {
    /// Show it again every second.
    #[arg(long)]
    pub watch: bool,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork handoff limit`.
#[derive(Debug, clap::Args)]
#[command(after_help = LIMIT_HELP)]
pub struct LimitArguments {
    /// Transfers at a time, 1 to 64.
    #[arg(value_name = "N", value_parser = limit)]
    pub limit: Option<u32>,
    /// Bytes that each transfer out of the node may send in a second, such as 64MiB; or none.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub bytes_per_second: Option<Rate>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork handoff repair`.
#[derive(Debug, clap::Args)]
#[command(after_help = REPAIR_HELP, group(clap::ArgGroup::new("which").required(true)))]
pub struct RepairArguments {
    /// The partitions' numbers.
    #[arg(value_name = "PARTITION", group = "which")]
    pub partitions: Vec<u16>,
    /// All partitions that the asked node holds.
    #[arg(long, group = "which")]
    pub all: bool,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

fn limit(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => Err("0 would let nothing move; pause transfers instead: ringwork handoff pause".to_owned()),
        Ok(limit) if limit <= HANDOFF_LIMIT_MAX => Ok(limit),
        _ => Err(format!("it takes a whole number from 1 to {HANDOFF_LIMIT_MAX}")),
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    let range = HANDOFF_BYTES_PER_SECOND_MIN..=HANDOFF_BYTES_PER_SECOND_MAX;
    let rate = text.parse::<Rate>().ok();
    rate.filter(|rate| rate.bytes_per_second().is_none_or(|bytes| range.contains(&bytes))).ok_or_else(|| {
        let (min, max) = (bytes(*range.start()), bytes(*range.end()));
        format!("it takes none, or a size a second from {min} to {max}, such as 64MiB")
    })
}

/// Runs a verb. `terminal`: whether `output` is a screen on which something can be shown in place.
pub async fn run(
    arguments: HandoffArguments,
    terminal: bool,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), CliError> {
    match arguments.command {
        HandoffCommand::Status(StatusArguments { watch: false, node }) => status(&node, output).await,
        HandoffCommand::Status(StatusArguments { watch: true, node }) => {
            watch(&node, terminal, WATCH_INTERVAL, output, errors).await
        }
        HandoffCommand::Limit(arguments) => set_limit(arguments, output).await,
        HandoffCommand::Pause(node) => {
            let resume = next_command("ringwork handoff resume", &node);
            let text = format!("transfers rest: none begins, none is taken in; go on with: {resume}");
            post("pause", &node, &text, output).await
        }
        HandoffCommand::Resume(node) => post("resume", &node, "transfers go on", output).await,
        HandoffCommand::Repair(arguments) => repair(arguments, output).await,
    }
}

/// The screen of an answer, or the answer itself in JSON.
fn shown(answer: &Value, node: &NodeArguments, client: &NodeClient) -> Result<String, CliError> {
    if node.json {
        return Ok(format!("{}\n", json_line(answer)));
    }
    let status: HandoffStatus = understood(answer, client.url())?;
    let mut screen = Vec::new();
    screen::write(&status, node, &mut screen)?;
    Ok(String::from_utf8_lossy(&screen).into_owned())
}

async fn status(node: &NodeArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let client = node.client()?;
    let answer = client.get("/admin/handoff").await?;
    output.write_all(shown(&answer, node, &client)?.as_bytes()).map_err(CliError::writing)
}

/// Shows the status again and again. What cannot be asked at first is an error; later the node may be away for a while.
async fn watch(
    node: &NodeArguments,
    terminal: bool,
    interval: Duration,
    output: &mut dyn Write,
    errors: &mut dyn Write,
) -> Result<(), CliError> {
    let client = node.client()?.with_answer_timeout(WATCH_ANSWER_TIMEOUT);
    let mut before = false;
    loop {
        let answer = client.get("/admin/handoff").await;
        match answer.and_then(|answer| shown(&answer, node, &client)) {
            Ok(screen) => {
                let (above, below) = match (terminal, node.json) {
                    (_, true) => ("", ""),
                    (true, false) => (CLEAR, ""),
                    (false, false) => ("", "\n"),
                };
                // In one piece, so that a screen is never seen half drawn.
                let screen = format!("{above}{screen}{below}");
                output
                    .write_all(screen.as_bytes())
                    .and_then(|()| output.flush())
                    .map_err(CliError::writing)?;
                before = true;
            }
            Err(error) if !before => return Err(error),
            Err(error) => drop(writeln!(errors, "{error}; asked again in {} ms", interval.as_millis())),
        }
        tokio::time::sleep(interval).await;
    }
}

async fn set_limit(arguments: LimitArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let LimitArguments { limit, bytes_per_second, node } = arguments;
    let client = node.client()?;
    let mut body = json!({});
    if let Some(limit) = limit {
        body["limit"] = json!(limit);
    }
    if let Some(rate) = bytes_per_second {
        body["bytes_per_second"] = json!(rate.bytes_per_second());
    }
    let answer = match body.as_object().is_some_and(|body| body.is_empty()) {
        true => client.get("/admin/handoff").await?,
        false => client.ask(Method::PUT, "/admin/handoff/limit", &[], Some(&body)).await?,
    };
    if node.json {
        return write_line(output, &json_line(&answer));
    }
    let status: HandoffStatus = understood(&answer, client.url())?;
    write_line(output, &screen::limit_line(&status))
}

async fn post(verb: &str, node: &NodeArguments, text: &str, output: &mut dyn Write) -> Result<(), CliError> {
    let answer = node.client()?.post(&format!("/admin/handoff/{verb}"), None).await?;
    write_line(output, &if node.json { json_line(&answer) } else { text.to_owned() })
}

async fn repair(arguments: RepairArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let RepairArguments { partitions, all, node } = arguments;
    let body = if all { json!({ "all": true }) } else { json!({ "partitions": partitions }) };
    let client = node.client()?;
    let answer = client.post("/admin/handoff/repair", Some(&body)).await?;
    if node.json {
        return write_line(output, &json_line(&answer));
    }
    let repaired: Vec<u16> = understood(answer.get("partitions").unwrap_or(&Value::Null), client.url())?;
    if repaired.is_empty() {
        return write_line(output, "the asked node holds no partition: there is nothing to repair");
    }
    let numbers: Vec<String> = repaired.iter().take(NAMED_MAX).map(u16::to_string).collect();
    let rest = repaired.len().saturating_sub(NAMED_MAX);
    let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    let what = counted(repaired.len(), "partition", "partitions");
    let whose = if all { ", all that the asked node holds" } else { "" };
    write_line(output, &format!("to be repaired: {what}{whose} ({}{rest})", numbers.join(", ")))?;
    let watch = next_command("ringwork handoff status --watch", &node);
    write_line(output, &format!("see how it goes: {watch}"))
}
