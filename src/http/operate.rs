//! What operators and their programs ask: is it alive, does it serve, how does it do. It decides nothing; it
//! shows what the node counts.

use super::AppState;
use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};

pub(super) async fn ping() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("OK")
}

pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "live": true }))
}

pub(super) async fn ready(state: web::Data<AppState>) -> HttpResponse {
    if state.is_ready() {
        HttpResponse::Ok().json(json!({ "ready": true }))
    } else {
        let why = match (state.core.is_stopping(), state.core.is_outside()) {
            (true, _) => "stopping",
            (false, true) => "waiting to be taken into a cluster by one of its seeds",
            (false, false) => "starting",
        };
        HttpResponse::ServiceUnavailable().json(json!({ "ready": false, "why": why }))
    }
}

pub(super) async fn metrics(state: web::Data<AppState>) -> HttpResponse {
    let mut text = state.core.telemetry.prometheus();
    let (writes, bytes) = state.core.storage.waiting();
    let census = (state.census)();
    let chat_unreadable = ringwork_chat::unreadable_rows() as usize;
    let kv_unreadable = ringwork_kv::unreadable_rows() as usize;
    let vnodes: usize = census.iter().map(|c| c.vnodes_running).sum();
    let waiting: usize = census.iter().map(|c| c.requests_waiting).sum();
    for (name, help, value) in [
        ("storage_queue_writes", "Writes that wait for the storage thread.", writes),
        ("storage_queue_bytes", "Bytes that wait for the storage thread.", bytes),
        ("http_requests_inside", "HTTP requests under way.", state.door.inside()),
        ("http_answer_bytes", "Bytes of large answers under way.", state.answers.held()),
        (
            "chat_rows_unreadable",
            "Stored rows of chat skipped because they could not be read.",
            chat_unreadable,
        ),
        ("kv_rows_unreadable", "Stored objects that could not be read.", kv_unreadable),
        ("vnodes_running", "Vnodes that run on this node.", vnodes),
        (
            "vnodes_resting",
            "Vnodes that wait to be started again after a failure.",
            state.core.resting.all().len(),
        ),
        ("vnode_requests_waiting", "Requests on their way to vnodes.", waiting),
    ] {
        text.push_str(&format!(
            "# HELP ringwork_{name} {help}\n# TYPE ringwork_{name} gauge\nringwork_{name} {value}\n"
        ));
    }
    text.push_str(&ringwork_runtime::handoff::metrics::prometheus(&state.core.handoff.snapshot()));
    text.push_str(&state.core.repair.prometheus());
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}

pub(super) async fn status(state: web::Data<AppState>) -> HttpResponse {
    let core = &state.core;
    let view = core.ring.load();
    let cluster = state.administration.cluster_status();
    let census = (state.census)();
    let (writes, bytes) = core.storage.waiting();
    let handoff = core.handoff.counts();
    let counters: Map<String, Value> =
        core.telemetry.read().into_iter().map(|(name, _, value)| (name.to_owned(), json!(value))).collect();
    let vnodes: usize = census.iter().map(|c| c.vnodes_running).sum();
    HttpResponse::Ok().json(json!({
        "node": core.name,
        "id": core.id.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "boot": core.boot.0,
        "ready": state.is_ready(),
        "settled": cluster.settled,
        "stopping": core.is_stopping(),
        "uptime_ms": core.clock.moment().as_millis() as u64,
        "http_address": state.address.to_string(),
        "cluster": view.state().cluster().to_string(),
        "claimant": cluster.claimant,
        "ring_ready": cluster.ring_ready,
        "waiting_for": cluster.waiting_for,
        "epoch": cluster.epoch,
        "members": cluster.members,
        "ring_size": view.size().count(),
        "partitions_owned": view.state().held_by(core.id).count(),
        "durability": state.durability,
        "vnodes_running": vnodes,
        "services": census,
        "handoff": {
            "running_in": handoff.running_in,
            "running_out": handoff.running_out,
            "waiting": handoff.waiting,
            "paused": handoff.paused,
        },
        "http_requests_inside": state.door.inside(),
        "storage_queue_writes": writes,
        "storage_queue_bytes": bytes,
        "counters": counters,
    }))
}
