//! What only `GET /containers/ID/json` tells, as far as placing and listing containers needs it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::snapshot::or_default;

/// What only an inspection tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// How much memory it may use, in bytes; zero for all.
    pub memory: u64,
    /// `--cpus`, in billionths of a processor; zero for all.
    pub nano_cpus: u64,
    /// `--cpu-shares`.
    pub cpu_shares: u64,
    /// The ports of the host that it has or will have when it is started, as they were asked for.
    pub published: Vec<Published>,
    /// The container's ports that its image or its maker named, such as `80/tcp`.
    pub exposed: Vec<String>,
    /// `--volumes-from`.
    pub volumes_from: Vec<String>,
    /// `--link`, as the engine keeps them.
    pub links: Vec<String>,
    /// When it was started last, as the engine writes it; the year 1 for never.
    pub started_at: String,
    /// When it ended last.
    pub finished_at: String,
    /// What it ended with.
    pub exit_code: i64,
    /// `starting`, `healthy`, `unhealthy`; empty for one without a health check.
    pub health: String,
}

/// A port of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The container's, such as `80/tcp`.
    pub container: String,
    /// The address on the host; empty for all.
    pub ip: String,
    /// The host's; none where the engine chooses.
    pub port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    #[serde(default, deserialize_with = "or_default")]
    state: State,
    #[serde(default, deserialize_with = "or_default")]
    host_config: HostConfig,
    #[serde(default, deserialize_with = "or_default")]
    config: Config,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct State {
    started_at: String,
    finished_at: String,
    exit_code: i64,
    #[serde(deserialize_with = "or_default")]
    health: Checked,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Checked {
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    #[serde(deserialize_with = "natural")]
    memory: u64,
    #[serde(deserialize_with = "natural")]
    nano_cpus: u64,
    #[serde(deserialize_with = "natural")]
    cpu_shares: u64,
    #[serde(deserialize_with = "or_default")]
    port_bindings: BTreeMap<String, Option<Vec<Binding>>>,
    #[serde(deserialize_with = "or_default")]
    volumes_from: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    links: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Binding {
    #[serde(default)]
    host_ip: String,
    #[serde(default)]
    host_port: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    #[serde(deserialize_with = "or_default")]
    exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
}

/// The engine has signed numbers; below zero is no limit, as zero is.
fn natural<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number: Option<i64> = Option::deserialize(deserializer)?;
    Ok(number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default())
}

impl<'de> Deserialize<'de> for Details {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Inspected { state, host_config, config } = Inspected::deserialize(deserializer)?;
        let mut published = Vec::new();
        for (container, bindings) in host_config.port_bindings {
            for Binding { host_ip, host_port } in bindings.unwrap_or_default() {
                published.push(Published {
                    container: container.clone(),
                    ip: host_ip,
                    port: host_port.parse().ok().filter(|&port| port != 0),
                });
            }
        }
        Ok(Self {
            memory: host_config.memory,
            nano_cpus: host_config.nano_cpus,
            cpu_shares: host_config.cpu_shares,
            published,
            exposed: config.exposed_ports.into_keys().collect(),
            volumes_from: host_config.volumes_from,
            links: host_config.links,
            started_at: state.started_at,
            finished_at: state.finished_at,
            exit_code: state.exit_code,
            health: state.health.status,
        })
    }
}
