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
const ROW_BYTES: usize = size_of::<(u32, Row)>() + 48;

struct Row {
    key: Bytes,
    /// None: there is no such row.
    value: Option<Bytes>,
}

impl Row {
    fn bytes(&self) -> usize {
        ROW_BYTES + self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Rows {
    /// By the checksum of the key: each row that changes is looked for here, and numbers are compared soonest. Of two
    /// keys with one checksum the later is kept.
    rows: BTreeMap<u32, Row>,
    bytes: usize,
    /// What had to go last.
    dropped: u32,
}

impl Rows {
    /// The row's value, or that there is none; none where it is not kept.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.rows.get(&crc32c::crc32c(key)).filter(|row| row.key == key).map(|row| &row.value)
    }

    /// Keeps what was looked up.
    pub(super) fn keep(&mut self, key: &[u8], value: Option<Bytes>) {
        let row = Row { key: Bytes::copy_from_slice(key), value };
        self.put(crc32c::crc32c(key), row);
    }

    /// The store has another value now. What was not looked up is not kept for that.
    pub(super) fn changed(&mut self, key: Bytes, value: Option<Bytes>) {
        if self.rows.is_empty() {
            return;
        }
        let sum = crc32c::crc32c(&key);
        if self.rows.get(&sum).is_some_and(|row| row.key == key) {
            self.put(sum, Row { key, value });
        }
    }

    fn put(&mut self, sum: u32, row: Row) {
        self.forget(sum);
        let bytes = row.bytes();
        if bytes > ROW_BYTES_MAX {
            return;
        }
        while self.bytes + bytes > BYTES_MAX {
            self.make_room();
        }
        self.bytes += bytes;
        self.rows.insert(sum, row);
    }

    fn forget(&mut self, sum: u32) {
        if let Some(row) = self.rows.remove(&sum) {
            self.bytes -= row.bytes();
        }
    }

    /// Drops the next row in turn: which one is looked up next nobody knows, and like this each stays as long as any.
    fn make_room(&mut self) {
        let behind = (Bound::Excluded(self.dropped), Bound::Unbounded);
        let next = self.rows.range(behind).next().or_else(|| self.rows.first_key_value());
        let Some(sum) = next.map(|(sum, _)| *sum) else { return };
        self.forget(sum);
        self.dropped = sum;
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
        rows.changed(Bytes::from_static(b"a"), value("1"));
        assert_eq!(rows.get(b"a"), None, "nobody has looked it up");
        rows.keep(b"a", None);
        assert_eq!(rows.get(b"a"), Some(&None));
        rows.changed(Bytes::from_static(b"a"), value("2"));
        assert_eq!(rows.get(b"a"), Some(&value("2")));
        rows.changed(Bytes::from_static(b"a"), value(&"x".repeat(ROW_BYTES_MAX)));
        assert_eq!(rows.get(b"a"), None, "too large to be kept, and what was kept is not so any more");
        assert_eq!(rows.bytes, 0);
        rows.keep(b"a", value(&"x".repeat(ROW_BYTES_MAX)));
        assert_eq!(rows.get(b"a"), None);
    }

    #[test]
    fn rows_go_in_turn_when_there_are_too_many() {
        let mut rows = Rows::default();
        let key = |number: usize| format!("{number:06}").into_bytes();
        for number in 0..10_000 {
            rows.keep(&key(number), value("v"));
            assert!(rows.bytes <= BYTES_MAX);
        }
        let found: Vec<bool> = (0..10_000).map(|number| rows.get(&key(number)).is_some()).collect();
        assert!(found[9_999] && !found[..5_000].contains(&true), "those that were kept first have gone");
        assert!(rows.rows.len() > 1000);
        assert_eq!(rows.bytes, rows.rows.values().map(Row::bytes).sum::<usize>());
    }

    #[test]
    fn two_keys_with_one_checksum_are_two_keys() {
        // Among some hundred thousand keys there are two.
        let mut sums = BTreeMap::new();
        let (one, other) = (0u64..2_000_000)
            .find_map(|number| {
                let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes().to_vec();
                sums.insert(crc32c::crc32c(&key), key.clone()).map(|before| (before, key))
            })
            .unwrap();
        let mut rows = Rows::default();
        rows.keep(&one, value("1"));
        assert_eq!(rows.get(&other), None);
        rows.changed(other.clone().into(), value("2"));
        assert_eq!(rows.get(&one), Some(&value("1")));
        rows.keep(&other, value("2"));
        assert_eq!((rows.get(&one), rows.get(&other)), (None, Some(&value("2"))));
        assert_eq!(rows.rows.len(), 1);
    }
}
