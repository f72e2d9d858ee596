//! Going through all items of a partition in the order of their keys. It decides which rows make an item: a
//! keyed message appears where its key's row is, its message row and its alias rows do not count, and nothing
//! at or below the user's mark is seen. It does not know who asks.

use crate::item::ChatItem;
use crate::layout::{self, LoadedKey, Row, StoredMark, StoredMessage};
use ringwork_core::keyspace::{Read, Snapshot};
use ringwork_core::store::{Direction, Flow, KeyRange, StoreError};

/// The user whose rows are being visited.
struct Current {
    prefix: Vec<u8>,
    user: String,
    mark: Option<crate::id::MessageId>,
}

/// What a row is to a fold.
enum Shown {
    Item(ChatItem),
    /// Part of an item that appears elsewhere, or of none.
    Nothing,
    /// Skipped, because it or what completes it cannot be read.
    Unreadable,
}

/// Visits all items, and tells the snapshot how many rows were skipped.
pub(crate) fn fold(
    snapshot: &Snapshot,
    range: &KeyRange,
    visit: &mut dyn FnMut(ChatItem) -> Flow,
) -> Result<(), StoreError> {
    visit_items(snapshot, range, visit, &mut || snapshot.skipped_unreadable())
}

pub(crate) fn is_empty(read: &dyn Read) -> Result<bool, StoreError> {
    let mut empty = true;
    let found = &mut |_| {
        empty = false;
        Flow::Break(())
    };
    visit_items(read, &KeyRange::all(), found, &mut || {})?;
    Ok(empty)
}

fn visit_items(
    read: &dyn Read,
    range: &KeyRange,
    visit: &mut dyn FnMut(ChatItem) -> Flow,
    skipped: &mut dyn FnMut(),
) -> Result<(), StoreError> {
    let mut current = None;
    let mut failed = None;
    read.scan(range, Direction::Ascending, &mut |key, value| match item_of(
        read,
        range,
        &mut current,
        key,
        value,
    ) {
        Ok(Shown::Item(item)) => visit(item),
        Ok(Shown::Nothing) => Flow::Continue(()),
        Ok(Shown::Unreadable) => {
            skipped();
            Flow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            Flow::Break(())
        }
    })?;
    failed.map_or(Ok(()), Err)
}

fn item_of(
    read: &dyn Read,
    range: &KeyRange,
    current: &mut Option<Current>,
    key: &[u8],
    value: &[u8],
) -> Result<Shown, StoreError> {
    if layout::is_leftover(key) {
        return Ok(Shown::Nothing);
    }
    if !current.as_ref().is_some_and(|current| key.starts_with(&current.prefix)) {
        *current = match layout::split_user(key) {
            Some((user, end)) => Some(Current {
                prefix: key.get(..end).unwrap_or_default().to_vec(),
                mark: mark_before(read, range, &user, key, value)?,
                user,
            }),
            None => None,
        };
    }
    let Some(Current { prefix, user, mark }) = current else {
        layout::count_unreadable();
        return Ok(Shown::Unreadable);
    };
    let whole = |item: Option<ChatItem>| item.map_or(Shown::Unreadable, Shown::Item);
    match key.get(prefix.len()..).and_then(layout::parse_row) {
        Some(Row::Mark) => {
            // An unreadable one was counted when the user's first row was met.
            Ok(whole(mark.map(|through| ChatItem::Mark { user: user.clone(), through })))
        }
        Some(Row::Key(name)) => match layout::complete_keyed(read, user, name, value, *mark)? {
            LoadedKey::Found(item) => Ok(Shown::Item(item)),
            LoadedKey::Missing => Ok(Shown::Nothing),
            LoadedKey::Unreadable => Ok(Shown::Unreadable),
        },
        Some(Row::Message { id, key: None }) if *mark < Some(id) => {
            let message = layout::decode_row::<StoredMessage>(value);
            Ok(whole(message.map(|m| ChatItem::Message { user: user.clone(), id, content: m.content })))
        }
        Some(Row::Message { .. } | Row::Alias) => Ok(Shown::Nothing),
        None => {
            layout::count_unreadable();
            Ok(Shown::Unreadable)
        }
    }
}

/// A user's mark, at the first of its rows in the range: this row, or one that the range leaves out. Only
/// then is it looked up.
fn mark_before(
    read: &dyn Read,
    range: &KeyRange,
    user: &str,
    key: &[u8],
    value: &[u8],
) -> Result<Option<crate::id::MessageId>, StoreError> {
    let mark = layout::mark_key(user);
    if mark == key {
        Ok(layout::decode_row::<StoredMark>(value).map(|mark| mark.through))
    } else if range.contains(&mark) {
        Ok(None)
    } else {
        layout::read_mark(read, user)
    }
}
