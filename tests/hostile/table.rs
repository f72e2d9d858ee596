//! The table of wrong requests: each row is the bytes of one request and what must be answered. The rows are in
//! `rows`; here is what holds for all of them.

use crate::client::{Answer, Connection, JSON, message, request, send};
use crate::rows::{self, Expected, Given, Row};
use crate::server::{TestServer, run, settings};
use ringwork::chat::MessageId;
use std::net::SocketAddr;

/// Refusals quote what was wrong, but never at length: a client must not choose how much is answered or logged.
const PROBLEM_BYTES_MAX: usize = 2048;

/// What the rows need to be there beforehand.
async fn given(server: &TestServer) -> Given {
    let mut client = Connection::open(server.address).await;
    for text in ["one", "two", "three"] {
        assert_eq!(client.send("paged", text).await.status, 201);
    }
    let forward = client.get("/chat/users/paged/messages?limit=1").await.text("next");
    let backward = client.get("/chat/users/paged/messages?before=end&limit=1").await.text("next");
    assert!(!forward.is_empty() && !backward.is_empty(), "there are further pages");
    let keyed = client.exchange(&rows::keyed("taken", "first", "one"), false).await.unwrap();
    let id = keyed.text("id");
    assert_eq!(keyed.status, 201);
    let now_ms = id.parse::<MessageId>().unwrap().time_ms();
    let uuid = rows::uuid_v7(now_ms, 1);
    assert_eq!(client.exchange(&rows::keyed("taken", &uuid, "one"), false).await.unwrap().status, 201);
    let gone = client.send("gone", "one").await.text("id");
    let delete = request("DELETE", &format!("/chat/users/gone/messages?through={gone}"), &[], b"");
    assert_eq!(client.exchange(&delete, false).await.unwrap().status, 204);
    Given { forward, backward, id, now_ms, uuid }
}

#[test]
fn every_wrong_request_is_told_what_is_wrong_and_harms_nobody() {
    run(async {
        let server = TestServer::start(settings());
        let given = given(&server).await;
        let rows = rows::all(&given);
        let mut red = Vec::new();
        for row in &rows {
            if let Err(why) = check(server.address, row).await {
                red.push(format!("{}: {why}", row.name));
            }
        }
        assert!(red.is_empty(), "{} of {} rows:\n{}", red.len(), rows.len(), red.join("\n"));
        assert!(rows.len() >= 200, "{} rows", rows.len());

        let mut client = Connection::open(server.address).await;
        let smuggled = client.get("/chat/users/smuggled/messages").await;
        assert_eq!(smuggled.texts(), [""; 0], "a request inside another one's body is no request");
        assert_eq!(client.send("afterwards", "still here").await.status, 201);
        assert_eq!(client.get("/chat/users/afterwards/messages").await.texts(), ["still here"]);
        server.assert_unharmed().await;
        assert_eq!(server.status().await["http_requests_inside"], 1, "nobody is left inside but who asks");
    });
}

async fn check(address: SocketAddr, row: &Row) -> Result<(), String> {
    let mut client = Connection::open(address).await;
    let answer = client.exchange(&row.request, row.then_end).await;
    let answer = match (answer, &row.expected) {
        (Err(_), Expected::NotHttp) => return Ok(()),
        (Err(error), _) => return Err(format!("no answer: {error}")),
        (Ok(answer), _) => answer,
    };
    let told = || {
        let body = String::from_utf8_lossy(&answer.body);
        format!("answered {} {}", answer.status, body.chars().take(300).collect::<String>())
    };
    match &row.expected {
        Expected::NotHttp if (400..500).contains(&answer.status) => Ok(()),
        Expected::Status(status) if answer.status == *status => Ok(()),
        Expected::Sent(user) if answer.status == 201 => read_back(&mut client, user, &answer).await,
        Expected::Problem(status, code, word) if answer.status == *status => {
            check_problem(&answer, code, word).map_err(|why| format!("{why}, {}", told()))
        }
        Expected::Refused(status, word) if answer.status == *status => {
            check_refusal(&answer, word).map_err(|why| format!("{why}, {}", told()))
        }
        Expected::Head(status) if answer.status == *status => {
            let next = client.get("/ping").await;
            if next.body == b"OK" { Ok(()) } else { Err("an answer to HEAD has a body".into()) }
        }
        expected => Err(format!("expected {expected:?}, {}", told())),
    }
}

/// Follows the answer's `Location`, in which the user's name is encoded by the node.
async fn read_back(client: &mut Connection, user: &str, sent: &Answer) -> Result<(), String> {
    let location = sent.header("location").ok_or("no Location")?;
    if sent.text("user") != user {
        return Err(format!("user {:?} instead of {user:?}", sent.text("user")));
    }
    let page = match client.exchange(&request("GET", location, &[], b""), false).await {
        Ok(page) => page,
        // The connection was closed because the request was not read to its end.
        Err(error) => return Err(format!("{location} is not answered: {error}")),
    };
    if page.json()["messages"][0]["id"].as_str() != Some(&sent.text("id")) || page.text("user") != user {
        return Err(format!("{location} shows {}", page.json()));
    }
    Ok(())
}

fn check_problem(answer: &Answer, code: &str, word: &str) -> Result<(), String> {
    let problem = answer.json();
    let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    must(answer.header("content-type") == Some("application/problem+json"), "not application/problem+json")?;
    must(problem["status"] == answer.status, "another status in the body")?;
    must(problem["code"] == code, &format!("not the code {code}"))?;
    must(problem["type"] == format!("urn:ringwork:problem:{code}"), "another type")?;
    must(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "no title")?;
    must(answer.text("detail").contains(word), &format!("the detail does not say {word:?}"))?;
    must(answer.body.len() <= PROBLEM_BYTES_MAX, "an endless answer")?;
    must(answer.header("x-request-id").is_some(), "no X-Request-Id")?;
    must(answer.status != 503 || answer.header("retry-after").is_some(), "no Retry-After")?;
    must(answer.status != 405 || answer.header("allow").is_some(), "no Allow")
}

/// On Riak's routes the reason is the body.
fn check_refusal(answer: &Answer, word: &str) -> Result<(), String> {
    let said = String::from_utf8_lossy(&answer.body);
    let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    let kind = answer.header("content-type").unwrap_or_default();
    must(kind == "text/plain" || kind == "application/json", &format!("of the kind {kind:?}"))?;
    must(said.contains(word), &format!("the text does not say {word:?}"))?;
    must(answer.body.len() <= PROBLEM_BYTES_MAX, "an endless answer")?;
    must(!said.trim_end().chars().any(char::is_control), "a control character came back")?;
    must(answer.header("x-request-id").is_some(), "no X-Request-Id")?;
    must(answer.status != 405 || answer.header("allow").is_some(), "no Allow")
}

#[test]
fn texts_come_back_as_they_were_sent() {
    let texts = [
        "\0",
        "two\nlines\r\n and a \ttab",
        "data: x\n\nid: 1\n\n",
        "\u{feff}\u{202e}\u{2028}\u{85}\u{7f}",
        "e\u{301} is not \u{e9}",
        "\u{10ffff}\u{fffe}👩‍👩‍👧‍👦",
        "</script><script>alert(1)</script>",
        "'; DROP TABLE messages; --",
        "%00%2f..%2f${jndi:ldap://x}{{7*7}}",
        "\\u0000 \\ \" / \u{8}\u{c}",
    ];
    run(async {
        let server = TestServer::start(settings());
        let mut client = Connection::open(server.address).await;
        for text in texts {
            assert_eq!(client.send("texts", text).await.status, 201, "{text:?}");
        }
        assert_eq!(client.get("/chat/users/texts/messages").await.texts(), texts);
        server.assert_unharmed().await;
    });
}

#[test]
fn names_that_only_look_alike_are_different_users() {
    // Composed and decomposed, cases, and what a file system or a proxy would fold.
    let users =
        ["%C3%A9", "e%CC%81", "A", "a", "a%20", "a%2Fb", "a%252Fb", "..", "..%2F..", ".", "%EF%BD%81"];
    run(async {
        let server = TestServer::start(settings());
        let mut client = Connection::open(server.address).await;
        for user in users {
            assert_eq!(client.send(user, user).await.status, 201, "{user}");
        }
        for user in users {
            assert_eq!(client.get(&format!("/chat/users/{user}/messages")).await.texts(), [user]);
        }
    });
}

#[test]
fn a_retry_under_its_key_is_the_same_message() {
    run(async {
        let server = TestServer::start(settings());
        let mut client = Connection::open(server.address).await;
        let now_ms = client.send("clock", "tick").await.text("id").parse::<MessageId>().unwrap().time_ms();
        for key in ["order 66".to_owned(), rows::uuid_v7(now_ms, 7), rows::ulid(now_ms, 7)] {
            let mut ids = Vec::new();
            for _ in 0..3 {
                let answer = client.exchange(&rows::keyed("retries", &key, &key), false).await.unwrap();
                assert_eq!(answer.status, 201, "{key}");
                ids.push(answer.text("id"));
            }
            assert!(ids.iter().all(|id| *id == ids[0]), "{key}: {ids:?}");
        }
        assert_eq!(client.get("/chat/users/retries/messages").await.texts().len(), 3);
    });
}

#[test]
fn a_request_that_waits_for_its_body_does_not_hold_others_up() {
    run(async {
        let server = TestServer::start(settings());
        let mut waiting = Connection::open(server.address).await;
        let body = message("late");
        let whole = send("late", "late");
        waiting.write(&whole[..whole.len() - 3]).await;
        let mut client = Connection::open(server.address).await;
        assert_eq!(client.send("prompt", "hello").await.status, 201);
        waiting.write(&body[body.len() - 3..]).await;
        assert_eq!(waiting.answer().await.unwrap().status, 201);
        let pipelined =
            [send("late", "1"), request("GET", "/ping", &[JSON], b""), send("late", "2")].concat();
        waiting.write(&pipelined).await;
        for status in [201, 200, 201] {
            assert_eq!(waiting.answer().await.unwrap().status, status, "answers come in order");
        }
        assert_eq!(client.get("/chat/users/late/messages").await.texts(), ["late", "1", "2"]);
    });
}

/// The parser below us panics at a header's name beyond 64 KiB. That must cost nobody but its sender.
#[test]
fn a_head_that_breaks_the_parser_costs_its_sender_the_connection_and_nobody_else() {
    run(async {
        let mut settings = settings();
        settings.http.connections_max = 4;
        let server = TestServer::start(settings);
        let mut neighbour = Connection::open(server.address).await;
        assert_eq!(neighbour.send("neighbour", "before").await.status, 201);
        let breaking = request("GET", "/ping", &[(&"x".repeat(70_000), "y")], b"");
        for _ in 0..20 {
            let mut client = Connection::open(server.address).await;
            assert!(
                client.exchange(&breaking, false).await.is_err(),
                "the connection ends without an answer"
            );
        }
        assert_eq!(neighbour.send("neighbour", "after").await.status, 201);
        assert_eq!(neighbour.get("/chat/users/neighbour/messages").await.texts(), ["before", "after"]);
        assert_eq!(server.status().await["http_requests_inside"], 1);
    });
}
