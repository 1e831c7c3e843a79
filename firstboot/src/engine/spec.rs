//! What a container of ours shall be.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::SYSTEM_LABEL;
use crate::key::hex;

/// The label with the digest of what a container was made from.
pub(super) const SPEC_LABEL: &str = "hcl.spec";

/// A container of ours: all that it is made from. Two of the same are the same container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name.
    pub name: String,
    /// The image's reference, such as `hcl/consul:1.8.7`. It must be in the engine's store: nothing is pulled.
    pub image: String,
    /// What runs in place of the image's entry point and command; empty for the image's.
    pub command: Vec<String>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// User and group in it, such as `100:1000`; the image's where there is none.
    pub user: Option<String>,
    /// Its network.
    pub network: NetworkMode,
    /// What of the node it sees.
    pub mounts: Vec<Mount>,
    /// Whether its own file system is read-only.
    pub read_only: bool,
    /// Memory file systems in it, by where they are.
    pub tmpfs: Vec<PathBuf>,
    /// Capabilities that it keeps, such as `NET_BIND_SERVICE`. It has no others.
    pub capabilities: Vec<String>,
    /// The most memory that it gets, in bytes.
    pub memory: Option<u64>,
    /// The most processes and threads in it.
    pub processes: Option<u32>,
    /// When the engine starts it again.
    pub restart: Restart,
    /// How long it has to end by itself.
    pub stop_timeout: Duration,
    /// Labels besides ours.
    pub labels: BTreeMap<String, String>,
}

impl ContainerSpec {
    /// A container that runs an image as it is on the node's own network, always, with no capability.
    pub fn new(name: &str, image: &str) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            command: Vec::new(),
            environment: BTreeMap::new(),
            user: None,
            network: NetworkMode::Host,
            mounts: Vec::new(),
            read_only: true,
            tmpfs: Vec::new(),
            capabilities: Vec::new(),
            memory: None,
            processes: None,
            restart: Restart::Always,
            stop_timeout: Duration::from_secs(10),
            labels: BTreeMap::new(),
        }
    }

    /// What the engine is told, with the labels.
    pub(super) fn body(&self, image_id: &str) -> Value {
        let mut body = self.plain_body();
        let mut labels: Map<String, Value> = self.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        labels.insert(SYSTEM_LABEL.to_owned(), json!("1"));
        labels.insert(SPEC_LABEL.to_owned(), json!(self.digest(image_id)));
        body["Labels"] = Value::Object(labels);
        body
    }

    /// SHA-256 of all that makes the container, hexadecimal. Objects are sorted in our JSON.
    pub(super) fn digest(&self, image_id: &str) -> String {
        let all = json!({ "image": image_id, "labels": self.labels, "body": self.plain_body() });
        hex(&Sha256::digest(all.to_string()))
    }

    fn plain_body(&self) -> Value {
        let mounts = self.mounts.iter().map(|Mount { source, target, read_only }| {
            json!({ "Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only })
        });
        let environment: Vec<String> = self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let tmpfs: Map<String, Value> =
            self.tmpfs.iter().map(|path| (path.display().to_string(), json!("nosuid,nodev"))).collect();
        let mut body = json!({
            "Image": self.image,
            "Env": environment,
            "StopTimeout": self.stop_timeout.as_secs(),
            "HostConfig": {
                "NetworkMode": self.network.name(),
                "Mounts": mounts.collect::<Vec<_>>(),
                "Tmpfs": tmpfs,
                "ReadonlyRootfs": self.read_only,
                "CapDrop": ["ALL"],
                "CapAdd": self.capabilities,
                "SecurityOpt": ["no-new-privileges"],
                "RestartPolicy": { "Name": self.restart.name() },
            },
        });
        if let Some((first, rest)) = self.command.split_first() {
            body["Entrypoint"] = json!([first]);
            body["Cmd"] = json!(rest);
        }
        if let Some(user) = &self.user {
            body["User"] = json!(user);
        }
        if let Some(memory) = self.memory {
            body["HostConfig"]["Memory"] = json!(memory);
        }
        if let Some(processes) = self.processes {
            body["HostConfig"]["PidsLimit"] = json!(processes);
        }
        body
    }
}

/// A file or folder of the node, at a place in the container. It must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where on the node.
    pub source: PathBuf,
    /// Where in the container.
    pub target: PathBuf,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// The network of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// The node's own.
    Host,
    /// Loopback only.
    None,
    /// A network of the engine's.
    Named(String),
}

impl NetworkMode {
    fn name(&self) -> &str {
        match self {
            Self::Host => "host",
            Self::None => "none",
            Self::Named(name) => name,
        }
    }
}

/// When the engine starts a container again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    Never,
    /// Whenever it ended, and with the engine.
    Always,
}

impl Restart {
    fn name(self) -> &'static str {
        match self {
            Self::Never => "no",
            Self::Always => "always",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_counts() {
        let spec = ContainerSpec::new("hcl-consul", "hcl/consul:1.8.7");
        let changes: [fn(&mut ContainerSpec); 13] = [
            |spec| spec.image.push('x'),
            |spec| spec.command.push("consul".to_owned()),
            |spec| drop(spec.environment.insert("A".to_owned(), "b".to_owned())),
            |spec| spec.user = Some("1:1".to_owned()),
            |spec| spec.network = NetworkMode::None,
            |spec| spec.mounts.push(Mount { source: "/a".into(), target: "/b".into(), read_only: true }),
            |spec| spec.read_only = false,
            |spec| spec.tmpfs.push("/tmp".into()),
            |spec| spec.capabilities.push("NET_RAW".to_owned()),
            |spec| spec.memory = Some(1 << 20),
            |spec| spec.processes = Some(9),
            |spec| spec.restart = Restart::Never,
            |spec| drop(spec.labels.insert("a".to_owned(), "b".to_owned())),
        ];
        let first = spec.digest("sha256:1");
        assert_eq!(first, spec.clone().digest("sha256:1"));
        let mut all = vec![spec.digest("sha256:2"), first];
        for change in changes {
            let mut other = spec.clone();
            change(&mut other);
            all.push(other.digest("sha256:1"));
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count, "two that differ have one digest");
    }

    #[test]
    fn what_the_engine_is_told() {
        let mut spec = ContainerSpec::new("hcl-consul", "hcl/consul:1.8.7");
        spec.command = ["/bin/consul", "agent"].map(str::to_owned).to_vec();
        let body = spec.body("sha256:1");
        assert_eq!((&body["Entrypoint"], &body["Cmd"]), (&json!(["/bin/consul"]), &json!(["agent"])));
        assert_eq!(body["Labels"][SYSTEM_LABEL], "1");
        assert_eq!(body["HostConfig"]["RestartPolicy"]["Name"], "always");
        assert_eq!(body["HostConfig"]["CapDrop"], json!(["ALL"]));
    }
}
