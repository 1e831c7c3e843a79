//! Whoever comes to a port, with whatever to show; one request each.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use hcl_firstboot::trust::Issued;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};

use super::Machine;

/// A stranger, or not.
#[derive(Clone)]
pub enum Visitor {
    /// Speaks HTTP in the clear.
    Plain,
    /// Speaks TLS.
    Tls(Arc<ClientConfig>),
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// No answer.
    Refused(String),
    /// The status of an answer, and the answer.
    Answered(u16, String),
}

impl Visitor {
    /// Trusts servers of the authority `root` and shows `own`.
    pub fn new(root: &[u8], own: Option<&Issued>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(root.to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::Pkcs8(own.key().to_vec().into());
                builder.with_client_auth_cert(vec![own.certificate().to_vec().into()], key).unwrap()
            }
        };
        Self::Tls(Arc::new(config))
    }

    /// Sends one request to `server`, which is called `name`; whatever comes back.
    pub fn ask(&self, server: SocketAddr, name: &str, method: &str, path: &str) -> Came {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {name}\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
        );
        let mut answer = Vec::new();
        let result = (|| {
            let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(10))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.set_write_timeout(Some(Duration::from_secs(10)))?;
            match self {
                Self::Plain => {
                    stream.write_all(request.as_bytes())?;
                    stream.read_to_end(&mut answer)
                }
                Self::Tls(config) => {
                    let name = ServerName::try_from(name.to_owned()).unwrap();
                    let connection = ClientConnection::new(config.clone(), name).map_err(std::io::Error::other)?;
                    let mut stream = StreamOwned::new(connection, stream);
                    stream.write_all(request.as_bytes())?;
                    stream.read_to_end(&mut answer)
                }
            }
        })();
        let text = String::from_utf8_lossy(&answer).into_owned();
        match text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok()) {
            Some(status) => Came::Answered(status, text),
            None => Came::Refused(result.err().map_or(text, |error| error.to_string())),
        }
    }
}

/// Does something on the network of `machine`.
pub fn on<T: Send>(machine: &Machine, work: impl FnOnce() -> T + Send) -> T {
    let network = machine.network();
    let inside = || {
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&network), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}
