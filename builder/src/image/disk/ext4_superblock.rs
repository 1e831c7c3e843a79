//! The superblock of ext2, ext3 and ext4: what `dumpe2fs -h` shows.
//!
//! Field names and offsets are those of `struct ext4_super_block` in the kernel's `fs/ext4/ext4.h`.

use anyhow::{Context, Result, ensure};
use uuid::Uuid;

use super::volume::Volume;
use crate::units::Bytes;

const OFFSET: u64 = 1024;
const SIZE: usize = 1024;
const EXT4_VALID_FS: u16 = 1;
const EXT4_FEATURE_COMPAT_HAS_JOURNAL: u32 = 1 << 2;
const EXT4_FEATURE_INCOMPAT_RECOVER: u32 = 1 << 2;
const EXT4_FEATURE_INCOMPAT_64BIT: u32 = 1 << 7;

/// Bit, name as `tune2fs -O` spells it.
type Names = [(u32, &'static str)];
const COMPAT: &Names = &[
    (0, "dir_prealloc"),
    (2, "has_journal"),
    (3, "ext_attr"),
    (4, "resize_inode"),
    (5, "dir_index"),
    (9, "sparse_super2"),
    (10, "fast_commit"),
    (11, "stable_inodes"),
    (12, "orphan_file"),
];
const INCOMPAT: &Names = &[
    (0, "compression"),
    (1, "filetype"),
    (2, "needs_recovery"),
    (3, "journal_dev"),
    (4, "meta_bg"),
    (6, "extent"),
    (7, "64bit"),
    (8, "mmp"),
    (9, "flex_bg"),
    (10, "ea_inode"),
    (12, "dirdata"),
    (13, "metadata_csum_seed"),
    (14, "large_dir"),
    (15, "inline_data"),
    (16, "encrypt"),
    (17, "casefold"),
];
const RO_COMPAT: &Names = &[
    (0, "sparse_super"),
    (1, "large_file"),
    (3, "huge_file"),
    (4, "uninit_bg"),
    (5, "dir_nlink"),
    (6, "extra_isize"),
    (8, "quota"),
    (9, "bigalloc"),
    (10, "metadata_csum"),
    (12, "read-only"),
    (13, "project"),
    (15, "verity"),
    (16, "orphan_present"),
];

/// What a superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// `s_volume_name`.
    pub label: String,
    /// `s_uuid`.
    pub uuid: Uuid,
    /// Bytes of a block.
    pub block_size: u64,
    /// `s_blocks_count`.
    pub blocks: u64,
    /// `s_free_blocks_count`.
    pub free_blocks: u64,
    /// `s_r_blocks_count`: kept for root.
    pub reserved_blocks: u64,
    /// `s_inodes_count`.
    pub inodes: u32,
    /// `s_free_inodes_count`.
    pub free_inodes: u32,
    /// Cleanly unmounted, and no errors recorded.
    pub clean: bool,
    /// The journal holds transactions that were not yet written in place.
    pub needs_recovery: bool,
    /// There is a journal.
    pub journal: bool,
    /// Features by name, in the order of `dumpe2fs`.
    pub features: Vec<String>,
}

impl Superblock {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// If reading fails, or there is none.
    pub fn read(volume: &Volume) -> Result<Self> {
        let mut raw = [0; SIZE];
        volume.read_at(OFFSET, &mut raw).context("reading the ext4 superblock")?;
        let le16 = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
        let le32 = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        ensure!(le16(0x38) == 0xef53, "there is no ext4 superblock");
        let s_log_block_size = le32(0x18);
        ensure!(s_log_block_size <= 6, "the ext4 superblock names blocks of 2^{} KiB", s_log_block_size);
        let (compat, incompat, ro_compat) = (le32(0x5c), le32(0x60), le32(0x64));
        let wide = |low: usize, high: usize| {
            let high = if incompat & EXT4_FEATURE_INCOMPAT_64BIT != 0 { le32(high) } else { 0 };
            u64::from(high) << 32 | u64::from(le32(low))
        };
        let name = &raw[0x78..0x88];
        let name = &name[..name.iter().position(|&byte| byte == 0).unwrap_or(name.len())];
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&raw[0x68..0x78]);
        let mut features = Vec::new();
        for (bits, names) in [(compat, COMPAT), (incompat, INCOMPAT), (ro_compat, RO_COMPAT)] {
            for bit in (0..32).filter(|bit| bits & 1 << bit != 0) {
                let name = names.iter().find(|(known, _)| *known == bit).map(|(_, name)| (*name).to_owned());
                features.push(name.unwrap_or_else(|| format!("bit{bit}")));
            }
        }
        Ok(Self {
            label: String::from_utf8_lossy(name).into_owned(),
            uuid: Uuid::from_bytes(uuid),
            block_size: 1024 << s_log_block_size,
            blocks: wide(0x04, 0x150),
            reserved_blocks: wide(0x08, 0x154),
            free_blocks: wide(0x0c, 0x158),
            inodes: le32(0x00),
            free_inodes: le32(0x10),
            clean: le16(0x3a) == EXT4_VALID_FS,
            needs_recovery: incompat & EXT4_FEATURE_INCOMPAT_RECOVER != 0,
            journal: compat & EXT4_FEATURE_COMPAT_HAS_JOURNAL != 0,
            features,
        })
    }

    /// Size of the file system.
    pub fn size(&self) -> Bytes {
        Bytes(self.blocks.saturating_mul(self.block_size))
    }

    /// Free for everybody: without what is reserved for root.
    pub fn available(&self) -> Bytes {
        Bytes(self.free_blocks.saturating_sub(self.reserved_blocks).saturating_mul(self.block_size))
    }

    /// Free, what is reserved for root included.
    pub fn free(&self) -> Bytes {
        Bytes(self.free_blocks.saturating_mul(self.block_size))
    }
}
