//! The chat verbs against a fake node: what is asked, what is shown, what is said beside it. Nothing here
//! knows how a node stores messages.

use super::*;
use crate::cli::client::fake_node::FakeNode;
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    chat: ChatArguments,
}

/// Runs `ringwork chat …` against a fake node: outcome, output, what was said beside it.
async fn chat(node: &FakeNode, words: &[&str]) -> (Result<(), CliError>, String, String) {
    let line = [&["chat"], words, &["--node", node.url.as_str()]].concat();
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let outcome = run(Line::try_parse_from(line).unwrap().chat, &mut output, &mut errors).await;
    (outcome, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
}

async fn node_with_messages(count: usize) -> FakeNode {
    let node = FakeNode::start().await;
    for number in 1..=count {
        let (outcome, ..) = chat(&node, &["send", "ann", &format!("text {number}"), "--from", "bob"]).await;
        outcome.unwrap();
    }
    node
}

#[actix_rt::test]
async fn sending_says_the_id_and_who_confirmed() {
    let node = FakeNode::start().await;
    let words = ["send", "ann/ä", "hi", "--from", "bob", "--key", "k1", "--w", "2", "--timeout", "1500ms"];
    let (outcome, output, errors) = chat(&node, &words).await;
    outcome.unwrap();
    assert_eq!(
        (output.as_str(), errors.as_str()),
        ("sent m0001 (2 replicas confirmed, on node1, node2)\n", "")
    );
    assert_eq!(
        node.state().requests[0],
        r#"POST /chat/users/ann%2F%C3%A4/messages?w=2&timeout=1500 {"from":"bob","text":"hi"}"#
    );
    assert_eq!(node.state().headers[0]["idempotency-key"], "k1");
}

#[actix_rt::test]
async fn sending_for_scripts_prints_what_the_node_answered() {
    let node = FakeNode::start().await;
    let (outcome, output, _) = chat(&node, &["send", "ann", "hi", "--json"]).await;
    outcome.unwrap();
    assert_eq!(output, "{\"acks\":2,\"id\":\"m0001\",\"nodes\":[\"node1\",\"node2\"],\"user\":\"ann\"}\n");
    assert_eq!(node.state().requests[0], r#"POST /chat/users/ann/messages {"text":"hi"}"#);
}

#[test]
fn a_hostile_answer_to_a_send_is_shown_harmlessly() {
    let answer =
        json!({"id": "\u{1b}]0;x\u{7}", "acks": 1, "n_val": 3, "nodes": ["a\nb", {"name": "c"}, 5, "c"]});
    assert_eq!(sent_line(&answer), r"sent \u{1b}]0;x\u{7} (1 of 3 replicas confirmed, on a\nb, c, ?)");
    assert_eq!(sent_line(&Value::Null), "sent - (confirmed)");
}

#[actix_rt::test]
async fn what_cannot_be_asked_is_wrong_usage() {
    let node = FakeNode::start().await;
    for words in [["send", "", "hi"], ["send", "ann", "--key=ä b"], ["send", "ann", "--key="]] {
        let words: Vec<&str> =
            words.iter().copied().chain(["text"]).take(if words[1].is_empty() { 3 } else { 4 }).collect();
        let (outcome, ..) = chat(&node, &words).await;
        assert_eq!(outcome.unwrap_err().exit_code(), 2, "{words:?}");
    }
    assert!(node.state().requests.is_empty());
}

#[actix_rt::test]
async fn getting_shows_a_line_per_message_and_how_to_go_on() {
    let node = node_with_messages(3).await;
    let (outcome, output, errors) = chat(&node, &["get", "ann", "--limit", "2"]).await;
    outcome.unwrap();
    let line = |number| format!("2026-11-22T10:00:00Z  bob  text {number}\n");
    assert_eq!(output, line(1) + &line(2));
    assert_eq!(errors, "there is more: read on with --after=m0002, or all of it with --all\n");
    let (outcome, output, errors) = chat(&node, &["get", "ann", "--after", "m0002"]).await;
    outcome.unwrap();
    assert_eq!(
        (output, errors.as_str()),
        (line(3), "no more yet: read what comes later with --after=m0003\n")
    );
    let (outcome, output, errors) = chat(&node, &["get", "nobody"]).await;
    outcome.unwrap();
    assert_eq!((output.as_str(), errors.as_str()), ("", "no messages\n"));
}

#[actix_rt::test]
async fn getting_all_follows_the_cursors() {
    let node = node_with_messages(5).await;
    let (outcome, output, _) = chat(&node, &["get", "ann", "--all", "--limit", "2", "--r", "1"]).await;
    outcome.unwrap();
    assert_eq!(output.lines().count(), 5);
    let last = node.state().requests.last().cloned().unwrap();
    assert_eq!(last, "GET /chat/users/ann/messages?r=1&limit=2&after=m0004 ");
    let (outcome, output, errors) = chat(&node, &["get", "ann", "--all", "--limit", "2", "--json"]).await;
    outcome.unwrap();
    let pages: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (pages.len(), pages[2]["messages"][0]["id"].as_str(), errors.as_str()),
        (3, Some("m0005"), "")
    );
}

#[actix_rt::test]
async fn with_an_end_and_no_beginning_pages_go_backward() {
    let node = FakeNode::start().await;
    for body in [r#"{"messages":[],"next":"b2","resume":null}"#, r#"{"messages":[],"next":"b1"}"#] {
        node.state().refusals.push_back((200, "application/json", body.to_owned()));
    }
    let (outcome, ..) = chat(&node, &["get", "ann", "--all", "--before", "b3"]).await;
    outcome.unwrap();
    let asked: Vec<String> = node.state().requests.drain(..).collect();
    let path = "GET /chat/users/ann/messages?before=";
    assert_eq!(asked, [format!("{path}b3 "), format!("{path}b2 "), format!("{path}b1 ")]);
    node.state().refusals.push_back((200, "application/json", r#"{"messages":[],"next":"b2"}"#.to_owned()));
    let (_, _, errors) = chat(&node, &["get", "ann", "--before", "b3"]).await;
    assert!(errors.contains("--before=b2"), "{errors}");
    let _ = chat(&node, &["get", "ann", "--before", "b3", "--after", "a"]).await;
    assert!(node.state().requests.last().unwrap().contains("?before=b3&after=a"));
}

#[actix_rt::test]
async fn a_node_whose_cursor_stands_still_does_not_hold_us() {
    let node = FakeNode::start().await;
    for _ in 0..2 {
        node.state().refusals.push_back((
            200,
            "application/json",
            r#"{"messages":[],"next":"x"}"#.to_owned(),
        ));
    }
    let (outcome, ..) = chat(&node, &["get", "ann", "--all"]).await;
    assert!(outcome.unwrap_err().to_string().contains("does not get past x"));
}

#[actix_rt::test]
async fn what_is_no_page_is_doubted() {
    let node = FakeNode::start().await;
    for body in ["{}", "[]", "null", r#"{"messages":3}"#] {
        node.state().refusals.push_back((200, "application/json", body.to_owned()));
        let (outcome, ..) = chat(&node, &["get", "ann"]).await;
        assert!(outcome.unwrap_err().to_string().contains("is this a ringwork node?"), "{body}");
    }
}

#[test]
fn a_hostile_message_stays_on_its_line() {
    let message = json!({"sent_at": 1_795_341_600_000_u64, "from": null, "text": "a\u{1b}[1A\r\nb\u{9b}2K"});
    assert_eq!(message_line(&message), r"2026-11-22T10:00:00.000Z  -  a\u{1b}[1A\r\nb\u{9b}2K");
    let message = json!({"sent_at": u64::MAX, "from": {"x": "\u{7f}"}, "text": 5});
    assert_eq!(message_line(&message), format!(r#"{}  {{"x":"\u007f"}}  5"#, u64::MAX));
}

#[test]
fn cursors_in_hints_can_be_pasted() {
    assert_eq!(shell_word("0198-Ab_=="), "0198-Ab_==");
    assert_eq!(shell_word("$(reboot)'x"), r"'$(reboot)'\''x'");
    assert_eq!(shell_word(""), "''");
}

#[actix_rt::test]
async fn a_refused_command_says_why() {
    let node = FakeNode::start().await;
    node.refuse(413, "text_too_large", "a text has at most 65536 bytes");
    let (outcome, output, _) = chat(&node, &["send", "ann", "hi"]).await;
    let error = outcome.unwrap_err();
    assert_eq!((error.exit_code(), output.as_str()), (1, ""));
    assert!(error.to_string().contains("(413 text_too_large): a text has at most 65536 bytes"), "{error}");
}

fn event(number: usize) -> String {
    let (id, text) = (format!("m{number}"), format!("text {number}"));
    let message = json!({"id": id, "text": text, "from": "bob", "sent_at": "now"});
    format!("id: m{number}\ndata: {message}\n\n")
}

#[actix_rt::test]
async fn tailing_shows_every_message_once_over_reconnects() {
    let node = FakeNode::start().await;
    let keep_alive = ": still here\n\n";
    let streams = [event(1) + keep_alive + &event(2), event(2) + &event(3) + "id: m4\ndata: {\"te", event(4)];
    node.state().streams.extend(streams);
    node.state().refusals.push_back((503, "text/plain", String::new()));
    let words = ["chat", "tail", "ann", "--after", "m0", "--node", node.url.as_str()];
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let tail = run(Line::try_parse_from(words).unwrap().chat, &mut output, &mut errors);
    // The connection after the scripted ones stays silent, so the tail itself would go on for ever.
    let silent = async {
        while node.state().requests.len() < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        outcome = tail => panic!("the tail ended: {outcome:?}"),
        () = silent => {}
    }
    let shown = String::from_utf8(output).unwrap();
    assert_eq!(shown, (1..=4).map(|number| format!("now  bob  text {number}\n")).collect::<String>());
    let state = node.state();
    let asked: Vec<&str> = state.requests.iter().map(|request| request.split(' ').nth(1).unwrap()).collect();
    let path = |id: &str| format!("/chat/users/ann/stream?after={id}");
    assert_eq!(asked, [path("m0"), path("m0"), path("m2"), path("m3"), path("m4")]);
    assert_eq!(state.headers[4]["last-event-id"], "m4");
    assert_eq!(state.headers[4]["accept"], "text/event-stream");
}

#[actix_rt::test]
async fn a_page_that_may_lack_something_says_so() {
    let node = FakeNode::start().await;
    for (degraded, said) in [(true, true), (false, false)] {
        let page = json!({"user": "ann", "messages": [], "degraded": degraded}).to_string();
        node.state().refusals.push_back((200, "application/json", page));
        let (outcome, _, errors) = chat(&node, &["get", "ann"]).await;
        outcome.unwrap();
        assert_eq!(errors.contains("messages that were sent may be missing"), said, "{errors}");
        assert!(errors.contains("no messages"), "{errors}");
    }
}

#[actix_rt::test]
async fn a_tail_that_breaks_before_the_first_message_goes_on_from_where_it_began() {
    let node = FakeNode::start().await;
    node.state().streams.extend(["id: m0\n\n".to_owned(), event(1)]);
    let words = ["chat", "tail", "ann", "--node", node.url.as_str()];
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let tail = run(Line::try_parse_from(words).unwrap().chat, &mut output, &mut errors);
    let silent = async {
        while node.state().requests.len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        outcome = tail => panic!("the tail ended: {outcome:?}"),
        () = silent => {}
    }
    assert_eq!(String::from_utf8(output).unwrap(), "now  bob  text 1\n");
    let state = node.state();
    let asked: Vec<&str> = state.requests.iter().map(|request| request.split(' ').nth(1).unwrap()).collect();
    let path = "/chat/users/ann/stream";
    assert_eq!(asked, [path.to_owned(), format!("{path}?after=m0"), format!("{path}?after=m1")]);
}

#[actix_rt::test]
async fn tailing_gives_up_after_the_attempts_it_was_given() {
    let node = FakeNode::start().await;
    node.state().streams.extend([event(1)
        + "event: note\ndata: leaving\u{1b}\n\nid: m1b\ndata: no json\n\n"
        + &event(1)
        + &event(2)]);
    for _ in 0..3 {
        node.state().refusals.push_back((503, "text/plain", String::new()));
    }
    let stream = node.state().refusals.split_off(0);
    let (outcome, output, errors) = {
        let tail = async { chat(&node, &["tail", "ann", "--json", "--retries", "2"]).await };
        let refuse_later = async {
            while node.state().requests.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            node.state().refusals.extend(stream);
        };
        let (ran, ()) = futures_util::future::join(tail, refuse_later).await;
        ran
    };
    let ids: Vec<Value> =
        output.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
    assert_eq!(ids, ["m1", "m2"]);
    assert!(errors.contains(r"the node says (note): leaving\u{1b}"), "{errors}");
    assert!(errors.contains("skipped what is no message: no json"), "{errors}");
    assert!(errors.contains("trying again in 200 ms, after message m2"), "{errors}");
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("gave up after 3 attempts in a row") && error.contains("503"), "{error}");
}

#[actix_rt::test]
async fn tailing_ends_at_once_when_the_request_itself_is_wrong() {
    let node = FakeNode::start().await;
    node.refuse(400, "bad_cursor", "this is no id");
    let (outcome, _, errors) = chat(&node, &["tail", "ann", "--after", "x\u{e4}"]).await;
    assert!(outcome.unwrap_err().to_string().contains("bad_cursor"));
    assert_eq!(errors, "");
    assert!(!node.state().headers[0].contains_key("last-event-id"));
    node.state().refusals.push_back((204, "text/plain", String::new()));
    chat(&node, &["tail", "ann"]).await.0.unwrap();
}

#[actix_rt::test]
async fn a_reader_that_goes_away_ends_the_command_quietly() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let node = node_with_messages(1).await;
    node.state().streams.push_back(event(1));
    for verb in ["get", "tail"] {
        let line = Line::try_parse_from(["chat", verb, "ann", "--node", node.url.as_str()]).unwrap();
        let mut errors = Vec::new();
        let outcome = run(line.chat, &mut Closed, &mut errors).await;
        assert!(matches!(outcome, Err(CliError::OutputClosed)), "{verb}");
        assert!(errors.is_empty());
    }
}

fn give_list(node: &FakeNode, body: &str) {
    node.state().refusals.push_back((200, "application/x-ndjson", body.to_owned()));
}

#[actix_rt::test]
async fn users_are_listed_a_line_each_and_only_a_whole_list_is_a_success() {
    let node = FakeNode::start().await;
    let users = "{\"user\":\"ann\"}\n{\"user\":\"b\u{1b}ob\"}\n".replace('\u{1b}', "\\u001b");
    let whole = format!("{users}{{\"complete\":true,\"users\":2}}\n");
    give_list(&node, &whole);
    let (outcome, output, errors) = chat(&node, &["users", "--prefix", "a b"]).await;
    outcome.unwrap();
    assert_eq!((output.as_str(), errors.as_str()), ("ann\nb\\u{1b}ob\n", ""));
    assert_eq!(node.state().requests[0], "GET /chat/users?prefix=a%20b ");
    assert_eq!(node.state().headers[0]["accept"], "application/x-ndjson");

    give_list(&node, &whole);
    let (outcome, output, _) = chat(&node, &["users", "--json"]).await;
    outcome.unwrap();
    assert_eq!(output, whole);

    give_list(&node, &whole);
    let (outcome, output, _) = chat(&node, &["users", "--limit", "1"]).await;
    outcome.unwrap();
    assert_eq!(output, "ann\n");

    for (end, said) in [
        ("", "not whole"),
        ("{\"complete\":false,\"detail\":\"no replica\"}\n", "not whole: no replica"),
        ("{\"complete\":true,\"users\":2}", "ended the list before its end"),
        ("[]\n", "no list of users"),
        ("nonsense\n", "no list of users"),
    ] {
        give_list(&node, &format!("{users}{end}"));
        let (outcome, output, _) = chat(&node, &["users"]).await;
        let error = outcome.expect_err(end);
        assert!(error.exit_code() == 1 && error.to_string().contains(said), "{end}: {error}");
        assert_eq!(output.lines().count(), 2);
    }
    node.refuse(503, "uncovered", "no complete replica of partition 7 can be asked");
    let (outcome, ..) = chat(&node, &["users"]).await;
    assert!(outcome.unwrap_err().to_string().contains("partition 7"));
}
