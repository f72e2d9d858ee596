//! What requests cost, of one node and of three, and over rings of different sizes. It decides what is compared with
//! the echo, and with what others need.

use crate::load::{ECHO, FOR_TAIL, FOR_THE_MOST, Load};
use crate::node::{Cluster, Process};
use crate::table::{Bar, Table, median};
use crate::{Outcome, Suite};

const SYNC: &str = "store.durability=sync";
/// Nodes that share two cores have a thread for HTTP each, as `ringwork dev` starts them.
pub const SHARED: &str = "http.workers=1";

/// How many partitions rings have.
const RINGS: [u32; 3] = [64, 1024, 16_384];
/// Of costs that must be flat, at each of three sizes in turn.
pub const FLAT_ROUNDS: u32 = 4;
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

/// The mean of the quieter half of a tail's rounds, which is what is compared, and of all of them the middle. Whatever
/// else runs on a shared machine only ever adds to a tail: now in a few rounds, now in half of them. What nodes do by
/// themselves is in every round: they flush some ten memtables a second.
fn quieter_half(mut tails_ms: Vec<f64>) -> Option<(f64, f64)> {
    tails_ms.sort_by(f64::total_cmp);
    let quieter = tails_ms.get(..tails_ms.len().div_ceil(2))?;
    let mean = quieter.iter().sum::<f64>() / quieter.len() as f64;
    Some((mean, median(tails_ms)?))
}

/// How long the slowest wait at half of what three nodes can take, and how long for an echo at that rate.
///
/// What they can take is found anew before each round: it differs by a tenth and more from minute to minute on a shared
/// machine, and at half of it nine tenths of two processors are taken, so that a tail depends on a tenth more or less.
/// The echo comes after the nodes, both twice, not in turn with them: what nodes do after a round of theirs would be in
/// its tail.
pub fn tail(suite: &Suite, table: &mut Table) -> Outcome {
    let programs = &suite.programs;
    let most = Load { spans: FOR_THE_MOST, ..Load::sends(1) };
    let half = |most: f64| Load { spans: FOR_TAIL, rate: Some(most / 2.0), ..Load::sends(1) };
    let (mut mosts, mut tails_ms, mut echoes_ms) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 1..=2 {
        let place = suite.directory.path().join(format!("tail-{turn}"));
        let (cluster, _) = Cluster::start(programs, &place, 3, &[SHARED])?;
        for _ in 0..suite.rounds * 3 {
            let most = most.run_alone(programs, &cluster.urls())?.per_second;
            tails_ms.extend(half(most).run_alone(programs, &cluster.urls())?.tails_ms);
            mosts.push(most);
        }
        drop(cluster);
        let echo = Process::echo(programs)?;
        let most = median(mosts.clone()).ok_or("no rounds")?;
        let load = Load { workload: ECHO, rounds: suite.rounds * 2, ..half(most) };
        echoes_ms.extend(load.run_alone(programs, &[echo.url()])?.tails_ms);
    }
    let (rounds, rate) = (tails_ms.len(), median(mosts).ok_or("no rounds")? / 2.0);
    let of_rounds = |tails_ms| quieter_half(tails_ms).ok_or("no rounds");
    let ((nodes_ms, nodes_middle_ms), (echo_ms, echo_middle_ms)) =
        (of_rounds(tails_ms)?, of_rounds(echoes_ms)?);
    let remark = format!(
        "mean of the quieter half of {rounds} rounds {nodes_ms:.1} ms, median of all {nodes_middle_ms:.1} ms; of an \
         echo alone {echo_ms:.2} and {echo_middle_ms:.2} ms; {rate:.0}/s"
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
    let mut asked = Vec::new();
    for (host, size) in (1..).zip(RINGS) {
        let place = directory(size, "asked");
        let cluster = Cluster::alone_at(host, &suite.programs, &place, &[&setting(size)])?;
        cluster.open(USERS_OF_RINGS)?;
        asked.push(cluster);
    }
    let load = Load { users: Some(USERS_OF_RINGS), ..Load::sends(suite.rounds.min(FLAT_ROUNDS)) };
    let urls: Vec<_> = asked.iter().map(|cluster| (cluster.urls(), load.connections)).collect();
    for (what, share) in [("CPU of a send, over Q", 0.0), ("CPU of a get, over Q", 1.0)] {
        let found = load.reading(share).run_in_turn(&suite.programs, &urls, &echo)?;
        let ratios = found.iter().map(|found| found.ratio);
        table.flat(what, " ×", &RINGS.map(name).into_iter().zip(ratios).collect::<Vec<_>>());
    }
    table.flat("resident memory of an empty node, over Q", " MB", &resident);
    table.flat("idle CPU of an empty node, over Q", " %", &idle);
    Ok(())
}
