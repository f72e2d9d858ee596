//! A connection on which one transfer runs: frames of one family, in both directions, read and written by whoever
//! owns the transfer. It decides which bytes are refused; what they say, core's transfer messages decide.

use super::error::{CallError, SendError};
use super::greet;
use super::network::{Inner, Network};
use super::socket::{Portable, Socket};
use crate::families;
use crate::post::Permit;
use bytes::{Bytes, BytesMut};
use ringwork_core::ids::NodeId;
use ringwork_core::limits::MESSAGE_BYTES_MAX;
use ringwork_core::transfer::message::VERSION;
use ringwork_core::wire::WireError;
use ringwork_core::wire::frame::{FrameDecoder, FrameHeader, FrameKind, encode_into};
use ringwork_core::wire::handshake::Purpose;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

/// Bytes that are asked for at a time.
const READ_BYTES: usize = 64 * 1024;
/// A buffer larger than this is given back rather than kept.
const KEPT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// See the module's head. Not yet used, so that it can go to another thread.
pub struct TransferStream {
    peer: NodeId,
    portable: Portable,
    buffer: BytesMut,
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
    shared: Arc<Shared>,
}

/// What is said to the other node.
pub struct TransferWriter {
    half: WriteHalf<Socket>,
    out: Vec<u8>,
    shared: Arc<Shared>,
}

impl TransferStream {
    pub(super) fn new(
        inner: Arc<Inner>,
        peer: NodeId,
        socket: Socket,
        buffer: BytesMut,
        place: Option<(Permit, Permit)>,
    ) -> io::Result<Self> {
        let portable = socket.into_portable()?;
        Ok(Self { peer, portable, buffer, shared: Arc::new(Shared { inner, _place: place }) })
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
            decoder: FrameDecoder::new(MESSAGE_BYTES_MAX),
            shared: self.shared.clone(),
        };
        Ok((reader, TransferWriter { half: write, out: Vec::new(), shared: self.shared }))
    }
}

fn refused(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl TransferReader {
    /// The next message's bytes; none when the other side has ended. After an error the connection is worth nothing.
    pub async fn read(&mut self) -> io::Result<Option<Bytes>> {
        let telemetry = self.shared.inner.carriage.telemetry.clone();
        loop {
            match self.decoder.decode(&mut self.buffer) {
                Ok(Some(frame)) => {
                    let header = frame.header;
                    let known = header.kind == FrameKind::OneWay
                        && header.family == families::TRANSFER
                        && header.version == VERSION;
                    if !known {
                        telemetry.frames_refused.increment();
                        let (kind, family, version) = (header.kind, header.family, header.version);
                        return Err(refused(format!(
                            "a {kind:?} frame of family {family}, version {version}, has no place in a transfer"
                        )));
                    }
                    telemetry.frames_received.increment();
                    telemetry.transfer_frames_received.increment();
                    return Ok(Some(frame.body));
                }
                Ok(None) => {}
                Err(error) => {
                    telemetry.frames_refused.increment();
                    return Err(refused(error.to_string()));
                }
            }
            if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 8 {
                // Room grows as the bytes come, not when they are announced.
                self.buffer.reserve(self.buffer.len().clamp(READ_BYTES, MESSAGE_BYTES_MAX));
            }
            let count = self.half.read_buf(&mut self.buffer).await?;
            if count == 0 {
                let whole = self.decoder.finish(&self.buffer);
                return whole.map(|()| None).map_err(|cut| refused(cut.to_string()));
            }
            telemetry.link_bytes_received.add(count as u64);
        }
    }
}

impl TransferWriter {
    /// Writes one message, which `encode` appends. After an error the connection is worth nothing.
    pub async fn write(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
    ) -> io::Result<()> {
        let header = FrameHeader {
            kind: FrameKind::OneWay,
            family: families::TRANSFER,
            version: VERSION,
            request: 0,
            remaining_ms: 0,
        };
        self.out.clear();
        encode_into(&mut self.out, &header, encode).map_err(|error| refused(error.to_string()))?;
        self.half.write_all(&self.out).await?;
        self.half.flush().await?;
        let telemetry = &self.shared.inner.carriage.telemetry;
        telemetry.frames_sent.increment();
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
        let (socket, buffer, _) = greet::dial(&inner.options.transport, &address, &hello, within).await?;
        let lost = |_| CallError::Link(super::error::LinkError::Lost);
        TransferStream::new(inner.clone(), to, socket, buffer, None).map_err(lost)
    }
}
