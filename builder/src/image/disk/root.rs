//! An ext4 root file system: content through `ext4-view`, the rest of the inode through `rust-fs-ext4`.

use std::{
    fmt,
    io::{self, Read},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, bail};
use ext4_view::{Ext4, Ext4Error, FileType};
use fs_ext4::{Filesystem, block_io::BlockDevice, xattr};

use super::{
    ext4_superblock::Superblock,
    identify::FsKind,
    tree::{Entry, FileKind, Metadata, Tree, absolute, join},
    volume::Volume,
};

/// An ext2, ext3 or ext4. A journal that was not replayed is applied in memory.
pub struct Root {
    fs: Ext4,
    superblock: Superblock,
    volume: Volume,
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("superblock", &self.superblock).finish_non_exhaustive()
    }
}

/// What the inode itself says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Inode number.
    pub inode: u32,
    /// Type and permissions, `i_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// What a symbolic link says.
    pub target: Option<Vec<u8>>,
    /// Names it has.
    pub links: u32,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
    /// Extended attributes by name.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl Root {
    /// Opens the file system in `volume`.
    ///
    /// # Errors
    ///
    /// If it is no ext4 (the message says what it is) or damaged.
    pub fn open(volume: &Volume) -> Result<Self> {
        match volume.identify()? {
            Some(FsKind::Ext) => {}
            Some(kind) => bail!("the file system is {kind}: only ext2, ext3 and ext4 can be read"),
            None => bail!("there is no file system that we know"),
        }
        let superblock = Superblock::read(volume)?;
        let fs = Ext4::load(Box::new(volume.reader())).map_err(failed).context("reading the ext4 file system")?;
        Ok(Self { fs, superblock, volume: volume.clone() })
    }

    /// What the superblock says.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Where it lies.
    pub fn volume(&self) -> &Volume {
        &self.volume
    }

    /// The path without links.
    ///
    /// # Errors
    ///
    /// If it leads nowhere.
    pub fn canonical(&self, path: &str) -> Result<String> {
        let path = absolute(path);
        let canonical = self.fs.canonicalize(path.as_str()).map_err(failed).with_context(|| path.clone())?;
        Ok(String::from_utf8_lossy(canonical.as_ref()).into_owned())
    }

    /// What only the inode says, of `path` itself if that is a link. The disk stays untouched: a
    /// journal that was not replayed is not looked at.
    ///
    /// # Errors
    ///
    /// If it is not there, or reading fails.
    pub fn stat(&self, path: &str) -> Result<Stat> {
        let path = absolute(path);
        let real = match path.rsplit_once('/') {
            None | Some(("", "")) => String::new(),
            Some((parent, name)) => join(&self.canonical(parent)?, name),
        };
        let stat = self.inodes().and_then(|inodes| inodes.stat(real.as_bytes()));
        stat.and_then(|stat| stat.context("it is missing")).with_context(|| format!("reading the inode of {path}"))
    }

    /// For many inodes, one after the other.
    ///
    /// # Errors
    ///
    /// Reading fails.
    pub fn inodes(&self) -> Result<Inodes> {
        Ok(Inodes(Filesystem::mount_lazy(Arc::new(Device(self.volume.clone())))?))
    }

    /// As [`Tree::open`], of a path that need not be UTF-8.
    ///
    /// # Errors
    ///
    /// As [`Tree::open`].
    pub fn open_bytes(&self, path: &[u8]) -> Result<impl Read + use<>> {
        let context = || format!("opening {} in the image", String::from_utf8_lossy(path));
        let path = ext4_view::Path::try_from(path).map_err(|error| anyhow!("{error}")).with_context(context)?;
        Ok(Content(self.fs.open(path).map_err(failed).with_context(context)?))
    }

    fn looked_up(&self, path: &str, follow: bool) -> Result<Option<Metadata>> {
        let path = absolute(path);
        let found = if follow { self.fs.metadata(path.as_str()) } else { self.fs.symlink_metadata(path.as_str()) };
        match found {
            Ok(found) => Ok(Some(metadata(&found))),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(failed(error)).with_context(|| format!("looking for {path} in the image")),
        }
    }
}

fn absent(error: &Ext4Error) -> bool {
    matches!(error, Ext4Error::NotFound | Ext4Error::NotADirectory | Ext4Error::TooManySymlinks)
}

/// `ext4-view` keeps the cause of a failed read out of its text.
fn failed(error: Ext4Error) -> anyhow::Error {
    match error {
        Ext4Error::Io(cause) => anyhow!("{cause}"),
        error => anyhow!(error),
    }
}

fn kind(kind: FileType) -> FileKind {
    match kind {
        FileType::Regular => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
    }
}

fn metadata(found: &ext4_view::Metadata) -> Metadata {
    Metadata {
        kind: kind(found.file_type()),
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
        size: found.len(),
        modified: found.modified().seconds(),
    }
}

struct Content(ext4_view::File);

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_bytes(buffer).map_err(|error| io::Error::other(failed(error)))
    }
}

impl Tree for Root {
    fn metadata(&self, path: &str) -> Result<Option<Metadata>> {
        self.looked_up(path, true)
    }

    fn symlink_metadata(&self, path: &str) -> Result<Option<Metadata>> {
        self.looked_up(path, false)
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + '_>> {
        let path = absolute(path);
        let file = self.fs.open(path.as_str()).map_err(failed).with_context(|| format!("opening {path} in the image"))?;
        Ok(Box::new(Content(file)))
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>> {
        let base = absolute(path);
        let context = || format!("listing {base} in the image");
        let mut entries = Vec::new();
        for entry in self.fs.read_dir(base.as_str()).map_err(failed).with_context(context)? {
            let entry = entry.map_err(failed).with_context(context)?;
            let name = String::from_utf8_lossy(entry.file_name().as_ref()).into_owned();
            if name == "." || name == ".." {
                continue;
            }
            let metadata = metadata(&entry.metadata().map_err(failed).with_context(context)?);
            entries.push(Entry { path: join(&base, &name), name, metadata });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn read_link(&self, path: &str) -> Result<String> {
        let path = absolute(path);
        let target = self.fs.read_link(path.as_str()).map_err(failed).with_context(|| format!("reading the link {path}"))?;
        Ok(String::from_utf8_lossy(target.as_ref()).into_owned())
    }
}

struct Device(Volume);

impl BlockDevice for Device {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> fs_ext4::Result<()> {
        Ok(self.0.read_at(offset, buf)?)
    }

    fn size_bytes(&self) -> u64 {
        self.0.size().0
    }
}

/// Inodes of a file system. The disk stays untouched: a journal that was not replayed is not looked at.
pub struct Inodes(Filesystem);

impl fmt::Debug for Inodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inodes")
    }
}

impl Inodes {
    /// What is at `path`, which leads through no link; of a link itself if it is one. `None` where there is nothing.
    ///
    /// # Errors
    ///
    /// Reading fails.
    pub fn stat(&self, path: &[u8]) -> Result<Option<Stat>> {
        let fs = &self.0;
        let number = match path {
            b"" => 2,
            path => match fs.lookup_path_bytes(path) {
                Ok(number) => number,
                Err(fs_ext4::error::Error::NotFound | fs_ext4::error::Error::NotADirectory) => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        };
        let (inode, raw) = fs.read_inode_verified(number)?;
        let device = matches!(inode.mode & 0o170_000, 0o020_000 | 0o060_000).then(|| {
            // `old_decode_dev` and `new_decode_dev` of the kernel: the first block pointer, or the second.
            let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
            match (word(40), word(44)) {
                (0, new) => ((new & 0xf_ff00) >> 8, new & 0xff | new >> 12 & 0xf_ff00),
                (old, _) => (old >> 8 & 0xff, old & 0xff),
            }
        });
        let found = xattr::read_all_resolved(fs, &inode, &raw)?;
        let mut xattrs: Vec<_> = found.into_iter().map(|attribute| (attribute.name, attribute.value)).collect();
        xattrs.sort();
        Ok(Some(Stat {
            inode: number,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            size: inode.size,
            target: inode.is_symlink().then(|| fs.read_link_ino(number)).transpose()?,
            links: u32::from(inode.links_count),
            device,
            xattrs,
        }))
    }
}
