//! Tests of the handshake's rules: each refusal, what crosses the wire, what hostile bytes do.

use super::super::frame::FrameDecoder;
use super::*;
use bytes::BytesMut;
use proptest::prelude::*;

fn local() -> Local {
    Local {
        protocol_min: 2,
        protocol_max: 4,
        cluster: ClusterId([1; 16]),
        ring_size: RingSize::try_from(64).unwrap(),
        node: NodeId([5; 16]),
        name: "n1".into(),
        features: 0b110,
    }
}

fn hello() -> Hello {
    Hello {
        protocol_min: 1,
        protocol_max: 3,
        cluster: ClusterId([1; 16]),
        ring_size: RingSize::try_from(64).unwrap(),
        node: NodeId([4; 16]),
        name: "n2".into(),
        boot: Boot(7),
        whom: Some(NodeId([5; 16])),
        purpose: Purpose::Request,
        features: 0b011,
    }
}

fn reason(hello: &Hello, member: MemberCheck) -> Option<RefusalReason> {
    judge(&local(), hello, member).err().map(|refusal| refusal.refused().reason)
}

#[test]
fn a_member_is_let_in_with_what_both_know() {
    let agreed = judge(&local(), &hello(), MemberCheck::Member);
    assert_eq!(agreed, Ok(Agreed { protocol: 3, features: 0b010 }));
}

#[test]
fn each_reason_to_refuse_is_found() {
    use MemberCheck::{Member, Removed, Unknown};
    let cases = [
        (Hello { cluster: ClusterId([2; 16]), ..hello() }, Member, RefusalReason::OtherCluster),
        (Hello { protocol_min: 5, protocol_max: 9, ..hello() }, Member, RefusalReason::Protocol),
        (Hello { protocol_min: 1, protocol_max: 1, ..hello() }, Member, RefusalReason::Protocol),
        (Hello { node: NodeId([5; 16]), ..hello() }, Member, RefusalReason::Ourselves),
        (Hello { ring_size: RingSize::try_from(128).unwrap(), ..hello() }, Member, RefusalReason::RingSize),
        (hello(), Unknown, RefusalReason::NotMember),
        (hello(), Removed, RefusalReason::Removed),
        (Hello { cluster: ClusterId([2; 16]), ..hello() }, Removed, RefusalReason::Removed),
        (Hello { whom: Some(NodeId([6; 16])), ..hello() }, Member, RefusalReason::OtherNode),
        (Hello { node: NodeId([6; 16]), ..hello() }, Member, RefusalReason::Direction),
    ];
    for (hello, member, expected) in cases {
        assert_eq!(reason(&hello, member), Some(expected), "{hello:?}");
    }
}

#[test]
fn a_guest_may_be_of_any_cluster_but_not_ourselves() {
    let guest = Hello {
        purpose: Purpose::Guest,
        cluster: ClusterId([9; 16]),
        ring_size: RingSize::try_from(8).unwrap(),
        node: NodeId([9; 16]),
        whom: None,
        ..hello()
    };
    assert_eq!(reason(&guest, MemberCheck::Unknown), None);
    let ourselves = Hello { node: NodeId([5; 16]), ..guest.clone() };
    assert_eq!(reason(&ourselves, MemberCheck::Unknown), Some(RefusalReason::Ourselves));
    let too_new = Hello { protocol_min: 9, protocol_max: 9, ..guest };
    assert_eq!(reason(&too_new, MemberCheck::Unknown), Some(RefusalReason::Protocol));
}

fn frame(bytes: &[u8]) -> super::super::frame::Frame {
    FrameDecoder::new(HANDSHAKE_BYTES_MAX).decode(&mut BytesMut::from(bytes)).unwrap().unwrap()
}

#[test]
fn what_is_sent_is_read() {
    let mut out = Vec::new();
    hello().append_to(&mut out).unwrap();
    let sent = frame(&out);
    assert_eq!(sent.header.kind, FrameKind::Hello);
    assert_eq!(Hello::read(sent.header.version, &sent.body), Ok(hello()));
    assert_eq!(Hello::read(2, &sent.body), Err(WireError::Version(2)));

    let welcome = Welcome {
        protocol: 3,
        cluster: ClusterId([1; 16]),
        ring_size: RingSize::try_from(64).unwrap(),
        node: NodeId([5; 16]),
        name: "n1".into(),
        boot: Boot(1),
        features: 2,
    };
    out.clear();
    welcome.append_to(&mut out).unwrap();
    let sent = frame(&out);
    assert_eq!(sent.header.kind, FrameKind::Welcome);
    assert_eq!(Welcome::read(sent.header.version, &sent.body), Ok(welcome));

    let refused = judge(&local(), &hello(), MemberCheck::Unknown).unwrap_err().refused();
    out.clear();
    refused.append_to(&mut out).unwrap();
    let sent = frame(&out);
    assert_eq!(sent.header.kind, FrameKind::Refused);
    assert_eq!(Refused::read(&sent.body), refused);
    assert_eq!(Refused::read(&[]).reason, RefusalReason::Unknown);
    assert_eq!(Refused::read(&[200, b'x', b'\n']).text, "x ");
}

#[test]
fn every_reason_keeps_its_number() {
    for number in 0..=10 {
        assert_eq!(RefusalReason::from_number(number) as u8, number);
    }
}

#[test]
fn names_are_bounded_and_printable() {
    for name in [String::new(), "a\nb".to_owned(), "x".repeat(256)] {
        let mut out = Vec::new();
        let wrong = Hello { name, ..hello() };
        assert!(wrong.append_to(&mut out).is_err() && out.is_empty());
        let bytes = codec::encode(&wrong).unwrap();
        assert!(Hello::read(LAYOUT, &bytes).is_err());
    }
    let upside_down = codec::encode(&Hello { protocol_min: 4, ..hello() }).unwrap();
    assert!(Hello::read(LAYOUT, &upside_down).is_err());
}

#[test]
fn strangers_are_told_apart_by_their_first_bytes() {
    assert_eq!(greeting(&MAGIC), Greeting::Node);
    assert_eq!(greeting(b""), Greeting::Incomplete);
    assert_eq!(greeting(&MAGIC[..7]), Greeting::Incomplete);
    assert_eq!(greeting(b"GET / HTTP/1.1"), Greeting::Http);
    assert_eq!(greeting(b"OPTIONS"), Greeting::Incomplete);
    assert_eq!(greeting(b"\x16\x03\x01"), Greeting::Other);
    assert_eq!(greeting(b"GETS"), Greeting::Other);
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read_but_never_panic(bytes: Vec<u8>, version in 0u16..3) {
        let _ = Hello::read(version, &bytes);
        let _ = Welcome::read(version, &bytes);
        let _ = Refused::read(&bytes);
        if bytes.len() >= 8 {
            prop_assert_ne!(greeting(&bytes), Greeting::Incomplete);
        }
    }

    #[test]
    fn a_changed_hello_is_refused_or_sane(at in 0usize..100, change in 1u8..=255) {
        let mut bytes = codec::encode(&hello()).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= change;
        if let Ok(read) = Hello::read(LAYOUT, &bytes) {
            prop_assert!(check_name(&read.name).is_ok() && read.protocol_min <= read.protocol_max);
        }
    }
}
