//! One value of an object with everything that describes it. It decides what a client may put there. It does not know
//! the other values of the object, nor which of them is the better one.

use crate::blob::Blob;
use crate::limits::{
    DESCRIPTION_BYTES_MAX, ENTRIES_MAX, ENTRY_NAME_BYTES_MAX, KvInputError, MEDIA_BYTES_MAX, check_text,
};
use ringwork_core::clock::hybrid::HybridTime;
use ringwork_core::ids::Dot;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a value's content type is where nobody says.
pub const DEFAULT_CONTENT_TYPE: &str = "application/octet-stream";
/// Bytes that a value takes beside its own: dot, time, lengths.
const OVERHEAD_BYTES: usize = 64;

/// A link to another object, with what it stands for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Link {
    /// In which bucket; of the same type.
    pub bucket: Blob,
    /// Under which key.
    pub key: Blob,
    /// What it stands for.
    pub tag: String,
}

/// What an object can be found by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum IndexTerm {
    /// Of an index whose name ends in `_int`.
    Integer(i64),
    /// Of an index whose name ends in `_bin`.
    Binary(Blob),
}

/// A term in an index.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct IndexEntry {
    /// The index, in lower case, with the suffix that says its type.
    pub field: String,
    /// The term.
    pub term: IndexTerm,
}

impl IndexEntry {
    /// The entry that a client means by a field and a text.
    pub fn parse(field: &str, text: &[u8]) -> Result<Self, KvInputError> {
        check_text("the name of an index", field, ENTRY_NAME_BYTES_MAX)?;
        let field = field.to_lowercase();
        let term = if field.ends_with("_bin") {
            IndexTerm::Binary(text.into())
        } else if field.ends_with("_int") {
            let number = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
            let shown = || String::from_utf8_lossy(text.get(..32).unwrap_or(text)).into_owned();
            IndexTerm::Integer(
                number.ok_or_else(|| KvInputError::IndexInteger { field: field.clone(), text: shown() })?,
            )
        } else {
            return Err(KvInputError::IndexName { field });
        };
        Ok(Self { field, term })
    }

    fn bytes(&self) -> usize {
        let term = match &self.term {
            IndexTerm::Integer(_) => 8,
            IndexTerm::Binary(term) => term.len(),
        };
        self.field.len() + term
    }
}

/// A value, or the mark that there was one.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Content {
    /// The value.
    pub value: Blob,
    /// What kind of value it is, without parameters.
    pub content_type: String,
    /// In which characters it is written.
    pub charset: Option<String>,
    /// How it is packed.
    pub content_encoding: Option<String>,
    /// What the client wrote beside it, by name.
    pub metadata: BTreeMap<String, String>,
    /// Links to other objects, in the client's order.
    pub links: Vec<Link>,
    /// What it can be found by.
    pub indexes: BTreeSet<IndexEntry>,
    /// When it was written, by the clock of the node that took it in: later than everything that its writer's object
    /// held there.
    pub modified: HybridTime,
    /// A tombstone: whoever wrote this meant that there be nothing.
    pub deleted: bool,
}

impl Content {
    /// A value without any description.
    pub fn of(value: impl Into<Blob>) -> Self {
        Self { value: value.into(), content_type: DEFAULT_CONTENT_TYPE.to_owned(), ..Self::default() }
    }

    /// The mark that there is nothing any more.
    pub fn tombstone() -> Self {
        Self { deleted: true, ..Self::default() }
    }

    /// Bytes that it takes in an object, about.
    pub fn bytes(&self) -> usize {
        OVERHEAD_BYTES + self.value.len() + self.description_bytes()
    }

    fn description_bytes(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let metadata: usize = self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
        let links: usize =
            self.links.iter().map(|link| link.bucket.len() + link.key.len() + link.tag.len()).sum();
        let indexes: usize = self.indexes.iter().map(IndexEntry::bytes).sum();
        let media = self.content_type.len() + optional(&self.charset) + optional(&self.content_encoding);
        media + metadata + links + indexes
    }

    /// Whether another write would say the same; when, does not count.
    pub fn says_the_same(&self, other: &Self) -> bool {
        Self { modified: other.modified, ..self.clone() } == *other
    }

    /// Refuses what no client may write. How large the value may be, the object says.
    pub fn check(&self) -> Result<(), KvInputError> {
        check_text("the content type", &self.content_type, MEDIA_BYTES_MAX)?;
        check_text("the charset", self.charset.as_deref().unwrap_or_default(), MEDIA_BYTES_MAX)?;
        let encoding = self.content_encoding.as_deref().unwrap_or_default();
        check_text("the content encoding", encoding, MEDIA_BYTES_MAX)?;
        for (field, count) in [
            ("entries of metadata", self.metadata.len()),
            ("links", self.links.len()),
            ("index entries", self.indexes.len()),
        ] {
            if count > ENTRIES_MAX {
                return Err(KvInputError::Entries { field, count });
            }
        }
        for name in self.metadata.keys() {
            check_text("the name of a metadata entry", name, ENTRY_NAME_BYTES_MAX)?;
        }
        for link in &self.links {
            check_text("the tag of a link", &link.tag, ENTRY_NAME_BYTES_MAX)?;
        }
        let bytes = self.description_bytes();
        if bytes > DESCRIPTION_BYTES_MAX {
            return Err(KvInputError::Description { bytes });
        }
        Ok(())
    }
}

/// The name of the version that a write made, as entity tags have it: the same on every replica, and no other write's,
/// as its dot is.
pub fn vtag(dot: Dot) -> String {
    base62((u128::from(dot.actor.0) << 64) | u128::from(dot.counter))
}

/// Twenty-two characters, as many as 128 bits take.
fn base62(mut number: u128) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = [b'0'; 22];
    for digit in text.iter_mut().rev() {
        *digit = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    text.iter().map(|digit| char::from(*digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwork_core::ids::ActorId;

    #[test]
    fn an_index_says_its_type_by_its_name() {
        let int = IndexEntry::parse("Age_INT", b"-5").unwrap();
        assert_eq!(int, IndexEntry { field: "age_int".into(), term: IndexTerm::Integer(-5) });
        let bin = IndexEntry::parse("x_bin", b"\xff").unwrap();
        assert_eq!(bin.term, IndexTerm::Binary(Blob::from(vec![0xff])));
        assert!(matches!(IndexEntry::parse("x", b"1"), Err(KvInputError::IndexName { .. })));
        assert!(matches!(IndexEntry::parse("x_int", b"one"), Err(KvInputError::IndexInteger { .. })));
        assert!(IndexEntry::parse("", b"").is_err() && IndexEntry::parse(&"x".repeat(300), b"").is_err());
    }

    #[test]
    fn what_describes_a_value_is_bounded() {
        let mut content = Content::of("x");
        content.check().unwrap();
        content.content_type = "text/plain\r\nX: y".into();
        assert!(content.check().unwrap_err().to_string().contains("content type"));
        content.content_type = "text/plain".into();
        content.links = vec![Link { bucket: "b".into(), key: "k".into(), tag: "t".into() }; ENTRIES_MAX + 1];
        assert_eq!(content.check(), Err(KvInputError::Entries { field: "links", count: 1001 }));
        content.links.truncate(ENTRIES_MAX);
        content.check().unwrap();
        content.metadata.insert("m".into(), "x".repeat(DESCRIPTION_BYTES_MAX));
        assert!(matches!(content.check(), Err(KvInputError::Description { .. })));
    }

    #[test]
    fn a_tag_names_one_write() {
        let dot = |actor, counter| Dot { actor: ActorId(actor), counter };
        assert_eq!(vtag(dot(0, 1)), "0000000000000000000001");
        assert_eq!(vtag(dot(u64::MAX, u64::MAX)).len(), 22);
        assert_ne!(vtag(dot(1, 2)), vtag(dot(2, 1)));
    }
}
