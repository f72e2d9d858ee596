//! Messages in parts: they arrive whole, hold nobody up, end with their deadline, and whoever sends parts that do not
//! fit together is hung up on. Towards a node that knows no parts everything is as it was.

use crate::stand::{
    ECHO, Event, KEEP, Node, Stranger, eventually, id, meet, on_each_placement, quick, run, start,
};
use ringwork_core::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, PART_BYTES, PARTED_MESSAGES_MAX};
use ringwork_core::wire::WireError;
use ringwork_core::wire::frame::{FrameHeader, FrameKind};
use ringwork_core::wire::handshake::{FEATURE_PARTS, Hello, Purpose, Welcome};
use ringwork_runtime::net::{Channel, Incoming, LinkError, NetworkLimits, PeerSpec, SendError};
use ringwork_runtime::spawner::Placement;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LARGE: usize = 40 * 1024 * 1024;
const WITHIN: Duration = Duration::from_secs(60);

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 253) as u8).collect()
}

fn filled(length: usize) -> impl FnOnce(&mut Vec<u8>) -> Result<(), WireError> {
    move |out| {
        out.resize(out.len() + length, 7);
        Ok(())
    }
}

/// What a stranger sends, one after the other.
type Frames = Vec<(FrameHeader, Vec<u8>)>;

/// Node 2, and a stranger with these features that it takes for node 1.
async fn with_stranger(placement: Placement, limits: NetworkLimits, features: u64) -> (Node, Stranger) {
    let node = start(2, placement, limits);
    let (name, address) = ("n1".into(), "127.0.0.1:1".into());
    node.network.set_peers(vec![PeerSpec { node: id(1), name, address }]);
    let mut stranger = Stranger::dial(&node).await;
    let hello = Hello { features, ..Stranger::hello(1, Purpose::Request) };
    let welcome = stranger.greet(&hello).await;
    assert_eq!(Welcome::read(welcome.header.version, &welcome.body).unwrap().features, features);
    eventually("it stands", async || node.network.is_connected(id(1), Channel::Request)).await;
    (node, stranger)
}

async fn frame(stranger: &mut Stranger) -> (FrameHeader, usize) {
    loop {
        let frame = stranger.frame().await;
        if frame.header.kind != FrameKind::Ping {
            return (frame.header, frame.body.len());
        }
    }
}

fn announcement(kind: FrameKind, number: u64, length: usize) -> Vec<u8> {
    [[kind as u8].as_slice(), &number.to_be_bytes(), &(length as u32).to_be_bytes()].concat()
}

fn large(request: u64) -> FrameHeader {
    FrameHeader { family: ECHO, request, ..FrameHeader::bare(FrameKind::Large) }
}

fn part(number: u64) -> FrameHeader {
    FrameHeader { request: number, ..FrameHeader::bare(FrameKind::Part) }
}

#[test]
fn large_messages_arrive_whole_in_both_directions_on_both_channels() {
    on_each_placement(async |placement| {
        let (a, b) = (start(1, placement, quick()), start(2, placement, quick()));
        meet(&[&a, &b]).await;
        for length in [PART_BYTES + 1, 2 * PART_BYTES, FRAME_BYTES_MAX + 12_345] {
            let sent = body(length);
            for channel in Channel::ALL {
                assert!(a.echo(2, channel, &sent).await.unwrap() == sent, "{length} bytes there and back");
                assert!(b.echo(1, channel, &sent).await.unwrap() == sent, "{length} bytes back and there");
            }
        }
        assert_eq!(a.telemetry.links_lost.value(), 0);
        a.stop().await;
        b.stop().await;
    });
}

/// What was asked after a large request is heard before it; what is answered after a large reply is told before it.
#[test]
fn small_messages_pass_a_large_one() {
    on_each_placement(async |placement| {
        let (a, b) = (start(1, placement, quick()), start(2, placement, quick()));
        meet(&[&a, &b]).await;
        let told = Arc::new(Mutex::new(Vec::new()));
        let ask = |length: usize| {
            let told = told.clone();
            let on_reply = move |reply: Result<Incoming, LinkError>| {
                told.lock().unwrap().push(reply.unwrap().body.len())
            };
            let to = (id(2), Channel::Request);
            a.network.request(to.0, to.1, KEEP, 1, WITHIN, filled(length), on_reply).unwrap();
        };
        ask(LARGE);
        (0..10).for_each(ask);
        eventually("all were heard", async || b.stand.kept.lock().unwrap().len() == 11).await;
        let mut kept: Vec<_> = b.stand.kept.lock().unwrap().drain(..).collect();
        let heard: Vec<usize> = kept.iter().map(|(incoming, _)| incoming.body.len()).collect();
        assert_eq!(heard, (0..10).chain([LARGE]).collect::<Vec<_>>());
        // The large one is answered first.
        kept.reverse();
        for (incoming, respond) in kept {
            respond.reply(1, filled(incoming.body.len())).unwrap();
        }
        eventually("all are told", async || told.lock().unwrap().len() == 11).await;
        assert_eq!(told.lock().unwrap().last(), Some(&LARGE));
        a.stop().await;
        b.stop().await;
    });
}

/// One small request after the other, each asked when the one before was answered: several come and go while a large
/// message is under way each way.
#[test]
fn while_a_large_message_is_under_way_small_requests_are_answered() {
    on_each_placement(async |placement| {
        let (a, b) = (start(1, placement, quick()), start(2, placement, quick()));
        meet(&[&a, &b]).await;
        let (done, mut answered) = (Arc::new(AtomicUsize::new(0)), 0);
        let told = done.clone();
        let on_reply = move |reply: Result<Incoming, LinkError>| {
            assert_eq!(reply.unwrap().body.len(), 5 * LARGE);
            told.fetch_add(1, Ordering::Relaxed);
        };
        let large = filled(5 * LARGE);
        a.network.request(id(2), Channel::Request, ECHO, 1, WITHIN, large, on_reply).unwrap();
        while done.load(Ordering::Relaxed) == 0 {
            assert_eq!(a.echo(2, Channel::Request, b"small").await.unwrap(), b"small");
            answered += usize::from(done.load(Ordering::Relaxed) == 0);
        }
        assert!(answered >= 5, "{answered} were answered meanwhile");
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_request_that_expires_while_its_parts_wait_stops_being_sent() {
    run(async {
        let (b, mut deaf) = with_stranger(Placement::Here, quick(), FEATURE_PARTS).await;
        let outcome = Arc::new(Mutex::new(None));
        let told = outcome.clone();
        let on_reply =
            move |reply: Result<Incoming, LinkError>| *told.lock().unwrap() = Some(reply.map(drop));
        let within = Duration::from_millis(300);
        b.network.request(id(1), Channel::Request, ECHO, 1, within, filled(LARGE), on_reply).unwrap();
        eventually("its time runs out", async || outcome.lock().unwrap().is_some()).await;
        assert_eq!(*outcome.lock().unwrap(), Some(Err(LinkError::Deadline)));
        let (header, length) = frame(&mut deaf).await;
        assert_eq!((header.kind, header.family, length), (FrameKind::Large, ECHO, 13));
        assert!((1..=300).contains(&header.remaining_ms));
        let mut bytes = 0;
        let last = loop {
            match frame(&mut deaf).await {
                (header, length) if header.kind == FrameKind::Part => bytes += length,
                (header, _) => break header,
            }
        };
        assert_eq!((last.kind, last.request), (FrameKind::Abandoned, 1));
        assert!(bytes < LARGE, "{bytes} bytes were sent of what nobody waited for");
        // The connection stands, and the next one comes whole.
        b.network.send(id(1), Channel::Request, ECHO, 1, filled(PART_BYTES + 1)).unwrap();
        let kinds = [frame(&mut deaf).await, frame(&mut deaf).await, frame(&mut deaf).await];
        assert_eq!(kinds.map(|(_, length)| length), [13, PART_BYTES, 1]);
        b.stop().await;
    });
}

#[test]
fn large_messages_that_wait_are_bounded_apart_from_small_ones() {
    run(async {
        let limits = NetworkLimits { request_parted_bytes_max: 2 * LARGE, ..quick() };
        let (b, mut deaf) = with_stranger(Placement::Here, limits, FEATURE_PARTS).await;
        let send = |length| b.network.send(id(1), Channel::Request, ECHO, 1, filled(length));
        assert_eq!(send(3 * LARGE), Ok(()), "one alone may be larger");
        assert_eq!(send(PART_BYTES + 1), Err(SendError::Full));
        assert_eq!(b.telemetry.sends_refused.value(), 1);
        assert_eq!(send(PART_BYTES), Ok(()), "small ones have their own room");
        let mut bytes = 0;
        while bytes < 3 * LARGE {
            let (header, length) = frame(&mut deaf).await;
            bytes += if header.kind == FrameKind::Part { length } else { 0 };
        }
        eventually("there is room again", async || send(LARGE).is_ok()).await;
        b.stop().await;
    });
}

#[test]
fn a_goodbye_follows_the_last_part() {
    run(async {
        let (b, mut stranger) = with_stranger(Placement::Here, quick(), FEATURE_PARTS).await;
        b.network.send(id(1), Channel::Request, ECHO, 1, filled(LARGE)).unwrap();
        let closing = actix_rt::spawn(async move {
            b.network.close().await;
            b
        });
        let mut bytes = 0;
        let last = loop {
            let (header, length) = frame(&mut stranger).await;
            match header.kind {
                FrameKind::Large => {}
                FrameKind::Part => bytes += length,
                kind => break kind,
            }
        };
        assert_eq!((last, bytes), (FrameKind::Goodbye, LARGE));
        drop(stranger);
        closing.await.unwrap().stop().await;
    });
}

#[test]
fn a_node_that_knows_no_parts_is_sent_one_frame_or_nothing() {
    on_each_placement(async |placement| {
        let (b, mut old) = with_stranger(placement, quick(), 0).await;
        assert!(!b.network.takes_parts(id(1), Channel::Request));
        let send = |length| b.network.send(id(1), Channel::Request, ECHO, 1, filled(length));
        let (bytes, max) = (FRAME_BYTES_MAX + 1, FRAME_BYTES_MAX);
        let refused = send(bytes).unwrap_err();
        assert_eq!(refused, SendError::OlderRelease { bytes, max });
        assert!(refused.to_string().contains("at most 16777216; upgrade it first"), "{refused}");
        send(FRAME_BYTES_MAX).unwrap();
        let (header, length) = frame(&mut old).await;
        assert_eq!((header.kind, length), (FrameKind::OneWay, FRAME_BYTES_MAX));
        // Nor may it send any.
        old.send(large(1), &announcement(FrameKind::Request, 1, 10)).await;
        let lost =
            |event: &Event| matches!(event, Event::Lost(_, _, why, _) if why.contains("a Large frame"));
        b.saw("it is hung up on", lost).await;
        b.stop().await;
    });
}

#[test]
fn parts_that_do_not_fit_together_cost_the_connection() {
    let begun = |length| (large(1), announcement(FrameKind::Request, 1, length));
    let too_many =
        || (0..=PARTED_MESSAGES_MAX as u64).map(|n| (large(n), announcement(FrameKind::Request, n, 9)));
    let cases: Vec<(Frames, &str)> = vec![
        (vec![(part(1), vec![1])], "a part of message 1 came, which is not announced"),
        (vec![begun(2), (part(2), vec![1])], "a part of message 2 came, which is not announced"),
        (vec![begun(1), (part(1), vec![1]), (part(1), vec![1])], "a part of message 1 came, which is"),
        (vec![begun(2), (part(1), vec![1; 3])], "3 bytes of message 1 came, 2 were announced"),
        (vec![begun(2), (part(1), vec![])], "an empty part of message 1 came"),
        (vec![begun(2), begun(2)], "message 1 was announced again before it was finished"),
        (vec![begun(0)], "from 1 to 234881024 are allowed"),
        (vec![begun(MESSAGE_BYTES_MAX + 1)], "a message of 234881025 bytes was announced"),
        (vec![(large(1), announcement(FrameKind::Goodbye, 1, 2))], "that this release does not understand"),
        (vec![(large(1), vec![1, 2])], "that this release does not understand"),
        (too_many().collect(), "at most 8 of 234881024 bytes together are allowed"),
        (
            vec![begun(MESSAGE_BYTES_MAX), (large(2), announcement(FrameKind::Request, 2, 1))],
            "while 1 of 234881024 bytes are unfinished",
        ),
        (vec![begun(2), (FrameHeader { kind: FrameKind::Abandoned, ..part(3) }, vec![])], "message 3 came"),
    ];
    run(async {
        for (frames, words) in cases {
            let (b, mut hostile) = with_stranger(Placement::Here, quick(), FEATURE_PARTS).await;
            for (header, body) in frames {
                hostile.send(header, &body).await;
            }
            let lost = |event: &Event| match event {
                Event::Lost(_, Channel::Request, why, _) => why.contains(words),
                _ => false,
            };
            b.saw(words, lost).await;
            let mut one_whole = b.stand.events.lock().unwrap().clone();
            one_whole.retain(|event| matches!(event, Event::OneWay(..)));
            assert!(one_whole.is_empty() && b.stand.kept.lock().unwrap().is_empty());
            assert_eq!(b.telemetry.frames_refused.value(), 1, "{words}");
            b.stop().await;
        }
    });
}

#[test]
fn who_never_finishes_costs_nobody_else_anything_and_what_came_is_given_back() {
    on_each_placement(async |placement| {
        let (b, mut hostile) = with_stranger(placement, quick(), FEATURE_PARTS).await;
        for number in 0..PARTED_MESSAGES_MAX as u64 {
            hostile.send(large(number), &announcement(FrameKind::Request, number, 1000)).await;
            hostile.send(part(number), &[7; 999]).await;
        }
        // Others are served between the parts of what never ends.
        let header = FrameHeader { family: ECHO, request: 99, ..FrameHeader::bare(FrameKind::Request) };
        hostile.send(header, b"small").await;
        let (reply, length) = frame(&mut hostile).await;
        assert_eq!((reply.kind, reply.request, length), (FrameKind::Reply, 99, 5));
        // Finished in another order than begun, with a frame of another message between the parts.
        for number in (0..PARTED_MESSAGES_MAX as u64).rev() {
            hostile.send(part(number), &[7]).await;
            let (reply, length) = frame(&mut hostile).await;
            assert_eq!((reply.kind, reply.request, length), (FrameKind::Reply, number, 1000));
        }
        // An announced end frees the place.
        for number in 100..120 {
            hostile.send(large(number), &announcement(FrameKind::Request, number, MESSAGE_BYTES_MAX)).await;
            hostile.send(part(number), &[7; 1000]).await;
            hostile.send(FrameHeader { kind: FrameKind::Abandoned, ..part(number) }, b"").await;
        }
        hostile.send(header, b"small").await;
        assert_eq!(frame(&mut hostile).await.0.request, 99);
        drop(hostile);
        b.saw("it is gone", |event| matches!(event, Event::Lost(_, Channel::Request, ..))).await;
        b.stop().await;
    });
}

/// The largest item takes longer than either end of a transfer listens to silence: each part counts as a word, and who
/// is slowed down says that it lives.
#[test]
fn a_transfer_sends_the_largest_items_and_both_ends_hear_that_they_move() {
    run(async {
        let (a, b) = (start(1, Placement::Here, quick()), start(2, Placement::Here, quick()));
        meet(&[&a, &b]).await;
        let (_, mut writer) = a.network.dial_transfer(id(2)).await.unwrap().split().unwrap();
        eventually("it is taken", async || !b.stand.transfers.lock().unwrap().is_empty()).await;
        let stream = b.stand.transfers.lock().unwrap().remove(0);
        let (mut reader, _writer) = stream.split().unwrap();
        let (written, read) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let count = |counter: &AtomicUsize| _ = counter.fetch_add(1, Ordering::Relaxed);
        let writing = async {
            writer.ping(WITHIN).await.unwrap();
            writer.write(WITHIN, filled(PART_BYTES), || count(&written)).await.unwrap();
            writer.write(WITHIN, filled(LARGE), || count(&written)).await.unwrap();
            writer.write(WITHIN, filled(3), || count(&written)).await.unwrap();
        };
        let reading = async {
            let mut lengths = Vec::new();
            for _ in 0..3 {
                lengths.push(reader.read(WITHIN, || count(&read)).await.unwrap().unwrap().len());
            }
            lengths
        };
        let ((), lengths) = tokio::join!(writing, reading);
        assert_eq!(lengths, [PART_BYTES, LARGE, 3]);
        let parts = LARGE / PART_BYTES;
        // The announcement leaves with the first part; the last part is the message itself.
        assert_eq!((written.load(Ordering::Relaxed), read.load(Ordering::Relaxed)), (parts - 1, parts + 1));
        // What does not come is not waited for beyond its time.
        let late = reader.read(Duration::from_millis(1), || ()).await.unwrap_err();
        assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_transfer_to_a_node_that_knows_no_parts_is_as_it_was() {
    run(async {
        let (b, _stranger) = with_stranger(Placement::Here, quick(), 0).await;
        let mut old = Stranger::dial(&b).await;
        old.greet(&Stranger::hello(1, Purpose::Transfer)).await;
        eventually("it is taken", async || !b.stand.transfers.lock().unwrap().is_empty()).await;
        let stream = b.stand.transfers.lock().unwrap().remove(0);
        let (mut reader, mut writer) = stream.split().unwrap();
        writer.ping(WITHIN).await.unwrap();
        let refused = writer.write(WITHIN, filled(FRAME_BYTES_MAX + 1), || ()).await.unwrap_err();
        assert!(refused.to_string().contains("at most 16777216 are allowed"), "{refused}");
        let (sent, heard) =
            tokio::join!(writer.write(WITHIN, filled(PART_BYTES + 1), || ()), async { old.frame().await });
        sent.unwrap();
        assert_eq!((heard.header.kind, heard.body.len()), (FrameKind::OneWay, PART_BYTES + 1), "and no ping");
        old.send(large(1), &announcement(FrameKind::OneWay, 1, 10)).await;
        let error = reader.read(WITHIN, || ()).await.unwrap_err();
        assert!(error.to_string().contains("a Large frame"), "{error}");
        b.stop().await;
    });
}

#[test]
fn a_guest_may_send_no_parts() {
    run(async {
        let b = start(2, Placement::Here, quick());
        let mut guest = Stranger::dial(&b).await;
        guest.greet(&Hello { features: FEATURE_PARTS, ..Stranger::hello(9, Purpose::Guest) }).await;
        guest.send(large(1), &announcement(FrameKind::Request, 1, 10)).await;
        guest.read_to_end().await;
        assert_eq!(b.telemetry.frames_refused.value(), 1);
        b.stop().await;
    });
}
