//! `ringwork ring`: who holds what and what is pending, who answers for a key. It decides how that is shown;
//! what a ring should look like it does not know.

use crate::cli::client::{CliError, NodeArguments, explanation, json_line, query_string, write_line};
use crate::cli::cluster::{self, Alike, claimant, ring_line, violations};
use crate::cli::table::{Align, Table, counted};
use ringwork_core::limits::N_VAL_MAX;
use ringwork_runtime::administration::{PartitionStatus, PreflistStatus, RingStatus};
use serde_json::Value;
use std::io::Write;

pub mod simulate;
#[cfg(test)]
mod tests;

/// Lines of each list on the screen of the ring; `ring partitions` shows all.
const LISTED_MAX: usize = 20;

const STATUS_HELP: &str = "\
Pending are partitions that are to move; those with data wait for it to be handed over.

Example:
  ringwork ring status";

const PARTITIONS_HELP: &str = "\
Examples:
  ringwork ring partitions --of n2
  ringwork ring partitions --json | jq -r '.partitions[] | select(.holder != .target) | .partition'";

const PREFLIST_HELP: &str = "\
Primaries hold the key's partitions; a fallback stands in for one that does not answer.

Examples:
  ringwork ring preflist chat ann -n 3
  ringwork ring preflist kv apple --bucket fruit";

/// Arguments of `ringwork ring`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ringwork ring status && ringwork ring preflist chat ann")]
pub struct RingArguments {
    /// What to show.
    #[command(subcommand)]
    pub command: RingCommand,
}

/// What can be shown of a ring.
#[derive(Debug, clap::Subcommand)]
pub enum RingCommand {
    /// Shows what is pending, and how well copies are spread.
    #[command(after_help = STATUS_HELP)]
    Status(NodeArguments),
    /// Shows every partition, who holds it and who is to.
    Partitions(PartitionsArguments),
    /// Shows who answers for a key.
    Preflist(PreflistArguments),
    /// Tries out how partitions would be claimed, without a cluster.
    Simulate(simulate::SimulateArguments),
}

/// Arguments of `ringwork ring partitions`.
#[derive(Debug, clap::Args)]
#[command(after_help = PARTITIONS_HELP)]
pub struct PartitionsArguments {
    /// Only what this member holds or is to hold; its name or id.
    #[arg(long, value_name = "NODE")]
    pub of: Option<String>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Arguments of `ringwork ring preflist`.
#[derive(Debug, clap::Args)]
#[command(after_help = PREFLIST_HELP)]
pub struct PreflistArguments {
    /// The service, such as chat.
    pub service: String,
    /// The key; for chat, the user.
    pub key: String,
    /// The bucket of an object of kv.
    #[arg(long, value_name = "BUCKET")]
    pub bucket: Option<String>,
    /// The bucket's type, where it has one.
    #[arg(long = "type", value_name = "TYPE", requires = "bucket")]
    pub bucket_type: Option<String>,
    /// How many places; by default the service's number of copies.
    #[arg(short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=N_VAL_MAX as i64))]
    pub n: Option<u16>,
    /// Which node to ask.
    #[command(flatten)]
    pub node: NodeArguments,
}

/// Runs a verb.
pub async fn run(arguments: RingArguments, output: &mut dyn Write) -> Result<(), CliError> {
    match arguments.command {
        RingCommand::Status(node) => status(&node, output).await,
        RingCommand::Partitions(arguments) => partitions(arguments, output).await,
        RingCommand::Preflist(arguments) => preflist(arguments, output).await,
        RingCommand::Simulate(arguments) => simulate::run(arguments, output),
    }
}

async fn status(node: &NodeArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let client = node.client()?;
    let answer = client.get("/admin/ring").await?;
    if node.json {
        return write_line(output, &json_line(&answer));
    }
    let ring: RingStatus = cluster::understood(&answer, client.url())?;
    let none = || "none".to_owned();
    let incomplete = match ring.incomplete.len() {
        0 => "yes".to_owned(),
        count => {
            let what = counted(count, "partition waits", "partitions wait");
            format!("no: {what} for members' word that they hold nothing for it")
        }
    };
    for (name, value) in [
        ("partitions", ring.ring_size.to_string()),
        ("epoch", ring.epoch.to_string()),
        ("claimant", claimant(ring.claimant.as_deref())),
        ("ring", ring_line(ring.ring_ready, &ring.waiting_for)),
        ("settled", if ring.settled { "yes" } else { "no" }.to_owned()),
        ("to move", if ring.pending.is_empty() { none() } else { ring.pending.len().to_string() }),
        ("misplaced", if ring.strays.is_empty() { none() } else { ring.strays.len().to_string() }),
        ("complete", incomplete),
    ] {
        write_line(output, &format!("{name:<10}  {}", explanation(&value)))?;
    }
    // How many nodes there are is not told here, so nothing is called unavoidable.
    let alike = Alike::Node { nodes: usize::MAX };
    for sentence in [
        violations(&ring.node_violations, ring.ring_size, alike),
        violations(&ring.location_violations, ring.ring_size, Alike::Location),
    ]
    .into_iter()
    .flatten()
    {
        write_line(output, &sentence)?;
    }
    let more = |count: usize| count.saturating_sub(LISTED_MAX);
    if !ring.pending.is_empty() {
        write_line(output, "\npartitions that are to move:")?;
        for pending in ring.pending.iter().take(LISTED_MAX) {
            let (holder, target) = (explanation(&pending.holder), explanation(&pending.target));
            write_line(output, &format!("  {}: {holder} → {target}", pending.partition))?;
        }
        if more(ring.pending.len()) > 0 {
            write_line(
                output,
                &format!("  and {} more; see ringwork ring partitions", more(ring.pending.len())),
            )?;
        }
    }
    if !ring.strays.is_empty() {
        write_line(output, "\ndata in the wrong place:")?;
        for stray in ring.strays.iter().take(LISTED_MAX) {
            let (node, holder) = (explanation(&stray.node), explanation(&stray.holder));
            write_line(
                output,
                &format!("  {node} has some of partition {}, which is {holder}'s", stray.partition),
            )?;
        }
        if more(ring.strays.len()) > 0 {
            write_line(output, &format!("  and {} more; see --json", more(ring.strays.len())))?;
        }
    }
    Ok(())
}

async fn partitions(arguments: PartitionsArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let PartitionsArguments { of, node } = arguments;
    let client = node.client()?;
    let parameters: Vec<_> = of.into_iter().map(|of| ("of", of)).collect();
    let answer = client.get(&format!("/admin/ring/partitions{}", query_string(&parameters))).await?;
    if node.json {
        return write_line(output, &json_line(&answer));
    }
    let listed = answer.get("partitions").unwrap_or(&Value::Null);
    let partitions: Vec<PartitionStatus> = cluster::understood(listed, client.url())?;
    let mut table = Table::new(&[
        ("partition", Align::Right),
        ("holder", Align::Left),
        ("to be held by", Align::Left),
        ("fence", Align::Right),
        ("hop", Align::Right),
        ("index", Align::Right),
    ]);
    let count = partitions.len();
    for partition in partitions {
        let moves = partition.holder != partition.target;
        table.row([
            partition.partition.to_string(),
            partition.holder,
            if moves { partition.target } else { String::new() },
            partition.fence.to_string(),
            partition.hop.to_string(),
            partition.index,
        ]);
    }
    table.write(output)?;
    write_line(output, &counted(count, "partition", "partitions"))
}

async fn preflist(arguments: PreflistArguments, output: &mut dyn Write) -> Result<(), CliError> {
    let PreflistArguments { service, key, bucket, bucket_type, n, node } = arguments;
    let client = node.client()?;
    let mut parameters = vec![("service", service), ("key", key)];
    parameters.extend(bucket.map(|bucket| ("bucket", bucket)));
    parameters.extend(bucket_type.map(|bucket_type| ("type", bucket_type)));
    parameters.extend(n.map(|n| ("n", n.to_string())));
    let answer = client.get(&format!("/admin/ring/preflist{}", query_string(&parameters))).await?;
    if node.json {
        return write_line(output, &json_line(&answer));
    }
    let preflist: PreflistStatus = cluster::understood(&answer, client.url())?;
    let mut table = Table::new(&[
        ("partition", Align::Right),
        ("node", Align::Left),
        ("role", Align::Left),
        ("seen", Align::Left),
        ("address", Align::Left),
    ]);
    for place in preflist.places {
        let role = match place.stands_in_for {
            Some(holder) => format!("{} for {holder}", place.role),
            None => place.role,
        };
        let seen = cluster::availability(place.available).to_owned();
        table.row([place.partition.to_string(), place.node, role, seen, place.address]);
    }
    table.write(output)
}
