//! Where a store is written to: the file system of an image, or whatever else takes entries.

use std::{io::Read, path::Path};

use anyhow::Result;

use crate::image::{
    ext4,
    tree::{Entry, Meta},
};

/// A file system that takes entries. Paths are absolute and lead through no symbolic link below the store.
pub trait Sink {
    /// The content of the regular file at `path`; `None` where there is nothing.
    ///
    /// # Errors
    ///
    /// It is no regular file, or cannot be read.
    fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>>;

    /// Makes `entry`; a folder that is there stays and gets the new owner, permissions and time.
    ///
    /// # Errors
    ///
    /// No room, or something is in the way.
    fn put(&mut self, entry: &Entry) -> Result<()>;

    /// Makes a regular file and fills it with all that `content` gives.
    ///
    /// # Errors
    ///
    /// As [`Sink::put`], and when `content` cannot be read.
    fn put_stream(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()>;

    /// Gives what stands at `path` owner, permissions, time and further attributes.
    ///
    /// # Errors
    ///
    /// There is nothing.
    fn adjust(&mut self, path: &Path, meta: &Meta) -> Result<()>;

    /// Removes the file or device at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be removed.
    fn remove(&mut self, path: &Path) -> Result<()>;
}

impl Sink for ext4::Editor {
    fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>> {
        ext4::Editor::read(self, path)
    }

    fn put(&mut self, entry: &Entry) -> Result<()> {
        ext4::Editor::put(self, entry)
    }

    fn put_stream(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
        ext4::Editor::put_stream(self, entry, content)
    }

    fn adjust(&mut self, path: &Path, meta: &Meta) -> Result<()> {
        ext4::Editor::adjust(self, path, meta)
    }

    fn remove(&mut self, path: &Path) -> Result<()> {
        ext4::Editor::remove(self, path).map(drop)
    }
}
