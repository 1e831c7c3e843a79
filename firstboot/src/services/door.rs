//! Where other nodes ask to be taken in, report, and order: TLS by the nodes' authority on this node's own address, nothing else.

use std::{
    cell::Cell,
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use super::{
    caller::Caller,
    kept::Server as Serving,
    orders::{ORDER_PATH, Orders, Promise, TICKET_PATH},
    report::{LONGEST, Report, Told},
};
use crate::{
    http::{Limits, Request, Response, Server, serve_connection},
    identity::{Incarnation, NodeId},
    record::MemberEntry,
    trust::{
        Exporter, Peer,
        join::{Expected, JOIN_PATH, JoinAnswer, LONGEST_REQUEST, PORT, REPORT_PATH, Role, Token, admit, recognise},
    },
    view::View,
};

/// For how long a handshake may last, and an exchange after it.
const PATIENCE: Duration = Duration::from_secs(15);
const JSON: &str = "application/json";

/// What a leader that has all to give knows. Another node opens to nobody.
#[derive(Clone, Debug)]
pub(super) struct Leading {
    pub(super) incarnation: Incarnation,
    /// Its host name.
    pub(super) name: String,
    pub(super) members: Vec<MemberEntry>,
    /// Lets workers into the swarm.
    pub(super) token: Token,
    pub(super) managers: Vec<Ipv4Addr>,
    /// Consul's servers that there are.
    pub(super) serving: Vec<Serving>,
    /// Who shall be a server.
    pub(super) wanted: Vec<NodeId>,
    /// Of those that asked, whom Consul's servers do not count.
    pub(super) cleared: Vec<NodeId>,
    /// Whether this node's clock is trusted.
    pub(super) clock: bool,
    pub(super) view: View,
}

/// What comes in at the door, and what is given out.
#[derive(Debug, Default)]
pub(super) struct Hall {
    leading: Option<Leading>,
    reports: BTreeMap<NodeId, (Instant, Report)>,
}

/// Shared between the door and who decides.
pub(super) type Shared = Arc<Mutex<Hall>>;

pub(super) fn lock(hall: &Shared) -> MutexGuard<'_, Hall> {
    // Nothing in there is ever half written.
    hall.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hall {
    /// From now on this is given out; nothing where this node does not lead. A new leader hears everybody anew.
    pub(super) fn give(&mut self, leading: Option<Leading>) {
        if leading.is_none() {
            self.reports.clear();
        }
        self.leading = leading;
    }

    /// What is given out: the view, and Consul's servers.
    pub(super) fn given(&self) -> Option<(View, Vec<Serving>)> {
        self.leading.as_ref().map(|leading| (leading.view.clone(), leading.serving.clone()))
    }

    /// What members last reported, and when.
    pub(super) fn reports(&self) -> &BTreeMap<NodeId, (Instant, Report)> {
        &self.reports
    }
}

/// Opens the door at `address`; it closes when the result is dropped.
///
/// # Errors
///
/// The address is not here, or the port is taken.
pub(super) fn open(address: Ipv4Addr, caller: Arc<Caller>, hall: Shared, orders: Arc<Orders>) -> io::Result<Server> {
    let listener = TcpListener::bind(SocketAddr::V4(SocketAddrV4::new(address, PORT)))?;
    let limits = Limits { workers: 4, waiting: 32, per_peer: 2, request: PATIENCE, idle: Duration::from_secs(1), body: LONGEST };
    Server::over(listener, limits, move |stream, peer, crowded| {
        let clock = lock(&hall).leading.as_ref().filter(|leading| leading.clock).map(|_| now());
        // Who has no certificate of ours gets no word.
        let Ok(mut session) = caller.identity.accept(stream, clock, PATIENCE) else { return };
        let (who, exporter) = (session.peer().clone(), session.exporter());
        let promised = Cell::new(None);
        let handler = |request: &Request| match request.path.as_str() {
            TICKET_PATH | ORDER_PATH if request.method == "POST" => {
                let (response, promise) = orders.answer(request, &who);
                promise.into_iter().for_each(|promise| promised.set(Some(promise)));
                response
            }
            _ => answer(request, &who, &exporter, &caller, &hall),
        };
        serve_connection(&mut session, peer, &limits, crowded, &handler);
        // The goodbye goes before it as well.
        drop(session);
        promised.take().into_iter().for_each(Promise::keep);
    })
}

/// Seconds since 1970 by the system's clock.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Seconds since 1970, where the clock was set by the network.
pub(super) fn clock() -> Option<u64> {
    Path::new("/run/systemd/timesync/synchronized").exists().then(now)
}

fn answer(request: &Request, peer: &Peer, exporter: &Exporter, caller: &Caller, hall: &Shared) -> Response {
    let IpAddr::V4(from) = request.peer else { return Response::refusal(400, "this is no address of the cluster") };
    if request.method != "POST" {
        return Response::refusal(405, "only POST");
    }
    let mut hall = lock(hall);
    let Some(leading) = &hall.leading else { return Response::refusal(503, "this node does not lead, or is not ready to") };
    let clock = leading.clock.then(now);
    match request.path.as_str() {
        JOIN_PATH if request.body.len() > LONGEST_REQUEST => Response::refusal(413, "too long for a request to join"),
        JOIN_PATH => {
            let Ok(asked) = serde_json::from_slice(&request.body) else {
                return Response::refusal(400, "no request to join");
            };
            let expected = Expected {
                cluster: caller.trust.cluster,
                incarnation: leading.incarnation,
                members: &leading.members,
                servers: &leading.wanted,
                clock,
                binder: &caller.trust.binder,
            };
            match admit(&asked, peer, exporter, from, &expected) {
                Ok(_) => json(&JoinAnswer {
                    role: Role::Worker,
                    token: leading.token.clone(),
                    managers: leading.managers.clone(),
                    consul: leading.serving.iter().map(|server| server.address).collect(),
                    leader: leading.name.clone(),
                    clock,
                    servers: leading.wanted.clone(),
                }),
                Err(refused) => Response::refusal(403, &refused.to_string()),
            }
        }
        REPORT_PATH => {
            if let Err(refused) = recognise(peer, from, &leading.members) {
                return Response::refusal(403, &refused.to_string());
            }
            let Ok(mut report) = serde_json::from_slice::<Report>(&request.body) else {
                return Response::refusal(400, "no report");
            };
            if report.incarnation != leading.incarnation {
                return Response::refusal(403, "the incarnation is another one");
            }
            let told = Told {
                serve: leading.wanted.contains(&peer.node()),
                cleared: report.empty && leading.cleared.contains(&peer.node()),
                servers: leading.serving.clone(),
                clock,
                view: leading.view.clone(),
            };
            // Who has its answer asks no more: its server may be up with the next look.
            report.empty &= !told.cleared;
            hall.reports.insert(peer.node(), (Instant::now(), report));
            json(&told)
        }
        _ => Response::refusal(404, "nothing here"),
    }
}

fn json(what: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(what) {
        Ok(body) => Response::new(200, JSON, body),
        Err(error) => Response::refusal(500, &error.to_string()),
    }
}
