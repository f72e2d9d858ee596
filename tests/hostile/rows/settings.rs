//! Wrong requests to the routes of settings that can be changed while nodes run.

use super::{Expected, Problem, Row, Status, row};
use crate::client::{JSON, request};

fn sent(method: &str, path: &str, body: &[u8], expected: Expected) -> Row {
    let path = format!("/admin/settings{path}");
    let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[JSON] };
    let shown = String::from_utf8_lossy(body);
    let name: String = format!("{method} {path} {shown}").chars().take(100).collect();
    row(name, request(method, &path, headers, body), expected)
}

/// Reading, setting, and taking back what cannot be. What is set in the end is what was.
pub(super) fn settings() -> Vec<Row> {
    let wrong = |word| Problem(400, "bad-body", word);
    let bad = |word| Problem(400, "bad-setting", word);
    let unknown = || Problem(404, "unknown-setting", "handoff.limit");
    let put = |key: &str, body: &[u8], expected| sent("PUT", &format!("/{key}"), body, expected);
    let long = |bytes: usize| format!(r#"{{"value": "{}"}}"#, "x".repeat(bytes)).into_bytes();
    vec![
        sent("GET", "", b"", Status(200)),
        sent("GET", "?of=node1", b"", Problem(400, "unknown-parameter", "known here: none")),
        sent("GET", "/handoff.limit", b"", Status(200)),
        sent("GET", "/handoff.limit?x", b"", Problem(400, "unknown-parameter", "known here: none")),
        sent("GET", "/", b"", Problem(400, "bad-path", "empty")),
        sent("GET", "/%ff", b"", Problem(400, "bad-path", "UTF-8")),
        sent("GET", "/%00", b"", Problem(400, "bad-path", "control")),
        sent("GET", &format!("/{}", "k".repeat(321)), b"", Problem(400, "bad-path", "321 bytes")),
        sent("GET", "/handoff.limits", b"", unknown()),
        sent("GET", "/handoff/limit", b"", Problem(404, "no-such-route", "/admin/settings/handoff/limit")),
        sent("POST", "/handoff.limit", br#"{"value": "8"}"#, Problem(405, "method-not-allowed", "PUT")),
        sent("DELETE", "", b"", Problem(405, "method-not-allowed", "GET")),
        put("handoff.limit", b"", Problem(415, "not-json", "Content-Type")),
        put("handoff.limit", b"{}", wrong("value")),
        put("handoff.limit", b"[8]", wrong("no JSON object")),
        put("handoff.limit", br#"{"value": 8}"#, wrong("string")),
        put("handoff.limit", br#"{"value": null}"#, wrong("string")),
        put("handoff.limit", br#"{"value": ""}"#, wrong("empty")),
        put("handoff.limit", br#"{"value": "8", "off": "node1"}"#, wrong("unknown field")),
        put("handoff.limit", br#"{"value": "8", "of": ""}"#, wrong("empty")),
        put("handoff.limit", br#"{"value": "8", "of": "n9"}"#, Problem(404, "unknown-node", "n9")),
        put("handoff.limit", br#"{"value": "8\u0000"}"#, wrong("control")),
        put("handoff.limit", &long(1025), wrong("1025 bytes")),
        put("handoff.limit", &long(1024), bad("1 to 64")),
        put("handoff.limit", &long(70_000), Problem(413, "too-large", "65536")),
        put("handoff.limit", br#"{"value": "0"}"#, bad("1 to 64")),
        put("handoff.limit", br#"{"value": "65"}"#, bad("1 to 64")),
        put("handoff.limits", br#"{"value": "8"}"#, unknown()),
        put("handoff.limit@node1", br#"{"value": "8"}"#, unknown()),
        put("handoff.bytes_per_second", br#"{"value": "1"}"#, bad("262144")),
        put("handoff.bytes_per_second", br#"{"value": "99999999999TiB"}"#, bad("none")),
        put("chat.r", br#"{"value": "4"}"#, bad("1 to 3")),
        put("chat.r", br#"{"value": "1", "of": "node1"}"#, bad("same on all nodes")),
        put("chat.n_val", br#"{"value": "5"}"#, bad("does not change")),
        put("handoff.limit", br#"{"value": "4"}"#, Status(200)),
        sent("DELETE", "/handoff.limit?off=node1", b"", Problem(400, "unknown-parameter", "of")),
        sent("DELETE", "/handoff.limit?of=", b"", Problem(400, "bad-parameter", "empty")),
        sent("DELETE", "/handoff.limit?of=n9", b"", Problem(404, "unknown-node", "n9")),
        sent("DELETE", "/handoff.limits", b"", unknown()),
        sent("DELETE", "/handoff.limit", b"", Status(200)),
        sent("DELETE", "/handoff.limit", b"", Status(200)),
    ]
}
