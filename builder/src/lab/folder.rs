//! The lab's working folder: sockets, extracted boot files, disk layers. Gone when the lab is.
//!
//! A lab that was killed with SIGKILL leaves its folder behind. Each folder therefore holds a locked
//! file, and the next lab removes those whose lock nobody holds any more.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

/// Names of working folders start so.
const PREFIX: &str = "hcl-lab-";
const LOCK: &str = "lock";

/// A working folder of this process.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
    _lock: File,
}

impl Folder {
    /// Makes one below `TMPDIR`, else in `/var/tmp`: disk layers grow to hundreds of megabytes, and `/tmp`
    /// is memory on many systems. Leftovers of killed labs are removed first.
    ///
    /// # Errors
    ///
    /// The folder cannot be made.
    pub fn create() -> anyhow::Result<Self> {
        Self::create_in(&base())
    }

    fn create_in(base: &Path) -> anyhow::Result<Self> {
        sweep(base);
        let context = || format!("making a working folder in {}", base.display());
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base).with_context(context)?;
        let lock = File::create(folder.path().join(LOCK)).with_context(context)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).with_context(context)?;
        Ok(Self { folder, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

fn base() -> PathBuf {
    match std::env::var_os("TMPDIR") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ if Path::new("/var/tmp").is_dir() => PathBuf::from("/var/tmp"),
        _ => std::env::temp_dir(),
    }
}

/// The folders of all labs of this user, also of labs that are gone.
///
/// # Errors
///
/// The folder that they are made in cannot be read.
pub fn all() -> anyhow::Result<Vec<PathBuf>> {
    let base = base();
    let entries = fs::read_dir(&base).with_context(|| format!("reading the folder {}", base.display()))?.flatten();
    let user = rustix::process::getuid().as_raw();
    let ours = entries.filter(|entry| {
        entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.metadata().is_ok_and(|metadata| metadata.uid() == user)
    });
    Ok(ours.map(|entry| entry.path()).collect())
}

/// How the lab with this working folder is called.
pub fn name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix(PREFIX).unwrap_or(&name).to_owned()
}

/// Removes the folders of labs that are gone. What cannot be looked at is somebody else's.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // A folder without a lock is one that is being made right now.
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_go_and_living_ones_stay() {
        let base = tempfile::tempdir().unwrap();
        let living = Folder::create_in(base.path()).unwrap();
        let dead = base.path().join("hcl-lab-dead");
        fs::create_dir(&dead).unwrap();
        File::create(dead.join(LOCK)).unwrap();
        fs::create_dir(base.path().join("hcl-lab-young")).unwrap();
        fs::create_dir(base.path().join("other")).unwrap();

        let second = Folder::create_in(base.path()).unwrap();
        assert!(living.path().join(LOCK).exists() && second.path().exists());
        assert!(!dead.exists());
        assert!(base.path().join("hcl-lab-young").exists() && base.path().join("other").exists());
        drop((living, second));
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 2);
    }
}
