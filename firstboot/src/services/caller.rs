//! Calls other nodes; the leader, to be taken in and to report.

use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    time::Duration,
};

use super::report::{Leader, Report, Told};
use crate::{
    http::{Error, Response},
    identity::{Incarnation, NodeId},
    trust::{
        Identity, Session, Trust, UnixSeconds, Wanted, dial,
        join::{JOIN_PATH, JoinAnswer, JoinRequest, PORT, REPORT_PATH, Role, ask},
    },
};

/// How long a call may take: the leader may be a Pi under load, with its hands full of the same calls.
const LIMIT: Duration = Duration::from_secs(20);

/// Calls as one node.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) trust: Trust,
    pub(super) identity: Identity,
}

impl Caller {
    /// Asks `leader` to be taken in.
    ///
    /// # Errors
    ///
    /// Why not, in its words or ours.
    pub(super) fn join(
        &self,
        leader: &Leader,
        incarnation: Incarnation,
        clock: Option<UnixSeconds>,
    ) -> Result<JoinAnswer, String> {
        let session = self.with_leader(leader, clock)?;
        let names = self.identity.names();
        let request = JoinRequest {
            cluster: self.trust.cluster,
            incarnation,
            node: names.node(),
            address: names.address(),
            name: names.name().to_owned(),
            // As a server it comes by being promoted: so no manager's token ever travels.
            role: Role::Worker,
            clock,
            binding: self.trust.binder.bind(&session.exporter()),
        };
        parse(&answered(ask(session, JOIN_PATH, &request, LIMIT))?)
    }

    /// Tells `leader` how this node is.
    ///
    /// # Errors
    ///
    /// Why not, in its words or ours.
    pub(super) fn report(&self, leader: &Leader, report: &Report, clock: Option<UnixSeconds>) -> Result<Told, String> {
        parse(&answered(ask(self.with_leader(leader, clock)?, REPORT_PATH, report, LIMIT))?)
    }

    /// A session with `node`, which must be at `address`, for `limit` at most.
    ///
    /// # Errors
    ///
    /// Why there is none, without saying with whom.
    pub(super) fn session(
        &self,
        node: NodeId,
        address: Ipv4Addr,
        clock: Option<UnixSeconds>,
        limit: Duration,
    ) -> Result<Session<TcpStream>, String> {
        // From this node's own address, which its certificate names: a node that led may still have another one.
        let from = self.identity.names().address();
        let stream = dial(from, SocketAddrV4::new(address, PORT), limit).map_err(|error| error.to_string())?;
        self.identity.connect(stream, Wanted::Node(node), clock, limit).map_err(|error| error.to_string())
    }

    fn with_leader(&self, leader: &Leader, clock: Option<UnixSeconds>) -> Result<Session<TcpStream>, String> {
        let wrong = |error| format!("the leader at {}:{PORT}: {error}", leader.address);
        self.session(leader.node, leader.address, clock, LIMIT).map_err(wrong)
    }
}

fn answered(asked: Result<Response, Error>) -> Result<Response, String> {
    let response = asked.map_err(|error| error.to_string())?;
    if response.is_success() { Ok(response) } else { Err(format!("the leader says: {}", response.text())) }
}

fn parse<T: serde::de::DeserializeOwned>(response: &Response) -> Result<T, String> {
    serde_json::from_slice(&response.body).map_err(|error| format!("the leader's answer cannot be read: {error}"))
}
