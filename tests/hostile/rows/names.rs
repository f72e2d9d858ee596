//! Wrong names: of users, of senders, of messages (idempotency keys).

use super::{Expected, Given, NotHttp, Problem, Row, Sent, keyed, row, ulid, uuid_v7};
use crate::client::{JSON, message, request, send};
use ringwork::chat::MessageId;
use serde_json::json;

/// What is refused in the path, and what is nothing but a strange name.
pub(super) fn users() -> Vec<Row> {
    let user = |name: &str| Problem(400, "bad-user", if name == "empty" { "empty" } else { "control" });
    let path = |word| Problem(400, "bad-path", word);
    let named = |name: &str| Sent(name.to_owned());
    let cases: Vec<(&str, String, Expected)> = vec![
        ("an empty user", String::new(), user("empty")),
        ("a user of 128 bytes", "u".repeat(128), Sent("u".repeat(128))),
        ("a user of 129 bytes", "u".repeat(129), Problem(400, "bad-user", "129 bytes")),
        ("a user of 64 characters of two bytes", "%C3%A9".repeat(64), Sent("é".repeat(64))),
        (
            "a user of 128 characters of two bytes",
            "%C3%A9".repeat(128),
            Problem(400, "bad-user", "256 bytes"),
        ),
        ("a user of 60 000 bytes", "u".repeat(60_000), Problem(400, "bad-user", "60000 bytes")),
        ("a user that is not UTF-8", "%FF%FE".into(), path("UTF-8")),
        ("a user that ends within a character", "%C3".into(), path("UTF-8")),
        ("an overlong slash", "%C0%AF".into(), path("UTF-8")),
        ("a surrogate in UTF-8", "%ED%A0%80".into(), path("UTF-8")),
        ("a lone percent sign", "%".into(), path("hexadecimal")),
        ("half an escape", "ann%4".into(), path("hexadecimal")),
        ("an escape of other letters", "%zz".into(), path("hexadecimal")),
        ("an escape with a sign", "%+1".into(), path("hexadecimal")),
        ("NUL", "a%00b".into(), user("NUL")),
        ("a line's end that would split a header", "a%0D%0ASet-Cookie:%20x=1".into(), user("CRLF")),
        ("DEL", "%7F".into(), user("DEL")),
        ("a control character beyond ASCII", "%C2%85".into(), user("NEL")),
        ("an encoded slash", "a%2Fb".into(), named("a/b")),
        ("a traversal", "..%2f..%2fetc%2fpasswd".into(), named("../../etc/passwd")),
        ("two dots", "..".into(), named("..")),
        ("two encoded dots", "%2e%2e".into(), named("..")),
        ("an encoded backslash", "..%5c..".into(), named("..\\..")),
        ("an encoded percent sign", "%2525".into(), named("%25")),
        ("a plus is a plus in a path", "a+b".into(), named("a+b")),
        ("an encoded space", "a%20b".into(), named("a b")),
        ("an encoded question mark", "a%3Fw=9".into(), named("a?w=9")),
        ("a character that turns the writing round", "%E2%80%AEann".into(), named("\u{202e}ann")),
        ("a composed character", "%C3%A9".into(), named("\u{e9}")),
        ("a decomposed character", "e%CC%81".into(), named("e\u{301}")),
        ("path parameters", "ann;role=admin".into(), named("ann;role=admin")),
        ("quotation marks", "%22%27%3C%3E".into(), named("\"'<>")),
    ];
    let mut rows: Vec<_> =
        cases.into_iter().map(|(name, user, expected)| row(name, send(&user, "hello"), expected)).collect();
    rows.push(row("a raw space", send("a b", "hello"), NotHttp));
    let mut raw = send("a!b", "hello");
    raw[18] = 0xff;
    rows.push(row("a raw byte that is not UTF-8", raw, NotHttp));
    rows.push(row("an escaped route", escaped_route(), Sent("ann".into())));
    rows
}

fn escaped_route() -> Vec<u8> {
    request("POST", "/%63hat/users/ann/m%65ssages", &[JSON], &message("hello"))
}

/// What may stand in `from`.
pub(super) fn senders() -> Vec<Row> {
    let wrong = |word| Problem(400, "bad-from", word);
    let cases = [
        ("an empty sender", String::new(), wrong("empty")),
        ("a sender of 128 bytes", "f".repeat(128), Sent("from".into())),
        ("a sender of 129 bytes", "f".repeat(129), wrong("129 bytes")),
        ("a sender of 128 characters of two bytes", "é".repeat(128), wrong("256 bytes")),
        ("a sender with NUL", "a\0b".into(), wrong("control character at byte 1")),
        ("a sender with a line's end", "bob\r\nroot".into(), wrong("control character at byte 3")),
    ];
    let cases = cases.into_iter().map(|(name, from, expected)| {
        let body = json!({ "text": "hello", "from": from }).to_string();
        row(name, request("POST", "/chat/users/from/messages", &[JSON], body.as_bytes()), expected)
    });
    cases.collect()
}

/// Idempotency keys.
pub(super) fn keys(given: &Given) -> Vec<Row> {
    let wrong = |word| Problem(400, "bad-idempotency-key", word);
    let reused = Problem(409, "idempotency-key-reused", "another content");
    let fine = || Sent("keys".into());
    let now = given.now_ms;
    let minutes = 60_000;
    let cases: Vec<(&str, String, Expected)> = vec![
        ("an empty key", String::new(), wrong("empty")),
        ("a key of blanks", "   ".into(), wrong("empty")),
        ("a key of 128 bytes", "k".repeat(128), fine()),
        ("a key of 129 bytes", "k".repeat(129), wrong("129 bytes")),
        ("a key of 60 000 bytes", "k".repeat(60_000), wrong("60000 bytes")),
        ("a key with a tab", "a\tb".into(), wrong("control character at byte 1")),
        ("a key beyond ASCII", "schlüssel".into(), Problem(400, "bad-header", "ASCII")),
        ("a key with NUL", "a\0b".into(), NotHttp),
        ("a key with a control character", "a\u{1}b".into(), NotHttp),
        ("a key with DEL", "a\u{7f}b".into(), NotHttp),
        ("a key over two lines", "a\r\n b".into(), NotHttp),
        ("a UUIDv7 of now", uuid_v7(now, 2), fine()),
        ("a UUIDv7 of six minutes ago", uuid_v7(now - 6 * minutes, 3), wrong("behind")),
        ("a UUIDv7 in six minutes", uuid_v7(now + 6 * minutes, 4), wrong("ahead")),
        ("a UUIDv7 of 1970", uuid_v7(0, 5), wrong("behind")),
        ("a UUIDv7 of the year 10889", uuid_v7((1 << 48) - 1, 6), wrong("ahead")),
        ("a ULID of now", ulid(now, 2), fine()),
        ("a ULID of six minutes ago", ulid(now - 6 * minutes, 3), wrong("behind")),
        (
            "a ULID in six minutes, in small letters",
            ulid(now + 6 * minutes, 4).to_lowercase(),
            wrong("ahead"),
        ),
        ("a ULID of too many bits is a text", "8".repeat(26), fine()),
        ("a UUIDv4 is a text", "9b2b1f0e-1111-4222-8333-123456789abc".into(), fine()),
        ("an id after id:", format!("id:{}", given.id), fine()),
        (
            "an id after id:, ten minutes ahead",
            format!("id:{}", MessageId::at_ms(now + 10 * minutes)),
            wrong("ahead"),
        ),
        ("the largest id after id:", format!("id:{}", MessageId::LARGEST), wrong("ahead")),
        ("the smallest id after id:", format!("id:{}", MessageId::SMALLEST), fine()),
        ("no id after id:", "id:garbage".into(), fine()),
        ("a key that is a path", "../../etc/passwd".into(), fine()),
    ];
    let mut rows: Vec<_> = cases
        .into_iter()
        .map(|(name, key, expected)| row(name, keyed("keys", &key, "hello"), expected))
        .collect();
    rows.push(row("a used key with another text", keyed("taken", "first", "two"), reused.clone()));
    rows.push(row("a used UUIDv7 with another text", keyed("taken", &given.uuid, "two"), reused.clone()));
    let other_sender = json!({ "text": "one", "from": "bob" }).to_string();
    let headers = [JSON, ("Idempotency-Key", "first")];
    let other_sender = request("POST", "/chat/users/taken/messages", &headers, other_sender.as_bytes());
    rows.push(row("a used key with another sender", other_sender, reused));
    let deleted = keyed("gone", &uuid_v7(now - minutes, 1), "two");
    rows.push(row("a key below a delete mark", deleted, Problem(409, "deleted", "deleted up to")));
    for (name, second) in
        [("a doubled key", "Idempotency-Key"), ("a key doubled in capitals", "IDEMPOTENCY-KEY")]
    {
        let headers = [JSON, ("Idempotency-Key", "a"), (second, "a")];
        let doubled = request("POST", "/chat/users/keys/messages", &headers, &message("hello"));
        rows.push(row(name, doubled, Problem(400, "doubled-header", "twice")));
    }
    rows
}
