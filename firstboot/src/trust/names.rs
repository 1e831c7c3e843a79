//! The names in certificates: whose they are.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use super::{
    certificate::alternative_names,
    der::{self, value},
};
use crate::{config::HostName, identity::NodeId};

/// GeneralName's choices (RFC 5280 section 4.2.1.6).
const DNS_NAME: u8 = der::implicit(2);
const URI: u8 = der::implicit(6);
const IP_ADDRESS: u8 = der::implicit(7);
/// What stands before a node's id in its certificate.
const NODE: &str = "hcl:node:";

/// The names cannot stand in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNames {
    /// The host name.
    #[error("the host name is no DNS label that a node may have")]
    Name,
    /// The user's name.
    #[error("a user's name has 1 to 32 lower-case letters, digits and hyphens, and begins with a letter")]
    User,
}

/// What a node says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNames {
    node: NodeId,
    address: Ipv4Addr,
    name: String,
}

impl NodeNames {
    /// The node `node` at its own `address` in the cluster's subnet, with the host name `name`.
    ///
    /// # Errors
    ///
    /// The name is none for a node: no DNS label, or one that means another thing, such as `master`.
    pub fn new(node: NodeId, address: Ipv4Addr, name: &str) -> Result<Self, BadNames> {
        match name.parse() {
            Ok(HostName::Named(name)) => Ok(Self { node, address, name }),
            _ => Err(BadNames::Name),
        }
    }

    /// The id.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As they stand in the certificate, in this order.
    pub(super) fn general_names(&self) -> [Vec<u8>; 3] {
        [uri(&format!("{NODE}{}", self.node)), address(IpAddr::V4(self.address)), dns(&self.name)]
    }

    /// Those of a certificate that was verified. `None` unless it has just these names in this order.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let mut names = alternative_names(certificate)?;
        let text = |content| std::str::from_utf8(content).ok();
        let node = text(names.expect(URI)?)?.strip_prefix(NODE)?;
        let address = <[u8; 4]>::try_from(names.expect(IP_ADDRESS)?).ok()?;
        let name = text(names.expect(DNS_NAME)?)?;
        // The parser takes upper case as well, and one node must have one name.
        let id = node.parse().ok().filter(|id: &NodeId| id.to_string() == node)?;
        if names.is_empty() { Self::new(id, address.into(), name).ok() } else { None }
    }
}

impl fmt::Display for NodeNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, node {})", self.name, self.address, self.node)
    }
}

/// The node at the other end of a [`Session`](super::Session). There is one only after its certificate and its signature over the
/// handshake were verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer(NodeNames);

impl Peer {
    /// For verified sessions only.
    pub(super) fn verified(names: NodeNames) -> Self {
        Self(names)
    }

    /// Its id.
    pub fn node(&self) -> NodeId {
        self.0.node
    }

    /// Its own address in the cluster's subnet.
    pub fn address(&self) -> Ipv4Addr {
        self.0.address
    }

    /// Its host name.
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a person: 1 to 32 lower-case letters, digits and hyphens, a letter first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserName(String);

impl UserName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = BadNames;

    fn from_str(text: &str) -> Result<Self, BadNames> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let right = text.len() <= 32 && text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(plain);
        if right { Ok(Self(text.to_owned())) } else { Err(BadNames::User) }
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

pub(super) fn dns(name: &str) -> Vec<u8> {
    value(DNS_NAME, &[name.as_bytes()])
}

pub(super) fn uri(text: &str) -> Vec<u8> {
    value(URI, &[text.as_bytes()])
}

pub(super) fn address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => value(IP_ADDRESS, &[&address.octets()]),
        IpAddr::V6(address) => value(IP_ADDRESS, &[&address.octets()]),
    }
}
