//! This node's SSH host key, signed by the cluster, and the cluster's authority where `ssh` looks for it.
//!
//! Four files in `/etc/ssh`, each written only where it is not as it should be: the certificate beside the key, which is OpenSSH's
//! name for it; a drop-in that has sshd show it; a line in `ssh_known_hosts` for the cluster's names and addresses; a drop-in for the
//! names that move with the leader's role. A system without an Ed25519 host key, or an image without a cluster key, has none of it.

use std::{fs, io, net::Ipv4Addr, path::Path};

use crate::{
    config::Addresses,
    durable,
    key::ClusterKey,
    record::MemberEntry,
    ssh::{HostAuthority, HostKey, patterns},
    status::Status,
};

use super::{place, systemctl};

const KEY: &str = "ssh_host_ed25519_key.pub";
const CERTIFICATE: &str = "ssh_host_ed25519_key-cert.pub";
const SERVER: &str = "sshd_config.d/50-hcl.conf";
const CLIENT: &str = "ssh_config.d/50-hcl.conf";
const KNOWN: &str = "ssh_known_hosts";
/// What begins a line of an authority's, and what our comment on it begins with.
const AUTHORITY: &str = "@cert-authority ";
const COMMENT: &str = "hcl-";

/// Keeps the files, and remembers what they were last made for.
#[derive(Debug, Default)]
pub(super) struct HostFiles {
    made_for: Option<(String, Ipv4Addr, Vec<MemberEntry>)>,
    /// sshd has not read them yet.
    unread: bool,
}

impl HostFiles {
    /// Has the files in `etc` be those of the node `name` at `address`, and sshd read them. Once that is done nothing happens until
    /// one of the arguments is another.
    ///
    /// # Errors
    ///
    /// What failed, and where; the next call tries again.
    pub(super) fn keep(
        &mut self,
        etc: &Path,
        key: &ClusterKey,
        addresses: Addresses,
        (name, address): (&str, Ipv4Addr),
        members: &[MemberEntry],
    ) -> Result<(), String> {
        let wanted = (name.to_owned(), address, members.to_vec());
        if self.made_for.as_ref() != Some(&wanted) {
            self.unread |= lay(etc, &HostAuthority::new(key), addresses, (name, address), members)?;
        }
        if self.unread {
            reload(Path::new("systemctl"))?;
            self.unread = false;
        }
        self.made_for = Some(wanted);
        Ok(())
    }
}

/// Writes what is not as it should be; whether sshd has something to read.
fn lay(
    etc: &Path,
    authority: &HostAuthority,
    addresses: Addresses,
    (name, address): (&str, Ipv4Addr),
    members: &[MemberEntry],
) -> Result<bool, String> {
    let folder = etc.join("ssh");
    let Some(host) = host_key(&folder)? else { return Ok(false) };
    let mut hosts = patterns(addresses.subnet());
    hosts.push(authority.alias().to_owned());
    let names = members.iter().map(|member| member.name.as_str()).chain([name]);
    let mut names: Vec<String> = names.flat_map(|name| [name.to_owned(), format!("{name}.local")]).collect();
    names.sort();
    names.dedup();
    hosts.extend(names);
    let before = read(&folder.join(KNOWN))?.unwrap_or_default();
    let others = before.lines().filter(|line| !is_ours(line)).map(|line| format!("{line}\n"));
    let known: String = others.chain([authority.known_hosts(&hosts)]).collect();
    let certificate = replace(&folder, CERTIFICATE, &authority.sign(&host, name, address))?;
    // The certificate is there before it is asked for.
    let server = replace(&folder, SERVER, &format!("{HEAD}HostCertificate /etc/ssh/{CERTIFICATE}\n"))?;
    replace(&folder, KNOWN, &known)?;
    let moving =
        format!("{HEAD}# Whoever leads is one of the cluster's nodes.\nHost master master.local {}\n", addresses.leader());
    replace(&folder, CLIENT, &format!("{moving}    HostKeyAlias {}\n", authority.alias()))?;
    Ok(certificate || server)
}

const HEAD: &str = "# Written by hcl-cluster: SSH host keys signed by the cluster.\n";

/// What is wrong with the host key's certificate, for `hcl health`; nothing where all is well or there is nothing to sign.
pub(crate) fn wrong(etc: &Path, key: &Path, status: &Status) -> Option<String> {
    let key = ClusterKey::read(key).ok()?;
    let (name, address) = (place::own_name(status), status.address?);
    let folder = etc.join("ssh");
    let found = host_key(&folder).and_then(|host| {
        let Some(host) = host else { return Ok(true) };
        let wanted = HostAuthority::new(&key).sign(&host, &name, address);
        Ok(read(&folder.join(CERTIFICATE))?.is_some_and(|found| found == wanted))
    });
    let what = match found {
        Ok(true) => return None,
        Ok(false) => format!("the SSH host key is not signed for {name} at {address}"),
        Err(error) => format!("the SSH host key cannot be looked at: {error}"),
    };
    Some(format!("{what}: `sudo systemctl restart hcl-cluster` signs it, `journalctl -u hcl-cluster` says why it does not"))
}

fn host_key(folder: &Path) -> Result<Option<HostKey>, String> {
    let path = folder.join(KEY);
    let text = read(&path)?;
    text.map(|text| text.parse().map_err(|error| format!("{}: {error}", path.display()))).transpose()
}

fn is_ours(line: &str) -> bool {
    line.starts_with(AUTHORITY) && line.rsplit(' ').next().is_some_and(|comment| comment.starts_with(COMMENT))
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Whether it had to be written.
fn replace(folder: &Path, name: &str, content: &str) -> Result<bool, String> {
    let path = folder.join(name);
    if read(&path)?.is_some_and(|found| found == content) {
        return Ok(false);
    }
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    durable::replace(&path, content.as_bytes(), 0o644).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(true)
}

/// Has sshd read its configuration, if it runs; sessions stay.
fn reload(program: &Path) -> Result<(), String> {
    systemctl::run(program, &["try-reload-or-restart", "ssh.service"])
}

#[cfg(test)]
mod tests;
