//! What one detector says to another, as bytes. It decides the layout, and refuses whatever is not exactly
//! that; it does not know what a message means, nor how it travels.
//!
//! A datagram is addressed by node, so neither end's id is in it. All numbers are big-endian: version (1
//! byte), message (1), sender's generation (5) and incarnation (2), receiver's generation (5), what the message
//! carries, then, unless it is `Announce` or `Down`, a count (2) and that many members of 24 bytes. Members
//! are of one size, so a count is checked against the bytes before anything is allocated.

use crate::ids::{Boot, NodeId};
use crate::limits::BOOTS_MAX;
use bytes::{Buf, BufMut};
use foca::{Header, Incarnation, Member, Message, State};

/// Bytes of one datagram: room for 680 members, so a node that returns learns of a large cluster in two.
pub const DATAGRAM_BYTES_MAX: usize = 16 * 1024;
/// The greatest generation: 24 bits of boot number, 16 of renewals.
pub const GENERATION_MAX: u64 = ((BOOTS_MAX as u64) << RENEWAL_BITS) | ((1 << RENEWAL_BITS) - 1);

const RENEWAL_BITS: u32 = 16;
const VERSION: u8 = 1;
const GENERATION_BYTES: usize = 5;
/// What every datagram begins with.
pub(super) const HEADER_BYTES: usize = 4 + 2 * GENERATION_BYTES;
const MEMBER_BYTES: usize = 16 + GENERATION_BYTES + 3;
/// The ids of sender and receiver, which foca wants in its header and the wire does not need.
const ENDS_BYTES: usize = 32;
/// As much as foca may fill, so that without the ends it is a datagram.
pub(super) const FOCA_PACKET_BYTES_MAX: usize = DATAGRAM_BYTES_MAX + ENDS_BYTES;

/// A node in one of its lives. Of two lives of one node the greater generation is the newer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Who.
    pub node: NodeId,
    /// Which of its lives: see [`first_generation`].
    pub generation: u64,
}

/// The generation with which a node begins its `boot`: above all of its earlier boots, with room for 65 535
/// renewals, which a node takes when the others had taken it for down.
pub fn first_generation(boot: Boot) -> u64 {
    u64::from(boot.0.min(BOOTS_MAX)) << RENEWAL_BITS
}

impl foca::Identity for Identity {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        let generation = self.generation.checked_add(1).filter(|next| *next <= GENERATION_MAX)?;
        Some(Self { generation, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.generation > adversary.generation
    }
}

/// Bytes that are no datagram. Nothing was changed by them.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// Longer than any datagram.
    #[error("{0} bytes, a datagram has at most {DATAGRAM_BYTES_MAX}")]
    TooLarge(usize),
    /// It ends before what it announces, or goes on after it.
    #[error("a datagram of this form has {expected} bytes, this one {found}")]
    Length {
        /// What its form asks for.
        expected: usize,
        /// What is there.
        found: usize,
    },
    /// Of a version that this release does not know.
    #[error("datagram of version {0}; this release knows {VERSION}")]
    Version(u8),
    /// No message has this number.
    #[error("{0} is no message; messages are numbered 1 to 10")]
    Message(u8),
    /// No state has this number.
    #[error("{0} is no member's state; states are 0 (alive), 1 (suspect) and 2 (down)")]
    State(u8),
    /// A generation that no node can have.
    #[error("generation {0} is above the greatest, {GENERATION_MAX}")]
    Generation(u64),
}

/// A datagram, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Datagram {
    pub(super) header: Header<Identity>,
    /// Of `Announce`: how many members its sender lacks. Of `Down`: the generation of the receiver that the
    /// sender knows of.
    pub(super) remark: u64,
    pub(super) members: Vec<Member<Identity>>,
}

impl Datagram {
    /// Reads what `from` sent to `to`, all of it or nothing.
    pub(super) fn read(from: NodeId, to: NodeId, bytes: &[u8]) -> Result<Self, DatagramError> {
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(DatagramError::TooLarge(bytes.len()));
        }
        let found = bytes.len();
        let mut rest = bytes;
        let (header, remark) = read_header(from, to, &mut rest)?;
        let mut members = Vec::new();
        if has_members(&header.message) {
            let read = found - rest.len();
            let count = usize::from(if rest.len() >= 2 { rest.get_u16() } else { 0 });
            let expected = read + 2 + count * MEMBER_BYTES;
            if found != expected {
                return Err(DatagramError::Length { expected, found });
            }
            members.reserve_exact(count);
            for _ in 0..count {
                members.push(read_member(&mut rest)?);
            }
        } else if !rest.is_empty() {
            return Err(DatagramError::Length { expected: found - rest.len(), found });
        }
        Ok(Self { header, remark, members })
    }

    /// As foca reads it.
    pub(super) fn for_foca(&self) -> Vec<u8> {
        let mut bytes =
            Vec::with_capacity(ENDS_BYTES + HEADER_BYTES + 24 + self.members.len() * MEMBER_BYTES);
        bytes.put_slice(&self.header.src.node.0);
        bytes.put_slice(&self.header.dst.node.0);
        write_header(&self.header, 0, &mut bytes);
        if has_members(&self.header.message) {
            bytes.put_u16(self.members.len() as u16);
            for member in &self.members {
                write_member(member, &mut bytes);
            }
        }
        // foca wants its own messages whole: what only we say is not for it.
        bytes
    }
}

/// What foca wrote, as it travels. `lacking` goes into `Announce`, `known` into `Down`; of the members that a
/// `Feed` names at most `feed_members_max` go with it.
pub(super) fn from_foca(packet: &[u8], lacking: usize, known: u64, feed_members_max: usize) -> Vec<u8> {
    let mut bytes = packet.get(ENDS_BYTES..).unwrap_or_default().to_vec();
    let Some(message) = bytes.get(1).copied() else { return bytes };
    let begin = HEADER_BYTES.min(bytes.len());
    let tally = &mut bytes[begin..];
    match message {
        ANNOUNCE if tally.len() >= 2 => {
            tally[..2].copy_from_slice(&(lacking.min(usize::from(u16::MAX)) as u16).to_be_bytes());
        }
        DOWN if tally.len() >= GENERATION_BYTES => {
            tally[..GENERATION_BYTES].copy_from_slice(&known.to_be_bytes()[8 - GENERATION_BYTES..]);
        }
        FEED if tally.len() >= 2 => {
            let count = usize::from(u16::from_be_bytes([tally[0], tally[1]])).min(feed_members_max);
            tally[..2].copy_from_slice(&(count as u16).to_be_bytes());
            bytes.truncate(HEADER_BYTES + 2 + count * MEMBER_BYTES);
        }
        _ => {}
    }
    bytes
}

/// A `Gossip` about these members.
pub(super) fn gossip(header: &Header<Identity>, members: &[Member<Identity>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + 2 + members.len() * MEMBER_BYTES);
    write_header(header, 0, &mut bytes);
    bytes.put_u16(members.len() as u16);
    for member in members {
        write_member(member, &mut bytes);
    }
    bytes
}

/// Adds a member to a `Ping`, if there is room: a suspect node that is probed learns that it is suspect from the probe
/// itself, however often the word of it was lost (Dadgar, Phillips, Currey: "Lifeguard", 2017, §III-C, buddy system).
pub(super) fn tell(datagram: &mut Vec<u8>, member: &Member<Identity>) {
    let begin = HEADER_BYTES + 1;
    if datagram.get(1) != Some(&PING) || datagram.len() + MEMBER_BYTES > DATAGRAM_BYTES_MAX {
        return;
    }
    let Some([first, second]) = datagram.get_mut(begin..begin + 2) else { return };
    let count = u16::from_be_bytes([*first, *second]).saturating_add(1);
    [*first, *second] = count.to_be_bytes();
    write_member(member, datagram);
}

const PING: u8 = 1;
const ACK: u8 = 2;
const PING_REQUEST: u8 = 3;
const INDIRECT_PING: u8 = 4;
const INDIRECT_ACK: u8 = 5;
const FORWARDED_ACK: u8 = 6;
const ANNOUNCE: u8 = 7;
const FEED: u8 = 8;
const GOSSIP: u8 = 9;
const DOWN: u8 = 10;

fn has_members(message: &Message<Identity>) -> bool {
    !matches!(message, Message::Announce | Message::TurnUndead | Message::Broadcast)
}

fn write_generation(generation: u64, out: &mut impl BufMut) {
    out.put_uint(generation.min(GENERATION_MAX), GENERATION_BYTES);
}

fn read_generation(bytes: &mut impl Buf) -> Result<u64, DatagramError> {
    let generation = bytes.get_uint(GENERATION_BYTES);
    if generation > GENERATION_MAX { Err(DatagramError::Generation(generation)) } else { Ok(generation) }
}

fn write_member(member: &Member<Identity>, out: &mut impl BufMut) {
    out.put_slice(&member.id().node.0);
    write_generation(member.id().generation, out);
    out.put_u16(member.incarnation());
    out.put_u8(match member.state() {
        State::Alive => 0,
        State::Suspect => 1,
        State::Down => 2,
    });
}

fn need(bytes: &impl Buf, count: usize) -> Result<(), DatagramError> {
    if bytes.remaining() < count {
        return Err(DatagramError::Length { expected: count, found: bytes.remaining() });
    }
    Ok(())
}

fn read_node(bytes: &mut impl Buf) -> NodeId {
    let mut node = [0; 16];
    bytes.copy_to_slice(&mut node);
    NodeId(node)
}

fn read_member(bytes: &mut impl Buf) -> Result<Member<Identity>, DatagramError> {
    need(bytes, MEMBER_BYTES)?;
    let node = read_node(bytes);
    let generation = read_generation(bytes)?;
    let incarnation: Incarnation = bytes.get_u16();
    let state = match bytes.get_u8() {
        0 => State::Alive,
        1 => State::Suspect,
        2 => State::Down,
        other => return Err(DatagramError::State(other)),
    };
    Ok(Member::new(Identity { node, generation }, incarnation, state))
}

fn write_header(header: &Header<Identity>, remark: u64, out: &mut impl BufMut) {
    let (tag, probe, about) = match &header.message {
        Message::Ping(probe) => (PING, Some(probe), None),
        Message::Ack(probe) => (ACK, Some(probe), None),
        Message::PingReq { target, probe_number } => (PING_REQUEST, Some(probe_number), Some(target)),
        Message::IndirectPing { origin, probe_number } => (INDIRECT_PING, Some(probe_number), Some(origin)),
        Message::IndirectAck { target, probe_number } => (INDIRECT_ACK, Some(probe_number), Some(target)),
        Message::ForwardedAck { origin, probe_number } => (FORWARDED_ACK, Some(probe_number), Some(origin)),
        Message::Announce => (ANNOUNCE, None, None),
        Message::Feed => (FEED, None, None),
        Message::Gossip | Message::Broadcast => (GOSSIP, None, None),
        Message::TurnUndead => (DOWN, None, None),
    };
    out.put_u8(VERSION);
    out.put_u8(tag);
    write_generation(header.src.generation, out);
    out.put_u16(header.src_incarnation);
    write_generation(header.dst.generation, out);
    if let Some(about) = about {
        out.put_slice(&about.node.0);
        write_generation(about.generation, out);
    }
    if let Some(probe) = probe {
        out.put_u8(*probe);
    }
    match tag {
        ANNOUNCE => out.put_u16(remark as u16),
        DOWN => write_generation(remark, out),
        _ => {}
    }
}

fn read_header(
    from: NodeId,
    to: NodeId,
    bytes: &mut impl Buf,
) -> Result<(Header<Identity>, u64), DatagramError> {
    need(bytes, HEADER_BYTES)?;
    let version = bytes.get_u8();
    if version != VERSION {
        return Err(DatagramError::Version(version));
    }
    let tag = bytes.get_u8();
    let src = Identity { node: from, generation: read_generation(bytes)? };
    let src_incarnation: Incarnation = bytes.get_u16();
    let dst = Identity { node: to, generation: read_generation(bytes)? };
    let mut remark = 0;
    let message = match tag {
        PING | ACK => {
            need(bytes, 1)?;
            let probe = bytes.get_u8();
            if tag == PING { Message::Ping(probe) } else { Message::Ack(probe) }
        }
        PING_REQUEST | INDIRECT_PING | INDIRECT_ACK | FORWARDED_ACK => {
            need(bytes, 16 + GENERATION_BYTES + 1)?;
            let node = read_node(bytes);
            let about = Identity { node, generation: read_generation(bytes)? };
            let probe_number = bytes.get_u8();
            match tag {
                PING_REQUEST => Message::PingReq { target: about, probe_number },
                INDIRECT_PING => Message::IndirectPing { origin: about, probe_number },
                INDIRECT_ACK => Message::IndirectAck { target: about, probe_number },
                _ => Message::ForwardedAck { origin: about, probe_number },
            }
        }
        ANNOUNCE => {
            need(bytes, 2)?;
            remark = u64::from(bytes.get_u16());
            Message::Announce
        }
        FEED => Message::Feed,
        GOSSIP => Message::Gossip,
        DOWN => {
            need(bytes, GENERATION_BYTES)?;
            remark = read_generation(bytes)?;
            Message::TurnUndead
        }
        other => return Err(DatagramError::Message(other)),
    };
    Ok((Header { src, src_incarnation, dst, message }, remark))
}

/// foca's view of the layout: the same, behind the ids of both ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codec;

/// The most that [`write_header`] writes.
const HEADER_WRITTEN_BYTES_MAX: usize = HEADER_BYTES + 16 + GENERATION_BYTES + 1;

impl foca::Codec<Identity> for Codec {
    type Error = DatagramError;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        mut out: impl BufMut,
    ) -> Result<(), DatagramError> {
        let expected = ENDS_BYTES + HEADER_WRITTEN_BYTES_MAX;
        if out.remaining_mut() < expected {
            return Err(DatagramError::Length { expected, found: out.remaining_mut() });
        }
        out.put_slice(&header.src.node.0);
        out.put_slice(&header.dst.node.0);
        write_header(header, 0, &mut out);
        Ok(())
    }

    fn decode_header(&mut self, mut bytes: impl Buf) -> Result<Header<Identity>, DatagramError> {
        need(&bytes, ENDS_BYTES)?;
        let (from, to) = (read_node(&mut bytes), read_node(&mut bytes));
        Ok(read_header(from, to, &mut bytes)?.0)
    }

    fn encode_member(
        &mut self,
        member: &Member<Identity>,
        mut out: impl BufMut,
    ) -> Result<(), DatagramError> {
        if out.remaining_mut() < MEMBER_BYTES {
            return Err(DatagramError::Length { expected: MEMBER_BYTES, found: out.remaining_mut() });
        }
        write_member(member, &mut out);
        Ok(())
    }

    fn decode_member(&mut self, mut bytes: impl Buf) -> Result<Member<Identity>, DatagramError> {
        read_member(&mut bytes)
    }
}

#[cfg(test)]
pub(super) mod tests;
