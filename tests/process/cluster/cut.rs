//! A node that is cut off from the others: both sides serve, and when the cut is healed there is one cluster with
//! everything that either side has promised.

use super::harness::{Cluster, send, take_turn, texts};
use super::namespaces::Namespaces;
use crate::node::{Launch, ask, text, wait_until};
use std::collections::BTreeSet;
use std::net::SocketAddr;

const USERS: usize = 24;

fn user(number: usize) -> String {
    format!("user-{number}")
}

/// Sends one message to every user; each must be taken, and the answer have that word.
fn send_to_all(node: SocketAddr, what: &str, alone: bool, sent: &mut [BTreeSet<String>]) {
    for (number, texts) in sent.iter_mut().enumerate() {
        let text = format!("{what} {number}");
        let answer = send(node, &user(number), &text, "").expect("an answer");
        assert_eq!(answer.status, 201, "{what}: {}", answer.body);
        assert_eq!(answer.json()["alone"] == true, alone, "{what}: {}", answer.body);
        texts.insert(text);
    }
}

/// Whether a node shows just what was sent to everybody.
fn shows_all(node: SocketAddr, query: &str, sent: &[BTreeSet<String>]) -> bool {
    sent.iter().enumerate().all(|(number, expected)| {
        let found = texts(node, &user(number), query).unwrap_or_default();
        let unique: BTreeSet<String> = found.iter().cloned().collect();
        assert_eq!(unique.len(), found.len(), "nothing twice: {found:?}");
        unique == *expected
    })
}

/// Whether a node says of its reads that they are complete; each that is shows just what was sent. Before, the node may
/// not even know who has what.
fn complete_reads_show_all(node: SocketAddr, sent: &[BTreeSet<String>]) -> bool {
    sent.iter().enumerate().all(|(number, expected)| {
        let path = format!("/chat/users/{}/messages?limit=1000&r=2", user(number));
        let Some(answer) = ask(node, "GET", &path, &[], "").filter(|answer| answer.status == 200) else {
            return false;
        };
        let page = answer.json();
        if page["degraded"] == true {
            return false;
        }
        let shown: BTreeSet<String> =
            page["messages"].as_array().unwrap().iter().map(|message| text(&message["text"])).collect();
        assert_eq!(shown, *expected, "{} at {node}, in a read that is complete", user(number));
        true
    })
}

fn repairs(cluster: &Cluster) -> u64 {
    let count = |number| cluster.ask(number, "GET", "/admin/status", "").json();
    (0..3).map(|number| count(number)["counters"]["read_repairs"].as_u64().unwrap()).sum()
}

#[test]
fn a_node_cut_off_serves_as_the_others_do_and_healed_all_have_everything() {
    let turn = take_turn();
    let namespaces = match Namespaces::create(3) {
        Ok(namespaces) => namespaces,
        Err(why) => {
            eprintln!("SKIPPED: no network namespaces here, so nothing is known about cut networks: {why}");
            return;
        }
    };
    let directory = tempfile::tempdir().unwrap();
    let mut launches: Vec<Launch> = Vec::new();
    for number in 1..=3 {
        let name = format!("n{number}");
        let http = SocketAddr::new(namespaces.reached_at(number), 8098);
        let cluster = SocketAddr::new(namespaces.among_nodes(number), 8099);
        let mut launch = Launch::new(&directory.path().join(&name)).named(&name).at(http, cluster);
        launch = launch.inside(&namespaces.name(number));
        if let Some(first) = launches.first() {
            launch = launch.join(first.cluster);
        }
        launches.push(launch);
    }
    let mut cluster = Cluster::of(launches, directory, turn);
    cluster.form();
    let node = |number: usize| SocketAddr::new(namespaces.reached_at(number as u8 + 1), 8098);
    let mut sent = vec![BTreeSet::new(); USERS];
    send_to_all(node(0), "whole", false, &mut sent);

    namespaces.cut_off(3);
    wait_until("both sides see the cut", || {
        let down = |by, number| cluster.seen(by, number, "available") == "down";
        down(0, 2) && down(1, 2) && down(2, 0) && down(2, 1)
    });
    let mut here = sent.clone();
    send_to_all(node(0), "majority", false, &mut here);
    send_to_all(node(1), "majority again", false, &mut here);
    let mut there = sent.clone();
    send_to_all(node(2), "cut off", true, &mut there);
    assert!(shows_all(node(0), "&r=2", &here) && shows_all(node(1), "&r=2", &here));
    assert!(shows_all(node(2), "&r=2", &there), "the one that is cut off shows what it has");
    let strict = send(node(2), "ann", "no", "?node_confirms=2").unwrap();
    assert_eq!(
        (strict.status, strict.json()["code"].as_str()),
        (503, Some("too-few-nodes")),
        "{}",
        strict.body
    );
    let strict = send(node(2), "ann", "no", "?sloppy=false").unwrap();
    assert_eq!(
        (strict.status, strict.json()["code"].as_str()),
        (503, Some("too-few-replicas")),
        "{}",
        strict.body
    );

    namespaces.heal(3);
    println!("healed: one whole cluster after {:.1?}", cluster.wait_whole());
    for (all, part) in sent.iter_mut().zip(here.iter().zip(&there)) {
        all.extend(part.0.iter().chain(part.1).cloned());
    }
    for number in 0..3 {
        wait_until("reads are complete, and show everything", || {
            complete_reads_show_all(node(number), &sent)
        });
        // Two replicas make a complete read; the third may be behind a connection that TCP has not tried again yet.
        let after =
            wait_until("reads of all replicas show everything", || shows_all(node(number), "&r=all", &sent));
        println!("n{}: reads of all replicas after {after:.1?} more", number + 1);
    }
    // Repairs are sent and not waited for: when a whole round of reads finds nothing to repair, they have arrived.
    wait_until("reads find nothing to repair any more", || {
        let before = repairs(&cluster);
        assert!((0..3).all(|number| shows_all(node(number), "&r=all", &sent)));
        repairs(&cluster) == before
    });
    assert!(repairs(&cluster) > 0, "there was something to repair");
    alone_has_everything(&mut cluster, 2, &[0, 1], &sent);
    alone_has_everything(&mut cluster, 0, &[2], &sent);
    alone_has_everything(&mut cluster, 1, &[0], &sent);
}

/// One node's own log, seen by asking it when nobody else is there.
fn alone_has_everything(cluster: &mut Cluster, number: usize, others: &[usize], sent: &[BTreeSet<String>]) {
    if !cluster.running().contains(&number) {
        cluster.spawn_again(number);
        let node = cluster.node_mut(number);
        assert_eq!(node.wait_until_answers("/health/ready"), None, "{}", node.log());
    }
    for other in others {
        cluster.kill(*other);
    }
    wait_until("it sees that it is alone", || {
        (0..3)
            .filter(|other| *other != number)
            .all(|other| cluster.seen(number, other, "available") == "down")
    });
    assert!(shows_all(cluster.address(number), "&r=1", sent), "n{} alone", number + 1);
}
