//! `stream`: a user's messages as server-sent events, as they are stored. It first reads what is there after
//! the id it is given, then follows the live feed of the local vnodes; when it cannot keep up it reads from the
//! store again. Every message is shown once, a late one too.

use super::AppState;
use super::chat::written::{Calendar, push_message};
use super::chat::{Bounds, Page, read_page, stream_start, user_of, watch_user};
use super::problem::Problem;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::stream::unfold;
use ringwork_chat::limits::PAGE_MESSAGES_DEFAULT;
use ringwork_chat::{Chat, ChatItem, MessageId, PageQuery, SharedItem};
use ringwork_core::limits::CLOCK_AHEAD_MS_MAX;
use ringwork_core::quorum::{QuorumOptions, Refusal};
use ringwork_runtime::watch::{Heard, Watch};
use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::watch;

/// Silence after which a comment is sent, so that proxies and dead peers are noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often a stream on a node without a replica of the user asks the store.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);
/// Ids that a stream remembers having shown.
const SHOWN_IDS_MAX: usize = 4096;
/// How far back a stream looks when it has to read again: as far as clocks may differ.
const LOOK_BACK_MS: u64 = 2000;
/// Pause after a read that failed.
const READ_PAUSE: Duration = Duration::from_millis(500);
/// Failed reads in a row after which the stream ends; the client comes back with Last-Event-ID.
const READ_FAILURES_MAX: u32 = 20;

struct Stream {
    state: web::Data<AppState>,
    user: String,
    /// Where the client wished it to begin.
    start: Option<MessageId>,
    /// Nothing at or below it is shown: what was there before, and most of what was shown and is not remembered.
    floor: MessageId,
    watch: Watch<Chat>,
    closing: watch::Receiver<bool>,
    /// The smallest id of what was heard since the store was read last: what goes by unheard comes after it, since many
    /// are told in the order of their ids.
    heard_from: Option<MessageId>,
    /// Where to read on; none while the live feed is enough.
    reading: Option<MessageId>,
    ready: VecDeque<SharedItem>,
    shown: BTreeSet<MessageId>,
    /// The same ids in the order of showing: the oldest showing is forgotten first, not the smallest id, which
    /// may be a late one that two more replicas are about to tell.
    shown_in_order: VecDeque<MessageId>,
    failures: u32,
    greeted: bool,
    /// For how long a stream that asks the store has said nothing.
    silent: Duration,
}

pub(super) async fn stream(state: web::Data<AppState>, request: HttpRequest) -> HttpResponse {
    let begun = user_of(&request).and_then(|user| Ok((user, stream_start(&request)?)));
    let (user, start) = match begun {
        Ok(begun) => begun,
        Err(problem) => return problem.response(),
    };
    let Some(watch) = watch_user(&state, &user) else {
        return Problem::refused(&Refusal::Overloaded).response();
    };
    // A replica that is mended, or comes to be one, is given what is long known, too.
    let from_now = || MessageId::at_ms(state.core.clock.wall_ms().saturating_sub(CLOCK_AHEAD_MS_MAX));
    let stream = Stream {
        closing: state.closing.clone(),
        floor: start.unwrap_or_else(from_now),
        state,
        user,
        start,
        watch,
        heard_from: None,
        reading: start,
        ready: VecDeque::new(),
        shown: BTreeSet::new(),
        shown_in_order: VecDeque::new(),
        failures: 0,
        greeted: false,
        silent: Duration::ZERO,
    };
    let events = unfold(stream, |mut stream| async move {
        let event = stream.next_event().await?;
        Some((Ok::<_, Infallible>(web::Bytes::from(event)), stream))
    });
    HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header(("cache-control", "no-store"))
        .streaming(events)
}

impl Stream {
    /// The next piece of the body; none at the end.
    async fn next_event(&mut self) -> Option<Vec<u8>> {
        if !std::mem::replace(&mut self.greeted, true) {
            // The head leaves now, not with the first message; and with it the place to go on from, for a client that
            // loses the connection before the first message. No data, so it is no event to anybody.
            let begins = self.start.unwrap_or_else(|| self.look_back());
            return Some(format!("id: {begins}\n\n").into_bytes());
        }
        loop {
            while let Some(item) = self.ready.pop_front() {
                if let Some(event) = self.event(&item) {
                    return Some(event);
                }
            }
            if *self.closing.borrow() {
                return None;
            }
            if let Some(position) = self.reading {
                self.read_on(position).await?;
                continue;
            }
            tokio::select! {
                heard = self.watch.next() => match heard {
                    Heard::Item(item) => {
                        let id = item.id();
                        self.heard_from = Some(self.heard_from.map_or(id, |smallest| smallest.min(id)));
                        self.ready.push_back(item.into());
                    }
                    Heard::Lagged => self.reading = Some(self.look_back()),
                },
                _ = self.closing.changed() => return None,
                // Another node's vnodes tell nobody here: where this one has no replica, the store is asked.
                () = tokio::time::sleep(FOLLOW_INTERVAL), if !self.is_replica() => {
                    self.silent += FOLLOW_INTERVAL;
                    self.reading = Some(self.look_back());
                    if self.silent >= KEEP_ALIVE {
                        self.silent = Duration::ZERO;
                        return Some(b": still here\n\n".to_vec());
                    }
                }
                () = tokio::time::sleep(KEEP_ALIVE) => {
                    // What the own replica was not given is found with the others.
                    self.reading = Some(self.look_back());
                    return Some(b": still here\n\n".to_vec());
                }
            }
        }
    }

    fn is_replica(&self) -> bool {
        self.state.chat.is_replica(self.user.as_bytes())
    }

    async fn read_on(&mut self, position: MessageId) -> Option<()> {
        let query = PageQuery {
            user: self.user.clone(),
            after: Some(position),
            before: None,
            limit: PAGE_MESSAGES_DEFAULT,
            backward: false,
        };
        let bounds = Bounds::new(&self.state, (QuorumOptions::default(), self.state.request_timeout));
        match read_page(&self.state, query, bounds).await {
            Ok(Page { page, .. }) => {
                self.failures = 0;
                self.reading = page.next_after();
                self.ready.extend(page.items);
            }
            Err(_) => {
                self.failures += 1;
                if self.failures > READ_FAILURES_MAX {
                    return None;
                }
                tokio::time::sleep(READ_PAUSE).await;
            }
        }
        Some(())
    }

    /// A place before everything that may have been missed.
    fn look_back(&mut self) -> MessageId {
        // A client's own id may lie minutes ahead; what is sent now lies below it.
        let now_ms = self.state.core.clock.wall_ms();
        let newest_ms = self.shown.last().map_or(now_ms, MessageId::time_ms).min(now_ms);
        let newest = MessageId::at_ms(newest_ms.saturating_sub(LOOK_BACK_MS));
        // Of a user's messages many may come at once that are older: a hint that went home, replicas that were
        // compared.
        self.heard_from.take().map_or(newest, |heard| heard.min(newest)).max(self.floor)
    }

    fn event(&mut self, item: &ChatItem) -> Option<Vec<u8>> {
        let id = item.id();
        // Under an id that it had before its key's ids were joined; the client's own starting point is one, too.
        let known = |alias: &MessageId| self.start == Some(*alias) || self.shown.contains(alias);
        let known = matches!(item, ChatItem::Keyed { aliases, .. } if aliases.iter().any(known));
        item.content()?;
        if id <= self.floor || !self.shown.insert(id) {
            return None;
        }
        self.shown_in_order.push_back(id);
        if self.shown_in_order.len() > SHOWN_IDS_MAX
            && let Some(oldest) = self.shown_in_order.pop_front()
        {
            self.shown.remove(&oldest);
            let below = self.shown.first().map_or(oldest, |smallest| oldest.min(*smallest));
            self.floor = self.floor.max(below);
        }
        if known {
            return None;
        }
        let mut event = format!("id: {id}\ndata: ").into_bytes();
        push_message(&mut event, item, &mut Calendar::new());
        event.extend_from_slice(b"\n\n");
        Some(event)
    }
}
