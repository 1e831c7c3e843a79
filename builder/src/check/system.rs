//! Facts of the root file system.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use hcl_firstboot::key::{self, ClusterKey};

use super::evidence::{elf_of, names_in};
use crate::{
    engine_store::Survey,
    image::disk::{Root, Superblock, Tree},
    inspect::{
        accounts::{self, Account},
        dpkg::{self, Package},
        elf::{Elf, Machine},
    },
    progress::Step,
};

/// Programs that tell the userland's architecture, the first that is there.
const SHELLS: [&str; 4] = ["/usr/bin/sh", "/bin/sh", "/usr/lib/systemd/systemd", "/lib/systemd/systemd"];
/// Folders with programs and libraries of the userland.
const PROGRAM_FOLDERS: [&str; 7] = ["/usr/bin", "/usr/sbin", "/usr/lib", "/usr/local", "/bin", "/sbin", "/lib"];
/// Below these lie files for other processors: the kernel's, the graphics core's, devices'.
const FOREIGN_FOLDERS: [&str; 6] =
    ["/usr/lib/modules", "/usr/lib/firmware", "/usr/lib/raspi-firmware", "/usr/lib/debug", "/lib/modules", "/lib/firmware"];
/// Files that must differ from card to card; in folders, those with `lease` in their name.
const BAKED_IN: [&str; 8] = [
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/var/lib/docker/engine-id",
    "/etc/docker/key.json",
    "/var/lib/dhcp",
    "/var/lib/dhcpcd",
    "/var/lib/NetworkManager",
    "/run/systemd/netif/leases",
];
/// The node program.
pub(crate) const NODE_PROGRAM: &str = "/usr/sbin/hcl-firstboot";
/// Where the engine may be.
pub(crate) const ENGINES: [&str; 3] = ["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd"];

/// The facts.
#[derive(Debug)]
pub struct System {
    /// Partition number, 0 for a bare file system.
    pub number: u32,
    /// The file system's superblock.
    pub superblock: Superblock,
    /// Architecture of the userland.
    pub machine: Option<Machine>,
    /// Programs and libraries by machine: how many, and the first few paths.
    pub programs: BTreeMap<String, (Machine, usize, Vec<String>)>,
    /// Kernel versions with a modules folder; for each the modules, built in or as files.
    pub modules: BTreeMap<String, BTreeSet<String>>,
    /// For each kernel version the modules that are built in.
    pub builtin: BTreeMap<String, BTreeSet<String>>,
    /// `/etc/fstab`.
    pub fstab: Option<String>,
    /// Units that something wants, requires or aliases.
    pub enabled: BTreeSet<String>,
    /// Units that are masked.
    pub masked: BTreeSet<String>,
    /// Units that exist.
    pub units: BTreeSet<String>,
    /// Accounts.
    pub accounts: Vec<Account>,
    /// Names of accounts whose `authorized_keys` hold a key.
    pub key_holders: BTreeSet<String>,
    /// There is an SSH server.
    pub sshd: bool,
    /// There is something at the node program's path.
    pub node_exists: bool,
    /// Header of the node program.
    pub node: Option<Elf>,
    /// What stands at the cluster key's path.
    pub cluster_key: Option<ClusterKeyFact>,
    /// Path of the engine and its header.
    pub engine: Option<(String, Option<Elf>)>,
    /// `/etc/docker/daemon.json`.
    pub daemon_json: Option<String>,
    /// The engine's image store, where there is one.
    pub store: Option<Survey>,
    /// The engine's unit and its drop-ins, one after the other.
    pub engine_unit: String,
    /// Files that must differ from card to card, with their length.
    pub baked_in: BTreeMap<String, u64>,
    /// `/etc/machine-id`.
    pub machine_id: Option<String>,
    /// `/var/lib/dbus/machine-id`, if it is a file of its own.
    pub dbus_id: Option<String>,
    /// Network configurations with a password in them.
    pub network_secrets: Vec<String>,
    /// Packages.
    pub packages: Vec<Package>,
}

/// What stands at the cluster key's path.
#[derive(Debug)]
pub struct ClusterKeyFact {
    /// It is a file, not a link to one.
    pub is_file: bool,
    /// Permission bits.
    pub mode: u16,
    /// Owner and group.
    pub owner: (u32, u32),
    /// The key, where the node program would take the file.
    pub key: Option<ClusterKey>,
}

impl System {
    /// Gathers the facts of a root file system.
    pub(super) fn gather(root: &Root, number: u32, step: &Step) -> Result<Self> {
        let text = |path: &str| root.try_text(path);
        let mut machine = None;
        for shell in SHELLS {
            if machine.is_none() {
                machine = elf_of(root, shell)?.map(|elf| elf.machine);
            }
        }
        let mut engine = None;
        for path in ENGINES {
            if engine.is_none() && root.exists(path)? {
                engine = Some((path.to_owned(), elf_of(root, path)?));
            }
        }
        let accounts = accounts::parse(&text("/etc/passwd")?.unwrap_or_default(), &text("/etc/shadow")?.unwrap_or_default());
        let mut system = Self {
            number,
            superblock: root.superblock().clone(),
            machine,
            programs: BTreeMap::new(),
            modules: BTreeMap::new(),
            builtin: BTreeMap::new(),
            fstab: text("/etc/fstab")?,
            enabled: BTreeSet::new(),
            masked: BTreeSet::new(),
            units: BTreeSet::new(),
            key_holders: key_holders(root, &accounts)?,
            accounts,
            sshd: root.exists("/usr/sbin/sshd")?,
            node_exists: root.exists(NODE_PROGRAM)?,
            node: elf_of(root, NODE_PROGRAM)?,
            cluster_key: cluster_key(root)?,
            engine,
            daemon_json: text("/etc/docker/daemon.json")?,
            store: None,
            engine_unit: String::new(),
            baked_in: baked_in(root)?,
            machine_id: text("/etc/machine-id")?,
            dbus_id: match root.symlink_metadata("/var/lib/dbus/machine-id")? {
                Some(metadata) if metadata.is_file() => text("/var/lib/dbus/machine-id")?,
                _ => None,
            },
            network_secrets: network_secrets(root)?,
            packages: dpkg::parse_status(&text("/var/lib/dpkg/status")?.unwrap_or_default()),
        };
        system.find_modules(root)?;
        system.find_units(root)?;
        step.detail("programs");
        system.find_programs(root)?;
        step.detail("container images");
        system.store = Survey::gather(root)?;
        Ok(system)
    }

    /// Whether a unit starts at boot.
    pub fn is_enabled(&self, unit: &str) -> bool {
        self.enabled.contains(unit) && self.units.contains(unit) && !self.masked.contains(unit)
    }

    fn find_modules(&mut self, root: &Root) -> Result<()> {
        let base = if root.exists("/usr/lib/modules")? { "/usr/lib/modules" } else { "/lib/modules" };
        for version in names_in(root, base)? {
            let folder = format!("{base}/{version}");
            if !root.exists(&format!("{folder}/kernel"))? {
                continue;
            }
            let builtin = root.try_text(&format!("{folder}/modules.builtin"))?.unwrap_or_default();
            let builtin: BTreeSet<String> = builtin.lines().map(str::to_owned).collect();
            let mut all = builtin.clone();
            root.walk(&format!("{folder}/kernel"), &mut |entry| {
                if entry.metadata.is_file() {
                    all.insert(entry.path.clone());
                }
                Ok(())
            })?;
            self.builtin.insert(version.clone(), builtin);
            self.modules.insert(version, all);
        }
        Ok(())
    }

    fn find_units(&mut self, root: &Root) -> Result<()> {
        for base in ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"] {
            for name in names_in(root, base)? {
                let path = format!("{base}/{name}");
                let Some(metadata) = root.symlink_metadata(&path)? else { continue };
                if metadata.is_dir() && (name.ends_with(".wants") || name.ends_with(".requires")) {
                    self.enabled.extend(names_in(root, &path)?);
                } else if metadata.is_file() {
                    self.units.insert(name);
                } else if !metadata.is_dir() {
                    let target = root.read_link(&path)?;
                    if target == "/dev/null" {
                        self.masked.insert(name);
                        continue;
                    }
                    self.units.insert(name.clone());
                    // An alias enables what it points to.
                    if let Some(unit) = target.rsplit('/').next().filter(|_| base.starts_with("/etc")) {
                        self.enabled.insert(unit.to_owned());
                        self.enabled.insert(name);
                    }
                }
            }
            self.engine_unit.push_str(&root.try_text(&format!("{base}/docker.service"))?.unwrap_or_default());
            for name in names_in(root, &format!("{base}/docker.service.d"))? {
                let drop_in = root.try_text(&format!("{base}/docker.service.d/{name}"))?;
                self.engine_unit.push_str(&drop_in.unwrap_or_default());
            }
        }
        Ok(())
    }

    fn find_programs(&mut self, root: &Root) -> Result<()> {
        for folder in PROGRAM_FOLDERS {
            // Merged into /usr on modern systems: then it is a link, and was walked already.
            if !root.symlink_metadata(folder)?.is_some_and(|metadata| metadata.is_dir()) {
                continue;
            }
            let mut found = Vec::new();
            root.walk(folder, &mut |entry| {
                let foreign = FOREIGN_FOLDERS
                    .iter()
                    .any(|foreign| entry.path.strip_prefix(foreign).is_some_and(|rest| rest.starts_with('/')));
                let program = entry.metadata.mode & 0o111 != 0 || entry.name.contains(".so");
                if entry.metadata.is_file() && entry.metadata.size >= 52 && program && !foreign {
                    found.push(entry.path.clone());
                }
                Ok(())
            })?;
            for path in found {
                let Some(elf) = root.head(&path, 64)?.and_then(|head| Elf::parse(&head)) else { continue };
                if elf.relocatable {
                    continue;
                }
                let (_, count, examples) = self.programs.entry(elf.machine.to_string()).or_insert((elf.machine, 0, Vec::new()));
                *count += 1;
                if examples.len() < 3 {
                    examples.push(path);
                }
            }
        }
        Ok(())
    }
}

fn cluster_key(root: &Root) -> Result<Option<ClusterKeyFact>> {
    let Some(metadata) = root.symlink_metadata(key::PATH)? else { return Ok(None) };
    // A valid one is 65 bytes long; the rest of a long file does not matter.
    let head = if metadata.is_file() { root.head(key::PATH, 1 << 10)?.unwrap_or_default() } else { Vec::new() };
    Ok(Some(ClusterKeyFact {
        is_file: metadata.is_file(),
        mode: metadata.mode,
        owner: (metadata.uid, metadata.gid),
        key: String::from_utf8(head).ok().and_then(|text| text.parse().ok()),
    }))
}

fn key_holders(root: &Root, accounts: &[Account]) -> Result<BTreeSet<String>> {
    let mut holders = BTreeSet::new();
    for account in accounts.iter().filter(|account| account.has_shell() && account.home.starts_with('/')) {
        let home = account.home.trim_end_matches('/');
        for name in ["authorized_keys", "authorized_keys2"] {
            let keys = root.try_text(&format!("{home}/.ssh/{name}"))?.unwrap_or_default();
            if keys.lines().any(|line| !line.trim().is_empty() && !line.starts_with('#')) {
                holders.insert(account.name.clone());
            }
        }
    }
    Ok(holders)
}

fn baked_in(root: &Root) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for name in names_in(root, "/etc/ssh")? {
        if name.starts_with("ssh_host_") && name.contains("_key") {
            found.insert(format!("/etc/ssh/{name}"), 1);
        }
    }
    for path in BAKED_IN {
        match root.symlink_metadata(path)? {
            Some(metadata) if metadata.is_file() => {
                found.insert(path.to_owned(), metadata.size);
            }
            Some(metadata) if metadata.is_dir() => {
                for entry in root.list(path)? {
                    if entry.metadata.is_file() && (entry.name.contains("lease") || path.ends_with("leases")) {
                        found.insert(entry.path, entry.metadata.size);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn network_secrets(root: &Root) -> Result<Vec<String>> {
    const KEYS: [&str; 6] = ["psk=", "password=", "password:", "Passphrase=", "PreSharedKey=", "wep-key0="];
    let mut found = Vec::new();
    let mut files = vec!["/etc/wpa_supplicant/wpa_supplicant.conf".to_owned()];
    for folder in ["/etc/NetworkManager/system-connections", "/var/lib/iwd", "/etc/netplan"] {
        files.extend(names_in(root, folder)?.into_iter().map(|name| format!("{folder}/{name}")));
    }
    for file in files {
        let text = root.try_text(&file)?.unwrap_or_default();
        let secret = |line: &str| {
            let value = KEYS.iter().find_map(|key| line.trim().strip_prefix(key));
            value.is_some_and(|value| !value.trim().is_empty())
        };
        if text.lines().any(secret) {
            found.push(file);
        }
    }
    Ok(found)
}
