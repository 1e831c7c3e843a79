use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use hcl_firstboot::{
    endpoint::files::Files,
    key::ClusterKey,
    trust::{Trust, UserName, Validity},
};
use ssh_key::rand_core::{OsRng, RngCore};

use super::{ClusterKeyFile, made_folder, refuse_shared};
use crate::manifest::ClusterName;

/// The folder in which a Docker client finds the certificate of the user `name` of `cluster`, which has the key `key`: `ca.pem`, `cert.pem` and
/// `key.pem` in `FOLDER/CLUSTER/docker/NAME`. It is made now if there is none, or one of another key, and used ever after.
///
/// Two processes at once get the same one, and a process that dies leaves none or a whole one.
///
/// # Errors
///
/// The key cannot be read, the folder may be read by others (with the `chmod` to type), or it cannot be written.
pub fn docker_folder(
    dir: Option<&Path>,
    cluster: &ClusterName,
    key: &ClusterKeyFile,
    name: &UserName,
) -> anyhow::Result<PathBuf> {
    let secret = ClusterKey::read(key.path()).with_context(|| format!("reading the cluster key {}", key.path().display()))?;
    let trust = Trust::new(&secret);
    let all = made_folder(dir, cluster)?.join("docker");
    let folder = all.join(name.as_str());
    match fs::read_to_string(folder.join("ca.pem")) {
        Ok(authority) if authority == trust.users.certificate_pem() => {
            refuse_shared(&folder)?;
            return Ok(folder);
        }
        // The cluster has another key now, which knows nobody by these.
        Ok(_) => fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("reading {}", folder.join("ca.pem").display())),
    }
    let mut seed = [0; 32];
    OsRng.try_fill_bytes(&mut seed).map_err(|error| anyhow!("asking the system for random bytes: {error}"))?;
    let issued = trust.users.issue(name, Validity::LIFE, &seed);
    super::private_folder(&all)?;
    let new = tempfile::Builder::new().prefix(".new-").tempdir_in(&all);
    let new = new.with_context(|| format!("writing into {}", all.display()))?;
    let laid = Files::of_user(&trust, &issued).lay(new.path(), None);
    laid.map_err(|(path, error)| anyhow!("writing {}: {error}", path.display()))?;
    match fs::rename(new.path(), &folder) {
        // What is no longer there is not removed.
        Ok(()) => drop(new.keep()),
        // Another process was first. A folder that is in the way and holds something is never replaced.
        Err(_) if folder.join("ca.pem").exists() => {}
        Err(error) => return Err(error).with_context(|| format!("putting {} in place", folder.display())),
    }
    super::sync_folder(&all)?;
    Ok(folder)
}
