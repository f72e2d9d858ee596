//! How a partition's logs lie in its keyspace: the keys of the rows, their values, and reading both back. It
//! decides bytes on disk, so what is here stays for ever. It does not know what rows mean to one another.
//!
//! A row's key is the user, escaped so that no user's rows lie between another's, then one byte that says
//! what follows, then that. Reading is total: what cannot be read is counted and skipped by the callers, for
//! one damaged row must not hide a log, and other replicas hold what it said.
//!
//! | tag | key continues with | value |
//! |---|---|---|
//! | 1 mark | nothing | the last deleted id |
//! | 2 key | the idempotency key | id, aliases, deleted |
//! | 3 alias | the alias | the id it stands for, the key |
//! | 4 message | the id, then the idempotency key if there is one | content, aliases |
//!
//! A message's row carries its key so that a message and a keyed message of one id, which nobody mints, are
//! two rows and do not overwrite each other. Users with deleted rows that are still to be removed are listed
//! under a prefix that no user's name escapes to.

use crate::id::MessageId;
use crate::item::{ChatItem, Content};
use ringwork_core::keyspace::Read;
use ringwork_core::store::{KeyRange, StoreError};
use ringwork_core::wire::{Wire, from_stored};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};

const MARK: u8 = 1;
const KEY: u8 = 2;
const ALIAS: u8 = 3;
const MESSAGE: u8 = 4;
const ID_BYTES: usize = 20;
/// An escaped user has 0x00 0x00 (its end) or 0x00 0xff (a NUL) there, never 0x00 0x01.
const LEFTOVERS: [u8; 2] = [0, 1];
/// Where the keys after the leftovers begin.
pub(crate) const AFTER_LEFTOVERS: [u8; 2] = [0, 2];

static UNREADABLE: AtomicU64 = AtomicU64::new(0);

/// How often this process met a row that it could not read and skipped it. A row that stays unreadable is
/// counted each time.
pub fn unreadable_rows() -> u64 {
    UNREADABLE.load(Ordering::Relaxed)
}

pub(crate) fn count_unreadable() {
    UNREADABLE.fetch_add(1, Ordering::Relaxed);
}

/// A key's row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct StoredKey {
    pub(crate) id: MessageId,
    pub(crate) aliases: BTreeSet<MessageId>,
    /// Deleted for a reason other than this replica's mark, which is looked at in any case.
    pub(crate) deleted: bool,
}

/// An alias's row. Should two keys claim one alias, the smaller key's is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct StoredAlias {
    pub(crate) id: MessageId,
    pub(crate) key: String,
}

/// A message's row. The aliases are those of its key, here too so that a page needs no second look.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct StoredMessage {
    pub(crate) content: Content,
    pub(crate) aliases: BTreeSet<MessageId>,
}

/// A mark's row.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct StoredMark {
    pub(crate) through: MessageId,
}

impl Wire for StoredKey {
    const VERSION: u16 = 1;
}
impl Wire for StoredAlias {
    const VERSION: u16 = 1;
}
impl Wire for StoredMessage {
    const VERSION: u16 = 1;
}
impl Wire for StoredMark {
    const VERSION: u16 = 1;
}

/// What a user's name, or the beginning of one, is in a key.
pub(crate) fn escaped(user: &[u8]) -> Vec<u8> {
    // Room for what most rows add.
    let mut escaped = Vec::with_capacity(user.len() + 3 + ID_BYTES);
    for byte in user {
        escaped.push(*byte);
        if *byte == 0 {
            escaped.push(0xff);
        }
    }
    escaped
}

/// As [`user_prefix`], of bytes that need not be a name.
pub(crate) fn user_prefix_of(user: &[u8]) -> Vec<u8> {
    let mut prefix = escaped(user);
    prefix.extend([0, 0]);
    prefix
}

/// What all rows of a user begin with.
pub(crate) fn user_prefix(user: &str) -> Vec<u8> {
    user_prefix_of(user.as_bytes())
}

/// The first key after all rows whose keys begin with a user's prefix.
pub(crate) fn after_user(prefix: &[u8]) -> Vec<u8> {
    let mut after = prefix.to_vec();
    after.pop();
    after.push(1);
    after
}

/// The user whose row this key names, and how long the prefix is.
pub(crate) fn split_user(key: &[u8]) -> Option<(String, usize)> {
    let mut user = Vec::new();
    let mut at = 0;
    loop {
        match (key.get(at)?, key.get(at + 1)) {
            (0, Some(0)) => return Some((String::from_utf8(user).ok()?, at + 2)),
            (0, Some(0xff)) => {
                user.push(0);
                at += 2;
            }
            (0, _) => return None,
            (byte, _) => {
                user.push(*byte);
                at += 1;
            }
        }
    }
}

/// What a key names behind its user's prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Row<'a> {
    Mark,
    Key(&'a str),
    Alias,
    Message { id: MessageId, key: Option<&'a str> },
}

pub(crate) fn parse_row(rest: &[u8]) -> Option<Row<'_>> {
    match rest.split_first()? {
        (&MARK, []) => Some(Row::Mark),
        (&KEY, key) => Some(Row::Key(std::str::from_utf8(key).ok()?)),
        (&ALIAS, id) if id.len() == ID_BYTES => Some(Row::Alias),
        (&MESSAGE, rest) => {
            let (id, key) = rest.split_first_chunk::<ID_BYTES>()?;
            let key = std::str::from_utf8(key).ok()?;
            Some(Row::Message { id: MessageId(*id), key: Some(key).filter(|key| !key.is_empty()) })
        }
        _ => None,
    }
}

fn tagged(user: &str, tag: u8, rest: &[&[u8]]) -> Vec<u8> {
    let mut key = user_prefix(user);
    key.push(tag);
    for part in rest {
        key.extend_from_slice(part);
    }
    key
}

pub(crate) fn mark_key(user: &str) -> Vec<u8> {
    tagged(user, MARK, &[])
}

pub(crate) fn keyed_key(user: &str, key: &str) -> Vec<u8> {
    tagged(user, KEY, &[key.as_bytes()])
}

pub(crate) fn alias_key(user: &str, alias: MessageId) -> Vec<u8> {
    tagged(user, ALIAS, &[&alias.0])
}

pub(crate) fn message_key(user: &str, id: MessageId, key: Option<&str>) -> Vec<u8> {
    tagged(user, MESSAGE, &[&id.0, key.unwrap_or_default().as_bytes()])
}

/// The message rows of a user above `after` up to and with `through`.
pub(crate) fn message_range(user: &str, after: Option<MessageId>, through: MessageId) -> KeyRange {
    let prefix = tagged(user, MESSAGE, &[]);
    let at = |id: MessageId| [prefix.as_slice(), &id.0].concat();
    let first = match after {
        None => Some(at(MessageId::SMALLEST)),
        Some(after) => after.next().map(at),
    };
    // Behind the last id there is still room for a row with a key.
    let end = through.next().map_or_else(|| tagged(user, MESSAGE + 1, &[]), at);
    let start = first.unwrap_or_else(|| end.clone());
    KeyRange { start: Bound::Included(start.into()), end: Bound::Excluded(end.into()) }
}

/// The rows of a user's mark and keys.
pub(crate) fn mark_and_keys(user: &str) -> KeyRange {
    let (start, end) = (tagged(user, MARK, &[]), tagged(user, ALIAS, &[]));
    KeyRange { start: Bound::Included(start.into()), end: Bound::Excluded(end.into()) }
}

/// Everything that is listed as still to be removed.
pub(crate) fn leftovers() -> KeyRange {
    KeyRange::prefix(&LEFTOVERS)
}

pub(crate) fn is_leftover(key: &[u8]) -> bool {
    key.starts_with(&LEFTOVERS)
}

/// The row that lists a user. Its value is the id up to which the rows are removed already.
pub(crate) fn leftover_key(user: &str) -> Vec<u8> {
    [LEFTOVERS.as_slice(), &user_prefix(user)].concat()
}

pub(crate) fn leftover_user(key: &[u8]) -> Option<String> {
    let (user, end) = split_user(key.get(LEFTOVERS.len()..)?)?;
    (key.len() == LEFTOVERS.len() + end).then_some(user)
}

/// A row's value; none where there is no row, or none that can be read.
pub(crate) fn read_row<T: Wire>(read: &dyn Read, key: &[u8]) -> Result<Option<T>, StoreError> {
    Ok(read.get(key)?.and_then(|value| decode_row(&value)))
}

pub(crate) fn decode_row<T: Wire>(value: &[u8]) -> Option<T> {
    from_stored(value).inspect_err(|_| count_unreadable()).ok()
}

pub(crate) fn read_mark(read: &dyn Read, user: &str) -> Result<Option<MessageId>, StoreError> {
    Ok(read_row::<StoredMark>(read, &mark_key(user))?.map(|mark| mark.through))
}

/// The keyed item of which an id is an alias, if it is one.
pub(crate) fn aliased(read: &dyn Read, user: &str, id: MessageId) -> Result<Option<ChatItem>, StoreError> {
    // Nobody but a node mints two ids for one message.
    if id.is_client_minted() {
        return Ok(None);
    }
    let Some(alias) = read_row::<StoredAlias>(read, &alias_key(user, id))? else { return Ok(None) };
    match load_keyed(read, user, &alias.key, read_mark(read, user)?)? {
        LoadedKey::Found(item) => Ok(Some(item)),
        LoadedKey::Missing | LoadedKey::Unreadable => Ok(None),
    }
}

/// What is there under an idempotency key.
pub(crate) enum LoadedKey {
    Missing,
    /// It is there, but its row or its message's cannot be read.
    Unreadable,
    /// The keyed item, as the mark leaves it.
    Found(ChatItem),
}

pub(crate) fn load_keyed(
    read: &dyn Read,
    user: &str,
    key: &str,
    mark: Option<MessageId>,
) -> Result<LoadedKey, StoreError> {
    match read.get(&keyed_key(user, key))? {
        None => Ok(LoadedKey::Missing),
        Some(value) => complete_keyed(read, user, key, &value, mark),
    }
}

/// The keyed item whose row has this value. Not emitted without its content when that is merely unreadable:
/// other replicas would take it for deleted.
pub(crate) fn complete_keyed(
    read: &dyn Read,
    user: &str,
    key: &str,
    value: &[u8],
    mark: Option<MessageId>,
) -> Result<LoadedKey, StoreError> {
    let Some(StoredKey { id, aliases, deleted }) = decode_row(value) else {
        return Ok(LoadedKey::Unreadable);
    };
    let content = if deleted || mark >= Some(id) {
        None
    } else {
        match read_row::<StoredMessage>(read, &message_key(user, id, Some(key)))? {
            Some(message) => Some(message.content),
            None => return Ok(LoadedKey::Unreadable),
        }
    };
    Ok(LoadedKey::Found(ChatItem::Keyed { user: user.to_owned(), key: key.to_owned(), id, aliases, content }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_layout_on_disk_does_not_change() {
        let id = MessageId([7; 20]);
        assert_eq!(mark_key("a"), [b'a', 0, 0, 1]);
        assert_eq!(keyed_key("\0", "k"), [0, 0xff, 0, 0, 2, b'k']);
        assert_eq!(alias_key("", id), [&[0, 0, 3][..], &[7; 20]].concat());
        assert_eq!(message_key("a", id, Some("k")), [&[b'a', 0, 0, 4][..], &[7; 20], b"k"].concat());
        assert_eq!(leftover_key("a"), [0, 1, b'a', 0, 0]);
        let row = StoredMessage {
            content: Content { text: "hi".into(), from: Some("b".into()) },
            aliases: BTreeSet::new(),
        };
        assert_eq!(ringwork_core::wire::stored(&row).unwrap(), [1, 2, b'h', b'i', 1, 1, b'b', 0]);
        let key = StoredKey { id, aliases: BTreeSet::from([id]), deleted: true };
        let expected = [&[1][..], &[7; 20], &[1], &[7; 20], &[1]].concat();
        assert_eq!(ringwork_core::wire::stored(&key).unwrap(), expected);
    }

    #[test]
    fn the_ends_of_the_id_space_make_lawful_ranges() {
        let (small, large) = (MessageId::SMALLEST, MessageId::LARGEST);
        assert!(message_range("a", None, large).contains(&message_key("a", large, Some("k"))));
        assert!(message_range("a", None, small).contains(&message_key("a", small, None)));
        assert!(message_range("a", Some(large), large).is_empty());
        assert!(message_range("a", Some(small), small).is_empty());
        assert!(!message_range("a", Some(small), large).contains(&message_key("a", small, Some("k"))));
    }

    fn user() -> impl Strategy<Value = String> {
        prop::collection::vec(prop_oneof![Just('\0'), Just('\u{1}'), Just('a'), any::<char>()], 0..6)
            .prop_map(|characters| characters.into_iter().collect())
    }

    proptest! {
        #[test]
        fn rows_are_read_back_and_users_do_not_mix(
            one in user(), other in user(), id: [u8; 20], key in ".{1,8}"
        ) {
            let id = MessageId(id);
            let keys = [
                mark_key(&one), keyed_key(&one, &key), alias_key(&one, id), message_key(&one, id, None),
                message_key(&one, id, Some(&key)),
            ];
            for row in &keys {
                let (found, end) = split_user(row).unwrap();
                prop_assert_eq!(&found, &one);
                prop_assert!(parse_row(&row[end..]).is_some());
                prop_assert!(!is_leftover(row));
                prop_assert!(*row < after_user(&user_prefix(&one)));
                if one != other {
                    prop_assert_eq!(one < other, row < &mark_key(&other));
                    prop_assert!(!row.starts_with(&user_prefix(&other)));
                }
            }
            let [.., message, keyed] = &keys;
            let rest = one.len() + one.matches('\0').count() + 2;
            prop_assert_eq!(parse_row(&message[rest..]), Some(Row::Message { id, key: None }));
            prop_assert_eq!(parse_row(&keyed[rest..]), Some(Row::Message { id, key: Some(&key) }));
            prop_assert_eq!(leftover_user(&leftover_key(&one)), Some(one));
        }

        #[test]
        fn any_bytes_are_a_row_or_none(key: Vec<u8>, value: Vec<u8>) {
            let _ = split_user(&key);
            let _ = parse_row(&key);
            let _ = leftover_user(&key);
            let _ = decode_row::<StoredKey>(&value);
            let _ = decode_row::<StoredMessage>(&value);
        }
    }
}
