//! Writes a layer: a tar archive that is the same bytes for the same content, whoever makes it and when.
//!
//! Entries are sorted by path, a folder before what is in it; owners are numbers without names; times are whole seconds;
//! what does not fit the ustar header (long or non-ASCII names, extended attributes) goes into PAX records (POSIX.1-2017, pax).

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use crate::{
    image::tree::{Content, Entry, Meta, Node},
    units::{Bytes, Digest},
};

/// A layer that is being put together. Contents wait in an unnamed file, not in memory.
#[derive(Debug)]
pub struct LayerBuilder {
    entries: BTreeMap<PathBuf, (Item, Meta)>,
    spool: File,
    spooled: u64,
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    File { offset: u64, size: u64 },
    Other(Node),
}

impl LayerBuilder {
    /// An empty layer, whose contents wait in `folder`.
    ///
    /// # Errors
    ///
    /// No file can be made there.
    pub fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self { entries: BTreeMap::new(), spool: tempfile::tempfile_in(folder)?, spooled: 0 })
    }

    /// Whether something stands at the absolute path.
    pub fn contains(&self, path: &Path) -> bool {
        self.entries.contains_key(path)
    }

    /// What the symbolic link at `path` says, if there is one.
    pub fn symlink(&self, path: &Path) -> Option<Vec<u8>> {
        match self.entries.get(path) {
            Some((Item::Other(Node::Symlink(target)), _)) => Some(target.clone()),
            _ => None,
        }
    }

    /// Lays a file with the content of `from` at the absolute `path`, in the place of what is there.
    ///
    /// # Errors
    ///
    /// `from` cannot be read, or the content not be kept.
    pub fn file(&mut self, path: &Path, from: &mut dyn Read, meta: Meta) -> io::Result<()> {
        let offset = self.spooled;
        let size = io::copy(from, &mut self.spool)?;
        self.spooled += size;
        self.entries.insert(path.to_owned(), (Item::File { offset, size }, meta));
        Ok(())
    }

    /// Lays an entry, in the place of what is there; what is in a folder stays.
    ///
    /// # Errors
    ///
    /// As [`LayerBuilder::file`].
    pub fn put(&mut self, entry: &Entry) -> io::Result<()> {
        match &entry.node {
            Node::File(Content::Bytes(bytes)) => self.file(&entry.path, &mut bytes.as_slice(), entry.meta.clone()),
            Node::File(Content::Host(host)) => self.file(&entry.path, &mut File::open(host)?, entry.meta.clone()),
            node => {
                self.entries.insert(entry.path.clone(), (Item::Other(node.clone()), entry.meta.clone()));
                Ok(())
            }
        }
    }

    /// Makes the folders that nobody has made, of root, mode 0755.
    pub fn complete(&mut self, mtime: i64) {
        let mut missing = Vec::new();
        for path in self.entries.keys() {
            for parent in path.ancestors().skip(1).filter(|parent| parent.parent().is_some()) {
                if !self.entries.contains_key(parent) {
                    missing.push(parent.to_owned());
                }
            }
        }
        for path in missing {
            self.entries.insert(path, (Item::Other(Node::Dir), Meta::root(0o755, mtime)));
        }
    }

    /// The content of the regular file at `path`.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read.
    pub fn content(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let Some((Item::File { offset, size }, _)) = self.entries.get(path) else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no such file in the image"));
        };
        self.spool.seek(SeekFrom::Start(*offset))?;
        let mut content = Vec::new();
        (&mut self.spool).take(*size).read_to_end(&mut content)?;
        self.spool.seek(SeekFrom::End(0))?;
        Ok(content)
    }

    /// Writes the archive and gives the digest of its bytes and their number.
    ///
    /// # Errors
    ///
    /// It cannot be written, or a hard link leads nowhere.
    pub fn write(mut self, to: impl Write) -> io::Result<(Digest, Bytes)> {
        let mut archive = tar::Builder::new(Hashed { inner: to, hasher: Sha256::new(), written: 0 });
        let entries = std::mem::take(&mut self.entries);
        // A link must come after what it is a name of: where it sorts before, it becomes the file and the file the link.
        let mut moved: HashMap<&Path, &Path> = HashMap::new();
        for (path, (item, meta)) in &entries {
            match item {
                Item::Other(Node::HardLink(target)) => {
                    let Some((Item::File { offset, size }, own)) = entries.get(target) else {
                        let message = format!("{} is a second name of {}, which is no file", path.display(), target.display());
                        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                    };
                    match moved.get(target.as_path()) {
                        Some(first) => link(&mut archive, path, first, own)?,
                        None if path < target => {
                            moved.insert(target, path);
                            self.contents(&mut archive, path, *offset, *size, own)?;
                        }
                        None => link(&mut archive, path, target, own)?,
                    }
                }
                Item::File { offset, size } => match moved.get(path.as_path()) {
                    Some(first) => link(&mut archive, path, first, meta)?,
                    None => self.contents(&mut archive, path, *offset, *size, meta)?,
                },
                Item::Other(node) => other(&mut archive, path, node, meta)?,
            }
        }
        let mut hashed = archive.into_inner()?;
        hashed.flush()?;
        Ok((Digest::finish(hashed.hasher), Bytes(hashed.written)))
    }

    fn contents(
        &mut self,
        archive: &mut tar::Builder<impl Write>,
        path: &Path,
        offset: u64,
        size: u64,
        meta: &Meta,
    ) -> io::Result<()> {
        self.spool.seek(SeekFrom::Start(offset))?;
        let mut header = header(EntryType::Regular, meta);
        header.set_size(size);
        append(archive, header, path, None, meta, BufReader::with_capacity(1 << 18, (&mut self.spool).take(size)))
    }
}

fn link(archive: &mut tar::Builder<impl Write>, path: &Path, target: &Path, meta: &Meta) -> io::Result<()> {
    append(archive, header(EntryType::Link, meta), path, Some(inside(target).as_os_str().as_encoded_bytes()), meta, io::empty())
}

fn other(archive: &mut tar::Builder<impl Write>, path: &Path, node: &Node, meta: &Meta) -> io::Result<()> {
    let (kind, device, target) = match node {
        Node::Dir => (EntryType::Directory, None, None),
        Node::Symlink(target) => (EntryType::Symlink, None, Some(target.as_slice())),
        Node::CharDevice(major, minor) => (EntryType::Char, Some((*major, *minor)), None),
        Node::BlockDevice(major, minor) => (EntryType::Block, Some((*major, *minor)), None),
        Node::Fifo => (EntryType::Fifo, None, None),
        Node::File(_) | Node::HardLink(_) | Node::Socket => {
            return Err(io::Error::new(io::ErrorKind::Unsupported, format!("{}: cannot be in a layer", path.display())));
        }
    };
    let mut header = header(kind, meta);
    if let Some((major, minor)) = device {
        header.set_device_major(major)?;
        header.set_device_minor(minor)?;
    }
    append(archive, header, path, target, meta, io::empty())
}

fn header(kind: EntryType, meta: &Meta) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(u32::from(meta.mode));
    header.set_uid(u64::from(meta.uid));
    header.set_gid(u64::from(meta.gid));
    header.set_mtime(meta.mtime.max(0).unsigned_abs());
    header.set_size(0);
    header
}

/// Writes one entry, with the PAX records that it needs in front.
fn append(
    archive: &mut tar::Builder<impl Write>,
    mut header: Header,
    path: &Path,
    target: Option<&[u8]>,
    meta: &Meta,
    content: impl Read,
) -> io::Result<()> {
    let mut name = inside(path).as_os_str().as_encoded_bytes().to_vec();
    if header.entry_type() == EntryType::Directory {
        name.push(b'/');
    }
    let mut records: Vec<(String, Vec<u8>)> = Vec::new();
    // set_path would make its own mind up about names that do not fit; the records decide.
    if name.is_ascii() && name.len() <= 100 {
        header.as_old_mut().name[..name.len()].copy_from_slice(&name);
    } else {
        let short: Vec<u8> = name.iter().copied().filter(u8::is_ascii).take(100).collect();
        header.as_old_mut().name[..short.len()].copy_from_slice(&short);
        records.push(("path".to_owned(), name));
    }
    if let Some(target) = target {
        let short: Vec<u8> = target.iter().copied().filter(u8::is_ascii).take(100).collect();
        header.as_old_mut().linkname[..short.len()].copy_from_slice(&short);
        if short != target {
            records.push(("linkpath".to_owned(), target.to_vec()));
        }
    }
    for (key, value) in &meta.xattrs {
        records.push((format!("SCHILY.xattr.{key}"), value.clone()));
    }
    records.sort();
    if !records.is_empty() {
        archive.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
    }
    header.set_cksum();
    archive.append(&header, content)
}

/// Paths in a layer have no `/` in front.
fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Writes and hashes.
struct Hashed<W> {
    inner: W,
    hasher: Sha256,
    written: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buf)?;
        self.hasher.update(&buf[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, node: Node, mode: u16) -> Entry {
        Entry { path: path.into(), node, meta: Meta::root(mode, 1_700_000_000) }
    }

    fn example(reverse: bool) -> (Vec<u8>, Digest) {
        let folder = tempfile::tempdir().unwrap();
        let text = |text: &str| Node::File(Content::Bytes(text.as_bytes().to_vec()));
        let long = format!("/{}/file", "d".repeat(120));
        let mut entries = vec![
            entry("/usr/bin/b", text("program"), 0o4755),
            entry("/usr/bin/a", Node::HardLink("/usr/bin/b".into()), 0o755),
            entry("/usr/bin/c", Node::HardLink("/usr/bin/b".into()), 0o755),
            entry(&long, text("x"), 0o644),
            entry("/etc/grün", Node::Symlink(b"/caf\xc3\xa9".to_vec()), 0o777),
            entry("/dev/null", Node::CharDevice(1, 3), 0o666),
            entry("/run/pipe", Node::Fifo, 0o600),
        ];
        entries[0].meta.xattrs.push(("security.capability".to_owned(), vec![1, 0, 0, 2]));
        if reverse {
            entries.reverse();
        }
        let mut builder = LayerBuilder::new(folder.path()).unwrap();
        for entry in &entries {
            builder.put(entry).unwrap();
        }
        builder.complete(1_700_000_000);
        assert_eq!(builder.content(Path::new("/usr/bin/b")).unwrap(), b"program");
        let mut tar = Vec::new();
        let (digest, size) = builder.write(&mut tar).unwrap();
        assert_eq!((digest, size.0), (Digest::of(&tar), tar.len() as u64));
        (tar, digest)
    }

    #[test]
    fn the_order_of_making_does_not_matter() {
        assert_eq!(example(false).1, example(true).1);
    }

    #[test]
    fn gnu_tar_reads_what_was_written() {
        use std::process::{Command, Stdio};
        let mut child = Command::new("tar")
            .args(["--list", "--verbose", "--numeric-owner", "--full-time", "--utc", "--xattrs", "--file=-"])
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("GNU tar runs: apt-get install tar");
        child.stdin.take().unwrap().write_all(&example(false).0).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let list = String::from_utf8(output.stdout).unwrap();
        let long = "d".repeat(120);
        let lines: Vec<(&str, &str)> =
            list.lines().map(|line| (&line[..10], line.split_once("22:13:20 ").expect("the time").1)).collect();
        assert_eq!(
            lines,
            [
                ("drwxr-xr-x", format!("{long}/").as_str()),
                ("-rw-r--r--", format!("{long}/file").as_str()),
                ("drwxr-xr-x", "dev/"),
                ("crw-rw-rw-", "dev/null"),
                ("drwxr-xr-x", "etc/"),
                ("lrwxrwxrwx", "etc/grün -> /café"),
                ("drwxr-xr-x", "run/"),
                ("prw-------", "run/pipe"),
                ("drwxr-xr-x", "usr/"),
                ("drwxr-xr-x", "usr/bin/"),
                ("-rwsr-xr-x*", "usr/bin/a"),
                ("hrwsr-xr-x*", "usr/bin/b link to usr/bin/a"),
                ("hrwsr-xr-x*", "usr/bin/c link to usr/bin/a"),
            ]
            .map(|(mode, rest)| (&mode[..10], rest))
        );
    }

    #[test]
    fn a_link_to_nothing_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut builder = LayerBuilder::new(folder.path()).unwrap();
        builder.put(&entry("/a", Node::HardLink("/b".into()), 0o644)).unwrap();
        let error = builder.write(Vec::new()).unwrap_err().to_string();
        assert_eq!(error, "/a is a second name of /b, which is no file");
    }
}
