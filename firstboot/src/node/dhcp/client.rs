//! The client.

use std::{net::Ipv4Addr, time::Instant};

use super::Seal;
use crate::{
    identity::{Incarnation, NodeId},
    key::Seals,
    link::Mac,
    node::{Lease, random::Random},
    wire::{Arp, Packet, dhcp::Message},
};

/// What a client starts with.
#[derive(Clone, Debug)]
pub struct ClientSetup {
    /// The hardware address of the cluster's interface.
    pub mac: Mac,
    /// Who asks.
    pub node: NodeId,
    /// What tells right servers from others. None: any server will do, as any other DHCP client has it.
    pub seals: Option<Seals>,
    /// The founding that the node belongs to: only a reply sealed with this one is accepted. None: that of any.
    pub incarnation: Option<Incarnation>,
    /// The address that it had.
    pub remembered: Option<Ipv4Addr>,
    /// Its host name.
    pub name: String,
}

/// What to do about it, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientOutput {
    /// Send a packet.
    Send(Packet),
    /// There is an address, and it was probed.
    Bound {
        /// The address.
        address: Ipv4Addr,
        /// The length of its network's prefix.
        prefix: u8,
        /// Its lease.
        lease: Lease,
        /// The founding that the server serves.
        incarnation: Option<Incarnation>,
        /// The server.
        server: Ipv4Addr,
        /// Who the server is.
        seal: Option<Seal>,
    },
    /// The address has more time.
    Renewed {
        /// Its lease now.
        lease: Lease,
    },
    /// There is no address any more.
    Lost {
        /// Why.
        reason: String,
    },
    /// Somebody else has the address that the server gave; it was told.
    Declined {
        /// The address.
        address: Ipv4Addr,
    },
}

/// The client.
#[derive(Debug)]
pub struct Client {
    setup: ClientSetup,
}

impl Client {
    /// A client that just started.
    pub(in crate::node) fn start(setup: ClientSetup, now: Instant, random: &mut Random, out: &mut Vec<ClientOutput>) -> Self {
        let _ = (now, random, out);
        Self { setup }
    }

    /// Takes a message.
    pub(in crate::node) fn handle(
        &mut self,
        now: Instant,
        source: Mac,
        message: &Message,
        random: &mut Random,
        out: &mut Vec<ClientOutput>,
    ) {
        let _ = (&self.setup, now, source, message, random, out);
    }

    /// Takes an ARP packet.
    pub fn arp(&mut self, now: Instant, arp: &Arp, out: &mut Vec<ClientOutput>) {
        let _ = (now, arp, out);
    }

    /// The time that [`Client::next_timeout`] named has come.
    pub(in crate::node) fn timeout(&mut self, now: Instant, random: &mut Random, out: &mut Vec<ClientOutput>) {
        let _ = (now, random, out);
    }

    /// When to call [`Client::timeout`].
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// Gives the address back.
    pub fn release(&mut self, now: Instant, out: &mut Vec<ClientOutput>) {
        let _ = (now, out);
    }

    /// The lease, where there is one.
    pub fn lease(&self) -> Option<Lease> {
        None
    }
}
