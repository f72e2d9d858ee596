//! Messages larger than a part, cut into frames and put together again. It decides what the frames of such a message
//! are, whose turn it is among several, and which sequences of them are refused. It does not know what a message means,
//! nor any socket; time is handed in.
//!
//! A message in parts is: one `Large` frame, whose head is the message's own (family, version, request id, remaining
//! time) and whose body says the message's kind (1 byte), its number among those of this direction of the connection
//! (8) and its length (4); then `Part` frames, which name the number in place of a request id and have the bytes in
//! their order, until there are as many as were announced. Frames of other messages may stand between them.
//! `Abandoned` ends one early. Each frame has its checksum, and a connection keeps the order, so what comes out is what
//! went in.
//!
//! What an unfinished message costs is what has come of it. How much may be announced at a time is for both ends the
//! same ([`PARTED_BYTES_MAX`], [`PARTED_MESSAGES_MAX`]); who announces more is refused.

use super::WireError;
use super::frame::{self, Frame, FrameHeader, FrameKind};
use crate::limits::{MESSAGE_BYTES_MAX, PART_BYTES, PARTED_BYTES_MAX, PARTED_MESSAGES_MAX};
use bytes::{Buf, Bytes};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Bytes of the body of a `Large` frame.
const ANNOUNCEMENT_BYTES: usize = 1 + 8 + 4;

/// Whether a message of that kind can come in parts.
fn travels_in_parts(kind: FrameKind) -> bool {
    matches!(kind, FrameKind::Request | FrameKind::Reply | FrameKind::OneWay)
}

/// A message that leaves in parts.
#[derive(Clone, Debug)]
struct Parted {
    header: FrameHeader,
    number: u64,
    body: Bytes,
    at: usize,
    announced: bool,
    /// When nobody waits for it any more.
    deadline: Option<Duration>,
}

impl Parted {
    fn left(&self) -> usize {
        self.body.len() - self.at
    }

    fn is_over(&self, now: Duration) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    fn part_header(&self, kind: FrameKind) -> FrameHeader {
        FrameHeader { request: self.number, ..FrameHeader::bare(kind) }
    }

    fn announce_into(&self, out: &mut Vec<u8>, now: Duration) -> Result<(), WireError> {
        let remaining_ms = match self.deadline {
            Some(deadline) if self.header.remaining_ms > 0 => milliseconds(deadline.saturating_sub(now)),
            _ => self.header.remaining_ms,
        };
        let header = FrameHeader { kind: FrameKind::Large, remaining_ms, ..self.header };
        frame::encode_into(out, &header, |out| {
            out.push(self.header.kind as u8);
            out.extend_from_slice(&self.number.to_be_bytes());
            out.extend_from_slice(&(self.body.len() as u32).to_be_bytes());
            Ok(())
        })
    }

    /// Appends the next frame.
    fn next_into(&mut self, out: &mut Vec<u8>, now: Duration) -> Result<(), WireError> {
        if !self.announced {
            self.announce_into(out, now)?;
            self.announced = true;
            return Ok(());
        }
        let end = self.body.len().min(self.at + PART_BYTES);
        frame::encode_into(out, &self.part_header(FrameKind::Part), |out| {
            out.extend_from_slice(&self.body[self.at..end]);
            Ok(())
        })?;
        self.at = end;
        Ok(())
    }
}

/// Whole milliseconds, never 0, which would mean that there is no deadline.
fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1)
}

/// The messages that leave in parts, on one direction of a connection.
#[derive(Clone, Debug, Default)]
pub struct PartedOut {
    /// In turn, a part each.
    under_way: VecDeque<Parted>,
    /// What is announced of them.
    announced_bytes: usize,
    /// In the order they came.
    waiting: VecDeque<Parted>,
    /// Of all: a message is kept until its last part has left.
    bytes: usize,
    last_number: u64,
}

impl PartedOut {
    /// Bytes of the messages that have not left to their end.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is left to be sent.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty() && self.waiting.is_empty()
    }

    /// Queues a message of at most [`MESSAGE_BYTES_MAX`], not empty. With a deadline, by the clock of `now` in
    /// [`Self::fill`], it stops being sent once nobody waits for it; a request says how much time then remains.
    pub fn push(&mut self, header: FrameHeader, body: Bytes, deadline: Option<Duration>) {
        self.last_number += 1;
        self.bytes += body.len();
        let number = self.last_number;
        self.waiting.push_back(Parted { header, number, body, at: 0, announced: false, deadline });
    }

    /// Appends frames until they have `bytes_max` or more, or nothing is left to be sent now; how many. Messages that
    /// nobody waits for any more are given up first.
    pub fn fill(&mut self, out: &mut Vec<u8>, bytes_max: usize, now: Duration) -> u64 {
        let (mut frames, start) = (self.give_up(out, now), out.len());
        while out.len() - start < bytes_max {
            self.begin();
            let Some(mut parted) = self.under_way.pop_front() else { break };
            // An announcement and a part are far smaller than a frame may be.
            if parted.next_into(out, now).is_ok() {
                frames += 1;
            }
            if parted.left() > 0 {
                self.under_way.push_back(parted);
            } else {
                self.bytes -= parted.body.len();
                self.announced_bytes -= parted.body.len();
            }
        }
        frames
    }

    /// Takes further messages in turn, as many as may be unfinished.
    fn begin(&mut self) {
        while self.under_way.len() < PARTED_MESSAGES_MAX
            && let Some(next) = self.waiting.front()
            && (self.under_way.is_empty() || self.announced_bytes + next.body.len() <= PARTED_BYTES_MAX)
            && let Some(next) = self.waiting.pop_front()
        {
            self.announced_bytes += next.body.len();
            self.under_way.push_back(next);
        }
    }

    fn give_up(&mut self, out: &mut Vec<u8>, now: Duration) -> u64 {
        let mut frames = 0;
        let (bytes, announced_bytes) = (&mut self.bytes, &mut self.announced_bytes);
        self.waiting.retain(|parted| {
            let over = parted.is_over(now);
            *bytes -= if over { parted.body.len() } else { 0 };
            !over
        });
        self.under_way.retain(|parted| {
            let over = parted.is_over(now);
            if over {
                *bytes -= parted.body.len();
                *announced_bytes -= parted.body.len();
                let header = parted.part_header(FrameKind::Abandoned);
                frames += u64::from(parted.announced && frame::encode_into(out, &header, |_| Ok(())).is_ok());
            }
            !over
        });
        frames
    }
}

/// Frames that are no messages in parts. The connection cannot go on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PartsError {
    /// The announcement is none.
    #[error("a message in parts was announced in words that this release does not understand")]
    Announcement,
    /// A message that is larger than any.
    #[error("a message of {found} bytes was announced, from 1 to {limit} are allowed")]
    TooLarge {
        /// The bound.
        limit: usize,
        /// What was announced.
        found: usize,
    },
    /// More unfinished messages, or larger ones, than there may be at a time.
    #[error(
        "one more message in parts was announced while {unfinished} of {bytes} bytes are unfinished: at most \
         {PARTED_MESSAGES_MAX} of {PARTED_BYTES_MAX} bytes together are allowed"
    )]
    TooMany {
        /// How many are unfinished.
        unfinished: usize,
        /// What was announced of them.
        bytes: usize,
    },
    /// A number that an unfinished message has.
    #[error("message {0} was announced again before it was finished")]
    Twice(u64),
    /// A part of nothing.
    #[error("a part of message {0} came, which is not announced or is finished")]
    Unasked(u64),
    /// A part without bytes, which would never lead anywhere.
    #[error("an empty part of message {0} came")]
    Empty(u64),
    /// More bytes than announced.
    #[error("{found} bytes of message {number} came, {announced} were announced")]
    TooMuch {
        /// Which message.
        number: u64,
        /// Its length.
        announced: usize,
        /// How many bytes of it there are with the last part.
        found: usize,
    },
    /// A frame that belongs to no message in parts.
    #[error("a {0:?} frame is no part of a message")]
    Kind(FrameKind),
}

#[derive(Clone, Debug)]
struct Unfinished {
    header: FrameHeader,
    length: usize,
    body: Vec<u8>,
    announced: Duration,
}

/// The messages that come in parts, on one direction of a connection.
#[derive(Clone, Debug, Default)]
pub struct PartedIn {
    unfinished: BTreeMap<u64, Unfinished>,
    announced_bytes: usize,
}

impl PartedIn {
    /// Messages of which something is missing.
    pub fn unfinished(&self) -> usize {
        self.unfinished.len()
    }

    /// Bytes that are kept of them.
    pub fn bytes(&self) -> usize {
        self.unfinished.values().map(|message| message.body.len()).sum()
    }

    /// Whether a frame of that kind is to be given to [`Self::take`].
    pub fn is_part(kind: FrameKind) -> bool {
        matches!(kind, FrameKind::Large | FrameKind::Part | FrameKind::Abandoned)
    }

    /// Takes a frame in, at `now` by a clock that does not go back: the message that it finishes, if it does, as a
    /// frame of its own kind, with the time that remains of what it had when it was announced.
    pub fn take(&mut self, frame: Frame, now: Duration) -> Result<Option<Frame>, PartsError> {
        let number = frame.header.request;
        match frame.header.kind {
            FrameKind::Large => self.announced(frame, now).map(|()| None),
            FrameKind::Part => self.part(number, &frame.body, now),
            FrameKind::Abandoned => match self.unfinished.remove(&number) {
                Some(message) => {
                    self.announced_bytes -= message.length;
                    Ok(None)
                }
                None => Err(PartsError::Unasked(number)),
            },
            kind => Err(PartsError::Kind(kind)),
        }
    }

    fn announced(&mut self, frame: Frame, now: Duration) -> Result<(), PartsError> {
        let Frame { mut header, mut body } = frame;
        if body.len() != ANNOUNCEMENT_BYTES {
            return Err(PartsError::Announcement);
        }
        header.kind = FrameKind::from_number(body.get_u8())
            .filter(|kind| travels_in_parts(*kind))
            .ok_or(PartsError::Announcement)?;
        let (number, length) = (body.get_u64(), body.get_u32() as usize);
        if length == 0 || length > MESSAGE_BYTES_MAX {
            return Err(PartsError::TooLarge { limit: MESSAGE_BYTES_MAX, found: length });
        }
        if self.unfinished.contains_key(&number) {
            return Err(PartsError::Twice(number));
        }
        let (unfinished, bytes) = (self.unfinished.len(), self.announced_bytes);
        if unfinished >= PARTED_MESSAGES_MAX || bytes + length > PARTED_BYTES_MAX {
            return Err(PartsError::TooMany { unfinished, bytes });
        }
        self.announced_bytes += length;
        self.unfinished.insert(number, Unfinished { header, length, body: Vec::new(), announced: now });
        Ok(())
    }

    fn part(&mut self, number: u64, bytes: &[u8], now: Duration) -> Result<Option<Frame>, PartsError> {
        let message = self.unfinished.get_mut(&number).ok_or(PartsError::Unasked(number))?;
        let found = message.body.len() + bytes.len();
        if bytes.is_empty() {
            return Err(PartsError::Empty(number));
        }
        if found > message.length {
            return Err(PartsError::TooMuch { number, announced: message.length, found });
        }
        if message.body.capacity() < found {
            // Room grows as the bytes come, not when they are announced, and never beyond what was announced.
            let room = (2 * message.body.capacity()).clamp(found, message.length.max(found));
            message.body.reserve_exact(room - message.body.len());
        }
        message.body.extend_from_slice(bytes);
        if found < message.length {
            return Ok(None);
        }
        let Some(Unfinished { mut header, length, body, announced }) = self.unfinished.remove(&number) else {
            return Ok(None);
        };
        self.announced_bytes -= length;
        if header.remaining_ms > 0 {
            let remaining = Duration::from_millis(u64::from(header.remaining_ms));
            header.remaining_ms = milliseconds(remaining.saturating_sub(now.saturating_sub(announced)));
        }
        Ok(Some(Frame { header, body: body.into() }))
    }
}

#[cfg(test)]
mod tests;
