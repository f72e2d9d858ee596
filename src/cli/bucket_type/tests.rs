//! Types against a whole node: created, brought into use, changed, shown.

use super::*;
use crate::http::riak::tests::served;
use actix_web::{App, HttpResponse, HttpServer, web};
use clap::Parser;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Parser, Debug)]
struct Line {
    #[command(flatten)]
    types: BucketTypeArguments,
}

async fn said(url: &str, words: &[&str]) -> Result<String, CliError> {
    let words = ["bucket-type"].iter().chain(words).copied().chain(["--node", url]);
    let mut output = Vec::new();
    run(Line::try_parse_from(words).unwrap().types, &mut output).await?;
    Ok(String::from_utf8(output).unwrap())
}

#[actix_rt::test]
async fn a_type_is_created_used_changed_and_listed() {
    let (served, client) = served().await;
    let words = async |words: &[&str]| said(client.url(), words).await;
    let text =
        words(&["create", "carts", "n_val=2", "--props", "{\"w\": \"all\"}", "--activate"]).await.unwrap();
    assert!(
        text.starts_with("carts is active\n") && text.contains("  n_val: 2\n") && text.contains("  w: all\n"),
        "{text}"
    );
    let text = words(&["update", "carts", "allow_mult=false"]).await.unwrap();
    assert!(text.contains("  allow_mult: false\n"), "{text}");
    let shown: Value = serde_json::from_str(&words(&["status", "carts", "--json"]).await.unwrap()).unwrap();
    assert_eq!((&shown["stage"], &shown["props"]["n_val"]), (&json!("active"), &json!(2)));
    let text = words(&["create", "later"]).await.unwrap();
    assert!(text == "later is created\n" || text == "later is ready\n", "{text}");
    let text = words(&["list"]).await.unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["carts", "active", "2", "false", "-"]);
    assert_eq!(lines[2][0], "later");
    let text = words(&["activate", "later"]).await.unwrap();
    assert!(text.starts_with("later is active\n"), "{text}");
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn what_cannot_be_is_one_line_and_changes_nothing() {
    let (served, client) = served().await;
    let words = async |words: &[&str]| said(client.url(), words).await.unwrap_err();
    for (line, code, expected) in [
        (&["status", "none"][..], 1, "there is no bucket type"),
        (&["activate", "none"], 1, "create it first"),
        (&["update", "none", "r=1"], 1, "there is no bucket type"),
        (&["create", "t", "n_val=9"], 1, "n_val"),
        (&["create", "t", "no_such=1"], 1, "there is no such property"),
        (&["create", "default"], 1, "choose another name"),
        (&["create", "t", "n_val"], 2, "write it like n_val=2"),
        (&["create", "t", "--props", "[]"], 2, "a JSON object"),
        (&["status", ""], 2, "is empty"),
    ] {
        let error = words(line).await;
        assert_eq!(error.exit_code(), code, "{error}");
        assert!(error.to_string().contains(expected) && !error.to_string().contains('\n'), "{error}");
    }
    let listed = client.get("/admin/bucket-types").await.unwrap();
    assert_eq!(listed, json!({ "types": [] }));
    served.stop().await.unwrap();
}

/// A node whose members have the type when it is asked for the `ready_at`th time.
async fn answering(ready_at: usize) -> NodeClient {
    let asked = Arc::new(AtomicUsize::new(0));
    let activate = move || {
        let asked = asked.clone();
        async move {
            if asked.fetch_add(1, Ordering::Relaxed) + 1 >= ready_at {
                return HttpResponse::Ok().json(json!({"name": "t", "stage": "active"}));
            }
            let problem = json!({"code": "bucket-type-not-ready", "detail": "n2 does not have it"});
            HttpResponse::Conflict().content_type("application/problem+json").body(problem.to_string())
        }
    };
    let app = move || App::new().route("/admin/bucket-types/t/activate", web::post().to(activate.clone()));
    let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    actix_rt::spawn(server.run());
    NodeClient::new(&url).unwrap()
}

#[actix_rt::test]
async fn a_type_that_not_every_member_has_is_waited_for_and_not_for_ever() {
    let client = answering(3).await;
    assert_eq!(said(client.url(), &["activate", "t"]).await.unwrap(), "t is active\n");
    let never = answering(usize::MAX).await;
    let within = Duration::from_millis(500);
    let error = activated(&never, "/admin/bucket-types/t", within).await.unwrap_err().to_string();
    assert!(error.contains("n2 does not have it") && error.contains("cluster status"), "{error}");
}
