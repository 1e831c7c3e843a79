//! Editing an ext4 file system in place: what is there stays where it is, and only what changes is written.
//!
//! Works on an [`Overlay`] over the partition. Times are never taken from the clock: same edits, same bytes.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    path::{Component, Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result, bail, ensure};
use fs_ext4::{fs::Filesystem, inode::Inode, runtime::Runtime};

use super::{
    overlay::Overlay,
    tree::{Content, Entry, Meta, Node},
};

/// Symbolic links followed on the way to one path before it counts as a loop; the kernel's own limit (`MAXSYMLINKS`).
const LINKS: usize = 40;
/// Bytes handed to the file system at once.
const PIECE: usize = 4 << 20;
/// The root directory's inode, `EXT4_ROOT_INO`.
const ROOT: u32 = 2;

/// An ext4 file system open for editing. Nothing is on disk before [`Editor::finish`].
pub struct Editor {
    fs: Filesystem,
    overlay: Arc<Overlay>,
    /// Directories already found, by the path they were asked for.
    folders: HashMap<PathBuf, u32>,
}

impl std::fmt::Debug for Editor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Editor").field("overlay", &self.overlay).finish_non_exhaustive()
    }
}

/// A clock that stands still and generations that count up.
#[derive(Debug)]
struct Fixed {
    epoch: i64,
    generation: AtomicU32,
}

impl Runtime for Fixed {
    fn now_unix_seconds(&self) -> i64 {
        self.epoch
    }

    fn next_inode_generation(&self) -> u32 {
        self.generation.fetch_add(1, Ordering::Relaxed)
    }
}

impl Editor {
    /// Opens the file system in `overlay`; whatever is changed counts as changed at `epoch`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// It is no ext4, is damaged, or uses a feature that cannot be written.
    pub fn open(overlay: Arc<Overlay>, epoch: i64) -> Result<Self> {
        let runtime = Arc::new(Fixed { epoch, generation: AtomicU32::new(1) });
        let fs = Filesystem::mount_with_runtime(overlay.clone(), runtime).context("opening the root file system for editing")?;
        Ok(Self { fs, overlay, folders: HashMap::new() })
    }

    /// Makes `entry`, replacing what stands at its path. Missing parent directories are made, root's and 0755.
    ///
    /// # Errors
    ///
    /// No room, a parent that is no directory, or a directory in the way of a file.
    pub fn put(&mut self, entry: &Entry) -> Result<()> {
        self.put_inner(entry, None).with_context(|| format!("writing {}", entry.path.display()))
    }

    /// As [`Editor::put`] for a regular file whose content comes from `content`, a piece at a time.
    ///
    /// # Errors
    ///
    /// As [`Editor::put`], and when `content` cannot be read.
    pub fn put_stream(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        self.put_inner(entry, Some(content)).with_context(|| format!("writing {}", entry.path.display()))
    }

    /// The content of the regular file at `path`, symbolic links followed; `None` where there is nothing.
    ///
    /// # Errors
    ///
    /// It is no regular file or cannot be read.
    pub fn read(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        let Some(ino) = self.lookup(path, true).with_context(|| format!("reading {}", path.display()))? else { return Ok(None) };
        let inode = self.fs.stat_ino(ino).with_context(|| format!("reading {}", path.display()))?;
        ensure!(inode.is_file(), "{} is no regular file", path.display());
        let mut bytes = vec![0; usize::try_from(inode.size).context("a file too large for memory")?];
        let count = self.fs.read_ino(ino, 0, &mut bytes).with_context(|| format!("reading {}", path.display()))?;
        bytes.truncate(count);
        Ok(Some(bytes))
    }

    /// Owner, permissions and time of what stands at `path` itself; `None` where there is nothing.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn meta(&self, path: &Path) -> Result<Option<Meta>> {
        let Some(ino) = self.lookup(path, false)? else { return Ok(None) };
        let inode = self.fs.stat_ino(ino)?;
        Ok(Some(Meta { mode: inode.mode & 0o7777, uid: inode.uid, gid: inode.gid, mtime: inode.mtime, xattrs: Vec::new() }))
    }

    /// Whether there is a directory at `path`, symbolic links followed.
    ///
    /// # Errors
    ///
    /// The file system cannot be read.
    pub fn is_directory(&self, path: &Path) -> Result<bool> {
        Ok(match self.lookup(path, true)? {
            Some(ino) => self.fs.stat_ino(ino)?.is_dir(),
            None => false,
        })
    }

    /// Gives what stands at `path` owner, permissions, time and further attributes.
    ///
    /// # Errors
    ///
    /// There is nothing, or no room for the attributes.
    pub fn adjust(&mut self, path: &Path, meta: &Meta) -> Result<()> {
        let ino = self.lookup(path, false)?.with_context(|| format!("{} is missing", path.display()))?;
        self.set_meta(ino, path, meta).with_context(|| format!("changing {}", path.display()))
    }

    /// Overwrites the content of the regular file at `path` with zeros where it lies, so that nothing of it stays when its blocks
    /// are given back. Where there is none, nothing is done.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn wipe(&mut self, path: &Path) -> Result<()> {
        let Some(ino) = self.lookup(path, false)? else { return Ok(()) };
        let inode = self.fs.stat_ino(ino)?;
        if !inode.is_file() {
            return Ok(());
        }
        let zeros = vec![0; usize::try_from(inode.size).context("a file too large for memory")?];
        self.fs.apply_pwrite_ino(ino, 0, &zeros).with_context(|| format!("overwriting {}", path.display()))?;
        Ok(())
    }

    /// Names in the directory at `path`, sorted; empty where there is none.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn list(&self, path: &Path) -> Result<Vec<String>> {
        let Some(ino) = self.lookup(path, true)? else { return Ok(Vec::new()) };
        if !self.fs.stat_ino(ino)?.is_dir() {
            return Ok(Vec::new());
        }
        let entries = self.fs.read_dir_ino(ino).with_context(|| format!("listing {}", path.display()))?;
        let mut names: Vec<String> = entries
            .iter()
            .map(|entry| String::from_utf8_lossy(&entry.name).into_owned())
            .filter(|name| name != "." && name != "..")
            .collect();
        names.sort();
        Ok(names)
    }

    /// Removes what stands at `path`, a directory with all that is in it. Says whether there was anything.
    ///
    /// # Errors
    ///
    /// It cannot be removed.
    pub fn remove(&mut self, path: &Path) -> Result<bool> {
        let Some(ino) = self.lookup(path, false)? else { return Ok(false) };
        let (parent, name) = self.parent(path)?;
        if self.fs.stat_ino(ino)?.is_dir() {
            for child in self.list(path)? {
                self.remove(&path.join(child))?;
            }
            self.folders.clear();
            self.fs.apply_rmdir_at(parent, &name).with_context(|| format!("removing {}", path.display()))?;
        } else {
            self.fs.apply_unlink_at(parent, &name).with_context(|| format!("removing {}", path.display()))?;
        }
        Ok(true)
    }

    /// Writes everything to the file.
    ///
    /// # Errors
    ///
    /// Writing fails, the disk being full first of all.
    pub fn finish(self) -> Result<()> {
        let journal = self.journal().context("looking for the journal")?;
        let block = u64::from(self.fs.sb.block_size());
        self.fs.finish().context("closing the root file system")?;
        // Every transaction is in place, and the journal says that it is empty: what it held is weight without use.
        for run in journal.chunk_by(|one, next| one + 1 == *next) {
            self.overlay.zero(run[0] * block, run.len() as u64 * block).context("emptying the journal")?;
        }
        self.overlay.flush_to_file().context("writing the root file system")
    }

    /// The blocks of the journal after its superblock, which is its first one; none where there is no journal.
    fn journal(&self) -> Result<Vec<u64>> {
        if self.fs.sb.journal_inode == 0 {
            return Ok(Vec::new());
        }
        let (inode, _) = self.fs.read_inode_verified(self.fs.sb.journal_inode)?;
        let blocks = inode.size / u64::from(self.fs.sb.block_size());
        let mapped = (1..blocks).map(|logical| self.fs.map_inode_logical(&inode, logical));
        mapped.filter_map(|block| block.transpose()).collect::<Result<_, _>>().map_err(Into::into)
    }

    fn put_inner(&mut self, entry: &Entry, stream: Option<&mut dyn Read>) -> Result<()> {
        ensure!(entry.path.is_absolute(), "the path is not absolute");
        if entry.path == Path::new("/") {
            ensure!(entry.node == Node::Dir, "the root is a directory");
            return self.set_meta(ROOT, Path::new("/"), &entry.meta);
        }
        let (parent, name) = self.parent(&entry.path)?;
        let existing = match self.fs.lookup_at(parent, &name) {
            Ok(ino) => Some((ino, self.fs.stat_ino(ino)?)),
            Err(fs_ext4::error::Error::NotFound) => None,
            Err(error) => return Err(error.into()),
        };
        let ino = match (&entry.node, existing) {
            (Node::Dir, Some((ino, inode))) if inode.is_dir() => ino,
            (Node::File(content), Some((ino, inode))) if inode.is_file() && inode.links_count == 1 => {
                self.fs.apply_truncate_ino(ino, 0)?;
                self.fill(ino, content, stream)?;
                ino
            }
            (_, existing) => {
                if let Some((_, inode)) = existing {
                    ensure!(!inode.is_dir(), "a directory is in the way");
                    self.fs.apply_unlink_at(parent, &name)?;
                }
                self.make(parent, &name, entry, stream)?
            }
        };
        // A hard link has the metadata of the file it names, and a symbolic link's permissions mean nothing.
        match entry.node {
            Node::HardLink(_) => Ok(()),
            Node::Symlink(_) => self.set_owner_and_time(ino, &entry.meta),
            _ => self.set_meta(ino, &entry.path, &entry.meta),
        }
    }

    fn make(&mut self, parent: u32, name: &[u8], entry: &Entry, stream: Option<&mut dyn Read>) -> Result<u32> {
        /// Type bits of `i_mode`, as in `sys/stat.h`.
        const CHAR: u16 = 0o020_000;
        const BLOCK: u16 = 0o060_000;
        const FIFO: u16 = 0o010_000;
        const SOCKET: u16 = 0o140_000;
        let mode = entry.meta.mode;
        let ino = match &entry.node {
            Node::Dir => self.fs.apply_mkdir_at(parent, name, mode)?,
            Node::File(content) => {
                let ino = self.fs.apply_create_at(parent, name, mode)?;
                self.fill(ino, content, stream)?;
                ino
            }
            Node::Symlink(target) => self.fs.apply_symlink_at(parent, name, target)?,
            Node::HardLink(target) => {
                let ino = self.lookup(target, false)?.with_context(|| format!("{} to link to is missing", target.display()))?;
                self.fs.apply_link_at(ino, parent, name)?;
                ino
            }
            Node::CharDevice(major, minor) => self.fs.apply_mknod_at(parent, name, CHAR | mode, *major, *minor)?,
            Node::BlockDevice(major, minor) => self.fs.apply_mknod_at(parent, name, BLOCK | mode, *major, *minor)?,
            Node::Fifo => self.fs.apply_mknod_at(parent, name, FIFO | mode, 0, 0)?,
            Node::Socket => self.fs.apply_mknod_at(parent, name, SOCKET | mode, 0, 0)?,
        };
        Ok(ino)
    }

    fn fill(&self, ino: u32, content: &Content, stream: Option<&mut dyn Read>) -> Result<()> {
        match (stream, content) {
            (Some(stream), _) => self.write_pieces(ino, stream),
            (None, Content::Bytes(bytes)) => self.write_pieces(ino, &mut bytes.as_slice()),
            (None, Content::Host(path)) => {
                let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
                self.write_pieces(ino, &mut file)
            }
        }
    }

    /// Writes all of `from` as the content of `ino`, a piece at a time.
    ///
    /// # Errors
    ///
    /// Reading or writing fails, or there is no room.
    fn write_pieces(&self, ino: u32, from: &mut dyn Read) -> Result<()> {
        let mut buffer = Vec::new();
        let mut at = 0;
        loop {
            buffer.clear();
            from.take(PIECE as u64).read_to_end(&mut buffer).context("reading the content")?;
            if buffer.is_empty() {
                return Ok(());
            }
            self.fs.apply_pwrite_ino(ino, at, &buffer)?;
            at += buffer.len() as u64;
            if buffer.len() < PIECE {
                return Ok(());
            }
        }
    }

    fn set_meta(&self, ino: u32, path: &Path, meta: &Meta) -> Result<()> {
        for (name, value) in &meta.xattrs {
            let path = path.to_str().context("a path with extended attributes must be UTF-8")?;
            self.fs.apply_setxattr(path, name, value).with_context(|| format!("setting {name}"))?;
        }
        // Each change is a transaction: only what differs. Owner first: changing it clears setuid and setgid, as in the kernel.
        let inode = self.fs.stat_ino(ino)?;
        let owned = (inode.uid, inode.gid) == (meta.uid, meta.gid);
        if !owned {
            self.fs.apply_chown_ino(ino, meta.uid, meta.gid)?;
        }
        if !owned || inode.mode & 0o7777 != meta.mode {
            self.fs.apply_chmod_ino(ino, meta.mode)?;
        }
        if (inode.atime, inode.mtime) != (meta.mtime, meta.mtime) {
            self.fs.apply_utimens_ino(ino, meta.mtime, 0, meta.mtime, 0)?;
        }
        Ok(())
    }

    fn set_owner_and_time(&self, ino: u32, meta: &Meta) -> Result<()> {
        if (meta.uid, meta.gid) != (0, 0) {
            self.fs.apply_chown_ino(ino, meta.uid, meta.gid)?;
        }
        self.fs.apply_utimens_ino(ino, meta.mtime, 0, meta.mtime, 0)?;
        Ok(())
    }

    /// Directory and name of `path`; missing directories on the way are made.
    fn parent(&mut self, path: &Path) -> Result<(u32, Vec<u8>)> {
        let name = path.file_name().context("the path ends in no usable name")?.as_encoded_bytes().to_vec();
        let folder = path.parent().unwrap_or(Path::new("/"));
        if let Some(ino) = self.folders.get(folder) {
            return Ok((*ino, name));
        }
        let ino = match self.lookup(folder, true)? {
            Some(ino) => ino,
            None => {
                let epoch = self.fs.stat_ino(ROOT)?.mtime;
                self.put_inner(&Entry { path: folder.to_owned(), node: Node::Dir, meta: Meta::root(0o755, epoch) }, None)?;
                self.lookup(folder, true)?.context("a directory just made is missing")?
            }
        };
        ensure!(self.fs.stat_ino(ino)?.is_dir(), "{} is no directory", folder.display());
        self.folders.insert(folder.to_owned(), ino);
        Ok((ino, name))
    }

    /// The inode at `path`, symbolic links on the way resolved inside the image; the last one only if `follow`.
    fn lookup(&self, path: &Path, follow: bool) -> Result<Option<u32>> {
        let mut rest: Vec<Vec<u8>> = components(path).rev().collect();
        let mut trail = vec![ROOT];
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == b".." {
                if trail.len() > 1 {
                    trail.pop();
                }
                continue;
            }
            let here = trail[trail.len() - 1];
            let ino = match self.fs.lookup_at(here, &name) {
                Ok(ino) => ino,
                Err(fs_ext4::error::Error::NotFound | fs_ext4::error::Error::NotADirectory) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let inode: Inode = self.fs.stat_ino(ino)?;
            if inode.is_symlink() && (follow || !rest.is_empty()) {
                links += 1;
                if links > LINKS {
                    bail!("too many symbolic links on the way to {}", path.display());
                }
                let target = PathBuf::from(String::from_utf8_lossy(&self.fs.read_link_ino(ino)?).into_owned());
                if target.is_absolute() {
                    trail.truncate(1);
                }
                rest.extend(components(&target).rev());
            } else {
                trail.push(ino);
            }
        }
        Ok(trail.pop())
    }
}

fn components(path: &Path) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_encoded_bytes().to_vec()),
        Component::ParentDir => Some(b"..".to_vec()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
