//! Where the facts of `hcl health` come from: the status, netlink, nft, `/proc` and the files.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::services;
use crate::{
    config::{Addresses, NodeConfig},
    dependencies::{self, Here},
    driver::{self, Options},
    link::Link,
    record::Record,
    services::host_key,
    status::{Status, uptime_ms},
};

/// A node at one moment, as far as its health needs it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The status of the program; none while it does not run.
    pub status: Option<Status>,
    /// Whether the configuration is right, or what is wrong with it.
    pub config: Result<(), String>,
    /// Milliseconds since the boot.
    pub uptime_ms: u64,
    /// The configured addresses.
    pub addresses: Addresses,
    /// The kernel's interfaces.
    pub links: Vec<Link>,
    /// The kernel's IPv4 addresses, with the index of the interface.
    pub assigned: Vec<(u32, Ipv4Addr)>,
    /// The hosts file.
    pub hosts: String,
    /// Whether somebody here holds the port of a DHCP server.
    pub dhcp_port: bool,
    /// Whether the firewall's table is there, or why not.
    pub guard: Result<(), String>,
    /// Whom the firewall lets in to what the members have among themselves, or why nobody knows.
    pub admitted: Result<BTreeSet<Ipv4Addr>, String>,
    /// Whether IPv6 is off on the cluster's interface; none where the kernel has none.
    pub ipv6_off: Option<bool>,
    /// Whether the state is there, whole, and can be written; or what is wrong and what to do.
    pub state: Result<(), String>,
    /// Engine, swarm, Consul and page.
    pub services: services::Seen,
    /// What is wrong with the SSH host key's certificate, and what to do.
    pub host_key: Option<String>,
    /// What the kernel lacks for the engine, and what to do, a line each.
    pub lacks: Vec<String>,
}

impl Facts {
    /// Looks at the machine; only root sees the firewall and the state.
    ///
    /// # Errors
    ///
    /// The status cannot be read, or the kernel gives no lists.
    pub fn gather(options: &Options) -> io::Result<Self> {
        let config = NodeConfig::as_far_as_seen(&options.config, &options.boot);
        let status = Status::read(&options.run_dir)?.filter(Status::is_alive);
        let seen = driver::look()?;
        let cluster = status.as_ref().and_then(|status| status.cluster_interface.clone()).unwrap_or_default();
        Ok(Self {
            uptime_ms: uptime_ms(),
            addresses: config.as_ref().map(|config| config.addresses).unwrap_or_default(),
            config: config.map(drop).map_err(|error| error.to_string()),
            links: seen.links,
            assigned: seen.addresses,
            hosts: fs::read_to_string(options.etc.join("hosts")).unwrap_or_default(),
            dhcp_port: fs::read_to_string("/proc/net/udp").is_ok_and(|table| holds(&table, 67)),
            guard: driver::guard_stands().map_err(|error| error.to_string()),
            admitted: driver::admitted().map_err(|error| error.to_string()),
            ipv6_off: ipv6_off(&cluster),
            state: state(&options.state),
            services: services::Seen::gather(options, status.as_ref()),
            host_key: status.as_ref().and_then(|status| host_key::wrong(&options.etc, &options.key, status)),
            lacks: lacks(&options.root),
            status,
        })
    }
}

fn lacks(root: &Path) -> Vec<String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    dependencies::lacks(&Here::look(root, &release)).into_iter().map(|check| check.line).collect()
}

fn ipv6_off(cluster: &str) -> Option<bool> {
    if !fs::exists("/proc/sys/net/ipv6").unwrap_or(false) {
        return None;
    }
    let text = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{cluster}/disable_ipv6"));
    // An interface that is gone has no IPv6 either, but nothing says so.
    Some(text.is_ok_and(|text| text.trim() == "1"))
}

/// Whether `table`, the text of /proc/net/udp, has a socket with this port.
fn holds(table: &str, port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).any(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&suffix)))
}

/// Reads the record at `path` and tries to write beside it.
fn state(path: &Path) -> Result<(), String> {
    let name = path.display();
    let file = match fs::read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!(
                "{name} is not there: `sudo systemctl restart hcl-firstboot` writes it; if it goes again, put in another card"
            ));
        }
        Err(error) => return Err(format!("{name}: {error}: the card may be worn out, put in another one")),
    };
    Record::from_file(&file).map_err(|error| {
        format!(
            "{name} {error}: `sudo systemctl restart hcl-firstboot` makes this a new node; if it comes again, put in another card"
        )
    })?;
    let folder = path.parent().unwrap_or(Path::new("."));
    try_to_write(folder).map_err(|error| {
        format!("{} cannot be written ({error}): free some space (`df -h /`), or put in another card", folder.display())
    })
}

/// Writes a file as large as a state may become, and takes it away again.
fn try_to_write(folder: &Path) -> io::Result<()> {
    let path = folder.join("health.new");
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).and_then(|mut file| {
        file.write_all(&[0; 64 << 10])?;
        file.sync_all()
    });
    let removed = match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Hardware, NodeId};

    #[test]
    fn a_port_in_the_kernels_table() {
        let table = "   sl  local_address rem_address   st\n  111: 00000000:0043 00000000:0000 07\n";
        assert!(holds(table, 67));
        assert!(!holds(table, 68) && !holds("", 67) && !holds(table, 0x4300));
    }

    #[test]
    fn the_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert!(state(&path).unwrap_err().contains("is not there"));
        let good = Record::new(NodeId([1; 16]), Hardware::default()).to_file();
        fs::write(&path, &good).unwrap();
        assert_eq!(state(&path), Ok(()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the trial is gone");
        let mut damaged = good.clone();
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(&path, damaged).unwrap();
        assert!(state(&path).unwrap_err().contains("does not fit its checksum"));
        fs::write(&path, good).unwrap();
        // What stands in the way of the trial stops root, too.
        fs::create_dir(folder.path().join("health.new")).unwrap();
        assert!(state(&path).unwrap_err().contains("cannot be written"));
    }
}
