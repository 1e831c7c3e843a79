//! Who is there, and how they are.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Client, ENGINE, Error, client::escaped, node_id};
use crate::identity::NodeId;

/// A node, as the cluster's catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Which one it is; none for one that is not ours.
    pub id: Option<NodeId>,
    /// Its address.
    pub address: String,
    /// How it is: worst first.
    pub checks: Vec<Check>,
}

/// One thing that is looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Check {
    /// What came of it.
    pub state: State,
    /// Its id, such as `serfHealth` (whether the node is reached) or `service:hcl-engine`.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// The service that it is about; none for the node itself.
    pub service: Option<String>,
    /// What it says.
    pub output: String,
}

/// How something is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It does not work.
    Critical,
    /// It may soon not.
    Warning,
    /// Well.
    Passing,
}

/// The check of whether a node is reached.
pub const REACHED: &str = "serfHealth";

impl Node {
    /// Whether other nodes reach it.
    pub fn is_reached(&self) -> bool {
        self.checks.iter().any(|check| check.id == REACHED && check.state == State::Passing)
    }

    /// How its engine is, if it told.
    pub fn engine(&self) -> Option<&Check> {
        self.checks.iter().find(|check| check.service.as_deref() == Some(ENGINE))
    }
}

/// How gossip sees an agent (serf's member status).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gossip {
    /// It answers.
    Alive,
    /// It is on its way out, and said so.
    Leaving,
    /// It left, and said so.
    Left,
    /// It does not answer, and did not say why.
    Failed,
    /// Nobody has heard of it.
    #[default]
    #[serde(other)]
    Unknown,
}

impl Gossip {
    /// serf's numbers.
    fn of(status: u8) -> Self {
        match status {
            1 => Self::Alive,
            2 => Self::Leaving,
            3 => Self::Left,
            4 => Self::Failed,
            _ => Self::Unknown,
        }
    }
}

/// A member of the gossip, as this node's agent sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Which one it is; none for one that is not ours.
    pub id: Option<NodeId>,
    /// Its address.
    pub address: String,
    /// How it is.
    pub state: Gossip,
    /// Whether it is a server.
    pub server: bool,
}

/// What an agent says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its name.
    pub name: String,
    /// Which node it is; none for one that is not ours.
    pub id: Option<NodeId>,
    /// Whether it is a server.
    pub server: bool,
    /// Which Consul it is, such as `1.8.7`.
    pub version: String,
}

/// As the API has it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawCheck {
    node: String,
    #[serde(rename = "CheckID")]
    id: String,
    name: String,
    status: State,
    service_name: String,
    output: String,
}

impl RawCheck {
    fn of_node(self) -> (String, Check) {
        let service = (!self.service_name.is_empty()).then_some(self.service_name);
        (self.node, Check { state: self.status, id: self.id, name: self.name, service, output: self.output })
    }
}

impl Client {
    /// What this node's agent says of itself. Works without a leader once the agent has known one.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn own(&self) -> Result<Own, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Raw {
            config: Config,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Config {
            node_name: String,
            #[serde(rename = "NodeID")]
            id: String,
            server: bool,
            version: String,
        }
        let Config { node_name, id, server, version } = self.read::<Raw>("/v1/agent/self")?.config;
        Ok(Own { name: node_name, id: node_id(&id), server, version })
    }

    /// The address of the leader of Consul's servers; none where there is none.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn leader(&self) -> Result<Option<Ipv4Addr>, Error> {
        let leader = match self.read::<String>("/v1/status/leader") {
            Ok(leader) => leader,
            // An agent without servers says so in its way.
            Err(Error::Refused { status: 500, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(leader.rsplit_once(':').and_then(|(address, _)| address.parse().ok()))
    }

    /// All nodes of the catalog, by name, with all their checks.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn nodes(&self) -> Result<Vec<Node>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct RawNode {
            #[serde(rename = "ID")]
            id: String,
            node: String,
            address: String,
        }
        let mut checks: BTreeMap<String, Vec<Check>> = BTreeMap::new();
        for raw in self.read::<Vec<RawCheck>>("/v1/health/state/any")? {
            let (node, check) = raw.of_node();
            checks.entry(node).or_default().push(check);
        }
        let node = |raw: RawNode| {
            let mut checks = checks.remove(&raw.node).unwrap_or_default();
            checks.sort();
            Node { id: node_id(&raw.id), name: raw.node, address: raw.address, checks }
        };
        let mut nodes: Vec<Node> = self.read::<Vec<RawNode>>("/v1/catalog/nodes")?.into_iter().map(node).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    }

    /// All members that this node's agent knows, by name. Works without a leader.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn members(&self) -> Result<Vec<Member>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Raw {
            name: String,
            addr: String,
            tags: BTreeMap<String, String>,
            status: u8,
        }
        let member = |raw: Raw| Member {
            id: raw.tags.get("id").and_then(|id| node_id(id)),
            name: raw.name,
            address: raw.addr,
            state: Gossip::of(raw.status),
            server: raw.tags.get("role").is_some_and(|role| role == "consul"),
        };
        let mut members: Vec<Member> = self.read::<Vec<Raw>>("/v1/agent/members")?.into_iter().map(member).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(members)
    }

    /// The checks that fail, each with the name of its node, as whichever server is asked has them.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn failing(&self) -> Result<Vec<(String, Check)>, Error> {
        Ok(self.read::<Vec<RawCheck>>("/v1/health/state/critical?stale")?.into_iter().map(RawCheck::of_node).collect())
    }

    /// Forgets a node that was removed from the cluster: gossip and catalog.
    ///
    /// # Errors
    ///
    /// Consul did not, or did not say.
    pub fn forget(&self, name: &str) -> Result<(), Error> {
        self.done("PUT", &format!("/v1/agent/force-leave/{}?prune", escaped(name)), None)?;
        let node = json!({ "Node": name });
        self.done("PUT", "/v1/catalog/deregister", Some(&node)).map(|_| ())
    }

    /// Tells this node's agent of its engine. Whoever does so has to tell how it is ([`Client::beat`]) at least every `ttl`, else it
    /// counts as critical. Doing it again changes nothing, and has to be done after each start of the agent.
    ///
    /// The agent keeps the token that this is asked with: ask with that of the agents.
    ///
    /// # Errors
    ///
    /// Consul did not, or did not say.
    pub fn register_engine(&self, ttl: Duration) -> Result<(), Error> {
        let service = json!({
            "ID": ENGINE,
            "Name": ENGINE,
            "Check": { "CheckID": check_of_engine(), "Name": "The engine answers", "TTL": format!("{}s", ttl.as_secs()) },
        });
        self.done("PUT", "/v1/agent/service/register", Some(&service)).map(|_| ())
    }

    /// Tells how the engine is. `output` is for people; what changes it is written to the servers' disks, so it has no figures.
    ///
    /// # Errors
    ///
    /// Consul did not, or did not say; [`Error::Refused`] also where the agent knows nothing of the engine.
    pub fn beat(&self, state: State, output: &str) -> Result<(), Error> {
        let status = match state {
            State::Critical => "critical",
            State::Warning => "warning",
            State::Passing => "passing",
        };
        let beat = json!({ "Status": status, "Output": output });
        self.done("PUT", &format!("/v1/agent/check/update/{}", check_of_engine()), Some(&beat)).map(|_| ())
    }
}

fn check_of_engine() -> String {
    format!("service:{ENGINE}")
}
