//! The bounds of the chat module, each with its unit in its name, and the checks of what a client sends. It
//! decides what is refused at the door and with which words; it does not know where the values come from.

/// Bytes of a user's name. A name is a routing key and begins every row of its log.
pub const USER_BYTES_MAX: usize = 128;
/// Bytes of a message's text unless configured: a long mail still passes, a file does not.
pub const TEXT_BYTES_DEFAULT: usize = 16 * 1024;
/// Most that may be configured for a text: a page has to hold at least one.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of the sender's name.
pub const FROM_BYTES_MAX: usize = 128;
/// Bytes of an idempotency key.
pub const KEY_BYTES_MAX: usize = 128;
/// Messages of a page unless asked otherwise.
pub const PAGE_MESSAGES_DEFAULT: u16 = 100;
/// Most messages of a page that a client may ask for.
pub const PAGE_MESSAGES_MAX: u16 = 1000;
/// Bytes of text after which a page ends, however many messages were asked for.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Messages up to which a page is read within the turn; longer ones go to the worker pool.
pub const PAGE_MESSAGES_INLINE: u16 = 128;
/// Hashes of shown ids that a cursor carries: about 5 KiB of text, below the usual limits of a URL.
pub const CURSOR_SEEN_MAX: usize = 512;
/// How far a cursor looks back: more than clocks of one cluster differ, plus the time a send takes.
pub const CURSOR_LOOK_BACK_MS: u64 = 2_000;
/// Users whose mark and tail are kept in memory by one vnode; about 200 bytes each.
pub(crate) const HEADS_MAX: usize = 4096;
/// Bytes of messages that one vnode keeps in memory to be read again, about: 32 MiB of a node that has all of a
/// ring of 64, if all of it is read.
pub(crate) const RECENT_BYTES_MAX: usize = 512 * 1024;
/// Bytes that it keeps of one user's log: a page of a hundred short messages.
pub(crate) const RECENT_PIECE_BYTES_MAX: usize = 32 * 1024;
/// Rows that one turn removes: about a millisecond of work.
pub(crate) const REMOVED_ROWS_MAX: usize = 1000;
/// Rows that one run of the retention scan reads: some 20 ms of a worker's time.
pub(crate) const SCAN_ROWS_MAX: u64 = 20_000;
/// Marks that one run of the retention scan returns; they are touched in one turn.
pub(crate) const SCAN_MARKS_MAX: usize = 1000;

const _: () = {
    assert!(USER_BYTES_MAX <= ringwork_core::limits::ROUTING_KEY_BYTES_MAX);
    assert!(2 * USER_BYTES_MAX + KEY_BYTES_MAX + 64 < ringwork_core::limits::STORE_KEY_BYTES_MAX);
    assert!(TEXT_BYTES_DEFAULT <= TEXT_BYTES_MAX && TEXT_BYTES_MAX <= PAGE_BYTES_MAX);
    assert!(PAGE_BYTES_MAX + TEXT_BYTES_MAX < ringwork_core::limits::MESSAGE_BYTES_MAX);
    assert!(RECENT_PIECE_BYTES_MAX < RECENT_BYTES_MAX);
    assert!(SCAN_MARKS_MAX <= ringwork_core::limits::TURN_ITEMS_MAX);
};

/// What a client sent is not acceptable. Nothing was done with it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatInputError {
    /// No user is named.
    #[error("user must not be empty: a name of 1 to {USER_BYTES_MAX} bytes is expected")]
    UserEmpty,
    /// The user's name is too long.
    #[error("user has {bytes} bytes: at most {USER_BYTES_MAX} are allowed")]
    UserTooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The user's name has a control character.
    #[error("user has a control character at byte {at}: only printable text is allowed")]
    UserControl {
        /// Where.
        at: usize,
    },
    /// There is no text.
    #[error("text must not be empty")]
    TextEmpty,
    /// The text is too long.
    #[error("text has {bytes} bytes: at most {max} are allowed")]
    TextTooLong {
        /// How long it is.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// The sender's name is empty.
    #[error("from must not be empty: leave it out, or give 1 to {FROM_BYTES_MAX} bytes")]
    FromEmpty,
    /// The sender's name is too long.
    #[error("from has {bytes} bytes: at most {FROM_BYTES_MAX} are allowed")]
    FromTooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The sender's name has a control character.
    #[error("from has a control character at byte {at}: only printable text is allowed")]
    FromControl {
        /// Where.
        at: usize,
    },
    /// The idempotency key is not 1 to 128 bytes long.
    #[error("the idempotency key has {bytes} bytes: 1 to {KEY_BYTES_MAX} are expected")]
    KeyLength {
        /// How long it is.
        bytes: usize,
    },
}

/// Where the first control character is.
pub(crate) fn control_at(text: &str) -> Option<usize> {
    text.char_indices().find(|(_, character)| character.is_control()).map(|(at, _)| at)
}

/// Checks a user's name.
pub fn validate_user(user: &str) -> Result<(), ChatInputError> {
    match user.len() {
        0 => Err(ChatInputError::UserEmpty),
        bytes if bytes > USER_BYTES_MAX => Err(ChatInputError::UserTooLong { bytes }),
        _ => control_at(user).map_or(Ok(()), |at| Err(ChatInputError::UserControl { at })),
    }
}

/// Checks the beginning of a user's name; nothing is the beginning of all.
pub fn validate_user_prefix(prefix: &str) -> Result<(), ChatInputError> {
    if prefix.is_empty() { Ok(()) } else { validate_user(prefix) }
}

/// Checks a message's text against the configured bound; the hard one holds in any case. Control characters
/// are allowed: a text has lines.
pub fn validate_text(text: &str, max: usize) -> Result<(), ChatInputError> {
    let max = max.min(TEXT_BYTES_MAX);
    match text.len() {
        0 => Err(ChatInputError::TextEmpty),
        bytes if bytes > max => Err(ChatInputError::TextTooLong { bytes, max }),
        _ => Ok(()),
    }
}

/// Checks a sender's name.
pub fn validate_from(from: &str) -> Result<(), ChatInputError> {
    match from.len() {
        0 => Err(ChatInputError::FromEmpty),
        bytes if bytes > FROM_BYTES_MAX => Err(ChatInputError::FromTooLong { bytes }),
        _ => control_at(from).map_or(Ok(()), |at| Err(ChatInputError::FromControl { at })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_what_is_beyond_is_refused() {
        assert!(validate_user(&"u".repeat(128)).is_ok());
        assert_eq!(validate_user(&"u".repeat(129)), Err(ChatInputError::UserTooLong { bytes: 129 }));
        assert_eq!(validate_user(""), Err(ChatInputError::UserEmpty));
        assert_eq!(validate_user("a\0"), Err(ChatInputError::UserControl { at: 1 }));
        assert!(validate_text("two\nlines", 9).is_ok());
        assert_eq!(validate_text("four", 3), Err(ChatInputError::TextTooLong { bytes: 4, max: 3 }));
        let huge = "x".repeat(TEXT_BYTES_MAX + 1);
        assert!(validate_text(&huge, usize::MAX).is_err());
        assert_eq!(validate_text("", 9).map_err(|e| e.to_string()), Err("text must not be empty".into()));
        assert!(validate_from("anna").is_ok() && validate_from("").is_err());
        assert!(validate_from("an\u{7}").is_err() && validate_from(&"é".repeat(65)).is_err());
    }
}
