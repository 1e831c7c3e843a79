//! What an engine is, and what is on it, at one moment.

use std::{sync::Arc, time::SystemTime};

use serde::{Deserialize, Deserializer};

use super::{Container, Image, Network, Volume};

/// An engine at one moment. Cheap to clone: everything in it is shared.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Whether the engine answers. What it said last stays when it does not.
    pub health: Health,
    /// What it is; none until it answered for the first time.
    pub info: Option<Arc<Info>>,
    /// All its containers, those that do not run included; the youngest first, as engines list them.
    pub containers: Arc<[Arc<Container>]>,
    /// Its images, as it lists them: the youngest first.
    pub images: Arc<[Arc<Image>]>,
    /// Its networks.
    pub networks: Arc<[Arc<Network>]>,
    /// Its volumes.
    pub volumes: Arc<[Arc<Volume>]>,
    /// When it last said all of it.
    pub updated_at: Option<SystemTime>,
}

impl Snapshot {
    /// The engine's id, once it is known.
    pub fn id(&self) -> Option<&str> {
        self.info.as_ref().map(|info| info.id.as_str())
    }

    /// Whether the engine answers.
    pub fn is_healthy(&self) -> bool {
        self.health == Health::Healthy
    }
}

/// Whether an engine answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Nobody knows yet: it is being asked for the first time.
    #[default]
    Pending,
    /// It does.
    Healthy,
    /// It does not.
    Unhealthy {
        /// Why, in one line.
        why: String,
        /// Since when.
        since: SystemTime,
    },
}

/// `GET /info` and `GET /version`, as far as anybody here needs them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// The engine's id.
    #[serde(rename = "ID", deserialize_with = "or_default")]
    pub id: String,
    /// The host name.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// The storage driver.
    #[serde(deserialize_with = "or_default")]
    pub driver: String,
    /// The kernel's version.
    #[serde(deserialize_with = "or_default")]
    pub kernel_version: String,
    /// The distribution.
    #[serde(deserialize_with = "or_default")]
    pub operating_system: String,
    /// `linux`.
    #[serde(rename = "OSType", deserialize_with = "or_default")]
    pub os_type: String,
    /// As `uname -m` says.
    #[serde(deserialize_with = "or_default")]
    pub architecture: String,
    /// How many processors.
    #[serde(rename = "NCPU", deserialize_with = "or_default")]
    pub cpus: u64,
    /// How much memory, in bytes.
    #[serde(rename = "MemTotal", deserialize_with = "or_default")]
    pub memory: u64,
    /// The engine's labels, `key=value`.
    #[serde(deserialize_with = "or_default")]
    pub labels: Vec<String>,
    /// The engine's version.
    #[serde(deserialize_with = "or_default")]
    pub server_version: String,
    /// How many containers.
    #[serde(deserialize_with = "or_default")]
    pub containers: u64,
    /// How many of them run.
    #[serde(deserialize_with = "or_default")]
    pub containers_running: u64,
    /// How many are paused.
    #[serde(deserialize_with = "or_default")]
    pub containers_paused: u64,
    /// How many are stopped.
    #[serde(deserialize_with = "or_default")]
    pub containers_stopped: u64,
    /// How many images, those without a name included.
    #[serde(deserialize_with = "or_default")]
    pub images: u64,
    /// Its part in the swarm.
    #[serde(deserialize_with = "or_default")]
    pub swarm: SwarmInfo,
    /// The newest version of the API that it speaks, such as `1.45`.
    #[serde(skip)]
    pub api_version: String,
    /// The oldest one.
    #[serde(skip)]
    pub min_api_version: String,
}

/// An engine's part in the swarm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SwarmInfo {
    /// Its id as a node of the swarm.
    #[serde(rename = "NodeID", deserialize_with = "or_default")]
    pub node_id: String,
    /// The address that it told the swarm.
    #[serde(deserialize_with = "or_default")]
    pub node_addr: String,
    /// Whether it takes part.
    #[serde(rename = "LocalNodeState", deserialize_with = "or_default")]
    pub state: SwarmState,
    /// Whether it is a manager that can change things.
    #[serde(deserialize_with = "or_default")]
    pub control_available: bool,
}

/// Whether an engine takes part in the swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwarmState {
    /// It does.
    Active,
    /// It wants to.
    Pending,
    /// Its keys are locked.
    Locked,
    /// Something is wrong.
    Error,
    /// It does not.
    #[default]
    #[serde(other)]
    Inactive,
}

/// Engines write `null` where there is nothing.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
