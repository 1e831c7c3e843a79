//! Frames on the wire, as the state machine sees them.
//!
//! [`decode`] makes a [`Packet`] of an Ethernet frame, [`encode`] a frame of a packet. Both are pure; the simulator sends every
//! packet through both. Types hold what the node can use and nothing else: what [`decode`] drops was not for us, and
//! [`Dropped`] says why.
//!
//! Ethernet, ARP (RFC 826), IPv4 and UDP headers are `etherparse`'s, mDNS (RFC 6762) is `hickory-proto`'s and DHCP (RFC 2131)
//! `dhcproto`'s.

pub mod arp;
pub mod dhcp;
pub mod mdns;

use std::net::Ipv4Addr;

pub use self::{
    arp::Arp,
    codec::{Dropped, decode, encode},
};
use crate::link::Mac;

mod codec;

/// Everybody on the wire.
pub const BROADCAST: Mac = Mac([0xff; 6]);
/// The group that mDNS uses (RFC 6762, section 3), and its hardware address (RFC 1112).
pub const MDNS_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// The hardware address of [`MDNS_GROUP`].
pub const MDNS_MAC: Mac = Mac([0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb]);
/// The port of mDNS, source and destination.
pub const MDNS_PORT: u16 = 5353;

/// A frame that the node understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Who sent the frame.
    pub source: Mac,
    /// Whom it is for.
    pub destination: Mac,
    /// What it carries.
    pub body: Body,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Address resolution, probes and announcements included.
    Arp(Arp),
    /// Multicast DNS over UDP.
    Mdns {
        /// The sender's address; unspecified where it has none.
        source: Ipv4Addr,
        /// The querier's port: of a query where it comes from, of a response where it goes to. Not 5353: a one-shot querier that
        /// wants a unicast answer (RFC 6762, section 6.7). All other ports are 5353.
        port: u16,
        /// Where it goes: the group, or the one-shot querier.
        destination: Ipv4Addr,
        /// The message.
        message: mdns::Message,
    },
    /// DHCP over UDP, ports 67 and 68.
    Dhcp {
        /// The sender's address; unspecified where a client has none yet.
        source: Ipv4Addr,
        /// Where it goes; the limited broadcast address where the receiver has none yet.
        destination: Ipv4Addr,
        /// The message.
        message: dhcp::Message,
    },
}
