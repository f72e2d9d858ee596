//! Riak's HTTP interface: what its clients send to `/types/…`, `/buckets/…`, `/riak/…`, `/stats` and `/`, and are
//! answered. It decides which method of which place does what; objects and their outcomes are the store's
//! ([`crate::kv`]).
//!
//! Reading order: `path` (where a request leads), `query`, `value`, `link`, `accept` (what it says), `render` and
//! `fault` (what is answered), then `object`, `walk`, `counter`, `bucket`, `list`,
//! `about` (what is done).

mod about;
mod accept;
mod bucket;
mod counter;
mod fault;
mod link;
mod list;
mod object;
mod path;
mod query;
mod render;
mod value;
mod walk;

use super::AppState;
use super::input;
use crate::kv::KvStore;
use actix_web::http::Method;
use actix_web::web::{Bytes, Payload};
use actix_web::{HttpRequest, HttpResponse, web};
use fault::Fault;
use path::Target;
use ringwork_core::quorum::Refusal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Longest time that a request may ask for.
const TIMEOUT_MAX: Duration = Duration::from_secs(600);
/// Bytes of a body on routes that take no object.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// As much as is read from a connection at once, or a little more.
const READ_BYTES: usize = 128 * 1024;

/// What the handlers of these routes share.
pub struct Riak {
    app: web::Data<AppState>,
    store: KvStore,
    object_bytes_max: usize,
    counts: Counts,
}

/// What was asked of this node since its start, as `/stats` shows it.
#[derive(Default)]
struct Counts {
    gets: AtomicU64,
    puts: AtomicU64,
    deletes: AtomicU64,
    gets_with_siblings: AtomicU64,
    /// That left more siblings than `kv.siblings_warn`.
    puts_with_many_siblings: AtomicU64,
    lists: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Riak {
    /// Over a node that hosts the store; `object_bytes_max` bounds a body with an object.
    pub fn new(app: web::Data<AppState>, store: KvStore, object_bytes_max: usize) -> Self {
        Self { app, store, object_bytes_max, counts: Counts::default() }
    }

    /// The object store.
    pub fn store(&self) -> &KvStore {
        &self.store
    }

    /// A body of at most `bytes_max`, and a place for it in memory, to be held for as long as it is.
    async fn body(
        &self,
        request: &HttpRequest,
        payload: Payload,
        bytes_max: usize,
    ) -> Result<(Bytes, super::budget::Reserved), Fault> {
        let announced = input::header(request, "content-length")?.and_then(|text| text.parse::<usize>().ok());
        // Without a word of its length it takes room as it comes.
        let at_once = announced.unwrap_or_default().min(bytes_max);
        let mut room =
            self.app.answers.reserve(at_once).ok_or_else(|| Fault::refused(&Refusal::Overloaded))?;
        let grow = |bytes| room.grow(bytes);
        let bytes = input::body_with_room(payload, bytes_max, self.app.request_timeout, grow).await?;
        // What is stored must not keep the whole of what was read from the connection.
        let bytes = if bytes.len() < READ_BYTES { Bytes::copy_from_slice(&bytes) } else { bytes };
        Ok((bytes, room))
    }

    async fn json(&self, request: &HttpRequest, payload: Payload) -> Result<Bytes, Fault> {
        let announced = input::header(request, "content-type")?.unwrap_or_default();
        let essence = announced.split(';').next().unwrap_or_default().trim();
        // Anything else is what a form on a foreign page can send without being asked.
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Fault::media_type("application/json"));
        }
        Ok(self.body(request, payload, DOCUMENT_BYTES_MAX).await?.0)
    }

    /// An answer that has its place in memory.
    fn held(&self, bytes: Bytes) -> Result<super::budget::HeldAnswer, Fault> {
        self.app.answers.hold(bytes).ok_or_else(|| Fault::refused(&Refusal::Overloaded))
    }
}

/// Adds Riak's routes. Handlers find [`Riak`] as `web::Data`.
pub fn routes(config: &mut web::ServiceConfig) {
    for path in ["/buckets", "/buckets/{rest:.*}", "/types/{rest:.*}", "/riak", "/riak/{rest:.*}"] {
        config.service(web::resource(path).default_service(web::to(answer)));
    }
    for (path, what) in
        [("/mapred", "MapReduce"), ("/search/{rest:.*}", "search"), ("/solr/{rest:.*}", "search")]
    {
        let missing = move || async move { Fault::missing(what).response() };
        config.service(web::resource(path).default_service(web::to(missing)));
    }
    config
        .service(super::only_get("/", web::get().to(about::resources)))
        .service(super::only_get("/stats", web::get().to(about::stats)))
        .configure(super::admin::bucket_type::routes);
}

async fn answer(riak: web::Data<Riak>, request: HttpRequest, payload: Payload) -> HttpResponse {
    try_answer(riak, &request, payload).await.unwrap_or_else(Fault::response)
}

async fn try_answer(
    riak: web::Data<Riak>,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Fault> {
    let target = Target::of(request.uri().path())?;
    let method = match request.method() {
        &Method::HEAD => &Method::GET,
        method => {
            if method != Method::GET {
                input::same_origin(request)?;
            }
            method
        }
    };
    let (get, put) = (method == Method::GET, method == Method::PUT);
    let (post, delete) = (method == Method::POST, method == Method::DELETE);
    let wrong_method = |allowed| Err(Fault::method(method.as_str(), allowed));
    match target {
        Target::Object(bucket, key) if get => object::get(&riak, request, &bucket, &key).await,
        Target::Object(bucket, key) if put || post => {
            object::put(&riak, request, payload, &bucket, Some(key)).await
        }
        Target::Object(bucket, key) if delete => object::delete(&riak, request, &bucket, &key).await,
        Target::Object(..) => wrong_method("GET, HEAD, PUT, POST, DELETE"),
        Target::Keys(bucket) | Target::OldBucket(bucket) if post => {
            object::put(&riak, request, payload, &bucket, None).await
        }
        Target::Keys(bucket) if get => list::keys(&riak, request, &bucket, None).await,
        Target::Keys(_) => wrong_method("GET, HEAD, POST"),
        Target::OldBucket(bucket) if get => bucket::old(&riak, request, &bucket).await,
        Target::Props(bucket) if get => bucket::props(&riak, &bucket),
        Target::Props(bucket) | Target::OldBucket(bucket) if put => {
            bucket::set_props(&riak, request, payload, &bucket).await
        }
        Target::Props(bucket) if delete => bucket::reset_props(&riak, &bucket).await,
        Target::Props(_) => wrong_method("GET, HEAD, PUT, DELETE"),
        Target::OldBucket(_) => wrong_method("GET, HEAD, PUT, POST"),
        Target::Buckets(bucket_type) if get => list::buckets(&riak, request, &bucket_type).await,
        Target::TypeProps(bucket_type) if get => bucket::type_props(&riak, &bucket_type),
        Target::TypeProps(bucket_type) if put => {
            bucket::set_type_props(&riak, request, payload, &bucket_type).await
        }
        Target::TypeProps(_) => wrong_method("GET, HEAD, PUT"),
        Target::Preflist(bucket, key) if get => about::preflist(&riak, &bucket, &key),
        Target::Buckets(_) | Target::Preflist(..) => wrong_method("GET, HEAD"),
        Target::Counter(bucket, key) if get => counter::get(&riak, request, &bucket, &key).await,
        Target::Counter(bucket, key) if post => counter::add(&riak, request, payload, &bucket, &key).await,
        Target::Counter(..) => wrong_method("GET, HEAD, POST"),
        Target::Walk(bucket, key, steps) if get => walk::get(&riak, request, (&bucket, &key), &steps).await,
        Target::Walk(..) => wrong_method("GET, HEAD"),
        Target::Missing(what) => Err(Fault::missing(what)),
        Target::Nowhere => Err(Fault::nowhere(request.path())),
    }
}

fn json(text: String) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(text)
}

#[cfg(test)]
pub(crate) mod tests;
