//! The driver against the kernel: each test has a network namespace of its own, in the thread that it runs in, with a veth pair.
//! Needs root, `ip` and `nft`; what is missing fails.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::{act::Driver, console::Console, guard, netlink::Kernel, packet::PacketSocket, *};
use crate::{
    identity::{Hardware, NodeId},
    node::{Action, LanAddress, Wire},
    record::Record,
};

const BOUND: Duration = Duration::from_secs(20);

/// A driver between `lan0`, its end, and `peer0`, the end of everybody else; `home0` is another network.
struct Bench {
    driver: Driver,
    folder: tempfile::TempDir,
    lan0: u32,
    peer0: u32,
}

impl Bench {
    fn new() -> Self {
        // SAFETY: no file descriptor or memory is shared or unshared by this: only the network of this thread.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("a network namespace needs root");
        sh("ip link set lo up");
        sh("ip link add lan0 address 02:00:00:00:00:01 type veth peer name peer0 address 02:00:00:00:00:02");
        sh("ip link add home0 type veth peer name home1");
        for name in ["lan0", "peer0", "home0", "home1"] {
            // Nothing but what a test sends is on the wire.
            sh(&format!("sysctl -qw net.ipv6.conf.{name}.disable_ipv6=1; ip link set {name} up"));
        }
        let folder = tempfile::tempdir().unwrap();
        let etc = folder.path().join("etc");
        fs::create_dir(&etc).unwrap();
        let options =
            Options { etc, state: folder.path().join("lib/state"), run_dir: folder.path().join("run"), ..Options::default() };
        let config = "vlan = \"off\"".parse().unwrap();
        let console = Console::new(folder.path().join("console"));
        let mut kernel = Kernel::open().unwrap();
        let links = kernel.links().unwrap();
        let index = |name: &str| links.iter().find(|link| link.name == name).unwrap().index;
        let (lan0, peer0) = (index("lan0"), index("peer0"));
        Self { driver: Driver::new(options, config, kernel, console, Signs::default()), folder, lan0, peer0 }
    }

    fn open(&mut self) {
        self.driver.act(vec![Action::Open { cluster: self.lan0, lan: None }]);
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.driver.next_event()).collect()
    }
}

fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {text}");
    text
}

fn addresses() -> String {
    sh("ip -4 -o addr show dev lan0")
}

fn record() -> Box<Record> {
    Box::new(Record::new(NodeId([1; 16]), Hardware::default()))
}

const ONE: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 1);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 77);

fn set(address: Ipv4Addr, seconds: Option<u64>) -> Action {
    Action::SetAddress { address, prefix: 24, valid_for: seconds.map(Duration::from_secs) }
}

#[test]
fn the_kernel_drops_an_address_that_nobody_renews() {
    let mut bench = Bench::new();
    bench.open();
    // The elder is the primary one: the younger must outlive it.
    bench.driver.act(vec![set(ONE, Some(2)), set(OWN, None)]);
    let shown = addresses();
    assert!(shown.contains("192.168.200.1/24 brd 192.168.200.255 scope global dynamic lan0"), "{shown}");
    assert!(shown.contains("valid_lft 2sec preferred_lft 2sec") && shown.contains("valid_lft forever"), "{shown}");
    assert!(sh("ip route").contains("192.168.200.0/24 dev lan0"), "the kernel makes the route");
    // More time for it, three times as long as it had.
    for _ in 0..6 {
        sleep(Duration::from_secs(1));
        bench.driver.act(vec![set(ONE, Some(2))]);
        assert!(addresses().contains("192.168.200.1/24"));
    }
    let until = Instant::now() + BOUND;
    while addresses().contains("192.168.200.1/24") {
        assert!(Instant::now() < until, "still there");
        sleep(Duration::from_millis(100));
    }
    assert!(addresses().contains("192.168.200.77/24"), "{}", addresses());
    // Again, and without an end; both ways of dropping, of what is there and of what is not.
    bench.driver.act(vec![set(ONE, None), Action::DropAddress { address: ONE }, Action::DropAddress { address: ONE }]);
    assert!(!addresses().contains("192.168.200.1/24"));
    // The leader's address beside our own: what leaves by the route carries our own, whichever was first.
    bench.driver.act(vec![Action::DropAddress { address: OWN }, set(ONE, Some(60)), set(OWN, None)]);
    let source = || sh("ip route get 192.168.200.99");
    assert!(source().contains("src 192.168.200.1 "), "{}", source());
    bench.driver.act(vec![Action::SetAddress { address: ONE, prefix: 32, valid_for: Some(Duration::from_secs(60)) }]);
    assert!(source().contains("src 192.168.200.77 "), "{}", source());
    let shown = addresses();
    assert!(shown.contains("192.168.200.1/32 scope global dynamic") && !shown.contains("192.168.200.1/24"), "{shown}");
    assert!(sh("ip route get 192.168.200.1").starts_with("local "));
    bench.driver.act(vec![Action::DropAddress { address: ONE }]);
    sh("ip addr add 10.1.1.1/24 dev lan0");
    bench.driver.act(vec![Action::Close, Action::Close]);
    let shown = addresses();
    assert!(shown.contains("10.1.1.1") && !shown.contains("192.168.200."), "{shown}");
}

/// An Ethernet frame with an IPv4 header and a UDP header.
fn udp(port: u16) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([
        2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 32, 0, 0, 0, 0, 1, 17, 0, 0, 192, 168, 200, 9, 255, 255, 255, 255, 0x12, 0x34,
    ]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 12, 0, 0, 1, 2, 3, 4]);
    frame.resize(60, 0);
    frame
}

fn frame(destination: [u8; 6], kind: u16) -> Vec<u8> {
    let mut frame = destination.to_vec();
    frame.extend([2, 0, 0, 0, 0, 2]);
    frame.extend(kind.to_be_bytes());
    frame.resize(60, 0x11);
    frame
}

fn tagged(id: u8, mut frame: Vec<u8>) -> Vec<u8> {
    frame.splice(12..12, [0x81, 0, 0x20, id]);
    frame
}

#[test]
fn the_filter_lets_in_what_is_ours() {
    let bench = Bench::new();
    let out = PacketSocket::open(bench.peer0).unwrap();
    let inside = PacketSocket::open_for(bench.lan0, &[67, 68, 5353]).unwrap();
    let edit = |place: usize, value: u8, mut frame: Vec<u8>| {
        frame[place] = value;
        frame
    };
    let table = [
        ("ARP", frame([0xff; 6], 0x0806), true),
        ("a server's port", udp(67), true),
        ("a client's port", udp(68), true),
        ("mDNS", udp(5353), true),
        ("a priority, no VLAN", tagged(0, udp(67)), true),
        ("another port", udp(53), false),
        ("TCP", edit(23, 6, udp(67)), false),
        ("a later fragment", edit(21, 1, udp(67)), false),
        ("IPv6", frame([0xff; 6], 0x86dd), false),
        ("a VLAN's ARP", tagged(200, frame([0xff; 6], 0x0806)), false),
        ("a VLAN's DHCP", tagged(200, udp(67)), false),
        ("cut short", udp(67)[..30].to_vec(), false),
    ];
    let mut buffer = [0; 2048];
    for (name, sent, comes) in table {
        out.send(&sent).unwrap();
        let came = inside.receive(&mut buffer).unwrap();
        assert_eq!(came.is_some(), comes, "{name}: {came:?}");
        assert!(came.is_none_or(|frame| !frame.outgoing && frame.vlan.is_none_or(|id| id == 0)), "{name}");
    }
    // What we send ourselves does not come back.
    inside.send(&udp(67)).unwrap();
    assert_eq!(inside.receive(&mut buffer).unwrap(), None);
    // The other end has it.
    assert!(out.receive(&mut buffer).unwrap().is_some());
    assert!(sh("ip maddr show dev lan0").contains("01:00:5e:00:00:fb"));
}

#[test]
fn a_switch_that_talks_to_itself_is_not_heard() {
    let mut bench = Bench::new();
    let out = PacketSocket::open(bench.peer0).unwrap();
    bench.driver.act(vec![Action::AwaitFrame { index: bench.lan0 }]);
    out.send(&frame([1, 0x80, 0xc2, 0, 0, 0], 0x0026)).unwrap();
    out.send(&frame([1, 0x80, 0xc2, 0, 0, 0x0e], 0x88cc)).unwrap();
    PacketSocket::open(bench.lan0).unwrap().send(&udp(9)).unwrap();
    bench.driver.receive();
    assert_eq!(bench.events(), []);
    assert_eq!(bench.driver.sources().count(), 1);
    out.send(&tagged(200, udp(9))).unwrap();
    bench.driver.receive();
    assert_eq!(bench.events(), [Event::Heard]);
    assert_eq!(bench.driver.sources().count(), 0);
}

#[test]
fn nobody_is_told_that_the_ports_of_dhcp_are_closed() {
    let mut bench = Bench::new();
    bench.open();
    bench.driver.act(vec![set(OWN, None)]);
    let out = PacketSocket::open(bench.peer0).unwrap();
    let mut buffer = [0; 2048];
    let refused = |port: u16, buffer: &mut [u8]| {
        let mut sent = udp(port);
        sent[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        sent[26..34].copy_from_slice(&[192, 168, 200, 9, 192, 168, 200, 77]);
        let sum = sent[14..34].chunks(2).fold(0_u32, |sum, pair| sum + u32::from(pair[0]) * 256 + u32::from(pair[1]));
        sent[24..26].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
        out.send(&sent).unwrap();
        // An answer is sent before the call above returns, or needs the neighbour's address first.
        std::iter::from_fn(|| out.receive(buffer).unwrap().map(|frame| frame.length)).count() > 0
    };
    sh("ip neigh add 192.168.200.9 lladdr 02:00:00:00:00:02 dev lan0");
    assert!(refused(9, &mut buffer), "the test cannot see a closed port");
    assert!(!refused(67, &mut buffer) && !refused(68, &mut buffer));
    // Closed, the ports are free again.
    bench.driver.act(vec![Action::Close]);
    let until = Instant::now() + BOUND;
    // A process that another test is just starting has copies of our sockets until it runs its program.
    while let Err(error) = UdpSocket::bind("0.0.0.0:67") {
        assert!(Instant::now() < until, "{error}");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn addresses_elsewhere() {
    let mut bench = Bench::new();
    let watcher = Watcher::open().unwrap();
    sh("ip addr add 10.9.9.9/16 dev home0; ip addr add 10.1.1.1/24 dev lan0");
    bench.open();
    let home = LanAddress { address: [10, 9, 9, 9].into(), prefix: 16 };
    assert_eq!(bench.events(), [Event::LanAddresses(vec![home])]);
    sh("ip addr add 172.16.0.1/12 dev home0");
    let mut changed = false;
    watcher.read(bench.driver.events(), &mut changed).unwrap();
    assert!(changed);
    bench.events();
    bench.driver.tell_addresses();
    let other = LanAddress { address: [172, 16, 0, 1].into(), prefix: 12 };
    assert_eq!(bench.events(), [Event::LanAddresses(vec![home, other])]);
    bench.driver.tell_addresses();
    assert_eq!(bench.events(), []);
}

#[test]
fn the_guard_and_what_it_leaves() {
    let mut bench = Bench::new();
    let setting = |name: &str| sh(&format!("cat /proc/sys/net/ipv4/conf/lan0/{name}")).trim().to_owned();
    bench.open();
    bench.open();
    assert_eq!([setting("arp_ignore"), setting("arp_announce"), setting("promote_secondaries")], ["1", "2", "1"]);
    let rules = sh("nft list ruleset");
    assert!(rules.contains("iifname { \"lo\", \"lan0\" } accept") && rules.contains("ip daddr 192.168.200.0/24 drop"), "{rules}");
    assert_eq!(rules.matches(" drop").count(), 1, "{rules}");
    // Whoever has the subnet at home is not locked out.
    sh("ip addr add 192.168.200.5/24 dev home0");
    bench.driver.tell_addresses();
    assert_eq!(sh("nft list ruleset"), "");
    sh("ip addr del 192.168.200.5/24 dev home0");
    bench.driver.tell_addresses();
    assert!(sh("nft list ruleset").contains(" drop"));
    bench.driver.act(vec![set(OWN, None)]);
    hosts::set(&bench.folder.path().join("etc"), &[(ONE, "master".into())]).unwrap();
    let config = "interface = \"lan0\"\nvlan = \"off\"".parse().unwrap();
    let etc = bench.folder.path().join("etc");
    let lines: Result<Vec<_>, _> = undo(&config, None, &etc).into_iter().collect();
    let hosts_line = format!("removed the cluster's names from {}", etc.join("hosts").display());
    let expected = [
        "took 192.168.200.77 from lan0",
        "set the kernel's settings of lan0 to the defaults",
        "removed the firewall's table inet hcl",
        &hosts_line,
    ];
    assert_eq!(lines.unwrap(), expected);
    assert_eq!(fs::read_to_string(etc.join("hosts")).unwrap(), "");
    // Again, and nothing fails.
    assert!(undo(&config, None, &etc).iter().all(Result::is_ok));
    assert_eq!(sh("nft list ruleset"), "");
    assert_eq!([setting("arp_ignore"), setting("arp_announce")], ["0", "0"]);
    assert_eq!(addresses(), "");
    // With a VLAN there is no IPv6 on it, as on any second interface here.
    let subnet = "192.168.200.0/24".parse().unwrap();
    sh("sysctl -qw net.ipv6.conf.home0.disable_ipv6=0");
    let guard = guard::Guard { cluster: "home0".into(), lan: Some("lan0".into()), subnet, clash: false };
    assert_eq!(guard.raise(), Vec::<String>::new());
    assert_eq!(sh("cat /proc/sys/net/ipv6/conf/home0/disable_ipv6"), "1\n");
    let gone = guard::Guard { cluster: "gone0".into(), ..guard };
    assert!(!gone.raise().is_empty());
    guard::reset("gone0", Some("lan0")).unwrap();
}

/// A machine, or a container, in a network namespace of its own.
struct Other(std::process::Child);

impl Other {
    fn new() -> Self {
        let child = Command::new("unshare").args(["--net", "sleep", "600"]).spawn().unwrap();
        let (other, pid) = (Self(child), std::process::id());
        let end = Instant::now() + BOUND;
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        // As long as it is only about to leave it is where this thread came from or where this thread is.
        let here = fs::read_link("/proc/thread-self/ns/net").unwrap();
        while [namespace(pid), here.clone()].contains(&namespace(other.0.id())) {
            assert!(Instant::now() < end, "unshare is needed: apt-get install util-linux");
        }
        other
    }

    /// One on a bridge of this name, with 10.`number`.0.2 and the way to the cluster over the bridge's 10.`number`.0.1.
    fn on(bridge: &str, number: u8) -> Self {
        let other = Self::new();
        let there = other.0.id();
        sh(&format!("ip link add {bridge} type bridge forward_delay 0; ip addr add 10.{number}.0.1/24 dev {bridge}"));
        sh(&format!("ip link add end{number} master {bridge} type veth peer name eth0 netns {there}"));
        sh(&format!("ip link set {bridge} up; ip link set end{number} up"));
        other.run(&format!(
            "ip addr add 10.{number}.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.{number}.0.1"
        ));
        other
    }

    fn run(&self, command: &str) -> String {
        sh(&format!("nsenter -t {} -n sh -c '{command}'", self.0.id()))
    }

    /// Whether a port where nobody listens says so: what is dropped says nothing.
    fn reaches(&self, address: Ipv4Addr) -> bool {
        let said = self.run(&format!("busybox nc -w 2 {address} 9 2>&1 || true"));
        assert!(said.contains("refused") || said.contains("timed out"), "busybox is needed: apt-get install busybox: {said}");
        said.contains("refused")
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn containers_reach_the_cluster_and_the_lan_does_not() {
    let mut bench = Bench::new();
    let bridges = ["docker0", "docker_gwbridge", "br-0123456789ab", "br0", "home"];
    let others: Vec<_> = bridges.iter().zip(20..).map(|(bridge, number)| Other::on(bridge, number)).collect();
    let reach = |address| others.iter().map(|other| other.reaches(address)).collect::<Vec<_>>();
    sh("ip addr add 192.168.200.77/24 dev lan0");
    assert_eq!(reach(OWN), [true; 5], "without a guard");
    bench.open();
    assert_eq!(reach(OWN), [true, true, true, false, false], "{}", sh("nft list ruleset"));
    // Nor through this node to another one; and what is no address of the cluster is nobody's business.
    sh("sysctl -qw net.ipv4.ip_forward=1");
    let member = Other::new();
    sh(&format!("ip link set peer0 netns {}", member.0.id()));
    member.run("ip link set peer0 up; ip addr add 192.168.200.78/24 dev peer0; ip route add default via 192.168.200.77");
    assert_eq!(reach([192, 168, 200, 78].into()), [true, true, true, false, false]);
    assert_eq!(reach([10, 20, 0, 1].into()), [true; 5]);
}

#[test]
fn nothing_follows_a_record_that_was_not_kept() {
    let mut bench = Bench::new();
    bench.open();
    bench.events();
    let state = bench.folder.path().join("lib");
    fs::write(&state, "a file in the folder's place").unwrap();
    bench.driver.events().push_back(Event::Timeout);
    bench.driver.act(vec![set(OWN, None), Action::Persist(record()), set(ONE, None), Action::Stopped]);
    let events = bench.events();
    assert!(
        matches!(&events[..], [Event::PersistFailed { error }, Event::Timeout] if error.contains("lib/state: ")),
        "{events:?}"
    );
    assert!(addresses().contains("192.168.200.77") && !addresses().contains("192.168.200.1/"), "{}", addresses());
    assert!(!bench.driver.is_stopped());
    fs::remove_file(&state).unwrap();
    bench.driver.act(vec![Action::Persist(record()), set(ONE, None), Action::Stopped]);
    assert_eq!(bench.events(), []);
    assert!(addresses().contains("192.168.200.1/") && bench.driver.is_stopped());
    assert_eq!(memory::record(&state.join("state")), Ok(Some(*record())));
}

#[test]
fn no_network_is_fatal() {
    let mut bench = Bench::new();
    let packet = crate::wire::Packet {
        source: crate::link::Mac([2, 0, 0, 0, 0, 1]),
        destination: crate::wire::BROADCAST,
        body: crate::wire::Body::Arp(crate::wire::Arp::probe(crate::link::Mac([2, 0, 0, 0, 0, 1]), ONE)),
    };
    let send = |wire| Action::Send { wire, packet: packet.clone() };
    bench.driver.act(vec![send(Wire::Cluster), send(Wire::Lan), set(ONE, None), Action::Close]);
    bench.open();
    sh("ip link set lan0 down");
    bench.events();
    bench.driver.act(vec![send(Wire::Cluster), send(Wire::Cluster)]);
    bench.driver.receive();
    sh("ip link del lan0");
    bench.driver.act(vec![send(Wire::Cluster), set(ONE, None), Action::DropAddress { address: ONE }, Action::Close]);
    // A link that is gone is told by the list of those that are there.
    bench.open();
    assert!(matches!(&bench.events()[..], [Event::Listed(_)]));
}

mod members;
