//! How connections end and come back.

use crate::stand::{
    ECHO, Event, KEEP, Stranger, eventually, id, meet, on_each_placement, quick, run, start, start_at,
};
use ringwork_core::wire::frame::{FrameHeader, FrameKind};
use ringwork_core::wire::handshake::Purpose;
use ringwork_runtime::net::{Channel, LinkError, NetworkLimits, PeerSpec};
use ringwork_runtime::spawner::Placement;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn a_node_that_closes_says_goodbye_after_what_it_had_to_say() {
    on_each_placement(async |placement| {
        let (a, b) = (start(1, placement, quick()), start(2, placement, quick()));
        meet(&[&a, &b]).await;
        let waits = Arc::new(Mutex::new(None));
        let told = waits.clone();
        b.network
            .request(
                id(1),
                Channel::Request,
                KEEP,
                1,
                Duration::from_secs(60),
                |_| Ok(()),
                move |reply| {
                    *told.lock().unwrap() = Some(reply.map(drop));
                },
            )
            .unwrap();
        for number in 0..100 {
            let encode = |out: &mut Vec<u8>| {
                out.resize(out.len() + 1000, number);
                Ok(())
            };
            a.network.send(id(2), Channel::Request, 9, 1, encode).unwrap();
        }
        let (network, spawner) = (a.network.clone(), a.spawner.clone());
        network.close().await;
        for channel in Channel::ALL {
            b.saw("the goodbye", |event| {
                matches!(event, Event::Lost(node, ended, why, false)
                    if *node == id(1) && *ended == channel && why == "it said goodbye: the node stops")
            })
            .await;
        }
        let heard = b.events().iter().filter(|event| matches!(event, Event::OneWay(..))).count();
        assert_eq!(heard, 100);
        eventually("the one who waits is told", async || waits.lock().unwrap().is_some()).await;
        assert_eq!(*waits.lock().unwrap(), Some(Err(LinkError::Lost)));
        assert!(!a.connected_to(2) && a.echo(2, Channel::Control, b"").await.is_err());
        spawner.stop();
        b.stop().await;
    });
}

#[test]
fn a_node_that_comes_back_on_its_port_is_connected_again() {
    on_each_placement(async |placement| {
        for (staying, leaving) in [(1, 2), (2, 1)] {
            let a = start(staying, placement, quick());
            let b = start(leaving, placement, quick());
            meet(&[&a, &b]).await;
            let address = b.network.local_address();
            b.stop().await;
            eventually("the end is noticed", async || {
                Channel::ALL.iter().all(|channel| a.network.last_failure(id(leaving), *channel).is_some())
            })
            .await;
            assert!(!a.connected_to(leaving));
            let b = start_at(leaving, placement, quick(), address);
            meet(&[&a, &b]).await;
            assert_eq!(a.echo(leaving, Channel::Request, b"again").await.unwrap(), b"again");
            assert_eq!(a.network.last_failure(id(leaving), Channel::Control), None);
            let control: Vec<bool> = a
                .events()
                .iter()
                .filter_map(|event| match event {
                    Event::Connected(_, Channel::Control) => Some(true),
                    Event::Lost(_, Channel::Control, ..) => Some(false),
                    _ => None,
                })
                .collect();
            assert_eq!(control, [true, false, true], "each is told in order: {:?}", a.events());
            a.stop().await;
            b.stop().await;
        }
    });
}

/// A node that lists n1 as its peer, and n1 as a stranger with a bare socket on one channel.
async fn with_stranger(placement: Placement, limits: NetworkLimits) -> (crate::stand::Node, Stranger) {
    let b = start(2, placement, limits);
    let unreachable = PeerSpec { node: id(1), name: "n1".into(), address: "127.0.0.1:1".into() };
    b.network.set_peers(vec![unreachable]);
    let mut stranger = Stranger::dial(&b).await;
    let answer = stranger.greet(&Stranger::hello(1, Purpose::Control)).await;
    assert_eq!(answer.header.kind, FrameKind::Welcome);
    eventually("it stands", async || b.network.is_connected(id(1), Channel::Control)).await;
    (b, stranger)
}

fn lost(node: &crate::stand::Node) -> Vec<(String, bool)> {
    let lost = |event: &Event| match event {
        Event::Lost(_, _, why, reset) => Some((why.clone(), *reset)),
        _ => None,
    };
    node.events().iter().filter_map(lost).collect()
}

#[test]
fn an_end_without_a_goodbye_is_a_reset() {
    on_each_placement(async |placement| {
        let (b, stranger) = with_stranger(placement, quick()).await;
        drop(stranger);
        eventually("the end", async || !lost(&b).is_empty()).await;
        assert_eq!(lost(&b), [("it hung up without a goodbye".to_owned(), true)]);

        let (c, mut stranger) = with_stranger(placement, quick()).await;
        stranger.write(&[0, 0, 0]).await;
        drop(stranger);
        eventually("the end", async || !lost(&c).is_empty()).await;
        assert_eq!(
            lost(&c),
            [("the connection ended inside a frame, after 3 of its bytes".to_owned(), true)]
        );
        b.stop().await;
        c.stop().await;
    });
}

#[test]
fn silence_ends_a_connection_and_pings_prevent_it() {
    on_each_placement(async |placement| {
        let limits = NetworkLimits {
            ping_after: Duration::from_millis(30),
            silence_max: Duration::from_millis(400),
            ..quick()
        };
        let (b, mut silent) = with_stranger(placement, limits).await;
        assert_eq!(silent.frame().await.header.kind, FrameKind::Ping);
        eventually("the end", async || !lost(&b).is_empty()).await;
        assert_eq!(lost(&b), [("nothing was heard from it for 400 ms".to_owned(), false)]);

        let (c, d) = (start(3, placement, limits), start(4, placement, limits));
        meet(&[&c, &d]).await;
        let pings = c.telemetry.frames_received.value() + 60;
        eventually("time passes", async || c.telemetry.frames_received.value() >= pings).await;
        assert_eq!((lost(&c).len(), lost(&d).len()), (0, 0));
        assert_eq!(c.telemetry.links_opened.value(), 2);
        for node in [b, c, d] {
            node.stop().await;
        }
    });
}

/// After a cut TCP sends again at moments of its own, for each connection. So a node may be heard over one of its two
/// connections for seconds before it is over the other, and requests would wait meanwhile.
#[test]
fn a_connection_that_stays_silent_ends_when_the_node_is_heard_again_over_its_other() {
    on_each_placement(async |placement| {
        let limits = NetworkLimits { ping_after: Duration::from_millis(100), ..quick() };
        for (revived, other) in [(Channel::Control, Channel::Request), (Channel::Request, Channel::Control)] {
            for both in [false, true] {
                let (b, control) = with_stranger(placement, limits).await;
                let mut request = Stranger::dial(&b).await;
                request.greet(&Stranger::hello(1, Purpose::Request)).await;
                eventually("it stands", async || b.connected_to(1)).await;
                let mut strangers = [control, request];
                tokio::time::sleep(limits.ping_after * 2).await; // silence on both
                if both {
                    strangers[other as usize].send(FrameHeader::bare(FrameKind::Ping), b"").await;
                }
                strangers[revived as usize].send(FrameHeader::bare(FrameKind::Ping), b"").await;
                if both {
                    tokio::time::sleep(Duration::from_millis(500)).await; // longer than it is waited for
                    assert_eq!(lost(&b), []);
                } else {
                    b.saw("the end of the other", |event| {
                        let why =
                            "the node is heard again over its other connection, and over this one is not";
                        *event == Event::Lost(id(1), other, why.to_owned(), false)
                    })
                    .await;
                    assert!(b.network.is_connected(id(1), revived));
                }
                b.stop().await;
            }
        }
    });
}

#[test]
fn a_newer_connection_takes_the_place_of_the_older() {
    on_each_placement(async |placement| {
        let (b, mut older) = with_stranger(placement, quick()).await;
        let mut newer = Stranger::dial(&b).await;
        newer.greet(&Stranger::hello(1, Purpose::Control)).await;
        older.read_to_end().await;
        let header = FrameHeader { family: ECHO, request: 7, ..FrameHeader::bare(FrameKind::Request) };
        newer.send(header, b"x").await;
        let reply = newer.frame().await;
        assert_eq!((reply.header.kind, reply.header.request), (FrameKind::Reply, 7));
        assert!(b.network.is_connected(id(1), Channel::Control));
        let events = b.events();
        assert!(matches!(
            &events[..],
            [Event::Connected(..), Event::Lost(_, _, why, false), Event::Connected(..)]
                if why == "a newer connection took its place"
        ));
        b.stop().await;
    });
}

#[test]
fn a_peer_that_is_no_longer_listed_is_said_goodbye_to() {
    on_each_placement(async |placement| {
        let (a, b) = (start(1, placement, quick()), start(2, placement, quick()));
        meet(&[&a, &b]).await;
        b.network.set_peers(Vec::new());
        a.saw("the goodbye", |event| {
            matches!(event, Event::Lost(_, _, why, false) if why == "it said goodbye: no longer a peer of this node")
        })
        .await;
        eventually("it is told why not", async || {
            let failure = a.network.last_failure(id(2), Channel::Control);
            failure.is_some_and(|why| why.contains("node n2 takes no connection now: it is not ready yet"))
        })
        .await;
        b.network.set_peers(vec![a.spec()]);
        a.network.nudge(id(2));
        eventually("it is back", async || a.connected_to(2) && b.connected_to(1)).await;
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_changed_address_is_used() {
    run(async {
        let slow = NetworkLimits {
            redial_min: Duration::from_secs(60),
            redial_max: Duration::from_secs(60),
            ..quick()
        };
        let (a, b) = (start(1, Placement::Here, slow), start(2, Placement::Here, quick()));
        b.network.set_peers(vec![a.spec()]);
        a.network.set_peers(vec![PeerSpec { address: "127.0.0.1:1".into(), ..b.spec() }]);
        eventually("it fails", async || {
            let failure = a.network.last_failure(id(2), Channel::Control);
            failure.is_some_and(|why| why.contains("127.0.0.1:1 cannot be reached"))
        })
        .await;
        a.network.set_peers(vec![b.spec()]);
        eventually("it is connected", async || a.connected_to(2)).await;
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_node_that_comes_back_knocks_and_is_not_kept_waiting() {
    on_each_placement(async |placement| {
        let patient = NetworkLimits {
            redial_min: Duration::from_secs(600),
            redial_max: Duration::from_secs(600),
            ..NetworkLimits::default()
        };
        let (a, b) = (start(1, placement, patient), start(2, placement, quick()));
        let (address, spec) = (b.network.local_address(), b.spec());
        b.stop().await;
        a.network.set_peers(vec![spec]);
        eventually("the one who dials has failed", async || {
            Channel::ALL.iter().all(|channel| a.network.last_failure(id(2), *channel).is_some())
        })
        .await;
        let b = start_at(2, placement, quick(), address);
        meet(&[&a, &b]).await;
        assert!(
            !a.events().iter().any(|event| matches!(event, Event::Refused(_))),
            "a knock is no intrusion"
        );
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_node_that_was_kept_from_listening_does_not_take_the_others_for_dead() {
    run(async {
        let limits = NetworkLimits { ping_after: Duration::from_millis(30), ..quick() };
        let hasty = NetworkLimits { silence_max: Duration::from_millis(300), ..limits };
        let (a, b) = (start(1, Placement::Here, hasty), start(2, Placement::Own(1), limits));
        meet(&[&a, &b]).await;
        for _ in 0..3 {
            #[allow(clippy::disallowed_methods)] // the thread is starved on purpose
            std::thread::sleep(Duration::from_millis(600));
            assert_eq!(a.echo(2, Channel::Request, b"still").await.unwrap(), b"still");
        }
        assert_eq!((lost(&a), lost(&b)), (Vec::new(), Vec::new()));
        a.stop().await;
        b.stop().await;
    });
}
