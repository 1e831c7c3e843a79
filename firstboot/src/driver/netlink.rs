//! rtnetlink: links and addresses as the kernel tells them, and what we ask it to do with them.

mod address;
mod message;

use std::{
    collections::VecDeque,
    fs, io,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily,
    link::{InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, VlanProtocol},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::io::Errno;

pub(super) use self::address::Assigned;
use self::message::RtMessage;
use crate::{
    attach::Fault,
    link::{Link, LinkKind, Mac},
    node::Event,
};

/// `RTMGRP_LINK` of linux/rtnetlink.h.
const LINK_GROUP: u32 = 1;
/// `RTMGRP_IPV4_IFADDR`.
const ADDRESS_GROUP: u32 = 0x10;

/// How a request or a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// As asked.
    Done,
    /// The links are not as they were told so far: list them again.
    Overrun,
}

/// The kernel's notifications of links and IPv4 addresses.
pub(super) struct Watcher(Socket);

impl Watcher {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, LINK_GROUP | ADDRESS_GROUP))?;
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Adds all that is waiting about links to `events`, and tells in `addresses` if some addresses have changed.
    pub(super) fn read(&self, events: &mut VecDeque<Event>, addresses: &mut bool) -> io::Result<Outcome> {
        loop {
            let datagram = match self.0.recv_from_full() {
                Ok((datagram, _)) => datagram,
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::AGAIN) => return Ok(Outcome::Done),
                    Some(Errno::INTR) => continue,
                    Some(Errno::NOBUFS) => return Ok(Outcome::Overrun),
                    _ => return Err(error),
                },
            };
            for message in messages(&datagram) {
                let about = &message.payload;
                *addresses |= matches!(about, NetlinkPayload::InnerMessage(RtMessage::NewAddress(_) | RtMessage::DelAddress(_)));
                events.extend(event(message));
            }
        }
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The messages in a datagram; what cannot be read is left out, as the kernel may tell more than this program knows.
fn messages(datagram: &[u8]) -> Vec<NetlinkMessage<RtMessage>> {
    let mut rest = datagram;
    let mut messages = Vec::new();
    while let Some(length) = rest.first_chunk::<4>().map(|length| u32::from_ne_bytes(*length) as usize) {
        if !(16..=rest.len()).contains(&length) {
            break;
        }
        messages.extend(NetlinkMessage::deserialize(&rest[..length]).ok());
        // Messages begin at multiples of four.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

fn event(message: NetlinkMessage<RtMessage>) -> Option<Event> {
    let NetlinkPayload::InnerMessage(message) = message.payload else { return None };
    match message {
        RtMessage::NewLink(message) if is_link(&message) => Some(Event::LinkChanged(link(&message))),
        RtMessage::DelLink(message) if is_link(&message) => Some(Event::LinkRemoved { index: message.header.index }),
        _ => None,
    }
}

/// Whether a message is about a link as such: those of family AF_BRIDGE are about a port, and a deletion there is none.
fn is_link(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

fn link(message: &LinkMessage) -> Link {
    let mut name = String::new();
    let mut mac = None;
    let mut parent = 0;
    let mut virtual_kind = None;
    let mut vlan = (None, true);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name.clone_from(text),
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            LinkAttribute::Link(index) => parent = *index,
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => virtual_kind = Some(kind.to_string()),
                        LinkInfo::Data(InfoData::Vlan(data)) => {
                            for item in data {
                                match item {
                                    InfoVlan::Id(id) => vlan.0 = Some(*id),
                                    InfoVlan::Protocol(protocol) => vlan.1 = *protocol == VlanProtocol::Ieee8021Q,
                                    _ => {}
                                }
                            }
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let flags = message.header.flags;
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether && !flags.contains(LinkFlags::Loopback);
    let kind = match (virtual_kind, vlan) {
        (Some(kind), (Some(id), true)) if kind == "vlan" => LinkKind::Vlan { id, parent },
        (Some(kind), _) => LinkKind::Other(kind),
        (None, _) if !ethernet => LinkKind::Other("no Ethernet".to_owned()),
        (None, _) => device_kind(&name),
    };
    Link {
        index: message.header.index,
        name,
        kind,
        mac,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
    }
}

/// What kind of device an Ethernet interface is; only sysfs knows.
fn device_kind(name: &str) -> LinkKind {
    let uevent = fs::read_to_string(format!("/sys/class/net/{name}/uevent")).unwrap_or_default();
    match uevent.lines().find_map(|line| line.strip_prefix("DEVTYPE=")) {
        None => LinkKind::Wired,
        Some("wlan") => LinkKind::Wireless,
        Some(other) => LinkKind::Other(other.to_owned()),
    }
}

/// Requests to the kernel. Each is answered before the call returns.
pub(super) struct Kernel {
    socket: Socket,
    sequence: u32,
}

impl Kernel {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// All links there are.
    pub(super) fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        self.request(RtMessage::GetLink(LinkMessage::default()), NLM_F_DUMP, |message| {
            if let RtMessage::NewLink(message) = message {
                links.push(link(&message));
            }
        })?;
        Ok(links)
    }

    pub(super) fn bring_up(&mut self, index: u32) -> Result<Outcome, Fault> {
        let done = self.change(RtMessage::SetLink(up(index)), 0);
        // A VLAN cannot be up while the link below is down: that it is down will be told, or was not yet read.
        outcome(done, &[Errno::NODEV, Errno::NETDOWN]).map_err(|error| kernel("setting an interface up", &error))
    }

    pub(super) fn remove(&mut self, index: u32) -> Result<Outcome, Fault> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let done = self.change(RtMessage::DelLink(message), 0);
        outcome(done, &[Errno::NODEV]).map_err(|error| kernel("removing a VLAN", &error))
    }

    pub(super) fn create_vlan(&mut self, parent: u32, name: &str, id: u16) -> Result<Outcome, Fault> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Link(parent),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vlan),
                LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(id), InfoVlan::Protocol(VlanProtocol::Ieee8021Q)])),
            ]),
        ];
        let done = self.change(RtMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL);
        outcome(done, &[Errno::NODEV, Errno::NETDOWN, Errno::EXIST]).map_err(|error| match Errno::from_io_error(&error) {
            // The kernel's answer to a link kind that it neither has nor finds a module for.
            Some(Errno::OPNOTSUPP) if !has_vlans() => Fault::NoVlanModule,
            Some(Errno::OPNOTSUPP) => {
                let interface = name.split('.').next().unwrap_or(name).to_owned();
                Fault::NoVlanHere { interface, error: error.to_string() }
            }
            _ => kernel(&format!("creating VLAN {name}"), &error),
        })
    }

    fn change(&mut self, message: RtMessage, flags: u16) -> io::Result<()> {
        self.request(message, flags | NLM_F_ACK, |_| {})
    }

    /// Sends a request and reads until its acknowledgement or the end of its list.
    fn request(&mut self, message: RtMessage, flags: u16, mut each: impl FnMut(RtMessage)) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut buffer = vec![0; request.buffer_len()];
        request.serialize(&mut buffer);
        self.socket.send(&buffer, 0)?;
        loop {
            let datagram = match self.socket.recv_from_full() {
                Ok((datagram, _)) => datagram,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for answer in messages(&datagram) {
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(message) => each(message),
                    _ => {}
                }
            }
        }
    }
}

/// A message that sets link `index` up.
fn up(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

/// Errors that only say that the links have changed meanwhile are none.
fn outcome(done: io::Result<()>, changed: &[Errno]) -> io::Result<Outcome> {
    match done {
        Ok(()) => Ok(Outcome::Done),
        Err(error) if Errno::from_io_error(&error).is_some_and(|errno| changed.contains(&errno)) => Ok(Outcome::Overrun),
        Err(error) => Err(error),
    }
}

fn kernel(what: &str, error: &io::Error) -> Fault {
    Fault::Kernel { what: what.to_owned(), error: error.to_string() }
}

/// Whether the kernel's VLAN code is there: it makes this folder.
fn has_vlans() -> bool {
    fs::exists("/proc/net/vlan").unwrap_or(false)
}
