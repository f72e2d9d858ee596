//! Wrong routes, and bytes that are no HTTP/1.1 or mean to be two requests at once.

use super::{Head, NotHttp, Problem, Row, Sent, ended, row};
use crate::client::{JSON, chunked, message, request};

const LOG: &str = "/chat/users/ann/messages";

/// Paths and methods that are not there.
pub(super) fn routes() -> Vec<Row> {
    let nowhere = |word| Problem(404, "no-such-route", word);
    let method = |word| Problem(405, "method-not-allowed", word);
    let bare = |method: &str, target: &str| request(method, target, &[], b"");
    let mut rows = Vec::new();
    for target in [
        "/chat",
        "/chat/users/ann",
        "/chat/users/ann/messages/",
        "/chat/users/ann/messages/x",
        "/chat/users/a/b/messages",
        "//chat/users/ann/messages",
        "/CHAT/users/ann/messages",
        "/chat/./users/ann/messages",
        "/../../etc/passwd",
        "/admin",
        "/ping%00",
        "/%00",
        "/%ff",
        "/%",
    ] {
        rows.push(row(format!("GET {target}"), bare("GET", target), nowhere("docs/operations.md")));
    }
    for (verb, target, allowed) in [
        ("PUT", LOG, "GET, POST, DELETE"),
        ("PATCH", LOG, "GET, POST, DELETE"),
        ("OPTIONS", LOG, "GET, POST, DELETE"),
        ("TRACE", LOG, "GET, POST, DELETE"),
        ("BREW", LOG, "GET, POST, DELETE"),
        ("get", LOG, "GET, POST, DELETE"),
        ("POST", "/chat/users/ann/stream", "GET"),
        ("POST", "/ping", "GET"),
        ("DELETE", "/admin/status", "GET"),
        ("PUT", "/health/live", "GET"),
    ] {
        rows.push(row(format!("{verb} {target}"), bare(verb, target), method(allowed)));
    }
    rows.push(row("HEAD", bare("HEAD", LOG), Head(405)));
    rows.push(row("HEAD of nothing", bare("HEAD", "/nothing"), Head(404)));
    let long = "X".repeat(10_000);
    rows.push(row("a method of 10 000 letters", bare(&long, LOG), method("allowed")));
    rows.push(row("a method of 10 000 letters nowhere", bare(&long, "/x"), nowhere("there is no")));
    rows.push(row(
        "a path of 60 000 bytes",
        bare("GET", &format!("/{}", "x".repeat(60_000))),
        nowhere("/xxx"),
    ));
    rows.push(row("a route for the whole server", bare("OPTIONS", "*"), nowhere("OPTIONS")));
    rows.push(row("a tunnel", bare("CONNECT", "example.org:80"), nowhere("CONNECT")));
    let with_body = request("POST", "/nowhere", &[JSON], &vec![b'x'; 300 * 1024]);
    rows.push(row("a long body for nobody", with_body, nowhere("/nowhere")));
    let body = chunked(&vec![b'x'; 300 * 1024], 10_000);
    let in_chunks = [request("PUT", LOG, &[("Transfer-Encoding", "chunked")], b""), body].concat();
    rows.push(row("long chunks for nobody", in_chunks, method("allowed")));
    let whole = request("POST", &format!("http://example.org{LOG}"), &[JSON], &message("hello"));
    rows.push(row("a whole address as the target", whole, Sent("ann".into())));
    let upgrade = [("Upgrade", "websocket"), ("Connection", "upgrade")];
    rows.push(row("a web socket", request("GET", "/nothing", &upgrade, b""), nowhere("/nothing")));
    rows
}

/// Heads that are none.
pub(super) fn heads() -> Vec<Row> {
    let with = |head: &[u8]| [b"POST ".to_vec(), LOG.into(), head.to_vec()].concat();
    let sent = |head: &str| {
        let body = "{\"text\": \"hello\"}";
        let rest =
            format!(" HTTP/1.1\r\n{head}Content-Type: application/json\r\nContent-Length: 17\r\n\r\n{body}");
        with(rest.as_bytes())
    };
    let many = "X: y\r\n".repeat(97);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("an empty line", b"\r\n".into()),
        ("garbage", b"\x00\x01\x02\xff\xfe garbage \x80".repeat(50)),
        ("garbage with lines", b"not http\r\n\r\n".into()),
        ("a greeting of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".into()),
        ("a greeting of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        ("HTTP/0.9", b"GET /ping\r\n".into()),
        ("HTTP/3.0", b"GET /ping HTTP/3.0\r\nHost: n\r\n\r\n".into()),
        ("HTTP/1.10", b"GET /ping HTTP/1.10\r\nHost: n\r\n\r\n".into()),
        ("no version", b"GET /ping \r\nHost: n\r\n\r\n".into()),
        ("no target", b"GET HTTP/1.1\r\nHost: n\r\n\r\n".into()),
        ("half a head", b"GET /ping HTTP/1.1\r\nHost: n\r\n".into()),
        ("NUL in the method", b"G\0T /ping HTTP/1.1\r\nHost: n\r\n\r\n".into()),
        ("NUL in the target", b"GET /pi\0ng HTTP/1.1\r\nHost: n\r\n\r\n".into()),
        ("no Host", sent("")),
        ("two Hosts", sent("Host: a\r\nHost: b\r\n")),
        ("97 headers", sent(&format!("Host: n\r\n{many}"))),
        ("a header of 128 KiB", sent(&format!("Host: n\r\nX: {}\r\n", "y".repeat(128 * 1024)))),
        (
            "headers of 1 MiB",
            sent(&format!("Host: n\r\n{}", format!("X: {}\r\n", "y".repeat(20_000)).repeat(50))),
        ),
        ("a header without a name", sent("Host: n\r\n: y\r\n")),
        ("a header without a colon", sent("Host: n\r\nxy\r\n")),
        ("a header's name with a blank", sent("Host: n\r\nX y: z\r\n")),
        ("a header's name beyond ASCII", sent("Host: n\r\nÄ: z\r\n")),
        ("a header over two lines", sent("Host: n\r\nX: a\r\n b\r\n")),
        ("a bare carriage return in a header", sent("Host: n\r\nX: a\rY: b\r\n")),
        ("NUL in a header", sent("Host: n\r\nX: a\0b\r\n")),
        (
            "a target of 70 000 bytes",
            with(&[b"?".repeat(70_000), b" HTTP/1.1\r\nHost: n\r\n\r\n".into()].concat()),
        ),
        ("a target of 1 MiB", with(&b"?".repeat(1 << 20))),
    ];
    cases.into_iter().map(|(name, bytes)| ended(name, bytes, NotHttp)).collect()
}

/// One request to whom, in another reading, is two. The second would write to user `smuggled`.
pub(super) fn smuggling() -> Vec<Row> {
    let inner = request("POST", "/chat/users/smuggled/messages", &[JSON], &message("smuggled"));
    let outer = |version: &str, head: &str, body: &[u8]| {
        let head =
            format!("POST {LOG} HTTP/{version}\r\nHost: n\r\nContent-Type: application/json\r\n{head}\r\n");
        [head.as_bytes(), body].concat()
    };
    let one_one = |head: &str, body: &[u8]| outer("1.1", head, body);
    let after_chunks = [b"0\r\n\r\n".to_vec(), inner.clone()].concat();
    let cases = [
        (
            "a length and chunks",
            one_one("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", &after_chunks),
        ),
        (
            "chunks and a length",
            one_one("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", &after_chunks),
        ),
        ("two lengths", one_one("Content-Length: 0\r\nContent-Length: 5\r\n", &inner)),
        ("the same length twice", one_one("Content-Length: 0\r\nContent-Length: 0\r\n", &inner)),
        ("a list of lengths", one_one("Content-Length: 0, 0\r\n", &inner)),
        ("a negative length", one_one("Content-Length: -1\r\n", &inner)),
        ("a length with a sign", one_one("Content-Length: +0\r\n", &inner)),
        ("a length in hexadecimal", one_one("Content-Length: 0x0\r\n", &inner)),
        ("an empty length", one_one("Content-Length:\r\n", &inner)),
        ("a length beyond 64 bits", one_one("Content-Length: 18446744073709551616\r\n", &inner)),
        ("a blank before the colon", one_one("Content-Length : 0\r\n", &inner)),
        (
            "two encodings",
            one_one("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", &after_chunks),
        ),
        ("a list of encodings", one_one("Transfer-Encoding: gzip, chunked\r\n", &after_chunks)),
        ("an encoding that is not last", one_one("Transfer-Encoding: chunked, identity\r\n", &after_chunks)),
        ("an unknown encoding", one_one("Transfer-Encoding: xchunked\r\n", &after_chunks)),
        ("an encoding with a vertical tab", one_one("Transfer-Encoding: \x0bchunked\r\n", &after_chunks)),
        ("the encoding that is none", one_one("Transfer-Encoding: identity\r\n", &inner)),
        ("chunks in HTTP/1.0", outer("1.0", "Transfer-Encoding: chunked\r\n", &after_chunks)),
        ("no length in HTTP/1.0", outer("1.0", "", &inner)),
    ];
    let mut rows: Vec<_> = cases.into_iter().map(|(name, request)| ended(name, request, NotHttp)).collect();
    let hidden = |size: &str| {
        let body = [size.as_bytes(), b"\r\n", &inner, b"\r\n0\r\n\r\n"].concat();
        one_one("Transfer-Encoding: chunked\r\n", &body)
    };
    let unread = Problem(400, "bad-body", "read");
    rows.push(ended("a chunk's size with a sign", hidden("+0"), unread.clone()));
    rows.push(ended("a chunk's size in another notation", hidden("0x0"), unread));
    let within = one_one(&format!("Content-Length: {}\r\n", inner.len()), &inner);
    rows.push(ended("a request as a body", within, Problem(400, "bad-body", "object")));
    let refused = request("POST", "/nowhere", &[], &inner);
    rows.push(ended(
        "a request as a body that nobody reads",
        refused,
        Problem(404, "no-such-route", "/nowhere"),
    ));
    rows
}
