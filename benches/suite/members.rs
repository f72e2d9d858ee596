//! Clusters of different sizes: what a node costs that nobody asks, and what a request costs. Both must not grow with
//! the number of nodes.

use crate::load::Load;
use crate::node::{Cluster, Process, now, pause};
use crate::requests::SHARED;
use crate::table::{Bar, Table};
use crate::{Outcome, Suite};
use std::time::Duration;

/// After a start there is work that no idle node has: replicas are compared for the first time, trees are built.
const COME_TO_REST: Duration = Duration::from_secs(5);
const CONNECTIONS_PER_NODE: usize = 21;
const WATCHED: Duration = Duration::from_secs(10);

/// What each of these processes uses of a core while nobody asks it, in per cent, on the average.
pub fn idle_percent(nodes: &[&Process]) -> f64 {
    pause(COME_TO_REST);
    let cpu = || nodes.iter().map(|node| node.cpu_time()).sum::<Duration>();
    let (begun, before) = (now(), cpu());
    pause(WATCHED);
    let used = cpu().saturating_sub(before).as_secs_f64();
    100.0 * used / (now() - begun).as_secs_f64() / nodes.len().max(1) as f64
}

/// Three, five and seven nodes.
pub fn members(suite: &Suite, table: &mut Table) -> Outcome {
    let echo = Process::echo(&suite.programs)?;
    let (mut idle, mut resident, mut sends) = (Vec::new(), Vec::new(), Vec::new());
    for count in [3, 5, 7] {
        let directory = suite.directory.path().join(format!("members-{count}"));
        let (cluster, _) = Cluster::start(&suite.programs, &directory, count, &[SHARED])?;
        let nodes: Vec<&Process> = cluster.running().collect();
        let (percent, mb) =
            (idle_percent(&nodes), nodes.iter().map(|node| node.resident_mb()).fold(0.0, f64::max));
        if count == 5 {
            table.row("idle CPU of a node of five", Bar::Most(0.5, 0.1), percent, "% of a core", "");
            table.row(
                "resident memory of an idle node of five",
                Bar::Most(64.0, 32.0),
                mb,
                "MB",
                "the largest",
            );
        }
        // As many for each node: with fewer each would wake up oftener for the same, whatever it is told.
        let load = Load { connections: CONNECTIONS_PER_NODE * count, ..Load::sends(suite.rounds.min(4)) };
        let found = load.run(&suite.programs, &cluster.urls(), &echo)?;
        let name = format!("{count} nodes");
        idle.push((name.clone(), percent));
        resident.push((name.clone(), mb));
        sends.push((name, found.ratio));
    }
    table.flat("idle CPU of each node, over nodes", " %", &idle);
    table.flat("resident memory of an idle node, over nodes", " MB", &resident);
    table.flat("CPU of a send, all nodes together, over nodes", " ×", &sends);
    Ok(())
}
