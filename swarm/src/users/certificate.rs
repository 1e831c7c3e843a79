//! Whose certificate it is.

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use webpki::EndEntityCert;

use super::{Fingerprint, User};

/// What stands before a user's name in the certificate.
const USER: &str = "hcl:user:";

/// The certificate is no user's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this certificate has no user's name in it")]
pub struct BadUser;

impl User {
    /// The user of a certificate that was verified.
    ///
    /// # Errors
    ///
    /// There is not exactly one user's name in it.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, BadUser> {
        let end = EndEntityCert::try_from(certificate).map_err(|_| BadUser)?;
        let mut names = end.valid_uri_names().filter_map(|uri| uri.strip_prefix(USER));
        match (names.next(), names.next()) {
            (Some(name), None) if is_name(name) => {
                let digest = Sha256::digest(certificate);
                let fingerprint = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                Ok(Self { name: name.to_owned(), fingerprint: Fingerprint(fingerprint) })
            }
            _ => Err(BadUser),
        }
    }
}

/// 1 to 32 lower-case letters, digits and hyphens, a letter first: as `hcl user add` takes them.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 32 && name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(plain)
}
