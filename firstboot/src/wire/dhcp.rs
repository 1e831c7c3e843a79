//! DHCP messages (RFC 2131, options in RFC 2132), as far as the cluster goes.

use std::net::Ipv4Addr;

use crate::link::Mac;

/// The option that carries a member's [`crate::node::dhcp::Seal`]: the first of the site-specific ones (RFC 3942).
pub const SEAL_OPTION: u8 = 224;

/// Option 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// DHCPDISCOVER.
    Discover,
    /// DHCPOFFER.
    Offer,
    /// DHCPREQUEST.
    Request,
    /// DHCPDECLINE.
    Decline,
    /// DHCPACK.
    Ack,
    /// DHCPNAK.
    Nak,
    /// DHCPRELEASE.
    Release,
    /// DHCPINFORM.
    Inform,
}

/// One message. `op` follows from `kind`; relayed messages (`giaddr` set) are dropped when decoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// The transaction.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Whether the client cannot take a unicast yet.
    pub broadcast: bool,
    /// The client's address, where it has one and may answer for it.
    pub ciaddr: Ipv4Addr,
    /// The address that the server gives.
    pub yiaddr: Ipv4Addr,
    /// The client's hardware address.
    pub chaddr: Mac,
    /// Option 50: the address that the client asks for.
    pub requested: Option<Ipv4Addr>,
    /// Option 54: which server.
    pub server: Option<Ipv4Addr>,
    /// Option 51, in seconds.
    pub lease: Option<u32>,
    /// Option 58 (T1), in seconds.
    pub renewal: Option<u32>,
    /// Option 59 (T2), in seconds.
    pub rebinding: Option<u32>,
    /// Option 1.
    pub mask: Option<Ipv4Addr>,
    /// Option 28.
    pub broadcast_address: Option<Ipv4Addr>,
    /// Option 61.
    pub client_id: Option<Vec<u8>>,
    /// Option 12. Letters, digits, hyphens and dots only; another one is dropped when decoding.
    pub host_name: Option<String>,
    /// Option 56: why not.
    pub text: Option<String>,
    /// Option 55: what the client wants to know. A server answers with those that it has.
    pub parameters: Vec<u8>,
    /// Option 224.
    pub seal: Option<Vec<u8>>,
}

impl Message {
    /// A message of `kind` with nothing in it.
    pub fn new(kind: Kind, xid: u32, chaddr: Mac) -> Self {
        Self {
            kind,
            xid,
            secs: 0,
            broadcast: false,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            requested: None,
            server: None,
            lease: None,
            renewal: None,
            rebinding: None,
            mask: None,
            broadcast_address: None,
            client_id: None,
            host_name: None,
            text: None,
            parameters: Vec::new(),
            seal: None,
        }
    }

    /// Whether a server sends this.
    pub fn is_reply(&self) -> bool {
        matches!(self.kind, Kind::Offer | Kind::Ack | Kind::Nak)
    }
}
