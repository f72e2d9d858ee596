//! Changes of a cluster that runs: it grows, members get locations, leave, are marked down and come back.

use super::harness::Cluster;
use crate::node::wait_until;

pub(super) fn done(cluster: &Cluster, number: usize, verb: &str, body: &str) -> serde_json::Value {
    let answer = cluster.ask(number, "POST", &format!("/admin/cluster/{verb}"), body);
    assert_eq!(answer.status, 200, "{verb} {body}: {}", answer.body);
    answer.json()
}

/// How many partitions each of the members has, as a node sees it.
fn shares(cluster: &Cluster, by: usize) -> Vec<u64> {
    let members = cluster.members(by);
    members["members"].as_array().unwrap().iter().map(|m| m["partitions"].as_u64().unwrap()).collect()
}

#[test]
fn an_empty_cluster_grows_at_once_gets_locations_and_lets_a_member_go() {
    let mut cluster = Cluster::apart(3, &[]);
    println!("from one node to three: settled {:.2?} after the commit", cluster.form());
    for by in 0..3 {
        let mut shares = shares(&cluster, by);
        shares.sort_unstable();
        assert_eq!(shares, [21, 21, 22]);
    }

    for (number, location) in ["rack 1", "rack 2", "rack 3"].into_iter().enumerate() {
        let body = format!(r#"{{"location": "{location}", "node": "n{}"}}"#, number + 1);
        // Staged through another node than the one it is about.
        done(&cluster, (number + 1) % 3, "location", &body);
        assert_ne!(cluster.seen(0, number, "location"), location, "staged only");
    }
    done(&cluster, 2, "plan", "");
    done(&cluster, 2, "commit", "");
    cluster.wait_settled();
    for by in 0..3 {
        wait_until("the locations are known", || {
            (0..3).all(|n| cluster.seen(by, n, "location") == format!("rack {}", n + 1))
        });
    }

    let staged = done(&cluster, 0, "leave", r#"{"node": "n3"}"#);
    assert_eq!(staged["staged"][0]["kind"], "leave", "{staged}");
    let plan = done(&cluster, 0, "plan", "");
    assert!(plan["moved"].as_u64() >= Some(21), "{plan}");
    done(&cluster, 0, "commit", "");
    let ended = cluster.node_mut(2).wait();
    let log = cluster.node(2).log();
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "{log}");
    assert!(log.contains("this node was removed from"), "{log}");
    cluster.forget(2);
    cluster.wait_settled();
    for by in 0..2 {
        assert_eq!(shares(&cluster, by), [32, 32], "what n3 had is theirs");
    }
    // Its directory is that of a removed node for good: it does not serve a view of its own.
    let mut again = cluster.launches[2].spawn();
    let ended = again.wait().and_then(|status| status.code());
    assert!(ended.is_some(), "a removed node runs on: {}", again.log());
    assert!(again.log().contains("empty data directory"), "{}", again.log());
    cluster.wait_settled();
}

#[test]
fn a_killed_member_that_was_marked_down_comes_back_as_a_member() {
    let mut cluster = Cluster::start(3, &["cluster.ring_size=16"]);
    cluster.kill(2);
    let early = cluster.ask(0, "POST", "/admin/cluster/down", r#"{"node": "n3"}"#);
    // Refused until it is seen as down, at which any moment may be.
    assert!(early.status == 200 || early.json()["code"] == "node-is-up", "{}", early.body);
    cluster.wait_seen(2, "down");
    let marked = done(&cluster, 1, "down", r#"{"node": "n3"}"#);
    assert_eq!(marked["status"], "down");
    for by in [0, 1] {
        wait_until("all know the mark", || cluster.seen(by, 2, "status") == "down");
        wait_until("nobody waits for it", || cluster.members(by)["ring_ready"] == true);
    }
    // Changes go on without it.
    done(&cluster, 0, "location", r#"{"location": "rack 1", "node": "n1"}"#);
    done(&cluster, 0, "plan", "");
    done(&cluster, 0, "commit", "");

    cluster.start_again(2);
    cluster.wait_settled();
    for by in 0..3 {
        assert_eq!(cluster.seen(by, 2, "status"), "valid");
        assert_eq!(cluster.seen(by, 0, "location"), "rack 1", "it has heard what it missed");
    }
}
