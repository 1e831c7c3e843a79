//! A sink that only remembers, and compares what it was given with what is in an image.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::sink::Sink;
use crate::image::{
    disk::{Inodes, Stat},
    tree::{Entry, Meta, Node},
};

/// Differences told at most: the first ones say what happened.
const SHOWN: usize = 3;

/// What should be there.
#[derive(Default)]
pub(super) struct Expected {
    entries: BTreeMap<PathBuf, (Node, Meta)>,
    /// Lengths of files.
    sizes: BTreeMap<PathBuf, u64>,
}

impl Expected {
    /// Entries that should be there.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What differs in the image, a few words each, with paths from `base` on; the first few.
    ///
    /// # Errors
    ///
    /// Reading fails.
    pub(super) fn differences(&self, base: &Path, inodes: &Inodes) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        for (path, (node, meta)) in &self.entries {
            if differences.len() == SHOWN {
                break;
            }
            let found = inodes.stat(path.as_os_str().as_bytes())?;
            if let Some(what) = match found {
                None => Some("is missing".to_owned()),
                Some(found) => self.difference(path, node, meta, &found, inodes)?,
            } {
                differences.push(format!("{} {what}", path.strip_prefix(base).unwrap_or(path).display()));
            }
        }
        Ok(differences)
    }

    fn difference(&self, path: &Path, node: &Node, meta: &Meta, found: &Stat, inodes: &Inodes) -> Result<Option<String>> {
        let (kind, device) = match node {
            Node::File(_) => (0o100_000, None),
            Node::Dir => (0o040_000, None),
            Node::Symlink(target) => {
                let same = found.target.as_ref() == Some(target) && (found.uid, found.gid) == (meta.uid, meta.gid);
                return Ok((!same).then(|| "is not the link that it should be".to_owned()));
            }
            Node::HardLink(target) => {
                let same = inodes.stat(target.as_os_str().as_bytes())?.is_some_and(|target| target.inode == found.inode);
                return Ok((!same).then(|| format!("is not {} under another name", target.display())));
            }
            Node::CharDevice(major, minor) => (0o020_000, Some((*major, *minor))),
            Node::BlockDevice(major, minor) => (0o060_000, Some((*major, *minor))),
            Node::Fifo => (0o010_000, None),
            Node::Socket => (0o140_000, None),
        };
        let size = self.sizes.get(path).copied();
        Ok(if found.mode != kind | meta.mode {
            Some(format!("has mode {:o} instead of {:o}", found.mode, kind | meta.mode))
        } else if (found.uid, found.gid) != (meta.uid, meta.gid) {
            Some(format!("belongs to {}:{} instead of {}:{}", found.uid, found.gid, meta.uid, meta.gid))
        } else if found.device != device {
            Some("is another device".to_owned())
        } else if size.is_some_and(|size| size != found.size) {
            Some(format!("has {} bytes instead of {}", found.size, size.unwrap_or_default()))
        } else {
            let missing = meta.xattrs.iter().find(|attribute| !found.xattrs.contains(attribute));
            missing.map(|(name, _)| format!("lacks its attribute {name}"))
        })
    }
}

impl Sink for Expected {
    fn read(&mut self, _: &Path) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn put(&mut self, entry: &Entry) -> Result<()> {
        self.entries.insert(entry.path.clone(), (entry.node.clone(), entry.meta.clone()));
        Ok(())
    }

    fn put_stream(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        let size = io::copy(content, &mut io::sink())?;
        self.sizes.insert(entry.path.clone(), size);
        self.put(entry)
    }

    fn adjust(&mut self, path: &Path, meta: &Meta) -> Result<()> {
        let (node, own) = self.entries.get_mut(path).with_context(|| format!("{} is missing", path.display()))?;
        own.clone_from(meta);
        if let Node::HardLink(target) = node {
            let target = target.clone();
            return self.adjust(&target, meta);
        }
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> Result<()> {
        self.entries.remove(path);
        Ok(())
    }
}
