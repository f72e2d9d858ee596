//! Properties of buckets and types: shown, changed, reset. What may be changed, and to what, the module says.

use super::fault::Fault;
use super::path::Bucket;
use super::query::Parameters;
use super::{Riak, json, list};
use crate::kv::AskedProps;
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use ringwork_kv::DEFAULT_TYPE;
use ringwork_kv::props::change::read_document;

pub(super) fn props(riak: &Riak, bucket: &Bucket) -> Result<HttpResponse, Fault> {
    let props = riak.store.bucket_props(&bucket.bucket_type, &bucket.name)?;
    Ok(json(props.bucket_document(&bucket.name).to_string()))
}

async fn asked(riak: &Riak, request: &HttpRequest, payload: Payload) -> Result<AskedProps, Fault> {
    let body = riak.json(request, payload).await?;
    read_document(&body).map_err(|error| Fault::bad_request(error.to_string()))
}

pub(super) async fn set_props(
    riak: &Riak,
    request: &HttpRequest,
    payload: Payload,
    bucket: &Bucket,
) -> Result<HttpResponse, Fault> {
    let asked = asked(riak, request, payload).await?;
    riak.store.set_bucket_props(&bucket.bucket_type, &bucket.name, asked).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub(super) async fn reset_props(riak: &Riak, bucket: &Bucket) -> Result<HttpResponse, Fault> {
    riak.store.reset_bucket_props(&bucket.bucket_type, &bucket.name).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub(super) fn type_props(riak: &Riak, bucket_type: &str) -> Result<HttpResponse, Fault> {
    let props = riak.store.type_props(bucket_type)?;
    let claimant = riak.app.administration.cluster_status().claimant;
    let claimant = claimant.map_or_else(String::new, |claimant| claimant.to_string());
    Ok(json(props.type_document(true, &claimant).to_string()))
}

pub(super) async fn set_type_props(
    riak: &Riak,
    request: &HttpRequest,
    payload: Payload,
    bucket_type: &str,
) -> Result<HttpResponse, Fault> {
    let asked = asked(riak, request, payload).await?;
    riak.store.update_type(bucket_type, asked).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// `/riak/B` of the old scheme: properties, keys, or both.
pub(super) async fn old(
    riak: &actix_web::web::Data<Riak>,
    request: &HttpRequest,
    bucket: &Bucket,
) -> Result<HttpResponse, Fault> {
    let parameters = Parameters::of(request.query_string())?;
    let document = match parameters.get("props") {
        Some("false") => None,
        _ => Some(riak.store.bucket_props(DEFAULT_TYPE, &bucket.name)?.bucket_document(&bucket.name)),
    };
    match (parameters.get("keys"), document) {
        (Some("true" | "stream"), document) => list::keys(riak, request, bucket, document).await,
        (_, document) => Ok(json(document.unwrap_or_else(|| serde_json::json!({})).to_string())),
    }
}
