//! Data goes where it belongs, under load and over deaths: what a change of members moves, what stand-ins took, what
//! was on a disk that is lost. `RINGWORK_TEST_SCALE=full` runs them with as many messages as the bars are about.

use super::changes::done;
use super::disks::{check_disks, counted};
use super::fill::{Filled, check_filled, fill, is_full_scale, scaled};
use super::harness::Cluster;
use super::load::{Load, check_all_there};
use crate::node::{wait_until, waited_for_at};
use ringwork_core::limits::{BATCH_ITEMS_MAX, WINDOW_BATCHES_MAX};
use ringwork_core::ring::RingSize;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long data may take to move in a test; a test that waits this long has failed.
const MOVED_WITHIN: Duration = Duration::from_secs(300);

fn addresses(cluster: &Cluster) -> Vec<SocketAddr> {
    cluster.running().into_iter().map(|number| cluster.address(number)).collect()
}

/// How often it is asked whether everything is home: each time costs the nodes as much as a few sends, and the load
/// beside it is what is measured.
const ASKED_EVERY: Duration = Duration::from_millis(250);

/// Waits until nothing is pending anywhere, no node has data of another's, and nothing is being repaired.
pub(super) fn wait_home(cluster: &Cluster) -> Duration {
    let mut last = String::new();
    let home = waited_for_at(ASKED_EVERY, MOVED_WITHIN, || {
        cluster.running().iter().all(|by| {
            let (ring, handoff) =
                (cluster.ask(*by, "GET", "/admin/ring", ""), cluster.ask(*by, "GET", "/admin/handoff", ""));
            let (ring, handoff) = (ring.json(), handoff.json());
            last = format!("n{}: {ring} {handoff}", by + 1);
            let empty = |value: &serde_json::Value| value.as_array().is_some_and(Vec::is_empty);
            ring["settled"] == true
                && empty(&ring["strays"])
                && empty(&ring["pending"])
                && empty(&ring["incomplete"])
                && empty(&handoff["running"])
                && empty(&handoff["repairing"])
        })
    });
    home.unwrap_or_else(|waited| panic!("not everything is home after {waited:?}: {last}"))
}

pub(super) fn commit(cluster: &Cluster, by: usize) {
    wait_until("the change is committed", || {
        let planned = cluster.ask(by, "POST", "/admin/cluster/plan", "");
        planned.status == 200 && cluster.ask(by, "POST", "/admin/cluster/commit", "").status == 200
    });
}

/// A load before a change and one while it goes on, at all nodes but one; both promise what every load does.
fn under_load(
    cluster: &mut Cluster,
    what: &str,
    but: Option<usize>,
    change: impl FnOnce(&mut Cluster),
) -> Vec<Load> {
    let targets: Vec<SocketAddr> =
        cluster.running().into_iter().filter(|n| Some(*n) != but).map(|n| cluster.address(n)).collect();
    let before = Load::run(&targets, &format!("before-{what}"), |load| {
        load.go_on_for(Duration::from_secs(if is_full_scale() { 12 } else { 4 }))
    });
    let during = Load::run(&targets, what, |load| {
        load.go_on_for(Duration::from_secs(1));
        commit(cluster, 0);
        let begun = Instant::now();
        change(cluster);
        wait_home(cluster);
        println!("{what}: everything is where it belongs {:.1?} after the commit", begun.elapsed());
        load.go_on_for(Duration::from_secs(1));
    });
    before.check(&format!("before {what}"));
    during.check(what);
    let ratio = during.p99().as_secs_f64() / before.p99().as_secs_f64();
    println!("{what}: the 99th percentile is {ratio:.2} x that of before");
    vec![before, during]
}

#[test]
fn what_members_hold_moves_under_load_when_nodes_join_leave_and_are_replaced() {
    let mut cluster = Cluster::start(5, &[]);
    let count = scaled(4_000, 200_000);
    let filled = fill(&addresses(&cluster), "first", count);

    let new = cluster.add(&[]);
    let mut loads = under_load(&mut cluster, "join", None, |_| {});
    assert_eq!(cluster.seen(0, new, "status"), "valid");

    let leaver = 1;
    done(&cluster, 0, "leave", r#"{"node": "n2"}"#);
    loads.extend(leave(&mut cluster, leaver, "leave"));

    let successor = cluster.add(&[]);
    let body = format!(r#"{{"old": "n3", "new": "n{}"}}"#, successor + 1);
    done(&cluster, 0, "replace", &body);
    loads.extend(leave(&mut cluster, 2, "replace"));

    let nodes = addresses(&cluster);
    for load in &loads {
        check_all_there(&nodes[..2], &load.acknowledged());
    }
    check_whole(&nodes, &filled);
    println!("{} items, each on three disks, and nothing else", check_disks(cluster));
}

/// Whoever leaves is no target of the load: it ends by itself, and says so.
fn leave(cluster: &mut Cluster, leaver: usize, what: &str) -> Vec<Load> {
    under_load(cluster, what, Some(leaver), |cluster| {
        let ended = cluster.node_mut(leaver).wait_within(MOVED_WITHIN);
        let log = cluster.node(leaver).log();
        assert_eq!(ended.and_then(|status| status.code()), Some(0), "{log}");
        assert!(log.contains("given away all it held"), "{log}");
        cluster.forget(leaver);
    })
}

/// How many items a node has on its disk, and how many in the partition that has most. Stops all nodes.
fn items_on(mut cluster: Cluster, number: usize) -> (u64, usize) {
    let holds = cluster.ask(number, "GET", "/admin/ring/partitions", "").json();
    let size = RingSize::try_from(holds["partitions"].as_array().unwrap().len() as u32).unwrap();
    let directories = cluster.stop_all();
    let (_, directory) = directories.into_iter().find(|(other, _)| *other == number).unwrap();
    let counts: Vec<usize> = counted(&directory, size);
    (counts.iter().sum::<usize>() as u64, counts.into_iter().max().unwrap_or_default())
}

fn check_whole(nodes: &[SocketAddr], filled: &Filled) {
    for node in &nodes[..2] {
        check_filled(*node, filled);
    }
}

#[test]
fn what_stand_ins_took_goes_home_when_the_holder_is_back() {
    for restarted in [false, true] {
        let mut cluster = Cluster::start(5, &[]);
        let last = 4;
        cluster.kill(last);
        cluster.wait_seen(last, "down");
        let filled = fill(&addresses(&cluster), "meanwhile", scaled(2_000, 100_000));
        if restarted {
            // What a former life took in is offered by the next.
            for fallback in [0, 1] {
                cluster.kill(fallback);
                cluster.start_again(fallback);
            }
        }
        cluster.start_again(last);
        println!("restarted: {restarted}: all its data is home {:.1?} after its return", wait_home(&cluster));
        // Nobody has read anything that could have mended it.
        check_disks_have(cluster, &filled);
    }
}

fn check_disks_have(cluster: Cluster, filled: &Filled) {
    let sent: usize = filled.values().map(Vec::len).sum();
    let found = check_disks(cluster);
    assert!(found >= sent, "{found} items on disk, {sent} were confirmed");
}

#[test]
fn a_transfer_goes_on_over_deaths_of_source_target_and_claimant() {
    // Slowed down, so that deaths meet transfers.
    let settings = ["handoff.bytes_per_second=256KiB"];
    let mut cluster = Cluster::start(4, &settings);
    let filled = fill(&addresses(&cluster), "first", scaled(12_000, 200_000));
    let new = cluster.add(&settings);
    commit(&cluster, 0);
    let claimant: usize = cluster.members(0)["claimant"]
        .as_str()
        .map(|name| name.trim_start_matches('n').parse::<usize>().unwrap() - 1)
        .unwrap();
    let mut killed = BTreeSet::new();
    let mut met = 0;
    let deaths = scaled(4, 10);
    for round in 0..deaths {
        let victim = match round % 3 {
            0 => (new + 1 + round) % 4, // a source
            1 => new,
            _ => claimant,
        };
        // Some way into a transfer, another one each time.
        let far = (round as u64 * 37) % 60;
        wait_until("a transfer has come so far, or all is done", || {
            let handoff = cluster.ask(new, "GET", "/admin/handoff", "").json();
            let mut running = handoff["running"].as_array().unwrap().iter();
            running.any(|line| line["items_done"].as_u64() >= Some(far))
                || cluster.members(0)["settled"] == true
        });
        met += usize::from(cluster.members(0)["settled"] != true);
        cluster.kill(victim);
        killed.insert(victim);
        cluster.start_again(victim);
    }
    println!("{met} of {deaths} deaths met a transfer under way; nodes that died: {killed:?}");
    assert!(met >= deaths / 2, "the transfers were over before anybody died");
    for number in cluster.running() {
        let unlimited = r#"{"bytes_per_second": null}"#;
        let answer = cluster.ask(number, "PUT", "/admin/handoff/limit", unlimited);
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    wait_home(&cluster);
    check_whole(&addresses(&cluster), &filled);
    check_disks_have(cluster, &filled);
}

/// What one node has sent for changes of ownership since it was started: items, by its own word.
fn items_given(cluster: &Cluster, by: usize) -> u64 {
    let handoff = cluster.ask(by, "GET", "/admin/handoff", "").json();
    let mut totals = handoff["totals"].as_array().unwrap().iter();
    let given = totals.find(|line| line["direction"] == "out" && line["kind"] == "ownership").unwrap();
    given["items_sent"].as_u64().unwrap()
}

/// One node gives half of all it has to another, which dies again and again. The giver never dies, so that its count of
/// what it has sent is whole.
#[test]
fn a_death_of_the_target_costs_no_more_than_a_window_sent_twice() {
    let settings = ["handoff.bytes_per_second=256KiB", "handoff.limit=1"];
    let mut cluster = Cluster::apart(1, &settings);
    cluster.wait_settled();
    let filled = fill(&addresses(&cluster), "first", scaled(6_000, 100_000));
    let new = cluster.add(&settings);
    commit(&cluster, 0);
    let deaths = scaled(3, 8);
    let mut met = 0;
    for round in 1..=deaths as u64 {
        let enough = items_given(&cluster, 0) + 200 * round;
        wait_until("more has been sent, or all is done", || {
            items_given(&cluster, 0) >= enough || cluster.members(0)["settled"] == true
        });
        met += u64::from(cluster.members(0)["settled"] != true);
        cluster.kill(new);
        cluster.start_again(new);
    }
    let unlimited = cluster.ask(0, "PUT", "/admin/handoff/limit", r#"{"bytes_per_second": null}"#);
    assert_eq!(unlimited.status, 200, "{}", unlimited.body);
    wait_home(&cluster);
    let given = items_given(&cluster, 0);
    check_whole(&addresses(&cluster), &filled);
    let (moved, largest) = items_on(cluster, new);
    let window = (usize::from(WINDOW_BATCHES_MAX) * BATCH_ITEMS_MAX).min(largest) as u64;
    println!("{met} deaths met a transfer; {given} items were sent for {moved}; a window has {window}");
    assert!(met > 0, "all had been sent before anybody died");
    assert!(given >= moved, "{given} sent, {moved} arrived");
    assert!(given <= moved + met * window, "{given} sent for {moved}, {met} deaths of at most {window}");
}

#[test]
fn a_lost_disk_is_rebuilt_from_the_other_replicas() {
    for keeps_ring in [true, false] {
        let mut cluster = Cluster::start(3, &[]);
        let filled = fill(&addresses(&cluster), "first", scaled(3_000, 200_000));
        let lost = 1;
        cluster.kill(lost);
        let directory = cluster.launches[lost].data().to_owned();
        for file in std::fs::read_dir(&directory).unwrap().flatten() {
            let name = file.file_name().into_string().unwrap();
            if name == "identity" || (keeps_ring && name == "ring") {
                continue;
            }
            match file.path().is_dir() {
                true => std::fs::remove_dir_all(file.path()).unwrap(),
                false => std::fs::remove_file(file.path()).unwrap(),
            }
        }
        // Not by mistake: a node does not begin anew because its disk was not mounted.
        let (code, said) = cluster.launches[lost].clone().attempt().err().expect("it must not start");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("--rebuild"), "{said}");
        cluster.launches[lost] = cluster.launches[lost].clone().rebuilding();
        let begun = Instant::now();
        cluster.start_again(lost);
        wait_home(&cluster);
        println!("ring kept: {keeps_ring}: rebuilt {:.1?} after its start", begun.elapsed());
        check_disks_have(cluster, &filled);
    }
}

#[test]
fn an_operators_repair_fetches_what_other_replicas_have() {
    let cluster = Cluster::start(3, &[]);
    let filled = fill(&addresses(&cluster), "first", scaled(1_000, 50_000));
    let answer = cluster.ask(1, "POST", "/admin/handoff/repair", r#"{"all": true}"#);
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(!answer.json()["partitions"].as_array().unwrap().is_empty(), "{}", answer.body);
    wait_until("the repair is over", || {
        let handoff = cluster.ask(1, "GET", "/admin/handoff", "").json();
        let repaired = |line: &serde_json::Value| line["direction"] == "in" && line["kind"] == "repair";
        let totals = handoff["totals"].as_array().unwrap().iter().find(|line| repaired(line)).unwrap();
        handoff["repairing"].as_array().unwrap().is_empty() && totals["completed"].as_u64() > Some(0)
    });
    check_disks_have(cluster, &filled);
}
