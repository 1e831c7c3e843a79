//! DHCP messages (RFC 2131) with `dhcproto`.
//!
//! Fields, codes and what we send are `dhcproto`'s; the options that come in are read here. Its own reader takes the first one
//! that it cannot read for the end of all, so that a host name in Latin-1 would hide the server's id behind it, keeps only the
//! last of several parts (RFC 3396) that do not follow each other, looks at no length but that of addresses, and stops debug
//! builds at options that we do not even use. It also brings URLs and their Unicode tables, 90 kB on each card.

use dhcproto::{
    decoder::{Decodable, Decoder},
    encoder::{Encodable, Encoder},
    error::{DecodeResult, EncodeResult},
    v4::{DhcpOption, Flags, HType, MessageType, Opcode, OptionCode, UnknownOption},
};

use super::Dropped;
use crate::{
    link::Mac,
    wire::dhcp::{Kind, Message, SEAL_OPTION},
};

/// Where a server listens.
pub(super) const SERVER_PORT: u16 = 67;
/// Where a client listens.
pub(super) const CLIENT_PORT: u16 = 68;
/// What other systems send as well; nothing depends on it.
pub(super) const TTL: u8 = 64;

/// The fixed part, the magic cookie included.
const HEADER: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// The shortest BOOTP message: relays and old servers throw away shorter ones (RFC 1542, section 2.1).
const SHORTEST: usize = 300;
/// The longest client id and host name: what one option holds.
const LONGEST_ID: usize = 255;

const PAD: u8 = 0;
const OVERLOAD: u8 = 52;
const END: u8 = 255;

pub(super) fn destination_port(message: &Message) -> u16 {
    if message.is_reply() { CLIENT_PORT } else { SERVER_PORT }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Message, Dropped> {
    let (header, options) = bytes.split_at_checked(HEADER).ok_or(Dropped::Dhcp("is cut off"))?;
    if !header.ends_with(&COOKIE) {
        return Err(Dropped::Dhcp("no magic cookie: this is BOOTP"));
    }
    let options = Options::read(options)?;
    let kind = match options.value(OptionCode::MessageType) {
        Some(&[kind]) => kind_of(kind.into())?,
        Some(value) => return Err(Dropped::Option { code: OptionCode::MessageType.into(), length: value.len() }),
        None => return Err(Dropped::Dhcp("no message type: this is BOOTP")),
    };
    let mut message = read_header(kind, &mut Decoder::new(header)).map_err(|_| Dropped::Dhcp("the header cannot be read"))??;
    options.fill(&mut message)?;
    Ok(message)
}

/// The fixed part, for a message of `kind`.
fn read_header(kind: Kind, d: &mut Decoder<'_>) -> DecodeResult<Result<Message, Dropped>> {
    let mut message = Message::new(kind, 0, Mac([0; 6]));
    if Opcode::decode(d)? != opcode(&message) {
        return Ok(Err(Dropped::Dhcp("the message type does not fit the operation")));
    }
    if HType::from(d.read_u8()?) != HType::Eth || d.read_u8()? != 6 {
        return Ok(Err(Dropped::Dhcp("the hardware address is not of Ethernet")));
    }
    let _hops = d.read_u8()?;
    message.xid = d.read_u32()?;
    message.secs = d.read_u16()?;
    message.broadcast = Flags::from(d.read_u16()?).broadcast();
    message.ciaddr = d.read_ipv4(4)?;
    message.yiaddr = d.read_ipv4(4)?;
    let _siaddr = d.read_ipv4(4)?;
    if !d.read_ipv4(4)?.is_unspecified() {
        return Ok(Err(Dropped::Dhcp("came through a relay")));
    }
    message.chaddr = Mac(d.read()?);
    Ok(Ok(message))
}

pub(super) fn encode(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SHORTEST);
    // An encoder into a vector has nothing that could fail.
    if emit(message, &mut Encoder::new(&mut bytes)).is_err() {
        return Vec::new();
    }
    bytes.resize(bytes.len().max(SHORTEST), PAD);
    bytes
}

/// Field by field and option by option: `dhcproto` would draw a random number for a message, also where it is given an id, and
/// write the options in the order of a hash map, another one each time.
fn emit(message: &Message, e: &mut Encoder<'_>) -> EncodeResult<()> {
    opcode(message).encode(e)?;
    HType::Eth.encode(e)?;
    // hlen, hops
    e.write([6, 0])?;
    e.write_u32(message.xid)?;
    e.write_u16(message.secs)?;
    e.write_u16(if message.broadcast { 0x8000 } else { 0 })?;
    e.write(message.ciaddr.octets())?;
    e.write(message.yiaddr.octets())?;
    // siaddr, giaddr
    e.write([0; 8])?;
    e.write(message.chaddr.0)?;
    // The rest of chaddr, sname, file.
    e.write([0; 10 + 64 + 128])?;
    e.write(COOKIE)?;

    // The type first: some clients look no further.
    DhcpOption::MessageType(message_type(message.kind)).encode(e)?;
    let parameters = message.parameters.iter().map(|&code| code.into()).collect::<Vec<_>>();
    let options = [
        message.server.map(DhcpOption::ServerIdentifier),
        message.lease.map(DhcpOption::AddressLeaseTime),
        message.renewal.map(DhcpOption::Renewal),
        message.rebinding.map(DhcpOption::Rebinding),
        message.mask.map(DhcpOption::SubnetMask),
        message.broadcast_address.map(DhcpOption::BroadcastAddr),
        message.requested.map(DhcpOption::RequestedIpAddress),
        message.client_id.clone().map(DhcpOption::ClientIdentifier),
        message.host_name.clone().map(DhcpOption::Hostname),
        message.text.clone().map(DhcpOption::Message),
        Some(DhcpOption::ParameterRequestList(parameters)),
        message.seal.clone().map(|seal| DhcpOption::Unknown(UnknownOption::new(SEAL_OPTION.into(), seal))),
        Some(DhcpOption::End),
    ];
    options.iter().flatten().try_for_each(|option| option.encode(e))
}

/// The options of a message, the parts of each put together (RFC 3396).
struct Options(Vec<(u8, Vec<u8>)>);

impl Options {
    fn read(mut rest: &[u8]) -> Result<Self, Dropped> {
        let mut options: Vec<(u8, Vec<u8>)> = Vec::new();
        loop {
            let (&code, behind) = rest.split_first().ok_or(Dropped::Dhcp("the options have no end"))?;
            rest = behind;
            match code {
                PAD => continue,
                END => return Ok(Self(options)),
                // Nobody who has this little to say needs it, and two places to look at are two places to disagree.
                OVERLOAD => return Err(Dropped::Dhcp("goes on in the fields for file and server name")),
                _ => {}
            }
            let (&length, behind) = rest.split_first().ok_or(Dropped::Dhcp("an option is cut off"))?;
            let (value, behind) = behind.split_at_checked(length.into()).ok_or(Dropped::Dhcp("an option is cut off"))?;
            rest = behind;
            match options.iter_mut().find(|(other, _)| *other == code) {
                Some((_, whole)) => whole.extend(value),
                None => options.push((code, value.to_vec())),
            }
        }
    }

    /// The value of option `code`, if it is there and has one.
    fn value(&self, code: OptionCode) -> Option<&[u8]> {
        let code = u8::from(code);
        self.0.iter().find(|(other, _)| *other == code).map(|(_, value)| value.as_slice()).filter(|value| !value.is_empty())
    }

    /// The four bytes in option `code`, if it is there: an address or a time.
    fn four<T: From<[u8; 4]>>(&self, code: OptionCode) -> Result<Option<T>, Dropped> {
        let Some(value) = self.value(code) else { return Ok(None) };
        let four = <[u8; 4]>::try_from(value).map_err(|_| Dropped::Option { code: code.into(), length: value.len() })?;
        Ok(Some(four.into()))
    }

    fn seconds(&self, code: OptionCode) -> Result<Option<u32>, Dropped> {
        Ok(self.four(code)?.map(u32::from_be_bytes))
    }

    /// The text in option `code`, if it is there and one. Some clients end it with a NUL (RFC 2132, section 2). A text that we
    /// could not show is not worth the message that it came with.
    fn text(&self, code: OptionCode, allowed: fn(char) -> bool) -> Option<String> {
        let text = std::str::from_utf8(self.value(code)?).ok()?.trim_end_matches('\0');
        (!text.is_empty() && text.chars().all(allowed)).then(|| text.to_owned())
    }

    fn fill(&self, message: &mut Message) -> Result<(), Dropped> {
        let host_name = self.text(OptionCode::Hostname, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
        message.host_name = host_name.filter(|name| name.len() <= LONGEST_ID);
        message.text = self.text(OptionCode::Message, |c| !c.is_control());
        message.client_id = self.value(OptionCode::ClientIdentifier).map(<[u8]>::to_vec);
        if let Some(length) = message.client_id.as_ref().map(Vec::len).filter(|&length| length > LONGEST_ID) {
            return Err(Dropped::Option { code: OptionCode::ClientIdentifier.into(), length });
        }
        message.parameters = self.value(OptionCode::ParameterRequestList).unwrap_or_default().to_vec();
        message.seal = self.value(SEAL_OPTION.into()).map(<[u8]>::to_vec);
        message.server = self.four(OptionCode::ServerIdentifier)?;
        message.mask = self.four(OptionCode::SubnetMask)?;
        message.broadcast_address = self.four(OptionCode::BroadcastAddr)?;
        message.requested = self.four(OptionCode::RequestedIpAddress)?;
        message.lease = self.seconds(OptionCode::AddressLeaseTime)?;
        message.renewal = self.seconds(OptionCode::Renewal)?;
        message.rebinding = self.seconds(OptionCode::Rebinding)?;
        Ok(())
    }
}

fn opcode(message: &Message) -> Opcode {
    if message.is_reply() { Opcode::BootReply } else { Opcode::BootRequest }
}

fn kind_of(kind: MessageType) -> Result<Kind, Dropped> {
    match kind {
        MessageType::Discover => Ok(Kind::Discover),
        MessageType::Offer => Ok(Kind::Offer),
        MessageType::Request => Ok(Kind::Request),
        MessageType::Decline => Ok(Kind::Decline),
        MessageType::Ack => Ok(Kind::Ack),
        MessageType::Nak => Ok(Kind::Nak),
        MessageType::Release => Ok(Kind::Release),
        MessageType::Inform => Ok(Kind::Inform),
        _ => Err(Dropped::Dhcp("a message type that is not of the cluster")),
    }
}

fn message_type(kind: Kind) -> MessageType {
    match kind {
        Kind::Discover => MessageType::Discover,
        Kind::Offer => MessageType::Offer,
        Kind::Request => MessageType::Request,
        Kind::Decline => MessageType::Decline,
        Kind::Ack => MessageType::Ack,
        Kind::Nak => MessageType::Nak,
        Kind::Release => MessageType::Release,
        Kind::Inform => MessageType::Inform,
    }
}
