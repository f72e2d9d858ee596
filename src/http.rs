//! The node's HTTP face: routes, what they share, and what answers where there is no route. It translates
//! between HTTP and the typed call site of the runtime, and decides nothing about data.
//!
//! Reading order: `input` (what comes from clients), `problem` (what they are told), `admission` (who comes
//! in) and `unread` (what becomes of a body that is left), then one file per family of routes.

pub(crate) mod admin;
mod admission;
mod budget;
mod chat;
mod input;
mod operate;
mod problem;
pub mod riak;
mod stream;
mod unread;
mod users;

pub use admission::{Door, admit};
pub use budget::AnswerBudget;
pub use problem::Problem;

use actix_web::{HttpRequest, HttpResponse, web};
use ringwork_chat::Chat;
use ringwork_runtime::administration::Administration;
use ringwork_runtime::coordinator::Service;
use ringwork_runtime::node::{NodeCore, ServiceCensus};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// What the handlers share.
pub struct AppState {
    /// The node.
    pub core: Arc<NodeCore>,
    /// What operators ask and change.
    pub administration: Arc<dyn Administration>,
    /// The chat module.
    pub chat: Service<Chat>,
    /// Tells how the services do.
    pub census: Box<dyn Fn() -> Vec<ServiceCensus> + Send + Sync>,
    /// Requests inside.
    pub door: Arc<Door>,
    /// Room for large answers.
    pub answers: Arc<AnswerBudget>,
    /// Set once every shard is there.
    pub ready: AtomicBool,
    /// Turns true when the node stops: streams end.
    pub closing: watch::Receiver<bool>,
    /// Where it listens.
    pub address: SocketAddr,
    /// When acknowledgements leave, in a word.
    pub durability: &'static str,
    /// Longest body.
    pub body_bytes_max: usize,
    /// Longest message text.
    pub text_bytes_max: usize,
    /// A request's time where it does not say.
    pub request_timeout: Duration,
}

impl AppState {
    /// Whether the node serves.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) && !self.core.is_stopping() && !self.core.is_outside()
    }
}

/// Adds every route.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource("/chat/users/{user:[^/]*}/messages")
                .route(web::post().to(chat::send))
                .route(web::get().to(chat::get))
                .route(web::delete().to(chat::delete))
                .default_service(web::to(|request: HttpRequest| async move {
                    Problem::method(request.method().as_str(), "GET, POST, DELETE").response()
                })),
        )
        .service(only_get("/chat/users", web::get().to(users::users)))
        .service(only_get("/chat/users/{user:[^/]*}/stream", web::get().to(stream::stream)))
        .service(only_get("/ping", web::get().to(operate::ping)).route(web::head().to(operate::ping)))
        .service(only_get("/health/live", web::get().to(operate::live)))
        .service(only_get("/health/ready", web::get().to(operate::ready)))
        .service(only_get("/metrics", web::get().to(operate::metrics)))
        .service(only_get("/admin/status", web::get().to(operate::status)))
        .configure(admin::routes)
        .default_service(web::to(nowhere));
}

fn only_get(path: &str, route: actix_web::Route) -> actix_web::Resource {
    web::resource(path).route(route).default_service(web::to(|request: HttpRequest| async move {
        Problem::method(request.method().as_str(), "GET").response()
    }))
}

async fn nowhere(request: HttpRequest) -> HttpResponse {
    Problem::no_route(request.method().as_str(), request.path()).response()
}
