//! The chat module: one log of messages per user, as a vnode. It decides what a message id is, how items
//! merge, how rows lie in the store, how a log is read by page and how it expires. It does not know HTTP, the
//! network, threads or the wall clock; replication, durability and repair are the runtime's.
//!
//! Reading order: [`id`] and [`key`] (what names a message), [`item`] (what is replicated and how it joins),
//! `layout` (rows), [`chat`] with `merge`, `fold` and [`sweep`] (the vnode), [`page`] (reading a log, and
//! making one page of several replicas' pages), [`cursor`] (where a reader is), [`users`] (who has messages).

pub mod chat;
pub mod cursor;
pub mod digest;
mod fold;
pub mod id;
pub mod item;
pub mod key;
mod layout;
pub mod limits;
mod merge;
pub mod page;
mod recent;
pub mod shared;
pub mod sweep;
pub mod users;

#[cfg(test)]
mod bed;
#[cfg(test)]
mod tests;

pub use chat::{Chat, ChatCommand, ChatConfig, ChatError, ChatReply};
pub use cursor::{Cursor, CursorError, Position};
pub use digest::PageDigest;
pub use id::{IdError, MessageId};
pub use item::{ChatItem, Content};
pub use key::{IdempotencyKey, KeyError};
pub use layout::unreadable_rows;
pub use limits::{ChatInputError, validate_from, validate_text, validate_user};
pub use page::{PageBounds, PageQuery, PageReply};
pub use shared::SharedItem;
pub use users::{UserList, UserRow};
