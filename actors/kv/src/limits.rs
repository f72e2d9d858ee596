//! What a client may send, at most, and the refusals. It decides bounds of names, of what describes a value, and of
//! objects; what a module of another release has stored may be larger and is read all the same.

use ringwork_core::limits::{ROUTING_KEY_BYTES_MAX, STORE_VALUE_BYTES_MAX};

/// Bytes of the name of a bucket type.
pub const TYPE_BYTES_MAX: usize = 64;
/// Bytes of type, bucket and key together, NUL bytes of the bucket counted twice, and three between them.
pub const NAME_BYTES_MAX: usize = ROUTING_KEY_BYTES_MAX;
/// Bytes of an object with all of its siblings unless set otherwise. Every read and every repair moves all of them.
pub const OBJECT_BYTES_DEFAULT: usize = 1024 * 1024;
/// The most that may be set. What was written on several sides of a cut network is joined, never refused, and has to
/// fit into a row then: four sides of this size do, each with all that may describe a value.
pub const OBJECT_BYTES_MAX: usize = 50 * 1024 * 1024;
/// Bytes of a content type, a charset, a content encoding.
pub const MEDIA_BYTES_MAX: usize = 256;
/// Entries of one kind that describe a value: user metadata, links, index entries.
pub const ENTRIES_MAX: usize = 1000;
/// Bytes of all that describes a value together.
pub const DESCRIPTION_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the name of an index or a metadata entry, of the tag of a link.
pub const ENTRY_NAME_BYTES_MAX: usize = 256;
/// Siblings above which a put is told that there are many. Riak's.
pub const SIBLINGS_WARN_DEFAULT: usize = 25;
/// Siblings above which a put that adds one is refused. Riak's.
pub const SIBLINGS_MAX_DEFAULT: usize = 100;
/// Bytes of a causal context as text: some hundred actors, where a key has a few in its lifetime.
pub const CONTEXT_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Entity tags in one condition.
pub const TAGS_MAX: usize = 100;
/// Bytes of an entity tag.
pub const TAG_BYTES_MAX: usize = 128;
/// Tombstones that wait in memory for being buried; what is more waits for a sweep.
pub(crate) const BURIALS_WAITING_MAX: usize = 10_000;
/// Objects that one turn buries or forgets: well below what it may touch, and some milliseconds.
pub(crate) const REAPED_PER_TURN_MAX: usize = 200;

const _: () = {
    assert!(4 * (OBJECT_BYTES_MAX + 2 * DESCRIPTION_BYTES_MAX) <= STORE_VALUE_BYTES_MAX);
    assert!(OBJECT_BYTES_DEFAULT <= OBJECT_BYTES_MAX && DESCRIPTION_BYTES_MAX < OBJECT_BYTES_DEFAULT);
    assert!(SIBLINGS_WARN_DEFAULT < SIBLINGS_MAX_DEFAULT);
};

/// A client sent what cannot be stored. Nothing was done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvInputError {
    /// The bucket type has no name, or one that cannot be.
    #[error(
        "the bucket type {0:?} is no name: 1 to {TYPE_BYTES_MAX} bytes without control characters are expected"
    )]
    Type(String),
    /// The bucket or the key is empty.
    #[error("the {0} must not be empty")]
    Empty(&'static str),
    /// The names are too long.
    #[error("type, bucket and key have {bytes} bytes together: at most {NAME_BYTES_MAX} are allowed")]
    NameLength {
        /// How long they are, with what is between them.
        bytes: usize,
    },
    /// A text that describes the value is too long or is none.
    #[error("{field} must be at most {max} bytes of printable text; it has {bytes}")]
    Text {
        /// Which.
        field: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// Too many entries of one kind.
    #[error("{count} {field}: at most {ENTRIES_MAX} are allowed")]
    Entries {
        /// Of which.
        field: &'static str,
        /// How many there are.
        count: usize,
    },
    /// What describes the value is too large.
    #[error(
        "content type, metadata, links and indexes have {bytes} bytes: at most {DESCRIPTION_BYTES_MAX} are allowed"
    )]
    Description {
        /// How large it is.
        bytes: usize,
    },
    /// The name of an index says no type.
    #[error("the index {field:?} has no type: its name must end in _bin or _int")]
    IndexName {
        /// The name.
        field: String,
    },
    /// The value of an integer index is no integer.
    #[error("the index {field:?} takes whole numbers of 64 bits; {text:?} is none")]
    IndexInteger {
        /// The name.
        field: String,
        /// What was given, cut.
        text: String,
    },
    /// The value is too large.
    #[error("the object would have {bytes} bytes: at most {max} are allowed")]
    ObjectTooLarge {
        /// How large it would be.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// Too many entity tags, or one that is too long.
    #[error("at most {TAGS_MAX} entity tags of at most {TAG_BYTES_MAX} bytes are allowed in a condition")]
    Tags,
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// Refuses a text that is too long or has control characters.
pub(crate) fn check_text(field: &'static str, text: &str, max: usize) -> Result<(), KvInputError> {
    if text.len() > max || has_control(text) {
        return Err(KvInputError::Text { field, bytes: text.len(), max });
    }
    Ok(())
}

/// Refuses the name of a bucket type that cannot be.
pub fn check_type(name: &str) -> Result<(), KvInputError> {
    if name.is_empty() || name.len() > TYPE_BYTES_MAX || has_control(name) {
        let shown = name.chars().take(TYPE_BYTES_MAX).collect();
        return Err(KvInputError::Type(shown));
    }
    Ok(())
}
