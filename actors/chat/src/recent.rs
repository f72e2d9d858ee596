//! What of the logs is kept in memory to be read again: of each user who was read lately one piece without gaps. It
//! decides which pages can be told from it and what of it stays when a log changes. It does not know the store: who
//! reads a page there hands it in, and who changes a log says so.
//!
//! A piece says which ids it covers, as a page does, and has every message of the log in there. So a page is told from
//! it exactly as from the store, or not at all. Whatever is not as simple as a new message makes the piece go.

use crate::digest::PageDigest;
use crate::id::MessageId;
use crate::item::ChatItem;
use crate::limits::{RECENT_BYTES_MAX, RECENT_PIECE_BYTES_MAX};
use crate::page::{PageBounds, PageQuery, PageReply, Room, Span, cut, span_of};
use crate::shared::SharedItem;
use ringwork_core::keyspace::Sequence;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::slice::Iter;

/// Bytes that an item takes beside its texts.
const ITEM_BYTES: usize = size_of::<Kept>() + SharedItem::BYTES;

/// An item, and all of it that is looked at to choose what a page has: items lie anywhere in memory, these side by
/// side.
struct Kept {
    id: MessageId,
    text_bytes: usize,
    /// What stands for it.
    sum: u128,
    item: SharedItem,
}

/// What of a piece a page has, and what a page says beside.
struct Selected<'a> {
    items: Iter<'a, Kept>,
    covered: Span,
    more: bool,
}

/// A part of a log.
pub(crate) struct Piece {
    mark: Option<MessageId>,
    covered: Span,
    /// By ascending id.
    items: Vec<Kept>,
    bytes: usize,
    /// The last turn whose writes it may rest on.
    written: Sequence,
}

/// See the module's head.
#[derive(Default)]
pub(crate) struct Recent {
    pieces: BTreeMap<String, Piece>,
    bytes: usize,
    /// Whose piece had to go last.
    dropped: String,
}

impl From<SharedItem> for Kept {
    fn from(item: SharedItem) -> Self {
        Self { id: item.id(), text_bytes: item.text_bytes(), sum: item.sum(), item }
    }
}

fn bytes_of(item: &ChatItem) -> usize {
    ITEM_BYTES + item.user().len() + item.text_bytes()
}

impl Piece {
    /// What a page has. `written`: the last turn whose writes it may rest on.
    pub(crate) fn of(page: PageReply, written: Sequence) -> Self {
        let PageReply { mark, items, covered, .. } = page;
        let bytes = size_of::<Self>() + items.iter().map(|item| bytes_of(item)).sum::<usize>();
        let items = items.into_iter().map(Kept::from).collect();
        Self { mark, covered, items, bytes, written }
    }

    /// A page; none where more is asked for than is here.
    pub(crate) fn page(&self, query: &PageQuery, bounds: PageBounds) -> Option<PageReply> {
        let Selected { items, covered, more } = self.select(query, bounds)?;
        Some(PageReply {
            mark: self.mark,
            items: items.map(|kept| kept.item.clone()).collect(),
            covered,
            more,
        })
    }

    /// What stands for that page.
    fn digest(&self, query: &PageQuery, bounds: PageBounds) -> Option<PageDigest> {
        let Selected { items, covered, more } = self.select(query, bounds)?;
        Some(PageDigest::of(self.mark, items.map(|kept| kept.sum), covered, more))
    }

    fn select(&self, query: &PageQuery, bounds: PageBounds) -> Option<Selected<'_>> {
        let asked = span_of(query, self.mark)?;
        let begins = self.covered.after <= asked.after;
        let ends = asked.through <= self.covered.through;
        let reads_on = if query.backward { ends } else { begins };
        if !reads_on {
            return None;
        }
        // Mostly it is all of them, and a search looks at places that no cache has.
        let from_the_first = self.items.first().is_some_and(|kept| Some(kept.id) > asked.after);
        let to_the_last = self.items.last().is_some_and(|kept| kept.id <= asked.through);
        let until = |holds: &dyn Fn(MessageId) -> bool| self.items.partition_point(|kept| holds(kept.id));
        let first = if from_the_first { 0 } else { until(&|id| Some(id) <= asked.after) };
        let end = if to_the_last { self.items.len() } else { until(&|id| id <= asked.through) };
        let within = self.items.get(first..end).unwrap_or_default();
        let mut room = Room::new(query, bounds);
        let mut fits = |kept: &&Kept| room.take(kept.text_bytes);
        let count = if query.backward {
            within.iter().rev().take_while(&mut fits).count()
        } else {
            within.iter().take_while(&mut fits).count()
        };
        let more = count < within.len();
        // Where the page is full, what lies beyond the piece is not asked for.
        let known_to_its_end = more || (begins && ends);
        if !known_to_its_end {
            return None;
        }
        let items = if query.backward { within.get(within.len() - count..) } else { within.get(..count) };
        let items = items.unwrap_or_default();
        let mut covered = asked;
        if more {
            let id = |at: Option<&Kept>| at.map(|kept| kept.id);
            cut(&mut covered, query, id(items.first()), id(items.last()));
        }
        Some(Selected { items: items.iter(), covered, more })
    }
}

impl Recent {
    /// Keeps a piece in place of what was kept of that user, unless it is too large.
    pub(crate) fn keep(&mut self, user: &str, piece: Piece) {
        self.forget(user);
        if piece.bytes > RECENT_PIECE_BYTES_MAX {
            return;
        }
        while self.bytes + piece.bytes > RECENT_BYTES_MAX {
            self.make_room();
        }
        self.bytes += piece.bytes;
        self.pieces.insert(user.to_owned(), piece);
    }

    /// Drops one piece: that of the next user in turn. Which one is used next nobody knows, and in turn each stays as
    /// long as any.
    fn make_room(&mut self) {
        let behind = (Bound::Excluded(self.dropped.as_str()), Bound::Unbounded);
        let next = self.pieces.range::<str, _>(behind).next().or_else(|| self.pieces.first_key_value());
        let Some(user) = next.map(|(user, _)| user.clone()) else { return };
        self.forget(&user);
        self.dropped = user;
    }

    /// A page, and the last turn whose writes it may rest on; none where more is asked for than is kept.
    pub(crate) fn page(&self, query: &PageQuery, bounds: PageBounds) -> Option<(PageReply, Sequence)> {
        let piece = self.pieces.get(&query.user)?;
        Some((piece.page(query, bounds)?, piece.written))
    }

    /// What stands for such a page; the same.
    pub(crate) fn digest(&self, query: &PageQuery, bounds: PageBounds) -> Option<(PageDigest, Sequence)> {
        let piece = self.pieces.get(&query.user)?;
        Some((piece.digest(query, bounds)?, piece.written))
    }

    /// A message has come to a log that had none with its id.
    pub(crate) fn added(&mut self, item: ChatItem, turn: Sequence) {
        let Some(piece) = self.pieces.get_mut(item.user()) else { return };
        if !piece.covered.contains(item.id()) {
            return;
        }
        let bytes = bytes_of(&item);
        if piece.bytes + bytes > RECENT_PIECE_BYTES_MAX || self.bytes + bytes > RECENT_BYTES_MAX {
            let user = item.user().to_owned();
            return self.forget(&user);
        }
        let at = piece.items.partition_point(|kept| kept.id < item.id());
        if piece.items.get(at).is_some_and(|kept| kept.id == item.id()) {
            // It was lost on the disk, and has come back.
            let user = item.user().to_owned();
            return self.forget(&user);
        }
        piece.items.insert(at, SharedItem::from(item).into());
        piece.written = turn;
        piece.bytes += bytes;
        self.bytes += bytes;
    }

    /// A log has changed otherwise.
    pub(crate) fn forget(&mut self, user: &str) {
        if let Some(piece) = self.pieces.remove(user) {
            self.bytes -= piece.bytes;
        }
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Nothing is certain any more.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
