//! A plan as text for people.

use std::fmt;

use super::{Edit, Plan};
use crate::{
    image::tree::{Content, Meta, Node},
    units::Bytes,
};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.edits.iter().try_for_each(|edit| writeln!(f, "{edit}"))
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(entry) => {
                let path = entry.path.display();
                match &entry.node {
                    Node::File(Content::Bytes(bytes)) => {
                        write!(f, "file    {} {path} ({})", Owner(&entry.meta), Bytes(bytes.len() as u64))
                    }
                    Node::File(Content::Host(host)) => write!(f, "file    {} {path} from {}", Owner(&entry.meta), host.display()),
                    Node::Dir => write!(f, "folder  {} {path}", Owner(&entry.meta)),
                    Node::Symlink(target) => write!(f, "link    {path} -> {}", String::from_utf8_lossy(target)),
                    Node::HardLink(target) => write!(f, "name    {path} = {}", target.display()),
                    Node::CharDevice(major, minor) => write!(f, "device  {} {path} c {major} {minor}", Owner(&entry.meta)),
                    Node::BlockDevice(major, minor) => write!(f, "device  {} {path} b {major} {minor}", Owner(&entry.meta)),
                    Node::Fifo => write!(f, "pipe    {} {path}", Owner(&entry.meta)),
                    Node::Socket => write!(f, "socket  {} {path}", Owner(&entry.meta)),
                }
            }
            Self::Adjust { path, mode, uid, gid, mtime, xattrs } => {
                write!(f, "adjust  {}", path.display())?;
                mode.map_or(Ok(()), |mode| write!(f, " mode {mode:04o}"))?;
                uid.map_or(Ok(()), |uid| write!(f, " owner {uid}"))?;
                gid.map_or(Ok(()), |gid| write!(f, " group {gid}"))?;
                mtime.map_or(Ok(()), |mtime| write!(f, " time {mtime}"))?;
                xattrs.iter().try_for_each(|(name, _)| write!(f, " {name}"))
            }
            Self::Remove(path) => write!(f, "remove  {}", path.display()),
            Self::RemoveMatching { folder, prefix, suffix } => write!(f, "remove  {}/{prefix}*{suffix}", folder.display()),
            Self::User(account) => write!(
                f,
                "user    {} ({}), in {}, {}",
                account.name,
                account.id,
                account.groups.join(" "),
                if account.password.is_some() { "with a password" } else { "without a password" }
            ),
            Self::KernelParameters(words) => write!(f, "cmdline {}", words.join(" ")),
            Self::FirmwareSettings(lines) => write!(f, "config  {}", lines.join(", ")),
            Self::Images(images) | Self::Archives(images) => {
                let shown = images.iter().map(|image| {
                    let bytes = Bytes(image.layers.iter().map(|layer| layer.size.0).sum());
                    format!("{} {} ({bytes} in {} layers)", image.reference, image.id().short(), image.layers.len())
                });
                let word = if matches!(self, Self::Images(_)) { "images  " } else { "archive " };
                write!(f, "{word}{}", shown.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// `0644 0:0`, and names of extended attributes.
struct Owner<'a>(&'a Meta);

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Meta { mode, uid, gid, xattrs, .. } = self.0;
        write!(f, "{mode:04o} {uid}:{gid}")?;
        xattrs.iter().try_for_each(|(name, _)| write!(f, " {name}"))
    }
}
