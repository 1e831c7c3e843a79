//! What the client says, and what it takes from an answer.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{Client, Held};
use crate::{
    identity::{Incarnation, NodeId},
    link::Mac,
    node::{
        Lease,
        dhcp::{Seal, seal},
    },
    wire::dhcp::{Kind, Message},
};

/// Mask, broadcast address, lease, T1, T2 (RFC 2132).
const WANTED: [u8; 5] = [1, 28, 51, 58, 59];
/// A shorter lease would be renewed all the time: it is not taken.
const SHORTEST_LEASE: u32 = 10;

/// The client identifier of `node` (RFC 4361): type 255, an IAID of zero, and a DUID that is a UUID (RFC 6355).
pub(super) fn client_id(node: NodeId) -> Vec<u8> {
    [&[255, 0, 0, 0, 0, 0, 4][..], &node.0].concat()
}

/// What an offer or acknowledgement grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) address: Ipv4Addr,
    pub(super) server: Ipv4Addr,
    prefix: u8,
    renewal: u32,
    rebinding: u32,
    lease: u32,
}

impl Granted {
    /// None where something is missing or cannot be.
    pub(super) fn read(message: &Message) -> Option<Self> {
        let address = message.yiaddr;
        let server = message.server?;
        let mask = u32::from(message.mask?);
        let prefix = mask.leading_ones();
        let host = u32::from(address) & !mask;
        let is_host = mask.count_ones() == prefix && (8..=30).contains(&prefix) && host != 0 && host != !mask;
        let unusable = address.is_loopback() || address.is_multicast() || address == server || address.octets()[0] == 0;
        let lease = message.lease.filter(|lease| *lease >= SHORTEST_LEASE)?;
        if !is_host || unusable {
            return None;
        }
        // Section 4.4.5: half and seven eighths, where the server says nothing that makes sense.
        let given = (message.renewal.unwrap_or_default(), message.rebinding.unwrap_or_default());
        let sensible = 0 < given.0 && given.0 < given.1 && given.1 < lease;
        let (renewal, rebinding) = if sensible { given } else { (lease / 2, lease - lease / 8) };
        Some(Self { address, server, prefix: prefix as u8, renewal, rebinding, lease })
    }

    /// The times count from `begun`, when the request was sent (section 4.4.1).
    pub(super) fn held(self, xid: u32, begun: Instant, server_mac: Mac, seal: Option<Seal>) -> Held {
        let at = |seconds: u32| begun + Duration::from_secs(seconds.into());
        let lease =
            Lease { server: self.server, renew_at: at(self.renewal), rebind_at: at(self.rebinding), ends_at: at(self.lease) };
        Held { xid, address: self.address, prefix: self.prefix, server: self.server, server_mac, seal, lease }
    }
}

impl Client {
    /// A message of `kind` with what all of its kind have.
    pub(super) fn message(&self, kind: Kind, xid: u32) -> Message {
        let mut message = Message::new(kind, xid, self.setup.mac);
        message.client_id = Some(client_id(self.setup.node));
        if matches!(kind, Kind::Discover | Kind::Request) {
            message.parameters = WANTED.to_vec();
            message.host_name = Some(self.setup.name.clone()).filter(|name| !name.is_empty());
        }
        message
    }

    /// `message` with the seal of this node, where it has one. Nothing may change in it afterwards.
    pub(super) fn sealed(&self, mut message: Message, incarnation: Option<Incarnation>) -> Message {
        if let Some(seals) = &self.setup.seals {
            seal(seals, &mut message, &Seal { node: self.setup.node, incarnation });
        }
        message
    }
}
