//! GUID partition tables.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read, Seek, SeekFrom, Write},
};

use anyhow::{Context, Result, bail, ensure};
use gpt::{GptConfig, disk::LogicalBlockSize, mbr::ProtectiveMBR, partition_types};
use uuid::Uuid;

use super::{Partition, PartitionTable, PartitionType, Sectors, TableKind};
use crate::units::SECTOR;

/// Header and 128 entries of 128 bytes at the end of the disk.
pub(super) const BACKUP_SECTORS: u64 = 33;
/// Attribute bit 2 of the UEFI specification, table 5-8.
const LEGACY_BIOS_BOOTABLE: u64 = 1 << 2;

/// What the `gpt` crate takes for a device: it wants to write and to print everything.
struct Device<'a, D>(&'a mut D);

impl<D> fmt::Debug for Device<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Device")
    }
}

impl<D: Read> Read for Device<'_, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<D: Write> Write for Device<'_, D> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<D: Seek> Seek for Device<'_, D> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.0.seek(position)
    }
}

/// A device that may only be read.
struct ReadOnly<'a, D>(&'a mut D);

impl<D: Read> Read for ReadOnly<'_, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<D: Seek> Seek for ReadOnly<'_, D> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.0.seek(position)
    }
}

impl<D> Write for ReadOnly<'_, D> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::PermissionDenied))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads primary or, if that is damaged, backup table.
pub(super) fn read(disk: &mut (impl Read + Seek), size: Sectors) -> Result<PartitionTable> {
    let mut device = ReadOnly(disk);
    let table = GptConfig::new()
        .writable(false)
        .logical_block_size(LogicalBlockSize::Lb512)
        .open_from_device(Device(&mut device))
        .context("the first sector announces a GPT, but neither primary nor backup table can be read")?;
    let mut damage = Vec::new();
    if let Err(error) = table.primary_header() {
        damage.push(format!("the primary GPT is damaged, read from the backup: {error}"));
    }
    match table.backup_header() {
        Err(error) => damage.push(format!("the backup GPT at the end of the disk is missing or damaged: {error}")),
        Ok(backup) if backup.current_lba + 1 != size.0 => {
            damage.push(format!("the backup GPT is at sector {}, not at the end of the disk ({})", backup.current_lba, size))
        }
        Ok(_) => {}
    }
    let mut partitions = Vec::new();
    for (&number, entry) in table.partitions().iter().filter(|(_, entry)| entry.is_used()) {
        let length = entry
            .last_lba
            .checked_sub(entry.first_lba)
            .and_then(|length| length.checked_add(1))
            .with_context(|| format!("partition {number} ends before it begins"))?;
        partitions.push(Partition {
            number,
            start: Sectors(entry.first_lba),
            size: Sectors(length),
            kind: PartitionType::Gpt(entry.part_type_guid.guid),
            name: entry.name.clone(),
            uuid: Some(entry.part_guid),
            bootable: entry.flags & LEGACY_BIOS_BOOTABLE != 0,
        });
    }
    Ok(PartitionTable { kind: TableKind::Gpt { disk_guid: *table.guid() }, partitions, damage })
}

/// Writes protective MBR, primary and backup table. An older backup elsewhere is wiped.
pub(super) fn write(table: &PartitionTable, disk_guid: Uuid, disk: &mut (impl Read + Write + Seek)) -> Result<()> {
    let sectors = disk.seek(SeekFrom::End(0))? / SECTOR;
    wipe_stale_backup(disk, sectors)?;
    let mut entries = BTreeMap::new();
    for (index, partition) in table.partitions.iter().enumerate() {
        // The `gpt` crate writes the entries one after the other, so that a gap would renumber.
        ensure!(
            partition.number as usize == index + 1,
            "the GPT has a gap before partition {}: writing would renumber it",
            partition.number
        );
        let (PartitionType::Gpt(kind), Some(part_guid)) = (partition.kind, partition.uuid) else {
            bail!("partition {} has no GUIDs", partition.number);
        };
        ensure!(partition.size.0 > 0, "partition {} is empty", partition.number);
        entries.insert(
            partition.number,
            gpt::partition::Partition {
                part_type_guid: partition_types::Type { guid: kind, os: partition_types::OperatingSystem::None },
                part_guid,
                first_lba: partition.start.0,
                last_lba: partition.end().0 - 1,
                flags: if partition.bootable { LEGACY_BIOS_BOOTABLE } else { 0 },
                name: partition.name.clone(),
            },
        );
    }
    let covered = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(covered).overwrite_lba0(&mut Device(disk))?;
    let mut gpt = GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(Device(disk), Some(disk_guid))?;
    gpt.update_partitions(entries)?;
    gpt.write_inplace()?;
    Ok(())
}

/// After a disk has grown the old backup would lie somewhere in the middle, where tools still find it.
fn wipe_stale_backup(disk: &mut (impl Read + Write + Seek), sectors: u64) -> Result<()> {
    let mut header = [0; SECTOR as usize];
    disk.seek(SeekFrom::Start(SECTOR))?;
    if disk.read_exact(&mut header).is_err() || &header[..8] != b"EFI PART" {
        return Ok(());
    }
    let backup = u64::from_le_bytes(header[32..40].try_into()?);
    if backup < 2 * BACKUP_SECTORS || backup + 1 >= sectors {
        return Ok(());
    }
    let entries = (BACKUP_SECTORS - 1) * SECTOR;
    let mut old = vec![0; (entries + SECTOR) as usize];
    disk.seek(SeekFrom::Start(backup * SECTOR - entries))?;
    disk.read_exact(&mut old)?;
    // Only what is still word for word a table: a file system may have grown over it already.
    let header = &old[entries as usize..];
    if &header[..8] == b"EFI PART" && crc32fast::hash(&old[..entries as usize]).to_le_bytes() == header[88..92] {
        disk.seek(SeekFrom::Start(backup * SECTOR - entries))?;
        disk.write_all(&vec![0; old.len()])?;
    }
    Ok(())
}
