use super::*;
use crate::{
    key::ClusterKey,
    node::dhcp::tests::{INCARNATION, LEADER, SERVER, client_setup, ip, mac, seals, show},
};

struct Bench {
    start: Instant,
    random: Random,
    client: Client,
    out: Vec<ClientOutput>,
}

impl Bench {
    fn new(setup: ClientSetup) -> Self {
        let start = Instant::now();
        let (mut random, mut out) = (Random::new([6; 32]), Vec::new());
        let client = Client::start(setup, start, &mut random, &mut out);
        Self { start, random, client, out }
    }

    /// What was put out since the last call.
    fn said(&mut self) -> Vec<String> {
        let show = |output: ClientOutput| match output {
            ClientOutput::Send(packet) => show(&packet),
            ClientOutput::Bound { address, prefix, incarnation, .. } => {
                format!("bound {address}/{prefix} {}", if incarnation.is_some() { "sealed" } else { "open" })
            }
            ClientOutput::Renewed { .. } => "renewed".into(),
            ClientOutput::Lost { .. } => "lost".into(),
            ClientOutput::Declined { address } => format!("declined {address}"),
        };
        self.out.drain(..).map(show).collect()
    }

    /// The transaction that an answer needs.
    fn xid(&self) -> u32 {
        match &self.client.state {
            State::Selecting(exchange) | State::Requesting(exchange, _) | State::Rebooting(exchange, _) => exchange.xid,
            State::Renewing(_, exchange) | State::Rebinding(_, exchange) => exchange.xid,
            State::Probing { held, .. } | State::Bound(held) => held.xid,
            State::Init { .. } | State::Stopped => 0,
        }
    }

    fn reply(&self, kind: Kind) -> Message {
        Message {
            yiaddr: ip(77),
            server: Some(ip(1)),
            mask: Some([255, 255, 255, 0].into()),
            lease: Some(3600),
            ..Message::new(kind, self.xid(), mac(1))
        }
    }

    fn right(&self, kind: Kind) -> Message {
        sealed(self.reply(kind))
    }

    fn at(&mut self, ms: u64, message: &Message) -> Vec<String> {
        let now = self.start + Duration::from_millis(ms);
        self.client.handle(now, SERVER, message, &mut self.random, &mut self.out);
        self.said()
    }

    /// Lets time pass up to `ms`; what was put out, each with its time in milliseconds.
    fn until(&mut self, ms: u64) -> Vec<(u64, String)> {
        let mut said = Vec::new();
        while let Some(at) = self.client.next_timeout().filter(|at| *at <= self.start + Duration::from_millis(ms)) {
            self.client.timeout(at, &mut self.random, &mut self.out);
            let time = (at - self.start).as_millis() as u64;
            said.extend(self.said().into_iter().map(|text| (time, text)));
        }
        said
    }

    /// Bound to .77 at 600 ms.
    fn bound(setup: ClientSetup) -> Self {
        let open = setup.seals.is_none();
        let mut bench = Self::new(setup);
        for kind in [Kind::Offer, Kind::Ack] {
            let message = if open { bench.reply(kind) } else { bench.right(kind) };
            bench.at(0, &message);
        }
        let said: Vec<_> = bench.until(600).into_iter().map(|(_, text)| text).collect();
        let bound = format!("bound 192.168.200.77/24 {}", if open { "open" } else { "sealed" });
        assert_eq!(said, ["probe .77", "probe .77", &bound, "arp .77"]);
        bench
    }
}

fn sealed_by(mut message: Message, seals: &Seals, incarnation: Option<Incarnation>) -> Message {
    super::super::seal(seals, &mut message, &Seal { node: LEADER, incarnation });
    message
}

fn sealed(message: Message) -> Message {
    sealed_by(message, &seals(), Some(INCARNATION))
}

const NONE: [&str; 0] = [];

#[test]
fn questions_are_repeated_ever_more_slowly() {
    let mut bench = Bench::new(client_setup());
    assert_eq!(bench.said(), ["Discover to .255 sealed"]);
    let said = bench.until(120_000);
    assert!(said.iter().all(|(_, text)| text == "Discover to .255 sealed"));
    let mut before = 0;
    for ((time, _), base) in said.iter().zip([500, 1000, 2000, 4000, 8000, 16_000, 16_000, 16_000]) {
        let wait = time - before;
        assert!((base * 7 / 8..=base * 9 / 8).contains(&wait), "{wait} ms for {base}");
        before = *time;
    }
}

#[test]
fn what_is_no_offer() {
    let mut bench = Bench::new(client_setup());
    bench.said();
    let reply = bench.reply(Kind::Offer);
    let other = ClusterKey::new([8; 32]).seals();
    let table = [
        ("no seal", reply.clone()),
        ("another key", sealed_by(reply.clone(), &other, Some(INCARNATION))),
        ("no incarnation", sealed_by(reply.clone(), &seals(), None)),
        ("changed", Message { yiaddr: ip(78), ..bench.right(Kind::Offer) }),
        ("another transaction", sealed(Message { xid: reply.xid ^ 1, ..reply.clone() })),
        ("another client", sealed(Message { chaddr: mac(2), ..reply.clone() })),
        ("another client id", sealed(Message { client_id: Some(vec![1]), ..reply.clone() })),
        ("acknowledgement", bench.right(Kind::Ack)),
        ("refusal", bench.right(Kind::Nak)),
        ("no server", sealed(Message { server: None, ..reply.clone() })),
        ("no lease", sealed(Message { lease: None, ..reply.clone() })),
        ("no mask", sealed(Message { mask: None, ..reply.clone() })),
        ("torn mask", sealed(Message { mask: Some([255, 0, 255, 0].into()), ..reply.clone() })),
        ("broadcast address", sealed(Message { yiaddr: ip(255), ..reply.clone() })),
        ("network address", sealed(Message { yiaddr: ip(0), ..reply.clone() })),
        ("server's address", sealed(Message { yiaddr: ip(1), ..reply.clone() })),
    ];
    for (what, message) in table {
        assert_eq!(bench.at(1, &message), NONE, "{what}");
    }
    let offer = bench.right(Kind::Offer);
    assert_eq!(bench.at(2, &offer), ["Request to .255 req.77 sid.1 sealed"]);
    let second = Message { server: Some(ip(2)), ..bench.reply(Kind::Offer) };
    assert_eq!(bench.at(3, &sealed(second)), NONE, "a second offer");
    let ack = bench.reply(Kind::Ack);
    let refused = [
        Message { yiaddr: ip(78), ..ack.clone() },
        Message { server: Some(ip(2)), ..ack.clone() },
        Message { xid: ack.xid ^ 1, ..ack.clone() },
    ];
    for message in refused {
        assert_eq!(bench.at(4, &sealed(message)), NONE);
    }
    let founding = sealed_by(ack.clone(), &seals(), Some(Incarnation([4; 16])));
    assert_eq!(bench.at(5, &founding), NONE, "another founding");
    assert_eq!(bench.at(6, &sealed(ack)), ["probe .77"]);
}

#[test]
fn a_silent_server_is_left() {
    let mut bench = Bench::new(client_setup());
    let offer = bench.right(Kind::Offer);
    bench.at(0, &offer);
    let said: Vec<_> = bench.until(9_000).into_iter().map(|(_, text)| text).collect();
    let request = "Request to .255 req.77 sid.1 sealed";
    assert_eq!(said[..4], [request, request, request, "Discover to .255 sealed"]);
}

#[test]
fn renewed_rebound_and_lost() {
    let mut bench = Bench::bound(client_setup());
    let said = bench.until(1_800_000);
    assert_eq!(said, [(1_800_000, "Request to .1 ci.77 sealed".to_owned())]);
    let nak = bench.reply(Kind::Nak);
    assert_eq!(bench.at(1_800_010, &nak), NONE, "a refusal without seal");
    let ack = bench.right(Kind::Ack);
    assert_eq!(bench.at(1_800_020, &ack), ["renewed"]);
    // Counted from when it was asked for.
    let ends_at = bench.client.lease().unwrap().ends_at;
    assert_eq!(ends_at - bench.start, Duration::from_secs(5400));
    let said = bench.until(4_950_000);
    let (last, renewals) = said.split_last().unwrap();
    assert!(renewals.iter().all(|(_, text)| text == "Request to .1 ci.77 sealed"));
    assert!(renewals.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 60_000));
    assert_eq!(*last, (4_950_000, "Request to .255 ci.77 sealed".to_owned()));
    // Another node serves now.
    let ack = bench.reply(Kind::Ack);
    let mut other = ack.clone();
    super::super::seal(&seals(), &mut other, &Seal { node: NodeId([8; 16]), incarnation: Some(INCARNATION) });
    assert_eq!(bench.at(4_950_010, &other), ["bound 192.168.200.77/24 sealed", "renewed"]);
    let said = bench.until(4_950_000 + 3_600_000);
    let texts: Vec<_> = said.iter().rev().take(2).map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["Discover to .255 req.77 sealed", "lost"]);
    assert_eq!(bench.client.lease(), None);
}

#[test]
fn refused() {
    let mut bench = Bench::bound(client_setup());
    bench.until(1_800_000);
    let nak = bench.right(Kind::Nak);
    assert_eq!(bench.at(1_800_010, &nak), ["lost"]);
    assert_eq!(bench.until(1_801_010), [(1_801_010, "Discover to .255 sealed".to_owned())]);
}

#[test]
fn an_address_that_is_held() {
    let setup = ClientSetup { held: Some(ip(77)), incarnation: Some(INCARNATION), ..client_setup() };
    let mut bench = Bench::new(setup.clone());
    assert_eq!(bench.said(), ["Request to .255 req.77 sealed"]);
    let founding = sealed_by(bench.reply(Kind::Nak), &seals(), Some(Incarnation([4; 16])));
    assert_eq!(bench.at(1, &founding), NONE, "another founding");
    let nak = bench.right(Kind::Nak);
    bench.at(2, &nak);
    assert_eq!(bench.until(1002), [(1002, "Discover to .255 sealed".to_owned())]);
    let mut bench = Bench::new(setup);
    let ack = bench.right(Kind::Ack);
    bench.said();
    assert_eq!(bench.at(1, &ack), ["bound 192.168.200.77/24 sealed", "arp .77"], "it was probed before");
    // Silence: asked for anew.
    let mut bench = Bench::new(ClientSetup { held: Some(ip(77)), ..client_setup() });
    bench.said();
    let said = bench.until(9_000);
    assert_eq!(said[3].1, "Discover to .255 req.77 sealed");
}

#[test]
fn a_conflict_is_declined() {
    for (open, wait) in [(false, 1000), (true, 10_000)] {
        let setup = client_setup();
        let mut bench = Bench::new(if open { ClientSetup { seals: None, ..setup } } else { setup });
        for kind in [Kind::Offer, Kind::Ack] {
            let message = if open { bench.reply(kind) } else { bench.right(kind) };
            bench.at(0, &message);
        }
        let now = bench.start + Duration::from_millis(100);
        let probe = Arp::probe(mac(1), ip(77));
        bench.client.arp(now, &probe, &mut bench.out);
        bench.client.arp(now, &Arp::announcement(mac(9), ip(78)), &mut bench.out);
        assert_eq!(bench.said(), NONE, "our own, and another address");
        let claim = if open { Arp::probe(mac(9), ip(77)) } else { probe.reply(mac(9)) };
        bench.client.arp(now, &claim, &mut bench.out);
        let seal = if open { "" } else { " sealed" };
        assert_eq!(bench.said(), [format!("Decline to .255 req.77 sid.1{seal}"), "declined 192.168.200.77".into()]);
        assert_eq!(bench.until(100 + wait), [(100 + wait, format!("Discover to .255{seal}"))]);
    }
}

#[test]
fn any_server_and_a_release() {
    let mut bench = Bench::bound(ClientSetup { seals: None, ..client_setup() });
    // The leader's address moves: what goes to it goes to its new place.
    let now = bench.start + Duration::from_secs(1);
    bench.client.arp(now, &Arp::announcement(mac(8), ip(1)), &mut bench.out);
    bench.client.release(now, &mut bench.out);
    let [ClientOutput::Send(packet)] = &bench.out[..] else { panic!() };
    assert_eq!(packet.destination, mac(8));
    assert_eq!(bench.said(), ["Release to .1 ci.77 sid.1"]);
    assert_eq!(bench.client.next_timeout(), None);
}

#[test]
fn who_asks() {
    let id = client_id(NodeId([0xab; 16]));
    assert_eq!(id[..7], [255, 0, 0, 0, 0, 0, 4]);
    assert_eq!(id[7..], [0xab; 16]);
}
