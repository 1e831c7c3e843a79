//! Reading a file system inside an image, whichever it is.

use std::io::Read;

use anyhow::{Context, Result};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl FileKind {
    /// The first letter of `ls -l`.
    pub fn letter(self) -> char {
        match self {
            Self::File => '-',
            Self::Directory => 'd',
            Self::Symlink => 'l',
            Self::CharDevice => 'c',
            Self::BlockDevice => 'b',
            Self::Fifo => 'p',
            Self::Socket => 's',
        }
    }
}

/// What is known of a file without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky. On a FAT 0755.
    pub mode: u16,
    /// Owner. On a FAT 0.
    pub uid: u32,
    /// Group. On a FAT 0.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Last change of the content, seconds since 1970.
    pub modified: i64,
}

impl Metadata {
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == FileKind::File
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name alone. Bytes that are no UTF-8 are replaced.
    pub name: String,
    /// The whole path, from `/`.
    pub path: String,
    /// Of the entry itself, not of what a link points to.
    pub metadata: Metadata,
}

/// A file system, read-only. Paths are absolute (a `/` in front may be left out), links are followed
/// inside the image, in the middle of a path too.
pub trait Tree {
    /// What `path` is, links followed. `None` if it is not there, or a link leads nowhere.
    ///
    /// # Errors
    ///
    /// If reading fails or the file system is damaged.
    fn metadata(&self, path: &str) -> Result<Option<Metadata>>;

    /// As [`Tree::metadata`], but of a link itself where the last component is one.
    ///
    /// # Errors
    ///
    /// As [`Tree::metadata`].
    fn symlink_metadata(&self, path: &str) -> Result<Option<Metadata>>;

    /// A reader from the start of a regular file.
    ///
    /// # Errors
    ///
    /// If it is not there or no regular file.
    fn open(&self, path: &str) -> Result<Box<dyn Read + '_>>;

    /// The entries of a directory by name, without `.` and `..`.
    ///
    /// # Errors
    ///
    /// If it is not there or no directory.
    fn list(&self, path: &str) -> Result<Vec<Entry>>;

    /// What a symbolic link says.
    ///
    /// # Errors
    ///
    /// If it is not there or no link.
    fn read_link(&self, path: &str) -> Result<String>;

    /// Whether `path` leads to something.
    ///
    /// # Errors
    ///
    /// As [`Tree::metadata`].
    fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.metadata(path)?.is_some())
    }

    /// A whole file.
    ///
    /// # Errors
    ///
    /// As [`Tree::open`], or if reading fails.
    fn read(&self, path: &str) -> Result<Vec<u8>> {
        let mut data = Vec::new();
        self.open(path)?.read_to_end(&mut data).with_context(|| format!("reading {path} in the image"))?;
        Ok(data)
    }

    /// A whole file, or `None` if there is no regular file at `path`.
    ///
    /// # Errors
    ///
    /// If reading fails.
    fn try_read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        match self.metadata(path)? {
            Some(metadata) if metadata.is_file() => self.read(path).map(Some),
            _ => Ok(None),
        }
    }

    /// As [`Tree::try_read`], as text; what is no UTF-8 is replaced.
    ///
    /// # Errors
    ///
    /// As [`Tree::try_read`].
    fn try_text(&self, path: &str) -> Result<Option<String>> {
        Ok(self.try_read(path)?.map(|data| String::from_utf8_lossy(&data).into_owned()))
    }

    /// At most the first `length` bytes of a regular file; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If reading fails.
    fn head(&self, path: &str, length: u64) -> Result<Option<Vec<u8>>> {
        match self.metadata(path)? {
            Some(metadata) if metadata.is_file() => {
                let mut data = Vec::new();
                let mut file = self.open(path)?.take(length);
                file.read_to_end(&mut data).with_context(|| format!("reading {path} in the image"))?;
                Ok(Some(data))
            }
            _ => Ok(None),
        }
    }

    /// Calls `visit` for everything below `path` in the order of names, a directory before what is in it.
    /// Links are not followed.
    ///
    /// # Errors
    ///
    /// What `visit` says, or if reading fails.
    fn walk(&self, path: &str, visit: &mut dyn FnMut(&Entry) -> Result<()>) -> Result<()> {
        for entry in self.list(path)? {
            visit(&entry)?;
            if entry.metadata.is_dir() {
                self.walk(&entry.path, visit)?;
            }
        }
        Ok(())
    }
}

/// `directory` and `name` as one path.
pub(super) fn join(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim_end_matches('/'))
}

/// With one `/` in front.
pub(super) fn absolute(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}
