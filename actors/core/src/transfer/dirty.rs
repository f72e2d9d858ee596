//! Which keys of one vnode have changed since they were sent to the heir. A key is *dirty* from a merge on until the
//! heir has acknowledged something that was read after that merge. It decides which keys are to be read and sent
//! again; that a mark is kept in the same batch as the change it stands for is the vnode's to see to.
//!
//! Without it a transfer that resumes by key alone loses a write to a key that was sent already (found by model in 23
//! steps and one cut). Marks are kept, and not only remembered, because the source may be killed: then it resumes,
//! too.

use crate::limits::DIRTY_KEYS_MAX;
use std::collections::BTreeMap;

/// A change of a key, counted in the vnode's life: a later change of the same key has a greater number.
pub type Change = u64;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Mark {
    change: Change,
    fetched: Option<Change>,
}

/// What a vnode has to keep for a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Marked {
    /// The key was clean: write its mark, in the same batch as the change itself.
    New,
    /// The mark is there already.
    Again,
    /// There are too many. All are forgotten: remove the marks and the record of the transfer, in the same batch as
    /// the change itself, and tell the sender ([`super::SendingEvent::MarksLost`]); it begins anew.
    TooMany,
}

/// See the module's head.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DirtyKeys {
    keys: BTreeMap<Vec<u8>, Mark>,
    changes: Change,
    unfetched: usize,
}

impl DirtyKeys {
    /// The marks that an earlier life left on disk.
    pub fn found(keys: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self::found_after(0, keys)
    }

    /// As [`Self::found`], counting changes from above `changes`: an acknowledgement of what another life of the
    /// vnode has read must not be taken for one of this life's.
    pub fn found_after(changes: Change, keys: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut found = Self { changes, ..Self::default() };
        for key in keys {
            found.mark(key);
        }
        found
    }

    /// A turn has changed this key.
    pub fn mark(&mut self, key: Vec<u8>) -> Marked {
        self.changes += 1;
        let change = self.changes;
        if let Some(mark) = self.keys.get_mut(&key) {
            if mark.fetched == Some(mark.change) {
                self.unfetched += 1;
            }
            mark.change = change;
            return Marked::Again;
        }
        if self.keys.len() >= DIRTY_KEYS_MAX {
            self.keys.clear();
            self.unfetched = 0;
            return Marked::TooMany;
        }
        self.keys.insert(key, Mark { change, fetched: None });
        self.unfetched += 1;
        Marked::New
    }

    /// A session begins: what an earlier one had read may never have arrived.
    pub fn begin_session(&mut self) {
        for mark in self.keys.values_mut() {
            mark.fetched = None;
        }
        self.unfetched = self.keys.len();
    }

    /// Up to `keys_max` dirty keys that are to be read in this turn and sent. They count as read from now on.
    pub fn fetch(&mut self, keys_max: usize) -> Vec<(Vec<u8>, Change)> {
        let mut fetched = Vec::new();
        for (key, mark) in &mut self.keys {
            if fetched.len() >= keys_max || self.unfetched == 0 {
                break;
            }
            if mark.fetched != Some(mark.change) {
                mark.fetched = Some(mark.change);
                self.unfetched -= 1;
                fetched.push((key.clone(), mark.change));
            }
        }
        fetched
    }

    /// What was read of this key, at that change, was not sent after all (the batch was full).
    pub fn put_back(&mut self, key: &[u8], change: Change) {
        if let Some(mark) = self.keys.get_mut(key)
            && mark.change == change
            && mark.fetched == Some(change)
        {
            mark.fetched = None;
            self.unfetched += 1;
        }
    }

    /// The heir has what was read of this key at that change. Says whether the key is clean now, and its mark to be
    /// removed; not when it has changed meanwhile.
    pub fn acknowledged(&mut self, key: &[u8], change: Change) -> bool {
        let clean = self.keys.get(key).is_some_and(|mark| mark.change == change);
        if clean
            && let Some(mark) = self.keys.remove(key)
            && mark.fetched != Some(change)
        {
            self.unfetched = self.unfetched.saturating_sub(1);
        }
        clean
    }

    /// Keys that are dirty and not read yet.
    pub fn unfetched(&self) -> usize {
        self.unfetched
    }

    /// Keys that are dirty.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is dirty.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u32) -> Vec<u8> {
        n.to_be_bytes().to_vec()
    }

    #[test]
    fn a_key_is_clean_only_by_an_acknowledgement_of_what_was_read_after_its_last_change() {
        let mut dirty = DirtyKeys::default();
        assert_eq!(dirty.mark(key(1)), Marked::New);
        let first = dirty.fetch(10);
        assert_eq!((first.len(), dirty.unfetched()), (1, 0));
        assert_eq!(dirty.mark(key(1)), Marked::Again);
        assert_eq!(dirty.unfetched(), 1);
        assert!(!dirty.acknowledged(&key(1), first[0].1), "it has changed since");
        let second = dirty.fetch(10);
        assert!(dirty.acknowledged(&key(1), second[0].1));
        assert!(dirty.is_empty() && dirty.unfetched() == 0);
        assert!(!dirty.acknowledged(&key(1), second[0].1), "once");
    }

    #[test]
    fn a_new_session_and_a_full_batch_read_again() {
        let mut dirty = DirtyKeys::found([key(1), key(2), key(3)]);
        assert_eq!(dirty.fetch(2).len(), 2);
        assert_eq!(dirty.unfetched(), 1);
        dirty.begin_session();
        assert_eq!(dirty.unfetched(), 3);
        let read = dirty.fetch(10);
        dirty.put_back(&read[1].0, read[1].1);
        dirty.put_back(&read[1].0, read[1].1);
        assert_eq!(dirty.unfetched(), 1);
        assert_eq!(dirty.fetch(10)[0].0, key(2));
    }

    #[test]
    fn too_many_marks_are_forgotten_and_said_to_be() {
        let mut dirty = DirtyKeys::default();
        for n in 0..DIRTY_KEYS_MAX as u32 {
            assert_eq!(dirty.mark(key(n)), Marked::New);
        }
        assert_eq!(dirty.mark(key(7)), Marked::Again);
        assert_eq!(dirty.mark(key(u32::MAX)), Marked::TooMany);
        assert!(dirty.is_empty());
    }
}
