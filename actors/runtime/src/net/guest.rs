//! One question as a guest: sent over a fresh connection, answered once. It decides nothing but what counts as the
//! answer.

use super::error::{CallError, LinkError};
use super::greet::read_frame;
use super::handler::Incoming;
use super::socket::Socket;
use bytes::BytesMut;
use ringwork_core::limits::FRAME_BYTES_MAX;
use ringwork_core::wire::frame::{Frame, FrameDecoder, FrameHeader, FrameKind, encode_into};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// The only request of such a connection.
const REQUEST: u64 = 1;

/// Asks and waits for the answer. The caller limits the time.
pub(super) async fn ask(
    mut socket: Socket,
    mut buffer: BytesMut,
    family: u16,
    version: u16,
    remaining: Duration,
    body: &[u8],
) -> Result<Incoming, CallError> {
    let remaining_ms = u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX).max(1);
    let header = FrameHeader { kind: FrameKind::Request, family, version, request: REQUEST, remaining_ms };
    let mut out = Vec::new();
    let encoded = encode_into(&mut out, &header, |out| {
        out.extend_from_slice(body);
        Ok(())
    });
    encoded.map_err(super::error::SendError::from)?;
    socket.write_all(&out).await.map_err(|_| LinkError::Lost)?;
    let decoder = FrameDecoder::new(FRAME_BYTES_MAX);
    loop {
        let Frame { header, body } =
            read_frame(&mut socket, &mut buffer, decoder).await.map_err(|_| LinkError::Lost)?;
        match header.kind {
            FrameKind::Reply if header.request == REQUEST => {
                out.clear();
                let bare = FrameHeader::bare(FrameKind::Goodbye);
                if encode_into(&mut out, &bare, |_| Ok(())).is_ok() {
                    let _ = socket.write_all(&out).await; // a courtesy
                }
                let (family, version) = (header.family, header.version);
                return Ok(Incoming { family, version, body, remaining: None });
            }
            FrameKind::Dropped if header.request == REQUEST => return Err(LinkError::Dropped.into()),
            FrameKind::Goodbye => return Err(LinkError::Lost.into()),
            _ => {}
        }
    }
}
