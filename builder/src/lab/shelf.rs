//! Snapshots of labs that have formed, kept in the cache ([`crate::cache`]) for the next `up` of the same image.
//!
//! ```text
//! snapshot/KEY/snapshot.json   what it is ([`Record`]); without it, it is none
//! snapshot/KEY/node-N.qcow2    node N's card, a layer over the image; never written again
//! snapshot/KEY/node-N.state    node N's memory and devices (QEMU's migration stream)
//! snapshot/KEY.new/            being made
//! snapshot/KEY.lock            held (flock): shared by labs that stand on it, exclusively by who makes or removes it
//! ```
//!
//! The key is the SHA-256 of all that decides whether the memory fits: the image (its absolute path, size, and the times of its last
//! change; every build writes a new file), the number of nodes, the size of their cards, QEMU's version and QEMU's arguments. The
//! nodes' memory holds the cluster's keys, so folders are mode 0700 and files 0600, as the image itself is.

use std::{
    fs::{self, File},
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::{
    cache::{Cache, open_lock, suffixed, sync_folder_of, try_lock},
    units::{Bytes, Digest},
};

/// What is kept is read by no other version of this than the one that wrote it.
const FORMAT: u32 = 1;
/// A snapshot that nobody started from for this long is removed.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// An image file at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Where it is, absolute: the cards' layers name it.
    pub path: PathBuf,
    /// How many bytes it has.
    pub size: u64,
    /// When its bytes last changed: seconds, nanoseconds.
    pub modified: (i64, i64),
    /// When anything of it last changed, which no program can set.
    pub changed: (i64, i64),
}

impl Identity {
    /// Of the file at `path`.
    ///
    /// # Errors
    ///
    /// It cannot be looked at.
    pub fn of(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("looking at {}", path.display());
        let path = path.canonicalize().with_context(context)?;
        let metadata = fs::metadata(&path).with_context(context)?;
        Ok(Self {
            path,
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// The image.
    pub image: Identity,
    /// Size of each node's card.
    pub disk: u64,
    /// QEMU's version, in its own words.
    pub qemu: String,
    /// QEMU's arguments for each node, without the paths of one run.
    pub arguments: Vec<Vec<String>>,
}

impl Subject {
    fn key(&self) -> Digest {
        // The order of its fields is fixed, so the text is.
        Digest::of(format!("{FORMAT} {}", serde_json::json!(self)).as_bytes())
    }
}

/// The contents of `snapshot.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Of what.
    pub subject: Subject,
    /// When it was made: seconds since 1970.
    pub saved: u64,
    /// The nodes, in their order.
    pub nodes: Vec<Kept>,
}

/// A node in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its address on the home LAN, where it has one.
    pub address: Option<Ipv4Addr>,
    /// Bytes of its card's layer.
    pub disk: u64,
    /// Bytes of its state.
    pub state: u64,
}

/// The folder of snapshots.
#[derive(Clone, Debug)]
pub struct Shelf {
    folder: PathBuf,
}

/// A snapshot that is whole. While this lives, nobody removes it.
#[derive(Debug)]
pub struct Snapshot {
    folder: PathBuf,
    /// What it is.
    pub record: Record,
    lock: File,
}

/// A snapshot that is being made. Dropped without [`Draft::commit`], it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    subject: Subject,
    /// Where it will be.
    folder: PathBuf,
    /// Where it is until then.
    path: PathBuf,
    lock: File,
}

impl Shelf {
    /// The one in `cache`. What killed runs left there, and what no lab can start from any more, is removed.
    ///
    /// # Errors
    ///
    /// The folder cannot be made.
    pub fn open(cache: &Cache) -> anyhow::Result<Self> {
        let folder = cache.root().join("snapshot");
        make_folder(&folder).with_context(|| format!("making the folder {}", folder.display()))?;
        let shelf = Self { folder };
        // What cannot be removed is in nobody's way.
        let _ = shelf.prune();
        Ok(shelf)
    }

    fn path(&self, key: &Digest) -> PathBuf {
        self.folder.join(key.to_string())
    }

    /// The snapshot of `subject`, where there is one.
    ///
    /// # Errors
    ///
    /// There is one, and it is broken: [`Shelf::discard`] it.
    pub fn find(&self, subject: &Subject) -> anyhow::Result<Option<Snapshot>> {
        let folder = self.path(&subject.key());
        if !folder.exists() {
            return Ok(None);
        }
        let lock = open_lock(&suffixed(&folder, ".lock"))?;
        match rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::NonBlockingLockShared)) {
            Ok(()) => {}
            // Somebody removes it, or puts another in its place, right now.
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("locking {}", folder.display())),
        }
        let record = read(&folder)?;
        if record.subject != *subject {
            bail!("{} is a snapshot of something else", folder.display());
        }
        let snapshot = Snapshot { folder, record, lock };
        snapshot.check()?;
        // Kept for another month; no reason not to start from it if that cannot be noted.
        let _ = snapshot.lock.set_modified(SystemTime::now());
        Ok(Some(snapshot))
    }

    /// Removes the snapshot of `subject`, unless other labs stand on it.
    pub fn discard(&self, subject: &Subject) {
        let folder = self.path(&subject.key());
        if let Ok(lock) = open_lock(&suffixed(&folder, ".lock"))
            && try_lock(&lock).unwrap_or_default()
        {
            // It is found broken again, if it cannot be removed.
            let _ = remove(&folder);
        }
    }

    /// Begins the snapshot of `subject`, which takes the place of one that there may be; `None` where another lab makes it right now, or
    /// stands on the one that there is.
    ///
    /// # Errors
    ///
    /// The folder cannot be made.
    pub fn begin(&self, subject: Subject) -> anyhow::Result<Option<Draft>> {
        let folder = self.path(&subject.key());
        let lock = open_lock(&suffixed(&folder, ".lock"))?;
        if !try_lock(&lock).with_context(|| format!("locking {}", folder.display()))? {
            return Ok(None);
        }
        let path = suffixed(&folder, ".new");
        let made = remove(&path).and_then(|()| make_folder(&path));
        made.with_context(|| format!("making the folder {}", path.display()))?;
        Ok(Some(Draft { subject, folder, path, lock }))
    }

    fn prune(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.is_dir() {
                let lock_path = path.with_extension("lock");
                let Ok(lock) = open_lock(&lock_path) else { continue };
                if try_lock(&lock)? && (path.extension().is_some() || stale(&path, &lock)) {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }
}

/// Whether nothing will ever start from the snapshot at `path`: its image is another one now, or it is not used. One that cannot be read is
/// left for [`Shelf::find`] to complain about.
fn stale(path: &Path, lock: &File) -> bool {
    let unused = lock.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|used| used.elapsed().ok());
    let image = |record: &Record| Identity::of(&record.subject.image.path).ok();
    unused.is_some_and(|age| age > UNUSED)
        || read(path).is_ok_and(|record| image(&record).is_none_or(|now| now != record.subject.image))
}

impl Snapshot {
    /// The layer that node `index`, from 0, stands on.
    pub fn disk(&self, index: usize) -> PathBuf {
        self.folder.join(disk_name(index))
    }

    /// The state of node `index`, from 0.
    pub fn state(&self, index: usize) -> PathBuf {
        self.folder.join(state_name(index))
    }

    /// How long ago it was made.
    pub fn age(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(self.record.saved)).unwrap_or_default()
    }

    /// All its bytes.
    pub fn size(&self) -> Bytes {
        Bytes(self.record.nodes.iter().map(|node| node.disk + node.state).sum())
    }

    fn check(&self) -> anyhow::Result<()> {
        for (index, node) in self.record.nodes.iter().enumerate() {
            for (path, wanted) in [(self.disk(index), node.disk), (self.state(index), node.state)] {
                let size = fs::metadata(&path).with_context(|| format!("looking at {}", path.display()))?.len();
                if size != wanted {
                    bail!("{} has {size} bytes and not {wanted}", path.display());
                }
            }
        }
        Ok(())
    }
}

impl Draft {
    /// Where the layer of node `index`, from 0, is to be put.
    pub fn disk(&self, index: usize) -> PathBuf {
        self.path.join(disk_name(index))
    }

    /// Where the state of node `index`, from 0, is to be put.
    pub fn state(&self, index: usize) -> PathBuf {
        self.path.join(state_name(index))
    }

    /// Makes it a snapshot: all of it is on the disk when this returns. `addresses` are the nodes' on the home LAN; how many bytes it has is
    /// returned.
    ///
    /// # Errors
    ///
    /// A file is missing, or the disk is full; there is no snapshot then.
    pub fn commit(self, addresses: &[Option<Ipv4Addr>]) -> anyhow::Result<Bytes> {
        let context = || format!("keeping the snapshot {}", self.folder.display());
        let keep = |path: PathBuf| -> io::Result<u64> {
            let file = File::open(&path)?;
            file.sync_all()?;
            Ok(file.metadata()?.len())
        };
        let mut nodes = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            let (disk, state) = (keep(self.disk(index)).with_context(context)?, keep(self.state(index)).with_context(context)?);
            nodes.push(Kept { address: *address, disk, state });
        }
        let size = Bytes(nodes.iter().map(|node| node.disk + node.state).sum());
        let saved = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let record = Record { subject: self.subject.clone(), saved, nodes };
        let name = self.path.join(RECORD);
        let text = serde_json::to_vec_pretty(&record)?;
        let file = File::options().write(true).create_new(true).mode(0o600).open(&name);
        file.and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all())).with_context(context)?;
        // Between the two there is none, which is never wrong.
        let put = remove(&self.folder).and_then(|()| fs::rename(&self.path, &self.folder));
        put.and_then(|()| sync_folder_of(&self.folder)).with_context(context)?;
        // Used now, whatever stood there before.
        let _ = self.lock.set_modified(SystemTime::now());
        Ok(size)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Committed, there is nothing any more; else the next one to open the shelf tries again.
        let _ = remove(&self.path);
    }
}

const RECORD: &str = "snapshot.json";

fn disk_name(index: usize) -> String {
    format!("node-{}.qcow2", index + 1)
}

fn state_name(index: usize) -> String {
    format!("node-{}.state", index + 1)
}

fn read(folder: &Path) -> anyhow::Result<Record> {
    let path = folder.join(RECORD);
    let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        folder: tempfile::TempDir,
        shelf: Shelf,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("lab.img"), "image").unwrap();
            let shelf = Shelf::open(&Cache::open(Some(&folder.path().join("cache"))).unwrap()).unwrap();
            Self { folder, shelf }
        }

        fn subject(&self) -> Subject {
            let image = Identity::of(&self.folder.path().join("lab.img")).unwrap();
            Subject { image, disk: 8 << 30, qemu: "10.0.2".into(), arguments: vec![vec!["-m".into(), "768M".into()]; 2] }
        }

        fn save(&self) -> Bytes {
            let draft = self.shelf.begin(self.subject()).unwrap().unwrap();
            for node in 0..2 {
                fs::write(draft.disk(node), "disk").unwrap();
                fs::write(draft.state(node), "state").unwrap();
            }
            draft.commit(&[None, Some(Ipv4Addr::new(192, 168, 77, 21))]).unwrap()
        }

        /// Opened anew, as the next run does.
        fn reopened(&self) -> Shelf {
            Shelf::open(&Cache::open(Some(&self.folder.path().join("cache"))).unwrap()).unwrap()
        }

        fn folders(&self) -> usize {
            fs::read_dir(&self.shelf.folder).unwrap().flatten().filter(|entry| entry.path().is_dir()).count()
        }
    }

    #[test]
    fn what_was_kept_is_found_as_long_as_everything_is_the_same() {
        let bench = Bench::new();
        assert!(bench.shelf.find(&bench.subject()).unwrap().is_none());
        assert_eq!(bench.save(), Bytes(18));
        let found = bench.reopened().find(&bench.subject()).unwrap().unwrap();
        assert_eq!(fs::read_to_string(found.state(1)).unwrap(), "state");
        assert_eq!(found.record.nodes[1].address, Some(Ipv4Addr::new(192, 168, 77, 21)));
        assert_eq!(found.folder.metadata().unwrap().mode() & 0o777, 0o700);
        assert_eq!(found.folder.join(RECORD).metadata().unwrap().mode() & 0o777, 0o600);

        let changes: [fn(&mut Subject); 6] = [
            |subject| subject.disk += 1,
            |subject| subject.qemu = "10.0.3".into(),
            |subject| subject.arguments[1][1] = "1G".into(),
            |subject| drop(subject.arguments.pop()),
            |subject| subject.image.changed.1 += 1,
            |subject| subject.image.path = "/other.img".into(),
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut subject = bench.subject();
            change(&mut subject);
            assert!(bench.shelf.find(&subject).unwrap().is_none(), "change {index}");
        }
    }

    #[test]
    fn a_broken_one_is_named_and_can_be_discarded() {
        let bench = Bench::new();
        let breaks: [fn(&Snapshot); 3] = [
            |found| fs::write(found.state(0), "stat").unwrap(),
            |found| fs::remove_file(found.disk(1)).unwrap(),
            |found| fs::write(found.folder.join(RECORD), "{").unwrap(),
        ];
        for (index, spoil) in breaks.iter().enumerate() {
            bench.save();
            spoil(&bench.shelf.find(&bench.subject()).unwrap().unwrap());
            assert!(bench.reopened().find(&bench.subject()).is_err(), "break {index}");
            bench.shelf.discard(&bench.subject());
            assert!(bench.shelf.find(&bench.subject()).unwrap().is_none(), "break {index}");
        }
    }

    #[test]
    fn one_that_is_in_use_or_being_made_is_left_alone() {
        let bench = Bench::new();
        let draft = bench.shelf.begin(bench.subject()).unwrap().unwrap();
        assert!(bench.shelf.begin(bench.subject()).unwrap().is_none());
        fs::write(draft.state(0), "half").unwrap();
        bench.reopened();
        assert!(draft.state(0).exists(), "swept while it was made");
        drop(draft);
        assert_eq!(bench.folders(), 0);

        bench.save();
        let found = bench.shelf.find(&bench.subject()).unwrap().unwrap();
        assert!(bench.shelf.begin(bench.subject()).unwrap().is_none());
        bench.shelf.discard(&bench.subject());
        assert!(found.disk(0).exists());
        drop(found);
        // Made again, it takes the place of the former.
        assert_eq!(bench.save(), Bytes(18));
    }

    #[test]
    fn leftovers_and_snapshots_of_images_that_are_gone_are_removed() {
        let bench = Bench::new();
        bench.save();
        let leftover = bench.shelf.folder.join(format!("{}.new", Digest::of(b"another")));
        fs::create_dir(&leftover).unwrap();
        bench.reopened();
        assert!(!leftover.exists() && bench.folders() == 1);

        fs::write(bench.folder.path().join("lab.img"), "built again").unwrap();
        bench.reopened();
        assert_eq!(bench.folders(), 0);

        bench.save();
        let lock = open_lock(&suffixed(&bench.shelf.path(&bench.subject().key()), ".lock")).unwrap();
        lock.set_modified(SystemTime::now() - UNUSED - Duration::from_secs(60)).unwrap();
        bench.reopened();
        assert_eq!(bench.folders(), 0);
    }
}
