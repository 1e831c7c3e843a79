//! Who is believed, and what this node shows.
//!
//! Nodes and users have different authorities: a node's certificate opens nothing for users, and a user's nothing between nodes.
//! Dates in certificates run from 1970 to 2199, so a clock that is wrong does no harm.

use std::{path::Path, sync::Arc};

use rustls::{
    CipherSuite, ClientConfig, DEFAULT_VERSIONS, RootCertStore, ServerConfig, SupportedProtocolVersion,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};

/// The files do not do.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {why}")]
pub struct Bad {
    /// Which one.
    pub file: String,
    /// What is wrong with it.
    pub why: String,
}

/// What this node shows other nodes, and whom it believes to be one: `nodes-ca.pem`, `node.pem`, `node-key.pem` of `folder`.
///
/// # Errors
///
/// A file is missing or holds something else.
pub fn to_nodes(folder: &Path) -> Result<Arc<ClientConfig>, Bad> {
    let roots = roots(folder, "nodes-ca.pem")?;
    let (chain, key) = identity(folder, "node")?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| bad(folder, "node.pem", error))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key);
    let mut config = config.map_err(|error| bad(folder, "node.pem", error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A hundred engines' tickets would be memory for little: a handshake with Ed25519 is cheap.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// What this node shows users, and whom it takes for one: `users-ca.pem`, `server.pem`, `server-key.pem` of `folder`.
///
/// # Errors
///
/// A file is missing or holds something else.
pub fn to_users(folder: &Path) -> Result<Arc<ServerConfig>, Bad> {
    acceptor(folder, "users-ca.pem", "server", DEFAULT_VERSIONS)
}

/// What this node shows nodes that ask, and whom it takes for one: `nodes-ca.pem`, `node.pem`, `node-key.pem` of `folder`. Nodes
/// speak TLS 1.3 with each other, which hides certificates from who only listens.
///
/// # Errors
///
/// A file is missing or holds something else.
pub fn from_nodes(folder: &Path) -> Result<Arc<ServerConfig>, Bad> {
    acceptor(folder, "nodes-ca.pem", "node", &[&TLS13])
}

fn acceptor(
    folder: &Path,
    authority: &str,
    name: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Arc<ServerConfig>, Bad> {
    let roots = Arc::new(roots(folder, authority)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
    let verifier = verifier.map_err(|error| bad(folder, authority, error))?;
    let (chain, key) = identity(folder, name)?;
    let file = format!("{name}.pem");
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(|error| bad(folder, &file, error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key);
    let mut config = config.map_err(|error| bad(folder, &file, error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A laptop prefers AES; what counts is what is hard for this processor.
    config.ignore_client_order = true;
    // Whoever comes shows a certificate each time.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The suites with ChaCha20, as far as our Ed25519 certificates can use them.
const CHACHA20: [CipherSuite; 2] =
    [CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256];

/// Everything that `ring` has. ChaCha20 first where the processor has no AES instructions, as Raspberry Pis up to the 4: there it is
/// twice as fast.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    if !has_aes() {
        provider.cipher_suites.sort_by_key(|suite| !CHACHA20.contains(&suite.suite()));
    }
    Arc::new(provider)
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

/// Programs for 32-bit ARM cannot ask in stable Rust.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

fn roots(folder: &Path, file: &str) -> Result<RootCertStore, Bad> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(folder, file)? {
        roots.add(certificate).map_err(|error| bad(folder, file, error))?;
    }
    Ok(roots)
}

fn identity(folder: &Path, name: &str) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Bad> {
    let chain = certificates(folder, &format!("{name}.pem"))?;
    let file = format!("{name}-key.pem");
    let key = PrivateKeyDer::from_pem_file(folder.join(&file)).map_err(|error| bad(folder, &file, error))?;
    Ok((chain, key))
}

fn certificates(folder: &Path, file: &str) -> Result<Vec<CertificateDer<'static>>, Bad> {
    let read = || CertificateDer::pem_file_iter(folder.join(file))?.collect::<Result<Vec<_>, _>>();
    let found = read().map_err(|error| bad(folder, file, error))?;
    if found.is_empty() { Err(bad(folder, file, "there is no certificate in it")) } else { Ok(found) }
}

fn bad(folder: &Path, file: &str, why: impl std::fmt::Display) -> Bad {
    Bad { file: folder.join(file).display().to_string(), why: why.to_string() }
}
