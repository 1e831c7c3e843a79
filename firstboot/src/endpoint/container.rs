//! The two containers of `hcl-swarm`.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use super::{JOIN_PORT, MANAGE_PORT, STATE, files};
use crate::{
    consul,
    engine::{self, ContainerSpec, Mount},
};

/// The container on every node.
pub const JOIN: &str = "hcl-swarm-join";
/// The container on every server.
pub const MANAGE: &str = "hcl-swarm-manage";
/// Where the program lies in the image.
const PROGRAM: &str = "/hcl-swarm";
/// The label with the digest of the files that a running container has read.
const FILES_LABEL: &str = "hcl.files";
/// The most memory that each gets, in bytes: several times what it needs, and no more than a small board can lose.
const MEMORY: u64 = 128 << 20;
/// The most threads in each.
const THREADS: u32 = 64;

/// Where things lie on the node. In the containers they lie at the places of a node, whatever is said here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The folder of the files, [`STATE`] on a node.
    pub state: PathBuf,
    /// The folder of Consul's socket.
    pub consul: PathBuf,
    /// The engine's socket.
    pub engine: PathBuf,
}

impl Default for Places {
    /// On a node.
    fn default() -> Self {
        Self { state: STATE.into(), consul: consul::RUN.into(), engine: engine::SOCKET.into() }
    }
}

/// The node that they run on, and what they are made of.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// The image's reference.
    pub image: &'a str,
    /// The node's host name.
    pub name: &'a str,
    /// Its own address in the cluster.
    pub address: Ipv4Addr,
    /// The digest of the files.
    pub digest: &'a str,
}

/// What *join* is.
pub fn join(node: &Node<'_>, places: &Places) -> ContainerSpec {
    let mut spec = common(JOIN, node, places);
    spec.command.extend(arguments("join", (node.address, JOIN_PORT), node));
    spec.command.extend(["--engine".to_owned(), engine::SOCKET.to_owned()]);
    spec.mounts.push(mount(&places.engine, engine::SOCKET, false));
    spec
}

/// What *manage* is. It reaches every engine through *join*, its own node's as well.
pub fn manage(node: &Node<'_>, places: &Places) -> ContainerSpec {
    let mut spec = common(MANAGE, node, places);
    // The home network's machines ask as well. IPv4 only: the cluster has no other, and `master.local` is announced with no other.
    spec.command.extend(arguments("manage", (Ipv4Addr::UNSPECIFIED, MANAGE_PORT), node));
    spec
}

fn common(container: &str, node: &Node<'_>, places: &Places) -> ContainerSpec {
    ContainerSpec {
        // Root without a single capability: the sockets are root's.
        user: Some("0:0".to_owned()),
        command: vec![PROGRAM.to_owned()],
        // The folder, not the socket in it: Consul makes that anew with each start.
        mounts: vec![mount(&places.state, STATE, true), mount(&places.consul, consul::RUN, true)],
        memory: Some(MEMORY),
        processes: Some(THREADS),
        labels: BTreeMap::from([(FILES_LABEL.to_owned(), node.digest.to_owned())]),
        ..ContainerSpec::new(container, node.image)
    }
}

fn arguments(command: &str, (listen, port): (Ipv4Addr, u16), node: &Node<'_>) -> Vec<String> {
    let (listen, address) = (format!("{listen}:{port}"), node.address.to_string());
    let token = format!("{STATE}/{}", files::TOKEN);
    let options = [
        ("--listen", listen.as_str()),
        ("--name", node.name),
        ("--address", &address),
        ("--tls", STATE),
        ("--consul", consul::SOCKET),
        ("--token-file", &token),
    ];
    let options = options.into_iter().flat_map(|(option, value)| [option.to_owned(), value.to_owned()]);
    std::iter::once(command.to_owned()).chain(options).collect()
}

fn mount(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount { source: source.to_owned(), target: target.into(), read_only }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Node<'_> = Node { image: "hcl/swarm:1", name: "node-1", address: Ipv4Addr::new(192, 168, 200, 77), digest: "0" };

    fn both(node: &Node<'_>) -> [ContainerSpec; 2] {
        [join(node, &Places::default()), manage(node, &Places::default())]
    }

    #[test]
    fn what_they_are_told() {
        let words = |spec: &ContainerSpec| spec.command.join(" ");
        let common = "--name node-1 --address 192.168.200.77 --tls /var/lib/hcl/swarm --consul /run/hcl-consul/http.sock \
                      --token-file /var/lib/hcl/swarm/token";
        let [join, manage] = both(&NODE);
        assert_eq!(words(&join), format!("/hcl-swarm join --listen 192.168.200.77:2376 {common} --engine /run/docker.sock"));
        assert_eq!(words(&manage), format!("/hcl-swarm manage --listen 0.0.0.0:2378 {common}"));
        for spec in [&join, &manage] {
            assert!(spec.read_only && spec.capabilities.is_empty() && spec.memory.is_some() && spec.processes.is_some());
            assert!(spec.mounts.iter().all(|mount| mount.source == mount.target));
        }
        assert!(!manage.mounts.iter().any(|mount| mount.source.ends_with("docker.sock")), "it has no use for it");
    }

    #[test]
    fn other_files_are_another_container() {
        let other = both(&Node { digest: "1", ..NODE });
        assert!(both(&NODE).iter().zip(&other).all(|(one, other)| one != other));
    }
}
