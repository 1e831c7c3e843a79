//! TLS 1.3 between two nodes (RFC 8446), each of which has verified the other.
//!
//! Blocking, over any stream that can limit its reads and writes, and over in bounded time: neither a handshake nor a read lasts
//! longer than it was given, however slowly the other end sends. Nothing is resumed: each session proves both keys anew.

use std::{
    fmt,
    io::{self, Read, Write},
    sync::Arc,
    time::Duration,
};

use rustls::{
    AlertDescription, ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
    client::Resumption,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, TrustAnchor, UnixTime},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
    version::TLS13,
};

use super::{
    Issued, Nodes, Peer, UnixSeconds,
    channel::{Channel, Failed},
    names::NodeNames,
    provider::provider,
    verify::{BadCertificate, Verifier, Wanted},
};
use crate::http::Stream;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other end is no node of this cluster, or not the one that was wanted.
    #[error("{0}")]
    Certificate(#[from] BadCertificate),
    /// It shows no certificate.
    #[error("it shows no certificate")]
    NoCertificate,
    /// It does not take ours.
    #[error("it refuses this node: {0:?}")]
    Refused(AlertDescription),
    /// It does not speak TLS 1.3 as nodes do.
    #[error("no TLS as between nodes: {0}")]
    Tls(rustls::Error),
    /// It is no server of the cluster's Docker endpoint, or not under this name.
    #[error("no server of this cluster's Docker endpoint: {0}")]
    Server(rustls::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
    /// The time was over.
    #[error("no session within {} s", .0.as_secs_f32())]
    TooSlow(Duration),
}

/// What this node shows of itself. Its key stays in memory.
#[derive(Clone)]
pub struct Identity {
    names: NodeNames,
    shown: Arc<SingleCertAndKey>,
    authority: TrustAnchor<'static>,
}

impl Identity {
    /// The node of these names, with what the authority issued for them.
    pub fn new(names: NodeNames, issued: &Issued, authority: &Nodes) -> Self {
        let certificate = CertificateDer::from(issued.certificate().to_vec());
        let key = PrivatePkcs8KeyDer::from(issued.key().to_vec());
        let key = rustls::crypto::ring::sign::any_eddsa_type(&key).expect("ring takes the key that was made from a seed");
        let authority = CertificateDer::from(authority.certificate().to_vec());
        let authority =
            webpki::anchor_from_trusted_cert(&authority).expect("the authority's own certificate is right").to_owned();
        Self { names, shown: Arc::new(CertifiedKey::new(vec![certificate], key).into()), authority }
    }

    /// The names that it shows.
    pub fn names(&self) -> &NodeNames {
        &self.names
    }

    /// Takes a session on `stream`, whose other end connected. `clock` is now where the clock is trusted.
    ///
    /// # Errors
    ///
    /// The other end is no node, or it is not done within `limit`.
    pub fn accept<S: Stream>(&self, stream: S, clock: Option<UnixSeconds>, limit: Duration) -> Result<Session<S>, Error> {
        let verifier = Arc::new(Verifier { authority: self.authority.clone(), clock, wanted: None });
        let builder = ServerConfig::builder_with_details(provider(), Arc::new(Now(clock)))
            .with_protocol_versions(&[&TLS13])
            .map_err(Error::Tls)?;
        let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(self.shown.clone());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let connection = ServerConnection::new(Arc::new(config)).map_err(Error::Tls)?;
        Session::open(connection.into(), stream, limit)
    }

    /// Opens a session on `stream`, which leads to `wanted`. `clock` is now where the clock is trusted.
    ///
    /// That the other end refuses this node is heard only with the first read: TLS 1.3 is done before it has looked.
    ///
    /// # Errors
    ///
    /// The other end is not `wanted`, or it is not done within `limit`.
    pub fn connect<S: Stream>(
        &self,
        stream: S,
        wanted: Wanted,
        clock: Option<UnixSeconds>,
        limit: Duration,
    ) -> Result<Session<S>, Error> {
        let verifier = Arc::new(Verifier { authority: self.authority.clone(), clock, wanted: Some(wanted) });
        let builder = ClientConfig::builder_with_details(provider(), Arc::new(Now(clock)))
            .with_protocol_versions(&[&TLS13])
            .map_err(Error::Tls)?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = builder.with_client_cert_resolver(self.shown.clone());
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        // The verifier knows whom it wants; the library only asks for a name of some kind.
        let name = ServerName::from(std::net::IpAddr::V4(self.names.address()));
        let connection = ClientConnection::new(Arc::new(config), name).map_err(Error::Tls)?;
        Session::open(connection.into(), stream, limit)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity of {}", self.names)
    }
}

/// 32 bytes that both ends of one session know, and nobody else: `tls-exporter` (RFC 9266).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Exporter(pub(super) [u8; 32]);

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter")
    }
}

/// A session with a node that was verified.
pub struct Session<S: Stream> {
    channel: Channel<S>,
    peer: Peer,
    exporter: Exporter,
}

impl<S: Stream> Session<S> {
    fn open(connection: Connection, stream: S, limit: Duration) -> Result<Self, Error> {
        let channel = Channel::open(connection, stream, limit).map_err(|failed| match failed {
            Failed::TooSlow => Error::TooSlow(limit),
            Failed::Io(error) => Error::Broken(error),
            Failed::Tls(rustls::Error::NoCertificatesPresented) => Error::NoCertificate,
            Failed::Tls(rustls::Error::AlertReceived(alert)) => Error::Refused(alert),
            Failed::Tls(error) => BadCertificate::of(&error).map_or(Error::Tls(error), Error::Certificate),
        })?;
        let shown = channel.connection().peer_certificates().and_then(<[_]>::first).ok_or(Error::NoCertificate)?;
        let peer = Peer::verified(NodeNames::of(shown).ok_or(BadCertificate::Names)?);
        let exporter = channel.connection().export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[]));
        Ok(Self { peer, exporter: Exporter(exporter.map_err(Error::Tls)?), channel })
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What ties a request to this session.
    pub fn exporter(&self) -> Exporter {
        self.exporter
    }

    /// The stream below, for its addresses: what is read or written there breaks the session.
    pub fn stream(&self) -> &S {
        self.channel.stream()
    }
}

impl<S: Stream> Read for Session<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.channel.read(buffer)
    }
}

impl<S: Stream> Write for Session<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.channel.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.channel.flush()
    }
}

impl<S: Stream> Stream for Session<S> {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        self.channel.limit(limit)
    }
}

impl<S: Stream> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session with {}", self.peer)
    }
}

/// The clock that the library sees. The verifier has its own; where none is trusted, 1970 does.
#[derive(Debug)]
pub(super) struct Now(pub(super) Option<UnixSeconds>);

impl TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.unwrap_or_default())))
    }
}
