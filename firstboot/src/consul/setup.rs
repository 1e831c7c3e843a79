//! Consul's configuration on one node.

use std::{
    fs::{self, DirBuilder},
    io,
    net::Ipv4Addr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use super::{DATACENTER, Secrets, Version, uuid};
use crate::{
    durable,
    identity::NodeId,
    key::ClusterKey,
    trust::{ConsulRole, Trust},
};

/// How long agents try to reach a member that is away before they take it for gone: a year. A lab that was in a drawer must come
/// back as it was. At least 8 hours, by Consul's documentation.
const RECONNECT: &str = "8760h";
/// The keys that matter to an agent only while it starts: one that runs needs no new start for them.
const ONLY_AT_START: [&str; 2] = ["bootstrap_expect", "retry_join"];

/// What one node's Consul is told.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The node's host name, unique in the cluster.
    pub node_name: String,
    /// The node. Consul knows it under the same id, whatever becomes of Consul's data.
    pub node_id: NodeId,
    /// The node's own address: where it listens for other nodes, and nowhere else.
    pub address: Ipv4Addr,
    /// Whether it is one of those that keep the data and elect a leader.
    pub server: bool,
    /// Whether it elects itself: true once in a cluster's life, on its founder. Such an agent whose data are missing makes another
    /// cluster.
    pub bootstrap: bool,
    /// Servers to join, the own address left out where it is among them.
    pub retry_join: Vec<Ipv4Addr>,
    /// Which Consul it is.
    pub version: Version,
    /// Where things lie.
    pub places: Places,
}

/// Where things lie, as Consul sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The folder of the configuration, with `ca.pem`, `cert.pem` and `key.pem` in it.
    pub config: PathBuf,
    /// The folder of the data.
    pub data: PathBuf,
    /// The socket of the HTTP interface.
    pub socket: PathBuf,
}

impl Default for Places {
    /// In the container.
    fn default() -> Self {
        Self { config: "/consul/config".into(), data: "/consul/data".into(), socket: super::SOCKET.into() }
    }
}

/// What the agent's certificate and key are called in [`Places::config`], and the certificate of who signed it.
pub mod files {
    /// The configuration.
    pub const CONFIG: &str = "consul.json";
    /// Consul's certificate authority.
    pub const CA: &str = "ca.pem";
    /// The agent's certificate, for `server.hcl.consul` on a server and `client.hcl.consul` elsewhere.
    pub const CERT: &str = "cert.pem";
    /// Its key (PKCS #8).
    pub const KEY: &str = "key.pem";
}

/// The certificate authority, certificate and key of an agent, as PEM ([`Setup::pem`]).
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// Of the certificate authority.
    pub ca: String,
    /// Of the agent.
    pub cert: String,
    /// The agent's secret key.
    pub key: String,
}

/// What writing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// All was there.
    Same,
    /// What changed matters only to an agent that starts.
    ForNextStart,
    /// An agent that runs has to be started anew.
    Changed,
}

impl Setup {
    /// The configuration, as Consul reads it.
    pub fn config(&self, secrets: &Secrets) -> Value {
        let mut config = Map::new();
        let mut set = |more: Value| {
            if let Value::Object(more) = more {
                config.extend(more);
            }
        };
        set(self.identity());
        set(self.network(secrets));
        set(self.tls());
        set(self.acl(secrets));
        set(few_writes());
        set(self.left_out());
        if self.server {
            set(self.server());
        }
        Value::Object(config)
    }

    fn identity(&self) -> Value {
        json!({
            "datacenter": DATACENTER,
            "primary_datacenter": DATACENTER,
            "node_name": self.node_name,
            "node_id": uuid(self.node_id.0),
            "server": self.server,
            "data_dir": self.places.data,
            "log_level": "WARN",
        })
    }

    fn network(&self, secrets: &Secrets) -> Value {
        let joins: Vec<String> =
            self.retry_join.iter().filter(|address| **address != self.address).map(Ipv4Addr::to_string).collect();
        let mut ports =
            json!({ "http": 8500, "https": -1, "grpc": -1, "serf_wan": -1, "dns": 8600, "server": 8300, "serf_lan": 8301 });
        if self.version >= Version::new(1, 14, 0) {
            ports["grpc_tls"] = json!(-1);
        }
        json!({
            "bind_addr": self.address,
            "advertise_addr": self.address,
            "client_addr": "127.0.0.1",
            // The number of the HTTP port only says that there is one.
            "addresses": { "http": format!("unix://{}", self.places.socket.display()), "dns": "127.0.0.1" },
            "unix_sockets": { "mode": "0600" },
            "ports": ports,
            "encrypt": secrets.gossip.reveal(),
            "disable_keyring_file": true,
            "retry_join": joins,
            "retry_interval": "3s",
            "reconnect_timeout": RECONNECT,
            "rejoin_after_leave": true,
            "leave_on_terminate": false,
            "skip_leave_on_interrupt": true,
        })
    }

    fn tls(&self) -> Value {
        let file = |name: &str| self.places.config.join(name);
        let (ca, cert, key) = (file(files::CA), file(files::CERT), file(files::KEY));
        if self.version >= Version::new(1, 12, 0) {
            json!({ "tls": {
                "defaults": { "ca_file": ca, "cert_file": cert, "key_file": key, "verify_outgoing": true },
                "internal_rpc": { "verify_incoming": true, "verify_server_hostname": true },
            } })
        } else {
            json!({
                "ca_file": ca,
                "cert_file": cert,
                "key_file": key,
                "verify_incoming_rpc": true,
                "verify_outgoing": true,
                "verify_server_hostname": true,
            })
        }
    }

    fn acl(&self, secrets: &Secrets) -> Value {
        let mut tokens = json!({ "agent": secrets.agent.reveal(), "default": secrets.read.reveal() });
        if self.server {
            let name = if self.version >= Version::new(1, 11, 0) { "initial_management" } else { "master" };
            tokens[name] = json!(secrets.management.reveal());
        }
        json!({ "acl": {
            "enabled": true,
            "default_policy": "deny",
            // Without servers nodes go on with what they know.
            "down_policy": "extend-cache",
            "enable_token_persistence": false,
            "tokens": tokens,
        } })
    }

    fn left_out(&self) -> Value {
        let mut off = json!({
            "disable_update_check": true,
            "disable_remote_exec": true,
            "enable_script_checks": false,
            "enable_local_script_checks": false,
            "connect": { "enabled": false },
        });
        if self.version >= Version::new(1, 9, 0) {
            // Debian's 1.8.7 comes without its pages.
            off["ui_config"] = json!({ "enabled": true });
        }
        if self.version >= Version::new(1, 13, 0) {
            off["peering"] = json!({ "enabled": false });
        }
        off
    }

    fn server(&self) -> Value {
        let mut server = json!({
            "autopilot": { "cleanup_dead_servers": false },
            // Heartbeats are missed after 3 s, of Consul's choice for small machines 5: by the time that gossip knows of a node
            // without power (7 s), the servers have another leader. A card that stops for a second or two delays no heartbeat.
            "performance": { "raft_multiplier": 3 },
        });
        if self.bootstrap {
            server["bootstrap_expect"] = json!(1);
        }
        server
    }

    /// The certificates of this agent. Its secret key follows from the cluster key and what the certificate says, so that each start
    /// writes the same and Consul need not start anew.
    pub fn pem(&self, key: &ClusterKey) -> Pem {
        let role = if self.server { ConsulRole::Server } else { ConsulRole::Client };
        let seed = key.secret(&format!("hcl 1 consul key {role:?} {} {}", self.node_id, self.address));
        let authority = Trust::new(key).consul;
        let issued = authority.issue(role, self.address, &seed);
        Pem { ca: authority.certificate_pem(), cert: issued.certificate_pem(), key: issued.key_pem() }
    }

    /// Writes configuration and certificates into `folder`, which is [`Places::config`] as this program sees it, and is made where it
    /// is missing; each file whole at any moment, and for root alone.
    ///
    /// # Errors
    ///
    /// What the system says about which file.
    pub fn write(&self, folder: &Path, secrets: &Secrets, pem: &Pem) -> Result<Written, (PathBuf, io::Error)> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| (folder.to_owned(), error))?;
        let config = self.config(secrets);
        let text = format!("{config:#}\n");
        let mut written = Written::Same;
        let certificates = [(files::CA, &pem.ca), (files::CERT, &pem.cert), (files::KEY, &pem.key)];
        for (name, content) in certificates {
            if replace(&folder.join(name), content)?.is_some() {
                written = Written::Changed;
            }
        }
        if let Some(old) = replace(&folder.join(files::CONFIG), &text)? {
            let same = serde_json::from_slice(&old).is_ok_and(|old: Value| lasting(&old) == lasting(&config));
            written = if same { written.max(Written::ForNextStart) } else { Written::Changed };
        }
        Ok(written)
    }
}

impl Written {
    fn max(self, other: Self) -> Self {
        if self == Self::Changed { self } else { other }
    }
}

/// Few writes to the card: each of them wears it. What coordinates and check outputs cost stands in `docs/consul.md`.
fn few_writes() -> Value {
    json!({ "disable_coordinates": true, "check_update_interval": "30m" })
}

/// What of a configuration matters to an agent that runs.
fn lasting(config: &Value) -> Value {
    let mut config = config.clone();
    if let Value::Object(keys) = &mut config {
        keys.retain(|key, _| !ONLY_AT_START.contains(&key.as_str()));
    }
    config
}

/// Replaces the file where its content is another one; what it was.
fn replace(path: &Path, content: &str) -> Result<Option<Vec<u8>>, (PathBuf, io::Error)> {
    let old = match fs::read(path) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err((path.to_owned(), error)),
    };
    if old == content.as_bytes() {
        return Ok(None);
    }
    durable::replace(path, content.as_bytes(), 0o600).map_err(|error| (path.to_owned(), error))?;
    Ok(Some(old))
}

#[cfg(test)]
#[path = "setup_tests.rs"]
mod tests;
