//! Bytes that a client chose, cheap to clone and written to the wire at once and not byte by byte. It decides nothing
//! about what is in them.

use bytes::Bytes;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::ops::Deref;

/// See the module's head.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Blob(pub Bytes);

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Blob {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl From<&str> for Blob {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl fmt::Debug for Blob {
    /// As a byte string, cut: values can be large.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 64;
        write!(f, "b\"{}\"", self.get(..SHOWN).unwrap_or(self).escape_ascii())?;
        if self.len() > SHOWN { write!(f, "… {} bytes", self.len()) } else { Ok(()) }
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not a buffer of their own, which would be as large as claimed before a byte of it was seen.
        deserializer.deserialize_bytes(Bytewise)
    }
}

struct Bytewise;

impl<'de> Visitor<'de> for Bytewise {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(bytes.into())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(bytes.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Blob, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = items.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringwork_core::wire::codec;

    #[test]
    fn bytes_travel_as_they_are_with_their_length_before_them() {
        let blob = Blob::from(vec![0, 255, 7]);
        let bytes = codec::encode(&blob).unwrap();
        assert_eq!(bytes, [3, 0, 255, 7]);
        assert_eq!(codec::decode::<Blob>(&bytes).unwrap(), blob);
        assert!(codec::decode::<Blob>(&[200, 0]).is_err(), "a length beyond the bytes is refused");
    }

    #[test]
    fn a_large_value_is_shown_in_part() {
        assert_eq!(format!("{:?}", Blob::from("a\n")), "b\"a\\n\"");
        assert!(format!("{:?}", Blob::from(vec![b'x'; 1 << 20])).len() < 100);
    }
}
