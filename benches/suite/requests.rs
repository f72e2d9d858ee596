//! What requests cost, of one node and of three, and over rings of different sizes. It decides what is compared with
//! the echo, and with what others need.

use crate::load::{ECHO, FOR_TAIL, FOR_THE_MOST, Found, Load, Tail};
use crate::node::{Cluster, Process};
use crate::table::{Bar, Table, median};
use crate::{Outcome, Suite};

const SYNC: &str = "store.durability=sync";
/// Nodes that share two cores have a thread for HTTP each, as `ringwork dev` starts them.
pub const SHARED: &str = "http.workers=1";

/// How many partitions rings have.
const RINGS: [u32; 3] = [64, 1024, 16_384];
/// How many idle nodes of each are watched at the same time: what a wake-up costs one of them depends on who was awake
/// just before it, and that stays as it is for as long as they run.
const IDLE_OF_A_SIZE: usize = 4;
/// Of costs that must be flat, at each of three sizes in turn.
pub const FLAT_ROUNDS: u32 = 8;
/// How often nodes are started for their tail, and an echo after them.
const TAILS: usize = 3;
/// As many in every ring, so that as many vnodes are asked in every large one.
const USERS_OF_RINGS: u64 = 100;

/// What Riak and riak_core needed as multiples of an echo that ran beside them (docs/performance.md).
const RIAK_PUT_ECHOES: f64 = 85.0;
const RIAK_CORE_CHAT_ECHOES: f64 = 8.5;

/// Sends to one node, whose three replicas are vnodes of its own, and to three, with all their CPU together.
pub fn sends(suite: &Suite, table: &mut Table) -> Outcome {
    let (programs, load) = (&suite.programs, Load::sends(suite.rounds));
    let echo = Process::echo(programs)?;
    let place = |name: &str| suite.directory.path().join(name);
    let clusters = [
        Cluster::alone_at(10, programs, &place("one-interval"), &[])?,
        Cluster::alone_at(11, programs, &place("one-sync"), &[SYNC])?,
        Cluster::start_at(20, programs, &place("three-sync"), 3, &[SHARED, SYNC])?.0,
        Cluster::start_at(30, programs, &place("three-interval"), 3, &[SHARED])?.0,
    ];
    let loads = clusters.each_ref().map(|cluster| (load, cluster.urls()));
    let found = Load::run_in_turn(&loads, programs, &echo)?;
    let [one_interval, one_sync, three_sync, three_interval] = &found[..] else {
        return Err("some loads have no figures".into());
    };
    let mut row = |what: &str, bar, found: &Found| table.row(what, bar, found.ratio, "×", found.remark());
    row("send, one node, interval", Bar::Most(1.8, 1.4), one_interval);
    row("send, one node, sync", Bar::Most(2.1, 1.7), one_sync);
    row("send, three nodes, sync", Bar::Most(3.5, 2.5), three_sync);
    row("send, three nodes, interval", Bar::Most(3.0, 2.0), three_interval);
    let fold = RIAK_CORE_CHAT_ECHOES / three_sync.ratio;
    let remark = "three nodes, sync; its chat keeps a dict in memory, 8.5 × its echo";
    table.row("a send against riak_core's chat", Bar::Least(2.8, 4.0), fold, "× less CPU", remark);
    let fold = RIAK_PUT_ECHOES / three_interval.ratio;
    let remark = "three nodes, interval; 85 × its echo";
    table.row("a send against Riak's put", Bar::Least(28.0, 42.0), fold, "× less CPU", remark);
    Ok(())
}

/// What else three nodes are asked for.
pub fn three_nodes(suite: &Suite, table: &mut Table) -> Outcome {
    let programs = &suite.programs;
    let echo = Process::echo(programs)?;
    let (cluster, _) = Cluster::start(programs, &suite.directory.path().join("three"), 3, &[SHARED])?;
    let chat = Load::sends(suite.rounds);
    let kv = Load { workload: "kv", ..chat };
    let rows = [
        ("get of 20, three nodes, r = 2", Bar::Most(5.0, 3.0), chat.reading(1.0)),
        ("half sends, half gets of 20, three nodes", Bar::None, chat.reading(0.5)),
        ("kv put, three nodes", Bar::None, kv),
        ("kv get, three nodes", Bar::None, kv.reading(1.0)),
    ];
    let loads: Vec<_> = rows.iter().map(|(_, _, load)| (*load, cluster.urls())).collect();
    let found = Load::run_in_turn(&loads, programs, &echo)?;
    for ((what, bar, _), found) in rows.into_iter().zip(found) {
        table.row(what, bar, found.ratio, "×", found.remark());
    }
    Ok(())
}

/// The mean over the quieter three quarters of rounds. Whatever else runs on a shared machine only ever adds to a tail:
/// now in a few rounds, now in half of them. What nodes do by themselves is in every round: they flush some ten
/// memtables a second.
fn quieter_rounds(mut means_ms: Vec<f64>) -> Option<f64> {
    means_ms.sort_by(f64::total_cmp);
    let quieter = means_ms.get(..(3 * means_ms.len()).div_ceil(4)).filter(|quieter| !quieter.is_empty())?;
    Some(quieter.iter().sum::<f64>() / quieter.len() as f64)
}

/// How long the slowest wait at half of what three nodes can take, and how long for an echo at that rate: 99th
/// percentiles of tenths of a second. One of a whole second is its one or two longest stalls, and differs tenfold from
/// second to second.
///
/// Of nodes it is the mean over the tenths, so that every stall of the rounds that are taken counts, and for as long as
/// it lasts. Of the echo it is the median: an echo has no stalls of its own, and with those in it that it shares with
/// whatever else runs on the machine, nodes would look the better the noisier the hour is.
///
/// What nodes can take is found anew before every round: it differs by a tenth and more from minute to minute on a
/// shared machine, and at half of it nine tenths of two processors are taken, so that a tail depends on a tenth more or
/// less. The echo comes after the nodes, both three times, not in turn with them: what nodes do after a round of theirs
/// would be in its tail.
pub fn tail(suite: &Suite, table: &mut Table) -> Outcome {
    let programs = &suite.programs;
    let most = Load { spans: FOR_THE_MOST, ..Load::sends(1) };
    let half = |most: f64, rounds| Load { spans: FOR_TAIL, rate: Some(most / 2.0), ..Load::sends(rounds) };
    let (mut mosts, mut tails, mut echoes) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 1..=TAILS {
        let place = suite.directory.path().join(format!("tail-{turn}"));
        let (cluster, _) = Cluster::start(programs, &place, 3, &[SHARED])?;
        for _ in 0..suite.rounds {
            let most = most.run_alone(programs, &cluster.urls())?.per_second;
            tails.extend(half(most, 1).run_alone(programs, &cluster.urls())?.tails);
            mosts.push(most);
        }
        drop(cluster);
        let echo = Process::echo(programs)?;
        let most = median(mosts.clone()).ok_or("no rounds")?;
        let load = Load { workload: ECHO, ..half(most, suite.rounds.div_ceil(5)) };
        echoes.extend(load.run_alone(programs, &[echo.url()])?.tails);
    }
    let of = |tails: &[Tail], figure: fn(&Tail) -> f64| tails.iter().map(figure).collect::<Vec<_>>();
    let nodes_ms = quieter_rounds(of(&tails, |tail| tail.mean_ms)).ok_or("no tail")?;
    let echo_ms = median(of(&echoes, |tail| tail.median_ms)).ok_or("no tail of the echo")?;
    let middle_ms = median(of(&tails, |tail| tail.median_ms)).ok_or("no tail")?;
    let echo_mean_ms = quieter_rounds(of(&echoes, |tail| tail.mean_ms)).ok_or("no tail of the echo")?;
    let rate = median(mosts).ok_or("no rounds")? / 2.0;
    let remark = format!(
        "of tenths of a second: mean {nodes_ms:.1} ms, median {middle_ms:.1} ms; of an echo alone median \
         {echo_ms:.2} ms, mean {echo_mean_ms:.2} ms; means of the quieter three quarters of {} rounds; {rate:.0}/s",
        tails.len()
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
    let all = (0..IDLE_OF_A_SIZE).flat_map(|number| RINGS.map(|size| (number, size)));
    for (host, (number, size)) in (1..).zip(all) {
        let begun = crate::node::now();
        let place = directory(size, &format!("idle-{number}"));
        clusters.push(Cluster::alone_at(host, &suite.programs, &place, &[&setting(size)])?);
        let took = (crate::node::now() - begun).as_secs_f64();
        if number == 0 {
            table.row(&format!("first start, {}", name(size)), Bar::None, took, "s", "");
        }
    }
    let of_each_size = |figures: Vec<f64>| -> Vec<(String, f64)> {
        let of =
            |at: usize| figures.iter().skip(at).step_by(RINGS.len()).sum::<f64>() / IDLE_OF_A_SIZE as f64;
        RINGS.iter().enumerate().map(|(at, size)| (name(*size), of(at))).collect()
    };
    let idle = of_each_size(crate::members::idle_percents(&clusters, crate::members::WATCHED_ALONE));
    let megabytes = clusters.iter().map(|cluster| cluster.running().map(Process::resident_mb).sum());
    let resident = of_each_size(megabytes.collect());
    drop(clusters);
    let mut asked = Vec::new();
    for (host, size) in (1..).zip(RINGS) {
        let place = directory(size, "asked");
        let cluster = Cluster::alone_at(host, &suite.programs, &place, &[&setting(size)])?;
        cluster.open(USERS_OF_RINGS)?;
        asked.push(cluster);
    }
    let load = Load { users: Some(USERS_OF_RINGS), ..Load::sends(suite.rounds.min(FLAT_ROUNDS)) };
    for (what, share) in [("CPU of a send, over Q", 0.0), ("CPU of a get, over Q", 1.0)] {
        let loads: Vec<_> = asked.iter().map(|cluster| (load.reading(share), cluster.urls())).collect();
        let found = Load::run_in_turn(&loads, &suite.programs, &echo)?;
        let ratios = found.iter().map(|found| found.ratio);
        table.flat(what, " ×", &RINGS.map(name).into_iter().zip(ratios).collect::<Vec<_>>());
    }
    table.flat("resident memory of an empty node, over Q", " MB", &resident);
    table.flat("idle CPU of an empty node, over Q", " %", &idle);
    Ok(())
}
