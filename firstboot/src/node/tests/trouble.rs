//! What a person must see to, as the summary names it.

use super::*;
use crate::{
    trouble::{Kind, Trouble},
    wire::{
        MDNS_GROUP, MDNS_MAC, MDNS_PORT,
        mdns::{Data, Message, Name, Record},
    },
};

impl Bench {
    fn trouble(&self) -> Option<Kind> {
        self.node.summary().trouble.map(|trouble| trouble.kind)
    }

    /// A node's name on the home network.
    fn hear_on_the_lan(&mut self, label: &str) {
        let source = Mac([2, 0, 0, 0, 0, 98]);
        let data = Data::A([192, 168, 178, 98].into());
        let record = Record { name: Name::Host(label.to_owned()), ttl: 120, flush: true, data };
        let message = Message { response: true, answers: vec![record], ..Message::default() };
        let body = Body::Mdns { source: [192, 168, 178, 98].into(), destination: MDNS_GROUP, port: MDNS_PORT, message };
        self.event(Event::Received { wire: Wire::Lan, packet: Packet { source, destination: MDNS_MAC, body } });
    }
}

#[test]
fn none_where_all_is_well() {
    let mut bench = Bench::with_key();
    bench.event(Event::Heard);
    for phase in ["addressing", "browsing", "claiming", "leading"] {
        bench.until(phase);
        assert_eq!(bench.trouble(), None, "{phase}");
    }
}

#[test]
fn a_card_without_key() {
    let bench = Bench::new(None);
    assert_eq!(bench.trouble(), Some(Kind::Key));
}

#[test]
fn a_network_that_cannot_be_made_also_while_it_is_tried_again() {
    let mut bench = Bench::with_key();
    // The link goes, another one comes, and the kernel has no VLANs.
    bench.event(Event::LinkRemoved { index: 3 });
    bench.event(Event::Refused(Fault::NoVlanModule));
    let text = bench.node.summary().trouble.unwrap_or_else(|| panic!("no trouble")).text;
    assert!(text.contains("8021q"), "{text}");
    for _ in 0..20 {
        assert_eq!(bench.trouble(), Some(Kind::Network), "{:?}", bench.node.summary().link);
        bench.pass(Duration::from_secs(7));
        if bench.node.summary().link.state == "attaching" {
            bench.event(Event::Refused(Fault::NoVlanModule));
        }
    }
    bench.event(Event::LinkChanged(Link {
        index: 3,
        name: "eth0.200".into(),
        kind: LinkKind::Vlan { id: 200, parent: 2 },
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        up: true,
        carrier: true,
    }));
    bench.pass(Duration::from_secs(70));
    assert_eq!((bench.node.summary().link.state, bench.trouble()), ("ready", None));
}

#[test]
fn a_neighbour_in_the_way_also_while_it_looks_again() {
    let mut bench = Bench::with_key();
    let clash = |address: [u8; 4]| Event::LanAddresses(vec![LanAddress { address: address.into(), prefix: 24 }]);
    bench.event(clash([192, 168, 200, 57]));
    bench.event(Event::Heard);
    for _ in 0..30 {
        bench.pass(Duration::from_secs(1));
        assert_eq!(bench.trouble(), Some(Kind::Neighbour), "{}", bench.node.summary().phase);
    }
    bench.event(clash([192, 168, 178, 57]));
    bench.until("leading");
    assert_eq!(bench.trouble(), None);
}

#[test]
fn sockets_that_do_not_open_are_the_network() {
    let mut bench = Bench::with_key();
    bench.event(Event::OpenFailed { error: "Operation not permitted".into() });
    assert_eq!(bench.trouble(), Some(Kind::Network));
}

#[test]
fn a_card_that_cannot_be_written() {
    let mut bench = Bench::with_key();
    bench.event(Event::PersistFailed { error: "Read-only file system".into() });
    assert_eq!(bench.trouble(), Some(Kind::Card));
    // Once it takes a record again, all is well.
    bench.event(Event::Heard);
    bench.until("leading");
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.trouble(), None);
}

#[test]
fn a_switch_that_drops_the_tag_is_told_once() {
    let mut bench = Bench::with_key();
    bench.event(Event::Heard);
    bench.event(Event::LanAddresses(vec![LanAddress { address: [192, 168, 178, 57].into(), prefix: 24 }]));
    bench.until("leading");
    bench.hear_on_the_lan("printer");
    assert_eq!(bench.trouble(), None);
    bench.done.clear();
    for _ in 0..3 {
        bench.hear_on_the_lan("node-0a0b0c");
        bench.pass(Duration::from_secs(20));
    }
    let Some(Trouble { kind: Kind::Switch, text }) = bench.node.summary().trouble else { panic!("{:?}", bench.trouble()) };
    assert!(text.contains("node-0a0b0c.local is heard on the home network but not on VLAN 200"), "{text}");
    assert!(text.contains("the switch between drops VLAN 200; let it pass"), "{text}");
    assert_eq!(bench.faults(), std::slice::from_ref(&text));
    assert!(bench.node.summary().complaints.contains(&text));
}
