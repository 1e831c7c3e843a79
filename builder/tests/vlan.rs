//! Real packets with real VLAN tags: the node program on a switch, in a machine that boots the kernel of the built image.
//!
//! `scripts/stages` runs this once image and node program are there: `HCL_IMAGE` and `HCL_NODE_PROGRAM` name them. Many kernels on
//! which people build know neither 802.1Q nor bridges that filter by it, so all of it is inside a small QEMU machine. Each scenario
//! runs `HCL_VLAN_ROUNDS` times, once unless given.

#![cfg(target_os = "linux")]

#[path = "vlan/figures.rs"]
mod figures;
#[path = "vlan/lab.rs"]
mod lab;
#[path = "vlan/vm.rs"]
mod vm;
#[path = "vlan/wire.rs"]
mod wire;

use std::{collections::BTreeSet, time::Duration};

use hcl_firstboot::wire::mdns::Service;
use serde_json::Value;

use self::{
    lab::{CARD, Card, LEADER, Lab, rounds},
    wire::Kind,
};

/// For one round of any scenario.
const ROUND: Duration = Duration::from_secs(600);
/// A switch with spanning tree (IEEE 802.1D) as managed ones come: 15 s listening, 15 s learning.
const MANAGED: &str = "stp_state 1 forward_delay 1500";

/// After so long no port is mute any more: listening and learning, and some more.
const SILENCE: Duration = Duration::from_secs(35);
/// Three times what the project wants of a board, since this one is emulated.
const LEADER_BOUND: Duration = Duration::from_secs(3 * 8);
const FOLLOWER_BOUND: Duration = Duration::from_secs(3 * 3);

fn complains(status: &Value, of: &[&str]) -> bool {
    let complaints = status["complaints"].as_array().map_or(&[][..], Vec::as_slice);
    complaints.iter().filter_map(Value::as_str).any(|complaint| of.iter().all(|words| complaint.contains(words)))
}

#[test]
#[ignore = "needs a built image: scripts/stages test"]
fn nodes_that_are_powered_on_together_are_one_cluster_and_the_home_network_hears_names_only() {
    let mut lab = Lab::new("", ROUND * rounds());
    let (mut ours, mut original, mut macs) = (Vec::new(), Vec::new(), Vec::new());
    for count in (0..rounds()).flat_map(|_| [1, 3, 8]) {
        let nodes = lab.nodes(count);
        let round = figures::ours(&mut lab, &nodes);
        assert!(round.leader <= LEADER_BOUND && round.followers.iter().all(|time| *time <= FOLLOWER_BOUND), "{round:?}");
        macs.extend(nodes.iter().map(|node| node.mac));
        ours.push(round);
        lab.off(&nodes);
        // For the comparison only: what comes of it is no matter of this test.
        let nodes = lab.nodes(count);
        original.push(figures::original(&mut lab, &nodes));
        lab.off(&nodes);
    }
    print!("{}", figures::table(&ours, &original));
    if let Some(path) = std::env::var_os("HCL_VLAN_REPORT").filter(|path| !path.is_empty()) {
        std::fs::write(&path, figures::report(&ours, &original)).unwrap();
    }
    let sent = lab.sent();
    // All else is tagged, with this one id.
    let ids: BTreeSet<_> = sent.iter().filter(|sent| macs.contains(&sent.by)).filter_map(|sent| sent.vlan).collect();
    assert_eq!(ids, BTreeSet::from([200]));
    let ipv6 = sent.iter().find(|sent| macs.contains(&sent.by) && sent.vlan == Some(200) && wire::is_ipv6(sent));
    assert!(ipv6.is_none(), "IPv6 on the VLAN: {ipv6:?}");
    let kinds = wire::at_home(&sent, &macs);
    // The television has the same kernel and runs no program of ours.
    let without = wire::of_kernel(&sent, lab.television());
    for mac in &macs {
        let with: BTreeSet<_> = kinds[mac].iter().filter(|kind| matches!(kind, Kind::Kernel(_))).cloned().collect();
        assert!(with.is_subset(&without), "{mac}: {with:?}, the television {without:?}");
    }
    for round in &ours {
        // A temporary address may be left by one and then taken by another.
        assert!(round.shared.iter().all(|address| address.octets()[3] >= 200), "{round:?}");
    }
    lab.vm.end();
}

#[test]
#[ignore = "needs a built image: scripts/stages test"]
fn ports_that_stay_mute_after_link_up_still_end_in_one_cluster() {
    let mut lab = Lab::new(MANAGED, ROUND * rounds());
    for _ in 0..rounds() {
        let mut nodes = lab.nodes(2);
        let on = lab.power(&nodes);
        // The third comes while the others' ports are mute, and stays mute while they found.
        lab.until_uptime(on + Duration::from_secs(12));
        let late = lab.node(CARD);
        lab.power(std::slice::from_ref(&late));
        nodes.push(late);
        // The port passes nothing, and the switch speaks spanning tree on it.
        for node in &nodes {
            lab.until_spoken_to(node);
            let state = lab.port_state(node);
            assert!([1, 2].contains(&state), "listening or learning, not {state}");
        }
        let (_, statuses) = lab.until_formed(&nodes);
        let first = statuses.iter().filter_map(|status| status["phase_since_uptime_ms"].as_u64()).min().unwrap();
        assert!(Duration::from_millis(first) > on + Duration::from_secs(30), "founded behind a mute port: {statuses:#?}");
        lab.off(&nodes);
    }
    lab.vm.end();
}

#[test]
#[ignore = "needs a built image: scripts/stages test"]
fn on_a_silent_wire_a_node_founds_once_a_switch_would_surely_pass_frames() {
    let mut lab = Lab::silent("", ROUND * rounds());
    for _ in 0..rounds() {
        let nodes = lab.nodes(1);
        let on = lab.power(&nodes);
        let (_, statuses) = lab.until_formed(&nodes);
        let led = Duration::from_millis(statuses[0]["phase_since_uptime_ms"].as_u64().unwrap()).saturating_sub(on);
        assert!((SILENCE..=SILENCE + LEADER_BOUND).contains(&led), "a leader after {led:?}");
        lab.off(&nodes);
    }
    lab.vm.end();
}

#[test]
#[ignore = "needs a built image: scripts/stages test"]
fn a_switch_that_drops_the_tag_is_named() {
    let mut lab = Lab::new("", ROUND * rounds());
    for _ in 0..rounds() {
        let nodes = lab.nodes(3);
        lab.pass(&nodes, 200, false);
        lab.power(&nodes);
        let named =
            |status: &Value| complains(status, &["is heard on the home network but not on VLAN 200", "the switch between drops"]);
        lab.until(&nodes, "the switch is named", |statuses| statuses.iter().all(named));
        // A person sets the switch right.
        lab.pass(&nodes, 200, true);
        lab.until_formed(&nodes);
        lab.until(&nodes, "nobody complains", |statuses| statuses.iter().all(|status| !named(status)));
        lab.off(&nodes);
    }
    lab.vm.end();
}

#[test]
#[ignore = "needs a built image: scripts/stages test"]
fn of_two_keys_on_one_vlan_one_runs_and_the_other_explains() {
    let mut lab = Lab::new("", ROUND * rounds());
    for _ in 0..rounds() {
        let nodes: Vec<_> = [0x5a, 0x7b, 0x5a, 0x7b].map(|key| lab.node(Card { key, ..CARD })).into();
        lab.power(&nodes);
        let aside =
            |status: &Value| status["role"] == "none" && complains(status, &["with another key leads", "--set node.vlan=201"]);
        let apart = |statuses: &[Value], runs: usize| statuses.iter().skip(1 - runs).step_by(2).all(aside);
        let statuses = lab.until(&nodes, "one key stands aside", |statuses| apart(statuses, 0) || apart(statuses, 1));
        let runs = usize::from(!apart(&statuses, 0));
        let running: Vec<_> = nodes.iter().skip(runs).step_by(2).cloned().collect();
        lab.until_formed(&running);
        let statuses = lab.statuses(&nodes);
        assert!(apart(&statuses, runs), "{statuses:#?}");
        lab.off(&nodes);
    }
    lab.vm.end();
}

#[test]
#[ignore = "needs a built image: scripts/stages test"]
fn two_keys_on_two_vlans_both_run() {
    let mut lab = Lab::new("", ROUND * rounds());
    let other = Card { key: 0x7b, vlan: 201, line: "subnet = \"192.168.201.0/24\"" };
    for _ in 0..rounds() {
        let nodes: Vec<_> = [CARD, other, CARD, other].map(|card| lab.node(card)).into();
        lab.power(&nodes);
        let half = |which: usize| nodes.iter().skip(which).step_by(2).cloned().collect::<Vec<_>>();
        lab.until_formed(&half(0));
        lab.until_formed(&half(1));
        // One home network has one `master.local`; whoever comes second says so, and nothing else is wrong.
        let second =
            |status: &Value| lab::leads(status) && complains(status, &["master.local belongs to", "another lab perhaps"]);
        lab.until(&nodes, "the second lab leaves `master.local` alone", |statuses| {
            let complaints: usize = statuses.iter().map(|status| status["complaints"].as_array().map_or(0, Vec::len)).sum();
            complaints == 1 && statuses.iter().any(second)
        });
        lab.off(&nodes);
    }
    lab.vm.end();
}

#[test]
#[ignore = "needs a built image: scripts/stages test"]
fn a_node_that_stops_says_goodbye_and_a_leader_that_hangs_loses_its_address() {
    /// After the kernel's 8 s, and what the machine needs to look.
    const GONE: Duration = Duration::from_secs(10);
    let mut lab = Lab::new("", ROUND * rounds());
    for _ in 0..rounds() {
        let nodes = lab.nodes(3);
        lab.power(&nodes);
        let (leader, before) = lab.until_formed(&nodes);
        let (leader, follower) = (&nodes[leader].clone(), &nodes[(leader + 1) % 3].clone());
        let rest: Vec<_> = nodes.iter().filter(|node| *node != follower).cloned().collect();

        // A follower is asked to stop.
        lab.stop(follower);
        lab.until_goodbye(follower, &[Service::Member]);
        let kept = |statuses: &[Value], of: &[lab::Node]| {
            let was = |node: &lab::Node| &before[nodes.iter().position(|other| other == node).unwrap()];
            statuses
                .iter()
                .zip(of)
                .all(|(status, node)| status["address"] == was(node)["address"] && status["role"] == was(node)["role"])
        };
        lab.until(&rest, "the rest keeps going", |statuses| kept(statuses, &rest));
        lab.power(std::slice::from_ref(follower));
        lab.until_formed(&nodes);

        // The leader hangs, and comes to.
        lab.signal("STOP", leader);
        let gone = lab.until_gone(leader, LEADER, GONE);
        assert!(gone >= Duration::from_secs(3), "a kernel that keeps the address for 8 s: {gone:?}");
        lab.signal("CONT", leader);
        assert_eq!(lab.until_formed(&nodes).0, nodes.iter().position(|node| node == leader).unwrap());

        // The leader's program dies, and is started again, as systemd does.
        lab.signal("KILL", leader);
        lab.until_gone(leader, LEADER, GONE);
        lab.power(std::slice::from_ref(leader));
        assert_eq!(lab.until_formed(&nodes).0, nodes.iter().position(|node| node == leader).unwrap());

        // The leader is asked to stop: nothing waits for the kernel.
        lab.stop(leader);
        lab.until_gone(leader, LEADER, Duration::from_secs(1));
        lab.until_goodbye(leader, &[Service::Leader, Service::Member]);
        let followers: Vec<_> = nodes.iter().filter(|node| *node != leader).cloned().collect();
        lab.until(&followers, "the followers keep their addresses", |statuses| kept(statuses, &followers));
        lab.off(&nodes);
    }
    lab.vm.end();
}
