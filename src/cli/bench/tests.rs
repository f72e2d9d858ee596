//! Whole runs of the load tool, against a fake node and against servers that misbehave as scripted. How fast
//! they are is not tested; that what happened is counted is.

use super::*;
use crate::cli::client::fake_node::FakeNode;
use clap::Parser;
use serde_json::Value;
use std::sync::LazyLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: BenchArguments,
}

#[expect(clippy::disallowed_methods, reason = "a test is its own caller, who hands the clock in")]
fn now() -> Duration {
    static BEGAN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    BEGAN.elapsed()
}

async fn bench(words: &[&str]) -> (Result<(), CliError>, String, String) {
    bench_of("chat", words).await
}

async fn bench_of(workload: &str, words: &[&str]) -> (Result<(), CliError>, String, String) {
    let line = ["bench", workload, "--warmup", "50ms"];
    let line = line.iter().chain(words);
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let arguments = Line::try_parse_from(line).unwrap().bench;
    let outcome = run(arguments, Monotonic(now), &mut output, &mut errors).await;
    (outcome, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
}

/// A server that answers like `answer` says, given the number of the request: bytes, or None to close.
async fn scripted(answer: fn(usize) -> Option<&'static [u8]>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    actix_rt::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            actix_rt::spawn(async move {
                let mut buffer = vec![0; 4096];
                let mut number = 0;
                while let Ok(1..) = stream.read(&mut buffer).await {
                    let is_load = buffer.starts_with(b"POST");
                    let bytes = if is_load { answer(number) } else { Some(OK) };
                    number += 1;
                    match bytes {
                        Some(b"") => std::future::pending().await,
                        Some(bytes) => stream.write_all(bytes).await.unwrap(),
                        None => return,
                    }
                }
            });
        }
    });
    url
}

const OK: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}";

#[actix_rt::test]
async fn a_closed_loop_counts_what_the_node_counted() {
    let node = FakeNode::start().await;
    let words = ["--duration", "300ms", "--connections", "4", "--users", "10", "--json", "--node", &node.url];
    let (outcome, output, errors) = bench(&words).await;
    outcome.unwrap();
    let report: Value = serde_json::from_str(&output).unwrap();
    let count = report["node"]["send"]["count"].as_u64().unwrap();
    let stored: usize = node.state().messages.values().map(Vec::len).sum();
    assert!(count > 10 && stored as u64 >= count, "{count} of {stored}");
    assert_eq!((report["loop"].as_str(), node.state().messages.len()), (Some("closed"), 10));
    assert_eq!(report["node"]["failures"], serde_json::json!({}), "{report}");
    assert!(report["node"]["cpu_us_per_operation"].as_f64().is_some(), "{report}");
    assert!(report["node"]["get"].is_null() && report["reference"].is_null());
    assert!(report["node"]["rounds"][0]["p99_of_tenths"].is_null(), "nothing was due: {report}");
    assert!(errors.contains("round 1 of 1, node:"), "{errors}");
}

#[actix_rt::test]
async fn several_nodes_share_the_load_and_their_figures_are_added_up() {
    let nodes = [FakeNode::start().await, FakeNode::start().await];
    let urls = format!("{},{}", nodes[0].url, nodes[1].url);
    let words = ["--duration", "300ms", "--connections", "4", "--json", "--node", &urls];
    let (outcome, output, _) = bench(&words).await;
    outcome.unwrap();
    let report: Value = serde_json::from_str(&output).unwrap();
    let stored = nodes.each_ref().map(|node| node.state().messages.values().map(Vec::len).sum::<usize>());
    let counted = report["node"]["send"]["count"].as_u64().unwrap();
    assert!(stored.iter().all(|stored| *stored > 0), "{stored:?}");
    assert!(stored.iter().sum::<usize>() as u64 >= counted, "{stored:?} of {counted}");
    assert_eq!(report["node"]["urls"].as_array().map(Vec::len), Some(2));
    assert!(report["node"]["cpu_us_per_operation"].as_f64().is_some(), "{report}");
}

#[actix_rt::test]
async fn an_open_loop_keeps_its_rate_and_its_reads_find_messages() {
    let node = FakeNode::start().await;
    let words = [
        "--duration",
        "1s",
        "--connections",
        "8",
        "--users",
        "5",
        "--limit",
        "3",
        "--read-share",
        "0.5",
        "--rate",
        "200",
    ];
    let (outcome, output, errors) = bench(&[&words[..], &["--json", "--node", &node.url]].concat()).await;
    outcome.unwrap();
    let report: Value = serde_json::from_str(&output).unwrap();
    let rate = report["node"]["answered_per_second"].as_f64().unwrap();
    assert!((150.0..250.0).contains(&rate), "{report}");
    assert!(report["node"]["get"]["count"].as_u64().unwrap() > 50, "{report}");
    let of_tenths = &report["node"]["rounds"][0]["p99_of_tenths"];
    assert_eq!(of_tenths["count"], 10, "{report}");
    let longest = ["send", "get"].map(|kind| report["node"][kind]["max_us"].as_f64().unwrap());
    let mean = of_tenths["mean_us"].as_f64().unwrap();
    assert!(mean >= 1.0 && mean <= longest[0].max(longest[1]), "{report}");
    assert!(errors.contains("sending 3 messages to each of 5 users"), "{errors}");
    let node_state = node.state();
    let first_get = node_state.requests.iter().position(|request| request.starts_with("GET /chat")).unwrap();
    assert_eq!(
        node_state.requests[..first_get].iter().filter(|request| request.starts_with("POST")).count(),
        15
    );
}

#[actix_rt::test]
async fn rounds_alternate_with_the_reference_and_give_a_ratio() {
    let node = FakeNode::start().await;
    let reference = scripted(|_| Some(OK)).await;
    let words = [
        "--duration",
        "200ms",
        "--connections",
        "2",
        "--rounds",
        "2",
        "--reference",
        &reference,
        "--node",
        &node.url,
    ];
    let (outcome, output, errors) = bench(&words).await;
    outcome.unwrap();
    let order: Vec<&str> = errors.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(
        order,
        ["round 1 of 2, reference", "round 1 of 2, node", "round 2 of 2, reference", "round 2 of 2, node"]
    );
    // The scripted reference tells no process number, which is said and not guessed.
    assert!(
        output.contains("reference: CPU time not available") && !output.contains("node / reference"),
        "{output}"
    );
}

#[actix_rt::test]
async fn failures_are_told_apart() {
    let url = scripted(|number| match number {
        0 => Some(OK),
        1 => Some(b"HTTP/1.1 503 Busy\r\ncontent-length: 19\r\n\r\n{\"code\":\"overload\"}"),
        2 => Some(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        _ => None,
    })
    .await;
    let (outcome, output, _) = bench(&["--duration", "300ms", "--connections", "1", "--node", &url]).await;
    outcome.unwrap();
    assert!(
        output.contains("× 503 overload") && output.contains("× unreadable answer: it is chunked"),
        "{output}"
    );
    let url = scripted(|_| None).await;
    let (outcome, output, _) = bench(&["--duration", "300ms", "--connections", "1", "--node", &url]).await;
    assert_eq!(outcome.unwrap_err().exit_code(), 1);
    assert!(output.contains("× connection lost: closed before the answer (unknown)"), "{output}");
}

#[actix_rt::test]
async fn a_node_that_stalls_at_the_end_is_in_the_latencies() {
    let url = scripted(|number| if number < 3 { Some(OK) } else { Some(b"") }).await;
    let words = [
        "--duration",
        "200ms",
        "--connections",
        "1",
        "--warmup",
        "0s",
        "--timeout",
        "600ms",
        "--json",
        "--node",
        &url,
    ];
    let mut line = vec!["bench", "chat"];
    line.extend(words);
    let mut output = Vec::new();
    let arguments = Line::try_parse_from(line).unwrap().bench;
    // Whether the three answers came within the phase or just before it does not matter here.
    let _ = run(arguments, Monotonic(now), &mut output, &mut Vec::new()).await;
    let report: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(report["node"]["failures"]["timeout (unknown)"], 1, "{report}");
    assert!(report["node"]["send"]["max_us"].as_u64().unwrap() >= 600_000, "{report}");
}

#[actix_rt::test]
async fn what_was_due_and_found_no_connection_is_not_started() {
    let url = scripted(|number| if number < 10 { Some(OK) } else { Some(b"") }).await;
    let words =
        ["--duration", "500ms", "--connections", "2", "--rate", "400", "--timeout", "1s", "--node", &url];
    let (outcome, output, _) = bench(&words).await;
    // The ten answers come during the warm-up, so in the measured phase nothing succeeds.
    assert!(outcome.is_err());
    assert!(output.contains("operations not started"), "{output}");
}

#[actix_rt::test]
async fn a_connection_that_the_server_closes_while_idle_is_no_failure() {
    let closing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", closing.local_addr().unwrap());
    actix_rt::spawn(async move {
        while let Ok((mut stream, _)) = closing.accept().await {
            actix_rt::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(OK).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            });
        }
    });
    let words = ["--duration", "500ms", "--connections", "1", "--rate", "20", "--json", "--node", &address];
    let (outcome, output, _) = bench(&words).await;
    outcome.unwrap();
    let report: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(report["node"]["failures"], serde_json::json!({}), "{report}");
    assert!(report["node"]["reconnects"].as_u64().unwrap() > 3, "{report}");
}

#[actix_rt::test]
async fn runs_that_mean_nothing_are_wrong_usage() {
    let node = FakeNode::start().await;
    let (outcome, ..) = bench(&["--duration", "10ms", "--node", &node.url]).await;
    assert_eq!(outcome.unwrap_err().exit_code(), 2);
    let (outcome, ..) = bench(&["--connections", "1", "--node", &node.url, "--node", &node.url]).await;
    assert_eq!(outcome.unwrap_err().exit_code(), 2);
    for words in
        [["--rate", "0"], ["--rate", "NaN"], ["--read-share", "1.5"], ["--value-size", "3"], ["--users", "0"]]
    {
        assert!(Line::try_parse_from(["bench", "chat"].iter().chain(&words)).is_err(), "{words:?}");
    }
    let (outcome, ..) = bench(&["--node", "http://127.0.0.1:1"]).await;
    assert!(outcome.unwrap_err().to_string().contains("connection refused"));
}

#[actix_rt::test]
async fn filling_a_node_that_goes_away_ends() {
    let url = scripted(|_| None).await;
    let (outcome, ..) =
        bench(&["--connections", "2", "--prefill", "1000", "--users", "1000", "--node", &url]).await;
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("no message could be sent beforehand"), "{error}");
}

#[actix_rt::test]
async fn objects_are_put_once_beforehand_then_put_and_read() {
    let url = scripted(|_| Some(OK)).await;
    let words =
        ["--duration", "300ms", "--connections", "2", "--keys", "20", "--read-share", "0.5", "--node", &url];
    let (outcome, output, errors) = bench_of("kv", &[&words[..], &["--json"]].concat()).await;
    outcome.unwrap();
    assert!(errors.contains("putting 20 objects beforehand"), "{errors}");
    let report: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((report["workload"].as_str(), report["keys"].as_u64()), (Some("kv"), Some(20)));
    assert!(report["users"].is_null() && report["limit"].is_null(), "{report}");
    let count = |kind: &str| report["node"][kind]["count"].as_u64().unwrap();
    assert!(count("send") > 5 && count("get") > 5, "{report}");
    assert_eq!(report["node"]["failures"], serde_json::json!({}), "{report}");
    let (outcome, output, _) = bench_of("kv", &words).await;
    outcome.unwrap();
    assert!(output.contains("node put") && output.contains("node get"), "{output}");
}

#[actix_rt::test]
async fn an_echo_is_loaded_alone_and_called_one() {
    let url = scripted(|_| Some(OK)).await;
    let words = ["--duration", "300ms", "--connections", "2", "--node", &url];
    let (outcome, output, errors) = bench_of("echo", &[&words[..], &["--json"]].concat()).await;
    outcome.unwrap();
    assert!(errors.contains("round 1 of 1, echo:"), "{errors}");
    let report: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(report["workload"], "echo");
    assert!(report["users"].is_null() && report["keys"].is_null() && report["limit"].is_null(), "{report}");
    assert!(report["node"]["send"]["count"].as_u64().unwrap() > 5, "{report}");
    let (outcome, output, _) = bench_of("echo", &words).await;
    outcome.unwrap();
    assert!(output.contains("\necho  ") && !output.contains("\nnode  "), "{output}");
    // A node has no such route, which is said.
    let node = FakeNode::start().await;
    let words = ["--duration", "300ms", "--connections", "2", "--node", &node.url];
    let (outcome, output, _) = bench_of("echo", &words).await;
    assert!(outcome.is_err() && output.contains("× 404"), "{output}");
}
