//! The server.

use std::{net::Ipv4Addr, time::Instant};

use crate::{
    config::{Addresses, LeaseTime},
    identity::{Incarnation, NodeId},
    key::Seals,
    link::Mac,
    record::Ledger,
    wire::{Arp, Packet, dhcp::Message},
};

/// What a server starts with.
#[derive(Clone, Debug)]
pub struct ServerSetup {
    /// The subnet and its parts.
    pub addresses: Addresses,
    /// How long a member's lease lasts.
    pub lease: LeaseTime,
    /// Who has which address.
    pub ledger: Ledger,
    /// The node that the server runs on.
    pub own: (NodeId, Mac),
    /// Its host name.
    pub own_name: String,
    /// The founding that it serves.
    pub incarnation: Incarnation,
    /// What tells members from strangers.
    pub seals: Seals,
}

/// What to do about it, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerOutput {
    /// Keep [`Server::ledger`] before doing anything that follows.
    Persist,
    /// Send a packet.
    Send(Packet),
    /// Something that is worth a line in the log.
    Log(String),
}

/// The server.
#[derive(Debug)]
pub struct Server {
    setup: ServerSetup,
}

impl Server {
    /// A server that just started.
    pub fn start(setup: ServerSetup, now: Instant) -> Self {
        let _ = now;
        Self { setup }
    }

    /// Takes a message that came from `source` and `source_ip`.
    pub fn handle(&mut self, now: Instant, source: Mac, source_ip: Ipv4Addr, message: &Message, out: &mut Vec<ServerOutput>) {
        let _ = (now, source, source_ip, message, out);
    }

    /// Takes an ARP packet.
    pub fn arp(&mut self, now: Instant, arp: &Arp, out: &mut Vec<ServerOutput>) {
        let _ = (now, arp, out);
    }

    /// The time that [`Server::next_timeout`] named has come.
    pub fn timeout(&mut self, now: Instant, out: &mut Vec<ServerOutput>) {
        let _ = (now, out);
    }

    /// When to call [`Server::timeout`].
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// Who has which address: what [`ServerOutput::Persist`] keeps.
    pub fn ledger(&self) -> Ledger {
        self.setup.ledger.clone()
    }

    /// The address of the node that the server runs on.
    pub fn own_address(&self) -> Ipv4Addr {
        Ipv4Addr::UNSPECIFIED
    }

    /// How many addresses are lent to strangers.
    pub fn strangers(&self) -> usize {
        0
    }

    /// What is wrong and what a person can do.
    pub fn complaint(&self) -> Option<String> {
        None
    }
}
