//! The keys of a cluster, kept in the user's configuration folder: `FOLDER/CLUSTER/`, a folder of mode 0700.
//!
//! [`ClusterKeyFile`] is the secret that all cards of a cluster share; every build needs it. [`Keys`] is the way in for a person.
//! Where a manifest names no SSH key, the build makes an Ed25519 pair once per cluster name and uses it ever after: `id_ed25519`
//! (0600) and `id_ed25519.pub`. The private key is written nowhere else.

use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use hcl_firstboot::{key::ClusterKey, ssh::HostAuthority};
use ssh_key::{Algorithm, LineEnding, PrivateKey, rand_core::OsRng};

use crate::{
    error::UsageError,
    manifest::{BadText, ClusterName, PublicKey, UserName},
};

mod cluster;
mod docker;
mod lay;

pub use self::{
    cluster::ClusterKeyFile,
    docker::docker_folder,
    lay::{Laid, lay},
};

/// The SSH key pair of one cluster. Holds no secret: the private key stays in its file.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    public: PublicKey,
    private: PathBuf,
    made: bool,
}

impl Keys {
    /// The key pair of `cluster`, made now if there is none, in `dir` or, without one, in `$XDG_CONFIG_HOME/hcl-image`
    /// (`~/.config/hcl-image`).
    ///
    /// Two processes at once get the same pair, and a process that dies leaves none or a whole one.
    ///
    /// # Errors
    ///
    /// No home folder is known, a file or folder may be read by others (with the `chmod` to type), what lies there is no
    /// key, or it cannot be written.
    pub fn open(dir: Option<&Path>, cluster: &ClusterName) -> anyhow::Result<Self> {
        let folder = made_folder(dir, cluster)?;
        let private = folder.join("id_ed25519");
        // A link is fine: some keep their keys elsewhere. What it leads to is checked.
        let made = match fs::metadata(&private) {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&folder, &private, cluster)?,
            Err(error) => return Err(error).with_context(|| format!("looking for the key {}", private.display())),
        };
        refuse_shared(&private)?;
        let key = PrivateKey::read_openssh_file(&private).map_err(|error| {
            UsageError::new(format!("{} is no OpenSSH private key: {error}; move it away", private.display()))
        })?;
        let line = key.public_key().to_openssh().context("writing the public key as text")?;
        let public: PublicKey = line.parse().map_err(|error: BadText| UsageError::new(error.0))?;
        write_public(&folder, &public)?;
        Ok(Self { public, private, made })
    }

    /// As [`Keys::open`], but makes nothing: `None` where there is no key pair yet.
    ///
    /// # Errors
    ///
    /// As [`Keys::open`].
    pub fn find(dir: Option<&Path>, cluster: &ClusterName) -> anyhow::Result<Option<Self>> {
        if folder(dir, cluster)?.join("id_ed25519").exists() { Self::open(dir, cluster).map(Some) } else { Ok(None) }
    }

    /// The line for `authorized_keys`.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The file with the private key.
    pub fn private_path(&self) -> &Path {
        &self.private
    }

    /// Whether this call made the pair, so that the user should hear of it.
    pub fn made(&self) -> bool {
        self.made
    }

    /// The command that logs in as `user` on `host`, to copy and paste.
    pub fn ssh_command(&self, user: &UserName, host: &str) -> String {
        format!("ssh -i {} {user}@{host}", quoted(&self.private))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("private", &self.private).field("public", &self.public.line()).finish_non_exhaustive()
    }
}

/// Where the keys of clusters are kept unless a folder is named.
///
/// # Errors
///
/// No home folder is known.
pub fn default_folder() -> anyhow::Result<PathBuf> {
    configuration_folder(|name| std::env::var_os(name))
}

/// The clusters that have a key in `dir` or, without one, in the user's configuration folder; by name.
///
/// # Errors
///
/// No home folder is known, or the folder cannot be read.
pub fn clusters(dir: Option<&Path>) -> anyhow::Result<Vec<ClusterName>> {
    let folder = match dir {
        Some(dir) => dir.to_owned(),
        None => default_folder()?,
    };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("reading {}", folder.display()))?;
        let name = entry.file_name().to_str().and_then(|name| name.parse::<ClusterName>().ok());
        names.extend(name.filter(|_| entry.path().join("cluster.key").exists()));
    }
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    Ok(names)
}

/// The cluster that is meant, and its key: the one that is `named`, or the only one that has a key here.
///
/// # Errors
///
/// There is no such key in `dir` or the user's configuration folder, or there are several (exit code 2).
pub fn choose(dir: Option<&Path>, named: Option<ClusterName>) -> anyhow::Result<(ClusterName, ClusterKeyFile)> {
    let cluster = match named {
        Some(cluster) => cluster,
        None => only(clusters(dir)?)?,
    };
    let key = ClusterKeyFile::find(dir, &cluster)?
        .ok_or_else(|| UsageError::new(format!("no key of a cluster {cluster} here: name its folder with `--keys DIR`")))?;
    Ok((cluster, key))
}

fn only(mut clusters: Vec<ClusterName>) -> anyhow::Result<ClusterName> {
    match (clusters.pop(), &clusters[..]) {
        (Some(cluster), []) => Ok(cluster),
        (Some(last), others) => {
            let names: Vec<&str> = others.iter().chain([&last]).map(ClusterName::as_str).collect();
            Err(UsageError::new(format!("you have keys of {}: name one with `--cluster NAME`", names.join(", "))))
        }
        (None, _) => {
            Err(UsageError::new("no key of any cluster here: `hcl-image build` makes one; name another folder with `--keys DIR`"))
        }
    }
}

/// The file for `known_hosts` with the authority of the nodes of `cluster`, which has the key `key`: whatever name a node is looked for
/// by, it has to show a certificate for it. It holds no secret, and is written anew where it is not as it should be.
///
/// # Errors
///
/// The key cannot be read, or the file not be written.
pub fn known_hosts(dir: Option<&Path>, cluster: &ClusterName, key: &ClusterKeyFile) -> anyhow::Result<(PathBuf, HostAuthority)> {
    let secret = ClusterKey::read(key.path()).with_context(|| format!("reading the cluster key {}", key.path().display()))?;
    let authority = HostAuthority::new(&secret);
    let folder = made_folder(dir, cluster)?;
    let path = folder.join("known_hosts");
    write_whole(&folder, &path, &authority.known_hosts(&["*".to_owned()]))?;
    Ok((path, authority))
}

/// The folder of a cluster, made now if there is none.
fn made_folder(dir: Option<&Path>, cluster: &ClusterName) -> anyhow::Result<PathBuf> {
    let folder = folder(dir, cluster)?;
    private_folder(&folder)?;
    Ok(folder)
}

/// Makes a folder for oneself alone, unless it is there.
fn private_folder(folder: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("making the folder for keys {}", folder.display()))?;
    refuse_shared(folder)
}

fn folder(dir: Option<&Path>, cluster: &ClusterName) -> anyhow::Result<PathBuf> {
    let base = match dir {
        Some(dir) => dir.to_owned(),
        None => default_folder()?,
    };
    Ok(base.join(cluster.as_str()))
}

/// XDG Base Directory: a relative `XDG_CONFIG_HOME` is to be ignored.
fn configuration_folder(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let missing = || UsageError::new("no folder for keys: neither XDG_CONFIG_HOME nor HOME is set; name one with `--keys DIR`");
    Ok(config.ok_or_else(missing)?.join("hcl-image"))
}

/// Refuses what group or others may look into, or what belongs to somebody else.
fn refuse_shared(path: &Path) -> anyhow::Result<()> {
    let meta = fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    let (mode, right) = (meta.permissions().mode() & 0o777, if meta.is_dir() { "0700" } else { "0600" });
    if mode & 0o077 != 0 {
        let shown = path.display();
        let message =
            format!("{shown} is open to others (mode {mode:04o}): type `chmod {right} {}` and start again", quoted(path));
        return Err(UsageError::new(message));
    }
    let me = rustix::process::geteuid().as_raw();
    // Root reads everybody's files; everybody else would get a key that its owner may change at any time.
    if meta.uid() != me && me != 0 {
        return Err(UsageError::new(format!("{} belongs to user number {}, not to you", path.display(), meta.uid())));
    }
    Ok(())
}

/// Makes a key and puts it in place whole; false when another process was first.
fn make(folder: &Path, private: &Path, cluster: &ClusterName) -> anyhow::Result<bool> {
    let mut key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).context("making an SSH key")?;
    key.set_comment(format!("hcl-image {cluster}"));
    let text = key.to_openssh(LineEnding::LF).context("writing the SSH key as text")?;
    place(folder, private, text.as_bytes())
}

/// Puts a secret in place whole, readable by its owner only; false when another process was first.
fn place(folder: &Path, path: &Path, secret: &[u8]) -> anyhow::Result<bool> {
    let whole = write_beside(folder, 0o600, secret)?;
    // A hard link never replaces anything: of two processes one wins, and both use the winner's key.
    match fs::hard_link(&whole, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(_) => {
            // File systems without hard links: renameat2 with RENAME_NOREPLACE.
            let (cwd, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::NOREPLACE);
            match rustix::fs::renameat_with(cwd, &*whole, cwd, path, flags) {
                Ok(()) => {}
                Err(rustix::io::Errno::EXIST) => return Ok(false),
                Err(error) => bail!("putting the key {} in place: {error}", path.display()),
            }
        }
    }
    sync_folder(folder)?;
    Ok(true)
}

/// Writes `id_ed25519.pub` unless it says so already: it only repeats the private key.
fn write_public(folder: &Path, public: &PublicKey) -> anyhow::Result<()> {
    write_whole(folder, &folder.join("id_ed25519.pub"), &format!("{public}\n"))
}

/// Writes what is no secret, unless it is there already.
fn write_whole(folder: &Path, path: &Path, text: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let whole = write_beside(folder, 0o644, text.as_bytes())?;
    fs::rename(&whole, path).with_context(|| format!("writing {}", path.display()))?;
    sync_folder(folder)
}

/// A file with `content` on disk under a temporary name, which goes when the value does.
fn write_beside(folder: &Path, mode: u32, content: &[u8]) -> anyhow::Result<tempfile::TempPath> {
    let whole = tempfile::Builder::new()
        .prefix(".new-")
        .make_in(folder, |path| fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path))
        .with_context(|| format!("writing into {}", folder.display()))?;
    let (mut file, path) = whole.into_parts();
    file.write_all(content).and_then(|()| file.sync_all()).with_context(|| format!("writing into {}", folder.display()))?;
    Ok(path)
}

fn sync_folder(folder: &Path) -> anyhow::Result<()> {
    let sync = fs::File::open(folder).and_then(|folder| folder.sync_all());
    sync.with_context(|| format!("syncing {}", folder.display()))
}

/// As a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_');
    if text.bytes().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests;
