//! Multicast DNS (RFC 6762) and service discovery (RFC 6763), as far as the cluster goes.
//!
//! Two service types: `_cluster._tcp.local` for the leader, which anybody may browse, and `_cluster-member._tcp.local`, with which
//! every member answers.

use std::net::Ipv4Addr;

/// A query or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The id; zero in multicast, repeated in the answer to a one-shot querier.
    pub id: u16,
    /// Whether this is a response.
    pub response: bool,
    /// What is asked.
    pub questions: Vec<Question>,
    /// Answers in a response, known answers in a query. Additional records of a response are put here too when decoding.
    pub answers: Vec<Record>,
    /// The records that a probe proposes (RFC 6762, section 8.2).
    pub authorities: Vec<Record>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The name.
    pub name: Name,
    /// The type of record.
    pub kind: Kind,
    /// Whether a unicast answer would do (the QU bit).
    pub unicast: bool,
}

/// A type of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An IPv4 address.
    A,
    /// A pointer to an instance.
    Ptr,
    /// Host and port of an instance.
    Srv,
    /// The texts of an instance.
    Txt,
    /// All there are.
    Any,
}

/// One of the cluster's two service types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// `_cluster._tcp`: the leader.
    Leader,
    /// `_cluster-member._tcp`: every member, the leader included.
    Member,
}

impl Service {
    /// The type's first label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Leader => "_cluster",
            Self::Member => "_cluster-member",
        }
    }
}

/// A name in `local.`; names of other kinds are not for us. Labels are compared without regard to case: they are lower-cased
/// when decoded, instances excepted, which keep theirs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// `_services._dns-sd._udp.local`: which types are there (RFC 6763, section 9).
    Types,
    /// A service type.
    Type(Service),
    /// An instance of a type: one label before it.
    Instance(Service, String),
    /// A host: one label and `local`.
    Host(String),
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub name: Name,
    /// For how many seconds it may be kept; zero is goodbye.
    pub ttl: u32,
    /// Whether it replaces all others of its name and type (the cache-flush bit).
    pub flush: bool,
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// An address.
    A(Ipv4Addr),
    /// A name, of a type or an instance.
    Ptr(Name),
    /// Host and port. Priority and weight are zero.
    Srv {
        /// The port.
        port: u16,
        /// The host's name, its label before `local`.
        host: String,
    },
    /// Texts, each of at most 255 bytes.
    Txt(Vec<Vec<u8>>),
}
