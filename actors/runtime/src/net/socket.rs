//! The one file that knows TCP: dialling, listening, moving a connection to another thread, and the seam where TLS
//! goes. It decides nothing about what is sent. A simulator replaces this file.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// A connection, bound to the thread that made it.
pub(super) struct Socket(TcpStream);

/// A connection between two threads. With TLS the session will move along in here.
pub(super) struct Portable(std::net::TcpStream);

/// An address that is taken, not yet served by any thread.
pub(super) struct Bound(std::net::TcpListener);

/// A listening socket, bound to the thread that serves it.
pub(super) struct Acceptor(TcpListener);

/// Dials `address`, a host and a port; a name is resolved anew each time and all its addresses are tried.
pub(super) async fn connect(address: &str) -> io::Result<Socket> {
    let stream = TcpStream::connect(address).await?;
    // Frames are coalesced before they are written; waiting for more would only add delay.
    stream.set_nodelay(true)?;
    Ok(Socket(stream))
}

/// Takes an address, and says which: port 0 takes any.
pub(super) fn bind(address: SocketAddr) -> io::Result<(Bound, SocketAddr)> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let local = listener.local_addr()?;
    Ok((Bound(listener), local))
}

impl Bound {
    /// Serves it from the calling thread.
    pub(super) fn adopt(self) -> io::Result<Acceptor> {
        TcpListener::from_std(self.0).map(Acceptor)
    }
}

impl Acceptor {
    /// The next connection, and from where.
    pub(super) async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let (stream, from) = self.0.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Socket(stream), from))
    }
}

impl Socket {
    /// Takes it off this thread.
    pub(super) fn into_portable(self) -> io::Result<Portable> {
        self.0.into_std().map(Portable)
    }
}

impl Portable {
    /// Puts it on the calling thread.
    pub(super) fn adopt(self) -> io::Result<Socket> {
        TcpStream::from_std(self.0).map(Socket)
    }
}

/// Where TLS will go for connections that were dialled. There is none yet: this is the socket itself.
pub(super) async fn secure_outbound(socket: Socket) -> io::Result<Socket> {
    Ok(socket)
}

/// Where TLS will go for connections that were accepted. There is none yet: this is the socket itself.
pub(super) async fn secure_inbound(socket: Socket) -> io::Result<Socket> {
    Ok(socket)
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
