//! Holes: finding what is zero, and not storing it.
//!
//! An image is mostly zeros. A hole reads as zeros and takes no room, so every writer here turns
//! runs of zero blocks into holes. What is a hole never depends on how a file came to be, only on
//! what is in it: see [`BLOCK`].

use std::{fs::File, io, os::unix::fs::FileExt};

/// Bytes of the blocks that are either stored or left out: the block size of the file systems that images lie on.
pub const BLOCK: usize = 4096;

/// Whether every byte of `data` is zero.
pub fn is_zero(data: &[u8]) -> bool {
    let mut chunks = data.chunks_exact(64);
    // An early way out for real data, whole chunks (which vectorise) for zeros.
    chunks.by_ref().all(|chunk| chunk.iter().fold(0, |bits, byte| bits | byte) == 0)
        && chunks.remainder().iter().all(|byte| *byte == 0)
}

/// Makes `len` bytes at `offset` read as zeros, as a hole where the file system can.
///
/// The file's size stays; the range must lie within it.
///
/// # Errors
///
/// The file cannot be written.
pub fn zero_range(file: &File, offset: u64, len: u64) -> io::Result<()> {
    if len == 0 || punch_hole(file, offset, len)? {
        return Ok(());
    }
    let zeros = [0; 16 * BLOCK];
    let mut done = 0;
    while done < len {
        let count = (len - done).min(zeros.len() as u64);
        file.write_all_at(&zeros[..count as usize], offset + done)?;
        done += count;
    }
    Ok(())
}

/// Punches a hole; false where the file system or the host system cannot.
#[cfg(target_os = "linux")]
fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<bool> {
    use rustix::{
        fs::{FallocateFlags, fallocate},
        io::Errno,
    };
    loop {
        match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn punch_hole(_file: &File, _offset: u64, _len: u64) -> io::Result<bool> {
    Ok(false)
}

/// Writes a stream into a new file and leaves out what is zero.
///
/// The file is empty at first, so that what is not written is a hole; [`SparseWriter::finish`] gives it its size.
#[derive(Debug)]
pub struct SparseWriter<'a> {
    file: &'a File,
    /// Bytes taken so far.
    position: u64,
    /// Bytes stored so far.
    stored: u64,
    /// The start of a block whose rest has not come yet.
    tail: Vec<u8>,
}

impl<'a> SparseWriter<'a> {
    /// A writer into `file`, which is emptied.
    ///
    /// # Errors
    ///
    /// It cannot be.
    pub fn new(file: &'a File) -> io::Result<Self> {
        file.set_len(0)?;
        Ok(Self { file, position: 0, stored: 0, tail: Vec::with_capacity(BLOCK) })
    }

    /// Bytes taken so far, holes included.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn write(&mut self, mut data: &[u8]) -> io::Result<()> {
        self.position += data.len() as u64;
        let mut start = self.position - data.len() as u64;
        if !self.tail.is_empty() {
            let (head, rest) = data.split_at(data.len().min(BLOCK - self.tail.len()));
            self.tail.extend_from_slice(head);
            start += head.len() as u64;
            data = rest;
            if self.tail.len() < BLOCK {
                return Ok(());
            }
            let block = std::mem::take(&mut self.tail);
            self.store(&block, start - BLOCK as u64)?;
        }
        let whole = data.len() / BLOCK * BLOCK;
        self.store(&data[..whole], start)?;
        self.tail.extend_from_slice(&data[whole..]);
        Ok(())
    }

    /// Writes what is left and sets the size. Returns how many bytes were stored.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn finish(mut self) -> io::Result<u64> {
        let tail = std::mem::take(&mut self.tail);
        self.store(&tail, self.position - tail.len() as u64)?;
        self.file.set_len(self.position)?;
        Ok(self.stored)
    }

    /// Writes the runs of blocks of `data` that are not zero; only the last block may be short.
    fn store(&mut self, data: &[u8], start: u64) -> io::Result<()> {
        let mut at = 0;
        while at < data.len() {
            let run = data[at..].chunks(BLOCK).take_while(|block| !is_zero(block)).map(<[u8]>::len).sum::<usize>();
            if run == 0 {
                at += BLOCK;
                continue;
            }
            self.file.write_all_at(&data[at..at + run], start + at as u64)?;
            self.stored += run as u64;
            at += run;
        }
        Ok(())
    }
}

/// Makes `to` a copy of `from`: sharing its blocks where the file system can, else copying what is not a hole.
/// What `to` had before is gone.
///
/// # Errors
///
/// Either file cannot be read or written.
pub fn copy_sparse(from: &File, to: &File) -> io::Result<()> {
    to.set_len(0)?;
    if share_blocks(from, to)? {
        return Ok(());
    }
    let size = from.metadata()?.len();
    for (start, end) in extents(from, size)? {
        copy_range(from, to, start, end)?;
    }
    to.set_len(size)
}

/// The byte ranges of the first `size` bytes of `file` that are no holes. It changes the file's position.
///
/// # Errors
///
/// The file cannot be read.
pub fn extents(file: &File, size: u64) -> io::Result<Vec<(u64, u64)>> {
    use rustix::{
        fs::{SeekFrom, seek},
        io::Errno,
    };
    let mut extents = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // A hole up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                // This file system does not tell: all of it may be data.
                extents.push((at, size));
                break;
            }
            Err(error) => return Err(error.into()),
        };
        if start >= size {
            break;
        }
        let end = seek(file, SeekFrom::Hole(start))?.min(size);
        extents.push((start, end));
        at = end;
    }
    Ok(extents)
}

#[cfg(target_os = "linux")]
fn share_blocks(from: &File, to: &File) -> io::Result<bool> {
    use rustix::io::Errno;
    match rustix::fs::ioctl_ficlone(to, from) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY | Errno::NOSYS | Errno::PERM | Errno::TXTBSY) => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn share_blocks(_from: &File, _to: &File) -> io::Result<bool> {
    Ok(false)
}

/// Copies by the kernel where it can, else through a buffer.
fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let mut at = start;
    #[cfg(target_os = "linux")]
    while at < end {
        use rustix::io::Errno;
        let (mut source, mut target) = (at, at);
        let count = (end - at).min(1 << 30) as usize;
        match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), count) {
            Ok(0) => break,
            Ok(count) => at += count as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM | Errno::BADF) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let mut buf = vec![0; if at < end { 1 << 20 } else { 0 }];
    while at < end {
        let count = (end - at).min(buf.len() as u64) as usize;
        from.read_exact_at(&mut buf[..count], at)?;
        to.write_all_at(&buf[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zero_is_told_from_not_zero() {
        for len in [0, 1, 63, 64, 65, 4096, 5000] {
            let mut data = vec![0; len];
            assert!(is_zero(&data), "{len}");
            for at in [0, len / 2, len.saturating_sub(1)] {
                if at < len {
                    data[at] = 1;
                    assert!(!is_zero(&data), "{len} {at}");
                    data[at] = 0;
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever comes in pieces of whatever size, the file has it, and copies of it do.
        #[test]
        fn what_is_written_sparsely_reads_back(
            parts in prop::collection::vec((any::<bool>(), 1usize..20_000), 0..20),
            cut in 1usize..9000,
        ) {
            let data: Vec<u8> = parts.iter().flat_map(|(zero, len)| std::iter::repeat_n(if *zero { 0 } else { 7 }, *len)).collect();
            let file = tempfile::tempfile()?;
            let mut writer = SparseWriter::new(&file)?;
            for piece in data.chunks(cut) {
                writer.write(piece)?;
            }
            prop_assert_eq!(writer.position(), data.len() as u64);
            let stored = writer.finish()?;
            prop_assert!(stored <= data.len() as u64);
            let copy = tempfile::tempfile()?;
            copy.set_len(123_456)?;
            copy_sparse(&file, &copy)?;
            for file in [&file, &copy] {
                prop_assert_eq!(file.metadata()?.len(), data.len() as u64);
                let mut read = vec![1; data.len()];
                file.read_exact_at(&mut read, 0)?;
                prop_assert!(read == data);
            }
        }
    }

    #[test]
    fn a_copy_of_a_hole_is_a_hole() {
        use std::os::unix::fs::MetadataExt;
        let (from, to) = (tempfile::tempfile().expect("a file"), tempfile::tempfile().expect("a file"));
        let size = 1 << 30;
        from.set_len(size).expect("a sparse file");
        from.write_all_at(b"x", size / 2).expect("room");
        copy_sparse(&from, &to).expect("copied");
        let metadata = to.metadata().expect("metadata");
        assert_eq!(metadata.len(), size);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    }
}
