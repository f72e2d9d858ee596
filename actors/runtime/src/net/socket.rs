//! The one file that knows TCP: dialling, listening, moving a connection to another thread, and the seam where TLS
//! goes. It decides nothing about what is sent. A simulator gives another [`Transport`].

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// What connections between nodes are made of. Cheap to clone.
#[derive(Clone)]
pub struct Transport(Kind);

#[derive(Clone)]
enum Kind {
    Tcp,
    Given(Arc<dyn GivenTransport>),
}

impl Transport {
    /// TCP of the operating system.
    pub fn tcp() -> Self {
        Self(Kind::Tcp)
    }

    /// Something else that carries bytes in order, such as a simulated network.
    pub fn given(transport: Arc<dyn GivenTransport>) -> Self {
        Self(Kind::Given(transport))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Tcp => "tcp",
            Kind::Given(_) => "given",
        })
    }
}

/// A connection that is not TCP's.
pub trait GivenStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> GivenStream for S {}

/// How a dial ends.
pub type Dialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn GivenStream>>> + Send>>;

/// A connection that was accepted, and from where.
pub type Accepted = (Box<dyn GivenStream>, SocketAddr);

/// Connections by other means than TCP, as one node has them.
pub trait GivenTransport: Send + Sync {
    /// Dials `address`, host and port.
    fn connect(&self, address: &str) -> Dialling;
    /// Takes an address, and says which.
    fn bind(&self, address: SocketAddr) -> io::Result<(Box<dyn GivenListener>, SocketAddr)>;
}

/// Takes connections in that are not TCP's.
pub trait GivenListener: Send {
    /// The next connection.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Accepted>>;
}

/// A connection, bound to the thread that made it.
pub(super) enum Socket {
    Tcp(TcpStream),
    Given(Box<dyn GivenStream>),
}

/// A connection between two threads. With TLS the session will move along in here.
pub(super) enum Portable {
    Tcp(std::net::TcpStream),
    Given(Box<dyn GivenStream>),
}

/// An address that is taken, not yet served by any thread.
pub(super) enum Bound {
    Tcp(std::net::TcpListener),
    Given(Box<dyn GivenListener>),
}

/// A listening socket, bound to the thread that serves it.
pub(super) enum Acceptor {
    Tcp(TcpListener),
    Given(Box<dyn GivenListener>),
}

/// Dials `address`, a host and a port; a name is resolved anew each time and all its addresses are tried.
pub(super) async fn connect(transport: &Transport, address: &str) -> io::Result<Socket> {
    match &transport.0 {
        Kind::Tcp => {
            let stream = TcpStream::connect(address).await?;
            // Frames are coalesced before they are written; waiting for more would only add delay.
            stream.set_nodelay(true)?;
            Ok(Socket::Tcp(stream))
        }
        Kind::Given(transport) => transport.connect(address).await.map(Socket::Given),
    }
}

/// Takes an address, and says which: port 0 takes any.
pub(super) fn bind(transport: &Transport, address: SocketAddr) -> io::Result<(Bound, SocketAddr)> {
    match &transport.0 {
        Kind::Tcp => {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let local = listener.local_addr()?;
            Ok((Bound::Tcp(listener), local))
        }
        Kind::Given(transport) => {
            transport.bind(address).map(|(listener, local)| (Bound::Given(listener), local))
        }
    }
}

impl Bound {
    /// Serves it from the calling thread.
    pub(super) fn adopt(self) -> io::Result<Acceptor> {
        match self {
            Self::Tcp(listener) => TcpListener::from_std(listener).map(Acceptor::Tcp),
            Self::Given(listener) => Ok(Acceptor::Given(listener)),
        }
    }
}

impl Acceptor {
    /// The next connection, and from where.
    pub(super) async fn accept(&mut self) -> io::Result<(Socket, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Socket::Tcp(stream), from))
            }
            Self::Given(listener) => {
                let (stream, from) = std::future::poll_fn(|cx| listener.poll_accept(cx)).await?;
                Ok((Socket::Given(stream), from))
            }
        }
    }
}

impl Socket {
    /// Takes it off this thread.
    pub(super) fn into_portable(self) -> io::Result<Portable> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Portable::Tcp),
            Self::Given(stream) => Ok(Portable::Given(stream)),
        }
    }
}

impl Portable {
    /// Puts it on the calling thread.
    pub(super) fn adopt(self) -> io::Result<Socket> {
        match self {
            Self::Tcp(stream) => TcpStream::from_std(stream).map(Socket::Tcp),
            Self::Given(stream) => Ok(Socket::Given(stream)),
        }
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
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Given(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Given(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Given(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Given(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
