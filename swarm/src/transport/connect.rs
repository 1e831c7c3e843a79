//! Connections to engines.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    pin::Pin,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{ClientConfig, pki_types::ServerName};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::error::Kind;

/// How long a connection may take to stand, TLS included.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// After this much silence TCP asks whether the node is still there…
const KEEPALIVE_AFTER: Duration = Duration::from_secs(3);
/// … again after this…
const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);
/// … and the connection is over when nothing was acknowledged for this long. The kernel over there answers, so that an engine that is
/// merely busy does not count as dead.
const DEAD_AFTER: Duration = Duration::from_secs(9);

/// Where an engine is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Its unix socket, on this machine.
    Unix(PathBuf),
    /// `hcl-swarm join` at a node's address: TLS by the nodes' authority.
    Tls(SocketAddrV4),
}

impl Endpoint {
    /// The node's address: loopback for a socket of this machine.
    pub fn address(&self) -> Ipv4Addr {
        match self {
            Self::Unix(_) => Ipv4Addr::LOCALHOST,
            Self::Tls(address) => *address.ip(),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tls(address) => address.fmt(f),
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text}: an engine is unix:///PATH or tls://A.B.C.D:PORT");
        if let Some(path) = text.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            return Ok(Self::Unix(path.into()));
        }
        text.strip_prefix("tls://").and_then(|address| address.parse().ok()).map(Self::Tls).ok_or_else(bad)
    }
}

/// A connection to an engine.
pub(super) enum Connection {
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    /// Connects within [`CONNECT_LIMIT`]. `tls` is what this node shows and believes; a socket needs none.
    pub(super) async fn open(endpoint: &Endpoint, tls: Option<&Arc<ClientConfig>>) -> Result<Self, Kind> {
        let late =
            |_| Kind::Connect(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", CONNECT_LIMIT.as_secs())));
        timeout(CONNECT_LIMIT, Self::connect(endpoint, tls)).await.map_err(late)?
    }

    async fn connect(endpoint: &Endpoint, tls: Option<&Arc<ClientConfig>>) -> Result<Self, Kind> {
        let address = match endpoint {
            Endpoint::Unix(path) => return Ok(Self::Unix(UnixStream::connect(path).await.map_err(Kind::Connect)?)),
            Endpoint::Tls(address) => *address,
        };
        let Some(tls) = tls else {
            return Err(Kind::Tls(io::Error::other("this program was given no certificate to show (--tls)")));
        };
        let stream = TcpStream::connect(address).await.map_err(Kind::Connect)?;
        watch_peer(&stream).map_err(Kind::Connect)?;
        let name = ServerName::IpAddress(IpAddr::V4(*address.ip()).into());
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.map_err(Kind::Tls)?;
        Ok(Self::Tls(Box::new(stream)))
    }
}

/// Has the kernel end a connection whose other end no longer answers: without this a stream from a node that lost its power would
/// hang for ever.
fn watch_peer(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(DEAD_AFTER))?;
    Ok(())
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    /// Ends this direction only: the other end may go on to send.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
