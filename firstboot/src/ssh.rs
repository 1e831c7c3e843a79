//! The cluster's authority for SSH host keys: who has the cluster key knows every node's host key, without having seen it.
//!
//! [`HostAuthority`] follows from the cluster key, as the authorities for TLS do. A node signs its own [`HostKey`] for its names; the
//! others, and whoever built the card, take what it signed. Formats: OpenSSH's PROTOCOL.certkeys (`ssh-ed25519-cert-v01@openssh.com`),
//! RFC 4251 section 5, RFC 8709, and sshd(8) for `known_hosts`.
//!
//! The same key, host key and names give the same certificate, so that one that is as it should be need not be written again.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use data_encoding::BASE64;
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};

use crate::{config::Subnet, key::ClusterKey};

const ED25519: &str = "ssh-ed25519";
const CERTIFICATE: &str = "ssh-ed25519-cert-v01@openssh.com";
/// SSH_CERT_TYPE_HOST.
const HOST: u32 = 2;

/// Signs host keys.
pub struct HostAuthority {
    key: Ed25519KeyPair,
    alias: String,
}

/// The public half of a node's Ed25519 host key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HostKey([u8; 32]);

/// The line is no public Ed25519 key as OpenSSH writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no public Ed25519 key of OpenSSH's")]
pub struct BadHostKey;

impl HostAuthority {
    /// That of the cluster of `key`.
    pub fn new(key: &ClusterKey) -> Self {
        let seed = key.secret("hcl 1 ca ssh");
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are an Ed25519 seed (RFC 8032 section 5.1.5)");
        Self { key: pair, alias: format!("hcl-{}", key.cluster().short()) }
    }

    /// The name that every node's certificate has besides its own: any node of this cluster. It is what a name that moves is checked
    /// by (`HostKeyAlias`), such as `master`: a node's certificate does not have that one, since it would have to be signed and read
    /// anew wherever the role goes, and the node that had it would keep it until then.
    pub fn alias(&self) -> &str {
        &self.alias
    }

    /// The public key, as a `.pub` file has it, without a comment.
    pub fn public(&self) -> String {
        format!("{ED25519} {}", BASE64.encode(&blob(self.key.public_key().as_ref())))
    }

    /// A line for `known_hosts`: hosts of these `patterns` have certificates of this authority. The patterns are names, with `*` and
    /// `?`, and without spaces or commas.
    pub fn known_hosts(&self, patterns: &[String]) -> String {
        format!("@cert-authority {} {} {}\n", patterns.join(","), self.public(), self.alias)
    }

    /// The certificate of `host`, the node `name` at `address`, as a line for a `-cert.pub` file: for its name, with and without
    /// `.local`, its address, and [`alias`](Self::alias). It does not end, for a board may not know the time.
    pub fn sign(&self, host: &HostKey, name: &str, address: Ipv4Addr) -> String {
        let principals = [name.to_owned(), format!("{name}.local"), address.to_string(), self.alias.clone()];
        let principals = principals.iter().fold(Vec::new(), |list, name| string(list, name.as_bytes()));
        let mut rest = string(Vec::new(), &host.0);
        // A serial number of zero: none.
        rest.extend(0_u64.to_be_bytes());
        rest.extend(HOST.to_be_bytes());
        rest = string(rest, name.as_bytes());
        rest = string(rest, &principals);
        // From when to when: always.
        rest.extend(0_u64.to_be_bytes());
        rest.extend(u64::MAX.to_be_bytes());
        // Critical options, extensions, reserved: hosts have none.
        for _ in 0..3 {
            rest = string(rest, b"");
        }
        rest = string(rest, &blob(self.key.public_key().as_ref()));
        // The nonce keeps collisions of a weak hash from being prepared; Ed25519 needs none, and one that is random would be another
        // certificate at each start.
        let nonce = Sha256::digest(&rest);
        let mut certificate = string(string(Vec::new(), CERTIFICATE.as_bytes()), &nonce);
        certificate.extend(rest);
        let signature = self.key.sign(&certificate);
        let signature = string(string(Vec::new(), ED25519.as_bytes()), signature.as_ref());
        format!("{CERTIFICATE} {} {name}\n", BASE64.encode(&string(certificate, &signature)))
    }
}

impl fmt::Debug for HostAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostAuthority of {}", self.alias)
    }
}

impl FromStr for HostKey {
    type Err = BadHostKey;

    fn from_str(line: &str) -> Result<Self, BadHostKey> {
        let mut words = line.split_ascii_whitespace();
        let (Some(ED25519), Some(text)) = (words.next(), words.next()) else { return Err(BadHostKey) };
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| BadHostKey)?;
        // It has one form only: what stands before the key is always the same.
        let key = bytes.strip_prefix(&blob(&[0; 32])[..19]).ok_or(BadHostKey)?;
        key.try_into().map(Self).map_err(|_| BadHostKey)
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ED25519} {}", BASE64.encode(&blob(&self.0)))
    }
}

/// The patterns of `known_hosts` for all addresses of `subnet`, as narrow as whole octets are: nothing else can be said there.
pub fn patterns(subnet: Subnet) -> Vec<String> {
    let [a, b, ..] = subnet.network().octets();
    let [.., last_c, _] = subnet.broadcast().octets();
    match subnet.prefix() {
        16 => vec![format!("{a}.{b}.*")],
        _ => (subnet.network().octets()[2]..=last_c).map(|c| format!("{a}.{b}.{c}.*")).collect(),
    }
}

/// A public key as SSH has it on the wire (RFC 8709 section 4).
fn blob(public: &[u8]) -> Vec<u8> {
    string(string(Vec::new(), ED25519.as_bytes()), public)
}

/// `to` with a string of RFC 4251 section 5 behind it.
fn string(mut to: Vec<u8>, content: &[u8]) -> Vec<u8> {
    // Everything here is some hundred bytes long.
    to.extend((content.len() as u32).to_be_bytes());
    to.extend(content);
    to
}

#[cfg(test)]
mod tests;
