//! What stations sent, as the switch saw it, and the judge of what a node may say on the home network.
//!
//! The judge reads DNS itself (RFC 1035, section 4.1): a fault of the program's own codec must not hide from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::BufReader,
    net::Ipv4Addr,
    path::Path,
    time::Duration,
};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use hcl_firstboot::wire::{
    Body, Packet, decode,
    mdns::{Data, Name, Record, Service},
};
use hcl_image::lab::frame::{Header, Mac};
use pcap_file::pcap::PcapReader;

/// A frame that a station sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// On the machine's clock, from a beginning of its own.
    pub at: Duration,
    pub by: Mac,
    /// The id in its tag.
    pub vlan: Option<u16>,
    pub frame: Vec<u8>,
}

/// All frames so far. The file may end within one: QEMU is still writing.
pub fn read(capture: &Path) -> Vec<Sent> {
    let mut reader = PcapReader::new(BufReader::new(File::open(capture).unwrap())).unwrap();
    let mut sent = Vec::new();
    while let Some(Ok(packet)) = reader.next_packet() {
        let header = Header::parse(&packet.data).expect("QEMU writes whole frames");
        let vlan = header.vlan.map(|id| id.number());
        sent.push(Sent { at: packet.timestamp, by: header.source, vlan, frame: packet.data.into_owned() });
    }
    sent
}

/// What a frame of a node on the home network is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Multicast DNS about addresses of these names, and nothing else.
    Names(BTreeSet<String>),
    /// What every Linux kernel sends by itself where IPv6 is on: the ICMPv6 type.
    Kernel(u8),
}

/// Router solicitation, neighbour solicitation (duplicate address detection), report of multicast listeners.
const OF_KERNELS: [u8; 3] = [133, 135, 143];
const A: u16 = 1;
/// The type of a question only: any.
const ANY: u16 = 255;

/// What `frame`, which is untagged, is.
///
/// # Errors
///
/// Nothing that a node may send there.
pub fn judge(frame: &[u8]) -> Result<Kind, String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    match (&packet.net, &packet.transport) {
        (Some(NetSlice::Ipv6(_)), Some(TransportSlice::Icmpv6(icmp))) if OF_KERNELS.contains(&icmp.type_u8()) => {
            Ok(Kind::Kernel(icmp.type_u8()))
        }
        (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp)))
            if udp.source_port() == 5353 && udp.destination_port() == 5353 =>
        {
            if ip.header().destination_addr() != Ipv4Addr::new(224, 0, 0, 251) {
                return Err(format!("mDNS to {}", ip.header().destination_addr()));
            }
            names(udp.payload()).map(Kind::Names)
        }
        other => Err(format!("{other:?}")),
    }
}

/// The names in a DNS message in which there are only addresses of `master.local` and `node-….local`.
fn names(message: &[u8]) -> Result<BTreeSet<String>, String> {
    let mut reader = Reader { message, at: 0 };
    let mut counts = [0; 6];
    for count in &mut counts {
        *count = reader.number()?;
    }
    let mut names = BTreeSet::new();
    for question in 0..counts[2..].iter().sum() {
        let is_question = question < counts[2];
        let (name, kind, class) = (reader.name()?, reader.number()?, reader.number()?);
        if !is_question {
            reader.skip(4)?;
            let length = reader.number()?;
            reader.skip(length.into())?;
        }
        // The topmost bit: cache flush, or a unicast answer would do (RFC 6762, sections 5.4 and 10.2).
        if class & 0x7fff != 1 || !(kind == A || (is_question && kind == ANY)) {
            return Err(format!("{name} of type {kind}, class {class}"));
        }
        let node = name.strip_prefix("node-").and_then(|rest| rest.strip_suffix(".local"));
        if name != "master.local" && node.is_none_or(|digits| digits.len() != 6) {
            return Err(format!("an address of {name}"));
        }
        names.insert(name);
    }
    if reader.at == message.len() { Ok(names) } else { Err(format!("{} bytes after the last record", message.len() - reader.at)) }
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, String> {
        let byte = *self.message.get(self.at).ok_or("a message that ends early")?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u16, String> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    fn skip(&mut self, count: usize) -> Result<(), String> {
        self.at += count;
        if self.at <= self.message.len() { Ok(()) } else { Err("a message that ends early".to_owned()) }
    }

    fn name(&mut self) -> Result<String, String> {
        let mut labels = Vec::new();
        let mut back = None;
        // No name has more labels (RFC 1035, section 2.3.4); pointers are bounded with them.
        for _ in 0..128 {
            match self.byte()? {
                0 => {
                    self.at = back.unwrap_or(self.at);
                    return Ok(labels.join("."));
                }
                high @ 0xc0.. => {
                    let to = usize::from(high & 0x3f) << 8 | usize::from(self.byte()?);
                    back = back.or(Some(self.at));
                    self.at = to;
                }
                length => {
                    let from = self.at;
                    self.skip(length.into())?;
                    labels.push(String::from_utf8_lossy(&self.message[from..self.at]).into_owned());
                }
            }
        }
        Err("a name without an end".to_owned())
    }
}

pub fn is_ipv6(sent: &Sent) -> bool {
    SlicedPacket::from_ethernet(&sent.frame).is_ok_and(|packet| matches!(packet.net, Some(NetSlice::Ipv6(_))))
}

/// As which address `sent` speaks on `vlan`: the sender of ARP (a probe's is nobody) or of IPv4.
pub fn speaker(sent: &Sent, vlan: u16) -> Option<Ipv4Addr> {
    let packet = SlicedPacket::from_ethernet(&sent.frame).ok().filter(|_| sent.vlan == Some(vlan))?;
    let address = match packet.net? {
        NetSlice::Arp(arp) => Ipv4Addr::from(*arp.sender_protocol_addr().first_chunk::<4>()?),
        NetSlice::Ipv4(ip) => ip.header().source_addr(),
        NetSlice::Ipv6(_) => return None,
    };
    Some(address).filter(|address| !address.is_unspecified())
}

/// Who spoke as which address on `vlan`.
pub fn speakers(sent: &[Sent], vlan: u16) -> BTreeMap<Ipv4Addr, BTreeSet<Mac>> {
    let mut speakers: BTreeMap<Ipv4Addr, BTreeSet<Mac>> = BTreeMap::new();
    for sent in sent {
        if let Some(address) = speaker(sent, vlan) {
            speakers.entry(address).or_default().insert(sent.by);
        }
    }
    speakers
}

/// Which service `sent` takes back, where it does.
pub fn goodbye(sent: &Sent) -> Option<Service> {
    sent.vlan?;
    let untagged = [&sent.frame[..12], &sent.frame[16..]].concat();
    let Ok(Packet { body: Body::Mdns { message, .. }, .. }) = decode(&untagged) else { return None };
    let gone = |record: &Record| match (&record.name, &record.data) {
        (Name::Instance(service, _), Data::Txt(_)) if record.ttl == 0 => Some(*service),
        _ => None,
    };
    message.answers.iter().find_map(gone)
}

/// What every node sent untagged: nothing but names and what kernels send; of which node, which kinds.
#[track_caller]
pub fn at_home(sent: &[Sent], nodes: &[Mac]) -> BTreeMap<Mac, BTreeSet<Kind>> {
    let mut kinds: BTreeMap<Mac, BTreeSet<Kind>> = BTreeMap::new();
    for sent in sent.iter().filter(|sent| sent.vlan.is_none() && nodes.contains(&sent.by)) {
        match judge(&sent.frame) {
            Ok(kind) => kinds.entry(sent.by).or_default().insert(kind),
            Err(reason) => panic!("{} sent on the home network: {reason}", sent.by),
        };
    }
    kinds
}

/// What the kernel of station `by` sent untagged by itself.
pub fn of_kernel(sent: &[Sent], by: Mac) -> BTreeSet<Kind> {
    let untagged = sent.iter().filter(|sent| sent.by == by && sent.vlan.is_none());
    untagged.filter_map(|sent| judge(&sent.frame).ok()).filter(|kind| matches!(kind, Kind::Kernel(_))).collect()
}

mod tests {
    use super::*;
    use hcl_firstboot::{
        link,
        wire::{Arp, MDNS_GROUP, MDNS_MAC, encode, mdns::Message},
    };

    fn said(answers: &[(Name, Data)]) -> Vec<u8> {
        let answers =
            answers.iter().map(|(name, data)| Record { name: name.clone(), ttl: 120, flush: true, data: data.clone() }).collect();
        let message = Message { response: true, answers, ..Message::default() };
        let body = Body::Mdns { source: [10, 77, 1, 1].into(), port: 5353, destination: MDNS_GROUP, message };
        encode(&Packet { source: link::Mac([2; 6]), destination: MDNS_MAC, body })
    }

    #[test]
    fn the_judge_of_the_home_network_says_no() {
        let host = |name: &str| Name::Host(name.to_owned());
        let address = Data::A([10, 77, 1, 1].into());
        let good = [(host("node-4c0001"), address.clone()), (host("master"), address.clone())];
        let both = ["master.local".to_owned(), "node-4c0001.local".to_owned()];
        assert_eq!(judge(&said(&good)), Ok(Kind::Names(BTreeSet::from(both))));
        // One more record of another kind, one more name, a service, another protocol.
        let leader = Name::Instance(Service::Leader, "Cluster-Leader-01234567".to_owned());
        for wrong in [
            (leader, Data::Txt(vec![b"x".to_vec()])),
            (host("printer"), address.clone()),
            (host("node-4c0001"), Data::Txt(vec![])),
            (Name::Type(Service::Member), Data::Ptr(Name::Types)),
        ] {
            let mut records = good.to_vec();
            records.push(wrong.clone());
            assert!(judge(&said(&records)).is_err(), "{wrong:?}");
        }
        let arp = Body::Arp(Arp::announcement(link::Mac([2; 6]), [192, 168, 200, 1].into()));
        assert!(judge(&encode(&Packet { source: link::Mac([2; 6]), destination: link::Mac([0xff; 6]), body: arp })).is_err());
        let whole = said(&good);
        for cut in 0..whole.len() {
            assert!(judge(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }
    #[test]
    fn an_address_at_two_nodes_is_seen() {
        let announced = |by: u8, vlan: Option<u8>| {
            let mac = link::Mac([2, 0, 0, 0, 0, by]);
            let body = Body::Arp(Arp::announcement(mac, [192, 168, 200, 77].into()));
            let mut frame = encode(&Packet { source: mac, destination: link::Mac([0xff; 6]), body });
            if let Some(vlan) = vlan {
                frame.splice(12..12, [0x81, 0, 0, vlan]);
            }
            Sent { at: Duration::ZERO, by: Mac(mac.0), vlan: vlan.map(u16::from), frame }
        };
        let address = Ipv4Addr::new(192, 168, 200, 77);
        let of = |sent: &[Sent]| speakers(sent, 200).remove(&address).map_or(0, |by| by.len());
        assert_eq!(of(&[announced(1, Some(200)), announced(1, Some(200))]), 1);
        assert_eq!(of(&[announced(1, Some(200)), announced(2, Some(200))]), 2);
        // On other networks it is another address.
        assert_eq!(of(&[announced(1, Some(200)), announced(2, Some(201)), announced(3, None)]), 1);
        // A probe claims nothing.
        let mut probe = announced(2, Some(200));
        probe.frame[32..36].fill(0);
        assert_eq!(of(&[announced(1, Some(200)), probe]), 1);
    }
}
