//! Several nodes and foreign machines on one wire: the real program and DHCP clients of others, in namespaces on a bridge.
//!
//! The bridge carries no VLAN here, `vlan = "off"`; tags are real in the boot of the image (`hcl-image test --nodes 3`). What is
//! waited for is looked at until it is there, for a bounded time; a client that is not installed fails its test.

#![cfg(target_os = "linux")]

#[path = "common/shell.rs"]
mod shell;

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use self::shell::Shell;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hcl-firstboot");
/// On a wire that speaks a leader takes five seconds; on one that is silent 40.
const BOUND: Duration = Duration::from_secs(120);

/// A wire, as a bridge in a namespace of its own; all that runs in there ends with it.
struct Lab {
    shell: Shell,
    folder: tempfile::TempDir,
    hosts: usize,
}

impl Lab {
    fn new() -> Self {
        let shell = Shell::new(&["--map-root-user", "--net", "--mount-proc", "--pid", "--fork", "--kill-child"], None);
        let mut lab = Self { shell, folder: tempfile::tempdir().unwrap(), hosts: 0 };
        lab.sh("ip link set lo up && ip link add br0 type bridge forward_delay 0 && ip link set br0 up");
        lab
    }

    #[track_caller]
    fn sh(&mut self, command: &str) -> String {
        self.shell.sh(command)
    }

    /// A machine on the wire.
    fn host(&mut self) -> usize {
        self.hosts += 1;
        let number = self.hosts;
        self.sh(&format!("unshare --net --uts sleep 3600 & h{number}=$!"));
        // The child is in its namespace once that is another one than ours.
        self.sh(&format!("while [ \"$(readlink /proc/$h{number}/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ]; do :; done"));
        self.sh(&format!("ip link add v{number} type veth peer name eth0 address 02:00:00:00:00:{number:02x} netns $h{number}"));
        self.sh(&format!("ip link set v{number} master br0 up"));
        self.on(number, "ip link set lo up && ip link set eth0 up");
        number
    }

    #[track_caller]
    fn on(&mut self, host: usize, command: &str) -> String {
        self.sh(&format!("nsenter -t $h{host} -n -u sh -c '{command}'"))
    }

    fn at(&self, host: usize, name: &str) -> PathBuf {
        self.folder.path().join(format!("host{host}")).join(name)
    }

    /// A node that runs, its key made of `key`.
    fn node(&mut self, key: &str) -> usize {
        let host = self.host();
        fs::create_dir_all(self.at(host, "etc")).unwrap();
        fs::write(self.at(host, "etc/hostname"), "hcl-node\n").unwrap();
        fs::write(self.at(host, "etc/hosts"), "127.0.0.1\tlocalhost\n").unwrap();
        fs::write(self.at(host, "node.toml"), "interface = \"eth0\"\nvlan = \"off\"\n").unwrap();
        fs::write(self.at(host, "console"), "").unwrap();
        fs::write(self.at(host, "key"), format!("{}\n", key.repeat(32))).unwrap();
        self.run(host);
        host
    }

    fn run(&mut self, host: usize) {
        let at = self.at(host, "").display().to_string();
        let options = format!(
            "--config {at}node.toml --run-dir {at}run --etc {at}etc --console {at}console --key {at}key --state {at}lib/state --root {at}"
        );
        self.sh(&format!("nsenter -t $h{host} -n -u {PROGRAM} run {options} >>{at}log 2>&1 & n{host}=$!"));
    }

    fn status(&self, host: usize) -> Value {
        let text = fs::read(self.at(host, "run/status.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Until `what` of the status of `host` holds.
    #[track_caller]
    fn until(&self, host: usize, what: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + BOUND;
        loop {
            let status = self.status(host);
            if what(&status) {
                return status;
            }
            let log = || fs::read_to_string(self.at(host, "log")).unwrap_or_default();
            assert!(Instant::now() < end, "host {host} after {BOUND:?}: {status:#}\n{}", log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    fn until_line(&self, host: usize, file: &str, start: &str) -> String {
        let end = Instant::now() + BOUND;
        loop {
            let text = fs::read_to_string(self.at(host, file)).unwrap_or_default();
            if let Some(line) = text.lines().find(|line| line.starts_with(start)) {
                return line.to_owned();
            }
            assert!(Instant::now() < end, "no line {start:?} in {file} of host {host}:\n{text}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A script for a DHCP client that only writes down what it was told.
    fn script(&self, host: usize, reason: &str, address: &str) -> String {
        fs::create_dir_all(self.at(host, "")).unwrap();
        let (script, told) = (self.at(host, "script"), self.at(host, "told"));
        fs::write(&script, format!("#!/bin/sh\necho \"{reason} {address} ${{router}}${{new_routers}}\" >>{}\n", told.display()))
            .unwrap();
        let mut rights = fs::metadata(&script).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o755);
        fs::set_permissions(&script, rights).unwrap();
        script.display().to_string()
    }
}

fn leads(status: &Value) -> bool {
    status["role"] == "leader"
}

fn is_member(status: &Value) -> bool {
    leads(status) || status["role"] == "follower"
}

/// The number of the leader, once all of `nodes` are members and know each other.
fn formed(lab: &Lab, nodes: &[usize]) -> usize {
    for node in nodes {
        lab.until(*node, |status| is_member(status) && status["members"].as_array().is_some_and(|all| all.len() == nodes.len()));
    }
    let leaders: Vec<_> = nodes.iter().copied().filter(|node| leads(&lab.status(*node))).collect();
    assert_eq!(leaders.len(), 1, "{leaders:?} lead");
    leaders[0]
}

#[test]
fn nodes_that_start_together_are_one_cluster_and_come_back_as_it() {
    let mut lab = Lab::new();
    let nodes: Vec<_> = (0..4).map(|_| lab.node("5a")).collect();
    let leader = formed(&lab, &nodes);
    let before: Vec<_> = nodes.iter().map(|node| lab.status(*node)["address"].clone()).collect();
    let mut distinct: Vec<_> = before.iter().map(Value::to_string).collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), nodes.len());
    assert!(lab.on(leader, "ip -4 -o address show dev eth0").contains("192.168.200.1/24"));
    // Power off, without a word.
    for node in &nodes {
        lab.sh(&format!("kill -9 $n{node}; wait $n{node} 2>/dev/null; true"));
        fs::remove_dir_all(lab.at(*node, "run")).unwrap();
        lab.on(*node, "ip address flush dev eth0");
        lab.run(*node);
    }
    assert_eq!(formed(&lab, &nodes), leader);
    let after: Vec<_> = nodes.iter().map(|node| lab.status(*node)["address"].clone()).collect();
    assert_eq!(after, before);
}

#[test]
fn foreign_clients_get_an_address_for_strangers_and_no_router() {
    let mut lab = Lab::new();
    let node = lab.node("5a");
    lab.until(node, leads);
    let in_range = |line: &str| {
        let word = line.split(' ').nth(1).unwrap_or_default();
        let number: u8 = word.strip_prefix("192.168.200.").and_then(|number| number.parse().ok()).unwrap_or(0);
        assert!((200..=254).contains(&number), "{line:?}");
        assert_eq!(line.split(' ').nth(2), Some(""), "no router was to be told: {line:?}");
        word.to_owned()
    };
    let udhcpc = lab.host();
    let script = lab.script(udhcpc, "$1", "$ip");
    lab.sh(&format!("nsenter -t $h{udhcpc} -n udhcpc -f -i eth0 -s {script} >/dev/null 2>&1 & udhcpc=$!"));
    let bound = in_range(&lab.until_line(udhcpc, "told", "bound"));
    lab.sh("kill -USR1 $udhcpc");
    assert_eq!(in_range(&lab.until_line(udhcpc, "told", "renew")), bound);
    let dhclient = lab.host();
    let script = lab.script(dhclient, "$reason", "$new_ip_address");
    let at = lab.at(dhclient, "").display().to_string();
    lab.sh(&format!(
        "nsenter -t $h{dhclient} -n dhclient -1 -d -sf {script} -lf {at}leases -pf {at}pid eth0 >{at}log 2>&1 & dhclient=$!"
    ));
    assert_ne!(in_range(&lab.until_line(dhclient, "told", "BOUND")), bound);
    lab.until(node, |status| status["strangers"] == 2);
}

#[test]
fn of_two_keys_one_runs_and_the_other_explains() {
    let mut lab = Lab::new();
    let first = lab.node("5a");
    lab.until(first, leads);
    let second = lab.node("7b");
    let status = lab.until(second, |status| status["complaints"].as_array().is_some_and(|all| !all.is_empty()));
    assert_eq!(status["role"], "none", "{status:#}");
    let complaint = status["complaints"][0].as_str().unwrap_or_default();
    assert!(
        complaint.contains("with another key leads at 192.168.200.1") && complaint.contains("--set node.vlan=201"),
        "{complaint}"
    );
    assert!(leads(&lab.status(first)));
}

#[test]
fn a_foreign_host_at_the_leaders_address_is_respected() {
    let mut lab = Lab::new();
    let foreign = lab.host();
    lab.on(foreign, "ip address add 192.168.200.1/24 dev eth0");
    let node = lab.node("5a");
    let status = lab.until(node, |status| status["complaints"].as_array().is_some_and(|all| !all.is_empty()));
    let complaint = status["complaints"][0].as_str().unwrap_or_default();
    assert!(
        complaint.contains("192.168.200.1 belongs to a machine that is no node of this lab (02:00:00:00:00:01)"),
        "{complaint}"
    );
    assert!(!lab.on(node, "ip -4 -o address show dev eth0").contains("192.168.200.1/"));
}
