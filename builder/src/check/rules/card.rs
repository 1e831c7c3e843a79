//! What must differ from card to card: one image goes on many.

use crate::check::Evidence;

fn baked_in(evidence: &Evidence, which: impl Fn(&str) -> bool, what: &str) -> Vec<String> {
    let files = evidence.system().into_iter().flat_map(|system| &system.baked_in);
    files
        .filter(|(path, size)| which(path) && **size > 0)
        .map(|(path, _)| format!("{path} would be the same on every card ({what}): remove it, each card makes its own"))
        .collect()
}

pub(super) fn host_keys(evidence: &Evidence) -> Vec<String> {
    baked_in(evidence, |path| path.starts_with("/etc/ssh/"), "SSH host key")
}

pub(super) fn random_seed(evidence: &Evidence) -> Vec<String> {
    baked_in(evidence, |path| path.ends_with("/random-seed"), "random seed")
}

pub(super) fn credential_secret(evidence: &Evidence) -> Vec<String> {
    baked_in(evidence, |path| path.ends_with("/credential.secret"), "systemd's credential key")
}

pub(super) fn engine_id(evidence: &Evidence) -> Vec<String> {
    baked_in(evidence, |path| path.ends_with("/engine-id") || path.ends_with("/key.json"), "the engine's identity")
}

pub(super) fn leases(evidence: &Evidence) -> Vec<String> {
    baked_in(evidence, |path| path.contains("lease"), "DHCP lease")
}

pub(super) fn machine_id(evidence: &Evidence) -> Vec<String> {
    let id = evidence.system().and_then(|system| system.machine_id.as_deref()).unwrap_or_default().trim();
    if id.is_empty() || id == "uninitialized" {
        return Vec::new();
    }
    vec!["/etc/machine-id is set and would be the same on every card: write `uninitialized` into it".to_owned()]
}

pub(super) fn dbus_id(evidence: &Evidence) -> Vec<String> {
    let id = evidence.system().and_then(|system| system.dbus_id.as_deref()).unwrap_or_default().trim();
    if id.is_empty() {
        return Vec::new();
    }
    vec!["/var/lib/dbus/machine-id is set and would be the same on every card: link it to /etc/machine-id".to_owned()]
}

pub(super) fn network_secrets(evidence: &Evidence) -> Vec<String> {
    let files = evidence.system().into_iter().flat_map(|system| &system.network_secrets);
    files.map(|file| format!("{file} holds a network's password: it goes with every copy of the image")).collect()
}
