//! The vnode: one partition's logs. It decides what each command does and what a turn keeps in memory; how
//! items merge is in `merge`, how logs are read in [`crate::page`], how they expire in [`crate::sweep`]. It
//! does not know replicas: an item that it merges may come from anywhere.
//!
//! What is kept in memory is only what the store says anyway, and is dropped when a turn fails.

use crate::digest::{self, PageDigest};
use crate::id::MessageId;
use crate::item::{ChatItem, Content};
use crate::layout::{self, LoadedKey};
use crate::limits::{ChatInputError, HEADS_MAX, KEY_BYTES_MAX, PAGE_MESSAGES_INLINE, REMOVED_ROWS_MAX};
use crate::page::{self, PageBounds, PageQuery, PageReply};
use crate::recent::{Piece, Recent};
use crate::sweep::ScanPosition;
use crate::users::UserList;
use crate::{fold, limits};
use ringwork_core::clock::hybrid::HybridTime;
use ringwork_core::ids::Partition;
use ringwork_core::keyspace::{Keyspace, Snapshot};
use ringwork_core::metadata::features::CHAT_DIGESTS;
use ringwork_core::mutant::{Mutant, planted};
use ringwork_core::store::{Direction, Flow, KeyRange, StoreError};
use ringwork_core::vnode::{After, Item, Merged, Outcome, Resolution, Turn, Vnode};
use ringwork_core::wire::{Wire, WireError};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What the operator may set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChatConfig {
    /// Messages older than this expire; none keeps them.
    pub retention_age: Option<Duration>,
    /// Of each user only this many of the newest messages are kept; none keeps all.
    pub retention_count: Option<u64>,
    /// How often expiry is looked at.
    pub sweep_interval: Duration,
}

impl Default for ChatConfig {
    fn default() -> Self {
        Self { retention_age: None, retention_count: None, sweep_interval: Duration::from_secs(60) }
    }
}

/// Everything the vnode can be asked. Sends without a text key need no command: the coordinator makes the
/// item, with [`MessageId::from_stamp`] or the client's id, and the replicas merge it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ChatCommand {
    /// Sends a message under a text key: answers with the id that the key has, or mints one.
    SendKeyed {
        /// To whom.
        user: String,
        /// The key.
        key: String,
        /// What it says.
        content: Content,
    },
    /// Reads a part of a log.
    Page(PageQuery),
    /// Asks for the keyed message of which an id is an alias.
    Aliased {
        /// Whose log.
        user: String,
        /// The id.
        id: MessageId,
    },
    /// What the vnode gives itself at each sweep interval.
    Sweep,
    /// What the vnode gives itself to remove the next rows below marks.
    ClearLeftovers,
    /// What the vnode gives itself to look for expired messages, from the beginning or from where it was.
    Scan(Option<ScanPosition>),
    /// What a scan found: delete marks to set, and where to go on if it was not through.
    Expire {
        /// Users and the last ids that have expired.
        marks: Vec<(String, MessageId)>,
        /// Where to go on.
        next: Option<ScanPosition>,
    },
    /// Asks what stands for a part of a log, where another replica is asked for it.
    Digest(PageQuery),
}

impl Wire for ChatCommand {
    const VERSION: u16 = 1;
}

/// Everything the vnode answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ChatReply {
    /// To [`ChatCommand::SendKeyed`].
    Sent {
        /// The message's id.
        id: MessageId,
        /// Whether this send made the message.
        new: bool,
        /// Whether the key was used for another text or sender before: the client's mistake. The message
        /// stays what it was.
        conflicting: bool,
    },
    /// To [`ChatCommand::Page`].
    Page(PageReply),
    /// To [`ChatCommand::Aliased`]: none where the id is no alias.
    Aliased(Option<ChatItem>),
    /// To [`ChatCommand::Digest`].
    Digest(PageDigest),
}

impl Wire for ChatReply {
    const VERSION: u16 = 1;
}

/// Why the vnode could not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The store could not. What that did is the store error's to say; the turn's own writes are dropped.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An item cannot be written in the form that rows have, because it is too large. Nothing was changed.
    #[error("the item cannot be stored: {0}")]
    Unwritable(#[from] WireError),
    /// The command names what no client may name. Nothing was changed.
    #[error(transparent)]
    Input(#[from] ChatInputError),
    /// What this replica knows about the key cannot be read, so it can neither answer nor mint an id. Nothing
    /// was changed; another replica can answer, and a repair makes the row readable again.
    #[error("the row of an idempotency key of user {user:?} cannot be read")]
    KeyUnreadable {
        /// Whose key.
        user: String,
    },
    /// The user's delete mark lies so far in the future that no believable id is above it. Nothing was
    /// changed, and nothing can be sent to the user until then.
    #[error("everything of user {user:?} up to {mark} is deleted, which is ahead of this node's clock")]
    BelowMark {
        /// Whose log.
        user: String,
        /// The mark.
        mark: MessageId,
    },
}

/// What a send needs to know of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Head {
    /// Everything up to this id is deleted.
    pub(crate) mark: Option<MessageId>,
    /// No message row above the mark has a larger id.
    pub(crate) tail: Option<MessageId>,
}

/// What is in memory of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KnownHead {
    pub(crate) mark: Option<MessageId>,
    /// None: nobody has looked. The end of a log is a seek in each table that may have it, where point look-ups that
    /// find nothing ask filters; so it is looked for where a log is written to a second time.
    pub(crate) tail: Option<Option<MessageId>>,
}

/// The logs of one partition on one node.
pub struct Chat {
    pub(crate) store: Keyspace,
    pub(crate) config: ChatConfig,
    /// Of the users that were touched lately. Emptied when full: reading one again costs two look-ups.
    pub(crate) heads: BTreeMap<String, KnownHead>,
    /// Of the users that were read lately.
    pub(crate) recent: Recent,
    /// While a scan or a clearing is under way no second one is begun. A time and not a flag, so that one
    /// that got lost does not stop all that follow.
    pub(crate) scanning_until_ms: u64,
    pub(crate) clearing_until_ms: u64,
}

impl Chat {
    /// The head of a user's log, from memory or from the store.
    pub(crate) fn head(&mut self, user: &str) -> Result<Head, ChatError> {
        let mark = match self.heads.get(user) {
            Some(KnownHead { mark, tail: Some(tail) }) => return Ok(Head { mark: *mark, tail: *tail }),
            Some(KnownHead { mark, tail: None }) => *mark,
            None => layout::read_mark(&self.store, user)?,
        };
        let mut tail = None;
        let range = layout::message_range(user, mark, MessageId::LARGEST);
        self.store.scan(&range, Direction::Descending, &mut |key, _| {
            let row = layout::split_user(key).and_then(|(_, end)| layout::parse_row(key.get(end..)?));
            match row {
                Some(layout::Row::Message { id, .. }) => {
                    tail = Some(id);
                    Flow::Break(())
                }
                _ => Flow::Continue(()),
            }
        })?;
        self.know(user, KnownHead { mark, tail: Some(tail) });
        Ok(Head { mark, tail })
    }

    /// Up to where a user's log is deleted, from memory or from the store.
    pub(crate) fn mark(&mut self, user: &str) -> Result<Option<MessageId>, ChatError> {
        if let Some(known) = self.heads.get(user) {
            return Ok(known.mark);
        }
        let mark = layout::read_mark(&self.store, user)?;
        self.know(user, KnownHead { mark, tail: None });
        Ok(mark)
    }

    fn know(&mut self, user: &str, head: KnownHead) {
        if let Some(known) = self.heads.get_mut(user) {
            *known = head;
            return;
        }
        if self.heads.len() >= HEADS_MAX {
            self.heads.clear();
        }
        self.heads.insert(user.to_owned(), head);
    }

    /// Runs what may fail. What memory holds is what the store and this turn's writes say; when these are
    /// dropped it has to be read again.
    fn or_forget<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, ChatError>) -> Result<T, ChatError> {
        let result = run(self);
        if result.is_err() {
            self.heads.clear();
            self.recent.clear();
        }
        result
    }

    fn send_keyed(
        &mut self,
        user: String,
        key: String,
        content: Content,
        turn: &mut Turn<'_, Self>,
    ) -> Result<ChatReply, ChatError> {
        limits::validate_user(&user)?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(ChatInputError::KeyLength { bytes: key.len() }.into());
        }
        let head = self.head(&user)?;
        let (item, id, new, conflicting) = match layout::load_keyed(&self.store, &user, &key, head.mark)? {
            LoadedKey::Found(item) if !planted(Mutant::ForgetKeys) => {
                let conflicting = item.content().is_some_and(|before| *before != content);
                let id = item.id();
                (item, id, false, conflicting)
            }
            LoadedKey::Unreadable => return Err(ChatError::KeyUnreadable { user }),
            LoadedKey::Found(_) | LoadedKey::Missing => {
                let above = head.mark.max(head.tail).map_or(HybridTime::default(), |id| id.hybrid_time());
                let id = MessageId::from_stamp(turn.stamp_above(above));
                if let Some(mark) = head.mark.filter(|mark| *mark >= id) {
                    return Err(ChatError::BelowMark { user, mark });
                }
                let content = Some(content);
                let item = match content {
                    Some(content) if planted(Mutant::ForgetKeys) => ChatItem::Message { user, id, content },
                    content => ChatItem::Keyed { user, key, id, aliases: BTreeSet::new(), content },
                };
                self.merge_item(item.clone(), &mut 0)?;
                (item, id, true, false)
            }
        };
        // An old one too: the retry may be there because the replicas did not get it the first time. It is
        // the turn's only item, so there is room for it.
        let _ = turn.touched(item);
        Ok(ChatReply::Sent { id, new, conflicting })
    }

    /// A short page, from memory where that has all of it.
    fn page(&mut self, query: &PageQuery) -> Result<PageReply, ChatError> {
        let bounds = PageBounds::default();
        if let Some((page, written)) = self.recent.page(query, bounds) {
            self.store.observe(written);
            return Ok(page);
        }
        // One more, so that the next time it is known that there are more.
        let wider = PageQuery { limit: query.limit.max(1).saturating_add(1), ..query.clone() };
        let piece = Piece::of(page::read_page(&self.store, &wider, bounds)?, self.store.observed());
        let page = piece.page(query, bounds);
        self.recent.keep(&query.user, piece);
        page.map_or_else(|| page::read_page(&self.store, query, bounds), Ok)
    }

    fn digest(&mut self, query: &PageQuery) -> Result<PageDigest, ChatError> {
        if let Some((digest, written)) = self.recent.digest(query, PageBounds::default()) {
            self.store.observe(written);
            return Ok(digest);
        }
        self.page(query).map(|page| PageDigest::of_page(&page))
    }

    fn run(&mut self, command: ChatCommand, turn: &mut Turn<'_, Self>) -> Result<Outcome<Self>, ChatError> {
        match command {
            ChatCommand::SendKeyed { user, key, content } => {
                self.send_keyed(user, key, content, turn).map(Outcome::Reply)
            }
            ChatCommand::Page(query) if query.limit <= PAGE_MESSAGES_INLINE => {
                self.page(&query).map(|page| Outcome::Reply(ChatReply::Page(page)))
            }
            ChatCommand::Page(query) => Ok(Outcome::Offload(Box::new(move |snapshot| {
                let reply = page::read_page(snapshot, &query, PageBounds::default())?;
                Ok(After::Reply(ChatReply::Page(reply)))
            }))),
            ChatCommand::Digest(query) if query.limit <= PAGE_MESSAGES_INLINE => {
                self.digest(&query).map(|digest| Outcome::Reply(ChatReply::Digest(digest)))
            }
            ChatCommand::Digest(query) => Ok(Outcome::Offload(Box::new(move |snapshot| {
                let page = page::read_page(snapshot, &query, PageBounds::default())?;
                Ok(After::Reply(ChatReply::Digest(PageDigest::of_page(&page))))
            }))),
            ChatCommand::Aliased { user, id } => {
                let item = layout::aliased(&self.store, &user, id)?;
                Ok(Outcome::Reply(ChatReply::Aliased(item)))
            }
            ChatCommand::Sweep => self.sweep(turn),
            ChatCommand::ClearLeftovers => self.clear_leftovers(turn),
            ChatCommand::Scan(position) => Ok(self.scan(position, turn.place())),
            ChatCommand::Expire { marks, next } => self.expire(marks, next, turn),
        }
    }
}

impl Vnode for Chat {
    const SERVICE: &'static str = "chat";
    type Config = ChatConfig;
    type Command = ChatCommand;
    type Reply = ChatReply;
    type Item = ChatItem;
    type Question = UserList;
    type Error = ChatError;

    fn init(_: Partition, config: &ChatConfig, store: Keyspace) -> Result<Self, ChatError> {
        let config = config.clone();
        let (heads, recent) = (BTreeMap::new(), Recent::default());
        Ok(Self { store, config, heads, recent, scanning_until_ms: 0, clearing_until_ms: 0 })
    }

    fn handle_command(
        &mut self,
        command: ChatCommand,
        turn: &mut Turn<'_, Self>,
    ) -> Result<Outcome<Self>, ChatError> {
        self.or_forget(|chat| chat.run(command, turn))
    }

    fn merge(&mut self, item: ChatItem) -> Result<Merged, ChatError> {
        self.or_forget(|chat| chat.merge_item(item, &mut { REMOVED_ROWS_MAX }))
    }

    fn fold(
        snapshot: &Snapshot,
        range: &KeyRange,
        visit: &mut dyn FnMut(ChatItem) -> Flow,
    ) -> Result<(), ChatError> {
        Ok(fold::fold(snapshot, range, visit)?)
    }

    fn is_empty(&self) -> Result<bool, ChatError> {
        Ok(fold::is_empty(&self.store)?)
    }

    fn delete(&mut self) -> Result<(), ChatError> {
        let mut keys = Vec::new();
        self.store.scan(&KeyRange::all(), Direction::Ascending, &mut |key, _| {
            keys.push(key.to_vec());
            Flow::Continue(())
        })?;
        self.store.changed_within(&KeyRange::all());
        for key in keys {
            self.store.remove(key);
        }
        self.heads.clear();
        self.recent.clear();
        Ok(())
    }

    fn started(&mut self, turn: &mut Turn<'_, Self>) -> Result<(), ChatError> {
        turn.later(self.sweep_interval(), ChatCommand::Sweep);
        Ok(())
    }

    fn starts_early(config: &ChatConfig) -> bool {
        config.retention_age.is_some() || config.retention_count.is_some()
    }

    const GLANCE_FEATURE: Option<&'static str> = Some(CHAT_DIGESTS);

    /// One replica tells the page, the others a sum of it.
    fn glance(command: &ChatCommand) -> Option<ChatCommand> {
        match command {
            ChatCommand::Page(query) => Some(ChatCommand::Digest(query.clone())),
            _ => None,
        }
    }

    fn unseen(command: &ChatCommand, replies: &[ChatReply]) -> Vec<usize> {
        match command {
            ChatCommand::Page(_) => digest::unseen(replies),
            _ => Vec::new(),
        }
    }

    fn resolve(command: &ChatCommand, replies: &[ChatReply]) -> Option<Resolution<Self>> {
        match command {
            ChatCommand::Page(query) => {
                // Their places are kept, for the repairs to go by.
                let pages = digest::pages(replies);
                let (reply, repairs) = page::resolve(query, &pages, PageBounds::default())?;
                Some(Resolution { reply: ChatReply::Page(reply), repairs })
            }
            ChatCommand::Digest(_) => {
                let reply = ChatReply::Digest(PageDigest::joined(replies)?);
                Some(Resolution { reply, repairs: Vec::new() })
            }
            ChatCommand::Aliased { .. } => {
                let aliased = |reply: &ChatReply| match reply {
                    ChatReply::Aliased(item) => Some(item.clone()),
                    _ => None,
                };
                let item = replies.iter().filter_map(aliased).reduce(|one, other| match (one, other) {
                    (Some(one), Some(other)) => Some(one.join(other)),
                    (one, other) => one.or(other),
                })?;
                Some(Resolution { reply: ChatReply::Aliased(item), repairs: Vec::new() })
            }
            _ => replies.first().map(|reply| Resolution { reply: reply.clone(), repairs: Vec::new() }),
        }
    }
}
