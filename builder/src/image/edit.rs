//! Carries out a [`Plan`] on an image file: boot and root file system are opened once, edited in place, written once.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};

use super::{
    ext4, fat,
    overlay::Overlay,
    table::Partition,
    tree::{Content, Entry, Meta, Node},
};
use crate::{
    accounts::{Account, Database},
    bootfiles, engine_store,
    plan::{Edit, Plan},
};

/// Where the kernel command line and the firmware's settings stand on the boot partition.
const CMDLINE: &str = "cmdline.txt";
const CONFIG: &str = "config.txt";
/// On a system that writes its command line anew with each kernel (Debian's raspi-firmware), where it takes words from.
const EXTRA_CMDLINE: &str = "/etc/default/raspi-extra-cmdline";
const RASPI_FIRMWARE: &str = "/etc/default/raspi-firmware";

/// Applies `plan` to the partitions `boot` and `root` of `file`. Everything counts as changed at `epoch`.
///
/// # Errors
///
/// A file system is damaged or full, or a host file cannot be read; `file` is in no defined state then.
pub fn apply(file: &Arc<File>, boot: &Partition, root: &Partition, plan: &Plan, epoch: u64) -> Result<()> {
    let overlay = |partition: &Partition| {
        Overlay::new(file.clone(), partition.offset(), partition.size.bytes().0).map(Arc::new).context("opening a partition")
    };
    let mut boot = fat::Editor::open(overlay(boot)?, epoch)?;
    let mut root = ext4::Editor::open(overlay(root)?, epoch as i64)?;
    for edit in &plan.edits {
        apply_one(edit, &mut boot, &mut root, epoch).with_context(|| format!("plan: {edit}"))?;
    }
    boot.finish()?;
    root.finish()
}

fn apply_one(edit: &Edit, boot: &mut fat::Editor, root: &mut ext4::Editor, epoch: u64) -> Result<()> {
    match edit {
        // What is below the mount point would be hidden by the mount: it belongs on the boot partition.
        Edit::Put(entry) if entry.path.starts_with(super::base::BOOT) => put_on_boot(entry, boot),
        Edit::Put(entry) => {
            // A folder that is there keeps its owner and permissions: an overlay lays files, it does not restyle the base.
            if entry.node == Node::Dir && entry.meta == Meta::root(0o755, epoch as i64) && root.is_directory(&entry.path)? {
                return Ok(());
            }
            root.put(entry)
        }
        Edit::Adjust { path, mode, uid, gid, mtime, xattrs } => {
            let mut meta = root.meta(path)?.with_context(|| format!("{} is not in the base", path.display()))?;
            meta.mode = mode.unwrap_or(meta.mode);
            meta.uid = uid.unwrap_or(meta.uid);
            meta.gid = gid.unwrap_or(meta.gid);
            meta.mtime = mtime.map_or(meta.mtime, i64::from);
            meta.xattrs.clone_from(xattrs);
            root.adjust(path, &meta)
        }
        Edit::Remove(path) => root.remove(path).map(drop),
        Edit::RemoveMatching { folder, prefix, suffix } => {
            for name in root.list(folder)? {
                if name.starts_with(prefix) && name.ends_with(suffix) {
                    root.remove(&folder.join(name))?;
                }
            }
            Ok(())
        }
        Edit::User(account) => add_user(account, root, epoch),
        Edit::KernelParameters(words) => {
            let before = text(boot.read(CMDLINE)?.with_context(|| format!("the boot partition has no {CMDLINE}"))?)?;
            boot.write(CMDLINE, bootfiles::add_parameters(&before, words).as_bytes())?;
            if root.read(Path::new(RASPI_FIRMWARE))?.is_some() {
                let before = root.read(Path::new(EXTRA_CMDLINE))?.map(text).transpose()?.unwrap_or_default();
                rewrite(root, EXTRA_CMDLINE, bootfiles::add_parameters(&before, words), 0o644, epoch)?;
            }
            Ok(())
        }
        Edit::FirmwareSettings(lines) => {
            let before = text(boot.read(CONFIG)?.with_context(|| format!("the boot partition has no {CONFIG}"))?)?;
            let after = bootfiles::add_settings(&before, lines);
            if after == before { Ok(()) } else { boot.write(CONFIG, after.as_bytes()) }
        }
        Edit::Images(images) => engine_store::write(images, root, epoch as i64).map(drop),
        Edit::Archives(images) => images.iter().try_for_each(|image| {
            let path = engine_store::bundle_path(image)?;
            let entry = Entry { path, node: Node::File(Content::Bytes(Vec::new())), meta: Meta::root(0o644, epoch as i64) };
            root.put_stream(&entry, &mut engine_store::bundle(image)?)
        }),
    }
}

fn put_on_boot(entry: &Entry, boot: &mut fat::Editor) -> Result<()> {
    let inside = entry.path.strip_prefix(super::base::BOOT).context("a path outside of the boot partition")?;
    let inside = inside.to_str().context("FAT names are Unicode")?;
    match &entry.node {
        Node::Dir if inside.is_empty() => Ok(()),
        Node::Dir => boot.make_directory(inside),
        Node::File(Content::Bytes(bytes)) => boot.write(inside, bytes),
        Node::File(Content::Host(host)) => {
            let mut file = File::open(host).with_context(|| format!("opening {}", host.display()))?;
            boot.write_stream(inside, &mut file)
        }
        _ => anyhow::bail!("FAT holds files and folders only"),
    }
}

fn add_user(account: &Account, root: &mut ext4::Editor, epoch: u64) -> Result<()> {
    let read =
        |name: &str| -> Result<String> { root.read(Path::new(name))?.map(text).transpose().map(Option::unwrap_or_default) };
    let mut database = Database {
        passwd: read("/etc/passwd")?,
        group: read("/etc/group")?,
        shadow: read("/etc/shadow")?,
        gshadow: read("/etc/gshadow")?,
    };
    database.add(account)?;
    let Database { passwd, group, shadow, gshadow } = database;
    for (path, text, mode) in [
        ("/etc/passwd", passwd, 0o644),
        ("/etc/group", group, 0o644),
        ("/etc/shadow", shadow, 0o640),
        ("/etc/gshadow", gshadow, 0o640),
    ] {
        rewrite(root, path, text, mode, epoch)?;
    }
    Ok(())
}

/// Writes a file that keeps its owner and permissions where it is there already.
fn rewrite(root: &mut ext4::Editor, path: &str, text: String, mode: u16, epoch: u64) -> Result<()> {
    let path = PathBuf::from(path);
    let mut meta = root.meta(&path)?.unwrap_or_else(|| Meta::root(mode, 0));
    meta.mtime = epoch as i64;
    root.put(&Entry { path, node: Node::File(Content::Bytes(text.into_bytes())), meta })
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).context("the file is no text")
}
