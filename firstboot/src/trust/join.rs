//! What a node asks of the leader to become part of engine and Consul, and whether it may.
//!
//! `POST /v1/join` with a [`JoinRequest`], answered by a [`JoinAnswer`], and `POST /v1/report` with whatever a node tells of itself,
//! both JSON over HTTP/1.1 in a [`Session`], on TCP port [`PORT`]. A session alone says that the other end has a
//! certificate. [`recognise`] says that it is the member of that name at that address; [`admit`] moreover that the request was made
//! by somebody who has the cluster key, for this session and no other, and for this founding of the cluster.

use std::{fmt, io, net::Ipv4Addr, sync::Mutex, time::Duration};

use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::{Exporter, Peer, Session, UnixSeconds};
use crate::{
    http::{self, Stream},
    identity::{Incarnation, NodeId},
    key::{ClusterId, ClusterKey, hex, unhex},
    record::MemberEntry,
};

/// The TCP port, on the cluster's interface only.
pub const PORT: u16 = 2399;
/// Where a node asks to join.
pub const JOIN_PATH: &str = "/v1/join";
/// Where a node tells how it is.
pub const REPORT_PATH: &str = "/v1/report";
/// The most that a request's body may be long, in bytes.
pub const LONGEST_REQUEST: usize = 4 << 10;
/// How far two trusted clocks may be apart, in seconds: swarm's certificates begin an hour before they are issued, Consul's
/// and Raft's timers do not care. What is more than this is no drift.
pub const MOST_SKEW: u64 = 300;

/// What a node is to swarm and Consul.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A swarm worker with a Consul client.
    Worker,
    /// A swarm manager with a Consul server.
    Server,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Worker => "worker",
            Self::Server => "server",
        })
    }
}

/// What a node asks. All of it is checked; what is not known is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The cluster that it means.
    pub cluster: ClusterId,
    /// The founding that it means.
    pub incarnation: Incarnation,
    /// Who it is.
    pub node: NodeId,
    /// Its own address.
    pub address: Ipv4Addr,
    /// Its host name.
    pub name: String,
    /// What it wants to be.
    pub role: Role,
    /// Its clock where it is trusted.
    pub clock: Option<UnixSeconds>,
    /// Ties the request to its session.
    pub binding: Binding,
}

/// What an admitted node gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinAnswer {
    /// What it shall be; its token is for that.
    pub role: Role,
    /// For `docker swarm join`.
    pub token: Token,
    /// The addresses of swarm's managers, the one to try first in front.
    pub managers: Vec<Ipv4Addr>,
    /// The addresses of Consul's servers.
    pub consul: Vec<Ipv4Addr>,
    /// The leader's host name.
    pub leader: String,
    /// The cluster's time, where the leader's clock is trusted.
    pub clock: Option<UnixSeconds>,
    /// The nodes that shall be servers.
    pub servers: Vec<NodeId>,
}

/// A swarm join token. It only travels inside a session, and nothing shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Token(String);

impl Token {
    /// For the engine only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Token {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let right = text.starts_with("SWMTKN-") && text.len() <= 128 && text.bytes().all(plain);
        if right { Ok(Self(text)) } else { Err("no join token of swarm's") }
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        token.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// A MAC over a session's [`Exporter`], by a key that follows from the cluster key.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Binding([u8; 32]);

impl TryFrom<String> for Binding {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        unhex(&text).map(Self).ok_or("a binding has 64 hexadecimal digits")
    }
}

impl From<Binding> for String {
    fn from(binding: Binding) -> Self {
        hex(&binding.0)
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Binding")
    }
}

/// Makes and checks [`Binding`]s.
#[derive(Clone)]
pub struct Binder(Hmac<Sha256>);

impl Binder {
    pub(super) fn new(key: &ClusterKey) -> Self {
        Self(Hmac::new_from_slice(&key.secret("hcl 1 join")).expect("HMAC takes keys of any length"))
    }

    /// The binding of a request to the session of this exporter.
    pub fn bind(&self, exporter: &Exporter) -> Binding {
        Binding(self.mac(exporter).finalize().into_bytes().into())
    }

    /// Whether it is that. Takes the same time for any binding.
    fn is_right(&self, exporter: &Exporter, binding: &Binding) -> bool {
        self.mac(exporter).verify_slice(&binding.0).is_ok()
    }

    fn mac(&self, exporter: &Exporter) -> Hmac<Sha256> {
        self.0.clone().chain_update(exporter.0)
    }
}

impl fmt::Debug for Binder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Binder")
    }
}

/// Sends `body` to `path` in `session`, and waits for the answer, for `limit` at most. The session ends with it.
///
/// # Errors
///
/// There is no answer: the other end may have refused this node's certificate. A status that is no success is an answer.
pub fn ask<S: Stream + Send + 'static>(
    session: Session<S>,
    path: &str,
    body: &impl Serialize,
    limit: Duration,
) -> Result<http::Response, http::Error> {
    // Types of ours: no maps with keys that are no strings.
    let body = serde_json::to_vec(body).unwrap_or_default();
    let name = session.peer().to_string();
    let session = Mutex::new(Some(session));
    let client = http::Client::over(&name, move |_| {
        let session = session.lock().ok().and_then(|mut session| session.take());
        Ok(Box::new(session.ok_or(io::ErrorKind::NotConnected)?))
    });
    client.request("POST", path, &[], Some(("application/json", &body)), limit)
}

/// What the leader knows, against which a request is held.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its founding.
    pub incarnation: Incarnation,
    /// The members, from the ledger.
    pub members: &'a [MemberEntry],
    /// The nodes that shall be servers: nobody else may be one.
    pub servers: &'a [NodeId],
    /// Now, where the clock is trusted.
    pub clock: Option<UnixSeconds>,
    /// Checks bindings.
    pub binder: &'a Binder,
}

/// A request that was found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The member.
    pub peer: Peer,
    /// What it asked to be, and may.
    pub role: Role,
}

/// Which field is wrong. The peer may read it: it has shown its certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The connection comes from another address than that in the certificate.
    #[error("the connection comes from {from}, the certificate is that of {certified}")]
    Source {
        /// Where it comes from.
        from: Ipv4Addr,
        /// What the certificate says.
        certified: Ipv4Addr,
    },
    /// The id is not that of the certificate.
    #[error("the node is not that of the certificate")]
    Node,
    /// The address is not that of the certificate.
    #[error("the address is not that of the certificate")]
    Address,
    /// The host name is not that of the certificate.
    #[error("the name is not that of the certificate")]
    Name,
    /// The ledger has no such node.
    #[error("the node is no member of this cluster")]
    NotMember,
    /// The ledger has another address for it.
    #[error("the member has the address {0}")]
    MemberAddress(Ipv4Addr),
    /// The ledger has another name for it.
    #[error("the member has the name {0}")]
    MemberName(String),
    /// It means another cluster.
    #[error("the cluster is another one")]
    Cluster,
    /// It means another founding.
    #[error("the incarnation is another one")]
    Incarnation,
    /// It was made without the key, or for another session.
    #[error("the binding is not that of this session")]
    Binding,
    /// It may not be what it wants to be.
    #[error("the node shall not be a {0}")]
    Role(Role),
    /// The clocks are too far apart.
    #[error("the clock is {0} s off, more than {MOST_SKEW}")]
    Clock(u64),
}

/// The member that `peer` is, connected from the address `from`: for requests of any kind.
///
/// # Errors
///
/// It connects from another address than its own, or the ledger does not have it as it says.
pub fn recognise<'a>(peer: &Peer, from: Ipv4Addr, members: &'a [MemberEntry]) -> Result<&'a MemberEntry, Refused> {
    if from != peer.address() {
        return Err(Refused::Source { from, certified: peer.address() });
    }
    let member = members.iter().find(|member| member.node == peer.node()).ok_or(Refused::NotMember)?;
    if member.address != peer.address() {
        return Err(Refused::MemberAddress(member.address));
    }
    if member.name != peer.name() {
        return Err(Refused::MemberName(member.name.clone()));
    }
    Ok(member)
}

/// Whether the node at the other end of the session of `peer` and `exporter`, connected from the address `from`, may join.
///
/// # Errors
///
/// The first field that is wrong.
pub fn admit(
    request: &JoinRequest,
    peer: &Peer,
    exporter: &Exporter,
    from: Ipv4Addr,
    expected: &Expected<'_>,
) -> Result<Admitted, Refused> {
    let right = |right, refused| if right { Ok(()) } else { Err(refused) };
    right(request.node == peer.node(), Refused::Node)?;
    right(request.address == peer.address(), Refused::Address)?;
    right(request.name == peer.name(), Refused::Name)?;
    recognise(peer, from, expected.members)?;
    right(request.cluster == expected.cluster, Refused::Cluster)?;
    right(request.incarnation == expected.incarnation, Refused::Incarnation)?;
    right(expected.binder.is_right(exporter, &request.binding), Refused::Binding)?;
    let may_serve = expected.servers.contains(&peer.node());
    right(request.role == Role::Worker || may_serve, Refused::Role(request.role))?;
    if let (Some(theirs), Some(ours)) = (request.clock, expected.clock) {
        let skew = theirs.abs_diff(ours);
        right(skew <= MOST_SKEW, Refused::Clock(skew))?;
    }
    Ok(Admitted { peer: peer.clone(), role: request.role })
}
