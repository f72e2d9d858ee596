//! Bytes: what a value looks like outside the process. It decides the envelope of files and messages and
//! what is refused; [`codec`] is the one file that knows the encoding inside. It does not know sockets or
//! file names.
//!
//! An envelope is: magic "RW" (2 bytes), kind (2), version (2), body length (4), CRC-32 of all that and the
//! body (4), body. All numbers big-endian. bincode cannot evolve a struct, so every change of a body is a new
//! version, and a reader keeps the versions it still understands.

pub mod codec;
pub mod frame;
pub mod handshake;
pub mod parts;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A value that crosses the wire or lies on disk in the form of its `VERSION`.
pub trait Wire: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The version of this type's layout. A new layout is a new number; the first is 1.
    const VERSION: u16 = 1;
}

/// Something or nothing: what a module answers that may have nothing to say.
impl<T: Wire> Wire for Option<T> {
    const VERSION: u16 = T::VERSION;
}

/// What an envelope holds. The numbers are for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Kind {
    /// The node's identity file.
    Identity = 1,
    /// The ring file.
    Ring = 2,
    /// The record of what the store's files were like.
    Audit = 3,
    /// The metadata file.
    Metadata = 4,
}

/// Bytes that are not what they should be. Nothing was built from them.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// Fewer bytes than the header announces, or more.
    #[error("{found} bytes where {expected} were announced")]
    Length {
        /// What the header says, header included.
        expected: usize,
        /// What is there.
        found: usize,
    },
    /// The first bytes are not an envelope of this kind.
    #[error("not a ringwork envelope of the expected kind")]
    Kind,
    /// The checksum does not match.
    #[error("checksum mismatch: the bytes were changed after they were written")]
    Checksum,
    /// A version that this release does not know.
    #[error("version {0} is not known to this release")]
    Version(u16),
    /// Over the limit; nothing was allocated.
    #[error("{found} bytes, at most {limit} are allowed")]
    TooLarge {
        /// The bound.
        limit: usize,
        /// What was announced.
        found: usize,
    },
    /// The body does not decode.
    #[error("undecodable: {0}")]
    Body(String),
}

const MAGIC: [u8; 2] = *b"RW";
/// Bytes before the body of an envelope.
const HEADER_BYTES: usize = 14;
/// Where in them the checksum lies, of all that is before it and the body.
const CHECKSUM_AT: usize = 10;

/// Wraps `value` in an envelope and gives its bytes to `take`, one piece after the other. It is encoded twice, first
/// for its length and checksum, and never lies anywhere as a whole: a ring's state takes megabytes. On an error `take`
/// may have got a part.
pub fn seal_in_pieces<T: Serialize>(
    kind: Kind,
    version: u16,
    value: &T,
    take: &mut dyn FnMut(&[u8]),
) -> Result<(), WireError> {
    let (mut body, mut body_bytes) = (crc32fast::Hasher::new(), 0usize);
    codec::encode_in_pieces(value, &mut |piece| {
        body.update(piece);
        body_bytes += piece.len();
    })?;
    let mut header = [0; HEADER_BYTES];
    header[..2].copy_from_slice(&MAGIC);
    header[2..4].copy_from_slice(&(kind as u16).to_be_bytes());
    header[4..6].copy_from_slice(&version.to_be_bytes());
    header[6..CHECKSUM_AT].copy_from_slice(&(body_bytes as u32).to_be_bytes());
    let checksum = checksum(&header[..CHECKSUM_AT], &body);
    header[CHECKSUM_AT..].copy_from_slice(&checksum.to_be_bytes());
    take(&header);
    codec::encode_in_pieces(value, take)
}

/// Opens an envelope of `kind`: its version and its body, verified. Nothing is decoded yet.
pub fn open(kind: Kind, bytes: &[u8]) -> Result<(u16, &[u8]), WireError> {
    let (Some(header), Some(body)) = (bytes.get(..HEADER_BYTES), bytes.get(HEADER_BYTES..)) else {
        return Err(WireError::Length { expected: HEADER_BYTES, found: bytes.len() });
    };
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let long = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if header[..2] != MAGIC || number(2) != kind as u16 {
        return Err(WireError::Kind);
    }
    let announced = long(6) as usize;
    if announced != body.len() {
        return Err(WireError::Length { expected: HEADER_BYTES + announced, found: bytes.len() });
    }
    let mut found = crc32fast::Hasher::new();
    found.update(body);
    if long(CHECKSUM_AT) != checksum(&header[..CHECKSUM_AT], &found) {
        return Err(WireError::Checksum);
    }
    Ok((number(4), body))
}

/// Of both, one after the other.
fn checksum(header: &[u8], body: &crc32fast::Hasher) -> u32 {
    let mut whole = crc32fast::Hasher::new();
    whole.update(header);
    whole.combine(body);
    whole.finalize()
}

/// A value for a store: one byte of version, then the body. Engines check their own blocks.
pub fn stored<T: Wire>(value: &T) -> Result<Vec<u8>, WireError> {
    let mut bytes = vec![T::VERSION as u8];
    codec::encode_into(value, &mut bytes)?;
    Ok(bytes)
}

/// Reads what [`stored`] wrote; a version other than `T`'s is refused.
pub fn from_stored<T: Wire>(bytes: &[u8]) -> Result<T, WireError> {
    match bytes.split_first() {
        Some((version, body)) if u16::from(*version) == T::VERSION => codec::decode(body),
        Some((version, _)) => Err(WireError::Version(u16::from(*version))),
        None => Err(WireError::Length { expected: 1, found: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal<T: Serialize>(kind: Kind, version: u16, value: &T) -> Result<Vec<u8>, WireError> {
        let mut bytes = Vec::new();
        seal_in_pieces(kind, version, value, &mut |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    #[test]
    fn an_envelope_opens_to_what_was_sealed() {
        let bytes = seal(Kind::Ring, 3, &("text".to_owned(), 7u64)).unwrap();
        let (version, body) = open(Kind::Ring, &bytes).unwrap();
        assert_eq!(version, 3);
        assert_eq!(codec::decode::<(String, u64)>(body).unwrap(), ("text".to_owned(), 7));
        assert_eq!(open(Kind::Identity, &bytes), Err(WireError::Kind));
    }

    #[test]
    fn the_layout_on_disk_does_not_change() {
        let bytes = seal(Kind::Identity, 1, &(1u8, "ab".to_owned())).unwrap();
        assert_eq!(bytes, [0x52, 0x57, 0, 1, 0, 1, 0, 0, 0, 4, 0x24, 0x30, 0xc3, 0x04, 1, 2, b'a', b'b']);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = seal(Kind::Ring, 1, &vec![5u32; 20]).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(open(Kind::Ring, &damaged).is_err(), "byte {at}, bit {bit}");
            }
            assert!(open(Kind::Ring, &bytes[..at]).is_err(), "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_opened_but_never_panic(bytes: Vec<u8>) {
            let _ = open(Kind::Ring, &bytes);
            let _ = codec::decode::<Vec<(String, Option<u64>)>>(&bytes);
        }
    }
}
