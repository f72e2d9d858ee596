//! Rows of a keyspace that were looked up lately, as the store has them. It decides which are kept; when a row changes,
//! the keyspace says. It does not know writes that are not committed: whoever looks something up looks for these first.

use bytes::Bytes;
use std::collections::{HashMap, VecDeque};

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
    /// None: there is no such row. Each row that changes is looked for here, so it must cost little; nobody goes
    /// through all of them, in whatever order they are.
    rows: HashMap<Bytes, Option<Bytes>>,
    bytes: usize,
    /// Their keys, each once, in the order in which they go.
    queue: VecDeque<Bytes>,
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
        self.put(Bytes::copy_from_slice(key), value);
    }

    /// The store has another value now. What was not looked up is not kept for that.
    pub(super) fn changed(&mut self, key: Bytes, value: Option<Bytes>) {
        if self.rows.contains_key(&key) {
            self.put(key, value);
        }
    }

    fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        let bytes = bytes_of(&key, value.as_ref());
        if bytes > ROW_BYTES_MAX {
            return self.forget(&key);
        }
        self.bytes += bytes;
        match self.rows.get_mut(&key) {
            Some(kept) => {
                self.bytes -= bytes_of(&key, kept.as_ref());
                *kept = value;
            }
            None => {
                self.queue.push_back(key.clone());
                self.rows.insert(key, value);
            }
        }
        // In turn: which one is looked up next nobody knows, and like this each stays as long as any.
        while self.bytes > BYTES_MAX
            && let Some(key) = self.queue.pop_front()
        {
            if let Some(value) = self.rows.remove(&key) {
                self.bytes -= bytes_of(&key, value.as_ref());
            }
        }
    }

    /// Of a row that has become large. It goes through the whole queue, some thousand keys.
    fn forget(&mut self, key: &Bytes) {
        if let Some(value) = self.rows.remove(key) {
            self.bytes -= bytes_of(key, value.as_ref());
            self.queue.retain(|other| other != key);
        }
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
        assert_eq!((rows.bytes, rows.queue.len()), (0, 0));
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
        assert!(rows.get(&key(0)).is_none() && rows.get(&key(9_999)).is_some());
        let kept = rows.rows.len();
        assert_eq!(kept, rows.queue.len());
        assert!(kept > 1000 && kept * bytes_of(&key(0), value("v").as_ref()) == rows.bytes);
    }
}
