//! DHCP, client and server (RFC 2131).
//!
//! Two machines without clock or socket: [`Client`] on every member but the leader, [`Server`] on the leader. Members prove by a
//! [`Seal`] in each message that they hold the cluster key; that alone tells them from strangers, who get an address for minutes.
//! What comes in are messages, ARP packets and the time; what goes out are [`ClientOutput`] and [`ServerOutput`], to be done in
//! their order.

mod client;
mod seal;
mod server;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

pub use self::{
    client::{Client, ClientOutput, ClientSetup},
    seal::{Seal, open, seal},
    server::{Server, ServerOutput, ServerSetup},
};
use crate::{
    link::Mac,
    wire::{Arp, Body, Packet, dhcp::Message},
};

/// A DHCP message as a packet.
fn dhcp_packet(from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr), message: Message) -> Packet {
    let body = Body::Dhcp { source: from.1, destination: to.1, message };
    Packet { source: from.0, destination: to.0, body }
}

/// An ARP packet to everybody.
fn arp_packet(arp: Arp) -> Packet {
    Packet { source: arp.sender_mac, destination: crate::wire::BROADCAST, body: Body::Arp(arp) }
}
