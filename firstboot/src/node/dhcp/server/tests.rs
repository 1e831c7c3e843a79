use super::*;
use crate::{
    node::dhcp::tests::{INCARNATION, LEADER, SERVER, ip, mac, seals, server_setup, show},
    record::{MemberEntry, StrangerEntry},
};

struct Bench {
    start: Instant,
    server: Server,
}

impl Bench {
    fn new(setup: ServerSetup) -> Self {
        let start = Instant::now();
        Self { start, server: Server::start(setup, start) }
    }

    /// What comes of `message` at `ms`; log lines left out.
    fn at(&mut self, ms: u64, message: &Message) -> Vec<String> {
        let mut out = Vec::new();
        self.server.handle(self.start + Duration::from_millis(ms), message.chaddr, message.ciaddr, message, &mut out);
        shown(&out)
    }

    fn timeout(&mut self, ms: u64) -> Vec<String> {
        let mut out = Vec::new();
        self.server.timeout(self.start + Duration::from_millis(ms), &mut out);
        shown(&out)
    }

    fn arp(&mut self, ms: u64, arp: Arp) {
        self.server.arp(self.start + Duration::from_millis(ms), &arp, &mut Vec::new());
    }

    /// Lends an address to stranger `last`.
    fn lend(&mut self, ms: u64, last: u8) -> Ipv4Addr {
        self.at(ms, &stranger(Kind::Discover, last));
        let mut out = Vec::new();
        self.server.timeout(self.start + Duration::from_millis(ms + 300), &mut out);
        let ServerOutput::Send(Packet { body: crate::wire::Body::Dhcp { message, .. }, .. }) = &out[0] else { panic!() };
        let address = message.yiaddr;
        let shown = self.at(ms + 300, &take(stranger(Kind::Request, last), address));
        assert_eq!(shown[0], "Persist");
        address
    }
}

fn shown(out: &[ServerOutput]) -> Vec<String> {
    let show = |output: &ServerOutput| match output {
        ServerOutput::Persist => Some("Persist".into()),
        ServerOutput::Send(packet) => Some(show(packet)),
        ServerOutput::Log(_) => None,
    };
    out.iter().filter_map(show).collect()
}

fn stranger(kind: Kind, last: u8) -> Message {
    Message::new(kind, 7, mac(last))
}

fn take(message: Message, address: Ipv4Addr) -> Message {
    Message { requested: Some(address), server: Some(ip(1)), ..message }
}

fn sealed(mut message: Message, incarnation: Option<Incarnation>) -> Message {
    let node = NodeId([message.chaddr.0[5]; 16]);
    seal(&seals(), &mut message, &Seal { node, incarnation });
    message
}

/// A ledger in which node 1 has .77 and stranger 50 has .210.
fn ledger() -> Ledger {
    let members = vec![MemberEntry { node: NodeId([1; 16]), address: ip(77), name: "a".into() }];
    Ledger { members, strangers: vec![StrangerEntry { mac: mac(50), address: ip(210) }] }
}

const NONE: [&str; 0] = [];

#[test]
fn what_a_known_member_gets() {
    let request = || stranger(Kind::Request, 1);
    let other = Some(Incarnation([4; 16]));
    let again = |address| Message { requested: Some(address), ..request() };
    let renew = |address| Message { ciaddr: address, ..request() };
    let table: Vec<(u64, Message, &[&str])> = vec![
        (0, sealed(stranger(Kind::Discover, 1), None), &["Offer to .77 yi.77 sid.1 sealed"]),
        (0, sealed(Message { broadcast: true, ..stranger(Kind::Discover, 1) }, None), &["Offer to .255 yi.77 sid.1 sealed"]),
        (1, sealed(stranger(Kind::Discover, 1), other), &[]),
        (2, sealed(take(request(), ip(77)), Some(INCARNATION)), &["Ack to .77 yi.77 sid.1 sealed"]),
        (3, sealed(take(request(), ip(77)), other), &[]),
        (4, sealed(take(request(), ip(78)), None), &["Nak to .255 sid.1 sealed"]),
        (5, sealed(again(ip(77)), Some(INCARNATION)), &["Ack to .77 yi.77 sid.1 sealed"]),
        (6, sealed(again(ip(77)), other), &[]),
        (7, sealed(again(ip(78)), None), &["Nak to .255 sid.1 sealed"]),
        (8, sealed(renew(ip(77)), Some(INCARNATION)), &["Ack to .77 ci.77 yi.77 sid.1 sealed"]),
        (9, sealed(Message { ciaddr: ip(77), ..stranger(Kind::Release, 1) }, None), &[]),
        (10, sealed(again(ip(77)), None), &["Ack to .77 yi.77 sid.1 sealed"]),
        (11, sealed(Message { ciaddr: ip(77), ..stranger(Kind::Inform, 1) }, None), &["Ack to .77 ci.77 sid.1 sealed"]),
        (12, Message { seal: Some(vec![0; 50]), ..stranger(Kind::Discover, 1) }, &[]),
        (13, Message { xid: 8, ..sealed(stranger(Kind::Discover, 1), None) }, &[]),
        // Unknown: silence.
        (14, sealed(Message { requested: Some(ip(90)), ..stranger(Kind::Request, 2) }, None), &[]),
        (15, sealed(Message { ciaddr: ip(90), ..stranger(Kind::Request, 2) }, None), &[]),
    ];
    let mut bench = Bench::new(ServerSetup { ledger: ledger(), ..server_setup() });
    for (ms, message, expected) in table {
        assert_eq!(bench.at(ms, &message), expected, "at {ms}");
    }
}

#[test]
fn a_new_member_is_bound_when_it_asks() {
    let mut bench = Bench::new(server_setup());
    let own = bench.server.own_address();
    assert_eq!(bench.server.ledger().members, [MemberEntry { node: LEADER, address: own, name: "node-000101".into() }]);
    bench.at(0, &sealed(stranger(Kind::Discover, 5), None));
    assert_eq!(bench.server.ledger().members.len(), 1);
    let address = candidates(Addresses::DEFAULT.subnet(), Addresses::DEFAULT.member_range(), mac(5)).next().unwrap();
    // Taken by somebody else's offer: not this one.
    let elsewhere = Message { server: Some(ip(2)), requested: Some(address), ..stranger(Kind::Request, 5) };
    assert_eq!(bench.at(1, &sealed(elsewhere, None)), NONE);
    let ack = bench.at(2, &sealed(take(stranger(Kind::Request, 5), address), None));
    assert_eq!(ack[0], "Persist");
    assert_eq!(ack.len(), 2);
    assert_eq!(bench.at(3, &sealed(take(stranger(Kind::Request, 5), address), None)), ack[1..]);
    // Declined: another one, kept at once; the first is not given for ten minutes.
    let decline = sealed(take(stranger(Kind::Decline, 5), address), None);
    assert_eq!(bench.at(4, &decline), ["Persist"]);
    assert_eq!(bench.at(5, &decline), NONE, "a replay");
    assert_ne!(bench.server.ledger().members[1].address, address);
}

#[test]
fn who_comes_from_another_founding_keeps_its_address() {
    let address = candidates(Addresses::DEFAULT.subnet(), Addresses::DEFAULT.member_range(), mac(5)).next().unwrap();
    for (holder, kept) in [(5, true), (6, false)] {
        let mut bench = Bench::new(server_setup());
        bench.arp(0, Arp::announcement(mac(holder), address));
        let offer = bench.at(1, &sealed(stranger(Kind::Discover, 5), None));
        assert_eq!(offer[0].contains(&format!("yi.{} ", address.octets()[3])), kept, "held by {holder}: {offer:?}");
    }
}

#[test]
fn offers_to_members_are_bounded_and_the_range_has_an_end() {
    let addresses = Addresses::new("192.168.200.0/24".parse().unwrap(), 1, "10-12".parse().unwrap(), "200-201".parse().unwrap());
    let mut bench = Bench::new(ServerSetup { addresses: addresses.unwrap(), ..server_setup() });
    for last in 1..=2 {
        assert_eq!(bench.at(0, &sealed(stranger(Kind::Discover, last), None)).len(), 1);
    }
    assert_eq!(bench.at(0, &sealed(stranger(Kind::Discover, 3), None)), NONE);
    assert!(bench.server.complaint().unwrap().contains("widen `members`"));
    assert_eq!(bench.at(30_000, &sealed(stranger(Kind::Discover, 3), None)).len(), 1);
    assert_eq!(bench.server.complaint(), None);
}

#[test]
fn a_stranger() {
    let mut bench = Bench::new(ServerSetup { ledger: ledger(), ..server_setup() });
    let wish = Message { requested: Some(ip(220)), ..stranger(Kind::Discover, 60) };
    assert_eq!(bench.at(0, &wish), ["probe .220"]);
    assert_eq!(bench.at(100, &wish), NONE);
    assert_eq!(bench.timeout(299), NONE);
    assert_eq!(bench.timeout(300), ["Offer to .220 yi.220 sid.1"]);
    assert_eq!(bench.at(400, &wish), ["Offer to .220 yi.220 sid.1"]);
    let request = take(stranger(Kind::Request, 60), ip(220));
    assert_eq!(bench.at(500, &request), ["Persist", "Ack to .220 yi.220 sid.1"]);
    assert_eq!(bench.at(600, &request), ["Ack to .220 yi.220 sid.1"]);
    assert_eq!(bench.server.strangers(), 2);
    // The one of the ledger has its ten minutes.
    bench.timeout(599_999);
    assert_eq!(bench.server.strangers(), 2);
    bench.timeout(600_000);
    assert_eq!(bench.server.strangers(), 1);
    assert_eq!(bench.at(600_001, &Message { ciaddr: ip(220), ..stranger(Kind::Release, 60) }), NONE);
    assert_eq!(bench.server.strangers(), 0);
    // A member's address is not for it, whatever it says.
    let request = take(stranger(Kind::Request, 60), ip(77));
    assert_eq!(bench.at(600_002, &request), ["Nak to .255 sid.1"]);
    let again = Message { requested: Some(ip(77)), ..stranger(Kind::Request, 60) };
    assert_eq!(bench.at(600_003, &again), NONE);
}

#[test]
fn a_probe_is_answered() {
    let mut bench = Bench::new(server_setup());
    let wish = Message { requested: Some(ip(220)), ..stranger(Kind::Discover, 60) };
    assert_eq!(bench.at(0, &wish), ["probe .220"]);
    bench.arp(100, Arp::probe(SERVER, ip(220)).reply(mac(99)));
    assert_eq!(bench.timeout(300), NONE);
    let instead = bench.at(400, &wish);
    assert!(instead[0].starts_with("probe") && instead[0] != "probe .220", "{instead:?}");
}

#[test]
fn new_loans_are_paced() {
    let mut bench = Bench::new(server_setup());
    for (last, wish) in [(60, 220), (61, 221)] {
        bench.at(0, &Message { requested: Some(ip(wish)), ..stranger(Kind::Discover, last) });
    }
    assert_eq!(bench.timeout(300).len(), 2);
    assert_eq!(bench.at(300, &take(stranger(Kind::Request, 60), ip(220))).len(), 2);
    assert_eq!(bench.at(1299, &take(stranger(Kind::Request, 61), ip(221))), NONE);
    assert_eq!(bench.at(1300, &take(stranger(Kind::Request, 61), ip(221))).len(), 2);
}

#[test]
fn at_most_32_strangers() {
    let mut bench = Bench::new(server_setup());
    for last in 0..32 {
        bench.lend(u64::from(last) * 2000, 100 + last);
    }
    assert_eq!(bench.at(70_000, &stranger(Kind::Discover, 99)), NONE);
    assert!(bench.server.complaint().unwrap().contains("32 addresses"));
    assert_eq!(bench.server.strangers(), 32);
}

#[test]
fn a_flood_keeps_nobody_waiting_after_it() {
    let mut bench = Bench::new(ServerSetup { ledger: ledger(), ..server_setup() });
    let members = bench.server.ledger().members;
    // 10,000 forged questions in 10 s.
    for number in 0..10_000u32 {
        let [.., a, b] = number.to_be_bytes();
        let mut forged = Message::new(Kind::Discover, number, Mac([2, 1, 1, 1, a, b]));
        forged.requested = Some(ip(77));
        bench.at(number.into(), &forged);
        bench.timeout(number.into());
        let probe = Arp::announcement(forged.chaddr, ip((number % 256) as u8));
        bench.arp(number.into(), probe);
        assert!(bench.server.strangers.pending() <= strangers::MOST && bench.server.foreign.len() <= 512);
    }
    assert_eq!(bench.server.ledger().members, members);
    assert_eq!(bench.server.strangers(), 1);
    // Members join during it.
    assert_eq!(bench.at(10_000, &sealed(stranger(Kind::Discover, 5), None)).len(), 1);
    // A stranger has an address 30 s after the end.
    bench.lend(40_000, 99);
}

#[test]
fn offers_that_are_remembered() {
    let mut bench = Bench::new(server_setup());
    for last in 10..=109 {
        assert_eq!(bench.at(0, &sealed(stranger(Kind::Discover, last), None)).len(), 1);
        assert!(bench.server.members.offers() <= 64);
    }
    bench.timeout(30_000);
    assert_eq!(bench.server.members.offers(), 0);
}

#[test]
fn where_a_member_found_somebody() {
    let first = |mac| candidates(Addresses::DEFAULT.subnet(), Addresses::DEFAULT.member_range(), mac).next().unwrap();
    let address = first(mac(5));
    let members = vec![MemberEntry { node: NodeId([5; 16]), address, name: String::new() }];
    let ledger = Ledger { members, strangers: Vec::new() };
    let mut bench = Bench::new(ServerSetup { ledger, ..server_setup() });
    assert_eq!(bench.at(0, &sealed(take(stranger(Kind::Decline, 5), address), None)), ["Persist"]);
    // Another node with the same hardware address would get it first.
    let newcomer = |bench: &mut Bench, ms, node| {
        let mut discover = stranger(Kind::Discover, 5);
        seal(&seals(), &mut discover, &Seal { node: NodeId([node; 16]), incarnation: None });
        bench.at(ms, &discover).remove(0).contains(&format!("yi.{} ", address.octets()[3]))
    };
    assert!(!newcomer(&mut bench, 599_999, 6));
    assert!(newcomer(&mut bench, 600_000, 7));
}
