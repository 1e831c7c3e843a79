use std::collections::BTreeSet;

use super::*;
use crate::{
    config::{Addresses, HostRange, Subnet},
    status::{LeaderStatus, LeaseStatus, MemberStatus},
};

const LEADER: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 1);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 77);
const STRAY: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 78);
const NOW: u64 = 200_000;

fn link(index: u32, name: &str, kind: LinkKind) -> Link {
    Link { index, name: name.into(), kind, mac: None, up: true, carrier: true }
}

/// A follower on which all is well.
fn follower() -> Facts {
    let member = |name: &str, address, heard_uptime_ms| MemberStatus {
        name: name.into(),
        address,
        node: "00".repeat(16),
        heard_uptime_ms,
    };
    let status = Status {
        version: "0.1.0".into(),
        pid: 412,
        state: "ready".into(),
        reason: "eth0.200 is up".into(),
        interface: Some("eth0".into()),
        vlan: Some(200),
        cluster_interface: Some("eth0.200".into()),
        phase: "following".into(),
        role: "follower".into(),
        address: Some(OWN),
        leader: Some(LeaderStatus { name: "node-1".into(), address: LEADER, heard_uptime_ms: Some(NOW - 12_000) }),
        lease: Some(LeaseStatus {
            server: LEADER,
            renew_uptime_ms: NOW + 1_000,
            rebind_uptime_ms: NOW + 2_000,
            ends_uptime_ms: NOW + 3_000,
        }),
        members: vec![member("node-1", [192, 168, 200, 10].into(), Some(NOW)), member("node-2", OWN, None)],
        ..Status::default()
    };
    Facts {
        status: Some(status),
        config: Ok(()),
        uptime_ms: NOW,
        addresses: Addresses::default(),
        links: vec![link(2, "eth0", LinkKind::Wired), link(3, "eth0.200", LinkKind::Vlan { id: 200, parent: 2 })],
        // That of another network does not count, nor does one of another interface.
        assigned: vec![(3, OWN), (3, [10, 1, 1, 1].into()), (2, [192, 168, 1, 5].into())],
        hosts: "127.0.0.1\tlocalhost\n# master\n192.168.200.1\tmaster\n".into(),
        dhcp_port: true,
        guard: Ok(()),
        admitted: Ok([LEADER, [192, 168, 200, 10].into(), OWN].into()),
        ipv6_off: Some(true),
        state: Ok(()),
        services: services::tests::well(),
        host_key: None,
        lacks: Vec::new(),
    }
}

fn leading() -> Facts {
    let mut facts = follower();
    facts.assigned.push((3, LEADER));
    let status = status(&mut facts);
    (status.role, status.phase, status.lease) = ("leader".into(), "leading".into(), None);
    if let Some(leader) = &mut status.leader {
        leader.heard_uptime_ms = None;
    }
    facts
}

/// A leader whose cluster has no VLAN.
fn without_vlan() -> Facts {
    let mut facts = leading();
    facts.assigned = vec![(2, OWN), (2, LEADER)];
    facts.links.truncate(1);
    facts.ipv6_off = Some(false);
    let status = status(&mut facts);
    (status.vlan, status.cluster_interface) = (None, Some("eth0".into()));
    facts
}

fn admitted(facts: &mut Facts) -> &mut BTreeSet<Ipv4Addr> {
    facts.admitted.as_mut().unwrap()
}

fn status(facts: &mut Facts) -> &mut Status {
    facts.status.as_mut().unwrap()
}

/// A check, a node on which all is well, what makes exactly that check fail, and what its line says.
type Break = (&'static str, fn() -> Facts, fn(&mut Facts), &'static str);

const BREAKS: &[Break] = &[
    ("program", follower, |facts| facts.status = None, "`sudo hcl start`"),
    (
        "program",
        follower,
        |facts| (facts.status, facts.config) = (None, Err("line 1".into())),
        "its configuration is wrong: line 1",
    ),
    ("program", follower, |facts| facts.config = Err("line 1".into()), "would not start again"),
    ("host_key", follower, |facts| facts.host_key = Some("not signed: `sudo`".into()), "not signed: `sudo`"),
    ("interface", follower, |facts| facts.links[0].carrier = false, "eth0 has no carrier: check cable"),
    ("interface", follower, |facts| facts.links[0].up = false, "`sudo ip link set eth0 up`"),
    ("interface", follower, |facts| drop(facts.links.remove(0)), "eth0 is gone"),
    ("interface", follower, |facts| status(facts).interface = None, "plug in the cable"),
    ("vlan", follower, |facts| facts.links[1].up = false, "`sudo ip link set eth0.200 up`"),
    ("vlan", follower, |facts| facts.links[1].kind = LinkKind::Vlan { id: 201, parent: 2 }, "is VLAN 201 and not 200"),
    ("vlan", follower, |facts| facts.links[1].kind = LinkKind::Vlan { id: 200, parent: 9 }, "on another interface"),
    ("vlan", follower, |facts| facts.links[1].kind = LinkKind::Other("bridge".into()), "no VLAN but bridge"),
    ("vlan", without_vlan, another_cable, "the VLAN is off, as configured, and the cluster has no"),
    (
        "address",
        follower,
        |facts| facts.assigned.retain(|(_, there)| *there != OWN),
        "has lost 192.168.200.77, the address of this node",
    ),
    (
        "address",
        follower,
        |facts| facts.assigned.push((3, STRAY)),
        "2 addresses in place of one (192.168.200.77, 192.168.200.78)",
    ),
    ("address", follower, unaddressed, "has no address in the cluster: it comes with a leader"),
    ("address", leading, unaddressed, "no address of its own yet: the node makes sure first"),
    ("address", follower, |facts| facts.assigned[0].1 = STRAY, "which is not the address of this node"),
    ("address", follower, |facts| facts.assigned.push((3, LEADER)), "but this node does not lead"),
    (
        "address",
        leading,
        |facts| facts.assigned.retain(|(_, there)| *there != LEADER),
        "this node leads, but eth0.200 lacks 192.168.200.1",
    ),
    ("leader", follower, |facts| status(facts).leader = None, "no leader is known, following for 3 min 20 s ():"),
    (
        "leader",
        follower,
        |facts| {
            status(facts).leader = None;
            (status(facts).phase, status(facts).phase_reason) = ("dormant".into(), "two clusters of one key met".into());
        },
        "no leader is known: two clusters of one key met",
    ),
    (
        "leader",
        follower,
        |facts| {
            status(facts).leader = None;
            status(facts).waits_for_grant = true;
        },
        "waits for the role's grant for 3 min 20 s: Consul grants it once more than half of its servers run",
    ),
    (
        "leader",
        follower,
        |facts| {
            status(facts).leader = None;
            (status(facts).phase, status(facts).phase_reason) = ("succeeding".into(), "waiting until it is free".into());
        },
        "no leader yet: this node is about to lead: waiting until it is free",
    ),
    ("leader", follower, |facts| heard(facts, Some(NOW - 61_000)), "was not heard for 1 min 1 s: check its power"),
    ("leader", follower, |facts| heard(facts, None), "was not heard yet"),
    ("lease", follower, |facts| status(facts).lease = None, "no lease (): check that the leader is up"),
    ("lease", follower, |facts| status(facts).lease.as_mut().unwrap().ends_uptime_ms = NOW, "ended 0 s ago"),
    ("lease", leading, |facts| facts.dhcp_port = false, "end what has taken it"),
    ("room", follower, |facts| facts.addresses = one_member(), "all 1 are used: widen `members`"),
    (
        "hosts",
        follower,
        |facts| facts.hosts = "127.0.0.1 localhost\n#192.168.200.1 master\n".into(),
        "has no `master`: `sudo systemctl restart",
    ),
    ("hosts", follower, |facts| facts.hosts = "192.168.200.9 master\n".into(), "`master` at 192.168.200.9"),
    ("guard", follower, |facts| facts.guard = Err("no table".into()), "other networks (no table): `sudo systemctl restart"),
    ("guard", follower, clash, "since this machine has 192.168.200.78"),
    ("members", follower, |facts| facts.admitted = Err("no table".into()), "among themselves (no table): `sudo systemctl"),
    (
        "members",
        follower,
        |facts| {
            admitted(facts).insert(STRAY);
        },
        "lets in 192.168.200.78, which is no member",
    ),
    (
        "members",
        follower,
        |facts| {
            admitted(facts).remove(&OWN);
        },
        "keeps the member 192.168.200.77 off",
    ),
    (
        "members",
        leading,
        |facts| {
            admitted(facts).remove(&LEADER);
        },
        "keeps the member 192.168.200.1 off",
    ),
    ("ipv6", follower, |facts| facts.ipv6_off = Some(false), "IPv6 is on for eth0.200"),
    ("state", follower, |facts| facts.state = Err("cannot be written".into()), "cannot be written"),
    ("kernel", follower, |facts| facts.lacks = vec!["no VXLAN".into(), "no IPVS".into()], "no VXLAN; no IPVS"),
    ("complaints", follower, |facts| status(facts).complaints = vec!["a".into(), "b".into()], "the program complains: a; b"),
];

/// The home network has the cluster's subnet.
fn clash(facts: &mut Facts) {
    facts.assigned.push((2, STRAY));
    facts.guard = Err("no table".into());
}

fn unaddressed(facts: &mut Facts) {
    facts.assigned.retain(|(_, there)| *there != OWN);
    status(facts).address = None;
}

/// The program uses one interface, the cluster another.
fn another_cable(facts: &mut Facts) {
    facts.links.push(link(4, "eth1", LinkKind::Wired));
    status(facts).interface = Some("eth1".into());
}

fn heard(facts: &mut Facts, at: Option<u64>) {
    status(facts).leader.as_mut().unwrap().heard_uptime_ms = at;
}

/// Addresses for one member, which this node has.
fn one_member() -> Addresses {
    let subnet = Subnet::new([192, 168, 200, 0].into(), 24).unwrap();
    let range = |first, last| HostRange::new(first, last).unwrap();
    Addresses::new(subnet, 1, range(77, 77), range(200, 254)).unwrap()
}

#[test]
fn all_is_well() {
    for facts in [follower(), leading(), without_vlan()] {
        let failed: Vec<_> = checks(&facts).into_iter().filter(|check| !check.pass).collect();
        assert_eq!(failed, []);
    }
}

#[test]
fn each_fault_fails_its_check_and_no_other() {
    for (name, base, break_it, says) in BREAKS {
        let mut facts = base();
        break_it(&mut facts);
        let failed: Vec<_> = checks(&facts).into_iter().filter(|check| !check.pass).collect();
        assert!(matches!(&failed[..], [check] if check.name == *name && check.line.contains(says)), "{name}, {says}: {failed:?}");
    }
}

#[test]
fn every_check_is_made_to_fail() {
    // One has a line only where it is wrong.
    let seldom = ["host_key"];
    let there: BTreeSet<_> = checks(&follower()).into_iter().map(|check| check.name).chain(seldom).collect();
    // Those of the services are made to fail beside them.
    let broken = BREAKS.iter().map(|(name, ..)| *name).chain(services::CHECKS.iter().map(|(name, _)| *name));
    assert_eq!(there, broken.collect());
    assert_eq!(there.len(), CHECKS.len() + services::CHECKS.len() + 1 + seldom.len(), "two checks of one name");
}

#[test]
fn without_a_cable_the_rest_says_where_it_comes_from() {
    let mut facts = follower();
    (facts.links, facts.assigned, facts.hosts) = (vec![link(2, "eth0", LinkKind::Wired)], Vec::new(), String::new());
    (facts.guard, facts.ipv6_off) = (Err("no table".into()), Some(false));
    let status = status(&mut facts);
    (status.state, status.reason) = ("searching".into(), "waiting for a cable: eth0 has no carrier".into());
    (status.phase, status.phase_reason, status.role) = ("off".into(), "the network is not ready".into(), "none".into());
    (status.interface, status.cluster_interface, status.address) = (None, None, None);
    (status.leader, status.lease) = (None, None);
    let failed: Vec<_> = checks(&facts).into_iter().filter(|check| !check.pass).map(|check| check.line).collect();
    let wanted = [
        "no wired interface is in use (waiting for a cable: eth0 has no carrier): plug in the cable or the adapter",
        "VLAN 200 is not there yet: it comes with the cable",
        "no address in the cluster: it comes with the network",
        "no leader is known: the network is not ready",
        "no lease: it comes with a leader",
        "the hosts file has no `master`: it comes with a leader",
        "the firewall has no table inet hcl: it comes with the network",
    ];
    assert_eq!(failed, wanted);
}

#[test]
fn a_vlan_that_is_not_there() {
    let line = |state: &str, reason: &str| {
        let mut facts = follower();
        facts.links.truncate(1);
        (status(&mut facts).state, status(&mut facts).reason) = (state.into(), reason.into());
        checks(&facts).into_iter().find(|check| check.name == "vlan" && !check.pass).unwrap().line
    };
    assert_eq!(line("faulted", "this kernel cannot make VLANs"), "VLAN 200 is not there: this kernel cannot make VLANs");
    assert!(line("ready", "eth0.200 is up").starts_with("VLAN 200 is gone: "));
}

#[test]
fn only_a_state_that_is_young_settles() {
    let mut facts = follower();
    assert!(!facts.settles());
    status(&mut facts).phase_since_uptime_ms = NOW - SETTLING_MS + 1;
    assert!(facts.settles());
    status(&mut facts).phase_since_uptime_ms = NOW - SETTLING_MS;
    assert!(!facts.settles());
    status(&mut facts).since_uptime_ms = NOW - 1;
    assert!(facts.settles());
    facts.status = None;
    assert!(!facts.settles(), "what does not run does not settle");
}

#[test]
fn a_guard_that_is_missing_for_a_reason() {
    let reason = "the firewall does not keep 192.168.200.0/24 off other networks: there is no `nft`";
    let mut facts = follower();
    facts.guard = Err("no table".into());
    status(&mut facts).complaints = vec![reason.into()];
    let failed: Vec<_> = checks(&facts).into_iter().filter(|check| !check.pass).map(|check| check.name).collect();
    assert_eq!(failed, ["complaints"]);
    let mut facts = follower();
    facts.guard = Err("no table".into());
    status(&mut facts).phase = "aside".into();
    assert!(checks(&facts).iter().all(|check| check.name != "guard" || check.pass));
}

#[test]
fn a_kernel_without_ipv6() {
    let mut facts = follower();
    facts.ipv6_off = None;
    assert!(checks(&facts).iter().all(|check| check.pass));
}

#[test]
fn lines() {
    assert_eq!(Check::new("a", Ok("good".into())).to_string(), "[PASS] good");
    assert_eq!(Check::new("a", Err("bad: do this".into())).to_string(), "[FAIL] bad: do this");
}

/// After all boards were off: this follower heard of one other, and so did Consul; the leader's ledger has a third one.
#[test]
fn who_belongs_says_the_ledger() {
    let mut facts = follower();
    let view = &mut facts.services.program.as_mut().unwrap().view;
    view.leader = Some("node-1".into());
    view.nodes = vec![Default::default(); 3];
    let failed: Vec<_> = checks(&facts).into_iter().filter(|check| !check.pass).map(|check| check.name).collect();
    assert_eq!(failed, ["swarm", "consul", "equal"]);
}
