//! Frames to packets and back: `frame` does Ethernet, ARP, IPv4 and UDP, `mdns` and `dhcp` what is in a datagram.
//!
//! Decoding is strict where a sloppy reading could be taken for something else, and bounded: no frame, however forged, makes it
//! panic, recurse deeply or allocate more than a few times the frame's size. Encoding leaves out what a frame cannot hold.

mod dhcp;
mod frame;
mod mdns;
#[cfg(test)]
mod tests;

use etherparse::EtherType;

use self::frame::{Datagram, Ethernet};
use super::{Body, MDNS_PORT, Packet};

/// Why a frame was not for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// No Ethernet frame.
    #[error("{0} bytes are no Ethernet frame")]
    Short(usize),
    /// A tag of this EtherType: the interface of the VLAN hands frames up without it, so this one is for another network.
    #[error("has a VLAN tag (0x{0:04x})")]
    Tagged(u16),
    /// Another EtherType.
    #[error("EtherType 0x{0:04x} is not of the cluster")]
    EtherType(u16),
    /// A group cannot send.
    #[error("comes from a group's address")]
    Group,
    /// ARP, but not a request or reply for IPv4 over Ethernet.
    #[error("ARP: {0}")]
    Arp(&'static str),
    /// No IPv4 header, or one that lies about its size.
    #[error("IPv4: {0}")]
    Ip(&'static str),
    /// A part of a datagram. All ours fit one frame.
    #[error("IPv4: a fragment")]
    Fragment,
    /// A wrong checksum of IPv4 or UDP.
    #[error("{layer}: the checksum is 0x{found:04x}, not 0x{right:04x}")]
    Checksum {
        /// `IPv4` or `UDP`.
        layer: &'static str,
        /// What is in the header.
        found: u16,
        /// What belongs there.
        right: u16,
    },
    /// Another protocol than UDP.
    #[error("IPv4: protocol {0} is not of the cluster")]
    Protocol(u8),
    /// A UDP header that lies about its size.
    #[error("UDP: {0}")]
    Udp(&'static str),
    /// Another service.
    #[error("UDP: nothing of the cluster goes from port {source_port} to {destination_port}")]
    Ports {
        /// From.
        source_port: u16,
        /// To.
        destination_port: u16,
    },
    /// A DNS message that cannot be read, or must not be (RFC 6762, section 18).
    #[error("mDNS: {0}")]
    Mdns(&'static str),
    /// A good mDNS message about other things.
    #[error("mDNS: nothing about the cluster")]
    NothingForUs,
    /// A DHCP message that cannot be read, or is not for a server or client on this wire.
    #[error("DHCP: {0}")]
    Dhcp(&'static str),
    /// A DHCP option with a value that it cannot have.
    #[error("DHCP: option {code} with {length} bytes cannot be read")]
    Option {
        /// Which.
        code: u8,
        /// How long its value is, all its parts together.
        length: usize,
    },
}

/// The packet in an Ethernet `frame`, which ends before the frame check sequence.
///
/// The checksums count: whoever reads from a packet socket must let pass what the kernel marks as not summed yet
/// (`TP_STATUS_CSUMNOTREADY`) only after summing it.
///
/// # Errors
///
/// The frame is not for us.
pub fn decode(frame: &[u8]) -> Result<Packet, Dropped> {
    let Ethernet { source, destination, kind, payload } = frame::open(frame)?;
    let body = match kind {
        EtherType::ARP => Body::Arp(frame::open_arp(payload)?),
        EtherType::IPV4 => open_datagram(&frame::open_datagram(payload)?)?,
        EtherType(other) => return Err(Dropped::EtherType(other)),
    };
    Ok(Packet { source, destination, body })
}

fn open_datagram(datagram: &Datagram) -> Result<Body, Dropped> {
    let &Datagram { source, source_port, destination, destination_port, payload } = datagram;
    match (source_port, destination_port) {
        (_, dhcp::SERVER_PORT | dhcp::CLIENT_PORT) => {
            let message = dhcp::decode(payload)?;
            // A request that goes to the client's port, or an answer to the server's, would be for nobody.
            if dhcp::destination_port(&message) != destination_port {
                return Err(Dropped::Ports { source_port, destination_port });
            }
            Ok(Body::Dhcp { source, destination, message })
        }
        (MDNS_PORT, _) | (_, MDNS_PORT) => {
            let message = mdns::decode(payload, destination_port)?;
            // The other end's port is the one that tells a one-shot querier. Answers come from 5353 (RFC 6762, section 6),
            // questions go there.
            let (fixed, port) = if message.response { (source_port, destination_port) } else { (destination_port, source_port) };
            if fixed != MDNS_PORT {
                return Err(Dropped::Ports { source_port, destination_port });
            }
            Ok(Body::Mdns { source, port, destination, message })
        }
        _ => Err(Dropped::Ports { source_port, destination_port }),
    }
}

/// The Ethernet frame of `packet`, without a frame check sequence; empty where the packet fits none.
///
/// What no frame can say is left out: records with labels over 63 or texts over 255 bytes, records beyond the 9000 bytes of an
/// mDNS message (the TC bit is set then).
pub fn encode(packet: &Packet) -> Vec<u8> {
    let (kind, payload) = match &packet.body {
        Body::Arp(arp) => (EtherType::ARP, Some(frame::arp(arp))),
        Body::Mdns { source, port, destination, message } => {
            let (source_port, destination_port) = if message.response { (MDNS_PORT, *port) } else { (*port, MDNS_PORT) };
            let payload = mdns::encode(message, *port);
            let (source, destination) = (*source, *destination);
            let datagram = Datagram { source, source_port, destination, destination_port, payload: &payload };
            (EtherType::IPV4, frame::datagram(&datagram, mdns::TTL))
        }
        Body::Dhcp { source, destination, message } => {
            let destination_port = dhcp::destination_port(message);
            let source_port = if message.is_reply() { dhcp::SERVER_PORT } else { dhcp::CLIENT_PORT };
            let payload = dhcp::encode(message);
            let (source, destination) = (*source, *destination);
            let datagram = Datagram { source, source_port, destination, destination_port, payload: &payload };
            (EtherType::IPV4, frame::datagram(&datagram, dhcp::TTL))
        }
    };
    let Some(payload) = payload else { return Vec::new() };
    frame::ethernet(&Ethernet { source: packet.source, destination: packet.destination, kind, payload: &payload })
}
