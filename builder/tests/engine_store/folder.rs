//! A folder of the host as a [`Sink`], for engines that run here, and what stands in one.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use hcl_image::{
    engine_store::Sink,
    image::tree::{Content, Entry, Meta, Node},
};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

/// Entries go below this folder.
pub struct Folder(pub PathBuf);

impl Folder {
    fn at(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap())
    }

    fn meta(&self, path: &Path, meta: &Meta, link: bool) -> Result<()> {
        std::os::unix::fs::lchown(path, Some(meta.uid), Some(meta.gid))?;
        for (name, value) in &meta.xattrs {
            rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).with_context(|| format!("setting {name}"))?;
        }
        if !link {
            fs::set_permissions(path, fs::Permissions::from_mode(meta.mode.into()))?;
        }
        let time = Timespec { tv_sec: meta.mtime, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    fn node(&self, path: &Path, kind: FileType, device: (u32, u32)) -> Result<()> {
        Ok(rustix::fs::mknodat(CWD, path, kind, Mode::empty(), rustix::fs::makedev(device.0, device.1))?)
    }
}

impl Sink for Folder {
    fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>> {
        match fs::read(self.at(path)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn put(&mut self, entry: &Entry) -> Result<()> {
        let path = self.at(&entry.path);
        match &entry.node {
            Node::Dir if path.is_dir() => {}
            Node::Dir => fs::create_dir_all(&path)?,
            Node::File(Content::Bytes(bytes)) => fs::write(&path, bytes)?,
            Node::Symlink(target) => symlink(std::ffi::OsStr::from_bytes(target), &path)?,
            Node::HardLink(target) => return Ok(fs::hard_link(self.at(target), &path)?),
            Node::CharDevice(major, minor) => self.node(&path, FileType::CharacterDevice, (*major, *minor))?,
            Node::BlockDevice(major, minor) => self.node(&path, FileType::BlockDevice, (*major, *minor))?,
            Node::Fifo => self.node(&path, FileType::Fifo, (0, 0))?,
            node => bail!("{node:?} is not in any layer"),
        }
        self.meta(&path, &entry.meta, matches!(entry.node, Node::Symlink(_)))
    }

    fn put_stream(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let path = self.at(&entry.path);
        std::io::copy(content, &mut fs::File::create_new(&path)?)?;
        self.meta(&path, &entry.meta, false)
    }

    fn adjust(&mut self, path: &Path, meta: &Meta) -> Result<()> {
        self.meta(&self.at(path), meta, false)
    }

    fn remove(&mut self, path: &Path) -> Result<()> {
        Ok(fs::remove_file(self.at(path))?)
    }
}

/// All that stands below `folder`: path → kind, permissions, owner, size, device, link, attributes, and the first of its names.
pub fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut names: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(folder).unwrap().to_owned();
        let metadata = entry.path().symlink_metadata().unwrap();
        let kind = metadata.file_type();
        let what = if kind.is_symlink() {
            format!("-> {}", fs::read_link(entry.path()).unwrap().display())
        } else if kind.is_file() {
            let first = names.entry(metadata.ino()).or_insert_with(|| path.clone()).clone();
            format!("{} bytes of {}, time {}", metadata.size(), first.display(), metadata.mtime())
        } else if kind.is_char_device() || kind.is_block_device() {
            format!("device {}:{}", rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()))
        } else {
            String::new()
        };
        let line = format!("{:o} {}:{} {what}{}", metadata.mode(), metadata.uid(), metadata.gid(), attributes(entry.path()));
        found.insert(path, line);
    }
    found
}

/// What the kernel notes in a layer while containers run on it.
const KERNELS: [&[u8]; 3] = [b"trusted.overlay.impure", b"trusted.overlay.origin", b"trusted.overlay.uuid"];

fn attributes(path: &Path) -> String {
    let mut names = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    let mut found: Vec<String> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty() && !KERNELS.contains(name))
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            format!(" {}={:x?}", String::from_utf8_lossy(name), &value[..length])
        })
        .collect();
    found.sort();
    found.concat()
}
