//! The swarm's nodes, as its managers know them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Engine, Error, encode, null_is_empty,
    swarm::{ObjectVersion, retried},
};

/// What a node is in the swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRole {
    /// Runs containers.
    Worker,
    /// Decides as well.
    Manager,
}

/// Whether a node gets tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// It does.
    Active,
    /// It keeps what it has.
    Pause,
    /// It loses what it has.
    Drain,
}

/// A node of the swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its id in the swarm.
    pub id: String,
    /// Its host name when it joined.
    pub host_name: String,
    /// The address that the managers see; empty until they have seen it.
    pub address: String,
    /// What it shall be.
    pub role: NodeRole,
    /// Whether it gets tasks.
    pub availability: Availability,
    /// `ready`, `down`, `disconnected` or `unknown`.
    pub state: String,
    /// Why, where it is not ready.
    pub message: String,
    /// Only of a manager; one that was just promoted has none yet.
    pub manager: Option<ManagerStatus>,
    /// Its labels in the swarm, those that services can be constrained to.
    pub labels: BTreeMap<String, String>,
    /// The kernel's name of its architecture, such as `aarch64`, whatever the engine was compiled for.
    pub architecture: String,
    /// Its engine's version.
    pub engine: String,
}

impl Node {
    /// Whether the managers hear from it.
    pub fn is_ready(&self) -> bool {
        self.state == "ready"
    }
}

/// How a manager is as such.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManagerStatus {
    /// Whether it leads the swarm's raft.
    pub leader: bool,
    /// `reachable` or `unreachable`.
    pub reachability: String,
    /// Its address and port.
    pub addr: String,
}

/// As the API has it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    #[serde(rename = "ID")]
    id: String,
    version: ObjectVersion,
    spec: Value,
    description: Description,
    status: NodeStatus,
    manager_status: Option<ManagerStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NodeSpec {
    #[serde(default, deserialize_with = "null_is_empty")]
    labels: BTreeMap<String, String>,
    role: NodeRole,
    availability: Availability,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Description {
    hostname: String,
    platform: Platform,
    engine: EngineDescription,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Platform {
    architecture: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct EngineDescription {
    engine_version: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NodeStatus {
    state: String,
    message: String,
    addr: String,
}

impl TryFrom<Raw> for Node {
    type Error = serde_json::Error;

    fn try_from(raw: Raw) -> Result<Self, serde_json::Error> {
        let NodeSpec { labels, role, availability } = serde_json::from_value(raw.spec)?;
        let Description { hostname, platform, engine } = raw.description;
        // A manager on an address of its own says 0.0.0.0 of itself.
        let of_manager = raw.manager_status.as_ref().and_then(|manager| manager.addr.rsplit_once(':')).map(|(host, _)| host);
        let address = match (raw.status.addr, of_manager) {
            (seen, Some(told)) if seen.is_empty() || seen == "0.0.0.0" => told.to_owned(),
            (seen, _) => seen,
        };
        Ok(Self {
            id: raw.id,
            host_name: hostname,
            address,
            role,
            availability,
            state: raw.status.state,
            message: raw.status.message,
            manager: raw.manager_status,
            labels,
            architecture: platform.architecture,
            engine: engine.engine_version,
        })
    }
}

impl Engine {
    /// The swarm's nodes; only managers know them.
    ///
    /// # Errors
    ///
    /// The engine does not answer, this node is no manager, or the managers are no majority.
    pub fn nodes(&self) -> Result<Vec<Node>, Error> {
        let doing = "listing the swarm's nodes";
        let all: Vec<Raw> = self.get(doing, "/nodes")?;
        all.into_iter().map(Node::try_from).collect::<Result<_, _>>().map_err(|error| super::unreadable(doing, error))
    }

    /// Makes a node manager or worker; whether it was to be something else before. It becomes so a while later.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses, as when too few managers would be left.
    pub fn set_role(&self, id: &str, role: NodeRole) -> Result<bool, Error> {
        self.update_node(id, &format!("making node {id} a {}", json!(role).as_str().unwrap_or_default()), |spec| {
            spec["Role"] = json!(role);
        })
    }

    /// Gives a node these labels, and leaves its others; whether any was different.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses.
    pub fn set_labels(&self, id: &str, labels: &[(&str, &str)]) -> Result<bool, Error> {
        self.update_node(id, &format!("labelling node {id}"), |spec| {
            if !spec["Labels"].is_object() {
                spec["Labels"] = json!({});
            }
            for (name, value) in labels {
                spec["Labels"][*name] = json!(value);
            }
        })
    }

    /// Sets whether a node gets tasks; whether it was different.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses.
    pub fn set_availability(&self, id: &str, availability: Availability) -> Result<bool, Error> {
        self.update_node(id, &format!("setting whether node {id} gets tasks"), |spec| spec["Availability"] = json!(availability))
    }

    /// Removes a node from the swarm, alive or not. One that is not there is removed.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses, as for a manager, which must be made a worker first.
    pub fn remove_node(&self, id: &str) -> Result<(), Error> {
        self.delete(&format!("removing node {id}"), &format!("/nodes/{}?force=true", encode(id)))
    }

    /// Removes the entry of a node that comes back no more; whether it is gone. A manager has to become a worker first, which takes a moment;
    /// one that is down and was never counted cannot become one, and is removed as it is.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses, as when too few managers would be left.
    pub fn forget_node(&self, node: &Node) -> Result<bool, Error> {
        if node.manager.is_some() || node.role == NodeRole::Manager && node.is_ready() {
            return self.set_role(&node.id, NodeRole::Worker).map(|_| false);
        }
        self.remove_node(&node.id).map(|()| true)
    }

    fn update_node(&self, id: &str, doing: &str, change: impl Fn(&mut Value)) -> Result<bool, Error> {
        retried(|| {
            let path = format!("/nodes/{}", encode(id));
            let Raw { version, mut spec, .. } = self.get(doing, &path)?;
            let before = spec.clone();
            change(&mut spec);
            if spec == before {
                return Ok(false);
            }
            self.post(doing, &format!("{path}/update?version={}", version.index), Some(&spec)).map(|_| true)
        })
    }
}
