//! The engine's other objects, and which of all are a user's.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Engine, Error, SYSTEM_LABEL, SwarmState, encode, null_is_empty};

/// An image in the engine's store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Image {
    /// Its id, `sha256:` and 64 hexadecimal digits.
    pub id: String,
    /// Its references, such as `hcl/consul:1.8.7`.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub repo_tags: Vec<String>,
    /// Its size in bytes, unpacked, with layers that others share.
    #[serde(default)]
    pub size: u64,
}

/// A network that the engine knows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `bridge`, `overlay`, `host`, `null` or another driver.
    pub driver: String,
    /// `local` or `swarm`.
    pub scope: String,
    /// Whether it is the routing mesh's.
    #[serde(default)]
    pub ingress: bool,
    /// Whether plain containers may use an overlay.
    #[serde(default)]
    pub attachable: bool,
    /// Its labels.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Network {
    /// Whether every engine has it, or every swarm.
    pub fn is_predefined(&self) -> bool {
        self.ingress || ["bridge", "host", "none", "ingress", "docker_gwbridge"].contains(&self.name.as_str())
    }
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// Its labels.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volumes {
    #[serde(default, deserialize_with = "null_is_empty")]
    volumes: Vec<Volume>,
}

/// A service of the swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its image, as the managers keep it: with a digest where a registry was asked. Empty for plugins.
    pub image: String,
    /// How many of its tasks run, of how many; none from an engine that does not say.
    pub tasks: Option<(u64, u64)>,
    /// The TCP ports at which every node answers for it, by number.
    pub ports: Vec<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawService {
    #[serde(rename = "ID")]
    id: String,
    spec: ServiceSpec,
    #[serde(default)]
    endpoint: Endpoint,
    service_status: Option<ServiceStatus>,
}

/// What the managers gave it; what was asked for may leave the number open.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    #[serde(default, deserialize_with = "null_is_empty")]
    ports: Vec<Port>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Port {
    protocol: String,
    published_port: u16,
    publish_mode: String,
}

impl Endpoint {
    /// Those of the routing mesh; one published as `host` answers where its container runs, and stands there.
    fn of_every_node(self) -> Vec<u16> {
        let on_all = |port: &Port| port.protocol == "tcp" && port.publish_mode == "ingress" && port.published_port != 0;
        let mut ports: Vec<_> = self.ports.into_iter().filter(on_all).map(|port| port.published_port).collect();
        ports.sort_unstable();
        ports
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceSpec {
    name: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    task_template: TaskTemplate,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TaskTemplate {
    container_spec: Option<TaskContainer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TaskContainer {
    #[serde(default)]
    image: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct ServiceStatus {
    running_tasks: u64,
    desired_tasks: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Id {
    id: String,
}

impl Engine {
    /// The images in the store.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        self.get("listing images", "/images/json")
    }

    /// The id of the image with this reference, or none.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub fn image(&self, reference: &str) -> Result<Option<String>, Error> {
        let path = format!("/images/{}/json", encode(reference));
        Ok(self.find(&format!("looking for the image {reference}"), &path)?.map(|Id { id }| id))
    }

    /// The networks. A worker knows only the overlays that it uses.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub fn networks(&self) -> Result<Vec<Network>, Error> {
        self.get("listing networks", "/networks")
    }

    /// The volumes of this node.
    ///
    /// # Errors
    ///
    /// The engine does not answer.
    pub fn volumes(&self) -> Result<Vec<Volume>, Error> {
        self.get("listing volumes", "/volumes").map(|Volumes { volumes }| volumes)
    }

    /// The swarm's services; only managers know them.
    ///
    /// # Errors
    ///
    /// The engine does not answer, this node is no manager, or the managers are no majority.
    pub fn services(&self) -> Result<Vec<Service>, Error> {
        let all: Vec<RawService> = self.get("listing services", "/services?status=true")?;
        let service = |RawService { id, spec, endpoint, service_status }| Service {
            id,
            name: spec.name,
            labels: spec.labels,
            image: spec.task_template.container_spec.map(|container| container.image).unwrap_or_default(),
            ports: endpoint.of_every_node(),
            tasks: service_status.map(|ServiceStatus { running_tasks, desired_tasks }| (running_tasks, desired_tasks)),
        };
        Ok(all.into_iter().map(service).collect())
    }

    /// Whether a user has made anything here: a container, a volume, a network or, where this node is a manager, a service.
    ///
    /// # Errors
    ///
    /// The engine does not answer, or the managers are no majority: nobody knows then, and nothing may be thrown away.
    pub fn users_objects(&self) -> Result<bool, Error> {
        let ours = |labels: &BTreeMap<String, String>| labels.contains_key(SYSTEM_LABEL);
        Ok(self.containers()?.iter().any(|container| !container.is_ours())
            || self.volumes()?.iter().any(|volume| !ours(&volume.labels))
            || self.networks()?.iter().any(|network| !network.is_predefined() && !ours(&network.labels))
            || matches!(self.swarm_state()?, SwarmState::Manager { .. })
                && self.services()?.iter().any(|service| !ours(&service.labels)))
    }
}
