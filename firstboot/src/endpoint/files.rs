//! The files that `hcl-swarm` reads, and those of the node's own users.
//!
//! All of them follow from the cluster key, the node and its names: who writes them again writes the same.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{
    consul::Secrets,
    durable,
    key::{ClusterKey, hex},
    trust::{Issued, NodeNames, Trust, UserName, Validity},
};

/// The file with Consul's token.
pub const TOKEN: &str = "token";
/// Where the node's own users have theirs, below `/etc`.
pub const LOCAL: &str = "hcl/docker";
/// The group that may use this node's engine, and so the cluster's.
const GROUP: &str = "docker";

/// What failed, and at which file.
pub type Wrong = (PathBuf, io::Error);

/// Files with what is in them.
#[derive(Clone, PartialEq, Eq)]
pub struct Files(Vec<(&'static str, String)>);

impl Files {
    /// What both containers read on the node of these names. `leader` is the address that goes with the leader's role.
    pub fn of_node(key: &ClusterKey, names: &NodeNames, leader: Ipv4Addr) -> Self {
        let trust = Trust::new(key);
        let seed =
            |what: &str| key.secret(&format!("hcl 1 swarm {what} key {} {} {}", names.node(), names.address(), names.name()));
        let node = trust.nodes.issue(names, Validity::LIFE, &seed("node"));
        let server = trust.users.issue_server(names, leader, &seed("server"));
        Self(vec![
            ("nodes-ca.pem", trust.nodes.certificate_pem()),
            ("node.pem", node.certificate_pem()),
            ("node-key.pem", node.key_pem()),
            ("users-ca.pem", trust.users.certificate_pem()),
            ("server.pem", server.certificate_pem()),
            ("server-key.pem", server.key_pem()),
            (TOKEN, Secrets::of(key).swarm.reveal().to_owned()),
        ])
    }

    /// What a Docker client reads in `DOCKER_CERT_PATH`.
    pub fn of_user(trust: &Trust, issued: &Issued) -> Self {
        Self(vec![
            ("ca.pem", trust.users.certificate_pem()),
            ("cert.pem", issued.certificate_pem()),
            ("key.pem", issued.key_pem()),
        ])
    }

    /// SHA-256 of all of it, hexadecimal.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for (name, content) in &self.0 {
            digest.update(format!("{name} {} {content}", content.len()));
        }
        hex(&digest.finalize())
    }

    /// Names and contents.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, content)| (*name, content.as_str()))
    }

    /// Lays those into `folder` that are not there as they should be, each whole at any moment; for root alone, or for `group` as well.
    ///
    /// # Errors
    ///
    /// What the system says about which file.
    pub fn lay(&self, folder: &Path, group: Option<u32>) -> Result<(), Wrong> {
        let (folder_mode, mode) = if group.is_some() { (0o750, 0o640) } else { (0o700, 0o600) };
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| (path, error)
        };
        DirBuilder::new().recursive(true).mode(folder_mode).create(folder).map_err(at(folder))?;
        belong(folder, group, folder_mode).map_err(at(folder))?;
        for (name, content) in self.iter() {
            let path = folder.join(name);
            if !fs::read(&path).is_ok_and(|found| found == content.as_bytes()) {
                durable::replace(&path, content.as_bytes(), mode).map_err(at(&path))?;
            }
            belong(&path, group, mode).map_err(at(&path))?;
        }
        Ok(())
    }
}

/// Nothing shows the keys in it.
impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Gives `path` its group and mode, where it has others.
fn belong(path: &Path, group: Option<u32>, mode: u32) -> io::Result<()> {
    let found = fs::metadata(path)?;
    if let Some(group) = group.filter(|group| *group != found.gid()) {
        chown(path, None, Some(group))?;
    }
    if found.mode() & 0o7777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// The certificate by which the users of the node of these names are let in: one for all of them, called after the node, and always the
/// same.
pub fn local_user(key: &ClusterKey, trust: &Trust, names: &NodeNames) -> Issued {
    trust.users.issue(&local_name(names), Validity::LIFE, &key.secret(&format!("hcl 1 swarm user key {}", names.node())))
}

/// The name that the node's own users have in the cluster: the node's, where that can be a user's.
pub fn local_name(names: &NodeNames) -> UserName {
    let id = names.node().to_string();
    let instead = || format!("node-{}", &id[..8]).parse().expect("letters, digits and a hyphen");
    names.name().parse().unwrap_or_else(|_| instead())
}

/// Lays the files of the node's own users below `etc`, for root and the members of the group `docker`.
///
/// # Errors
///
/// What the system says about which file.
pub fn lay_local(etc: &Path, key: &ClusterKey, names: &NodeNames) -> Result<(), Wrong> {
    let trust = Trust::new(key);
    let group = fs::read_to_string(etc.join("group")).ok().and_then(|groups| group_of(&groups, GROUP));
    Files::of_user(&trust, &local_user(key, &trust, names)).lay(&etc.join(LOCAL), group)
}

/// The number of a group, by group(5).
fn group_of(groups: &str, name: &str) -> Option<u32> {
    let fields = |line: &str| Some((line.split(':').next()? == name, line.split(':').nth(2)?.parse().ok()?));
    groups.lines().filter_map(fields).find(|(found, _)| *found).map(|(_, number)| number)
}

#[cfg(test)]
mod tests;
