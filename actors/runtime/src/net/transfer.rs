//! A connection on which one transfer runs: messages of one family, in both directions, read and written by whoever
//! owns the transfer. It decides which bytes are refused; what they say, core's transfer messages decide. A message
//! larger than a part travels in parts, one after the other: nothing else waits here. Who reads and who writes is told
//! of each, because the largest take longer than anybody is silent.

use super::error::{CallError, SendError};
use super::greet;
use super::network::{Inner, Network};
use super::socket::{Portable, Socket};
use crate::families;
use crate::post::Permit;
use bytes::{Bytes, BytesMut};
use ringwork_core::ids::NodeId;
use ringwork_core::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, PART_BYTES};
use ringwork_core::transfer::message::VERSION;
use ringwork_core::wire::WireError;
use ringwork_core::wire::frame::{self, FrameDecoder, FrameHeader, FrameKind, HEADER_BYTES, encode_into};
use ringwork_core::wire::handshake::{FEATURE_PARTS, FEATURES, Purpose};
use ringwork_core::wire::parts::{PartedIn, PartedOut};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

/// Bytes that are asked for at a time.
const READ_BYTES: usize = 64 * 1024;
/// A buffer larger than this is given back rather than kept.
const KEPT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// See the module's head. Not yet used, so that it can go to another thread.
pub struct TransferStream {
    peer: NodeId,
    portable: Portable,
    buffer: BytesMut,
    takes_parts: bool,
    shared: Arc<Shared>,
}

/// What both halves hold until they are dropped.
struct Shared {
    inner: Arc<Inner>,
    _place: Option<(Permit, Permit)>,
}

/// What the other node says.
pub struct TransferReader {
    half: ReadHalf<Socket>,
    buffer: BytesMut,
    decoder: FrameDecoder,
    /// None where the other node knows no parts.
    parted: Option<PartedIn>,
    shared: Arc<Shared>,
}

/// What is said to the other node.
pub struct TransferWriter {
    half: WriteHalf<Socket>,
    out: Vec<u8>,
    /// None where the other node knows no parts.
    parted: Option<PartedOut>,
    shared: Arc<Shared>,
}

impl TransferStream {
    pub(super) fn new(
        inner: Arc<Inner>,
        peer: NodeId,
        features: u64,
        socket: Socket,
        buffer: BytesMut,
        place: Option<(Permit, Permit)>,
    ) -> io::Result<Self> {
        let (portable, takes_parts) = (socket.into_portable()?, features & FEATURE_PARTS != 0);
        Ok(Self { peer, portable, buffer, takes_parts, shared: Arc::new(Shared { inner, _place: place }) })
    }

    /// The other node.
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// Both directions, on the calling thread from now on.
    pub fn split(self) -> io::Result<(TransferReader, TransferWriter)> {
        let (read, write) = tokio::io::split(self.portable.adopt()?);
        let reader = TransferReader {
            half: read,
            buffer: self.buffer,
            decoder: FrameDecoder::new(FRAME_BYTES_MAX),
            parted: self.takes_parts.then(PartedIn::default),
            shared: self.shared.clone(),
        };
        let parted = self.takes_parts.then(PartedOut::default);
        Ok((reader, TransferWriter { half: write, out: Vec::new(), parted, shared: self.shared }))
    }
}

fn refused(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn late() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

impl TransferReader {
    /// The next message's bytes; none when the other side has ended. Something has to come `within` each such time;
    /// `moved` is told when a part of a message came, or word that the other side lives. After an error the connection
    /// is worth nothing.
    pub async fn read(&mut self, within: Duration, mut moved: impl FnMut()) -> io::Result<Option<Bytes>> {
        let telemetry = self.shared.inner.carriage.telemetry.clone();
        loop {
            let frame = self.decoder.decode(&mut self.buffer).map_err(|error| {
                telemetry.frames_refused.increment();
                refused(error.to_string())
            })?;
            if let Some(frame) = frame {
                telemetry.frames_received.increment();
                telemetry.transfer_frames_received.increment();
                match self.taken(frame) {
                    Ok(Some(body)) => return Ok(Some(body)),
                    Ok(None) => moved(),
                    Err(error) => {
                        telemetry.frames_refused.increment();
                        return Err(error);
                    }
                }
                continue;
            }
            if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 8 {
                // Room grows as the bytes come, not when they are announced.
                self.buffer.reserve(self.buffer.len().clamp(READ_BYTES, FRAME_BYTES_MAX));
            }
            let read = timeout(within, self.half.read_buf(&mut self.buffer)).await;
            let count = read.map_err(|_| late())??;
            if count == 0 {
                let whole = self.decoder.finish(&self.buffer);
                return whole.map(|()| None).map_err(|cut| refused(cut.to_string()));
            }
            telemetry.link_bytes_received.add(count as u64);
        }
    }

    /// The message that a frame is, or finishes.
    fn taken(&mut self, mut frame: frame::Frame) -> io::Result<Option<Bytes>> {
        if let Some(parted) = &mut self.parted {
            if frame.header.kind == FrameKind::Ping {
                return Ok(None);
            }
            if PartedIn::is_part(frame.header.kind) {
                // No message of a transfer has a deadline, so the time does not matter.
                match parted.take(frame, Duration::ZERO).map_err(|error| refused(error.to_string()))? {
                    Some(whole) => frame = whole,
                    None => return Ok(None),
                }
            }
        }
        let FrameHeader { kind, family, version, .. } = frame.header;
        if kind != FrameKind::OneWay || family != families::TRANSFER || version != VERSION {
            return Err(refused(format!(
                "a {kind:?} frame of family {family}, version {version}, has no place in a transfer"
            )));
        }
        Ok(Some(frame.body))
    }
}

impl TransferWriter {
    /// Writes one message, which `encode` appends. Each part of it has to be taken `within` that time; `moved` is told
    /// when one was, and more are to come. After an error the connection is worth nothing.
    pub async fn write(
        &mut self,
        within: Duration,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
        mut moved: impl FnMut(),
    ) -> io::Result<()> {
        let header = FrameHeader {
            kind: FrameKind::OneWay,
            family: families::TRANSFER,
            version: VERSION,
            request: 0,
            remaining_ms: 0,
        };
        self.out.clear();
        let bytes_max = if self.parted.is_some() { MESSAGE_BYTES_MAX } else { FRAME_BYTES_MAX };
        let body_bytes = frame::begin_into(&mut self.out, &header, bytes_max, encode)
            .map_err(|error| refused(error.to_string()))?;
        let Some(mut parted) = self.parted.take_if(|_| body_bytes > PART_BYTES) else {
            frame::seal(&mut self.out, 0);
            return self.write_out(within, 1).await;
        };
        parted.push(header, Bytes::from(std::mem::take(&mut self.out)).slice(HEADER_BYTES..), None);
        while !parted.is_empty() {
            self.out.clear();
            let frames = parted.fill(&mut self.out, PART_BYTES, Duration::ZERO);
            self.write_out(within, frames).await?;
            if !parted.is_empty() {
                moved();
            }
        }
        self.parted = Some(parted);
        Ok(())
    }

    /// Says that this side lives and has nothing to say, where the other side understands that.
    pub async fn ping(&mut self, within: Duration) -> io::Result<()> {
        if self.parted.is_none() {
            return Ok(());
        }
        self.out.clear();
        let encoded = encode_into(&mut self.out, &FrameHeader::bare(FrameKind::Ping), |_| Ok(()));
        encoded.map_err(|error| refused(error.to_string()))?;
        self.write_out(within, 1).await
    }

    async fn write_out(&mut self, within: Duration, frames: u64) -> io::Result<()> {
        let written = timeout(within, async {
            self.half.write_all(&self.out).await?;
            self.half.flush().await
        });
        written.await.map_err(|_| late())??;
        let telemetry = &self.shared.inner.carriage.telemetry;
        telemetry.frames_sent.add(frames);
        telemetry.link_writes.increment();
        telemetry.link_bytes_sent.add(self.out.len() as u64);
        if self.out.capacity() > KEPT_BYTES_MAX {
            self.out = Vec::new();
        }
        Ok(())
    }

    /// Says that nothing more comes.
    pub async fn close(mut self) -> io::Result<()> {
        self.half.shutdown().await
    }
}

impl Network {
    /// Dials a peer for a transfer. Runs on the calling thread, which must be a tokio one.
    pub async fn dial_transfer(&self, to: NodeId) -> Result<TransferStream, CallError> {
        let inner = self.inner();
        let address = inner.address_of(to).ok_or(CallError::Send(SendError::NotConnected))?;
        let hello = inner.hello(Purpose::Transfer, Some(to));
        let within = inner.carriage.limits.handshake_within;
        let (socket, buffer, welcome) =
            greet::dial(&inner.options.transport, &address, &hello, within).await?;
        let lost = |_| CallError::Link(super::error::LinkError::Lost);
        let features = welcome.features & FEATURES;
        TransferStream::new(inner.clone(), to, features, socket, buffer, None).map_err(lost)
    }
}
