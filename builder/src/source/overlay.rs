//! An overlay folder on the host as entries for the image.
//!
//! Owner, umask and times of a checkout are accidents: everything becomes root's, 0755 where the owner may
//! execute it and 0644 elsewhere, and carries the build's time. What needs more says so in the manifest.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
};

use anyhow::{Context, Result, bail};
use sha2::Digest as _;

use crate::{
    error::UsageError,
    image::tree::{Content, Entry, Meta, Node},
    units::Digest,
};

/// The entries of the overlay at `folder` in order of their paths, and a digest of all that counts.
///
/// # Errors
///
/// There is no such folder (exit code 2), it cannot be read, or it holds something that is neither file, folder nor link.
pub fn read(folder: &Path, epoch: u64) -> Result<(Vec<Entry>, Digest)> {
    if !folder.is_dir() {
        return Err(UsageError::new(format!("overlay {}: no such folder", folder.display())));
    }
    let mut entries = Vec::new();
    let mut hasher = sha2::Sha256::new();
    for found in walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name() {
        let found = found.with_context(|| format!("reading the overlay {}", folder.display()))?;
        let inside = found.path().strip_prefix(folder).context("an overlay entry outside of its overlay")?;
        let path = Path::new("/").join(inside);
        let kind = found.file_type();
        let (node, mode) = if kind.is_dir() {
            (Node::Dir, 0o755)
        } else if kind.is_symlink() {
            let target = fs::read_link(found.path()).with_context(|| format!("reading {}", found.path().display()))?;
            (Node::Symlink(target.as_os_str().as_bytes().to_vec()), 0o777)
        } else if kind.is_file() {
            let permissions = found.metadata().with_context(|| format!("reading {}", found.path().display()))?.permissions();
            let mode = if permissions.mode() & 0o100 != 0 { 0o755 } else { 0o644 };
            (Node::File(Content::Host(found.path().to_owned())), mode)
        } else {
            bail!(
                "{}: an overlay holds files, folders and links only; devices and pipes go into the manifest",
                found.path().display()
            );
        };
        hasher.update(format!("{}\0{mode:o}\0", path.display()));
        match &node {
            Node::File(Content::Host(host)) => {
                let bytes = fs::read(host).with_context(|| format!("reading {}", host.display()))?;
                hasher.update(Digest::of(&bytes).bytes());
            }
            Node::Symlink(target) => hasher.update(target),
            _ => {}
        }
        entries.push(Entry { path, node, meta: Meta::root(mode, epoch as i64) });
    }
    Ok((entries, Digest::finish(hasher)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_umask_of_a_checkout_does_not_matter() {
        let make = |file_mode: u32| {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("etc")).unwrap();
            fs::write(folder.path().join("etc/a"), "a").unwrap();
            fs::set_permissions(folder.path().join("etc/a"), fs::Permissions::from_mode(file_mode)).unwrap();
            std::os::unix::fs::symlink("a", folder.path().join("etc/b")).unwrap();
            let (entries, digest) = read(folder.path(), 5).unwrap();
            (entries.iter().map(|entry| (entry.path.clone(), entry.meta.clone())).collect::<Vec<_>>(), digest)
        };
        assert_eq!(make(0o644), make(0o600));
        assert_ne!(make(0o644), make(0o755));
        assert_eq!(make(0o644).0.len(), 3);
    }

    #[test]
    fn a_missing_folder_is_wrong_input() {
        assert!(read(Path::new("/no/such/overlay"), 0).unwrap_err().is::<UsageError>());
    }
}
