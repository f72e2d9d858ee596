//! `users`: who has messages, over the whole cluster, by page or all in one stream. It decides how a list is shown so
//! that a part is never taken for the whole: a page says where the next begins, a stream ends with a line that says
//! that it is complete, or why it is not. Which vnodes are asked, the runtime decides.

use super::AppState;
use super::input::{self, Query};
use super::problem::Problem;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt;
use futures_util::stream::unfold;
use ringwork_chat::limits::validate_user_prefix;
use ringwork_chat::{Chat, UserList, UserRow, validate_user};
use ringwork_core::quorum::Refusal;
use ringwork_runtime::coordinator::Listing;
use serde::Serialize;
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Users of a page unless asked otherwise.
const PAGE_USERS_DEFAULT: usize = 100;
/// Most users of a page that a client may ask for.
const PAGE_USERS_MAX: usize = 1000;
/// Time for a stream that does not say otherwise: some millions of users.
const STREAM_WITHIN: Duration = Duration::from_secs(600);
/// Longest time that can be asked for.
const TIMEOUT_MS_MAX: u64 = 3_600_000;
/// A client that takes nothing for so long has its stream ended: others wait for the room.
const STALLED_AFTER: Duration = Duration::from_secs(60);
/// What a client says that takes a stream.
const LINES: &str = "application/x-ndjson";

#[derive(Serialize)]
struct ShownUsers {
    users: Vec<String>,
    next: Option<String>,
}

#[derive(Serialize)]
struct ShownUser<'a> {
    user: &'a str,
}

pub(super) async fn users(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let streamed = match input::header(&request, "accept") {
        Ok(accept) => accept.is_some_and(takes_lines),
        Err(problem) => return problem.response(),
    };
    let answer = if streamed { stream(state, &request).await } else { page(&state, &request).await };
    answer.unwrap_or_else(Problem::response)
}

fn takes_lines(accept: &str) -> bool {
    let essence = |kind: &str| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(LINES);
    accept.split(',').any(essence)
}

/// What is listed, from where on, and for how long.
struct Asked {
    question: UserList,
    after: Option<String>,
    within: Duration,
    limit: Option<usize>,
}

fn asked(request: &HttpRequest, within: Duration) -> Result<Asked, Problem> {
    let query = Query::parse_only(request, &["prefix", "limit", "after", "timeout"])?;
    let prefix = query.get("prefix").unwrap_or_default().to_owned();
    validate_user_prefix(&prefix).map_err(|error| Problem::bad_request("bad-prefix", error.to_string()))?;
    let after = query.get("after").filter(|after| !after.is_empty()).map(str::to_owned);
    if let Some(after) = &after {
        validate_user(after).map_err(|error| {
            let detail = format!("'after' is the name of a user, as 'next' gives it: {error}");
            Problem::bad_request("bad-position", detail)
        })?;
    }
    let limit = query.number("limit", 1, PAGE_USERS_MAX as u64)?.map(|limit| limit as usize);
    let within = query.number("timeout", 1, TIMEOUT_MS_MAX)?.map_or(within, Duration::from_millis);
    Ok(Asked { question: UserList { prefix }, after, within, limit })
}

fn begin(state: &AppState, asked: &Asked, rows_max: Option<usize>) -> Result<Listing<Chat>, Problem> {
    let after = asked.after.as_ref().map(|after| after.as_bytes().to_vec());
    let covering = state.chat.coverage(asked.question.clone()).within(asked.within).after(after);
    let covering = match rows_max {
        Some(rows) => covering.rows_max(rows),
        None => covering,
    };
    covering.list().map_err(|refusal| Problem::refused(&refusal))
}

async fn page(state: &AppState, request: &HttpRequest) -> Result<HttpResponse, Problem> {
    let asked = asked(request, state.request_timeout)?;
    let limit = asked.limit.unwrap_or(PAGE_USERS_DEFAULT);
    // One more than is shown tells whether there is more.
    let mut listing = begin(state, &asked, Some(limit + 1))?;
    let mut users: Vec<String> = Vec::new();
    while let Some(batch) = listing.next().await {
        let rows = batch.map_err(Problem::from)?;
        users.extend(rows.into_iter().map(|UserRow(user)| user));
    }
    let more = users.len() > limit;
    users.truncate(limit);
    let next = users.last().filter(|_| more).cloned();
    let page = serde_json::to_vec(&ShownUsers { users, next })
        .map_err(|error| Problem::unknown(format!("the page cannot be shown: {error}")))?;
    let body = state.answers.hold(page).ok_or_else(|| Problem::refused(&Refusal::Overloaded))?;
    Ok(HttpResponse::Ok().content_type("application/json").body(body))
}

/// A piece of a stream's body.
enum Piece {
    Users(web::Bytes),
    /// The line that says how it ended.
    Last(web::Bytes),
}

async fn stream(state: web::Data<AppState>, request: &HttpRequest) -> Result<HttpResponse, Problem> {
    let asked = asked(request, STREAM_WITHIN)?;
    if asked.limit.is_some() {
        let detail =
            format!("a stream has no 'limit': leave it out, or leave {LINES} out of 'Accept' for pages");
        return Err(Problem::bad_request("bad-parameter", detail));
    }
    let mut listing = begin(&state, &asked, None)?;
    // What fails at once is still a refusal with its status.
    let first = listing.next().await.transpose().map_err(Problem::from)?;
    let (sender, receiver) = mpsc::channel(1);
    let pump = Pump { listing, closing: state.closing.clone(), sender, users: 0, last: asked.after };
    // Apart from the connection: a client that does not read would else keep the listing, and its place, for ever.
    actix_web::rt::spawn(pump.run(first));
    let body = unfold(Some(receiver), |receiver| async move {
        let mut receiver = receiver?;
        Some(match receiver.recv().await {
            Some(Piece::Users(bytes)) => (Ok::<_, Infallible>(bytes), Some(receiver)),
            Some(Piece::Last(bytes)) => (Ok(bytes), None),
            None => (Ok(incomplete("stalled", "the client took nothing for a minute", None)), None),
        })
    });
    let mut response = HttpResponse::Ok();
    response.content_type(LINES).insert_header(("cache-control", "no-store"));
    Ok(response.streaming(body))
}

fn line(value: &impl Serialize) -> Vec<u8> {
    // What is shown here always can be; an empty line is none.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// The last line of a list that is not whole; `after` goes on where it ends.
fn incomplete(code: &str, detail: &str, after: Option<&str>) -> web::Bytes {
    line(&json!({ "complete": false, "code": code, "detail": detail, "after": after })).into()
}

/// Carries a listing to a client as fast as it reads.
struct Pump {
    listing: Listing<Chat>,
    closing: watch::Receiver<bool>,
    sender: mpsc::Sender<Piece>,
    users: u64,
    last: Option<String>,
}

impl Pump {
    async fn run(mut self, first: Option<Vec<UserRow>>) {
        let mut batch = first.map(Ok);
        loop {
            let piece = match batch {
                Some(Ok(rows)) => Piece::Users(self.lines(rows)),
                Some(Err(failure)) => self.ended(&Problem::from(failure)),
                None => Piece::Last(line(&json!({ "complete": true, "users": self.users })).into()),
            };
            let is_last = matches!(piece, Piece::Last(_));
            let sent = tokio::time::timeout(STALLED_AFTER, self.sender.send(piece)).await;
            if is_last || !matches!(sent, Ok(Ok(()))) {
                return;
            }
            batch = tokio::select! {
                batch = self.listing.next() => batch,
                () = self.sender.closed() => return,
                () = closed(&mut self.closing) => {
                    let piece = self.ended(&Problem::refused(&Refusal::Stopping));
                    let _ = tokio::time::timeout(STALLED_AFTER, self.sender.send(piece)).await;
                    return;
                }
            };
        }
    }

    fn lines(&mut self, rows: Vec<UserRow>) -> web::Bytes {
        self.users += rows.len() as u64;
        let lines: Vec<u8> = rows.iter().flat_map(|UserRow(user)| line(&ShownUser { user })).collect();
        if let Some(UserRow(user)) = rows.into_iter().next_back() {
            self.last = Some(user);
        }
        lines.into()
    }

    fn ended(&self, problem: &Problem) -> Piece {
        Piece::Last(incomplete(problem.code(), problem.detail(), self.last.as_deref()))
    }
}

/// Ends when the node is to stop.
async fn closed(closing: &mut watch::Receiver<bool>) {
    while !*closing.borrow_and_update() {
        if closing.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_given_to_those_who_say_so() {
        assert!(takes_lines("application/x-ndjson"));
        assert!(takes_lines("text/plain, Application/X-NDJSON;q=0.5"));
        assert!(!takes_lines("application/json, */*"));
        assert!(!takes_lines("application/x-ndjson-like"));
    }
}
