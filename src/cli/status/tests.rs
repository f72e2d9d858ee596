//! The status screen and the wait against a fake node. Nothing here knows why a node is ready.

use super::*;
use crate::cli::client::fake_node::FakeNode;
use crate::http::admin::fake_cluster::{FakeCluster, member};
use std::sync::Arc;

fn asks(node: &FakeNode, json: bool) -> NodeArguments {
    NodeArguments { node: node.url.clone(), json }
}

async fn wait_for(node: NodeArguments, until: WaitFor, timeout: Duration) -> (Result<(), CliError>, String) {
    let mut output = Vec::new();
    let outcome = wait(WaitArguments { until, timeout, node }, &mut output).await;
    (outcome, String::from_utf8(output).unwrap())
}

#[actix_rt::test]
async fn the_screen_shows_known_fields_first_and_unknown_ones_too() {
    let node = FakeNode::start().await;
    let mut output = Vec::new();
    status(StatusArguments { node: asks(&node, false) }, &mut output).await.unwrap();
    let screen = String::from_utf8(output).unwrap();
    let expected = format!(
        "node               node1\nid                 3f\nversion            0.1.0\npid                {}\n\
         ready              yes\nsettled            yes\nuptime             1m 1s 500ms\n\
         http address       127.0.0.1:8098\nring size          64\nvnodes running     64\n\
         transfers.peers    n2, n\\u{{1b}}3\ntransfers.running  2\n",
        std::process::id()
    );
    assert_eq!(screen, expected);
}

#[actix_rt::test]
async fn for_scripts_the_status_is_what_the_node_said() {
    let node = FakeNode::start().await;
    let mut output = Vec::new();
    status(StatusArguments { node: asks(&node, true) }, &mut output).await.unwrap();
    let value: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(value["transfers"]["peers"][1], "n\u{1b}3");
}

#[actix_rt::test]
async fn a_status_without_end_stays_on_a_screen() {
    let node = FakeNode::start().await;
    let fields: serde_json::Map<String, Value> =
        (0..1000).map(|n| (format!("f{n}\n"), json!("x".repeat(5000)))).collect();
    node.state().refusals.push_back((200, "application/json", Value::Object(fields).to_string()));
    let mut output = Vec::new();
    status(StatusArguments { node: asks(&node, false) }, &mut output).await.unwrap();
    let screen = String::from_utf8(output).unwrap();
    assert_eq!(screen.lines().count(), LINES_MAX + 1);
    assert!(screen.ends_with("and 800 more; see --json\n") && screen.lines().all(|line| line.len() < 500));
}

#[test]
fn anything_can_be_a_status() {
    for (value, expected) in [
        (json!(null), "status null"),
        (json!([1, 2]), "status [1,2]"),
        (json!({"a": {"b": {"c": {"d": {"e": 1}}}}}), r#"a.b.c.d {"e":1}"#),
        (json!({"a": {}, "up_ms": -5}), "a {}|up ms -5"),
        (json!({"a": [], "b": [{"c": 1}], "d": null}), "a none|b c 1|d -"),
        (json!({"b_c": [{"d_e": "\n", "f": {"g": 1}}, {}]}), r#"b c d e \n, f {"g":1}|b c "#),
        (json!({"b": [{"c": 1}, 2]}), r#"b [{"c":1},2]"#),
        (json!({"wait_ms": u64::MAX}), "wait 584542046years 1month 8days 22h 54m 14s 551ms"),
    ] {
        let lines: Vec<String> =
            lines(&value).iter().map(|(name, value)| format!("{name} {value}")).collect();
        let lines = lines.join("|");
        assert!(lines == expected || lines.contains("years"), "{lines} is not {expected}");
    }
}

#[actix_rt::test]
async fn waiting_ends_when_the_node_serves() {
    let node = FakeNode::start().await;
    node.state().ready_after_probes = 3;
    let (outcome, output) = wait_for(asks(&node, false), WaitFor::Ready, Duration::from_secs(20)).await;
    outcome.unwrap();
    assert_eq!(output, format!("{} is ready\n", node.url));
    assert_eq!(node.state().probes, 4);
}

#[actix_rt::test]
async fn waiting_ends_when_nothing_is_pending() {
    let node = FakeNode::start().await;
    node.state().ready_after_probes = 2;
    let (outcome, output) = wait_for(asks(&node, true), WaitFor::Settled, Duration::from_secs(20)).await;
    outcome.unwrap();
    assert_eq!(output, format!("{{\"node\":\"{}\",\"settled\":true}}\n", node.url));
}

#[actix_rt::test]
async fn waiting_in_vain_says_what_stood_in_the_way() {
    let node = FakeNode::start().await;
    node.state().ready_after_probes = usize::MAX;
    let (outcome, output) = wait_for(asks(&node, false), WaitFor::Ready, Duration::from_millis(200)).await;
    let error = outcome.unwrap_err();
    assert_eq!((error.exit_code(), output.as_str()), (1, ""));
    assert!(
        error.to_string().contains("is not ready after 200ms")
            && error.to_string().contains("3 vnodes still start")
    );
    node.state()
        .refusals
        .extend(vec![(503, "application/json", r#"{"why":"starting\u001b"}"#.to_owned()); 50]);
    let (outcome, _) = wait_for(asks(&node, false), WaitFor::Ready, Duration::from_millis(200)).await;
    assert!(outcome.unwrap_err().to_string().ends_with(r"it says that it is starting\u{1b}"));
    node.state().refusals.clear();
    let (outcome, _) = wait_for(asks(&node, false), WaitFor::Settled, Duration::from_millis(200)).await;
    assert!(outcome.unwrap_err().to_string().contains("transfers are pending"));
    let nobody = NodeArguments { node: "http://127.0.0.1:1".to_owned(), json: false };
    let (outcome, _) = wait_for(nobody, WaitFor::Ready, Duration::from_millis(200)).await;
    assert!(outcome.unwrap_err().to_string().contains("connection refused"));
}

#[actix_rt::test]
async fn the_cluster_comes_first_and_the_node_after_it() {
    let cluster: Arc<FakeCluster> = Arc::default();
    let node = NodeArguments { node: cluster.clone().serve().await, json: false };
    cluster.state().cluster.members = vec![member("n1", "valid", 64, 32), member("n2", "valid", 0, 32)];
    let mut output = Vec::new();
    status(StatusArguments { node: node.clone() }, &mut output).await.unwrap();
    let screen = String::from_utf8(output).unwrap();
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(
        lines[..7],
        [
            "node  status  seen    share   to be  location  address        services",
            "n1    valid   up    100.0 %  50.0 %  -         10.0.0.1:8099  chat",
            "n2    valid   up      0.0 %  50.0 %  -         10.0.0.2:8099  chat",
            "",
            "claimant   n1",
            "ring       ready",
            "transfers  0 in, 0 out, 0 waiting",
        ]
    );
    assert!(lines[8].starts_with("node ") && !screen.contains("members"), "{screen}");
    assert!(!screen.contains("handoff."), "{screen}");

    // And what stands in the way is what a wait says in the end.
    (cluster.state().cluster.settled, cluster.state().cluster.ring_ready) = (false, false);
    cluster.state().cluster.waiting_for = vec!["n2".to_owned()];
    let (outcome, _) = wait_for(node, WaitFor::Settled, Duration::from_millis(200)).await;
    let said = outcome.unwrap_err().to_string();
    let expected = "is not settled after 200ms: 32 partitions have yet to move (32 to n2); n2 has not seen the newest \
                    state of the cluster";
    assert!(said.ends_with(expected), "{said}");
}

#[actix_rt::test]
async fn transfers_have_a_line_and_a_pause_is_not_overlooked() {
    let node = FakeNode::start().await;
    let mut told = json!({
        "node": "n1", "members": [], "claimant": null, "ring_ready": true, "waiting_for": [], "settled": true,
        "handoff": {"running_in": 2, "running_out": 1, "waiting": 30, "paused": true},
    });
    let shown = async |told: &Value| {
        node.state().refusals.push_back((200, "application/json", told.to_string()));
        let mut output = Vec::new();
        status(StatusArguments { node: asks(&node, false) }, &mut output).await.unwrap();
        String::from_utf8(output).unwrap()
    };
    let line = "transfers  2 in, 1 out, 30 waiting; paused, 'ringwork handoff resume' lets them go on\n";
    assert!(shown(&told).await.contains(line), "{}", shown(&told).await);
    told.as_object_mut().unwrap().remove("handoff");
    let screen = shown(&told).await;
    assert!(screen.contains("claimant") && !screen.contains("transfers"), "an earlier release: {screen}");
}
