//! One node and what a person would see of it; whole clusters are the simulator's (`tests/sim.rs`).

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    attach::Fault,
    link::{LinkKind, Mac},
    wire::{Arp, BROADCAST, Body},
};

const LEADER: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 1);

struct Bench {
    node: Node,
    now: Instant,
    done: Vec<Action>,
}

impl Bench {
    fn new(key: Option<ClusterKey>) -> Self {
        let now = Instant::now();
        let setup = Setup { config: NodeConfig::default(), key, record: None, hardware: Hardware::default(), seed: [7; 32] };
        let (node, done) = Node::start(setup, now);
        let mut bench = Self { node, now, done };
        bench.plug();
        bench
    }

    /// Its links appear.
    fn plug(&mut self) {
        let link = |index, name: &str, kind| Link {
            index,
            name: name.to_owned(),
            kind,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            up: true,
            carrier: true,
        };
        self.event(Event::Listed(vec![link(2, "eth0", LinkKind::Wired)]));
        self.event(Event::LinkChanged(link(3, "eth0.200", LinkKind::Vlan { id: 200, parent: 2 })));
    }

    fn with_key() -> Self {
        Self::new(Some(ClusterKey::new([1; 32])))
    }

    fn event(&mut self, event: Event) {
        self.done.extend(self.node.handle(self.now, event));
    }

    /// Lets time pass, timeout by timeout, until `span` is over.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some((due, _)) = self.node.next_timeout().filter(|(due, _)| *due <= end) {
            self.now = due.max(self.now);
            self.event(Event::Timeout);
        }
        self.now = end;
    }

    /// Until the node is in `phase`, a minute at most.
    fn until(&mut self, phase: &str) {
        for _ in 0..6000 {
            if self.node.summary().phase == phase {
                return;
            }
            self.pass(Duration::from_millis(10));
        }
        panic!("never {phase}: {:#?}", self.node.summary());
    }

    fn foreign_arp(&mut self, arp: impl Fn(Mac) -> Arp) {
        let source = Mac([2, 0, 0, 0, 0, 99]);
        let packet = Packet { source, destination: BROADCAST, body: Body::Arp(arp(source)) };
        self.event(Event::Received { wire: Wire::Cluster, packet });
    }

    fn faults(&self) -> Vec<String> {
        let faults = self.done.iter().filter_map(|action| match action {
            Action::Mark(Marker::Fault { reason }) => Some(reason.clone()),
            _ => None,
        });
        faults.collect()
    }
}

#[test]
fn alone_it_founds_and_has_its_addresses() {
    let mut bench = Bench::with_key();
    bench.event(Event::Heard);
    bench.until("leading");
    bench.pass(Duration::from_secs(2));
    let summary = bench.node.summary();
    assert_eq!((summary.role, summary.members.len()), (Role::Leader, 1));
    let position = |wanted: &dyn Fn(&Action) -> bool| bench.done.iter().position(wanted).unwrap();
    let founded = position(&|action| matches!(action, Action::Persist(record) if record.membership.is_some()));
    let leads = position(&|action| matches!(action, Action::SetAddress { address: LEADER, valid_for: Some(_), .. }));
    let own = position(&|action| matches!(action, Action::SetAddress { address, valid_for: None, .. } if *address != LEADER));
    assert!(founded < leads && leads < own);
    // What is asked for again before it ends.
    bench.done.clear();
    bench.pass(Duration::from_secs(8));
    let refreshed = bench.done.iter().filter(|action| matches!(action, Action::SetAddress { address: LEADER, .. })).count();
    assert!((2..=3).contains(&refreshed), "{refreshed}");
}

#[test]
fn a_leader_whose_own_address_somebody_took_says_who() {
    let mut bench = Bench::with_key();
    bench.event(Event::Heard);
    bench.until("leading");
    bench.pass(Duration::from_secs(2));
    let own = bench.node.summary().address.unwrap();
    // It comes back, and finds its address in use.
    let link = |carrier| Link {
        index: 2,
        name: "eth0".to_owned(),
        kind: LinkKind::Wired,
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        up: true,
        carrier,
    };
    bench.event(Event::LinkChanged(link(false)));
    bench.event(Event::LinkChanged(link(true)));
    bench.until("reclaiming");
    let taken = |mac| Arp::announcement(mac, own);
    bench.foreign_arp(taken);
    bench.until("leading");
    assert_eq!((bench.node.summary().address, bench.node.summary().complaints), (None, Vec::new()), "nobody was asked yet");
    bench.pass(Duration::from_millis(300));
    bench.foreign_arp(taken);
    let summary = bench.node.summary();
    let wanted = format!("{own}, this node's address, is in use by 02:00:00:00:00:63: take that machine off this VLAN");
    assert_eq!((summary.address, summary.complaints), (None, vec![wanted]));
    // That machine has gone.
    bench.pass(Duration::from_secs(12));
    let summary = bench.node.summary();
    assert_eq!((summary.address, summary.complaints), (Some(own), Vec::new()));
}

#[test]
fn on_a_silent_wire_it_waits_for_the_switch() {
    let mut bench = Bench::with_key();
    bench.pass(Duration::from_secs(34));
    assert_eq!(bench.node.summary().role, Role::None);
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.node.summary().role, Role::Leader);
}

#[test]
fn without_a_key_it_sends_nothing() {
    let mut bench = Bench::new(None);
    bench.event(Event::Heard);
    bench.pass(Duration::from_secs(60));
    assert!(!bench.done.iter().any(|action| matches!(action, Action::Send { .. } | Action::SetAddress { .. })));
    assert!(bench.node.summary().reason.contains("no cluster key"));
}

#[test]
fn deaf_it_founds_nothing_and_tries_again() {
    let mut bench = Bench::with_key();
    bench.event(Event::Heard);
    bench.event(Event::OpenFailed { error: "Operation not permitted".into() });
    assert_eq!(bench.node.summary().phase, "aside");
    for _ in 0..5 {
        bench.done.clear();
        bench.pass(Duration::from_secs(10));
        assert!(bench.done.iter().any(|action| matches!(action, Action::Open { cluster: 3, lan: Some(2) })));
        bench.event(Event::OpenFailed { error: "Operation not permitted".into() });
        assert_eq!(bench.faults(), [] as [String; 0], "the console hears it once");
    }
    bench.pass(Duration::from_secs(20));
    assert_eq!(bench.node.summary().role, Role::Leader);
}

#[test]
fn a_foreign_host_at_the_leaders_address_is_respected() {
    let mut bench = Bench::with_key();
    bench.event(Event::Heard);
    for _ in 0..2 {
        bench.until("claiming");
        bench.foreign_arp(|mac| Arp::announcement(mac, LEADER));
    }
    assert_eq!(bench.node.summary().phase, "aside");
    assert!(bench.faults()[0].contains("192.168.200.1 belongs to a machine that is no node of this lab (02:00:00:00:00:63)"));
    assert_eq!(bench.node.summary().complaints.len(), 1);
}

#[test]
fn a_home_network_in_the_same_subnet_is_told_with_the_fix() {
    let mut bench = Bench::with_key();
    bench.event(Event::LanAddresses(vec![LanAddress { address: [192, 168, 200, 57].into(), prefix: 24 }]));
    bench.event(Event::Heard);
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.node.summary().role, Role::None);
    let faults = bench.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("192.168.200.57/24") && faults[0].contains("--set node.subnet="), "{faults:?}");
    bench.event(Event::LanAddresses(vec![LanAddress { address: [192, 168, 178, 57].into(), prefix: 24 }]));
    bench.until("leading");
}

#[test]
fn a_card_that_cannot_be_written_promises_nothing() {
    let mut bench = Bench::with_key();
    bench.event(Event::Heard);
    bench.until("claiming");
    let mut now = bench.now;
    // Up to the answer that founds.
    let founding = loop {
        let (due, _) = bench.node.next_timeout().unwrap();
        now = now.max(due);
        let actions = bench.node.handle(now, Event::Timeout);
        if actions.iter().any(|action| matches!(action, Action::Persist(_))) {
            break actions;
        }
    };
    let first = founding.iter().position(|action| matches!(action, Action::Persist(_))).unwrap();
    let before = &founding[..first];
    assert!(!before.iter().any(|action| matches!(action, Action::SetAddress { .. } | Action::Mark(Marker::Leader { .. }))));
    bench.now = now;
    bench.event(Event::PersistFailed { error: "Read-only file system".into() });
    let summary = bench.node.summary();
    assert_eq!((summary.phase, summary.role), ("aside", Role::None));
    assert!(summary.complaints[0].contains("Read-only file system"));
}

#[test]
fn it_says_goodbye() {
    let mut bench = Bench::with_key();
    bench.event(Event::Heard);
    bench.until("leading");
    bench.done.clear();
    bench.event(Event::Stopping);
    let goodbye = bench.done.iter().any(|action| match action {
        Action::Send { packet: Packet { body: Body::Mdns { message, .. }, .. }, .. } => {
            message.response && message.answers.iter().all(|record| record.ttl == 0)
        }
        _ => false,
    });
    assert!(goodbye && bench.done.contains(&Action::DropAddress { address: LEADER }));
    assert_eq!(bench.done.last(), Some(&Action::Stopped));
    assert_eq!(bench.node.next_timeout().map(|(_, why)| why), None);
}

#[test]
fn a_refusal_of_the_kernel_is_no_silence() {
    // Faults of the link below stay that machine's.
    let mut bench = Bench::with_key();
    bench.event(Event::Refused(Fault::NoVlanModule));
    assert_eq!(bench.node.summary().link.state, "ready");
}

mod recover;
mod role;
mod trouble;
