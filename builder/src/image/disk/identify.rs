//! File systems by their magic numbers.

use std::fmt;

use anyhow::Result;

use super::{Fat, ext4_superblock::Superblock, volume::Volume};

/// What lies in a volume. Only [`FsKind::Fat`] and [`FsKind::Ext`] can be read; the others are
/// known so that a message can name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FsKind {
    /// FAT12, FAT16 or FAT32.
    Fat,
    /// ext2, ext3 or ext4.
    Ext,
    /// Btrfs.
    Btrfs,
    /// F2FS.
    F2fs,
    /// XFS.
    Xfs,
    /// SquashFS.
    Squashfs,
    /// EROFS.
    Erofs,
    /// exFAT.
    Exfat,
    /// NTFS.
    Ntfs,
    /// LUKS encryption.
    Luks,
    /// Linux swap space.
    Swap,
    /// LVM physical volume.
    Lvm,
    /// ISO 9660.
    Iso9660,
}

impl fmt::Display for FsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fat => "FAT",
            Self::Ext => "ext4",
            Self::Btrfs => "Btrfs",
            Self::F2fs => "F2FS",
            Self::Xfs => "XFS",
            Self::Squashfs => "SquashFS",
            Self::Erofs => "EROFS",
            Self::Exfat => "exFAT",
            Self::Ntfs => "NTFS",
            Self::Luks => "LUKS",
            Self::Swap => "swap",
            Self::Lvm => "LVM",
            Self::Iso9660 => "ISO 9660",
        })
    }
}

/// Kind, label and UUID as `blkid` shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The kind of file system.
    pub kind: FsKind,
    /// Its label, empty if there is none.
    pub label: String,
    /// Its UUID, for a FAT `XXXX-XXXX`. Empty where we do not read it.
    pub uuid: String,
}

/// Offset, magic, kind.
const MAGICS: [(u64, &[u8], FsKind); 14] = [
    (1080, &[0x53, 0xef], FsKind::Ext),
    (0, b"LUKS\xba\xbe", FsKind::Luks),
    (0, b"XFSB", FsKind::Xfs),
    (0, b"hsqs", FsKind::Squashfs),
    (3, b"EXFAT   ", FsKind::Exfat),
    (3, b"NTFS    ", FsKind::Ntfs),
    (1024, &[0x10, 0x20, 0xf5, 0xf2], FsKind::F2fs),
    (1024, &[0xe2, 0xe1, 0xf5, 0xe0], FsKind::Erofs),
    (536, b"LVM2 001", FsKind::Lvm),
    (4086, b"SWAPSPACE2", FsKind::Swap),
    (0x8001, b"CD001", FsKind::Iso9660),
    (0x1_0040, b"_BHRfS_M", FsKind::Btrfs),
    (54, b"FAT", FsKind::Fat),
    (82, b"FAT32", FsKind::Fat),
];

pub(super) fn kind(volume: &Volume) -> Result<Option<FsKind>> {
    let mut buffer = [0; 10];
    for (offset, magic, kind) in MAGICS {
        let found = &mut buffer[..magic.len()];
        if offset + magic.len() as u64 > volume.size().0 {
            continue;
        }
        volume.read_at(offset, found)?;
        if found != magic {
            continue;
        }
        // The FAT strings are only informative: a boot sector also begins with a jump and ends with its signature.
        if kind == FsKind::Fat {
            let (mut jump, mut signature) = ([0; 1], [0; 2]);
            volume.read_at(0, &mut jump)?;
            volume.read_at(510, &mut signature)?;
            if !matches!(jump, [0xeb | 0xe9]) || signature != [0x55, 0xaa] {
                continue;
            }
        }
        return Ok(Some(kind));
    }
    Ok(None)
}

pub(super) fn identity(volume: &Volume) -> Result<Option<Identity>> {
    let Some(kind) = kind(volume)? else { return Ok(None) };
    let mut identity = Identity { kind, label: String::new(), uuid: String::new() };
    match kind {
        FsKind::Ext => {
            let superblock = Superblock::read(volume)?;
            identity.label = superblock.label;
            identity.uuid = superblock.uuid.to_string();
        }
        FsKind::Fat => {
            let fat = Fat::open(volume)?;
            identity.label = fat.label().to_owned();
            identity.uuid = fat.serial();
        }
        _ => {}
    }
    Ok(Some(identity))
}
