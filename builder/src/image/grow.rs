//! Makes room in an image: the root partition, always the last one, and its file system become larger.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, ensure};

use super::{
    disk::Disk,
    sparse::{is_zero, zero_range},
    table::Sectors,
};
use crate::{source::tool::Tool, units::Bytes};

/// Bytes copied at a time.
const PIECE: usize = 1 << 20;
/// Both ends of a root partition stay multiples of this.
const UNIT: u64 = 4 * Bytes::MIB;

/// Enlarges root partition `number` of the image at `path`, open as `file`, so that `need` bytes are free in it. `None` if they are.
/// What the tools date counts as changed at `epoch`, in seconds since 1970.
///
/// # Errors
///
/// The root partition is not the last one, `resize2fs` is missing or fails, or the disk is full.
pub fn root(file: &Arc<File>, path: &Path, number: u32, need: Bytes, epoch: u64) -> Result<Option<Bytes>> {
    let disk = Disk::from_raw(file.try_clone().context("opening the image again")?, path)?;
    let free = disk.root()?.context("there is no root file system")?.superblock().free();
    if free >= need {
        return Ok(None);
    }
    let mut table = disk.table().context("there is no partition table")?.clone();
    let partition = table.partition(number).context("the root partition is missing")?.clone();
    ensure!(
        table.last().is_some_and(|last| last.number == number),
        "{need} are needed in root partition {number}, which has {free} free and cannot grow: it is not the last one"
    );
    let missing = need.0 - free.0;
    // Bitmaps and inode tables of the new block groups: 1 in 64 with 256 bytes of inode for 16 KiB.
    let size = Bytes(partition.size.bytes().0 + missing + missing / 32).round_up(UNIT);
    // resize2fs wants a file system that begins where its file begins.
    // It has no name, so that nothing of it stays behind whatever ends this program.
    let work = tempfile::tempfile_in(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))
        .context("creating a work file")?;
    let work_path = format!("/proc/{}/fd/{}", std::process::id(), work.as_raw_fd());
    copy(file, partition.offset(), &work, 0, partition.size.bytes().0).context("taking out the root file system")?;
    work.set_len(size.0).context("making room for the root file system")?;
    // libext2fs and e2fsck each have a variable of their own for that.
    let time = epoch.to_string();
    let tool = |name| Tool::new(name, "e2fsprogs").env("E2FSPROGS_FAKE_TIME", &time).env("E2FSCK_TIME", &time);
    tool("e2fsck").arg("-fp").arg(&work_path).output().context("checking the base's root file system")?;
    tool("resize2fs").arg(&work_path).output().context("growing the root file system")?;

    let mut grown = table.clone();
    for entry in grown.partitions.iter_mut().filter(|entry| entry.number == number) {
        entry.size = Sectors::whole(size);
    }
    file.set_len(grown.image_size().0).context("making room in the image")?;
    let mut stream: &File = file;
    table.grow_last(&mut stream, size)?;
    copy(&work, 0, file, partition.offset(), size.0).context("putting back the root file system")?;
    Ok(Some(size))
}

/// Copies `len` bytes between positions; what is zero becomes a hole.
fn copy(from: &File, from_offset: u64, to: &File, to_offset: u64, len: u64) -> io::Result<()> {
    let end = to.metadata()?.len().max(to_offset + len);
    to.set_len(end)?;
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    while done < len {
        let count = PIECE.min((len - done) as usize);
        let piece = &mut buffer[..count];
        from.read_exact_at(piece, from_offset + done)?;
        if is_zero(piece) {
            zero_range(to, to_offset + done, count as u64)?;
        } else {
            to.write_all_at(piece, to_offset + done)?;
        }
        done += count as u64;
    }
    Ok(())
}
