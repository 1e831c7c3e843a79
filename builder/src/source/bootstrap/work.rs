//! The folder that an installation works in: locked while anybody uses it, removed by the next build should we be killed.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{cache::try_lock, progress::Reporter, source::tool::Tool};

/// Whatever begins like this and is locked by nobody was left by a killed build.
const PREFIX: &str = "hcl-image-root-";

/// A folder of our own. Its lock is held by us and by every program that we start from now on, so that it outlives a
/// kill for as long as one of them is still busy in there.
#[derive(Debug)]
pub(super) struct Work {
    folder: TempDir,
    _lock: File,
}

impl Work {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// The temporary folder cannot be written.
    pub(super) fn create() -> Result<Self> {
        Self::create_in(&temporary_folder())
    }

    fn create_in(parent: &Path) -> Result<Self> {
        let doing = || format!("creating a work folder in {} (TMPDIR names another)", parent.display());
        for _ in 0..100 {
            let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent).with_context(doing)?;
            let lock = File::open(folder.path()).with_context(doing)?;
            // Between the two lines above another build's sweep may have taken it for a leftover.
            if !try_lock(&lock).with_context(doing)? || !is_at(&lock, folder.path()) {
                continue;
            }
            rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty()).map_err(io::Error::from).with_context(doing)?;
            // The namespace's root is another user: it must be able to read this folder whatever our umask is.
            fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
                .context("opening the work folder to the namespace")?;
            return Ok(Self { folder, _lock: lock });
        }
        bail!("{}: another program removes it", doing())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes what killed builds left in the temporary folder. Leftovers that resist are named in a note.
pub fn tidy(reporter: &Reporter) {
    sweep(&temporary_folder(), reporter);
}

/// On disk rather than in memory: the root takes a gigabyte.
fn temporary_folder() -> PathBuf {
    std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

/// Removes our leftovers in `parent`. One that resists is named, and is no reason not to build.
fn sweep(parent: &Path, reporter: &Reporter) {
    let user = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user);
        if !ours {
            continue;
        }
        let Ok(lock) = File::open(&path) else { continue };
        if matches!(try_lock(&lock), Ok(true))
            && is_at(&lock, &path)
            && let Err(error) = remove(&path)
        {
            let error = crate::error::one_line(&error);
            reporter.note(format!("  Note: {} was left by a killed build and cannot be removed: {error}", path.display()));
        }
    }
}

/// Files in there may belong to subordinate users, whom only a namespace may touch; other file systems are left alone.
fn remove(path: &Path) -> Result<()> {
    let tool = if rustix::process::geteuid().is_root() {
        Tool::new("rm", "coreutils")
    } else {
        Tool::new("unshare", "util-linux").args(["--map-root-user", "--map-auto", "rm"])
    };
    tool.args(["-rf", "--one-file-system", "--"]).arg(path).output().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Mode;

    #[test]
    fn leftovers_go_and_what_is_in_use_stays() {
        let parent = tempfile::tempdir().unwrap();
        let quiet = Reporter::new(Mode::Quiet);
        let left = parent.path().join(format!("{PREFIX}left/root/usr"));
        fs::create_dir_all(&left).unwrap();
        sweep(parent.path(), &quiet);
        let foreign = parent.path().join("somebody-elses");
        fs::create_dir(&foreign).unwrap();
        let first = Work::create_in(parent.path()).unwrap();
        let second = Work::create_in(parent.path()).unwrap();
        sweep(parent.path(), &quiet);
        assert!(!left.exists() && foreign.is_dir() && first.path().is_dir() && second.path().is_dir());
        drop(first);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 2);
    }
}
