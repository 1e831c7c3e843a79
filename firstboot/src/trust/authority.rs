//! The three authorities, and what each of them issues.

use std::net::{IpAddr, Ipv4Addr};

use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};

use super::{
    certificate::{Content, Usage, Validity, authority_extensions, end_extensions, pem, private_key},
    names::{self, NodeNames, UserName},
};
use crate::key::{ClusterKey, hex};

/// Consul's datacenter, which its names contain.
pub(crate) const DATACENTER: &str = "hcl";

/// A certificate with its private key, which nothing shows.
pub struct Issued {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Issued {
    /// The certificate in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The certificate as a file has it.
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// SHA-256 of the certificate in DER, hexadecimal: what it is known by where it is let in or refused.
    pub fn fingerprint(&self) -> String {
        hex(&Sha256::digest(&self.certificate))
    }

    /// The private key as PKCS #8 in DER. Secret.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The private key as a file has it. Secret: a file of mode 0600.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issued")
    }
}

/// For TLS between nodes: the join service, and what nodes tell each other.
pub struct Nodes(pub(super) Authority);

impl Nodes {
    pub(super) fn new(key: &ClusterKey) -> Self {
        Self(Authority::new(key, "nodes"))
    }

    /// The authority's certificate in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.0.certificate
    }

    /// The authority's certificate as a file has it.
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", self.certificate())
    }

    /// A certificate of a node, to serve and to ask. `seed` becomes the private key: random bytes that were never used before.
    pub fn issue(&self, names: &NodeNames, validity: Validity, seed: &[u8; 32]) -> Issued {
        self.0.issue(names.name(), Usage::Both, &names.general_names(), validity, seed)
    }
}

/// What a Consul agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsulRole {
    /// One that keeps the state. Only a certificate of this role passes `verify_server_hostname`.
    Server,
    /// Any other.
    Client,
}

/// For Consul's RPC.
pub struct Consul(pub(super) Authority);

impl Consul {
    pub(super) fn new(key: &ClusterKey) -> Self {
        Self(Authority::new(key, "consul"))
    }

    /// The authority's certificate in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.0.certificate
    }

    /// The authority's certificate as a file has it, for Consul's `ca_file`.
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", self.certificate())
    }

    /// The certificate of the agent at `address`: for `ROLE.hcl.consul`, `localhost`, the address and 127.0.0.1. `seed` as for
    /// [`Nodes::issue`].
    pub fn issue(&self, role: ConsulRole, address: Ipv4Addr, seed: &[u8; 32]) -> Issued {
        let name = match role {
            ConsulRole::Server => format!("server.{DATACENTER}.consul"),
            ConsulRole::Client => format!("client.{DATACENTER}.consul"),
        };
        let names = [
            names::dns(&name),
            names::dns("localhost"),
            names::address(IpAddr::V4(address)),
            names::address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ];
        self.0.issue(&name, Usage::Both, &names, Validity::LIFE, seed)
    }
}

/// For people, who ask, and for the port at which they ask.
pub struct Users(pub(super) Authority);

impl Users {
    pub(super) fn new(key: &ClusterKey) -> Self {
        Self(Authority::new(key, "users"))
    }

    /// The authority's certificate in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.0.certificate
    }

    /// The authority's certificate as a file has it.
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", self.certificate())
    }

    /// The certificate of the user `name`. `seed` as for [`Nodes::issue`].
    pub fn issue(&self, name: &UserName, validity: Validity, seed: &[u8; 32]) -> Issued {
        let names = [names::uri(&format!("hcl:user:{name}"))];
        self.0.issue(name.as_str(), Usage::Client, &names, validity, seed)
    }

    /// The certificate that people's clients see: of a node that serves them, under every name and address by which they may ask for it.
    /// `leader` is the address that goes with the leader's role; `seed` as for [`Nodes::issue`].
    pub fn issue_server(&self, node: &NodeNames, leader: Ipv4Addr, seed: &[u8; 32]) -> Issued {
        let own = node.name();
        // Whoever serves may come to lead, and `master` asks for whoever leads. `localhost` is for forwarded ports.
        let names = ["master", "master.local", own, &format!("{own}.local"), "localhost"].map(names::dns);
        let addresses = [leader, node.address(), Ipv4Addr::LOCALHOST].map(|address| names::address(IpAddr::V4(address)));
        self.0.issue(own, Usage::Server, &[&names[..], &addresses[..]].concat(), Validity::LIFE, seed)
    }
}

/// A key that signs, and its certificate.
pub(super) struct Authority {
    name: String,
    key: Ed25519KeyPair,
    certificate: Vec<u8>,
}

impl Authority {
    /// Serial number, subject and dates never change, and Ed25519 has no random part: one cluster key, one certificate.
    fn new(key: &ClusterKey, what: &str) -> Self {
        let name = format!("HCL {} {what}", key.cluster().short());
        let key = key_pair(&key.secret(&format!("hcl 1 ca {what}")));
        let public = key.public_key().as_ref();
        let content = Content {
            serial: &[1],
            issuer: &name,
            subject: &name,
            validity: Validity::LIFE,
            key: public,
            extensions: &authority_extensions(public),
        };
        let certificate = content.sign(&key);
        Self { name, key, certificate }
    }

    pub(super) fn issue(&self, subject: &str, usage: Usage, names: &[Vec<u8>], validity: Validity, seed: &[u8; 32]) -> Issued {
        let pair = key_pair(seed);
        let public = pair.public_key().as_ref();
        // Nodes issue on their own and count nothing: a number drawn from the key is as unique as the key.
        let mut serial = [0; 16];
        serial.copy_from_slice(&Sha256::digest(public)[..16]);
        serial[0] = serial[0] & 0x7f | 0x40;
        let extensions = end_extensions(public, self.key.public_key().as_ref(), usage, names);
        let content = Content { serial: &serial, issuer: &self.name, subject, validity, key: public, extensions: &extensions };
        Issued { certificate: content.sign(&self.key), key: private_key(seed) }
    }
}

fn key_pair(seed: &[u8; 32]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are an Ed25519 seed (RFC 8032 section 5.1.5)")
}
