//! Moves the bytes of one connection, on one thread: writes what is queued, reads, cuts into frames, serves them, and
//! keeps time. It decides when a connection is dead (nothing heard for too long) and when it has to say that it
//! lives. What frames mean to the node is the handler's matter.
//!
//! One task reads and writes, so that the answers to everything that one read brought leave in one write, without a
//! change of task in between.

use super::error::LinkError;
use super::handler::{Incoming, NetworkHandler};
use super::link::{Link, LinkEnd, Responder, Work, tell};
use super::network::NetworkLimits;
use super::peer::{EndNotice, PeerSlot};
use super::socket::Socket;
use crate::post::Permit;
use crate::telemetry::Telemetry;
use crate::time::{Clock, Moment};
use bytes::BytesMut;
use ringwork_core::limits::FRAME_BYTES_MAX;
use ringwork_core::wire::frame::{Frame, FrameDecoder, FrameHeader, FrameKind};
use ringwork_core::wire::handshake::shown;
use ringwork_core::wire::parts::PartedIn;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::Sleep;

/// Bytes of one write at most: what a socket takes at once, more or less.
const WRITE_BYTES_MAX: usize = 256 * 1024;
/// Bytes that are asked for at a time.
const READ_BYTES: usize = 64 * 1024;
/// Fewer free bytes than this at the end of the read buffer are not worth a read.
const READ_BYTES_MIN: usize = 8 * 1024;
/// A written buffer larger than this is given back rather than kept.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// How often replies that are overdue are looked for.
const SWEEP_EVERY: Duration = Duration::from_millis(100);
/// How long the other side may take to hang up after our goodbye.
const GOODBYE_WITHIN: Duration = Duration::from_millis(500);
/// How much longer silence is listened to once it was noticed. A process that was stopped, or a thread that was kept
/// busy, finds its alarms overdue before it has looked at what arrived meanwhile.
const SILENCE_GRACE: Duration = Duration::from_millis(100);
/// How much longer than the other connection to the same node this one may be silent once that is heard again. After a
/// cut TCP tries again at moments of its own, for each connection, and up to as long after the cut as the cut took.
const REVIVAL_GRACE: Duration = Duration::from_millis(250);
/// Bytes that are written before what has come is read.
const WRITTEN_PER_ROUND_MAX: usize = 1024 * 1024;
/// Reads and writes before the other tasks of the thread have their turn.
const ROUNDS_PER_TURN: usize = 4;

/// What the carriers of one node share.
pub(super) struct Carriage {
    pub(super) handler: Arc<dyn NetworkHandler>,
    pub(super) clock: Clock,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) limits: NetworkLimits,
}

/// See the module's head. A future that lives as long as the connection.
pub(super) struct Carrier {
    carriage: Arc<Carriage>,
    link: Arc<Link>,
    socket: Socket,
    decoder: FrameDecoder,
    parted: PartedIn,
    read: BytesMut,
    writing: Vec<u8>,
    written: usize,
    /// Since the clock was last read.
    heard: bool,
    wrote: bool,
    last_heard: Moment,
    last_wrote: Moment,
    /// Until when a silence that was noticed may still be broken.
    doubted: Option<Moment>,
    next_sweep: Moment,
    /// The time for which `alarm` is set.
    armed: Moment,
    alarm: Pin<Box<Sleep>>,
    /// Since when everything is written and only the other side's end is waited for.
    finished: Option<Moment>,
    ended: bool,
    notice: Option<EndNotice>,
    /// Both connections to the node; none for a guest, which has one.
    peer: Option<Arc<PeerSlot>>,
    _place: Option<Permit>,
}

/// How far writing got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrote {
    /// To the end of what is queued.
    All,
    /// As far as it may at a time.
    Some,
    /// As far as the socket takes it.
    Blocked,
}

enum Round {
    /// There may be more to do.
    Again,
    /// Nothing to do until woken.
    Rest,
}

impl Carrier {
    /// A carrier of `link` over `socket`, from which `read` has already come. `peer` has both connections to the node,
    /// and is told the end; `place` is given back then.
    pub(super) fn new(
        carriage: Arc<Carriage>,
        link: Arc<Link>,
        socket: Socket,
        read: BytesMut,
        peer: Option<(Arc<PeerSlot>, EndNotice)>,
        place: Option<Permit>,
    ) -> Self {
        let now = carriage.clock.moment();
        let (peer, notice) = peer.unzip();
        Self {
            carriage,
            link,
            socket,
            decoder: FrameDecoder::new(FRAME_BYTES_MAX),
            parted: PartedIn::default(),
            read,
            writing: Vec::new(),
            written: 0,
            heard: true,
            wrote: true,
            last_heard: now,
            last_wrote: now,
            doubted: None,
            next_sweep: now,
            armed: Moment::MAX,
            alarm: Box::pin(tokio::time::sleep(Duration::ZERO)),
            finished: None,
            ended: false,
            notice,
            peer,
            _place: place,
        }
    }

    fn round(&mut self, cx: &mut Context<'_>) -> Result<Round, LinkEnd> {
        let wrote = self.write(cx)?;
        let blocked = wrote == Wrote::Blocked;
        // A socket that takes nothing more must not keep a connection that is to end.
        if blocked && let Some(end) = self.link.take_wanted_end() {
            return Err(end);
        }
        if self.fill(cx)? {
            self.serve_all()?;
            return Ok(Round::Again);
        }
        if wrote == Wrote::Some {
            return Ok(Round::Again);
        }
        if self.keep_time(blocked, cx)? || !self.link.sleep(cx.waker(), blocked) {
            return Ok(Round::Again);
        }
        Ok(Round::Rest)
    }

    /// Writes what is queued, or a good deal of it.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<Wrote, LinkEnd> {
        let mut bytes = 0;
        loop {
            if bytes >= WRITTEN_PER_ROUND_MAX {
                return Ok(Wrote::Some);
            }
            if self.written == self.writing.len() {
                self.written = 0;
                self.writing.clear();
                if self.writing.capacity() > KEPT_BYTES_MAX {
                    self.writing = Vec::new();
                }
                match self.link.take_work(&mut self.writing) {
                    Work::Frames(frames) => self.carriage.telemetry.frames_sent.add(frames),
                    Work::Nothing => return Ok(Wrote::All),
                    Work::Finished => {
                        self.shut(cx);
                        return Ok(Wrote::All);
                    }
                    Work::End(end) => return Err(end),
                }
                if self.writing.is_empty() {
                    continue; // all of it was given up before it left
                }
            }
            let end = self.writing.len().min(self.written + WRITE_BYTES_MAX);
            let part = &self.writing[self.written..end];
            match Pin::new(&mut self.socket).poll_write(cx, part) {
                Poll::Ready(Ok(0)) => return Err(LinkEnd::reset("it takes no more bytes")),
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    bytes += count;
                    self.wrote = true;
                    self.carriage.telemetry.link_writes.increment();
                    self.carriage.telemetry.link_bytes_sent.add(count as u64);
                }
                Poll::Ready(Err(error)) => return Err(LinkEnd::reset(format!("writing failed: {error}"))),
                Poll::Pending => {
                    self.link.still_carried(self.writing.len() - self.written);
                    return Ok(Wrote::Blocked);
                }
            }
        }
    }

    /// Everything is written: says so to the socket, and waits for the other side to hang up. Hanging up at once
    /// would let the system throw away a goodbye that the other side has not read.
    fn shut(&mut self, cx: &mut Context<'_>) {
        if self.finished.is_none()
            && let Poll::Ready(_) = Pin::new(&mut self.socket).poll_shutdown(cx)
        {
            self.finished = Some(self.carriage.clock.moment());
        }
    }

    /// Reads once; false when nothing is there.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkEnd> {
        if self.read.capacity() - self.read.len() < READ_BYTES_MIN {
            // A large frame gets room as its bytes come, not when it is announced.
            let room = self.read.len().clamp(READ_BYTES, FRAME_BYTES_MAX);
            self.read.reserve(room);
        }
        let read = pin!(self.socket.read_buf(&mut self.read)).poll(cx);
        match read {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) if self.finished.is_some() => Err(LinkEnd::because("closed by this node")),
            Poll::Ready(Ok(0)) => {
                self.decoder.finish(&self.read).map_err(|cut| LinkEnd::reset(cut.to_string()))?;
                Err(LinkEnd::reset("it hung up without a goodbye"))
            }
            Poll::Ready(Ok(count)) => {
                self.heard = true;
                self.carriage.telemetry.link_bytes_received.add(count as u64);
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(LinkEnd::reset(format!("reading failed: {error}"))),
        }
    }

    /// Serves every complete frame that was read.
    fn serve_all(&mut self) -> Result<(), LinkEnd> {
        let (mut frames, mut large, mut now) = (0, false, None);
        let result = loop {
            match self.decoder.decode(&mut self.read) {
                Ok(Some(frame)) => {
                    frames += 1;
                    large |= frame.body.len() > KEPT_BYTES_MAX;
                    let now = *now.get_or_insert_with(|| self.carriage.clock.moment());
                    if let Err(end) = self.serve(frame, now) {
                        break Err(end);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => {
                    self.carriage.telemetry.frames_refused.increment();
                    break Err(LinkEnd::because(format!("its bytes are not to be trusted: {error}")));
                }
            }
        };
        if large {
            // Otherwise the buffer would be as large as that frame for as long as the connection lives.
            self.read = BytesMut::from(&self.read[..]);
        }
        self.carriage.telemetry.frames_received.add(frames);
        result
    }

    /// The message that a frame is, or finishes; none while parts of it are missing.
    fn message(&mut self, frame: Frame, now: Moment) -> Result<Option<Frame>, LinkEnd> {
        if !PartedIn::is_part(frame.header.kind) || !self.link.takes_parts {
            return Ok(Some(frame));
        }
        self.parted.take(frame, now).map_err(|error| {
            self.carriage.telemetry.frames_refused.increment();
            LinkEnd::because(format!("its parts of large messages do not fit together: {error}"))
        })
    }

    fn serve(&mut self, frame: Frame, now: Moment) -> Result<(), LinkEnd> {
        let Some(Frame { header, body }) = self.message(frame, now)? else { return Ok(()) };
        let remaining = match header.remaining_ms {
            0 => None,
            ms => Some(Duration::from_millis(u64::from(ms))),
        };
        let incoming = Incoming { family: header.family, version: header.version, body, remaining };
        match header.kind {
            FrameKind::Request => {
                let deadline = remaining.map(|remaining| now.saturating_add(remaining));
                let responder = Responder::new(self.link.clone(), header.request, header.family, deadline);
                self.hand_over(incoming, Some(responder));
            }
            FrameKind::OneWay if !self.link.from.guest => self.hand_over(incoming, None),
            FrameKind::Reply => {
                if let Some(callback) = self.link.take_pending(header.request) {
                    tell(callback, Ok(incoming));
                }
            }
            FrameKind::Dropped => {
                if let Some(callback) = self.link.take_pending(header.request) {
                    tell(callback, Err(LinkError::Dropped));
                }
            }
            FrameKind::Ping => {}
            FrameKind::Goodbye => {
                return Err(LinkEnd::because(format!("it said goodbye: {}", shown(&incoming.body))));
            }
            kind @ (FrameKind::OneWay
            | FrameKind::Hello
            | FrameKind::Welcome
            | FrameKind::Refused
            | FrameKind::Large
            | FrameKind::Part
            | FrameKind::Abandoned) => {
                self.carriage.telemetry.frames_refused.increment();
                return Err(LinkEnd::because(format!("it sent a {kind:?} frame, which has no place here")));
            }
        }
        Ok(())
    }

    fn hand_over(&self, incoming: Incoming, respond: Option<Responder>) {
        if self.finished.is_some() {
            return; // our goodbye is out: the responder's drop could not be heard either
        }
        let family = incoming.family;
        let serve = || self.carriage.handler.serve(&self.link.from, incoming, respond);
        if catch_unwind(AssertUnwindSafe(serve)).is_err() {
            tracing::error!(from = %self.link.from.name, family, "serving a message of another node panicked");
        }
    }

    /// Pings, looks for silence and for overdue replies, and sets the alarm. True when that made work.
    fn keep_time(&mut self, blocked: bool, cx: &mut Context<'_>) -> Result<bool, LinkEnd> {
        let limits = self.carriage.limits;
        let now = self.carriage.clock.moment();
        let silence_noticed = limits.silence_noticed();
        if std::mem::take(&mut self.heard) {
            if now.saturating_sub(self.last_heard) >= silence_noticed
                && let Some(peer) = &self.peer
            {
                peer.heard_again(self.link.from.channel, now);
            }
            self.last_heard = now;
            self.doubted = None;
        }
        if std::mem::take(&mut self.wrote) {
            self.last_wrote = now;
        }
        if let Some(finished) = self.finished
            && now >= finished + GOODBYE_WITHIN
        {
            return Err(LinkEnd::because("closed by this node"));
        }
        let silent_until = self.last_heard + limits.silence_max;
        // Both were silent and the other is heard again: that this one is not is no longer the node's silence.
        let elsewhere = self.peer.as_ref().and_then(|peer| peer.other_heard_again(self.link.from.channel));
        let revived = elsewhere.filter(|again| *again >= self.last_heard + silence_noticed);
        let mut wake_at = revived.map_or(silent_until, |again| silent_until.min(again + REVIVAL_GRACE));
        if now >= wake_at {
            wake_at = *self.doubted.get_or_insert(now + SILENCE_GRACE);
            if now >= wake_at {
                return Err(LinkEnd::because(if now >= silent_until {
                    format!("nothing was heard from it for {} ms", limits.silence_max.as_millis())
                } else {
                    "the node is heard again over its other connection, and over this one is not".to_owned()
                }));
            }
        }
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_EVERY;
            self.link.sweep(now);
        }
        if !blocked && self.finished.is_none() {
            if now >= self.last_wrote + limits.ping_after {
                self.link.send_own(&FrameHeader::bare(FrameKind::Ping), &[]);
                return Ok(true);
            }
            wake_at = wake_at.min(self.last_wrote + limits.ping_after);
        }
        if self.link.has_pending() {
            wake_at = wake_at.min(self.next_sweep);
        }
        if let Some(finished) = self.finished {
            wake_at = wake_at.min(finished + GOODBYE_WITHIN);
        }
        // An alarm that is early only wakes us to set it anew.
        if wake_at < self.armed || self.armed <= now {
            self.armed = wake_at;
            self.alarm.as_mut().set(tokio::time::sleep(wake_at.saturating_sub(now)));
        }
        match self.alarm.as_mut().poll(cx) {
            Poll::Ready(()) => {
                self.armed = Moment::MAX;
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }

    fn finish(&mut self, end: LinkEnd) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.link.end();
        if let Some(notice) = self.notice.take() {
            notice.tell(end);
        }
    }
}

impl Future for Carrier {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if !this.read.is_empty()
            && let Err(end) = this.serve_all()
        {
            this.finish(end);
            return Poll::Ready(());
        }
        for _ in 0..ROUNDS_PER_TURN {
            match this.round(cx) {
                Ok(Round::Again) => {}
                Ok(Round::Rest) => return Poll::Pending,
                Err(end) => {
                    this.finish(end);
                    return Poll::Ready(());
                }
            }
        }
        // Others have their turn; time is kept here too, or a busy connection would never look at it.
        if let Err(end) = this.keep_time(true, cx) {
            this.finish(end);
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.finish(LinkEnd::because("the thread that carried it has ended"));
    }
}
