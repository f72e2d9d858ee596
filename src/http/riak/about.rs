//! What Riak's clients ask about a node before they do anything else: which resources it has, which release it is like.
//! And who answers for a key. It decides which of Riak's resources are named: only those that are there, because
//! clients switch features on by them.

use super::accept::Accept;
use super::fault::Fault;
use super::path::Bucket;
use super::{Riak, json};
use actix_web::http::header::LINK;
use actix_web::{HttpRequest, HttpResponse, web};
use ringwork_core::preflist::Role;
use ringwork_kv::ObjectName;
use serde_json::{Map, Value, json};
use std::sync::atomic::Ordering;

/// The release of Riak whose interface this is.
const RIAK_VERSION: &str = "3.2.3";
/// Resources by the names that clients look for.
const RESOURCES: [(&str, &str); 14] = [
    ("riak_kv_wm_bucket_type", "/types"),
    ("riak_kv_wm_buckets", "/buckets"),
    ("riak_kv_wm_counter", "/buckets"),
    ("riak_kv_wm_keylist", "/buckets"),
    ("riak_kv_wm_linkwalker", "/buckets"),
    ("riak_kv_wm_object", "/buckets"),
    ("riak_kv_wm_preflist", "/buckets"),
    ("riak_kv_wm_props", "/buckets"),
    ("riak_kv_wm_ping", "/ping"),
    ("riak_kv_wm_raw", "/riak"),
    ("riak_kv_wm_stats", "/stats"),
    ("ringwork_chat", "/chat/users"),
    ("ringwork_metrics", "/metrics"),
    ("ringwork_status", "/admin/status"),
];
const JSON: &str = "application/json";
const HTML: &str = "text/html";

/// `/`: as JSON for clients that take it more gladly than a page.
pub(super) async fn resources(request: HttpRequest) -> HttpResponse {
    let links: Vec<String> =
        RESOURCES.iter().map(|(name, path)| format!("<{path}>; rel=\"{name}\"")).collect();
    let mut response = HttpResponse::Ok();
    response.insert_header((LINK, links.join(", ")));
    match Accept::of(request.headers()).best(&[HTML, JSON]) {
        Some(JSON) => {
            let named: Map<String, Value> =
                RESOURCES.iter().map(|(name, path)| ((*name).to_owned(), json!(path))).collect();
            response.content_type(JSON).body(Value::Object(named).to_string())
        }
        Some(_) => {
            let items: String = RESOURCES
                .iter()
                .map(|(name, path)| format!("<li><a href=\"{path}\">{name}</a></li>\n"))
                .collect();
            let page = format!(
                "<!doctype html>\n<html lang=\"en\"><head><title>ringwork</title></head>\n<body><h1>ringwork</h1>\n\
                 <ul>\n{items}</ul></body></html>\n"
            );
            response.content_type("text/html; charset=utf-8").body(page)
        }
        None => Fault::not_acceptable("text/html, application/json").response(),
    }
}

/// `/stats`.
pub(super) async fn stats(riak: web::Data<Riak>) -> HttpResponse {
    let (app, counts) = (&riak.app, &riak.counts);
    let cluster = app.administration.cluster_status();
    let members: Vec<String> = cluster.members.iter().map(|member| member.name.to_string()).collect();
    let (writes, bytes) = app.core.storage.waiting();
    let census = (app.census)();
    let vnodes = census.iter().find(|service| service.service == "kv").map_or(0, |kv| kv.vnodes_running);
    let total = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let mut stats = json!({
        "nodename": app.core.name,
        "riak_kv_version": RIAK_VERSION,
        "riak_core_version": RIAK_VERSION,
        "ringwork_version": env!("CARGO_PKG_VERSION"),
        "storage_backend": "ringwork",
        "ring_num_partitions": app.core.ring.load().size().count(),
        "ring_members": members,
        "ring_ownership_partitions": app.core.ring.load().state().held_by(app.core.id).count(),
        "riak_kv_vnodes_running": vnodes,
        "node_gets_total": total(&counts.gets),
        "node_puts_total": total(&counts.puts),
        "node_deletes_total": total(&counts.deletes),
        "node_gets_siblings_total": total(&counts.gets_with_siblings),
        "ringwork_puts_many_siblings_total": total(&counts.puts_with_many_siblings),
        "list_create_total": total(&counts.lists),
        "storage_queue_writes": writes,
        "storage_queue_bytes": bytes,
        "http_requests_inside": app.door.inside(),
    });
    if let Some(stats) = stats.as_object_mut() {
        let counters = app.core.telemetry.read();
        stats.extend(counters.into_iter().map(|(name, _, value)| (format!("ringwork_{name}"), json!(value))));
    }
    json(stats.to_string())
}

/// Who answers for an object: the partitions by their number on the ring.
pub(super) fn preflist(riak: &Riak, bucket: &Bucket, key: &[u8]) -> Result<HttpResponse, Fault> {
    let name = ObjectName::new(&bucket.bucket_type, &bucket.name, key)?;
    let props = riak.store.bucket_props(&bucket.bucket_type, &bucket.name)?;
    let entries = riak.store.calls().preflist(name.bytes(), props.n_val);
    let shown: Vec<Value> = entries
        .iter()
        .map(|entry| {
            json!({
                "partition": entry.partition.0,
                "node": &*riak.app.core.name_of(entry.node),
                "primary": entry.role == Role::Primary,
            })
        })
        .collect();
    Ok(json(json!({ "preflist": shown }).to_string()))
}
