//! The judges themselves: each takes a right image and says no to a broken one.

#[path = "common/fixture.rs"]
mod fixture;
#[path = "common/judges.rs"]
mod judges;

use std::path::{Path, PathBuf};

use fixture::{Fixture, overwrite, run, table};
use hcl_image::{
    image::disk::{Disk, Tree},
    progress::{Mode, Reporter},
};
use judges::volumes;

fn image(folder: &Path) -> PathBuf {
    Fixture::new().build(folder, "image")
}

fn root_offset(image: &Path) -> u64 {
    table(image).partition(2).unwrap().offset()
}

/// Runs `debugfs -w` commands on the root partition.
fn write(image: &Path, commands: &[&str]) {
    let device = format!("{}?offset={}", image.display(), root_offset(image));
    for command in commands {
        run("debugfs", "e2fsprogs", &["-w", "-R", command, &device]);
    }
}

#[test]
fn a_right_image_passes_all() {
    let folder = tempfile::tempdir().unwrap();
    judges::all(&image(folder.path())).unwrap();
    let mut gpt = Fixture::new();
    gpt.gpt = true;
    judges::all(&gpt.build(folder.path(), "gpt")).unwrap();
}

#[test]
fn sfdisk_says_no() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    // The second partition begins inside of the first.
    overwrite(&image, 446 + 16 + 8, &10000_u32.to_le_bytes());
    assert!(judges::sfdisk(&image).unwrap_err().contains("overlaps"));
}

#[test]
fn fsck_vfat_says_no() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    let boot = &volumes(&image)[&1];
    judges::fsck_vfat(boot, &image).unwrap();
    // The first entries of the first copy of the table.
    let mut reserved = [0; 2];
    boot.read_at(14, &mut reserved).unwrap();
    overwrite(&image, boot.start() + u64::from(u16::from_le_bytes(reserved)) * 512 + 8, &[0x55; 64]);
    judges::fsck_vfat(boot, &image).unwrap_err();
}

#[test]
fn e2fsck_says_no() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    write(&image, &["set_inode_field /etc/fstab links_count 7"]);
    let error = judges::e2fsck(&volumes(&image)[&2], &image).unwrap_err();
    assert!(error.contains("ref count is 7"), "{error}");
}

#[test]
fn ext4_view_says_no() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    write(&image, &["set_inode_field /etc/fstab block[5] 0x7fffffff"]);
    let error = judges::every_byte(&volumes(&image)[&2], &image).unwrap_err();
    assert!(error.contains("fstab"), "{error}");
}

#[test]
fn debugfs_and_our_reader_agree_on_inodes() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    write(
        &image,
        &[
            "mknod null c 1 3",
            "mknod disk b 259 1000",
            "set_inode_field /etc/hostname mode 0100640",
            "set_inode_field /etc/hostname uid 1000",
            "set_inode_field /etc/hostname gid 70000",
            "ea_set /usr/bin/dash user.colour red",
            "ln /etc/hostname /etc/hostname2",
            "set_inode_field /etc/hostname links_count 2",
        ],
    );
    let disk = Disk::open(&image, &Reporter::new(Mode::Quiet)).unwrap();
    let root = disk.root().unwrap().unwrap();
    for path in ["/", "/null", "/disk", "/etc/hostname", "/etc/hostname2", "/usr/bin/dash", "/usr/bin/sh"] {
        let foreign = judges::debugfs(&image, 2, path).unwrap();
        let (stat, metadata) = (root.stat(path).unwrap(), root.symlink_metadata(path).unwrap().unwrap());
        assert_eq!(stat.device, foreign.device, "{path}");
        assert_eq!(stat.links, foreign.links, "{path}");
        assert_eq!((metadata.mode, (metadata.uid, metadata.gid)), (foreign.mode, foreign.owner), "{path}");
        let names: Vec<&String> = stat.xattrs.iter().map(|(name, _)| name).collect();
        assert_eq!(names, foreign.xattrs.keys().collect::<Vec<_>>(), "{path}");
    }
    assert_eq!(root.stat("/disk").unwrap().device, Some((259, 1000)));
    assert_eq!(root.stat("/bin/dash").unwrap().xattrs, [("user.colour".to_owned(), b"red".to_vec())]);
    assert_eq!(judges::debugfs(&image, 2, "/usr/bin/sh").unwrap().target.as_deref(), Some("dash"));
    assert_eq!(root.read_link("/usr/bin/sh").unwrap(), "dash");
    assert!(root.stat("/nothing").is_err());
    judges::debugfs(&image, 2, "/nothing").unwrap_err();
}
