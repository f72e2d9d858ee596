//! What a refused request is told on Riak's routes: the status and the text that Riak's clients know. It decides which
//! outcome is which; it does not know the routes.
//!
//! Riak says 503 both for what was not done and for what may have been done. The header `x-ringwork-outcome` tells them
//! apart: `refused` (nothing was written), `unknown` (a write may be there, or come to be).

use crate::http::problem::{OUTCOME, Problem, quoted};
use crate::kv::{BucketsFailure, ChangeFailure, KvFailure};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use ringwork_core::coverage::course::CoverageFailure;
use ringwork_core::quorum::Refusal;
use ringwork_kv::{ConditionFailure, ContextError, DirectoryError, KvInputError, PutRefusal};

/// Whether a write that ends so may have been done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// The request was at fault; nothing was done.
    Wrong,
    /// Nothing was done; it may be another time.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// An answer that is not what was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) text: String,
    json: bool,
    allow: Option<&'static str>,
    outcome: Outcome,
}

impl Fault {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), json: false, allow: None, outcome: Outcome::Wrong }
    }

    /// 400: the request is wrong; the text says what would be right.
    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 404: the object is not there.
    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found")
    }

    /// 404: there is no such path.
    pub(super) fn nowhere(path: &str) -> Self {
        let text =
            format!("there is nothing at {:?}; docs/kv.md lists Riak's routes that are there", quoted(path));
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 405.
    pub(super) fn method(method: &str, allowed: &'static str) -> Self {
        let text = format!("{} does nothing here; allowed: {allowed}", quoted(method));
        Self { allow: Some(allowed), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, text) }
    }

    /// 406: the client takes no form that there is.
    pub(super) fn not_acceptable(forms: &str) -> Self {
        let text = format!("the header Accept leaves out what there is: {}", quoted(forms));
        Self::new(StatusCode::NOT_ACCEPTABLE, text)
    }

    /// 409: the state of the bucket or the object speaks against it.
    pub(super) fn conflict(text: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, text)
    }

    /// 412: a condition is not fulfilled.
    pub(super) fn precondition(failure: ConditionFailure) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, failure.to_string())
    }

    /// 415: the body is of another kind than is read here.
    pub(super) fn media_type(expected: &str) -> Self {
        let text = format!("send the body with the header 'Content-Type: {expected}'");
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    }

    /// 501: Riak has it.
    pub(super) fn missing(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("ringwork has no {what} yet; docs/kv.md says what is there"),
        )
    }

    /// 503: nothing was done.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        let text = match refusal {
            Refusal::Primaries { needed, up } => format!("PR/PW-value unsatisfied: {up}/{needed}"),
            Refusal::Replicas { needed, up } => format!("R/W-value unsatisfied: {up}/{needed}"),
            Refusal::Nodes { needed, up } => format!("node_confirms-value unsatisfied: {up}/{needed}"),
            Refusal::Overloaded => "overload".to_owned(),
            other => other.to_string(),
        };
        let text = format!("{text}; nothing was written, try again");
        Self { outcome: Outcome::Refused, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, text) }
    }

    /// 503: the time is over. `text` says for what.
    fn timeout(text: impl Into<String>) -> Self {
        Self { outcome: Outcome::Unknown, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, text) }
    }

    /// What became of a request for an object in a bucket with so many replicas.
    pub(super) fn of(failure: KvFailure, n: usize) -> Self {
        match failure {
            KvFailure::Input(wrong) => wrong.into(),
            KvFailure::Quorum(wrong) if wrong.name == "n_val" => Self::bad_request(wrong.to_string()),
            KvFailure::Quorum(wrong) => Self::bad_request(format!(
                "Specified w/dw/pw/node_confirms values invalid for bucket n value of {n}: {wrong}"
            )),
            KvFailure::Declined(PutRefusal::Condition(failure @ ConditionFailure::Modified)) => {
                Self::conflict(failure.to_string())
            }
            KvFailure::Declined(PutRefusal::Condition(failure)) => Self::precondition(failure),
            KvFailure::Declined(PutRefusal::TooLarge { bytes, siblings, max }) => {
                let text = PutRefusal::TooLarge { bytes, siblings, max }.to_string();
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
            }
            KvFailure::Declined(refusal) => Self::conflict(refusal.to_string()),
            KvFailure::Refused(refusal) => Self::refused(&refusal),
            KvFailure::Deadline => Self {
                outcome: Outcome::Refused,
                ..Self::timeout("request timed out; nothing was written, try again")
            },
            failure @ KvFailure::Unknown { .. } => Self::timeout(format!("request timed out; {failure}")),
        }
    }

    /// A list that is not whole.
    pub(super) fn of_listing(failure: &CoverageFailure) -> Self {
        match failure {
            CoverageFailure::Deadline => Self::timeout("timeout"),
            uncovered @ CoverageFailure::Uncovered { .. } => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the list would not be whole: {uncovered}"),
            ),
        }
    }

    /// A list of buckets that is not whole.
    pub(super) fn of_buckets(failure: &BucketsFailure) -> Self {
        match failure {
            BucketsFailure::Refused(refusal) => Self::refused(refusal),
            BucketsFailure::Coverage(failure) => Self::of_listing(failure),
        }
    }

    /// The answer to send.
    pub(super) fn response(self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.insert_header((CONTENT_TYPE, if self.json { "application/json" } else { "text/plain" }));
        if let Some(allowed) = self.allow {
            response.insert_header((ALLOW, allowed));
        }
        match self.outcome {
            Outcome::Wrong => {}
            Outcome::Refused => {
                _ = response.insert_header((OUTCOME, "refused")).insert_header((RETRY_AFTER, 1))
            }
            Outcome::Unknown => _ = response.insert_header((OUTCOME, "unknown")),
        }
        response.body(if self.json { self.text } else { self.text + "\n" })
    }
}

impl From<KvInputError> for Fault {
    fn from(wrong: KvInputError) -> Self {
        let status = match wrong {
            KvInputError::ObjectTooLarge { .. } | KvInputError::Description { .. } => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, wrong.to_string())
    }
}

impl From<ContextError> for Fault {
    fn from(wrong: ContextError) -> Self {
        Self::bad_request(format!("X-Riak-Vclock: {wrong}"))
    }
}

impl From<DirectoryError> for Fault {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::UnknownType(_) => Self::new(StatusCode::NOT_FOUND, error.to_string()),
            DirectoryError::Props(problems) => {
                let text = problems.to_json().to_string();
                Self { json: true, ..Self::bad_request(text) }
            }
            DirectoryError::Active(_) | DirectoryError::Activation(_) => Self::conflict(error.to_string()),
            DirectoryError::Entry(ref refusal) if refusal.is_full() => Self::conflict(error.to_string()),
            DirectoryError::Entry(ref refusal) if refusal.is_passing() => {
                let text = format!("{error}; nothing was written, try again");
                Self { outcome: Outcome::Refused, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, text) }
            }
            other => Self::bad_request(other.to_string()),
        }
    }
}

impl From<ChangeFailure> for Fault {
    fn from(failure: ChangeFailure) -> Self {
        match failure {
            ChangeFailure::Directory(error) => error.into(),
            ChangeFailure::Node(refusal) => {
                let outcome = if refusal.code == "deadline" { Outcome::Unknown } else { Outcome::Refused };
                Self { outcome, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, refusal.detail) }
            }
        }
    }
}

/// What is refused alike on all routes: a body that is too long or too slow, a page of somebody else's.
impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        match problem.status() {
            StatusCode::SERVICE_UNAVAILABLE => Self::refused(&Refusal::Overloaded),
            status => Self::new(status, problem.detail()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwork_core::metadata::EntryRefusal;
    use ringwork_core::quorum::ImpossibleQuorum;

    fn header(fault: Fault, name: &str) -> Option<String> {
        let response = fault.response();
        response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn failures_are_told_as_riak_tells_them() {
        let quorum =
            |name| KvFailure::Quorum(ImpossibleQuorum { name, given: 4, expected: "at most 3".into() });
        for (failure, status, text) in [
            (quorum("w"), 400, "Specified w/dw/pw/node_confirms values invalid for bucket n value of 3"),
            (quorum("n_val"), 400, "n_val=4 is impossible: at most 3"),
            (KvFailure::Declined(ConditionFailure::NoneMatch.into()), 412, "there is such an object already"),
            (KvFailure::Declined(ConditionFailure::Modified.into()), 409, "the object was modified"),
            (KvFailure::Declined(PutRefusal::TooLarge { bytes: 9, siblings: 1, max: 8 }), 413, "9 bytes"),
            (KvFailure::Declined(PutRefusal::WrittenBefore), 409, "written once"),
            (
                KvFailure::Refused(Refusal::Primaries { needed: 3, up: 1 }),
                503,
                "PR/PW-value unsatisfied: 1/3",
            ),
            (KvFailure::Unknown { acks: 1 }, 503, "request timed out; 1 replicas confirmed"),
        ] {
            let fault = Fault::of(failure, 3);
            assert_eq!(fault.status.as_u16(), status);
            assert!(fault.text.starts_with(text) || fault.text.contains(text), "{}", fault.text);
        }
        for (refusal, status, outcome) in [
            (EntryRefusal::Whole(9), 409, None),
            (EntryRefusal::Waiting, 503, Some("refused")),
            (EntryRefusal::LifeOver, 503, Some("refused")),
            (EntryRefusal::Value(9), 400, None),
        ] {
            let fault = Fault::from(DirectoryError::from(refusal));
            assert_eq!(fault.status.as_u16(), status);
            assert_eq!(header(fault, OUTCOME.as_str()).as_deref(), outcome);
        }
        let unknown = Fault::from(DirectoryError::UnknownType("t".into()));
        assert_eq!((unknown.status.as_u16(), unknown.text.as_str()), (404, "Unknown bucket type: t"));
    }

    #[test]
    fn what_was_not_written_is_told_from_what_may_have_been() {
        let unknown = Fault::of(KvFailure::Unknown { acks: 0 }, 3);
        assert_eq!(header(unknown.clone(), OUTCOME.as_str()).as_deref(), Some("unknown"));
        assert_eq!(header(unknown, "retry-after"), None);
        for failure in [KvFailure::Refused(Refusal::Overloaded), KvFailure::Deadline] {
            let fault = Fault::of(failure, 3);
            assert_eq!(header(fault.clone(), OUTCOME.as_str()).as_deref(), Some("refused"));
            assert_eq!(header(fault, "retry-after").as_deref(), Some("1"));
        }
        assert_eq!(header(Fault::not_found(), OUTCOME.as_str()), None);
    }
}
