//! The admin routes of settings that can be changed while nodes run. They parse and bound as the others do; which
//! settings there are and what they take, the node says.

use super::{AppState, NAME_BYTES_MAX, answer, must_be_short, named, needed, refused};
use crate::http::input::{self, Query};
use crate::http::problem::Problem;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse, web};
use ringwork_core::limits::SETTING_VALUE_BYTES_MAX;
use ringwork_runtime::administration::ClusterSetting;
use serde::Deserialize;
use serde_json::json;

const EXAMPLE: &str =
    r#"{"value": "8", "of": "n3"}, where "of" names a node that is to differ and may be left out"#;
/// Where the setting's name stands in the path.
const KEY_SEGMENT: usize = 2;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ValueBody {
    value: String,
    of: Option<String>,
}

pub(super) fn routes(config: &mut web::ServiceConfig) {
    config.service(crate::http::only_get("/admin/settings", web::get().to(all))).service(
        web::resource("/admin/settings/{key:[^/]*}")
            .route(web::get().to(one))
            .route(web::put().to(set))
            .route(web::delete().to(unset))
            .default_service(web::to(|request: HttpRequest| async move {
                Problem::method(request.method().as_str(), "GET, PUT, DELETE").response()
            })),
    );
}

fn key(request: &HttpRequest) -> Result<String, Problem> {
    let key = input::path_segment(request, KEY_SEGMENT, "setting")?;
    must_be_short("the setting in the path", &key, NAME_BYTES_MAX, "bad-path")?;
    Ok(key)
}

async fn all(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let query = Query::parse_only(&request, &[]);
    answer(query.map(|_| json!({ "settings": state.administration.settings() })))
}

async fn one(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let asked = Query::parse_only(&request, &[]).and_then(|_| key(&request));
    answer(asked.and_then(|key| state.administration.setting(&key).map_err(refused)))
}

async fn set(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    answer(try_set(&state, &request, payload).await)
}

async fn try_set(
    state: &AppState,
    request: &HttpRequest,
    payload: Payload,
) -> Result<ClusterSetting, Problem> {
    let key = key(request)?;
    let ValueBody { value, of } = needed(state, request, payload, EXAMPLE).await?;
    must_be_short("value", &value, SETTING_VALUE_BYTES_MAX, "bad-body")?;
    let of = named(of)?;
    state.administration.change_setting(&key, Some(&value), of.as_deref()).await.map_err(refused)
}

async fn unset(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    answer(try_unset(&state, &request).await)
}

async fn try_unset(state: &AppState, request: &HttpRequest) -> Result<ClusterSetting, Problem> {
    input::same_origin(request)?;
    let key = key(request)?;
    let query = Query::parse_only(request, &["of"])?;
    let of = query.get("of");
    if let Some(of) = of {
        must_be_short("the query parameter of", of, NAME_BYTES_MAX, "bad-parameter")?;
    }
    state.administration.change_setting(&key, None, of).await.map_err(refused)
}
