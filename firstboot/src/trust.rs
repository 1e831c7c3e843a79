//! Who is who: everything that a node proves comes out of the cluster key.
//!
//! [`Trust`] holds three certificate authorities derived from the key, one for each use, so that no certificate of one use says
//! anything for another one: [`Nodes`] for TLS between nodes, [`Consul`] for Consul's RPC, [`Users`] for people. Every card derives
//! the same bytes. A node issues itself what it shows ([`Identity`]), with a fresh key that stays in memory; an identity opens and
//! takes [`Session`]s, and only those know a [`Peer`]. [`join`] is what is asked and answered in them.
//!
//! Nothing here asks for the time or for random bytes: both are passed in. A clock that is not trusted is `None`, and then the
//! dates in certificates do not count.

mod authority;
mod certificate;
mod channel;
mod der;
#[cfg(target_os = "linux")]
mod dial;
pub mod join;
mod names;
mod person;
mod provider;
mod session;
mod verify;

pub use authority::{Consul, ConsulRole, Issued, Nodes, Users};
pub use certificate::Validity;
pub use channel::Channel;
#[cfg(target_os = "linux")]
pub use dial::dial;
pub use names::{BadNames, NodeNames, Peer, UserName};
pub use person::Person;
pub use session::{Error, Exporter, Identity, Session};
pub use verify::{BadCertificate, Wanted};

use crate::key::{ClusterId, ClusterKey};

/// A moment in seconds since 1970-01-01T00:00:00Z, from a clock that is trusted.
pub type UnixSeconds = u64;

/// What is derived from the cluster key for certificates and sessions. As secret as the key.
pub struct Trust {
    /// The cluster.
    pub cluster: ClusterId,
    /// For TLS between nodes.
    pub nodes: Nodes,
    /// For Consul's RPC.
    pub consul: Consul,
    /// For people.
    pub users: Users,
    /// Ties a request to its session.
    pub binder: join::Binder,
}

impl Trust {
    /// What follows from `key`; the same on every card.
    pub fn new(key: &ClusterKey) -> Self {
        Self {
            cluster: key.cluster(),
            nodes: Nodes::new(key),
            consul: Consul::new(key),
            users: Users::new(key),
            binder: join::Binder::new(key),
        }
    }

    /// The node of these names, with a key made of `seed`: 32 random bytes that were never used before.
    pub fn identity(&self, names: NodeNames, seed: &[u8; 32]) -> Identity {
        let issued = self.nodes.issue(&names, Validity::LIFE, seed);
        Identity::new(names, &issued, &self.nodes)
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trust of {}", self.cluster)
    }
}

#[cfg(test)]
mod tests;
