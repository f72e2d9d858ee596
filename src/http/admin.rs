//! The admin routes: the cluster's members and ring, and what operators change. Each parses, bounds, asks the
//! node's [`Administration`] and translates its refusals; who carries a request out is not known here.

use super::AppState;
use super::input::{self, Query};
use super::problem::Problem;
use super::riak::Riak;
use crate::kv::{DEFAULT_TYPE, Kv, ObjectName};
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpRequest, HttpResponse, web};
use ringwork_core::limits::{N_VAL_MAX, ROUTING_KEY_BYTES_MAX, SERVICE_NAME_BYTES_MAX};
use ringwork_core::vnode::Vnode;
use ringwork_runtime::administration::{Administration, AdministrationRefusal, Change, PreflistStatus};
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(super) mod bucket_type;
mod handoff;
mod setting;

/// Bytes of a name, an id or a `host:port` that a client sends; the longest host has 253.
const NAME_BYTES_MAX: usize = 320;

const JOIN_EXAMPLE: &str = r#"{"seed": "10.0.0.1:8099"}"#;
const LEAVE_EXAMPLE: &str = r#"{"node": "n3"}, or no body for this node itself"#;
const LOCATION_EXAMPLE: &str =
    r#"{"location": "rack 1", "node": "n3"}, where "node" may be left out and null is no location"#;
const REPLACE_EXAMPLE: &str =
    r#"{"old": "n1", "new": "n4"}, the member that goes and the node that takes its place"#;
const FORCE_REMOVE_EXAMPLE: &str = r#"{"node": "n3"}"#;
const DOWN_EXAMPLE: &str = r#"{"node": "n3"}"#;
const NO_BODY_EXAMPLE: &str = "no body, or {}";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JoinBody {
    seed: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct LeaveBody {
    node: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LocationBody {
    // Must be there: to forget a location takes a null, not an omission.
    #[serde(deserialize_with = "present")]
    location: Option<String>,
    node: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplaceBody {
    old: String,
    new: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForceRemoveBody {
    node: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DownBody {
    node: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct NoBody {}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

/// Adds the routes below `/admin/`, but for the status.
pub(super) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(super::only_get("/admin/members", web::get().to(members)))
        .service(super::only_get("/admin/ring", web::get().to(ring)))
        .service(super::only_get("/admin/ring/partitions", web::get().to(partitions)))
        .service(super::only_get("/admin/ring/preflist", web::get().to(preflist)))
        .service(super::only_get("/admin/plan", web::get().to(shown_plan)))
        .service(only_post("/admin/cluster/join", web::post().to(join)))
        .service(only_post("/admin/cluster/leave", web::post().to(leave)))
        .service(only_post("/admin/cluster/location", web::post().to(location)))
        .service(only_post("/admin/cluster/rebalance", web::post().to(rebalance)))
        .service(only_post("/admin/cluster/replace", web::post().to(replace)))
        .service(only_post("/admin/cluster/force-replace", web::post().to(force_replace)))
        .service(only_post("/admin/cluster/force-remove", web::post().to(force_remove)))
        .service(only_post("/admin/cluster/down", web::post().to(down)))
        .service(only_post("/admin/cluster/plan", web::post().to(plan)))
        .service(only_post("/admin/cluster/commit", web::post().to(commit)))
        .service(only_post("/admin/cluster/clear", web::post().to(clear)))
        .service(super::only_get("/admin/repair", web::get().to(repair)))
        .configure(handoff::routes)
        .configure(setting::routes);
}

fn only_post(path: &str, route: actix_web::Route) -> actix_web::Resource {
    web::resource(path).route(route).default_service(web::to(|request: HttpRequest| async move {
        Problem::method(request.method().as_str(), "POST").response()
    }))
}

fn answer(outcome: Result<impl Serialize, Problem>) -> HttpResponse {
    match outcome {
        Ok(value) => HttpResponse::Ok().json(value),
        Err(problem) => problem.response(),
    }
}

fn refused(refusal: AdministrationRefusal) -> Problem {
    Problem::administration(refusal)
}

async fn members(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let query = Query::parse_only(&request, &[]);
    answer(query.map(|_| state.administration.cluster_status()))
}

async fn repair(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let query = Query::parse_only(&request, &[]);
    answer(query.map(|_| state.administration.anti_entropy_status()))
}

async fn ring(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let query = Query::parse_only(&request, &[]);
    answer(query.map(|_| state.administration.ring_status()))
}

async fn partitions(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    answer(try_partitions(&*state.administration, &request))
}

fn try_partitions(administration: &dyn Administration, request: &HttpRequest) -> Result<Value, Problem> {
    let query = Query::parse_only(request, &["of"])?;
    let of = query.get("of");
    if let Some(of) = of {
        must_be_short("the query parameter of", of, NAME_BYTES_MAX, "bad-parameter")?;
    }
    Ok(json!({ "partitions": administration.partitions(of).map_err(refused)? }))
}

async fn preflist(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    answer(try_preflist(&*state.administration, &request))
}

fn try_preflist(
    administration: &dyn Administration,
    request: &HttpRequest,
) -> Result<PreflistStatus, Problem> {
    let query = Query::parse_only(request, &["service", "key", "n", "bucket", "type"])?;
    let wanted = |name: &'static str| {
        let missing = || {
            let detail =
                format!("the query parameter {name} is missing; ask for ?service=chat&key=ann, for example");
            Problem::bad_request("missing-parameter", detail)
        };
        query.get(name).ok_or_else(missing)
    };
    let (service, key) = (wanted("service")?, wanted("key")?);
    must_be_short("the query parameter service", service, SERVICE_NAME_BYTES_MAX, "bad-parameter")?;
    must_be_short("the query parameter key", key, ROUTING_KEY_BYTES_MAX, "bad-parameter")?;
    let n = query.number("n", 1, N_VAL_MAX as u64)?.map(|n| n as usize);
    let (bucket, bucket_type) = (query.get("bucket"), query.get("type"));
    let Some(riak) = request.app_data::<web::Data<Riak>>().filter(|_| service == Kv::SERVICE) else {
        if bucket.or(bucket_type).is_some() {
            let detail = format!("bucket and type are of {} only; a key of {service} has none", Kv::SERVICE);
            return Err(Problem::bad_request("bad-parameter", detail));
        }
        return administration.preflist(service, key.as_bytes(), n).map_err(refused);
    };
    // Where an object lies follows from all three, and a key alone would name the wrong nodes.
    let Some(bucket) = bucket else {
        let detail = "an object of kv has a bucket; ask for ?service=kv&bucket=fruit&key=apple, for example, and with \
                      &type= where its bucket has one";
        return Err(Problem::bad_request("missing-parameter", detail.to_owned()));
    };
    let bucket_type = bucket_type.unwrap_or(DEFAULT_TYPE);
    let wrong = |error: String| Problem::bad_request("bad-parameter", error);
    let name = ObjectName::new(bucket_type, bucket.as_bytes(), key.as_bytes())
        .map_err(|error| wrong(error.to_string()))?;
    let props = riak
        .store()
        .bucket_props(bucket_type, bucket.as_bytes())
        .map_err(|error| wrong(error.to_string()))?;
    let found = administration.preflist(service, name.bytes(), Some(n.unwrap_or(props.n_val)));
    Ok(PreflistStatus { key: key.to_owned(), ..found.map_err(refused)? })
}

async fn shown_plan(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    if let Err(problem) = Query::parse_only(&request, &[]) {
        return problem.response();
    }
    answer(state.administration.shown_plan().await.map_err(refused))
}

async fn join(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let change = async {
        let JoinBody { seed } = needed(&state, &request, payload, JOIN_EXAMPLE).await?;
        must_be_short("seed", &seed, NAME_BYTES_MAX, "bad-body")?;
        Ok(Change::Join { seed })
    };
    staged(&state, change.await).await
}

async fn leave(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let change = async {
        let LeaveBody { node } = optional(&state, &request, payload, LEAVE_EXAMPLE).await?;
        Ok(Change::Leave { node: named(node)? })
    };
    staged(&state, change.await).await
}

async fn location(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let change = async {
        let LocationBody { location, node } = needed(&state, &request, payload, LOCATION_EXAMPLE).await?;
        // What a location may be called is the cluster's to say; this is only about what is passed on.
        if let Some(location) = &location {
            must_be_short("location", location, NAME_BYTES_MAX, "bad-location")?;
        }
        Ok(Change::Location { node: named(node)?, location })
    };
    staged(&state, change.await).await
}

async fn rebalance(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let change = nothing(&state, &request, payload).await.map(|()| Change::Rebalance);
    staged(&state, change).await
}

async fn replace(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let pair = pair(&state, &request, payload).await;
    staged(&state, pair.map(|ReplaceBody { old, new }| Change::Replace { old, new })).await
}

async fn force_replace(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let pair = pair(&state, &request, payload).await;
    staged(&state, pair.map(|ReplaceBody { old, new }| Change::ForceReplace { old, new })).await
}

async fn pair(state: &AppState, request: &HttpRequest, payload: Payload) -> Result<ReplaceBody, Problem> {
    let pair: ReplaceBody = needed(state, request, payload, REPLACE_EXAMPLE).await?;
    must_be_short("old", &pair.old, NAME_BYTES_MAX, "bad-body")?;
    must_be_short("new", &pair.new, NAME_BYTES_MAX, "bad-body")?;
    Ok(pair)
}

async fn force_remove(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let change = async {
        let ForceRemoveBody { node } = needed(&state, &request, payload, FORCE_REMOVE_EXAMPLE).await?;
        must_be_short("node", &node, NAME_BYTES_MAX, "bad-body")?;
        Ok(Change::ForceRemove { node })
    };
    staged(&state, change.await).await
}

async fn down(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    let marking = async {
        let DownBody { node } = needed(&state, &request, payload, DOWN_EXAMPLE).await?;
        must_be_short("node", &node, NAME_BYTES_MAX, "bad-body")?;
        state.administration.mark_down(&node).await.map_err(refused)?;
        Ok(json!({ "node": node, "status": "down" }))
    };
    answer(marking.await)
}

async fn plan(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    if let Err(problem) = nothing(&state, &request, payload).await {
        return problem.response();
    }
    answer(state.administration.plan().await.map_err(refused))
}

async fn commit(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    if let Err(problem) = nothing(&state, &request, payload).await {
        return problem.response();
    }
    answer(state.administration.commit().await.map_err(refused))
}

async fn clear(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    if let Err(problem) = nothing(&state, &request, payload).await {
        return problem.response();
    }
    let cleared = state.administration.clear().await.map_err(refused);
    answer(cleared.map(|()| json!({ "staged": [] })))
}

async fn staged(state: &AppState, change: Result<Change, Problem>) -> HttpResponse {
    let change = match change {
        Ok(change) => change,
        Err(problem) => return problem.response(),
    };
    let staged = state.administration.stage(change).await.map_err(refused);
    answer(staged.map(|staged| json!({ "staged": staged })))
}

fn named(node: Option<String>) -> Result<Option<String>, Problem> {
    if let Some(node) = &node {
        must_be_short("node", node, NAME_BYTES_MAX, "bad-body")?;
    }
    Ok(node)
}

fn must_be_short(what: &str, text: &str, bytes_max: usize, code: &'static str) -> Result<(), Problem> {
    let wrong = match text.len() {
        0 => "is empty".to_owned(),
        length if length > bytes_max => format!("has {length} bytes, at most {bytes_max} are allowed"),
        _ if text.contains(char::is_control) && what != "the query parameter key" => {
            "has a control character".to_owned()
        }
        _ => return Ok(()),
    };
    Err(Problem::bad_request(code, format!("{what} {wrong}")))
}

/// The body of a request that changes something: whence it may come, and its bytes.
async fn body(state: &AppState, request: &HttpRequest, payload: Payload) -> Result<Bytes, Problem> {
    input::same_origin(request)?;
    Query::parse_only(request, &[])?;
    input::body(payload, state.body_bytes_max, state.request_timeout).await
}

async fn needed<T: DeserializeOwned>(
    state: &AppState,
    request: &HttpRequest,
    payload: Payload,
    example: &str,
) -> Result<T, Problem> {
    let bytes = body(state, request, payload).await?;
    input::json(request, &bytes, example)
}

async fn optional<T: DeserializeOwned + Default>(
    state: &AppState,
    request: &HttpRequest,
    payload: Payload,
    example: &str,
) -> Result<T, Problem> {
    let bytes = body(state, request, payload).await?;
    if bytes.is_empty() { Ok(T::default()) } else { input::json(request, &bytes, example) }
}

async fn nothing(state: &AppState, request: &HttpRequest, payload: Payload) -> Result<(), Problem> {
    optional::<NoBody>(state, request, payload, NO_BODY_EXAMPLE).await.map(|NoBody {}| ())
}

#[cfg(test)]
pub(crate) mod fake_cluster;
#[cfg(test)]
mod tests;
