//! What a request gets for the quorums it asks for, over which of five nodes are up: a table.

use super::harness::Cluster;
use crate::node::wait_until;

/// Which request, and what is expected: status, and the code of a problem or a word of the answer.
type Row = (&'static str, &'static str, u16, &'static str);

const SEND: &str = "POST";
const GET: &str = "GET";

const ALL_UP: &[Row] = &[
    (SEND, "", 201, r#""nodes""#),
    (SEND, "?w=3&pw=3&node_confirms=3", 201, r#""acks":3"#),
    (SEND, "?sloppy=false&w=all", 201, r#""acks":3"#),
    (SEND, "?w=1&pw=0&node_confirms=0", 201, ""),
    (SEND, "?pw=4", 400, "impossible-quorum"),
    (SEND, "?node_confirms=4", 400, "impossible-quorum"),
    (GET, "?pr=3&r=3", 200, ""),
    (GET, "?sloppy=false&r=3", 200, ""),
];

const ONE_PRIMARY_STOPPED_AND_NOT_YET_NOTICED: &[Row] = &[
    (SEND, "?w=3&timeout=400", 504, "unknown"),
    (SEND, "?sloppy=false&w=3&timeout=400", 504, "unknown"),
    (SEND, "?pw=3&timeout=400", 504, "unknown"),
    (SEND, "?node_confirms=3&timeout=400", 504, "unknown"),
    (GET, "?pr=3&r=3&timeout=400", 504, "unknown"),
    (SEND, "?timeout=2000", 201, ""),
    (GET, "?r=2&timeout=2000", 200, ""),
];

const ONE_PRIMARY_DOWN: &[Row] = &[
    (SEND, "", 201, ""),
    (SEND, "?w=3", 201, r#""acks":3"#),
    (SEND, "?w=3&pw=2&node_confirms=3", 201, r#""acks":3"#),
    (SEND, "?pw=3", 503, "too-few-primaries"),
    (SEND, "?sloppy=false", 201, ""),
    (SEND, "?sloppy=false&pw=2", 201, ""),
    (SEND, "?sloppy=false&w=3", 503, "too-few-replicas"),
    (SEND, "?sloppy=false&node_confirms=3", 503, "too-few-nodes"),
    (SEND, "?sloppy=false&pw=3", 503, "too-few-primaries"),
    (GET, "", 200, ""),
    (GET, "?pr=2", 200, ""),
    (GET, "?pr=3", 503, "too-few-primaries"),
    (GET, "?r=3", 200, r#""degraded":true"#),
    (GET, "?sloppy=false&r=2", 200, ""),
    (GET, "?sloppy=false&r=3", 503, "too-few-replicas"),
];

const TWO_PRIMARIES_DOWN: &[Row] = &[
    (SEND, "", 201, ""),
    (SEND, "?w=3&node_confirms=3&pw=1", 201, r#""acks":3"#),
    (SEND, "?pw=2", 503, "too-few-primaries"),
    (SEND, "?sloppy=false", 503, "too-few-replicas"),
    (SEND, "?sloppy=false&w=1", 201, r#""acks":1"#),
    (SEND, "?sloppy=false&w=1&node_confirms=2", 503, "too-few-nodes"),
    (GET, "", 200, r#""degraded":true"#),
    (GET, "?pr=1&r=1", 200, ""),
    (GET, "?pr=2", 503, "too-few-primaries"),
    (GET, "?sloppy=false&r=1", 200, ""),
    (GET, "?sloppy=false", 503, "too-few-replicas"),
];

const ALL_PRIMARIES_DOWN: &[Row] = &[
    (SEND, "", 201, ""),
    (SEND, "?node_confirms=2", 201, ""),
    (SEND, "?node_confirms=3", 503, "too-few-nodes"),
    (SEND, "?pw=1", 503, "too-few-primaries"),
    (SEND, "?sloppy=false&w=1", 503, "too-few-replicas"),
    (GET, "", 200, r#""degraded":true"#),
    (GET, "?pr=1", 503, "too-few-primaries"),
    (GET, "?sloppy=false&r=1", 503, "too-few-replicas"),
];

const ONE_FALLBACK_LEFT: &[Row] = &[
    (SEND, "", 201, r#""alone":true"#),
    (SEND, "?node_confirms=1", 201, r#""alone":true"#),
    (SEND, "?node_confirms=2", 503, "too-few-nodes"),
    (SEND, "?pw=1", 503, "too-few-primaries"),
    (GET, "", 200, r#""degraded":true"#),
    (GET, "?pr=1", 503, "too-few-primaries"),
];

/// Asks through `by`; wrong rows are collected, so that one run shows all.
fn check(cluster: &Cluster, by: usize, what: &str, rows: &[Row]) {
    let mut wrong = Vec::new();
    for (number, (method, query, status, word)) in rows.iter().enumerate() {
        let body = match *method {
            SEND => format!(r#"{{"text": "{what} {number}"}}"#),
            _ => String::new(),
        };
        let answer = cluster.ask(by, method, &format!("/chat/users/ann/messages{query}"), &body);
        let named = if *status < 300 { (*word).to_owned() } else { format!(r#""code":"{word}""#) };
        if answer.status != *status || !answer.body.contains(&named) {
            let found = format!("{} {}", answer.status, answer.body);
            wrong.push(format!("{method} {query}: {status} {word} expected, found {found}"));
        }
        for word in [r#""degraded":true"#, r#""alone":true"#] {
            if answer.body.contains(word) && named != word {
                wrong.push(format!("{method} {query}: {word} was not expected: {}", answer.body));
            }
        }
        let confirms_unknown = answer.status == 504 && *method == SEND;
        if confirms_unknown && answer.json()["idempotency_key"].as_str().is_none() {
            wrong.push(format!("{method} {query}: 504 without an idempotency_key"));
        }
    }
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

#[test]
fn each_quorum_is_done_refused_or_unknown_as_the_nodes_that_are_up_allow() {
    let mut cluster = Cluster::start(5, &["cluster.ring_size=16"]);
    let primaries: Vec<usize> = cluster.preflist(0, "ann").into_iter().map(|(node, _)| node).collect();
    let fallbacks: Vec<usize> = (0..5).filter(|node| !primaries.contains(node)).collect();
    assert_eq!((primaries.len(), fallbacks.len()), (3, 2), "{primaries:?}");
    let by = fallbacks[0];
    wait_until("all partitions are complete everywhere", || {
        (0..5).all(|node| {
            cluster.ask(node, "GET", "/admin/ring", "").json()["incomplete"] == serde_json::json!([])
        })
    });
    check(&cluster, by, "all up", ALL_UP);

    cluster.node(primaries[0]).signal("STOP");
    check(&cluster, by, "one primary stopped", ONE_PRIMARY_STOPPED_AND_NOT_YET_NOTICED);
    cluster.kill(primaries[0]);
    cluster.wait_seen(primaries[0], "down");
    check(&cluster, by, "one primary down", ONE_PRIMARY_DOWN);

    cluster.kill(primaries[1]);
    cluster.wait_seen(primaries[1], "down");
    check(&cluster, by, "two primaries down", TWO_PRIMARIES_DOWN);

    cluster.kill(primaries[2]);
    cluster.wait_seen(primaries[2], "down");
    check(&cluster, by, "all primaries down", ALL_PRIMARIES_DOWN);

    cluster.kill(fallbacks[1]);
    cluster.wait_seen(fallbacks[1], "down");
    check(&cluster, by, "one fallback left", ONE_FALLBACK_LEFT);
}
