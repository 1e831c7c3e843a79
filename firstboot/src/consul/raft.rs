//! The servers: who votes, and what to do when too few are left.

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::json;

use super::{Client, Error, client::escaped, node_id, uuid};
use crate::{durable, identity::NodeId};

/// The port on which servers speak with one another.
pub const PORT: u16 = 8300;

/// A server, as the servers have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id, as Consul writes it.
    pub id: String,
    /// Which node it is; none for one that is not ours.
    pub node: Option<NodeId>,
    /// Where it is.
    pub address: String,
    /// Whether it leads the servers.
    pub leader: bool,
    /// Whether it votes. A new one does once it was healthy for ten seconds.
    pub voter: bool,
}

/// How the servers are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// All of them are well.
    pub healthy: bool,
    /// How many of them may fail without harm.
    pub failure_tolerance: u32,
    /// Each of them.
    pub servers: Vec<ServerHealth>,
}

/// How one server is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServerHealth {
    /// Its id, as Consul writes it.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub name: String,
    /// It is reached, and has what the leader has.
    pub healthy: bool,
    /// It votes.
    pub voter: bool,
}

impl Client {
    /// All servers that count. Needs a leader.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn peers(&self) -> Result<Vec<Peer>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Configuration {
            servers: Vec<Raw>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Raw {
            #[serde(rename = "ID")]
            id: String,
            address: String,
            leader: bool,
            voter: bool,
        }
        let peer = |raw: Raw| {
            let node = node_id(&raw.id);
            Peer { id: raw.id, node, address: raw.address, leader: raw.leader, voter: raw.voter }
        };
        Ok(self.read::<Configuration>("/v1/operator/raft/configuration")?.servers.into_iter().map(peer).collect())
    }

    /// Takes a server out of those that count. Needs a leader.
    ///
    /// One whose data are lost must be taken out before it comes back: it would vote again as if it had not voted, and for one
    /// that lacks what it had confirmed.
    ///
    /// # Errors
    ///
    /// Consul did not, or did not say.
    pub fn remove_peer(&self, id: &str) -> Result<(), Error> {
        self.done("DELETE", &format!("/v1/operator/raft/peer?id={}", escaped(id)), None).map(|_| ())
    }

    /// Takes out of those that count all that are for good no more: those that are not `wanted` and do not answer (a card that was written
    /// anew has another id), and the `empty` ones, which lost their data and wait for that before they come back. Needs a leader.
    ///
    /// # Errors
    ///
    /// Consul did not, or did not say: then an empty one must not start.
    pub fn clear_peers(&self, wanted: &[NodeId], answers: impl Fn(NodeId) -> bool, empty: &[NodeId]) -> Result<(), Error> {
        for peer in self.peers()? {
            let Some(node) = peer.node else { continue };
            if empty.contains(&node) || !wanted.contains(&node) && !answers(node) {
                self.remove_peer(&peer.id)?;
            }
        }
        Ok(())
    }

    /// How the servers are. Needs a leader, which takes some seconds to know after its election.
    ///
    /// # Errors
    ///
    /// Consul does not say.
    pub fn health(&self) -> Result<Health, Error> {
        let path = "/v1/operator/autopilot/health";
        let response = self.raw("GET", path, None)?;
        let what = format!("GET {path}");
        // That not all is well is an answer, too.
        if !response.is_success() && response.status != 429 {
            return Err(Error::Refused { what, status: response.status, text: response.text() });
        }
        super::client::Answer::new(what, response).json()
    }
}

/// Makes the agent with the data in `data`, which does not run, come up with `servers` alone as those that count: for a lab whose other
/// servers are gone for good. What only they had confirmed is lost. Consul applies it at its next start, once.
///
/// # Errors
///
/// What the system says about which file; not found where the agent never was a server.
pub fn recover(data: &Path, servers: &[(NodeId, Ipv4Addr)]) -> Result<(), (PathBuf, io::Error)> {
    let folder = data.join("raft");
    // Consul makes this one when it is first a server, and takes peers.json for one of an old version without it.
    let sentinel = folder.join("peers.info");
    fs::metadata(&sentinel).map_err(|error| (sentinel, error))?;
    let peer = |(node, address): &(NodeId, Ipv4Addr)| json!({ "id": uuid(node.0), "address": format!("{address}:{PORT}"), "non_voter": false });
    let peers: Vec<_> = servers.iter().map(peer).collect();
    let path = folder.join("peers.json");
    durable::replace(&path, format!("{:#}\n", json!(peers)).as_bytes(), 0o600).map_err(|error| (path, error))
}

/// Makes the agent with the data in `data`, which does not run, go on alone as the server `own`: with what it has as a server, or with
/// nothing, for one that is founded anew. Whether it has something.
///
/// # Errors
///
/// What the system says about which file.
pub fn go_on_alone(data: &Path, own: (NodeId, Ipv4Addr)) -> Result<bool, (PathBuf, io::Error)> {
    if has_state(data) { recover(data, &[own]).map(|()| true) } else { wipe(data).map(|()| false) }
}

/// Forgets all that the agent, which does not run, has in `data`: before a node joins another cluster, or joins its own again after a
/// part of it was lost. The folder stays, for it may be mounted.
///
/// # Errors
///
/// What the system says about which file. What is left then is no whole.
pub fn wipe(data: &Path) -> Result<(), (PathBuf, io::Error)> {
    let entries = match fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err((data.to_owned(), error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| (data.to_owned(), error))?;
        let path = entry.path();
        let is_folder = entry.file_type().map_err(|error| (path.clone(), error))?.is_dir();
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| (path, error))?;
    }
    Ok(())
}

/// Whether the agent with the data in `data` has what servers keep.
pub fn has_state(data: &Path) -> bool {
    data.join("raft/raft.db").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovering_and_wiping() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let servers = [(NodeId([1; 16]), [192, 168, 200, 10].into())];
        let (path, error) = recover(&data, &servers).unwrap_err();
        assert_eq!((path, error.kind()), (data.join("raft/peers.info"), io::ErrorKind::NotFound));
        assert_eq!(wipe(&data).map_err(|(path, _)| path), Ok(()));
        fs::create_dir_all(data.join("raft")).unwrap();
        fs::write(data.join("raft/peers.info"), "").unwrap();
        recover(&data, &servers).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&fs::read(data.join("raft/peers.json")).unwrap()).unwrap();
        let id = "01010101-0101-0101-0101-010101010101";
        assert_eq!(written, json!([{ "id": id, "address": "192.168.200.10:8300", "non_voter": false }]));
        fs::write(data.join("node-id"), "a").unwrap();
        wipe(&data).unwrap();
        assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
    }
}
