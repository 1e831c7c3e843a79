//! The status file that the running program keeps, and `hcl status`, which shows it.
//!
//! `/run/hcl/status.json` is replaced as a whole at each change. Times are milliseconds after the boot, since a board without a
//! battery does not know the date.

use std::{fmt::Write, fs, io, path::Path};

use serde::{Deserialize, Serialize};

/// The folder of the status file; systemd makes it and removes it when the program stops.
pub const FOLDER: &str = "/run/hcl";

/// The file's name in the folder.
pub const FILE: &str = "status.json";

/// What the program is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The cluster's name.
    pub cluster: String,
    /// `searching`, `attaching`, `ready` or `faulted`.
    pub state: String,
    /// Why it is in this state.
    pub reason: String,
    /// Since when, in milliseconds after the boot.
    pub since_uptime_ms: u64,
    /// The wired interface in use.
    pub interface: Option<String>,
    /// The cluster's VLAN; none where it is off.
    pub vlan: Option<u16>,
    /// The interface that the cluster uses.
    pub cluster_interface: Option<String>,
}

impl Status {
    /// Whether there is nothing new in `other`. A start that is a few milliseconds off is the same start.
    pub fn same_but_time(&self, other: &Self) -> bool {
        let apart = self.since_uptime_ms.abs_diff(other.since_uptime_ms);
        apart < 50 && *self == Self { since_uptime_ms: self.since_uptime_ms, ..other.clone() }
    }

    /// Replaces the file in `folder`.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        // No sync: the file lives in memory and ends with the boot.
        let new = folder.join("status.json.new");
        fs::write(&new, text)?;
        fs::rename(new, folder.join(FILE))
    }

    /// Reads the file in `folder`; nothing where no program keeps one.
    ///
    /// # Errors
    ///
    /// The file is there but cannot be read.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        match fs::read(folder.join(FILE)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the process that wrote this is still there.
    pub fn is_alive(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/comm", self.pid)).is_ok_and(|name| name.trim_end() == "hcl-firstboot")
    }

    /// Whether the network is as configured.
    pub fn is_ready(&self) -> bool {
        self.state == "ready"
    }

    /// What the node is in the cluster, in words.
    pub fn role(&self) -> &'static str {
        if self.is_ready() { "none yet: network ready" } else { "none yet: waiting for the network" }
    }
}

/// A node at one moment: its status, and what only the moment knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The status.
    pub status: Status,
    /// The node's host name.
    pub host_name: String,
    /// Milliseconds since the boot.
    pub uptime_ms: u64,
}

impl Snapshot {
    /// A table for people.
    pub fn table(&self) -> String {
        let status = &self.status;
        let lasting = duration(self.uptime_ms.saturating_sub(status.since_uptime_ms));
        let vlan = match (status.vlan, &status.cluster_interface) {
            (None, _) => "off".to_owned(),
            (Some(id), Some(interface)) => format!("{id}, as {interface}"),
            (Some(id), None) => format!("{id}, not up"),
        };
        let rows = [
            ("Node", self.host_name.clone()),
            ("Cluster", status.cluster.clone()),
            ("Role", status.role().to_owned()),
            ("State", format!("{} for {lasting}: {}", status.state, status.reason)),
            ("Interface", status.interface.clone().unwrap_or_else(|| "none".to_owned())),
            ("VLAN", vlan),
            ("Uptime", duration(self.uptime_ms)),
            ("Version", status.version.clone()),
        ];
        rows.iter().fold(String::new(), |mut table, (name, value)| {
            let _ = writeln!(table, "{name:<10} {value}");
            table
        })
    }

    /// One JSON object: the fields of [`Status`], and `running`, `role`, `host_name`, `uptime_ms`, `state_ms`.
    pub fn json(&self) -> serde_json::Value {
        let mut value = serde_json::to_value(&self.status).unwrap_or_default();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("running".to_owned(), true.into());
            fields.insert("role".to_owned(), self.status.role().into());
            fields.insert("host_name".to_owned(), self.host_name.clone().into());
            fields.insert("uptime_ms".to_owned(), self.uptime_ms.into());
            fields.insert("state_ms".to_owned(), self.uptime_ms.saturating_sub(self.status.since_uptime_ms).into());
        }
        value
    }
}

/// A duration in its two largest units.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, _, _) => format!("{days} d {hours} h"),
    }
}

/// Milliseconds since the boot, sleep included (`CLOCK_BOOTTIME`).
#[cfg(target_os = "linux")]
pub fn uptime_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    (time.tv_sec as u64) * 1000 + (time.tv_nsec as u64) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Status {
        Status {
            version: "0.1.0".into(),
            pid: 412,
            cluster: "lab".into(),
            state: "ready".into(),
            reason: "eth0.200 is up".into(),
            since_uptime_ms: 15_200,
            interface: Some("eth0".into()),
            vlan: Some(200),
            cluster_interface: Some("eth0.200".into()),
        }
    }

    #[test]
    fn the_table() {
        let snapshot = Snapshot { status: ready(), host_name: "node-123402".into(), uptime_ms: 200_300 };
        let expected = "\
Node       node-123402
Cluster    lab
Role       none yet: network ready
State      ready for 3 min 5 s: eth0.200 is up
Interface  eth0
VLAN       200, as eth0.200
Uptime     3 min 20 s
Version    0.1.0
";
        assert_eq!(snapshot.table(), expected);
        let waiting = Status {
            state: "searching".into(),
            reason: "waiting for a cable: eth0 has no carrier".into(),
            interface: None,
            cluster_interface: None,
            ..ready()
        };
        let table = Snapshot { status: waiting, ..snapshot }.table();
        assert!(table.contains("\nState      searching for 3 min 5 s: waiting for a cable: eth0 has no carrier\nInterface  none\nVLAN       200, not up\n"));
        assert!(table.contains("\nRole       none yet: waiting for the network\n"));
    }

    #[test]
    fn the_json() {
        let value = Snapshot { status: ready(), host_name: "node-123402".into(), uptime_ms: 200_300 }.json();
        assert_eq!(value["running"], true);
        assert_eq!(value["vlan"], 200);
        assert_eq!(value["state"], "ready");
        assert_eq!(value["state_ms"], 185_100);
        assert_eq!(value["host_name"], "node-123402");
    }

    #[test]
    fn the_file() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Status::read(folder.path()).unwrap().is_none());
        ready().write(folder.path()).unwrap();
        assert_eq!(Status::read(folder.path()).unwrap().unwrap(), ready());
        assert!(!ready().is_alive());
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(Status::read(folder.path()).is_err());
    }

    #[test]
    fn durations() {
        for (ms, text) in [(0, "0 s"), (59_999, "59 s"), (61_000, "1 min 1 s"), (3_661_000, "1 h 1 min"), (90_000_000, "1 d 1 h")]
        {
            assert_eq!(duration(ms), text);
        }
    }
}
