//! Which blocks of an image must be written to a card even though they are zero.
//!
//! A card that was used before has old bytes everywhere. A zero block that a file system counts as its own (the end
//! of a directory, an entry of the FAT, zeros in a file) must overwrite them; one that it counts as free need not.
//! So a block map may leave out a zero block only where a file system that we can read says that it is free. In doubt
//! a block is in use: outside of partitions, in file systems that we do not know, or that are damaged or dirty.

use std::{fs::File, io, ops::Range, sync::Arc};

use anyhow::Result;

use crate::image::{
    disk::{FsKind, Volume},
    sparse::BLOCK,
    table::PartitionTable,
};

/// A set of blocks of an image.
#[derive(Debug)]
pub(super) struct BlockSet(Vec<u64>);

impl BlockSet {
    fn all(blocks: u64) -> Self {
        Self(vec![u64::MAX; blocks.div_ceil(64) as usize])
    }

    /// Whether block `number` is in it.
    pub(super) fn contains(&self, number: u64) -> bool {
        self.0.get((number / 64) as usize).is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    /// Takes out the blocks that lie wholly within `bytes`.
    fn remove(&mut self, bytes: Range<u64>) {
        for number in bytes.start.div_ceil(BLOCK as u64)..bytes.end / BLOCK as u64 {
            if let Some(word) = self.0.get_mut((number / 64) as usize) {
                *word &= !(1 << (number % 64));
            }
        }
    }
}

/// The blocks of an image of `size` bytes that are in use, zero or not.
pub(super) fn used_blocks(image: &Arc<File>, size: u64) -> Result<BlockSet> {
    let mut used = BlockSet::all(size.div_ceil(BLOCK as u64));
    let whole = Volume::new(Arc::clone(image), 0, size);
    let volumes = match PartitionTable::read(&mut whole.reader()) {
        Ok(None) => vec![whole],
        Ok(Some(table)) => {
            let mut ranges: Vec<_> = table
                .partitions
                .iter()
                .filter(|partition| !partition.is_extended())
                .map(|partition| (partition.offset(), partition.size.bytes().0))
                .collect();
            ranges.sort_unstable();
            if !table.damage.is_empty() || ranges.windows(2).any(|pair| pair[0].0.saturating_add(pair[0].1) > pair[1].0) {
                return Ok(used);
            }
            ranges.into_iter().map(|(start, len)| whole.part(start, len)).collect()
        }
        Err(_) => return Ok(used),
    };
    for volume in volumes {
        // What cannot be read as a file system is in use, all of it.
        let free = match volume.identify() {
            Ok(Some(FsKind::Fat)) => fat_free(&volume),
            Ok(Some(FsKind::Ext)) => ext_free(&volume),
            _ => continue,
        };
        for range in free.ok().flatten().unwrap_or_default() {
            let end = range.end.min(volume.size().0);
            used.remove(volume.start() + range.start..volume.start() + end);
        }
    }
    Ok(used)
}

/// Byte ranges in ascending order, neighbours joined.
#[derive(Default)]
struct Ranges(Vec<Range<u64>>);

impl Ranges {
    fn push(&mut self, start: u64, len: u64) {
        match self.0.last_mut() {
            Some(last) if last.end == start => last.end += len,
            _ => self.0.push(start..start + len),
        }
    }
}

fn u16_at(data: &[u8], at: usize) -> u64 {
    data.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map_or(0, |bytes| u16::from_le_bytes(bytes).into())
}

fn u32_at(data: &[u8], at: usize) -> u64 {
    data.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, |bytes| u32::from_le_bytes(bytes).into())
}

/// The free clusters of a FAT16 or FAT32; `None` where it is not to be trusted. Microsoft's FAT specification.
fn fat_free(volume: &Volume) -> io::Result<Option<Vec<Range<u64>>>> {
    let mut sector = [0; 512];
    volume.read_at(0, &mut sector)?;
    let bytes_per_sector = u16_at(&sector, 11);
    let cluster = u64::from(sector[13]) * bytes_per_sector;
    let or = |short: u64, long: u64| if short == 0 { long } else { short };
    let fat_sectors = or(u16_at(&sector, 22), u32_at(&sector, 36));
    let total = or(u16_at(&sector, 19), u32_at(&sector, 32));
    let fat_start = u16_at(&sector, 14) * bytes_per_sector;
    let root = u16_at(&sector, 17) * 32;
    let data_start = fat_start + u64::from(sector[16]) * fat_sectors * bytes_per_sector + root;
    if bytes_per_sector < 512 || cluster == 0 || data_start >= total * bytes_per_sector {
        return Ok(None);
    }
    let clusters = (total * bytes_per_sector - data_start) / cluster;
    // The number of clusters alone tells the width of an entry. FAT12 is too small to be worth it.
    let width = match clusters {
        0..4085 => return Ok(None),
        4085..65525 => 2,
        _ => 4,
    };
    if (clusters + 2) * width > fat_sectors * bytes_per_sector || total * bytes_per_sector > volume.size().0 {
        return Ok(None);
    }
    let mut free = Ranges::default();
    let mut chunk = vec![0; 1 << 18];
    let end = (clusters + 2) * width;
    let mut at = 0;
    while at < end {
        let count = (end - at).min(chunk.len() as u64) as usize;
        volume.read_at(fat_start + at, &mut chunk[..count])?;
        for (index, entry) in chunk[..count].chunks_exact(width as usize).enumerate() {
            let number = at / width + index as u64;
            // The upper four bits of a FAT32 entry are not part of it.
            let empty = entry[..entry.len() - 1].iter().all(|byte| *byte == 0)
                && entry[entry.len() - 1] & if width == 4 { 0x0f } else { 0xff } == 0;
            if number >= 2 && empty {
                free.push(data_start + (number - 2) * cluster, cluster);
            }
        }
        at += count as u64;
    }
    Ok(Some(free.0))
}

/// The free blocks of an ext2, ext3 or ext4; `None` where its bitmaps are not to be trusted. Names as in the kernel's
/// `ext4.h`.
fn ext_free(volume: &Volume) -> io::Result<Option<Vec<Range<u64>>>> {
    const INCOMPAT_RECOVER: u64 = 0x4;
    const INCOMPAT_META_BG: u64 = 0x10;
    const INCOMPAT_64BIT: u64 = 0x80;
    const RO_COMPAT_GDT_CSUM: u64 = 0x10;
    const RO_COMPAT_BIGALLOC: u64 = 0x200;
    const RO_COMPAT_METADATA_CSUM: u64 = 0x400;
    const VALID_FS: u64 = 1;
    const BG_BLOCK_UNINIT: u64 = 0x2;

    let mut sb = [0; 1024];
    volume.read_at(1024, &mut sb)?;
    let (incompat, ro_compat) = (u32_at(&sb, 0x60), u32_at(&sb, 0x64));
    let wide = incompat & INCOMPAT_64BIT != 0;
    let block = 1024 << u32_at(&sb, 0x18).min(6);
    let first_data_block = u32_at(&sb, 0x14);
    let blocks_count = u32_at(&sb, 0x4) | if wide { u32_at(&sb, 0x150) << 32 } else { 0 };
    let blocks_per_group = u32_at(&sb, 0x20);
    let table_blocks = (u32_at(&sb, 0x28) * or_128(u16_at(&sb, 0x58))).div_ceil(block);
    let desc_size = if wide { u16_at(&sb, 0xfe).max(64) } else { 32 };
    let untrusted = incompat & (INCOMPAT_RECOVER | INCOMPAT_META_BG) != 0
        || ro_compat & RO_COMPAT_BIGALLOC != 0
        || u16_at(&sb, 0x3a) & VALID_FS == 0
        || blocks_per_group == 0
        || blocks_per_group > block * 8
        || blocks_count <= first_data_block
        || blocks_count.checked_mul(block).is_none_or(|bytes| bytes > volume.size().0);
    if untrusted {
        return Ok(None);
    }
    let groups = (blocks_count - first_data_block).div_ceil(blocks_per_group);
    let mut gdt = vec![0; (groups * desc_size) as usize];
    volume.read_at((first_data_block + 1) * block, &mut gdt)?;
    // Superblock, descriptors and room for more of them stand at the start of some groups; here of all, to be sure.
    let group_head = 1 + (groups * desc_size).div_ceil(block) + u16_at(&sb, 0xce);
    let has_flags = ro_compat & (RO_COMPAT_GDT_CSUM | RO_COMPAT_METADATA_CSUM) != 0;

    let mut bits = vec![0; block as usize];
    let mut free = Ranges::default();
    let mut metadata = Vec::new();
    for (group, desc) in gdt.chunks_exact(desc_size as usize).enumerate() {
        let location = |at: usize| u32_at(desc, at) | if wide { u32_at(desc, at + 0x20) << 32 } else { 0 };
        let block_bitmap = location(0x0);
        metadata.extend([(block_bitmap, 1), (location(0x4), 1), (location(0x8), table_blocks)]);
        let first = first_data_block + group as u64 * blocks_per_group;
        let count = blocks_per_group.min(blocks_count - first);
        if has_flags && u16_at(desc, 0x12) & BG_BLOCK_UNINIT != 0 {
            // Nothing but the head and what the descriptors name is in use; the bitmap was never written.
            if count > group_head {
                free.push((first + group_head) * block, (count - group_head) * block);
            }
            continue;
        }
        volume.read_at(block_bitmap * block, &mut bits)?;
        for index in 0..count {
            if bits[(index / 8) as usize] & 1 << (index % 8) == 0 {
                free.push((first + index) * block, block);
            }
        }
    }
    Ok(Some(without(free.0, metadata, block)))
}

/// The inode size, which revision 0 does not state.
fn or_128(inode_size: u64) -> u64 {
    if inode_size == 0 { 128 } else { inode_size }
}

/// Takes `taken` (first block, count) out of `free`.
fn without(free: Vec<Range<u64>>, mut taken: Vec<(u64, u64)>, block: u64) -> Vec<Range<u64>> {
    taken.sort_unstable();
    let mut left = Vec::with_capacity(free.len());
    let mut taken = taken.into_iter().map(|(first, count)| first * block..(first + count) * block).peekable();
    for mut range in free {
        while taken.next_if(|hole| hole.end <= range.start).is_some() {}
        while let Some(hole) = taken.peek().filter(|hole| hole.start < range.end) {
            if range.start < hole.start {
                left.push(range.start..hole.start);
            }
            range.start = hole.end.min(range.end).max(range.start);
            if hole.end > range.end {
                break;
            }
            taken.next();
        }
        if range.start < range.end {
            left.push(range);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init, reason = "lists of ranges that happen to have one")]
    fn what_is_taken_is_not_free() {
        for (free, taken, left) in [
            (vec![0..100], vec![], vec![0..100]),
            (vec![0..100], vec![(10, 5), (50, 10)], vec![0..10, 15..50, 60..100]),
            (vec![10..20, 30..40], vec![(15, 20)], vec![10..15, 35..40]),
            (vec![10..20, 30..40], vec![(0, 50)], vec![]),
            (vec![10..20, 30..40], vec![(20, 10), (40, 1)], vec![10..20, 30..40]),
            (vec![10..20], vec![(12, 1), (12, 3), (13, 1)], vec![10..12, 15..20]),
        ] {
            assert_eq!(without(free.clone(), taken.clone(), 1), left, "{free:?} {taken:?}");
        }
    }

    #[test]
    fn only_whole_blocks_leave_the_set() {
        let mut set = BlockSet::all(70);
        let block = BLOCK as u64;
        set.remove(block - 1..4 * block + 1);
        set.remove(64 * block..66 * block);
        let left_out: Vec<u64> = (0..70).filter(|number| !set.contains(*number)).collect();
        assert_eq!(left_out, [1, 2, 3, 64, 65]);
        assert!(!set.contains(1000));
    }
}
