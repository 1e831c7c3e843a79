//! What the engine says of a container, as far as it matters here.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::local::null_is_default;

/// A line of the engine's list (`GET /containers/json`).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listed {
    /// Its whole id.
    pub id: String,
    /// Its names, each with a slash before it, those by links too.
    #[serde(default, deserialize_with = "null_is_default")]
    pub names: Vec<String>,
    /// Such as `running` and `paused`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub state: String,
    /// Its ports.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ports: BTreeSet<ListedPort>,
}

/// A port in the engine's list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListedPort {
    /// The address of the node that it is published at.
    #[serde(default, rename = "IP")]
    pub ip: String,
    /// In the container.
    #[serde(default)]
    pub private_port: u16,
    /// On the node; zero where it is not published.
    #[serde(default)]
    pub public_port: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(default, rename = "Type")]
    pub protocol: String,
}

/// A container (`GET /containers/ID/json`).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// Its whole id.
    pub id: String,
    /// Its name, with a slash before it.
    pub name: String,
    /// How it is.
    #[serde(default)]
    pub state: ContainerState,
    /// What it was made of.
    #[serde(default)]
    pub config: Config,
    /// How it meets its node.
    #[serde(default)]
    pub host_config: HostConfig,
    /// What the engine gave it.
    #[serde(default)]
    pub network_settings: NetworkSettings,
}

/// How a container is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// Whether it runs; also while it is paused.
    pub running: bool,
    /// Whether it is paused.
    pub paused: bool,
}

/// What a container was made of.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// The image, as it was named.
    pub image: String,
    /// Variables, `NAME=VALUE`.
    #[serde(deserialize_with = "null_is_default")]
    pub env: Vec<String>,
    /// Labels.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// Ports that it says it has, such as `80/tcp`.
    #[serde(deserialize_with = "null_is_default")]
    pub exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
}

/// How a container meets its node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// Such as `bridge`, `host`, `container:ID`, or a network's name.
    pub network_mode: String,
}

/// What the engine gave a container.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// Where on the node each port, such as `80/tcp`, is.
    #[serde(deserialize_with = "null_is_default")]
    pub ports: BTreeMap<String, Option<Vec<Binding>>>,
}

/// A place on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Binding {
    /// An address; empty or `0.0.0.0` for all of them.
    pub host_ip: String,
    /// A port, as text.
    pub host_port: String,
}
