//! The status file that the running program keeps, and `hcl status`, which shows it.
//!
//! `/run/hcl/status.json` is replaced as a whole at each change. Times are milliseconds after the boot, since a board without a
//! battery does not know the date.

mod table;

use std::{fs, io, net::Ipv4Addr, path::Path};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use self::table::{Services, Snapshot};
use crate::trouble::Trouble;

/// The folder of the status file; systemd makes it, and it ends with the boot.
pub const FOLDER: &str = "/run/hcl";

/// The file's name in the folder.
pub const FILE: &str = "status.json";

/// The name of the file with the story of this boot, in the same folder.
pub const STORY: &str = "story.txt";

/// What the program is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The cluster's name.
    pub cluster: String,
    /// `searching`, `attaching`, `ready` or `faulted`.
    pub state: String,
    /// Why it is in this state. State, reason and time are the link's; what the cluster does has `phase`.
    pub reason: String,
    /// Since when, in milliseconds after the boot.
    pub since_uptime_ms: u64,
    /// The wired interface in use.
    pub interface: Option<String>,
    /// The cluster's VLAN; none where it is off.
    pub vlan: Option<u16>,
    /// The interface that the cluster uses.
    pub cluster_interface: Option<String>,
    /// The node's id.
    pub node: String,
    /// The id of the cluster's key; none without a key.
    pub cluster_id: Option<String>,
    /// What the node is doing in or about the cluster: one word.
    pub phase: String,
    /// Why.
    pub phase_reason: String,
    /// Since when, in milliseconds after the boot.
    pub phase_since_uptime_ms: u64,
    /// `leader`, `follower` or `none`.
    pub role: String,
    /// The founding that it belongs to.
    pub incarnation: Option<String>,
    /// Whether that holds nothing yet that would be missed.
    pub provisional: bool,
    /// Its own address in the cluster.
    pub address: Option<Ipv4Addr>,
    /// The leader, where one is known.
    pub leader: Option<LeaderStatus>,
    /// The grant of the leader's role, while this node has it; without one a leader leads by right of its founding.
    #[serde(default)]
    pub grant: Option<GrantStatus>,
    /// Whether it led before, and nobody leads until the role is granted again.
    #[serde(default)]
    pub waits_for_grant: bool,
    /// Its lease, where it has one.
    pub lease: Option<LeaseStatus>,
    /// The members known, itself included.
    pub members: Vec<MemberStatus>,
    /// How many addresses are lent to machines that are no members.
    pub strangers: usize,
    /// What is wrong and what a person can do, a line each.
    pub complaints: Vec<String>,
    /// What a person must see to first; the LED blinks its number.
    #[serde(default)]
    pub trouble: Option<Trouble>,
}

/// The leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderStatus {
    /// Its host name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// When it was last heard, in milliseconds after the boot; none on the leader itself.
    #[serde(default)]
    pub heard_uptime_ms: Option<u64>,
}

/// A grant of the leader's role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantStatus {
    /// Which; grows with each owner.
    pub index: u64,
    /// Until when, unless it is renewed, in milliseconds after the boot.
    pub until_uptime_ms: u64,
}

/// A lease; times in milliseconds after the boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// From whom.
    pub server: Ipv4Addr,
    /// When it is renewed (T1).
    pub renew_uptime_ms: u64,
    /// When any server will do (T2).
    pub rebind_uptime_ms: u64,
    /// When it ends.
    pub ends_uptime_ms: u64,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its host name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its id.
    pub node: String,
    /// When it was last heard, in milliseconds after the boot; none: never since the program started.
    pub heard_uptime_ms: Option<u64>,
}

impl Status {
    /// Whether there is nothing new in `other`. A time that is a few milliseconds off is the same time, and that a member
    /// or the leader is still heard is news only every ten seconds.
    pub fn same_but_time(&self, other: &Self) -> bool {
        let settle = |time: &mut u64, known: u64, tolerance: u64| {
            if time.abs_diff(known) < tolerance {
                *time = known;
            }
        };
        let mut other = other.clone();
        settle(&mut other.since_uptime_ms, self.since_uptime_ms, 50);
        settle(&mut other.phase_since_uptime_ms, self.phase_since_uptime_ms, 50);
        if let (Some(grant), Some(known)) = (&mut other.grant, &self.grant) {
            settle(&mut grant.until_uptime_ms, known.until_uptime_ms, 50);
        }
        if let (Some(lease), Some(known)) = (&mut other.lease, &self.lease) {
            settle(&mut lease.renew_uptime_ms, known.renew_uptime_ms, 50);
            settle(&mut lease.rebind_uptime_ms, known.rebind_uptime_ms, 50);
            settle(&mut lease.ends_uptime_ms, known.ends_uptime_ms, 50);
        }
        if let (Some(leader), Some(known)) = (&mut other.leader, &self.leader) {
            if let (Some(heard), Some(known)) = (&mut leader.heard_uptime_ms, known.heard_uptime_ms) {
                settle(heard, known, 10_000);
            }
        }
        for (member, known) in other.members.iter_mut().zip(&self.members) {
            if let (Some(heard), Some(known)) = (&mut member.heard_uptime_ms, known.heard_uptime_ms) {
                settle(heard, known, 10_000);
            }
        }
        *self == other
    }

    /// Replaces the file in `folder`.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        replace(folder, FILE, text.as_bytes())
    }

    /// Reads the file in `folder`; nothing where no program keeps one.
    ///
    /// # Errors
    ///
    /// The file is there but cannot be read.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        read(folder, FILE)
    }

    /// Whether the process that wrote this is still there.
    pub fn is_alive(&self) -> bool {
        runs(self.pid)
    }

    /// Whether the network is as configured.
    pub fn is_ready(&self) -> bool {
        self.state == "ready"
    }
}

/// Replaces the file `name` in the run folder as a whole. No sync: it lives in memory and ends with the boot.
pub(crate) fn replace(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let new = folder.join(format!("{name}.new"));
    fs::write(&new, content)?;
    fs::rename(new, folder.join(name))
}

/// The JSON in the file `name` in the run folder; nothing where there is none.
pub(crate) fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> io::Result<Option<T>> {
    match fs::read(folder.join(name)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether `pid` is a process of this program.
pub(crate) fn runs(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // One that has ended and that nobody has asked about yet is a zombie.
    let state = text.split_once(" (hcl-firstboot) ").map(|(_, rest)| rest);
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
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

    pub(super) fn ready() -> Status {
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
            phase: "browsing".into(),
            phase_reason: "nobody has answered yet".into(),
            role: "none".into(),
            ..Status::default()
        }
    }

    pub(super) fn member() -> Status {
        let peer = |name: &str, last: u8, heard_uptime_ms| MemberStatus {
            name: name.into(),
            address: [192, 168, 200, last].into(),
            node: "00".repeat(16),
            heard_uptime_ms,
        };
        Status {
            role: "follower".into(),
            phase: "joined".into(),
            phase_reason: String::new(),
            address: Some([192, 168, 200, 77].into()),
            leader: Some(LeaderStatus {
                name: "node-1".into(),
                address: [192, 168, 200, 1].into(),
                heard_uptime_ms: Some(190_300),
            }),
            lease: Some(LeaseStatus {
                server: [192, 168, 200, 1].into(),
                renew_uptime_ms: 1_800_000,
                rebind_uptime_ms: 3_150_000,
                ends_uptime_ms: 3_600_000,
            }),
            members: vec![peer("node-1", 10, Some(190_300)), peer("node-2", 77, None), peer("node-3", 78, None)],
            strangers: 2,
            complaints: vec!["there is no `nft`".into()],
            ..ready()
        }
    }

    #[test]
    fn what_is_news() {
        let old = member();
        let mut new = old.clone();
        new.phase_since_uptime_ms += 3;
        new.lease.as_mut().unwrap().ends_uptime_ms -= 2;
        new.members[0].heard_uptime_ms = Some(199_000);
        new.leader.as_mut().unwrap().heard_uptime_ms = Some(199_000);
        assert!(old.same_but_time(&new));
        new.members[0].heard_uptime_ms = Some(201_000);
        assert!(!old.same_but_time(&new));
        let mut renewed = old.clone();
        renewed.lease.as_mut().unwrap().ends_uptime_ms += 1_800_000;
        assert!(!old.same_but_time(&renewed));
        assert!(!old.same_but_time(&Status { complaints: Vec::new(), ..old.clone() }));
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
