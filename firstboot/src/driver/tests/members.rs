//! Frames to the ports that members have among themselves.

use super::{
    super::members::{admitted, close},
    *,
};

const HOME: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let pairs = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let sum = pairs.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}

/// A frame to `mac` with a packet from `source` to `destination`: TCP (a SYN), UDP or ESP.
fn packet(mac: [u8; 6], source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, port: u16) -> Vec<u8> {
    let mut payload = 4321_u16.to_be_bytes().to_vec();
    payload.extend(port.to_be_bytes());
    match protocol {
        6 => payload.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]),
        _ => payload.extend([0, 12, 0, 0, 1, 2, 3, 4]),
    }
    if protocol == 6 {
        let pseudo = [&source.octets()[..], &destination.octets(), &[0, 6, 0, payload.len() as u8], &payload].concat();
        payload[16..18].copy_from_slice(&checksum(&pseudo));
    }
    let mut header = vec![0x45, 0, 0, 20 + payload.len() as u8, 0, 0, 0, 0, 64, protocol, 0, 0];
    header.extend(source.octets());
    header.extend(destination.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    let mut frame = mac.to_vec();
    frame.extend([2, 0, 0, 0, 0, 2, 8, 0]);
    frame.extend(header.into_iter().chain(payload));
    frame.resize(frame.len().max(60), 0);
    frame
}

/// How long an answer may take: the kernel gives it at once, but a machine that is busy gets to it late.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether this node answers: a port where nobody listens says so, unless what asks is dropped.
fn answers(wire: &PacketSocket, asked: &[u8]) -> bool {
    let mut buffer = [0; 2048];
    while wire.receive(&mut buffer).unwrap().is_some() {}
    wire.send(asked).unwrap();
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if std::iter::from_fn(|| wire.receive(&mut buffer).unwrap()).any(|frame| !frame.outgoing) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

#[test]
fn only_members_reach_what_members_have_among_themselves() {
    let mut bench = Bench::new();
    bench.open();
    bench.driver.act(vec![set(OWN, None)]);
    sh(&format!("ip addr add {HOME}/24 dev home0"));
    let link = |name: &str| {
        let links = Kernel::open().unwrap().links().unwrap();
        links.into_iter().find(|link| link.name == name).unwrap()
    };
    let (cluster, home) = (PacketSocket::open(bench.peer0).unwrap(), PacketSocket::open(link("home1").index).unwrap());
    let (member, stranger, leader, neighbour) =
        ([192, 168, 200, 10].into(), [192, 168, 200, 201].into(), ONE, [10, 9, 9, 8].into());
    for (address, interface, lladdr) in [
        (member, "lan0", "02:00:00:00:00:02"),
        (stranger, "lan0", "02:00:00:00:00:02"),
        (leader, "lan0", "02:00:00:00:00:02"),
        (neighbour, "home0", "02:00:00:00:00:02"),
    ] {
        sh(&format!("ip neigh add {address} lladdr {lladdr} dev {interface}"));
    }
    // The kernel says at most so often that a port is closed.
    sh("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=10000 || sysctl -qw net.ipv4.icmp_ratelimit=0");
    let (own, at_home) = (link("lan0").mac.unwrap().0, link("home0").mac.unwrap().0);
    let ports =
        [(17, 4789), (17, 7946), (17, 8301), (17, 8302), (6, 2376), (6, 2377), (6, 7946), (6, 8300), (6, 8301), (6, 8302)];
    let others = [(17, 53), (6, 8500), (6, 2399), (6, 22)];
    let reach = |protocol, port| {
        [member, leader, stranger]
            .map(|from| answers(&cluster, &packet(own, from, OWN, protocol, port)))
            .into_iter()
            .chain([answers(&home, &packet(at_home, neighbour, HOME, protocol, port))])
            .collect::<Vec<_>>()
    };
    for (protocol, port) in ports.into_iter().chain(others) {
        assert_eq!(reach(protocol, port), [true; 4], "the frames are right: {protocol} {port}");
    }
    // A program that starts closes them to all, until it knows its members.
    close().unwrap();
    for (protocol, port) in ports {
        assert_eq!(reach(protocol, port), [false; 4], "before there are members: {protocol} {port}");
    }
    for (protocol, port) in others {
        assert_eq!(reach(protocol, port), [true; 4], "before there are members: {protocol} {port}");
    }
    assert_eq!(admitted().unwrap(), [].into());
    bench.driver.act(vec![Action::SetMembers(vec![member, OWN, leader])]);
    for (protocol, port) in ports {
        assert_eq!(reach(protocol, port), [true, true, false, false], "{protocol} {port}\n{}", sh("nft list ruleset"));
    }
    for (protocol, port) in others {
        assert_eq!(reach(protocol, port), [true; 4], "{protocol} {port}");
    }
    assert_eq!(admitted().unwrap(), [member, OWN, leader].into());
    // One that starts again cuts nobody off.
    close().unwrap();
    assert_eq!(admitted().unwrap(), [member, OWN, leader].into());
    // ESP, for which there is no key here: the kernel says that it does not speak it, if it is let in.
    let esp = |from| answers(&cluster, &packet(own, from, OWN, 50, 1));
    let (of_member, of_stranger) = (esp(member), esp(stranger));
    assert!(!of_stranger, "ESP of a stranger; of a member: {of_member}");
    // The set follows, and closing keeps it: the network may be back in a moment.
    bench.driver.act(vec![Action::SetMembers(vec![OWN, leader, stranger]), Action::Close]);
    bench.open();
    bench.driver.act(vec![set(OWN, None)]);
    for address in [member, stranger, leader] {
        sh(&format!("ip neigh replace {address} lladdr 02:00:00:00:00:02 dev lan0"));
    }
    assert_eq!(reach(17, 4789), [false, true, true, false]);
    sh("nft flush chain inet hcl_members services");
    assert!(admitted().unwrap_err().to_string().contains("lacks a rule"));
    let config = "interface = \"lan0\"\nvlan = \"off\"".parse().unwrap();
    let lines: Result<Vec<_>, _> = undo(&config, None, &bench.folder.path().join("etc")).into_iter().collect();
    assert!(lines.unwrap().contains(&"removed the firewall's table inet hcl_members".to_owned()));
    assert_eq!(admitted().unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert_eq!(sh("nft list ruleset"), "");
}
