//! A person's end of TLS with the cluster's Docker endpoint: shows a user's certificate, takes a server's of the users' authority.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    client::{Resumption, WebPkiServerVerifier},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
    version::TLS13,
};

use super::{
    Issued, Users,
    channel::{Channel, Failed},
    provider::provider,
    session::{Error, Now},
};
use crate::http::Stream;

/// Asks as one user.
#[derive(Clone)]
pub struct Person(Arc<ClientConfig>);

impl Person {
    /// The user that `issued` was issued to.
    ///
    /// # Errors
    ///
    /// What the library says of the certificates: nothing, of ours.
    pub fn new(users: &Users, issued: &Issued) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(users.certificate().to_vec())).map_err(Error::Server)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
        let verifier = verifier.map_err(|error| Error::Server(rustls::Error::General(error.to_string())))?;
        // The certificates are good from 1970 on: whoever has no clock asks as well.
        let builder = ClientConfig::builder_with_details(provider(), Arc::new(Now(None)));
        let builder = builder.with_protocol_versions(&[&TLS13]).map_err(Error::Server)?.with_webpki_verifier(verifier);
        let shown = vec![CertificateDer::from(issued.certificate().to_vec())];
        let key = PrivatePkcs8KeyDer::from(issued.key().to_vec());
        let mut config = builder.with_client_auth_cert(shown, key.into()).map_err(Error::Server)?;
        config.resumption = Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// Connects on `stream`, at whose other end shall be the server `name`. That it refuses this user is heard only with the first read.
    ///
    /// # Errors
    ///
    /// It is another one, or it is not done within `limit`.
    pub fn connect<S: Stream>(&self, stream: S, name: &str, limit: Duration) -> Result<Channel<S>, Error> {
        let name =
            ServerName::try_from(name.to_owned()).map_err(|error| Error::Server(rustls::Error::General(error.to_string())))?;
        let connection = ClientConnection::new(Arc::clone(&self.0), name).map_err(Error::Server)?;
        Channel::open(connection.into(), stream, limit).map_err(|failed| match failed {
            Failed::TooSlow => Error::TooSlow(limit),
            Failed::Io(error) => Error::Broken(error),
            Failed::Tls(rustls::Error::AlertReceived(alert)) => Error::Refused(alert),
            Failed::Tls(error) => Error::Server(error),
        })
    }
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Person")
    }
}
