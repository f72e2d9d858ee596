//! Going through all items of a partition in the order of their keys. It decides which rows make an item: a
//! keyed message appears where its key's row is, its message row and its alias rows do not count, and nothing
//! at or below the user's mark is seen. It does not know who asks.

use crate::item::ChatItem;
use crate::layout::{self, LoadedKey, Row, StoredMark, StoredMessage};
use ringwork_core::keyspace::Read;
use ringwork_core::store::{Direction, Flow, KeyRange, StoreError};

/// The user whose rows are being visited.
struct Current {
    prefix: Vec<u8>,
    user: String,
    mark: Option<crate::id::MessageId>,
}

pub(crate) fn fold(
    read: &dyn Read,
    range: &KeyRange,
    visit: &mut dyn FnMut(ChatItem) -> Flow,
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
        Ok(Some(item)) => visit(item),
        Ok(None) => Flow::Continue(()),
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
) -> Result<Option<ChatItem>, StoreError> {
    if layout::is_leftover(key) {
        return Ok(None);
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
        return Ok(None);
    };
    match key.get(prefix.len()..).and_then(layout::parse_row) {
        Some(Row::Mark) => {
            // An unreadable one was counted when the user's first row was met.
            Ok(mark.map(|through| ChatItem::Mark { user: user.clone(), through }))
        }
        Some(Row::Key(name)) => match layout::complete_keyed(read, user, name, value, *mark)? {
            LoadedKey::Found(item) => Ok(Some(item)),
            _ => Ok(None),
        },
        Some(Row::Message { id, key: None }) if *mark < Some(id) => {
            let message = layout::decode_row::<StoredMessage>(value);
            Ok(message.map(|m| ChatItem::Message { user: user.clone(), id, content: m.content }))
        }
        Some(Row::Message { .. } | Row::Alias) => Ok(None),
        None => {
            layout::count_unreadable();
            Ok(None)
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
