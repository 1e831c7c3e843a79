//! What a file system is made of, independent of which file system: entries with everything that Unix knows of them.

use std::path::PathBuf;

/// Owner, permissions, time and extended attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of the content, in seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by full name, such as `security.capability`.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl Meta {
    /// Of root, without extended attributes.
    pub fn root(mode: u16, mtime: i64) -> Self {
        Self { mode, uid: 0, gid: 0, mtime, xattrs: Vec::new() }
    }
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A regular file and its content.
    File(Content),
    /// A directory.
    Dir,
    /// A symbolic link and what it says.
    Symlink(Vec<u8>),
    /// Another name of a file that stands at this path, absolute.
    HardLink(PathBuf),
    /// A character device: major and minor number.
    CharDevice(u32, u32),
    /// A block device: major and minor number.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// The bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Held in memory.
    Bytes(Vec<u8>),
    /// On the host, read when it is written.
    Host(PathBuf),
}

/// One path and what shall stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Absolute path inside the image.
    pub path: PathBuf,
    /// What stands there.
    pub node: Node,
    /// Owner, permissions, time.
    pub meta: Meta,
}
