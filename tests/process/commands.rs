//! The command line against a real node.

use crate::node::{RunningNode, program};
use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn complained(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn send_get_tail_status_and_wait_do_what_their_help_says() {
    let directory = tempfile::tempdir().unwrap();
    let node = RunningNode::start(&directory.path().join("data"), &[]);
    let waited = node.run(&["wait", "ready", "--timeout", "60s"]);
    assert_eq!(waited.status.code(), Some(0), "{}", complained(&waited));
    let settled = node.run(&["wait", "settled"]);
    assert_eq!(settled.status.code(), Some(0), "{}", complained(&settled));

    let first = node.run(&["chat", "send", "ann", "zeroth", "--json"]);
    let id = crate::node::text(&serde_json::from_str::<serde_json::Value>(&said(&first)).unwrap()["id"]);
    let sent = node.run(&["chat", "send", "ann", "hello\u{1b}[2J", "--from", "bob"]);
    assert!(said(&sent).starts_with("sent "), "{}", said(&sent));
    let got = node.run(&["chat", "get", "ann"]);
    assert!(said(&got).contains("zeroth") && said(&got).contains("bob"), "{}", said(&got));
    assert!(!said(&got).contains('\u{1b}'), "a message cannot move the terminal's cursor");

    let mut tail = program()
        .args(["chat", "tail", "ann", "--json", "--after", &id, "--node", &node.url()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    assert!(line.contains("hello"), "{line}");
    assert!(node.run(&["chat", "send", "ann", "live"]).status.success());
    assert!(lines.next().unwrap().unwrap().contains("live"));
    tail.kill().unwrap();
    tail.wait().unwrap();

    let status = node.run(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&said(&status)).unwrap();
    assert_eq!(status["ring_size"], 64);
    assert_eq!(status["ready"], true);
    node.stop();
}

#[test]
fn a_refused_command_exits_one_and_wrong_usage_two_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let node = RunningNode::start(&directory.path().join("data"), &[]);
    let refused = node.run(&["chat", "send", "ann", ""]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(complained(&refused).contains("text"), "{}", complained(&refused));
    let strict = node.run(&["chat", "send", "ann", "x", "--node-confirms", "2"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(complained(&strict).contains("2 distinct nodes are needed"), "{}", complained(&strict));
    assert_eq!(node.run(&["chat", "sned"]).status.code(), Some(2));
    let url = node.url();
    node.stop();
    let gone = program().args(["chat", "get", "ann", "--node", &url]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(complained(&gone).contains("ringwork start"), "{}", complained(&gone));
}

#[test]
fn transfers_are_limited_paused_and_resumed_while_a_node_runs() {
    let directory = tempfile::tempdir().unwrap();
    let node = RunningNode::start(&directory.path().join("data"), &["handoff.limit=2"]);
    let status = || {
        let shown = node.run(&["handoff", "status", "--json"]);
        serde_json::from_str::<serde_json::Value>(&said(&shown)).unwrap()
    };
    let done = |words: &[&str]| {
        let output = node.run(words);
        assert_eq!(output.status.code(), Some(0), "{}", complained(&output));
        said(&output)
    };
    assert_eq!((&status()["limit"], &status()["bytes_per_second"]), (&2.into(), &serde_json::Value::Null));
    let limited = done(&["handoff", "limit", "8", "--bytes-per-second", "64MiB"]);
    assert!(limited.starts_with("at most 8 in and 8 out"), "{limited}");
    assert!(done(&["handoff", "pause"]).contains("ringwork handoff resume"));
    let shown = status();
    assert_eq!((&shown["limit"], &shown["paused"]), (&8.into(), &true.into()));
    assert_eq!(shown["bytes_per_second"], 64 << 20);
    assert!(done(&["status"]).contains("transfers  0 in, 0 out, 0 waiting; paused"));
    let metrics = node.ask("GET", "/metrics", "").body;
    assert!(metrics.contains("\nringwork_handoff_paused 1\n"), "{metrics}");
    assert!(metrics.contains(
        r#"ringwork_handoff_transfers_total{direction="out",kind="hinted",outcome="completed"} 0"#
    ));
    done(&["handoff", "resume"]);
    assert_eq!(status()["paused"], false);
    let refused = node.run(&["handoff", "repair", "64"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(complained(&refused).contains("404 unknown-partition"), "{}", complained(&refused));
    assert!(done(&["handoff", "repair", "--all"]).starts_with("to be repaired: 64 partitions"));
    node.stop();
}

#[test]
fn bench_measures_a_node_and_its_cpu_time() {
    let directory = tempfile::tempdir().unwrap();
    let node = RunningNode::start(&directory.path().join("data"), &[]);
    let bench = node.run(&[
        "bench",
        "chat",
        "--duration",
        "1s",
        "--warmup",
        "200ms",
        "--connections",
        "8",
        "--read-share",
        "0.2",
        "--json",
    ]);
    assert_eq!(bench.status.code(), Some(0), "{}", complained(&bench));
    let figures: serde_json::Value = serde_json::from_str(&said(&bench)).unwrap();
    let shown = figures.to_string();
    assert!(shown.contains("p99") && shown.contains("cpu"), "{shown}");
    assert!(!node.log_of("ann").iter().any(|_| true), "the bench writes to users of its own");
    node.stop();
}

/// Who waits to be asked expires nothing.
#[test]
fn with_retention_every_vnode_runs_without_being_asked() {
    let directory = tempfile::tempdir().unwrap();
    let node = RunningNode::start(&directory.path().join("data"), &["chat.retention.count=5"]);
    let running = || node.ask("GET", "/admin/status", "").json()["vnodes_running"].as_u64();
    let begun = std::time::Instant::now();
    while running() != Some(64) {
        assert!(begun.elapsed() < crate::node::PATIENCE, "{:?} of 64 run", running());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    node.stop();
}

#[test]
fn every_command_explains_itself_with_an_example() {
    for command in [
        &["start"][..],
        &["config"],
        &["config", "check"],
        &["chat"],
        &["chat", "send"],
        &["chat", "get"],
        &["chat", "tail"],
        &["kv"],
        &["kv", "get"],
        &["kv", "put"],
        &["kv", "delete"],
        &["kv", "keys"],
        &["bucket-type"],
        &["bucket-type", "create"],
        &["bucket-type", "activate"],
        &["bucket-type", "update"],
        &["bucket-type", "status"],
        &["bucket-type", "list"],
        &["status"],
        &["wait"],
        &["bench"],
        &["bench", "chat"],
        &["bench", "kv"],
        &["bench", "echo"],
        &["dev"],
        &["cluster"],
        &["cluster", "join"],
        &["cluster", "leave"],
        &["cluster", "down"],
        &["cluster", "location"],
        &["cluster", "rebalance"],
        &["cluster", "plan"],
        &["cluster", "commit"],
        &["cluster", "clear"],
        &["cluster", "status"],
        &["ring"],
        &["ring", "status"],
        &["ring", "partitions"],
        &["ring", "preflist"],
        &["handoff"],
        &["handoff", "status"],
        &["handoff", "limit"],
        &["handoff", "pause"],
        &["handoff", "resume"],
        &["handoff", "repair"],
    ] {
        let help = program().args(command).arg("--help").output().unwrap();
        assert!(help.status.success(), "{command:?}");
        let text = said(&help);
        assert!(text.contains("Usage: ringwork"), "{command:?}: {text}");
        if command.len() > 1 || command[0] != "chat" && command[0] != "config" {
            assert!(text.contains("xample"), "{command:?} shows an example: {text}");
        }
    }
}
