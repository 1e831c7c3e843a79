//! Brings the engine's socket to the node's own address, byte for byte, for nodes alone.
//!
//! A connection is let in by its certificate ([`crate::transport::tls::from_nodes`]); the engine is connected to once the first bytes of a request are
//! there. From then on bytes go both ways as they come, no more of them in between than two buffers hold: who reads slowly slows down
//! who writes. Each way ends by itself, as `docker attach` needs it. What breaks, breaks on both sides, so that half an answer is
//! never taken for a whole one.

mod door;

use std::{io, sync::Arc, time::Duration};

use rustls::{ServerConfig, pki_types::CertificateDer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream, UnixStream},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use webpki::EndEntityCert;

use self::door::Door;
use crate::local::Socket;

/// What a node is called in its certificate begins so.
const NODE: &str = "hcl:node:";
/// How long a handshake may take; a Raspberry Pi 2 that is busy needs a tenth of it.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection may be kept without a request.
const IDLE: Duration = Duration::from_secs(180);
/// How much is on its way at once, in bytes each way: what one record of TLS holds.
const BUFFER: usize = 16 << 10;
/// How long somebody who is told why there is no engine may go on asking.
const FAREWELL: Duration = Duration::from_secs(2);
/// Without a sign of life from the other node for so long the connection is over.
const SILENCE: Duration = Duration::from_secs(30);

/// Brings one engine to one address. Cheap to clone.
#[derive(Clone)]
pub struct Carrier {
    acceptor: TlsAcceptor,
    engine: Socket,
    name: Arc<str>,
    door: Arc<Door>,
}

impl Carrier {
    /// Brings `engine`, of the node `name`, to whom `server` lets in.
    pub fn new(server: Arc<ServerConfig>, engine: Socket, name: &str) -> Self {
        Self { acceptor: TlsAcceptor::from(server), engine, name: Arc::from(name), door: Arc::default() }
    }

    /// Takes connections for as long as it is not dropped; those that there are go on after that.
    pub async fn run(&self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    // Over the limit: who waits for nothing but a handshake has lost nothing.
                    let Some(waiting) = self.door.knock(from.ip()) else { continue };
                    let carrier = self.clone();
                    tokio::spawn(async move {
                        let Some(stream) = carrier.let_in(stream).await else { return };
                        drop(waiting);
                        // What broke is over on both sides; whoever asked has seen it.
                        let _ = carrier.carry(stream).await;
                    });
                }
                // Too many open files, or a connection that was over before it was taken.
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// The connection of a node; none for anybody else.
    async fn let_in(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        keep_alive(&stream).ok()?;
        let stream = timeout(HANDSHAKE, self.acceptor.accept(stream)).await.ok()?.ok()?;
        let certificates = stream.get_ref().1.peer_certificates()?;
        is_node(certificates.first()?).then_some(stream)
    }

    async fn carry(&self, mut stream: TlsStream<TcpStream>) -> io::Result<()> {
        let mut first = Vec::with_capacity(BUFFER);
        let Ok(came) = timeout(IDLE, stream.read_buf(&mut first)).await else { return stream.shutdown().await };
        if came? == 0 {
            return stream.shutdown().await;
        }
        let Some(_inside) = self.door.enter() else {
            return refuse(stream, &format!("{}: too many connections to the engine at once", self.name)).await;
        };
        let mut engine: UnixStream = match self.engine.connect().await {
            Ok(engine) => engine,
            Err(error) => {
                let path = self.engine.path().display();
                return refuse(stream, &format!("the engine of {} does not answer: connecting to {path}: {error}", self.name))
                    .await;
            }
        };
        engine.write_all(&first).await?;
        drop(first);
        copy_bidirectional_with_sizes(&mut stream, &mut engine, BUFFER, BUFFER).await.map(|_| ())
    }
}

/// Whether a certificate, which the nodes' authority made, is a node's.
fn is_node(certificate: &CertificateDer<'_>) -> bool {
    EndEntityCert::try_from(certificate).is_ok_and(|certificate| certificate.valid_uri_names().any(|name| name.starts_with(NODE)))
}

/// A node without power says nothing more: connections to it must end by themselves.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = TcpKeepalive::new().with_time(SILENCE / 2).with_interval(SILENCE / 6).with_retries(3);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(SILENCE))
}

/// Says why there is no engine, as the engine itself would, and goes.
async fn refuse(mut stream: TlsStream<TcpStream>, why: &str) -> io::Result<()> {
    let body = serde_json::json!({ "message": why }).to_string();
    let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n";
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    stream.shutdown().await?;
    // To close while something unread is there would throw away the answer on its way (RFC 9112 section 9.6).
    let until = Instant::now() + FAREWELL;
    let mut unread = vec![0; BUFFER];
    while let Ok(Ok(1..)) = timeout_at(until, stream.read(&mut unread)).await {}
    Ok(())
}
