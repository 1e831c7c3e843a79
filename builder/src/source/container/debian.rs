//! A minimal root file system of Debian packages as one layer: their files, without their scripts.
//!
//! The tree is laid out with a merged `/usr`, whatever the release: `/bin`, `/sbin` and `/lib` are links into it, so that the
//! dynamic linker and `#!/bin/sh` are found at their usual places. Users, groups and name lookup get the few lines that
//! programs expect. Manuals, translations, documentation, init scripts and units stay out; the licences stay in.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{applets, licence};
use crate::{
    image::tree::{Content, Entry, Meta, Node},
    lock::PackageLock,
    manifest::OciDebian,
    oci::layer::LayerBuilder,
    source::deb,
    units::{Bytes, Digest},
};

/// Changes when the same packages would become another layer: part of the name under which layers are kept.
pub const FORMAT: u32 = 1;

/// Packages that only install, start or ask: in a container nothing does. None of them is ever taken along.
pub const NEVER: [&str; 14] = [
    "adduser",
    "debconf",
    "debconf-2.0",
    "dpkg",
    "init-system-helpers",
    "install-info",
    "lsb-base",
    "passwd",
    "perl-base",
    "systemd",
    "systemd-standalone-sysusers",
    "sysvinit-utils",
    "ucf",
    "sensible-utils",
];

/// Left out: nobody reads manuals in a container, and nothing starts services in one.
const LEFT_OUT: [&str; 22] = [
    "/etc/cron.d",
    "/etc/cron.daily",
    "/etc/default",
    "/etc/init.d",
    "/etc/logrotate.d",
    "/etc/rsyslog.d",
    "/usr/lib/systemd",
    "/usr/lib/sysusers.d",
    "/usr/lib/tmpfiles.d",
    "/usr/share/apport",
    "/usr/share/bash-completion",
    "/usr/share/bug",
    "/usr/share/doc-base",
    "/usr/share/fish",
    "/usr/share/info",
    "/usr/share/initramfs-tools",
    "/usr/share/lintian",
    "/usr/share/locale",
    "/usr/share/man",
    "/usr/share/menu",
    "/usr/share/vim",
    "/usr/share/zsh",
];

/// Folders of the root that are links into `/usr`.
const MERGED: [&str; 3] = ["bin", "lib", "sbin"];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";

/// A layer that has been made.
#[derive(Clone, Debug)]
pub struct Made {
    /// SHA-256 of the archive.
    pub diff_id: Digest,
    /// Its length.
    pub size: Bytes,
    /// For each package by name: the short names of its licences, as far as its copyright file lists them.
    pub licences: BTreeMap<String, Vec<String>>,
}

/// Makes the layer of `debs` and writes it to `to`; contents wait in the folder `spool` meanwhile. `files` are laid last.
///
/// # Errors
///
/// A package is damaged, two of them bring the same file, or what `source` names is in none of them.
pub fn layer(
    debs: &[(PackageLock, PathBuf)],
    source: &OciDebian,
    files: &[Entry],
    epoch: u64,
    spool: &Path,
    to: impl Write,
) -> Result<Made> {
    let mut root = Root { builder: LayerBuilder::new(spool)?, epoch: epoch as i64, owners: BTreeMap::new() };
    root.skeleton()?;
    let mut licences = BTreeMap::new();
    for (package, path) in debs {
        root.unpack(package, path, source).with_context(|| format!("unpacking {}", package.name))?;
    }
    for (package, _) in debs {
        if let Some(text) = root.copyright(&package.name) {
            licences.insert(package.name.clone(), licence::short_names(&text).unwrap_or_default());
        }
    }
    if let Some(busybox) = &source.applets {
        root.applets(Path::new(busybox.as_str())).with_context(|| format!("laying links to {busybox}"))?;
    }
    for entry in files {
        root.builder.put(entry).with_context(|| format!("laying {} into a container image", entry.path.display()))?;
    }
    root.builder.complete(root.epoch);
    let (diff_id, size) = root.builder.write(to).context("writing a layer")?;
    Ok(Made { diff_id, size, licences })
}

struct Root {
    builder: LayerBuilder,
    epoch: i64,
    /// Which package brought a file.
    owners: BTreeMap<PathBuf, String>,
}

impl Root {
    fn put(&mut self, path: &str, node: Node, mode: u16) -> io::Result<()> {
        self.builder.put(&Entry { path: path.into(), node, meta: Meta::root(mode, self.epoch) })
    }

    fn skeleton(&mut self) -> io::Result<()> {
        for name in MERGED {
            self.put(&format!("/{name}"), Node::Symlink(format!("usr/{name}").into_bytes()), 0o777)?;
            self.put(&format!("/usr/{name}"), Node::Dir, 0o755)?;
        }
        // The engine mounts on the first three.
        for (path, mode) in [("/dev", 0o755), ("/proc", 0o755), ("/sys", 0o755), ("/root", 0o700), ("/run", 0o755)] {
            self.put(path, Node::Dir, mode)?;
        }
        for path in ["/tmp", "/var/tmp"] {
            self.put(path, Node::Dir, 0o1777)?;
        }
        for (path, text) in [("/etc/passwd", PASSWD), ("/etc/group", GROUP), ("/etc/nsswitch.conf", NSSWITCH)] {
            self.put(path, Node::File(Content::Bytes(text.as_bytes().to_vec())), 0o644)?;
        }
        Ok(())
    }

    fn unpack(&mut self, package: &PackageLock, deb: &Path, source: &OciDebian) -> Result<()> {
        let mut clash = None;
        deb::member(deb, "data.tar", |path, entry| {
            let Some(path) = place(path) else { return Ok(None) };
            if !wanted(&path) || source.exclude.iter().any(|left_out| path.starts_with(left_out.as_str())) {
                return Ok::<Option<()>, _>(None);
            }
            let header = entry.header();
            let kind = header.entry_type();
            let meta = Meta {
                mode: (header.mode()? & 0o7777) as u16,
                uid: u32::try_from(header.uid()?).map_err(io::Error::other)?,
                gid: u32::try_from(header.gid()?).map_err(io::Error::other)?,
                mtime: i64::try_from(header.mtime()?).unwrap_or(i64::MAX).min(self.epoch),
                xattrs: Vec::new(),
            };
            let target = entry.link_name_bytes().map(|target| target.into_owned());
            let node = match kind {
                tar::EntryType::Directory => {
                    // Two packages share a folder; our own folders stay what they are.
                    if !self.builder.contains(&path) {
                        self.builder.put(&Entry { path, node: Node::Dir, meta })?;
                    }
                    return Ok(None);
                }
                tar::EntryType::Symlink => Some(Node::Symlink(target.unwrap_or_default())),
                tar::EntryType::Link => {
                    let target = target.unwrap_or_default();
                    let target = String::from_utf8(target).map_err(io::Error::other)?;
                    let target = place(Path::new(target.trim_start_matches("./")));
                    Some(Node::HardLink(target.ok_or_else(|| io::Error::other("a hard link that leads out of the package"))?))
                }
                tar::EntryType::Regular => None,
                _ => return Err(io::Error::other(format!("{} is neither file, folder nor link", path.display()))),
            };
            if let Some(other) = self.owners.insert(path.clone(), package.name.clone()) {
                clash.get_or_insert_with(|| format!("{} is in {other} too", path.display()));
            }
            match node {
                Some(node) => self.builder.put(&Entry { path, node, meta })?,
                None => self.builder.file(&path, entry, meta)?,
            }
            Ok(None)
        })?;
        clash.map_or(Ok(()), |clash| bail!("{clash}"))
    }

    /// The text of a package's copyright file; of one that shares another's folder of documents too.
    fn copyright(&mut self, package: &str) -> Option<String> {
        let folder = self.builder.symlink(Path::new(&format!("/usr/share/doc/{package}")));
        let folder = folder.and_then(|target| String::from_utf8(target).ok()).unwrap_or_else(|| package.to_owned());
        let bytes = self.builder.content(Path::new(&format!("/usr/share/doc/{folder}/copyright"))).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Links beside a busybox; what a package brought by that name stays.
    fn applets(&mut self, busybox: &Path) -> Result<()> {
        let busybox = busybox.strip_prefix("/").ok().and_then(place).context("it is no path")?;
        let program = self.builder.content(&busybox)?;
        let name = busybox.file_name().unwrap_or_default().as_encoded_bytes().to_vec();
        for applet in applets::names(&program)? {
            let path = busybox.with_file_name(applet);
            if !self.builder.contains(&path) {
                let meta = Meta::root(0o777, self.epoch);
                self.builder.put(&Entry { path, node: Node::Symlink(name.clone()), meta })?;
            }
        }
        Ok(())
    }
}

/// Where a path of a package lies in the image; nowhere for the root itself, and for the links of a merged `/usr`.
fn place(path: &Path) -> Option<PathBuf> {
    let mut parts = path.components().filter(|part| *part != Component::CurDir).peekable();
    let first = *parts.peek()?;
    let merged = MERGED.iter().any(|name| first == Component::Normal(name.as_ref()));
    let mut placed = PathBuf::from(if merged { "/usr" } else { "/" });
    for part in parts {
        match part {
            Component::Normal(name) => placed.push(name),
            _ => return None,
        }
    }
    Some(placed)
}

fn wanted(path: &Path) -> bool {
    if LEFT_OUT.iter().any(|left_out| path.starts_with(left_out)) {
        return false;
    }
    let Ok(document) = path.strip_prefix("/usr/share/doc") else { return true };
    let mut parts = document.components().skip(1);
    // Licences and notices have to go with the programs.
    let name = parts.next().map(|part| part.as_os_str().to_string_lossy().into_owned());
    name.is_none_or(|name| name == "copyright" || name.starts_with("NOTICE")) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_into_a_merged_usr() {
        for (path, expected) in [
            ("bin/busybox", Some("/usr/bin/busybox")),
            ("lib/ld-linux-armhf.so.3", Some("/usr/lib/ld-linux-armhf.so.3")),
            ("usr/lib/x", Some("/usr/lib/x")),
            ("etc/x", Some("/etc/x")),
            ("library/x", Some("/library/x")),
            ("", None),
            ("usr/../etc/passwd", None),
        ] {
            assert_eq!(place(Path::new(path)).as_deref(), expected.map(Path::new), "{path}");
        }
    }

    #[test]
    fn licences_stay_and_manuals_go() {
        for (path, stays) in [
            ("/usr/share/doc/a", true),
            ("/usr/share/doc/a/copyright", true),
            ("/usr/share/doc/a/NOTICE.txt", true),
            ("/usr/share/doc/a/changelog.gz", false),
            ("/usr/share/doc/a/examples/copyright", false),
            ("/usr/share/man/man1/a.1.gz", false),
            ("/usr/share/mandarin", true),
            ("/usr/bin/a", true),
            ("/etc/init.d/a", false),
        ] {
            assert_eq!(wanted(Path::new(path)), stays, "{path}");
        }
    }
}
