//! What keeps the cluster's subnet on the cluster's wire: kernel settings of both interfaces, and one nftables table.

use std::{
    fs, io,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::config::Subnet;

/// What is guarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    /// The cluster's interface.
    pub cluster: String,
    /// The home network's; none with `vlan = "off"`.
    pub lan: Option<String>,
    /// The cluster's subnet.
    pub subnet: Subnet,
    /// Whether this machine has an address of that subnet on another network. Nothing is dropped then: it would lock out the
    /// person who comes to change the subnet.
    pub clash: bool,
}

impl Guard {
    /// Sets all of it up; what did not work, a line each. The node works without.
    pub(super) fn raise(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut put = |family: &str, interface: &str, name: &str, value: &str| {
            if let Err(error) = setting(family, interface, name, value) {
                complaints.push(format!("setting {name} of {interface} to {value}: {error}"));
            }
        };
        // One address of a subnet goes, as a temporary one does: without this the kernel takes the younger ones with it.
        put("ipv4", &self.cluster, "promote_secondaries", "1");
        for interface in [Some(&self.cluster), self.lan.as_ref()].into_iter().flatten() {
            put("ipv4", interface, "arp_ignore", "1");
            put("ipv4", interface, "arp_announce", "2");
        }
        // Without a VLAN the wire may be the home network's too, and that may have IPv6.
        if self.lan.is_some() {
            if let Err(error) = silence_ipv6(&self.cluster) {
                complaints.push(format!("switching IPv6 of {} off: {error}", self.cluster));
            }
        }
        let rules = if self.clash { NO_RULES.to_owned() } else { self.rules() };
        if let Err(error) = nft(&rules) {
            complaints.push(format!("the firewall does not keep {} off other networks: {error}", self.subnet));
        }
        complaints
    }

    fn rules(&self) -> String {
        let Self { cluster, subnet, .. } = self;
        // Before connection tracking. One transaction: there is no moment without rules. Containers on bridges of the engine's may
        // reach the cluster as the node itself does; by name, since any other bridge may have the home network on it.
        let bridges: String = ENGINE_BRIDGES.map(|name| format!("    iifname \"{name}\" accept\n")).concat();
        format!(
            "{NO_RULES}table inet hcl {{
  chain guard {{
    type filter hook prerouting priority raw; policy accept;
    iifname {{ \"lo\", \"{cluster}\" }} accept
{bridges}    ip daddr {subnet} drop
  }}
}}
"
        )
    }
}

/// The bridges that the engine makes: its default one, the one that overlay networks leave by, and those of a user's networks, `br-`
/// and the start of their id.
const ENGINE_BRIDGES: [&str; 3] = ["docker0", "docker_gwbridge", "br-*"];

/// The first line makes the second one never fail.
const NO_RULES: &str = "table inet hcl {}\ndelete table inet hcl\n";

/// Undoes the table of [`Guard::raise`]; whether there was one.
///
/// # Errors
///
/// What `nft` says.
pub(super) fn drop_table() -> io::Result<bool> {
    match nft("delete table inet hcl\n") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Undoes the settings of [`Guard::raise`]: they become those of a new interface. Whether any were others.
///
/// # Errors
///
/// The first thing that did not work; the rest is done all the same.
pub(super) fn reset(cluster: &str, lan: Option<&str>) -> io::Result<bool> {
    let mut done = Ok(false);
    let mut reset = |family: &str, interface: &str, name: &str| {
        // An interface that is gone has nothing to undo.
        if fs::exists(path(family, interface, name)).unwrap_or(false) {
            let value = fs::read_to_string(path(family, "default", name));
            let reset = value.and_then(|value| setting(family, interface, name, value.trim()));
            done = match (std::mem::replace(&mut done, Ok(false)), reset) {
                (Ok(before), Ok(now)) => Ok(before || now),
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
        }
    };
    reset("ipv4", cluster, "promote_secondaries");
    for interface in [Some(cluster), lan].into_iter().flatten() {
        reset("ipv4", interface, "arp_ignore");
        reset("ipv4", interface, "arp_announce");
    }
    if lan.is_some() {
        reset("ipv6", cluster, "disable_ipv6");
    }
    done
}

/// Whether the table is there with its rule.
///
/// # Errors
///
/// It is not, there is no `nft`, or it may not look.
pub(super) fn stands() -> io::Result<()> {
    if list("hcl")?.contains(" drop") { Ok(()) } else { Err(io::Error::other("the table inet hcl has no rule")) }
}

/// A table of the family `inet`, as `nft` writes it.
///
/// # Errors
///
/// What `nft` says; [`io::ErrorKind::NotFound`] where the table is not there.
pub(super) fn list(table: &str) -> io::Result<String> {
    let output = Command::new("nft").args(["list", "table", "inet", table]).env("LC_ALL", "C").output().map_err(missing)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(complaint(&output.stderr))
}

fn path(family: &str, interface: &str, name: &str) -> PathBuf {
    // Not through sysctl(8)'s names: interfaces have dots in theirs.
    ["/proc/sys/net", family, "conf", interface, name].iter().collect()
}

/// Switches IPv6 of an interface off, in a kernel that has it.
pub(super) fn silence_ipv6(interface: &str) -> io::Result<()> {
    if fs::exists("/proc/sys/net/ipv6").unwrap_or(false) {
        setting("ipv6", interface, "disable_ipv6", "1")?;
    }
    Ok(())
}

/// Makes a setting `value`; whether it was another one.
fn setting(family: &str, interface: &str, name: &str, value: &str) -> io::Result<bool> {
    let path = path(family, interface, name);
    if fs::read_to_string(&path)?.trim() == value {
        return Ok(false);
    }
    fs::write(path, value).map(|()| true)
}

/// Has `nft` do `rules`, all or none.
///
/// # Errors
///
/// What it says; [`io::ErrorKind::NotFound`] where the table is not there.
pub(super) fn nft(rules: &str) -> io::Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    if let Some(mut input) = child.stdin.take() {
        // It says itself why it did not read on.
        let _ = input.write_all(rules.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(complaint(&output.stderr))
}

fn missing(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("there is no `nft`: install the package nftables"),
        _ => error,
    }
}

fn complaint(stderr: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().next().unwrap_or("no reason given");
    if line.ends_with("No such file or directory") {
        return io::Error::new(io::ErrorKind::NotFound, "the table is not there");
    }
    io::Error::other(format!("nft: {line}"))
}
