//! Unit tests of what needs no image of its own; `tests/check.rs` and `tests/judges.rs` have whole ones.

use std::{
    io::{Read, Seek, SeekFrom, Write},
    sync::Arc,
};

use uuid::Uuid;

use super::*;
use crate::image::table::{Layout, TableKind};

#[test]
fn specifications_are_resolved_as_the_system_does() {
    let identity = |kind, label: &str, uuid: &str| Some(Identity { kind, label: label.into(), uuid: uuid.into() });
    let volumes = [
        (1, identity(FsKind::Fat, "BOOT", "1A2B-3C4D")),
        (2, identity(FsKind::Ext, "ROOT", "a1b2c3d4-0000-4000-8000-000000000002")),
    ];
    let layout = |kind| Layout {
        kind,
        alignment: Bytes(1 << 20),
        boot: Bytes(1 << 20),
        root: Bytes(1 << 20),
        uuids: [Uuid::from_u128(0xa), Uuid::from_u128(0xb)],
    };
    let mbr = layout(TableKind::Mbr { disk_id: 0xcafe_f00d }).table().unwrap();
    let gpt = layout(TableKind::Gpt { disk_guid: Uuid::nil() }).table().unwrap();
    for (spec, in_mbr, in_gpt) in [
        ("PARTUUID=cafef00d-02", Some(2), None),
        ("PARTUUID=CAFEF00D-01", Some(1), None),
        ("PARTUUID=00000000-0000-0000-0000-00000000000b", None, Some(2)),
        ("PARTLABEL=root", None, Some(2)),
        ("LABEL=ROOT", Some(2), Some(2)),
        ("LABEL=root", None, None),
        ("UUID=1a2b-3c4d", Some(1), Some(1)),
        ("/dev/disk/by-label/BOOT", Some(1), Some(1)),
        ("/dev/mmcblk0p2", Some(2), Some(2)),
        ("/dev/mmcblk0p3", None, None),
        ("/dev/vda1", Some(1), Some(1)),
        ("/dev/mapper/x2", None, None),
        ("tmpfs", None, None),
    ] {
        assert_eq!(resolve(Some(&mbr), &volumes, spec), in_mbr, "MBR {spec}");
        assert_eq!(resolve(Some(&gpt), &volumes, spec), in_gpt, "GPT {spec}");
    }
}

#[test]
fn a_volume_reads_as_the_file_does() {
    let mut file = tempfile::tempfile().unwrap();
    let data: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    file.write_all(&data).unwrap();
    let volume = Volume::new(Arc::new(file), 0, data.len() as u64).part(1001, 700_000);
    let part = &data[1001..701_001];
    let mut reader = volume.reader();
    for (at, length) in [(0, 10), (32_760, 20), (699_990, 100), (5, 100_000), (700_000, 1), (32_768, 32_768)] {
        reader.seek(SeekFrom::Start(at as u64)).unwrap();
        let mut read = Vec::new();
        Read::by_ref(&mut reader).take(length as u64).read_to_end(&mut read).unwrap();
        assert!(read == part[at..(at + length).min(part.len())], "{length} bytes at {at}");
    }
    assert!(volume.read_at(699_999, &mut [0; 2]).is_err());
    assert!(volume.read_at(u64::MAX, &mut [0; 2]).is_err());
    assert_eq!(volume.part(699_000, 5000).size(), Bytes(1000));
}

#[test]
fn file_systems_are_named() {
    for (offset, magic, kind) in [
        (0x1_0040, b"_BHRfS_M".as_slice(), FsKind::Btrfs),
        (1024, &[0x10, 0x20, 0xf5, 0xf2], FsKind::F2fs),
        (0, b"XFSB", FsKind::Xfs),
    ] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(magic).unwrap();
        let disk = Disk::from_raw(file.reopen().unwrap(), file.path()).unwrap();
        let error = format!("{:#}", disk.root().unwrap_err());
        assert!(error.contains(&format!("the file system is {kind}")), "{error}");
    }
}
