//! What engines list: containers, images, networks, volumes.
//!
//! Each keeps the few fields that are asked for here, and the engine's own words for whoever passes them on.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{inspect::Details, snapshot::or_default};

/// A container.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its id, 64 digits.
    pub id: String,
    /// Its names as the engine has them: each begins with a slash, and those of old links have two.
    pub names: Vec<String>,
    /// Its image, by the name that was asked for.
    pub image: String,
    /// Its image's id.
    pub image_id: String,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub state: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The ports that it has open now.
    pub ports: Vec<Port>,
    /// Its `HostConfig.NetworkMode`.
    pub network_mode: String,
    /// What only an inspection tells.
    pub details: Details,
    /// The entry of `GET /containers/json`, as the engine wrote it.
    pub raw: Box<RawValue>,
}

impl Container {
    /// Its name, without the slash; the id where it has none.
    pub fn name(&self) -> &str {
        let own = self.names.iter().filter_map(|name| name.strip_prefix('/')).find(|name| !name.contains('/'));
        own.unwrap_or(&self.id)
    }

    /// Whether it has this name, given with or without its slash.
    pub fn is_named(&self, name: &str) -> bool {
        let name = name.strip_prefix('/').unwrap_or(name);
        self.names.iter().any(|own| own.strip_prefix('/').unwrap_or(own) == name)
    }

    /// Whether it runs, paused ones included.
    pub fn is_running(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "restarting")
    }
}

/// An open port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Port {
    /// The address on the host; empty where it is not published.
    #[serde(rename = "IP", default)]
    pub ip: String,
    /// The container's.
    pub private_port: u16,
    /// The host's; none where it is not published.
    #[serde(default)]
    pub public_port: Option<u16>,
    /// `tcp`, `udp` or `sctp`.
    #[serde(rename = "Type", default)]
    pub protocol: String,
}

/// An image.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its id, with `sha256:`.
    pub id: String,
    /// Its names with tags; without `<none>:<none>`.
    pub tags: Vec<String>,
    /// Its names with digests.
    pub digests: Vec<String>,
    /// The entry of `GET /images/json`, as the engine wrote it.
    pub raw: Box<RawValue>,
}

/// A network.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its id; the same on all nodes for one of the whole swarm.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `bridge`, `overlay` and the like.
    pub driver: String,
    /// `local`, or `swarm` for one of the whole swarm.
    pub scope: String,
    /// The entry of `GET /networks`, as the engine wrote it.
    pub raw: Box<RawValue>,
}

/// A volume.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// The entry of `GET /volumes`, as the engine wrote it.
    pub raw: Box<RawValue>,
}

/// An entry that can be read.
pub(super) trait Entry: Sized {
    fn read(raw: Box<RawValue>) -> Result<Self, serde_json::Error>;
}

/// The entry of `GET /containers/json`, before its details are known.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) fields: ListedFields,
    pub(super) raw: Box<RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListedFields {
    pub(super) id: String,
    #[serde(default, deserialize_with = "or_default")]
    names: Vec<String>,
    #[serde(default)]
    image: String,
    #[serde(rename = "ImageID", default)]
    image_id: String,
    #[serde(default)]
    created: i64,
    #[serde(default)]
    pub(super) state: String,
    #[serde(default, deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<Port>,
    #[serde(default, deserialize_with = "or_default")]
    host_config: ListedHost,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ListedHost {
    network_mode: String,
}

impl Entry for Listed {
    fn read(raw: Box<RawValue>) -> Result<Self, serde_json::Error> {
        Ok(Self { fields: serde_json::from_str(raw.get())?, raw })
    }
}

impl Listed {
    pub(super) fn with(self, details: Details) -> Container {
        let ListedFields { id, names, image, image_id, created, state, labels, ports, host_config } = self.fields;
        let network_mode = host_config.network_mode;
        Container { id, names, image, image_id, created, state, labels, ports, network_mode, details, raw: self.raw }
    }
}

impl Entry for Image {
    fn read(raw: Box<RawValue>) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Fields {
            id: String,
            #[serde(default, deserialize_with = "or_default")]
            repo_tags: Vec<String>,
            #[serde(default, deserialize_with = "or_default")]
            repo_digests: Vec<String>,
        }
        let Fields { id, mut repo_tags, mut repo_digests } = serde_json::from_str(raw.get())?;
        repo_tags.retain(|tag| !tag.starts_with("<none>"));
        repo_digests.retain(|digest| !digest.starts_with("<none>"));
        Ok(Self { id, tags: repo_tags, digests: repo_digests, raw })
    }
}

impl Entry for Network {
    fn read(raw: Box<RawValue>) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Fields {
            id: String,
            name: String,
            #[serde(default)]
            driver: String,
            #[serde(default)]
            scope: String,
        }
        let Fields { id, name, driver, scope } = serde_json::from_str(raw.get())?;
        Ok(Self { id, name, driver, scope, raw })
    }
}

impl Entry for Volume {
    fn read(raw: Box<RawValue>) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Fields {
            name: String,
            #[serde(default)]
            driver: String,
        }
        let Fields { name, driver } = serde_json::from_str(raw.get())?;
        Ok(Self { name, driver, raw })
    }
}
