//! Tables of (seconds, event, actions). Only what a watcher sees is written down: markers and requests to the kernel.

use std::time::{Duration, Instant};

use super::*;
use crate::link::{Link, LinkKind, Mac};

fn link(index: u32, name: &str, kind: LinkKind, up: bool, carrier: bool) -> Link {
    let mac = Some(Mac([0xb8, 0x27, 0xeb, 0x12, 0x34, index as u8]));
    Link { index, name: name.to_owned(), kind, mac, up, carrier }
}

fn wired(index: u32, name: &str, carrier: bool) -> Event {
    Event::LinkChanged(link(index, name, LinkKind::Wired, true, carrier))
}

fn vlan(index: u32, name: &str, id: u16, parent: u32, up: bool) -> Event {
    Event::LinkChanged(link(index, name, LinkKind::Vlan { id, parent }, up, true))
}

fn gone(index: u32) -> Event {
    Event::LinkRemoved { index }
}

/// What a watcher sees, one word or line each.
fn seen(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Mark(marker) => Some(marker.to_string()),
            Action::BringUp { index } => Some(format!("up {index}")),
            Action::CreateVlan { parent, name, id } => Some(format!("create {name} id {id} on {parent}")),
            Action::RemoveVlan { index } => Some(format!("remove {index}")),
            Action::SetHostName(name) => Some(format!("name {name}")),
            Action::TellReady => Some("started".to_owned()),
            _ => None,
        })
        .collect()
}

/// Plays `table` against a node with `config`. A timeout in it must be due; one that is due before the next row is an error.
fn play(config: &str, table: &[(f64, Event, &[&str])]) -> (Attachment, Instant) {
    let start = Instant::now();
    let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
    let (mut node, _) = Attachment::start(config.parse().unwrap(), start);
    let mut now = start;
    for (row, (seconds, event, expected)) in table.iter().enumerate() {
        now = at(*seconds);
        let due = node.next_timeout();
        if *event == Event::Timeout {
            assert!(due.is_some_and(|(due, _)| due <= now), "row {row}: no timeout is due, next is {due:?}");
        }
        let actions = node.handle(now, event);
        assert_eq!(seen(&actions), *expected, "row {row} at {seconds} s: {event:?}\n{node:#?}");
    }
    (node, now)
}

const UP: [&str; 2] = ["@hcl:vlan@ eth0.200 id 200", "@hcl:ready@ eth0.200"];

#[test]
fn a_cable_that_is_there() {
    let eth0 = link(2, "eth0", LinkKind::Wired, true, true);
    let (node, now) = play(
        "",
        &[
            (
                0.0,
                Event::Listed(vec![eth0]),
                &["name node-123402", "started", "@hcl:link@ eth0 up", "create eth0.200 id 200 on 2"],
            ),
            (0.1, vlan(3, "eth0.200", 200, 2, false), &["up 3"]),
            (0.1, vlan(3, "eth0.200", 200, 2, false), &[]),
            (0.2, vlan(3, "eth0.200", 200, 2, true), &UP),
            (0.3, vlan(3, "eth0.200", 200, 2, true), &[]),
        ],
    );
    assert_eq!(node.next_timeout(), None, "nothing wakes a node that is ready");
    let summary = node.summary();
    assert_eq!((summary.state, summary.interface.as_deref()), ("ready", Some("eth0")));
    assert_eq!(summary.cluster_interface.as_deref(), Some("eth0.200"));
    assert!(summary.since <= now);
}

#[test]
fn carrier_after_thirty_seconds() {
    let eth0 = link(2, "eth0", LinkKind::Wired, false, false);
    play(
        "",
        &[
            (0.0, Event::Listed(vec![eth0]), &["up 2", "name node-123402", "started"]),
            (0.5, wired(2, "eth0", false), &[]),
            (10.0, Event::Timeout, &["@hcl:wait@ for a cable: eth0 has no carrier"]),
            (30.0, wired(2, "eth0", true), &["@hcl:link@ eth0 up", "create eth0.200 id 200 on 2"]),
            (30.1, vlan(3, "eth0.200", 200, 2, true), &UP),
        ],
    );
}

#[test]
fn no_wired_interface_does_not_hold_up_the_boot() {
    let wlan0 = link(2, "wlan0", LinkKind::Wireless, true, true);
    let docker0 = link(3, "docker0", LinkKind::Other("bridge".into()), true, true);
    let veth = link(4, "veth1", LinkKind::Other("veth".into()), true, true);
    play(
        "",
        &[
            (0.0, Event::Listed(vec![wlan0, docker0, veth]), &[]),
            (5.0, Event::Timeout, &["started"]),
            (
                10.0,
                Event::Timeout,
                &["@hcl:wait@ for a wired interface: there is none; a board without Ethernet needs a USB adapter"],
            ),
            (20.0, wired(5, "eth0", true), &["name node-123405", "@hcl:link@ eth0 up", "create eth0.200 id 200 on 5"]),
        ],
    );
}

#[test]
fn an_adapter_comes_back_with_another_index() {
    let eth0 = link(2, "eth0", LinkKind::Wired, true, true);
    let (node, _) = play(
        "",
        &[
            (
                0.0,
                Event::Listed(vec![eth0]),
                &["name node-123402", "started", "@hcl:link@ eth0 up", "create eth0.200 id 200 on 2"],
            ),
            (0.1, vlan(3, "eth0.200", 200, 2, true), &UP),
            (90.0, gone(3), &["@hcl:lost@ eth0.200 was removed or set down", "create eth0.200 id 200 on 2"]),
            (90.0, gone(2), &["@hcl:lost@ eth0 is gone"]),
            (92.0, Event::LinkChanged(link(4, "eth0", LinkKind::Wired, false, false)), &["up 4"]),
            (94.0, wired(4, "eth0", true), &["@hcl:link@ eth0 up", "create eth0.200 id 200 on 4"]),
            (94.1, vlan(5, "eth0.200", 200, 4, true), &UP),
        ],
    );
    assert_eq!(node.summary().state, "ready");
}

#[test]
fn a_vlan_that_is_wrong_is_made_anew() {
    let eth0 = link(2, "eth0", LinkKind::Wired, true, true);
    let wrong = link(3, "eth0.200", LinkKind::Vlan { id: 201, parent: 2 }, true, true);
    play(
        "hostname = \"pi\"",
        &[
            (0.0, Event::Listed(vec![eth0, wrong]), &["started", "@hcl:link@ eth0 up", "remove 3"]),
            (0.1, gone(3), &["create eth0.200 id 200 on 2"]),
            (0.2, vlan(4, "eth0.200", 200, 2, true), &UP),
        ],
    );
}

#[test]
fn a_vlan_that_is_right_is_taken() {
    let eth0 = link(2, "eth0", LinkKind::Wired, true, true);
    let right = link(3, "lab", LinkKind::Vlan { id: 200, parent: 2 }, false, false);
    play(
        "hostname = \"pi\"",
        &[
            (0.0, Event::Listed(vec![eth0, right]), &["started", "@hcl:link@ eth0 up", "up 3"]),
            (0.1, vlan(3, "lab", 200, 2, true), &["@hcl:vlan@ lab id 200", "@hcl:ready@ lab"]),
        ],
    );
}

#[test]
fn a_name_that_is_taken_is_left_alone() {
    let eth0 = link(2, "eth0", LinkKind::Wired, true, true);
    let bridge = link(3, "eth0.200", LinkKind::Other("bridge".into()), true, true);
    play(
        "hostname = \"pi\"",
        &[
            (
                0.0,
                Event::Listed(vec![eth0, bridge]),
                &["started", "@hcl:link@ eth0 up", "@hcl:fault@ eth0.200 exists and is no VLAN but bridge: rename or remove it"],
            ),
            (1.0, Event::Timeout, &[]),
            (1.5, gone(3), &[]),
            (3.0, Event::Timeout, &["create eth0.200 id 200 on 2"]),
            (3.1, vlan(4, "eth0.200", 200, 2, true), &UP),
        ],
    );
}

#[test]
fn vlan_off() {
    let eth0 = link(2, "eth0", LinkKind::Wired, true, true);
    play(
        "vlan = \"off\"\nhostname = \"pi\"",
        &[
            (0.0, Event::Listed(vec![eth0]), &["started", "@hcl:link@ eth0 up", "@hcl:ready@ eth0"]),
            (9.0, wired(2, "eth0", false), &["@hcl:lost@ eth0 lost its carrier"]),
            (11.0, wired(2, "eth0", true), &["@hcl:link@ eth0 up", "@hcl:ready@ eth0"]),
        ],
    );
}

#[test]
fn two_interfaces() {
    let eth0 = link(2, "eth0", LinkKind::Wired, true, false);
    let eth1 = link(3, "eth1", LinkKind::Wired, true, true);
    let made = ["@hcl:vlan@ eth1.200 id 200", "@hcl:ready@ eth1.200"];
    play(
        "",
        &[
            // The first one with a carrier carries the cluster; the host name comes from the first one, cable or not.
            (
                0.0,
                Event::Listed(vec![eth0, eth1]),
                &["name node-123402", "started", "@hcl:link@ eth1 up", "create eth1.200 id 200 on 3"],
            ),
            (0.1, vlan(4, "eth1.200", 200, 3, true), &made),
            // Another cable changes nothing.
            (70.0, wired(2, "eth0", true), &[]),
            // A short loss does not move the cluster,
            (80.0, wired(3, "eth1", false), &["@hcl:lost@ eth1 lost its carrier"]),
            (85.0, wired(3, "eth1", true), &["@hcl:link@ eth1 up", made[0], made[1]]),
            // a long one does, and leaves nothing behind.
            (95.0, wired(3, "eth1", false), &["@hcl:lost@ eth1 lost its carrier"]),
            (105.0, Event::Timeout, &["@hcl:link@ eth0 up", "remove 4", "create eth0.200 id 200 on 2"]),
        ],
    );
}

#[test]
fn a_named_interface() {
    let eth0 = link(2, "eth0", LinkKind::Wired, true, true);
    let wait = "@hcl:wait@ for interface eth1: it is not here, there are eth0";
    play(
        "interface = \"eth1\"",
        &[
            (0.0, Event::Listed(vec![eth0]), &[]),
            (5.0, Event::Timeout, &["started"]),
            (10.0, Event::Timeout, &[wait]),
            (11.0, wired(3, "eth1", true), &["name node-123403", "@hcl:link@ eth1 up", "create eth1.200 id 200 on 3"]),
        ],
    );
}

#[test]
fn a_named_interface_that_is_wireless() {
    let wlan0 = link(2, "wlan0", LinkKind::Wireless, true, true);
    let (node, _) = play(
        "interface = \"wlan0\"",
        &[
            (
                0.0,
                Event::Listed(vec![wlan0]),
                &[
                    "@hcl:fault@ wlan0 is wireless and can carry no cluster: set interface = \"auto\" or a wired one in /etc/hcl/node.toml",
                ],
            ),
            (1.0, Event::Timeout, &[]),
            (5.0, Event::Timeout, &["started"]),
        ],
    );
    assert_eq!(node.summary().state, "faulted");
}

#[test]
fn a_kernel_without_vlans_is_asked_ever_more_seldom() {
    let eth0 = link(2, "eth0", LinkKind::Wired, true, true);
    let start = Instant::now();
    let (mut node, _) = Attachment::start("".parse().unwrap(), start);
    node.handle(start, &Event::Listed(vec![eth0]));
    let mut now = start;
    let mut told = 0;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let actions = node.handle(now, &Event::Refused(Fault::NoVlanModule));
        told += actions.iter().filter(|action| matches!(action, Action::Mark(Marker::Fault { .. }))).count();
        assert_eq!(node.summary().state, "faulted");
        let (due, _) = node.next_timeout().unwrap();
        pauses.push((due - now).as_secs());
        now = due;
        assert_eq!(seen(&node.handle(now, &Event::Timeout)), ["create eth0.200 id 200 on 2"]);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(told, 1, "the console hears a fault once");
    assert!(Fault::NoVlanModule.to_string().contains("8021q is missing"));
}

#[test]
fn a_silent_kernel_is_a_fault() {
    let eth0 = link(2, "eth0", LinkKind::Wired, true, true);
    play(
        "hostname = \"pi\"",
        &[
            (0.0, Event::Listed(vec![eth0]), &["started", "@hcl:link@ eth0 up", "create eth0.200 id 200 on 2"]),
            (5.0, Event::Timeout, &["@hcl:fault@ eth0.200 is not up 5 s after it was asked for; trying again"]),
            (6.0, Event::Timeout, &["create eth0.200 id 200 on 2"]),
        ],
    );
}

#[test]
fn somebody_who_undoes_it_is_not_fought_at_full_speed() {
    let eth0 = link(2, "eth0", LinkKind::Wired, true, true);
    let lost = "@hcl:lost@ eth0.200 was removed or set down";
    let undone = "@hcl:fault@ eth0.200 was removed or set down by somebody else; making it again after a pause";
    play(
        "hostname = \"pi\"",
        &[
            (0.0, Event::Listed(vec![eth0]), &["started", "@hcl:link@ eth0 up", "create eth0.200 id 200 on 2"]),
            (0.1, vlan(3, "eth0.200", 200, 2, true), &UP),
            (1.0, vlan(3, "eth0.200", 200, 2, false), &[lost, "up 3"]),
            (1.1, vlan(3, "eth0.200", 200, 2, true), &UP),
            (2.0, vlan(3, "eth0.200", 200, 2, false), &[lost, undone]),
            (4.0, Event::Timeout, &["up 3"]),
            (4.1, vlan(3, "eth0.200", 200, 2, true), &UP),
            // After a good minute all is forgiven.
            (64.1, Event::Timeout, &[]),
            (65.0, vlan(3, "eth0.200", 200, 2, false), &[lost, "up 3"]),
        ],
    );
}

#[test]
fn a_fresh_list_replaces_all() {
    let eth0 = link(2, "eth0", LinkKind::Wired, true, true);
    let right = link(3, "eth0.200", LinkKind::Vlan { id: 200, parent: 2 }, true, true);
    play(
        "hostname = \"pi\"",
        &[
            (0.0, Event::Listed(vec![eth0.clone(), right]), &["started", "@hcl:link@ eth0 up", UP[0], UP[1]]),
            (1.0, Event::Listed(vec![eth0]), &["@hcl:lost@ eth0.200 was removed or set down", "create eth0.200 id 200 on 2"]),
        ],
    );
}
