//! Takes connections in. It decides how many may be in handshake and in all, and where one that was let in goes: a
//! member's to its peer, a guest's to a carrier of its own for a short while.

use super::carrier::Carrier;
use super::greet::{self, Stranger};
use super::handler::{Channel, Sender};
use super::link::Link;
use super::network::Inner;
use super::peer::{Joined, PeerMessage};
use super::socket::{Acceptor, Socket, secure_inbound};
use super::transfer::TransferStream;
use crate::post::{Permit, Permits, Postbox, Posted};
use actix::{Actor, ActorContext, Context, Handler};
use ringwork_core::wire::handshake::{
    Agreed, FEATURES, HandshakeRefusal, Hello, Local, PROTOCOL_MAX, PROTOCOL_MIN, Purpose, RefusalReason,
    Refused, Welcome, judge,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// The pause after the system could not accept: it has run out of something, and would say so again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a guest may stay: a few requests.
const GUEST_STAYS: Duration = Duration::from_secs(60);
/// A refusal at the door is one small write into an empty socket.
const BUSY_WITHIN: Duration = Duration::from_millis(10);

/// See the module's head.
pub(super) struct Listener {
    inner: Arc<Inner>,
    acceptor: Option<Acceptor>,
    accepting: Option<JoinHandle<()>>,
}

/// Takes no more connections.
pub(super) struct StopListening;

impl Listener {
    /// Starts on the calling thread.
    pub(super) fn start(inner: Arc<Inner>, acceptor: Acceptor) -> Postbox<Self> {
        let listener = Self { inner, acceptor: Some(acceptor), accepting: None };
        Postbox::new(Actor::start(listener), Permits::new(16))
    }
}

impl Actor for Listener {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        if let Some(acceptor) = self.acceptor.take() {
            self.accepting = Some(actix_rt::spawn(accept(self.inner.clone(), acceptor)));
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
    }
}

impl Handler<Posted<StopListening>> for Listener {
    type Result = ();

    fn handle(&mut self, _: Posted<StopListening>, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

async fn accept(inner: Arc<Inner>, mut acceptor: Acceptor) {
    let limits = inner.carriage.limits;
    let (handshakes, connections) =
        (Permits::new(limits.handshakes_max), Permits::new(limits.connections_max));
    let guests =
        Few { guests: Permits::new(limits.guests_max), transfers: Permits::new(limits.transfers_max) };
    let guests = Arc::new(guests);
    loop {
        let (mut socket, from) = match acceptor.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection of another node could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match (handshakes.take(), connections.take()) {
            (Some(handshake), Some(place)) => {
                let (inner, guests) = (inner.clone(), guests.clone());
                actix_rt::spawn(async move {
                    take_in(&inner, socket, from, place, &guests, handshake).await;
                });
            }
            _ => {
                let busy = busy(&inner, "too many connections");
                inner.carriage.telemetry.handshakes_refused.increment();
                let _ = timeout(BUSY_WITHIN, greet::tell_refused(&mut socket, &busy)).await;
            }
        }
    }
}

fn busy(inner: &Inner, why: &'static str) -> Refused {
    HandshakeRefusal::Busy { name: inner.options.name.clone(), why }.refused()
}

/// Places of which there are fewer than of connections.
struct Few {
    guests: Arc<Permits>,
    transfers: Arc<Permits>,
}

/// What to do with someone who was understood.
enum Verdict {
    Member(Agreed, Postbox<super::peer::Peer>, Channel),
    Guest(Agreed, Permit),
    Transfer(Agreed, Permit),
    Refused(Refused),
}

async fn take_in(
    inner: &Arc<Inner>,
    socket: Socket,
    from: SocketAddr,
    place: Permit,
    guests: &Arc<Few>,
    handshake: Permit,
) {
    let within = inner.carriage.limits.handshake_within;
    let greeted = timeout(within, async {
        let mut socket =
            secure_inbound(socket).await.map_err(|error| Stranger::Unknown(error.to_string()))?;
        match greet::read_hello(&mut socket).await {
            Ok((buffer, hello)) => Ok((socket, buffer, hello)),
            Err(Stranger::Http) => {
                greet::refuse_http(socket).await;
                Err(Stranger::Http)
            }
            Err(Stranger::Unclear(refusal)) => {
                greet::refuse(socket, &refusal.refused()).await;
                Err(Stranger::Unclear(refusal))
            }
            Err(unknown) => Err(unknown),
        }
    });
    let (mut socket, buffer, hello) = match greeted.await {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(Stranger::Http)) => {
            return inner.note_refused(from, None, "it speaks HTTP; this port is for nodes");
        }
        Ok(Err(Stranger::Unknown(why))) => return inner.note_refused(from, None, &why),
        Ok(Err(Stranger::Unclear(refusal))) => return inner.note_refused(from, None, &refusal.to_string()),
        Err(_) => return inner.note_refused(from, None, "it did not greet in time"),
    };
    match verdict(inner, &hello, guests) {
        Verdict::Refused(refused) => {
            // A member that is dialled from here has knocked: it is back.
            let peer = inner.peer(hello.node).filter(|_| refused.reason == RefusalReason::Direction);
            match peer {
                Some(peer) => peer.post_control(PeerMessage::Nudge),
                None => inner.note_refused(from, Some(&hello.name), &refused.text),
            }
            let _ = timeout(within, greet::refuse(socket, &refused)).await;
        }
        Verdict::Member(agreed, peer, channel) => {
            if welcome(inner, &mut socket, agreed).await {
                drop(handshake);
                let (name, features) = (hello.name, agreed.features);
                let joined = Joined { socket, buffer, name, features, place: Some(place) };
                peer.post_control(PeerMessage::Accepted(channel, joined));
            }
        }
        Verdict::Transfer(agreed, transfer) => {
            if welcome(inner, &mut socket, agreed).await {
                drop(handshake);
                let place = Some((place, transfer));
                let stream =
                    TransferStream::new(inner.clone(), hello.node, agreed.features, socket, buffer, place);
                if let Ok(stream) = stream {
                    inner.carriage.handler.transfer(hello.node, stream);
                }
            }
        }
        Verdict::Guest(agreed, guest) => {
            if welcome(inner, &mut socket, agreed).await {
                drop(handshake);
                let sender = Sender {
                    node: hello.node,
                    name: hello.name.into(),
                    guest: true,
                    channel: Channel::Control,
                };
                let carriage = inner.carriage.clone();
                let serial = inner.next_serial();
                // A guest asks a few small questions, and reads whole answers.
                let takes_parts = false;
                let link = Link::new(
                    sender,
                    serial,
                    takes_parts,
                    &carriage.limits,
                    carriage.clock.clone(),
                    carriage.telemetry.clone(),
                );
                inner.guest_came(link.clone());
                let carrier = Carrier::new(carriage, link, socket, buffer, None, Some(place));
                let _ = timeout(GUEST_STAYS, carrier).await;
                inner.guest_went(serial);
                drop(guest);
            }
        }
    }
}

fn verdict(inner: &Inner, hello: &Hello, few: &Few) -> Verdict {
    let said = inner.carriage.handler.local();
    let local = Local {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        cluster: said.cluster,
        ring_size: said.ring_size,
        node: inner.options.node,
        name: inner.options.name.clone(),
        features: FEATURES,
    };
    let member = inner.carriage.handler.is_member(hello.node);
    let agreed = match judge(&local, hello, member) {
        Ok(agreed) => agreed,
        Err(refusal) => return Verdict::Refused(refusal.refused()),
    };
    if hello.purpose == Purpose::Transfer {
        return match few.transfers.take() {
            Some(transfer) if !inner.is_closing() => Verdict::Transfer(agreed, transfer),
            Some(_) => Verdict::Refused(busy(inner, "it is stopping")),
            None => Verdict::Refused(busy(inner, "too many transfers")),
        };
    }
    let channel = match hello.purpose {
        Purpose::Control => Channel::Control,
        Purpose::Request | Purpose::Transfer => Channel::Request,
        Purpose::Guest => {
            return match few.guests.take() {
                Some(guest) => Verdict::Guest(agreed, guest),
                None => Verdict::Refused(busy(inner, "too many guests")),
            };
        }
    };
    if inner.is_closing() {
        return Verdict::Refused(busy(inner, "it is stopping"));
    }
    // A member that the node has not listed as a peer yet comes a moment too early.
    match inner.peer(hello.node) {
        Some(peer) if inner.spawner.complete() => Verdict::Member(agreed, peer, channel),
        _ => Verdict::Refused(busy(inner, "it is not ready yet")),
    }
}

async fn welcome(inner: &Inner, socket: &mut Socket, agreed: Agreed) -> bool {
    let said = inner.carriage.handler.local();
    let welcome = Welcome {
        protocol: agreed.protocol,
        cluster: said.cluster,
        ring_size: said.ring_size,
        node: inner.options.node,
        name: inner.options.name.clone(),
        boot: inner.options.boot,
        features: agreed.features,
    };
    let told = timeout(inner.carriage.limits.handshake_within, greet::welcome(socket, &welcome)).await;
    matches!(told, Ok(Ok(())))
}
