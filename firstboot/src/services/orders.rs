//! `hcl poweroff --all` and `hcl reboot --all`: an order that goes from node to node, and is obeyed once.
//!
//! ```text
//!  root ── order.sock ──► the node asked ── POST /v1/ticket ──► every other member      who is there
//!                                        ── POST /v1/order ───► followers, all at once  go at once
//!                                        ── POST /v1/order ───► the leader              goes once the others are silent
//!                                        ── itself
//! ```
//!
//! Between nodes it travels in sessions of two nodes' certificates only: people's are of another authority, and the page is another
//! server, which only reads. A ticket is drawn by the node that shall obey, for the node that asks, for one order; it is kept in memory
//! alone, and ends by that node's own time since its boot. So an order that was recorded, or comes late, is nothing to a node that has
//! come up again.

mod give;
pub(crate) mod local;
mod obey;
mod tickets;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use self::tickets::{Ticket, Tickets};
pub(super) use self::{give::Text, obey::Promise};
use super::caller::Caller;
use crate::{
    http::{Request, Response},
    identity::{Incarnation, NodeId},
    record::MemberEntry,
    status::uptime_ms,
    trust::{Peer, join::recognise},
};

/// Where a node asks for a ticket.
pub(super) const TICKET_PATH: &str = "/v1/ticket";
/// Where it orders.
pub(super) const ORDER_PATH: &str = "/v1/order";

/// What all nodes are ordered to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// To switch off.
    Poweroff,
    /// To boot anew.
    Reboot,
}

impl Order {
    /// As the command line and systemd have it.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Poweroff => "poweroff",
            Self::Reboot => "reboot",
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.verb())
    }
}

/// `POST /v1/ticket`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TicketRequest {
    incarnation: Incarnation,
    order: Order,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TicketAnswer {
    ticket: Ticket,
}

/// `POST /v1/order`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderRequest {
    incarnation: Incarnation,
    order: Order,
    ticket: Ticket,
    /// The nodes that go first.
    after: Vec<NodeId>,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderAnswer {
    accepted: Order,
}

/// Where this node is, for those who order and are ordered.
#[derive(Clone, Debug)]
pub(super) struct Here {
    pub(super) caller: Arc<Caller>,
    pub(super) incarnation: Incarnation,
    /// All that are known, this node included.
    pub(super) members: Vec<MemberEntry>,
    /// Who leads, where somebody does.
    pub(super) leader: Option<NodeId>,
}

/// Does what was ordered.
type End = dyn Fn(Order) -> Result<(), String> + Send + Sync;
/// Whether the node at the second address still answers the first one.
type Answers = dyn Fn(Ipv4Addr, Ipv4Addr) -> bool + Send + Sync;

/// What this node was ordered, and may be. Shared by the door, the local socket and the loop that knows where the node is.
pub(super) struct Orders {
    state: Mutex<State>,
    end: Box<End>,
    answers: Box<Answers>,
    /// How long the last node waits for the others.
    patience: Duration,
}

#[derive(Debug, Default)]
struct State {
    here: Option<Here>,
    tickets: Tickets,
    /// What was accepted, and will be done or is being done.
    obeying: Option<Order>,
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Orders({:?})", self.lock().obeying)
    }
}

/// The wrong answer, with its status.
struct Refusal(u16, String);

impl Orders {
    /// Those of this machine.
    pub(super) fn new() -> Arc<Self> {
        Self::with(obey::systemctl, obey::answers, obey::PATIENCE)
    }

    fn with(
        end: impl Fn(Order) -> Result<(), String> + Send + Sync + 'static,
        answers: impl Fn(Ipv4Addr, Ipv4Addr) -> bool + Send + Sync + 'static,
        patience: Duration,
    ) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), end: Box::new(end), answers: Box::new(answers), patience })
    }

    /// From now on the node is there; none: nowhere, and it obeys nobody.
    pub(super) fn here(&self, here: Option<Here>) {
        self.lock().here = here;
    }

    /// Answers `peer`, which asks over a session of its own at one of the two paths. A promise is to be kept once the answer is out.
    pub(super) fn answer(self: &Arc<Self>, request: &Request, peer: &Peer) -> (Response, Option<Promise>) {
        let answered = match request.path.as_str() {
            TICKET_PATH => self.issue(request, peer).map(|answer| (ok(&answer), None)),
            _ => self.take(request, peer).map(|(answer, promise)| (ok(&answer), Some(promise))),
        };
        answered.unwrap_or_else(|Refusal(status, why)| (Response::refusal(status, &why), None))
    }

    fn issue(&self, request: &Request, peer: &Peer) -> Result<TicketAnswer, Refusal> {
        let TicketRequest { incarnation, order } = parse(&request.body)?;
        let mut state = self.lock();
        state.recognise(peer, request.peer, incarnation)?;
        let drawn: [u8; 32] = crate::driver::random().map_err(|error| Refusal(500, format!("random bytes: {error}")))?;
        Ok(TicketAnswer { ticket: state.tickets.issue(peer.node(), order, drawn, since_boot()) })
    }

    fn take(self: &Arc<Self>, request: &Request, peer: &Peer) -> Result<(OrderAnswer, Promise), Refusal> {
        let OrderRequest { incarnation, order, ticket, after } = parse(&request.body)?;
        let mut state = self.lock();
        let members = state.recognise(peer, request.peer, incarnation)?;
        let after = members.iter().filter(|member| after.contains(&member.node)).map(|member| member.address).collect();
        state.tickets.redeem(&ticket, peer.node(), order, since_boot()).map_err(|wrong| Refusal(403, wrong.to_string()))?;
        let own = state.here.as_ref().map(|here| here.caller.identity.names().address());
        let own = own.ok_or_else(|| Refusal(503, NOWHERE.to_owned()))?;
        state.obeying = Some(order);
        println!("{order} ordered by {}, {}", peer.name(), peer.address());
        Ok((OrderAnswer { accepted: order }, Promise::new(self, order, own, after)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in there is ever half written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const NOWHERE: &str = "this node is in no cluster now";

impl State {
    /// The members, where `peer` is one of them and this node is free to obey it.
    fn recognise(&self, peer: &Peer, from: IpAddr, incarnation: Incarnation) -> Result<Vec<MemberEntry>, Refusal> {
        let IpAddr::V4(from) = from else { return Err(Refusal(400, "this is no address of the cluster".to_owned())) };
        let here = self.here.as_ref().ok_or_else(|| Refusal(503, NOWHERE.to_owned()))?;
        recognise(peer, from, &here.members).map_err(|refused| Refusal(403, refused.to_string()))?;
        if incarnation != here.incarnation {
            return Err(Refusal(403, "the incarnation is another one".to_owned()));
        }
        match self.obeying {
            Some(order) => Err(Refusal(409, already(order))),
            None => Ok(here.members.clone()),
        }
    }
}

fn already(order: Order) -> String {
    format!("it has accepted an order to {order} already")
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal(400, error.to_string()))
}

fn ok(answer: &impl Serialize) -> Response {
    // Types of ours: no maps with keys that are no strings.
    Response::new(200, "application/json", serde_json::to_vec(answer).unwrap_or_default())
}

fn since_boot() -> Duration {
    Duration::from_millis(uptime_ms())
}

#[cfg(test)]
mod tests;
