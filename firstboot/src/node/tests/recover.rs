//! A founding that took the place of another one (`hcl recover`), among nodes of the old one.

use super::*;
use crate::record::{MemberEntry, Membership, Record};
use crate::{
    identity::{Incarnation, NodeId},
    record::Ledger,
};

const OLD: Incarnation = Incarnation([0xf0; 16]);
/// Lower: that it is the later one must not be what decides.
const NEW: Incarnation = Incarnation([1; 16]);

/// Nodes on one cable, whose packets come at once.
struct Cable {
    nodes: Vec<(u8, Node)>,
    now: Instant,
    records: std::collections::BTreeMap<u8, Record>,
}

fn entry(number: u8) -> MemberEntry {
    MemberEntry { node: NodeId([number; 16]), address: [192, 168, 200, 10 + number].into(), name: format!("node-{number}") }
}

/// What node `number` has on its card, of a cluster that is in use.
fn record(number: u8, incarnation: Incarnation, ledger: Option<&[u8]>, replaces: Option<Incarnation>) -> Record {
    let ledger = ledger.map(|members| Ledger { members: members.iter().copied().map(entry).collect(), strangers: Vec::new() });
    let membership = Membership {
        cluster: ClusterKey::new([1; 32]).cluster().to_string(),
        incarnation,
        address: Some(entry(number).address),
        provisional: false,
        ledger,
        granted: None,
        replaces,
    };
    Record { membership: Some(membership), ..Record::new(NodeId([number; 16]), Hardware::default()) }
}

impl Cable {
    fn new() -> Self {
        Self { nodes: Vec::new(), now: Instant::now(), records: Default::default() }
    }

    fn power_on(&mut self, number: u8, record: Record) {
        let mac = Mac([2, 0, 0, 0, 0, number]);
        let (config, key) = (NodeConfig::default(), Some(ClusterKey::new([1; 32])));
        self.records.insert(number, record.clone());
        let setup = Setup { config, key, record: Some(record), hardware: Hardware::default(), seed: [number; 32] };
        let (node, _) = Node::start(setup, self.now);
        self.nodes.push((number, node));
        let link = |index, name: &str, kind| Link { index, name: name.to_owned(), kind, mac: Some(mac), up: true, carrier: true };
        let place = self.nodes.len() - 1;
        self.event(place, Event::Listed(vec![link(2, "eth0", LinkKind::Wired)]));
        self.event(place, Event::LinkChanged(link(3, "eth0.200", LinkKind::Vlan { id: 200, parent: 2 })));
        self.event(place, Event::Heard);
    }

    fn event(&mut self, place: usize, event: Event) {
        let mut events = std::collections::VecDeque::from([(place, event)]);
        // Bounded, should two nodes answer each other for ever.
        for _ in 0..10_000 {
            let Some((place, event)) = events.pop_front() else { return };
            let (number, node) = &mut self.nodes[place];
            let number = *number;
            for action in node.handle(self.now, event) {
                match action {
                    Action::Persist(record) => drop(self.records.insert(number, *record)),
                    Action::Send { wire: Wire::Cluster, packet } => {
                        let others = (0..self.nodes.len()).filter(|other| *other != place);
                        events
                            .extend(others.map(|other| (other, Event::Received { wire: Wire::Cluster, packet: packet.clone() })));
                    }
                    _ => {}
                }
            }
        }
        panic!("packets without end");
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..200_000 {
            let due = self.nodes.iter().enumerate().filter_map(|(place, (_, node))| Some((node.next_timeout()?.0, place))).min();
            let Some((due, place)) = due.filter(|(due, _)| *due <= end) else { break };
            self.now = due.max(self.now);
            self.event(place, Event::Timeout);
        }
        self.now = end;
    }

    fn roles(&self) -> Vec<(u8, Role, Option<Incarnation>, Option<Ipv4Addr>)> {
        let role = |(number, node): &(u8, Node)| {
            let summary = node.summary();
            (*number, summary.role, summary.incarnation, summary.address)
        };
        self.nodes.iter().map(role).collect()
    }
}

#[test]
fn members_and_the_leader_of_before_join_what_replaced_their_cluster() {
    let mut cable = Cable::new();
    cable.power_on(2, record(2, NEW, Some(&[2]), Some(OLD)));
    cable.power_on(3, record(3, OLD, None, None));
    cable.pass(Duration::from_secs(150));
    // The one that was gone for good comes back, as the leader of more members.
    cable.power_on(1, record(1, OLD, Some(&[1, 2, 3]), None));
    cable.pass(Duration::from_secs(150));
    let roles = cable.roles();
    let wanted = [(2, Role::Leader), (3, Role::Follower), (1, Role::Follower)];
    assert_eq!(roles.iter().map(|(number, role, ..)| (*number, *role)).collect::<Vec<_>>(), wanted, "{roles:?}");
    assert!(roles.iter().all(|(_, _, incarnation, _)| *incarnation == Some(NEW)), "{roles:?}");
    let addresses: std::collections::BTreeSet<_> = roles.iter().filter_map(|(.., address)| *address).collect();
    assert_eq!(addresses.len(), 3, "{roles:?}");
    // Each of them has it on its card, and goes on saying it should it lead.
    for number in [1, 3] {
        let membership = cable.records[&number].membership.clone().unwrap();
        assert_eq!((membership.incarnation, membership.replaces), (NEW, Some(OLD)));
    }
}

#[test]
fn whoever_was_leading_all_along_gives_way_to_it() {
    let mut cable = Cable::new();
    cable.power_on(1, record(1, OLD, Some(&[1, 2, 3]), None));
    cable.pass(Duration::from_secs(60));
    assert_eq!(cable.roles()[0].1, Role::Leader);
    cable.power_on(2, record(2, NEW, Some(&[2]), Some(OLD)));
    cable.pass(Duration::from_secs(150));
    let roles = cable.roles();
    assert_eq!(
        roles.iter().map(|(_, role, incarnation, _)| (*role, *incarnation)).collect::<Vec<_>>(),
        [(Role::Follower, Some(NEW)), (Role::Leader, Some(NEW))]
    );
}

/// The other way round: what makes the difference is what it says of itself.
#[test]
fn without_that_word_a_cluster_in_use_is_kept() {
    let mut cable = Cable::new();
    cable.power_on(2, record(2, NEW, Some(&[2]), None));
    cable.pass(Duration::from_secs(60));
    cable.power_on(1, record(1, OLD, Some(&[1, 2, 3]), None));
    cable.pass(Duration::from_secs(150));
    let roles = cable.roles();
    assert!(roles.iter().any(|(number, _, incarnation, _)| (*number, *incarnation) == (1, Some(OLD))), "{roles:?}");
    assert!(roles.iter().any(|(number, _, incarnation, _)| (*number, *incarnation) == (2, Some(NEW))), "{roles:?}");
}
