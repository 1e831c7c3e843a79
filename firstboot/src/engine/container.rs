//! Containers: what there is, and making, starting, stopping and removing one.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{ContainerSpec, Engine, Error, LIMIT, SYSTEM_LABEL, encode, null_is_empty, parse};

/// How long a removal may take that goes on already.
const REMOVAL: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);

/// A container in a list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    names: Vec<String>,
    /// The image's reference, as it was asked for.
    pub image: String,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub state: String,
    /// The state in words, with since when and how it ended.
    pub status: String,
    /// Its labels.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    ports: Vec<Port>,
}

/// A port of a container; without `PublicPort` nobody outside reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Port {
    #[serde(rename = "IP")]
    address: Option<IpAddr>,
    public_port: Option<u16>,
    #[serde(rename = "Type")]
    protocol: String,
}

impl Container {
    /// Its name, without the slash. Links of old give it further ones, which have two.
    pub fn name(&self) -> &str {
        let one = self.names.iter().filter_map(|name| name.strip_prefix('/')).find(|name| !name.contains('/'));
        one.unwrap_or(&self.id)
    }

    /// The TCP ports of its node that lead to it from other machines, by number.
    pub fn ports(&self) -> Vec<u16> {
        let outside = |port: &&Port| port.protocol == "tcp" && port.address.is_some_and(|address| !address.is_loopback());
        let mut ports: Vec<_> = self.ports.iter().filter(outside).filter_map(|port| port.public_port).collect();
        // Each once for IPv4 and once for IPv6.
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Whether it is one of ours.
    pub fn is_ours(&self) -> bool {
        self.labels.contains_key(SYSTEM_LABEL)
    }
}

/// A container with all about it that a node needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    name: String,
    /// The image's id.
    pub image: String,
    /// How it is.
    pub state: ContainerState,
    /// How often its restart policy has started it again since somebody started it.
    #[serde(default)]
    pub restart_count: u32,
    config: Config,
    pub(super) host_config: HostConfig,
}

/// How a container is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerState {
    /// As [`Container::state`].
    pub status: String,
    /// Whether its process runs, or waits to be started again.
    pub running: bool,
    /// Whether its restart policy is about to start it again.
    #[serde(default)]
    pub restarting: bool,
    /// How its process ended; 128 where it could not be started.
    #[serde(default)]
    pub exit_code: i64,
    /// Why it could not be started, the last time.
    #[serde(default)]
    pub error: String,
    /// When it ran first or again, RFC 3339; the year 1 where it never did.
    #[serde(default)]
    pub started_at: String,
}

impl ContainerState {
    /// Whether it ever ran.
    pub fn ran_before(&self) -> bool {
        !self.started_at.is_empty() && !self.started_at.starts_with("0001-")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    #[serde(default, deserialize_with = "null_is_empty")]
    labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostConfig {
    #[serde(default)]
    pub(super) network_mode: String,
    #[serde(default)]
    pub(super) restart_policy: RestartPolicy,
}

/// When the engine starts a container again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// `always`, `unless-stopped`, `on-failure`, `no` or nothing.
    pub name: String,
    /// With `on-failure`: how often at most; 0 is without end.
    #[serde(default)]
    pub maximum_retry_count: u32,
}

impl Inspected {
    /// Its name, without the slash.
    pub fn name(&self) -> &str {
        self.name.strip_prefix('/').unwrap_or(&self.name)
    }

    /// Its labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.config.labels
    }

    /// Whether it is one of ours.
    pub fn is_ours(&self) -> bool {
        self.labels().contains_key(SYSTEM_LABEL)
    }

    /// Its restart policy.
    pub fn restart_policy(&self) -> &RestartPolicy {
        &self.host_config.restart_policy
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
}

impl Engine {
    /// All containers, those that do not run as well.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub fn containers(&self) -> Result<Vec<Container>, Error> {
        self.get("listing containers", "/containers/json?all=true")
    }

    /// A container by name or id, or none.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub fn container(&self, name: &str) -> Result<Option<Inspected>, Error> {
        self.find(&format!("looking at the container {name}"), &format!("/containers/{}/json", encode(name)))
    }

    /// Makes a container, which does not run yet, of the image with this id; its id.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses.
    pub fn create_container(&self, spec: &ContainerSpec, image_id: &str) -> Result<String, Error> {
        let doing = format!("making the container {}", spec.name);
        let path = format!("/containers/create?name={}", encode(&spec.name));
        let response = self.post(&doing, &path, Some(&spec.body(image_id)))?;
        parse(&doing, &response).map(|Created { id }| id)
    }

    /// Starts a container. One that runs is left alone.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses.
    pub fn start_container(&self, name: &str) -> Result<(), Error> {
        self.post(&format!("starting the container {name}"), &format!("/containers/{}/start", encode(name)), None).map(|_| ())
    }

    /// Asks a container to end and kills it after `patience`. One that does not run or is not there has ended.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses.
    pub fn stop_container(&self, name: &str, patience: Duration) -> Result<(), Error> {
        let doing = format!("stopping the container {name}");
        let path = format!("/containers/{}/stop?t={}", encode(name), patience.as_secs());
        match self.call(&doing, "POST", &path, None, LIMIT + patience) {
            Err(error) if !error.is_refusal(404) => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes a container with its anonymous volumes, running or not, and waits until its name is free.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses, or does not come to an end within a minute.
    pub fn remove_container(&self, name: &str) -> Result<(), Error> {
        let doing = format!("removing the container {name}");
        let path = format!("/containers/{}?force=true&v=true", encode(name));
        let until = Instant::now() + REMOVAL;
        loop {
            match self.delete(&doing, &path) {
                // Somebody else removes it.
                Err(error) if error.is_refusal(409) => {}
                done => return done,
            }
            if self.container(name)?.is_none() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(Error::TooSlow { doing, limit: REMOVAL });
            }
            thread::sleep(PAUSE);
        }
    }
}
