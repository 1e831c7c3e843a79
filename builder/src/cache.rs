//! Downloads and bootstrapped bases, kept by digest.
//!
//! An entry is a file named by its kind and by the digest of what defines it (of its bytes, or of the
//! lock that it was made from). [`Cache::lookup`] finds one; [`Cache::begin`] finds one or says that it is
//! ours to make: a [`Pending`] holds the key's lock, so that two builds at once do not do the same work
//! twice, and nothing stands under the entry's name before [`Pending::commit`].
//!
//! ```text
//! KIND/HEX            the bytes
//! KIND/HEX.json       size, time and digest of them, and facts about where they came from
//! KIND/HEX.lock       held (flock) by whoever makes the entry; stays, it is empty
//! KIND/HEX.partial    being made; of no use when its maker has gone, and then swept
//! KIND/HEX.download   being downloaded; the next run goes on from it, swept after 30 days without one
//! ```
//!
//! A kill, a power cut or a full disk at any moment leaves either the whole entry or none.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    error::UsageError,
    interrupt::{Undo, on_interrupt},
    progress::Reporter,
    units::{Bytes, Digest},
};

/// How long a download that nobody goes on with is kept.
const ABANDONED: Duration = Duration::from_secs(30 * 24 * 3600);

/// A folder of entries. Cheap to clone; any number of processes use one at a time.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// An entry that is whole.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where its bytes are. Not to be changed: copy it ([`crate::image::sparse::copy_sparse`]).
    pub path: PathBuf,
    /// How many bytes it has.
    pub size: Bytes,
    /// The digest of its bytes, where its maker knew it.
    pub content: Option<Digest>,
    /// What its maker wanted to be remembered.
    pub facts: BTreeMap<String, String>,
}

/// What [`Cache::begin`] found.
#[derive(Debug)]
pub enum Begin {
    /// There is an entry already, perhaps made by another process while we waited for it.
    Present(Entry),
    /// There is none, and it is ours to make.
    Missing(Pending),
}

/// The contents of `HEX.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    size: u64,
    /// Modification time: seconds, nanoseconds.
    modified: (i64, i64),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<Digest>,
    #[serde(default)]
    facts: BTreeMap<String, String>,
}

impl Cache {
    /// Opens `folder`, or without one `$XDG_CACHE_HOME/hcl-image` or `~/.cache/hcl-image`. It is made where it
    /// does not exist, and what killed runs left in it is swept.
    ///
    /// # Errors
    ///
    /// The folder cannot be made or read, or there is no home directory to put it into.
    pub fn open(folder: Option<&Path>) -> Result<Self> {
        let root = match folder {
            Some(folder) => folder.to_owned(),
            None => default_folder(|name| std::env::var_os(name).map(PathBuf::from))?,
        };
        create_folder(&root)?;
        let root = root.canonicalize().with_context(|| format!("opening the cache {}", root.display()))?;
        let cache = Self { root };
        // A cache that cannot be swept is still good.
        let _ = cache.sweep();
        Ok(cache)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The entry of `kind` for `key`, if there is one and it has the size and time that were recorded.
    ///
    /// # Errors
    ///
    /// The cache cannot be read.
    pub fn lookup(&self, kind: &'static str, key: &Digest) -> Result<Option<Entry>> {
        let path = self.entry(kind, key);
        let found = read_entry(&path).with_context(|| format!("looking into the cache for {}", path.display()))?;
        Ok(found)
    }

    /// As [`Cache::lookup`], and where there is no entry takes the key's lock to make it, waiting for any other
    /// process that is making it right now.
    ///
    /// # Errors
    ///
    /// The cache cannot be read or written.
    pub fn begin(&self, kind: &'static str, key: &Digest, reporter: &Reporter) -> Result<Begin> {
        self.claim(kind, key, false, reporter)
    }

    /// As [`Cache::begin`] for a download: what a former run left of it is there to go on with.
    ///
    /// # Errors
    ///
    /// The cache cannot be read or written.
    pub fn begin_download(&self, kind: &'static str, key: &Digest, reporter: &Reporter) -> Result<Begin> {
        self.claim(kind, key, true, reporter)
    }

    /// Reads the whole entry again. One whose bytes have changed is taken out of the cache.
    ///
    /// # Errors
    ///
    /// There is no such entry, its maker recorded no digest, it cannot be read, or its bytes have changed.
    pub fn verify(&self, kind: &'static str, key: &Digest) -> Result<Entry> {
        let path = self.entry(kind, key);
        let entry = self.lookup(kind, key)?.with_context(|| format!("{} is not in the cache", path.display()))?;
        let wanted = entry.content.with_context(|| format!("no digest is recorded for {}", path.display()))?;
        let mut file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let mut hasher = Sha256::new();
        let mut buf = vec![0; 1 << 18];
        loop {
            match file.read(&mut buf).with_context(|| format!("reading {}", path.display()))? {
                0 => break,
                count => hasher.update(&buf[..count]),
            }
        }
        let found = Digest::finish(hasher);
        if found != wanted {
            remove_if_there(&path)?;
            bail!("{} had SHA-256 {found} where {wanted} was recorded; it is removed, run the command again", path.display());
        }
        Ok(entry)
    }

    fn entry(&self, kind: &'static str, key: &Digest) -> PathBuf {
        debug_assert!(kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') && !kind.is_empty(), "{kind}");
        self.root.join(kind).join(key.to_string())
    }

    fn claim(&self, kind: &'static str, key: &Digest, resumable: bool, reporter: &Reporter) -> Result<Begin> {
        if let Some(entry) = self.lookup(kind, key)? {
            return Ok(Begin::Present(entry));
        }
        let path = self.entry(kind, key);
        create_folder(&self.root.join(kind))?;
        let lock_path = suffixed(&path, ".lock");
        let lock = open_lock(&lock_path)?;
        if !try_lock(&lock).with_context(|| format!("locking {}", lock_path.display()))? {
            reporter.note(format!("Another hcl-image makes {kind} {} right now: waiting for it", key.short()));
            retry(|| flock(&lock, FlockOperation::LockExclusive)).with_context(|| format!("locking {}", lock_path.display()))?;
        }
        // Whoever held it before us may have made the entry.
        if let Some(entry) = self.lookup(kind, key)? {
            return Ok(Begin::Present(entry));
        }
        let partial = suffixed(&path, if resumable { ".download" } else { ".partial" });
        // Bytes without their record, or the other way round: of no use.
        for leftover in [&path, &suffixed(&path, ".json")] {
            remove_if_there(leftover)?;
        }
        let undo = if resumable {
            None
        } else {
            remove_if_there(&partial)?;
            let partial = partial.clone();
            Some(on_interrupt(move || drop(fs::remove_file(partial))))
        };
        Ok(Begin::Missing(Pending { entry: path, path: partial, resumable, undo, committed: false, _lock: lock }))
    }

    /// Removes what killed runs left and nobody works on.
    fn sweep(&self) -> io::Result<()> {
        for kind in fs::read_dir(&self.root)? {
            let kind = kind?;
            if !kind.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(kind.path())? {
                let path = file?.path();
                let stale = match path.extension().and_then(|extension| extension.to_str()) {
                    Some("partial" | "draft") => true,
                    Some("download") => age(&path).is_some_and(|age| age > ABANDONED),
                    _ => false,
                };
                if !stale {
                    continue;
                }
                let Ok(lock) = open_lock(&path.with_extension("lock")) else { continue };
                if try_lock(&lock)? {
                    fs::remove_file(&path)?;
                    if path.extension().is_some_and(|extension| extension == "download") {
                        drop(fs::remove_file(suffixed(&path, ".json")));
                    }
                }
            }
        }
        Ok(())
    }
}

/// An entry that is ours to make. Dropped without [`Pending::commit`] it leaves nothing behind, or, when it is a
/// download, what there is of it for the next run.
#[derive(Debug)]
pub struct Pending {
    /// Where the entry will be.
    entry: PathBuf,
    /// Where its bytes are until then.
    path: PathBuf,
    resumable: bool,
    undo: Option<Undo>,
    committed: bool,
    /// Held until dropped.
    _lock: File,
}

impl Pending {
    /// Where the bytes go until they are whole: a program run by us may write there.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file at [`Pending::path`], made where there is none, else with what a former run left (downloads).
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn file(&self) -> Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(&self.path)
            .with_context(|| format!("creating {}", self.path.display()))
    }

    /// Puts the bytes at [`Pending::path`] under the entry's name: they are on the disk when this returns.
    /// `content` is their digest if it is known, `facts` is what [`Entry::facts`] shall say.
    ///
    /// # Errors
    ///
    /// They cannot be synced or renamed; there is no entry then.
    pub fn commit(mut self, content: Option<Digest>, facts: BTreeMap<String, String>) -> Result<Entry> {
        let what = || format!("keeping {} in the cache", self.entry.display());
        let entry = self.put(content, facts).with_context(what)?;
        self.committed = true;
        Ok(entry)
    }

    /// Removes what there is of a download too.
    pub fn discard(mut self) {
        if self.resumable {
            drop(fs::remove_file(suffixed(&self.path, ".json")));
        }
        self.resumable = false;
    }

    fn put(&self, content: Option<Digest>, facts: BTreeMap<String, String>) -> io::Result<Entry> {
        let file = File::open(&self.path)?;
        file.sync_all()?;
        let metadata = file.metadata()?;
        let record = Record { size: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()), content, facts };
        // The record first: bytes without it are no entry, and a record without bytes is none either.
        let record_path = suffixed(&self.entry, ".json");
        let draft = suffixed(&self.entry, ".draft");
        let mut text = serde_json::to_vec_pretty(&record).map_err(io::Error::other)?;
        text.push(b'\n');
        fs::write(&draft, &text)?;
        File::open(&draft)?.sync_all()?;
        fs::rename(&draft, &record_path)?;
        fs::rename(&self.path, &self.entry)?;
        if self.resumable {
            drop(fs::remove_file(suffixed(&self.path, ".json")));
        }
        sync_folder_of(&self.entry)?;
        Ok(Entry { path: self.entry.clone(), size: Bytes(record.size), content: record.content, facts: record.facts })
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.committed && !self.resumable {
            drop(fs::remove_file(&self.path));
        }
        drop(self.undo.take());
    }
}

/// Makes a rename in the folder of `path` last.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// `path` with `suffix` after its last byte: `a.img` → `a.img.lock`.
pub(crate) fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Takes the lock unless another open file has it.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match retry(|| flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a file that need not exist.
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn default_folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    // The XDG specification: a relative path is to be ignored.
    let absolute = |name| variable(name).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|folder| folder.join("hcl-image"))
        .ok_or_else(|| UsageError::new("there is no home directory to cache in: set HOME, or name a folder with --cache"))
}

fn create_folder(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("creating the cache folder {}", path.display()))
}

fn read_entry(path: &Path) -> io::Result<Option<Entry>> {
    let text = match fs::read(suffixed(path, ".json")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // A record that cannot be read is as good as none: the entry is made again.
    let Ok(record) = serde_json::from_slice::<Record>(&text) else { return Ok(None) };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let same =
        metadata.is_file() && metadata.len() == record.size && (metadata.mtime(), metadata.mtime_nsec()) == record.modified;
    Ok(same.then(|| Entry { path: path.to_owned(), size: Bytes(record.size), content: record.content, facts: record.facts }))
}

pub(crate) fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("opening the lock {}", path.display()))
}

fn age(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::metadata(path).ok()?.modified().ok()?).ok()
}

fn retry<T>(call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    rustix::io::retry_on_intr(call).map_err(Into::into)
}

#[cfg(test)]
mod tests;
