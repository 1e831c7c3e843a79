//! The partition table.

use crate::{
    check::Evidence,
    image::{
        disk::FsKind,
        table::{PartitionType, TableKind},
    },
    units::Bytes,
};

pub(super) fn first_partition(evidence: &Evidence) -> Vec<String> {
    let Some(table) = &evidence.table else {
        return vec!["there is no partition table: the boot ROM finds nothing to boot; make an MBR".to_owned()];
    };
    let Some(first) = table.partitions.first() else {
        return vec!["the partition table is empty: nothing to boot".to_owned()];
    };
    let mut findings = Vec::new();
    let fits = match first.kind {
        PartitionType::Mbr(byte) => matches!(byte, 0x0b | 0x0c | 0x0e),
        PartitionType::Gpt(_) => first.kind.is_fat(),
    };
    if !fits {
        findings.push(format!(
            "partition {} has type {}: the boot ROM takes 0x0c (FAT32 LBA); set it with sfdisk --part-type",
            first.number, first.kind
        ));
    }
    let content = evidence.volumes.iter().find(|(number, _)| *number == first.number);
    let content = content.and_then(|(_, identity)| identity.as_ref()).map(|identity| identity.kind);
    if content != Some(FsKind::Fat) {
        let found = content.map_or_else(|| "nothing that we know".to_owned(), |kind| kind.to_string());
        findings.push(format!("partition {} holds {found}: the boot ROM needs a FAT there", first.number));
    }
    findings
}

pub(super) fn bounds(evidence: &Evidence) -> Vec<String> {
    let Some(table) = &evidence.table else { return Vec::new() };
    let outside = |end: Bytes| end > evidence.size;
    table
        .partitions
        .iter()
        .filter(|partition| outside(partition.end().bytes()))
        .map(|partition| {
            format!(
                "partition {} ends at {} bytes, the image at {}: it was cut off, get or build it again",
                partition.number,
                partition.end().bytes().0,
                evidence.size.0
            )
        })
        .collect()
}

pub(super) fn overlap(evidence: &Evidence) -> Vec<String> {
    let Some(table) = &evidence.table else { return Vec::new() };
    let mut partitions: Vec<_> = table.partitions.iter().filter(|partition| !partition.is_extended()).collect();
    partitions.sort_by_key(|partition| partition.start);
    partitions
        .windows(2)
        .filter(|pair| pair[1].start < pair[0].end())
        .map(|pair| {
            format!(
                "partitions {} and {} overlap from sector {}: each would destroy the other, make the table again",
                pair[0].number, pair[1].number, pair[1].start
            )
        })
        .collect()
}

pub(super) fn damage(evidence: &Evidence) -> Vec<String> {
    let damage = evidence.table.iter().flat_map(|table| &table.damage);
    damage.map(|damage| format!("{damage}; mend it with sgdisk -e or sfdisk")).collect()
}

pub(super) fn gpt_board(evidence: &Evidence) -> Vec<String> {
    let gpt = evidence.table.as_ref().is_some_and(|table| matches!(table.kind, TableKind::Gpt { .. }));
    let boards = evidence.boards.iter().filter(|board| gpt && !board.boots_gpt());
    boards.map(|board| format!("the {board}'s boot ROM reads no GPT: write an MBR (`table = \"mbr\"`) for this board")).collect()
}
