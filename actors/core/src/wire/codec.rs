//! The encoding of bodies: bincode 2, variable-length integers. The one file that knows it; whoever replaces
//! it changes this file and the versions. Limits are on, and bytes left over are an error: a shorter old
//! layout would otherwise pass for a newer one without a word.

use super::WireError;
use crate::limits::{DECODED_BYTES_MAX, MESSAGE_BYTES_MAX};
use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
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

/// Gives the value's bytes to `take`, one piece after the other: for whoever needs to have seen them and not to have
/// them. On an error it may have got a part of them.
pub fn encode_in_pieces<T: Serialize + ?Sized>(
    value: &T,
    take: &mut dyn FnMut(&[u8]),
) -> Result<(), WireError> {
    let mut pieces = Pieces { take, gathered: [0; PIECE_BYTES], filled: 0, written: 0 };
    bincode::serde::encode_into_writer(value, &mut pieces, CONFIG)
        .map_err(|e| WireError::Body(e.to_string()))?;
    pieces.hand_over();
    match pieces.written {
        found if found > MESSAGE_BYTES_MAX => Err(WireError::TooLarge { limit: MESSAGE_BYTES_MAX, found }),
        _ => Ok(()),
    }
}

/// The codec writes single bytes; nobody wants to be called for each.
const PIECE_BYTES: usize = 1024;

struct Pieces<'a> {
    take: &'a mut dyn FnMut(&[u8]),
    gathered: [u8; PIECE_BYTES],
    filled: usize,
    written: usize,
}

impl Pieces<'_> {
    fn hand_over(&mut self) {
        (self.take)(self.gathered.get(..self.filled).unwrap_or_default());
        self.filled = 0;
    }
}

impl Writer for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.written += bytes.len();
        if bytes.len() > PIECE_BYTES - self.filled {
            self.hand_over();
        }
        match self.gathered.get_mut(self.filled..self.filled + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.filled += bytes.len();
            }
            None => (self.take)(bytes),
        }
        Ok(())
    }
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
    fn pieces_are_the_bytes_of_the_whole() {
        let long = |length: usize| "x".repeat(length);
        for length in [0, 1, PIECE_BYTES - 9, PIECE_BYTES - 8, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES]
        {
            let value = (7u64, long(length), vec![[3u8; 16]; length], Some(long(3)), u64::MAX);
            let (mut bytes, mut most) = (Vec::new(), 0);
            let mut take = |piece: &[u8]| {
                bytes.extend_from_slice(piece);
                most = most.max(piece.len());
            };
            encode_in_pieces(&value, &mut take).unwrap();
            assert_eq!(bytes, encode(&value).unwrap(), "{length}");
            assert!(most <= PIECE_BYTES.max(length));
        }
        let large = vec![0u8; MESSAGE_BYTES_MAX + 1];
        assert!(matches!(encode_in_pieces(&large, &mut |_| ()), Err(WireError::TooLarge { .. })));
    }

    #[test]
    fn what_is_over_the_limit_is_neither_written_nor_read() {
        let large = vec![0u8; MESSAGE_BYTES_MAX + 1];
        assert!(encode(&large).is_err());
        assert!(matches!(decode::<Vec<u8>>(&large), Err(WireError::TooLarge { .. })));
    }
}
