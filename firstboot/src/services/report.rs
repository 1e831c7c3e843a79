//! What a node tells the leader every few seconds, and what it is told.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::kept::Server;
use crate::{identity::Incarnation, view};

/// The most that a report may be long, in bytes: a node with hundreds of containers.
pub const LONGEST: usize = 256 << 10;

/// `POST /v1/report`: how a node is. Who it is says the session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The founding that it belongs to.
    pub incarnation: Incarnation,
    /// Its id in the swarm, once it is in.
    pub swarm_id: Option<String>,
    /// It runs a Consul server.
    pub serves: bool,
    /// It is to run a Consul server and has no data of one: it waits for [`Told::cleared`].
    #[serde(default)]
    pub empty: bool,
    /// It made the swarm's second manager, and has not seen two that work: nobody makes a third one.
    #[serde(default)]
    pub pairing: bool,
    /// It is in, and all of it runs: a candidate for a server.
    pub settled: bool,
    /// It holds something of a user's.
    pub used: bool,
    /// What the page shows of it.
    pub node: view::Node,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// Whether the node is to be a server.
    pub serve: bool,
    /// Consul's servers do not count it, or not any more: only said to one that asked.
    pub cleared: bool,
    /// The servers that there are, for the next start.
    pub servers: Vec<Server>,
    /// The cluster's time, in seconds since 1970, where the leader's clock is trusted.
    pub clock: Option<u64>,
    /// The cluster as the leader sees it.
    pub view: view::View,
}

/// A member, as the network knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Who leads.
    pub node: crate::identity::NodeId,
    /// Its own address, which stays when the role moves.
    pub address: Ipv4Addr,
}
