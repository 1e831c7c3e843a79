//! What leader and members tell of themselves, as records of RFC 6763, with a tag that only the key can make.
//!
//! The leader's instance is `Cluster-Leader-` and eight digits of the cluster id: the same for every claim of one key, so that
//! two claims collide. The tag covers every text; a forged or altered record is no notice. One that somebody recorded and sends
//! again is: so nothing in it but what the node itself would say once more is believed, and who sent the frame counts for nothing.

use std::net::Ipv4Addr;

use crate::{
    identity::{Incarnation, NodeId},
    key::{ClusterId, Seals, Use, hex, unhex},
    link::Mac,
    wire::mdns::{Data, Name, Record, Service},
};

/// For how many seconds a record may be kept (RFC 6762, section 10, for records with a host's name in them).
const TTL: u32 = 120;
/// The port in the service record: the page on the leader.
const PORT: u16 = 8500;
const LEADER: &str = "Cluster-Leader-";

/// One node's word about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// As what it speaks.
    pub service: Service,
    /// The founding that it belongs to, or claims to make.
    pub incarnation: Incarnation,
    /// Who it is.
    pub node: NodeId,
    /// The hardware address of its interface. Two of one node: one has a copy of the other's card.
    pub mac: Mac,
    /// The address that goes with the service: the leader's .1, a member's own.
    pub address: Ipv4Addr,
    /// Its host name.
    pub name: String,
    /// Whether the cluster holds nothing yet that would be missed.
    pub provisional: bool,
    /// How many members it has.
    pub members: u16,
    /// The grant by which a leader leads: of two leaders of one founding the one with the higher is the later. Zero: by right of its
    /// founding; a member's is zero.
    pub grant: u64,
    /// The founding that this one took the place of, as a person decided: whoever belongs to that one joins this one.
    pub replaces: Option<Incarnation>,
    /// Whether this is its last word.
    pub leaving: bool,
}

impl Notice {
    /// The records: pointer, service, texts, address.
    pub fn records(&self, seals: &Seals) -> Vec<Record> {
        let ttl = if self.leaving { 0 } else { TTL };
        let name = self.instance(seals.cluster());
        let host = match self.service {
            Service::Leader => leader_label(&seals.cluster().short()).to_ascii_lowercase(),
            Service::Member => self.name.to_ascii_lowercase(),
        };
        let record = |name: Name, flush, data| Record { name, ttl, flush, data };
        vec![
            record(Name::Type(self.service), false, Data::Ptr(name.clone())),
            record(name.clone(), true, Data::Srv { port: PORT, host: host.clone() }),
            record(name, true, Data::Txt(self.texts(seals))),
            record(Name::Host(host), true, Data::A(self.address)),
        ]
    }

    /// The records that a probe proposes: those that are nobody else's (RFC 6762, section 8.2).
    pub fn proposal(&self, seals: &Seals) -> Vec<Record> {
        self.records(seals).into_iter().filter(|record| matches!(record.data, Data::Srv { .. } | Data::Txt(_))).collect()
    }

    /// The instance's name.
    pub fn instance(&self, cluster: ClusterId) -> Name {
        let label = match self.service {
            Service::Leader => leader_label(&cluster.short()),
            Service::Member => format!("Cluster-Node-{}-{}", cluster.short(), hex(&self.node.0[..4])),
        };
        Name::Instance(self.service, label)
    }

    /// Whether this claim wins against `other`, of the same name: the one whose record data is later (RFC 6762, section 8.2).
    /// The incarnation stands first in the text record, which sorts before the service record; so it alone decides.
    pub fn wins_against(&self, other: &Self) -> bool {
        self.incarnation > other.incarnation
    }

    fn texts(&self, seals: &Seals) -> Vec<Vec<u8>> {
        let flags = format!("{}{}", if self.provisional { "p" } else { "" }, if self.leaving { "x" } else { "" });
        let mut texts = [
            format!("in={}", self.incarnation),
            format!("id={}", seals.cluster()),
            format!("node={}", self.node),
            format!("hw={}", self.mac),
            format!("at={}", self.address),
            format!("name={}", self.name),
            format!("n={}", self.members),
            format!("g={}", self.grant),
            format!("is={flags}"),
        ]
        .map(String::into_bytes)
        .to_vec();
        texts.extend(self.replaces.map(|replaced| format!("re={replaced}").into_bytes()));
        let tag = seals.tag(Use::Notice, &covered(self.service, &texts));
        texts.push(format!("mac={}", hex(&tag)).into_bytes());
        texts
    }

    fn from_texts(service: Service, texts: &[Vec<u8>], seals: &Seals) -> Option<Self> {
        let (last, covered_texts) = texts.split_last()?;
        let tag: [u8; 16] = unhex(std::str::from_utf8(last).ok()?.strip_prefix("mac=")?)?;
        if !seals.is_right(Use::Notice, &covered(service, covered_texts), &tag) {
            return None;
        }
        let value = |key: &str| {
            let texts = covered_texts.iter().filter_map(|text| std::str::from_utf8(text).ok());
            texts.filter_map(|text| text.split_once('=')).find(|(name, _)| *name == key).map(|(_, value)| value.to_owned())
        };
        let flags = value("is")?;
        Some(Self {
            service,
            incarnation: value("in")?.parse().ok()?,
            node: value("node")?.parse().ok()?,
            mac: value("hw")?.parse().ok()?,
            address: value("at")?.parse().ok()?,
            name: value("name")?,
            provisional: flags.contains('p'),
            members: value("n")?.parse().ok()?,
            // Versions before grants do not say.
            grant: value("g").map_or(Ok(0), |text| text.parse()).ok()?,
            replaces: value("re").map(|text| text.parse()).transpose().ok()?,
            leaving: flags.contains('x'),
        })
    }
}

/// A leader of another key on the same wire: hearsay, nobody can prove it to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The eight digits in its name.
    pub cluster: String,
    /// Its leader's address, where the records say.
    pub address: Option<Ipv4Addr>,
}

/// What is in `records`: notices of our key, and leaders of other ones.
pub fn read(records: &[Record], seals: &Seals) -> (Vec<Notice>, Vec<Stranger>) {
    let (mut notices, mut strangers) = (Vec::new(), Vec::new());
    let ours = leader_label(&seals.cluster().short());
    for record in records {
        let Name::Instance(service, label) = &record.name else { continue };
        match &record.data {
            Data::Txt(texts) => notices.extend(Notice::from_texts(*service, texts, seals)),
            Data::Srv { host, .. } if *service == Service::Leader && *label != ours && record.ttl > 0 => {
                let Some(cluster) = label.strip_prefix(LEADER).filter(|digits| is_short_id(digits)) else { continue };
                let address = records.iter().find_map(|other| match other.data {
                    Data::A(address) if other.name == Name::Host(host.clone()) => Some(address),
                    _ => None,
                });
                strangers.push(Stranger { cluster: cluster.to_owned(), address });
            }
            _ => {}
        }
    }
    (notices, strangers)
}

fn is_short_id(digits: &str) -> bool {
    digits.len() == 8 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

fn leader_label(short: &str) -> String {
    format!("{LEADER}{short}")
}

/// What the tag is of: the service and the texts, each with its length.
fn covered(service: Service, texts: &[Vec<u8>]) -> Vec<u8> {
    let mut message = service.label().as_bytes().to_vec();
    for text in texts {
        message.push(0);
        message.extend_from_slice(&(text.len() as u16).to_be_bytes());
        message.extend_from_slice(text);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::ClusterKey;

    fn notice(service: Service) -> Notice {
        Notice {
            service,
            incarnation: Incarnation([9; 16]),
            node: NodeId([4; 16]),
            mac: Mac([2, 0, 0, 0, 0, 7]),
            address: [192, 168, 200, 1].into(),
            name: "node-0a0b0c".into(),
            provisional: true,
            members: 3,
            grant: 7,
            replaces: None,
            leaving: false,
        }
    }

    fn seals(byte: u8) -> Seals {
        ClusterKey::new([byte; 32]).seals()
    }

    #[test]
    fn there_and_back() {
        for service in [Service::Leader, Service::Member] {
            for (leaving, replaces) in [(false, None), (true, None), (false, Some(Incarnation([8; 16])))] {
                let notice = Notice { leaving, replaces, ..notice(service) };
                assert_eq!(read(&notice.records(&seals(1)), &seals(1)), (vec![notice], vec![]));
            }
        }
    }

    #[test]
    fn every_altered_text_is_refused() {
        let records = notice(Service::Leader).records(&seals(1));
        let count = records.iter().find_map(|record| match &record.data {
            Data::Txt(texts) => Some(texts.len()),
            _ => None,
        });
        for place in 0..count.unwrap() {
            let mut records = records.clone();
            for record in &mut records {
                if let Data::Txt(texts) = &mut record.data {
                    let last = texts[place].last_mut().unwrap();
                    *last ^= 1;
                }
            }
            assert_eq!(read(&records, &seals(1)).0, [], "text {place}");
        }
        // As a member's word the leader's texts are worth nothing.
        let texts = notice(Service::Leader).texts(&seals(1));
        assert_eq!(Notice::from_texts(Service::Member, &texts, &seals(1)), None);
    }

    #[test]
    fn another_key_is_a_stranger() {
        let (notices, strangers) = read(&notice(Service::Leader).records(&seals(2)), &seals(1));
        assert_eq!(notices, []);
        let cluster = seals(2).cluster().short();
        assert_eq!(strangers, [Stranger { cluster, address: Some([192, 168, 200, 1].into()) }]);
    }
}
