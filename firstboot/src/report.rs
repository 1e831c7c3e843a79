//! `hcl report`: a text about board and system that somebody with a real board sends us.
//!
//! It is made to be posted in public. What is left out is named at its top, with how often: nothing vanishes silently.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    redact::Redactor,
    services::state::ServicesStatus,
    status::{FOLDER, Snapshot, Status, duration, uptime_ms},
};

/// Lines of the journal that go in at most: the last ones.
const JOURNAL_LINES: &str = "300";

/// Looks at the machine and writes the report.
pub fn gather() -> String {
    Report::of(Path::new("/")).finish()
}

struct Report {
    root: PathBuf,
    body: String,
}

impl Report {
    fn of(root: &Path) -> Self {
        let mut report = Self { root: root.to_owned(), body: String::new() };
        report.board();
        report.memory();
        report.network();
        report.storage();
        report.health();
        report.engine();
        report.node();
        report
    }

    /// The report with its head, unwanted details taken out.
    fn finish(self) -> String {
        let mut redactor = Redactor::default();
        let body = redactor.redact(&self.body);
        format!("hcl report of hcl {}\n\nLeft out: {}.\n{body}", crate::VERSION, redactor.summary())
    }

    fn section(&mut self, title: &str) {
        let _ = write!(self.body, "\n== {title}\n");
    }

    fn row(&mut self, name: &str, value: impl AsRef<str>) {
        let value = value.as_ref().trim();
        let value = if value.is_empty() { "not available" } else { value };
        let _ = writeln!(self.body, "{name}: {value}");
    }

    fn text(&mut self, text: &str) {
        let text = text.trim_end();
        self.body.push_str(if text.is_empty() { "none" } else { text });
        self.body.push('\n');
    }

    /// A file below the root, without zero bytes (device tree strings end with one); empty where there is none.
    fn file(&self, path: impl AsRef<Path>) -> String {
        let path = path.as_ref();
        let path = self.root.join(path.strip_prefix("/").unwrap_or(path));
        let bytes = fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
    }

    /// The names in a folder below the root, sorted.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path.trim_start_matches('/'))).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The last part of where a link below the root points.
    fn link(&self, path: &str) -> String {
        let target = fs::read_link(self.root.join(path.trim_start_matches('/'))).unwrap_or_default();
        target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn board(&mut self) {
        self.section("Board and system");
        let model = self.file("/proc/device-tree/model");
        self.row("board", if model.is_empty() { "no device tree (no Pi?)".to_owned() } else { model });
        self.row("compatible", self.file("/proc/device-tree/compatible"));
        let os = self.file("/etc/os-release");
        self.row("system", field(&os, "PRETTY_NAME=").trim_matches('"'));
        self.row(
            "image",
            self.file("/usr/share/hcl/image.json").lines().take(1).collect::<String>().get(..200).unwrap_or_default(),
        );
        let uname = rustix::system::uname();
        let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
        self.row("kernel", format!("{} {} {}", text(uname.sysname()), text(uname.release()), text(uname.version())));
        self.row("architecture", format!("kernel {}, programs {}", text(uname.machine()), std::env::consts::ARCH));
        self.row("kernel command line", self.file("/proc/cmdline"));
        let controllers = self.file("/sys/fs/cgroup/cgroup.controllers");
        self.row("cgroup controllers", if controllers.is_empty() { "no cgroup v2".to_owned() } else { controllers });
        self.row("uptime", duration(uptime_ms()));
    }

    fn memory(&mut self) {
        self.section("Memory");
        let memory = self.file("/proc/meminfo");
        for name in ["MemTotal:", "MemAvailable:", "SwapTotal:"] {
            self.row(name.trim_end_matches(':'), field(&memory, name));
        }
    }

    fn network(&mut self) {
        self.section("Network interfaces");
        for name in self.names("/sys/class/net") {
            let at = |file: &str| format!("/sys/class/net/{name}/{file}");
            let uevent = self.file(at("uevent"));
            let kind = field(&uevent, "DEVTYPE=");
            let speed = self.file(at("speed"));
            let values = [
                ("kind", kind.to_owned()),
                ("driver", self.link(&at("device/driver"))),
                ("state", self.file(at("operstate"))),
                ("carrier", self.file(at("carrier"))),
                ("speed", if speed.is_empty() || speed.starts_with('-') { String::new() } else { format!("{speed} Mb/s") }),
                ("mtu", self.file(at("mtu"))),
                ("mac", self.file(at("address"))),
            ];
            let values: Vec<_> =
                values.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| format!("{key} {value}")).collect();
            self.row(&name, values.join(", "));
        }
    }

    fn storage(&mut self) {
        self.section("Storage");
        for name in self.names("/sys/block") {
            if ["loop", "ram", "zram", "dm-"].iter().any(|virtual_disk| name.starts_with(virtual_disk)) {
                continue;
            }
            let at = |file: &str| format!("/sys/block/{name}/{file}");
            let sectors: u64 = self.file(at("size")).parse().unwrap_or(0);
            // A card's own number (`cid`, `serial`) is not read.
            let model = [at("device/model"), at("device/name")].iter().map(|file| self.file(file)).find(|text| !text.is_empty());
            let value = format!("{} MiB, {}", sectors >> 11, model.unwrap_or_else(|| "no model".to_owned()));
            self.row(&name, value);
        }
        if let Ok(root) = rustix::fs::statvfs(&self.root) {
            let mib = |blocks: u64| (blocks * root.f_frsize) >> 20;
            self.row("root file system", format!("{} MiB, {} MiB free", mib(root.f_blocks), mib(root.f_bavail)));
        }
    }

    fn health(&mut self) {
        self.section("Temperature and power");
        for zone in self.names("/sys/class/thermal").iter().filter(|name| name.starts_with("thermal_zone")) {
            let millidegrees: i64 = self.file(format!("/sys/class/thermal/{zone}/temp")).parse().unwrap_or(0);
            let kind = self.file(format!("/sys/class/thermal/{zone}/type"));
            self.row(zone, format!("{} °C ({kind})", millidegrees / 1000));
        }
        let throttled = self.file("/sys/devices/platform/soc/soc:firmware/get_throttled");
        let throttled = if throttled.is_empty() { output("vcgencmd", &["get_throttled"]) } else { throttled };
        self.row("throttled", throttled);
    }

    fn engine(&mut self) {
        self.section("Engine");
        // An engine that hangs must not hold up the report about it.
        let format = "client {{.Client.Version}} {{.Client.Arch}}, server {{.Server.Version}} {{.Server.Arch}}";
        self.text(&output("timeout", &["10", "docker", "version", "--format", format]));
        self.section("Failed units");
        self.text(&output("systemctl", &["--failed", "--no-legend", "--plain", "--no-pager"]));
    }

    fn node(&mut self) {
        self.section("Node program");
        let folder = self.root.join(FOLDER.trim_start_matches('/'));
        match Status::read(&folder) {
            Ok(Some(status)) if status.is_alive() => {
                let services = ServicesStatus::shown(&folder);
                let snapshot = Snapshot { status, host_name: "(left out)".to_owned(), uptime_ms: uptime_ms(), services };
                self.text(&snapshot.table());
            }
            Ok(_) => self.text("not running"),
            Err(error) => self.text(&format!("no status: {error}")),
        }
        self.section("Journal of the node program, this boot");
        let units = ["-b", "-o", "short-monotonic", "--no-hostname", "--no-pager", "-n", JOURNAL_LINES];
        let units = [&units[..], &["-u", "hcl-firstboot", "-u", "hcl-grow-root"]].concat();
        self.text(&output("journalctl", &units));
    }
}

/// What stands behind `name` at the beginning of a line.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim()
}

/// What a program says, with its complaint where it fails.
fn output(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).env("LC_ALL", "C").output() {
        Ok(output) => {
            let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
            if !output.status.success() {
                let _ = write!(text, "({program} failed: {})", String::from_utf8_lossy(&output.stderr).trim());
            }
            text
        }
        Err(error) => format!("({program}: {error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pi_from_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("proc/device-tree/model", "Raspberry Pi 3 Model B Rev 1.2\0");
        put("proc/device-tree/serial-number", "00000000deadbeef\0");
        put("proc/cmdline", "console=ttyS1,115200 smsc95xx.macaddr=B8:27:EB:12:34:02 root=LABEL=HCLROOT\n");
        put("proc/meminfo", "MemTotal:         944264 kB\nMemFree: 1 kB\n");
        put("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
        put("sys/class/net/eth0/address", "b8:27:eb:12:34:02\n");
        put("sys/class/net/eth0/operstate", "up\n");
        put("sys/class/net/eth0/speed", "100\n");
        put("sys/class/net/enxb827eb123402/operstate", "down\n");
        put("sys/block/mmcblk0/size", "62333952\n");
        put("sys/block/mmcblk0/device/name", "SC32G\n");
        put("sys/block/mmcblk0/device/serial", "0x12345678\n");
        put("sys/class/thermal/thermal_zone0/temp", "48312\n");
        put("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
        put("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n");
        let report = Report::of(folder.path()).finish();
        for line in [
            "board: Raspberry Pi 3 Model B Rev 1.2",
            "kernel command line: console=ttyS1,115200 smsc95xx.macaddr=B8:27:EB:xx:xx:xx root=LABEL=HCLROOT",
            "MemTotal: 944264 kB",
            "cgroup controllers: cpuset cpu io memory pids",
            "eth0: state up, speed 100 Mb/s, mac b8:27:eb:xx:xx:xx",
            "enxb827ebxxxxxx: state down",
            "mmcblk0: 30436 MiB, SC32G",
            "thermal_zone0: 48 °C (cpu-thermal)",
            "throttled: 50005",
            "not running",
        ] {
            assert!(report.lines().any(|there| there == line), "{line:?} is not in\n{report}");
        }
        for secret in ["deadbeef", "0x12345678", "12:34:02", "123402"] {
            assert!(!report.contains(secret), "{secret} is in\n{report}");
        }
        assert!(report.contains("Left out: serial numbers of board and card, host name, addresses on the home network (never asked for); the last three bytes of 3 MAC addresses;"));
    }
}
