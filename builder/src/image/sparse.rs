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

#[cfg(test)]
mod tests {
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
}
