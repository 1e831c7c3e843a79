//! The networks on the cable, as long as they are open: sockets, and frames to packets and back.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use super::packet::{PacketSocket, sink};
use crate::{
    link::Mac,
    node::Wire,
    wire::{self, MDNS_PORT, Packet},
};

/// The ports of DHCP's server and client.
const DHCP_PORTS: [u16; 2] = [67, 68];
/// Room for the longest frame: mDNS messages have up to 9000 bytes (RFC 6762, section 17).
const LONGEST: usize = 9216;
/// How many frames are taken in a row before others have their turn.
const TURN: usize = 64;

/// One network. Public for tests that let a state machine alone speak with machines of others.
#[derive(Debug)]
pub struct Port {
    /// Which.
    pub wire: Wire,
    /// The index of its interface.
    pub index: u32,
    /// The interface's name.
    pub name: String,
    socket: PacketSocket,
    /// These keep the ports of DHCP; never read.
    _sinks: Vec<OwnedFd>,
}

impl Port {
    /// Opens `wire` on the interface of this index; what went wrong without being needed goes to `complaints`.
    ///
    /// # Errors
    ///
    /// There is no such interface, or the system gives no packet socket on it.
    pub fn open(wire: Wire, index: u32, complaints: &mut Vec<String>) -> io::Result<Self> {
        let name = interface_name(index)?;
        let mut sinks = Vec::new();
        let socket = match wire {
            Wire::Lan => PacketSocket::open_for(index, &[MDNS_PORT])?,
            Wire::Cluster => {
                for port in DHCP_PORTS {
                    match sink(&name, port) {
                        Ok(socket) => sinks.push(socket),
                        Err(error) => complaints.push(format!("holding UDP port {port} on {name}: {error}")),
                    }
                }
                PacketSocket::open_for(index, &[DHCP_PORTS[0], DHCP_PORTS[1], MDNS_PORT])?
            }
        };
        Ok(Self { wire, index, name, socket, _sinks: sinks })
    }

    /// The packets that are waiting; those that are not for us are left out.
    ///
    /// # Errors
    ///
    /// What the system says; `ENETDOWN` once when the interface was set down.
    pub fn receive(&self) -> io::Result<Vec<Packet>> {
        let mut buffer = [0; LONGEST];
        let mut packets = Vec::new();
        for _ in 0..TURN {
            let Some(frame) = self.socket.receive(&mut buffer)? else { break };
            let bytes = &mut buffer[..frame.length];
            // A tagged frame is of another network than the one below.
            if frame.outgoing || frame.vlan.is_some_and(|id| id != 0) {
                continue;
            }
            if frame.no_checksum {
                clear_udp_checksum(bytes);
            }
            packets.extend(wire::decode(bytes));
        }
        Ok(packets)
    }

    /// Sends a packet as one frame.
    ///
    /// # Errors
    ///
    /// What the system says, such as `ENETDOWN` or `ENOBUFS`.
    pub fn send(&self, packet: &Packet) -> io::Result<()> {
        self.socket.send(&wire::encode(packet))
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The cable below, until it carries something that is not the switch's own.
#[derive(Debug)]
pub(super) struct Cable(PacketSocket);

impl Cable {
    pub(super) fn open(index: u32) -> io::Result<Self> {
        PacketSocket::open(index).map(Self)
    }

    /// Whether such a frame came.
    pub(super) fn heard(&self) -> io::Result<bool> {
        let mut buffer = [0; 64];
        for _ in 0..TURN {
            let Some(frame) = self.0.receive(&mut buffer)? else { break };
            if let (false, Some(destination)) = (frame.outgoing, buffer[..frame.length].first_chunk::<6>()) {
                if !is_switches_own(Mac(*destination)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

impl AsFd for Cable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether a frame to `destination` goes from one switch to its neighbour only (IEEE 802.1D, table 7-10): spanning tree, LLDP.
fn is_switches_own(Mac(destination): Mac) -> bool {
    destination[..5] == [0x01, 0x80, 0xc2, 0, 0] && destination[5] < 0x10
}

pub(super) fn interface_name(index: u32) -> io::Result<String> {
    let any = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    Ok(rustix::net::netdevice::index_to_name(any, index)?)
}

/// Makes the UDP checksum in an IPv4 frame zero: not computed (RFC 768).
fn clear_udp_checksum(frame: &mut [u8]) {
    let udp = match frame {
        [_, _, _, _, _, _, _, _, _, _, _, _, 0x08, 0x00, first, ..] => 14 + 4 * usize::from(*first & 15),
        _ => return,
    };
    if frame.get(23) == Some(&17) {
        if let Some(checksum) = frame.get_mut(udp + 6..udp + 8) {
            checksum.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_switches() {
        let table = [
            ("01:80:c2:00:00:00", true),
            ("01:80:c2:00:00:0e", true),
            ("01:80:c2:00:00:10", false),
            ("ff:ff:ff:ff:ff:ff", false),
            ("01:00:5e:00:00:fb", false),
        ];
        for (destination, own) in table {
            assert_eq!(is_switches_own(destination.parse().unwrap()), own, "{destination}");
        }
    }

    #[test]
    fn only_udp_loses_its_checksum() {
        let mut frame = [0xff; 60];
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[23] = 17;
        clear_udp_checksum(&mut frame);
        assert_eq!(
            frame.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(place, _)| place).collect::<Vec<_>>(),
            [13, 40, 41]
        );
        let mut tcp = [0xff; 60];
        tcp[12..15].copy_from_slice(&[8, 0, 0x45]);
        let before = tcp;
        clear_udp_checksum(&mut tcp);
        assert_eq!(tcp, before);
        clear_udp_checksum(&mut frame[..41]);
        clear_udp_checksum(&mut frame[..3]);
    }
}
