use dhcproto::{Encodable, v4::DhcpOption};
use etherparse::PacketBuilder;
use serde_json::json;

use super::*;
use crate::lab::frame::compose;

fn standing(leads: bool, last: u8, members: &[u8]) -> Standing {
    let address = |last: u8| Ipv4Addr::new(192, 168, 200, last);
    Standing { leads, address: Some(address(last)), members: members.iter().copied().map(address).collect(), leased: !leads }
}

#[test]
fn a_status_is_read() {
    let status = |role: &str| {
        json!({
            "role": role, "phase": "settled", "phase_reason": "all well", "address": "192.168.200.10", "uptime_ms": 5000,
            "lease": { "server": "192.168.200.1", "ends_uptime_ms": 6000 },
            "members": [{ "address": "192.168.200.10" }, { "address": "192.168.200.77" }], "complaints": ["no `nft`"],
        })
    };
    assert_eq!(Standing::read(&status("follower")).unwrap(), standing(false, 10, &[10, 77]));
    assert!(Standing::read(&status("leader")).unwrap().leads);
    assert_eq!(Standing::read(&status("none")).unwrap_err(), "role `none`, phase `settled`: all well no `nft`");
    assert!(Standing::read(&json!({"running": false})).is_err());
    let mut over = status("follower");
    over["uptime_ms"] = 6000.into();
    assert!(!Standing::read(&over).unwrap().leased);
}

#[test]
fn nodes_are_compared() {
    let passed = |standings: &[Option<Standing>]| together(standings, "").into_iter().map(|row| row.passed).collect::<Vec<_>>();
    let right = [Some(standing(true, 10, &[10, 77])), Some(standing(false, 77, &[77, 10]))];
    assert_eq!(passed(&right), [true; 3]);
    assert_eq!(passed(&[Some(standing(true, 10, &[10]))]), [true; 3]);
    // Two leaders, each with all members; one address twice; one that knows less; one that is in no cluster.
    assert_eq!(passed(&[right[0].clone(), Some(standing(true, 77, &[10, 77]))]), [false, true, true]);
    assert_eq!(passed(&[Some(standing(false, 10, &[10, 77])), right[1].clone()]), [false, true, true]);
    assert_eq!(passed(&[Some(standing(true, 10, &[10])), Some(standing(false, 10, &[10]))]), [true, false, true]);
    assert_eq!(passed(&[right[0].clone(), Some(standing(false, 77, &[77]))]), [true, true, false]);
    assert_eq!(passed(&[Some(standing(true, 10, &[10])), None]), [false, false, true]);
    assert_eq!(passed(&[None]), [false; 3]);
}

fn udp(from: Mac, vlan: Option<u16>, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4([192, 168, 200, 1], [224, 0, 0, 251], 255).udp(ports.0, ports.1).write(&mut packet, payload).unwrap();
    compose(Mac([0xff; 6]), from, vlan.and_then(VlanId::new), 0x0800, &packet)
}

fn mdns(from: Mac, vlan: Option<u16>, response: bool, answers: u8, label: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 0, if response { 0x84 } else { 0 }, 0, 0, 0, 0, answers, 0, 0, 0, 0, label.len() as u8];
    message.extend(label);
    message.extend(b"\x04_tcp\x05local\0");
    udp(from, vlan, (5353, 5353), &message)
}

fn dhcp(from: Mac, vlan: Option<u16>, kind: MessageType, client: Mac) -> Vec<u8> {
    let mut message = Message::new([0; 4].into(), [192, 168, 200, 77].into(), [0; 4].into(), [0; 4].into(), &client.0);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    udp(from, vlan, (67, 68), &message.to_vec().unwrap())
}

#[test]
fn what_is_on_the_wire_counts_only_as_it_must_be() {
    let (one, two) = (Mac::of_node(1), Mac::of_node(2));
    let nodes = [(one, Some(standing(true, 10, &[10, 77]))), (two, Some(standing(false, 77, &[10, 77])))];
    let judged = |frames: &[Vec<u8>], nodes: &[(Mac, Option<Standing>)]| {
        let mut speech = Speech::new(200);
        frames.iter().for_each(|frame| speech.hear(frame));
        speech.judge(nodes).into_iter().map(|row| row.passed).collect::<Vec<_>>()
    };
    let announcement = mdns(one, Some(200), true, 1, b"_cluster");
    let lease = dhcp(one, Some(200), MessageType::Ack, two);
    assert_eq!(judged(&[announcement.clone(), lease.clone()], &nodes), [true, true]);
    assert_eq!(judged(std::slice::from_ref(&announcement), &nodes[..1]), [true]);
    assert_eq!(judged(&[], &nodes), [false, false]);
    for wrong in [
        mdns(one, None, true, 1, b"_cluster"),
        mdns(one, Some(201), true, 1, b"_cluster"),
        mdns(one, Some(200), false, 1, b"_cluster"),
        mdns(one, Some(200), true, 0, b"_cluster"),
        mdns(one, Some(200), true, 1, b"_cluster-member"),
        mdns(two, Some(200), true, 1, b"_cluster"),
        dhcp(one, None, MessageType::Ack, two),
        dhcp(one, Some(200), MessageType::Offer, two),
        dhcp(one, Some(200), MessageType::Ack, one),
    ] {
        assert_eq!(judged(std::slice::from_ref(&wrong), &nodes), [false, false], "{wrong:02x?}");
    }
    // Cut anywhere, it is no panic.
    for frame in [announcement, lease] {
        (0..frame.len()).for_each(|cut| Speech::new(200).hear(&frame[..cut]));
    }
}
