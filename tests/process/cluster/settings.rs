//! Settings that are changed while nodes run, by the command line: they reach every node, count before the
//! configuration, are kept over a kill, and one node may differ.

use super::harness::Cluster;
use crate::node::{RunningNode, wait_until};
use serde_json::Value;

fn run(node: &RunningNode, arguments: &[&str]) -> String {
    let output = node.run(arguments);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn value(node: &RunningNode, key: &str) -> (String, String) {
    let shown: Value = serde_json::from_str(&run(node, &["get", key, "--json"])).unwrap();
    let text = |field: &str| shown[field].as_str().unwrap().to_owned();
    (text("value"), text("source"))
}

fn wait_value(node: &RunningNode, key: &str, expected: (&str, &str)) {
    wait_until(&format!("{key} is {expected:?}"), || {
        let (value, source) = value(node, key);
        (value.as_str(), source.as_str()) == expected
    });
}

#[test]
fn a_setting_is_changed_while_nodes_run_and_kept() {
    let mut cluster = Cluster::start(2, &["handoff.limit=3"]);
    wait_until("both can share settings", || {
        (0..2).all(|number| {
            let status: Value =
                serde_json::from_str(&run(cluster.node(number), &["cluster", "status", "--json"])).unwrap();
            status["features"] == serde_json::json!(["chat-digests", "shared-settings"])
        })
    });
    assert_eq!(value(cluster.node(0), "handoff.limit"), ("3".into(), "configuration".into()));
    let said = run(cluster.node(0), &["set", "handoff.limit", "8"]);
    assert_eq!(said, "handoff.limit = 8 on the asked node, set for the cluster\n");
    wait_value(cluster.node(1), "handoff.limit", ("8", "cluster"));
    assert!(run(cluster.node(1), &["handoff", "limit"]).contains("at most 8 in"));
    run(cluster.node(0), &["set", "log.level", "trace", "--of", "n2"]);
    wait_value(cluster.node(1), "log.level", ("trace", "node"));
    wait_until("n2 says more", || cluster.node(1).log().contains("TRACE"));
    run(cluster.node(0), &["set", "repair.interval", "3s"]);
    run(cluster.node(0), &["set", "repair.exchanges", "0", "--of", "n2"]);
    wait_until("n2 compares nothing, every 3 s", || {
        let status = cluster.ask(1, "GET", "/admin/repair", "").json();
        status["interval_ms"] == 3000 && status["enabled"] == false
    });
    run(cluster.node(0), &["unset", "repair.exchanges", "--of", "n2"]);
    wait_until("n2 compares again", || cluster.ask(1, "GET", "/admin/repair", "").json()["enabled"] == true);
    cluster.kill(1);
    run(cluster.node(0), &["unset", "log.level", "--of", "n2"]);
    run(cluster.node(0), &["set", "chat.w", "all"]);
    cluster.start_again(1);
    wait_value(cluster.node(1), "chat.w", ("all", "cluster"));
    let (_, source) = value(cluster.node(1), "log.level");
    assert_eq!(source, "configuration");
    assert_eq!(value(cluster.node(1), "handoff.limit"), ("8".into(), "cluster".into()));
    run(cluster.node(1), &["unset", "handoff.limit"]);
    wait_value(cluster.node(0), "handoff.limit", ("3", "configuration"));
    let table = run(cluster.node(0), &["get"]);
    for word in [
        "repair.exchanges",
        "repair.items_per_second",
        "handoff.limit",
        "handoff.bytes_per_second",
        "log.level",
        "chat.w",
        "all",
        "chat.n_val",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
    let refused = cluster.node(0).run(&["set", "chat.n_val", "5"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("does not change"), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
}
