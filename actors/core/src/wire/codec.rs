//! The encoding of bodies: bincode 2, variable-length integers. The one file that knows it; whoever replaces
//! it changes this file and the versions. Limits are on, and bytes left over are an error: a shorter old
//! layout would otherwise pass for a newer one without a word.

use super::WireError;
use crate::limits::{DECODED_BYTES_MAX, MESSAGE_BYTES_MAX};
use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

type Config<const BYTES: usize> = Configuration<LittleEndian, Varint, Limit<BYTES>>;

const CONFIG: Config<MESSAGE_BYTES_MAX> = bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>();
/// For what is read from a few bytes: what they claim is allocated before it is seen to be missing.
const SMALL: Config<DECODED_BYTES_MAX> = bincode::config::standard().with_limit::<DECODED_BYTES_MAX>();
/// What is longer may claim as much as there may be. A number counts with its full width, of sixteen bytes at most,
/// however short it is written.
const SMALL_BYTES_MAX: usize = DECODED_BYTES_MAX / 16;

/// The value's bytes.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, WireError> {
    let mut bytes = Vec::new();
    encode_into(value, &mut bytes)?;
    Ok(bytes)
}

/// Appends the value's bytes. On an error `out` may hold a part of them.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), WireError> {
    let before = out.len();
    bincode::serde::encode_into_std_write(value, out, CONFIG).map_err(|e| WireError::Body(e.to_string()))?;
    let written = out.len() - before;
    if written > MESSAGE_BYTES_MAX {
        return Err(WireError::TooLarge { limit: MESSAGE_BYTES_MAX, found: written });
    }
    Ok(())
}

/// The value of exactly these bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let (value, read) = decode_front(bytes)?;
    if read != bytes.len() {
        return Err(WireError::Length { expected: read, found: bytes.len() });
    }
    Ok(value)
}

/// The value that these bytes begin with, and how many it took. What follows is the caller's to read.
pub fn decode_front<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), WireError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(WireError::TooLarge { limit: MESSAGE_BYTES_MAX, found: bytes.len() });
    }
    // Borrowing, so that a type that asks for bytes is shown them where they lie.
    let decoded = if bytes.len() <= SMALL_BYTES_MAX {
        bincode::serde::borrow_decode_from_slice(bytes, SMALL)
    } else {
        bincode::serde::borrow_decode_from_slice(bytes, CONFIG)
    };
    decoded.map_err(|e| WireError::Body(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_left_over_are_an_error() {
        let mut bytes = encode(&7u32).unwrap();
        bytes.push(0);
        assert!(matches!(decode::<u32>(&bytes), Err(WireError::Length { .. })));
    }

    #[test]
    fn a_claimed_length_beyond_the_bytes_is_refused_before_it_is_allocated() {
        let mut bytes = vec![253]; // an eight-byte length follows
        bytes.extend_from_slice(&(1u64 << 62).to_le_bytes());
        assert!(decode::<Vec<u8>>(&bytes).is_err());
        assert!(decode::<String>(&bytes).is_err());
        assert!(decode::<Vec<u64>>(&bytes).is_err());
    }

    #[test]
    fn a_few_bytes_cannot_claim_what_only_a_large_message_may() {
        let claiming = |claimed: usize, length: usize| {
            let mut bytes = vec![252]; // a four-byte length follows
            bytes.extend_from_slice(&(claimed as u32).to_le_bytes());
            bytes.resize(length, 0);
            decode_front::<String>(&bytes).unwrap_err().to_string()
        };
        let (small, large) =
            (claiming(DECODED_BYTES_MAX + 1, 100), claiming(DECODED_BYTES_MAX + 1, 1 << 20 | 1));
        assert!(small.contains("LimitExceeded") && !large.contains("LimitExceeded"), "{small}; {large}");
        assert!(claiming(MESSAGE_BYTES_MAX + 1, 1 << 20 | 1).contains("LimitExceeded"));
    }

    #[test]
    fn what_is_over_the_limit_is_neither_written_nor_read() {
        let large = vec![0u8; MESSAGE_BYTES_MAX + 1];
        assert!(encode(&large).is_err());
        assert!(matches!(decode::<Vec<u8>>(&large), Err(WireError::TooLarge { .. })));
    }
}
