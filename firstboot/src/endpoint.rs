//! The whole cluster behind one Docker endpoint, `tcp://master:2378`: what `hcl-swarm` is given on a node.
//!
//! `hcl-swarm` runs in two containers on the node's own network ([`container`]): *join* on every node carries the engine to the node's
//! address for other nodes, *manage* on every server answers people. Both read [`files`], which follow from the cluster key, so that
//! each node writes its own and a restart changes nothing.

pub mod container;
pub mod files;

/// The folder on a node with all files of both containers; they see it under the same name.
pub const STATE: &str = "/var/lib/hcl/swarm";
/// Where each node's engine answers, on its own address in the cluster, for nodes.
pub const JOIN_PORT: u16 = 2376;
/// Where servers answer people, on all their addresses.
pub const MANAGE_PORT: u16 = 2378;
/// What the image is called in `/etc/hcl/images.json`.
pub const IMAGE: &str = "swarm";
