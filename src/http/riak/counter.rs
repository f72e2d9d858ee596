//! Counters of Riak 1.4: read, and added to. What a counter is, and that no addition is lost beside another, the module
//! says ([`ringwork_kv::counter`]).

use super::fault::Fault;
use super::object::{Asked, marked, marked_alone};
use super::path::Bucket;
use super::{Riak, count};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse};
use ringwork_kv::counter::CountRefusal;
use ringwork_kv::{Conflicts, Counter};

/// Bytes of a number as text.
const NUMBER_BYTES_MAX: usize = 64;
const NEEDS_SIBLINGS: &str = "Counters require bucket property 'allow_mult=true'";

fn text(number: i128) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body(number.to_string())
}

fn no_counter() -> Fault {
    Fault::conflict("the object has a value that is no counter")
}

pub(super) async fn get(
    riak: &Riak,
    request: &HttpRequest,
    bucket: &Bucket,
    key: &[u8],
) -> Result<HttpResponse, Fault> {
    count(&riak.counts.gets);
    let asked = Asked::of(riak, request, bucket, key)?;
    let got = riak.store().get(&asked.request()?).await.map_err(|failure| Fault::of(failure, asked.n()))?;
    let answer = match Counter::of(&got.object) {
        Ok(Some(counter)) => Ok(text(counter.value())),
        Ok(None) => Err(Fault::not_found()),
        Err(CountRefusal::NoCounter | CountRefusal::TooMuch) => Err(no_counter()),
    };
    Ok(marked(answer, got.degraded))
}

pub(super) async fn add(
    riak: &Riak,
    request: &HttpRequest,
    payload: Payload,
    bucket: &Bucket,
    key: &[u8],
) -> Result<HttpResponse, Fault> {
    count(&riak.counts.puts);
    let asked = Asked::of(riak, request, bucket, key)?;
    // Additions at once are siblings that are summed: a bucket that keeps one of them would lose the others.
    if asked.props.conflicts() != Conflicts::Siblings {
        return Err(Fault::conflict(NEEDS_SIBLINGS));
    }
    let return_value = asked.parameters.is("returnvalue")?;
    let (body, _) = riak.body(request, payload, NUMBER_BYTES_MAX).await?;
    let amount: Option<i64> = std::str::from_utf8(&body).ok().and_then(|text| text.trim().parse().ok());
    let amount = amount
        .ok_or_else(|| Fault::bad_request("the body is no whole number of 64 bits, such as 5 or -1"))?;
    let wanted = asked.request()?;
    let done = riak.store().count(&wanted, amount).await.map_err(|failure| Fault::of(failure, asked.n()))?;
    let answer = match done.stored.object.as_ref().map(Counter::of) {
        Some(Ok(Some(counter))) if return_value => text(counter.value()),
        _ => HttpResponse::NoContent().finish(),
    };
    Ok(marked_alone(answer, done.alone))
}
