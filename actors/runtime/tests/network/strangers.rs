//! Whoever has no business here: other clusters, garbage, HTTP, the silent, the greedy; and guests, who have some.

use crate::stand::{
    DROP, ECHO, Event, Node, Stranger, eventually, id, meet, on_each_placement, quick, run, start,
};
use bytes::Bytes;
use ringwork_core::ids::ClusterId;
use ringwork_core::limits::FRAME_BYTES_MAX;
use ringwork_core::wire::frame::{FrameHeader, FrameKind};
use ringwork_core::wire::handshake::{MAGIC, Purpose, RefusalReason, Refused};
use ringwork_runtime::net::{CallError, Channel, DialError, LinkError, Network, NetworkError, NetworkLimits};
use ringwork_runtime::spawner::Placement;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn refused_with(node: &Node, text: &str) {
    node.saw(text, |event| matches!(event, Event::Refused(why) if why.contains(text))).await;
}

#[test]
fn a_node_of_another_cluster_is_refused_and_both_sides_know_why() {
    on_each_placement(async |placement| {
        let (a, b) = (start(1, placement, quick()), start(2, placement, quick()));
        *b.stand.cluster.lock().unwrap() = ClusterId([8; 16]);
        a.network.set_peers(vec![b.spec()]);
        b.network.set_peers(vec![a.spec()]);
        let reason = "node n2 belongs to cluster";
        for channel in Channel::ALL {
            eventually("the one who dialled knows", async || {
                a.network.last_failure(id(2), channel).is_some_and(|why| why.contains(reason))
            })
            .await;
        }
        refused_with(&b, reason).await;
        assert!(!a.connected_to(2) && !b.connected_to(1));
        assert!(b.telemetry.handshakes_refused.value() > 0 && b.telemetry.links_opened.value() == 0);
        // Once it has joined, it gets in.
        *b.stand.cluster.lock().unwrap() = ClusterId([7; 16]);
        eventually("it is let in", async || a.connected_to(2) && b.connected_to(1)).await;
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn who_is_not_a_member_is_told_so() {
    run(async {
        let b = start(2, Placement::Here, quick());
        b.stand.members.lock().unwrap().clear();
        let mut stranger = Stranger::dial(&b).await;
        let answer = stranger.greet(&Stranger::hello(1, Purpose::Request)).await;
        assert_eq!(answer.header.kind, FrameKind::Refused);
        assert_eq!(Refused::read(&answer.body).reason, RefusalReason::NotMember);
        assert!(stranger.read_to_end().await.is_empty());
        b.stand.removed.lock().unwrap().push(id(1));
        let answer = Stranger::dial(&b).await.greet(&Stranger::hello(1, Purpose::Request)).await;
        assert_eq!(Refused::read(&answer.body).reason, RefusalReason::Removed);
        b.stop().await;
    });
}

#[test]
fn http_is_answered_in_http() {
    on_each_placement(async |placement| {
        let a = start(1, placement, quick());
        let mut client = Stranger::dial(&a).await;
        client.write(b"GET /ping HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        let answer = String::from_utf8(client.read_to_end().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("HTTP is served at"), "{answer}");
        refused_with(&a, "it speaks HTTP").await;
        a.stop().await;
    });
}

#[test]
fn garbage_is_hung_up_on() {
    on_each_placement(async |placement| {
        let a = start(1, placement, quick());
        let mut garbage = Stranger::dial(&a).await;
        garbage.write(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]).await;
        assert!(garbage.read_to_end().await.is_empty());
        refused_with(&a, "not a node's").await;

        // The right first bytes, then a greeting that claims four gigabytes.
        let mut greedy = Stranger::dial(&a).await;
        greedy.write(&[&MAGIC[..], &u32::MAX.to_be_bytes()].concat()).await;
        let answer = greedy.read_to_end().await;
        assert!(String::from_utf8_lossy(&answer).contains("at most 65536 are allowed"), "{answer:?}");

        let mut wrong = Stranger::dial(&a).await;
        let mut bytes = MAGIC.to_vec();
        Stranger::hello(9, Purpose::Guest).append_to(&mut bytes).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        wrong.write(&bytes).await;
        let answer = wrong.read_to_end().await;
        assert!(String::from_utf8_lossy(&answer).contains("checksum mismatch"), "{answer:?}");
        a.stop().await;
    });
}

#[test]
fn who_does_not_greet_in_time_is_hung_up_on_and_others_get_in_meanwhile() {
    on_each_placement(async |placement| {
        let limits = NetworkLimits { handshake_within: Duration::from_millis(200), ..quick() };
        let a = start(1, placement, limits);
        let mut half_open = Stranger::dial(&a).await;
        half_open.write(&MAGIC).await;
        let mut guest = Stranger::dial(&a).await;
        assert_eq!(guest.greet(&Stranger::hello(9, Purpose::Guest)).await.header.kind, FrameKind::Welcome);
        assert!(half_open.read_to_end().await.is_empty());
        refused_with(&a, "it did not greet in time").await;
        a.stop().await;
    });
}

#[test]
fn too_many_at_the_door_are_told_so() {
    run(async {
        let limits = NetworkLimits { handshakes_max: 1, ..quick() };
        let a = start(1, Placement::Here, limits);
        let silent = Stranger::dial(&a).await;
        eventually("the place is taken", async || {
            let mut other = Stranger::dial(&a).await;
            let answer = tokio::time::timeout(Duration::from_millis(50), async {
                let mut all = Vec::new();
                let _ = other.socket.read_to_end(&mut all).await;
                all
            });
            answer.await.is_ok_and(|all| String::from_utf8_lossy(&all).contains("too many connections"))
        })
        .await;
        drop(silent);
        eventually("it is free again", async || {
            let mut all = vec![0; 1];
            let mut guest = Stranger::dial(&a).await;
            let mut hello = MAGIC.to_vec();
            Stranger::hello(9, Purpose::Guest).append_to(&mut hello).unwrap();
            let _ = guest.socket.write_all(&hello).await;
            all.clear();
            while guest.socket.read_buf(&mut all).await.unwrap_or(0) > 0 && all.len() < 20 {}
            all.get(12) == Some(&(FrameKind::Welcome as u8))
        })
        .await;
        a.stop().await;
    });
}

#[test]
fn an_oversize_or_damaged_frame_costs_the_connection_and_no_memory() {
    on_each_placement(async |placement| {
        let oversize = ((FRAME_BYTES_MAX + 22) as u32).to_be_bytes().to_vec();
        let mut damaged = Vec::new();
        let bare = FrameHeader::bare(FrameKind::Ping);
        ringwork_core::wire::frame::encode_into(&mut damaged, &bare, |_| Ok(())).unwrap();
        damaged[10] ^= 4;
        for (bytes, why) in [(oversize, "16777216 are allowed"), (damaged, "checksum mismatch")] {
            let a = start(1, placement, quick());
            let mut guest = Stranger::dial(&a).await;
            guest.greet(&Stranger::hello(9, Purpose::Guest)).await;
            guest.write(&bytes).await;
            guest.read_to_end().await;
            assert_eq!(a.telemetry.frames_refused.value(), 1, "{why}");
            a.stop().await;
        }
    });
}

#[test]
fn a_guest_asks_once_and_gets_an_answer() {
    on_each_placement(async |placement| {
        let (a, b) = (start(1, placement, quick()), start(2, placement, quick()));
        b.stand.members.lock().unwrap().clear();
        *b.stand.cluster.lock().unwrap() = ClusterId([8; 16]);
        let address = b.network.local_address().to_string();
        let within = Duration::from_secs(10);
        let call = a.network.call_address(&address, ECHO, 3, within, Bytes::from_static(b"let me in")).await;
        let (welcome, incoming) = call.unwrap();
        assert_eq!((welcome.node, welcome.name.as_str(), welcome.cluster), (id(2), "n2", ClusterId([8; 16])));
        assert_eq!((incoming.version, &incoming.body[..]), (3, &b"let me in"[..]));
        let dropped = a.network.call_address(&address, DROP, 1, within, Bytes::new()).await;
        assert!(matches!(dropped, Err(CallError::Link(LinkError::Dropped))), "{dropped:?}");

        let mut guest = Stranger::dial(&b).await;
        guest.greet(&Stranger::hello(9, Purpose::Guest)).await;
        guest.send(FrameHeader::bare(FrameKind::OneWay), b"gossip").await;
        guest.read_to_end().await;
        assert!(!b.events().iter().any(|event| matches!(event, Event::OneWay(..))), "guests only ask");
        a.stop().await;
        b.stop().await;
    });
}

async fn failure(network: &Network, address: &str) -> String {
    let call = network.call_address(address, ECHO, 1, Duration::from_secs(2), Bytes::new()).await;
    match call {
        Err(CallError::Dial(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_guest_who_gets_nowhere_is_told_why() {
    run(async {
        let a = start(
            1,
            Placement::Here,
            NetworkLimits { handshake_within: Duration::from_millis(300), ..quick() },
        );
        let why = failure(&a.network, "127.0.0.1:1").await;
        assert!(why.contains("127.0.0.1:1 cannot be reached: Connection refused"), "{why}");
        let why = failure(&a.network, "no port").await;
        assert!(why.contains("no port cannot be reached"), "{why}");
        let why = failure(&a.network, &a.network.local_address().to_string()).await;
        assert!(why.contains("this is node n1 itself; give the address of another node"), "{why}");

        let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = other.local_addr().unwrap().to_string();
        let web = actix_rt::spawn(async move {
            let (mut client, _) = other.accept().await.unwrap();
            let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let (_silent, _) = other.accept().await.unwrap();
            let (third, _) = other.accept().await.unwrap();
            drop(third);
            std::future::pending::<()>().await;
        });
        let why = failure(&a.network, &address).await;
        assert!(why.contains("is not a ringwork cluster port"), "{why}");
        let why = failure(&a.network, &address).await;
        assert!(why.contains("did not answer the greeting within 300 ms"), "{why}");
        let why = failure(&a.network, &address).await;
        assert!(why.contains("hung up"), "{why}");
        web.abort();
        a.stop().await;
    });
}

#[test]
fn a_dialled_node_that_is_another_one_is_not_taken_for_it() {
    run(async {
        let (a, b) = (start(1, Placement::Here, quick()), start(2, Placement::Here, quick()));
        let mistaken = ringwork_runtime::net::PeerSpec { node: id(3), ..b.spec() };
        a.network.set_peers(vec![mistaken]);
        eventually("it is noticed", async || {
            let failure = a.network.last_failure(id(3), Channel::Control);
            failure.is_some_and(|why| why.contains("node n2") && why.contains("answers here"))
        })
        .await;
        meet(&[&a, &b]).await;
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn an_address_in_use_is_named_with_the_way_out() {
    run(async {
        let a = start(1, Placement::Here, quick());
        let options = ringwork_runtime::net::NetworkOptions {
            listen: a.network.local_address(),
            node: id(2),
            name: "n2".into(),
            boot: ringwork_core::ids::Boot(1),
            limits: quick(),
            transport: ringwork_runtime::net::Transport::tcp(),
        };
        let again = Network::start(
            options,
            a.stand.clone(),
            a.spawner.clone(),
            ringwork_runtime::time::Clock::system(),
            ringwork_runtime::randomness::Randomness::seeded(1),
            a.telemetry.clone(),
        );
        let error = again.err().unwrap();
        assert!(matches!(error, NetworkError::Listen { .. }));
        let text = error.to_string();
        assert!(
            text.contains(&a.network.local_address().to_string()) && text.contains("cluster.address"),
            "{text}"
        );
        let _ = DialError::NotRingwork { address: String::new() };
        a.stop().await;
    });
}
