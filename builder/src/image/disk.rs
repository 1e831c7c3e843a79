//! An image file or block device seen as partitions and file systems. Nothing here writes.
//!
//! [`Disk::open`] takes raw images and compressed ones (told by their first bytes, not by name),
//! [`Disk::boot`] and [`Disk::root`] choose the file systems that firmware and kernel would choose,
//! and [`Tree`] reads them.

mod decoded;
mod ext4_superblock;
mod fat;
mod identify;
mod root;
#[cfg(test)]
mod tests;
mod tree;
mod volume;

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};

pub use self::{
    decoded::Compression,
    ext4_superblock::Superblock,
    fat::Fat,
    identify::{FsKind, Identity},
    root::{Inodes, Root, Stat},
    tree::{Entry, FileKind, Metadata, Tree},
    volume::{Volume, VolumeReader},
};
use super::table::PartitionTable;
use crate::{progress::Reporter, units::Bytes};

/// An image or a card, opened read-only.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    compression: Option<Compression>,
    whole: Volume,
    table: Option<PartitionTable>,
}

impl Disk {
    /// Opens a raw image or a block device, or decodes a compressed image (xz, zstd, gzip) into a
    /// sparse temporary file that goes away with the `Disk`.
    ///
    /// # Errors
    ///
    /// If it cannot be read or decoded, or holds neither a partition table nor a known file system.
    pub fn open(path: &Path, reporter: &Reporter) -> Result<Self> {
        let context = || format!("opening {}", path.display());
        // Before it is opened: a pipe would wait for somebody who writes into it.
        let kind = fs::metadata(path).with_context(context)?.file_type();
        if kind.is_dir() {
            bail!("{} is a folder, not an image: name the .img file or the card's device", path.display());
        }
        if kind.is_fifo() || kind.is_socket() {
            bail!("{} is a pipe, and an image is read at many places: name the .img file or the card's device", path.display());
        }
        let mut file = File::open(path).with_context(context)?;
        let compression = Compression::of(&mut file).with_context(context)?;
        if let Some(compression) = compression {
            file =
                decoded::decode(file, path, reporter).with_context(|| format!("decoding {} ({compression})", path.display()))?;
        }
        Self::from_file(file, path, compression)
    }

    /// Opens a raw image that is already open, such as one that is being built.
    ///
    /// # Errors
    ///
    /// As [`Disk::open`].
    pub fn from_raw(file: File, path: &Path) -> Result<Self> {
        Self::from_file(file, path, None)
    }

    fn from_file(mut file: File, path: &Path, compression: Option<Compression>) -> Result<Self> {
        // A block device has no length in its metadata, but an end.
        let size = file.seek(SeekFrom::End(0)).with_context(|| format!("measuring {}", path.display()))?;
        let whole = Volume::new(Arc::new(file), 0, size);
        let table = PartitionTable::read(&mut whole.reader()).with_context(|| format!("reading {}", path.display()))?;
        if table.is_none() && whole.identify()?.is_none() {
            bail!("{} holds neither a partition table nor a known file system: is it an image at all?", path.display());
        }
        Ok(Self { path: path.to_owned(), compression, whole, table })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the file is compressed, if it is.
    pub fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// Size of the (decoded) image or device.
    pub fn size(&self) -> Bytes {
        self.whole.size()
    }

    /// The partition table. `None` on a bare file system.
    pub fn table(&self) -> Option<&PartitionTable> {
        self.table.as_ref()
    }

    /// Everything, from the first byte.
    pub fn whole(&self) -> &Volume {
        &self.whole
    }

    /// The volumes that can hold a file system: number and bytes of each partition, or the whole
    /// disk as number 0 where there is no table. Cut off at the end of the file.
    pub fn volumes(&self) -> Vec<(u32, Volume)> {
        match &self.table {
            None => vec![(0, self.whole.clone())],
            Some(table) => table
                .partitions
                .iter()
                .filter(|partition| !partition.is_extended())
                .map(|partition| (partition.number, self.whole.part(partition.offset(), partition.size.bytes().0)))
                .collect(),
        }
    }

    /// The volume of a partition, or the whole disk for number 0 where there is no table.
    pub fn volume(&self, number: u32) -> Option<Volume> {
        self.volumes().into_iter().find(|(candidate, _)| *candidate == number).map(|(_, volume)| volume)
    }

    /// Number of the partition that the firmware boots from: the first FAT one.
    ///
    /// # Errors
    ///
    /// If reading fails.
    pub fn boot_number(&self) -> Result<Option<u32>> {
        for (number, volume) in self.volumes() {
            if volume.identify()? == Some(FsKind::Fat) {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// The file system that the firmware boots from. `None` if there is no FAT.
    ///
    /// # Errors
    ///
    /// If reading fails or the FAT is damaged.
    pub fn boot(&self) -> Result<Option<Fat>> {
        let Some(number) = self.boot_number()? else { return Ok(None) };
        let Some(volume) = self.volume(number) else { return Ok(None) };
        Fat::open(&volume).map(Some).with_context(|| format!("boot partition {number} of {}", self.path.display()))
    }

    /// Number of the root partition: what `root=` in cmdline.txt names, else the first ext4 with an
    /// operating system, else the first ext4.
    ///
    /// # Errors
    ///
    /// If reading fails.
    pub fn root_number(&self) -> Result<Option<u32>> {
        let named = match self.boot() {
            Ok(Some(fat)) => fat.try_read("cmdline.txt")?.and_then(|line| {
                let line = String::from_utf8_lossy(&line).into_owned();
                line.split_ascii_whitespace().filter_map(|word| word.strip_prefix("root=")).next_back().map(str::to_owned)
            }),
            _ => None,
        };
        if let Some(number) = named.and_then(|spec| self.resolve(&spec)) {
            return Ok(Some(number));
        }
        let mut first = None;
        for (number, volume) in self.volumes() {
            match volume.identify()? {
                None | Some(FsKind::Fat | FsKind::Swap) => continue,
                Some(FsKind::Ext) => {
                    if let Ok(root) = Root::open(&volume)
                        && (root.exists("/etc/os-release")? || root.exists("/usr/lib/os-release")?)
                    {
                        return Ok(Some(number));
                    }
                }
                Some(_) => {}
            }
            first = first.or(Some(number));
        }
        Ok(first)
    }

    /// The root file system. `None` if there is none.
    ///
    /// # Errors
    ///
    /// If it is no ext4 (the message says what it is), is damaged or reading fails.
    pub fn root(&self) -> Result<Option<Root>> {
        let Some(number) = self.root_number()? else { return Ok(None) };
        let Some(volume) = self.volume(number) else { return Ok(None) };
        Root::open(&volume).map(Some).with_context(|| format!("root partition {number} of {}", self.path.display()))
    }

    /// Kind, label and UUID of what lies in each volume. What cannot be read counts as unknown.
    pub fn identities(&self) -> Vec<(u32, Option<Identity>)> {
        self.volumes().into_iter().map(|(number, volume)| (number, volume.identity().ok().flatten())).collect()
    }

    /// The partition that a `root=` or fstab specification names, see [`resolve`].
    pub fn resolve(&self, spec: &str) -> Option<u32> {
        resolve(self.table.as_ref(), &self.identities(), spec)
    }
}

/// The partition that a `root=` or fstab specification names: `PARTUUID=`, `UUID=`, `LABEL=`,
/// `PARTLABEL=`, their `/dev/disk/by-…` forms, `/dev/mmcblk0p2`, `/dev/vda2`, `/dev/sda2`. `None` if nothing matches.
pub fn resolve(table: Option<&PartitionTable>, volumes: &[(u32, Option<Identity>)], spec: &str) -> Option<u32> {
    let by = |tag: &str, folder: &str| {
        spec.strip_prefix(tag).or_else(|| spec.strip_prefix(folder)).map(|value| value.trim_matches('"'))
    };
    let find = |wanted: &dyn Fn(&Identity) -> bool| {
        volumes.iter().find(|(_, identity)| identity.as_ref().is_some_and(wanted)).map(|(number, _)| *number)
    };
    if let Some(uuid) = by("PARTUUID=", "/dev/disk/by-partuuid/") {
        let table = table?;
        let numbers = table.partitions.iter().map(|partition| partition.number);
        return numbers.into_iter().find(|&number| table.partuuid(number).is_some_and(|own| own.eq_ignore_ascii_case(uuid)));
    }
    if let Some(label) = by("PARTLABEL=", "/dev/disk/by-partlabel/") {
        return table?.partitions.iter().find(|partition| partition.name == label).map(|partition| partition.number);
    }
    if let Some(uuid) = by("UUID=", "/dev/disk/by-uuid/") {
        return find(&|identity| identity.uuid.eq_ignore_ascii_case(uuid));
    }
    if let Some(label) = by("LABEL=", "/dev/disk/by-label/") {
        return find(&|identity| identity.label == label);
    }
    let device = spec.strip_prefix("/dev/")?;
    let digits = device.len() - device.bytes().rev().take_while(u8::is_ascii_digit).count();
    let number: u32 = device[digits..].parse().ok()?;
    let known = matches!(&device[..digits], "mmcblk0p" | "vda" | "sda" | "nvme0n1p");
    (known && table?.partition(number).is_some()).then_some(number)
}
