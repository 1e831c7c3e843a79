//! Ethernet, ARP (RFC 826), IPv4 (RFC 791) and UDP (RFC 768).

use std::net::Ipv4Addr;

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, ArpPacketSlice, EtherType, Ethernet2Header, Ethernet2HeaderSlice, IpNumber, Ipv4Header,
    Ipv4HeaderSlice, UdpHeader, UdpSlice,
};

use super::Dropped;
use crate::{
    link::Mac,
    wire::arp::{Arp, Operation},
};

/// The shortest frame, without its frame check sequence (IEEE 802.3). Some drivers send what was behind a shorter one in memory.
const SHORTEST: usize = 60;

/// An Ethernet frame.
pub(super) struct Ethernet<'a> {
    pub source: Mac,
    pub destination: Mac,
    pub kind: EtherType,
    /// With whatever pads it.
    pub payload: &'a [u8],
}

/// A UDP datagram over IPv4.
pub(super) struct Datagram<'a> {
    pub source: Ipv4Addr,
    pub source_port: u16,
    pub destination: Ipv4Addr,
    pub destination_port: u16,
    pub payload: &'a [u8],
}

pub(super) fn open(frame: &[u8]) -> Result<Ethernet<'_>, Dropped> {
    let header = Ethernet2HeaderSlice::from_slice(frame).map_err(|_| Dropped::Short(frame.len()))?;
    let kind = header.ether_type();
    if matches!(kind, EtherType::VLAN_TAGGED_FRAME | EtherType::PROVIDER_BRIDGING | EtherType::VLAN_DOUBLE_TAGGED_FRAME) {
        return Err(Dropped::Tagged(kind.0));
    }
    let source = header.source();
    if source[0] & 1 != 0 {
        return Err(Dropped::Group);
    }
    let payload = frame.get(Ethernet2Header::LEN..).unwrap_or_default();
    Ok(Ethernet { source: Mac(source), destination: Mac(header.destination()), kind, payload })
}

pub(super) fn open_arp(payload: &[u8]) -> Result<Arp, Dropped> {
    let packet = ArpPacketSlice::from_slice(payload).map_err(|_| Dropped::Arp("is cut off"))?;
    let packet = packet.to_packet().try_eth_ipv4().map_err(|_| Dropped::Arp("not for IPv4 over Ethernet"))?;
    let operation = match packet.operation {
        ArpOperation::REQUEST => Operation::Request,
        ArpOperation::REPLY => Operation::Reply,
        _ => return Err(Dropped::Arp("neither request nor reply")),
    };
    Ok(Arp {
        operation,
        sender_mac: Mac(packet.sender_mac),
        sender: packet.sender_ipv4_addr(),
        target_mac: Mac(packet.target_mac),
        target: packet.target_ipv4_addr(),
    })
}

pub(super) fn open_datagram(packet: &[u8]) -> Result<Datagram<'_>, Dropped> {
    let header = Ipv4HeaderSlice::from_slice(packet).map_err(|_| Dropped::Ip("no header"))?;
    let found = header.header_checksum();
    let right = header.to_header().calc_header_checksum();
    if found != right {
        return Err(Dropped::Checksum { layer: "IPv4", found, right });
    }
    if header.is_fragmenting_payload() {
        return Err(Dropped::Fragment);
    }
    if header.protocol() != IpNumber::UDP {
        return Err(Dropped::Protocol(header.protocol().0));
    }
    let (source, destination) = (header.source_addr(), header.destination_addr());
    if source.is_multicast() || source.is_broadcast() {
        return Err(Dropped::Group);
    }
    // Behind the total length is what pads the frame; before it are the options.
    let total = usize::from(header.total_len());
    let payload = packet.get(header.slice().len()..total).ok_or(Dropped::Ip("the total length is not that of the packet"))?;

    let udp = UdpSlice::from_slice(payload).map_err(|_| Dropped::Udp("the length is not that of the datagram"))?;
    // `UdpSlice` takes zero for "all of it", which is for IPv6 jumbograms only.
    if usize::from(udp.length()) != udp.slice().len() {
        return Err(Dropped::Udp("the length is zero"));
    }
    let found = udp.checksum();
    let right = udp
        .to_header()
        .calc_checksum_ipv4_raw(source.octets(), destination.octets(), udp.payload())
        .map_err(|_| Dropped::Udp("the datagram is too long"))?;
    // Zero: the sender did not sum.
    if found != 0 && found != right {
        return Err(Dropped::Checksum { layer: "UDP", found, right });
    }
    let (source_port, destination_port) = (udp.source_port(), udp.destination_port());
    Ok(Datagram { source, source_port, destination, destination_port, payload: udp.payload() })
}

pub(super) fn ethernet(frame: &Ethernet) -> Vec<u8> {
    let header = Ethernet2Header { source: frame.source.0, destination: frame.destination.0, ether_type: frame.kind };
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend(frame.payload);
    bytes.resize(bytes.len().max(SHORTEST), 0);
    bytes
}

pub(super) fn arp(arp: &Arp) -> Vec<u8> {
    let packet = ArpEthIpv4Packet {
        operation: match arp.operation {
            Operation::Request => ArpOperation::REQUEST,
            Operation::Reply => ArpOperation::REPLY,
        },
        sender_mac: arp.sender_mac.0,
        sender_ipv4: arp.sender.octets(),
        target_mac: arp.target_mac.0,
        target_ipv4: arp.target.octets(),
    };
    packet.to_bytes().to_vec()
}

/// The IPv4 packet of `datagram`, with don't-fragment set; none where it is longer than one may be.
pub(super) fn datagram(datagram: &Datagram, ttl: u8) -> Option<Vec<u8>> {
    let &Datagram { source, source_port, destination, destination_port, payload } = datagram;
    let length = u16::try_from(UdpHeader::LEN + payload.len()).ok()?;
    let mut ip = Ipv4Header::new(length, ttl, IpNumber::UDP, source.octets(), destination.octets()).ok()?;
    ip.header_checksum = ip.calc_header_checksum();
    let udp = UdpHeader::with_ipv4_checksum(source_port, destination_port, &ip, payload).ok()?;
    let mut bytes = ip.to_bytes().to_vec();
    bytes.extend(udp.to_bytes());
    bytes.extend(payload);
    Some(bytes)
}
