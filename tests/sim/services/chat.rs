//! Chat, through the very routes that HTTP clients use; only the sockets in front of them are left out.

use crate::history::{Operation, Outcome, Seen};
use crate::service::{Face, Items, Later, Service, items_of};
use actix_web::dev::{Service as _, ServiceResponse};
use actix_web::http::Method;
use actix_web::test::TestRequest;
use actix_web::{App, web};
use ringwork::chat::{Chat, ChatConfig};
use ringwork::http::{AppState, admit, routes};
use ringwork::server::app_state;
use ringwork::settings::Settings;
use ringwork_core::ids::{Generation, Partition};
use ringwork_core::store::memory::MemoryStore;
use ringwork_runtime::node::{Node, NodeBuilder};
use serde_json::Value;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;

/// See the module's head.
pub struct ChatService;

/// How many messages a page has that does not show the whole log.
const GLIMPSE: usize = 20;
const PAGE: usize = 500;
/// Few, so that lists have several pages.
const USERS: usize = 4;

impl Service for ChatService {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn host(&self, builder: NodeBuilder) -> NodeBuilder {
        builder.service::<Chat>(ChatConfig::default())
    }

    fn face(&self, node: &Node) -> Later<Rc<dyn Face>> {
        let (closing, closes) = watch::channel(false);
        let state = app_state(&Settings::default(), node, crate::network::address_of(0), closes).unwrap();
        state.ready.store(true, Ordering::Relaxed);
        let state: web::Data<AppState> = web::Data::new(state);
        Box::pin(async move {
            let app =
                App::new().app_data(state).wrap(actix_web::middleware::from_fn(admit)).configure(routes);
            let app = actix_web::test::init_service(app).await;
            let app = Rc::new(app);
            let call = move |request: TestRequest| -> Later<(u16, Value)> {
                let (app, _open) = (app.clone(), closing.clone());
                Box::pin(async move {
                    match app.call(request.to_request()).await {
                        Ok(response) => read(response.map_into_boxed_body()).await,
                        Err(error) => (500, Value::String(error.to_string())),
                    }
                })
            };
            Rc::new(ChatFace(Rc::new(call))) as Rc<dyn Face>
        })
    }

    fn forgets(&self) -> bool {
        true
    }

    fn lists(&self) -> bool {
        true
    }

    fn items(&self, store: &MemoryStore, partition: Partition, generation: Generation) -> Items {
        items_of::<Chat>(store, partition, generation)
    }

    fn serial_of(&self, item: &str) -> Option<u64> {
        let (_, text) = item.split_once("text: \"")?;
        text.split_once('"')?.0.parse().ok()
    }

    fn is_mended_by_reads(&self, item: &str) -> bool {
        // The key of a deleted message is kept, and no read shows it, so no read mends it.
        !item.contains("content: None")
    }
}

async fn read(response: ServiceResponse) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = actix_web::body::to_bytes(response.into_body()).await.unwrap_or_default();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

type Call = dyn Fn(TestRequest) -> Later<(u16, Value)>;

struct ChatFace(Rc<Call>);

impl Face for ChatFace {
    fn perform(&self, operation: Operation, within: Duration) -> Later<Outcome> {
        let (call, timeout) = (self.0.clone(), within.as_millis());
        Box::pin(async move {
            match operation {
                Operation::Write { key, serial, name, w } => {
                    let uri = format!("/chat/users/{key}/messages?w={w}&timeout={timeout}");
                    let request = TestRequest::with_uri(&uri).method(Method::POST);
                    let body = format!("{{\"text\":\"{serial}\"}}");
                    let mut request =
                        request.insert_header(("content-type", "application/json")).set_payload(body);
                    if let Some(name) = name {
                        request = request.insert_header(("idempotency-key", name));
                    }
                    let (status, body) = call(request).await;
                    written(status, &body)
                }
                Operation::List => list_users(&*call, within).await,
                Operation::Read { key, r, whole } => read_log(&*call, &key, r, whole, within).await,
                Operation::Forget { key, through } => {
                    let uri = format!("/chat/users/{key}/messages?through={through}&timeout={timeout}");
                    let (status, body) = call(TestRequest::with_uri(&uri).method(Method::DELETE)).await;
                    match status {
                        204 => Outcome::Forgotten,
                        _ => failed(status, &body),
                    }
                }
            }
        })
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn written(status: u16, body: &Value) -> Outcome {
    match (status, body["code"].as_str()) {
        (201, _) => {
            let nodes = body["nodes"].as_array().into_iter().flatten().filter_map(text).collect();
            Outcome::Acknowledged { id: text(&body["id"]), nodes }
        }
        (409, Some("deleted")) => Outcome::Deleted,
        _ => failed(status, body),
    }
}

fn failed(status: u16, body: &Value) -> Outcome {
    let why = format!("{status} {}", body["code"].as_str().unwrap_or_default());
    let code = body["code"].as_str().unwrap_or_default();
    match status {
        // An id that another node minted by a clock far ahead of this one's is refused, and so it should be.
        400 if ["bad-position", "bad-idempotency-key"].contains(&code)
            && body["detail"].as_str().is_some_and(|why| why.contains("ahead") || why.contains("future")) =>
        {
            Outcome::Refused(why)
        }
        503 => Outcome::Refused(why),
        504 => Outcome::Unknown { name: text(&body["idempotency_key"]), why },
        _ => Outcome::Wrong(format!("{status} {body}")),
    }
}

#[allow(clippy::disallowed_methods)] // the simulation's own clock
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// All users, by pages that have the client's time together.
async fn list_users(call: &Call, within: Duration) -> Outcome {
    let ends = now() + within;
    let (mut users, mut place) = (Vec::new(), String::new());
    loop {
        let timeout = ends.saturating_duration_since(now()).as_millis().max(1);
        let uri = format!("/chat/users?limit={USERS}&timeout={timeout}{place}");
        let (status, body) = call(TestRequest::with_uri(&uri)).await;
        if status != 200 {
            return failed(status, &body);
        }
        users.extend(body["users"].as_array().into_iter().flatten().filter_map(text));
        match body["next"].as_str() {
            Some(next) => place = format!("&after={next}"),
            None => return Outcome::Listed(users),
        }
    }
}

async fn read_log(call: &Call, key: &str, r: u8, whole: bool, within: Duration) -> Outcome {
    let ends = now() + within;
    let (mut writes, mut degraded) = (Vec::new(), false);
    let mut place = if whole { "after=".to_owned() } else { "before=end".to_owned() };
    if whole {
        place.clear();
    }
    loop {
        let limit = if whole { PAGE } else { GLIMPSE };
        // All pages together have the time that the client has.
        let timeout = ends.saturating_duration_since(now()).as_millis().max(1);
        let uri = format!("/chat/users/{key}/messages?{place}&limit={limit}&r={r}&timeout={timeout}");
        let uri = uri.replace("?&", "?");
        let (status, body) = call(TestRequest::with_uri(&uri)).await;
        if status != 200 {
            return failed(status, &body);
        }
        degraded |= body["degraded"] == true;
        let page = body["messages"].as_array().cloned().unwrap_or_default();
        for message in &page {
            let serial = message["text"].as_str().and_then(|text| text.parse().ok());
            let Some(serial) = serial else { return Outcome::Wrong(format!("a strange message: {message}")) };
            writes.push((serial, text(&message["id"]).unwrap_or_default()));
        }
        match body["next"].as_str() {
            Some(next) if whole => place = format!("after={next}"),
            next => {
                let cut = !whole && next.is_some();
                writes.sort_by(|a, b| a.1.cmp(&b.1));
                return Outcome::Read { seen: Seen::Writes { writes, cut }, degraded };
            }
        }
    }
}
