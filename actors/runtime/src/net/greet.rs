//! The handshake over a socket, both sides of it. It decides how long a stranger may take and what one who is no
//! node is told; whom to let in is core's and the handler's decision.

use super::error::DialError;
use super::socket::{self, Socket, Transport};
use bytes::BytesMut;
use ringwork_core::limits::HANDSHAKE_BYTES_MAX;
use ringwork_core::wire::WireError;
use ringwork_core::wire::frame::{Frame, FrameDecoder, FrameKind};
use ringwork_core::wire::handshake::{Greeting, HandshakeRefusal, Hello, MAGIC, Refused, Welcome, greeting};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Bytes of what a stranger still sends that are read before hanging up, so that it can read our answer.
const DRAINED_BYTES_MAX: usize = 64 * 1024;
/// How long that may take.
const DRAIN_WITHIN: Duration = Duration::from_millis(500);

const HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 88\r\n\r\n\
    this port is for other ringwork nodes; HTTP is served at the node's HTTP address (8098)\n";

/// Reads until a whole frame is there.
pub(super) async fn read_frame(
    socket: &mut Socket,
    buffer: &mut BytesMut,
    decoder: FrameDecoder,
) -> io::Result<Frame> {
    loop {
        match decoder.decode(buffer) {
            Ok(Some(frame)) => return Ok(frame),
            Ok(None) => {}
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
        }
        if socket.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Dials, and says hello. `whom` is the node that is meant, if one is. With the socket come the bytes that followed
/// the welcome.
pub(super) async fn dial(
    transport: &Transport,
    address: &str,
    hello: &Hello,
    within: Duration,
) -> Result<(Socket, BytesMut, Welcome), DialError> {
    let late = |what| DialError::Deadline {
        address: address.to_owned(),
        what,
        within_ms: within.as_millis() as u64,
    };
    let unreachable = |source| DialError::Unreachable { address: address.to_owned(), source };
    let connect = async { socket::secure_outbound(socket::connect(transport, address).await?).await };
    let mut socket = match timeout(within, connect).await {
        Ok(connected) => connected.map_err(unreachable)?,
        Err(_) => return Err(late("accept the connection")),
    };
    match timeout(within, greet(&mut socket, address, hello)).await {
        Ok(greeted) => greeted.map(|(buffer, welcome)| (socket, buffer, welcome)),
        Err(_) => Err(late("answer the greeting")),
    }
}

async fn greet(socket: &mut Socket, address: &str, hello: &Hello) -> Result<(BytesMut, Welcome), DialError> {
    let not_understood = |why: String| DialError::NotUnderstood { address: address.to_owned(), why };
    let mut out = MAGIC.to_vec();
    hello
        .append_to(&mut out)
        .map_err(|error| not_understood(format!("this node's own greeting: {error}")))?;
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData => not_understood(error.to_string()),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            not_understood("it hung up in the middle of the greeting".to_owned())
        }
        _ => DialError::Unreachable { address: address.to_owned(), source: error },
    };
    socket.write_all(&out).await.map_err(broken)?;
    let mut buffer = BytesMut::with_capacity(1024);
    loop {
        match greeting(&buffer) {
            Greeting::Node => break,
            Greeting::Incomplete => {}
            Greeting::Http | Greeting::Other => {
                return Err(DialError::NotRingwork { address: address.to_owned() });
            }
        }
        if socket.read_buf(&mut buffer).await.map_err(broken)? == 0 {
            return Err(not_understood("it hung up without an answer".to_owned()));
        }
    }
    let _ = buffer.split_to(MAGIC.len());
    let decoder = FrameDecoder::new(HANDSHAKE_BYTES_MAX);
    let frame = read_frame(socket, &mut buffer, decoder).await.map_err(broken)?;
    match frame.header.kind {
        FrameKind::Welcome => {
            let welcome = Welcome::read(frame.header.version, &frame.body);
            let welcome = welcome.map_err(|error| not_understood(error.to_string()))?;
            match hello.whom {
                Some(whom) if whom != welcome.node => Err(DialError::OtherNode {
                    address: address.to_owned(),
                    found: format!("{} ({})", welcome.name, welcome.node),
                }),
                _ => Ok((buffer, welcome)),
            }
        }
        FrameKind::Refused => {
            Err(DialError::Refused { address: address.to_owned(), refused: Refused::read(&frame.body) })
        }
        kind => Err(not_understood(format!("it answered the greeting with a {kind:?} frame"))),
    }
}

/// Who was not let in, and why.
pub(super) enum Stranger {
    /// Not a node.
    Http,
    /// Not a node either, or one that broke off.
    Unknown(String),
    /// A node that could not make itself understood, and is to be told.
    Unclear(HandshakeRefusal),
}

/// Reads the greeting of someone who connected.
pub(super) async fn read_hello(socket: &mut Socket) -> Result<(BytesMut, Hello), Stranger> {
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData => Stranger::Unclear(HandshakeRefusal::Malformed(error.to_string())),
        _ => Stranger::Unknown(format!("it broke off in its greeting: {error}")),
    };
    let mut buffer = BytesMut::with_capacity(1024);
    loop {
        match greeting(&buffer) {
            Greeting::Node => break,
            Greeting::Incomplete => {}
            Greeting::Http => return Err(Stranger::Http),
            Greeting::Other => return Err(Stranger::Unknown("its first bytes are not a node's".to_owned())),
        }
        if socket.read_buf(&mut buffer).await.map_err(broken)? == 0 {
            return Err(Stranger::Unknown("it hung up before it had greeted".to_owned()));
        }
    }
    let _ = buffer.split_to(MAGIC.len());
    let frame =
        read_frame(socket, &mut buffer, FrameDecoder::new(HANDSHAKE_BYTES_MAX)).await.map_err(broken)?;
    if frame.header.kind != FrameKind::Hello {
        let why = format!("it began with a {:?} frame", frame.header.kind);
        return Err(Stranger::Unclear(HandshakeRefusal::Malformed(why)));
    }
    match Hello::read(frame.header.version, &frame.body) {
        Ok(hello) => Ok((buffer, hello)),
        Err(error) => Err(Stranger::Unclear(HandshakeRefusal::Malformed(error.to_string()))),
    }
}

/// Tells someone who let itself be understood that it is welcome.
pub(super) async fn welcome(socket: &mut Socket, welcome: &Welcome) -> io::Result<()> {
    answer(socket, |out| welcome.append_to(out)).await
}

/// Tells someone why it is not let in.
pub(super) async fn tell_refused(socket: &mut Socket, refused: &Refused) -> io::Result<()> {
    answer(socket, |out| refused.append_to(out)).await
}

/// Tells someone why it is not let in, and hangs up.
pub(super) async fn refuse(mut socket: Socket, refused: &Refused) {
    if tell_refused(&mut socket, refused).await.is_ok() {
        hang_up(socket).await;
    }
}

/// Tells a client of HTTP where it is, and hangs up.
pub(super) async fn refuse_http(mut socket: Socket) {
    if socket.write_all(HTTP_ANSWER).await.is_ok() {
        hang_up(socket).await;
    }
}

async fn answer(
    socket: &mut Socket,
    append: impl FnOnce(&mut Vec<u8>) -> Result<(), WireError>,
) -> io::Result<()> {
    let mut out = MAGIC.to_vec();
    append(&mut out).map_err(|error| io::Error::other(error.to_string()))?;
    socket.write_all(&out).await
}

/// Closes so that the last bytes can still be read: whoever closes with bytes unread sends a reset, and the other
/// system throws away what it has received.
async fn hang_up(mut socket: Socket) {
    let drain = async {
        socket.shutdown().await?;
        let mut rest = [0; 1024];
        let mut left = DRAINED_BYTES_MAX;
        loop {
            let read = socket.read(&mut rest).await?;
            if read == 0 || read > left {
                return io::Result::Ok(());
            }
            left -= read;
        }
    };
    let _ = timeout(DRAIN_WITHIN, drain).await;
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_answer_to_http_has_the_length_it_claims() {
        let text = std::str::from_utf8(super::HTTP_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
    }
}
