//! Types against a whole node: created, brought into use, changed, shown.

use super::*;
use crate::http::riak::tests::served;
use clap::Parser;

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
