//! The transfers of a node as a person sees them: what runs as a table with bars, what waits and what has ended as
//! sentences. It decides the words; all that they say comes from a node.

use crate::cli::client::{CliError, NodeArguments, explanation, write_line};
use crate::cli::cluster::next_command;
use crate::cli::table::{Align, Table, bytes, counted};
use ringwork_runtime::administration::{
    EndedTransfer, HandoffStatus, RepairStatus, TransferStatus, WaitingTransfer,
};
use std::io::Write;
use std::time::Duration;

/// Lines of each list: with all lists full it still is about one screen. `--json` has everything.
const LISTED_MAX: usize = 10;
/// Characters of a bar.
const BAR_CHARACTERS: usize = 10;
/// Transfers that have not moved for so long get a word about it.
const IDLE_S_MAX: u64 = 10;

/// Everything about the transfers of the node that was asked with `node`.
pub(super) fn write(
    status: &HandoffStatus,
    node: &NodeArguments,
    output: &mut dyn Write,
) -> Result<(), CliError> {
    let coming = status.running.iter().filter(|transfer| transfer.direction == "in").count();
    let going = status.running.len() - coming;
    let waiting = status.waiting.len();
    let name = explanation(&status.node);
    write_line(output, &format!("transfers of {name}: {coming} in, {going} out, {waiting} waiting"))?;
    write_line(output, &limit_line(status))?;
    if status.paused {
        let resume = next_command("ringwork handoff resume", node);
        write_line(output, &format!("paused: none begins, none is taken in; go on with: {resume}"))?;
    }
    if !status.running.is_empty() {
        write_line(output, "")?;
        running(&status.running).write(output)?;
    }
    listed(output, "waiting", &status.waiting, waiting_line)?;
    listed(output, "repairs", &status.repairing, repair_line)?;
    listed(output, "ended lately", &status.recent, ended_line)?;
    let moved = totals(status);
    if !moved.is_empty() {
        write_line(output, "\nsince the node's start:")?;
        moved.iter().try_for_each(|line| write_line(output, &format!("  {line}")))?;
    }
    Ok(())
}

/// What is set.
pub(super) fn limit_line(status: &HandoffStatus) -> String {
    let rate = match status.bytes_per_second {
        Some(rate) => format!("each out at most {} a second", bytes(rate)),
        None => "their rate is not limited".to_owned(),
    };
    format!("at most {} in and {} out at a time; {rate}", status.limit, status.limit)
}

fn listed<T>(
    output: &mut dyn Write,
    title: &str,
    all: &[T],
    line: impl Fn(&T) -> String,
) -> Result<(), CliError> {
    if all.is_empty() {
        return Ok(());
    }
    write_line(output, &format!("\n{title}:"))?;
    for one in all.iter().take(LISTED_MAX) {
        write_line(output, &format!("  {}", line(one)))?;
    }
    match all.len().saturating_sub(LISTED_MAX) {
        0 => Ok(()),
        more => write_line(output, &format!("  and {more} more; see --json")),
    }
}

fn running(transfers: &[TransferStatus]) -> Table {
    let mut table = Table::new(&[
        ("way", Align::Left),
        ("kind", Align::Left),
        ("partition", Align::Right),
        ("peer", Align::Left),
        ("progress", Align::Left),
        ("items", Align::Right),
        ("bytes", Align::Right),
        ("rate", Align::Right),
        ("left", Align::Right),
        ("", Align::Left),
    ]);
    for transfer in transfers {
        let rate = format!("{}/s", bytes(transfer.bytes_per_second));
        let mut remarks = Vec::new();
        if transfer.idle_s > IDLE_S_MAX {
            remarks.push(format!("nothing has moved for {}", time(transfer.idle_s)));
        }
        if transfer.unreadable > 0 {
            remarks.push(format!("{} skipped: unreadable", transfer.unreadable));
        }
        table.row([
            transfer.direction.clone(),
            transfer.kind.clone(),
            transfer.partition.to_string(),
            transfer.peer.clone(),
            bar(transfer.share),
            format!("{} of {}", transfer.items_done, transfer.items_estimate),
            format!("{} of {}", bytes(transfer.bytes_done), bytes(transfer.bytes_estimate)),
            rate,
            transfer.eta_s.map(time).unwrap_or_default(),
            if remarks.is_empty() { " ".to_owned() } else { remarks.join(", ") },
        ]);
    }
    table
}

/// A share of 0 to 1 as a bar, whatever a node says.
pub(super) fn bar(share: f64) -> String {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let full = (share * BAR_CHARACTERS as f64) as usize;
    let (full, empty) = ("#".repeat(full), ".".repeat(BAR_CHARACTERS.saturating_sub(full)));
    format!("[{full}{empty}] {:>3.0} %", (share * 100.0).floor())
}

fn time(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

fn waiting_line(transfer: &WaitingTransfer) -> String {
    let (kind, peer, why) =
        (explanation(&transfer.kind), explanation(&transfer.peer), explanation(&transfer.why));
    format!("{kind} {} → {peer}: {why}", transfer.partition)
}

fn repair_line(repair: &RepairStatus) -> String {
    let from: Vec<String> = repair
        .from
        .iter()
        .take(LISTED_MAX)
        .map(|source| format!("{} ({})", explanation(&source.node), source.partition))
        .collect();
    let from = if from.is_empty() { String::new() } else { format!("; awaited from {}", from.join(", ")) };
    format!("partition {}: {}{from}", repair.partition, explanation(&repair.text))
}

fn ended_line(transfer: &EndedTransfer) -> String {
    let arrow = if transfer.direction == "in" { "←" } else { "→" };
    let (kind, peer) = (explanation(&transfer.kind), explanation(&transfer.peer));
    let (outcome, ago) = (explanation(&transfer.outcome), time(transfer.ago_s));
    let skipped = match transfer.unreadable {
        0 => String::new(),
        count => format!(", {count} skipped: unreadable"),
    };
    let (items, size) = (transfer.items, bytes(transfer.bytes));
    let items = counted(usize::try_from(items).unwrap_or(usize::MAX), "item", "items");
    let partition = transfer.partition;
    format!("{kind} {partition} {arrow} {peer}: {outcome} ({items}, {size}{skipped}), {ago} ago")
}

fn totals(status: &HandoffStatus) -> Vec<String> {
    let moved = status.totals.iter().filter(|total| total.completed + total.ended + total.items > 0);
    moved
        .map(|total| {
            let (kind, way) = (explanation(&total.kind), explanation(&total.direction));
            let skipped = match total.unreadable {
                0 => String::new(),
                count => format!(", {count} skipped: unreadable"),
            };
            let (done, ended, items, size) = (total.completed, total.ended, total.items, bytes(total.bytes));
            format!("{kind} {way}: {done} completed, {ended} ended otherwise; {items} items, {size}{skipped}")
        })
        .collect()
}
