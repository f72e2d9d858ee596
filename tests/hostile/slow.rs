//! Clients that take their time, or never come to an end: each is closed by a deadline, and until then nobody
//! waits for them but whose place they have.

use crate::client::{Connection, JSON, message, request};
use crate::server::{TestServer, eventually, run, settings, within};
use ringwork::settings::{Settings, Span};
use std::time::Duration;
use tokio::task::JoinSet;

/// A name, how many there are, what is sent at once, what follows byte by byte, and the status of the answer.
type Kind = (&'static str, usize, Vec<u8>, &'static [u8], u16);

const EVERY: Duration = Duration::from_millis(100);

fn impatient() -> Settings {
    let mut settings = settings();
    settings.http.head_timeout = Span::from_millis(500);
    settings.http.request_timeout = Span::from_millis(1000);
    settings
}

fn in_chunks(method: &str, target: &str) -> Vec<u8> {
    request(method, target, &[JSON, ("Transfer-Encoding", "chunked")], b"")
}

fn half_a_body() -> Vec<u8> {
    let length = message("hello").len().to_string();
    let head = request("POST", "/chat/users/slow/messages", &[JSON, ("Content-Length", &length)], b"");
    [head, b"{\"text\"".to_vec()].concat()
}

#[test]
fn slow_clients_are_closed_by_their_deadlines_and_the_others_are_served_meanwhile() {
    // An answer may get lost: who goes on sending to a closed connection is told that it is closed, no more.
    let kinds: [Kind; 6] = [
        ("silence", 50, Vec::new(), b"", 408),
        ("a head that never ends", 200, b"GET /ping HTTP/1.1\r\nX: ".into(), b"x", 408),
        ("half a body", 200, half_a_body(), b"", 408),
        ("a body that never ends", 50, in_chunks("POST", "/chat/users/slow/messages"), b"1\r\n \r\n", 408),
        ("a body that nobody reads", 50, in_chunks("GET", "/ping"), b"1\r\n \r\n", 200),
        ("a body for nobody", 50, in_chunks("POST", "/nowhere"), b"1\r\n \r\n", 404),
    ];
    run(async {
        let server = TestServer::start(impatient());
        let address = server.address;
        let mut slow = JoinSet::new();
        for (name, count, at_once, byte_by_byte, status) in &kinds {
            for _ in 0..*count {
                let (at_once, byte_by_byte) = (at_once.clone(), byte_by_byte.to_vec());
                let (name, status) = (*name, *status);
                slow.spawn(async move {
                    let mut client = Connection::open(address).await;
                    client.write(&at_once).await;
                    let answered = within(name, client.trickle(&byte_by_byte, EVERY)).await;
                    assert!(answered.is_none_or(|answered| answered == status), "{name}: {answered:?}");
                    (name, answered.is_some())
                });
            }
        }
        let mut honest = Connection::open(address).await;
        let (mut served, mut closed, mut answered) = (0, 0, std::collections::BTreeSet::new());
        while !slow.is_empty() {
            assert_eq!(honest.send("honest", "hello").await.status, 201);
            served += 1;
            while let Some(ended) = slow.try_join_next() {
                let (name, with_answer) = ended.expect("the client saw what it should");
                closed += 1;
                answered.extend(with_answer.then_some(name));
            }
        }
        assert_eq!(closed, 600);
        assert_eq!(answered.len(), kinds.len(), "somebody of each kind was told: {answered:?}");
        assert!(served > 20, "{served} sends went through meanwhile");
        server.assert_unharmed().await;
        assert_eq!(server.status().await["http_requests_inside"], 1, "no place is lost");
    });
}

#[test]
fn slow_bodies_have_their_places_only_until_their_deadline() {
    run(async {
        let mut settings = impatient();
        settings.http.requests_in_flight_max = 20;
        let server = TestServer::start(settings);
        let mut slow = Vec::new();
        for _ in 0..20 {
            let mut client = Connection::open(server.address).await;
            client.write(&half_a_body()).await;
            slow.push(client);
        }
        // Who watches over the node gets in when the house is full.
        eventually("all are inside", async || server.status().await["http_requests_inside"] == 20).await;
        let refused = Connection::open(server.address).await.send("honest", "hello").await;
        assert_eq!((refused.status, refused.text("code").as_str()), (503, "overloaded"));
        assert_eq!(refused.header("retry-after"), Some("1"));
        let mut honest = 0;
        eventually("the honest client is served again", async || {
            honest = Connection::open(server.address).await.send("honest", "hello").await.status;
            honest == 201
        })
        .await;
        for mut client in slow {
            assert_eq!(within("an answer", client.answer()).await.unwrap().text("code"), "body-timeout");
        }
        assert_eq!(server.status().await["http_requests_inside"], 1);
    });
}

#[test]
fn slow_heads_have_their_connections_only_until_their_deadline() {
    run(async {
        let mut settings = impatient();
        settings.http.connections_max = 20;
        settings.http.workers = 1;
        let server = TestServer::start(settings);
        let mut slow = Vec::new();
        for _ in 0..40 {
            let mut client = Connection::open(server.address).await;
            client.write(b"GET /ping HTTP/1.1\r\n").await;
            slow.push(client);
        }
        // It waits to be accepted, behind them.
        let mut honest = Connection::open(server.address).await;
        assert_eq!(honest.send("honest", "hello").await.status, 201);
    });
}
