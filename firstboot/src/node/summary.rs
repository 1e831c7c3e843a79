//! What `hcl status` shows of a node.

use std::{net::Ipv4Addr, time::Instant};

use crate::{
    attach,
    identity::{Incarnation, NodeId},
    key::ClusterId,
    trouble::Trouble,
};

/// A node at one moment. Instants are the machine's; the driver makes them times since the boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The link below.
    pub link: attach::Summary,
    /// Who the node is.
    pub node: NodeId,
    /// The cluster of its key.
    pub cluster: Option<ClusterId>,
    /// What it is doing: one word.
    pub phase: &'static str,
    /// Since when.
    pub since: Instant,
    /// Why, in plain words.
    pub reason: String,
    /// What it is in the cluster.
    pub role: Role,
    /// The founding that it belongs to.
    pub incarnation: Option<Incarnation>,
    /// Whether that holds nothing yet that would be missed.
    pub provisional: bool,
    /// Its own address in the cluster, while it has it.
    pub address: Option<Ipv4Addr>,
    /// The leader, where one is known.
    pub leader: Option<Peer>,
    /// The grant of the leader's role, while this node has it.
    pub grant: Option<Grant>,
    /// Whether it led before, and nobody leads until the role is granted again.
    pub waits_for_grant: bool,
    /// Its lease, where it has one.
    pub lease: Option<Lease>,
    /// The members known, itself included.
    pub members: Vec<Peer>,
    /// How many addresses are lent to machines that are no members; on the leader.
    pub strangers: usize,
    /// What is wrong and what a person can do, a line each.
    pub complaints: Vec<String>,
    /// What a person must see to first; one of the complaints or why there is no network.
    pub trouble: Option<Trouble>,
}

/// What a node is in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing yet.
    None,
    /// A member that follows.
    Follower,
    /// The leader.
    Leader,
}

/// A member, as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who.
    pub node: NodeId,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its host name.
    pub name: String,
    /// When it was last heard; none: never since this node started.
    pub heard: Option<Instant>,
}

/// A grant of the leader's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which.
    pub index: u64,
    /// Until when, unless it is renewed.
    pub until: Instant,
}

/// A lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// From whom.
    pub server: Ipv4Addr,
    /// When it is renewed (T1).
    pub renew_at: Instant,
    /// When any server will do (T2).
    pub rebind_at: Instant,
    /// When it ends.
    pub ends_at: Instant,
}
