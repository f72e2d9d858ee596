//! Who has messages: the list that the chat gives of all its users. It decides who is on it and how a vnode is gone
//! through for that: from user to user, with a seek or two for each, however many messages there are. It does not know
//! how the lists of all vnodes become one.

use crate::chat::{Chat, ChatError};
use crate::id::MessageId;
use crate::layout::{self, Row as StoredRow, StoredMark};
use ringwork_core::coverage::question::{Question, Row, Seen};
use ringwork_core::keyspace::Snapshot;
use ringwork_core::store::{Direction, Flow, KeyRange, StoreError};
use ringwork_core::wire::Wire;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// "Which users have messages that are not deleted?"
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UserList {
    /// Only those whose names begin like this.
    pub prefix: String,
}

/// A user who has messages.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct UserRow(pub String);

impl Wire for UserList {
    const VERSION: u16 = 1;
}

impl Wire for UserRow {
    const VERSION: u16 = 1;
}

impl Row for UserRow {
    fn key(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// The first row of a range, as much of it as is needed.
struct First {
    key: Vec<u8>,
    value: Vec<u8>,
}

fn first_row(snapshot: &Snapshot, range: &KeyRange) -> Result<Option<First>, StoreError> {
    let mut first = None;
    snapshot.scan(range, Direction::Ascending, &mut |key, value| {
        // Only a mark's value is looked at, and marks are short.
        let value = value.get(..value.len().min(64)).unwrap_or_default().to_vec();
        first = Some(First { key: key.to_vec(), value });
        Flow::Break(())
    })?;
    Ok(first)
}

/// Whether there is a message of the user that can be seen, where `first` is the user's first row.
fn has_messages(snapshot: &Snapshot, user: &str, end: usize, first: &First) -> Result<bool, StoreError> {
    let mark = match first.key.get(end..).and_then(layout::parse_row) {
        // Marks lie before everything else, so there is none.
        Some(StoredRow::Message { .. }) => return Ok(true),
        Some(StoredRow::Mark) => layout::decode_row::<StoredMark>(&first.value).map(|mark| mark.through),
        _ => None,
    };
    let messages = layout::message_range(user, mark, MessageId::LARGEST);
    if messages.is_empty() {
        return Ok(false);
    }
    Ok(first_row(snapshot, &messages)?.is_some())
}

impl Question<Chat> for UserList {
    type Row = UserRow;

    fn cover(
        &self,
        snapshot: &Snapshot,
        after: Option<&[u8]>,
        visit: &mut dyn FnMut(Seen<'_, UserRow>) -> Flow,
    ) -> Result<(), ChatError> {
        let KeyRange { start, end } = KeyRange::prefix(&layout::escaped(self.prefix.as_bytes()));
        let mut range = KeyRange { start, end };
        if let Some(after) = after {
            let behind = layout::after_user(&layout::user_prefix_of(after));
            if range.contains(&behind) {
                range.start = Bound::Included(behind.into());
            } else if matches!(&range.start, Bound::Included(start) if behind.as_slice() > start.as_ref()) {
                return Ok(());
            }
        }
        while !range.is_empty()
            && let Some(first) = first_row(snapshot, &range)?
        {
            let next = if layout::is_leftover(&first.key) {
                layout::AFTER_LEFTOVERS.to_vec()
            } else if let Some((user, end)) = layout::split_user(&first.key) {
                let seen = if has_messages(snapshot, &user, end, &first)? {
                    visit(Seen::Row { routing_key: user.as_bytes(), row: UserRow(user.clone()) })
                } else {
                    visit(Seen::Nothing { key: user.as_bytes() })
                };
                if seen.is_break() {
                    return Ok(());
                }
                layout::after_user(first.key.get(..end).unwrap_or_default())
            } else {
                layout::count_unreadable();
                [first.key.as_slice(), &[0]].concat()
            };
            range.start = Bound::Included(next.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bed::{Bed, id_at, keyed, mark, message};
    use ringwork_core::coverage::page::{Page, PageBounds, read_page};
    use ringwork_core::ids::Partition;
    use ringwork_core::limits::{LISTING_PAGE_BYTES_MAX, LISTING_PAGE_LOOKS_MAX};

    fn page(bed: &Bed, prefix: &str, after: Option<&str>, rows_max: u32) -> Page<UserRow> {
        let question = UserList { prefix: prefix.to_owned() };
        let after = after.map(|after| after.as_bytes().to_vec());
        let bounds = PageBounds { filter: None, after, rows_max, bytes_max: LISTING_PAGE_BYTES_MAX };
        let place = bed.place();
        let snapshot = bed.keyspace.snapshot();
        read_page::<Chat>(&snapshot, &question, &bounds, Partition(0), place.ring_size).unwrap()
    }

    fn names(page: &Page<UserRow>) -> Vec<&str> {
        page.rows.iter().map(|row| row.0.as_str()).collect()
    }

    #[test]
    fn users_with_messages_are_listed_in_order_and_others_are_not() {
        let mut bed = Bed::new();
        for user in ["b", "a", "a\u{1}", "abc", "ä", "z"] {
            for ms in 10..40 {
                bed.merge(message(user, id_at(ms), "x"));
            }
        }
        bed.merge(keyed("keyed", "k", id_at(5), Some("x")));
        bed.merge(keyed("keyed and deleted", "k", id_at(5), None));
        bed.merge(message("deleted", id_at(5), "x"));
        bed.merge(mark("deleted", id_at(6)));
        bed.merge(mark("deleted and written again", id_at(6)));
        bed.merge(message("deleted and written again", id_at(7), "x"));
        bed.merge(mark("only marked", id_at(6)));
        bed.merge(keyed("keyed below the mark", "k", id_at(5), Some("x")));
        bed.merge(mark("keyed below the mark", id_at(6)));
        bed.merge(mark("z", id_at(20)));
        let all = page(&bed, "", None, 100);
        assert_eq!(names(&all), ["a", "a\u{1}", "abc", "b", "deleted and written again", "keyed", "z", "ä"]);
        assert_eq!(all.through, None);
        assert_eq!(names(&page(&bed, "a", None, 100)), ["a", "a\u{1}", "abc"]);
        assert_eq!(names(&page(&bed, "a", Some("a"), 1)), ["a\u{1}"]);
        assert_eq!(names(&page(&bed, "b", Some("a"), 100)), ["b"]);
        assert_eq!(names(&page(&bed, "a", Some("b"), 100)), [""; 0]);
        assert_eq!(names(&page(&bed, "", Some("b"), 2)), ["deleted and written again", "keyed"]);
    }

    #[test]
    fn rows_that_wait_to_be_removed_and_rows_that_cannot_be_read_are_passed() {
        let mut bed = Bed::new();
        for ms in 0..2000 {
            bed.merge(message("a", id_at(ms), "x"));
        }
        bed.merge(mark("a", id_at(1999)));
        bed.merge(message("b", id_at(5), "x"));
        assert!(bed.rows() > 900, "some are left");
        bed.chat.store.put(vec![b'a', 0, 7], vec![1]);
        assert_eq!(names(&page(&bed, "", None, 10)), ["b"]);
    }

    #[test]
    fn a_page_ends_after_so_many_looks_and_says_where() {
        let mut bed = Bed::new();
        for user in 0..LISTING_PAGE_LOOKS_MAX + 10 {
            bed.merge(mark(&format!("{user:06}"), id_at(6)));
        }
        bed.merge(message("last", id_at(7), "x"));
        let first = page(&bed, "", None, 10);
        assert_eq!(names(&first), [""; 0]);
        let through = first.through.unwrap();
        assert_eq!(through, format!("{:06}", LISTING_PAGE_LOOKS_MAX - 1).into_bytes());
        let second = page(&bed, "", Some(std::str::from_utf8(&through).unwrap()), 10);
        assert_eq!((names(&second), &second.through), (vec!["last"], &None));
    }
}
