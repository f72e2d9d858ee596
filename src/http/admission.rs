//! The door: how many requests may be inside, what each is called in the logs, and that none comes in before the
//! node is ready, nor while it is leaving. It runs before a body is read, so an excess costs a few microseconds and
//! no memory.

use super::AppState;
use super::problem::{OUTCOME, Problem};
use super::unread::Unread;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, web};
use ringwork_core::quorum::Refusal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Requests inside, against their bound.
pub struct Door {
    inside: AtomicUsize,
    max: usize,
}

/// One request's place inside.
struct Place(Arc<Door>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Door {
    /// A door for that many.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { inside: AtomicUsize::new(0), max })
    }

    fn enter(self: &Arc<Self>) -> Option<Place> {
        let more = |inside| (inside < self.max).then_some(inside + 1);
        self.inside.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(self.clone()))
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.inside.load(Ordering::Relaxed)
    }
}

/// Whether the route must answer even when the house is full or closing: who watches over the node needs it.
fn always_open(path: &str) -> bool {
    path == "/ping" || path == "/metrics" || path.starts_with("/health/") || path.starts_with("/admin/")
}

/// Lets a request in, or refuses it; names it, and logs how it went.
pub async fn admit(
    state: web::Data<AppState>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = state.core.next_request();
    let open = always_open(request.path());
    let place = state.door.enter();
    let refusal = match () {
        () if open => None,
        () if state.core.is_stopping() => Some(Problem::refused(&Refusal::Stopping)),
        // It has not looked round yet: it would take every other member for down, and stand in for all of them.
        () if !state.ready.load(Ordering::Relaxed) => Some(Problem::starting()),
        () if place.is_none() => Some(Problem::refused(&Refusal::Overloaded)),
        () => None,
    };
    let unread = Unread::hold(&mut request);
    let mut response = match refusal {
        Some(refusal) => {
            state.core.telemetry.requests_overloaded.increment();
            let mut response = request.into_response(refusal.response());
            // Riak's status says less, and its routes lie behind this door, too.
            response.headers_mut().insert(OUTCOME, HeaderValue::from_static("refused"));
            response
        }
        None => next.call(request).await?.map_into_boxed_body(),
    };
    if let Some(unread) = unread {
        response = response.map_body(|_, body| unread.until_sent(body));
    }
    drop(place);
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let (status, head) = (response.status(), response.request());
    if deserves_a_line(status, response.headers().get(OUTCOME)) {
        let (method, path): (_, String) = (head.method().as_str(), head.path().chars().take(200).collect());
        tracing::warn!(request = %id, method, path, status = status.as_u16(), "request not served");
    } else {
        tracing::debug!(
            request = %id, method = head.method().as_str(), path = head.path(), status = status.as_u16(), "request"
        );
    }
    Ok(response)
}

/// Whether an answer is told in the log. A refusal is only counted: a line for each would let an overload fill the log.
/// Riak's routes have the same status for what is not known.
fn deserves_a_line(status: StatusCode, outcome: Option<&HeaderValue>) -> bool {
    let refused =
        status == StatusCode::SERVICE_UNAVAILABLE && outcome.is_none_or(|outcome| outcome != "unknown");
    status.is_server_error() && !refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_is_told_in_the_log_and_a_refusal_only_counted() {
        for (status, outcome, told) in [
            (StatusCode::OK, None, false),
            (StatusCode::BAD_REQUEST, None, false),
            (StatusCode::SERVICE_UNAVAILABLE, None, false),
            (StatusCode::SERVICE_UNAVAILABLE, Some("refused"), false),
            (StatusCode::SERVICE_UNAVAILABLE, Some("unknown"), true),
            (StatusCode::GATEWAY_TIMEOUT, None, true),
            (StatusCode::INTERNAL_SERVER_ERROR, None, true),
        ] {
            let outcome = outcome.map(HeaderValue::from_static);
            assert_eq!(deserves_a_line(status, outcome.as_ref()), told, "{status} {outcome:?}");
        }
    }
}
