//! Whatever is sent in parts comes out as it was, and whatever else is sent costs no more than it may.

use super::*;
use crate::wire::frame::{FrameDecoder, encode_into};
use bytes::BytesMut;
use proptest::prelude::*;

const NOW: Duration = Duration::from_secs(1);

fn header(kind: FrameKind, request: u64) -> FrameHeader {
    FrameHeader { kind, family: 7, version: 2, request, remaining_ms: 0 }
}

fn body(length: usize, salt: usize) -> Bytes {
    (0..length).map(|at| (at * 31 + salt * 7 + at / 251) as u8).collect::<Vec<_>>().into()
}

fn frames_of(bytes: &[u8]) -> Vec<Frame> {
    let mut buffer = BytesMut::from(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = FrameDecoder::new(usize::MAX).decode(&mut buffer).unwrap() {
        frames.push(frame);
    }
    assert!(buffer.is_empty());
    frames
}

fn announcement(kind: u8, number: u64, length: u32) -> Frame {
    let body = [[kind].as_slice(), &number.to_be_bytes(), &length.to_be_bytes()].concat().into();
    Frame { header: header(FrameKind::Large, 5), body }
}

fn part(number: u64, bytes: &'static [u8]) -> Frame {
    let header = FrameHeader { request: number, ..FrameHeader::bare(FrameKind::Part) };
    Frame { header, body: Bytes::from_static(bytes) }
}

const REQUEST: u8 = FrameKind::Request as u8;

#[test]
fn the_layout_on_the_wire_does_not_change() {
    let mut out = PartedOut::default();
    let head = FrameHeader { remaining_ms: 9, ..header(FrameKind::Request, 4) };
    out.push(head, Bytes::from_static(b"abc"), None);
    let mut bytes = Vec::new();
    assert_eq!((out.fill(&mut bytes, usize::MAX, NOW), out.is_empty(), out.bytes()), (2, true, 0));
    let mut expected = Vec::new();
    encode_into(&mut expected, &FrameHeader { kind: FrameKind::Large, ..head }, |out| {
        out.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 3]);
        Ok(())
    })
    .unwrap();
    encode_into(&mut expected, &FrameHeader { request: 1, ..FrameHeader::bare(FrameKind::Part) }, |out| {
        out.extend_from_slice(b"abc");
        Ok(())
    })
    .unwrap();
    assert_eq!(bytes, expected);
    assert_eq!([FrameKind::Large as u8, FrameKind::Part as u8, FrameKind::Abandoned as u8], [10, 11, 12]);
}

#[test]
fn parts_of_several_messages_take_turns_and_only_so_many_are_unfinished() {
    let mut out = PartedOut::default();
    for number in 0..PARTED_MESSAGES_MAX as u64 + 3 {
        out.push(header(FrameKind::OneWay, number), body(3 * PART_BYTES, 1), None);
    }
    let (mut bytes, mut into, mut most, mut whole) = (Vec::new(), PartedIn::default(), 0, Vec::new());
    out.fill(&mut bytes, usize::MAX, NOW);
    for frame in frames_of(&bytes) {
        whole.extend(into.take(frame, NOW).unwrap().map(|frame| frame.header.request));
        most = most.max(into.unfinished());
    }
    assert_eq!(whole, (0..PARTED_MESSAGES_MAX as u64 + 3).collect::<Vec<_>>());
    assert_eq!((most, into.unfinished(), into.bytes()), (PARTED_MESSAGES_MAX, 0, 0));
}

#[test]
fn what_is_unfinished_together_stays_within_its_bound() {
    let mut out = PartedOut::default();
    let large = Bytes::from(vec![7; MESSAGE_BYTES_MAX / 2 + 1]);
    (0..3).for_each(|number| out.push(header(FrameKind::OneWay, number), large.clone(), None));
    let (mut into, mut whole) = (PartedIn::default(), 0);
    while !out.is_empty() {
        let mut bytes = Vec::new();
        out.fill(&mut bytes, 4 * PART_BYTES, NOW);
        for frame in frames_of(&bytes) {
            whole += usize::from(into.take(frame, NOW).unwrap().is_some());
            assert!(into.unfinished() <= 1, "two of them are more than may be announced");
        }
    }
    assert_eq!(whole, 3);
}

#[test]
fn what_nobody_waits_for_any_more_is_given_up_and_time_goes_on() {
    let mut out = PartedOut::default();
    let late = |ms| Some(NOW + Duration::from_millis(ms));
    let timed = |number, ms| FrameHeader { remaining_ms: ms, ..header(FrameKind::Request, number) };
    out.push(timed(1, 50), body(3 * PART_BYTES, 1), late(50));
    out.push(timed(2, 100), body(2 * PART_BYTES, 2), late(100));
    // A reply has no time of its own, only an asker who gives up.
    out.push(header(FrameKind::Reply, 4), body(PART_BYTES, 4), late(100));
    let (mut bytes, mut into) = (Vec::new(), PartedIn::default());
    out.fill(&mut bytes, PART_BYTES, NOW);
    // One that is not even announced is never heard of.
    out.push(header(FrameKind::Request, 3), body(PART_BYTES, 3), late(50));
    for frame in frames_of(&bytes) {
        assert_eq!(into.take(frame, NOW), Ok(None));
    }
    assert_eq!(into.unfinished(), 3);
    bytes.clear();
    let later = NOW + Duration::from_millis(60);
    out.fill(&mut bytes, usize::MAX, later);
    let frames = frames_of(&bytes);
    assert_eq!(frames[0].header, FrameHeader { request: 1, ..FrameHeader::bare(FrameKind::Abandoned) });
    let whole: Vec<Frame> = frames.into_iter().filter_map(|frame| into.take(frame, later).unwrap()).collect();
    assert_eq!(
        whole.iter().map(|frame| frame.header).collect::<Vec<_>>(),
        [header(FrameKind::Reply, 4), timed(2, 40)]
    );
    assert_eq!((into.unfinished(), into.bytes(), out.bytes(), out.is_empty()), (0, 0, 0, true));
}

#[test]
fn a_message_that_took_longer_than_it_had_does_not_come_without_a_deadline() {
    let mut into = PartedIn::default();
    let mut large = announcement(REQUEST, 1, 2);
    large.header.remaining_ms = 10;
    into.take(large, NOW).unwrap();
    into.take(part(1, b"a"), NOW).unwrap();
    let whole = into.take(part(1, b"b"), NOW + Duration::from_secs(1)).unwrap().unwrap();
    assert_eq!((whole.header.remaining_ms, &*whole.body), (1, b"ab".as_slice()));
}

#[test]
fn every_wrong_step_is_refused_with_what_was_wrong() {
    let after = |before: &[Frame], wrong: Frame| {
        let mut into = PartedIn::default();
        for frame in before {
            assert_eq!(into.take(frame.clone(), NOW), Ok(None));
        }
        into.take(wrong, NOW).unwrap_err()
    };
    let begun = [announcement(REQUEST, 1, 3), part(1, b"ab")];
    let abandoned = FrameHeader { request: 2, ..FrameHeader::bare(FrameKind::Abandoned) };
    let abandoned = Frame { header: abandoned, body: Bytes::new() };
    assert_eq!(after(&begun, part(2, b"c")), PartsError::Unasked(2));
    assert_eq!(after(&begun, abandoned), PartsError::Unasked(2));
    assert_eq!(after(&begun, part(1, b"")), PartsError::Empty(1));
    assert_eq!(after(&begun, part(1, b"cd")), PartsError::TooMuch { number: 1, announced: 3, found: 4 });
    assert_eq!(after(&begun, announcement(REQUEST, 1, 3)), PartsError::Twice(1));
    assert_eq!(after(&[], announcement(FrameKind::Large as u8, 1, 3)), PartsError::Announcement);
    assert_eq!(after(&[], announcement(FrameKind::Ping as u8, 1, 3)), PartsError::Announcement);
    assert_eq!(after(&[], announcement(99, 1, 3)), PartsError::Announcement);
    let cut = Frame { body: Bytes::from_static(b"\x01"), ..announcement(REQUEST, 1, 1) };
    assert_eq!(after(&[], cut), PartsError::Announcement);
    let limit = MESSAGE_BYTES_MAX;
    assert_eq!(after(&[], announcement(REQUEST, 1, 0)), PartsError::TooLarge { limit, found: 0 });
    let found = limit + 1;
    assert_eq!(after(&[], announcement(REQUEST, 1, found as u32)), PartsError::TooLarge { limit, found });
    let half = announcement(REQUEST, 1, (PARTED_BYTES_MAX / 2) as u32);
    let more = announcement(REQUEST, 2, (PARTED_BYTES_MAX / 2 + 1) as u32);
    let bytes = PARTED_BYTES_MAX / 2;
    assert_eq!(after(&[half], more), PartsError::TooMany { unfinished: 1, bytes });
    let many: Vec<_> = (0..PARTED_MESSAGES_MAX as u64).map(|n| announcement(REQUEST, n, 1)).collect();
    assert!(matches!(after(&many, announcement(REQUEST, 99, 1)), PartsError::TooMany { .. }));
    let ping = Frame { header: FrameHeader::bare(FrameKind::Ping), body: Bytes::new() };
    assert_eq!(after(&[], ping), PartsError::Kind(FrameKind::Ping));
}

#[test]
fn what_is_announced_costs_nothing_until_it_comes() {
    let mut into = PartedIn::default();
    into.take(announcement(REQUEST, 1, MESSAGE_BYTES_MAX as u32), NOW).unwrap();
    assert_eq!(into.unfinished[&1].body.capacity(), 0);
    into.take(part(1, b"abc"), NOW).unwrap();
    assert!(into.unfinished[&1].body.capacity() < 100);
}

fn message() -> impl Strategy<Value = (FrameHeader, Bytes)> {
    let kind = prop::sample::select(vec![FrameKind::Request, FrameKind::Reply, FrameKind::OneWay]);
    (kind, any::<u64>(), 1usize..5 * PART_BYTES)
        .prop_map(|(kind, request, length)| (header(kind, request), body(length, request as usize % 97)))
}

/// Any step of a peer, sensible or not, with small numbers so that they meet.
fn step() -> impl Strategy<Value = Frame> {
    let number = 0u64..4;
    prop_oneof![
        (0u8..14, number.clone(), 0u32..40)
            .prop_map(|(kind, number, length)| announcement(kind, number, length)),
        (number.clone(), 0usize..20).prop_map(|(number, length)| {
            let header = FrameHeader { request: number, ..FrameHeader::bare(FrameKind::Part) };
            Frame { header, body: body(length, 3) }
        }),
        number.prop_map(|number| {
            let header = FrameHeader { request: number, ..FrameHeader::bare(FrameKind::Abandoned) };
            Frame { header, body: Bytes::new() }
        }),
        (1u8..=12, prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(kind, bytes)| Frame {
            header: FrameHeader::bare(FrameKind::from_number(kind).unwrap()),
            body: bytes.into()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whenever messages are queued and however many bytes are asked for at a time, all come out as they were, and
    /// each once.
    #[test]
    fn any_interleaving_gives_the_messages_back(
        messages in prop::collection::vec(message(), 1..12),
        fills in prop::collection::vec((0usize..3, 1usize..3 * PART_BYTES), 1..8),
    ) {
        let (mut out, mut into) = (PartedOut::default(), PartedIn::default());
        let (mut to_come, mut whole) = (messages.clone().into_iter(), Vec::new());
        let mut expected = messages;
        for (pushes, bytes_max) in fills.iter().cycle() {
            for (header, body) in to_come.by_ref().take(*pushes) {
                out.push(header, body, None);
            }
            let mut bytes = Vec::new();
            out.fill(&mut bytes, *bytes_max, NOW);
            prop_assert!(bytes.len() < bytes_max + PART_BYTES + 100, "what others wait for is bounded");
            for frame in frames_of(&bytes) {
                whole.extend(into.take(frame, NOW).unwrap().map(|frame| (frame.header, frame.body)));
            }
            if to_come.len() == 0 && out.is_empty() {
                break;
            }
            if fills.iter().all(|(pushes, _)| *pushes == 0) && out.is_empty() {
                expected.clear();
                break;
            }
        }
        let by_request = |messages: &mut Vec<(FrameHeader, Bytes)>| {
            messages.sort_by_key(|(header, body)| (header.request, header.kind as u8, body.len()));
        };
        by_request(&mut whole);
        by_request(&mut expected);
        prop_assert!(whole == expected, "what came out is what went in");
        prop_assert_eq!((into.unfinished(), into.bytes(), out.bytes()), (0, 0, 0));
    }

    /// Whatever comes, it is taken or refused, and what is kept is within what was announced and bounded.
    #[test]
    fn any_sequence_is_an_error_or_bounded(steps in prop::collection::vec(step(), 0..60)) {
        let (mut into, mut came) = (PartedIn::default(), 0);
        for frame in steps {
            came += frame.body.len();
            if into.take(frame, NOW).is_err() {
                break;
            }
            let announced: usize = into.unfinished.values().map(|message| message.length).sum();
            prop_assert_eq!(announced, into.announced_bytes);
            prop_assert!(into.unfinished() <= PARTED_MESSAGES_MAX && announced <= PARTED_BYTES_MAX);
            prop_assert!(into.bytes() <= announced && into.bytes() <= came);
        }
    }
}
