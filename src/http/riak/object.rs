//! Objects: get, put, delete. Each parses, bounds, calls the store and translates the outcome.

use super::accept::Accept;
use super::fault::Fault;
use super::path::Bucket;
use super::query::Parameters;
use super::render::{Shown, View};
use super::{Riak, TIMEOUT_MAX, count, value};
use crate::kv::{Deleted, PutRequest, Request, WITHIN_DEFAULT};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue, LOCATION, VARY};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use ringwork_core::clock::hybrid::HybridTime;
use ringwork_core::ids::{ActorId, Dot};
use ringwork_kv::{BucketProps, ObjectName, ReadJudgement, vtag};
use std::str::FromStr;

/// Fewer complete replicas than asked for could answer: something acknowledged may be missing.
const DEGRADED: &str = "x-ringwork-degraded";
/// Several copies were wanted, and one node has all there are.
const ALONE: &str = "x-ringwork-alone";
/// How many siblings a write has left, where that is more than `kv.siblings_warn`: somebody writes without context.
const SIBLINGS: &str = "x-ringwork-siblings";

/// What all requests for an object begin with.
pub(super) struct Asked {
    pub(super) name: ObjectName,
    pub(super) props: BucketProps,
    pub(super) parameters: Parameters,
}

impl Asked {
    pub(super) fn of(riak: &Riak, request: &HttpRequest, bucket: &Bucket, key: &[u8]) -> Result<Self, Fault> {
        let name = ObjectName::new(&bucket.bucket_type, &bucket.name, key)?;
        let parameters = Parameters::of(request.query_string())?;
        let props = riak.store.bucket_props(&bucket.bucket_type, &bucket.name)?;
        if props.datatype.is_some() {
            return Err(Fault::missing("data types"));
        }
        Ok(Self { name, props, parameters })
    }

    pub(super) fn request(&self) -> Result<Request<'_>, Fault> {
        let within = self.parameters.timeout(WITHIN_DEFAULT, TIMEOUT_MAX)?;
        Ok(Request { quorums: self.parameters.quorums()?, within, ..Request::new(&self.name, &self.props) })
    }

    pub(super) fn n(&self) -> usize {
        self.props.n_val
    }
}

pub(super) async fn get(
    riak: &Riak,
    request: &HttpRequest,
    bucket: &Bucket,
    key: &[u8],
) -> Result<HttpResponse, Fault> {
    count(&riak.counts.gets);
    let asked = Asked::of(riak, request, bucket, key)?;
    let conditions = value::conditions(request.headers(), &asked.name)?;
    let got = riak.store.get(&asked.request()?).await.map_err(|failure| Fault::of(failure, asked.n()))?;
    if got.object.len() > 1 {
        count(&riak.counts.gets_with_siblings);
    }
    let view = View { object: &got.object, name: &asked.name, bucket };
    let judged = if got.object.is_dead() { ReadJudgement::Show } else { conditions.judge_read(&got.object) };
    let shown = match judged {
        ReadJudgement::Show => view.show(&Accept::of(request.headers()), asked.parameters.get("vtag")),
        ReadJudgement::NotModified => Ok(view.not_modified()),
        ReadJudgement::Failed(failure) => Err(Fault::precondition(failure)),
    };
    Ok(marked(shown.and_then(|shown| send(riak, shown)), got.degraded))
}

/// An answer to a read, also one that refuses, with the mark where the read was degraded.
pub(super) fn marked(answer: Result<HttpResponse, Fault>, degraded: bool) -> HttpResponse {
    let mut response = answer.unwrap_or_else(Fault::response);
    if degraded {
        response.headers_mut().insert(HeaderName::from_static(DEGRADED), HeaderValue::from_static("true"));
    }
    response
}

/// An answer to a write that was done, with the mark where one node has all copies.
pub(super) fn marked_alone(mut response: HttpResponse, alone: bool) -> HttpResponse {
    if alone {
        response.headers_mut().insert(HeaderName::from_static(ALONE), HeaderValue::from_static("true"));
    }
    response
}

/// Writes an object; without a key under a new one.
pub(super) async fn put(
    riak: &Riak,
    request: &HttpRequest,
    payload: Payload,
    bucket: &Bucket,
    key: Option<Vec<u8>>,
) -> Result<HttpResponse, Fault> {
    count(&riak.counts.puts);
    let is_new = key.is_none();
    let key = key.unwrap_or_else(|| new_key(riak));
    let asked = Asked::of(riak, request, bucket, &key)?;
    let wanted = asked.request()?;
    let return_object = asked.parameters.is("returnbody")?;
    let accept = Accept::of(request.headers());
    let headers = request.headers();
    let (body, _room) = riak.body(request, payload, riak.object_bytes_max).await?;
    let content = value::content(headers, body)?;
    if return_object && !accept.admits(&content.content_type) {
        return Err(Fault::not_acceptable(&content.content_type));
    }
    // Nobody has seen what is under a key that did not exist.
    let seen = if is_new { None } else { value::seen(headers, &asked.name)? };
    let conditions = value::conditions(headers, &asked.name)?;
    let put = PutRequest { content, seen: seen.unwrap_or_default(), conditions, return_object };
    let done = riak.store.put(&wanted, put).await.map_err(|failure| Fault::of(failure, asked.n()))?;
    let many = Some(done.stored.siblings).filter(|_| done.stored.many_siblings);
    if many.is_some() {
        count(&riak.counts.puts_with_many_siblings);
    }
    let answer = |mut shown: Shown| {
        if let Some(siblings) = many {
            shown.headers.push((SIBLINGS.to_owned(), siblings.to_string()));
        }
        if is_new {
            shown.status = StatusCode::CREATED;
            shown.headers.push((LOCATION.as_str().to_owned(), bucket.object_path(&key)));
        }
        send(riak, shown).map(|response| marked_alone(response, done.alone))
    };
    if let Some(object) = done.stored.object.filter(|_| return_object) {
        let shown = View { object: &object, name: &asked.name, bucket }.show(&accept, None);
        let shown = shown.map(|mut shown| {
            if shown.status == StatusCode::OK && shown.body.is_empty() {
                shown.status = StatusCode::NO_CONTENT;
            }
            shown
        });
        match shown.and_then(&answer) {
            Ok(response) => return Ok(response),
            // It is written: what cannot be shown must not read as a refusal.
            Err(_) => tracing::debug!("what was written cannot be shown in the answer"),
        }
    }
    answer(Shown { status: StatusCode::NO_CONTENT, headers: Vec::new(), body: actix_web::web::Bytes::new() })
}

pub(super) async fn delete(
    riak: &Riak,
    request: &HttpRequest,
    bucket: &Bucket,
    key: &[u8],
) -> Result<HttpResponse, Fault> {
    count(&riak.counts.deletes);
    let asked = Asked::of(riak, request, bucket, key)?;
    let seen = value::seen(request.headers(), &asked.name)?;
    let conditions = value::conditions(request.headers(), &asked.name)?;
    match riak.store.delete(&asked.request()?, seen, conditions).await {
        Ok(Deleted::Done { alone }) => Ok(marked_alone(HttpResponse::NoContent().finish(), alone)),
        Ok(Deleted::NotFound) => Err(Fault::not_found()),
        Err(failure) => Err(Fault::of(failure, asked.n())),
    }
}

/// A key that no other object has: of this node, its life, and a time of its clock that it gives out once.
fn new_key(riak: &Riak) -> Vec<u8> {
    let stamp = riak.app.core.stamp_above(HybridTime::default());
    let of_node = u64::from_be_bytes(stamp.node.tag()) ^ u64::from(stamp.boot.0).rotate_right(16);
    vtag(Dot { actor: ActorId(of_node), counter: stamp.time.0 }).into_bytes()
}

fn send(riak: &Riak, shown: Shown) -> Result<HttpResponse, Fault> {
    let mut response = HttpResponse::build(shown.status);
    response.insert_header((VARY, "Accept"));
    for (name, value) in &shown.headers {
        match (HeaderName::from_str(name), HeaderValue::from_bytes(value.as_bytes())) {
            (Ok(name), Ok(value)) => _ = response.insert_header((name, value)),
            // Metadata that did not come over HTTP can have names that are none of a header.
            _ => tracing::debug!(name, "a header cannot be shown"),
        }
    }
    if shown.body.is_empty() && shown.status != StatusCode::OK {
        return Ok(response.finish());
    }
    Ok(response.body(riak.held(shown.body)?))
}
