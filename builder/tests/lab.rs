//! The lab's wire with real sockets and real frames, the router with a real DHCP exchange, and what
//! stays behind when the lab is killed.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use hcl_image::lab::{
    capture::{self, Capture, Sighting},
    frame::{Header, Mac, VlanId, compose},
    ports::{PortSpec, Wire},
    renew::renew,
    router::{FIRST_ADDRESS, Router},
    snoop::{self, Lease},
    switch::{Loss, Membership, PortId},
};

const ALL: Mac = Mac([0xff; 6]);
const V200: Option<VlanId> = VlanId::new(200);
/// An EtherType for local experiments (IEEE 802).
const LOCAL: u16 = 0x88b5;

/// What QEMU is to the switch: a peer that speaks the stream protocol.
struct Station {
    stream: UnixStream,
    mac: Mac,
}

impl Station {
    fn send(&self, vlan: Option<VlanId>, text: &str) {
        self.send_raw(&compose(ALL, self.mac, vlan, LOCAL, text.as_bytes()));
    }

    fn send_raw(&self, frame: &[u8]) {
        (&self.stream).write_all(&(frame.len() as u32).to_be_bytes()).unwrap();
        (&self.stream).write_all(frame).unwrap();
    }

    /// The next frame; a minute of silence fails the test.
    fn receive(&self) -> Vec<u8> {
        self.stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut prefix = [0; 4];
        (&self.stream).read_exact(&mut prefix).expect("a frame within a minute");
        let mut frame = vec![0; u32::from_be_bytes(prefix) as usize];
        (&self.stream).read_exact(&mut frame).unwrap();
        frame
    }

    fn text(&self) -> String {
        let frame = self.receive();
        let header = Header::parse(&frame).unwrap();
        String::from_utf8_lossy(&frame[header.payload..]).trim_end_matches('\0').to_owned()
    }
}

struct Bench {
    folder: tempfile::TempDir,
    wire: Wire,
}

impl Bench {
    fn new(ports: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports: Vec<_> = (0..ports)
            .map(|port| PortSpec { name: format!("port-{port}"), socket: folder.path().join(format!("{port}")) })
            .collect();
        let names: Vec<_> = ports.iter().map(|port| port.name.clone()).collect();
        let capture = Capture::create(&folder.path().join("wire.pcapng"), &names, 1 << 30).unwrap();
        let wire = Wire::start(&ports, 1, Some(capture), Box::new(|_, _| {})).unwrap();
        Self { folder, wire }
    }

    /// Connects and waits until the switch has taken it: its first frame counts as received.
    fn plug(&self, port: usize) -> Station {
        let stream = UnixStream::connect(self.folder.path().join(format!("{port}"))).unwrap();
        let station = Station { stream, mac: Mac::of_node(port as u16) };
        let before = self.wire.counters()[port].received;
        station.send_raw(&[0]);
        self.until(|wire| wire.counters()[port].received > before);
        station
    }

    /// Waits for a state of the wire, bounded.
    fn until(&self, condition: impl Fn(&Wire) -> bool) {
        for _ in 0..60_000 {
            if condition(&self.wire) {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        panic!("the wire did not get there: {:?}", self.wire.counters());
    }

    fn finish(self) -> (tempfile::TempDir, Vec<Sighting>) {
        self.wire.stop().unwrap();
        let mut seen = Vec::new();
        capture::read(&self.folder.path().join("wire.pcapng"), |sighting| seen.push(sighting)).unwrap();
        (self.folder, seen)
    }
}

#[test]
fn an_access_port_is_a_vlan_to_a_station_that_knows_none() {
    let bench = Bench::new(3);
    bench.wire.switch().set_access(PortId(2), V200);
    let stations: Vec<_> = (0..3).map(|port| bench.plug(port)).collect();
    stations[0].send(None, "not for the VLAN");
    stations[0].send(V200, "for the VLAN");
    assert_eq!(stations[1].text(), "not for the VLAN");
    assert_eq!(stations[1].text(), "for the VLAN");
    let frame = stations[2].receive();
    let header = Header::parse(&frame).unwrap();
    assert!(!header.tagged && frame[header.payload..].starts_with(b"for the VLAN"), "{frame:?}");
    stations[2].send(None, "back");
    let frame = stations[0].receive();
    assert_eq!(Header::parse(&frame).unwrap().vlan, V200);
}

#[test]
fn frames_pass_tagged_or_not_and_the_capture_has_them_all() {
    let bench = Bench::new(3);
    let stations: Vec<_> = (0..3).map(|port| bench.plug(port)).collect();
    stations[0].send(None, "to all");
    assert_eq!([stations[1].text(), stations[2].text()], ["to all", "to all"]);
    stations[1].send(V200, "on the VLAN");
    for station in [&stations[0], &stations[2]] {
        let frame = station.receive();
        assert_eq!(Header::parse(&frame).unwrap().vlan, V200, "the tag is kept");
    }
    // Learned: a frame to station 0 goes there alone. The next broadcast shows that 2 got nothing between.
    stations[1].send_raw(&compose(stations[0].mac, stations[1].mac, None, LOCAL, b"for you"));
    stations[1].send(None, "last");
    assert_eq!([stations[0].text(), stations[0].text(), stations[2].text()], ["for you", "last", "last"]);

    let (folder, seen) = bench.finish();
    let inbound: Vec<_> = seen.iter().filter(|frame| frame.inbound && frame.frame.len() > 1).collect();
    assert_eq!(inbound.iter().map(|frame| frame.port.as_str()).collect::<Vec<_>>(), ["port-0", "port-1", "port-1", "port-1"]);
    assert_eq!(seen.iter().filter(|frame| !frame.inbound).count(), 2 + 2 + 1 + 2);

    // The foreign reader sees the same.
    let text = tcpdump(&folder.path().join("wire.pcapng"), "vlan 200 and ether proto 0x88b5");
    assert_eq!(text.lines().filter(|line| line.contains("vlan 200")).count(), 3, "one in, two out:\n{text}");
    assert!(text.contains("b8:27:eb:4c:00:01") && text.contains("vlan 200"), "{text}");
}

/// tcpdump as a judge of the capture. That it is missing is a failure.
fn tcpdump(capture: &Path, filter: &str) -> String {
    let output = Command::new("tcpdump")
        .args(["-n", "-e", "-r"])
        .arg(capture)
        .arg(filter)
        .output()
        .expect("tcpdump is missing: install the package `tcpdump`");
    assert!(output.status.success(), "tcpdump refused the capture: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[should_panic(expected = "tcpdump refused the capture")]
fn tcpdump_can_say_no() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.pcapng");
    let mut capture = Capture::create(&path, &["a".into()], 1 << 20).unwrap();
    capture.inbound(Duration::ZERO, PortId(0), &[0; 60], None).unwrap();
    capture.flush().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let half = bytes.len() - 30;
    bytes.truncate(half);
    std::fs::write(&path, bytes).unwrap();
    tcpdump(&path, "");
}

#[test]
fn faults_take_and_give_back() {
    let bench = Bench::new(3);
    let stations: Vec<_> = (0..3).map(|port| bench.plug(port)).collect();
    let lost = |port: usize, loss| bench.wire.counters()[port].lost.get(&loss).copied().unwrap_or_default();
    let set = |port: usize, change: &dyn Fn(&mut hcl_image::lab::switch::Port)| {
        change(bench.wire.switch().port_mut(PortId(port)).unwrap());
    };

    set(1, &|port| port.faults.cut = true);
    stations[0].send(None, "cut");
    assert_eq!(stations[2].text(), "cut");
    set(1, &|port| port.faults.cut = false);
    assert_eq!(lost(1, Loss::Cut), 1);

    set(1, &|port| port.faults.drops_tagged = true);
    stations[0].send(V200, "tagged");
    assert_eq!(stations[2].text(), "tagged");
    set(1, &|port| port.faults.drops_tagged = false);
    assert_eq!(lost(1, Loss::Tagged), 1);

    let only = Membership::Only { untagged: true, vlans: BTreeSet::new() };
    set(1, &|port| port.membership = only.clone());
    stations[0].send(V200, "filtered");
    assert_eq!(stations[2].text(), "filtered");
    set(1, &|port| port.membership = Membership::All);

    set(1, &|port| port.island = 1);
    stations[0].send(None, "elsewhere");
    assert_eq!(stations[2].text(), "elsewhere");
    set(1, &|port| port.island = 0);

    set(1, &|port| port.faults.loss = 1.0);
    stations[0].send(None, "unlucky");
    assert_eq!(stations[2].text(), "unlucky");
    set(1, &|port| port.faults.loss = 0.0);
    assert_eq!(lost(1, Loss::Chance), 1);

    // An hour of silence from link-up on, as far as this test can tell.
    set(1, &|port| port.faults.mute = Duration::from_secs(3600));
    stations[0].send(None, "mute");
    assert_eq!(stations[2].text(), "mute");
    stations[1].send(None, "nobody hears me");
    bench.until(|wire| wire.counters()[1].lost.get(&Loss::Mute) == Some(&2));
    set(1, &|port| port.faults.mute = Duration::ZERO);

    // A late frame arrives after one that was sent later.
    set(2, &|port| port.faults.delay = Duration::from_millis(300));
    stations[0].send(None, "late");
    assert_eq!(stations[1].text(), "late", "the first that port 1 hears of all this");
    set(2, &|port| port.faults.delay = Duration::ZERO);
    stations[0].send(None, "early");
    assert_eq!([stations[2].text(), stations[2].text()], ["early", "late"]);

    let (_folder, seen) = bench.finish();
    let comments: BTreeSet<_> = seen.iter().filter_map(|frame| frame.comment.as_deref()).collect();
    for expected in [
        "lost at port-1: port cut",
        "lost at port-1: port drops tagged frames",
        "lost at port-1: lost by chance",
        "not let in: port mute",
    ] {
        assert!(comments.contains(expected), "{expected} is not among {comments:?}");
    }
}

#[test]
fn a_stuck_station_loses_its_own_frames_only_and_a_new_one_may_come() {
    let bench = Bench::new(3);
    let (talker, stuck, listener) = (bench.plug(0), bench.plug(1), bench.plug(2));
    let big = "x".repeat(9000);
    let count = 2000;
    // Frame by frame, so that the listener keeps up.
    for _ in 0..count {
        talker.send(None, &big);
        assert_eq!(listener.text().len(), big.len());
    }
    let counters = bench.wire.counters();
    assert_eq!(counters[2].lost.get(&Loss::QueueFull), None);
    let lost = counters[1].lost[&Loss::QueueFull];
    assert!(lost > count / 2, "18 MB into a queue of 4 MiB: {lost} of {count} lost");

    // Pulled and plugged in again: the port works, and old frames are gone.
    drop(stuck);
    bench.until(|wire| {
        let mut switch = wire.switch();
        let probe = compose(ALL, Mac::of_node(9), None, LOCAL, &[]);
        switch.forward(Duration::from_secs(1), PortId(1), &probe).refused == Some(Loss::NoLink)
    });
    let again = bench.plug(1);
    talker.send(None, "fresh");
    assert_eq!(again.text(), "fresh");

    // Not the protocol: the connection ends, the switch does not.
    (&again.stream).write_all(&[0xff; 4]).unwrap();
    let mut rest = Vec::new();
    let _ = (&again.stream).read_to_end(&mut rest);
    talker.send(None, "still there");
    assert_eq!(listener.text(), "fresh");
    assert_eq!(listener.text(), "still there");
}

#[test]
fn the_router_answers_a_dhcp_client_and_forwards() {
    let bench = Bench::new(2);
    let client = bench.plug(1);
    let mut router = Router::start(bench.folder.path(), &bench.folder.path().join("0"), false).unwrap();
    let lease = Lease { client: client.mac, address: FIRST_ADDRESS };
    for (kind, answer) in [(MessageType::Discover, MessageType::Offer), (MessageType::Request, MessageType::Ack)] {
        client.send_raw(&dhcp(client.mac, kind));
        let frame = receive_dhcp(&client);
        assert_eq!(dhcp_type(&frame), Some(answer));
        assert_eq!(snoop::acknowledged(&frame), (answer == MessageType::Ack).then_some(lease));
    }

    // A forward is there and leads to the client: the router asks for it by ARP.
    let port = router.forward(FIRST_ADDRESS, 22).unwrap();
    let _connection = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let asked = (0..100).any(|_| {
        let frame = client.receive();
        Header::parse(&frame).is_some_and(|header| header.ethertype == 0x0806 || header.ethertype == 0x0800)
    });
    assert!(asked);
    assert!(router.forward(std::net::Ipv4Addr::new(10, 9, 9, 9), 22).is_ok() || router.failure().unwrap().is_none());
    let id = router.id();
    drop(router);
    assert!(!alive(id), "the router's QEMU outlived it");
}

#[test]
fn a_new_router_is_told_which_addresses_are_in_use() {
    let bench = Bench::new(3);
    let _router = Router::start(bench.folder.path(), &bench.folder.path().join("0"), false).unwrap();
    renew(&bench.folder.path().join("1"), Mac::of_node(1), FIRST_ADDRESS).unwrap();
    // Who asks for any address would have got that one.
    let stranger = bench.plug(2);
    stranger.send_raw(&dhcp(stranger.mac, MessageType::Discover));
    let offer = message(&receive_dhcp(&stranger)).unwrap();
    assert_eq!(offer.opts().msg_type(), Some(MessageType::Offer));
    assert_ne!(offer.yiaddr(), FIRST_ADDRESS);
}

use dhcproto::{
    Decodable, Encodable,
    v4::{DhcpOption, Message, MessageType},
};

/// A broadcast of a DHCP client that has no address yet.
fn dhcp(mac: Mac, kind: MessageType) -> Vec<u8> {
    let mut message = Message::default();
    message.set_chaddr(&mac.0);
    message.set_xid(0x4c41_4221);
    message.opts_mut().insert(DhcpOption::MessageType(kind));
    if kind == MessageType::Request {
        message.opts_mut().insert(DhcpOption::RequestedIpAddress(FIRST_ADDRESS));
    }
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv4([0; 4], [255; 4], 64).udp(68, 67).write(&mut packet, &message.to_vec().unwrap()).unwrap();
    compose(ALL, mac, None, 0x0800, &packet)
}

fn message(frame: &[u8]) -> Option<Message> {
    let packet = etherparse::SlicedPacket::from_ethernet(frame).ok()?;
    let Some(etherparse::TransportSlice::Udp(udp)) = packet.transport else { return None };
    Message::from_bytes(udp.payload()).ok()
}

fn dhcp_type(frame: &[u8]) -> Option<MessageType> {
    message(frame)?.opts().msg_type()
}

fn receive_dhcp(client: &Station) -> Vec<u8> {
    (0..100).map(|_| client.receive()).find(|frame| dhcp_type(frame).is_some()).expect("a DHCP answer among 100 frames")
}

/// Whether a process runs (a zombie does not).
fn alive(id: u32) -> bool {
    let stat = std::fs::read_to_string(PathBuf::from(format!("/proc/{id}/stat"))).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
