//! What a node answers while the other one of two is down: what it reads may not be all there is, and nothing that
//! depends on it is done or denied.

use super::*;
use std::time::Duration;

/// Asks until it is so.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), waiting).await.is_ok(), "{what}");
}

/// Two nodes of one cluster, at rest.
async fn two() -> (Served, NodeClient, Served) {
    let (first, client) = served().await;
    let members = client.get("/admin/members").await.unwrap();
    let mut settings = settings();
    settings.node.name = "node2".to_owned();
    settings.cluster.seeds = vec![members["members"][0]["address"].as_str().unwrap().to_owned()];
    let second = serve(&settings).await.unwrap();
    eventually("the join is staged and committed", async || {
        client.post("/admin/cluster/plan", None).await.is_ok()
            && client.post("/admin/cluster/commit", None).await.is_ok()
    })
    .await;
    eventually("both are members and hold their share", async || {
        let status = client.get("/admin/status").await.unwrap();
        let held = status["partitions_owned"].as_u64().unwrap();
        status["settled"] == true && status["ring_ready"] == true && held == 4
    })
    .await;
    (first, client, second)
}

#[actix_rt::test]
async fn what_is_not_certain_is_marked_or_refused() {
    let (first, client, second) = two().await;
    let once = json!({"props": {"write_once": true}});
    client.ask(Method::PUT, "/admin/bucket-types/once", &[], Some(&once)).await.unwrap();
    eventually("the type is in use", async || {
        client.post("/admin/bucket-types/once/activate", None).await.is_ok()
    })
    .await;
    let (there, none) = ("/buckets/b/keys/there?r=all", "/buckets/b/keys/none?r=all");
    let written = put(&client, there, &[], "v").await;
    assert_eq!((written.status, written.header("x-ringwork-alone")), (204, None));
    let two_nodes = get(&client, "/buckets/b/keys/there?node_confirms=2", &[]).await;
    assert_eq!(two_nodes.status, 200);
    let seen = context(&get(&client, there, &[]).await);
    let seen = (seen.0, seen.1.as_str());
    second.stop().await.unwrap();
    eventually("the other node is seen to be down", async || {
        get(&client, there, &[]).await.header("x-ringwork-degraded") == Some("true")
    })
    .await;

    for (path, headers, status) in [
        (there, &[][..], 200),
        (none, &[], 404),
        (there, &[("if-match", "\"x\"")], 412),
        (there, &[("if-none-match", "*")], 304),
        (there, &[("accept", "image/png")], 406),
        ("/buckets/b/keys/there?r=all&vtag=x", &[], 404),
        ("/buckets/b/counters/none?r=all", &[], 404),
    ] {
        let answer = get(&client, path, headers).await;
        assert_eq!((answer.status, answer.header("x-ringwork-degraded")), (status, Some("true")), "{path}");
    }

    for (method, path, headers) in [
        (Method::DELETE, none, &[][..]),
        (Method::DELETE, there, &[]),
        (Method::DELETE, there, &[seen, ("if-match", "*")]),
        (Method::PUT, there, &[TEXT, ("if-match", "*")]),
        (Method::PUT, there, &[TEXT, ("if-none-match", "*")]),
        (Method::PUT, none, &[TEXT, ("if-none-match", "*")]),
        (Method::PUT, "/types/once/buckets/b/keys/k?r=all", &[TEXT]),
    ] {
        let answer = ask(&client, method.clone(), path, headers, "w").await;
        let said = text(&answer);
        assert_eq!((answer.status, answer.header("x-ringwork-outcome")), (503, Some("refused")), "{said}");
        assert!(
            said.contains("not certain") && said.contains("nothing was written"),
            "{method} {path}: {said}"
        );
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(text(&get(&client, there, &[]).await), "v", "nothing was done");

    for (method, path, unmet) in [
        (Method::GET, "/buckets/b/keys/there?pr=all", "PR/PW-value unsatisfied: "),
        (Method::PUT, "/buckets/b/keys/there?pw=all", "PR/PW-value unsatisfied: "),
        (Method::PUT, "/buckets/b/keys/there?node_confirms=2", "node_confirms-value unsatisfied: 1/2"),
        (Method::GET, "/buckets/b/keys/there?node_confirms=2", "node_confirms-value unsatisfied: 1/2"),
        (Method::GET, "/buckets/b/keys/there?r=all&sloppy_quorum=false", "R/W-value unsatisfied: "),
    ] {
        let answer = ask(&client, method, path, &[TEXT, ANYTHING], "w").await;
        assert_eq!(answer.status, 503);
        assert!(text(&answer).starts_with(unmet), "{path}: {}", text(&answer));
    }

    let written = put(&client, there, &[seen], "w").await;
    assert_eq!(written.status, 204, "that needs no certainty");
    assert_eq!(
        written.header("x-ringwork-alone"),
        Some("true"),
        "two copies were wanted, and are on one node"
    );
    let one = put(&client, "/buckets/b/keys/one?w=1&dw=0", &[], "w").await;
    assert_eq!((one.status, one.header("x-ringwork-alone")), (204, None), "one copy was wanted");
    let props = json!({"props": {"allow_mult": true}}).to_string();
    assert_eq!(ask(&client, Method::PUT, "/buckets/counts/props", &[JSON], &props).await.status, 204);
    let counted = ask(&client, Method::POST, "/buckets/counts/counters/c", &[], "1").await;
    assert_eq!((counted.status, counted.header("x-ringwork-alone")), (204, Some("true")));
    let seen = context(&get(&client, there, &[]).await);
    let deleted = ask(&client, Method::DELETE, there, &[(seen.0, &seen.1)], "").await;
    assert_eq!(deleted.status, 204, "what was seen can be deleted");
    first.stop().await.unwrap();
}
