//! Puts right how `fatfs` 0.3 begins a directory.
//!
//! It writes `.` and `..` with long names in front, and for a directory in the root makes `..` name
//! the root's cluster where 0 belongs: both are damage to `fsck.fat` (fatfs issue 117). The first
//! four slots that it uses are therefore written anew: `.`, `..`, two free ones.

use anyhow::{Context, Result, ensure};

use crate::image::overlay::Overlay;

/// Bytes of a directory slot.
const SLOT: usize = 32;
/// `DIR_Attr`: a directory.
const DIRECTORY: u8 = 0x10;
/// `DIR_Attr`: a piece of a long name.
const LONG_NAME: u8 = 0x0f;
/// First byte of a free slot.
const FREE: u8 = 0xe5;
/// A cluster number from here on ends a chain.
const END: u32 = 0x0fff_fff8;

/// Where things are in a FAT32.
struct Geometry {
    /// First byte of the first FAT.
    fat: u64,
    /// First byte of cluster 2.
    data: u64,
    /// Bytes of a cluster.
    cluster: usize,
    /// First cluster of the root directory.
    root: u32,
}

/// Repairs every directory in the FAT32 in `overlay`; other kinds of FAT are left alone.
pub(super) fn repair(overlay: &Overlay) -> Result<()> {
    let Some(geometry) = Geometry::read(overlay)? else { return Ok(()) };
    // `..` of a directory in the root is 0 by definition.
    let mut pending = vec![(geometry.root, 0)];
    while let Some((folder, own)) = pending.pop() {
        for slot in geometry.slots(overlay, folder)? {
            let attributes = slot[11];
            if attributes & LONG_NAME == LONG_NAME || attributes & DIRECTORY == 0 || matches!(slot[0], FREE | b'.') {
                continue;
            }
            let child = first_cluster(&slot);
            geometry.repair(overlay, child, own)?;
            pending.push((child, child));
        }
    }
    Ok(())
}

impl Geometry {
    fn read(overlay: &Overlay) -> Result<Option<Self>> {
        let mut bpb = [0; 512];
        overlay.read_at(0, &mut bpb).context("reading the boot sector")?;
        let word = |at: usize| u16::from_le_bytes([bpb[at], bpb[at + 1]]);
        let long = |at: usize| u32::from_le_bytes([bpb[at], bpb[at + 1], bpb[at + 2], bpb[at + 3]]);
        // BPB_FATSz16 is 0 in a FAT32 only.
        if word(22) != 0 {
            return Ok(None);
        }
        let sector = u64::from(word(11));
        let fat = u64::from(word(14)) * sector;
        let data = fat + u64::from(bpb[16]) * u64::from(long(36)) * sector;
        Ok(Some(Self { fat, data, cluster: usize::from(bpb[13]) * sector as usize, root: long(44) }))
    }

    fn offset(&self, cluster: u32) -> Result<u64> {
        ensure!(cluster >= 2, "a directory without a cluster");
        Ok(self.data + u64::from(cluster - 2) * self.cluster as u64)
    }

    /// Every used slot of the directory that starts at `first`.
    fn slots(&self, overlay: &Overlay, first: u32) -> Result<Vec<[u8; SLOT]>> {
        let mut slots = Vec::new();
        let mut cluster = first;
        let mut bytes = vec![0; self.cluster];
        // A chain cannot be longer than the file system: a loop ends here.
        let mut left = overlay.len() / self.cluster as u64;
        while (2..END).contains(&cluster) {
            ensure!(left > 0, "a directory that never ends");
            left -= 1;
            overlay.read_at(self.offset(cluster)?, &mut bytes)?;
            for chunk in bytes.chunks_exact(SLOT) {
                if chunk[0] == 0 {
                    return Ok(slots);
                }
                let mut slot = [0; SLOT];
                slot.copy_from_slice(chunk);
                slots.push(slot);
            }
            let mut next = [0; 4];
            overlay.read_at(self.fat + u64::from(cluster) * 4, &mut next)?;
            cluster = u32::from_le_bytes(next) & 0x0fff_ffff;
        }
        Ok(slots)
    }

    /// Writes `.` and `..` of the directory at `cluster`, if `fatfs` has written them with long names.
    fn repair(&self, overlay: &Overlay, cluster: u32, parent: u32) -> Result<()> {
        let at = self.offset(cluster)?;
        let mut slots = [0; 4 * SLOT];
        overlay.read_at(at, &mut slots)?;
        let attribute = |slot: usize| slots[slot * SLOT + 11];
        if attribute(0) != LONG_NAME || attribute(2) != LONG_NAME {
            return Ok(());
        }
        let (dot, mut dotdot) = (slots[SLOT..2 * SLOT].to_vec(), slots[3 * SLOT..].to_vec());
        let [low, high] = [parent as u16, (parent >> 16) as u16].map(u16::to_le_bytes);
        dotdot[20..22].copy_from_slice(&high);
        dotdot[26..28].copy_from_slice(&low);
        let free = |mut slot: Vec<u8>| {
            slot[0] = FREE;
            slot
        };
        let repaired = [dot.clone(), dotdot.clone(), free(dot), free(dotdot)].concat();
        overlay.write_at(at, &repaired)?;
        Ok(())
    }
}

fn first_cluster(slot: &[u8; SLOT]) -> u32 {
    let word = |at: usize| u32::from(u16::from_le_bytes([slot[at], slot[at + 1]]));
    word(20) << 16 | word(26)
}
