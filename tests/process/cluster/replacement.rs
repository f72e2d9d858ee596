//! Machines that go: one that still runs is replaced by its own hand; one that is gone for good is removed, or another
//! takes its place without its data. And what a node finds that was given up and comes back.

use super::changes::done;
use super::harness::{Cluster, send, texts};
use crate::node::wait_until;
use std::collections::BTreeMap;

const SMALL: &[&str] = &["cluster.ring_size=16"];

/// The partitions that a member holds as a node sees it, with the fence of each.
fn held(cluster: &Cluster, by: usize, name: &str) -> BTreeMap<u64, u64> {
    let answer = cluster.ask(by, "GET", &format!("/admin/ring/partitions?of={name}"), "").json();
    let of_name = answer["partitions"].as_array().unwrap().iter().filter(|held| held["holder"] == name);
    of_name.map(|held| (held["partition"].as_u64().unwrap(), held["fence"].as_u64().unwrap())).collect()
}

/// The last is gone, all know it, and another acts for the cluster if it was the claimant.
fn lose(cluster: &mut Cluster, number: usize) {
    cluster.kill(number);
    cluster.wait_seen(number, "down");
    done(cluster, 0, "down", &format!(r#"{{"node": "n{}"}}"#, number + 1));
    for by in cluster.running() {
        wait_until("all know the mark", || cluster.seen(by, number, "status") == "down");
    }
}

fn warnings(plan: &serde_json::Value) -> String {
    let warnings = plan["warnings"].as_array().unwrap().iter();
    warnings.map(|warning| warning.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Over its old data: it ends by itself, says why and what to do, and touches nothing.
fn is_turned_away(cluster: &mut Cluster, number: usize) {
    cluster.spawn_again(number);
    let ended = cluster.node_mut(number).wait();
    let log = cluster.node(number).log();
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{log}");
    for said in ["was removed from the cluster", "taken for lost", "is kept as it is", "empty data directory"]
    {
        assert!(log.contains(said), "{said}: {log}");
    }
    cluster.forget(number);
}

#[test]
fn a_new_node_takes_the_place_of_a_member_of_an_empty_cluster_and_nothing_else_moves() {
    let mut cluster = Cluster::start(3, SMALL);
    let (second, others) = (held(&cluster, 0, "n2"), [held(&cluster, 0, "n1"), held(&cluster, 0, "n3")]);
    let new = cluster.add(SMALL);
    let wrong = cluster.ask(0, "POST", "/admin/cluster/replace", r#"{"old": "n2", "new": "n3"}"#);
    assert_eq!((wrong.status, &wrong.json()["code"]), (409, &"not-a-replacement".into()), "{}", wrong.body);

    let staged = done(&cluster, 2, "replace", r#"{"old": "n2", "new": "n4"}"#);
    let change = staged["staged"].as_array().unwrap().iter().find(|change| change["kind"] == "replace");
    assert_eq!(change.map(|change| (&change["node"], &change["with"])), Some((&"n2".into(), &"n4".into())));
    let wrong = cluster.ask(0, "POST", "/admin/cluster/leave", r#"{"node": "n2"}"#);
    assert_eq!((wrong.status, &wrong.json()["code"]), (409, &"contradicts-staged".into()), "{}", wrong.body);
    let plan = done(&cluster, 2, "plan", "");
    assert_eq!(plan["moved"], second.len(), "{plan}");
    done(&cluster, 0, "commit", "");

    let ended = cluster.node_mut(1).wait();
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{}", cluster.node(1).log());
    cluster.forget(1);
    cluster.wait_settled();
    for by in [0, 2, new] {
        assert_eq!(held(&cluster, by, "n4"), second);
        assert_eq!([held(&cluster, by, "n1"), held(&cluster, by, "n3")], others);
    }
}

#[test]
fn a_member_that_was_killed_is_removed_by_force_and_is_turned_away_when_it_comes_back() {
    let mut cluster = Cluster::start(3, SMALL);
    let early = cluster.ask(0, "POST", "/admin/cluster/force-remove", r#"{"node": "n3"}"#);
    assert_eq!((early.status, &early.json()["code"]), (409, &"node-is-up".into()), "{}", early.body);
    lose(&mut cluster, 2);
    let lost = held(&cluster, 0, "n3");
    done(&cluster, 1, "force-remove", r#"{"node": "n3"}"#);
    let plan = done(&cluster, 0, "plan", "");
    let warned = warnings(&plan);
    assert!(warned.contains("n3 will be removed for good"), "{warned}");
    assert!(!warned.contains("no replica is left"), "the other two have all: {warned}");
    done(&cluster, 1, "commit", "");
    cluster.wait_settled();
    for by in [0, 1] {
        let (one, two) = (held(&cluster, by, "n1"), held(&cluster, by, "n2"));
        assert_eq!((one.len(), two.len()), (8, 8));
        for partition in lost.keys() {
            let fence = one.get(partition).or(two.get(partition));
            assert_eq!(fence, Some(&1), "partition {partition}");
        }
    }
    is_turned_away(&mut cluster, 2);
    cluster.wait_settled();
}

#[test]
fn another_takes_the_place_of_a_member_that_is_lost_with_its_data_and_what_others_have_is_found() {
    let mut cluster = Cluster::start(3, SMALL);
    let users: Vec<String> = (0..40).map(|number| format!("user-{number}")).collect();
    for user in &users {
        let sent = send(cluster.address(0), user, "hello", "?w=3").expect("an answer");
        assert_eq!(sent.status, 201, "{}", sent.body);
    }
    lose(&mut cluster, 2);
    let lost = held(&cluster, 0, "n3");
    let new = cluster.add(SMALL);
    done(&cluster, 1, "force-replace", r#"{"old": "n3", "new": "n4"}"#);
    let plan = done(&cluster, 0, "plan", "");
    assert!(warnings(&plan).contains("n3 will be removed for good"), "{plan}");
    done(&cluster, 0, "commit", "");
    cluster.wait_settled();
    for by in [0, 1, new] {
        let held = held(&cluster, by, "n4");
        assert_eq!(held.keys().collect::<Vec<_>>(), lost.keys().collect::<Vec<_>>());
        assert!(held.values().all(|fence| *fence == 1));
        for user in &users {
            let found = texts(cluster.address(by), user, "").expect("a page");
            assert_eq!(found, ["hello"], "{user} at n{}", by + 1);
        }
    }
    is_turned_away(&mut cluster, 2);
}
