//! `/etc/hcl/node.toml`: how a node is set up. Written by the builder from the manifest's `[node]` section, read by
//! the node program on every boot; one type for both sides.
//!
//! A [`NodeConfig`] that exists is right: each key has a type that cannot hold a bad value, and [`Addresses`] checks
//! what only several keys together can get wrong.

mod addresses;
mod names;
mod overrides;
pub mod pools;
mod vlan;

use std::{fmt, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::{
    addresses::{Addresses, BadAddresses, HostRange, LeaseTime, Subnet},
    names::{ClusterName, HostName, InterfaceName, WiredInterface},
    overrides::{BOOT_FOLDER, LONGEST as LONGEST_OVERRIDES, OVERRIDES, Overrides},
    vlan::{Vlan, VlanId},
};

/// Where the file lies on a node.
pub const PATH: &str = "/etc/hcl/node.toml";

/// The whole of `node.toml`. Every key has a default, unknown keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Keys", into = "Keys")]
pub struct NodeConfig {
    /// Which cluster this card belongs to; a name for people, the cluster key is what counts.
    pub cluster: ClusterName,
    /// The node's host name, or made from the MAC.
    pub hostname: HostName,
    /// Which wired interface carries the cluster.
    pub interface: WiredInterface,
    /// The cluster's 802.1Q VLAN on that interface, or none.
    pub vlan: Vlan,
    /// The cluster's subnet and who gets which part of it.
    pub addresses: Addresses,
    /// For how long the cluster's DHCP server lends an address.
    pub lease: LeaseTime,
}

/// The keys as they stand in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "NodeConfig"))]
#[serde(deny_unknown_fields, default)]
struct Keys {
    /// Name of the cluster: 1 to 32 lower-case letters, digits and hyphens. For people; the key decides who belongs together.
    cluster: ClusterName,
    /// Host name of the node, or `auto`: `node-` and the last three bytes of the wired MAC.
    hostname: HostName,
    /// Name of the wired interface, or `auto`: the first one that has a carrier.
    interface: WiredInterface,
    /// 802.1Q id of the cluster's VLAN, 1 to 4094, or `off` where the nodes have a switch of their own.
    vlan: Vlan,
    /// The cluster's IPv4 subnet: private (RFC 1918), /16 to /28. The three keys below count from its network address.
    subnet: Subnet,
    /// Number of the leader's address in the subnet: 1 is 192.168.200.1.
    leader: u32,
    /// Numbers of the members' addresses, `first-last`.
    members: HostRange,
    /// Numbers of the addresses lent to machines that are no members, and of temporary ones, `first-last`.
    strangers: HostRange,
    /// DHCP lease time, such as `1h`: two minutes to seven days.
    lease: LeaseTime,
}

impl Default for Keys {
    fn default() -> Self {
        NodeConfig::default().into()
    }
}

impl TryFrom<Keys> for NodeConfig {
    type Error = BadAddresses;

    fn try_from(keys: Keys) -> Result<Self, BadAddresses> {
        Ok(Self {
            cluster: keys.cluster,
            hostname: keys.hostname,
            interface: keys.interface,
            vlan: keys.vlan,
            addresses: Addresses::new(keys.subnet, keys.leader, keys.members, keys.strangers)?,
            lease: keys.lease,
        })
    }
}

impl From<NodeConfig> for Keys {
    fn from(config: NodeConfig) -> Self {
        Self {
            cluster: config.cluster,
            hostname: config.hostname,
            interface: config.interface,
            vlan: config.vlan,
            subnet: config.addresses.subnet(),
            leader: config.addresses.leader_number(),
            members: config.addresses.member_range(),
            strangers: config.addresses.stranger_range(),
            lease: config.lease,
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for NodeConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Keys::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Keys::json_schema(generator)
    }
}

/// Why `node.toml` could not be used. One line: file, line, key, value, what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file has a line that is wrong.
    #[error("{path}{line}{key}: {reason}")]
    Content {
        /// The file.
        path: String,
        /// The line, counted from 1, where one line is to blame.
        line: At<usize>,
        /// The key, where one key is to blame.
        key: At<String>,
        /// What is wrong and what is allowed.
        reason: String,
    },
}

/// A place in the file that may be unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T>(pub Option<T>);

impl fmt::Display for At<usize> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

impl fmt::Display for At<String> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |key| write!(f, ": key `{key}`"))
    }
}

impl ConfigError {
    /// Something about the file as a whole.
    fn whole(name: &str, reason: impl Into<String>) -> Self {
        Self::Content { path: name.to_owned(), line: At(None), key: At(None), reason: reason.into() }
    }

    /// Something about one line.
    fn at(name: &str, line: usize, reason: impl Into<String>) -> Self {
        Self::Content { path: name.to_owned(), line: At(Some(line)), key: At(None), reason: reason.into() }
    }
}

/// What the TOML reader says of `text`, with the place.
fn misplaced(text: &str, name: &str, error: &toml::de::Error) -> ConfigError {
    let whole = 0..text.len();
    let place = error.span().filter(|span| *span != whole && span.start <= text.len());
    let line = place.as_ref().map(|span| text.as_bytes()[..span.start].iter().filter(|byte| **byte == b'\n').count() + 1);
    let key = line.and_then(|line| text.lines().nth(line - 1)?.split_once('='));
    ConfigError::Content {
        path: name.to_owned(),
        line: At(line),
        key: At(key.map(|(key, _)| key.trim().to_owned())),
        reason: error.message().replace('\n', "; "),
    }
}

impl NodeConfig {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is no TOML, or a key in it is wrong.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: name.clone(), source })?;
        Self::parse(&text, &name)
    }

    /// Reads the configuration from `text`; `name` is what errors call it.
    ///
    /// # Errors
    ///
    /// The text is no TOML or a key in it is wrong.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| misplaced(text, name, &error))
    }

    /// The configuration as a file for people: every key with a comment.
    pub fn to_toml(&self) -> String {
        let Self { cluster, hostname, interface, vlan, addresses, lease } = self;
        let (subnet, leader) = (addresses.subnet(), addresses.leader_number());
        let (members, strangers) = (addresses.member_range(), addresses.stranger_range());
        let vlan = match vlan {
            Vlan::Off => "\"off\"".to_owned(),
            Vlan::Id(id) => id.to_string(),
        };
        format!(
            r#"# How this node is set up. Read on every boot by hcl-firstboot; `systemctl restart hcl-firstboot` applies a change.

# Name of the cluster, for people: lower-case letters, digits, hyphens.
cluster = "{cluster}"

# Host name, or "auto": `node-` and the last three bytes of the wired MAC.
hostname = "{hostname}"

# Wired interface that carries the cluster, or "auto": the first one that has a carrier.
interface = "{interface}"

# 802.1Q id of the cluster's VLAN, 1 to 4094, or "off" where the nodes have a switch of their own.
vlan = {vlan}

# The cluster's private IPv4 subnet; the three keys after it are numbers of addresses in it.
subnet = "{subnet}"
leader = {leader}
members = "{members}"
strangers = "{strangers}"

# For how long the cluster's DHCP server lends an address: "2m" to "7d".
lease = "{lease}"
"#
        )
    }
}

impl FromStr for NodeConfig {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::parse(text, "node.toml")
    }
}

/// `Display`, `Serialize` and `Deserialize` of a type that stands as a string in the file, by its `FromStr`, whose error is the text of
/// what is allowed.
macro_rules! string_key {
    ($type:ty, $expected:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}
use string_key;

#[cfg(test)]
mod tests;
