//! What is laid into the image one by one: files, links, devices, and changes of owner and mode.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Component, Path},
};

use serde::{Serialize, ser::SerializeMap};

use crate::manifest::{
    place::SourcePath,
    text::{BadText, schema, text_type, through_text},
};

text_type! {
    /// An absolute path inside the image, such as `/etc/motd`: no `.`, no `..`, no `//`, not `/` itself.
    ImagePath, "^(/[^/]+)+$", |text| {
        let path = Path::new(text);
        let plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
        let canonical = path.components().skip(1).map(|part| format!("/{}", part.as_os_str().to_string_lossy())).collect::<String>();
        if !text.starts_with('/') {
            Err(format!("`{text}` is no path inside the image: it starts with `/`"))
        } else if !plain || canonical != text || text.chars().any(char::is_control) {
            Err(format!("`{}` is no path inside the image: write it without `.`, `..`, `//` and a `/` at the end", text.escape_debug()))
        } else {
            Ok(())
        }
    }
}

/// One thing in the image, laid after the overlays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Where.
    pub path: ImagePath,
    /// What.
    pub kind: FileKind,
    /// Permission bits; `None` = 0644 for files, 0755 for folders, 0600 for devices and pipes, unchanged for `Existing`.
    pub mode: Option<Mode>,
    /// Owner's number; `None` = 0, unchanged for `Existing`.
    pub uid: Option<u32>,
    /// Group's number; `None` = 0, unchanged for `Existing`.
    pub gid: Option<u32>,
    /// Time of last change in seconds since 1970; `None` = the build's `SOURCE_DATE_EPOCH`.
    pub mtime: Option<u32>,
    /// Extended attributes, full names such as `user.note` or `security.capability`.
    pub xattrs: BTreeMap<String, XattrValue>,
}

/// What a [`FileEntry`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Nothing new: only owner, mode, time or attributes of what is there already change.
    Existing,
    /// A regular file with this content.
    Content(String),
    /// A regular file copied from the host.
    Source(SourcePath),
    /// A symbolic link to this target.
    Symlink(String),
    /// A second name of this file.
    Hardlink(ImagePath),
    /// A folder.
    Directory,
    /// A device node.
    Device(Device),
    /// A named pipe.
    Fifo,
}

impl Serialize for FileEntry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { path, kind, mode, uid, gid, mtime, xattrs } = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("path", path)?;
        match kind {
            FileKind::Existing => {}
            FileKind::Content(text) => map.serialize_entry("content", text)?,
            FileKind::Source(source) => map.serialize_entry("source", source)?,
            FileKind::Symlink(target) => map.serialize_entry("symlink", target)?,
            FileKind::Hardlink(other) => map.serialize_entry("hardlink", other)?,
            FileKind::Directory => map.serialize_entry("directory", &true)?,
            FileKind::Device(device) => map.serialize_entry("device", device)?,
            FileKind::Fifo => map.serialize_entry("fifo", &true)?,
        }
        if let Some(mode) = mode {
            map.serialize_entry("mode", mode)?;
        }
        for (key, number) in [("uid", uid), ("gid", gid), ("mtime", mtime)] {
            if let Some(number) = number {
                map.serialize_entry(key, number)?;
            }
        }
        if !xattrs.is_empty() {
            map.serialize_entry("xattrs", xattrs)?;
        }
        map.end()
    }
}

/// A device node, written as mknod(1) takes it: `c 1 3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// A block device rather than a character device.
    pub block: bool,
    /// Major number, below 4096.
    pub major: u32,
    /// Minor number, below 2^20.
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", if self.block { 'b' } else { 'c' }, self.major, self.minor)
    }
}

impl std::str::FromStr for Device {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let bad = || BadText(format!("`{text}` is no device: write type, major and minor number, such as `c 1 3`"));
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [kind, major, minor] = fields.as_slice() else { return Err(bad()) };
        let block = match *kind {
            "b" => true,
            "c" => false,
            _ => return Err(bad()),
        };
        let (major, minor) = (major.parse::<u32>().map_err(|_| bad())?, minor.parse::<u32>().map_err(|_| bad())?);
        if major >= 1 << 12 || minor >= 1 << 20 {
            return Err(BadText(format!("`{text}` is no device: Linux has majors below 4096 and minors below 1048576")));
        }
        Ok(Self { block, major, minor })
    }
}

through_text!(Device);
schema!(Device, "^[bc] [0-9]+ [0-9]+$");

/// Permission bits with set-user-id, set-group-id and sticky, written in octal as a text: `"0755"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mode(u16);

impl Mode {
    /// The twelve bits.
    pub fn bits(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::str::FromStr for Mode {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let bits = octal.then(|| u16::from_str_radix(text, 8).ok()).flatten();
        bits.map(Self).ok_or_else(|| BadText(format!("`{text}` is no mode: write three or four octal digits, such as `0644`")))
    }
}

through_text!(Mode);
schema!(Mode, "^[0-7]{3,4}$");

/// The value of an extended attribute: a text, or bytes written as `0x…` as getfattr(1) prints them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XattrValue(Vec<u8>);

impl XattrValue {
    /// The raw value.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for XattrValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.starts_with("0x") && !text.chars().any(char::is_control) => f.write_str(text),
            _ => write!(f, "0x{}", hex::encode(&self.0)),
        }
    }
}

impl std::str::FromStr for XattrValue {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        match text.strip_prefix("0x") {
            None => Ok(Self(text.as_bytes().to_vec())),
            Some(digits) => hex::decode(digits)
                .map(Self)
                .map_err(|_| BadText(format!("`{text}` is no attribute value: after `0x` come pairs of hexadecimal digits"))),
        }
    }
}

through_text!(XattrValue);
schema!(XattrValue, "^([^0]|0[^x]|0?$|0x([0-9a-fA-F]{2})*$)");
