//! The state machines alone, over the driver's sockets, on a machine of a [`Lab`]: for what the program itself cannot do there.
//! A node on two networks, since this host's kernel need not have VLANs; a DHCP client that trusts every server, since that of a
//! node trusts those with its key.
//!
//! Each is a test that another one runs on a machine: `$alone` and the machine's number is its process, `told` what it did.

use std::{
    collections::VecDeque,
    env,
    fs::File,
    io::Write,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hcl_firstboot::{
    driver::Port,
    identity::{Hardware, NodeId},
    key::ClusterKey,
    link::{Link, LinkKind, Mac},
    node::{
        Action, Event, LanAddress, Node, Random, Setup, Wire,
        dhcp::{Client, ClientOutput, ClientSetup},
    },
    wire::Body,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::lab::Lab;

const FOLDER: &str = "HCL_ALONE";

/// Starts `what` of this file on `host`.
pub fn start(lab: &mut Lab, host: usize, what: &str) {
    let (program, folder) = (env::current_exe().unwrap(), lab.at(host, ""));
    let command = format!("{} --exact alone::{what} --ignored --nocapture", program.display());
    lab.start(host, "alone", &format!("export {FOLDER}={}", folder.display()), &command);
}

/// What surrounds a state machine.
struct Stage {
    told: File,
    stop: Arc<AtomicBool>,
    ports: Vec<Port>,
}

impl Stage {
    fn new() -> Self {
        let folder = env::var_os(FOLDER).map(PathBuf::from).expect("other tests run this one, on a machine of theirs");
        let told = File::options().create(true).append(true).open(folder.join("told")).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop)).unwrap();
        Self { told, stop, ports: Vec::new() }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.told, "{line}").unwrap();
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn open(&mut self, wire: Wire, interface: &str) {
        let mut complaints = Vec::new();
        self.ports.push(Port::open(wire, index(interface), &mut complaints).unwrap());
        assert_eq!(complaints, [""; 0]);
    }

    /// Sleeps until something came, or `until`, or a signal, which can be overheard for a moment.
    fn wait(&self, until: Option<Instant>) {
        let longest = Duration::from_millis(100);
        let wait = until.map_or(longest, |at| at.saturating_duration_since(Instant::now()).min(longest));
        let mut waiting: Vec<_> = self.ports.iter().map(|port| PollFd::new(port, PollFlags::IN)).collect();
        let _ = poll(&mut waiting, Some(&Timespec::try_from(wait).unwrap()));
    }
}

fn index(interface: &str) -> u32 {
    let any = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).unwrap();
    rustix::net::netdevice::name_to_index(any, interface).unwrap()
}

#[track_caller]
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The word after `key` in what `ip` says.
fn word_after(text: &str, key: &str) -> String {
    text.split_whitespace().skip_while(|word| *word != key).nth(1).unwrap_or_default().to_owned()
}

fn mac(interface: &str) -> Mac {
    word_after(&ip(&format!("-o link show dev {interface}")), "link/ether").parse().unwrap()
}

/// The client on `eth0`. A signal makes it give its address back.
#[test]
#[ignore = "other tests run this one"]
fn client() {
    let mut stage = Stage::new();
    stage.open(Wire::Cluster, "eth0");
    let mac = mac("eth0");
    let node = NodeId([mac.0[5]; 16]);
    let setup = ClientSetup { mac, node, seals: None, incarnation: None, held: None, name: mac.host_name() };
    let (mut random, mut out) = (Random::new([mac.0[5]; 32]), Vec::new());
    let mut client = Client::start(setup, Instant::now(), &mut random, &mut out);
    loop {
        for output in out.drain(..) {
            match output {
                ClientOutput::Send(packet) => stage.ports[0].send(&packet).unwrap(),
                ClientOutput::Bound { address, prefix, server, .. } => {
                    // The kernel answers for it from now on, as it does for a node's.
                    ip(&format!("address replace {address}/{prefix} dev eth0"));
                    stage.say(&format!("bound {address}/{prefix} by {server}"));
                }
                ClientOutput::Renewed { .. } => stage.say("renewed"),
                ClientOutput::Lost { reason } => stage.say(&format!("lost: {reason}")),
                ClientOutput::Declined { address } => stage.say(&format!("declined {address}")),
            }
        }
        let now = Instant::now();
        if client.next_timeout().is_none() {
            return stage.say("released");
        }
        if stage.stopped() {
            client.release(now, &mut out);
            continue;
        }
        client.timeout(now, &mut random, &mut out);
        for packet in stage.ports[0].receive().unwrap() {
            match packet.body {
                Body::Dhcp { message, .. } => client.handle(now, packet.source, &message, &mut random, &mut out),
                Body::Arp(arp) => client.arp(now, &arp, &mut out),
                Body::Mdns { .. } => {}
            }
        }
        if out.is_empty() {
            stage.wait(client.next_timeout());
        }
    }
}

/// A node whose home network is `eth0`, and whose VLAN is `eth1` in its place. A signal stops it.
#[test]
#[ignore = "other tests run this one"]
fn node() {
    let mut stage = Stage::new();
    let mac = mac("eth0");
    let setup = Setup {
        config: "interface = \"eth0\"".parse().unwrap(),
        key: Some(ClusterKey::new([0x5a; 32])),
        record: None,
        hardware: Hardware::default(),
        seed: [mac.0[5]; 32],
    };
    let link = |name: &str, index, kind| Link { index, name: name.to_owned(), kind, mac: Some(mac), up: true, carrier: true };
    let (lan, vlan) = (index("eth0"), index("eth1"));
    let kind = LinkKind::Vlan { id: 200, parent: lan };
    let mut events = VecDeque::from([Event::Listed(vec![link("eth0", lan, LinkKind::Wired), link("eth0.200", vlan, kind)])]);
    let (mut node, mut actions) = Node::start(setup, Instant::now());
    let mut stopping = false;
    loop {
        for action in actions.drain(..) {
            match action {
                Action::Open { .. } => {
                    stage.open(Wire::Lan, "eth0");
                    stage.open(Wire::Cluster, "eth1");
                    let text = word_after(&ip("-4 -o address show dev eth0"), "inet");
                    let (address, prefix) = text.split_once('/').expect("eth0 has an address");
                    let address = LanAddress { address: address.parse().unwrap(), prefix: prefix.parse().unwrap() };
                    events.push_back(Event::LanAddresses(vec![address]));
                }
                Action::AwaitFrame { .. } => events.push_back(Event::Heard),
                Action::Send { wire, packet } => {
                    stage.ports.iter().find(|port| port.wire == wire).unwrap().send(&packet).unwrap();
                }
                Action::SetAddress { address, prefix, .. } => {
                    ip(&format!("address replace {address}/{prefix} dev eth1"));
                }
                Action::DropAddress { address } => {
                    ip(&format!("address flush dev eth1 to {address}"));
                }
                Action::Log { from, to, reason } => stage.say(&format!("{from} -> {to}: {reason}")),
                Action::Stopped => return stage.say("stopped"),
                Action::BringUp { .. } | Action::CreateVlan { .. } | Action::RemoveVlan { .. } | Action::Close => {
                    panic!("there is no reason for {action:?}")
                }
                // What it keeps and shows is not asked for here.
                Action::Persist(_)
                | Action::Replicate { .. }
                | Action::SetHosts(_)
                | Action::SetMembers(_)
                | Action::SetHostName(_)
                | Action::TellReady
                | Action::Mark(_) => {}
            }
        }
        if stage.stopped() && !stopping {
            stopping = true;
            events.push_back(Event::Stopping);
        }
        for port in &stage.ports {
            let received = |packet| Event::Received { wire: port.wire, packet };
            events.extend(port.receive().unwrap().into_iter().map(received));
        }
        let due = node.next_timeout().map(|(at, _)| at);
        if due.is_some_and(|at| at <= Instant::now()) {
            events.push_back(Event::Timeout);
        }
        if let Some(event) = events.pop_front() {
            actions = node.handle(Instant::now(), event);
        } else {
            stage.wait(due);
        }
    }
}
