//! How a node ends: in peace by one signal, at once by two; and who may not begin.

use crate::node::{PATIENCE, RunningNode, ask, program};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn send(node: &RunningNode, user: &str, text: &str) {
    let answer =
        node.ask("POST", &format!("/chat/users/{user}/messages"), &format!(r#"{{"text": "{text}"}}"#));
    assert_eq!(answer.status, 201, "{}", answer.body);
}

#[test]
fn one_signal_ends_a_node_in_peace_and_the_next_start_finds_everything() {
    for signal in ["TERM", "INT"] {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let mut node = RunningNode::start(&data, &[]);
        send(&node, "ann", "before");
        let follower = TcpStream::connect(node.address).unwrap();
        follower.set_read_timeout(Some(PATIENCE)).unwrap();
        (&follower).write_all(b"GET /chat/users/ann/stream HTTP/1.1\r\nhost: n\r\n\r\n").unwrap();
        node.signal(signal);
        assert_eq!(node.wait().and_then(|s| s.code()), Some(0), "{}", node.log());
        let mut rest = Vec::new();
        let _ = (&follower).read_to_end(&mut rest); // the stream ends with the node
        let node = RunningNode::start(&data, &[]);
        assert_eq!(node.log_of("ann").len(), 1);
        node.stop();
    }
}

/// Half a request is under way, so the node waits for it; a second signal does not.
#[test]
fn a_second_signal_ends_a_node_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut node = RunningNode::start(&data, &["http.request_timeout=60s", "http.shutdown_timeout=60s"]);
    send(&node, "ann", "before");
    let slow = TcpStream::connect(node.address).unwrap();
    let head = "POST /chat/users/ann/messages HTTP/1.1\r\nhost: n\r\ncontent-type: application/json\r\n\
                content-length: 90\r\n\r\n{";
    (&slow).write_all(head.as_bytes()).unwrap();
    let inside =
        |node: &RunningNode| node.ask("GET", "/admin/status", "").json()["http_requests_inside"].as_u64();
    while inside(&node) != Some(2) {
        std::thread::sleep(Duration::from_millis(5));
    }
    node.signal("TERM");
    while !node.log().contains("stopping") {
        std::thread::sleep(Duration::from_millis(5));
    }
    let refused = ask(node.address, "POST", "/chat/users/ann/messages", &[], r#"{"text": "late"}"#).unwrap();
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert!(refused.head.contains("retry-after") && refused.body.contains("shutting down"), "{refused:?}");
    assert_eq!(ask(node.address, "GET", "/health/ready", &[], "").unwrap().status, 503);
    node.signal("TERM");
    assert_eq!(node.wait().and_then(|s| s.code()), Some(130), "{}", node.log());
    let node = RunningNode::start(&data, &[]);
    assert_eq!(node.log_of("ann").len(), 1, "what was acknowledged is there");
}

#[test]
fn a_request_under_way_is_finished_before_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut node = RunningNode::start(&data, &[]);
    let slow = TcpStream::connect(node.address).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    let (first, second) = (r#"{"text": "#, r#""in time"}"#);
    let head = format!(
        "POST /chat/users/ann/messages HTTP/1.1\r\nhost: n\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{first}",
        first.len() + second.len()
    );
    (&slow).write_all(head.as_bytes()).unwrap();
    while node.ask("GET", "/admin/status", "").json()["http_requests_inside"].as_u64() != Some(2) {
        std::thread::sleep(Duration::from_millis(5));
    }
    node.signal("TERM");
    while !node.log().contains("stopping") {
        std::thread::sleep(Duration::from_millis(5));
    }
    (&slow).write_all(second.as_bytes()).unwrap();
    let mut answer = String::new();
    (&slow).read_to_string(&mut answer).unwrap();
    // It came in before the signal, its write after: "finished" may be an honest refusal, never silence.
    assert!(answer.starts_with("HTTP/1.1 201") || answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert_eq!(node.wait().and_then(|s| s.code()), Some(0), "{}", node.log());
    let node = RunningNode::start(&data, &[]);
    assert_eq!(node.log_of("ann").len(), usize::from(answer.starts_with("HTTP/1.1 201")));
}

#[test]
fn a_second_node_on_the_same_data_or_port_is_refused_with_the_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let node = RunningNode::start(&data, &[]);
    let (code, said) = RunningNode::refused(&data, &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("in use by another process") && said.contains("node.data_dir"), "{said}");
    let other = directory.path().join("other");
    let start = program()
        .args(["start", "--cluster", "127.0.0.1:0", "--http", &node.address.to_string(), "--data-dir"])
        .arg(&other)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&start.stderr).into_owned();
    assert_eq!(start.status.code(), Some(1));
    assert!(said.contains("cannot listen on") && said.contains("--http"), "{said}");
    assert!(!other.exists(), "a node that cannot listen touches no data");
    send(&node, "ann", "still here");
    node.stop();
}

#[test]
fn wrong_settings_stop_the_start_and_name_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    RunningNode::start(&data, &[]).stop();
    for (setting, word) in [
        ("cluster.ring_size=128", "born with 64 partitions"),
        ("cluster.ring_size=63", "cluster.ring_size"),
        ("store.durabilty=sync", "store.durability"),
        ("quorum.w=4", "quorum.w"),
        ("log.level=[[[", "log.level"),
    ] {
        let (code, said) = RunningNode::refused(&data, &[setting]);
        assert_eq!(code, Some(1), "{setting}: {said}");
        assert!(said.contains(word), "{setting}: {said}");
    }
    RunningNode::start(&data, &[]).stop();
}
