//! Frames: how messages follow each other on a connection. It decides their layout and which bytes are refused;
//! it does not know what a body means, nor any socket.
//!
//! A frame is: length of what follows (4 bytes), kind (1), message family (2), message version (2), request id (8),
//! remaining time in milliseconds (4), body, CRC-32C of all that, length included (4). All numbers big-endian. A
//! deadline travels as the time that remains, because two nodes' clocks need not agree. A message that is too large for
//! a frame travels in several: see [`super::parts`].

use super::WireError;
use crate::limits::FRAME_BYTES_MAX;
use bytes::{Buf, Bytes, BytesMut};

/// Bytes in front of a body.
pub const HEADER_BYTES: usize = 21;
/// Bytes behind it.
pub const TRAILER_BYTES: usize = 4;
const LENGTH_BYTES: usize = 4;
/// Bytes of a frame that are neither length nor body.
const FIXED_BYTES: usize = HEADER_BYTES - LENGTH_BYTES + TRAILER_BYTES;

/// What a frame is for. The numbers are for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// Asks; a `Reply` or a `Dropped` with the same request id comes back.
    Request = 1,
    /// Answers.
    Reply = 2,
    /// Tells; nothing comes back.
    OneWay = 3,
    /// Says that the sender lives.
    Ping = 4,
    /// The sender's last frame; its body is the reason in UTF-8.
    Goodbye = 5,
    /// No reply will come to this request id. It may have been done.
    Dropped = 6,
    /// The first frame of whoever dials.
    Hello = 7,
    /// Its answer: the connection stands.
    Welcome = 8,
    /// Its other answer.
    Refused = 9,
    /// Announces a message that comes in parts; the frame's head is the message's.
    Large = 10,
    /// The next part of it; the request id is the message's number among those in parts.
    Part = 11,
    /// No more parts come of the message of that number.
    Abandoned = 12,
}

impl FrameKind {
    /// The kind of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Reply,
            3 => Self::OneWay,
            4 => Self::Ping,
            5 => Self::Goodbye,
            6 => Self::Dropped,
            7 => Self::Hello,
            8 => Self::Welcome,
            9 => Self::Refused,
            10 => Self::Large,
            11 => Self::Part,
            12 => Self::Abandoned,
            _ => return None,
        })
    }
}

/// Everything of a frame but its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// What it is for.
    pub kind: FrameKind,
    /// Whose message it is: each part of a node that speaks to its likes has a number.
    pub family: u16,
    /// The version of the body's layout, counted by the family.
    pub version: u16,
    /// Which request this asks or answers; 0 where there is none.
    pub request: u64,
    /// Milliseconds until the asker has given up; 0 when there is no deadline.
    pub remaining_ms: u32,
}

impl FrameHeader {
    /// A frame of the connection's own: no family, no request, no deadline.
    pub fn bare(kind: FrameKind) -> Self {
        Self { kind, family: 0, version: 0, request: 0, remaining_ms: 0 }
    }
}

/// One frame, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What it says about itself.
    pub header: FrameHeader,
    /// A part of the buffer that it was read into, not a copy: whoever keeps a small one for long copies it.
    pub body: Bytes,
}

/// Bytes that are no frame. The connection cannot go on: nobody knows where the next frame begins.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A body over the limit was announced; nothing was allocated for it.
    #[error("a frame with a body of {found} bytes was announced, at most {limit} are allowed")]
    TooLarge {
        /// The bound.
        limit: usize,
        /// What was announced.
        found: usize,
    },
    /// Shorter than any frame.
    #[error("a frame of {found} bytes was announced, none has fewer than {least}", least = FIXED_BYTES)]
    TooShort {
        /// What was announced.
        found: usize,
    },
    /// The checksum does not match.
    #[error("checksum mismatch: a frame was changed on its way")]
    Checksum,
    /// A kind that this release does not know.
    #[error("frame kind {0} is not known to this release")]
    Kind(u8),
    /// The connection ended inside a frame.
    #[error("the connection ended inside a frame, after {found} of its bytes")]
    Cut {
        /// Bytes of it that came.
        found: usize,
    },
}

/// Gives the buffer its old length back unless the frame is complete: also when the encoder panics.
struct Unfinished<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    complete: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.complete {
            self.out.truncate(self.start);
        }
    }
}

/// Appends a frame whose body `body` writes in place; length and checksum are filled in afterwards. `body` only
/// appends. On an error, its own or a body of more than [`FRAME_BYTES_MAX`], `out` is as before.
pub fn encode_into(
    out: &mut Vec<u8>,
    header: &FrameHeader,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let start = out.len();
    begin_into(out, header, FRAME_BYTES_MAX, body)?;
    seal(out, start);
    Ok(())
}

/// Appends a head and a body of at most `body_bytes_max`, and says how long the body is. It becomes a frame with
/// [`seal`], if it is no larger than one may be. On an error `out` is as before.
pub fn begin_into(
    out: &mut Vec<u8>,
    header: &FrameHeader,
    body_bytes_max: usize,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> Result<usize, WireError> {
    let start = out.len();
    let mut head = [0; HEADER_BYTES];
    head[4] = header.kind as u8;
    head[5..7].copy_from_slice(&header.family.to_be_bytes());
    head[7..9].copy_from_slice(&header.version.to_be_bytes());
    head[9..17].copy_from_slice(&header.request.to_be_bytes());
    head[17..21].copy_from_slice(&header.remaining_ms.to_be_bytes());
    let mut unfinished = Unfinished { out, start, complete: false };
    unfinished.out.extend_from_slice(&head);
    body(unfinished.out)?;
    let Some(body_bytes) = unfinished.out.len().checked_sub(start + HEADER_BYTES) else {
        return Err(WireError::Body("an encoder removed bytes that were not its own".to_owned()));
    };
    if body_bytes > body_bytes_max {
        return Err(WireError::TooLarge { limit: body_bytes_max, found: body_bytes });
    }
    unfinished.complete = true;
    Ok(body_bytes)
}

/// Makes what [`begin_into`] appended at `start`, the last of `out`, a frame: fills in its length, adds the checksum.
pub fn seal(out: &mut Vec<u8>, start: usize) {
    let Some(written) = out.get_mut(start..).filter(|written| written.len() >= HEADER_BYTES) else { return };
    let length = (written.len() + TRAILER_BYTES - LENGTH_BYTES) as u32;
    written[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    let checksum = crc32c::crc32c(written);
    out.extend_from_slice(&checksum.to_be_bytes());
}

/// Cuts a stream of bytes into frames.
#[derive(Clone, Copy, Debug)]
pub struct FrameDecoder {
    body_bytes_max: usize,
}

impl FrameDecoder {
    /// A decoder that refuses longer bodies.
    pub fn new(body_bytes_max: usize) -> Self {
        Self { body_bytes_max: body_bytes_max.min(FRAME_BYTES_MAX) }
    }

    /// The next frame, taken from the front of `buffer`; none while it is incomplete. Nothing is reserved. After
    /// an error the buffer is worth nothing.
    pub fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        let Some(frame_bytes) = self.frame_bytes(buffer)? else { return Ok(None) };
        if buffer.len() < frame_bytes {
            return Ok(None);
        }
        let mut frame = buffer.split_to(frame_bytes).freeze();
        let (checked, trailer) = frame.split_at(frame_bytes - TRAILER_BYTES);
        if crc32c::crc32c(checked).to_be_bytes() != *trailer {
            return Err(FrameError::Checksum);
        }
        let kind = FrameKind::from_number(checked[4]).ok_or(FrameError::Kind(checked[4]))?;
        let mut rest = &checked[5..HEADER_BYTES];
        let header = FrameHeader {
            kind,
            family: rest.get_u16(),
            version: rest.get_u16(),
            request: rest.get_u64(),
            remaining_ms: rest.get_u32(),
        };
        frame.truncate(frame_bytes - TRAILER_BYTES);
        frame.advance(HEADER_BYTES);
        Ok(Some(Frame { header, body: frame }))
    }

    /// How many bytes the frame at the front of `buffer` still lacks; 1 while not even its length is there.
    pub fn missing(&self, buffer: &BytesMut) -> Result<usize, FrameError> {
        Ok(self.frame_bytes(buffer)?.map_or(1, |frame_bytes| frame_bytes.saturating_sub(buffer.len())))
    }

    /// Checks that nothing is left over where the stream ends.
    pub fn finish(&self, buffer: &BytesMut) -> Result<(), FrameError> {
        if buffer.is_empty() { Ok(()) } else { Err(FrameError::Cut { found: buffer.len() }) }
    }

    /// The length of the frame at the front, itself included, within the limits.
    fn frame_bytes(&self, buffer: &BytesMut) -> Result<Option<usize>, FrameError> {
        let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let announced = u32::from_be_bytes(*length) as usize;
        let Some(body_bytes) = announced.checked_sub(FIXED_BYTES) else {
            return Err(FrameError::TooShort { found: announced });
        };
        if body_bytes > self.body_bytes_max {
            return Err(FrameError::TooLarge { limit: self.body_bytes_max, found: body_bytes });
        }
        Ok(Some(LENGTH_BYTES + announced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> impl Strategy<Value = FrameHeader> {
        (1u8..=12, any::<u16>(), any::<u16>(), any::<u64>(), any::<u32>()).prop_map(
            |(kind, family, version, request, remaining_ms)| FrameHeader {
                kind: FrameKind::from_number(kind).unwrap(),
                family,
                version,
                request,
                remaining_ms,
            },
        )
    }

    fn encoded(header: &FrameHeader, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(body);
            Ok(())
        };
        encode_into(&mut out, header, write).unwrap();
        out
    }

    fn decoder() -> FrameDecoder {
        FrameDecoder::new(FRAME_BYTES_MAX)
    }

    #[test]
    fn the_layout_on_the_wire_does_not_change() {
        let header =
            FrameHeader { kind: FrameKind::Request, family: 2, version: 3, request: 4, remaining_ms: 5 };
        let bytes = encoded(&header, b"ab");
        let expected = [0, 0, 0, 23, 1, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 5, b'a', b'b'];
        assert_eq!(bytes[..expected.len()], expected);
        assert_eq!(bytes[expected.len()..], crc32c::crc32c(&expected).to_be_bytes());
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283, "Castagnoli's polynomial");
    }

    #[test]
    fn an_encoder_that_fails_or_panics_leaves_the_buffer_as_it_was() {
        let mut out = b"before".to_vec();
        let bare = FrameHeader::bare(FrameKind::Ping);
        let failed = encode_into(&mut out, &bare, |out| {
            out.push(7);
            Err(WireError::Kind)
        });
        assert_eq!((failed, out.as_slice()), (Err(WireError::Kind), b"before".as_slice()));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            encode_into(&mut out, &bare, |out| {
                out.push(7);
                panic!("an encoder's own fault")
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(out, b"before");
        let emptied = encode_into(&mut out, &bare, |out| {
            out.clear();
            Ok(())
        });
        assert!(emptied.is_err());
    }

    #[test]
    fn a_body_over_the_limit_is_neither_written_nor_waited_for() {
        let mut out = Vec::new();
        let too_large = encode_into(&mut out, &FrameHeader::bare(FrameKind::OneWay), |out| {
            out.resize(out.len() + FRAME_BYTES_MAX + 1, 0);
            Ok(())
        });
        assert!(matches!(too_large, Err(WireError::TooLarge { .. })) && out.is_empty());
        let mut announced = BytesMut::from(u32::MAX.to_be_bytes().as_slice());
        let refused = decoder().decode(&mut announced);
        assert!(matches!(refused, Err(FrameError::TooLarge { .. })), "{refused:?}");
        let mut short = BytesMut::from(3u32.to_be_bytes().as_slice());
        assert_eq!(decoder().decode(&mut short), Err(FrameError::TooShort { found: 3 }));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let header =
            FrameHeader { kind: FrameKind::Reply, family: 9, version: 1, request: 77, remaining_ms: 0 };
        let bytes = encoded(&header, b"twenty bytes of body");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = BytesMut::from(bytes.as_slice());
                damaged[at] ^= 1 << bit;
                let noticed = match decoder().decode(&mut damaged) {
                    Ok(Some(_)) => false,
                    // The damage made it longer: the end of the stream tells.
                    Ok(None) => decoder().finish(&damaged).is_err(),
                    Err(_) => true,
                };
                assert!(noticed, "byte {at}, bit {bit}");
            }
            let mut cut = BytesMut::from(&bytes[..at]);
            assert_eq!(decoder().decode(&mut cut), Ok(None));
            assert_eq!(decoder().finish(&cut).is_err(), at > 0, "cut at {at}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_however_the_stream_is_cut(
            frames in prop::collection::vec((header(), prop::collection::vec(any::<u8>(), 0..200)), 0..6),
            pieces in prop::collection::vec(1usize..60, 1..8),
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|(header, body)| encoded(header, body)).collect();
            let (mut buffer, mut read, mut at) = (BytesMut::new(), Vec::new(), 0);
            for size in pieces.iter().cycle() {
                let end = (at + size).min(stream.len());
                buffer.extend_from_slice(&stream[at..end]);
                at = end;
                while let Some(frame) = decoder().decode(&mut buffer).unwrap() {
                    read.push((frame.header, frame.body.to_vec()));
                }
                if at == stream.len() {
                    break;
                }
                prop_assert!(decoder().missing(&buffer).unwrap() > 0);
            }
            prop_assert_eq!(read, frames);
            prop_assert!(decoder().finish(&buffer).is_ok());
        }

        #[test]
        fn any_bytes_are_refused_or_cut_into_frames_but_never_panic(bytes: Vec<u8>) {
            let mut buffer = BytesMut::from(bytes.as_slice());
            while let Ok(Some(_)) = decoder().decode(&mut buffer) {}
            let _ = decoder().missing(&buffer);
        }

        #[test]
        fn garbage_under_a_true_length_is_refused(garbage in prop::collection::vec(any::<u8>(), 21..300)) {
            let mut buffer = BytesMut::from((garbage.len() as u32).to_be_bytes().as_slice());
            buffer.extend_from_slice(&garbage);
            prop_assert!(decoder().decode(&mut buffer).is_err());
        }
    }
}
