//! Taking items in. It decides what becomes of an item where others are already: which row is written, what a
//! delete mark swallows, and what the sender is told. It does not know where items come from.
//!
//! Each of a user's items joins only its like; what a delete mark adds is a view: a message at or below it is
//! not there, a keyed message at or below it has no content. Both hold in every read and fold from the turn
//! on that merges the mark, and rows below it are removed at leisure. A key's row stays for good, some 200
//! bytes each, so that a late retry is answered with the old id and nothing returns from the dead.

use crate::chat::{Chat, ChatError, KnownHead};
use crate::id::MessageId;
use crate::item::{ChatItem, Content};
use crate::layout::{self, LoadedKey, Row, StoredAlias, StoredKey, StoredMark, StoredMessage};
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::store::{Direction, Flow};
use ringwork_core::vnode::{Item, Merged};
use ringwork_core::wire::stored;
use std::cmp::Reverse;
use std::collections::BTreeSet;

impl Chat {
    /// Merges one item. A mark may remove `budget` rows at once, which is counted down.
    ///
    /// A keyed message at or below the mark is remembered by its key but not to be seen; that is `Changed`
    /// when the key was not known, and `Absorbed` when nothing was written.
    pub(crate) fn merge_item(&mut self, item: ChatItem, budget: &mut usize) -> Result<Merged, ChatError> {
        match item {
            ChatItem::Message { user, id, content } => self.merge_message(user, id, content),
            ChatItem::Keyed { .. } => self.merge_keyed(item),
            ChatItem::Mark { user, through } => self.merge_mark(&user, through, budget),
        }
    }

    fn raise_tail(&mut self, user: &str, id: MessageId) {
        if let Some(KnownHead { tail: Some(tail), .. }) = self.heads.get_mut(user) {
            *tail = (*tail).max(Some(id));
        }
    }

    /// In the common case, a new message at the end of a log that was touched lately, this reads nothing.
    fn merge_message(&mut self, user: String, id: MessageId, content: Content) -> Result<Merged, ChatError> {
        // The first time two rows that are not there are looked up; from the second on the end of the log is known.
        let (mark, tail) = match self.heads.get(&user).copied() {
            Some(KnownHead { mark, tail: Some(tail) }) => (mark, Some(tail)),
            Some(KnownHead { tail: None, .. }) => {
                let head = self.head(&user)?;
                (head.mark, Some(head.tail))
            }
            None => (self.mark(&user)?, None),
        };
        if mark >= Some(id) {
            return Ok(Merged::Absorbed);
        }
        let row = layout::message_key(&user, id, None);
        let (before, merged) = if tail.is_some_and(|tail| tail < Some(id)) {
            (None, Merged::Changed)
        } else {
            // A row of a message is not read like this again.
            let before = self.store.get_once(&row)?;
            match before.and_then(|row| layout::decode_row::<StoredMessage>(&row)) {
                None => (None, Merged::Changed),
                Some(before) if before.content == content => return Ok(Merged::Unchanged),
                Some(before) if before.content < content => return Ok(Merged::Conflicting),
                Some(before) => (Some(before.content), Merged::Conflicting),
            }
        };
        let message = StoredMessage { content, aliases: BTreeSet::new() };
        self.store.put(row, stored(&message)?);
        self.raise_tail(&user, id);
        let before = before.map(|content| ChatItem::Message { user: user.clone(), id, content });
        let item = ChatItem::Message { user, id, content: message.content };
        self.store.changed(before.as_ref(), Some(&item));
        if before.is_none() {
            self.recent.added(item, self.store.turn());
        } else {
            self.recent.forget(item.user());
        }
        Ok(merged)
    }

    fn merge_keyed(&mut self, item: ChatItem) -> Result<Merged, ChatError> {
        let ChatItem::Keyed { user, key, .. } = &item else { return Ok(Merged::Unchanged) };
        let (user, key) = (user.clone(), key.clone());
        let mark = self.mark(&user)?;
        let offered = item.content().cloned();
        let before = match layout::load_keyed(&self.store, &user, &key, mark)? {
            LoadedKey::Found(before) => Some(before),
            // What cannot be read is written anew; what it knew beyond this item comes with a repair.
            LoadedKey::Unreadable => {
                layout::count_unreadable();
                None
            }
            LoadedKey::Missing => None,
        };
        let joined = match &before {
            Some(before) => before.clone().join(item),
            // With itself: that drops what is no alias.
            None => item.clone().join(item),
        };
        let ChatItem::Keyed { id, aliases, content, .. } = joined else { return Ok(Merged::Unchanged) };
        let content = content.filter(|_| mark < Some(id));
        let after = ChatItem::Keyed { user, key, id, aliases, content };
        let merged = match (before.as_ref(), offered) {
            (None, _) => Merged::Changed,
            (Some(before), Some(offered)) if before.content().is_some_and(|kept| *kept != offered) => {
                Merged::Conflicting
            }
            (Some(before), _) if *before != after => Merged::Changed,
            (Some(_), Some(_)) if after.content().is_none() => Merged::Absorbed,
            _ => Merged::Unchanged,
        };
        if before.as_ref() != Some(&after) {
            self.store.changed(before.as_ref(), Some(&after));
            self.write_keyed(before, after)?;
        }
        Ok(merged)
    }

    fn write_keyed(&mut self, before: Option<ChatItem>, after: ChatItem) -> Result<(), ChatError> {
        let ChatItem::Keyed { user, key, id, aliases, content } = after else { return Ok(()) };
        self.recent.forget(&user);
        for alias in &aliases {
            let row = layout::alias_key(&user, *alias);
            let known = layout::read_row::<StoredAlias>(&self.store, &row)?;
            let claimed = StoredAlias { id, key: key.clone() };
            // The id of one key only rises.
            let stands = |known: &StoredAlias| (&known.key, Reverse(known.id)) <= (&key, Reverse(id));
            if !known.as_ref().is_some_and(stands) {
                self.store.put(row, stored(&claimed)?);
            }
        }
        let deleted = content.is_none();
        let key_row = StoredKey { id, aliases: aliases.clone(), deleted };
        let message = content.map(|content| stored(&StoredMessage { content, aliases })).transpose()?;
        self.store.put(layout::keyed_key(&user, &key), stored(&key_row)?);
        if let Some(before) = before.filter(|before| before.content().is_some())
            && (before.id() != id || deleted)
        {
            self.store.remove(layout::message_key(&user, before.id(), Some(&key)));
        }
        if let Some(message) = message {
            self.store.put(layout::message_key(&user, id, Some(&key)), message);
            self.raise_tail(&user, id);
        }
        Ok(())
    }

    fn merge_mark(
        &mut self,
        user: &str,
        through: MessageId,
        budget: &mut usize,
    ) -> Result<Merged, ChatError> {
        let mark = self.mark(user)?;
        if mark >= Some(through) {
            return Ok(Merged::Unchanged);
        }
        if planted(Mutant::ForgetMarks) {
            return Ok(Merged::Changed);
        }
        self.tell_hidden(user, mark, through, *budget)?;
        // Rows below the old mark are gone or listed already.
        if let Some(removed_through) = self.remove_messages(user, mark, through, budget)? {
            let listed = layout::leftover_key(user);
            if self.store.get(&listed)?.is_none() {
                self.store.put(listed, removed_through.0.to_vec());
            }
        }
        self.recent.forget(user);
        self.store.put(layout::mark_key(user), stored(&StoredMark { through })?);
        if let Some(head) = self.heads.get_mut(user) {
            head.mark = Some(through);
        }
        Ok(Merged::Changed)
    }

    /// Says what a mark that is about to rise from `mark` to `through` changes: itself, and the messages that it hides,
    /// one by one if they are at most `rows_max`. What is removed later was hidden before, and changes nothing.
    fn tell_hidden(
        &self,
        user: &str,
        mark: Option<MessageId>,
        through: MessageId,
        rows_max: usize,
    ) -> Result<(), ChatError> {
        let range = layout::message_range(user, mark, through);
        let prefix = layout::user_prefix(user).len();
        let (mut hidden, mut keys, mut rows) = (Vec::new(), BTreeSet::new(), 0);
        self.store.scan(&range, Direction::Ascending, &mut |key, value| {
            rows += 1;
            match key.get(prefix..).and_then(layout::parse_row) {
                Some(Row::Message { id, key: None }) => {
                    let message = layout::decode_row::<StoredMessage>(value);
                    hidden.extend(message.map(|message| (id, message.content)));
                }
                Some(Row::Message { key: Some(key), .. }) => {
                    keys.insert(key.to_owned());
                }
                _ => {}
            }
            if rows > rows_max { Flow::Break(()) } else { Flow::Continue(()) }
        })?;
        if rows > rows_max {
            self.store.changed_within(&layout::mark_and_keys(user));
            self.store.changed_within(&range);
            return Ok(());
        }
        let item = |through| ChatItem::Mark { user: user.to_owned(), through };
        self.store.changed(mark.map(item).as_ref(), Some(&item(through)));
        for (id, content) in hidden {
            let was = ChatItem::Message { user: user.to_owned(), id, content };
            self.store.changed(Some(&was), None);
        }
        for key in keys {
            let load = |mark| match layout::load_keyed(&self.store, user, &key, mark)? {
                LoadedKey::Found(item) => Ok::<_, ChatError>(Some(item)),
                _ => Ok(None),
            };
            self.store.changed(load(mark)?.as_ref(), load(Some(through))?.as_ref());
        }
        Ok(())
    }

    /// Removes message rows above `after` up to and with `through`, as many as the budget allows. Says up to
    /// which id they are removed if some are left.
    pub(crate) fn remove_messages(
        &mut self,
        user: &str,
        after: Option<MessageId>,
        through: MessageId,
        budget: &mut usize,
    ) -> Result<Option<MessageId>, ChatError> {
        let mut rows = Vec::new();
        let mut removed_through = None;
        let prefix = layout::user_prefix(user).len();
        let range = layout::message_range(user, after, through);
        self.store.scan(&range, Direction::Ascending, &mut |key, _| {
            if rows.len() < *budget {
                rows.push(key.to_vec());
                return Flow::Continue(());
            }
            removed_through = match key.get(prefix..).and_then(layout::parse_row) {
                Some(Row::Message { id, .. }) => id.previous(),
                // Not a message's row: begin again where this began.
                _ => after,
            }
            .or(Some(MessageId::SMALLEST));
            Flow::Break(())
        })?;
        *budget -= rows.len();
        for row in rows {
            self.store.remove(row);
        }
        Ok(removed_through)
    }
}
