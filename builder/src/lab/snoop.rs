//! DHCP snooping: which address did the home router give to which node?

use std::net::Ipv4Addr;

use dhcproto::{
    Decodable,
    v4::{Message, MessageType},
};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use super::frame::{Header, Mac};

/// UDP port of DHCP servers (RFC 2131, 4.1).
const SERVER: u16 = 67;

/// An address that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// To whom.
    pub client: Mac,
    /// Which.
    pub address: Ipv4Addr,
}

/// The lease in `frame`, where it is an untagged DHCPACK that gives an address.
pub fn acknowledged(frame: &[u8]) -> Option<Lease> {
    if Header::parse(frame)?.tagged {
        return None;
    }
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (Some(NetSlice::Ipv4(_)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport) else { return None };
    if udp.source_port() != SERVER {
        return None;
    }
    let message = Message::from_bytes(udp.payload()).ok()?;
    let given = message.opts().msg_type() == Some(MessageType::Ack) && !message.yiaddr().is_unspecified();
    let client = Mac(message.chaddr().try_into().ok()?);
    given.then_some(Lease { client, address: message.yiaddr() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::frame::{VlanId, compose};
    use dhcproto::{
        Encodable,
        v4::{DhcpOption, Opcode},
    };
    use etherparse::PacketBuilder;

    fn reply(kind: MessageType, vlan: Option<VlanId>, source_port: u16) -> Vec<u8> {
        let client = Mac::of_node(3);
        let mut message = Message::new(
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::new(192, 168, 77, 20),
            Ipv4Addr::new(192, 168, 77, 1),
            Ipv4Addr::UNSPECIFIED,
            &client.0,
        );
        message.set_opcode(Opcode::BootReply);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        let payload = message.to_vec().unwrap();
        let mut packet = Vec::new();
        PacketBuilder::ipv4([192, 168, 77, 1], [255; 4], 64).udp(source_port, 68).write(&mut packet, &payload).unwrap();
        compose(client, Mac([2, 0, 0, 0, 0, 1]), vlan, 0x0800, &packet)
    }

    #[test]
    fn only_an_acknowledgement_on_the_lan_counts() {
        let lease = Lease { client: Mac::of_node(3), address: Ipv4Addr::new(192, 168, 77, 20) };
        let rows = [
            (reply(MessageType::Ack, None, 67), Some(lease)),
            (reply(MessageType::Offer, None, 67), None),
            (reply(MessageType::Nak, None, 67), None),
            (reply(MessageType::Ack, VlanId::new(200), 67), None),
            (reply(MessageType::Ack, None, 68), None),
            (compose(Mac([0xff; 6]), Mac::of_node(1), None, 0x0806, &[0; 28]), None),
            (Vec::new(), None),
        ];
        for (index, (frame, expected)) in rows.iter().enumerate() {
            assert_eq!(acknowledged(frame), *expected, "row {index}");
        }
        // Cut anywhere, it is no lease and no panic.
        let whole = reply(MessageType::Ack, None, 67);
        for cut in 0..whole.len() {
            acknowledged(&whole[..cut]);
        }
    }
}
