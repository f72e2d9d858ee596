//! What the client makes of answers, good, bad and hostile. It knows no command.

use super::fake_node::FakeNode;
use super::*;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server that answers every connection with the same bytes and closes it. None: it accepts and says
/// nothing.
async fn canned(answer: Option<Vec<u8>>) -> NodeClient {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    actix_rt::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            match &answer {
                Some(answer) => {
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream.write_all(answer).await;
                }
                None => silent.push(stream),
            }
        }
    });
    NodeClient::new(&url).unwrap()
}

fn unused_url() -> String {
    // Bound and closed again: nobody listens there for the moment of a test.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn urls_of_nodes_are_understood() {
    for (url, host, port) in [
        ("http://127.0.0.1:8098", "127.0.0.1", 8098),
        ("http://node1.example:1/", "node1.example", 1),
        ("http://[::1]:8098", "::1", 8098),
        ("http://node1", "node1", 80),
    ] {
        assert_eq!(NodeUrl::parse(url).unwrap(), NodeUrl { host: host.to_owned(), port }, "{url}");
    }
    assert_eq!(NodeUrl::parse("http://[::1]:8098").unwrap().authority(), "[::1]:8098");
    assert!(NodeUrl::parse("http://[::1]:8098").unwrap().is_loopback());
    assert!(NodeUrl::parse("http://127.8.0.1:8098").unwrap().is_loopback());
    assert!(!NodeUrl::parse("http://10.0.0.1:8098").unwrap().is_loopback());
}

#[test]
fn what_is_no_url_of_a_node_is_wrong_usage_and_says_how_to_write_it() {
    for (url, expected) in [
        ("127.0.0.1:8098", "http://127.0.0.1:8098"),
        ("localhost", "http://localhost"),
        ("https://node1:8098", "http:// only"),
        ("ftp://node1", "begin with http://"),
        ("http://user:secret@node1", "user name"),
        ("http://node1:8098/chat", "only host and port"),
        ("http://node1:8098/?a=b", "only host and port"),
        ("http://node1:99999", "port"),
        ("http://node1:0", "port"),
        ("http://node1:", "port"),
        ("http://", "http://127.0.0.1:8098"),
        ("", "http://127.0.0.1:8098"),
        ("http://a b", "http://127.0.0.1:8098"),
        ("\u{1b}[2J", r"\u{1b}[2J"),
    ] {
        let error = NodeUrl::parse(url).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{url}");
        assert!(error.to_string().contains(expected), "{url}: {error}");
    }
}

#[test]
fn everything_but_the_unreserved_is_encoded() {
    assert_eq!(percent_encode("Az09-._~"), "Az09-._~");
    assert_eq!(percent_encode("a/b?c#d%e f+ä"), "a%2Fb%3Fc%23d%25e%20f%2B%C3%A4");
    assert_eq!(
        (percent_encode("."), percent_encode(".."), percent_encode("...")),
        ("%2E".into(), "%2E%2E".into(), "...".into())
    );
    assert_eq!(query_string(&[]), "");
    assert_eq!(query_string(&[("after", "a b".into()), ("limit", "2".into())]), "?after=a%20b&limit=2");
}

#[test]
fn text_that_would_move_a_cursor_is_spelled_out() {
    assert_eq!(printable("plain, grün, 日本"), "plain, grün, 日本");
    assert_eq!(printable("a\u{1b}[2Jb\nc\td\r\u{7f}\u{9b}31m\0"), r"a\u{1b}[2Jb\nc\td\r\u{7f}\u{9b}31m\u{0}");
    assert_eq!(printable("\u{202e}txt.exe\u{2066}"), r"\u{202e}txt.exe\u{2066}");
}

#[test]
fn json_lines_escape_what_json_itself_lets_through() {
    let value = serde_json::json!({"text": "a\u{1b}\u{9b}\u{7f}\u{202e}\nä"});
    let line = json_line(&value);
    assert_eq!(line, r#"{"text":"a\u001b\u009b\u007f\u202e\nä"}"#);
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
}

#[test]
fn exit_codes_tell_refusals_from_wrong_usage_and_a_closed_pipe_is_no_failure() {
    let mut said = Vec::new();
    assert_eq!(conclude(Ok(()), &mut said), 0);
    assert_eq!(conclude(Err(CliError::writing(io::ErrorKind::BrokenPipe.into())), &mut said), 0);
    assert!(said.is_empty());
    assert_eq!(conclude(Err(CliError::writing(io::ErrorKind::StorageFull.into())), &mut said), 1);
    assert_eq!(conclude(Err(CliError::Usage("no".to_owned())), &mut said), 2);
    assert!(String::from_utf8(said).unwrap().ends_with("error: no\n"));
}

#[actix_rt::test]
async fn a_node_that_does_not_run_is_said_to_be_startable() {
    let url = unused_url();
    let error = NodeClient::new(&url).unwrap().get("/ping").await.unwrap_err().to_string();
    assert!(error.contains(&format!("cannot reach {url}: connection refused")), "{error}");
    assert!(error.contains("`ringwork start`"), "{error}");
}

#[actix_rt::test]
async fn a_host_that_nobody_knows_is_not_said_to_be_down() {
    let client = NodeClient::new("http://no-such-host.invalid:8098").unwrap();
    let error = client.get("/ping").await.unwrap_err().to_string();
    assert!(
        error.contains("cannot reach http://no-such-host.invalid:8098") && error.contains("--node"),
        "{error}"
    );
}

#[actix_rt::test]
async fn a_refusal_becomes_one_line_with_its_code() {
    let node = FakeNode::start().await;
    let client = node.client();
    node.refuse(503, "too_few_nodes", "pw=3 cannot be met:\n2 primaries\u{1b}[2J are up");
    let error = client.post("/x", None).await.unwrap_err();
    let said = error.to_string();
    assert!(
        matches!(&error, CliError::Refused { status: 503, code: Some(code), .. } if code == "too_few_nodes")
    );
    assert!(said.contains(
        r"(503 too_few_nodes): pw=3 cannot be met:\n2 primaries\u{1b}[2J are up; nothing was written"
    ));
    assert!(!said.contains('\n') && !said.contains('\u{1b}'), "{said}");
    node.refuse(504, "timeout", "two of three answered");
    let said = client.post("/x", None).await.unwrap_err().to_string();
    assert!(said.contains("may still take effect"), "{said}");
    node.refuse(503, "overload", "busy");
    let said = client.get("/x").await.unwrap_err().to_string();
    assert!(!said.contains("written") && said.contains("try again"), "{said}");
}

#[actix_rt::test]
async fn an_answer_of_something_else_is_doubted() {
    let node = FakeNode::start().await;
    let error = node.client().get("/nothing/here").await.unwrap_err().to_string();
    assert!(error.contains("404") && error.contains("is this a ringwork node?"), "{error}");
    let error = node.client().get("/ping").await.unwrap_err().to_string();
    assert!(error.contains("no JSON"), "{error}");
}

#[actix_rt::test]
async fn hostile_answers_end_in_an_error_and_not_in_memory() {
    let head = "HTTP/1.1 200 OK\r\n";
    let endless = format!("{head}x: {}\r\n\r\n", "x".repeat(1 << 20));
    for answer in [
        b"".to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        vec![0xff; 100_000],
        endless.into_bytes(),
        format!("{head}content-length: 10\r\n\r\nshort").into_bytes(),
        format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n").into_bytes(),
        format!("{head}content-length: 99999999999999999999\r\n\r\n").into_bytes(),
    ] {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(60)]).into_owned();
        let client = canned(Some(answer)).await.with_answer_timeout(Duration::from_secs(5));
        let error = client.get("/ping").await.unwrap_err();
        assert_eq!(error.exit_code(), 1, "{shown}");
        assert!(error.to_string().chars().count() < 700, "{error}");
    }
}

#[actix_rt::test]
async fn an_answer_larger_than_the_limit_is_given_up() {
    let body = vec![b' '; ANSWER_BYTES_MAX + 1];
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    answer.extend_from_slice(&body);
    let error = canned(Some(answer)).await.get("/ping").await.unwrap_err().to_string();
    assert!(error.contains("more than 64 MiB"), "{error}");
}

#[actix_rt::test]
async fn a_node_that_says_nothing_is_waited_for_only_so_long() {
    let client = canned(None).await.with_answer_timeout(Duration::from_millis(100));
    let error = client.get("/ping").await.unwrap_err().to_string();
    assert!(error.contains("within 0.1 s"), "{error}");
    let error = client.post("/x", None).await.unwrap_err().to_string();
    assert!(error.contains("may still take effect"), "{error}");
    let Err(error) = client.open_stream("/x", &[]).await else { panic!("a stream of a silent node") };
    assert!(error.to_string().contains("did not begin"), "{error}");
}

#[actix_rt::test]
async fn a_node_is_reached_by_its_ipv6_address() {
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else { return };
    let url = format!("http://{}", listener.local_addr().unwrap());
    actix_rt::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntrue").await;
    });
    assert_eq!(NodeClient::new(&url).unwrap().get("/x").await.unwrap(), Value::Bool(true));
}

proptest! {
    #[test]
    fn encoded_text_decodes_to_itself(text in "\\PC*") {
        let encoded = percent_encode(&text);
        let mut bytes = Vec::new();
        let mut rest = encoded.as_bytes();
        while let Some((first, tail)) = rest.split_first() {
            if *first == b'%' {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).unwrap(), 16).unwrap());
                rest = &tail[2..];
            } else {
                prop_assert!(first.is_ascii_alphanumeric() || b"-._~".contains(first));
                bytes.push(*first);
                rest = tail;
            }
        }
        prop_assert_eq!(String::from_utf8(bytes).unwrap(), text);
    }

    #[test]
    fn nothing_printable_commands_a_terminal(text in any::<String>()) {
        prop_assert!(!printable(&text).contains(char::is_control));
        let line = json_line(&Value::from(text.as_str()));
        prop_assert!(!line.contains(char::is_control));
        prop_assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), Value::from(text));
    }

    #[test]
    fn no_text_makes_the_reading_of_urls_panic(text in any::<String>()) {
        let _ = NodeUrl::parse(&text);
        let _ = NodeUrl::parse(&format!("http://{text}"));
    }
}
