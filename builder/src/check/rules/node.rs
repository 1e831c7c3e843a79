//! The cluster key: without it a card forms no cluster, and whoever reads it can join one.

use hcl_firstboot::key::PATH;

use crate::check::Evidence;

pub(super) fn key(evidence: &Evidence) -> Vec<String> {
    let Some(system) = evidence.system() else { return Vec::new() };
    match &system.cluster_key {
        None => vec![format!("{PATH} is missing, so the card will form no cluster: add one with `hcl-image key`")],
        Some(fact) if !fact.is_file => vec![format!("{PATH} is no file: put the cluster key itself there")],
        Some(fact) if fact.key.is_none() => {
            vec![format!("{PATH} is no cluster key: it holds 64 hexadecimal digits and a newline, and nothing else")]
        }
        Some(_) => Vec::new(),
    }
}

pub(super) fn key_mode(evidence: &Evidence) -> Vec<String> {
    let Some(fact) = evidence.system().and_then(|system| system.cluster_key.as_ref()).filter(|fact| fact.is_file) else {
        return Vec::new();
    };
    let mode = fact.mode & 0o7777;
    let (uid, gid) = fact.owner;
    if mode & 0o077 != 0 || uid != 0 {
        return vec![format!(
            "{PATH} can be read by others than root (mode {mode:04o}, owner {uid}:{gid}): make it 0600 and root's"
        )];
    }
    Vec::new()
}
