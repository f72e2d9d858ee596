//! Messages, requests, replies, deadlines, bounds.

use crate::stand::{
    DROP, ECHO, Event, KEEP, PANIC, Stranger, eventually, id, meet, on_each_placement, quick, run, start,
};
use ringwork_core::wire::WireError;
use ringwork_core::wire::frame::{FrameHeader, FrameKind};
use ringwork_core::wire::handshake::Purpose;
use ringwork_runtime::net::{CallError, Channel, LinkError, NetworkLimits, SendError};
use ringwork_runtime::spawner::Placement;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn nothing(_: &mut Vec<u8>) -> Result<(), WireError> {
    Ok(())
}

#[test]
fn requests_are_answered_in_both_directions_on_both_channels() {
    on_each_placement(async |placement| {
        let (a, b) = (start(1, placement, quick()), start(2, placement, quick()));
        meet(&[&a, &b]).await;
        for channel in Channel::ALL {
            assert_eq!(a.echo(2, channel, b"there").await.unwrap(), b"there");
            assert_eq!(b.echo(1, channel, b"and back").await.unwrap(), b"and back");
        }
        let large: Vec<u8> = (0..5_000_000u32).map(|n| (n * 7 % 251) as u8).collect();
        assert_eq!(a.echo(2, Channel::Request, &large).await.unwrap(), large);
        assert_eq!(b.echo(1, Channel::Control, &large).await.unwrap(), large, "larger than the outbox");
        assert_eq!(a.telemetry.links_opened.value(), 2, "one pair of connections for a pair of nodes");
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn three_nodes_tell_each_other_things() {
    on_each_placement(async |placement| {
        let nodes = [1, 2, 3].map(|number| start(number, placement, quick()));
        meet(&nodes.each_ref()).await;
        for from in &nodes {
            for to in nodes.iter().filter(|to| to.number != from.number) {
                let encode = |out: &mut Vec<u8>| {
                    out.extend_from_slice(&[from.number, to.number]);
                    Ok(())
                };
                from.network.send(id(to.number), Channel::Control, 9, 1, encode).unwrap();
                let expected = Event::OneWay(id(from.number), Channel::Control, vec![from.number, to.number]);
                to.saw("the message", |event| *event == expected).await;
            }
        }
        for node in nodes {
            node.stop().await;
        }
    });
}

#[test]
fn a_request_that_is_dropped_or_panics_is_answered_as_unknown_and_the_connection_stays() {
    on_each_placement(async |placement| {
        let (a, b) = (start(1, placement, quick()), start(2, placement, quick()));
        meet(&[&a, &b]).await;
        for family in [DROP, PANIC] {
            let call =
                a.network.call(id(2), Channel::Request, family, 1, Duration::from_secs(10), nothing).await;
            assert!(matches!(call, Err(CallError::Link(LinkError::Dropped))), "{call:?}");
        }
        assert_eq!(a.echo(2, Channel::Request, b"still").await.unwrap(), b"still");
        assert_eq!(a.telemetry.links_lost.value(), 0);
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn the_deadline_travels_and_ends_the_wait_and_a_late_reply_meets_nobody() {
    on_each_placement(async |placement| {
        let (a, b) = (start(1, placement, quick()), start(2, placement, quick()));
        meet(&[&a, &b]).await;
        let within = Duration::from_millis(50);
        let call = a.network.call(id(2), Channel::Request, KEEP, 1, within, nothing);
        let call = tokio::time::timeout(Duration::from_secs(10), call).await.expect("the wait has an end");
        assert!(matches!(call, Err(CallError::Link(LinkError::Deadline))), "{call:?}");
        let (incoming, respond) = b.stand.kept.lock().unwrap().pop().unwrap();
        assert_eq!((incoming.family, incoming.version, incoming.remaining), (KEEP, 1, Some(within)));
        let sender = b.stand.senders.lock().unwrap()[0].clone();
        assert_eq!((sender.node, &*sender.name, sender.guest), (id(1), "n1", false));
        respond.reply(1, nothing).unwrap();
        assert_eq!(a.echo(2, Channel::Request, b"next").await.unwrap(), b"next", "not the late one");
        assert_eq!(a.telemetry.replies_missed.value(), 1);
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn frames_that_are_queued_together_leave_together() {
    run(async {
        let (a, b) = (start(1, Placement::Here, quick()), start(2, Placement::Here, quick()));
        meet(&[&a, &b]).await;
        let count = 5000;
        let before = (a.telemetry.link_writes.value(), b.telemetry.link_writes.value());
        let replies = Arc::new(AtomicUsize::new(0));
        for number in 0..count {
            let replies = replies.clone();
            let body = u64::to_be_bytes(number as u64);
            let told = move |reply: Result<ringwork_runtime::net::Incoming, LinkError>| {
                assert_eq!(&reply.unwrap().body[..], body);
                replies.fetch_add(1, Ordering::Relaxed);
            };
            let encode = |out: &mut Vec<u8>| {
                out.extend_from_slice(&body);
                Ok(())
            };
            let within = Duration::from_secs(10);
            a.network.request(id(2), Channel::Request, ECHO, 1, within, encode, told).unwrap();
        }
        eventually("all replies", async || replies.load(Ordering::Relaxed) == count).await;
        let after = (a.telemetry.link_writes.value(), b.telemetry.link_writes.value());
        assert!(after.0 - before.0 <= 50, "{} writes for {count} requests", after.0 - before.0);
        assert!(after.1 - before.1 <= 50, "{} writes for {count} replies", after.1 - before.1);
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn senders_on_many_threads_lose_nothing() {
    run(async {
        let (a, b) = (start(1, Placement::Own(1), quick()), start(2, Placement::Own(1), quick()));
        meet(&[&a, &b]).await;
        let replies = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (network, replies) = (a.network.clone(), replies.clone());
                tokio::task::spawn_blocking(move || {
                    for _ in 0..2000 {
                        let replies = replies.clone();
                        let told = move |reply: Result<_, LinkError>| {
                            reply.unwrap();
                            replies.fetch_add(1, Ordering::Relaxed);
                        };
                        let within = Duration::from_secs(20);
                        network.request(id(2), Channel::Request, ECHO, 1, within, nothing, told).unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.await.unwrap();
        }
        eventually("all replies", async || replies.load(Ordering::Relaxed) == 8000).await;
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn what_cannot_be_sent_is_said_at_once() {
    run(async {
        let (a, b) = (start(1, Placement::Here, quick()), start(2, Placement::Here, quick()));
        let send = |channel| a.network.send(id(2), channel, 1, 1, nothing);
        assert_eq!(send(Channel::Control), Err(SendError::NotConnected));
        meet(&[&a, &b]).await;
        let wrong = a.network.send(id(2), Channel::Control, 1, 1, |out| {
            out.push(1);
            Err(WireError::Kind)
        });
        assert_eq!(wrong, Err(SendError::Encode(WireError::Kind)));
        assert_eq!(a.echo(2, Channel::Control, b"whole").await.unwrap(), b"whole", "no half frame went out");
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn the_outbox_is_bounded_when_the_other_side_does_not_read() {
    on_each_placement(async |placement| {
        let limits = NetworkLimits { request_outbox_bytes_max: 200_000, ..quick() };
        let b = start(2, placement, limits);
        b.network.set_peers(vec![ringwork_runtime::net::PeerSpec {
            node: id(1),
            name: "n1".into(),
            address: "127.0.0.1:1".into(),
        }]);
        let mut deaf = Stranger::dial(&b).await;
        let answer = deaf.greet(&Stranger::hello(1, Purpose::Request)).await;
        assert_eq!(answer.header.kind, FrameKind::Welcome);
        eventually("it stands", async || b.network.is_connected(id(1), Channel::Request)).await;
        let outcome = Arc::new(Mutex::new(Vec::new()));
        let ask = || {
            let outcome = outcome.clone();
            let encode = |out: &mut Vec<u8>| {
                out.resize(out.len() + 10_000, 7);
                Ok(())
            };
            let told = move |reply: Result<_, LinkError>| outcome.lock().unwrap().push(reply.map(drop));
            b.network.request(id(1), Channel::Request, 1, 1, Duration::from_secs(60), encode, told)
        };
        // The sockets' own buffers take some megabytes before the outbox fills.
        let mut sent = 0;
        eventually("it is full", async || {
            loop {
                match ask() {
                    Ok(()) => sent += 1,
                    Err(error) => {
                        assert_eq!(error, SendError::Full);
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        return b.telemetry.sends_refused.value() > 30;
                    }
                }
            }
        })
        .await;
        assert!(sent * 10_000 < 40_000_000, "{sent} frames were taken");
        let mut heard = 0;
        while heard < sent {
            if deaf.frame().await.header.kind == FrameKind::Request {
                heard += 1;
            }
        }
        eventually("there is room again", async || ask().is_ok()).await;
        deaf.send(FrameHeader::bare(FrameKind::Goodbye), b"enough").await;
        eventually("all are told", async || outcome.lock().unwrap().len() == sent + 1).await;
        assert!(outcome.lock().unwrap().iter().all(|reply| *reply == Err(LinkError::Lost)));
        b.stop().await;
    });
}

#[test]
fn the_number_of_requests_that_wait_is_bounded() {
    run(async {
        let limits = NetworkLimits { pending_max: 3, ..quick() };
        let (a, b) = (start(1, Placement::Here, limits), start(2, Placement::Here, quick()));
        meet(&[&a, &b]).await;
        let ask = || {
            let within = Duration::from_millis(100);
            a.network.request(id(2), Channel::Request, KEEP, 1, within, nothing, |_| ())
        };
        assert_eq!([ask(), ask(), ask()], [Ok(()), Ok(()), Ok(())]);
        assert_eq!(ask(), Err(SendError::Full));
        eventually("their time runs out", async || ask().is_ok()).await;
        a.stop().await;
        b.stop().await;
    });
}
