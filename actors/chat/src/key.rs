//! Idempotency keys: what a client sends so that its retry is not a second message. It decides which keys
//! become the message's id and which stay texts; it does not know whether a message with the key exists.
//!
//! A UUIDv7 or a ULID *becomes* the id, so that two ids for one key cannot arise and no replica has to look
//! anything up. Such a key is refused when its time is more than five minutes off, in either direction: the
//! message would land at a place of the log that nobody reads any more. It follows that a retry under such a
//! key has five minutes; a later one is refused although the first attempt may be stored. A client that
//! retries for longer uses any other text, which is good for ever.
//!
//! A client whose send without a key ended *unknown* was told the id; `id:` and that id is a key, too, and means
//! the very same message at any time.

use crate::id::MessageId;
use crate::limits::{KEY_BYTES_MAX, control_at};
use ringwork_core::limits::CLOCK_AHEAD_MS_MAX;

const UUID_CHARACTERS: usize = 36;
const ID_PREFIX: &str = "id:";

/// A key, understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum IdempotencyKey {
    /// It is the message's id.
    Id(MessageId),
    /// It has to be looked up.
    Text(String),
}

/// A key that is refused. Nothing was done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is none.
    #[error("the idempotency key must not be empty: 1 to {KEY_BYTES_MAX} bytes are expected")]
    Empty,
    /// It is too long.
    #[error("the idempotency key has {bytes} bytes: at most {KEY_BYTES_MAX} are allowed")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// It has a control character.
    #[error("the idempotency key has a control character at byte {at}: only printable text is allowed")]
    ControlCharacter {
        /// Where.
        at: usize,
    },
    /// It is a UUIDv7 or a ULID, and its time is not now.
    #[error(
        "the idempotency key is a time-ordered id whose time is {off_ms} ms {} this node's clock: at most \
         {CLOCK_AHEAD_MS_MAX} ms are allowed; mint it when the message is sent, or use another form of key",
        if *.ahead { "ahead of" } else { "behind" }
    )]
    TooFarOff {
        /// By how much.
        off_ms: u64,
        /// Whether it lies in the future.
        ahead: bool,
    },
}

impl IdempotencyKey {
    /// The key under which a send that got `id` is repeated harmlessly.
    pub fn text_for(id: MessageId) -> String {
        format!("{ID_PREFIX}{id}")
    }

    /// Understands a key at the time `now_ms`. A UUIDv7 is read in its hyphenated form, a ULID in its 26
    /// characters, both in either case. A key of 26 such characters that was not meant as a ULID is read as
    /// one all the same, and in all likelihood refused for its time.
    pub fn parse(text: &str, now_ms: u64) -> Result<Self, KeyError> {
        match text.len() {
            0 => return Err(KeyError::Empty),
            bytes if bytes > KEY_BYTES_MAX => return Err(KeyError::TooLong { bytes }),
            _ => {}
        }
        if let Some(at) = control_at(text) {
            return Err(KeyError::ControlCharacter { at });
        }
        let told = text.strip_prefix(ID_PREFIX).and_then(|id| id.parse::<MessageId>().ok());
        // A client's own ids have their own form, with the five minutes of their time.
        if let Some(id) = told.filter(|id| !id.is_client_minted()) {
            let off_ms = id.time_ms().saturating_sub(now_ms);
            if off_ms > CLOCK_AHEAD_MS_MAX {
                return Err(KeyError::TooFarOff { off_ms, ahead: true });
            }
            return Ok(Self::Id(id));
        }
        let Some(id) = id_of(text) else { return Ok(Self::Text(text.to_owned())) };
        let off_ms = id.time_ms().abs_diff(now_ms);
        if off_ms > CLOCK_AHEAD_MS_MAX {
            return Err(KeyError::TooFarOff { off_ms, ahead: id.time_ms() > now_ms });
        }
        Ok(Self::Id(id))
    }
}

fn id_of(text: &str) -> Option<MessageId> {
    if text.len() == UUID_CHARACTERS {
        return MessageId::from_uuid(uuid::Uuid::try_parse(text).ok()?).ok();
    }
    MessageId::from_ulid_text(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::IdKind;
    use proptest::prelude::*;

    const UUID: &str = "017F22E2-79B0-7CC3-98C4-DC0C0C07398F";
    const UUID_MS: u64 = 0x017f_22e2_79b0;
    const ULID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    const ULID_MS: u64 = 1_469_922_850_259;

    #[test]
    fn the_id_of_an_unknown_send_is_a_key_for_ever_but_not_before_its_time() {
        let id = MessageId::at_ms(ULID_MS);
        let key = IdempotencyKey::text_for(id);
        for now_ms in [ULID_MS, ULID_MS + 10 * CLOCK_AHEAD_MS_MAX] {
            assert_eq!(IdempotencyKey::parse(&key, now_ms), Ok(IdempotencyKey::Id(id)));
        }
        let early = IdempotencyKey::parse(&key, ULID_MS - 2 * CLOCK_AHEAD_MS_MAX);
        assert!(matches!(early, Err(KeyError::TooFarOff { ahead: true, .. })));
        let other = "id:of-an-order";
        assert_eq!(IdempotencyKey::parse(other, 0), Ok(IdempotencyKey::Text(other.to_owned())));
    }

    #[test]
    fn a_time_ordered_key_is_the_id_in_either_case() {
        let same = IdempotencyKey::parse(UUID, UUID_MS).unwrap();
        assert_eq!(IdempotencyKey::parse(&UUID.to_lowercase(), UUID_MS + 1).unwrap(), same);
        assert!(matches!(same, IdempotencyKey::Id(id) if id.kind() == IdKind::Uuid));
        let ulid = IdempotencyKey::parse(ULID, ULID_MS - CLOCK_AHEAD_MS_MAX).unwrap();
        assert_eq!(IdempotencyKey::parse(&ULID.to_lowercase(), ULID_MS).unwrap(), ulid);
        assert!(matches!(ulid, IdempotencyKey::Id(id) if id.kind() == IdKind::Ulid));
    }

    #[test]
    fn a_time_ordered_key_of_another_time_is_refused() {
        let refused = IdempotencyKey::parse(UUID, UUID_MS + CLOCK_AHEAD_MS_MAX + 1).unwrap_err();
        assert_eq!(refused, KeyError::TooFarOff { off_ms: CLOCK_AHEAD_MS_MAX + 1, ahead: false });
        assert!(refused.to_string().contains("300001 ms behind this node's clock"), "{refused}");
        let refused = IdempotencyKey::parse(ULID, 0).unwrap_err();
        assert!(refused.to_string().contains("ahead of"), "{refused}");
    }

    #[test]
    fn any_other_text_is_a_key_and_hostile_ones_are_refused() {
        let version_4 = "9b2b1f0e-1111-4222-8333-123456789abc";
        let braced = "017f22e279b07cc398c4dc0c0c07398f";
        let too_large_for_a_ulid = "8ZZZZZZZZZZZZZZZZZZZZZZZZZ";
        for text in [version_4, braced, too_large_for_a_ulid, "order 66", "ü", &"k".repeat(128)] {
            assert_eq!(IdempotencyKey::parse(text, 0), Ok(IdempotencyKey::Text(text.into())));
        }
        assert_eq!(IdempotencyKey::parse("", 0), Err(KeyError::Empty));
        assert_eq!(IdempotencyKey::parse(&"k".repeat(129), 0), Err(KeyError::TooLong { bytes: 129 }));
        assert_eq!(IdempotencyKey::parse("a\r\nb", 0), Err(KeyError::ControlCharacter { at: 1 }));
        assert_eq!(IdempotencyKey::parse("a\0", 0), Err(KeyError::ControlCharacter { at: 1 }));
    }

    proptest! {
        #[test]
        fn any_text_is_understood_or_refused(text: String, now_ms: u64) {
            let _ = IdempotencyKey::parse(&text, now_ms);
        }
    }
}
