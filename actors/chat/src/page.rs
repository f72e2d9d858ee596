//! Reading a log by page. It decides what a page holds, which part of the log it vouches for, and what the
//! pages of replicas that differ amount to. It does not know how a client writes its place (see
//! [`crate::cursor`]) nor which replicas were asked.
//!
//! A page says which ids it *covers*: every message of the log in there is in the page. Joining pages is then
//! short: what all of them cover can be shown, anything else waits for the next page.

use crate::chat::ChatError;
use crate::id::MessageId;
use crate::item::ChatItem;
use crate::layout::{self, Row, StoredMessage};
use crate::limits::{CURSOR_SEEN_MAX, PAGE_BYTES_MAX, PAGE_MESSAGES_MAX};
use crate::shared::SharedItem;
use ringwork_core::keyspace::Read;
use ringwork_core::store::{Direction, Flow};
use ringwork_core::vnode::Item;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[cfg(test)]
mod tests;

/// Which part of a log to read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PageQuery {
    /// Whose log.
    pub user: String,
    /// Only messages later than this one.
    pub after: Option<MessageId>,
    /// Only messages earlier than this one.
    pub before: Option<MessageId>,
    /// How many. 0 is read as 1: a page that may be empty could not be paged by.
    pub limit: u16,
    /// Whether to take the newest of these instead of the oldest. They come oldest first in either case.
    pub backward: bool,
}

/// Ids later than `after`, up to and with `through`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Span {
    /// None: from the first on.
    pub after: Option<MessageId>,
    /// [`MessageId::LARGEST`]: to the last.
    pub through: MessageId,
}

impl Span {
    pub(crate) fn contains(&self, id: MessageId) -> bool {
        self.after < Some(id) && id <= self.through
    }
}

/// A part of a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PageReply {
    /// Everything up to this id is deleted.
    pub mark: Option<MessageId>,
    /// The messages, plain and keyed, by ascending id.
    pub items: Vec<SharedItem>,
    /// The ids of which all messages are here.
    pub covered: Span,
    /// Whether what was asked for goes on beyond what is covered.
    pub more: bool,
}

impl PageReply {
    /// For the next page of an ascending reader: its `after`.
    pub fn next_after(&self) -> Option<MessageId> {
        Some(self.covered.through).filter(|_| self.more)
    }

    /// For the next page of a descending reader: its `before`.
    pub fn next_before(&self) -> Option<MessageId> {
        self.covered.after.filter(|_| self.more).and_then(MessageId::next)
    }
}

/// How large a page may become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageBounds {
    /// Messages, whatever the query says.
    pub messages: usize,
    /// Bytes of text; one message is taken in any case.
    pub bytes: usize,
}

impl Default for PageBounds {
    /// A reader that looks back asks for what it has seen besides what it wants.
    fn default() -> Self {
        Self { messages: usize::from(PAGE_MESSAGES_MAX) + CURSOR_SEEN_MAX, bytes: PAGE_BYTES_MAX }
    }
}

/// What still fits into a page.
pub(crate) struct Room {
    messages: usize,
    bytes: usize,
    taken: bool,
}

impl Room {
    pub(crate) fn new(query: &PageQuery, bounds: PageBounds) -> Self {
        let messages = usize::from(query.limit).min(bounds.messages).max(1);
        Self { messages, bytes: bounds.bytes, taken: false }
    }

    /// Takes the place that a message of so many bytes of text needs; false when there is not enough.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        if self.taken && (self.messages == 0 || bytes > self.bytes) {
            return false;
        }
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.taken = true;
        true
    }
}

/// What is asked for, of a log that is deleted up to `mark`; none where it ends before the first id.
pub(crate) fn span_of(query: &PageQuery, mark: Option<MessageId>) -> Option<Span> {
    let through = match query.before {
        None => MessageId::LARGEST,
        Some(before) => before.previous()?,
    };
    Some(Span { after: query.after.max(mark), through })
}

/// Reads a page of one replica. What that costs depends on the page, not on the log.
pub fn read_page(read: &dyn Read, query: &PageQuery, bounds: PageBounds) -> Result<PageReply, ChatError> {
    let user = query.user.as_str();
    let mark = layout::read_mark(read, user)?;
    let Some(Span { after, through }) = span_of(query, mark) else {
        let covered = Span { after: query.after.max(mark), through: MessageId::SMALLEST };
        return Ok(PageReply { mark, items: Vec::new(), covered, more: false });
    };
    let direction = if query.backward { Direction::Descending } else { Direction::Ascending };
    let mut room = Room::new(query, bounds);
    let (mut items, mut more) = (Vec::new(), false);
    let prefix = layout::user_prefix(user).len();
    read.scan(&layout::message_range(user, after, through), direction, &mut |key, value| {
        let Some(item) = message_of(user, key.get(prefix..).unwrap_or_default(), value) else {
            return Flow::Continue(());
        };
        if !room.take(item.text_bytes()) {
            more = true;
            return Flow::Break(());
        }
        items.push(item.into());
        Flow::Continue(())
    })?;
    if query.backward {
        items.reverse();
    }
    let mut covered = Span { after, through };
    if more {
        cut_at(&mut covered, query, &items);
    }
    Ok(PageReply { mark, items, covered, more })
}

/// Ends what is covered where the items end.
fn cut_at(covered: &mut Span, query: &PageQuery, items: &[SharedItem]) {
    cut(covered, query, items.first().map(|item| item.id()), items.last().map(|item| item.id()));
}

/// The same, of items of which these are the first and the last id.
pub(crate) fn cut(covered: &mut Span, query: &PageQuery, first: Option<MessageId>, last: Option<MessageId>) {
    if query.backward {
        covered.after = first.map_or(Some(covered.through), MessageId::previous);
    } else {
        covered.through = last.unwrap_or(covered.through);
    }
}

fn message_of(user: &str, rest: &[u8], value: &[u8]) -> Option<ChatItem> {
    let Some(Row::Message { id, key }) = layout::parse_row(rest) else {
        layout::count_unreadable();
        return None;
    };
    let StoredMessage { content, aliases } = layout::decode_row(value)?;
    let user = user.to_owned();
    Some(match key {
        None => ChatItem::Message { user, id, content },
        Some(key) => ChatItem::Keyed { user, key: key.to_owned(), id, aliases, content: Some(content) },
    })
}

/// What makes two items of one log the same item.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Identity<'a> {
    Message(MessageId),
    Key(&'a str),
}

fn identity(item: &ChatItem) -> Option<Identity<'_>> {
    match item {
        ChatItem::Message { id, .. } => Some(Identity::Message(*id)),
        ChatItem::Keyed { key, .. } => Some(Identity::Key(key)),
        ChatItem::Mark { .. } => None,
    }
}

/// What each replica lacks, by the number it was given with its page.
pub type Repairs = Vec<(usize, ChatItem)>;

/// Joins the pages of replicas into one that skips nothing: it ends where the first of them ends that has
/// more. Each page comes with a number that the repairs refer to. None for no pages.
///
/// A page that ends early may be empty and still say that there is more; the reader goes on from
/// [`PageReply::next_after`] or [`PageReply::next_before`], which always get on.
///
/// Two halves of a split cluster may hold one key under two ids of which a page sees one. Until the halves
/// have met, which repairs bring about, a reader can then meet the message under both. A page that goes backward
/// shows it under the smaller one, where the larger lies behind the reader.
pub fn resolve(
    query: &PageQuery,
    pages: &[(usize, &PageReply)],
    bounds: PageBounds,
) -> Option<(PageReply, Repairs)> {
    let (_, first) = pages.first()?;
    if pages.iter().all(|(_, page)| page == first) && strictly_ascending(&first.items) {
        return Some(((*first).clone(), Vec::new()));
    }
    let mark = pages.iter().filter_map(|(_, page)| page.mark).max();
    // What a mark deletes is known without looking.
    let spans: Vec<Span> = pages
        .iter()
        .map(|(_, page)| Span { after: page.covered.after.max(mark), through: page.covered.through })
        .collect();
    let mut joined: BTreeMap<Identity<'_>, ChatItem> = BTreeMap::new();
    let mut places: Vec<(Identity<'_>, MessageId)> = Vec::new();
    for (_, page) in pages {
        for item in &page.items {
            let Some(identity) = identity(item) else { continue };
            let whole = match joined.remove(&identity) {
                Some(other) => {
                    let differ = [item.id(), other.id()].into_iter().filter(|_| item.id() != other.id());
                    places.extend(differ.map(|id| (identity, id)));
                    other.join(ChatItem::clone(item))
                }
                None => ChatItem::clone(item),
            };
            joined.insert(identity, whole);
        }
    }
    joined.retain(|_, item| mark < Some(item.id()) && item.content().is_some());
    let repairs = repairs(query, pages, &spans, mark, &joined);
    let (mut covered, end) = common_span(query, pages, &spans, mark);
    for (identity, place) in
        places.into_iter().filter(|(_, place)| query.backward && covered.contains(*place))
    {
        if let Some(ChatItem::Keyed { id, .. }) = joined.get_mut(&identity)
            && (*id > covered.through || covered.contains(*id) && *id < place)
        {
            *id = place;
        }
    }

    let mut items: Vec<ChatItem> = joined.into_values().collect();
    // A plain message before a keyed one of the same id, which nobody mints; of these the first is shown.
    items.sort_by(|a, b| a.id().cmp(&b.id()).then_with(|| identity(a).cmp(&identity(b))));
    items.dedup_by_key(|item| item.id());
    items.retain(|item| covered.contains(item.id()));
    let mut items: Vec<SharedItem> = items.into_iter().map(SharedItem::from).collect();
    if fit(query, bounds, &mut items) {
        cut_at(&mut covered, query, &items);
    }
    let more = if query.backward { covered.after > end.after } else { covered.through < end.through };
    Some((PageReply { mark, items, covered, more }, repairs))
}

fn strictly_ascending(items: &[SharedItem]) -> bool {
    items.windows(2).all(|pair| matches!(pair, [a, b] if a.id() < b.id()))
}

/// What all pages together vouch for, and the whole of what was asked for as far as they know it.
fn common_span(
    query: &PageQuery,
    pages: &[(usize, &PageReply)],
    spans: &[Span],
    mark: Option<MessageId>,
) -> (Span, Span) {
    let whole = || pages.iter().zip(spans).filter(|((_, page), _)| !page.more).map(|(_, span)| span);
    let afters = || spans.iter().map(|span| span.after);
    let last = spans.iter().map(|span| span.through).min().unwrap_or(MessageId::LARGEST);
    if query.backward {
        let end = Span { after: whole().map(|span| span.after).max().unwrap_or(mark), through: last };
        return (Span { after: afters().max().unwrap_or(mark), through: last }, end);
    }
    let after = afters().min().unwrap_or(mark);
    let end = whole().map(|span| span.through).min().unwrap_or(MessageId::LARGEST);
    // Replicas that begin at different places, because some know `after` for an alias and some do not, have
    // nothing in common at the earliest of them. The next page begins there for all.
    let through = match after {
        _ if afters().all(|other| other == after) => last,
        Some(after) => after,
        None => MessageId::SMALLEST,
    };
    let through = mark.map_or(through, |mark| mark.max(through));
    (Span { after, through }, Span { after, through: end })
}

/// Drops what is too much, at the end where the next page goes on. Whether it did.
fn fit(query: &PageQuery, bounds: PageBounds, items: &mut Vec<SharedItem>) -> bool {
    let mut room = Room::new(query, bounds);
    let before = items.len();
    if query.backward {
        let fitting = items.iter().rev().take_while(|item| room.take(item.text_bytes())).count();
        items.drain(..before - fitting);
    } else {
        let fitting = items.iter().take_while(|item| room.take(item.text_bytes())).count();
        items.truncate(fitting);
    }
    items.len() < before
}

/// What each replica lacks of what it should have shown, or has in another form. Of what it does not cover
/// nothing is known.
fn repairs(
    query: &PageQuery,
    pages: &[(usize, &PageReply)],
    spans: &[Span],
    mark: Option<MessageId>,
    joined: &BTreeMap<Identity<'_>, ChatItem>,
) -> Repairs {
    let mut repairs = Vec::new();
    for ((number, page), span) in pages.iter().zip(spans) {
        if let Some(through) = mark.filter(|_| page.mark < mark) {
            repairs.push((*number, ChatItem::Mark { user: query.user.clone(), through }));
        }
        let own: BTreeMap<_, _> =
            page.items.iter().filter_map(|item| identity(item).map(|identity| (identity, &**item))).collect();
        for (identity, item) in joined {
            let lacks = match own.get(identity) {
                Some(own) => *own != item,
                None => span.contains(item.id()),
            };
            if lacks {
                repairs.push((*number, item.clone()));
            }
        }
    }
    repairs
}
