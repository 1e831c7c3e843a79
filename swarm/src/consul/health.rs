//! Services of the catalog, where they are, and how.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::{Client, Error, Seen};
use crate::local::null_is_default;

/// A service on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The name of the node.
    pub node: String,
    /// The id of the service on its node.
    pub id: String,
    /// What the service is called.
    pub name: String,
    /// Its address: the node's, where it has none of its own.
    pub address: String,
    /// Its port; zero for none.
    pub port: u16,
    /// Its tags.
    pub tags: Vec<String>,
    /// What else was told of it.
    pub meta: BTreeMap<String, String>,
    /// The checks of the service and of its node.
    pub checks: Vec<Check>,
}

/// One thing that is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    /// Its id, such as `serfHealth` (whether the node is reached) or `service:hcl-engine`.
    #[serde(rename = "CheckID")]
    pub id: String,
    /// What came of it.
    #[serde(rename = "Status")]
    pub state: State,
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

impl Instance {
    /// Whether nothing says that it does not work. Consul's DNS gives exactly those.
    pub fn is_well(&self) -> bool {
        self.checks.iter().all(|check| check.state > State::Critical)
    }

    /// The check that says why it does not work.
    pub fn trouble(&self) -> Option<&Check> {
        self.checks.iter().find(|check| check.state == State::Critical)
    }

    /// Its address, where that is an IPv4 address, as all of ours are.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.address.parse().ok()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Raw {
    node: RawNode,
    service: RawService,
    checks: Vec<Check>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNode {
    node: String,
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawService {
    #[serde(rename = "ID")]
    id: String,
    service: String,
    address: String,
    port: u16,
    #[serde(default, deserialize_with = "null_is_default")]
    tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    meta: BTreeMap<String, String>,
}

impl From<Raw> for Instance {
    fn from(Raw { node, service, checks }: Raw) -> Self {
        Self {
            address: if service.address.is_empty() { node.address } else { service.address },
            node: node.node,
            id: service.id,
            name: service.service,
            port: service.port,
            tags: service.tags,
            meta: service.meta,
            checks,
        }
    }
}

impl Client {
    /// All instances of a service, by node and id; those that do not work too.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub async fn service(&self, name: &str) -> Result<Vec<Instance>, Error> {
        self.read(&path(name)).await.map(sorted)
    }

    /// All instances of a service, once that is another answer than what was `seen`, or after `wait`.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub async fn watch_service(&self, name: &str, seen: Seen, wait: Duration) -> Result<(Vec<Instance>, Seen), Error> {
        let (answer, _, seen) = self.watch(&(path(name) + "?"), seen, wait).await?;
        Ok((sorted(answer.json()?), seen))
    }

    /// The ids of the services that the catalog has of a node, in order, once that is another answer than what was `seen`, or after
    /// `wait`; none where it does not know the node.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub async fn watch_node(&self, node: &str, seen: Seen, wait: Duration) -> Result<(Vec<String>, Seen), Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Node {
            services: BTreeMap<String, serde::de::IgnoredAny>,
        }
        let path = format!("/v1/catalog/node/{}?", utf8_percent_encode(node, NON_ALPHANUMERIC));
        let (answer, there, seen) = self.watch(&path, seen, wait).await?;
        // Null for a node that is not known.
        let node = if there { answer.json::<Option<Node>>()? } else { None };
        Ok((node.map(|node| node.services.into_keys().collect()).unwrap_or_default(), seen))
    }
}

fn path(name: &str) -> String {
    format!("/v1/health/service/{}", utf8_percent_encode(name, NON_ALPHANUMERIC))
}

fn sorted(raw: Vec<Raw>) -> Vec<Instance> {
    let mut instances: Vec<Instance> = raw.into_iter().map(Instance::from).collect();
    instances.sort_by(|a, b| (&a.node, &a.id).cmp(&(&b.node, &b.id)));
    instances
}
