//! Where a reader of a log is, as an opaque text. It decides how a reader goes on so that it sees each message
//! once, even one whose id was minted by a slower clock and lands below ids that it has seen; and how that is
//! written. It does not know the store.
//!
//! A forward position looks back: it stays at the last shown id that is older than two seconds, and remembers
//! the ids shown since by 64 bits each. Reading from there again finds late ones among those.

use crate::id::MessageId;
use crate::item::ChatItem;
use crate::limits::{CURSOR_LOOK_BACK_MS, CURSOR_SEEN_MAX};
use crate::page::{PageQuery, PageReply};
use crate::shared::SharedItem;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

const VERSION: u8 = 1;
const FORWARD_START: u8 = 0;
const FORWARD: u8 = 1;
const BACKWARD: u8 = 2;
const CHECK_BYTES: usize = 4;
const BYTES_MAX: usize = 2 + 20 + 8 * CURSOR_SEEN_MAX + CHECK_BYTES;
const CHARACTERS_MAX: usize = BYTES_MAX.div_ceil(3) * 4;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Where a reader goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cursor {
    /// Towards newer messages.
    Forward(Position),
    /// Towards older ones; these do not change under the reader, so no looking back is needed.
    Backward {
        /// The next page ends before this.
        before: MessageId,
    },
}

/// Where a reader that goes forward is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Position {
    after: Option<MessageId>,
    /// Hashes of ids later than `after` that were shown, oldest first.
    seen: Vec<u64>,
}

/// What a reader gets to see of a page, and where it is then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The messages that are new to it, oldest first.
    pub items: Vec<SharedItem>,
    /// Whether there is more at once.
    pub more: bool,
    /// Where it goes on.
    pub position: Position,
}

/// A text that is not a cursor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "this is no cursor of this service; use \"next\" of an earlier page unchanged, or an id, or leave it out"
)]
pub struct CursorError;

impl Position {
    /// Before the first message.
    pub fn start() -> Self {
        Self::default()
    }

    /// After a message that the client names, and has seen: should it have got a larger id since, it is not
    /// new to the client.
    pub fn after(id: MessageId) -> Self {
        Self { after: Some(id), seen: vec![hash(&id)] }
    }

    /// What to read for a reader that wants `limit` messages. Read the wall clock *before* the read, for
    /// [`Position::advance`].
    pub fn query(&self, user: &str, limit: u16) -> PageQuery {
        PageQuery {
            user: user.to_owned(),
            after: self.after,
            before: None,
            // What it has seen comes again.
            limit: limit.saturating_add(self.seen.len() as u16),
            backward: false,
        }
    }

    /// What is new to the reader in a page read for [`Position::query`], at most `limit` messages, and where
    /// that takes it. `now_ms` is a time before the page was read: were it later, a message could arrive
    /// between and lie below the new position unseen.
    pub fn advance(&self, page: PageReply, limit: u16, now_ms: u64) -> Step {
        let known: BTreeSet<u64> = self.seen.iter().copied().collect();
        let mut passed = Vec::with_capacity(page.items.len());
        let (mut items, mut cut) = (Vec::new(), false);
        for item in page.items {
            if !is_known(&known, &item) {
                if items.len() >= usize::from(limit) {
                    cut = true;
                    break;
                }
                passed.push(item.id());
                items.push(item);
            } else {
                passed.push(item.id());
            }
        }
        let horizon_ms = now_ms.saturating_sub(CURSOR_LOOK_BACK_MS);
        let settled = |id: &MessageId| id.time_ms() < horizon_ms;
        let mut after = page.covered.after.max(passed.iter().copied().filter(settled).max());
        if page.more && !cut {
            after = after.max(Some(page.covered.through).filter(settled));
        }
        let position = Self::looking_back(after, &self.seen, &passed);
        Step { items, more: cut || page.more, position }
    }

    /// The position at `after` of a reader that had seen some before and has passed these ids now.
    fn looking_back(mut after: Option<MessageId>, before: &[u64], passed: &[MessageId]) -> Self {
        let mut seen = Vec::new();
        if !before.is_empty() {
            let hashes: BTreeSet<u64> = passed.iter().map(hash).collect();
            // Seen once and not there now: beyond the page's end, or another replica's that may show it again.
            seen.extend(before.iter().copied().filter(|hash| !hashes.contains(hash)));
        }
        let mut recent: Vec<MessageId> = passed.iter().copied().filter(|id| after < Some(*id)).collect();
        let excess = (seen.len() + recent.len()).saturating_sub(CURSOR_SEEN_MAX);
        let forgotten = excess.min(seen.len());
        seen.drain(..forgotten);
        let skipped: Vec<MessageId> = recent.drain(..excess - forgotten).collect();
        after = after.max(skipped.into_iter().max());
        seen.extend(recent.iter().map(hash));
        Self { after, seen }
    }
}

/// Under its id, or under one that it had before its key's ids were joined.
fn is_known(known: &BTreeSet<u64>, item: &ChatItem) -> bool {
    let by = |id: &MessageId| known.contains(&hash(id));
    by(&item.id()) || matches!(item, ChatItem::Keyed { aliases, .. } if aliases.iter().any(by))
}

/// FNV-1a (Fowler, Noll, Vo): the same everywhere and for ever, for cursors outlive releases.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn hash(id: &MessageId) -> u64 {
    fnv(&id.0)
}

/// Against texts that were cut or mistyped; no protection from a client that means it, and none is needed.
fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = fnv(bytes);
    ((hash >> 32 ^ hash) as u32).to_be_bytes()
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![VERSION];
        match self {
            Self::Forward(position) => {
                bytes.push(if position.after.is_some() { FORWARD } else { FORWARD_START });
                bytes.extend(position.after.iter().flat_map(|id| id.0));
                bytes.extend(position.seen.iter().flat_map(|hash| hash.to_be_bytes()));
            }
            Self::Backward { before } => {
                bytes.push(BACKWARD);
                bytes.extend(before.0);
            }
        }
        bytes.extend(check(&bytes));
        f.write_str(&to_text(&bytes))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let bytes = from_text(text).ok_or(CursorError)?;
        let (body, found) = bytes.split_last_chunk::<CHECK_BYTES>().ok_or(CursorError)?;
        if *found != check(body) {
            return Err(CursorError);
        }
        let (head, rest) = body.split_first_chunk::<2>().ok_or(CursorError)?;
        match head {
            [VERSION, FORWARD_START] => forward(None, rest),
            [VERSION, FORWARD] => {
                let (id, rest) = rest.split_first_chunk::<20>().ok_or(CursorError)?;
                forward(Some(MessageId(*id)), rest)
            }
            [VERSION, BACKWARD] => {
                let id = <[u8; 20]>::try_from(rest).map_err(|_| CursorError)?;
                Ok(Self::Backward { before: MessageId(id) })
            }
            _ => Err(CursorError),
        }
    }
}

fn forward(after: Option<MessageId>, rest: &[u8]) -> Result<Cursor, CursorError> {
    let (hashes, []) = rest.as_chunks::<8>() else { return Err(CursorError) };
    if hashes.len() > CURSOR_SEEN_MAX {
        return Err(CursorError);
    }
    let seen = hashes.iter().map(|hash| u64::from_be_bytes(*hash)).collect();
    Ok(Cursor::Forward(Position { after, seen }))
}

/// Base 64 as it may stand in an address, without padding.
fn to_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
        for at in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}

fn from_text(text: &str) -> Option<Vec<u8>> {
    if text.len() > CHARACTERS_MAX {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len());
    for chunk in text.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for at in 0..4 {
            let digit = match chunk.get(at) {
                Some(character) => ALPHABET.iter().position(|known| known == character)? as u32,
                None => 0,
            };
            bits = bits << 6 | digit;
        }
        let [_, decoded @ ..] = bits.to_be_bytes();
        let whole = chunk.len().checked_sub(1).filter(|whole| *whole > 0)?;
        // One cursor has one text: no bits may be left over.
        let (kept, over) = decoded.split_at(whole);
        if over.iter().any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend_from_slice(kept);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Content;
    use crate::page::Span;
    use proptest::prelude::*;

    fn id(time_ms: u64, unique: u8) -> MessageId {
        let mut id = MessageId::at_ms(time_ms);
        id.0[15] = unique;
        id
    }

    fn message(id: MessageId) -> SharedItem {
        ChatItem::Message { user: "u".into(), id, content: Content { text: "t".into(), from: None } }.into()
    }

    /// A page over a log, as a store with all of it would give.
    fn page(log: &BTreeSet<MessageId>, query: &PageQuery) -> PageReply {
        let mut ids: Vec<_> = log.iter().copied().filter(|id| query.after < Some(*id)).collect();
        let more = ids.len() > usize::from(query.limit);
        ids.truncate(usize::from(query.limit));
        let through = if more { ids[ids.len() - 1] } else { MessageId::LARGEST };
        let items = ids.into_iter().map(message).collect();
        PageReply { mark: None, items, covered: Span { after: query.after, through }, more }
    }

    proptest! {
        #[test]
        fn a_poller_sees_each_message_once_though_they_come_up_to_two_seconds_late(
            messages in prop::collection::vec((0u64..20_000, 0u64..2_000), 0..200),
            polls in prop::collection::vec((1u64..700, 1u16..20), 1..60),
        ) {
            let messages: Vec<_> = messages
                .into_iter()
                .enumerate()
                .map(|(n, (sent, late))| (id(1_000_000 + sent, n as u8), 1_000_000 + sent + late))
                .collect();
            let (mut shown, mut position, mut now) = (Vec::new(), Position::start(), 1_000_000);
            let mut poll = |now: u64, limit: u16| {
                let log = messages.iter().filter(|(_, at)| *at <= now).map(|(id, _)| *id).collect();
                let step = position.advance(page(&log, &position.query("u", limit)), limit, now);
                assert!(step.items.len() <= usize::from(limit));
                shown.extend(step.items.iter().map(|item| item.id()));
                let text = Cursor::Forward(step.position).to_string();
                position = match text.parse() {
                    Ok(Cursor::Forward(position)) => position,
                    other => panic!("{text} was read as {other:?}"),
                };
                step.more
            };
            for (wait, limit) in polls {
                now += wait;
                poll(now, limit);
            }
            for _ in 0..60 {
                now += 1_000;
                poll(now, 7);
            }
            while poll(now, 50) {}
            let mut expected: Vec<_> = messages.iter().map(|(id, _)| *id).collect();
            expected.sort_unstable();
            shown.sort_unstable();
            prop_assert_eq!(shown, expected);
        }

        #[test]
        fn a_cursor_is_read_back_and_a_damaged_one_is_refused(
            after: Option<[u8; 20]>, seen in prop::collection::vec(any::<u64>(), 0..20), at: prop::sample::Index
        ) {
            let position = Position { after: after.map(MessageId), seen };
            for cursor in [
                Cursor::Forward(position),
                Cursor::Backward { before: MessageId(after.unwrap_or([3; 20])) },
            ] {
                let text = cursor.to_string();
                prop_assert_eq!(text.parse(), Ok(cursor));
                let at = at.index(text.len());
                let other = if &text[at..=at] == "A" { "B" } else { "A" };
                let damaged = format!("{}{other}{}", &text[..at], &text[at + 1..]);
                prop_assert_eq!(damaged.parse::<Cursor>(), Err(CursorError));
                prop_assert_eq!(text[..at].parse::<Cursor>(), Err(CursorError));
            }
        }

        #[test]
        fn any_text_is_a_cursor_or_refused(text in "[A-Za-z0-9_-]{0,200}|.*") {
            let _ = text.parse::<Cursor>();
        }
    }

    #[test]
    fn a_long_text_is_refused_before_it_is_read() {
        assert_eq!("A".repeat(1 << 20).parse::<Cursor>(), Err(CursorError));
        let full = Position { after: Some(MessageId::LARGEST), seen: vec![u64::MAX; 512] };
        let text = Cursor::Forward(full.clone()).to_string();
        assert!(text.len() <= CHARACTERS_MAX);
        assert_eq!(text.parse(), Ok(Cursor::Forward(full)));
    }

    #[test]
    fn the_text_of_a_cursor_does_not_change() {
        let position = Position { after: Some(MessageId::SMALLEST), seen: vec![1] };
        assert_eq!(Cursor::Forward(position).to_string(), "AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABw89UZg");
    }

    #[test]
    fn too_many_recent_messages_move_the_position_up() {
        let log: BTreeSet<_> = (0..600u64).map(|n| id(1_000_000 + n / 4, (n % 4) as u8)).collect();
        let query = PageQuery { limit: 600, ..Position::start().query("u", 600) };
        let step = Position::start().advance(page(&log, &query), 600, 1_000_200);
        assert_eq!(step.items.len(), 600);
        assert_eq!(step.position.seen.len(), CURSOR_SEEN_MAX);
        assert_eq!(step.position.after, log.iter().nth(600 - CURSOR_SEEN_MAX - 1).copied());
        let again = step.position.advance(page(&log, &step.position.query("u", 9)), 9, 1_000_300);
        assert!(again.items.is_empty());
    }

    #[test]
    fn a_message_shown_under_an_alias_is_not_shown_again() {
        let (early, late) = (id(999_990, 0), id(1_000_000, 0));
        let step =
            Position::start().advance(page(&[early].into(), &Position::start().query("u", 9)), 9, 1_000_001);
        let content = Some(Content { text: "t".into(), from: None });
        let joined =
            ChatItem::Keyed { user: "u".into(), key: "k".into(), id: late, aliases: [early].into(), content };
        let mut next = page(&[late].into(), &step.position.query("u", 9));
        next.items = vec![joined.into()];
        assert!(step.position.advance(next, 9, 1_000_002).items.is_empty());
    }

    #[test]
    fn a_mark_takes_the_position_along() {
        let covered = Span { after: Some(id(5, 5)), through: id(5, 5) };
        let page = PageReply { mark: Some(id(5, 5)), items: Vec::new(), covered, more: true };
        let step = Position::start().advance(page, 9, 0);
        assert_eq!(step.position, Position { after: Some(id(5, 5)), seen: Vec::new() });
    }
}
