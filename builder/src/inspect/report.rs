//! The facts that `hcl-image inspect` shows.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::{
    cmdline::Cmdline,
    dpkg,
    elf::{self, Elf},
    firmware::{Config, Start},
    kernel::Kernel,
};
use crate::{
    check::{ENGINES, NODE_PROGRAM, boards_on},
    engine_store,
    image::disk::{Compression, Disk, Fat, FsKind, Root, Superblock, Tree, Volume},
    manifest::Board,
};

/// Packages whose version matters for a cluster.
const PACKAGES: [&str; 12] = [
    "docker.io",
    "docker-ce",
    "docker-cli",
    "containerd",
    "containerd.io",
    "runc",
    "docker-compose",
    "haproxy",
    "systemd",
    "openssh-server",
    "raspi-firmware",
    "initramfs-tools",
];

/// Everything.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The file.
    pub image: PathBuf,
    /// Bytes, decoded.
    pub size: u64,
    /// How it is compressed.
    pub compression: Option<Compression>,
    /// The table in words, or `None` for a bare file system.
    pub table: Option<String>,
    /// What is wrong with the table.
    pub table_damage: Vec<String>,
    /// Its partitions; the whole as number 0 where there is no table.
    pub partitions: Vec<PartitionReport>,
    /// The boot partition.
    pub boot: Option<BootReport>,
    /// The root file system.
    pub system: Option<SystemReport>,
    /// What could not be read, and why.
    pub problems: Vec<String>,
}

/// A partition and what is in it.
#[derive(Debug, Serialize)]
pub struct PartitionReport {
    /// Number.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Type in words.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// PARTUUID.
    pub partuuid: Option<String>,
    /// The file system.
    pub file_system: Option<FileSystemReport>,
}

/// A file system.
#[derive(Debug, Serialize)]
pub struct FileSystemReport {
    /// `FAT32`, `ext4`, …
    pub kind: String,
    /// Label.
    pub label: String,
    /// UUID.
    pub uuid: String,
    /// Bytes, where known.
    pub size: Option<u64>,
    /// Bytes free, where known.
    pub free: Option<u64>,
    /// Features as `tune2fs` names them.
    pub features: Vec<String>,
    /// Whether it was left clean, where known.
    pub clean: Option<bool>,
}

/// The boot partition.
#[derive(Debug, Serialize)]
pub struct BootReport {
    /// The command line.
    pub cmdline: Option<String>,
    /// The lines of `config.txt` that say something.
    pub config: Vec<String>,
    /// Memory cgroup on, by the command line.
    pub memory_cgroup: bool,
    /// What each board whose device tree is there would start.
    pub starts: Vec<StartReport>,
}

/// What one board starts.
#[derive(Debug, Serialize)]
pub struct StartReport {
    /// The board.
    pub board: Board,
    /// Kernel file.
    pub kernel: String,
    /// What it is; `None` if it is missing.
    #[serde(flatten)]
    pub image: Option<Kernel>,
    /// Initrd files.
    pub initramfs: Vec<String>,
}

/// The root file system.
#[derive(Debug, Serialize)]
pub struct SystemReport {
    /// `PRETTY_NAME` of os-release.
    pub os: Option<String>,
    /// `/etc/debian_version`, finer than os-release.
    pub debian_version: Option<String>,
    /// Architecture of the userland.
    pub userland: Option<String>,
    /// `/etc/hostname`.
    pub hostname: Option<String>,
    /// Kernel versions that have modules.
    pub kernels: Vec<String>,
    /// Packages whose files are there.
    pub packages: usize,
    /// Versions of some.
    pub versions: BTreeMap<String, String>,
    /// The engine.
    pub engine: Option<EngineReport>,
    /// The node program.
    pub node: Option<NodeReport>,
    /// `/usr/share/hcl/image.json`, as it is.
    pub image_json: Option<serde_json::Value>,
}

/// The container engine.
#[derive(Debug, Serialize)]
pub struct EngineReport {
    /// Path.
    pub program: String,
    /// Architecture and linkage.
    pub elf: Option<Elf>,
    /// Version of its package.
    pub version: Option<String>,
    /// `/etc/docker/daemon.json`, as it is.
    pub daemon_json: Option<serde_json::Value>,
    /// Images in the store, by name.
    pub images: BTreeMap<String, ImageReport>,
}

/// A preloaded container image.
#[derive(Debug, Serialize)]
pub struct ImageReport {
    /// Its id.
    pub id: String,
    /// Bytes of its layers as the engine counts them.
    pub size: u64,
}

/// The node program.
#[derive(Debug, Serialize)]
pub struct NodeReport {
    /// Path.
    pub program: String,
    /// Architecture and linkage.
    pub elf: Option<Elf>,
    /// Bytes.
    pub size: u64,
    /// `/etc/hcl/node.toml` is there.
    pub configured: bool,
}

impl Report {
    /// Reads an image. What cannot be read becomes a problem in the report.
    ///
    /// # Errors
    ///
    /// If reading fails altogether.
    pub fn gather(disk: &Disk) -> Result<Self> {
        let mut report = Self {
            image: disk.path().to_owned(),
            size: disk.size().0,
            compression: disk.compression(),
            table: disk.table().map(|table| table.kind.to_string()),
            table_damage: disk.table().map(|table| table.damage.clone()).unwrap_or_default(),
            partitions: Vec::new(),
            boot: None,
            system: None,
            problems: Vec::new(),
        };
        for (number, volume) in disk.volumes() {
            let partition = disk.table().and_then(|table| table.partition(number));
            let file_system = file_system(&volume).unwrap_or_else(|error| {
                report.problems.push(format!("partition {number}: {error:#}"));
                None
            });
            report.partitions.push(PartitionReport {
                number,
                start: volume.start(),
                size: partition.map_or(volume.size().0, |partition| partition.size.bytes().0),
                kind: partition.map(|partition| partition.kind.to_string()),
                partuuid: disk.table().and_then(|table| table.partuuid(number)),
                file_system,
            });
        }
        match disk.boot().and_then(|fat| fat.map(|fat| boot(&fat)).transpose()) {
            Ok(boot) => report.boot = boot,
            Err(error) => report.problems.push(format!("{error:#}")),
        }
        match disk.root().and_then(|root| root.map(|root| system(&root)).transpose()) {
            Ok(system) => report.system = system,
            Err(error) => report.problems.push(format!("{error:#}")),
        }
        Ok(report)
    }
}

fn file_system(volume: &Volume) -> Result<Option<FileSystemReport>> {
    let Some(kind) = volume.identify()? else { return Ok(None) };
    let mut report = FileSystemReport {
        kind: kind.to_string(),
        label: String::new(),
        uuid: String::new(),
        size: None,
        free: None,
        features: Vec::new(),
        clean: None,
    };
    match kind {
        FsKind::Fat => {
            let fat = Fat::open(volume)?;
            let (size, free) = fat.space()?;
            report.kind = format!("FAT{}", fat.bits());
            report.label = fat.label().to_owned();
            report.uuid = fat.serial();
            (report.size, report.free) = (Some(size.0), Some(free.0));
        }
        FsKind::Ext => {
            let superblock = Superblock::read(volume)?;
            report.kind = generation(&superblock).to_owned();
            report.uuid = superblock.uuid.to_string();
            (report.size, report.free) = (Some(superblock.size().0), Some(superblock.free().0));
            report.clean = Some(superblock.clean && !superblock.needs_recovery);
            report.label = superblock.label;
            report.features = superblock.features;
        }
        _ => {}
    }
    Ok(Some(report))
}

fn generation(superblock: &Superblock) -> &'static str {
    match (superblock.features.iter().any(|feature| feature == "extent"), superblock.journal) {
        (true, _) => "ext4",
        (false, true) => "ext3",
        (false, false) => "ext2",
    }
}

fn boot(fat: &Fat) -> Result<BootReport> {
    let text = fat.try_text("config.txt")?.unwrap_or_default();
    let cmdline = fat.try_text("cmdline.txt")?.map(|line| line.trim().to_owned());
    let include = |name: &str| fat.try_text(name).ok().flatten();
    let exists = |name: &str| fat.exists(name).unwrap_or(false);
    let mut read: BTreeMap<String, Kernel> = BTreeMap::new();
    let mut starts = Vec::new();
    for board in boards_on(fat) {
        let start = Start::new(&Config::parse(&text, board, &include), board, &exists);
        let kernel = start.kernels.iter().find(|name| exists(name)).or(start.kernels.first()).cloned().unwrap_or_default();
        if exists(&kernel) && !read.contains_key(&kernel) {
            read.insert(kernel.clone(), Kernel::read(&kernel, fat.open(&kernel)?)?);
        }
        starts.push(StartReport { board, image: read.get(&kernel).cloned(), kernel, initramfs: start.initramfs });
    }
    let (enable, disable) = Cmdline::parse(cmdline.as_deref().unwrap_or_default()).memory_controller();
    Ok(BootReport {
        memory_cgroup: enable.is_some() && enable > disable,
        cmdline,
        config: text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(str::to_owned)
            .collect(),
        starts,
    })
}

fn system(root: &Root) -> Result<SystemReport> {
    let os = match root.try_text("/etc/os-release")? {
        Some(text) => text,
        None => root.try_text("/usr/lib/os-release")?.unwrap_or_default(),
    };
    let program = |path: &str| -> Result<Option<Elf>> { Ok(root.head(path, elf::HEAD)?.and_then(|head| Elf::parse(&head))) };
    let json = |path: &str| -> Result<Option<serde_json::Value>> {
        Ok(root.try_read(path)?.and_then(|data| serde_json::from_slice(&data).ok()))
    };
    let mut userland = None;
    for shell in ["/bin/sh", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"] {
        if userland.is_none() {
            userland = program(shell)?.map(|elf| elf.machine.to_string());
        }
    }
    let packages = dpkg::parse_status(&root.try_text("/var/lib/dpkg/status")?.unwrap_or_default());
    let present = || packages.iter().filter(|package| package.is_present());
    let versions: BTreeMap<String, String> = present()
        .filter(|package| PACKAGES.contains(&package.name.as_str()) || package.name.starts_with("linux-image-"))
        .map(|package| (package.name.clone(), package.version.clone()))
        .collect();
    let mut engine = None;
    for path in ENGINES {
        if engine.is_none() && root.exists(path)? {
            engine = Some(EngineReport {
                program: path.to_owned(),
                elf: program(path)?,
                version: versions.get("docker.io").or_else(|| versions.get("docker-ce")).cloned(),
                daemon_json: json("/etc/docker/daemon.json")?,
                images: engine_store::list(root)?
                    .into_iter()
                    .map(|(name, id, size)| (name, ImageReport { id, size: size.0 }))
                    .collect(),
            });
        }
    }
    let node = match root.metadata(NODE_PROGRAM)? {
        None => None,
        Some(metadata) => Some(NodeReport {
            program: NODE_PROGRAM.to_owned(),
            elf: program(NODE_PROGRAM)?,
            size: metadata.size,
            configured: root.exists("/etc/hcl/node.toml")?,
        }),
    };
    let mut kernels = Vec::new();
    for base in ["/usr/lib/modules", "/lib/modules"] {
        if kernels.is_empty() && root.metadata(base)?.is_some_and(|metadata| metadata.is_dir()) {
            kernels = root.list(base)?.into_iter().map(|entry| entry.name).collect();
        }
    }
    let line = |path: &str| -> Result<Option<String>> { Ok(root.try_text(path)?.map(|text| text.trim().to_owned())) };
    Ok(SystemReport {
        os: dpkg::parse_assignments(&os).remove("PRETTY_NAME"),
        debian_version: line("/etc/debian_version")?,
        userland,
        hostname: line("/etc/hostname")?,
        kernels,
        packages: present().count(),
        versions,
        engine,
        node,
        image_json: json("/usr/share/hcl/image.json")?,
    })
}
