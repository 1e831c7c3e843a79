//! The FAT boot partition: made anew for a bootstrapped base, edited in place in any base.
//!
//! Works on an [`Overlay`], so that a partition of any size takes memory for what is touched only.
//! Times come from the caller, never from the clock.

mod directories;

use std::{
    io::{Read, Write},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use fatfs::{Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time};

use super::overlay::{Cursor, Overlay};

/// Smallest number of clusters of a FAT32 (Microsoft's FAT specification, "FAT type determination").
const FAT32_CLUSTERS: u64 = 65_525;

/// A FAT file system open for editing. Nothing is on disk before [`Editor::finish`].
pub struct Editor {
    fs: FileSystem<Cursor>,
    overlay: Arc<Overlay>,
}

impl std::fmt::Debug for Editor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Editor").field("overlay", &self.overlay).finish_non_exhaustive()
    }
}

/// Makes an empty FAT32 that fills `overlay`.
///
/// # Errors
///
/// The partition is too small for FAT32 (33 MiB), or writing fails.
pub fn format(overlay: &Arc<Overlay>, label: &str, volume_id: u32) -> Result<()> {
    let size = overlay.len();
    // Small clusters while there are enough of them: the firmware's files are small, and a boot partition
    // that is no FAT32 by count of clusters is one that some boot ROMs do not read.
    let cluster = [4096_u32, 2048, 1024, 512]
        .into_iter()
        .find(|cluster| size / u64::from(*cluster) > FAT32_CLUSTERS + FAT32_CLUSTERS / 64)
        .context("a FAT32 boot partition needs at least 34 MiB")?;
    let mut name = [b' '; 11];
    ensure!(label.len() <= name.len() && label.is_ascii(), "the FAT label `{label}` has more than 11 characters or is not ASCII");
    name[..label.len()].copy_from_slice(label.as_bytes());
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .bytes_per_cluster(cluster)
        .volume_id(volume_id)
        .volume_label(name)
        .total_sectors(u32::try_from(size / 512).context("a FAT larger than 2 TiB")?);
    fatfs::format_volume(Cursor::new(overlay.clone()), options).context("formatting the boot partition")
}

impl Editor {
    /// Opens the file system in `overlay`; whatever is written carries the time `epoch`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// It is no FAT or is damaged.
    pub fn open(overlay: Arc<Overlay>, epoch: u64) -> Result<Self> {
        let clock: &'static Stopped = Box::leak(Box::new(Stopped(date_time(epoch))));
        let options = FsOptions::new().time_provider(clock).update_accessed_date(false);
        let fs = FileSystem::new(Cursor::new(overlay.clone()), options).context("opening the boot partition")?;
        Ok(Self { fs, overlay })
    }

    /// The file at `path` (parts separated by `/`), `None` where there is none.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let mut file = match self.fs.root_dir().open_file(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("opening {path} on the boot partition")),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(|| format!("reading {path} on the boot partition"))?;
        Ok(Some(bytes))
    }

    /// Writes the file at `path`, replacing one that is there. Its directory must exist.
    ///
    /// # Errors
    ///
    /// No room, or no such directory.
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        self.write_stream(path, &mut { bytes })
    }

    /// As [`Editor::write`] with content from a stream.
    ///
    /// # Errors
    ///
    /// As [`Editor::write`], and when `content` cannot be read.
    pub fn write_stream(&self, path: &str, content: &mut dyn Read) -> Result<()> {
        let mut write = || -> std::io::Result<()> {
            let mut file = self.fs.root_dir().create_file(path)?;
            file.truncate()?;
            std::io::copy(content, &mut file)?;
            file.flush()
        };
        write().with_context(|| format!("writing {path} on the boot partition"))
    }

    /// Makes a directory; one that is there already is fine.
    ///
    /// # Errors
    ///
    /// No room, or a file is in the way.
    pub fn make_directory(&self, path: &str) -> Result<()> {
        self.fs.root_dir().create_dir(path).map(drop).with_context(|| format!("making {path} on the boot partition"))
    }

    /// Writes everything to the file.
    ///
    /// # Errors
    ///
    /// Writing fails, the disk being full first of all.
    pub fn finish(self) -> Result<()> {
        self.fs.unmount().context("closing the boot partition")?;
        directories::repair(&self.overlay).context("repairing directories of the boot partition")?;
        self.overlay.flush_to_file().context("writing the boot partition")
    }
}

#[derive(Debug)]
struct Stopped(DateTime);

impl fatfs::TimeProvider for Stopped {
    fn get_current_date(&self) -> Date {
        self.0.date
    }

    fn get_current_date_time(&self) -> DateTime {
        self.0
    }
}

/// FAT knows the years 1980 to 2107.
fn date_time(epoch: u64) -> DateTime {
    let text = crate::source::apt::day(epoch);
    let mut parts = text.split('-').map(|part| part.parse::<u16>().unwrap_or(1));
    let mut next = || parts.next().unwrap_or(1);
    let (year, month, day) = (next().clamp(1980, 2107), next(), next());
    let seconds = epoch % 86_400;
    DateTime {
        date: Date { year, month, day },
        time: Time { hour: (seconds / 3600) as u16, min: (seconds / 60 % 60) as u16, sec: (seconds % 60) as u16, millis: 0 },
    }
}
