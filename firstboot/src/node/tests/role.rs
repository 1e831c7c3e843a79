//! The leader's role as it is granted to one node.

use super::*;
use crate::{
    identity::NodeId,
    record::MemberEntry,
    wire::dhcp::{Kind, Message},
};

const LONG: Duration = Duration::from_secs(30);

impl Bench {
    fn grant(&mut self, index: u64, valid_for: Duration, ledger: Option<Ledger>) {
        self.event(Event::RoleGranted { index, valid_for, ledger, incarnation: None });
    }

    /// A founder that has its own address.
    fn founded() -> Self {
        let mut bench = Self::with_key();
        bench.event(Event::Heard);
        bench.until("leading");
        bench.pass(Duration::from_secs(3));
        bench
    }

    /// The node that this one was, after a power cut.
    fn reboot(&self) -> Self {
        let record = self.record().cloned();
        let setup = Setup {
            config: NodeConfig::default(),
            key: Some(ClusterKey::new([1; 32])),
            record,
            hardware: Hardware::default(),
            seed: [8; 32],
        };
        let (node, done) = Node::start(setup, self.now);
        let mut bench = Self { node, now: self.now, done };
        bench.plug();
        bench
    }

    /// What is on its card.
    fn record(&self) -> Option<&Record> {
        self.done.iter().rev().find_map(|action| match action {
            Action::Persist(record) => Some(&**record),
            _ => None,
        })
    }

    fn replicated(&self) -> Vec<(u64, u64, usize)> {
        let asked = self.done.iter().filter_map(|action| match action {
            Action::Replicate { seq, index, ledger } => Some((*seq, *index, ledger.members.len())),
            _ => None,
        });
        asked.collect()
    }

    fn dropped_leaders_address(&self) -> bool {
        self.done.contains(&Action::DropAddress { address: LEADER })
    }

    /// The lifetimes that .1 was given.
    fn lifetimes(&self) -> Vec<Duration> {
        let given = self.done.iter().filter_map(|action| match action {
            Action::SetAddress { address: LEADER, valid_for, .. } => *valid_for,
            _ => None,
        });
        given.collect()
    }

    /// How many acknowledgements went out.
    fn acknowledged(&self) -> usize {
        let acks = self.done.iter().filter(|action| match action {
            Action::Send { packet: Packet { body: Body::Dhcp { message, .. }, .. }, .. } => message.kind == Kind::Ack,
            _ => false,
        });
        acks.count()
    }

    fn stranger(&mut self, message: Message) {
        let packet = Packet {
            source: message.chaddr,
            destination: BROADCAST,
            body: Body::Dhcp { source: Ipv4Addr::UNSPECIFIED, destination: Ipv4Addr::BROADCAST, message },
        };
        self.event(Event::Received { wire: Wire::Cluster, packet });
    }

    /// Another member, which leads by the grant of this number, says so, or that it ends.
    fn hear_leader(&mut self, grant: u64, leaving: bool) {
        let notice = notice::Notice {
            service: crate::wire::mdns::Service::Leader,
            incarnation: self.node.summary().incarnation.unwrap(),
            node: NodeId([4; 16]),
            mac: Mac([2, 0, 0, 0, 0, 4]),
            address: LEADER,
            name: "node-4".into(),
            provisional: true,
            members: 2,
            grant,
            replaces: None,
            leaving,
        };
        let answers = notice.records(&ClusterKey::new([1; 32]).seals());
        let message = crate::wire::mdns::Message { response: true, answers, ..crate::wire::mdns::Message::default() };
        let body = Body::Mdns { source: LEADER, port: 5353, destination: crate::wire::MDNS_GROUP, message };
        let packet = Packet { source: notice.mac, destination: crate::wire::MDNS_MAC, body };
        self.event(Event::Received { wire: Wire::Cluster, packet });
    }

    /// A stranger asks for an address and takes what it is offered.
    fn stranger_asks(&mut self, last: u8) {
        let mac = Mac([2, 0, 0, 0, 9, last]);
        self.stranger(Message::new(Kind::Discover, 1, mac));
        self.pass(Duration::from_secs(2));
        let offered = self.done.iter().rev().find_map(|action| match action {
            Action::Send { packet: Packet { body: Body::Dhcp { message, .. }, .. }, .. } if message.kind == Kind::Offer => {
                Some(message.yiaddr)
            }
            _ => None,
        });
        let mut request = Message::new(Kind::Request, 1, mac);
        (request.requested, request.server) = (offered, Some(LEADER));
        self.stranger(request);
    }
}

#[test]
fn a_founder_leads_on_by_its_first_grant_and_then_by_grants_only() {
    let mut bench = Bench::founded();
    // What is told of a role that nobody granted changes nothing.
    bench.event(Event::RoleLost);
    bench.pass(LONG);
    assert_eq!((bench.node.summary().role, bench.replicated()), (Role::Leader, vec![]));
    bench.done.clear();
    bench.grant(5, Duration::from_secs(10), None);
    assert_eq!(bench.record().unwrap().membership.as_ref().unwrap().granted, Some(5));
    let asked = bench.replicated();
    assert!(asked.len() == 1 && (asked[0].1, asked[0].2) == (5, 1), "{asked:?}");
    assert!(!bench.dropped_leaders_address());
    // Nobody renews it: .1 ends with it, and the node follows.
    bench.done.clear();
    bench.pass(Duration::from_secs(9));
    let given = bench.lifetimes();
    let shrinks = given.windows(2).all(|pair| pair[1] < pair[0]);
    assert!(given.len() > 1 && shrinks && given.last() < Some(&Duration::from_secs(4)), "{given:?}");
    bench.pass(Duration::from_secs(1));
    let summary = bench.node.summary();
    assert_eq!((summary.role, summary.waits_for_grant, bench.dropped_leaders_address()), (Role::Follower, true, true));
    assert!(summary.address.is_some());
    // The same once more: nobody led meanwhile, so there is nothing to wait for but the probes.
    bench.grant(5, LONG, None);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.node.summary().role, Role::Leader);
    // Another one: somebody may have.
    bench.grant(7, LONG, None);
    assert_eq!(bench.node.summary().phase, "succeeding");
    bench.pass(Duration::from_secs(8));
    assert_eq!(bench.node.summary().phase, "succeeding");
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.node.summary().role, Role::Leader);
}

#[test]
fn after_a_reboot_it_keeps_its_address_and_waits() {
    let mut bench = Bench::founded();
    let own = bench.node.summary().address;
    bench.grant(1, LONG, None);
    let mut bench = bench.reboot();
    bench.pass(LONG);
    let summary = bench.node.summary();
    assert_eq!((summary.role, summary.waits_for_grant, summary.address), (Role::Follower, true, own));
    assert!(bench.lifetimes().is_empty());
    // Nothing to wait for is left of one that another grant has followed.
    bench.grant(2, LONG, None);
    bench.pass(Duration::from_secs(9));
    bench.grant(4, LONG, None);
    bench.pass(Duration::from_secs(9));
    assert_eq!(bench.node.summary().phase, "succeeding");
    bench.event(Event::RoleLost);
    // Not for another cluster.
    let other = Incarnation([9; 16]);
    bench.event(Event::RoleGranted { index: 5, valid_for: LONG, ledger: None, incarnation: Some(other) });
    assert_eq!(bench.node.summary().phase, "following");
    let entry = MemberEntry { node: NodeId([4; 16]), address: [192, 168, 200, 10].into(), name: "node-4".into() };
    let ledger = Ledger { members: vec![entry], strangers: Vec::new() };
    bench.grant(5, LONG, Some(ledger));
    bench.pass(Duration::from_secs(12));
    let summary = bench.node.summary();
    assert_eq!((summary.role, summary.address, summary.members.len()), (Role::Leader, own, 2), "the quorum's member and itself");
}

#[test]
fn somebody_at_the_leaders_address_is_waited_for() {
    let mut bench = Bench::founded();
    bench.grant(1, LONG, None);
    let mut bench = bench.reboot();
    bench.until("following");
    bench.grant(2, LONG, None);
    let (answer, mut left) = (|mac| Arp::announcement(mac, LEADER), 0);
    for _ in 0..150 {
        bench.pass(Duration::from_millis(100));
        bench.foreign_arp(answer);
        left += usize::from(bench.node.summary().phase != "succeeding");
    }
    assert_eq!(left, 0);
    let complaints = bench.node.summary().complaints;
    assert!(
        complaints[0].starts_with("192.168.200.1 is still in use by 02:00:00:00:00:63, and this node is to lead"),
        "{complaints:?}"
    );
    bench.pass(Duration::from_secs(4));
    assert_eq!((bench.node.summary().role, bench.node.summary().complaints), (Role::Leader, vec![]));
}

#[test]
fn what_is_new_is_acknowledged_once_the_quorum_has_it() {
    let mut bench = Bench::founded();
    bench.stranger_asks(1);
    assert_eq!(bench.acknowledged(), 1, "by right of the founding the card is enough");
    bench.grant(1, LONG * 2, None);
    let (first, ..) = bench.replicated()[0];
    bench.event(Event::Replicated { seq: first });
    bench.stranger_asks(2);
    let (seq, ..) = *bench.replicated().last().unwrap();
    assert_eq!((seq, bench.acknowledged()), (first + 1, 1));
    // An answer to something else, and none for a while: the same is asked for again.
    bench.event(Event::Replicated { seq: first });
    bench.pass(Duration::from_secs(4));
    assert_eq!((bench.replicated().last().unwrap().0, bench.acknowledged()), (seq, 1));
    bench.event(Event::Replicated { seq });
    assert_eq!(bench.acknowledged(), 2);
    // It lasts too long: the client has to ask again.
    bench.stranger_asks(3);
    let (seq, ..) = *bench.replicated().last().unwrap();
    bench.pass(Duration::from_secs(11));
    bench.event(Event::Replicated { seq });
    assert_eq!(bench.acknowledged(), 2);
    bench.stranger_asks(3);
    assert_eq!(bench.acknowledged(), 3);
}

#[test]
fn a_card_that_does_not_keep_the_first_grant_leaves_the_right_of_founding() {
    let mut bench = Bench::founded();
    bench.grant(1, Duration::from_secs(10), None);
    bench.event(Event::PersistFailed { error: "full".into() });
    bench.pass(LONG);
    assert_eq!(bench.node.summary().role, Role::Leader);
    // The next one is kept.
    bench.grant(1, Duration::from_secs(10), None);
    bench.pass(Duration::from_secs(11));
    assert!(bench.node.summary().waits_for_grant);
}

#[test]
fn whoever_hears_of_a_later_grant_leads_no_more() {
    let mut bench = Bench::founded();
    bench.grant(5, LONG, None);
    // One that led before, or sent again by somebody.
    bench.hear_leader(4, false);
    assert_eq!(bench.node.summary().role, Role::Leader);
    bench.hear_leader(6, false);
    let summary = bench.node.summary();
    assert_eq!((summary.role, summary.leader.map(|leader| leader.node)), (Role::Follower, Some(NodeId([4; 16]))));
    assert!(bench.dropped_leaders_address());
}

#[test]
fn one_that_led_before_says_whom_it_follows() {
    let mut bench = Bench::founded();
    bench.grant(1, LONG, None);
    let (mut alone, mut bench) = (bench.reboot(), bench.reboot());
    // The others went on meanwhile, and answer while it makes sure of its address.
    bench.until("reclaiming");
    bench.hear_leader(3, false);
    bench.until("following");
    let reason = |bench: &Bench| bench.node.summary().reason.to_owned();
    assert_eq!(reason(&bench), "node-4 leads");
    assert!(!bench.node.summary().waits_for_grant);
    bench.hear_leader(3, true);
    assert_eq!(reason(&bench), "node-4 leads no more: waiting for who is granted the role next");
    bench.hear_leader(4, false);
    assert_eq!(reason(&bench), "node-4 leads");
    // Alone it waits.
    alone.until("following");
    assert_eq!(reason(&alone), "led this cluster before: waiting for the role's grant");
}
