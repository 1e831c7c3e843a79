//! Nodes on a switch that knows VLANs, all of it in one [`Vm`].

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    net::Ipv4Addr,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use hcl_firstboot::wire::mdns::Service;
use hcl_image::lab::frame::Mac;
use serde_json::Value;

use super::{
    vm::Vm,
    wire::{self, Kind, Sent},
};

/// How long is waited for what should come: on a wire that speaks a leader takes five seconds, behind a mute port 40; three times
/// that, since the machine is emulated.
pub const BOUND: Duration = Duration::from_secs(120);
/// The leader's address.
pub const LEADER: Ipv4Addr = Ipv4Addr::new(192, 168, 200, 1);
/// A machine of the home network.
const TELEVISION: (&str, Mac) = ("tv", Mac([2, 0, 0, 0xff, 0, 1]));

pub struct Lab {
    pub vm: Vm,
    /// Nodes made so far, for addresses that are never used again.
    made: u16,
}

/// A card in its Pi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub mac: Mac,
    /// Its address on the home network.
    pub home: Ipv4Addr,
}

/// What is on the card.
#[derive(Clone, Copy)]
pub struct Card {
    pub key: u8,
    pub vlan: u16,
    /// One more line of the configuration.
    pub line: &'static str,
}

pub const CARD: Card = Card { key: 0x5a, vlan: 200, line: "" };

impl Node {
    /// The name by which the home network knows it.
    pub fn mdns_name(&self) -> String {
        let [.., a, b, c] = self.mac.0;
        format!("node-{a:02x}{b:02x}{c:02x}.local")
    }
}

impl Lab {
    /// A switch, made with the options `switch` of `ip link add … type bridge`; on its home network a television that asks for
    /// something once a second, as homes do.
    pub fn new(switch: &str, limit: Duration) -> Self {
        let mut lab = Self::silent(switch, limit);
        let (name, mac) = TELEVISION;
        lab.vm.sh(&format!("plug {name} {mac} && ip -n {name} address add 10.77.0.253/24 dev eth0"));
        lab.vm.sh(&format!("ip -n {name} link set eth0 up"));
        lab.vm.sh(&format!("ip netns exec {name} busybox arping -q -I eth0 10.77.0.254 >/dev/null 2>&1 &"));
        lab
    }

    pub fn television(&self) -> Mac {
        TELEVISION.1
    }

    /// A switch with nobody on it.
    pub fn silent(switch: &str, limit: Duration) -> Self {
        let files = [
            ("init.sh", include_bytes!("init.sh").to_vec()),
            ("lab.sh", include_bytes!("lab.sh").to_vec()),
            ("original.pl", include_bytes!("original.pl").to_vec()),
            ("hcl-firstboot", fs::read(named("HCL_NODE_PROGRAM", "make node")).unwrap()),
        ];
        let mut vm = Vm::boot(&named("HCL_IMAGE", "make image"), &files, limit);
        vm.sh(&format!("switch {switch}"));
        Self { vm, made: 0 }
    }

    /// A node that is off.
    pub fn node(&mut self, card: Card) -> Node {
        self.made += 1;
        let [high, low] = self.made.to_be_bytes();
        let node = Node {
            name: format!("n{}", self.made),
            mac: Mac([2, 0, 0, 0x4c, high, low]),
            home: Ipv4Addr::new(10, 77, high + 1, low),
        };
        let Card { key, vlan, line } = card;
        let key = format!("{key:02x}").repeat(32);
        self.vm.sh(&format!("node {} {} {} {vlan} {key} '{line}'", node.name, node.mac, node.home));
        node
    }

    pub fn nodes(&mut self, count: usize) -> Vec<Node> {
        (0..count).map(|_| self.node(CARD)).collect()
    }

    /// Powers `nodes` on together; the uptime of the machine at that moment.
    pub fn power(&mut self, nodes: &[Node]) -> Duration {
        let seconds: f64 = self.vm.sh(&format!("power {}", names(nodes))).trim().parse().unwrap();
        Duration::from_secs_f64(seconds)
    }

    /// Lets `nodes` do what the original Cluster Lab did, as `original.pl` has it.
    pub fn as_original(&mut self, nodes: &[Node]) {
        self.vm.sh(&format!("original {}", names(nodes)));
    }

    /// The lines that each of them told.
    pub fn told(&mut self, nodes: &[Node]) -> Vec<String> {
        self.parts("told", nodes)
    }

    /// The power cut; the nodes are gone for good.
    pub fn off(&mut self, nodes: &[Node]) {
        self.vm.sh(&format!("off {}", names(nodes)));
    }

    pub fn statuses(&mut self, nodes: &[Node]) -> Vec<Value> {
        let parts = self.parts("statuses", nodes);
        parts.into_iter().map(|text| serde_json::from_str(&text).unwrap_or_default()).collect()
    }

    /// The addresses that the kernel of each node holds on the cluster's network.
    pub fn addresses(&mut self, nodes: &[Node]) -> Vec<Vec<Ipv4Addr>> {
        let of = |text: &String| {
            let words = text.split_whitespace().filter_map(|word| word.split_once('/')?.0.parse::<Ipv4Addr>().ok());
            words.filter(|address| address.octets()[0] == 192).collect()
        };
        self.parts("addresses", nodes).iter().map(of).collect()
    }

    /// Until `what` of the statuses of all `nodes` holds.
    #[track_caller]
    pub fn until(&mut self, nodes: &[Node], goal: &str, what: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let end = Instant::now() + BOUND;
        loop {
            let statuses = self.statuses(nodes);
            if what(&statuses) {
                return statuses;
            }
            assert!(Instant::now() < end, "not within {BOUND:?}: {goal}\n{}", self.story(nodes, &statuses));
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// One leader, all others followers with leases, all of them known to all, no address twice, .1 at one; the leader's place in
    /// `nodes`, and their statuses.
    #[track_caller]
    pub fn until_formed(&mut self, nodes: &[Node]) -> (usize, Vec<Value>) {
        let member = |status: &Value| {
            let follows = status["role"] == "follower" && status["lease"].is_object();
            let members = status["members"].as_array().map_or(0, Vec::len);
            (leads(status) || follows) && status["address"].is_string() && members == nodes.len()
        };
        let statuses = self.until(nodes, "one cluster of all", |statuses| statuses.iter().all(member));
        let story = self.story(nodes, &statuses);
        let leaders: Vec<_> = (0..nodes.len()).filter(|place| leads(&statuses[*place])).collect();
        assert_eq!(leaders.len(), 1, "{leaders:?} lead\n{story}");
        let mut holders: BTreeMap<Ipv4Addr, Vec<usize>> = BTreeMap::new();
        for (place, addresses) in self.addresses(nodes).into_iter().enumerate() {
            assert!(addresses.contains(&address(&statuses[place])), "node {place} has {addresses:?}\n{story}");
            addresses.into_iter().for_each(|address| holders.entry(address).or_default().push(place));
        }
        assert!(holders.values().all(|places| places.len() == 1), "{holders:?}\n{story}");
        let [a, b, c, _] = address(&statuses[0]).octets();
        assert_eq!(holders.get(&Ipv4Addr::new(a, b, c, 1)), Some(&leaders), "{story}");
        assert_eq!(holders.len(), nodes.len() + 1, "{holders:?}\n{story}");
        (leaders[0], statuses)
    }

    /// Until all `nodes` told their names at home, and the one in place `leader` that it is `master`.
    #[track_caller]
    pub fn until_named(&mut self, nodes: &[Node], leader: usize) {
        let end = Instant::now() + BOUND;
        let told = |said: &BTreeMap<Mac, BTreeSet<Kind>>, node: &Node, name: &str| {
            said.get(&node.mac)
                .is_some_and(|kinds| kinds.iter().any(|kind| matches!(kind, Kind::Names(names) if names.contains(name))))
        };
        loop {
            let macs: Vec<_> = nodes.iter().map(|node| node.mac).collect();
            let said = wire::at_home(&self.sent(), &macs);
            let all = nodes.iter().all(|node| told(&said, node, &node.mdns_name()));
            if all && told(&said, &nodes[leader], "master.local") {
                return;
            }
            assert!(Instant::now() < end, "not all named within {BOUND:?}: {said:?}");
            thread::sleep(Duration::from_millis(500));
        }
    }

    /// All that stations sent so far.
    pub fn sent(&self) -> Vec<Sent> {
        wire::read(&self.vm.capture())
    }

    /// Until the capture shows that `node` took back `services`, and nothing more than these.
    #[track_caller]
    pub fn until_goodbye(&self, node: &Node, services: &[Service]) {
        let end = Instant::now() + BOUND;
        loop {
            let sent = self.sent();
            let mut taken_back: Vec<_> = sent.iter().filter(|sent| sent.by == node.mac).filter_map(wire::goodbye).collect();
            taken_back.sort();
            if taken_back.len() >= services.len() {
                return assert_eq!(taken_back, services);
            }
            assert!(Instant::now() < end, "{} took back {taken_back:?} alone within {BOUND:?}", node.name);
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn uptime(&mut self) -> Duration {
        let text = self.vm.sh("cat /proc/uptime");
        Duration::from_secs_f64(text.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap())
    }

    /// For scenarios in which something happens at a certain time.
    pub fn until_uptime(&mut self, at: Duration) {
        let left = at.saturating_sub(self.uptime());
        self.vm.sh(&format!("sleep {}", left.as_secs_f64()));
    }

    /// The state of the switch's port to `node`, as the kernel numbers them: 1 listening, 2 learning, 3 forwarding.
    pub fn port_state(&mut self, node: &Node) -> u8 {
        self.vm.sh(&format!("cat /sys/class/net/v{}/brport/state", node.name)).trim().parse().unwrap()
    }

    /// Until something came to `node`.
    #[track_caller]
    pub fn until_spoken_to(&mut self, node: &Node) {
        let end = Instant::now() + BOUND;
        let count = format!("ip netns exec {} cat /sys/class/net/eth0/statistics/rx_packets", node.name);
        while self.vm.sh(&count).trim() == "0" {
            assert!(Instant::now() < end, "nothing came to {} within {BOUND:?}", node.name);
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Whether the switch lets tag `vlan` pass to `nodes`.
    pub fn pass(&mut self, nodes: &[Node], vlan: u16, pass: bool) {
        let verb = if pass { "add" } else { "del" };
        for node in nodes {
            self.vm.sh(&format!("bridge vlan {verb} vid {vlan} dev v{}", node.name));
        }
    }

    pub fn signal(&mut self, signal: &str, node: &Node) {
        self.vm.sh(&format!("signal {signal} {}", node.name));
    }

    /// Asks the program to end, and waits until it has; it must say that all went well.
    #[track_caller]
    pub fn stop(&mut self, node: &Node) {
        self.vm.sh(&format!("signal TERM {0} && wait $(cat $work/{0}/pid)", node.name));
    }

    /// Until the kernel of `node` has dropped `address`, `limit` at most on the machine's clock; how long that took.
    #[track_caller]
    pub fn until_gone(&mut self, node: &Node, address: Ipv4Addr, limit: Duration) -> Duration {
        let seconds = self.vm.sh(&format!("gone {} {address} {}", node.name, limit.as_millis() / 10));
        Duration::from_millis(seconds.trim().parse::<u64>().unwrap() * 10)
    }

    fn parts(&mut self, command: &str, nodes: &[Node]) -> Vec<String> {
        let text = self.vm.sh(&format!("{command} {}", names(nodes)));
        let mut parts: Vec<String> = Vec::new();
        for line in text.lines() {
            match parts.last_mut() {
                _ if line.starts_with('@') => parts.push(String::new()),
                Some(part) => *part += &format!("{line}\n"),
                None => panic!("{text}"),
            }
        }
        assert_eq!(parts.len(), nodes.len(), "{text}");
        parts
    }

    /// What a person wants to see where something failed.
    pub fn story(&mut self, nodes: &[Node], statuses: &[Value]) -> String {
        let mut story = String::new();
        for (node, status) in nodes.iter().zip(statuses) {
            let (_, log) = self.vm.try_sh(&format!("tail -n 15 $work/{}/log", node.name));
            story += &format!("{} {}: {status:#}\n{log}\n", node.name, node.mac);
        }
        story
    }
}

fn names(nodes: &[Node]) -> String {
    nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(" ")
}

pub fn leads(status: &Value) -> bool {
    status["role"] == "leader"
}

pub fn address(status: &Value) -> Ipv4Addr {
    status["address"].as_str().and_then(|text| text.parse().ok()).unwrap_or(Ipv4Addr::UNSPECIFIED)
}

/// How often each scenario runs.
pub fn rounds() -> u32 {
    let text = env::var("HCL_VLAN_ROUNDS").unwrap_or_else(|_| "1".to_owned());
    text.parse()
        .ok()
        .filter(|rounds| *rounds > 0)
        .unwrap_or_else(|| panic!("HCL_VLAN_ROUNDS is `{text}`: it is a number from 1 on"))
}

/// The file that a variable names.
fn named(variable: &str, made_by: &str) -> PathBuf {
    let path = PathBuf::from(env::var_os(variable).unwrap_or_else(|| panic!("{variable} names what `{made_by}` makes")));
    assert!(path.is_file(), "{} is no file: run {made_by}", path.display());
    path
}
