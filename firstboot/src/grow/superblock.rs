//! The size of an ext4 file system, from its superblock (`struct ext4_super_block` of the kernel, 1024 bytes into the partition).

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

const S_BLOCKS_COUNT_LO: usize = 0x04;
const S_LOG_BLOCK_SIZE: usize = 0x18;
const S_MAGIC: usize = 0x38;
const S_FEATURE_INCOMPAT: usize = 0x60;
const S_BLOCKS_COUNT_HI: usize = 0x150;
const EXT4_SUPER_MAGIC: u16 = 0xef53;
const EXT4_FEATURE_INCOMPAT_64BIT: u32 = 0x80;

/// The size in bytes of the ext4 in the device at `path`; none where there is another file system.
///
/// # Errors
///
/// The device cannot be read.
pub(super) fn size(path: &Path) -> io::Result<Option<u64>> {
    let mut superblock = [0; 1024];
    let mut device = File::open(path)?;
    device.seek(SeekFrom::Start(1024))?;
    device.read_exact(&mut superblock)?;
    Ok(decode(&superblock))
}

fn decode(superblock: &[u8; 1024]) -> Option<u64> {
    let u32_at = |at: usize| superblock.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    let magic = superblock.get(S_MAGIC..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes));
    if magic != Some(EXT4_SUPER_MAGIC) {
        return None;
    }
    let high = if u32_at(S_FEATURE_INCOMPAT)? & EXT4_FEATURE_INCOMPAT_64BIT != 0 { u32_at(S_BLOCKS_COUNT_HI)? } else { 0 };
    let blocks = u64::from(high) << 32 | u64::from(u32_at(S_BLOCKS_COUNT_LO)?);
    blocks.checked_mul(1024u64.checked_shl(u32_at(S_LOG_BLOCK_SIZE)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_mke2fs_makes_them() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("a.ext4");
        for (options, size) in [("-b 1024", 8 << 20), ("-b 4096", 40 << 20), ("-b 4096 -O 64bit", 24 << 20)] {
            File::create(&image).unwrap().set_len(size).unwrap();
            let made = std::process::Command::new("mke2fs")
                .args(["-q", "-F", "-t", "ext4"])
                .args(options.split(' '))
                .arg(&image)
                .status();
            assert!(made.expect("mke2fs is needed: apt-get install e2fsprogs").success());
            assert_eq!(super::size(&image).unwrap(), Some(size), "{options}");
        }
        std::fs::write(&image, [0; 4096]).unwrap();
        assert_eq!(super::size(&image).unwrap(), None);
        std::fs::write(&image, [0; 1500]).unwrap();
        assert!(super::size(&image).is_err());
    }
}
