//! Packets to frames and back. What frames of other programs decode to, and that hostile ones do no harm, is in `tests/corpus.rs`.

use std::net::Ipv4Addr;

use super::{Body, Dropped, Packet, decode, encode};
use crate::{
    link::Mac,
    wire::{
        BROADCAST, MDNS_GROUP, MDNS_MAC, MDNS_PORT,
        arp::{Arp, Operation},
        dhcp,
        mdns::{Data, Kind, Message, Name, Question, Record, Service},
    },
};

const A: Mac = Mac([0xb8, 0x27, 0xeb, 0x00, 0x11, 0xaa]);
const B: Mac = Mac([0xb8, 0x27, 0xeb, 0x00, 0x22, 0xbb]);
const LEADER: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 1);
const MEMBER: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 77);

fn mdns(message: Message) -> Packet {
    let body = Body::Mdns { source: MEMBER, port: MDNS_PORT, destination: MDNS_GROUP, message };
    Packet { source: A, destination: MDNS_MAC, body }
}

fn dhcp(message: dhcp::Message) -> Packet {
    let body = Body::Dhcp { source: Ipv4Addr::UNSPECIFIED, destination: Ipv4Addr::BROADCAST, message };
    Packet { source: A, destination: BROADCAST, body }
}

fn record(name: Name, ttl: u32, flush: bool, data: Data) -> Record {
    Record { name, ttl, flush, data }
}

fn host() -> Name {
    Name::Host("node-0011aa".into())
}

fn instance() -> Name {
    Name::Instance(Service::Member, "node-0011aa".into())
}

/// `corpus/make.py` makes its bytes from the RFCs and knows nothing of these packets.
#[test]
fn frames_are_exactly_these_bytes() {
    let target = Data::Srv { port: 2377, host: "node-0011aa".into() };
    let answers = vec![
        record(Name::Types, 4500, false, Data::Ptr(Name::Type(Service::Member))),
        record(Name::Type(Service::Member), 4500, false, Data::Ptr(instance())),
        record(instance(), 120, true, target.clone()),
        record(instance(), 4500, true, Data::Txt(vec![b"v=1".to_vec(), b"id=00ff".to_vec()])),
        record(host(), 120, true, Data::A(MEMBER)),
    ];
    let response = mdns(Message { response: true, answers, ..Message::default() });
    let probe = mdns(Message {
        questions: vec![Question { name: host(), kind: Kind::Any, unicast: true }],
        authorities: vec![record(host(), 120, false, Data::A(MEMBER)), record(instance(), 120, false, target)],
        ..Message::default()
    });

    let discover = dhcp::Message {
        secs: 3,
        broadcast: true,
        client_id: Some([&[1][..], &A.0].concat()),
        host_name: Some("node-0011aa".into()),
        parameters: vec![1, 3, 6, 12, 28, 51, 54, 58, 59],
        ..dhcp::Message::new(dhcp::Kind::Discover, 0x1234_5678, A)
    };
    let ack = dhcp::Message {
        secs: 3,
        yiaddr: MEMBER,
        server: Some(LEADER),
        lease: Some(3600),
        renewal: Some(1800),
        rebinding: Some(3150),
        mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
        broadcast_address: Some(Ipv4Addr::new(192, 168, 200, 255)),
        host_name: Some("node-0011aa".into()),
        seal: Some((0..32).collect()),
        ..dhcp::Message::new(dhcp::Kind::Ack, 0x1234_5678, A)
    };
    let ack = Packet { source: B, destination: A, body: Body::Dhcp { source: LEADER, destination: MEMBER, message: ack } };

    let probe_arp = Packet { source: A, destination: BROADCAST, body: Body::Arp(Arp::probe(A, MEMBER)) };
    let frames: [(Packet, &[u8]); 5] = [
        (probe_arp, include_bytes!("../../../tests/corpus/frame/arp-probe")),
        (response, include_bytes!("../../../tests/corpus/frame/mdns-response")),
        (probe, include_bytes!("../../../tests/corpus/frame/mdns-probe")),
        (dhcp(discover), include_bytes!("../../../tests/corpus/frame/dhcp-discover")),
        (ack, include_bytes!("../../../tests/corpus/frame/dhcp-ack")),
    ];
    for (packet, frame) in frames {
        assert_eq!(encode(&packet), frame, "{packet:?}");
        assert_eq!(decode(frame), Ok(packet));
    }
}

/// What a frame cannot say, or says in one way only.
#[test]
fn what_is_not_said() {
    let answer = record(host(), 120, true, Data::A(MEMBER));
    let question = Question { name: host(), kind: Kind::A, unicast: false };
    let response = |answers| mdns(Message { response: true, answers, ..Message::default() });
    let plain = response(vec![answer.clone()]);
    let long = "x".repeat(64);
    let text = |texts: &[&[u8]]| Data::Txt(texts.iter().map(|text| text.to_vec()).collect());
    for (packet, rest) in [
        // Questions in a multicast response.
        (
            mdns(Message { response: true, questions: vec![question], answers: vec![answer.clone()], ..Message::default() }),
            &plain,
        ),
        // Labels over 63 bytes, and none.
        (response(vec![record(Name::Host(long.clone()), 1, true, Data::A(MEMBER)), answer.clone()]), &plain),
        (response(vec![record(Name::Host(String::new()), 1, true, Data::A(MEMBER)), answer.clone()]), &plain),
        (response(vec![record(instance(), 1, true, Data::Srv { port: 1, host: long }), answer.clone()]), &plain),
        // A text over 255 bytes.
        (response(vec![record(instance(), 1, true, text(&[&[0; 256]])), answer.clone()]), &plain),
        // Empty texts.
        (
            response(vec![record(instance(), 1, true, text(&[b"", b"a"]))]),
            &response(vec![record(instance(), 1, true, text(&[b"a"]))]),
        ),
        (response(vec![record(instance(), 1, true, text(&[b""]))]), &response(vec![record(instance(), 1, true, text(&[]))])),
        // Upper case.
        (response(vec![record(Name::Host("NODE-0011aa".into()), 120, true, Data::A(MEMBER))]), &plain),
    ] {
        assert_eq!(decode(&encode(&packet)).as_ref(), Ok(rest), "{packet:?}");
    }

    let empty = dhcp::Message {
        client_id: Some(Vec::new()),
        host_name: Some("two words".into()),
        text: Some("\x1b[2J".into()),
        seal: Some(Vec::new()),
        ..dhcp::Message::new(dhcp::Kind::Discover, 1, A)
    };
    assert_eq!(decode(&encode(&dhcp(empty))), Ok(dhcp(dhcp::Message::new(dhcp::Kind::Discover, 1, A))));

    assert_eq!(decode(&encode(&response(Vec::new()))), Err(Dropped::NothingForUs));
}

/// Longer than a message may be: the records that do not fit are left out, and nothing panics.
#[test]
fn too_much_is_cut() {
    let answers = (0..2000).map(|n| record(Name::Host(format!("node-{n}")), 120, true, Data::A(MEMBER))).collect::<Vec<_>>();
    let frame = encode(&mdns(Message { response: true, answers: answers.clone(), ..Message::default() }));
    assert!((8900..=9000 + 14).contains(&frame.len()), "{}", frame.len());
    // The TC bit.
    assert_eq!(frame[14 + 20 + 8 + 2] & 2, 2);
    let Ok(Packet { body: Body::Mdns { message, .. }, .. }) = decode(&frame) else { panic!("not understood") };
    assert_eq!(message.answers, answers[..message.answers.len()]);

    let seal = Some(vec![7; 70_000]);
    assert!(encode(&dhcp(dhcp::Message { seal, ..dhcp::Message::new(dhcp::Kind::Discover, 1, A) })).is_empty());
}

#[test]
fn every_parameter_code_survives() {
    let parameters = (0..=255).collect();
    let packet = dhcp(dhcp::Message { parameters, ..dhcp::Message::new(dhcp::Kind::Request, 1, A) });
    assert_eq!(decode(&encode(&packet)), Ok(packet));
}

#[test]
fn any_packet_survives() {
    let mut any = Any(0x9e37_79b9_7f4a_7c15);
    for round in 0..20_000 {
        let packet = any.packet();
        let frame = encode(&packet);
        assert!(frame.len() >= 60, "round {round}");
        assert_eq!(decode(&frame).as_ref(), Ok(&packet), "round {round}");
    }
}

/// Packets by chance, the same ones each time (xorshift64).
struct Any(u64);

impl Any {
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize].clone()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.coin().then(|| make(self))
    }

    fn many<T>(&mut self, least: u64, end: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..least + self.below(end - least)).map(|_| make(self)).collect()
    }

    fn bytes(&mut self, least: u64, end: u64) -> Vec<u8> {
        self.many(least, end, |any| any.number() as u8)
    }

    fn text(&mut self, letters: &str, end: u64) -> String {
        let letters = letters.chars().collect::<Vec<_>>();
        self.many(1, end, |any| any.of(&letters)).into_iter().collect()
    }

    fn mac(&mut self) -> Mac {
        let [mut a, b, c, d, e, f, ..] = self.number().to_be_bytes();
        a &= 0xfe;
        Mac([a, b, c, d, e, f])
    }

    fn address(&mut self) -> Ipv4Addr {
        let any = Ipv4Addr::from_bits(self.number() as u32 & 0x7fff_ffff);
        self.of(&[Ipv4Addr::UNSPECIFIED, LEADER, MEMBER, any])
    }

    fn packet(&mut self) -> Packet {
        let body = match self.below(3) {
            0 => Body::Arp(Arp {
                operation: self.of(&[Operation::Request, Operation::Reply]),
                sender_mac: self.mac(),
                sender: self.address(),
                target_mac: self.mac(),
                target: self.address(),
            }),
            1 => {
                let port = if self.coin() { MDNS_PORT } else { 1024 + self.below(60_000) as u16 };
                let message = self.mdns(port);
                Body::Mdns { source: self.address(), port, destination: self.of(&[MDNS_GROUP, MEMBER]), message }
            }
            _ => {
                let message = self.dhcp();
                Body::Dhcp { source: self.address(), destination: self.of(&[Ipv4Addr::BROADCAST, MEMBER]), message }
            }
        };
        let other = self.mac();
        Packet { source: self.mac(), destination: self.of(&[BROADCAST, MDNS_MAC, other]), body }
    }

    fn name(&mut self) -> Name {
        let service = self.of(&[Service::Leader, Service::Member]);
        match self.below(4) {
            0 => Name::Types,
            1 => Name::Type(service),
            2 => Name::Instance(service, self.text("aZ 9.-_\\é€", 20)),
            _ => Name::Host(self.text("az09-_.é€", 20)),
        }
    }

    fn record(&mut self) -> Record {
        let data = match self.below(4) {
            0 => Data::A(Ipv4Addr::from_bits(self.number() as u32)),
            1 => loop {
                let name = self.name();
                if matches!(name, Name::Type(_) | Name::Instance(..)) {
                    break Data::Ptr(name);
                }
            },
            2 => Data::Srv { port: self.number() as u16, host: self.text("az09-é", 30) },
            _ => Data::Txt(self.many(0, 4, |any| any.bytes(1, 256))),
        };
        Record { name: self.name(), ttl: self.number() as u32, flush: self.coin(), data }
    }

    fn mdns(&mut self, port: u16) -> Message {
        let response = self.coin();
        let questions = if response && port == MDNS_PORT { 0 } else { 1 };
        Message {
            id: self.number() as u16,
            response,
            questions: self.many(questions, 3 * questions + 1, |any| Question {
                name: any.name(),
                kind: any.of(&[Kind::A, Kind::Ptr, Kind::Srv, Kind::Txt, Kind::Any]),
                unicast: any.coin(),
            }),
            answers: self.many(response.into(), 5, Self::record),
            authorities: self.many(0, 3, Self::record),
        }
    }

    fn dhcp(&mut self) -> dhcp::Message {
        use dhcp::Kind::{Ack, Decline, Discover, Inform, Nak, Offer, Release, Request};
        dhcp::Message {
            kind: self.of(&[Discover, Offer, Request, Decline, Ack, Nak, Release, Inform]),
            xid: self.number() as u32,
            secs: self.number() as u16,
            broadcast: self.coin(),
            ciaddr: self.address(),
            yiaddr: self.address(),
            chaddr: self.mac(),
            requested: self.maybe(Self::address),
            server: self.maybe(Self::address),
            lease: self.maybe(|any| any.number() as u32),
            renewal: self.maybe(|any| any.number() as u32),
            rebinding: self.maybe(|any| any.number() as u32),
            mask: self.maybe(Self::address),
            broadcast_address: self.maybe(Self::address),
            client_id: self.maybe(|any| any.bytes(1, 256)),
            host_name: self.maybe(|any| any.text("aZ09.-", 256)),
            text: self.maybe(|any| any.text("no é€ 1", 300)),
            parameters: self.bytes(0, 300),
            seal: self.maybe(|any| any.bytes(1, 300)),
        }
    }
}
