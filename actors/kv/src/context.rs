//! A causal context as clients carry it: the text of `X-Riak-Vclock`. It decides the layout, and which texts are none.
//! What a context may erase it does not decide: a text can be made up, so an object takes of it only what it has seen
//! itself (see [`crate::object`]).
//!
//! The bytes, written in base 64: the layout's number (1), for each actor its 8 bytes and the counter as a
//! variable-length number, the lowest seven bits first, and a CRC-32C of the object's name and all that. With the
//! name in it, the context of one object handed back with another is refused: counters belong to vnodes and not to
//! keys, and it would pass.

use crate::limits::CONTEXT_TEXT_BYTES_MAX;
use crate::name::ObjectName;
use ringwork_core::clock::dotted::CausalContext;
use ringwork_core::ids::{ActorId, Dot};

const LAYOUT: u8 = 1;
const CHECKSUM_BYTES: usize = 4;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The text is no causal context of this object. Nothing was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// Longer than any.
    #[error("the causal context has {0} bytes: at most {CONTEXT_TEXT_BYTES_MAX} are possible")]
    TooLong(usize),
    /// Not in base 64.
    #[error("the causal context is not in base 64; hand back the text that came with the object")]
    Base64,
    /// Of another layout: of another product or another release.
    #[error("the causal context is not of this store; hand back the text that came with the object")]
    Layout,
    /// Of another object, or changed.
    #[error(
        "the causal context is of another object, or was changed; hand back the text that came with this object"
    )]
    Checksum,
}

fn checksum(name: &ObjectName, body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    crc32c::crc32c_append(crc32c::crc32c(name.bytes()), body).to_be_bytes()
}

/// The context as text, for the client to hand back with its next write of this object.
pub fn to_text(context: &CausalContext, name: &ObjectName) -> String {
    let mut bytes = vec![LAYOUT];
    for Dot { actor, counter } in context.dots() {
        bytes.extend(actor.0.to_be_bytes());
        write_number(counter, &mut bytes);
    }
    bytes.extend(checksum(name, &bytes));
    to_base64(&bytes)
}

/// The context that a text is. It may be made up, though not by accident.
pub fn from_text(text: &str, name: &ObjectName) -> Result<CausalContext, ContextError> {
    if text.len() > CONTEXT_TEXT_BYTES_MAX {
        return Err(ContextError::TooLong(text.len()));
    }
    let bytes = from_base64(text.trim()).ok_or(ContextError::Base64)?;
    let (body, given) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(ContextError::Layout)?;
    let Some((&LAYOUT, mut rest)) = body.split_first() else { return Err(ContextError::Layout) };
    if checksum(name, body) != *given {
        return Err(ContextError::Checksum);
    }
    let mut dots = Vec::new();
    while !rest.is_empty() {
        let (actor, after) = rest.split_first_chunk::<8>().ok_or(ContextError::Layout)?;
        let (counter, after) = read_number(after).ok_or(ContextError::Layout)?;
        dots.push(Dot { actor: ActorId(u64::from_be_bytes(*actor)), counter });
        rest = after;
    }
    Ok(dots.into_iter().collect())
}

/// A number, the lowest seven bits first.
pub(crate) fn write_number(number: u64, bytes: &mut Vec<u8>) {
    let mut left = number;
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
}

/// The number at the beginning, and what is behind it.
pub(crate) fn read_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        number |= bits.checked_shl(7 * at as u32).filter(|shifted| shifted >> (7 * at) == bits)?;
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(at + 1..)?));
        }
    }
    None
}

/// Base 64 with padding (RFC 4648 §4), as Riak's clients send it back.
pub fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// The bytes of a text in base 64; none where it is not. Padding may be left out, and nothing else.
pub fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let end = digits.iter().position(|digit| *digit == b'=').unwrap_or(digits.len());
    let (digits, padding) = digits.split_at(end);
    let lawful_padding =
        padding.is_empty() || (padding.iter().all(|p| *p == b'=') && text.len().is_multiple_of(4));
    if !lawful_padding || padding.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for chunk in digits.chunks(4) {
        let mut bits = 0u32;
        for place in 0..4 {
            let value = match chunk.get(place) {
                Some(digit) => ALPHABET.iter().position(|letter| letter == digit)? as u32,
                None => 0,
            };
            bits = bits << 6 | value;
        }
        let [_, one, two, three] = bits.to_be_bytes();
        let whole = chunk.len() - 1;
        // Bits beyond the last byte are nothing: a text is one way to write its bytes.
        if [one, two, three].iter().skip(whole).any(|byte| *byte != 0) {
            return None;
        }
        bytes.extend([one, two, three].iter().take(whole));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    fn name(key: &str) -> ObjectName {
        ObjectName::new("default", b"b", key.as_bytes()).unwrap()
    }

    fn contexts() -> impl Strategy<Value = CausalContext> {
        btree_map(any::<u64>(), 1..u64::MAX, 0..20).prop_map(|counters| {
            counters.into_iter().map(|(actor, counter)| Dot { actor: ActorId(actor), counter }).collect()
        })
    }

    proptest! {
        #[test]
        fn a_context_is_read_back_and_only_with_its_own_object(context in contexts()) {
            let text = to_text(&context, &name("a"));
            prop_assert_eq!(from_text(&text, &name("a")), Ok(context));
            prop_assert_eq!(from_text(&text, &name("b")), Err(ContextError::Checksum));
        }

        #[test]
        fn any_text_is_a_context_or_refused(text in "[A-Za-z0-9+/=]{0,60}|.{0,60}") {
            let _ = from_text(&text, &name("a"));
        }

        #[test]
        fn a_context_that_was_changed_is_refused(context in contexts(), at: prop::sample::Index, letter in "[A-Z]") {
            let mut text = to_text(&context, &name("a"));
            let at = at.index(text.len());
            let before = text.clone();
            text.replace_range(at..=at, &letter);
            prop_assert!(text == before || from_text(&text, &name("a")).is_err());
        }

        #[test]
        fn base64_is_read_back(bytes in vec(any::<u8>(), 0..40)) {
            let text = to_base64(&bytes);
            prop_assert_eq!(text.len() % 4, 0);
            prop_assert_eq!(from_base64(&text), Some(bytes.clone()));
            prop_assert_eq!(from_base64(text.trim_end_matches('=')), Some(bytes));
        }
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(to_base64(bytes.as_bytes()), text);
        }
        for wrong in ["Zg=", "Z", "Zm8==", "Z===", "Zh==", "Zg==Zg==", "Z m8", "Zm-v"] {
            assert_eq!(from_base64(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_beyond_64_bits_and_texts_beyond_the_bound_are_refused() {
        assert_eq!(read_number(&[0xff; 11]), None);
        assert_eq!(read_number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), None);
        assert_eq!(
            read_number(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
            Some((u64::MAX, &[][..]))
        );
        let long = "A".repeat(CONTEXT_TEXT_BYTES_MAX + 1);
        assert_eq!(from_text(&long, &name("a")), Err(ContextError::TooLong(long.len())));
        assert_eq!(from_text("", &name("a")), Err(ContextError::Layout));
        assert_eq!(
            from_text("a85hYGBgzGDKBVIcypz/fvrde/U5gymRMY+VwZw35gRfFgA=", &name("a")),
            Err(ContextError::Layout)
        );
    }

    #[test]
    fn the_text_does_not_change() {
        let context = [Dot { actor: ActorId(0x0102), counter: 300 }].into_iter().collect();
        assert_eq!(to_text(&context, &name("k")), "AQAAAAAAAAECrAJJSEWd");
    }
}
