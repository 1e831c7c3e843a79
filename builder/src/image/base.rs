//! A base image made of a root file system's tar archive: partition table, FAT, ext4, nothing else.
//!
//! Two passes over the archive: the first only counts, so that the file system gets the size it
//! needs; the second writes. Same archive and same identity, same bytes.

use std::{
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use uuid::Uuid;

use super::{
    ext4, fat,
    overlay::Overlay,
    table::{Layout, TableKind},
    tree::{Content, Entry, Meta, Node},
};
use crate::{
    progress::Reporter,
    source::tool::Tool,
    units::{Bytes, Digest},
};

/// Counted into a base's cache key: goes up whenever this module, or the editors below it, make other bytes of the same archive.
pub const FORMAT: u32 = 3;
/// Where the boot partition is mounted: what the archive has below it goes into the FAT.
pub const BOOT: &str = "/boot/firmware";
/// Start of the first partition: what Raspberry Pi OS uses, and a multiple of every card's erase block that was seen.
const ALIGNMENT: Bytes = Bytes(8 * Bytes::MIB);
/// ext4's block, the kernel's page on every board.
const BLOCK: u64 = 4096;
/// `mke2fs` gives one inode for so many bytes; cards hold many small files of container images.
const BYTES_PER_INODE: u64 = 16_384;
/// Size of the journal in MiB: what a card of 16 GB would get, since the file system grows to the card…
const JOURNAL: u64 = 64;
/// … but never more than this part of the file system, and never less than ext4 takes (1024 blocks).
const JOURNAL_PART: u64 = 8;

/// How a base is laid out.
#[derive(Clone, Debug)]
pub struct Settings {
    /// GPT instead of MBR.
    pub gpt: bool,
    /// Size of the FAT.
    pub boot: Bytes,
    /// Room left in the root file system.
    pub root_free: Bytes,
    /// Label of the FAT, 11 characters at most.
    pub boot_label: String,
    /// Label of the root file system, 16 characters at most.
    pub root_label: String,
    /// Everything counts as written at this time, in seconds since 1970.
    pub epoch: u64,
    /// What all identifiers are derived from.
    pub identity: Digest,
}

impl Settings {
    /// An identifier for `what`, the same for the same identity (RFC 9562, version 8: bits of our own making).
    pub fn uuid(&self, what: &str) -> Uuid {
        let digest = Digest::of(format!("{} {what}", self.identity).as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest.bytes()[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }

    /// A 32-bit identifier that is not 0, which means "none".
    fn id32(&self, what: &str) -> u32 {
        let digest = Digest::of(format!("{} {what}", self.identity).as_bytes());
        u32::from_le_bytes([digest.bytes()[0], digest.bytes()[1], digest.bytes()[2], digest.bytes()[3]]).max(1)
    }
}

/// Writes a base image to the file at `path`, which is empty, from the archive at `tar`.
///
/// # Errors
///
/// The archive is damaged, does not fit, `mke2fs` is missing, or writing fails.
pub fn create(tar: &Path, path: &Path, settings: &Settings, reporter: &Reporter) -> Result<()> {
    let step = reporter.step("partitions and file systems");
    let need = measure(tar)?;
    let layout = Layout {
        kind: if settings.gpt {
            TableKind::Gpt { disk_guid: settings.uuid("disk") }
        } else {
            TableKind::Mbr { disk_id: settings.id32("disk") }
        },
        alignment: ALIGNMENT,
        boot: settings.boot,
        root: need.root_size(settings.root_free),
        uuids: [settings.uuid("boot partition"), settings.uuid("root partition")],
    };
    let table = layout.table()?;
    let mut file = File::options().read(true).write(true).open(path).with_context(|| format!("opening {}", path.display()))?;
    file.set_len(table.image_size().0).with_context(|| format!("making room in {}", path.display()))?;
    table.write(&mut file)?;
    let [boot, root] = [0, 1].map(|index| &table.partitions[index]);
    make_ext4(path, root.offset(), root.size.bytes(), settings)?;
    let file = Arc::new(file);
    let overlay = |offset, size: Bytes| Overlay::new(file.clone(), offset, size.0).map(Arc::new).context("opening a partition");
    let boot = overlay(boot.offset(), boot.size.bytes())?;
    fat::format(&boot, &settings.boot_label, settings.id32("boot file system"))?;
    let root = overlay(root.offset(), root.size.bytes())?;
    step.done(format!("{} boot, {} root", settings.boot, layout.root));

    let step = reporter.bytes("files", Bytes(need.content));
    let boot = fat::Editor::open(boot, settings.epoch)?;
    let mut root = ext4::Editor::open(root, settings.epoch as i64)?;
    let mut directories = Vec::new();
    walk(tar, |mut entry, size, content| {
        // Whatever is younger was made by this build.
        entry.meta.mtime = entry.meta.mtime.min(settings.epoch as i64);
        if let Ok(inside) = entry.path.strip_prefix(BOOT) {
            let inside = inside.to_str().context("a file on the boot partition has a name that is not UTF-8")?;
            match entry.node {
                _ if inside.is_empty() => root.put(&entry)?,
                Node::Dir => boot.make_directory(inside)?,
                Node::File(_) => boot.write_stream(inside, content)?,
                _ => bail!("{} is neither file nor directory: FAT cannot hold it", entry.path.display()),
            }
        } else {
            root.put_stream(&entry, content)?;
            if entry.node == Node::Dir {
                directories.push(entry);
            }
        }
        step.advance(size);
        Ok(())
    })?;
    // What was put into a directory since has changed its time.
    for directory in &directories {
        root.put(directory)?;
    }
    boot.finish()?;
    root.finish()?;
    step.done(format!("{} files, {}", need.inodes, Bytes(need.content)));
    Ok(())
}

/// Size of the journal in MiB of a file system of `size`.
fn journal(size: Bytes) -> u64 {
    (size.0 / JOURNAL_PART / Bytes::MIB).clamp(4, JOURNAL)
}

/// What an archive needs in a file system.
#[derive(Clone, Copy, Debug, Default)]
struct Need {
    inodes: u64,
    /// Blocks of 4 KiB for content and directories.
    blocks: u64,
    /// Bytes of content, boot partition included.
    content: u64,
}

impl Need {
    /// A partition with room for it, for the file system's own structures, and for `free` more.
    fn root_size(&self, free: Bytes) -> Bytes {
        let content = self.blocks * BLOCK + free.0;
        let data = content + (journal(Bytes(content)) << 20);
        let inodes = (data / BYTES_PER_INODE).max(self.inodes) * 256;
        // Bitmaps, descriptors kept for growing, superblock copies: under 1.5 %.
        Bytes(data + inodes + data / 64).round_up(4 * Bytes::MIB)
    }
}

fn measure(tar: &Path) -> Result<Need> {
    let mut need = Need::default();
    walk(tar, |entry, size, _| {
        need.content += size;
        if !entry.path.starts_with(BOOT) {
            need.inodes += 1;
            need.blocks += if entry.node == Node::Dir { 1 } else { size.div_ceil(BLOCK) };
        }
        Ok(())
    })?;
    Ok(need)
}

/// Calls `each` for every entry of the archive, with the size of its content and the content.
fn walk(tar: &Path, mut each: impl FnMut(Entry, u64, &mut dyn Read) -> Result<()>) -> Result<()> {
    let file = File::open(tar).with_context(|| format!("opening {}", tar.display()))?;
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, file));
    for entry in archive.entries().context("reading the archive")? {
        let mut entry = entry.context("reading the archive")?;
        let parsed = parse(&mut entry).context("reading the archive")?;
        let Some(parsed) = parsed else { continue };
        let size = entry.size();
        each(parsed, size, &mut entry)?;
    }
    Ok(())
}

/// Extended attributes in a pax header, as GNU tar and star write them.
const PAX_XATTR: &str = "SCHILY.xattr.";

fn parse(entry: &mut tar::Entry<'_, impl Read>) -> Result<Option<Entry>> {
    let absolute = |path: &Path| Path::new("/").join(path.strip_prefix("/").or_else(|_| path.strip_prefix(".")).unwrap_or(path));
    let path = absolute(&entry.path()?);
    let link = entry.link_name_bytes().map(|name| name.into_owned());
    let mut xattrs = Vec::new();
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            if let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix(PAX_XATTR)) {
                xattrs.push((name.to_owned(), extension.value_bytes().to_vec()));
            }
        }
    }
    let header = entry.header();
    let device = || -> Result<(u32, u32)> {
        Ok((
            header.device_major()?.context("a device without a number")?,
            header.device_minor()?.context("a device without a number")?,
        ))
    };
    let kind = header.entry_type();
    let node = match kind {
        tar::EntryType::Regular | tar::EntryType::Continuous => Node::File(Content::Bytes(Vec::new())),
        tar::EntryType::Directory => Node::Dir,
        tar::EntryType::Symlink => Node::Symlink(link.context("a symbolic link without a target")?),
        tar::EntryType::Link => {
            use std::os::unix::ffi::OsStrExt;
            let target = link.context("a hard link without a target")?;
            Node::HardLink(absolute(&PathBuf::from(std::ffi::OsStr::from_bytes(&target))))
        }
        tar::EntryType::Char => device().map(|(major, minor)| Node::CharDevice(major, minor))?,
        tar::EntryType::Block => device().map(|(major, minor)| Node::BlockDevice(major, minor))?,
        tar::EntryType::Fifo => Node::Fifo,
        tar::EntryType::XGlobalHeader => return Ok(None),
        other => bail!("{} has the type {other:?}, which no file system has", path.display()),
    };
    let number = |value: u64, what: &str| u32::try_from(value).with_context(|| format!("{}: {what} {value}", path.display()));
    let meta = Meta {
        mode: (header.mode()? & 0o7777) as u16,
        uid: number(header.uid()?, "owner")?,
        gid: number(header.gid()?, "group")?,
        mtime: header.mtime()? as i64,
        xattrs,
    };
    Ok(Some(Entry { path, node, meta }))
}

/// An empty ext4 in the partition at `offset`, with all that makes a card grow: `resize_inode`, a journal, checksums.
///
/// Everything that `mke2fs` would take from the clock, chance or the host's `mke2fs.conf` is given.
fn make_ext4(path: &Path, offset: u64, size: Bytes, settings: &Settings) -> Result<()> {
    let uuid = settings.uuid("root file system");
    let hash_seed = settings.uuid("root directory hash");
    Tool::new("mke2fs", "e2fsprogs")
        .env("MKE2FS_CONFIG", "/dev/null")
        .env("E2FSPROGS_FAKE_TIME", settings.epoch.to_string())
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "1", "-e", "remount-ro"])
        .args(["-i", &BYTES_PER_INODE.to_string(), "-J", &format!("size={}", journal(size)), "-L", &settings.root_label])
        .args(["-O", "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"])
        .args(["-U", &uuid.to_string()])
        .args(["-E", &format!("offset={offset},hash_seed={hash_seed},lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0")])
        .arg(path)
        .arg(format!("{}k", size.0 / 1024))
        .output()
        .context("making the root file system")?;
    Ok(())
}
