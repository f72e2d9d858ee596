//! Noise: random bytes, requests with random damage, and whatever text there is. Nothing of it may be answered
//! with a 5xx, stop the node, or come back as something else.

use crate::client::{Connection, JSON, chunked, request, send};
use crate::rows::keyed;
use crate::server::{TestServer, run, settings, within};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

fn valid_requests() -> Vec<Vec<u8>> {
    let get = |target: &str| request("GET", target, &[], b"");
    let id = "06H08Q395000173W59E9QVHYCR000080";
    let in_chunks = request("POST", "/chat/users/a/messages", &[JSON, ("Transfer-Encoding", "chunked")], b"");
    vec![
        send("ann", "hello"),
        keyed("ann", "order 66", "hello"),
        [in_chunks, chunked(br#"{"text": "hello", "from": "b\u00f6b"}"#, 7)].concat(),
        request("POST", "/chat/users/%C3%A9/messages?w=2&pw=1&sloppy=false", &[JSON], br#"{"text": "x"}"#),
        get("/chat/users/ann/messages?limit=10&r=1"),
        get(&format!("/chat/users/ann/messages?after={id}&before={id}")),
        get("/chat/users/ann/messages?before=end&limit=2"),
        request("GET", "/chat/users/ann/stream", &[("Last-Event-ID", id)], b""),
        request("DELETE", &format!("/chat/users/ann/messages?through={id}"), &[], b""),
        get("/ping"),
        get("/metrics"),
        get("/admin/status"),
    ]
}

/// A blow that a request takes.
#[derive(Clone, Debug)]
enum Damage {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    CutOff(Index),
}

impl Damage {
    fn strike(&self, bytes: &mut Vec<u8>) {
        let place = |index: &Index| index.index(bytes.len() + 1);
        match self {
            Self::Replace(at, byte) => {
                let at = place(at);
                if let Some(place) = bytes.get_mut(at) {
                    *place = *byte;
                }
            }
            Self::Insert(at, more) => {
                let at = place(at);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = place(at);
                bytes.drain(at..bytes.len().min(at + count));
            }
            Self::Repeat(at, count) => {
                let at = place(at);
                let again = bytes[at..bytes.len().min(at + count)].to_vec();
                bytes.splice(at..at, again);
            }
            Self::CutOff(at) => bytes.truncate(place(at)),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    let telling = || select(b"\r\n\0 :%&=?/{}[]\"\\,0159aZ-+\x80\xff".to_vec());
    prop_oneof![
        (any::<Index>(), prop_oneof![telling(), any::<u8>()])
            .prop_map(|(at, byte)| Damage::Replace(at, byte)),
        (any::<Index>(), vec(prop_oneof![telling(), any::<u8>()], 1..9))
            .prop_map(|(at, more)| Damage::Insert(at, more)),
        (any::<Index>(), 1..20_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        (any::<Index>(), 1..60_usize).prop_map(|(at, count)| Damage::Repeat(at, count)),
        any::<Index>().prop_map(Damage::CutOff),
    ]
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let damaged = (select(valid_requests()), vec(damage(), 0..4)).prop_map(|(mut bytes, blows)| {
        blows.iter().for_each(|blow| blow.strike(&mut bytes));
        bytes
    });
    let random = vec(any::<u8>(), 0..600);
    let lines = vec(select(vec!["GET", "POST", " ", "/", "HTTP/1.1", "\r\n", ":", "Host", "\0", "é"]), 0..40)
        .prop_map(|words| words.concat().into_bytes());
    let piece = prop_oneof![8 => damaged, 1 => random, 1 => lines];
    vec(piece, 1..4).prop_map(|pieces| pieces.concat())
}

/// The statuses of all answers on one connection.
async fn statuses(mut client: Connection, bytes: &[u8]) -> Vec<u16> {
    client.write(bytes).await;
    client.end().await;
    let mut statuses = Vec::new();
    while let Ok(head) = client.head().await {
        statuses.push(head.status);
        let endless = head.header("content-type") == Some("text/event-stream");
        if endless || client.body(head).await.is_err() {
            break;
        }
    }
    statuses
}

#[test]
fn noise_is_never_answered_with_a_5xx() {
    let server = TestServer::start(settings());
    let mut seen = std::collections::BTreeMap::<u16, usize>::new();
    let result = runner(4000).run(&noise(), |bytes| {
        let statuses = run(async {
            within("the end of the connection", statuses(Connection::open(server.address).await, &bytes))
                .await
        });
        for status in statuses {
            prop_assert!(status < 500, "{status} to {}", bytes.escape_ascii());
        }
        Ok(())
    });
    assert!(result.is_ok(), "{}", result.unwrap_err());
    // The noise is of use only if some of it gets somewhere.
    let mut sample = TestRunner::deterministic();
    run(async {
        for _ in 0..100 {
            let bytes = noise().new_tree(&mut sample).unwrap().current();
            for status in statuses(Connection::open(server.address).await, &bytes).await {
                *seen.entry(status).or_default() += 1;
            }
        }
        assert!(seen.contains_key(&200) && seen.contains_key(&201) && seen.contains_key(&400), "{seen:?}");
        let mut client = Connection::open(server.address).await;
        assert_eq!(client.send("afterwards", "still here").await.status, 201);
        assert_eq!(client.get("/chat/users/afterwards/messages").await.texts(), ["still here"]);
        server.assert_unharmed().await;
    });
}

#[test]
fn every_text_is_refused_or_comes_back_as_it_was() {
    let server = TestServer::start(settings());
    let strategy = (any::<String>(), any::<String>(), proptest::option::of(any::<String>()));
    let result = runner(1000).run(&strategy, |(user, text, from)| {
        let printable = |name: &str| (1..=128).contains(&name.len()) && !name.chars().any(char::is_control);
        let lawful = printable(&user) && !text.is_empty() && from.as_deref().is_none_or(printable);
        let path: String = user.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let target = format!("/chat/users/{path}/messages");
        let body = json!({ "text": text, "from": from }).to_string();
        run(async {
            let mut client = Connection::open(server.address).await;
            let sent =
                client.exchange(&request("POST", &target, &[JSON], body.as_bytes()), false).await.unwrap();
            prop_assert_eq!(sent.status, if lawful { 201 } else { 400 });
            if lawful {
                let page = client.get(&format!("{target}?before=end&limit=1")).await.json();
                let newest = &page["messages"][0];
                prop_assert_eq!(newest["text"].as_str(), Some(text.as_str()));
                prop_assert_eq!(newest["from"].as_str(), from.as_deref());
                prop_assert_eq!(page["user"].as_str(), Some(user.as_str()));
            }
            Ok(())
        })
    });
    assert!(result.is_ok(), "{}", result.unwrap_err());
}
