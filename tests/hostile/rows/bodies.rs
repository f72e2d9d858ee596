//! Wrong bodies of a send: too long, cut off, of another type, and JSON that is none.

use super::{Expected, Problem, Row, Sent, ended, row};
use crate::client::{JSON, chunked, message, request};

const TARGET: &str = "/chat/users/bodies/messages";
const KIB: usize = 1024;

fn sent() -> Expected {
    Sent("bodies".into())
}

fn post(headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    request("POST", TARGET, headers, body)
}

fn in_chunks(chunks: Vec<u8>) -> Vec<u8> {
    [post(&[JSON, ("Transfer-Encoding", "chunked")], b""), chunks].concat()
}

/// How long a text may be.
pub(super) fn texts() -> Vec<Row> {
    let escaped = |count| format!("{{\"text\": \"{}\"}}", "\\u0001".repeat(count)).into_bytes();
    let cases = [
        ("an empty text", message(""), Problem(400, "bad-text", "empty")),
        ("a text of 16 KiB", message(&"t".repeat(16 * KIB)), sent()),
        (
            "a text of 16 KiB and a byte",
            message(&"t".repeat(16 * KIB + 1)),
            Problem(413, "too-large", "16385"),
        ),
        ("a text of 16 KiB in characters of two bytes", message(&"é".repeat(8 * KIB)), sent()),
        ("one character more", message(&"é".repeat(8 * KIB + 1)), Problem(413, "too-large", "16386")),
        ("many control characters", escaped(10_000), sent()),
        ("too many control characters", escaped(16 * KIB), Problem(413, "too-large", "65536")),
    ];
    cases.into_iter().map(|(name, body, expected)| row(name, post(&[JSON], &body), expected)).collect()
}

/// How long a body may be, and how it is announced.
pub(super) fn lengths() -> Vec<Row> {
    let padded = |bytes: usize| {
        let mut body = message("hello");
        body.resize(bytes, b' ');
        body
    };
    let too_large = || Problem(413, "too-large", "65536");
    let wrong = |word| Problem(400, "bad-body", word);
    let no_json = || Problem(415, "not-json", "application/json");
    let with_type = |kind| post(&[("Content-Type", kind)], &message("hello"));
    let cut_off = [post(&[JSON, ("Content-Length", "100")], b""), b"{\"text\"".to_vec()].concat();
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0x56, 0x2a, 0x49, 0xad, 0x28, 0x51, 0xb2, 0x52];
    vec![
        row("a body of 64 KiB", post(&[JSON], &padded(64 * KIB)), sent()),
        row("a body of 64 KiB and a byte", post(&[JSON], &padded(64 * KIB + 1)), too_large()),
        row("a body of 1 MiB", post(&[JSON], &padded(1024 * KIB)), too_large()),
        row("a body in chunks", in_chunks(chunked(&message("hello"), 3)), sent()),
        row("a body of 64 KiB in chunks", in_chunks(chunked(&padded(64 * KIB), 1000)), sent()),
        row("chunks that grow beyond 64 KiB", in_chunks(chunked(&padded(65 * KIB), 1000)), too_large()),
        row("one chunk beyond 64 KiB", in_chunks(chunked(&padded(300 * KIB), 300 * KIB)), too_large()),
        row("a chunk that announces too much", in_chunks(b"fffffffffffffffff\r\n".to_vec()), wrong("read")),
        row("a chunk that announces no number", in_chunks(b"zz\r\n".to_vec()), wrong("read")),
        ended(
            "a chunk that announces less",
            in_chunks(b"0\r\n{\"text\": \"x\"}\r\n".to_vec()),
            wrong("read"),
        ),
        ended("a body that ends within a chunk", in_chunks(b"ff\r\n{\"te".to_vec()), wrong("read")),
        ended("a body that ends too early", cut_off, wrong("read")),
        row("no body", post(&[JSON], b""), wrong("empty")),
        row("a body of no bytes", post(&[JSON, ("Content-Length", "0")], b""), wrong("empty")),
        row(
            "a body that is asked for first",
            post(&[JSON, ("Expect", "100-continue")], &message("x")),
            sent(),
        ),
        row("no content type", post(&[], &message("hello")), no_json()),
        row("plain text", with_type("text/plain"), no_json()),
        row("a form", with_type("application/x-www-form-urlencoded"), no_json()),
        row("a type that begins like JSON", with_type("application/jsonx"), no_json()),
        row("two types in one", with_type("application/json, text/plain"), no_json()),
        row("a type beyond ASCII", with_type("äpplication/json"), no_json()),
        row("JSON in capitals, with a parameter", with_type("APPLICATION/JSON; charset=utf-8"), sent()),
        row("a compressed body", post(&[JSON, ("Content-Encoding", "gzip")], &gzip), wrong("object")),
    ]
}

/// What is no message.
pub(super) fn json() -> Vec<Row> {
    let deep = |open: &str| open.repeat(10_000);
    let cases: Vec<(&str, Vec<u8>, &'static str)> = vec![
        ("a text that is a number", br#"{"text": 1}"#.into(), "expected a string"),
        ("a text that is null", br#"{"text": null}"#.into(), "expected a string"),
        ("a text that is true", br#"{"text": true}"#.into(), "expected a string"),
        ("a text that is a list", br#"{"text": ["a"]}"#.into(), "expected a string"),
        ("a text that is an object", br#"{"text": {"text": "a"}}"#.into(), "expected a string"),
        ("a sender that is a number", br#"{"text": "a", "from": 7}"#.into(), "expected a string"),
        ("a sender that is a list", br#"{"text": "a", "from": []}"#.into(), "expected a string"),
        ("a sender that is an object", br#"{"text": "a", "from": {}}"#.into(), "expected a string"),
        ("no text", br#"{"from": "bob"}"#.into(), "missing field `text`"),
        ("an empty object", b"{}".into(), "missing field `text`"),
        ("an unknown field", br#"{"text": "a", "id": "x"}"#.into(), "unknown field `id`"),
        ("a field in capitals", br#"{"TEXT": "a"}"#.into(), "unknown field `TEXT`"),
        ("a prototype", br#"{"text": "a", "__proto__": {}}"#.into(), "unknown field"),
        ("a doubled text", br#"{"text": "a", "text": "b"}"#.into(), "duplicate field `text`"),
        (
            "a doubled text in disguise",
            br#"{"text": "a", "t\u0065xt": "b"}"#.into(),
            "duplicate field `text`",
        ),
        ("a doubled sender", br#"{"text": "a", "from": "x", "from": "y"}"#.into(), "duplicate field `from`"),
        ("a lone high surrogate", br#"{"text": "\ud800"}"#.into(), "hex escape"),
        ("a lone low surrogate", br#"{"text": "\udc00"}"#.into(), "surrogate"),
        ("a surrogate beside a letter", br#"{"text": "\ud800\u0041"}"#.into(), "surrogate"),
        ("half an escape", br#"{"text": "\u00"}"#.into(), "escape"),
        ("an unknown escape", br#"{"text": "\x41"}"#.into(), "escape"),
        ("NaN", br#"{"text": NaN}"#.into(), "expected"),
        ("minus infinity", br#"{"text": -Infinity}"#.into(), "invalid number"),
        ("a huge number", format!("{{\"text\": {}}}", "9".repeat(5000)).into(), "expected"),
        ("a huge exponent", br#"{"text": 1e999999999999}"#.into(), "expected"),
        ("10 000 nested lists", deep("[").into(), "object"),
        ("10 000 nested objects", deep("{\"a\":").into(), "unknown field"),
        ("10 000 nested lists in the text", format!("{{\"text\": {}", deep("[")).into(), "expected a string"),
        (
            "10 000 nested lists in the sender",
            format!("{{\"from\": {}", deep("[")).into(),
            "expected a string",
        ),
        ("a byte that is not UTF-8", b"{\"text\": \"\xff\"}".into(), "unicode"),
        ("a surrogate in UTF-8", b"{\"text\": \"\xed\xa0\x80\"}".into(), "unicode"),
        ("a raw line's end in the text", b"{\"text\": \"a\nb\"}".into(), "control character"),
        ("a raw NUL in the text", b"{\"text\": \"\0\"}".into(), "control character"),
        ("a byte order mark", b"\xef\xbb\xbf{\"text\": \"a\"}".into(), "object"),
        ("UTF-16", "{\"text\": \"a\"}".encode_utf16().flat_map(u16::to_be_bytes).collect(), "object"),
        ("something behind", br#"{"text": "a"} x"#.into(), "trailing"),
        ("two messages", br#"{"text": "a"}{"text": "b"}"#.into(), "trailing"),
        ("a comma too many", br#"{"text": "a",}"#.into(), "trailing comma"),
        ("a comment", br#"{"text": "a" /* x */}"#.into(), "expected"),
        ("other quotation marks", b"{'text': 'a'}".into(), "expected"),
        ("an end that is missing", br#"{"text": "a""#.into(), "EOF"),
        ("blanks", b" \r\n\t".into(), "object"),
        ("null", b"null".into(), "object"),
        ("a number", b"7".into(), "object"),
        ("a string", br#""hello""#.into(), "object"),
        ("a list of what an object would hold", br#"["hello", "bob"]"#.into(), "object"),
        (
            "an unknown field of 60 000 bytes",
            format!("{{\"{}\": 1}}", "x".repeat(60_000)).into(),
            "unknown field",
        ),
        (
            "a string of 60 000 bytes",
            format!("{{\"text\": 1, \"{}\"", "\u{200b}".repeat(20_000)).into(),
            "expected",
        ),
    ];
    let mut rows: Vec<_> = cases
        .into_iter()
        .map(|(name, body, word)| row(name, post(&[JSON], &body), Problem(400, "bad-body", word)))
        .collect();
    for (name, body) in [
        ("a pair of surrogates", r#"{"text": "\ud83d\ude00"}"#),
        ("an escaped NUL", r#"{"text": "\u0000"}"#),
        ("no sender", r#"{"text": "a", "from": null}"#),
        ("blanks around", "\r\n\t {\"text\"\n:\t\"a\" } \n"),
    ] {
        rows.push(row(name, post(&[JSON], body.as_bytes()), sent()));
    }
    rows
}
