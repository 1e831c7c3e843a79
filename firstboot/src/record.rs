//! What a node knows after a power cut: one small file, whole at any moment, with a checksum.
//!
//! The first line is `hcl 1 ` and the SHA-256 of the rest, the rest is JSON. A file that does not fit its checksum is as good as
//! none: the node is a new one then, and says so.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    identity::{Hardware, Incarnation, NodeId},
    key::hex,
    link::Mac,
};

/// Where it lies on a node.
pub const PATH: &str = "/var/lib/hcl/state";

/// Everything that a node remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who it is.
    pub node: NodeId,
    /// What it ran on when it became that.
    pub hardware: Hardware,
    /// The cluster that it belongs to, if it ever belonged to one.
    pub membership: Option<Membership>,
}

/// A node's place in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The id of the cluster's key. With another key on the card this is of no use.
    pub cluster: String,
    /// The founding that it belongs to.
    pub incarnation: Incarnation,
    /// Its address, for life; none between founding and choosing one.
    pub address: Option<Ipv4Addr>,
    /// Whether the cluster holds nothing yet that would be missed.
    pub provisional: bool,
    /// Who has which address, as this node knew it when it led last; a founder's from the start.
    #[serde(alias = "founder")]
    pub ledger: Option<Ledger>,
    /// The last grant of the leader's role that this node led by. None: it never had one, and leads by right of its founding if it
    /// has a ledger. Zero: another node had one.
    #[serde(default)]
    pub granted: Option<u64>,
    /// The founding that a person had this one take the place of (`hcl recover`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Incarnation>,
}

impl Membership {
    /// Whether it founded and nobody has granted the role to any node yet, as far as it knows: then it leads without a grant.
    pub fn leads_by_right(&self) -> bool {
        self.ledger.is_some() && self.granted.is_none()
    }
}

/// Who has which address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Members, for life, the founder included.
    pub members: Vec<MemberEntry>,
    /// Machines without the key, for minutes. After a start each of them is given its full time again.
    pub strangers: Vec<StrangerEntry>,
}

/// Whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A member's, for life.
    Member(NodeId),
    /// A stranger's, for minutes.
    Stranger(Mac),
}

impl Ledger {
    /// Whose `address` is.
    pub fn holder(&self, address: Ipv4Addr) -> Option<Holder> {
        let member = self.members.iter().find(|entry| entry.address == address).map(|entry| Holder::Member(entry.node));
        let stranger = || self.strangers.iter().find(|entry| entry.address == address);
        member.or_else(|| stranger().map(|entry| Holder::Stranger(entry.mac)))
    }

    /// Adds `entry`, unless its node or its address has another one already.
    pub fn add(&mut self, entry: MemberEntry) {
        let known = |with: &MemberEntry| with.node == entry.node || with.address == entry.address;
        if !self.members.iter().any(known) {
            self.members.push(entry);
        }
    }
}

/// A member's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberEntry {
    /// Whose.
    pub node: NodeId,
    /// The address.
    pub address: Ipv4Addr,
    /// Its host name.
    pub name: String,
}

/// A stranger's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrangerEntry {
    /// Its hardware address.
    pub mac: Mac,
    /// The address.
    pub address: Ipv4Addr,
}

/// Why a file holds no record.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// It does not begin as it should.
    #[error("no state of this program, or of a later version")]
    Header,
    /// The checksum is another one.
    #[error("does not fit its checksum: damaged")]
    Checksum,
    /// What is in it cannot be.
    #[error("{0}")]
    Content(#[from] serde_json::Error),
}

impl Record {
    /// A new node that belongs to nothing.
    pub fn new(node: NodeId, hardware: Hardware) -> Self {
        Self { node, hardware, membership: None }
    }

    /// The file's content.
    pub fn to_file(&self) -> Vec<u8> {
        seal(self)
    }

    /// The record in `file`.
    ///
    /// # Errors
    ///
    /// It is none, or damaged.
    pub fn from_file(file: &[u8]) -> Result<Self, BadRecord> {
        Ok(serde_json::from_slice(unseal(file)?)?)
    }
}

/// The content of a file that holds `what`.
pub(crate) fn seal(what: &impl Serialize) -> Vec<u8> {
    // Nothing in it can fail: no maps with keys that are no strings, no numbers that JSON lacks.
    let body = serde_json::to_string(what).unwrap_or_default() + "\n";
    format!("{HEADER}{}\n{body}", hex(&Sha256::digest(&body))).into_bytes()
}

/// The JSON in `file`, which is as it was written.
///
/// # Errors
///
/// It is not.
pub(crate) fn unseal(file: &[u8]) -> Result<&[u8], BadRecord> {
    let rest = file.strip_prefix(HEADER.as_bytes()).ok_or(BadRecord::Header)?;
    let (sum, body) = rest.split_at_checked(64).ok_or(BadRecord::Checksum)?;
    let body = body.strip_prefix(b"\n").ok_or(BadRecord::Checksum)?;
    if sum != hex(&Sha256::digest(body)).as_bytes() {
        return Err(BadRecord::Checksum);
    }
    Ok(body)
}

const HEADER: &str = "hcl 1 ";

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let node = NodeId([1; 16]);
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        let ledger = Ledger {
            members: vec![MemberEntry { node, address: [192, 168, 200, 77].into(), name: "node-1".into() }],
            strangers: vec![StrangerEntry { mac, address: [192, 168, 200, 201].into() }],
        };
        let membership = Membership {
            cluster: "0011".into(),
            incarnation: Incarnation([3; 16]),
            address: Some([192, 168, 200, 77].into()),
            provisional: true,
            ledger: Some(ledger),
            granted: Some(7),
            replaces: None,
        };
        let hardware = Hardware { card: Some("a".into()), board: None };
        Record { membership: Some(membership), ..Record::new(node, hardware) }
    }

    #[test]
    fn there_and_back() {
        let file = record().to_file();
        assert_eq!(Record::from_file(&file).unwrap(), record());
    }

    #[test]
    fn a_record_of_the_first_version() {
        let record = record();
        let text = String::from_utf8(record.to_file()).unwrap();
        let body = text.split_once('\n').unwrap().1.replace("\"ledger\"", "\"founder\"").replace(",\"granted\":7", "");
        let file = format!("{HEADER}{}\n{body}", hex(&Sha256::digest(&body)));
        let read = Record::from_file(file.as_bytes()).unwrap().membership.unwrap();
        assert!(read.leads_by_right());
        assert_eq!(Membership { granted: Some(7), ..read }, record.membership.unwrap());
    }

    #[test]
    fn one_address_a_node_and_one_node_an_address() {
        let mut ledger = record().membership.unwrap().ledger.unwrap();
        let entry = |node: u8, last: u8| MemberEntry {
            node: NodeId([node; 16]),
            address: [192, 168, 200, last].into(),
            name: String::new(),
        };
        for (node, last, count) in [(1, 78, 1), (2, 77, 1), (2, 78, 2), (2, 79, 2), (3, 78, 2)] {
            ledger.add(entry(node, last));
            assert_eq!(ledger.members.len(), count, "{node} at .{last}");
        }
        assert_eq!(ledger.holder([192, 168, 200, 78].into()), Some(Holder::Member(NodeId([2; 16]))));
        assert_eq!(ledger.holder([192, 168, 200, 201].into()), Some(Holder::Stranger(Mac([2, 0, 0, 0, 0, 9]))));
        assert_eq!(ledger.holder([192, 168, 200, 202].into()), None);
    }

    #[test]
    fn every_damage_is_seen() {
        let file = record().to_file();
        for length in 0..file.len() {
            assert!(Record::from_file(&file[..length]).is_err(), "cut at {length}");
        }
        for place in 0..file.len() {
            let mut damaged = file.clone();
            damaged[place] ^= 1;
            assert!(Record::from_file(&damaged).is_err(), "bit 0 of byte {place}");
        }
    }
}
