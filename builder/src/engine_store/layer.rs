//! One layer, from its archive into a folder of the overlay2 driver: in one pass, with the same result as the engine's own.
//!
//! What the engine does (moby, `pkg/archive`): missing folders on the way are root's and 0755; names lead through symbolic
//! links as in a root file system of their own; the entry of the root folder changes nothing; a hard link's owner, permissions
//! and time go to the file that it names; folders get their time last.
//! Removed files are written `.wh.NAME` in an archive and are 0:0 character devices in overlayfs; a folder with the marker
//! `.wh..wh..opq` hides what is below it, by an attribute in overlayfs.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    archive::{Archive, Kind, Member},
    crc64::Crc64,
    sink::Sink,
    split,
};
use crate::image::tree::{Content, Entry, Meta, Node};

/// What a file that is removed is called in an archive.
const WHITEOUT: &[u8] = b".wh.";
/// Marks a folder whose lower layers do not count.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The same in overlayfs.
const OPAQUE_ATTRIBUTE: (&str, &[u8]) = ("trusted.overlay.opaque", b"y");
/// Symbolic links followed on the way to one path; the kernel's own limit (`MAXSYMLINKS`).
const LINKS: usize = 40;

/// What came of a layer.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// Bytes as the engine counts them: content of files once whatever their names, and targets of symbolic links.
    pub size: u64,
    /// Content of `tar-split.json.gz`.
    pub split: Vec<u8>,
}

/// What stands at a path of the layer.
#[derive(Debug)]
enum Slot {
    Folder(Meta),
    Link(Vec<u8>),
    Whiteout,
    Other,
}

struct Layer<'a, S> {
    sink: &'a mut S,
    /// Where the layer's root stands.
    base: &'a Path,
    epoch: i64,
    /// By path from the layer's root, without a `/` in front.
    slots: HashMap<PathBuf, Slot>,
    size: u64,
}

/// Unpacks the archive in `from` into the folder `base`, which must not be there yet, and reads `from` to its end.
/// Folders that the archive does not name count as changed at `epoch`.
///
/// # Errors
///
/// Reading or writing fails, or the engine would not take the archive either.
pub(super) fn unpack<S: Sink>(from: impl Read, base: &Path, sink: &mut S, epoch: i64) -> Result<Unpacked> {
    let mut archive = Archive::new(from);
    let mut split = split::Writer::new();
    let mut layer = Layer { sink, base, epoch, slots: HashMap::new(), size: 0 };
    layer.folder(PathBuf::new(), Meta::root(0o755, epoch))?;
    while let Some(member) = archive.next()? {
        split.segment(&archive.take_raw())?;
        let crc = layer.member(&member, &mut archive).with_context(|| String::from_utf8_lossy(&member.name).into_owned())?;
        split.member(&member.name, member.size, crc)?;
    }
    split.segment(&archive.take_raw())?;
    archive.rest(|bytes| split.segment(bytes))?;
    layer.finish_folders()?;
    Ok(Unpacked { size: layer.size, split: split.finish()? })
}

impl<S: Sink> Layer<'_, S> {
    /// Makes what `member` says. The checksum of its content.
    fn member(&mut self, member: &Member, content: &mut impl Read) -> Result<Crc64> {
        let nothing = Crc64::new();
        let cleaned = split::clean(&member.name);
        let name = cleaned.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if name.is_empty() {
            ensure!(member.kind == Kind::Dir, "the root is a folder");
            return Ok(nothing);
        }
        ensure!(name != b"..", "a name that ends in `..`");
        let folder = self.resolve(&cleaned[..cleaned.len() - name.len()])?;
        if name == OPAQUE {
            let Some(Slot::Folder(meta)) = self.slots.get_mut(&folder) else { bail!("its folder is missing") };
            meta.xattrs.push((OPAQUE_ATTRIBUTE.0.to_owned(), OPAQUE_ATTRIBUTE.1.to_vec()));
            return drain(content);
        }
        let meta =
            Meta { mode: member.mode, uid: member.uid, gid: member.gid, mtime: member.mtime, xattrs: member.xattrs.clone() };
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            ensure!(!hidden.is_empty(), "a removed file without a name");
            let path = folder.join(OsStr::from_bytes(hidden));
            ensure!(!self.slots.contains_key(&path), "the layer both has and removes it");
            let meta = Meta { mode: 0, mtime: self.epoch, xattrs: Vec::new(), ..meta };
            self.put(&path, Node::CharDevice(0, 0), meta)?;
            self.slots.insert(path, Slot::Whiteout);
            return drain(content);
        }
        let path = folder.join(OsStr::from_bytes(name));
        match self.slots.get(&path) {
            None => {}
            Some(Slot::Folder(_)) if member.kind == Kind::Dir => {}
            Some(Slot::Whiteout) => self.sink.remove(&self.base.join(&path))?,
            Some(_) => bail!("the layer has something else at the same path"),
        }
        let slot = match member.kind {
            Kind::Dir => {
                self.folder(path, meta)?;
                return Ok(nothing);
            }
            Kind::File => {
                let mut content = Summed { from: content, crc: nothing, read: 0 };
                let entry = Entry { path: self.base.join(&path), node: Node::File(Content::Bytes(Vec::new())), meta };
                self.sink.put_stream(&entry, &mut content)?;
                ensure!(content.read == member.size, "{} of {} bytes were written", content.read, member.size);
                self.size += member.size;
                self.slots.insert(path, Slot::Other);
                return Ok(content.crc);
            }
            Kind::Symlink => {
                self.size += member.link.len() as u64;
                self.put(&path, Node::Symlink(member.link.clone()), Meta { xattrs: Vec::new(), ..meta })?;
                Slot::Link(member.link.clone())
            }
            Kind::HardLink => self.hard_link(&path, &member.link, meta)?,
            Kind::CharDevice => self.put(&path, Node::CharDevice(member.device.0, member.device.1), meta)?,
            Kind::BlockDevice => self.put(&path, Node::BlockDevice(member.device.0, member.device.1), meta)?,
            Kind::Fifo => self.put(&path, Node::Fifo, meta)?,
        };
        self.slots.insert(path, slot);
        Ok(nothing)
    }

    fn hard_link(&mut self, path: &Path, target: &[u8], meta: Meta) -> Result<Slot> {
        let missing = || format!("{} to link to is missing", String::from_utf8_lossy(target));
        let cleaned = split::clean(target);
        let name = cleaned.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let folder = self.resolve(&cleaned[..cleaned.len() - name.len()])?;
        let target = folder.join(OsStr::from_bytes(name));
        let slot = match self.slots.get(&target).with_context(missing)? {
            Slot::Link(text) => Slot::Link(text.clone()),
            Slot::Other => Slot::Other,
            Slot::Folder(_) | Slot::Whiteout => bail!("a hard link to a folder or a removed file"),
        };
        self.put(path, Node::HardLink(self.base.join(&target)), meta.clone())?;
        if let Slot::Other = slot {
            self.sink.adjust(&self.base.join(path), &meta)?;
        }
        Ok(slot)
    }

    fn put(&mut self, path: &Path, node: Node, meta: Meta) -> Result<Slot> {
        self.sink.put(&Entry { path: self.base.join(path), node, meta })?;
        Ok(Slot::Other)
    }

    /// Makes a folder, or gives one that is there other metadata; what marks it opaque stays.
    fn folder(&mut self, path: PathBuf, mut meta: Meta) -> Result<()> {
        let target = if path.as_os_str().is_empty() { self.base.to_owned() } else { self.base.join(&path) };
        self.sink.put(&Entry { path: target, node: Node::Dir, meta: meta.clone() })?;
        if let Some(Slot::Folder(before)) = self.slots.get(&path) {
            let marks = before.xattrs.iter().filter(|(name, _)| name == OPAQUE_ATTRIBUTE.0);
            meta.xattrs.extend(marks.cloned());
        }
        self.slots.insert(path, Slot::Folder(meta));
        Ok(())
    }

    /// Gives folders their times: what was laid into them has changed it.
    fn finish_folders(&mut self) -> Result<()> {
        let mut folders: Vec<_> = self
            .slots
            .iter()
            .filter_map(|(path, slot)| match slot {
                Slot::Folder(meta) => Some((path, meta)),
                _ => None,
            })
            .collect();
        folders.sort_unstable_by_key(|(path, _)| *path);
        for (path, meta) in folders {
            let target = if path.as_os_str().is_empty() { self.base.to_owned() } else { self.base.join(path) };
            self.sink.adjust(&target, meta)?;
        }
        Ok(())
    }

    /// The folder at `path` without symbolic links; made where it is missing. No way leads out of the layer.
    fn resolve(&mut self, path: &[u8]) -> Result<PathBuf> {
        let parts = |path: &[u8]| -> Vec<Vec<u8>> { path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect() };
        let mut rest = parts(path);
        let mut here = PathBuf::new();
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    here.pop();
                    continue;
                }
                _ => {}
            }
            let next = here.join(OsStr::from_bytes(&part));
            match self.slots.get(&next) {
                Some(Slot::Folder(_)) => here = next,
                Some(Slot::Link(target)) => {
                    links += 1;
                    ensure!(links <= LINKS, "too many symbolic links on the way");
                    if target.starts_with(b"/") {
                        here.clear();
                    }
                    rest.extend(parts(target));
                }
                Some(Slot::Whiteout | Slot::Other) => bail!("{} is no folder", next.display()),
                None => {
                    self.folder(next.clone(), Meta::root(0o755, self.epoch))?;
                    here = next;
                }
            }
        }
        Ok(here)
    }
}

/// Reads what nobody wants: markers have no content, but a name alone does not say so.
fn drain(content: &mut impl Read) -> Result<Crc64> {
    let mut content = Summed { from: content, crc: Crc64::new(), read: 0 };
    io::copy(&mut content, &mut io::sink())?;
    ensure!(content.read == 0, "a marker with content, which the engine could not give out again");
    Ok(content.crc)
}

/// Sums up what is read.
struct Summed<'a, R> {
    from: &'a mut R,
    crc: Crc64,
    read: u64,
}

impl<R: Read> Read for Summed<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buf)?;
        self.crc.update(&buf[..count]);
        self.read += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tar::EntryType;

    use super::{super::again::Again, *};

    /// Keeps the content of files.
    #[derive(Debug, Default)]
    struct Memory {
        files: HashMap<PathBuf, Vec<u8>>,
        /// Every path and what came there last.
        nodes: HashMap<PathBuf, Node>,
    }

    impl Sink for Memory {
        fn read(&mut self, _: &Path) -> Result<Option<Vec<u8>>> {
            Ok(None)
        }

        fn put(&mut self, entry: &Entry) -> Result<()> {
            if let Node::HardLink(target) = &entry.node {
                let content = self.files.get(target).cloned().unwrap_or_default();
                self.files.insert(entry.path.clone(), content);
            }
            self.nodes.insert(entry.path.clone(), entry.node.clone());
            Ok(())
        }

        fn put_stream(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<()> {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            self.files.insert(entry.path.clone(), bytes);
            self.put(entry)
        }

        fn adjust(&mut self, path: &Path, _: &Meta) -> Result<()> {
            ensure!(self.nodes.contains_key(path), "{} is missing", path.display());
            Ok(())
        }

        fn remove(&mut self, path: &Path) -> Result<()> {
            self.nodes.remove(path).map(drop).context("nothing to remove")
        }
    }

    /// An archive of (name, type, content or target).
    fn archive(members: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1);
            // As they stand: the builder would refuse some of these names.
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            let link = matches!(kind, EntryType::Link | EntryType::Symlink);
            if link {
                header.as_gnu_mut().unwrap().linkname[..content.len()].copy_from_slice(content);
            }
            header.set_size(if link { 0 } else { content.len() as u64 });
            header.set_cksum();
            tar.append(&header, if link { &b""[..] } else { content }).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn unpacked(archive: &[u8]) -> Result<(Memory, Unpacked)> {
        let mut memory = Memory::default();
        let unpacked = unpack(archive, Path::new("/layer"), &mut memory, 0)?;
        Ok((memory, unpacked))
    }

    const FILE: EntryType = EntryType::Regular;
    const LINK: EntryType = EntryType::Symlink;
    const HARD: EntryType = EntryType::Link;
    const DIR: EntryType = EntryType::Directory;

    #[test]
    fn what_no_engine_would_take() {
        let refused = |members: &[(&str, EntryType, &[u8])]| format!("{:#}", unpacked(&archive(members)).unwrap_err());
        for (members, why) in [
            (vec![("a", FILE, &b"1"[..]), ("./a", FILE, b"2")], "./a: the layer has something else at the same path"),
            (vec![("d/", DIR, b""), ("d", DIR, b"")], "d is in the archive twice"),
            (vec![("a", FILE, b"1"), ("a/b", FILE, b"2")], "a/b: a is no folder"),
            (vec![("a", FILE, b"1"), (".wh.a", FILE, b"")], ".wh.a: the layer both has and removes it"),
            (vec![(".wh.", FILE, b"")], ".wh.: a removed file without a name"),
            (vec![(".wh.a", FILE, b"x")], "which the engine could not give out again"),
            (vec![("a", HARD, b"b")], "a: b to link to is missing"),
            (vec![("d/", DIR, b""), ("a", HARD, b"d")], "a hard link to a folder"),
            (vec![("x", LINK, b"y"), ("y", LINK, b"x"), ("x/f", FILE, b"")], "x/f: too many symbolic links on the way"),
            (vec![("a/..", DIR, b"")], "a/..: a name that ends in `..`"),
            (vec![("/", FILE, b"")], "the root is a folder"),
            (vec![("s", EntryType::GNUSparse, b"")], "s is a sparse file"),
            (vec![("c", EntryType::Continuous, b"")], "c is of type '7', which the engine does not unpack"),
        ] {
            let said = refused(&members);
            assert!(said.contains(why), "{said}");
        }
        let mut broken = archive(&[("a", FILE, b"1")]);
        broken[3] ^= 1;
        assert!(format!("{:#}", unpacked(&broken).err().unwrap()).contains("checksum of a header is wrong"));
        let whole = archive(&[("a", FILE, &[1; 600])]);
        for (end, why) in [(100, "ends 100 bytes into a header"), (700, "ends within a file"), (1112, "the archive ends early")] {
            let said = format!("{:#}", unpacked(&whole[..end]).err().unwrap());
            assert!(said.contains(why), "{end}: {said}");
        }
    }

    #[test]
    fn no_way_leads_out_of_the_layer() {
        let members = [
            ("up", LINK, &b"../../../.."[..]),
            ("up/a", FILE, b"1"),
            ("root", LINK, b"/"),
            ("root/b", FILE, b"2"),
            ("../c", FILE, b"3"),
            ("/../../d", FILE, b"4"),
        ];
        let (memory, _) = unpacked(&archive(&members)).unwrap();
        let mut files: Vec<_> = memory.files.keys().map(|path| path.to_str().unwrap()).collect();
        files.sort_unstable();
        assert_eq!(files, ["/layer/a", "/layer/b", "/layer/c", "/layer/d"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// What tar-split and the files give is the archive, byte by byte, whatever follows its end.
        #[test]
        fn a_layer_comes_out_as_it_went_in(
            files in prop::collection::btree_map("[a-c]{1,2}(/[d-f]{1,2}){0,2}/[g-z.]{1,9}", prop::collection::vec(any::<u8>(), 0..1500), 0..12),
            rest in 0_usize..5000,
        ) {
            let members: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), FILE, content.as_slice())).collect();
            prop_assume!(!files.keys().any(|name| name.ends_with("/.") || name.ends_with("/..")));
            // Those are markers.
            prop_assume!(!files.keys().any(|name| name.contains("/.wh.")));
            let mut archive = archive(&members);
            archive.resize(archive.len() + rest, 0);
            let (memory, unpacked) = unpacked(&archive).unwrap();
            prop_assert_eq!(unpacked.size, files.values().map(|content| content.len() as u64).sum::<u64>());
            let open = |name: &[u8]| -> Result<Box<dyn Read>> {
                let path = Path::new("/layer").join(OsStr::from_bytes(name));
                Ok(Box::new(io::Cursor::new(memory.files.get(&path).context("missing")?.clone())))
            };
            let mut again = Vec::new();
            Again::new(unpacked.split.as_slice(), Box::new(open)).read_to_end(&mut again)?;
            prop_assert!(again == archive);
        }

        /// A damaged archive is refused, or is another archive: never a panic.
        #[test]
        fn damage_never_panics(at in 0_usize..4096, byte in any::<u8>(), cut in 0_usize..5000) {
            let mut archive = archive(&[("a/", DIR, b""), ("a/b", FILE, &[3; 700]), ("l", LINK, b"a"), ("l/c", FILE, b"c"), ("h", HARD, b"a/b")]);
            archive.truncate(cut.max(512));
            let at = at % archive.len();
            archive[at] = byte;
            drop(unpacked(&archive));
        }
    }
}
