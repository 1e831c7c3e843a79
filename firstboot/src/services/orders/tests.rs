//! Orders between real doors, over TCP and TLS on loopback: all of it but systemd, and the silence of a machine that is off.

use std::{
    collections::BTreeSet,
    net::SocketAddrV4,
    os::unix::fs::PermissionsExt,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Instant,
};

use super::{local::Unheard, *};
use crate::{
    http::Server,
    key::ClusterKey,
    services::door,
    trust::{Identity, NodeNames, Trust, UserName, Validity, Wanted, dial, join},
};

/// How long a busy machine may take for what takes milliseconds.
const BOUND: Duration = Duration::from_secs(30);
/// Nothing comes any more.
const QUIET: Duration = Duration::from_millis(400);
const INCARNATION: Incarnation = Incarnation([7; 16]);

fn trust() -> Trust {
    Trust::new(&ClusterKey::new([9; 32]))
}

/// A cluster on a network of its own, 127.lab.0.0/24; the first node leads.
struct Lab {
    members: Vec<MemberEntry>,
    nodes: Vec<Node>,
    /// Who was ended, in that order.
    ended: Receiver<(Ipv4Addr, Order)>,
}

struct Node {
    orders: Arc<Orders>,
    caller: Arc<Caller>,
    door: Option<Server>,
    run: tempfile::TempDir,
}

impl Lab {
    fn new(lab: u8, count: u8) -> Self {
        Self::with(lab, count, Duration::from_secs(20), |_| Ok(()))
    }

    fn with(lab: u8, count: u8, patience: Duration, end: fn(Order) -> Result<(), String>) -> Self {
        let members: Vec<_> = (1..=count).map(|number| member(lab, number)).collect();
        let (sender, ended) = channel();
        let off = Arc::new(Mutex::new(BTreeSet::new()));
        let node = |member: &MemberEntry| {
            let (sender, address) = (sender.clone(), member.address);
            let (going, off) = (Arc::clone(&off), Arc::clone(&off));
            let orders = Orders::with(
                move |order| {
                    sender.send((address, order)).unwrap();
                    going.lock().unwrap().insert(address);
                    end(order)
                },
                move |_, to| !off.lock().unwrap().contains(&to),
                patience,
            );
            let trust = trust();
            let names = NodeNames::new(member.node, address, &member.name).unwrap();
            let caller = Arc::new(Caller { identity: trust.identity(names, &[address.octets()[3]; 32]), trust });
            let (incarnation, leader) = (INCARNATION, Some(members[0].node));
            orders.here(Some(Here { caller: Arc::clone(&caller), incarnation, members: members.clone(), leader }));
            let door = door::open(address, Arc::clone(&caller), Arc::default(), Arc::clone(&orders)).unwrap();
            let run = tempfile::tempdir().unwrap();
            local::listen(run.path(), Arc::clone(&orders), || None).unwrap();
            Node { orders, caller, door: Some(door), run }
        };
        let nodes = members.iter().map(node).collect();
        Self { members, nodes, ended }
    }

    /// Orders at a node as the command does; a line each.
    fn order(&self, at: usize, order: Order) -> Vec<String> {
        let mut lines = Vec::new();
        let say = |text: Text| lines.push(format!("{} {}: {}", if text.accepted { "+" } else { "-" }, text.node, text.text));
        local::ask(self.nodes[at].run.path(), order, 5, say).unwrap();
        lines
    }

    /// The last parts of the addresses of the next that are ended.
    fn ended(&self, count: usize, order: Order) -> Vec<u8> {
        let next = |_| {
            let (address, done) = self.ended.recv_timeout(BOUND).expect("another node ends");
            assert_eq!(done, order);
            address.octets()[3]
        };
        (0..count).map(next).collect()
    }

    fn assert_quiet(&self) {
        assert_eq!(self.ended.recv_timeout(QUIET), Err(RecvTimeoutError::Timeout));
    }

    /// Asks node 2 as `identity`.
    fn ask(&self, identity: &Identity, path: &str, body: &impl Serialize) -> Result<Response, String> {
        let to = &self.members[1];
        let stream = dial(identity.names().address(), SocketAddrV4::new(to.address, join::PORT), BOUND).unwrap();
        let session = identity.connect(stream, Wanted::Node(to.node), None, BOUND).map_err(|error| error.to_string())?;
        join::ask(session, path, body, BOUND).map_err(|error| error.to_string())
    }

    fn ticket(&self, identity: &Identity) -> Result<Ticket, String> {
        let response = self.ask(identity, TICKET_PATH, &TicketRequest { incarnation: INCARNATION, order: Order::Reboot })?;
        if !response.is_success() {
            return Err(response.text());
        }
        Ok(serde_json::from_slice::<TicketAnswer>(&response.body).unwrap().ticket)
    }
}

fn member(lab: u8, number: u8) -> MemberEntry {
    MemberEntry { node: NodeId([number; 16]), address: [127, lab, 0, number].into(), name: format!("node-{number}") }
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

fn request(ticket: Ticket) -> OrderRequest {
    OrderRequest { incarnation: INCARNATION, order: Order::Reboot, ticket, after: Vec::new() }
}

#[test]
fn the_leader_goes_last_whoever_is_asked() {
    for (lab, at, order) in [(81, 0, Order::Poweroff), (82, 2, Order::Reboot)] {
        let lab = Lab::new(lab, 4);
        let lines = sorted(lab.order(at, order));
        let wanted = match at {
            0 => [
                "+ node-1: accepted: this node leads, and goes last",
                "+ node-2: accepted",
                "+ node-3: accepted",
                "+ node-4: accepted",
            ],
            _ => [
                "+ node-1: accepted: it leads, and goes last",
                "+ node-2: accepted",
                "+ node-3: accepted: this node",
                "+ node-4: accepted",
            ],
        };
        assert_eq!(lines, wanted);
        let ended = lab.ended(4, order);
        assert_eq!((ended[3], ended.iter().collect::<BTreeSet<_>>().len()), (1, 4), "{ended:?}");
        lab.assert_quiet();
        assert_eq!(std::fs::metadata(lab.nodes[0].run.path().join(local::SOCKET)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn who_is_not_there_is_named_and_keeps_nobody_waiting() {
    let mut lab = Lab::new(83, 4);
    lab.nodes[2].door = None;
    let lines = sorted(lab.order(1, Order::Poweroff));
    assert_eq!(
        lines[..3],
        ["+ node-1: accepted: it leads, and goes last", "+ node-2: accepted: this node", "+ node-4: accepted"]
    );
    assert!(lines[3].starts_with("- node-3: not reachable at 127.83.0.3: "), "{lines:?}");
    let started = Instant::now();
    assert_eq!(lab.ended(3, Order::Poweroff)[2], 1);
    assert!(started.elapsed() < Duration::from_secs(15), "the leader waited for one that was not asked");
    lab.assert_quiet();
}

#[test]
fn a_second_order_is_refused_while_one_is_obeyed() {
    let lab = Lab::with(84, 2, Duration::from_secs(20), |_| Ok(()));
    lab.order(0, Order::Reboot);
    for at in 0..2 {
        let refused = local::ask(lab.nodes[at].run.path(), Order::Poweroff, 5, |text| panic!("{text:?}"));
        let why = "it has accepted an order to reboot already";
        assert!(matches!(&refused, Err(Unheard::Refused(text)) if text == why), "{refused:?}");
    }
    assert_eq!(lab.ended(2, Order::Reboot), [2, 1]);
    lab.assert_quiet();
}

#[test]
fn the_leader_does_not_wait_for_ever() {
    let lab = Lab::with(85, 2, Duration::from_secs(2), |_| Ok(()));
    // One that accepts, and never goes.
    let orders = &lab.nodes[0].orders;
    Promise::new(orders, Order::Reboot, lab.members[0].address, vec![lab.members[1].address]).keep();
    let started = Instant::now();
    assert_eq!(lab.ended(1, Order::Reboot), [1]);
    assert!(started.elapsed() >= Duration::from_millis(1900), "{:?}", started.elapsed());
}

#[test]
fn what_systemd_refuses_is_no_order_any_more() {
    let lab = Lab::with(86, 1, BOUND, |_| Err("Access denied".to_owned()));
    for _ in 0..2 {
        assert_eq!(lab.order(0, Order::Poweroff), ["+ node-1: accepted: this node leads, and goes last"]);
        assert_eq!(lab.ended(1, Order::Poweroff), [1]);
        let until = Instant::now() + BOUND;
        while lab.nodes[0].orders.lock().obeying.is_some() {
            assert!(Instant::now() < until, "it never becomes free");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn an_order_is_good_once_and_in_one_boot() {
    let lab = Lab::with(87, 2, BOUND, |_| Err("not this time".to_owned()));
    let identity = lab.nodes[0].caller.identity.clone();
    let ticket = lab.ticket(&identity).unwrap();
    let order = |lab: &Lab, ticket: &Ticket| lab.ask(&identity, ORDER_PATH, &request(ticket.clone())).unwrap();
    assert_eq!(order(&lab, &ticket).status, 200);
    assert_eq!(lab.ended(1, Order::Reboot), [2]);
    let until = Instant::now() + BOUND;
    while lab.nodes[1].orders.lock().obeying.is_some() {
        assert!(Instant::now() < until, "it never becomes free");
        std::thread::sleep(Duration::from_millis(10));
    }
    let again = order(&lab, &ticket);
    assert_eq!((again.status, again.text()), (403, "403 Forbidden: the ticket is none of this boot's, or was used".to_owned()));
    // It was drawn, and the node boots anew before it is used.
    let ticket = lab.ticket(&identity).unwrap();
    drop(lab);
    let lab = Lab::new(87, 2);
    assert_eq!(order(&lab, &ticket).text(), again.text());
    lab.assert_quiet();
}

#[test]
fn nobody_but_a_member_orders() {
    let lab = Lab::new(90, 3);
    let right = &lab.nodes[0].caller.identity;
    let names = || right.names().clone();
    let stranger = |number| NodeNames::new(NodeId([number; 16]), [127, 90, 0, number].into(), &format!("node-{number}")).unwrap();
    // A person of this cluster, under the names of a node.
    let person = trust().users.issue(&"anna".parse::<UserName>().unwrap(), Validity::LIFE, &[3; 32]);
    let other = Trust::new(&ClusterKey::new([8; 32]));
    for (what, identity, why) in [
        ("a person", Identity::new(names(), &person, &trust().nodes), ""),
        ("another cluster", Identity::new(names(), &other.nodes.issue(&names(), Validity::LIFE, &[3; 32]), &trust().nodes), ""),
        ("no member", trust().identity(stranger(77), &[3; 32]), "403 Forbidden: the node is no member of this cluster"),
    ] {
        let refused = lab.ticket(&identity).unwrap_err();
        assert!(if why.is_empty() { !refused.starts_with("403") } else { refused == why }, "{what}: {refused}");
        let drawn = Ticket::try_from("00".repeat(32)).unwrap();
        assert!(!lab.ask(&identity, ORDER_PATH, &request(drawn)).is_ok_and(|response| response.is_success()), "{what}");
    }
    // The right node with one thing wrong.
    let ticket = || lab.ticket(right).unwrap();
    for (what, request, status) in [
        ("another founding", OrderRequest { incarnation: Incarnation([8; 16]), ..request(ticket()) }, 403),
        ("another order", OrderRequest { order: Order::Poweroff, ..request(ticket()) }, 403),
        ("no ticket of its own", request(Ticket::try_from("00".repeat(32)).unwrap()), 403),
    ] {
        assert_eq!(lab.ask(right, ORDER_PATH, &request).unwrap().status, status, "{what}");
    }
    let mut field = serde_json::to_value(request(ticket())).unwrap();
    field.as_object_mut().unwrap().insert("shell".to_owned(), "reboot".into());
    assert_eq!(lab.ask(right, ORDER_PATH, &field).unwrap().status, 400);
    let theirs = ticket();
    let third = &lab.nodes[2].caller.identity;
    assert_eq!(lab.ask(third, ORDER_PATH, &request(theirs)).unwrap().status, 403, "another node's ticket");
    lab.assert_quiet();
    // And a node that is nowhere obeys nobody.
    lab.nodes[1].orders.here(None);
    assert_eq!(lab.ticket(right).unwrap_err(), "503 Service Unavailable: this node is in no cluster now");
    assert_eq!(lab.ask(right, ORDER_PATH, &request(ticket_of_nobody())).unwrap().status, 503);
    lab.assert_quiet();
}

fn ticket_of_nobody() -> Ticket {
    Ticket::try_from("11".repeat(32)).unwrap()
}
