//! Lays a payload into an image by the same way as a build does, and nothing else: what `scripts/bench` times.
//!
//! `inject IMAGE PAYLOAD`: the folder `PAYLOAD/root` goes into the root file system with owners, modes, times,
//! links, devices and extended attributes, `PAYLOAD/boot` onto the boot partition. The first partition is the boot
//! partition, the second the root. The image is synced at the end.

use std::{
    collections::HashMap,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use hcl_image::{
    image::{
        edit,
        table::PartitionTable,
        tree::{Content, Entry, Meta, Node},
    },
    plan::{Edit, Plan},
};
use rustix::fs::{lgetxattr, llistxattr, major, minor};

/// Where the boot partition is mounted in the image.
const BOOT: &str = "/boot/firmware";
/// What is changed without a time of its own counts as changed then, in seconds since 1970.
const EPOCH: u64 = 1_700_000_000;

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [image, payload] = arguments.as_slice() else { bail!("usage: inject IMAGE PAYLOAD") };
    let mut edits = entries(&payload.join("root"), Path::new("/"))?;
    edits.extend(entries(&payload.join("boot"), Path::new(BOOT))?);
    let mut file = fs::OpenOptions::new().read(true).write(true).open(image).context("opening the image")?;
    let table = PartitionTable::read(&mut file)?.context("the image has no partition table")?;
    let file = Arc::new(file);
    let find = |number| table.partition(number).with_context(|| format!("the image has no partition {number}"));
    edit::apply(&file, find(1)?, find(2)?, &Plan { edits }, EPOCH)?;
    file.sync_all().context("syncing the image")
}

/// Everything below `folder`, then the folders' own metadata again: what is laid into them changes their times.
fn entries(folder: &Path, target: &Path) -> Result<Vec<Edit>> {
    let mut edits = Vec::new();
    let mut folders = Vec::new();
    let mut names: HashMap<(u64, u64), PathBuf> = HashMap::new();
    for found in walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name() {
        let found = found.context("walking the payload")?;
        let host = found.path();
        let path = target.join(host.strip_prefix(folder).context("outside of the payload")?);
        let metadata = fs::symlink_metadata(host).with_context(|| format!("reading {}", host.display()))?;
        let meta = Meta {
            mode: (metadata.mode() & 0o7777) as u16,
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime: metadata.mtime(),
            xattrs: xattrs(host)?,
        };
        let kind = metadata.file_type();
        let device = metadata.rdev();
        let node = if kind.is_dir() {
            if target != Path::new(BOOT) {
                folders.push(Edit::Adjust {
                    path: path.clone(),
                    mode: Some(meta.mode),
                    uid: Some(meta.uid),
                    gid: Some(meta.gid),
                    mtime: Some(u32::try_from(meta.mtime).context("a time outside of 1970 to 2106")?),
                    xattrs: Vec::new(),
                });
            }
            Node::Dir
        } else if kind.is_symlink() {
            Node::Symlink(fs::read_link(host)?.as_os_str().as_bytes().to_vec())
        } else if let Some(first) = names.get(&(metadata.dev(), metadata.ino())) {
            Node::HardLink(first.clone())
        } else if kind.is_file() {
            Node::File(Content::Host(host.to_owned()))
        } else if kind.is_char_device() {
            Node::CharDevice(major(device), minor(device))
        } else if kind.is_block_device() {
            Node::BlockDevice(major(device), minor(device))
        } else if kind.is_fifo() {
            Node::Fifo
        } else {
            Node::Socket
        };
        if metadata.nlink() > 1 && !kind.is_dir() {
            names.entry((metadata.dev(), metadata.ino())).or_insert_with(|| path.clone());
        }
        edits.push(Edit::Put(Entry { path, node, meta }));
    }
    edits.extend(folders);
    Ok(edits)
}

fn xattrs(host: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut list = vec![0; 64 << 10];
    let count = llistxattr(host, &mut list).with_context(|| format!("listing attributes of {}", host.display()))?;
    let mut found = Vec::new();
    for name in list[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8(name.to_vec()).context("an attribute's name is not UTF-8")?;
        let mut value = vec![0; 64 << 10];
        let count =
            lgetxattr(host, name.as_str(), &mut value).with_context(|| format!("reading {name} of {}", host.display()))?;
        value.truncate(count);
        found.push((name, value));
    }
    Ok(found)
}
