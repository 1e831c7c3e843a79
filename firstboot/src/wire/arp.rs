//! ARP for IPv4 over Ethernet (RFC 826), probes and announcements as in RFC 5227.

use std::net::Ipv4Addr;

use crate::link::Mac;

/// Request or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender address is mine.
    Reply,
}

/// One ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// The sender's hardware address.
    pub sender_mac: Mac,
    /// The sender's address; unspecified in a probe.
    pub sender: Ipv4Addr,
    /// The hardware address that is asked for: zero in a request.
    pub target_mac: Mac,
    /// The address that is asked for.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Asks whether somebody has `address` without claiming it (RFC 5227, section 2.1.1).
    pub fn probe(mac: Mac, address: Ipv4Addr) -> Self {
        let sender = Ipv4Addr::UNSPECIFIED;
        Self { operation: Operation::Request, sender_mac: mac, sender, target_mac: Mac([0; 6]), target: address }
    }

    /// Tells everybody that `address` is at `mac` (RFC 5227, section 2.3).
    pub fn announcement(mac: Mac, address: Ipv4Addr) -> Self {
        Self { sender: address, ..Self::probe(mac, address) }
    }

    /// Answers `self`, a request for `self.target`, in the name of `mac`.
    pub fn reply(&self, mac: Mac) -> Self {
        Self {
            operation: Operation::Reply,
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        }
    }

    /// Whether this is a probe.
    pub fn is_probe(&self) -> bool {
        self.operation == Operation::Request && self.sender.is_unspecified()
    }
}
