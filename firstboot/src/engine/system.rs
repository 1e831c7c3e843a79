//! The engine itself: its versions, and what it says of itself.

use serde::Deserialize;

use super::{Engine, Error, null_is_empty};

/// `GET /version`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    /// The engine's version, such as `26.1.5+dfsg1`.
    pub version: String,
    /// The newest API it speaks.
    pub api_version: String,
    /// Go's name of the architecture that the engine was compiled for: `arm`, `arm64`, `amd64`.
    pub arch: String,
    /// The kernel's release.
    #[serde(default)]
    pub kernel_version: String,
}

/// `GET /info`, as far as a node needs it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Info {
    /// The engine's version.
    #[serde(default)]
    pub server_version: String,
    /// The storage driver.
    #[serde(default)]
    pub driver: String,
    /// Where the engine keeps its files.
    pub docker_root_dir: std::path::PathBuf,
    /// Containers that run.
    #[serde(default)]
    pub containers_running: u32,
    /// All containers.
    #[serde(default)]
    pub containers: u32,
    /// What the engine warns of, a line each.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub warnings: Vec<String>,
    /// The swarm as this engine sees it.
    #[serde(default)]
    pub swarm: SwarmInfo,
}

/// The part of [`Info`] about the swarm.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SwarmInfo {
    /// This node's id in the swarm; empty outside.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// The address that it advertises.
    pub node_addr: String,
    /// `inactive`, `pending`, `active`, `error` or `locked`.
    pub local_node_state: String,
    /// Whether this node is a manager.
    pub control_available: bool,
    /// What is wrong.
    pub error: String,
    /// The managers that it knows.
    #[serde(deserialize_with = "null_is_empty")]
    pub remote_managers: Vec<RemoteManager>,
    /// The cluster, where this node is a manager of one that has a leader.
    pub cluster: Option<SwarmCluster>,
}

/// A manager as another node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RemoteManager {
    /// Its id in the swarm.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Its address and port.
    pub addr: String,
}

/// The swarm's identity.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SwarmCluster {
    /// The swarm's id.
    #[serde(rename = "ID")]
    pub id: String,
}

impl Engine {
    /// The engine's versions.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub fn version(&self) -> Result<Version, Error> {
        self.get("asking for its version", "/version")
    }

    /// What the engine says of itself.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub fn info(&self) -> Result<Info, Error> {
        self.get("asking what it is", "/info")
    }
}
