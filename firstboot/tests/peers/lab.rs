//! A wire with machines on it, each in a namespace of its own.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::shell::Shell;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hcl-firstboot");
/// On a wire that speaks a leader takes five seconds; on one that is silent 40.
const BOUND: Duration = Duration::from_secs(120);
/// Programs of others, and the Debian package of each.
const PACKAGES: [(&str, &str); 11] = [
    ("avahi-browse", "avahi-utils"),
    ("avahi-daemon", "avahi-daemon"),
    ("avahi-publish", "avahi-utils"),
    ("avahi-resolve", "avahi-utils"),
    ("dbus-daemon", "dbus-daemon"),
    ("dnsmasq", "dnsmasq-base"),
    ("dhclient", "isc-dhcp-client"),
    ("kea-dhcp4", "kea-dhcp4-server"),
    ("/lib/systemd/systemd-networkd", "systemd"),
    ("networkctl", "systemd"),
    ("udhcpc", "udhcpc"),
];

/// A wire, as a bridge in a namespace of its own; all that runs in there ends with it.
pub struct Lab {
    shell: Shell,
    folder: tempfile::TempDir,
    hosts: usize,
}

impl Lab {
    pub fn new() -> Self {
        let shell = Shell::new(&["--map-root-user", "--net", "--mount-proc", "--pid", "--fork", "--kill-child"], None);
        let mut lab = Self { shell, folder: tempfile::tempdir().unwrap(), hosts: 0 };
        lab.sh("ip link set lo up");
        lab.wire("br0");
        lab
    }

    #[track_caller]
    pub fn sh(&mut self, command: &str) -> String {
        self.shell.sh(command)
    }

    /// A machine on the wire.
    pub fn host(&mut self) -> usize {
        self.hosts += 1;
        let number = self.hosts;
        fs::create_dir_all(self.at(number, "")).unwrap();
        self.sh(&format!("unshare --net --uts sleep 3600 & h{number}=$!"));
        // The child is in its namespace once that is another one than ours.
        self.sh(&format!("while [ \"$(readlink /proc/$h{number}/ns/net)\" = \"$(readlink /proc/self/ns/net)\" ]; do :; done"));
        self.on(number, "ip link set lo up");
        self.plug(number, "eth0", "br0");
        number
    }

    /// Another wire than `br0`, which is there from the start.
    pub fn wire(&mut self, name: &str) {
        self.sh(&format!("ip link add {name} type bridge forward_delay 0 && ip link set {name} up"));
    }

    /// Plugs `interface` of `host` into `wire`; all interfaces of a host have one hardware address, as a VLAN and what is below.
    pub fn plug(&mut self, host: usize, interface: &str, wire: &str) {
        let end = format!("{wire}-{host}");
        self.sh(&format!("ip link add {end} type veth peer name {interface} address 02:00:00:00:00:{host:02x} netns $h{host}"));
        self.sh(&format!("ip link set {end} master {wire} up"));
        self.on(host, &format!("ip link set {interface} up"));
    }

    #[track_caller]
    pub fn on(&mut self, host: usize, command: &str) -> String {
        self.need(command);
        self.sh(&format!("nsenter -t $h{host} -n -u sh -c '{command}'"))
    }

    /// Starts a program of others on `host`: `$NAME` and the number of the host is its process, `NAME.log` its output. It has a
    /// /run of its own, and the user of its service is root: nobody else is in these namespaces.
    #[track_caller]
    pub fn start(&mut self, host: usize, name: &str, prepare: &str, command: &str) {
        self.need(command);
        let script = format!(
            r"set -e
mount -t tmpfs run /run
for file in passwd group; do
    sed -E 's/^(avahi|systemd-network):x:[0-9]+(:[0-9]+)?:/\1:x:0\2:/; s/^((avahi|systemd-network):x:0):[0-9]+:([^:]*:\/)/\1:0:\3/' /etc/$file >/run/$file
    mount --bind /run/$file /etc/$file
done
{prepare}
exec {command}
"
        );
        let at = self.at(host, "").display().to_string();
        fs::write(self.at(host, &format!("{name}.sh")), script).unwrap();
        self.sh(&format!("nsenter -t $h{host} -n -u unshare --mount sh {at}{name}.sh >>{at}{name}.log 2>&1 & {name}{host}=$!"));
    }

    /// Whether the program of `command` is there. Its version goes to the log, once.
    #[track_caller]
    fn need(&mut self, command: &str) {
        static SEEN: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

        let mut words = command.split([' ', ';', '\n']);
        let Some((program, package)) = words.find_map(|word| PACKAGES.iter().find(|known| known.0 == word)) else { return };
        let (code, _) = self.shell.try_sh(&format!("command -v {program}"));
        assert_eq!(code, 0, "{program} is needed: apt-get install {package}");
        if SEEN.lock().unwrap().insert(package) {
            let (_, version) = self.shell.try_sh(&format!("dpkg-query -W {package}"));
            // Past the harness, which keeps what a test that passes prints.
            io::stderr().write_all(format!("judge: {version}").as_bytes()).unwrap();
        }
    }

    pub fn at(&self, host: usize, name: &str) -> PathBuf {
        self.folder.path().join(format!("host{host}")).join(name)
    }

    /// A node that runs, its key made of `key`.
    pub fn node(&mut self, key: &str) -> usize {
        let host = self.host();
        self.install(host, key);
        self.run(host);
        host
    }

    /// Gives `host` what a node has.
    pub fn install(&self, host: usize, key: &str) {
        fs::create_dir_all(self.at(host, "etc")).unwrap();
        fs::write(self.at(host, "etc/hostname"), "hcl-node\n").unwrap();
        fs::write(self.at(host, "etc/hosts"), "127.0.0.1\tlocalhost\n").unwrap();
        fs::write(self.at(host, "node.toml"), "interface = \"eth0\"\nvlan = \"off\"\n").unwrap();
        fs::write(self.at(host, "console"), "").unwrap();
        fs::write(self.at(host, "key"), format!("{}\n", key.repeat(32))).unwrap();
    }

    /// Starts the node program on `host`: `$n` and the number of the host is its process.
    pub fn run(&mut self, host: usize) {
        let at = self.at(host, "").display().to_string();
        let options = format!(
            "--config {at}node.toml --run-dir {at}run --etc {at}etc --console {at}console --key {at}key --state {at}lib/state --root {at}"
        );
        self.sh(&format!("nsenter -t $h{host} -n -u {PROGRAM} run {options} >>{at}log 2>&1 & n{host}=$!"));
    }

    /// Ends the node program on `host` without a word.
    pub fn kill(&mut self, host: usize) {
        self.sh(&format!("kill -9 $n{host}; wait $n{host} 2>/dev/null; true"));
        fs::remove_dir_all(self.at(host, "run")).unwrap();
    }

    pub fn status(&self, host: usize) -> Value {
        let text = fs::read(self.at(host, "run/status.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Until `what` of the status of `host` holds.
    #[track_caller]
    pub fn until(&self, host: usize, what: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + BOUND;
        loop {
            let status = self.status(host);
            if what(&status) {
                return status;
            }
            assert!(Instant::now() < end, "host {host} after {BOUND:?}: {status:#}\n{}", self.text(host, "log"));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The first line in `file` of `host` that has `what` in it, once there is one.
    #[track_caller]
    pub fn until_line(&self, host: usize, file: &str, what: &str) -> String {
        let end = Instant::now() + BOUND;
        loop {
            let text = self.text(host, file);
            if let Some(line) = text.lines().find(|line| line.contains(what)) {
                return line.to_owned();
            }
            assert!(Instant::now() < end, "no line with {what:?} in {file} of host {host}:\n{text}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs `command` on `host` until `what` holds of what it says.
    #[track_caller]
    pub fn until_said(&mut self, host: usize, command: &str, what: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + BOUND;
        loop {
            let text = self.on(host, command);
            if what(&text) {
                return text;
            }
            assert!(Instant::now() < end, "{command} on host {host} after {BOUND:?}:\n{text}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What `file` of `host` has in it.
    pub fn text(&self, host: usize, file: &str) -> String {
        fs::read_to_string(self.at(host, file)).unwrap_or_default()
    }

    /// A bus for the programs on `host`. The command that makes them find it.
    pub fn bus(&mut self, host: usize) -> String {
        let socket = self.at(host, "bus");
        let config = format!(
            "<busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth><policy context=\"default\"><allow user=\"*\"/>\
             <allow own=\"*\"/><allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/></policy></busconfig>",
            socket.display()
        );
        fs::write(self.at(host, "bus.conf"), config).unwrap();
        let config = self.at(host, "bus.conf").display().to_string();
        self.start(host, "bus", "", &format!("dbus-daemon --config-file={config} --nofork --print-address"));
        // It says where it listens once it does.
        self.until_line(host, "bus.log", "unix:path=");
        format!("export DBUS_SYSTEM_BUS_ADDRESS=unix:path={}", socket.display())
    }

    /// A script for a DHCP client that takes the address it is told, as a renewal comes from there, and writes down all of it.
    pub fn script(&self, host: usize, reason: &str, address: &str) -> String {
        let (script, told) = (self.at(host, "script"), self.at(host, "told"));
        let text = format!(
            "#!/bin/sh\n[ -z \"{address}\" ] || ip address replace \"{address}/24\" dev eth0\n\
             echo \"{reason} {address} ${{router}}${{new_routers}}\" >>{}\n",
            told.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        script.display().to_string()
    }
}

pub fn leads(status: &Value) -> bool {
    status["role"] == "leader"
}

pub fn is_member(status: &Value) -> bool {
    leads(status) || status["role"] == "follower"
}

/// The number of the leader, once all of `nodes` are members and know each other.
#[track_caller]
pub fn formed(lab: &Lab, nodes: &[usize]) -> usize {
    for node in nodes {
        lab.until(*node, |status| is_member(status) && status["members"].as_array().is_some_and(|all| all.len() == nodes.len()));
    }
    let leaders: Vec<_> = nodes.iter().copied().filter(|node| leads(&lab.status(*node))).collect();
    assert_eq!(leaders.len(), 1, "{leaders:?} lead");
    leaders[0]
}
