//! Wrong requests to the admin routes: parameters, bodies, and who may send what changes something. The node is
//! the only member of its cluster, so that nothing here finds anything to do.

use super::{Expected, Problem, Row, Status, ended, row};
use crate::client::{JSON, chunked, request};

fn named(method: &str, path: &str, body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    format!("{method} {path} {body}").chars().take(100).collect()
}

fn get(path: &str, expected: Expected) -> Row {
    row(named("GET", path, b""), request("GET", path, &[], b""), expected)
}

fn post(verb: &str, body: &[u8], expected: Expected) -> Row {
    let path = format!("/admin/cluster/{verb}");
    let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[JSON] };
    row(named("POST", &path, body), request("POST", &path, headers, body), expected)
}

/// What only looks.
pub(super) fn reading() -> Vec<Row> {
    let unknown = |word| Problem(400, "unknown-parameter", word);
    let value = |word| Problem(400, "bad-parameter", word);
    let missing = |word| Problem(400, "missing-parameter", word);
    let list = |query: &str| format!("/admin/ring/preflist?{query}");
    let get_only = || Problem(405, "method-not-allowed", "GET");
    let mut rows = vec![
        get("/admin/members", Status(200)),
        get("/admin/ring", Status(200)),
        get("/admin/plan", Problem(409, "nothing-staged", "ringwork cluster")),
        get("/admin/members?", Status(200)),
        get("/admin/members?of=n1", unknown("known here: none")),
        get("/admin/members?r=1", unknown("known here: none")),
        get("/admin/ring?x", unknown("known here: none")),
        get("/admin/plan?x=1", unknown("known here: none")),
        get("/admin/ring/partitions?of=node1", Status(200)),
        get("/admin/ring/partitions?on=node1", unknown("of")),
        get("/admin/ring/partitions?of=", value("empty")),
        get("/admin/ring/partitions?of=a&of=b", Problem(400, "doubled-parameter", "twice")),
        get("/admin/ring/partitions?of=n9", Problem(404, "unknown-node", "n9")),
        get("/admin/ring/partitions?of=%00", value("control")),
        get("/admin/ring/partitions?of=%1b%5b2J", value("control")),
        get("/admin/ring/partitions?of=%ff", Problem(400, "bad-query", "UTF-8")),
        get(&format!("/admin/ring/partitions?of={}", "n".repeat(60_000)), value("60000 bytes")),
        get("/admin/ring/preflist", missing("service")),
        get(&list("service=chat"), missing("key")),
        get(&list("key=ann"), missing("service")),
        get(&list("service=chat&key=ann"), Status(200)),
        get(&list("service=chat&key=%00%0d%0a"), Status(200)),
        get(&list("service=chat&key="), value("empty")),
        get(&list(&format!("service=chat&key={}", "k".repeat(1024))), Status(200)),
        get(&list(&format!("service=chat&key={}", "k".repeat(1025))), value("1025 bytes")),
        get(&list("service=&key=ann"), value("empty")),
        get(&list("service=nothing&key=ann"), Problem(404, "unknown-service", "chat")),
        get(&list(&format!("service={}&key=ann", "s".repeat(33))), value("33 bytes")),
        get("/admin/ring/", Problem(404, "no-such-route", "/admin/ring/")),
        get("/admin/cluster", Problem(404, "no-such-route", "/admin/cluster")),
        get("/admin/handoff", Status(200)),
        get("/admin/handoff?watch", unknown("known here: none")),
        get("/admin/handoff/", Problem(404, "no-such-route", "/admin/handoff/")),
        get("/admin/..%2fadmin/members", Problem(404, "no-such-route", "..")),
    ];
    for n in ["0", "17", "-1", "one", "", "99999999999999999999", "1.5", "%D9%A1"] {
        rows.push(get(&list(&format!("service=chat&key=ann&n={n}")), value("from 1 to 16")));
    }
    for path in ["members", "ring", "ring/partitions", "ring/preflist", "plan", "handoff"] {
        for method in ["POST", "DELETE", "PUT"] {
            let path = format!("/admin/{path}");
            rows.push(row(named(method, &path, b""), request(method, &path, &[], b""), get_only()));
        }
    }
    rows
}

/// What would change something.
pub(super) fn changing() -> Vec<Row> {
    let wrong = |word| Problem(400, "bad-body", word);
    let too_large = || Problem(413, "too-large", "65536");
    let mut rows = Vec::new();
    for verb in ["join", "location", "replace", "force-replace", "force-remove", "down"] {
        rows.push(post(verb, b"", Problem(415, "not-json", "Content-Type")));
        rows.push(post(verb, b"{}", wrong("missing field")));
    }
    for verb in [
        "join",
        "leave",
        "location",
        "rebalance",
        "replace",
        "force-replace",
        "force-remove",
        "down",
        "plan",
        "commit",
        "clear",
    ] {
        let path = format!("/admin/cluster/{verb}");
        let no_post = Problem(405, "method-not-allowed", "POST");
        rows.push(get(&path, no_post));
        rows.push(post(verb, b"[]", wrong("no JSON object")));
        rows.push(post(verb, br#"{"nodes": "n1"}"#, wrong("unknown field")));
        rows.push(post(verb, b"{", wrong("EOF")));
        rows.push(post(verb, &[b' '; 70_000], too_large()));
        let queried = format!("{verb}?force=true");
        rows.push(post(&queried, b"{}", Problem(400, "unknown-parameter", "force")));
        let form = request("POST", &path, &[("Content-Type", "text/plain")], b"{}");
        rows.push(row(format!("{verb} as a form would send it"), form, Problem(415, "not-json", "JSON")));
        let chunks = request("POST", &path, &[JSON, ("Transfer-Encoding", "chunked")], b"");
        let endless = [chunks, chunked(&[b' '; 70_000], 1000)].concat();
        rows.push(row(format!("{verb} with chunks beyond the bound"), endless, too_large()));
        let cut_off =
            [request("POST", &path, &[JSON, ("Content-Length", "100")], b""), b"{".to_vec()].concat();
        rows.push(ended(format!("{verb} cut off"), cut_off, Problem(400, "bad-body", "read")));
    }
    let bodies: Vec<(&str, Vec<u8>, Expected)> = vec![
        ("join", br#"{"seed": null}"#.into(), wrong("string")),
        ("join", br#"{"seed": 8099}"#.into(), wrong("string")),
        ("join", br#"{"seed": ""}"#.into(), wrong("empty")),
        ("join", br#"{"seed": "a:1", "seed": "b:1"}"#.into(), wrong("duplicate")),
        ("join", br#"{"seed": "a\u0000:1"}"#.into(), wrong("control")),
        ("join", format!(r#"{{"seed": "{}"}}"#, "h".repeat(321)).into(), wrong("321 bytes")),
        ("join", format!("{}{}", r#"{"seed":"#, "[".repeat(60_000)).into(), wrong("")),
        ("join", b"{\"seed\": \"\xff\"}".to_vec(), wrong("")),
        ("leave", br#"{"node": ""}"#.into(), wrong("empty")),
        ("leave", br#"{"node": ["n1"]}"#.into(), wrong("string")),
        ("leave", br#"{"node": "n9"}"#.into(), Problem(404, "unknown-node", "n9")),
        ("leave", br#"{"node": "\u001b[2J"}"#.into(), wrong("control")),
        ("leave", b"".into(), Problem(409, "only-member", "")),
        ("location", br#"{"node": "node1"}"#.into(), wrong("missing field `location`")),
        ("location", br#"{"location": 1}"#.into(), wrong("string")),
        ("location", br#"{"location": ""}"#.into(), Problem(400, "bad-location", "empty")),
        ("location", br#"{"location": "a\nb"}"#.into(), Problem(400, "bad-location", "control")),
        (
            "location",
            format!(r#"{{"location": "{}"}}"#, "l".repeat(400)).into(),
            Problem(400, "bad-location", ""),
        ),
        ("location", br#"{"location": "r1", "node": "n9"}"#.into(), Problem(404, "unknown-node", "n9")),
        ("replace", br#"{"old": "node1"}"#.into(), wrong("missing field `new`")),
        ("replace", br#"{"old": "node1", "new": "node1"}"#.into(), Problem(400, "bad-request", "own place")),
        ("replace", br#"{"old": "node1", "new": "n9"}"#.into(), Problem(404, "unknown-node", "n9")),
        ("replace", br#"{"old": "n9", "new": "node1"}"#.into(), Problem(404, "unknown-node", "n9")),
        ("replace", br#"{"old": "", "new": "node1"}"#.into(), wrong("old is empty")),
        ("replace", br#"{"old": "node1", "new": "a\nb"}"#.into(), wrong("control")),
        ("replace", br#"{"old": "a", "old": "b", "new": "c"}"#.into(), wrong("duplicate")),
        ("force-replace", br#"{"old": "node1", "new": null}"#.into(), wrong("string")),
        ("force-replace", br#"{"old": "node1", "new": "node1"}"#.into(), Problem(409, "node-is-up", "")),
        (
            "force-replace",
            format!(r#"{{"old": "{}", "new": "n4"}}"#, "n".repeat(321)).into(),
            wrong("321 bytes"),
        ),
        ("force-remove", br#"{"node": null}"#.into(), wrong("string")),
        ("force-remove", br#"{"node": ""}"#.into(), wrong("empty")),
        ("force-remove", br#"{"node": "n9"}"#.into(), Problem(404, "unknown-node", "n9")),
        ("force-remove", br#"{"node": "node1"}"#.into(), Problem(409, "node-is-up", "leave node1")),
        ("down", br#"{"node": null}"#.into(), wrong("string")),
        ("down", br#"{"node": "n9"}"#.into(), Problem(404, "unknown-node", "n9")),
        ("down", br#"{"node": "node1"}"#.into(), Problem(409, "node-is-up", "")),
        ("plan", b"".into(), Problem(409, "nothing-staged", "")),
        ("commit", b"{}".into(), Problem(409, "nothing-staged", "")),
        ("clear", b"".into(), Status(200)),
        ("replace-all", b"{}".into(), Problem(404, "no-such-route", "replace-all")),
    ];
    rows.extend(bodies.into_iter().map(|(verb, body, expected)| post(verb, &body, expected)));
    rows
}

/// What would change transfers. The node holds all 64 partitions.
pub(super) fn transfers() -> Vec<Row> {
    let wrong = |word| Problem(400, "bad-body", word);
    let limit = |word| Problem(400, "bad-limit", word);
    let sent = |path: &str, body: &[u8], expected: Expected| {
        let method = if path.starts_with("limit") { "PUT" } else { "POST" };
        let path = format!("/admin/handoff/{path}");
        let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[JSON] };
        row(named(method, &path, body), request(method, &path, headers, body), expected)
    };
    let many = |count: usize| format!(r#"{{"partitions": [{}0]}}"#, "0,".repeat(count)).into_bytes();
    let too_large = || Problem(413, "too-large", "65536");
    let mut rows = vec![
        sent("limit", b"", Problem(415, "not-json", "Content-Type")),
        sent("limit", b"{}", wrong("changes nothing")),
        sent("limit", b"[8]", wrong("no JSON object")),
        sent("limit", br#"{"limit": null}"#, wrong("null")),
        sent("limit", br#"{"limit": 0}"#, limit("ringwork handoff pause")),
        sent("limit", br#"{"limit": 65}"#, limit("from 1 to 64")),
        sent("limit", br#"{"limit": -1}"#, wrong("integer")),
        sent("limit", br#"{"limit": 1.5}"#, wrong("floating point")),
        sent("limit", br#"{"limit": "8"}"#, wrong("string")),
        sent("limit", br#"{"limit": 4294967296}"#, wrong("4294967296")),
        sent("limit", br#"{"limit": 4, "limit": 5}"#, wrong("duplicate")),
        sent("limit", br#"{"limits": 4}"#, wrong("unknown field")),
        sent("limit", br#"{"bytes_per_second": 0}"#, limit("ringwork handoff pause")),
        sent("limit", br#"{"limit": 5, "bytes_per_second": 1}"#, limit("from 262144")),
        sent("limit", br#"{"bytes_per_second": 18446744073709551615}"#, limit("to 1099511627776")),
        sent("limit", br#"{"bytes_per_second": 18446744073709551616}"#, wrong("")),
        sent("limit", br#"{"bytes_per_second": "64MiB"}"#, wrong("string")),
        sent("limit", &[b' '; 70_000], too_large()),
        sent("limit?limit=8", b"{}", Problem(400, "unknown-parameter", "limit")),
        sent("limit", br#"{"limit": 4, "bytes_per_second": null}"#, Status(200)),
        sent("repair", b"", Problem(415, "not-json", "Content-Type")),
        sent("repair", b"{}", wrong("names no partition")),
        sent("repair", br#"{"all": false}"#, wrong("names no partition")),
        sent("repair", br#"{"all": null}"#, wrong("boolean")),
        sent("repair", br#"{"partitions": []}"#, wrong("names no partition")),
        sent("repair", br#"{"partitions": null}"#, wrong("sequence")),
        sent("repair", br#"{"partitions": 3}"#, wrong("sequence")),
        sent("repair", br#"{"partitions": [-1]}"#, wrong("-1")),
        sent("repair", br#"{"partitions": [65536]}"#, wrong("65536")),
        sent("repair", br#"{"partitions": [1], "all": true}"#, wrong("all of them")),
        sent("repair", br#"{"partitions": [1, 64]}"#, Problem(404, "unknown-partition", "from 0 to 63")),
        sent("repair", &many(30_000), Status(200)),
        sent("repair", &many(40_000), too_large()),
        sent("pause", b"[]", wrong("no JSON object")),
        sent("pause", br#"{"for": "1h"}"#, wrong("unknown field")),
        sent("pause", b"", Status(200)),
        sent("resume", b"{", wrong("EOF")),
        sent("resume", b"{}", Status(200)),
        sent("stop", b"{}", Problem(404, "no-such-route", "stop")),
    ];
    for (path, method) in [("limit", "PUT"), ("pause", "POST"), ("resume", "POST"), ("repair", "POST")] {
        let path = format!("/admin/handoff/{path}");
        rows.push(get(&path, Problem(405, "method-not-allowed", method)));
        let form = request(method, &path, &[("Content-Type", "text/plain")], b"{}");
        rows.push(row(format!("{path} as a form would send it"), form, Problem(415, "not-json", "JSON")));
        let foreign = request(method, &path, &[JSON, ("Origin", "http://evil.example")], b"{}");
        rows.push(row(
            format!("{path} from another site"),
            foreign,
            Problem(403, "foreign-origin", "nothing"),
        ));
    }
    rows
}

/// A browser that a page of somebody else's makes send.
pub(super) fn origins() -> Vec<Row> {
    let foreign = || Problem(403, "foreign-origin", "nothing was changed");
    let sent = |headers: &[(&str, &str)]| request("POST", "/admin/cluster/clear", headers, b"");
    vec![
        row("a page of another site", sent(&[("Origin", "http://evil.example")]), foreign()),
        row("a page without an origin", sent(&[("Origin", "null")]), foreign()),
        row("a page that names no scheme", sent(&[("Origin", "node")]), foreign()),
        row("a long origin", sent(&[("Origin", &format!("http://{}", "o".repeat(60_000)))]), foreign()),
        row(
            "two origins",
            sent(&[("Origin", "null"), ("Origin", "null")]),
            Problem(400, "doubled-header", "origin"),
        ),
    ]
}
