//! Keys into a finished image or a card, in place.
//!
//! The cluster key is added or replaced; where nobody can log in, this machine's key pair is added as well. An old key is
//! overwritten where it lies before the new one is written, so that no free block of the file system keeps it. (What the flash of
//! a card keeps behind its controller is out of reach.)

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use hcl_firstboot::key::{ClusterId, PATH};

use super::{ClusterKeyFile, Keys};
use crate::{
    cache::{suffixed, try_lock},
    check::{self, Evidence, System},
    error::UsageError,
    image::{
        disk::{Compression, Disk, Root, Tree},
        ext4,
        output::Sides,
        overlay::Overlay,
        tree::{Content, Entry, Meta, Node},
    },
    manifest::ClusterName,
    progress::Reporter,
};

/// What was laid. Holds no secret.
#[derive(Debug)]
pub struct Laid {
    /// The cluster's name.
    pub name: ClusterName,
    /// Its key on this machine.
    pub key: ClusterKeyFile,
    /// The cluster whose key was there.
    pub replaced: Option<ClusterId>,
    /// The user who can log in now, and the pair to do it with; `None` where somebody could before.
    pub login: Option<(String, Keys)>,
    /// Side files that were made anew.
    pub sides: Vec<PathBuf>,
    /// Compressed copies beside the image: they are as they were.
    pub copies: Vec<PathBuf>,
    /// The card has been a member of a cluster.
    pub has_run: bool,
}

/// Lays the key of `cluster`, or else of the cluster that the image names, into `image`: a raw image file or a card's device.
/// `keys` is the folder of keys, instead of the user's. What is not there yet is made.
///
/// # Errors
///
/// `image` is compressed, mounted, being built, not cleanly closed or none of ours; nothing is changed then. Or writing fails.
pub fn lay(image: &Path, cluster: Option<ClusterName>, keys: Option<&Path>, reporter: &Reporter) -> Result<Laid> {
    let (file, is_device) = open(image)?;
    let disk = Disk::from_raw(file.try_clone().with_context(|| format!("opening {}", image.display()))?, image)?;
    let evidence = Evidence::gather(&disk, &[], reporter)?;
    let system = evidence.root.as_ref().map_err(|why| UsageError::new(format!("{}: {why}", image.display())))?;
    refuse_unfit(image, system)?;
    let root = disk.root()?.context("the root file system is gone")?;
    let name = match cluster {
        Some(name) => name,
        None => named_inside(&root)?.ok_or_else(|| {
            UsageError::new(format!("{} does not say which cluster it is for: name it with --cluster NAME", image.display()))
        })?,
    };
    let user = check::run(&evidence).iter().any(|finding| finding.rule == "users.login").then(|| login_user(system)).flatten();
    let key = ClusterKeyFile::open(keys, &name)?;
    let login = user.map(|user| Keys::open(keys, &name).map(|pair| (user, pair))).transpose()?;
    let has_run = root.exists(hcl_firstboot::record::PATH)?;
    let replaced = system.cluster_key.as_ref().and_then(|fact| fact.key.as_ref()).map(|key| key.cluster());

    // From here on it holds a secret.
    let sides = if is_device {
        None
    } else {
        file.set_permissions(Permissions::from_mode(0o600)).with_context(|| format!("closing {} to others", image.display()))?;
        Some(Sides::take(image)?)
    };
    // Nothing is written for nothing: a card wears, and the bytes stay what their checksum says.
    let wanted = fs::read(key.path()).with_context(|| format!("reading {}", key.path().display()))?;
    let there = replaced.is_some() && root.read(PATH)? == wanted;
    if !there || login.is_some() {
        write(&file, &disk, &key, login.as_ref())?;
    }
    verify(&file, image, &key)?;
    let renewed = sides.map(|sides| sides.renew(&file, reporter)).transpose()?.unwrap_or_default();
    let copies = [".xz", ".zst"].map(|suffix| suffixed(image, suffix)).into_iter().filter(|copy| copy.exists()).collect();
    let login = login.map(|(user, pair)| (user.name, pair));
    Ok(Laid { name, key, replaced, login, sides: renewed, copies, has_run })
}

/// Opens it for writing, for us alone. Whether it is a device.
fn open(image: &Path) -> Result<(Arc<File>, bool)> {
    let shown = image.display();
    let kind = fs::metadata(image).with_context(|| format!("opening {shown}"))?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(UsageError::new(format!("{shown} is neither a file nor a card: name the .img file or the card's device")));
    }
    let is_device = kind.is_block_device();
    // The kernel gives a device with O_EXCL only while none of its partitions is mounted (open(2)).
    let exclusive = if is_device { rustix::fs::OFlags::EXCL.bits() as i32 } else { 0 };
    let file = OpenOptions::new().read(true).write(true).custom_flags(exclusive).open(image).map_err(|error| {
        if error.kind() == io::ErrorKind::ResourceBusy {
            return UsageError::new(format!("{shown} is mounted: unmount its partitions (`umount {shown}?*`) and start again"));
        }
        anyhow::Error::new(error).context(format!("opening {shown} for writing"))
    })?;
    if !try_lock(&file).with_context(|| format!("locking {shown}"))? {
        bail!("another hcl-image writes {shown}: wait for it");
    }
    let mut magic = Vec::new();
    Read::by_ref(&mut &file).take(6).read_to_end(&mut magic).with_context(|| format!("reading {shown}"))?;
    if let Some(kind) = Compression::of_bytes(&magic) {
        let tool = if kind == Compression::Gzip { "gunzip".to_owned() } else { format!("{kind} -dk") };
        return Err(UsageError::new(format!("{shown} is compressed: unpack it first (`{tool} {shown}`)")));
    }
    Ok((Arc::new(file), is_device))
}

fn refuse_unfit(image: &Path, system: &System) -> Result<()> {
    let shown = image.display();
    if !system.node_exists {
        return Err(UsageError::new(format!("{shown} has no node program, so a key would be of no use to it: build it first")));
    }
    if system.superblock.needs_recovery || !system.superblock.clean {
        return Err(UsageError::new(format!(
            "{shown} was not shut down: start it once and type `sudo poweroff`, or repair its partition {} with `e2fsck -f`",
            system.number
        )));
    }
    Ok(())
}

/// What the build wrote into the image.
fn named_inside(root: &Root) -> Result<Option<ClusterName>> {
    let text = root.try_text("/usr/share/hcl/image.json")?.unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(value["cluster"].as_str().and_then(|name| name.parse().ok()))
}

/// Whose login a key opens: the first person's.
struct Person {
    name: String,
    id: u32,
    home: PathBuf,
}

fn login_user(system: &System) -> Option<Person> {
    let people = system.accounts.iter().filter(|account| (1000..60_000).contains(&account.uid) && account.has_shell());
    let person = people.min_by_key(|account| account.uid).filter(|account| account.home.starts_with('/'))?;
    Some(Person { name: person.name.clone(), id: person.uid, home: PathBuf::from(&person.home) })
}

fn write(file: &Arc<File>, disk: &Disk, key: &ClusterKeyFile, login: Option<&(Person, Keys)>) -> Result<()> {
    let number = disk.root_number()?.context("the root partition is gone")?;
    let (offset, size) = match disk.table().and_then(|table| table.partition(number)) {
        Some(partition) => (partition.offset(), partition.size.bytes().0),
        None => (0, disk.size().0),
    };
    let overlay = Arc::new(Overlay::new(file.clone(), offset, size).context("opening the root partition")?);
    let folder = Path::new(PATH).parent().unwrap_or(Path::new("/"));
    // The time of its folder: the same key laid twice gives the same bytes.
    let time = disk.root()?.and_then(|root| root.metadata(folder.to_str()?).ok()?).map_or(0, |folder| folder.modified);
    let mut root = ext4::Editor::open(overlay, time)?;
    root.wipe(Path::new(PATH))?;
    let mut put = |path: PathBuf, node: Node, mode: u16, owner: u32| {
        root.put(&Entry { path, node, meta: Meta { mode, uid: owner, gid: owner, mtime: time, xattrs: Vec::new() } })
    };
    put(PATH.into(), Node::File(Content::Host(key.path().to_owned())), 0o600, 0)?;
    if let Some((person, pair)) = login {
        let folder = person.home.join(".ssh");
        let line = format!("{}\n", pair.public());
        put(folder.clone(), Node::Dir, 0o700, person.id)?;
        put(folder.join("authorized_keys"), Node::File(Content::Bytes(line.into_bytes())), 0o600, person.id)?;
    }
    root.finish()?;
    file.sync_all().context("writing the root partition")
}

/// Read back, by another reader than the one that wrote.
fn verify(file: &File, image: &Path, key: &ClusterKeyFile) -> Result<()> {
    let file = file.try_clone().with_context(|| format!("opening {}", image.display()))?;
    let root = Disk::from_raw(file, image)?.root()?.context("the root file system is gone")?;
    let laid = root.symlink_metadata(PATH)?.with_context(|| format!("{PATH} is not there"))?;
    let wanted = fs::read(key.path()).with_context(|| format!("reading {}", key.path().display()))?;
    let right = root.read(PATH)? == wanted && (laid.mode & 0o7777, laid.uid, laid.gid) == (0o600, 0, 0);
    ensure!(right, "{PATH} in {} is not what was written: do not use it", image.display());
    Ok(())
}
