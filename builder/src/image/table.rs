//! Partition tables: read, create and grow, MBR (crate `mbrman`) and GPT (crate `gpt`).
//!
//! Sectors are 512 bytes throughout: SD cards and image files count in these. What is written
//! depends only on the arguments, never on a clock or a random source.

mod gpt_table;
mod mbr_table;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    io::{Read, Seek, SeekFrom, Write},
};

use anyhow::{Context, Result, bail, ensure};
use uuid::{Uuid, uuid};

use crate::units::{Bytes, SECTOR};

/// A number of 512-byte sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sectors(pub u64);

impl Sectors {
    /// The whole sectors in `bytes`; a rest is left out.
    pub fn whole(bytes: Bytes) -> Self {
        Self(bytes.0 / SECTOR)
    }

    /// The same length in bytes. Saturates, so that a forged table cannot overflow.
    pub fn bytes(self) -> Bytes {
        Bytes(self.0.saturating_mul(SECTOR))
    }
}

impl fmt::Display for Sectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What kind of table, and the identifier of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// Master boot record.
    Mbr {
        /// The 32-bit disk signature at byte 440, from which Linux makes the PARTUUIDs.
        disk_id: u32,
    },
    /// GUID partition table.
    Gpt {
        /// The disk's GUID.
        disk_guid: Uuid,
    },
}

impl fmt::Display for TableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mbr { disk_id } => write!(f, "MBR, disk id {disk_id:08x}"),
            Self::Gpt { disk_guid } => write!(f, "GPT, disk GUID {disk_guid}"),
        }
    }
}

/// The type of a partition as its table writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionType {
    /// The type byte of an MBR entry.
    Mbr(u8),
    /// The type GUID of a GPT entry.
    Gpt(Uuid),
}

impl PartitionType {
    /// FAT32 with LBA addresses: what every Pi's boot ROM looks for.
    pub const MBR_FAT32_LBA: Self = Self::Mbr(0x0c);
    /// A Linux file system.
    pub const MBR_LINUX: Self = Self::Mbr(0x83);
    /// EFI system partition.
    pub const GPT_ESP: Self = Self::Gpt(uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b"));
    /// Microsoft basic data: FAT that is no EFI system partition.
    pub const GPT_BASIC_DATA: Self = Self::Gpt(uuid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"));
    /// A Linux file system.
    pub const GPT_LINUX: Self = Self::Gpt(uuid!("0fc63daf-8483-4772-8e79-3d69d8477de4"));
    /// Root file system of a 32-bit ARM system.
    pub const GPT_ROOT_ARM: Self = Self::Gpt(uuid!("69dad710-2ce4-4e3c-b16c-21a1d49abed3"));
    /// Root file system of a 64-bit ARM system.
    pub const GPT_ROOT_ARM64: Self = Self::Gpt(uuid!("b921b045-1df0-41c3-af44-4c6f280d3fae"));

    /// Whether firmware takes a partition of this type for a FAT boot partition.
    pub fn is_fat(self) -> bool {
        match self {
            Self::Mbr(byte) => matches!(byte, 0x01 | 0x04 | 0x06 | 0x0b | 0x0c | 0x0e),
            Self::Gpt(_) => self == Self::GPT_ESP || self == Self::GPT_BASIC_DATA,
        }
    }
}

impl fmt::Display for PartitionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::Mbr(0x01) => "FAT12",
            Self::Mbr(0x04 | 0x06) => "FAT16",
            Self::Mbr(0x05 | 0x0f | 0x85) => "extended",
            Self::Mbr(0x07) => "NTFS or exFAT",
            Self::Mbr(0x0b) => "FAT32",
            Self::Mbr(0x0c) => "FAT32 LBA",
            Self::Mbr(0x0e) => "FAT16 LBA",
            Self::Mbr(0x82) => "Linux swap",
            Self::Mbr(0x83) => "Linux",
            Self::Mbr(0xee) => "GPT protective",
            Self::Mbr(0xef) => "EFI system",
            Self::GPT_ESP => "EFI system",
            Self::GPT_BASIC_DATA => "basic data",
            Self::GPT_LINUX => "Linux",
            Self::GPT_ROOT_ARM => "Linux root (arm)",
            Self::GPT_ROOT_ARM64 => "Linux root (arm64)",
            Self::Mbr(_) | Self::Gpt(_) => "unknown",
        };
        match self {
            Self::Mbr(byte) => f.pad(&format!("{byte:#04x} {name}")),
            Self::Gpt(guid) if name == "unknown" => f.pad(&guid.to_string()),
            Self::Gpt(_) => f.pad(name),
        }
    }
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The number Linux gives it, from 1.
    pub number: u32,
    /// First sector.
    pub start: Sectors,
    /// Length.
    pub size: Sectors,
    /// Type byte or GUID.
    pub kind: PartitionType,
    /// The name in a GPT; empty in an MBR.
    pub name: String,
    /// The partition's own GUID; only in a GPT.
    pub uuid: Option<Uuid>,
    /// Active (MBR) or legacy BIOS bootable (GPT).
    pub bootable: bool,
}

impl Partition {
    /// First byte.
    pub fn offset(&self) -> u64 {
        self.start.bytes().0
    }

    /// The sector after the last one.
    pub fn end(&self) -> Sectors {
        Sectors(self.start.0.saturating_add(self.size.0))
    }

    /// Whether this is an MBR's extended partition, a container without content of its own.
    pub fn is_extended(&self) -> bool {
        matches!(self.kind, PartitionType::Mbr(0x05 | 0x0f | 0x85))
    }
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionTable {
    /// MBR or GPT.
    pub kind: TableKind,
    /// The partitions in use, by number.
    pub partitions: Vec<Partition>,
    /// What is wrong with the table itself although it could be read, such as a lost backup.
    pub damage: Vec<String>,
}

/// A boot and a root partition, as our images have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// MBR with a disk id, or GPT with a disk GUID.
    pub kind: TableKind,
    /// Start of the first partition, and unit that both partitions begin at. Raspberry Pi OS has 8 MiB.
    pub alignment: Bytes,
    /// Size of the FAT boot partition.
    pub boot: Bytes,
    /// Size of the root partition.
    pub root: Bytes,
    /// GUIDs of boot and root partition in a GPT. An MBR has none and ignores them.
    pub uuids: [Uuid; 2],
}

impl Layout {
    /// The table for this layout.
    ///
    /// # Errors
    ///
    /// If a size is zero, the alignment no multiple of a sector, or an MBR cannot address the end.
    pub fn table(&self) -> Result<PartitionTable> {
        let unit = self.alignment.0;
        ensure!(unit >= SECTOR && unit.is_multiple_of(SECTOR), "an alignment of {unit} bytes is no multiple of 512 bytes");
        ensure!(self.boot.0 >= SECTOR && self.root.0 >= SECTOR, "boot and root partition need a size");
        // The GPT's header and entries end at sector 34.
        let first = Bytes(34 * SECTOR).round_up(unit);
        let second = Bytes(first.0 + self.boot.0).round_up(unit);
        let (boot_type, root_type) = match self.kind {
            TableKind::Mbr { .. } => (PartitionType::MBR_FAT32_LBA, PartitionType::MBR_LINUX),
            TableKind::Gpt { .. } => (PartitionType::GPT_BASIC_DATA, PartitionType::GPT_LINUX),
        };
        let gpt = matches!(self.kind, TableKind::Gpt { .. });
        let partition = |number: u32, start: Bytes, size: Bytes, kind, name: &str| Partition {
            number,
            start: Sectors::whole(start),
            size: Sectors::whole(size),
            kind,
            name: if gpt { name.to_owned() } else { String::new() },
            uuid: gpt.then(|| self.uuids[number as usize - 1]),
            bootable: false,
        };
        let table = PartitionTable {
            kind: self.kind,
            partitions: vec![
                partition(1, first, self.boot, boot_type, "boot"),
                partition(2, second, self.root, root_type, "root"),
            ],
            damage: Vec::new(),
        };
        if let (TableKind::Mbr { .. }, Some(last)) = (self.kind, table.last()) {
            ensure!(u32::try_from(last.end().0).is_ok(), "an MBR cannot address {}: use a GPT", last.end().bytes());
        }
        Ok(table)
    }

    /// Length of an image with this layout: the end of the root partition, and the backup table for a GPT.
    ///
    /// # Errors
    ///
    /// As [`Layout::table`].
    pub fn image_size(&self) -> Result<Bytes> {
        Ok(self.table()?.image_size())
    }
}

impl PartitionTable {
    /// Reads the table of a disk or image. `None` if there is none, such as on a bare file system.
    ///
    /// # Errors
    ///
    /// If reading fails, or if there is a table that makes no sense.
    pub fn read(disk: &mut (impl Read + Seek)) -> Result<Option<Self>> {
        let size = Sectors::whole(Bytes(disk.seek(SeekFrom::End(0)).context("finding the end of the disk")?));
        let mut sector = [0; SECTOR as usize];
        disk.rewind()?;
        if size.0 == 0 {
            return Ok(None);
        }
        disk.read_exact(&mut sector).context("reading the first sector")?;
        if sector[510..] != [0x55, 0xaa] {
            return Ok(None);
        }
        if mbr_table::is_protective(&sector) {
            return gpt_table::read(disk, size).map(Some);
        }
        mbr_table::read(disk, &sector)
    }

    /// Writes the table: for an MBR the first sector without touching boot code, for a GPT the
    /// protective MBR, header, entries, and their backup at the end of `disk`.
    ///
    /// # Errors
    ///
    /// If writing fails, or a partition does not fit.
    pub fn write(&self, disk: &mut (impl Read + Write + Seek)) -> Result<()> {
        let size = Sectors::whole(Bytes(disk.seek(SeekFrom::End(0)).context("finding the end of the disk")?));
        self.fits(size)?;
        match self.kind {
            TableKind::Mbr { disk_id } => mbr_table::write(self, disk_id, disk),
            TableKind::Gpt { disk_guid } => gpt_table::write(self, disk_guid, disk),
        }
        .context("writing the partition table")
    }

    /// Grows the last partition to `size` and writes the table; `disk` has been enlarged before.
    /// For a GPT the backup moves to the new end. Everything else keeps its identity.
    ///
    /// # Errors
    ///
    /// If there is no partition, it would shrink, or it does not fit.
    pub fn grow_last(&mut self, disk: &mut (impl Read + Write + Seek), size: Bytes) -> Result<()> {
        let new = Sectors::whole(size);
        let last = self
            .partitions
            .iter_mut()
            .filter(|partition| !partition.is_extended())
            .max_by_key(|partition| partition.start)
            .context("there is no partition to grow")?;
        ensure!(new >= last.size, "partition {} has {} and cannot shrink to {size}", last.number, last.size.bytes());
        if last.number > 4 && matches!(self.kind, TableKind::Mbr { .. }) {
            bail!("partition {} is a logical one: growing those is not supported", last.number);
        }
        last.size = new;
        self.write(disk)
    }

    /// The partition with this number.
    pub fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.number == number)
    }

    /// The partition that ends last.
    pub fn last(&self) -> Option<&Partition> {
        self.partitions.iter().max_by_key(|partition| partition.end())
    }

    /// The PARTUUID of a partition as Linux names it: `xxxxxxxx-02` for an MBR, the GUID for a GPT.
    pub fn partuuid(&self, number: u32) -> Option<String> {
        let partition = self.partition(number)?;
        match self.kind {
            TableKind::Mbr { disk_id } => Some(format!("{disk_id:08x}-{number:02x}")),
            TableKind::Gpt { .. } => partition.uuid.map(|uuid| uuid.to_string()),
        }
    }

    /// Length of the shortest image that holds all partitions and, for a GPT, the backup table.
    pub fn image_size(&self) -> Bytes {
        let end = self.last().map_or(0, |last| last.end().0);
        match self.kind {
            TableKind::Mbr { .. } => Sectors(end).bytes(),
            TableKind::Gpt { .. } => Bytes(Sectors(end + gpt_table::BACKUP_SECTORS).bytes().0).round_up(Bytes::MIB),
        }
    }

    fn fits(&self, disk: Sectors) -> Result<()> {
        let end = match self.kind {
            TableKind::Mbr { .. } => disk.0,
            TableKind::Gpt { .. } => disk.0.saturating_sub(gpt_table::BACKUP_SECTORS),
        };
        for partition in &self.partitions {
            ensure!(
                partition.end().0 <= end,
                "partition {} ends at sector {}, the disk has room up to sector {end}",
                partition.number,
                partition.end()
            );
        }
        Ok(())
    }
}
