//! Rows of a keyspace that were looked up lately, as the store has them. It decides which are kept; when a row changes,
//! the keyspace says. It does not know writes that are not committed: whoever looks something up looks for these first.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Bytes of keys and values that are kept of one keyspace, about: 16 MiB of a node that has all of a ring of 64, if all
/// of it is looked up.
const BYTES_MAX: usize = 256 * 1024;
/// Bytes of one row that is kept.
const ROW_BYTES_MAX: usize = 16 * 1024;
/// What a row takes beside its key and value.
const ROW_BYTES: usize = size_of::<(Bytes, Option<Bytes>)>() + 48;

/// See the module's head.
#[derive(Default)]
pub(super) struct Rows {
    /// None: there is no such row.
    rows: BTreeMap<Bytes, Option<Bytes>>,
    bytes: usize,
    /// What had to go last.
    dropped: Bytes,
}

fn bytes_of(key: &[u8], value: Option<&Bytes>) -> usize {
    ROW_BYTES + key.len() + value.map_or(0, Bytes::len)
}

impl Rows {
    /// The row's value, or that there is none; none where it is not kept.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.rows.get(key)
    }

    /// Keeps what was looked up.
    pub(super) fn keep(&mut self, key: &[u8], value: Option<Bytes>) {
        let bytes = bytes_of(key, value.as_ref());
        self.forget(key);
        if bytes > ROW_BYTES_MAX {
            return;
        }
        while self.bytes + bytes > BYTES_MAX {
            self.make_room();
        }
        self.bytes += bytes;
        self.rows.insert(Bytes::copy_from_slice(key), value);
    }

    /// The store has another value now. What was not looked up is not kept for that.
    pub(super) fn changed(&mut self, key: &[u8], value: Option<Bytes>) {
        if self.rows.contains_key(key) {
            self.keep(key, value);
        }
    }

    fn forget(&mut self, key: &[u8]) {
        if let Some(value) = self.rows.remove(key) {
            self.bytes -= bytes_of(key, value.as_ref());
        }
    }

    /// Drops the next row in turn: which one is looked up next nobody knows, and in turn each stays as long as any.
    fn make_room(&mut self) {
        let behind = (Bound::Excluded(&self.dropped), Bound::Unbounded);
        let next = self.rows.range::<Bytes, _>(behind).next().or_else(|| self.rows.first_key_value());
        let Some(key) = next.map(|(key, _)| key.clone()) else { return };
        self.forget(&key);
        self.dropped = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<Bytes> {
        Some(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn what_was_looked_up_is_kept_as_the_store_has_it() {
        let mut rows = Rows::default();
        rows.changed(b"a", value("1"));
        assert_eq!(rows.get(b"a"), None, "nobody has looked it up");
        rows.keep(b"a", None);
        assert_eq!(rows.get(b"a"), Some(&None));
        rows.changed(b"a", value("2"));
        assert_eq!(rows.get(b"a"), Some(&value("2")));
        rows.changed(b"a", value(&"x".repeat(ROW_BYTES_MAX)));
        assert_eq!(rows.get(b"a"), None, "too large to be kept, and what was kept is not so any more");
        assert_eq!(rows.bytes, 0);
    }

    #[test]
    fn rows_go_in_turn_when_there_are_too_many() {
        let mut rows = Rows::default();
        let key = |number: usize| format!("{number:06}").into_bytes();
        for number in 0..10_000 {
            rows.keep(&key(number), value("v"));
            assert!(rows.bytes <= BYTES_MAX);
        }
        assert!(rows.get(&key(0)).is_none() && rows.get(&key(9_999)).is_some());
        let kept = rows.rows.len();
        assert!(kept > 1000 && kept * bytes_of(&key(0), value("v").as_ref()) == rows.bytes);
    }
}
