//! The rtnetlink messages that are about links and addresses.
//!
//! `netlink_packet_route` has an enum of all message types; with it the parsers of routes, rules, queues and the rest would be in
//! the binary, half a megabyte that no node needs. Its link and address messages alone are used here.

use netlink_packet_core::{
    DecodeError, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkPayload, NetlinkSerializable, Parseable,
};
use netlink_packet_route::{address::AddressMessage, link::LinkMessage};

// linux/rtnetlink.h
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

/// A message about a link or an address: what happened to it, or what is to be done.
#[derive(Debug)]
pub(super) enum RtMessage {
    NewLink(LinkMessage),
    DelLink(LinkMessage),
    GetLink(LinkMessage),
    SetLink(LinkMessage),
    NewAddress(AddressMessage),
    DelAddress(AddressMessage),
    GetAddress(AddressMessage),
}

impl RtMessage {
    fn inner(&self) -> &dyn Emitable {
        match self {
            Self::NewLink(link) | Self::DelLink(link) | Self::GetLink(link) | Self::SetLink(link) => link,
            Self::NewAddress(address) | Self::DelAddress(address) | Self::GetAddress(address) => address,
        }
    }
}

impl NetlinkSerializable for RtMessage {
    fn message_type(&self) -> u16 {
        match self {
            Self::NewLink(_) => RTM_NEWLINK,
            Self::DelLink(_) => RTM_DELLINK,
            Self::GetLink(_) => RTM_GETLINK,
            Self::SetLink(_) => RTM_SETLINK,
            Self::NewAddress(_) => RTM_NEWADDR,
            Self::DelAddress(_) => RTM_DELADDR,
            Self::GetAddress(_) => RTM_GETADDR,
        }
    }

    fn buffer_len(&self) -> usize {
        self.inner().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        self.inner().emit(buffer);
    }
}

impl NetlinkDeserializable for RtMessage {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        match header.message_type {
            RTM_NEWLINK => LinkMessage::parse(payload).map(Self::NewLink),
            RTM_DELLINK => LinkMessage::parse(payload).map(Self::DelLink),
            RTM_NEWADDR => AddressMessage::parse(payload).map(Self::NewAddress),
            RTM_DELADDR => AddressMessage::parse(payload).map(Self::DelAddress),
            other => Err(DecodeError::from(format!("message type {other} is not about a link or an address"))),
        }
    }
}

impl From<RtMessage> for NetlinkPayload<RtMessage> {
    fn from(message: RtMessage) -> Self {
        Self::InnerMessage(message)
    }
}
