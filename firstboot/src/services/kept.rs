//! How far a node has come on its way into the cluster's services: kept on the card, whole at any moment.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    durable,
    identity::{Incarnation, NodeId},
    record::{self, BadRecord},
};

/// Where it lies: beside what the network remembers, whose file is `state`.
pub fn path(state: &Path) -> PathBuf {
    state.with_file_name("services")
}

/// Everything that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The founding that all of this belongs to; none before the first one.
    pub incarnation: Option<Incarnation>,
    /// The node that all of this belongs to; none before the first step, and in what older versions kept.
    #[serde(default)]
    pub node: Option<NodeId>,
    /// How far it came.
    pub progress: Progress,
    /// The cluster's servers as far as known: whom to ask when nobody leads.
    pub servers: Vec<Server>,
    /// Whoever else shall be a server by what Consul has is gone for good, and that is not written there yet.
    #[serde(default)]
    pub alone: bool,
    /// The swarm's second manager is being made, or is not known to work: whatever was confirmed so far, this node has it.
    #[serde(default)]
    pub pairing: bool,
}

/// The way in. Each step is kept once it is made, and none is made twice: a second `swarm init` or a second bootstrap of Consul
/// would be a second cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "snake_case")]
pub enum Progress {
    /// Nothing yet.
    #[default]
    None,
    /// This node founds.
    Founding {
        /// The swarm was initialised.
        swarm: bool,
        /// Consul has elected its first leader and has its tokens.
        consul: bool,
    },
    /// A person decided that it goes on alone (`hcl recover`): it founds anew, of what it has.
    Recovering,
    /// A founder took this node in.
    Joined {
        /// It runs servers: of Consul, and a manager of the swarm.
        server: bool,
    },
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Which node.
    pub node: NodeId,
    /// Its own address.
    pub address: Ipv4Addr,
}

impl Kept {
    /// Nothing yet, for a node of a founding.
    pub fn new(incarnation: Incarnation, node: NodeId) -> Self {
        Self { incarnation: Some(incarnation), node: Some(node), ..Self::default() }
    }

    /// Whether this node runs servers, as far as it was told.
    pub fn is_server(&self) -> bool {
        matches!(self.progress, Progress::Founding { .. } | Progress::Joined { server: true })
    }

    /// Reads the file at `path`; nothing where there is none.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is damaged.
    pub fn read(path: &Path) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        match fs::read(path) {
            Ok(file) => Self::from_file(&file).map_err(|error| wrong(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(wrong(&error)),
        }
    }

    fn from_file(file: &[u8]) -> Result<Self, BadRecord> {
        Ok(serde_json::from_slice(record::unseal(file)?)?)
    }

    /// Replaces the file at `path`.
    ///
    /// # Errors
    ///
    /// What the system says; the old file stays.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        durable::replace(path, &record::seal(self), 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("services");
        assert_eq!(Kept::read(&path).unwrap(), Kept::default());
        let kept = Kept {
            progress: Progress::Founding { swarm: true, consul: false },
            servers: vec![Server { node: NodeId([1; 16]), address: [192, 168, 200, 10].into() }],
            ..Kept::new(Incarnation([2; 16]), NodeId([1; 16]))
        };
        kept.write(&path).unwrap();
        assert_eq!(Kept::read(&path).unwrap(), kept);
        let mut file = fs::read(&path).unwrap();
        let last = file.len() - 3;
        file[last] ^= 1;
        fs::write(&path, file).unwrap();
        assert!(Kept::read(&path).unwrap_err().contains("checksum"));
    }
}
