//! A node that stops while clients are at it: what is inside is finished, what comes is refused, and what was
//! acknowledged is there when the node is back.

use crate::client::{Connection, request};
use crate::server::{SlowStore, TestServer, eventually, run, settings};
use ringwork::settings::Durability;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::task::JoinSet;

/// How often each text is in the logs of these users, at a node that is started over the store again.
async fn kept(store: &SlowStore, users: usize) -> BTreeMap<String, usize> {
    store.take_from_now_on(0);
    let server = TestServer::start_over(settings(), Arc::new(store.clone()));
    let mut client = Connection::open(server.address).await;
    let mut kept = BTreeMap::new();
    for user in 0..users {
        for text in client.get(&format!("/chat/users/user{user}/messages?limit=1000")).await.texts() {
            *kept.entry(text).or_default() += 1;
        }
    }
    kept
}

#[test]
fn a_stopping_node_finishes_what_it_has_and_refuses_what_comes() {
    const INSIDE: usize = 20;
    run(async {
        let store = SlowStore::new(0);
        let mut settings = settings();
        settings.store.durability = Durability::Sync;
        let mut server = TestServer::start_over(settings, Arc::new(store.clone()));
        let address = server.address;
        let mut waiting = Connection::open(address).await;
        for user in 0..INSIDE {
            let user = format!("user{user}");
            assert_eq!(waiting.send(&user, &format!("before {user}")).await.status, 201);
        }
        store.hold();
        let mut sends = JoinSet::new();
        for user in 0..INSIDE {
            let mut client = Connection::open(address).await;
            sends.spawn(async move {
                client.send(&format!("user{user}"), &format!("inside {user}")).await.status
            });
        }
        eventually("all are inside", async || {
            server.status().await["http_requests_inside"].as_u64() > Some(INSIDE as u64)
        })
        .await;
        server.begin_stop();
        let mut ready = waiting.get("/health/ready").await;
        eventually("the node says that it stops", async || {
            ready = waiting.get("/health/ready").await;
            ready.status == 503
        })
        .await;
        assert_eq!(ready.text("why"), "stopping");
        assert_eq!(waiting.get("/health/live").await.status, 200);
        let refused = waiting.send("user0", "late").await;
        assert_eq!((refused.status, refused.text("code").as_str()), (503, "stopping"));
        assert_eq!(refused.header("retry-after"), Some("1"));
        assert_eq!(waiting_again(address).await, 503, "reads and streams are refused, too");
        assert!(sends.try_join_next().is_none(), "what is not committed is not answered");
        store.let_go();
        assert_eq!(sends.join_all().await, [201; INSIDE], "what was inside is finished");
        eventually("the node has ended", async || server.has_ended()).await;
        assert!(Connection::try_open(address).await.is_err(), "nobody listens any more");
        drop(server);
        let kept = kept(&store, INSIDE).await;
        assert_eq!(kept.len(), 2 * INSIDE, "{kept:?}");
        assert!(kept.values().all(|count| *count == 1) && !kept.contains_key("late"));
    });
}

async fn waiting_again(address: std::net::SocketAddr) -> u16 {
    let mut client = Connection::open(address).await;
    let page = client.get("/chat/users/user0/messages").await.status;
    let mut client = Connection::open(address).await;
    let stream = client.exchange(&request("GET", "/chat/users/user0/stream", &[], b""), false).await.unwrap();
    assert_eq!(page, stream.status);
    page
}

#[test]
fn who_was_acknowledged_before_the_node_stopped_under_load_is_kept_once() {
    const CLIENTS: usize = 100;
    run(async {
        let store = SlowStore::new(2);
        let mut server = TestServer::start_over(settings(), Arc::new(store.clone()));
        let address = server.address;
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let mut client = Connection::open(address).await;
            clients.spawn(async move {
                let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
                loop {
                    let text = format!("{number}/{}", acknowledged.len());
                    let send = crate::client::send(&format!("user{}", number % 7), &text);
                    // An end of the connection instead of an answer leaves the outcome open.
                    let Ok(answer) = client.exchange(&send, false).await else { break };
                    match (answer.status, answer.text("code").as_str()) {
                        (201, _) => acknowledged.push(text),
                        (503, "stopping") => {
                            refused.push(text);
                            break;
                        }
                        other => panic!("{other:?}"),
                    }
                }
                (acknowledged, refused)
            });
        }
        let mut client = Connection::open(address).await;
        eventually("sends go on", async || {
            client.get("/chat/users/user0/messages?limit=1000").await.texts().len() > 100
        })
        .await;
        server.begin_stop();
        let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
        for (acks, refusals) in clients.join_all().await {
            acknowledged.extend(acks);
            refused.extend(refusals);
        }
        eventually("the node has ended", async || server.has_ended()).await;
        drop(server);
        let kept = kept(&store, 7).await;
        for text in &acknowledged {
            assert_eq!(kept.get(text), Some(&1), "{text} was acknowledged");
        }
        for text in &refused {
            assert_eq!(kept.get(text), None, "{text} was refused");
        }
        assert!(acknowledged.len() > 100 && !refused.is_empty());
    });
}
