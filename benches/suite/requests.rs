//! What requests cost, of one node and of three, and over rings of different sizes. It decides what is compared with
//! the echo, and with what others need.

use crate::load::{ECHO, FOR_TAIL, Load};
use crate::node::{Cluster, Process};
use crate::table::{Bar, Table};
use crate::{Outcome, Suite};

const SYNC: &str = "store.durability=sync";
/// Nodes that share two cores have a thread for HTTP each, as `ringwork dev` starts them.
pub const SHARED: &str = "http.workers=1";

/// How many partitions rings have.
const RINGS: [u32; 3] = [64, 1024, 16_384];
/// As many in every ring, so that as many vnodes are asked in every large one.
const USERS_OF_RINGS: u64 = 100;

/// What Riak and riak_core needed as multiples of an echo that ran beside them (docs/performance.md).
const RIAK_PUT_ECHOES: f64 = 85.0;
const RIAK_CORE_CHAT_ECHOES: f64 = 8.5;

/// Sends to one node, whose three replicas are vnodes of its own.
pub fn one_node(suite: &Suite, table: &mut Table) -> Outcome {
    let echo = Process::echo(&suite.programs)?;
    for (durability, settings, bar) in
        [("interval", &[][..], Bar::Most(1.8, 1.4)), ("sync", &[SYNC][..], Bar::Most(2.1, 1.7))]
    {
        let directory = suite.directory.path().join(format!("one-{durability}"));
        let cluster = Cluster::alone(&suite.programs, &directory, settings)?;
        let found = Load::sends(suite.rounds).run(&suite.programs, &cluster.urls(), &echo)?;
        table.row(&format!("send, one node, {durability}"), bar, found.ratio, "×", found.remark());
    }
    Ok(())
}

/// The same and more of three nodes, with all their CPU together.
pub fn three_nodes(suite: &Suite, table: &mut Table) -> Outcome {
    let echo = Process::echo(&suite.programs)?;
    let (programs, sends) = (&suite.programs, Load::sends(suite.rounds));
    let place = |name: &str| suite.directory.path().join(name);
    {
        let (cluster, _) = Cluster::start(programs, &place("three-sync"), 3, &[SHARED, SYNC])?;
        let found = sends.run(programs, &cluster.urls(), &echo)?;
        table.row("send, three nodes, sync", Bar::Most(3.5, 2.5), found.ratio, "×", found.remark());
        let fold = RIAK_CORE_CHAT_ECHOES / found.ratio;
        let remark = "durable; its chat keeps a dict in memory, 8.5 × its echo";
        table.row("the same against riak_core's chat", Bar::Least(2.8, 4.0), fold, "× less CPU", remark);
    }
    let (cluster, _) = Cluster::start(programs, &place("three"), 3, &[SHARED])?;
    let urls = cluster.urls();
    let found = sends.run(programs, &urls, &echo)?;
    table.row("send, three nodes, interval", Bar::Most(3.0, 2.0), found.ratio, "×", found.remark());
    let fold = RIAK_PUT_ECHOES / found.ratio;
    table.row("the same against Riak's put", Bar::Least(28.0, 42.0), fold, "× less CPU", "85 × its echo");
    let found = sends.reading(1.0).run(programs, &urls, &echo)?;
    table.row("get of 20, three nodes, r = 2", Bar::Most(5.0, 3.0), found.ratio, "×", found.remark());
    let found = sends.reading(0.5).run(programs, &urls, &echo)?;
    table.row("half sends, half gets of 20, three nodes", Bar::None, found.ratio, "×", found.remark());
    for (what, read_share) in [("kv put, three nodes", 0.0), ("kv get, three nodes", 1.0)] {
        let load = Load { workload: "kv", ..sends.reading(read_share) };
        let found = load.run(programs, &urls, &echo)?;
        table.row(what, Bar::None, found.ratio, "×", found.remark());
    }
    Ok(())
}

/// What this part of a tail's rounds stays below is what is compared. Whatever else runs on a shared machine only ever
/// adds to a tail: now in a few rounds, now in half of them, and most where processors are nearly all taken. What nodes
/// do by themselves is in every round: they flush some ten memtables a second.
const QUIET_ROUNDS: f64 = 0.25;

/// How long the slowest wait at half of what three nodes can take, and how long for an echo at that rate. One after the
/// other, not in turn: what nodes do after a round of theirs would be in the echo's tail.
pub fn tail(suite: &Suite, table: &mut Table) -> Outcome {
    let programs = &suite.programs;
    let (cluster, _) = Cluster::start(programs, &suite.directory.path().join("tail"), 3, &[SHARED])?;
    // A tail differs far more from round to round than CPU time does, and more the nearer to the most it is taken.
    let load = Load { spans: FOR_TAIL, ..Load::sends(suite.rounds * 2) };
    let most = load.run_alone(programs, &cluster.urls())?.per_second;
    let (rate, rounds) = (most / 2.0, suite.rounds * 7);
    let load = Load { rate: Some(rate), rounds, ..load };
    let nodes = load.run_alone(programs, &cluster.urls())?;
    drop(cluster);
    let echo = Process::echo(programs)?;
    let load = Load { workload: ECHO, rounds: suite.rounds * 4, ..load };
    let echoes = load.run_alone(programs, &[echo.url()])?;
    let (nodes_ms, echo_ms) = (nodes.tail_ms(QUIET_ROUNDS), echoes.tail_ms(QUIET_ROUNDS));
    let remark = format!(
        "a quarter of {rounds} rounds stays below {nodes_ms:.1} ms, half of them below {:.1} ms; of an echo alone \
         {echo_ms:.2} and {:.2} ms; {rate:.0}/s",
        nodes.tail_ms(0.5),
        echoes.tail_ms(0.5)
    );
    let what = "p99 of a send at half of the most, three nodes";
    table.row(what, Bar::Most(4.0, 2.0), nodes_ms / echo_ms.max(0.001), "×", remark);
    Ok(())
}

/// Rings of different sizes: what a request costs must not grow with Q.
pub fn rings(suite: &Suite, table: &mut Table) -> Outcome {
    let echo = Process::echo(&suite.programs)?;
    let setting = |size: u32| format!("cluster.ring_size={size}");
    let directory = |size: u32, what: &str| suite.directory.path().join(format!("ring-{size}-{what}"));
    let name = |size: u32| format!("Q = {size}");
    let mut clusters = Vec::new();
    for (host, size) in (1..).zip(RINGS) {
        let begun = crate::node::now();
        let place = directory(size, "idle");
        clusters.push(Cluster::alone_at(host, &suite.programs, &place, &[&setting(size)])?);
        let took = (crate::node::now() - begun).as_secs_f64();
        table.row(&format!("first start, {}", name(size)), Bar::None, took, "s", "");
    }
    let percents = crate::members::idle_percents(&clusters);
    let idle: Vec<(String, f64)> = RINGS.map(name).into_iter().zip(percents).collect();
    let megabytes = clusters.iter().map(|cluster| cluster.running().map(Process::resident_mb).sum());
    let resident: Vec<(String, f64)> = RINGS.map(name).into_iter().zip(megabytes).collect();
    drop(clusters);
    let (mut sends, mut gets) = (Vec::new(), Vec::new());
    for size in RINGS {
        let cluster = Cluster::alone(&suite.programs, &directory(size, "asked"), &[&setting(size)])?;
        cluster.open(USERS_OF_RINGS)?;
        let load = Load { users: Some(USERS_OF_RINGS), ..Load::sends(suite.rounds.min(4)) };
        for (figures, share) in [(&mut sends, 0.0), (&mut gets, 1.0)] {
            let found = load.reading(share).run(&suite.programs, &cluster.urls(), &echo)?;
            figures.push((name(size), found.ratio));
        }
    }
    table.flat("CPU of a send, over Q", " ×", &sends);
    table.flat("CPU of a get, over Q", " ×", &gets);
    table.flat("resident memory of an empty node, over Q", " MB", &resident);
    table.flat("idle CPU of an empty node, over Q", " %", &idle);
    Ok(())
}
