//! Whether the certificate at the other end is a node's.

use std::{fmt, net::Ipv4Addr, sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use webpki::{EndEntityCert, KeyUsage};

use super::{UnixSeconds, names::NodeNames, provider::SIGNATURES};
use crate::identity::NodeId;

/// The node that a session is opened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The one of this id, wherever it is: also at the leader's address.
    Node(NodeId),
    /// The one whose own address this is.
    Address(Ipv4Addr),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => write!(f, "node {node}"),
            Self::Address(address) => write!(f, "the node at {address}"),
        }
    }
}

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    /// It is by another key: of another cluster, or of this one for another use.
    #[error("its certificate is not by this cluster's authority for nodes")]
    Issuer,
    /// It is not good yet or no longer, and the clock is trusted.
    #[error("its certificate is not good at this time ({0} s after 1970)")]
    Time(UnixSeconds),
    /// More than one certificate came: nodes' are issued by the authority itself.
    #[error("its certificate came with others")]
    Chain,
    /// It is not for this end: a user's does not serve.
    #[error("its certificate is for another use")]
    Usage,
    /// The names in it are not those of a node.
    #[error("its certificate has other names than a node's")]
    Names,
    /// It is another node.
    #[error("it is {found}, not {wanted}")]
    NotWanted {
        /// Who was wanted.
        wanted: Wanted,
        /// Who it is.
        found: Box<NodeNames>,
    },
    /// Anything else.
    #[error("its certificate is bad: {0}")]
    Other(String),
}

impl BadCertificate {
    /// The one that a verifier of ours gave to the library.
    pub(super) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(error))) => error.downcast_ref().cloned(),
            _ => None,
        }
    }
}

impl From<BadCertificate> for Error {
    fn from(bad: BadCertificate) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(bad))))
    }
}

/// Verifies the other end of one session.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) authority: TrustAnchor<'static>,
    /// `None`: the clock is not trusted.
    pub(super) clock: Option<UnixSeconds>,
    /// `None`: any node.
    pub(super) wanted: Option<Wanted>,
}

impl Verifier {
    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        usage: KeyUsage,
    ) -> Result<(), BadCertificate> {
        if !others.is_empty() {
            return Err(BadCertificate::Chain);
        }
        let end = EndEntityCert::try_from(certificate).map_err(|error| BadCertificate::Other(error.to_string()))?;
        let at = |seconds| {
            let (time, anchors) =
                (UnixTime::since_unix_epoch(Duration::from_secs(seconds)), std::slice::from_ref(&self.authority));
            end.verify_for_usage(SIGNATURES.all, anchors, &[], time, usage, None, None).map(drop)
        };
        let verified = match self.clock {
            Some(now) => at(now),
            // Without a clock the dates are no reason: it is judged at a moment that it says is good. Before 1970 there is none.
            None => match at(0) {
                Err(webpki::Error::CertNotValidYet { not_before, .. }) => at(not_before.as_secs()),
                verified => verified,
            },
        };
        verified.map_err(|error| match error {
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => BadCertificate::Issuer,
            webpki::Error::CertNotValidYet { time, .. } | webpki::Error::CertExpired { time, .. } => {
                BadCertificate::Time(time.as_secs())
            }
            webpki::Error::RequiredEkuNotFoundContext(_) => BadCertificate::Usage,
            error => BadCertificate::Other(error.to_string()),
        })?;
        let found = NodeNames::of(certificate).ok_or(BadCertificate::Names)?;
        match self.wanted {
            Some(wanted @ Wanted::Node(node)) if node != found.node() => {
                Err(BadCertificate::NotWanted { wanted, found: Box::new(found) })
            }
            Some(wanted @ Wanted::Address(address)) if address != found.address() => {
                Err(BadCertificate::NotWanted { wanted, found: Box::new(found) })
            }
            _ => Ok(()),
        }
    }

    /// Only a session of TLS 1.3 can be had here.
    fn too_old() -> Error {
        Error::General("TLS 1.2 is not spoken here".to_owned())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(end, others, KeyUsage::server_auth())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Self::too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end, others, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Self::too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &SIGNATURES)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SIGNATURES.supported_schemes()
    }
}
