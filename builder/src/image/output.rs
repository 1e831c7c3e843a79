//! The finished image and what lies beside it.
//!
//! An [`Output`] is written as `NAME.partial` beside its target and gets its name last of all:
//!
//! 1. [`Output::create`] takes the lock of `NAME.partial`, which tells a build under way from what a killed one left.
//! 2. The caller fills [`Output::file`] and checks it.
//! 3. [`Output::finish`] reads the image once: zero blocks become holes, the SHA-256, the block map and the
//!    compressed image are made. All of it is written as `….partial` and synced.
//! 4. Then, with signals held off: the side files of a former build are removed, the new ones renamed (the checksum
//!    first), and the image renamed last.
//!
//! So an image under its name is whole, and has its own side files. An image that stood there before stays until
//! the last rename. Killed within step 4, a former image stands beside new side files at worst, and the new checksum
//! and block map refuse it. Any other end leaves nothing but, after SIGKILL, a `.partial` that the next build takes.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};

pub use compress::Compression;
pub use sides::Sides;

mod bmap;
mod compress;
mod pass;
mod sides;
mod used;

use crate::{
    cache::{remove_if_there, suffixed, sync_folder_of, try_lock},
    error::UsageError,
    interrupt::{Undo, on_interrupt},
    progress::Reporter,
    units::{Bytes, Digest},
};

/// Whoever holds the image holds the cluster's keys.
const IMAGE_MODE: u32 = 0o600;
/// Checksums and block maps tell nothing.
const SIDE_MODE: u32 = 0o644;
/// Every side file that any build may have left.
const SIDES: [&str; 6] = [".sha256", ".bmap", ".xz", ".xz.sha256", ".zst", ".zst.sha256"];

/// An image being written. Dropped without [`Output::finish`] it leaves nothing behind.
#[derive(Debug)]
pub struct Output {
    target: PathBuf,
    partial: PathBuf,
    file: Arc<File>,
    /// Side files that the caller wants placed with the image.
    attached: Vec<(PathBuf, Vec<u8>)>,
    /// Every partial file that is there now, for whoever must remove them.
    drafts: Arc<Drafts>,
    undo: Option<Undo>,
}

/// What [`Output::finish`] made.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The image.
    pub path: PathBuf,
    /// Its size, holes included.
    pub size: Bytes,
    /// Bytes of its blocks that are not zero.
    pub stored: Bytes,
    /// The digest of the image.
    pub sha256: Digest,
    /// The side files in the order in which they were placed, with their sizes.
    pub sides: Vec<(PathBuf, Bytes)>,
}

impl Output {
    /// Begins an image that will be called `target`. Its folder is made where there is none.
    ///
    /// # Errors
    ///
    /// `target` names something that is no file, another build is writing it, or its folder cannot be written.
    pub fn create(target: &Path) -> Result<Self> {
        check_target(target)?;
        if let Some(folder) = target.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).with_context(|| format!("creating the folder {}", folder.display()))?;
        }
        let partial = suffixed(target, ".partial");
        let file = lock_partial(&partial)?;
        let drafts = Arc::new(Drafts(Mutex::new(Some(vec![partial.clone()]))));
        let undo = {
            let drafts = drafts.clone();
            on_interrupt(move || drafts.remove_all())
        };
        let output =
            Self { target: target.to_owned(), partial, file: Arc::new(file), attached: Vec::new(), drafts, undo: Some(undo) };
        let reset = || -> io::Result<()> {
            output.file.set_len(0)?;
            // Not what the umask of this run leaves: same inputs, same result.
            output.file.set_permissions(fs::Permissions::from_mode(IMAGE_MODE))
        };
        reset().with_context(|| format!("creating {}", output.partial.display()))?;
        for side in SIDES {
            remove_if_there(&suffixed(&suffixed(target, side), ".partial"))?;
        }
        Ok(output)
    }

    /// The file to fill, open for reading and writing; empty at first.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Where [`Output::file`] is for now: a program run by us may work on it there.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Takes away what a killed build left of a file that is going to be attached at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be removed.
    pub fn reserve(&self, path: &Path) -> Result<()> {
        remove_if_there(&suffixed(path, ".partial"))
    }

    /// Places `bytes` at `path` together with the image, replacing what is there: a lock, a report.
    pub fn attach(&mut self, path: PathBuf, bytes: Vec<u8>) {
        self.attached.push((path, bytes));
    }

    /// Makes the side files, syncs all, and gives everything its name.
    ///
    /// # Errors
    ///
    /// Something cannot be read, written or renamed, the disk being full first of all. No new image stands under its
    /// name then.
    pub fn finish(mut self, compress: &[Compression], reporter: &Reporter) -> Result<Finished> {
        let shown = self.target.display().to_string();
        let mut streams = Vec::new();
        for kind in compress {
            let path = suffixed(&self.target, kind.suffix());
            let file = self.draft(&path, IMAGE_MODE)?;
            streams.push((*kind, path, file));
        }
        let coders = streams.iter().map(|(kind, _, file)| (*kind, file)).collect();
        let report = pass::run(&self.file, coders, reporter).with_context(|| format!("finishing {shown}"))?;

        let mut sides = vec![self.write_side(".sha256", checksum_line(&report.sha256, &self.target)?.as_bytes())?];
        sides.push(self.write_side(".bmap", report.bmap.as_bytes())?);
        for ((kind, path, file), digest) in streams.iter().zip(&report.compressed) {
            sides.push(self.write_side(kind.checksum_suffix(), checksum_line(digest, path)?.as_bytes())?);
            file.sync_all().with_context(|| format!("writing {}", path.display()))?;
            sides.push(path.clone());
        }
        for (path, bytes) in std::mem::take(&mut self.attached) {
            self.write_file(&path, &bytes)?;
            sides.push(path);
        }
        self.file.sync_all().with_context(|| format!("writing {}", self.partial.display()))?;

        let undo = self.undo.take();
        let place = || self.place(&sides);
        match undo {
            Some(undo) => undo.settle(place),
            None => place(),
        }
        .with_context(|| format!("placing {shown}"))?;
        self.drafts.keep_all();

        let size = |path: &PathBuf| fs::metadata(path).map(|metadata| Bytes(metadata.len())).unwrap_or_default();
        Ok(Finished {
            path: self.target.clone(),
            size: report.size,
            stored: report.stored,
            sha256: report.sha256,
            sides: sides.into_iter().map(|path| (path.clone(), size(&path))).collect(),
        })
    }

    /// Step 4 of the module's contract. Where it fails, no new side file stays.
    fn place(&self, sides: &[PathBuf]) -> io::Result<()> {
        let mut placed = 0;
        let result = self.try_place(sides, &mut placed);
        if result.is_err() {
            for side in &sides[..placed] {
                drop(fs::remove_file(side));
            }
        }
        result
    }

    fn try_place(&self, sides: &[PathBuf], placed: &mut usize) -> io::Result<()> {
        let mut removed = false;
        for side in SIDES {
            match fs::remove_file(suffixed(&self.target, side)) {
                Ok(()) => removed = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if removed {
            sync_folder_of(&self.target)?;
        }
        for side in sides {
            fs::rename(suffixed(side, ".partial"), side)?;
            *placed += 1;
            sync_folder_of(side)?;
        }
        fs::rename(&self.partial, &self.target)?;
        sync_folder_of(&self.target)
    }

    fn write_side(&self, suffix: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = suffixed(&self.target, suffix);
        self.write_file(&path, bytes)?;
        Ok(path)
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let mut file = self.draft(path, SIDE_MODE)?;
        file.write_all(bytes).and_then(|()| file.sync_all()).with_context(|| format!("writing {}", path.display()))
    }

    /// A new, empty `….partial` for `path`.
    fn draft(&self, path: &Path, mode: u32) -> Result<File> {
        let partial = suffixed(path, ".partial");
        remove_if_there(&partial)?;
        let open = || -> io::Result<File> {
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&partial)?;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            Ok(file)
        };
        self.drafts.add(&partial, open).with_context(|| format!("creating {}", partial.display()))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.drafts.remove_all();
    }
}

/// The partial files that are there now. Once they are removed, by a signal first of all, none is made any more: the
/// thread that builds still runs while the one that watches for signals cleans up.
#[derive(Debug)]
struct Drafts(Mutex<Option<Vec<PathBuf>>>);

impl Drafts {
    /// Makes the file at `path` and remembers it, in one step as `remove_all` sees it.
    fn add(&self, path: &Path, make: impl FnOnce() -> io::Result<File>) -> io::Result<File> {
        let mut paths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match paths.as_mut() {
            Some(paths) => paths.push(path.to_owned()),
            None => {
                drop(paths);
                // The watching thread is about to end the process with its own line and exit code.
                loop {
                    std::thread::park();
                }
            }
        }
        make()
    }

    /// They have their final names: nothing is to be removed.
    fn keep_all(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn remove_all(&self) {
        for path in self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default() {
            // What is not there need not be removed, and for the rest there is nobody left to tell.
            drop(fs::remove_file(path));
        }
    }
}

/// Only a file is replaced, or nothing.
fn check_target(target: &Path) -> Result<()> {
    if target.file_name().is_none() {
        return Err(UsageError::new(format!("`{}` is no file name: name the image with -o FILE", target.display())));
    }
    let Ok(metadata) = fs::metadata(target) else { return Ok(()) };
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(());
    }
    Err(UsageError::new(if kind.is_block_device() {
        format!("{} is a device: build into a file, then write that to the card", target.display())
    } else if kind.is_dir() {
        format!("{} is a folder: name the image in it with -o FILE", target.display())
    } else {
        format!("{} is not a file: choose another name with -o FILE", target.display())
    }))
}

/// Opens and locks `partial`, which may be what a killed build left.
fn lock_partial(partial: &Path) -> Result<File> {
    let creating = || format!("creating {}", partial.display());
    for _ in 0..100 {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(IMAGE_MODE)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(partial)
            .with_context(creating)?;
        if !try_lock(&file).with_context(|| format!("locking {}", partial.display()))? {
            bail!("another build is writing {}: wait for it, or choose another name with -o", partial.display());
        }
        // Between opening and locking its owner may have renamed it: then it is a finished image, and not ours.
        let ours = file.metadata().with_context(creating)?;
        if fs::symlink_metadata(partial).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            return Ok(file);
        }
    }
    bail!("{} does not stay in place: another program removes it", partial.display());
}

/// A line as `sha256sum` writes it, with the name alone so that the pair can be moved.
fn checksum_line(digest: &Digest, path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    match name {
        Some(name) if !name.contains(['\n', '\r', '\\']) => Ok(format!("{digest}  {name}\n")),
        _ => Err(UsageError::new(format!("`{}` cannot stand in a checksum file: choose a plain name", path.display()))),
    }
}
