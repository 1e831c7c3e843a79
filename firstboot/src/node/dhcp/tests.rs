//! Client and server with each other, and what the tables of both need.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    config::{Addresses, LeaseTime},
    identity::{Incarnation, NodeId},
    key::{ClusterKey, Seals},
    node::Random,
    record::Ledger,
};

pub(super) const INCARNATION: Incarnation = Incarnation([3; 16]);
pub(super) const SERVER: Mac = Mac([2, 0, 0, 0, 1, 1]);
pub(super) const LEADER: NodeId = NodeId([9; 16]);

pub(super) fn seals() -> Seals {
    ClusterKey::new([1; 32]).seals()
}

pub(super) fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

pub(super) fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 200, last)
}

pub(super) fn client_setup() -> ClientSetup {
    let (mac, node, name) = (mac(1), NodeId([1; 16]), "node-000001".to_owned());
    ClientSetup { mac, node, seals: Some(seals()), incarnation: None, held: None, name }
}

pub(super) fn server_setup() -> ServerSetup {
    ServerSetup {
        addresses: Addresses::DEFAULT,
        lease: LeaseTime::default(),
        ledger: Ledger::default(),
        own: (LEADER, SERVER),
        own_name: "node-000101".into(),
        incarnation: INCARNATION,
        seals: seals(),
    }
}

/// A packet in a few words: kind, where it goes, and the addresses in it by their last number.
pub(super) fn show(packet: &Packet) -> String {
    let last = |address: Ipv4Addr| format!(".{}", address.octets()[3]);
    match &packet.body {
        Body::Arp(arp) if arp.is_probe() => format!("probe {}", last(arp.target)),
        Body::Arp(arp) => format!("arp {}", last(arp.sender)),
        Body::Dhcp { destination, message, .. } => {
            let mut text = format!("{:?} to {}", message.kind, last(*destination));
            let addresses = [("ci", message.ciaddr), ("yi", message.yiaddr)];
            let options = [("req", message.requested), ("sid", message.server)];
            let set = addresses.into_iter().filter(|(_, address)| !address.is_unspecified());
            for (what, address) in set.chain(options.into_iter().filter_map(|(what, address)| Some((what, address?)))) {
                text += &format!(" {what}{}", last(address));
            }
            text + if message.seal.is_some() { " sealed" } else { "" }
        }
        Body::Mdns { .. } => "mdns".into(),
    }
}

/// One client and one server, with a clock that jumps to what is due next.
struct Pair {
    now: Instant,
    random: Random,
    client: Client,
    server: Server,
    /// Somebody without a key who has this address.
    foreign: Option<Ipv4Addr>,
    /// Whether the server gets what the client sends.
    connected: bool,
    log: Vec<String>,
    persisted: u32,
    to_do: Vec<ClientOutput>,
}

impl Pair {
    fn new(client: ClientSetup, server: ServerSetup) -> Self {
        let now = Instant::now();
        let mut random = Random::new([5; 32]);
        let mut to_do = Vec::new();
        let client = Client::start(client, now, &mut random, &mut to_do);
        let server = Server::start(server, now);
        Self { now, random, client, server, foreign: None, connected: true, log: vec![], persisted: 0, to_do }
    }

    fn settle(&mut self) {
        while !self.to_do.is_empty() {
            for output in std::mem::take(&mut self.to_do) {
                match output {
                    ClientOutput::Send(packet) => self.carry(&packet),
                    ClientOutput::Bound { address, .. } => self.log.push(format!("bound {address}")),
                    ClientOutput::Renewed { .. } => self.log.push("renewed".into()),
                    ClientOutput::Lost { reason } => self.log.push(format!("lost: {reason}")),
                    ClientOutput::Declined { address } => self.log.push(format!("declined {address}")),
                }
            }
        }
    }

    fn carry(&mut self, packet: &Packet) {
        let mut replies = Vec::new();
        match &packet.body {
            Body::Arp(arp) => {
                if Some(arp.target) == self.foreign && arp.is_probe() {
                    self.client.arp(self.now, &arp.reply(mac(99)), &mut self.to_do);
                }
                self.server.arp(self.now, arp, &mut replies);
            }
            Body::Dhcp { source, message, .. } if self.connected => {
                self.server.handle(self.now, packet.source, *source, message, &mut replies);
            }
            _ => {}
        }
        let mut promised = false;
        for output in replies {
            match output {
                ServerOutput::Persist => (self.persisted, promised) = (self.persisted + 1, true),
                ServerOutput::Send(Packet { source, body: Body::Dhcp { message, .. }, .. }) => {
                    let members = self.server.ledger().members;
                    let kept = members.iter().any(|entry| entry.address == message.yiaddr);
                    assert!(message.kind != crate::wire::dhcp::Kind::Ack || kept || promised);
                    self.client.handle(self.now, source, &message, &mut self.random, &mut self.to_do);
                }
                _ => {}
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while let Some(at) = self.client.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.client.timeout(self.now, &mut self.random, &mut self.to_do);
            self.settle();
        }
        self.now = end;
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn bound_and_renewed_for_a_day() {
    let mut pair = Pair::new(client_setup(), server_setup());
    pair.run(Duration::from_millis(599));
    assert!(pair.log.is_empty() && pair.persisted == 1);
    pair.run(Duration::from_millis(1));
    assert_eq!(pair.log.len(), 1, "{:?}", pair.log);
    pair.run(24 * HOUR);
    assert_eq!(pair.log[1..].iter().filter(|line| *line == "renewed").count(), 48);
    assert_eq!((pair.log.len(), pair.persisted), (49, 1));
    assert_eq!(pair.server.ledger().members.len(), 2);
}

#[test]
fn somebody_has_the_address() {
    let mut pair = Pair::new(client_setup(), server_setup());
    pair.settle();
    let first = pair.server.ledger().members[1].address;
    pair.foreign = Some(first);
    pair.run(Duration::from_secs(3));
    let second = pair.server.ledger().members[1].address;
    assert_ne!(first, second);
    assert_eq!(pair.log, [format!("declined {first}"), format!("bound {second}")]);
    assert_eq!(pair.persisted, 2);
}

#[test]
fn the_server_falls_silent_and_comes_back() {
    let mut pair = Pair::new(client_setup(), server_setup());
    pair.run(Duration::from_secs(1));
    let bound = pair.log[0].clone();
    pair.connected = false;
    pair.run(2 * HOUR);
    assert_eq!(pair.log[1..], ["lost: the lease ended and no server renewed it"]);
    pair.connected = true;
    pair.run(Duration::from_secs(20));
    assert_eq!(pair.log[2..], [bound]);
}

#[test]
fn a_restart_and_another_founding() {
    let mut pair = Pair::new(client_setup(), server_setup());
    pair.run(Duration::from_secs(1));
    let ledger = pair.server.ledger();
    let held = Some(ledger.members[1].address);
    for (incarnation, answered) in [(INCARNATION, true), (Incarnation([4; 16]), false)] {
        let client = ClientSetup { held, incarnation: Some(incarnation), ..client_setup() };
        let mut pair = Pair::new(client, ServerSetup { ledger: ledger.clone(), ..server_setup() });
        pair.run(Duration::from_secs(60));
        assert_eq!((pair.log.len(), pair.persisted), (usize::from(answered), 0));
    }
}

#[test]
fn another_key() {
    let other = ClusterKey::new([8; 32]).seals();
    let client = ClientSetup { seals: Some(other), ..client_setup() };
    let mut pair = Pair::new(client, server_setup());
    pair.run(Duration::from_secs(60));
    assert!(pair.log.is_empty() && pair.persisted == 0);
}
