//! The rtnetlink messages that are about links.
//!
//! `netlink_packet_route` has an enum of all message types; with it the parsers of routes, rules, queues and the rest would be in
//! the binary, half a megabyte that no node needs. Its link message alone is used here.

use netlink_packet_core::{
    DecodeError, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkPayload, NetlinkSerializable, Parseable,
};
use netlink_packet_route::link::LinkMessage;

// linux/rtnetlink.h
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

/// A message about a link: what happened to it, or what is to be done.
#[derive(Debug)]
pub(super) enum RtLink {
    New(LinkMessage),
    Del(LinkMessage),
    Get(LinkMessage),
    Set(LinkMessage),
}

impl RtLink {
    fn inner(&self) -> &LinkMessage {
        match self {
            Self::New(link) | Self::Del(link) | Self::Get(link) | Self::Set(link) => link,
        }
    }
}

impl NetlinkSerializable for RtLink {
    fn message_type(&self) -> u16 {
        match self {
            Self::New(_) => RTM_NEWLINK,
            Self::Del(_) => RTM_DELLINK,
            Self::Get(_) => RTM_GETLINK,
            Self::Set(_) => RTM_SETLINK,
        }
    }

    fn buffer_len(&self) -> usize {
        self.inner().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        self.inner().emit(buffer);
    }
}

impl NetlinkDeserializable for RtLink {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        match header.message_type {
            RTM_NEWLINK => LinkMessage::parse(payload).map(Self::New),
            RTM_DELLINK => LinkMessage::parse(payload).map(Self::Del),
            other => Err(DecodeError::from(format!("message type {other} is not about a link"))),
        }
    }
}

impl From<RtLink> for NetlinkPayload<RtLink> {
    fn from(message: RtLink) -> Self {
        Self::InnerMessage(message)
    }
}
