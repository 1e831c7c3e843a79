//! The real program and what it shows without a screen: overrides and black box on a boot partition, the LED; folders stand in for
//! the FAT and for sysfs.

#![cfg(target_os = "linux")]

#[path = "common/shell.rs"]
mod shell;

use std::{
    fs,
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use hcl_firstboot::{
    blackbox::{BlackBox, FILE, Record, SIZE},
    led::Signal,
    trouble::Kind,
};

use self::shell::Shell;

const PROGRAM: &str = env!("CARGO_BIN_EXE_hcl-firstboot");
/// How long a busy machine may take for what takes seconds.
const BOUND: Duration = Duration::from_secs(90);

struct Node {
    shell: Shell,
    folder: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, content: &[u8]| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        put("etc/hostname", b"hcl-node\n");
        // What the image says; `hcl.toml` is stronger.
        put("node.toml", b"interface = \"none0\"\n");
        put("cluster.key", format!("{}\n", "5a".repeat(32)).as_bytes());
        put("console", b"");
        put("boot/hcl.toml", b"\xef\xbb\xbf# mine\r\ninterface = \"lan0\"\r\nvlan = \"off\"\r\n");
        put(&format!("boot/{FILE}"), &BlackBox::blank());
        put("sys/class/leds/ACT/trigger", b"none [mmc0] pattern\n");
        put("sys/class/leds/ACT/max_brightness", b"255\n");
        put("proc/sys/kernel/random/boot_id", b"01234567-89ab\n");
        put("proc/device-tree/model", b"Raspberry Pi 3 Model B Rev 1.2\0");
        put("proc/device-tree/serial-number", b"00000000deadbeef\0");
        let options = ["--map-root-user", "--net", "--uts", "--mount-proc", "--pid", "--fork", "--kill-child"];
        let mut shell = Shell::new(&options, None);
        shell.sh("ip link set lo up && ip link add lan0 address 02:00:00:12:34:56 type veth peer name peer0");
        Self { shell, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn command(&self) -> String {
        let at = self.folder.path().display();
        format!(
            "{PROGRAM} run --config {at}/node.toml --run-dir {at}/run --etc {at}/etc --console {at}/console --key {at}/cluster.key \
             --state {at}/lib/state --root {at} --boot {at}/boot"
        )
    }

    fn start(&mut self) {
        let command = format!("{} >>{}/log 2>&1 & pid=$!", self.command(), self.folder.path().display());
        self.shell.sh(&command);
    }

    /// Waits until `what` holds.
    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + BOUND;
        while !holds(self) {
            assert!(Instant::now() < deadline, "not {what} within {BOUND:?}\n{}\n{:#?}", self.text("log"), self.boots());
            sleep(Duration::from_millis(50));
        }
    }

    fn shows(&self, signal: Signal) -> bool {
        self.text("sys/class/leds/ACT/trigger") == "pattern" && self.text("sys/class/leds/ACT/pattern") == signal.pattern(255)
    }

    fn boots(&self) -> Vec<Record> {
        let file = fs::read(self.path("boot").join(FILE)).unwrap();
        BlackBox::parse(&file).unwrap().boots().into_iter().cloned().collect()
    }
}

#[test]
fn a_life_as_led_and_black_box_show_it() {
    let mut node = Node::new();
    node.start();
    node.until("searching", |node| node.shows(Signal::Searching));
    node.until("in the black box", |node| node.boots().first().is_some_and(|boot| boot.entry.state == "searching"));
    assert!(
        node.text("log").contains("hcl.toml on the boot partition sets interface = lan0, vlan = off\n"),
        "{}",
        node.text("log")
    );
    node.shell.sh("ip link set peer0 up");
    node.until("looking", |node| node.shows(Signal::Looking));
    // The other end has something to say, so that the node need not take the switch for a mute one.
    node.shell.sh("ip address add 10.0.0.1/24 dev peer0");
    node.shell.try_sh("ping -c 1 -W 1 10.0.0.2");
    node.until("leader", |node| node.shows(Signal::Leader));
    node.until("a leader in the black box", |node| node.boots()[0].entry.role == "leader");
    // As a power cut leaves it.
    let entry = node.boots().remove(0).entry;
    assert!(entry.is_ready() && !entry.stopped);
    assert_eq!((entry.interface.as_str(), entry.vlan.as_str(), entry.boot_id.as_str()), ("lan0", "off", "01234567"));
    assert_eq!(entry.board, "Raspberry Pi 3 Model B Rev 1.2, serial number ending in beef");
    assert!(entry.story.iter().any(|line| line.ends_with("leads the cluster, at 192.168.200.1")), "{entry:#?}");
    let text = String::from_utf8(fs::read(node.path("boot").join(FILE)).unwrap()).unwrap();
    for secret in ["node-123456", "12:34:56", "deadbeef", &"5a".repeat(4)] {
        assert!(!text.contains(secret), "{secret}");
    }

    node.shell.sh("kill $pid; wait $pid");
    assert_eq!(node.text("sys/class/leds/ACT/trigger"), "mmc0");
    let boots = node.boots();
    assert!(boots.len() == 1 && boots[0].entry.stopped && boots[0].entry.role == "leader", "{boots:#?}");
    assert_eq!(fs::metadata(node.path("boot").join(FILE)).unwrap().len(), SIZE as u64);
}

#[test]
fn a_wrong_override_stops_the_node_and_is_told_everywhere() {
    let mut node = Node::new();
    fs::write(node.path("boot/hcl.toml"), "interface = \"lan0\"\r\nvlan = 5000\r\n").unwrap();
    let command = node.command();
    let (code, text) = node.shell.try_sh(&command);
    let reason = "boot/hcl.toml:2: key `vlan`: invalid value: integer `5000`, expected a VLAN id from 1 to 4094, or \"off\"";
    assert!(code == 2 && text.contains(reason), "{code} {text}");
    let console = node.text("console");
    assert!(console.starts_with("@hcl:fault@ /") && console.ends_with(&format!("{reason}\n")), "{console}");
    // The LED goes on without the program.
    assert!(node.shows(Signal::Fault(Kind::Configuration)));
    let entry = node.boots().remove(0).entry;
    let trouble = entry.trouble.clone().unwrap();
    assert!(trouble.kind == Kind::Configuration && trouble.text.ends_with(reason), "{entry:#?}");
    // Nothing was made.
    assert!(!node.shell.sh("ip link show lan0").contains("UP"));

    let at = node.folder.path().display().to_string();
    let (code, text) =
        node.shell.try_sh(&format!("{PROGRAM} status --config {at}/node.toml --run-dir {at}/run --boot {at}/boot"));
    assert!(code == 3 && text.contains(reason), "{code} {text}");
    let (code, text) = node.shell.try_sh(&format!("{PROGRAM} log --run-dir {at}/run"));
    assert!(code == 0 && text.contains("not started: /") && text.contains(reason), "{code} {text}");
    for command in ["start", "stop"] {
        let (code, text) =
            node.shell.try_sh(&format!("{PROGRAM} {command} --config {at}/node.toml --run-dir {at}/run --boot {at}/boot"));
        assert!(code == 1 && text.contains(reason), "{command}: {code} {text}");
    }
    // Mended, the next start goes on, and the LED knows its trigger from before the fault.
    fs::write(node.path("sys/class/leds/ACT/trigger"), "none mmc0 [pattern]").unwrap();
    fs::write(node.path("boot/hcl.toml"), "interface = \"lan0\"\r\nvlan = \"off\"\r\n").unwrap();
    node.start();
    node.until("searching", |node| node.shows(Signal::Searching));
    node.shell.sh("kill $pid; wait $pid");
    assert_eq!(node.text("sys/class/leds/ACT/trigger"), "mmc0");
}

#[test]
fn without_boot_partition_and_led_there_is_a_line_each() {
    let mut node = Node::new();
    fs::remove_dir_all(node.path("boot")).unwrap();
    fs::remove_dir_all(node.path("sys")).unwrap();
    fs::write(node.path("node.toml"), "interface = \"lan0\"\nvlan = \"off\"\n").unwrap();
    node.start();
    node.shell.sh("ip link set peer0 up");
    let log = |node: &Node| fs::read_to_string(node.path("log")).unwrap_or_default();
    let deadline = Instant::now() + BOUND;
    while !log(&node).contains("@hcl:ready@ lan0") {
        assert!(Instant::now() < deadline, "{}", log(&node));
        sleep(Duration::from_millis(50));
    }
    node.shell.sh("kill $pid; wait $pid");
    let log = log(&node);
    assert_eq!(log.matches("no black box: ").count(), 1, "{log}");
    assert_eq!(log.matches("LED").count(), 1, "{log}");
    assert!(!node.path("boot").exists(), "nothing is made where the partition would be");
}
