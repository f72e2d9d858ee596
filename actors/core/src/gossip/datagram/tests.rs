//! The layout of datagrams, and that nothing else is taken for one.

use super::*;
use proptest::prelude::*;

pub(in crate::gossip) fn node(n: u8) -> NodeId {
    NodeId([n; 16])
}

fn identities() -> impl Strategy<Value = Identity> {
    (0u8..4, 0..=GENERATION_MAX).prop_map(|(n, generation)| Identity { node: node(n), generation })
}

fn messages() -> impl Strategy<Value = Message<Identity>> {
    (0u8..10, identities(), any::<u8>()).prop_map(|(which, third, probe_number)| match which {
        0 => Message::Ping(probe_number),
        1 => Message::Ack(probe_number),
        2 => Message::PingReq { target: third, probe_number },
        3 => Message::IndirectPing { origin: third, probe_number },
        4 => Message::IndirectAck { target: third, probe_number },
        5 => Message::ForwardedAck { origin: third, probe_number },
        6 => Message::Announce,
        7 => Message::Feed,
        8 => Message::Gossip,
        _ => Message::TurnUndead,
    })
}

fn members() -> impl Strategy<Value = Vec<Member<Identity>>> {
    let member = (identities(), any::<u16>(), 0u8..3).prop_map(|(id, incarnation, state)| {
        Member::new(id, incarnation, [State::Alive, State::Suspect, State::Down][usize::from(state)])
    });
    prop::collection::vec(member, 0..20)
}

pub(in crate::gossip) fn datagrams() -> impl Strategy<Value = Datagram> {
    (messages(), any::<u16>(), any::<u16>(), 0..=GENERATION_MAX, 0..=GENERATION_MAX, members()).prop_map(
        |(message, incarnation, remark, src, dst, members)| Datagram {
            members: if has_members(&message) { members } else { Vec::new() },
            remark: if matches!(message, Message::Announce | Message::TurnUndead) {
                remark.into()
            } else {
                0
            },
            header: Header {
                src: Identity { node: node(1), generation: src },
                src_incarnation: incarnation,
                dst: Identity { node: node(2), generation: dst },
                message,
            },
        },
    )
}

proptest! {
    #[test]
    fn what_was_written_is_read(datagram in datagrams()) {
        let remark = datagram.remark;
        let bytes = from_foca(&datagram.for_foca(), remark as usize, remark, usize::MAX);
        prop_assert_eq!(Datagram::read(node(1), node(2), &bytes).unwrap(), datagram);
        for cut in 0..bytes.len() {
            prop_assert!(Datagram::read(node(1), node(2), &bytes[..cut]).is_err(), "cut at {}", cut);
        }
        let mut longer = bytes;
        longer.push(0);
        prop_assert!(Datagram::read(node(1), node(2), &longer).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), tag in 0u8..12) {
        let _ = Datagram::read(node(1), node(2), &bytes);
        let mut likely = bytes;
        for (at, byte) in [VERSION, tag, 0, 0].into_iter().enumerate() {
            if let Some(slot) = likely.get_mut(at) {
                *slot = byte;
            }
        }
        if let Ok(read) = Datagram::read(node(1), node(2), &likely) {
            let again = from_foca(&read.for_foca(), read.remark as usize, read.remark, usize::MAX);
            prop_assert_eq!(again, likely, "two spellings of one datagram");
        }
    }
}

#[test]
fn a_count_beyond_the_bytes_is_refused() {
    let mut bytes = vec![VERSION, GOSSIP];
    bytes.extend([0; HEADER_BYTES - 2]);
    bytes.extend(u16::MAX.to_be_bytes());
    let expected = HEADER_BYTES + 2 + usize::from(u16::MAX) * MEMBER_BYTES;
    let found = bytes.len();
    assert_eq!(Datagram::read(node(1), node(2), &bytes), Err(DatagramError::Length { expected, found }));
    let large = vec![VERSION; DATAGRAM_BYTES_MAX + 1];
    assert_eq!(
        Datagram::read(node(1), node(2), &large),
        Err(DatagramError::TooLarge(DATAGRAM_BYTES_MAX + 1))
    );
}

#[test]
fn the_layout_does_not_change() {
    let header = Header {
        src: Identity { node: node(1), generation: 0x01_0002 },
        src_incarnation: 3,
        dst: Identity { node: node(2), generation: 0x04_0005 },
        message: Message::Ping(6),
    };
    let one = Member::new(Identity { node: node(7), generation: 8 }, 9, State::Suspect);
    let bytes = from_foca(&Datagram { header, remark: 0, members: vec![one] }.for_foca(), 0, 0, 9);
    let expected =
        [&[1, 1, 0, 0, 1, 0, 2, 0, 3, 0, 0, 4, 0, 5, 6, 0, 1][..], &[7; 16], &[0, 0, 0, 0, 8, 0, 9, 1]];
    assert_eq!(bytes, expected.concat());
}

#[test]
fn generations_of_a_later_boot_are_greater() {
    use foca::Identity as _;
    let first = Identity { node: node(1), generation: first_generation(Boot(1)) };
    let renewed = first.renew().unwrap();
    assert!(renewed.win_addr_conflict(&first) && !first.win_addr_conflict(&renewed));
    assert!(first_generation(Boot(2)) > renewed.generation + 60_000);
    assert_eq!(Identity { node: node(1), generation: GENERATION_MAX }.renew(), None);
}
