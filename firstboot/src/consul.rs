//! Consul on a node: its configuration, its secrets, and what the node asks of it.
//!
//! Consul runs as a container on the host's network ([`container::spec`]) with the files that [`Setup`] writes, and answers on a unix
//! socket ([`Client`]). Everything secret in it is derived from the cluster key ([`Secrets`]), so that each node can write its own
//! configuration. [`acl`] makes the tokens once; [`Lock`] is how a node comes to lead and how it knows that it still does.

pub mod acl;
pub mod catalog;
mod client;
pub mod container;
mod id;
pub mod kv;
pub mod lock;
pub mod raft;
pub mod secrets;
pub mod servers;
pub mod session;
pub mod setup;
pub mod users;
pub mod version;

pub use client::{Client, Error};
pub use id::{node_id, uuid};
pub use lock::Lock;
pub use secrets::Secrets;
pub use setup::{Places, Setup};
pub use version::Version;

/// The only datacenter.
pub const DATACENTER: &str = "hcl";
/// The folder on a node that the container sees as `/consul`.
pub const STATE: &str = "/var/lib/hcl/consul";
/// The folder on a node in which the socket lies; the container sees it under the same name.
pub const RUN: &str = "/run/hcl-consul";
/// Consul's HTTP on a node.
pub const SOCKET: &str = "/run/hcl-consul/http.sock";

/// What lies under `hcl/` is ours; any other key is a user's.
pub mod keys {
    /// Where all of ours lie.
    pub const OURS: &str = "hcl/";
    /// The lock: whoever holds it leads.
    pub const LEADER: &str = "hcl/leader";
    /// The leader's DHCP ledger.
    pub const LEDGER: &str = "hcl/ledger";
    /// Who may use the cluster's Docker endpoint: below it a key for each user who was added or removed.
    pub const USERS: &str = "hcl/users/";
    /// The ids of the nodes that are to be servers.
    pub const SERVERS: &str = "hcl/servers";
}

/// The service that a node's engine is in the catalog.
pub const ENGINE: &str = "hcl-engine";
