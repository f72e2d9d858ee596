//! The admin routes in front of a fake cluster: what is asked for arrives, what comes back is shown, what is
//! refused keeps its code. Bytes that mean harm are in `tests/hostile`.

use super::fake_cluster::FakeCluster;
use super::*;
use crate::cli::client::NodeClient;
use awc::http::Method;

struct Bed {
    cluster: Arc<FakeCluster>,
    client: NodeClient,
}

use std::sync::Arc;

impl Bed {
    async fn new() -> Self {
        let cluster: Arc<FakeCluster> = Arc::default();
        let url = cluster.clone().serve().await;
        Self { cluster, client: NodeClient::new(&url).unwrap() }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let answer = self.client.request(method, path, &[], body.as_ref()).await.unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Option<Value>) -> (u16, Value) {
        self.ask(Method::POST, path, body).await
    }
}

#[actix_rt::test]
async fn what_can_be_seen_has_the_names_that_scripts_rely_on() {
    let bed = Bed::new().await;
    let (status, members) = bed.get("/admin/members").await;
    assert_eq!((status, &members["claimant"], &members["ring_ready"]), (200, &json!("n1"), &json!(true)));
    for field in
        ["name", "id", "address", "status", "available", "share", "pending_share", "location", "services"]
    {
        assert!(members["members"][1].get(field).is_some(), "{field}: {members}");
    }
    let (_, status) = bed.get("/admin/status").await;
    for field in ["claimant", "ring_ready", "waiting_for", "settled", "members", "epoch"] {
        assert_eq!(status[field], members[field], "{field}");
    }
    assert_eq!(bed.get("/admin/ring").await.1["node_violations"], json!([64, 64, 64]));
    let (_, partitions) = bed.get("/admin/ring/partitions?of=n1").await;
    assert_eq!(partitions["partitions"][1]["target"], "n2");
    let (_, preflist) = bed.get("/admin/ring/preflist?service=chat&key=a%00%26b&n=2").await;
    assert_eq!((&preflist["key"], preflist["places"].as_array().unwrap().len()), (&json!("a\0&b"), 2));
    assert_eq!(preflist["places"][1]["available"], "suspect");
}

#[actix_rt::test]
async fn a_change_is_staged_planned_and_committed() {
    let bed = Bed::new().await;
    assert_eq!(bed.get("/admin/plan").await.1["code"], "no-plan");
    let (status, staged) = bed.post("/admin/cluster/join", Some(json!({"seed": "10.0.0.1:8099"}))).await;
    assert_eq!(
        (status, &staged),
        (200, &json!({"staged": [{"kind": "join", "node": "n2", "location": null, "with": null}]}))
    );
    let (status, plan) = bed.post("/admin/cluster/plan", None).await;
    assert_eq!((status, &plan["moved"], &plan["changes"]), (200, &json!(42), &staged["staged"]));
    assert_eq!(bed.get("/admin/plan").await.1, plan);
    assert_eq!(bed.post("/admin/cluster/commit", Some(json!({}))).await, (200, plan));
    assert_eq!(bed.post("/admin/cluster/clear", None).await, (200, json!({"staged": []})));
    assert_eq!(bed.get("/admin/members").await.1["epoch"], 2);
    assert_eq!(
        bed.cluster.state().asked,
        ["shown plan", r#"Join { seed: "10.0.0.1:8099" }"#, "plan", "shown plan", "commit", "clear"]
    );
}

#[actix_rt::test]
async fn every_change_arrives_as_it_was_meant() {
    let bed = Bed::new().await;
    for (path, body, asked) in [
        ("leave", None, "Leave { node: None }"),
        ("leave", Some(json!({"node": "n3"})), r#"Leave { node: Some("n3") }"#),
        ("location", Some(json!({"location": null})), "Location { node: None, location: None }"),
        (
            "location",
            Some(json!({"location": "rack 1", "node": "n2"})),
            r#"Location { node: Some("n2"), location: Some("rack 1") }"#,
        ),
        ("rebalance", None, "Rebalance"),
        ("replace", Some(json!({"old": "n1", "new": "n4"})), r#"Replace { old: "n1", new: "n4" }"#),
        (
            "force-replace",
            Some(json!({"new": "n4", "old": "n1"})),
            r#"ForceReplace { old: "n1", new: "n4" }"#,
        ),
        ("force-remove", Some(json!({"node": "n3"})), r#"ForceRemove { node: "n3" }"#),
        ("down", Some(json!({"node": "n3"})), "down n3"),
    ] {
        let (status, answer) = bed.post(&format!("/admin/cluster/{path}"), body).await;
        assert_eq!((status, bed.cluster.state().asked.last().unwrap().as_str()), (200, asked), "{answer}");
    }
}

#[actix_rt::test]
async fn transfers_are_shown_and_what_is_set_for_them_arrives() {
    let bed = Bed::new().await;
    bed.cluster.state().handoff.running = vec![super::fake_cluster::transfer("in", 17, "n2")];
    let (status, handoff) = bed.get("/admin/handoff").await;
    assert_eq!((status, &handoff["limit"], &handoff["bytes_per_second"]), (200, &json!(4), &Value::Null));
    for field in ["node", "paused", "waiting", "recent", "repairing", "totals"] {
        assert!(handoff.get(field).is_some(), "{field}: {handoff}");
    }
    let running = &handoff["running"][0];
    assert_eq!(
        (&running["direction"], &running["share"], &running["eta_s"]),
        (&json!("in"), &json!(0.5), &json!(6))
    );
    let put = async |body: Value| bed.ask(Method::PUT, "/admin/handoff/limit", Some(body)).await;
    for (body, asked) in [
        (json!({"limit": 8}), "limit Some(8) None"),
        (json!({"bytes_per_second": 50_000_000}), "limit None Some(Some(50000000))"),
        (json!({"limit": 2, "bytes_per_second": null}), "limit Some(2) Some(None)"),
    ] {
        let (status, answer) = put(body).await;
        assert_eq!((status, bed.cluster.state().asked.last().unwrap().as_str()), (200, asked), "{answer}");
    }
    assert_eq!(bed.get("/admin/handoff").await.1["limit"], 2);
    for (path, body, asked, answered) in [
        ("pause", None, "pause", ("paused", json!(true))),
        ("resume", Some(json!({})), "resume", ("paused", json!(false))),
        ("repair", Some(json!({"partitions": [3, 4]})), "repair Some([3, 4])", ("partitions", json!([3, 4]))),
        (
            "repair",
            Some(json!({"partitions": [3], "all": false})),
            "repair Some([3])",
            ("partitions", json!([3])),
        ),
    ] {
        let (status, answer) = bed.post(&format!("/admin/handoff/{path}"), body).await;
        assert_eq!((status, bed.cluster.state().asked.last().unwrap().as_str()), (200, asked), "{answer}");
        assert_eq!(answer[answered.0], answered.1);
    }
    let (_, all) = bed.post("/admin/handoff/repair", Some(json!({"all": true}))).await;
    assert_eq!(all["partitions"].as_array().unwrap().len(), 43);
    let asked = bed.cluster.state().asked.len();
    for body in [json!({}), json!({"limit": null}), json!({"limit": -1}), json!({"limit": "8"})] {
        assert_eq!(put(body.clone()).await.0, 400, "{body}");
    }
    assert_eq!(bed.cluster.state().asked.len(), asked);
    bed.cluster.state().refusal = Some(AdministrationRefusal::new("bad-limit", "at most 64"));
    assert_eq!(put(json!({"limit": 65})).await.1["code"], "bad-limit");
    bed.cluster.state().refusal = Some(AdministrationRefusal::new("not-the-holder", "n2 has it"));
    let (status, refused) = bed.post("/admin/handoff/repair", Some(json!({"partitions": [9]}))).await;
    assert_eq!((status, &refused["detail"]), (409, &json!("n2 has it")));
}

#[actix_rt::test]
async fn every_refusal_has_its_status_and_keeps_its_code() {
    let bed = Bed::new().await;
    let refusals = [
        (400, "bad-limit bad-location not-a-cluster-port seed-is-self"),
        (404, "unknown-node unknown-partition"),
        (
            409,
            "not-a-member nothing-staged no-plan plan-changed different-ring-size name-taken already-a-member \
             node-holds-data only-member already-leaving still-joining not-a-replacement contradicts-staged node-is-up \
             not-the-holder metadata-full one-that-nobody-knows-yet",
        ),
        (503, "claimant-unreachable seed-unreachable stopping store-failed overloaded not-yet"),
        (504, "deadline"),
    ];
    for (expected, codes) in refusals {
        for code in codes.split(' ') {
            bed.cluster.state().refusal = Some(AdministrationRefusal::new(code, "why, and the way out"));
            for path in ["plan", "commit", "clear", "rebalance", "leave"] {
                let answer =
                    bed.client.request(Method::POST, &format!("/admin/cluster/{path}"), &[], None).await;
                let (answer, problem) = answer.map(|answer| (answer.status, answer.body)).unwrap();
                let problem: Value = serde_json::from_slice(&problem).unwrap();
                assert_eq!((answer, problem["code"].as_str()), (expected, Some(code)), "{problem}");
                assert_eq!(problem["detail"], "why, and the way out");
                assert_eq!(problem["type"], format!("urn:ringwork:problem:{code}"));
            }
        }
    }
    assert_eq!(bed.get("/admin/ring/partitions?of=n9").await.1["code"], "unknown-node");
}

#[actix_rt::test]
async fn a_page_of_somebody_elses_changes_nothing_and_ours_may() {
    let bed = Bed::new().await;
    let host = bed.client.url().to_owned();
    let post = async |origin: &str| {
        let headers = [("origin", origin)];
        bed.client.request(Method::POST, "/admin/cluster/clear", &headers, None).await.unwrap().status
    };
    for origin in ["http://evil.example", "null", "", "http://127.0.0.1:1", "file://", "http://127.0.0.1"] {
        assert_eq!(post(origin).await, 403, "{origin}");
    }
    assert!(bed.cluster.state().asked.is_empty());
    assert_eq!(post(&host).await, 200);
}
