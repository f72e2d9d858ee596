//! What is replicated: messages, messages that were sent under a key, and delete marks; and how two states of
//! one of them become one. It decides every join; what a mark does to the messages below it is decided where
//! they meet, in `merge`. It does not know the store.

use crate::id::MessageId;
use crate::layout;
use ringwork_core::vnode::Item;
use ringwork_core::wire::Wire;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a message says. When it was sent is not here: that is its id's time, so that a retry equals the first
/// attempt.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Content {
    /// The text.
    pub text: String,
    /// Who wrote it, where that was said.
    pub from: Option<String>,
}

impl Content {
    /// Bytes that it adds to a page.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.from.as_ref().map_or(0, String::len)
    }
}

/// The unit of replication.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum ChatItem {
    /// A message whose id is its only identity: a client's, or a node's for a send without a key.
    Message {
        /// Whose log.
        user: String,
        /// Its place there.
        id: MessageId,
        /// What it says.
        content: Content,
    },
    /// A message that was sent under a key.
    Keyed {
        /// Whose log.
        user: String,
        /// The key.
        key: String,
        /// Its place: the largest id that any node minted for the key.
        id: MessageId,
        /// The other ids that were minted for the key, by nodes that did not hear of each other; all smaller.
        aliases: BTreeSet<MessageId>,
        /// What it says; none when it was deleted.
        content: Option<Content>,
    },
    /// A delete mark: everything of the user up to `through` is gone and stays gone.
    Mark {
        /// Whose log.
        user: String,
        /// The last id that is gone.
        through: MessageId,
    },
}

/// The content of two states of one id. A deletion stays; of two texts the smaller is kept, which means
/// nothing but is the same on every replica.
fn join_content(one: Option<Content>, other: Option<Content>) -> Option<Content> {
    Some(one?.min(other?))
}

impl ChatItem {
    /// Its place in the log; a mark's is the last id that it deletes.
    pub fn id(&self) -> MessageId {
        match self {
            Self::Message { id, .. } | Self::Keyed { id, .. } => *id,
            Self::Mark { through, .. } => *through,
        }
    }

    /// Whose log it belongs to.
    pub fn user(&self) -> &str {
        match self {
            Self::Message { user, .. } | Self::Keyed { user, .. } | Self::Mark { user, .. } => user,
        }
    }

    /// What it says, if it says something.
    pub fn content(&self) -> Option<&Content> {
        match self {
            Self::Message { content, .. } => Some(content),
            Self::Keyed { content, .. } => content.as_ref(),
            Self::Mark { .. } => None,
        }
    }

    /// Bytes that it adds to a page.
    pub fn text_bytes(&self) -> usize {
        self.content().map_or(0, Content::bytes)
    }
}

impl Wire for ChatItem {
    const VERSION: u16 = 1;
}

impl Item for ChatItem {
    fn routing_key(&self) -> &[u8] {
        self.user().as_bytes()
    }

    fn key(&self) -> Vec<u8> {
        match self {
            Self::Message { user, id, .. } => layout::message_key(user, *id, None),
            Self::Keyed { user, key, .. } => layout::keyed_key(user, key),
            Self::Mark { user, .. } => layout::mark_key(user),
        }
    }

    /// Messages: see [`Content`]'s join. Marks: the larger. Keyed: all ids ever seen, of which the largest
    /// is the id and decides the content; only where both have that id their contents are joined. That is the
    /// lexicographic product of a chain and a lattice, and so again a lattice.
    ///
    /// The largest and not the smallest: an id that was acknowledged must not vanish because another attempt
    /// had got an id below a mark that nobody knew who minted it.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Message { user, id, content }, Self::Message { content: second, .. }) => {
                Self::Message { user, id, content: content.min(second) }
            }
            (
                Self::Keyed { user, key, id, aliases, content },
                Self::Keyed { id: second_id, aliases: second_aliases, content: second, .. },
            ) => {
                let content = match id.cmp(&second_id) {
                    std::cmp::Ordering::Greater => content,
                    std::cmp::Ordering::Equal => join_content(content, second),
                    std::cmp::Ordering::Less => second,
                };
                let largest = id.max(second_id);
                let mut ids = aliases;
                ids.extend(second_aliases);
                ids.extend([id, second_id]);
                // What nobody sends: an alias above the id. It never was a message's place, so it is no id.
                ids.retain(|alias| *alias < largest);
                Self::Keyed { user, key, id: largest, aliases: ids, content }
            }
            (Self::Mark { user, through }, Self::Mark { through: second, .. }) => {
                Self::Mark { user, through: through.max(second) }
            }
            // Items of different keys are never joined; total all the same.
            (one, _) => one,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> MessageId {
        MessageId([n; 20])
    }

    fn keyed(n: u8, aliases: &[u8], text: Option<&str>) -> ChatItem {
        ChatItem::Keyed {
            user: "u".into(),
            key: "k".into(),
            id: id(n),
            aliases: aliases.iter().map(|n| id(*n)).collect(),
            content: text.map(|text| Content { text: text.into(), from: None }),
        }
    }

    #[test]
    fn the_larger_id_of_a_key_wins_with_its_content_and_the_other_is_an_alias() {
        let joined = keyed(5, &[3], Some("a")).join(keyed(7, &[1], Some("b")));
        assert_eq!(joined, keyed(7, &[1, 3, 5], Some("b")));
    }

    #[test]
    fn a_deleted_keyed_message_does_not_come_back_but_under_an_id_that_came_later() {
        assert_eq!(keyed(3, &[], None).join(keyed(3, &[], Some("b"))), keyed(3, &[], None));
        assert_eq!(keyed(3, &[], Some("a")).join(keyed(5, &[], None)), keyed(5, &[3], None));
        assert_eq!(keyed(3, &[], None).join(keyed(5, &[], Some("a"))), keyed(5, &[3], Some("a")));
    }

    #[test]
    fn an_alias_above_the_id_is_no_alias() {
        assert_eq!(keyed(5, &[7], Some("a")).join(keyed(5, &[], Some("a"))), keyed(5, &[], Some("a")));
    }
}
