//! One attempt to join: what is shown and said, and what of it is wrong.

use std::net::Ipv4Addr;

use hcl_firstboot::{
    identity::{Incarnation, NodeId},
    key::{ClusterId, ClusterKey},
    record::MemberEntry,
    trust::{BadCertificate, ConsulRole, Error, Issued, NodeNames, Trust, Validity, join::Refused, join::Role},
};

use super::lane::Outcome;

/// The clock of both ends.
pub const NOW: u64 = 1_800_000_000;
/// The leader.
pub const LEADER: u8 = 10;
/// The member that tries, and another one.
const MEMBER: u8 = 12;
const OTHER: u8 = 13;
/// Nobody's.
const NOBODY: u8 = 99;

pub fn key() -> ClusterKey {
    ClusterKey::new([0x42; 32])
}

pub fn incarnation() -> Incarnation {
    Incarnation([0x17; 16])
}

pub fn node(number: u8) -> NodeId {
    NodeId([number; 16])
}

pub fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, 0, number)
}

pub fn name(number: u8) -> String {
    format!("node-{number:06x}")
}

pub fn names(number: u8) -> NodeNames {
    NodeNames::new(node(number), address(number), &name(number)).unwrap()
}

/// The ledger.
pub fn members() -> Vec<MemberEntry> {
    let member = |number| MemberEntry { node: node(number), address: address(number), name: name(number) };
    [LEADER, 11, MEMBER, OTHER].map(member).to_vec()
}

/// What is wrong with an attempt: one thing each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    Key,
    ConsulsAuthority,
    UsersAuthority,
    NoCertificate,
    Expired,
    NotYetGood,
    CertifiedNode,
    CertifiedAddress,
    CertifiedName,
    Source,
    NotMember,
    MemberAddress,
    MemberName,
    Node,
    Address,
    Name,
    Cluster,
    Incarnation,
    Transcript,
    TranscriptKey,
    TranscriptBit,
    Role,
    Clock,
    UnknownField,
    MissingField,
}

pub const WRONGS: [Wrong; 25] = [
    Wrong::Key,
    Wrong::ConsulsAuthority,
    Wrong::UsersAuthority,
    Wrong::NoCertificate,
    Wrong::Expired,
    Wrong::NotYetGood,
    Wrong::CertifiedNode,
    Wrong::CertifiedAddress,
    Wrong::CertifiedName,
    Wrong::Source,
    Wrong::NotMember,
    Wrong::MemberAddress,
    Wrong::MemberName,
    Wrong::Node,
    Wrong::Address,
    Wrong::Name,
    Wrong::Cluster,
    Wrong::Incarnation,
    Wrong::Transcript,
    Wrong::TranscriptKey,
    Wrong::TranscriptBit,
    Wrong::Role,
    Wrong::Clock,
    Wrong::UnknownField,
    Wrong::MissingField,
];

impl Wrong {
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "certificate by another cluster's key",
            Self::ConsulsAuthority => "certificate by Consul's authority",
            Self::UsersAuthority => "certificate by the users' authority",
            Self::NoCertificate => "no certificate",
            Self::Expired => "certificate expired",
            Self::NotYetGood => "certificate not good yet",
            Self::CertifiedNode => "node id in the certificate",
            Self::CertifiedAddress => "address in the certificate",
            Self::CertifiedName => "name in the certificate",
            Self::Source => "address of the connection",
            Self::NotMember => "node that is no member",
            Self::MemberAddress => "address that the ledger does not have",
            Self::MemberName => "name that the ledger does not have",
            Self::Node => "node id in the request",
            Self::Address => "address in the request",
            Self::Name => "name in the request",
            Self::Cluster => "cluster in the request",
            Self::Incarnation => "incarnation in the request",
            Self::Transcript => "transcript of another session",
            Self::TranscriptKey => "transcript sealed with another cluster's key",
            Self::TranscriptBit => "transcript with one bit flipped",
            Self::Role => "role that it shall not have",
            Self::Clock => "clock",
            Self::UnknownField => "a field that is not known",
            Self::MissingField => "a field that is missing",
        }
    }

    /// The reason that it must be refused for. Wrongs of one field share it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Key | Self::ConsulsAuthority => "issuer",
            Self::UsersAuthority => "issuer",
            Self::NoCertificate => "no certificate",
            Self::Expired | Self::NotYetGood => "time",
            Self::CertifiedNode | Self::Node => "node",
            Self::CertifiedAddress | Self::Address => "address",
            Self::CertifiedName | Self::Name => "name",
            Self::Source => "source",
            Self::NotMember => "not a member",
            Self::MemberAddress => "member's address",
            Self::MemberName => "member's name",
            Self::Cluster => "cluster",
            Self::Incarnation => "incarnation",
            Self::Transcript | Self::TranscriptKey | Self::TranscriptBit => "binding",
            Self::Role => "role",
            Self::Clock => "clock",
            Self::UnknownField | Self::MissingField => "form",
        }
    }

    /// Whether an attempt ended as it must with this wrong: refused, for this reason and no other.
    pub fn fits(self, outcome: &Outcome) -> bool {
        match (self.reason(), outcome) {
            ("issuer", Outcome::NoSession(Error::Certificate(BadCertificate::Issuer)))
            | ("no certificate", Outcome::NoSession(Error::NoCertificate))
            | ("node", Outcome::Refused(Refused::Node))
            | ("address", Outcome::Refused(Refused::Address))
            | ("name", Outcome::Refused(Refused::Name))
            | ("not a member", Outcome::Refused(Refused::NotMember))
            | ("cluster", Outcome::Refused(Refused::Cluster))
            | ("incarnation", Outcome::Refused(Refused::Incarnation))
            | ("binding", Outcome::Refused(Refused::Binding))
            | ("role", Outcome::Refused(Refused::Role(Role::Server)))
            | ("form", Outcome::Malformed(_)) => true,
            ("time", Outcome::NoSession(Error::Certificate(BadCertificate::Time(at)))) => *at == NOW,
            ("source", Outcome::Refused(Refused::Source { from, certified })) => {
                (*from, *certified) == (address(NOBODY), address(MEMBER))
            }
            ("member's address", Outcome::Refused(Refused::MemberAddress(has))) => *has == address(MEMBER),
            ("member's name", Outcome::Refused(Refused::MemberName(has))) => *has == name(MEMBER),
            ("clock", Outcome::Refused(Refused::Clock(off))) => *off > 300,
            _ => false,
        }
    }
}

/// Everything that an attempt shows and says. `number` makes attempts of one kind differ.
pub struct Attempt {
    pub wrong: Option<Wrong>,
    /// What the certificate says and what the ledger should know.
    pub certified: NodeNames,
    pub issued: Issued,
    pub from: Ipv4Addr,
    pub cluster: ClusterId,
    pub incarnation: Incarnation,
    pub node: NodeId,
    pub address: Ipv4Addr,
    pub name: String,
    pub role: Role,
    pub clock: Option<u64>,
    pub number: usize,
}

impl Attempt {
    /// The one that is admitted.
    pub fn right(number: usize) -> Self {
        let (trust, certified) = (Trust::new(&key()), names(MEMBER));
        let issued = trust.nodes.issue(&certified, Validity::LIFE, &seed(number));
        Self {
            wrong: None,
            issued,
            certified,
            from: address(MEMBER),
            cluster: key().cluster(),
            incarnation: incarnation(),
            node: node(MEMBER),
            address: address(MEMBER),
            name: name(MEMBER),
            role: Role::Worker,
            // A trusted clock within the bound, or none.
            clock: [None, Some(NOW), Some(NOW - 300), Some(NOW + 300)][number % 4],
            number,
        }
    }

    /// The right one with `wrong`.
    pub fn wrong(wrong: Wrong, number: usize) -> Self {
        let (trust, seed, random) = (Trust::new(&key()), seed(number), random(number));
        let mut attempt = Self { wrong: Some(wrong), ..Self::right(number) };
        let odd_even = |odd: u8, even: u8| if number % 2 == 1 { odd } else { even };
        // Of every second attempt the names are another member's, of the others nobody's.
        let other = odd_even(OTHER, NOBODY);
        match wrong {
            Wrong::Key => {
                let stranger = Trust::new(&ClusterKey::new(random));
                attempt.issued = stranger.nodes.issue(&attempt.certified, Validity::LIFE, &seed);
            }
            Wrong::ConsulsAuthority => {
                let role = if number % 2 == 1 { ConsulRole::Server } else { ConsulRole::Client };
                attempt.issued = trust.consul.issue(role, address(MEMBER), &seed);
            }
            Wrong::UsersAuthority => {
                attempt.issued = trust.users.issue(&"ada".parse().unwrap(), Validity::LIFE, &seed);
            }
            Wrong::Expired => attempt.certify(Validity { from: 0, until: NOW - 1 - number as u64 }),
            Wrong::NotYetGood => attempt.certify(Validity { from: NOW + 1 + number as u64, until: Validity::LIFE.until }),
            Wrong::CertifiedNode => {
                attempt.certified = NodeNames::new(node(other), address(MEMBER), &name(MEMBER)).unwrap();
                attempt.certify(Validity::LIFE);
            }
            Wrong::CertifiedAddress => {
                attempt.certified = NodeNames::new(node(MEMBER), address(other), &name(MEMBER)).unwrap();
                attempt.certify(Validity::LIFE);
            }
            Wrong::CertifiedName => {
                attempt.certified = NodeNames::new(node(MEMBER), address(MEMBER), &name(other)).unwrap();
                attempt.certify(Validity::LIFE);
            }
            Wrong::Source => attempt.from = address(NOBODY),
            // Here all that is shown and said agrees, and only the ledger knows better.
            Wrong::NotMember => attempt.become_node(node(NOBODY), address(NOBODY), name(NOBODY)),
            Wrong::MemberAddress => attempt.become_node(node(MEMBER), address(other), name(MEMBER)),
            Wrong::MemberName => attempt.become_node(node(MEMBER), address(MEMBER), name(other)),
            Wrong::Node => attempt.node = node(other),
            Wrong::Address => attempt.address = address(other),
            Wrong::Name => attempt.name = name(other),
            Wrong::Cluster => attempt.cluster = ClusterKey::new(random).cluster(),
            Wrong::Incarnation => attempt.incarnation.0[number % 16] ^= 1 << (number / 16 % 8),
            Wrong::Role => attempt.role = Role::Server,
            Wrong::Clock => {
                let off = 301 + number as u64 * number as u64;
                attempt.clock = Some(if number % 2 == 1 { NOW + off } else { NOW - off });
            }
            // What only the session or the text has.
            Wrong::NoCertificate
            | Wrong::Transcript
            | Wrong::TranscriptKey
            | Wrong::TranscriptBit
            | Wrong::UnknownField
            | Wrong::MissingField => {}
        }
        attempt
    }

    fn certify(&mut self, validity: Validity) {
        self.issued = Trust::new(&key()).nodes.issue(&self.certified, validity, &seed(self.number));
    }

    fn become_node(&mut self, node: NodeId, address: Ipv4Addr, name: String) {
        self.certified = NodeNames::new(node, address, &name).unwrap();
        self.certify(Validity::LIFE);
        (self.node, self.address, self.name, self.from) = (node, address, name, address);
    }
}

/// A key of its own for each attempt.
fn seed(number: usize) -> [u8; 32] {
    spread(number, 1)
}

/// Another cluster's key.
pub fn random(number: usize) -> [u8; 32] {
    spread(number, 2)
}

fn spread(number: usize, kind: u8) -> [u8; 32] {
    let mut bytes = [kind; 32];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    bytes
}
