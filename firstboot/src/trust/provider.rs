//! The cryptography that sessions use: one of each kind, both ends are ours.
//!
//! X25519, ChaCha20-Poly1305, Ed25519. The processors of all Raspberry Pis up to the 4 have no AES instructions, and what is not
//! named here is not in the binary.

use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::{
    Error, SignatureScheme,
    crypto::{
        CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom, WebPkiSupportedAlgorithms,
        ring::{cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, kx_group::X25519, sign::any_eddsa_type},
    },
    pki_types::PrivateKeyDer,
    sign::SigningKey,
};

/// What signs certificates and handshakes.
pub(super) const SIGNATURES: WebPkiSupportedAlgorithms =
    WebPkiSupportedAlgorithms { all: &[webpki::ring::ED25519], mapping: &[(SignatureScheme::ED25519, &[webpki::ring::ED25519])] };

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_CHACHA20_POLY1305_SHA256],
        kx_groups: vec![X25519],
        signature_verification_algorithms: SIGNATURES,
        secure_random: &Ring,
        key_provider: &Ring,
    })
}

#[derive(Debug)]
struct Ring;

impl SecureRandom for Ring {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        SystemRandom::new().fill(bytes).map_err(|_| GetRandomFailed)
    }
}

impl KeyProvider for Ring {
    fn load_private_key(&self, key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        match &key {
            PrivateKeyDer::Pkcs8(key) => any_eddsa_type(key),
            _ => Err(Error::General("a key that is no PKCS #8".to_owned())),
        }
    }
}
