//! One other member: the two connections to it, and how they come back. It decides when to dial again and which of
//! two connections stays (the newer). The node with the lower id dials; the other *knocks*: it dials the control
//! connection, knowing that it will be refused, so that a node which comes back is dialled at once and not at the
//! end of a pause, and so that both sides can say what keeps them apart. It is the only one that tells the handler of
//! connections that came and went, so those calls are in order. It does not know what travels.

use super::carrier::Carrier;
use super::error::DialError;
use super::greet;
use super::handler::{Channel, Sender};
use super::link::{Link, LinkEnd};
use super::network::{Inner, PeerSpec};
use super::socket::Socket;
use crate::post::{Permit, Permits, Postbox, Posted};
use crate::time::Moment;
use actix::{Actor, ActorContext, AsyncContext, Context, Handler, SpawnHandle};
use arc_swap::ArcSwapOption;
use bytes::BytesMut;
use ringwork_core::wire::handshake::{
    FEATURE_PARTS, FEATURES, Hello, PROTOCOL_MAX, PROTOCOL_MIN, Purpose, RefusalReason, Welcome,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A connection that lived this long was a good one: the next attempt after its end is made soon.
const GOOD_AFTER: Duration = Duration::from_secs(1);
/// How long the goodbyes of a peer that stops may take.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// What senders see of a peer: its connections, read without a lock, and what was last wrong. And what each of the two
/// connections is to know of the other.
pub(super) struct PeerSlot {
    links: [ArcSwapOption<Link>; 2],
    /// When each was last heard again after a silence, in microseconds of the clock; 0 for never.
    heard_again_us: [AtomicU64; 2],
    failures: Mutex<[Option<String>; 2]>,
}

impl PeerSlot {
    /// Without connections.
    pub(super) fn new() -> Arc<Self> {
        let (links, heard_again_us) = Default::default();
        Arc::new(Self { links, heard_again_us, failures: Mutex::default() })
    }

    /// The connection of that kind, if there is one.
    pub(super) fn link(&self, channel: Channel) -> &ArcSwapOption<Link> {
        &self.links[channel as usize]
    }

    /// The node is heard again over `channel` after a silence: its other connection is to be heard soon, or ends.
    pub(super) fn heard_again(&self, channel: Channel, now: Moment) {
        let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        self.heard_again_us[channel as usize].store(now_us, Ordering::Release);
        if let Some(other) = self.link(channel.other()).load_full() {
            other.rouse();
        }
    }

    /// When the node was last heard again, after a silence, over the connection that is not `channel`.
    pub(super) fn other_heard_again(&self, channel: Channel) -> Option<Moment> {
        let us = self.heard_again_us[channel.other() as usize].load(Ordering::Acquire);
        (us > 0).then(|| Moment::from_micros(us))
    }

    /// What was last wrong with it, while there is none.
    pub(super) fn failure(&self, channel: Channel) -> Option<String> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures[channel as usize].clone()
    }

    /// Remembers what is wrong; says whether that is news.
    fn note(&self, channel: Channel, failure: Option<String>) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let news = failures[channel as usize] != failure;
        failures[channel as usize] = failure;
        news
    }
}

/// A connection that has been greeted.
pub(super) struct Joined {
    /// The connection.
    pub(super) socket: Socket,
    /// What has come after the greeting.
    pub(super) buffer: BytesMut,
    /// What the other node calls itself.
    pub(super) name: String,
    /// What both can do beyond the protocol.
    pub(super) features: u64,
    /// Its place among the connections that were accepted; none for one that was dialled.
    pub(super) place: Option<Permit>,
}

/// What a peer is told.
pub(super) enum PeerMessage {
    /// An attempt to dial has ended.
    Dialled(Channel, Result<(Socket, BytesMut, Welcome), DialError>),
    /// The other node has dialled, and was let in.
    Accepted(Channel, Joined),
    /// The connection of that serial number has ended.
    Ended(Channel, u64, LinkEnd),
    /// Dial now.
    Nudge,
    /// The other node's name or address may have changed.
    Spec(PeerSpec),
    /// Say goodbye with that reason and stop; answers when done.
    Stop(&'static str, oneshot::Sender<()>),
}

/// Tells the peer that a connection has ended, whatever becomes of its carrier.
pub(super) struct EndNotice {
    peer: Postbox<Peer>,
    channel: Channel,
    serial: u64,
    told: bool,
}

impl EndNotice {
    /// Tells it.
    pub(super) fn tell(mut self, end: LinkEnd) {
        self.told = true;
        self.peer.post_control(PeerMessage::Ended(self.channel, self.serial, end));
    }
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        if !self.told {
            let end = LinkEnd::because("there is no thread to carry it");
            self.peer.post_control(PeerMessage::Ended(self.channel, self.serial, end));
        }
    }
}

/// One of the two connections, as the peer sees it.
#[derive(Default)]
struct Line {
    /// Serial number of the connection that stands, and since when.
    up: Option<(u64, Moment)>,
    dialling: Option<JoinHandle<()>>,
    waiting: Option<SpawnHandle>,
    /// Attempts in a row that did not lead to a good connection.
    failed: u32,
}

/// See the module's head.
pub(super) struct Peer {
    inner: Arc<Inner>,
    spec: PeerSpec,
    slot: Arc<PeerSlot>,
    me: Option<Postbox<Peer>>,
    /// Which shard carries its requests.
    shard: usize,
    lines: [Line; 2],
    stopping: Option<oneshot::Sender<()>>,
}

impl Peer {
    /// Starts on the calling thread.
    pub(super) fn start(
        inner: Arc<Inner>,
        spec: PeerSpec,
        slot: Arc<PeerSlot>,
        shard: usize,
    ) -> Postbox<Self> {
        let mut postbox = None;
        let _ = Self::create(|ctx| {
            // Everything that is posted to a peer is bounded by its sender: connections, attempts, changes of peers.
            let me = Postbox::new(ctx.address(), Permits::new(0));
            postbox = Some(me.clone());
            Self { inner, spec, slot, me: Some(me), shard, lines: Default::default(), stopping: None }
        });
        #[allow(clippy::expect_used)] // `create` has run the closure before it returns
        postbox.expect("the context gives an address")
    }

    fn dials(&self) -> bool {
        self.inner.options.node < self.spec.node
    }

    /// Whether there is nothing to do on this side to get a connection.
    fn idle(&self, channel: Channel) -> bool {
        self.stopping.is_some() || (!self.dials() && channel == Channel::Request)
    }

    fn line(&mut self, channel: Channel) -> &mut Line {
        &mut self.lines[channel as usize]
    }

    /// Dials or knocks unless there is a connection or an attempt.
    fn dial(&mut self, channel: Channel, ctx: &mut Context<Self>) {
        let idle = self.idle(channel);
        let line = self.line(channel);
        if idle || line.up.is_some() || line.dialling.is_some() {
            return;
        }
        if let Some(waiting) = line.waiting.take() {
            ctx.cancel_future(waiting);
        }
        if !self.inner.spawner.complete() {
            return self.dial_later(channel, ctx);
        }
        let Some(me) = self.me.clone() else { return };
        let said = self.inner.carriage.handler.local();
        let options = &self.inner.options;
        let hello = Hello {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            cluster: said.cluster,
            ring_size: said.ring_size,
            node: options.node,
            name: options.name.clone(),
            boot: options.boot,
            whom: Some(self.spec.node),
            purpose: match channel {
                Channel::Control => Purpose::Control,
                Channel::Request => Purpose::Request,
            },
            features: FEATURES,
        };
        let (address, within) = (self.spec.address.clone(), self.inner.carriage.limits.handshake_within);
        let transport = self.inner.options.transport.clone();
        self.line(channel).dialling = Some(actix_rt::spawn(async move {
            let dialled = greet::dial(&transport, &address, &hello, within).await;
            me.post_control(PeerMessage::Dialled(channel, dialled));
        }));
    }

    fn dial_later(&mut self, channel: Channel, ctx: &mut Context<Self>) {
        if self.idle(channel) || self.line(channel).up.is_some() {
            return;
        }
        let limits = self.inner.carriage.limits;
        let random = self.inner.randomness.bytes::<8>().map_or(u64::MAX, u64::from_be_bytes);
        let line = &mut self.lines[channel as usize];
        let pause = redial_pause(limits.redial_min, limits.redial_max, line.failed, random);
        line.failed = line.failed.saturating_add(1);
        let again = ctx.run_later(pause, move |peer, ctx| {
            peer.line(channel).waiting = None;
            peer.dial(channel, ctx);
        });
        if let Some(before) = line.waiting.replace(again) {
            ctx.cancel_future(before);
        }
    }

    fn dialled(
        &mut self,
        channel: Channel,
        result: Result<(Socket, BytesMut, Welcome), DialError>,
        ctx: &mut Context<Self>,
    ) {
        self.line(channel).dialling = None;
        match result {
            Ok((socket, buffer, welcome)) => {
                let (name, features) = (welcome.name, welcome.features & FEATURES);
                self.stands(channel, Joined { socket, buffer, name, features, place: None }, ctx);
            }
            Err(error) => {
                let (peer, channel_name) = (&self.spec.name, channel.name());
                let text = error.to_string();
                let refused = match &error {
                    DialError::Refused { refused, .. } => Some(refused.reason),
                    _ => None,
                };
                if refused == Some(RefusalReason::Removed) {
                    self.inner.carriage.handler.told_removed(self.spec.node);
                }
                if refused == Some(RefusalReason::NotMember) {
                    self.inner.carriage.handler.told_unknown(self.spec.node);
                }
                if refused == Some(RefusalReason::Direction) {
                    return self.dial_later(channel, ctx);
                }
                // What keeps being wrong is said once.
                if self.slot.note(channel, Some(text.clone())) {
                    if refused == Some(RefusalReason::Busy) {
                        tracing::debug!(peer, channel = channel_name, error = text, "not connected yet");
                    } else {
                        tracing::warn!(
                            peer,
                            channel = channel_name,
                            error = text,
                            "cannot connect; still trying"
                        );
                    }
                }
                self.dial_later(channel, ctx);
            }
        }
    }

    /// A connection stands: it replaces the one there may be.
    fn stands(&mut self, channel: Channel, joined: Joined, ctx: &mut Context<Self>) {
        let Some(me) = self.me.clone() else { return };
        if self.stopping.is_some() {
            return;
        }
        if let Some(waiting) = self.line(channel).waiting.take() {
            ctx.cancel_future(waiting);
        }
        let carriage = self.inner.carriage.clone();
        if let Some((serial, _)) = self.line(channel).up.take() {
            let why = "a newer connection took its place";
            if let Some(before) = self.slot.link(channel).load_full() {
                before.abort(LinkEnd::because(why));
            }
            self.gone(channel, serial, &LinkEnd::because(why));
        }
        let serial = self.inner.next_serial();
        let sender = Sender { node: self.spec.node, name: joined.name.into(), guest: false, channel };
        let takes_parts = joined.features & FEATURE_PARTS != 0;
        let (clock, telemetry) = (carriage.clock.clone(), carriage.telemetry.clone());
        let link = Link::new(sender, serial, takes_parts, &carriage.limits, clock, telemetry);
        self.line(channel).up = Some((serial, carriage.clock.moment()));
        self.slot.note(channel, None);
        self.slot.link(channel).store(Some(link.clone()));
        carriage.telemetry.links_opened.increment();
        tracing::info!(peer = self.spec.name, channel = channel.name(), "connected");
        carriage.handler.connected(self.spec.node, channel);
        let notice = EndNotice { peer: me, channel, serial, told: false };
        let (socket, buffer, place, slot) = (joined.socket, joined.buffer, joined.place, self.slot.clone());
        match channel {
            Channel::Control => {
                actix_rt::spawn(Carrier::new(carriage, link, socket, buffer, Some((slot, notice)), place));
            }
            Channel::Request => {
                let portable = match socket.into_portable() {
                    Ok(portable) => portable,
                    Err(error) => {
                        return notice.tell(LinkEnd::because(format!("it could not be moved: {error}")));
                    }
                };
                // Where there is no such thread the closure is dropped, and with it the notice.
                self.inner.spawner.on_shard(self.shard, move || match portable.adopt() {
                    Ok(socket) => {
                        let peer = Some((slot, notice));
                        actix_rt::spawn(Carrier::new(carriage, link, socket, buffer, peer, place));
                    }
                    Err(error) => notice.tell(LinkEnd::because(format!("it could not be moved: {error}"))),
                });
            }
        }
    }

    /// Takes note that a connection is gone.
    fn gone(&mut self, channel: Channel, serial: u64, end: &LinkEnd) {
        let slot = self.slot.link(channel);
        if let Some(link) = slot.load_full()
            && link.serial == serial
        {
            slot.store(None);
            link.end();
        }
        self.inner.carriage.telemetry.links_lost.increment();
        tracing::info!(peer = self.spec.name, channel = channel.name(), why = end.why, "connection ended");
        self.slot.note(channel, Some(end.why.clone()));
        self.inner.carriage.handler.lost(self.spec.node, channel, &end.why, end.reset);
    }

    fn ended(&mut self, channel: Channel, serial: u64, end: LinkEnd, ctx: &mut Context<Self>) {
        let now = self.inner.carriage.clock.moment();
        let line = self.line(channel);
        match line.up {
            Some((standing, since)) if standing == serial => {
                line.up = None;
                if now.saturating_sub(since) >= GOOD_AFTER {
                    line.failed = 0;
                }
            }
            _ => return,
        }
        self.gone(channel, serial, &end);
        if self.stopping.is_some() {
            self.stop_if_alone(ctx);
        } else {
            self.dial_later(channel, ctx);
        }
    }

    fn stop(&mut self, why: &str, done: oneshot::Sender<()>, ctx: &mut Context<Self>) {
        self.stopping = Some(done);
        for channel in Channel::ALL {
            if let Some(dialling) = self.line(channel).dialling.take() {
                dialling.abort();
            }
            if let Some(link) = self.slot.link(channel).load_full() {
                link.close(why);
            }
        }
        self.stop_if_alone(ctx);
        ctx.run_later(STOP_WITHIN, |peer, ctx| {
            for channel in Channel::ALL {
                if let Some(link) = peer.slot.link(channel).load_full() {
                    link.abort(LinkEnd::because("closed by this node"));
                }
                if let Some((serial, _)) = peer.line(channel).up.take() {
                    peer.gone(channel, serial, &LinkEnd::because("closed by this node"));
                }
            }
            peer.stop_if_alone(ctx);
        });
    }

    fn stop_if_alone(&mut self, ctx: &mut Context<Self>) {
        if self.lines.iter().all(|line| line.up.is_none()) {
            if let Some(done) = self.stopping.take() {
                let _ = done.send(());
            }
            ctx.stop();
        }
    }
}

/// The pause before the attempt that follows `failed` failures in a row: doubling from `least` to `most`, and by
/// chance down to a half of that, so that nodes that lost each other at once do not all come back at once.
fn redial_pause(least: Duration, most: Duration, failed: u32, random: u64) -> Duration {
    let whole = least.saturating_mul(1 << failed.min(16)).min(most);
    let half = whole / 2;
    half + half.mul_f64(random as f64 / u64::MAX as f64)
}

impl Actor for Peer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for channel in Channel::ALL {
            self.dial(channel, ctx);
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        for line in &mut self.lines {
            if let Some(dialling) = line.dialling.take() {
                dialling.abort();
            }
        }
    }
}

impl Handler<Posted<PeerMessage>> for Peer {
    type Result = ();

    fn handle(&mut self, posted: Posted<PeerMessage>, ctx: &mut Self::Context) {
        match posted.message {
            PeerMessage::Dialled(channel, result) => self.dialled(channel, result, ctx),
            PeerMessage::Accepted(channel, joined) => self.stands(channel, joined, ctx),
            PeerMessage::Ended(channel, serial, end) => self.ended(channel, serial, end, ctx),
            PeerMessage::Nudge => {
                for channel in Channel::ALL {
                    self.line(channel).failed = 0;
                    self.dial(channel, ctx);
                }
            }
            PeerMessage::Spec(spec) => {
                let moved = spec.address != self.spec.address;
                self.spec = spec;
                for channel in Channel::ALL {
                    if moved {
                        self.line(channel).failed = 0;
                        self.dial(channel, ctx);
                    }
                }
            }
            PeerMessage::Stop(why, done) => self.stop(why, done, ctx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_their_bound_and_vary_by_half() {
        let (least, most) = (Duration::from_millis(50), Duration::from_secs(2));
        let pause = |failed, random| redial_pause(least, most, failed, random);
        assert_eq!((pause(0, u64::MAX), pause(0, 0)), (least, least / 2));
        assert_eq!(pause(3, u64::MAX), least * 8);
        assert_eq!((pause(u32::MAX, u64::MAX), pause(u32::MAX, 0)), (most, most / 2));
    }
}
