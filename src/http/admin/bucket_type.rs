//! Bucket types for operators: listed, created, brought into use, changed. Riak has no HTTP for the first three. It
//! translates between HTTP and the store; what a type may be, the kv module says.

use super::{NoBody, answer, needed, optional};
use crate::http::riak::Riak;
use crate::http::{AppState, Problem, input, only_get};
use crate::kv::{AskedProps, ChangeFailure, DEFAULT_TYPE, DirectoryError};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse, web};
use input::Query;
use ringwork_core::metadata::lifecycle::ActivationRefusal;
use ringwork_runtime::administration::AdministrationRefusal;
use serde::Deserialize;
use serde_json::{Value, json};

const EXAMPLE: &str = r#"{"props": {"allow_mult": true}}, or {"props": {}} for the defaults"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PropsBody {
    props: AskedProps,
}

/// Adds the routes; handlers find [`Riak`] as `web::Data`.
pub(in crate::http) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(only_get("/admin/bucket-types", web::get().to(list)))
        .service(
            web::resource("/admin/bucket-types/{name:[^/]*}")
                .route(web::get().to(status))
                .route(web::put().to(create))
                .route(web::patch().to(update))
                .default_service(web::to(|request: HttpRequest| async move {
                    Problem::method(request.method().as_str(), "GET, PUT, PATCH").response()
                })),
        )
        .service(super::only_post("/admin/bucket-types/{name:[^/]*}/activate", web::post().to(activate)));
}

fn name_of(request: &HttpRequest) -> Result<String, Problem> {
    input::path_segment(request, 2, "bucket type")
}

fn shown(riak: &Riak, name: &str, stage: &str) -> Value {
    // What a type that is not in use yet will be like, nobody is shown: it may still be created anew.
    let props = riak.store().type_props(name).ok().map(|props| props.to_json());
    json!({ "name": name, "stage": stage, "props": props })
}

fn stage_of(riak: &Riak, name: &str) -> Option<&'static str> {
    if name == DEFAULT_TYPE {
        return Some("active");
    }
    let types = riak.store().types();
    types.into_iter().find(|(known, _)| known == name).map(|(_, stage)| stage.word())
}

async fn list(riak: web::Data<Riak>, request: HttpRequest) -> HttpResponse {
    answer(Query::parse_only(&request, &[]).map(|_| {
        let types = riak.store().types();
        let types: Vec<Value> = types.iter().map(|(name, stage)| shown(&riak, name, stage.word())).collect();
        json!({ "types": types })
    }))
}

async fn status(riak: web::Data<Riak>, request: HttpRequest) -> HttpResponse {
    answer(Query::parse_only(&request, &[]).and_then(|_| found(&riak, &name_of(&request)?)))
}

fn found(riak: &Riak, name: &str) -> Result<Value, Problem> {
    let stage = stage_of(riak, name).ok_or_else(|| unknown(name))?;
    Ok(shown(riak, name, stage))
}

fn unknown(name: &str) -> Problem {
    let shown: String = name.chars().take(64).collect();
    Problem::not_found("unknown-bucket-type", format!("there is no bucket type {shown:?}; create it first"))
}

/// Why a change was not made.
fn refused(failure: ChangeFailure) -> Problem {
    match failure {
        ChangeFailure::Directory(error) => match &error {
            DirectoryError::UnknownType(name)
            | DirectoryError::Activation(ActivationRefusal::Unknown { key: name, .. }) => unknown(name),
            DirectoryError::Active(_) => Problem::conflict("bucket-type-active", error.to_string()),
            DirectoryError::Activation(_) => Problem::conflict("bucket-type-not-ready", error.to_string()),
            DirectoryError::Props(problems) => {
                Problem::bad_request("bad-properties", error.to_string()).with("props", problems.to_json())
            }
            DirectoryError::Entry(refusal) if refusal.is_full() || refusal.is_passing() => {
                Problem::administration(AdministrationRefusal::of_entry(refusal, "bad-bucket-type"))
            }
            _ => Problem::bad_request("bad-bucket-type", error.to_string()),
        },
        ChangeFailure::Node(refusal) => Problem::administration(refusal),
    }
}

async fn create(
    state: web::Data<AppState>,
    riak: web::Data<Riak>,
    request: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let created = async {
        let name = name_of(&request)?;
        let PropsBody { props } = needed(&state, &request, payload, EXAMPLE).await?;
        riak.store().create_type(&name, props).await.map_err(refused)?;
        found(&riak, &name)
    };
    answer(created.await)
}

async fn update(
    state: web::Data<AppState>,
    riak: web::Data<Riak>,
    request: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let updated = async {
        let name = name_of(&request)?;
        let PropsBody { props } = needed(&state, &request, payload, EXAMPLE).await?;
        riak.store().update_type(&name, props).await.map_err(refused)?;
        found(&riak, &name)
    };
    answer(updated.await)
}

async fn activate(
    state: web::Data<AppState>,
    riak: web::Data<Riak>,
    request: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let activated = async {
        let name = name_of(&request)?;
        let NoBody {} = optional(&state, &request, payload, super::NO_BODY_EXAMPLE).await?;
        riak.store().activate_type(&name).await.map_err(refused)?;
        found(&riak, &name)
    };
    answer(activated.await)
}
