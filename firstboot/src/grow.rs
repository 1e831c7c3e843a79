//! `hcl-firstboot grow-root`: the root partition and its ext4 grow to the end of the card.
//!
//! Run early on every boot. Where nothing is to grow it reads a few files in sysfs and one kilobyte of the card, and ends.
//!
//! The work is done by `sfdisk`, `partx` and `resize2fs` rather than by system calls of our own: they are in every image, they
//! know MBR and GPT with its second header at the old end, and they have met more cards than we shall. Each step can be cut by a
//! power failure, and the next boot goes on from there:
//!
//! 1. The partition's entry: one sector of an MBR; of a GPT the tables at both ends, of which one is always whole.
//! 2. The kernel is told the new size; it is in use, so the table cannot simply be read again.
//! 3. The file system grows while mounted; its journal keeps each step whole.
//!
//! Which of them is still to do is read from the disk each time, never remembered.

mod superblock;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{driver::Console, marker::Marker};

/// Less than this at the end of a card or partition is left alone: `sfdisk` aligns, a GPT has its second header there, and ext4
/// makes no block group that is too small to hold its own tables.
const SLACK: u64 = 16 << 20;

/// Sysfs counts in these, whatever the disk's own sectors are.
const SECTOR: u64 = 512;

/// Why root did not grow. The node works as it is.
#[derive(Debug, thiserror::Error)]
pub enum GrowError {
    /// Something could not be read.
    #[error("reading {what}: {error}")]
    Read {
        /// What.
        what: String,
        /// What the system said.
        error: io::Error,
    },
    /// A tool is missing or failed.
    #[error("{tool}: {reason}")]
    Tool {
        /// Its name.
        tool: &'static str,
        /// What it said.
        reason: String,
    },
}

/// Where the root partition lies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// The disk's device, such as `/dev/mmcblk0`.
    disk: PathBuf,
    /// The partition's device, such as `/dev/mmcblk0p2`.
    partition: PathBuf,
    /// The partition's number.
    number: u32,
    /// Its first byte.
    start: u64,
    /// Its size in bytes, as the kernel has it.
    size: u64,
    /// The disk's size in bytes.
    disk_size: u64,
    /// Where the next partition begins, in bytes.
    next: Option<u64>,
}

impl Place {
    /// Whether there is room behind the partition.
    fn has_room(&self) -> bool {
        self.next.is_none() && self.start + self.size + SLACK <= self.disk_size
    }
}

/// Grows what can grow.
///
/// # Errors
///
/// Something could not be read, or a tool failed; the next boot tries again.
pub fn run(console: &Console) -> Result<(), GrowError> {
    let Some(mut place) = root(Path::new("/sys"), Path::new("/proc/self/mountinfo"))? else {
        console.log(6, "root is on no partition of a disk: nothing to grow");
        return Ok(());
    };
    if place.next.is_some() {
        console.log(6, "another partition lies behind root: nothing to grow");
    } else if place.has_room() {
        grow_entry(&place.disk, place.number)?;
        tool("partx", &["--update".as_ref(), "--nr".as_ref(), place.number.to_string().as_ref(), place.disk.as_ref()], "")?;
        if let Some(grown) = root(Path::new("/sys"), Path::new("/proc/self/mountinfo"))? {
            place = grown;
        }
        console.log(6, &format!("{} is now {} MiB", place.partition.display(), place.size >> 20));
    }
    let from = superblock::size(&place.partition).map_err(|error| read(&place.partition, error))?;
    let Some(from) = from.filter(|from| from + SLACK <= place.size) else { return Ok(()) };
    tool("resize2fs", &[place.partition.as_ref()], "")?;
    let to = superblock::size(&place.partition).map_err(|error| read(&place.partition, error))?.unwrap_or(place.size);
    console.mark(&Marker::Grown { from: from >> 20, to: to >> 20 });
    Ok(())
}

/// Grows entry `number` of the partition table on `disk` to the end, start and all other entries as they are.
///
/// # Errors
///
/// `sfdisk` is missing or refuses.
pub fn grow_entry(disk: &Path, number: u32) -> Result<(), GrowError> {
    let number = number.to_string();
    // Mounted, hence no re-read; `,+` keeps the start and takes all the room there is.
    let arguments = ["--no-reread", "--no-tell-kernel", "--force", "--quiet", "--wipe", "never", "-N", &number];
    let mut arguments: Vec<&std::ffi::OsStr> = arguments.iter().map(AsRef::as_ref).collect();
    arguments.push(disk.as_ref());
    tool("sfdisk", &arguments, ",+\n")
}

/// The partition that is mounted at `/`; none where root is no partition.
fn root(sys: &Path, mountinfo: &Path) -> Result<Option<Place>, GrowError> {
    let text = fs::read_to_string(mountinfo).map_err(|error| read(mountinfo, error))?;
    let Some(device) = root_device(&text) else { return Ok(None) };
    let entry = sys.join("dev/block").join(device);
    // A link to …/block/mmcblk0/mmcblk0p2.
    let Ok(folder) = fs::canonicalize(&entry) else { return Ok(None) };
    let Some(disk) = folder.parent().filter(|_| folder.join("partition").exists()) else { return Ok(None) };
    let size = |folder: &Path| number(&folder.join("size")).map(|sectors| sectors * SECTOR);
    let start = number(&folder.join("start"))? * SECTOR;
    let mut next: Option<u64> = None;
    for sibling in fs::read_dir(disk).map_err(|error| read(disk, error))?.flatten() {
        let path = sibling.path();
        if path.join("partition").exists() {
            let begins = number(&path.join("start"))? * SECTOR;
            if begins > start {
                next = Some(next.map_or(begins, |next| next.min(begins)));
            }
        }
    }
    let device = |folder: &Path| Path::new("/dev").join(folder.file_name().unwrap_or_default());
    Ok(Some(Place {
        disk: device(disk),
        partition: device(&folder),
        number: number(&folder.join("partition"))? as u32,
        start,
        size: size(&folder)?,
        disk_size: size(disk)?,
        next,
    }))
}

/// `MAJOR:MINOR` of the file system that is mounted last at `/` (proc(5): fields 3 and 5).
fn root_device(mountinfo: &str) -> Option<&str> {
    let mounts = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(2);
        Some((fields.next()?, fields.nth(1)?))
    });
    mounts.filter(|(_, place)| *place == "/").map(|(device, _)| device).next_back()
}

fn number(path: &Path) -> Result<u64, GrowError> {
    let text = fs::read_to_string(path).map_err(|error| read(path, error))?;
    text.trim().parse().map_err(|_| read(path, io::Error::new(io::ErrorKind::InvalidData, "no number")))
}

fn read(what: &Path, error: io::Error) -> GrowError {
    GrowError::Read { what: what.display().to_string(), error }
}

fn tool(name: &'static str, arguments: &[&std::ffi::OsStr], input: &str) -> Result<(), GrowError> {
    let failed = |error: io::Error| GrowError::Tool { tool: name, reason: error.to_string() };
    let mut child = Command::new(name)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that reads nothing and ends says why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(GrowError::Tool { tool: name, reason: format!("{}: {said}", output.status) })
}

#[cfg(test)]
mod tests;
