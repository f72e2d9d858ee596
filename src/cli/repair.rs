//! `ringwork repair`: whether the replicas on a node are compared with the others, and what that has found. It decides
//! how that is shown; when two are compared it does not know.

use crate::cli::client::{CliError, NodeArguments, json_line, write_line};
use crate::cli::cluster::understood;
use crate::cli::table::counted;
use clap::{Args, Subcommand};
use ringwork_runtime::administration::AntiEntropyStatus;
use ringwork_runtime::antientropy::board::RepairLine;
use std::io::Write;

const REPAIR_HELP: &str = "\
Replicas compare what they have in the background and send each other what differs; there is nothing
to start. To fetch a whole partition anew after its disk was lost there is 'ringwork handoff repair'.

Example:
  ringwork repair status --node http://10.0.0.2:8098";

const STATUS_HELP: &str = "\
Shows for each service how many pairs of replicas the asked node compares, how long ago the pair was
found equal that has waited longest, and what was sent. The other pairs are the other nodes'.

Examples:
  ringwork repair status
  ringwork repair status --json | jq '.services.chat.oldest_ms'";

/// Arguments of `ringwork repair`.
#[derive(Args)]
#[command(after_help = REPAIR_HELP)]
pub struct RepairArguments {
    #[command(subcommand)]
    command: RepairCommand,
}

#[derive(Subcommand)]
enum RepairCommand {
    /// Shows how old comparisons are and what they found.
    #[command(after_help = STATUS_HELP)]
    Status {
        #[command(flatten)]
        node: NodeArguments,
    },
}

/// Runs `ringwork repair`.
pub async fn run(arguments: RepairArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let RepairCommand::Status { node } = arguments.command;
    let client = node.client()?;
    let answer = client.get("/admin/repair").await?;
    if node.json {
        return write_line(output, &json_line(&answer));
    }
    let status: AntiEntropyStatus = understood(&answer, client.url())?;
    write_line(output, &text(&status))
}

fn text(status: &AntiEntropyStatus) -> String {
    if !status.enabled {
        return format!(
            "node {} compares nothing: repair.exchanges is 0, or it has no cluster address",
            status.node
        );
    }
    let interval = status.interval_ms / 1000;
    let mut lines =
        vec![format!("node {}: each pair of replicas is compared every {interval} s", status.node)];
    for (service, line) in &status.services {
        lines.extend(service_lines(service, line));
    }
    lines.join("\n")
}

fn service_lines(service: &str, line: &RepairLine) -> Vec<String> {
    let age = match (line.pairs, line.oldest_ms) {
        (0, _) => "no other node has a replica to compare with, or nothing is ready yet".to_owned(),
        (_, None) => "none found equal yet".to_owned(),
        (_, Some(oldest_ms)) => {
            let waiting = match line.never_equal {
                0 => String::new(),
                some => format!(", {some} not yet"),
            };
            format!("the oldest found equal {} s ago{waiting}", oldest_ms / 1000)
        }
    };
    let mut lines = vec![
        format!("{service}: {}, {} under way; {age}", counted(line.pairs, "pair", "pairs"), line.running),
        format!(
            "  trees: {} up to date, {} being built, {} to be built",
            line.trees_ready, line.trees_building, line.trees_in_doubt
        ),
        format!(
            "  since the start: {} equal, {} different, {} not finished; {} items sent, {} fetched",
            line.equal, line.differed, line.failed, line.items_sent, line.items_fetched
        ),
    ];
    if line.corrected > 0 {
        lines.push(format!("  {} times trees were found wrong and built anew", line.corrected));
    }
    lines.extend(line.last_problem.as_ref().map(|problem| format!("  last problem: {problem}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(line: RepairLine) -> AntiEntropyStatus {
        let services = [("chat".to_owned(), line)].into();
        AntiEntropyStatus { node: "n1".to_owned(), enabled: true, interval_ms: 15_000, services }
    }

    #[test]
    fn it_says_how_old_comparisons_are_and_what_they_found() {
        let line = RepairLine {
            pairs: 64,
            never_equal: 2,
            oldest_ms: Some(12_400),
            trees_ready: 21,
            equal: 7,
            items_sent: 3,
            last_problem: Some("group 4 with node n2: planted".to_owned()),
            ..RepairLine::default()
        };
        let text = text(&status(line));
        assert!(
            text.contains("chat: 64 pairs, 0 under way; the oldest found equal 12 s ago, 2 not yet"),
            "{text}"
        );
        assert!(text.contains("trees: 21 up to date") && text.contains("3 items sent"), "{text}");
        assert!(text.ends_with("last problem: group 4 with node n2: planted"), "{text}");
    }

    #[test]
    fn it_says_why_nothing_is_compared() {
        let off = AntiEntropyStatus { enabled: false, ..status(RepairLine::default()) };
        assert!(text(&off).contains("repair.exchanges is 0"), "{}", text(&off));
        assert!(text(&status(RepairLine::default())).contains("no other node has a replica"));
    }
}
