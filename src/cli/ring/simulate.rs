//! `ringwork ring simulate`: what claim would do to a ring as nodes join and leave, without a cluster and without
//! asking a node. It decides how the steps are laid out; it does not know how they are decided.

use crate::cli::client::{CliError, json_line, write_line};
use ringwork_core::claim::simulation::{Path, Simulation, SimulationRow, simulate};
use ringwork_core::claim::{LOCATION_N_MAX, STEPS_DEFAULT, TARGET_N_DEFAULT, TARGET_N_MAX};
use ringwork_core::limits::{N_VAL_DEFAULT, RING_SIZE_DEFAULT};
use ringwork_core::ring::RingSize;
use serde_json::{Value, json};
use std::io::Write;

#[cfg(test)]
mod tests;

const HELP: &str = "\
Node counts separated by commas are reached at once, as when several nodes join in one plan; with
--each, or where written as 1..8, one node joins or leaves at a time. Of windows of consecutive
partitions it is counted how many hold a node (or a location) twice, those of 2 partitions first;
after the slash what could not be fewer, if that is not the same. No balanced plan with as few such
windows of nodes moves fewer partitions than `bound`.

Examples:
  ringwork ring simulate --ring-size 64 --nodes 1,3,4,8
  ringwork ring simulate --ring-size 256 --nodes 1..16,4 --locations 3";

/// Arguments of `ringwork ring simulate`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct SimulateArguments {
    /// How many partitions: a power of two.
    #[arg(long, value_name = "Q", default_value_t = RING_SIZE_DEFAULT, value_parser = ring_size)]
    pub ring_size: u32,
    /// How many nodes there are, step by step, beginning with a ring of one.
    #[arg(long, value_name = "PATH", default_value = "1..8")]
    pub nodes: Path,
    /// In how many locations they are, in turn; with fewer than two, locations do not count.
    #[arg(long, value_name = "L", default_value_t = 1)]
    pub locations: usize,
    /// How many consecutive partitions should be on distinct nodes.
    #[arg(long, value_name = "N", default_value_t = TARGET_N_DEFAULT, value_parser = target_n)]
    pub target_n: usize,
    /// How many consecutive partitions should be in distinct locations.
    #[arg(long, value_name = "N", default_value_t = N_VAL_DEFAULT, value_parser = location_n)]
    pub location_n: usize,
    /// One node at a time between the counts named.
    #[arg(long)]
    pub each: bool,
    /// Answer in JSON, one object per step.
    #[arg(long)]
    pub json: bool,
}

fn ring_size(text: &str) -> Result<u32, String> {
    let number: u32 = text.parse().map_err(|_| "take a power of two, such as 64".to_owned())?;
    RingSize::try_from(number).map(u32::from).map_err(|error| error.to_string())
}

fn window(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("take a number from 1 to {most}")),
    }
}

fn target_n(text: &str) -> Result<usize, String> {
    window(text, TARGET_N_MAX)
}

fn location_n(text: &str) -> Result<usize, String> {
    window(text, LOCATION_N_MAX)
}

/// Shows every step of the path, each as soon as it is decided.
pub fn run(arguments: SimulateArguments, out: &mut dyn Write) -> Result<(), CliError> {
    let usage = |error: &dyn std::error::Error| CliError::Usage(error.to_string());
    let path = if arguments.each {
        arguments.nodes.one_at_a_time().map_err(|error| usage(&error))?
    } else {
        arguments.nodes.clone()
    };
    let simulation = Simulation {
        size: RingSize::try_from(arguments.ring_size).map_err(|error| usage(&error))?,
        path,
        locations: arguments.locations,
        target_n: arguments.target_n,
        location_n: arguments.location_n,
        steps_max: STEPS_DEFAULT,
    };
    if !arguments.json {
        let heads = ["Q", "nodes", "owned", "moved", "bound", "node windows"];
        write_line(out, &format!("{}  {}", columns(&heads.map(str::to_owned)), "location windows"))?;
    }
    let mut written = Ok(());
    let simulated = simulate(&simulation, &mut |row| {
        if written.is_ok() {
            let line = if arguments.json {
                json_line(&object(arguments.ring_size, &row))
            } else {
                line(arguments.ring_size, &row)
            };
            written = write_line(out, &line);
        }
        written.is_ok()
    });
    written.and(simulated.map_err(|error| usage(&error)))
}

fn columns(texts: &[String; 6]) -> String {
    let [size, nodes, owned, moved, bound, windows] = texts;
    format!("{size:>6}  {nodes:>10}  {owned:>11}  {moved:>6}  {bound:>6}  {windows:<18}")
}

fn line(ring_size: u32, row: &SimulationRow) -> String {
    let claim = &row.claim;
    let (owned_min, owned_max) = claim.balance;
    let texts = [
        ring_size.to_string(),
        format!("{}→{}", row.from, row.to),
        format!("{owned_min}–{owned_max}"),
        claim.moved.to_string(),
        claim.moves_bound.to_string(),
        windows(&claim.violations.nodes, &row.least.nodes),
    ];
    let locations = windows(&claim.violations.locations, &row.least.locations);
    let more = if claim.exhausted { "  (the steps were used up)" } else { "" };
    format!("{}  {locations}{more}", columns(&texts))
}

/// Windows that repeat, by length; and beside it what could not be fewer, where that differs.
fn windows(found: &[usize], least: &[usize]) -> String {
    let list = |counts: &[usize]| counts.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    match (found.is_empty(), found == least) {
        (true, _) => "-".to_owned(),
        (_, true) => list(found),
        _ => format!("{} / {}", list(found), list(least)),
    }
}

fn object(ring_size: u32, row: &SimulationRow) -> Value {
    let claim = &row.claim;
    json!({
        "ring_size": ring_size,
        "from": row.from,
        "to": row.to,
        "owned_min": claim.balance.0,
        "owned_max": claim.balance.1,
        "node_windows": claim.violations.nodes,
        "node_windows_least": row.least.nodes,
        "location_windows": claim.violations.locations,
        "location_windows_least": row.least.locations,
        "moved": claim.moved,
        "moves_bound": claim.moves_bound,
        "exhausted": claim.exhausted,
    })
}
