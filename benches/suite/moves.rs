//! Data and ownership on the move: a cluster that grows, a node that returns to what was kept for it, one transfer.

use crate::node::{Cluster, Process, now, until};
use crate::requests::SHARED;
use crate::table::{Bar, Table, median};
use crate::{Outcome, Suite};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

const GROWTHS: usize = 3;
const TRANSFERS: usize = 3;
const HINTED: u64 = 100_000;

/// An empty cluster grows from one node to three; a node was away for 100 000 messages and returns.
pub fn moves(suite: &Suite, table: &mut Table) -> Outcome {
    let mut took = Vec::new();
    for number in 0..GROWTHS {
        let directory = suite.directory.path().join(format!("growth-{number}"));
        took.push(Cluster::start(&suite.programs, &directory, 3, &[SHARED])?.1.as_secs_f64());
    }
    let settled = median(took).unwrap_or_default();
    table.row(
        "growth from one node to three, commit to settled",
        Bar::Most(3.0, 1.0),
        settled,
        "s",
        "median of 3",
    );
    hints(suite, table)
}

/// Items that came in or went out as hints, as a node counts them.
fn hinted(node: &Process, direction: &str) -> u64 {
    let status = node.get("/admin/handoff").unwrap_or_default();
    let of = |totals: &&Value| totals["kind"] == "hinted" && totals["direction"] == direction;
    let totals = status["totals"].as_array().into_iter().flatten();
    totals.filter(of).filter_map(|totals| totals["items_sent"].as_u64()).sum()
}

fn is_home(node: &Process) -> bool {
    let (ring, handoff) = (node.get("/admin/ring"), node.get("/admin/handoff"));
    let (ring, handoff) = (ring.unwrap_or_default(), handoff.unwrap_or_default());
    let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
    ring["settled"] == true
        && [&ring["strays"], &ring["pending"], &ring["incomplete"], &handoff["running"]]
            .into_iter()
            .all(empty)
}

fn hints(suite: &Suite, table: &mut Table) -> Outcome {
    let directory = suite.directory.path().join("hints");
    let (mut cluster, _) = Cluster::start(&suite.programs, &directory, 3, &[SHARED])?;
    let gone = cluster.nodes.pop().flatten().ok_or("the third node does not run")?;
    gone.kill()?;
    until("the others see that it is down", Duration::from_millis(100), || {
        cluster.running().all(|node| {
            let members = node.get("/admin/members").unwrap_or_default();
            let members = members["members"].as_array().into_iter().flatten();
            members.filter(|member| member["available"] == "down").count() == 1
        })
    })?;
    // Beside the prefill there are some reads, so that the load generator has something to measure.
    let filling = HINTED.div_ceil(1000).to_string();
    let mut command = Command::new(&suite.programs.ringwork);
    command.args([
        "bench",
        "chat",
        "--read-share",
        "1",
        "--rate",
        "20",
        "--duration",
        "1s",
        "--warmup",
        "1s",
    ]);
    let output = command.args(["--prefill", &filling, "--node", &cluster.urls().join(",")]).output()?;
    if !output.status.success() {
        return Err(format!("the messages were not sent: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let begun = now();
    let back = cluster.spawn(2)?;
    let (mut started, mut served) = (None, None);
    until("everything is home", Duration::from_millis(25), || {
        served = served.or_else(|| back.is_ready().then(|| now() - begun));
        let sent: u64 = cluster.running().map(|node| hinted(node, "out")).sum();
        started = started.or_else(|| (sent > 0).then(|| now() - begun));
        sent > 0 && served.is_some() && cluster.running().chain([&back]).all(is_home)
    })?;
    let ended = (now() - begun).as_secs_f64();
    let items = hinted(&back, "in");
    let started = started.unwrap_or_default().as_secs_f64();
    let served = served.unwrap_or_default().as_secs_f64();
    let remark = format!("from the start of its process, which serves after {served:.2} s");
    table.row("hinted handoff of 100 000 messages: starts", Bar::Most(2.0, 0.5), started, "s", remark);
    let remark = format!("{items} items had been kept for it; all at their holders, nothing incomplete");
    table.row("… and ends", Bar::Most(10.0, 3.0), ended, "s", remark);
    Ok(())
}

/// A million items of 100 bytes in one transfer, again and again: benches/transfer.rs. The middle one counts: of ten in
/// a row one was half as fast as the others, on a machine that is not alone.
pub fn transfer(suite: &Suite, table: &mut Table) -> Outcome {
    let mut found = Vec::new();
    for _ in 0..TRANSFERS {
        let output = Command::new(&suite.programs.transfer).output()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let rate = text.split(" items/s").next().and_then(|head| head.rsplit(' ').next());
        let rate: f64 = rate.and_then(|rate| rate.parse().ok()).ok_or_else(|| {
            format!("the transfer said {text:?} and {}", String::from_utf8_lossy(&output.stderr))
        })?;
        found.push((rate, text.split_once("; ").map_or("", |(_, rest)| rest).to_owned()));
    }
    found.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let rates: Vec<String> = found.iter().map(|(rate, _)| format!("{rate:.0}")).collect();
    let (rate, remark) = found.get(TRANSFERS / 2).ok_or("no transfers")?;
    let remark = format!("{remark}; of {}", rates.join(", "));
    table.row("one transfer, items of 100 bytes", Bar::Least(300_000.0, 600_000.0), *rate, "items/s", remark);
    Ok(())
}
