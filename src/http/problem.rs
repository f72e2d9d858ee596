//! What a refused request is told: `application/problem+json` (RFC 9457) with a stable code. It decides which
//! status stands for which outcome; it does not know the routes.

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use ringwork_core::coverage::course::CoverageFailure;
use ringwork_core::quorum::{ImpossibleQuorum, Refusal, Verdict};
use ringwork_runtime::administration::AdministrationRefusal;
use ringwork_runtime::coordinator::{ReadFailure, Written};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::fmt;

/// Says of a 503 whether a write may have been done: `refused` or `unknown`.
pub(super) const OUTCOME: HeaderName = HeaderName::from_static("x-ringwork-outcome");

/// Seconds after which a refused client may come again: queues drain in far less.
const RETRY_AFTER_SECONDS: u64 = 1;
/// Characters of what a client sent that are said back to it.
const QUOTED_CHARACTERS_MAX: usize = 200;

/// As much of what a client sent as an answer says back.
pub(super) fn quoted(text: &str) -> &str {
    text.char_indices().nth(QUOTED_CHARACTERS_MAX).map_or(text, |(end, _)| &text[..end])
}

/// An answer that is not what was asked for.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    code: Cow<'static, str>,
    title: &'static str,
    detail: String,
    retry: bool,
    allow: Option<&'static str>,
    more: Map<String, Value>,
}

impl Problem {
    fn new(
        status: StatusCode,
        code: impl Into<Cow<'static, str>>,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code: code.into(),
            title,
            detail: detail.into(),
            retry: false,
            allow: None,
            more: Map::new(),
        }
    }

    /// 400: the request is wrong; `detail` says what would be right.
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, "The request is wrong", detail)
    }

    /// 403: a page of somebody else's made a browser send it.
    pub fn foreign_origin(origin: &str) -> Self {
        let detail = format!(
            "the request comes from a web page of {:?}, and only pages of this node's may change the cluster; \
             nothing was changed",
            quoted(origin)
        );
        Self::new(StatusCode::FORBIDDEN, "foreign-origin", "Forbidden", detail)
    }

    /// What an operator asked for was not done: the status follows from the code. What is not known here
    /// conflicts with the cluster's state.
    pub fn administration(refusal: AdministrationRefusal) -> Self {
        let AdministrationRefusal { code, detail } = refusal;
        let (status, title, retry) = match code.as_str() {
            "bad-location" | "bad-limit" | "bad-setting" | "bad-request" | "seed-is-self"
            | "not-a-cluster-port" => (StatusCode::BAD_REQUEST, "The request is wrong", false),
            "unknown-node" | "unknown-service" | "unknown-setting" | "unknown-partition" => {
                (StatusCode::NOT_FOUND, "Not found", false)
            }
            "claimant-unreachable"
            | "seed-unreachable"
            | "stopping"
            | "store-failed"
            | "overloaded"
            | "not-yet" => (StatusCode::SERVICE_UNAVAILABLE, "Refused", true),
            "deadline" => (StatusCode::GATEWAY_TIMEOUT, "The outcome is unknown", false),
            _ => (StatusCode::CONFLICT, "The cluster's state does not allow it", false),
        };
        let mut problem = Self::new(status, code, title, detail);
        problem.retry = retry;
        problem
    }

    /// 404: there is no such route.
    pub fn no_route(method: &str, path: &str) -> Self {
        let (method, path) = (quoted(method), quoted(path));
        let detail = format!("there is no {method} {path} here; docs/operations.md lists the routes");
        Self::new(StatusCode::NOT_FOUND, "no-such-route", "No such route", detail)
    }

    /// 404: the route is there, what it was asked for is not.
    pub fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, "Not found", detail)
    }

    /// What a write that is not done tells its client; `retry` says how to make sure when nobody knows. For modules
    /// whose replicas decline for one reason only: that something else is there.
    pub fn unless_done<R>(written: &Written<R>, retry: &str) -> Result<(), Self> {
        match &written.verdict {
            Verdict::Done => Ok(()),
            Verdict::Refused(refusal) => Err(Self::refused(refusal)),
            Verdict::Declined => Err(Self::conflict("declined", "what is stored speaks against it")),
            Verdict::Unknown => Err(Self::unknown(format!(
                "too few replicas confirmed in time; it may still be stored. {retry}"
            ))),
        }
    }

    /// 405: the path is there, the method is not.
    pub fn method(method: &str, allowed: &'static str) -> Self {
        let detail = format!("{} does nothing here; allowed: {allowed}", quoted(method));
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let mut problem = Self::new(status, "method-not-allowed", "Method not allowed", detail);
        problem.allow = Some(allowed);
        problem
    }

    /// 408: the body did not come in time.
    pub fn slow_body() -> Self {
        let detail = "the request's body did not arrive in time; nothing was written";
        Self::new(StatusCode::REQUEST_TIMEOUT, "body-timeout", "The body is too slow", detail)
    }

    /// 409: the state speaks against it.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, "The request conflicts with what is stored", detail)
    }

    /// 413: too large.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Too large", detail)
    }

    /// 415: not JSON.
    pub fn media_type() -> Self {
        let detail = "send the body as JSON, with the header 'Content-Type: application/json'";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "Unsupported media type", detail)
    }

    /// 503: nothing was written, nothing will be.
    pub fn refused(refusal: &Refusal) -> Self {
        let code = match refusal {
            Refusal::Overloaded => "overloaded",
            Refusal::Stopping => "stopping",
            Refusal::Unavailable(_) => "unavailable",
            Refusal::Expired => "expired",
            Refusal::Incomplete => "incomplete",
            Refusal::Primaries { .. } => "too-few-primaries",
            Refusal::Nodes { .. } => "too-few-nodes",
            Refusal::Replicas { .. } => "too-few-replicas",
        };
        let detail = format!("{refusal}; nothing was written");
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, "Refused", detail);
        problem.retry = true;
        problem
    }

    /// 503: the node does not serve yet.
    pub fn starting() -> Self {
        let detail =
            "the node is starting, and looks who else is there before it serves; nothing was written";
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "starting", "Not ready yet", detail);
        problem.retry = true;
        problem
    }

    /// 503: of some partitions nobody who could be asked has everything, so there is no whole list.
    pub fn uncovered(detail: impl Into<String>) -> Self {
        let mut problem =
            Self::new(StatusCode::SERVICE_UNAVAILABLE, "uncovered", "The list would not be whole", detail);
        problem.retry = true;
        problem
    }

    /// 504: nobody knows. `detail` says how to make sure.
    pub fn unknown(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "unknown", "The outcome is unknown", detail)
    }

    /// Adds a member that a program can read.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// Its code.
    pub(super) fn code(&self) -> &str {
        &self.code
    }

    /// What it says.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer to send.
    pub fn response(self) -> HttpResponse {
        let mut body = self.more;
        body.insert("type".into(), json!(format!("urn:ringwork:problem:{}", self.code)));
        body.insert("title".into(), json!(self.title));
        body.insert("status".into(), json!(self.status.as_u16()));
        body.insert("detail".into(), json!(self.detail));
        body.insert("code".into(), json!(self.code));
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        if self.retry {
            response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS));
        }
        if let Some(allow) = self.allow {
            response.insert_header((ALLOW, allow));
        }
        response.body(Value::Object(body).to_string())
    }
}

impl From<ImpossibleQuorum> for Problem {
    fn from(error: ImpossibleQuorum) -> Self {
        Self::bad_request("impossible-quorum", error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::refused(&refusal)
    }
}

impl From<ReadFailure> for Problem {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Refused(refusal) => Self::refused(&refusal),
            ReadFailure::Deadline => Self::unknown("too few replicas answered in time; ask again"),
        }
    }
}

impl From<CoverageFailure> for Problem {
    fn from(failure: CoverageFailure) -> Self {
        match &failure {
            CoverageFailure::Uncovered { .. } => Self::uncovered(failure.to_string()),
            CoverageFailure::Deadline => Self::unknown(format!("{failure}; ask again, with more 'timeout'")),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

/// So that a handler may end with `?`.
impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        self.clone().response()
    }
}
