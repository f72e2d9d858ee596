//! Message ids: 160 bits whose order is the order of a log, as bytes and as text alike. It decides the layout
//! of an id and how it is written; it does not know who mints one, nor whether a message bears it.
//!
//! | bytes | minted by a node (kind 0) | a client's ULID (kind 1) or UUIDv7 (kind 2) |
//! |---|---|---|
//! | 0–5 | milliseconds since 1970 | milliseconds since 1970 |
//! | 6–7 | count within the millisecond | its other 80 bits, |
//! | 8–15 | the node's tag | as they are |
//! | 16–18 | the node's boot | 0 |
//! | 19 | 0 | 1 or 2 |

use ringwork_core::clock::hybrid::{HybridTime, Stamp};
use ringwork_core::limits::CLOCK_AHEAD_MS_MAX;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

const BYTES: usize = 20;
const CHARACTERS: usize = 32;
const ULID_CHARACTERS: usize = 26;
/// Crockford's base 32: its characters ascend in ASCII, so texts sort as the bytes do.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const NO_DIGIT: u8 = 0xff;

const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut at = 0;
    while at < ALPHABET.len() {
        digits[ALPHABET[at] as usize] = at as u8;
        digits[ALPHABET[at].to_ascii_lowercase() as usize] = at as u8;
        at += 1;
    }
    digits
};

/// Names a message within its user's log, and its place there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; BYTES]);

/// Who minted an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IdKind {
    /// A node, from its hybrid clock.
    Server,
    /// A client: the id is its ULID.
    Ulid,
    /// A client: the id is its UUIDv7.
    Uuid,
    /// Nobody that this release knows. Still a place in a log.
    Unknown(u8),
}

/// A text that is not an id.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The wrong number of bytes.
    #[error("a message id has exactly {expected} characters, this has {found} bytes")]
    Length {
        /// The right number.
        expected: usize,
        /// What there was.
        found: usize,
    },
    /// A byte that is not of the alphabet.
    #[error(
        "a message id is written in 0-9 and A-Z without I, L, O and U; the byte at {at} is none of these"
    )]
    Character {
        /// Where, from 0.
        at: usize,
    },
    /// A ULID of more than 128 bits.
    #[error("a ULID begins with 0 to 7: more would be over 128 bits")]
    Overflow,
    /// A UUID of another version.
    #[error("only a UUID of version 7 carries its time")]
    NotVersion7,
}

impl MessageId {
    /// Below every id that anybody mints.
    pub const SMALLEST: Self = Self([0; BYTES]);
    /// Above every id that anybody mints.
    pub const LARGEST: Self = Self([0xff; BYTES]);

    /// The id of a message that a node mints. Of the boot the low 24 bits are used; the runtime does not
    /// start a data directory more often than that.
    pub fn from_stamp(stamp: Stamp) -> Self {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&stamp.time.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&stamp.node.tag());
        bytes[16..19].copy_from_slice(&stamp.boot.0.to_be_bytes()[1..]);
        Self(bytes)
    }

    /// The id that a client's ULID is: 26 characters in either case.
    pub fn from_ulid_text(text: &str) -> Result<Self, IdError> {
        if text.len() != ULID_CHARACTERS {
            return Err(IdError::Length { expected: ULID_CHARACTERS, found: text.len() });
        }
        let mut bits = 0u128;
        for (at, byte) in text.bytes().enumerate() {
            let digit = digit(byte).ok_or(IdError::Character { at })?;
            if at == 0 && digit > 7 {
                return Err(IdError::Overflow);
            }
            bits = bits << 5 | u128::from(digit);
        }
        Ok(Self::client_minted(bits.to_be_bytes(), 1))
    }

    /// The id that a client's UUIDv7 is.
    pub fn from_uuid(uuid: uuid::Uuid) -> Result<Self, IdError> {
        if uuid.get_version_num() != 7 || uuid.get_variant() != uuid::Variant::RFC4122 {
            return Err(IdError::NotVersion7);
        }
        Ok(Self::client_minted(uuid.into_bytes(), 2))
    }

    fn client_minted(first: [u8; 16], kind: u8) -> Self {
        let mut bytes = [0; BYTES];
        bytes[..16].copy_from_slice(&first);
        bytes[19] = kind;
        Self(bytes)
    }

    /// The smallest place of a millisecond.
    pub fn at_ms(milliseconds: u64) -> Self {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&HybridTime::at_ms(milliseconds).0.to_be_bytes());
        Self(bytes)
    }

    /// When the message was sent, in milliseconds since 1970, by its sender's clock.
    pub fn time_ms(&self) -> u64 {
        self.hybrid_time().milliseconds()
    }

    /// A time such that every id minted above it is larger than this one.
    pub fn hybrid_time(&self) -> HybridTime {
        HybridTime(self.0.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
    }

    /// Who minted it.
    pub fn kind(&self) -> IdKind {
        match self.0[BYTES - 1] {
            0 => IdKind::Server,
            1 => IdKind::Ulid,
            2 => IdKind::Uuid,
            other => IdKind::Unknown(other),
        }
    }

    /// Whether a client minted it. Such an id is its message's only one, on all replicas.
    pub fn is_client_minted(&self) -> bool {
        matches!(self.kind(), IdKind::Ulid | IdKind::Uuid)
    }

    /// Whether it lies further ahead of the clock than is believed. Nobody should delete up to such an id:
    /// messages of the next minutes would be gone before they are sent.
    pub fn is_too_far_ahead(&self, now_ms: u64) -> bool {
        self.time_ms() > now_ms.saturating_add(CLOCK_AHEAD_MS_MAX)
    }

    /// The next larger id; none after the largest.
    pub fn next(self) -> Option<Self> {
        let mut bytes = self.0;
        for byte in bytes.iter_mut().rev() {
            let (sum, carried) = byte.overflowing_add(1);
            *byte = sum;
            if !carried {
                return Some(Self(bytes));
            }
        }
        None
    }

    /// The next smaller id; none before the smallest.
    pub fn previous(self) -> Option<Self> {
        let mut bytes = self.0;
        for byte in bytes.iter_mut().rev() {
            let (difference, borrowed) = byte.overflowing_sub(1);
            *byte = difference;
            if !borrowed {
                return Some(Self(bytes));
            }
        }
        None
    }
}

fn digit(byte: u8) -> Option<u8> {
    Some(DIGITS[usize::from(byte)]).filter(|digit| *digit != NO_DIGIT)
}

impl MessageId {
    /// How it is written, in ASCII.
    pub fn characters(&self) -> [u8; CHARACTERS] {
        let mut text = [0u8; CHARACTERS];
        for (bytes, characters) in self.0.chunks(5).zip(text.chunks_mut(8)) {
            let bits = bytes.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
            for (at, character) in characters.iter_mut().enumerate() {
                *character = ALPHABET[(bits >> (35 - 5 * at) & 31) as usize];
            }
        }
        text
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.characters()).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = IdError;

    /// Reads an id in either case. I, L and O are refused, not read as digits: an id has one text.
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != CHARACTERS {
            return Err(IdError::Length { expected: CHARACTERS, found: text.len() });
        }
        let mut bytes = [0; BYTES];
        for (group, (characters, bytes)) in text.as_bytes().chunks(8).zip(bytes.chunks_mut(5)).enumerate() {
            let mut bits = 0u64;
            for (at, character) in characters.iter().enumerate() {
                let digit = digit(*character).ok_or(IdError::Character { at: 8 * group + at })?;
                bits = bits << 5 | u64::from(digit);
            }
            bytes.copy_from_slice(&bits.to_be_bytes()[3..]);
        }
        Ok(Self(bytes))
    }
}

/// As text where a person reads it, as 20 bytes where not.
impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; BYTES]>::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringwork_core::ids::{Boot, NodeId};

    fn stamp(time: u64, boot: u32) -> Stamp {
        Stamp { time: HybridTime(time), node: NodeId::from_random([7; 16]), boot: Boot(boot) }
    }

    #[test]
    fn an_id_keeps_the_stamp_it_was_made_of() {
        let id = MessageId::from_stamp(stamp(0x0123_4567_89ab_cdef, 0xff_01_02_03));
        assert_eq!(id.0[..8], [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]);
        assert_eq!(id.0[8..16], NodeId::from_random([7; 16]).tag());
        assert_eq!(id.0[16..], [1, 2, 3, 0]);
        assert_eq!(id.time_ms(), 0x0123_4567_89ab);
        assert_eq!(id.kind(), IdKind::Server);
    }

    #[test]
    fn a_ulid_and_a_uuid_become_ids_of_the_same_time() {
        let ulid = MessageId::from_ulid_text("01arz3ndektsv4rrffq69g5fav").unwrap();
        assert_eq!(ulid.time_ms(), 1_469_922_850_259);
        assert_eq!((ulid.kind(), ulid.is_client_minted()), (IdKind::Ulid, true));
        let uuid = uuid::Uuid::parse_str("017f22e2-79b0-7cc3-98c4-dc0c0c07398f").unwrap();
        let id = MessageId::from_uuid(uuid).unwrap();
        assert_eq!((id.time_ms(), id.kind()), (0x017f_22e2_79b0, IdKind::Uuid));
        assert_eq!(id.0[..16], uuid.into_bytes());
        assert_eq!(MessageId::from_uuid(uuid::Uuid::nil()), Err(IdError::NotVersion7));
    }

    #[test]
    fn hostile_texts_are_refused_with_the_reason() {
        let length = |found| Err(IdError::Length { expected: 32, found });
        assert_eq!("".parse::<MessageId>(), length(0));
        assert_eq!("0".repeat(33).parse::<MessageId>(), length(33));
        assert_eq!("é".repeat(32).parse::<MessageId>(), length(64));
        for bad in ["I", "L", "O", "U", " ", "\0", "-"] {
            let text = format!("{}{bad}", "0".repeat(31));
            assert_eq!(text.parse::<MessageId>(), Err(IdError::Character { at: 31 }), "{bad:?}");
        }
        assert!("é".repeat(16).parse::<MessageId>().is_err());
        assert_eq!(MessageId::from_ulid_text(&"8".repeat(26)), Err(IdError::Overflow));
        assert!(MessageId::from_ulid_text("01ARZ3NDEKTSV4RRFFQ69G5FAI").is_err());
    }

    #[test]
    fn an_unknown_kind_is_still_a_place() {
        let mut bytes = [9; 20];
        bytes[19] = 77;
        let id: MessageId = MessageId(bytes).to_string().parse().unwrap();
        assert_eq!(id.kind(), IdKind::Unknown(77));
        assert!(!id.is_client_minted());
    }

    proptest! {
        #[test]
        fn texts_sort_as_ids_do_and_are_read_back(a: [u8; 20], b: [u8; 20]) {
            let (a, b) = (MessageId(a), MessageId(b));
            let (text_a, text_b) = (a.to_string(), b.to_string());
            prop_assert_eq!(text_a.len(), 32);
            prop_assert_eq!(a.cmp(&b), text_a.cmp(&text_b));
            prop_assert_eq!(text_a.parse::<MessageId>().unwrap(), a);
            prop_assert_eq!(text_a.to_lowercase().parse::<MessageId>().unwrap(), a);
        }

        #[test]
        fn a_stamp_above_an_ids_time_gives_a_larger_id(id: [u8; 20], boot: u32) {
            let id = MessageId(id);
            if let Some(above) = id.hybrid_time().0.checked_add(1) {
                prop_assert!(MessageId::from_stamp(stamp(above, boot)) > id);
            }
        }

        #[test]
        fn next_and_previous_are_neighbours(id: [u8; 20]) {
            let id = MessageId(id);
            if let Some(next) = id.next() {
                prop_assert!(next > id);
                prop_assert_eq!(next.previous(), Some(id));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<MessageId>();
            let _ = MessageId::from_ulid_text(&text);
        }
    }

    #[test]
    fn the_ends_have_no_neighbours() {
        assert_eq!(MessageId::LARGEST.next(), None);
        assert_eq!(MessageId::SMALLEST.previous(), None);
        assert_eq!(MessageId([0; 20]).next().unwrap().0[19], 1);
    }
}
