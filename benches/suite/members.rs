//! Clusters of different sizes: what a node costs that nobody asks, and what a request costs. Both must not grow with
//! the number of nodes.

use crate::load::Load;
use crate::node::{Cluster, Process, now, pause};
use crate::requests::{FLAT_ROUNDS, SHARED};
use crate::table::{Bar, Table};
use crate::{Outcome, Suite};
use std::time::Duration;

/// After a start there is work that no idle node has: replicas are compared for the first time, trees are built.
const COME_TO_REST: Duration = Duration::from_secs(5);
const CONNECTIONS_PER_NODE: usize = 21;
const SIZES: [usize; 3] = [3, 5, 7];
/// Of which sizes clusters are watched while nobody asks them, the first of each size also under load. What a wake-up
/// costs a process depends on who was awake just before it, and that stays as it is for as long as they run: so of each
/// size there are ten processes or more.
const IDLE: [usize; 8] = [3, 5, 7, 3, 5, 7, 3, 3];
/// Twice `repair.interval`: replicas are compared once in it, for half of it or so and then not at all. A shorter look
/// finds more or less of that.
const WATCHED: Duration = Duration::from_secs(30);
/// Who has no replicas elsewhere compares none.
pub const WATCHED_ALONE: Duration = Duration::from_secs(15);

/// What each process of these clusters uses of a core while nobody asks it, in per cent, on the average of its cluster.
/// All are watched at the same time: what an idle process costs is being woken up, and what that costs is the machine's
/// to say, and differs by half from minute to minute.
pub fn idle_percents(clusters: &[Cluster<'_>], watched: Duration) -> Vec<f64> {
    pause(COME_TO_REST);
    let cpu = || {
        clusters
            .iter()
            .map(|cluster| cluster.running().map(Process::cpu_time).sum())
            .collect::<Vec<Duration>>()
    };
    let (begun, before) = (now(), cpu());
    pause(watched);
    let (seconds, after) = ((now() - begun).as_secs_f64(), cpu());
    let used = after.iter().zip(&before).map(|(after, before)| after.saturating_sub(*before).as_secs_f64());
    let each = |(used, cluster): (f64, &Cluster<'_>)| {
        100.0 * used / seconds / cluster.running().count().max(1) as f64
    };
    used.zip(clusters).map(each).collect()
}

/// Three, five and seven nodes.
pub fn members(suite: &Suite, table: &mut Table) -> Outcome {
    let echo = Process::echo(&suite.programs)?;
    let place = |name: String| suite.directory.path().join(name);
    let mut clusters = Vec::new();
    for (number, count) in (1..).zip(IDLE) {
        // As many hosts apart as the largest has nodes, and more.
        let (first_host, directory) = (10 * number, place(format!("members-{number}")));
        clusters.push(Cluster::start_at(first_host, &suite.programs, &directory, count, &[SHARED])?.0);
    }
    let percents = idle_percents(&clusters, WATCHED);
    let names = SIZES.map(|count| format!("{count} nodes"));
    let of_each_size = |figures: &[f64], of: fn(Vec<f64>) -> f64| -> Vec<(String, f64)> {
        let sized = |count| IDLE.iter().zip(figures).filter(move |(size, _)| **size == count);
        let figure = |count| of(sized(count).map(|(_, figure)| *figure).collect());
        names.iter().cloned().zip(SIZES.map(figure)).collect()
    };
    let idle = of_each_size(&percents, |percents| percents.iter().sum::<f64>() / percents.len() as f64);
    let largest = |cluster: &Cluster<'_>| cluster.running().map(Process::resident_mb).fold(0.0, f64::max);
    let largest: Vec<f64> = clusters.iter().map(largest).collect();
    let resident = of_each_size(&largest, |mb| mb.into_iter().fold(0.0, f64::max));
    clusters.truncate(SIZES.len());
    if let (Some((_, percent)), Some((_, mb))) = (idle.get(1), resident.get(1)) {
        table.row("idle CPU of a node of five", Bar::Most(0.5, 0.1), *percent, "% of a core", "");
        let what = "resident memory of an idle node of five";
        table.row(what, Bar::Most(64.0, 32.0), *mb, "MB", "the largest");
    }
    // As many for each node: with fewer each would wake up oftener for the same, whatever it is told.
    let connections = SIZES.map(|count| CONNECTIONS_PER_NODE * count);
    let load = Load::sends(suite.rounds.min(FLAT_ROUNDS));
    let loaded =
        |(cluster, connections): (&Cluster<'_>, usize)| (Load { connections, ..load }, cluster.urls());
    let loads: Vec<_> = clusters.iter().zip(connections).map(loaded).collect();
    let found = Load::run_in_turn(&loads, &suite.programs, &echo)?;
    let sends: Vec<_> = names.into_iter().zip(found.iter().map(|found| found.ratio)).collect();
    table.flat("idle CPU of each node, over nodes", " %", &idle);
    table.flat("resident memory of an idle node, over nodes", " MB", &resident);
    table.flat("CPU of a send, all nodes together, over nodes", " ×", &sends);
    Ok(())
}
