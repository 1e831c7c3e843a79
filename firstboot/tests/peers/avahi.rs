//! Avahi as the judge of what we announce: on a machine of its own, and beside a node on the same port.

use std::fs;

use hcl_firstboot::{
    key::{ClusterKey, Seals},
    node::notice,
    wire::mdns::{Data, Name, Record, Service},
};

use super::{
    alone,
    lab::{Lab, formed, leads},
};

const BROWSE: &str = "timeout 20 avahi-browse -rt _cluster._tcp";
/// What stands in each line of its log about a message that is bad, or that claims what it has itself.
const COMPLAINTS: [&str; 2] = ["Received ", "onflict"];

fn seals() -> Seals {
    ClusterKey::new([0x5a; 32]).seals()
}

/// A service that `avahi-browse -r` resolved.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    instance: String,
    host: String,
    address: String,
    port: String,
    texts: Vec<String>,
}

/// All that `avahi-browse -r` resolved: a line with `=`, then four that are indented.
fn found(text: &str) -> Vec<Found> {
    let mut lines = text.lines();
    let mut all = Vec::new();
    while let Some(line) = lines.by_ref().find(|line| line.starts_with('=')) {
        let instance = line.split_whitespace().nth(3).unwrap_or_default().to_owned();
        let mut value = |key: &str| {
            let line = lines.next().unwrap_or_default().trim();
            let value = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(" = [")?.strip_suffix(']'));
            value.unwrap_or_else(|| panic!("{line:?} is no {key} in\n{text}")).to_owned()
        };
        let (host, address, port) = (value("hostname"), value("address"), value("port"));
        let texts = value("txt").split('"').filter(|part| !part.trim().is_empty()).map(str::to_owned).collect();
        all.push(Found { instance, host, address, port, texts });
    }
    all
}

/// Avahi on `host`, under `name`; the commands that talk to it come after what this returns.
fn avahi(lab: &mut Lab, host: usize, name: &str) -> String {
    let bus = lab.bus(host);
    let config = lab.at(host, "avahi.conf").display().to_string();
    // It minds the TTL of what comes (RFC 6762, section 11) only when told to.
    let text = format!("[server]\nhost-name={name}\nuse-ipv6=no\nallow-interfaces=eth0\ncheck-response-ttl=yes\n");
    fs::write(&config, text).unwrap();
    lab.start(host, "avahi", &bus, &format!("avahi-daemon -f {config} --no-drop-root --no-chroot --no-rlimits --debug"));
    lab.until_line(host, "avahi.log", "Server startup complete");
    bus
}

/// A machine of the wire with this address, and Avahi on it.
fn judge(lab: &mut Lab, address: &str) -> (usize, String) {
    let host = lab.host();
    lab.on(host, &format!("ip address add {address}/24 dev eth0"));
    let bus = avahi(lab, host, "judge");
    (host, bus)
}

#[track_caller]
fn no_complaints(lab: &Lab, host: usize) {
    no_complaints_but(lab, host, |_| false);
}

#[track_caller]
fn no_complaints_but(lab: &Lab, host: usize, expected: impl Fn(&str) -> bool) {
    let log = lab.text(host, "avahi.log");
    for complaint in COMPLAINTS {
        assert!(!log.lines().any(|line| line.contains(complaint) && !expected(line)), "{complaint:?} in\n{log}");
    }
}

/// Browses on `host` until so many leaders are there.
#[track_caller]
fn browse(lab: &mut Lab, host: usize, bus: &str, count: usize) -> Vec<Found> {
    found(&lab.until_said(host, &format!("{bus}; {BROWSE}"), |text| found(text).len() == count))
}

#[test]
fn avahi_sees_one_announcement_until_the_goodbye() {
    let mut lab = Lab::new();
    let (judge, bus) = judge(&mut lab, "192.168.200.250");
    let nodes = [lab.node("5a"), lab.node("5a")];
    let leader = formed(&lab, &nodes);
    // The leader tells of its second member a moment after that.
    let told = |text: &str| found(text).len() == 1 && text.contains("\"n=2\"");
    let all = found(&lab.until_said(judge, &format!("{bus}; {BROWSE}"), told));
    let seals = seals();
    let instance = format!("Cluster-Leader-{}", seals.cluster().short());
    let Found { host, address, port, texts, .. } = &all[0];
    assert_eq!(all[0].instance, instance);
    assert_eq!(
        (host.as_str(), address.as_str(), port.as_str()),
        (&*format!("{}.local", instance.to_lowercase()), "192.168.200.1", "8500")
    );
    // What came through Avahi still bears the seal, and says what the leader says of itself.
    let data = Data::Txt(texts.iter().rev().map(|text| text.clone().into_bytes()).collect());
    let record = Record { name: Name::Instance(Service::Leader, instance), ttl: 120, flush: true, data };
    let (notices, _) = notice::read(&[record], &seals);
    let status = lab.status(leader);
    assert_eq!(notices.len(), 1, "{texts:?}");
    assert_eq!(notices[0].address.to_string(), *address);
    assert_eq!((notices[0].members, notices[0].name.as_str()), (2, status["leader"]["name"].as_str().unwrap()), "{status:#}");
    // Members are another type.
    let members = lab.on(judge, &format!("{bus}; timeout 20 avahi-browse -rt _cluster-member._tcp"));
    assert_eq!(found(&members).len(), 2, "{members}");

    // Who leaves without a word is there until its time is over, and who says goodbye is not.
    lab.kill(leader);
    assert_eq!(browse(&mut lab, judge, &bus, 1), all);
    lab.run(leader);
    lab.until(leader, leads);
    lab.sh(&format!("kill $n{leader}; wait $n{leader}"));
    browse(&mut lab, judge, &bus, 0);
    no_complaints(&lab, judge);
}

#[test]
fn avahi_works_beside_a_node() {
    let mut lab = Lab::new();
    let (judge, bus) = judge(&mut lab, "192.168.200.250");
    // It is there first, with the name that the node is going to have.
    let first = lab.host();
    let beside = avahi(&mut lab, first, &format!("node-0000{first:02x}"));
    lab.install(first, "5a");
    lab.run(first);
    lab.until(first, leads);
    lab.on(first, "ss -lunp | grep -q :5353");
    let second = lab.node("5a");
    assert_eq!(formed(&lab, &[first, second]), first);
    assert_eq!(browse(&mut lab, judge, &bus, 1).len(), 1);
    // Both answer for the one name, each with an address that the machine has.
    let has = lab.on(first, "ip -4 -o address show dev eth0");
    let name = format!("node-0000{first:02x}.local");
    let said =
        lab.until_said(judge, &format!("{bus}; timeout 20 avahi-resolve -4 -n {name} 2>&1"), |text| text.contains("192.168"));
    let address = said.split_whitespace().nth(1).unwrap_or_default();
    assert!(has.contains(&format!(" {address}/")), "{said} is none of\n{has}");
    // What is beside a node hears the others, and they hear it.
    let name = format!("node-0000{second:02x}.local");
    lab.until_said(first, &format!("{beside}; timeout 20 avahi-resolve -4 -n {name} 2>&1"), |text| text.contains("192.168"));
    lab.start(first, "publish", &beside, "avahi-publish -s Cluster-Leader-0badcafe _cluster._tcp 8500");
    let all = browse(&mut lab, judge, &bus, 2);
    assert!(all.iter().any(|found| found.instance == "Cluster-Leader-0badcafe"), "{all:?}");
    assert!(leads(&lab.status(first)));
    no_complaints(&lab, judge);
    // A founder's leader address gets a prefix of its own once the node has its own address. Avahi withdraws it, adds it again, and
    // meanwhile takes a probe with it, of this very machine, for another machine's.
    no_complaints_but(&lab, first, |line| line.contains("IN\tA 192.168.200.1 ;") && line.ends_with("Local host won."));
    // It would say so.
    lab.on(first, "bash -c \"printf hostile >/dev/udp/192.168.200.250/5353\"");
    lab.until_line(judge, "avahi.log", COMPLAINTS[0]);
}

#[test]
fn avahi_resolves_a_nodes_names_on_the_home_network() {
    let mut lab = Lab::new();
    lab.wire("vlan");
    let (judge, bus) = judge(&mut lab, "192.168.1.250");
    let node = lab.host();
    lab.plug(node, "eth1", "vlan");
    lab.on(node, "ip address add 192.168.1.7/24 dev eth0");
    let name = format!("node-0000{node:02x}");
    alone::start(&mut lab, node, "node");
    lab.until_line(node, "told", "-> leading");
    let resolve = |name: &str| format!("{bus}; timeout 20 avahi-resolve -4 -n {name}.local 2>&1");
    for name in [&*name, "master"] {
        let said = lab.until_said(judge, &resolve(name), |text| !text.contains("Failed"));
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), [&format!("{name}.local"), "192.168.1.7"]);
    }
    // Nothing else of the cluster is on this network.
    let services = lab.on(judge, &format!("{bus}; timeout 20 avahi-browse -at"));
    assert!(!services.contains("cluster"), "{services}");
    // Avahi beside the node takes the same name with the same address, and has it still when the node is gone.
    avahi(&mut lab, node, &name);
    lab.sh(&format!("kill $alone{node}; wait $alone{node}"));
    assert!(lab.text(node, "told").ends_with("stopped\n"));
    lab.until_said(judge, &resolve("master"), |text| text.contains("Failed"));
    lab.until_said(judge, &resolve(&name), |text| text.contains("192.168.1.7"));
    for host in [judge, node] {
        no_complaints(&lab, host);
    }
}
