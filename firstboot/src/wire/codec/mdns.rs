//! mDNS messages (RFC 6762) with `hickory-proto`.
//!
//! Header, names and the records that we know are `hickory-proto`'s; the walk from record to record is ours. Its own makes room
//! for as many records as the header claims, 50 MB for twelve forged bytes, and gives up the whole message for one record of a
//! type that it reads badly, although most records on a wire are about other things. The top bit of a class is read and set here
//! as well: `hickory-proto`'s `mdns` feature brings sockets.

use hickory_proto::{
    op::{Header, Message as Dns, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name as DnsName, RData, Record as DnsRecord, RecordType,
        rdata::{PTR, SRV, TXT},
    },
    serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder},
};

use super::Dropped;
use crate::wire::{
    MDNS_PORT,
    mdns::{Data, Kind, Message, Name, Question, Record, Service},
};

/// RFC 6762, section 11.
pub(super) const TTL: u8 = 255;

/// The longest message: 9000 bytes with the headers of IPv4 and UDP (RFC 6762, section 17).
const LONGEST: u16 = 9000 - 20 - 8;
/// The cache-flush bit of a record's class, the QU bit of a question's (RFC 6762, sections 10.2 and 5.4).
const TOP_BIT: u16 = 0x8000;
/// A name has at most 127 labels, so a pointer more can only go in circles.
const MOST_POINTERS: usize = 127;

const CUT: Dropped = Dropped::Mdns("is cut off");
const BAD_NAME: Dropped = Dropped::Mdns("a name cannot be read");
const BAD_RECORD: Dropped = Dropped::Mdns("a record is not as long as its type is");

/// The message in a datagram to `port`.
pub(super) fn decode(bytes: &[u8], port: u16) -> Result<Message, Dropped> {
    if bytes.len() > usize::from(LONGEST) {
        return Err(Dropped::Mdns("is longer than a message may be"));
    }
    let mut reader = Reader { bytes, decoder: BinDecoder::new(bytes) };
    let header = Header::read(&mut reader.decoder).map_err(|_| CUT)?;
    // RFC 6762, sections 18.3 and 18.11: such messages are ignored.
    if header.op_code() != OpCode::Query || header.response_code() != ResponseCode::NoError {
        return Err(Dropped::Mdns("not a plain query or response"));
    }
    let response = header.message_type() == MessageType::Response;
    let mut message = Message { id: header.id(), response, ..Message::default() };
    for _ in 0..header.query_count() {
        message.questions.extend(reader.question()?);
    }
    // A multicast response has none, and they are ignored where it has (RFC 6762, section 6); one to a one-shot querier repeats
    // what that asked.
    if response && port == MDNS_PORT {
        message.questions.clear();
    }
    for _ in 0..header.answer_count() {
        message.answers.extend(reader.record()?);
    }
    for _ in 0..header.name_server_count() {
        message.authorities.extend(reader.record()?);
    }
    for _ in 0..header.additional_count() {
        let record = reader.record()?;
        // In a query they would be hints of nobody's.
        message.answers.extend(record.filter(|_| response));
    }
    let nothing = message.answers.is_empty() && message.authorities.is_empty();
    if nothing && (response || message.questions.is_empty()) { Err(Dropped::NothingForUs) } else { Ok(message) }
}

/// The bytes of `message` for or from a querier at `port`.
pub(super) fn encode(message: &Message, port: u16) -> Vec<u8> {
    let mut dns = Dns::new();
    dns.set_id(message.id).set_op_code(OpCode::Query);
    if message.response {
        dns.set_message_type(MessageType::Response).set_authoritative(true);
    }
    if !message.response || port != MDNS_PORT {
        dns.add_queries(message.questions.iter().filter_map(query));
    }
    dns.add_answers(message.answers.iter().filter_map(dns_record));
    dns.add_name_servers(message.authorities.iter().filter_map(dns_record));
    let mut bytes = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(LONGEST);
    // Records that do not fit are cut off with the TC bit set; this fails where not even the questions do.
    if dns.emit(&mut encoder).is_err() {
        bytes.clear();
    }
    bytes
}

struct Reader<'a> {
    bytes: &'a [u8],
    decoder: BinDecoder<'a>,
}

impl Reader<'_> {
    /// The next question, if it is for us.
    fn question(&mut self) -> Result<Option<Question>, Dropped> {
        let name = self.name()?;
        let (kind, class) = (RecordType::from(self.number()?), self.number()?);
        let kind = match kind {
            RecordType::A => Kind::A,
            RecordType::PTR => Kind::Ptr,
            RecordType::SRV => Kind::Srv,
            RecordType::TXT => Kind::Txt,
            RecordType::ANY => Kind::Any,
            _ => return Ok(None),
        };
        if !matches!(DNSClass::from(class & !TOP_BIT), DNSClass::IN | DNSClass::ANY) {
            return Ok(None);
        }
        Ok(ours(&name).map(|name| Question { name, kind, unicast: class & TOP_BIT != 0 }))
    }

    /// The next record, if it is for us.
    fn record(&mut self) -> Result<Option<Record>, Dropped> {
        let name = self.name()?;
        let (kind, class) = (RecordType::from(self.number()?), self.number()?);
        let ttl = self.decoder.read_u32().map_err(|_| CUT)?.unverified(/* any will do */);
        let length = usize::from(self.number()?);
        let end = self.decoder.index() + length;
        if end > self.bytes.len() {
            return Err(CUT);
        }
        let data = self.data(kind, end)?;
        let ours = ours(&name).zip(data).filter(|_| DNSClass::from(class & !TOP_BIT) == DNSClass::IN);
        Ok(ours.map(|(name, data)| Record { name, ttl, flush: class & TOP_BIT != 0, data }))
    }

    /// The data of a record up to `end`, if they are of use to us.
    fn data(&mut self, kind: RecordType, end: usize) -> Result<Option<Data>, Dropped> {
        let data = match kind {
            RecordType::A => {
                let address = self.decoder.read_u32().map_err(|_| BAD_RECORD)?.unverified(/* any will do */);
                Some(Data::A(address.into()))
            }
            RecordType::PTR => {
                let name = ours(&self.name()?);
                name.filter(|name| matches!(name, Name::Type(_) | Name::Instance(..))).map(Data::Ptr)
            }
            RecordType::SRV => {
                // Priority and weight: all our instances have only one.
                self.number()?;
                self.number()?;
                let port = self.number()?;
                match ours(&self.name()?) {
                    Some(Name::Host(host)) => Some(Data::Srv { port, host }),
                    _ => None,
                }
            }
            RecordType::TXT => {
                let mut texts = Vec::new();
                while self.decoder.index() < end {
                    let text = self.decoder.read_character_data().map_err(|_| BAD_RECORD)?;
                    texts.push(text.unverified(/* any bytes will do */).to_vec());
                }
                // No texts are written as one empty text (RFC 6763, section 6.1).
                texts.retain(|text| !text.is_empty());
                Some(Data::Txt(texts))
            }
            _ => {
                self.decoder.read_slice(end - self.decoder.index()).map_err(|_| CUT)?;
                None
            }
        };
        if self.decoder.index() == end { Ok(data) } else { Err(BAD_RECORD) }
    }

    fn number(&mut self) -> Result<u16, Dropped> {
        Ok(self.decoder.read_u16().map_err(|_| CUT)?.unverified(/* its user looks at it */))
    }

    fn name(&mut self) -> Result<DnsName, Dropped> {
        if self.decoder.is_empty() {
            return Err(CUT);
        }
        if !pointers_end(self.bytes, self.decoder.index()) {
            return Err(BAD_NAME);
        }
        DnsName::read(&mut self.decoder).map_err(|_| BAD_NAME)
    }
}

/// Whether the name at `place` has no more pointers than a name can have use for. `hickory-proto` lets them only go back, so
/// they end, but recurses into each: a chain through a whole message would be thousands of calls deep.
fn pointers_end(bytes: &[u8], mut place: usize) -> bool {
    let mut pointers = 0;
    // Every step goes over at least one label or pointer, and both are counted by the name's own limits.
    for _ in 0..=2 * MOST_POINTERS {
        match bytes.get(place) {
            Some(&first) if first & 0xc0 == 0xc0 => {
                pointers += 1;
                if pointers > MOST_POINTERS {
                    return false;
                }
                let Some(&second) = bytes.get(place + 1) else { return true };
                place = usize::from(first & 0x3f) << 8 | usize::from(second);
            }
            // The name ends, or `hickory-proto` will say what is wrong with it.
            Some(0) | None => return true,
            Some(&length) => place += 1 + usize::from(length),
        }
    }
    false
}

/// `name`, if it is of a kind that we know.
fn ours(name: &DnsName) -> Option<Name> {
    let labels = name.iter().collect::<Vec<_>>();
    let is = |label: &[u8], text: &str| label.eq_ignore_ascii_case(text.as_bytes());
    let service = |label: &[u8]| [Service::Leader, Service::Member].into_iter().find(|service| is(label, service.label()));
    match *labels.as_slice() {
        [host, local] if is(local, "local") => Some(Name::Host(label(host)?.to_ascii_lowercase())),
        [first, tcp, local] if is(tcp, "_tcp") && is(local, "local") => service(first).map(Name::Type),
        [a, b, c, d] if [(a, "_services"), (b, "_dns-sd"), (c, "_udp"), (d, "local")].iter().all(|(l, t)| is(l, t)) => {
            Some(Name::Types)
        }
        [instance, first, tcp, local] if is(tcp, "_tcp") && is(local, "local") => {
            Some(Name::Instance(service(first)?, label(instance)?.to_owned()))
        }
        _ => None,
    }
}

/// A label as text, if it is one without control characters (RFC 6763, section 4.1.1): it gets into logs and on consoles.
fn label(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

fn dns_name(name: &Name) -> Option<DnsName> {
    let labels = match name {
        Name::Types => vec!["_services", "_dns-sd", "_udp", "local"],
        Name::Type(service) => vec![service.label(), "_tcp", "local"],
        Name::Instance(service, instance) => vec![instance, service.label(), "_tcp", "local"],
        Name::Host(host) => vec![host, "local"],
    };
    // As bytes: of a text `hickory-proto` would make Punycode, which mDNS does without (RFC 6762, appendix F).
    DnsName::from_labels(labels.into_iter().map(str::as_bytes)).ok()
}

fn class(top_bit: bool) -> DNSClass {
    let class = u16::from(DNSClass::IN);
    DNSClass::from(if top_bit { class | TOP_BIT } else { class })
}

fn query(question: &Question) -> Option<Query> {
    let kind = match question.kind {
        Kind::A => RecordType::A,
        Kind::Ptr => RecordType::PTR,
        Kind::Srv => RecordType::SRV,
        Kind::Txt => RecordType::TXT,
        Kind::Any => RecordType::ANY,
    };
    let mut query = Query::query(dns_name(&question.name)?, kind);
    query.set_query_class(class(question.unicast));
    Some(query)
}

fn dns_record(record: &Record) -> Option<DnsRecord> {
    let data = match &record.data {
        Data::A(address) => RData::A((*address).into()),
        Data::Ptr(name) => RData::PTR(PTR(dns_name(name)?)),
        Data::Srv { port, host } => RData::SRV(SRV::new(0, 0, *port, dns_name(&Name::Host(host.clone()))?)),
        Data::Txt(texts) => {
            if texts.iter().any(|text| text.len() > 255)
                || texts.iter().map(|text| 1 + text.len()).sum::<usize>() > LONGEST.into()
            {
                return None;
            }
            let texts = texts.iter().map(Vec::as_slice).filter(|text| !text.is_empty()).collect::<Vec<_>>();
            // RFC 6763, section 6.1: a record without any text is one with an empty text.
            RData::TXT(TXT::from_bytes(if texts.is_empty() { vec![b""] } else { texts }))
        }
    };
    let mut dns = DnsRecord::from_rdata(dns_name(&record.name)?, record.ttl, data);
    dns.set_dns_class(class(record.flush));
    Some(dns)
}
