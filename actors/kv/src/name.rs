//! What an object is called: bucket type, bucket and key, and how the three are one string of bytes. It decides that
//! layout, which is in every row and is what is hashed, so it stays for ever. It does not know whether the type exists.
//!
//! The bytes are the type, a NUL, the bucket with each NUL written as NUL 0xff, two NULs, and the key as it is. They
//! sort by type, then bucket, then key; none begins with a NUL, so rows that are no objects have room before all that
//! are.

use crate::blob::Blob;
use crate::limits::{KvInputError, NAME_BYTES_MAX, check_type};
use ringwork_core::store::KeyRange;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The type of buckets that were given none.
pub const DEFAULT_TYPE: &str = "default";

const END: u8 = 0;
const ESCAPED: u8 = 0xff;

/// See the module's head.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Blob", into = "Blob")]
pub struct ObjectName(Blob);

/// What is common to the names of a bucket's objects.
fn bucket_prefix(bucket_type: &str, bucket: &[u8]) -> Vec<u8> {
    let mut bytes = type_prefix(bucket_type);
    for byte in bucket {
        bytes.push(*byte);
        if *byte == END {
            bytes.push(ESCAPED);
        }
    }
    bytes.extend([END, END]);
    bytes
}

fn type_prefix(bucket_type: &str) -> Vec<u8> {
    let mut bytes = bucket_type.as_bytes().to_vec();
    bytes.push(END);
    bytes
}

/// The names of all objects of a bucket.
pub(crate) fn names_of_bucket(bucket_type: &str, bucket: &[u8]) -> KeyRange {
    KeyRange::prefix(&bucket_prefix(bucket_type, bucket))
}

/// The names of all objects of a type.
pub(crate) fn names_of_type(bucket_type: &str) -> KeyRange {
    KeyRange::prefix(&type_prefix(bucket_type))
}

/// A key behind which no more of a bucket's objects come, and no bucket has been passed over: for a listing of buckets
/// that goes on with the next one. It is no object's name.
pub fn last_of_bucket(bucket_type: &str, bucket: &[u8]) -> Vec<u8> {
    let mut bytes = bucket_prefix(bucket_type, bucket);
    // Of the two NULs at the end the second one higher: above all keys of this bucket, below "bucket NUL …".
    bytes.pop();
    bytes.push(1);
    bytes
}

struct Parts<'a> {
    bucket_type: &'a str,
    bucket: Vec<u8>,
    key: &'a [u8],
}

fn parse(bytes: &[u8]) -> Option<Parts<'_>> {
    let type_end = bytes.iter().position(|byte| *byte == END)?;
    let bucket_type = std::str::from_utf8(bytes.get(..type_end)?).ok()?;
    let (mut bucket, mut rest) = (Vec::new(), bytes.get(type_end + 1..)?);
    loop {
        match rest {
            [END, END, key @ ..] => return Some(Parts { bucket_type, bucket, key }),
            [END, ESCAPED, more @ ..] => {
                bucket.push(END);
                rest = more;
            }
            [END, ..] | [] => return None,
            [byte, more @ ..] => {
                bucket.push(*byte);
                rest = more;
            }
        }
    }
}

impl ObjectName {
    /// The name of the object in this type and bucket under this key.
    pub fn new(bucket_type: &str, bucket: &[u8], key: &[u8]) -> Result<Self, KvInputError> {
        check_type(bucket_type)?;
        if bucket.is_empty() {
            return Err(KvInputError::Empty("bucket"));
        }
        if key.is_empty() {
            return Err(KvInputError::Empty("key"));
        }
        // What is far too long is not escaped first.
        let at_least = bucket_type.len() + bucket.len() + key.len() + 3;
        if at_least > NAME_BYTES_MAX {
            return Err(KvInputError::NameLength { bytes: at_least });
        }
        let mut bytes = bucket_prefix(bucket_type, bucket);
        bytes.extend_from_slice(key);
        if bytes.len() > NAME_BYTES_MAX {
            return Err(KvInputError::NameLength { bytes: bytes.len() });
        }
        Ok(Self(bytes.into()))
    }

    /// The name as it is hashed, and sorted by.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name that these bytes are; none where they are none.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let parts = parse(bytes)?;
        Self::new(parts.bucket_type, &parts.bucket, parts.key).ok()
    }

    /// The bucket type.
    pub fn bucket_type(&self) -> &str {
        parse(&self.0).map_or("", |parts| parts.bucket_type)
    }

    /// The bucket.
    pub fn bucket(&self) -> Vec<u8> {
        parse(&self.0).map_or_else(Vec::new, |parts| parts.bucket)
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        parse(&self.0).map_or(&[], |parts| parts.key)
    }
}

impl From<ObjectName> for Blob {
    fn from(name: ObjectName) -> Self {
        name.0
    }
}

impl TryFrom<Blob> for ObjectName {
    type Error = &'static str;

    fn try_from(bytes: Blob) -> Result<Self, Self::Error> {
        Self::from_bytes(&bytes).ok_or("the bytes are no name of an object")
    }
}

impl fmt::Debug for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bucket, key) = (self.bucket(), self.key());
        write!(f, "{}/{}/{}", self.bucket_type(), bucket.escape_ascii(), key.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use ringwork_core::wire::codec;

    /// Bytes of which many are NUL, 1 or 0xff.
    fn awkward() -> impl Strategy<Value = Vec<u8>> {
        vec(prop_oneof![Just(0u8), Just(1), Just(255), Just(b'a')], 1..6)
    }

    fn types() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("default"), Just("t"), Just("tt"), Just("ü")]
    }

    proptest! {
        #[test]
        fn names_are_taken_apart_again_and_sort_by_type_bucket_and_key(
            one in (types(), awkward(), awkward()), other in (types(), awkward(), awkward()),
        ) {
            let name = |(t, b, k): &(&str, Vec<u8>, Vec<u8>)| ObjectName::new(t, b, k).unwrap();
            let (left, right) = (name(&one), name(&other));
            prop_assert_eq!((left.bucket_type(), left.bucket(), left.key().to_vec()), one.clone());
            prop_assert_eq!(left.cmp(&right), one.cmp(&other));
            prop_assert_ne!(left.bytes()[0], 0);
            prop_assert_eq!(codec::decode::<ObjectName>(&codec::encode(&left).unwrap()).unwrap(), left.clone());
            prop_assert_eq!(names_of_type(one.0).contains(right.bytes()), one.0 == other.0);
            let same_bucket = one.0 == other.0 && one.1 == other.1;
            prop_assert_eq!(names_of_bucket(one.0, &one.1).contains(right.bytes()), same_bucket);
            let behind = last_of_bucket(one.0, &one.1);
            prop_assert!(left.bytes() < behind.as_slice());
            let after = (other.0, &other.1) > (one.0, &one.1);
            prop_assert_eq!(right.bytes() > behind.as_slice(), after, "no bucket is passed over");
            prop_assert!(ObjectName::from_bytes(&behind).is_none());
        }

        #[test]
        fn any_bytes_are_a_name_or_refused(bytes in vec(prop_oneof![Just(0u8), Just(255), any::<u8>()], 0..20)) {
            if let Some(name) = ObjectName::from_bytes(&bytes) {
                prop_assert_eq!(name.bytes(), bytes.as_slice());
            }
        }
    }

    #[test]
    fn what_is_empty_or_too_long_is_refused_with_the_reason() {
        let refused = |t: &str, b: &[u8], k: &[u8]| ObjectName::new(t, b, k).unwrap_err().to_string();
        assert!(refused("", b"b", b"k").contains("bucket type"));
        assert!(refused("a\0", b"b", b"k").contains("bucket type"));
        assert_eq!(refused("t", b"", b"k"), "the bucket must not be empty");
        assert_eq!(refused("t", b"b", b""), "the key must not be empty");
        assert!(ObjectName::new("t", b"b", &[7; NAME_BYTES_MAX - 5]).is_ok());
        assert!(refused("t", b"b", &[7; NAME_BYTES_MAX - 4]).contains("1025 bytes together"));
        assert!(refused("t", &[0; 600], b"k").contains("1205 bytes together"));
    }

    #[test]
    fn the_layout_does_not_change() {
        let name = ObjectName::new("t", b"b\0c", b"k\0").unwrap();
        assert_eq!(name.bytes(), b"t\0b\0\xffc\0\0k\0");
        assert_eq!(format!("{name:?}"), r"t/b\x00c/k\x00");
    }
}
