//! Wrong queries: parameters, quorums, places in a log.

use super::{Expected, Given, NotHttp, Problem, Row, Sent, Status, row};
use crate::client::{JSON, message, request};
use ringwork::chat::MessageId;

const LOG: &str = "/chat/users/paged/messages";

fn get(query: &str) -> Vec<u8> {
    request("GET", &format!("{LOG}?{query}"), &[], b"")
}

/// Rows of one method and path with these queries.
fn queried(method: &str, path: &str, cases: Vec<(String, Expected)>) -> Vec<Row> {
    let body = if method == "POST" { message("hello") } else { Vec::new() };
    let of = |(query, expected): (String, Expected)| {
        let name: String = format!("{method} {path}?{query}").chars().take(100).collect();
        row(name, request(method, &format!("{path}?{query}"), &[JSON], &body), expected)
    };
    cases.into_iter().map(of).collect()
}

/// What is no parameter, and no number.
pub(super) fn parameters() -> Vec<Row> {
    let unknown = |word| Problem(400, "unknown-parameter", word);
    let value = |word| Problem(400, "bad-parameter", word);
    let limit = || value("1 to 1000");
    let doubled = || Problem(400, "doubled-parameter", "twice");
    let undecodable = |word| Problem(400, "bad-query", word);
    let mut cases: Vec<(String, Expected)> = [
        ("limt=5", unknown("limit")),
        ("Limit=5", unknown("limit")),
        ("through=5", unknown("known here")),
        ("=5", unknown("known here")),
        ("=", unknown("known here")),
        ("%00=5", unknown("known here")),
        ("limit=1&limit=1", doubled()),
        ("limit=1&l%69mit=2", doubled()),
        ("%zz=5", undecodable("hexadecimal")),
        ("limit=%f", undecodable("hexadecimal")),
        ("limit=%ff", undecodable("UTF-8")),
        ("%ff=1", undecodable("UTF-8")),
        ("limit", limit()),
        ("limit=", limit()),
        ("limit=0", limit()),
        ("limit=1001", limit()),
        ("limit=-1", limit()),
        ("limit=+1", limit()),
        ("limit=%201", limit()),
        ("limit=abc", limit()),
        ("limit=1e2", limit()),
        ("limit=0x10", limit()),
        ("limit=1;after=x", limit()),
        ("limit=%D9%A1", limit()),
        ("limit=18446744073709551617", limit()),
        ("limit=1", Status(200)),
        ("limit=1000", Status(200)),
        ("&&limit=1&", Status(200)),
    ]
    .map(|(query, expected)| (query.to_owned(), expected))
    .into();
    cases.push((format!("limit={}", "9".repeat(60_000)), limit()));
    cases.push((format!("{}=1", "x".repeat(60_000)), unknown("known here")));
    cases.push(("a=1&".repeat(15_000), unknown("known here")));
    queried("GET", LOG, cases)
}

/// Each quorum parameter, on a node that keeps three copies of everything.
pub(super) fn quorums() -> Vec<Row> {
    let sent = || Sent("quorums".into());
    let impossible = || Problem(400, "impossible-quorum", "must be from");
    let value = |word| Problem(400, "bad-parameter", word);
    let mut cases: Vec<(String, Expected)> = Vec::new();
    let mut case = |query: String, expected: Expected| cases.push((query, expected));
    for name in ["r", "w", "dw", "pr", "pw"] {
        let none = if matches!(name, "r" | "w") { impossible() } else { sent() };
        case(format!("{name}=0"), none);
        case(format!("{name}=3"), sent());
        case(format!("{name}=4"), impossible());
        case(format!("{name}=all"), sent());
        for wrong in ["-1", "1000000000", "foo", "", "ALL", "2.0", "%00", "all%20"] {
            case(format!("{name}={wrong}"), value("'quorum' or 'all'"));
        }
    }
    for wrong in ["0", "4", "1000"] {
        case(format!("n_val={wrong}"), impossible());
    }
    for name in ["n_val", "node_confirms"] {
        for wrong in ["-1", "1001", "1000000000", "all", "foo", ""] {
            case(format!("{name}={wrong}"), value("0 to 1000"));
        }
    }
    case("n_val=1".into(), sent());
    case("n_val=2&w=3".into(), impossible());
    case("n_val=1&w=quorum&r=all&dw=one&pw=1".into(), sent());
    case("node_confirms=0".into(), sent());
    case("node_confirms=1".into(), sent());
    case("node_confirms=2".into(), Problem(503, "too-few-nodes", "2 distinct nodes are needed, 1"));
    case("node_confirms=4".into(), impossible());
    for wrong in ["0", "-1", "600001", "99999999999", "99999999999999999999999", "abc", "", "1s", "0.5"] {
        case(format!("timeout={wrong}"), value("1 to 600000"));
    }
    case("timeout=600000".into(), sent());
    for wrong in ["maybe", "", "1", "TRUE"] {
        case(format!("sloppy={wrong}"), value("'true' or 'false'"));
    }
    case("sloppy=false".into(), sent());
    case("w=1&w=1".into(), Problem(400, "doubled-parameter", "twice"));
    case("after=x".into(), Problem(400, "unknown-parameter", "known here"));
    let mut rows = queried("POST", "/chat/users/quorums/messages", cases);
    let elsewhere = |query: &str, expected| vec![(query.to_owned(), expected)];
    rows.extend(queried("GET", LOG, elsewhere("r=4", impossible())));
    rows.extend(queried("GET", LOG, elsewhere("pr=foo", value("'quorum' or 'all'"))));
    rows.extend(queried("GET", LOG, elsewhere("r=all&pr=all", Status(200))));
    let keyed = [JSON, ("Idempotency-Key", "confirmed")];
    let target = "/chat/users/quorums/messages?node_confirms=2";
    let keyed = request("POST", target, &keyed, &message("hello"));
    rows.push(row("two nodes for a keyed send", keyed, Problem(503, "too-few-nodes", "2 distinct nodes")));
    rows
}

/// The character at a place of a text replaced by another one of its alphabet.
fn flipped(text: &str, at: usize) -> String {
    let other = if text.as_bytes()[at] == b'B' { "C" } else { "B" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

/// `after` and `before`.
pub(super) fn places(given: &Given) -> Vec<Row> {
    let Given { forward, backward, id, .. } = given;
    let wrong = |word| Problem(400, "bad-position", word);
    let neither = || wrong("neither a message id");
    let mut queries: Vec<(String, Expected)> = Vec::new();
    for name in ["after", "before"] {
        for text in ["", "garbage", "0", "-1", "null", "%00", "../..", &id[1..], &format!("{id}0")] {
            queries.push((format!("{name}={text}"), neither()));
        }
        queries.push((format!("{name}={}", flipped(id, 3).replace('B', "U")), neither()));
        queries.push((format!("{name}={}", "A".repeat(60_000)), neither()));
    }
    for (name, cursor) in [("after", forward), ("before", backward)] {
        for at in [0, 1, cursor.len() / 2, cursor.len() - 1] {
            queries.push((format!("{name}={}", flipped(cursor, at)), neither()));
        }
        queries.push((format!("{name}={}", &cursor[..cursor.len() - 1]), neither()));
        queries.push((format!("{name}={cursor}A"), neither()));
        queries.push((format!("{name}={cursor}{cursor}"), neither()));
        queries.push((format!("{name}={cursor}"), Status(200)));
    }
    queries.push((format!("before={forward}"), wrong("give it as 'after'")));
    queries.push((format!("after={backward}"), wrong("give it as 'before'")));
    queries.push((format!("after={forward}&before={backward}"), wrong("only without 'after'")));
    queries.push((format!("after={id}&before=end"), Status(200)));
    queries.push(("after=end".into(), neither()));
    queries.push((format!("after={}", MessageId::LARGEST), Status(200)));
    queries.push((format!("before={}", MessageId::SMALLEST), Status(200)));
    queries.push((format!("after={}&before={}", MessageId::LARGEST, MessageId::SMALLEST), Status(200)));
    queries.push((format!("after={}", id.to_lowercase()), Status(200)));
    let mut rows = queried("GET", LOG, queries);
    rows.push(row("a cursor of 100 KB", get(&format!("after={}", "A".repeat(100_000))), NotHttp));
    let elsewhere = request("GET", &format!("/chat/users/other/messages?after={forward}"), &[], b"");
    rows.push(row("another user's cursor", elsewhere, Status(200)));
    rows
}

/// What is to be deleted.
pub(super) fn deletes(given: &Given) -> Vec<Row> {
    let wrong = |word| Problem(400, "bad-position", word);
    let far = MessageId::at_ms(given.now_ms + 10 * 60_000);
    let id = &given.id;
    let cases = vec![
        (String::new(), Problem(400, "missing-parameter", "through=ID")),
        ("w=1".into(), Problem(400, "missing-parameter", "through=ID")),
        ("through".into(), wrong("32 characters")),
        ("through=".into(), wrong("32 characters")),
        ("through=garbage".into(), wrong("32 characters")),
        (format!("through={id}0"), wrong("32 characters")),
        (format!("through={}", flipped(id, 3).replace('B', "U")), wrong("byte at 3")),
        (format!("through={}", given.forward), wrong("32 characters")),
        (format!("through={far}"), wrong("future")),
        (format!("through={}", MessageId::LARGEST), wrong("future")),
        (format!("through={id}&through={id}"), Problem(400, "doubled-parameter", "twice")),
        (format!("through={id}&after={id}"), Problem(400, "unknown-parameter", "through")),
        (format!("through={id}&w=4"), Problem(400, "impossible-quorum", "from 1 to 3")),
        (format!("through={id}&node_confirms=2"), Problem(503, "too-few-nodes", "2 distinct nodes")),
        (format!("through={}", MessageId::SMALLEST), Status(204)),
        (format!("through={}", id.to_lowercase()), Status(204)),
    ];
    queried("DELETE", "/chat/users/deletes/messages", cases)
}

/// Streams that do not begin.
pub(super) fn streams() -> Vec<Row> {
    let path = "/chat/users/streams/stream";
    let wrong = |word| Problem(400, "bad-position", word);
    let cases = vec![
        ("after=garbage".into(), wrong("begins after a message id")),
        ("after=".into(), wrong("begins after a message id")),
        ("limit=5".into(), Problem(400, "unknown-parameter", "after")),
        ("r=foo".into(), Problem(400, "bad-parameter", "'all'")),
    ];
    let mut rows = queried("GET", path, cases);
    let resume = |ids: &[&str]| {
        let headers: Vec<_> = ids.iter().map(|id| ("Last-Event-ID", *id)).collect();
        request("GET", path, &headers, b"")
    };
    let id = MessageId::SMALLEST.to_string();
    rows.push(row("a Last-Event-ID that is none", resume(&["garbage"]), wrong("begins after a message id")));
    rows.push(row("a doubled Last-Event-ID", resume(&[&id, &id]), Problem(400, "doubled-header", "twice")));
    rows.push(row("a Last-Event-ID beyond ASCII", resume(&["é"]), Problem(400, "bad-header", "ASCII")));
    rows.push(row("a Last-Event-ID of 60 KB", resume(&[&"A".repeat(60_000)]), wrong("begins after")));
    let nobody = request("GET", "/chat/users//stream", &[], b"");
    rows.push(row("a stream of nobody", nobody, Problem(400, "bad-user", "empty")));
    rows
}

/// The list of users: by page, and as lines.
pub(super) fn lists() -> Vec<Row> {
    let path = "/chat/users";
    let value = |word| Problem(400, "bad-parameter", word);
    let prefix = |word| Problem(400, "bad-prefix", word);
    let after = |word| Problem(400, "bad-position", word);
    let cases: Vec<(String, Expected)> = [
        ("", Status(200)),
        ("prefix=&after=&limit=1", Status(200)),
        ("prefix=nobody%2F&after=nobody", Status(200)),
        ("limit=0", value("1 to 1000")),
        ("limit=1001", value("1 to 1000")),
        ("limit=all", value("1 to 1000")),
        ("timeout=0", value("1 to")),
        ("timeout=99999999999", value("1 to")),
        ("r=2", Problem(400, "unknown-parameter", "prefix")),
        ("before=x", Problem(400, "unknown-parameter", "prefix")),
        ("prefix=a&prefix=b", Problem(400, "doubled-parameter", "twice")),
        ("prefix=%00", prefix("control")),
        ("prefix=%ff", Problem(400, "bad-query", "UTF-8")),
        ("after=a%0Ab", after("control")),
    ]
    .map(|(query, expected)| (query.to_owned(), expected))
    .into();
    let mut rows = queried("GET", path, cases);
    rows.extend(queried(
        "GET",
        path,
        vec![
            (format!("prefix={}", "x".repeat(129)), prefix("128")),
            (format!("prefix={}", "x".repeat(60_000)), prefix("128")),
            (format!("after={}", "x".repeat(129)), after("128")),
            (format!("after={}", "x".repeat(128)), Status(200)),
        ],
    ));
    let lines = ("Accept", "application/x-ndjson");
    let streamed = |query: &str| request("GET", &format!("{path}{query}"), &[lines], b"");
    rows.push(row("lines of nobody", streamed("?prefix=nobody%2F"), Status(200)));
    rows.push(row("lines with a limit", streamed("?limit=5"), value("leave it out")));
    rows.push(row("lines after too much", streamed(&format!("?after={}", "x".repeat(129))), after("128")));
    for method in ["POST", "PUT", "DELETE"] {
        let refused = Problem(405, "method-not-allowed", "GET");
        rows.push(row(format!("{method} {path}"), request(method, path, &[JSON], b"{}"), refused));
    }
    rows
}
