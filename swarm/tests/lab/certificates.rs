//! Certificates as a card and a laptop have them, in the files that `hcl-swarm` and Docker's clients read.

use std::{fs::File, io::Read, net::Ipv4Addr, path::Path};

use hcl_firstboot::{
    endpoint::files::Files,
    trust::{Issued, NodeNames, Trust, Validity},
};

use super::{Cluster, Machine};

/// The address that goes with the leader's role. No machine of the lab has it.
pub const LEADER: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 1);

/// What `hcl-swarm --tls` takes on `node`, and Consul's token: as the node program lays them.
pub fn of_node(cluster: &Cluster, node: &Machine, folder: &Path) {
    Files::of_node(&cluster.key, &names(node), LEADER).lay(folder, None).unwrap();
}

/// A new certificate for the user `name`.
pub fn user(trust: &Trust, name: &str) -> Issued {
    trust.users.issue(&name.parse().unwrap(), Validity::LIFE, &seed())
}

/// What a Docker client takes from `DOCKER_CERT_PATH` to ask with the certificate `issued`.
pub fn of_user(trust: &Trust, issued: &Issued, folder: &Path) {
    Files::of_user(trust, issued).lay(folder, None).unwrap();
}

/// The same, to ask as the node `machine` at the port where nodes carry their engines.
pub fn as_node(trust: &Trust, machine: &Machine, folder: &Path) {
    of_user(trust, &trust.nodes.issue(&names(machine), Validity::LIFE, &seed()), folder);
    std::fs::write(folder.join("ca.pem"), trust.nodes.certificate_pem()).unwrap();
}

/// What `node` is called in certificates.
pub fn names(node: &Machine) -> NodeNames {
    NodeNames::new(node.id(), node.address, &node.name).unwrap()
}

/// Bytes that were not used before.
pub fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    File::open("/dev/urandom").unwrap().read_exact(&mut seed).unwrap();
    seed
}
