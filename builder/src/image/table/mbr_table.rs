//! Master boot records.

use std::io::{Cursor, Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, bail, ensure};
use mbrman::{CHS, MBRHeader, MBRPartitionEntry};

use super::{Partition, PartitionTable, PartitionType, Sectors, TableKind};
use crate::units::SECTOR;

/// More logical partitions than any tool makes: a chain that is longer runs in a circle.
const MAX_LOGICAL: u32 = 60;
/// "Look at the LBA instead", for what lies beyond 8 GiB and as modern tools write it everywhere.
const CHS_UNUSED: CHS = CHS { cylinder: 1023, head: 254, sector: 63 };

/// Whether this first sector announces a GPT.
pub(super) fn is_protective(sector: &[u8; SECTOR as usize]) -> bool {
    (0..4).any(|index| sector[446 + 16 * index + 4] == 0xee)
}

/// Reads the table whose first sector is `sector`. `None` if that is the boot sector of a bare FAT.
pub(super) fn read(disk: &mut (impl Read + Seek), sector: &[u8; SECTOR as usize]) -> Result<Option<PartitionTable>> {
    let fat = (sector[0] == 0xeb || sector[0] == 0xe9) && (&sector[54..57] == b"FAT" || &sector[82..85] == b"FAT");
    let header = match MBRHeader::read_from(&mut Cursor::new(sector)) {
        Ok(header) => header,
        Err(_) if fat => return Ok(None),
        Err(error) => bail!("the partition table in the first sector makes no sense: {error}"),
    };
    if fat && header.iter().all(|(_, entry)| entry.is_unused()) {
        return Ok(None);
    }
    let mut table = PartitionTable {
        kind: TableKind::Mbr { disk_id: u32::from_le_bytes(header.disk_signature) },
        partitions: Vec::new(),
        damage: Vec::new(),
    };
    for (number, entry) in header.iter().filter(|(_, entry)| entry.is_used()) {
        table.partitions.push(partition(number as u32, entry, 0));
    }
    if let Some(extended) = table.partitions.iter().find(|partition| partition.is_extended()) {
        match logical(disk, extended.start.0) {
            Ok(logical) => table.partitions.extend(logical),
            Err(error) => table.damage.push(format!("logical partitions: {error:#}")),
        }
    }
    Ok(Some(table))
}

fn partition(number: u32, entry: &MBRPartitionEntry, base: u64) -> Partition {
    Partition {
        number,
        start: Sectors(base + u64::from(entry.starting_lba)),
        size: Sectors(u64::from(entry.sectors)),
        kind: PartitionType::Mbr(entry.sys),
        name: String::new(),
        uuid: None,
        bootable: entry.is_active(),
    }
}

/// Follows the chain of extended boot records. Each has the shape of an MBR: entry 1 is the logical
/// partition, relative to its own record, entry 2 the next record, relative to the first one.
fn logical(disk: &mut (impl Read + Seek), first: u64) -> Result<Vec<Partition>> {
    let mut partitions = Vec::new();
    let mut at = first;
    for number in 5..5 + MAX_LOGICAL {
        let mut sector = [0; SECTOR as usize];
        disk.seek(SeekFrom::Start(at * SECTOR))?;
        disk.read_exact(&mut sector).with_context(|| format!("reading the record at sector {at}"))?;
        if at == first && sector[510..] != [0x55, 0xaa] {
            return Ok(partitions);
        }
        let header = MBRHeader::read_from(&mut Cursor::new(&sector))
            .with_context(|| format!("the record at sector {at} makes no sense"))?;
        if header.partition_1.is_used() {
            partitions.push(partition(number, &header.partition_1, at));
        }
        if header.partition_2.is_unused() || header.partition_2.starting_lba == 0 {
            return Ok(partitions);
        }
        at = first + u64::from(header.partition_2.starting_lba);
    }
    bail!("more than {MAX_LOGICAL} of them: the chain runs in a circle")
}

/// Writes the four primary entries and the disk id; boot code stays as it is.
pub(super) fn write(table: &PartitionTable, disk_id: u32, disk: &mut (impl Read + Write + Seek)) -> Result<()> {
    let mut header = MBRHeader::new(disk_id.to_le_bytes());
    disk.rewind()?;
    disk.read_exact(&mut header.bootstrap_code).context("reading the first sector")?;
    for partition in table.partitions.iter().filter(|partition| partition.number <= 4) {
        let PartitionType::Mbr(sys) = partition.kind else {
            bail!("partition {} has a GUID for a type: an MBR has a byte", partition.number);
        };
        let fit = |sectors: Sectors| {
            u32::try_from(sectors.0).with_context(|| format!("partition {}: an MBR ends at 2 TiB", partition.number))
        };
        ensure!(partition.number > 0, "partitions are numbered from 1");
        let entry = header.get_mut(partition.number as usize).context("an MBR has four primary partitions")?;
        *entry = MBRPartitionEntry {
            boot: if partition.bootable { 0x80 } else { 0 },
            first_chs: CHS_UNUSED,
            sys,
            last_chs: CHS_UNUSED,
            starting_lba: fit(partition.start)?,
            sectors: fit(partition.size)?,
        };
    }
    header.write_into(disk)?;
    Ok(())
}
