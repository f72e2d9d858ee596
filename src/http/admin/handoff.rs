//! The admin routes of transfers: what moves, how much of it at a time, and what is to be repaired. They parse and
//! bound as the others do; what a limit or a partition may be, the node says.

use super::{AppState, answer, needed, nothing, only_post, refused};
use crate::http::input::Query;
use crate::http::problem::Problem;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse, web};
use ringwork_core::limits::RING_SIZE_MAX;
use ringwork_runtime::administration::HandoffStatus;
use serde::de::Deserializer;
use serde::{Deserialize, Serialize};

const LIMIT_EXAMPLE: &str =
    r#"{"limit": 8, "bytes_per_second": 50000000}, where one may be left out and null is no rate"#;
const REPAIR_EXAMPLE: &str = r#"{"partitions": [3, 4]} or {"all": true}"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitBody {
    #[serde(default, deserialize_with = "given")]
    limit: Option<u32>,
    // A null that is there is no rate; nothing leaves the rate as it is.
    #[serde(default, deserialize_with = "given")]
    bytes_per_second: Option<Option<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RepairBody {
    #[serde(default, deserialize_with = "given")]
    partitions: Option<Vec<u16>>,
    #[serde(default)]
    all: bool,
}

#[derive(Serialize)]
struct Repaired {
    partitions: Vec<u16>,
}

/// What stands there, a null included where one is allowed.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(crate::http::only_get("/admin/handoff", web::get().to(status)))
        .service(only_put("/admin/handoff/limit", web::put().to(limit)))
        .service(only_post("/admin/handoff/pause", web::post().to(pause)))
        .service(only_post("/admin/handoff/resume", web::post().to(resume)))
        .service(only_post("/admin/handoff/repair", web::post().to(repair)));
}

fn only_put(path: &str, route: actix_web::Route) -> actix_web::Resource {
    web::resource(path).route(route).default_service(web::to(|request: HttpRequest| async move {
        Problem::method(request.method().as_str(), "PUT").response()
    }))
}

async fn status(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let query = Query::parse_only(&request, &[]);
    answer(query.map(|_| state.administration.handoff_status()))
}

async fn limit(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    answer(try_limit(&state, &request, payload).await)
}

async fn try_limit(
    state: &AppState,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HandoffStatus, Problem> {
    let LimitBody { limit, bytes_per_second } = needed(state, request, payload, LIMIT_EXAMPLE).await?;
    if limit.is_none() && bytes_per_second.is_none() {
        return Err(wrong("changes nothing", LIMIT_EXAMPLE));
    }
    state.administration.set_handoff_limit(limit, bytes_per_second).map_err(refused)
}

async fn pause(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let asked = nothing(&state, &request, payload).await;
    answer(asked.map(|()| state.administration.pause_handoff()))
}

async fn resume(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let asked = nothing(&state, &request, payload).await;
    answer(asked.map(|()| state.administration.resume_handoff()))
}

async fn repair(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    answer(try_repair(&state, &request, payload).await)
}

async fn try_repair(state: &AppState, request: &HttpRequest, payload: Payload) -> Result<Repaired, Problem> {
    let RepairBody { partitions, all } = needed(state, request, payload, REPAIR_EXAMPLE).await?;
    match &partitions {
        Some(_) if all => return Err(wrong("names partitions and all of them", REPAIR_EXAMPLE)),
        None if !all => return Err(wrong("names no partition", REPAIR_EXAMPLE)),
        Some(named) if named.is_empty() => return Err(wrong("names no partition", REPAIR_EXAMPLE)),
        Some(named) if named.len() > RING_SIZE_MAX as usize => {
            return Err(wrong("names more partitions than there can be", REPAIR_EXAMPLE));
        }
        _ => {}
    }
    let partitions = state.administration.repair(partitions).map_err(refused)?;
    Ok(Repaired { partitions })
}

fn wrong(what: &str, example: &str) -> Problem {
    Problem::bad_request("bad-body", format!("the body {what}; send {example}"))
}
