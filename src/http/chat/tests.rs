//! The chat routes over a whole node, where what they do shows only in a log that no client can bring about alone.

use super::*;
use crate::http::{admit, routes};
use crate::server::{app_state, trial_options};
use actix_web::App;
use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
use ringwork_chat::ChatConfig;
use ringwork_core::clock::hybrid::Stamp;
use ringwork_core::ids::{Boot, NodeId};
use ringwork_runtime::node::Node;
use ringwork_runtime::spawner::Placement;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

fn id(ms: u64) -> MessageId {
    let stamp = Stamp { time: HybridTime::at_ms(ms), node: NodeId([7; 16]), boot: Boot(1) };
    MessageId::from_stamp(stamp)
}

fn keyed(id: MessageId) -> ChatItem {
    let content = Some(Content { text: "twice".into(), from: None });
    ChatItem::Keyed { user: "anna".into(), key: "k".into(), id, aliases: BTreeSet::new(), content }
}

fn texts(page: &Value) -> Vec<&str> {
    page["messages"].as_array().unwrap().iter().filter_map(|message| message["text"].as_str()).collect()
}

/// Runs a test over the routes of a node that is not ready yet.
fn before_a_node_is_ready<F: Future<Output = ()>>(body: impl FnOnce(web::Data<AppState>) -> F) {
    actix_rt::System::new().block_on(async {
        let options = trial_options(Placement::Here);
        let node = Node::builder(options).service::<Chat>(ChatConfig::default()).start().await.unwrap();
        let (_closing, closes) = tokio::sync::watch::channel(false);
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 8098));
        body(web::Data::new(app_state(&Default::default(), &node, address, closes).unwrap())).await;
        node.stop(Duration::from_secs(5)).await.unwrap();
    });
}

#[test]
fn a_node_that_has_not_looked_round_serves_nobody_but_who_watches_it() {
    before_a_node_is_ready(async |state| {
        let app = App::new().app_data(state.clone()).wrap(from_fn(admit)).configure(routes);
        let app = init_service(app).await;
        let get = async |uri: &str| call_service(&app, TestRequest::with_uri(uri).to_request()).await;
        let early = get("/chat/users/anna/messages").await;
        assert_eq!(early.status(), 503);
        let header = |name| early.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!((header("retry-after"), header("x-ringwork-outcome")), (Some("1"), Some("refused")));
        assert_eq!(read_body_json::<Value, _>(early).await["code"], "starting");
        assert_eq!(get("/health/ready").await.status(), 503);
        for open in ["/ping", "/metrics", "/admin/status"] {
            assert_eq!(get(open).await.status(), 200, "{open}");
        }
        state.ready.store(true, Ordering::Relaxed);
        assert_eq!(get("/chat/users/anna/messages").await.status(), 200);
    });
}

#[test]
fn deleting_by_an_id_that_a_message_had_deletes_the_message_and_nothing_above_that_id() {
    before_a_node_is_ready(async |state| {
        state.ready.store(true, Ordering::Relaxed);
        let app = App::new().app_data(state.clone()).wrap(from_fn(admit)).configure(routes);
        let app = init_service(app).await;
        // Two halves of a cluster took the same send; a message of another lies between their ids.
        let content = Content { text: "between".into(), from: None };
        let between = ChatItem::Message { user: "anna".into(), id: id(5), content };
        for item in [keyed(id(3)), between, keyed(id(7))] {
            let bounds = (QuorumOptions::default(), Duration::from_secs(5));
            merge(&state, "anna", item, Bounds::new(&state, bounds)).await.unwrap();
        }
        let get = async |query: &str| -> Value {
            let uri = format!("/chat/users/anna/messages{query}");
            read_body_json(call_service(&app, TestRequest::with_uri(&uri).to_request()).await).await
        };
        assert_eq!(texts(&get("").await), ["between", "twice"]);
        // Who has seen it under its first id does not see it again.
        assert_eq!(texts(&get(&format!("?after={}", id(3))).await), ["between"]);
        let uri = format!("/chat/users/anna/messages?through={}", id(3));
        let gone = call_service(&app, TestRequest::with_uri(&uri).method(Method::DELETE).to_request()).await;
        assert_eq!(gone.status(), 204);
        assert_eq!(texts(&get("").await), ["between"]);
    });
}

#[test]
fn a_message_is_shown_with_its_texts_and_a_time_of_four_digits_of_a_year() {
    let shown = |id: MessageId, from: Option<&str>| {
        let content = Content { text: "a \"b\"\n".into(), from: from.map(str::to_owned) };
        let item = ChatItem::Message { user: "anna".into(), id, content };
        let mut out = Vec::new();
        assert!(push_message(&mut out, &item, &mut Calendar::new()));
        String::from_utf8(out).unwrap()
    };
    let early = MessageId::at_ms(1_795_341_600_007);
    let sent_at = "2026-11-22T10:00:00.007Z";
    assert_eq!(
        shown(early, Some("bob")),
        format!(r#"{{"id":"{early}","text":"a \"b\"\n","from":"bob","sent_at":"{sent_at}"}}"#)
    );
    // Nobody mints it, but a peer can hand in anything.
    let last = r#""text":"a \"b\"\n","sent_at":"9999-12-31T23:59:59.999Z"}"#;
    assert!(shown(MessageId::LARGEST, None).ends_with(last), "{}", shown(MessageId::LARGEST, None));
    let mark = ChatItem::Mark { user: "anna".into(), through: early };
    assert!(!push_message(&mut Vec::new(), &mark, &mut Calendar::new()));
}
