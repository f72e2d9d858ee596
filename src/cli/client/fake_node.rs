//! A node small enough to see through, for the tests of the command line: it speaks the chat routes as a node
//! does, keeps everything in memory, and fails when told to. It decides nothing about replicas.

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

/// What the tests see and set.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) messages: BTreeMap<String, Vec<Value>>,
    pub(crate) requests: Vec<String>,
    pub(crate) headers: Vec<BTreeMap<String, String>>,
    /// Answers that come before anything else: status, content type, body.
    pub(crate) refusals: VecDeque<(u16, &'static str, String)>,
    /// What each connection to the stream sends before it ends.
    pub(crate) streams: VecDeque<String>,
    pub(crate) ready_after_probes: usize,
    pub(crate) probes: usize,
}

/// A running fake; it stops with the test's runtime.
pub(crate) struct FakeNode {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl FakeNode {
    pub(crate) async fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = web::Data::from(state.clone());
        let server =
            HttpServer::new(move || App::new().app_data(shared.clone()).default_service(web::to(answer)))
                .workers(1)
                .disable_signals()
                .shutdown_timeout(0)
                .bind(("127.0.0.1", 0))
                .unwrap();
        let url = format!("http://{}", server.addrs()[0]);
        actix_rt::spawn(server.run());
        Self { url, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn client(&self) -> super::NodeClient {
        super::NodeClient::new(&self.url).unwrap()
    }

    pub(crate) fn refuse(&self, status: u16, code: &str, detail: &str) {
        let body =
            json!({"type": "about:blank", "title": "No", "status": status, "detail": detail, "code": code});
        self.state().refusals.push_back((status, "application/problem+json", body.to_string()));
    }
}

async fn answer(request: HttpRequest, body: Bytes, state: web::Data<Mutex<State>>) -> HttpResponse {
    let mut state = state.lock().unwrap();
    let path = request.uri().path_and_query().unwrap().as_str().to_owned();
    state.requests.push(format!("{} {path} {}", request.method(), String::from_utf8_lossy(&body)));
    let headers = request.headers().iter();
    state
        .headers
        .push(headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect());
    if let Some((status, kind, body)) = state.refusals.pop_front() {
        return HttpResponse::build(StatusCode::from_u16(status).unwrap()).content_type(kind).body(body);
    }
    let (route, query) = path.split_once('?').unwrap_or((&path, ""));
    let query: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    let segments: Vec<&str> = route.split('/').skip(1).collect();
    match (request.method().as_str(), segments.as_slice()) {
        ("GET", ["ping"]) => HttpResponse::Ok().body("OK"),
        ("GET", ["health", "ready"]) => {
            state.probes += 1;
            if state.probes > state.ready_after_probes {
                return HttpResponse::Ok().json(json!({"ready": true}));
            }
            let problem =
                json!({"title": "Not ready", "detail": "3 vnodes still start", "code": "not_ready"});
            HttpResponse::ServiceUnavailable()
                .content_type("application/problem+json")
                .body(problem.to_string())
        }
        ("GET", ["admin", "status"]) => {
            state.probes += 1;
            let settled = state.probes > state.ready_after_probes;
            let transfers = json!({"running": 2, "peers": ["n2", "n\u{1b}3"]});
            HttpResponse::Ok().json(json!({
                "node": "node1", "id": "3f", "version": "0.1.0", "pid": std::process::id(), "ready": true,
                "settled": settled, "ring_size": 64, "http_address": "127.0.0.1:8098", "uptime_ms": 61_500,
                "vnodes_running": 64, "transfers": transfers,
            }))
        }
        ("POST", ["chat", "users", user, "messages"]) => send(&mut state, user, &body),
        ("GET", ["chat", "users", user, "messages"]) => page(&state, user, &query),
        ("GET", ["chat", "users", _, "stream"]) => {
            // Without a script the stream stays open and silent.
            let Some(script) = state.streams.pop_front() else {
                let silence = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
                return HttpResponse::Ok().content_type("text/event-stream").streaming(silence);
            };
            let pieces: Vec<_> = script.into_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
            let stream = futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>));
            HttpResponse::Ok().content_type("text/event-stream").streaming(stream)
        }
        _ => HttpResponse::NotFound().body("no such thing"),
    }
}

fn send(state: &mut State, user: &str, body: &[u8]) -> HttpResponse {
    let body: Value = serde_json::from_slice(body).unwrap();
    let messages = state.messages.entry(user.to_owned()).or_default();
    let id = format!("m{:04}", messages.len() + 1);
    messages.push(
        json!({"id": id, "text": body["text"], "from": body["from"], "sent_at": "2026-11-22T10:00:00Z"}),
    );
    HttpResponse::Created().json(json!({"id": id, "user": user, "acks": 2, "nodes": ["node1", "node2"]}))
}

fn page(state: &State, user: &str, query: &BTreeMap<&str, &str>) -> HttpResponse {
    let limit: usize = query.get("limit").map_or(100, |limit| limit.parse().unwrap());
    let after = query.get("after").copied().unwrap_or_default();
    let messages = state.messages.get(user).map(Vec::as_slice).unwrap_or_default();
    let newer: Vec<&Value> =
        messages.iter().filter(|message| message["id"].as_str().unwrap() > after).collect();
    let page = &newer[..limit.min(newer.len())];
    let last = page.last().map_or(Value::Null, |message| message["id"].clone());
    let next = if page.len() < newer.len() { last.clone() } else { Value::Null };
    HttpResponse::Ok().json(json!({"user": user, "messages": page, "next": next, "resume": last}))
}
