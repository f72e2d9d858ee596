//! The rows of the table of wrong requests, by what is wrong with them. It knows what must be answered, not how
//! that is checked.

mod admin;
mod bodies;
mod framing;
mod kv;
mod names;
mod queries;
mod settings;

use crate::client::{JSON, message, request};

/// One request.
pub(crate) struct Row {
    /// What is special about it.
    pub(crate) name: String,
    pub(crate) request: Vec<u8>,
    /// Whether the client ends its direction behind it, so that the node need not wait for the rest.
    pub(crate) then_end: bool,
    pub(crate) expected: Expected,
}

/// What must be answered.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    /// Nothing is wrong.
    Status(u16),
    /// The same, to HEAD.
    Head(u16),
    /// Nothing is wrong with this send to the user of this name.
    Sent(String),
    /// A problem of this status and code, whose detail has this word.
    Problem(u16, &'static str, &'static str),
    /// A refusal of this status on Riak's routes, whose text has this word.
    Refused(u16, &'static str),
    /// It never reaches a route: any 4xx, or the end of the connection.
    NotHttp,
}

pub(crate) use Expected::{Head, NotHttp, Problem, Refused, Sent, Status};

/// What the node holds before the rows.
pub(crate) struct Given {
    /// A cursor of user `paged`, towards newer messages.
    pub(crate) forward: String,
    /// A cursor of user `paged`, towards older messages.
    pub(crate) backward: String,
    /// A message's id.
    pub(crate) id: String,
    /// The node's time.
    pub(crate) now_ms: u64,
    /// A key that user `taken` has used for the text "one", as the key "first".
    pub(crate) uuid: String,
}

pub(crate) fn all(given: &Given) -> Vec<Row> {
    let groups = [
        names::users(),
        bodies::texts(),
        bodies::lengths(),
        bodies::json(),
        names::senders(),
        names::keys(given),
        queries::parameters(),
        queries::quorums(),
        queries::places(given),
        queries::deletes(given),
        queries::streams(),
        queries::lists(),
        admin::reading(),
        admin::changing(),
        admin::transfers(),
        settings::settings(),
        admin::origins(),
        kv::names(),
        kv::headers(),
        kv::queries(),
        kv::bodies(),
        framing::routes(),
        framing::heads(),
        framing::smuggling(),
    ];
    groups.into_iter().flatten().collect()
}

fn row(name: impl Into<String>, request: Vec<u8>, expected: Expected) -> Row {
    Row { name: name.into(), request, then_end: false, expected }
}

/// A request behind which the client ends its direction.
fn ended(name: impl Into<String>, request: Vec<u8>, expected: Expected) -> Row {
    Row { then_end: true, ..row(name, request, expected) }
}

/// A send under an idempotency key.
pub(crate) fn keyed(user: &str, key: &str, text: &str) -> Vec<u8> {
    request(
        "POST",
        &format!("/chat/users/{user}/messages"),
        &[JSON, ("Idempotency-Key", key)],
        &message(text),
    )
}

/// A UUID of version 7.
pub(crate) fn uuid_v7(time_ms: u64, unique: u64) -> String {
    format!("{:08x}-{:04x}-7000-8000-{unique:012x}", time_ms >> 16, time_ms & 0xffff)
}

/// A ULID.
pub(crate) fn ulid(time_ms: u64, unique: u64) -> String {
    let bits = u128::from(time_ms) << 80 | u128::from(unique);
    let digit = |at: u32| char::from(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[(bits >> (5 * at) & 31) as usize]);
    (0..26).rev().map(digit).collect()
}
