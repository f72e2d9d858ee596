//! One connection, as its users see it: a bounded outbox that frames are encoded into from any thread, and the
//! requests that wait for replies. It decides what is refused (too much waits) and what a sender is told when the
//! connection ends. The bytes are moved by [`super::carrier`].
//!
//! Sending costs a lock, the encoding, and a wake-up only when the carrier sleeps: a thousand frames that are queued
//! while it works leave in one write. A message larger than a part does not stand in their way: it waits apart, and
//! leaves in parts behind whatever small frames there are.

use super::error::{LinkError, SendError};
use super::handler::Sender;
use super::network::NetworkLimits;
use super::pending::{Callback, Pending};
use super::{Channel, Incoming};
use crate::telemetry::Telemetry;
use crate::time::{Clock, Moment};
use bytes::Bytes;
use ringwork_core::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, PART_BYTES, REASON_BYTES_MAX};
use ringwork_core::wire::WireError;
use ringwork_core::wire::frame::{self, FrameHeader, FrameKind, HEADER_BYTES, encode_into};
use ringwork_core::wire::parts::PartedOut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

/// Bytes past the outbox's bound for the connection's own small frames: pings, goodbyes, word of dropped requests.
const OWN_FRAMES_BYTES_MAX: usize = 64 * 1024;
/// Bytes of parts that leave at a time, behind the small frames that wait: one part.
const PARTS_BYTES_AT_A_TIME: usize = PART_BYTES;

/// Why a connection ended.
#[derive(Clone, Debug)]
pub(super) struct LinkEnd {
    /// In words.
    pub(super) why: String,
    /// The other side went without a goodbye.
    pub(super) reset: bool,
}

impl LinkEnd {
    /// An end that says nothing about the other process.
    pub(super) fn because(why: impl Into<String>) -> Self {
        Self { why: why.into(), reset: false }
    }

    /// The other side went without a goodbye.
    pub(super) fn reset(why: impl Into<String>) -> Self {
        Self { why: why.into(), reset: true }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    /// The goodbye is queued; nothing is queued after it.
    Closing,
    Ended,
}

pub(super) struct State {
    /// Frames that the carrier has not taken yet.
    queue: Vec<u8>,
    queued_frames: u64,
    /// Bytes of such frames that it has taken and not yet written.
    carried_bytes: usize,
    /// Bytes of parts behind them that it has taken.
    carried_part_bytes: usize,
    /// Messages that leave in parts.
    parted: PartedOut,
    /// Why the connection is closed, to be said when the last part has left.
    goodbye: Option<Vec<u8>>,
    phase: Phase,
    wanted_end: Option<LinkEnd>,
    /// There while the carrier sleeps.
    sleeper: Option<Waker>,
    pending: Pending,
}

/// What the carrier finds when it looks for work.
pub(super) enum Work {
    /// Frames, now in the carrier's buffer; how many.
    Frames(u64),
    /// None.
    Nothing,
    /// None, and none will follow: the goodbye is written.
    Finished,
    /// The connection is to end at once.
    End(LinkEnd),
}

/// See the module's head.
pub(super) struct Link {
    pub(super) from: Sender,
    pub(super) serial: u64,
    state: Mutex<State>,
    outbox_bytes_max: usize,
    /// Of messages that leave in parts.
    parted_bytes_max: usize,
    /// Whether the other side takes messages in parts, and this one from it.
    pub(super) takes_parts: bool,
    clock: Clock,
    telemetry: Arc<Telemetry>,
}

impl Link {
    /// `takes_parts` is what the greeting said of the other side.
    pub(super) fn new(
        from: Sender,
        serial: u64,
        takes_parts: bool,
        limits: &NetworkLimits,
        clock: Clock,
        telemetry: Arc<Telemetry>,
    ) -> Arc<Self> {
        let (outbox_bytes_max, parted_bytes_max) = match from.channel {
            Channel::Control => (limits.control_outbox_bytes_max, limits.control_parted_bytes_max),
            Channel::Request => (limits.request_outbox_bytes_max, limits.request_parted_bytes_max),
        };
        let state = State {
            queue: Vec::new(),
            queued_frames: 0,
            carried_bytes: 0,
            carried_part_bytes: 0,
            parted: PartedOut::default(),
            goodbye: None,
            phase: Phase::Open,
            wanted_end: None,
            sleeper: None,
            pending: Pending::new(limits.pending_max),
        };
        let state = Mutex::new(state);
        Arc::new(Self {
            from,
            serial,
            state,
            outbox_bytes_max,
            parted_bytes_max,
            takes_parts,
            clock,
            telemetry,
        })
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // A panic of an encoder leaves the state whole: the frame is taken back while it unwinds.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether frames are taken.
    pub(super) fn is_open(&self) -> bool {
        self.locked().phase == Phase::Open
    }

    /// Queues a message. With a deadline it stops being sent once that has passed, if it leaves in parts. On an error
    /// nothing is queued.
    pub(super) fn send(
        &self,
        header: &FrameHeader,
        deadline: Option<Moment>,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<(), SendError> {
        let mut state = self.locked();
        self.queue(&mut state, header, deadline, encode)?;
        wake(state);
        Ok(())
    }

    /// Queues a request and remembers who is told. On an error nothing is queued and nobody is told.
    pub(super) fn request(
        &self,
        family: u16,
        version: u16,
        remaining: Duration,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
        callback: Callback,
    ) -> Result<(), SendError> {
        let deadline = self.clock.moment().saturating_add(remaining);
        let remaining_ms = u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX).max(1);
        let mut state = self.locked();
        let Some(request) = state.pending.next_id() else {
            self.telemetry.sends_refused.increment();
            return Err(SendError::Full);
        };
        let header = FrameHeader { kind: FrameKind::Request, family, version, request, remaining_ms };
        self.queue(&mut state, &header, Some(deadline), encode)?;
        state.pending.insert(request, deadline, callback);
        wake(state);
        Ok(())
    }

    fn queue(
        &self,
        state: &mut State,
        header: &FrameHeader,
        deadline: Option<Moment>,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<(), SendError> {
        if state.phase != Phase::Open {
            return Err(SendError::NotConnected);
        }
        let before = state.queue.len();
        let waiting = before + state.carried_bytes;
        if waiting >= self.outbox_bytes_max {
            return Err(self.full());
        }
        let body_bytes = frame::begin_into(&mut state.queue, header, MESSAGE_BYTES_MAX, encode)?;
        if self.takes_parts && body_bytes > PART_BYTES {
            return self.queue_parted(state, before, header, deadline);
        }
        // One message alone may be larger than the bound; otherwise nothing larger could ever be sent.
        let full = waiting > 0 && state.queue.len() + state.carried_bytes > self.outbox_bytes_max;
        if full || body_bytes > FRAME_BYTES_MAX {
            state.queue.truncate(before);
            return Err(if body_bytes > FRAME_BYTES_MAX {
                self.telemetry.sends_refused.increment();
                SendError::OlderRelease { bytes: body_bytes, max: FRAME_BYTES_MAX }
            } else {
                self.full()
            });
        }
        frame::seal(&mut state.queue, before);
        state.queued_frames += 1;
        Ok(())
    }

    fn full(&self) -> SendError {
        self.telemetry.sends_refused.increment();
        SendError::Full
    }

    /// Takes the message that was encoded behind `before` out of the queue of frames: it leaves in parts.
    fn queue_parted(
        &self,
        state: &mut State,
        before: usize,
        header: &FrameHeader,
        deadline: Option<Moment>,
    ) -> Result<(), SendError> {
        let (waiting, bytes) = (state.parted.bytes(), state.queue.len() - before);
        if waiting > 0 && waiting + bytes > self.parted_bytes_max {
            state.queue.truncate(before);
            return Err(self.full());
        }
        // Alone in the queue it is not even copied.
        let message =
            if before == 0 { std::mem::take(&mut state.queue) } else { state.queue.split_off(before) };
        let body = Bytes::from(message).slice(HEADER_BYTES..);
        state.parted.push(*header, body, deadline);
        Ok(())
    }

    /// Queues a frame of the connection's own. It may pass the bound a little; beyond that it is left out.
    pub(super) fn send_own(&self, header: &FrameHeader, body: &[u8]) {
        let mut state = self.locked();
        if state.phase == Phase::Open {
            self.queue_own(&mut state, header, body);
            wake(state);
        }
    }

    fn queue_own(&self, state: &mut State, header: &FrameHeader, body: &[u8]) {
        let waiting = state.queue.len() + state.carried_bytes;
        if waiting > self.outbox_bytes_max.saturating_add(OWN_FRAMES_BYTES_MAX) {
            return;
        }
        let written = encode_into(&mut state.queue, header, |out| {
            out.extend_from_slice(body);
            Ok(())
        });
        if written.is_ok() {
            state.queued_frames += 1;
        }
    }

    /// Says goodbye: what is queued is written, nothing more is taken.
    pub(super) fn close(&self, why: &str) {
        let mut state = self.locked();
        if state.phase == Phase::Open {
            let why = why.as_bytes();
            let why = why.get(..REASON_BYTES_MAX).unwrap_or(why);
            state.goodbye = Some(why.to_vec());
            state.phase = Phase::Closing;
            wake(state);
        }
    }

    /// Ends the connection without waiting for anything.
    pub(super) fn abort(&self, end: LinkEnd) {
        let mut state = self.locked();
        if state.phase != Phase::Ended {
            state.phase = Phase::Closing;
            state.wanted_end.get_or_insert(end);
            wake(state);
        }
    }

    /// Takes no more frames, drops those that wait, and tells all who wait for a reply. Does nothing the second time.
    pub(super) fn end(&self) {
        let mut state = self.locked();
        state.phase = Phase::Ended;
        state.queue = Vec::new();
        state.parted = PartedOut::default();
        state.goodbye = None;
        state.sleeper = None;
        let callbacks = state.pending.drain();
        drop(state);
        for callback in callbacks {
            tell(callback, Err(LinkError::Lost));
        }
    }

    /// For the carrier: swaps what is queued with `empty`, its written and cleared buffer, and adds some parts.
    pub(super) fn take_work(&self, empty: &mut Vec<u8>) -> Work {
        let mut state = self.locked();
        state.sleeper = None;
        state.carried_bytes = 0;
        state.carried_part_bytes = 0;
        if let Some(end) = state.wanted_end.take() {
            return Work::End(end);
        }
        if state.parted.is_empty()
            && let Some(why) = state.goodbye.take()
        {
            self.queue_own(&mut state, &FrameHeader::bare(FrameKind::Goodbye), &why);
        }
        if state.queue.is_empty() && state.parted.is_empty() {
            return if state.phase == Phase::Open { Work::Nothing } else { Work::Finished };
        }
        std::mem::swap(&mut state.queue, empty);
        let mut frames = std::mem::take(&mut state.queued_frames);
        state.carried_bytes = empty.len();
        if !state.parted.is_empty() {
            frames += state.parted.fill(empty, PARTS_BYTES_AT_A_TIME, self.clock.moment());
            state.carried_part_bytes = empty.len() - state.carried_bytes;
        }
        Work::Frames(frames)
    }

    /// Has the carrier look at the time, if it sleeps.
    pub(super) fn rouse(&self) {
        wake(self.locked());
    }

    /// For the carrier, which cannot write: whether the connection is to end all the same.
    pub(super) fn take_wanted_end(&self) -> Option<LinkEnd> {
        self.locked().wanted_end.take()
    }

    /// For the carrier: so many bytes of what it took are not written yet.
    pub(super) fn still_carried(&self, bytes: usize) {
        let mut state = self.locked();
        state.carried_bytes = bytes.saturating_sub(state.carried_part_bytes);
    }

    /// For the carrier: sleeps until woken, unless there is something to do. `blocked` says that it could not write
    /// more frames anyway.
    pub(super) fn sleep(&self, waker: &Waker, blocked: bool) -> bool {
        let mut state = self.locked();
        let work = !state.queue.is_empty() || !state.parted.is_empty() || state.goodbye.is_some();
        if state.wanted_end.is_some() || (!blocked && work) {
            return false;
        }
        state.sleeper = Some(waker.clone());
        true
    }

    /// For the carrier: who waits for the reply to a request.
    pub(super) fn take_pending(&self, request: u64) -> Option<Callback> {
        self.locked().pending.take(request)
    }

    /// For the carrier: tells those whose time has run out; says whether others wait.
    pub(super) fn sweep(&self, now: Moment) -> bool {
        let mut state = self.locked();
        let expired = state.pending.expired(now);
        let others = state.pending.len() > 0;
        drop(state);
        if !expired.is_empty() {
            self.telemetry.replies_missed.add(expired.len() as u64);
        }
        for callback in expired {
            tell(callback, Err(LinkError::Deadline));
        }
        others
    }

    /// Whether anyone waits for a reply.
    pub(super) fn has_pending(&self) -> bool {
        self.locked().pending.len() > 0
    }
}

/// Wakes the carrier if it sleeps, after the lock is free again.
fn wake(mut state: MutexGuard<'_, State>) {
    let sleeper = state.sleeper.take();
    drop(state);
    if let Some(waker) = sleeper {
        waker.wake();
    }
}

/// Tells one who waits. A panic of theirs is theirs.
pub(super) fn tell(callback: Callback, what: Result<Incoming, LinkError>) {
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| callback(what)));
    if told.is_err() {
        tracing::error!("a callback of a request to another node panicked");
    }
}

/// Answers one request, once, from any thread. Dropped unanswered, it tells the asker that no answer will come.
pub struct Responder {
    link: Option<Arc<Link>>,
    request: u64,
    family: u16,
    /// When the asker has given up.
    deadline: Option<Moment>,
}

impl Responder {
    pub(super) fn new(link: Arc<Link>, request: u64, family: u16, deadline: Option<Moment>) -> Self {
        Self { link: Some(link), request, family, deadline }
    }

    /// Queues the reply. On an error nothing is queued, and the asker is told that no answer will come if the
    /// connection still stands. `encode` appends the body and must not use the network.
    pub fn reply(
        mut self,
        version: u16,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<(), SendError> {
        let Some(link) = &self.link else { return Err(SendError::NotConnected) };
        let header = FrameHeader {
            kind: FrameKind::Reply,
            family: self.family,
            version,
            request: self.request,
            remaining_ms: 0,
        };
        link.send(&header, self.deadline, encode)?;
        self.link = None;
        Ok(())
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            let header = FrameHeader { request: self.request, ..FrameHeader::bare(FrameKind::Dropped) };
            link.send_own(&header, &[]);
        }
    }
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Responder({:x})", self.request)
    }
}
