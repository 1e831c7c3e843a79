//! What the rules look at: facts of an image, gathered once. The rules themselves read nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use hcl_firstboot::key::ClusterKey;

use super::system::System;
use crate::{
    image::{
        disk::{Disk, Fat, Identity, Root, Tree},
        table::PartitionTable,
    },
    inspect::{
        cmdline::Cmdline,
        elf::{self, Elf},
        firmware::{Config, Start},
        initrd::Initrd,
        kernel::Kernel,
    },
    manifest::Board,
    progress::Reporter,
    units::Bytes,
    why::{Override, overrides},
};

/// Longest file on the boot partition that is searched for secrets.
const MAX_TEXT: u64 = 1 << 20;

/// The facts.
#[derive(Debug)]
pub struct Evidence {
    /// The boards the image is for: named, else those whose device tree is there.
    pub boards: Vec<Board>,
    /// Whether they were named.
    pub boards_named: bool,
    /// Length of the image or device.
    pub size: Bytes,
    /// The partition table.
    pub table: Option<PartitionTable>,
    /// What lies in each partition.
    pub volumes: Vec<(u32, Option<Identity>)>,
    /// The boot partition, or why it cannot be read.
    pub boot: Result<Boot, String>,
    /// The root partition, or why it cannot be read.
    pub root: Result<System, String>,
}

/// Facts of the boot partition.
#[derive(Debug, Default)]
pub struct Boot {
    /// Its partition number.
    pub number: u32,
    /// Paths of all files, lower case, without a `/` in front, and their sizes.
    pub files: BTreeMap<String, u64>,
    /// `config.txt`, where there is one.
    pub config: Option<String>,
    /// What each board makes of `config.txt`.
    pub starts: Vec<(Config, Start)>,
    /// Text of each command line file that is used.
    pub cmdlines: BTreeMap<String, String>,
    /// Kernels that are used, by file.
    pub kernels: BTreeMap<String, Kernel>,
    /// Initrds that are used, by file, or why one cannot be read.
    pub initrds: BTreeMap<String, Result<Initrd, String>>,
    /// Files that hold a private key.
    pub secrets: Vec<String>,
    /// Files that are a cluster key, or that hold the one of this image.
    pub cluster_keys: Vec<String>,
    /// What is wrong with `hcl.toml`.
    pub bad_overrides: Option<String>,
    /// Text of the files by which vendors let a user in: `userconf.txt`, cloud-init's `user-data`.
    pub user_files: BTreeMap<String, String>,
}

impl Boot {
    /// Whether a file is there; a FAT does not tell upper from lower case.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(&name.trim_start_matches('/').to_lowercase())
    }
}

impl Evidence {
    /// Gathers the facts. `boards` may be empty: then those count whose device tree is on the boot partition.
    ///
    /// # Errors
    ///
    /// If reading fails outside of the file systems. What cannot be read in them becomes a fact.
    pub fn gather(disk: &Disk, boards: &[Board], reporter: &Reporter) -> Result<Self> {
        let step = reporter.step("reading the image");
        let mut evidence = Self {
            boards: boards.to_vec(),
            boards_named: !boards.is_empty(),
            size: disk.size(),
            table: disk.table().cloned(),
            volumes: disk.identities(),
            boot: Err("there is no FAT partition".to_owned()),
            root: Err("there is no partition with a root file system".to_owned()),
        };
        // First: what its key looks like is what the boot partition must not hold.
        match disk.root() {
            Ok(Some(root)) => {
                let number = disk.root_number()?.unwrap_or_default();
                evidence.root = System::gather(&root, number, &step).map_err(|error| format!("{error:#}"));
            }
            Ok(None) => {}
            Err(error) => evidence.root = Err(format!("{error:#}")),
        }
        match disk.boot() {
            Ok(Some(fat)) => {
                if boards.is_empty() {
                    evidence.boards = boards_on(&fat);
                }
                let number = disk.boot_number()?.unwrap_or_default();
                let own = evidence.system().and_then(|system| system.cluster_key.as_ref()?.key.clone());
                evidence.boot = boot(&fat, number, &evidence.boards, own.as_ref()).map_err(|error| format!("{error:#}"));
            }
            Ok(None) => {}
            Err(error) => evidence.boot = Err(format!("{error:#}")),
        }
        step.done("");
        Ok(evidence)
    }

    /// The boot partition's facts, if they could be had.
    pub fn boot(&self) -> Option<&Boot> {
        self.boot.as_ref().ok()
    }

    /// The root file system's facts, if they could be had.
    pub fn system(&self) -> Option<&System> {
        self.root.as_ref().ok()
    }

    /// The partition that a `root=` or fstab specification names.
    pub fn resolve(&self, spec: &str) -> Option<u32> {
        crate::image::disk::resolve(self.table.as_ref(), &self.volumes, spec)
    }

    /// What each board's firmware loads.
    pub fn starts(&self) -> impl Iterator<Item = &Start> {
        self.boot().into_iter().flat_map(|boot| boot.starts.iter().map(|(_, start)| start))
    }

    /// Each command line that is used, with its file's name.
    pub fn cmdlines(&self) -> impl Iterator<Item = (&str, Cmdline)> {
        let lines = self.boot().into_iter().flat_map(|boot| &boot.cmdlines);
        lines.map(|(name, text)| (name.as_str(), Cmdline::parse(text)))
    }
}

/// The boards whose device tree is on a boot partition.
pub(crate) fn boards_on(fat: &Fat) -> Vec<Board> {
    let there = |name: &str| fat.exists(name).unwrap_or(false);
    Board::ALL.into_iter().filter(|board| there(board.dtb()) || there(board.vendor_dtb())).collect()
}

fn boot(fat: &Fat, number: u32, boards: &[Board], own: Option<&ClusterKey>) -> Result<Boot> {
    let mut boot = Boot { number, ..Boot::default() };
    let mut names = Vec::new();
    fat.walk("/", &mut |entry| {
        if entry.metadata.is_file() {
            names.push((entry.path.clone(), entry.metadata.size));
        }
        Ok(())
    })?;
    for (path, size) in &names {
        boot.files.insert(path.trim_start_matches('/').to_lowercase(), *size);
        if *size > MAX_TEXT {
            continue;
        }
        let head = fat.head(path, 64 << 10)?.unwrap_or_default();
        if is_secret(&head) {
            boot.secrets.push(path.clone());
        }
        if is_cluster_key(&head, own) {
            boot.cluster_keys.push(path.clone());
        }
    }
    for name in ["userconf.txt", "userconf", "user-data"] {
        if let Some(text) = fat.try_text(name)? {
            boot.user_files.insert(name.to_owned(), text);
        }
    }
    if let Override::Wrong(reason) = overrides(fat)? {
        boot.bad_overrides = Some(reason);
    }
    boot.config = fat.try_text("config.txt")?;
    let text = boot.config.clone().unwrap_or_default();
    let include = |name: &str| fat.try_text(name).ok().flatten();
    for &board in boards {
        let config = Config::parse(&text, board, &include);
        let start = Start::new(&config, board, &|name| boot.has(name));
        if let Some(kernel) = start.kernels.iter().find(|name| boot.has(name))
            && !boot.kernels.contains_key(kernel)
        {
            boot.kernels.insert(kernel.clone(), Kernel::read(kernel, fat.open(kernel)?)?);
        }
        for file in &start.initramfs {
            if boot.has(file) && !boot.initrds.contains_key(file) {
                let initrd = Initrd::read(fat.open(file)?).map_err(|error| format!("{error:#}"));
                boot.initrds.insert(file.clone(), initrd);
            }
        }
        if let Some(line) = fat.try_text(&start.cmdline)? {
            boot.cmdlines.insert(start.cmdline.clone(), line);
        }
        boot.starts.push((config, start));
    }
    if boot.cmdlines.is_empty()
        && let Some(line) = fat.try_text("cmdline.txt")?
    {
        boot.cmdlines.insert("cmdline.txt".to_owned(), line);
    }
    Ok(boot)
}

/// PEM and OpenSSH private keys, and PuTTY's.
fn is_secret(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    text.contains("PRIVATE KEY-----") || text.contains("PuTTY-User-Key-File")
}

/// A key file as a whole, whosever it is, or the image's own key anywhere. Lone digits within other text may be a checksum.
fn is_cluster_key(data: &[u8], own: Option<&ClusterKey>) -> bool {
    let text = String::from_utf8_lossy(data).to_lowercase();
    text.trim().parse::<ClusterKey>().is_ok() || own.is_some_and(|key| text.contains(key.to_file().trim_end()))
}

/// The ELF header of a file, links followed.
pub(super) fn elf_of(root: &Root, path: &str) -> Result<Option<Elf>> {
    Ok(root.head(path, elf::HEAD)?.and_then(|head| Elf::parse(&head)))
}

/// Names in a folder; none if it is not there.
pub(super) fn names_in(root: &Root, folder: &str) -> Result<BTreeSet<String>> {
    match root.metadata(folder)? {
        Some(metadata) if metadata.is_dir() => Ok(root.list(folder)?.into_iter().map(|entry| entry.name).collect()),
        _ => Ok(BTreeSet::new()),
    }
}
