//! Foreign readers that judge an image: `sfdisk`, `fsck.vfat`, `e2fsck`, `debugfs`, and `ext4-view` for every byte.
//!
//! Each says why it refuses. A tool that is missing fails the test and names its package.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

use ext4_view::{Ext4, FileType};
use hcl_image::image::{
    disk::{FsKind, Volume},
    table::PartitionTable,
};

/// Why an image was refused.
pub type Verdict = Result<(), String>;

fn tool(name: &str, package: &str, arguments: &[&str]) -> Output {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    Command::new(name)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{name} is missing ({error}): apt-get install {package}"))
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// All judges, one after the other.
pub fn all(image: &Path) -> Verdict {
    sfdisk(image)?;
    for (_, volume) in volumes(image) {
        match volume.identify().map_err(|error| error.to_string())? {
            Some(FsKind::Fat) => fsck_vfat(&volume, image)?,
            Some(FsKind::Ext) => {
                e2fsck(&volume, image)?;
                every_byte(&volume, image)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The partitions of an image by number.
pub fn volumes(image: &Path) -> BTreeMap<u32, Volume> {
    let mut file = File::open(image).unwrap();
    let size = file.metadata().unwrap().len();
    let table = PartitionTable::read(&mut file).unwrap().expect("a partition table");
    let whole = Volume::new(Arc::new(file), 0, size);
    let part = |partition: &hcl_image::image::table::Partition| {
        (partition.number, whole.part(partition.offset(), partition.size.bytes().0))
    };
    table.partitions.iter().map(part).collect()
}

/// `sfdisk --verify`: the partition table.
pub fn sfdisk(image: &Path) -> Verdict {
    let output = tool("sfdisk", "fdisk", &["--verify", "--no-reread", image.to_str().unwrap()]);
    let text = both(&output);
    if output.status.success() && text.contains("No errors detected") { Ok(()) } else { Err(text) }
}

/// `fsck.vfat -n`: a FAT.
pub fn fsck_vfat(volume: &Volume, image: &Path) -> Verdict {
    let part = carved(volume, image);
    let output = tool("fsck.vfat", "dosfstools", &["-n", part.path().to_str().unwrap()]);
    if output.status.success() { Ok(()) } else { Err(both(&output)) }
}

/// `e2fsck -fn`: an ext4.
pub fn e2fsck(volume: &Volume, image: &Path) -> Verdict {
    let part = carved(volume, image);
    let output = tool("e2fsck", "e2fsprogs", &["-fn", part.path().to_str().unwrap()]);
    if output.status.success() { Ok(()) } else { Err(both(&output)) }
}

/// Reads every entry and every byte of an ext4 with `ext4-view`, which verifies checksums on its way.
/// Gives how many files and bytes there were.
pub fn every_byte(volume: &Volume, _image: &Path) -> Result<(), String> {
    let fs = Ext4::load(Box::new(volume.reader())).map_err(|error| error.to_string())?;
    let mut folders = vec![ext4_view::PathBuf::new("/")];
    let mut buffer = vec![0; 1 << 20];
    while let Some(folder) = folders.pop() {
        let context = |what: &dyn std::fmt::Display, error: &dyn std::fmt::Display| format!("{what}: {error}");
        for entry in fs.read_dir(&folder).map_err(|error| context(&folder.display(), &error))? {
            let entry = entry.map_err(|error| context(&folder.display(), &error))?;
            if matches!(entry.file_name().as_ref(), b"." | b"..") {
                continue;
            }
            let path = entry.path();
            let failed = |error: ext4_view::Ext4Error| context(&path.display(), &error);
            match entry.file_type().map_err(failed)? {
                FileType::Directory => folders.push(path.clone()),
                FileType::Symlink => drop(fs.read_link(&path).map_err(failed)?),
                FileType::Regular => {
                    let mut file = fs.open(&path).map_err(failed)?;
                    let mut length = 0;
                    loop {
                        match file.read_bytes(&mut buffer).map_err(failed)? {
                            0 => break,
                            count => length += count as u64,
                        }
                    }
                    if length != file.metadata().len() {
                        return Err(format!("{}: {length} bytes instead of {}", path.display(), file.metadata().len()));
                    }
                }
                _ => {
                    entry.metadata().map_err(failed)?;
                }
            }
        }
    }
    Ok(())
}

/// What `debugfs` says of one inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// `regular`, `directory`, `symlink`, `character special`, …
    pub kind: String,
    /// Permission bits.
    pub mode: u16,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Names.
    pub links: u32,
    /// Where a short link leads.
    pub target: Option<String>,
    /// Major and minor number.
    pub device: Option<(u32, u32)>,
    /// Extended attributes as `debugfs` prints them.
    pub xattrs: BTreeMap<String, String>,
}

/// `debugfs stat`: owner, mode, links, device and extended attributes of `path` in a partition.
pub fn debugfs(image: &Path, partition: u32, path: &str) -> Result<Inode, String> {
    let device = format!("{}?offset={}", image.display(), volumes(image)[&partition].start());
    let output = tool("debugfs", "e2fsprogs", &["-R", &format!("stat {path}"), &device]);
    let text = both(&output);
    let after = |key: &str| text.split(key).nth(1).map(str::trim_start);
    let word = |key: &str| after(key).and_then(|rest| rest.split_whitespace().next());
    let number = |key: &str| word(key).and_then(|word| word.parse().ok());
    let missing = || format!("debugfs does not know {path}: {text}");
    let kind = after("Type: ").and_then(|rest| rest.split("   ").next()).ok_or_else(missing)?.trim().to_owned();
    let device = after("Device major/minor number: ").and_then(|rest| {
        let (major, minor) = rest.split_whitespace().next()?.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    let xattrs = after("Extended attributes:").map(|rest| {
        let entries = rest.lines().map(str::trim).filter_map(|line| line.split_once(" = "));
        entries.map(|(name, value)| (name.split(" (").next().unwrap_or(name).to_owned(), value.to_owned())).collect()
    });
    Ok(Inode {
        kind,
        mode: u16::from_str_radix(word("Mode:").ok_or_else(missing)?, 8).map_err(|error| error.to_string())?,
        owner: (number("User:").ok_or_else(missing)?, number("Group:").ok_or_else(missing)?),
        links: number("Links:").ok_or_else(missing)?,
        target: after("Fast link dest: ").and_then(|rest| rest.split('"').nth(1)).map(str::to_owned),
        device,
        xattrs: xattrs.unwrap_or_default(),
    })
}

/// The partition as a sparse file of its own beside the image: not every tool takes an offset.
fn carved(volume: &Volume, image: &Path) -> tempfile::NamedTempFile {
    let mut out = tempfile::NamedTempFile::new_in(image.parent().unwrap()).unwrap();
    out.as_file().set_len(volume.size().0).unwrap();
    let mut block = vec![0; 1 << 20];
    let mut at = 0;
    while at < volume.size().0 {
        let count = (volume.size().0 - at).min(block.len() as u64) as usize;
        volume.read_at(at, &mut block[..count]).unwrap();
        if block[..count].iter().any(|&byte| byte != 0) {
            out.as_file().write_all_at(&block[..count], at).unwrap();
        }
        at += count as u64;
    }
    out.seek(SeekFrom::Start(0)).unwrap();
    out.flush().unwrap();
    out
}
