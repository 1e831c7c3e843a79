//! A FAT, read in place through a small cache: memory does not grow with its size.

use std::{
    fmt,
    io::{self, Read},
};

use anyhow::{Context, Result, bail, ensure};
use fatfs::{Dir, FatType, FileSystem, FsOptions};

use super::{
    tree::{Entry, FileKind, Metadata, Tree, absolute, join},
    volume::{Volume, VolumeReader},
};
use crate::units::Bytes;

/// A FAT12, FAT16 or FAT32.
pub struct Fat {
    fs: FileSystem<VolumeReader>,
    volume: Volume,
    label: String,
}

impl fmt::Debug for Fat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fat").field("label", &self.label).field("serial", &self.serial()).finish_non_exhaustive()
    }
}

impl Fat {
    /// Opens the FAT in `volume`.
    ///
    /// # Errors
    ///
    /// If there is none, or its boot sector makes no sense.
    pub fn open(volume: &Volume) -> Result<Self> {
        let fs = FileSystem::new(volume.reader(), FsOptions::new().update_accessed_date(false))
            .context("reading the FAT's boot sector")?;
        let label = match fs.read_volume_label_from_root_dir() {
            Ok(Some(label)) => label,
            _ => fs.volume_label(),
        };
        let label = if label.trim() == "NO NAME" { String::new() } else { label.trim_end().to_owned() };
        Ok(Self { fs, volume: volume.clone(), label })
    }

    /// The volume label, empty if there is none.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The serial number as Linux uses it for `UUID=`: `1A2B-3C4D`.
    pub fn serial(&self) -> String {
        let id = self.fs.volume_id();
        format!("{:04X}-{:04X}", id >> 16, id & 0xffff)
    }

    /// 12, 16 or 32.
    pub fn bits(&self) -> u32 {
        match self.fs.fat_type() {
            FatType::Fat12 => 12,
            FatType::Fat16 => 16,
            FatType::Fat32 => 32,
        }
    }

    /// Bytes for files, and how many of these are free.
    ///
    /// # Errors
    ///
    /// If the table cannot be read.
    pub fn space(&self) -> Result<(Bytes, Bytes)> {
        let stats = self.fs.stats().context("counting free clusters")?;
        let cluster = u64::from(stats.cluster_size());
        Ok((Bytes(u64::from(stats.total_clusters()) * cluster), Bytes(u64::from(stats.free_clusters()) * cluster)))
    }

    /// Where it lies.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    fn directory(&self, path: &str) -> io::Result<Dir<'_, VolumeReader>> {
        let path = path.trim_matches('/');
        if path.is_empty() { Ok(self.fs.root_dir()) } else { self.fs.root_dir().open_dir(path) }
    }

    /// The entry itself. FAT compares names without regard to case.
    fn find(&self, path: &str) -> Result<Option<fatfs::DirEntry<'_, VolumeReader>>> {
        let path = path.trim_matches('/');
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = match self.directory(parent) {
            Ok(directory) => directory,
            Err(error) if absent(&error) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {parent} on the FAT")),
        };
        for entry in directory.iter() {
            let entry = entry.with_context(|| format!("reading /{parent} on the FAT"))?;
            if same(&entry.file_name(), name) || same(&entry.short_file_name(), name) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }
}

fn same(a: &str, b: &str) -> bool {
    a == b || a.to_lowercase() == b.to_lowercase()
}

/// `fatfs` says "other" when a file stands where a folder is asked for.
fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Other)
}

fn metadata(entry: &fatfs::DirEntry<'_, VolumeReader>) -> Metadata {
    let time = entry.modified();
    let days = days_from_civil(i64::from(time.date.year), i64::from(time.date.month), i64::from(time.date.day));
    let seconds = i64::from(time.time.hour) * 3600 + i64::from(time.time.min) * 60 + i64::from(time.time.sec);
    Metadata {
        kind: if entry.is_dir() { FileKind::Directory } else { FileKind::File },
        mode: 0o755,
        uid: 0,
        gid: 0,
        size: if entry.is_dir() { 0 } else { entry.len() },
        modified: days * 86400 + seconds,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

const ROOT: Metadata = Metadata { kind: FileKind::Directory, mode: 0o755, uid: 0, gid: 0, size: 0, modified: 0 };

impl Tree for Fat {
    fn metadata(&self, path: &str) -> Result<Option<Metadata>> {
        if path.trim_matches('/').is_empty() {
            return Ok(Some(ROOT));
        }
        Ok(self.find(path)?.map(|entry| metadata(&entry)))
    }

    fn symlink_metadata(&self, path: &str) -> Result<Option<Metadata>> {
        self.metadata(path)
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + '_>> {
        let entry = self.find(path)?.with_context(|| format!("{} is not on the boot partition", absolute(path)))?;
        ensure!(entry.is_file(), "{} on the boot partition is a folder", absolute(path));
        Ok(Box::new(entry.to_file()))
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        let base = absolute(path);
        let directory = match self.directory(path) {
            Ok(directory) => directory,
            Err(error) if absent(&error) => bail!("{base} is no folder on the boot partition"),
            Err(error) => return Err(error).with_context(|| format!("reading {base} on the FAT")),
        };
        let mut entries = Vec::new();
        for entry in directory.iter() {
            let entry = entry.with_context(|| format!("reading {base} on the FAT"))?;
            let name = entry.file_name();
            if name != "." && name != ".." {
                entries.push(Entry { path: join(&base, &name), name, metadata: metadata(&entry) });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn read_link(&self, path: &str) -> Result<String> {
        bail!("{} is no link: a FAT has none", absolute(path))
    }
}
