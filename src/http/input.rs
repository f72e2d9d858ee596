//! What comes from a client, parsed: path segments, query parameters, bodies. It decides how strictly:
//! everything unknown, doubled or undecodable is refused with a sentence that says what would be right. It
//! does not know what the parameters mean.

use super::problem::{Problem, quoted};
use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt;
use ringwork_core::quorum::{Count, QuorumOptions, Refusal};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Longest time a request may ask for: longer waits belong to the client.
const TIMEOUT_MS_MAX: u64 = 600_000;

/// The quorum parameters that every route of a service takes.
pub(super) const QUORUM_PARAMETERS: [&str; 9] =
    ["n_val", "r", "w", "dw", "pr", "pw", "node_confirms", "sloppy", "timeout"];

/// The segment of the request's path at `position`, from 0, percent-decoded.
pub(super) fn path_segment(request: &HttpRequest, position: usize, name: &str) -> Result<String, Problem> {
    let raw = request.uri().path().split('/').nth(position + 1).unwrap_or_default();
    percent_decode(raw, false)
        .map_err(|why| Problem::bad_request("bad-path", format!("the {name} in the path {why}")))
}

/// Decodes `%41`, and `+` as a space when `plus`. The error is the rest of a sentence.
fn percent_decode(raw: &str, plus: bool) -> Result<String, String> {
    if !raw.contains(['%', '+']) {
        return Ok(raw.to_owned());
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digit = |d: Option<u8>| d.and_then(|d| char::from(d).to_digit(16));
                match (digit(rest.next()), digit(rest.next())) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err("has a '%' that is not followed by two hexadecimal digits".into()),
                }
            }
            b'+' if plus => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 once its percent-encoding is decoded".into())
}

/// A query string, every parameter of it known.
pub(super) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Parses the request's query. Parameters other than `own` and the quorum's are refused, and so are
    /// doubled ones.
    pub(super) fn parse(request: &HttpRequest, own: &[&'static str]) -> Result<Self, Problem> {
        Self::parse_known(request, &[own, &QUORUM_PARAMETERS])
    }

    /// The same where no quorum can be asked for.
    pub(super) fn parse_only(request: &HttpRequest, own: &[&'static str]) -> Result<Self, Problem> {
        Self::parse_known(request, &[own])
    }

    fn parse_known(request: &HttpRequest, known: &[&[&'static str]]) -> Result<Self, Problem> {
        let all = || known.iter().copied().flatten();
        let raw = request.query_string();
        let mut found: Vec<(&'static str, String)> = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let bad = |why: String| Problem::bad_request("bad-query", format!("a query parameter {why}"));
            let name = percent_decode(name, true).map_err(bad)?;
            let known = all().find(|known| **known == name);
            let Some(known) = known else {
                let mut list: Vec<_> = all().copied().collect();
                list.sort_by(|a, b| {
                    strsim::jaro_winkler(b, &name).total_cmp(&strsim::jaro_winkler(a, &name)).then(a.cmp(b))
                });
                let shown: String = name.chars().take(64).collect();
                let list = if list.is_empty() { "none".to_owned() } else { list.join(", ") };
                let detail = format!("unknown query parameter {shown:?}; known here: {list}");
                return Err(Problem::bad_request("unknown-parameter", detail));
            };
            if found.iter().any(|(name, _)| name == known) {
                let detail = format!("the query parameter {known} is given twice");
                return Err(Problem::bad_request("doubled-parameter", detail));
            }
            let value = percent_decode(value, true)
                .map_err(|why| Problem::bad_request("bad-query", format!("the value of {known} {why}")))?;
            found.push((known, value));
        }
        Ok(Self(found))
    }

    /// The value of a parameter that is there.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// A number from `low` to `high`.
    pub(super) fn number(&self, name: &'static str, low: u64, high: u64) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let digits = !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit());
        match digits.then(|| text.parse().ok()).flatten() {
            Some(number) if (low..=high).contains(&number) => Ok(Some(number)),
            _ => Err(Self::bad_value(name, text, &format!("a whole number from {low} to {high}"))),
        }
    }

    fn bad_value(name: &str, text: &str, expected: &str) -> Problem {
        let shown: String = text.chars().take(64).collect();
        Problem::bad_request("bad-parameter", format!("{name}={shown:?} is not {expected}"))
    }

    fn count(&self, name: &'static str) -> Result<Option<Count>, Problem> {
        self.get(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| Self::bad_value(name, text, "a whole number, 'one', 'quorum' or 'all'"))
            })
            .transpose()
    }

    /// The quorum parameters and the time limit.
    pub(super) fn quorum(&self, timeout: Duration) -> Result<(QuorumOptions, Duration), Problem> {
        if self.0.is_empty() {
            return Ok((QuorumOptions::default(), timeout));
        }
        let small = |name| self.number(name, 0, 1000).map(|n| n.map(|n| n as usize));
        let sloppy = match self.get("sloppy") {
            None => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(other) => return Err(Self::bad_value("sloppy", other, "'true' or 'false'")),
        };
        let options = QuorumOptions {
            n_val: small("n_val")?,
            r: self.count("r")?,
            w: self.count("w")?,
            dw: self.count("dw")?,
            pr: self.count("pr")?,
            pw: self.count("pw")?,
            node_confirms: small("node_confirms")?,
            sloppy,
        };
        let timeout = self.number("timeout", 1, TIMEOUT_MS_MAX)?.map_or(timeout, Duration::from_millis);
        Ok((options, timeout))
    }
}

/// The whole body, at most `bytes_max` long, within `patience`. One that came in one piece is a part of what was read
/// from the connection, and keeps all of that in memory: not to be kept for long.
pub(super) async fn body(payload: Payload, bytes_max: usize, patience: Duration) -> Result<Bytes, Problem> {
    body_with_room(payload, bytes_max, patience, |_| true).await
}

/// The same; `room` is asked, with the bytes that there would be, before each piece is kept, and where there is none
/// the request is refused.
pub(super) async fn body_with_room(
    mut payload: Payload,
    bytes_max: usize,
    patience: Duration,
    mut room: impl FnMut(usize) -> bool,
) -> Result<Bytes, Problem> {
    let gathered = async {
        let (mut only, mut all) = (Bytes::new(), BytesMut::new());
        while let Some(piece) = payload.next().await {
            let piece = piece.map_err(|error| {
                Problem::bad_request("bad-body", format!("the body could not be read: {error}"))
            })?;
            let length = only.len() + all.len() + piece.len();
            if length > bytes_max {
                return Err(Problem::too_large(format!("the body is longer than {bytes_max} bytes")));
            }
            if !room(length) {
                return Err(Problem::refused(&Refusal::Overloaded));
            }
            if length == piece.len() {
                only = piece;
                continue;
            }
            if all.is_empty() {
                all.reserve(length);
                all.extend_from_slice(&std::mem::take(&mut only));
            }
            all.extend_from_slice(&piece);
        }
        Ok(if all.is_empty() { only } else { all.freeze() })
    };
    tokio::time::timeout(patience, gathered).await.map_err(|_| Problem::slow_body())?
}

/// A JSON body, which is an object.
pub(super) fn json<T: DeserializeOwned>(
    request: &HttpRequest,
    bytes: &[u8],
    example: &str,
) -> Result<T, Problem> {
    let announced = request.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let essence = announced.split(';').next().unwrap_or_default().trim();
    // Anything else is what a form on a foreign page can send without being asked.
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::media_type());
    }
    if bytes.is_empty() {
        return Err(Problem::bad_request("bad-body", format!("the body is empty; send {example}")));
    }
    // serde would also take a list of the fields' values.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::bad_request("bad-body", format!("the body is no JSON object; send {example}")));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let error = error.to_string();
        let detail = format!("the body is not what is expected here ({}); send {example}", quoted(&error));
        Problem::bad_request("bad-body", detail)
    })
}

/// A header's text, if it is there once.
pub(super) fn header<'a>(request: &'a HttpRequest, name: &'static str) -> Result<Option<&'a str>, Problem> {
    let mut values = request.headers().get_all(name);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::bad_request("doubled-header", format!("the header {name} is given twice")));
    }
    let bad = || Problem::bad_request("bad-header", format!("the header {name} is not visible ASCII text"));
    value.to_str().map(Some).map_err(|_| bad())
}

/// Refuses what a page of somebody else's makes a browser send: a request without a body needs no leave of
/// ours, so the type of its content does not keep it out.
pub(super) fn same_origin(request: &HttpRequest) -> Result<(), Problem> {
    let Some(origin) = header(request, "origin")? else { return Ok(()) };
    let host = header(request, "host")?.unwrap_or_default();
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    if authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    Err(Problem::foreign_origin(origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percent_encoding_is_decoded_strictly() {
        assert_eq!(percent_decode("a%20b+c", false).unwrap(), "a b+c");
        assert_eq!(percent_decode("a+b", true).unwrap(), "a b");
        assert_eq!(percent_decode("%C3%A4", false).unwrap(), "ä");
        for raw in ["%", "%4", "%zz", "a%4", "%C3", "%ff%fe", "%+1"] {
            assert!(percent_decode(raw, false).is_err(), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_decoded_or_refused(raw: String) {
            let _ = percent_decode(&raw, true);
        }
    }
}
