//! The chat routes: send, get, delete. Each parses, bounds, calls the typed call site and translates the
//! outcome; what a message is and how pages join, the chat module decides.

pub(super) mod written;

use super::AppState;
use super::input::{self, Query};
use super::problem::Problem;
use actix_web::http::header::{HeaderValue, LOCATION};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse, web};
use ringwork_chat::limits::{PAGE_MESSAGES_DEFAULT, PAGE_MESSAGES_MAX};
use ringwork_chat::{
    Chat, ChatCommand, ChatItem, ChatReply, Content, Cursor, IdempotencyKey, MessageId, PageQuery, PageReply,
    Position, SharedItem, validate_from, validate_text, validate_user,
};
use ringwork_core::clock::hybrid::HybridTime;
use ringwork_core::limits::CLOCK_AHEAD_MS_MAX;
use ringwork_core::quorum::{QuorumOptions, Refusal, Verdict};
use ringwork_core::vnode::Merged;
use ringwork_runtime::coordinator::{Answered, Written};
use ringwork_runtime::time::Moment;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use written::{Calendar, WRITTEN_BYTES, push_message, push_text};

/// How often a send mints anew when a delete mark lies above its id. Each mark that can be there is at most
/// five minutes ahead and is looked up before the next attempt, so the second already succeeds.
const MINT_ATTEMPTS_MAX: usize = 4;
const SEND_EXAMPLE: &str = r#"{"text": "hello", "from": "bob"}, where "from" may be left out"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendBody {
    text: String,
    from: Option<String>,
}

#[derive(Serialize)]
struct Sent<'a> {
    id: String,
    user: &'a str,
    acks: usize,
    nodes: Vec<&'a str>,
    /// Several copies were wanted, and one node has all there are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    alone: bool,
}

/// The request's own bounds: which quorums, and when it ends, however many steps it takes.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    quorum: QuorumOptions,
    ends: Moment,
}

impl Bounds {
    /// From now on.
    pub(super) fn new(state: &AppState, (quorum, within): (QuorumOptions, Duration)) -> Self {
        Self { quorum, ends: state.core.clock.moment() + within }
    }

    /// The time that is left.
    fn left(&self, state: &AppState) -> Duration {
        self.ends.saturating_sub(state.core.clock.moment())
    }
}

pub(super) fn user_of(request: &HttpRequest) -> Result<String, Problem> {
    let user = input::path_segment(request, 2, "user")?;
    validate_user(&user).map_err(|error| Problem::bad_request("bad-user", error.to_string()))?;
    Ok(user)
}

pub(super) async fn send(state: web::Data<AppState>, request: HttpRequest, payload: Payload) -> HttpResponse {
    try_send(&state, &request, payload).await.unwrap_or_else(Problem::response)
}

async fn try_send(
    state: &AppState,
    request: &HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    let user = user_of(request)?;
    let asked = Query::parse(request, &[])?.quorum(state.request_timeout)?;
    let key = match input::header(request, "idempotency-key")? {
        None => None,
        Some(text) => {
            let parsed = IdempotencyKey::parse(text, state.core.clock.wall_ms());
            Some(parsed.map_err(|error| Problem::bad_request("bad-idempotency-key", error.to_string()))?)
        }
    };
    let body: SendBody = {
        let bytes = input::body(payload, state.body_bytes_max, state.request_timeout).await?;
        input::json(request, &bytes, SEND_EXAMPLE)?
    };
    if body.text.len() > state.text_bytes_max {
        let (found, max) = (body.text.len(), state.text_bytes_max);
        return Err(Problem::too_large(format!("the text has {found} bytes, at most {max} are allowed")));
    }
    validate_text(&body.text, state.text_bytes_max)
        .map_err(|error| Problem::bad_request("bad-text", error.to_string()))?;
    if let Some(from) = &body.from {
        validate_from(from).map_err(|error| Problem::bad_request("bad-from", error.to_string()))?;
    }
    let content = Content { text: body.text, from: body.from };
    let bounds = Bounds::new(state, asked);
    match key {
        None => send_minted(state, &user, content, bounds).await,
        Some(IdempotencyKey::Id(id)) => send_with_id(state, &user, id, content, bounds).await,
        Some(IdempotencyKey::Text(key)) => send_keyed(state, &user, key, content, bounds).await,
    }
}

/// Without a key: the node mints the id, and the finished message goes to all replicas at once.
async fn send_minted(
    state: &AppState,
    user: &str,
    content: Content,
    bounds: Bounds,
) -> Result<HttpResponse, Problem> {
    let mut above = HybridTime::default();
    for _ in 0..MINT_ATTEMPTS_MAX {
        let id = MessageId::from_stamp(state.core.stamp_above(above));
        let item = ChatItem::Message { user: user.to_owned(), id, content: content.clone() };
        let written = merge(state, user, item, bounds).await?;
        if written.declined != Some(Merged::Absorbed) {
            return answer_send(state, user, id, written);
        }
        // A delete mark lies above the id: mint above the mark.
        let page = read_page(state, newest(user, None, 1), bounds).await?.page;
        above = page.mark.map_or(above, |mark| mark.hybrid_time());
    }
    let detail = "the user's log was deleted beyond the present time again and again; nothing was written";
    Err(Problem::conflict("deleted", detail))
}

/// The key is an id: the send is its own retry, at any node.
async fn send_with_id(
    state: &AppState,
    user: &str,
    id: MessageId,
    content: Content,
    bounds: Bounds,
) -> Result<HttpResponse, Problem> {
    // A join keeps one of two contents under one id, and not always the first. So whoever uses an id twice is
    // found out before anything is written; only two such sends at the same moment still meet in the join.
    let (after, before) = (id.previous(), id.next());
    let own = PageQuery { user: user.to_owned(), after, before, limit: 1, backward: false };
    let stored = read_page(state, own, bounds).await?.page;
    if stored.items.iter().any(|item| item.id() == id && item.content() != Some(&content)) {
        state.core.telemetry.merge_conflicts.increment();
        return Err(reused_key(id));
    }
    let item = ChatItem::Message { user: user.to_owned(), id, content };
    let written = merge(state, user, item, bounds).await?;
    answer_send(state, user, id, written)
}

/// The key is a text: the first replica knows whether it was used.
async fn send_keyed(
    state: &AppState,
    user: &str,
    key: String,
    content: Content,
    bounds: Bounds,
) -> Result<HttpResponse, Problem> {
    let command = ChatCommand::SendKeyed { user: user.to_owned(), key, content };
    let written =
        state.chat.key(user.as_bytes()).quorum(bounds.quorum).within(bounds.left(state)).run(command).await?;
    match written.reply {
        Some(ChatReply::Sent { conflicting: true, id, .. }) => {
            state.core.telemetry.merge_conflicts.increment();
            Err(reused_key(id))
        }
        // Its own key is the one to send again with.
        Some(ChatReply::Sent { .. }) if written.verdict == Verdict::Unknown => {
            Err(failed_send(&written.verdict, None))
        }
        Some(ChatReply::Sent { id, .. }) => answer_send(state, user, id, written),
        _ => Err(failed_send(&written.verdict, None)),
    }
}

fn reused_key(id: MessageId) -> Problem {
    let detail =
        "this Idempotency-Key was used for a message with another content; take a new key for a new message";
    Problem::conflict("idempotency-key-reused", detail).with("id", id.to_string())
}

fn answer_send<R>(
    state: &AppState,
    user: &str,
    id: MessageId,
    written: Written<R>,
) -> Result<HttpResponse, Problem> {
    match (&written.verdict, written.declined) {
        (Verdict::Done, _) => {}
        (Verdict::Declined, Some(Merged::Absorbed)) => {
            let detail = "the user's log has been deleted up to an id above this one: the message was deleted, \
                          or came too late to be stored";
            return Err(Problem::conflict("deleted", detail).with("id", id.to_string()));
        }
        (Verdict::Declined, _) => return Err(reused_key(id)),
        (verdict, _) => return Err(failed_send(verdict, Some(id))),
    }
    let text = id.to_string();
    let names: Vec<Arc<str>> = written.nodes.iter().map(|node| state.core.name_of(*node)).collect();
    let nodes = names.iter().map(AsRef::as_ref).collect();
    // After the id just below, a page begins with this one; below the smallest there is none.
    let after = id.previous().map(|below| format!("after={below}&")).unwrap_or_default();
    let location = format!("/chat/users/{}/messages?{after}limit=1", encode_segment(user));
    let sent = Sent { id: text, user, acks: written.acks, nodes, alone: written.alone };
    let mut response = HttpResponse::Created();
    if let Ok(value) = HeaderValue::from_str(&location) {
        response.insert_header((LOCATION, value));
    }
    Ok(response.json(sent))
}

fn failed_send(verdict: &Verdict, id: Option<MessageId>) -> Problem {
    if let Verdict::Refused(refusal) = verdict {
        return Problem::refused(refusal);
    }
    match id {
        Some(id) => Problem::unknown(
            "too few replicas confirmed in time; the message may still appear. To make sure, send it again \
             with the header 'Idempotency-Key' set to this answer's idempotency_key: it will be stored once",
        )
        .with("id", id.to_string())
        .with("idempotency_key", IdempotencyKey::text_for(id)),
        None => Problem::unknown(
            "too few replicas confirmed in time; the message may still appear. To make sure, send it again \
             with the same Idempotency-Key: it will be stored once",
        ),
    }
}

async fn merge(
    state: &AppState,
    user: &str,
    item: ChatItem,
    bounds: Bounds,
) -> Result<Written<ChatReply>, Problem> {
    Ok(state.chat.key(user.as_bytes()).quorum(bounds.quorum).within(bounds.left(state)).merge(item).await?)
}

/// Percent-encodes everything but letters, digits and `-._~`.
fn encode_segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// The newest messages, or those before a place.
fn newest(user: &str, before: Option<MessageId>, limit: u16) -> PageQuery {
    PageQuery { user: user.to_owned(), after: None, before, limit, backward: true }
}

/// A page, and whether fewer than r complete replicas stand behind it.
pub(super) struct Page {
    pub(super) page: PageReply,
    pub(super) degraded: bool,
}

pub(super) async fn read_page(state: &AppState, query: PageQuery, bounds: Bounds) -> Result<Page, Problem> {
    let user = query.user.clone();
    let key = state.chat.key(user.as_bytes()).quorum(bounds.quorum).within(bounds.left(state));
    match key.read(ChatCommand::Page(query)).await? {
        Ok(Answered { reply: ChatReply::Page(page), degraded }) => Ok(Page { page, degraded }),
        Ok(_) => Err(Problem::unknown("the replicas answered something else")),
        Err(failure) => Err(failure.into()),
    }
}

/// Where a page begins or ends: an id, or a cursor from an earlier page.
enum Place {
    Id(MessageId),
    Cursor(Cursor),
}

fn place(name: &str, text: &str) -> Result<Place, Problem> {
    if let Ok(id) = MessageId::from_str(text) {
        return Ok(Place::Id(id));
    }
    text.parse().map(Place::Cursor).map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        let detail = format!(
            "{name}={shown:?} is neither a message id (32 characters) nor a cursor as 'next' and 'resume' give them"
        );
        Problem::bad_request("bad-position", detail)
    })
}

pub(super) async fn get(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    try_get(&state, &request).await.unwrap_or_else(Problem::response)
}

async fn try_get(state: &AppState, request: &HttpRequest) -> Result<HttpResponse, Problem> {
    let user = user_of(request)?;
    let query = Query::parse(request, &["after", "before", "limit"])?;
    let bounds = Bounds::new(state, query.quorum(state.request_timeout)?);
    let limit = query.number("limit", 1, u64::from(PAGE_MESSAGES_MAX))?;
    let limit = limit.map_or(PAGE_MESSAGES_DEFAULT, |limit| limit as u16);
    let after = query.get("after").map(|text| place("after", text)).transpose()?;
    let before = match query.get("before") {
        None | Some("end") => None,
        Some(text) => Some(place("before", text)?),
    };
    if query.get("before").is_some() && after.is_none() {
        return page_backward(state, &user, before, limit, bounds).await;
    }
    let before = match before {
        None => None,
        Some(Place::Id(id)) => Some(id),
        Some(Place::Cursor(_)) => {
            let detail = "'before' takes a cursor only without 'after'; give a message id";
            return Err(Problem::bad_request("bad-position", detail));
        }
    };
    page_forward(state, &user, after, before, limit, bounds).await
}

async fn page_forward(
    state: &AppState,
    user: &str,
    after: Option<Place>,
    before: Option<MessageId>,
    limit: u16,
    bounds: Bounds,
) -> Result<HttpResponse, Problem> {
    let position = match after {
        None => Position::start(),
        Some(Place::Id(id)) => Position::after(id),
        Some(Place::Cursor(Cursor::Forward(position))) => position,
        Some(Place::Cursor(Cursor::Backward { .. })) => {
            let detail = "this cursor pages backward: give it as 'before'";
            return Err(Problem::bad_request("bad-position", detail));
        }
    };
    let now_ms = state.core.clock.wall_ms();
    let query = PageQuery { before, ..position.query(user, limit) };
    let Page { page, degraded } = read_page(state, query, bounds).await?;
    let step = position.advance(page, limit, now_ms);
    let cursor = Cursor::Forward(step.position).to_string();
    let next = step.more.then(|| cursor.clone());
    let resume = before.is_none().then_some(cursor);
    show(state, user, &step.items, (next, resume), degraded)
}

async fn page_backward(
    state: &AppState,
    user: &str,
    before: Option<Place>,
    limit: u16,
    bounds: Bounds,
) -> Result<HttpResponse, Problem> {
    let query = match before {
        None => newest(user, None, limit),
        Some(Place::Id(id)) => newest(user, Some(id), limit),
        Some(Place::Cursor(Cursor::Backward { before })) => newest(user, Some(before), limit),
        Some(Place::Cursor(Cursor::Forward(_))) => {
            let detail = "this cursor pages forward: give it as 'after'";
            return Err(Problem::bad_request("bad-position", detail));
        }
    };
    let Page { page, degraded } = read_page(state, query, bounds).await?;
    let next = page.next_before().map(|before| Cursor::Backward { before }.to_string());
    show(state, user, &page.items, (next, None), degraded)
}

fn show(
    state: &AppState,
    user: &str,
    items: &[SharedItem],
    (next, resume): (Option<String>, Option<String>),
    degraded: bool,
) -> Result<HttpResponse, Problem> {
    let texts: usize = items.iter().map(|item| WRITTEN_BYTES + item.text_bytes()).sum();
    let cursors: usize = [&next, &resume].into_iter().flatten().map(String::len).sum();
    let mut page = Vec::with_capacity(WRITTEN_BYTES + user.len() + texts + cursors);
    page.extend_from_slice(b"{\"user\":");
    push_text(&mut page, user);
    page.extend_from_slice(b",\"messages\":[");
    let mut calendar = Calendar::new();
    for item in items {
        if push_message(&mut page, item, &mut calendar) {
            page.push(b',');
        }
    }
    if page.last() == Some(&b',') {
        page.pop();
    }
    page.push(b']');
    for (name, cursor) in [(&b",\"next\":"[..], &next), (b",\"resume\":", &resume)] {
        page.extend_from_slice(name);
        match cursor {
            Some(cursor) => push_text(&mut page, cursor),
            None => page.extend_from_slice(b"null"),
        }
    }
    if degraded {
        page.extend_from_slice(b",\"degraded\":true");
    }
    page.push(b'}');
    let body = state.answers.hold(page).ok_or_else(|| Problem::refused(&Refusal::Overloaded))?;
    Ok(HttpResponse::Ok().content_type("application/json").body(body))
}

pub(super) async fn delete(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    try_delete(&state, &request).await.unwrap_or_else(Problem::response)
}

async fn try_delete(state: &AppState, request: &HttpRequest) -> Result<HttpResponse, Problem> {
    let user = user_of(request)?;
    let query = Query::parse(request, &["through"])?;
    let bounds = Bounds::new(state, query.quorum(state.request_timeout)?);
    let Some(text) = query.get("through") else {
        let detail = "give ?through=ID, the last message to delete: everything up to it goes for good";
        return Err(Problem::bad_request("missing-parameter", detail));
    };
    let through: MessageId = text.parse().map_err(|error| {
        Problem::bad_request("bad-position", format!("through is no message id: {error}"))
    })?;
    let latest_ms = state.core.clock.wall_ms() + CLOCK_AHEAD_MS_MAX;
    if through.time_ms() > latest_ms {
        let detail = "through lies more than five minutes in the future; messages to come cannot be deleted";
        return Err(Problem::bad_request("bad-position", detail));
    }
    // Who names a message by an id that it had before means the message, which now lies above the mark; what lies
    // between the two ids it has not named.
    if let Some(ChatItem::Keyed { key, id, aliases, content: Some(_), .. }) =
        aliased(state, &user, through, bounds).await?
    {
        let gone = ChatItem::Keyed { user: user.clone(), key, id, aliases, content: None };
        take_away(state, &user, gone, bounds).await?;
    }
    take_away(state, &user, ChatItem::Mark { user: user.clone(), through }, bounds).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn take_away(state: &AppState, user: &str, item: ChatItem, bounds: Bounds) -> Result<(), Problem> {
    let written = merge(state, user, item, bounds).await?;
    match (&written.verdict, written.declined) {
        (Verdict::Done, _) | (Verdict::Declined, Some(Merged::Absorbed)) => Ok(()),
        (Verdict::Refused(refusal), _) => Err(Problem::refused(refusal)),
        _ => Err(Problem::unknown("too few replicas confirmed in time; delete again to make sure")),
    }
}

/// The message of which `id` is an alias.
async fn aliased(
    state: &AppState,
    user: &str,
    id: MessageId,
    bounds: Bounds,
) -> Result<Option<ChatItem>, Problem> {
    let command = ChatCommand::Aliased { user: user.to_owned(), id };
    match state
        .chat
        .key(user.as_bytes())
        .quorum(bounds.quorum)
        .within(bounds.left(state))
        .read(command)
        .await?
    {
        Ok(Answered { reply: ChatReply::Aliased(item), .. }) => Ok(item),
        Ok(_) => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// Where a stream begins: after this id.
pub(super) fn stream_start(request: &HttpRequest) -> Result<Option<MessageId>, Problem> {
    let query = Query::parse(request, &["after"])?;
    query.quorum(Duration::from_secs(1))?;
    let resumed = input::header(request, "last-event-id")?.filter(|text| !text.is_empty());
    let Some(text) = resumed.or(query.get("after")) else { return Ok(None) };
    text.parse().map(Some).map_err(|error| {
        let detail = format!("a stream begins after a message id, and this is none: {error}");
        Problem::bad_request("bad-position", detail)
    })
}

/// The service's key of a user.
pub(super) fn watch_user(state: &AppState, user: &str) -> Option<ringwork_runtime::watch::Watch<Chat>> {
    state.chat.watch(user.as_bytes())
}

#[cfg(test)]
mod tests;
