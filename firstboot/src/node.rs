//! The node as a pure state machine: events in, actions out.
//!
//! [`Node::handle`] takes what happened, [`Node::next_timeout`] says when to call it with [`Event::Timeout`] if nothing else
//! happens. There is no clock, socket, file or random source in here; `driver` has those. Handling never fails: what goes
//! wrong becomes a state with a reason, and is tried again.
//!
//! Two machines, one in the other: [`crate::attach`] finds a wired link and makes the VLAN on it; while that is ready,
//! [`cluster`] finds or founds the cluster there.
//!
//! Actions are done in their order. [`Action::Persist`] stands before every promise that it backs: where it fails, what comes
//! after it in the same answer is not done, and [`Event::PersistFailed`] tells.

pub mod cluster;
pub mod dhcp;
mod lan;
pub mod notice;
mod random;
mod summary;

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

pub use self::{
    random::Random,
    summary::{Grant, Lease, Peer, Role, Summary},
};
use crate::{
    attach::{Attachment, Fault},
    config::NodeConfig,
    identity::{Hardware, Incarnation},
    key::ClusterKey,
    link::Link,
    marker::Marker,
    record::{Ledger, Record},
    wire::Packet,
};

/// What a node starts with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `/etc/hcl/node.toml`.
    pub config: NodeConfig,
    /// The cluster key; a card without one forms no cluster.
    pub key: Option<ClusterKey>,
    /// What it remembers.
    pub record: Option<Record>,
    /// What it runs on now.
    pub hardware: Hardware,
    /// Random bytes, new at each start.
    pub seed: [u8; 32],
}

/// One of the two networks on the cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wire {
    /// The cluster's: the VLAN, or the whole cable with `vlan = "off"`.
    Cluster,
    /// The home network, untagged on the same cable. There is none with `vlan = "off"`.
    Lan,
}

/// An address of this machine on the home network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LanAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// The length of its network's prefix.
    pub prefix: u8,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All links there are; at the start, and after the kernel dropped messages.
    Listed(Vec<Link>),
    /// A link appeared or changed.
    LinkChanged(Link),
    /// A link is gone.
    LinkRemoved {
        /// Its index.
        index: u32,
    },
    /// An action was refused.
    Refused(Fault),
    /// A frame that is not the switch's own (spanning tree, LLDP: 01:80:c2:00:00:0x) came from the cable: the switch's port forwards.
    Heard,
    /// A packet came in.
    Received {
        /// On which network.
        wire: Wire,
        /// The packet. Never one that we sent.
        packet: Packet,
    },
    /// The addresses that this machine has on networks other than the cluster's, the home network's first.
    LanAddresses(Vec<LanAddress>),
    /// [`Action::Open`] could not be done: we hear nothing, and must not take that for silence.
    OpenFailed {
        /// What the system said.
        error: String,
    },
    /// [`Action::Persist`] could not be done: nothing after it was done either.
    PersistFailed {
        /// What the system said.
        error: String,
    },
    /// The leader's role was granted, or renewed. From the first one on a node leads by grants only.
    RoleGranted {
        /// Which grant, from 1 on; grows with each owner.
        index: u64,
        /// For how long, counted from before it was asked for.
        valid_for: Duration,
        /// Who has which address, as the cluster's quorum keeps it; none where it keeps nothing yet, or said so before.
        ledger: Option<Ledger>,
        /// The founding that it is granted in; none: the node's own, whichever that is.
        incarnation: Option<Incarnation>,
    },
    /// The grant was lost or not renewed.
    RoleLost,
    /// The quorum has what [`Action::Replicate`] gave it.
    Replicated {
        /// Which.
        seq: u64,
    },
    /// The cluster holds something that a user would miss.
    Established,
    /// The program is asked to end: say goodbye.
    Stopping,
    /// The time that [`Node::next_timeout`] named has come.
    Timeout,
}

/// What to do. All of them are idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Set a link administratively up.
    BringUp {
        /// Its index.
        index: u32,
    },
    /// Create a VLAN, and set it up.
    CreateVlan {
        /// The index of the link below.
        parent: u32,
        /// The name that it gets.
        name: String,
        /// The VLAN's id.
        id: u16,
    },
    /// Remove a VLAN that is wrong or no longer wanted.
    RemoveVlan {
        /// Its index.
        index: u32,
    },
    /// Listen on the cable below until the first frame of [`Event::Heard`].
    AwaitFrame {
        /// The index of the link.
        index: u32,
    },
    /// Receive and send on these networks from now on, and on no other one. Guards them as well: what arrives for the cluster's
    /// subnet by another way is dropped, IPv6 is off on the cluster's interface.
    Open {
        /// The index of the cluster's interface.
        cluster: u32,
        /// The index of the home network's.
        lan: Option<u32>,
    },
    /// Stop receiving; drop all addresses from the cluster's interface.
    Close,
    /// Send a packet.
    Send {
        /// On which network.
        wire: Wire,
        /// The packet.
        packet: Packet,
    },
    /// Keep this on the card before doing anything that follows.
    Persist(Box<Record>),
    /// Have the cluster's quorum keep this; [`Event::Replicated`] tells when it does. What it had before is replaced, if the grant
    /// is still the one named.
    Replicate {
        /// The number of this ledger.
        seq: u64,
        /// The grant by which this node leads.
        index: u64,
        /// Who has which address.
        ledger: Ledger,
    },
    /// Give the cluster's interface an address, or more time for it.
    SetAddress {
        /// The address.
        address: Ipv4Addr,
        /// The length of the network's prefix.
        prefix: u8,
        /// After which time the kernel drops it by itself.
        valid_for: Option<Duration>,
    },
    /// Take an address from the cluster's interface.
    DropAddress {
        /// The address.
        address: Ipv4Addr,
    },
    /// The names of the cluster's hosts, ours of the hosts file: all of them, in place of the ones before.
    SetHosts(Vec<(Ipv4Addr, String)>),
    /// The addresses from which members speak, ours and the leader's among them: what members have among themselves is for these only,
    /// in place of the ones before.
    SetMembers(Vec<Ipv4Addr>),
    /// Give the node its host name, unless it has one that somebody chose.
    SetHostName(String),
    /// Tell systemd that starting is over.
    TellReady,
    /// Write a console marker.
    Mark(Marker),
    /// Log a transition.
    Log {
        /// The state before.
        from: &'static str,
        /// The state now.
        to: &'static str,
        /// Why.
        reason: String,
    },
    /// Everything for a clean end was done.
    Stopped,
}

/// The node. See the module.
#[derive(Debug)]
pub struct Node {
    attachment: Attachment,
    cluster: cluster::Cluster,
}

impl Node {
    /// A node that just started, and what to do first. [`Event::Listed`] comes next.
    pub fn start(setup: Setup, now: Instant) -> (Self, Vec<Action>) {
        let (attachment, mut actions) = Attachment::start(setup.config.clone(), now);
        let cluster = cluster::Cluster::start(setup, now, &mut actions);
        (Self { attachment, cluster }, actions)
    }

    /// Takes `event`, returns what to do about it, in this order.
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = self.attachment.handle(now, &event);
        self.cluster.link(now, self.attachment.ready(), &mut actions);
        self.cluster.handle(now, event, &mut actions);
        actions
    }

    /// When [`Event::Timeout`] is due, and what for.
    pub fn next_timeout(&self) -> Option<(Instant, &'static str)> {
        self.attachment.next_timeout().into_iter().chain(self.cluster.next_timeout()).min()
    }

    /// The node for people.
    pub fn summary(&self) -> Summary {
        self.cluster.summary(self.attachment.summary())
    }
}

#[cfg(test)]
mod tests;
