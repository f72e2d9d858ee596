//! Settings against the real admin routes with a fake cluster behind them: what a person reads, what is asked for.

use super::*;
use crate::http::admin::fake_cluster::FakeCluster;
use clap::Parser;
use ringwork_runtime::administration::AdministrationRefusal;
use std::sync::Arc;

#[derive(Parser, Debug)]
enum Line {
    Set(SetArguments),
    Get(GetArguments),
    Unset(UnsetArguments),
}

/// What a command line writes.
async fn said(url: &str, words: &[&str]) -> Result<String, CliError> {
    let node = ["--node", url];
    let words = ["ringwork"].iter().chain(words).chain(&node).copied();
    let mut output = Vec::new();
    match Line::try_parse_from(words).unwrap() {
        Line::Set(arguments) => set(arguments, &mut output).await?,
        Line::Get(arguments) => get(arguments, &mut output).await?,
        Line::Unset(arguments) => unset(arguments, &mut output).await?,
    }
    Ok(String::from_utf8(output).unwrap())
}

#[actix_rt::test]
async fn a_setting_is_set_shown_and_taken_back() {
    let cluster: Arc<FakeCluster> = Arc::default();
    let url = cluster.clone().serve().await;
    let text = said(&url, &["set", "handoff.limit", "8"]).await.unwrap();
    assert_eq!(text, "handoff.limit = 8 on the asked node, set for the cluster\n");
    let text = said(&url, &["set", "handoff.limit", "2", "--of", "n3"]).await.unwrap();
    assert_eq!(text, "handoff.limit = 8 on the asked node, set for the cluster\nn3: 2\n");
    let text = said(&url, &["get"]).await.unwrap();
    for word in ["handoff.limit", "8", "cluster", "n3: 2", "1 to 64"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    said(&url, &["unset", "handoff.limit", "--of", "n3"]).await.unwrap();
    let text = said(&url, &["unset", "handoff.limit"]).await.unwrap();
    assert_eq!(text, "handoff.limit = 4 on the asked node, as this node's configuration says\n");
    let json: Value =
        serde_json::from_str(&said(&url, &["get", "handoff.limit", "--json"]).await.unwrap()).unwrap();
    assert_eq!((&json["value"], &json["cluster"], &json["nodes"]), (&json!("4"), &Value::Null, &json!({})));
    assert_eq!(
        cluster.state().asked,
        [
            r#"set handoff.limit Some("8") None"#,
            r#"set handoff.limit Some("2") Some("n3")"#,
            r#"set handoff.limit None Some("n3")"#,
            "set handoff.limit None None",
        ]
    );
}

#[actix_rt::test]
async fn a_refusal_is_one_line_and_wrong_requests_change_nothing() {
    let cluster: Arc<FakeCluster> = Arc::default();
    let url = cluster.clone().serve().await;
    let error = said(&url, &["get", "handoff.limits"]).await.unwrap_err().to_string();
    assert!(error.contains("no setting"), "{error}");
    cluster.state().refusal = Some(AdministrationRefusal::new("bad-setting", "it takes 1 to 64"));
    let error = said(&url, &["set", "handoff.limit", "-1"]).await.unwrap_err();
    assert!(matches!(&error, CliError::Refused { status: 400, .. }), "{error}");
    cluster.state().refusal = None;
    let client = crate::cli::client::NodeClient::new(&url).unwrap();
    let asked = cluster.state().asked.len();
    let wrong = [
        (Method::PUT, "/admin/settings/handoff.limit", Some(json!({"value": 8}))),
        (Method::PUT, "/admin/settings/handoff.limit", Some(json!({"value": "8", "off": "n1"}))),
        (Method::PUT, "/admin/settings/handoff.limit", Some(json!({"value": "x".repeat(1025)}))),
        (Method::PUT, "/admin/settings/", Some(json!({"value": "8"}))),
        (Method::DELETE, "/admin/settings/handoff.limit?off=n1", None),
        (Method::POST, "/admin/settings/handoff.limit", None),
    ];
    for (method, path, body) in wrong {
        let answer = client.request(method.clone(), path, &[], body.as_ref()).await.unwrap();
        assert!((400..500).contains(&answer.status), "{method} {path}: {}", answer.status);
    }
    assert_eq!(cluster.state().asked.len(), asked);
}
