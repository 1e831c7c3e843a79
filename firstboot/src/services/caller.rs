//! Calls the leader: to be taken in, and to report.

use std::{
    net::{SocketAddrV4, TcpStream},
    time::Duration,
};

use super::report::{Leader, Report, Told};
use crate::{
    http::{Error, Response},
    identity::Incarnation,
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
        let session = self.session(leader, clock)?;
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
        parse(&answered(ask(self.session(leader, clock)?, REPORT_PATH, report, LIMIT))?)
    }

    fn session(&self, leader: &Leader, clock: Option<UnixSeconds>) -> Result<Session<TcpStream>, String> {
        let to = SocketAddrV4::new(leader.address, PORT);
        let wrong = |error: &dyn std::fmt::Display| format!("the leader at {to}: {error}");
        // From this node's own address, which its certificate names: a node that led may still have another one.
        let stream = dial(self.identity.names().address(), to, LIMIT).map_err(|error| wrong(&error))?;
        self.identity.connect(stream, Wanted::Node(leader.node), clock, LIMIT).map_err(|error| wrong(&error))
    }
}

fn answered(asked: Result<Response, Error>) -> Result<Response, String> {
    let response = asked.map_err(|error| error.to_string())?;
    if response.is_success() { Ok(response) } else { Err(format!("the leader says: {}", response.text())) }
}

fn parse<T: serde::de::DeserializeOwned>(response: &Response) -> Result<T, String> {
    serde_json::from_slice(&response.body).map_err(|error| format!("the leader's answer cannot be read: {error}"))
}
