//! The verbs against a whole node: what a person reads, what a script gets.

use super::*;
use crate::http::riak::tests::served;
use clap::Parser;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

#[derive(Parser, Debug)]
struct Line {
    #[command(flatten)]
    kv: KvArguments,
}

/// What a command line writes, as bytes.
async fn said(url: &str, words: &[&str], terminal: bool) -> Result<String, CliError> {
    let words = ["kv"].iter().chain(words).copied().chain(["--node", url]);
    let mut output = Vec::new();
    run(Line::try_parse_from(words).unwrap().kv, terminal, &mut output, &mut Vec::new()).await?;
    Ok(String::from_utf8(output).unwrap())
}

#[actix_rt::test]
async fn an_object_is_put_read_listed_and_deleted() {
    let (served, client) = served().await;
    let url = client.url();
    let words = async |words: &[&str]| said(url, words, false).await;
    assert_eq!(words(&["put", "b", "k 1", "a\u{7}\n"]).await.unwrap(), "stored b/k 1, on one node alone\n");
    assert_eq!(words(&["get", "b", "k 1"]).await.unwrap(), "a\u{7}\n", "as it is");
    assert_eq!(said(url, &["get", "b", "k 1"], true).await.unwrap(), "a\\u{7}\\n\n", "on a terminal");
    let shown: Value = serde_json::from_str(&words(&["get", "b", "k 1", "--json"]).await.unwrap()).unwrap();
    assert_eq!(
        (&shown["siblings"][0]["value"], &shown["siblings"][0]["content_type"]),
        (&json!("a\u{7}\n"), &json!("text/plain"))
    );
    words(&["put", "b", "k2", "{}", "--content-type", "application/json", "--w", "all"]).await.unwrap();
    assert_eq!(words(&["keys", "b"]).await.unwrap(), "k 1\nk2\n");
    assert_eq!(words(&["keys", "b", "--json"]).await.unwrap(), "{\"key\":\"k 1\"}\n{\"key\":\"k2\"}\n");
    assert_eq!(words(&["keys", "none"]).await.unwrap(), "");
    assert_eq!(words(&["delete", "b", "k2"]).await.unwrap(), "deleted b/k2, on one node alone\n");
    let error = words(&["delete", "b", "k2"]).await.unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().as_str()), (1, "there is no b/k2"));
    assert_eq!(words(&["get", "b", "k2"]).await.unwrap_err().to_string(), "there is no b/k2");
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn siblings_are_an_error_that_says_the_way_out() {
    let (served, client) = served().await;
    let url = client.url();
    let props = json!({"props": {"allow_mult": true}});
    client.ask(Method::PUT, "/buckets/s/props", &[], Some(&props)).await.unwrap();
    let words = async |words: &[&str]| said(url, words, false).await;
    words(&["put", "s", "k", "one"]).await.unwrap();
    words(&["put", "s", "k", "two"]).await.unwrap();
    let error = words(&["get", "s", "k"]).await.unwrap_err().to_string();
    assert!(error.starts_with("s/k has 2 siblings; show one with --vtag ("), "{error}");
    let shown: Value = serde_json::from_str(&words(&["get", "s", "k", "--json"]).await.unwrap()).unwrap();
    let siblings = shown["siblings"].as_array().unwrap();
    let mut values: Vec<&str> = siblings.iter().map(|sibling| sibling["value"].as_str().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, ["one", "two"]);
    let tag = siblings[0]["vtag"].as_str().unwrap();
    assert_eq!(
        words(&["get", "s", "k", "--vtag", tag]).await.unwrap(),
        siblings[0]["value"].as_str().unwrap()
    );
    let context = shown["context"].as_str().unwrap();
    words(&["put", "s", "k", "both", "--context", context]).await.unwrap();
    assert_eq!(words(&["get", "s", "k"]).await.unwrap(), "both");
    served.stop().await.unwrap();
}

#[actix_rt::test]
async fn a_refusal_is_one_line_with_the_nodes_reason() {
    let (served, client) = served().await;
    let words = async |words: &[&str]| said(client.url(), words, false).await.unwrap_err();
    for (line, code, expected) in [
        (&["put", "b", "k", "v", "--w", "4"][..], 1, "refused (400): Specified w/dw/pw/node_confirms values"),
        (&["get", "b", "k", "--type", "t"], 1, "Unknown bucket type: t"),
        (&["put", "b", "k", "v", "--context", "nonsense"], 1, "X-Riak-Vclock"),
        (&["put", "b", "k", "--file", "/no/such/file"], 1, "cannot read /no/such/file"),
        (&["get", "", "k"], 2, "is empty"),
        (&["get", "b", ""], 2, "the key is empty"),
        (&["put", "b", "k", "v", "--context", "\n"], 2, "visible ASCII"),
    ] {
        let error = words(line).await;
        assert_eq!(error.exit_code(), code, "{error}");
        assert!(error.to_string().contains(expected) && !error.to_string().contains('\n'), "{error}");
    }
    served.stop().await.unwrap();
}

/// A node that answers one request like this.
async fn answering(status: &str, headers: &str, body: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let length = body.len();
    let answer =
        format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}");
    actix_rt::spawn(async move {
        let mut connection = BufReader::new(listener.accept().await.unwrap().0);
        let mut line = String::new();
        while connection.read_line(&mut line).await.unwrap() > "\r\n".len() {
            line.clear();
        }
        connection.write_all(answer.as_bytes()).await.unwrap();
    });
    url
}

#[actix_rt::test]
async fn a_read_that_may_lack_something_says_so_beside_the_value_or_in_it() {
    let degraded = "x-ringwork-degraded: true\r\n";
    let read = async |headers: &str, words: &[&str]| {
        let url = answering("200 OK", headers, "v").await;
        let words = [&["kv", "get", "b", "k", "--node", &url], words].concat();
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        run(Line::try_parse_from(words).unwrap().kv, false, &mut output, &mut errors).await.unwrap();
        (String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
    };
    let (value, note) = read(degraded, &[]).await;
    assert_eq!(value, "v", "nothing beside it");
    assert!(note.contains("fewer complete replicas") && note.lines().count() == 1, "{note}");
    assert_eq!(read("", &[]).await, ("v".to_owned(), String::new()));
    for (headers, expected) in [(degraded, Some(true)), ("", None)] {
        let (shown, note) = read(headers, &["--json"]).await;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((shown.get("degraded").and_then(Value::as_bool), note.as_str()), (expected, ""));
    }
}

#[test]
fn objects_of_a_stream_are_taken_as_they_come() {
    let whole = br#"{"keys":["a}"]}{"keys":[]}"#;
    assert_eq!(keys::first(whole).unwrap().unwrap().1, 15);
    assert_eq!(keys::first(&whole[..14]), Ok(None));
    assert_eq!(keys::first(b""), Ok(None));
    assert_eq!(keys::first(b"nonsense"), Err(()));
}
