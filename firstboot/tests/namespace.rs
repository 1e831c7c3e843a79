//! The real program in a network namespace, on a veth pair: real netlink, real markers, a real notify socket.
//!
//! Markers come through a named pipe, notifications through a datagram socket; what neither tells is looked at until it is there. All
//! of it is bounded.

#![cfg(target_os = "linux")]

#[path = "common/shell.rs"]
mod shell;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::Path,
    process::{Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use self::shell::Shell;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hcl-firstboot");
/// How long a busy machine may take for what takes milliseconds.
const BOUND: Duration = Duration::from_secs(60);

/// A shell in a namespace of its own (network, host name) with a folder for the program's files.
struct Node {
    shell: Shell,
    markers: Receiver<String>,
    notify: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Node {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("etc")).unwrap();
        fs::write(at("etc/hostname"), "hcl-node\n").unwrap();
        fs::write(at("etc/hosts"), "127.0.0.1\tlocalhost\n127.0.1.1\thcl-node\n").unwrap();
        fs::write(at("node.toml"), config).unwrap();
        fs::write(at("cluster.key"), format!("{}\n", "5a".repeat(32))).unwrap();
        let notify = UnixDatagram::bind(at("notify")).unwrap();
        notify.set_read_timeout(Some(BOUND)).unwrap();
        assert!(Command::new("mkfifo").arg(at("console")).status().unwrap().success());
        // Open for both, so that the pipe never ends.
        let console = fs::File::options().read(true).write(true).open(at("console")).unwrap();
        let (sender, markers) = channel();
        thread::spawn(move || {
            for line in BufReader::new(console).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        // Its own processes end with it.
        let options = ["--map-root-user", "--net", "--uts", "--mount-proc", "--pid", "--fork", "--kill-child"];
        let shell = Shell::new(&options, Some(&at("notify")));
        let mut node = Self { shell, markers, notify, folder };
        node.sh("ip link set lo up && ip link add lan0 address 02:00:00:12:34:56 type veth peer name peer0");
        node
    }

    #[track_caller]
    fn sh(&mut self, command: &str) -> String {
        self.shell.sh(command)
    }

    fn arguments(&self) -> String {
        let at = self.folder.path().display();
        format!(
            "--config {at}/node.toml --run-dir {at}/run --etc {at}/etc --console {at}/console --key {at}/cluster.key --state {at}/lib/state --root {at}"
        )
    }

    fn start(&mut self) {
        let command = format!("{PROGRAM} run {} >{}/log 2>&1 & pid=$!", self.arguments(), self.folder.path().display());
        self.sh(&command);
    }

    fn stop(&mut self) {
        self.sh("kill $pid; wait $pid");
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    #[track_caller]
    fn expect(&self, lines: &[&str]) {
        for line in lines {
            match self.markers.recv_timeout(BOUND) {
                Ok(marker) => assert!(marker.starts_with(line), "{marker:?} instead of {line:?}\n{}", self.log()),
                Err(_) => panic!("no {line:?} within {BOUND:?}\n{}", self.log()),
            }
        }
    }

    #[track_caller]
    fn expect_notification(&self, wanted: &str) {
        let mut buffer = [0; 1024];
        let mut seen = String::new();
        for _ in 0..100 {
            let Ok(length) = self.notify.recv(&mut buffer) else { break };
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line.starts_with(wanted)) {
                return;
            }
            seen.push_str(&text);
        }
        panic!("systemd was not told {wanted:?} but\n{seen}");
    }

    fn status(&mut self) -> (i32, serde_json::Value) {
        let command =
            format!("{PROGRAM} status --json --config {0}/node.toml --run-dir {0}/run 2>/dev/null", self.folder.path().display());
        let (code, text) = self.shell.try_sh(&command);
        (code, serde_json::from_str(&text).unwrap_or_default())
    }
}

const BOOT: &str = "@hcl:boot@ 0.1.0 lab";

#[test]
fn the_interface_itself_through_its_life() {
    let mut node = Node::new("interface = \"lan0\"\nvlan = \"off\"\n");
    node.start();
    node.expect(&[BOOT, "@hcl:host@ node-123456"]);
    node.expect_notification("READY=1");
    assert_eq!(node.sh("uname -n").trim(), "node-123456");
    let file = |node: &Node, name: &str| fs::read_to_string(node.folder.path().join("etc").join(name)).unwrap();
    assert_eq!(file(&node, "hostname"), "node-123456\n");
    assert_eq!(file(&node, "hosts"), "127.0.0.1\tlocalhost\n127.0.1.1\tnode-123456\n");

    let (code, status) = node.status();
    assert_eq!((code, &status["state"]), (1, &"searching".into()), "{status}");

    node.sh("ip link set peer0 up");
    node.expect(&["@hcl:link@ lan0 up", "@hcl:ready@ lan0"]);
    node.expect_notification("STATUS=ready: lan0 is up");
    let (code, status) = node.status();
    assert_eq!(code, 0, "{status}");
    assert_eq!(status["interface"], "lan0");
    assert_eq!(status["cluster_interface"], "lan0");
    assert_eq!(status["vlan"], serde_json::Value::Null);
    assert_eq!(status["host_name"], "node-123456");

    node.sh("ip link set peer0 down");
    node.expect(&["@hcl:lost@ lan0 lost its carrier"]);
    node.sh("ip link set peer0 up");
    node.expect(&["@hcl:link@ lan0 up", "@hcl:ready@ lan0"]);
    // The adapter is pulled, and comes back as another device of the same name.
    node.sh("ip link del lan0");
    // The kernel sets a device down before it takes it away; whether the program still sees the first is its pace.
    node.expect(&["@hcl:lost@ lan0 "]);
    node.sh("ip link add lan0 type veth peer name peer0; ip link set peer0 up");
    node.expect(&["@hcl:link@ lan0 up", "@hcl:ready@ lan0"]);

    node.stop();
    node.expect_notification("STOPPING=1");
    assert!(node.sh("ip -o link show lan0").contains("LOWER_UP"), "the interface stays up");
    assert!(node.log().contains("searching -> attaching: lan0 has a carrier\n"), "{}", node.log());
    let (code, status) = node.status();
    assert_eq!((code, &status["running"]), (3, &false.into()));
}

#[test]
fn the_vlan_or_why_there_is_none() {
    let mut node = Node::new("interface = \"lan0\"\nhostname = \"pi\"\n");
    node.sh("ip link set peer0 up; ip link set lan0 up");
    // What this machine's kernel can is what `ip` can.
    let (refused, _) = node.shell.try_sh("ip link add link lan0 name probe type vlan id 9 && ip link del probe");
    node.start();
    node.expect(&[BOOT, "@hcl:host@ pi", "@hcl:link@ lan0 up"]);
    if refused != 0 {
        node.expect(&["@hcl:fault@ this kernel cannot make VLANs: module 8021q is missing;"]);
        node.expect_notification("STATUS=faulted: this kernel cannot make VLANs");
        let (code, status) = node.status();
        assert_eq!((code, &status["state"]), (1, &"faulted".into()), "{status}");
    } else {
        node.expect(&["@hcl:vlan@ lan0.200 id 200", "@hcl:ready@ lan0.200"]);
        assert!(node.sh("ip -d link show lan0.200").contains("id 200"));
        node.sh("ip link del lan0.200 && ip link add link lan0 name lan0.200 type vlan id 201");
        node.expect(&["@hcl:lost@ lan0.200"]);
    }
    // Either way the program goes on.
    node.stop();
}

#[test]
fn a_virtual_interface_is_not_taken_unasked() {
    let mut node = Node::new("");
    node.sh("ip link set peer0 up; ip link set lan0 up");
    node.start();
    node.expect(&[BOOT, "@hcl:wait@ for a wired interface: there is none"]);
    node.expect_notification("READY=1");
    // The engine starts now: what members have among themselves is closed, though nothing is known of the network yet.
    let table = node.sh("nft list table inet hcl_members");
    assert!(table.contains("tcp dport { 2376, 2377, 7946, 8300, 8301, 8302 } drop") && !table.contains("elements"), "{table}");
    node.stop();
}

#[test]
fn a_wrong_configuration_ends_the_program_and_is_told() {
    let mut node = Node::new("vlan = 4095\n");
    let arguments = node.arguments();
    let (code, text) = node.shell.try_sh(&format!("{PROGRAM} run {arguments}"));
    assert_eq!(code, 2, "{text}");
    let reason = "node.toml:1: key `vlan`: invalid value: integer `4095`, expected a VLAN id from 1 to 4094, or \"off\"";
    assert!(text.contains(reason), "{text}");
    assert!(node.sh("nft list table inet hcl_members").contains(" drop"), "a swarm of before is not open to all");
    let marker = node.markers.recv_timeout(BOUND).unwrap();
    assert!(marker.starts_with("@hcl:fault@ /") && marker.ends_with(reason), "{marker}");
    let (code, text) =
        node.shell.try_sh(&format!("{PROGRAM} status --config {0}/node.toml --run-dir {0}/run", node.folder.path().display()));
    assert_eq!(code, 3);
    assert!(text.contains("not running: its configuration is wrong: ") && text.contains(reason), "{text}");
}

#[test]
fn health_of_the_real_program() {
    let mut node = Node::new("interface = \"lan0\"\nvlan = \"off\"\n");
    // A kernel with all that the engine needs; that of this machine may be any.
    let release = node.sh("uname -r").trim().to_owned();
    let put = |path: &str, text: &str| {
        let path = node.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let modules = ["overlay", "bridge", "veth", "br_netfilter", "vxlan", "ip_vs"].map(|name| format!("kernel/{name}.ko:\n"));
    put(&format!("lib/modules/{release}/modules.dep"), &modules.concat());
    put("sys/fs/cgroup/cgroup.controllers", "memory\n");
    let arguments = format!(
        "--config {0}/node.toml --run-dir {0}/run --etc {0}/etc --state {0}/lib/state --root {0}",
        node.folder.path().display()
    );
    let health = format!("{PROGRAM} health {arguments}");
    let (code, text) = node.shell.try_sh(&health);
    assert_eq!(code, 3, "{text}");
    assert!(text.starts_with("[FAIL] hcl-firstboot is not running: ") && text.lines().count() == 1, "{text}");
    node.sh("ip link set peer0 up");
    node.start();
    node.expect(&[BOOT, "@hcl:host@ node-123456", "@hcl:link@ lan0 up", "@hcl:ready@ lan0", "@hcl:leader@ 192.168.200.1"]);
    // A founder has the leader's address first, its own one some probes later: the first answer is the right one.
    let (code, text) = node.shell.try_sh(&health);
    // Of engine, swarm and Consul there is nothing here; those lines come last.
    let (network, services) = text.split_once("[FAIL] hcl-cluster is not running").unwrap_or_else(|| panic!("{text}"));
    assert_eq!((code, network.matches("[PASS] ").count(), network.lines().count()), (1, 14, 14), "{text}");
    assert_eq!(services.lines().count(), 8, "{text}");
    for line in [
        "[PASS] the wired interface lan0 has a carrier\n",
        "[PASS] this node leads, at 192.168.200.1\n",
        "[PASS] the hosts file has `master` at 192.168.200.1\n",
        "[PASS] the firewall keeps ",
        "[PASS] what the node must remember is on the card",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    node.sh(&format!("root={}", node.folder.path().display()));
    // Behind the program's back: its status says nothing of it, the kernel does.
    for (harm, name, mend) in [
        ("ip addr add 192.168.200.99/24 dev lan0", "address", "ip addr del 192.168.200.99/24 dev lan0"),
        ("mv $root/sys/fs/cgroup $root/away", "kernel", "mv $root/away $root/sys/fs/cgroup"),
        (
            "nft add element inet hcl_members members '{ 192.168.200.99 }'",
            "members",
            "nft delete element inet hcl_members members '{ 192.168.200.99 }'",
        ),
        ("nft delete table inet hcl", "guard", "true"),
    ] {
        node.sh(harm);
        let (code, text) = node.shell.try_sh(&format!("{health} --json"));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let checks = value["checks"].as_array().unwrap().iter().take_while(|check| check["name"] != "services");
        let failed: Vec<_> = checks.filter(|check| check["pass"] == false).collect();
        assert_eq!((code, &value["healthy"], &value["running"]), (1, &false.into(), &true.into()), "{text}");
        assert!(failed.len() == 1 && failed[0]["name"] == name, "{harm}: {failed:?}");
        node.sh(mend);
    }
    let folder = node.folder.path().display().to_string();
    let story = node.sh(&format!("{PROGRAM} log --run-dir {folder}/run"));
    for line in [
        "  hcl-firstboot 0.1.0 started, for the cluster lab\n",
        "  lan0 has a carrier\n",
        "  the network is ready: lan0 is up\n",
        "  this node leads the cluster, at 192.168.200.1\n",
    ] {
        assert_eq!(story.matches(line).count(), 1, "{line} is not once in\n{story}");
    }
    assert_eq!(story.matches("has a carrier").count(), 1, "told twice\n{story}");
    // A systemctl that does what systemd would.
    let pid = node.sh("echo $pid").trim().to_owned();
    let ended = format!("while grep -q ') [^ZX] ' /proc/{pid}/stat; do :; done 2>/dev/null");
    fs::create_dir(node.folder.path().join("bin")).unwrap();
    let systemctl = node.folder.path().join("bin/systemctl");
    fs::write(&systemctl, format!("#!/bin/sh\necho $1 $2 >>{folder}/asked\nkill {pid}\n{ended}\n")).unwrap();
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(node.sh("ip -4 addr show dev lan0").contains("192.168.200."));
    let stop = format!("PATH={folder}/bin:$PATH {PROGRAM} stop {arguments}");
    let (code, text) = node.shell.try_sh(&stop);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("stopped hcl-firstboot\ntook 192.168.200."), "{text}");
    assert_eq!(node.sh(&format!("cat {folder}/asked")), "stop hcl-cluster.service\nstop hcl-firstboot.service\n");
    assert_eq!(node.sh("ip -4 addr show dev lan0; nft list ruleset"), "");
    let hosts = node.sh(&format!("cat {folder}/etc/hosts"));
    assert_eq!(hosts, "127.0.0.1\tlocalhost\n127.0.1.1\tnode-123456\n");
    assert_eq!(node.sh("cat /proc/sys/net/ipv4/conf/lan0/arp_ignore"), "0\n");
    // Told for good, and not done twice.
    let story = node.sh(&format!("{PROGRAM} log --run-dir {folder}/run"));
    let end = ["in no cluster: the program was asked to end", "`hcl stop` took back what was left of the cluster"];
    let told: Vec<&str> = story.lines().rev().take(2).filter_map(|line| line.split("  ").last()).collect();
    assert_eq!(told, [end[1], end[0]], "{story}");
    let (code, text) = node.shell.try_sh(&stop);
    let rest = "the host name stays; the next boot or `sudo hcl start` brings the node back";
    assert_eq!((code, text), (0, format!("hcl-firstboot was not running\nthere was nothing to take back\n{rest}\n")));
}

#[test]
fn what_needs_root_says_so() {
    for command in ["stop", "start", "health", "recover"] {
        // Without a name for root in there it is nobody.
        let output = Command::new("unshare").args(["--user", PROGRAM, command]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert_eq!(text, format!("hcl: `hcl {command}` needs root: `sudo hcl {command}`\n"));
    }
    for verb in ["poweroff", "reboot"] {
        let output = Command::new("unshare").args(["--user", PROGRAM, verb, "--all"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let wanted = format!("hcl: `hcl {verb} --all` needs root: `sudo hcl {verb} --all`\n");
        assert_eq!((output.status.code(), text.as_ref()), (Some(2), wanted.as_str()));
    }
}

#[test]
fn orders_without_the_program_that_gives_them() {
    let folder = tempfile::tempdir().unwrap();
    for (command, code, said) in [
        (vec!["poweroff", "--all"], 3, "hcl: hcl-cluster is not running, nothing was ordered: "),
        (vec!["recover", "--yes"], 3, "hcl: hcl-firstboot is not running: "),
        (
            vec!["poweroff"],
            2,
            "hcl: `hcl poweroff` is for all nodes of the cluster: `sudo hcl poweroff --all`; for this one alone: ",
        ),
    ] {
        let run = ["--map-root-user", PROGRAM, "--run-dir", folder.path().to_str().unwrap()];
        let output = Command::new("unshare").args(run).args(&command).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{command:?}: {text}");
        assert!(text.starts_with(said) && text.lines().count() == 1, "{command:?}: {text}");
    }
}

fn hcl(name: &Path, arguments: &[&str]) -> Output {
    Command::new(name).args(arguments).output().unwrap()
}

#[test]
fn called_as_hcl() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("hcl");
    std::os::unix::fs::symlink(PROGRAM, &link).unwrap();
    let output = hcl(&link, &["--version"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hcl 0.1.0\n");
    let output = hcl(&link, &["help"]);
    assert!(output.status.success() && output.stdout.starts_with(b"hcl: this node"));
    let output = hcl(&link, &["frobnicate"]);
    assert_eq!(output.status.code(), Some(2));
    let output = hcl(&link, &["report"]);
    assert!(output.status.success() && output.stdout.starts_with(b"hcl report of hcl 0.1.0\n\nLeft out: "));
    // Nobody reads: no panic.
    let mut child = Command::new(&link).arg("help").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((child.wait().unwrap().code(), errors.as_str()), (Some(0), ""));
}
