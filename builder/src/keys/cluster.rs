use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use hcl_firstboot::key::{ClusterId, ClusterKey};
use ssh_key::rand_core::{OsRng, RngCore};

use super::{folder, made_folder, place, refuse_shared};
use crate::{error::UsageError, manifest::ClusterName};

/// The file with a cluster's key: `FOLDER/CLUSTER/cluster.key`, 64 hexadecimal digits and a newline, mode 0600.
///
/// Made once per cluster name from the system's random source. Holds no secret itself: builds copy the file into the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterKeyFile {
    path: PathBuf,
    id: ClusterId,
    made: bool,
}

impl ClusterKeyFile {
    /// The key of `cluster`, made now if there is none, in `dir` or, without one, in the user's configuration folder.
    ///
    /// Two processes at once get the same key, and a process that dies leaves none or a whole one.
    ///
    /// # Errors
    ///
    /// No home folder is known, the file or its folder may be read by others (with the `chmod` to type), what lies there is
    /// no key, or it cannot be written.
    pub fn open(dir: Option<&Path>, cluster: &ClusterName) -> anyhow::Result<Self> {
        let folder = made_folder(dir, cluster)?;
        let path = Self::path_of(dir, cluster)?;
        // A link is fine, as for the SSH key. What it leads to is checked.
        let made = match fs::metadata(&path) {
            Ok(_) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&folder, &path)?,
            Err(error) => return Err(error).with_context(|| format!("looking for the cluster key {}", path.display())),
        };
        refuse_shared(&path)?;
        let text = fs::read(&path).with_context(|| format!("reading the cluster key {}", path.display()))?;
        // The very form that is written here: the file is copied as it is, and one cluster id must mean one content.
        let key = str::from_utf8(&text).ok().and_then(|text| text.parse::<ClusterKey>().ok());
        let key = key.filter(|key| key.to_file().as_bytes() == text).ok_or_else(|| {
            UsageError::new(format!(
                "{} is no cluster key (64 lower-case hexadecimal digits and a newline): move it away",
                path.display()
            ))
        })?;
        Ok(Self { path, id: key.cluster(), made })
    }

    /// As [`ClusterKeyFile::open`], but makes nothing: `None` where there is no key yet.
    ///
    /// # Errors
    ///
    /// As [`ClusterKeyFile::open`].
    pub fn find(dir: Option<&Path>, cluster: &ClusterName) -> anyhow::Result<Option<Self>> {
        if Self::path_of(dir, cluster)?.exists() { Self::open(dir, cluster).map(Some) } else { Ok(None) }
    }

    /// Where the key of `cluster` lies, or would lie.
    ///
    /// # Errors
    ///
    /// No home folder is known.
    pub fn path_of(dir: Option<&Path>, cluster: &ClusterName) -> anyhow::Result<PathBuf> {
        Ok(folder(dir, cluster)?.join("cluster.key"))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cluster that has this key. No secret: the cards announce it.
    pub fn id(&self) -> ClusterId {
        self.id
    }

    /// Whether this call made the key, so that the user should hear of it.
    pub fn made(&self) -> bool {
        self.made
    }
}

/// Makes a key and puts it in place whole; false when another process was first.
fn make(folder: &Path, path: &Path) -> anyhow::Result<bool> {
    let mut bytes = [0; 32];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| anyhow!("asking the system for random bytes: {error}"))?;
    place(folder, path, ClusterKey::new(bytes).to_file().as_bytes())
}
